//! What Redis holds and has done: its own word, at two moments, and the busiest moment between them.
//! Takes a server, gives counts. Surprise: what a script calls counts as well, so that one command of a member is three of Redis.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::super::servers::Server;

/// What the test's own connection asks.
const OURS: [&str; 6] = ["client|setinfo", "config|resetstat", "dbsize", "hello", "info", "memory|usage"];
/// How long the busiest moment is, at least.
const MOMENT: Duration = Duration::from_millis(100);

pub struct Census {
    /// Bytes, without the connections'.
    pub memory: u64,
    pub keys: u64,
    /// Processor seconds.
    pub cpu: f64,
    /// Bytes that were sent to Redis and by it.
    pub traffic: u64,
    /// How often each command ran.
    pub calls: BTreeMap<String, u64>,
}

impl Census {
    pub fn of(server: &Server) -> Self {
        let said: String = server.ask("INFO everything");
        let text = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("INFO says nothing of {name}"))
        };
        let whole = |name: &str| text(name).parse::<u64>().unwrap();
        let seconds = |name: &str| text(name).parse::<f64>().unwrap();
        let calls = said.lines().filter_map(|line| {
            let (command, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((command.to_string(), figures.split(',').next()?.parse().ok()?))
        });
        Self {
            memory: whole("used_memory") - whole("mem_clients_normal"),
            keys: server.ask("DBSIZE"),
            cpu: seconds("used_cpu_user") + seconds("used_cpu_sys"),
            traffic: whole("total_net_input_bytes") + whole("total_net_output_bytes"),
            calls: calls.filter(|(command, _)| !OURS.contains(&command.as_str())).collect(),
        }
    }

    /// What ran since then, for each of so many.
    pub fn calls_since(&self, before: &Self, each: usize) -> BTreeMap<&str, f64> {
        let since = self.calls.iter().map(|(command, calls)| {
            let calls = calls - before.calls.get(command).unwrap_or(&0);
            (command.as_str(), calls as f64 / each as f64)
        });
        since.filter(|(command, calls)| *calls > 0.0 && *command != "ping").collect()
    }
}

/// Looks at a counter all the time.
pub struct Peak {
    over: Arc<AtomicBool>,
    watching: JoinHandle<f64>,
}

impl Peak {
    pub fn watch(counter: impl Fn() -> u64 + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let watching = spawn(move || {
            let (mut most, mut before) = (0.0_f64, counter());
            while !ended.load(Relaxed) {
                let began = Instant::now();
                sleep(MOMENT);
                let now = counter();
                most = most.max((now - before) as f64 / began.elapsed().as_secs_f64());
                before = now;
            }
            most
        });
        Self { over, watching }
    }

    /// The most in a second that any moment saw.
    pub fn end(self) -> f64 {
        self.over.store(true, Relaxed);
        self.watching.join().unwrap()
    }
}
