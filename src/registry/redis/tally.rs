//! What the Redis registry counts; for metrics.
//! Takes one event at a time from any thread, gives a [`RedisCounters`].
//! Surprise: a command that was sent twice, because its connection broke, counts once: it is one that somebody waited for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::registry::{RedisCounters, RegistryError};

/// [`RedisCounters`] while they are counted.
#[derive(Default)]
pub struct Tally {
    pub commands: AtomicU64,
    pub connections: AtomicU64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    unreachable: AtomicU64,
    silent: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    pub fn failed(&self, error: &RegistryError) {
        let counter = match error {
            RegistryError::Unreachable { .. } => &self.unreachable,
            RegistryError::Silent { .. } => &self.silent,
            _ => &self.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> RedisCounters {
        RedisCounters {
            commands: self.commands.load(Relaxed),
            unreachable: self.unreachable.load(Relaxed),
            silent: self.silent.load(Relaxed),
            refused: self.refused.load(Relaxed),
            connections: self.connections.load(Relaxed),
            cache_hits: self.hits.load(Relaxed),
            cache_misses: self.misses.load(Relaxed),
        }
    }
}
