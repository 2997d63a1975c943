//! Rooms 4 and 8: whose session it is. Asked before the request goes anywhere, told when an answer begins or ends a session.
//! Takes the session id that the request names and the head of its answer, gives an [`Owner`] and keeps the registry true.
//! Surprise: a session that cannot be recorded is not given out where others could get its next request, because
//! a wrong owner's answer is worse than none.

use crate::config::settings::OnRegistryFailure;
use crate::error::Fault;
use crate::mcp::failure::Caller;
use crate::registry::{Claim, Claimed, RegistryError, SessionKey};
use crate::routing::owner::{Asking, Decision, Failed, decide};

use super::connection::{Answer, Source};
use super::request::{Inbound, Named};
use super::{Exchange, Target};

/// Room 4: who gets the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A peer of ours.
    Near(Near),
    /// A peer of another member's.
    Far(Far),
}

/// Which of our peers, and whether another may stand in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Near {
    /// This peer holds the session.
    Claimed(usize),
    /// Nobody is known to hold it; always the same peer is asked.
    Unclaimed(usize),
    /// Any peer will do.
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Far {
    pub member: String,
    /// `None`: that member knows.
    pub peer: Option<String>,
}

impl Exchange<'_> {
    /// Where the request's session lives.
    pub(crate) async fn locate(&self, inbound: &mut Inbound) -> Result<Owner, Fault> {
        let Some(key) = inbound.session.as_ref().map(|named| named.key) else {
            return Ok(Owner::Near(Near::Any));
        };
        let key = &key;
        let asked = self.app.registry.ask(key).await;
        if let Err(error) = &asked {
            log::warn!("session {}: the registry did not answer: {error}", key.short());
        }
        let known = asked.as_ref().map(Option::as_ref).map_err(|_| Failed);
        let asking =
            Asking { server_id: self.target.server_id.as_deref(), transport: self.target.transport() };
        let owner = match decide(known, asking, self.app.me(), &self.upstream.peers) {
            Decision::Here(peer) => Owner::Near(Near::Claimed(peer)),
            Decision::At(member) => {
                let peer = known.ok().flatten().map(|claim| claim.peer.as_str());
                self.at(member, peer, inbound)?
            }
            Decision::Unclaimed => self.by_gateway(inbound, key).await?,
            Decision::Lost => {
                inbound.claim = asked.ok().flatten();
                return Err(self.lost(inbound).await);
            }
            Decision::WrongScope | Decision::WrongTransport => return Err(inbound.not_found()),
            Decision::Unavailable => self.unavailable(key)?,
        };
        inbound.claim = asked.ok().flatten();
        if inbound.claim.is_some() {
            self.app.registry.renew(key);
        }
        Ok(owner)
    }

    /// `peer`: `None` if only that member knows.
    pub(crate) fn at(&self, member: &str, peer: Option<&str>, inbound: &Inbound) -> Result<Owner, Fault> {
        if inbound.forwarded {
            log::error!(
                "a request that a member forwarded came in at a public listener; its owner is {member}: is `member.advertise` right?"
            );
            return Err(Fault::ForwardedTwice);
        }
        Ok(Owner::Far(Far { member: member.to_owned(), peer: peer.map(str::to_owned) }))
    }

    /// Nobody could be asked.
    pub(crate) fn unavailable(&self, key: &SessionKey) -> Result<Owner, Fault> {
        match self.app.settings.sessions.on_registry_failure {
            OnRegistryFailure::Refuse => Err(Fault::RegistryUnavailable),
            OnRegistryFailure::Local => Ok(self.unclaimed(key)),
        }
    }

    pub(crate) fn unclaimed(&self, key: &SessionKey) -> Owner {
        Owner::Near(Near::Unclaimed(self.upstream.stable(key.as_bytes())))
    }

    /// A 2xx answer to `initialize` that brings a session id makes its peer the owner; so does a whole answer to a request of
    /// a session that nobody had claimed. A session that its client ended, or that its owner does not know, is released.
    /// `leaves`: the answer is one, and reaches the client.
    pub(crate) async fn note_session(
        &self,
        inbound: &Inbound,
        answer: &Answer<'_>,
        leaves: bool,
    ) -> Result<(), Fault> {
        let head = &answer.head;
        let status = head.status;
        if inbound.is_initialize() && status.is_success() && leaves {
            let id = head.headers.get("mcp-session-id").and_then(|value| value.to_str().ok());
            if let Some(id) = id.filter(|id| !id.is_empty()) {
                let (_, claim) = self.claim(self.target, id, &answer.source).await?;
                self.calibrate(&claim, id);
            }
        }
        let Some(Named { key, id }) = inbound.session.as_ref().filter(|_| inbound.era.has_sessions()) else {
            return Ok(());
        };
        let deleted = inbound.method == http::Method::DELETE && status.is_success();
        let unknown_there = status == http::StatusCode::NOT_FOUND;
        match &inbound.claim {
            Some(claim) if deleted || unknown_there => {
                self.release(key, claim).await;
                self.app.counters.sessions_released.inc();
            }
            Some(_) => {}
            None => {
                let answered = status == http::StatusCode::OK && matches!(inbound.caller, Caller::Request(_));
                let owns = answered && leaves && !inbound.guessed && !inbound.is_initialize();
                if owns && self.app.registry.is_shared() {
                    self.adopt(id, &answer.source).await;
                }
            }
        }
        Ok(())
    }

    /// A session from before our time, or one that the registry forgot, answered: whoever did owns it from now on, so that every
    /// member finds it there (alone, we find it anyway). The first claim stands, and where none can be made the next answer makes it.
    async fn adopt(&self, session_id: &str, source: &Source<'_>) {
        if let Err(error) =
            self.app.registry.claim(&self.key(session_id), &self.claim_of(self.target, source)).await
        {
            log::debug!("session {} could not be adopted: {error}", self.key(session_id).short());
        }
    }

    /// Records that the source of an answer owns the session, which answers under `target`; gives back what is to be
    /// released in the end.
    pub(crate) async fn claim(
        &self,
        target: &Target,
        session_id: &str,
        source: &Source<'_>,
    ) -> Result<(SessionKey, Claim), Fault> {
        let key = self.key(session_id);
        let claim = self.claim_of(target, source);
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
            Err(error) => self.unrecorded(&key, &error)?,
        }
        Ok((key, claim))
    }

    /// A session that nobody else can find is given out only where nobody else would look for it.
    pub(crate) fn unrecorded(&self, key: &SessionKey, error: &RegistryError) -> Result<(), Fault> {
        log::error!("session {} could not be claimed: {error}", key.short());
        let shared = self.upstream.peers.len() > 1 || self.app.registry.is_shared();
        match self.app.settings.sessions.on_registry_failure {
            OnRegistryFailure::Refuse if shared => Err(Fault::RegistryUnavailable),
            OnRegistryFailure::Refuse | OnRegistryFailure::Local => Ok(()),
        }
    }

    pub(crate) fn claim_of(&self, target: &Target, source: &Source<'_>) -> Claim {
        let member = match source {
            Source::Near { .. } => self.app.me().map(str::to_owned),
            Source::Far { member, .. } => Some(member.clone()),
        };
        let peer = source.peer_name(self.upstream).to_owned();
        Claim { member, peer, server_id: target.server_id.clone(), transport: target.transport() }
    }

    pub(crate) async fn release(&self, key: &SessionKey, claim: &Claim) {
        if let Err(error) = self.app.registry.release(key, claim).await {
            log::warn!("session {} could not be released: {error}", key.short());
        }
    }

    /// Nobody is where the session lived: the client learns at once that it must initialise again, and so does whoever asks after
    /// it. Without a claim the session would count as unclaimed, and a gateway that is asked may wait for its dead worker.
    pub(crate) async fn lost(&self, inbound: &Inbound) -> Fault {
        if let (Some(Named { key, .. }), Some(claim)) = (&inbound.session, &inbound.claim)
            && !claim.is_of_nobody()
            && let Err(error) = self.app.registry.bury(key, claim).await
        {
            log::warn!("lost session {}: its claim stays: {error}", key.short());
        }
        inbound.not_found()
    }

    pub(crate) fn key(&self, session_id: &str) -> SessionKey {
        SessionKey::new(&self.upstream.name, session_id)
    }
}
