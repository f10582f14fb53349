//! Where the blocks are: a file, a block device, or memory that looks like a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, PosixFadviseAdvice, fallocate, fcntl, posix_fadvise};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{major, minor};
use nix::unistd::{Whence, lseek};

use super::BlockSize;
use crate::shared::flock;

/// Bytes written or compared at once where a command covers more than its own data.
pub(super) const CHUNK: usize = 64 * 1024;

/// Where the locks of blocks begin, in a file: behind all data, since other programs that have it open lock bytes of its beginning.
const LOCKS: i64 = 1 << 62;
/// Bytes that one byte of the locks stands for.
const LOCKED_TOGETHER: u64 = 512;

static ZEROES: [u8; CHUNK] = [0; CHUNK];

/// Why there is no [`Medium`].
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// Missing, a directory, no permission: the system's own words say which.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, device, pipe or socket.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A block device where a file was to be.
    #[error("{} is a block device: write block:{}", .0.display(), .0.display())]
    IsBlockDevice(PathBuf),
    /// Anything else where a block device was to be.
    #[error("{} is not a block device; a disk on a file is written file:{}", .0.display(), .0.display())]
    NotABlockDevice(PathBuf),
    /// The kernel lets nobody else have it alone.
    #[error(
        "{} is in use on this host: it is mounted, or something has claimed it (LVM, RAID, another guest's server); \
         xen-pvscsi check block:{} says more",
        .0.display(),
        .0.display()
    )]
    Claimed(PathBuf),
    /// A device whose blocks are as no guest knows them.
    #[error("{} has blocks of {bytes:?} bytes; a disk can have 512 or 4096", path.display())]
    DeviceBlocks {
        /// The device.
        path: PathBuf,
        /// As the host has it.
        bytes: String,
    },
    /// Blocks shorter than those of the device.
    #[error("block-size={block}: the device writes {least} bytes at once, and a part of them could be lost")]
    BelowDevice {
        /// What was asked for.
        block: BlockSize,
        /// The device's own.
        least: BlockSize,
    },
    /// No blocks, or a part of a block at the end.
    #[error("a size of {bytes} bytes is not a positive multiple of {block}")]
    Size {
        /// The size.
        bytes: u64,
        /// What it should be a multiple of.
        block: BlockSize,
    },
    /// The system gives no memory file of that size.
    #[error("cannot make a medium of {bytes} bytes in memory: {source}")]
    Memory {
        /// The size that was asked for.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// The blocks of an emulated disk.
#[derive(Debug)]
pub struct Medium {
    file: Arc<File>,
    bytes: u64,
    block: BlockSize,
    /// What is written as a whole, or not at all.
    least: BlockSize,
    read_only: bool,
}

impl Medium {
    /// A medium in memory, all zeroes and gone when dropped, with blocks of 512 bytes. Blocks that were never written take no
    /// memory.
    ///
    /// # Errors
    ///
    /// [`MediumError::Size`] when `bytes` is 0 or no multiple of 512; [`MediumError::Memory`] when the system refuses.
    pub fn ram(bytes: u64) -> Result<Self, MediumError> {
        let refused = |source| MediumError::Memory { bytes, source };
        let memory =
            memfd_create("pvscsi-disk", MFdFlags::MFD_CLOEXEC).map_err(|errno| refused(errno.into()))?;
        let file = File::from(memory);
        file.set_len(bytes).map_err(refused)?;
        Self::over(file, bytes, false)
    }

    /// A regular file, with blocks of 512 bytes. With `read_only` it is opened for reading only, and the disk says that it is write-protected.
    ///
    /// # Errors
    ///
    /// [`MediumError::Open`] with the system's reason, [`MediumError::NotAFile`], and [`MediumError::Size`] for an empty
    /// file and for one whose size is no multiple of 512.
    pub fn open_file(path: &Path, read_only: bool) -> Result<Self, MediumError> {
        let failed = |source| MediumError::Open { path: path.to_owned(), source };
        // Without O_NONBLOCK the opening of a pipe would wait for its other end.
        let file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.file_type().is_block_device() {
            return Err(MediumError::IsBlockDevice(path.to_owned()));
        }
        if !metadata.is_file() {
            return Err(MediumError::NotAFile(path.to_owned()));
        }
        wait_for(&file).map_err(failed)?;
        Self::over(file, metadata.len(), read_only)
    }

    /// A block device, with blocks as long as its own. Unless it is `shared`, it is ours alone among all that claim devices:
    /// file systems, LVM, RAID, other servers (open(2), `O_EXCL` without `O_CREAT`).
    ///
    /// # Errors
    ///
    /// [`MediumError::Open`] with the system's reason, [`MediumError::NotABlockDevice`], [`MediumError::Claimed`],
    /// [`MediumError::DeviceBlocks`], and [`MediumError::Size`] for a device without a medium.
    pub fn open_block(path: &Path, read_only: bool, shared: bool) -> Result<Self, MediumError> {
        let failed = |source| MediumError::Open { path: path.to_owned(), source };
        // Before it is opened, which moves a tape.
        if !fs::metadata(path).map_err(failed)?.file_type().is_block_device() {
            return Err(MediumError::NotABlockDevice(path.to_owned()));
        }
        let alone = if shared { 0 } else { libc::O_EXCL };
        let opened = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_NONBLOCK | alone)
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::ResourceBusy => MediumError::Claimed(path.to_owned()),
                _ => failed(error),
            });
        let file = opened?;
        wait_for(&file).map_err(failed)?;
        let number = file.metadata().map_err(failed)?.rdev();
        let bytes = length(&file).map_err(failed)?;
        let said = logical_block_size(Path::new("/sys"), number).map_err(failed)?;
        let block = BlockSize::ALL.into_iter().find(|size| size.to_string() == said);
        let least = block.ok_or_else(|| MediumError::DeviceBlocks { path: path.to_owned(), bytes: said })?;
        Self { file: Arc::new(file), bytes, block: least, least, read_only }.with_block_size(least)
    }

    pub(super) fn over(file: File, bytes: u64, read_only: bool) -> Result<Self, MediumError> {
        let (file, block) = (Arc::new(file), BlockSize::B512);
        Self { file, bytes, block, least: block, read_only }.with_block_size(block)
    }

    /// The same bytes in blocks of another size.
    ///
    /// # Errors
    ///
    /// [`MediumError::Size`] when a part of a block would be left over, and [`MediumError::BelowDevice`].
    pub fn with_block_size(self, block: BlockSize) -> Result<Self, MediumError> {
        if block.bytes() < self.least.bytes() {
            return Err(MediumError::BelowDevice { block, least: self.least });
        }
        if self.bytes == 0 || !self.bytes.is_multiple_of(block.bytes().into()) {
            return Err(MediumError::Size { bytes: self.bytes, block });
        }
        Ok(Self { block, ..self })
    }

    /// Bytes in a block.
    #[must_use]
    pub fn block_size(&self) -> BlockSize {
        self.block
    }

    /// Number of blocks; at least 1.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.block.blocks_in(self.bytes)
    }

    /// Whether it was opened for reading only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The file, for reads and writes that the disk has allowed.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Takes over the size that the file or device has now, if it is another one and of whole blocks; whether it was.
    pub(super) fn follow_size(&mut self) -> bool {
        // A file that cannot be asked has errors for its readers.
        let bytes = length(&self.file).unwrap_or(self.bytes);
        let is_new = bytes != self.bytes && bytes != 0 && bytes.is_multiple_of(self.block.bytes().into());
        if is_new {
            self.bytes = bytes;
        }
        is_new
    }

    /// Keeps all who ask for a part of the same range waiting, in other processes too. Locks of open file descriptions: the
    /// kernel takes them back when a process dies (fcntl(2)).
    pub(super) fn lock(&self, offset: u64, len: u64) -> io::Result<Locked<'_>> {
        let (Ok(start), Ok(len)) =
            (i64::try_from(offset / LOCKED_TOGETHER), i64::try_from(len / LOCKED_TOGETHER))
        else {
            unreachable!("{len} bytes at {offset} of a file")
        };
        let locked = Locked { file: &self.file, start: LOCKS.saturating_add(start), len };
        locked.set(libc::F_WRLCK)?;
        Ok(locked)
    }

    /// Fills `data` from byte `offset` on. A file that has become too short is an error.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(data, offset)
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    /// Writes `chunk` again and again until `len` bytes are covered; the last time perhaps a part of it.
    pub(super) fn fill(&self, offset: u64, len: u64, chunk: &[u8]) -> io::Result<()> {
        let mut done = 0_u64;
        while done < len {
            let left = usize::try_from(len.saturating_sub(done)).unwrap_or(usize::MAX);
            let part = chunk.get(..left).unwrap_or(chunk);
            self.write(offset.saturating_add(done), part)?;
            done = done.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Waits until what was written is on stable storage. Commands never change the size, so data is all there is to save.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Has the system read a range into its cache, if it will.
    pub(super) fn pre_fetch(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
            unreachable!("{len} bytes at {offset} of a file")
        };
        // A wish: where it cannot be granted, the blocks are read when they are needed.
        let _ = posix_fadvise(&self.file, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }

    /// The first byte of data from `offset` on, and the hole behind it; `None` when there is none, and only a hole up to the end
    /// (lseek(2), SEEK_DATA). Where the file system knows no holes all is data, and so it is on a block device,
    /// which does not know the question (`blkdev_llseek`, the kernel's block/fops.c).
    pub(super) fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let seek = |from: u64, whence| {
            let Ok(from) = i64::try_from(from) else { unreachable!("byte {from} of a file") };
            lseek(&self.file, from, whence).map(|place| u64::try_from(place).unwrap_or(0))
        };
        match seek(offset, Whence::SeekData) {
            Ok(start) => Ok(Some(start..seek(start, Whence::SeekHole)?)),
            Err(Errno::ENXIO) => Ok(None),
            Err(Errno::EINVAL) => Ok(Some(offset..self.bytes)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the space of a range back; it reads as zeroes then. `false`, with nothing changed, where the file system
    /// knows no holes, and where a block device cannot zero by itself (`blkdev_fallocate`, the kernel's block/fops.c).
    pub(super) fn punch_hole(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.allocate(FallocateFlags::FALLOC_FL_PUNCH_HOLE, offset, len)
    }

    /// Makes a range read as zeroes and keeps its space.
    pub(super) fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.allocate(FallocateFlags::FALLOC_FL_ZERO_RANGE, offset, len)? {
            return Ok(());
        }
        self.fill(offset, len, &ZEROES)
    }

    fn allocate(&self, mode: FallocateFlags, offset: u64, len: u64) -> io::Result<bool> {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
            unreachable!("{len} bytes at {offset} of a file")
        };
        loop {
            match fallocate(&self.file, mode | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, len) {
                Ok(()) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The size: fstat(2) knows none of a block device. Nobody reads or writes by the place that this moves.
fn length(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// What the kernel says of the device of this number. A partition has the queue of its disk, the directory around its own
/// (Linux's Documentation/ABI/stable/sysfs-block).
fn logical_block_size(sys: &Path, number: u64) -> io::Result<String> {
    let device = sys.join(format!("dev/block/{}:{}", major(number), minor(number)));
    let disk = if device.join("partition").exists() { device.join("..") } else { device };
    Ok(fs::read_to_string(disk.join("queue/logical_block_size"))?.trim_end().to_owned())
}

/// Takes back the O_NONBLOCK of the opening: with it io_uring may answer EAGAIN where it has to wait (Linux, `io_uring/rw.c`,
/// `io_rw_init_file`).
fn wait_for(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(())
}

/// A range that is ours alone until this is dropped; see [`Medium::lock`].
#[derive(Debug)]
pub(super) struct Locked<'a> {
    file: &'a File,
    start: i64,
    len: i64,
}

impl Locked<'_> {
    fn set(&self, kind: libc::c_int) -> io::Result<()> {
        loop {
            match fcntl(self.file, FcntlArg::F_OFD_SETLKW(&flock(kind, self.start, self.len))) {
                Err(Errno::EINTR) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let unlocked = self.set(libc::F_UNLCK);
        assert!(unlocked.is_ok(), "unlocking: {unlocked:?}");
    }
}

#[cfg(test)]
mod block_device_tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::makedev;

    use super::*;

    #[test]
    fn a_partition_has_the_blocks_of_its_disk() {
        let sys = std::env::temp_dir().join(format!("pvscsi-blocks-of-{}", std::process::id()));
        for dir in ["devices/sda/queue", "devices/sda/sda1", "dev/block"] {
            fs::create_dir_all(sys.join(dir)).unwrap();
        }
        fs::write(sys.join("devices/sda/queue/logical_block_size"), "4096\n").unwrap();
        fs::write(sys.join("devices/sda/sda1/partition"), "1\n").unwrap();
        symlink(sys.join("devices/sda"), sys.join("dev/block/8:0")).unwrap();
        symlink(sys.join("devices/sda/sda1"), sys.join("dev/block/8:1")).unwrap();
        for minor in [0, 1] {
            assert_eq!(logical_block_size(&sys, makedev(8, minor)).unwrap(), "4096");
        }
        assert!(logical_block_size(&sys, makedev(8, 16)).is_err());
        fs::remove_dir_all(sys).unwrap();
    }

    #[test]
    fn blocks_are_not_shorter_than_those_of_the_device() {
        let least = BlockSize::B4096;
        let medium = || Medium { block: least, least, ..Medium::ram(8192).unwrap() };
        assert_eq!(medium().with_block_size(least).unwrap().blocks(), 2);
        assert_eq!(
            medium().with_block_size(BlockSize::B512).unwrap_err().to_string(),
            "block-size=512: the device writes 4096 bytes at once, and a part of them could be lost"
        );
    }

    #[test]
    fn what_is_no_block_device_is_not_opened() {
        for (path, error) in [
            ("/dev/null", "/dev/null is not a block device; a disk on a file is written file:/dev/null"),
            ("/no/such/device", "cannot open /no/such/device: No such file or directory (os error 2)"),
        ] {
            assert_eq!(Medium::open_block(Path::new(path), true, false).unwrap_err().to_string(), error);
        }
    }
}
