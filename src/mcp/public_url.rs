//! The public address of a listener (P4): what its clients call us, which is what every address that leaves has to begin with.
//! Takes a listener's `public_url` and a request's [`Origin`], gives its [`Base`]; neighbours apply it to answers: [`address`] to single
//! addresses, [`challenge`] to `WWW-Authenticate`, [`metadata`] to the documents of protected resources.
//! Surprise: where the client wrote the host in its own way (`MCP.example.com`), that way is kept even if `external_url` writes it
//! otherwise, because clients in Python compare origins as strings; for the same reason no address has a default port.

pub mod address;
pub mod challenge;
pub mod metadata;

use super::authority::{Authority, is_same_host};
use super::forwarded::Origin;

/// `public_url` of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicUrl {
    /// `protocol`; `None` = auto: as the request came.
    pub https: Option<bool>,
    /// `external_url`; says everything.
    pub external: Option<Base>,
}

/// Scheme, host and path that public addresses begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub https: bool,
    /// An [`Authority`], with a default port if the client wrote it.
    pub authority: String,
    /// Empty, or `/` and segments without a `/` behind the last.
    pub prefix: String,
}

impl PublicUrl {
    pub fn base(&self, origin: &Origin) -> Base {
        let written = Base {
            https: self.https.unwrap_or(origin.https),
            authority: origin.authority.clone(),
            prefix: String::new(),
        };
        match &self.external {
            Some(external) if external.is_at(&origin.authority) => {
                Base { authority: written.authority, ..external.clone() }
            }
            Some(external) => external.clone(),
            None => written,
        }
    }
}

const WELL_KNOWN: &[u8] = b"/.well-known/";

/// What a prefix has to be, for who wrote another.
pub const PLAIN: &str =
    "may have segments of letters, digits and -._~!$&'()*+,;=:@ only, and none that is empty, . or ..";

/// The prefix that a path is: nothing, or `/` and plain segments.
pub fn prefix(path: &str) -> Option<&str> {
    let prefix = path.strip_suffix('/').unwrap_or(path);
    let whole = prefix.is_empty() || prefix.starts_with('/');
    (whole && prefix.split('/').skip(1).all(is_plain_segment)).then_some(prefix)
}

/// [`Base::without_prefix`] for any prefix.
pub fn without_prefix(prefix: &str, target: &[u8]) -> Option<Vec<u8>> {
    let prefix = Some(prefix.as_bytes()).filter(|prefix| !prefix.is_empty())?;
    let behind =
        |path: &[u8]| path.strip_prefix(prefix).filter(|rest| ends_segment(rest)).map(<[u8]>::to_vec);
    if let Some(rest) = behind(target) {
        return Some(if rest.starts_with(b"/") { rest } else { [b"/", &rest[..]].concat() });
    }
    let name = target.strip_prefix(WELL_KNOWN)?;
    let (known, rest) = target.split_at(WELL_KNOWN.len() + name.iter().position(|byte| *byte == b'/')?);
    Some([known, &behind(rest)?].concat())
}

impl Base {
    /// An `external_url`, or the reason why it is none.
    pub fn parse(url: &str) -> Result<Self, String> {
        let expected = || format!("expected a URL such as https://mcp.example.com/gateway, found {url:?}");
        let (https, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(expected()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = Authority::parse(authority).ok_or_else(expected)?.to_string();
        match prefix(path) {
            Some(prefix) => Ok(Self { https, authority, prefix: prefix.to_owned() }),
            None => Err(format!("its path {PLAIN}, found {url:?}")),
        }
    }

    /// The target of a request without the prefix, if it has it: a proxy in front may take the prefix off, or not. Also from the
    /// well-known addresses of what stands behind the prefix, where it is the second part (RFC 9728 §3.1).
    pub fn without_prefix(&self, target: &[u8]) -> Option<Vec<u8>> {
        without_prefix(&self.prefix, target)
    }

    /// Scheme and authority, as a browser would write them.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.parts().without_default_port(self.https))
    }

    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    pub fn port(&self) -> u16 {
        self.parts().port_of(self.https)
    }

    /// Whether this is the same host and port.
    fn is_at(&self, authority: &str) -> bool {
        let (own, other) = (self.parts(), Authority::parse(authority));
        other.is_some_and(|other| {
            is_same_host(own.host, other.host) && own.port_of(self.https) == other.port_of(self.https)
        })
    }

    fn parts(&self) -> Authority<'_> {
        // What makes a base has looked at its authority.
        Authority::parse(&self.authority).unwrap_or(Authority { host: &self.authority, port: None })
    }

    /// What stands behind an origin (a path, a query, or nothing), as the outside calls it. A path that has the prefix already is
    /// left alone: some upstreams know it by themselves.
    fn prefixed(&self, rest: &str) -> String {
        match rest.strip_prefix(&self.prefix) {
            Some(behind) if ends_segment(behind.as_bytes()) => rest.to_owned(),
            _ => format!("{}{rest}", self.prefix),
        }
    }
}

/// RFC 3986 §3.3 but for percent signs, since prefixes are compared byte by byte.
fn is_plain_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

/// Whether what follows a path's beginning does not go on in the same segment.
fn ends_segment(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b'/' | b'?' | b'#'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn external(url: &str) -> PublicUrl {
        PublicUrl { https: None, external: Some(Base::parse(url).unwrap()) }
    }

    fn base(public_url: &PublicUrl, https: bool, authority: &str) -> String {
        let client = "192.0.2.1".parse().unwrap();
        let base = public_url.base(&Origin { client, https, authority: authority.into() });
        format!("{} {}", base.origin() + &base.prefix, base.port())
    }

    #[test]
    fn the_base_is_what_the_client_wrote_unless_the_listener_knows_better() {
        let auto = PublicUrl::default();
        let forced = |https| PublicUrl { https: Some(https), external: None };
        for (public_url, https, authority, expected) in [
            (&auto, false, "mcp.example.com", "http://mcp.example.com 80"),
            (&auto, true, "MCP.example.com:8443", "https://MCP.example.com:8443 8443"),
            (&auto, true, "a:443", "https://a 443"),
            (&auto, false, "a:443", "http://a:443 443"),
            (&auto, false, "[::1]:80", "http://[::1] 80"),
            (&forced(true), false, "a", "https://a 443"),
            (&forced(true), false, "a:443", "https://a 443"),
            (&forced(true), false, "a:80", "https://a:80 80"),
            (&forced(false), true, "a", "http://a 80"),
            (&external("https://mcp.example.com"), false, "10.0.0.1:8080", "https://mcp.example.com 443"),
            (&external("https://mcp.example.com"), false, "MCP.example.com", "https://MCP.example.com 443"),
            (
                &external("https://mcp.example.com"),
                false,
                "MCP.example.com:443",
                "https://MCP.example.com 443",
            ),
            (
                &external("https://mcp.example.com"),
                true,
                "mcp.example.com:8443",
                "https://mcp.example.com 443",
            ),
            (&external("http://a:8080/b/c/"), true, "A:8080", "http://A:8080/b/c 8080"),
            (&external("https://[2001:DB8::1]/x"), true, "[2001:db8::1]:443", "https://[2001:db8::1]/x 443"),
        ] {
            assert_eq!(base(public_url, https, authority), expected, "{public_url:?} {authority}");
        }
    }

    #[test]
    fn an_external_url_is_a_scheme_a_host_and_plain_segments() {
        for (url, shown) in [
            ("https://mcp.example.com", "https://mcp.example.com"),
            ("https://mcp.example.com/", "https://mcp.example.com"),
            ("https://mcp.example.com:443/a", "https://mcp.example.com/a"),
            ("http://10.0.0.1:8080/a/b-c.~_/", "http://10.0.0.1:8080/a/b-c.~_"),
        ] {
            let base = Base::parse(url).unwrap();
            assert_eq!(base.origin() + &base.prefix, shown);
        }
        for url in [
            "",
            "mcp.example.com",
            "mcp.example.com/a",
            "ftp://a",
            "javascript:x",
            "https:/a",
            "https://",
            "https:///a",
            "https://user@a",
            "https://a:x",
            "https://a b",
            "https://a/b//c",
            "https://a//",
            "https://a/./b",
            "https://a/..",
            "https://a/b?c",
            "https://a/b#c",
            "https://a?b",
            "https://a/%62",
            "https://a/b c",
            "https://a/ä",
        ] {
            assert!(
                Base::parse(url).is_err_and(|reason| reason.contains(&format!("found {url:?}"))),
                "{url}"
            );
        }
    }

    #[test]
    fn the_prefix_is_taken_off_where_it_is_whole() {
        let nested = Base::parse("https://a/gate/way").unwrap();
        let plain = Base::parse("https://a").unwrap();
        for (target, inside) in [
            ("/gate/way/servers/a/mcp", Some("/servers/a/mcp")),
            ("/gate/way/mcp?a=/gate/way", Some("/mcp?a=/gate/way")),
            ("/gate/way", Some("/")),
            ("/gate/way?a=b", Some("/?a=b")),
            ("/gate/way/", Some("/")),
            ("/gate/way/gate/way/x", Some("/gate/way/x")),
            ("/gate/way//mcp", Some("//mcp")),
            (
                "/.well-known/oauth-protected-resource/gate/way/servers/a/mcp",
                Some("/.well-known/oauth-protected-resource/servers/a/mcp"),
            ),
            ("/.well-known/oauth-protected-resource/gate/way", Some("/.well-known/oauth-protected-resource")),
            ("/servers/a/mcp", None),
            ("/gate/ways", None),
            ("/gate", None),
            ("/Gate/way/mcp", None),
            ("/gate/%77ay/mcp", None),
            ("//gate/way/mcp", None),
            ("/x/gate/way/mcp", None),
            ("/.well-known/gate/way", None),
            ("/.well-known/", None),
            ("/.well-known/oauth-protected-resource/gate/ways", None),
            ("*", None),
            ("", None),
        ] {
            let found = nested.without_prefix(target.as_bytes());
            assert_eq!(found.as_deref(), inside.map(str::as_bytes), "{target}");
            assert_eq!(plain.without_prefix(target.as_bytes()), None, "{target}");
        }
    }
}
