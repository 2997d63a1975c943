//! JSON-RPC as the proxy needs it: takes a request body, gives its messages (what kind, which id, method and
//! protocol version, and where the splice will cut) or the reason why the body cannot be let through.
//! It copies nothing. The surprise: a body in which two parsers could see two different messages (a member twice, also
//! in escaped spelling) is refused here, so that nobody behind us is asked to choose.

use super::json::Scanner;
use super::message::Found;
pub use super::message::{Kind, Message};
pub use super::refusal::{BATCH_LIMIT, Reason, Refusal};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A request body: one message, or a batch (which only MCP 2025-03-26 has). A batch is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope<'a> {
    Single(Message<'a>),
    Batch(Vec<Message<'a>>),
}

/// Checks that all of a request body is JSON (RFC 8259 and UTF-8; numbers of any size, nesting of any depth, lone
/// surrogates in escapes), and finds its messages. Time grows with the length alone.
pub fn scan(body: &[u8]) -> Result<Envelope<'_>, Refusal> {
    if body.starts_with(BYTE_ORDER_MARK) {
        return Err(Refusal::without_id(Reason::Bom));
    }
    match std::str::from_utf8(body) {
        Ok(text) => scan_text(text),
        Err(error) => {
            let offset = error.valid_up_to();
            let id = scan(&body[..offset]).err().and_then(|refusal| refusal.id);
            Err(Refusal { reason: Reason::Utf8 { offset }, id })
        }
    }
}

impl<'a> Envelope<'a> {
    /// The messages in the order they stand in the body; never none.
    pub fn messages(&self) -> &[Message<'a>] {
        match self {
            Self::Single(message) => std::slice::from_ref(message),
            Self::Batch(messages) => messages,
        }
    }
}

fn scan_text(text: &str) -> Result<Envelope<'_>, Refusal> {
    let mut scanner = Scanner::new(text);
    match scanner.peek() {
        None => Err(Refusal::without_id(Reason::Empty)),
        Some(b'{') => single(text, &mut scanner).map(Envelope::Single),
        Some(b'[') => batch(text, &mut scanner).map(Envelope::Batch).map_err(Refusal::without_id),
        Some(_) => {
            let read = scanner.value().and_then(|_| scanner.end());
            Err(Refusal::without_id(read.map_or_else(Reason::from, |()| Reason::NotAMessage)))
        }
    }
}

fn single<'a>(text: &'a str, scanner: &mut Scanner<'a>) -> Result<Message<'a>, Refusal> {
    let mut found = Found::default();
    let read = found.read(text, scanner).and_then(|()| scanner.end());
    match read.map_err(Reason::from).and_then(|()| found.duplicate.map_or(Ok(()), Err)) {
        Ok(()) => Ok(found.message(text)),
        Err(reason) => Err(Refusal { reason, id: found.certain_id(text) }),
    }
}

fn batch<'a>(text: &'a str, scanner: &mut Scanner<'a>) -> Result<Vec<Message<'a>>, Reason> {
    let mut messages = Vec::new();
    let mut refused = None;
    scanner.array(|scanner| {
        let mut found = Found::default();
        match scanner.peek() {
            Some(b'{') => found.read(text, scanner)?,
            _ => {
                scanner.value()?;
            }
        }
        refused = refused.or(found.duplicate);
        if messages.len() < BATCH_LIMIT {
            messages.push(found.message(text));
        } else {
            refused = refused.or(Some(Reason::BatchTooLong));
        }
        Ok(())
    })?;
    scanner.end()?;
    match refused {
        Some(reason) => Err(reason),
        None if messages.is_empty() => Err(Reason::EmptyBatch),
        None => Ok(messages),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    /// One line for what the scan says of a body.
    fn said_of(body: impl AsRef<[u8]>) -> String {
        match scan(body.as_ref()) {
            Ok(Envelope::Single(message)) => message_said(&message),
            Ok(Envelope::Batch(messages)) => {
                format!("[{}]", messages.iter().map(message_said).collect::<Vec<_>>().join(", "))
            }
            Err(Refusal { reason, id }) => match id {
                Some(id) => format!("{reason:?} of {}", String::from_utf8_lossy(&id)),
                None => format!("{reason:?}"),
            },
        }
    }

    fn message_said(message: &Message<'_>) -> String {
        let kind = match message.kind {
            Kind::Request { id } => format!("request {}", String::from_utf8_lossy(id)),
            Kind::Notification => "notification".into(),
            Kind::Response { id: Some(id) } => format!("response {}", String::from_utf8_lossy(id)),
            Kind::Response { id: None } => "response".into(),
            Kind::Other => "other".into(),
        };
        let named =
            |name: &Option<Cow<'_, str>>| name.as_ref().map_or(String::new(), |name| format!(" {name}"));
        format!("{kind}{}{}", named(&message.method), named(&message.protocol_version))
    }

    fn assert_said(table: &[(&str, &str)]) {
        for (body, said) in table {
            assert_eq!(said_of(body), *said, "of {body}");
        }
    }

    #[test]
    fn tells_what_a_message_is() {
        assert_said(&[
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "request 1 ping"),
            (r#" { "method" : "ping" , "id" : "a\"b" } "#, r#"request "a\"b" ping"#),
            (r#"{"method":"ping","id":null}"#, "request null ping"),
            (r#"{"method":"notifications/cancelled","params":{}}"#, "notification notifications/cancelled"),
            (r#"{"id":1,"result":{}}"#, "response 1"),
            (r#"{"id":1,"error":{"code":-1,"message":"no"}}"#, "response 1"),
            (r#"{"result":{}}"#, "response"),
            (r#"{"id":1,"method":"ping","result":{}}"#, "request 1 ping"),
            (r#"{"id":1}"#, "other"),
            (r#"{}"#, "other"),
            (r#"{"id":1,"method":7}"#, "request 1"),
            (r#"{"Method":"ping","params":{"method":"x"}}"#, "other"),
        ]);
    }

    #[test]
    fn keeps_the_id_as_it_is_written() {
        assert_said(&[
            (
                r#"{"id":123456789012345678901234567890,"method":"x"}"#,
                "request 123456789012345678901234567890 x",
            ),
            (r#"{"id":1E2,"method":"x"}"#, "request 1E2 x"),
            (r#"{"id":-0.0,"method":"x"}"#, "request -0.0 x"),
            (r#"{"id":"\ud800","method":"x"}"#, r#"request "\ud800" x"#),
            (r#"{"id":[1, 2],"method":"x"}"#, "request [1, 2] x"),
        ]);
    }

    #[test]
    fn reads_through_escapes() {
        assert_said(&[
            (r#"{"\u006dethod":"ping"}"#, "notification ping"),
            (r#"{"method":"tools\/call"}"#, "notification tools/call"),
            (r#"{"method":"\u0070ing\ud83d\ude00"}"#, "notification ping😀"),
            (r#"{"method":"ping\ud800"}"#, "notification ping\u{FFFD}"),
            (r#"{"m\u0065thod\u0000":"ping"}"#, "other"),
        ]);
    }

    #[test]
    fn finds_the_protocol_version_of_a_modern_request() {
        let request = |params: &str| format!(r#"{{"id":1,"method":"x","params":{params}}}"#);
        for (params, said) in [
            (
                r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#,
                "request 1 x 2026-07-28",
            ),
            (r#"{"_meta":{"io.modelcontextprotocol\/protocolVersion":"2026"}}"#, "request 1 x 2026"),
            (r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":20260728}}"#, "request 1 x"),
            (r#"{"_meta":{"protocolVersion":"2026-07-28"}}"#, "request 1 x"),
            (r#"{"_meta":["io.modelcontextprotocol/protocolVersion"]}"#, "request 1 x"),
            (r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#, "request 1 x"),
            (r#"{"a":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#, "request 1 x"),
            (r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026"},"_meta":{}}"#, "request 1 x"),
        ] {
            assert_eq!(said_of(request(params)), said, "of {params}");
        }
    }

    #[test]
    fn reads_batches() {
        assert_said(&[
            (r#"[{"id":1,"method":"a"},{"method":"b"}]"#, "[request 1 a, notification b]"),
            (r#"[ {"id":1,"result":0} , 7, [{"method":"x"}], null ]"#, "[response 1, other, other, other]"),
            ("[]", "EmptyBatch"),
            (r#"[{"id":1,"method":"a"},{"id":2,"id":3}]"#, r#"DuplicateMember("id")"#),
            (r#"[{"id":1,"method":"a"},]"#, "Parse { offset: 23 }"),
        ]);
        assert!(said_of(format!("[{}0]", "0,".repeat(BATCH_LIMIT - 1))).starts_with("[other"));
        assert_eq!(said_of(format!("[{}0]", "0,".repeat(BATCH_LIMIT))), "BatchTooLong");
    }

    #[test]
    fn refuses_what_two_parsers_could_read_differently() {
        assert_said(&[
            (r#"{"id":1,"method":"x","params":{},"params":{}}"#, "DuplicateParams of 1"),
            (r#"{"params":[],"p\u0061rams":{},"id":"a"}"#, r#"DuplicateParams of "a""#),
            (r#"{"id":1,"method":"x","method":"x"}"#, r#"DuplicateMember("method") of 1"#),
            (r#"{"id":1,"method":"x","\u0069d":1}"#, r#"DuplicateMember("id")"#),
            (r#"{"id":1,"method":"x","method":"x","id":1}"#, r#"DuplicateMember("method")"#),
            (r#"{"id":1,"method":"x","method":"x"]"#, "Parse { offset: 33 } of 1"),
        ]);
    }

    #[test]
    fn refuses_what_is_no_message() {
        assert_said(&[
            ("", "Empty"),
            (" \r\n\t", "Empty"),
            ("7", "NotAMessage"),
            (r#""ping""#, "NotAMessage"),
            (" null ", "NotAMessage"),
            ("nul", "Parse { offset: 3 }"),
            ("7 7", "Parse { offset: 2 }"),
            ("\u{FEFF}{}", "Bom"),
        ]);
    }

    #[test]
    fn gives_the_id_of_a_broken_body_only_if_it_is_certain() {
        assert_said(&[
            (r#"{"id":12,"method":"x""#, "Parse { offset: 21 } of 12"),
            (r#"{"id":12 ,"#, "Parse { offset: 10 } of 12"),
            (r#"{"id":"a","method":x}"#, r#"Parse { offset: 19 } of "a""#),
            (r#"{"id":12} x"#, "Parse { offset: 10 } of 12"),
            (r#"{"id":12"#, "Parse { offset: 8 }"),
            (r#"{"id":12x"#, "Parse { offset: 8 }"),
            (r#"{"id":null,"#, "Parse { offset: 11 }"),
            (r#"{"id":[12],"#, "Parse { offset: 11 }"),
            (r#"{"params":{"id":12},"#, "Parse { offset: 20 }"),
            (r#"[{"id":12},"#, "Parse { offset: 11 }"),
        ]);
        assert_eq!(said_of(b"{\"id\":12,\"method\":\"\xFF\"}"), "Utf8 { offset: 19 } of 12");
        assert_eq!(said_of(b"\xFF{\"id\":12}"), "Utf8 { offset: 0 }");
    }
}
