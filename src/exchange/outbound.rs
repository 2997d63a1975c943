//! Room 5: the request as it goes upstream, head and body in one buffer.
//! Takes the request as it came in and what is public about it, gives the wire form; the pass-through uses the same rules.
//! Surprise: `Accept-Encoding` is not the client's, because an answer that we must read (an event, an error) has to come uncompressed; and
//! a request without one would allow any coding (RFC 9110 §12.5.3).

use std::ops::Range;

use http::header;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::app::App;
use crate::config::settings::Profile;
use crate::mcp::fields;
use crate::routing::hop::{HOP, Hop};
use crate::trace::context::is_trace;
use crate::trace::{Carried, Trace};

use super::public::Public;
use super::request::Inbound;

/// `Accept-Encoding` of what has to come as it is.
pub(crate) const UNCODED: &str = "identity";

/// A request in wire form.
pub(crate) struct Outbound {
    pub wire: Vec<u8>,
    /// Where path and query stand.
    path: Range<usize>,
    /// Where the body begins.
    pub body_at: usize,
    /// Where the id of the span that asks stands, if the request carries one of ours.
    span_at: Option<usize>,
}

impl Outbound {
    pub fn path(&self) -> &[u8] {
        &self.wire[self.path.clone()]
    }

    /// The same request for another path.
    pub fn go_to(&mut self, path: &str) {
        let moved = |at: usize| at - self.path.len() + path.len();
        (self.body_at, self.span_at) = (moved(self.body_at), self.span_at.map(moved));
        self.wire.splice(self.path.clone(), path.bytes());
        self.path.end = self.path.start + path.len();
    }

    /// The same request as part of the span that is entered now.
    pub fn trace(&mut self, trace: &Trace) {
        if let (Some(at), Some(id)) = (self.span_at, trace.span_id()) {
            self.wire[at..at + id.len()].copy_from_slice(id.as_bytes());
        }
    }
}

/// Room 5, second half: the request as it goes out. The same function for every path that a request can take: one that is
/// forwarded differs by the field that says so, and its last member takes that away.
pub(crate) fn rewrite(
    session: &Session,
    app: &App,
    inbound: &Inbound,
    public: &Public,
    hop: Option<&Hop<'_>>,
    trace: &Trace,
) -> Outbound {
    let mut wire = Vec::with_capacity(1024 + inbound.body.len());
    let head = session.req_header();
    let (profile, carried) = (app.settings.profile, trace.carried());
    let span_at = write_head(&mut wire, head, profile, inbound, public, hop, carried.as_ref());
    let body_at = wire.len();
    wire.extend_from_slice(&inbound.body);
    let path_at = inbound.method.as_str().len() + 1;
    let path = path_at..path_at + origin_form(head).len();
    Outbound { wire, path, body_at, span_at }
}

/// Path and query as they stood in the request line, also where that named a whole URL (RFC 9112 §3.2.2).
pub(crate) fn origin_form(head: &RequestHeader) -> &[u8] {
    let raw = head.raw_path();
    if raw.starts_with(b"/") {
        raw
    } else {
        head.uri.path_and_query().map_or(b"/", |path| path.as_str().as_bytes())
    }
}

/// What of a client's fields goes no further, on either way through the proxy.
pub(crate) struct Dropped {
    profile: Profile,
    nominated: Vec<String>,
}

impl Dropped {
    pub fn of(head: &RequestHeader, profile: Profile) -> Self {
        let connection = head.headers.get_all(header::CONNECTION).iter().map(|value| value.as_bytes());
        Self { profile, nominated: fields::nominated(connection) }
    }

    pub fn has(&self, name: &str) -> bool {
        fields::is_hop_by_hop(name)
            || fields::is_forwarding(name)
            || fields::is_outrigger_internal(name)
            || (self.profile == Profile::ContextForge && fields::is_contextforge_internal(name))
            || self.nominated.iter().any(|nominated| nominated == name)
    }
}

/// The crumbs that HTTP/2 lets a client split its cookie into, as HTTP/1.1 wants them (RFC 9113 §8.2.3).
pub(crate) fn joined_cookie(head: &RequestHeader) -> Option<Vec<u8>> {
    let crumbs: Vec<&[u8]> =
        head.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes()).collect();
    (head.version == http::Version::HTTP_2 && crumbs.len() > 1).then(|| crumbs.join(&b"; "[..]))
}

/// Request line and fields in HTTP/1.1 wire form. Gives the place of the trace's parent.
fn write_head(
    wire: &mut Vec<u8>,
    head: &RequestHeader,
    profile: Profile,
    inbound: &Inbound,
    public: &Public,
    hop: Option<&Hop<'_>>,
    carried: Option<&Carried>,
) -> Option<usize> {
    for part in [inbound.method.as_str().as_bytes(), b" ", origin_form(head), b" HTTP/1.1\r\n"] {
        wire.extend_from_slice(part);
    }
    let mut field = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            wire.extend_from_slice(part);
        }
    };
    for (name, value) in public.fields() {
        field(name, value.as_bytes());
    }
    field(header::ACCEPT_ENCODING.as_str(), UNCODED.as_bytes());
    let cookie = joined_cookie(head);
    if let Some(cookie) = &cookie {
        field("cookie", cookie);
    }
    let dropped = Dropped::of(head, profile);
    let stray_session = !inbound.era.has_sessions();
    for (name, value) in &head.headers {
        let name = name.as_str();
        let set_anew =
            matches!(name, "host" | "content-length" | "content-encoding" | "expect" | "accept-encoding")
                || (cookie.is_some() && name == "cookie")
                || (carried.is_some() && is_trace(name));
        if set_anew || dropped.has(name) || (stray_session && name == "mcp-session-id") {
            continue;
        }
        field(name, value.as_bytes());
    }
    if !inbound.body.is_empty() || inbound.method == http::Method::POST {
        field("content-length", inbound.body.len().to_string().as_bytes());
    }
    if let Some(hop) = hop {
        field(HOP, hop.encode().as_bytes());
    }
    let span_at = carried.map(|carried| carried.write(wire));
    wire.extend_from_slice(b"\r\n");
    span_at
}
