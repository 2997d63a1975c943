//! Room 3: the request as it came in. Its body is read whole and spliced in the pass that identifies it.
//! Takes the downstream session, gives an [`Inbound`]: who is calling, the era, the session, the body for the upstream (decoded, bounded in
//! size and time). Surprise: HTTP/2 has no body time-out in Pingora, so the deadline here is our own for both protocols.

use bytes::{Bytes, BytesMut};
use http::header;
use pingora_core::ErrorType;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::account::Record;
use crate::app::App;
use crate::config::settings::Profile;
use crate::error::Fault;
use crate::mcp::failure::{Asked, Caller};
use crate::mcp::jsonrpc::{self, Envelope, Kind};
use crate::mcp::{splice, task};
use crate::registry::{Claim, SessionKey};
use crate::routing::hop::{HOP, Hop};
use crate::routing::session::{Era, SessionHeader, session_header, session_in_query};

use super::{Endpoint, Exchange, Stop};

/// What is known before the body is there.
pub(crate) fn unread(method: &http::Method, endpoint: Endpoint) -> Asked {
    let (by_stream, tries_transport) = (endpoint == Endpoint::Message, endpoint == Endpoint::Sse);
    Asked { caller: unread_caller(method), by_stream, tries_transport, ..Asked::default() }
}

/// A POST is owed a JSON-RPC error, although its id is not known.
pub(crate) fn unread_caller(method: &http::Method) -> Caller {
    if method == http::Method::POST { Caller::Unreadable(None) } else { Caller::Bare }
}

/// Of a request whose body will not be used.
pub(crate) fn caller_of(method: &http::Method, body: &[u8]) -> Caller {
    match jsonrpc::scan(body) {
        _ if method != http::Method::POST => Caller::Bare,
        Ok(envelope) => Caller::of(&envelope),
        Err(refusal) => Caller::Unreadable(refusal.id),
    }
}

/// A session, or a task of the modern era, as a request names it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub id: String,
    pub key: SessionKey,
}

/// The request as it came in, its body spliced.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub method: http::Method,
    /// What goes upstream.
    pub body: Bytes,
    pub caller: Caller,
    pub era: Era,
    /// JSON-RPC method of a single message.
    pub rpc_method: Option<String>,
    /// What the request belongs to: its session or, in an era that has none, its task.
    pub session: Option<Named>,
    /// Another member's mark is on it, although it came in by a public listener.
    pub forwarded: bool,
    /// Whoever answers need not be the session's owner; filled by locate.
    pub guessed: bool,
    /// What the registry holds for that session; filled by locate.
    pub claim: Option<Claim>,
    message: Option<&'static str>,
    received_bytes: usize,
}

impl Inbound {
    /// Room 3, and the splice of room 5 in the same pass over the body. Refuses what is no JSON-RPC.
    pub fn identify(session: &Session, exchange: &Exchange<'_>, body: Bytes) -> Result<Self, Unidentified> {
        let head = session.req_header();
        let mut inbound = Self::new(head, body);
        inbound.forwarded = head.headers.contains_key(HOP);
        if inbound.method == http::Method::POST {
            inbound.read_message(exchange)?;
        }
        if inbound.era.has_sessions() {
            let named = named_session(head, exchange.target.endpoint);
            let id = named.map_err(|fault| Unidentified::by(&inbound, fault))?;
            inbound.session = id.map(|id| Named { key: exchange.key(&id), id });
        }
        Ok(inbound)
    }

    /// A request that another member has identified.
    pub fn of_member(head: &RequestHeader, hop: &Hop<'_>, body: Bytes) -> Self {
        let rpc_method = hop.method.as_deref().map(str::to_owned);
        Self { rpc_method, ..Self::new(head, body) }
    }

    fn new(head: &RequestHeader, body: Bytes) -> Self {
        Self {
            received_bytes: body.len(),
            method: head.method.clone(),
            caller: Caller::Bare,
            era: Era::Legacy,
            rpc_method: None,
            session: None,
            forwarded: false,
            guessed: false,
            claim: None,
            message: None,
            body,
        }
    }

    fn read_message(&mut self, exchange: &Exchange<'_>) -> Result<(), Unidentified> {
        let app = exchange.app;
        let body = self.body.clone();
        let envelope = jsonrpc::scan(&body).map_err(|refusal| Unidentified {
            fault: Fault::BadMessage(refusal.reason),
            caller: Caller::Unreadable(refusal.id),
        })?;
        self.caller = Caller::of(&envelope);
        match &envelope {
            Envelope::Single(message) => {
                self.era = Era::of_body(message.protocol_version.as_deref());
                self.rpc_method = message.method.as_deref().map(str::to_string);
                self.message = Some(match message.kind {
                    Kind::Request { .. } => "request",
                    Kind::Notification => "notification",
                    Kind::Response { .. } => "response",
                    Kind::Other => "other",
                });
                if !self.era.has_sessions() {
                    self.session = task::asked_for(message).map(|id| exchange.task(id));
                }
            }
            Envelope::Batch(_) => {
                self.message = Some("batch");
                if app.settings.profile == Profile::ContextForge {
                    // ContextForge never runs a batch and its session owner hangs on one (facts/contextforge §2.5).
                    return Err(Unidentified::by(self, Fault::BatchRefused));
                }
            }
        }
        if let Some(server_id) = exchange.scope() {
            let spliced = splice::splice(&body, &envelope, server_id);
            app.counters.server_id_replaced.inc_by(u64::from(spliced.replaced));
            if let Some(spliced) = spliced.body {
                self.body = spliced.into();
            }
        }
        Ok(())
    }

    /// What its answer depends on.
    pub fn asked(&self, endpoint: Endpoint) -> Asked {
        let has_sessions = self.era.has_sessions();
        Asked {
            caller: self.caller.clone(),
            method: self.rpc_method.clone(),
            in_session: has_sessions && self.session.is_some(),
            by_stream: endpoint == Endpoint::Message,
            tries_transport: endpoint == Endpoint::Sse,
            can_resume: has_sessions,
        }
    }

    pub fn is_initialize(&self) -> bool {
        self.rpc_method.as_deref() == Some("initialize")
    }

    /// Whether the message may reach a server twice without harm; never a tool call.
    pub fn may_run_twice(&self) -> bool {
        if self.method != http::Method::POST {
            return true;
        }
        match self.rpc_method.as_deref() {
            Some("initialize" | "ping" | "server/discover" | "tasks/get") => true,
            Some(method) => method.ends_with("/list") || method.starts_with("notifications/"),
            None => false,
        }
    }

    /// What its caller is told where the owner is gone, or not to be known here.
    pub fn not_found(&self) -> Fault {
        if self.era.has_sessions() { Fault::SessionLost } else { Fault::TaskLost }
    }

    pub fn describe(&self, record: &mut Record) {
        record.era = (self.method == http::Method::POST).then(|| self.era.as_str());
        record.rpc_method.clone_from(&self.rpc_method);
        record.message = self.message;
        record.session = self.session.as_ref().map(|named| named.key.short());
        record.request_bytes = self.received_bytes;
    }
}

/// A request that identify refuses, with whom to answer.
#[derive(Debug)]
pub(crate) struct Unidentified {
    pub fault: Fault,
    pub caller: Caller,
}

impl Unidentified {
    fn by(inbound: &Inbound, fault: Fault) -> Self {
        Self { fault, caller: inbound.caller.clone() }
    }
}

fn named_session(head: &RequestHeader, endpoint: Endpoint) -> Result<Option<String>, Fault> {
    match endpoint {
        Endpoint::Mcp => {
            match session_header(head.headers.get_all("mcp-session-id").iter().map(|value| value.as_bytes()))
            {
                SessionHeader::None => Ok(None),
                SessionHeader::One(id) => Ok(Some(id.to_string())),
                SessionHeader::Malformed => Err(Fault::MalformedSession),
            }
        }
        Endpoint::Message => Ok(head.uri.query().and_then(session_in_query).map(|id| id.into_owned())),
        Endpoint::Sse => Ok(None),
    }
}

/// Memory for a body that is announced but not there yet, bytes.
const PROMISED: usize = 64 * 1024;

/// Reads the whole body, decoded. Bounded by `limit` bytes (before and after decoding) and by `timeouts.request_body`.
pub(crate) async fn read_body(session: &mut Session, app: &App, limit: usize) -> Result<Bytes, Stop> {
    let announced = session
        .req_header()
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(Fault::BodyTooLarge { limit }.into());
    }
    let encoding = Encoding::of(session.req_header())?;
    if expects_continue(session) {
        ask_for_body(session).await.map_err(|_| Stop::ClientGone)?;
    }
    let reading = collect(session, limit, announced);
    let body = tokio::time::timeout(app.settings.timeouts.request_body, reading)
        .await
        .map_err(|_| Fault::BodyTooSlow)??;
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => Ok(decode(flate2::read::MultiGzDecoder::new(&body[..]), limit)?),
        Encoding::Deflate => Ok(decode(flate2::read::ZlibDecoder::new(&body[..]), limit)?),
    }
}

/// Says `100 Continue`. To Pingora that is an answer before the end of its request, after which it would close the connection.
pub(crate) async fn ask_for_body(session: &mut Session) -> pingora_core::Result<()> {
    let downstream = session.as_downstream_mut();
    downstream.set_close_on_response_before_downstream_finish(false);
    let asked = downstream.write_continue_response().await;
    downstream.set_close_on_response_before_downstream_finish(true);
    asked
}

/// `announced`: the length that the client promised; no more than a little is set aside for a promise.
async fn collect(session: &mut Session, limit: usize, announced: Option<u64>) -> Result<Bytes, Stop> {
    let downstream = session.as_downstream_mut();
    let read = |chunk: pingora_core::Result<Option<Bytes>>| chunk.map_err(|error| unreadable(&error));
    let Some(first) = read(downstream.read_request_body().await)? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(Fault::BodyTooLarge { limit }.into());
    }
    let Some(second) = read(downstream.read_request_body().await)? else { return Ok(first) };
    let promised = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0).min(PROMISED);
    let mut body = BytesMut::with_capacity(promised.max(2 * (first.len() + second.len())));
    body.extend_from_slice(&first);
    body.extend_from_slice(&second);
    while body.len() <= limit {
        match read(downstream.read_request_body().await)? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => return Ok(body.freeze()),
        }
    }
    Err(Fault::BodyTooLarge { limit }.into())
}

/// Whether the client left in the middle of its body, or is still there and cannot count.
fn unreadable(error: &pingora_core::Error) -> Stop {
    match error.etype() {
        ErrorType::ReadTimedout => Fault::BodyTooSlow.into(),
        ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error => Stop::ClientGone,
        _ => Fault::BrokenFraming.into(),
    }
}

fn expects_continue(session: &Session) -> bool {
    let head = session.req_header();
    head.version == http::Version::HTTP_11
        && head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
}

impl Encoding {
    /// RFC 9110 §8.4: one coding is decoded, several or unknown ones are refused.
    fn of(head: &RequestHeader) -> Result<Self, Fault> {
        let mut values = head.headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        let coding = value.as_bytes().trim_ascii().to_ascii_lowercase();
        match (&coding[..], values.next()) {
            (b"identity" | b"", None) => Ok(Self::Identity),
            (b"gzip" | b"x-gzip", None) => Ok(Self::Gzip),
            (b"deflate", None) => Ok(Self::Deflate),
            _ => Err(Fault::UnsupportedEncoding),
        }
    }
}

/// Decodes at most `limit` bytes, so that a small body cannot become a large one.
fn decode(decoder: impl std::io::Read, limit: usize) -> Result<Bytes, Fault> {
    use std::io::Read;
    let mut body = Vec::new();
    let longest = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(longest).read_to_end(&mut body).map_err(|_| Fault::BrokenEncoding)?;
    if body.len() > limit { Err(Fault::BodyTooLarge { limit }) } else { Ok(body.into()) }
}
