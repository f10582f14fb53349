//! The reactor as an io_uring.
//!
//! Keyspace: `user_data` is an index into the table of operations; [`CANCEL`] marks completions of cancel requests. The
//! table owns what an operation needs until its last completion, whatever becomes of the one who asked.

use std::fmt;
use std::io;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use crate::reactor::{Event, Reactor};
use crate::sys::reactor::{Operation, Way, What};

/// Submission slots: a vhost has 16 requests and a few descriptors; more than fit are submitted in between.
const ENTRIES: u32 = 128;

const CANCEL: u64 = u64::MAX;

pub(crate) struct Uring {
    ring: IoUring,
    operations: Vec<Option<Operation>>,
    free: Vec<usize>,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}

impl Uring {
    /// Makes a ring for the calling thread, which must be the one that uses it.
    pub(crate) fn new() -> io::Result<Self> {
        // Linux 6.1 has the first form, 5.19 the second, 5.11 (extended wait arguments) the third.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)
            .or_else(|_| IoUring::builder().setup_coop_taskrun().build(ENTRIES))
            .or_else(|_| IoUring::new(ENTRIES))?;
        if !ring.params().is_feature_ext_arg() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring of before Linux 5.11"));
        }
        // They grow only when more is under way than ever before.
        let room = usize::try_from(ENTRIES).unwrap_or(0);
        Ok(Self { ring, operations: Vec::with_capacity(room), free: Vec::with_capacity(room) })
    }

    fn under_way(&self) -> usize {
        self.operations.len().saturating_sub(self.free.len())
    }

    pub(crate) fn start(&mut self, operation: Operation) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.operations.push(None);
            self.operations.len().saturating_sub(1)
        });
        assert!(index < Reactor::CAPACITY, "more operations than a worker can have");
        let fd = Fd(operation.fd);
        let entry = match operation.what {
            What::Watch => {
                let Ok(mask) = u32::try_from(libc::POLLIN) else { unreachable!("POLLIN is 1") };
                opcode::PollAdd::new(fd, mask).build()
            }
            What::Writev(iov) => opcode::Writev::new(fd, iov.first, iov.count).build(),
            What::Readv(iov) => opcode::Readv::new(fd, iov.first, iov.count).build(),
            What::File { way: Way::Read, first, bytes, offset } => {
                opcode::Read::new(fd, first, bytes).offset(offset).build()
            }
            What::File { way: Way::Write, first, bytes, offset } => {
                opcode::Write::new(fd, first.cast_const(), bytes).offset(offset).build()
            }
            What::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        };
        let Ok(user_data) = u64::try_from(index) else { unreachable!("bounded by CAPACITY") };
        if let Some(slot) = self.operations.get_mut(index) {
            *slot = Some(operation);
        }
        self.push(&entry.user_data(user_data));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry points to is owned by the table of operations until its completion (or needs no memory).
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            let submitted = self.ring.submit();
            assert!(
                submitted.is_ok() || is_interrupt(&submitted),
                "io_uring takes no entries: {submitted:?}"
            );
        }
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let submitted = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                let args = SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match submitted {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The completion queue is full or memory is short: take what is there, and submit again next time.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => {}
            Err(error) => return Err(error),
        }
        self.reap(|event| events.push(event));
        Ok(())
    }

    fn reap(&mut self, mut tell: impl FnMut(Event)) {
        for entry in self.ring.completion() {
            if entry.user_data() == CANCEL {
                continue;
            }
            let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some(operation) = self.operations.get_mut(index).and_then(Option::take) else {
                unreachable!("a completion for no operation: {index}")
            };
            self.free.push(index);
            if let Some(token) = operation.token {
                tell(Event { token, result: entry.result() });
            }
        }
    }

    pub(crate) fn cancel(&mut self, owner: u32) {
        for index in 0..self.operations.len() {
            let Some(Some(operation)) = self.operations.get_mut(index) else { continue };
            if operation.token.is_some_and(|token| token.owner == owner) {
                operation.token = None;
                self.cancel_index(index);
            }
        }
    }

    fn cancel_index(&mut self, index: usize) {
        let Ok(user_data) = u64::try_from(index) else { unreachable!("bounded by CAPACITY") };
        self.push(&opcode::AsyncCancel::new(user_data).build().user_data(CANCEL));
    }
}

fn is_interrupt<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

impl Drop for Uring {
    /// The kernel may still write to memory of operations under way: they are cancelled and waited for first.
    fn drop(&mut self) {
        for index in 0..self.operations.len() {
            if self.operations.get(index).is_some_and(Option::is_some) {
                self.cancel_index(index);
            }
        }
        while self.under_way() > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Leaking is safe, freeing memory under the kernel's hands is not.
                    tracing::error!("io_uring does not give {} operations back: {error}", self.under_way());
                    std::mem::forget(std::mem::take(&mut self.operations));
                    return;
                }
            }
            self.reap(|_| {});
        }
    }
}
