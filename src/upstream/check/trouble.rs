//! Why a check failed: from what Pingora and OpenSSL say to a [`Reason`] and a few words more.
//! Takes their errors, gives a [`Trouble`]. Surprise: with TLS 1.3 a server that refuses our certificate says so after the handshake, as
//! an alert in place of its answer; so every error of a connection is searched for one (RFC 8446 §4.4.2.4, §6.2).

use std::fmt;

use pingora_core::{Error, ErrorType};

use crate::logging;
use crate::routing::health::Reason;

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Reason,
    /// For the log and the admin listener: what the reason alone does not say, or nothing.
    pub detail: String,
}

impl Trouble {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// No connection, or no handshake. A certificate that does not hold is looked at more closely by whoever asks.
    pub fn of_connect(error: &Error) -> Self {
        let text = logging::without_content(error);
        if let Some(alert) = Alert::in_text(&text) {
            return alert.into();
        }
        match error.etype() {
            ErrorType::ConnectRefused => Self::new(Reason::Refused, ""),
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                Self::new(Reason::ConnectTimeout, "")
            }
            ErrorType::InvalidCert => Self::new(Reason::Untrusted, ""),
            ErrorType::TLSHandshakeFailure | ErrorType::HandshakeError | ErrorType::TLSWantX509Lookup => {
                Self::new(Reason::Tls, openssl_words(&text))
            }
            _ => Self::new(Reason::Unreachable, root(error)),
        }
    }

    /// The connection stood, and no whole answer came.
    pub fn of_answer(error: &Error) -> Self {
        let text = logging::without_content(error);
        match (Alert::in_text(&text), error.etype()) {
            (Some(alert), _) => alert.into(),
            (None, ErrorType::InvalidHTTPHeader) => Self::new(Reason::NotHttp, ""),
            (None, _) => Self::new(Reason::NoAnswer, root(error)),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => f.write_str(self.reason.sentence()),
            detail => write!(f, "{} ({detail})", self.reason.sentence()),
        }
    }
}

/// A fatal alert that the other side sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alert {
    number: u8,
    words: String,
}

impl Alert {
    /// As OpenSSL reports one: `error:0A000412:SSL routines::ssl/tls alert bad certificate:FILE:LINE:SSL alert number 42`.
    pub fn in_text(text: &str) -> Option<Self> {
        let (before, number) = text.split_once("SSL alert number ")?;
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let number = number[..digits].parse().ok()?;
        let words = before.rsplit_once("alert ").map_or("", |(_, words)| words);
        Some(Self { number, words: words.split(':').next().unwrap_or_default().to_owned() })
    }
}

impl From<Alert> for Trouble {
    /// By the number of the alert (RFC 8446 §6); which are about our certificate stands there in §6.2.
    fn from(alert: Alert) -> Self {
        let reason = match alert.number {
            // bad, unsupported, revoked, expired, unknown; unknown CA; access denied
            42..=46 | 48 | 49 => Reason::CertificateRejected,
            116 => Reason::CertificateRequired,
            _ => Reason::Tls,
        };
        // TLS 1.2 has no alert of its own for it (RFC 5246 §7.4.6).
        let or = if alert.number == 40 { ", or it demands a client certificate" } else { "" };
        Self::new(reason, format!("TLS alert {}: {}{or}", alert.number, alert.words))
    }
}

/// What went wrong at the bottom of it: `Connection reset by peer (os error 104)`.
fn root(error: &Error) -> String {
    error.root_cause().to_string()
}

/// The reason in OpenSSL's `error:CODE:LIBRARY:FUNCTION:REASON:FILE:LINE:`, or all of the text where there is none.
fn openssl_words(text: &str) -> String {
    let words = text.split_once("error:").and_then(|(_, error)| error.split(':').nth(3));
    words.unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn alerts_tell_whose_certificate_it_is() {
        let text = |words: &str, number| {
            format!("TLS connect() failed: error:0A000412:SSL routines:ssl3_read_bytes:{words}:ssl/record/rec_layer_s3.c:916:SSL alert number {number}, SNI: x")
        };
        for (words, number, reason) in [
            ("ssl/tls alert handshake failure",        40, Reason::Tls),
            ("ssl/tls alert bad certificate",          42, Reason::CertificateRejected),
            ("ssl/tls alert certificate expired",      45, Reason::CertificateRejected),
            ("tlsv1 alert unknown ca",                 48, Reason::CertificateRejected),
            ("tlsv13 alert certificate required",     116, Reason::CertificateRequired),
        ] {
            let alert = Alert::in_text(&text(words, number)).map(Trouble::from);
            let said = words.split_once("alert ").map_or("", |(_, said)| said);
            let alert = alert.map(|trouble| (trouble.reason, trouble.detail));
            assert!(alert.as_ref().is_some_and(|(why, words)| *why == reason
                && words.starts_with(&format!("TLS alert {number}: {said}"))), "{alert:?}");
        }
        assert_eq!(Alert::in_text("Connection reset by peer (os error 104)"), None);
    }

    #[test]
    fn of_openssl_errors_the_reason_is_left() {
        let text = "TLS connect() failed: error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:ssl/record/methods/tlsany_meth.c:84:, SNI: localhost";
        assert_eq!(openssl_words(text), "wrong version number");
        assert_eq!(openssl_words("unexpected EOF"), "unexpected EOF");
    }
}
