//! Rooms 6 and 7: a connection to the right peer, the request written in one go, and the head of the answer.
//! Takes the wire form and the owner, gives an [`Answer`] whose body is still to be read. Surprise: "nothing was sent" can be proved only
//! for connect and handshake errors. After the write a stale kept-alive connection looks exactly like a server that died at work,
//! so what may not run twice is never sent twice.

use std::time::{Duration, Instant};

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
use crate::upstream::peer::Busy;
use crate::upstream::{Unreachable, Upstream};

use super::ownership::Owner;
use super::request::Inbound;
use super::{Exchange, Stop};

/// An answer whose head has been read.
pub(crate) struct Answer<'u> {
    pub head: Box<ResponseHeader>,
    pub http: Http1,
    pub peer: usize,
    /// Counts the request at its peer until the answer has been relayed.
    pub busy: Busy<'u>,
}

impl<'e> Exchange<'e> {
    /// Sends the request to its owner, or to peers in turn as long as nothing was sent.
    pub(crate) async fn send(
        &self,
        session: &mut Session,
        owner: Owner,
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
                Owner::Claimed(peer) | Owner::Unclaimed(peer) => peer,
                Owner::Any => upstream.choose(&tried).ok_or_else(|| Stop::Reply(unreachable.clone()))?,
            };
            record.attempts += 1;
            let busy = upstream.peers[peer].busy();
            let pooled = if fresh { None } else { upstream.pooled(peer) };
            let reused = pooled.is_some();
            let stream = match pooled {
                Some(stream) => stream,
                None => match self.connect(peer).await {
                    Ok(stream) => stream,
                    Err(error) if owner == Owner::Any => {
                        tried.push(peer);
                        unreachable = error.fault;
                        continue;
                    }
                    Err(error) if error.gone && matches!(owner, Owner::Claimed(_)) => {
                        return Err(self.lost(inbound).await);
                    }
                    Err(error) => return Err(error.fault.into()),
                },
            };
            record.peer = Some(peer);
            match receive(session, self.app, stream, wire).await {
                Ok((http, head)) => {
                    record.first_byte = Some(record.started.elapsed());
                    return Ok(Answer { head, http, peer, busy });
                }
                Err(Failed::Unanswered { .. }) if reused && !fresh && inbound.may_run_twice() => {
                    self.app.counters.retries.inc();
                    fresh = true;
                }
                Err(failed) => return Err(failed.stop(upstream, peer)),
            }
        }
    }

    async fn connect(&self, peer: usize) -> Result<Stream, Unreachable> {
        self.app.counters.connects.inc();
        self.upstream.connect(peer).await.inspect_err(|_| self.app.counters.connect_failures.inc())
    }

    /// Nobody listens where the session lived: the claim goes, and the client learns at once that it must initialise again.
    async fn lost(&self, inbound: &Inbound) -> Stop {
        if let (Some(key), Some(claim)) = (&inbound.session, &inbound.claim) {
            self.release(key, claim).await;
        }
        Stop::Reply(Fault::SessionLost)
    }
}

/// Why no head of an answer came.
enum Failed {
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
    fn stop(self, upstream: &Upstream, peer: usize) -> Stop {
        let (fault, reason) = match self {
            Self::ClientGone => return Stop::ClientGone,
            Self::Write(reason) => (Fault::WriteFailed, reason),
            Self::Timeout => (Fault::FirstByteTimeout, "no first byte in time".to_string()),
            Self::Unanswered { reason } => (Fault::NoAnswer, reason),
            Self::Broken(reason) => (Fault::MalformedAnswer, reason),
        };
        log::warn!(
            "upstream {}, peer {}: {}: {reason}",
            upstream.name,
            upstream.peers[peer].name,
            fault.kind()
        );
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

/// One write, then the head of the final answer; the client's going away ends the wait.
async fn receive(
    session: &mut Session,
    app: &App,
    mut stream: Stream,
    wire: &[u8],
) -> Result<(Http1, Box<ResponseHeader>), Failed> {
    let timeouts = &app.settings.timeouts;
    let writing = async {
        stream.write_all(wire).await?;
        stream.flush().await
    };
    match tokio::time::timeout(timeouts.write, writing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Failed::Write(error.to_string())),
        Err(_) => return Err(Failed::Write("not taken in time".to_string())),
    }
    let mut http = Http1::new(stream);
    let sent = Instant::now();
    let timer = tokio::time::sleep_until((sent + UNWATCHED.min(timeouts.first_byte)).into());
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
                timer.as_mut().reset((sent + timeouts.first_byte).into());
            }
        }
    }
    match http.resp_header() {
        Some(head) => {
            let head = Box::new(head.clone());
            Ok((http, head))
        }
        None => Err(Failed::Broken("no head".to_string())),
    }
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
