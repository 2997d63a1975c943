//! `/upstreams`: how the peers are, in full; in brief for `/readyz`, and as gauges for `/metrics`.
//! Takes the upstreams, gives JSON and numbers of this moment. Surprise: a peer that was not looked at yet has no gauge, so that a reload
//! draws neither a failure nor a recovery.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus::{IntGaugeVec, Opts, Registry};
use serde_json::{Value, json};

use super::{Admin, Page, certificates};
use crate::app::App;
use crate::material::{Role, Used};
use crate::routing::balance::Standing;
use crate::routing::health::State;
use crate::upstream::health::Story;
use crate::upstream::peer::Peer;
use crate::upstream::{Upstream, Upstreams};

/// Each peer in one line.
pub fn brief(upstreams: &Upstreams) -> Value {
    let peer = |peer: &Peer| {
        let mut told = json!({
            "name": peer.name,
            "healthy": peer.standing() == Standing::Good,
            "in_flight": peer.load(),
        });
        if let Some(reason) = why_not(peer) {
            told["reason"] = json!(reason);
        }
        told
    };
    let upstream = |upstream: &Upstream| json!({ "name": upstream.name, "peers": upstream.peers.iter().map(peer).collect::<Vec<_>>() });
    upstreams.iter().map(|each| upstream(each)).collect()
}

/// Everything that is known.
pub fn full(app: &App) -> Value {
    let upstream = |upstream: &Upstream| {
        json!({
            "name": upstream.name,
            "checked": upstream.health.is_some(),
            "identity": identity(&app.certificates, &upstream.owner()),
            "peers": upstream.peers.iter().map(of_peer).collect::<Vec<_>>(),
        })
    };
    app.upstreams.iter().map(|each| upstream(each)).collect()
}

impl Admin {
    pub(super) fn upstreams(&self) -> Page {
        Page::json(StatusCode::OK, &json!({ "generation": self.generation, "upstreams": full(&self.app) }))
    }
}

/// The certificate that we show to an upstream, and how long it is good; null if we show none.
fn identity(certificates: &[Used], owner: &str) -> Value {
    let ours = certificates.iter().find(|used| used.by == owner && used.role == Role::Shown);
    ours.map_or(Value::Null, certificates::shown)
}

fn of_peer(peer: &Peer) -> Value {
    let mut told = json!({
        "name": peer.name,
        "host": peer.host,
        "port": peer.port,
        "address": peer.known_address(),
        "state": state(peer),
        "good": peer.standing() == Standing::Good,
        "set_aside": peer.is_set_aside(),
        "connect_failures_in_a_row": peer.failures(),
        "in_flight": peer.load(),
        "share": peer.health.share(),
    });
    let Some(Story { health, since, last }) = peer.health.tell() else { return told };
    told["since"] = unix(since);
    told["failures_in_a_row"] = json!(health.failures());
    if let State::Unhealthy(reason) = health.state {
        told["reason"] = json!(reason.as_str());
        told["sentence"] = json!(reason.sentence());
    }
    if let Some((at, outcome)) = last {
        told["last_check"] = json!({
            "at": unix(at),
            "took_ms": (outcome.took.as_secs_f64() * 1e6).round() / 1e3,
            "result": outcome.result(),
            "detail": outcome.detail,
        });
    }
    told
}

/// By its checks alone; `unchecked` where there are none.
fn state(peer: &Peer) -> &'static str {
    match peer.health.tell().map(|story| story.health.state) {
        None => "unchecked",
        Some(State::Unknown) => "unknown",
        Some(State::Healthy) => "healthy",
        Some(State::Unhealthy(_)) => "unhealthy",
    }
}

/// Why a peer gets no requests as long as there is a better one.
fn why_not(peer: &Peer) -> Option<&'static str> {
    let checked = peer.health.tell().map(|story| story.health.state);
    match (peer.standing(), checked) {
        (Standing::Good, _) => None,
        (_, Some(State::Unhealthy(reason))) => Some(reason.as_str()),
        (Standing::Unknown, _) => Some("unknown"),
        (Standing::SetAside | Standing::Unhealthy, _) => Some("set_aside"),
    }
}

/// Seconds since 1970, with milliseconds.
fn unix(time: SystemTime) -> Value {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    json!((seconds * 1e3).round() / 1e3)
}

/// The gauges of all peers.
pub struct PeerGauges {
    healthy: IntGaugeVec,
    unhealthy: IntGaugeVec,
}

impl PeerGauges {
    /// Fails only where two metrics have one name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let healthy = IntGaugeVec::new(
            Opts::new(
                "outrigger_upstream_peer_healthy",
                "1 = requests go to this peer, 0 = only where none is better; none = not looked at yet",
            ),
            &["upstream", "peer"],
        )?;
        let unhealthy = IntGaugeVec::new(
            Opts::new("outrigger_upstream_peer_unhealthy", "1 = this is why the peer is not healthy"),
            &["upstream", "peer", "reason"],
        )?;
        registry.register(Box::new(healthy.clone()))?;
        registry.register(Box::new(unhealthy.clone()))?;
        Ok(Self { healthy, unhealthy })
    }

    pub fn set(&self, upstreams: &Upstreams) {
        self.unhealthy.reset();
        for upstream in upstreams.iter() {
            for peer in &upstream.peers {
                let labels = [upstream.name.as_str(), peer.name.as_str()];
                let standing = peer.standing();
                if standing != Standing::Unknown {
                    self.healthy.with_label_values(&labels).set(i64::from(standing == Standing::Good));
                }
                if let Some(reason) = why_not(peer).filter(|_| standing != Standing::Unknown) {
                    self.unhealthy.with_label_values(&[labels[0], labels[1], reason]).set(1);
                }
            }
        }
    }
}
