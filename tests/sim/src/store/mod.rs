//! A xenstore server in this process, for the client in `pvscsi_xen::xenstore` and any other that speaks the wire.
//!
//! It keeps to what Xen's C xenstored does, quotas of guests and order of messages included. Not there: `INTRODUCE` and
//! its kin (see [`Store::introduce_domain`]), permissions of special events, `SET_TARGET`, `CONTROL`.

mod client;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::{fs, io, panic};

use pvscsi_xen::DomId;

use self::request::State;
use self::server::Shared;
use self::tree::DOM0;

/// The server. One thread serves all connections; it ends when this is dropped, and all connections with it.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    sockets: Mutex<Vec<PathBuf>>,
}

/// What a [`Store`] holds at a moment: for finding leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Nodes, without the root.
    pub nodes: usize,
    /// Open connections.
    pub connections: usize,
    /// Watches of all connections.
    pub watches: usize,
    /// Transactions under way.
    pub transactions: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Starts a server with nothing but a root.
    ///
    /// # Panics
    ///
    /// When the system gives no descriptor or thread.
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::new(Shared::new().expect("an eventfd"));
        let serving = Arc::clone(&shared);
        let serve = move || server::serve(&serving);
        let thread = thread::Builder::new().name("xenstored".into()).spawn(serve).expect("a thread");
        Self { shared, thread: Some(thread), sockets: Mutex::default() }
    }

    /// A connection of a domain.
    ///
    /// # Panics
    ///
    /// When the system gives no socket.
    #[must_use]
    pub fn connect(&self, domid: DomId) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        self.shared.add_client(theirs, domid).expect("a socket that does not block");
        ours
    }

    /// Listens on a socket of this name; whoever connects is domain 0. Dropping the store removes the socket.
    ///
    /// # Errors
    ///
    /// What binding the socket gives.
    pub fn listen(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let listener = UnixListener::bind(&path)?;
        self.sockets.lock().expect("nothing panics with this lock").push(path.as_ref().to_owned());
        self.shared.add_listener(listener)
    }

    /// The value of a node, without asking for permission.
    ///
    /// # Panics
    ///
    /// When the server has panicked; so do all methods.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.shared.with(|state| state.tree.read(DOM0, path).ok())
    }

    /// Writes a node as domain 0, parents included; watches fire.
    ///
    /// # Panics
    ///
    /// When `path` is not a plain absolute path.
    pub fn write(&self, path: &str, value: impl AsRef<[u8]>) {
        let parts = path.strip_prefix('/').expect("an absolute path").split('/');
        assert!(parts.clone().all(|part| !part.is_empty()), "{path} has an empty part");
        self.shared.with(|state| {
            let written = state.tree.write(DOM0, path, value.as_ref());
            assert_eq!(written, Ok(()), "domain 0 may write everywhere");
            state.tell_changes();
        });
    }

    /// Each value that was written to the node and those below it, and `None` where one was removed, in the order of their
    /// taking effect. A connection that watches may miss what changes again soon; this does not.
    ///
    /// # Panics
    ///
    /// When `path` ends with a slash: no node is called so, and the answer would always be empty.
    #[must_use]
    pub fn history(&self, path: &str) -> Vec<(String, Option<Vec<u8>>)> {
        assert!(!path.ends_with('/'), "{path} is no node");
        self.shared.with(|state| state.tree.history(path))
    }

    /// All nodes but the root, with their values.
    #[must_use]
    pub fn dump(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.with(|state| state.tree.dump())
    }

    /// How much there is of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.with(|State { tree, clients, .. }| Counts {
            nodes: tree.len(),
            connections: clients.len(),
            watches: clients.values().map(|client| client.watches.len()).sum(),
            transactions: clients.values().map(|client| client.transactions.len()).sum(),
        })
    }

    /// Tells watches of `@introduceDomain`, as when a domain starts.
    pub fn introduce_domain(&self) {
        self.shared.with(|state| state.tell_special("@introduceDomain"));
    }

    /// Ends a domain: cuts its connections, removes the nodes that it owns, tells watches of `@releaseDomain`.
    pub fn release_domain(&self, domid: DomId) {
        self.shared.with(|state| {
            state.clients.retain(|_, client| client.domid != domid);
            state.tree.remove_owned_by(domid);
            state.tell_changes();
            state.tell_special("@releaseDomain");
        });
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.stop();
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        for socket in self.sockets.get_mut().into_iter().flatten() {
            // Somebody may have removed it already.
            drop(fs::remove_file(socket));
        }
        if let Err(payload) = ended
            && !thread::panicking()
        {
            panic::resume_unwind(payload);
        }
    }
}
