//! Who a client is by its certificate: as the access log shows it, and as `X-Forwarded-Client-Cert` tells it to the upstream.
//! PURE: takes what was read off a certificate, gives texts that are one line of visible ASCII each.
//! Surprise: a CA may have signed names with quotes, commas and line ends in them, so whatever could end a value early is written as
//! its code in hexadecimal, after `\` in the subject (RFC 4514) and after `%` in any other name (RFC 3986).

use std::fmt::Write;
use std::net::IpAddr;

use serde::Serialize;

/// Envoy's field; its form is what proxies and gateways have agreed on.
pub const FORWARDED: &str = "x-forwarded-client-cert";

/// A client that showed a certificate which one of the listener's CAs has signed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ClientCert {
    /// RFC 4514, the most specific part first: `CN=client,O=Example`.
    pub subject: String,
    /// Subject alternative names, each with its kind: `DNS:client.example`.
    pub sans: Vec<String>,
    /// Of the certificate in DER, in hexadecimal.
    pub sha256: String,
    /// Value of the field [`FORWARDED`].
    #[serde(skip)]
    pub forwarded: String,
}

/// A subject alternative name of a kind that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AltName {
    Dns(String),
    Email(String),
    Ip(IpAddr),
    Uri(String),
}

impl ClientCert {
    /// `subject`: kinds and values in the order of the certificate, which is the reverse of how they are written.
    pub fn new(subject: &[(String, String)], names: &[AltName], sha256: &[u8]) -> Self {
        let parts: Vec<String> =
            subject.iter().rev().map(|(kind, value)| format!("{kind}={}", subject_value(value))).collect();
        let subject = parts.join(",");
        let sha256 = sha256.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let mut forwarded = format!("Hash={sha256};Subject=\"{subject}\"");
        for (kind, value) in names.iter().filter_map(AltName::forwarded) {
            let quote = if value.contains([',', ';', '=']) { "\"" } else { "" };
            forwarded.extend([";", kind, "=", quote, &value, quote]);
        }
        Self { subject, sans: names.iter().map(AltName::to_string).collect(), sha256, forwarded }
    }
}

impl AltName {
    /// The field knows these two kinds.
    fn forwarded(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Dns(name) => Some(("DNS", visible(name))),
            Self::Uri(uri) => Some(("URI", visible(uri))),
            Self::Email(_) | Self::Ip(_) => None,
        }
    }
}

impl std::fmt::Display for AltName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{}", visible(name)),
            Self::Email(address) => write!(f, "email:{}", visible(address)),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Uri(uri) => write!(f, "URI:{}", visible(uri)),
        }
    }
}

/// A value in a subject. The simpler escapes `\"` and `\\` are left out: within quotes they are read in two ways.
fn subject_value(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let escape = |at: usize, byte: u8| match byte {
        b'"' | b'\\' | b',' | b'+' | b';' | b'<' | b'>' | b'=' => true,
        b'#' => at == 0,
        b' ' => at == 0 || at == last,
        byte => !byte.is_ascii_graphic(),
    };
    escaped(value, '\\', escape)
}

/// Any other name.
fn visible(name: &str) -> String {
    escaped(name, '%', |_, byte| matches!(byte, b'"' | b'\\') || !byte.is_ascii_graphic())
}

fn escaped(text: &str, sign: char, escape: impl Fn(usize, u8) -> bool) -> String {
    let mut written = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        if escape(at, byte) {
            let _ = write!(written, "{sign}{byte:02X}");
        } else {
            written.push(char::from(byte));
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(subject: &[(&str, &str)]) -> Vec<(String, String)> {
        subject.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_plain_certificate() {
        let names = [
            AltName::Uri("spiffe://example/ns/a/sa/b".to_owned()),
            AltName::Dns("client.example".to_owned()),
            AltName::Ip(IpAddr::from([192, 0, 2, 1])),
            AltName::Email("ops@example".to_owned()),
        ];
        let made = ClientCert::new(&pairs(&[("O", "Example Inc"), ("CN", "client")]), &names, &[0xab, 0x01]);
        assert_eq!(made.subject, "CN=client,O=Example Inc");
        assert_eq!(
            made.sans,
            ["URI:spiffe://example/ns/a/sa/b", "DNS:client.example", "IP:192.0.2.1", "email:ops@example"]
        );
        assert_eq!(
            made.forwarded,
            "Hash=ab01;Subject=\"CN=client,O=Example Inc\";URI=spiffe://example/ns/a/sa/b;DNS=client.example"
        );
    }

    #[test]
    fn nothing_ends_a_value_early() {
        let hostile = ClientCert::new(
            &pairs(&[("CN", "a\",Hash=0;By=\r\nX: y")]),
            &[AltName::Dns("b\";Hash=1,c".to_owned()), AltName::Uri("d\r\ne".to_owned())],
            &[],
        );
        assert_eq!(
            hostile.forwarded,
            "Hash=;Subject=\"CN=a\\22\\2CHash\\3D0\\3BBy\\3D\\0D\\0AX: y\";DNS=\"b%22;Hash=1,c\";URI=d%0D%0Ae"
        );
    }

    #[test]
    fn a_subject_is_written_as_rfc_4514_wants_it() {
        for (value, written) in
            [("#1", "\\231"), ("a#1", "a#1"), (" a b ", "\\20a b\\20"), ("Zürich", "Z\\C3\\BCrich"), ("", "")]
        {
            assert_eq!(subject_value(value), written, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_makes_a_field_value_whose_quotes_are_ours(subject in "\\PC{0,20}", name in ".{0,20}") {
            let made = ClientCert::new(&pairs(&[("CN", &subject)]), &[AltName::Dns(name)], &[1]);
            prop_assert!(made.forwarded.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            prop_assert!([2, 4].contains(&made.forwarded.matches('"').count()));
        }
    }
}
