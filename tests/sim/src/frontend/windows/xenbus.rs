//! The driver's way through xenbus: single steps, and the loops that it spins in.
//!
//! Where the driver spins without end, the test gives a limit. Nothing here sleeps: neither does the driver.

use std::time::{Duration, Instant};

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Error, Nodes, Xenstore};

use super::{Completed, WindowsFrontend, parse_v_dev};

/// A xenbus state, as the number that the driver reads.
pub type State = u64;

/// The states by name (Xen `io/xenbus.h`, `enum xenbus_state`).
pub mod state {
    use super::State;

    /// The node cannot be read.
    pub const UNKNOWN: State = 0;
    /// Initialising.
    pub const INITIALISING: State = 1;
    /// The backend waits for the frontend.
    pub const INIT_WAIT: State = 2;
    /// The ring is there.
    pub const INITIALISED: State = 3;
    /// Connected.
    pub const CONNECTED: State = 4;
    /// Closing.
    pub const CLOSING: State = 5;
    /// Closed.
    pub const CLOSED: State = 6;
    /// Devices come or go.
    pub const RECONFIGURING: State = 7;
    /// They have.
    pub const RECONFIGURED: State = 8;
}

/// What the frontend's `protocol` node says (Xen `io/protocols.h`).
const PROTOCOL: &str = "x86_64-abi";

/// Why a loop of the driver did not end well.
#[derive(Debug, thiserror::Error)]
pub enum XenbusTrouble {
    /// Xenstore failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// The backend closed instead of connecting; the driver gives the device up.
    #[error("the backend closed")]
    Closed,
    /// A real guest spins on.
    #[error("the guest waits for backend state {wanted}, and sees {seen:?}")]
    Spins {
        /// What would end the loop.
        wanted: State,
        /// The last state seen.
        seen: Option<State>,
    },
    /// The backend said that it had let go of the ring, and has not.
    #[error("the ring page is still mapped")]
    RingInUse,
}

/// The driver's view of its two directories.
#[derive(Debug)]
pub struct WindowsXenbus {
    store: Xenstore,
    front: String,
    back: String,
    connected: bool,
}

impl WindowsXenbus {
    /// Finds the backend of a vhost. `store` is a connection of the guest.
    ///
    /// # Errors
    ///
    /// When the toolstack has not written the frontend's directory.
    pub fn new(mut store: Xenstore, domid: DomId, vhost: u32) -> Result<Self, Error> {
        let front = format!("/local/domain/{domid}/device/vscsi/{vhost}");
        let back = store.read_str(&format!("{front}/backend"))?;
        Ok(Self { store, front, back, connected: false })
    }

    /// Start-up: writes where ring and event channel are, and spins until the backend is connected or closed.
    ///
    /// # Errors
    ///
    /// [`XenbusTrouble::Closed`], [`XenbusTrouble::Spins`] after the limit, and failures of xenstore.
    pub fn probe(&mut self, frontend: &mut WindowsFrontend, limit: Duration) -> Result<(), XenbusTrouble> {
        self.connected = false;
        self.write_ring(frontend)?;
        let deadline = Instant::now() + limit;
        loop {
            match self.look(frontend)? {
                state::CONNECTED => return Ok(()),
                state::CLOSED => return Err(XenbusTrouble::Closed),
                seen if Instant::now() >= deadline => {
                    return Err(XenbusTrouble::Spins { wanted: state::CONNECTED, seen: Some(seen) });
                }
                _ => {}
            }
        }
    }

    /// Writes ring, event channel and protocol in one transaction, then state 3.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn write_ring(&mut self, frontend: &WindowsFrontend) -> Result<(), Error> {
        let front = &self.front;
        self.store.transaction(|tx| {
            tx.write(&format!("{front}/ring-ref"), frontend.ring_ref().0.to_string())?;
            tx.write(&format!("{front}/event-channel"), frontend.port().0.to_string())?;
            tx.write(&format!("{front}/protocol"), PROTOCOL)
        })?;
        self.switch(state::INITIALISED)
    }

    /// Looks at both states once and does what the driver does then; gives the backend's. At start-up the driver does nothing
    /// else, later it does this whenever the backend's directory changes.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn look(&mut self, frontend: &mut WindowsFrontend) -> Result<State, Error> {
        let unreadable = if self.connected { state::UNKNOWN } else { state::CLOSED };
        let back = self.backend_state()?.unwrap_or(unreadable);
        let own = self.number(&format!("{}/state", self.front))?.unwrap_or(unreadable);
        match back {
            state::CONNECTED if own != state::CONNECTED => {
                if own == state::INITIALISED {
                    self.add_devices(frontend)?;
                }
                self.switch(state::CONNECTED)?;
                self.connected = true;
            }
            state::CLOSING => {
                self.connected = false;
                self.switch(state::CLOSED)?;
            }
            state::RECONFIGURING => {
                self.remove_devices(frontend)?;
                self.switch(state::RECONFIGURING)?;
            }
            state::RECONFIGURED => {
                self.add_devices(frontend)?;
                self.switch(state::CONNECTED)?;
            }
            _ => {}
        }
        Ok(back)
    }

    /// Hibernation, crash dump, driver stop: quiesces, leads the backend through Closing and Closed, and waits until it is ready
    /// for the next ring. Gives the commands that were under way.
    ///
    /// # Errors
    ///
    /// [`XenbusTrouble::Spins`] when the backend is not where it should be within the limit, for each state anew;
    /// [`XenbusTrouble::RingInUse`] when it is and has lied; failures of xenstore.
    pub fn disconnect(
        &mut self,
        mut frontend: WindowsFrontend,
        limit: Duration,
    ) -> Result<Vec<Completed>, XenbusTrouble> {
        frontend.close_port();
        let ended = frontend.quiesce();
        for (own, wanted) in [
            (state::CLOSING, state::CLOSING),
            (state::CLOSED, state::CLOSED),
            (state::INITIALISING, state::INIT_WAIT),
        ] {
            self.switch(own)?;
            self.spin(wanted, limit)?;
        }
        self.connected = false;
        frontend.take_back_ring().map_err(|_| XenbusTrouble::RingInUse)?;
        Ok(ended)
    }

    /// Power off: the driver tries to write 1 into the backend's states of its devices, which are not its own. Gives how many
    /// of these writes xenstore took.
    ///
    /// # Errors
    ///
    /// Failures of xenstore other than a refusal.
    pub fn shut_down(&mut self) -> Result<usize, Error> {
        let mut taken = 0;
        for name in self.store.list(&format!("{}/vscsi-devs", self.back))? {
            let node = format!("{}/vscsi-devs/{name}/state", self.back);
            match self.store.write(&node, state::INITIALISING.to_string()) {
                Ok(()) => taken += 1,
                Err(error) if error.is_denied() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// A state node that is gone ends the loop as well.
    fn spin(&mut self, wanted: State, limit: Duration) -> Result<(), XenbusTrouble> {
        let deadline = Instant::now() + limit;
        loop {
            let seen = self.backend_state()?;
            if seen.is_none_or(|seen| seen == wanted) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(XenbusTrouble::Spins { wanted, seen });
            }
        }
    }

    fn backend_state(&mut self) -> Result<Option<State>, Error> {
        self.number(&format!("{}/state", self.back))
    }

    /// What a node says, as far as it is a number.
    fn number(&mut self, path: &str) -> Result<Option<State>, Error> {
        match self.store.read_str(path) {
            Ok(text) => Ok(Some(text.parse().unwrap_or(state::UNKNOWN))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn switch(&mut self, to: State) -> Result<(), Error> {
        self.store.write(&format!("{}/state", self.front), to.to_string())
    }

    fn add_devices(&mut self, frontend: &mut WindowsFrontend) -> Result<(), Error> {
        for (name, device, seen) in self.devices()? {
            if seen != state::INITIALISED {
                continue;
            }
            let told = if frontend.devices().holds(device) {
                state::CLOSED
            } else {
                // A table that is full gets nothing, and nobody is told.
                let _ = frontend.devices().add(device);
                state::CONNECTED
            };
            self.tell(&name, told)?;
        }
        Ok(())
    }

    fn remove_devices(&mut self, frontend: &mut WindowsFrontend) -> Result<(), Error> {
        for (name, device, seen) in self.devices()? {
            if seen == state::CLOSING && frontend.devices().remove(device) {
                self.tell(&name, state::CLOSED)?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, name: &str, state: State) -> Result<(), Error> {
        self.store.write(&format!("{}/vscsi-devs/{name}/state", self.front), state.to_string())
    }

    /// The backend's devices that have a state and an address which the driver understands.
    fn devices(&mut self) -> Result<Vec<(String, super::Nexus, State)>, Error> {
        let directory = format!("{}/vscsi-devs", self.back);
        let names = match self.store.list(&directory) {
            Err(error) if error.is_not_found() => Vec::new(),
            names => names?,
        };
        let mut devices = Vec::new();
        for name in names {
            let Some(state) = self.number(&format!("{directory}/{name}/state"))? else { continue };
            let v_dev = match self.store.read_str(&format!("{directory}/{name}/v-dev")) {
                Err(error) if error.is_not_found() => continue,
                v_dev => v_dev?,
            };
            devices.extend(parse_v_dev(&v_dev).map(|device| (name, device, state)));
        }
        Ok(devices)
    }
}
