//! What `outrigger stop` does: from beside, asks a supervisor to drain and end, as a container's preStop hook.
//! Takes its process id and how long it may serve on first. Surprise: it does not wait for the end, since the end of a container's PID 1 is also its own.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// The kernel's name of this program, the same for every process of it.
const OWN: &str = "self";

/// Waits for `after`, then sends SIGTERM.
///
/// # Errors
/// A sentence for the user: nobody there, somebody else's process, or no right to.
pub fn stop(pid: i32, after: Duration) -> Result<(), String> {
    // Outside of containers process 1 is the system's own, and must not get our signal.
    let found = name(&pid.to_string()).ok_or_else(|| format!("there is no process {pid}"))?;
    if Some(&found) != name(OWN).as_ref() {
        return Err(format!("process {pid} is no Outrigger but {found}; nothing was done"));
    }
    thread::sleep(after);
    signal::kill(Pid::from_raw(pid), Signal::SIGTERM)
        .map_err(|error| format!("process {pid} cannot be told to stop: {}", error.desc()))
}

fn name(process: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{process}/comm")).ok().map(|name| name.trim_end().to_owned())
}
