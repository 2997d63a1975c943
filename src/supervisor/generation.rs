//! What the supervisor decides: which generation starts, serves, drains or is killed, as one pure function [`step`].
//! Takes the state, the time since the supervisor began and one event; gives the next state and the effects to perform.
//! Surprise: events only note what happened. `settle` then restores what must always hold (something serves or is about
//! to, nobody is late, not too many drain), so that no order of events can forget a duty.

use std::time::Duration;

use super::event::{Effect, Event, Exit, Fault, Limits, Number, Which};
use super::state::{Cause, Phase, Reload, Stage, Start, State};
use super::story::Story;

#[cfg(test)]
mod property;
#[cfg(test)]
mod table;

/// First delay between two restarts that follow each other; doubled each time up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A generation that served this long was healthy: the next crash is restarted at once.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// One event, at `now` since the supervisor began. Never panics, whatever the order; an event about a generation that is
/// not in the phase for it is ignored.
pub fn step(state: State, now: Duration, event: Event) -> (State, Vec<Effect>) {
    let counts = state.counts;
    let mut turn = Turn { state, now, effects: Vec::new() };
    match turn.state.stage {
        Stage::Running => turn.running(event),
        Stage::Stopping { .. } => turn.stopping(event),
        Stage::Finished => {}
    }
    turn.settle();
    if turn.state.counts != counts
        && let Some(serving) = turn.state.serving()
    {
        turn.effects.push(Effect::Count(serving, turn.state.counts));
    }
    (turn.state, turn.effects)
}

struct Turn {
    state: State,
    now: Duration,
    effects: Vec<Effect>,
}

/// What happened.
impl Turn {
    fn running(&mut self, event: Event) {
        match event {
            Event::Begin if self.state.last == 0 => self.start(Cause::First, self.state.limits),
            Event::ReloadAsked if self.state.reload == Reload::Idle => self.state.reload = Reload::Owed,
            Event::Loaded(limits) if self.state.reload == Reload::Loading => {
                self.state.reload = Reload::Idle;
                self.start(Cause::Reload, limits);
            }
            Event::LoadRefused { reason } if self.state.reload == Reload::Loading => {
                self.state.reload = Reload::Idle;
                self.count_reload(false);
                self.tell(Story::ReloadRefused { reason, still: self.state.serving() });
            }
            Event::Ready { generation } => self.ready(generation),
            Event::Failed { generation, fault, reason } => self.failed(generation, fault, reason),
            Event::StartRefused { generation, reason } => {
                if let Some(start) = self.take_starting(generation) {
                    self.not_ready(generation, start.cause, Fault::System, reason);
                }
            }
            Event::Live { generation, connections, streams } => self.live(generation, connections, streams),
            Event::Exited { generation, exit } => self.exited(generation, exit),
            Event::StopAsked => self.stop(0),
            Event::Begin
            | Event::ReloadAsked
            | Event::Loaded(_)
            | Event::LoadRefused { .. }
            | Event::Tick => {}
        }
    }

    fn stopping(&mut self, event: Event) {
        match event {
            Event::Live { generation, connections, streams } => self.live(generation, connections, streams),
            Event::Exited { generation, exit } => self.exited(generation, exit),
            Event::StartRefused { generation, .. } => {
                self.state.children.remove(&generation);
            }
            _ => {}
        }
    }

    fn ready(&mut self, generation: Number) {
        let Some(start) = self.take_starting(generation) else { return };
        self.tell(Story::Ready { generation, after: self.for_how_long(start.since) });
        if let Some(old) = self.state.serving() {
            self.retire(old);
        }
        self.state.children.insert(generation, Phase::Serving { since: self.now });
        self.state.limits = start.limits;
        if start.cause != Cause::Restart {
            self.effects.push(Effect::Adopt);
        }
        if start.cause == Cause::Reload {
            self.count_reload(true);
        }
    }

    /// A generation that starts turns out not to: it is killed, what serves goes on.
    fn failed(&mut self, generation: Number, fault: Fault, reason: String) {
        if let Some(start) = self.take_starting(generation) {
            self.kill(generation);
            self.not_ready(generation, start.cause, fault, reason);
        }
    }

    fn not_ready(&mut self, generation: Number, cause: Cause, fault: Fault, reason: String) {
        self.tell(Story::NotReady { generation, reason, still: self.state.serving() });
        if cause != Cause::Restart {
            self.effects.push(Effect::Discard);
        }
        match cause {
            Cause::First => self.stop(fault.exit_code()),
            Cause::Reload => self.count_reload(false),
            Cause::Restart => {}
        }
    }

    /// A generation drains: as it was told, or, where somebody else sent it a SIGTERM, of its own accord.
    fn live(&mut self, generation: Number, connections: usize, streams: usize) {
        let since = match self.state.children.get(&generation) {
            Some(Phase::Draining { since, told: false }) => *since,
            Some(Phase::Serving { since }) => {
                self.note_health(*since);
                self.tell(Story::Leaving { generation });
                self.now
            }
            _ => return,
        };
        self.state.children.insert(generation, Phase::Draining { since, told: true });
        self.tell(Story::Draining { generation, connections, streams });
    }

    fn exited(&mut self, generation: Number, exit: Exit) {
        match self.state.children.remove(&generation) {
            Some(Phase::Starting(start)) => {
                let fault = if exit == Exit::Code(64) { Fault::Config } else { Fault::System };
                self.not_ready(generation, start.cause, fault, exit.to_string());
            }
            Some(Phase::Serving { since }) => {
                self.note_health(since);
                self.tell(Story::Died { generation, exit, after: self.for_how_long(since) });
            }
            Some(Phase::Draining { since, .. }) => {
                let after = self.for_how_long(since);
                // SIGTERM itself ends a worker that had not yet come so far as to catch it.
                let asked = matches!(exit, Exit::Code(0) | Exit::Signal("SIGTERM"));
                self.tell(match asked {
                    true => Story::Drained { generation, after },
                    false => Story::Died { generation, exit, after },
                });
            }
            Some(Phase::Killed) | None => {}
        }
    }
}

/// What must hold after every event.
impl Turn {
    fn settle(&mut self) {
        if self.state.stage == Stage::Running {
            self.settle_lateness();
        }
        // A first start that came to nothing ends the running stage.
        if self.state.stage == Stage::Running && self.state.last > 0 && self.state.starting().is_none() {
            self.settle_start();
        }
        if let Stage::Stopping { deadline, code } = self.state.stage {
            self.settle_stop(deadline, code);
        }
    }

    fn settle_lateness(&mut self) {
        if let Some((generation, start)) = self.state.starting()
            && self.for_how_long(start.since) >= start.limits.ready
        {
            let reason = format!("not ready within {:.1} s", start.limits.ready.as_secs_f64());
            self.failed(generation, Fault::System, reason);
        }
        for (generation, since) in self.state.draining() {
            if self.for_how_long(since) >= self.state.limits.drain {
                self.cut(generation, "still draining after drain.timeout");
            }
        }
        let draining = self.state.draining();
        let excess = draining.len().saturating_sub(self.state.limits.draining);
        for (generation, _) in draining.into_iter().take(excess) {
            self.cut(generation, "more than drain.max_generations drain");
        }
    }

    /// Nothing starts: is a start owed?
    fn settle_start(&mut self) {
        if self.state.reload == Reload::Owed {
            self.state.reload = Reload::Loading;
            self.effects.push(Effect::Load);
        }
        if self.state.reload == Reload::Loading || self.state.serving().is_some() {
            return;
        }
        let at = self.state.restart_at.unwrap_or_else(|| self.plan_restart());
        if at <= self.now {
            self.state.counts.restarts += 1;
            self.start(Cause::Restart, self.state.limits);
        }
    }

    fn plan_restart(&mut self) -> Duration {
        let delay = self.state.backoff;
        if !delay.is_zero() {
            self.tell(Story::RestartIn { delay });
        }
        self.state.backoff = (delay * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        *self.state.restart_at.insert(self.now + delay)
    }

    fn settle_stop(&mut self, deadline: Duration, code: u8) {
        if self.now >= deadline {
            let left: Vec<Number> = self.state.children.keys().copied().collect();
            for generation in left {
                self.cut(generation, "still draining after shutdown.timeout");
            }
        }
        if self.state.children.is_empty() {
            self.state.stage = Stage::Finished;
            self.tell(Story::Stopped);
            self.effects.push(Effect::Exit(code));
        }
    }
}

/// The moves.
impl Turn {
    fn start(&mut self, cause: Cause, limits: Limits) {
        self.state.last += 1;
        self.state.restart_at = None;
        let generation = self.state.last;
        self.state.children.insert(generation, Phase::Starting(Start { since: self.now, cause, limits }));
        let (with, why) = match cause {
            Cause::First => (Which::Candidate, "first start"),
            Cause::Reload => (Which::Candidate, "reload"),
            Cause::Restart => (Which::Current, "restart"),
        };
        self.tell(Story::Starting { generation, why });
        self.effects.push(Effect::Start { generation, with, counts: self.state.counts });
    }

    fn take_starting(&mut self, generation: Number) -> Option<Start> {
        let (number, start) = self.state.starting().filter(|(number, _)| *number == generation)?;
        self.state.children.remove(&number);
        Some(start)
    }

    /// SIGTERM, for a generation that has not had one.
    fn retire(&mut self, generation: Number) {
        if let Some(Phase::Serving { since }) = self.state.children.get(&generation) {
            self.note_health(*since);
        }
        self.state.children.insert(generation, Phase::Draining { since: self.now, told: false });
        self.effects.push(Effect::Terminate(generation));
    }

    /// SIGKILL; false if it had one before.
    fn kill(&mut self, generation: Number) -> bool {
        let fresh = self.state.children.insert(generation, Phase::Killed) != Some(Phase::Killed);
        if fresh {
            self.effects.push(Effect::Kill(generation));
        }
        fresh
    }

    fn cut(&mut self, generation: Number, why: &'static str) {
        if self.kill(generation) {
            self.tell(Story::Killed { generation, why });
        }
    }

    fn stop(&mut self, code: u8) {
        let within = self.state.limits.shutdown;
        self.state.stage = Stage::Stopping { deadline: self.now + within, code };
        self.state.restart_at = None;
        let generations = self.state.children.len();
        if generations > 0 {
            self.tell(Story::Stopping { generations, within });
        }
        let starting = self.state.starting().map(|(number, _)| number);
        for generation in self.state.serving().into_iter().chain(starting) {
            self.retire(generation);
        }
        self.effects.push(Effect::Close);
    }

    fn note_health(&mut self, since: Duration) {
        if self.for_how_long(since) >= HEALTHY_AFTER {
            self.state.backoff = Duration::ZERO;
        }
    }

    fn count_reload(&mut self, ok: bool) {
        let counts = &mut self.state.counts;
        *(if ok { &mut counts.reloads_ok } else { &mut counts.reloads_failed }) += 1;
        counts.last_reload = Some(self.now);
    }

    fn tell(&mut self, story: Story) {
        self.effects.push(Effect::Tell(story));
    }

    fn for_how_long(&self, since: Duration) -> Duration {
        self.now.saturating_sub(since)
    }
}
