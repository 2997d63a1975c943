//! The sockets that a configuration asks for: which address how often, under which names, and how many can be handed over. PURE.
//! `check` asks how many threads fit, the supervisor what to open, the worker what its sockets are called: one rule, one place.
//! Surprise: Pingora's handoff drops what is beyond its bounds without a word, so whatever passes here must fit.

use std::net::SocketAddr;

use super::settings::{Listener, Member, Settings};

/// Pingora hands at most this many sockets to a new process (pingora-core 0.9.1, transfer_fd/mod.rs), and 2048 bytes of
/// their names, which that many never reach.
pub const MAX_SOCKETS: usize = 32;

/// The name under which shard `shard` of `address` is handed over: what the worker gives Pingora as its listen address.
pub fn handoff_name(address: SocketAddr, shard: usize) -> String {
    format!("{address}#{shard}")
}

/// Whether only one of these addresses can be listened on at a time: they are one, or one of them is every address of that port.
pub fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let either_is_all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (one == other || either_is_all)
}

/// Every address to listen on, with its number of shards (accept loops).
pub fn wanted(settings: &Settings) -> Vec<(SocketAddr, usize)> {
    let Settings { listeners, member, admin, threads, .. } = settings;
    let Demand { per_thread, once } = Demand::of(listeners, member.as_ref(), *admin);
    let shared = per_thread.into_iter().map(|address| (address, *threads));
    shared.chain(once.map(|address| (address, 1))).collect()
}

/// Addresses by how often each is opened.
pub struct Demand {
    /// Where requests come in: every thread accepts by itself.
    pub per_thread: Vec<SocketAddr>,
    /// The admin listener.
    pub once: Option<SocketAddr>,
}

impl Demand {
    pub fn of(listeners: &[Listener], member: Option<&Member>, admin: Option<SocketAddr>) -> Self {
        let listeners = listeners.iter().flat_map(|listener| &listener.addresses);
        let member = member.into_iter().flat_map(|member| &member.addresses);
        Self { per_thread: listeners.chain(member).copied().collect(), once: admin }
    }

    /// With this many threads the handoff carries everything; 0 = it cannot.
    pub fn most_threads(&self) -> usize {
        (MAX_SOCKETS - usize::from(self.once.is_some())) / self.per_thread.len().max(1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn names_say_address_and_shard() {
        assert_eq!(handoff_name(address("127.0.0.1:8080"), 0), "127.0.0.1:8080#0");
        assert_eq!(handoff_name(address("[::1]:8080"), 3), "[::1]:8080#3");
    }

    #[test]
    fn the_wildcard_address_collides_with_all_of_its_port_and_kind() {
        for (one, other, collides) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "0.0.0.0:81", false),
            ("[::1]:80", "[::]:80", true),
            ("[::]:80", "0.0.0.0:80", false),
        ] {
            assert_eq!(collide(address(one), address(other)), collides, "{one} {other}");
            assert_eq!(collide(address(other), address(one)), collides, "{other} {one}");
        }
    }

    #[test]
    fn as_many_threads_as_leave_room_for_the_admin_socket() {
        for (per_thread, admin, threads) in
            [(1, false, 32), (1, true, 31), (16, false, 2), (16, true, 1), (31, true, 1), (32, true, 0)]
        {
            let demand = Demand {
                per_thread: vec![address("127.0.0.1:1"); per_thread],
                once: admin.then(|| address("127.0.0.1:2")),
            };
            assert_eq!(demand.most_threads(), threads, "{per_thread} addresses, admin: {admin}");
        }
    }

    /// Pingora sends the sockets' names joined by spaces in 2048 bytes and cuts off the rest.
    #[test]
    fn the_longest_names_of_all_sockets_fit_the_handoff() {
        let longest = address("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
        let name = handoff_name(longest, MAX_SOCKETS - 1);
        assert!(MAX_SOCKETS * (name.len() + " ".len()) <= 2048);
    }
}
