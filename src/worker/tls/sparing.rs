//! How often a line may be written that anybody on the network can cause. PURE.
//! Takes the moment of each event, says whether to write and how many were left out since the last line.
//! Surprise: the first few are written at once, so that an operator who tries something out sees every line.

use std::time::{Duration, Instant};

/// Lines that may follow each other at once.
const BURST: u32 = 10;
/// How long it takes until one more may be written.
const EVERY: Duration = Duration::from_secs(1);

/// The lines of one kind.
#[derive(Debug)]
pub struct Sparing {
    /// Lines that may be written now.
    left: u32,
    /// Up to when `left` was made up.
    counted: Instant,
    left_out: u64,
}

impl Sparing {
    pub fn new(now: Instant) -> Self {
        Self { left: BURST, counted: now, left_out: 0 }
    }

    /// `Some`: write a line now, and say in it how many were left out before.
    pub fn event(&mut self, now: Instant) -> Option<u64> {
        let gained = now.duration_since(self.counted).as_secs() / EVERY.as_secs();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        self.counted += EVERY.saturating_mul(gained);
        self.left = self.left.saturating_add(gained).min(BURST);
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_and_then_one_a_second() {
        let start = Instant::now();
        let mut sparing = Sparing::new(start);
        // 1000 events in 5 seconds, the first at once.
        let lines: Vec<u64> =
            (0..1000).filter_map(|event| sparing.event(start + Duration::from_millis(5 * event))).collect();
        assert_eq!(lines.len(), 14);
        assert_eq!(lines[..10], [0; 10]);
        assert_eq!(lines.iter().sum::<u64>() + 14 + sparing.left_out, 1000);
    }

    #[test]
    fn after_a_pause_there_is_room_again() {
        let start = Instant::now();
        let mut sparing = Sparing::new(start);
        let written = |sparing: &mut Sparing, at| (0..50).filter(|_| sparing.event(at).is_some()).count();
        assert_eq!(written(&mut sparing, start), 10);
        assert_eq!(written(&mut sparing, start + Duration::from_secs(3)), 3);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(sparing.event(much_later), Some(47));
        assert_eq!(written(&mut sparing, much_later), 9);
    }
}
