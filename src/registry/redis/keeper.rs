//! Keeps the connection: opens it, notices its end, opens the next, on a thread and a runtime of its own.
//! Takes complaints of those who use it, gives them the [`State`]; says in the log when Redis is lost and when it is back.
//! Surprise: redis-rs' `ConnectionManager` does much of this, but it lets commands queue while it reconnects, never notices a silent
//! server, and asks neither a sentinel nor the password file again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::link::{Complaint, State};
use super::tally::Tally;
use super::topology::{End, Servers};
use crate::config::settings;

/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lived shorter than this was none: the pauses go on growing.
const SETTLED: Duration = Duration::from_secs(5);

pub struct Keeper {
    servers: Servers,
    server: Arc<str>,
    state: watch::Sender<State>,
    complaints: mpsc::UnboundedReceiver<Complaint>,
    tally: Arc<Tally>,
    /// Since when Redis is out of reach, if that was said.
    lost: Option<Instant>,
}

impl Keeper {
    pub fn new(
        settings: &settings::Redis,
        server: Arc<str>,
        state: watch::Sender<State>,
        complaints: mpsc::UnboundedReceiver<Complaint>,
        tally: Arc<Tally>,
    ) -> Self {
        Self { servers: Servers::new(settings), server, state, complaints, tally, lost: None }
    }

    /// Gives the runtime of its thread.
    pub fn start(self) -> io::Result<Handle> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name("redis".into()).spawn(move || runtime.block_on(self.run()))?;
        Ok(handle)
    }

    /// Until nobody has a link any more.
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let opened = tokio::select! {
                opened = self.servers.open() => opened,
                () = gone(&mut self.complaints) => return,
            };
            match opened {
                Ok((connection, end)) => {
                    let number = self.tally.connections.fetch_add(1, Relaxed) + 1;
                    let begun = Instant::now();
                    self.found();
                    self.state.send_replace(State::Up(connection, number));
                    let Some(reason) = self.until_over(end, number).await else { return };
                    // Those who wait keep waiting for the first attempt, which comes at once.
                    self.state.send_replace(State::Connecting);
                    self.lose(&reason);
                    failures = if begun.elapsed() < SETTLED { failures + 1 } else { 0 };
                    if failures < 2 {
                        continue;
                    }
                    self.down(&reason);
                }
                Err(reason) => {
                    failures += 1;
                    self.lose(&reason);
                    self.down(&reason);
                }
            }
            tokio::select! {
                () = sleep(pause(failures)) => {}
                () = gone(&mut self.complaints) => return,
            }
        }
    }

    /// Why connection `number` is of no more use; `None` = nobody needs one.
    async fn until_over(&mut self, mut end: End, number: u64) -> Option<String> {
        loop {
            tokio::select! {
                reason = &mut end => return Some(reason.to_string()),
                complaint = self.complaints.recv() => match complaint? {
                    Complaint { number: of, reason } if of == number => return Some(reason),
                    _ => {}
                },
            }
        }
    }

    fn down(&self, reason: &str) {
        let since = self.lost.unwrap_or_else(Instant::now);
        self.state.send_replace(State::Down { since, reason: reason.into() });
    }

    /// Says once that Redis is lost, until it is found.
    fn lose(&mut self, reason: &str) {
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            warn!("registry {}: lost: {reason}; sessions whose owner is known go on", self.server);
        }
    }

    fn found(&mut self) {
        match self.lost.take() {
            Some(since) => info!("registry {}: back after {:.1?}", self.server, since.elapsed()),
            None => info!("registry {}: connected", self.server),
        }
    }
}

/// Until nobody has a link any more; complaints about a connection that is over already are let go.
async fn gone(complaints: &mut mpsc::UnboundedReceiver<Complaint>) {
    while complaints.recv().await.is_some() {}
}

/// Doubles with every failure; a random quarter is left out, so that many members do not come at the same moment.
fn pause(failures: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let whole = FIRST_PAUSE.saturating_mul(1 << (failures.saturating_sub(1)).min(10)).min(LONGEST_PAUSE);
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
