//! Why an upstream's answer is not passed on as it is: takes the reason and the upstream's status, gives our status and the sentence.
//! It is always the upstream's fault; ours are `crate::error`'s. Surprise: what could be read keeps its status even where it is no
//! answer, since a client on SDK v1 for Python loses its whole session at any status of failure.

use http::StatusCode;

use super::answer::Broken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A member twice.
    Ambiguous,
    /// 202 or 204: the request was taken for a notification.
    Accepted,
    /// A result and an error.
    Both,
    /// Neither JSON nor an event stream.
    ContentType,
    Empty,
    /// `{}` where the method must return something: a masked failure (IBM/mcp-context-forge#3365).
    Hollow,
    NotAnAnswer,
    NotJson,
    NotUtf8,
    /// A status of failure whose body is no JSON-RPC error.
    Status,
    /// The event stream ended before the answer.
    StreamEnded,
    Truncated,
    /// The answer to a batch leaves the request out.
    Unanswered,
}

impl From<Broken> for Why {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Truncated => Self::Truncated,
            Broken::NotUtf8 => Self::NotUtf8,
            Broken::NotJson => Self::NotJson,
            Broken::Ambiguous => Self::Ambiguous,
        }
    }
}

impl Why {
    /// HTTP status of the reply to an answer that came with `status`.
    pub fn status(self, status: u16) -> u16 {
        match self {
            Self::Both | Self::Hollow | Self::NotAnAnswer | Self::Unanswered => status,
            Self::Status if (400..600).contains(&status) => status,
            Self::Status | Self::Accepted | Self::ContentType | Self::Empty => 502,
            Self::Ambiguous | Self::NotJson | Self::NotUtf8 | Self::Truncated | Self::StreamEnded => 502,
        }
    }

    /// What the client reads. `method`: the JSON-RPC method; `content_type`: of the answer.
    pub fn sentence(self, status: u16, method: Option<&str>, content_type: Option<&str>) -> String {
        match self {
            Self::Ambiguous => "The upstream's answer can be read in two ways".to_owned(),
            Self::Accepted => format!("The upstream accepted the request without an answer (HTTP {status})"),
            Self::Both => "The upstream's answer holds a result and an error".to_owned(),
            Self::ContentType => match content_type {
                Some(content_type) => {
                    format!("The upstream answered with {content_type} in place of JSON")
                }
                None => "The upstream's answer does not say what it is".to_owned(),
            },
            Self::Empty => "The upstream's answer is empty".to_owned(),
            Self::Hollow => {
                format!("The upstream's answer to {} holds nothing", method.unwrap_or("the request"))
            }
            Self::NotAnAnswer => "The upstream's answer is not a JSON-RPC answer".to_owned(),
            Self::NotJson => "The upstream's answer is not valid JSON".to_owned(),
            Self::NotUtf8 => "The upstream's answer is not valid UTF-8".to_owned(),
            Self::Status => {
                let known = StatusCode::from_u16(status).ok();
                match known.and_then(|known| known.canonical_reason()) {
                    Some(reason) => format!("The upstream answered HTTP {status} {reason}"),
                    None => format!("The upstream answered HTTP {status}"),
                }
            }
            Self::StreamEnded => "The upstream's event stream ended before the answer".to_owned(),
            Self::Truncated => "The upstream's answer is cut short".to_owned(),
            Self::Unanswered => "The upstream's answer to the batch leaves this request out".to_owned(),
        }
    }

    /// Name in metrics and logs.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Ambiguous => "ambiguous_answer",
            Self::Accepted => "accepted_only",
            Self::Both => "result_and_error",
            Self::ContentType => "content_type",
            Self::Empty => "empty_answer",
            Self::Hollow => "hollow_result",
            Self::NotAnAnswer => "no_answer_object",
            Self::NotJson => "answer_not_json",
            Self::NotUtf8 => "answer_not_utf8",
            Self::Status => "status",
            Self::StreamEnded => "stream_ended",
            Self::Truncated => "answer_truncated",
            Self::Unanswered => "unanswered",
        }
    }
}

/// Whether a result of this method must hold something (MCP schemas, 2024-11-05 to 2026-07-28). `{}` is a whole answer to `ping`,
/// `logging/setLevel`, `resources/subscribe` and `resources/unsubscribe`, and may be one to a method that we do not know.
pub fn must_return(method: &str) -> bool {
    matches!(
        method,
        "initialize"
            | "server/discover"
            | "tools/list"
            | "tools/call"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "prompts/list"
            | "prompts/get"
            | "completion/complete"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_name_and_sentence() {
        use Why::*;
        let every = [
            Ambiguous,
            Accepted,
            Both,
            ContentType,
            Empty,
            Hollow,
            NotAnAnswer,
            NotJson,
            NotUtf8,
            Status,
            StreamEnded,
            Truncated,
            Unanswered,
        ];
        for (at, why) in every.into_iter().enumerate() {
            assert!(every[..at].iter().all(|other| other.kind() != why.kind()), "{why:?}");
            assert!(why.sentence(200, Some("x"), None).starts_with("The upstream"), "{why:?}");
            assert!([200, 502].contains(&why.status(200)), "{why:?}");
        }
        assert_eq!(Status.sentence(503, None, None), "The upstream answered HTTP 503 Service Unavailable");
        assert_eq!(Status.sentence(599, None, None), "The upstream answered HTTP 599");
        assert_eq!((Status.status(304), Status.status(418), Status.status(999)), (502, 418, 502));
    }
}
