//! PID 1: owns the listening sockets, starts a worker per generation, hands the sockets over, and reaps.
//! Takes the configuration file, signals and the workers' reports; gives the process's exit code.
//! Surprise: it knows nothing of HTTP and has no runtime. Every decision is [`generation::step`]; this loop carries events
//! in and effects out, and a reload, a first start and a restart after a crash are one path.

pub mod control;
mod event;
mod folder;
mod generation;
mod plan;
mod process;
pub mod sockets;
mod state;
mod stop;
mod story;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::logging;
use control::{Counters, Report};
use event::{Counts, Effect, Event, Which};
pub use event::{Fault, Number};
use folder::Folder;
use plan::{Plan, Refusal};
use process::{Children, Input};
use sockets::Sockets;
use state::State;
pub use stop::stop;
use story::Story;

/// Runs until a stop was asked and every worker is gone. Gives the exit code: 0 after a clean stop, 64 if the
/// configuration is wrong, 1 if the first start failed for another reason.
pub fn run(config: &Path) -> u8 {
    // First of all: a signal that comes before its handler would end us, or be lost on PID 1.
    let inbox = mpsc::channel();
    let started = spawn_signals(inbox.0.clone())
        .map_err(|cause| Refusal { fault: Fault::System, reason: format!("cannot watch signals: {cause}") })
        .and_then(|()| Supervisor::new(config, inbox.0));
    match started {
        Ok((supervisor, state)) => supervisor.run(state, &inbox.1),
        Err(refusal) => {
            // The settings, and with them the log's format, may not be known.
            eprintln!("{}", refusal.reason);
            refusal.fault.exit_code()
        }
    }
}

struct Supervisor {
    config: PathBuf,
    /// Served last, or serves.
    current: Option<Plan>,
    /// Loaded, not yet known to serve.
    candidate: Option<Plan>,
    children: Children,
    began: Instant,
    began_unix: Duration,
    exit: Option<u8>,
}

impl Supervisor {
    fn new(config: &Path, inbox: Sender<Input>) -> Result<(Self, State), Refusal> {
        let plan = Plan::load(config, None)?;
        logging::init(&plan.log, "supervisor");
        let folder = Folder::create(plan.folder.as_deref()).map_err(|cause| Refusal {
            fault: Fault::System,
            reason: format!("no folder to be had for the upgrade sockets: {cause}"),
        })?;
        let state = State::new(plan.limits);
        let supervisor = Self {
            config: config.to_path_buf(),
            current: None,
            candidate: Some(plan),
            children: Children::new(inbox, folder),
            began: Instant::now(),
            began_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            exit: None,
        };
        Ok((supervisor, state))
    }

    fn run(mut self, state: State, inbox: &Receiver<Input>) -> u8 {
        let mut state = self.carry(state, vec![Event::Begin]);
        loop {
            if let Some(code) = self.exit {
                logging::flush();
                return code;
            }
            let events = self.wait(&state, inbox);
            state = self.carry(state, events);
        }
    }

    /// The next events, at the latest when the state wants a tick.
    fn wait(&mut self, state: &State, inbox: &Receiver<Input>) -> Vec<Event> {
        let input = match state.deadline() {
            None => inbox.recv().map_err(RecvTimeoutError::from),
            Some(at) => inbox.recv_timeout(at.saturating_sub(self.began.elapsed())),
        };
        match input {
            Ok(Input::Signal(SIGHUP)) => vec![Event::ReloadAsked],
            Ok(Input::Signal(SIGTERM | SIGINT)) => vec![Event::StopAsked],
            Ok(Input::Signal(_)) => self.children.reap(),
            Ok(Input::Report(generation, report)) => vec![event(generation, report)],
            Ok(Input::Closed(generation)) => self.children.closed(generation),
            Err(_) => vec![Event::Tick],
        }
    }

    /// Takes the state through the events, and through those that are answers to effects.
    fn carry(&mut self, mut state: State, events: Vec<Event>) -> State {
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            let (next, effects) = generation::step(state, self.began.elapsed(), event);
            state = next;
            events.extend(effects.into_iter().filter_map(|effect| self.perform(effect)));
        }
        state
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Load => return Some(self.load()),
            Effect::Start { generation, with, counts } => return self.start(generation, with, counts),
            Effect::Adopt => self.current = self.candidate.take(),
            Effect::Discard => self.candidate = None,
            Effect::Close => self.close(),
            Effect::Terminate(generation) => self.children.signal(generation, Signal::SIGTERM),
            Effect::Kill(generation) => self.children.signal(generation, Signal::SIGKILL),
            Effect::Count(generation, counts) => self.children.count(generation, self.counters(counts)),
            Effect::Tell(story) => tell(&story),
            Effect::Exit(code) => self.exit = Some(code),
        }
        None
    }

    fn close(&mut self) {
        self.children.stop();
        for plan in [&mut self.current, &mut self.candidate].into_iter().flatten() {
            plan.sockets = Sockets::default();
        }
    }

    fn load(&mut self) -> Event {
        match Plan::load(&self.config, self.current.as_ref()) {
            Ok(plan) => {
                let limits = plan.limits;
                self.candidate = Some(plan);
                Event::Loaded(limits)
            }
            Err(Refusal { reason, .. }) => Event::LoadRefused { reason },
        }
    }

    /// `None` if the worker is on its way.
    fn start(&mut self, generation: Number, with: Which, counts: Counts) -> Option<Event> {
        let counters = self.counters(counts);
        let plan = match with {
            Which::Candidate => self.candidate.as_ref(),
            Which::Current => self.current.as_ref(),
        };
        let started = match plan {
            Some(plan) => self.children.start(generation, plan, counters),
            None => Err(io::Error::other("no configuration to start from")),
        };
        started.err().map(|error| Event::StartRefused { generation, reason: error.to_string() })
    }

    fn counters(&self, counts: Counts) -> Counters {
        Counters {
            reloads_ok: counts.reloads_ok,
            reloads_failed: counts.reloads_failed,
            last_reload_unix: counts.last_reload.map(|after| (self.began_unix + after).as_secs()),
            restarts: counts.restarts,
        }
    }
}

fn spawn_signals(inbox: Sender<Input>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGCHLD])?;
    let watch = move || {
        for signal in signals.forever() {
            // The inbox is closed only when the supervisor is past its end.
            let _ = inbox.send(Input::Signal(signal));
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
}

fn event(generation: Number, report: Report) -> Event {
    match report {
        Report::Ready => Event::Ready { generation },
        Report::Failed { fault, reason } => Event::Failed { generation, fault, reason },
        Report::Live { connections, streams } => Event::Live { generation, connections, streams },
    }
}

fn tell(story: &Story) {
    let level = if story.is_trouble() { log::Level::Error } else { log::Level::Info };
    log::log!(level, "{story}");
}
