//! The counters of one generation, named and documented in the README.
//! Taken once from the registry of metrics, so that a request finds each of its counters without looking up a label.
//! Surprise: they begin anew with every generation; Prometheus sees that as a restart of the process, which it is.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::RouteKind;

pub struct Counters {
    registry: Registry,
    requests: [[IntCounter; 6]; 5],
    duration: Histogram,
    faults: IntCounterVec,
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

    /// Where other parts of the worker register gauges of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Prometheus text format 0.0.4.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// 0 = no answer, 1 … 5 = the status' first digit.
fn class(status: u16) -> usize {
    usize::from((status / 100).min(5))
}
