//! Which header fields cross the proxy: hop-by-hop fields never do, the gateway's internal ones never come in from outside.
//! Takes field names (lower case, as the `http` crate keeps them), gives yes or no; the same rules serve both ways through the proxy.
//! Surprise: `te`, `trailer` and `upgrade` count as hop-by-hop although RFC 9110 §7.6.1 names only `connection`'s own list.

use super::client_cert;

/// Fields that belong to one connection (RFC 9110 §7.6.1, RFC 9113 §8.2.2).
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields that say where a request came from, or by which certificate (RFC 9440's too); removed from every request and set anew
/// (`forwarded`, `client_cert`).
pub fn is_forwarding(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-real-ip"
            | "x-forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
    ) || matches!(
        name,
        client_cert::FORWARDED
            | "client-cert"
            | "client-cert-chain"
            | "x-forwarded-by"
            | "x-forwarded-path"
            | "x-forwarded-port"
            | "x-forwarded-prefix"
            | "x-forwarded-protocol"
            | "x-forwarded-scheme"
            | "x-forwarded-server"
            | "x-forwarded-ssl"
            | "x-forwarded-uri"
            | "x-original-forwarded-for"
            | "x-original-host"
            | "x-url-scheme"
            | "front-end-https"
    )
}

/// Fields by which ContextForge's workers speak to each other; from outside they open what is closed (P7, IBM/mcp-context-forge#3018).
pub fn is_contextforge_internal(name: &str) -> bool {
    matches!(
        name,
        "x-forwarded-internally" | "x-original-worker" | "x-mcp-session-id" | "x-authenticated-user"
    ) || name.starts_with("x-contextforge-")
}

/// Fields that only one member may say to another.
pub fn is_outrigger_internal(name: &str) -> bool {
    name.starts_with("x-outrigger-")
}

/// Fields of an answer that speak of the body that came with them (RFC 9110 §8, RFC 9530); they go where another takes its place.
pub fn describes_body(name: &str) -> bool {
    matches!(
        name,
        "accept-ranges"
            | "content-digest"
            | "content-disposition"
            | "content-encoding"
            | "content-language"
            | "content-length"
            | "content-location"
            | "content-md5"
            | "content-range"
            | "content-type"
            | "digest"
            | "etag"
            | "last-modified"
            | "repr-digest"
    )
}

/// The names that `Connection` fields nominate as hop-by-hop (RFC 9110 §7.6.1), lower case; its own words are left out, so
/// that the list is nearly always empty.
pub fn nominated<'v>(connection: impl Iterator<Item = &'v [u8]>) -> Vec<String> {
    let tokens = connection.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    tokens
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
        .map(|token| String::from_utf8_lossy(token).to_ascii_lowercase())
        .collect()
}

/// RFC 9110 §5.6.2: what a name in a field's value may be made of.
pub fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// RFC 9110 §5.6.3.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_crosses() {
        for name in ["connection", "te", "transfer-encoding", "upgrade", "keep-alive", "trailer"] {
            assert!(is_hop_by_hop(name), "{name}");
        }
        for name in [
            "x-forwarded-internally",
            "x-contextforge-mcp-runtime-auth",
            "x-mcp-session-id",
            "x-original-worker",
        ] {
            assert!(is_contextforge_internal(name), "{name}");
        }
        for name in [
            "mcp-session-id",
            "mcp-protocol-version",
            "mcp-method",
            "mcp-name",
            "mcp-param-x",
            "authorization",
            "last-event-id",
            "traceparent",
        ] {
            assert!(
                !is_hop_by_hop(name) && !is_forwarding(name) && !is_contextforge_internal(name),
                "{name}"
            );
        }
    }

    #[test]
    fn what_a_client_acts_on_does_not_describe_a_body() {
        for name in ["content-type", "content-length", "content-encoding", "etag"] {
            assert!(describes_body(name), "{name}");
        }
        for name in ["www-authenticate", "allow", "retry-after", "cache-control", "set-cookie", "vary"] {
            assert!(!describes_body(name), "{name}");
        }
    }

    #[test]
    fn nomination_is_by_token() {
        let values: [&[u8]; 2] = [b"keep-alive, X-Secret", b"Foo,close"];
        assert_eq!(nominated(values.into_iter()), ["x-secret", "foo"]);
        assert!(nominated([&b"Keep-Alive"[..]].into_iter()).is_empty());
    }
}
