//! Commands under way on one open `/dev/bsg/H:C:T:L`, each an operation of the io_uring's.
//!
//! Contract: what the kernel reads and writes for a command is its [`Loan`], which the reactor keeps until the command has ended,
//! whoever has gone meanwhile: an issued command cannot be taken back. While the kernel has it nobody else looks at it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pvscsi_guestmem::Buffer;
use zerocopy::IntoBytes;

use crate::logical_unit::{Command, Tag, buffer_len};
use crate::reactor::{Event, Reactor, ReactorKind, Token};
use crate::scsi::{DataDirection, SENSE_MAX};
use crate::sys::bsg::{BsgResult, BsgUringCmd, COMMAND_LEN};
use crate::sys::reactor::{Keep, What};
use crate::sys::sg_io::SG_MAX_QUEUE;

/// 25 days, in the kernel's signed numbers.
const TIMEOUT_MAX_MS: u32 = u32::MAX >> 1;

const SENSE_WORDS: usize = SENSE_MAX / size_of::<u64>();

/// Linux's `CAP_SYS_RAWIO` (uapi/linux/capability.h).
const CAP_SYS_RAWIO: u32 = 17;

/// How long the driver may take to refuse what is no command.
const PROBE: Duration = Duration::from_secs(1);

/// What the kernel has of a command.
struct Loan {
    device: Arc<File>,
    cdb: [u8; 16],
    sense: [AtomicU64; SENSE_WORDS],
    buffer: Option<Buffer>,
    /// Has the addresses of those before.
    command: [u8; COMMAND_LEN],
}

impl Loan {
    fn new(device: &Arc<File>) -> Arc<Self> {
        Arc::new(Self {
            device: Arc::clone(device),
            cdb: [0; 16],
            sense: [const { AtomicU64::new(0) }; SENSE_WORDS],
            buffer: None,
            command: [0; COMMAND_LEN],
        })
    }

    fn start(self: &Arc<Self>, again: bool, token: Token, reactor: &mut Reactor) {
        let registered = self.buffer.as_ref().is_some_and(|buffer| reactor.0.has_registered(buffer));
        let keep: Keep = Arc::clone(self) as Keep;
        let what = What::Command { command: &raw const self.command, again, registered };
        // SAFETY: the descriptor and all that the command points to are in `keep`. As long as it lives, `Arc::get_mut` gives nobody
        // the CDB, the buffer or the command; sense data is atomics.
        unsafe { reactor.0.transfer(self.device.as_fd(), what, token, keep) };
    }
}

struct Slot {
    loan: Arc<Loan>,
    /// Without its buffer, which is lent. `None`: the slot is free.
    command: Option<Command>,
    /// Bytes of data that are to be moved.
    bytes: u32,
    /// The kernel had no memory for it, or no place, without waiting; it may wait now.
    again: bool,
}

/// A command that is over, one way or the other.
pub(crate) struct Done {
    pub(crate) tag: Tag,
    pub(crate) buffer: Option<Buffer>,
    /// Bytes that were to be moved.
    pub(crate) bytes: u32,
    pub(crate) result: io::Result<BsgResult>,
    pub(crate) sense: [u8; SENSE_MAX],
}

pub(crate) struct BsgQueue {
    slots: Vec<Slot>,
    /// Slots in the order of submission that were not started yet.
    queued: Vec<usize>,
}

impl BsgQueue {
    /// Opens the node, if this kernel and this process can send all commands through it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let device = Arc::new(OpenOptions::new().read(true).write(true).open(path)?);
        if !has_capability(CAP_SYS_RAWIO) {
            let text = "without CAP_SYS_RAWIO the kernel refuses many commands";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        probe(&device)?;
        Ok(Self::on(&device))
    }

    fn on(device: &Arc<File>) -> Self {
        let slot = || Slot { loan: Loan::new(device), command: None, bytes: 0, again: false };
        // As many as the sg driver takes.
        Self { slots: (0..SG_MAX_QUEUE).map(|_| slot()).collect(), queued: Vec::with_capacity(SG_MAX_QUEUE) }
    }

    /// A queue on `/dev/null`, which does whatever it is told at once. `None`: it did not before Linux 6.2.
    #[cfg(test)]
    pub(crate) fn on_null() -> Option<Self> {
        let device = Arc::new(OpenOptions::new().read(true).write(true).open("/dev/null").unwrap());
        let said = probe(&device).err().unwrap().to_string();
        (said == TAKES_ALL).then(|| Self::on(&device))
    }

    /// Queues a command, or gives it back when all slots are taken.
    pub(crate) fn put(&mut self, command: Command) -> Result<(), Command> {
        let Some(index) = self.slots.iter().position(|slot| slot.command.is_none()) else {
            return Err(command);
        };
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("it was just found") };
        let Some(loan) = Arc::get_mut(&mut slot.loan) else { unreachable!("its last operation is over") };
        let Command { cdb, direction, buffer, timeout, .. } = &command;
        slot.bytes = if *direction == DataDirection::None { 0 } else { buffer_len(buffer.as_ref()) };
        let mut wire = BsgUringCmd {
            request: address(loan.cdb.as_ptr()),
            request_len: cdb.command_len().into(),
            max_response_len: u32::try_from(SENSE_MAX).unwrap_or(0),
            response: address(loan.sense.as_ptr()),
            // 0 would be a minute; what is above the largest signed number would be no limit at all.
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).clamp(1, TIMEOUT_MAX_MS),
            ..BsgUringCmd::default()
        };
        let data = buffer.as_ref().filter(|_| slot.bytes > 0).map_or(0, |buffer| address(buffer.as_ptr()));
        if *direction == DataDirection::ToDevice {
            (wire.dout_xferp, wire.dout_xfer_len) = (data, slot.bytes);
        } else {
            // Both ways is a read, as it is to the sg driver.
            (wire.din_xferp, wire.din_xfer_len) = (data, slot.bytes);
        }
        loan.cdb = *cdb.padded();
        loan.command.copy_from_slice(wire.as_bytes());
        let mut command = command;
        loan.buffer = command.buffer.take();
        (slot.command, slot.again) = (Some(command), false);
        self.queued.push(index);
        Ok(())
    }

    /// Starts what is queued.
    pub(crate) fn flush(&mut self, owner: u32, reactor: &mut Reactor) {
        for index in self.queued.drain(..) {
            let (Some(slot), Ok(what)) = (self.slots.get(index), u32::try_from(index)) else {
                unreachable!("slot {index} of {SG_MAX_QUEUE}")
            };
            slot.loan.start(slot.again, Token { owner, what }, reactor);
        }
    }

    /// An operation is over: gives its command, unless that is tried once more.
    pub(crate) fn on_done(&mut self, event: Event) -> Option<Done> {
        let index = usize::try_from(event.token.what).unwrap_or(usize::MAX);
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("an event for slot {index}") };
        let errno = event.result.saturating_neg();
        if matches!(errno, libc::EAGAIN | libc::ENOMEM) && !std::mem::replace(&mut slot.again, true) {
            self.queued.push(index);
            return None;
        }
        let Some(Command { tag, .. }) = slot.command.take() else {
            unreachable!("an event for slot {index}, which is free")
        };
        let Some(loan) = Arc::get_mut(&mut slot.loan) else { unreachable!("its operation is over") };
        let result = if errno > 0 {
            Err(io::Error::from_raw_os_error(errno))
        } else {
            Ok(BsgResult::from_word(event.detail))
        };
        let mut sense = [0; SENSE_MAX];
        for (to, from) in sense.chunks_exact_mut(size_of::<u64>()).zip(&loan.sense) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        Some(Done { tag, buffer: loan.buffer.take(), bytes: slot.bytes, result, sense })
    }

    /// Takes back the commands that were not started, in order.
    pub(crate) fn take_queued(&mut self) -> impl Iterator<Item = Command> {
        let slots = &mut self.slots;
        self.queued.drain(..).filter_map(|index| {
            let slot = slots.get_mut(index)?;
            let buffer = Arc::get_mut(&mut slot.loan)?.buffer.take();
            slot.command.take().map(|command| Command { buffer, ..command })
        })
    }
}

/// An address as the kernel takes it.
fn address<T>(pointer: *const T) -> u64 {
    let Ok(address) = u64::try_from(pointer.expose_provenance()) else { unreachable!("64 bits") };
    address
}

/// No driver of SCSI devices.
const TAKES_ALL: &str = "it takes what is no command";

/// Whether the driver behind this node takes commands by io_uring. Nothing comes to the device: a command without a CDB is `EINVAL` to
/// a driver that looks at it, before all else, and `EOPNOTSUPP` to the kernel where there is none.
fn probe(device: &Arc<File>) -> io::Result<()> {
    let mut reactor = Reactor::new(ReactorKind::IoUring)?;
    Loan::new(device).start(false, Token { owner: 0, what: 0 }, &mut reactor);
    let mut events = Vec::new();
    reactor.wait(Some(PROBE), &mut events)?;
    match events.first().map(|event| event.result.saturating_neg()) {
        Some(libc::EINVAL) => Ok(()),
        Some(0) => Err(io::Error::other(TAKES_ALL)),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether this process has the capability (proc_pid_status(5), `CapEff`).
fn has_capability(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    set.checked_shr(capability).is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
mod tests {
    use pvscsi_guestmem::BufferPool;

    use super::*;
    use crate::scsi::Cdb;

    fn queue() -> BsgQueue {
        BsgQueue::on(&Arc::new(File::open("/dev/null").unwrap()))
    }

    fn command(tag: u32, direction: DataDirection, buffer: Option<Buffer>) -> Command {
        let cdb = Cdb::from_bytes(&[0x28, 0, 0, 0, 9, 0, 0, 0, 1, 0]);
        Command { tag: Tag(tag), cdb, direction, buffer, timeout: Duration::from_millis(2500) }
    }

    /// What the kernel gets: fields of `struct bsg_uring_cmd` by their offsets.
    fn long(command: &[u8; COMMAND_LEN], at: usize) -> u64 {
        u64::from_ne_bytes(command[at..at + 8].try_into().unwrap())
    }
    fn word(command: &[u8; COMMAND_LEN], at: usize) -> u32 {
        u32::from_ne_bytes(command[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_driver_is_given_the_guests_direction_and_one_buffer() {
        let mut pool = BufferPool::new(8).unwrap();
        for (direction, out, bytes) in [
            (DataDirection::ToDevice, true, 512),
            (DataDirection::FromDevice, false, 512),
            (DataDirection::Bidirectional, false, 512),
            (DataDirection::None, false, 0),
        ] {
            let mut queue = queue();
            let buffer = pool.take(0, 512).unwrap();
            let data = if bytes > 0 { buffer.as_ptr() as u64 } else { 0 };
            queue.put(command(3, direction, Some(buffer))).unwrap();
            let Loan { cdb, sense, command, .. } = &*queue.slots[0].loan;
            assert_eq!(cdb[..10], [0x28, 0, 0, 0, 9, 0, 0, 0, 1, 0]);
            assert_eq!((long(command, 0), word(command, 8)), (cdb.as_ptr() as u64, 10));
            assert_eq!((long(command, 24), word(command, 20)), (sense.as_ptr() as u64, 96));
            let (to, from) = ((long(command, 32), word(command, 40)), (long(command, 48), word(command, 56)));
            let (used, other) = if out { (to, from) } else { (from, to) };
            assert_eq!((used, other), ((data, bytes), (0, 0)), "{direction:?}");
            assert_eq!(word(command, 64), 2500);
        }
        let mut queue = queue();
        for (timeout, ms) in [(Duration::ZERO, 1), (Duration::MAX, i32::MAX as u32)] {
            queue.put(Command { timeout, ..command(1, DataDirection::None, None) }).unwrap();
            let slot = queue.slots.iter().rfind(|slot| slot.command.is_some()).unwrap();
            assert_eq!(word(&slot.loan.command, 64), ms);
        }
    }

    #[test]
    fn what_the_kernel_has_no_room_for_is_tried_once_more() {
        let mut pool = BufferPool::new(1).unwrap();
        for errno in [libc::EAGAIN, libc::ENOMEM] {
            let mut queue = queue();
            queue.put(command(5, DataDirection::FromDevice, pool.take(0, 512))).unwrap();
            queue.queued.clear();
            let event = Event { token: Token { owner: 7, what: 0 }, result: -errno, detail: 0 };
            assert!(queue.on_done(event).is_none(), "not yet");
            assert_eq!((&queue.queued[..], queue.slots[0].again), (&[0][..], true));
            queue.queued.clear();
            let done = queue.on_done(event).unwrap();
            assert_eq!((done.tag, done.bytes), (Tag(5), 512));
            assert_eq!(done.result.unwrap_err().raw_os_error(), Some(errno));
            pool.give_back(done.buffer.unwrap());
            queue.put(command(6, DataDirection::None, None)).unwrap();
            assert!(!queue.slots[0].again, "the next one has its own try");
        }
    }

    #[test]
    fn a_result_brings_its_sense() {
        let mut queue = queue();
        queue.put(command(5, DataDirection::None, None)).unwrap();
        queue.slots[0].loan.sense[0]
            .store(u64::from_ne_bytes([0x70, 0, 5, 0, 0, 0, 0, 10]), Ordering::Relaxed);
        let detail = 2 | 8 << 8 | 18 << 24;
        let event = Event { token: Token { owner: 7, what: 0 }, result: 0, detail };
        let done = queue.on_done(event).unwrap();
        assert_eq!(done.result.unwrap(), BsgResult::from_word(detail));
        assert_eq!(done.sense[..9], [0x70, 0, 5, 0, 0, 0, 0, 10, 0]);
    }

    #[test]
    fn sixteen_fit_and_come_back_in_order() {
        let mut queue = queue();
        for tag in 0..16 {
            queue.put(command(tag, DataDirection::None, None)).unwrap();
        }
        assert_eq!(queue.put(command(16, DataDirection::None, None)).unwrap_err().tag, Tag(16));
        let back: Vec<_> = queue.take_queued().map(|command| command.tag.0).collect();
        assert_eq!(back, (0..16).collect::<Vec<_>>());
        queue.put(command(17, DataDirection::None, None)).unwrap();
    }

    #[test]
    fn only_a_driver_that_knows_commands_is_taken() {
        for path in ["/dev/null", "/dev/zero", "/etc/passwd"] {
            assert!(BsgQueue::open(Path::new(path)).is_err(), "{path}");
        }
    }
}
