//! Room 4, the second source: from the gateway's own word on a session to where its request goes.
//! PURE: takes the worker that the gateway's key names and what is known of it; gives a [`Place`].
//! Surprise: it is asked only where nobody claimed the session, because our own claim is the better witness: ContextForge's key
//! lives 300 seconds from its first writing, however busy the session is; once it is gone, the worker that is asked next enters
//! itself, owner or not; and 1.0.0rc1 enters itself for any id, even one that it answers with 404.

use crate::registry::{Calibration, WorkerId};

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

/// `members`: host name and name of each. A gateway's container has the host name of its pod, and so has the sidecar beside it.
pub fn place<'k>(
    worker: &WorkerId,
    known: Known<'k>,
    members: impl IntoIterator<Item = (&'k str, &'k str)>,
) -> Place<'k> {
    // Where heartbeats are not written (1.0.0rc1), that one is missing says nothing.
    let expected = known.calibrated.map_or(known.heartbeats_written, |calibrated| calibrated.heartbeats);
    if expected && !known.beats {
        return Place::Dead;
    }
    if let Some(Calibration { member, peer, .. }) = known.calibrated {
        return Place::At { member: member.as_deref(), peer };
    }
    let mut neighbours = members.into_iter().filter(|(host, _)| host.eq_ignore_ascii_case(worker.host()));
    match (neighbours.next(), neighbours.next()) {
        (Some((_, member)), None) => Place::AtMember(member),
        // Several members on one machine: the host name tells them from the others, not from each other.
        (Some(_), Some(_)) | (None, _) => Place::Unknown,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
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
        let table = [
            // the key says | calibrated     | heartbeat | of the upstream | so it is
            // a mapping that was learnt wins over the host name, which may be that of another member
            ("pod-1:7",      Some(&new),       beats,      written,          here),
            ("pod-1:7",      Some(&new_at_m2), beats,      written,          at_m2),
            ("nowhere:7",    Some(&new_at_m2), beats,      written,          at_m2),
            ("twins:7",      Some(&new_at_m2), beats,      written,          at_m2),
            // its own calibration knows best whether it has a heartbeat to lose
            ("pod-1:7",      Some(&new),       silent,     written,          Dead),
            ("pod-1:7",      Some(&new),       silent,     never,            Dead),
            ("pod-1:7",      Some(&new_at_m2), silent,     written,          Dead),
            ("pod-1:7",      Some(&old),       silent,     never,            here),
            ("pod-1:7",      Some(&old),       silent,     written,          here),
            ("pod-1:7",      Some(&old_at_m2), silent,     written,          at_m2),
            ("pod-1:7",      Some(&old),       beats,      written,          here),
            // by host name
            ("pod-1:7",      None,             beats,      written,          AtMember("m1")),
            ("pod-1:8",      None,             beats,      written,          AtMember("m1")),
            ("POD-2:1",      None,             beats,      never,            AtMember("m2")),
            ("pod-2:1",      None,             silent,     never,            AtMember("m2")),
            ("pod-2:1",      None,             silent,     written,          Dead),
            // one host name, two members
            ("twins:1",      None,             beats,      written,          Unknown),
            ("twins:1",      None,             silent,     written,          Dead),
            // nobody's
            ("pod-22:1",     None,             beats,      written,          Unknown),
            ("pod:1",        None,             silent,     never,            Unknown),
            ("pod-22:1",     None,             silent,     written,          Dead),
        ];
        let members = [("pod-1", "m1"), ("pod-2", "m2"), ("twins", "m3"), ("twins", "m4")];
        for (worker, calibrated, beats, heartbeats_written, expected) in table {
            let known = Known { calibrated, beats, heartbeats_written };
            let worker = WorkerId::parse(worker).unwrap();
            assert_eq!(place(&worker, known, members), expected, "{worker}: {known:?}");
        }
    }

    #[test]
    fn who_is_alone_knows_no_host_names() {
        let known = Known { calibrated: None, beats: true, heartbeats_written: true };
        assert_eq!(place(&WorkerId::parse("pod-1:7").unwrap(), known, []), Unknown);
    }
}
