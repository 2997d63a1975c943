//! Room 4, locate: from what the registry knows of a session to where its request goes.
//! PURE: takes the registry's answer, what the request says of itself and the names of the peers; gives a [`Decision`].
//! Surprise: the scope is looked at first, so that a request under a wrong server id learns nothing and can release nothing.

use crate::registry::{Claim, Transport};

/// The registry could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// Where a request of a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// To this peer (its position), which owns the session.
    Here(usize),
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

/// Room 4 for a request that carries a session id. No request is ever sent to a peer that does not own its session.
///
/// `server_id`: that of the request's path, `None` on `/mcp` and its like. `peers`: the names of the upstream's peers, in order.
pub fn decide(
    asked: Result<Option<&Claim>, Failed>,
    server_id: Option<&str>,
    transport: Transport,
    peers: &[impl AsRef<str>],
) -> Decision {
    let claim = match asked {
        Err(Failed) => return Decision::Unavailable,
        Ok(None) => return Decision::Unclaimed,
        Ok(Some(claim)) => claim,
    };
    if claim.server_id.as_deref() != server_id {
        return Decision::WrongScope;
    }
    if claim.transport != transport {
        return Decision::WrongTransport;
    }
    peers.iter().position(|peer| peer.as_ref() == claim.peer).map_or(Decision::Lost, Decision::Here)
}

#[cfg(test)]
mod tests {
    use super::Decision::*;
    use super::*;
    use Transport::{HttpSse, StreamableHttp};

    fn claim(peer: &str, server_id: Option<&str>, transport: Transport) -> Claim {
        Claim { member: None, peer: peer.into(), server_id: server_id.map(Into::into), transport }
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

            // several things wrong: the scope speaks first, then the transport
            (Some(claim("w3",            a,            HttpSse)),           b,                       StreamableHttp,   WrongScope),
            (Some(claim("w3",            a,            HttpSse)),           a,                       StreamableHttp,   WrongTransport),

            (None,                                                          a,                       StreamableHttp,   Unclaimed),
            (None,                                                          unscoped,                HttpSse,          Unclaimed),
        ];
        for (claim, server_id, transport, decision) in table {
            let asked = Ok(claim.as_ref());
            assert_eq!(decide(asked, server_id, transport, &peers), decision, "{claim:?} at {server_id:?}, {transport:?}");
            assert_eq!(decide(Err(Failed), server_id, transport, &peers), Unavailable, "no answer is no owner");
        }
    }
}
