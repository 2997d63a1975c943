//! Keeps a line: opens its connection, notices the end, opens the next.
//! Takes complaints of those who use it, gives them the [`State`]; says in the log when Redis is lost and when it is back.
//! Surprise: redis-rs' `ConnectionManager` does much of this, but it lets commands queue while it reconnects, never notices a silent
//! server, and asks neither a sentinel nor the password file again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use log::{info, warn};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::dial::{Dialer, Ended};
use super::line::{Complaint, Kept, State};
use super::source::Source;
use super::tally::Tally;

/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lived shorter than this was none: the pauses go on growing.
const SETTLED: Duration = Duration::from_secs(5);

pub struct Keeper {
    pub source: Source,
    pub dialer: Arc<Dialer>,
    pub kept: Kept,
    /// How the server is called in the log.
    pub name: Arc<str>,
    pub tally: Arc<Tally>,
}

impl Keeper {
    /// Until nobody has the line any more.
    pub async fn run(mut self) {
        let mut failures = 0;
        let mut lost = Lost(None);
        loop {
            let opened = tokio::select! {
                opened = self.source.open(&self.dialer) => opened,
                () = gone(&mut self.kept.complaints) => return,
            };
            let reason = match opened {
                Ok((wire, ended)) => {
                    let number = self.tally.connections.fetch_add(1, Relaxed) + 1;
                    let begun = Instant::now();
                    lost.found(&self.name);
                    self.kept.state.send_replace(State::Up(wire, number));
                    let Some(reason) = self.until_over(ended, number).await else { return };
                    // Whoever asks waits for the first attempt, which comes at once.
                    self.kept.state.send_replace(State::Connecting);
                    lost.lose(&self.name, &reason);
                    failures = if begun.elapsed() < SETTLED { failures + 1 } else { 0 };
                    if failures < 2 {
                        continue;
                    }
                    reason
                }
                Err(reason) => {
                    failures += 1;
                    reason
                }
            };
            let since = lost.lose(&self.name, &reason);
            self.kept.state.send_replace(State::Down { since, reason: reason.into() });
            tokio::select! {
                () = sleep(pause(failures)) => {}
                () = gone(&mut self.kept.complaints) => return,
            }
        }
    }

    /// Why connection `number` is of no more use; `None` = nobody needs one.
    async fn until_over(&mut self, mut ended: Ended, number: u64) -> Option<String> {
        loop {
            tokio::select! {
                reason = &mut ended => return Some(reason.unwrap_or_default()),
                complaint = self.kept.complaints.recv() => match complaint? {
                    Complaint { number: of, reason } if of == number => return Some(reason),
                    _ => {}
                },
            }
        }
    }
}

/// Until nobody has the line any more; complaints about a connection that is over already are let go.
async fn gone(complaints: &mut mpsc::UnboundedReceiver<Complaint>) {
    while complaints.recv().await.is_some() {}
}

/// Since when Redis is out of reach. Says so once, and once that it is back.
pub struct Lost(pub Option<Instant>);

impl Lost {
    pub fn lose(&mut self, name: &str, reason: &str) -> Instant {
        *self.0.get_or_insert_with(|| {
            warn!("registry {name}: out of reach: {reason}; sessions whose owner is known go on");
            Instant::now()
        })
    }

    pub fn found(&mut self, name: &str) {
        match self.0.take() {
            Some(since) => info!("registry {name}: back after {:.1?}", since.elapsed()),
            None => info!("registry {name}: connected"),
        }
    }
}

/// Doubles with every failure; up to a quarter is left out at random, so that many members do not come at the same moment.
pub fn pause(failures: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let doubled = 1 << failures.saturating_sub(1).min(10);
    let whole = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
    let part = RandomState::new().hash_one(failures) % 256;
    whole.mul_f64(1.0 - part as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_bound_and_are_never_all_alike() {
        for (failures, whole) in
            [(0, 50), (1, 50), (2, 100), (3, 200), (6, 1_600), (7, 2_000), (u32::MAX, 2_000)]
        {
            let pauses: Vec<_> = (0..100).map(|_| pause(failures)).collect();
            let whole = Duration::from_millis(whole);
            assert!(pauses.iter().all(|pause| *pause <= whole && *pause > whole.mul_f64(0.74)), "{failures}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }
}
