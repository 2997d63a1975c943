//! Why a request body is not let through: takes what the scan found wrong, gives the JSON-RPC code and the sentence
//! that the client reads. It is always the client's fault. The surprise: a refusal carries the request's id wherever
//! it can be known, since some clients wait for ever on an error without one.

use std::borrow::Cow;

use super::json::Malformed;

/// More messages than this in one batch are refused: each costs us many times the two bytes it can be sent in.
pub const BATCH_LIMIT: usize = 1024;

/// Why a body does not go upstream. It is always the client's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The request's id, byte for byte, if it is a string or number that was read whole, once, and from no batch.
    pub id: Option<Vec<u8>>,
}

/// Offsets count bytes from the beginning of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A batch of more than [`BATCH_LIMIT`] messages.
    BatchTooLong,
    /// The body begins with a byte order mark, which RFC 8259 section 8.1 forbids.
    Bom,
    /// `id` or `method` twice in one message.
    DuplicateMember(&'static str),
    /// `params` twice in one message.
    DuplicateParams,
    /// Nothing, or nothing but white space.
    Empty,
    /// `[]`
    EmptyBatch,
    /// JSON, but a string, number, boolean or null.
    NotAMessage,
    /// Not JSON: this byte cannot stand here, or the body ends here.
    Parse { offset: usize },
    /// Not UTF-8 from this byte on.
    Utf8 { offset: usize },
}

impl Refusal {
    pub(super) fn without_id(reason: Reason) -> Self {
        Self { reason, id: None }
    }
}

impl Reason {
    /// The JSON-RPC error code: -32700 for what is not JSON, -32600 for JSON that is not a message.
    pub fn code(&self) -> i32 {
        match self {
            Self::Bom | Self::Empty | Self::Parse { .. } | Self::Utf8 { .. } => -32700,
            Self::BatchTooLong
            | Self::DuplicateMember(_)
            | Self::DuplicateParams
            | Self::EmptyBatch
            | Self::NotAMessage => -32600,
        }
    }

    /// What the client reads.
    pub fn sentence(&self) -> Cow<'static, str> {
        match self {
            Self::BatchTooLong => format!("The batch holds more than {BATCH_LIMIT} messages").into(),
            Self::Bom => "The request body begins with a byte order mark, which JSON does not allow".into(),
            Self::DuplicateMember(name) => format!("The message has more than one member \"{name}\"").into(),
            Self::DuplicateParams => "The message has more than one member \"params\"".into(),
            Self::Empty => "The request body is empty".into(),
            Self::EmptyBatch => "The batch is empty".into(),
            Self::NotAMessage => "The request body is JSON, but neither an object nor a batch".into(),
            Self::Parse { offset } => format!("The request body is not valid JSON at byte {offset}").into(),
            Self::Utf8 { offset } => format!("The request body is not valid UTF-8 at byte {offset}").into(),
        }
    }
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        Self::Parse { offset: malformed.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_code_and_sentence() {
        let reasons = [
            (Reason::BatchTooLong, -32600, "The batch holds more than 1024 messages"),
            (
                Reason::Bom,
                -32700,
                "The request body begins with a byte order mark, which JSON does not allow",
            ),
            (Reason::DuplicateMember("id"), -32600, r#"The message has more than one member "id""#),
            (Reason::DuplicateParams, -32600, r#"The message has more than one member "params""#),
            (Reason::Empty, -32700, "The request body is empty"),
            (Reason::EmptyBatch, -32600, "The batch is empty"),
            (Reason::NotAMessage, -32600, "The request body is JSON, but neither an object nor a batch"),
            (Reason::Parse { offset: 7 }, -32700, "The request body is not valid JSON at byte 7"),
            (Reason::Utf8 { offset: 7 }, -32700, "The request body is not valid UTF-8 at byte 7"),
        ];
        for (reason, code, sentence) in reasons {
            assert_eq!((reason.code(), &*reason.sentence()), (code, sentence));
        }
    }
}
