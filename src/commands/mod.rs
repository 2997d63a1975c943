//! What the command line does beside running: it asks a running Outrigger how it is (`status`), and looks at what a configuration
//! rests on before anything runs (`deep`). Takes arguments, gives text and a verdict.
//! Surprise: nothing here is part of a request's life; `main` alone calls it.

pub mod deep;
pub mod status;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A wildcard address is reached over loopback, from where alone everything is told.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
