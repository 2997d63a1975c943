//! What `explain` has found out: the request as rooms 1 to 3 see it, the claim, the gateway's word, the owner's member.
//! Plain values; who decides by them is `answer`, who shows them `print`.
//! Surprise: an empty field mostly means that nobody had to look there, as in room 4 itself.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::settings::OnRegistryFailure;
use crate::registry::{Claim, SessionKey, Transport, Word};

pub struct Findings {
    pub request: Request,
    /// Kind and place, in words.
    pub registry: String,
    /// Workers may remember an owner for a while.
    pub cached: bool,
    /// `Err`: the registry does not answer, and why.
    pub claim: Result<Option<Kept>, String>,
    pub gateway: Gateway,
    /// The member that the request would be forwarded to, by name.
    pub member: Option<(String, Whereabouts)>,
}

/// The request that is asked about.
pub struct Request {
    pub key: SessionKey,
    pub listener: String,
    pub upstream: String,
    /// Names of the upstream's peers, in order.
    pub peers: Vec<String>,
    /// This member.
    pub me: Option<String>,
    pub on_registry_failure: OnRegistryFailure,
    pub path: Option<String>,
    /// Server id and transport of the path; `None`: those of the session, whichever they are.
    pub scope: Option<(Option<String>, Transport)>,
}

/// A claim, and for how long it will stand unless it is used.
pub struct Kept {
    pub what: Claim,
    pub left: Option<Duration>,
}

/// What the gateway's own keys say.
pub enum Gateway {
    /// They were not needed, or cannot be there (embedded registry).
    NotAsked,
    /// `sessions.gateway_keys` is null.
    NotRead,
    /// They name no owner of the session, or may not be read.
    Silent,
    Failed(String),
    Word {
        word: Word,
        neighbour: Option<String>,
        left: Option<Duration>,
    },
}

/// Where the owner's member is.
pub enum Whereabouts {
    At(SocketAddr),
    Gone,
    Unknown(String),
    /// This Outrigger is no member and finds none.
    NoMember,
}

impl Findings {
    pub fn new(request: Request, registry: String, claim: Result<Option<Kept>, String>) -> Self {
        Self { request, registry, cached: false, claim, gateway: Gateway::NotAsked, member: None }
    }

    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref().ok()?.as_ref().map(|kept| &kept.what)
    }
}
