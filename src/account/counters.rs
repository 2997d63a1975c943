//! The counters of one generation, named and documented in the README.
//! Taken once from the registry of metrics, so that a request finds each of its counters without looking up a label.
//! Surprise: they begin anew with every generation; what is shown is the sum over all of them (`snapshot`). So only what can be added
//! up is here: a gauge that says how something *is* belongs to whoever shows it.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::{RouteKind, Snapshot};
use crate::logging;
use crate::trace::Counts;

pub struct Counters {
    registry: Registry,
    /// They stay at 0 where tracing is off.
    pub spans: Counts,
    requests: [[IntCounter; 6]; 5],
    duration: Histogram,
    faults: IntCounterVec,
    normalised: IntCounterVec,
    pub connections: IntGauge,
    pub streams: IntGauge,
    pub in_flight: IntGauge,
    pub connects: IntCounter,
    pub connect_failures: IntCounter,
    pub retries: IntCounter,
    pub forwarded: IntCounter,
    pub server_id_replaced: IntCounter,
    pub sessions_claimed: IntCounter,
    pub sessions_released: IntCounter,
    pub sessions_lost: IntCounter,
    pub tasks_claimed: IntCounter,
    pub refused_heads: IntCounterVec,
    pub tls_handshakes: IntCounterVec,
    pub tls_failures: IntCounterVec,
    health_checks: IntCounterVec,
    health_check_duration: HistogramVec,
}

/// What keeps a generation that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    pub connections: usize,
    pub streams: usize,
}

/// One of what a gauge counts, for as long as it lives.
pub struct Counted(IntGauge);

impl Counted {
    pub fn one(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl Counters {
    /// Fails only where two metrics have one name, which a test would show.
    pub fn new() -> Result<Self, prometheus::Error> {
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
        let health_check_duration = HistogramVec::new(
            HistogramOpts::new(
                "outrigger_health_check_duration_seconds",
                "How long checks of peers took, handshake and all, by upstream",
            )
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
            &["upstream"],
        )?;
        registry.register(Box::new(health_check_duration.clone()))?;
        if let Some(lost) = logging::lost() {
            registry.register(Box::new(lost.clone()))?;
        }
        let spans = Counts::new(&registry)?;
        Ok(Self {
            spans,
            requests: RouteKind::ALL
                .map(|(_, route)| CLASSES.map(|class| requests.with_label_values(&[route, class]))),
            duration,
            faults: labelled(
                "outrigger_faults_total",
                "Requests that Outrigger itself had to fail, by kind",
                &["kind"],
            )?,
            normalised: labelled(
                "outrigger_normalised_total",
                "Answers of upstreams that were replaced, mended or completed, by reason",
                &["reason"],
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
            forwarded: counter(
                "outrigger_forwarded_total",
                "Requests forwarded to the member that holds their session",
            )?,
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
            tasks_claimed: counter("outrigger_tasks_claimed_total", "Tasks whose owner was recorded")?,
            refused_heads: labelled(
                "outrigger_refused_heads_total",
                "Connections closed because of their request head, by reason",
                &["reason"],
            )?,
            health_checks: labelled(
                "outrigger_health_checks_total",
                "Checks of peers, by result: ok, or why not",
                &["upstream", "peer", "result"],
            )?,
            health_check_duration,
            tls_handshakes: labelled(
                "outrigger_tls_handshakes_total",
                "TLS handshakes with clients and members, by version and by whether a session was resumed",
                &["version", "resumed"],
            )?,
            tls_failures: labelled(
                "outrigger_tls_handshake_failures_total",
                "TLS handshakes with clients and members that came to nothing, by reason",
                &["reason"],
            )?,
            registry,
        })
    }

    /// Counts a request that ended; `status` 0 = no answer was begun.
    pub fn request(&self, route: RouteKind, status: u16, duration: Duration) {
        self.requests[route as usize][class(status)].inc();
        self.duration.observe(duration.as_secs_f64());
    }

    pub fn fault(&self, kind: &str) {
        self.faults.with_label_values(&[kind]).inc();
    }

    /// Counts a check of a peer.
    pub fn health_check(&self, upstream: &str, peer: &str, result: &str, took: Duration) {
        self.health_checks.with_label_values(&[upstream, peer, result]).inc();
        self.health_check_duration.with_label_values(&[upstream]).observe(took.as_secs_f64());
    }

    /// What this generation holds at this moment.
    pub fn live(&self) -> Live {
        let count = |gauge: &IntGauge| usize::try_from(gauge.get()).unwrap_or(0);
        Live { connections: count(&self.connections), streams: count(&self.streams) }
    }

    pub fn normalised(&self, reason: &str) {
        self.normalised.with_label_values(&[reason]).inc();
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.registry.gather())
    }
}

/// 0 = no answer, 1 … 5 = the status' first digit.
fn class(status: u16) -> usize {
    usize::from((status / 100).min(5))
}
