//! What a JSON body is, as an answer to a JSON-RPC request: takes the text, or the beginning of a long one, gives its [`Shape`].
//! Only the members of the answer itself are looked at; what is nested is skipped. Surprise: the beginning of a text is judged by the
//! same function, because all it takes to know an answer is that `result` or `error` has begun.

use std::ops::Range;

use crate::mcp::id::same;
use crate::mcp::json::{Malformed, Scanner};

/// How much of a body is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// More is to come.
    Beginning,
    /// All of it but for what is nested ([`Skeleton`](crate::mcp::json::Skeleton)): whatever has brackets is taken for sound.
    Skeleton,
}

/// What a JSON body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Nothing, or white space.
    Empty,
    Answer(Answer),
    /// An array of answers, as a batch gets it: the places of their ids, of which a skeleton keeps none.
    Answers(Vec<Range<usize>>),
    /// JSON, but no answer.
    Other,
    Broken(Broken),
}

/// One JSON-RPC answer, or what has come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Outcome,
    /// The id's place in the body. `None`: there is none, or not yet.
    pub id: Option<Range<usize>>,
    pub version: Version,
    /// Just behind the opening bracket.
    pub open: usize,
}

impl Answer {
    /// Whether its id is one of these.
    pub fn is_to_one_of(&self, ids: &[Vec<u8>], body: &[u8]) -> bool {
        self.id.as_ref().is_some_and(|place| ids.iter().any(|id| same(id, &body[place.clone()])))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Result,
    /// A result that holds nothing: `{}` or null.
    HollowResult,
    /// An error object with code and message, in this place.
    Error(Range<usize>),
    /// A result and an error, neither of them null.
    Both,
}

/// The member `jsonrpc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    Right,
    /// Anything but `"2.0"`, in this place.
    Wrong(Range<usize>),
    /// There is none, or not yet.
    Missing,
}

/// Why a body is no JSON that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Truncated,
    NotUtf8,
    NotJson,
    /// A member twice: two parsers could read two different answers.
    Ambiguous,
}

/// Judges a body.
pub fn read(body: &[u8], extent: Extent) -> Shape {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) if extent == Extent::Beginning && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return Shape::Broken(Broken::NotUtf8),
    };
    let mut scanner = Scanner::new(text);
    let (shape, read) = match scanner.peek() {
        None => return Shape::Empty,
        Some(b'{') => {
            let mut members = Members::new(text, extent, &scanner);
            let read = members.read(&mut scanner);
            (members.shape(), read)
        }
        Some(b'[') => array(text, &mut scanner, extent),
        Some(_) => (Shape::Other, scanner.value().map(drop)),
    };
    match (read.and_then(|()| scanner.end()), extent) {
        (Ok(()), _) => shape,
        (Err(Malformed { offset }), Extent::Beginning) if offset == text.len() => shape,
        (Err(Malformed { offset }), Extent::Whole | Extent::Skeleton) if offset == text.len() => {
            Shape::Broken(Broken::Truncated)
        }
        (Err(_), _) => Shape::Broken(Broken::NotJson),
    }
}

/// An array is a batch's answer if all its elements are answers; the last one of a beginning need not show it yet.
fn array<'t>(text: &'t str, scanner: &mut Scanner<'t>, extent: Extent) -> (Shape, Result<(), Malformed>) {
    let (mut answers, mut others, mut ids) = (0, 0, Vec::new());
    let read = scanner.array(|scanner| {
        let first = scanner.peek();
        let mut members = Members::new(text, extent, scanner);
        let read = if first == Some(b'{') { members.read(scanner) } else { scanner.value().map(drop) };
        match members.shape() {
            Shape::Answer(answer) => {
                answers += 1;
                ids.extend(answer.id);
            }
            _ if first == Some(b'{') && extent == Extent::Skeleton => answers += 1,
            Shape::Empty | Shape::Answers(_) | Shape::Other | Shape::Broken(_) if read.is_ok() => others += 1,
            Shape::Empty | Shape::Answers(_) | Shape::Other | Shape::Broken(_) => {}
        }
        read
    });
    (if answers > 0 && others == 0 { Shape::Answers(ids) } else { Shape::Other }, read)
}

/// The members of one object that make it an answer. What a parser would see twice is `repeated`.
#[derive(Debug)]
struct Members<'t> {
    text: &'t str,
    extent: Extent,
    open: usize,
    id: Option<Range<usize>>,
    version: Option<Range<usize>>,
    result: Option<Held>,
    error: Option<Told>,
    repeated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Something,
    EmptyObject,
    Null,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Error(Range<usize>),
    /// No error object of JSON-RPC's.
    Something,
    Null,
}

impl<'t> Members<'t> {
    /// Of the object before which the scanner stands.
    fn new(text: &'t str, extent: Extent, scanner: &Scanner<'t>) -> Self {
        let open = scanner.offset() + 1;
        Self { text, extent, open, id: None, version: None, result: None, error: None, repeated: false }
    }

    fn read(&mut self, scanner: &mut Scanner<'t>) -> Result<(), Malformed> {
        scanner.object(|scanner, key| {
            match &*key.name.decode(self.text) {
                "id" => {
                    let id = scanner.value()?;
                    self.repeated |= self.id.replace(id).is_some();
                }
                "jsonrpc" => {
                    let version = scanner.value()?;
                    self.repeated |= self.version.replace(version).is_some();
                }
                "result" => {
                    self.repeated |= self.result.replace(Held::Something).is_some();
                    self.result = Some(held(&self.text[scanner.value()?], self.extent));
                }
                "error" => self.read_error(scanner)?,
                _ => {
                    scanner.value()?;
                }
            }
            Ok(())
        })
    }

    fn read_error(&mut self, scanner: &mut Scanner<'t>) -> Result<(), Malformed> {
        let text = self.text;
        let is_object = scanner.peek() == Some(b'{');
        let begin = scanner.offset();
        // Of an error that goes on behind the beginning of a body only its bracket is known.
        let begun = if is_object { Told::Error(begin..text.len()) } else { Told::Something };
        self.repeated |= self.error.replace(begun).is_some();
        let (mut has_code, mut has_message) = (false, false);
        if is_object {
            scanner.object(|scanner, key| {
                let is_string = scanner.peek() == Some(b'"');
                let value = scanner.value()?;
                match &*key.name.decode(text) {
                    "code" => has_code = is_integer(&text[value]),
                    "message" => has_message = is_string,
                    _ => {}
                }
                Ok(())
            })?;
        } else {
            scanner.value()?;
        }
        let span = begin..scanner.offset();
        self.error = Some(match &text[span.clone()] {
            "null" => Told::Null,
            _ if has_code && has_message => Told::Error(span),
            _ if is_object && self.extent == Extent::Skeleton => Told::Error(span),
            _ => Told::Something,
        });
        Ok(())
    }

    fn shape(self) -> Shape {
        let Self { text, extent, .. } = self;
        if self.repeated {
            return Shape::Broken(Broken::Ambiguous);
        }
        let outcome = match (self.result, self.error) {
            (Some(Held::Something), None | Some(Told::Null)) => Outcome::Result,
            (Some(Held::EmptyObject | Held::Null), None | Some(Told::Null)) => Outcome::HollowResult,
            (None | Some(Held::Null), Some(Told::Error(span))) => Outcome::Error(span),
            (Some(Held::Something | Held::EmptyObject), Some(Told::Error(_) | Told::Something)) => {
                Outcome::Both
            }
            (Some(Held::Null), Some(Told::Something)) => return Shape::Other,
            (None, None | Some(Told::Null | Told::Something)) => return Shape::Other,
        };
        // Where a beginning ends, digits may lack their rest.
        let id = self.id.filter(|id| extent != Extent::Beginning || id.end < text.len());
        let version = match self.version {
            Some(span) if &text[span.clone()] == "\"2.0\"" => Version::Right,
            Some(span) => Version::Wrong(span),
            None => Version::Missing,
        };
        Shape::Answer(Answer { outcome, id, version, open: self.open })
    }
}

fn held(value: &str, extent: Extent) -> Held {
    let inside = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match inside {
        Some(_) if extent == Extent::Skeleton => Held::Something,
        Some(inside) if inside.trim_ascii().is_empty() => Held::EmptyObject,
        _ if value == "null" => Held::Null,
        Some(_) | None => Held::Something,
    }
}

fn is_integer(value: &str) -> bool {
    value.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && !value.contains(['.', 'e', 'E'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for what a body is.
    fn said(body: impl AsRef<[u8]>, extent: Extent) -> String {
        let body = body.as_ref();
        let text = |span: Range<usize>| String::from_utf8_lossy(&body[span]).into_owned();
        match read(body, extent) {
            Shape::Answer(Answer { outcome, id, version, open: _ }) => {
                let outcome = match outcome {
                    Outcome::Error(span) => format!("error {}", text(span)),
                    other => format!("{other:?}"),
                };
                let id = id.map_or("no id".into(), |id| format!("id {}", text(id)));
                match version {
                    Version::Right => format!("{outcome}, {id}"),
                    Version::Wrong(span) => format!("{outcome}, {id}, version {}", text(span)),
                    Version::Missing => format!("{outcome}, {id}, no version"),
                }
            }
            Shape::Answers(ids) => {
                ids.into_iter().map(text).fold("Answers".into(), |all, id| format!("{all} {id}"))
            }
            Shape::Broken(broken) => format!("{broken:?}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    #[rustfmt::skip]
    fn tells_what_a_whole_body_is() {
        let table = [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#, "Result, id 7"),
            (r#" {"result":{"a":1}, "jsonrpc":"2.0", "id": "x" } "#, r#"Result, id "x""#),
            (r#"{"jsonrpc":"2.0","id":7,"result":{ }}"#, "HollowResult, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"result":null}"#, "HollowResult, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"result":[]}"#, "Result, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"result":"{}"}"#, "Result, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"r\u0065sult":0}"#, "Result, id 7"),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}"#, r#"error {"code":-1,"message":"m"}, id null"#),
            (r#"{"error":{"message":"","data":[1],"code":0},"id":7}"#, r#"error {"message":"","data":[1],"code":0}, id 7, no version"#),
            (r#"{"jsonrpc":"1.0","error":null,"result":0}"#, r#"Result, no id, version "1.0""#),
            (r#"{"jsonrpc":2,"error":{"code":1,"message":"m"},"result":null,"id":7}"#, r#"error {"code":1,"message":"m"}, id 7, version 2"#),
            (r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"m"}}"#, "Both, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"result":0,"error":"no"}"#, "Both, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1.5,"message":"m"}}"#, "Other"),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":"1","message":"m"}}"#, "Other"),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#, "Other"),
            (r#"{"error":"Internal forwarding error"}"#, "Other"),
            (r#"{"error":null}"#, "Other"),
            (r#"{"result":null,"error":"x"}"#, "Other"),
            (r#"{"detail":"Not Found"}"#, "Other"),
            (r#"{"data":{"result":{"a":1}}}"#, "Other"),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, "Other"),
            ("{}", "Other"), ("null", "Other"), ("7", "Other"), (r#""result""#, "Other"), ("[]", "Other"),
            (r#"[{"id":1,"result":0},{"id":"b","error":{"code":1,"message":"m"}}]"#, r#"Answers 1 "b""#),
            (r#"[{"result":0}, {"id":null,"result":0}]"#, "Answers null"),
            (r#"[{"id":1,"result":0},{"id":2}]"#, "Other"),
            (r#"[{"id":1,"result":0},7]"#, "Other"),
            ("", "Empty"), (" \r\n", "Empty"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}"#, "Truncated"),
            (r#"{"jsonrpc":"2.0","id":7,"result":tr"#, "Truncated"),
            (r#"[{"id":1,"result":0}"#, "Truncated"),
            (r#"{"id":7,"result":0}}"#, "NotJson"),
            (r#"{"id":7,"result":0} x"#, "NotJson"),
            (r#"{"id":7,"result":NaN}"#, "NotJson"),
            ("\u{feff}{\"id\":7,\"result\":0}", "NotJson"),
            ("<html></html>", "NotJson"),
            (r#"{"id":7,"id":7,"result":0}"#, "Ambiguous"),
            (r#"{"id":7,"result":0,"r\u0065sult":1}"#, "Ambiguous"),
            (r#"{"id":7,"error":{"code":1,"message":"m"},"error":null}"#, "Ambiguous"),
            (r#"{"jsonrpc":"2.0","jsonrpc":"2.0","result":0}"#, "Ambiguous"),
        ];
        for (body, shape) in table {
            assert_eq!(said(body, Extent::Whole), shape, "{body}");
        }
        assert_eq!(said(b"{\"id\":7,\"result\":\"\xFF\"}", Extent::Whole), "NotUtf8");
        assert_eq!(said(b"{\"id\":7,\"result\":\"\xC3", Extent::Whole), "NotUtf8");
    }

    #[test]
    #[rustfmt::skip]
    fn tells_what_begins_like_an_answer() {
        let table = [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":"#, "Result, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":"xy"#, "Result, id 7"),
            (r#"{"jsonrpc":"2.0","id":7,"result":"#, "Result, id 7"),
            (r#"{"result":{"a":1},"jsonrpc":"2.0","id":7"#, "Result, no id"),
            (r#"{"result":{"a":1},"jsonrpc":"2.0","id":7 "#, "Result, id 7"),
            (r#"{"result":{"a":1"#, "Result, no id, no version"),
            (r#"{"id":7,"error":{"code":1,"mess"#, r#"error {"code":1,"mess, id 7, no version"#),
            (r#"{"id":7,"error":"#, "Other"),
            (r#"{"jsonrpc":"2.0","id":7,"res"#, "Other"),
            (r#"{"detail":"Not"#, "Other"),
            (r#"[{"id":7,"result":{}},{"id"#, "Answers 7"),
            (r#"[{"id":7,"resu"#, "Other"),
            ("[1,2,", "Other"), (r#""resul"#, "Other"), ("", "Empty"),
            (r#"{"id":7,"result":{]"#, "NotJson"),
            (r#"{"id":7,"result":{}} x"#, "NotJson"),
            (r#"{"id":7,"id":8,"result":{"a":"#, "Ambiguous"),
        ];
        for (body, shape) in table {
            assert_eq!(said(body, Extent::Beginning), shape, "{body}");
        }
        assert_eq!(said(b"{\"id\":7,\"result\":\"\xC3", Extent::Beginning), "Result, id 7, no version");
        assert_eq!(said(b"{\"id\":7,\"result\":\"\xFF\"", Extent::Beginning), "NotUtf8");
    }
}
