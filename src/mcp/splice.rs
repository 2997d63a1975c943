//! The splice: takes a scanned request body and the server id of the path, gives the body in which every call carries
//! exactly that `params.server_id`. Nothing is parsed again and nothing is written anew; all bytes outside the
//! few that are inserted or cut are the client's own. The surprise: a client's own `server_id` is not an error but
//! is overruled and counted, for it is how one virtual server was entered under the name of another.

use std::borrow::Cow;
use std::ops::Range;

use super::jsonrpc::{self, Envelope, Message};
use super::message::{Own, Params};

/// A body that is fit to go upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spliced {
    /// The new body; `None` if the old one is right as it is.
    pub body: Option<Vec<u8>>,
    /// How many `server_id` members of the client's own were overruled.
    pub replaced: u32,
}

/// Sets `params.server_id` in every request and notification of the body. `envelope` must be the scan of this `body`.
/// Messages without a method, and calls whose `params` is no object, keep their bytes.
pub fn splice(body: &[u8], envelope: &Envelope<'_>, server_id: &str) -> Spliced {
    let scope = Scope { escaped: escaped(server_id) };
    let (mut length, mut edited, mut replaced) = (body.len(), false, 0);
    for_each_edit(body, envelope, &scope, |edit| {
        edited = true;
        replaced += u32::from(edit.overrules);
        length = length - edit.cut.len() + edit.insert.map_or(0, |insert| scope.length(insert));
    });
    if !edited {
        return Spliced { body: None, replaced: 0 };
    }
    let mut spliced = Vec::with_capacity(length);
    let mut copied = 0;
    for_each_edit(body, envelope, &scope, |edit| {
        spliced.extend_from_slice(&body[copied..edit.cut.start]);
        if let Some(insert) = edit.insert {
            scope.write(insert, &mut spliced);
        }
        copied = edit.cut.end;
    });
    spliced.extend_from_slice(&body[copied..]);
    Spliced { body: Some(spliced), replaced }
}

/// What must hold for any bytes at all: no panic, and what was spliced once is right. Gives the body that would go
/// upstream, or `None` if it is refused. For fuzzers; the proxy does not call it.
#[doc(hidden)]
pub fn fuzz_splice(body: &[u8], server_id: &str) -> Option<Vec<u8>> {
    let once = splice(body, &jsonrpc::scan(body).ok()?, server_id).body.unwrap_or_else(|| body.to_vec());
    let envelope = jsonrpc::scan(&once).expect("a spliced body is valid");
    assert_eq!(splice(&once, &envelope, server_id), Spliced { body: None, replaced: 0 });
    Some(once)
}

/// One change of the body: these bytes go, this (or nothing) comes in their place.
struct Edit {
    cut: Range<usize>,
    insert: Option<Insert>,
    /// Whether the change overrules a `server_id` of the client's.
    overrules: bool,
}

#[derive(Clone, Copy)]
enum Insert {
    /// `"server_id":"X"`
    Member,
    /// The same and a comma, before the first member of a `params`.
    MemberBefore,
    /// A comma and a whole `params`, behind the last member of a message.
    Params,
}

/// The server id, escaped for JSON.
struct Scope<'s> {
    escaped: Cow<'s, str>,
}

impl Scope<'_> {
    fn length(&self, insert: Insert) -> usize {
        let (before, after) = insert.around();
        before.len() + self.escaped.len() + after.len()
    }

    fn write(&self, insert: Insert, out: &mut Vec<u8>) {
        let (before, after) = insert.around();
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(self.escaped.as_bytes());
        out.extend_from_slice(after.as_bytes());
    }

    /// Whether this value is the server id, spelt as we spell it.
    fn is(&self, value: &[u8]) -> bool {
        matches!(value, [b'"', inner @ .., b'"'] if inner == self.escaped.as_bytes())
    }
}

impl Insert {
    /// What stands before and behind the server id.
    fn around(self) -> (&'static str, &'static str) {
        match self {
            Self::Member => (r#""server_id":""#, r#"""#),
            Self::MemberBefore => (r#""server_id":""#, r#"","#),
            Self::Params => (r#","params":{"server_id":""#, r#""}"#),
        }
    }
}

/// Calls `apply` with the edits in the order of the body.
fn for_each_edit(body: &[u8], envelope: &Envelope<'_>, scope: &Scope<'_>, mut apply: impl FnMut(Edit)) {
    for message in envelope.messages().iter().filter(|message| message.is_call()) {
        edits_of(body, message, scope, &mut apply);
    }
}

fn edits_of(body: &[u8], message: &Message<'_>, scope: &Scope<'_>, apply: &mut impl FnMut(Edit)) {
    match &message.params {
        Params::Untouchable => {}
        &Params::Absent { at } => apply(Edit { cut: at..at, insert: Some(Insert::Params), overrules: false }),
        &Params::Object { at, empty, ref own } => match own.as_slice() {
            [] => {
                let insert = if empty { Insert::Member } else { Insert::MemberBefore };
                apply(Edit { cut: at..at, insert: Some(insert), overrules: false });
            }
            [first, others @ ..] => {
                if !is_right(body, first, scope) {
                    apply(Edit { cut: first.member.clone(), insert: Some(Insert::Member), overrules: true });
                }
                // Each of the others has a comma before it, and goes with it.
                for other in others {
                    let cut = other.lead..other.member.end;
                    apply(Edit { cut, insert: None, overrules: true });
                }
            }
        },
    }
}

fn is_right(body: &[u8], own: &Own, scope: &Scope<'_>) -> bool {
    !own.escaped && scope.is(&body[own.value.clone()])
}

/// The text as it stands between quotes in JSON (RFC 8259 section 7).
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '\0'..'\u{20}' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// The body behind the splice of server id `X`, and how many members of the client's were overruled.
    fn spliced(body: &str, server_id: &str) -> (String, u32) {
        let Spliced { body: new, replaced } =
            splice(body.as_bytes(), &jsonrpc::scan(body.as_bytes()).unwrap(), server_id);
        if let Some(new) = &new {
            assert_eq!(new.capacity(), new.len(), "the output of {body} was not allocated once");
        }
        (new.map_or(body.to_owned(), |new| String::from_utf8(new).unwrap()), replaced)
    }

    fn assert_spliced(table: &[(&str, &str, u32)]) {
        for (before, after, replaced) in table {
            assert_eq!(spliced(before, "X"), (after.to_string(), *replaced), "from {before}");
        }
    }

    #[test]
    fn every_call_gets_the_server_id() {
        assert_spliced(&[
            (r#"{"method":"x"}"#, r#"{"method":"x","params":{"server_id":"X"}}"#, 0),
            (r#"{"method":"x","id":1 } "#, r#"{"method":"x","id":1,"params":{"server_id":"X"} } "#, 0),
            (r#"{"params":{},"method":"x"}"#, r#"{"params":{"server_id":"X"},"method":"x"}"#, 0),
            (r#"{"params":{ },"method":"x"}"#, r#"{"params":{"server_id":"X" },"method":"x"}"#, 0),
            (
                r#"{"params":{ "a" : 1},"method":"x"}"#,
                r#"{"params":{"server_id":"X", "a" : 1},"method":"x"}"#,
                0,
            ),
            (
                r#"{"p\u0061rams":{"a":1},"method":7}"#,
                r#"{"p\u0061rams":{"server_id":"X","a":1},"method":7}"#,
                0,
            ),
        ]);
    }

    #[test]
    fn the_clients_own_server_id_is_overruled() {
        assert_spliced(&[
            (
                r#"{"method":"x","params":{"server_id":"Y"}}"#,
                r#"{"method":"x","params":{"server_id":"X"}}"#,
                1,
            ),
            (
                r#"{"method":"x","params":{"server\u005fid":"X"}}"#,
                r#"{"method":"x","params":{"server_id":"X"}}"#,
                1,
            ),
            (
                r#"{"method":"x","params":{"server_id":"\u0058"}}"#,
                r#"{"method":"x","params":{"server_id":"X"}}"#,
                1,
            ),
            (
                r#"{"method":"x","params":{"server_id":{"a":[1]}}}"#,
                r#"{"method":"x","params":{"server_id":"X"}}"#,
                1,
            ),
            (
                r#"{"method":"x","params":{"a":1, "server_id" : null , "b":2}}"#,
                r#"{"method":"x","params":{"a":1, "server_id":"X" , "b":2}}"#,
                1,
            ),
            (
                r#"{"method":"x","params":{"server_id":"Y","a":1 , "server_id":"X","server\u005Fid":3}}"#,
                r#"{"method":"x","params":{"server_id":"X","a":1 }}"#,
                3,
            ),
            (
                r#"{"method":"x","params":{"server_id":"X","server_id":"Y"}}"#,
                r#"{"method":"x","params":{"server_id":"X"}}"#,
                1,
            ),
        ]);
    }

    #[test]
    fn what_is_right_or_not_ours_keeps_its_bytes() {
        for body in [
            r#"{"method":"x","params":{"a":1, "server_id" : "X" }}"#,
            r#"{"method":"x","params":[]}"#,
            r#"{"method":"x","params":["server_id"]}"#,
            r#"{"method":"x","params":null}"#,
            r#"{"method":"x","params":"server_id"}"#,
            r#"{"id":1,"result":{"server_id":"Y"}}"#,
            r#"{"id":1,"error":{},"params":{"server_id":"Y"}}"#,
            r#"{"id":1,"params":{}}"#,
            r#"{}"#,
            r#"[1,null,[{"method":"x"}],{"id":1,"result":{}}]"#,
        ] {
            assert_eq!(spliced(body, "X"), (body.to_owned(), 0));
        }
    }

    #[test]
    fn only_the_member_of_params_itself_counts() {
        assert_spliced(&[
            (
                r#"{"method":"x","params":{"arguments":{"server_id":1},"_meta":{"server_id":2}}}"#,
                r#"{"method":"x","params":{"server_id":"X","arguments":{"server_id":1},"_meta":{"server_id":2}}}"#,
                0,
            ),
            (
                r#"{"server_id":"Y","method":"x","params":{"Server_id":2,"server_id\u0000":3}}"#,
                r#"{"server_id":"Y","method":"x","params":{"server_id":"X","Server_id":2,"server_id\u0000":3}}"#,
                0,
            ),
        ]);
    }

    #[test]
    fn each_message_of_a_batch_by_the_same_rule() {
        assert_spliced(&[(
            r#"[{"method":"a"}, 1, {"result":0}, {"params":{"server_id":"Y"},"method":"b"}]"#,
            r#"[{"method":"a","params":{"server_id":"X"}}, 1, {"result":0}, {"params":{"server_id":"X"},"method":"b"}]"#,
            1,
        )]);
    }

    #[test]
    fn what_serde_json_would_lose_survives() {
        let odd =
            r#""a":123456789012345678901234567890,"b":1E400,"c":"\ud800","d":-0,"a":[[]],"\u0065":"\/""#;
        let (before, after) = (
            format!(r#"{{"method":"x","params":{{{odd}}}}}"#),
            format!(r#"{{"method":"x","params":{{"server_id":"X",{odd}}}}}"#),
        );
        assert_spliced(&[(&before, &after, 0)]);
    }

    #[test]
    fn the_server_id_is_escaped() {
        let wild = "a\"b\\c\u{0}\n\u{1f}\u{7f}é😀";
        let (after, _) = spliced(r#"{"method":"x"}"#, wild);
        assert_eq!(
            after,
            r#"{"method":"x","params":{"server_id":"a\"b\\c\u0000\u000a\u001f"#.to_owned() + "\u{7f}é😀\"}}"
        );
        let read: serde_json::Value = serde_json::from_str(&after).unwrap();
        assert_eq!(read["params"]["server_id"], wild);
        assert_eq!(spliced(&after, wild), (after, 0));
    }
}
