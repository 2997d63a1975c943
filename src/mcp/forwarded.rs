//! Room 1's question: how does this request look from outside? The client's address, the public scheme and authority.
//! Takes the hop that we see and the `X-Forwarded-*` or `Forwarded` fields that it sent, gives an [`Origin`].
//! Surprise: nothing of those fields is believed unless the hop's address is in `trusted_proxies`, and then only the last
//! value, which that hop wrote itself; what stands before it came from the client.
//!
//! A proxy writes one family and leaves the other as the client sent it. `X-Forwarded-*` is what nearly all of them write, so where
//! there is any of it, `Forwarded` counts for nothing, not even for what the others leave open.

mod element;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::authority::{Authority, port_number};
use element::Element;

/// The connection a request came by.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'h> {
    pub address: IpAddr,
    pub tls: bool,
    /// `Host` (or `:authority`) as the client wrote it.
    pub host: Option<&'h str>,
}

/// Values of the forwarding fields, each field's lines joined by commas.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    pub for_: Option<String>,
    pub proto: Option<String>,
    pub host: Option<String>,
    pub port: Option<String>,
    pub forwarded: Option<String>,
}

/// The request as the outside sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub client: IpAddr,
    pub https: bool,
    /// Host with its port as the client wrote it; an [`Authority`].
    pub authority: String,
}

/// Decides what is public about a request; `trusted` is the listener's `trusted_proxies`. `None`: nobody named a host.
pub fn origin(hop: Hop<'_>, claims: &Claims, trusted: impl Fn(IpAddr) -> bool) -> Option<Origin> {
    let (client, said) = if trusted(hop.address) {
        claims.believed(hop.address, trusted)
    } else {
        (hop.address, Said::default())
    };
    let https = said.https.unwrap_or(hop.tls);
    let host = said.host.or_else(|| hop.host.map(Cow::Borrowed).filter(|host| is_authority(host)))?;
    let authority = match said.port {
        Some(port) => with_port(&host, port),
        None => host.into_owned(),
    };
    Some(Origin { client, https, authority })
}

/// What the nearest proxy says of the request, as far as it is sound.
#[derive(Default)]
struct Said<'c> {
    https: Option<bool>,
    host: Option<Cow<'c, str>>,
    port: Option<u16>,
}

impl Claims {
    /// The client's address and the last hop's word, by the family of fields that counts.
    fn believed(&self, hop: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> (IpAddr, Said<'_>) {
        let x_forwarded = [&self.for_, &self.proto, &self.host, &self.port];
        match &self.forwarded {
            Some(forwarded) if x_forwarded.iter().all(|field| field.is_none()) => {
                // Each element is read by itself, from the right: a quote that a client left open must not swallow what the
                // proxy wrote behind it.
                let mut elements = forwarded.rsplit(',').map(Element::parse);
                let chain = elements.clone().map(|element| address(&element?.for_?));
                let client = nearest_stranger(hop, chain, trusted);
                let last = elements.next().flatten().unwrap_or_default();
                let https = last.proto.as_deref().and_then(is_https);
                (client, Said { https, host: last.host.filter(|host| is_authority(host)), port: None })
            }
            _ => {
                let chain = self.for_.as_deref().unwrap_or("").rsplit(',').map(|entry| address(entry.trim()));
                let client = nearest_stranger(hop, chain, trusted);
                let said = Said {
                    https: last(&self.proto).and_then(is_https),
                    host: last(&self.host).filter(|host| is_authority(host)).map(Cow::Borrowed),
                    port: last(&self.port).and_then(port_number),
                };
                (client, said)
            }
        }
    }
}

/// The nearest address of the chain that is no trusted proxy; a value that is no address ends the search.
fn nearest_stranger(
    hop: IpAddr,
    chain: impl Iterator<Item = Option<IpAddr>>,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut nearest = hop;
    for entry in chain {
        match entry {
            // A proxy whose socket takes both families writes IPv4 as IPv6 (RFC 4291 §2.5.5.2).
            Some(address) if trusted(nearest) => nearest = address.to_canonical(),
            _ => break,
        }
    }
    nearest
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`; also where the port is hidden
/// (RFC 7239 §6.3).
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    let node = match text.rsplit_once(":_") {
        Some((node, _)) => node,
        None => text,
    };
    match node.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => node.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Anything else than the two (`javascript`) is refused, not passed on.
fn is_https(proto: &str) -> Option<bool> {
    if proto.eq_ignore_ascii_case("https") {
        Some(true)
    } else {
        proto.eq_ignore_ascii_case("http").then_some(false)
    }
}

/// The host with the port that was said beside it. A port in the host is the client's own and stands. 80 and 443 are left out:
/// one of them goes without saying, the other is where the proxy in front is reached by whoever ended TLS before it.
fn with_port(host: &str, port: u16) -> String {
    match Authority::parse(host) {
        Some(authority) if authority.port.is_none() && !matches!(port, 80 | 443) => {
            Authority { port: Some(port), ..authority }.to_string()
        }
        _ => host.to_owned(),
    }
}

fn last(list: &Option<String>) -> Option<&str> {
    list.as_deref()?.rsplit(',').next().map(str::trim)
}

/// A host with an optional port and nothing else: no user, no path, no white space.
pub fn is_authority(text: &str) -> bool {
    Authority::parse(text).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const FIELDS: [&str; 5] = ["for", "proto", "host", "port", "forwarded"];

    /// What comes of `name: value` lines that a hop sent: client, scheme and authority. 10/8 is trusted.
    fn seen_by(hop: &str, lines: &str) -> String {
        let value = |name: &str| {
            let values: Vec<&str> = lines
                .lines()
                .filter_map(|line| line.trim().split_once(": "))
                .filter_map(|(field, value)| (field == name).then_some(value))
                .collect();
            (!values.is_empty()).then(|| values.join(","))
        };
        let [for_, proto, host, port, forwarded] = FIELDS.map(value);
        let claims = Claims { for_, proto, host, port, forwarded };
        let hop = Hop { address: hop.parse().unwrap(), tls: false, host: Some("seen:8080") };
        let origin = origin(hop, &claims, |address| address.to_string().starts_with("10.")).unwrap();
        let scheme = if origin.https { "https" } else { "http" };
        format!("{} {scheme}://{}", origin.client, origin.authority)
    }

    fn check(table: &[(&str, &str, &str)]) {
        for (hop, lines, expected) in table {
            assert_eq!(seen_by(hop, lines), *expected, "{hop} {lines}");
        }
    }

    #[test]
    fn only_a_trusted_hop_is_believed() {
        let everything = "for: 127.0.0.1\nproto: https\nhost: evil\nport: 1";
        check(&[
            ("192.0.2.9", everything, "192.0.2.9 http://seen:8080"),
            ("192.0.2.9", "forwarded: for=127.0.0.1;proto=https;host=evil", "192.0.2.9 http://seen:8080"),
            ("10.0.0.1", "", "10.0.0.1 http://seen:8080"),
            (
                "10.0.0.1",
                "for: 198.51.100.7\nproto: https\nhost: mcp.example.com",
                "198.51.100.7 https://mcp.example.com",
            ),
        ]);
    }

    #[test]
    fn the_last_value_is_the_hops_own_and_only_sound_ones_count() {
        check(&[
            (
                "10.0.0.1",
                "for: 127.0.0.1, 198.51.100.7\nproto: http, HTTPS\nhost: evil, mcp.example.com",
                "198.51.100.7 https://mcp.example.com",
            ),
            (
                "10.0.0.1",
                "proto: https\nproto: http\nhost: a\nhost: mcp.example.com:8443",
                "10.0.0.1 http://mcp.example.com:8443",
            ),
            ("10.0.0.1", "for: 6.6.6.6, 198.51.100.7, 10.0.0.2", "198.51.100.7 http://seen:8080"),
            ("10.0.0.1", "proto: javascript\nhost: a/b", "10.0.0.1 http://seen:8080"),
            ("10.0.0.1", "proto: https,\nhost: a,", "10.0.0.1 http://seen:8080"),
            ("10.0.0.1", "for: junk\nproto: https\nhost: user@host", "10.0.0.1 https://seen:8080"),
            ("10.0.0.1", "for: [2001:db8::1]:443", "2001:db8::1 http://seen:8080"),
            ("10.0.0.1", "for: 2001:db8::1", "2001:db8::1 http://seen:8080"),
            ("10.0.0.1", "for: ::ffff:198.51.100.7, ::ffff:10.0.0.2", "198.51.100.7 http://seen:8080"),
        ]);
    }

    #[test]
    fn a_port_counts_where_the_host_has_none_and_the_scheme_does_not_say_it() {
        check(&[
            ("10.0.0.1", "proto: https\nhost: a\nport: 8443", "10.0.0.1 https://a:8443"),
            ("10.0.0.1", "proto: https\nhost: [::1]\nport: 1, 8443", "10.0.0.1 https://[::1]:8443"),
            ("10.0.0.1", "proto: https\nhost: a:\nport: 8443", "10.0.0.1 https://a:8443"),
            ("10.0.0.1", "proto: https\nhost: a:9443\nport: 8443", "10.0.0.1 https://a:9443"),
            ("10.0.0.1", "port: 8443", "10.0.0.1 http://seen:8080"),
            ("10.0.0.1", "proto: https\nhost: a\nport: 443", "10.0.0.1 https://a"),
            ("10.0.0.1", "proto: https\nhost: a\nport: 80", "10.0.0.1 https://a"),
            ("10.0.0.1", "proto: http\nhost: a\nport: 443", "10.0.0.1 http://a"),
            ("10.0.0.1", "host: a\nport: 0", "10.0.0.1 http://a"),
            ("10.0.0.1", "host: a\nport: 8443x", "10.0.0.1 http://a"),
            ("10.0.0.1", "host: a\nport: +8443", "10.0.0.1 http://a"),
        ]);
    }

    #[test]
    fn forwarded_says_the_same_in_its_own_words() {
        check(&[
            (
                "10.0.0.1",
                "forwarded: for=192.0.2.43;proto=https;by=203.0.113.60;host=mcp.example.com",
                "192.0.2.43 https://mcp.example.com",
            ),
            (
                "10.0.0.1",
                r#"forwarded: For="[2001:db8:cafe::17]:4711" ; Proto=HTTPS; HOST="mcp.example.com:8443""#,
                "2001:db8:cafe::17 https://mcp.example.com:8443",
            ),
            ("10.0.0.1", r#"forwarded: for="192.0.2.1:_port";proto=https"#, "192.0.2.1 https://seen:8080"),
            ("10.0.0.1", r#"forwarded: for="[::1]:_a.b-c""#, "::1 http://seen:8080"),
            ("10.0.0.1", "forwarded: for=unknown;proto=https", "10.0.0.1 https://seen:8080"),
            ("10.0.0.1", "forwarded: for=_hidden;host=a", "10.0.0.1 http://a"),
            (
                "10.0.0.1",
                "forwarded: for=6.6.6.6, for=198.51.100.7, for=10.0.0.2",
                "198.51.100.7 http://seen:8080",
            ),
            ("10.0.0.1", "forwarded: for=6.6.6.6, for=_x, for=10.0.0.2", "10.0.0.2 http://seen:8080"),
            (
                "10.0.0.1",
                "forwarded: for=6.6.6.6;proto=https;host=evil, for=198.51.100.7",
                "198.51.100.7 http://seen:8080",
            ),
            ("10.0.0.1", "forwarded: proto=javascript;host=\"a/b\"", "10.0.0.1 http://seen:8080"),
        ]);
    }

    #[test]
    fn what_a_client_wrote_before_it_does_not_change_the_proxys_element() {
        let own = r#"for="[2001:db8::1]:80";proto=https;host="mcp.example.com:8443""#;
        let expected = "2001:db8::1 https://mcp.example.com:8443";
        for before in ["", ",", "for=6.6.6.6", "for=\"", "host=\"x\\", ";;;=,\"\"\"", "proto=http;by=\""] {
            assert_eq!(seen_by("10.0.0.1", &format!("forwarded: {before}, {own}")), expected, "{before}");
            assert_eq!(seen_by("10.0.0.1", &format!("forwarded: {before}\nforwarded: {own}")), expected);
        }
    }

    #[test]
    fn forwarded_counts_only_where_there_is_nothing_of_the_other_family() {
        let forwarded = "\nforwarded: for=6.6.6.6;proto=https;host=evil";
        check(&[
            ("10.0.0.1", &format!("for: 198.51.100.7{forwarded}"), "198.51.100.7 http://seen:8080"),
            ("10.0.0.1", &format!("proto: http{forwarded}"), "10.0.0.1 http://seen:8080"),
            ("10.0.0.1", &format!("host: a{forwarded}"), "10.0.0.1 http://a"),
            ("10.0.0.1", &format!("port: junk{forwarded}"), "10.0.0.1 http://seen:8080"),
        ]);
    }

    #[test]
    fn somebody_must_name_a_host() {
        let hop = |host| Hop { address: "10.0.0.1".parse().unwrap(), tls: true, host };
        let claims = |host: &str| Claims { host: Some(host.into()), ..Claims::default() };
        assert_eq!(origin(hop(None), &Claims::default(), |_| true), None);
        assert_eq!(origin(hop(Some("a b")), &claims("c d"), |_| true), None);
        assert_eq!(origin(hop(None), &claims("a"), |_| false), None);
        assert_eq!(origin(hop(None), &claims("a"), |_| true).unwrap().authority, "a");
    }
}
