//! Buffers that are lent to the kernel, to be read from a file or written to it by io_uring.
//!
//! Contract: a buffer that is [`Lent`] cannot be looked at. It comes back only when no operation holds it any more, and whoever drops
//! it leaves it, and the file, to the operations under way.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use pvscsi_guestmem::Buffer;

use crate::reactor::{Reactor, Token};
use crate::sys::reactor::{Keep, Way, What};

/// Lends the buffer of one command after the other, so that none of them allocates.
#[derive(Debug)]
pub(crate) struct Lent(Arc<Loan>);

/// What an operation needs until it is finished. The file is one of these: its descriptor is looked up when the operation is submitted.
#[derive(Debug)]
struct Loan {
    file: Arc<File>,
    buffer: Option<Buffer>,
}

impl Lent {
    /// For buffers whose data goes to or comes from this file.
    pub(crate) fn new(file: Arc<File>) -> Self {
        Self(Arc::new(Loan { file, buffer: None }))
    }

    /// Lends a buffer, until [`give_back`](Self::give_back).
    pub(crate) fn lend(&mut self, buffer: Buffer) {
        let before = self.loan().replace(buffer);
        assert!(before.is_none(), "one buffer at a time");
    }

    /// Whoever holds it changes nothing, so nobody may hold it.
    fn loan(&mut self) -> &mut Option<Buffer> {
        let Some(loan) = Arc::get_mut(&mut self.0) else {
            unreachable!("an operation that was told of holds its buffer")
        };
        &mut loan.buffer
    }

    /// Starts to move `bytes` bytes between the buffer, from its byte `from` on, and the file, from its byte `offset` on.
    /// The reactor has to be an io_uring.
    pub(crate) fn transfer(
        &self,
        way: Way,
        (from, bytes): (u32, u32),
        offset: u64,
        token: Token,
        reactor: &mut Reactor,
    ) {
        let Some(buffer) = &self.0.buffer else { unreachable!("nothing is lent") };
        let whole = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        assert!(
            from.checked_add(bytes).is_some_and(|end| end <= whole),
            "{bytes} bytes at {from} of {whole}"
        );
        let Ok(skipped) = usize::try_from(from) else { unreachable!("within a buffer") };
        // SAFETY: the result lies in the buffer, as was asserted.
        let first = unsafe { buffer.as_ptr().add(skipped) };
        self.start(What::File { way, first, bytes, offset }, token, reactor);
    }

    /// Starts to wait until all that was written to the file is on stable storage.
    pub(crate) fn sync(&self, token: Token, reactor: &mut Reactor) {
        self.start(What::Sync, token, reactor);
    }

    fn start(&self, what: What, token: Token, reactor: &mut Reactor) {
        let keep: Keep = Arc::clone(&self.0) as Keep;
        // SAFETY: descriptor and memory are in `keep`, and nothing but `give_back` leads to the memory.
        unsafe { reactor.0.transfer(self.0.file.as_fd(), what, token, keep) };
    }

    /// The buffer, after the event of the last operation.
    pub(crate) fn give_back(&mut self) -> Buffer {
        let Some(buffer) = self.loan().take() else { unreachable!("nothing is lent") };
        buffer
    }
}
