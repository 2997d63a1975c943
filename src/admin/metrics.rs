//! `/metrics`: what all generations have counted, and how this one is, for Prometheus.
//! Takes this generation's counters, the others' from the supervisor and the supervisor's own, gives text in the format that was asked for.
//! Surprise: a scrape asks every generation, through the supervisor. So a reload takes nothing away: what a generation counted stays in the
//! sum when it drains and when it is gone, and a gauge of open things counts those of all.

use std::io;

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::upstreams::PeerGauges;
use super::{Admin, Page};
use crate::account::{Format, Snapshot};
use crate::material::{Role, Used};
use crate::supervisor::control;

/// What is shown beside the sums: the supervisor's numbers, and how the generation that answers is.
pub struct Metrics {
    registry: Registry,
    reloads: IntCounterVec,
    last_reload: IntGauge,
    last_success: IntGauge,
    restarts: IntCounter,
    registry_up: IntGauge,
    sessions: IntGauge,
    peers: PeerGauges,
}

impl Metrics {
    /// Fails only where two metrics have one name.
    pub fn new(generation: u64, kind: &str, certificates: &[Used]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let reloads = IntCounterVec::new(
            Opts::new("outrigger_reloads_total", "Reloads asked of the supervisor, by result"),
            &["result"],
        )?;
        let restarts =
            IntCounter::new("outrigger_worker_restarts_total", "Workers started because none was left")?;
        let build = IntGaugeVec::new(
            Opts::new("outrigger_build_info", "The version that runs, as a label; always 1"),
            &["version"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(restarts.clone()))?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        gauge("outrigger_generation", "Number of the generation that answers, since the supervisor started")?
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        let last_reload = gauge(
            "outrigger_last_reload_timestamp_seconds",
            "When the last reload ended; 0 = there was none",
        )?;
        let last_success = gauge(
            "outrigger_last_reload_success_timestamp_seconds",
            "When a reload last ended well; 0 = none has",
        )?;
        registry.register(Box::new(not_after(certificates)?))?;
        let registry_up = gauge("outrigger_registry_up", "1 = the registry of sessions answers")?;
        let sessions = match kind {
            "embedded" => gauge("outrigger_registry_sessions", "Sessions in the registry file")?,
            _ => IntGauge::new("outrigger_registry_sessions", "Not known")?,
        };
        let peers = PeerGauges::new(&registry)?;
        Ok(Self { registry, reloads, last_reload, last_success, restarts, registry_up, sessions, peers })
    }

    fn hear(&self, heard: control::Status) {
        // A counter can only be moved on, and the supervisor's numbers never fall.
        let follow = |counter: &IntCounter, number: u64| counter.inc_by(number.saturating_sub(counter.get()));
        follow(&self.reloads.with_label_values(&["ok"]), heard.reloads_ok);
        follow(&self.reloads.with_label_values(&["failed"]), heard.reloads_failed);
        follow(&self.restarts, heard.restarts);
        let show =
            |gauge: &IntGauge, at: Option<u64>| gauge.set(at.and_then(|at| at.try_into().ok()).unwrap_or(0));
        show(&self.last_reload, heard.last_reload.map(|reload| reload.at));
        show(&self.last_success, heard.last_success);
    }
}

/// Every certificate that this generation has read: it shows these, or trusts them, whatever the files hold by now.
fn not_after(certificates: &[Used]) -> Result<IntGaugeVec, prometheus::Error> {
    let gauges = IntGaugeVec::new(
        Opts::new("outrigger_tls_cert_not_after_seconds", "When a certificate in use expires"),
        &["by", "role", "file", "subject", "serial"],
    )?;
    for Used { by, role, file, certificate } in certificates {
        let role = match role {
            Role::Shown => "shown",
            Role::Trusted => "trusted",
        };
        let labels = [by, role, &file.to_string_lossy(), &certificate.subject, &certificate.serial];
        gauges.with_label_values(&labels).set(certificate.not_after);
    }
    Ok(gauges)
}

impl Admin {
    pub(super) async fn metrics(&self, format: Format) -> Page {
        let content_type = match format {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        };
        match self.sum().await {
            Ok(mut sum) => {
                sum.add(&self.own().await);
                Page { status: StatusCode::OK, content_type, body: sum.text(format) }
            }
            // Less than what was shown before would look like a restart.
            Err(error) => Page::text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the supervisor does not say what the other generations have counted: {error}\n"),
            ),
        }
    }

    /// What all generations have counted.
    pub(super) async fn sum(&self) -> io::Result<Snapshot> {
        let mut sum = self.app.counted();
        let others = self.supervisor.others(sum.clone()).await?;
        sum.add(&others);
        Ok(sum)
    }

    /// What is not added up.
    async fn own(&self) -> Snapshot {
        self.metrics.hear(self.supervisor.status());
        let sessions = self.app.registry.count().await;
        self.metrics.registry_up.set(i64::from(sessions.is_ok()));
        if let Ok(Some(sessions)) = sessions {
            self.metrics.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        }
        self.metrics.peers.set(&self.app.upstreams);
        Snapshot::of(&self.metrics.registry.gather())
    }
}

/// By the `Accept` of a scraper: OpenMetrics where that is named and not refused.
pub fn format(accept: Option<&str>) -> Format {
    let named = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/openmetrics-text"))
            && parts.all(|parameter| !matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    };
    match accept.is_some_and(|accept| accept.split(',').any(named)) {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(format(Some(prometheus)), Format::OpenMetrics);
        for accept in [None, Some("*/*"), Some("text/plain"), Some("application/openmetrics-text;q=0, */*")] {
            assert_eq!(format(accept), Format::Prometheus, "{accept:?}");
        }
    }
}
