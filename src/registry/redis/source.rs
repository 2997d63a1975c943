//! Which server a kept connection leads to: the one of the settings, the sentinels' master, or a node of a cluster.
//! Takes a [`Dialer`], gives a connection to a server that may be written to, as far as it tells.
//! Surprise: a replica that was connected to by name is refused here, so that nobody waits for a write to be.

use tokio::time::timeout;

use super::dial::{Dialer, Ended, Wire};
use crate::config::settings::{RedisLogin, RedisServer};

pub enum Source {
    Server(RedisServer),
    /// They are asked anew for each connection; the one that helped last goes first.
    Sentinels {
        sentinels: Vec<RedisServer>,
        master: String,
        login: RedisLogin,
    },
    /// Says itself, with every answer, whether it is the right one.
    Node(RedisServer),
}

impl Source {
    /// One attempt, bounded in time. The reason is for the log.
    pub async fn open(&mut self, dialer: &Dialer) -> Result<(Wire, Ended), String> {
        match self {
            Self::Server(server) => master(dialer, server).await,
            Self::Node(server) => dialer.data(server).await,
            Self::Sentinels { sentinels, master, login } => {
                let mut reasons = Vec::new();
                for at in 0..sentinels.len() {
                    match by_sentinel(dialer, &sentinels[at], master, login).await {
                        Ok(opened) => {
                            sentinels[..=at].rotate_right(1);
                            return Ok(opened);
                        }
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(reasons.join("; "))
            }
        }
    }
}

async fn master(dialer: &Dialer, server: &RedisServer) -> Result<(Wire, Ended), String> {
    let (wire, ended) = dialer.data(server).await?;
    match timeout(dialer.patience, wire.role()).await {
        Ok(Some(role)) if role == "replica" || role == "slave" => Err(format!("{server}: it is a replica")),
        _ => Ok((wire, ended)),
    }
}

async fn by_sentinel(
    dialer: &Dialer,
    sentinel: &RedisServer,
    name: &str,
    login: &RedisLogin,
) -> Result<(Wire, Ended), String> {
    let told = |what: &str| format!("sentinel {sentinel}: {what}");
    let asked = dialer.sentinel(sentinel).await.map_err(|reason| format!("sentinel {reason}"))?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let answer = match timeout(dialer.patience, asked.send(&question, false)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(told(error.category())),
        Err(_) => return Err(told("no answer")),
    };
    let Ok(address) = redis::from_redis_value::<Option<(String, u16)>>(answer) else {
        return Err(told("it answers in no known way"));
    };
    let Some((host, port)) = address else { return Err(told("it watches no master of this name")) };
    master(dialer, &RedisServer { host, port, login: login.clone() }).await
}
