//! The thread that serves all connections.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use pvscsi_xen::DomId;

use super::client::Client;
use super::request::{ClientId, State};
use super::tree::{DOM0, Tree};

/// What the thread and the [`Store`](super::Store) share.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// Written after a change that the thread may have to act upon.
    wake: EventFd,
    stop: AtomicBool,
}

impl Shared {
    pub fn new() -> io::Result<Self> {
        let state = State { tree: Tree::new(), clients: BTreeMap::new(), listeners: Vec::new() };
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { state: state.into(), wake, stop: AtomicBool::new(false) })
    }

    /// Runs `work` on the state, then lets the thread send what came of it.
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.lock());
        self.wake();
        result
    }

    pub fn add_client(&self, stream: UnixStream, domid: DomId) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.with(|state| {
            let id = state.clients.last_key_value().map_or(0, |(last, _)| last + 1);
            state.clients.insert(id, Client::new(stream, domid));
        });
        Ok(())
    }

    pub fn add_listener(&self, listener: UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        self.with(|state| state.listeners.push(listener.into()));
        Ok(())
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the server or one of its users has panicked")
    }

    fn wake(&self) {
        // Full is as good as written.
        let _ = self.wake.write(1);
    }
}

/// Serves until [`Shared::stop`], then closes all connections.
pub fn serve(shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        let (clients, listeners) = {
            let state = shared.lock();
            (interests(&state), state.listeners.clone())
        };
        let mut fds = vec![PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        fds.extend(clients.iter().map(|(_, stream, flags)| PollFd::new(stream.as_fd(), *flags)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let ready: Vec<ClientId> = clients
            .iter()
            .zip(&fds[1 + listeners.len()..])
            .filter_map(|((id, ..), fd)| is_ready(fd).then_some(*id))
            .collect();
        let _ = shared.wake.read();
        for listener in &listeners {
            while let Ok((stream, _)) = listener.accept() {
                // A client that cannot be served sees its connection closed.
                drop(shared.add_client(stream, DOM0));
            }
        }
        let mut state = shared.lock();
        for id in ready {
            if let Some(client) = state.clients.get_mut(&id).filter(|client| client.takes_requests()) {
                client.receive();
            }
        }
        let all: Vec<ClientId> = state.clients.keys().copied().collect();
        for id in all {
            state.serve(id);
        }
        for client in state.clients.values_mut() {
            client.flush();
        }
        state.clients.retain(|_, client| !client.gone);
    }
    shared.lock().clients.clear();
}

fn interests(state: &State) -> Vec<(ClientId, Arc<UnixStream>, PollFlags)> {
    let of = |(id, client): (&ClientId, &Client)| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, client.takes_requests());
        flags.set(PollFlags::POLLOUT, client.wants_to_send());
        (*id, Arc::clone(&client.stream), flags)
    };
    state.clients.iter().map(of).collect()
}
