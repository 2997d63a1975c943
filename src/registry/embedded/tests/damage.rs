//! Content that cannot be trusted is set aside, and an empty registry is begun: soft state never keeps Outrigger from running.
//! Each test spoils a good folder and opens it again.
//! Surprise: some damage kills the process that reads it (LMDB has no checksums); the third process to try then starts empty.

use std::os::unix::fs::FileExt;

use super::processes::{Process, Role};
use super::*;

const DATA: &str = "sessions-1/data.mdb";

/// A folder with 2,000 claims that nobody has open.
fn filled() -> TempFolder {
    let folder = TempFolder::new();
    let Folder { table, .. } = &table(&folder, 3_600_000, 10_000);
    let mut change = Change::begin(table, now).unwrap();
    for n in 0..2_000 {
        change.claim(&key(n), &owned_by("w1")).unwrap();
    }
    change.commit().unwrap();
    folder
}

fn opens_empty_and_works(folder: &TempFolder, what: &str) {
    let Folder { table, .. } = &Folder::open(&folder.0, Rules::new(HOUR, 10, 16 * MIB), 16 * MIB)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(table.count().unwrap(), 0, "{what}");
    at::<0, _>(table, |change| change.claim(&key("new"), &owned_by("w2")));
    assert_eq!(table.ask(&key("new"), 1).unwrap(), Some(owned_by("w2")), "{what}");
    assert!(folder.0.join("sessions-1.aside").exists(), "{what}: the old content is kept");
}

#[test]
fn good_content_stays() {
    let folder = filled();
    for _ in 0..3 {
        let Folder { table, .. } = &table(&folder, 3_600_000, 10_000);
        assert_eq!(table.count().unwrap(), 2_000);
    }
    assert!(!folder.0.join("sessions-1.aside").exists());
}

#[test]
fn damaged_and_foreign_content_is_set_aside() {
    type Spoil = fn(&Path);
    let table: [(&str, Spoil); 8] = [
        ("text instead of a database", |root| fs::write(root.join(DATA), "hello\n".repeat(5_000)).unwrap()),
        ("a short file", |root| fs::write(root.join(DATA), "x").unwrap()),
        ("the second half cut off", |root| {
            let file = fs::File::options().write(true).open(root.join(DATA)).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("all but the header is zeros", |root| {
            let file = fs::File::options().write(true).open(root.join(DATA)).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(8_192).unwrap();
            file.set_len(length).unwrap();
        }),
        ("a file instead of the folder", |root| {
            fs::remove_dir_all(root.join("sessions-1")).unwrap();
            fs::write(root.join("sessions-1"), "").unwrap();
        }),
        ("a folder instead of the file", |root| {
            fs::remove_file(root.join(DATA)).unwrap();
            fs::create_dir(root.join(DATA)).unwrap();
        }),
        ("written before the last boot", |root| {
            fs::write(root.join("sessions-1/boot"), "another-boot\n").unwrap();
        }),
        ("nobody knows when it was written", |root| fs::write(root.join("sessions-1/boot"), "").unwrap()),
    ];
    for (what, spoil) in table {
        let folder = filled();
        spoil(&folder.0);
        opens_empty_and_works(&folder, what);
        spoil_again_over_the_last_aside(&folder);
    }
}

/// One set-aside replaces the one before, so that a crash loop cannot fill the disk.
fn spoil_again_over_the_last_aside(folder: &TempFolder) {
    fs::write(folder.0.join(DATA), "once more\n".repeat(5_000)).unwrap();
    opens_empty_and_works(folder, "damaged for the second time");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "lock file, content, one aside");
}

#[test]
fn tables_that_do_not_agree_are_damage() {
    let folder = filled();
    {
        let Folder { table, .. } = &table(&folder, 3_600_000, 10_000);
        let mut txn = table.env.write_txn().unwrap();
        table.claims.delete(&mut txn, key(7).as_bytes()).unwrap();
        txn.commit().unwrap();
    }
    opens_empty_and_works(&folder, "a claim without its row in the index");
}

#[test]
fn a_lock_file_of_nonsense_is_made_anew() {
    let folder = filled();
    fs::write(folder.0.join("sessions-1/lock.mdb"), [7; 9_000]).unwrap();
    let Folder { table, .. } = &table(&folder, 3_600_000, 10_000);
    assert_eq!(table.count().unwrap(), 2_000);
}

#[test]
fn content_that_kills_its_readers_is_set_aside_after_the_second() {
    let folder = filled();
    fs::write(folder.0.join("sessions-1/opening"), ".").unwrap();
    {
        let Folder { table, .. } = &table(&folder, 3_600_000, 10_000);
        assert_eq!(table.count().unwrap(), 2_000, "one death may have been a kill at a bad moment");
    }
    fs::write(folder.0.join("sessions-1/opening"), "..").unwrap();
    opens_empty_and_works(&folder, "two deaths in a row");
}

/// Whatever bytes are wrong, the third process at the latest runs.
#[test]
fn a_scribbled_file_never_keeps_outrigger_from_running() {
    // Xorshift: the same scribbles in every run.
    let (mut at, mut died) = (88_172_645_463_325_252_u64, 0);
    for round in 0..12 {
        let folder = filled();
        let file = fs::File::options().write(true).open(folder.0.join(DATA)).unwrap();
        let length = file.metadata().unwrap().len();
        for _ in 0..200 {
            at ^= at << 13;
            at ^= at >> 7;
            at ^= at << 17;
            file.write_all_at(&at.to_le_bytes(), at % length).unwrap();
        }
        let attempts = (1..=3).find(|_| Process::start(Role::Open, &folder.0).says("claimed"));
        let attempts = attempts.unwrap_or_else(|| panic!("round {round}: three processes died"));
        died += attempts - 1;
    }
    println!("{died} processes died of 12 scribbled files");
}
