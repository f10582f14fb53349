//! `/dev/xen/gntdev`: mapping and copying pages that a guest granted (Linux uapi/xen/gntdev.h).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pvscsi_guestmem::{PAGE_SIZE, SharedPage};

use crate::sys::grant_copy::{CopyBatch, RawSegment};
use crate::{DomId, GrantError, GrantRef, GrantTable};

/// Most pages that are mapped together: the data of the longest request.
pub const MOST_PAGES: usize = 128;

/// `struct ioctl_gntdev_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Ref {
    /// The domain that granted the page.
    pub domid: u32,
    /// Its reference.
    pub gref: u32,
}

/// `struct ioctl_gntdev_map_grant_ref` with room for [`MOST_PAGES`] references.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MapGrantRef {
    /// References in the array.
    pub count: u32,
    /// Not used.
    pub pad: u32,
    /// Offset for mmap, set by the kernel.
    pub index: u64,
    /// The array.
    pub refs: [Ref; MOST_PAGES],
}

/// `struct ioctl_gntdev_unmap_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct UnmapGrantRef {
    /// Offset that the map ioctl gave.
    pub index: u64,
    /// Pages.
    pub count: u32,
    /// Not used.
    pub pad: u32,
}

/// `struct ioctl_gntdev_grant_copy`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GrantCopy {
    /// Segments in the array.
    pub count: u32,
    /// The array.
    pub segments: *mut RawSegment,
}

/// `IOCTL_GNTDEV_MAP_GRANT_REF`: direction none, type 'G', number 0, 24 bytes, however many references there are.
pub const IOCTL_GNTDEV_MAP_GRANT_REF: u64 = 0x0018_4700;
/// `IOCTL_GNTDEV_UNMAP_GRANT_REF`.
pub const IOCTL_GNTDEV_UNMAP_GRANT_REF: u64 = 0x0010_4701;
/// `IOCTL_GNTDEV_GRANT_COPY`.
pub const IOCTL_GNTDEV_GRANT_COPY: u64 = 0x0010_4708;

mod ioctl {
    use super::{GrantCopy, MapGrantRef, UnmapGrantRef};
    nix::ioctl_readwrite_bad!(map_grant_ref, super::IOCTL_GNTDEV_MAP_GRANT_REF, MapGrantRef);
    nix::ioctl_readwrite_bad!(unmap_grant_ref, super::IOCTL_GNTDEV_UNMAP_GRANT_REF, UnmapGrantRef);
    nix::ioctl_readwrite_bad!(grant_copy, super::IOCTL_GNTDEV_GRANT_COPY, GrantCopy);
}

/// An open `/dev/xen/gntdev`, used for the grants of one guest.
#[derive(Debug)]
pub struct Gntdev {
    device: Arc<OwnedFd>,
    domid: DomId,
}

impl Gntdev {
    /// Where the device is.
    pub const PATH: &str = "/dev/xen/gntdev";

    /// Opens the device for grants of `domid`.
    ///
    /// # Errors
    ///
    /// What opening the device gives: not there (no Xen, or module xen-gntdev not loaded), or no permission.
    pub fn open(domid: DomId) -> io::Result<Self> {
        let file: File = OpenOptions::new().read(true).write(true).open(Self::PATH)?;
        Ok(Self { device: Arc::new(file.into()), domid })
    }
}

/// Mapped grants, one behind the other: unmapped, then given back, on drop. Not Clone.
#[derive(Debug)]
pub struct Mapping {
    device: Arc<OwnedFd>,
    index: u64,
    base: NonNull<u8>,
    pages: usize,
}

// SAFETY: the address is used for loads of atomics and for munmap only.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; a shared reference gives atomic loads.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `map` with this address and size, and nobody uses it any more.
        let unmapped = unsafe { libc::munmap(self.base.as_ptr().cast(), bytes(self.pages)) };
        assert_eq!(unmapped, 0, "munmap of our own mapping");
        give_back(&self.device, self.index, self.pages);
    }
}

impl Mapping {
    /// The sum of the first byte of each page.
    #[must_use]
    pub fn touch(&self) -> u64 {
        let first_byte = |page| {
            // SAFETY: the page lies in the mapping.
            let at = unsafe { self.base.as_ptr().add(bytes(page)) };
            // SAFETY: it is mapped as long as `self` lives, and only atomics reach it.
            let byte = unsafe { AtomicU8::from_ptr(at) };
            u64::from(byte.load(Ordering::Relaxed))
        };
        (0..self.pages).map(first_byte).fold(0, u64::saturating_add)
    }
}

fn bytes(pages: usize) -> usize {
    pages.saturating_mul(PAGE_SIZE)
}

fn count(pages: usize) -> u32 {
    let Ok(count) = u32::try_from(pages) else {
        unreachable!("{pages} pages are more than are mapped together")
    };
    count
}

fn give_back(device: &OwnedFd, index: u64, pages: usize) {
    let mut unmap = UnmapGrantRef { index, count: count(pages), pad: 0 };
    // SAFETY: the kernel reads `unmap`, which lives across the call.
    let done = unsafe { ioctl::unmap_grant_ref(device.as_raw_fd(), &raw mut unmap) };
    assert!(done.is_ok(), "gntdev does not know its own index {index}: {done:?}");
}

impl Gntdev {
    /// Maps these pages together, readable and writable; all of them or none.
    ///
    /// # Errors
    ///
    /// What the system says when the hypervisor does not allow one of them.
    ///
    /// # Panics
    ///
    /// When there is none, or there are more than [`MOST_PAGES`].
    pub fn map(&self, grefs: &[GrantRef]) -> io::Result<Mapping> {
        let pages = grefs.len();
        assert!((1..=MOST_PAGES).contains(&pages), "{pages} pages cannot be mapped together");
        let mut map =
            MapGrantRef { count: count(pages), pad: 0, index: 0, refs: [Ref::default(); MOST_PAGES] };
        for (place, gref) in map.refs.iter_mut().zip(grefs) {
            *place = Ref { domid: u32::from(self.domid.0), gref: gref.0 };
        }
        // SAFETY: the kernel reads and writes `map`, which lives across the call and has room for `count` references.
        unsafe { ioctl::map_grant_ref(self.device.as_raw_fd(), &raw mut map) }?;
        let Ok(offset) = libc::off_t::try_from(map.index) else {
            unreachable!("gntdev gave offset {}", map.index)
        };
        // The hypervisor is asked here, not in the ioctl above.
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes(pages),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.device.as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            give_back(&self.device, map.index, pages);
            return Err(error);
        }
        let Some(base) = NonNull::new(at.cast::<u8>()) else { unreachable!("mmap gave address 0") };
        Ok(Mapping { device: Arc::clone(&self.device), index: map.index, base, pages })
    }
}

impl GrantTable for Gntdev {
    fn map_page(&self, gref: GrantRef) -> Result<SharedPage, GrantError> {
        let owner = self.map(&[gref]).map_err(|source| GrantError::Refused { gref, source })?;
        let base = owner.base;
        // SAFETY: the page is mapped readable and writable until `owner` is dropped, and reached through SharedPage only.
        Ok(unsafe { SharedPage::from_mapping(base, Box::new(owner)) })
    }

    fn copy(&self, batch: &mut CopyBatch<'_>) -> io::Result<()> {
        let segments = batch.raw();
        let Ok(count) = u32::try_from(segments.len()) else { unreachable!("a batch has at most thousands") };
        let mut copy = GrantCopy { count, segments: segments.as_mut_ptr() };
        // SAFETY: the array has `count` segments; each names memory that the batch borrows exclusively (CopyBatch's contract),
        // so the kernel may read and write it during the call.
        unsafe { ioctl::grant_copy(self.device.as_raw_fd(), &raw mut copy) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_xen_is_an_error_not_a_panic() {
        if std::path::Path::new(Gntdev::PATH).exists() {
            assert!(Gntdev::open(DomId(1)).is_ok());
        } else {
            assert_eq!(Gntdev::open(DomId(1)).err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        }
    }

    #[test]
    #[should_panic(expected = "129 pages cannot be mapped together")]
    fn more_pages_than_there_is_room_for_are_our_bug() {
        // Any descriptor will do: none of its ioctls is called.
        let device = Arc::new(File::open("/dev/null").unwrap().into());
        let _ = Gntdev { device, domid: DomId(1) }.map(&[GrantRef(1); MOST_PAGES + 1]);
    }
}
