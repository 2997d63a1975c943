//! Failures masked on an event stream: ContextForge makes `"result":{}` of whatever failed (IBM/mcp-context-forge#3365, on SSE to this day).
//! Takes the stream's bytes as they arrive, cut anywhere, gives them back in pieces; a hollow answer is a piece of its own, to be repaired by
//! whoever knows what the client had asked. Surprise: only the bytes of an unfinished event are held that may still become a hollow answer;
//! a healthy one leaves from the moment that its result has begun to hold something.

use bytes::{Bytes, BytesMut};

use crate::mcp::failure::{self, Answer, Data, Extent, Failure, Outcome, Shape, Why, read};
use crate::mcp::id::Id;
use crate::mcp::json::{Malformed, Scanner};

use super::framing::{Field, Framing, Token};

/// Longest event that may be a masked failure; a real one has about 70 bytes.
const LONGEST: usize = 2 * 1024;

/// Looks through one stream.
#[derive(Debug)]
pub struct Masked {
    framing: Framing,
    /// The event that is being read, as long as it may be hollow.
    held: BytesMut,
    data: Vec<u8>,
    in_event: bool,
    /// The event is too long, or holds something, and its beginning has left.
    let_go: bool,
}

/// What leaves, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Pass(Bytes),
    Hollow(Hollow),
}

/// An event that answers with nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Hollow {
    event: Bytes,
    /// As the upstream wrote it.
    id: Vec<u8>,
}

impl Default for Masked {
    fn default() -> Self {
        Self {
            framing: Framing::new(),
            held: BytesMut::new(),
            data: Vec::new(),
            in_event: false,
            let_go: false,
        }
    }
}

impl Masked {
    /// The next bytes of the stream.
    pub fn push(&mut self, chunk: Bytes) -> Vec<Piece> {
        let read = self.held.len();
        let bytes = if read == 0 {
            chunk
        } else {
            self.held.extend_from_slice(&chunk);
            self.held.split().freeze()
        };
        let mut pieces = Vec::new();
        let (mut left, mut begin) = (0, 0);
        let mut rest = &bytes[read..];
        while let Some(token) = self.framing.next(&mut rest) {
            let at = bytes.len() - rest.len();
            match token {
                // A comment before an event is none of it.
                Token::Value(Field::Comment, _) | Token::Field(Field::Comment) if !self.in_event => {
                    begin = at
                }
                Token::Value(Field::Comment, _) | Token::Field(Field::Comment) => {}
                Token::Mark => begin = at,
                Token::Value(Field::Data, part) => self.data(part),
                Token::Field(Field::Data) => self.data(b"\n"),
                Token::Value(Field::Id | Field::Other, _) | Token::Field(Field::Id | Field::Other) => {
                    self.in_event = true;
                }
                Token::Blank => {
                    let is_short = at - begin <= LONGEST;
                    if let Some(id) = self.end_of_event().filter(|_| is_short) {
                        push_pass(&mut pieces, bytes.slice(left..begin));
                        pieces.push(Piece::Hollow(Hollow { event: bytes.slice(begin..at), id }));
                        left = at;
                    }
                    begin = at;
                }
            }
        }
        self.let_go |= bytes.len() - begin > LONGEST || !may_be_hollow(&self.data);
        // The second half of a CRLF belongs to no event; held, it would keep the event before it from being read.
        if self.let_go || self.is_between_events() {
            begin = bytes.len();
        }
        push_pass(&mut pieces, bytes.slice(left..begin));
        self.held.extend_from_slice(&bytes[begin..]);
        pieces
    }

    /// Nothing is held back.
    pub fn is_open(&self) -> bool {
        self.held.is_empty()
    }

    /// The stream ended: whatever is still held.
    pub fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// Something may be inserted here.
    pub fn is_between_events(&self) -> bool {
        !self.in_event && self.framing.is_at_line_start()
    }

    fn data(&mut self, part: &[u8]) {
        self.in_event = true;
        let room = LONGEST.saturating_sub(self.data.len());
        self.data.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// The id that the event answers with nothing, if it does.
    fn end_of_event(&mut self) -> Option<Vec<u8>> {
        self.in_event = false;
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.let_go) || !may_be_hollow(&data) {
            return None;
        }
        match read(&data, Extent::Whole) {
            Shape::Answer(Answer { outcome: Outcome::HollowResult, id: Some(place), .. }) => {
                Some(data[place].to_vec())
            }
            Shape::Answer(_) | Shape::Answers(_) | Shape::Empty | Shape::Other | Shape::Broken(_) => None,
        }
    }
}

/// Whether an event that begins with this data may answer with nothing: what has a method is no answer, and something in a result is not
/// nothing.
fn may_be_hollow(data: &[u8]) -> bool {
    let text = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let mut scanner = Scanner::new(text);
    let (mut has_result, mut is_ruled_out) = (false, false);
    let read = scanner.object(|scanner, key| {
        match &*key.name.decode(text) {
            "method" => is_ruled_out = true,
            "result" => {
                scanner.peek();
                has_result = true;
                is_ruled_out |= !may_be_nothing(&text[scanner.offset()..]);
            }
            _ => {}
        }
        scanner.value().map(drop)
    });
    match read.and_then(|()| scanner.end()) {
        _ if is_ruled_out => false,
        Ok(()) => has_result,
        Err(Malformed { offset }) => offset == text.len(),
    }
}

/// Whether the value that begins here may be `{}` or null.
fn may_be_nothing(text: &str) -> bool {
    let (rest, nothing) =
        text.strip_prefix('{').map_or((text, b'n'), |inside| (inside.trim_ascii_start(), b'}'));
    rest.bytes().next().is_none_or(|first| first == nothing)
}

fn push_pass(pieces: &mut Vec<Piece>, bytes: Bytes) {
    if !bytes.is_empty() {
        pieces.push(Piece::Pass(bytes));
    }
}

impl Hollow {
    /// The request that it answers.
    pub fn id(&self) -> Id {
        Id::of(&self.id)
    }

    /// For a method that may return nothing.
    pub fn as_it_came(self) -> Bytes {
        self.event
    }

    /// The event with an error in place of its data; all its other lines stay.
    pub fn repaired(&self) -> Bytes {
        let failure = Failure {
            code: failure::INTERNAL_ERROR,
            message: Why::Hollow.sentence(200, None, None),
            data: Data { http_status: 200, ..Data::default() },
        };
        let mut error = failure::error(&self.id, &failure);
        let mut event = BytesMut::with_capacity(self.event.len() + 200);
        let mut rest = &self.event[..];
        while !rest.is_empty() {
            let text = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let end = text + if rest[text..].starts_with(b"\r\n") { 2 } else { 1 };
            let (line, behind) = rest.split_at(end.min(rest.len()));
            rest = behind;
            let is_data = line.starts_with(b"data:") || &line[..text] == b"data";
            if !is_data {
                event.extend_from_slice(line);
            } else if !error.is_empty() {
                event.extend_from_slice(b"data: ");
                event.extend_from_slice(&std::mem::take(&mut error));
                event.extend_from_slice(&line[text..]);
            }
        }
        event.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What leaves of a stream that came in these chunks, its hollow answers repaired.
    fn repaired(chunks: &[&[u8]]) -> String {
        let mut masked = Masked::default();
        let mut left = Vec::new();
        for chunk in chunks {
            for piece in masked.push(Bytes::copy_from_slice(chunk)) {
                left.extend_from_slice(&match piece {
                    Piece::Pass(bytes) => bytes,
                    Piece::Hollow(hollow) => hollow.repaired(),
                });
            }
            assert!(masked.held.len() <= if masked.is_between_events() { 0 } else { LONGEST });
        }
        left.extend_from_slice(&masked.finish());
        String::from_utf8_lossy(&left).into_owned()
    }

    fn error(id: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"The upstream's answer to the request holds nothing","data":{{"httpStatus":200}}}}}}"#
        )
    }

    const HOLLOW: &str = r#"{"jsonrpc":"2.0","result":{},"id":2}"#;

    #[test]
    fn a_hollow_answer_is_repaired_wherever_the_stream_is_cut() {
        let long = format!("data: {{\"result\":{{\"a\":\"{}\"}},\"id\":1}}\n\n", "x".repeat(LONGEST));
        let table = [
            (
                format!("event: message\r\ndata: {HOLLOW}\r\n\r\n"),
                format!("event: message\r\ndata: {}\r\n\r\n", error("2")),
            ),
            (
                format!(": hi\n\n{long}id: 7\ndata: {HOLLOW}\nretry: 5\n\n{long}"),
                format!(": hi\n\n{long}id: 7\ndata: {}\nretry: 5\n\n{long}", error("2")),
            ),
            (
                "data:{\"id\":\"a\",\rdata: \"result\":null}\r\r".to_owned(),
                format!("data: {}\r\r", error("\"a\"")),
            ),
            (
                format!("\u{feff}data: {HOLLOW}\n\n\u{feff}data: {HOLLOW}\n\n"),
                format!("\u{feff}data: {}\n\n\u{feff}data: {HOLLOW}\n\n", error("2")),
            ),
        ];
        for (stream, expected) in table {
            let bytes = stream.as_bytes();
            for cut in (0..=bytes.len()).step_by(1 + bytes.len() / 500) {
                assert_eq!(repaired(&[&bytes[..cut], &bytes[cut..]]), expected, "{stream:.100} cut at {cut}");
            }
            assert_eq!(
                repaired(&bytes.chunks(1).collect::<Vec<_>>()),
                expected,
                "{stream:.100} byte by byte"
            );
        }
    }

    #[test]
    fn everything_else_leaves_as_it_came() {
        let outgrown = format!("data: {HOLLOW}\n{}\n", "id: 123\n".repeat(LONGEST / 8));
        let streams = [
            "event: endpoint\ndata: /messages/?session_id=1\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"content\":[]}}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"result\":{}}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":1,\"message\":\"m\"}}\n\n",
            "data: {\"method\":\"x\",\"params\":{\"result\":{}}}\n\n",
            "event: keepalive\r\ndata: {}\r\nretry: 15000\r\n\r\n: ping\r\n\r\n",
            "data: {\"result\":{},\"id\":2}\n",
            "data: {\"result\":{},\"id\":2}",
            &outgrown,
        ];
        for stream in streams {
            let bytes = stream.as_bytes();
            for cut in (0..=bytes.len()).step_by(1 + bytes.len() / 500) {
                assert_eq!(repaired(&[&bytes[..cut], &bytes[cut..]]), stream, "cut at {cut}");
            }
            assert_eq!(repaired(&bytes.chunks(1).collect::<Vec<_>>()), stream, "byte by byte");
        }
    }

    #[test]
    fn only_what_may_become_hollow_is_held_and_whole_events_are_not_copied() {
        let mut masked = Masked::default();
        let whole = Bytes::from_static(b"data: {}\n\n: comment\n");
        let pieces = masked.push(whole.clone());
        let [Piece::Pass(passed)] = &pieces[..] else { panic!("{pieces:?}") };
        assert_eq!((passed.as_ptr(), passed.len()), (whole.as_ptr(), whole.len()));
        assert!(masked.is_between_events());
        assert_eq!(masked.push(Bytes::from_static(b": comm")), [Piece::Pass(Bytes::from_static(b": comm"))]);
        assert!(!masked.is_between_events());
        assert_eq!(masked.push(Bytes::from_static(b"\nda")), [Piece::Pass(Bytes::from_static(b"\n"))]);
        assert!(!masked.is_between_events());
        assert_eq!(masked.push(Bytes::from_static(b"ta: {\"result\":{")), []);
        assert!(!masked.is_between_events());
        let begun = Bytes::from_static(b"data: {\"result\":{\"a");
        assert_eq!(masked.push(Bytes::from_static(b"\"a")), [Piece::Pass(begun)]);
        let rest = Bytes::from_static(b"\":1}}\n\n");
        assert_eq!(masked.push(rest.clone()), [Piece::Pass(rest)]);
        assert!(masked.is_between_events());
    }

    #[test]
    #[rustfmt::skip]
    fn a_beginning_may_become_hollow_until_it_holds_something() {
        for data in [
            "", " ", "{", r#"{"id""#, r#"{"id":7,"resu"#, r#"{"result""#, r#"{"result": "#, r#"{"result":{ "#, r#"{"result":{ }"#,
            r#"{"result":n"#, r#"{"result":null,"error":"#, r#"{"r\u0065sult":{},"id":"#, r#"{"params":{"method":"x"#, HOLLOW,
        ] {
            assert!(may_be_hollow(data.as_bytes()), "{data}");
        }
        for data in [
            "x", "7", "[", "{}", "{x", r#"{"method":"#, r#"{"result":{},"method":"#, r#"{"result":{"a"#, r#"{"result":[]"#, r#"{"result":""#,
            r#"{"result":0"#, r#"{"result":nil"#, r#"{"result":{}} x"#, r#"{"id":7,"error":{}}"#,
        ] {
            assert!(!may_be_hollow(data.as_bytes()), "{data}");
        }
        assert!(may_be_hollow(b"{\"\xC3") && !may_be_hollow(b"{\"\xFF"));
    }

    #[test]
    fn who_knows_better_lets_it_pass() {
        let event = Bytes::from(format!("data: {HOLLOW}\n\n"));
        let Some(Piece::Hollow(hollow)) = Masked::default().push(event.clone()).pop() else {
            panic!("not hollow")
        };
        assert_eq!(hollow.id(), Id::of(b"2"));
        assert_eq!(hollow.as_it_came(), event);
    }
}
