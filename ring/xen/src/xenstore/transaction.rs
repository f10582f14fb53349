//! Several operations that take effect together or not at all.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::connection::{About, Connection};
use super::nodes::{Nodes, Via, sealed};
use super::wire::{self, XS_TRANSACTION_END, XS_TRANSACTION_START};
use super::{Error, Xenstore};

/// How often a transaction is tried before a conflict is an error.
const TRIES: u32 = 100;

/// A transaction under way; see [`Xenstore::transaction`].
#[derive(Debug)]
pub struct Transaction<'a> {
    connection: &'a mut Connection,
    id: u32,
    open: bool,
}

impl Xenstore {
    /// Runs `body` in a transaction and commits it. When others changed what `body` has read or written, `body` runs
    /// again in a new transaction, so it must not count on running once. When it fails or panics, nothing takes effect.
    ///
    /// `body` sees nodes as they were when it first touched them, which may be at different times: an impossible
    /// combination is no reason to panic, for the commit would fail.
    ///
    /// # Errors
    ///
    /// What `body` gives; what starting and committing give; `EAGAIN` when there was a conflict 100 times.
    pub fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for attempt in 1.. {
            let mut transaction = Transaction::start(&mut self.connection)?;
            let value = body(&mut transaction)?;
            match transaction.end(true) {
                Ok(()) => return Ok(value),
                Err(error) if error.errno() == Some(Errno::EAGAIN) && attempt < TRIES => {
                    // Both sides of a conflict would otherwise meet again at once.
                    thread::sleep(Duration::from_millis(u64::from(attempt.min(10))));
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }
}

impl<'a> Transaction<'a> {
    fn start(connection: &'a mut Connection) -> Result<Self, Error> {
        let about = About { doing: "start", path: "a transaction" };
        let payload = connection.request(XS_TRANSACTION_START, 0, about, &[b"\0"])?;
        let id = wire::strings(&payload).next().and_then(|text| str::from_utf8(text).ok()?.parse().ok());
        match id {
            Some(id) if id != 0 => Ok(Self { connection, id, open: true }),
            _ => connection.protocol_error("a transaction without a number"),
        }
    }

    fn end(&mut self, commit: bool) -> Result<(), Error> {
        // Whatever the answer, the transaction is over.
        self.open = false;
        let about = About { doing: if commit { "commit" } else { "abort" }, path: "a transaction" };
        let how: &[u8] = if commit { b"T\0" } else { b"F\0" };
        self.connection.request(XS_TRANSACTION_END, self.id, about, &[how]).map(drop)
    }
}

impl sealed::Reach for Transaction<'_> {
    #[expect(private_interfaces, reason = "the trait is sealed: nobody outside calls this")]
    fn via(&mut self) -> Via<'_> {
        Via { connection: self.connection, tx_id: self.id }
    }
}

impl Nodes for Transaction<'_> {}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // Best effort: when this fails, the connection is broken, and xenstored ends the transaction with it.
            drop(self.end(false));
        }
    }
}
