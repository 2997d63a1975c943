//! What is wrong with a peer's certificate, where Pingora says only that it does not hold.
//! Takes the peer that refused to connect, asks it for its certificate once more without believing it, and verifies that with OpenSSL.
//! Surprise: this second handshake shows no certificate of ours and carries nothing; it only names the reason.

use std::net::IpAddr;

use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{X509, X509PurposeId, X509StoreContext, X509VerifyResult};
use pingora_core::Error;
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::{HttpPeer, Peer};

use super::trouble::Trouble;
use crate::routing::health::Reason;

/// X509_V_ERR_*, as OpenSSL numbers them for ever.
const NOT_YET_VALID: i32 = 9;
const EXPIRED: i32 = 10;
const HOSTNAME_MISMATCH: i32 = 62;
const ADDRESS_MISMATCH: i32 = 64;

/// Names what `target` has against the certificate of its peer. `error`: as it was said first, for what OpenSSL has nothing against.
pub async fn look(connector: &TransportConnector, target: &HttpPeer, error: &Error) -> Trouble {
    let mut credulous = target.clone();
    credulous.options.verify_cert = false;
    credulous.client_cert_key = None;
    let Ok(stream) = connector.new_stream(&credulous).await else {
        return Trouble::new(Reason::Untrusted, "");
    };
    match verify(&stream, target) {
        Ok(X509VerifyResult::OK) => {
            Trouble::new(Reason::Untrusted, error.context.as_ref().map_or("", |context| context.as_str()))
        }
        Ok(verdict) => verdict.into(),
        Err(error) => Trouble::new(Reason::Untrusted, error.to_string()),
    }
}

impl From<X509VerifyResult> for Trouble {
    fn from(verdict: X509VerifyResult) -> Self {
        let reason = match verdict.as_raw() {
            NOT_YET_VALID | EXPIRED => Reason::Expired,
            HOSTNAME_MISMATCH | ADDRESS_MISMATCH => Reason::WrongName,
            _ => Reason::Untrusted,
        };
        Self::new(reason, verdict.error_string())
    }
}

/// Verifies the certificate at the other end of `stream` as `target` would.
fn verify(stream: &Stream, target: &HttpPeer) -> Result<X509VerifyResult, ErrorStack> {
    let ssl = stream.get_ssl();
    let Some(leaf) = ssl.and_then(|ssl| ssl.peer_certificate()) else {
        return Ok(X509VerifyResult::OK);
    };
    let mut others = Stack::new()?;
    for certificate in ssl.and_then(|ssl| ssl.peer_cert_chain()).into_iter().flatten() {
        others.push(certificate.to_owned())?;
    }
    let mut wanted = X509VerifyParam::new()?;
    wanted.set_purpose(X509PurposeId::SSL_SERVER)?;
    if target.verify_hostname() {
        match target.sni().parse::<IpAddr>() {
            Ok(address) => wanted.set_ip(address)?,
            Err(_) => wanted.set_host(target.sni())?,
        }
    }
    let mut store = X509StoreBuilder::new()?;
    match target.get_ca() {
        Some(authorities) => authorities.iter().try_for_each(|ca: &X509| store.add_cert(ca.clone()))?,
        None => store.set_default_paths()?,
    }
    store.set_param(&wanted)?;
    X509StoreContext::new()?.init(&store.build(), &leaf, &others, |context| {
        context.verify_cert()?;
        Ok(context.error())
    })
}
