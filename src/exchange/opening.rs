//! Room 9, the beginning of an HTTP+SSE stream: its `endpoint` event names the session, whose owner must be known before the client reads
//! it, and the address of its messages, which the client must be able to reach. Takes the stream as it arrives, gives what may leave.
//! Surprise: where the stream ends the session does, so the claim that was made here is given back in the end.

use bytes::Bytes;
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;

use crate::mcp::public_url::address::Ours;
use crate::mcp::sse::FirstEvent;
use crate::registry::{Claim, SessionKey};
use crate::routing::session::session_in_query;

use super::connection::Source;
use super::outbound::origin_form;
use super::{Endpoint, Exchange, Stop, Target};

/// What of an answer must be read before it leaves.
pub(crate) enum Opening {
    /// Every other answer, and a stream whose first event has passed.
    Past { claimed: Option<(SessionKey, Claim)> },
    Awaiting {
        first: FirstEvent,
        /// Of the request.
        path: String,
    },
}

impl Opening {
    pub fn of(target: &Target, is_stream: bool, request: &RequestHeader) -> Self {
        if target.endpoint == Endpoint::Sse && is_stream {
            let path = String::from_utf8_lossy(origin_form(request)).into_owned();
            Self::Awaiting { first: FirstEvent::default(), path }
        } else {
            Self::Past { claimed: None }
        }
    }

    /// Nothing is held back.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Past { .. })
    }

    /// The session that the stream is.
    pub fn session(&self) -> Option<&(SessionKey, Claim)> {
        match self {
            Self::Past { claimed } => claimed.as_ref(),
            Self::Awaiting { .. } => None,
        }
    }

    /// What may leave, now that this has come.
    pub async fn pass(
        &mut self,
        exchange: &Exchange<'_>,
        source: &Source<'_>,
        chunk: Bytes,
    ) -> Result<Bytes, Stop> {
        let Self::Awaiting { first, path } = self else { return Ok(chunk) };
        let mut step = first.push(&chunk);
        let done = first.done();
        let mut claimed = None;
        if let (Some(endpoint), Some(ours)) = (step.endpoint, exchange.ours()) {
            if let Some((session_id, messages)) = named_by(exchange, ours, &endpoint.address, path) {
                let target = messages.as_ref().unwrap_or(exchange.target);
                let claim = exchange.claim(target, &session_id, source).await;
                let (key, claim) = claim.map_err(|_| Stop::Cut(unclaimed()))?;
                if messages.is_some() {
                    exchange.app.calls.open(key);
                }
                claimed = Some((key, claim));
            }
            let public = ours.endpoint(&endpoint.address, exchange.app.settings.endpoint, path);
            if let (Some(span), Some(public)) = (endpoint.span, public) {
                step.release.splice(span, public.into_bytes());
            }
        }
        if done {
            *self = Self::Past { claimed };
        }
        Ok(step.release.into())
    }

    /// The stream ended: whatever is still held.
    pub fn finish(&mut self) -> Bytes {
        match self {
            Self::Past { .. } => Bytes::new(),
            Self::Awaiting { first, .. } => first.finish().into(),
        }
    }

    /// The stream is the session: where it ends, the session does.
    pub async fn end(self, exchange: &Exchange<'_>) {
        if let Self::Past { claimed: Some((key, claim)) } = self {
            exchange.app.calls.close(&key);
            exchange.release(&key, &claim).await;
            exchange.app.counters.sessions_released.inc();
        }
    }
}

/// Session id of an `endpoint` event, and the route that its messages will come by, if that is one of ours: the session's scope is that
/// of the address which the server itself chose, as ContextForge's is scoped and an SDK server's is not.
fn named_by(
    exchange: &Exchange<'_>,
    ours: Ours<'_>,
    address: &str,
    path: &str,
) -> Option<(String, Option<Target>)> {
    let messages = ours.messages(address, path)?;
    let (path, query) = messages.split('#').next()?.split_once('?')?;
    let session_id = session_in_query(query)?.into_owned();
    let route = exchange.app.settings.routes.classify(path.as_bytes(), false);
    let messages = Target::of(route).filter(|target| target.endpoint == Endpoint::Message);
    if messages.is_none() {
        log::warn!(
            "the endpoint event's path {path} is none of routes.message; its messages may miss the session's owner"
        );
    }
    Some((session_id, messages))
}

fn unclaimed() -> pingora_core::BError {
    Error::explain(ErrorType::InternalError, "the session could not be claimed")
}
