//! One page shared with a guest: copies in, copies out, never a reference.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

use crate::PAGE_SIZE;

const WORDS: usize = PAGE_SIZE / 4;

/// A page that the other side may change at any moment.
///
/// Offsets are bytes from the start of the page. An access that leaves the page, or a word access that is
/// not 4-byte aligned, is a bug of the caller and panics: offsets come from our own constants, never
/// from the guest.
pub struct SharedPage {
    base: NonNull<u8>,
    // Keeps the mapping or the heap page alive; its drop ends the mapping.
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: the page is reached through atomics only, and the owner is Send itself.
unsafe impl Send for SharedPage {}
// SAFETY: as for Send; `&SharedPage` allows atomic accesses only.
unsafe impl Sync for SharedPage {}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPage").finish_non_exhaustive()
    }
}

impl SharedPage {
    /// Takes over a mapped page.
    ///
    /// # Safety
    ///
    /// `base` is the start of [`PAGE_SIZE`] readable and writable bytes, aligned to 4 bytes, that stay
    /// mapped until `owner` is dropped, and that this process reaches through atomics only.
    pub unsafe fn from_mapping(base: NonNull<u8>, owner: Box<dyn Any + Send + Sync>) -> Self {
        assert!(base.as_ptr().cast::<u32>().is_aligned(), "a page is aligned");
        Self { base, _owner: owner }
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < PAGE_SIZE, "offset {offset} leaves the page");
        // SAFETY: the offset was checked against the page, which lives as long as `self`.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: AtomicU8 has the layout of u8, and all access to the page is atomic (type contract).
        unsafe { at.cast::<AtomicU8>().as_ref() }
    }

    fn words(&self) -> &[AtomicU32; WORDS] {
        // SAFETY: AtomicU32 has the layout of u32, the page is aligned to it and lives as long as `self`, and all access to it is
        // atomic (type contract).
        unsafe { self.base.cast::<[AtomicU32; WORDS]>().as_ref() }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        let word = self.words().get(offset / 4).filter(|_| offset.is_multiple_of(4));
        let Some(word) = word else { unreachable!("no word at offset {offset}") };
        word
    }

    /// The words of these bytes, and how many bytes they are; the rest is copied by bytes.
    fn words_of(&self, offset: usize, len: usize) -> (&[AtomicU32], usize) {
        let end = offset.checked_add(len).filter(|&end| end <= PAGE_SIZE);
        assert!(end.is_some(), "copy of {len} bytes at {offset} leaves the page");
        let count = if offset.is_multiple_of(4) { len / 4 } else { 0 };
        let words = self.words().get(offset / 4..).and_then(|words| words.get(..count));
        let Some(words) = words else { unreachable!("within the page") };
        (words, count.saturating_mul(4))
    }

    /// Loads the little-endian word at `offset`.
    pub fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        u32::from_le(self.word(offset).load(order))
    }

    /// Stores a little-endian word at `offset`.
    pub fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.word(offset).store(value.to_le(), order);
    }

    /// Copies bytes out of the page, each byte read exactly once.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let (words, len) = self.words_of(offset, to.len());
        let (by_word, by_byte) = to.split_at_mut(len);
        for (to, word) in by_word.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        for (to, at) in by_byte.iter_mut().zip(offset.saturating_add(len)..) {
            *to = self.byte(at).load(Ordering::Relaxed);
        }
    }

    /// Copies bytes into the page.
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        let (words, len) = self.words_of(offset, from.len());
        let (by_word, by_byte) = from.split_at(len);
        for (from, word) in by_word.as_chunks::<4>().0.iter().zip(words) {
            word.store(u32::from_ne_bytes(*from), Ordering::Relaxed);
        }
        for (from, at) in by_byte.iter().zip(offset.saturating_add(len)..) {
            self.byte(at).store(*from, Ordering::Relaxed);
        }
    }

    /// A full barrier (`xen_mb`): the store of an event threshold is seen before the index is read again
    /// (Xen io/ring.h, `RING_FINAL_CHECK_FOR_REQUESTS`).
    pub fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A page of plain memory with any number of handles on it: guest memory in the simulated Xen and in tests.
#[derive(Clone)]
pub struct HeapPage(Arc<[AtomicU32; WORDS]>);

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
    /// A page of zeroes.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new([const { AtomicU32::new(0) }; WORDS]))
    }

    /// A further view of the same page, of the type that the backend uses for mapped grants.
    #[must_use]
    pub fn share(&self) -> SharedPage {
        self.share_with(Box::new(()))
    }

    /// As [`share`](Self::share), with something that is dropped together with the view: a simulated Xen counts its
    /// mappings by it.
    #[must_use]
    pub fn share_with(&self, owner: Box<dyn Any + Send + Sync>) -> SharedPage {
        let base = NonNull::from(&*self.0).cast::<u8>();
        // SAFETY: the array has PAGE_SIZE bytes, is aligned to 4, lives as long as the Arc kept as owner, and
        // AtomicU32 allows shared mutation.
        unsafe { SharedPage::from_mapping(base, Box::new((self.clone(), owner))) }
    }

    /// How many handles and views of this page exist: 1 when nobody else holds it.
    #[must_use]
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_exact_at_any_alignment() {
        let page = HeapPage::new().share();
        let pattern: Vec<u8> = (0..=255).cycle().take(PAGE_SIZE).collect();
        page.copy_in(0, &pattern);
        for offset in [0, 1, 2, 3, 4, 5, 63, 64, 316, 4000, PAGE_SIZE] {
            for len in [0, 1, 3, 4, 5, 8, 95, 96] {
                if offset + len > PAGE_SIZE {
                    continue;
                }
                let mut out = vec![0xee; len];
                page.copy_out(offset, &mut out);
                assert_eq!(out, pattern[offset..offset + len], "offset {offset} length {len}");
            }
        }
    }

    #[test]
    fn two_views_see_the_same_page() {
        let heap = HeapPage::new();
        let (a, b) = (heap.share(), heap.share());
        a.store_u32(8, 0x1234_5678, Ordering::Release);
        assert_eq!(b.load_u32(8, Ordering::Acquire), 0x1234_5678);
        let mut bytes = [0; 4];
        b.copy_out(8, &mut bytes);
        assert_eq!(bytes, [0x78, 0x56, 0x34, 0x12], "the wire is little-endian");
    }

    #[test]
    fn handles_are_counted() {
        let heap = HeapPage::new();
        let view = heap.share();
        assert_eq!(heap.handles(), 2);
        drop(view);
        assert_eq!(heap.handles(), 1);
    }

    #[test]
    fn what_a_view_was_given_goes_with_it() {
        let witness = Arc::new(());
        let view = HeapPage::new().share_with(Box::new(Arc::clone(&witness)));
        assert_eq!(Arc::strong_count(&witness), 2);
        drop(view);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    #[should_panic(expected = "leaves the page")]
    fn a_copy_past_the_end_is_our_bug() {
        HeapPage::new().share().copy_out(PAGE_SIZE - 3, &mut [0; 4]);
    }

    #[test]
    #[should_panic(expected = "no word at")]
    fn an_unaligned_index_is_our_bug() {
        let _ = HeapPage::new().share().load_u32(2, Ordering::Relaxed);
    }
}
