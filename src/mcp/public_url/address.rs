//! Addresses in answers: which of them are this upstream's own, and what the client must read in their place.
//! Takes one URI reference (RFC 3986 §4.1) as the upstream wrote it, gives the public one, or nothing where it stays as it is.
//! Surprise: an `endpoint` event is public whatever host it names. It says where this very server takes messages, and clients refuse any
//! other origin than the one they called, so a name that nobody knows there (`0.0.0.0`, a pod's) can only be the server's own.

use super::Base;
use crate::mcp::authority::{Authority, is_loopback, is_same_host, is_scheme};

/// What is public about an upstream, and how to know its own addresses.
#[derive(Clone, Copy)]
pub struct Ours<'o> {
    pub base: &'o Base,
    pub peers: &'o dyn Peers,
}

/// The addresses of an upstream that we connect to.
pub trait Peers: Sync {
    /// Whether one of them is, or may call itself, this host and port.
    fn any_is(&self, host: &str, port: u16) -> bool;
}

/// How the address in an `endpoint` event is written (`rewrite.endpoint`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointForm {
    /// Without an origin, which every client takes to be the one that it called.
    Path,
    /// With the public origin, for clients that cannot resolve a reference.
    Absolute,
}

impl Ours<'_> {
    /// An address where one of the upstream's own may stand (`Location`, `resource`); others pass.
    pub fn public(&self, reference: &str) -> Option<String> {
        let public = match Reference::parse(reference) {
            Reference::Full { https, authority, rest } if self.has(https, authority) => {
                self.base.origin() + &self.base.prefixed(rest)
            }
            Reference::Path(path) => self.base.prefixed(path),
            Reference::Full { .. } | Reference::Relative | Reference::Foreign => return None,
        };
        (public != reference).then_some(public)
    }

    /// The data of an `endpoint` event; `path`: of the request that the stream answers.
    pub fn endpoint(&self, reference: &str, form: EndpointForm, path: &str) -> Option<String> {
        if form == EndpointForm::Path && Reference::parse(reference) == Reference::Relative {
            return None;
        }
        let inside = self.base.prefixed(&named_by_endpoint(reference, path)?);
        let public = match form {
            // Two slashes would begin the name of a host.
            EndpointForm::Path if !inside.starts_with("//") => inside,
            EndpointForm::Path | EndpointForm::Absolute => self.base.origin() + &inside,
        };
        (public != reference).then_some(public)
    }

    /// Path and query that an `endpoint` event names, as the messages will come in to us.
    pub fn messages(&self, reference: &str, path: &str) -> Option<String> {
        let named = named_by_endpoint(reference, path)?;
        let inside = self.base.without_prefix(named.as_bytes());
        Some(inside.and_then(|inside| String::from_utf8(inside).ok()).unwrap_or(named))
    }

    /// Path and query of one of the upstream's own addresses, as the upstream knows them.
    pub fn inside<'r>(&self, reference: &'r str) -> Option<&'r str> {
        match Reference::parse(reference) {
            Reference::Path(path) => Some(path),
            Reference::Full { https, authority, rest } if self.has(https, authority) => Some(rest),
            Reference::Full { .. } | Reference::Relative | Reference::Foreign => None,
        }
    }

    /// Whether this origin is the upstream by one of its names: the public one (which it is sent as `Host`), or where we connect to.
    /// The scheme does not count: an upstream behind us cannot see whether the client's connection had TLS.
    fn has(&self, https: bool, authority: Authority<'_>) -> bool {
        let public = self.base.parts();
        let port = authority.port_of(https);
        let is_public_port = match public.without_default_port(self.base.https).port {
            Some(public) => port == public,
            None => matches!(port, 80 | 443),
        };
        (authority.has_host(public.host) && is_public_port) || self.peers.any_is(authority.host, port)
    }
}

/// Whether an upstream that we connect to at `peer` may call itself `host`: by that name, and where it shares a machine with us by
/// every name of that machine, and by the wildcard address that it listens on.
pub fn is_name_of_peer(host: &str, peer: &str) -> bool {
    is_same_host(host, peer) || (is_loopback(peer) && (is_loopback(host) || matches!(host, "0.0.0.0" | "::")))
}

#[derive(Debug, PartialEq, Eq)]
enum Reference<'r> {
    /// `http://host/path`, or `//host/path`, which has the scheme of the document.
    Full { https: bool, authority: Authority<'r>, rest: &'r str },
    /// `/path`
    Path(&'r str),
    /// `path`, `?query`, nothing at all
    Relative,
    /// Another scheme, or no reference that we could read as others do.
    Foreign,
}

impl<'r> Reference<'r> {
    fn parse(text: &'r str) -> Self {
        // Browsers drop control characters and take backslashes for slashes; who does not would read another address.
        if text.contains(|c: char| c.is_control() || c == '\\') {
            return Self::Foreign;
        }
        let scheme = scheme_of(text);
        let rest = match scheme {
            Some(scheme) if is_one_of(scheme, "http", "https") => &text[scheme.len() + 1..],
            Some(_) => return Self::Foreign,
            None => text,
        };
        match (rest.strip_prefix("//"), scheme) {
            (Some(rest), _) => {
                let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                let https = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
                let authority = Authority::parse(authority);
                authority.map_or(Self::Foreign, |authority| Self::Full { https, authority, rest })
            }
            // `http:path` once was a relative reference (RFC 3986 §5.4.2).
            (None, Some(_)) => Self::Foreign,
            (None, None) if text.starts_with('/') => Self::Path(text),
            (None, None) => Self::Relative,
        }
    }
}

fn scheme_of(text: &str) -> Option<&str> {
    text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| is_scheme(scheme))
}

fn is_one_of(text: &str, one: &str, other: &str) -> bool {
    text.eq_ignore_ascii_case(one) || text.eq_ignore_ascii_case(other)
}

fn named_by_endpoint(reference: &str, path: &str) -> Option<String> {
    match Reference::parse(reference) {
        Reference::Full { rest, .. } if rest.starts_with('/') => Some(rest.to_owned()),
        // RFC 9110 §4.2.3: no path means the root.
        Reference::Full { rest, .. } => Some(format!("/{rest}")),
        Reference::Path(path) => Some(path.to_owned()),
        Reference::Relative => Some(resolved(path, reference)),
        Reference::Foreign => None,
    }
}

/// RFC 3986 §5.2.3, without taking out dot segments: every client does that itself.
fn resolved(path: &str, reference: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    match reference.chars().next() {
        None | Some('?' | '#') => format!("{path}{reference}"),
        Some(_) => format!("{}/{reference}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base(url: &str) -> Base {
        Base::parse(url).unwrap()
    }

    /// Peers at 10.0.0.7:4444 and at port 4444 of this machine.
    struct Two;

    impl Peers for Two {
        fn any_is(&self, host: &str, port: u16) -> bool {
            port == 4444 && ["10.0.0.7", "127.0.0.1"].iter().any(|peer| is_name_of_peer(host, peer))
        }
    }

    fn public(base: &Base, reference: &str) -> Option<String> {
        Ours { base, peers: &Two }.public(reference)
    }

    #[test]
    fn the_upstreams_own_addresses_become_public_and_no_others() {
        let plain = base("https://mcp.example.com");
        for (reference, expected) in [
            ("http://mcp.example.com/a?b#c", Some("https://mcp.example.com/a?b#c")),
            ("HTTP://MCP.Example.COM:80/a", Some("https://mcp.example.com/a")),
            ("https://mcp.example.com:443/a", Some("https://mcp.example.com/a")),
            ("http://mcp.example.com:443", Some("https://mcp.example.com")),
            ("//mcp.example.com/a", Some("https://mcp.example.com/a")),
            ("http://10.0.0.7:4444/a", Some("https://mcp.example.com/a")),
            ("http://127.0.0.1:4444?a", Some("https://mcp.example.com?a")),
            ("http://localhost:4444/a", Some("https://mcp.example.com/a")),
            ("http://[::1]:4444/a", Some("https://mcp.example.com/a")),
            ("http://0.0.0.0:4444/a", Some("https://mcp.example.com/a")),
            ("https://mcp.example.com/a", None),
            ("http://mcp.example.com:8080/a", None),
            ("http://mcp.example.com.evil/a", None),
            ("http://mcp.example.com@evil/a", None),
            ("http://user@mcp.example.com/a", None),
            ("http://10.0.0.7/a", None),
            ("http://10.0.0.7:4445/a", None),
            ("http://10.0.0.8:4444/a", None),
            ("https://login.example.com/a", None),
            ("//login.example.com/a", None),
            ("/a", None),
            ("/\\evil/a", None),
            ("a", None),
            ("?a", None),
            ("", None),
            ("mailto:a@mcp.example.com", None),
            ("javascript:alert(1)", None),
            ("http:/a", None),
            ("http:a", None),
            ("http://", None),
            ("http://mcp.example.com/a\tb", None),
            ("http://mcp.example.com\\a", None),
        ] {
            assert_eq!(public(&plain, reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn a_port_and_a_prefix_belong_to_the_address() {
        let nested = base("http://a:8080/gate/way");
        for (reference, expected) in [
            ("http://a:8080/x", Some("http://a:8080/gate/way/x")),
            ("https://a:8080", Some("http://a:8080/gate/way")),
            ("http://10.0.0.7:4444/?x", Some("http://a:8080/gate/way/?x")),
            ("https://a:8080/gate/way/x", Some("http://a:8080/gate/way/x")),
            ("/x", Some("/gate/way/x")),
            ("/gate/ways", Some("/gate/way/gate/ways")),
            ("/gate/way", None),
            ("/gate/way?x", None),
            ("http://a:8080/gate/way/x", None),
            ("http://a/x", None),
            ("https://a/x", None),
            ("x", None),
        ] {
            assert_eq!(public(&nested, reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn an_endpoint_is_public_whatever_the_server_calls_itself() {
        let (plain, nested) = (base("https://mcp.example.com"), base("https://MCP.example.com/gate"));
        let session = "session_id=a%2Fb&x=http://y";
        for (reference, path, absolute, prefixed) in [
            ("/messages/?S", None, Some("https://mcp.example.com/messages/?S"), Some("/gate/messages/?S")),
            (
                "http://0.0.0.0:4444/message?S",
                Some("/message?S"),
                Some("https://mcp.example.com/message?S"),
                Some("/gate/message?S"),
            ),
            (
                "https://pod-7/message?S",
                Some("/message?S"),
                Some("https://mcp.example.com/message?S"),
                Some("/gate/message?S"),
            ),
            (
                "http://pod-7//evil/m?S",
                Some("https://mcp.example.com//evil/m?S"),
                Some("https://mcp.example.com//evil/m?S"),
                Some("/gate//evil/m?S"),
            ),
            ("//pod-7?S", Some("/?S"), Some("https://mcp.example.com/?S"), Some("/gate/?S")),
            ("message?S", None, Some("https://mcp.example.com/servers/a/message?S"), None),
            ("?S", None, Some("https://mcp.example.com/servers/a/sse?S"), None),
            ("https://mcp.example.com/gate/m?S", Some("/gate/m?S"), None, Some("/gate/m?S")),
            ("", None, Some("https://mcp.example.com/servers/a/sse"), None),
            ("ws://pod-7/message?S", None, None, None),
            ("http://pod-7:x/message?S", None, None, None),
            ("/a b?S", None, Some("https://mcp.example.com/a b?S"), Some("/gate/a b?S")),
            ("/a\n/b?S", None, None, None),
        ] {
            let reference = reference.replace('S', session);
            let ask = |base: &Base, form| {
                Ours { base, peers: &Two }.endpoint(&reference, form, "/servers/a/sse?q=/x")
            };
            let full = |text: Option<&str>| text.map(|text| text.replace('S', session));
            assert_eq!(ask(&plain, EndpointForm::Path), full(path), "{reference}");
            assert_eq!(ask(&plain, EndpointForm::Absolute), full(absolute), "{reference}");
            assert_eq!(ask(&nested, EndpointForm::Path), full(prefixed), "{reference}");
        }
        let ours = Ours { base: &nested, peers: &Two };
        let absolute = ours.endpoint("/m", EndpointForm::Absolute, "/sse");
        assert_eq!(absolute.as_deref(), Some("https://MCP.example.com/gate/m"));
        for (reference, messages) in [
            ("http://pod-7/gate/message?a", Some("/message?a")),
            ("/gate/message?a", Some("/message?a")),
            ("/message?a", Some("/message?a")),
            ("//pod-7", Some("/")),
            ("message?a", Some("/servers/b/message?a")),
            ("ws://pod-7/message?a", None),
        ] {
            assert_eq!(ours.messages(reference, "/servers/b/sse?c").as_deref(), messages, "{reference}");
        }
    }

    proptest! {
        /// Rewriting twice is rewriting once, and what comes out begins where the client can go.
        #[test]
        fn what_is_public_stays_public(
            reference in "(https?:)?(//)?(a|10\\.0\\.0\\.7|evil|[a-z@:.]{0,6})(:4444|:80|:443|:[0-9]{0,5})?[/?#a-z.%]{0,8}|\\PC{0,12}",
            url in "https?://a(:8443)?(/b|/b/c)?",
            form in prop_oneof![Just(EndpointForm::Path), Just(EndpointForm::Absolute)],
        ) {
            let base = base(&url);
            let ours = Ours { base: &base, peers: &Two };
            let begin = base.origin() + &base.prefix;
            if let Some(public) = ours.public(&reference) {
                prop_assert!(public.starts_with(&begin) || public.starts_with(&base.prefix), "{public}");
                prop_assert_eq!(ours.public(&public), None, "{}", public);
            }
            if let Some(endpoint) = ours.endpoint(&reference, form, "/x/sse") {
                let absolute = form == EndpointForm::Absolute;
                let inside = endpoint.starts_with(&base.prefix) && !endpoint.starts_with("//");
                prop_assert!(endpoint.starts_with(&begin) || (inside && !absolute), "{endpoint}");
                prop_assert_eq!(ours.endpoint(&endpoint, form, "/x/sse"), None, "{}", endpoint);
            }
        }
    }
}
