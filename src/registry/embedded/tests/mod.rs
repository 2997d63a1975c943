//! What the embedded registry keeps, forgets and bounds, seen from within one process; `processes` and `damage` go further.
//! Each test has a folder of its own. Time runs through table-level calls that take it as a number, so that no test sleeps for a TTL.
//! Surprise: the writer thread sweeps in the background of every test that opens a whole registry.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod damage;
mod look;
mod processes;

use std::fs;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::change::Change;
use super::folder::Folder;
use super::table::{Millis, Rules, Table};
use super::{Embedded, now};
use crate::config::settings;
use crate::registry::{Claim, Claimed, RegistryError, SessionKey, Transport};

const HOUR: Duration = Duration::from_secs(3_600);
const MIB: usize = 1 << 20;

/// A folder that goes with the test.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outrigger-registry-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings_at(path: &Path, max_sessions: usize) -> settings::Embedded {
    settings::Embedded { path: path.to_owned(), max_sessions }
}

fn open(folder: &TempFolder) -> Embedded {
    Embedded::open(&settings_at(&folder.0, 100_000), HOUR).unwrap()
}

/// The tables alone, without a writer thread.
fn table(folder: &TempFolder, ttl: Millis, max_sessions: usize) -> Folder {
    Folder::open(&folder.0, Rules::new(Duration::from_millis(ttl), max_sessions, 16 * MIB), 16 * MIB).unwrap()
}

fn key(name: impl ToString) -> SessionKey {
    SessionKey::new("gateway", &name.to_string())
}

fn owned_by(peer: &str) -> Claim {
    Claim {
        member: None,
        peer: peer.into(),
        server_id: Some("a".into()),
        transport: Transport::StreamableHttp,
    }
}

/// One write transaction that takes place at `AT`.
fn at<const AT: Millis, T>(table: &Table, edit: impl FnOnce(&mut Change<'_>) -> heed::Result<T>) -> T {
    let mut change = Change::begin(table, || AT).unwrap();
    let value = edit(&mut change).unwrap();
    change.commit().unwrap();
    value
}

/// Claims, with more patience than a request has: what the machine is busy with is no matter here.
async fn claim_in_time(registry: &Embedded, key: &SessionKey, claim: &Claim) -> Claimed {
    loop {
        match registry.claim(key, claim).await {
            Err(RegistryError::Timeout { .. }) => {}
            answer => return answer.unwrap(),
        }
    }
}

/// Waits for a condition with patience.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_buried_session_is_nobodys() {
    let folder = TempFolder::new();
    let (registry, w1, w2) = (open(&folder), owned_by("w1"), owned_by("w2"));
    registry.claim(&key("s"), &w1).await.unwrap();
    assert_eq!(registry.bury(&key("s"), &w2).await, Ok(false), "another's claim stays");
    assert_eq!(registry.ask(&key("s")).unwrap(), Some(w1.clone()));
    assert_eq!(registry.bury(&key("s"), &w1).await, Ok(true));
    assert_eq!(registry.ask(&key("s")).unwrap(), Some(w1.of_nobody()));
    assert_eq!(registry.claim(&key("s"), &w2).await, Ok(Claimed::Held(w1.of_nobody())));
}

#[tokio::test]
async fn a_claim_is_set_once_and_released_by_its_owner_only() {
    let folder = TempFolder::new();
    let registry = open(&folder);
    let (w1, w2) = (owned_by("w1"), owned_by("w2"));
    assert_eq!(registry.ask(&key("s")).unwrap(), None);
    assert_eq!(registry.claim(&key("s"), &w1).await, Ok(Claimed::Won));
    assert_eq!(registry.claim(&key("s"), &w2).await, Ok(Claimed::Held(w1.clone())));
    assert_eq!(registry.claim(&key("s"), &w1).await, Ok(Claimed::Won), "ours already");
    assert_eq!(registry.ask(&key("s")).unwrap(), Some(w1.clone()));
    assert_eq!(registry.count(), Ok(1));

    let elsewhere = Claim { server_id: Some("b".into()), ..w1.clone() };
    for foreign in [&w2, &elsewhere] {
        assert_eq!(registry.release(&key("s"), foreign).await, Ok(false));
        assert_eq!(registry.ask(&key("s")).unwrap(), Some(w1.clone()));
    }
    assert_eq!(registry.release(&key("s"), &w1).await, Ok(true));
    assert_eq!(registry.release(&key("s"), &w1).await, Ok(false), "gone already");
    assert_eq!(registry.ask(&key("s")).unwrap(), None);
    assert_eq!(registry.count(), Ok(0));
}

#[test]
fn a_claim_ends_with_its_ttl_and_another_may_follow() {
    let folder = TempFolder::new();
    let Folder { table, .. } = &table(&folder, 1_000, 10);
    at::<5_000, _>(table, |change| change.claim(&key("s"), &owned_by("w1")));
    assert_eq!(table.ask(&key("s"), 5_999).unwrap(), Some(owned_by("w1")));
    assert_eq!(table.ask(&key("s"), 6_000).unwrap(), None);
    assert!(!at::<6_000, _>(table, |change| change.release(&key("s"), &owned_by("w1"))), "it was over");
    at::<5_000, _>(table, |change| change.claim(&key("s"), &owned_by("w1")));
    let claimed = at::<6_000, _>(table, |change| change.claim(&key("s"), &owned_by("w2")));
    assert_eq!(claimed, Claimed::Won);
    assert_eq!(table.ask(&key("s"), 6_000).unwrap(), Some(owned_by("w2")));
    assert!(table.is_whole().unwrap());
}

#[test]
fn a_renewal_moves_the_end_and_revives_nothing() {
    let folder = TempFolder::new();
    let Folder { table, .. } = &table(&folder, 60_000, 10);
    at::<0, _>(table, |change| change.claim(&key("s"), &owned_by("w1")));
    assert!(!table.renewal_due(&key("s"), 999).unwrap());
    assert!(table.renewal_due(&key("s"), 1_000).unwrap());
    at::<30_000, _>(table, |change| change.renew(&key("s")));
    assert_eq!(table.ask(&key("s"), 89_999).unwrap(), Some(owned_by("w1")));
    at::<90_000, _>(table, |change| change.renew(&key("s")));
    assert_eq!(table.ask(&key("s"), 90_000).unwrap(), None);
    assert!(!table.renewal_due(&key("never claimed"), 1_000).unwrap());
    assert!(table.is_whole().unwrap());
}

#[test]
fn the_sweep_removes_what_is_over_and_only_that() {
    let folder = TempFolder::new();
    let Folder { table, .. } = &table(&folder, 1_000, 10_000);
    for n in 0..50 {
        at::<0, _>(table, |change| change.claim(&key(n), &owned_by("w1")));
        at::<500, _>(table, |change| change.claim(&key(n + 50), &owned_by("w1")));
    }
    assert!(!table.sweep_due(999).unwrap());
    assert!(table.sweep_due(1_000).unwrap());
    at::<1_000, _>(table, |change| change.sweep(20));
    assert_eq!(table.count().unwrap(), 80, "a sweep is bounded");
    at::<1_000, _>(table, |change| change.sweep(1_000));
    assert_eq!(table.count().unwrap(), 50);
    assert_eq!(table.ask(&key(70), 1_000).unwrap(), Some(owned_by("w1")));
    assert!(table.is_whole().unwrap());
}

#[test]
fn a_clock_that_jumps_back_makes_no_claim_immortal_and_loses_none() {
    let folder = TempFolder::new();
    let Folder { table, .. } = &table(&folder, 60_000, 10);
    at::<900_000_000, _>(table, |change| change.claim(&key("s"), &owned_by("w1")));
    assert_eq!(table.ask(&key("s"), 10_000).unwrap(), Some(owned_by("w1")), "still known after the jump");
    assert!(table.sweep_due(10_000).unwrap());
    at::<10_000, _>(table, |change| change.sweep(100));
    assert!(!table.sweep_due(10_000).unwrap());
    assert_eq!(table.ask(&key("s"), 69_999).unwrap(), Some(owned_by("w1")));
    assert_eq!(table.ask(&key("s"), 70_000).unwrap(), None);
    assert!(table.is_whole().unwrap());
}

#[tokio::test]
async fn beyond_the_bound_the_claim_that_ends_first_goes_first() {
    let folder = TempFolder::new();
    let registry = Embedded::open(&settings_at(&folder.0, 3), HOUR).unwrap();
    for name in ["s1", "s2", "s3"] {
        registry.claim(&key(name), &owned_by("w1")).await.unwrap();
        let claimed = now();
        eventually("the next millisecond", || now() > claimed);
    }
    registry.claim(&key("s1"), &owned_by("w1")).await.unwrap();
    registry.claim(&key("s4"), &owned_by("w1")).await.unwrap();
    let known: Vec<_> = ["s1", "s2", "s3", "s4"]
        .into_iter()
        .filter(|name| registry.ask(&key(name)).unwrap().is_some())
        .collect();
    assert_eq!(known, ["s1", "s3", "s4"], "s1 was renewed by its second claim");
    assert_eq!((registry.count(), registry.counters().evicted), (Ok(3), 1));
}

#[tokio::test]
async fn a_file_that_fills_up_makes_room_for_new_claims() {
    let folder = TempFolder::new();
    let registry = Embedded::open_with_room(&settings_at(&folder.0, 100_000), HOUR, MIB).unwrap();
    let with_id_of = |bytes: usize| Claim { server_id: Some("x".repeat(bytes)), ..owned_by("w1") };
    let mut claimed = 0;
    for bytes in [1, 1_000, 1, 3_000] {
        let claim = with_id_of(bytes);
        for n in 0..1_500 {
            let key = key(format!("{claimed}-{n}"));
            assert_eq!(
                claim_in_time(&registry, &key, &claim).await,
                Claimed::Won,
                "{bytes} bytes, claim {n}"
            );
            assert_eq!(registry.ask(&key).unwrap().as_ref(), Some(&claim));
        }
        claimed += 1_500;
        let kept = registry.count().unwrap();
        assert_eq!(kept + registry.counters().evicted, claimed);
        assert!(kept as usize > 100_000 / (bytes + 200), "only {kept} of {bytes} bytes kept in {MIB}");
    }
    assert!(registry.table().is_whole().unwrap());
    assert!(fs::metadata(folder.0.join("sessions-1/data.mdb")).unwrap().len() <= MIB as u64);
}

#[tokio::test]
async fn a_file_that_fills_up_holds_a_transaction_that_changes_every_page() {
    let folder = TempFolder::new();
    let Folder { table, .. } = &Folder::open(&folder.0, Rules::new(HOUR, 100_000, MIB), MIB).unwrap();
    for round in 0..20 {
        at::<0, _>(table, |change| {
            (0..2_000).try_for_each(|n| change.claim(&key(format!("{round}-{n}")), &owned_by("w1")).map(drop))
        });
    }
    assert!(table.count().unwrap() > 500);
}

#[tokio::test]
async fn a_hot_session_costs_one_write_per_interval() {
    let folder = TempFolder::new();
    let interval = Duration::from_millis(100);
    let registry = Embedded::open(&settings_at(&folder.0, 10), 60 * interval).unwrap();
    let began = Instant::now();
    registry.claim(&key("hot"), &owned_by("w1")).await.unwrap();
    let before = registry.counters().commits;
    eventually("three renewals", || {
        (0..100).for_each(|_| registry.renew(&key("hot")));
        registry.counters().commits >= before + 3
    });
    // Times are kept in whole milliseconds, so each interval may seem one shorter.
    let took = began.elapsed() + Duration::from_millis(3);
    assert!(took >= 3 * interval, "{took:?} for three writes");
    for _ in 0..10_000 {
        registry.renew(&key("never claimed"));
    }
    assert_eq!(registry.counters().commits, before + 3, "what is not claimed is not written");
}

#[tokio::test]
async fn writes_that_wait_together_are_committed_together() {
    let folder = TempFolder::new();
    let registry = open(&folder);
    let before = registry.counters().commits;
    // The writer waits for the lock that this thread holds, while tasks gather.
    let lock = Change::begin(registry.table(), now).unwrap();
    for n in 0..500 {
        let (key, claim) = (key(n), owned_by("w1"));
        let mut claiming = pin!(registry.claim(&key, &claim));
        // Polled once, it is in the inbox; who gives up then, as here, takes nothing back.
        let waits = poll_fn(|context| Poll::Ready(claiming.as_mut().poll(context).is_pending())).await;
        assert!(waits, "claim {n} was answered before the lock was free");
    }
    drop(lock);
    eventually("all are claimed", || registry.count() == Ok(500));
    eventually("all is counted", || registry.counters().commits > before);
    let commits = registry.counters().commits - before;
    assert!(commits <= 3, "500 claims took {commits} commits");
}

#[tokio::test]
async fn one_process_opens_a_folder_once() {
    let folder = TempFolder::new();
    let registry = open(&folder);
    registry.claim(&key("s"), &owned_by("w1")).await.unwrap();
    let again = Embedded::open(&settings_at(&folder.0, 10), HOUR).err().unwrap();
    assert_eq!(
        again.to_string(),
        format!(
            "registry {}: cannot open it: this process has it open already (check path, rights and disk)",
            folder.0.display()
        )
    );
    assert_eq!(registry.ask(&key("s")).unwrap(), Some(owned_by("w1")), "the first is unharmed");
    drop(registry);
    eventually("closed and opened again", || {
        Embedded::open(&settings_at(&folder.0, 10), HOUR)
            .is_ok_and(|registry| registry.ask(&key("s")).unwrap() == Some(owned_by("w1")))
    });
}

#[test]
fn a_folder_that_cannot_be_is_an_error_with_its_path() {
    let folder = TempFolder::new();
    fs::write(folder.0.join("file"), "").unwrap();
    let path = folder.0.join("file/below");
    let error = Embedded::open(&settings_at(&path, 10), HOUR).err().unwrap();
    assert!(
        matches!(&error, RegistryError::Folder { path: named, doing: "make the folder", .. } if *named == path)
    );
}
