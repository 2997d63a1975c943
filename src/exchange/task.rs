//! Rooms 3, 8 and 9 for tasks of the modern era: they are owned like sessions, by the peer that created them.
//! Takes the task id that a request names, gives the key to ask the registry by; takes an answer as it passes, and claims the task that it creates.
//! Surprise: the claim stands before the client can know the task, although none of the answer's bytes has waited for more than that.

use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;

use crate::error::Fault;
use crate::mcp::failure::{Caller, Kind};
use crate::mcp::task::{Watch, may_come_of};
use crate::registry::{Claimed, SessionKey};

use super::connection::Source;
use super::normalise::content_type;
use super::request::{Inbound, Named};
use super::{Exchange, Stop};

impl Exchange<'_> {
    /// A task of this upstream.
    pub(crate) fn task(&self, id: &str) -> Named {
        Named { key: SessionKey::of_task(&self.upstream.name, id), id: id.to_owned() }
    }

    async fn claim_task(&self, id: &str, source: &Source<'_>) -> Result<(), Fault> {
        let Named { key, .. } = self.task(id);
        let claim = self.claim_of(self.target, source);
        match self.app.registry.claim(&key, &claim).await {
            Ok(Claimed::Won) => self.app.counters.tasks_claimed.inc(),
            Ok(Claimed::Held(other)) => {
                log::warn!(
                    "task {} of peer {} is already owned by peer {}",
                    key.short(),
                    claim.peer,
                    other.peer
                );
            }
            Err(error) => self.unrecorded(&key, &error)?,
        }
        Ok(())
    }
}

/// The task that an answer may create.
pub(crate) struct NewTask(Option<Watch>);

impl NewTask {
    /// `head`: that of the answer.
    pub fn of(inbound: &Inbound, head: &ResponseHeader) -> Self {
        let method = inbound.rpc_method.as_deref().filter(|_| !inbound.era.has_sessions());
        let asked = matches!(inbound.caller, Caller::Request(_)) && method.is_some_and(may_come_of);
        if !asked || !head.status.is_success() {
            return Self::none();
        }
        match content_type(head).kind {
            Kind::EventStream => Self(Some(Watch::event_stream())),
            Kind::Json => Self(Some(Watch::json())),
            Kind::Words(_) | Kind::Opaque | Kind::Unsaid => Self::none(),
        }
    }

    /// For an answer that another member looks through.
    pub fn none() -> Self {
        Self(None)
    }

    /// The next bytes of the answer, which may leave once this is done.
    pub async fn pass(
        &mut self,
        exchange: &Exchange<'_>,
        source: &Source<'_>,
        chunk: &[u8],
    ) -> Result<(), Stop> {
        let Some(id) = self.0.as_mut().and_then(|watch| watch.push(chunk)) else { return Ok(()) };
        exchange.claim_task(&id, source).await.map_err(|_| Stop::Cut(unclaimed()))
    }
}

fn unclaimed() -> pingora_core::BError {
    Error::explain(ErrorType::InternalError, "the task could not be claimed")
}
