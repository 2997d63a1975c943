//! The connection of one check, opened as traffic's are and never taken from their pool: what a check shows must be of now.
//! Takes requests in wire form, gives heads and bodies. Surprise: it may be left in the middle of an answer and asked on later, because
//! the time of a check runs out and the session that the answer brings must not be left behind.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use pingora_core::ErrorType;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::certificate;
use super::trouble::Trouble;
use crate::mcp::check::{Reply, reply};
use crate::mcp::sse::Events;
use crate::routing::health::Reason;
use crate::upstream::Upstream;

/// Longest answer, or event, that is read.
const LONGEST: usize = 1 << 20;

/// How long a server may take to end an event stream whose answer has come; then its connection is not used again.
const ENDING: Duration = Duration::from_millis(100);

pub struct Line {
    pub upstream: Arc<Upstream>,
    peer: usize,
    /// An answer is awaited, or being read.
    http: Option<Http1>,
    /// Ready for the next request.
    spare: Option<Stream>,
    /// It got as far as a connection.
    pub connected: bool,
}

impl Line {
    pub fn new(upstream: Arc<Upstream>, peer: usize) -> Self {
        Self { upstream, peer, http: None, spare: None, connected: false }
    }

    /// A new connection, with its handshake.
    pub async fn connect(&mut self) -> Result<Stream, Trouble> {
        let upstream = &self.upstream;
        let address = upstream.peers[self.peer].resolve().await;
        let address = address.map_err(|error| Trouble::new(Reason::Unresolved, error.to_string()))?;
        match upstream.dialer.connect(address).await {
            Ok(stream) => {
                self.connected = true;
                Ok(stream)
            }
            Err(error) => Err(match &upstream.dialer.trust {
                Some(trust) if *error.etype() == ErrorType::InvalidCert => {
                    let target = trust.by_pingora(address);
                    certificate::look(&upstream.dialer.connector, &target, &error).await
                }
                _ => Trouble::of_connect(&error),
            }),
        }
    }

    /// Hears whether the server has something against us: nothing for `patience` means no.
    pub async fn listen(stream: &mut Stream, patience: Duration) -> Result<(), Trouble> {
        match timeout(patience, stream.read(&mut [0; 1])).await {
            Err(_) | Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0)) => Err(Trouble::new(Reason::NoAnswer, "closed without a word")),
            Ok(Err(error)) => {
                let error = pingora_core::Error::because(ErrorType::ReadError, "", error);
                Err(Trouble::of_answer(&error))
            }
        }
    }

    /// Sends a request; its answer is there for [`Self::head`].
    pub async fn send(&mut self, request: &[u8]) -> Result<(), Trouble> {
        self.http = None;
        let mut stream = match self.spare.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let written = match stream.write_all(request).await {
            Ok(()) => stream.flush().await,
            Err(error) => Err(error),
        };
        // Who refuses us may have closed already; why, it has said before.
        if let Err(error) = written {
            log::debug!("a check could not be written: {error}");
        }
        self.http = Some(Http1::new(stream));
        Ok(())
    }

    /// Status and fields of the answer. May be given up and asked for again.
    pub async fn head(&mut self) -> Result<(u16, HeaderMap), Trouble> {
        let http = self.http.as_mut().ok_or_else(|| Trouble::new(Reason::NoAnswer, ""))?;
        loop {
            http.read_response().await.map_err(|error| Trouble::of_answer(&error))?;
            match http.resp_header() {
                Some(head) if head.status.is_informational() => {}
                Some(head) => return Ok((head.status.as_u16(), head.headers.clone())),
                None => return Err(Trouble::new(Reason::NoAnswer, "no head")),
            }
        }
    }

    /// The whole body; its connection may be used again.
    pub async fn body(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next_bytes().await? {
            body.extend_from_slice(&bytes);
            if body.len() > LONGEST {
                return Err(Trouble::new(Reason::NotMcp, format!("an answer of more than {LONGEST} bytes")));
            }
        }
        self.rest().await;
        Ok(body)
    }

    /// The answer to request `id` out of an event stream.
    pub async fn event(&mut self, id: u64) -> Result<Reply, Trouble> {
        let mut events = Events::up_to(LONGEST);
        while let Some(bytes) = self.next_bytes().await? {
            let mut bytes = &bytes[..];
            while let Some(event) = events.next(&mut bytes) {
                let is_message = event.name.is_empty() || event.name == b"message";
                // The first event of a stream that can be resumed has an id and no data.
                if !is_message || event.data.is_empty() {
                    continue;
                }
                match reply(&event.data, id) {
                    Reply::Other => {}
                    found => {
                        let ended = async { while let Ok(Some(_)) = self.next_bytes().await {} };
                        if timeout(ENDING, ended).await.is_ok() {
                            self.rest().await;
                        }
                        return Ok(found);
                    }
                }
            }
        }
        Err(Trouble::new(Reason::NoAnswer, "the event stream ended without the answer"))
    }

    async fn next_bytes(&mut self) -> Result<Option<bytes::Bytes>, Trouble> {
        let http = self.http.as_mut().ok_or_else(|| Trouble::new(Reason::NoAnswer, ""))?;
        http.read_body_bytes().await.map_err(|error| Trouble::of_answer(&error))
    }

    /// The answer has ended: its connection is for the next request, if the server keeps it.
    async fn rest(&mut self) {
        if let Some(mut http) = self.http.take() {
            http.respect_keepalive();
            self.spare = http.reuse().await;
        }
    }
}
