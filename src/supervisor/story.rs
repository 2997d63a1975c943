//! The sentences in which the supervisor tells its log what happens to the generations.
//! Takes what `generation` decided, gives text; pure, so that the table tests can read the story too.
//! Surprise: every sentence about a failure says what still serves, because that is what one wants to know first.

use std::fmt;
use std::time::Duration;

use super::event::{Exit, Number};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Story {
    Starting {
        generation: Number,
        why: &'static str,
    },
    Ready {
        generation: Number,
        after: Duration,
    },
    /// First word from a generation after it was told to drain.
    Draining {
        generation: Number,
        connections: usize,
        streams: usize,
    },
    Drained {
        generation: Number,
        after: Duration,
    },
    /// A generation that was still busy did not end by itself.
    Killed {
        generation: Number,
        why: &'static str,
    },
    NotReady {
        generation: Number,
        reason: String,
        still: Option<Number>,
    },
    ReloadRefused {
        reason: String,
        still: Option<Number>,
    },
    Died {
        generation: Number,
        exit: Exit,
        after: Duration,
    },
    RestartIn {
        delay: Duration,
    },
    Stopping {
        generations: usize,
        within: Duration,
    },
    Stopped,
}

impl Story {
    /// Whether somebody should look at it: these lines are errors, the others information.
    pub fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Killed { .. } | Self::NotReady { .. } | Self::ReloadRefused { .. } | Self::Died { .. }
        )
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { generation, why } => write!(f, "generation {generation} starts ({why})"),
            Self::Ready { generation, after } => {
                write!(f, "generation {generation} ready in {}", Seconds(*after))
            }
            Self::Draining { generation, connections, streams } => write!(
                f,
                "generation {generation} drains {streams} streams, {connections} connections in all"
            ),
            Self::Drained { generation, after } => {
                write!(f, "generation {generation} drained in {}", Seconds(*after))
            }
            Self::Killed { generation, why } => write!(f, "generation {generation} killed: {why}"),
            Self::NotReady { generation, reason, still } => {
                write!(f, "generation {generation} is not fit to serve: {reason}; {}", Still(*still))
            }
            Self::ReloadRefused { reason, still } => {
                write!(f, "reload refused: {reason}; {}", Still(*still))
            }
            Self::Died { generation, exit, after } => {
                write!(f, "generation {generation} died after {}: {exit}", Seconds(*after))
            }
            Self::RestartIn { delay } => {
                write!(f, "no generation serves, connections wait: next start in {}", Seconds(*delay))
            }
            Self::Stopping { generations, within } => {
                write!(f, "stopping: {generations} generations drain within {}", Seconds(*within))
            }
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// A time as people say it: `1.1 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

/// What goes on in spite of a failure.
struct Still(Option<Number>);

impl fmt::Display for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(generation) => write!(f, "generation {generation} serves on"),
            None => f.write_str("no generation serves, connections wait"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_reads_as_a_story() {
        let lines = [
            Story::Ready { generation: 3, after: Duration::from_millis(1_130) },
            Story::Draining { generation: 2, connections: 20, streams: 14 },
            Story::NotReady { generation: 4, reason: "no ready in time".into(), still: Some(3) },
        ];
        let expected = [
            "generation 3 ready in 1.1 s",
            "generation 2 drains 14 streams, 20 connections in all",
            "generation 4 is not fit to serve: no ready in time; generation 3 serves on",
        ];
        assert_eq!(lines.each_ref().map(Story::to_string), expected);
        assert_eq!(lines.each_ref().map(Story::is_trouble), [false, false, true]);
    }
}
