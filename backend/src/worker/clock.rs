//! The worker's clock, and what it finds when it ticks.
//!
//! It ticks once a second while commands are under way, so that no command costs a look at a clock.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use pvscsi_ring::vscsiif::RING_SLOTS;
use pvscsi_sg::HostStatus;

use super::{CLOCK, Worker, system, token};
use crate::control::WorkerError;

/// Counts seconds during which commands were under way.
#[derive(Debug)]
pub(super) struct Clock {
    timer: TimerFd,
    armed: bool,
    now: u64,
}

impl Clock {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self { timer, armed: false, now: 0 })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// The present tick, and the first one that comes more than `after` later.
    pub(super) fn stamps(&self, after: Duration) -> (u64, u64) {
        // One for the fraction of a second, one for the tick that may come at once.
        (self.now, self.now.saturating_add(after.as_secs()).saturating_add(2))
    }

    /// Makes sure that a tick comes.
    pub(super) fn arm(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.armed, true) {
            let second = Expiration::OneShot(TimeSpec::seconds(1));
            self.timer.set(second, TimerSetTimeFlags::empty())?;
        }
        Ok(())
    }

    /// Whether it has ticked.
    fn take_tick(&mut self) -> bool {
        // Not blocking: this only takes what is there.
        let ticked = self.armed && self.timer.wait().is_ok();
        if ticked {
            self.armed = false;
            self.now = self.now.saturating_add(1);
        }
        ticked
    }
}

impl Worker {
    /// A second has passed: overdue commands are answered, and units that hold commands for long are found.
    pub(super) fn hear_clock(&mut self) -> Result<(), WorkerError> {
        let ticked = self.clock.take_tick();
        self.reactor.watch(self.clock.as_fd(), token(CLOCK));
        if !ticked {
            return Ok(());
        }
        let now = self.clock.now;
        while let Some(tag) = self.table.find(|pending| pending.due <= now) {
            self.log_overdue(tag);
            self.answer_early(tag, HostStatus::TIME_OUT);
        }
        self.slow.clear();
        self.table.each_pending(|pending| {
            if pending.since.saturating_add(2) <= now && !self.slow.contains(&pending.lun) {
                self.slow.push(pending.lun);
            }
        });
        if self.table.find(|_| true).is_some() { self.start_clock() } else { Ok(()) }
    }

    pub(super) fn start_clock(&mut self) -> Result<(), WorkerError> {
        self.clock.arm().map_err(|source| system("setting a timer", source))
    }

    /// Whether a unit that does not come to an end with what it has holds its share of the ring already: the others are to
    /// have theirs. A share is two at least, so that a drive in a long command can still be asked how it is.
    pub(super) fn has_its_share(&self, lun: usize) -> bool {
        self.slow.contains(&lun) && {
            let ring = usize::try_from(RING_SLOTS).unwrap_or(usize::MAX);
            let share = ring.checked_div(self.luns.count()).unwrap_or(ring).max(2);
            self.table.held_by(lun) >= share
        }
    }

    fn log_overdue(&mut self, tag: pvscsi_sg::Tag) {
        let (pending, _) = self.table.pending(tag);
        let (opcode, nexus, timeout) = (pending.cdb.opcode(), pending.nexus, pending.timeout);
        if let Some(left_out) = self.overdue.pass(Instant::now()) {
            tracing::warn!(
                "{}: command {opcode:#04x} to {}:{}:{} is not given up by its driver after {} s: answered without it ({left_out} more \
                 like this not logged)",
                self.control.name,
                nexus.channel,
                nexus.id,
                nexus.lun,
                timeout.as_secs()
            );
        }
    }
}
