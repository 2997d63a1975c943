//! Sizing for many pods: what sessions and requests cost Redis, and what the death of a member does to it, by simulation in a real one.
//! Asserted is what no machine can change (commands, bytes, who got what); times are printed for who asks with `--nocapture`.
//! Surprise: a simulated member is all of a member that talks to Redis, with a connection and a cache of its own, so that a hundred of
//! them fit into one process; `make bench` counts the same commands behind real ones.

mod census;
mod member;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::servers::Server;
use crate::registry::SessionKey;
use census::{Census, Peak};
use member::{Member, Met};

/// Requests of each kind in the mix.
const SAMPLE: usize = 1_000;
/// Requests of a member under way at a time.
const LANES: usize = 8;
/// A session in Redis: its key and claim, and its share of the tables of keys and of times.
const MOST_BYTES: u64 = 512;
/// Nothing else is asked of Redis; above all nothing that looks at all keys.
const ALLOWED: [&str; 11] =
    ["del", "eval", "evalsha", "get", "mget", "pexpire", "ping", "set", "zadd", "zrange", "zremrangebyscore"];

#[tokio::test]
async fn ten_members_and_twenty_thousand_sessions() {
    simulate(10, 20_000).await;
}

#[tokio::test]
#[ignore = "takes minutes: make long"]
async fn a_hundred_members_and_a_million_sessions() {
    simulate(100, 1_000_000).await;
}

async fn simulate(members: usize, sessions: usize) {
    println!("{members} members, {sessions} sessions, one Redis");
    let world = Arc::new(World::start(members).await);
    all_begin(&world, sessions).await;
    beat(&world).await;
    mix(&world).await;
    a_member_dies(&world, sessions).await;
    the_rest_is_as_it_was(&world, sessions).await;
    the_new_ones_are_spread(&world, sessions / members).await;
    for command in world.census().calls.keys() {
        assert!(ALLOWED.contains(&command.as_str()), "no member should give {command}");
    }
}

struct World {
    server: Server,
    members: Vec<Member>,
}

impl World {
    /// Every member is connected and published, and has used the scripts.
    async fn start(members: usize) -> Self {
        let server = Server::start("");
        let members: Vec<Member> = (0..members).map(|number| Member::start(number, server.port)).collect();
        for (number, member) in members.iter().enumerate() {
            member.beat().await;
            member.begin(&key("first", number)).await;
            assert_eq!(member.request(&key("first", number)).await, Met::Here);
            member.end(&key("first", number)).await;
        }
        server.ask::<()>("CONFIG RESETSTAT");
        Self { server, members }
    }

    fn census(&self) -> Census {
        Census::of(&self.server)
    }

    /// Commands that the members have given.
    fn asked(&self) -> u64 {
        self.members.iter().map(Member::asked).sum()
    }

    fn owner(&self, session: usize) -> &Member {
        &self.members[session % self.members.len()]
    }

    /// Any of the others.
    fn foreigner(&self, session: usize) -> &Member {
        let others = self.members.len() - 1;
        &self.members[(session + 1 + session / self.members.len() % others) % self.members.len()]
    }

    /// The one that will die.
    fn dead(&self) -> usize {
        self.members.len() / 2
    }

    /// One of the others, as a load balancer draws it.
    fn alive(&self, drawn: u64) -> &Member {
        let others = self.members.len() - 1;
        &self.members[(self.dead() + 1 + drawn as usize % others) % self.members.len()]
    }
}

/// Chance that is the same in every run.
fn drawn(client: usize, what: &str) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|at| key(what, client).as_bytes()[at]))
}

fn key(kind: &str, number: usize) -> SessionKey {
    SessionKey::new("gateway", &format!("{kind}-{number:032x}"))
}

/// What `action` gives for every number below `count`, as many at a time as there are lanes.
async fn every<T, F>(
    world: &Arc<World>,
    count: usize,
    lanes: usize,
    action: impl Fn(Arc<World>, usize) -> F + Copy + Send + 'static,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut running = JoinSet::new();
    for lane in 0..lanes {
        let world = world.clone();
        running.spawn(async move {
            let mut results = Vec::new();
            for number in (lane..count).step_by(lanes) {
                results.push(action(world.clone(), number).await);
            }
            results
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

/// As many sessions begin at each member.
async fn all_begin(world: &Arc<World>, sessions: usize) {
    let (empty, asked, began) = (world.census(), world.asked(), Instant::now());
    every(world, sessions, LANES * world.members.len(), |world, session| async move {
        world.owner(session).begin(&key("s", session)).await;
    })
    .await;
    let took = began.elapsed().as_secs_f64();
    let full = world.census();
    let (bytes, each) = ((full.memory - empty.memory) / sessions as u64, sessions as f64);
    let known: u64 = world.server.ask(&format!("MEMORY USAGE outrigger:session:{}", key("s", 0).hex()));
    println!("claimed in {took:.1} s, {:.0} a second", each / took);
    println!("a session takes {bytes} bytes of Redis' memory; its key alone, by MEMORY USAGE, {known}");
    println!(
        "a claim takes {:.1} µs of Redis' processor and {:.0} bytes of network",
        (full.cpu - empty.cpu) / each * 1e6,
        (full.traffic - empty.traffic) as f64 / each
    );
    assert_eq!(world.asked() - asked, sessions as u64, "a claim is one command");
    assert_eq!(full.keys - empty.keys, sessions as u64);
    assert!(known <= bytes && bytes <= MOST_BYTES, "{bytes} bytes a session");
}

/// Every member says that it lives.
async fn beat(world: &Arc<World>) {
    let beat_all = || {
        every(world, world.members.len(), 1, |world, number| async move {
            world.members[number].beat().await;
        })
    };
    // The first of them knows all others only if they have lived until now.
    beat_all().await;
    let (before, asked) = (world.census(), world.asked());
    beat_all().await;
    let (after, members) = (world.census(), world.members.len());
    let of_each = |sum: u64| sum as f64 / members as f64;
    println!(
        "a beat takes {} commands, {:.0} µs of Redis' processor and {:.0} bytes of network",
        of_each(world.asked() - asked),
        (after.cpu - before.cpu) / members as f64 * 1e6,
        of_each(after.traffic - before.traffic)
    );
    assert_eq!(world.asked() - asked, 3 * members as u64);
}

/// A request, as far as Redis has to do with it.
#[derive(Debug, Clone, Copy)]
enum Request {
    Initialize,
    AtOwner,
    Elsewhere,
    Last,
    TooLate,
}

/// In this order, and what each asks of Redis.
const MIX: [(Request, &str, u64); 7] = [
    (Request::Initialize, "begins a session", 1),
    (Request::AtOwner, "at the owner's member", 0),
    (Request::Elsewhere, "the first at another member", 1),
    (Request::Elsewhere, "later ones there", 0),
    (Request::AtOwner, "and again at the owner's", 0),
    (Request::Last, "ends a session", 1),
    (Request::TooLate, "of a session that has ended", 1),
];

/// What each kind of request costs, for sessions that are used at least once a minute.
async fn mix(world: &Arc<World>) {
    for (request, what, commands) in MIX {
        let (before, asked) = (world.census(), world.asked());
        every(world, SAMPLE, LANES, move |world, session| async move {
            let (key, owner) = (key("mix", session), world.owner(session));
            match request {
                Request::Initialize => drop(owner.begin(&key).await),
                Request::AtOwner => assert_eq!(owner.request(&key).await, Met::Here),
                Request::Elsewhere => {
                    let met = world.foreigner(session).request(&key).await;
                    assert!(matches!(met, Met::At(_)), "{met:?}");
                }
                Request::Last => owner.end(&key).await,
                Request::TooLate => assert_eq!(owner.request(&key).await, Met::Nobody),
            }
        })
        .await;
        let asked = world.asked() - asked;
        println!(
            "request, {what}: {} commands {:?}",
            asked as f64 / SAMPLE as f64,
            world.census().calls_since(&before, SAMPLE)
        );
        assert_eq!(asked, commands * SAMPLE as u64, "{what}");
    }
}

/// What became of a client whose member died.
struct Client {
    met: Vec<Met>,
    /// How long until it was told.
    told: Duration,
}

/// One member dies. Each of its clients comes again by any of the others, is told that its session is lost, and begins another one.
async fn a_member_dies(world: &Arc<World>, sessions: usize) {
    let lost = sessions / world.members.len();
    let (before, asked, watched, began) = (world.census(), world.asked(), world.clone(), Instant::now());
    let peak = Peak::watch(move || watched.asked());
    let clients = every(world, lost, LANES * world.members.len(), client_of_the_dead).await;
    let (took, peak, asked, after) = (began.elapsed(), peak.end(), world.asked() - asked, world.census());

    let mut told: Vec<Duration> = clients.iter().map(|client| client.told).collect();
    told.sort();
    println!(
        "a member dies: {lost} sessions lost and begun anew, {:.2} commands each {:?}",
        asked as f64 / lost as f64,
        after.calls_since(&before, lost)
    );
    println!(
        "all of them at once: {took:.1?}, at most {peak:.0} commands a second; told after {:.1?} (half of them) to {:.1?}",
        told[lost / 2],
        told[lost - 1]
    );
    let by_this = Met::Lost { by_this: true };
    for client in &clients {
        let found_out = client.met.iter().filter(|met| **met == by_this).count();
        assert!(found_out == 1 && !client.met.contains(&Met::Nobody), "{:?}", client.met);
    }
    // A request asks for the owner and for its member, and leaves word; and each client begins one session.
    let requests: usize = clients.iter().map(|client| client.met.len()).sum();
    assert!(asked <= 3 * requests as u64 + lost as u64, "{asked} commands");
    assert_eq!(
        after.keys - before.keys,
        lost as u64,
        "the new sessions, beside what is left of the lost ones"
    );
}

/// Every tenth client has two requests under way, at two members, and another one later, at a third.
async fn client_of_the_dead(world: Arc<World>, client: usize) -> Client {
    let (session, began) = (key("s", client * world.members.len() + world.dead()), Instant::now());
    let member = |next| world.alive(drawn(client, "entry") + next);
    let mut met = Vec::new();
    let told;
    if client.is_multiple_of(10) {
        let both =
            tokio::join!(member(0).request_to_the_dead(&session), member(1).request_to_the_dead(&session));
        told = began.elapsed();
        met.extend([both.0, both.1, member(2).request(&session).await]);
    } else {
        met.push(member(0).request_to_the_dead(&session).await);
        told = began.elapsed();
    }
    world.alive(drawn(client, "initialize")).begin(&key("new", client)).await;
    Client { met, told }
}

/// Sessions of the other members are where they were; one of a hundred is asked for.
async fn the_rest_is_as_it_was(world: &Arc<World>, sessions: usize) {
    every(world, sessions / 100, LANES, |world, number| async move {
        let session = number * 100 + number % 100;
        if session % world.members.len() != world.dead() {
            let met = world.foreigner(session).request(&key("s", session)).await;
            assert!(matches!(met, Met::At(_)), "session {session}: {met:?}");
        }
    })
    .await;
}

/// The new sessions of those who lost theirs stand in Redis, at each of the members and peers left in proportion.
async fn the_new_ones_are_spread(world: &Arc<World>, lost: usize) {
    let claims = every(world, lost, LANES, |world, client| async move {
        world.members[world.dead()].registry.ask(&key("new", client)).await.unwrap().unwrap()
    })
    .await;
    let members = shares(claims.iter().filter_map(|claim| claim.member.clone()));
    let peers = shares(claims.iter().map(|claim| claim.peer.clone()));
    let (least, most) = (members.values().min(), members.values().max());
    println!("new sessions at each member left: {least:?} to {most:?}; by peer {peers:?}");
    assert_eq!(members.len(), world.members.len() - 1);
    assert_eq!(peers.len(), 2);
    for shares in [members, peers] {
        let even = lost as f64 / shares.len() as f64;
        // Six times what chance alone strays by.
        let stray = shares.iter().find(|(_, share)| (**share as f64 - even).abs() > 6.0 * even.sqrt());
        assert_eq!(stray, None, "{even:.0} would be even");
    }
}

fn shares(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    names.fold(BTreeMap::new(), |mut shares, name| {
        *shares.entry(name).or_default() += 1;
        shares
    })
}
