//! The one thread of a process that writes to the embedded registry, and the inbox in front of it.
//! Takes tasks from any thread, gives answers through oneshot channels; what waits together is committed together.
//! Surprise: it may wait for the write lock for ever (another generation may be stopped while it holds it). Only this thread
//! does; those who wait for an answer give up in time, and the inbox is bounded.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heed::MdbError;
use log::error;
use tokio::sync::oneshot;

use super::change::{Change, Tally};
use super::table::{Millis, Table};
use crate::registry::{Claim, Claimed, EmbeddedCounters, RegistryError, SessionKey};

/// Bounds of the inbox. A renewal beyond them is dropped: the session's next use renews.
const TASKS: usize = 8_192;
const RENEWALS: usize = 65_536;
/// How often what is over is removed and dead readers are cleared.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Rows of one sweeping transaction: bounds how long a task waits behind it.
const SWEEP_ROWS: usize = 256;
/// A write that somebody waits for.
pub enum Task {
    Claim { key: SessionKey, claim: Claim, answer: Answer<Claimed> },
    Release { key: SessionKey, claim: Claim, answer: Answer<bool> },
}

/// Where an outcome goes once it is committed.
pub struct Answer<T> {
    outcome: Option<T>,
    to: oneshot::Sender<Result<T, RegistryError>>,
}

/// What waits for the writer.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Batch>,
    filled: Condvar,
}

#[derive(Default)]
struct Batch {
    tasks: Vec<Task>,
    /// A set, so that a hot session waits once.
    renewals: HashSet<SessionKey>,
    closed: bool,
}

pub struct Writer<'t> {
    table: &'t Table,
    inbox: &'t Inbox,
    totals: &'t Totals,
    clock: fn() -> Millis,
}

/// [`EmbeddedCounters`] while they are counted.
#[derive(Default)]
pub struct Totals {
    commits: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    stale_readers: AtomicU64,
}

impl<T> Answer<T> {
    pub fn channel() -> (Self, oneshot::Receiver<Result<T, RegistryError>>) {
        let (to, receiver) = oneshot::channel();
        (Self { outcome: None, to }, receiver)
    }

    fn send(self, failure: Option<&RegistryError>) {
        let answer = match (failure, self.outcome) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(outcome)) => Ok(outcome),
            (None, None) => return,
        };
        // Whoever gave up waiting has no use for it.
        let _ = self.to.send(answer);
    }
}

impl Inbox {
    /// # Errors
    /// How many tasks wait already, if they are too many.
    pub fn put(&self, task: Task) -> Result<(), usize> {
        let mut waiting = self.lock();
        if waiting.tasks.len() >= TASKS {
            return Err(waiting.tasks.len());
        }
        waiting.tasks.push(task);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    pub fn put_renewal(&self, key: SessionKey) {
        let mut waiting = self.lock();
        if waiting.renewals.len() < RENEWALS && waiting.renewals.insert(key) {
            drop(waiting);
            self.filled.notify_one();
        }
    }

    /// The writer finishes what waits and ends.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Everything that waits; empty when nothing came until `until`.
    fn take(&self, until: Instant) -> Batch {
        let patience = until.saturating_duration_since(Instant::now());
        let waited = self.filled.wait_timeout_while(self.lock(), patience, |waiting| waiting.is_empty());
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let closed = waiting.closed;
        mem::replace(&mut *waiting, Batch { closed, ..Batch::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.renewals.is_empty() && !self.closed
    }

    fn answer(self, failure: Option<&RegistryError>) {
        for task in self.tasks {
            match task {
                Task::Claim { answer, .. } => answer.send(failure),
                Task::Release { answer, .. } => answer.send(failure),
            }
        }
    }
}

impl<'t> Writer<'t> {
    pub fn new(table: &'t Table, inbox: &'t Inbox, totals: &'t Totals, clock: fn() -> Millis) -> Self {
        Self { table, inbox, totals, clock }
    }

    /// Until the inbox is closed.
    pub fn run(&self) {
        let mut next_sweep = Instant::now();
        loop {
            let batch = self.inbox.take(next_sweep);
            let closed = batch.closed;
            self.write(batch);
            if closed {
                return;
            }
            if Instant::now() >= next_sweep {
                let more = self.sweep().unwrap_or_else(|e| {
                    error!("{}", self.failed("sweep", e));
                    false
                });
                next_sweep = Instant::now() + if more { Duration::ZERO } else { SWEEP_EVERY };
            }
        }
    }

    fn write(&self, mut batch: Batch) {
        if batch.tasks.is_empty() && batch.renewals.is_empty() {
            return;
        }
        let mut written = self.commit(&mut batch);
        if matches!(written, Err(heed::Error::Mdb(MdbError::MapFull))) {
            // The tables are bounded to much less than the file: somebody who reads keeps old pages, and may be dead.
            written = self.clear_dead_readers().and_then(|()| self.commit(&mut batch));
        }
        let failure = written.err().map(|e| self.failed("write", e));
        if let Some(failure) = &failure {
            error!("{failure}");
        }
        batch.answer(failure.as_ref());
    }

    fn commit(&self, batch: &mut Batch) -> heed::Result<()> {
        self.change(|change| {
            for task in &mut batch.tasks {
                match task {
                    Task::Claim { key, claim, answer } => answer.outcome = Some(change.claim(key, claim)?),
                    Task::Release { key, claim, answer } => {
                        answer.outcome = Some(change.release(key, claim)?)
                    }
                }
            }
            batch.renewals.iter().try_for_each(|key| change.renew(key))
        })
        .map(drop)
    }

    /// Removes what is over, if anything is; says whether there is more.
    fn sweep(&self) -> heed::Result<bool> {
        self.clear_dead_readers()?;
        if !self.table.sweep_due((self.clock)())? {
            return Ok(false);
        }
        let tally = self.change(|change| change.sweep(SWEEP_ROWS))?;
        Ok(tally.writes >= SWEEP_ROWS as u64)
    }

    fn clear_dead_readers(&self) -> heed::Result<()> {
        let cleared = self.table.env.clear_stale_readers()?;
        self.totals.stale_readers.fetch_add(cleared as u64, Relaxed);
        Ok(())
    }

    /// One write transaction, counted.
    fn change(&self, edit: impl FnOnce(&mut Change<'_>) -> heed::Result<()>) -> heed::Result<Tally> {
        let mut change = Change::begin(self.table, self.clock)?;
        edit(&mut change)?;
        let tally = change.commit()?;
        self.totals.add(tally);
        Ok(tally)
    }

    fn failed(&self, doing: &'static str, error: heed::Error) -> RegistryError {
        RegistryError::store(self.table.env.path(), doing, error)
    }
}

impl Totals {
    pub fn read(&self) -> EmbeddedCounters {
        EmbeddedCounters {
            commits: self.commits.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            expired: self.expired.load(Relaxed),
            stale_readers: self.stale_readers.load(Relaxed),
        }
    }

    fn add(&self, tally: Tally) {
        self.commits.fetch_add(u64::from(tally.writes > 0), Relaxed);
        self.evicted.fetch_add(tally.evicted, Relaxed);
        self.expired.fetch_add(tally.expired, Relaxed);
    }
}
