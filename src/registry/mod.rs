//! The registry: which peer owns a session. The exchange asks it (room 4) and claims in it (room 8).
//! Takes session keys and claims, gives claims or a [`RegistryError`]; which kind of registry stands behind is decided once, in `open`.
//! Surprise: everything in it is soft state. It may forget (bound, expiry, damage), but it never names a wrong owner.

mod calls;
mod claim;
mod embedded;
mod error;
mod gateway;
mod redis;
mod worker;

use std::sync::Arc;
use std::time::Duration;

pub use calls::Calls;
pub use claim::{Claim, Claimed, SessionKey, Transport};
pub use embedded::look;
pub use error::RegistryError;
pub use gateway::GatewayKeys;
pub use redis::Store;
pub use worker::{Calibration, Word, WorkerId};

use crate::config::settings::{RegistryKind, Sessions};
use embedded::Embedded;
use redis::Redis;

/// A handle; clones are cheap and are the same registry. One process opens a registry once.
#[derive(Clone)]
pub struct Registry {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Embedded(Arc<Embedded>),
    Redis(Arc<Redis>),
}

/// What this process did since it opened the registry; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counters {
    Embedded(EmbeddedCounters),
    Redis(RedisCounters),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmbeddedCounters {
    /// Write transactions committed; one may hold many writes.
    pub commits: u64,
    /// Claims that had to go before their time, because of `max_sessions` or a full file.
    pub evicted: u64,
    /// Claims swept after their time.
    pub expired: u64,
    /// Reader slots of dead processes that were cleared.
    pub stale_readers: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedisCounters {
    /// Commands given, whatever became of them.
    pub commands: u64,
    /// Commands that failed because there was no connection.
    pub unreachable: u64,
    /// Commands that were not answered in time.
    pub silent: u64,
    /// Commands answered with an error, or with something unreadable.
    pub refused: u64,
    /// Connections opened; every one after the first is a reconnection.
    pub connections: u64,
    /// Owners asked for that the cache knew.
    pub cache_hits: u64,
    /// Owners asked for that only Redis could know.
    pub cache_misses: u64,
}

impl Registry {
    /// Blocks where files are opened and checked; to be called before the worker is ready. Redis need not be there yet: it is
    /// connected to in the background, and found again whenever it was lost.
    ///
    /// # Errors
    /// Only if the folder cannot be used at all (damaged content is set aside with a log line), or no thread can be started.
    pub fn open(sessions: &Sessions) -> Result<Registry, RegistryError> {
        let kind = match &sessions.registry {
            RegistryKind::Embedded(embedded) => {
                Kind::Embedded(Arc::new(Embedded::open(embedded, sessions.ttl)?))
            }
            RegistryKind::Redis(redis) => Kind::Redis(Arc::new(Redis::open(redis, sessions.ttl)?)),
        };
        Ok(Self { kind })
    }

    /// Who owns the session. `None`: nobody claimed it, or its time is over. With Redis the answer may be as old as a sixtieth of
    /// the TTL, at most a minute; while Redis is away, as old as the outage.
    pub async fn ask(&self, key: &SessionKey) -> Result<Option<Claim>, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.ask(key),
            Kind::Redis(redis) => redis.ask(key).await,
        }
    }

    /// Claims the session for the time that `sessions.ttl` says, unless somebody holds it (set once). An equal claim counts as
    /// ours: it is renewed and won.
    ///
    /// # Errors
    /// After [`RegistryError::Timeout`] and [`RegistryError::Silent`] the claim may still come to stand.
    pub async fn claim(&self, key: &SessionKey, claim: &Claim) -> Result<Claimed, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.claim(key, claim).await,
            Kind::Redis(redis) => redis.claim(key, claim).await,
        }
    }

    /// The session was used: its time starts anew. Call it on every use: it never waits, and writes at most once per sixtieth of
    /// the TTL and per minute. A lost renewal is made up for by the next use.
    pub fn renew(&self, key: &SessionKey) {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.renew(key),
            Kind::Redis(redis) => redis.renew(key),
        }
    }

    /// The owner is gone: puts a claim [of nobody](Claim::of_nobody) in the place of this one, if it is still exactly this one;
    /// says whether it was.
    pub async fn bury(&self, key: &SessionKey, claim: &Claim) -> Result<bool, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.bury(key, claim).await,
            Kind::Redis(redis) => redis.bury(key, claim).await,
        }
    }

    /// Removes the claim if it is still exactly this one (compare-and-delete); says whether it was.
    pub async fn release(&self, key: &SessionKey, claim: &Claim) -> Result<bool, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.release(key, claim).await,
            Kind::Redis(redis) => redis.release(key, claim).await,
        }
    }

    /// The owner failed to answer: what this process remembers of it is asked for anew at the next use.
    pub fn forget(&self, key: &SessionKey) {
        match &self.kind {
            // It remembers nothing beside the file itself.
            Kind::Embedded(_) => {}
            Kind::Redis(redis) => redis.forget(key),
        }
    }

    /// How many sessions are kept, where that can be known cheaply; those whose time is over count until they are swept (about a
    /// second). Redis is only asked whether it answers.
    pub async fn count(&self) -> Result<Option<u64>, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.count().map(Some),
            Kind::Redis(redis) => redis.check().await.map(|()| None),
        }
    }

    /// The claim of a session and for how long it will stand, without counting as its use. Of a shared registry everything is to be seen in
    /// its [`Store`]; here it is `None`.
    pub fn look(&self, key: &SessionKey) -> Result<Option<(Claim, Duration)>, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.look(key),
            Kind::Redis(_) => Ok(None),
        }
    }

    /// What siblings of the registry may keep beside it; `None` where nobody else would read it.
    pub fn store(&self) -> Option<Store> {
        match &self.kind {
            Kind::Embedded(_) => None,
            Kind::Redis(redis) => Some(redis.store()),
        }
    }

    /// Whether other members read it.
    pub fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Redis(_))
    }

    /// As the configuration calls it.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Embedded(_) => "embedded",
            Kind::Redis(_) => "redis",
        }
    }

    pub fn counters(&self) -> Counters {
        match &self.kind {
            Kind::Embedded(embedded) => Counters::Embedded(embedded.counters()),
            Kind::Redis(redis) => Counters::Redis(redis.counters()),
        }
    }
}
