//! Certificates as they stand in a file: parsed, and looked at for what they are good for.
//! Takes a file, gives its certificates in order; says of the first what speaks against its use.
//! Surprise: only the first one's dates count. A chain may carry an expired cross-signature for the sake of old clients.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::{Ssl, SslContext, SslMethod};
use openssl::x509::{X509, X509ExtendedKeyUsage, X509NameEntryRef, X509Ref};

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
    /// What people call it: its common name, else its first DNS name, else the subject.
    pub name: String,
    pub subject: String,
    /// Hexadecimal, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// Seconds since 1970, as `not_after` is.
    pub not_before: i64,
    pub not_after: i64,
}

/// How near its end a certificate is, by the measure of its own life: one that lives for a day is renewed every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    Far,
    /// Whoever renews it has missed his time: its last quarter, of a long life the last 30 days.
    Soon,
    /// Its last tenth, of a long life the last week.
    Close,
    Past,
}

impl Nearness {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Far => "far",
            Self::Soon => "soon",
            Self::Close => "close",
            Self::Past => "past",
        }
    }
}

pub const DAY: i64 = 24 * 60 * 60;

impl Certificate {
    pub fn is_expired(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        i64::try_from(now).is_ok_and(|now| self.not_after < now)
    }

    /// `now`: seconds since 1970.
    pub fn nearness(&self, now: i64) -> Nearness {
        let (left, life) = (self.not_after - now, self.not_after - self.not_before);
        match left {
            ..0 => Nearness::Past,
            _ if left < (life / 10).min(7 * DAY) => Nearness::Close,
            _ if left < (life / 4).min(30 * DAY) => Nearness::Soon,
            _ => Nearness::Far,
        }
    }

    /// Whole days from `now` on; negative once it has expired.
    pub fn days_left(&self, now: i64) -> i64 {
        (self.not_after - now).div_euclid(DAY)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, serial, not_after, .. } = self;
        write!(out, "{subject:?} (serial {serial}, valid until ")?;
        match Asn1Time::from_unix(*not_after) {
            Ok(date) => write!(out, "{})", &*date),
            Err(_) => write!(out, "{not_after})"),
        }
    }
}

impl From<&X509> for Certificate {
    fn from(certificate: &X509) -> Self {
        let text = |entry: &X509NameEntryRef| String::from_utf8_lossy(entry.data().as_slice()).into_owned();
        let subject = certificate.subject_name();
        let entries = subject.entries().map(|entry| {
            let name = entry.object().nid().short_name().unwrap_or("?");
            format!("{name}={}", text(entry))
        });
        let whole = entries.collect::<Vec<_>>().join(", ");
        let common_name = subject.entries_by_nid(Nid::COMMONNAME).last().map(text);
        let name = common_name.or_else(|| {
            let names = certificate.subject_alt_names();
            names.iter().flatten().find_map(|name| name.dnsname().map(str::to_owned))
        });
        let serial = certificate.serial_number().to_bn().and_then(|number| number.to_hex_str());
        Self {
            name: name.unwrap_or_else(|| whole.clone()),
            subject: whole,
            serial: serial.map(|hex| hex.to_string()).unwrap_or_default(),
            not_before: unix(certificate.not_before()),
            not_after: unix(certificate.not_after()),
        }
    }
}

/// Seconds since 1970.
fn unix(time: &Asn1TimeRef) -> i64 {
    let since = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(time));
    since.map_or(0, |since| i64::from(since.days) * DAY + i64::from(since.secs))
}
