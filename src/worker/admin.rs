//! The admin listener: is this process alive, is it ready, what has it counted.
//! Takes plain GETs on an address of its own, gives text or JSON. Surprise: while generations overlap, any that still accepts may answer.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Response, StatusCode, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use serde_json::json;

use super::probe::Probe;
use crate::app::App;
use crate::supervisor::control;

pub struct Admin {
    app: Arc<App>,
    supervisor: Arc<control::Worker>,
    probe: Arc<Probe>,
    generation: u64,
    reloads: IntCounterVec,
    last_reload: IntGauge,
    restarts: IntCounter,
}

impl Admin {
    /// Fails only where two metrics have one name.
    pub fn new(
        probe: Arc<Probe>,
        app: Arc<App>,
        supervisor: Arc<control::Worker>,
        generation: u64,
    ) -> Result<Self, prometheus::Error> {
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
        let registry = app.counters.registry();
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(last_reload.clone()))?;
        registry.register(Box::new(restarts.clone()))?;
        Ok(Self { app, supervisor, probe, generation, reloads, last_reload, restarts })
    }

    /// Ready = the listeners were probed, nothing drains, and a registry of our own answers. A shared one that is down is told, but
    /// it is down for all members: if they all went out of service, nothing would be left of what needs no registry.
    async fn readyz(&self) -> (StatusCode, &'static str, String) {
        let (kind, registry) = (self.app.registry.kind(), self.app.registry.count().await);
        let draining = self.app.draining();
        let probed = !self.probe.under_way();
        let ready = (registry.is_ok() || self.app.registry.is_shared()) && !draining && probed;
        let body = json!({
            "ready": ready,
            "generation": self.generation,
            "draining": draining,
            "listeners_probed": probed,
            "registry": match &registry {
                Ok(Some(sessions)) => json!({ "kind": kind, "sessions": sessions }),
                Ok(None) => json!({ "kind": kind }),
                Err(error) => json!({ "kind": kind, "error": error.to_string() }),
            },
            "upstreams": self.app.upstreams.iter().map(|upstream| {
                let peers: Vec<_> = upstream.peers.iter().map(|peer| {
                    json!({ "name": peer.name, "healthy": peer.healthy(), "in_flight": peer.load() })
                }).collect();
                json!({ "name": upstream.name, "peers": peers })
            }).collect::<Vec<_>>(),
        });
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, "application/json", format!("{body}\n"))
    }

    fn metrics(&self) -> (StatusCode, &'static str, String) {
        let heard = self.supervisor.counters();
        // A counter can only be moved on, and the supervisor's numbers never fall.
        let follow = |counter: &IntCounter, number: u64| counter.inc_by(number.saturating_sub(counter.get()));
        follow(&self.reloads.with_label_values(&["ok"]), heard.reloads_ok);
        follow(&self.reloads.with_label_values(&["failed"]), heard.reloads_failed);
        follow(&self.restarts, heard.restarts);
        self.last_reload.set(i64::try_from(heard.last_reload_unix.unwrap_or(0)).unwrap_or(i64::MAX));
        match self.app.counters.render() {
            Ok(text) => (StatusCode::OK, "text/plain; version=0.0.4", text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (status, content_type, body) = match session.req_header().uri.path() {
            "/livez" => (StatusCode::OK, "text/plain", "ok\n".to_string()),
            "/readyz" => self.readyz().await,
            "/metrics" => self.metrics(),
            _ => (StatusCode::NOT_FOUND, "text/plain", "here are /livez, /readyz and /metrics\n".to_string()),
        };
        let mut response = Response::new(body.into_bytes());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        let length = header::HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        response
    }
}
