//! Log lines of both roles, through `log` and `env_logger`, to standard error.
//! Takes level and format from the settings, gives one JSON object (or one readable line) each; an access line keeps its own fields.
//! Level and format may change while it runs.
//! Surprise: lines are gathered in memory and written by a thread every few milliseconds (`sink`), because one write per request costs more
//! than everything that the line says. Whoever ends a process calls [`flush`] first.

mod flood;
mod sink;
mod time;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use env_logger::{Builder, Target, WriteStyle, fmt::Formatter};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use once_cell::sync::Lazy;
use prometheus::IntCounter;
use serde_json::{Map, Value as Json};

use crate::account::ACCESS;
use crate::config::settings::{LogFormat, LogSettings};
use flood::{Flood, Kind, Sum, grouped};
use sink::Sink;
use time::Timestamp;

/// An example in a sum is cut here.
const EXAMPLE: usize = 200;
/// The field of a line that says which listener or peer it is about: `log::warn!(about = …; "…")`.
const ABOUT: &str = "about";

static LOGGER: OnceLock<Logger> = OnceLock::new();
static SINK: Sink = Sink::new();
/// Whether lines are JSON, as the settings said last.
static JSON: AtomicBool = AtomicBool::new(true);

static LOST: Lazy<Option<IntCounter>> = Lazy::new(|| {
    let help = "Log lines that were thrown away because nobody read standard error";
    IntCounter::new("outrigger_log_lines_lost_total", help).ok()
});

/// The process's logger: what floods is cut, the rest becomes lines.
struct Logger {
    lines: env_logger::Logger,
    flood: Mutex<Flood>,
    began: Instant,
}

/// Starts logging; `role` names the process in every line.
pub fn init(settings: &LogSettings, role: &str) {
    let mut first = false;
    let logger = LOGGER.get_or_init(|| {
        first = true;
        Logger::new(settings, role)
    });
    // A second start (a test in one process) keeps the first logger.
    if first && log::set_logger(logger).is_ok() {
        change(settings);
        std::thread::spawn(|| {
            let mut spare = Vec::new();
            loop {
                let lost = SINK.write(&mut spare);
                logger.tell_lost(lost);
                logger.sum_up(false);
            }
        });
    }
}

/// What a reload changes in a process that stays: all of it.
pub fn change(settings: &LogSettings) {
    JSON.store(settings.format == LogFormat::Json, Ordering::Relaxed);
    set_level(settings.level);
    if let Some(logger) = LOGGER.get() {
        logger.flood().set_bursts(settings.burst, settings.access_burst);
    }
}

/// The level alone, until the settings change again.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// What this process logs.
pub fn level() -> LevelFilter {
    log::max_level()
}

/// Writes what was gathered. A reader of standard error that stands still is waited for, but not for ever.
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        logger.sum_up(true);
        SINK.flush();
    }
}

/// Counts the lines that were thrown away.
pub fn lost() -> Option<&'static IntCounter> {
    LOST.as_ref()
}

/// An error of Pingora's as a log line may hold it: where it could not parse a head, its context is that head, cookies, tokens and all.
pub fn without_content(error: &pingora_core::Error) -> String {
    match error.etype() {
        pingora_core::ErrorType::InvalidHTTPHeader => {
            format!("{}: {}", error.etype().as_str(), error.root_cause())
        }
        _ => error.to_string(),
    }
}

impl Logger {
    fn new(settings: &LogSettings, role: &str) -> Self {
        let role = role.to_string();
        let mut builder = Builder::new();
        builder
            // The level may change while we run: `log` itself looks at it before anything comes here.
            .filter_level(LevelFilter::Trace)
            // Pingora tells of every start and every client that went away; what matters of it is said in our own words.
            .filter_module("pingora_core", LevelFilter::Warn)
            .filter_module("pingora_proxy", LevelFilter::Warn)
            // redis-rs tells of every attempt to connect to a node of a cluster; the registry says once what became of it.
            .filter_module("redis", LevelFilter::Off)
            // The handoff's receiver always loses its first race and calls that an error; the supervisor reports a handoff that fails.
            .filter_module("pingora_core::server::transfer_fd", LevelFilter::Off)
            // The admin listener's: a client that goes away is called an error there, and its path may hold a session id.
            .filter_module("pingora_core::apps::http_app", LevelFilter::Off)
            .write_style(WriteStyle::Never)
            .format(move |line, record| write_line(line, record, &role))
            .target(Target::Pipe(Box::new(Gather)));
        let flood = Flood::new(settings.burst, settings.access_burst);
        Self { lines: builder.build(), flood: Mutex::new(flood), began: Instant::now() }
    }

    /// What names no place in the code is written always: the supervisor's story, and what we say ourselves.
    fn takes(&self, record: &Record<'_>) -> bool {
        let kind = match (record.target() == ACCESS, record.file_static(), record.line()) {
            (true, ..) => Kind::Access,
            (false, Some(file), Some(line)) => {
                let about = record.key_values().get(Key::from_str(ABOUT));
                Kind::Place { file, line, about: about.map(|about| about.to_string()) }
            }
            (false, ..) => return true,
        };
        let is_access = kind == Kind::Access;
        let text = || if is_access { String::new() } else { cut(record.args().to_string()) };
        let mut flood = self.flood();
        flood.takes_all(&kind) || flood.takes(kind, record.level(), self.began.elapsed(), text)
    }

    fn flood(&self) -> MutexGuard<'_, Flood> {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum_up(&self, all: bool) {
        let sums = self.flood().sums(self.began.elapsed(), all);
        for Sum { more, over, level, about, example } in sums {
            let (number, seconds) = (grouped(more), over.as_secs().max(1));
            let mut fields = vec![("more", Value::from(more)), ("seconds", Value::from(seconds))];
            fields.extend(about.as_deref().map(|about| (ABOUT, Value::from(about))));
            let kind = if example.is_empty() { "access lines" } else { "of this kind" };
            let example = if example.is_empty() { example } else { format!(": {example}") };
            self.say(level, &fields, format_args!("… {number} more {kind} in {seconds} s{example}"));
        }
    }

    fn tell_lost(&self, lost: u64) {
        if lost > 0 {
            let number = grouped(lost);
            let fields = [("lost", Value::from(lost))];
            let text = format_args!("{number} lines are lost here: nobody read standard error");
            self.say(Level::Error, &fields, text);
        }
    }

    fn say(&self, level: Level, fields: &[(&str, Value<'_>)], text: std::fmt::Arguments<'_>) {
        if level <= self::level() {
            let record =
                Record::builder().level(level).target(module_path!()).key_values(&fields).args(text).build();
            self.lines.log(&record);
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.lines.matches(record) && self.takes(record) {
            self.lines.log(record);
            if record.level() <= Level::Warn {
                SINK.hurry();
            }
        }
    }

    fn flush(&self) {}
}

/// A line's way from `env_logger` to the sink.
struct Gather;

impl Write for Gather {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if !SINK.push(line)
            && let Some(lost) = lost()
        {
            lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn cut(mut text: String) -> String {
    if text.len() > EXAMPLE {
        text.truncate(text.floor_char_boundary(EXAMPLE));
        text.push('…');
    }
    text
}

fn write_line(line: &mut Formatter, record: &Record<'_>, role: &str) -> std::io::Result<()> {
    let (time, level, message) = (Timestamp(SystemTime::now()), level_name(record.level()), record.args());
    let access = record.target() == ACCESS;
    match if JSON.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Text } {
        LogFormat::Text if access => writeln!(line, "{time} {level:5} {role} access: {{{message}"),
        LogFormat::Text => writeln!(line, "{time} {level:5} {role} {}: {message}", record.target()),
        LogFormat::Json if access => {
            writeln!(
                line,
                r#"{{"time":"{time}","level":"{level}","role":"{role}","target":"access",{message}"#
            )
        }
        LogFormat::Json => {
            let mut fields = Fields(Map::new());
            // It fails only where a visitor does, and ours does not.
            let _ = record.key_values().visit(&mut fields);
            let Fields(mut rest) = fields;
            rest.insert("role".into(), role.into());
            rest.insert("target".into(), record.target().into());
            rest.insert("message".into(), message.to_string().into());
            let rest = Json::Object(rest).to_string();
            writeln!(
                line,
                r#"{{"time":"{time}","level":"{level}",{}"#,
                rest.strip_prefix('{').unwrap_or(&rest)
            )
        }
    }
}

/// What a line says beside its message, for machines.
struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let number = value.to_u64().map(Json::from);
        let number = number.or_else(|| value.to_f64().map(Json::from));
        self.0.insert(key.to_string(), number.unwrap_or_else(|| value.to_string().into()));
        Ok(())
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}
