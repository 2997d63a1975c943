//! Rooms 4 and 8 for sessions that the gateway knows and we do not: opened before Outrigger came, or behind another proxy.
//! Takes a session that nobody claimed, gives its owner by the gateway's own keys; has the worker learnt that began a new session.
//! Surprise: where the gateway's word names nobody whom we can reach, a request goes where it would go without that word. The
//! gateway passes it on by itself; so the answer is right, but whoever gives it does not own the session.

use crate::error::Fault;
use crate::registry::{Claim, SessionKey};
use crate::routing::gateway::{Place, decide, place};
use crate::routing::owner::Decision;

use super::Exchange;
use super::ownership::{Near, Owner};
use super::request::Inbound;

impl Exchange<'_> {
    /// Who gets a request whose session nobody claimed.
    pub(crate) async fn by_gateway(&self, inbound: &mut Inbound, key: &SessionKey) -> Result<Owner, Fault> {
        let keys = self.app.gateway.as_ref().filter(|_| inbound.era.has_sessions());
        let (Some(keys), Some(named)) = (keys, &inbound.session) else { return Ok(self.unclaimed(key)) };
        let word = match keys.ask(&self.upstream.name, &named.id).await {
            Ok(Some(word)) => word,
            Ok(None) => return Ok(self.unclaimed(key)),
            Err(error) => {
                log::warn!("session {}: the gateway's keys cannot be read: {error}", key.short());
                return self.unavailable(key);
            }
        };
        let neighbour = match &self.app.members {
            Some(members) if word.calibrated.is_none() => members.of_host(word.worker.host()).await,
            _ => None,
        };
        let place = place(&word, neighbour.as_deref());
        log::debug!("session {}: the gateway names worker {}, which is {place:?}", key.short(), word.worker);
        let (decision, owns) = decide(place, self.app.me(), &self.upstream.peers);
        inbound.guessed = !owns;
        match (decision, place) {
            (Decision::Here(peer), _) => Ok(Owner::Near(Near::Claimed(peer))),
            (Decision::At(member), Place::At { peer, .. }) => self.at(member, Some(peer), inbound),
            (Decision::At(member), _) => self.at(member, None, inbound),
            (Decision::Lost, _) => Err(inbound.not_found()),
            _ => Ok(self.unclaimed(key)),
        }
    }

    /// A session has just begun where this claim says.
    pub(crate) fn calibrate(&self, claim: &Claim, session_id: &str) {
        if let Some(keys) = &self.app.gateway {
            keys.calibrate(&self.upstream.name, claim.member.as_deref(), &claim.peer, session_id);
        }
    }
}
