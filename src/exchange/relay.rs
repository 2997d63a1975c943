//! Room 9: the answer outward, as it arrives.
//! Takes an [`Answer`] and its verdict, writes head and body downstream, gives the connection back to the pool if its answer ended cleanly.
//! Surprise: of what leaves here only an unfinished event is ever held back, and only a short one that must be read; an HTTP/1.1 answer
//! without a length is sent chunked: sent until close, a truncated answer would look whole (P3).

use std::time::Duration;

use bytes::Bytes;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::account::{Counted, Record};
use crate::logging;
use crate::mcp::failure::{Asked, HOLD, Why};
use crate::mcp::sse::{End, KEEPALIVE};
use crate::routing::hop::{HOP_PEER, escape};

use super::connection::{Answer, Next, Source, Wait};
use super::masked::{Messages, UNMASKED, Unmasked};
use super::normalise::{Judged, Outward, Rest};
use super::opening::Opening;
use super::public::{expose_session, public_head};
use super::task::NewTask;
use super::{Exchange, Side, Stop};

impl Exchange<'_> {
    /// Writes the whole answer. `Cut` where it broke after its head had left.
    pub(crate) async fn relay(
        &self,
        session: &mut Session,
        answer: Answer<'_>,
        (judged, asked): (Judged, &Asked),
        task: NewTask,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let Answer { head, mut http, source } = answer;
        if self.app.draining() {
            session.as_downstream_mut().set_keepalive(None);
        }
        let version = session.req_header().version;
        let Outward { mut head, first, rest, normalised } =
            Outward::of(head, version, judged, asked).map_err(Stop::Cut)?;
        if let Some(kind) = normalised {
            self.normalised(kind, record);
        }
        self.sign(&mut head, &source).map_err(Stop::Cut)?;
        let begun = session.as_downstream_mut().write_response_header(head).await;
        begun.map_err(|_| Stop::ClientGone)?;

        let _open = matches!(rest, Rest::EventStream(_)).then(|| Counted::one(&self.app.counters.streams));
        let is_watched = matches!(rest, Rest::EventStream(Some(_)));
        let opening = Opening::of(self.target, is_watched, session.req_header());
        let messages = Messages::of(self, is_watched, asked);
        let mut passage = Passage { source: &source, rest, opening, messages, task };
        let outcome = self.pump(session, &mut http, first, &mut passage, record).await;
        passage.opening.end(self).await;
        match outcome {
            Ok(Reuse::Yes) => {
                if let Some(stream) = http.reuse().await {
                    self.keep(&source, stream);
                }
                Ok(())
            }
            Ok(Reuse::No) => Ok(()),
            Err(Stop::Cut(error)) => {
                record.fault = Some("answer_broken");
                self.app.counters.fault("answer_broken");
                self.broken(&source, &error);
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

    fn normalised(&self, kind: &'static str, record: &mut Record) {
        record.normalised = Some(kind);
        self.app.counters.normalised(kind);
    }

    fn broken(&self, source: &Source<'_>, error: &pingora_core::Error) {
        let (reason, who) = (logging::without_content(error), self.describe(source));
        log::warn!("upstream {}, {who}: answer broken: {reason}", self.upstream.name);
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
    pub(crate) fn describe(&self, source: &Source<'_>) -> String {
        match source {
            Source::Near { peer, .. } => format!("peer {}", self.upstream.peers[*peer].name),
            Source::Far { member, peer, .. } => format!("peer {peer} of member {member}"),
        }
    }

    /// Writes a body: `first`, and what comes behind it.
    async fn pump(
        &self,
        session: &mut Session,
        http: &mut Http1,
        first: Bytes,
        passage: &mut Passage<'_>,
        record: &mut Record,
    ) -> Result<Reuse, Stop> {
        match &passage.rest {
            Rest::None { reusable } => {
                passage.task.pass(self, passage.source, &first).await?;
                write(session, first, true).await?;
                return Ok(if *reusable { Reuse::Yes } else { Reuse::No });
            }
            Rest::Unwanted => {
                write(session, first, true).await?;
                return Ok(leftover(http).await);
            }
            Rest::Plain | Rest::Json(_) | Rest::EventStream(_) => {}
        }
        if !first.is_empty() {
            passage.task.pass(self, passage.source, &first).await?;
            write(session, first, false).await?;
        }
        let mut wait = Wait::up_to(self.silence(&passage.rest));
        loop {
            match wait.next(session, http).await {
                Next::Chunk(chunk) => {
                    let chunk = passage.pass(self, chunk, record).await?;
                    let done = http.is_body_done();
                    if done && passage.end(true) == End::Cut {
                        // With its last bytes an answer of known length would look whole.
                        return Err(Stop::Cut(unfinished()));
                    }
                    let end = done && passage.may_end_at_once();
                    write(session, chunk, end).await?;
                    if end {
                        return Ok(Reuse::Yes);
                    }
                }
                Next::Silence => match &passage.rest {
                    Rest::EventStream(Some(watch)) if watch.is_between_events() => {
                        write(session, Bytes::from_static(KEEPALIVE), false).await?;
                    }
                    Rest::EventStream(_) => {}
                    Rest::None { .. } | Rest::Unwanted | Rest::Plain | Rest::Json(_) => {
                        return Err(Stop::Cut(silent()));
                    }
                },
                Next::ClientGone => return Err(Stop::ClientGone),
                Next::End => return self.end(session, passage, None, record).await,
                Next::Broken(error) => return self.end(session, passage, Some(error), record).await,
            }
        }
    }

    /// How long an answer may be silent until something is done.
    fn silence(&self, rest: &Rest) -> Option<Duration> {
        let timeouts = &self.app.settings.timeouts;
        match rest {
            Rest::EventStream(watched) => timeouts.stream_keepalive.filter(|_| watched.is_some()),
            Rest::None { .. } | Rest::Unwanted | Rest::Plain | Rest::Json(_) => Some(timeouts.response_idle),
        }
    }

    /// The upstream ended its answer, or broke it off.
    async fn end(
        &self,
        session: &mut Session,
        passage: &mut Passage<'_>,
        broken: Option<pingora_core::BError>,
        record: &mut Record,
    ) -> Result<Reuse, Stop> {
        let held: Bytes = [passage.opening.finish(), passage.messages.finish()].concat().into();
        if let Rest::EventStream(Some(watch)) = &mut passage.rest {
            watch.push(&held);
        }
        match passage.end(broken.is_none()) {
            End::Orderly => {
                write(session, held, true).await?;
                Ok(Reuse::Yes)
            }
            End::Append(events) => {
                if let Some(error) = &broken {
                    self.broken(passage.source, error);
                }
                self.normalised(Why::StreamEnded.kind(), record);
                write(session, [held, events].concat().into(), true).await?;
                Ok(if broken.is_none() { Reuse::Yes } else { Reuse::No })
            }
            End::Cut => Err(Stop::Cut(broken.unwrap_or_else(unfinished))),
        }
    }
}

/// An answer on its way through.
struct Passage<'p> {
    source: &'p Source<'p>,
    rest: Rest,
    opening: Opening,
    messages: Messages,
    task: NewTask,
}

impl Passage<'_> {
    /// What may leave of it, now that this has come.
    async fn pass(
        &mut self,
        exchange: &Exchange<'_>,
        chunk: Bytes,
        record: &mut Record,
    ) -> Result<Bytes, Stop> {
        self.task.pass(exchange, self.source, &chunk).await?;
        let chunk = self.opening.pass(exchange, self.source, chunk).await?;
        let Unmasked { bytes: chunk, repaired } =
            self.messages.pass(exchange, self.opening.session(), chunk).await;
        if repaired {
            exchange.normalised(UNMASKED, record);
        }
        match &mut self.rest {
            Rest::Json(tail) => tail.push(&chunk),
            Rest::EventStream(Some(watch)) => watch.push(&chunk),
            Rest::EventStream(None) | Rest::None { .. } | Rest::Unwanted | Rest::Plain => {}
        }
        Ok(chunk)
    }

    /// Whether the last bytes of the body may say that they are the last.
    fn may_end_at_once(&self) -> bool {
        self.opening.is_open() && self.messages.is_open() && self.end(true) == End::Orderly
    }

    /// What is to be done where the upstream ends it.
    fn end(&self, orderly: bool) -> End {
        match &self.rest {
            Rest::EventStream(Some(watch)) => watch.end(orderly),
            Rest::Json(tail) if orderly && tail.may_end() => End::Orderly,
            Rest::Json(_) => End::Cut,
            Rest::EventStream(None) | Rest::None { .. } | Rest::Unwanted | Rest::Plain if orderly => {
                End::Orderly
            }
            Rest::EventStream(None) | Rest::None { .. } | Rest::Unwanted | Rest::Plain => End::Cut,
        }
    }
}

/// Whether a connection may carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Yes,
    No,
}

/// How long is waited for the rest of an answer that nobody wants, so that its connection can be used again.
const LEFTOVER: Duration = Duration::from_millis(100);

/// Reads the rest of an answer that was replaced; a long one is not worth it.
async fn leftover(http: &mut Http1) -> Reuse {
    let reading = async {
        let mut length = 0;
        while !http.is_body_done() {
            match http.read_body_bytes().await {
                Ok(Some(chunk)) => length += chunk.len(),
                Ok(None) => return Reuse::Yes,
                Err(_) => return Reuse::No,
            }
            if length > HOLD {
                return Reuse::No;
            }
        }
        Reuse::Yes
    };
    tokio::time::timeout(LEFTOVER, reading).await.unwrap_or(Reuse::No)
}

async fn write(session: &mut Session, chunk: Bytes, end: bool) -> Result<(), Stop> {
    session.as_downstream_mut().write_response_body(chunk, end).await.map_err(|_| Stop::ClientGone)
}

fn silent() -> pingora_core::BError {
    Error::explain(ErrorType::ReadTimedout, "the answer fell silent")
}

fn unfinished() -> pingora_core::BError {
    Error::explain(ErrorType::ConnectionClosed, "ended inside what it had begun")
}
