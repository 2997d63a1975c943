//! The hop, on its first side: a request whose session another member holds goes there, finished, and the answer comes back raw.
//! Takes the owner's member and the wire form, gives an [`Answer`] as a peer's would be. Surprise: the body is not sent until the other member
//! has greeted; so a member that died, stopped or was replaced costs one short wait, and nothing is ever run twice.

use std::net::SocketAddr;

use http::HeaderMap;
use pingora_core::protocols::Stream;
use pingora_proxy::Session;

use crate::account::Record;
use crate::error::Fault;
use crate::members::{Members, NoGreeting};
use crate::routing::hop::{HOP_FAULT, HOP_PEER, Hop, unescape};
use crate::routing::owner::{Evidence, Verdict, judge};

use super::connection::{Answer, Source, receive};
use super::outbound::Outbound;
use super::ownership::{Far, Owner};
use super::request::Inbound;
use super::{Exchange, Stop};

impl<'e> Exchange<'e> {
    /// What the other member has to know of the request; `None` if it stays here. `request`: its number in the access log.
    pub(crate) fn hop<'h>(&'h self, owner: &'h Owner, inbound: &'h Inbound, request: u64) -> Option<Hop<'h>> {
        let (Owner::Far(far), Some(named)) = (owner, &inbound.session) else { return None };
        Some(Hop {
            to: far.member.as_str().into(),
            from: self.app.me().unwrap_or_default().into(),
            request: format!("{request:016x}").into(),
            upstream: self.upstream.name.as_str().into(),
            peer: far.peer.as_deref().map(Into::into),
            session: named.key,
            route: self.target.kind().as_str().into(),
            server_id: self.target.server_id.as_deref().map(Into::into),
            era: inbound.era.as_str().into(),
            method: inbound.rpc_method.as_deref().map(Into::into),
        })
    }

    /// Sends the request to the session's member, or learns what became of that.
    pub(crate) async fn forward(
        &self,
        session: &mut Session,
        far: &Far,
        outbound: &Outbound,
        inbound: &Inbound,
        record: &mut Record,
    ) -> Result<Answer<'e>, Stop> {
        let Some(members) = &self.app.members else {
            log::error!(
                "a session is owned by member {}, but this Outrigger is none: it has no `member`",
                far.member
            );
            return Err(Fault::OwnerUnreachable.into());
        };
        record.member = Some(far.member.clone());
        let (head, body) = outbound.wire.split_at(outbound.body_at);
        let mut reached = self.reach(members, far, head, inbound, record).await?;
        self.app.counters.forwarded.inc();
        match receive(session, self.app, reached.stream, body).await {
            Ok((http, mut head)) => {
                record.first_byte = Some(record.started.elapsed());
                if let Some(kind) = text(&head.headers, HOP_FAULT) {
                    log::warn!("member {}: {kind}", far.member);
                    return Err(self.failed_there(Fault::of_member(kind), inbound).await);
                }
                let peer = text(&head.headers, HOP_PEER).and_then(unescape).unwrap_or_default().into_owned();
                head.remove_header(HOP_PEER);
                record.member_peer = Some(peer.clone());
                let member = std::mem::take(&mut reached.member);
                Ok(Answer { head, http, source: Source::Far { member, peer, address: reached.address } })
            }
            Err(failed) => Err(failed.stop(format_args!("member {}", far.member))),
        }
    }

    /// A connection at whose other end the session's member has greeted.
    async fn reach(
        &self,
        members: &Members,
        far: &Far,
        head: &[u8],
        inbound: &Inbound,
        record: &mut Record,
    ) -> Result<Reached, Stop> {
        let member = &far.member;
        let mut address = match members.find(member).await {
            Ok(Some(address)) => address,
            Ok(None) => return Err(self.lost(inbound).await.into()),
            Err(reason) => {
                log::warn!("member {member} cannot be found: {reason}");
                return Err(Fault::OwnerUnreachable.into());
            }
        };
        let mut moved = false;
        loop {
            record.attempts += 1;
            let evidence = match greeted(members, address, head).await {
                Ok(stream) => return Ok(Reached { stream, member: member.clone(), address }),
                Err(evidence) => evidence,
            };
            let (listed, now_at) = members.look_again(member, address).await;
            match judge(evidence, listed) {
                Verdict::Lost => return Err(self.lost(inbound).await.into()),
                Verdict::Retry if !moved => (address, moved) = (now_at, true),
                Verdict::Retry | Verdict::Unreachable => return Err(Fault::OwnerUnreachable.into()),
            }
        }
    }

    async fn failed_there(&self, fault: Fault, inbound: &Inbound) -> Stop {
        match fault {
            Fault::SessionLost => self.lost(inbound).await.into(),
            fault => fault.into(),
        }
    }
}

struct Reached {
    stream: Stream,
    member: String,
    address: SocketAddr,
}

/// A kept-alive connection that broke says nothing; then a new one has to tell.
async fn greeted(members: &Members, address: SocketAddr, head: &[u8]) -> Result<Stream, Evidence> {
    if let Some(mut stream) = members.pooled(address) {
        match members.greet(&mut stream, head).await {
            Ok(()) => return Ok(stream),
            Err(NoGreeting::Silent) => return Err(Evidence::Silent),
            Err(NoGreeting::Broken(_)) => {}
        }
    }
    let mut stream = members.connect(address).await?;
    match members.greet(&mut stream, head).await {
        Ok(()) => Ok(stream),
        Err(refusal) => {
            log::warn!("the member at {address} did not greet: {refusal:?}");
            Err(Evidence::Silent)
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
