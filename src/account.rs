//! Room 10, account: what is remembered of a request while it runs, its one access-log line, and the counters.
//! The exchange and the pass-through fill a [`Record`]; at the end it becomes a JSON line under the log target `access`.
//! Surprise: a session appears only as the first digits of its hash, and no path's query and no header value is ever logged.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use serde::Serialize;

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
}

/// The story of one request, filled room by room.
#[derive(Debug)]
pub struct Record {
    pub started: Instant,
    pub id: u64,
    pub listener: usize,
    pub client: Option<IpAddr>,
    pub method: http::Method,
    pub route: RouteKind,
    pub server_id: Option<String>,
    /// First digits of the session key's hash.
    pub session: Option<String>,
    pub era: Option<&'static str>,
    pub rpc_method: Option<String>,
    /// `request`, `notification`, `response`, `batch`.
    pub message: Option<&'static str>,
    /// Position of the peer that was asked last.
    pub peer: Option<usize>,
    /// Connections tried.
    pub attempts: u32,
    pub request_bytes: usize,
    /// From the request's start to the answer's head.
    pub first_byte: Option<Duration>,
    pub fault: Option<&'static str>,
    /// The client went away before the end of the answer.
    pub client_gone: bool,
}

impl Record {
    pub fn new(listener: usize) -> Self {
        Self {
            started: Instant::now(),
            id: next_id(),
            listener,
            client: None,
            method: http::Method::GET,
            route: RouteKind::Pass,
            server_id: None,
            session: None,
            era: None,
            rpc_method: None,
            message: None,
            peer: None,
            attempts: 0,
            request_bytes: 0,
            first_byte: None,
            fault: None,
            client_gone: false,
        }
    }

    /// Writes the access line and counts the request.
    pub fn close(&self, counters: &Counters, end: &End<'_>) {
        let &End { listener, upstream, peer, status, response_bytes } = end;
        let duration = self.started.elapsed();
        counters.requests[self.route as usize][class(status)].inc();
        counters.duration.observe(duration.as_secs_f64());
        if !log::log_enabled!(target: ACCESS, log::Level::Info) {
            return;
        }
        let line = Line {
            request: format_args!("{:016x}", self.id),
            listener,
            client: self.client,
            method: self.method.as_str(),
            route: self.route,
            server_id: self.server_id.as_deref(),
            session: self.session.as_deref(),
            era: self.era,
            rpc_method: self.rpc_method.as_deref(),
            message: self.message,
            upstream: peer.map(|_| upstream),
            peer,
            attempts: self.attempts,
            status,
            request_bytes: self.request_bytes,
            response_bytes,
            first_byte_ms: self.first_byte.map(milliseconds),
            duration_ms: milliseconds(duration),
            fault: self.fault,
            client_gone: self.client_gone,
        };
        log::info!(target: ACCESS, "{line}");
    }
}

/// What is known only when a request has ended, and the names of its positions.
pub struct End<'a> {
    pub listener: &'a str,
    pub upstream: &'a str,
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
    attempts: u32,
    status: u16,
    request_bytes: usize,
    response_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    client_gone: bool,
}

/// The fields of a JSON object with its closing brace; the opening one comes with the time from the logger, so that the line is
/// written once and never copied.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        serde_json::to_writer(WithoutBrace { f, begun: false }, self).map_err(|_| fmt::Error)
    }
}

struct WithoutBrace<'f, 'g> {
    f: &'f mut fmt::Formatter<'g>,
    begun: bool,
}

impl Write for WithoutBrace<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(std::io::Error::other)?;
        let text = if std::mem::replace(&mut self.begun, true) {
            text
        } else {
            text.strip_prefix('{').unwrap_or(text)
        };
        self.f.write_str(text).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Milliseconds with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// 0 = no answer, 1 … 5 = the status' first digit.
fn class(status: u16) -> usize {
    usize::from((status / 100).min(5))
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

/// The counters of one generation, named and documented in the README.
pub struct Counters {
    registry: Registry,
    requests: [[IntCounter; 6]; 5],
    duration: Histogram,
    faults: IntCounterVec,
    pub connections: IntGauge,
    pub streams: IntGauge,
    in_flight: IntGauge,
    pub connects: IntCounter,
    pub connect_failures: IntCounter,
    pub retries: IntCounter,
    pub server_id_replaced: IntCounter,
    pub sessions_claimed: IntCounter,
    pub sessions_released: IntCounter,
    pub sessions_lost: IntCounter,
    pub refused_heads: IntCounterVec,
}

/// One request between its head and the end of its answer.
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl Counters {
    /// Fails only where two metrics have one name, which a test would show.
    pub fn new(generation: u64) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let labelled =
            |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
                let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(vec.clone()))?;
                Ok(vec)
            };
        let requests = labelled(
            "outrigger_requests_total",
            "Requests answered, by route and class of the status sent (none = the client left first)",
            &["route", "status"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "outrigger_request_duration_seconds",
                "From a request's head to the end of its answer",
            )
            .buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
            ]),
        )?;
        registry.register(Box::new(duration.clone()))?;
        gauge("outrigger_generation", "Number of this worker process since the supervisor started")?
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        Ok(Self {
            requests: RouteKind::ALL
                .map(|(_, route)| CLASSES.map(|class| requests.with_label_values(&[route, class]))),
            duration,
            faults: labelled(
                "outrigger_faults_total",
                "Requests that Outrigger itself had to fail, by kind",
                &["kind"],
            )?,
            connections: gauge("outrigger_connections", "Downstream connections open")?,
            in_flight: gauge("outrigger_requests_in_flight", "Requests whose answer has not ended")?,
            streams: gauge("outrigger_streams", "Event streams open")?,
            connects: counter("outrigger_upstream_connects_total", "Connections opened to peers")?,
            connect_failures: counter(
                "outrigger_upstream_connect_failures_total",
                "Connections to peers that failed",
            )?,
            retries: counter("outrigger_retries_total", "Requests sent to a peer a second time")?,
            server_id_replaced: counter(
                "outrigger_server_id_replaced_total",
                "params.server_id members of clients that were replaced by the path's",
            )?,
            sessions_claimed: counter(
                "outrigger_sessions_claimed_total",
                "Sessions whose owner was recorded",
            )?,
            sessions_released: counter(
                "outrigger_sessions_released_total",
                "Sessions ended by the client or its upstream",
            )?,
            sessions_lost: counter(
                "outrigger_sessions_lost_total",
                "Requests answered 404 because the owner is gone",
            )?,
            refused_heads: labelled(
                "outrigger_refused_heads_total",
                "Connections closed because of their request head, by reason",
                &["reason"],
            )?,
            registry,
        })
    }

    /// Counts a request for as long as the guard lives.
    pub fn request_in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub fn requests_in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    pub fn fault(&self, kind: &str) {
        self.faults.with_label_values(&[kind]).inc();
    }

    /// Where other parts of the worker register gauges of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Prometheus text format 0.0.4.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn counters_are_registered_once_and_rendered() {
        let counters = Counters::new(3).unwrap();
        let record = Record::new(0);
        for status in [200, 0] {
            let end = End { listener: "public", upstream: "gateway", peer: None, status, response_bytes: 0 };
            record.close(&counters, &end);
        }
        counters.fault("no_peer");
        let text = counters.render().unwrap();
        for line in [
            r#"outrigger_requests_total{route="pass",status="2xx"} 1"#,
            r#"outrigger_requests_total{route="pass",status="none"} 1"#,
            r#"outrigger_faults_total{kind="no_peer"} 1"#,
            "outrigger_generation 3",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn an_access_line_is_json_behind_an_opening_brace() {
        let line = Line {
            request: format_args!("{:016x}", 7),
            listener: "quoted \"name\"",
            client: None,
            method: "POST",
            route: RouteKind::Mcp,
            server_id: None,
            session: None,
            era: None,
            rpc_method: None,
            message: None,
            upstream: None,
            peer: None,
            attempts: 1,
            status: 200,
            request_bytes: 1,
            response_bytes: 2,
            first_byte_ms: None,
            duration_ms: 1.5,
            fault: None,
            client_gone: false,
        };
        let value: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        assert_eq!(
            (&value["request"], &value["listener"]),
            (&"0000000000000007".into(), &"quoted \"name\"".into())
        );
    }

    #[test]
    fn route_names_stand_in_the_order_of_the_enum() {
        for (index, (kind, _)) in RouteKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
        }
    }
}
