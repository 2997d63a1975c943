//! All that the supervisor remembers between two events: the phase of every generation, what is owed and since when.
//! Pure data and questions about it; only `generation::step` changes it.
//! Surprise: no timer is ever set. The loop asks [`State::deadline`] and sends a `Tick`, so none can be stale.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::event::{Fingerprint, Limits, Number};

/// All that the supervisor knows of its generations; the sockets and processes are `process`'s.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) stage: Stage,
    /// Of the current configuration; of the first one until something serves.
    pub(super) limits: Limits,
    /// Every child that is not yet known to be gone.
    pub(super) children: BTreeMap<Number, Child>,
    /// The number given last.
    pub(super) last: Number,
    pub(super) reload: Reload,
    pub(super) files: Files,
    /// When a reload that failed by no fault of the files is tried again.
    pub(super) again_at: Option<Duration>,
    /// How long was waited for that.
    pub(super) again_after: Duration,
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
pub(super) struct Child {
    pub(super) phase: Phase,
    /// When this phase began.
    pub(super) since: Duration,
    pub(super) cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// At most one at a time.
    Starting(Start),
    /// At most one at a time.
    Serving,
    /// SIGTERM was sent; what still lives in it, once it has said so.
    Draining(Option<Live>),
    /// SIGKILL was sent, the end is not yet seen.
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// In force once this generation serves.
    pub(super) limits: Limits,
    /// What it is made of.
    pub(super) files: Option<Fingerprint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) connections: usize,
    pub(super) streams: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    First,
    Reload(Asked),
    Restart,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first start",
            Self::Reload(Asked::Signal) => "reload",
            Self::Reload(Asked::Files) => "files changed",
            Self::Reload(Asked::Failure) => "reload, another try",
            Self::Restart => "restart",
        })
    }
}

/// Who asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Signal,
    /// Files changed, and were left alone since.
    Files,
    /// Nobody, but the last one failed by no fault of the files.
    Failure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    Idle,
    /// Asked for while another start was under way: one is owed, however often it was asked.
    Owed(Asked),
    /// [`super::event::Effect::Load`] was given, its answer is awaited.
    Loading(Asked),
}

/// The files that the configuration rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Files {
    /// What they hold.
    pub(super) hold: Option<Fingerprint>,
    /// When they changed last.
    pub(super) changed: Duration,
    /// When they began to be different from what was tried.
    pub(super) unrest: Duration,
    /// What the last load found in them, whatever came of it.
    pub(super) tried: Option<Fingerprint>,
    /// What the generation is made of that serves, or served last.
    pub(super) served: Option<Fingerprint>,
}

/// Numbers that only grow, and when they last did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) reloads_ok: u64,
    pub(super) reloads_failed: u64,
    /// Starts because no generation was left, each try counted.
    pub(super) restarts: u64,
    pub(super) last_reload: Option<Reloaded>,
    /// When a reload last ended well.
    pub(super) last_success: Option<Duration>,
}

/// How a reload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reloaded {
    pub(super) at: Duration,
    /// Why the old generation serves on.
    pub(super) refused: Option<String>,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        Self {
            stage: Stage::Running,
            limits,
            children: BTreeMap::new(),
            last: 0,
            reload: Reload::Idle,
            files: Files {
                hold: None,
                changed: Duration::ZERO,
                unrest: Duration::ZERO,
                tried: None,
                served: None,
            },
            again_at: None,
            again_after: Duration::ZERO,
            backoff: Duration::ZERO,
            restart_at: None,
            counts: Counts::default(),
        }
    }

    /// When an [`Event::Tick`](super::event::Event::Tick) is due if nothing else happens before; time since the supervisor began.
    pub fn deadline(&self) -> Option<Duration> {
        let children = self.children.values().filter_map(|child| match (self.stage, child.phase) {
            (Stage::Stopping { .. }, Phase::Killed) | (Stage::Finished, _) => None,
            (Stage::Stopping { deadline, .. }, _) => Some(deadline),
            (Stage::Running, Phase::Starting(start)) => Some(child.since + start.limits.ready),
            (Stage::Running, Phase::Draining(_)) => Some(child.since + self.limits.drain),
            (Stage::Running, Phase::Serving | Phase::Killed) => None,
        });
        let idle = self.stage == Stage::Running && self.reload == Reload::Idle;
        let reloads = [self.settled_at(), self.again_at].into_iter().flatten().filter(|_| idle);
        children.chain(self.restart_at).chain(reloads).min()
    }

    /// When files that were never tried will have been left alone for long enough; those that are never left alone are not
    /// waited for without end.
    pub(super) fn settled_at(&self) -> Option<Duration> {
        /// Times the settling time.
        const AT_MOST: u32 = 10;
        let Files { changed, unrest, .. } = self.files;
        let settle = self.limits.settle;
        self.files.untried().then(|| (changed + settle).min(unrest + settle * AT_MOST))
    }

    pub(super) fn serving(&self) -> Option<Number> {
        self.children.iter().find(|(_, child)| child.phase == Phase::Serving).map(|(number, _)| *number)
    }

    /// Those that answer questions: they serve or drain.
    pub(super) fn answering(&self) -> impl Iterator<Item = Number> {
        let answers = |phase| matches!(phase, Phase::Serving | Phase::Draining(_));
        self.children.iter().filter(move |(_, child)| answers(child.phase)).map(|(number, _)| *number)
    }

    pub(super) fn starting(&self) -> Option<(Number, Child, Start)> {
        self.children.iter().find_map(|(number, child)| match child.phase {
            Phase::Starting(start) => Some((*number, *child, start)),
            _ => None,
        })
    }

    /// Oldest first, with the time since when.
    pub(super) fn draining(&self) -> Vec<(Number, Duration)> {
        let draining = self.children.iter().filter(|(_, child)| matches!(child.phase, Phase::Draining(_)));
        draining.map(|(number, child)| (*number, child.since)).collect()
    }
}

impl Files {
    /// Whether they hold what neither serves nor was found wanting.
    pub(super) fn untried(&self) -> bool {
        self.hold.is_some() && self.hold != self.tried && self.hold != self.served
    }
}
