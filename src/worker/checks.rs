//! The checks of all peers, on a thread of their own from the start of a generation until it drains.
//! Takes the upstreams that have `health`, tells their peers what was found. Surprise: the first look begins before the sockets come,
//! so that `ready` need not wait for it, and is waited for, but not long, so that no reload makes a peer look healthy that is down.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::task::{JoinSet, LocalSet};

use crate::app::App;
use crate::config::settings::Health;
use crate::routing::balance::Standing;
use crate::routing::health::{Change, Reason};
use crate::upstream::check::{Farewell, Left, check};
use crate::upstream::health::Outcome;
use crate::upstream::{Upstream, peer};

/// Longest wait for the first look; a peer that does not answer delays no reload for longer.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How long a generation that has drained waits for a check of its own, whose session would stay open otherwise.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Checks that a peer still owes an answer. Each may become a session when the peer goes on, so there are never many.
const MOST_UNANSWERED: usize = 2;

#[derive(Default)]
pub struct Checks {
    /// Peers that were not looked at yet.
    unseen: Mutex<usize>,
    seen: Condvar,
    /// Checks and farewells under way.
    open: AtomicUsize,
}

impl Checks {
    /// Begins with all peers at once. Without anything to check there is no thread.
    pub fn start(app: &Arc<App>) -> Arc<Self> {
        let checks = Arc::new(Self::default());
        let with_health = app.upstreams.iter().filter(|upstream| upstream.health.is_some());
        let peers: usize = with_health.map(|upstream| upstream.peers.len()).sum();
        if peers > 0 {
            *checks.unseen.lock().unwrap_or_else(PoisonError::into_inner) = peers;
            let (app, checks) = (app.clone(), checks.clone());
            std::thread::spawn(move || checks.run(&app));
        }
        checks
    }

    /// Blocks until every peer was looked at, or long enough.
    pub fn first_look(&self) {
        let unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing else is protected by the lock, and a time that ran out is as good as a look.
        let _ = self.seen.wait_timeout_while(unseen, FIRST_LOOK, |unseen| *unseen > 0);
    }

    /// Blocks until what is under way has ended, or long enough.
    pub fn end(&self) {
        let deadline = Instant::now() + LAST_LOOK;
        while self.open.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn run(self: Arc<Self>, app: &Arc<App>) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return log::error!("peers are not checked: no runtime: {error}"),
        };
        let peers = LocalSet::new();
        for upstream in app.upstreams.iter() {
            for peer in upstream.health.iter().flat_map(|_| 0..upstream.peers.len()) {
                peers.spawn_local(self.clone().look_after(app.clone(), upstream.clone(), peer));
            }
        }
        runtime.block_on(peers);
    }

    /// Checks one peer again and again.
    async fn look_after(self: Arc<Self>, app: Arc<App>, upstream: Arc<Upstream>, peer: usize) {
        let Some(health) = &upstream.health else { return };
        let mut farewells = Farewells::default();
        let mut pause = health.interval.mul_f64(fraction());
        let mut first = true;
        while !app.draining() {
            let open = Open::one(&self);
            farewells.note(&upstream, peer);
            let outcome = if farewells.unanswered() {
                still_waiting()
            } else {
                let (outcome, farewell) = check(&upstream, peer, health).await;
                farewells.add(farewell, &self);
                outcome
            };
            learn(&app, &upstream, peer, outcome);
            drop(open);
            if std::mem::take(&mut first) {
                *self.unseen.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
                self.seen.notify_all();
            }
            tokio::time::sleep(pause).await;
            pause = jittered(health);
        }
        farewells.all(&upstream, peer).await;
    }
}

fn jittered(health: &Health) -> Duration {
    health.interval.mul_f64(0.9 + 0.2 * fraction())
}

fn fraction() -> f64 {
    f64::from(peer::random() as u32) / f64::from(u32::MAX)
}

/// Asking once more would only leave it another session to give out.
fn still_waiting() -> Outcome {
    let detail = format!("{MOST_UNANSWERED} earlier checks are unanswered");
    Outcome { finding: Err(Reason::Timeout), detail, took: Duration::ZERO }
}

/// Tells the peer, the counters and, where something changed, the log.
fn learn(app: &App, upstream: &Upstream, index: usize, outcome: Outcome) {
    let peer = &upstream.peers[index];
    app.counters.health_check(&upstream.name, &peer.name, outcome.result(), outcome.took);
    if outcome.finding.is_ok() {
        // As good as a connection of traffic's.
        peer.reached();
    }
    let detail = match outcome.detail.as_str() {
        "" => String::new(),
        detail => format!(" ({detail})"),
    };
    let who = upstream.who(index);
    match peer.health.learn(outcome) {
        Change::FellIll(reason) => {
            log::warn!("{who} is unhealthy: {}{detail}", reason.sentence());
            if upstream.peers.iter().all(|peer| peer.standing() < Standing::Unknown) {
                log::error!("upstream {}: no peer is healthy; requests go to all of them", upstream.name);
            }
        }
        Change::StillIll(reason) => log::warn!("{who} is unhealthy still: {}{detail}", reason.sentence()),
        Change::CameBack => log::info!("{who} is healthy again"),
        Change::Confirmed | Change::None => {}
    }
}

/// Sessions of one peer's checks that are being closed.
#[derive(Default)]
struct Farewells {
    under_way: JoinSet<Left>,
    /// That the server keeps sessions open was said.
    said: bool,
}

impl Farewells {
    fn add(&mut self, farewell: Option<Farewell>, checks: &Arc<Checks>) {
        if let Some(farewell) = farewell {
            let open = Open::one(checks);
            self.under_way.spawn(async move {
                let _open = open;
                farewell.finish().await
            });
        }
    }

    fn unanswered(&self) -> bool {
        self.under_way.len() >= MOST_UNANSWERED
    }

    /// Tells of those that have ended.
    fn note(&mut self, upstream: &Upstream, peer: usize) {
        while let Some(left) = self.under_way.try_join_next() {
            self.tell(left.unwrap_or(Left::Nothing), upstream, peer);
        }
    }

    async fn all(&mut self, upstream: &Upstream, peer: usize) {
        while let Some(left) = self.under_way.join_next().await {
            self.tell(left.unwrap_or(Left::Nothing), upstream, peer);
        }
    }

    fn tell(&mut self, left: Left, upstream: &Upstream, peer: usize) {
        let who = upstream.who(peer);
        match left {
            Left::Nothing => {}
            Left::Session(status) if !std::mem::replace(&mut self.said, true) => log::warn!(
                "{who} answers {status} where a check closes its session: every check leaves one behind; \
                 `mcp: discover`, `path` or `tcp` leaves none"
            ),
            Left::Session(_) => {}
            Left::Unknown(reason) => log::debug!("{who}: a check could not close its session: {reason}"),
        }
    }
}

/// One check or farewell under way, for as long as it lives.
struct Open(Arc<Checks>);

impl Open {
    fn one(checks: &Arc<Checks>) -> Self {
        checks.open.fetch_add(1, Ordering::AcqRel);
        Self(checks.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}
