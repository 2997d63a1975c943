//! The one author of JSON-RPC errors: takes what failed and who is to be told, gives the bytes of the reply.
//! What fails behind us and what fails in our own hands is worded here alike, with the caller's id byte for byte. Surprise: nothing is
//! said to a notification, not even that it failed, since JSON-RPC 2.0 §4.1 gives it no answer; its HTTP status must do.

use bytes::Bytes;
use serde::Serialize;

use crate::mcp::jsonrpc::{Envelope, Kind};

/// Who is calling, as far as a reply must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Caller {
    /// A request with this id, raw bytes.
    Request(Vec<u8>),
    /// Several messages; the ids of the requests among them.
    Batch(Vec<Vec<u8>>),
    /// A notification or a client's response: nothing may be said in return.
    Silent,
    /// A GET or a DELETE, or a request that was not read: a sentence will do.
    #[default]
    Bare,
    /// A body that is not JSON-RPC: the id, if one could be read with certainty.
    Unreadable(Option<Vec<u8>>),
}

impl Caller {
    /// Who sent this.
    pub fn of(envelope: &Envelope<'_>) -> Self {
        match envelope {
            Envelope::Single(message) => match message.kind {
                Kind::Request { id } => Self::Request(id.to_vec()),
                Kind::Notification | Kind::Response { .. } => Self::Silent,
                Kind::Other => Self::Unreadable(None),
            },
            Envelope::Batch(messages) => {
                let ids = messages.iter().filter_map(|message| match message.kind {
                    Kind::Request { id } => Some(id.to_vec()),
                    Kind::Notification | Kind::Response { .. } | Kind::Other => None,
                });
                Self::Batch(ids.collect())
            }
        }
    }

    /// Ids that are owed an answer.
    pub fn ids(&self) -> &[Vec<u8>] {
        match self {
            Self::Request(id) | Self::Unreadable(Some(id)) => std::slice::from_ref(id),
            Self::Batch(ids) => ids,
            Self::Silent | Self::Bare | Self::Unreadable(None) => &[],
        }
    }
}

/// A JSON-RPC error of ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    pub code: i32,
    pub message: String,
    pub data: Data,
}

/// What a program may want to know of a failure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// What the upstream answered, or what we answer where it did not.
    pub http_status: u16,
    /// The upstream's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What came in place of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The JSON-RPC method, where the answer does not fit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<RetryAfter>,
}

/// When it is worth trying again (RFC 9110 §10.2.3).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RetryAfter {
    Seconds(u64),
    Date(String),
}

impl RetryAfter {
    /// Reads the header field.
    pub fn of(value: &str) -> Self {
        value
            .trim()
            .parse()
            .map_or_else(|_| Self::Date(value.trim().chars().take(40).collect()), Self::Seconds)
    }
}

const JSON: &str = "application/json";

/// Content type and body of a reply.
pub fn reply(caller: &Caller, failure: &Failure) -> (&'static str, Bytes) {
    match caller {
        Caller::Bare => ("text/plain; charset=utf-8", format!("{}\n", failure.message).into()),
        Caller::Unreadable(None) => (JSON, error(b"null", failure).into()),
        Caller::Request(_) | Caller::Batch(_) | Caller::Silent | Caller::Unreadable(Some(_)) => {
            (JSON, reply_with(caller, &object(failure)))
        }
    }
}

/// The same with an error object that stands already; empty for those that may be told nothing.
pub fn reply_with(caller: &Caller, error: &[u8]) -> Bytes {
    match caller {
        Caller::Request(id) | Caller::Unreadable(Some(id)) => answer(id, error).into(),
        Caller::Batch(ids) if !ids.is_empty() => {
            let answers: Vec<Vec<u8>> = ids.iter().map(|id| answer(id, error)).collect();
            [&b"["[..], &answers.join(&b","[..]), b"]"].concat().into()
        }
        Caller::Batch(_) | Caller::Silent | Caller::Bare | Caller::Unreadable(None) => Bytes::new(),
    }
}

/// One JSON-RPC answer.
pub fn error(id: &[u8], failure: &Failure) -> Vec<u8> {
    answer(id, &object(failure))
}

fn answer(id: &[u8], error: &[u8]) -> Vec<u8> {
    [br#"{"jsonrpc":"2.0","id":"#, id, br#","error":"#, error, b"}"].concat()
}

fn object(failure: &Failure) -> Vec<u8> {
    // Plain text and numbers under fixed names: cannot fail.
    serde_json::to_vec(failure).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Failure {
        let data = Data { http_status: 404, ..Data::default() };
        Failure { code: -32600, message: "Session \"x\" not found".to_owned(), data }
    }

    #[test]
    fn the_reply_fits_the_caller() {
        let text = |caller| String::from_utf8_lossy(&reply(&caller, &lost()).1).into_owned();
        let error = |id: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32600,"message":"Session \"x\" not found","data":{{"httpStatus":404}}}}}}"#
            )
        };
        let big = "123456789012345678901234567890";
        assert_eq!(text(Caller::Request(big.into())), error(big));
        assert_eq!(text(Caller::Request(br#""a\u0001""#.to_vec())), error(r#""a\u0001""#));
        assert_eq!(text(Caller::Unreadable(Some(b"7".to_vec()))), error("7"));
        assert_eq!(text(Caller::Unreadable(None)), error("null"));
        let two = Caller::Batch(vec![b"1".to_vec(), b"2".to_vec()]);
        assert_eq!(text(two), format!("[{},{}]", error("1"), error("2")));
        assert_eq!(text(Caller::Batch(vec![])), "");
        assert_eq!(text(Caller::Silent), "");
        assert_eq!(text(Caller::Bare), "Session \"x\" not found\n");
    }

    #[test]
    fn data_says_what_is_known() {
        let data = Data {
            http_status: 429,
            detail: Some("line\u{1}\u{fffd}".to_owned()),
            content_type: Some("text/html".to_owned()),
            method: Some("tools/call".to_owned()),
            retry_after: Some(RetryAfter::of(" 30 ")),
        };
        assert_eq!(
            serde_json::to_string(&data).ok().as_deref(),
            Some(
                r#"{"httpStatus":429,"detail":"line\u0001�","contentType":"text/html","method":"tools/call","retryAfter":30}"#
            )
        );
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        assert_eq!(RetryAfter::of(date), RetryAfter::Date(date.to_owned()));
    }
}
