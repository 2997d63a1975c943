//! A client by the certificate that it showed: read off OpenSSL's form of it once per connection.
//! Takes a verified certificate, gives the [`ClientCert`] that the log and the upstream are told. Surprise: names of kinds that nobody
//! asks for (directory names, registered ids) are left out.

use std::net::IpAddr;

use openssl::asn1::Asn1StringRef;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::{GeneralNameRef, X509NameEntryRef, X509Ref};

use crate::mcp::client_cert::{AltName, ClientCert};

/// # Errors
/// OpenSSL's, which has no memory left.
pub fn of(certificate: &X509Ref) -> Result<ClientCert, ErrorStack> {
    let subject: Vec<_> = certificate.subject_name().entries().map(part).collect();
    let names = certificate.subject_alt_names();
    let names: Vec<_> = names.iter().flatten().filter_map(alt_name).collect();
    Ok(ClientCert::new(&subject, &names, &certificate.digest(MessageDigest::sha256())?))
}

fn part(entry: &X509NameEntryRef) -> (String, String) {
    let kind = entry.object();
    let known = Some(kind.nid()).filter(|nid| *nid != Nid::UNDEF).and_then(|nid| nid.short_name().ok());
    (known.map_or_else(|| kind.to_string(), str::to_owned), text(entry.data()))
}

/// What is no text is shown as far as it can be.
fn text(value: &Asn1StringRef) -> String {
    value.to_string().unwrap_or_else(|_| String::from_utf8_lossy(value.as_slice()).into_owned())
}

fn alt_name(name: &GeneralNameRef) -> Option<AltName> {
    let ip = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok(),
        _ => <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok(),
    };
    None.or_else(|| Some(AltName::Dns(name.dnsname()?.to_owned())))
        .or_else(|| Some(AltName::Uri(name.uri()?.to_owned())))
        .or_else(|| Some(AltName::Email(name.email()?.to_owned())))
        .or_else(|| Some(AltName::Ip(ip(name.ipaddress()?)?)))
}
