//! Log lines that a guest can cause, bounded.

use std::time::{Duration, Instant};

/// Lines in one window.
const BURST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Lets ten lines a minute through and counts the others.
#[derive(Debug, Default)]
pub struct LogLimit {
    window: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Whether to write a line now: `Some` with the number of lines that were left out since the last one.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines >= BURST {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.lines = self.lines.saturating_add(1);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_a_minute() {
        let mut limit = LogLimit::default();
        let start = Instant::now();
        let written = (0..1_000_000).filter(|_| limit.pass(start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(limit.pass(start + WINDOW), Some(999_990), "what was left out is said");
        assert_eq!(limit.pass(start + WINDOW), Some(0));
    }
}
