//! The reactor as an io_uring.
//!
//! Keyspace: `user_data` is an index into the table of operations; [`CANCEL`] marks completions of cancel requests. The
//! table owns what an operation needs until its completion, whatever becomes of the one who asked.
//!
//! Each operation has one completion, also the pair of a write and the read after it: they are linked, and the write carries
//! `IOSQE_CQE_SKIP_SUCCESS`. A write that works is silent; one that does not completes in place of the read
//! (io_uring_enter(2); Linux io_uring/io_uring.h, `req_set_fail`, and io_uring/timeout.c, `io_fail_links`).

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use pvscsi_guestmem::{Buffer, Span};

use crate::reactor::{Event, Reactor};
use crate::sys::reactor::{Operation, Way, What};

/// Submission slots: a vhost has 16 requests and a few descriptors; more than fit are submitted in between.
const ENTRIES: u32 = 128;

const CANCEL: u64 = u64::MAX;

/// How long a reactor that goes waits before it cancels once more.
const PATIENCE: Duration = Duration::from_millis(50);

/// A ring whose entries have room for a command of a driver's, and for its result.
type Ring = IoUring<squeue::Entry128, cqueue::Entry32>;

pub(crate) struct Uring {
    ring: Ring,
    memory: Memory,
    table: Vec<Slot>,
    free: Vec<usize>,
}

/// Memory that the kernel pins once, and not for each command.
enum Memory {
    None,
    /// Nobody has needed it yet: it is not even touched.
    Offered(Span),
    /// It is the ring's registered buffer 0. The span keeps its addresses from being used for something else.
    Registered(Span),
}

/// A place for one operation.
#[derive(Default)]
struct Slot {
    operation: Option<Operation>,
    /// What the kernel reads and writes for an operation on a word. It stays where it is when the table grows.
    word: Box<AtomicU64>,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}

impl Uring {
    /// Makes a ring for the calling thread, which must be the one that uses it.
    pub(crate) fn new() -> io::Result<Self> {
        // Linux 6.1 has the first form; 5.19 the second, and with it entries of this size.
        let ring = Ring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)
            .or_else(|_| Ring::builder().setup_coop_taskrun().setup_taskrun_flag().build(ENTRIES))
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => {
                    io::Error::new(io::ErrorKind::Unsupported, "io_uring of before Linux 5.19")
                }
                _ => error,
            })?;
        // Enough for most: it grows only when more is under way than ever before.
        let places = usize::try_from(ENTRIES).unwrap_or(0);
        let table = (0..places).map(|_| Slot::default()).collect();
        Ok(Self { ring, memory: Memory::None, table, free: (0..places).rev().collect() })
    }

    fn under_way(&self) -> usize {
        self.table.len().saturating_sub(self.free.len())
    }

    pub(crate) fn offer(&mut self, memory: Span) {
        if matches!(self.memory, Memory::None) {
            self.memory = Memory::Offered(memory);
        }
    }

    pub(crate) fn has_registered(&mut self, buffer: &Buffer) -> bool {
        if matches!(self.memory, Memory::Offered(_)) {
            self.register();
        }
        matches!(&self.memory, Memory::Registered(span) if span.contains(buffer))
    }

    fn register(&mut self) {
        let Memory::Offered(span) = std::mem::replace(&mut self.memory, Memory::None) else { return };
        let iovec = libc::iovec { iov_base: span.as_ptr().cast(), iov_len: span.bytes() };
        // SAFETY: the span is memory of ours that stays mapped as long as it lives, which is as long as the ring does, and the kernel
        // touches it for operations only.
        match unsafe { self.ring.submitter().register_buffers(&[iovec]) } {
            Ok(()) => {
                tracing::info!("{} KiB of buffers are registered with io_uring", span.bytes() / 1024);
                self.memory = Memory::Registered(span);
            }
            Err(error) => {
                tracing::info!("io_uring does not register buffers ({error}): each command pins its own");
            }
        }
    }

    pub(crate) fn start(&mut self, operation: Operation) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.table.push(Slot::default());
            self.table.len().saturating_sub(1)
        });
        assert!(index < Reactor::CAPACITY, "more operations than a worker can have");
        let Ok(user_data) = u64::try_from(index) else { unreachable!("bounded by CAPACITY") };
        let Some(slot) = self.table.get_mut(index) else { unreachable!("what is free is in the table") };
        let word = slot.word.as_ptr().cast::<u8>();
        let fd = Fd(operation.fd);
        let entry = match operation.what {
            What::Watch => {
                let Ok(mask) = u32::try_from(libc::POLLIN) else { unreachable!("POLLIN is 1") };
                opcode::PollAdd::new(fd, mask).build().into()
            }
            What::ReadWord | What::WriteAndReadWord(_) => opcode::Read::new(fd, word, 8).build().into(),
            What::Writev(iov) => opcode::Writev::new(fd, iov.first, iov.count).build().into(),
            What::Readv(iov) => opcode::Readv::new(fd, iov.first, iov.count).build().into(),
            What::File { way: Way::Read, first, bytes, offset } => {
                opcode::Read::new(fd, first, bytes).offset(offset).build().into()
            }
            What::File { way: Way::Write, first, bytes, offset } => {
                opcode::Write::new(fd, first.cast_const(), bytes).offset(offset).build().into()
            }
            What::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build().into(),
            What::Command { command, again, registered } => {
                // SAFETY: the command is in memory that the operation keeps alive, and nobody writes to it.
                let command = unsafe { command.read() };
                // The driver does not look at the number of the operation.
                let entry =
                    opcode::UringCmd80::new(fd, 0).cmd(command).buf_index(registered.then_some(0)).build();
                if again { entry.flags(squeue::Flags::ASYNC) } else { entry }
            }
        };
        let entry: squeue::Entry128 = entry.user_data(user_data);
        let what = operation.what;
        slot.operation = Some(operation);
        if let What::WriteAndReadWord([a, b, c, d]) = what {
            slot.word.store(u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), Ordering::Relaxed);
            let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
            let write = opcode::Write::new(fd, word.cast_const(), 4).build().flags(flags);
            self.push(&[write.user_data(user_data).into(), entry]);
        } else {
            self.push(&[entry]);
        }
    }

    /// Queues these entries, in one piece: a link does not reach from one submission into the next.
    fn push(&mut self, entries: &[squeue::Entry128]) {
        // SAFETY: what the entries point to is owned by the table of operations until their completion (or they need no memory).
        while unsafe { self.ring.submission().push_multiple(entries) }.is_err() {
            let submitted = self.ring.submit();
            assert!(
                submitted.is_ok() || is_interrupt(&submitted),
                "io_uring takes no entries: {submitted:?}"
            );
        }
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        if timeout != Some(Duration::ZERO) || !self.is_quiet() {
            bearable(self.enter(timeout))?;
        }
        self.reap(|event| events.push(event));
        Ok(())
    }

    /// Whether a system call would do nothing: nothing is queued, and what is finished is in the completion queue.
    fn is_quiet(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.is_empty() && !queue.taskrun() && !queue.cq_overflow()
    }

    pub(crate) fn hand_over(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { bearable(self.ring.submit()) }
    }

    pub(crate) fn has_news(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Submits what is queued, and waits for a completion.
    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let Some(timeout) = timeout else { return self.ring.submit_and_wait(1) };
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        self.ring.submitter().submit_with_args(1, &args)
    }

    fn reap(&mut self, mut tell: impl FnMut(Event)) {
        for entry in self.ring.completion() {
            if entry.user_data() == CANCEL {
                continue;
            }
            let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some(operation) = self.table.get_mut(index).and_then(|slot| slot.operation.take()) else {
                unreachable!("a completion for no operation: {index}")
            };
            self.free.push(index);
            if let Some(token) = operation.token {
                tell(Event { token, result: entry.result(), detail: entry.big_cqe()[0] });
            }
        }
    }

    pub(crate) fn cancel(&mut self, owner: u32) {
        for index in 0..self.table.len() {
            let Some(Slot { operation: Some(operation), .. }) = self.table.get_mut(index) else { continue };
            if operation.token.is_some_and(|token| token.owner == owner) {
                operation.token = None;
                self.cancel_index(index);
            }
        }
    }

    fn cancel_index(&mut self, index: usize) {
        let Ok(user_data) = u64::try_from(index) else { unreachable!("bounded by CAPACITY") };
        self.push(&[opcode::AsyncCancel::new(user_data).build().user_data(CANCEL).into()]);
    }

    fn cancel_all(&mut self) {
        for index in 0..self.table.len() {
            if self.table.get(index).is_some_and(|slot| slot.operation.is_some()) {
                self.cancel_index(index);
            }
        }
    }

    /// Takes everything back that can be taken back, and waits for the rest: for commands that a driver has, which cannot be, until
    /// `limit`. Whether nothing is left.
    pub(crate) fn settle(&mut self, limit: Option<Instant>) -> bool {
        self.cancel_all();
        while self.under_way() > 0 {
            let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            let only_commands = self.only_commands();
            if only_commands && left == Some(Duration::ZERO) {
                return false;
            }
            match self.enter(if only_commands { left } else { Some(PATIENCE) }) {
                Ok(_) => {}
                // The read of a pair is not found while its write is under way.
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => self.cancel_all(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Leaking is safe, freeing memory under the kernel's hands is not.
                    tracing::error!("io_uring does not give {} operations back: {error}", self.under_way());
                    std::mem::forget(std::mem::take(&mut self.table));
                    self.free.clear();
                    return true;
                }
            }
            self.reap(|_| {});
        }
        true
    }

    fn only_commands(&self) -> bool {
        let mut operations = self.table.iter().filter_map(|slot| slot.operation.as_ref());
        operations.all(|operation| matches!(operation.what, What::Command { .. }))
    }
}

/// What a later call makes good: it takes what is there, and submits again.
fn bearable(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        // The time is over; the completion queue is full, or memory is short.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EBUSY | libc::EAGAIN)) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_interrupt<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

impl Drop for Uring {
    /// The kernel may still write to memory of operations under way: they are cancelled and waited for first.
    fn drop(&mut self) {
        self.settle(None);
    }
}
