//! The check of a listener's `tls`: what it shows, and whom it lets in. PURE.
//! Takes the shape, gives settings whose files were read and belong together. Surprise: a further certificate must have a DNS name that
//! no earlier one has, because by nothing else would any client ever get it.

use std::path::PathBuf;

use super::Check;
use crate::config::field::Field;
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::{ClientAuth, ListenerTls, TlsVersion};
use crate::material::{IdentityFiles, Purpose};

impl Check<'_> {
    pub fn listener_tls(&self, tls: file::ListenerTls, path: &Path) -> Option<ListenerTls> {
        let file::ListenerTls {
            cert,
            key,
            key_passphrase_file,
            certificates,
            client_ca,
            client_auth,
            forward_client_cert,
            min_version,
            session_tickets,
        } = tls;
        let first = self.required_identity(cert, key, key_passphrase_file, &[Purpose::Server], path);
        let certificates = self.certificates(first, certificates, &path.key("certificates"));
        let clients = self.client_auth(client_ca, client_auth, forward_client_cert, path);
        Some(ListenerTls {
            certificates: certificates?,
            clients: clients?,
            min_version: match min_version.good()? {
                file::TlsVersion::V1_2 => TlsVersion::V1_2,
                file::TlsVersion::V1_3 => TlsVersion::V1_3,
            },
            session_tickets: session_tickets.good()?,
        })
    }

    /// All certificates, the first one first.
    fn certificates(
        &self,
        first: Option<IdentityFiles>,
        more: Field<Vec<Field<file::Certificate>>>,
        path: &Path,
    ) -> Option<Vec<IdentityFiles>> {
        let mut taken = first.as_ref().map(|files| self.machine.dns_names(&files.cert)).unwrap_or_default();
        let mut all = vec![first];
        for (index, certificate) in more.good()?.into_iter().enumerate() {
            let path = path.index(index);
            let files = certificate.good().and_then(|certificate| {
                let file::Certificate { cert, key, key_passphrase_file } = certificate;
                self.required_identity(cert, key, key_passphrase_file, &[Purpose::Server], &path)
            });
            if let Some(files) = &files {
                let names = self.machine.dns_names(&files.cert);
                if names.iter().all(|name| taken.contains(name)) {
                    let sentence = match names.is_empty() {
                        true => "has no DNS name in it, so no client could ask for it",
                        false => "has no DNS name that no earlier certificate has, so no client would get it",
                    };
                    self.report.say(&path.key("cert"), format!("{}: {sentence}", files.cert.display()));
                }
                taken.extend(names);
            }
            all.push(files);
        }
        all.into_iter().collect()
    }

    /// `Some(None)`: clients are not asked for a certificate.
    fn client_auth(
        &self,
        ca: Field<Option<String>>,
        auth: Field<Option<file::ClientAuth>>,
        forward: Field<bool>,
        path: &Path,
    ) -> Option<Option<ClientAuth>> {
        let (ca, auth, forward) = (self.authorities(ca, &path.key("client_ca")), auth.good(), forward.good());
        if ca == Some(None) {
            let lonely = |key| self.report.say(&path.key(key), "is given without `client_ca`");
            if matches!(auth, Some(Some(_))) {
                lonely("client_auth");
            }
            if forward == Some(true) {
                lonely("forward_client_cert");
            }
        }
        let (ca, auth, forward): (Option<PathBuf>, _, _) = (ca?, auth?, forward?);
        let required = !matches!(auth, Some(file::ClientAuth::Optional));
        Some(ca.map(|ca| ClientAuth { ca, required, forward }))
    }
}
