//! Certificates as they stand in a file: parsed, and looked at for what they are good for.
//! Takes a file, gives its certificates in order; says of the first what speaks against its use.
//! Surprise: only the first one's dates count. A chain may carry an expired cross-signature for the sake of old clients.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod};
use openssl::x509::{X509, X509ExtendedKeyUsage, X509Ref};

use super::{pem, read};

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Server,
    Client,
}

/// The certificates of one file; there is at least one.
pub struct Chain(Vec<X509>);

impl Chain {
    pub fn read(file: &Path) -> Result<Self, String> {
        let of_file = |what: &str| format!("{}: {what}", file.display());
        let pem = read(file)?;
        let blocks = pem::blocks(&pem).map_err(of_file)?;
        let certificates =
            blocks.iter().filter(|block| matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE"));
        let parsed = certificates.enumerate().map(|(index, block)| {
            let damaged = |_| of_file(&format!("certificate {} in it is damaged", index + 1));
            X509::from_pem(block.text).map_err(damaged)
        });
        let parsed: Vec<X509> = parsed.collect::<Result<_, _>>()?;
        if parsed.is_empty() { Err(of_file("no PEM certificate in it")) } else { Ok(Self(parsed)) }
    }

    pub fn leaf(&self) -> &X509 {
        &self.0[0]
    }

    /// The leaf and its intermediates.
    pub fn split(&self) -> (&X509, &[X509]) {
        (&self.0[0], &self.0[1..])
    }

    pub fn certificates(&self) -> &[X509] {
        &self.0
    }

    /// Why the first certificate may not, or cannot, be shown for these purposes.
    pub fn unfit_for(&self, purposes: &[Purpose]) -> Option<String> {
        let leaf = self.leaf();
        let lacking = purposes.iter().find(|purpose| !allows(leaf, **purpose)).map(|purpose| {
            let (use_, name) = match purpose {
                Purpose::Server => ("a server's", "serverAuth"),
                Purpose::Client => ("a client's", "clientAuth"),
            };
            format!("the certificate may not be {use_}: its extended key usage lacks {name}")
        });
        lacking.or_else(|| {
            let reason = self.refusal_by_tls()?;
            Some(format!("TLS does not take the certificate: {reason}"))
        })
    }

    /// TLS as this build of OpenSSL speaks it shows no keys that are too short and no digests that are broken, in intermediates neither;
    /// there it would say so in every single handshake.
    fn refusal_by_tls(&self) -> Option<String> {
        let show = || {
            let (leaf, intermediates) = self.split();
            let mut context = SslContext::builder(SslMethod::tls())?;
            context.set_certificate(leaf)?;
            let mut tls = Ssl::new(&context.build())?;
            intermediates.iter().try_for_each(|intermediate| tls.add_chain_cert(intermediate.clone()))
        };
        let errors: ErrorStack = show().err()?;
        let reason = errors.errors().first().and_then(|error| error.reason().map(str::to_owned));
        Some(reason.unwrap_or_else(|| "no reason given".to_owned()))
    }

    /// What the first certificate is for, in lower case.
    pub fn dns_names(&self) -> Vec<String> {
        let names = self.leaf().subject_alt_names();
        names.iter().flatten().filter_map(|name| name.dnsname()).map(str::to_ascii_lowercase).collect()
    }

    /// Why the first certificate is not valid at `now`.
    pub fn untimely(&self, now: &Asn1TimeRef) -> Option<String> {
        untimely(self.leaf(), now).map(|reason| format!("the certificate {reason}"))
    }

    /// Why none of the certificates is valid at `now`: what the last one says.
    pub fn all_untimely(&self, now: &Asn1TimeRef) -> Option<String> {
        let reasons: Option<Vec<String>> = self.0.iter().map(|one| untimely(one, now)).collect();
        let mut reasons = reasons?;
        let last = reasons.pop()?;
        Some(if reasons.is_empty() {
            format!("the certificate {last}")
        } else {
            format!("none of its {} certificates is valid; the last one {last}", reasons.len() + 1)
        })
    }
}

fn allows(certificate: &X509Ref, purpose: Purpose) -> bool {
    let asked = match purpose {
        Purpose::Server => X509ExtendedKeyUsage::SSL_SERVER,
        Purpose::Client => X509ExtendedKeyUsage::SSL_CLIENT,
    };
    // No such extension means no restriction (RFC 5280 §4.2.1.12).
    certificate
        .extended_key_usage()
        .is_none_or(|usage| usage.intersects(asked | X509ExtendedKeyUsage::ANYEKU))
}

fn untimely(certificate: &X509Ref, now: &Asn1TimeRef) -> Option<String> {
    if certificate.not_after() < now {
        Some(format!("expired on {}", certificate.not_after()))
    } else if certificate.not_before() > now {
        Some(format!("is not valid before {}", certificate.not_before()))
    } else {
        None
    }
}

/// What an operator asks of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub subject: String,
    /// Hexadecimal, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    pub fn is_expired(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        i64::try_from(now).is_ok_and(|now| self.not_after < now)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, serial, not_after } = self;
        write!(out, "{subject:?} (serial {serial}, valid until ")?;
        match Asn1Time::from_unix(*not_after) {
            Ok(date) => write!(out, "{})", &*date),
            Err(_) => write!(out, "{not_after})"),
        }
    }
}

impl From<&X509> for Certificate {
    fn from(certificate: &X509) -> Self {
        let entries = certificate.subject_name().entries().map(|entry| {
            let name = entry.object().nid().short_name().unwrap_or("?");
            format!("{name}={}", String::from_utf8_lossy(entry.data().as_slice()))
        });
        let serial = certificate.serial_number().to_bn().and_then(|number| number.to_hex_str());
        let since = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(certificate.not_after()));
        Self {
            subject: entries.collect::<Vec<_>>().join(", "),
            serial: serial.map(|hex| hex.to_string()).unwrap_or_default(),
            not_after: since.map_or(0, |since| i64::from(since.days) * 86_400 + i64::from(since.secs)),
        }
    }
}
