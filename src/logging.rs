//! Log lines of both roles, through `log` and `env_logger`, to standard error.
//! Takes level and format from the settings, gives one JSON object (or one readable line) each; an access line keeps its own fields.
//! Level and format may change while it runs (a reload, in the supervisor).
//! Surprise: lines are gathered in memory and written by a thread every few milliseconds, because one write per request costs more than
//! everything that the line says. Whoever ends a process calls [`flush`] first.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use env_logger::{Builder, Target, WriteStyle, fmt::Formatter};
use log::{Level, LevelFilter, Record};

use crate::account::ACCESS;
use crate::config::settings::{LogFormat, LogSettings};

/// Longest time that an informational line waits.
const EVERY: Duration = Duration::from_millis(50);
/// Bytes that are written without waiting.
const MUCH: usize = 64 * 1024;

/// Whether lines are JSON, as the settings said last.
static JSON: AtomicBool = AtomicBool::new(true);
static GATHERED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Starts logging; `role` names the process in every line.
pub fn init(settings: &LogSettings, role: &str) {
    let role = role.to_string();
    let mut builder = Builder::new();
    builder
        // The level itself is `change`'s.
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
    // A second start (a test in one process) keeps the first logger.
    if builder.try_init().is_ok() {
        std::thread::spawn(|| {
            loop {
                std::thread::park_timeout(EVERY);
                flush();
            }
        });
        change(settings);
    }
}

/// The level and format of the lines from now on.
pub fn change(settings: &LogSettings) {
    JSON.store(settings.format == LogFormat::Json, Ordering::Relaxed);
    set_level(settings.level);
}

/// The level alone, until the settings change again.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// Writes what was gathered. A slow reader of standard error holds up only who flushes, not who logs.
pub fn flush() {
    // One writer at a time keeps the lines in order.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let gathered = std::mem::take(&mut *gathered());
    if !gathered.is_empty() {
        // Nowhere is left to complain to if standard error is closed.
        let _ = std::io::stderr().write_all(&gathered);
    }
}

fn gathered() -> MutexGuard<'static, Vec<u8>> {
    GATHERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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

struct Gather;

impl Write for Gather {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut gathered = gathered();
        gathered.extend_from_slice(line);
        let much = gathered.len() > MUCH;
        drop(gathered);
        if much {
            flush();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_line(line: &mut Formatter, record: &Record<'_>, role: &str) -> std::io::Result<()> {
    let (time, level, message) = (Timestamp(SystemTime::now()), level_name(record.level()), record.args());
    let access = record.target() == ACCESS;
    let format = if JSON.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Text };
    match format {
        LogFormat::Text if access => writeln!(line, "{time} {level:5} {role} access: {{{message}"),
        LogFormat::Text => writeln!(line, "{time} {level:5} {role} {}: {message}", record.target()),
        LogFormat::Json if access => {
            writeln!(
                line,
                r#"{{"time":"{time}","level":"{level}","role":"{role}","target":"access",{message}"#
            )
        }
        LogFormat::Json => {
            let rest = serde_json::json!({ "role": role, "target": record.target(), "message": message.to_string() });
            let rest = rest.to_string();
            writeln!(
                line,
                r#"{{"time":"{time}","level":"{level}",{}"#,
                rest.strip_prefix('{').unwrap_or(&rest)
            )
        }
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

/// Shows itself as RFC 3339 in UTC with milliseconds.
struct Timestamp(SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thread_local! {
            /// The second shown last, without its fraction: on a busy thread the next line is of the same one.
            static SHOWN: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
        }
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        SHOWN.with_borrow_mut(|(second, text)| {
            if *second != since.as_secs() {
                *second = since.as_secs();
                *text = to_the_second(*second);
            }
            write!(f, "{text}.{:03}Z", since.subsec_millis())
        })
    }
}

/// `2026-11-20T13:48:00` of seconds since 1970.
fn to_the_second(since: u64) -> String {
    let (days, seconds) = (since / 86_400, since % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Days since 1970-01-01 → year, month, day of the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |seconds: u64| {
            Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7)).to_string()
        };
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.007Z");
        assert_eq!(at(1_795_132_799), "2026-11-19T23:59:59.007Z");
        assert_eq!(at(4_102_444_800), "2100-01-01T00:00:00.007Z");
    }
}
