//! The check of `upstreams.*.health`: one kind of check, times that fit each other, header fields that can be sent. PURE.
//! Takes the keys of one block, gives [`Health`]. Surprise: a value of `headers` is never repeated in a problem, not even a bad one.

use std::num::NonZeroU32;

use http::{HeaderName, HeaderValue};

use super::Check;
use crate::config::field::{Field, Table};
use crate::config::file::{self, McpCheck};
use crate::config::problem::Path;
use crate::config::settings::{Health, Probe, Secret};
use crate::config::unit::Count;
use crate::routing::health::Thresholds;

/// Where MCP servers are by default.
const MCP_PATH: &str = "/mcp";

/// What a check writes itself: its framing, and what MCP wants.
const OURS: [&str; 10] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "mcp-method",
    "mcp-protocol-version",
    "mcp-session-id",
    "transfer-encoding",
    "upgrade",
];

impl Check<'_> {
    pub fn health(&self, health: file::Health, path: &Path) -> Option<Health> {
        let file::Health {
            path: http_path,
            tcp,
            mcp,
            headers,
            interval,
            timeout,
            healthy_threshold,
            unhealthy_threshold,
            slow_start,
        } = health;
        let probe = match (http_path.good(), tcp.good(), mcp.good()) {
            (Some(http_path), Some(tcp), Some(mcp)) => self.probe(http_path, tcp, mcp, path),
            _ => None,
        };
        let headers = headers.good().and_then(|headers| match headers {
            None => Some(Vec::new()),
            Some(headers) => self.health_headers(headers, &path.key("headers")),
        });
        let (interval, timeout) = (super::time(interval), super::time(timeout));
        if let (Some(interval), Some(timeout)) = (interval, timeout)
            && timeout > interval
        {
            self.report.say(&path.key("timeout"), "must not be longer than `interval`");
        }
        Some(Health {
            probe: probe?,
            headers: headers?,
            interval: interval?,
            timeout: timeout?,
            thresholds: Thresholds {
                healthy: threshold(healthy_threshold)?,
                unhealthy: threshold(unhealthy_threshold)?,
            },
            slow_start: slow_start.good()?.map_or(std::time::Duration::ZERO, |time| time.0),
        })
    }

    fn probe(&self, http: Option<String>, tcp: bool, mcp: Option<McpCheck>, path: &Path) -> Option<Probe> {
        if let Some(text) = &http
            && !is_origin_form(text)
        {
            self.report.say(&path.key("path"), format!("expected a path such as /health, found {text:?}"));
            return None;
        }
        match (http, tcp, mcp) {
            (None, true, None) => Some(Probe::Tcp),
            (Some(path), false, None) => Some(Probe::Get(path)),
            (http, false, Some(kind)) => {
                let path = http.unwrap_or_else(|| MCP_PATH.to_owned());
                Some(match kind {
                    McpCheck::Ping => Probe::Ping(path),
                    McpCheck::Discover => Probe::Discover(path),
                })
            }
            (None, false, None) => {
                self.report.say(path, "needs one of `path`, `tcp` and `mcp`");
                None
            }
            (_, true, _) => {
                self.report.say(&path.key("tcp"), "goes with neither `path` nor `mcp`");
                None
            }
        }
    }

    fn health_headers(&self, headers: Table<String>, path: &Path) -> Option<Vec<(HeaderName, Secret)>> {
        let field = |(name, value): (String, Field<String>)| {
            let path = path.key(&name);
            let value = value.good()?;
            let known = name.parse::<HeaderName>().ok();
            if known.is_none() {
                self.report.say(&path, "is not the name of a header field");
            } else if known.as_ref().is_some_and(|name| OURS.contains(&name.as_str())) {
                self.report.say(&path, "is set by Outrigger itself");
            }
            if HeaderValue::from_str(&value).is_err() {
                self.report.say(&path, "its value cannot stand in a header field");
            }
            Some((known?, Secret(value)))
        };
        // All are looked at, so that each problem is told.
        headers.0.into_iter().map(field).collect::<Vec<_>>().into_iter().collect()
    }
}

/// A path as a request line takes it (RFC 9112 §3.2.1).
fn is_origin_form(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#')
}

fn threshold(count: Field<Count>) -> Option<NonZeroU32> {
    let count = count.good()?.0;
    NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_a_request_line_takes_them() {
        for path in ["/", "/health", "/a/b%20c?x=1&y", "/servers/x/mcp"] {
            assert!(is_origin_form(path), "{path}");
        }
        for path in ["", "health", "http://a/b", "/a b", "/a#b", "/ä", "/a\r\nX: y"] {
            assert!(!is_origin_form(path), "{path}");
        }
    }
}
