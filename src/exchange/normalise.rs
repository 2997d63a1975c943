//! Room 8: what becomes of an answer. Its head waits here until the first bytes of its body have been judged (`mcp::failure`).
//! Takes an [`Answer`] and what was asked, gives an [`Outward`]: the head for the client, what leaves at once, and what watches the rest.
//! Surprise: on a member that received a hop nothing is judged; its answer leaves raw, and the first member asks this room.

use bytes::Bytes;
use http::header;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::error::Fault;
use crate::logging;
use crate::mcp::failure::{Answered, Asked, Body, ContentType, Extent, Held, Kind, Tail, Verdict, decide};
use crate::mcp::{fields, sse};

use super::connection::{Answer, Next, Wait};
use super::{Exchange, Stop};

/// A verdict, and what was read to come to it.
pub(crate) struct Judged {
    pub verdict: Verdict,
    held: Held,
    read: Read,
}

/// How far an answer's body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Nothing,
    /// More of it is to come.
    Begun,
    Whole,
    /// It broke off; what came was enough for a verdict.
    Broken,
}

impl Judged {
    /// For an answer that another member judges.
    pub fn raw(answer: &Answer<'_>) -> Self {
        let verdict = Verdict::Pass { status: answer.head.status.as_u16() };
        Self { verdict, held: Held::default(), read: Read::Nothing }
    }

    /// Whether the upstream's answer reaches the client.
    pub fn leaves(&self) -> bool {
        match self.verdict {
            Verdict::Pass { .. } | Verdict::Mend { .. } | Verdict::Watch => true,
            Verdict::Hold | Verdict::Reply { .. } | Verdict::Silence { .. } => false,
        }
    }
}

impl Exchange<'_> {
    /// Reads as much of an answer as a verdict takes.
    pub(crate) async fn judge(
        &self,
        session: &mut Session,
        answer: &mut Answer<'_>,
        asked: &Asked,
    ) -> Result<Judged, Stop> {
        let statuses = self.app.settings.statuses;
        let verdict = decide(asked, &answered(&answer.head, Body::Unread), statuses);
        if verdict != Verdict::Hold {
            return Ok(Judged { verdict, held: Held::default(), read: Read::Nothing });
        }
        let (held, read) = self.hold(session, answer).await?;
        let extent = if read == Read::Begun { Extent::Beginning } else { Extent::Whole };
        let verdict = decide(asked, &answered(&answer.head, Body::Read(held.bytes(), extent)), statuses);
        Ok(Judged { verdict, held, read })
    }

    /// Reads a body to its end, or until enough of it is there.
    async fn hold(&self, session: &mut Session, answer: &mut Answer<'_>) -> Result<(Held, Read), Stop> {
        let is_failure = !answer.head.status.is_success();
        let mut held = Held::default();
        let mut wait = Wait::up_to(Some(self.app.settings.timeouts.response_idle));
        loop {
            let (fault, reason) = match wait.next(session, &mut answer.http).await {
                Next::Chunk(chunk) => {
                    held.push(chunk);
                    if answer.http.is_body_done() {
                        return Ok((held, Read::Whole));
                    }
                    if held.is_enough() {
                        return Ok((held, Read::Begun));
                    }
                    continue;
                }
                Next::End => return Ok((held, Read::Whole)),
                Next::ClientGone => return Err(Stop::ClientGone),
                Next::Silence => (Fault::AnswerSilent, "it fell silent".to_owned()),
                Next::Broken(error) => (Fault::AnswerBroken, logging::without_content(&error)),
            };
            let who = self.describe(&answer.source);
            log::warn!("upstream {}, {who}: answer broken: {reason}", self.upstream.name);
            // The status of a failure tells the client more than that its body is not whole.
            return if is_failure { Ok((held, Read::Broken)) } else { Err(fault.into()) };
        }
    }
}

/// What the rule must know of an answer's head.
fn answered<'h>(head: &'h ResponseHeader, body: Body<'h>) -> Answered<'h> {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    Answered {
        status: head.status.as_u16(),
        content_type: content_type(head),
        is_coded: is_coded(head),
        has_location: head.headers.contains_key(header::LOCATION),
        retry_after: text(header::RETRY_AFTER),
        body,
    }
}

fn is_coded(head: &ResponseHeader) -> bool {
    let coding = head.headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes().trim_ascii());
    coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// The one reading of an answer's `Content-Type`.
pub(crate) fn content_type(head: &ResponseHeader) -> ContentType<'_> {
    let value = head.headers.get(header::CONTENT_TYPE);
    ContentType::of(value.and_then(|value| std::str::from_utf8(value.as_bytes()).ok()))
}

/// An answer as it leaves.
pub(crate) struct Outward {
    pub head: Box<ResponseHeader>,
    /// What leaves with the head.
    pub first: Bytes,
    pub rest: Rest,
    /// What was done to it, for the log.
    pub normalised: Option<&'static str>,
}

/// What comes behind the first bytes.
pub(crate) enum Rest {
    /// Nothing. `reusable`: the upstream's connection is at the end of its answer.
    None { reusable: bool },
    /// Nothing for the client; the upstream may still be sending what was replaced.
    Unwanted,
    /// Its framing tells where it ends.
    Plain,
    /// Only its last bracket tells, and of an answer to a request its id.
    Json(Tail),
    /// May be silent for as long as it likes; watched if it is ours to repair.
    EventStream(Option<sse::Watch>),
}

impl Outward {
    /// `client`: the version of its request.
    pub fn of(
        mut head: Box<ResponseHeader>,
        client: http::Version,
        judged: Judged,
        asked: &Asked,
    ) -> pingora_core::Result<Self> {
        let Judged { verdict, held, read } = judged;
        let rest = Rest::behind(&head, &verdict, read, asked);
        head.set_version(http::Version::HTTP_11);
        for name in connection_fields(&head) {
            head.remove_header(&name);
        }
        if matches!(rest, Rest::EventStream(_)) {
            // Pingora gathers what has a length until it is whole; events must leave one by one.
            head.remove_header(&header::CONTENT_LENGTH);
        }
        let (first, normalised) = match verdict {
            Verdict::Hold | Verdict::Watch => (Bytes::new(), None),
            Verdict::Pass { status } => {
                set_status(&mut head, status)?;
                (held.release(), None)
            }
            Verdict::Mend { status, mend } => {
                set_status(&mut head, status)?;
                let first = mend.apply(held.bytes());
                lengthen(&mut head, held.bytes().len(), first.len())?;
                (first, Some(mend.kind))
            }
            Verdict::Reply { status, why, body } => {
                replace_body(&mut head, status, &body)?;
                (body, Some(why.kind()))
            }
            Verdict::Silence { status } => {
                replace_body(&mut head, status, &[])?;
                (Bytes::new(), None)
            }
        };
        if read == Read::Broken {
            // What leaves is all there is, whatever length was promised.
            head.insert_header(header::CONTENT_LENGTH, first.len())?;
        }
        let unframed = !is_bodiless(&head) && !head.headers.contains_key(header::CONTENT_LENGTH);
        if unframed && client == http::Version::HTTP_11 {
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        let mut outward = Self { head, first, rest, normalised };
        if let Rest::Json(tail) = &mut outward.rest {
            tail.push(&outward.first);
        }
        Ok(outward)
    }
}

impl Rest {
    /// `head`: as the upstream sent it.
    fn behind(head: &ResponseHeader, verdict: &Verdict, read: Read, asked: &Asked) -> Self {
        let is_replaced = matches!(verdict, Verdict::Reply { .. } | Verdict::Silence { .. });
        match read {
            Read::Whole => Self::None { reusable: true },
            Read::Broken => Self::None { reusable: false },
            Read::Nothing | Read::Begun if is_replaced => Self::Unwanted,
            // It was read because it answers a request.
            Read::Begun => Self::Json(Tail::of_answer(&asked.caller)),
            Read::Nothing if content_type(head).kind == Kind::EventStream => {
                Self::EventStream((*verdict == Verdict::Watch).then(|| sse::Watch::new(asked)))
            }
            Read::Nothing if is_unframed_json(head) => Self::Json(Tail::of_json()),
            Read::Nothing => Self::Plain,
        }
    }
}

fn is_unframed_json(head: &ResponseHeader) -> bool {
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    content_type(head).kind == Kind::Json
        && !is_coded(head)
        && !is_bodiless(head)
        && !framed.iter().any(|name| head.headers.contains_key(name))
}

fn is_bodiless(head: &ResponseHeader) -> bool {
    matches!(head.status.as_u16(), 204 | 304)
}

/// Fields of an answer that belong to the upstream's connection, or that only members say to each other.
pub(crate) fn connection_fields(head: &ResponseHeader) -> Vec<http::HeaderName> {
    let nominated =
        fields::nominated(head.headers.get_all(header::CONNECTION).iter().map(|value| value.as_bytes()));
    let belongs = |name: &&http::HeaderName| {
        fields::is_hop_by_hop(name.as_str())
            || fields::is_outrigger_internal(name.as_str())
            || nominated.iter().any(|nominated| nominated == name.as_str())
    };
    head.headers.keys().filter(belongs).cloned().collect()
}

fn set_status(head: &mut ResponseHeader, status: u16) -> pingora_core::Result<()> {
    if head.status.as_u16() != status {
        head.set_status(status)?;
        head.set_reason_phrase(None)?;
    }
    Ok(())
}

/// Of a body that was mended, the length announced.
fn lengthen(head: &mut ResponseHeader, from: usize, to: usize) -> pingora_core::Result<()> {
    let announced =
        head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match announced {
        Some(length @ 0_usize..) => {
            head.insert_header(header::CONTENT_LENGTH, length.saturating_sub(from) + to)
        }
        None => Ok(()),
    }
}

/// A body of ours under the upstream's head: what clients act on stays (`WWW-Authenticate`, `Allow`, `Retry-After`, CORS), what
/// described the old body goes, and so does a session that a failure cannot have made.
fn replace_body(head: &mut ResponseHeader, status: u16, body: &[u8]) -> pingora_core::Result<()> {
    let goes =
        |name: &&http::HeaderName| fields::describes_body(name.as_str()) || name.as_str() == "mcp-session-id";
    let gone: Vec<http::HeaderName> = head.headers.keys().filter(goes).cloned().collect();
    for name in gone {
        head.remove_header(&name);
    }
    set_status(head, status)?;
    if !body.is_empty() {
        head.insert_header(header::CONTENT_TYPE, "application/json")?;
    }
    if !is_bodiless(head) {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    Ok(())
}
