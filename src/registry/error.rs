//! Why the registry could not answer: what it was doing, where, and whose matter it is.
//! Made by every kind of registry, read by the log; what a client reads is decided elsewhere (`crate::error`).
//! Surprise: what Redis says is kept only as its code, because its sentences may repeat a key, and the gateway's keys hold session ids.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Never the caller's fault: each variant names whom to ask. `Clone`, because one failed write answers everybody whose write was
/// in the same transaction.
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
    /// There is no connection to Redis, and there was none for `down`. The operator's: address, credentials, network, or Redis itself.
    Unreachable { server: Arc<str>, down: Duration, reason: Arc<str> },
    /// Redis did not answer in time; what was asked may still happen.
    Silent { server: Arc<str>, after: Duration },
    /// Redis refused; `code` is the first word of what it said.
    Refused { server: Arc<str>, doing: &'static str, code: String },
    /// Redis gave something else than what is kept there. Somebody else writes under our prefix.
    Unreadable { server: Arc<str>, doing: &'static str },
    /// The connection's thread cannot be started. The machine's.
    Thread { server: Arc<str>, reason: String },
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
            Self::Unreachable { server, down, reason } => {
                write!(f, "registry {server}: not connected for {} s: {reason}", down.as_secs())
            }
            Self::Silent { server, after } => {
                write!(f, "registry {server}: no answer within {after:?} (is Redis overloaded or stopped?)")
            }
            Self::Refused { server, doing, code } => {
                write!(f, "registry {server}: cannot {doing}: Redis says {code} ({})", meaning(code))
            }
            Self::Unreadable { server, doing } => write!(
                f,
                "registry {server}: cannot {doing}: what Redis holds is not ours (does somebody else write under our prefix?)"
            ),
            Self::Thread { server, reason } => {
                write!(f, "registry {server}: cannot start the thread of its connection: {reason}")
            }
        }
    }
}

impl std::error::Error for RegistryError {}

/// What a code of Redis' means here, or where to look.
fn meaning(code: &str) -> &'static str {
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => "check user, password and ACL",
        "OOM" => "Redis is full: check maxmemory and its policy",
        "MISCONF" => "Redis cannot write to its disk",
        "READONLY" => "it is a replica, or a master that was deposed",
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => "it is starting or failing over",
        "WRONGTYPE" => "somebody else writes under our prefix",
        "BUSY" => "somebody's script blocks it",
        _ => "see the log of Redis",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_every_kind_says_where_and_whose() {
        let (path, server) = (PathBuf::from("/data"), Arc::<str>::from("redis r:6379"));
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
            (
                RegistryError::Unreachable {
                    server: server.clone(),
                    down: Duration::from_millis(12_345),
                    reason: "Connection refused".into(),
                },
                "registry redis r:6379: not connected for 12 s: Connection refused",
            ),
            (
                RegistryError::Silent { server: server.clone(), after: Duration::from_millis(100) },
                "registry redis r:6379: no answer within 100ms (is Redis overloaded or stopped?)",
            ),
            (
                RegistryError::Refused {
                    server: server.clone(),
                    doing: "claim a session",
                    code: "OOM".into(),
                },
                "registry redis r:6379: cannot claim a session: Redis says OOM (Redis is full: check maxmemory and its policy)",
            ),
            (
                RegistryError::Unreadable { server: server.clone(), doing: "ask for a session" },
                "registry redis r:6379: cannot ask for a session: what Redis holds is not ours (does somebody else write under our \
                 prefix?)",
            ),
            (
                RegistryError::Thread { server, reason: "Resource temporarily unavailable".into() },
                "registry redis r:6379: cannot start the thread of its connection: Resource temporarily unavailable",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }
}
