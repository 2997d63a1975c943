//! The program: arguments in, one of the rooms called, exit code out. Exit codes are decided here and nowhere else:
//! 0 done, 1 failed, 64 (EX_USAGE of sysexits.h) the configuration or the command line is wrong.
//! Surprise: `run` and `worker` are the same binary; the supervisor starts its workers by running itself again.

mod cli;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use outrigger::config::settings::{RegistryKind, Settings};
use outrigger::explain::Question;
use outrigger::{config, explain, supervisor, worker};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => obey(cli.command),
        Err(refusal) => {
            // Help and version come this way too; they go to standard output and are no mistake.
            let printed = refusal.print();
            if refusal.use_stderr() { USAGE } else { printed.map_or(FAILED, |()| DONE) }
        }
    };
    ExitCode::from(code)
}

fn obey(command: Command) -> u8 {
    match command {
        Command::Run { config } => supervisor::run(&config),
        Command::Worker => worker::run(),
        Command::Check(checked) => checked.file().map_or(USAGE, |file| check(&file)),
        Command::Explain(question) => explain(&question),
        Command::Stop(stop) => stop_running(&stop),
        Command::Schema => print(&format!("{:#}", config::schema())),
        Command::Version => print(concat!("outrigger ", env!("CARGO_PKG_VERSION"))),
    }
}

fn check(file: &Path) -> u8 {
    match config::load(file) {
        Ok(settings) => print(&format!("{}: ok: {}", file.display(), summary(&settings))),
        Err(problems) => {
            eprintln!("{problems}");
            USAGE
        }
    }
}

fn explain(cli::Explain { config, session, path, listener, json }: &cli::Explain) -> u8 {
    let (path, listener) = (path.as_deref(), listener.as_deref());
    match explain::explain(config, Question { session, path, listener }) {
        Ok(explanation) => {
            let text = if *json { format!("{:#}", explanation.json()) } else { explanation.text() };
            if print(text.trim_end()) == DONE && explanation.registry_answers() { DONE } else { FAILED }
        }
        Err(reason) => {
            eprintln!("{reason}");
            USAGE
        }
    }
}

fn stop_running(cli::Stop { after, pid }: &cli::Stop) -> u8 {
    match supervisor::stop(*pid, after.unwrap_or_default()) {
        Ok(()) => DONE,
        Err(reason) => {
            eprintln!("{reason}");
            FAILED
        }
    }
}

fn summary(settings: &Settings) -> String {
    let count =
        |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let addresses = settings.listeners.iter().map(|listener| listener.addresses.len()).sum();
    let peers = settings.upstreams.iter().map(|upstream| upstream.peers.len()).sum();
    [
        count(settings.listeners.len(), "listener", "listeners"),
        count(addresses, "address", "addresses"),
        count(settings.upstreams.len(), "upstream", "upstreams"),
        count(peers, "peer", "peers"),
        count(settings.threads, "thread", "threads"),
        registry(settings).to_owned(),
    ]
    .join(", ")
}

fn registry(settings: &Settings) -> &'static str {
    match (&settings.sessions.registry, &settings.member) {
        (RegistryKind::Embedded(_), _) => "embedded registry",
        (RegistryKind::Redis(_), None) => "Redis registry",
        (RegistryKind::Redis(_), Some(_)) => "Redis registry with members",
    }
}

/// A reader that goes away early (`outrigger schema | head`) is a failure, not a panic.
fn print(text: &str) -> u8 {
    writeln!(std::io::stdout(), "{text}").map_or(FAILED, |()| DONE)
}
