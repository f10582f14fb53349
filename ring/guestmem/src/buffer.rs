//! Private, page-aligned buffers for the data of commands.
//!
//! A pool is one anonymous mapping, made once and touched lazily: a buffer that was never used costs address
//! space only. The pool never grows, so no guest chooses an allocation size.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::PAGE_SIZE;

/// Bytes a buffer can hold from a page boundary on: 128 segments of a page (feature-sg-grant = 128), and one page
/// more, so that data may start at the guest's own offset into a page.
pub const BUFFER_CAPACITY: usize = 129 * PAGE_SIZE;

struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the region is plain memory; who may touch which part is decided by the ownership of `Buffer`s.
unsafe impl Send for Region {}
// SAFETY: as for Send; a shared reference gives out nothing but the base address.
unsafe impl Sync for Region {}

impl Region {
    fn new(bytes: usize) -> std::io::Result<Self> {
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let Some(base) = NonNull::new(at.cast::<u8>()) else { unreachable!("mmap gave address 0") };
        Ok(Self { base, bytes })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this size, and the last `Buffer` into it is gone.
        let unmapped = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        assert_eq!(unmapped, 0, "munmap of our own mapping");
    }
}

/// A fixed set of [`Buffer`]s. Single-threaded by design: it lives with one worker, and needs no lock.
pub struct BufferPool {
    free: Vec<Buffer>,
    total: usize,
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("free", &self.free.len()).field("total", &self.total).finish()
    }
}

impl BufferPool {
    /// Maps room for `count` buffers of [`BUFFER_CAPACITY`] bytes.
    ///
    /// # Errors
    ///
    /// The error of mmap when the address space or the limits of the process do not allow it.
    pub fn new(count: usize) -> std::io::Result<Self> {
        Ok(Self { free: Buffer::make(count)?, total: count })
    }

    /// Makes a buffer in place of one that never comes back, since a device that is gone may still use it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); the pool is then one buffer smaller.
    pub fn replace_lost(&mut self) -> std::io::Result<()> {
        let made = Buffer::make(1).inspect_err(|_| self.total -= 1)?;
        self.free.extend(made);
        Ok(())
    }

    /// Takes a buffer whose data is `len` bytes from offset `start` on, or `None` when all are taken.
    /// The bytes are whatever the last user left.
    ///
    /// # Panics
    ///
    /// When `start` is not below a page or `start + len` is above [`BUFFER_CAPACITY`]: the caller checks the
    /// guest's lengths first.
    pub fn take(&mut self, start: usize, len: usize) -> Option<Buffer> {
        assert!(
            start < PAGE_SIZE && len <= BUFFER_CAPACITY - start,
            "{len} bytes at {start} do not fit a buffer"
        );
        let mut buffer = self.free.pop()?;
        buffer.start = start;
        buffer.len = len;
        Some(buffer)
    }

    /// Takes a buffer back.
    ///
    /// # Panics
    ///
    /// When more buffers come back than were made: one was returned to the wrong pool.
    pub fn give_back(&mut self, buffer: Buffer) {
        assert!(self.free.len() < self.total, "a buffer of another pool came back");
        self.free.push(buffer);
    }

    /// The memory of the first `count` buffers, those that are taken as long as not more are in use; for a kernel that pins it once.
    #[must_use]
    pub fn first(&self, count: usize) -> Option<Span> {
        let region = Arc::clone(&self.free.first()?.region);
        let bytes = region.bytes.min(count.saturating_mul(BUFFER_CAPACITY));
        Some(Span { region, bytes })
    }

    /// How many buffers can be taken now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

/// A part of a pool's memory that stays mapped as long as this lives. Nobody gets at the bytes by it.
pub struct Span {
    region: Arc<Region>,
    bytes: usize,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Span {
    /// Address of the first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.region.base.as_ptr()
    }

    /// Bytes in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all data of this buffer lies in it.
    #[must_use]
    pub fn contains(&self, buffer: &Buffer) -> bool {
        let end = buffer.index * BUFFER_CAPACITY + buffer.start + buffer.len;
        Arc::ptr_eq(&self.region, &buffer.region) && end <= self.bytes
    }
}

/// The data of one command: a window of private memory with exactly one owner.
pub struct Buffer {
    region: Arc<Region>,
    index: usize,
    start: usize,
    len: usize,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("index", &self.index)
            .field("start", &self.start)
            .field("len", &self.len)
            .finish()
    }
}

impl Buffer {
    fn make(count: usize) -> std::io::Result<Vec<Self>> {
        let region = Arc::new(Region::new(count * BUFFER_CAPACITY)?);
        let buffer = |index| Self { region: Arc::clone(&region), index, start: 0, len: 0 };
        Ok((0..count).rev().map(buffer).collect())
    }

    /// Bytes of data in the window.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the command has no data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte of data; for the kernel, which gets the buffer's owner along with it.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: `take` keeps start + len within the capacity, and the region has room for every index.
        unsafe { self.region.base.as_ptr().add(self.index * BUFFER_CAPACITY + self.start) }
    }

    /// The data.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the window lies in the mapping, is initialised (anonymous memory starts as zeroes), and has no
        // other owner while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The data, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap_and_come_back() {
        let mut pool = BufferPool::new(3).unwrap();
        let mut taken: Vec<Buffer> =
            (0..3).map(|i| pool.take(i * 7, BUFFER_CAPACITY - i * 7).unwrap()).collect();
        assert!(pool.take(0, 1).is_none(), "the pool is bounded");
        for (i, b) in taken.iter_mut().enumerate() {
            b.as_mut_slice().fill(i as u8 + 1);
        }
        for (i, b) in taken.iter().enumerate() {
            assert!(b.as_slice().iter().all(|&x| x == i as u8 + 1), "buffer {i} was overwritten");
        }
        for b in taken {
            pool.give_back(b);
        }
        assert_eq!(pool.available(), 3);
    }

    #[test]
    fn data_starts_where_it_was_asked_to() {
        let mut pool = BufferPool::new(1).unwrap();
        let b = pool.take(512, 100).unwrap();
        assert_eq!(b.as_ptr() as usize % PAGE_SIZE, 512);
        assert_eq!(b.len(), 100);
    }

    #[test]
    fn memory_outlives_the_pool_while_a_buffer_lives() {
        let mut pool = BufferPool::new(1).unwrap();
        let mut b = pool.take(0, 8).unwrap();
        drop(pool);
        b.as_mut_slice().copy_from_slice(b"still me");
        assert_eq!(b.as_slice(), b"still me");
    }

    #[test]
    fn a_lost_buffer_is_replaced_and_its_memory_stays() {
        let mut pool = BufferPool::new(1).unwrap();
        let mut lost = pool.take(0, 4).unwrap();
        pool.replace_lost().unwrap();
        let mut other = pool.take(0, 4).unwrap();
        lost.as_mut_slice().fill(1);
        other.as_mut_slice().fill(2);
        assert_eq!(lost.as_slice(), [1; 4]);
        pool.give_back(other);
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn the_first_buffers_are_the_ones_in_use() {
        let mut pool = BufferPool::new(3).unwrap();
        let span = pool.first(2).unwrap();
        assert_eq!(span.bytes(), 2 * BUFFER_CAPACITY);
        for _ in 0..3 {
            let (a, b) = (pool.take(0, 4096).unwrap(), pool.take(5, BUFFER_CAPACITY - 5).unwrap());
            assert_eq!(a.as_ptr(), span.as_ptr());
            assert!(span.contains(&a) && span.contains(&b));
            let third = pool.take(0, 1).unwrap();
            assert!(!span.contains(&third));
            pool.give_back(third);
            pool.give_back(b);
            pool.give_back(a);
        }
        let other = BufferPool::new(3).unwrap().take(0, 1).unwrap();
        assert!(!span.contains(&other), "of another pool");
        assert_eq!(pool.first(9).unwrap().bytes(), 3 * BUFFER_CAPACITY);
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn a_window_past_the_end_is_our_bug() {
        let _ = BufferPool::new(1).unwrap().take(1, BUFFER_CAPACITY);
    }
}
