//! Resets of devices, outside the worker: one thread for each unit that is being reset, and a time limit for the guest's
//! answer.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use pvscsi_ring::{Answer, Ticket};
use pvscsi_sg::Job;

use crate::control::Bell;
use crate::log_limit::LogLimit;

/// The guest's error handling waits for the answer without a limit of its own, so it gets one from us.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    lun: usize,
    by: Instant,
}

/// Requests for a reset whose answer is owed.
#[derive(Debug)]
pub struct Resets {
    waiting: Vec<Waiting>,
    /// Units with a thread under way.
    running: Vec<usize>,
    results: Receiver<(usize, io::Result<()>)>,
    report: Sender<(usize, io::Result<()>)>,
    bell: Bell,
    /// A guest can ask for resets that fail as fast as its device refuses them.
    failures: LogLimit,
}

impl Resets {
    /// Rings `bell` when a reset is done, and tells of those that fail within the limit of `failures`.
    #[must_use]
    pub fn new(bell: Bell, failures: LogLimit) -> Self {
        let (report, results) = crossbeam_channel::unbounded();
        let (waiting, running) = (Vec::new(), Vec::new());
        Self { waiting, running, results, report, bell, failures }
    }

    /// Starts a reset, or joins the one under way for the same unit. Gives ticket and answer back when that is known at once.
    pub fn start(
        &mut self,
        ticket: Ticket,
        lun: usize,
        resetter: impl FnOnce() -> Option<Job>,
    ) -> Option<(Ticket, Answer<'static>)> {
        if !self.running.contains(&lun) {
            let Some(job) = resetter() else { return Some((ticket, Answer::TASK_DONE)) };
            let (report, bell) = (self.report.clone(), self.bell.clone());
            let thread = std::thread::Builder::new().name("reset".into()).spawn(move || {
                // The worker may be gone.
                let _ = report.send((lun, job()));
                bell.ring();
            });
            if let Err(error) = thread {
                self.log_failure(&error);
                return Some((ticket, Answer::TASK_FAILED));
            }
            self.running.push(lun);
        }
        let now = Instant::now();
        self.waiting.push(Waiting { ticket, lun, by: now.checked_add(PATIENCE).unwrap_or(now) });
        None
    }

    /// Answers what is done.
    pub fn finish(&mut self, mut answer: impl FnMut(Ticket, Answer<'static>)) {
        while let Ok((lun, result)) = self.results.try_recv() {
            self.running.retain(|running| *running != lun);
            let verdict = if result.is_ok() { Answer::TASK_DONE } else { Answer::TASK_FAILED };
            if let Err(error) = result {
                self.log_failure(&error);
            }
            for done in self.waiting.extract_if(.., |waiting| waiting.lun == lun) {
                answer(done.ticket, verdict);
            }
        }
    }

    fn log_failure(&mut self, error: &io::Error) {
        if let Some(left_out) = self.failures.pass(Instant::now()) {
            tracing::warn!("a reset failed: {error} ({left_out} more like this not logged)");
        }
    }

    /// Answers what takes too long: failed. Its thread goes on.
    pub fn overdue(&mut self, now: Instant, mut answer: impl FnMut(Ticket, Answer<'static>)) {
        for late in self.waiting.extract_if(.., |waiting| waiting.by <= now) {
            answer(late.ticket, Answer::TASK_FAILED);
        }
    }

    /// When the next answer is due at the latest.
    #[must_use]
    pub fn first_due(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.by).min()
    }

    /// Whether a reset of this unit is under way.
    #[must_use]
    pub fn is_running(&self, lun: usize) -> bool {
        self.running.contains(&lun)
    }

    /// Gives up every answer that is owed, since the ring is gone.
    pub fn abandon(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.ticket.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pvscsi_guestmem::HeapPage;
    use pvscsi_ring::BackRing;
    use pvscsi_ring::vscsiif::REQ_PROD;

    use super::*;

    #[test]
    fn resets_that_fail_are_ten_lines_a_minute() {
        let lines = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&lines);
        let count = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            io::sink()
        };
        let subscriber = tracing_subscriber::fmt().with_writer(count).finish();
        let bell = Bell::new().unwrap();
        let mut resets = Resets::new(bell.clone(), LogLimit::default());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..100 {
                let ticket = a_ticket();
                let job: Job = Box::new(|| Err(io::ErrorKind::PermissionDenied.into()));
                assert!(resets.start(ticket, 3, || Some(job)).is_none(), "it is under way");
                let mut answers = 0;
                while answers == 0 {
                    resets.finish(|ticket, answer| {
                        assert_eq!(answer, Answer::TASK_FAILED);
                        ticket.abandon();
                        answers += 1;
                    });
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(lines.load(Ordering::Relaxed), 10);
    }

    fn a_ticket() -> Ticket {
        let page = HeapPage::new();
        page.share().store_u32(REQ_PROD, 1, Ordering::Release);
        BackRing::attach(page.share(), 0).take().unwrap().unwrap().0
    }
}
