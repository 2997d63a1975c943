//! What the supervisor decides: which generation starts, serves, drains or is killed, as one pure function [`step`].
//! Takes the state, the time since the supervisor began and one event; gives the next state and the effects to perform.
//! Surprise: events only note what happened. `settle` then restores what must always hold (something serves or is about
//! to, nobody is late, not too many drain), so that no order of events can forget a duty.

use std::time::Duration;

use super::event::{Effect, Event, Exit, Fault, Fingerprint, Limits, Number, Which};
use super::state::{Asked, Cause, Child, Files, Live, Phase, Reload, Reloaded, Stage, Start, State};
use super::story::Story;

#[cfg(test)]
mod files;
#[cfg(test)]
mod property;
#[cfg(test)]
mod table;

/// First delay between two restarts that follow each other; doubled each time up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// First delay before a reload is tried again that failed by no fault of the files; doubled each time.
const AGAIN_MIN: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// A generation that served this long was healthy: the next crash is restarted at once.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// One event, at `now` since the supervisor began. Never panics, whatever the order; an event about a generation that is
/// not in the phase for it is ignored.
pub fn step(state: State, now: Duration, event: Event) -> (State, Vec<Effect>) {
    let mut turn = Turn { state, now, effects: Vec::new() };
    match turn.state.stage {
        Stage::Running => turn.running(event),
        Stage::Stopping { .. } => turn.stopping(event),
        Stage::Finished => {}
    }
    turn.settle();
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
            Event::Begin if self.state.last == 0 => {
                self.state.files.tried = self.state.files.hold;
                self.start(Cause::First, self.state.limits);
            }
            Event::ReloadAsked => self.owe(Asked::Signal),
            Event::Files(hold) => self.files(hold),
            Event::Loaded(limits) => {
                if let Some(asked) = self.take_loading() {
                    self.start(Cause::Reload(asked), limits);
                }
            }
            Event::LoadRefused { fault, reason } => {
                if self.take_loading().is_some() {
                    self.tell(Story::ReloadRefused { reason: reason.clone(), still: self.state.serving() });
                    self.reload_failed(fault, reason);
                }
            }
            Event::Ready { generation } => self.ready(generation),
            Event::Failed { generation, fault, reason } => self.failed(generation, fault, reason),
            Event::StartRefused { generation, reason } => {
                if let Some((child, _)) = self.take_starting(generation) {
                    self.not_ready(generation, child.cause, Fault::System, reason);
                }
            }
            Event::Live { generation, connections, streams } => self.live(generation, connections, streams),
            Event::Exited { generation, exit } => self.exited(generation, exit),
            Event::StopAsked => self.stop(0),
            Event::Begin | Event::Tick => {}
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

    fn files(&mut self, hold: Fingerprint) {
        let now = self.now;
        let files = &mut self.state.files;
        if !files.untried() {
            files.unrest = now;
        }
        (files.hold, files.changed) = (Some(hold), now);
        if files.served == Some(hold) {
            files.tried = Some(hold);
        }
    }

    fn ready(&mut self, generation: Number) {
        let Some((child, start)) = self.take_starting(generation) else { return };
        self.tell(Story::Ready { generation, after: self.for_how_long(child.since) });
        if let Some(old) = self.state.serving() {
            self.retire(old);
        }
        self.enter(generation, Phase::Serving, child.cause);
        self.state.limits = start.limits;
        self.state.files.served = start.files;
        if child.cause != Cause::Restart {
            self.effects.push(Effect::Adopt);
        }
        if matches!(child.cause, Cause::Reload(_)) {
            self.reload_succeeded();
        }
    }

    /// A generation that starts turns out not to: it is killed, what serves goes on.
    fn failed(&mut self, generation: Number, fault: Fault, reason: String) {
        if let Some((child, _)) = self.take_starting(generation) {
            self.enter(generation, Phase::Killed, child.cause);
            self.effects.push(Effect::Kill(generation));
            self.not_ready(generation, child.cause, fault, reason);
        }
    }

    fn not_ready(&mut self, generation: Number, cause: Cause, fault: Fault, reason: String) {
        self.tell(Story::NotReady { generation, reason: reason.clone(), still: self.state.serving() });
        if cause != Cause::Restart {
            self.effects.push(Effect::Discard);
        }
        match cause {
            Cause::First => self.stop(fault.exit_code()),
            Cause::Reload(_) => self.reload_failed(fault, reason),
            Cause::Restart => {}
        }
    }

    /// A generation drains: as it was told, or, where somebody else sent it a SIGTERM, of its own accord.
    fn live(&mut self, generation: Number, connections: usize, streams: usize) {
        let live = Phase::Draining(Some(Live { connections, streams }));
        let Some(child) = self.state.children.get_mut(&generation) else { return };
        match child.phase {
            Phase::Draining(None) => child.phase = live,
            // Once is enough for the log.
            Phase::Draining(Some(_)) => return child.phase = live,
            Phase::Serving => {
                let Child { since, cause, .. } = *child;
                self.note_health(since);
                self.tell(Story::Leaving { generation });
                self.enter(generation, live, cause);
            }
            Phase::Starting(_) | Phase::Killed => return,
        }
        self.tell(Story::Draining { generation, connections, streams });
    }

    fn exited(&mut self, generation: Number, exit: Exit) {
        let Some(Child { phase, since, cause }) = self.state.children.remove(&generation) else { return };
        let after = self.for_how_long(since);
        match phase {
            Phase::Starting(_) => {
                let fault = if exit == Exit::Code(64) { Fault::Config } else { Fault::System };
                self.not_ready(generation, cause, fault, exit.to_string());
            }
            Phase::Serving => {
                self.note_health(since);
                self.tell(Story::Died { generation, exit, after });
            }
            Phase::Draining(_) => {
                // SIGTERM itself ends a worker that had not yet come so far as to catch it.
                let asked = matches!(exit, Exit::Code(0) | Exit::Signal("SIGTERM"));
                self.tell(match asked {
                    true => Story::Drained { generation, after },
                    false => Story::Died { generation, exit, after },
                });
            }
            Phase::Killed => {}
        }
    }
}

/// What must hold after every event.
impl Turn {
    fn settle(&mut self) {
        if self.state.stage == Stage::Running {
            self.settle_lateness();
            if self.state.settled_at().is_some_and(|at| at <= self.now) {
                self.owe(Asked::Files);
            }
            if self.state.again_at.is_some_and(|at| at <= self.now) {
                self.owe(Asked::Failure);
            }
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
        if let Some((generation, child, start)) = self.state.starting()
            && self.for_how_long(child.since) >= start.limits.ready
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
        if let Reload::Owed(asked) = self.state.reload {
            self.state.reload = Reload::Loading(asked);
            self.state.again_at = None;
            self.effects.push(Effect::Load);
        }
        if self.state.reload != Reload::Idle || self.state.serving().is_some() {
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
    /// Asked for any number of times while it cannot be done, it is done once.
    fn owe(&mut self, asked: Asked) {
        if self.state.reload == Reload::Idle {
            self.state.reload = Reload::Owed(asked);
        }
    }

    /// The load that was awaited has ended: its answer is about what the files hold now.
    fn take_loading(&mut self) -> Option<Asked> {
        let Reload::Loading(asked) = self.state.reload else { return None };
        self.state.reload = Reload::Idle;
        self.state.files.tried = self.state.files.hold;
        Some(asked)
    }

    fn start(&mut self, cause: Cause, limits: Limits) {
        self.state.last += 1;
        self.state.restart_at = None;
        let generation = self.state.last;
        let with = if cause == Cause::Restart { Which::Current } else { Which::Candidate };
        let Files { tried, served, .. } = self.state.files;
        let files = if cause == Cause::Restart { served } else { tried };
        self.enter(generation, Phase::Starting(Start { limits, files }), cause);
        self.tell(Story::Starting { generation, cause });
        self.effects.push(Effect::Start { generation, with });
    }

    fn enter(&mut self, generation: Number, phase: Phase, cause: Cause) {
        self.state.children.insert(generation, Child { phase, since: self.now, cause });
    }

    fn take_starting(&mut self, generation: Number) -> Option<(Child, Start)> {
        let (number, child, start) = self.state.starting().filter(|(number, _, _)| *number == generation)?;
        self.state.children.remove(&number);
        Some((child, start))
    }

    /// SIGTERM, for a generation that has not had one.
    fn retire(&mut self, generation: Number) {
        let Some(child) = self.state.children.get(&generation).copied() else { return };
        if child.phase == Phase::Serving {
            self.note_health(child.since);
        }
        self.enter(generation, Phase::Draining(None), child.cause);
        self.effects.push(Effect::Terminate(generation));
    }

    /// SIGKILL, unless it had one before.
    fn cut(&mut self, generation: Number, why: &'static str) {
        if let Some(child) = self.state.children.get(&generation).copied()
            && child.phase != Phase::Killed
        {
            self.enter(generation, Phase::Killed, child.cause);
            self.effects.push(Effect::Kill(generation));
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
        let starting = self.state.starting().map(|(number, _, _)| number);
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

    fn reload_succeeded(&mut self) {
        let counts = &mut self.state.counts;
        counts.reloads_ok += 1;
        counts.last_success = Some(self.now);
        counts.last_reload = Some(Reloaded { at: self.now, refused: None });
        self.state.again_after = Duration::ZERO;
    }

    /// The next change of a file is another try. Where no file is to blame, none may come, and a certificate would run out.
    fn reload_failed(&mut self, fault: Fault, reason: String) {
        self.state.counts.reloads_failed += 1;
        self.state.counts.last_reload = Some(Reloaded { at: self.now, refused: Some(reason) });
        if fault == Fault::System {
            let delay = (self.state.again_after * 2).clamp(AGAIN_MIN, AGAIN_MAX);
            self.state.again_after = delay;
            self.state.again_at = Some(self.now + delay);
            self.tell(Story::ReloadIn { delay });
        }
    }

    fn tell(&mut self, story: Story) {
        self.effects.push(Effect::Tell(story));
    }

    fn for_how_long(&self, since: Duration) -> Duration {
        self.now.saturating_sub(since)
    }
}
