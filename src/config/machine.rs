//! The machine that a configuration is checked on: its cores, its files, its folders. The only I/O of the check.
//! Takes a path, gives what the check needs to know of it, or a sentence for the user.
//! Surprise: nothing is made or changed here; whether a folder can be made is read off its closest parent.

use std::fs;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use openssl::pkey::PKey;
use openssl::x509::X509;

use super::check::{Machine, PublicKey};

/// This process's view: same user, same root folder, same mounts as the worker will have.
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn certificate(&self, file: &Path) -> Result<PublicKey, String> {
        let chain = certificates(file)?;
        let leaf = chain.first().ok_or_else(|| no_certificate(file))?;
        let key = leaf.public_key().and_then(|key| key.public_key_to_der());
        key.map(PublicKey)
            .map_err(|_| format!("{}: the first certificate has no usable public key", file.display()))
    }

    fn private_key(&self, file: &Path) -> Result<PublicKey, String> {
        let pem = read(file)?;
        let mut encrypted = false;
        // Without a callback OpenSSL would ask for the pass phrase on the terminal.
        let key = PKey::private_key_from_pem_callback(&pem, |_| {
            encrypted = true;
            Err(openssl::error::ErrorStack::get())
        });
        match key.and_then(|key| key.public_key_to_der()) {
            Ok(der) => Ok(PublicKey(der)),
            Err(_) if encrypted => Err(format!("{}: the private key is encrypted", file.display())),
            Err(_) => Err(format!("{}: no PEM private key in it", file.display())),
        }
    }

    fn authorities(&self, file: &Path) -> Result<(), String> {
        if certificates(file)?.is_empty() { Err(no_certificate(file)) } else { Ok(()) }
    }

    fn secret(&self, file: &Path) -> Result<(), String> {
        // The path is not repeated: a password itself is easily put in its place.
        let bytes = fs::read(file).map_err(|error| format!("cannot be read: {}", reason(&error)))?;
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

fn certificates(file: &Path) -> Result<Vec<X509>, String> {
    X509::stack_from_pem(&read(file)?).map_err(|_| no_certificate(file))
}

fn no_certificate(file: &Path) -> String {
    format!("{}: no PEM certificate in it", file.display())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {}", file.display(), reason(&error)))
}

/// What the system says, without Rust's `(os error 2)`.
pub fn reason(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_owned())
}
