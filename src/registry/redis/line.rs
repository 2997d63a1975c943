//! One kept connection, to one server at a time, as those see it who send commands on it.
//! Takes commands from any runtime, gives answers or the reason why there is no connection; its keeper opens the next one.
//! Surprise: a command whose connection broke is sent once more if another comes in time, so every command here must bear to run twice.

use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::sync::{mpsc, watch};

use super::dial::Wire;
use super::script::Run;

/// A handle; clones are the same connection. It is closed when the last one goes.
#[derive(Clone)]
pub struct Line {
    states: watch::Receiver<State>,
    complaints: mpsc::UnboundedSender<Complaint>,
}

/// The other end of a line, for its keeper.
pub struct Kept {
    pub state: watch::Sender<State>,
    pub complaints: mpsc::UnboundedReceiver<Complaint>,
}

/// Whether there is a connection.
#[derive(Clone)]
pub enum State {
    /// The first attempt since the start, or since the last connection was lost, is under way: it is worth waiting.
    Connecting,
    /// The number tells connections apart.
    Up(Wire, u64),
    /// Attempts fail.
    Down { since: Instant, reason: Arc<str> },
}

/// Somebody was told on connection `number` what only another connection can cure.
pub struct Complaint {
    pub number: u64,
    pub reason: String,
}

/// What can be asked of Redis, on one key.
pub enum Ask<'a> {
    Command { key: &'a str, command: &'a Cmd },
    Script(Run<'a>),
}

/// Why there is no answer.
pub enum Failure {
    Down { since: Instant, reason: Arc<str> },
    Redis(RedisError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Line {
    pub fn new() -> (Self, Kept) {
        let (state, states) = watch::channel(State::Connecting);
        let (complaints, heard) = mpsc::unbounded_channel();
        (Self { states, complaints }, Kept { state, complaints: heard })
    }

    /// `asking`: see [`Wire::send`].
    pub async fn exchange(&self, ask: &Ask<'_>, asking: bool) -> Result<Value, Failure> {
        let mut states = self.states.clone();
        let (wire, number) = connected(&mut states, None).await?;
        match ask.send(&wire, asking).await {
            Err(error) if is_over(&error) => {
                // The keeper is there for as long as we are.
                let _ = self.complaints.send(Complaint { number, reason: code(&error) });
                let (another, _) = connected(&mut states, Some(number)).await?;
                Ok(ask.send(&another, asking).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// The connection of this moment, if there is one.
    pub fn wire(&self) -> Option<Wire> {
        match &*self.states.borrow() {
            State::Up(wire, _) => Some(wire.clone()),
            State::Connecting | State::Down { .. } => None,
        }
    }
}

/// A connection other than `lost`; waits while one may come at any moment.
async fn connected(states: &mut watch::Receiver<State>, lost: Option<u64>) -> Result<(Wire, u64), Failure> {
    let settled = |state: &State| match state {
        State::Connecting => false,
        State::Up(_, number) => Some(*number) != lost,
        State::Down { .. } => true,
    };
    match states.wait_for(settled).await.map(|state| state.clone()) {
        Ok(State::Up(wire, number)) => Ok((wire, number)),
        Ok(State::Down { since, reason }) => Err(Failure::Down { since, reason }),
        Ok(State::Connecting) => unreachable!("it is not settled"),
        Err(_) => Err(Failure::Down { since: Instant::now(), reason: "its keeper is gone".into() }),
    }
}

impl Ask<'_> {
    pub fn key(&self) -> &str {
        match self {
            Self::Command { key, .. } | Self::Script(Run { key, .. }) => key,
        }
    }

    async fn send(&self, wire: &Wire, asking: bool) -> Result<Value, RedisError> {
        match self {
            Self::Command { command, .. } => wire.send(command, asking).await,
            Self::Script(run) => run.send(wire, asking).await,
        }
    }
}

/// Whether only another connection can help: this one is closed, its server takes no writes, or wants another login.
fn is_over(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
        || matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH"))
}

/// The first word of what Redis said. Never more: the rest may repeat a key.
pub fn code(error: &RedisError) -> String {
    match error.code() {
        Some(code) if code.bytes().all(|byte| byte.is_ascii_uppercase()) => code.to_string(),
        Some(_) => "ERR".to_string(),
        None => error.category().to_string(),
    }
}
