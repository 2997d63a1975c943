//! Room 1's question: how does this request look from outside? The client's address, the public scheme and authority.
//! Takes the hop that we see and the `X-Forwarded-*` fields that it sent, gives an [`Origin`].
//! Surprise: nothing of those fields is believed unless the hop's address is in `trusted_proxies`, and then only the last
//! value, which that hop wrote itself; what stands before it came from the client.

use std::net::IpAddr;

/// The connection a request came by.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'h> {
    pub address: IpAddr,
    pub tls: bool,
    /// `Host` (or `:authority`) as the client wrote it.
    pub host: Option<&'h str>,
}

/// Values of the `X-Forwarded-*` fields, each field's lines joined by commas.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    pub for_: Option<String>,
    pub proto: Option<String>,
    pub host: Option<String>,
}

/// The request as the outside sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub client: IpAddr,
    pub https: bool,
    /// Host with its port as the client wrote it; `None` where it wrote none.
    pub authority: Option<String>,
}

/// Decides what is public about a request; `trusted` is the listener's `trusted_proxies`.
pub fn origin(hop: Hop<'_>, claims: &Claims, trusted: impl Fn(IpAddr) -> bool) -> Origin {
    let own_authority = hop.host.filter(|host| is_authority(host)).map(str::to_string);
    if !trusted(hop.address) {
        return Origin { client: hop.address, https: hop.tls, authority: own_authority };
    }
    let https = match claims.proto.as_deref().map(last) {
        Some(proto) if proto.eq_ignore_ascii_case("https") => true,
        Some(proto) if proto.eq_ignore_ascii_case("http") => false,
        // Anything else (`javascript`) is refused, not passed on.
        _ => hop.tls,
    };
    let claimed_authority =
        claims.host.as_deref().map(last).filter(|host| is_authority(host)).map(str::to_string);
    Origin {
        client: client(hop.address, claims.for_.as_deref(), trusted),
        https,
        authority: claimed_authority.or(own_authority),
    }
}

/// The nearest address of the chain that is no trusted proxy; a value that is no address ends the search.
fn client(hop: IpAddr, chain: Option<&str>, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut nearest = hop;
    for entry in chain.unwrap_or("").rsplit(',') {
        if !trusted(nearest) {
            break;
        }
        match address(entry.trim()) {
            Some(address) => nearest = address,
            None => break,
        }
    }
    nearest
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn last(list: &str) -> &str {
    list.rsplit(',').next().unwrap_or("").trim()
}

/// A host with an optional port and nothing else: no user, no path, no white space.
fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255 + 6
        && !text.contains('@')
        && text.parse::<http::uri::Authority>().is_ok_and(|authority| authority.as_str() == text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn decide(hop: &str, for_: &str, proto: &str, host: &str) -> (String, bool, Option<String>) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        let hop = Hop { address: ip(hop), tls: false, host: Some("seen:8080") };
        let claims = Claims { for_: some(for_), proto: some(proto), host: some(host) };
        let origin = origin(hop, &claims, |address| address.to_string().starts_with("10."));
        (origin.client.to_string(), origin.https, origin.authority)
    }

    #[test]
    fn only_a_trusted_hop_is_believed() {
        let seen = Some("seen:8080".to_string());
        let public = Some("mcp.example.com".to_string());
        let table = [
            (("192.0.2.9", "127.0.0.1", "https", "evil"), ("192.0.2.9", false, &seen)),
            (("10.0.0.1", "198.51.100.7", "https", "mcp.example.com"), ("198.51.100.7", true, &public)),
            (
                ("10.0.0.1", "127.0.0.1, 198.51.100.7", "http, HTTPS", "evil, mcp.example.com"),
                ("198.51.100.7", true, &public),
            ),
            (("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.0.0.2", "", ""), ("198.51.100.7", false, &seen)),
            (("10.0.0.1", "", "javascript", "a/b"), ("10.0.0.1", false, &seen)),
            (("10.0.0.1", "junk", "https", "user@host"), ("10.0.0.1", true, &seen)),
            (("10.0.0.1", "[2001:db8::1]:443", "", ""), ("2001:db8::1", false, &seen)),
        ];
        for ((hop, for_, proto, host), (client, https, authority)) in table {
            assert_eq!(
                decide(hop, for_, proto, host),
                (client.to_string(), https, authority.clone()),
                "{hop} {for_} {proto} {host}"
            );
        }
    }
}
