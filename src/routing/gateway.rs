//! Room 4, the second source: from the gateway's own word on a session to where its request goes.
//! PURE: takes the worker that the gateway's key names and what is known of it; gives a [`Place`].
//! Surprise: it is asked only where nobody claimed the session, because our own claim is the better witness: ContextForge's key
//! lives 300 seconds from its first writing, however busy the session is; once it is gone, the worker that is asked next enters
//! itself, owner or not; and 1.0.0rc1 enters itself for any id, even one that it answers with 404.

use crate::registry::Calibration;

/// What is known of a worker that a key of the gateway's names.
#[derive(Debug, Clone, Copy)]
pub struct Known<'k> {
    pub calibrated: Option<&'k Calibration>,
    /// Whether its heartbeat is there.
    pub beats: bool,
    /// Whether any worker of this upstream was ever seen to have a heartbeat.
    pub heartbeats_written: bool,
}

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
pub fn place<'k>(known: Known<'k>, neighbour: Option<&'k str>) -> Place<'k> {
    // Where heartbeats are not written (1.0.0rc1), that one is missing says nothing.
    let expected = known.calibrated.map_or(known.heartbeats_written, |calibrated| calibrated.heartbeats);
    if expected && !known.beats {
        return Place::Dead;
    }
    match (known.calibrated, neighbour) {
        (Some(Calibration { member, peer, .. }), _) => Place::At { member: member.as_deref(), peer },
        (None, Some(member)) => Place::AtMember(member),
        (None, None) => Place::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::Place::*;
    use super::*;

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
            let known = Known { calibrated, beats, heartbeats_written };
            assert_eq!(place(known, neighbour), expected, "{known:?}, {neighbour:?}");
        }
    }
}
