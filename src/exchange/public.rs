//! Rooms 1 and 9: what the outside sees of a request and of its answer.
//! Takes the downstream session and its listener, gives a [`Public`]: who the client is and what it calls us; then makes the addresses
//! in an answer's head agree with it. Surprise: it is decided once, before the request is classified, and everything that leaves in either
//! direction goes by it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::config::settings::Listener;
use crate::mcp::client_cert::{self, ClientCert};
use crate::mcp::cors;
use crate::mcp::forwarded::{self, Claims, Origin};
use crate::mcp::public_url::Base;
use crate::mcp::public_url::address::Ours;
use crate::mcp::public_url::challenge;
use crate::upstream::Upstream;

/// How a request and its answer look from outside.
#[derive(Debug)]
pub(crate) struct Public {
    /// By the listener's `trusted_proxies`.
    pub origin: Origin,
    /// By its `public_url`.
    pub base: Base,
    /// The host as the hop wrote it, whatever it claims beside it.
    pub host: Option<String>,
    /// A page in a browser will read the answer.
    pub for_page: bool,
    /// What the upstream is called, if it is to take us for a client of its own.
    host_upstream: Option<String>,
    /// By its certificate, if the upstream is told.
    client_cert: Option<Arc<ClientCert>>,
}

/// Who the client is by the certificate that it showed in its handshake.
pub(crate) fn client_cert(session: &Session) -> Option<Arc<ClientCert>> {
    session.digest()?.ssl_digest.as_ref()?.extension.get::<Arc<ClientCert>>().cloned()
}

impl Public {
    /// `None`: nobody named a host.
    pub fn of(session: &Session, listener: &Listener) -> Option<Self> {
        let head = session.req_header();
        let host = head.headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        let host = host.or(head.uri.authority().map(|authority| authority.as_str()));
        let origin = origin(session, host, listener)?;
        let base = listener.public_url.base(&origin);
        let for_page = head.headers.contains_key(header::ORIGIN);
        let told =
            listener.tls.as_ref().and_then(|tls| tls.clients.as_ref()).is_some_and(|clients| clients.forward);
        let client_cert = if told { client_cert(session) } else { None };
        let host = host.map(str::to_owned);
        Some(Self { origin, base, host, for_page, host_upstream: None, client_cert })
    }

    /// The request is for this upstream, whose paths the outside knows behind `prefix`.
    pub fn lead(&mut self, prefix: &str, upstream: &Upstream) {
        self.base.prefix.push_str(prefix);
        self.host_upstream = upstream.host.clone();
    }

    pub fn ours<'p>(&'p self, upstream: &'p Upstream) -> Ours<'p> {
        Ours { base: &self.base, peers: upstream }
    }

    /// The fields that tell the upstream what it is called and, unless it takes us for its client, where a request came from; all
    /// others that could were dropped.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let fronted = self.host_upstream.is_none();
        let client_cert = self.client_cert.as_deref().filter(|_| fronted);
        let by_certificate =
            client_cert.map(|client| (client_cert::FORWARDED, client.forwarded.as_str().into()));
        let host = self.host_upstream.as_ref().unwrap_or(&self.base.authority);
        let by_connection = [
            ("host", Cow::from(host)),
            ("x-forwarded-host", self.base.authority.as_str().into()),
            ("x-forwarded-for", self.origin.client.to_string().into()),
            ("x-forwarded-proto", self.base.scheme().into()),
            ("x-forwarded-port", self.base.port().to_string().into()),
        ];
        by_connection.into_iter().take(if fronted { 5 } else { 1 }).chain(by_certificate)
    }
}

fn origin(session: &Session, host: Option<&str>, listener: &Listener) -> Option<Origin> {
    let head = session.req_header();
    let address = session.client_addr().and_then(|address| address.as_inet()).map(|inet| inet.ip());
    // HTTP/1.0 may leave `Host` out; HTTP/1.1 upstream may not.
    let local = host.is_none().then(|| session.server_addr().map(|address| address.to_string())).flatten();
    let hop = forwarded::Hop {
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        tls: listener.tls.is_some(),
        host: host.or(local.as_deref()),
    };
    if listener.trusted_proxies.is_empty() {
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
        port: joined("x-forwarded-port"),
        forwarded: joined("forwarded"),
    };
    forwarded::origin(hop, &claims, |address| {
        listener.trusted_proxies.iter().any(|net| net.contains(&address))
    })
}

/// The addresses in an answer's head, as the client must read them (P4).
pub(crate) fn public_head(head: &mut ResponseHeader, ours: Ours<'_>) -> pingora_core::Result<()> {
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        replace(head, name, |value| ours.public(value))?;
    }
    let challenge = |value: &str| challenge::rewritten(value, |address| ours.public(address));
    replace(head, header::WWW_AUTHENTICATE, challenge)
}

/// Lets a page read its session's id, where the upstream lets it read the answer at all.
pub(crate) fn expose_session(head: &mut ResponseHeader) -> pingora_core::Result<()> {
    if !head.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        return Ok(());
    }
    let exposed = head.headers.get_all(header::ACCESS_CONTROL_EXPOSE_HEADERS).iter();
    let exposed = exposed.filter_map(|value| value.to_str().ok());
    let credentials = head.headers.get(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    if cors::hides_session(exposed, credentials.is_some_and(|value| value == "true")) {
        head.append_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, cors::SESSION)?;
    }
    Ok(())
}

/// Every line of a field by itself; lines that stay as they are keep their bytes.
fn replace(
    head: &mut ResponseHeader,
    name: HeaderName,
    rewrite: impl Fn(&str) -> Option<String>,
) -> pingora_core::Result<()> {
    let rewritten = |value: &HeaderValue| {
        let value = std::str::from_utf8(value.as_bytes()).ok().and_then(&rewrite)?;
        HeaderValue::from_bytes(value.as_bytes()).ok()
    };
    let values: Vec<_> =
        head.headers.get_all(&name).iter().map(|value| (value.clone(), rewritten(value))).collect();
    if values.iter().all(|(_, rewritten)| rewritten.is_none()) {
        return Ok(());
    }
    head.remove_header(&name);
    for (value, rewritten) in values {
        head.append_header(name.clone(), rewritten.unwrap_or(value))?;
    }
    Ok(())
}
