//! Rooms 6 and 7: a connection to the right peer, the request written in one go, and the head of the answer.
//! Takes the wire form and the owner, gives an [`Answer`] whose body is still to be read. Surprise: "nothing was sent" can be proved only
//! for connect and handshake errors. After the write a stale kept-alive connection looks exactly like a server that died at work,
//! so what may not run twice is never sent twice.

use std::fmt::Arguments;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_core::ErrorType;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt;

use crate::account::Record;
use crate::app::App;
use crate::error::Fault;
use crate::logging;
use crate::trace::Trace;
use crate::upstream::Upstream;
use crate::upstream::dial::Unreachable;
use crate::upstream::peer::Busy;

use super::ownership::Near;
use super::request::Inbound;
use super::{Exchange, Stop};

/// An answer whose head has been read.
pub(crate) struct Answer<'u> {
    pub head: Box<ResponseHeader>,
    pub http: Box<Http1>,
    pub source: Source<'u>,
}

/// Who answers.
pub(crate) enum Source<'u> {
    /// A peer of ours; counted as busy until its answer has been relayed.
    Near { peer: usize, _busy: Busy<'u> },
    /// A peer of another member's.
    Far { member: String, peer: String, address: SocketAddr },
}

impl Source<'_> {
    /// `upstream`: ours of that name.
    pub fn peer_name<'n>(&'n self, upstream: &'n Upstream) -> &'n str {
        match self {
            Self::Near { peer, .. } => &upstream.peers[*peer].name,
            Self::Far { peer, .. } => peer,
        }
    }
}

impl<'e> Exchange<'e> {
    /// Sends the request to its owner, or to peers in turn as long as nothing was sent.
    pub(crate) async fn send(
        &self,
        session: &mut Session,
        owner: Near,
        wire: &[u8],
        inbound: &Inbound,
        record: &mut Record,
    ) -> Result<Answer<'e>, Stop> {
        let upstream = self.upstream;
        let mut tried = Vec::new();
        let mut fresh = false;
        let mut unreachable = Fault::NoPeer;
        loop {
            let peer = match owner {
                Near::Claimed(peer) | Near::Unclaimed(peer) => peer,
                Near::Any => upstream.choose(&tried).ok_or_else(|| Stop::Reply(unreachable.clone()))?,
            };
            record.attempts += 1;
            let busy = upstream.peers[peer].busy();
            let pooled = if fresh { None } else { upstream.pooled(peer) };
            let reused = pooled.is_some();
            let stream = match pooled {
                Some(stream) => stream,
                None => match self.connect(peer, &record.trace).await {
                    Ok(stream) => stream,
                    Err(error) if owner == Near::Any => {
                        tried.push(peer);
                        unreachable = error.fault;
                        continue;
                    }
                    Err(error) if error.gone && matches!(owner, Near::Claimed(_)) => {
                        return Err(self.lost(inbound).await.into());
                    }
                    Err(error) => return Err(error.fault.into()),
                },
            };
            record.peer = Some(peer);
            let room = record.trace.room("send and receive");
            let first_byte = self.app.settings.timeouts.first_byte;
            let received = receive(session, self.app, stream, wire, first_byte).await;
            drop(room);
            match received {
                Ok((http, head)) => {
                    record.first_byte = Some(record.started.elapsed());
                    return Ok(Answer { head, http, source: Source::Near { peer, _busy: busy } });
                }
                Err(Failed::Unanswered { .. }) if reused && !fresh && inbound.may_run_twice() => {
                    self.app.counters.retries.inc();
                    fresh = true;
                }
                Err(failed) => {
                    return Err(failed.stop(format_args!("{}", upstream.who(peer))));
                }
            }
        }
    }

    async fn connect(&self, peer: usize, trace: &Trace) -> Result<Stream, Unreachable> {
        let _room = trace.room("connect");
        self.app.counters.connects.inc();
        self.upstream.connect(peer).await.inspect_err(|_| self.app.counters.connect_failures.inc())
    }
}

/// Why no head of an answer came.
pub(crate) enum Failed {
    ClientGone,
    Write(String),
    Timeout,
    /// Closed or reset before the first byte of an answer.
    Unanswered {
        reason: String,
    },
    Broken(String),
}

impl Failed {
    /// `who`: for the log.
    pub fn stop(self, who: Arguments<'_>) -> Stop {
        let (fault, reason) = match self {
            Self::ClientGone => return Stop::ClientGone,
            Self::Write(reason) => (Fault::WriteFailed, reason),
            Self::Timeout => (Fault::FirstByteTimeout, "no first byte in time".to_string()),
            Self::Unanswered { reason } => (Fault::NoAnswer, reason),
            Self::Broken(reason) => (Fault::MalformedAnswer, reason),
        };
        log::warn!("{who}: {}: {reason}", fault.kind());
        Stop::Reply(fault)
    }
}

/// Most answers come sooner than it would pay to look whether the client is still there.
const UNWATCHED: Duration = Duration::from_millis(10);

/// Whether the client's going away is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    NotYet,
    On,
    /// The client sent what no request needs; it can no longer be watched.
    Over,
}

/// How long is waited for what an upstream says of a request that it would not take whole; it has said so already, or never will.
const LAST_WORD: Duration = Duration::from_millis(100);

/// One write, then the head of the final answer within `first_byte`. An upstream that refuses a request by its head need not take the
/// body: its answer counts, but its connection carries no other request.
pub(crate) async fn receive(
    session: &mut Session,
    app: &App,
    mut stream: Stream,
    wire: &[u8],
    first_byte: Duration,
) -> Result<(Box<Http1>, Box<ResponseHeader>), Failed> {
    let untaken = write(&mut stream, wire, app.settings.timeouts.write).await.err();
    let mut http = Box::new(Http1::new(stream));
    let patience = if untaken.is_some() { LAST_WORD } else { first_byte };
    match (read_head(session, &mut http, patience).await, untaken) {
        (Ok(head), untaken) => {
            if untaken.is_none() {
                http.respect_keepalive();
            }
            Ok((http, head))
        }
        (Err(Failed::ClientGone), _) => Err(Failed::ClientGone),
        (Err(failed), untaken) => Err(untaken.map_or(failed, Failed::Write)),
    }
}

async fn write(stream: &mut Stream, wire: &[u8], patience: Duration) -> Result<(), String> {
    let writing = async {
        stream.write_all(wire).await?;
        stream.flush().await
    };
    match tokio::time::timeout(patience, writing).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(_) => Err("not taken in time".to_string()),
    }
}

/// The head of the final answer; the client's going away ends the wait.
async fn read_head(
    session: &mut Session,
    http: &mut Http1,
    patience: Duration,
) -> Result<Box<ResponseHeader>, Failed> {
    let sent = Instant::now();
    let timer = tokio::time::sleep_until((sent + UNWATCHED.min(patience)).into());
    tokio::pin!(timer);
    let mut watch = Watch::NotYet;
    loop {
        tokio::select! {
            biased;
            read = http.read_response() => {
                read.map_err(|error| unanswered(&error))?;
                // 1xx heads are not for us; the final one follows. 101 to a request without Upgrade is nonsense.
                match http.get_status() {
                    Some(http::StatusCode::SWITCHING_PROTOCOLS) => return Err(Failed::Broken("101 without Upgrade".to_string())),
                    Some(status) if status.is_informational() => {}
                    _ => break,
                }
            }
            gone = client_gone(session), if watch == Watch::On => {
                if gone { return Err(Failed::ClientGone) }
                watch = Watch::Over;
            }
            () = &mut timer => {
                if watch != Watch::NotYet { return Err(Failed::Timeout) }
                watch = Watch::On;
                timer.as_mut().reset((sent + patience).into());
            }
        }
    }
    http.resp_header().cloned().map(Box::new).ok_or_else(|| Failed::Broken("no head".to_string()))
}

/// Waits until the client goes away (`true`), or sends more where nothing more is due (`false`): then it can no longer be watched,
/// and the connection closes after this answer.
pub(crate) async fn client_gone(session: &mut Session) -> bool {
    let downstream = session.as_downstream_mut();
    match downstream.read_body_or_idle(true).await {
        Err(error) if *error.etype() == ErrorType::ConnectError => {
            downstream.set_keepalive(None);
            false
        }
        Ok(_) | Err(_) => true,
    }
}

/// What an answer's body does next.
pub(crate) enum Next {
    Chunk(Bytes),
    End,
    /// Nothing came for as long as was waited.
    Silence,
    Broken(pingora_core::BError),
    ClientGone,
}

/// Waits for the body of an answer, and looks whether the client is still there.
pub(crate) struct Wait {
    silence: Option<Duration>,
    /// The client can be watched.
    watching: bool,
}

impl Wait {
    /// `silence`: `None` = for ever.
    pub fn up_to(silence: Option<Duration>) -> Self {
        Self { silence, watching: true }
    }

    pub async fn next(&mut self, session: &mut Session, http: &mut Http1) -> Next {
        let silence = tokio::time::sleep(self.silence.unwrap_or_default());
        tokio::pin!(silence);
        loop {
            tokio::select! {
                biased;
                read = http.read_body_bytes() => return match read {
                    Ok(Some(chunk)) => Next::Chunk(chunk),
                    Ok(None) => Next::End,
                    Err(error) => Next::Broken(error),
                },
                gone = client_gone(session), if self.watching => {
                    if gone { return Next::ClientGone }
                    self.watching = false;
                }
                () = &mut silence, if self.silence.is_some() => return Next::Silence,
            }
        }
    }
}

fn unanswered(error: &pingora_core::Error) -> Failed {
    let reason = logging::without_content(error);
    match error.etype() {
        // Pingora says how much of a head it had read only in words; a part of a head is an answer begun.
        ErrorType::ConnectionClosed | ErrorType::ReadError if reason.contains("bytes already read: 0") => {
            Failed::Unanswered { reason }
        }
        _ => Failed::Broken(reason),
    }
}
