//! Where finished lines wait for standard error, and the one thread that writes them.
//! Takes whole lines from any thread, gives them to standard error in their order. Surprise: nobody but that thread ever waits for a
//! slow reader. If the reader stands still, lines are kept up to a bound, and beyond it counted instead of kept.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time that an informational line waits.
const EVERY: Duration = Duration::from_millis(50);
/// Bytes that are written without waiting.
const MUCH: usize = 64 * 1024;
/// Bytes that are kept while nobody reads.
const MOST: usize = 4 * 1024 * 1024;
/// Bytes of one write that a pipe takes whole (`PIPE_BUF` of Linux): supervisor and workers share it, and more could be cut by another's line.
const WHOLE: usize = 4096;
/// Longest wait for the reader at the end of the process.
const LAST: Duration = Duration::from_secs(2);

pub struct Sink {
    state: Mutex<State>,
    /// There is something to be written at once.
    urgent: Condvar,
    /// Something was written.
    written: Condvar,
}

struct State {
    lines: Vec<u8>,
    hurry: bool,
    writing: bool,
    lost: u64,
}

impl Sink {
    pub const fn new() -> Self {
        let state = State { lines: Vec::new(), hurry: false, writing: false, lost: 0 };
        Self { state: Mutex::new(state), urgent: Condvar::new(), written: Condvar::new() }
    }

    /// Keeps a line until it is written. `false`: there is no room for it.
    pub fn push(&self, line: &[u8]) -> bool {
        let mut state = self.state();
        if state.lines.len() + line.len() > MOST {
            state.lost += 1;
            return false;
        }
        state.lines.extend_from_slice(line);
        if state.lines.len() > MUCH && !state.hurry {
            state.hurry = true;
            self.urgent.notify_one();
        }
        true
    }

    /// What was pushed is written without waiting for more.
    pub fn hurry(&self) {
        self.state().hurry = true;
        self.urgent.notify_one();
    }

    /// Writes what has gathered, once it is time to; gives how many lines were lost before it. `spare`: empty, it takes the place of the
    /// buffer that is written and gets that one's memory for its next turn.
    pub fn write(&self, spare: &mut Vec<u8>) -> u64 {
        let waiting = self.urgent.wait_timeout_while(self.state(), EVERY, |state| !state.hurry);
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut state.lines, spare);
        let lost = std::mem::take(&mut state.lost);
        (state.hurry, state.writing) = (false, true);
        drop(state);
        for piece in pieces(spare) {
            // Nowhere is left to complain to if standard error is closed.
            let _ = std::io::stderr().write_all(piece);
        }
        spare.clear();
        spare.shrink_to(2 * MUCH);
        self.state().writing = false;
        self.written.notify_all();
        lost
    }

    /// Waits until everything is written, but not for ever.
    pub fn flush(&self) {
        self.hurry();
        let unwritten = |state: &mut State| state.writing || !state.lines.is_empty();
        // Whoever does not read by now will not be waited for.
        let _ = self.written.wait_timeout_while(self.state(), LAST, unwritten);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole lines, as many as a pipe takes at once; a longer line by itself.
fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let most = &lines[..lines.len().min(WHOLE)];
        let end = memchr::memrchr(b'\n', most).or_else(|| memchr::memchr(b'\n', lines));
        let (piece, rest) = lines.split_at(end.map_or(lines.len(), |end| end + 1));
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_whole_lines() {
        let (short, long) = (format!("{}\n", "s".repeat(999)), format!("{}\n", "l".repeat(WHOLE)));
        let lines = short.repeat(5) + &long + &short;
        let lengths: Vec<usize> = pieces(lines.as_bytes()).map(<[u8]>::len).collect();
        assert_eq!(lengths, [4000, 1000, WHOLE + 1, 1000]);
        assert_eq!(pieces(b"").count(), 0);
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_counted() {
        let sink = Sink::new();
        let line = [b'x'; 1024];
        let kept = (0..2 * MOST / line.len()).filter(|_| sink.push(&line)).count();
        assert_eq!(kept, MOST / line.len());
        assert_eq!(sink.state().lost, kept as u64);
    }
}
