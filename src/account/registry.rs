//! The registry's own counters, as they are called outside.
//! Takes what this process did since it opened the registry, adds it to a [`Snapshot`].
//! Surprise: each kind of registry has metrics of its own; of the other kind's there is none, not a zero.

use super::Snapshot;
use crate::registry::{Counters, EmbeddedCounters, RedisCounters};

pub fn add(counters: Counters, to: &mut Snapshot) {
    match counters {
        Counters::Embedded(EmbeddedCounters { commits, evicted, expired, stale_readers }) => {
            to.count("outrigger_registry_commits_total", "Writes to the registry file", &[("", commits)]);
            to.count(
                "outrigger_registry_sessions_removed_total",
                "Sessions forgotten by the registry: expired = in time, evicted = for want of room",
                &[("reason=\"evicted\"", evicted), ("reason=\"expired\"", expired)],
            );
            to.count(
                "outrigger_registry_stale_readers_total",
                "Places of dead processes in the registry file that were cleared",
                &[("", stale_readers)],
            );
        }
        Counters::Redis(RedisCounters {
            commands,
            unreachable,
            silent,
            refused,
            connections,
            cache_hits,
            cache_misses,
        }) => {
            to.count(
                "outrigger_registry_commands_total",
                "Commands given to Redis, whatever became of them",
                &[("", commands)],
            );
            to.count(
                "outrigger_registry_failures_total",
                "Commands that Redis did not take, did not answer in time, or answered with an error",
                &[
                    ("reason=\"refused\"", refused),
                    ("reason=\"silent\"", silent),
                    ("reason=\"unreachable\"", unreachable),
                ],
            );
            to.count(
                "outrigger_registry_connections_total",
                "Connections opened to Redis",
                &[("", connections)],
            );
            to.count(
                "outrigger_registry_lookups_total",
                "Owners asked for: hit = known to this process, miss = only to Redis",
                &[("result=\"hit\"", cache_hits), ("result=\"miss\"", cache_misses)],
            );
        }
    }
}
