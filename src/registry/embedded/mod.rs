//! The embedded registry: one LMDB file, shared by overlapping generations; it survives reload, kill and restart of the sidecar.
//! Takes what `Registry` takes. A read is a transaction on the caller's own thread (a microsecond, no lock); a write goes to the
//! one writer thread of the process and is awaited for a bounded time.
//! Surprise: nothing is ever synced to disk. What a killed process had committed is the kernel's to keep.

mod change;
mod folder;
mod table;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::debug;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Claim, Claimed, EmbeddedCounters, RegistryError, SessionKey};
use crate::config::settings;
use folder::Folder;
use table::{Millis, Rules, Table};
use writer::{Answer, Inbox, Task, Totals, Writer};

/// Longest wait for a write; a write itself takes tens of microseconds.
const PATIENCE: Duration = Duration::from_millis(100);
/// Room in the file for one session; a quarter of it is for its rows, which take about 300 bytes.
const ROOM_PER_SESSION: usize = 4_096;
/// Smallest file size limit. It is address space, not memory or disk; and one size for all usual `max_sessions` lets generations
/// with different ones share the file (LMDB refuses a file that has outgrown a process's map).
const LEAST_ROOM: usize = 1 << 30;

pub struct Embedded {
    shared: Arc<Shared>,
    path: PathBuf,
}

/// What the writer thread keeps alive, too.
struct Shared {
    folder: Folder,
    inbox: Inbox,
    totals: Totals,
}

impl Embedded {
    /// `ttl`: how long a session is remembered after its last use.
    pub fn open(settings: &settings::Embedded, ttl: Duration) -> Result<Self, RegistryError> {
        Self::open_with_room(settings, ttl, room(settings))
    }

    /// `room`: how large the file may grow, in bytes; a multiple of the page size.
    fn open_with_room(
        settings: &settings::Embedded,
        ttl: Duration,
        room: usize,
    ) -> Result<Self, RegistryError> {
        let path = settings.path.clone();
        let rules = Rules::new(ttl, settings.max_sessions, room);
        let folder = Folder::open(&path, rules, room)?;
        let shared = Arc::new(Shared { folder, inbox: Inbox::default(), totals: Totals::default() });
        let writers = Arc::clone(&shared);
        thread::Builder::new()
            .name("registry".into())
            .spawn(move || Writer::new(&writers.folder.table, &writers.inbox, &writers.totals, now).run())
            .map_err(|e| RegistryError::folder(&path, "start its writer thread", e))?;
        Ok(Self { shared, path })
    }

    pub fn ask(&self, key: &SessionKey) -> Result<Option<Claim>, RegistryError> {
        self.table().ask(key, now()).map_err(|e| RegistryError::store(&self.path, "read", e))
    }

    pub fn look(&self, key: &SessionKey) -> Result<Option<(Claim, Duration)>, RegistryError> {
        let found = self.table().ask_until(key, now());
        let found = found.map_err(|e| RegistryError::store(&self.path, "read", e))?;
        Ok(found.map(|(claim, left)| (claim, Duration::from_millis(left))))
    }

    pub async fn claim(&self, key: &SessionKey, claim: &Claim) -> Result<Claimed, RegistryError> {
        let (answer, receiver) = Answer::channel();
        self.written(Task::Claim { key: *key, claim: claim.clone(), answer }, receiver).await
    }

    pub fn renew(&self, key: &SessionKey) {
        match self.table().renewal_due(key, now()) {
            Ok(true) => self.shared.inbox.put_renewal(*key),
            Ok(false) => {}
            // Whoever asks for the session is told; this is only its echo.
            Err(e) => debug!("{}", RegistryError::store(&self.path, "read", e)),
        }
    }

    pub async fn release(&self, key: &SessionKey, claim: &Claim) -> Result<bool, RegistryError> {
        let (answer, receiver) = Answer::channel();
        self.written(Task::Release { key: *key, claim: claim.clone(), answer }, receiver).await
    }

    /// Both writes wait for the writer together, so that one commit holds both, or at least their order.
    pub async fn bury(&self, key: &SessionKey, claim: &Claim) -> Result<bool, RegistryError> {
        let word = claim.of_nobody();
        let (released, claimed) = tokio::join!(self.release(key, claim), self.claim(key, &word));
        claimed?;
        released
    }

    pub fn count(&self) -> Result<u64, RegistryError> {
        self.table().count().map_err(|e| RegistryError::store(&self.path, "count", e))
    }

    pub fn counters(&self) -> EmbeddedCounters {
        self.shared.totals.read()
    }

    fn table(&self) -> &Table {
        &self.shared.folder.table
    }

    async fn written<T>(
        &self,
        task: Task,
        receiver: oneshot::Receiver<Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let path = || self.path.clone();
        self.shared.inbox.put(task).map_err(|waiting| RegistryError::Busy { path: path(), waiting })?;
        match timeout(PATIENCE, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RegistryError::Stopped { path: path() }),
            Err(_) => Err(RegistryError::Timeout { path: path(), after: PATIENCE }),
        }
    }
}

/// The claim of a session and for how long it will stand, read beside a running Outrigger without disturbing it.
pub fn look(
    settings: &settings::Embedded,
    ttl: Duration,
    key: &SessionKey,
) -> Result<Option<(Claim, Duration)>, RegistryError> {
    let room = room(settings);
    let Some(table) = folder::look(&settings.path, Rules::new(ttl, settings.max_sessions, room), room)?
    else {
        return Ok(None);
    };
    let found = table.ask_until(key, now()).map_err(|e| RegistryError::store(&settings.path, "read", e))?;
    Ok(found.map(|(claim, left)| (claim, Duration::from_millis(left))))
}

fn room(settings: &settings::Embedded) -> usize {
    let room = settings.max_sessions.saturating_mul(ROOM_PER_SESSION).max(LEAST_ROOM);
    room.checked_next_power_of_two().unwrap_or(LEAST_ROOM)
}

impl Drop for Embedded {
    /// The writer finishes what waits and then closes the file; nobody waits for it, as it may be waiting for the write lock.
    fn drop(&mut self) {
        self.shared.inbox.close();
    }
}

fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
