//! What a check writes: heads and bodies in wire form.
//! Takes a path and a body, gives bytes. Surprise: what `health.headers` sets comes in place of our own field of that name, so that a
//! server that goes by its host can be asked for the right one.

use http::header;

use crate::config::settings::Health;
use crate::mcp::check::MODERN_VERSION;
use crate::upstream::Upstream;

/// The fields that all requests of a check have, CRLF after each.
pub struct Request {
    common: String,
    /// What the server is called.
    pub host: String,
}

impl Request {
    pub fn new(upstream: &Upstream, peer: usize, health: &Health) -> Self {
        let mut common = String::new();
        let mut field = |name: &str, value: &str| common.push_str(&format!("{name}: {value}\r\n"));
        let theirs = health.headers.iter().find(|(name, _)| name == header::HOST);
        let host = theirs.map_or_else(|| upstream.host_of(peer), |(_, host)| host.0.clone());
        let ours =
            [(header::HOST, host.clone()), (header::USER_AGENT, format!("outrigger/{}", super::VERSION))];
        for (name, value) in &ours {
            if health.headers.iter().all(|(theirs, _)| theirs != name) {
                field(name.as_str(), value);
            }
        }
        for (name, value) in &health.headers {
            field(name.as_str(), &value.0);
        }
        Self { common, host }
    }

    /// Nothing is asked of the connection afterwards.
    pub fn get(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\n{}accept: */*\r\nconnection: close\r\n\r\n", self.common).into_bytes()
    }

    /// A message of the era with sessions.
    pub fn post(&self, path: &str, body: &str, session: Option<&str>, version: Option<&str>) -> Vec<u8> {
        self.message(path, &of_session(session, version), body)
    }

    /// A request of the era without; its fields mirror its body.
    pub fn modern(&self, path: &str, method: &str, body: &str) -> Vec<u8> {
        let mirrored = format!("mcp-protocol-version: {MODERN_VERSION}\r\nmcp-method: {method}\r\n");
        self.message(path, &mirrored, body)
    }

    /// The end of a session.
    pub fn delete(&self, path: &str, session: &str, version: Option<&str>) -> Vec<u8> {
        let fields = of_session(Some(session), version);
        format!("DELETE {path} HTTP/1.1\r\n{}{fields}connection: close\r\n\r\n", self.common).into_bytes()
    }

    fn message(&self, path: &str, fields: &str, body: &str) -> Vec<u8> {
        let (common, length) = (&self.common, body.len());
        format!(
            "POST {path} HTTP/1.1\r\n{common}accept: application/json, text/event-stream\r\n\
             content-type: application/json\r\n{fields}content-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

fn of_session(session: Option<&str>, version: Option<&str>) -> String {
    let session = session.map(|id| format!("mcp-session-id: {id}\r\n"));
    let version = version.map(|version| format!("mcp-protocol-version: {version}\r\n"));
    [session, version].into_iter().flatten().collect()
}
