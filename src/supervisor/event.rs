//! The words between the supervisor's decisions (`generation`) and its deeds (`process`): events in, effects out.
//! Pure data. Two effects, `Load` and `Start`, are answered by events; the others are done when they are given.
//! Surprise: `Limits` travels with a candidate configuration, because a reload that fails must not change any.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::story::Story;

/// Generations are counted from 1; a number is never used twice.
pub type Number = u64;

/// The part of the settings that the decisions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the start of a generation to its `ready`.
    pub ready: Duration,
    /// How long one generation may drain.
    pub drain: Duration,
    /// How many generations may drain at a time.
    pub draining: usize,
    /// How long changed files must have been left alone before they are loaded.
    pub settle: Duration,
    /// How long all generations together may take after a stop was asked.
    pub shutdown: Duration,
}

/// What the files hold that a configuration rests on, its own among them; equal means nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

/// Whose fault it is that something could not start; decides the exit code of a first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// What the operator wrote: exit code 64.
    Config,
    /// The machine: exit code 1.
    System,
}

impl Fault {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Config => 64,
            Self::System => 1,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// The signal's name, `SIGKILL`.
    Signal(&'static str),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(name) => f.write_str(name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first configuration is loaded, its sockets are bound. Comes once.
    Begin,
    /// By a signal.
    ReloadAsked,
    /// The files hold something else than at the last look; also what a load has just found in them.
    Files(Fingerprint),
    /// Answer to [`Effect::Load`]: there is a candidate now, made of what the files hold.
    Loaded(Limits),
    /// Answer to [`Effect::Load`].
    LoadRefused {
        fault: Fault,
        reason: String,
    },
    /// Answer to [`Effect::Start`] when no process came of it.
    StartRefused {
        generation: Number,
        reason: String,
    },
    Ready {
        generation: Number,
    },
    /// The worker gave up before it was ready, or the sockets could not be handed to it.
    Failed {
        generation: Number,
        fault: Fault,
        reason: String,
    },
    /// It drains; what still lives in it.
    Live {
        generation: Number,
        connections: usize,
        streams: usize,
    },
    Exited {
        generation: Number,
        exit: Exit,
    },
    StopAsked,
    /// Nothing happened but time.
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read and check the configuration and bind its new addresses: answered by `Loaded` or `LoadRefused`.
    Load,
    /// Start a worker with this configuration and hand it the sockets.
    Start {
        generation: Number,
        with: Which,
    },
    /// The candidate is the current configuration from now on; sockets only the old one had are closed.
    Adopt,
    /// The candidate is forgotten; sockets only it had are closed.
    Discard,
    /// SIGTERM: drain, then exit.
    Terminate(Number),
    /// SIGKILL.
    Kill(Number),
    /// Nobody will accept any more: the supervisor's own sockets go, so that clients are refused instead of waiting, and no
    /// generation waits for idle connections.
    Close,
    Tell(Story),
    /// All children are gone: end with this exit code.
    Exit(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that was loaded last and has not served yet.
    Candidate,
    /// The one that served last.
    Current,
}
