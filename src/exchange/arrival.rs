//! The hop, on its last side: a request that another member finished goes to the peer that it names, and the answer back as it is.
//! Takes what came in by the member listener, gives the peer's raw answer, or the kind of our failure for the other member to word.
//! Surprise: nothing is decided here. Splice, owner, failures and URLs were and will be the first member's, exactly once.

use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::account::Record;
use crate::app::App;
use crate::error::Fault;
use crate::mcp::failure::Asked;
use crate::mcp::fields;
use crate::routing::hop::{HOP, Hop};
use crate::trace::{Carried, context};
use crate::upstream::Upstream;

use super::normalise::Judged;
use super::ownership::Near;
use super::request::{self, Inbound};
use super::task::NewTask;
use super::{Endpoint, Exchange, Side, Stop, Target, finish, outbound::origin_form, reply};

/// How much longer a forwarded body may be than `limits.body`: the server id has been spliced in.
const SPLICED: usize = 64 * 1024;

/// Serves a request that another member forwarded. `Err` = the connection must be cut.
pub async fn arrive(session: &mut Session, app: &App, record: &mut Record) -> pingora_core::Result<()> {
    session.as_downstream_mut().set_write_timeout(Some(app.settings.timeouts.write));
    let value =
        session.req_header().headers.get(HOP).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Some(hop) = value.as_deref().and_then(Hop::parse) else {
        return reply::to_member(session, app, &Fault::NotForwarded, record).await;
    };
    record.take_from(&hop);
    // The other member sends the body only now (`Members::greet`). If it is gone, reading the body will tell.
    let _ = request::ask_for_body(session).await;
    match serve(session, app, &hop, record).await {
        Err(Stop::Reply(fault)) => reply::to_member(session, app, &fault, record).await,
        ended => finish(session, ended, record),
    }
}

async fn serve(session: &mut Session, app: &App, hop: &Hop<'_>, record: &mut Record) -> Result<(), Stop> {
    if app.me() != Some(&*hop.to) {
        log::error!(
            "member {} forwarded a request that is for member {}: does its address belong to both?",
            hop.from,
            hop.to
        );
        return Err(Fault::ForwardedTwice.into());
    }
    let (upstream, peer) = destination(app, hop)?;
    record.upstream = Some(upstream.id);
    let body = request::read_body(session, app, app.settings.limits.body + SPLICED).await?;
    let inbound = Inbound::of_member(session.req_header(), hop, body);
    record.request_bytes = inbound.body.len();
    let mut room = record.trace.client("upstream");
    let wire = wire(session.req_header(), &inbound.body, record.trace.carried().as_ref());
    let target = Target { endpoint: Endpoint::Mcp, server_id: hop.server_id.as_deref().map(str::to_owned) };
    let exchange = Exchange { app, upstream, target: &target, side: Side::Member };
    let answer = exchange.send(session, peer, &wire, &inbound, record).await;
    exchange.tell(&mut room, record, &answer);
    let answer = answer?;
    drop((room, wire, inbound));
    let raw = (Judged::raw(&answer), &Asked::default());
    let _room = record.trace.room("relay");
    exchange.relay(session, answer, raw, NewTask::none(), record).await
}

/// The peer that the session lives at; a configuration may have changed since it was claimed.
fn destination<'a>(app: &'a App, hop: &Hop<'_>) -> Result<(&'a Upstream, Near), Fault> {
    let Some(upstream) = app.upstreams.iter().find(|upstream| upstream.name == hop.upstream) else {
        log::warn!(
            "member {} forwarded a request for upstream {}, which is unknown here",
            hop.from,
            hop.upstream
        );
        return Err(Fault::SessionLost);
    };
    let Some(name) = &hop.peer else {
        return Ok((upstream, Near::Unclaimed(upstream.stable(hop.session.as_bytes()))));
    };
    match upstream.peers.iter().position(|peer| peer.name == *name) {
        Some(peer) => Ok((upstream, Near::Claimed(peer))),
        None => {
            log::warn!(
                "member {} forwarded a request for peer {name} of {}, which is unknown here",
                hop.from,
                hop.upstream
            );
            Err(Fault::SessionLost)
        }
    }
}

/// The request as its first member made it, but for what that member told us.
fn wire(head: &RequestHeader, body: &[u8], carried: Option<&Carried>) -> Vec<u8> {
    let mut wire = Vec::with_capacity(1024 + body.len());
    for part in [head.method.as_str().as_bytes(), b" ", origin_form(head), b" HTTP/1.1\r\n"] {
        wire.extend_from_slice(part);
    }
    let stays =
        |name: &str| !(fields::is_outrigger_internal(name) || carried.is_some() && context::is_trace(name));
    for (name, value) in head.headers.iter().filter(|(name, _)| stays(name.as_str())) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            wire.extend_from_slice(part);
        }
    }
    if let Some(carried) = carried {
        carried.write(&mut wire);
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(body);
    wire
}
