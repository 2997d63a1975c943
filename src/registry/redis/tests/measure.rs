//! What the Redis registry costs: time of a hit, a miss and a claim over loopback; bytes of a session in Redis and in the cache.
//! Run by hand, optimised, on a quiet machine: `cargo test --release --lib redis::tests::measure -- --ignored --nocapture`.
//! Surprise: most of a miss is two threads waking each other; Redis itself needs some microseconds.

use std::hint::black_box;

use super::servers::Server;
use super::*;

const SESSIONS: u32 = 100_000;

/// As long as those of a pod with ContextForge behind.
fn real_claim() -> Claim {
    Claim {
        member: Some("outrigger-gateway-7d9f8b6c5d-x2x4z".into()),
        peer: "127.0.0.1:4444".into(),
        server_id: Some("9f8b6c5d7d9f4e1ba1c2d3e4f5a6b7c8".into()),
        transport: Transport::StreamableHttp,
    }
}

async fn each<F: Future>(what: &str, times: u32, mut act: impl FnMut(u32) -> F) {
    let mut taken: Vec<Duration> = Vec::with_capacity(times as usize);
    let began = Instant::now();
    for time in 0..times {
        let start = Instant::now();
        black_box(act(time).await);
        taken.push(start.elapsed());
    }
    let mean = began.elapsed() / times;
    taken.sort();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    println!("{what}: mean {mean:?}, p50 {:?}, p99 {:?}", at(0.5), at(0.99));
}

/// Runs `each` of 100 tasks at once; the slowest single act.
async fn at_once<F>(mut each: impl FnMut(u32) -> F) -> Duration
where
    F: Future<Output = Duration> + Send + 'static,
{
    let tasks: Vec<_> = (0..100).map(|task| tokio::spawn(each(task))).collect();
    let mut slowest = Duration::ZERO;
    for task in tasks {
        slowest = slowest.max(task.await.unwrap());
    }
    slowest
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn used(server: &Server) -> u64 {
    let memory: String = server.ask("INFO memory");
    memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_it_costs() {
    let server = Server::start("");
    let (member, claim) = (member(&server, HOUR), real_claim());
    member.claim(&key("hot"), &claim).await.unwrap();
    let hot = key("hot");
    let began = Instant::now();
    for _ in 0..1_000_000 {
        black_box(member.ask(&hot).await.unwrap());
    }
    println!("hit: {:?}", began.elapsed() / 1_000_000);

    each("claim", 10_000, async |at| member.claim(&key(at), &claim).await.unwrap()).await;
    each("miss", 10_000, async |at| {
        member.forget(&key(at));
        member.ask(&key(at)).await.unwrap()
    })
    .await;
    each("unknown session", 10_000, async |at| member.ask(&key(SESSIONS + at)).await.unwrap()).await;
    let began = Instant::now();
    let asking: Vec<_> = (0..64)
        .map(|task| {
            let member = member.clone();
            tokio::spawn(async move {
                for at in 0..2_000 {
                    member.ask(&key(format!("{task} {at}"))).await.unwrap();
                }
            })
        })
        .collect();
    for task in asking {
        task.await.unwrap();
    }
    println!("64 at once: {:.0} misses a second", 64.0 * 2_000.0 / began.elapsed().as_secs_f64());

    server.ask::<()>("FLUSHALL");
    let (in_redis_before, here_before) = (used(&server), resident());
    for at in 0..SESSIONS {
        member.claim(&key(at), &claim).await.unwrap();
    }
    let per_session = |bytes: u64| bytes / u64::from(SESSIONS);
    println!("in Redis: {} bytes a session", per_session(used(&server) - in_redis_before));
    println!("MEMORY USAGE: {}", server.ask::<u64>(&format!("MEMORY USAGE {}", in_redis(&key(1)))));
    println!("in the cache: {} bytes a session", per_session(resident().saturating_sub(here_before)));
}

/// A hundred members with ten thousand sessions each; some sessions are hot at all of them, and then a member dies.
#[tokio::test]
#[ignore = "a measurement"]
async fn a_hundred_members_and_a_million_sessions() {
    const EACH: u32 = 10_000;
    let server = Server::start("");
    let members: Vec<_> = (0..100).map(|_| member(&server, HOUR)).collect();
    let id = |member: u32, session: u32| key(member * EACH + session);
    let (before, began) = (used(&server), Instant::now());
    let slowest = at_once(|at| {
        let (member, mut slowest) = (members[at as usize].clone(), Duration::ZERO);
        async move {
            for session in 0..EACH {
                let start = Instant::now();
                assert_eq!(member.claim(&id(at, session), &real_claim()).await, Ok(Claimed::Won));
                slowest = slowest.max(start.elapsed());
            }
            slowest
        }
    });
    println!("claimed: slowest {:?}, all in {:?}", slowest.await, began.elapsed());
    println!("in Redis: {} bytes a session", (used(&server) - before) / u64::from(100 * EACH));

    // Of each member ten sessions are hot; every other member gets ten requests of each.
    let (ran, began) = (server.ran("evalsha"), Instant::now());
    at_once(|at| {
        let member = members[at as usize].clone();
        async move {
            for _ in 0..10 {
                for hot in (0..100).flat_map(|owner| (0..10).map(move |session| id(owner, session))) {
                    member.ask(&hot).await.unwrap().unwrap();
                }
            }
            Duration::ZERO
        }
    })
    .await;
    let ran = server.ran("evalsha") - ran;
    println!("a million uses: {ran} commands, {:.3} each, in {:?}", ran as f64 / 1e6, began.elapsed());

    // Member 0 dies; every one of its sessions is asked for elsewhere, found lost, released, and begun anew.
    let (ran, began) = (server.ran("evalsha"), Instant::now());
    let slowest = at_once(|at| {
        let (member, mut slowest) = (members[at as usize].clone(), Duration::ZERO);
        async move {
            for session in (0..EACH).filter(|session| session % 100 == at) {
                let start = Instant::now();
                let lost = id(0, session);
                member.forget(&lost);
                let claim = member.ask(&lost).await.unwrap().unwrap();
                assert_eq!(member.release(&lost, &claim).await, Ok(true));
                let anew = key(format!("anew {session}"));
                assert_eq!(member.claim(&anew, &real_claim()).await, Ok(Claimed::Won));
                slowest = slowest.max(start.elapsed());
            }
            slowest
        }
    });
    let slowest = slowest.await;
    let ran = server.ran("evalsha") - ran;
    println!("a member's death: {ran} commands, slowest session {slowest:?}, all in {:?}", began.elapsed());
}
