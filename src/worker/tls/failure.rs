//! Why a handshake came to nothing: whose fault it is, in one word for the counter and one sentence for the log. PURE.
//! Takes the text that OpenSSL has for it, gives a [`Failure`]. Surprise: text is all there is, since Pingora keeps nothing else of
//! OpenSSL's error; only the reason in it is looked at, and a test with a real client stands for every word.

/// A connection that never spoke HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Label of the counter.
    pub reason: &'static str,
    pub sentence: String,
}

impl Failure {
    /// `text`: of OpenSSL, with whatever stands around it. `verdict`: what it had against the client's certificate.
    pub fn of(text: &str, verdict: Option<&str>) -> Self {
        let detail = openssl_reason(text).unwrap_or(text);
        let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
        let (reason, sentence) = if let Some(verdict) = verdict {
            ("untrusted_certificate", format!("the client's certificate is not accepted: {verdict}"))
        } else if has(&["peer did not return a certificate"]) {
            ("no_certificate", "the client showed no certificate".to_owned())
        } else if has(&[" alert "]) {
            ("alert", format!("the client gave up: {detail}"))
        } else if has(&["unsupported protocol", "version too low", "unknown protocol", "wrong ssl version"]) {
            ("version", "the client speaks none of our versions of TLS".to_owned())
        } else if has(&["no shared cipher", "no suitable", "no shared group"]) {
            ("no_common_cipher", format!("the client has no method in common with us: {detail}"))
        } else if has(&["unexpected EOF", "unexpected eof", "reset by peer", "Broken pipe"]) {
            ("closed", "the client went away in the middle".to_owned())
        } else {
            ("malformed", format!("what the client sends is not right: {detail}"))
        };
        Self { reason, sentence }
    }

    pub fn too_slow() -> Self {
        Self { reason: "timeout", sentence: "it was not done in time".to_owned() }
    }

    pub fn plaintext() -> Self {
        Self { reason: "plaintext", sentence: "the client does not speak TLS".to_owned() }
    }

    /// A certificate was good when its session began, and the session was to be resumed.
    pub fn expired_since() -> Self {
        Self::of("", Some("certificate has expired since its session began"))
    }
}

/// `error:0A0000C7:SSL routines:FUNCTION:REASON:FILE:LINE:` → the reason.
fn openssl_reason(text: &str) -> Option<&str> {
    let (_, error) = text.split_once("error:")?;
    error.split(':').nth(3).filter(|reason| !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_in_what_pingora_makes_of_it() {
        let text = "Downstream TLSHandshakeFailure context: TLS accept() failed: error:0A0000C7:SSL routines:\
                    tls_process_client_certificate:peer did not return a certificate:ssl/statem/statem_srvr.c:3705:";
        assert_eq!(Failure::of(text, None).reason, "no_certificate");
        let failure = Failure::of(
            "error:0A000418:SSL routines:f:tlsv1 alert unknown ca:a.c:1:SSL alert number 48",
            None,
        );
        assert_eq!(
            (failure.reason, &*failure.sentence),
            ("alert", "the client gave up: tlsv1 alert unknown ca")
        );
    }

    #[test]
    fn what_has_no_word_of_its_own_is_told_as_it_is() {
        let failure = Failure::of("something else", None);
        assert_eq!(
            (failure.reason, &*failure.sentence),
            ("malformed", "what the client sends is not right: something else")
        );
    }

    #[test]
    fn a_verdict_on_the_certificate_is_the_reason() {
        let failure =
            Failure::of("error:1:a:b:certificate verify failed:c:1:", Some("certificate has expired"));
        assert_eq!(
            (failure.reason, &*failure.sentence),
            ("untrusted_certificate", "the client's certificate is not accepted: certificate has expired")
        );
    }
}
