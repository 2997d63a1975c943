//! A configuration that generations can be started from: read, checked, its lock taken, its sockets bound.
//! Takes the file and, on a reload, the plan in force, whose lock and sockets are kept where they are the same.
//! Surprise: it keeps the text of the file and of all that it names, not the settings: a restart after a crash must not depend
//! on the files as they are by then, and the worker checks the text for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config;
use crate::config::settings::{LogSettings, RegistryKind, Settings, Upstream};
use crate::config::sockets;
use crate::trace;

use super::event::{Fault, Fingerprint, Limits};
use super::files::{Contents, Files, fingerprint};
use super::sockets::{BindError, Sockets};

pub struct Plan {
    /// As given on the command line; for messages.
    pub file: String,
    pub text: String,
    /// What the files held that it names. A worker goes by this alone, so that what was found wrong since cannot keep one from
    /// taking the place of another.
    pub kept: BTreeMap<PathBuf, Vec<u8>>,
    pub sockets: Sockets,
    pub limits: Limits,
    pub log: LogSettings,
    /// Whether changed files are a reload.
    pub watch: bool,
    /// Whether an upstream, Redis or the trace collector is trusted by the system's CAs.
    pub system_cas: bool,
    /// Folder that is ours alone and writable, because we hold its lock; none where the registry is elsewhere.
    pub folder: Option<PathBuf>,
    lock: Option<Arc<Flock<File>>>,
}

/// One try to make a plan.
pub struct Attempt {
    pub plan: Result<Plan, Refusal>,
    /// What it rests on, also where it came to nothing: a change of these may mend it.
    pub files: Files,
    pub fingerprint: Fingerprint,
}

/// Why there is no plan, for the operator.
#[derive(Debug)]
pub struct Refusal {
    pub fault: Fault,
    pub reason: String,
}

impl Attempt {
    pub fn make(file: &Path, current: Option<&Plan>) -> Self {
        let name = file.display().to_string();
        let read = fs::read(file);
        let text = match &read {
            Ok(bytes) => std::str::from_utf8(bytes)
                .map_err(|_| of_config(format!("cannot read {name}: it is not UTF-8"))),
            Err(cause) => Err(of_config(format!("cannot read {name}: {cause}"))),
        };
        let mut files = Files::new(file, BTreeSet::new());
        let mut contents = Contents::new();
        let plan = text.and_then(|text| {
            let (settings, named) = config::examine(&name, text, &|variable| std::env::var(variable).ok());
            files = Files::new(file, named);
            contents = files.contents();
            let settings = settings.map_err(|problems| of_config(problems.to_string()))?;
            Plan::of(name, text.to_owned(), &contents, settings, current)
        });
        Self { plan, fingerprint: fingerprint(&read, &contents), files }
    }
}

impl Plan {
    /// # Errors
    /// `Fault::System` if the lock or an address is taken by somebody else.
    fn of(
        file: String,
        text: String,
        contents: &Contents,
        settings: Settings,
        current: Option<&Self>,
    ) -> Result<Self, Refusal> {
        let wanted = sockets::wanted(&settings);
        let folder = match &settings.sessions.registry {
            RegistryKind::Embedded(embedded) => Some(embedded.path.clone()),
            RegistryKind::Redis(_) => None,
        };
        let lock = match current.filter(|current| current.folder == folder) {
            Some(current) => current.lock.clone(),
            None => folder.as_deref().map(lock).transpose()?.map(Arc::new),
        };
        let sockets = Sockets::open(&wanted, current.map(|current| &current.sockets))?;
        let limits = limits(&settings);
        let system_cas = trusts_the_system(&settings);
        let watch = settings.reload.watch;
        let readable = contents.iter().filter_map(|(path, content)| Some((path, content.as_ref().ok()?)));
        let kept = readable.map(|(path, content)| (path.clone(), content.clone())).collect();
        Ok(Self { file, text, kept, sockets, limits, log: settings.log, watch, system_cas, folder, lock })
    }
}

impl From<BindError> for Refusal {
    fn from(error: BindError) -> Self {
        match error.in_the_way {
            // What has the port is ours: no other try can end otherwise.
            Some(_) => of_config(error.to_string()),
            None => of_system(error.to_string()),
        }
    }
}

/// Two supervisors with one registry would overwrite each other's sessions. (The registry has a lock file of its own, which
/// our workers share.)
fn lock(folder: &Path) -> Result<Flock<File>, Refusal> {
    let path = folder.join("supervisor.lock");
    let open = || {
        fs::create_dir_all(folder)?;
        File::options().create(true).truncate(false).write(true).open(&path)
    };
    let file = open().map_err(|cause| of_system(format!("cannot write {}: {cause}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, cause)| {
        of_system(match cause {
            Errno::EWOULDBLOCK => format!(
                "another Outrigger runs with {}: it holds {}; give each its own `sessions.embedded.path`",
                folder.display(),
                path.display()
            ),
            cause => format!("cannot lock {}: {cause}", path.display()),
        })
    })
}

fn trusts_the_system(settings: &Settings) -> bool {
    let upstream = |upstream: &Upstream| upstream.tls.as_ref().is_some_and(|tls| tls.ca.is_none());
    let redis = match &settings.sessions.registry {
        RegistryKind::Embedded(_) => false,
        RegistryKind::Redis(redis) => redis.topology.uses_tls() && redis.tls.ca.is_none(),
    };
    // Whether tracing is on at all is the worker's to say, and to complain about.
    let collector = trace::settings::read(&|variable| std::env::var(variable).ok()).ok().flatten();
    let collector = collector.and_then(|collector| collector.tls).is_some_and(|tls| tls.ca.is_none());
    redis || collector || settings.upstreams.iter().any(upstream)
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        ready: settings.reload.ready_timeout,
        drain: settings.drain.timeout,
        draining: settings.drain.max_generations,
        settle: settings.reload.settle,
        shutdown: settings.shutdown_timeout,
    }
}

fn of_config(reason: String) -> Refusal {
    Refusal { fault: Fault::Config, reason }
}

fn of_system(reason: String) -> Refusal {
    Refusal { fault: Fault::System, reason }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_exclusive_and_ends_with_its_holder() {
        let folder = std::env::temp_dir().join(format!("outrigger-lock-{}", std::process::id())).join("deep");
        let held = lock(&folder).unwrap();
        let refused = lock(&folder).map(|_| ()).unwrap_err();
        assert!(refused.reason.starts_with("another Outrigger runs with "), "{}", refused.reason);
        assert_eq!(refused.fault, Fault::System);
        drop(held);
        lock(&folder).unwrap();
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }
}
