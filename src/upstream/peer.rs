//! One address that we connect to: where it is, how busy it is, and whether it was reachable lately.
//! Takes the outcomes of connections, gives load and standing to whoever chooses. Surprise: only connections and handshakes that fail set
//! a peer aside, and the first that succeeds brings it back. A 5xx or a slow answer is as often the tool's fault as the peer's; whether
//! the peer itself is well is for its checks to say (`health`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;

use super::health::Watched;
use crate::config::settings::{Health, PeerAddress};
use crate::routing::balance::Standing;

/// How long a name's address is believed.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
/// First and longest time that an unreachable peer is set aside.
const SET_ASIDE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

static EPOCH: Lazy<Instant> = Lazy::new(Instant::now);

pub struct Peer {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// What its checks say.
    pub health: Watched,
    literal: Option<SocketAddr>,
    resolved: Mutex<Option<(Instant, SocketAddr)>>,
    in_flight: AtomicUsize,
    failures: AtomicU32,
    /// Milliseconds since the process' epoch.
    set_aside_until: AtomicU64,
}

impl Peer {
    /// `health`: how it will be checked, if at all.
    pub fn new(peer: &PeerAddress, health: Option<&Health>) -> Self {
        Lazy::force(&EPOCH);
        Self {
            name: peer.name.clone(),
            host: peer.host.clone(),
            port: peer.port,
            health: Watched::new(health),
            literal: peer.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, peer.port)),
            resolved: Mutex::new(None),
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            set_aside_until: AtomicU64::new(0),
        }
    }

    /// The peer's address; a name is looked up off this thread and believed for a few seconds.
    pub async fn resolve(&self) -> std::io::Result<SocketAddr> {
        if let Some(address) = self.literal {
            return Ok(address);
        }
        if let Some((since, address)) = *self.resolved.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
            && since.elapsed() < RESOLVED_FOR
        {
            return Ok(address);
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?.next();
        let address = found.ok_or_else(|| std::io::Error::other("the name has no address"))?;
        *self.resolved.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some((Instant::now(), address));
        Ok(address)
    }

    /// Where it was found last, however long ago.
    pub fn known_address(&self) -> Option<IpAddr> {
        let resolved = *self.resolved.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.literal.or(resolved.map(|(_, address)| address)).map(|address| address.ip())
    }

    /// Requests in flight.
    pub fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request for as long as the guard lives.
    pub fn busy(&self) -> Busy<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// What its checks and its connections say together.
    pub fn standing(&self) -> Standing {
        let checked = self.health.standing();
        if self.is_set_aside() { checked.min(Standing::SetAside) } else { checked }
    }

    /// A connection to it failed a moment ago.
    pub fn is_set_aside(&self) -> bool {
        now_ms() < self.set_aside_until.load(Ordering::Relaxed)
    }

    /// Connections in a row that failed.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn reached(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.set_aside_until.store(0, Ordering::Relaxed);
    }

    /// A connection failed: sets the peer aside and says for how long.
    pub fn failed(&self) -> Duration {
        let before = self.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let pause = (SET_ASIDE.0 * 2u32.pow(before)).min(SET_ASIDE.1);
        let until = now_ms() + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.set_aside_until.store(until, Ordering::Relaxed);
        pause
    }
}

/// Peers are chosen by name.
impl AsRef<str> for Peer {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// One request in flight at a peer.
pub struct Busy<'p>(&'p Peer);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn now_ms() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A cheap random number for choosing between peers (not for secrets): xorshift, seeded per thread.
pub fn random() -> u64 {
    use std::cell::Cell;
    use std::hash::{BuildHasher, RandomState};
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0u8) | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusing_peer_is_set_aside_and_comes_back_at_once() {
        let peer = Peer::new(&PeerAddress { name: "p".into(), host: "127.0.0.1".into(), port: 1 }, None);
        assert!(!peer.is_set_aside());
        assert_eq!(peer.failed(), Duration::from_millis(500));
        assert_eq!(peer.failed(), Duration::from_secs(1));
        assert!(peer.is_set_aside());
        peer.reached();
        assert!(!peer.is_set_aside());
        for _ in 0..40 {
            peer.failed();
        }
        assert_eq!(peer.failed(), Duration::from_secs(15));
    }

    #[test]
    fn load_counts_what_is_in_flight() {
        let peer = Peer::new(&PeerAddress { name: "p".into(), host: "::1".into(), port: 1 }, None);
        let (one, two) = (peer.busy(), peer.busy());
        assert_eq!(peer.load(), 2);
        drop(one);
        drop(two);
        assert_eq!(peer.load(), 0);
    }
}
