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
