//! Event channels: the bell between frontend and backend.

use std::io;
use std::os::fd::BorrowedFd;

use crate::Port;

/// One end of an interdomain event channel, bound to a port of one guest.
///
/// A port that fired stays masked until [`unmask`](Self::unmask): the guest cannot raise more than one event for each
/// round of ours (XSA-332). Dropping unbinds.
pub trait EventChannel: Send {
    /// A descriptor that is readable while an event is pending.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Takes the pending event, if there is one. The port is masked from then on.
    ///
    /// # Errors
    ///
    /// Whatever reading the descriptor gives, except "nothing there", which is `Ok(false)`.
    fn take_pending(&mut self) -> io::Result<bool>;

    /// Lets the port fire again; an event that came meanwhile is delivered at once.
    ///
    /// # Errors
    ///
    /// Whatever writing the descriptor gives.
    fn unmask(&mut self) -> io::Result<()>;

    /// Rings the other end.
    ///
    /// # Errors
    ///
    /// When the other end has closed its port, or the domain is gone.
    fn notify(&mut self) -> io::Result<()>;

    /// Our port number, for messages.
    fn port(&self) -> Port;
}
