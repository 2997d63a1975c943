//! What holds after every event, in whatever order the events come.
//! A small model of the world (which children exist, what was sent to them) runs beside [`step`] and compares.
//! Surprise: the events are mostly nonsense (a `Ready` of a generation that never was), and that is the point.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::event::{Effect, Event, Exit, Fault, Fingerprint, Limits, Number};
use super::super::state::{Phase, Stage, State};
use super::step;

const LIMITS: Limits = Limits {
    ready: Duration::from_secs(10),
    drain: Duration::from_secs(60),
    draining: 2,
    shutdown: Duration::from_secs(30),
    settle: Duration::from_secs(1),
};

/// What a supervisor with these effects behind it would see.
struct World {
    state: State,
    now: Duration,
    /// Processes that exist.
    alive: BTreeSet<Number>,
    killed: BTreeSet<Number>,
    terminated: BTreeSet<Number>,
    exit: Option<u8>,
}

impl World {
    fn new() -> Self {
        Self {
            state: State::new(LIMITS),
            now: Duration::ZERO,
            alive: BTreeSet::new(),
            killed: BTreeSet::new(),
            terminated: BTreeSet::new(),
            exit: None,
        }
    }

    fn send(&mut self, event: Event) {
        if let Event::Exited { generation, .. } = event
            && !self.alive.remove(&generation)
        {
            return;
        }
        let (state, effects) = step(self.state.clone(), self.now, event);
        self.state = state;
        for effect in effects {
            self.perform(effect);
        }
        self.check();
    }

    fn perform(&mut self, effect: Effect) {
        assert_eq!(self.exit, None, "nothing is done after the end: {effect:?}");
        match effect {
            Effect::Start { generation, .. } => assert!(self.alive.insert(generation), "a number used twice"),
            Effect::Terminate(generation) => {
                assert!(self.alive.contains(&generation), "SIGTERM only to own children");
                assert!(self.terminated.insert(generation), "one SIGTERM is enough");
            }
            Effect::Kill(generation) => {
                assert!(self.alive.contains(&generation), "SIGKILL only to own children");
                assert!(self.killed.insert(generation), "one SIGKILL is enough");
            }
            Effect::Exit(code) => {
                assert!(self.alive.is_empty(), "children outlive the supervisor: {:?}", self.alive);
                self.exit = Some(code);
            }
            Effect::Load | Effect::Adopt | Effect::Discard | Effect::Close | Effect::Tell(_) => {}
        }
    }

    fn check(&self) {
        let state = &self.state;
        let count =
            |wanted: fn(&Phase) -> bool| state.children.values().filter(|child| wanted(&child.phase)).count();
        let serving = count(|phase| matches!(phase, Phase::Serving));
        let starting = count(|phase| matches!(phase, Phase::Starting(_)));
        assert!(serving <= 1 && starting <= 1, "{state:?}");
        if state.stage == Stage::Running {
            assert!(count(|phase| matches!(phase, Phase::Draining(_))) <= LIMITS.draining, "{state:?}");
        }
        assert!(state.children.keys().eq(self.alive.iter()), "{state:?} but {:?} live", self.alive);
        if state.stage == Stage::Running && state.reload == super::Reload::Idle {
            assert!(state.settled_at().is_none_or(|at| at > self.now), "files wait for nothing: {state:?}");
        }
        if state.stage == Stage::Running && state.last > 0 && serving + starting == 0 {
            let soon =
                state.restart_at.is_some_and(|at| at > self.now && at <= self.now + Duration::from_secs(5));
            assert!(
                soon || state.reload != super::Reload::Idle,
                "nothing serves and nothing will: {state:?}"
            );
        }
    }
}

/// An event about the generation that is so many before the last one; mostly about the last ones, because a number drawn
/// at random is hardly ever the one that starts.
fn event() -> impl Strategy<Value = fn(Number) -> Event> {
    prop_oneof![
        3 => Just((|_| Event::ReloadAsked) as fn(Number) -> Event),
        3 => Just((|_| Event::Loaded(LIMITS)) as fn(Number) -> Event),
        1 => Just((|_| Event::LoadRefused { fault: Fault::Config, reason: "wrong".into() }) as fn(Number) -> Event),
        4 => Just((|generation| Event::Ready { generation }) as fn(Number) -> Event),
        1 => Just((|generation| Event::Failed { generation, fault: Fault::System, reason: "bad".into() }) as fn(_) -> _),
        1 => Just((|generation| Event::Live { generation, connections: 1, streams: 1 }) as fn(_) -> _),
        1 => Just((|generation| Event::Exited { generation, exit: Exit::Code(0) }) as fn(_) -> _),
        1 => Just((|generation| Event::Exited { generation, exit: Exit::Signal("SIGKILL") }) as fn(_) -> _),
        1 => Just((|_| Event::Files(Fingerprint(1))) as fn(Number) -> Event),
        1 => Just((|_| Event::Files(Fingerprint(2))) as fn(Number) -> Event),
        1 => Just((|_| Event::Tick) as fn(Number) -> Event),
    ]
}

proptest! {
    #[test]
    fn any_order_of_events(
        events in prop::collection::vec((event(), prop_oneof![4 => Just(0), 1 => 0..5u64], 0..4_000u64), 0..80),
        stop_after in 0..100usize,
    ) {
        let mut world = World::new();
        world.send(Event::Begin);
        for (position, (event, back, pause)) in events.into_iter().enumerate() {
            world.now += Duration::from_millis(pause);
            world.send(event(world.state.last.saturating_sub(back)));
            if position == stop_after {
                world.send(Event::StopAsked);
            }
        }
        // Whatever went before, a stop comes to an end: the children that do not end by themselves are killed.
        world.send(Event::StopAsked);
        while let Some(deadline) = world.state.deadline() {
            world.now = world.now.max(deadline);
            world.send(Event::Tick);
        }
        prop_assert!(world.alive.is_subset(&world.killed), "{:?} live on", world.alive);
        for generation in world.alive.clone() {
            world.send(Event::Exited { generation, exit: Exit::Signal("SIGKILL") });
        }
        prop_assert!(world.exit.is_some());
        world.send(Event::ReloadAsked);
    }
}
