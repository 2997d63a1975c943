//! Redirects that only add or take away the slash at the end of a path: frameworks send them for `/mcp` where they serve `/mcp/`.
//! Takes an answer's status and `Location` and the path that was sent, gives the path to send the same request to.
//! Surprise: only 307 and 308 are followed, because the others let a client turn its POST into a GET, and what it would then read is
//! not the answer to its message.

use super::public_url::address::Ours;

/// The path (with its query) that answers in place of `sent`; `None` where the redirect is the client's own to follow.
pub fn should_follow(status: u16, location: &str, sent: &str, ours: Ours<'_>) -> Option<String> {
    if !matches!(status, 307 | 308) {
        return None;
    }
    let target = ours.inside(location)?;
    let (path, query) = parts(target);
    let (sent_path, sent_query) = parts(sent);
    let only_slash = path.strip_suffix('/') == Some(sent_path) || sent_path.strip_suffix('/') == Some(path);
    (only_slash && query == sent_query && !path.is_empty()).then(|| target.to_owned())
}

fn parts(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::public_url::Base;
    use crate::mcp::public_url::address::Peers;

    struct One;

    impl Peers for One {
        fn any_is(&self, host: &str, port: u16) -> bool {
            (host, port) == ("10.0.0.1", 4444)
        }
    }

    #[test]
    fn a_slash_is_followed_and_nothing_else() {
        let base = Base { https: true, authority: "mcp.example.com".into(), prefix: "/gateway".into() };
        let ours = Ours { base: &base, peers: &One };
        for (location, sent, followed) in [
            ("/mcp/", "/mcp", Some("/mcp/")),
            ("/mcp", "/mcp/", Some("/mcp")),
            ("http://mcp.example.com/mcp/", "/mcp", Some("/mcp/")),
            ("http://10.0.0.1:4444/servers/a/mcp/", "/servers/a/mcp", Some("/servers/a/mcp/")),
            ("//10.0.0.1:4444/mcp/", "/mcp", Some("/mcp/")),
            ("/messages/?session_id=a", "/messages?session_id=a", Some("/messages/?session_id=a")),
            ("/mcp/", "/mcp?a=b", None),
            ("/mcp/?a=c", "/mcp?a=b", None),
            ("/mcp/?a=b", "/mcp", None),
            ("/mcp//", "/mcp", None),
            ("/mcp", "/mcp", None),
            ("/mcp/#a", "/mcp", None),
            ("/MCP/", "/mcp", None),
            ("/servers/b/mcp/", "/servers/a/mcp", None),
            ("/gateway/mcp/", "/mcp", None),
            ("https://elsewhere/mcp/", "/mcp", None),
            ("http://10.0.0.1:4445/mcp/", "/mcp", None),
            ("mcp/", "/mcp", None),
            ("", "/", None),
        ] {
            assert_eq!(should_follow(307, location, sent, ours).as_deref(), followed, "{sent} -> {location}");
            assert_eq!(should_follow(308, location, sent, ours).as_deref(), followed, "{sent} -> {location}");
        }
        for status in [200, 201, 300, 301, 302, 303, 304, 305, 306, 309, 401] {
            assert_eq!(should_follow(status, "/mcp/", "/mcp", ours), None, "{status}");
        }
    }
}
