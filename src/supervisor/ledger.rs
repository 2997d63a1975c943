//! What all generations have counted together, also those that are gone. PURE: words of workers in, words for workers out.
//! A scrape asks one generation; it tells its own numbers and asks here for the others', who are asked in turn.
//! Surprise: what a generation has said once is remembered until its next word. So a sum that was shown is never taken back, whichever
//! generation is asked next and however the others end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::Number;
use crate::account::Snapshot;

/// How long the others may take; one that stands still counts with what it said last.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct Ledger {
    /// Of all generations that are gone.
    past: Snapshot,
    /// The last word of each that is not.
    known: BTreeMap<Number, Snapshot>,
    open: Vec<Question>,
}

struct Question {
    asker: Number,
    /// Who has not said its numbers yet.
    waiting: BTreeSet<Number>,
    until: Duration,
}

/// For the one that asked: what all others have counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub to: Number,
    pub others: Snapshot,
}

impl Ledger {
    /// A generation tells its numbers and wants to know those of the others; `others` are asked now.
    pub fn ask(
        &mut self,
        asker: Number,
        own: Snapshot,
        others: BTreeSet<Number>,
        now: Duration,
    ) -> Vec<Answer> {
        self.open.push(Question { asker, waiting: others, until: now + PATIENCE });
        self.counted(asker, own)
    }

    /// A generation tells its numbers.
    pub fn counted(&mut self, generation: Number, numbers: Snapshot) -> Vec<Answer> {
        self.known.insert(generation, numbers);
        self.heard(generation)
    }

    /// A generation is gone.
    pub fn gone(&mut self, generation: Number) -> Vec<Answer> {
        if let Some(last) = self.known.remove(&generation) {
            self.past.add(&last.bury());
        }
        self.open.retain(|question| question.asker != generation);
        self.heard(generation)
    }

    /// When somebody has waited long enough.
    pub fn deadline(&self) -> Option<Duration> {
        self.open.iter().map(|question| question.until).min()
    }

    pub fn late(&mut self, now: Duration) -> Vec<Answer> {
        self.answer(|question| question.until <= now)
    }

    fn heard(&mut self, generation: Number) -> Vec<Answer> {
        for question in &mut self.open {
            question.waiting.remove(&generation);
        }
        self.answer(|question| question.waiting.is_empty())
    }

    fn answer(&mut self, due: impl Fn(&Question) -> bool) -> Vec<Answer> {
        let answered: Vec<Number> =
            self.open.extract_if(.., |question| due(question)).map(|question| question.asker).collect();
        answered.into_iter().map(|to| Answer { to, others: self.others(to) }).collect()
    }

    fn others(&self, asker: Number) -> Snapshot {
        let mut sum = self.past.clone();
        for (_, numbers) in self.known.iter().filter(|(generation, _)| **generation != asker) {
            sum.add(numbers);
        }
        sum
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    fn numbers(count: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.count("r_total", "Requests", &[("", count)]);
        snapshot
    }

    /// Who is answered, and with how many.
    fn told(answers: &[Answer]) -> Vec<(Number, i64)> {
        answers.iter().map(|answer| (answer.to, answer.others.number("r_total", ""))).collect()
    }

    #[test]
    fn whoever_is_alone_is_answered_at_once() {
        let mut ledger = Ledger::default();
        assert_eq!(told(&ledger.ask(1, numbers(5), BTreeSet::new(), SOON)), [(1, 0)]);
        assert_eq!(ledger.deadline(), None);
    }

    #[test]
    fn the_others_are_waited_for_and_the_dead_remembered() {
        let mut ledger = Ledger::default();
        assert_eq!(told(&ledger.counted(1, numbers(5))), []);
        assert_eq!(told(&ledger.gone(1)), []);
        assert_eq!(told(&ledger.ask(3, numbers(1), BTreeSet::from([2]), SOON)), []);
        assert_eq!(told(&ledger.counted(2, numbers(10))), [(3, 15)]);
        assert_eq!(told(&ledger.ask(3, numbers(1), BTreeSet::from([2]), SOON)), []);
        assert_eq!(told(&ledger.gone(2)), [(3, 15)]);
    }

    #[test]
    fn who_stands_still_counts_with_its_last_word() {
        let mut ledger = Ledger::default();
        ledger.counted(1, numbers(7));
        assert_eq!(told(&ledger.ask(2, numbers(1), BTreeSet::from([1]), SOON)), []);
        assert_eq!(told(&ledger.late(SOON)), []);
        let late = ledger.deadline().unwrap();
        assert_eq!(told(&ledger.late(late)), [(2, 7)]);
        assert_eq!(ledger.deadline(), None);
    }

    #[test]
    fn two_may_ask_at_once_and_one_may_go() {
        let mut ledger = Ledger::default();
        ledger.ask(1, numbers(1), BTreeSet::from([2]), SOON);
        ledger.ask(2, numbers(2), BTreeSet::from([1]), SOON);
        // Each has told its numbers by asking; the first is answered by the second's question.
        assert_eq!(ledger.open.len(), 1);
        assert_eq!(told(&ledger.counted(1, numbers(3))), [(2, 3)]);
        ledger.ask(1, numbers(4), BTreeSet::from([2]), SOON);
        assert_eq!(told(&ledger.gone(1)), []);
        assert_eq!(ledger.deadline(), None);
        assert_eq!(told(&ledger.ask(2, numbers(2), BTreeSet::new(), SOON)), [(2, 4)]);
    }
}
