//! The pulse: this member's sign of life to the others, from the moment it is ready until it drains.
//! Takes the members' room, beats in its rhythm. Surprise: the first beat comes before `ready`, so that the generation which retires then finds
//! its card replaced and leaves it alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::app::App;

/// Longest wait for the first beat; a registry that is down delays no reload for longer.
const FIRST_BEAT: Duration = Duration::from_secs(1);

/// Publishes this member for the first time; blocks.
pub fn announce(app: &App) {
    let Some(members) = app.members.as_ref().filter(|members| members.rhythm().is_some()) else { return };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            match runtime.block_on(async { tokio::time::timeout(FIRST_BEAT, members.announce()).await }) {
                Ok(Ok(())) => log::info!("member {} is published", members.me),
                Ok(Err(error)) => log::warn!("member {} is not published yet: {error}", members.me),
                Err(_) => {
                    log::warn!("member {} is not published yet: no answer within {FIRST_BEAT:?}", members.me)
                }
            }
        }
        Err(error) => log::error!("member {} is not published yet: no runtime: {error}", members.me),
    }
}

/// The later beats.
pub struct Pulse(Arc<App>);

impl Pulse {
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[async_trait]
impl BackgroundService for Pulse {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(members) = &self.0.members else { return };
        let Some(rhythm) = members.rhythm() else { return };
        let mut well = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(rhythm) => {}
                _ = shutdown.changed() => return,
            }
            if self.0.draining() {
                return;
            }
            let beat = members.beat().await;
            match &beat {
                Ok(()) if !well => log::info!("member {} is published again", members.me),
                Err(error) if well => log::warn!("member {} cannot be published: {error}", members.me),
                Ok(()) | Err(_) => {}
            }
            well = beat.is_ok();
        }
    }
}
