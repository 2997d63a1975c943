//! The listening sockets: bound once, kept for the supervisor's life, handed to every generation under agreed names.
//! Takes addresses with their number of shards (accept loops); gives sockets, and sends them with Pingora's fd table.
//! Surprise: a reload opens `Sockets` anew, but an address that stays keeps the very same socket and its backlog.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use pingora_core::server::Fds;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::sockets::{collide, handoff_name};

/// What `listen` is asked for; the kernel lowers it to `net.core.somaxconn`. Pingora asks for the same.
const BACKLOG: i32 = 65535;

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
    /// Of our own that has its port as long as it serves: one of the two is the wildcard address.
    pub in_the_way: Option<SocketAddr>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, cause, in_the_way } = self;
        match in_the_way {
            None => write!(f, "cannot listen on {address}: {cause}"),
            Some(other) => write!(
                f,
                "cannot listen on {address} as long as {other} serves: go by way of another port, or restart"
            ),
        }
    }
}

/// The sockets of one configuration. They close when the last configuration that has them is dropped.
#[derive(Clone, Default)]
pub struct Sockets(Vec<Listening>);

#[derive(Clone)]
struct Listening {
    address: SocketAddr,
    shards: usize,
    socket: Arc<Socket>,
}

impl Sockets {
    /// Opens what is wanted; sockets that `kept` has are taken from there.
    ///
    /// # Errors
    /// The first address that cannot be bound; what was opened before it is closed again.
    pub fn open(wanted: &[(SocketAddr, usize)], kept: Option<&Self>) -> Result<Self, BindError> {
        let open = |&(address, shards): &(SocketAddr, usize)| {
            let socket = match kept.and_then(|kept| kept.find(address)) {
                Some(socket) => socket,
                None => Arc::new(listen(address).map_err(|cause| {
                    let in_the_way = kept.and_then(|kept| kept.in_the_way_of(address));
                    BindError { address, cause, in_the_way }
                })?),
            };
            Ok(Listening { address, shards, socket })
        };
        wanted.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Sends every socket, once for each of its shards, to the Pingora that listens on `upgrade_sock`. Blocks, up to
    /// 5 s where nothing listens there.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn send(&self, upgrade_sock: &Path) -> io::Result<()> {
        let mut fds = Fds::new();
        for listening in &self.0 {
            for name in names(listening.address, listening.shards) {
                fds.add(name, listening.socket.as_raw_fd());
            }
        }
        let path = upgrade_sock.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        fds.send_to_sock(path)?;
        Ok(())
    }

    fn in_the_way_of(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.0.iter().map(|listening| listening.address).find(|other| collide(*other, address))
    }

    fn find(&self, address: SocketAddr) -> Option<Arc<Socket>> {
        self.0.iter().find(|listening| listening.address == address).map(|listening| listening.socket.clone())
    }
}

fn names(address: SocketAddr, shards: usize) -> impl Iterator<Item = String> {
    (0..shards).map(move |shard| handoff_name(address, shard))
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    // Pingora does not make an inherited socket non-blocking, and a blocking one would park a worker thread in accept.
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_stays_keeps_its_socket() {
        let first = Sockets::open(&[(address("127.0.0.1:0"), 2)], None).unwrap();
        let local = first.0[0].socket.local_addr().unwrap();
        let second =
            Sockets::open(&[(address("127.0.0.1:0"), 2), (address("[::1]:0"), 1)], Some(&first)).unwrap();
        assert_eq!(second.0[0].socket.local_addr().unwrap().as_socket(), local.as_socket());
        drop(first);
        TcpStream::connect(local.as_socket().unwrap()).unwrap();
        drop(second);
        let refused = TcpStream::connect(local.as_socket().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_taken_address_is_refused_by_name() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = taken.local_addr().unwrap();
        let refused = Sockets::open(&[(local, 1)], None).map(|_| ()).unwrap_err();
        assert!(refused.to_string().starts_with(&format!("cannot listen on {local}: ")), "{refused}");
    }

    /// The wildcard address takes in every other of its port, and the kernel does not give away what is listened on.
    #[test]
    fn our_own_address_that_is_in_the_way_is_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (exact, all) = (address(&format!("127.0.0.1:{port}")), address(&format!("0.0.0.0:{port}")));
        for (old, new) in [(exact, all), (all, exact)] {
            let served = Sockets::open(&[(old, 1)], None).unwrap();
            let refused = Sockets::open(&[(new, 1)], Some(&served)).map(|_| ()).unwrap_err();
            assert_eq!(refused.in_the_way, Some(old));
            let said = format!("cannot listen on {new} as long as {old} serves");
            assert!(refused.to_string().starts_with(&said), "{refused}");
        }
    }

    #[test]
    fn every_shard_arrives_under_its_name() {
        let folder = std::env::temp_dir().join(format!("outrigger-sockets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("up.sock");
        let receiver = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut fds = Fds::new();
                fds.get_from_sock(path.to_str().unwrap()).map(|()| fds)
            }
        });
        let sockets = Sockets::open(&[(address("127.0.0.1:0"), 3)], None).unwrap();
        sockets.send(&path).unwrap();
        let fds = receiver.join().unwrap().unwrap();
        let mut received = fds.serialize().0;
        received.sort();
        assert_eq!(received, ["127.0.0.1:0#0", "127.0.0.1:0#1", "127.0.0.1:0#2"]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
