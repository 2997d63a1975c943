//! The check of what TLS rests on, wherever it is used: PEM files of certificates, keys and CAs. PURE.
//! Takes the keys of one `tls` block, gives paths whose files were read, parsed and found to match.
//! Surprise: an identity comes in two strengths, required (whoever serves) and optional (whoever connects).

use std::path::{Path as FilePath, PathBuf};

use super::{Check, address};
use crate::config::field::Field;
use crate::config::problem::Path;

impl Check<'_> {
    /// Certificate and key that must be there.
    pub fn required_identity(
        &self,
        cert: Field<String>,
        key: Field<String>,
        path: &Path,
    ) -> Option<(PathBuf, PathBuf)> {
        let (cert_path, key_path) = (path.key("cert"), path.key("key"));
        let cert = cert.required(&cert_path, self.report).map(PathBuf::from);
        let key = key.required(&key_path, self.report).map(PathBuf::from);
        self.key_pair(
            cert.as_deref().map(|file| (file, cert_path)),
            key.as_deref().map(|file| (file, key_path)),
        );
        cert.zip(key)
    }

    /// Certificate and key, or neither.
    pub fn identity(
        &self,
        cert: Field<Option<String>>,
        key: Field<Option<String>>,
        path: &Path,
    ) -> Option<Option<(PathBuf, PathBuf)>> {
        let (cert_path, key_path) = (path.key("cert"), path.key("key"));
        let (cert, key) =
            (cert.good().map(|cert| cert.map(PathBuf::from)), key.good().map(|key| key.map(PathBuf::from)));
        match (&cert, &key) {
            (Some(Some(_)), Some(None)) => self.report.say(&key_path, "is required, because `cert` is given"),
            (Some(None), Some(Some(_))) => self.report.say(&cert_path, "is required, because `key` is given"),
            _ => {}
        }
        let file = |file: &Option<Option<PathBuf>>, path| file.as_ref()?.clone().map(|file| (file, path));
        let (cert_file, key_file) = (file(&cert, cert_path), file(&key, key_path));
        self.key_pair(
            cert_file.as_ref().map(|(file, path)| (file.as_path(), path.clone())),
            key_file.as_ref().map(|(file, path)| (file.as_path(), path.clone())),
        );
        Some(cert?.zip(key?))
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

    /// Both files of one identity, with the places that name them; `None` where there is none to look at.
    fn key_pair(&self, cert: Option<(&FilePath, Path)>, key: Option<(&FilePath, Path)>) {
        let public = cert.and_then(|(file, path)| self.ask(self.machine.certificate(file), &path));
        let private =
            key.and_then(|(file, path)| Some((self.ask(self.machine.private_key(file), &path)?, path)));
        if let (Some(public), Some((private, path))) = (public, private)
            && public != private
        {
            self.report.say(&path, "is not the key of the certificate in `cert`");
        }
    }
}
