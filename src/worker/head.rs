//! Whether the bytes read so far are a request head that may go on: complete, too large, or framed in two ways.
//! Takes bytes and limits, gives a [`Verdict`]; parsing the head is Pingora's work. Pure.
//! Surprise: `Content-Length` beside `Transfer-Encoding` is refused here (RFC 9112 §6.3 allows to), since Pingora drops the length and goes on.

/// What the bytes of a head amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Partial,
    /// The whole message's length where the head says it: without a length field there is no body, a chunked body or an
    /// upgraded connection ends somewhere else.
    Complete {
        message: Option<usize>,
    },
    Refused(Refusal),
}

/// A connection that is answered without HTTP being parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Label of the counter.
    pub reason: &'static str,
    pub response: &'static [u8],
}

macro_rules! refusal {
    ($name:ident, $reason:literal, $line:literal, $sentence:literal) => {
        pub const $name: Refusal = Refusal {
            reason: $reason,
            // Delimited by the close that follows.
            response: concat!(
                "HTTP/1.1 ",
                $line,
                "\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n",
                $sentence,
                "\n"
            )
            .as_bytes(),
        };
    };
}

refusal!(TOO_LARGE, "head_too_large", "431 Request Header Fields Too Large", "The request head is too large");
refusal!(TOO_MANY, "too_many_fields", "431 Request Header Fields Too Large", "Too many header fields");
refusal!(TOO_SLOW, "head_too_slow", "408 Request Timeout", "The request head did not arrive in time");
refusal!(TWO_LENGTHS, "two_lengths", "400 Bad Request", "The head gives the length of the body twice");
refusal!(
    NOT_CHUNKED,
    "not_chunked",
    "501 Not Implemented",
    "Only the chunked transfer coding is supported, and only once"
);
refusal!(
    TOO_MANY_CONNECTIONS,
    "too_many_connections",
    "503 Service Unavailable\r\nRetry-After: 1",
    "Too many connections"
);

refusal!(PLAINTEXT, "plaintext", "400 Bad Request", "This port speaks HTTPS; the request came without TLS");

/// Looks at what has arrived: `limit` bytes and `most` fields are allowed.
pub fn inspect(bytes: &[u8], limit: usize, most: usize) -> Verdict {
    let mut fields = 0;
    let (mut length, mut encoding, mut upgrade) = (None, false, false);
    let mut start = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let first_line = start;
    while let Some(end) = memchr::memchr(b'\n', &bytes[start..]).map(|at| start + at) {
        let line = bytes[start..end].strip_suffix(b"\r").unwrap_or(&bytes[start..end]);
        if end >= limit {
            return Verdict::Refused(TOO_LARGE);
        }
        if line.is_empty() {
            return match (length, encoding) {
                (Some(_), true) => Verdict::Refused(TWO_LENGTHS),
                (None, true) => Verdict::Complete { message: None },
                _ if upgrade => Verdict::Complete { message: None },
                (body, false) => {
                    Verdict::Complete { message: body.unwrap_or(Some(0)).map(|body| end + 1 + body) }
                }
            };
        }
        if start > first_line {
            fields += 1;
            let (name, value) = field(line);
            if name.eq_ignore_ascii_case(b"content-length") && length.replace(number(value)).is_some() {
                return Verdict::Refused(TWO_LENGTHS);
            }
            if name.eq_ignore_ascii_case(b"transfer-encoding")
                && (std::mem::replace(&mut encoding, true) || !is_chunked(value))
            {
                return Verdict::Refused(NOT_CHUNKED);
            }
            upgrade |= name.eq_ignore_ascii_case(b"upgrade");
        }
        if fields > most {
            return Verdict::Refused(TOO_MANY);
        }
        start = end + 1;
    }
    if bytes.len() >= limit { Verdict::Refused(TOO_LARGE) } else { Verdict::Partial }
}

/// Name and value of a field. A line without a colon is all name.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
    (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
}

/// Pingora looks at the last coding only; another server may look at the first.
fn is_chunked(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"chunked")
}

/// The value of a length field; whether it is a lawful one is Pingora's to judge.
fn number(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.parse().ok().filter(|length| *length < usize::MAX / 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn judge(head: &str) -> Verdict {
        inspect(head.as_bytes(), 200, 4)
    }

    #[test]
    fn a_head_is_whole_at_its_empty_line() {
        for (head, body) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(0)),
            ("GET / HTTP/1.1\nHost: a\n\n", Some(0)),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(0)),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n", Some(3)),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", None),
            ("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", None),
        ] {
            let message = body.map(|body: usize| head.len() + body);
            assert_eq!(judge(&format!("{head}a\nbGET /")), Verdict::Complete { message }, "{head:?}");
        }
        for partial in [
            "",
            "G",
            "\r\n",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r",
        ] {
            assert_eq!(judge(partial), Verdict::Partial, "{partial:?}");
        }
    }

    #[test]
    fn limits_are_kept_whole_or_partial() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200));
        assert_eq!(judge(&long), Verdict::Refused(TOO_LARGE));
        assert_eq!(judge(&long[..200]), Verdict::Refused(TOO_LARGE));
        assert_eq!(judge(&long[..199]), Verdict::Partial);
        let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(judge(&fields(4)), Verdict::Complete { message: Some(fields(4).len()) });
        assert_eq!(judge(&fields(5)), Verdict::Refused(TOO_MANY));
    }

    #[test]
    fn two_lengths_are_refused_in_any_spelling() {
        for (one, two) in [
            ("Content-Length: 1", "Transfer-Encoding: chunked"),
            ("transfer-encoding : chunked", "CONTENT-LENGTH:1"),
        ] {
            assert_eq!(
                judge(&format!("POST / HTTP/1.1\r\n{one}\r\n{two}\r\n\r\n")),
                Verdict::Refused(TWO_LENGTHS)
            );
        }
    }
}
