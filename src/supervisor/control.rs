//! What supervisor and worker say to each other: JSON lines over a Unix socket pair that the worker has as its stdin.
//! The supervisor's first line is [`Order::Start`]; the worker answers with [`Report`]s; both sides use this file.
//! Surprise: the end of the channel is a message too. The kernel closes it when the supervisor dies, however it dies, and
//! the worker then drains.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::LevelFilter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::event::{Fault, Number};
use crate::account::Snapshot;
use crate::logging;

/// How long the supervisor may take to ask all others.
const ANSWER: Duration = Duration::from_millis(500);

/// Supervisor to worker.
#[derive(Serialize, Deserialize)]
pub enum Order {
    Start(Start),
    /// Something changed that a worker shows; sent to every generation that serves or drains.
    Status(Status),
    /// Somebody wants to know what all have counted: say your part.
    Count,
    /// Answer to [`Report::Scrape`]: what all others have counted.
    Others(Snapshot),
    LogLevel(LevelFilter),
    /// Nobody comes after: what is idle need not be waited for.
    Stop,
}

/// What a worker needs to become a generation. No `Debug`: the configuration may hold secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    pub generation: Number,
    /// Name of the configuration file, for messages; the text below counts, the file may have changed since.
    pub file: String,
    /// The YAML as it was checked by the supervisor.
    pub config: String,
    /// What the files held that it names.
    pub kept: BTreeMap<PathBuf, Vec<u8>>,
    /// Where this generation's Pingora waits for its sockets.
    pub upgrade_sock: PathBuf,
    pub status: Status,
}

/// What a worker shows on behalf of the supervisor. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When the supervisor began.
    pub began: u64,
    pub reloads_ok: u64,
    pub reloads_failed: u64,
    pub last_reload: Option<Reloaded>,
    /// When a reload last ended well.
    pub last_success: Option<u64>,
    /// Starts because no generation was left, each try counted.
    pub restarts: u64,
    /// Every worker process that is not gone, oldest first.
    pub generations: Vec<Generation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub at: u64,
    pub result: Outcome,
    /// Why it was refused, as the log says it.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    pub generation: Number,
    pub state: Life,
    /// Since when it is in this state.
    pub since: u64,
    /// What it was started for.
    pub cause: String,
    /// What lives in it, where it has said so.
    pub connections: Option<usize>,
    pub streams: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    Starting,
    Serving,
    Draining,
    Killed,
}

/// Worker to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// All listeners were probed and answer.
    Ready,
    /// This worker will not become ready.
    Failed { fault: Fault, reason: String },
    /// This generation drains; what still lives in it. Said at once, and again when it has changed.
    Live { connections: usize, streams: usize },
    /// What this generation has counted; also its last word.
    Counted(Snapshot),
    /// The same, and the question what the others have.
    Scrape(Snapshot),
    /// Somebody wants all processes to log so much, until the next reload.
    LogLevel(LevelFilter),
}

/// The worker's end of the channel. All methods may be called from any thread.
pub struct Worker {
    reader: Mutex<BufReader<UnixStream>>,
    writer: Mutex<UnixStream>,
    status: Mutex<Status>,
    others: watch::Sender<Option<Arc<Snapshot>>>,
    stopping: watch::Sender<bool>,
}

impl Worker {
    /// # Errors
    /// If stdin is no socket: this process was not started by a supervisor.
    pub fn from_stdin() -> io::Result<Self> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.peer_addr().map_err(|_| {
            io::Error::other(
                "stdin is not a supervisor's control channel: a worker is started by `outrigger run`",
            )
        })?;
        Self::new(stream)
    }

    fn new(stream: UnixStream) -> io::Result<Self> {
        let writer = Mutex::new(stream.try_clone()?);
        let reader = Mutex::new(BufReader::new(stream));
        Ok(Self {
            reader,
            writer,
            status: Mutex::default(),
            others: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
        })
    }

    /// Waits for the first order.
    ///
    /// # Errors
    /// If the supervisor is gone, or the line is not a [`Start`].
    pub fn start(&self) -> io::Result<Start> {
        match receive(&mut *held(&self.reader))? {
            Some(Order::Start(start)) => {
                held(&self.status).clone_from(&start.status);
                Ok(start)
            }
            Some(_) => Err(io::Error::other("the first order is not to start")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// # Errors
    /// If the supervisor is gone.
    pub fn report(&self, report: &Report) -> io::Result<()> {
        send(&mut *held(&self.writer), report)
    }

    /// What the supervisor said last. It is heard by the thread that is inside [`Self::wait_closed`].
    pub fn status(&self) -> Status {
        held(&self.status).clone()
    }

    /// What all other generations have counted, also those that are gone. While the supervisor does not answer, what it said last.
    ///
    /// # Errors
    /// If it has never answered, or is gone.
    pub async fn others(&self, own: Snapshot) -> io::Result<Arc<Snapshot>> {
        let mut answers = self.others.subscribe();
        self.report(&Report::Scrape(own))?;
        // The sender is here: only the time can run out.
        let _ = tokio::time::timeout(ANSWER, answers.changed()).await;
        answers.borrow().clone().ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Whether the whole sidecar stops; heard as the status is.
    pub fn stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns once the whole sidecar stops.
    pub async fn told_to_stop(&self) {
        // It cannot fail: the sender is here.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Hears the supervisor and returns when it is gone. `count`: what this generation has counted.
    pub fn wait_closed(&self, count: impl Fn() -> Snapshot) {
        let mut reader = held(&self.reader);
        while let Ok(Some(order)) = receive(&mut *reader) {
            match order {
                Order::Status(status) => *held(&self.status) = status,
                Order::Count => {
                    // A supervisor that is gone is met by the next turn of the loop.
                    let _ = self.report(&Report::Counted(count()));
                }
                Order::Others(others) => drop(self.others.send_replace(Some(Arc::new(others)))),
                Order::LogLevel(level) => logging::set_level(level),
                Order::Stop => drop(self.stopping.send_replace(true)),
                Order::Start(_) => {}
            }
        }
    }
}

/// One message as a line; whole or not at all as far as the other side can see.
pub fn send<T: Serialize>(channel: &mut impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    channel.write_all(&line)
}

/// The next message; `None` at the end of the channel.
///
/// # Errors
/// If the channel breaks (a reset is its end, too, where the other side died with words unread), or a line is not a `T`.
pub fn receive<T: DeserializeOwned>(channel: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    match channel.read_line(&mut line)? {
        0 => Ok(None),
        _ => Ok(Some(serde_json::from_str(&line)?)),
    }
}

/// A lock whose holder panicked still guards a whole value here: nothing is ever left half written.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn start() -> Start {
        Start {
            generation: 7,
            file: "outrigger.yaml".into(),
            config: "listeners:\n  - address: \"[::1]:8080\"\n".into(),
            kept: BTreeMap::from([("/certs/tls.crt".into(), b"\xff".to_vec())]),
            upgrade_sock: "/run/outrigger-1/7.sock".into(),
            status: Status { restarts: 3, ..Status::default() },
        }
    }

    #[test]
    fn both_directions_and_the_end() {
        let (mut supervisor, worker) = UnixStream::pair().unwrap();
        let worker = Worker::new(worker).unwrap();
        send(&mut supervisor, &Order::Start(start())).unwrap();
        let received = worker.start().unwrap();
        assert_eq!((received.generation, received.config), (7, start().config));
        assert_eq!(worker.status().restarts, 3);

        let mut reports = BufReader::new(supervisor.try_clone().unwrap());
        let failed = Report::Failed { fault: Fault::Config, reason: "two\nlines".into() };
        worker.report(&failed).unwrap();
        worker.report(&Report::Ready).unwrap();
        assert_eq!(receive(&mut reports).unwrap(), Some(failed));
        assert_eq!(receive(&mut reports).unwrap(), Some(Report::Ready));

        let reason = Some("line 3: no such key".into());
        let status = Status {
            reloads_failed: 1,
            last_reload: Some(Reloaded { at: 1_790_000_000, result: Outcome::Failed, reason }),
            ..Status::default()
        };
        send(&mut supervisor, &Order::Status(status.clone())).unwrap();
        drop((supervisor, reports));
        worker.wait_closed(Snapshot::default);
        assert_eq!(worker.status(), status);
    }

    #[test]
    fn a_supervisor_that_died_before_its_first_word() {
        let (supervisor, worker) = UnixStream::pair().unwrap();
        drop(supervisor);
        let error = Worker::new(worker).unwrap().start().map(|start| start.generation).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
