//! Every way a request can fail in Outrigger's own hands: whose fault it is, the HTTP status, the JSON-RPC code and the sentence
//! that the client reads. The log's text is made where the failure arises and may name addresses; the client's never does.
//! Surprise: a lost session is 404 although nothing of the path is missing, because that status alone makes clients initialise again.

use std::borrow::Cow;

use crate::mcp::failure::{Data, Failure, INTERNAL_ERROR, RetryAfter};
use crate::mcp::jsonrpc;

/// JSON-RPC 2.0 §5.1: the request is not one that we pass on.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC 2.0 §5.1: as servers answer for a task that they do not know (SEP-2663, "Protocol Errors").
pub const INVALID_PARAMS: i32 = -32602;

/// One failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The body is no JSON-RPC that we pass on.
    BadMessage(jsonrpc::Reason),
    BatchRefused,
    BodyTooLarge {
        limit: usize,
    },
    BodyTooSlow,
    UnsupportedEncoding,
    BrokenEncoding,
    /// The body's chunks do not add up.
    BrokenFraming,
    MalformedSession,
    AmbiguousPath,
    NoSuchPath,
    /// HTTP/1.1 without a `Host`, or with one that is no authority (RFC 9112 §3.2).
    NoHost,
    /// The listener takes no requests for this host (`allowed_hosts`).
    HostNotAllowed,
    /// It takes none from this page (`allowed_origins`).
    OriginNotAllowed,
    TooManyFields,
    /// The owner is gone, or never was in this scope.
    SessionLost,
    /// The same, of a task.
    TaskLost,
    RegistryUnavailable,
    /// The member that holds the session does not answer, and nobody knows whether it is gone.
    OwnerUnreachable,
    /// A request that one member forwarded would be forwarded again.
    ForwardedTwice,
    /// Something else than a forwarded request came in where only members may.
    NotForwarded,
    /// No peer could be connected to.
    NoPeer,
    ConnectTimeout,
    TlsHandshake,
    WriteFailed,
    FirstByteTimeout,
    /// The upstream closed or broke the connection before its answer.
    NoAnswer,
    MalformedAnswer,
    /// The answer ended in its middle, before any of it had left.
    AnswerBroken,
    /// The same, because nothing came any more.
    AnswerSilent,
    /// It sends its client elsewhere, where ours cannot follow.
    Redirected,
}

/// Who has to act on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Upstream,
    Outrigger,
}

impl Fault {
    pub fn blame(&self) -> Blame {
        match self {
            Self::BadMessage(_) | Self::BatchRefused | Self::BodyTooLarge { .. } | Self::BodyTooSlow => {
                Blame::Client
            }
            Self::UnsupportedEncoding
            | Self::BrokenEncoding
            | Self::BrokenFraming
            | Self::MalformedSession => Blame::Client,
            Self::AmbiguousPath | Self::NoSuchPath | Self::NoHost | Self::TooManyFields => Blame::Client,
            Self::HostNotAllowed | Self::OriginNotAllowed | Self::NotForwarded => Blame::Client,
            Self::SessionLost | Self::TaskLost | Self::NoPeer | Self::ConnectTimeout | Self::TlsHandshake => {
                Blame::Upstream
            }
            Self::WriteFailed | Self::FirstByteTimeout | Self::NoAnswer | Self::MalformedAnswer => {
                Blame::Upstream
            }
            Self::AnswerBroken | Self::AnswerSilent => Blame::Upstream,
            Self::Redirected => Blame::Upstream,
            Self::RegistryUnavailable => Blame::Outrigger,
            Self::OwnerUnreachable | Self::ForwardedTwice => Blame::Outrigger,
        }
    }

    /// HTTP status of the reply.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadMessage(_) | Self::BatchRefused | Self::BrokenEncoding | Self::BrokenFraming => 400,
            Self::MalformedSession | Self::AmbiguousPath | Self::NoHost => 400,
            // As servers answer themselves; 404 would tell a modern client that there is no such method.
            Self::TaskLost => 400,
            Self::HostNotAllowed | Self::OriginNotAllowed | Self::NotForwarded => 403,
            Self::NoSuchPath | Self::SessionLost => 404,
            Self::BodyTooSlow => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::UnsupportedEncoding => 415,
            Self::TooManyFields => 431,
            Self::NoPeer
            | Self::TlsHandshake
            | Self::WriteFailed
            | Self::NoAnswer
            | Self::MalformedAnswer
            | Self::AnswerBroken
            | Self::Redirected => 502,
            Self::RegistryUnavailable | Self::OwnerUnreachable => 503,
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::AnswerSilent => 504,
            Self::ForwardedTwice => 508,
        }
    }

    /// JSON-RPC code: parse and invalid-request codes only for what we refuse ourselves (facts/mcp §2).
    pub fn code(&self) -> i32 {
        match (self, self.blame()) {
            (Self::BadMessage(reason), _) => reason.code(),
            (Self::TaskLost, _) => INVALID_PARAMS,
            (Self::SessionLost, _) | (_, Blame::Client) => INVALID_REQUEST,
            (_, Blame::Upstream | Blame::Outrigger) => INTERNAL_ERROR,
        }
    }

    /// What the client reads: whose fault, and no address, path or certificate of ours.
    pub fn sentence(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::BadMessage(reason) => return reason.sentence(),
            Self::BatchRefused => "JSON-RPC batches are not supported here; send one message per request",
            Self::BodyTooLarge { limit } => {
                return format!("The request body is larger than {limit} bytes").into();
            }
            Self::BodyTooSlow => "The request body did not arrive in time",
            Self::UnsupportedEncoding => {
                "This Content-Encoding is not supported; send gzip, deflate or identity"
            }
            Self::BrokenEncoding => "The request body does not decode by its Content-Encoding",
            Self::BrokenFraming => "The framing of the request body is broken",
            Self::MalformedSession => "Mcp-Session-Id is malformed or sent several times",
            Self::AmbiguousPath => "The path can be read in two ways",
            Self::NoSuchPath => "Not found",
            Self::NoHost => "The Host field is missing or malformed",
            Self::HostNotAllowed => "Requests for this host are not allowed here",
            Self::OriginNotAllowed => "Requests from this origin are not allowed here",
            Self::TooManyFields => "Too many header fields",
            Self::SessionLost => "Session not found; initialize again",
            Self::TaskLost => "Task not found",
            Self::RegistryUnavailable => "The session registry is unavailable; try again",
            Self::OwnerUnreachable => "The session's owner cannot be reached; try again",
            Self::ForwardedTwice => "The request was forwarded in a circle",
            Self::NotForwarded => "Only members come in here",
            Self::NoPeer => "The upstream cannot be reached",
            Self::ConnectTimeout => "Connecting to the upstream took too long",
            Self::TlsHandshake => "The TLS handshake with the upstream failed",
            Self::WriteFailed => "The upstream did not take the request",
            Self::FirstByteTimeout => "The upstream did not answer in time",
            Self::NoAnswer => "The upstream closed the connection without an answer",
            Self::MalformedAnswer => "The upstream's answer is not valid HTTP",
            Self::AnswerBroken => "The upstream's answer broke off",
            Self::AnswerSilent => "The upstream's answer broke off in silence",
            Self::Redirected => "The upstream answered with a redirect",
        })
    }

    /// Name in metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadMessage(_) => "bad_message",
            Self::BatchRefused => "batch_refused",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::BrokenEncoding => "broken_encoding",
            Self::BrokenFraming => "broken_framing",
            Self::MalformedSession => "malformed_session",
            Self::AmbiguousPath => "ambiguous_path",
            Self::NoSuchPath => "no_such_path",
            Self::NoHost => "no_host",
            Self::HostNotAllowed => "host_not_allowed",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::TooManyFields => "too_many_fields",
            Self::SessionLost => "session_lost",
            Self::TaskLost => "task_lost",
            Self::RegistryUnavailable => "registry_unavailable",
            Self::OwnerUnreachable => "owner_unreachable",
            Self::ForwardedTwice => "forwarded_twice",
            Self::NotForwarded => "not_forwarded",
            Self::NoPeer => "no_peer",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsHandshake => "tls_handshake",
            Self::WriteFailed => "write_failed",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::NoAnswer => "no_answer",
            Self::MalformedAnswer => "malformed_answer",
            Self::AnswerBroken => "answer_broken",
            Self::AnswerSilent => "answer_silent",
            Self::Redirected => "redirected",
        }
    }

    /// What a JSON-RPC client is told.
    pub fn failure(&self) -> Failure {
        let retry_after = self.retry_after().map(|seconds| RetryAfter::Seconds(seconds.into()));
        let data = Data { http_status: self.status(), retry_after, ..Data::default() };
        Failure { code: self.code(), message: self.sentence().into_owned(), data }
    }

    /// `Retry-After` in seconds, where waiting helps.
    pub fn retry_after(&self) -> Option<u32> {
        let helps = matches!(self, Self::RegistryUnavailable | Self::OwnerUnreachable | Self::NoPeer);
        helps.then_some(1)
    }

    /// What another member says has failed behind it, by [`Self::kind`]. What it cannot have said is no answer.
    pub fn of_member(kind: &str) -> Self {
        const BEHIND: [Fault; 8] = [
            Fault::SessionLost,
            Fault::ForwardedTwice,
            Fault::NoPeer,
            Fault::ConnectTimeout,
            Fault::TlsHandshake,
            Fault::WriteFailed,
            Fault::FirstByteTimeout,
            Fault::NoAnswer,
        ];
        BEHIND.into_iter().find(|fault| fault.kind() == kind).unwrap_or(Self::MalformedAnswer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of every kind.
    fn every() -> Vec<Fault> {
        use Fault::*;
        vec![
            BadMessage(jsonrpc::Reason::Empty),
            BatchRefused,
            BodyTooLarge { limit: 1 },
            BodyTooSlow,
            UnsupportedEncoding,
            BrokenEncoding,
            BrokenFraming,
            MalformedSession,
            AmbiguousPath,
            NoSuchPath,
            NoHost,
            HostNotAllowed,
            OriginNotAllowed,
            TooManyFields,
            SessionLost,
            TaskLost,
            RegistryUnavailable,
            OwnerUnreachable,
            ForwardedTwice,
            NotForwarded,
            NoPeer,
            ConnectTimeout,
            TlsHandshake,
            WriteFailed,
            FirstByteTimeout,
            NoAnswer,
            MalformedAnswer,
            AnswerBroken,
            AnswerSilent,
            Redirected,
        ]
    }

    #[test]
    fn status_code_and_blame_agree() {
        for fault in every() {
            let client_status = (400..500).contains(&fault.status());
            assert_eq!(
                client_status,
                fault.blame() == Blame::Client || [Fault::SessionLost, Fault::TaskLost].contains(&fault),
                "{fault:?}"
            );
            assert!(
                [INVALID_REQUEST, INVALID_PARAMS, INTERNAL_ERROR, -32700].contains(&fault.code()),
                "{fault:?}"
            );
            assert!(
                !fault.sentence().is_empty() && !fault.sentence().contains(['"', '\\', '\n']),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn every_kind_has_its_own_name() {
        let mut kinds: Vec<_> = every().iter().map(Fault::kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), every().len());
    }
}
