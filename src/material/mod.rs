//! Material: the certificates, keys and CAs that TLS rests on, in every role. The only reader of their files.
//! Takes paths, gives parsed [`Identity`]s and [`Authorities`], or a sentence that names the file and says what is wrong with it.
//! Surprise: what belongs together is read together and used as it was read, never from the file again: a file that changes between
//! a check and its use, or between two threads, cannot make a pair that does not match.

mod certificate;
mod key;
mod pem;
mod shelf;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::asn1::Asn1TimeRef;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::SslContextBuilder;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509StoreContext, X509VerifyResult};

pub use certificate::{Certificate, Chain, DAY, Nearness, Purpose};
pub use key::{KeyFlaw, read as private_key};
pub use shelf::{Role, Shelf, Used};

/// That of this build of OpenSSL, as it comes.
const SECURITY_LEVEL: i32 = 2;

/// Where an identity is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, then its intermediates.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Holds what the key is encrypted with.
    pub passphrase: Option<PathBuf>,
}

/// A certificate with its intermediates, and the key that belongs to it.
pub struct Identity {
    chain: Chain,
    key: PKey<Private>,
}

impl Identity {
    /// # Errors
    /// What is wrong, with the file.
    pub fn read(files: &IdentityFiles) -> Result<Self, String> {
        let chain = Chain::read(&files.cert)?;
        let key = private_key(&files.key, files.passphrase.as_deref()).map_err(KeyFlaw::into_sentence)?;
        if !chain.leaf().public_key().is_ok_and(|public| public.public_eq(&key)) {
            let (cert, key) = (files.cert.display(), files.key.display());
            return Err(format!("{key}: is not the key of the certificate in {cert}"));
        }
        Ok(Self { chain, key })
    }

    pub fn chain(&self) -> &[X509] {
        self.chain.certificates()
    }

    pub fn dns_names(&self) -> Vec<String> {
        self.chain.dns_names()
    }

    /// Why it may not, or cannot, be shown for these purposes at `now`.
    pub fn unfit_for(&self, purposes: &[Purpose], now: &Asn1TimeRef) -> Option<String> {
        self.chain.untimely(now).or_else(|| self.chain.unfit_for(purposes))
    }

    pub fn key(&self) -> &PKey<Private> {
        &self.key
    }

    /// Shows this identity in handshakes.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn install(&self, tls: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let (leaf, intermediates) = self.chain.split();
        tls.set_certificate(leaf)?;
        for intermediate in intermediates {
            tls.add_extra_chain_cert(intermediate.clone())?;
        }
        tls.set_private_key(&self.key)
    }
}

/// CAs that are trusted.
pub struct Authorities(Chain);

impl Authorities {
    /// # Errors
    /// What is wrong, with the file.
    pub fn read(file: &Path) -> Result<Self, String> {
        Chain::read(file).map(Self)
    }

    pub fn certificates(&self) -> &[X509] {
        self.0.certificates()
    }

    /// Why nobody could be verified by them. One of several must be valid, if `now` counts: CAs are renewed by adding the new one first.
    pub fn unfit(&self, now: Option<&Asn1TimeRef>) -> Option<String> {
        let untimely = now.and_then(|now| self.0.all_untimely(now));
        untimely.or_else(|| match self.vouch_for_nobody() {
            Ok(reason) => reason.map(|reason| format!("nobody could be verified by it: {reason}")),
            Err(error) => Some(error.to_string()),
        })
    }

    /// What OpenSSL verifies against.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn store(&self) -> Result<X509Store, ErrorStack> {
        self.store_builder().map(X509StoreBuilder::build)
    }

    /// A chain ends at a root that is among them, with a key that is long enough; otherwise, what OpenSSL has against the last one.
    fn vouch_for_nobody(&self) -> Result<Option<&'static str>, ErrorStack> {
        let mut rules = X509VerifyParam::new()?;
        // Their dates are another question.
        rules.set_flags(X509VerifyFlags::NO_CHECK_TIME)?;
        rules.set_auth_level(SECURITY_LEVEL);
        let mut store = self.store_builder()?;
        store.set_param(&rules)?;
        let (store, no_others) = (store.build(), Stack::new()?);
        let mut last = None;
        for certificate in self.certificates() {
            let verdict = X509StoreContext::new()?.init(&store, certificate, &no_others, |context| {
                context.verify_cert()?;
                Ok(context.error())
            })?;
            if verdict == X509VerifyResult::OK {
                return Ok(None);
            }
            last = Some(verdict.error_string());
        }
        Ok(last)
    }

    fn store_builder(&self) -> Result<X509StoreBuilder, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for certificate in self.certificates() {
            store.add_cert(certificate.clone())?;
        }
        Ok(store)
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

static KEPT: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// What `start` reads, in this process, is what these files held when they were checked. So a generation begins with what was found
/// right, also after a crash, whatever has become of the files by then. Whoever reads later reads the files.
pub fn with_kept<T>(files: BTreeMap<PathBuf, Vec<u8>>, start: impl FnOnce() -> T) -> T {
    *kept() = files;
    let started = start();
    kept().clear();
    started
}

/// # Errors
/// The system's, where the file is not kept.
pub fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    match kept().get(file) {
        Some(kept) => Ok(kept.clone()),
        None => std::fs::read(file),
    }
}

fn kept() -> MutexGuard<'static, BTreeMap<PathBuf, Vec<u8>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A text, without the byte order mark that some editors put before it.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = bytes(file).map_err(|error| format!("{}: {}", file.display(), reason(&error)))?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// What the system says, without Rust's `(os error 2)`.
pub fn reason(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
