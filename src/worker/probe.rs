//! The probe: proof that this generation's own listeners accept, before it says `ready`.
//! Takes the listeners' addresses, connects to each as a client would (TLS too), gives up or returns. Surprise: an older generation accepts from
//! the same sockets, so a connection proves nothing until our own gate has seen the prober's address.

use std::collections::{HashSet, VecDeque};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use crate::config::settings::Settings;
use crate::material::Identity;

/// How long the first connection may take to be seen before another is tried; doubled each time.
const FIRST_TRY: Duration = Duration::from_millis(10);
const LONGEST_TRY: Duration = Duration::from_millis(300);
/// Connections held open at a time.
const MOST_HELD: usize = 8;

/// Addresses of connections that the gate has accepted while probing.
pub struct Probe {
    probing: AtomicBool,
    seen: Mutex<HashSet<SocketAddr>>,
    arrived: Condvar,
}

impl Default for Probe {
    fn default() -> Self {
        Self { probing: AtomicBool::new(true), seen: Mutex::default(), arrived: Condvar::new() }
    }
}

impl Probe {
    /// The gate accepted a connection from `peer`; free of cost once the worker is ready.
    pub fn accepted(&self, peer: SocketAddr) {
        if self.probing.load(Ordering::Relaxed) {
            let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            seen.insert(peer);
            self.arrived.notify_all();
        }
    }

    /// Whether this generation is still looking for its own listeners.
    pub fn under_way(&self) -> bool {
        self.probing.load(Ordering::Relaxed)
    }

    /// Connects to every address of every listener until each was accepted by this process, or until `deadline`.
    /// `member_identity`: what members show each other, if they speak TLS.
    pub fn run(
        &self,
        settings: &Settings,
        member_identity: Option<&Identity>,
        deadline: Instant,
    ) -> Result<(), String> {
        for listener in &settings.listeners {
            let knock = match &listener.tls {
                // Where clients must show a certificate, we have none to show, and a handshake that fails would be one more to report.
                Some(tls) if tls.clients.as_ref().is_none_or(|clients| !clients.required) => Manner::Tls,
                _ => Manner::Plain,
            };
            for address in &listener.addresses {
                self.reach(*address, knock, deadline)
                    .map_err(|last| format!("listener {} at {address}: {last}", listener.name))?;
            }
        }
        if let Some(member) = &settings.member {
            let knock = member_identity.map_or(Manner::Plain, Manner::Member);
            for address in &member.addresses {
                self.reach(*address, knock, deadline)
                    .map_err(|last| format!("member listener at {address}: {last}"))?;
            }
        }
        self.probing.store(false, Ordering::Relaxed);
        *self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = HashSet::new();
        Ok(())
    }

    /// Opens connection after connection, each sooner than the patience with the one before ends, and holds the last ones open:
    /// every second one may be the old generation's, and waiting it out would cost most of a reload's time.
    fn reach(&self, address: SocketAddr, manner: Manner<'_>, deadline: Instant) -> Result<(), String> {
        let mut last = String::from("no connection was accepted by this generation");
        let mut held = VecDeque::new();
        let mut patience = FIRST_TRY;
        while Instant::now() < deadline {
            match knock(address, manner) {
                Ok(connection) => held.push_back(connection),
                Err(error) => last = error,
            }
            if held.len() > MOST_HELD {
                held.pop_front();
            }
            if self.sees_any(&held, patience) {
                return Ok(());
            }
            patience = LONGEST_TRY.min(patience * 2);
        }
        Err(last)
    }

    /// Waits until the gate has seen one of the connections.
    fn sees_any(&self, held: &VecDeque<Knock>, patience: Duration) -> bool {
        let seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let none = |seen: &mut HashSet<SocketAddr>| !held.iter().any(|knock| seen.contains(&knock.own));
        let waited = self.arrived.wait_timeout_while(seen, patience, none);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

/// How a listener is knocked at.
#[derive(Clone, Copy)]
enum Manner<'s> {
    Plain,
    Tls,
    /// With the certificate that members show each other.
    Member(&'s Identity),
}

/// A connection to one of our listeners, held open.
struct Knock {
    own: SocketAddr,
    _connection: Box<dyn Read>,
}

fn knock(address: SocketAddr, manner: Manner<'_>) -> Result<Knock, String> {
    let connect = || {
        let stream = TcpStream::connect_timeout(&reachable(address), LONGEST_TRY)?;
        stream.set_read_timeout(Some(LONGEST_TRY))?;
        stream.set_write_timeout(Some(LONGEST_TRY))?;
        Ok((stream.local_addr()?, stream))
    };
    let (own, stream) = connect().map_err(|error: std::io::Error| error.to_string())?;
    let connection: Box<dyn Read> = match manner {
        Manner::Plain => Box::new(stream),
        Manner::Tls => Box::new(handshake(stream, None)?),
        Manner::Member(identity) => Box::new(handshake(stream, Some(identity))?),
    };
    Ok(Knock { own, _connection: connection })
}

/// A handshake without verification: the question is whether our listener serves, not whether we trust ourselves.
fn handshake(stream: TcpStream, identity: Option<&Identity>) -> Result<impl Read + use<>, String> {
    let configure = || {
        let mut connector = SslConnector::builder(SslMethod::tls_client())?;
        connector.set_verify(SslVerifyMode::NONE);
        if let Some(identity) = identity {
            identity.install(&mut connector)?;
        }
        connector.build().configure()
    };
    let configuration = configure().map_err(|error| error.to_string())?;
    let configuration = configuration.verify_hostname(false).use_server_name_indication(false);
    configuration.connect("outrigger", stream).map_err(|error| format!("TLS handshake: {error}"))
}

/// A wildcard address is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
