//! The Redis registry: shared by all members; it outlives every one of them.
//! Takes what `Registry` takes. An owner that is known and was confirmed lately comes from the cache; anything else is one round trip
//! on the one connection of the process, bounded by `redis.timeout`.
//! Surprise: asking is using. What Redis is asked for has its time renewed in the same round trip, so that a hot session costs one
//! command in each interval, and `renew` mostly finds nothing to do.

mod cluster;
mod dial;
mod keeper;
mod line;
mod link;
mod owners;
mod script;
mod slots;
mod source;
mod store;
mod tally;
mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use log::debug;

use super::{Claim, Claimed, RedisCounters, RegistryError, SessionKey};
use crate::config::settings;
use line::Ask;
use link::Link;
use owners::{Known, Owners};
use script::{DROP, HOLD, Run, SWAP, Script, TAKE};
pub use store::Store;

/// How often a claim is compared with what another version may have written in other words.
const READINGS: usize = 3;

pub struct Redis {
    link: Link,
    owners: Owners,
    store: Store,
    /// `sessions.ttl` in milliseconds, as Redis reads it.
    ttl: String,
}

impl Redis {
    /// Redis need not be there yet.
    pub fn open(settings: &settings::Redis, ttl: Duration) -> Result<Self, RegistryError> {
        let link = Link::open(settings)?;
        let gateway_keys = settings.gateway_keys.as_deref().map(Into::into);
        let store = Store::new(link.clone(), settings.prefix.as_str().into(), gateway_keys);
        let interval = (ttl / 60).clamp(Duration::from_millis(100), Duration::from_secs(60));
        Ok(Self { link, owners: Owners::new(interval), store, ttl: millis(ttl).to_string() })
    }

    pub async fn ask(&self, key: &SessionKey) -> Result<Option<Claim>, RegistryError> {
        const DOING: &str = "ask for a session";
        match self.owners.find(key) {
            Known::Believed(claim) => {
                self.link.tally().hits.fetch_add(1, Relaxed);
                Ok(Some(claim))
            }
            Known::Due(claim) => self.confirm(key, claim).await.map(Some),
            Known::Nothing => {
                self.link.tally().misses.fetch_add(1, Relaxed);
                let held = self.run(DOING, &TAKE, key, &[self.ttl.as_bytes()]).await?;
                let claim =
                    held.map(|held| Claim::from_json(&held).ok_or_else(|| self.link.unreadable(DOING)));
                let claim = claim.transpose()?;
                if let Some(claim) = &claim {
                    self.owners.learn(key, claim);
                }
                Ok(claim)
            }
        }
    }

    pub async fn claim(&self, key: &SessionKey, claim: &Claim) -> Result<Claimed, RegistryError> {
        let claimed = self.hold("claim a session", key, claim).await?;
        match &claimed {
            Claimed::Won => self.owners.learn(key, claim),
            Claimed::Held(other) => self.owners.learn(key, other),
        }
        Ok(claimed)
    }

    pub fn renew(self: &Arc<Self>, key: &SessionKey) {
        match self.owners.find(key) {
            Known::Believed(_) => {}
            Known::Due(claim) => {
                let (redis, key) = (self.clone(), *key);
                self.link.runtime().spawn(async move {
                    // What failed was said; the owner is still known.
                    let _ = redis.confirm(&key, claim).await;
                });
            }
            Known::Nothing => {
                let (redis, key) = (self.clone(), *key);
                self.link.runtime().spawn(async move {
                    if let Err(error) = redis.ask(&key).await {
                        debug!("session {}: not renewed: {error}", key.short());
                    }
                });
            }
        }
    }

    pub async fn release(&self, key: &SessionKey, claim: &Claim) -> Result<bool, RegistryError> {
        self.end("release a session", &DROP, key, claim, &[]).await
    }

    pub async fn bury(&self, key: &SessionKey, claim: &Claim) -> Result<bool, RegistryError> {
        let word = claim.of_nobody().to_json();
        self.end("bury a session", &SWAP, key, claim, &[&word, self.ttl.as_bytes()]).await
    }

    /// Runs the script if the key still holds this claim, in whichever version's words; says whether it did.
    /// `more`: what the script takes after the claim.
    async fn end(
        &self,
        doing: &'static str,
        script: &'static Script,
        key: &SessionKey,
        claim: &Claim,
        more: &[&[u8]],
    ) -> Result<bool, RegistryError> {
        self.owners.forget(key);
        let mut value = claim.to_json();
        for _ in 0..READINGS {
            let arguments = [&[&value[..]], more].concat();
            let Some(held) = self.run(doing, script, key, &arguments).await? else { return Ok(false) };
            if held == value {
                return Ok(true);
            }
            if Claim::from_json(&held).as_ref() != Some(claim) {
                return Ok(false);
            }
            value = held;
        }
        Err(self.link.unreadable(doing))
    }

    pub fn forget(&self, key: &SessionKey) {
        self.owners.forget(key);
    }

    /// # Errors
    /// Why sessions cannot be asked for at this moment.
    pub async fn check(&self) -> Result<(), RegistryError> {
        self.store.exists(&self.store.key("members")).await.map(drop)
    }

    pub fn store(&self) -> Store {
        self.store.clone()
    }

    pub fn counters(&self) -> RedisCounters {
        self.link.tally().read()
    }

    /// Renews a claim that is known; another one may have taken its place. If Redis does not answer, the known one stands.
    async fn confirm(&self, key: &SessionKey, claim: Claim) -> Result<Claim, RegistryError> {
        match self.hold("renew a session", key, &claim).await {
            Ok(Claimed::Won) => Ok(claim),
            Ok(Claimed::Held(other)) => {
                self.owners.learn(key, &other);
                Ok(other)
            }
            Err(error) => {
                self.owners.postpone(key);
                debug!("session {}: its known owner goes on: {error}", key.short());
                Ok(claim)
            }
        }
    }

    /// Makes the claim stand for a whole TTL, unless there is another.
    async fn hold(
        &self,
        doing: &'static str,
        key: &SessionKey,
        claim: &Claim,
    ) -> Result<Claimed, RegistryError> {
        let mut value = claim.to_json();
        for _ in 0..READINGS {
            let Some(held) = self.run(doing, &HOLD, key, &[&value, self.ttl.as_bytes()]).await? else {
                return Ok(Claimed::Won);
            };
            if held == value {
                return Ok(Claimed::Won);
            }
            match Claim::from_json(&held) {
                Some(other) if other != *claim => return Ok(Claimed::Held(other)),
                // The same claim in another version's words: those are renewed.
                Some(_) => value = held,
                // Somebody's, in words that we do not know: to take it for none could name a wrong owner.
                None => break,
            }
        }
        Err(self.link.unreadable(doing))
    }

    async fn run(
        &self,
        doing: &'static str,
        script: &'static Script,
        key: &SessionKey,
        arguments: &[&[u8]],
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let key = self.store.session_key(key);
        self.link.ask(doing, Ask::Script(Run { script, key: &key, arguments })).await
    }
}

/// At least one: Redis refuses a time to live of nothing.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 4)
}
