//! Which servers a connection leads to: the one, the sentinels' master, or the masters of a cluster.
//! Takes the checked topology, gives a [`Connection`] and the news of its end; sentinels are asked anew each time.
//! Surprise: redis-rs makes a cluster's connections without asking whom they are for, so ours finds its dialer on the thread.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use redis::cluster_async::{ClusterConnection, Connect};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, Value, cmd,
};
use tokio::time::{sleep, timeout};

use super::dial::{Dialer, Ended, Wire};
use crate::config::settings::{Redis, RedisLogin, RedisServer, Topology};

/// How often a cluster is asked whether any of it is there.
const PROBE: Duration = Duration::from_secs(1);
/// After a node that cannot be connected to. redis-rs tries again at once, for as long as no node tells it the slots.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a command may be sent to a cluster again: moved, node gone, node silent.
const CLUSTER_RETRIES: u32 = 3;

/// What commands are sent on; clones are the same connection.
#[derive(Clone)]
pub enum Connection {
    Single(Wire),
    Cluster(ClusterConnection<Wire>),
}

/// Comes with the reason when a connection is over.
pub type End = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// Where Redis is, and how it is reached.
pub struct Servers {
    topology: Topology,
    dialer: Arc<Dialer>,
    /// The sentinel that helped last is asked first.
    sentinel: usize,
}

impl Servers {
    pub fn new(settings: &Redis) -> Self {
        Self { topology: settings.topology.clone(), dialer: Arc::new(Dialer::new(settings)), sentinel: 0 }
    }

    /// One attempt, bounded in time. To be called on one thread only.
    pub async fn open(&mut self) -> Result<(Connection, End), String> {
        match &self.topology {
            Topology::Standalone(server) => master(&self.dialer, server).await.map(single),
            Topology::Sentinel { sentinels, master, login } => {
                let mut reasons = Vec::new();
                for turn in 0..sentinels.len() {
                    let at = (self.sentinel + turn) % sentinels.len();
                    match by_sentinel(&self.dialer, &sentinels[at], master, login).await {
                        Ok(opened) => {
                            self.sentinel = at;
                            return Ok(single(opened));
                        }
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(reasons.join("; "))
            }
            Topology::Cluster(nodes) => cluster(&self.dialer, nodes).await,
        }
    }
}

/// How a topology is called in logs and errors.
pub fn label(topology: &Topology) -> Arc<str> {
    let address = |server: &RedisServer| format!("{}:{}", server.host, server.port);
    match topology {
        Topology::Standalone(server) => format!("redis {}", address(server)).into(),
        Topology::Sentinel { master, .. } => format!("redis master {master}").into(),
        Topology::Cluster(nodes) => {
            let nodes: Vec<_> = nodes.iter().map(address).collect();
            format!("redis cluster {}", nodes.join(",")).into()
        }
    }
}

fn single((wire, ended): (Wire, Ended)) -> (Connection, End) {
    let end = async { ended.await.unwrap_or("the connection was given up") };
    (Connection::Single(wire), Box::pin(end))
}

/// A server that takes writes, as far as it lets us know.
async fn master(dialer: &Dialer, server: &RedisServer) -> Result<(Wire, Ended), String> {
    let (mut wire, ended) = dialer.data(server).await?;
    match timeout(dialer.patience, wire.role()).await {
        Ok(Some(role)) if role == "replica" || role == "slave" => {
            Err(format!("{}:{}: it is a replica", server.host, server.port))
        }
        _ => Ok((wire, ended)),
    }
}

async fn by_sentinel(
    dialer: &Dialer,
    sentinel: &RedisServer,
    name: &str,
    login: &RedisLogin,
) -> Result<(Wire, Ended), String> {
    let told = |what: &str| format!("sentinel {}:{}: {what}", sentinel.host, sentinel.port);
    let mut asked = dialer.sentinel(sentinel).await.map_err(|reason| format!("sentinel {reason}"))?;
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let answer = timeout(dialer.patience, question.query_async::<Option<(String, u16)>>(&mut asked));
    let (host, port) = match answer.await {
        Ok(Ok(Some(address))) => address,
        Ok(Ok(None)) => return Err(told("it watches no master of this name")),
        Ok(Err(error)) => return Err(told(error.category())),
        Err(_) => return Err(told("no answer")),
    };
    master(dialer, &RedisServer { host, port, login: login.clone() }).await
}

thread_local! {
    /// Who dials for the cluster of this thread, and as whom.
    static CLUSTER: RefCell<Option<(Arc<Dialer>, RedisLogin)>> = const { RefCell::new(None) };
}

async fn cluster(dialer: &Arc<Dialer>, nodes: &[RedisServer]) -> Result<(Connection, End), String> {
    let login = nodes.first().map(|node| node.login.clone()).unwrap_or_default();
    CLUSTER.with_borrow_mut(|dials| *dials = Some((dialer.clone(), login)));
    let client = ClusterClient::builder(nodes.iter().map(|node| (node.host.clone(), node.port)))
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(5)
        .max_retry_wait(40)
        .overall_response_timeout(None)
        .build()
        .map_err(reason)?;
    // The nodes, the slots, and then every master: three dials after each other.
    let opening = timeout(dialer.patience * 3, client.get_async_generic_connection::<Wire>());
    let connection =
        opening.await.map_err(|_| "no node tells the slots in time".to_string())?.map_err(reason)?;
    let end = probe(connection.clone(), dialer.patience);
    Ok((Connection::Cluster(connection), Box::pin(end)))
}

/// Until no node of the cluster answers. A node that is lost among others is redis-rs' to find again.
async fn probe(mut cluster: ClusterConnection<Wire>, patience: Duration) -> &'static str {
    let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    loop {
        sleep(PROBE).await;
        let answer = timeout(patience, cluster.route_command(cmd("PING"), anywhere.clone())).await;
        if !matches!(answer, Ok(Ok(_))) {
            return "no node of the cluster answers";
        }
    }
}

fn reason(error: RedisError) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_string)
}

impl Connect for Wire {
    fn connect_with_config<'a, T>(node: T, _: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        let dials = CLUSTER.with_borrow(Clone::clone);
        Box::pin(async move {
            let node = node.into_connection_info()?;
            let (Some((dialer, login)), ConnectionAddr::Tcp(host, port)) = (dials, node.addr()) else {
                return Err((ErrorKind::InvalidClientConfig, "not a cluster of this thread").into());
            };
            match dialer.data(&RedisServer { host: host.clone(), port: *port, login }).await {
                // A command that one node does not answer is sent to the one that took its place.
                Ok((wire, _)) => Ok(wire.bounded(dialer.timeout)),
                Err(reason) => {
                    sleep(PAUSE).await;
                    Err((ErrorKind::Io, "no connection", reason).into())
                }
            }
        })
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(wire) => wire.req_packed_command(command),
            Self::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(wire) => wire.req_packed_commands(commands, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(wire) => wire.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}
