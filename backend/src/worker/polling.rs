//! Looking at the ring for a while instead of going to sleep at once.
//!
//! A guest that waits for its command sends the next one a few microseconds after the answer. To sleep meanwhile costs more than to
//! look: an event on each side, two ways through the scheduler, and the guest's hypercall. But looking costs a CPU, so it must pay: the
//! worker looks for as long as requests were found after lately, and not at all when they come later than that.

use std::time::{Duration, Instant};

/// The shortest time to look, and what a look is given up for.
const SHORTEST: Duration = Duration::from_micros(10);
/// Sleeps from a look in vain to the next trial; each trial in vain doubles them,
const REST: u32 = 16;
/// up to this many.
const LONGEST_REST: u32 = 4096;
/// Nobody looks away for so long but who has lost its CPU: to others in this domain, or to other domains. There is no CPU to spare.
const LOST: Duration = Duration::from_millis(1);

/// How long to look, by what looking has brought.
#[derive(Debug)]
pub(super) struct Polling {
    longest: Duration,
    /// Zero: not at all, until `rest` sleeps are over.
    window: Duration,
    rest: u32,
    next_rest: u32,
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Found(Duration),
    InVain,
    /// The CPU was taken away meanwhile.
    Interrupted,
}

impl Polling {
    /// Looks for at most `longest` at a time; zero: never.
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, window: Duration::ZERO, rest: REST, next_rest: REST }
    }

    /// Whether to look now. Asked whenever the worker would go to sleep.
    pub(super) fn is_due(&mut self) -> bool {
        if self.longest.is_zero() {
            return false;
        }
        if !self.window.is_zero() {
            return true;
        }
        self.rest = self.rest.saturating_sub(1);
        self.rest == 0
    }

    /// How long: a trial is as long as a look may be.
    fn window(&self) -> Duration {
        if self.window.is_zero() { self.longest } else { self.window }
    }

    /// Looks until there is something, or it does not pay any more.
    pub(super) fn look<E>(&mut self, mut found: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
        let window = self.window();
        let start = Instant::now();
        let mut last = start;
        let look = loop {
            if found()? {
                break Look::Found(last.duration_since(start));
            }
            std::hint::spin_loop();
            let now = Instant::now();
            if now.duration_since(last) > LOST {
                break Look::Interrupted;
            }
            if now.duration_since(start) > window {
                break Look::InVain;
            }
            last = now;
        };
        self.learn(look);
        Ok(matches!(look, Look::Found(_)))
    }

    fn learn(&mut self, look: Look) {
        let (tried, half) = (self.window.is_zero(), self.window.mul_f32(0.5));
        match look {
            Look::Found(after) => {
                let wanted = after.saturating_mul(4).max(SHORTEST);
                self.window = wanted.max(self.window.mul_f32(0.875)).min(self.longest);
                self.next_rest = REST;
            }
            Look::InVain if !tried && half >= SHORTEST => self.window = half,
            Look::InVain => self.give_up(if tried { self.next_rest.saturating_mul(2) } else { REST }),
            Look::Interrupted => self.give_up(LONGEST_REST),
        }
    }

    fn give_up(&mut self, rest: u32) {
        self.window = Duration::ZERO;
        self.next_rest = rest.min(LONGEST_REST);
        self.rest = self.next_rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(400);

    /// Sleeps before the next look; none within `most`: `None`.
    fn sleeps(polling: &mut Polling, most: u32) -> Option<u32> {
        (0..most).find(|_| polling.is_due())
    }

    fn found(micros: u64) -> Look {
        Look::Found(Duration::from_micros(micros))
    }

    #[test]
    fn it_looks_for_as_long_as_requests_take() {
        let mut polling = Polling::new(LONGEST);
        assert_eq!(sleeps(&mut polling, 100), Some(REST - 1), "a trial after some sleeps");
        assert_eq!(polling.window(), LONGEST);
        polling.learn(found(20));
        assert_eq!(polling.window(), Duration::from_micros(80));
        polling.learn(found(90));
        assert_eq!(polling.window(), Duration::from_micros(360));
        polling.learn(found(300));
        assert_eq!(polling.window(), LONGEST, "no longer than allowed");
        for _ in 0..100 {
            assert!(polling.is_due());
            polling.learn(found(0));
        }
        assert_eq!(polling.window(), SHORTEST, "and no longer than needed");
    }

    #[test]
    fn what_is_in_vain_ends() {
        let mut polling = Polling::new(LONGEST);
        assert!(sleeps(&mut polling, REST).is_some());
        polling.learn(found(100));
        let mut looked = Duration::ZERO;
        while polling.is_due() {
            looked += polling.window();
            polling.learn(Look::InVain);
        }
        assert!(looked < 2 * LONGEST, "{looked:?}: one look, and half of it, and half of that");
        let rests: Vec<_> = (0..12)
            .map(|_| {
                let sleeps = sleeps(&mut polling, LONGEST_REST).unwrap();
                polling.learn(Look::InVain);
                sleeps
            })
            .collect();
        assert_eq!(rests[..4], [14, 31, 63, 127]);
        assert_eq!(rests[11], LONGEST_REST - 1, "at last one look in so many sleeps");
    }

    #[test]
    fn a_cpu_that_others_need_is_left_to_them() {
        let mut polling = Polling::new(LONGEST);
        assert!(sleeps(&mut polling, REST).is_some());
        polling.learn(found(100));
        polling.learn(Look::Interrupted);
        assert_eq!(sleeps(&mut polling, LONGEST_REST), Some(LONGEST_REST - 1));
        polling.learn(found(1));
        assert!(polling.is_due(), "a trial that finds something is as good as the first");
    }

    #[test]
    fn none_is_none() {
        assert_eq!(sleeps(&mut Polling::new(Duration::ZERO), 3 * LONGEST_REST), None);
    }

    #[test]
    fn a_look_finds_ends_and_passes_errors_on() {
        let mut polling = Polling::new(Duration::from_millis(50));
        let mut turns = 0;
        let third = || {
            turns += 1;
            Ok::<_, i32>(turns == 3)
        };
        assert_eq!(polling.look(third), Ok(true));
        assert_eq!(polling.look(|| Err(5)), Err(5));
        assert_eq!(polling.look(|| Ok::<_, i32>(false)), Ok(false), "its time is over");
    }
}
