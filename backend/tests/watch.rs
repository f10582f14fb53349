//! `xen-pvscsi watch` with real servers, on a simulated xenstore.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use pvscsi_sim::store::Store;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Nodes, Xenstore};

struct Host {
    store: Store,
    socket: PathBuf,
    /// What systemd would listen on.
    manager: UnixDatagram,
}

impl Host {
    fn new(name: &str) -> Self {
        let store = Store::new();
        let socket = std::env::temp_dir().join(format!("pvscsi-watch-{name}-{}", std::process::id()));
        store.listen(&socket).unwrap();
        let _ = fs::remove_file(socket.with_extension("notify"));
        let manager = UnixDatagram::bind(socket.with_extension("notify")).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { store, socket, manager }
    }

    fn watch(&self) -> Child {
        let mut program = Command::new(env!("CARGO_BIN_EXE_xen-pvscsi"));
        program.args(["watch", "--", "--engine", "sg-epoll"]).env("XENSTORED_PATH", &self.socket);
        program.env("NOTIFY_SOCKET", self.socket.with_extension("notify"));
        let watcher = program.stderr(Stdio::null()).spawn().unwrap();
        let mut said = [0; 64];
        let length = self.manager.recv(&mut said).unwrap();
        assert_eq!(String::from_utf8_lossy(&said[..length]).trim(), "READY=1");
        watcher
    }

    /// A guest with a vhost, as a toolstack leaves it.
    fn guest(&self, domid: u16) {
        let backend = format!("/local/domain/0/backend/vscsi/{domid}/0");
        let frontend = format!("/local/domain/{domid}/device/vscsi/0");
        self.store.write(&format!("{frontend}/state"), "1");
        self.store.write(&format!("{backend}/frontend"), &frontend);
        self.store.write(&format!("{backend}/online"), "1");
        self.store.write(&format!("{backend}/state"), "1");
    }

    fn until_served(&self, domid: u16) -> Pid {
        let state = format!("/local/domain/0/backend/vscsi/{domid}/0/state");
        until("the vhost is taken up", || self.store.read(&state).as_deref() == Some(b"2"));
        let servers = servers(domid);
        assert_eq!(servers.len(), 1, "{servers:?}");
        // It names itself, first of all; the state may be that of the one before it.
        let comm = format!("/proc/{}/comm", servers[0]);
        until("it has its name", || fs::read_to_string(&comm).unwrap().trim() == "xen-pvscsi");
        assert_eq!(getpgid(Some(servers[0])), Ok(servers[0]), "a Ctrl-C for the watcher is none for it");
        servers[0]
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket.with_extension("notify"));
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Processes that were started for the guest with what a watcher gives them. One that has ended has no arguments.
fn servers(domid: u16) -> Vec<Pid> {
    let wanted = format!("xen-pvscsi\0--log\0info\0serve\0--domid\0{domid}\0--engine\0sg-epoll\0");
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let arguments = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (arguments == wanted).then(|| Pid::from_raw(process))
    });
    processes.collect()
}

fn told_to_end(mut watcher: Child, signal: Signal) {
    kill(Pid::from_raw(watcher.id().try_into().unwrap()), signal).unwrap();
    assert!(watcher.wait().unwrap().success());
}

#[test]
fn servers_come_with_guests_and_outlive_the_watcher() {
    let host = Host::new("come");
    let watcher = host.watch();
    host.guest(31_301);
    let first = host.until_served(31_301);
    host.guest(31_302);
    let second = host.until_served(31_302);
    told_to_end(watcher, Signal::SIGTERM);

    // The next one starts nothing that is there, but what is new.
    let watcher = host.watch();
    host.guest(31_303);
    host.until_served(31_303);
    assert_eq!(servers(31_301), [first]);
    assert_eq!(servers(31_302), [second]);

    // Guests that go take their servers and their directories along, whoever started them.
    let mut toolstack = Xenstore::connect(&host.socket).unwrap();
    for domid in [31_301, 31_302, 31_303] {
        toolstack.remove(&format!("/local/domain/{domid}")).unwrap();
        host.store.release_domain(DomId(domid));
        until("the server ends", || servers(domid).is_empty());
        assert!(!host.store.dump().keys().any(|path| path.contains(&format!("/vscsi/{domid}"))));
    }
    told_to_end(watcher, Signal::SIGINT);
    // No server said that it was ready, which would have been taken for the watcher's word.
    host.manager.set_nonblocking(true).unwrap();
    assert_eq!(host.manager.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_server_that_is_killed_is_followed_by_another() {
    let host = Host::new("killed");
    let watcher = host.watch();
    host.guest(31_311);
    let first = host.until_served(31_311);
    kill(first, Signal::SIGKILL).unwrap();
    until("there is another", || servers(31_311).iter().any(|server| *server != first));
    let second = host.until_served(31_311);
    assert_ne!(first, second);

    // One that was told to end is not.
    kill(second, Signal::SIGTERM).unwrap();
    until("it ends", || servers(31_311).is_empty());
    thread::sleep(Duration::from_millis(1500));
    assert!(servers(31_311).is_empty());
    told_to_end(watcher, Signal::SIGTERM);
}

#[test]
fn a_second_server_of_a_guest_says_so() {
    let host = Host::new("second");
    let watcher = host.watch();
    host.guest(31_321);
    let server = host.until_served(31_321);
    let mut second = Command::new(env!("CARGO_BIN_EXE_xen-pvscsi"));
    let output =
        second.args(["serve", "--domid", "31321"]).env("XENSTORED_PATH", &host.socket).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "xen-pvscsi: another xen-pvscsi serves domain 31321 already\n"
    );
    told_to_end(watcher, Signal::SIGTERM);
    kill(server, Signal::SIGTERM).unwrap();
    until("it ends", || servers(31_321).is_empty());
}
