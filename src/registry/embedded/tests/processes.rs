//! Several real processes on one folder: what a race, a kill or a stop of one of them does to the others.
//! The test binary runs itself again with a role; parent and child talk in lines.
//! Surprise: a child holds the write lock with real, uncommitted pages when it is stopped or killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

const ROLE: &str = "OUTRIGGER_TEST_ROLE";
const FOLDER: &str = "OUTRIGGER_TEST_FOLDER";
/// What P2 leaves for the answer about a dead owner.
const AT_ONCE: Duration = Duration::from_millis(250);

/// What a child does after it has opened the folder and said `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Makes one claim and says `claimed`.
    Open,
    /// Claims `restart-0` to `restart-99` and says `claimed`.
    Fill,
    /// On a line, claims `race-0` to `race-999` as a peer named by its process id, and says what it won.
    Race,
    /// Claims, renews and releases without end; says `storming` from time to time.
    Storm,
    /// Says `holding` inside a write transaction with pages changed, and commits it on a line.
    HoldWrite,
    /// Says `holding` inside a read transaction.
    HoldRead,
}

const ROLES: [Role; 6] = [Role::Open, Role::Fill, Role::Race, Role::Storm, Role::HoldWrite, Role::HoldRead];

/// A child of the test; killed with it.
pub struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(role: Role, folder: &Path) -> Self {
        let test = "registry::embedded::tests::processes::a_process_with_a_role";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--ignored", "--nocapture"])
            .env(ROLE, format!("{role:?}"))
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits for a line that ends so; false if the child ends before.
    pub fn says(&mut self, word: &str) -> bool {
        self.line_with(word).is_some()
    }

    fn line_with(&mut self, word: &str) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if line.contains(word) {
                return Some(line.trim().to_owned());
            }
            line.clear();
        }
        None
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "the tests below run it as a process of its own"]
async fn a_process_with_a_role() {
    let role = std::env::var(ROLE).unwrap();
    let role = *ROLES.iter().find(|known| format!("{known:?}") == role).unwrap();
    let path = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let registry = Embedded::open(&settings_at(&path, 100_000), HOUR).unwrap();
    say("ready");
    match role {
        Role::Open => {
            claim_in_time(&registry, &key("opened"), &owned_by("w1")).await;
            say("claimed");
        }
        Role::Fill => {
            for n in 0..100 {
                claim_in_time(&registry, &key(format!("restart-{n}")), &owned_by("w1")).await;
            }
            say("claimed");
        }
        Role::Race => {
            hear();
            let (ours, mut won) = (owned_by(&std::process::id().to_string()), 0);
            for n in 0..1_000 {
                let claimed = claim_in_time(&registry, &key(format!("race-{n}")), &ours).await;
                won += u32::from(claimed == Claimed::Won);
            }
            say(&format!("won {won}"));
        }
        Role::Storm => storm(&registry).await,
        Role::HoldWrite => {
            let mut change = Change::begin(registry.table(), now).unwrap();
            change.claim(&key("uncommitted"), &owned_by("w1")).unwrap();
            say("holding");
            hear();
            change.commit().unwrap();
            say("committed");
        }
        Role::HoldRead => {
            let _txn = registry.table().env.read_txn().unwrap();
            say("holding");
            hear();
        }
    }
    hear();
}

async fn storm(registry: &Embedded) {
    let began = Instant::now();
    for round in (0_u64..).take_while(|_| began.elapsed() < Duration::from_secs(20)) {
        let (keys, ours): (Vec<_>, _) = ((0..64).map(|n| key(round * 64 + n)).collect(), owned_by("w1"));
        let claims = keys.iter().map(|key| registry.claim(key, &ours));
        for claim in claims.map(Box::pin).collect::<Vec<_>>() {
            let _ = claim.await;
        }
        for key in keys.iter().step_by(2) {
            let _ = registry.release(key, &ours).await;
        }
        if round % 4 == 0 {
            say("storming");
        }
    }
}

/// The line before ends first: libtest may have begun one.
fn say(word: &str) {
    println!("\n{word}");
}

/// A line from the parent, or its end.
fn hear() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Claims until it works; how long that took.
async fn time_to_claim(registry: &Embedded, key: &SessionKey) -> Duration {
    let began = Instant::now();
    while registry.claim(key, &owned_by("parent")).await != Ok(Claimed::Won) {
        assert!(began.elapsed() < Duration::from_secs(10), "no claim within 10 s");
    }
    began.elapsed()
}

#[test]
fn of_two_processes_that_claim_a_session_exactly_one_wins() {
    let folder = TempFolder::new();
    let mut racers = [Process::start(Role::Race, &folder.0), Process::start(Role::Race, &folder.0)];
    racers.iter_mut().for_each(|racer| assert!(racer.says("ready")));
    racers.iter_mut().for_each(Process::go);
    let registry = open(&folder);
    let mut total = 0;
    for racer in &mut racers {
        let line = racer.line_with("won ").unwrap();
        let won: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
        let owner = owned_by(&racer.child.id().to_string());
        let owned =
            (0..1_000).filter(|n| registry.ask(&key(format!("race-{n}"))).unwrap() == Some(owner.clone()));
        assert_eq!(owned.count(), won, "whoever won is the owner");
        total += won;
    }
    assert_eq!(total, 1_000);
}

#[tokio::test]
async fn claims_survive_a_restart_of_every_process() {
    let folder = TempFolder::new();
    for _ in 0..2 {
        let mut first = Process::start(Role::Fill, &folder.0);
        assert!(first.says("claimed"));
        first.kill();
    }
    let registry = open(&folder);
    for n in 0..100 {
        assert_eq!(registry.ask(&key(format!("restart-{n}"))).unwrap(), Some(owned_by("w1")));
    }
    assert_eq!(registry.count(), Ok(100));
}

#[tokio::test]
async fn a_process_killed_in_a_storm_of_writes_holds_nobody_up() {
    let folder = TempFolder::new();
    let registry = open(&folder);
    for round in 0..20_u64 {
        let mut child = Process::start(Role::Storm, &folder.0);
        assert!(child.says("storming"));
        let moment = Instant::now() + Duration::from_micros(137 * round);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill();
        let ours = key(format!("parent-{round}"));
        let took = time_to_claim(&registry, &ours).await;
        assert!(took < AT_ONCE, "round {round}: {took:?} until the first claim");
        assert_eq!(registry.ask(&ours).unwrap(), Some(owned_by("parent")));
        assert!(registry.table().is_whole().unwrap(), "round {round}");
    }
}

#[tokio::test]
async fn a_process_killed_inside_a_write_leaves_no_trace_of_it() {
    let folder = TempFolder::new();
    let registry = open(&folder);
    let mut child = Process::start(Role::HoldWrite, &folder.0);
    assert!(child.says("holding"));
    child.kill();
    let took = time_to_claim(&registry, &key("s")).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(registry.ask(&key("uncommitted")).unwrap(), None);
    assert!(registry.table().is_whole().unwrap());
}

#[tokio::test]
async fn a_process_stopped_inside_a_write_costs_a_timeout_and_reads_go_on() {
    let folder = TempFolder::new();
    let registry = open(&folder);
    registry.claim(&key("before"), &owned_by("w1")).await.unwrap();
    let mut child = Process::start(Role::HoldWrite, &folder.0);
    assert!(child.says("holding"));
    child.signal(Signal::SIGSTOP);

    let began = Instant::now();
    let answer = registry.claim(&key("late"), &owned_by("w1")).await;
    let took = began.elapsed();
    assert!(matches!(answer, Err(RegistryError::Timeout { .. })), "{answer:?}");
    assert!((Duration::from_millis(100)..AT_ONCE).contains(&took), "{took:?}");
    for _ in 0..1_000 {
        assert_eq!(registry.ask(&key("before")).unwrap(), Some(owned_by("w1")));
        registry.renew(&key("before"));
    }
    assert!(began.elapsed() < 2 * AT_ONCE, "reads waited");

    // A new generation opens meanwhile; its own first write waits like ours.
    assert!(Process::start(Role::Open, &folder.0).says("ready"));

    child.signal(Signal::SIGCONT);
    child.go();
    assert!(child.says("committed"));
    let took = time_to_claim(&registry, &key("after")).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(registry.ask(&key("uncommitted")).unwrap(), Some(owned_by("w1")));
    assert_eq!(
        registry.ask(&key("late")).unwrap(),
        Some(owned_by("w1")),
        "what timed out was done after all"
    );
}

#[tokio::test]
async fn readers_that_were_killed_are_cleared() {
    let folder = TempFolder::new();
    let registry = open(&folder);
    let mut child = Process::start(Role::HoldRead, &folder.0);
    assert!(child.says("holding"));
    let before = registry.counters().stale_readers;
    child.kill();
    eventually("the slot of the dead is cleared", || registry.counters().stale_readers > before);
}
