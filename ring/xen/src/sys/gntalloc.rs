//! `/dev/xen/gntalloc`: pages of our own that another domain may use (Linux uapi/xen/gntalloc.h): a frontend's
//! side, and what a measurement uses.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use pvscsi_guestmem::{PAGE_SIZE, SharedPage};

use crate::{DomId, GrantRef};

/// `struct ioctl_gntalloc_alloc_gref` with one reference.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AllocGref {
    /// Who may use the page.
    pub domid: u16,
    /// [`GNTALLOC_FLAG_WRITABLE`] or 0.
    pub flags: u16,
    /// Pages.
    pub count: u32,
    /// Offset for mmap, set by the kernel.
    pub index: u64,
    /// The reference, set by the kernel.
    pub gref: u32,
}

/// `struct ioctl_gntalloc_dealloc_gref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DeallocGref {
    /// Offset that the alloc ioctl gave.
    pub index: u64,
    /// Pages.
    pub count: u32,
}

/// `GNTALLOC_FLAG_WRITABLE`: the other domain may write to the page.
pub const GNTALLOC_FLAG_WRITABLE: u16 = 1;
/// `IOCTL_GNTALLOC_ALLOC_GREF`: direction none, type 'G', number 5, 24 bytes.
pub const IOCTL_GNTALLOC_ALLOC_GREF: u64 = 0x0018_4705;
/// `IOCTL_GNTALLOC_DEALLOC_GREF`.
pub const IOCTL_GNTALLOC_DEALLOC_GREF: u64 = 0x0010_4706;

mod ioctl {
    use super::{AllocGref, DeallocGref};
    nix::ioctl_readwrite_bad!(alloc_gref, super::IOCTL_GNTALLOC_ALLOC_GREF, AllocGref);
    nix::ioctl_readwrite_bad!(dealloc_gref, super::IOCTL_GNTALLOC_DEALLOC_GREF, DeallocGref);
}

/// An open `/dev/xen/gntalloc`.
#[derive(Debug)]
pub struct Gntalloc(Arc<OwnedFd>);

/// A page of ours: unmapped, and its grant taken back, on drop. Not Clone.
struct Granted {
    device: Arc<OwnedFd>,
    index: u64,
    base: NonNull<u8>,
}

// SAFETY: the address is used for munmap only.
unsafe impl Send for Granted {}
// SAFETY: as for Send; there is nothing to do with a shared reference.
unsafe impl Sync for Granted {}

impl Drop for Granted {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `grant` with this address and size, and nobody uses it any more.
        let unmapped = unsafe { libc::munmap(self.base.as_ptr().cast(), PAGE_SIZE) };
        assert_eq!(unmapped, 0, "munmap of our own mapping");
        take_back(&self.device, self.index);
    }
}

fn take_back(device: &OwnedFd, index: u64) {
    let mut dealloc = DeallocGref { index, count: 1 };
    // SAFETY: the kernel reads `dealloc`, which lives across the call.
    let done = unsafe { ioctl::dealloc_gref(device.as_raw_fd(), &raw mut dealloc) };
    assert!(done.is_ok(), "gntalloc does not know its own index {index}: {done:?}");
}

impl Gntalloc {
    /// Where the device is.
    pub const PATH: &str = "/dev/xen/gntalloc";

    /// Opens the device.
    ///
    /// # Errors
    ///
    /// What opening gives: not there (no Xen, or module xen-gntalloc not loaded), or no permission.
    pub fn open() -> io::Result<Self> {
        let file: File = OpenOptions::new().read(true).write(true).open(Self::PATH)?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Grants a new page of zeroes to `to`, which may write to it if `writable`. Dropping the page takes the grant back; while
    /// the other domain uses it, the kernel keeps the page and tries again later.
    ///
    /// # Errors
    ///
    /// When there is no page or no grant reference left (the module's parameter `limit`), or no address for it.
    pub fn grant(&self, to: DomId, writable: bool) -> io::Result<(GrantRef, SharedPage)> {
        let flags = if writable { GNTALLOC_FLAG_WRITABLE } else { 0 };
        let mut alloc = AllocGref { domid: to.0, flags, count: 1, index: 0, gref: 0 };
        // SAFETY: the kernel reads and writes `alloc`, which lives across the call and has room for its one reference.
        unsafe { ioctl::alloc_gref(self.0.as_raw_fd(), &raw mut alloc) }?;
        let Ok(offset) = libc::off_t::try_from(alloc.index) else {
            unreachable!("gntalloc gave offset {}", alloc.index)
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.0.as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            take_back(&self.0, alloc.index);
            return Err(error);
        }
        let Some(base) = NonNull::new(at.cast::<u8>()) else { unreachable!("mmap gave address 0") };
        let owner = Granted { device: Arc::clone(&self.0), index: alloc.index, base };
        // SAFETY: the page is mapped readable and writable until `owner` is dropped, and reached through SharedPage only.
        let page = unsafe { SharedPage::from_mapping(base, Box::new(owner)) };
        Ok((GrantRef(alloc.gref), page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_xen_is_an_error_not_a_panic() {
        if std::path::Path::new(Gntalloc::PATH).exists() {
            assert!(Gntalloc::open().is_ok());
        } else {
            assert_eq!(Gntalloc::open().err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        }
    }
}
