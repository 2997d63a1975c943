//! The program: arguments in, one of the rooms called, exit code out. Exit codes are decided here and nowhere else:
//! 0 done, 1 failed, 64 (EX_USAGE of sysexits.h) the configuration or the command line is wrong.
//! Surprise: `run` and `worker` are the same binary; the supervisor starts its workers by running itself again.

mod cli;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use outrigger::commands::deep::{self, Verdict};
use outrigger::config::settings::{RegistryKind, Settings};
use outrigger::explain::Question;
use outrigger::{commands, config, explain, supervisor, worker};

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
        Command::Check(checked) => {
            let deep = checked.deep;
            checked.file().map_or(USAGE, |file| check(&file, deep))
        }
        Command::Status(asked) => status(&asked),
        Command::Explain(question) => explain(&question),
        Command::Stop(stop) => stop_running(&stop),
        Command::Schema => print(&format!("{:#}", config::schema())),
        Command::Version => print(concat!("outrigger ", env!("CARGO_PKG_VERSION"))),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut cli::told(), "outrigger", &mut text);
            print(String::from_utf8_lossy(&text).trim_end())
        }
        Command::Man => cli::manual().map_or(FAILED, |page| print(&page)),
    }
}

fn check(file: &Path, deep: bool) -> u8 {
    match config::load(file) {
        Ok(settings) => {
            let said = print(&format!("{}: ok: {}", file.display(), summary(&settings)));
            if deep { look_deeper(&settings) } else { said }
        }
        Err(problems) => {
            eprintln!("{problems}");
            USAGE
        }
    }
}

fn look_deeper(settings: &Settings) -> u8 {
    match deep::look(settings) {
        Ok(findings) => {
            let text = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let failed = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
            if print(&text) == DONE && !failed { DONE } else { FAILED }
        }
        Err(reason) => {
            eprintln!("{reason}");
            FAILED
        }
    }
}

fn status(cli::Status { admin, config, json }: &cli::Status) -> u8 {
    let admin = match config.as_deref().map(config::load) {
        None => *admin,
        Some(Err(problems)) => {
            eprintln!("{problems}");
            return USAGE;
        }
        Some(Ok(settings)) => match settings.admin {
            Some(address) => commands::reachable(address),
            None => {
                eprintln!("the configuration has no admin listener");
                return USAGE;
            }
        },
    };
    match commands::status::fetch(admin) {
        Ok(status) => {
            let text = if *json { format!("{status:#}") } else { commands::status::text(&status) };
            if print(text.trim_end()) == DONE && status["ready"] == true { DONE } else { FAILED }
        }
        Err(reason) => {
            eprintln!("{reason}");
            FAILED
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
