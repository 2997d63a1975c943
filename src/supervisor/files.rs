//! The files that a configuration rests on: what they hold, as one number, and the folders in which a change of them shows.
//! Takes the paths that a check asked for, gives a fingerprint and folders to watch. The rule for the folders is pure.
//! Surprise: a folder is never given because a file is in it alone, but because some name on the way to the file is looked up in
//! it. A swapped link (`..data` of a Kubernetes volume) changes the file without touching it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use openssl::sha::{Sha256, sha256};

use super::event::Fingerprint;

/// As many links as the kernel follows on the way to one file.
const MOST_LINKS: usize = 40;

/// Of each file, or why it cannot be read.
pub type Contents = BTreeMap<PathBuf, io::Result<Vec<u8>>>;

/// What one try to load a configuration looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    config: PathBuf,
    named: BTreeSet<PathBuf>,
}

impl Files {
    pub fn new(config: &Path, named: BTreeSet<PathBuf>) -> Self {
        Self { config: config.to_path_buf(), named }
    }

    /// What the files hold now.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&fs::read(&self.config), &self.contents())
    }

    /// What every file but the configuration holds now.
    pub fn contents(&self) -> Contents {
        self.named.iter().map(|path| (path.clone(), fs::read(path))).collect()
    }

    /// Every folder in which a change of these files shows.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let here = std::env::current_dir().unwrap_or_default();
        let paths = std::iter::once(&self.config).chain(&self.named);
        paths.flat_map(|path| looked_up_in(&here.join(path), &|link| fs::read_link(link).ok())).collect()
    }
}

/// Of a configuration with its files. One that cannot be read counts too, with the reason: it may become readable.
pub fn fingerprint(config: &io::Result<Vec<u8>>, contents: &Contents) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update(&digest(config));
    for content in contents.values() {
        hash.update(&digest(content));
    }
    let digest = hash.finish();
    Fingerprint(u64::from_be_bytes(std::array::from_fn(|at| digest[at])))
}

fn digest(content: &io::Result<Vec<u8>>) -> [u8; 32] {
    match content {
        Ok(content) => sha256(content),
        Err(error) => sha256(format!("{:?}", error.kind()).as_bytes()),
    }
}

/// The folder of the file itself, and of every link on the way to it. `link` gives what a link says, `None` for what is none.
fn looked_up_in(path: &Path, link: &dyn Fn(&Path) -> Option<PathBuf>) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut left: Vec<OsString> = names(path);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let target = link(&next).filter(|_| links < MOST_LINKS);
        if target.is_some() || left.is_empty() {
            folders.insert(at.clone());
        }
        match target {
            None => at = next,
            Some(target) => {
                links += 1;
                left.extend(names(&target));
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
            }
        }
    }
    folders
}

/// The names of a path, the last first.
fn names(path: &Path) -> Vec<OsString> {
    let named = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn folders(path: &str, links: &[(&str, &str)]) -> Vec<String> {
        let link = |path: &Path| {
            links.iter().find(|(link, _)| Path::new(link) == path).map(|(_, target)| PathBuf::from(target))
        };
        let found = looked_up_in(Path::new(path), &link);
        found.into_iter().map(|folder| folder.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_file_and_every_link_on_the_way_to_it() {
        assert_eq!(folders("/etc/outrigger/./o.yaml", &[]), ["/etc/outrigger"]);
        assert_eq!(folders("/o.yaml", &[]), ["/"]);
        assert_eq!(folders("/a/b/../c/x", &[]), ["/a/c"]);
        // A Kubernetes volume.
        let volume = [("/certs/tls.crt", "..data/tls.crt"), ("/certs/..data", "..2026_11_20")];
        assert_eq!(folders("/certs/tls.crt", &volume), ["/certs", "/certs/..2026_11_20"]);
        // A folder by another name, and a link out of it.
        let elsewhere = [("/live", "/srv/certs"), ("/srv/certs/x", "../archive/x1")];
        assert_eq!(folders("/live/x", &elsewhere), ["/", "/srv/archive", "/srv/certs"]);
        assert_eq!(folders("/live/x", &[("/live", "srv/./certs")]), ["/", "/srv/certs"]);
    }

    #[test]
    fn links_in_a_circle_end() {
        assert_eq!(folders("/a/b", &[("/a/b", "c"), ("/a/c", "b")]), ["/a"]);
    }

    #[test]
    fn what_files_hold_is_one_number() {
        let folder = std::env::temp_dir().join(format!("outrigger-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (config, key) = (folder.join("o.yaml"), folder.join("key"));
        fs::write(&config, "a").unwrap();
        let files = Files::new(&config, BTreeSet::from([key.clone()]));
        let missing = files.fingerprint();
        fs::write(&key, "1").unwrap();
        let first = files.fingerprint();
        assert_ne!(first, missing);
        fs::write(&key, "2").unwrap();
        assert_ne!(files.fingerprint(), first);
        fs::write(&key, "1").unwrap();
        assert_eq!(files.fingerprint(), first, "the content counts, not the time");
        assert_eq!(fingerprint(&Ok(b"a".to_vec()), &files.contents()), first);
        assert_ne!(fingerprint(&Ok(b"b".to_vec()), &files.contents()), first);
        fs::remove_dir_all(folder).unwrap();
    }
}
