//! Addresses as users write them: where we listen (`IP:PORT`), where we connect to (`HOST:PORT`), whom we believe (CIDR).
//! Takes the text of one value, gives the checked value or the sentence that tells what is wrong with it. PURE.
//! Surprise: a host of digits and dots that is no IP address (`10.0.0.300`) is refused, although DNS would allow it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// What stands for a member's name.
const NAME: &str = "{name}";

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
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address needs brackets: expected [ADDRESS]:PORT, found {text:?}"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
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

/// The address that a member publishes for the others: like a peer's, and of this member alone.
pub fn advertised(text: &str) -> Result<(String, u16), String> {
    let (host, port) = peer(text)?;
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => {
            Err("is a wildcard address; other members could not connect to it".to_owned())
        }
        _ => Ok((host, port)),
    }
}

/// The address of every member, `{name}` in its host standing for the name.
pub fn template(text: &str) -> Result<(String, u16), String> {
    let host = text.rsplit_once(':').map(|(host, _)| host).filter(|host| host.matches(NAME).count() == 1);
    match (host, peer(&text.replace(NAME, "name"))) {
        (Some(host), Ok((_, port))) => Ok((host.to_owned(), port)),
        _ => Err(format!(
            "expected HOST:PORT with {NAME} once in its host such as \"{NAME}.outrigger:8444\", found {text:?}"
        )),
    }
}

/// The host that a template makes of a member's name.
pub fn of_member(template: &str, name: &str) -> String {
    template.replace(NAME, name)
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
            ("::1", "needs brackets"),
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
    fn a_member_advertises_what_others_can_connect_to() {
        for text in ["web-0.outrigger:8444", "127.0.0.1:1", "[fd00::1]:8444"] {
            assert_eq!(advertised(text), peer(text), "{text}");
        }
        for (text, words) in
            [("0.0.0.0:8444", "wildcard"), ("[::]:8444", "wildcard"), ("fd00::1:8444", "needs brackets")]
        {
            assert!(advertised(text).is_err_and(|sentence| sentence.contains(words)), "{text}");
        }
    }

    #[test]
    fn a_template_names_each_member_once() {
        for (text, host, port) in [
            ("{name}:1", "{name}", 1),
            ("{name}.a.svc.cluster.local:8444", "{name}.a.svc.cluster.local", 8444),
            ("mcp-{name}.a:65535", "mcp-{name}.a", 65535),
        ] {
            assert_eq!(template(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in [
            "a:1",
            "{name}",
            "{name}.{name}:1",
            "a:{name}",
            "{name}:{name}",
            "{Name}.a:1",
            "{name}.a/b:1",
            "{name}:0",
        ] {
            assert!(template(text).is_err_and(|sentence| sentence.contains("{name} once")), "{text}");
        }
        assert_eq!(of_member("mcp-{name}.a", "0"), "mcp-0.a");
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
