//! PID 1: owns the listening sockets, starts a worker per generation, hands the sockets over, and reaps.
//! Takes the configuration file, signals and the workers' reports; gives the process's exit code.
//! Surprise: it knows nothing of HTTP and has no runtime. Every decision is [`generation::step`]; this loop carries events
//! in and effects out, and a reload, a first start and a restart after a crash are one path.

pub mod control;
mod event;
mod files;
mod folder;
mod generation;
mod ledger;
mod plan;
mod process;
pub mod sockets;
mod state;
mod status;
mod stop;
mod story;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::logging;
use control::{Order, Report, Status};
use event::{Effect, Event, Fingerprint, Which};
pub use event::{Fault, Number};
use files::Files;
use folder::Folder;
use ledger::{Answer, Ledger};
use plan::{Attempt, Plan, Refusal};
use process::{Children, Input};
use sockets::Sockets;
use state::State;
pub use stop::stop;
use story::Story;
use watch::Watch;

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
    ledger: Ledger,
    /// What the last load looked at, and what it or a look since has found there.
    files: Files,
    found: Fingerprint,
    watch: Option<Watch>,
    inbox: Sender<Input>,
    /// What the workers were told last.
    told: Status,
    began: Instant,
    began_unix: Duration,
    exit: Option<u8>,
}

impl Supervisor {
    fn new(config: &Path, inbox: Sender<Input>) -> Result<(Self, State), Refusal> {
        let Attempt { plan, files, fingerprint } = Attempt::make(config, None);
        let plan = plan?;
        logging::init(&plan.log, "supervisor");
        let version = env!("CARGO_PKG_VERSION");
        log::info!(event = "begin", version, config = plan.file.as_str(); "outrigger {version} runs {}", plan.file);
        let folder = Folder::create(plan.folder.as_deref()).map_err(|cause| Refusal {
            fault: Fault::System,
            reason: format!("no folder to be had for the upgrade sockets: {cause}"),
        })?;
        let state = State::new(plan.limits);
        let supervisor = Self {
            config: config.to_path_buf(),
            current: None,
            candidate: Some(plan),
            children: Children::new(inbox.clone(), folder),
            ledger: Ledger::default(),
            files,
            found: fingerprint,
            watch: None,
            inbox,
            told: Status::default(),
            began: Instant::now(),
            began_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            exit: None,
        };
        Ok((supervisor, state))
    }

    fn run(mut self, state: State, inbox: &Receiver<Input>) -> u8 {
        let mut state = self.carry(state, vec![Event::Files(self.found), Event::Begin]);
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
        let input = match state.deadline().into_iter().chain(self.ledger.deadline()).min() {
            None => inbox.recv().map_err(RecvTimeoutError::from),
            Some(at) => inbox.recv_timeout(at.saturating_sub(self.began.elapsed())),
        };
        match input {
            Ok(Input::Signal(SIGHUP)) => vec![Event::ReloadAsked],
            Ok(Input::Signal(SIGTERM | SIGINT)) => vec![Event::StopAsked],
            Ok(Input::Signal(_)) => self.children.reap(),
            Ok(Input::Report(generation, report)) => {
                self.hear(state, generation, report).into_iter().collect()
            }
            Ok(Input::Closed(generation)) => self.children.closed(generation),
            Ok(Input::Look) => self.look(),
            Err(_) => {
                let answers = self.ledger.late(self.began.elapsed());
                self.answer(answers);
                vec![Event::Tick]
            }
        }
    }

    /// What the generations have counted is for each other; the rest decides about them.
    fn hear(&mut self, state: &State, generation: Number, report: Report) -> Option<Event> {
        let answers = match report {
            Report::Ready => return Some(Event::Ready { generation }),
            Report::Failed { fault, reason } => return Some(Event::Failed { generation, fault, reason }),
            Report::Live { connections, streams } => {
                return Some(Event::Live { generation, connections, streams });
            }
            Report::LogLevel(level) => {
                logging::set_level(level);
                for other in state.answering() {
                    self.children.tell(other, &Order::LogLevel(level));
                }
                Vec::new()
            }
            Report::Counted(numbers) => self.ledger.counted(generation, numbers),
            Report::Scrape(numbers) => {
                let others: BTreeSet<Number> =
                    state.answering().filter(|other| *other != generation).collect();
                for other in &others {
                    self.children.tell(*other, &Order::Count);
                }
                self.ledger.ask(generation, numbers, others, self.began.elapsed())
            }
        };
        self.answer(answers);
        None
    }

    fn answer(&mut self, answers: Vec<Answer>) {
        for Answer { to, others } in answers {
            self.children.tell(to, &Order::Others(others));
        }
    }

    /// Takes the state through the events, and through those that are answers to effects.
    fn carry(&mut self, mut state: State, events: Vec<Event>) -> State {
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            if let Event::Exited { generation, .. } = event {
                let answers = self.ledger.gone(generation);
                self.answer(answers);
            }
            let (next, effects) = generation::step(state, self.began.elapsed(), event);
            state = next;
            for effect in effects {
                events.extend(self.perform(effect, &state));
            }
        }
        self.publish(&state);
        state
    }

    /// The events that answer the effect.
    fn perform(&mut self, effect: Effect, state: &State) -> Vec<Event> {
        match effect {
            Effect::Load => return self.load(),
            Effect::Start { generation, with } => return self.start(generation, with, self.status(state)),
            Effect::Adopt => self.adopt(),
            Effect::Discard => self.candidate = None,
            Effect::Close => self.close(),
            Effect::Terminate(generation) => self.children.signal(generation, Signal::SIGTERM),
            Effect::Kill(generation) => self.children.signal(generation, Signal::SIGKILL),
            Effect::Tell(story) => tell(&story),
            Effect::Exit(code) => self.exit = Some(code),
        }
        Vec::new()
    }

    fn adopt(&mut self) {
        self.current = self.candidate.take();
        if let Some(plan) = &self.current {
            logging::change(&plan.log);
        }
        self.attend();
    }

    fn close(&mut self) {
        self.children.stop();
        for plan in [&mut self.current, &mut self.candidate].into_iter().flatten() {
            plan.sockets = Sockets::default();
        }
    }

    fn load(&mut self) -> Vec<Event> {
        let Attempt { plan, files, fingerprint } = Attempt::make(&self.config, self.current.as_ref());
        (self.files, self.found) = (files, fingerprint);
        self.attend();
        let answer = match plan {
            Ok(plan) => {
                let limits = plan.limits;
                self.candidate = Some(plan);
                Event::Loaded(limits)
            }
            Err(Refusal { fault, reason }) => Event::LoadRefused { fault, reason },
        };
        vec![Event::Files(fingerprint), answer]
    }

    /// No event if the worker is on its way.
    fn start(&mut self, generation: Number, with: Which, status: Status) -> Vec<Event> {
        let plan = match with {
            Which::Candidate => self.candidate.as_ref(),
            Which::Current => self.current.as_ref(),
        };
        let started = match plan {
            Some(plan) => self.children.start(generation, plan, status),
            None => Err(io::Error::other("no configuration to start from")),
        };
        let refused = |error: io::Error| Event::StartRefused { generation, reason: error.to_string() };
        started.err().map(refused).into_iter().collect()
    }
}

/// The files.
impl Supervisor {
    /// Watches what the last load looked at, if the configuration in force says so.
    fn attend(&mut self) {
        let wanted = self.current.as_ref().is_some_and(|plan| plan.watch);
        if wanted && self.watch.is_none() {
            match Watch::start(self.inbox.clone()) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => log::error!("files are not watched: {error}"),
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.aim(&if wanted { self.files.folders() } else { BTreeSet::new() });
        }
    }

    fn look(&mut self) -> Vec<Event> {
        if !self.current.as_ref().is_some_and(|plan| plan.watch) {
            return Vec::new();
        }
        // First, so that what happens after the look is told.
        self.attend();
        let found = self.files.fingerprint();
        if found == self.found {
            return Vec::new();
        }
        self.found = found;
        vec![Event::Files(found)]
    }
}

/// What the workers show.
impl Supervisor {
    fn publish(&mut self, state: &State) {
        let status = self.status(state);
        if status != self.told {
            for generation in state.answering() {
                self.children.tell(generation, &Order::Status(status.clone()));
            }
            self.told = status;
        }
    }

    fn status(&self, state: &State) -> Status {
        status::of(state, &|after| (self.began_unix + after).as_secs())
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

fn tell(story: &Story) {
    let level = if story.is_trouble() { log::Level::Error } else { log::Level::Info };
    if level <= log::max_level() {
        // Built by hand, because a line that names no place in the code is never taken for one of a flood.
        let fields = story.fields();
        let mut record = log::Record::builder();
        record.level(level).target(module_path!()).key_values(&fields);
        log::logger().log(&record.args(format_args!("{story}")).build());
    }
}
