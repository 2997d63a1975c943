//! The gate: every downstream connection from its acceptance to its end, between Pingora's listener and its HTTP proxy.
//! Takes accepted streams, has TLS begun on them (`tls`), reads each HTTP/1.1 request head within its limits, and hands head and stream to
//! Pingora.
//! Surprise: the head is read here and given to Pingora as if it had been pipelined, because Pingora knows no total time for a
//! head, waits for ever between requests, cuts idle connections at shutdown, and hides that both length fields were sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::head::{self, Verdict};
use super::probe::Probe;
use super::tls::{NoTls, ServerTls};
use crate::account::Counted;
use crate::app::App;
use crate::config::settings::Limits;
use crate::exchange::REST;
use crate::proxy::{Door, Proxy};

/// The application behind the listeners of one worker thread.
pub struct Gate {
    app: Arc<App>,
    entrances: Vec<Entrance>,
    probe: Arc<Probe>,
}

/// A door with the addresses that lead to it.
pub struct Entrance {
    pub addresses: Vec<SocketAddr>,
    pub proxy: Arc<HttpProxy<Proxy>>,
    pub door: Door,
    /// `None` = plaintext.
    pub tls: Option<Arc<ServerTls>>,
}

/// What a request head may be.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    bytes: usize,
    fields: usize,
}

impl Gate {
    pub fn new(app: Arc<App>, entrances: Vec<Entrance>, probe: Arc<Probe>) -> Self {
        Self { app, entrances, probe }
    }

    /// Which entrance a connection came by: its exact address, else the wildcard of its port.
    fn entrance_of(&self, stream: &Stream) -> Option<&Entrance> {
        let digest = stream.get_socket_digest()?;
        let local = *digest.local_addr()?.as_inet()?;
        if let Some(peer) = digest.peer_addr().and_then(|address| address.as_inet()) {
            self.probe.accepted(*peer);
        }
        let matching = |exact: bool| {
            self.entrances.iter().find(|entrance| {
                entrance.addresses.iter().any(|address| {
                    address.port() == local.port()
                        && if exact {
                            address.ip() == local.ip().to_canonical()
                        } else {
                            address.ip().is_unspecified()
                        }
                })
            })
        };
        matching(true).or_else(|| matching(false))
    }

    /// A member's head has been looked at where it first came in; only what Pingora can read bounds what was added to it.
    fn bounds(&self, door: Door) -> Bounds {
        let limits = &self.app.settings.limits;
        match door {
            Door::Listener(_) => Bounds { bytes: limits.headers, fields: limits.header_count },
            Door::Member => Bounds { bytes: Limits::MOST_HEADER_BYTES, fields: Limits::MOST_HEADER_COUNT },
        }
    }

    /// Whether there is one connection more than clients may have, now that one has come in here.
    fn is_one_too_many(&self, entrance: &Entrance) -> bool {
        let most = i64::try_from(self.app.settings.limits.connections).unwrap_or(i64::MAX);
        let among_clients = !self.probe.under_way() && entrance.door != Door::Member;
        among_clients && self.app.counters.connections.get() > most
    }

    /// What HTTP is spoken on. `None`: the connection is over. `patience`: how long a handshake may take.
    async fn within(&self, stream: Stream, entrance: &Entrance, patience: Duration) -> Option<Stream> {
        let Some(tls) = &entrance.tls else { return Some(stream) };
        match tls.accept(stream, patience, &self.app.counters).await {
            Ok(stream) => Some(stream),
            Err(NoTls::Plaintext(mut stream)) if entrance.door != Door::Member => {
                self.refuse(&mut stream, head::PLAINTEXT).await;
                None
            }
            Err(NoTls::Plaintext(_) | NoTls::Over) => None,
        }
    }

    async fn http1(&self, mut stream: Stream, entrance: &Entrance, shutdown: &ShutdownWatch) {
        let bounds = self.bounds(entrance.door);
        let mut settings: Option<HttpPersistentSettings> = None;
        // Bytes of the next request that came in one packet with this one.
        let mut early = BytesMut::new();
        loop {
            let mut message = match self.read_head(&mut stream, early, bounds).await {
                Ok(message) => message,
                Err(End::Closed) => return,
                Err(End::Refused(refusal)) => return self.refuse(&mut stream, refusal).await,
            };
            early = message
                .length
                .filter(|length| *length < message.bytes.len())
                .map_or_else(BytesMut::new, |length| message.bytes.split_off(length));
            let mut session = ServerSession::new_http1(stream);
            match settings.take() {
                Some(settings) => settings.apply_to_session(&mut session),
                None => session.set_keepalive(Some(self.app.settings.timeouts.idle.as_secs().max(1))),
            }
            session.set_pipelined_prefix(message.bytes);
            let Some(reused) = entrance.proxy.process_new_http(session, shutdown).await else { return };
            (stream, settings) = reused.consume();
        }
    }

    async fn refuse(&self, stream: &mut Stream, refusal: head::Refusal) {
        self.count_refusal(refusal);
        // Whether the client still reads it or not, the connection is over.
        let _ = timeout(self.app.settings.timeouts.write, stream.write_all(refusal.response)).await;
        let _ = stream.shutdown().await;
        // Closing on unread bytes would reset the connection and destroy the answer on its way (RFC 9112 §9.6).
        let _ = timeout(REST.1, async {
            let mut rest = BytesMut::with_capacity(4096);
            let mut left = REST.0;
            while left > 0 && read_some(stream, &mut rest).await.is_ok() {
                left = left.saturating_sub(rest.len());
                rest.clear();
            }
        })
        .await;
    }

    fn count_refusal(&self, refusal: head::Refusal) {
        self.app.counters.refused_heads.with_label_values(&[refusal.reason]).inc();
    }

    /// The bytes of one head and whatever came with it.
    async fn read_head(&self, stream: &mut Stream, early: BytesMut, bounds: Bounds) -> Result<Message, End> {
        let timeouts = &self.app.settings.timeouts;
        let mut bytes = early;
        if bytes.is_empty() {
            bytes.reserve(2048);
            let first = timeout(timeouts.idle, read_some(stream, &mut bytes)).await;
            first.map_err(|_| End::Closed)?.map_err(|_| End::Closed)?;
        }
        let reading = async {
            loop {
                match head::inspect(&bytes, bounds.bytes, bounds.fields) {
                    Verdict::Complete { message } => return Ok(message),
                    Verdict::Refused(refusal) => return Err(End::Refused(refusal)),
                    Verdict::Partial => {
                        bytes.reserve(1024);
                        read_some(stream, &mut bytes).await.map_err(|_| End::Closed)?;
                    }
                }
            }
        };
        match timeout(timeouts.request_head, reading).await {
            Ok(Ok(length)) => Ok(Message { bytes, length }),
            Ok(Err(end)) => Err(end),
            Err(_) => Err(End::Refused(head::TOO_SLOW)),
        }
    }
}

/// A head and what came with it; `length` where the head says how long the message is.
struct Message {
    bytes: BytesMut,
    length: Option<usize>,
}

/// Why a connection ends before a head was whole.
enum End {
    Closed,
    Refused(head::Refusal),
}

/// At least one byte, or the connection is over.
async fn read_some(stream: &mut Stream, buffer: &mut BytesMut) -> std::io::Result<()> {
    let read = stream.read_buf(buffer).await?;
    if read == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[async_trait]
impl ServerApp for Gate {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let entrance = self.entrance_of(&stream)?;
        let _open = Counted::one(&self.app.counters.connections);
        let one_too_many = self.is_one_too_many(entrance);
        let handshake = self.app.settings.timeouts.handshake;
        // Who is refused shakes hands only to be told so, and holds its connection no longer than without TLS.
        let patience = if one_too_many { handshake.min(REST.1) } else { handshake };
        let mut stream = self.within(stream, entrance, patience).await?;
        let h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        if one_too_many {
            if h2 {
                self.count_refusal(head::TOO_MANY_CONNECTIONS);
            } else {
                self.refuse(&mut stream, head::TOO_MANY_CONNECTIONS).await;
            }
            return None;
        }
        if h2 {
            return ServerApp::process_new(&entrance.proxy, stream, shutdown).await;
        }
        self.http1(stream, entrance, shutdown).await;
        None
    }

    /// Pingora would cut idle connections here; ours end by their idle time-out, each with its last answer announced by
    /// `Connection: close`.
    async fn cleanup(&self) {}
}
