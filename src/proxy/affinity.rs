//! Where a passed request has to go if it names a session (a WebSocket that belongs to one, say): to the owner, here or at another member.
//! Takes the request's head, asks the registry, gives a [`Wanted`]. Surprise: whether the session may be used on such a path is the upstream's to
//! say. Where it cannot say so, as behind the profile `contextforge`, a passed request carries no session at all.

use std::net::SocketAddr;

use pingora_http::RequestHeader;

use crate::account::{Record, RouteKind};
use crate::app::App;
use crate::config::settings::Profile;
use crate::error::Fault;
use crate::registry::{Claim, SessionKey};
use crate::routing::hop::{HOP, Hop};
use crate::routing::session::{SessionHeader, session_header};
use crate::upstream::Upstream;

/// Who should get a passed request.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    #[default]
    Any,
    /// This peer of ours.
    Peer(usize),
    Member {
        address: SocketAddr,
        /// What it has to be told.
        hop: String,
    },
}

/// For a client's request.
pub async fn of_client(app: &App, upstream: &Upstream, head: &RequestHeader, record: &mut Record) -> Wanted {
    if app.settings.profile == Profile::ContextForge {
        return Wanted::Any;
    }
    let values = head.headers.get_all("mcp-session-id").iter().map(|value| value.as_bytes());
    let SessionHeader::One(id) = session_header(values) else { return Wanted::Any };
    let key = SessionKey::new(&upstream.name, id);
    record.session = Some(key.short());
    let Ok(Some(claim)) = app.registry.ask(&key).await else { return Wanted::Any };
    let peer = upstream.peers.iter().position(|peer| peer.name == claim.peer);
    match (claim.member.as_deref(), app.me()) {
        (Some(member), me) if me != Some(member) => {
            elsewhere(app, upstream, member, &claim, key, record).await.unwrap_or_default()
        }
        _ => peer.map_or(Wanted::Any, Wanted::Peer),
    }
}

async fn elsewhere(
    app: &App,
    upstream: &Upstream,
    member: &str,
    claim: &Claim,
    session: SessionKey,
    record: &mut Record,
) -> Option<Wanted> {
    let members = app.members.as_ref()?;
    let address = members.find(member).await.ok().flatten()?;
    let hop = Hop {
        to: member.into(),
        from: members.me.as_str().into(),
        request: format!("{:016x}", record.id).into(),
        upstream: upstream.name.as_str().into(),
        peer: Some(claim.peer.as_str().into()),
        session,
        route: RouteKind::Pass.as_str().into(),
        server_id: None,
        era: "".into(),
        method: None,
    };
    record.member = Some(member.to_owned());
    record.member_peer = Some(claim.peer.clone());
    Some(Wanted::Member { address, hop: hop.encode() })
}

/// For what another member forwarded, if it is a passed request; the others are the exchange's.
pub fn of_member(app: &App, head: &RequestHeader, record: &mut Record) -> Option<Result<Wanted, Fault>> {
    let value = head.headers.get(HOP)?.to_str().ok()?;
    let hop = Hop::parse(value).filter(|hop| hop.route == RouteKind::Pass.as_str())?;
    record.take_from(&hop);
    if app.me() != Some(&*hop.to) {
        return Some(Err(Fault::ForwardedTwice));
    }
    let upstream = app.upstreams.iter().find(|upstream| upstream.name == hop.upstream);
    let peer = upstream.and_then(|upstream| {
        record.upstream = Some(upstream.id);
        upstream.peers.iter().position(|peer| hop.peer.as_deref() == Some(&*peer.name))
    });
    Some(peer.map(Wanted::Peer).ok_or(Fault::NoPeer))
}
