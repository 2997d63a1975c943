//! What a health check says to an MCP server, and what the answers mean.
//! Takes the JSON of an answer, gives a [`Reply`]. Surprise: that a server knows only other versions is a good answer here. It speaks
//! MCP, and which versions meet is between it and its clients.

use serde_json::{Value, json};

/// The last version with a handshake, which servers answer with the newest they know.
const HANDSHAKE_VERSION: &str = "2025-11-25";
/// The first version without.
pub const MODERN_VERSION: &str = "2026-07-28";
/// `UnsupportedProtocolVersionError` of 2026-07-28.
const UNSUPPORTED_VERSION: i64 = -32022;

/// Answers begin a session with this one, and end with that one.
pub const INITIALIZE: u64 = 1;
pub const PING: u64 = 2;
pub const DISCOVER: u64 = 1;

/// `version`: Outrigger's.
pub fn initialize(version: &str) -> String {
    json!({
        "jsonrpc": "2.0",
        "id": INITIALIZE,
        "method": "initialize",
        "params": {
            "protocolVersion": HANDSHAKE_VERSION,
            "capabilities": {},
            "clientInfo": { "name": "outrigger-health", "version": version },
        },
    })
    .to_string()
}

pub fn initialized() -> String {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string()
}

pub fn ping() -> String {
    json!({ "jsonrpc": "2.0", "id": PING, "method": "ping" }).to_string()
}

/// `version`: Outrigger's.
pub fn discover(version: &str) -> String {
    json!({
        "jsonrpc": "2.0",
        "id": DISCOVER,
        "method": "server/discover",
        "params": {
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
                "io.modelcontextprotocol/clientInfo": { "name": "outrigger-health", "version": version },
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    })
    .to_string()
}

/// What an answer is to the request with a given id.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Result(Value),
    Error {
        code: i64,
        message: String,
    },
    /// JSON-RPC, but not the answer: a notification, a request of the server's own.
    Other,
    NotMcp,
}

/// Reads one message. Error answers count whatever their id: servers give wrong ones to what they refuse (facts/mcp §0.6).
pub fn reply(text: &[u8], id: u64) -> Reply {
    let Ok(Value::Object(mut message)) = serde_json::from_slice::<Value>(text) else { return Reply::NotMcp };
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Reply::NotMcp;
    }
    if let Some(error) = message.get("error").and_then(Value::as_object) {
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Reply::Error { code: error.get("code").and_then(Value::as_i64).unwrap_or(0), message };
    }
    match message.remove("result") {
        Some(result) if message.get("id") == Some(&Value::from(id)) => Reply::Result(result),
        Some(_) => Reply::NotMcp,
        None if message.contains_key("method") => Reply::Other,
        None => Reply::NotMcp,
    }
}

/// The version of a session, by the result of `initialize`; `None` if it is no such result.
pub fn agreed_version(result: &Value) -> Option<&str> {
    result.get("protocolVersion")?.as_str().filter(|version| version.bytes().all(|b| b.is_ascii_graphic()))
}

/// Whether this is the result of `server/discover`.
pub fn is_discovery(result: &Value) -> bool {
    result.get("supportedVersions").is_some_and(Value::is_array)
}

/// Whether an error is one that only a server of the modern era gives, to a version that it does not know.
pub fn knows_other_versions(code: i64) -> bool {
    code == UNSUPPORTED_VERSION
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn answers_are_told_from_what_is_none() {
        let error = |code, message: &str| Reply::Error { code, message: message.into() };
        for (text, wanted) in [
            (r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,                                           Reply::Result(json!({}))),
            (r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no"}}"#,   error(-32600, "no")),
            (r#"{"jsonrpc":"2.0","id":null,"error":{}}"#,                                         error(0, "")),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#,                 Reply::Other),
            (r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#,                                 Reply::Other),
            (r#"{"jsonrpc":"2.0","id":3,"result":{}}"#,                                           Reply::NotMcp),
            (r#"{"jsonrpc":"2.0","id":"2","result":{}}"#,                                         Reply::NotMcp),
            (r#"{"jsonrpc":"2.0","id":2}"#,                                                       Reply::NotMcp),
            (r#"{"id":2,"result":{}}"#,                                                           Reply::NotMcp),
            (r#"{"detail":"Not Found"}"#,                                                         Reply::NotMcp),
            ("[]",                                                                                Reply::NotMcp),
            ("<html>",                                                                            Reply::NotMcp),
            ("",                                                                                  Reply::NotMcp),
        ] {
            assert_eq!(reply(text.as_bytes(), PING), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_said_is_json_rpc() {
        for text in [initialize("0.1"), initialized(), ping(), discover("0.1")] {
            let message: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(message["jsonrpc"], "2.0", "{text}");
            assert!(message["method"].is_string(), "{text}");
        }
    }

    #[test]
    fn results_are_recognised() {
        assert_eq!(agreed_version(&json!({ "protocolVersion": "2025-06-18" })), Some("2025-06-18"));
        for nothing in
            [json!({}), json!({ "protocolVersion": 7 }), json!({ "protocolVersion": "a\r\nb" }), json!(null)]
        {
            assert_eq!(agreed_version(&nothing), None);
        }
        assert!(is_discovery(&json!({ "supportedVersions": [] })));
        assert!(!is_discovery(&json!({})));
    }
}
