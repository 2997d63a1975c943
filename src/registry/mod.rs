//! The registry: which peer owns a session. The exchange asks it (room 4) and claims in it (room 8).
//! Takes session keys and claims, gives claims or a [`RegistryError`]; which kind of registry stands behind is decided once, in `open`.
//! Surprise: everything in it is soft state. It may forget (bound, expiry, damage), but it never names a wrong owner.

mod claim;
mod embedded;
mod error;
mod store;
mod worker;

use std::sync::Arc;

pub use claim::{Claim, Claimed, SessionKey, Transport};
pub use error::RegistryError;
pub use store::Store;
pub use worker::{Calibration, WorkerId};

use crate::config::settings::{RegistryKind, Sessions};
use embedded::Embedded;

/// A handle; clones are cheap and are the same registry. One process opens a registry once.
#[derive(Clone)]
pub struct Registry {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Embedded(Arc<Embedded>),
}

/// What this process did since it opened the registry; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Write transactions committed; one may hold many writes.
    pub commits: u64,
    /// Claims that had to go before their time, because of `max_sessions` or a full file.
    pub evicted: u64,
    /// Claims swept after their time.
    pub expired: u64,
    /// Reader slots of dead processes that were cleared.
    pub stale_readers: u64,
}

impl Registry {
    /// Blocks (files are opened and checked); to be called before the worker is ready.
    ///
    /// # Errors
    /// Only if the folder cannot be used at all. Damaged content is set aside with a log line.
    pub fn open(sessions: &Sessions) -> Result<Registry, RegistryError> {
        let kind = match &sessions.registry {
            RegistryKind::Embedded(embedded) => {
                Kind::Embedded(Arc::new(Embedded::open(embedded, sessions.ttl)?))
            }
            RegistryKind::Redis(_) => unreachable!("the check makes none yet"),
        };
        Ok(Self { kind })
    }

    /// Who owns the session. `None`: nobody claimed it, or its time is over.
    pub async fn ask(&self, key: &SessionKey) -> Result<Option<Claim>, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.ask(key),
        }
    }

    /// Claims the session for the time that `sessions.ttl` says, unless somebody holds it (set once). An equal claim counts as
    /// ours: it is renewed and won.
    ///
    /// # Errors
    /// After [`RegistryError::Timeout`] the claim may still come to stand.
    pub async fn claim(&self, key: &SessionKey, claim: &Claim) -> Result<Claimed, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.claim(key, claim).await,
        }
    }

    /// The session was used: its time starts anew. Call it on every use: it never waits, and writes at most once per sixtieth of
    /// the TTL and per minute. A lost renewal is made up for by the next use.
    pub fn renew(&self, key: &SessionKey) {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.renew(key),
        }
    }

    /// Removes the claim if it is still exactly this one (compare-and-delete); says whether it was.
    pub async fn release(&self, key: &SessionKey, claim: &Claim) -> Result<bool, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.release(key, claim).await,
        }
    }

    /// How many sessions are kept; those whose time is over count until they are swept (about a second).
    pub async fn count(&self) -> Result<u64, RegistryError> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.count(),
        }
    }

    pub fn store(&self) -> Option<Store> {
        None
    }

    pub fn is_shared(&self) -> bool {
        false
    }

    pub fn counters(&self) -> Counters {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.counters(),
        }
    }
}
