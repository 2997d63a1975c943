//! What a Redis in trouble does to its users: down, killed, stopped, deposed, or failing over.
//! Every call ends within its time-out, what is cached goes on, and what comes back is found again without a restart.
//! Surprise: a stopped Redis keeps its sockets open and its kernel goes on accepting new ones; only silence tells.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::servers::{Server, free_port};
use super::*;

/// The default time-out of a call.
const TIMEOUT: Duration = Duration::from_millis(100);
/// For a busy machine to come round to it; less than any wait that would be a fault.
const MARGIN: Duration = Duration::from_millis(500);

/// A member with the default time-out.
fn hasty(topology: Topology, ttl: Duration) -> Arc<Redis> {
    Arc::new(Redis::open(&settings::Redis { timeout: TIMEOUT, ..settings(topology) }, ttl).unwrap())
}

fn hasty_at(port: u16) -> Arc<Redis> {
    hasty(Topology::Standalone(at(port)), SHORT)
}

/// Asks for a session that no cache knows.
async fn ask_anew(member: &Redis) -> Result<Option<Claim>, RegistryError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let began = Instant::now();
    let answer = member.ask(&key(format!("anew {}", NEXT.fetch_add(1, Relaxed)))).await;
    assert!(began.elapsed() < TIMEOUT + MARGIN, "{:?}", began.elapsed());
    answer
}

fn is_down(answer: &Result<Option<Claim>, RegistryError>, why: &str) -> bool {
    matches!(answer, Err(RegistryError::Unreachable { reason, .. }) if reason.contains(why))
}

#[tokio::test]
async fn redis_may_come_later_than_we() {
    let mut server = Server::start("");
    server.kill();
    let member = hasty_at(server.port);
    eventually("the reason is known", async || is_down(&ask_anew(&member).await, "refused")).await;
    let began = Instant::now();
    for _ in 0..100 {
        assert!(is_down(&ask_anew(&member).await, "refused"));
    }
    assert!(began.elapsed() < 20 * TIMEOUT, "a hundred are told at once that there is no answer");
    assert_eq!(member.check().await.unwrap_err().to_string().lines().count(), 1);

    server.start_again();
    eventually("it is found", async || ask_anew(&member).await == Ok(None)).await;
}

#[tokio::test]
async fn a_killed_redis_is_found_again_and_known_owners_go_on() {
    let mut server = Server::start("");
    let (member, w1) = (hasty_at(server.port), owned_by("w1"));
    eventually("connected", async || ask_anew(&member).await.is_ok()).await;
    member.claim(&key("s"), &w1).await.unwrap();
    server.kill();
    eventually("that is noticed", async || ask_anew(&member).await.is_err()).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        assert_eq!(
            member.ask(&key("s")).await,
            Ok(Some(w1.clone())),
            "past the time for which it is believed"
        );
        member.renew(&key("s"));
        tokio::task::yield_now().await;
    }
    server.start_again();
    eventually("it is found", async || ask_anew(&member).await == Ok(None)).await;
    eventually("the claim is back", async || {
        assert_eq!(member.ask(&key("s")).await, Ok(Some(w1.clone())));
        server.ask::<u64>("DBSIZE") == 1
    })
    .await;
    assert!(member.counters().connections >= 2 && member.counters().unreachable > 0);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_not_noticed_by_who_asks() {
    let server = Server::start("");
    let (member, w1) = (member(&server, HOUR), owned_by("w1"));
    assert_eq!(member.claim(&key("s"), &w1).await, Ok(Claimed::Won));
    server.ask::<u64>("CLIENT KILL TYPE normal");
    assert_eq!(member.release(&key("s"), &w1).await, Ok(true));
    assert_eq!(member.counters().unreachable, 0);

    // Where that goes on there are pauses, and who asks then is told.
    eventually("cut again and again", async || {
        let _ = server.try_ask::<u64>("CLIENT KILL TYPE normal");
        let _ = member.ask(&key("s")).await;
        member.counters().unreachable > 0
    })
    .await;
    eventually("answered again", async || member.ask(&key("s")).await == Ok(None)).await;
}

#[tokio::test]
async fn a_stopped_redis_holds_nobody_up_for_longer_than_the_timeout() {
    let server = Server::start("");
    let (member, w1) = (hasty_at(server.port), owned_by("w1"));
    eventually("connected", async || ask_anew(&member).await.is_ok()).await;
    member.claim(&key("s"), &w1).await.unwrap();
    server.signal(Signal::SIGSTOP);
    let silent = Cell::new(0);
    eventually("its silence is noticed", async || {
        let answer = ask_anew(&member).await;
        silent.set(silent.get() + u32::from(matches!(answer, Err(RegistryError::Silent { .. }))));
        assert!(member.ask(&key("s")).await.is_ok_and(|owner| owner.as_ref() == Some(&w1)));
        is_down(&answer, "")
    })
    .await;
    assert!(silent.get() > 0);
    server.signal(Signal::SIGCONT);
    eventually("it is found again", async || ask_anew(&member).await == Ok(None)).await;
    assert_eq!(member.claim(&key("t"), &w1).await, Ok(Claimed::Won));
}

#[tokio::test]
async fn a_replica_is_no_registry() {
    let (master, other) = (Server::start(""), Server::start(""));
    let (member, w1) = (hasty_at(master.port), owned_by("w1"));
    eventually("connected", async || ask_anew(&member).await.is_ok()).await;
    master.ask::<()>(&format!("REPLICAOF 127.0.0.1 {}", other.port));
    eventually("a deposed master is left", async || {
        let _ = member.claim(&key("s"), &w1).await;
        is_down(&ask_anew(&member).await, "it is a replica")
    })
    .await;
    master.ask::<()>("REPLICAOF NO ONE");
    eventually("a master again", async || member.claim(&key("t"), &w1).await == Ok(Claimed::Won)).await;
}

#[tokio::test]
async fn a_server_that_takes_nobody_says_why() {
    let server = Server::start("--maxclients 1");
    let taken = member(&server, HOUR);
    eventually("connected", async || taken.check().await.is_ok()).await;
    let member = hasty_at(server.port);
    eventually("the reason is known", async || {
        is_down(&ask_anew(&member).await, "max number of clients reached")
    })
    .await;
}

#[tokio::test]
async fn nobody_listens() {
    let member = hasty_at(free_port());
    eventually("the reason is known", async || is_down(&ask_anew(&member).await, "refused")).await;
    assert_eq!(member.counters().connections, 0);
    member.renew(&key("s"));
    member.forget(&key("s"));
    assert!(member.release(&key("s"), &owned_by("w1")).await.is_err());
}

#[tokio::test]
async fn sentinels_tell_the_new_master() {
    let mut first = Server::start("");
    let second = Server::start(&format!("--replicaof 127.0.0.1 {}", first.port));
    // Sentinels look for replicas when they start, and then only every ten seconds.
    eventually("replicated", async || second.ask::<String>("INFO replication").contains("link_status:up"))
        .await;
    let sentinels = [0; 3].map(|_| Server::sentinel(&first));
    let topology = Topology::Sentinel {
        sentinels: sentinels.iter().map(|sentinel| at(sentinel.port)).collect(),
        master: "mymaster".into(),
        login: RedisLogin::default(),
    };
    let (member, w1) = (hasty(topology, SHORT), owned_by("w1"));
    eventually("connected", async || ask_anew(&member).await.is_ok()).await;
    assert_eq!(member.claim(&key("s"), &w1).await, Ok(Claimed::Won));
    eventually("all know of each other", async || {
        let of = |sentinel: &Server| sentinel.ask::<String>("INFO sentinel");
        let known = |told: String| told.contains("slaves=1") && told.contains("sentinels=3");
        sentinels.iter().all(|sentinel| known(of(sentinel)))
    })
    .await;
    eventually("the claim is copied", async || second.ask::<u64>("DBSIZE") == 1).await;

    first.kill();
    eventually("writes go on at the new master", async || {
        assert_eq!(member.ask(&key("s")).await, Ok(Some(w1.clone())), "known owners never stop");
        member.claim(&key("t"), &w1).await == Ok(Claimed::Won)
    })
    .await;
    assert!(second.ask::<bool>(&format!("EXISTS {}", in_redis(&key("t")))));
    assert_eq!(ask_anew(&member).await, Ok(None));

    // For some seconds there are two that call themselves master.
    first.start_again();
    assert_eq!(member.claim(&key("u"), &w1).await, Ok(Claimed::Won));
    second.ask::<u64>("CLIENT KILL TYPE normal");
    eventually("connected anew", async || ask_anew(&member).await.is_ok()).await;
    assert_eq!(member.claim(&key("v"), &w1).await, Ok(Claimed::Won));
    assert!(
        second.ask::<u64>("DBSIZE") >= 3 && first.ask::<u64>("DBSIZE") == 0,
        "it goes by what sentinels say"
    );
}

#[tokio::test]
async fn a_sentinel_that_knows_no_such_master_is_named() {
    let master = Server::start("");
    let sentinel = Server::sentinel(&master);
    let topology = Topology::Sentinel {
        sentinels: vec![at(free_port()), at(sentinel.port)],
        master: "another".into(),
        login: RedisLogin::default(),
    };
    let member = hasty(topology, SHORT);
    eventually("the reasons are known", async || {
        let answer = ask_anew(&member).await;
        is_down(&answer, "refused") && is_down(&answer, "it watches no master of this name")
    })
    .await;
}
