//! The client: where xenstore is found, and watches.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::connection::{About, Connection};
use super::nodes::{Nodes, Via, sealed};
use super::wire::{self, HEADER_SIZE, XENSTORE_PAYLOAD_MAX, XS_GET_DOMAIN_PATH, XS_UNWATCH, XS_WATCH};
use super::{Error, WatchEvent, path};
use crate::DomId;

/// Names the socket of xenstored, as for Xen's own tools.
const PATH_VARIABLE: &str = "XENSTORED_PATH";
const USUAL_PATHS: [&str; 3] = ["/run/xenstored/socket", "/var/run/xenstored/socket", "/dev/xen/xenbus"];
/// The kernel keeps a message of the device, head and all, in one buffer of 4096 bytes
/// (Linux drivers/xen/xenbus/xenbus_dev_frontend.c).
const DEVICE_PAYLOAD_MAX: usize = XENSTORE_PAYLOAD_MAX - HEADER_SIZE;

/// A connection to xenstore, for one thread at a time. Operations on nodes are in [`Nodes`].
///
/// Operations wait for xenstored's answer, at most [30 seconds](Self::set_timeout). After a failure of the connection (not
/// a refusal) every further call fails with [`Error::Unusable`]; watches and transactions are gone, so reconnecting
/// means starting over.
#[derive(Debug)]
pub struct Xenstore {
    pub(super) connection: Connection,
}

impl Xenstore {
    /// Connects to the socket or device that `XENSTORED_PATH` names; without that variable, to the first that works of
    /// the usual sockets and `/dev/xen/xenbus`.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] lists what was tried.
    pub fn open() -> Result<Self, Error> {
        Self::open_first(candidates(std::env::var_os(PATH_VARIABLE)))
    }

    fn open_first(candidates: Vec<PathBuf>) -> Result<Self, Error> {
        let mut tried = Vec::new();
        for path in candidates {
            match Self::try_connect(&path) {
                Ok(xenstore) => return Ok(xenstore),
                Err(error) => tried.push((path, error)),
            }
        }
        Err(Error::Open { tried })
    }

    /// Connects to a socket or device of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_first(vec![path.as_ref().to_owned()])
    }

    fn try_connect(path: &Path) -> io::Result<Self> {
        if path.metadata()?.file_type().is_socket() {
            return Self::from_stream(UnixStream::connect(path)?);
        }
        let device = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        Ok(Self { connection: Connection::new(device.into(), DEVICE_PAYLOAD_MAX) })
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made non-blocking.
    pub fn from_stream(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { connection: Connection::new(stream.into(), XENSTORE_PAYLOAD_MAX) })
    }

    /// Sets how long a request waits for its reply.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.connection.set_timeout(timeout);
    }

    /// Watches a node and all below it, or a special event such as `@releaseDomain`. There is one event at once; each
    /// change brings another, with `token` in it.
    ///
    /// # Errors
    ///
    /// See [`Nodes`]; `EEXIST` when this watch is set already.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        self.request_watch(XS_WATCH, "watch", path, token)
    }

    /// Ends a watch. Events that came before may still be queued.
    ///
    /// # Errors
    ///
    /// See [`Nodes`]; `ENOENT` when there is no such watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        self.request_watch(XS_UNWATCH, "end the watch of", path, token)
    }

    fn request_watch(
        &mut self,
        kind: u32,
        doing: &'static str,
        path: &str,
        token: &str,
    ) -> Result<(), Error> {
        path::check_watch(path)?;
        if token.contains('\0') {
            return Err(Error::BadToken(token.to_owned()));
        }
        let parts: [&[u8]; 4] = [path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        self.connection.request(kind, 0, About { doing, path }, &parts).map(drop)
    }

    /// The next event of the watches, if there is one; never waits.
    ///
    /// Events also arrive while a request waits for its reply, and are put aside then: call this until it gives `None`
    /// before polling [the descriptor](Self::as_fd), or the poll sleeps over them.
    ///
    /// # Errors
    ///
    /// The failures of the connection, such as [`Error::Closed`].
    pub fn next_event(&mut self) -> Result<Option<WatchEvent>, Error> {
        if self.connection.events.is_empty() {
            self.connection.take_in()?;
        }
        Ok(self.connection.events.pop())
    }

    /// Where the nodes of a domain are: `/local/domain/<domid>`.
    ///
    /// # Errors
    ///
    /// See [`Nodes`].
    pub fn domain_path(&mut self, domid: DomId) -> Result<String, Error> {
        let about = About { doing: "find", path: "the path of a domain" };
        let request = format!("{domid}\0");
        let payload = self.connection.request(XS_GET_DOMAIN_PATH, 0, about, &[request.as_bytes()])?;
        match wire::strings(&payload).next().map(str::from_utf8) {
            Some(Ok(path)) => Ok(path.to_owned()),
            _ => self.connection.protocol_error("the path of a domain that is not text"),
        }
    }
}

/// Readable when events may have come; see [`Xenstore::next_event`].
impl AsFd for Xenstore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl sealed::Reach for Xenstore {
    #[expect(private_interfaces, reason = "the trait is sealed: nobody outside calls this")]
    fn via(&mut self) -> Via<'_> {
        Via { connection: &mut self.connection, tx_id: 0 }
    }
}

impl Nodes for Xenstore {}

/// One thread at a time, but any.
const _: fn(Xenstore) = {
    fn is_send(_: impl Send) {}
    is_send
};

/// An explicit choice is the only candidate: silently taking another store would be worse than failing.
fn candidates(chosen: Option<OsString>) -> Vec<PathBuf> {
    match chosen {
        Some(path) => vec![path.into()],
        None => USUAL_PATHS.map(PathBuf::from).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_choice_is_the_only_candidate() {
        assert_eq!(candidates(Some("/x/socket".into())), [PathBuf::from("/x/socket")]);
        assert_eq!(candidates(None), USUAL_PATHS.map(PathBuf::from));
    }

    #[test]
    fn a_missing_socket_is_named() {
        let error = Xenstore::connect("/nonexistent/xenstored").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/xenstored: "), "{error}");
        assert!(error.contains("does xenstored run"), "{error}");
    }
}
