//! Rooms 1 and 2: what a request looks like from outside, whether it may come in, and which way through the proxy it takes.
//! Takes its head and the listener, gives a [`Public`] and then an MCP target, nothing (it passes), or a [`Refusal`].
//! Surprise: a host that is not allowed is refused on every path, a page that is not allowed only where it could send a message or open a
//! socket. Pages elsewhere may post forms to what passes: a login that comes back does.

use http::{HeaderValue, Method, Version, header};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::app::App;
use crate::config::settings::{Listener, Profile};
use crate::error::Fault;
use crate::exchange::Target;
use crate::exchange::outbound::origin_form;
use crate::exchange::public::Public;
use crate::mcp::forwarded::is_authority;
use crate::routing::route::{Refused, Route};
use crate::upstream::Upstream;

/// Why a request is not let in.
pub(super) struct Refusal {
    pub fault: Fault,
    /// It was a message, which is owed an answer with its id.
    pub is_message: bool,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { fault, is_message: false }
    }
}

/// Room 1.
pub(super) fn admit(session: &Session, app: &App, listener: &Listener) -> Result<Public, Fault> {
    let head = session.req_header();
    if head.headers.len() > app.settings.limits.header_count {
        return Err(Fault::TooManyFields);
    }
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if head.version == Version::HTTP_11 && !host.is_some_and(is_authority) {
        return Err(Fault::NoHost);
    }
    Public::of(session, listener).ok_or(Fault::NoHost)
}

/// The path as the upstream knows it. A prefix that was taken off in front of us is not there any more.
pub(super) fn take_off_prefix(head: &mut RequestHeader, public: &Public) -> pingora_core::Result<()> {
    match public.base.without_prefix(origin_form(head)) {
        Some(inside) => head.set_raw_path(&inside),
        None => Ok(()),
    }
}

/// The upstream that the path leads to, and the path as that knows it. `None`: it leads nowhere.
pub(super) fn lead<'a>(
    head: &mut RequestHeader,
    app: &'a App,
    listener: &Listener,
    public: &mut Public,
) -> pingora_core::Result<Option<&'a Upstream>> {
    let Some(lead) = listener.destination.of(origin_form(head)) else { return Ok(None) };
    let upstream = app.upstream(lead.upstream);
    public.lead(lead.prefix, upstream);
    if let Some(inside) = lead.inside {
        head.set_raw_path(&inside)?;
    }
    Ok(Some(upstream))
}

/// Room 2.
pub(super) fn classify(
    head: &RequestHeader,
    app: &App,
    listener: &Listener,
    public: &Public,
) -> Result<Option<Target>, Refusal> {
    let target = origin_form(head);
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    let target = match app.settings.routes.classify(path, app.settings.profile == Profile::ContextForge) {
        Route::Refused(Refused::Internal) => return Err(Fault::NoSuchPath.into()),
        Route::Refused(Refused::Ambiguous) => return Err(Fault::AmbiguousPath.into()),
        route => Target::of(route),
    };
    let is_mcp = target.is_some();
    // MCP has no transport by Upgrade: a request that asks for one here is a request like any other, or it would slip past the
    // splice and the session's scope.
    let target = target.filter(|_| matches!(head.method, Method::POST | Method::GET | Method::DELETE));
    allowed(head, listener, public, is_mcp)
        .map_err(|fault| Refusal { fault, is_message: target.is_some() })
        .map(|()| target)
}

/// Whether the listener takes requests for this host and from this page.
fn allowed(head: &RequestHeader, listener: &Listener, public: &Public, is_mcp: bool) -> Result<(), Fault> {
    let (written, seen) = (public.host.as_deref(), &*public.origin.authority);
    let by = &*listener.name;
    if !listener.allowed.takes_host(written, seen) {
        let host = excerpt(written.unwrap_or(seen));
        match written {
            Some(written) if written != seen => log::warn!(
                about = by;
                "listener {by}: `allowed_hosts` must have {host:?} and, as a trusted proxy claims it, {seen:?}"
            ),
            _ => log::warn!(about = by; "listener {by}: `allowed_hosts` does not have {host:?}"),
        }
        return Err(Fault::HostNotAllowed);
    }
    if is_mcp || head.headers.contains_key(header::UPGRADE) {
        for origin in head.headers.get_all(header::ORIGIN).iter().map(text) {
            if !listener.allowed.takes_origin(origin, &public.base) {
                let origin = excerpt(origin);
                log::warn!(about = by; "listener {by}: `allowed_origins` does not have {origin:?}");
                return Err(Fault::OriginNotAllowed);
            }
        }
    }
    Ok(())
}

/// What is no text is no origin, and is refused as such.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

/// For the log: nobody may fill it by a long name.
fn excerpt(text: &str) -> &str {
    text.get(..100).unwrap_or(text)
}
