//! A cluster of three masters: keys on all of them, slots that move, nodes that stop and come back.
//! Each test starts its own cluster, which takes it two seconds.
//! Surprise: a script is known to a node only once it ran there, so the first sessions on each take the long way.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::servers::Server;
use super::*;

const TIMEOUT: Duration = Duration::from_millis(500);
/// For a busy machine to come round to it.
const MARGIN: Duration = Duration::from_millis(500);

fn member_of(nodes: &[Server]) -> Arc<Redis> {
    let topology = Topology::Cluster(nodes.iter().map(|node| at(node.port)).collect());
    Arc::new(Redis::open(&settings::Redis { timeout: TIMEOUT, ..settings(topology) }, HOUR).unwrap())
}

async fn connected(member: &Redis) {
    eventually("connected", async || member.check().await.is_ok()).await;
}

fn slot(node: &Server, key: &str) -> u16 {
    node.ask(&format!("CLUSTER KEYSLOT {key}"))
}

/// Index of the node that has the session's slot.
fn home(node: &Server, session: &SessionKey) -> usize {
    match slot(node, &in_redis(session)) {
        ..5_461 => 0,
        5_461..10_923 => 1,
        _ => 2,
    }
}

#[tokio::test]
async fn sessions_live_on_every_node() {
    let nodes = Server::cluster();
    // One node tells of the others.
    let (one, two) = (member_of(&nodes[..1]), member_of(&nodes));
    connected(&one).await;
    connected(&two).await;
    let w1 = owned_by("w1");
    for session in 0..60 {
        assert_eq!(one.claim(&key(session), &w1).await, Ok(Claimed::Won));
        assert_eq!(two.claim(&key(session), &owned_by("w2")).await, Ok(Claimed::Held(w1.clone())));
    }
    assert!(nodes.iter().all(|node| node.ask::<u64>("DBSIZE") > 5));
    let store = two.store();
    let keys: Vec<String> = (0..60).map(|session| in_redis(&key(session))).collect();
    let found = store.get_many(&keys).await.unwrap();
    assert!(found.len() == 60 && found.iter().flatten().all(|json| json.contains("w1")), "in their order");
    assert_eq!(store.beat("t:members", "m1", 2, 1).await, Ok(vec!["m1".into()]));
    for session in 0..60 {
        assert_eq!(two.release(&key(session), &w1).await, Ok(true));
    }
    assert_eq!(
        nodes.iter().map(|node| node.ask::<u64>("DBSIZE")).sum::<u64>(),
        1,
        "only the members are left"
    );
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let nodes = Server::cluster();
    let (member, w1) = (member_of(&nodes), owned_by("w1"));
    connected(&member).await;
    let ids = [0, 1, 2].map(|node: usize| nodes[node].ask::<String>("CLUSTER MYID"));
    let session = (0..).map(key).find(|session| home(&nodes[0], session) == 0).unwrap();
    let at = slot(&nodes[0], &in_redis(&session));
    member.claim(&session, &w1).await.unwrap();

    nodes[1].ask::<()>(&format!("CLUSTER SETSLOT {at} IMPORTING {}", ids[0]));
    nodes[0].ask::<()>(&format!("CLUSTER SETSLOT {at} MIGRATING {}", ids[1]));
    let moved: String =
        nodes[0].ask(&format!("MIGRATE 127.0.0.1 {} {} 0 1000", nodes[1].port, in_redis(&session)));
    assert_eq!(moved, "OK");
    member.forget(&session);
    assert_eq!(member.ask(&session).await, Ok(Some(w1.clone())), "on its way");

    for node in [1, 0, 2] {
        nodes[node].ask::<()>(&format!("CLUSTER SETSLOT {at} NODE {}", ids[1]));
    }
    member.forget(&session);
    assert_eq!(member.ask(&session).await, Ok(Some(w1.clone())), "arrived");
    assert_eq!(member.release(&session, &w1).await, Ok(true));
    assert_eq!(member.counters().refused, 0);
}

#[tokio::test]
async fn a_node_in_trouble_costs_only_its_own_sessions() {
    let mut nodes = Server::cluster();
    let member = member_of(&nodes);
    connected(&member).await;
    let of = |node: usize| (0..).map(key).find(|session| home(&nodes[0], session) == node).unwrap();
    let (well, ill) = (of(0), of(2));
    let ask_anew = async |session: &SessionKey| {
        member.forget(session);
        let began = Instant::now();
        let answer = member.ask(session).await;
        assert!(began.elapsed() < TIMEOUT + MARGIN, "{:?}", began.elapsed());
        answer
    };
    assert_eq!((ask_anew(&well).await, ask_anew(&ill).await), (Ok(None), Ok(None)));

    nodes[2].signal(Signal::SIGSTOP);
    let (stopped, mut asked) = (Instant::now(), 0);
    while stopped.elapsed() < Duration::from_secs(4) {
        let well = async {
            let began = Instant::now();
            assert_eq!(ask_anew(&well).await, Ok(None));
            assert!(
                began.elapsed() < MARGIN,
                "nobody waits for the one that is stopped: {:?}",
                began.elapsed()
            );
        };
        let ill = async { assert!(ask_anew(&ill).await.is_err()) };
        tokio::join!(well, ill);
        asked += 1;
    }
    assert!(asked > 100, "once its silence is known, there is nothing to wait for: {asked}");
    nodes[2].signal(Signal::SIGCONT);
    eventually("the stopped node is found again", async || ask_anew(&ill).await == Ok(None)).await;

    nodes.iter_mut().for_each(Server::kill);
    eventually("all are lost", async || {
        matches!(ask_anew(&well).await, Err(RegistryError::Unreachable { .. }))
    })
    .await;
    nodes.iter_mut().for_each(Server::start_again);
    eventually("all are found again", async || {
        ask_anew(&well).await == Ok(None) && ask_anew(&ill).await == Ok(None)
    })
    .await;
}

#[tokio::test]
async fn a_replica_takes_the_place_of_a_node_that_stops() {
    let nodes = Server::cluster();
    let replica = Server::cluster_replica(&nodes, 2);
    let (member, w1) = (member_of(&nodes), owned_by("w1"));
    connected(&member).await;
    let session = (0..).map(key).find(|session| home(&nodes[0], session) == 2).unwrap();
    member.claim(&session, &w1).await.unwrap();
    eventually("the claim is copied", async || replica.ask::<u64>("DBSIZE") == 1).await;
    nodes[2].signal(Signal::SIGSTOP);
    eventually("the replica is asked", async || {
        member.forget(&session);
        member.ask(&session).await == Ok(Some(w1.clone()))
    })
    .await;
    assert_eq!(member.release(&session, &w1).await, Ok(true));
    assert_eq!(replica.ask::<u64>("DBSIZE"), 0);
}
