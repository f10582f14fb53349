//! One kind of I/O, kept going at a fixed depth by a guest that checks what it gets.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pvscsi_guestmem::PAGE_SIZE;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_TO_DEVICE};
use pvscsi_sg::disk::BlockSize;
use pvscsi_sim::LinuxFrontend;
use pvscsi_sim::frontend::{GuestBuffer, Reply, ScsiCall};

use super::content::Content;
use super::histogram::Histogram;
use super::{DemoError, Wrong};

/// Logical blocks in a page.
const BLOCKS_PER_PAGE: usize = PAGE_SIZE / BlockSize::B512.bytes() as usize;

/// How long the guest waits for an answer: far longer than any takes here.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the I/O goes, and how long it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    /// Over the whole disk, once.
    Once,
    /// To random places until this time has passed.
    Random(Duration),
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its name in the table.
    pub name: &'static str,
    /// Write, or read and compare.
    pub write: bool,
    /// Pages of one command.
    pub pages: usize,
    /// Commands under way at once.
    pub depth: usize,
    /// Where.
    pub course: Course,
}

/// What was measured.
#[derive(Debug)]
pub struct Figures {
    /// From submission to answer, of each command.
    pub latencies: Histogram,
    /// All bytes moved.
    pub bytes: u64,
    /// From the first submission to the last answer.
    pub took: Duration,
}

/// A command under way: which pages it moves, and since when.
#[derive(Clone, Copy, Debug)]
struct Flight {
    first: usize,
    pages: usize,
    since: Instant,
}

/// The guest: its vhost, what it believes the disk to hold, and a source of random numbers.
#[derive(Debug)]
pub struct Guest<'a> {
    frontend: &'a mut LinuxFrontend,
    content: Content,
    pages: usize,
    random: u64,
}

impl<'a> Guest<'a> {
    /// A guest whose disk has this many pages and has never been written.
    #[must_use]
    pub fn new(frontend: &'a mut LinuxFrontend, pages: usize) -> Self {
        Self { frontend, content: Content::new(pages), pages, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Does a job to its end.
    ///
    /// # Errors
    ///
    /// When a command is not answered, fails, or reads something else than was written.
    pub fn run(&mut self, job: &Job, progress: &ProgressBar) -> Result<Figures, DemoError> {
        let start = Instant::now();
        let mut flights: [Option<Flight>; 16] = [None; 16];
        let mut figures = Figures { latencies: Histogram::default(), bytes: 0, took: Duration::ZERO };
        let mut spare = Vec::new();
        let mut scratch = vec![0; job.pages.saturating_mul(PAGE_SIZE)];
        let mut ahead = 0;
        let position = progress.position();
        loop {
            while self.frontend.in_flight() < job.depth {
                let Some((first, pages)) = self.place(job, &mut ahead, start, &flights) else { break };
                self.send(job, first, pages, &mut spare, &mut scratch, &mut flights)?;
            }
            if self.frontend.in_flight() == 0 {
                figures.took = start.elapsed();
                return Ok(figures);
            }
            let answers = self.answers(job)?;
            let now = Instant::now();
            for reply in answers {
                let flight = flights.get_mut(usize::from(reply.rqid)).and_then(Option::take);
                let Some(flight) = flight else { unreachable!("the frontend knows what is in flight") };
                figures.latencies.record(now.saturating_duration_since(flight.since));
                figures.bytes = figures.bytes.saturating_add(reply.data.len() as u64);
                self.judge(job, flight, &reply, &mut scratch)?;
                spare.push(reply.data);
            }
            if let Course::Random(_) = job.course {
                let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                progress.set_position(position.saturating_add(millis));
            }
        }
    }

    /// Where the next command goes; `None` when there is none any more. No two commands under way touch the same page, for
    /// their order is the disk's business.
    fn place(
        &mut self,
        job: &Job,
        ahead: &mut usize,
        start: Instant,
        flights: &[Option<Flight>],
    ) -> Option<(usize, usize)> {
        match job.course {
            Course::Once => {
                let first = *ahead;
                let pages = job.pages.min(self.pages.saturating_sub(first));
                *ahead = first.saturating_add(pages);
                (pages > 0).then_some((first, pages))
            }
            Course::Random(until) => {
                if start.elapsed() >= until {
                    return None;
                }
                let places = self.pages.checked_div(job.pages).unwrap_or(0);
                assert!(places > flights.len(), "the disk has room for more than a ring of commands");
                loop {
                    let place = usize::try_from(self.random() >> 33).unwrap_or(0).checked_rem(places)?;
                    let first = place.saturating_mul(job.pages);
                    if flights.iter().flatten().all(|flight| flight.first != first) {
                        return Some((first, job.pages));
                    }
                }
            }
        }
    }

    /// Knuth's linear congruential generator; its upper bits are good enough for places on a disk.
    fn random(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random
    }

    fn send(
        &mut self,
        job: &Job,
        first: usize,
        pages: usize,
        spare: &mut Vec<GuestBuffer>,
        scratch: &mut [u8],
        flights: &mut [Option<Flight>],
    ) -> Result<(), DemoError> {
        let len = pages.saturating_mul(PAGE_SIZE);
        let used = spare.pop().filter(|buffer| buffer.len() == len);
        let buffer = used.unwrap_or_else(|| GuestBuffer::contiguous(0, len));
        if job.write {
            let data = scratch.get_mut(..len).unwrap_or_default();
            self.content.renew(first, data);
            buffer.write(data);
        }
        let direction = if job.write { DIRECTION_TO_DEVICE } else { DIRECTION_FROM_DEVICE };
        let cdb = cdb(job.write, first, pages);
        let since = Instant::now();
        let sent = self.frontend.submit(ScsiCall {
            nexus: super::FRONT_DISK,
            cdb,
            direction,
            buffer,
            timeout_s: 30,
        });
        // Below sixteen under way only a frontend that has disabled itself takes none.
        let rqid = sent.map_err(|_| self.no_answer(job))?;
        if let Some(flight) = flights.get_mut(usize::from(rqid)) {
            *flight = Some(Flight { first, pages, since });
        }
        Ok(())
    }

    /// Waits for an answer, and takes all that are there.
    fn answers(&mut self, job: &Job) -> Result<Vec<Reply>, DemoError> {
        let Some(first) = self.frontend.wait_reply(PATIENCE) else { return Err(self.no_answer(job)) };
        let mut answers = self.frontend.poll_responses();
        answers.push(first);
        Ok(answers)
    }

    fn no_answer(&self, job: &Job) -> DemoError {
        match self.frontend.complaints().first() {
            Some(complaint) => DemoError::Complaint(*complaint),
            None => DemoError::NoAnswer { job: job.name, in_flight: self.frontend.in_flight() },
        }
    }

    fn judge(&self, job: &Job, flight: Flight, reply: &Reply, scratch: &mut [u8]) -> Result<(), DemoError> {
        let offset = (flight.first as u64).saturating_mul(PAGE_SIZE as u64);
        let wrong = |what| DemoError::Wrong { job: job.name, offset, what };
        if reply.rslt != 0 || reply.residual != 0 {
            let (rslt, residual) = (reply.rslt, reply.residual);
            return Err(wrong(Wrong::Failed { rslt, residual, sense: reply.sense.clone() }));
        }
        if job.write {
            return Ok(());
        }
        let data = scratch.get_mut(..flight.pages.saturating_mul(PAGE_SIZE)).unwrap_or_default();
        reply.data.read(data);
        self.content.check(flight.first, data).map_err(|difference| wrong(Wrong::Data(difference)))
    }
}

/// READ (10) or WRITE (10) of whole pages (SBC-4).
fn cdb(write: bool, first: usize, pages: usize) -> Vec<u8> {
    let lba = u32::try_from(first.saturating_mul(BLOCKS_PER_PAGE));
    let blocks = u16::try_from(pages.saturating_mul(BLOCKS_PER_PAGE));
    let (Ok(lba), Ok(blocks)) = (lba, blocks) else { unreachable!("the size of the disk was checked") };
    let [a, b, c, d] = lba.to_be_bytes();
    let [m, n] = blocks.to_be_bytes();
    vec![if write { 0x2a } else { 0x28 }, 0, a, b, c, d, 0, m, n, 0]
}
