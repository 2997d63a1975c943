//! The one connection of this process to Redis, and how every other thread uses it.
//! Takes commands from any runtime, gives answers within `redis.timeout`; who keeps the connection alive is the keeper's matter.
//! Surprise: a command whose connection broke is sent once more if another comes in time, so every command here must bear to run twice.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::keeper::Keeper;
use super::script::Run;
use super::tally::Tally;
use super::topology::{Connection, label};
use crate::config::settings;
use crate::registry::RegistryError;

/// A handle; clones are the same connection. It is closed when the last one goes.
#[derive(Clone)]
pub struct Link {
    states: watch::Receiver<State>,
    complaints: mpsc::UnboundedSender<Complaint>,
    runtime: Handle,
    timeout: Duration,
    server: Arc<str>,
    pub tally: Arc<Tally>,
}

/// Whether there is a connection.
#[derive(Clone)]
pub enum State {
    /// The first attempt since the start, or since the last connection was lost, is under way: it is worth waiting.
    Connecting,
    /// The number tells connections apart.
    Up(Connection, u64),
    /// Attempts fail.
    Down { since: Instant, reason: Arc<str> },
}

/// A user of connection `number` was told something that only another connection can cure.
pub struct Complaint {
    pub number: u64,
    pub reason: String,
}

/// What can be asked of Redis.
pub enum Ask<'a> {
    Command(&'a Cmd),
    Script(Run<'a>),
}

impl Link {
    /// Never waits: Redis need not be there yet.
    pub fn open(settings: &settings::Redis) -> Result<Self, RegistryError> {
        let server = label(&settings.topology);
        let tally = Arc::new(Tally::default());
        let (state, states) = watch::channel(State::Connecting);
        let (complaints, heard) = mpsc::unbounded_channel();
        let keeper = Keeper::new(settings, server.clone(), state, heard, tally.clone());
        let runtime = keeper
            .start()
            .map_err(|error| RegistryError::Thread { server: server.clone(), reason: error.to_string() })?;
        Ok(Self { states, complaints, runtime, timeout: settings.timeout, server, tally })
    }

    /// `doing` completes "cannot …" in the error's text.
    pub async fn ask<T: FromRedisValue>(
        &self,
        doing: &'static str,
        ask: Ask<'_>,
    ) -> Result<T, RegistryError> {
        self.tally.commands.fetch_add(1, Relaxed);
        let answer = match timeout(self.timeout, self.exchange(&ask)).await {
            Ok(Ok(value)) => redis::from_redis_value(value).map_err(|_| self.unreadable(doing)),
            Ok(Err(Failure::Down { since, reason })) => Err(self.unreachable(since, reason)),
            Ok(Err(Failure::Redis(error))) => Err(self.refused(doing, &error)),
            Err(_) => Err(RegistryError::Silent { server: self.server.clone(), after: self.timeout }),
        };
        answer.inspect_err(|error| self.tally.failed(error))
    }

    /// Runs beside the caller, on the connection's own thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub fn unreadable(&self, doing: &'static str) -> RegistryError {
        RegistryError::Unreadable { server: self.server.clone(), doing }
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        let mut states = self.states.clone();
        let (mut connection, number) = connected(&mut states, None).await?;
        match ask.send(&mut connection).await {
            Err(error) if matches!(connection, Connection::Single(_)) && is_over(&error) => {
                // The keeper is there for as long as we are.
                let _ = self.complaints.send(Complaint { number, reason: code(&error) });
                let (mut another, _) = connected(&mut states, Some(number)).await?;
                Ok(ask.send(&mut another).await?)
            }
            answer => Ok(answer?),
        }
    }

    fn refused(&self, doing: &'static str, error: &RedisError) -> RegistryError {
        RegistryError::Refused { server: self.server.clone(), doing, code: code(error) }
    }

    fn unreachable(&self, since: Instant, reason: Arc<str>) -> RegistryError {
        RegistryError::Unreachable { server: self.server.clone(), down: since.elapsed(), reason }
    }
}

enum Failure {
    Down { since: Instant, reason: Arc<str> },
    Redis(RedisError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// A connection other than `lost`; waits while one may come at any moment.
async fn connected(
    states: &mut watch::Receiver<State>,
    lost: Option<u64>,
) -> Result<(Connection, u64), Failure> {
    let settled = |state: &State| match state {
        State::Connecting => false,
        State::Up(_, number) => Some(*number) != lost,
        State::Down { .. } => true,
    };
    // The sender goes only with its thread.
    let state = match states.wait_for(settled).await {
        Ok(state) => state.clone(),
        Err(_) => {
            State::Down { since: Instant::now(), reason: "its thread has ended (a bug of Outrigger)".into() }
        }
    };
    match state {
        State::Up(connection, number) => Ok((connection, number)),
        State::Down { since, reason } => Err(Failure::Down { since, reason }),
        State::Connecting => unreachable!("not settled"),
    }
}

impl Ask<'_> {
    async fn send(&self, connection: &mut Connection) -> Result<Value, RedisError> {
        match self {
            Self::Command(command) => connection.req_packed_command(command).await?.extract_error(),
            Self::Script(run) => run.send(connection).await,
        }
    }
}

/// Whether only another connection can help: this one is closed, its server takes no writes, or wants another login.
fn is_over(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
        || matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH"))
}

/// The first word of what Redis said. Never more: the rest may repeat a key.
fn code(error: &RedisError) -> String {
    match error.code() {
        Some(code) if code.bytes().all(|byte| byte.is_ascii_uppercase()) => code.to_string(),
        Some(_) => "ERR".to_string(),
        None => error.category().to_string(),
    }
}
