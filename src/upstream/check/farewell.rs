//! The end of a check that opened a session: it is closed, also where the check failed half-way or ran out of time.
//! Takes what is left of a visit, waits for an answer that is still to come, and deletes the session. Surprise: it is patient. A server that
//! stands still has the request in its buffers and will answer when it goes on; whoever hung up would leave a session behind then.

use std::time::Duration;

use tokio::time::timeout;

use super::Visit;

/// How long an answer is waited for. Who has not said a word by then has lost the request.
const PATIENCE: Duration = Duration::from_secs(600);

/// A session to be closed, or one that may yet be given out.
pub struct Farewell(Visit);

/// What became of the session of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is closed, or there was none after all.
    Nothing,
    /// The server refused to close it, with this status.
    Session(u16),
    /// Nobody could say.
    Unknown(String),
}

impl Farewell {
    /// `None`: there is nothing to close.
    pub(super) fn after(visit: Visit) -> Option<Self> {
        let open = visit.expects_session || visit.session.is_some();
        Some(Self(visit)).filter(|_| open)
    }

    /// Closes the session as soon as that can be done.
    pub async fn finish(mut self) -> Left {
        match timeout(PATIENCE, self.close()).await {
            Ok(left) => left,
            Err(_) => Left::Unknown(format!("no answer within {PATIENCE:?}")),
        }
    }

    async fn close(&mut self) -> Left {
        let visit = &mut self.0;
        if visit.expects_session {
            let head = visit.line.head().await;
            if visit.begun(head).is_err() {
                return Left::Nothing;
            }
        }
        let Some(session) = visit.session.take() else { return Left::Nothing };
        let goodbye = visit.request.delete(&visit.path, &session, visit.version.as_deref());
        let mut answer = visit.answer(&goodbye).await;
        if answer.is_err() {
            // Perhaps only the connection was over.
            answer = visit.answer(&goodbye).await;
        }
        match answer {
            // 404: it is gone already.
            Ok(200..300 | 404) => Left::Nothing,
            Ok(status) => Left::Session(status),
            Err(trouble) => Left::Unknown(trouble.to_string()),
        }
    }
}
