//! The gateway's own keys, written as ContextForge writes them, and what is learnt of its workers.
//! Surprise: the gateway itself plays in the black-box tests; here its part is spoken by a plain client of Redis.

use super::servers::Server;
use super::*;
use crate::registry::{Calibration, GatewayKeys, Word, WorkerId};

const SESSION: &str = "0123456789abcdef0123456789abcdef";

fn keys(server: &Server) -> GatewayKeys {
    let settings = settings::Redis {
        gateway_keys: Some("mcpgw:".into()),
        ..settings(Topology::Standalone(at(server.port)))
    };
    GatewayKeys::of(Redis::open(&settings, HOUR).unwrap().store()).unwrap()
}

fn word(calibrated: Option<Calibration>, beats: bool, heartbeats_written: bool) -> Word {
    Word { worker: WorkerId::parse("pod-1:7").unwrap(), calibrated, beats, heartbeats_written }
}

fn learnt(heartbeats: bool) -> Calibration {
    Calibration { member: Some("m1".into()), peer: "w1".into(), heartbeats }
}

#[tokio::test]
async fn the_gateways_word_and_what_is_known_of_its_worker() {
    let server = Server::start("");
    let keys = keys(&server);
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(None));
    server.ask::<()>(&format!("SET mcpgw:pool_owner:{SESSION} pod-1:7 EX 300"));
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(Some(word(None, false, false))));

    let json = learnt(true).to_json();
    server.ask::<()>(&format!("SET t:worker:gateway:pod-1:7 {json}"));
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(Some(word(Some(learnt(true)), false, true))));
    assert_eq!(keys.ask("another", SESSION).await, Ok(Some(word(None, false, true))), "of another upstream");
    server.ask::<()>("SET mcpgw:worker_heartbeat:pod-1:7 alive EX 30");
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(Some(word(Some(learnt(true)), true, true))));
}

#[tokio::test]
async fn a_heartbeat_that_was_seen_once_is_missed_later() {
    let server = Server::start("");
    let keys = keys(&server);
    server.ask::<()>(&format!("SET mcpgw:pool_owner:{SESSION} pod-1:7"));
    server.ask::<()>("SET mcpgw:worker_heartbeat:pod-1:7 alive");
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(Some(word(None, true, true))));
    server.ask::<()>("DEL mcpgw:worker_heartbeat:pod-1:7");
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(Some(word(None, false, true))));
}

#[tokio::test]
async fn what_no_gateway_writes_is_no_word() {
    let server = Server::start("");
    let keys = keys(&server);
    for value in ["pod-1", "pod-1:", "{}"] {
        server.ask::<()>(&format!("SET mcpgw:pool_owner:{SESSION} {value}"));
        assert_eq!(keys.ask("gateway", SESSION).await, Ok(None), "{value}");
    }
    server.ask::<()>(&format!("SET mcpgw:pool_owner:{SESSION} pod-1:7"));
    server.ask::<()>("SET t:worker:gateway:pod-1:7 nonsense");
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(Some(word(None, false, false))));
    server.ask::<()>(&format!("DEL mcpgw:pool_owner:{SESSION}"));
    server.ask::<u64>(&format!("RPUSH mcpgw:pool_owner:{SESSION} pod-1:7"));
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(None), "not even where Redis refuses");

    let asked = server.ran("get");
    let long = "a".repeat(129);
    for session in ["", "a b", "a:b", "a*", "é", "a\r\nb", &long] {
        assert_eq!(keys.ask("gateway", session).await, Ok(None), "{session}");
    }
    assert_eq!(server.ran("get"), asked, "what cannot have a key is not asked for");
    assert_eq!(keys.ask("gateway", &long[1..]).await, Ok(None));
    assert_eq!(server.ran("get"), asked + 1);
}

#[tokio::test]
async fn a_redis_that_is_gone_is_an_error() {
    let mut server = Server::start("");
    let keys = keys(&server);
    assert_eq!(keys.ask("gateway", SESSION).await, Ok(None));
    server.kill();
    let error = keys.ask("gateway", SESSION).await.unwrap_err();
    assert!(!error.to_string().contains(SESSION), "{error}");
}

#[tokio::test]
async fn a_worker_is_learnt_from_the_key_that_comes_a_little_later() {
    let server = Server::start("");
    for (heartbeat, member, json) in [
        (false, None, r#"{"peer":"w1","heartbeats":false}"#),
        (true, Some("m1"), r#"{"member":"m1","peer":"w1","heartbeats":true}"#),
    ] {
        server.ask::<()>("FLUSHALL");
        let keys = keys(&server);
        keys.calibrate("gateway", member, "w1", SESSION);
        eventually("a first look", async || server.ran("get") > 0).await;
        if heartbeat {
            server.ask::<()>("SET mcpgw:worker_heartbeat:pod-1:7 alive EX 30");
        }
        server.ask::<()>(&format!("SET mcpgw:pool_owner:{SESSION} pod-1:7 EX 300"));
        let kept = "t:worker:gateway:pod-1:7";
        eventually("it is learnt", async || server.ask::<bool>(&format!("EXISTS {kept}"))).await;
        assert_eq!(server.ask::<String>(&format!("GET {kept}")), json);
        let left: u64 = server.ask(&format!("TTL {kept}"));
        assert!((3_590..=3_600).contains(&left), "{left}");
        server.ask::<()>("CONFIG RESETSTAT");
    }
}

#[tokio::test]
async fn a_peer_whose_worker_was_looked_for_a_moment_ago_is_left_alone() {
    let server = Server::start("");
    server.ask::<()>(&format!("SET mcpgw:pool_owner:{SESSION} pod-1:7"));
    let keys = keys(&server);
    keys.calibrate("gateway", None, "w1", SESSION);
    eventually("it is learnt", async || server.ran("set") == 2).await;
    for _ in 0..100 {
        keys.clone().calibrate("gateway", None, "w1", SESSION);
    }
    keys.calibrate("gateway", None, "w1", "not a session of the gateway's");
    keys.calibrate("gateway", Some("m2"), "w1", SESSION);
    keys.calibrate("another", None, "w1", SESSION);
    eventually("those of others are looked for", async || server.ran("set") == 4).await;
    assert_eq!(server.ran("get"), 3);
}
