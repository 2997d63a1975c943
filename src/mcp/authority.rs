//! A host with its port, as it stands in `Host` and behind the `//` of a URL (RFC 3986 §3.2).
//! Takes the text that somebody sent, gives its two parts, or nothing where it is more than that: no user, no path, no list.
//! Surprise: a port that is left out stays unknown here, because which one is meant depends on the scheme.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// What no DNS name exceeds (RFC 1035 §2.3.4), and no IPv6 address either.
const LONGEST_HOST: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As it was written, an IPv6 address without its brackets.
    pub host: &'a str,
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, port)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                is_name(host).then_some((host, port))?
            }
        };
        // RFC 3986 §3.2.3: a colon with nothing behind it says nothing.
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) => Some(port_number(digits)?),
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self { host, port })
    }

    /// The port that is meant, where the scheme says what an absent one means.
    pub fn port_of(&self, https: bool) -> u16 {
        self.port.unwrap_or(default_port(https))
    }

    /// Without a port that the scheme says anyway.
    pub fn without_default_port(&self, https: bool) -> Self {
        Self { host: self.host, port: self.port.filter(|port| *port != default_port(https)) }
    }

    pub fn has_host(&self, host: &str) -> bool {
        is_same_host(self.host, host)
    }

    /// The host as an address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "[{}]", self.host)?,
            false => out.write_str(self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

pub fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// Nothing but digits; never 0, which no client can connect to.
pub fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Names by their letters whatever their case, addresses by their value; both without brackets.
pub fn is_same_host(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || one.parse::<Ipv6Addr>().is_ok_and(|one| other.parse::<Ipv6Addr>().is_ok_and(|other| one == other))
}

/// This machine, by the names and addresses that need no look-up (RFC 6761 §6.3).
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// RFC 3986 §3.1.
pub fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// RFC 3986 §3.2.2 would allow more; nothing that is in DNS has it, and a comma would make two hosts of one.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    (1..=LONGEST_HOST).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port_and_nothing_else() {
        let table = [
            ("localhost", "localhost", None, "localhost"),
            ("MCP.Example.com:8443", "MCP.Example.com", Some(8443), "MCP.Example.com:8443"),
            ("192.0.2.1:80", "192.0.2.1", Some(80), "192.0.2.1:80"),
            ("[2001:db8::1]", "2001:db8::1", None, "[2001:db8::1]"),
            ("[::1]:65535", "::1", Some(65535), "[::1]:65535"),
            ("a_b~c-d.:1", "a_b~c-d.", Some(1), "a_b~c-d.:1"),
            ("localhost:", "localhost", None, "localhost"),
        ];
        for (text, host, port, shown) in table {
            let authority = Authority::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((authority.host, authority.port), (host, port), "{text}");
            assert_eq!(authority.to_string(), shown);
        }
        let long = "a".repeat(256);
        for text in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "a,b",
            "a;b",
            "a\"b",
            "a%20b",
            "a\\b",
            "ä",
            "::1",
            "[::1",
            "[::1]x",
            "[a]",
            "[]",
            "a:0",
            "a:65536",
            "a:+1",
            "a:1:2",
            "a: 1",
            "a:x",
            &long,
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_scheme_says_which_port_is_meant() {
        let at = |text| Authority::parse(text).unwrap();
        assert_eq!((at("a").port_of(true), at("a").port_of(false), at("a:1").port_of(true)), (443, 80, 1));
        for (text, https, shown) in [
            ("a:443", true, "a"),
            ("a:443", false, "a:443"),
            ("a:80", false, "a"),
            ("[::1]:443", true, "[::1]"),
        ] {
            assert_eq!(at(text).without_default_port(https).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn hosts_are_compared_by_what_they_mean() {
        for (one, other) in
            [("MCP.example", "mcp.EXAMPLE"), ("::1", "0:0:0:0:0:0:0:1"), ("10.0.0.1", "10.0.0.1")]
        {
            assert!(is_same_host(one, other), "{one} {other}");
        }
        for (one, other) in [("a.example", "b.example"), ("::1", "::2"), ("localhost", "127.0.0.1")] {
            assert!(!is_same_host(one, other), "{one} {other}");
        }
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "0.0.0.0", "::", "example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
