//! Why the registry could not answer: what it was doing, where, and whose matter it is.
//! Made by every kind of registry, read by the log; what a client reads is decided elsewhere (`crate::error`).
//! Surprise: it is `Clone`, because one failed write answers everybody whose write was in the same transaction.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Never the caller's fault: each variant names whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryError {
    /// The folder cannot be made, locked, read or written. The operator's: path, rights or disk.
    Folder { path: PathBuf, doing: &'static str, reason: String },
    /// LMDB refused. The machine's (disk full, input/output error), or somebody else wrote into our files.
    Store { path: PathBuf, doing: &'static str, reason: String },
    /// No answer in time; the write may still happen later. Another generation is stopped while it holds the write lock, or the
    /// machine is overloaded.
    Timeout { path: PathBuf, after: Duration },
    /// So many writes wait already that this one was not taken. Same causes as [`RegistryError::Timeout`], for longer.
    Busy { path: PathBuf, waiting: usize },
    /// The writer thread is gone. Our own bug; its panic is in the log.
    Stopped { path: PathBuf },
}

impl RegistryError {
    pub(super) fn folder(path: &Path, doing: &'static str, reason: impl fmt::Display) -> Self {
        Self::Folder { path: path.to_owned(), doing, reason: reason.to_string() }
    }

    pub(super) fn store(path: &Path, doing: &'static str, reason: impl fmt::Display) -> Self {
        Self::Store { path: path.to_owned(), doing, reason: reason.to_string() }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, doing, reason } => {
                write!(
                    f,
                    "registry {}: cannot {doing}: {reason} (check path, rights and disk)",
                    path.display()
                )
            }
            Self::Store { path, doing, reason } => {
                write!(f, "registry {}: LMDB could not {doing}: {reason}", path.display())
            }
            Self::Timeout { path, after } => write!(
                f,
                "registry {}: no answer within {after:?} (is another generation stopped inside a write?)",
                path.display()
            ),
            Self::Busy { path, waiting } => write!(
                f,
                "registry {}: {waiting} writes wait already (is another generation stopped inside a write?)",
                path.display()
            ),
            Self::Stopped { path } => {
                write!(f, "registry {}: the writer thread has ended (a bug of Outrigger)", path.display())
            }
        }
    }
}

impl std::error::Error for RegistryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_every_kind_says_where_and_whose() {
        let path = PathBuf::from("/data");
        let table = [
            (
                RegistryError::folder(&path, "make it", "Permission denied"),
                "registry /data: cannot make it: Permission denied (check path, rights and disk)",
            ),
            (
                RegistryError::store(&path, "commit", "No space left on device"),
                "registry /data: LMDB could not commit: No space left on device",
            ),
            (
                RegistryError::Timeout { path: path.clone(), after: Duration::from_millis(100) },
                "registry /data: no answer within 100ms (is another generation stopped inside a write?)",
            ),
            (
                RegistryError::Busy { path: path.clone(), waiting: 8192 },
                "registry /data: 8192 writes wait already (is another generation stopped inside a write?)",
            ),
            (
                RegistryError::Stopped { path },
                "registry /data: the writer thread has ended (a bug of Outrigger)",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }
}
