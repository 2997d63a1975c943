//! Room 4, the second source: from the gateway's own word on a session to where its request goes.
//! PURE: takes the worker that the gateway's key names and what is known of it; gives a [`Place`], and from that a [`Decision`].
//! Surprise: it is asked only where nobody claimed the session, because our own claim is the better witness: ContextForge's key
//! lives 300 seconds from its first writing, however busy the session is; once it is gone, the worker that is asked next enters
//! itself, owner or not; and 1.0.0rc1 enters itself for any id, even one that it answers with 404.

use super::owner::{Decision, seat};
use crate::registry::{Calibration, Word};

/// Where a worker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'k> {
    /// At this peer; of this member, if it is one of several.
    At { member: Option<&'k str>, peer: &'k str },
    /// At one of this member's peers, which one is the member's to say.
    AtMember(&'k str),
    /// Nowhere any more: its session is lost.
    Dead,
    /// Nobody has met it: the session counts as unclaimed.
    Unknown,
}

/// `neighbour`: the member with the worker's host name, if it is one alone. A gateway's container has the host name of its pod, and
/// so has the sidecar beside it.
pub fn place<'k>(word: &'k Word, neighbour: Option<&'k str>) -> Place<'k> {
    // Where heartbeats are not written (1.0.0rc1), that one is missing says nothing.
    let calibrated = word.calibrated.as_ref();
    let expected = calibrated.map_or(word.heartbeats_written, |calibrated| calibrated.heartbeats);
    if expected && !word.beats {
        return Place::Dead;
    }
    match (calibrated, neighbour) {
        (Some(Calibration { member, peer, .. }), _) => Place::At { member: member.as_deref(), peer },
        (None, Some(member)) => Place::AtMember(member),
        (None, None) => Place::Unknown,
    }
}

/// Where the request goes, as seen from member `me`, and whether whoever answers it owns the session: only where a peer was
/// named, or where a member has but one. Others may pass it on among themselves, for as long as the gateway's key lives.
///
/// `peers`: the names of the upstream's peers, in order; every member has as many.
pub fn decide<'k>(place: Place<'k>, me: Option<&str>, peers: &[impl AsRef<str>]) -> (Decision<'k>, bool) {
    match place {
        Place::At { member, peer } => (seat(member, peer, me, peers), true),
        Place::AtMember(member) if me == Some(member) => (Decision::Unclaimed, peers.len() == 1),
        Place::AtMember(member) => (Decision::At(member), peers.len() == 1),
        Place::Dead => (Decision::Lost, false),
        Place::Unknown => (Decision::Unclaimed, false),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Place::*;
    use super::*;
    use crate::registry::WorkerId;

    #[test]
    #[rustfmt::skip]
    fn where_a_worker_answers() {
        let learnt = |member: Option<&str>, heartbeats| Calibration { member: member.map(Into::into), peer: "w1".into(), heartbeats };
        let [old, new] = [false, true].map(|heartbeats| learnt(None, heartbeats));
        let [old_at_m2, new_at_m2] = [false, true].map(|heartbeats| learnt(Some("m2"), heartbeats));
        let here = At { member: None, peer: "w1" };
        let at_m2 = At { member: Some("m2"), peer: "w1" };
        let (beats, silent, written, never) = (true, false, true, false);
        let (m1, nobody) = (Some("m1"), None);
        let table = [
            // calibrated     | heartbeat | of the upstream | host name of | so it is
            // a mapping that was learnt wins over the host name
            (Some(&new),       beats,      written,          m1,            here),
            (Some(&new_at_m2), beats,      written,          m1,            at_m2),
            (Some(&new_at_m2), beats,      written,          nobody,        at_m2),
            // its own calibration knows best whether it has a heartbeat to lose
            (Some(&new),       silent,     written,          m1,            Dead),
            (Some(&new),       silent,     never,            m1,            Dead),
            (Some(&new_at_m2), silent,     written,          nobody,        Dead),
            (Some(&old),       silent,     never,            m1,            here),
            (Some(&old),       silent,     written,          nobody,        here),
            (Some(&old_at_m2), silent,     written,          m1,            at_m2),
            (Some(&old),       beats,      written,          m1,            here),
            // by host name
            (None,             beats,      written,          m1,            AtMember("m1")),
            (None,             beats,      never,            m1,            AtMember("m1")),
            (None,             silent,     never,            m1,            AtMember("m1")),
            (None,             silent,     written,          m1,            Dead),
            // nobody's
            (None,             beats,      written,          nobody,        Unknown),
            (None,             silent,     never,            nobody,        Unknown),
            (None,             silent,     written,          nobody,        Dead),
        ];
        for (calibrated, beats, heartbeats_written, neighbour, expected) in table {
            let worker = WorkerId::parse("pod-1:7").unwrap();
            let word = Word { worker, calibrated: calibrated.cloned(), beats, heartbeats_written };
            assert_eq!(place(&word, neighbour), expected, "{word:?}, {neighbour:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn where_its_request_goes_and_who_may_keep_the_session() {
        use Decision::{Here, Lost, Unclaimed};
        let (at, one, two) = (|member, peer| At { member, peer }, &["w1"][..], &["w1", "w2"][..]);
        let (owned, guessed) = (true, false);
        let table = [
            // the worker is             | peers | so its request goes     | and the answer is
            (at(None, "w2"),               two,    Here(1),                  owned),
            (at(Some("me"), "w1"),         two,    Here(0),                  owned),
            (at(Some("m2"), "w1"),         two,    Decision::At("m2"),       owned),
            (at(Some("m2"), "w9"),         one,    Decision::At("m2"),       owned),
            (at(None, "w9"),               two,    Lost,                     owned),
            (AtMember("me"),               one,    Unclaimed,                owned),
            (AtMember("me"),               two,    Unclaimed,                guessed),
            (AtMember("m2"),               one,    Decision::At("m2"),       owned),
            (AtMember("m2"),               two,    Decision::At("m2"),       guessed),
            (Dead,                         one,    Lost,                     guessed),
            (Unknown,                      one,    Unclaimed,                guessed),
            (Unknown,                      two,    Unclaimed,                guessed),
        ];
        for (place, peers, decision, owns) in table {
            assert_eq!(decide(place, Some("me"), peers), (decision, owns), "{place:?} with {peers:?}");
        }
        assert_eq!(decide(AtMember("m2"), None, one), (Decision::At("m2"), owned), "no member takes every member for another");
    }
}
