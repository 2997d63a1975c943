//! Which lines are written while one kind of them floods: so many a second, and from time to time how many more there were.
//! Takes the place in the code that a line comes from, what it is about, and the time; gives yes or no, and the sums when they are due. PURE.
//! Surprise: a kind is a place in the code and not a text, because texts of one kind differ by what the attacker chose.

use std::collections::HashMap;
use std::time::Duration;

use log::Level;

/// How long lines that are not written are gathered into one sum.
pub const EVERY: Duration = Duration::from_secs(10);

/// Lines of one kind come from one place in the code and are about one thing; access lines are a kind of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    Place {
        file: &'static str,
        line: u32,
        /// The listener or peer that the line names, so that the flood at one hides nothing of another. It is one of a few, which the
        /// configuration names: each is remembered.
        about: Option<String>,
    },
    Access,
}

/// Lines of one kind that were not written.
#[derive(Debug, PartialEq, Eq)]
pub struct Sum {
    pub more: u64,
    pub over: Duration,
    pub level: Level,
    pub about: Option<String>,
    /// The last line of the kind that was written; empty for access lines.
    pub example: String,
}

#[derive(Debug)]
pub struct Flood {
    /// Lines of one kind a second; `None` = all.
    burst: Option<u32>,
    access_burst: Option<u32>,
    kinds: HashMap<Kind, Seen>,
}

#[derive(Debug)]
struct Seen {
    second: u64,
    in_second: u32,
    more: u64,
    /// When the first line was held back that no sum has told yet.
    since: Duration,
    level: Level,
    example: String,
}

impl Flood {
    pub fn new(burst: Option<u32>, access_burst: Option<u32>) -> Self {
        Self { burst, access_burst, kinds: HashMap::new() }
    }

    pub fn set_bursts(&mut self, burst: Option<u32>, access_burst: Option<u32>) {
        (self.burst, self.access_burst) = (burst, access_burst);
    }

    /// Whether every line of this kind is written anyway.
    pub fn takes_all(&self, kind: &Kind) -> bool {
        self.burst_of(kind).is_none()
    }

    /// Whether a line is written. `text`: what it says; asked for only where it becomes the example of a flood.
    pub fn takes(&mut self, kind: Kind, level: Level, now: Duration, text: impl FnOnce() -> String) -> bool {
        let Some(burst) = self.burst_of(&kind) else { return true };
        let seen = self.kinds.entry(kind).or_insert_with(|| Seen::new(level));
        if seen.second != now.as_secs() {
            (seen.second, seen.in_second) = (now.as_secs(), 0);
        }
        seen.in_second = seen.in_second.saturating_add(1);
        if seen.in_second <= burst {
            if seen.in_second == burst {
                seen.example = text();
            }
            return true;
        }
        if seen.more == 0 {
            (seen.since, seen.level) = (now, level);
        }
        seen.more += 1;
        false
    }

    /// The sums that are due; with `all`, those that have only begun too.
    pub fn sums(&mut self, now: Duration, all: bool) -> Vec<Sum> {
        let due = |seen: &Seen| seen.more > 0 && (all || now.saturating_sub(seen.since) >= EVERY);
        let due = self.kinds.iter_mut().filter(|(_, seen)| due(seen));
        due.map(|(kind, seen)| seen.sum(kind, now)).collect()
    }

    fn burst_of(&self, kind: &Kind) -> Option<u32> {
        match kind {
            Kind::Place { .. } => self.burst,
            Kind::Access => self.access_burst,
        }
    }
}

impl Seen {
    fn new(level: Level) -> Self {
        Self { second: 0, in_second: 0, more: 0, since: Duration::ZERO, level, example: String::new() }
    }

    fn sum(&mut self, kind: &Kind, now: Duration) -> Sum {
        let about = match kind {
            Kind::Place { about, .. } => about.clone(),
            Kind::Access => None,
        };
        Sum {
            more: std::mem::take(&mut self.more),
            over: now.saturating_sub(self.since),
            level: self.level,
            about,
            example: self.example.clone(),
        }
    }
}

/// `1,234` of 1234.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Kind = Kind::Place { file: "src/somewhere.rs", line: 7, about: None };
    const ELSEWHERE: Kind = Kind::Place { file: "src/somewhere.rs", line: 8, about: None };

    /// The same place, and what its lines are about.
    fn about(what: &str) -> Kind {
        Kind::Place { file: "src/somewhere.rs", line: 7, about: Some(what.to_owned()) }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many of `lines` are written.
    fn written(flood: &mut Flood, kind: &Kind, now: Duration, lines: u32) -> usize {
        (0..lines)
            .filter(|line| flood.takes(kind.clone(), Level::Warn, now, || format!("line {line}")))
            .count()
    }

    #[test]
    fn a_flood_is_cut_a_second_and_summed_up() {
        let mut flood = Flood::new(Some(3), None);
        assert_eq!(written(&mut flood, &PLACE, at(5_000), 1_000), 3);
        assert_eq!(written(&mut flood, &ELSEWHERE, at(5_000), 2), 2, "another kind is another matter");
        assert_eq!(written(&mut flood, &PLACE, at(6_000), 240), 3, "a new second");
        assert_eq!(flood.sums(at(14_999), false), []);
        let sum = Sum {
            more: 997 + 237,
            over: at(10_000),
            level: Level::Warn,
            about: None,
            example: "line 2".into(),
        };
        assert_eq!(flood.sums(at(15_000), false), [sum]);
        assert_eq!(flood.sums(at(60_000), true), [], "told once");
    }

    #[test]
    fn the_flood_about_one_hides_nothing_about_another() {
        let mut flood = Flood::new(Some(3), None);
        let (public, calm) = (about("listener public"), about("listener calm"));
        assert_eq!(written(&mut flood, &public, at(0), 1_000), 3);
        assert_eq!(written(&mut flood, &calm, at(0), 2), 2);
        let told = flood.sums(at(0), true);
        let told: Vec<_> = told.iter().map(|sum| (sum.about.as_deref(), sum.more)).collect();
        assert_eq!(told, [(Some("listener public"), 997)]);
    }

    #[test]
    fn the_end_tells_what_has_only_begun() {
        let mut flood = Flood::new(Some(1), None);
        assert_eq!(written(&mut flood, &PLACE, at(1_000), 3), 1);
        assert_eq!(flood.sums(at(1_500), true).len(), 1);
    }

    #[test]
    fn access_lines_are_cut_only_where_that_was_asked_for() {
        let mut flood = Flood::new(Some(1), None);
        assert_eq!(written(&mut flood, &Kind::Access, at(0), 50), 50);
        let mut flood = Flood::new(None, Some(5));
        assert_eq!(written(&mut flood, &Kind::Access, at(0), 50), 5);
        assert_eq!(written(&mut flood, &PLACE, at(0), 50), 50);
    }

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 7, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }
}
