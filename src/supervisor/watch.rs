//! The watch on folders: tells the supervisor to look at its files when something happened beside them, and now and then anyway.
//! Takes folders, gives [`Input::Look`] into the inbox; what is to be made of it, the content of the files decides.
//! Surprise: it may be blind (no inotify left) or deaf (a network file system tells nothing), so it never relies on being told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::process::Input;

/// Between two looks where nothing happened.
const NOW_AND_THEN: u16 = 10_000;
/// The same where nothing can be heard.
const BLINDLY: u16 = 1_000;
/// What happens within this time is looked at once.
const TOGETHER: Duration = Duration::from_millis(50);

/// Not `IN_MODIFY`: a file that is being written is of no use before it is closed, and a log in the same folder is written all the time.
const TELLING: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

pub struct Watch {
    inbox: Sender<Input>,
    ears: Option<Arc<Inotify>>,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    blind: Arc<AtomicBool>,
}

impl Watch {
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(inbox: Sender<Input>) -> io::Result<Self> {
        let blind = Arc::new(AtomicBool::new(false));
        let ears = match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(ears) => Some(Arc::new(ears)),
            Err(errno) => {
                go_blind(&blind, "inotify", errno);
                None
            }
        };
        let watch = Self { inbox, ears, watched: BTreeMap::new(), blind };
        let (inbox, ears, blind) = (watch.inbox.clone(), watch.ears.clone(), watch.blind.clone());
        let listen = move || {
            loop {
                wait(ears.as_deref(), &blind);
                // The inbox is closed only when the supervisor is past its end.
                if inbox.send(Input::Look).is_err() {
                    return;
                }
                thread::sleep(TOGETHER);
            }
        };
        thread::Builder::new().name("watch".into()).spawn(listen)?;
        Ok(watch)
    }

    /// Watches these folders and no others. What happened in a new one before is not told, so it is looked at once more.
    pub fn aim(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(ears) = &self.ears else { return };
        let mut fresh = false;
        let mut refusal = None;
        let mut watched = BTreeMap::new();
        for folder in folders {
            // Again for one that is watched: by this name there may be another folder now.
            let found = folder.ancestors().map(|place| (place, ears.add_watch(place, TELLING)));
            // Where a folder is not there yet, or not again, its making shows in the next above.
            let mut found =
                found.skip_while(|(_, added)| matches!(added, Err(Errno::ENOENT | Errno::ENOTDIR)));
            match found.next() {
                Some((place, Ok(descriptor))) => {
                    fresh |= self.watched.get(place) != Some(&descriptor);
                    watched.insert(place.to_path_buf(), descriptor);
                }
                Some((place, Err(errno))) => refusal = Some((place, errno)),
                None => {}
            }
        }
        for (folder, descriptor) in &self.watched {
            if !watched.values().any(|other| other == descriptor) {
                // A folder that is gone has taken its watch with it.
                let _ = ears.rm_watch(*descriptor);
                log::debug!("{} is no longer watched", folder.display());
            }
        }
        self.watched = watched;
        match refusal {
            Some((folder, errno)) => go_blind(&self.blind, &folder.display().to_string(), errno),
            None => self.blind.store(false, Ordering::Relaxed),
        }
        if fresh {
            let _ = self.inbox.send(Input::Look);
        }
    }
}

/// Returns when something happened, or it is time to look.
fn wait(ears: Option<&Inotify>, blind: &AtomicBool) {
    let patience = if blind.load(Ordering::Relaxed) { BLINDLY } else { NOW_AND_THEN };
    let Some(ears) = ears else { return thread::sleep(Duration::from_millis(patience.into())) };
    let told = poll(&mut [PollFd::new(ears.as_fd(), PollFlags::POLLIN)], PollTimeout::from(patience));
    if told.is_ok_and(|count| count > 0) {
        // What it was does not matter, and what comes meanwhile is told next time.
        let _ = ears.read_events();
    }
}

fn go_blind(blind: &AtomicBool, what: &str, errno: Errno) {
    if !blind.swap(true, Ordering::Relaxed) {
        let hint = match errno {
            Errno::EMFILE => " (fs.inotify.max_user_instances)",
            Errno::ENOSPC => " (fs.inotify.max_user_watches)",
            _ => "",
        };
        log::warn!(
            "{what} cannot be watched: {}{hint}; files are looked at every second instead",
            errno.desc()
        );
    }
}
