//! Room 4, where no owner decides: which of several peers a request goes to.
//! PURE: takes names or candidates and, where chance is wanted, random numbers; gives the position of a peer.
//! Surprise: the two rules are opposites. A session id nobody claimed must always find the same peer; what has no session should not.

/// The peer for a session id that nobody claimed: the same on every member and in every generation, whatever the order of the
/// peers; when a peer goes, only its own sessions move (rendezvous hashing: Thaler and Ravishankar, 1998).
///
/// `session`: the session's key. `peers`: their names, at least one.
pub fn rendezvous(session: &[u8], peers: &[impl AsRef<str>]) -> usize {
    let scored = peers.iter().map(AsRef::as_ref).map(|peer| (score(session, peer), peer)).enumerate();
    scored.max_by_key(|(_, scored)| *scored).map_or(0, |(position, _)| position)
}

/// What speaks for a peer; the greatest is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its checks fail.
    Unhealthy,
    /// It could not be connected to a moment ago.
    SetAside,
    /// It is to be checked, and has not been yet.
    Unknown,
    /// Its checks succeed, or there are none.
    Good,
}

/// A peer that a request may go to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its position among the peers.
    pub peer: usize,
    pub standing: Standing,
    /// Requests in flight.
    pub load: usize,
    /// 1, or less while it comes back ([`share`](super::health::share)).
    pub share: f64,
}

/// The peer for a request without a session: of the best standing, the less loaded of two. A bad one is better than none: when all
/// are ill the checks may be, and an attempt fails no sooner than we would. `None` without candidates.
///
/// `random`: any 64 random bits at each call. A peer that comes back stands for election as often as its share says; idle, it would else
/// win every time and meet with all the requests at once.
pub fn choose(mut candidates: Vec<Candidate>, mut random: impl FnMut() -> u64) -> Option<usize> {
    let best = candidates.iter().map(|candidate| candidate.standing).max()?;
    candidates.retain(|candidate| candidate.standing == best);
    if candidates.iter().any(|candidate| candidate.share < 1.0) {
        let mut stands =
            |candidate: &Candidate| candidate.share >= 1.0 || fraction(random()) < candidate.share;
        let standing: Vec<Candidate> = candidates.iter().copied().filter(&mut stands).collect();
        if !standing.is_empty() {
            candidates = standing;
        }
    }
    least_loaded_of_two(&candidates, random()).map(|candidate| candidate.peer)
}

/// The less loaded of two drawn at random, the first drawn if they are equal
/// (Mitzenmacher, "The power of two choices", 2001).
fn least_loaded_of_two(candidates: &[Candidate], random: u64) -> Option<Candidate> {
    let (first, second) = two_of(candidates.len(), random)?;
    let (first, second) = (candidates[first], candidates[second]);
    Some(if second.load < first.load { second } else { first })
}

/// From 0 up to, and without, 1.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Two different numbers below `count`, or the same one twice if there is only one.
fn two_of(count: usize, random: u64) -> Option<(usize, usize)> {
    let (high, low) = ((random >> 32) as usize, random as u32 as usize);
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let first = low % count;
            Some((first, (first + 1 + high % (count - 1)) % count))
        }
    }
}

/// FNV-1a over both, then MurmurHash3's finaliser, without which names that differ in their last letter score alike. Fixed for
/// ever: generations of different versions must agree.
fn score(session: &[u8], peer: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in session.iter().chain(peer.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good(loads: &[usize]) -> Vec<Candidate> {
        let loads = loads.iter().enumerate();
        loads.map(|(peer, &load)| Candidate { peer, standing: Standing::Good, load, share: 1.0 }).collect()
    }

    /// Sessions that differ in four bytes only, which is worse than SHA-256 will ever be.
    fn session(n: u32) -> [u8; 32] {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn sessions_spread_evenly() {
        let peers = ["10.0.0.1:4444", "10.0.0.2:4444", "10.0.0.3:4444", "10.0.0.4:4444"];
        let mut shares = [0_u32; 4];
        for n in 0..40_000 {
            shares[rendezvous(&session(n), &peers)] += 1;
        }
        assert!(shares.iter().all(|share| (9_500..10_500).contains(share)), "{shares:?}");
    }

    #[test]
    fn the_choice_is_the_same_in_every_version() {
        let peers = ["w1", "w2", "w3"];
        let chosen: Vec<_> = (0..12).map(|n| rendezvous(&session(n), &peers)).collect();
        assert_eq!(chosen, [0, 0, 1, 1, 0, 2, 2, 2, 0, 2, 0, 0]);
    }

    #[test]
    #[rustfmt::skip]
    fn the_less_loaded_of_the_two_that_were_drawn() {
        let draw = |first: u64, step: u64| step << 32 | first;
        let table: [(&[usize], u64, Option<usize>); 7] = [
            // loads        drawn         chosen
            (&[],           draw(0, 0),   None),
            (&[9],          draw(7, 7),   Some(0)),
            (&[3, 2],       draw(0, 0),   Some(1)),
            (&[3, 2],       draw(1, 0),   Some(1)),
            (&[2, 2],       draw(1, 0),   Some(1)), // equal: the first drawn
            (&[5, 0, 4],    draw(2, 0),   Some(2)), // 2 and 0 are drawn, so idle 1 is not seen
            (&[5, 0, 4],    draw(2, 1),   Some(1)),
        ];
        for (loads, random, chosen) in table {
            assert_eq!(choose(good(loads), || random), chosen, "{loads:?} {random:#x}");
        }
    }

    #[test]
    fn a_better_standing_goes_before_load_and_the_worst_is_better_than_none() {
        use Standing::{Good, SetAside, Unhealthy, Unknown};
        for (standings, chosen) in [
            ([Good, Unknown, SetAside, Unhealthy], 0),
            ([Unhealthy, Unknown, SetAside, Unhealthy], 1),
            ([Unhealthy, Unhealthy, SetAside, Unhealthy], 2),
            ([Unhealthy, SetAside, Unknown, Good], 3),
        ] {
            let candidates = standings.into_iter().enumerate();
            let candidates = candidates.map(|(peer, standing)| Candidate {
                peer,
                standing,
                // The best has most to do.
                load: standing as usize * 10,
                share: 1.0,
            });
            assert_eq!(choose(candidates.collect(), || 7), Some(chosen), "{standings:?}");
        }
        let all_ill = [0, 5].map(|load| Candidate { peer: load, standing: Unhealthy, load, share: 1.0 });
        assert_eq!(choose(all_ill.to_vec(), || 7), Some(0), "the less loaded of the ill");
    }

    #[test]
    fn who_comes_back_gets_its_share_though_it_is_idle() {
        let (mut state, mut shares) = (0x9e37_79b9_7f4a_7c15_u64, [0_u32; 2]);
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..10_000 {
            let mut two = good(&[40, 0]);
            two[1].share = 0.25;
            shares[choose(two, &mut random).unwrap_or(9)] += 1;
        }
        assert!((2_300..2_700).contains(&shares[1]), "{shares:?}");
        let mut alone = good(&[3]);
        alone[0].share = 0.1;
        assert_eq!(choose(alone, &mut random), Some(0), "who is alone gets everything");
    }

    proptest! {
        #[test]
        fn when_a_peer_goes_only_its_sessions_move(n: u32, gone in 0_usize..4) {
            let peers = ["w1", "w2", "w3", "w4"];
            let chosen = peers[rendezvous(&session(n), &peers)];
            let left: Vec<_> = peers.into_iter().filter(|peer| *peer != peers[gone]).rev().collect();
            let chosen_after = left[rendezvous(&session(n), &left)];
            if chosen != peers[gone] {
                prop_assert_eq!(chosen, chosen_after);
            }
        }

        #[test]
        fn the_most_loaded_of_all_is_never_chosen(
            loads in proptest::collection::vec(0_usize..100, 2..9),
            random: u64,
        ) {
            let chosen = choose(good(&loads), || random).unwrap_or(99);
            let lighter = loads.iter().filter(|load| **load < loads[chosen]).count();
            prop_assert!(lighter <= loads.len() - 2, "{chosen} of {loads:?}");
        }
    }
}
