//! The check of what TLS rests on, wherever it is used: PEM files of certificates, keys and CAs. PURE.
//! Takes the keys of one `tls` block, gives paths whose files were read, parsed and found to match.
//! Surprise: an identity comes in two strengths, required (whoever serves) and optional (whoever connects).

use std::path::PathBuf;

use super::{Check, address};
use crate::config::field::Field;
use crate::config::problem::Path;
use crate::material::{IdentityFiles, KeyFlaw, Purpose};

/// The files of an identity, as far as they are given.
struct Given {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    passphrase: Option<PathBuf>,
}

impl Check<'_> {
    /// Certificate and key that must be there.
    pub fn required_identity(
        &self,
        cert: Field<String>,
        key: Field<String>,
        passphrase: Field<Option<String>>,
        purposes: &[Purpose],
        path: &Path,
    ) -> Option<IdentityFiles> {
        let cert = cert.required(&path.key("cert"), self.report).map(PathBuf::from);
        let key = key.required(&path.key("key"), self.report).map(PathBuf::from);
        let passphrase = passphrase.good().map(|file| file.map(PathBuf::from));
        let given = Given { cert, key, passphrase: passphrase.clone().flatten() };
        self.key_pair(&given, purposes, path);
        Some(IdentityFiles { cert: given.cert?, key: given.key?, passphrase: passphrase? })
    }

    /// Certificate and key of a client, or neither.
    pub fn identity(
        &self,
        cert: Field<Option<String>>,
        key: Field<Option<String>>,
        passphrase: Field<Option<String>>,
        path: &Path,
    ) -> Option<Option<IdentityFiles>> {
        let good = |field: Field<Option<String>>| field.good().map(|file| file.map(PathBuf::from));
        let (cert, key, passphrase) = (good(cert), good(key), good(passphrase));
        match (&cert, &key) {
            (Some(Some(_)), Some(None)) => {
                self.report.say(&path.key("key"), "is required, because `cert` is given");
            }
            (Some(None), Some(Some(_))) => {
                self.report.say(&path.key("cert"), "is required, because `key` is given");
            }
            (Some(None), Some(None)) if matches!(passphrase, Some(Some(_))) => {
                self.report.say(&path.key("key_passphrase_file"), "is given without `cert` and `key`");
            }
            _ => {}
        }
        let of = |file: &Option<Option<PathBuf>>| file.clone().flatten();
        let given = Given { cert: of(&cert), key: of(&key), passphrase: of(&passphrase) };
        self.key_pair(&given, &[Purpose::Client], path);
        let (pair, passphrase) = (cert?.zip(key?), passphrase?);
        Some(pair.map(|(cert, key)| IdentityFiles { cert, key, passphrase }))
    }

    /// CAs, or the system's.
    pub fn authorities(&self, ca: Field<Option<String>>, path: &Path) -> Option<Option<PathBuf>> {
        let ca = ca.good()?.map(PathBuf::from);
        if let Some(ca) = &ca {
            self.ask(self.machine.authorities(ca), path);
        }
        Some(ca)
    }

    /// The name that a certificate must have.
    pub fn dns_name(&self, name: &str, path: &Path) {
        if !address::is_dns_name(name) {
            self.report.say(path, format!("expected a DNS name, found {name:?}"));
        }
    }

    /// What is wrong with each file of one identity, and whether its two halves belong together.
    fn key_pair(&self, given: &Given, purposes: &[Purpose], path: &Path) {
        let public = given
            .cert
            .as_deref()
            .and_then(|file| self.ask(self.machine.certificate(file, purposes), &path.key("cert")));
        let private = given.key.as_deref().and_then(|file| {
            match self.machine.private_key(file, given.passphrase.as_deref()) {
                Ok(key) => Some(key),
                Err(KeyFlaw::Key(sentence)) => self.ask(Err(sentence), &path.key("key")),
                Err(KeyFlaw::Passphrase(sentence)) => {
                    self.ask(Err(sentence), &path.key("key_passphrase_file"))
                }
            }
        });
        if let (Some(public), Some(private)) = (public, private)
            && public != private
        {
            self.report.say(&path.key("key"), "is not the key of the certificate in `cert`");
        }
    }
}
