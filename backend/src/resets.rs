//! Resets of devices, outside the worker: one thread for each unit that is being reset, and a time limit for the guest's
//! answer.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use pvscsi_ring::{Answer, Ticket};
use pvscsi_sg::ResetJob;

use crate::control::Bell;

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
    results: Receiver<(usize, bool)>,
    report: Sender<(usize, bool)>,
    bell: Bell,
}

impl Resets {
    /// Rings `bell` when a reset is done.
    #[must_use]
    pub fn new(bell: Bell) -> Self {
        let (report, results) = crossbeam_channel::unbounded();
        Self { waiting: Vec::new(), running: Vec::new(), results, report, bell }
    }

    /// Starts a reset, or joins the one under way for the same unit. Gives ticket and answer back when that is known at once.
    pub fn start(
        &mut self,
        ticket: Ticket,
        lun: usize,
        resetter: impl FnOnce() -> Option<ResetJob>,
    ) -> Option<(Ticket, Answer<'static>)> {
        if !self.running.contains(&lun) {
            let Some(job) = resetter() else { return Some((ticket, Answer::TASK_DONE)) };
            let (report, bell) = (self.report.clone(), self.bell.clone());
            let thread = std::thread::Builder::new().name("reset".into()).spawn(move || {
                let result = job();
                if let Err(error) = &result {
                    tracing::warn!("a reset failed: {error}");
                }
                // The worker may be gone.
                let _ = report.send((lun, result.is_ok()));
                bell.ring();
            });
            if let Err(error) = thread {
                tracing::error!("no thread for a reset: {error}");
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
        while let Ok((lun, worked)) = self.results.try_recv() {
            self.running.retain(|running| *running != lun);
            let verdict = if worked { Answer::TASK_DONE } else { Answer::TASK_FAILED };
            for done in self.waiting.extract_if(.., |waiting| waiting.lun == lun) {
                answer(done.ticket, verdict);
            }
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
