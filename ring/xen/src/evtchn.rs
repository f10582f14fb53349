//! Event channels: the bell between frontend and backend.

use std::io;
use std::os::fd::BorrowedFd;

use crate::Port;

/// One end of an interdomain event channel, bound to a port of one guest.
///
/// A port that fired stays masked until [`unmask`](Self::unmask): the guest cannot raise more than one event for each
/// round of ours (XSA-332). Dropping unbinds.
pub trait EventChannel: Send {
    /// A descriptor, not blocking, that is readable while an event is pending. Reading 8 bytes or less, but 4 or more, takes
    /// the event: the port is masked from then on.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Lets the port fire again, now (`None`) or when the caller has written these bytes to the descriptor; an event that came
    /// meanwhile is delivered at once.
    ///
    /// # Errors
    ///
    /// When there is no way to let it.
    fn unmask(&mut self) -> io::Result<Option<[u8; 4]>>;

    /// Rings the other end.
    ///
    /// # Errors
    ///
    /// When the other end has closed its port, or the domain is gone.
    fn notify(&mut self) -> io::Result<()>;

    /// Our port number, for messages.
    fn port(&self) -> Port;
}
