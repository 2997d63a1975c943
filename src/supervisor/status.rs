//! What the workers show of the supervisor's state: numbers for `/metrics`, the list of generations for `/generations`. PURE.
//! Takes the state and a clock that turns its times into seconds since 1970, gives a [`Status`].
//! Surprise: nothing decides when to send it. Whatever changes it is news.

use std::time::Duration;

use super::control::{Generation, Life, Outcome, Reloaded, Status};
use super::event::Number;
use super::state::{Child, Phase, State};

/// `unix`: of a time since the supervisor began.
pub fn of(state: &State, unix: &dyn Fn(Duration) -> u64) -> Status {
    let counts = &state.counts;
    Status {
        began: unix(Duration::ZERO),
        reloads_ok: counts.reloads_ok,
        reloads_failed: counts.reloads_failed,
        last_reload: counts.last_reload.as_ref().map(|reload| Reloaded {
            at: unix(reload.at),
            result: if reload.refused.is_none() { Outcome::Ok } else { Outcome::Failed },
            reason: reload.refused.clone(),
        }),
        last_success: counts.last_success.map(unix),
        restarts: counts.restarts,
        generations: state
            .children
            .iter()
            .map(|(generation, child)| shown(*generation, child, unix(child.since)))
            .collect(),
    }
}

fn shown(generation: Number, child: &Child, since: u64) -> Generation {
    let (life, live) = match child.phase {
        Phase::Starting(_) => (Life::Starting, None),
        Phase::Serving => (Life::Serving, None),
        Phase::Draining(live) => (Life::Draining, live),
        Phase::Killed => (Life::Killed, None),
    };
    Generation {
        generation,
        state: life,
        since,
        cause: child.cause.to_string(),
        connections: live.map(|live| live.connections),
        streams: live.map(|live| live.streams),
    }
}
