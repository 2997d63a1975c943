//! One connection to one Redis server: TCP, TLS, login, and a pulse for as long as it lives.
//! Takes a server's address and login, gives a [`Wire`] that any thread may use, and the news of its end.
//! Surprise: redis-rs never gives up a connection whose server is silent (stopped, or behind a broken network), so each is pinged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, RedisResult, Value, cmd,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::tls;
use crate::config::settings::{Redis, RedisLogin, RedisServer, RedisTls};

/// How often a connection is pinged.
const PULSE: Duration = Duration::from_secs(1);
/// How long a ping, or all of opening a connection, may take. Longer than a hiccup of Redis (a fork, a slow disk).
const PATIENCE: Duration = Duration::from_secs(1);
/// Commands that may wait in front of the socket before their callers do.
const QUEUE: usize = 1_024;

/// Opens connections: whatever they need beside a server's address.
pub struct Dialer {
    tls: RedisTls,
    password_file: Option<PathBuf>,
    /// Bound of one command.
    pub timeout: Duration,
    /// Bound of everything that has to do with a connection itself.
    pub patience: Duration,
}

/// A connection to one server; clones are the same one. It is closed when the last is dropped, or when the server is silent.
#[derive(Clone)]
pub struct Wire {
    connection: MultiplexedConnection,
    _task: Arc<Task>,
}

/// Gives the reason when a wire has ended.
pub type Ended = oneshot::Receiver<String>;

/// What moves bytes and takes the pulse; aborted with the last clone of its wire.
struct Task(JoinHandle<()>);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Dialer {
    pub fn new(settings: &Redis) -> Self {
        Self {
            tls: settings.tls.clone(),
            password_file: settings.password_file.clone(),
            timeout: settings.timeout,
            patience: PATIENCE.max(settings.timeout),
        }
    }

    /// A connection to a server that holds data. The password is that of the file, if there is one.
    pub async fn data(&self, server: &RedisServer) -> Result<(Wire, Ended), String> {
        let password = match &self.password_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("password file {}: {error}", path.display()))?;
                Some(text.trim_end_matches(['\r', '\n']).to_string())
            }
            None => server.login.password.as_ref().map(|password| password.0.clone()),
        };
        self.open(server, password.as_deref()).await
    }

    /// A connection to a sentinel. Its password is that of its URL only.
    pub async fn sentinel(&self, server: &RedisServer) -> Result<Wire, String> {
        let password = server.login.password.as_ref().map(|password| password.0.as_str());
        self.open(server, password).await.map(|(wire, _)| wire)
    }

    async fn open(&self, server: &RedisServer, password: Option<&str>) -> Result<(Wire, Ended), String> {
        match timeout(self.patience, self.log_in(server, password)).await {
            Ok(opened) => opened.map_err(|reason| format!("{server}: {reason}")),
            Err(_) => Err(format!("{server}: no answer within {:?}", self.patience)),
        }
    }

    async fn log_in(&self, server: &RedisServer, password: Option<&str>) -> Result<(Wire, Ended), String> {
        let stream = self.stream(server).await?;
        let refusal = |error: RedisError| match server.login.tls && error.kind() == ErrorKind::Io {
            true => format!("{error} (does it accept our client certificate?)"),
            false => text(&error),
        };
        let info = info(&server.login, password);
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(QUEUE);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await.map_err(refusal)?;
        let (wire, ended) = Wire::new(server.to_string(), connection, driver, self.patience);
        // Only an answer shows that the login sufficed and that the data set is loaded.
        wire.send(&cmd("PING"), false).await.map_err(refusal)?;
        Ok((wire, ended))
    }

    async fn stream(&self, server: &RedisServer) -> Result<Box<dyn Stream>, String> {
        let tcp = connect(&server.host, server.port, self.patience).await?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(match server.login.tls {
            true => Box::new(tls::handshake(&self.tls, &server.host, tcp).await?),
            false => Box::new(tcp),
        })
    }
}

/// To the first address of the name that accepts; each has its share of the time.
async fn connect(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| error.to_string())?.collect();
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut reason = "the name has no address".to_string();
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = "connecting takes too long".to_string(),
        }
    }
    Err(reason)
}

fn info(login: &RedisLogin, password: Option<&str>) -> RedisConnectionInfo {
    // Whoever may not say what library it is would stand in the log of refusals with every connection.
    let info = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(login.database);
    let info = login.username.iter().fold(info, |info, username| info.set_username(username));
    password.into_iter().fold(info, |info, password| info.set_password(password))
}

/// What went wrong before any key was named. Redis may explain itself at length; the beginning will do.
fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}").chars().take(120).collect(),
        _ => error.to_string(),
    }
}

impl Wire {
    fn new(
        address: String,
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
        patience: Duration,
    ) -> (Self, Ended) {
        let (tell, ended) = oneshot::channel();
        let beating = pulse(connection.clone(), patience);
        let task = tokio::spawn(async move {
            let reason = tokio::select! {
                // Where both are over, the ping failed because the connection is closed.
                biased;
                () = driver => "the server closed the connection",
                () = beating => "the server is silent",
            };
            // Whoever does not listen asks, and is told that the connection is closed.
            let _ = tell.send(format!("{address}: {reason}"));
        });
        (Self { connection, _task: Arc::new(Task(task)) }, ended)
    }

    /// `asking`: for a key that is on its way to this node of a cluster, and not yet said to be there.
    pub async fn send(&self, command: &Cmd, asking: bool) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        if !asking {
            return connection.send_packed_command(command).await?.extract_error();
        }
        let mut both = Pipeline::new();
        both.cmd("ASKING").add_command(command.clone());
        let [_, answer] = <[Value; 2]>::try_from(connection.send_packed_commands(&both, 0, 2).await?)
            .map_err(|_| RedisError::from((ErrorKind::Parse, "two commands have two answers")))?;
        answer.extract_error()
    }

    /// What the server says it is (`master`, `replica`); before Redis 6 it does not say. No user needs leave to ask.
    pub async fn role(&self) -> Option<String> {
        let said = self.send(&cmd("HELLO"), false).await.ok()?;
        let mut said: HashMap<String, Value> = redis::from_redis_value(said).ok()?;
        redis::from_redis_value(said.remove("role")?).ok()
    }
}

/// Until a ping stays unanswered. An error is an answer, too.
async fn pulse(mut connection: MultiplexedConnection, patience: Duration) {
    let ping = cmd("PING");
    loop {
        sleep(PULSE).await;
        if !matches!(timeout(patience, connection.send_packed_command(&ping)).await, Ok(Ok(_))) {
            return;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
