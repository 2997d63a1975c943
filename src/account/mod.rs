//! Room 10, account: what is remembered of a request while it runs, its one access-log line, and the counters.
//! The exchange and the pass-through fill a [`Record`]; at the end it becomes a JSON line under the log target `access`.
//! Surprise: a session appears only as the first digits of its hash, and no path's query and no header value is ever logged.

mod counters;
mod registry;
mod snapshot;
mod span;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;
use serde::Serialize;

use crate::config::settings::UpstreamId;
use crate::mcp::client_cert::ClientCert;
use crate::routing::hop::Hop;
use crate::routing::session::Era;
use crate::trace::Trace;
pub use counters::{Counted, Counters, Live};
pub use registry::add as add_registry;
pub use snapshot::{Format, Histogram, Snapshot};

/// Log target of the access lines.
pub const ACCESS: &str = "access";

/// What a request's route is called in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    Mcp,
    Sse,
    Message,
    Pass,
    Refused,
}

impl RouteKind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Mcp, "mcp"),
        (Self::Sse, "sse"),
        (Self::Message, "message"),
        (Self::Pass, "pass"),
        (Self::Refused, "refused"),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Reads what [`Self::as_str`] wrote; a name that is none counts as passed through.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|(_, own)| *own == name).map_or(Self::Pass, |(kind, _)| kind)
    }
}

/// The story of one request, filled room by room.
#[derive(Debug)]
pub struct Record {
    pub started: Instant,
    /// Empty where tracing is off.
    pub trace: Trace,
    pub id: u64,
    pub client: Option<IpAddr>,
    pub client_cert: Option<Arc<ClientCert>>,
    pub method: http::Method,
    pub route: RouteKind,
    pub server_id: Option<String>,
    /// First digits of the session key's hash.
    pub session: Option<String>,
    pub era: Option<&'static str>,
    pub rpc_method: Option<String>,
    /// `request`, `notification`, `response`, `batch`.
    pub message: Option<&'static str>,
    pub upstream: Option<UpstreamId>,
    /// Position of the peer that was asked last.
    pub peer: Option<usize>,
    /// Another member that the request was forwarded to, and its peer that answered.
    pub member: Option<String>,
    pub member_peer: Option<String>,
    /// Another member that forwarded the request.
    pub from_member: Option<String>,
    /// Connections tried.
    pub attempts: u32,
    pub request_bytes: usize,
    /// From the request's start to the answer's head.
    pub first_byte: Option<Duration>,
    pub fault: Option<&'static str>,
    /// What was done to an upstream's answer that was none.
    pub normalised: Option<&'static str>,
    /// The client went away before the end of the answer.
    pub client_gone: bool,
}

impl Default for Record {
    /// A request that begins now.
    fn default() -> Self {
        Self {
            started: Instant::now(),
            trace: Trace::default(),
            id: next_id(),
            client: None,
            client_cert: None,
            method: http::Method::GET,
            route: RouteKind::Pass,
            server_id: None,
            session: None,
            era: None,
            rpc_method: None,
            message: None,
            upstream: None,
            peer: None,
            member: None,
            member_peer: None,
            from_member: None,
            attempts: 0,
            request_bytes: 0,
            first_byte: None,
            fault: None,
            normalised: None,
            client_gone: false,
        }
    }
}

impl Record {
    /// What another member told of a request that it forwarded; both lines have one number.
    pub fn take_from(&mut self, hop: &Hop<'_>) {
        self.id = u64::from_str_radix(&hop.request, 16).unwrap_or(self.id);
        self.from_member = Some(hop.from.to_string());
        self.route = RouteKind::named(&hop.route);
        self.server_id = hop.server_id.as_deref().map(str::to_owned);
        self.session = Some(hop.session.short());
        self.era = Era::named(&hop.era).map(Era::as_str);
        self.rpc_method = hop.method.as_deref().map(str::to_owned);
    }

    /// Writes the access line and counts the request.
    pub fn close(&self, counters: &Counters, end: &End<'_>) {
        let &End { listener, upstream, peer, status, response_bytes } = end;
        let duration = self.started.elapsed();
        counters.request(self.route, status, duration);
        let trace_id = self.trace.id();
        self.trace.close(|room| span::describe(self, end, room));
        if !log::log_enabled!(target: ACCESS, log::Level::Info) {
            return;
        }
        let line = Line {
            request: format_args!("{:016x}", self.id),
            listener,
            client: self.client,
            client_cert: self.client_cert.as_deref(),
            method: self.method.as_str(),
            route: self.route,
            server_id: self.server_id.as_deref(),
            session: self.session.as_deref(),
            era: self.era,
            rpc_method: self.rpc_method.as_deref(),
            message: self.message,
            upstream: peer.and(upstream),
            peer,
            member: self.member.as_deref(),
            from_member: self.from_member.as_deref(),
            attempts: self.attempts,
            status,
            request_bytes: self.request_bytes,
            response_bytes,
            first_byte_ms: self.first_byte.map(milliseconds),
            duration_ms: milliseconds(duration),
            trace_id,
            fault: self.fault,
            normalised: self.normalised,
            client_gone: self.client_gone,
        };
        line.write();
    }
}

/// What is known only when a request has ended, and the names of its positions.
pub struct End<'a> {
    pub listener: &'a str,
    pub upstream: Option<&'a str>,
    pub peer: Option<&'a str>,
    /// 0 = no answer was begun.
    pub status: u16,
    pub response_bytes: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    request: std::fmt::Arguments<'a>,
    listener: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cert: Option<&'a ClientCert>,
    method: &'a str,
    route: RouteKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    era: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rpc_method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_member: Option<&'a str>,
    attempts: u32,
    status: u16,
    request_bytes: usize,
    response_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalised: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    client_gone: bool,
}

impl Line<'_> {
    /// Hands the line's JSON to `log` without its opening brace, which comes with the time from the logger: one buffer a thread, one write.
    fn write(&self) {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            let written = serde_json::to_writer(&mut *buffer, self).map_err(|error| error.to_string());
            match written.and_then(|()| std::str::from_utf8(buffer).map_err(|error| error.to_string())) {
                Ok(text) => log::info!(target: ACCESS, "{}", text.strip_prefix('{').unwrap_or(text)),
                Err(error) => {
                    log::error!("the access line of request {} cannot be written: {error}", self.request)
                }
            }
        });
    }
}

/// Milliseconds with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Unique within a process and unlikely to be met in another.
fn next_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: Lazy<AtomicU64> = Lazy::new(|| {
        let mut seed = [0; 8];
        // Without randomness ids still differ within the process, which is all that a log line needs.
        let _ = openssl::rand::rand_bytes(&mut seed);
        AtomicU64::new(u64::from_ne_bytes(seed))
    });
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn counters_are_registered_once_and_rendered() {
        let counters = Counters::new().unwrap();
        let record = Record::default();
        for status in [200, 0] {
            let end = End { listener: "public", upstream: None, peer: None, status, response_bytes: 0 };
            record.close(&counters, &end);
        }
        counters.fault("no_peer");
        let text = counters.snapshot().text(Format::Prometheus);
        for line in [
            r#"outrigger_requests_total{route="pass",status="2xx"} 1"#,
            r#"outrigger_requests_total{route="pass",status="none"} 1"#,
            r#"outrigger_faults_total{kind="no_peer"} 1"#,
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn route_names_stand_in_the_order_of_the_enum() {
        for (index, (kind, _)) in RouteKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
        }
    }
}
