//! The sentences in which the supervisor tells its log what happens to the generations.
//! Takes what `generation` decided, gives text and, for machines, fields; pure, so that the table tests can read the story too.
//! Surprise: every sentence about a failure says what still serves, because that is what one wants to know first.

use std::fmt;
use std::time::Duration;

use log::kv::Value;

use super::event::{Exit, Number};
use super::state::Cause;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Story {
    Starting {
        generation: Number,
        cause: Cause,
    },
    Ready {
        generation: Number,
        after: Duration,
    },
    /// First word from a generation that drains.
    Draining {
        generation: Number,
        connections: usize,
        streams: usize,
    },
    /// It drains, but not because we told it to.
    Leaving {
        generation: Number,
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
    ReloadIn {
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
        match self {
            Self::Leaving { .. }
            | Self::Killed { .. }
            | Self::NotReady { .. }
            | Self::ReloadRefused { .. }
            | Self::Died { .. } => true,
            Self::Starting { .. }
            | Self::Ready { .. }
            | Self::Draining { .. }
            | Self::Drained { .. }
            | Self::RestartIn { .. }
            | Self::ReloadIn { .. }
            | Self::Stopping { .. }
            | Self::Stopped => false,
        }
    }
}

/// What a sentence says, for machines.
pub type Fields<'s> = Vec<(&'static str, Value<'s>)>;

impl Story {
    /// The sentence's name and its numbers, under the same names in every sentence.
    pub fn fields(&self) -> Fields<'_> {
        let (event, mut fields) = match self {
            Self::Starting { generation, cause } => {
                ("starting", of(*generation, [("why", Value::from_display(cause))]))
            }
            Self::Ready { generation, after } => ("ready", of(*generation, [seconds(*after)])),
            Self::Draining { generation, connections, streams } => {
                let counts = [("connections", count(*connections)), ("streams", count(*streams))];
                ("draining", of(*generation, counts))
            }
            Self::Leaving { generation } => ("leaving", of(*generation, [])),
            Self::Drained { generation, after } => ("drained", of(*generation, [seconds(*after)])),
            Self::Killed { generation, why } => ("killed", of(*generation, [("why", Value::from(*why))])),
            Self::NotReady { generation, .. } => ("not_ready", of(*generation, [])),
            Self::ReloadRefused { .. } => ("reload_refused", Vec::new()),
            Self::Died { generation, after, .. } => ("died", of(*generation, [seconds(*after)])),
            Self::RestartIn { delay } => ("restart", vec![seconds(*delay)]),
            Self::ReloadIn { delay } => ("reload_again", vec![seconds(*delay)]),
            Self::Stopping { generations, within } => {
                ("stopping", vec![("generations", count(*generations)), seconds(*within)])
            }
            Self::Stopped => ("stopped", Vec::new()),
        };
        fields.push(("event", Value::from(event)));
        if let Self::NotReady { still: Some(still), .. } | Self::ReloadRefused { still: Some(still), .. } =
            self
        {
            fields.push(("still_serves", Value::from(*still)));
        }
        fields
    }
}

fn of<'s, const N: usize>(generation: Number, more: [(&'static str, Value<'s>); N]) -> Fields<'s> {
    let mut fields = vec![("generation", Value::from(generation))];
    fields.extend(more);
    fields
}

fn seconds(time: Duration) -> (&'static str, Value<'static>) {
    ("seconds", Value::from((time.as_secs_f64() * 1e3).round() / 1e3))
}

fn count(number: usize) -> Value<'static> {
    Value::from(u64::try_from(number).unwrap_or(u64::MAX))
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { generation, cause } => write!(f, "generation {generation} starts ({cause})"),
            Self::Ready { generation, after } => {
                write!(f, "generation {generation} ready in {}", Seconds(*after))
            }
            Self::Draining { generation, connections, streams } => write!(
                f,
                "generation {generation} drains {}, {} in all",
                Count(*streams, "stream"),
                Count(*connections, "connection")
            ),
            Self::Leaving { generation } => {
                write!(f, "generation {generation} leaves though the supervisor did not ask it to")
            }
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
            Self::ReloadIn { delay } => write!(f, "the reload is tried again in {}", Seconds(*delay)),
            Self::Stopping { generations, within } => {
                write!(
                    f,
                    "stopping: {} to drain within {}",
                    Count(*generations, "generation"),
                    Seconds(*within)
                )
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

/// A number and its noun: `1 stream`, `2 streams`.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
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
            Story::Draining { generation: 2, connections: 20, streams: 1 },
            Story::NotReady { generation: 4, reason: "no ready in time".into(), still: Some(3) },
        ];
        let expected = [
            "generation 3 ready in 1.1 s",
            "generation 2 drains 1 stream, 20 connections in all",
            "generation 4 is not fit to serve: no ready in time; generation 3 serves on",
        ];
        assert_eq!(lines.each_ref().map(Story::to_string), expected);
        assert_eq!(lines.each_ref().map(Story::is_trouble), [false, false, true]);
    }

    #[test]
    fn a_sentence_has_the_same_numbers_for_machines() {
        let fields = |story: Story| {
            let named = story.fields().into_iter().map(|(name, value)| format!("{name}={value}"));
            named.collect::<Vec<_>>().join(" ")
        };
        let ready = Story::Ready { generation: 3, after: Duration::from_micros(1_130_400) };
        assert_eq!(fields(ready), "generation=3 seconds=1.13 event=ready");
        let draining = Story::Draining { generation: 2, connections: 20, streams: 1 };
        assert_eq!(fields(draining), "generation=2 connections=20 streams=1 event=draining");
        let refused = Story::ReloadRefused { reason: "no such file".into(), still: Some(3) };
        assert_eq!(fields(refused), "event=reload_refused still_serves=3");
    }
}
