//! The exchange: how an MCP request lives, from its head to the end of its answer, in the order of the rooms (3 to 9).
//! Takes Pingora's downstream session and what classify found, gives the answer written or a [`Cut`].
//! Surprise: the whole request body is in our hands before a peer is chosen, because the body says what the request is (era,
//! method, id), and because a head and a body that leave in one write cost the upstream one wake-up instead of two.

mod connection;
pub(crate) mod relay;
mod reply;
pub(crate) mod request;

use std::borrow::Cow;

use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;

use crate::account::{Record, RouteKind};
use crate::app::App;
use crate::error::Fault;
use crate::registry::{Claim, SessionKey, Transport};
use crate::routing::owner::{Decision, decide};
use crate::routing::route::Route;
use crate::routing::session::Era;
use crate::upstream::Upstream;
use connection::Answer;
use request::{Caller, Inbound};

pub use reply::refuse;

/// Which MCP route, by the words of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Mcp,
    Sse,
    Message,
}

/// What classify found out about an MCP request.
#[derive(Debug, Clone)]
pub struct Target {
    pub endpoint: Endpoint,
    pub server_id: Option<String>,
    pub listener: usize,
}

impl Target {
    /// `None` for routes that are not MCP's.
    pub fn of(route: Route<'_>, listener: usize) -> Option<Self> {
        let owned = |server_id: Option<Cow<'_, str>>| server_id.map(Cow::into_owned);
        let (endpoint, server_id) = match route {
            Route::Mcp { server_id } => (Endpoint::Mcp, owned(server_id)),
            Route::Sse { server_id } => (Endpoint::Sse, owned(server_id)),
            Route::Message { server_id } => (Endpoint::Message, owned(server_id)),
            Route::Pass | Route::Refused(_) => return None,
        };
        Some(Self { endpoint, server_id, listener })
    }

    pub fn kind(&self) -> RouteKind {
        match self.endpoint {
            Endpoint::Mcp => RouteKind::Mcp,
            Endpoint::Sse => RouteKind::Sse,
            Endpoint::Message => RouteKind::Message,
        }
    }

    fn transport(&self) -> Transport {
        match self.endpoint {
            Endpoint::Mcp => Transport::StreamableHttp,
            Endpoint::Sse | Endpoint::Message => Transport::HttpSse,
        }
    }
}

/// Why an exchange ended without a whole answer.
#[derive(Debug)]
pub enum Stop {
    /// We answer in the upstream's place.
    Reply(Fault),
    /// The client went away; nobody is left to answer.
    ClientGone,
    /// The answer had begun; only closing the stream tells the client that it is not whole.
    Cut(pingora_core::BError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Reply(fault)
    }
}

/// Runs the exchange and answers for it where the upstream did not. `Err` = the connection must be cut.
pub async fn run(
    session: &mut Session,
    app: &App,
    target: Target,
    record: &mut Record,
) -> pingora_core::Result<()> {
    session.as_downstream_mut().set_write_timeout(Some(app.settings.timeouts.write));
    let mut caller = Caller::unread(&session.req_header().method);
    match rooms(session, app, &target, &mut caller, record).await {
        Ok(()) => Ok(()),
        Err(Stop::Reply(fault)) => reply::fault(session, app, &caller, &fault, record).await,
        Err(Stop::ClientGone) => {
            record.client_gone = true;
            session.as_downstream_mut().set_keepalive(None);
            // With a head sent, an orderly end would make the part that left look like the whole.
            let begun = session.response_written().is_some();
            if begun { Error::e_explain(ErrorType::WriteError, "the client went away") } else { Ok(()) }
        }
        Err(Stop::Cut(error)) => Err(error),
    }
}

/// The rooms in order. `caller` is set as soon as it is known, so that a reply can carry its id.
async fn rooms(
    session: &mut Session,
    app: &App,
    target: &Target,
    caller: &mut Caller,
    record: &mut Record,
) -> Result<(), Stop> {
    let (listener, upstream) = app.listener(target.listener);
    let scope = target.server_id.as_deref().filter(|_| listener.scope);

    let body = request::read_body(session, app).await?;
    let mut inbound = Inbound::identify(session, app, target, body, scope).map_err(|unidentified| {
        *caller = unidentified.caller;
        unidentified.fault
    })?;
    caller.clone_from(&inbound.caller);
    inbound.describe(record, upstream);

    let owner = locate(app, upstream, target, &mut inbound).await?;
    let wire = request::rewrite(session, app, target, &inbound, record);

    let answer = connection::send(session, app, upstream, owner, &wire, &inbound, record).await?;
    note_session(app, upstream, target, &inbound, &answer).await;
    relay::relay(session, app, upstream, target, answer, record).await
}

/// Room 4: which peer, and whether anybody else may stand in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This peer holds the session.
    Claimed(usize),
    /// Nobody is known to hold it; always the same peer is asked.
    Unclaimed(usize),
    /// Any peer will do.
    Any,
}

async fn locate(
    app: &App,
    upstream: &Upstream,
    target: &Target,
    inbound: &mut Inbound,
) -> Result<Owner, Fault> {
    let Some(session_id) = &inbound.session_id else { return Ok(Owner::Any) };
    let key = SessionKey::new(&upstream.name, session_id);
    let asked = app.registry.ask(&key).await;
    if let Err(error) = &asked {
        log::warn!("session {}: the registry did not answer: {error}", key.short());
    }
    let decision = decide(
        asked.as_ref().map(Option::as_ref).map_err(|_| crate::routing::owner::Failed),
        target.server_id.as_deref(),
        target.transport(),
        &upstream.peer_names,
    );
    match decision {
        Decision::Here(peer) => {
            app.registry.renew(&key);
            inbound.claim = asked.ok().flatten();
            Ok(Owner::Claimed(peer))
        }
        Decision::Unclaimed => Ok(Owner::Unclaimed(upstream.stable(key.as_bytes()))),
        Decision::Lost => {
            if let Ok(Some(claim)) = asked {
                release(app, &key, &claim).await;
            }
            Err(Fault::SessionLost)
        }
        Decision::WrongScope | Decision::WrongTransport => Err(Fault::SessionLost),
        Decision::Unavailable => Err(Fault::RegistryUnavailable),
    }
}

/// Room 8, first half: a 2xx answer to `initialize` that brings a session id makes its peer the owner; a session that its
/// client ended, or that its owner does not know, is released.
async fn note_session(
    app: &App,
    upstream: &Upstream,
    target: &Target,
    inbound: &Inbound,
    answer: &Answer<'_>,
) {
    let status = answer.head.status;
    if inbound.is_initialize() && status.is_success() {
        let id = answer.head.headers.get("mcp-session-id").and_then(|value| value.to_str().ok());
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            claim(app, upstream, target, id, answer.peer).await;
        }
    }
    let deleted = inbound.method == http::Method::DELETE && status.is_success();
    let unknown_there = status == http::StatusCode::NOT_FOUND;
    if let (Some(id), Some(claim), true) = (&inbound.session_id, &inbound.claim, deleted || unknown_there) {
        release(app, &SessionKey::new(&upstream.name, id), claim).await;
        app.counters.sessions_released.inc();
    }
}

/// Records that `peer` owns the session; without a registry the session still works as long as its peer is the only one.
pub(crate) async fn claim(app: &App, upstream: &Upstream, target: &Target, session_id: &str, peer: usize) {
    let key = SessionKey::new(&upstream.name, session_id);
    let claim = Claim {
        peer: upstream.peer_names[peer].clone(),
        server_id: target.server_id.clone(),
        transport: target.transport(),
    };
    match app.registry.claim(&key, &claim).await {
        Ok(crate::registry::Claimed::Won) => app.counters.sessions_claimed.inc(),
        Ok(crate::registry::Claimed::Held(other)) => {
            log::warn!(
                "session {} of peer {} is already owned by peer {}",
                key.short(),
                claim.peer,
                other.peer
            );
        }
        Err(error) => log::error!("session {} could not be claimed: {error}", key.short()),
    }
}

pub(crate) async fn release(app: &App, key: &SessionKey, claim: &Claim) {
    if let Err(error) = app.registry.release(key, claim).await {
        log::warn!("session {} could not be released: {error}", key.short());
    }
}

/// Whether the era lets a session id count at all.
pub(crate) fn sessions_count(era: Era) -> bool {
    era == Era::Legacy
}
