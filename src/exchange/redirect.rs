//! Between rooms 7 and 8: an answer that only sends the request to the same path with a slash more or less is asked for there at once.
//! Takes that answer and the request, gives the answer to follow it; a redirect elsewhere is a failure where the upstream takes us for its
//! client, whose own client knows nobody there. Surprise: an MCP client would have to send its message again and most
//! refuse where TLS ended in front of the server, so the redirect never reaches it; the peer stays the same, and so does the session.

use http::header;
use pingora_proxy::Session;

use crate::account::Record;
use crate::error::Fault;
use crate::mcp::redirect::should_follow;

use super::connection::{Answer, Source};
use super::outbound::Outbound;
use super::ownership::{Near, Owner};
use super::reply::REST;
use super::request::Inbound;
use super::{Exchange, Stop};

impl<'e> Exchange<'e> {
    /// The answer, or the one at the path that it points to; that one is final.
    pub(crate) async fn followed(
        &self,
        session: &mut Session,
        answer: Answer<'e>,
        owner: &Owner,
        outbound: &mut Outbound,
        inbound: &Inbound,
        record: &mut Record,
    ) -> Result<Answer<'e>, Stop> {
        let Some(path) = self.slash_away(&answer, outbound) else { return self.arrived(answer) };
        outbound.go_to(&path);
        let owner = match (&answer.source, owner) {
            (Source::Near { peer, .. }, Owner::Near(Near::Any)) => &Owner::Near(Near::Unclaimed(*peer)),
            _ => owner,
        };
        self.discard(answer).await;
        self.arrived(self.ask(session, owner, outbound, inbound, record).await?)
    }

    fn arrived(&self, answer: Answer<'e>) -> Result<Answer<'e>, Stop> {
        let location = answer.head.headers.get(header::LOCATION);
        if self.upstream.host.is_none() || !answer.head.status.is_redirection() || location.is_none() {
            return Ok(answer);
        }
        log::warn!("upstream {}: {} to {location:?}", self.upstream.name, answer.head.status);
        Err(Fault::Redirected.into())
    }

    fn slash_away(&self, answer: &Answer<'_>, outbound: &Outbound) -> Option<String> {
        let location = answer.head.headers.get(header::LOCATION)?.to_str().ok()?;
        let sent = std::str::from_utf8(outbound.path()).ok()?;
        should_follow(answer.head.status.as_u16(), location, sent, self.ours()?)
    }

    /// Reads the little that such an answer says, so that its connection can carry the next one.
    async fn discard(&self, answer: Answer<'_>) {
        let Answer { mut http, source, .. } = answer;
        let (most, patience) = REST;
        let reading = async {
            let mut left = most;
            while let Ok(Some(chunk)) = http.read_body_bytes().await {
                left = left.saturating_sub(chunk.len());
                if left == 0 {
                    return;
                }
            }
        };
        let read = tokio::time::timeout(patience, reading).await;
        if read.is_ok()
            && http.is_body_done()
            && let Some(stream) = http.reuse().await
        {
            self.keep(&source, stream);
        }
    }
}
