//! HTTP+SSE: answers of nothing on a session's stream, behind which a failure is masked (`mcp::sse::Masked`).
//! Takes the stream's bytes as they pass, gives what leaves: a hollow answer becomes an error, unless its method may return nothing.
//! Surprise: not what was asked is remembered, but what may rightly be answered with nothing. That is rare (`ping`,
//! `resources/subscribe`), and a note about it finds its way to the stream also from another generation or member.

use bytes::Bytes;

use crate::mcp::failure::{Caller, must_return};
use crate::mcp::id::Id;
use crate::mcp::sse::{Hollow, Masked, Piece};
use crate::registry::{Claim, SessionKey};

use super::request::{Inbound, Named};
use super::{Endpoint, Exchange, Side};

/// How a hollow answer counts among the answers that were normalised.
pub(crate) const UNMASKED: &str = "hollow_event";

/// A stream that is looked through.
pub(crate) struct Messages(Option<Masked>);

/// What of a stream may leave.
pub(crate) struct Unmasked {
    pub bytes: Bytes,
    /// Some of it is ours.
    pub repaired: bool,
}

impl Messages {
    /// `is_stream`: the answer is an event stream.
    pub fn of(exchange: &Exchange<'_>, is_stream: bool) -> Self {
        let looked_through = is_stream
            && exchange.target.endpoint == Endpoint::Sse
            && matches!(exchange.side, Side::Client { .. });
        Self(looked_through.then(Masked::default))
    }

    /// Nothing is held back.
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// `session`: what the stream's `endpoint` event has named.
    pub async fn pass(
        &mut self,
        exchange: &Exchange<'_>,
        session: Option<&(SessionKey, Claim)>,
        chunk: Bytes,
    ) -> Unmasked {
        let Some(masked) = &mut self.0 else { return Unmasked { bytes: chunk, repaired: false } };
        let (mut parts, mut repaired) = (Vec::new(), false);
        for piece in masked.push(chunk) {
            parts.push(match piece {
                Piece::Pass(bytes) => bytes,
                Piece::Hollow(hollow) if exchange.may_be_hollow(session, &hollow).await => {
                    hollow.as_it_came()
                }
                Piece::Hollow(hollow) => {
                    repaired = true;
                    hollow.repaired()
                }
            });
        }
        let bytes = match parts.len() {
            1 => parts.swap_remove(0),
            _ => parts.concat().into(),
        };
        Unmasked { bytes, repaired }
    }

    /// The stream ended: whatever is still held.
    pub fn finish(&mut self) -> Bytes {
        self.0.as_mut().map(Masked::finish).unwrap_or_default()
    }
}

impl Exchange<'_> {
    /// Before a message goes to its session: if nothing may be its answer, the session's stream must know.
    pub(crate) async fn note_call(&self, inbound: &Inbound) {
        let Some(Named { key, .. }) = &inbound.session else { return };
        if self.target.endpoint != Endpoint::Message {
            return;
        }
        let ids = match &inbound.caller {
            Caller::Request(id) if !inbound.rpc_method.as_deref().is_some_and(must_return) => {
                std::slice::from_ref(id)
            }
            // What each of its messages asks is not known here.
            Caller::Batch(ids) => ids,
            Caller::Request(_) | Caller::Silent | Caller::Bare | Caller::Unreadable(_) => &[],
        };
        for id in ids {
            let call = SessionKey::of_call(key, &Id::of(id).to_string());
            if !self.app.calls.note(key, call)
                && let Some(claim) = &inbound.claim
                && let Err(error) = self.app.registry.claim(&call, claim).await
            {
                log::warn!("session {}: a call could not be noted: {error}", key.short());
            }
        }
    }

    /// Whether the request that an event answers with nothing may be answered so; also where that cannot be known.
    async fn may_be_hollow(&self, session: Option<&(SessionKey, Claim)>, hollow: &Hollow) -> bool {
        let Some((session, _)) = session.filter(|(session, _)| self.app.calls.is_open(session)) else {
            return true;
        };
        let call = SessionKey::of_call(session, &hollow.id().to_string());
        if self.app.calls.take(session, &call) {
            return true;
        }
        match self.app.registry.ask(&call).await {
            Ok(Some(note)) => {
                self.release(&call, &note).await;
                true
            }
            Ok(None) => false,
            Err(error) => {
                log::warn!("session {}: nobody knows what was called: {error}", session.short());
                true
            }
        }
    }
}
