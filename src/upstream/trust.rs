//! The trust domain of an upstream: the CAs that we accept and the client identity that we show.
//! Takes the checked paths, reads the material once per generation, gives Pingora peers that carry it.
//! Surprise: Pingora's reuse hash knows neither the CA nor the key, so the fingerprint of the whole domain goes into `group_key`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use openssl::pkey::PKey;
use openssl::sha::Sha256;
use openssl::x509::X509;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::CertKey;

use crate::config::settings::{UpstreamTls, Verify};

pub struct Trust {
    pub server_name: String,
    verify: Verify,
    ca: Option<Arc<Box<[X509]>>>,
    identity: Option<Arc<CertKey>>,
    fingerprint: u64,
}

impl Trust {
    /// Reads certificate files; the error names the file.
    pub fn load(tls: &UpstreamTls) -> Result<Self, String> {
        let mut hash = Sha256::new();
        hash.update(tls.server_name.as_bytes());
        hash.update(&[0, u8::from(tls.verify == Verify::Full)]);
        let ca = match &tls.ca {
            Some(path) => {
                let bundle = certificates(path, &mut hash)?;
                Some(Arc::new(bundle.into_boxed_slice()))
            }
            None => None,
        };
        let identity = match &tls.identity {
            Some((cert, key)) => {
                let chain = certificates(cert, &mut hash)?;
                let key = PKey::private_key_from_pem(&read(key)?)
                    .map_err(|error| format!("{}: {error}", key.display()))?;
                Some(Arc::new(CertKey::new(chain, key)))
            }
            None => None,
        };
        let digest = hash.finish();
        let fingerprint = u64::from_be_bytes(std::array::from_fn(|at| digest[at]));
        Ok(Self { server_name: tls.server_name.clone(), verify: tls.verify, ca, identity, fingerprint })
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

fn certificates(path: &Path, hash: &mut Sha256) -> Result<Vec<X509>, String> {
    let pem = read(path)?;
    hash.update(&pem);
    let stack = X509::stack_from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?;
    if stack.is_empty() {
        return Err(format!("{}: holds no certificate", path.display()));
    }
    Ok(stack)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
