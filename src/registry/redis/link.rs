//! This process's connection to Redis, one thread and one runtime for all of it, as every other thread uses it.
//! Takes commands from any runtime, gives answers within `redis.timeout`, and errors that name no key.
//! Surprise: nothing of a command runs on that thread but the reading and writing of its bytes; who asks does the rest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{FromRedisValue, Value};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::dial::Dialer;
use super::keeper::Keeper;
use super::line::{Ask, Failure, Line, code};
use super::source::Source;
use super::tally::Tally;
use crate::config::settings::{self, RedisServer, Topology};
use crate::registry::RegistryError;

/// A handle; clones are the same link. It is closed when the last one goes.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    way: Way,
    runtime: Handle,
    timeout: Duration,
    /// How Redis is called in logs and errors.
    server: Arc<str>,
    tally: Arc<Tally>,
    /// Ends the thread when it goes.
    _open: oneshot::Sender<()>,
}

enum Way {
    One(Line),
    Cluster(Arc<Cluster>),
}

impl Link {
    /// Never waits: Redis need not be there yet.
    pub fn open(settings: &settings::Redis) -> Result<Self, RegistryError> {
        let server = name(&settings.topology);
        let (open, closed) = oneshot::channel();
        let runtime = thread(closed)
            .map_err(|error| RegistryError::Thread { server: server.clone(), reason: error.to_string() })?;
        let (dialer, tally) = (Arc::new(Dialer::new(settings)), Arc::new(Tally::default()));
        let keep = |source| {
            let (line, kept) = Line::new();
            let (dialer, name, tally) = (dialer.clone(), server.clone(), tally.clone());
            runtime.spawn(Keeper { source, dialer, kept, name, tally }.run());
            Way::One(line)
        };
        let way = match settings.topology.clone() {
            Topology::Standalone(server) => keep(Source::Server(server)),
            Topology::Sentinel { sentinels, master, login } => {
                keep(Source::Sentinels { sentinels, master, login })
            }
            Topology::Cluster(seeds) => {
                Way::Cluster(Cluster::start(seeds, dialer.clone(), server.clone(), tally.clone(), &runtime))
            }
        };
        Ok(Self(Arc::new(Inner { way, runtime, timeout: settings.timeout, server, tally, _open: open })))
    }

    /// `doing` completes "cannot …" in the error's text.
    pub async fn ask<T: FromRedisValue>(
        &self,
        doing: &'static str,
        ask: Ask<'_>,
    ) -> Result<T, RegistryError> {
        let Inner { timeout: bound, server, tally, .. } = &*self.0;
        tally.commands.fetch_add(1, Relaxed);
        let server = || server.clone();
        // In a box, for every request could need a command and nearly none does: its future is larger than theirs.
        let answer = match timeout(*bound, Box::pin(self.exchange(&ask))).await {
            Ok(Ok(value)) => redis::from_redis_value(value).map_err(|_| self.unreadable(doing)),
            Ok(Err(Failure::Down { since, reason })) => {
                Err(RegistryError::Unreachable { server: server(), down: since.elapsed(), reason })
            }
            Ok(Err(Failure::Redis(error))) => {
                Err(RegistryError::Refused { server: server(), doing, code: code(&error) })
            }
            Err(_) => Err(RegistryError::Silent { server: server(), after: *bound }),
        };
        answer.inspect_err(|error| tally.failed(error))
    }

    /// Whether keys live on several servers, so that one command cannot read several of them.
    pub fn is_cluster(&self) -> bool {
        matches!(self.0.way, Way::Cluster(_))
    }

    /// Where tasks run beside their caller.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    pub fn unreadable(&self, doing: &'static str) -> RegistryError {
        RegistryError::Unreadable { server: self.0.server.clone(), doing }
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        match &self.0.way {
            Way::One(line) => line.exchange(ask, false).await,
            Way::Cluster(cluster) => cluster.exchange(ask).await,
        }
    }
}

/// The thread of everything that has to do with connections; it ends when `closed` is told.
fn thread(closed: oneshot::Receiver<()>) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let run = move || {
        // Told or forgotten: either is the end.
        let _ = runtime.block_on(closed);
    };
    std::thread::Builder::new().name("redis".into()).spawn(run)?;
    Ok(handle)
}

fn name(topology: &Topology) -> Arc<str> {
    match topology {
        Topology::Standalone(server) => format!("redis {server}").into(),
        Topology::Sentinel { master, .. } => format!("redis master {master}").into(),
        Topology::Cluster(seeds) => {
            let seeds: Vec<_> = seeds.iter().map(RedisServer::to_string).collect();
            format!("redis cluster {}", seeds.join(",")).into()
        }
    }
}
