//! The private folder for the upgrade sockets: made at the start, mode 0700, removed at the end.
//! Takes places to try in order; gives a path per generation.
//! Surprise: the mode is the whole protection. Pingora makes its upgrade socket writable for everyone and hands the
//! listeners to whoever connects.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::event::Number;

/// A Unix socket's path, with its final zero.
const SUN_PATH: usize = 108;
/// `/`, the longest number and `.sock`.
const LONGEST_NAME: usize = 1 + 20 + 5;

pub struct Folder(PathBuf);

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
        self.0.join(format!("{generation}.sock"))
    }

    fn create_in(place: &Path) -> io::Result<Self> {
        // The process id is always 1 in a container, and a predecessor that was killed leaves its folder behind.
        for attempt in 0..100 {
            let path = place.join(format!("outrigger-{}-{attempt}", std::process::id()));
            if path.as_os_str().len() + LONGEST_NAME >= SUN_PATH {
                return Err(io::ErrorKind::InvalidFilename.into());
            }
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created.map(|()| Self(path)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("{} is left behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_unlike_any_other_and_gone_afterwards() {
        let place = std::env::temp_dir();
        let (first, second) = (Folder::create_in(&place).unwrap(), Folder::create_in(&place).unwrap());
        assert_ne!(first.0, second.0);
        assert_eq!(fs::metadata(&first.0).unwrap().permissions().mode() & 0o777, 0o700);
        let path = first.0.clone();
        fs::write(first.upgrade_sock(3), "").unwrap();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_place_too_long_for_a_socket_is_refused() {
        let refused = Folder::create_in(&Path::new("/tmp").join("x".repeat(80))).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidFilename);
    }
}
