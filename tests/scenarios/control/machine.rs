//! A host with one guest: xenstored, the hypervisor, Linux in the guest, and the server in a thread of its own.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pvscsi_backend::cpus::Cpus;
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::serve::{ServeError, Server};
use pvscsi_backend::toolstack::reboot::Belongings;
use pvscsi_backend::vhost::Platform;
use pvscsi_sg::{Directories, Engine};
use pvscsi_sim::store::Store;
use pvscsi_sim::{Domain, Hypervisor, LinuxGuest};
use pvscsi_xen::xenstore::Xenstore;
use pvscsi_xen::{DomId, EventChannel, GrantTable};

use super::legal;
use crate::places::Reservations;
use crate::threads::activity;

/// Everything that a test waits for comes within this time, or the test fails.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);
pub const DOM0: DomId = DomId(0);

/// Each machine has another number for its guest, so that threads and log lines tell whose they are.
static NEXT_DOMID: AtomicU16 = AtomicU16::new(100);

pub struct Machine {
    pub xen: Hypervisor,
    pub store: Arc<Store>,
    /// The domain that has the devices.
    pub home: DomId,
    pub domid: DomId,
    /// The guest as the hypervisor knew it, also when it is gone.
    pub domain: Domain,
    pub guest: Option<LinuxGuest>,
    pub toolstack: Xenstore,
    limits: TimeLimits,
    /// What the guest had, when it is gone.
    pub belongings: Arc<Mutex<Option<Belongings>>>,
    /// Where the servers of this host keep reservations.
    pub reservations: Arc<Reservations>,
    server: Option<ServerThread>,
    pub log: Log,
}

struct ServerThread {
    thread: JoinHandle<Result<(), ServeError>>,
    stop: Arc<EventFd>,
    /// The server's end of its connection to xenstored.
    connection: UnixStream,
}

impl Machine {
    /// Boots the guest, without devices, and starts the server.
    pub fn new() -> Self {
        // Nobody here waits for exactly a 2, but for one test.
        Self::with_limits(TimeLimits { announced: Duration::ZERO, ..TimeLimits::default() })
    }

    /// The same, with other time limits.
    pub fn with_limits(limits: TimeLimits) -> Self {
        Self::on(Hypervisor::new(), Arc::new(Store::new()), DOM0, limits, Arc::default())
    }

    /// The same, with the devices in a driver domain.
    pub fn with_driver_domain() -> Self {
        let (store, home) = (Store::new(), DomId(NEXT_DOMID.fetch_add(1, Ordering::Relaxed)));
        let mut toolstack = Xenstore::from_stream(store.connect(DOM0)).unwrap();
        super::toolstack::make_domain(&mut toolstack, home);
        let limits = TimeLimits { announced: Duration::ZERO, ..TimeLimits::default() };
        Self::on(Hypervisor::new(), Arc::new(store), home, limits, Arc::default())
    }

    /// Another guest on the same host, with a server of its own. Both servers must have ended before either machine is dropped.
    pub fn beside(&self) -> Self {
        let reservations = Arc::clone(&self.reservations);
        Self::on(self.xen.clone(), Arc::clone(&self.store), self.home, self.limits, reservations)
    }

    fn on(
        xen: Hypervisor,
        store: Arc<Store>,
        home: DomId,
        limits: TimeLimits,
        reservations: Arc<Reservations>,
    ) -> Self {
        let domid = DomId(NEXT_DOMID.fetch_add(1, Ordering::Relaxed));
        let mut toolstack = Xenstore::from_stream(store.connect(DOM0)).unwrap();
        super::toolstack::make_domain(&mut toolstack, domid);
        let mut machine = Self {
            guest: Some(LinuxGuest::boot(&xen, &store, domid)),
            domain: xen.domain(domid),
            xen,
            store,
            home,
            domid,
            toolstack,
            limits,
            belongings: Arc::default(),
            reservations,
            server: None,
            log: Log::default(),
        };
        machine.start();
        machine
    }

    /// Starts the server, which must not be running.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "there is a server");
        let connection = self.store.connect(self.home);
        let (xen, home, limits) = (self.xen.clone(), self.home, self.limits);
        let (domid, log) = (self.domid, self.log.clone());
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let stop = Arc::new(EventFd::from_flags(flags).unwrap());
        let (ready, started) = channel();
        let belongings = Arc::clone(&self.belongings);
        let reservations = self.reservations.directories();
        let serve = {
            let (stop, connection) = (Arc::clone(&stop), connection.try_clone().unwrap());
            move || {
                let subscriber =
                    tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
                tracing::subscriber::with_default(subscriber, || {
                    serve(
                        platform(&xen, home, limits, reservations),
                        domid,
                        connection,
                        &ready,
                        stop.as_fd(),
                        &belongings,
                    )
                })
            }
        };
        let thread = thread::Builder::new().name(format!("serve {domid}")).spawn(serve).unwrap();
        started.recv_timeout(TIME_LIMIT).expect("the server starts");
        self.server = Some(ServerThread { thread, stop, connection });
    }

    /// The guest's kernel.
    pub fn guest(&mut self) -> &mut LinuxGuest {
        self.guest.as_mut().expect("the guest is there")
    }

    /// Lets the guest run until something is so.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        loop {
            if let Some(guest) = &mut self.guest {
                guest.step();
            }
            if is_so(self) {
                return;
            }
            if start.elapsed() > TIME_LIMIT {
                let states = self.store.dump().into_iter().filter(|(path, _)| path.ends_with("/state"));
                let states: String = states
                    .map(|(path, value)| format!("{path} = {:?}\n", String::from_utf8_lossy(&value)))
                    .collect();
                panic!("{what}: not within {TIME_LIMIT:?}\n{states}{}", self.log.text());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks the server to end, without waiting.
    pub fn ask_to_stop(&self) {
        self.server.as_ref().expect("there is a server").stop.write(1).unwrap();
    }

    /// Waits for the end of the server, while the guest runs, and gives what it said.
    pub fn wait_for_end(&mut self) -> Result<(), ServeError> {
        self.until("the server ends", |machine| {
            machine.server.as_ref().expect("there is a server").thread.is_finished()
        });
        let server = self.server.take().expect("looked at before");
        server.thread.join().expect("the server does not panic")
    }

    pub fn server_is_running(&self) -> bool {
        self.server.as_ref().is_some_and(|server| !server.thread.is_finished())
    }

    /// Ends the server as a crash would: without a chance to write anything.
    pub fn crash_server(&mut self) {
        let connection = &self.server.as_ref().expect("there is a server").connection;
        connection.shutdown(Shutdown::Both).unwrap();
        self.wait_for_end().expect_err("a server without xenstore fails");
    }

    /// Waits until the server has nothing to do any more: its thread sleeps, and is not woken.
    pub fn until_at_rest(&self, rest: Duration) {
        let thread = self.server.as_ref().expect("there is a server").thread.thread().name().expect("named");
        eventually("the server rests", || {
            let before = activity(thread);
            thread::sleep(rest);
            activity(thread) == before
        });
    }

    /// Threads of the process that serve this guest: one for each connected vhost.
    pub fn workers(&self) -> usize {
        let name = format!("v{}-", self.domid);
        let comms = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
            // A thread may end while it is looked at.
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        });
        comms.filter(|comm| comm.starts_with(&name)).count()
    }

    /// So many vhosts are served. A thread that was joined stays visible for a moment.
    pub fn expect_workers(&self, number: usize) {
        eventually(&format!("{number} workers"), || self.workers() == number);
    }

    /// Nothing of the guest's is in use by anybody.
    pub fn assert_everything_given_back(&self) {
        assert_eq!(self.domain.live_mappings(), 0, "pages of the guest are mapped");
        assert_eq!(self.xen.domain(self.home).open_ports(), 0, "ports are bound");
        self.expect_workers(0);
    }

    fn check(&mut self) {
        self.assert_everything_given_back();
        if let Some(guest) = &mut self.guest {
            guest.step();
            assert_eq!(guest.deferred_grants(), 0, "rings that nobody serves are still granted");
            assert_eq!(guest.complaints(), [], "what the guest complains about");
        }
        let backend = self.backend("");
        legal::check(&backend, &self.store.history(backend.trim_end_matches('/')));
        for (path, value) in self.store.dump() {
            let Some(vhost) = path.strip_prefix(&backend).and_then(|rest| rest.strip_suffix("/state")) else {
                continue;
            };
            if !vhost.contains('/') {
                assert_eq!(String::from_utf8_lossy(&value), "6", "state of vhost {vhost} at the end");
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            // The store goes with the machine, and the server with the store.
            return;
        }
        if self.server.is_some() {
            self.ask_to_stop();
            self.wait_for_end().expect("the server ends without an error");
        }
        self.check();
    }
}

fn serve(
    platform: Platform,
    domid: DomId,
    connection: UnixStream,
    ready: &Sender<()>,
    stop: std::os::fd::BorrowedFd<'_>,
    belongings: &Mutex<Option<Belongings>>,
) -> Result<(), ServeError> {
    let store = Xenstore::from_stream(connection).expect("a socket that does not block");
    let mut server = Server::new(domid, store, platform)?;
    ready.send(()).expect("the test waits for it");
    server.run(stop)?;
    *belongings.lock().unwrap() = server.belongings();
    Ok(())
}

/// The simulated Xen in place of the devices of Linux in the domain `home`.
pub fn platform(xen: &Hypervisor, home: DomId, limits: TimeLimits, reservations: Directories) -> Platform {
    let (for_grants, for_events) = (xen.clone(), xen.clone());
    Platform {
        grants: Box::new(move |domid| {
            Ok(Box::new(for_grants.grant_table(home, domid)) as Box<dyn GrantTable>)
        }),
        bind: Box::new(move |domid, port, _| {
            Ok(Box::new(for_events.bind_interdomain(home, domid, port)?) as Box<dyn EventChannel>)
        }),
        engine: Engine::Auto,
        cpus: Cpus::default(),
        limits,
        reservations,
    }
}

/// Waits for what happens without the guest.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TIME_LIMIT, "{what}: not within {TIME_LIMIT:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What the server logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The lines with this text in them.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
