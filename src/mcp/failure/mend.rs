//! An answer mended: takes one whose id (or version) is not what JSON-RPC wants, or that leaves requests of a batch out, gives what is to be
//! cut and inserted. Servers answer their own errors under `"server-error"` or null, or not at all, and clients wait for ever. Surprise:
//! nothing is written anew; all other bytes, whatever they are, leave as they came.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::mcp::id::same;

use super::answer::{Answer, Extent, Version};
use super::why::Why;

/// Replacements, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    edits: Vec<(Range<usize>, Vec<u8>)>,
    /// Name in metrics and logs.
    pub kind: &'static str,
}

impl Mend {
    /// `None`: nothing is wrong. What a beginning lacks may be still to come.
    pub(super) fn of(answer: &Answer, body: &[u8], id: &[u8], extent: Extent) -> Option<Self> {
        let at_open = answer.open..answer.open;
        let mut edits = Vec::new();
        match &answer.version {
            Version::Right => {}
            Version::Wrong(place) => edits.push((place.clone(), br#""2.0""#.to_vec())),
            Version::Missing if extent == Extent::Whole => {
                edits.push((at_open.clone(), br#""jsonrpc":"2.0","#.to_vec()));
            }
            Version::Missing => {}
        }
        match &answer.id {
            Some(place) if same(id, &body[place.clone()]) => {}
            Some(place) => edits.push((place.clone(), id.to_vec())),
            None if extent == Extent::Whole => edits.push((at_open, [br#""id":"#, id, b","].concat())),
            None => {}
        }
        edits.sort_by_key(|(place, _)| place.start);
        (!edits.is_empty()).then_some(Self { edits, kind: "id" })
    }

    /// The answer to a batch, whole, with these behind what it has; one that stands alone becomes an array.
    pub(super) fn completing(body: &[u8], answers: &[Vec<u8>]) -> Self {
        let more = [b",", &*answers.join(&b","[..])].concat();
        let end = body.trim_ascii_end().len();
        let edits = match body.trim_ascii_start().first() {
            Some(b'[') => vec![(end - 1..end - 1, more)],
            _ => vec![(0..0, b"[".to_vec()), (end..end, [&*more, b"]"].concat())],
        };
        Self { edits, kind: Why::Unanswered.kind() }
    }

    /// The body mended: of a long one, its beginning.
    pub fn apply(&self, body: &[u8]) -> Bytes {
        let mut mended = BytesMut::with_capacity(body.len() + 64);
        let mut from = 0;
        for (place, text) in &self.edits {
            mended.extend_from_slice(&body[from..place.start]);
            mended.extend_from_slice(text);
            from = place.end;
        }
        mended.extend_from_slice(&body[from..]);
        mended.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::failure::answer::{Shape, read};

    fn mended(body: &str, extent: Extent) -> Option<String> {
        let Shape::Answer(answer) = read(body.as_bytes(), extent) else { panic!("no answer: {body}") };
        let mend = Mend::of(&answer, body.as_bytes(), br#""a1""#, extent)?;
        Some(String::from_utf8_lossy(&mend.apply(body.as_bytes())).into_owned())
    }

    #[test]
    #[rustfmt::skip]
    fn only_what_is_wrong_is_replaced() {
        let table = [
            (r#"{"jsonrpc":"2.0","id":"a1","result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":"\u00611","result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":1,"message":"é"}}"#, Some(r#"{"jsonrpc":"2.0","id":"a1","error":{"code":1,"message":"é"}}"#)),
            (r#" { "result": {"a":1} , "id" : null } "#, Some(r#" {"jsonrpc":"2.0", "result": {"a":1} , "id" : "a1" } "#)),
            (r#"{"result":0,"jsonrpc":2}"#, Some(r#"{"id":"a1","result":0,"jsonrpc":"2.0"}"#)),
            (r#"{"result":0}"#, Some(r#"{"jsonrpc":"2.0","id":"a1","result":0}"#)),
        ];
        for (body, expected) in table {
            assert_eq!(mended(body, Extent::Whole).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_beginning_is_mended_only_where_it_is_wrong() {
        let table = [
            (r#"{"id":7,"result":{"a":"#, Some(r#"{"id":"a1","result":{"a":"#)),
            (r#"{"id":"a1","result":{"a":"#, None),
            (r#"{"result":{"a":"#, None),
        ];
        for (body, expected) in table {
            assert_eq!(mended(body, Extent::Beginning).as_deref(), expected, "{body}");
        }
    }
}
