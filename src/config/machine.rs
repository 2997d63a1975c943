//! The machine that a configuration is checked on: its cores, its files, its folders. The only I/O of the check.
//! Takes a path, gives what the check needs to know of it, or a sentence for the user.
//! Surprise: nothing is made or changed here; whether a folder can be made is read off its closest parent. It remembers which
//! files it was asked for: these are what the configuration rests on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;

use super::check::{Machine, PublicKey};
use crate::material::{Authorities, Chain, KeyFlaw, Purpose, bytes, private_key, reason};

/// This process's view: same user, same root folder, same mounts as the worker will have.
pub struct ThisMachine {
    /// Whether a certificate must be valid at this moment.
    dates: Dates,
    asked: RefCell<BTreeSet<PathBuf>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    Count,
    Ignored,
}

impl ThisMachine {
    pub fn new(dates: Dates) -> Self {
        Self { dates, asked: RefCell::default() }
    }

    /// Every file that it was asked for.
    pub fn files(self) -> BTreeSet<PathBuf> {
        self.asked.into_inner()
    }

    fn note(&self, file: &Path) {
        self.asked.borrow_mut().insert(file.to_path_buf());
    }

    fn now(&self) -> Option<Asn1Time> {
        match self.dates {
            Dates::Count => Asn1Time::days_from_now(0).ok(),
            Dates::Ignored => None,
        }
    }
}

impl Machine for ThisMachine {
    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn certificate(&self, file: &Path, purposes: &[Purpose]) -> Result<PublicKey, String> {
        self.note(file);
        let chain = Chain::read(file)?;
        let untimely = self.now().and_then(|now| chain.untimely(&now));
        match untimely.or_else(|| chain.unfit_for(purposes)) {
            Some(reason) => Err(format!("{}: {reason}", file.display())),
            None => {
                let key = chain.leaf().public_key().and_then(|key| key.public_key_to_der());
                key.map(PublicKey).map_err(unusable(file))
            }
        }
    }

    fn private_key(&self, file: &Path, passphrase: Option<&Path>) -> Result<PublicKey, KeyFlaw> {
        self.note(file);
        passphrase.inspect(|file| self.note(file));
        let key = private_key(file, passphrase)?;
        key.public_key_to_der().map(PublicKey).map_err(|error| KeyFlaw::Key(unusable(file)(error)))
    }

    fn dns_names(&self, file: &Path) -> Vec<String> {
        // What cannot be read was reported when the certificate was looked at.
        Chain::read(file).map(|chain| chain.dns_names()).unwrap_or_default()
    }

    fn authorities(&self, file: &Path) -> Result<(), String> {
        self.note(file);
        match Authorities::read(file)?.unfit(self.now().as_deref()) {
            Some(reason) => Err(format!("{}: {reason}", file.display())),
            None => Ok(()),
        }
    }

    fn secret(&self, file: &Path) -> Result<(), String> {
        self.note(file);
        // The path is not repeated: a password itself is easily put in its place.
        let bytes = bytes(file).map_err(|error| format!("cannot be read: {}", reason(&error)))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.trim().is_empty() => Err("is empty".to_owned()),
            Ok(_) => Ok(()),
            Err(_) => Err("is not UTF-8".to_owned()),
        }
    }

    fn folder(&self, path: &Path) -> Result<(), String> {
        if path.as_os_str().is_empty() {
            return Err("must not be empty".to_owned());
        }
        // Of a relative path the last ancestor is empty and means the working directory.
        let closest = path
            .ancestors()
            .map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path })
            .find_map(|path| fs::metadata(path).ok().map(|metadata| (path, metadata)));
        let Some((closest, metadata)) = closest else {
            return Err(format!("{}: cannot be reached", path.display()));
        };
        let action = if closest == path { "written to" } else { "made" };
        if !metadata.is_dir() {
            return Err(format!("{}: cannot be {action}: Not a directory", path.display()));
        }
        access(closest, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|error| format!("{}: cannot be {action}: {}", path.display(), error.desc()))
    }
}

fn unusable(file: &Path) -> impl Fn(ErrorStack) -> String {
    move |_| format!("{}: the public key is of a kind that cannot be used", file.display())
}
