//! What the Redis registry promises, against a real Redis: the verbs, the cache in front, and the store beside.
//! Each test starts its own server; the neighbours cover trouble, sentinels, clusters and TLS.
//! Surprise: a "member" here is a second registry in the same process; it has a connection and a cache of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod gateway;
mod measure;
mod servers;
mod sizing;
mod tls;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Redis, Store};
use crate::config::settings::{self, RedisLogin, RedisServer, RedisTls, Topology};
use crate::registry::{Claim, Claimed, RegistryError, SessionKey, Transport};
use servers::Server;

const HOUR: Duration = Duration::from_secs(3_600);
/// A TTL whose claims are believed for the shortest time: 100 ms.
const SHORT: Duration = Duration::from_secs(6);

fn at(port: u16) -> RedisServer {
    RedisServer { host: "127.0.0.1".into(), port, login: RedisLogin::default() }
}

/// More patience than a request has: what the machine is busy with is no matter here.
fn settings(topology: Topology) -> settings::Redis {
    settings::Redis {
        topology,
        tls: RedisTls::default(),
        password_file: None,
        prefix: "t:".into(),
        timeout: Duration::from_secs(2),
        gateway_keys: None,
    }
}

fn member(server: &Server, ttl: Duration) -> Arc<Redis> {
    Arc::new(Redis::open(&settings(Topology::Standalone(at(server.port))), ttl).unwrap())
}

fn key(name: impl ToString) -> SessionKey {
    SessionKey::new("gateway", &name.to_string())
}

fn owned_by(peer: &str) -> Claim {
    Claim {
        member: Some("m1".into()),
        peer: peer.into(),
        server_id: Some("a".into()),
        transport: Transport::StreamableHttp,
    }
}

fn in_redis(key: &SessionKey) -> String {
    format!("t:session:{}", key.hex())
}

/// Waits for a condition with patience.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_claim_is_set_once_and_released_by_its_owner_only() {
    let server = Server::start("");
    let (one, two) = (member(&server, HOUR), member(&server, HOUR));
    let (w1, w2) = (owned_by("w1"), owned_by("w2"));
    assert_eq!(one.ask(&key("s")).await, Ok(None));
    assert_eq!(one.claim(&key("s"), &w1).await, Ok(Claimed::Won));
    assert_eq!(two.claim(&key("s"), &w1).await, Ok(Claimed::Won), "an equal claim is ours");
    assert_eq!(two.claim(&key("s"), &w2).await, Ok(Claimed::Held(w1.clone())));
    assert_eq!(two.ask(&key("s")).await, Ok(Some(w1.clone())));
    let left: u64 = server.ask(&format!("PTTL {}", in_redis(&key("s"))));
    assert!(left > 3_590_000 && left <= 3_600_000, "{left}");

    assert_eq!(two.release(&key("s"), &w2).await, Ok(false), "not what stands");
    assert_eq!(one.ask(&key("s")).await, Ok(Some(w1.clone())));
    assert_eq!(one.release(&key("s"), &w1).await, Ok(true));
    assert_eq!(one.release(&key("s"), &w1).await, Ok(false));
    assert_eq!(one.ask(&key("s")).await, Ok(None), "its cache has let go of it");
    assert_eq!(server.ask::<u64>("DBSIZE"), 0);
}

#[tokio::test]
async fn of_two_that_race_for_a_session_one_wins() {
    let server = Server::start("");
    let (one, two) = (member(&server, HOUR), member(&server, HOUR));
    let (w1, w2) = (owned_by("w1"), owned_by("w2"));
    for session in 0..100 {
        let session = key(session);
        let (first, second) = tokio::join!(one.claim(&session, &w1), two.claim(&session, &w2));
        match (first.unwrap(), second.unwrap()) {
            (Claimed::Won, Claimed::Held(held)) => assert_eq!(held, w1),
            (Claimed::Held(held), Claimed::Won) => assert_eq!(held, w2),
            both => panic!("{both:?}"),
        }
        assert_eq!(one.ask(&session).await, two.ask(&session).await);
    }
}

#[tokio::test]
async fn a_use_brings_back_what_redis_forgot() {
    let server = Server::start("");
    let (one, w1) = (member(&server, SHORT), owned_by("w1"));
    one.claim(&key("s"), &w1).await.unwrap();
    server.ask::<()>("FLUSHALL");
    eventually("the claim is back", async || {
        assert_eq!(one.ask(&key("s")).await, Ok(Some(w1.clone())), "meanwhile the cache knows");
        server.ask::<bool>(&format!("EXISTS {}", in_redis(&key("s"))))
    })
    .await;
    server.ask::<()>("FLUSHALL");
    eventually("a renewal alone brings it back, too", async || {
        one.renew(&key("s"));
        server.ask::<bool>(&format!("EXISTS {}", in_redis(&key("s"))))
    })
    .await;
    assert_eq!(member(&server, SHORT).ask(&key("s")).await, Ok(Some(w1)), "for everybody");
}

#[tokio::test]
async fn a_use_finds_another_claim_that_took_the_place() {
    let server = Server::start("");
    let (one, two) = (member(&server, SHORT), member(&server, SHORT));
    let (w1, w2) = (owned_by("w1"), owned_by("w2"));
    one.claim(&key("s"), &w1).await.unwrap();
    two.release(&key("s"), &w1).await.unwrap();
    two.claim(&key("s"), &w2).await.unwrap();
    eventually("the other claim is seen", async || one.ask(&key("s")).await == Ok(Some(w2.clone()))).await;
    assert_eq!(two.ask(&key("s")).await, Ok(Some(w2)), "and it stands");

    one.claim(&key("t"), &w1).await.unwrap();
    server.ask::<()>("FLUSHALL");
    one.forget(&key("t"));
    assert_eq!(one.ask(&key("t")).await, Ok(None), "what was forgotten is asked for, not believed");
}

#[tokio::test]
async fn a_hot_session_costs_one_command_in_an_interval() {
    let server = Server::start("");
    let (one, two) = (member(&server, SHORT), member(&server, SHORT));
    one.claim(&key("s"), &owned_by("w1")).await.unwrap();
    two.ask(&key("s")).await.unwrap();
    let (began, ran) = (Instant::now(), server.ran("evalsha"));
    let mut uses = 0;
    while began.elapsed() < Duration::from_millis(550) {
        let s = key("s");
        let (first, second, third) = tokio::join!(one.ask(&s), one.ask(&s), two.ask(&s));
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        one.renew(&key("s"));
        two.renew(&key("s"));
        uses += 5;
        tokio::task::yield_now().await;
    }
    let (ran, intervals) = (server.ran("evalsha") - ran, began.elapsed().as_millis() as u64 / 100);
    assert!(uses > 100, "{uses}");
    assert!(ran <= 2 * (intervals + 1) && ran > 2, "{ran} commands of two members in {intervals} intervals");
    assert!(one.counters().cache_hits > 10 && one.counters().cache_misses == 0, "{:?}", one.counters());
    let left: u64 = server.ask(&format!("PTTL {}", in_redis(&key("s"))));
    assert!(left > 3_000, "and it lives on: {left} ms");
}

#[tokio::test]
async fn another_version_may_write_the_same_claim_in_other_words() {
    let server = Server::start("");
    let (one, w1) = (member(&server, SHORT), owned_by("w1"));
    let words = r#"{"peer":"w1","member":"m1","server_id":"a","transport":"streamable-http","since":1}"#;
    server.ask::<()>(&format!("SET {} {words} PX 600", in_redis(&key("s"))));
    assert_eq!(one.claim(&key("s"), &w1).await, Ok(Claimed::Won));
    assert_eq!(server.ask::<String>(&format!("GET {}", in_redis(&key("s")))), words, "untouched");
    assert!(server.ask::<u64>(&format!("PTTL {}", in_redis(&key("s")))) > 3_000, "but renewed");
    assert_eq!(one.release(&key("s"), &w1).await, Ok(true));
    assert_eq!(server.ask::<u64>("DBSIZE"), 0);
}

#[tokio::test]
async fn a_buried_session_is_nobodys_for_everybody() {
    let server = Server::start("");
    let (one, two, w1) = (member(&server, HOUR), member(&server, HOUR), owned_by("w1"));
    one.claim(&key("s"), &w1).await.unwrap();
    assert_eq!(two.bury(&key("s"), &owned_by("w2")).await, Ok(false), "another's claim stays");
    assert_eq!(two.bury(&key("s"), &w1).await, Ok(true));
    for member in [&two, &member(&server, HOUR)] {
        assert_eq!(member.ask(&key("s")).await, Ok(Some(w1.of_nobody())));
        assert_eq!(member.claim(&key("s"), &owned_by("w2")).await, Ok(Claimed::Held(w1.of_nobody())));
    }
    assert!(server.ask::<u64>(&format!("PTTL {}", in_redis(&key("s")))) > 5_000, "not for ever");
    assert_eq!(two.bury(&key("t"), &w1).await, Ok(false), "nobody had it");
    assert_eq!(server.ask::<u64>("DBSIZE"), 1);
}

#[tokio::test]
async fn what_is_no_claim_that_we_know_is_an_error_and_stays() {
    let server = Server::start("");
    let (one, w1) = (member(&server, HOUR), owned_by("w1"));
    for words in ["rubbish", r#"{"peer":"w1","transport":"carrier-pigeon"}"#] {
        server.ask::<()>(&format!("SET {} {words}", in_redis(&key("s"))));
        let unreadable = |error: RegistryError| matches!(error, RegistryError::Unreadable { .. });
        assert!(unreadable(one.ask(&key("s")).await.unwrap_err()), "{words}");
        assert!(unreadable(one.claim(&key("s"), &w1).await.unwrap_err()), "{words}");
        assert_eq!(one.release(&key("s"), &w1).await, Ok(false), "{words}");
        assert_eq!(server.ask::<String>(&format!("GET {}", in_redis(&key("s")))), words);
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_that_names_no_key() {
    let server = Server::start("");
    let (one, w1) = (member(&server, HOUR), owned_by("w1"));
    server.ask::<()>(&format!("RPUSH {} x", in_redis(&key("s"))));
    let refused =
        |answer: &RegistryError| matches!(answer, RegistryError::Refused { code, .. } if code == "WRONGTYPE");
    for error in [
        one.ask(&key("s")).await.unwrap_err(),
        one.claim(&key("s"), &w1).await.unwrap_err(),
        one.release(&key("s"), &w1).await.unwrap_err(),
        one.store().get(&in_redis(&key("s"))).await.unwrap_err(),
    ] {
        assert!(refused(&error) && !error.to_string().contains(&key("s").short()), "{error}");
    }
    assert_eq!(one.counters().refused, 4);
}

#[tokio::test]
async fn a_full_redis_refuses_claims_or_forgets_others() {
    let server = Server::start("");
    let (one, w1) = (member(&server, SHORT), owned_by("w1"));
    one.claim(&key("s"), &w1).await.unwrap();
    server.ask::<()>("CONFIG SET maxmemory 1");
    let refused = one.claim(&key("t"), &w1).await.unwrap_err();
    assert!(matches!(&refused, RegistryError::Refused { code, .. } if code == "OOM"), "{refused}");
    assert_eq!(
        member(&server, SHORT).ask(&key("s")).await,
        Ok(Some(w1.clone())),
        "what is there can be asked for"
    );

    server.ask::<()>("CONFIG SET maxmemory-policy allkeys-lru");
    let there = || server.ask::<bool>(&format!("EXISTS {}", in_redis(&key("s"))));
    assert!(server.try_ask::<()>("SET more x").is_err() && !there(), "evicted");
    assert_eq!(one.ask(&key("s")).await, Ok(Some(w1.clone())), "the cache knows");
    server.ask::<()>("CONFIG SET maxmemory 0");
    eventually("its user brings the evicted claim back", async || {
        assert_eq!(one.ask(&key("s")).await, Ok(Some(w1.clone())));
        there()
    })
    .await;
}

#[tokio::test]
async fn the_store_keeps_what_its_siblings_need() {
    let server = Server::start("");
    let store: Store = member(&server, HOUR).store();
    let minute = Duration::from_secs(60);
    let (m1, m2) = (store.key("member:m1"), store.key("member:m2"));
    assert_eq!((store.prefix(), m1.as_str(), store.gateway_keys()), ("t:", "t:member:m1", None));
    assert_eq!(store.get(&m1).await, Ok(None));
    store.put(&m1, "here", minute).await.unwrap();
    assert_eq!(store.get(&m1).await, Ok(Some("here".into())));
    assert_eq!(store.exists(&m1).await, Ok(true));
    assert_eq!(store.get_many(&[m2.clone(), m1.clone()]).await, Ok(vec![None, Some("here".into())]));
    assert_eq!(store.get_many(&[]).await, Ok(vec![]));
    let left = store.expires_in(&m1).await.unwrap().unwrap();
    assert!(left <= minute && left > minute / 2);
    assert_eq!(store.expires_in(&m2).await, Ok(None));
    assert_eq!(store.remove_if(&m1, "elsewhere").await, Ok(false));
    assert_eq!(store.remove_if(&m1, "here").await, Ok(true));
    assert_eq!(store.exists(&m1).await, Ok(false));

    let set = store.key("members");
    assert_eq!(store.beat(&set, "m1", 100, 90).await, Ok(vec!["m1".into()]));
    assert_eq!(store.beat(&set, "m2", 105, 95).await, Ok(vec!["m1".into(), "m2".into()]));
    assert_eq!(store.beat(&set, "m2", 110, 100).await, Ok(vec!["m1".into(), "m2".into()]));
    assert_eq!(store.beat(&set, "m2", 111, 101).await, Ok(vec!["m2".into()]), "m1 is too old");
    store.stop_beating(&set, "m2").await.unwrap();
    assert_eq!(store.exists(&set).await, Ok(false));
    assert_eq!(store.session_key(&key("s")), in_redis(&key("s")));
}
