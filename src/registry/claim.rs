//! What the registry keeps: a claim, under the key of its session.
//! PURE: from an upstream's name and a session id to a key, from a claim to its JSON and back; one codec for every kind of registry.
//! Surprise: a session id is a bearer secret, so it is hashed here and never reaches a file, Redis or a log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A session of an upstream: SHA-256 over upstream name, NUL, session id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey([u8; 32]);

/// Who owns a session, and under which scope it was opened. Never changes while its owner lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The member whose peer it is; `None` = the peer is the same one for whoever reads this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The name of the owning peer in its upstream.
    pub peer: String,
    /// The server id of the path that opened the session; `None` = it was opened without one (`/mcp`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    pub transport: Transport,
}

/// The MCP transport that a session was opened with (MCP 2025-11-25 and 2024-11-05, "Transports").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    StreamableHttp,
    HttpSse,
}

/// How an attempt to claim a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The claim stands: it is new, or it was ours already and its time starts anew.
    Won,
    /// Another claim was there first; it is untouched.
    Held(Claim),
}

impl SessionKey {
    /// The key of `session_id` at the upstream named `upstream`.
    pub fn new(upstream: &str, session_id: &str) -> Self {
        let mut hash = openssl::sha::Sha256::new();
        hash.update(upstream.as_bytes());
        hash.update(&[0]);
        hash.update(session_id.as_bytes());
        Self(hash.finish())
    }

    /// The key of a task of the modern era, which is owned like a session. No session id has a NUL, so none passes for a task.
    pub fn of_task(upstream: &str, task_id: &str) -> Self {
        Self::new(upstream, &format!("task\0{task_id}"))
    }

    /// The key under which is noted that a call within a session may be answered with nothing.
    pub fn of_call(session: &Self, id: &str) -> Self {
        Self::new(&session.hex(), &format!("call\0{id}"))
    }

    /// First 12 hex digits: the "session hash" of logs.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }

    /// All 64 hex digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads what [`Self::hex`] wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        Some(Self(bytes?.try_into().ok()?))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({}…)", self.short())
    }
}

impl From<[u8; 32]> for SessionKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Claim {
    /// What is left of a claim whose owner is gone: nobody's, so that whoever asks next need not find that out again.
    pub fn of_nobody(&self) -> Self {
        Self { member: None, peer: String::new(), ..self.clone() }
    }

    pub fn is_of_nobody(&self) -> bool {
        self.member.is_none() && self.peer.is_empty()
    }

    /// Compact JSON with its keys in one fixed order, so that equal claims are equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .unwrap_or_else(|_| unreachable!("two strings and a unit enum always serialise"))
    }

    /// `None` if the bytes are no claim that this version knows. Unknown keys are ignored: a newer generation may write more.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn claim(server_id: Option<&str>) -> Claim {
        Claim {
            member: None,
            peer: "w1".into(),
            server_id: server_id.map(Into::into),
            transport: Transport::StreamableHttp,
        }
    }

    #[test]
    fn the_json_is_the_contract_between_versions() {
        assert_eq!(
            String::from_utf8(claim(Some("a\"b")).to_json()).unwrap(),
            r#"{"peer":"w1","server_id":"a\"b","transport":"streamable-http"}"#
        );
        let elsewhere = Claim { member: Some("m1".into()), ..claim(None) };
        assert_eq!(
            String::from_utf8(elsewhere.to_json()).unwrap(),
            r#"{"member":"m1","peer":"w1","transport":"streamable-http"}"#
        );
        let legacy = Claim { transport: Transport::HttpSse, ..claim(None) };
        assert_eq!(String::from_utf8(legacy.to_json()).unwrap(), r#"{"peer":"w1","transport":"http-sse"}"#);
        for claim in [claim(Some("x")), claim(Some("")), legacy, elsewhere] {
            assert_eq!(Claim::from_json(&claim.to_json()), Some(claim));
        }
    }

    #[test]
    fn more_keys_are_ignored_and_unknown_transports_are_no_claim() {
        assert_eq!(
            Claim::from_json(br#"{"peer":"w1","transport":"streamable-http","colour":"red"}"#),
            Some(claim(None))
        );
        assert_eq!(Claim::from_json(br#"{"peer":"w1","transport":"carrier-pigeon"}"#), None);
        assert_eq!(Claim::from_json(b""), None);
    }

    #[test]
    fn the_key_is_sha_256_of_upstream_nul_session() {
        // printf 'gateway\0abc' | sha256sum
        let key = SessionKey::new("gateway", "abc");
        assert_eq!(key.short(), "6a7c4556f488");
        assert_ne!(key, SessionKey::new("gatewaya", "bc"));
        assert_ne!(key, SessionKey::new("other", "abc"));
        // printf 'gateway\0task\0abc' | sha256sum
        assert_eq!(SessionKey::of_task("gateway", "abc").short(), "e63aee3fb8a6");
    }

    #[test]
    fn hex_and_back() {
        let key = SessionKey::new("gateway", "abc");
        assert_eq!(SessionKey::from_hex(&key.hex()), Some(key));
        assert!(key.hex().starts_with(&key.short()));
        for no_key in ["", "6a", "zz", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(SessionKey::from_hex(no_key), None, "{no_key}");
        }
    }

    #[test]
    fn debug_shows_the_session_hash_only() {
        let key = SessionKey::new("gateway", "abc");
        assert_eq!(format!("{key:?}"), format!("SessionKey({}…)", key.short()));
    }
}
