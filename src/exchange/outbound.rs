//! Room 5: the request as it goes upstream, head and body in one buffer.
//! Takes the request as it came in and what is public about it, gives the wire form; the pass-through uses the same rules.
//! Surprise: `Accept-Encoding` is not passed on, because an answer that we must read (an event, an error) has to come uncompressed.

use http::header;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::account::Record;
use crate::app::App;
use crate::config::settings::{Listener, Profile};
use crate::mcp::fields;
use crate::mcp::forwarded::{self, Claims, Origin};
use crate::routing::hop::{HOP, Hop};

use super::request::Inbound;

/// A request in wire form.
pub(crate) struct Outbound {
    pub wire: Vec<u8>,
    /// Where the body begins.
    pub body_at: usize,
}

/// Room 5, second half: the request as it goes out. The same function for every path that a request can take: one that is
/// forwarded differs by the field that says so, and its last member takes that away.
pub(crate) fn rewrite(
    session: &Session,
    app: &App,
    listener: &Listener,
    inbound: &Inbound,
    hop: Option<&Hop<'_>>,
    record: &mut Record,
) -> Outbound {
    let origin = public_origin(session, listener);
    record.client = Some(origin.client);
    let mut wire = Vec::with_capacity(1024 + inbound.body.len());
    write_head(&mut wire, session.req_header(), app.settings.profile, inbound, &origin, hop);
    let body_at = wire.len();
    wire.extend_from_slice(&inbound.body);
    Outbound { wire, body_at }
}

/// What is public about the request, by the listener's `trusted_proxies`.
pub(crate) fn public_origin(session: &Session, settings: &Listener) -> Origin {
    let head = session.req_header();
    let address = session.client_addr().and_then(|address| address.as_inet()).map(|inet| inet.ip());
    let authority = head.uri.authority().map(|authority| authority.as_str());
    // HTTP/1.0 may leave `Host` out; HTTP/1.1 upstream may not.
    let local = session.server_addr().map(|address| address.to_string());
    let hop = forwarded::Hop {
        address: address.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        tls: settings.tls.is_some(),
        host: head
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .or(authority)
            .or(local.as_deref()),
    };
    if settings.trusted_proxies.is_empty() {
        return forwarded::origin(hop, &Claims::default(), |_| false);
    }
    let joined = |name: &str| {
        let values: Vec<&str> =
            head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(","))
    };
    let claims = Claims {
        for_: joined("x-forwarded-for"),
        proto: joined("x-forwarded-proto"),
        host: joined("x-forwarded-host"),
    };
    forwarded::origin(hop, &claims, |address| {
        settings.trusted_proxies.iter().any(|net| net.contains(&address))
    })
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

/// Request line and fields in HTTP/1.1 wire form.
fn write_head(
    wire: &mut Vec<u8>,
    head: &RequestHeader,
    profile: Profile,
    inbound: &Inbound,
    origin: &Origin,
    hop: Option<&Hop<'_>>,
) {
    for part in [inbound.method.as_str().as_bytes(), b" ", origin_form(head), b" HTTP/1.1\r\n"] {
        wire.extend_from_slice(part);
    }
    let mut field = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            wire.extend_from_slice(part);
        }
    };
    if let Some(authority) = &origin.authority {
        field("host", authority.as_bytes());
        field("x-forwarded-host", authority.as_bytes());
    }
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
                || (cookie.is_some() && name == "cookie");
        if set_anew || dropped.has(name) || (stray_session && name == "mcp-session-id") {
            continue;
        }
        field(name, value.as_bytes());
    }
    field("x-forwarded-for", origin.client.to_string().as_bytes());
    field("x-forwarded-proto", if origin.https { b"https" } else { b"http" });
    if !inbound.body.is_empty() || inbound.method == http::Method::POST {
        field("content-length", inbound.body.len().to_string().as_bytes());
    }
    if let Some(hop) = hop {
        field(HOP, hop.encode().as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
}
