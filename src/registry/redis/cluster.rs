//! A cluster: which of its nodes has a key, and a line to each of them.
//! Takes one key's command, sends it to the master of the key's slot and after it where that master says it went.
//! Surprise: redis-rs' cluster client is not used. One silent node holds up all the others there: it is never given up, and whenever
//! the slots are asked for anew, every command waits until it was dialled once more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::dial::{Dialer, Wire};
use super::keeper::{Keeper, Lost, pause};
use super::line::{Ask, Failure, Line};
use super::slots::{Address, Slots, parse, slot};
use super::source::Source;
use super::tally::Tally;
use crate::config::settings::{RedisLogin, RedisServer};

/// How often a command follows a key from node to node.
const REDIRECTS: usize = 4;
/// The slots are asked for anew at most so often, and at least so often.
const NOT_BEFORE: Duration = Duration::from_millis(200);
const IN_ANY_CASE: Duration = Duration::from_secs(30);

pub struct Cluster {
    dialer: Arc<Dialer>,
    /// As in the settings; one is enough to find the others.
    seeds: Vec<RedisServer>,
    name: Arc<str>,
    tally: Arc<Tally>,
    runtime: Handle,
    lines: Mutex<HashMap<Address, Line>>,
    map: watch::Sender<Map>,
    /// Somebody met something that the map does not say.
    stale: Notify,
}

/// What is known of the slots.
#[derive(Clone)]
enum Map {
    /// The first attempt is under way.
    Unknown,
    Known(Arc<Slots<Line>>),
    /// No node could ever be asked.
    Down {
        since: Instant,
        reason: Arc<str>,
    },
}

impl Cluster {
    /// Its tasks live on `runtime`, as long as that does.
    pub fn start(
        seeds: Vec<RedisServer>,
        dialer: Arc<Dialer>,
        name: Arc<str>,
        tally: Arc<Tally>,
        runtime: &Handle,
    ) -> Arc<Self> {
        let cluster = Arc::new(Self {
            dialer,
            seeds,
            name,
            tally,
            runtime: runtime.clone(),
            lines: Mutex::default(),
            map: watch::Sender::new(Map::Unknown),
            stale: Notify::new(),
        });
        runtime.spawn(cluster.clone().keep());
        cluster
    }

    pub async fn exchange(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        let mut line = self.owner(slot(ask.key())).await?;
        let mut asking = false;
        for _ in 0..REDIRECTS {
            let error = match line.exchange(ask, asking).await {
                Err(Failure::Redis(error)) => error,
                Err(down) => {
                    // Another node may have taken its place.
                    self.stale.notify_one();
                    return Err(down);
                }
                answer => return answer,
            };
            let Some(address) = error.redirect_node().and_then(|(address, _)| Address::parse(address)) else {
                return Err(error.into());
            };
            asking = error.code() == Some("ASK");
            if !asking {
                self.stale.notify_one();
            }
            line = self.line(&address);
        }
        Err(down("its key is sent from node to node"))
    }

    /// The line to the slot's master; waits while the slots may become known at any moment.
    async fn owner(&self, slot: u16) -> Result<Line, Failure> {
        let mut map = self.map.subscribe();
        let map = map.wait_for(|map| !matches!(map, Map::Unknown)).await.map(|map| map.clone());
        match map {
            Ok(Map::Known(slots)) => slots.of(slot).cloned().ok_or_else(|| {
                self.stale.notify_one();
                down("no node of the cluster has its slot")
            }),
            Ok(Map::Down { since, reason }) => Err(Failure::Down { since, reason }),
            Ok(Map::Unknown) | Err(_) => unreachable!("it is known, and its sender is here"),
        }
    }

    /// The line to a node; opened if there is none.
    fn line(&self, address: &Address) -> Line {
        let mut lines = self.lines();
        if let Some(line) = lines.get(address) {
            return line.clone();
        }
        let (line, kept) = Line::new();
        let Address { host, port } = address.clone();
        let name = format!("{}, node {host}:{port}", self.name).into();
        let source = Source::Node(RedisServer { host, port, login: self.login() });
        let keeper = Keeper { source, dialer: self.dialer.clone(), kept, name, tally: self.tally.clone() };
        self.runtime.spawn(keeper.run());
        lines.insert(address.clone(), line.clone());
        line
    }

    /// Keeps the map true.
    async fn keep(self: Arc<Self>) {
        let (mut failures, mut lost) = (0, Lost(None));
        loop {
            match self.ask_for_slots().await {
                Ok(found) => {
                    failures = 0;
                    self.install(found);
                    sleep(NOT_BEFORE).await;
                    // Either is a reason to ask.
                    let _ = timeout(IN_ANY_CASE, self.stale.notified()).await;
                }
                Err(reason) => {
                    failures += 1;
                    // Once the nodes are known, each says for itself that it is lost.
                    if !matches!(*self.map.borrow(), Map::Known(_)) {
                        let since = lost.lose(&self.name, &reason);
                        self.map.send_replace(Map::Down { since, reason: reason.into() });
                    }
                    sleep(pause(failures)).await;
                }
            }
        }
    }

    fn install(&self, found: Vec<(u16, u16, Address)>) {
        self.lines().retain(|address, _| found.iter().any(|(.., master)| master == address));
        let lines = found.into_iter().map(|(first, last, address)| (first, last, self.line(&address)));
        self.map.send_replace(Map::Known(Arc::new(Slots::new(lines))));
    }

    /// Of any node that is connected, else of any that the settings name.
    async fn ask_for_slots(&self) -> Result<Vec<(u16, u16, Address)>, String> {
        let connected: Vec<(String, Wire)> = {
            let lines = self.lines();
            lines.iter().filter_map(|(address, line)| Some((address.host.clone(), line.wire()?))).collect()
        };
        for (host, wire) in connected {
            if let Ok(found) = self.slots_of(&wire, &host).await {
                return Ok(found);
            }
        }
        let mut reasons = Vec::new();
        for seed in &self.seeds {
            let told = match self.dialer.data(seed).await {
                Ok((wire, _)) => self.slots_of(&wire, &seed.host).await,
                Err(reason) => Err(reason),
            };
            match told {
                Ok(found) => return Ok(found),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    async fn slots_of(&self, wire: &Wire, host: &str) -> Result<Vec<(u16, u16, Address)>, String> {
        let mut question = cmd("CLUSTER");
        question.arg("SLOTS");
        let answer = timeout(self.dialer.timeout.max(NOT_BEFORE), wire.send(&question, false)).await;
        match answer.map(|answer| answer.map(|slots| parse(slots, host))) {
            Ok(Ok(Some(found))) if !found.is_empty() => Ok(found),
            Ok(Ok(_)) => Err(format!("{host}: it knows of no slots")),
            Ok(Err(error)) => Err(format!("{host}: it tells no slots: {}", error.category())),
            Err(_) => Err(format!("{host}: it tells the slots too slowly")),
        }
    }

    /// All nodes have the same.
    fn login(&self) -> RedisLogin {
        self.seeds.first().map(|seed| seed.login.clone()).unwrap_or_default()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Address, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn down(reason: &str) -> Failure {
    Failure::Down { since: Instant::now(), reason: reason.into() }
}
