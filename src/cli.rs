//! The command line: what `outrigger` can be asked to do, with the help texts that users read.
//! Takes the arguments, gives a [`Command`]; what a command does and which exit code it leaves is `main`'s.
//! Surprise: `worker` is hidden; only a supervisor starts one, with its sockets and its configuration handed over.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use outrigger::config;

/// A sidecar reverse proxy for MCP
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, disable_help_subcommand = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy in the foreground
    #[command(after_help = RUN)]
    Run {
        /// The YAML configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Serve as one generation (started by `run`)
    #[command(hide = true)]
    Worker,
    /// Check a configuration file, with the certificates and folders that it names
    #[command(after_help = CHECK)]
    Check(Checked),
    /// Say which owner a session's request would get now, and why
    #[command(after_help = EXPLAIN)]
    Explain(Explain),
    /// Say how a running Outrigger is: its generations, peers, errors, certificates
    #[command(after_help = STATUS)]
    Status(Status),
    /// Tell a running Outrigger to drain and end: a container's preStop hook
    #[command(after_help = STOP)]
    Stop(Stop),
    /// Print the JSON Schema of the configuration file
    #[command(after_help = SCHEMA)]
    Schema,
    /// Print the version
    Version,
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS)]
    Completions { shell: Shell },
    /// Print the manual page
    #[command(after_help = MAN)]
    Man,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Its admin listener, unless a configuration names it
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// The YAML configuration file that it has
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    pub config: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The YAML configuration file that the running Outrigger has
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The session id, as clients send it
    #[arg(long, value_name = "ID")]
    pub session: String,
    /// The request's path; without it that which the session was opened under
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// The listener that the request comes in by, where they lead to different upstreams
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// Serve on for so long before: until nobody sends new clients here
    #[arg(long, value_name = "TIME", value_parser = config::time)]
    pub after: Option<Duration>,
    /// The process that `outrigger run` is; in a container 1
    #[arg(long, value_name = "PID", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,
}

#[derive(Debug, Args)]
pub struct Checked {
    #[command(flatten)]
    file: CheckedFile,
    /// Connect to every peer and to Redis, as traffic would, and look at the certificates' dates
    #[arg(long)]
    pub deep: bool,
}

/// The file to check, given in either way.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct CheckedFile {
    /// The YAML configuration file
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same, as `run` takes it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Checked {
    pub fn file(self) -> Option<PathBuf> {
        self.file.file.or(self.file.config)
    }
}

/// What people are told of in completions and the manual: all but what only a supervisor calls.
pub fn told() -> clap::Command {
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let told =
        clap::Command::new("outrigger").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    let about = whole.get_about().cloned().unwrap_or_default();
    told.subcommand_required(true).about(about).subcommands(shown).after_help(EXAMPLES)
}

/// One page: commands have none of their own, so that their help stands here as they print it.
///
/// # Errors
/// A buffer in memory takes everything.
pub fn manual() -> io::Result<String> {
    let mut text = Vec::new();
    let mut told = told();
    let page = Man::new(told.clone());
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    let mut rest = Roff::new();
    rest.control("SH", ["SYNOPSIS"]);
    let names = told.get_subcommands().map(|command| command.get_name().to_owned());
    rest.text([bold("outrigger"), roman(format!(" {} ...", names.collect::<Vec<_>>().join(" | ")))]);
    for command in told.get_subcommands_mut() {
        let title = format!("outrigger {}", command.get_name());
        rest.control("SH", [title.as_str()]);
        let help = command.clone().bin_name(title).render_help().to_string();
        verbatim(&mut rest, &help);
    }
    rest.control("SH", ["EXAMPLES AND EXIT CODES"]);
    verbatim(&mut rest, EXAMPLES.trim_start_matches("Examples:\n"));
    rest.to_writer(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Line by line as it is.
fn verbatim(page: &mut Roff, text: &str) {
    page.control("nf", []);
    page.text([roman(text.trim_end())]);
    page.control("fi", []);
}

const EXAMPLES: &str = "\
Examples:
  outrigger check /etc/outrigger.yaml          is the file right? (exit 0 or 64)
  outrigger run --config /etc/outrigger.yaml   serve; SIGHUP reloads, SIGTERM drains and ends
  outrigger explain --config FILE --session ID who owns this session?
  outrigger status                             how is the one that runs here?
  outrigger schema > outrigger.schema.json     for the editor

Exit codes: 0 done, 1 failed, 64 the configuration or the command line is wrong.";

const RUN: &str = "\
Examples:
  outrigger run --config /etc/outrigger.yaml
  kill -HUP PID     reload configuration and certificates; no request fails
  kill -TERM PID    drain, then end";

const CHECK: &str = "\
All problems are reported at once, one a line: FILE:LINE: PATH: what is wrong.

Examples:
  outrigger check conf/outrigger.yaml
  GATEWAY=gateway:4444 outrigger check /etc/outrigger.yaml   for a file that says ${GATEWAY}
  outrigger check --deep /etc/outrigger.yaml                 and is everything there that it names?

Exit codes: 0 right, 1 right, but with --deep something did not answer as it must; 64 wrong.";

const STATUS: &str = "\
Reads /status of the admin listener; the page for people is at / of it.

Examples:
  outrigger status
  outrigger status --config /etc/outrigger.yaml
  outrigger status --json | jq .counts.by_status
  kubectl exec POD -c outrigger -- outrigger status

Exit codes: 0 it is ready, 1 it is not, or nobody answers; 64 the command line or the configuration is wrong.";

const COMPLETIONS: &str = "\
Examples:
  outrigger completions bash > /etc/bash_completion.d/outrigger
  outrigger completions zsh > ~/.zfunc/_outrigger";

const MAN: &str = "\
Example:
  outrigger man > /usr/local/share/man/man1/outrigger.1";

const EXPLAIN: &str = "\
Looks into the registry of the running Outrigger and changes nothing there. Run it where that runs: the answer is this member's.

Examples:
  outrigger explain --config /etc/outrigger.yaml --session 5f0c1f5c0d7e4d8a
  outrigger explain --config /etc/outrigger.yaml --session 5f0c1f5c0d7e4d8a --path /servers/abc/mcp --json

Exit codes: 0 there is an answer, 1 the registry does not answer, 64 the question or the configuration is wrong.";

const STOP: &str = "\
It returns once the signal is sent; the drain takes up to shutdown.timeout.

Example, for Kubernetes, whose native sidecars get their SIGTERM only when the main container is gone:
  lifecycle:
    preStop:
      exec:
        command: [outrigger, stop, --after, 5s]

Exit codes: 0 told, 1 it cannot be told, or is no Outrigger; 64 the command line is wrong.";

const SCHEMA: &str = "\
Example:
  outrigger schema > outrigger.schema.json
  # then, as the first line of a YAML file, for editors with a YAML language server:
  # yaml-language-server: $schema=outrigger.schema.json";
