//! What is demanded of a TLS connection beyond what Pingora verifies, and the proof that it was met.
//! Takes a finished handshake, leaves a [`Seal`] on the connection; whoever uses a connection looks at its seal first.
//! Surprise: Pingora's hook cannot refuse. It writes the verdict on the connection, where both ways through the proxy find it before the
//! first byte of a request is sent; a connection without a seal is refused.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use openssl::sha::sha256;
use openssl::ssl::{SslRef, SslVersion};
use openssl::x509::X509Ref;
use pingora_core::protocols::tls::{HandshakeCompleteHook, SslDigest};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{BError, Error, ErrorType};

/// The SHA-256 of a public key (its SubjectPublicKeyInfo, as RFC 7469 §2.4 has it).
pub type Pin = [u8; 32];

/// What Pingora does not look at.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// The certificate must have been made out to this address: Pingora compares names only.
    pub address: Option<IpAddr>,
    /// The server's key must be one of these; none = any.
    pub pins: Vec<Pin>,
}

/// On every connection of a trust domain.
struct Seal {
    /// The fingerprint of the domain.
    domain: u64,
    /// Why the connection must not be used.
    refusal: Option<String>,
}

/// Seals every connection that is opened with it.
pub fn hook(domain: u64, demands: Demands) -> HandshakeCompleteHook {
    Arc::new(move |ssl| {
        let seal: Arc<dyn Any + Send + Sync> = Arc::new(Seal { domain, refusal: demands.refusal(ssl) });
        Some(seal)
    })
}

/// Whether a connection may be used for `target`.
///
/// # Errors
/// For the log: what is wrong with it.
pub fn check(target: &HttpPeer, digest: Option<&SslDigest>) -> Result<(), BError> {
    if !target.is_tls() {
        return Ok(());
    }
    match digest.and_then(|digest| digest.extension.get::<Seal>()) {
        Some(Seal { refusal: Some(reason), .. }) => Error::e_explain(ErrorType::InvalidCert, reason.clone()),
        Some(Seal { domain, refusal: None }) if *domain == target.group_key => Ok(()),
        _ => Error::e_explain(ErrorType::InvalidCert, "the connection belongs to another trust domain"),
    }
}

/// The trust domain that a connection was opened in; `None` = plaintext.
pub fn domain(digest: Option<&SslDigest>) -> Option<u64> {
    digest.and_then(|digest| digest.extension.get::<Seal>()).map(|seal| seal.domain)
}

impl Demands {
    /// Why a connection must not be used, if so.
    pub fn refusal(&self, ssl: &SslRef) -> Option<String> {
        // Pingora offers TLS 1.0, too.
        if !matches!(ssl.version2(), Some(SslVersion::TLS1_2 | SslVersion::TLS1_3)) {
            return Some(format!("it speaks {}; TLS 1.2 is the least", ssl.version_str()));
        }
        match ssl.peer_certificate() {
            Some(certificate) => self.refusal_of(&certificate),
            None => Some("it showed no certificate".to_owned()),
        }
    }

    fn refusal_of(&self, certificate: &X509Ref) -> Option<String> {
        if let Some(address) = self.address.filter(|address| !is_made_out_to(certificate, *address)) {
            return Some(format!("its certificate is not made out to the address {address}"));
        }
        let pinned = || {
            let key = certificate.public_key().and_then(|key| key.public_key_to_der());
            key.is_ok_and(|der| self.pins.contains(&sha256(&der)))
        };
        (!self.pins.is_empty() && !pinned()).then(|| "its key is none of `pins`".to_owned())
    }
}

fn is_made_out_to(certificate: &X509Ref, address: IpAddr) -> bool {
    let names = certificate.subject_alt_names();
    names.iter().flatten().filter_map(|name| name.ipaddress()).any(|bytes| match address {
        IpAddr::V4(address) => bytes == address.octets(),
        IpAddr::V6(address) => bytes == address.octets(),
    })
}
