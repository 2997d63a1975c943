//! The owner cache in front of Redis: what this process was told of a session's owner, and until when it is believed.
//! Takes claims that Redis confirmed, gives them back in a fraction of a microsecond; bounded, for all threads.
//! Surprise: one that is no longer believed is still given. Its first user asks Redis, everybody else goes on with it, and if Redis
//! does not answer nothing changes: a stale owner does no harm, as it knows its own sessions best.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::registry::{Claim, SessionKey};

/// Most sessions remembered; some 280 bytes each.
const SESSIONS: usize = 100_000;
/// When Redis is asked again that did not answer.
const RETRY: Duration = Duration::from_secs(1);

pub struct Owners {
    known: Cache<SessionKey, Arc<Owner>>,
    /// Times are milliseconds since then.
    began: Instant,
    interval: u64,
}

struct Owner {
    claim: Claim,
    /// From then on Redis is to be asked.
    due: AtomicU64,
}

/// What the cache knows of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    Nothing,
    Believed(Claim),
    /// To be confirmed by whoever is given this; nobody else is for a while.
    Due(Claim),
}

impl Owners {
    /// `interval`: for how long a claim is believed.
    pub fn new(interval: Duration) -> Self {
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX / 2);
        Self { known: Cache::new(SESSIONS), began: Instant::now(), interval }
    }

    pub fn find(&self, key: &SessionKey) -> Known {
        let Some(owner) = self.known.get(key) else { return Known::Nothing };
        let (now, due) = (self.now(), owner.due.load(Relaxed));
        let claim = owner.claim.clone();
        let ours =
            now >= due && owner.due.compare_exchange(due, now + self.interval, Relaxed, Relaxed).is_ok();
        if ours { Known::Due(claim) } else { Known::Believed(claim) }
    }

    /// Redis has said so just now.
    pub fn learn(&self, key: &SessionKey, claim: &Claim) {
        let owner = Owner { claim: claim.clone(), due: AtomicU64::new(self.now() + self.interval) };
        self.known.insert(*key, Arc::new(owner));
    }

    /// Redis could not be asked.
    pub fn postpone(&self, key: &SessionKey) {
        if let Some(owner) = self.known.get(key) {
            let retry = u64::try_from(RETRY.as_millis()).unwrap_or(u64::MAX).min(self.interval);
            owner.due.store(self.now() + retry, Relaxed);
        }
    }

    pub fn forget(&self, key: &SessionKey) {
        self.known.remove(key);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Transport;

    fn claim(peer: &str) -> Claim {
        Claim { member: None, peer: peer.into(), server_id: None, transport: Transport::StreamableHttp }
    }

    #[test]
    fn one_user_confirms_what_is_due_and_the_others_go_on() {
        let (owners, key) = (Owners::new(Duration::ZERO), SessionKey::new("gateway", "s"));
        assert_eq!(owners.find(&key), Known::Nothing);
        owners.learn(&key, &claim("w1"));
        assert_eq!(owners.find(&key), Known::Due(claim("w1")), "no interval: due at once");

        let owners = Owners::new(Duration::from_secs(60));
        owners.learn(&key, &claim("w1"));
        assert_eq!(owners.find(&key), Known::Believed(claim("w1")));
        if let Some(owner) = owners.known.get(&key) {
            owner.due.store(0, Relaxed);
        }
        assert_eq!(owners.find(&key), Known::Due(claim("w1")));
        assert_eq!(owners.find(&key), Known::Believed(claim("w1")), "somebody is asking");
        owners.learn(&key, &claim("w2"));
        assert_eq!(owners.find(&key), Known::Believed(claim("w2")));
        owners.forget(&key);
        assert_eq!(owners.find(&key), Known::Nothing);
    }

    #[test]
    fn it_is_bounded() {
        let owners = Owners::new(Duration::from_secs(60));
        for session in 0..SESSIONS + SESSIONS / 4 {
            owners.learn(&SessionKey::new("gateway", &session.to_string()), &claim("w1"));
        }
        assert!(
            owners.known.len() <= SESSIONS && owners.known.len() > SESSIONS / 2,
            "{}",
            owners.known.len()
        );
    }
}
