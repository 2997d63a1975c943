//! Everything that is no MCP message: admin pages, REST, OAuth, WebSocket, through Pingora's own `HttpProxy`.
//! Takes the filters' arguments, applies the same rules to heads as the exchange, leaves bodies alone.
//! Surprise: a request whose peer refuses is tried at another peer even if it is a POST, because nothing had been sent.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, Session};

use crate::account::{Record, RouteKind};
use crate::app::App;
use crate::config::settings::{Profile, UpstreamId};
use crate::error::Fault;
use crate::exchange;
use crate::exchange::normalise::connection_fields;
use crate::exchange::outbound::{Dropped, UNCODED, joined_cookie, origin_form};
use crate::exchange::public::{Public, public_head};
use crate::logging;
use crate::routing::hop::HOP;
use crate::trace::Room;
use crate::trace::context::{TRACEPARENT, TRACESTATE};
use crate::upstream::seal;

use super::Context;
use super::affinity::Wanted;
use super::document::{self, Document};

/// What is remembered of a request that passes.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// `None`: another member's, who has made and will make everything public.
    pub public: Option<Public>,
    pub wanted: Wanted,
    /// The answer's body, if that is a document with addresses.
    pub document: Option<Document>,
    /// Peers.
    tried: Vec<usize>,
    /// The span in which one of them is asked.
    asking: Room,
    current: Option<(UpstreamId, usize)>,
}

impl Passing {
    /// Whoever was asked has answered.
    pub fn leave(&mut self) {
        self.asking = Room::default();
    }
}

/// The peer that is wanted, or a healthy one; none that was tried before.
pub(super) async fn peer(session: &mut Session, app: &App, context: &mut Context) -> Result<Box<HttpPeer>> {
    let nobody = |reason: &'static str| Error::explain(ErrorType::ConnectNoRoute, reason);
    session.as_downstream_mut().set_write_timeout(Some(app.settings.timeouts.write));
    session.as_downstream_mut().set_read_timeout(Some(app.settings.timeouts.request_body));
    context.record.attempts += 1;
    // One after the other: what was entered first is left first.
    context.pass.leave();
    context.pass.asking = context.record.trace.client("upstream");
    let upstream = context.record.upstream.map(|id| app.upstream(id)).ok_or_else(|| nobody("no upstream"))?;
    let passing = &mut context.pass;
    let mut target = match (&passing.wanted, &app.members) {
        (Wanted::Member { address, .. }, Some(members)) => members.target(*address),
        (wanted, _) => {
            let first = match wanted {
                Wanted::Peer(peer) => Some(*peer).filter(|peer| !passing.tried.contains(peer)),
                Wanted::Any | Wanted::Member { .. } => None,
            };
            let choice = first.or_else(|| upstream.choose(&passing.tried));
            let index = choice.ok_or_else(|| nobody("no peer left"))?;
            passing.current = Some((upstream.id, index));
            context.record.peer = Some(index);
            upstream.target(index).await.map_err(|fault| nobody(fault.kind()))?
        }
    };
    // An upgraded connection may be silent for as long as it likes; any other answer must keep coming.
    target.options.read_timeout =
        if session.is_upgrade_req() { None } else { Some(longest_silence(app, session.req_header())) };
    Ok(Box::new(target))
}

/// A client that accepts event streams may be sent one here too.
fn longest_silence(app: &App, head: &RequestHeader) -> Duration {
    let accepts_stream = head.headers.get_all(header::ACCEPT).iter().any(|value| {
        value.as_bytes().windows(17).any(|window| window.eq_ignore_ascii_case(b"text/event-stream"))
    });
    let timeouts = &app.settings.timeouts;
    if accepts_stream { app.settings.drain.timeout.max(timeouts.first_byte) } else { timeouts.first_byte }
}

pub(super) fn connect_failed(app: &App, context: &mut Context, mut error: Box<Error>) -> Box<Error> {
    app.counters.connects.inc();
    app.counters.connect_failures.inc();
    context.pass.asking.fail("connect_failed");
    if let Some((id, index)) = context.pass.current.take() {
        let upstream = app.upstream(id);
        upstream.unreached(index, &error);
        context.pass.tried.push(index);
        error.set_retry(context.pass.tried.len() < upstream.peers.len());
    } else {
        // The session lives at that member and nowhere else.
        error.set_retry(false);
    }
    error
}

/// Before anything is sent.
pub(super) fn connected(
    app: &App,
    context: &mut Context,
    reused: bool,
    target: &HttpPeer,
    digest: Option<&Digest>,
) -> Result<()> {
    let ssl = digest.and_then(|digest| digest.ssl_digest.as_deref());
    seal::check(target, ssl).map_err(|error| connect_failed(app, context, error))?;
    if let (Some((id, index)), false) = (context.pass.current, reused) {
        app.counters.connects.inc();
        app.upstream(id).peers[index].reached();
    }
    Ok(())
}

/// The head as it goes upstream; Pingora itself strips hop-by-hop fields and normalises an upgrade.
pub(super) fn request_head(
    session: &Session,
    app: &App,
    request: &mut RequestHeader,
    context: &Context,
) -> Result<()> {
    let Context { record, pass: passing, .. } = context;
    if let Some(carried) = record.trace.carried() {
        request.insert_header(TRACEPARENT, carried.traceparent)?;
        request.remove_header(TRACESTATE);
        if !carried.tracestate.is_empty() {
            request.insert_header(TRACESTATE, carried.tracestate)?;
        }
    }
    let Some(public) = &passing.public else {
        // Its first member has done all that follows.
        request.remove_header(HOP);
        return Ok(());
    };
    let head = session.req_header();
    let upgrade = session.is_upgrade_req();
    let drops = Dropped::of(head, app.settings.profile);
    let guards_sessions = app.settings.profile == Profile::ContextForge;
    let dropped: Vec<_> = request
        .headers
        .keys()
        .filter(|name| {
            let upgrade_field = upgrade && matches!(name.as_str(), "connection" | "upgrade");
            let framing = name.as_str() == "transfer-encoding";
            // No path that passes may use a session: its scope was not looked at.
            let session = guards_sessions && name.as_str() == "mcp-session-id";
            !upgrade_field && !framing && (session || drops.has(name.as_str()))
        })
        .cloned()
        .collect();
    for name in &dropped {
        request.remove_header(name);
    }
    if let Some(cookie) = joined_cookie(head) {
        request.insert_header(header::COOKIE, cookie)?;
    }
    if !request.raw_path().starts_with(b"/") {
        request.set_raw_path(origin_form(head))?;
    }
    for (name, value) in public.fields() {
        request.insert_header(name, &*value)?;
    }
    if document::is_wanted(head) {
        // What has to be read must come whole and uncompressed.
        request.insert_header(header::ACCEPT_ENCODING, UNCODED)?;
        request.remove_header(&header::RANGE);
    }
    if let Wanted::Member { hop, .. } = &passing.wanted {
        request.insert_header(HOP, hop)?;
    }
    Ok(())
}

/// Bodies pass unread, but not for ever; an upgraded connection has no end to wait for.
pub(super) fn request_body(session: &Session, app: &App, end: bool, record: &Record) -> Result<()> {
    if !end && !session.is_upgrade_req() && record.started.elapsed() > app.settings.timeouts.request_body {
        return Error::e_explain(ErrorType::HTTPStatus(408), "the request body did not arrive in time");
    }
    Ok(())
}

/// The head as the client gets it; the fields of a protocol switch stay.
pub(super) fn response_head(
    session: &mut Session,
    app: &App,
    head: &mut ResponseHeader,
    context: &mut Context,
) -> Result<()> {
    let Context { record, pass: passing, .. } = context;
    record.first_byte = Some(record.started.elapsed());
    passing.asking.set("http.response.status_code", i64::from(head.status.as_u16()));
    let switching = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
    let keep =
        |name: &str| name == "transfer-encoding" || (switching && matches!(name, "connection" | "upgrade"));
    for name in connection_fields(head).into_iter().filter(|name| !keep(name.as_str())) {
        head.remove_header(&name);
    }
    if app.draining() {
        session.as_downstream_mut().set_keepalive(None);
    }
    if let (Some(public), Some(upstream)) = (&passing.public, record.upstream) {
        public_head(head, public.ours(app.upstream(upstream)))?;
        passing.document = Document::announced_by(session.req_header(), head)?;
    }
    Ok(())
}

/// A body as the client gets it.
pub(super) fn response_body(app: &App, body: &mut Option<Bytes>, end: bool, context: &mut Context) {
    let Context { record, pass: passing, .. } = context;
    if let (Some(document), Some(public), Some(upstream)) =
        (&mut passing.document, &passing.public, record.upstream)
    {
        *body = document.pass(body.take(), end, public.ours(app.upstream(upstream)));
    }
}

/// Answers for an upstream that did not.
pub(super) async fn fail(
    session: &mut Session,
    app: &App,
    error: &Error,
    record: &mut Record,
) -> FailToProxy {
    // The exchange answers and accounts for itself; its error only asks for the cut.
    if record.route != RouteKind::Pass {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    let gone = *error.esource() == ErrorSource::Downstream
        && matches!(
            error.etype(),
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error
        );
    if gone {
        record.client_gone = true;
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    let fault = fault_of(error);
    log::warn!("pass-through: {}: {}", fault.kind(), logging::without_content(error));
    if session.response_written().is_some() {
        record.fault = Some(fault.kind());
        app.counters.fault(fault.kind());
    } else {
        session.as_downstream_mut().set_keepalive(None);
        if exchange::refuse(session, app, &fault, record).await.is_err() {
            record.client_gone = true;
        }
    }
    FailToProxy { error_code: fault.status(), can_reuse_downstream: false }
}

/// The failure by Pingora's word for it.
fn fault_of(error: &Error) -> Fault {
    match error.etype() {
        ErrorType::HTTPStatus(408) => Fault::BodyTooSlow,
        _ if *error.esource() == ErrorSource::Downstream => Fault::BrokenFraming,
        ErrorType::ConnectTimedout => Fault::ConnectTimeout,
        ErrorType::ReadTimedout => Fault::FirstByteTimeout,
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => Fault::TlsHandshake,
        ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError => Fault::NoPeer,
        ErrorType::InvalidHTTPHeader => Fault::MalformedAnswer,
        _ => Fault::NoAnswer,
    }
}
