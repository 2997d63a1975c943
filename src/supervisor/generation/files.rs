//! Changed files as a table: when they are loaded, and when they are not.
//! Read it like `table`; a fingerprint is a number that stands for what the files hold.
//! Surprise: what a load finds in the files comes as an event too, just before the load's answer.

use super::super::event::{Event, Fault, Fingerprint};
use super::table::{FIRST, FIRST_READY, LIMITS, crash, life, ready};

const REFUSED: &[&str] =
    &["reload refused: the key does not fit; generation 1 serves on", "COUNTS 0 ok, 1 failed, 0 restarts"];

fn hold(content: u64) -> Event {
    Event::Files(Fingerprint(content))
}

fn refused() -> Event {
    Event::LoadRefused { fault: Fault::Config, reason: "the key does not fit".into() }
}

#[test]
fn what_changes_in_pieces_is_loaded_whole() {
    life(&[
        (0.0, hold(1), &[]),
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (60.0, hold(2), &[]),
        (60.5, hold(3), &[]),
        (61.0, Event::Tick, &[]),
        (61.5, Event::Tick, &["LOAD"]),
        (61.5, hold(3), &[]),
        (61.5, Event::Loaded(LIMITS), &["generation 2 starts (files changed)", "START 2 with the candidate"]),
        (
            62.6,
            ready(2),
            &[
                "generation 2 ready in 1.1 s",
                "SIGTERM 1",
                "ADOPT the candidate",
                "COUNTS 1 ok, 0 failed, 0 restarts",
            ],
        ),
        (70.0, Event::Tick, &[]),
    ]);
}

#[test]
fn what_is_as_it_was_is_left_alone() {
    life(&[
        (0.0, hold(1), &[]),
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (60.0, hold(2), &[]),
        (60.9, hold(1), &[]),
        (70.0, Event::Tick, &[]),
    ]);
}

#[test]
fn what_was_refused_is_not_tried_again_until_it_changes() {
    life(&[
        (0.0, hold(1), &[]),
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (60.0, hold(2), &[]),
        (61.0, Event::Tick, &["LOAD"]),
        (61.0, hold(2), &[]),
        (61.0, refused(), REFUSED),
        (90.0, Event::Tick, &[]),
        // What serves is back: nothing to do. Then the same mistake once more, which must be heard of once more.
        (100.0, hold(1), &[]),
        (110.0, Event::Tick, &[]),
        (120.0, hold(2), &[]),
        (121.0, Event::Tick, &["LOAD"]),
    ]);
}

#[test]
fn a_signal_takes_a_change_with_it_and_does_not_wait() {
    life(&[
        (0.0, hold(1), &[]),
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (60.0, hold(2), &[]),
        (60.1, Event::ReloadAsked, &["LOAD"]),
        (60.1, hold(2), &[]),
        (60.1, refused(), REFUSED),
        (70.0, Event::Tick, &[]),
    ]);
}

#[test]
fn files_that_are_never_left_alone_are_loaded_all_the_same() {
    let mut table =
        vec![(0.0, hold(1), &[] as &[&str]), (0.0, Event::Begin, FIRST), (1.1, ready(1), FIRST_READY)];
    for half_second in 0..20_u32 {
        table.push((60.0 + 0.5 * f64::from(half_second), hold(u64::from(half_second) + 2), &[]));
    }
    table.push((70.0, Event::Tick, &["LOAD"]));
    life(&table);
}

#[test]
fn a_restart_leaves_a_change_to_be_loaded() {
    life(&[
        (0.0, hold(1), &[]),
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (20.0, hold(2), &[]),
        (
            20.5,
            crash(1),
            &[
                "generation 1 died after 19.4 s: SIGSEGV",
                "generation 2 starts (restart)",
                "START 2 with the current",
                "COUNTS 0 ok, 0 failed, 1 restarts",
            ],
        ),
        (21.5, ready(2), &["generation 2 ready in 1.0 s", "LOAD"]),
    ]);
}

#[test]
fn what_the_machine_failed_is_tried_again_without_a_change() {
    let taken = || Event::LoadRefused { fault: Fault::System, reason: "cannot listen".into() };
    let refused = |tries: u64, again: &str| {
        let counts = format!("COUNTS 0 ok, {tries} failed, 0 restarts");
        let said = "reload refused: cannot listen; generation 1 serves on".to_owned();
        [said, format!("the reload is tried again in {again} s"), counts]
    };
    let (first, second) = (refused(1, "10.0"), refused(2, "20.0"));
    let (first, second) = (first.each_ref().map(String::as_str), second.each_ref().map(String::as_str));
    life(&[
        (0.0, Event::Begin, FIRST),
        (1.1, ready(1), FIRST_READY),
        (60.0, Event::ReloadAsked, &["LOAD"]),
        (60.0, taken(), &first),
        (70.0, Event::Tick, &["LOAD"]),
        (70.0, taken(), &second),
        (90.0, Event::Tick, &["LOAD"]),
        (
            90.0,
            Event::Loaded(LIMITS),
            &["generation 2 starts (reload, another try)", "START 2 with the candidate"],
        ),
        (
            91.0,
            ready(2),
            &[
                "generation 2 ready in 1.0 s",
                "SIGTERM 1",
                "ADOPT the candidate",
                "COUNTS 1 ok, 2 failed, 0 restarts",
            ],
        ),
        (500.0, Event::Tick, &[]),
    ]);
}
