//! `xen-pvscsi measure`: whether copying a guest's pages or mapping them costs less on this host.
//!
//! It needs no guest: this domain grants pages to itself (`/dev/xen/gntalloc`) and treats them as a worker treats a guest's.

mod report;

pub use report::{Figures, Report};

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pvscsi_guestmem::{Buffer, BufferPool, PAGE_SIZE, SharedPage};
use pvscsi_xen::sys::gntalloc::Gntalloc;
use pvscsi_xen::sys::gntdev::Gntdev;
use pvscsi_xen::sys::grant_copy::GNTST_OKAY;
use pvscsi_xen::xenstore::{self, Xenstore};
use pvscsi_xen::{CopyStorage, Direction, DomId, GrantRef, GrantTable};

use crate::toolstack;

/// Pages of the requests: 508 KiB is the most that Linux's frontend sends.
const SIZES: [usize; 6] = [1, 4, 16, 32, 64, 127];

/// Rounds before those that count: page tables, caches and the buffer's memory get ready.
const WARM_UP: usize = 5;

/// What the buffer is filled with, so that a mapped page can tell whether it is the one that was copied to.
const PATTERN: u8 = 0x5a;

/// What the user chooses.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// How often each is done; its median counts
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: u32,
    /// Write JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// Which domain this is could not be read.
    #[error(transparent)]
    Store(#[from] xenstore::Error),
    /// One of Xen's devices.
    #[error("cannot open {path}: {source}; as root: modprobe {module}")]
    Open {
        /// Where it is.
        path: &'static str,
        /// Linux's module for it.
        module: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// `ENOSPC` of gntalloc (drivers/xen/gntalloc.c): its own limit, or the grant table is full.
    #[error(
        "gntalloc grants {granted} pages and no more, of {wanted} needed: its limit is in \
         /sys/module/xen_gntalloc/parameters/limit, unless the grant table is full"
    )]
    Limit {
        /// Pages that there were.
        granted: usize,
        /// Pages that are needed.
        wanted: usize,
    },
    /// Another failure of gntalloc.
    #[error("gntalloc cannot grant a page: {0}")]
    Grant(io::Error),
    /// No memory for the worker's side.
    #[error("cannot make a buffer: {0}")]
    Buffer(io::Error),
    /// The copy as a whole failed.
    #[error("gntdev cannot copy {pages} pages: {source}")]
    Copy {
        /// How many it was to copy.
        pages: usize,
        /// What the system said.
        source: io::Error,
    },
    /// Xen refused to copy a page.
    #[error("Xen does not copy a page that this domain has granted to itself: status {0}")]
    Refused(i16),
    /// The pages could not be mapped.
    #[error("gntdev cannot map {pages} pages: {source}")]
    Map {
        /// How many it was to map.
        pages: usize,
        /// What the system said.
        source: io::Error,
    },
    /// What is mapped is something else.
    #[error("the mapped pages do not hold what was copied to them")]
    Differs,
    /// The result could not be written.
    #[error("cannot write the result: {0}")]
    Output(io::Error),
}

/// Measures, and writes the result to standard output.
///
/// # Errors
///
/// [`MeasureError`].
pub fn run(options: &Options) -> Result<(), MeasureError> {
    // The connection ends before anything is measured.
    let own = toolstack::own(&mut Xenstore::open()?)?;
    let opened = |path, module| move |source| MeasureError::Open { path, module, source };
    let gntdev = Gntdev::open(own).map_err(opened(Gntdev::PATH, "xen-gntdev"))?;
    let gntalloc = Gntalloc::open().map_err(opened(Gntalloc::PATH, "xen-gntalloc"))?;
    let mut bench = Bench::new(own, gntdev, &gntalloc)?;
    let sizes =
        SIZES.into_iter().map(|pages| bench.figures(pages, options.rounds)).collect::<Result<_, _>>()?;
    let report = Report::new(options.rounds, sizes);
    let mut out = io::stdout().lock();
    if options.json { report.write_json(&mut out) } else { report.write_table(&mut out) }
        .and_then(|()| out.flush())
        .map_err(MeasureError::Output)
}

/// Pages of ours in a guest's role, and what a worker has for them.
struct Bench {
    own: DomId,
    gntdev: Gntdev,
    grefs: Vec<GrantRef>,
    /// The grants last as long as these.
    _pages: Vec<SharedPage>,
    storage: CopyStorage,
    pool: BufferPool,
}

impl Bench {
    fn new(own: DomId, gntdev: Gntdev, gntalloc: &Gntalloc) -> Result<Self, MeasureError> {
        let wanted = SIZES.into_iter().max().unwrap_or(0);
        let (mut grefs, mut pages) = (Vec::with_capacity(wanted), Vec::with_capacity(wanted));
        while pages.len() < wanted {
            let (gref, page) = gntalloc.grant(own, true).map_err(|error| match error.raw_os_error() {
                Some(code) if Errno::from_raw(code) == Errno::ENOSPC => {
                    MeasureError::Limit { granted: pages.len(), wanted }
                }
                _ => MeasureError::Grant(error),
            })?;
            grefs.push(gref);
            pages.push(page);
        }
        let pool = BufferPool::new(1).map_err(MeasureError::Buffer)?;
        Ok(Self { own, gntdev, grefs, _pages: pages, storage: CopyStorage::with_capacity(wanted), pool })
    }

    /// The figures of requests of so many pages.
    fn figures(&mut self, pages: usize, rounds: u32) -> Result<Figures, MeasureError> {
        let Some(mut buffer) = self.pool.take(0, pages.saturating_mul(PAGE_SIZE)) else {
            unreachable!("the pool's one buffer comes back each time")
        };
        buffer.as_mut_slice().fill(PATTERN);
        let figures = self.figures_with(&mut buffer, pages, rounds);
        self.pool.give_back(buffer);
        figures
    }

    fn figures_with(
        &mut self,
        buffer: &mut Buffer,
        pages: usize,
        rounds: u32,
    ) -> Result<Figures, MeasureError> {
        // One way after the other, not in turn: a worker goes one way only, and finds what it left in the caches.
        Ok(Figures {
            pages,
            copy_to_guest: median(rounds, || self.copy(Direction::ToGuest, buffer))?,
            copy_from_guest: median(rounds, || self.copy(Direction::FromGuest, buffer))?,
            map: median(rounds, || self.map(pages))?,
        })
    }

    /// All of the buffer, in one batch, as the worker does it.
    fn copy(&mut self, direction: Direction, buffer: &mut Buffer) -> Result<(), MeasureError> {
        let mut batch = self.storage.batch(self.own);
        for (page, gref) in buffer.as_mut_slice().chunks_mut(PAGE_SIZE).zip(&self.grefs) {
            match direction {
                Direction::ToGuest => batch.push_to_guest(*gref, 0, page),
                Direction::FromGuest => batch.push_from_guest(*gref, 0, page),
            }
        }
        let pages = batch.len();
        self.gntdev.copy(&mut batch).map_err(|source| MeasureError::Copy { pages, source })?;
        let bad = batch.statuses().find(|status| *status != GNTST_OKAY);
        bad.map_or(Ok(()), |status| Err(MeasureError::Refused(status)))
    }

    /// Maps the pages, looks into each, and unmaps them.
    fn map(&self, pages: usize) -> Result<(), MeasureError> {
        let grefs = self.grefs.get(..pages).unwrap_or(&self.grefs);
        let mapping = self.gntdev.map(grefs).map_err(|source| MeasureError::Map { pages, source })?;
        let expected = u64::from(PATTERN).saturating_mul(u64::try_from(pages).unwrap_or(u64::MAX));
        if black_box(mapping.touch()) == expected { Ok(()) } else { Err(MeasureError::Differs) }
    }
}

/// How long it takes, mostly.
fn median(rounds: u32, mut work: impl FnMut() -> Result<(), MeasureError>) -> Result<Duration, MeasureError> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_one_of_the_times_and_the_first_rounds_do_not_count() {
        let mut calls = 0;
        let took = median(3, || {
            calls += 1;
            if calls <= WARM_UP + 1 {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        assert_eq!(calls, WARM_UP + 3);
        assert!(took.unwrap() < Duration::from_millis(20));
        let failed = median(3, || Err(MeasureError::Differs));
        assert!(matches!(failed, Err(MeasureError::Differs)));
    }

    #[test]
    fn sizes_grow_and_fit_a_buffer_and_a_mapping() {
        assert!(SIZES.is_sorted());
        assert!(SIZES.iter().all(|pages| *pages <= pvscsi_xen::sys::gntdev::MOST_PAGES));
    }
}
