//! Room 1, admit: whether a request may name the host and come from the page that it does (DNS rebinding).
//! Takes the compiled lists of a listener, the hosts that a request names and its `Origin`, gives yes or no.
//! Surprise: a browser can be led here by a name that somebody else's DNS points at us, and then it holds our answers for that page's own.
//! Only the name in `Host` tells; upstreams that look at it see the one that we send them.

use crate::mcp::authority::{Authority, is_loopback, is_same_host, is_scheme};
use crate::mcp::public_url::Base;

/// `allowed_hosts` and `allowed_origins` of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    pub hosts: Vec<Host>,
    pub origins: Vec<Origin>,
}

/// One entry of `allowed_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `*`
    Any,
    /// Every name of this machine, at any port.
    Loopback,
    Named {
        host: String,
        port: Port,
    },
}

/// The port of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// `*`
    Any,
    /// The scheme's own, whichever that is, written or not.
    Default,
    Is(u16),
}

/// One entry of `allowed_origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `null`: sandboxed pages, files, and whoever hides where it comes from.
    Null,
    /// `scheme: None` = any.
    Of { scheme: Option<String>, host: Host },
}

impl Allowed {
    /// `written`: the host as the hop wrote it; `public`: as the outside sees it, which a trusted hop may have claimed. Both must be
    /// allowed, because a page that runs on a trusted machine could claim any.
    pub fn takes_host(&self, written: Option<&str>, public: &str) -> bool {
        let fits = |host: &str| {
            Authority::parse(host)
                .is_some_and(|authority| self.hosts.iter().any(|entry| entry.fits(authority)))
        };
        self.takes_any_host() || (written.is_none_or(fits) && fits(public))
    }

    /// Only browsers send an `Origin`; what has none may come in. A page of our own may always come back, once it is certain that the
    /// host is ours.
    pub fn takes_origin(&self, origin: &str, base: &Base) -> bool {
        let own = !self.takes_any_host() && origin.eq_ignore_ascii_case(&base.origin());
        own || self.origins.iter().any(|entry| entry.fits(origin))
    }

    fn takes_any_host(&self) -> bool {
        self.hosts.contains(&Host::Any)
    }
}

impl Host {
    /// `HOST`, `HOST:PORT`, `HOST:*` or `*`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (host, port) = match text.strip_suffix(":*") {
            Some(host) => (host, Port::Any),
            None => (text, Port::Default),
        };
        let authority = Authority::parse(host).filter(|_| !host.ends_with(':'))?;
        let port = match (authority.port, port) {
            (None, port) => port,
            (Some(80 | 443), Port::Default) => Port::Default,
            (Some(port), Port::Default) => Port::Is(port),
            (Some(_), _) => return None,
        };
        Some(Self::Named { host: authority.host.to_owned(), port })
    }

    fn fits(&self, authority: Authority<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback => is_loopback(authority.host),
            Self::Named { host, port } => {
                let port_fits = match port {
                    Port::Any => true,
                    Port::Default => matches!(authority.port, None | Some(80 | 443)),
                    Port::Is(port) => authority.port == Some(*port),
                };
                port_fits && is_same_host(authority.host, host)
            }
        }
    }
}

impl Origin {
    /// `null`, or a host as in `allowed_hosts`, with or without `SCHEME://` before it.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let (scheme, host) = match text.split_once("://") {
            Some((scheme, _)) if !is_scheme(scheme) => return None,
            Some((scheme, host)) => (Some(scheme.to_owned()), host),
            None => (None, text),
        };
        Some(Self::Of { scheme, host: Host::parse(host)? })
    }

    fn fits(&self, origin: &str) -> bool {
        let Self::Of { scheme, host } = self else { return origin == "null" };
        if *self == (Self::Of { scheme: None, host: Host::Any }) {
            return true;
        }
        let Some((its_scheme, authority)) = origin.split_once("://") else { return false };
        scheme.as_ref().is_none_or(|scheme| scheme.eq_ignore_ascii_case(its_scheme))
            && Authority::parse(authority).is_some_and(|authority| host.fits(authority))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn allowed(hosts: &[&str], origins: &[&str]) -> Allowed {
        Allowed {
            hosts: hosts.iter().map(|text| Host::parse(text).unwrap()).collect(),
            origins: origins.iter().map(|text| Origin::parse(text).unwrap()).collect(),
        }
    }

    fn takes_host(allowed: &Allowed, host: &str) -> bool {
        allowed.takes_host(Some(host), host)
    }

    fn takes_origin(allowed: &Allowed, origin: &str, own: &str) -> bool {
        allowed.takes_origin(origin, &Base::parse(own).unwrap())
    }

    #[test]
    fn a_host_is_allowed_by_its_name_and_port() {
        let list = allowed(&["mcp.example.com", "b:8443", "c:*", "[2001:db8::1]:*", "d:443"], &[]);
        for host in [
            "mcp.example.com",
            "MCP.EXAMPLE.COM",
            "mcp.example.com:443",
            "mcp.example.com:80",
            "b:8443",
            "c",
            "c:1",
            "[2001:db8:0::1]:9",
            "d",
        ] {
            assert!(takes_host(&list, host), "{host}");
        }
        for host in [
            "mcp.example.com:8443",
            "mcp.example.com.evil",
            "x.mcp.example.com",
            "mcp.example.com.",
            "b",
            "b:443",
            "[2001:db8::2]",
            "localhost",
            "",
            "c:x",
            "user@c",
            "c,d",
        ] {
            assert!(!takes_host(&list, host), "{host}");
        }
        assert!(takes_host(&allowed(&["*"], &[]), "anything:1"));
        let loopback = Allowed { hosts: vec![Host::Loopback], origins: vec![] };
        for (host, expected) in [
            ("localhost:8080", true),
            ("127.0.0.1", true),
            ("[::1]:1", true),
            ("LocalHost", true),
            ("localhost.evil", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(takes_host(&loopback, host), expected, "{host}");
        }
    }

    #[test]
    fn what_a_trusted_hop_claims_must_be_allowed_as_well_as_what_it_writes() {
        let list = allowed(&["a"], &[]);
        for (written, public, expected) in [
            (Some("a"), "a", true),
            (None, "a", true),
            (Some("evil"), "a", false),
            (Some("a"), "evil", false),
            (None, "evil", false),
            (Some("a b"), "a", false),
        ] {
            assert_eq!(list.takes_host(written, public), expected, "{written:?} {public}");
        }
    }

    #[test]
    fn an_origin_is_allowed_if_it_is_listed_our_own_or_absent() {
        let list = allowed(
            &["mcp.example.com"],
            &["https://app.example.com", "b:*", "vscode-webview://x1", "http://c:1"],
        );
        for origin in [
            "https://app.example.com",
            "HTTPS://App.example.com:443",
            "http://b:9",
            "https://b",
            "vscode-webview://x1",
            "http://c:1",
            "https://mcp.example.com",
        ] {
            assert!(takes_origin(&list, origin, "https://mcp.example.com/gate"), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://evil.example",
            "null",
            "",
            "https://",
            "app.example.com",
            "http://c",
            "http://mcp.example.com",
            "https://app.example.com/x",
            "https://a https://b",
        ] {
            assert!(!takes_origin(&list, origin, "https://mcp.example.com"), "{origin}");
        }
        let null = allowed(&["a"], &["null"]);
        assert!(takes_origin(&null, "null", "http://a") && !takes_origin(&null, "http://b", "http://a"));
        let any = allowed(&["*"], &["*"]);
        assert!(takes_origin(&any, "null", "http://a") && takes_origin(&any, "https://evil", "http://a"));
        let any_https = allowed(&["*"], &["https://*"]);
        assert!(
            takes_origin(&any_https, "https://b:1", "http://a")
                && !takes_origin(&any_https, "http://b", "http://a")
        );
    }

    #[test]
    fn our_own_page_is_only_known_where_the_host_is() {
        assert!(takes_origin(&allowed(&["a"], &["https://b"]), "http://a", "http://a"));
        assert!(!takes_origin(&allowed(&["*"], &["https://b"]), "http://a", "http://a"));
    }

    #[test]
    fn entries_are_hosts_with_one_port_at_most() {
        for text in [
            "",
            "a:",
            "a:0",
            "a:x",
            "a:1:*",
            "a:**",
            "*:1",
            "*.example.com",
            "http://a",
            "a/b",
            "a b",
            "[::1",
            "::1",
            ":*",
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
        for text in [
            "",
            "NULL:",
            "://a",
            "1http://a",
            "https://",
            "https://a/",
            "https://a/b",
            "https://null:x",
            "a://b://c",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
