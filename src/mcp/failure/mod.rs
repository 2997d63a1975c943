//! Room 8, normalise: no failure looks like a success (P3). Takes what was asked and what was answered, gives a [`Verdict`].
//! A healthy answer leaves byte for byte; a failure becomes a JSON-RPC error with the caller's own id, and keeps the status and the fields
//! that clients act on. Surprise: the verdict mostly falls after the first packet, and never before it: the status line waits for the
//! first bytes of the body, because a 200 is where failures hide.
//!
//! # What is held back
//!
//! Only answers to requests, and of these only JSON and bodies that will be replaced: until they end, at most [`HOLD`] bytes. A longer
//! answer leaves as soon as these begin like one (`result` or `error` has begun, after an id, if any, that is the caller's or can be
//! mended); what comes behind them is watched by a [`Tail`]. Of event streams nothing is held here ([`sse`](super::sse)).

mod answer;
mod content;
mod detail;
mod held;
mod mend;
mod reply;
#[cfg(test)]
mod table;
mod why;

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use crate::mcp::id::Id;

pub use answer::Extent;
pub(in crate::mcp) use answer::{Answer, Outcome, Shape, read};
pub use content::{ContentType, Kind};
use detail::{Markup, detail};
pub use held::{HOLD, Held, Tail};
pub use mend::Mend;
pub use reply::{Caller, Data, Failure, RetryAfter, error, reply};
pub use why::{Why, must_return};

/// JSON-RPC 2.0 §5.1, for everything that failed behind us. Never -32601 or one of MCP's own (facts: "recognised modern errors" stop a
/// client from falling back to an older protocol).
pub const INTERNAL_ERROR: i32 = -32603;

/// What the client asked, as far as its answer depends on it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub caller: Caller,
    /// JSON-RPC method of a single message.
    pub method: Option<String>,
    /// It named a session; 404 then means that this one is gone.
    pub in_session: bool,
    /// HTTP+SSE: its answer comes by the session's stream, and HTTP only says that it was taken.
    pub by_stream: bool,
    /// It asks where HTTP+SSE is spoken for Streamable HTTP; by a status of failure its client learns to open the stream instead.
    pub tries_transport: bool,
    /// A client of its era can resume an event stream by the id of the last event.
    pub can_resume: bool,
}

/// What the upstream answered, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    pub status: u16,
    pub content_type: ContentType<'a>,
    /// Its body has a content coding, although none was asked for: it cannot be read.
    pub is_coded: bool,
    pub has_location: bool,
    pub retry_after: Option<&'a str>,
    pub body: Body<'a>,
}

impl Answered<'_> {
    /// One whose events can be told apart.
    fn is_event_stream(&self) -> bool {
        self.content_type.kind == Kind::EventStream && !self.is_coded
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    Unread,
    Read(&'a [u8], Extent),
}

/// How the status of a failed request leaves (`errors.status`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Statuses {
    #[default]
    Preserve,
    /// 200, but for what clients act on: 401, 403 and a session's 404, by which they authenticate and initialise again, and whatever
    /// tells them which transport is spoken.
    Ok,
}

/// What becomes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing may leave until (the beginning of) the body is read; then ask again.
    Hold,
    /// Leaves byte for byte, with this status.
    Pass { status: u16 },
    /// Leaves but for its id, or with errors for the requests that it leaves out.
    Mend { status: u16, mend: Mend },
    /// An event stream: leaves as it comes, watched.
    Watch,
    /// We answer in its place.
    Reply { status: u16, why: Why, body: Bytes },
    /// Its status alone leaves.
    Silence { status: u16 },
}

/// The rule. Asked twice at most: `Hold` is said of an unread body only.
pub fn decide(asked: &Asked, answered: &Answered<'_>, statuses: Statuses) -> Verdict {
    let owed = match &asked.caller {
        Caller::Request(_) => true,
        Caller::Batch(ids) => !ids.is_empty(),
        Caller::Silent => false,
        // No JSON-RPC id to answer to, or none that we know.
        Caller::Bare | Caller::Unreadable(_) => return as_it_is(answered),
    };
    match (Class::of(answered), owed) {
        (Class::Redirect, _) => Verdict::Pass { status: answered.status },
        (Class::Success | Class::Accepted, false) if answered.is_event_stream() => Verdict::Watch,
        (Class::Success | Class::Accepted, false) => Verdict::Silence { status: 202 },
        (Class::Failure, false) => Verdict::Silence { status: answered.status },
        (Class::Success | Class::Accepted, true) if asked.by_stream => {
            Verdict::Pass { status: answered.status }
        }
        (Class::Accepted, true) => refused(asked, answered, statuses, Why::Accepted, None),
        (Class::Success, true) => success(asked, answered, statuses),
        (Class::Failure, true) => failure(asked, answered, statuses),
    }
}

/// HTTP status for a request that failed with `status`.
pub fn status_outward(asked: &Asked, status: u16, statuses: Statuses) -> u16 {
    let acted_on =
        matches!(status, 401 | 403) || (status == 404 && asked.in_session) || asked.tries_transport;
    let owed = !asked.caller.ids().is_empty();
    match statuses {
        // Where the answer comes by a stream, 200 would say that it will come.
        Statuses::Ok if owed && !acted_on && !asked.by_stream => 200,
        Statuses::Ok | Statuses::Preserve => status,
    }
}

/// What a status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Success,
    /// Success that brings nothing.
    Accepted,
    Redirect,
    Failure,
}

impl Class {
    fn of(answered: &Answered<'_>) -> Self {
        match answered.status {
            202 | 204 | 205 => Self::Accepted,
            200..=299 => Self::Success,
            300..=399 if answered.has_location => Self::Redirect,
            _ => Self::Failure,
        }
    }
}

fn as_it_is(answered: &Answered<'_>) -> Verdict {
    if answered.is_event_stream() { Verdict::Watch } else { Verdict::Pass { status: answered.status } }
}

fn success(asked: &Asked, answered: &Answered<'_>, statuses: Statuses) -> Verdict {
    let refused = |why, detail| refused(asked, answered, statuses, why, detail);
    if answered.is_event_stream() {
        return Verdict::Watch;
    }
    if answered.is_coded {
        return match answered.content_type.kind {
            // It may be an answer; nobody here can tell.
            Kind::Json | Kind::EventStream => Verdict::Pass { status: answered.status },
            Kind::Words(_) | Kind::Opaque | Kind::Unsaid => refused(Why::ContentType, None),
        };
    }
    let Body::Read(body, extent) = answered.body else { return Verdict::Hold };
    if answered.content_type.kind != Kind::Json {
        return match body.trim_ascii() {
            b"" if extent == Extent::Whole => refused(Why::Empty, None),
            _ => refused(Why::ContentType, said(answered, body)),
        };
    }
    match read(body, extent) {
        Shape::Empty => refused(Why::Empty, None),
        Shape::Answer(Answer { outcome: Outcome::Both, .. }) => {
            refused(Why::Both, detail(Markup::Json, body))
        }
        Shape::Answer(Answer { outcome: Outcome::HollowResult, .. })
            if asked.method.as_deref().is_some_and(must_return) =>
        {
            refused(Why::Hollow, None)
        }
        Shape::Answer(answer) => answer_leaves(asked, answered, statuses, body, extent, &answer),
        Shape::Answers(places) if matches!(asked.caller, Caller::Batch(_)) => {
            answers_leave(asked, answered, statuses, body, extent, &places)
        }
        Shape::Answers(_) | Shape::Other => refused(Why::NotAnAnswer, detail(Markup::Json, body)),
        Shape::Broken(broken) => refused(broken.into(), None),
    }
}

fn failure(asked: &Asked, answered: &Answered<'_>, statuses: Statuses) -> Verdict {
    let refused = |detail| refused(asked, answered, statuses, Why::Status, detail);
    if answered.is_coded || answered.is_event_stream() {
        return refused(None);
    }
    let Body::Read(body, extent) = answered.body else { return Verdict::Hold };
    let is_json = answered.content_type.kind == Kind::Json;
    let shape = if is_json { read(body, extent) } else { Shape::Other };
    match shape {
        Shape::Answer(answer) if matches!(answer.outcome, Outcome::Error(_)) => {
            answer_leaves(asked, answered, statuses, body, extent, &answer)
        }
        Shape::Answers(places) if matches!(asked.caller, Caller::Batch(_)) => {
            answers_leave(asked, answered, statuses, body, extent, &places)
        }
        // Never a result under a status of failure.
        Shape::Answer(_) | Shape::Answers(_) | Shape::Empty | Shape::Other | Shape::Broken(_) => {
            refused(said(answered, body))
        }
    }
}

/// A JSON-RPC answer, with the caller's own id if it has another.
fn answer_leaves(
    asked: &Asked,
    answered: &Answered<'_>,
    statuses: Statuses,
    body: &[u8],
    extent: Extent,
    answer: &Answer,
) -> Verdict {
    let status = status_of_answer(asked, answered, statuses);
    match &asked.caller {
        Caller::Batch(ids) => match &answer.outcome {
            // One error for a whole batch is the error of each.
            Outcome::Error(place) if extent == Extent::Whole => {
                let body = reply::reply_with(&asked.caller, &body[place.clone()]);
                Verdict::Reply { status, why: Why::Status, body }
            }
            _ if answer.is_to_one_of(ids, body) => {
                answers_leave(asked, answered, statuses, body, extent, answer.id.as_slice())
            }
            _ => refused(asked, answered, statuses, Why::NotAnAnswer, None),
        },
        Caller::Request(id) => match Mend::of(answer, body, id, extent) {
            Some(mend) => Verdict::Mend { status, mend },
            None => Verdict::Pass { status },
        },
        Caller::Silent | Caller::Bare | Caller::Unreadable(_) => Verdict::Pass { status },
    }
}

/// What a batch got, its ids in these places; whoever is left out gets an error behind it. Of a beginning the rest may be still to come.
fn answers_leave(
    asked: &Asked,
    answered: &Answered<'_>,
    statuses: Statuses,
    body: &[u8],
    extent: Extent,
    places: &[Range<usize>],
) -> Verdict {
    let status = status_of_answer(asked, answered, statuses);
    let given: HashSet<Id> = places.iter().map(|place| Id::of(&body[place.clone()])).collect();
    let ids = asked.caller.ids();
    let missing: Vec<&Vec<u8>> = ids.iter().filter(|id| !given.contains(&Id::of(id))).collect();
    if extent != Extent::Whole || missing.is_empty() {
        return Verdict::Pass { status };
    }
    if missing.len() == ids.len() {
        let is_failure = Class::of(answered) == Class::Failure;
        let why = if is_failure { Why::Status } else { Why::NotAnAnswer };
        return refused(asked, answered, statuses, why, said(answered, body));
    }
    let failure = failure_of(asked, answered, Why::Unanswered, None);
    let errors: Vec<Vec<u8>> = missing.into_iter().map(|id| error(id, &failure)).collect();
    Verdict::Mend { status, mend: Mend::completing(body, &errors) }
}

/// HTTP status of what leaves as an answer.
fn status_of_answer(asked: &Asked, answered: &Answered<'_>, statuses: Statuses) -> u16 {
    match Class::of(answered) {
        Class::Failure => status_outward(asked, answered.status, statuses),
        Class::Success | Class::Accepted | Class::Redirect => answered.status,
    }
}

/// The reply to a request whose answer may not leave.
fn refused(
    asked: &Asked,
    answered: &Answered<'_>,
    statuses: Statuses,
    why: Why,
    detail: Option<String>,
) -> Verdict {
    let failure = failure_of(asked, answered, why, detail);
    let status = status_outward(asked, why.status(answered.status), statuses);
    Verdict::Reply { status, why, body: reply(&asked.caller, &failure).1 }
}

fn failure_of(asked: &Asked, answered: &Answered<'_>, why: Why, detail: Option<String>) -> Failure {
    let content_type = match why {
        Why::ContentType | Why::Status => answered.content_type.foreign(),
        Why::Ambiguous | Why::Accepted | Why::Both | Why::Empty | Why::Hollow | Why::NotAnAnswer => None,
        Why::NotJson | Why::NotUtf8 | Why::StreamEnded | Why::Truncated | Why::Unanswered => None,
    };
    let sentence = why.sentence(answered.status, asked.method.as_deref(), content_type.as_deref());
    Failure {
        code: INTERNAL_ERROR,
        message: detail.as_ref().map_or(sentence.clone(), |detail| format!("{sentence}: {detail}")),
        data: Data {
            http_status: answered.status,
            detail,
            content_type,
            method: asked.method.clone().filter(|_| why == Why::Hollow),
            retry_after: answered.retry_after.map(RetryAfter::of),
        },
    }
}

/// What a body that is replaced said.
fn said(answered: &Answered<'_>, body: &[u8]) -> Option<String> {
    detail(answered.content_type.markup(body)?, body)
}
