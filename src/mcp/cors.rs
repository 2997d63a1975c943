//! What a page in a browser may read of an answer (Fetch §3.3.5): a session id that is not exposed is lost, and the session with it.
//! Takes the fields that the upstream sent, says whether ours must be added. Surprise: `*` exposes everything, but not to a page that
//! sends credentials; there it is the name of a field like any other.

use super::fields::is_space;

pub const SESSION: &str = "Mcp-Session-Id";

/// `exposed`: the lines of `Access-Control-Expose-Headers`; `credentials`: whether `Access-Control-Allow-Credentials` is `true`.
pub fn hides_session<'v>(exposed: impl IntoIterator<Item = &'v str>, credentials: bool) -> bool {
    let mut names =
        exposed.into_iter().flat_map(|line| line.split(',')).map(|name| name.trim_matches(is_space));
    !names.any(|name| name.eq_ignore_ascii_case(SESSION) || (name == "*" && !credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_hidden_unless_it_is_named() {
        let none: [&str; 0] = [];
        for (lines, hidden, hidden_from_credentials) in [
            (&none[..], true, true),
            (&["Content-Length, X-Request-ID"], true, true),
            (&["X-Mcp-Session-Id"], true, true),
            (&["a,mcp-session-ID ,b"], false, false),
            (&["a", "Mcp-Session-Id"], false, false),
            (&["*"], false, true),
            (&["*, Mcp-Session-Id"], false, false),
        ] {
            assert_eq!(hides_session(lines.iter().copied(), false), hidden, "{lines:?}");
            assert_eq!(hides_session(lines.iter().copied(), true), hidden_from_credentials, "{lines:?}");
        }
    }
}
