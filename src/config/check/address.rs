//! Addresses as users write them: where we listen (`IP:PORT`), where we connect to (`HOST:PORT`), whom we believe (CIDR).
//! Takes the text of one value, gives the checked value or the sentence that tells what is wrong with it. PURE.
//! Surprise: a host of digits and dots that is no IP address (`10.0.0.300`) is refused, although DNS would allow it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// An address to listen on. Never port 0: nobody could know the port, and a handoff could not name it.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err("port 0 is refused: clients could not know the port".to_owned())
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!("expected IP:PORT such as 127.0.0.1:8080 or \"[::]:8443\", found {text:?}")),
    }
}

/// Splits the address of a peer into its host (a DNS name or an IP address without brackets) and port.
pub fn peer(text: &str) -> Result<(String, u16), String> {
    if text.contains("://") {
        return Err(format!("expected HOST:PORT without a scheme, found {text:?}"));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| text.parse::<Ipv6Addr>().is_err()) else {
        return Err(format!("has no port: expected HOST:PORT, found {text:?}"));
    };
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok().then_some(inside),
        None => (is_dns_name(host) || host.parse::<Ipv4Addr>().is_ok()).then_some(host),
    };
    match (host, port.parse::<u16>()) {
        (Some(_), Ok(0)) => Err("port 0 cannot be connected to".to_owned()),
        (Some(host), Ok(port)) if !text.ends_with(&format!("+{port}")) => Ok((host.to_owned(), port)),
        _ => Err(format!("expected HOST:PORT such as gateway:4444 or \"[::1]:4444\", found {text:?}")),
    }
}

/// A network in CIDR notation.
pub fn network(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            format!("expected a network, found one address; write {text}/{bits}")
        }
        Err(_) => format!("expected a network such as 10.0.0.0/8 or \"fd00::/8\", found {text:?}"),
    })
}

/// RFC 1123 §2.1, with `_`, which Kubernetes and SRV-like names use. The last label is never a number, so no IP address.
pub fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_take_ip_addresses_with_a_port() {
        for text in ["127.0.0.1:8080", "0.0.0.0:8443", "[::]:8443", "[::1]:1"] {
            assert_eq!(listen(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
        for (text, words) in [
            ("127.0.0.1:0", "port 0"),
            ("127.0.0.1", "expected IP:PORT"),
            ("localhost:80", "expected IP:PORT"),
            (":80", "expected IP:PORT"),
            ("::1:80", "expected IP:PORT"),
        ] {
            assert!(listen(text).is_err_and(|sentence| sentence.contains(words)), "{text}");
        }
    }

    #[test]
    fn peers_take_names_and_addresses_with_a_port() {
        for (text, host, port) in [
            ("gateway:4444", "gateway", 4444),
            ("a.b-c.example.:1", "a.b-c.example.", 1),
            ("10.0.0.3:65535", "10.0.0.3", 65535),
            ("[::1]:80", "::1", 80),
        ] {
            assert_eq!(peer(text), Ok((host.to_owned(), port)), "{text}");
        }
        for (text, words) in [
            ("gateway", "has no port"),
            ("::1", "has no port"),
            ("http://gateway:80", "without a scheme"),
            ("gateway:0", "port 0"),
            ("gateway:", "expected HOST:PORT"),
            ("gateway:65536", "expected HOST:PORT"),
            ("gateway:+80", "expected HOST:PORT"),
            ("gateway:80/mcp", "expected HOST:PORT"),
            ("10.0.0.300:80", "expected HOST:PORT"),
            ("[gateway]:80", "expected HOST:PORT"),
            ("[::1:80", "expected HOST:PORT"),
            (":80", "expected HOST:PORT"),
            ("a b:80", "expected HOST:PORT"),
        ] {
            assert!(peer(text).is_err_and(|sentence| sentence.contains(words)), "{text}");
        }
    }

    #[test]
    fn networks_need_their_prefix_length() {
        assert!(network("10.0.0.0/8").is_ok() && network("::/0").is_ok());
        assert!(network("10.0.0.1").is_err_and(|sentence| sentence.ends_with("write 10.0.0.1/32")));
        assert!(network("10.0.0.0/33").is_err_and(|sentence| sentence.contains("such as 10.0.0.0/8")));
    }

    #[test]
    fn dns_names() {
        let long = ["a"; 64].concat();
        for name in ["a", "a.example", "x_y.z", "9.example", "a."] {
            assert!(is_dns_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "-a", "a-", "10.0.0.1", "a/b", "ä", long.as_str()] {
            assert!(!is_dns_name(name), "{name}");
        }
    }
}
