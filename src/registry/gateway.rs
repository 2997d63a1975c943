//! The gateway's own keys, and the calibrations of ours that tell what they mean. ContextForge keeps the owner of every session
//! under `pool_owner:{session id}` and lets each worker say that it lives under `worker_heartbeat:{worker}`.
//! Takes a session id, gives a [`Word`] on its owner; takes the peer that began a session, learns its worker in the background.
//! Surprise: these keys hold session ids in clear. None of ours does, and no error or log line may repeat one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Calibration, RegistryError, Store, Word, WorkerId};

/// How long a calibration is kept; every session that begins at its peer may renew it.
const KEPT: Duration = Duration::from_secs(3_600);
/// So long after the last look a peer's worker is taken for the same, and no other look is taken.
const CONFIRMED: Duration = Duration::from_secs(30);
/// Milliseconds before each look for the key of a new session: the gateway writes it a little after its answer, and some servers never do.
const PAUSES: [u64; 5] = [20, 80, 400, 1_500, 4_000];
/// ContextForge makes no keys for other session ids.
const LONGEST_SESSION_ID: usize = 128;

/// A handle; clones are cheap and share what they have learnt.
#[derive(Clone)]
pub struct GatewayKeys {
    store: Store,
    /// Before each of the gateway's keys.
    prefix: Arc<str>,
    learnt: Arc<Learnt>,
}

#[derive(Default)]
struct Learnt {
    /// Whether any worker was seen to have a heartbeat.
    heartbeats: AtomicBool,
    /// Whether it was said that the keys cannot be read.
    complained: AtomicBool,
    looks: Mutex<HashMap<Seat, Look>>,
}

/// One peer, as seen from here: its upstream, its member if it is one of several, its name.
type Seat = (String, Option<String>, String);

/// The last look for the worker of a peer.
struct Look {
    begun: Instant,
    found: Option<WorkerId>,
}

impl GatewayKeys {
    /// `None` where the gateway's keys are not to be read.
    pub fn of(store: Store) -> Option<Self> {
        let prefix = store.gateway_keys()?.into();
        Some(Self { store, prefix, learnt: Arc::default() })
    }

    /// What the gateway says of a session of this upstream; `None` if it has no word on it, or none that we may read.
    pub async fn ask(&self, upstream: &str, session_id: &str) -> Result<Option<Word>, RegistryError> {
        match self.read(upstream, session_id).await {
            Err(error @ (RegistryError::Refused { .. } | RegistryError::Unreadable { .. })) => {
                // Redis itself is well; without its second source the registry is still the registry.
                let first = !self.learnt.complained.swap(true, Ordering::Relaxed);
                let level = if first { log::Level::Warn } else { log::Level::Debug };
                log::log!(
                    level,
                    "the gateway's own keys tell nothing (may we read {}*?): {error}",
                    self.prefix
                );
                Ok(None)
            }
            answer => answer,
        }
    }

    async fn read(&self, upstream: &str, session_id: &str) -> Result<Option<Word>, RegistryError> {
        let Some(worker) = self.owner(session_id).await? else { return Ok(None) };
        let keys = [self.calibration_key(upstream, &worker), self.heartbeat_key(&worker)];
        let mut found = self.store.get_many(&keys).await?.into_iter();
        let calibrated = found.next().flatten().and_then(|json| Calibration::from_json(&json));
        let beats = found.next().flatten().is_some();
        self.saw_heartbeat(beats || calibrated.as_ref().is_some_and(|calibrated| calibrated.heartbeats));
        let heartbeats_written = self.learnt.heartbeats.load(Ordering::Relaxed);
        Ok(Some(Word { worker, calibrated, beats, heartbeats_written }))
    }

    /// The worker that the gateway has entered as the owner.
    pub async fn owner(&self, session_id: &str) -> Result<Option<WorkerId>, RegistryError> {
        if !has_a_key(session_id) {
            return Ok(None);
        }
        let owner = self.store.get(&self.owner_key(session_id)).await?;
        Ok(owner.as_deref().and_then(WorkerId::parse))
    }

    /// How long the gateway's entry of the owner will stand.
    pub async fn lease(&self, session_id: &str) -> Result<Option<Duration>, RegistryError> {
        if !has_a_key(session_id) {
            return Ok(None);
        }
        self.store.expires_in(&self.owner_key(session_id)).await
    }

    /// A session has begun at this peer: learns in the background which worker that is, unless that was done a moment ago.
    /// To be called within a runtime.
    pub fn calibrate(&self, upstream: &str, member: Option<&str>, peer: &str, session_id: &str) {
        let seat = (upstream.to_owned(), member.map(str::to_owned), peer.to_owned());
        if has_a_key(session_id) && self.begin_look(&seat) {
            let (keys, session_id) = (self.clone(), session_id.to_owned());
            tokio::spawn(async move { keys.look(&seat, &session_id).await });
        }
    }

    async fn look(&self, seat: &Seat, session_id: &str) {
        let (upstream, _, peer) = seat;
        match self.learn(seat, session_id).await {
            Ok(Some(worker)) => {
                let found = Some(worker.clone());
                let before =
                    self.looks().get_mut(seat).and_then(|look| std::mem::replace(&mut look.found, found));
                if before.as_ref() != Some(&worker) {
                    log::info!("upstream {upstream}: worker {worker} answers at peer {peer}");
                }
            }
            Ok(None) => {
                log::debug!("upstream {upstream}: no worker calls the new session of peer {peer} its own")
            }
            Err(error) => {
                log::warn!("upstream {upstream}: the worker at peer {peer} could not be learnt: {error}")
            }
        }
    }

    async fn learn(&self, seat: &Seat, session_id: &str) -> Result<Option<WorkerId>, RegistryError> {
        for pause in PAUSES {
            sleep(Duration::from_millis(pause)).await;
            if let Some(worker) = self.owner(session_id).await? {
                self.keep(seat, &worker).await?;
                return Ok(Some(worker));
            }
        }
        Ok(None)
    }

    async fn keep(&self, (upstream, member, peer): &Seat, worker: &WorkerId) -> Result<(), RegistryError> {
        let heartbeats = self.store.exists(&self.heartbeat_key(worker)).await?;
        self.saw_heartbeat(heartbeats);
        let calibration = Calibration { member: member.clone(), peer: peer.clone(), heartbeats };
        self.store.put(&self.calibration_key(upstream, worker), &calibration.to_json(), KEPT).await
    }

    /// Whether it is time for another look at this peer; it counts as begun then, whatever comes of it.
    fn begin_look(&self, seat: &Seat) -> bool {
        let mut looks = self.looks();
        let last = looks.get(seat);
        if last.is_some_and(|look| look.begun.elapsed() < CONFIRMED) {
            return false;
        }
        let found = last.and_then(|look| look.found.clone());
        looks.insert(seat.clone(), Look { begun: Instant::now(), found });
        true
    }

    fn saw_heartbeat(&self, seen: bool) {
        self.learnt.heartbeats.fetch_or(seen, Ordering::Relaxed);
    }

    fn owner_key(&self, session_id: &str) -> String {
        format!("{}pool_owner:{session_id}", self.prefix)
    }

    fn calibration_key(&self, upstream: &str, worker: &WorkerId) -> String {
        self.store.key(&format!("worker:{upstream}:{worker}"))
    }

    fn heartbeat_key(&self, worker: &WorkerId) -> String {
        format!("{}worker_heartbeat:{worker}", self.prefix)
    }

    fn looks(&self) -> MutexGuard<'_, HashMap<Seat, Look>> {
        self.learnt.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What else a client may send must not become part of a key.
fn has_a_key(session_id: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=LONGEST_SESSION_ID).contains(&session_id.len()) && session_id.bytes().all(known)
}
