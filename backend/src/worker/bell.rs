//! The guest's bell, by the reactor: neither hearing it nor letting it ring again takes a system call of its own.

use std::io;

use nix::errno::Errno;

use super::{BELL, Worker, system, token};
use crate::control::WorkerError;

impl Worker {
    /// Listens to a bell that is not masked.
    pub(super) fn listen(&mut self) {
        self.reactor.read_word(self.events.as_fd(), token(BELL));
    }

    /// Lets the bell ring again, and listens: what is to be written goes down with the next wait.
    pub(super) fn unmask(&mut self) -> Result<(), WorkerError> {
        let written = self.events.unmask().map_err(|source| system("unmasking the event channel", source))?;
        match written {
            Some(bytes) => self.reactor.write_and_read_word(self.events.as_fd(), bytes, token(BELL)),
            None => self.listen(),
        }
        Ok(())
    }

    /// The bell rang, if it did: the port is masked from now on.
    pub(super) fn hear_bell(&mut self, result: i32) -> Result<bool, WorkerError> {
        let source = match result {
            // A port or, from an eventfd, a count.
            4.. => return Ok(true),
            0..4 => io::Error::other(format!("{result} bytes moved")),
            ..0 => io::Error::from_raw_os_error(result.saturating_neg()),
        };
        match source.raw_os_error().map(Errno::from_raw) {
            // From the read only: evtchn takes ports at any time, and nobody cancels.
            Some(Errno::EAGAIN | Errno::ECANCELED) => {
                self.listen();
                Ok(false)
            }
            _ => Err(system("unmasking or reading the event channel", source)),
        }
    }
}
