//! The bytes of an answer on their way: [`Held`] keeps its beginning until it is judged, [`Tail`] watches what leaves behind it.
//! Holding costs a client nothing that it could use: nobody can read a JSON text before its last bracket. Surprise: a long answer is
//! judged by its first [`HOLD`] bytes alone, and only its end tells whether its id was the caller's; then all that is left is to cut it.

use bytes::{Bytes, BytesMut};

use crate::mcp::json::Skeleton;

use super::answer::{Broken, Extent, Outcome, Shape, read};
use super::reply::Caller;

/// Most bytes that are held of an answer, beyond the chunk that exceeds it. Most answers are shorter, so they are judged whole; Pingora
/// reads as much at a time.
pub const HOLD: usize = 64 * 1024;

/// The beginning of an answer, which has not left yet.
#[derive(Debug, Default)]
pub enum Held {
    #[default]
    Nothing,
    /// Most answers come in one piece; it is not copied.
    One(Bytes),
    Joined(BytesMut),
}

impl Held {
    pub fn push(&mut self, chunk: Bytes) {
        *self = match std::mem::take(self) {
            Self::Nothing => Self::One(chunk),
            Self::One(first) => {
                let mut joined = BytesMut::with_capacity(2 * (first.len() + chunk.len()));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&chunk);
                Self::Joined(joined)
            }
            Self::Joined(mut joined) => {
                joined.extend_from_slice(&chunk);
                Self::Joined(joined)
            }
        };
    }

    /// More need not, and must not, be held.
    pub fn is_enough(&self) -> bool {
        self.bytes().len() > HOLD
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::One(chunk) => chunk,
            Self::Joined(joined) => joined,
        }
    }

    pub fn release(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(chunk) => chunk,
            Self::Joined(joined) => joined.freeze(),
        }
    }
}

/// Longest skeleton of an answer; a real one has about 50 bytes and its id.
const LONGEST_SKELETON: usize = 4 * 1024;

/// Watches a JSON text that leaves while it comes.
#[derive(Debug)]
pub struct Tail {
    skeleton: Skeleton,
    /// Of an answer: the ids of which it must have one.
    ids: Option<Vec<Vec<u8>>>,
}

impl Tail {
    /// The answer to a request.
    pub fn of_answer(caller: &Caller) -> Self {
        let ids = caller.ids();
        let longest = LONGEST_SKELETON + ids.iter().map(Vec::len).max().unwrap_or(0);
        Self { skeleton: Skeleton::up_to(longest), ids: Some(ids.to_vec()) }
    }

    /// Any JSON text: only its last bracket is looked for.
    pub fn of_json() -> Self {
        Self { skeleton: Skeleton::up_to(LONGEST_SKELETON), ids: None }
    }

    /// Bytes that leave.
    pub fn push(&mut self, bytes: &[u8]) {
        self.skeleton.push(bytes);
    }

    /// Whether what left may end here; if not, only a cut tells the client.
    pub fn may_end(&self) -> bool {
        let Some(text) = self.skeleton.text() else { return self.skeleton.is_whole() };
        let shape = read(text, Extent::Skeleton);
        let Some(ids) = &self.ids else {
            return shape != Shape::Broken(Broken::Truncated);
        };
        match shape {
            Shape::Answer(answer) => answer.outcome != Outcome::Both && answer.is_to_one_of(ids, text),
            Shape::Answers(_) => true,
            Shape::Empty | Shape::Other | Shape::Broken(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_out_as_it_went_in() {
        let mut held = Held::default();
        assert_eq!(held.bytes(), b"");
        let one = Bytes::from(vec![b'a'; HOLD]);
        held.push(one.clone());
        assert!(!held.is_enough());
        assert_eq!(held.bytes().as_ptr(), one.as_ptr(), "one piece is not copied");
        held.push(Bytes::from_static(b"b"));
        assert!(held.is_enough());
        held.push(Bytes::from_static(b"c"));
        assert_eq!(held.release(), [&one[..], b"bc"].concat());
        assert_eq!(Held::default().release(), Bytes::new());
    }

    fn may_end(mut tail: Tail, text: &str, cut: usize) -> bool {
        tail.push(&text.as_bytes()[..cut]);
        tail.push(&text.as_bytes()[cut..]);
        tail.may_end()
    }

    #[test]
    #[rustfmt::skip]
    fn an_answer_may_end_where_it_is_one() {
        let long = format!(r#"{{"result":{{"content":[{{"text":"{}"}}]}},"jsonrpc":"2.0","id":7}}"#, "x".repeat(100_000));
        let long_member = format!(r#"{{"result":"{}","id":8}}"#, "x".repeat(100_000));
        let long_member_cut = &long_member[..long_member.len() - 1];
        let table = [
            (long.as_str(), true),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}"#, true),
            (r#"{"id":7,"result":{"a":[1]}} "#, true),
            (r#"[{"id":7,"result":{}}]"#, true),
            (r#"{"id":8,"result":{"a":[1]}}"#, false),
            (r#"{"result":{"a":[1]}}"#, false),
            (r#"{"id":7,"result":{"a":[1]}"#, false),
            (r#"{"id":7,"result":{"a":[1]}}}"#, false),
            (r#"{"id":7,"result":{"a":[1]},"id":7}"#, false),
            (r#"{"id":7,"result":{"a":[1]},"error":{"code":1,"message":"m"}}"#, false),
            (r#"{"id":7}"#, false),
            ("", false),
            // Too odd to be judged: only its last bracket counts.
            (&long_member, true),
            (long_member_cut, false),
        ];
        let caller = Caller::Request(b"7".to_vec());
        for (text, expected) in table {
            for cut in (0..=text.len()).step_by(1 + text.len() / 100) {
                assert_eq!(may_end(Tail::of_answer(&caller), text, cut), expected, "{text:.100} cut at {cut}");
            }
        }
    }

    #[test]
    fn any_json_may_end_behind_its_last_bracket() {
        let text = br#" {"a":[1,"}\\\"{",{"b":null}],"c":"\u007b"} "#;
        for cut in 0..=text.len() {
            let mut tail = Tail::of_json();
            tail.push(&text[..cut / 2]);
            tail.push(&text[cut / 2..cut]);
            assert_eq!(tail.may_end(), cut <= 1 || cut >= text.len() - 1, "cut at {cut}");
        }
        for scalar in ["null", "7", "\"x\""] {
            let mut tail = Tail::of_json();
            tail.push(scalar.as_bytes());
            assert!(tail.may_end(), "{scalar}");
        }
    }
}
