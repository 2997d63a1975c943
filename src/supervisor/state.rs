//! All that the supervisor remembers between two events: the phase of every generation, what is owed and since when.
//! Pure data and questions about it; only `generation::step` changes it.
//! Surprise: no timer is ever set. The loop asks [`State::deadline`] and sends a `Tick`, so none can be stale.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Counts, Limits, Number};

/// All that the supervisor knows of its generations; the sockets and processes are `process`'s.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) stage: Stage,
    /// Of the current configuration; of the first one until something serves.
    pub(super) limits: Limits,
    /// Every child that is not yet known to be gone.
    pub(super) children: BTreeMap<Number, Phase>,
    /// The number given last.
    pub(super) last: Number,
    pub(super) reload: Reload,
    pub(super) backoff: Duration,
    pub(super) restart_at: Option<Duration>,
    pub(super) counts: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    Stopping { deadline: Duration, code: u8 },
    Finished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// At most one at a time.
    Starting(Start),
    /// At most one at a time.
    Serving { since: Duration },
    /// SIGTERM was sent.
    Draining { since: Duration, told: bool },
    /// SIGKILL was sent, the end is not yet seen.
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) since: Duration,
    pub(super) cause: Cause,
    /// In force once this generation serves.
    pub(super) limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    First,
    Reload,
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    Idle,
    /// Asked for while another start was under way: one is owed, however often it was asked.
    Owed,
    /// [`Effect::Load`] was given, its answer is awaited.
    Loading,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        Self {
            stage: Stage::Running,
            limits,
            children: BTreeMap::new(),
            last: 0,
            reload: Reload::Idle,
            backoff: Duration::ZERO,
            restart_at: None,
            counts: Counts::default(),
        }
    }

    /// When an [`Event::Tick`] is due if nothing else happens before; time since the supervisor began.
    pub fn deadline(&self) -> Option<Duration> {
        let children = self.children.values().filter_map(|phase| match (self.stage, phase) {
            (Stage::Stopping { .. }, Phase::Killed) | (Stage::Finished, _) => None,
            (Stage::Stopping { deadline, .. }, _) => Some(deadline),
            (Stage::Running, Phase::Starting(start)) => Some(start.since + start.limits.ready),
            (Stage::Running, Phase::Draining { since, .. }) => Some(*since + self.limits.drain),
            (Stage::Running, Phase::Serving { .. } | Phase::Killed) => None,
        });
        children.chain(self.restart_at).min()
    }

    pub(super) fn serving(&self) -> Option<Number> {
        self.children
            .iter()
            .find(|(_, phase)| matches!(phase, Phase::Serving { .. }))
            .map(|(number, _)| *number)
    }

    /// Those that answer questions: they serve or drain.
    pub(super) fn answering(&self) -> impl Iterator<Item = Number> {
        let answers = |phase: &Phase| matches!(phase, Phase::Serving { .. } | Phase::Draining { .. });
        self.children.iter().filter(move |(_, phase)| answers(phase)).map(|(number, _)| *number)
    }

    pub(super) fn starting(&self) -> Option<(Number, Start)> {
        self.children.iter().find_map(|(number, phase)| match phase {
            Phase::Starting(start) => Some((*number, *start)),
            _ => None,
        })
    }

    /// Oldest first.
    pub(super) fn draining(&self) -> Vec<(Number, Duration)> {
        let since = |phase: &Phase| match phase {
            Phase::Draining { since, .. } => Some(*since),
            _ => None,
        };
        self.children.iter().filter_map(|(number, phase)| Some((*number, since(phase)?))).collect()
    }
}
