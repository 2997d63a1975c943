//! The trust domain of an upstream: the CAs that we accept, the client identity that we show, the name, address or key that we demand.
//! Takes the checked settings and the shelf, gives Pingora peers that carry all of it. The material is read once per generation, and once
//! more when that retires.
//! Surprise: Pingora's reuse hash knows neither the CA nor the key, and client certificates by their serial numbers only, so the
//! fingerprint of the whole domain goes into `group_key`: two domains never share a connection, not even one's past and present.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::x509::X509;
use pingora_core::protocols::tls::HandshakeCompleteHook;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::CertKey;

use super::handshake::{self, Handshake};
use super::seal::{self, Demands};
use crate::config::settings::{UpstreamTls, Verify};
use crate::material::{Purpose, Shelf};

pub struct Trust {
    tls: UpstreamTls,
    /// Whose it is, for messages.
    by: String,
    domain: RwLock<Arc<Domain>>,
}

/// A domain as it was read at one time.
struct Domain {
    ca: Option<Arc<Box<[X509]>>>,
    identity: Option<Arc<CertKey>>,
    seal: HandshakeCompleteHook,
    /// In place of Pingora's.
    handshake: Option<Arc<Handshake>>,
    fingerprint: u64,
    /// Whether there was another one before it.
    renewed: bool,
}

impl Trust {
    /// # Errors
    /// For the log, with the name of the file.
    pub fn load(tls: &UpstreamTls, by: &str, shelf: &mut Shelf) -> Result<Self, String> {
        let domain = Domain::load(tls, by, shelf)?;
        let (tls, by, domain) = (tls.clone(), by.to_owned(), RwLock::new(Arc::new(domain)));
        Ok(Self { tls, by, domain })
    }

    /// Reads the files again, for a generation that has been followed by one with newer ones: its last clients' requests meet upstreams
    /// that may no longer accept what it has shown them up to now.
    pub fn renew(&self) {
        match self.read_again() {
            Ok(domain) => *self.domain.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(domain),
            Err(reason) => log::warn!("{reason}; what was read before stays in use"),
        }
    }

    /// Nobody may have looked at what the files hold by now: where a generation retires because it was told to, no other has begun
    /// with them. So they are held against what a reload demands.
    fn read_again(&self) -> Result<Domain, String> {
        let (Self { tls, by, .. }, mut shelf) = (self, Shelf::default());
        let now = Asn1Time::days_from_now(0).map_err(|error| format!("{by}: {error}"))?;
        let identity = tls.identity.as_ref().map(|files| shelf.identity(by, files)).transpose()?;
        let ca = tls.ca.as_ref().map(|file| shelf.authorities(by, file)).transpose()?;
        let flaw = identity.and_then(|identity| identity.unfit_for(&[Purpose::Client], &now));
        match flaw.or_else(|| ca?.unfit(Some(&now))) {
            Some(flaw) => Err(format!("{by}: {flaw}")),
            None => Ok(Domain { renewed: true, ..Domain::load(tls, by, &mut shelf)? }),
        }
    }

    pub fn server_name(&self) -> &str {
        &self.tls.server_name
    }

    /// Names the domain; never the same for two that differ in anything.
    pub fn fingerprint(&self) -> u64 {
        self.domain().fingerprint
    }

    /// The domain of a connection without a seal, where there has only been one.
    pub fn only_fingerprint(&self) -> Option<u64> {
        let domain = self.domain();
        (!domain.renewed).then_some(domain.fingerprint)
    }

    /// A peer of this domain at `address`.
    pub fn target(&self, address: SocketAddr) -> HttpPeer {
        let domain = self.domain();
        if let Some(handshake) = &domain.handshake {
            let mut target = HttpPeer::new(address, false, String::new());
            target.group_key = domain.fingerprint;
            target.options.custom_l4 = Some(handshake.clone());
            return target;
        }
        self.by_pingora(address)
    }

    /// The same with Pingora's own handshake, whether that can show our identity or not.
    pub fn by_pingora(&self, address: SocketAddr) -> HttpPeer {
        let domain = self.domain();
        let by_address = self.tls.server_name.parse::<IpAddr>().is_ok();
        let mut target = HttpPeer::new(address, true, self.tls.server_name.clone());
        target.group_key = domain.fingerprint;
        target.client_cert_key = domain.identity.clone();
        target.options.ca = domain.ca.clone();
        target.options.verify_cert = true;
        target.options.verify_hostname = self.tls.verify == Verify::Full && !by_address;
        target.options.upstream_tls_handshake_complete_hook = Some(domain.seal.clone());
        target
    }

    fn domain(&self) -> Arc<Domain> {
        self.domain.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Domain {
    fn load(tls: &UpstreamTls, by: &str, shelf: &mut Shelf) -> Result<Self, String> {
        let ca = tls.ca.as_ref().map(|file| shelf.authorities(by, file)).transpose()?;
        let identity = tls.identity.as_ref().map(|files| shelf.identity(by, files)).transpose()?;
        let address = tls.server_name.parse().ok().filter(|_| tls.verify == Verify::Full);
        let demands = Demands { address, pins: tls.pins.clone() };
        let of_openssl = |error: ErrorStack| format!("{by}: {error}");
        let own = identity.as_deref().filter(|identity| handshake::is_needed(identity)).map(|identity| {
            Handshake::new(tls, ca.as_deref(), identity, demands.clone()).map_err(of_openssl)
        });
        let ca = ca.map(|ca| ca.certificates().to_vec());
        let chain = identity.as_ref().map(|identity| identity.chain().to_vec());
        let fingerprint = fingerprint(tls, ca.as_deref(), chain.as_deref());
        let fingerprint = fingerprint.map_err(of_openssl)?;
        let identity =
            chain.zip(identity).map(|(chain, identity)| CertKey::new(chain, identity.key().clone()));
        Ok(Self {
            ca: ca.map(|ca| Arc::new(ca.into_boxed_slice())),
            identity: identity.map(Arc::new),
            seal: seal::hook(fingerprint, demands),
            handshake: own.transpose()?.map(Arc::new),
            fingerprint,
            renewed: false,
        })
    }
}

/// Of all that makes two domains different. The key is in it as the public key of the certificate.
fn fingerprint(tls: &UpstreamTls, ca: Option<&[X509]>, chain: Option<&[X509]>) -> Result<u64, ErrorStack> {
    let mut hash = Sha256::new();
    // Each part with its length or number before it, so that no part can be taken for its neighbour.
    hash.update(&tls.server_name.len().to_be_bytes());
    hash.update(tls.server_name.as_bytes());
    hash.update(&[u8::from(tls.verify == Verify::Full)]);
    hash.update(&tls.pins.len().to_be_bytes());
    tls.pins.iter().for_each(|pin| hash.update(pin));
    for certificates in [ca, chain] {
        hash.update(&certificates.map_or(usize::MAX, <[X509]>::len).to_be_bytes());
        for certificate in certificates.into_iter().flatten() {
            let der = certificate.to_der()?;
            hash.update(&der.len().to_be_bytes());
            hash.update(&der);
        }
    }
    let digest = hash.finish();
    Ok(u64::from_be_bytes(std::array::from_fn(|at| digest[at])))
}
