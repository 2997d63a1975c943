//! Rooms 8 and 9: the answer outward, as it arrives.
//! Takes an [`Answer`], writes head and body downstream, gives the connection back to the pool if its answer ended cleanly.
//! Surprise: nothing is ever held back except an unfinished `endpoint` event, and an HTTP/1.1 answer without a length is sent
//! chunked: sent until close, a truncated answer would look whole (P3).

use std::time::Instant;

use bytes::Bytes;
use http::header;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use crate::account::{Counted, Record};
use crate::logging;
use crate::mcp::fields;
use crate::mcp::public_url::address::Ours;
use crate::mcp::sse::FirstEvent;
use crate::mcp::whole::Whole;
use crate::registry::{Claim, SessionKey};
use crate::routing::hop::{HOP_PEER, escape};
use crate::routing::session::session_in_query;

use super::connection::{Answer, Source, client_gone};
use super::outbound::origin_form;
use super::public::{expose_session, public_head};
use super::task::NewTask;
use super::{Endpoint, Exchange, Side, Stop, Target};

impl Exchange<'_> {
    /// Writes the whole answer. `Cut` where it broke after its head had left.
    pub(crate) async fn relay(
        &self,
        session: &mut Session,
        answer: Answer<'_>,
        mut task: NewTask,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let Answer { head, mut http, source } = answer;
        let shape = Shape::of(&head);
        if self.app.draining() {
            session.as_downstream_mut().set_keepalive(None);
        }
        let mut head = outward(head, shape, session.req_header().version);
        self.sign(&mut head, &source).map_err(Stop::Cut)?;
        let begun = session.as_downstream_mut().write_response_header(head).await;
        begun.map_err(|_| Stop::ClientGone)?;

        let _open = (shape == Shape::EventStream).then(|| Counted::one(&self.app.counters.streams));
        let mut opening = Opening::of(self.target, shape, session.req_header());
        let outcome = self.pump(session, &mut http, &source, shape, &mut opening, &mut task).await;
        opening.end(self).await;
        match outcome {
            Ok(()) => {
                http.respect_keepalive();
                if let Some(stream) = http.reuse().await {
                    self.keep(&source, stream);
                }
                Ok(())
            }
            Err(Stop::Cut(error)) => {
                record.fault = Some("answer_broken");
                self.app.counters.fault("answer_broken");
                let reason = logging::without_content(&error);
                log::warn!(
                    "upstream {}, {}: answer broken: {reason}",
                    self.upstream.name,
                    self.describe(&source)
                );
                Err(Stop::Cut(error))
            }
            Err(stop) => Err(stop),
        }
    }

    /// What is ours to say in an answer's head: its addresses to a client, its peer to a member, which leaves them to the first one.
    fn sign(&self, head: &mut ResponseHeader, source: &Source<'_>) -> pingora_core::Result<()> {
        match self.side {
            Side::Member => head.insert_header(HOP_PEER, escape(source.peer_name(self.upstream))),
            Side::Client { public, .. } => {
                if public.for_page {
                    expose_session(head)?;
                }
                public_head(head, public.ours(self.upstream))
            }
        }
    }

    /// Gives a connection back to where it came from.
    pub(crate) fn keep(&self, source: &Source<'_>, stream: Stream) {
        match (source, &self.app.members) {
            (Source::Near { peer, .. }, _) => self.upstream.keep(*peer, stream),
            (Source::Far { address, .. }, Some(members)) => members.keep(*address, stream),
            (Source::Far { .. }, None) => {}
        }
    }

    /// For the log.
    fn describe(&self, source: &Source<'_>) -> String {
        match source {
            Source::Near { peer, .. } => format!("peer {}", self.upstream.peers[*peer].name),
            Source::Far { member, peer, .. } => format!("peer {peer} of member {member}"),
        }
    }

    async fn pump(
        &self,
        session: &mut Session,
        http: &mut Http1,
        source: &Source<'_>,
        shape: Shape,
        opening: &mut Opening,
        task: &mut NewTask,
    ) -> Result<(), Stop> {
        let silence = self.app.settings.timeouts.response_idle;
        let deadline = tokio::time::sleep_until((Instant::now() + silence).into());
        tokio::pin!(deadline);
        let mut watch = true;
        let mut whole = (shape == Shape::JsonUntilClose).then(Whole::default);
        loop {
            let chunk = tokio::select! {
                biased;
                read = http.read_body_bytes() => read.map_err(Stop::Cut)?,
                gone = client_gone(session), if watch => {
                    if gone { return Err(Stop::ClientGone) }
                    watch = false;
                    continue;
                }
                () = &mut deadline, if shape != Shape::EventStream => return Err(Stop::Cut(silent())),
            };
            let Some(chunk) = chunk else {
                if whole.is_some_and(|whole| !whole.is_whole()) {
                    return Err(Stop::Cut(Error::explain(
                        ErrorType::ConnectionClosed,
                        "closed inside its JSON",
                    )));
                }
                let rest = opening.finish();
                return write(session, rest, true).await;
            };
            if let Some(whole) = &mut whole {
                whole.push(&chunk);
            }
            deadline.as_mut().reset((Instant::now() + silence).into());
            task.pass(self, source, &chunk).await?;
            let chunk = opening.pass(self, source, chunk).await?;
            let end = http.is_body_done() && opening.is_open();
            write(session, chunk, end).await?;
            if end {
                return Ok(());
            }
        }
    }
}

async fn write(session: &mut Session, chunk: Bytes, end: bool) -> Result<(), Stop> {
    session.as_downstream_mut().write_response_body(chunk, end).await.map_err(|_| Stop::ClientGone)
}

/// What an answer's head says about the end of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// May be silent for as long as it likes.
    EventStream,
    /// JSON without any framing: only its own brackets tell whether it is whole.
    JsonUntilClose,
    /// Everything else; its framing tells.
    Plain,
}

impl Shape {
    fn of(head: &ResponseHeader) -> Self {
        let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
        if is_of_type(head, "text/event-stream") {
            Self::EventStream
        } else if is_of_type(head, "application/json")
            && !is_bodiless(head)
            && !framed.iter().any(|name| head.headers.contains_key(name))
        {
            Self::JsonUntilClose
        } else {
            Self::Plain
        }
    }
}

/// Whether an answer's content is of this type, whatever its parameters.
pub(crate) fn is_of_type(head: &ResponseHeader, media_type: &str) -> bool {
    let value = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(b"").trim_ascii();
    essence.eq_ignore_ascii_case(media_type.as_bytes())
}

fn is_bodiless(head: &ResponseHeader) -> bool {
    matches!(head.status.as_u16(), 204 | 304)
}

/// The answer's head as the client gets it.
fn outward(mut head: Box<ResponseHeader>, shape: Shape, client: http::Version) -> Box<ResponseHeader> {
    head.set_version(http::Version::HTTP_11);
    for name in connection_fields(&head) {
        head.remove_header(&name);
    }
    if shape == Shape::EventStream {
        // Pingora gathers what has a length until it is whole; events must leave one by one.
        head.remove_header(&header::CONTENT_LENGTH);
    }
    let unframed = !is_bodiless(&head) && !head.headers.contains_key(header::CONTENT_LENGTH);
    if unframed && client == http::Version::HTTP_11 {
        // Static text: cannot fail.
        let _ = head.insert_header(header::TRANSFER_ENCODING, "chunked");
    }
    head
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

fn silent() -> pingora_core::BError {
    Error::explain(ErrorType::ReadTimedout, "the answer fell silent")
}

fn unclaimed() -> pingora_core::BError {
    Error::explain(ErrorType::InternalError, "the session could not be claimed")
}

/// The beginning of an HTTP+SSE stream: its `endpoint` event names the session, whose owner must be known before the client reads it,
/// and the address of its messages, which the client must be able to reach.
enum Opening {
    /// Every other answer, and a stream whose first event has passed.
    Past { claimed: Option<(SessionKey, Claim)> },
    Awaiting {
        first: FirstEvent,
        /// Of the request.
        path: String,
    },
}

impl Opening {
    fn of(target: &Target, shape: Shape, request: &RequestHeader) -> Self {
        if target.endpoint == Endpoint::Sse && shape == Shape::EventStream {
            let path = String::from_utf8_lossy(origin_form(request)).into_owned();
            Self::Awaiting { first: FirstEvent::default(), path }
        } else {
            Self::Past { claimed: None }
        }
    }

    /// Nothing is held back.
    fn is_open(&self) -> bool {
        matches!(self, Self::Past { .. })
    }

    async fn pass(
        &mut self,
        exchange: &Exchange<'_>,
        source: &Source<'_>,
        chunk: Bytes,
    ) -> Result<Bytes, Stop> {
        let Self::Awaiting { first, path } = self else { return Ok(chunk) };
        let mut step = first.push(&chunk);
        let done = first.done();
        let mut claimed = None;
        if let (Some(endpoint), Some(ours)) = (step.endpoint, exchange.ours()) {
            if let Some((session_id, messages)) = named_by(exchange, ours, &endpoint.address, path) {
                let claim = exchange.claim(&messages, &session_id, source).await;
                claimed = Some(claim.map_err(|_| Stop::Cut(unclaimed()))?);
            }
            let public = ours.endpoint(&endpoint.address, exchange.app.settings.endpoint, path);
            if let (Some(span), Some(public)) = (endpoint.span, public) {
                step.release.splice(span, public.into_bytes());
            }
        }
        if done {
            *self = Self::Past { claimed };
        }
        Ok(step.release.into())
    }

    fn finish(&mut self) -> Bytes {
        match self {
            Self::Past { .. } => Bytes::new(),
            Self::Awaiting { first, .. } => first.finish().into(),
        }
    }

    /// The stream is the session: where it ends, the session does.
    async fn end(self, exchange: &Exchange<'_>) {
        if let Self::Past { claimed: Some((key, claim)) } = self {
            exchange.release(&key, &claim).await;
            exchange.app.counters.sessions_released.inc();
        }
    }
}

/// Session id of an `endpoint` event, and the route that its messages will come by: the session's scope is that of the address which
/// the server itself chose, as ContextForge's is scoped and an SDK server's is not.
fn named_by(exchange: &Exchange<'_>, ours: Ours<'_>, address: &str, path: &str) -> Option<(String, Target)> {
    let messages = ours.messages(address, path)?;
    let (path, query) = messages.split('#').next()?.split_once('?')?;
    let session_id = session_in_query(query)?.into_owned();
    let route = exchange.app.settings.routes.classify(path.as_bytes(), false);
    let messages = Target::of(route).filter(|target| target.endpoint == Endpoint::Message);
    if messages.is_none() {
        log::warn!(
            "the endpoint event's path {path} is none of routes.message; its messages may miss the session's owner"
        );
    }
    Some((session_id, messages.unwrap_or_else(|| exchange.target.clone())))
}
