//! What is known of a peer's health: what its checks found, since when, and how that counts when a peer is chosen.
//! Takes outcomes from whoever checks, gives a [`Standing`] and a share to every request, and the whole story to the admin listener.
//! Surprise: without checks a peer is always good here; only its connections speak then (`peer`).

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::config::settings;
use crate::routing::balance::Standing;
use crate::routing::health::{Change, Finding, Health, Reason, State, Thresholds, share};

/// One check: what it showed, in more words, and how long it took.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub finding: Finding,
    /// For the log and the admin listener; empty if there is no more to say.
    pub detail: String,
    pub took: Duration,
}

impl Outcome {
    /// As a label: `ok`, or the reason.
    pub fn result(&self) -> &'static str {
        self.finding.map_or_else(Reason::as_str, |()| "ok")
    }
}

/// The health of one peer.
pub struct Watched {
    rules: Option<Rules>,
    story: Mutex<Story>,
    /// What of the story every request reads.
    standing: AtomicU8,
    /// Milliseconds from `started` to its last return; 0 = it never came back.
    came_back: AtomicU64,
    started: Instant,
}

struct Rules {
    thresholds: Thresholds,
    slow_start: Duration,
}

/// What the admin listener tells.
#[derive(Debug, Clone)]
pub struct Story {
    pub health: Health,
    /// When the state began.
    pub since: SystemTime,
    pub last: Option<(SystemTime, Outcome)>,
}

const GOOD: u8 = Standing::Good as u8;
const UNKNOWN: u8 = Standing::Unknown as u8;
const UNHEALTHY: u8 = Standing::Unhealthy as u8;

impl Watched {
    /// `health`: how it will be checked; `None` = not at all.
    pub fn new(health: Option<&settings::Health>) -> Self {
        let rules =
            health.map(|health| Rules { thresholds: health.thresholds, slow_start: health.slow_start });
        Self {
            standing: AtomicU8::new(if rules.is_some() { UNKNOWN } else { GOOD }),
            rules,
            story: Mutex::new(Story { health: Health::default(), since: SystemTime::now(), last: None }),
            came_back: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Takes the outcome of a check; says what it changed.
    pub fn learn(&self, outcome: Outcome) -> Change {
        let Some(rules) = &self.rules else { return Change::None };
        let mut story = self.story();
        let change = story.health.observe(outcome.finding, rules.thresholds);
        let now = SystemTime::now();
        match change {
            Change::Confirmed | Change::CameBack | Change::FellIll(_) => story.since = now,
            Change::None | Change::StillIll(_) => {}
        }
        story.last = Some((now, outcome));
        if change == Change::CameBack {
            self.came_back.store(self.now().max(1), Ordering::Relaxed);
        }
        let standing = match story.health.state {
            State::Unknown => UNKNOWN,
            State::Healthy => GOOD,
            State::Unhealthy(_) => UNHEALTHY,
        };
        self.standing.store(standing, Ordering::Release);
        change
    }

    /// By its checks alone.
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            UNHEALTHY => Standing::Unhealthy,
            UNKNOWN => Standing::Unknown,
            _ => Standing::Good,
        }
    }

    /// 1, or less while it comes back.
    pub fn share(&self) -> f64 {
        match (&self.rules, self.came_back.load(Ordering::Relaxed)) {
            (None, _) | (_, 0) => 1.0,
            (Some(rules), since) => {
                share(Duration::from_millis(self.now().saturating_sub(since)), rules.slow_start)
            }
        }
    }

    /// `None`: it is not checked.
    pub fn tell(&self) -> Option<Story> {
        self.rules.as_ref().map(|_| self.story().clone())
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::settings::{Health as Asked, Probe};

    fn asked(slow_start: Duration) -> Asked {
        let one = NonZeroU32::MIN;
        Asked {
            probe: Probe::Tcp,
            headers: Vec::new(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            thresholds: Thresholds { healthy: one, unhealthy: one },
            slow_start,
        }
    }

    fn outcome(finding: Finding) -> Outcome {
        Outcome { finding, detail: String::new(), took: Duration::ZERO }
    }

    #[test]
    fn who_is_not_checked_is_good_and_who_will_be_is_unknown() {
        let unchecked = Watched::new(None);
        assert_eq!(unchecked.learn(outcome(Err(Reason::Refused))), Change::None);
        assert_eq!((unchecked.standing(), unchecked.share()), (Standing::Good, 1.0));
        assert!(unchecked.tell().is_none());
        let watched = Watched::new(Some(&asked(Duration::ZERO)));
        assert_eq!(watched.standing(), Standing::Unknown);
    }

    #[test]
    fn only_who_comes_back_starts_slowly() {
        let watched = Watched::new(Some(&asked(Duration::from_secs(3600))));
        let after = |finding| {
            watched.learn(outcome(finding));
            (watched.standing(), watched.share())
        };
        assert_eq!(after(Ok(())), (Standing::Good, 1.0));
        assert_eq!(after(Err(Reason::Timeout)), (Standing::Unhealthy, 1.0));
        assert_eq!(after(Ok(())), (Standing::Good, 0.1));
        let story = watched.tell().unwrap();
        assert_eq!((story.health.state, story.last.unwrap().1.result()), (State::Healthy, "ok"));
    }
}
