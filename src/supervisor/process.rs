//! The worker processes: started, given their sockets, listened to, signalled and reaped.
//! Takes the effects about one generation; gives events into the supervisor's inbox or as answers.
//! Surprise: a child counts as gone only when it is reaped *and* its channel is read to the end; otherwise its last words
//! (why it failed) could come after the news of its death.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::control::{self, Order, Report, Start, Status};
use super::event::{Event, Exit, Fault, Number};
use super::folder::Folder;
use super::plan::Plan;
use super::sockets::Sockets;

/// How often a new generation's upgrade socket is looked for, in milliseconds.
const LOOK_INTERVAL: u16 = 20;
/// How long the supervisor waits for a worker to read. One that stands still must not hold it up.
const HEARING: Duration = Duration::from_secs(1);

/// What comes to the supervisor from outside its loop.
pub enum Input {
    Signal(i32),
    Report(Number, Report),
    /// The generation has no more to say.
    Closed(Number),
    /// The files may have changed.
    Look,
}

pub struct Children {
    inbox: Sender<Input>,
    folder: Folder,
    children: BTreeMap<Number, Child>,
}

struct Child {
    pid: Pid,
    channel: UnixStream,
    upgrade_sock: PathBuf,
    exit: Option<Exit>,
    closed: bool,
    /// It did not read in time, and may have got half of a line.
    deaf: bool,
}

impl Child {
    /// Only after its `Start`, which has all the time it needs.
    fn tell(&mut self, generation: Number, order: &Order) {
        if self.deaf {
            return;
        }
        let told = self.channel.set_write_timeout(Some(HEARING));
        if let Err(error) = told.and_then(|()| control::send(&mut self.channel, order)) {
            self.deaf = true;
            log::debug!("generation {generation} does not listen: {error}");
        }
    }
}

impl Children {
    pub fn new(inbox: Sender<Input>, folder: Folder) -> Self {
        Self { inbox, folder, children: BTreeMap::new() }
    }

    /// Starts a worker. It gets its order to start and its sockets from a thread, because both may block.
    ///
    /// # Errors
    /// If there is no process.
    pub fn start(&mut self, generation: Number, plan: &Plan, status: Status) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let upgrade_sock = self.folder.upgrade_sock(generation);
        let start = Start {
            generation,
            file: plan.file.clone(),
            config: plan.text.clone(),
            kept: plan.kept.clone(),
            upgrade_sock: upgrade_sock.clone(),
            status,
        };
        // The threads come first: without a process they end by themselves, while a process without them would be deaf.
        spawn_listener(generation, ours.try_clone()?, self.inbox.clone())?;
        spawn_handoff(ours.try_clone()?, start, plan.sockets.clone(), self.inbox.clone())?;
        let mut command = Command::new("/proc/self/exe");
        if !plan.system_cas {
            // OpenSSL's own way to name the system's CAs. Each of Pingora's connectors reads them all, 1.7 MB at a time.
            command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/dev/null");
        }
        let process = command
            .arg0("outrigger")
            .arg("worker")
            .stdin(OwnedFd::from(theirs))
            // Ctrl-C goes to the whole foreground group, but it is for the supervisor to say who drains.
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_raw(process.id().cast_signed());
        let child = Child { pid, channel: ours, upgrade_sock, exit: None, closed: false, deaf: false };
        self.children.insert(generation, child);
        Ok(())
    }

    pub fn signal(&self, generation: Number, signal: Signal) {
        // Once reaped, the process id may be somebody else's.
        if let Some(child) = self.children.get(&generation).filter(|child| child.exit.is_none())
            && let Err(error) = kill(child.pid, signal)
        {
            log::error!("{signal} to generation {generation}: {error}");
        }
    }

    pub fn tell(&mut self, generation: Number, order: &Order) {
        if let Some(child) = self.children.get_mut(&generation) {
            child.tell(generation, order);
        }
    }

    /// Tells every generation that no other comes after it.
    pub fn stop(&mut self) {
        for (generation, child) in &mut self.children {
            child.tell(*generation, &Order::Stop);
        }
    }

    pub fn closed(&mut self, generation: Number) -> Vec<Event> {
        if let Some(child) = self.children.get_mut(&generation) {
            child.closed = true;
        }
        self.take_gone()
    }

    /// Reaps every child that ended, our workers and, as PID 1, everybody's orphans.
    pub fn reap(&mut self) -> Vec<Event> {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal.as_str())),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => {
                    log::error!("waiting for children: {error}");
                    break;
                }
            };
            match self.children.values_mut().find(|child| child.pid == pid && child.exit.is_none()) {
                Some(child) => child.exit = Some(exit),
                None => log::debug!("orphan {pid} reaped: {exit}"),
            }
        }
        self.take_gone()
    }

    fn take_gone(&mut self) -> Vec<Event> {
        let gone = self.children.extract_if(.., |_, child| child.closed && child.exit.is_some());
        gone.filter_map(|(generation, child)| {
            // Left there only by a worker that was killed while it waited for its sockets.
            let _ = fs::remove_file(&child.upgrade_sock);
            Some(Event::Exited { generation, exit: child.exit? })
        })
        .collect()
    }
}

/// Passes a worker's reports on until it has no more to say.
fn spawn_listener(generation: Number, channel: UnixStream, inbox: Sender<Input>) -> io::Result<()> {
    let listen = move || {
        let mut channel = BufReader::new(channel);
        while let Ok(Some(report)) = control::receive(&mut channel) {
            // The inbox is closed only when the supervisor is past its end.
            let _ = inbox.send(Input::Report(generation, report));
        }
        let _ = inbox.send(Input::Closed(generation));
    };
    thread::Builder::new().name("listener".into()).spawn(listen).map(drop)
}

fn spawn_handoff(
    channel: UnixStream,
    start: Start,
    sockets: Sockets,
    inbox: Sender<Input>,
) -> io::Result<()> {
    let (generation, upgrade_sock) = (start.generation, start.upgrade_sock.clone());
    let hand_over = move || {
        let mut channel = channel;
        // A worker that is gone by then is reported by its end.
        if control::send(&mut channel, &Order::Start(start)).is_err() || !receives(&channel, &upgrade_sock) {
            return;
        }
        if let Err(error) = sockets.send(&upgrade_sock) {
            let reason = format!("handing over the listening sockets: {error}");
            let _ = inbox.send(Input::Report(generation, Report::Failed { fault: Fault::System, reason }));
        }
    };
    thread::Builder::new().name("handoff".into()).spawn(hand_over).map(drop)
}

/// Waits until Pingora listens on its upgrade socket; false if the worker ended instead.
fn receives(channel: &UnixStream, upgrade_sock: &Path) -> bool {
    let mut seen = false;
    loop {
        // Between its bind, which makes the file, and its listen there are microseconds: seen twice is surely listening.
        // A connect that comes too early would cost Pingora's retry interval of one second.
        if seen {
            return true;
        }
        seen = upgrade_sock.exists();
        let mut gone = [PollFd::new(channel.as_fd(), PollFlags::empty())];
        if poll(&mut gone, LOOK_INTERVAL).is_ok_and(|events| events > 0) {
            return false;
        }
    }
}
