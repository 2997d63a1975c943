//! What one generation has read: each file once, however many listeners, threads and upstreams rest on it.
//! Takes who asks and where, gives shared material; ends as the list of all certificates in use, for metrics and the log.
//! Surprise: the list is of what was read, not of what the files hold by now.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use openssl::x509::X509;

use super::{Authorities, Certificate, Identity, IdentityFiles};

#[derive(Default)]
pub struct Shelf {
    identities: Vec<(IdentityFiles, Arc<Identity>)>,
    authorities: Vec<(PathBuf, Arc<Authorities>)>,
    used: Vec<Used>,
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Such as `listener public`.
    pub by: String,
    pub role: Role,
    pub file: PathBuf,
    pub certificate: Certificate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We show it, or it stands in the chain that we show.
    Shown,
    /// We believe it.
    Trusted,
}

impl Used {
    /// Puts it into the log, as an operator wants to read it.
    pub fn log(&self, now: SystemTime) {
        let Self { by, role, file, certificate } = self;
        let file = file.display();
        let (level, what) = match (certificate.is_expired(now), role) {
            (true, _) => (log::Level::Error, "expired certificate"),
            (false, Role::Shown) => (log::Level::Info, "shows certificate"),
            (false, Role::Trusted) => (log::Level::Debug, "trusts certificate"),
        };
        log::log!(level, "{by}: {what} {certificate} of {file}");
    }
}

impl Shelf {
    /// # Errors
    /// For the log: who asked, and what is wrong.
    pub fn identity(&mut self, by: &str, files: &IdentityFiles) -> Result<Arc<Identity>, String> {
        let known = self.identities.iter().find(|(other, _)| other == files).map(|(_, known)| known.clone());
        let identity = match known {
            Some(identity) => identity,
            None => {
                let read = Arc::new(Identity::read(files).map_err(|reason| format!("{by}: {reason}"))?);
                self.identities.push((files.clone(), read.clone()));
                read
            }
        };
        self.note(by, Role::Shown, &files.cert, identity.chain());
        Ok(identity)
    }

    /// # Errors
    /// For the log: who asked, and what is wrong.
    pub fn authorities(&mut self, by: &str, file: &Path) -> Result<Arc<Authorities>, String> {
        let known = self.authorities.iter().find(|(other, _)| other == file).map(|(_, known)| known.clone());
        let authorities = match known {
            Some(authorities) => authorities,
            None => {
                let read = Arc::new(Authorities::read(file).map_err(|reason| format!("{by}: {reason}"))?);
                self.authorities.push((file.to_owned(), read.clone()));
                read
            }
        };
        self.note(by, Role::Trusted, file, authorities.certificates());
        Ok(authorities)
    }

    /// Every certificate in use, each once per user.
    pub fn into_used(self) -> Vec<Used> {
        self.used
    }

    fn note(&mut self, by: &str, role: Role, file: &Path, certificates: &[X509]) {
        for certificate in certificates.iter().map(Certificate::from) {
            let used = Used { by: by.to_owned(), role, file: file.to_owned(), certificate };
            if !self.used.contains(&used) {
                self.used.push(used);
            }
        }
    }
}
