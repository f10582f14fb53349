//! The reactor as `poll` and plain system calls.

use std::io;
use std::time::Duration;

use crate::reactor::{Event, Reactor};
use crate::sys::reactor::{Operation, What};

/// Writes happen at once if they can; reads and watches when `poll` says so.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    waiting: Vec<Operation>,
    ready: Vec<Event>,
    polled: Vec<libc::pollfd>,
}

impl Poller {
    pub(crate) fn start(&mut self, mut operation: Operation) {
        assert!(self.waiting.len() < Reactor::CAPACITY, "more operations than a worker can have");
        assert!(
            !matches!(operation.what, What::File { .. } | What::Sync | What::Command { .. }),
            "by io_uring only"
        );
        // A write that would block waits like a read.
        if is_write(operation.what)
            && let Some(result) = attempt(&mut operation)
        {
            self.ready.extend(operation.token.map(|token| Event { token, result, detail: 0 }));
            return;
        }
        self.waiting.push(operation);
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let timeout = if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        events.append(&mut self.ready);
        self.polled.clear();
        self.polled.extend(self.waiting.iter().map(|operation| libc::pollfd {
            fd: operation.fd,
            events: if is_write(operation.what) { libc::POLLOUT } else { libc::POLLIN },
            revents: 0,
        }));
        let timespec = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let limit = timespec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let Ok(count) = libc::nfds_t::try_from(self.polled.len()) else {
            unreachable!("bounded by CAPACITY")
        };
        // SAFETY: the array has `count` entries and the timespec lives across the call.
        let polled = unsafe { libc::ppoll(self.polled.as_mut_ptr(), count, limit, std::ptr::null()) };
        if polled < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        // From the back, so that a removal does not move those still to come.
        for (index, polled) in self.polled.iter().enumerate().rev() {
            if polled.revents == 0 {
                continue;
            }
            let Some(operation) = self.waiting.get_mut(index) else {
                unreachable!("one entry for each operation")
            };
            let result = match operation.what {
                What::Watch => Some(i32::from(polled.revents)),
                _ => attempt(operation),
            };
            if let Some(result) = result {
                let operation = self.waiting.swap_remove(index);
                events.extend(operation.token.map(|token| Event { token, result, detail: 0 }));
            }
        }
        Ok(())
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn cancel(&mut self, owner: u32) {
        self.waiting.retain(|operation| operation.token.is_none_or(|token| token.owner != owner));
        self.ready.retain(|event| event.token.owner != owner);
    }
}

fn is_write(what: What) -> bool {
    matches!(what, What::Writev(_) | What::WriteAndReadWord(_))
}

/// Tries a read or write now; `None` when it would block, or when what follows it is to wait. The result is bytes or `-errno`.
fn attempt(operation: &mut Operation) -> Option<i32> {
    let count = |n: u32| libc::c_int::try_from(n).unwrap_or(libc::c_int::MAX);
    let moved = match operation.what {
        What::Watch | What::File { .. } | What::Sync | What::Command { .. } => {
            unreachable!("nothing to attempt")
        }
        What::ReadWord => {
            let mut word = [0_u8; 8];
            // SAFETY: the word lives across the call, and has this size.
            unsafe { libc::read(operation.fd, word.as_mut_ptr().cast(), word.len()) }
        }
        What::WriteAndReadWord(bytes) => {
            // SAFETY: the bytes live across the call, and are as many.
            let moved = unsafe { libc::write(operation.fd, bytes.as_ptr().cast(), bytes.len()) };
            if moved == 4 {
                operation.what = What::ReadWord;
                return None;
            }
            moved
        }
        // SAFETY: the iovecs and what they point to are valid while the operation's `keep` lives (Form::transfer).
        What::Writev(iov) => unsafe { libc::writev(operation.fd, iov.first, count(iov.count)) },
        // SAFETY: as above.
        What::Readv(iov) => unsafe { libc::readv(operation.fd, iov.first, count(iov.count)) },
    };
    if moved >= 0 {
        return Some(i32::try_from(moved).unwrap_or(i32::MAX));
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => None,
        Some(errno) => Some(errno.saturating_neg()),
        None => unreachable!("a failed call sets errno"),
    }
}
