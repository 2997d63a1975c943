//! `outrigger check --deep`: whether what a configuration rests on is there and takes us, before anything runs on it.
//! Takes checked settings, connects to every peer (with TLS and the identity of traffic) and to Redis, looks at dates; gives findings.
//! Surprise: it does not only ask Redis, it writes a key under our prefix and takes it away again; a replica or an ACL that lets us
//! only read shows itself in no other way.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::settings::{Health, Probe, RegistryKind, Settings};
use crate::material::{Nearness, Role, Shelf, Used};
use crate::registry::{Registry, RegistryError, Store};
use crate::routing::health::Thresholds;
use crate::upstream::check::check;
use crate::upstream::{Upstream, Upstreams};

/// How long Redis may take for the first connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub what: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// It works, but not for long.
    Warning,
    Bad,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Bad => "FAIL",
        };
        write!(f, "{verdict}  {}: {}", self.what, self.text)
    }
}

/// # Errors
/// For the operator: nothing could be looked at.
pub fn look(settings: &Settings) -> Result<Vec<Finding>, String> {
    let mut shelf = Shelf::default();
    let upstreams = Upstreams::open(settings, &mut shelf)?;
    for listener in &settings.listeners {
        for identity in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            shelf.identity(&format!("listener {}", listener.name), identity)?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    Ok(runtime.block_on(async {
        let mut findings = Vec::new();
        for upstream in upstreams.iter() {
            for peer in 0..upstream.peers.len() {
                findings.push(of_peer(upstream, peer).await);
            }
        }
        findings.push(of_registry(settings).await);
        findings.extend(shelf.into_used().iter().filter(|used| used.role == Role::Shown).map(of_certificate));
        findings
    }))
}

/// As its health checks look at it; where there are none, by a connection (and a handshake).
async fn of_peer(upstream: &Arc<Upstream>, index: usize) -> Finding {
    let peer = &upstream.peers[index];
    let what = upstream.who(index);
    let connection = Health {
        probe: Probe::Tcp,
        headers: Vec::new(),
        interval: PATIENCE,
        timeout: PATIENCE,
        thresholds: Thresholds { healthy: NonZeroU32::MIN, unhealthy: NonZeroU32::MIN },
        slow_start: Duration::ZERO,
    };
    let health = upstream.health.as_ref().unwrap_or(&connection);
    let (outcome, farewell) = check(upstream, index, health).await;
    if let Some(farewell) = farewell {
        farewell.finish().await;
    }
    let address = peer.known_address().map_or(String::new(), |address| format!(" at {address}"));
    let how = match health.probe {
        Probe::Tcp => "connected".to_owned(),
        Probe::Get(ref path) => format!("GET {path} is well"),
        Probe::Ping(_) => "answers MCP".to_owned(),
        Probe::Discover(_) => "answers server/discover".to_owned(),
    };
    match outcome.finding {
        Ok(()) => good(what, format!("{how}{address} in {}", milliseconds(outcome.took))),
        Err(reason) if outcome.detail.is_empty() => bad(what, reason.sentence().to_owned()),
        Err(reason) => bad(what, format!("{} ({})", reason.sentence(), outcome.detail)),
    }
}

async fn of_registry(settings: &Settings) -> Finding {
    let what = "registry".to_owned();
    let redis = match &settings.sessions.registry {
        RegistryKind::Embedded(embedded) => {
            return good(what, format!("embedded, {} can be written", embedded.path.display()));
        }
        RegistryKind::Redis(redis) => redis,
    };
    let registry = match Registry::open(&settings.sessions) {
        Ok(registry) => registry,
        Err(error) => return bad(what, error.to_string()),
    };
    let Some(store) = registry.store() else { return bad(what, "it is not shared".to_owned()) };
    match write_and_remove(&store).await {
        Ok(took) => good(
            what,
            format!(
                "redis: a key under {} was written, read and removed; an answer takes {}",
                redis.prefix,
                milliseconds(took)
            ),
        ),
        Err(error) => bad(what, format!("redis, under {}: {error}", redis.prefix)),
    }
}

/// How long one answer takes.
async fn write_and_remove(store: &Store) -> Result<Duration, RegistryError> {
    let key = store.key(&format!("check:{}", std::process::id()));
    let began = Instant::now();
    loop {
        match store.put(&key, "outrigger check --deep", PATIENCE).await {
            // The first connection is being made.
            Err(RegistryError::Silent { .. } | RegistryError::Unreachable { .. })
                if began.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            written => break written?,
        }
    }
    let asked = Instant::now();
    store.get(&key).await?;
    let took = asked.elapsed();
    store.remove_if(&key, "outrigger check --deep").await?;
    Ok(took)
}

fn of_certificate(used: &Used) -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let Used { by, file, certificate, .. } = used;
    let near = certificate.nearness(now) != Nearness::Far;
    let left = match certificate.days_left(now) {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    Finding {
        verdict: if near { Verdict::Warning } else { Verdict::Good },
        what: format!("{by}, certificate {}", certificate.subject),
        text: format!("{left} left ({})", file.display()),
    }
}

fn good(what: String, text: String) -> Finding {
    Finding { verdict: Verdict::Good, what, text }
}

fn bad(what: String, text: String) -> Finding {
    Finding { verdict: Verdict::Bad, what, text }
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}
