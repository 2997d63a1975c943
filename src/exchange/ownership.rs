//! Rooms 4 and 8: whose session it is. Asked before the request goes anywhere, told when an answer begins or ends a session.
//! Takes the session id that the request names and the head of its answer, gives an [`Owner`] and keeps the registry true.
//! Surprise: a session that cannot be recorded is not given out where several peers could get its next request, because
//! a wrong owner's answer is worse than none.

use pingora_http::ResponseHeader;

use crate::error::Fault;
use crate::registry::{Claim, Claimed, SessionKey};
use crate::routing::owner::{Decision, Failed, decide};

use super::request::Inbound;
use super::{Exchange, Target};

/// Room 4: which peer, and whether anybody else may stand in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This peer holds the session.
    Claimed(usize),
    /// Nobody is known to hold it; always the same peer is asked.
    Unclaimed(usize),
    /// Any peer will do.
    Any,
}

impl Exchange<'_> {
    /// Where the request's session lives.
    pub(crate) async fn locate(&self, inbound: &mut Inbound) -> Result<Owner, Fault> {
        let Some(key) = &inbound.session else { return Ok(Owner::Any) };
        let asked = self.app.registry.ask(key).await;
        if let Err(error) = &asked {
            log::warn!("session {}: the registry did not answer: {error}", key.short());
        }
        let known = asked.as_ref().map(Option::as_ref).map_err(|_| Failed);
        let scope = self.target.server_id.as_deref();
        match decide(known, scope, self.target.transport(), &self.upstream.peers) {
            Decision::Here(peer) => {
                self.app.registry.renew(key);
                inbound.claim = asked.ok().flatten();
                Ok(Owner::Claimed(peer))
            }
            Decision::Unclaimed => Ok(Owner::Unclaimed(self.upstream.stable(key.as_bytes()))),
            Decision::Lost => {
                if let Ok(Some(claim)) = asked {
                    self.release(key, &claim).await;
                }
                Err(Fault::SessionLost)
            }
            Decision::WrongScope | Decision::WrongTransport => Err(Fault::SessionLost),
            Decision::Unavailable => Err(Fault::RegistryUnavailable),
        }
    }

    /// A 2xx answer to `initialize` that brings a session id makes its peer the owner; a session that its client ended, or that
    /// its owner does not know, is released.
    pub(crate) async fn note_session(
        &self,
        inbound: &Inbound,
        head: &ResponseHeader,
        peer: usize,
    ) -> Result<(), Fault> {
        let status = head.status;
        if inbound.is_initialize() && status.is_success() {
            let id = head.headers.get("mcp-session-id").and_then(|value| value.to_str().ok());
            if let Some(id) = id.filter(|id| !id.is_empty()) {
                self.claim(self.target, id, peer).await?;
            }
        }
        let deleted = inbound.method == http::Method::DELETE && status.is_success();
        let unknown_there = status == http::StatusCode::NOT_FOUND;
        if let (Some(key), Some(claim), true) = (&inbound.session, &inbound.claim, deleted || unknown_there) {
            self.release(key, claim).await;
            self.app.counters.sessions_released.inc();
        }
        Ok(())
    }

    /// Records that `peer` owns the session, which answers under `target`; gives back what is to be released in the end.
    pub(crate) async fn claim(
        &self,
        target: &Target,
        session_id: &str,
        peer: usize,
    ) -> Result<(SessionKey, Claim), Fault> {
        let key = self.key(session_id);
        let claim = Claim {
            member: None,
            peer: self.upstream.peers[peer].name.clone(),
            server_id: target.server_id.clone(),
            transport: target.transport(),
        };
        match self.app.registry.claim(&key, &claim).await {
            Ok(Claimed::Won) => self.app.counters.sessions_claimed.inc(),
            Ok(Claimed::Held(other)) => {
                log::warn!(
                    "session {} of peer {} is already owned by peer {}",
                    key.short(),
                    claim.peer,
                    other.peer
                );
            }
            Err(error) => {
                log::error!("session {} could not be claimed: {error}", key.short());
                if self.upstream.peers.len() > 1 {
                    return Err(Fault::RegistryUnavailable);
                }
            }
        }
        Ok((key, claim))
    }

    pub(crate) async fn release(&self, key: &SessionKey, claim: &Claim) {
        if let Err(error) = self.app.registry.release(key, claim).await {
            log::warn!("session {} could not be released: {error}", key.short());
        }
    }

    pub(crate) fn key(&self, session_id: &str) -> SessionKey {
        SessionKey::new(&self.upstream.name, session_id)
    }
}
