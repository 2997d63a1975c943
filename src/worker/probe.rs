//! The probe: proof that this generation's own listeners accept, before it says `ready`.
//! Takes the listeners' addresses, connects to each as a client would (TLS too), gives up or returns. Surprise: an older generation accepts from
//! the same sockets, so a connection proves nothing until our own gate has seen the prober's address.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use crate::config::settings::Listener;

/// How long one connection may take to be seen before another is tried.
const ONE_TRY: Duration = Duration::from_millis(300);

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
    pub fn run(&self, listeners: &[Listener], deadline: Instant) -> Result<(), String> {
        for listener in listeners {
            for address in &listener.addresses {
                let mut last = String::from("no connection was accepted by this generation");
                while !self.try_once(*address, listener.tls.is_some()).unwrap_or_else(|error| {
                    last = error;
                    std::thread::yield_now();
                    false
                }) {
                    if Instant::now() >= deadline {
                        return Err(format!("listener {} at {address}: {last}", listener.name));
                    }
                }
            }
        }
        self.probing.store(false, Ordering::Relaxed);
        *self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = HashSet::new();
        Ok(())
    }

    fn try_once(&self, address: SocketAddr, tls: bool) -> Result<bool, String> {
        let stream =
            TcpStream::connect_timeout(&reachable(address), ONE_TRY).map_err(|error| error.to_string())?;
        let own = stream.local_addr().map_err(|error| error.to_string())?;
        stream
            .set_read_timeout(Some(ONE_TRY))
            .and_then(|()| stream.set_write_timeout(Some(ONE_TRY)))
            .map_err(|e| e.to_string())?;
        if tls {
            let encrypted = handshake(stream)?;
            return Ok(self.wait_for(own, encrypted));
        }
        Ok(self.wait_for(own, stream))
    }

    /// Holds the connection open until the gate has seen it.
    fn wait_for(&self, own: SocketAddr, _connection: impl Read + Write) -> bool {
        let seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = self.arrived.wait_timeout_while(seen, ONE_TRY, |seen| !seen.contains(&own));
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

/// A handshake without verification: the question is whether our listener serves, not whether we trust ourselves.
fn handshake(stream: TcpStream) -> Result<impl Read + Write, String> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(|error| error.to_string())?;
    connector.set_verify(SslVerifyMode::NONE);
    let configuration = connector.build().configure().map_err(|error| error.to_string())?;
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
