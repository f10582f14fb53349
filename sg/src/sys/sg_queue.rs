//! Commands under way on one open `/dev/sgN`: headers, sense buffers and data, and their way through the reactor.
//!
//! Contracts:
//!
//! * **Keyspace.** `usr_ptr` of a header is the index of its slot; the driver brings it back with the result.
//! * **Memory.** CDBs, sense buffers and headers live in [`Memory`], which the reactor keeps alive while an operation
//!   points into it. The driver fills sense and (without direct I/O) data when a result is *read*, so a slot keeps its
//!   buffer until then; closing the descriptor ends that. With direct I/O the kernel pins the pages itself.
//! * **One writer at a time.** While a WRITEV is under way the headers of its slots are the kernel's, and no other WRITEV is
//!   started; while a READV is under way the result headers are.

use std::cell::UnsafeCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pvscsi_guestmem::Buffer;

use crate::logical_unit::{Command, Tag};
use crate::reactor::{Reactor, Token};
use crate::scsi::{Cdb, DataDirection, SENSE_MAX};
use crate::sys::reactor::{IoVecs, Keep, What};
use crate::sys::sg_io::{
    SG_DXFER_FROM_DEV, SG_DXFER_NONE, SG_DXFER_TO_DEV, SG_DXFER_TO_FROM_DEV, SG_FLAG_DIRECT_IO,
    SG_FLAG_Q_AT_TAIL, SG_GET_SCSI_ID, SG_GET_VERSION_NUM, SG_IO, SG_MAX_QUEUE, SG_SCSI_RESET,
    SG_SCSI_RESET_DEVICE, SG_SCSI_RESET_NO_ESCALATE, SgIoHdr, SgScsiId,
};

nix::ioctl_read_bad!(sg_get_scsi_id, SG_GET_SCSI_ID, SgScsiId);
nix::ioctl_readwrite_bad!(sg_io, SG_IO, SgIoHdr);
nix::ioctl_readwrite_bad!(sg_scsi_reset, SG_SCSI_RESET, libc::c_int);
nix::ioctl_read_bad!(sg_get_version_num, SG_GET_VERSION_NUM, libc::c_int);

/// How long a device that is left may take to let go of its medium.
const ALLOW_TIMEOUT_MS: u32 = 5000;

/// [`Token::what`] of the operation that starts commands.
pub(crate) const WRITE: u32 = 1;
/// [`Token::what`] of the operation that takes results.
pub(crate) const READ: u32 = 2;

const HEADER: usize = size_of::<SgIoHdr>();

/// What the kernel reads and writes.
struct Memory {
    cdbs: UnsafeCell<[[u8; 16]; SG_MAX_QUEUE]>,
    senses: UnsafeCell<[[u8; SENSE_MAX]; SG_MAX_QUEUE]>,
    commands: UnsafeCell<[SgIoHdr; SG_MAX_QUEUE]>,
    command_iovecs: UnsafeCell<[libc::iovec; SG_MAX_QUEUE]>,
    results: UnsafeCell<[SgIoHdr; SG_MAX_QUEUE]>,
    result_iovecs: UnsafeCell<[libc::iovec; SG_MAX_QUEUE]>,
}

// SAFETY: the queue that owns the memory is used by one thread at a time, and the kernel's turn is tracked by `writing`
// and `reading`; the reactor's handle only keeps it alive.
unsafe impl Send for Memory {}
// SAFETY: as for Send.
unsafe impl Sync for Memory {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for its WRITEV.
    Queued,
    /// In the kernel's hands.
    Running,
}

struct Busy {
    tag: Tag,
    buffer: Option<Buffer>,
    state: State,
}

/// A command that the driver did not take.
pub(crate) struct Refused {
    pub(crate) tag: Tag,
    pub(crate) buffer: Option<Buffer>,
    pub(crate) error: io::Error,
}

/// What the driver says of a command that it took.
pub(crate) struct SgResult<'a> {
    pub(crate) header: SgIoHdr,
    pub(crate) sense: &'a [u8],
}

pub(crate) struct SgQueue {
    // Declared first, so dropped first: closing the descriptor makes the driver forget our memory.
    device: File,
    memory: Arc<Memory>,
    busy: [Option<Busy>; SG_MAX_QUEUE],
    /// Slots in the order of submission that no WRITEV has covered yet.
    queued: Vec<usize>,
    /// Slots that the WRITEV under way covers, in order.
    written: Vec<usize>,
    writing: bool,
    reading: bool,
}

impl SgQueue {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Without O_NONBLOCK each operation would go to a thread of io_uring's.
        let device = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let header = empty_header();
        let iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: HEADER };
        let memory = Arc::new(Memory {
            cdbs: UnsafeCell::new([[0; 16]; SG_MAX_QUEUE]),
            senses: UnsafeCell::new([[0; SENSE_MAX]; SG_MAX_QUEUE]),
            commands: UnsafeCell::new([header; SG_MAX_QUEUE]),
            command_iovecs: UnsafeCell::new([iovec; SG_MAX_QUEUE]),
            results: UnsafeCell::new([header; SG_MAX_QUEUE]),
            result_iovecs: UnsafeCell::new([iovec; SG_MAX_QUEUE]),
        });
        for index in 0..SG_MAX_QUEUE {
            let target = slot(&memory.results, index);
            // SAFETY: nobody else has the memory yet.
            unsafe {
                slot(&memory.result_iovecs, index)
                    .write(libc::iovec { iov_base: target.cast(), iov_len: HEADER })
            };
        }
        Ok(Self {
            device,
            memory,
            busy: [const { None }; SG_MAX_QUEUE],
            queued: Vec::with_capacity(SG_MAX_QUEUE),
            written: Vec::with_capacity(SG_MAX_QUEUE),
            writing: false,
            reading: false,
        })
    }

    /// Address and type of the device; an error when the node is not one of the sg driver's, version 3.
    pub(crate) fn identify(&self) -> io::Result<SgScsiId> {
        let mut version = 0;
        // SAFETY: the kernel writes an int, which lives across the call.
        unsafe { sg_get_version_num(self.device.as_raw_fd(), &raw mut version) }?;
        if version < 30000 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("sg driver of version {version}"),
            ));
        }
        let mut id = SgScsiId::default();
        // SAFETY: the kernel writes a struct sg_scsi_id, which lives across the call.
        unsafe { sg_get_scsi_id(self.device.as_raw_fd(), &raw mut id) }?;
        Ok(id)
    }

    /// A second handle on the device, to reset it from another thread.
    pub(crate) fn clone_device(&self) -> io::Result<File> {
        self.device.try_clone()
    }

    /// Queues a command, or gives it back when all 16 slots are taken.
    pub(crate) fn put(&mut self, command: Command) -> Result<(), Command> {
        let Some(index) = self.busy.iter().position(Option::is_none) else { return Err(command) };
        let Command { tag, cdb, direction, mut buffer, timeout } = command;
        // SAFETY: the slot is free, so no operation of the kernel covers it.
        unsafe { slot(&self.memory.cdbs, index).write(*cdb.padded()) };
        let header = self.header(index, &cdb, direction, buffer.as_mut(), timeout);
        // SAFETY: as above.
        unsafe { slot(&self.memory.commands, index).write(header) };
        if let Some(room) = self.busy.get_mut(index) {
            *room = Some(Busy { tag, buffer, state: State::Queued });
        }
        self.queued.push(index);
        Ok(())
    }

    fn header(
        &self,
        index: usize,
        cdb: &Cdb,
        direction: DataDirection,
        buffer: Option<&mut Buffer>,
        timeout: Duration,
    ) -> SgIoHdr {
        let (dxferp, dxfer_len) = match buffer {
            Some(buffer) if !buffer.is_empty() => {
                (buffer.as_ptr(), u32::try_from(buffer.len()).unwrap_or(u32::MAX))
            }
            _ => (std::ptr::null_mut(), 0),
        };
        let dxfer_direction = match direction {
            _ if dxfer_len == 0 => SG_DXFER_NONE,
            DataDirection::None => SG_DXFER_NONE,
            DataDirection::ToDevice => SG_DXFER_TO_DEV,
            DataDirection::FromDevice => SG_DXFER_FROM_DEV,
            DataDirection::Bidirectional => SG_DXFER_TO_FROM_DEV,
        };
        let no_data = dxfer_direction == SG_DXFER_NONE;
        SgIoHdr {
            dxfer_direction,
            cmd_len: cdb.command_len(),
            mx_sb_len: u8::try_from(SENSE_MAX).unwrap_or(0),
            dxfer_len: if no_data { 0 } else { dxfer_len },
            dxferp: if no_data { std::ptr::null_mut() } else { dxferp },
            cmdp: slot(&self.memory.cdbs, index).cast(),
            sbp: slot(&self.memory.senses, index).cast(),
            timeout: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            flags: SG_FLAG_DIRECT_IO | SG_FLAG_Q_AT_TAIL,
            usr_ptr: index,
            ..empty_header()
        }
    }

    /// Starts what is queued by one WRITEV, and a READV for the results.
    pub(crate) fn flush(&mut self, owner: u32, reactor: &mut Reactor) {
        if !self.writing && !self.queued.is_empty() {
            for (at, &index) in self.queued.iter().enumerate() {
                let iovec =
                    libc::iovec { iov_base: slot(&self.memory.commands, index).cast(), iov_len: HEADER };
                // SAFETY: no WRITEV is under way, so the iovecs are ours.
                unsafe { slot(&self.memory.command_iovecs, at).write(iovec) };
                if let Some(Some(busy)) = self.busy.get_mut(index) {
                    busy.state = State::Running;
                }
            }
            let iovecs = iovecs(&self.memory.command_iovecs, self.queued.len());
            std::mem::swap(&mut self.queued, &mut self.written);
            self.writing = true;
            let keep: Keep = Arc::clone(&self.memory) as Keep;
            // SAFETY: headers, CDBs and iovecs are in `keep`; `writing` and the busy slots keep our hands off them. Data is
            // owned by the busy slots until the result was read.
            unsafe {
                reactor.0.transfer(
                    self.device.as_fd(),
                    What::Writev(iovecs),
                    Token { owner, what: WRITE },
                    keep,
                )
            };
        }
        let running = self.busy.iter().flatten().any(|busy| busy.state == State::Running);
        if !self.reading && running {
            let iovecs = iovecs(&self.memory.result_iovecs, SG_MAX_QUEUE);
            self.reading = true;
            let keep: Keep = Arc::clone(&self.memory) as Keep;
            // SAFETY: result headers, iovecs and sense buffers are in `keep`; `reading` keeps our hands off the first two, and
            // the sense buffer of a running slot is read only after its result.
            unsafe {
                reactor.0.transfer(
                    self.device.as_fd(),
                    What::Readv(iovecs),
                    Token { owner, what: READ },
                    keep,
                )
            };
        }
    }

    /// The WRITEV is over. The driver took the first ones, in order; if not all, it refused the next for a reason that only
    /// a second try tells, so the rest is queued again. Returns the command that was refused now.
    pub(crate) fn on_written(&mut self, result: i32) -> Option<Refused> {
        self.writing = false;
        let taken = usize::try_from(result).map_or(0, |bytes| bytes / HEADER);
        let mut rest = self.written.drain(taken.min(self.written.len())..);
        let refused = if taken == 0 { rest.next() } else { None };
        let refused = refused.map(|index| {
            let busy = self.busy.get_mut(index).and_then(Option::take);
            let Some(Busy { tag, buffer, .. }) = busy else { unreachable!("a written slot is busy") };
            let errno = if result < 0 { result.saturating_neg() } else { libc::EIO };
            Refused { tag, buffer, error: io::Error::from_raw_os_error(errno) }
        });
        let rest = rest.inspect(|&index| {
            if let Some(Some(busy)) = self.busy.get_mut(index) {
                busy.state = State::Queued;
            }
        });
        // What was refused or not reached comes before what was queued meanwhile.
        self.queued.splice(..0, rest);
        self.written.clear();
        refused
    }

    /// The READV is over: gives each result that it brought. An error of the descriptor itself is returned.
    pub(crate) fn on_read(
        &mut self,
        result: i32,
        mut each: impl FnMut(Tag, Option<Buffer>, SgResult<'_>),
    ) -> Result<(), io::Error> {
        self.reading = false;
        let Ok(bytes) = usize::try_from(result) else {
            let errno = result.saturating_neg();
            return if errno == libc::EAGAIN || errno == libc::ECANCELED {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(errno))
            };
        };
        for at in 0..bytes / HEADER {
            // SAFETY: the READV is over, so the result headers are ours, and the driver wrote this one.
            let header = unsafe { slot(&self.memory.results, at).read() };
            let index = header.usr_ptr;
            let busy = self.busy.get_mut(index).and_then(Option::take);
            let Some(Busy { tag, buffer, .. }) = busy else {
                unreachable!("a result for slot {index}, which is free")
            };
            // SAFETY: the result of this slot was read, so its sense buffer is ours until the slot has another command.
            let sense = unsafe { &*slot(&self.memory.senses, index) };
            // What the driver has not written is of an earlier command.
            let written = sense.get(..usize::from(header.sb_len_wr)).unwrap_or(sense);
            each(tag, buffer, SgResult { header, sense: written });
        }
        Ok(())
    }

    /// The tags of all commands under way.
    pub(crate) fn tags(&self) -> impl Iterator<Item = Tag> {
        self.busy.iter().flatten().map(|busy| busy.tag)
    }
}

/// Resets the logical unit, and nothing more than it. Waits until the kernel's error handling is through, which may take long;
/// `EAGAIN` while it deals with an earlier failure.
pub(crate) fn reset_device(device: &File) -> io::Result<()> {
    let mut what = SG_SCSI_RESET_DEVICE | SG_SCSI_RESET_NO_ESCALATE;
    // SAFETY: the kernel reads an int, which lives across the call.
    unsafe { sg_scsi_reset(device.as_raw_fd(), &raw mut what) }?;
    Ok(())
}

/// Allows the removal of the medium (SPC-4, PREVENT ALLOW MEDIUM REMOVAL), and waits for it.
pub(crate) fn allow_removal(device: &File) -> io::Result<()> {
    let mut cdb = [0x1e_u8, 0, 0, 0, 0, 0];
    let mut header =
        SgIoHdr { cmd_len: 6, cmdp: cdb.as_mut_ptr(), timeout: ALLOW_TIMEOUT_MS, ..empty_header() };
    // SAFETY: the kernel reads and writes the header, and reads the CDB; both live across the call, and there is no data.
    unsafe { sg_io(device.as_raw_fd(), &raw mut header) }?;
    Ok(())
}

pub(crate) fn empty_header() -> SgIoHdr {
    SgIoHdr {
        interface_id: i32::from(b'S'),
        dxfer_direction: SG_DXFER_NONE,
        cmd_len: 0,
        mx_sb_len: 0,
        iovec_count: 0,
        dxfer_len: 0,
        dxferp: std::ptr::null_mut(),
        cmdp: std::ptr::null_mut(),
        sbp: std::ptr::null_mut(),
        timeout: 0,
        flags: 0,
        pack_id: 0,
        usr_ptr: 0,
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    }
}

/// Address of element `index`; to be followed only when the kernel's turn is over.
fn slot<T>(cell: &UnsafeCell<[T; SG_MAX_QUEUE]>, index: usize) -> *mut T {
    assert!(index < SG_MAX_QUEUE, "slot {index} of {SG_MAX_QUEUE}");
    // SAFETY: the index was checked; no reference to the array is made.
    unsafe { cell.get().cast::<T>().add(index) }
}

fn iovecs(cell: &UnsafeCell<[libc::iovec; SG_MAX_QUEUE]>, count: usize) -> IoVecs {
    IoVecs { first: slot(cell, 0).cast_const(), count: u32::try_from(count).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReactorKind;
    use pvscsi_guestmem::BufferPool;

    #[test]
    fn what_the_driver_did_not_take_comes_before_what_came_meanwhile() {
        let mut queue = SgQueue::open(Path::new("/dev/null")).unwrap();
        let mut reactor = Reactor::new(ReactorKind::Poll).unwrap();
        let mut put = |queue: &mut SgQueue, tags: std::ops::Range<u32>| {
            for tag in tags {
                let cdb = Cdb::from_bytes(&[0; 6]);
                let (direction, timeout) = (DataDirection::None, Duration::from_secs(1));
                assert!(queue.put(Command { tag: Tag(tag), cdb, direction, buffer: None, timeout }).is_ok());
            }
            queue.flush(7, &mut reactor);
        };
        let waiting = |queue: &SgQueue| {
            let tag = |&index: &usize| {
                let busy = queue.busy[index].as_ref().unwrap();
                assert_eq!(busy.state, State::Queued);
                busy.tag.0
            };
            queue.queued.iter().map(tag).collect::<Vec<_>>()
        };
        put(&mut queue, 0..4);
        put(&mut queue, 4..6);
        let one = i32::try_from(HEADER).unwrap();
        assert!(queue.on_written(one).is_none());
        assert_eq!(waiting(&queue), [1, 2, 3, 4, 5], "the first was taken");
        put(&mut queue, 6..7);
        let refused = queue.on_written(-libc::ENOMEM).unwrap();
        assert_eq!(refused.tag, Tag(1));
        assert_eq!(refused.error.raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(waiting(&queue), [2, 3, 4, 5, 6]);
        put(&mut queue, 0..0);
        assert!(queue.on_written(5 * one).is_none());
        assert_eq!(waiting(&queue), [0; 0], "all were taken");
        assert_eq!(queue.tags().collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6].map(Tag));
    }

    /// The guest chooses direction and CDB; the driver moves data by the first and the device by the second. What the two make
    /// of a contradiction is theirs, but it happens within the command's own buffer and in the guest's direction.
    #[test]
    fn the_driver_is_given_the_guests_direction_and_one_buffer_whatever_the_cdb() {
        let queue = SgQueue::open(Path::new("/dev/null")).unwrap();
        let mut pool = BufferPool::new(1).unwrap();
        for cdb in
            [&[0; 6][..], &[0x12, 0, 0, 0, 255, 0], &[0x28, 0, 0, 0, 0, 0, 0, 255, 255, 0], &[0x2a; 10]]
        {
            for (direction, given) in [
                (DataDirection::ToDevice, SG_DXFER_TO_DEV),
                (DataDirection::FromDevice, SG_DXFER_FROM_DEV),
                (DataDirection::Bidirectional, SG_DXFER_TO_FROM_DEV),
                (DataDirection::None, SG_DXFER_NONE),
            ] {
                let cdb = Cdb::from_bytes(cdb);
                let mut buffer = pool.take(0, 512).unwrap();
                let header = queue.header(3, &cdb, direction, Some(&mut buffer), Duration::from_secs(1));
                let data = if direction == DataDirection::None {
                    (std::ptr::null_mut(), 0)
                } else {
                    (buffer.as_ptr(), 512)
                };
                assert_eq!(
                    (header.dxfer_direction, (header.dxferp, header.dxfer_len)),
                    (given, data),
                    "{cdb:?}"
                );
                pool.give_back(buffer);
                let header = queue.header(3, &cdb, direction, None, Duration::from_secs(1));
                assert_eq!(
                    (header.dxfer_direction, header.dxfer_len),
                    (SG_DXFER_NONE, 0),
                    "no data, no direction"
                );
                assert!(header.dxferp.is_null());
            }
        }
    }
}
