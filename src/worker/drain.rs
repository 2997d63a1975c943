//! How a generation ends: told to by SIGTERM or by the supervisor's death, and gone as soon as its last connection is.
//! Takes the end of the control channel and signals, gives Pingora its shutdown signal. Surprise: Pingora would sleep out the whole grace period even
//! with nothing left to wait for, so a thread of our own watches the connections and exits the process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};

use super::checks::Checks;
use crate::account::Live;
use crate::app::App;
use crate::logging;
use crate::members::Members;
use crate::supervisor::control::{self, Report};

/// No connection for this long: a client that was just told to reconnect is somebody else's now.
const QUIET: Duration = Duration::from_millis(500);

/// At most so often the supervisor hears how much is left.
const NEWS: Duration = Duration::from_secs(1);

/// The supervisor's word that the whole sidecar stops comes right after SIGTERM.
const WORD: Duration = Duration::from_millis(100);

/// The terminal's signals reach every process of the foreground group, and `pkill -HUP outrigger` every process of the name; only the supervisor acts on them.
pub fn ignore_terminal_signals() -> std::io::Result<()> {
    for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP, signal_hook::consts::SIGQUIT] {
        signal_hook::flag::register(number, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// Waits for the end of this generation.
pub struct Retire {
    app: Arc<App>,
    channel: Arc<control::Worker>,
    checks: Arc<Checks>,
}

impl Retire {
    pub fn new(app: Arc<App>, channel: Arc<control::Worker>, checks: Arc<Checks>) -> Self {
        Self { app, channel, checks }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Retire {
    async fn recv(&self) -> ShutdownSignal {
        let (app, channel) = (self.app.clone(), self.channel.clone());
        let orphaned = tokio::task::spawn_blocking(move || channel.wait_closed(|| app.counted()));
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = orphaned => log::error!("the supervisor is gone; this generation drains and ends"),
                }
            }
            Err(error) => {
                log::error!("SIGTERM cannot be watched: {error}");
                let _ = orphaned.await;
            }
        }
        self.app.drain();
        self.app.upstreams.renew();
        self.app.members.iter().for_each(Members::renew);
        self.withdraw().await;
        let (app, channel, checks) = (self.app.clone(), self.channel.clone(), self.checks.clone());
        std::thread::spawn(move || exit_when_drained(&app, &channel, &checks));
        ShutdownSignal::GracefulTerminate
    }
}

impl Retire {
    /// Before any listener closes, so that the other members stop sending. In a reload the member stays: its successor is there.
    async fn withdraw(&self) {
        let Some(members) = &self.app.members else { return };
        if tokio::time::timeout(WORD, self.channel.told_to_stop()).await.is_err() {
            return;
        }
        match members.withdraw().await {
            Ok(true) => log::info!("member {} is withdrawn", members.me),
            Ok(false) => {}
            Err(error) => log::warn!("member {} cannot be withdrawn; its card runs out: {error}", members.me),
        }
    }
}

/// Idle connections are waited for in a reload, since their clients have a right to their time-out; where the whole sidecar
/// stops they lose nothing.
fn exit_when_drained(app: &App, channel: &control::Worker, checks: &Checks) {
    let mut quiet_since = Instant::now();
    let mut told: Option<(Live, Instant)> = None;
    while quiet_since.elapsed() < QUIET {
        let live = app.counters.live();
        if told.is_none_or(|(last, at)| last != live && at.elapsed() > NEWS) {
            let Live { connections, streams } = live;
            // Only shown to people; where the supervisor is gone there is nobody to show it.
            let _ = channel.report(&Report::Live { connections, streams });
            told = Some((live, Instant::now()));
        }
        // Nothing announces that a gauge fell to zero; ten looks a second cost nothing.
        std::thread::park_timeout(QUIET / 5);
        let counters = &app.counters;
        let left = if channel.stopping() { counters.in_flight.get() } else { counters.connections.get() };
        if left > 0 {
            quiet_since = Instant::now();
        }
    }
    checks.end();
    log::info!("drained");
    app.close();
    // The last word; where the supervisor is gone, nobody adds up any more.
    let _ = channel.report(&Report::Counted(app.counted()));
    logging::flush();
    std::process::exit(0);
}
