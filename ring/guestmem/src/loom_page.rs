//! The page of a ring as loom sees it: the same operations, tried in every order that the memory model allows.
//!
//! The four indices are loom's atomics. A slot is one cell, and loom fails when two threads touch a cell without an order
//! between them: so the Acquire and Release of the indices are proven along with the barriers. A hostile guest keeps no order; this
//! page is for proofs about honest ones. Loom's threads are one thread of the system, so an `Rc` does.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;

use loom::cell::Cell;
use loom::sync::atomic::{AtomicU32, Ordering, fence};

/// Indices at the start of the page, 4 bytes each (Xen io/ring.h).
const INDICES: usize = 4;
const HEADER: usize = 64;
const SLOT: usize = 252;
const SLOTS: usize = 16;

struct Page {
    indices: [AtomicU32; INDICES],
    slots: [Cell<[u8; SLOT]>; SLOTS],
}

/// As the real one, for a ring's accesses: indices, and whole slots.
pub struct SharedPage {
    page: Rc<Page>,
    /// The index whose store is not followed by a barrier: a mutant for the proof.
    unfenced: Option<usize>,
    last_stored: AtomicUsize,
}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPage").finish_non_exhaustive()
    }
}

impl SharedPage {
    fn slot(&self, offset: usize, len: usize) -> &Cell<[u8; SLOT]> {
        assert_eq!(((offset - HEADER) % SLOT, len), (0, SLOT), "a slot is copied as a whole");
        &self.page.slots[(offset - HEADER) / SLOT]
    }

    /// Loads the index at `offset`.
    pub fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        self.page.indices[offset / 4].load(order)
    }

    /// Stores the index at `offset`.
    pub fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.last_stored.store(offset, Ordering::Relaxed);
        self.page.indices[offset / 4].store(value, order);
    }

    /// Copies a slot out of the page.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.slot(offset, to.len()).get());
    }

    /// Copies a slot into the page.
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        let slot = self.slot(offset, from.len());
        slot.set(from.try_into().expect("a whole slot"));
    }

    /// A full barrier, unless this view is a mutant without it.
    pub fn full_barrier(&self) {
        if self.unfenced != Some(self.last_stored.load(Ordering::Relaxed)) {
            fence(Ordering::SeqCst);
        }
    }
}

/// A page of zeroes.
#[derive(Clone)]
pub struct HeapPage(Rc<Page>);

impl fmt::Debug for HeapPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapPage").finish_non_exhaustive()
    }
}

impl Default for HeapPage {
    fn default() -> Self {
        Self::new()
    }
}

impl HeapPage {
    /// A page of zeroes. To be called inside of a model.
    #[must_use]
    pub fn new() -> Self {
        let indices = std::array::from_fn(|_| AtomicU32::new(0));
        let slots = std::array::from_fn(|_| Cell::new([0; SLOT]));
        Self(Rc::new(Page { indices, slots }))
    }

    /// A view of the page.
    #[must_use]
    pub fn share(&self) -> SharedPage {
        SharedPage { page: Rc::clone(&self.0), unfenced: None, last_stored: AtomicUsize::new(0) }
    }

    /// A view that leaves out the barrier behind a store to the index at this offset, to show that the barrier matters.
    #[must_use]
    pub fn share_unfenced(&self, offset: Option<usize>) -> SharedPage {
        SharedPage { unfenced: offset, ..self.share() }
    }
}
