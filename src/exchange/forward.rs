//! The hop, on its first side: a request whose session another member holds goes there, finished, and the answer comes back raw.
//! Takes the owner's member and the wire form, gives an [`Answer`] as a peer's would be. Surprise: the body is not sent until the other member
//! has greeted; so a member that died, stopped or was replaced costs one short wait, and nothing is ever run twice.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
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
        let mut way = Way { members, far, address: self.find(members, far, inbound).await?, moved: false };
        // The other member keeps the time for the first byte; and what has a length it may hold until it is whole (Pingora's
        // write buffer), for as long as the peer may be silent in it.
        let first_byte = self.app.settings.timeouts.first_byte + self.app.settings.timeouts.response_idle;
        loop {
            let room = record.trace.room("connect");
            let stream = self.reach(&mut way, head, inbound, record).await?;
            drop(room);
            self.app.counters.forwarded.inc();
            let room = record.trace.room("send and receive");
            let received = receive(session, self.app, stream, body, first_byte).await;
            drop(room);
            let (http, mut head) =
                received.map_err(|failed| failed.stop(format_args!("member {}", far.member)))?;
            record.first_byte = Some(record.started.elapsed());
            match text(&head.headers, HOP_FAULT).map(Fault::of_member) {
                None => {
                    let peer = text(&head.headers, HOP_PEER).and_then(unescape).unwrap_or_default();
                    let source = Source::Far {
                        member: far.member.clone(),
                        peer: peer.into_owned(),
                        address: way.address,
                    };
                    head.remove_header(HOP_PEER);
                    record.member_peer = Some(source.peer_name(self.upstream).to_owned());
                    return Ok(Answer { head, http, source });
                }
                Some(fault) => {
                    give_back(&way, http, &head.headers).await;
                    self.failed_there(&mut way, fault, inbound).await?;
                }
            }
        }
    }

    async fn find(&self, members: &Members, far: &Far, inbound: &Inbound) -> Result<SocketAddr, Stop> {
        match members.find(&far.member).await {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(self.lost(inbound).await.into()),
            Err(reason) => {
                log::warn!("member {} cannot be found: {reason}", far.member);
                Err(Fault::OwnerUnreachable.into())
            }
        }
    }

    /// A connection at whose other end a member has greeted.
    async fn reach(
        &self,
        way: &mut Way<'_>,
        head: &[u8],
        inbound: &Inbound,
        record: &mut Record,
    ) -> Result<Stream, Stop> {
        loop {
            record.attempts += 1;
            match greeted(way.members, way.address, head).await {
                Ok(stream) => return Ok(stream),
                Err(evidence) => self.turn(way, evidence, inbound, Fault::OwnerUnreachable).await?,
            }
        }
    }

    /// What the other member says went wrong. One that is not the right one is no evidence of the right one's death.
    async fn failed_there(&self, way: &mut Way<'_>, fault: Fault, inbound: &Inbound) -> Result<(), Stop> {
        log::warn!("member {}: {}", way.far.member, fault.kind());
        match fault {
            Fault::SessionLost => Err(self.lost(inbound).await.into()),
            Fault::ForwardedTwice => self.turn(way, Evidence::Silent, inbound, fault).await,
            fault => Err(fault.into()),
        }
    }

    /// Nobody, or somebody else, is where the member should be: `Ok` = another try is worth while, at its new address.
    /// `else_fault`: what it is if the member is still there by the registry's word.
    async fn turn(
        &self,
        way: &mut Way<'_>,
        evidence: Evidence,
        inbound: &Inbound,
        else_fault: Fault,
    ) -> Result<(), Stop> {
        let (listed, now_at) = way.members.look_again(&way.far.member, way.address).await;
        match judge(evidence, listed) {
            Verdict::Lost => Err(self.lost(inbound).await.into()),
            Verdict::Retry if !way.moved => {
                (way.address, way.moved) = (now_at, true);
                Ok(())
            }
            Verdict::Retry | Verdict::Unreachable => Err(else_fault.into()),
        }
    }
}

/// Where the session's member is looked for.
struct Way<'w> {
    members: &'w Members,
    far: &'w Far,
    address: SocketAddr,
    /// It was found at another address than before; once is enough.
    moved: bool,
}

/// A member that had to fail a request is well itself: its connection carries the next one.
async fn give_back(way: &Way<'_>, mut http: Box<Http1>, headers: &HeaderMap) {
    let ended =
        text(headers, "content-length") == Some("0") && matches!(http.read_body_bytes().await, Ok(None));
    if ended && let Some(stream) = http.reuse().await {
        way.members.keep(way.address, stream);
    }
}

/// How often a new connection that breaks before its greeting is tried again, and after what pause: a process that is being
/// killed still accepts for a moment, and then the machine says that nobody is there.
const AGAIN: (usize, Duration) = (2, Duration::from_millis(20));

/// A connection at whose other end a member has greeted. A kept-alive one that broke says nothing; then a new one has to tell.
async fn greeted(members: &Members, address: SocketAddr, head: &[u8]) -> Result<Stream, Evidence> {
    if let Some(mut stream) = members.pooled(address) {
        match members.greet(&mut stream, head).await {
            Ok(()) => return Ok(stream),
            Err(NoGreeting::Silent) => return Err(Evidence::Silent),
            Err(NoGreeting::Refused | NoGreeting::Broken(_)) => {}
        }
    }
    for _ in 0..=AGAIN.0 {
        let refusal = match meet(members, address, head).await {
            Ok(stream) => return Ok(stream),
            Err(refusal) => refusal,
        };
        log::warn!("the member at {address} does not greet: {refusal:?}");
        match refusal {
            NoGreeting::Refused => return Err(Evidence::Refused),
            NoGreeting::Silent => break,
            NoGreeting::Broken(_) => tokio::time::sleep(AGAIN.1).await,
        }
    }
    Err(Evidence::Silent)
}

async fn meet(members: &Members, address: SocketAddr, head: &[u8]) -> Result<Stream, NoGreeting> {
    let mut stream = members.connect(address).await?;
    members.greet(&mut stream, head).await?;
    Ok(stream)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
