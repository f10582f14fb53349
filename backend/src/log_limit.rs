//! Log lines that a guest can cause, bounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in one window.
const BURST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    window: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

/// Lets ten lines a minute through and counts the others. Clones share the limit: a guest that connects anew has no new one.
#[derive(Clone, Debug, Default)]
pub struct LogLimit(Arc<Mutex<State>>);

impl LogLimit {
    /// Whether to write a line now: `Some` with the number of lines that were left out since the last one.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        // It holds numbers only, which are right whenever somebody stops.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            state.window = Some(now);
            state.lines = 0;
        }
        if state.lines >= BURST {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.lines = state.lines.saturating_add(1);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_a_minute() {
        let limit = LogLimit::default();
        let start = Instant::now();
        let other = limit.clone();
        let written =
            (0..1_000_000).filter(|i| if i % 2 == 0 { &limit } else { &other }.pass(start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(limit.pass(start + WINDOW), Some(999_990), "what was left out is said");
        assert_eq!(limit.pass(start + WINDOW), Some(0));
    }
}
