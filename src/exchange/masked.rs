//! Answers of nothing on an event stream, behind which a failure is masked (`mcp::sse::Masked`).
//! Takes the stream's bytes as they pass, gives what leaves: a hollow answer becomes an error, unless its method may return nothing.
//! Surprise: on HTTP+SSE not what was asked is remembered, but what may rightly be answered with nothing. That is rare (`ping`,
//! `resources/subscribe`), and a note about it finds its way to the stream also from another generation or member.

use bytes::Bytes;

use crate::mcp::failure::{Asked, Caller, must_return};
use crate::mcp::id::Id;
use crate::mcp::sse::{Hollow, Masked, Piece};
use crate::registry::{Claim, SessionKey};

use super::request::{Inbound, Named};
use super::{Endpoint, Exchange};

/// How a hollow answer counts among the answers that were normalised.
pub(crate) const UNMASKED: &str = "hollow_event";

/// The messages of an answer.
pub(crate) enum Messages {
    /// They leave as they come.
    Unread,
    /// Of an HTTP+SSE stream: those who asked are known by its session.
    OfSession(Masked),
    /// Of the stream that answers this request, whose method must return something.
    To(Id, Masked),
}

/// What of a stream may leave.
pub(crate) struct Unmasked {
    pub bytes: Bytes,
    /// Some of it is ours.
    pub repaired: bool,
}

impl Messages {
    /// `is_watched`: the answer is an event stream that is ours to repair.
    pub fn of(exchange: &Exchange<'_>, is_watched: bool, asked: &Asked) -> Self {
        match &asked.caller {
            _ if !is_watched => Self::Unread,
            Caller::Bare if exchange.target.endpoint == Endpoint::Sse => Self::OfSession(Masked::default()),
            Caller::Request(id) if asked.method.as_deref().is_some_and(must_return) => {
                Self::To(Id::of(id), Masked::default())
            }
            // What each message of a batch asks is not known here.
            Caller::Batch(_) => Self::Unread,
            Caller::Request(_) | Caller::Silent | Caller::Bare | Caller::Unreadable(_) => Self::Unread,
        }
    }

    /// Nothing is held back.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Unread => true,
            Self::OfSession(masked) | Self::To(_, masked) => masked.is_open(),
        }
    }

    /// `session`: what the stream's `endpoint` event has named.
    pub async fn pass(
        &mut self,
        exchange: &Exchange<'_>,
        session: Option<&(SessionKey, Claim)>,
        chunk: Bytes,
    ) -> Unmasked {
        let (pieces, asked) = match self {
            Self::Unread => return Unmasked { bytes: chunk, repaired: false },
            Self::OfSession(masked) => (masked.push(chunk), None),
            Self::To(id, masked) => (masked.push(chunk), Some(&*id)),
        };
        let (mut parts, mut repaired) = (Vec::new(), false);
        for piece in pieces {
            let hollow = match piece {
                Piece::Pass(bytes) => {
                    parts.push(bytes);
                    continue;
                }
                Piece::Hollow(hollow) => hollow,
            };
            let masks_failure = match asked {
                Some(id) => hollow.id() == *id,
                None => !exchange.may_be_hollow(session, &hollow).await,
            };
            repaired |= masks_failure;
            parts.push(if masks_failure { hollow.repaired() } else { hollow.as_it_came() });
        }
        let bytes = match parts.len() {
            1 => parts.swap_remove(0),
            _ => parts.concat().into(),
        };
        Unmasked { bytes, repaired }
    }

    /// The stream ended: whatever is still held.
    pub fn finish(&mut self) -> Bytes {
        match self {
            Self::Unread => Bytes::new(),
            Self::OfSession(masked) | Self::To(_, masked) => masked.finish(),
        }
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

    /// Whether the request that an event of HTTP+SSE answers with nothing may be answered so; also where that cannot be known.
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
