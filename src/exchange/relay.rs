//! Rooms 8 and 9: the answer outward, as it arrives.
//! Takes an [`Answer`], writes head and body downstream, gives the connection back to the pool if its answer ended cleanly.
//! Surprise: nothing is ever held back except an unfinished `endpoint` event, and an HTTP/1.1 answer without a length is sent
//! chunked: sent until close, a truncated answer would look whole (P3).

use std::time::Instant;

use bytes::Bytes;
use http::header;
use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::account::Record;
use crate::app::App;
use crate::logging;
use crate::mcp::fields;
use crate::mcp::sse::FirstEvent;
use crate::registry::{Claim, SessionKey};
use crate::routing::session::session_in_query;

use super::connection::{Answer, client_gone};
use super::{Endpoint, Exchange, Stop, Target};

impl Exchange<'_> {
    /// Writes the whole answer. `Cut` where it broke after its head had left.
    pub(crate) async fn relay(
        &self,
        session: &mut Session,
        mut answer: Answer<'_>,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let event_stream = is_event_stream(&answer.head);
        let head = outward(&answer.head, session.req_header().version);
        if self.app.draining() {
            session.as_downstream_mut().set_keepalive(None);
        }
        let begun = session.as_downstream_mut().write_response_header(Box::new(head)).await;
        begun.map_err(|_| Stop::ClientGone)?;

        let _open = event_stream.then(|| Open::count(self.app));
        let mut opening = Opening::of(self.target, event_stream);
        let outcome = self.pump(session, &mut answer, &mut opening, event_stream).await;
        opening.end(self).await;
        match outcome {
            Ok(()) => {
                let Answer { mut http, peer, .. } = answer;
                http.respect_keepalive();
                if let Some(stream) = http.reuse().await {
                    self.upstream.keep(peer, stream);
                }
                Ok(())
            }
            Err(Stop::Cut(error)) => {
                record.fault = Some("answer_broken");
                self.app.counters.fault("answer_broken");
                let peer = &self.upstream.peer_names[answer.peer];
                let reason = logging::without_content(&error);
                log::warn!("upstream {}, peer {peer}: answer broken: {reason}", self.upstream.name);
                Err(Stop::Cut(error))
            }
            Err(stop) => Err(stop),
        }
    }

    async fn pump(
        &self,
        session: &mut Session,
        answer: &mut Answer<'_>,
        opening: &mut Opening,
        event_stream: bool,
    ) -> Result<(), Stop> {
        let silence = self.app.settings.timeouts.response_idle;
        let deadline = tokio::time::sleep_until((Instant::now() + silence).into());
        tokio::pin!(deadline);
        let mut watch = true;
        loop {
            let chunk = tokio::select! {
                biased;
                read = answer.http.read_body_bytes() => read.map_err(Stop::Cut)?,
                gone = client_gone(session), if watch => {
                    if gone { return Err(Stop::ClientGone) }
                    watch = false;
                    continue;
                }
                () = &mut deadline, if !event_stream => return Err(Stop::Cut(silent())),
            };
            let Some(chunk) = chunk else {
                let rest = opening.finish();
                return write(session, rest, true).await;
            };
            deadline.as_mut().reset((Instant::now() + silence).into());
            let chunk = opening.pass(self, answer.peer, chunk).await?;
            let end = answer.http.is_body_done() && opening.is_open();
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

/// The answer's head as the client gets it.
fn outward(head: &ResponseHeader, client: http::Version) -> ResponseHeader {
    let mut outward = head.clone();
    outward.set_version(http::Version::HTTP_11);
    for name in connection_fields(head) {
        outward.remove_header(&name);
    }
    if is_event_stream(head) {
        // Pingora gathers what has a length until it is whole; events must leave one by one.
        outward.remove_header(&header::CONTENT_LENGTH);
    }
    let bodiless = matches!(head.status.as_u16(), 204 | 304);
    if !bodiless && client == http::Version::HTTP_11 && !outward.headers.contains_key(header::CONTENT_LENGTH)
    {
        // Static text: cannot fail.
        let _ = outward.insert_header(header::TRANSFER_ENCODING, "chunked");
    }
    outward
}

/// Fields of an answer that belong to the upstream's connection.
pub(crate) fn connection_fields(head: &ResponseHeader) -> Vec<http::HeaderName> {
    let connection = || head.headers.get_all(header::CONNECTION).iter().map(|value| value.as_bytes());
    let belongs = |name: &&http::HeaderName| {
        fields::is_hop_by_hop(name.as_str()) || fields::is_nominated(connection(), name.as_str())
    };
    head.headers.keys().filter(belongs).cloned().collect()
}

fn is_event_stream(head: &ResponseHeader) -> bool {
    let content_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or(b"").trim_ascii();
    essence.eq_ignore_ascii_case(b"text/event-stream")
}

fn silent() -> pingora_core::BError {
    Error::explain(ErrorType::ReadTimedout, "the answer fell silent")
}

fn unclaimed() -> pingora_core::BError {
    Error::explain(ErrorType::InternalError, "the session could not be claimed")
}

/// The beginning of an HTTP+SSE stream: its `endpoint` event names the session, whose owner must be known before the client reads it.
enum Opening {
    /// Every other answer, and a stream whose first event has passed.
    Past {
        claimed: Option<(SessionKey, Claim)>,
    },
    Awaiting(FirstEvent),
}

impl Opening {
    fn of(target: &Target, event_stream: bool) -> Self {
        if target.endpoint == Endpoint::Sse && event_stream {
            Self::Awaiting(FirstEvent::default())
        } else {
            Self::Past { claimed: None }
        }
    }

    /// Nothing is held back.
    fn is_open(&self) -> bool {
        matches!(self, Self::Past { .. })
    }

    async fn pass(&mut self, exchange: &Exchange<'_>, peer: usize, chunk: Bytes) -> Result<Bytes, Stop> {
        let Self::Awaiting(first) = self else { return Ok(chunk) };
        let step = first.push(&chunk);
        let done = first.done();
        let mut claimed = None;
        if let Some((session_id, messages)) = step.endpoint.as_deref().and_then(|url| named_by(exchange, url))
        {
            let claim = exchange.claim(&messages, &session_id, peer).await;
            claimed = Some(claim.map_err(|_| Stop::Cut(unclaimed()))?);
        }
        if done {
            *self = Self::Past { claimed };
        }
        Ok(step.release.into())
    }

    fn finish(&mut self) -> Bytes {
        match self {
            Self::Past { .. } => Bytes::new(),
            Self::Awaiting(first) => first.finish().into(),
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

/// Session id of an `endpoint` event's URL, absolute or not, and the route that its messages will come by: the session's scope
/// is that of the URL which the server itself chose, as ContextForge's is scoped and an SDK server's is not.
fn named_by(exchange: &Exchange<'_>, url: &str) -> Option<(String, Target)> {
    let url = url.split('#').next().unwrap_or(url);
    let (address, query) = url.split_once('?')?;
    let session_id = session_in_query(query)?.into_owned();
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => address,
    };
    let route = exchange.app.settings.routes.classify(path.as_bytes(), false);
    let messages =
        Target::of(route, exchange.target.listener).filter(|target| target.endpoint == Endpoint::Message);
    if messages.is_none() {
        log::warn!(
            "the endpoint event's path {path} is none of routes.message; its messages may miss the session's owner"
        );
    }
    Some((session_id, messages.unwrap_or_else(|| exchange.target.clone())))
}

/// Counts an open event stream.
struct Open<'a>(&'a App);

impl<'a> Open<'a> {
    fn count(app: &'a App) -> Self {
        app.counters.streams.inc();
        Self(app)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters.streams.dec();
    }
}
