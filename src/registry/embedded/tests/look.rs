//! A look into the folder from another process: what it sees beside one that serves, stands still, is killed or was never there.
//! Surprise: the one that looks is this test, and the one that serves is the child, as a process opens a folder once.

use nix::sys::signal::Signal;

use super::processes::{Process, Role};
use super::*;
use crate::registry::embedded::look;

fn seen(folder: &TempFolder, name: &str) -> Result<Option<(Claim, Duration)>, RegistryError> {
    look(&settings_at(&folder.0, 100_000), HOUR, &key(name))
}

fn names(folder: &TempFolder) -> Vec<String> {
    let entries = fs::read_dir(&folder.0).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn beside_one_that_serves_claims_are_seen_with_the_time_they_have_left() {
    let folder = TempFolder::new();
    let mut serving = Process::start(Role::Fill, &folder.0);
    assert!(serving.says("claimed"));
    for n in [0, 99] {
        let (claim, left) = seen(&folder, &format!("restart-{n}")).unwrap().unwrap();
        assert_eq!(claim, owned_by("w1"));
        assert!((HOUR - Duration::from_secs(60)..=HOUR).contains(&left), "{left:?}");
    }
    assert_eq!(seen(&folder, "restart-100"), Ok(None));
}

#[test]
fn it_waits_for_no_writer_and_outlives_none() {
    let folder = TempFolder::new();
    let mut opened = Process::start(Role::Open, &folder.0);
    assert!(opened.says("claimed"));
    let mut writing = Process::start(Role::HoldWrite, &folder.0);
    assert!(writing.says("holding"));
    writing.signal(Signal::SIGSTOP);
    let began = Instant::now();
    assert_eq!(seen(&folder, "uncommitted"), Ok(None));
    assert_eq!(seen(&folder, "opened").unwrap().unwrap().0, owned_by("w1"));
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    writing.kill();
    opened.kill();
    assert_eq!(seen(&folder, "opened").unwrap().unwrap().0, owned_by("w1"), "what the dead have left");
}

#[test]
fn where_nothing_was_kept_nothing_is_made() {
    let folder = TempFolder::new();
    assert_eq!(seen(&folder, "s"), Ok(None));
    assert_eq!(names(&folder), [""; 0]);
    let away = TempFolder(folder.0.join("away"));
    assert_eq!(seen(&away, "s"), Ok(None));
    assert!(!away.0.exists());
}

#[test]
fn what_was_written_before_the_machine_started_anew_is_not_read() {
    let folder = TempFolder::new();
    let mut opened = Process::start(Role::Open, &folder.0);
    assert!(opened.says("claimed"));
    opened.kill();
    let before = names(&folder);
    fs::write(folder.0.join("sessions-1/boot"), "another run of the machine").unwrap();
    assert_eq!(seen(&folder, "opened"), Ok(None));
    assert_eq!(names(&folder), before, "setting it aside is the next worker's business");
}

#[test]
fn damage_is_an_error() {
    let folder = TempFolder::new();
    let mut opened = Process::start(Role::Open, &folder.0);
    assert!(opened.says("claimed"));
    opened.kill();
    fs::write(folder.0.join("sessions-1/data.mdb"), [0xAB; 8192]).unwrap();
    let error = seen(&folder, "opened").unwrap_err();
    assert!(matches!(error, RegistryError::Folder { .. }), "{error}");
}
