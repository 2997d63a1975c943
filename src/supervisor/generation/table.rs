//! The supervisor's life as a table: after each event, the effects that follow from it.
//! Read it from top to bottom; the text of an effect or a story is what the log would say.
//! Surprise: times are seconds since the supervisor began, so a whole day passes in a microsecond.

use std::time::Duration;

use super::super::event::{Effect, Event, Exit, Fault, Limits, Which};
use super::super::state::{Counts, State};
use super::step;

pub(super) const LIMITS: Limits = Limits {
    ready: Duration::from_secs(10),
    drain: Duration::from_secs(3600),
    draining: 2,
    shutdown: Duration::from_secs(30),
    settle: Duration::from_secs(1),
};

/// Runs the events, each at its second, and compares what follows from each with the lines beside it. A tick
/// that does something must be the one that was asked for.
pub(super) fn life(table: &[(f64, Event, &[&str])]) {
    let mut state = State::new(LIMITS);
    for (line, (second, event, expected)) in table.iter().enumerate() {
        if *event == Event::Tick && !expected.is_empty() {
            assert_eq!(
                state.deadline(),
                Some(Duration::from_secs_f64(*second)),
                "line {line}: asked for in time"
            );
        }
        let before = numbers(&state);
        let (next, effects) = step(state, Duration::from_secs_f64(*second), event.clone());
        let mut effects: Vec<String> = effects.iter().map(say).collect();
        if numbers(&next) != before {
            effects.push(numbers(&next));
        }
        assert_eq!(effects, *expected, "line {line} at {second} s: {event:?}");
        state = next;
    }
}

fn say(effect: &Effect) -> String {
    match effect {
        Effect::Load => "LOAD".into(),
        Effect::Start { generation, with: Which::Candidate, .. } => {
            format!("START {generation} with the candidate")
        }
        Effect::Start { generation, with: Which::Current, .. } => {
            format!("START {generation} with the current")
        }
        Effect::Adopt => "ADOPT the candidate".into(),
        Effect::Discard => "DISCARD the candidate".into(),
        Effect::Close => "CLOSE the sockets".into(),
        Effect::Terminate(generation) => format!("SIGTERM {generation}"),
        Effect::Kill(generation) => format!("SIGKILL {generation}"),
        Effect::Tell(story) => story.to_string(),
        Effect::Exit(code) => format!("EXIT {code}"),
    }
}

/// What the workers would count.
fn numbers(state: &State) -> String {
    let Counts { reloads_ok, reloads_failed, restarts, .. } = &state.counts;
    format!("COUNTS {reloads_ok} ok, {reloads_failed} failed, {restarts} restarts")
}

pub(super) fn ready(generation: u64) -> Event {
    Event::Ready { generation }
}

pub(super) fn crash(generation: u64) -> Event {
    Event::Exited { generation, exit: Exit::Signal("SIGSEGV") }
}

fn done(generation: u64) -> Event {
    Event::Exited { generation, exit: Exit::Code(0) }
}

fn failed(generation: u64, fault: Fault) -> Event {
    Event::Failed { generation, fault, reason: "the key does not fit".into() }
}

pub(super) const FIRST: &[&str] = &["generation 1 starts (first start)", "START 1 with the candidate"];
pub(super) const FIRST_READY: &[&str] = &["generation 1 ready in 1.1 s", "ADOPT the candidate"];
const SECOND: &[&str] = &["generation 2 starts (reload)", "START 2 with the candidate"];

#[test]
fn rotation() {
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (60.0, Event::ReloadAsked, &["LOAD"]),
        (60.0, Event::Loaded(LIMITS), SECOND),
        (
            61.2,
            ready(2),
            &[
                "generation 2 ready in 1.2 s",
                "SIGTERM 1",
                "ADOPT the candidate",
                "COUNTS 1 ok, 0 failed, 0 restarts",
            ],
        ),
        (
            61.3,
            Event::Live { generation: 1, connections: 20, streams: 14 },
            &["generation 1 drains 14 streams, 20 connections in all"],
        ),
        (62.0, Event::Live { generation: 1, connections: 3, streams: 1 }, &[]),
        (95.5, done(1), &["generation 1 drained in 34.3 s"]),
        (
            100.0,
            Event::StopAsked,
            &["stopping: 1 generation to drain within 30.0 s", "SIGTERM 2", "CLOSE the sockets"],
        ),
        (101.0, done(2), &["generation 2 drained in 1.0 s", "stopped", "EXIT 0"]),
        (102.0, Event::ReloadAsked, &[]),
    ]);
}

#[test]
fn reloads_asked_during_a_reload_collapse_into_one() {
    life(&[
        (0.0, Event::Begin, FIRST),
        (0.5, Event::ReloadAsked, &[]),
        (0.6, Event::ReloadAsked, &[]),
        (1.1, ready(1), &["generation 1 ready in 1.1 s", "ADOPT the candidate", "LOAD"]),
        (1.1, Event::Loaded(LIMITS), SECOND),
        (
            2.0,
            ready(2),
            &[
                "generation 2 ready in 0.9 s",
                "SIGTERM 1",
                "ADOPT the candidate",
                "COUNTS 1 ok, 0 failed, 0 restarts",
            ],
        ),
    ]);
}

#[test]
fn a_bad_reload_changes_nothing() {
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (2.0, Event::ReloadAsked, &["LOAD"]),
        (
            2.0,
            Event::LoadRefused { fault: Fault::Config, reason: "line 3: no such key".into() },
            &[
                "reload refused: line 3: no such key; generation 1 serves on",
                "COUNTS 0 ok, 1 failed, 0 restarts",
            ],
        ),
        (3.0, Event::ReloadAsked, &["LOAD"]),
        (3.0, Event::Loaded(LIMITS), SECOND),
        (
            4.0,
            failed(2, Fault::Config),
            &[
                "SIGKILL 2",
                "generation 2 is not fit to serve: the key does not fit; generation 1 serves on",
                "DISCARD the candidate",
                "COUNTS 0 ok, 2 failed, 0 restarts",
            ],
        ),
        (4.1, Event::Exited { generation: 2, exit: Exit::Signal("SIGKILL") }, &[]),
        (5.0, Event::ReloadAsked, &["LOAD"]),
        (5.0, Event::Loaded(LIMITS), &["generation 3 starts (reload)", "START 3 with the candidate"]),
        (
            15.0,
            Event::Tick,
            &[
                "SIGKILL 3",
                "generation 3 is not fit to serve: not ready within 10.0 s; generation 1 serves on",
                "DISCARD the candidate",
                "the reload is tried again in 10.0 s",
                "COUNTS 0 ok, 3 failed, 0 restarts",
            ],
        ),
        (15.1, ready(3), &[]),
    ]);
}

#[test]
fn crashes_are_restarted_with_backoff() {
    const DIED: &str = "generation 1 died after 0.5 s: SIGSEGV";
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (
            1.6,
            crash(1),
            &[
                DIED,
                "generation 2 starts (restart)",
                "START 2 with the current",
                "COUNTS 0 ok, 0 failed, 1 restarts",
            ],
        ),
        (
            1.7,
            crash(2),
            &[
                "generation 2 is not fit to serve: SIGSEGV; no generation serves, connections wait",
                "no generation serves, connections wait: next start in 0.1 s",
            ],
        ),
        (1.75, Event::Tick, &[]),
        (
            1.8,
            Event::Tick,
            &[
                "generation 3 starts (restart)",
                "START 3 with the current",
                "COUNTS 0 ok, 0 failed, 2 restarts",
            ],
        ),
        (2.8, ready(3), &["generation 3 ready in 1.0 s"]),
        (
            3.0,
            crash(3),
            &[
                "generation 3 died after 0.2 s: SIGSEGV",
                "no generation serves, connections wait: next start in 0.2 s",
            ],
        ),
        (
            3.2,
            Event::Tick,
            &[
                "generation 4 starts (restart)",
                "START 4 with the current",
                "COUNTS 0 ok, 0 failed, 3 restarts",
            ],
        ),
        (4.2, ready(4), &["generation 4 ready in 1.0 s"]),
        (
            20.0,
            crash(4),
            &[
                "generation 4 died after 15.8 s: SIGSEGV",
                "generation 5 starts (restart)",
                "START 5 with the current",
                "COUNTS 0 ok, 0 failed, 4 restarts",
            ],
        ),
    ]);
}

#[test]
fn a_crash_during_a_reload_leaves_it_to_the_new_generation() {
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (2.0, Event::ReloadAsked, &["LOAD"]),
        (2.0, Event::Loaded(LIMITS), SECOND),
        (2.5, crash(1), &["generation 1 died after 1.4 s: SIGSEGV"]),
        (
            3.0,
            crash(2),
            &[
                "generation 2 is not fit to serve: SIGSEGV; no generation serves, connections wait",
                "DISCARD the candidate",
                "the reload is tried again in 10.0 s",
                "generation 3 starts (restart)",
                "START 3 with the current",
                "COUNTS 0 ok, 1 failed, 1 restarts",
            ],
        ),
    ]);
}

#[test]
fn a_first_start_that_fails_says_whose_fault() {
    let sentence =
        "generation 1 is not fit to serve: the key does not fit; no generation serves, connections wait";
    for (fault, exit) in [(Fault::Config, "EXIT 64"), (Fault::System, "EXIT 1")] {
        life(&[
            (0.0, Event::Begin, FIRST),
            (
                0.2,
                failed(1, fault),
                &[
                    "SIGKILL 1",
                    sentence,
                    "DISCARD the candidate",
                    "stopping: 1 generation to drain within 30.0 s",
                    "CLOSE the sockets",
                ],
            ),
            (0.3, crash(1), &["stopped", exit]),
        ]);
    }
}

#[test]
fn too_many_and_too_old_drains_are_cut() {
    let limits = Limits { draining: 1, ..LIMITS };
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (2.0, Event::ReloadAsked, &["LOAD"]),
        (2.0, Event::Loaded(LIMITS), SECOND),
        (
            3.0,
            ready(2),
            &[
                "generation 2 ready in 1.0 s",
                "SIGTERM 1",
                "ADOPT the candidate",
                "COUNTS 1 ok, 0 failed, 0 restarts",
            ],
        ),
        (4.0, Event::ReloadAsked, &["LOAD"]),
        (4.0, Event::Loaded(limits), &["generation 3 starts (reload)", "START 3 with the candidate"]),
        (
            5.0,
            ready(3),
            &[
                "generation 3 ready in 1.0 s",
                "SIGTERM 2",
                "ADOPT the candidate",
                "SIGKILL 1",
                "generation 1 killed: more than drain.max_generations drain",
                "COUNTS 2 ok, 0 failed, 0 restarts",
            ],
        ),
        (3604.9, Event::Tick, &[]),
        (3605.0, Event::Tick, &["SIGKILL 2", "generation 2 killed: still draining after drain.timeout"]),
    ]);
}

#[test]
fn a_stop_has_a_deadline() {
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (
            2.0,
            Event::StopAsked,
            &["stopping: 1 generation to drain within 30.0 s", "SIGTERM 1", "CLOSE the sockets"],
        ),
        (3.0, Event::StopAsked, &[]),
        (32.0, Event::Tick, &["SIGKILL 1", "generation 1 killed: still draining after shutdown.timeout"]),
        (32.1, crash(1), &["stopped", "EXIT 0"]),
    ]);
}

#[test]
fn a_stop_ends_a_start_too() {
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (2.0, Event::ReloadAsked, &["LOAD"]),
        (2.0, Event::Loaded(LIMITS), SECOND),
        (
            2.5,
            Event::StopAsked,
            &[
                "stopping: 2 generations to drain within 30.0 s",
                "SIGTERM 1",
                "SIGTERM 2",
                "CLOSE the sockets",
            ],
        ),
        (
            2.6,
            Event::Exited { generation: 2, exit: Exit::Signal("SIGTERM") },
            &["generation 2 drained in 0.1 s"],
        ),
        (3.0, done(1), &["generation 1 drained in 0.5 s", "stopped", "EXIT 0"]),
    ]);
}

#[test]
fn the_backoff_has_an_upper_bound_and_a_healthy_time_ends_it() {
    let mut state = State::new(LIMITS);
    let mut now = Duration::ZERO;
    let mut send = |pause: f64, event| {
        now += Duration::from_secs_f64(pause);
        let (next, _) = step(state.clone(), now, event);
        state = next;
        state.deadline().map(|at| (at - now).as_secs_f64())
    };
    send(0.0, Event::Begin);
    send(1.0, ready(1));
    send(1.0, crash(1));
    let mut delays = Vec::new();
    for generation in 2..10 {
        let delay = send(0.5, crash(generation)).unwrap_or_default();
        delays.push(delay);
        send(delay, Event::Tick);
    }
    assert_eq!(delays, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]);
    send(1.0, ready(10));
    send(10.0, Event::ReloadAsked);
    send(0.0, Event::Loaded(LIMITS));
    send(1.0, ready(11));
    let until_killed_for_lateness = send(1.0, crash(11));
    assert_eq!(until_killed_for_lateness, Some(10.0), "generation 12 was started at once");
}

#[test]
fn a_generation_that_leaves_unasked_is_replaced_at_once() {
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (
            2.0,
            Event::Live { generation: 1, connections: 1, streams: 1 },
            &[
                "generation 1 leaves though the supervisor did not ask it to",
                "generation 1 drains 1 stream, 1 connection in all",
                "generation 2 starts (restart)",
                "START 2 with the current",
                "COUNTS 0 ok, 0 failed, 1 restarts",
            ],
        ),
        (3.0, ready(2), &["generation 2 ready in 1.0 s"]),
        (62.0, done(1), &["generation 1 drained in 60.0 s"]),
    ]);
}
