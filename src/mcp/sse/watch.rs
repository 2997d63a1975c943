//! The stream that answers a POST, or that a GET opened: takes its bytes as they leave, says what is to be done where it ends.
//! One that dies before the answer ends with an error event, so that no client waits for ever; one that can be resumed is cut, so that the
//! client does resume it. Surprise: no byte is held and no event is kept; an answer is known by its skeleton.

use bytes::Bytes;

use crate::mcp::failure::{self, Asked, Data, Extent, Failure, Shape, Why};
use crate::mcp::id::same;
use crate::mcp::json::Skeleton;

use super::framing::{Field, Framing, Token};

/// Longest skeleton of an answer, beside its id; a real one has about 50 bytes.
const LONGEST_SKELETON: usize = 4 * 1024;

/// A comment that keeps an idle stream from being taken for a dead one; only to be written between events.
pub const KEEPALIVE: &[u8] = b":\n\n";

/// Watches one stream.
#[derive(Debug)]
pub struct Watch {
    framing: Framing,
    /// An event is begun: a field of it has been read, or a part of one.
    in_event: bool,
    data: Option<Skeleton>,
    longest: usize,
    /// The event that is being read has an id.
    has_id: bool,
    /// Ids that still wait for their answers.
    awaited: Vec<Vec<u8>>,
    resumption: Resumption,
}

/// Whether a client that loses the stream can get the rest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resumption {
    /// Not in this era of MCP.
    Never,
    /// As soon as an event has had an id.
    NotYet,
    Possible,
    /// It asks anew, since the stream has no end of its own.
    AskedAnew,
}

/// What is to be done where a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It may end orderly.
    Orderly,
    /// Only closing the connection tells the client.
    Cut,
    /// These events, then an orderly end.
    Append(Bytes),
}

impl Watch {
    pub fn new(asked: &Asked) -> Self {
        let awaited = asked.caller.ids().to_vec();
        let resumption = match asked.method.as_deref() {
            _ if asked.can_resume => Resumption::NotYet,
            Some("subscriptions/listen") => Resumption::AskedAnew,
            Some(_) | None => Resumption::Never,
        };
        Self {
            framing: Framing::new(),
            in_event: false,
            data: None,
            longest: LONGEST_SKELETON + awaited.iter().map(Vec::len).max().unwrap_or(0),
            has_id: false,
            awaited,
            resumption,
        }
    }

    /// Bytes that leave.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some(token) = self.framing.next(&mut bytes) {
            match token {
                Token::Value(Field::Comment, _) | Token::Field(Field::Comment) => {}
                Token::Value(Field::Data, part) => self.data(part),
                Token::Field(Field::Data) => self.data(b"\n"),
                Token::Value(Field::Id, _) => (self.in_event, self.has_id) = (true, true),
                Token::Value(Field::Other, _) | Token::Field(Field::Id | Field::Other) => {
                    self.in_event = true
                }
                Token::Mark => {}
                Token::Blank => self.end_of_event(),
            }
        }
    }

    /// Something may be inserted here.
    pub fn is_between_events(&self) -> bool {
        !self.in_event && self.framing.is_at_line_start()
    }

    /// Whether the client has all answers that it waits for.
    pub fn is_answered(&self) -> bool {
        self.awaited.is_empty()
    }

    /// `orderly`: the upstream ended it as HTTP wants.
    pub fn end(&self, orderly: bool) -> End {
        let as_it_ended = if orderly { End::Orderly } else { End::Cut };
        match self.resumption {
            _ if self.is_answered() => as_it_ended,
            Resumption::Possible | Resumption::AskedAnew => as_it_ended,
            Resumption::Never | Resumption::NotYet if self.is_between_events() => End::Append(self.errors()),
            Resumption::Never | Resumption::NotYet => End::Cut,
        }
    }

    fn data(&mut self, part: &[u8]) {
        self.in_event = true;
        if !self.is_answered() {
            self.data.get_or_insert_with(|| Skeleton::up_to(self.longest)).push(part);
        }
    }

    fn end_of_event(&mut self) {
        self.in_event = false;
        if std::mem::take(&mut self.has_id) && self.resumption == Resumption::NotYet {
            self.resumption = Resumption::Possible;
        }
        let Some(data) = self.data.take() else { return };
        let Some(text) = data.text() else { return };
        match failure::read(text, Extent::Skeleton) {
            Shape::Answer(answer) => {
                let Some(place) = answer.id else { return };
                self.awaited.retain(|id| !same(id, &text[place.clone()]));
            }
            // A batch, all of whose ids would have to be looked for.
            Shape::Answers(_) => self.awaited.clear(),
            Shape::Empty | Shape::Other | Shape::Broken(_) => {}
        }
    }

    fn errors(&self) -> Bytes {
        let failure = Failure {
            code: failure::INTERNAL_ERROR,
            message: Why::StreamEnded.sentence(200, None, None),
            data: Data { http_status: 200, ..Data::default() },
        };
        self.awaited.iter().flat_map(|id| event(&failure::error(id, &failure))).collect()
    }
}

/// An event with this JSON text; an id that is none may hold line breaks, which JSON allows to be blanks.
fn event(json: &[u8]) -> Vec<u8> {
    let line = json.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte });
    b"event: message\ndata: ".iter().copied().chain(line).chain(*b"\n\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::failure::Caller;

    const PROGRESS: &str =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"id":7,"result":{}}}"#;
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;
    const ERROR: &str = r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}"#;

    fn asked(caller: &Caller) -> Asked {
        let (caller, method) = (caller.clone(), Some("tools/call".to_owned()));
        Asked { caller, method, in_session: true, can_resume: true, ..Asked::default() }
    }

    /// How the stream ends, in words.
    fn end_of(asked: &Asked, chunks: &[&[u8]], orderly: bool) -> String {
        let mut watch = Watch::new(asked);
        chunks.iter().for_each(|chunk| watch.push(chunk));
        match watch.end(orderly) {
            End::Orderly => "orderly".to_owned(),
            End::Cut => "cut".to_owned(),
            End::Append(events) => {
                assert!(watch.is_between_events());
                let text = String::from_utf8_lossy(&events);
                let ids = text.split("\n\n").filter_map(|event| {
                    let json = event.strip_prefix("event: message\ndata: ")?;
                    let value: serde_json::Value = serde_json::from_str(json).ok()?;
                    assert_eq!(value["error"]["code"], -32603);
                    Some(value["id"].to_string())
                });
                format!("error to {}", ids.collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_stream_ends_by_what_the_client_has_got() {
        let request = Caller::Request(b"7".to_vec());
        let long = ANSWER.replace("[]", &format!("[{}\"x\"]", "{},".repeat(10_000)));
        let table = [
            // stream, ended orderly, broke off
            (String::new(),                                       "error to 7", "error to 7"),
            (": wait\n\n".to_owned(),                             "error to 7", "error to 7"),
            (format!("data: {PROGRESS}\n\n"),                     "error to 7", "error to 7"),
            (format!("data: {PROGRESS}\r\n\r\n: x\r\n"),          "error to 7", "error to 7"),
            (format!("data: {ANSWER}\n\n"),                       "orderly",    "cut"),
            (format!("event: message\r\ndata: {ERROR}\r\n\r\n"),  "orderly",    "cut"),
            (format!("data: {long}\n\n"),                         "orderly",    "cut"),
            ("data: {\"id\":7,\ndata:\"result\":\ndata: 0}\n\n".to_owned(), "orderly", "cut"),
            (format!("data: [{ANSWER}]\n\n"),                     "orderly",    "cut"),
            (format!("data: {}\n\n", ANSWER.replace('7', "8")),   "error to 7", "error to 7"),
            ("data: {\"id\":7,\"result\"\n\n".to_owned(),         "error to 7", "error to 7"),
            // Never inside an event.
            (format!("data: {ANSWER}\n"),                         "cut",        "cut"),
            (format!("data: {PROGRESS}\n\nevent: mess"),          "cut",        "cut"),
            ("retry: 5\n".to_owned(),                             "cut",        "cut"),
            (": comm".to_owned(),                                 "cut",        "cut"),
            // What has an id can be resumed; that is the client's to do.
            ("id: 1\ndata\n\n".to_owned(),                        "orderly",    "cut"),
            (format!("id: 1\ndata: {PROGRESS}\n\ndata: {{"),      "orderly",    "cut"),
            ("id: 1\ndata: x\n".to_owned(),                       "cut",        "cut"),
            ("id\ndata: x\n\n".to_owned(),                        "error to 7", "error to 7"),
        ];
        for (stream, orderly, broken) in table {
            let bytes = stream.as_bytes();
            for cut in (0..=bytes.len()).step_by(1 + bytes.len() / 100) {
                let chunks = [&bytes[..cut], &bytes[cut..]];
                assert_eq!(end_of(&asked(&request), &chunks, true), orderly, "{stream:.200} cut at {cut}");
                assert_eq!(end_of(&asked(&request), &chunks, false), broken, "{stream:.200} cut at {cut}");
            }
        }
    }

    #[test]
    fn who_asked_decides_too() {
        let stream = format!("id: 1\ndata: {PROGRESS}\n\n");
        let stream = [stream.as_bytes()];
        let request = Caller::Request(b"7".to_vec());
        let modern = Asked { can_resume: false, ..asked(&request) };
        assert_eq!(end_of(&modern, &stream, true), "error to 7");
        let listen = Asked { method: Some("subscriptions/listen".to_owned()), ..modern };
        assert_eq!(
            (end_of(&listen, &stream, true), end_of(&listen, &stream, false)),
            ("orderly".into(), "cut".into())
        );
        let bare = [&b"data: x\n\n"[..]];
        for nobody in [Caller::Bare, Caller::Silent] {
            assert_eq!(end_of(&asked(&nobody), &bare, true), "orderly");
            assert_eq!(end_of(&asked(&nobody), &bare, false), "cut");
        }
        let batch = Caller::Batch(vec![b"7".to_vec(), br#""x""#.to_vec(), b"[1,\n2]".to_vec()]);
        let answered = format!("data: {ANSWER}\n\n");
        assert_eq!(end_of(&asked(&batch), &[answered.as_bytes()], true), r#"error to "x", [1,2]"#);
    }

    #[test]
    fn a_comment_fits_between_events_only() {
        let caller = Caller::Bare;
        let mut watch = Watch::new(&asked(&caller));
        let steps: [(&[u8], bool); 9] = [
            (b"", true),
            (b": hi", false),
            (b"\n", true),
            (b"data: a", false),
            (b"\n", false),
            (b"\r", true),
            (b"\n", true),
            (b"id: 1\r\n", false),
            (b"\r\n", true),
        ];
        for (at, (bytes, fits)) in steps.into_iter().enumerate() {
            watch.push(bytes);
            assert_eq!(watch.is_between_events(), fits, "step {at}");
        }
    }
}
