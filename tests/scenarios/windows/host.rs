//! A host with the real server on a simulated Xen and xenstore, a toolstack's hand, and one Windows guest.

use std::ops::{Deref, DerefMut};
use std::thread::JoinHandle;
use std::time::Duration;

use pvscsi_backend::control::Bell;
use pvscsi_backend::cpus::Cpus;
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::serve::{ServeError, Server};
use pvscsi_backend::vhost::Platform;
use pvscsi_sg::Engine;
use pvscsi_sim::frontend::windows::{State, WindowsFrontend, WindowsXenbus, XenbusTrouble};
use pvscsi_sim::store::Store;
use pvscsi_sim::{Errno, GrantFault, Hypervisor};
use pvscsi_xen::xenstore::{Access, Nodes, Permission, Xenstore};
use pvscsi_xen::{EventChannel, GrantTable};

use super::guest::{BACKEND, GUEST, Io};
use crate::places::Reservations;
use crate::vhost::wait_until;

pub const FRONT: &str = "/local/domain/3/device/vscsi/0";
pub const BACK: &str = "/local/domain/0/backend/vscsi/3/0";

/// How long a loop of Windows's may spin here.
pub const LIMIT: Duration = Duration::from_secs(10);

pub struct Host {
    pub xen: Hypervisor,
    pub store: Store,
    tools: Xenstore,
    stop: Bell,
    server: Option<JoinHandle<Result<(), ServeError>>>,
    reservations: Reservations,
}

impl Host {
    /// A vhost with these devices, `p-dev` and `v-dev`, and nobody who serves it.
    pub fn attach(devices: &[(&str, &str)]) -> Self {
        let store = Store::new();
        let mut tools = Xenstore::from_stream(store.connect(BACKEND)).unwrap();
        let readable_by = |owner, reader| {
            [
                Permission { access: Access::None, domid: owner },
                Permission { access: Access::Read, domid: reader },
            ]
        };
        tools.write("/local/domain/3/name", "windows").unwrap();
        for (directory, owner, reader) in [(FRONT, GUEST, BACKEND), (BACK, BACKEND, GUEST)] {
            tools.mkdir(directory).unwrap();
            tools.set_permissions(directory, &readable_by(owner, reader)).unwrap();
        }
        for (node, value) in [("backend", BACK), ("backend-id", "0"), ("state", "1")] {
            tools.write(&format!("{FRONT}/{node}"), value).unwrap();
        }
        let stop = Bell::new().unwrap();
        let mut host = Self {
            xen: Hypervisor::new(),
            store,
            tools,
            stop,
            server: None,
            reservations: Reservations::default(),
        };
        // The domain exists before anything in it does.
        assert_eq!(host.xen.domain(GUEST).open_ports(), 0);
        for (n, (p_dev, v_dev)) in devices.iter().enumerate() {
            host.add_device(n, p_dev, v_dev);
        }
        for (node, value) in [("frontend", FRONT), ("frontend-id", "3"), ("online", "1"), ("state", "1")] {
            host.write(node, value);
        }
        host
    }

    /// The same, served.
    pub fn serving(devices: &[(&str, &str)]) -> Self {
        let mut host = Self::attach(devices);
        host.serve();
        host
    }

    pub fn serve(&mut self) {
        let (xen, stop) = (self.xen.clone(), self.stop.clone());
        let reservations = self.reservations.directories();
        let store = Xenstore::from_stream(self.store.connect(BACKEND)).unwrap();
        self.server = Some(std::thread::spawn(move || {
            let (grants_of, ports_of) = (xen.clone(), xen);
            let platform = Platform {
                grants: Box::new(move |domid| {
                    Ok(Box::new(grants_of.grant_table(BACKEND, domid)) as Box<dyn GrantTable>)
                }),
                bind: Box::new(move |domid, port, _| {
                    let events = ports_of.bind_interdomain(BACKEND, domid, port)?;
                    Ok(Box::new(events) as Box<dyn EventChannel>)
                }),
                engine: Engine::Auto,
                cpus: Cpus::default(),
                limits: TimeLimits::default(),
                reservations,
            };
            Server::new(GUEST, store, platform)?.run(stop.as_fd())
        }));
    }

    /// As the toolstack does it, the state last.
    pub fn add_device(&mut self, n: usize, p_dev: &str, v_dev: &str) {
        for (node, value) in [("p-dev", p_dev), ("p-devname", p_dev), ("v-dev", v_dev), ("state", "1")] {
            self.write(&format!("vscsi-devs/dev-{n}/{node}"), value);
        }
    }

    /// Writes a node of the backend's directory.
    pub fn write(&mut self, node: &str, value: &str) {
        self.tools.write(&format!("{BACK}/{node}"), value).unwrap();
    }

    /// What a node of the backend's directory says.
    pub fn back(&self, node: &str) -> String {
        self.text(&format!("{BACK}/{node}"))
    }

    /// What a node of the frontend's directory says.
    pub fn front(&self, node: &str) -> String {
        self.text(&format!("{FRONT}/{node}"))
    }

    fn text(&self, path: &str) -> String {
        self.store.read(path).map_or_else(|| "(none)".into(), |value| String::from_utf8(value).unwrap())
    }

    /// Windows's view of xenstore.
    pub fn xenbus(&self) -> WindowsXenbus {
        let store = Xenstore::from_stream(self.store.connect(GUEST)).unwrap();
        WindowsXenbus::new(store, GUEST, 0).unwrap()
    }

    /// A new ring, as the driver makes one for each connection.
    pub fn ring(&self) -> WindowsFrontend {
        WindowsFrontend::new(&self.xen, GUEST, BACKEND)
    }

    /// Windows, connected.
    pub fn windows(&self) -> Windows {
        let mut windows = Windows { xenbus: self.xenbus(), frontend: self.ring() };
        windows.probe().unwrap();
        windows
    }

    /// Lets the next map of a page fail.
    pub fn spoil_next_map(&self) {
        self.xen.domain(GUEST).inject_grant_fault(1, GrantFault::Map(Errno::EINVAL));
    }

    /// Tells the server to end.
    pub fn stop(&self) {
        self.stop.ring();
    }

    pub fn has_ended(&self) -> bool {
        self.server.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

/// No guest is connected any more: the server ends at once, and nothing is left.
impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            return;
        }
        if let Some(server) = self.server.take() {
            server.join().expect("no panic").unwrap();
        }
        let guest = self.xen.domain(GUEST);
        assert_eq!((guest.live_mappings(), guest.open_ports(), guest.live_grants()), (0, 0, 0));
        assert_eq!(self.xen.domain(BACKEND).open_ports(), 0);
        assert_eq!(self.store.counts().transactions, 0);
    }
}

/// A guest with both halves of its driver.
pub struct Windows {
    pub xenbus: WindowsXenbus,
    pub frontend: WindowsFrontend,
}

impl Windows {
    pub fn probe(&mut self) -> Result<(), XenbusTrouble> {
        self.xenbus.probe(&mut self.frontend, LIMIT)
    }

    /// Follows the backend until it is in this state.
    pub fn follow(&mut self, wanted: State) {
        wait_until("the backend's state", || self.xenbus.look(&mut self.frontend).unwrap() == wanted);
    }

    pub fn disconnect(mut self) -> WindowsXenbus {
        assert_eq!(self.frontend.complaints(), []);
        self.xenbus.disconnect(self.frontend, LIMIT).unwrap();
        self.xenbus
    }
}

impl Deref for Windows {
    type Target = WindowsFrontend;
    fn deref(&self) -> &WindowsFrontend {
        &self.frontend
    }
}

impl DerefMut for Windows {
    fn deref_mut(&mut self) -> &mut WindowsFrontend {
        &mut self.frontend
    }
}

impl Io for Windows {
    fn windows(&mut self) -> &mut WindowsFrontend {
        &mut self.frontend
    }
}
