//! Room 4, locate: from what the registry knows of a session to where its request goes, and what it means when nobody is there.
//! PURE: takes the registry's answer, what the request says of itself and the names of the peers; gives a [`Decision`] or a [`Verdict`].
//! Surprise: the scope is looked at first, so that a request under a wrong server id learns nothing and can release nothing.

use crate::registry::{Claim, Transport};

/// The registry could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// Where a request of a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'c> {
    /// To this peer (its position), which owns the session.
    Here(usize),
    /// To the member of this name, one of whose peers owns the session.
    At(&'c str),
    /// Nobody claimed the session: it is from before our time, or forgotten. See [`rendezvous`](super::balance::rendezvous).
    Unclaimed,
    /// Its owner is no peer of the upstream any more. The claim is to be released; the client initialises again (404).
    Lost,
    /// It was opened under another server id, or under none: for this path it does not exist (404).
    WrongScope,
    /// It was opened with the other transport.
    WrongTransport,
    /// The registry does not answer; `sessions.on_registry_failure` decides.
    Unavailable,
}

/// What a request that carries a session id says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'r> {
    /// That of the request's path, `None` on `/mcp` and its like.
    pub server_id: Option<&'r str>,
    pub transport: Transport,
}

/// Room 4 for a request that carries a session id. No request is ever sent to a peer that does not own its session.
///
/// `me`: this member's name, if it is one of several. `peers`: the names of the upstream's peers, in order.
pub fn decide<'c>(
    asked: Result<Option<&'c Claim>, Failed>,
    asking: Asking<'_>,
    me: Option<&str>,
    peers: &[impl AsRef<str>],
) -> Decision<'c> {
    let claim = match asked {
        Err(Failed) => return Decision::Unavailable,
        Ok(None) => return Decision::Unclaimed,
        Ok(Some(claim)) => claim,
    };
    if claim.server_id.as_deref() != asking.server_id {
        return Decision::WrongScope;
    }
    if claim.transport != asking.transport {
        return Decision::WrongTransport;
    }
    seat(claim.member.as_deref(), &claim.peer, me, peers)
}

/// Where a peer is, as seen from here.
pub(super) fn seat<'c>(
    member: Option<&'c str>,
    peer: &str,
    me: Option<&str>,
    peers: &[impl AsRef<str>],
) -> Decision<'c> {
    match member {
        Some(member) if me != Some(member) => Decision::At(member),
        _ => peers.iter().position(|known| known.as_ref() == peer).map_or(Decision::Lost, Decision::Here),
    }
}

/// How the attempt to reach the owner's member ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Its machine said that nobody listens there.
    Refused,
    /// No connection or no handshake in time: dead, stopped, cut off or overloaded, who knows.
    Silent,
}

/// What the registry says about that member when it is asked anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// It withdrew, or has not been heard of for its time-to-live.
    Gone,
    /// At the very address that was tried.
    There,
    Elsewhere,
    /// The registry does not answer.
    Unknown,
}

/// What becomes of a request whose owner's member could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The session is over: its claim goes, the client initialises again (404).
    Lost,
    /// Once more, at its new address.
    Retry,
    /// It may come back, and the session with it (503, to be tried again).
    Unreachable,
}

/// Room 6 where TCP and the registry have to agree: a session is declared lost only on the word of both, or where the
/// registry has not heard of the member for longer than it may be silent.
pub fn judge(evidence: Evidence, listed: Listed) -> Verdict {
    match (evidence, listed) {
        (_, Listed::Gone) => Verdict::Lost,
        (_, Listed::Elsewhere) => Verdict::Retry,
        // Listeners are kept for the whole life of a sidecar: refused, it has ended and only its time-to-live has not.
        (Evidence::Refused, Listed::There) => Verdict::Lost,
        (Evidence::Silent, Listed::There) | (_, Listed::Unknown) => Verdict::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::*;
    use super::*;
    use Transport::{HttpSse, StreamableHttp};

    fn claim(peer: &str, server_id: Option<&str>, transport: Transport) -> Claim {
        Claim { member: None, peer: peer.into(), server_id: server_id.map(Into::into), transport }
    }

    fn at(member: &str, claim: Claim) -> Claim {
        Claim { member: Some(member.into()), ..claim }
    }

    #[test]
    #[rustfmt::skip]
    fn a_session_goes_to_its_owner_under_its_own_scope_and_transport() {
        let peers = ["w1", "w2"];
        let (a, b, unscoped) = (Some("a"), Some("b"), None);
        let table = [
            // the claim says            opened under  with               | the request comes under  with            | so it goes
            (Some(claim("w1",            a,            StreamableHttp)),    a,                       StreamableHttp,   Here(0)),
            (Some(claim("w2",            a,            StreamableHttp)),    a,                       StreamableHttp,   Here(1)),
            (Some(claim("w2",            unscoped,     StreamableHttp)),    unscoped,                StreamableHttp,   Here(1)),
            (Some(claim("w1",            a,            HttpSse)),           a,                       HttpSse,          Here(0)),

            (Some(claim("w1",            a,            StreamableHttp)),    b,                       StreamableHttp,   WrongScope),
            (Some(claim("w1",            a,            StreamableHttp)),    unscoped,                StreamableHttp,   WrongScope),
            (Some(claim("w1",            unscoped,     StreamableHttp)),    a,                       StreamableHttp,   WrongScope),
            (Some(claim("w1",            a,            StreamableHttp)),    Some("A"),               StreamableHttp,   WrongScope),
            (Some(claim("w1",            unscoped,     StreamableHttp)),    Some(""),                StreamableHttp,   WrongScope),

            (Some(claim("w1",            a,            StreamableHttp)),    a,                       HttpSse,          WrongTransport),
            (Some(claim("w1",            a,            HttpSse)),           a,                       StreamableHttp,   WrongTransport),

            (Some(claim("w3",            a,            StreamableHttp)),    a,                       StreamableHttp,   Lost),
            (Some(claim("",              a,            StreamableHttp)),    a,                       StreamableHttp,   Lost),

            // what is left of a lost session
            (Some(claim("w1",            a,            StreamableHttp).of_nobody()), a,              StreamableHttp,   Lost),
            (Some(at("m2", claim("w1",   a,            StreamableHttp)).of_nobody()), a,             StreamableHttp,   Lost),

            // several things wrong: the scope speaks first, then the transport
            (Some(claim("w3",            a,            HttpSse)),           b,                       StreamableHttp,   WrongScope),
            (Some(claim("w3",            a,            HttpSse)),           a,                       StreamableHttp,   WrongTransport),

            // claimed by a member: by this one, by another, by one that has our peer's name
            (Some(at("me", claim("w1",   a,            StreamableHttp))),   a,                       StreamableHttp,   Here(0)),
            (Some(at("me", claim("w3",   a,            StreamableHttp))),   a,                       StreamableHttp,   Lost),
            (Some(at("m2", claim("w1",   a,            StreamableHttp))),   a,                       StreamableHttp,   At("m2")),
            (Some(at("m2", claim("w9",   a,            StreamableHttp))),   a,                       StreamableHttp,   At("m2")),
            (Some(at("w1", claim("w1",   a,            HttpSse))),          a,                       HttpSse,          At("w1")),
            (Some(at("m2", claim("w1",   a,            StreamableHttp))),   b,                       StreamableHttp,   WrongScope),

            (None,                                                          a,                       StreamableHttp,   Unclaimed),
            (None,                                                          unscoped,                HttpSse,          Unclaimed),
        ];
        for (claim, server_id, transport, decision) in table {
            let asked = Ok(claim.as_ref());
            let asking = Asking { server_id, transport };
            assert_eq!(decide(asked, asking, Some("me"), &peers), decision, "{claim:?} at {server_id:?}, {transport:?}");
            assert_eq!(decide(Err(Failed), asking, Some("me"), &peers), Unavailable, "no answer is no owner");
        }
    }

    #[test]
    fn who_is_no_member_takes_every_member_for_another() {
        let claim = at("m1", claim("w1", None, StreamableHttp));
        let asking = Asking { server_id: None, transport: StreamableHttp };
        assert_eq!(decide(Ok(Some(&claim)), asking, None, &["w1"]), At("m1"));
    }

    #[test]
    #[rustfmt::skip]
    fn an_owner_that_cannot_be_reached() {
        use Evidence::*;
        use Listed::*;
        use Verdict::*;
        let table = [
            // the connection | the registry | so the client hears
            (Refused,           Gone,          Lost),
            (Refused,           There,         Lost),
            (Refused,           Elsewhere,     Retry),
            (Refused,           Unknown,       Unreachable),
            (Silent,            Gone,          Lost),
            (Silent,            There,         Unreachable),
            (Silent,            Elsewhere,     Retry),
            (Silent,            Unknown,       Unreachable),
        ];
        for (evidence, listed, verdict) in table {
            assert_eq!(judge(evidence, listed), verdict, "{evidence:?}, {listed:?}");
        }
    }
}
