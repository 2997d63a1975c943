//! `/metrics`: what this generation has counted, and what the supervisor counts, for Prometheus.
//! Takes the counters and the supervisor's last word, gives text.
//! Surprise: the supervisor knows no HTTP, so whichever generation is asked shows its numbers.

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::{Admin, Page};

/// What is shown beside the counters of requests.
pub struct Metrics {
    reloads: IntCounterVec,
    last_reload: IntGauge,
    restarts: IntCounter,
}

impl Metrics {
    /// Fails only where two metrics have one name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reloads = IntCounterVec::new(
            Opts::new("outrigger_reloads_total", "Reloads asked of the supervisor, by result"),
            &["result"],
        )?;
        let last_reload = IntGauge::new(
            "outrigger_last_reload_timestamp_seconds",
            "When the last reload ended; 0 = there was none",
        )?;
        let restarts =
            IntCounter::new("outrigger_worker_restarts_total", "Workers started because none was left")?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(last_reload.clone()))?;
        registry.register(Box::new(restarts.clone()))?;
        Ok(Self { reloads, last_reload, restarts })
    }
}

impl Admin {
    pub(super) fn metrics(&self) -> Page {
        let heard = self.supervisor.counters();
        let Metrics { reloads, last_reload, restarts } = &self.metrics;
        // A counter can only be moved on, and the supervisor's numbers never fall.
        let follow = |counter: &IntCounter, number: u64| counter.inc_by(number.saturating_sub(counter.get()));
        follow(&reloads.with_label_values(&["ok"]), heard.reloads_ok);
        follow(&reloads.with_label_values(&["failed"]), heard.reloads_failed);
        follow(restarts, heard.restarts);
        last_reload.set(i64::try_from(heard.last_reload_unix.unwrap_or(0)).unwrap_or(i64::MAX));
        match self.app.counters.render() {
            Ok(body) => Page { status: StatusCode::OK, content_type: "text/plain; version=0.0.4", body },
            Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}
