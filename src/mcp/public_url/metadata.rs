//! Documents of protected resources (RFC 9728): the addresses of this upstream inside them.
//! Takes the path or the body of one, gives the new body, or nothing where it stays as it is; every other byte of it is unchanged.
//! Surprise: authorization servers are rewritten too where they are this very upstream; one elsewhere keeps its name, because clients
//! compare it with what its own documents say.

use std::ops::Range;

use crate::mcp::json::{Malformed, Scanner};

/// Longest document that is read; real ones have a few hundred bytes.
pub const LONGEST: usize = 64 * 1024;

const NAME: &str = "oauth-protected-resource";

/// Whether a path is that of such a document: at the root (RFC 9728 §3.1) or, as ContextForge has it, below a server.
pub fn is_metadata(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/');
    segments.any(|segment| segment == b".well-known") && segments.next() == Some(NAME.as_bytes())
}

/// The document with `resource` and each of `authorization_servers` made public.
pub fn rewritten(body: &[u8], public: impl Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut addresses = Vec::new();
    find(text, &mut addresses).ok()?;
    let mut rewritten = Vec::with_capacity(body.len());
    let mut copied = 0;
    for (span, address) in addresses {
        if let Some(public) = public(&address) {
            rewritten.extend_from_slice(&body[copied..span.start]);
            rewritten.extend_from_slice(serde_json::Value::from(public).to_string().as_bytes());
            copied = span.end;
        }
    }
    if copied == 0 {
        return None;
    }
    rewritten.extend_from_slice(&body[copied..]);
    Some(rewritten)
}

/// Spans (with quotes) and texts of all addresses of interest, in order.
fn find(text: &str, addresses: &mut Vec<(Range<usize>, String)>) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(text);
    scanner.object(|scanner, key| match (&*key.name.decode(text), scanner.peek()) {
        ("resource", Some(b'"')) => address(text, scanner, addresses),
        ("authorization_servers", Some(b'[')) => scanner.array(|scanner| match scanner.peek() {
            Some(b'"') => address(text, scanner, addresses),
            _ => scanner.value().map(drop),
        }),
        _ => scanner.value().map(drop),
    })?;
    scanner.end()
}

fn address<'t>(
    text: &'t str,
    scanner: &mut Scanner<'t>,
    addresses: &mut Vec<(Range<usize>, String)>,
) -> Result<(), Malformed> {
    let string = scanner.string()?;
    let span = string.span.start - 1..string.span.end + 1;
    addresses.push((span, string.decode(text).into_owned()));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn outside(body: &str) -> Option<String> {
        let public = |address: &str| Some(format!("https://out{}", address.strip_prefix("http://in")?));
        rewritten(body.as_bytes(), public).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn addresses_of_this_upstream_become_public_and_no_other_byte_changes() {
        for (body, expected) in [
            (r#"{"resource":"http://in/mcp"}"#, r#"{"resource":"https://out/mcp"}"#),
            (
                r#" { "a" : 1e400, "resource" : "http:\/\/in" , "authorization_servers" : [ "https://as" , "http://in/a", 7 ], "resource_name":"http://in" } "#,
                r#" { "a" : 1e400, "resource" : "https://out" , "authorization_servers" : [ "https://as" , "https://out/a", 7 ], "resource_name":"http://in" } "#,
            ),
            (r#"{"re\u0073ource":"http://in/\u00e9\"\\"}"#, "{\"re\\u0073ource\":\"https://out/é\\\"\\\\\"}"),
            (
                r#"{"resource":"http://in/1","resource":"http://in/2"}"#,
                r#"{"resource":"https://out/1","resource":"https://out/2"}"#,
            ),
        ] {
            assert_eq!(outside(body).as_deref(), Some(expected), "{body}");
        }
        for body in [
            "",
            "null",
            r#""http://in""#,
            r#"["http://in"]"#,
            r#"{"resource":null,"authorization_servers":"http://in"}"#,
            r#"{"resource":{"resource":"http://in"}}"#,
            r#"{"resource":"https://elsewhere"}"#,
            r#"{"resource":"http://in""#,
            r#"{"resource":"http://in"} x"#,
            r#"{"jwks_uri":"http://in"}"#,
        ] {
            assert_eq!(outside(body), None, "{body}");
        }
        assert_eq!(rewritten(b"{\"resource\":\"http://in\xff\"}", |_| Some(String::new())), None);
    }

    #[test]
    fn such_a_document_is_known_by_its_path() {
        for path in [
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/",
            "/.well-known/oauth-protected-resource/servers/a1/mcp",
            "/servers/a1/.well-known/oauth-protected-resource",
        ] {
            assert!(is_metadata(path.as_bytes()), "{path}");
        }
        for path in [
            "/",
            "/.well-known",
            "/.well-known/oauth-authorization-server",
            "/.well-known/oauth-protected-resources",
            "/.well-known/x/oauth-protected-resource",
            "/oauth-protected-resource",
            "/x.well-known/oauth-protected-resource",
        ] {
            assert!(!is_metadata(path.as_bytes()), "{path}");
        }
    }
}
