//! The trust domain of an upstream: the CAs that we accept and the client identity that we show.
//! Takes the checked paths, reads the material once per generation, gives Pingora peers that carry it.
//! Surprise: Pingora's reuse hash knows neither the CA nor the key, so the fingerprint of the whole domain goes into `group_key`.

use std::net::SocketAddr;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::x509::X509;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::CertKey;

use crate::config::settings::{UpstreamTls, Verify};
use crate::material::Shelf;

pub struct Trust {
    pub server_name: String,
    verify: Verify,
    ca: Option<Arc<Box<[X509]>>>,
    identity: Option<Arc<CertKey>>,
    fingerprint: u64,
}

impl Trust {
    /// Takes the material of a domain off the shelf.
    ///
    /// # Errors
    /// For the log, with the name of the file.
    pub fn load(tls: &UpstreamTls, by: &str, shelf: &mut Shelf) -> Result<Self, String> {
        let ca = tls.ca.as_ref().map(|file| shelf.authorities(by, file)).transpose()?;
        let identity = tls.identity.as_ref().map(|files| shelf.identity(by, files)).transpose()?;
        let ca = ca.map(|ca| ca.certificates().to_vec());
        let chain = identity.as_ref().map(|identity| identity.chain().to_vec());
        let fingerprint =
            fingerprint(tls, ca.as_deref(), chain.as_deref()).map_err(|error| format!("{by}: {error}"))?;
        let identity =
            chain.zip(identity).map(|(chain, identity)| CertKey::new(chain, identity.key().clone()));
        Ok(Self {
            server_name: tls.server_name.clone(),
            verify: tls.verify,
            ca: ca.map(|ca| Arc::new(ca.into_boxed_slice())),
            identity: identity.map(Arc::new),
            fingerprint,
        })
    }

    /// A peer of this domain at `address`.
    pub fn target(&self, address: SocketAddr) -> HttpPeer {
        let mut target = HttpPeer::new(address, true, self.server_name.clone());
        target.group_key = self.fingerprint;
        target.client_cert_key = self.identity.clone();
        target.options.ca = self.ca.clone();
        target.options.verify_cert = true;
        target.options.verify_hostname = self.verify == Verify::Full;
        target
    }
}

/// Of all that makes two domains different. The key is in it as the public key of the certificate.
fn fingerprint(tls: &UpstreamTls, ca: Option<&[X509]>, chain: Option<&[X509]>) -> Result<u64, ErrorStack> {
    let mut hash = Sha256::new();
    hash.update(tls.server_name.as_bytes());
    hash.update(&[0, u8::from(tls.verify == Verify::Full)]);
    for certificates in [ca, chain] {
        // How many there are, so that a CA is never taken for a client certificate; none is not an empty list.
        let count = certificates.map_or(u64::MAX, |list| list.len() as u64);
        hash.update(&count.to_be_bytes());
        for certificate in certificates.into_iter().flatten() {
            hash.update(&certificate.to_der()?);
        }
    }
    let digest = hash.finish();
    Ok(u64::from_be_bytes(std::array::from_fn(|at| digest[at])))
}
