//! Watch events that came in and were not yet asked for.

use std::collections::VecDeque;

/// Distinct events that are kept. A guest can change its nodes faster than we look (XSA-349).
pub(super) const QUEUE_MAX: usize = 256;

/// What [`Xenstore::next_event`](super::Xenstore::next_event) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Something at or below a watched path changed, or the watch is new.
    Changed {
        /// What changed: the node itself, or the watched path when a parent of it was removed. Relative if the watched
        /// path is.
        path: String,
        /// As given to [`Xenstore::watch`](super::Xenstore::watch).
        token: String,
    },
    /// More changed than could be kept: everything that is watched has to be read anew.
    Overflow,
}

/// Equal events collapse; too many become one [`WatchEvent::Overflow`].
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<WatchEvent>,
}

impl EventQueue {
    pub fn push(&mut self, path: &str, token: &str) {
        // Whoever is told of an overflow reads everything, and later than now: this event brings nothing new.
        if self.events.front() == Some(&WatchEvent::Overflow) {
            return;
        }
        let event = WatchEvent::Changed { path: path.to_owned(), token: token.to_owned() };
        if self.events.contains(&event) {
            return;
        }
        if self.events.len() == QUEUE_MAX {
            self.events.clear();
            self.events.push_back(WatchEvent::Overflow);
        } else {
            self.events.push_back(event);
        }
    }

    pub fn pop(&mut self) -> Option<WatchEvent> {
        self.events.pop_front()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(path: &str) -> WatchEvent {
        WatchEvent::Changed { path: path.into(), token: "t".into() }
    }

    #[test]
    fn equal_events_collapse_and_order_stays() {
        let mut queue = EventQueue::default();
        for path in ["a", "b", "a", "b", "a"] {
            queue.push(path, "t");
        }
        queue.push("a", "u");
        assert_eq!(queue.pop(), Some(changed("a")));
        assert_eq!(queue.pop(), Some(changed("b")));
        assert_eq!(queue.pop(), Some(WatchEvent::Changed { path: "a".into(), token: "u".into() }));
        assert_eq!(queue.pop(), None);
        queue.push("a", "t");
        assert_eq!(queue.pop(), Some(changed("a")), "a change after the event was taken is a new one");
    }

    #[test]
    fn one_too_many_is_an_overflow() {
        let mut queue = EventQueue::default();
        for n in 0..QUEUE_MAX {
            queue.push(&n.to_string(), "t");
        }
        assert_eq!(queue.pop(), Some(changed("0")), "a full queue is not an overflow");
        queue.push("256", "t");
        queue.push("257", "t");
        queue.push("258", "t");
        assert_eq!(queue.pop(), Some(WatchEvent::Overflow));
        assert_eq!(queue.pop(), None, "the rest is in what the caller reads now");
        queue.push("259", "t");
        assert_eq!(queue.pop(), Some(changed("259")));
    }
}
