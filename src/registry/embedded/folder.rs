//! The folder of the embedded registry: finds it, doubts it, and opens LMDB in it.
//! Takes the configured path, gives an open environment; content that cannot be trusted is set aside and an empty registry begun.
//! Surprise: a process killed at any moment cannot damage the files, but a machine that went down can, since nothing is ever
//! synced; so what was written before the last boot is set aside, too.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use heed::{Env, EnvFlags, EnvOpenOptions, MdbError};
use log::{info, warn};

use super::table::{Rules, Table};
use crate::registry::RegistryError;

/// The layout's version is in the name: another layout would be another folder.
const DATA: &str = "sessions-1";
const ASIDE: &str = "sessions-1.aside";
/// Threads of all generations that may read; LMDB's own default (126) is short of five generations on a big machine.
const READERS: u32 = 1024;
/// How long another process may take to check the folder before we go in without waiting for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many processes in a row may die while they open the folder until we take its content for the cause.
const DEATHS: usize = 2;
/// More than this, in bytes, cannot be missing at the end of a good file: one transaction takes less.
const MOST_UNWRITTEN: u64 = 64 << 20;

/// The folder, open. Holds the shared lock that tells later generations that the content is in use and needs no check.
pub struct Folder {
    pub table: Table,
    /// Below the table, so that the file is closed before the lock goes.
    _in_use: InUse,
}

struct InUse(File);

impl Folder {
    /// # Errors
    /// Only what keeps an empty registry from opening, too: rights, disk, descriptors.
    pub fn open(path: &Path, rules: Rules, map_size: usize) -> Result<Self, RegistryError> {
        fs::create_dir_all(path).map_err(|e| RegistryError::folder(path, "make the folder", e))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(|e| RegistryError::folder(path, "open its lock file", e))?;
        let alone = enter(&lock).map_err(|e| RegistryError::folder(path, "lock it", e))?;

        let data = Data { root: path, path: path.join(DATA), alone };
        if let Some(doubt) = data.doubt() {
            data.set_aside(&doubt)?;
        }
        let table = match data.open(rules, map_size) {
            Err(Refusal::Damaged(damage)) => {
                data.set_aside(&damage)?;
                data.open(rules, map_size)
            }
            other => other,
        }
        .map_err(|refusal| refusal.into_error(path))?;

        if alone {
            info!("registry {}: {} sessions found", path.display(), table.count().unwrap_or_default());
            lock.lock_shared().map_err(|e| RegistryError::folder(path, "lock it", e))?;
        }
        Ok(Self { table, _in_use: InUse(lock) })
    }
}

/// The tables as they are, beside whoever serves from them: nothing is checked, made, locked or written. `None`: there is no
/// content yet, or none that outlived the machine's last start.
///
/// # Errors
/// What is there cannot be read.
pub fn look(path: &Path, rules: Rules, map_size: usize) -> Result<Option<Table>, RegistryError> {
    // The lock stays free, as a worker that begins meanwhile must find that it is the only one.
    let data = Data { root: path, path: path.join(DATA), alone: true };
    if !data.path.join("data.mdb").exists() || data.doubt().is_some() {
        return Ok(None);
    }
    let env = open_env(&data.path, map_size, EnvFlags::READ_ONLY).map_err(Refusal::from);
    env.and_then(|env| table_in_use(env, rules)).map(Some).map_err(|refusal| refusal.into_error(path))
}

impl Drop for InUse {
    /// Closing is not enough: a child that is forked at this moment holds a copy of the descriptor, and the lock with it.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Whether we are the only process in the folder. If so the lock keeps others waiting until we have checked the content.
fn enter(lock: &File) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => return Ok(true),
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {}
    }
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match lock.try_lock_shared() {
            Ok(()) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(2)),
        }
    }
    Ok(false)
}

/// The LMDB folder within the configured one.
struct Data<'p> {
    root: &'p Path,
    path: PathBuf,
    /// No other process is in it: it is ours to check and to complete.
    alone: bool,
}

enum Refusal {
    /// The content is the reason, an empty registry would open.
    Damaged(String),
    /// Anything else.
    Unusable(String),
}

impl Data<'_> {
    /// Why the content is not worth opening, if that can be told from outside.
    fn doubt(&self) -> Option<String> {
        let found = fs::symlink_metadata(&self.path).ok()?;
        if !found.is_dir() {
            return Some("it is not a folder".into());
        }
        if !self.alone {
            return None;
        }
        let attempts = fs::metadata(self.attempts()).map_or(0, |attempts| attempts.len());
        if attempts >= DEATHS as u64 {
            return Some(format!("the last {attempts} processes died while they opened it"));
        }
        let written = fs::read_to_string(self.boot()).unwrap_or_default();
        let restarted = self.path.join("data.mdb").exists() && written != boot_id();
        restarted.then(|| "the machine was restarted since it was written".into())
    }

    /// Keeps the content, one deep, for whoever wants to look at it. Another process that still has it open goes on with it there.
    fn set_aside(&self, reason: &str) -> Result<(), RegistryError> {
        let aside = self.root.join(ASIDE);
        warn!(
            "registry {}: setting its content aside as {ASIDE} and starting empty: {reason}; \
             clients of forgotten sessions may have to initialise again",
            self.root.display()
        );
        let removed = if aside.is_dir() { fs::remove_dir_all(&aside) } else { fs::remove_file(&aside) };
        removed
            .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
            .and_then(|()| fs::rename(&self.path, &aside))
            .map_err(|e| RegistryError::folder(self.root, "set its content aside", e))
    }

    fn open(&self, rules: Rules, map_size: usize) -> Result<Table, Refusal> {
        let fresh = !self.path.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        if !self.alone && !fresh {
            return table_in_use(open_env(&self.path, map_size, EnvFlags::empty())?, rules);
        }
        let mut attempts = OpenOptions::new().create(true).append(true).open(self.attempts())?;
        attempts.write_all(b".")?;
        fs::write(self.boot(), boot_id())?;
        let env = open_env(&self.path, map_size, EnvFlags::empty()).map_err(Refusal::from);
        let table = env.and_then(|env| checked_table(env, rules));
        // Whether it opened or not: we did not die of it.
        fs::remove_file(self.attempts())?;
        table
    }

    /// One byte for each process that began to open the content; gone once one succeeded.
    fn attempts(&self) -> PathBuf {
        self.path.join("opening")
    }

    /// The run of the machine that the content was written in; written before the content.
    fn boot(&self) -> PathBuf {
        self.path.join("boot")
    }
}

/// Tells one run of the machine from the next; empty where the system has no such thing.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[allow(unsafe_code, reason = "LMDB maps a file into memory and is told not to sync it")]
fn open_env(path: &Path, map_size: usize, flags: EnvFlags) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_readers(READERS).max_dbs(2);
    // SAFETY, flags: NO_SYNC can lose order among writes only when the machine goes down, and then `doubt` discards the content.
    // A killed process loses nothing that it committed (the page cache is the kernel's). Not WRITE_MAP: with it a full disk is
    // a SIGBUS, and a stray pointer of ours could write into the file.
    // SAFETY, map: the folder is ours (0700) and on a local disk by contract; every process writes through LMDB's lock file,
    // heed refuses to open it twice in one process, and a truncated file is made whole again before its pages are read.
    unsafe { options.flags(EnvFlags::NO_SYNC | flags).open(path) }
}

/// For the only process in the folder: makes the tables if need be, and reads and writes them once.
fn checked_table(env: Env, rules: Rules) -> Result<Table, Refusal> {
    make_readable(&env)?;
    let mut txn = env.write_txn()?;
    let claims = env.create_database(&mut txn, Some("claims"))?;
    let expiries = env.create_database(&mut txn, Some("expiries"))?;
    txn.commit()?;
    let table = Table { env, claims, expiries, rules };
    if !table.is_whole()? {
        return Err(Refusal::Damaged("its two tables do not agree".into()));
    }
    try_to_write(&table)?;
    Ok(table)
}

/// A page that lies beyond the end of the file would be a SIGBUS when it is read; a page of zeros is an error of LMDB's.
/// A few pages may be missing for good reason: LMDB does not write what a transaction took and gave back.
fn make_readable(env: &Env) -> Result<(), Refusal> {
    let needed = (env.info().last_page_number as u64 + 1).saturating_mul(env.stat().page_size.into());
    let length = env.real_disk_size()?;
    if needed > length + MOST_UNWRITTEN {
        return Err(Refusal::Damaged(format!("{length} of its {needed} bytes are there")));
    }
    if needed > length {
        env.try_clone_inner_file()?.set_len(needed)?;
    }
    Ok(())
}

/// A write asks LMDB for free pages, so that a damaged list of these is found now. A full file is no damage.
fn try_to_write(table: &Table) -> heed::Result<()> {
    let trial = || {
        let mut txn = table.env.write_txn()?;
        table.expiries.put(&mut txn, b"trial", &[])?;
        table.expiries.delete(&mut txn, b"trial")?;
        txn.commit()
    };
    match trial() {
        Err(heed::Error::Mdb(MdbError::MapFull)) => Ok(()),
        result => result,
    }
}

/// For a process that joins others: the tables are there, and opening them must not wait for the write lock.
fn table_in_use(env: Env, rules: Rules) -> Result<Table, Refusal> {
    let txn = env.read_txn()?;
    let claims = env.open_database(&txn, Some("claims"))?;
    let expiries = env.open_database(&txn, Some("expiries"))?;
    txn.commit()?;
    match (claims, expiries) {
        (Some(claims), Some(expiries)) => Ok(Table { env, claims, expiries, rules }),
        _ => Err(Refusal::Damaged("it has no tables".into())),
    }
}

impl From<heed::Error> for Refusal {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Io(io) => io.into(),
            heed::Error::EnvAlreadyOpened => Self::Unusable("this process has it open already".into()),
            heed::Error::Mdb(MdbError::ReadersFull) => Self::Unusable(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{InvalidInput, IsADirectory, OutOfMemory};
        match error.kind() {
            // LMDB maps what the file's header says; a header of nonsense shows as one of the first two.
            InvalidInput | OutOfMemory | IsADirectory => Self::Damaged(error.to_string()),
            _ => Self::Unusable(error.to_string()),
        }
    }
}

impl Refusal {
    fn into_error(self, path: &Path) -> RegistryError {
        match self {
            Self::Damaged(reason) | Self::Unusable(reason) => RegistryError::folder(path, "open it", reason),
        }
    }
}
