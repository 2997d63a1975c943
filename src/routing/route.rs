//! Room 2, classify: which of our routes a path is, and whose server id it carries.
//! Takes the raw path of the request line and the compiled patterns of `routes`, gives a [`Route`].
//! Surprise: a path is read twice, strictly as we route and leniently as a sloppy server might. Where only the lenient
//! reading finds an MCP route, the request is refused, because the upstream could see a scope that we did not (P1, P7).

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// What a request is, by its path alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'p> {
    /// Streamable HTTP endpoint.
    Mcp { server_id: Option<Cow<'p, str>> },
    /// HTTP+SSE: the GET that opens the event stream.
    Sse { server_id: Option<Cow<'p, str>> },
    /// HTTP+SSE: where the client POSTs its messages.
    Message { server_id: Option<Cow<'p, str>> },
    /// None of our business: passed through as it is.
    Pass,
    /// Does not exist for the outside, or can be read in two ways.
    Refused(Refused),
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The gateway's internal endpoints (`/_internal/…`): 404.
    Internal,
    /// Dot segments, empty segments, encoded slashes or the like around an MCP route: 400.
    Ambiguous,
}

/// The compiled MCP route patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    patterns: Vec<(Kind, Pattern)>,
}

/// Why a pattern of `routes` was refused: which list, which entry, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// `mcp`, `sse` or `message`.
    pub list: &'static str,
    pub index: usize,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mcp,
    Sse,
    Message,
}

type Pattern = Vec<Segment>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    ServerId,
}

const SERVER_ID: &str = "{server_id}";

impl Routes {
    /// Compiles the three lists of `routes`; all problems of all lists at once.
    pub fn compile(mcp: &[String], sse: &[String], message: &[String]) -> Result<Self, Vec<RouteError>> {
        let lists = [(Kind::Mcp, "mcp", mcp), (Kind::Sse, "sse", sse), (Kind::Message, "message", message)];
        let mut patterns: Vec<(Kind, Pattern)> = Vec::new();
        let mut errors = Vec::new();
        for (kind, list, entries) in lists {
            for (index, text) in entries.iter().enumerate() {
                match compile_one(text) {
                    Ok(pattern) if patterns.iter().any(|(_, known)| *known == pattern) => {
                        errors.push(RouteError {
                            list,
                            index,
                            reason: format!("`{text}` stands here or in another list already"),
                        })
                    }
                    Ok(pattern) => patterns.push((kind, pattern)),
                    Err(reason) => errors.push(RouteError { list, index, reason }),
                }
            }
        }
        if errors.is_empty() { Ok(Self { patterns }) } else { Err(errors) }
    }

    /// Classifies the path of a request line (without its query). `contextforge`: whether ContextForge stands behind, which has
    /// internal endpoints to guard, and which up to 1.0.x takes every path that ends in `/mcp` for its MCP endpoint.
    pub fn classify<'p>(&self, path: &'p [u8], contextforge: bool) -> Route<'p> {
        if let Some(route) = self.strict(path) {
            return route;
        }
        let lenient = lenient_segments(path);
        let first = lenient.first().map_or("", String::as_str);
        if contextforge && first.eq_ignore_ascii_case("_internal") {
            return Route::Refused(Refused::Internal);
        }
        let ends_like_mcp = lenient.last().is_some_and(|last| last.eq_ignore_ascii_case("mcp"));
        if contextforge && ends_like_mcp && first != ".well-known" {
            return Route::Refused(Refused::Ambiguous);
        }
        if self.patterns.iter().any(|(_, pattern)| matches_lenient(pattern, &lenient)) {
            return Route::Refused(Refused::Ambiguous);
        }
        Route::Pass
    }

    /// Whether the paths of a route may begin with these segments (`/a/b`).
    pub fn any_begins_with(&self, prefix: &str) -> bool {
        let segments: Vec<&str> = prefix.split('/').skip(1).collect();
        self.patterns.iter().any(|(_, pattern)| {
            segments.len() <= pattern.len()
                && segments.iter().zip(pattern).all(|(segment, expected)| match expected {
                    Segment::Literal(literal) => literal == segment,
                    Segment::ServerId => true,
                })
        })
    }

    /// The path exactly as it stands: every segment decoded once, one trailing slash allowed.
    fn strict<'p>(&self, path: &'p [u8]) -> Option<Route<'p>> {
        let path = path.strip_prefix(b"/")?;
        let path = path.strip_suffix(b"/").unwrap_or(path);
        // An MCP route has few segments; a longer path cannot match and is not decoded.
        let longest = self.patterns.iter().map(|(_, pattern)| pattern.len()).max().unwrap_or(0);
        if path.iter().filter(|byte| **byte == b'/').count() >= longest {
            return None;
        }
        let segments = path.split(|byte| *byte == b'/').map(decode_segment).collect::<Option<Vec<_>>>()?;
        self.patterns.iter().find_map(|(kind, pattern)| {
            let server_id = match_segments(pattern, &segments)?;
            Some(match kind {
                Kind::Mcp => Route::Mcp { server_id },
                Kind::Sse => Route::Sse { server_id },
                Kind::Message => Route::Message { server_id },
            })
        })
    }
}

/// `/servers/{server_id}/mcp` → segments; the reason in words where it is no pattern.
fn compile_one(text: &str) -> Result<Pattern, String> {
    let rest = text.strip_prefix('/').ok_or_else(|| format!("`{text}` must begin with `/`"))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Err(format!("`{text}` would match the root"));
    }
    let mut pattern = Vec::new();
    for segment in rest.split('/') {
        match segment {
            SERVER_ID if pattern.contains(&Segment::ServerId) => {
                return Err(format!("`{text}` names {SERVER_ID} twice"));
            }
            SERVER_ID => pattern.push(Segment::ServerId),
            "" | "." | ".." => return Err(format!("`{text}` has an empty or dot segment")),
            _ if segment.contains(['{', '}', '%', '?', '#', '*', '\\']) || !segment.is_ascii() => {
                return Err(format!("`{segment}` in `{text}` is neither a plain segment nor {SERVER_ID}"));
            }
            _ => pattern.push(Segment::Literal(segment.to_string())),
        }
    }
    Ok(pattern)
}

/// A decoded segment, or `None` where the decoding changes the path's structure or is no text.
fn decode_segment(raw: &[u8]) -> Option<Cow<'_, str>> {
    let decoded = match percent_decode(raw).into() {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
    };
    let unsafe_text = decoded.chars().any(|c| c == '/' || c == '\\' || c.is_control());
    (!unsafe_text && !matches!(&*decoded, "" | "." | "..")).then_some(decoded)
}

/// `Some(server id or none)` where the pattern fits.
fn match_segments<'p>(pattern: &Pattern, segments: &[Cow<'p, str>]) -> Option<Option<Cow<'p, str>>> {
    if pattern.len() != segments.len() {
        return None;
    }
    let mut server_id = None;
    for (expected, segment) in pattern.iter().zip(segments) {
        match expected {
            Segment::Literal(literal) if literal == segment => {}
            Segment::Literal(_) => return None,
            Segment::ServerId => server_id = Some(segment.clone()),
        }
    }
    Some(server_id)
}

/// The path as the most forgiving server would read it: decoded twice, backslashes as slashes, dot and empty segments
/// resolved, path parameters (`;…`) dropped.
fn lenient_segments(path: &[u8]) -> Vec<String> {
    let once: Vec<u8> = percent_decode(path).collect();
    let twice: Vec<u8> = percent_decode(&once).collect();
    let text = String::from_utf8_lossy(&twice);
    let mut segments: Vec<String> = Vec::new();
    for segment in text.split(['/', '\\']) {
        let segment =
            segment.split(';').next().unwrap_or("").trim_matches(|c: char| c.is_control() || c == ' ');
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment.to_string()),
        }
    }
    segments
}

fn matches_lenient(pattern: &Pattern, segments: &[String]) -> bool {
    pattern.len() == segments.len()
        && pattern.iter().zip(segments).all(|(expected, segment)| match expected {
            Segment::Literal(literal) => literal.eq_ignore_ascii_case(segment),
            Segment::ServerId => true,
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let list = |entries: &[&str]| entries.iter().map(|entry| entry.to_string()).collect::<Vec<_>>();
        Routes::compile(
            &list(&["/servers/{server_id}/mcp", "/mcp"]),
            &list(&["/servers/{server_id}/sse", "/sse"]),
            &list(&["/servers/{server_id}/message", "/message", "/messages/"]),
        )
        .unwrap()
    }

    fn scoped(id: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(id))
    }

    #[test]
    fn every_path_is_one_thing() {
        let ambiguous = Route::Refused(Refused::Ambiguous);
        let internal = Route::Refused(Refused::Internal);
        let table: &[(&str, Route)] = &[
            ("/servers/a1/mcp", Route::Mcp { server_id: scoped("a1") }),
            ("/servers/a1/mcp/", Route::Mcp { server_id: scoped("a1") }),
            ("/servers/a1/%6dcp", Route::Mcp { server_id: scoped("a1") }),
            ("/%73ervers/a%31/mcp", Route::Mcp { server_id: scoped("a1") }),
            ("/servers/caf%C3%A9/mcp", Route::Mcp { server_id: scoped("café") }),
            ("/mcp", Route::Mcp { server_id: None }),
            ("/mcp/", Route::Mcp { server_id: None }),
            ("/sse", Route::Sse { server_id: None }),
            ("/servers/a1/sse", Route::Sse { server_id: scoped("a1") }),
            ("/message", Route::Message { server_id: None }),
            ("/messages", Route::Message { server_id: None }),
            ("/messages/", Route::Message { server_id: None }),
            ("/servers/a1/message", Route::Message { server_id: scoped("a1") }),
            // other paths are none of our business
            ("/", Route::Pass),
            ("/health", Route::Pass),
            ("/servers/a1/mcp/x", Route::Pass),
            ("/.well-known/oauth-protected-resource/servers/a1/mcp", Route::Pass),
            // ContextForge 1.0.0rc1 serves MCP wherever a path ends so, and looks for a server id anywhere in it
            ("/foo/mcp", ambiguous.clone()),
            ("/servers//mcp", ambiguous.clone()),
            ("/x/servers/a1/mcp", ambiguous.clone()),
            ("/servers/a1/b2/mcp/", ambiguous.clone()),
            ("/servers/a%2Fb/mcp", ambiguous.clone()),
            ("/resources/http%3A%2F%2Fexample.com%2Fa", Route::Pass),
            ("/resources/http://example.com//a", Route::Pass),
            // what a sloppy server could take for an MCP route, but we would not
            ("//servers/a1/mcp", ambiguous.clone()),
            ("/servers/a1//mcp", ambiguous.clone()),
            ("/servers/a1/x/../mcp", ambiguous.clone()),
            ("/servers/a1/%2e%2e/b2/mcp", ambiguous.clone()),
            ("/./mcp", ambiguous.clone()),
            ("/x/../mcp", ambiguous.clone()),
            ("/servers%2Fa1%2Fmcp", ambiguous.clone()),
            ("/servers/a1%2Fmcp", ambiguous.clone()),
            ("/servers\\a1\\mcp", ambiguous.clone()),
            ("/servers/a1/%256dcp", ambiguous.clone()),
            ("/servers/a1/MCP", ambiguous.clone()),
            ("/servers/a1/mcp;x=1", ambiguous.clone()),
            ("/servers/a1/mcp%00", ambiguous.clone()),
            ("/servers/a%0d1/mcp", ambiguous.clone()),
            ("/servers/a1/mcp//", ambiguous.clone()),
            ("/_internal/mcp/rpc", internal.clone()),
            ("//_internal/mcp/rpc", internal.clone()),
            ("/%5finternal/mcp/rpc", internal.clone()),
            ("/x/../_internal/mcp/rpc", internal.clone()),
            ("/_INTERNAL", internal),
        ];
        for (path, expected) in table {
            assert_eq!(&routes().classify(path.as_bytes(), true), expected, "{path}");
        }
        for path in ["/_internal/x", "/foo/mcp", "/servers//mcp", "/x/servers/a1/mcp"] {
            assert_eq!(routes().classify(path.as_bytes(), false), Route::Pass, "{path}");
        }
        assert_eq!(routes().classify(b"/servers/\xff/mcp", true), ambiguous);
        assert_eq!(routes().classify(b"*", true), Route::Pass);
    }

    #[test]
    fn a_prefix_is_known_to_be_a_routes_beginning() {
        for prefix in ["/mcp", "/servers", "/servers/a", "/servers/a/mcp", "/message"] {
            assert!(routes().any_begins_with(prefix), "{prefix}");
        }
        for prefix in ["/gateway", "/mcp/x", "/mcps", "/servers/a/mcp/x", "/a/mcp"] {
            assert!(!routes().any_begins_with(prefix), "{prefix}");
        }
    }

    #[test]
    fn wrong_patterns_are_all_named_at_once() {
        let list = |entries: &[&str]| entries.iter().map(|entry| entry.to_string()).collect::<Vec<_>>();
        let errors =
            Routes::compile(&list(&["mcp", "/mcp", "/a/{b}"]), &list(&["/mcp/"]), &list(&["/", "/a//b"]))
                .unwrap_err();
        let named: Vec<_> = errors.iter().map(|error| (error.list, error.index)).collect();
        assert_eq!(named, [("mcp", 0), ("mcp", 2), ("sse", 0), ("message", 0), ("message", 1)]);
    }
}
