//! Room 3, identify: the era of a request and the session that it names.
//! Takes the headers and query that can carry a session id, and what the body says of itself; gives an [`Era`] and a session id.
//! Surprise: the body decides the era, never the header alone. A client could otherwise write `MCP-Protocol-Version:
//! 2026-07-28` over a legacy body and have its session id looked at by the gateway but not by us.

use std::borrow::Cow;

/// First protocol version without sessions (SEP-2567).
pub const FIRST_MODERN: &str = "2026-07-28";

/// Longest session id that we route by; the specification sets none, servers mint 32 to 64 characters.
const LONGEST: usize = 1024;

/// Whether a request belongs to a session-bearing protocol version or to the stateless ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: handshake, sessions, streams.
    Legacy,
    /// From 2026-07-28: every request stands alone.
    Modern,
}

impl Era {
    /// By `params._meta["io.modelcontextprotocol/protocolVersion"]` of the body; versions are dates and compare as text.
    pub fn of_body(protocol_version: Option<&str>) -> Self {
        match protocol_version {
            Some(version) if is_date(version) && version >= FIRST_MODERN => Self::Modern,
            _ => Self::Legacy,
        }
    }

    /// Whether a session id means anything.
    pub fn has_sessions(self) -> bool {
        self == Self::Legacy
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Legacy, Self::Modern].into_iter().find(|era| era.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// What the `Mcp-Session-Id` headers of a request amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionHeader<'h> {
    None,
    One(&'h str),
    /// Several different values, or bytes outside visible ASCII (2025-11-25, transports, session management).
    Malformed,
}

/// Reads all `Mcp-Session-Id` values of a request.
pub fn session_header<'h>(mut values: impl Iterator<Item = &'h [u8]>) -> SessionHeader<'h> {
    let Some(first) = values.next() else { return SessionHeader::None };
    if values.any(|other| other != first) {
        return SessionHeader::Malformed;
    }
    match valid(first) {
        Some(id) => SessionHeader::One(id),
        None => SessionHeader::Malformed,
    }
}

/// Session id of an HTTP+SSE message URL's query: `session_id` (Python, ContextForge), `sessionId` (TypeScript), `sessionid` (Go).
pub fn session_in_query(query: &str) -> Option<Cow<'_, str>> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let known = name.eq_ignore_ascii_case("session_id") || name.eq_ignore_ascii_case("sessionid");
        if !known {
            return None;
        }
        let decoded = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        valid(decoded.as_bytes()).is_some().then_some(decoded)
    })
}

fn valid(id: &[u8]) -> Option<&str> {
    let visible = !id.is_empty() && id.len() <= LONGEST && id.iter().all(|byte| (0x21..=0x7e).contains(byte));
    if visible { std::str::from_utf8(id).ok() } else { None }
}

fn is_date(version: &str) -> bool {
    let bytes = version.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_decides_the_era() {
        let table = [
            (None, Era::Legacy),
            (Some("2024-11-05"), Era::Legacy),
            (Some("2025-11-25"), Era::Legacy),
            (Some("2026-07-28"), Era::Modern),
            (Some("2027-01-01"), Era::Modern),
            (Some("9"), Era::Legacy),
            (Some("draft"), Era::Legacy),
            (Some("2026-07-28x"), Era::Legacy),
            (Some(""), Era::Legacy),
        ];
        for (version, era) in table {
            assert_eq!(Era::of_body(version), era, "{version:?}");
        }
    }

    #[test]
    fn one_session_header_or_none() {
        let read = |values: &[&'static [u8]]| session_header(values.iter().copied());
        assert_eq!(read(&[]), SessionHeader::None);
        assert_eq!(read(&[b"abc"]), SessionHeader::One("abc"));
        assert_eq!(read(&[b"abc", b"abc"]), SessionHeader::One("abc"));
        assert_eq!(read(&[b"abc", b"abd"]), SessionHeader::Malformed);
        assert_eq!(read(&[b""]), SessionHeader::Malformed);
        assert_eq!(read(&[b"a b"]), SessionHeader::Malformed);
        assert_eq!(read(&[b"a\x80"]), SessionHeader::Malformed);
    }

    #[test]
    fn three_spellings_of_the_query() {
        for query in
            ["session_id=a1", "x=1&sessionId=a1", "sessionid=a1&y", "SESSION_ID=a1", "session_id=%611"]
        {
            assert_eq!(session_in_query(query).as_deref(), Some("a1"), "{query}");
        }
        for query in ["", "session=a1", "session_id", "session_id=", "session_id=a%20b", "session_id=%ff"] {
            assert_eq!(session_in_query(query), None, "{query}");
        }
    }
}
