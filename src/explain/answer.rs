//! From what was found to where the request goes.
//! PURE: the findings in, an [`Answer`] out; every decision is room 4's own function.
//! Surprise: it is asked twice where another member owns the session, as only its first answer tells which member to look for.

use crate::config::settings::OnRegistryFailure;
use crate::error::Fault;
use crate::registry::Transport;
use crate::routing::balance::rendezvous;
use crate::routing::gateway::{self, Place};
use crate::routing::owner::{self, Asking, Decision, Failed};

use super::findings::{Findings, Gateway, Request, Whereabouts};

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub to: To,
    pub why: Why,
}

/// Who gets the request.
#[derive(Debug, PartialEq, Eq)]
pub enum To {
    /// A peer of this Outrigger's.
    Peer(String),
    /// Another member; its peer, unless that is the member's to say.
    Member { name: String, peer: Option<String> },
    /// Nobody: this is our reply.
    Reply(Fault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Claim,
    /// The claim names a peer that is not configured.
    ClaimedPeerGone,
    WrongScope,
    WrongTransport,
    /// The gateway names a worker that was learnt.
    Worker,
    /// The gateway names a worker on that member's host.
    WorkerOfHost,
    WorkerDead,
    /// The worker was learnt at a peer that is not configured.
    WorkerPeerGone,
    /// The gateway names a worker that nobody has met.
    WorkerUnknown,
    /// Nobody is known to own the session.
    Unclaimed,
    RegistryFailed,
    MemberGone,
    MemberUnreachable,
    NoMember,
}

pub fn answer(findings: &Findings) -> Answer {
    let answer = by_claim(findings);
    let (To::Member { .. }, Some((_, member))) = (&answer.to, &findings.member) else { return answer };
    match member {
        Whereabouts::At(_) => answer,
        Whereabouts::Gone => reply(Fault::SessionLost, Why::MemberGone),
        Whereabouts::Unknown(_) => reply(Fault::OwnerUnreachable, Why::MemberUnreachable),
        Whereabouts::NoMember => reply(Fault::OwnerUnreachable, Why::NoMember),
    }
}

fn by_claim(findings: &Findings) -> Answer {
    let (request, claim) = (&findings.request, findings.claim());
    let known = if findings.claim.is_ok() { Ok(claim) } else { Err(Failed) };
    match owner::decide(known, asking(findings), request.me.as_deref(), &request.peers) {
        Decision::Here(peer) => Answer { to: To::Peer(request.peers[peer].clone()), why: Why::Claim },
        Decision::At(member) => {
            let peer = claim.map(|claim| claim.peer.clone());
            Answer { to: To::Member { name: member.to_owned(), peer }, why: Why::Claim }
        }
        Decision::Lost => reply(Fault::SessionLost, Why::ClaimedPeerGone),
        Decision::WrongScope => reply(Fault::SessionLost, Why::WrongScope),
        Decision::WrongTransport => reply(Fault::SessionLost, Why::WrongTransport),
        Decision::Unavailable => unavailable(request),
        Decision::Unclaimed => by_gateway(findings),
    }
}

fn by_gateway(findings: &Findings) -> Answer {
    let request = &findings.request;
    let (word, neighbour) = match &findings.gateway {
        Gateway::NotAsked | Gateway::NotRead | Gateway::Silent => return stable(request, Why::Unclaimed),
        Gateway::Failed(_) => return unavailable(request),
        Gateway::Word { word, neighbour, .. } => (word, neighbour.as_deref()),
    };
    let place = gateway::place(word, neighbour);
    let (decision, _) = gateway::decide(place, request.me.as_deref(), &request.peers);
    let (why, peer) = match place {
        Place::At { peer, .. } => (Why::Worker, Some(peer.to_owned())),
        Place::AtMember(_) => (Why::WorkerOfHost, None),
        Place::Dead => (Why::WorkerDead, None),
        Place::Unknown => (Why::WorkerUnknown, None),
    };
    match decision {
        Decision::Here(peer) => Answer { to: To::Peer(request.peers[peer].clone()), why },
        Decision::At(member) => Answer { to: To::Member { name: member.to_owned(), peer }, why },
        Decision::Lost if why == Why::WorkerDead => reply(Fault::SessionLost, why),
        Decision::Lost => reply(Fault::SessionLost, Why::WorkerPeerGone),
        _ => stable(request, why),
    }
}

fn unavailable(request: &Request) -> Answer {
    match request.on_registry_failure {
        OnRegistryFailure::Refuse => reply(Fault::RegistryUnavailable, Why::RegistryFailed),
        OnRegistryFailure::Local => stable(request, Why::RegistryFailed),
    }
}

/// For this session always the same peer.
fn stable(request: &Request, why: Why) -> Answer {
    let peer = rendezvous(request.key.as_bytes(), &request.peers);
    Answer { to: To::Peer(request.peers[peer].clone()), why }
}

fn reply(fault: Fault, why: Why) -> Answer {
    Answer { to: To::Reply(fault), why }
}

/// What the request says of itself: what its path says or, without one, what the session would have it say.
fn asking(findings: &Findings) -> Asking<'_> {
    match (&findings.request.scope, findings.claim()) {
        (Some((server_id, transport)), _) => {
            Asking { server_id: server_id.as_deref(), transport: *transport }
        }
        (None, Some(claim)) => Asking { server_id: claim.server_id.as_deref(), transport: claim.transport },
        (None, None) => Asking { server_id: None, transport: Transport::StreamableHttp },
    }
}
