//! The private folder for the upgrade sockets: made at the start, mode 0700, removed at the end. One that a dead supervisor left behind is
//! taken over. Takes places to try in order; gives a path per generation.
//! Surprise: the mode is the whole protection. Pingora makes its upgrade socket writable for everyone and hands the
//! listeners to whoever connects.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::event::Number;

/// A Unix socket's path, with its final zero.
const SUN_PATH: usize = 108;
/// `/`, the longest number and `.sock`.
const LONGEST_NAME: usize = 1 + 20 + 5;

pub struct Folder {
    path: PathBuf,
    /// Says that we live, to whoever finds the folder.
    _lock: Flock<File>,
}

impl Folder {
    /// In the first of `$XDG_RUNTIME_DIR`, `/run`, the folder for temporary files and `last` that lets us.
    ///
    /// # Errors
    /// That of the last place.
    pub fn create(last: Option<&Path>) -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = runtime
            .into_iter()
            .chain(["/run".into(), std::env::temp_dir()])
            .chain(last.map(Path::to_path_buf));
        let mut result = Err(io::ErrorKind::NotFound.into());
        for place in places {
            result = Self::create_in(&place);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    pub fn upgrade_sock(&self, generation: Number) -> PathBuf {
        self.path.join(format!("{generation}.sock"))
    }

    fn create_in(place: &Path) -> io::Result<Self> {
        // The process id is always 1 in a container, and others may share the place with us.
        for attempt in 0..100 {
            let path = candidate(place, attempt);
            if path.as_os_str().len() + LONGEST_NAME >= SUN_PATH {
                return Err(io::ErrorKind::InvalidFilename.into());
            }
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) if !is_private(&path).unwrap_or_default() => continue,
                Err(_) => {}
            }
            if let Some(lock) = take(&path)? {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Unlike the names of those that hold no lock.
fn candidate(place: &Path, attempt: usize) -> PathBuf {
    place.join(format!("outrigger.{}.{attempt}", std::process::id()))
}

/// Whether it is a folder that nobody but us could have made, or can enter.
fn is_private(path: &Path) -> io::Result<bool> {
    let (found, own) = (fs::symlink_metadata(path)?, fs::metadata("/proc/self")?.uid());
    Ok(found.is_dir() && found.uid() == own && found.mode() & 0o777 == 0o700)
}

/// The lock of a folder that is nobody else's; it is empty from now on.
fn take(path: &Path) -> io::Result<Option<Flock<File>>> {
    let Ok(folder) = File::open(path) else { return Ok(None) };
    let found = folder.metadata()?;
    let Ok(lock) = Flock::lock(folder, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
    // Its last owner may have removed it since it was opened.
    if !fs::metadata(path).is_ok_and(|now| now.ino() == found.ino()) {
        return Ok(None);
    }
    for left in fs::read_dir(path)? {
        fs::remove_file(left?.path())?;
    }
    Ok(Some(lock))
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("{} is left behind: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of this test's own.
    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("folders-{name}-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        place
    }

    #[test]
    fn private_unlike_any_other_and_gone_afterwards() {
        let place = place("alive");
        let (first, second) = (Folder::create_in(&place).unwrap(), Folder::create_in(&place).unwrap());
        assert_ne!(first.path, second.path);
        assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o700);
        let path = first.path.clone();
        fs::write(first.upgrade_sock(3), "").unwrap();
        drop(first);
        assert!(!path.exists());
        drop(second);
        fs::remove_dir(place).unwrap();
    }

    /// However often a predecessor of our process id was killed.
    #[test]
    fn what_the_dead_left_is_taken_over() {
        let place = place("dead");
        for attempt in 0..100 {
            let left = candidate(&place, attempt);
            DirBuilder::new().mode(0o700).create(&left).unwrap();
            fs::write(left.join("1.sock"), "").unwrap();
        }
        let taken = Folder::create_in(&place).unwrap();
        assert!(!taken.upgrade_sock(1).exists(), "its sockets are not ours");
        assert_ne!(Folder::create_in(&place).unwrap().path, taken.path, "now it is somebody's");
        drop(taken);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_enter_is_none_of_ours() {
        let place = place("open");
        let open = candidate(&place, 0);
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        let taken = Folder::create_in(&place).unwrap();
        assert_ne!(taken.path, open);
        drop(taken);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_place_too_long_for_a_socket_is_refused() {
        let refused = Folder::create_in(&Path::new("/tmp").join("x".repeat(80))).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidFilename);
    }
}
