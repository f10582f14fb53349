//! One device of a guest and its driver, xen-scsifront.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE, VSCSIIF_SG_TABLESIZE};
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Nodes, Xenstore};

use super::{STORE, optional, read_number, state, state_of};
use crate::frontend::{Complaint, GuestBuffer, Nexus, Reply, RingGrant, ScsiCall};
use crate::{Hypervisor, LinuxFrontend};

/// How long a command may take. Linux would ask for its abort then, and wait for the answer for ever.
const PATIENCE: Duration = Duration::from_secs(2);
/// What Linux takes at most (`SG_ALL`).
const SG_ALL: u32 = 128;

/// A bound driver.
#[derive(Debug)]
pub struct Host {
    /// `device/vscsi/<number>`.
    nodename: String,
    otherend: String,
    otherend_id: DomId,
    domid: DomId,
    frontend: LinuxFrontend,
    state: u32,
    /// The SCSI host takes commands.
    active: bool,
    /// Resumed, and not yet connected again.
    paused: bool,
    units: BTreeSet<Nexus>,
    sg_tablesize: u32,
    /// Answers to commands of the test that came while the driver waited for its own.
    replies: VecDeque<Reply>,
    flushed: Vec<i32>,
    unanswered: u32,
}

impl Host {
    /// Binds to a device: ring, nodes, state 3. `None` when there is no other end.
    pub(super) fn probe(xen: &Hypervisor, store: &mut Xenstore, domid: DomId, number: u32) -> Option<Self> {
        let nodename = format!("device/vscsi/{number}");
        let otherend = optional(store.read_str(&format!("{nodename}/backend")))?;
        let otherend_id = read_number(store, &format!("{nodename}/backend-id"))?;
        let otherend_id = DomId(u16::try_from(otherend_id).ok()?);
        optional(store.read(&otherend))?;
        let mut host = Self {
            frontend: LinuxFrontend::new(xen, domid, otherend_id),
            nodename,
            otherend,
            otherend_id,
            domid,
            state: state::INITIALISING,
            active: true,
            paused: false,
            units: BTreeSet::new(),
            sg_tablesize: segments(0),
            replies: VecDeque::new(),
            flushed: Vec::new(),
            unanswered: 0,
        };
        host.publish_ring(store);
        Some(host)
    }

    /// The driver after a resume: same units, new ring.
    pub(super) fn resumed(&self, xen: &Hypervisor, store: &mut Xenstore) -> Self {
        let mut host = Self {
            frontend: LinuxFrontend::new(xen, self.domid, self.otherend_id),
            nodename: self.nodename.clone(),
            otherend: self.otherend.clone(),
            state: state::INITIALISING,
            paused: true,
            units: self.units.clone(),
            replies: VecDeque::new(),
            flushed: Vec::new(),
            ..*self
        };
        host.publish_ring(store);
        host
    }

    fn publish_ring(&mut self, store: &mut Xenstore) {
        let (ring_ref, port) = (self.frontend.ring_ref().0, self.frontend.port());
        let published = store.transaction(|tx| {
            tx.write(&format!("{}/ring-ref", self.nodename), ring_ref.to_string())?;
            tx.write(&format!("{}/event-channel", self.nodename), port.to_string())
        });
        // The toolstack may have taken the directory away, and another cannot be made by a guest.
        if optional(published).is_some() {
            self.switch_state(store, state::INITIALISED);
        }
    }

    /// As `xenbus_switch_state`: nothing when it is in that state, and when the node is gone.
    pub(super) fn switch_state(&mut self, store: &mut Xenstore, state: u32) {
        if self.state == state {
            return;
        }
        let node = format!("{}/state", self.nodename);
        let switched = store.transaction(|tx| match tx.read(&node) {
            Ok(_) => tx.write(&node, state.to_string()).map(|()| true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        });
        if switched.expect(STORE) {
            self.state = state;
        }
    }

    /// `scsifront_backend_changed`.
    pub(super) fn backend_changed(&mut self, store: &mut Xenstore) {
        match state_of(store, &format!("{}/state", self.otherend)) {
            state::CONNECTED => self.backend_connected(store),
            state::CLOSED if self.state == state::CLOSED => {}
            state::CLOSING | state::CLOSED => self.disconnect(store),
            state::RECONFIGURING => {
                self.each_device(store, state::CLOSING, |host, nexus| host.remove_unit(nexus));
                self.switch_state(store, state::RECONFIGURING);
            }
            state::RECONFIGURED => {
                self.each_device(store, state::INITIALISED, Self::add_unit);
                self.switch_state(store, state::CONNECTED);
            }
            _ => {}
        }
    }

    fn backend_connected(&mut self, store: &mut Xenstore) {
        let limit = read_number(store, &format!("{}/feature-sg-grant", self.otherend));
        self.sg_tablesize = segments(limit.unwrap_or(0));
        if std::mem::take(&mut self.paused) {
            self.each_device(store, state::CONNECTED, |_, _| Some(state::CONNECTED));
        } else if state_of(store, &format!("{}/state", self.nodename)) == state::INITIALISED {
            self.each_device(store, state::INITIALISED, Self::add_unit);
        }
        self.switch_state(store, state::CONNECTED);
    }

    /// `scsifront_do_lun_hotplug`: calls `act` for each device of the backend in state `wanted`, and writes what becomes of
    /// it in the guest.
    fn each_device(
        &mut self,
        store: &mut Xenstore,
        wanted: u32,
        mut act: impl FnMut(&mut Self, Nexus) -> Option<u32>,
    ) {
        let devices = format!("{}/vscsi-devs", self.otherend);
        for name in optional(store.list(&devices)).unwrap_or_default() {
            let state = read_number(store, &format!("{devices}/{name}/state"));
            let v_dev = optional(store.read(&format!("{devices}/{name}/v-dev")));
            let nexus = v_dev.and_then(|text| parse_v_dev(str::from_utf8(&text).ok()?));
            let (Some(state), Some(nexus)) = (state, nexus) else {
                continue;
            };
            if state == wanted
                && let Some(state) = act(self, nexus)
            {
                let node = format!("{}/vscsi-devs/{name}/state", self.nodename);
                optional(store.write(&node, state.to_string()));
            }
        }
    }

    /// `scsi_add_device`: a unit that answers INQUIRY is there, however often it is added.
    fn add_unit(&mut self, nexus: Nexus) -> Option<u32> {
        let inquiry = ScsiCall {
            nexus,
            cdb: vec![0x12, 0, 0, 0, 36, 0],
            direction: DIRECTION_FROM_DEVICE,
            buffer: GuestBuffer::contiguous(0, 36),
            timeout_s: 20,
        };
        let reply = self.execute(inquiry);
        // Peripheral qualifier 0: a device is there (SPC-5, 6.7.2).
        let there = reply.is_some_and(|reply| reply.rslt == 0 && reply.data.to_vec()[0] >> 5 == 0);
        if there {
            self.units.insert(nexus);
        }
        Some(if there { state::CONNECTED } else { state::CLOSED })
    }

    /// `scsi_remove_device`: sd has the cache written first. `None`: there was no such unit.
    fn remove_unit(&mut self, nexus: Nexus) -> Option<u32> {
        if !self.units.remove(&nexus) {
            return None;
        }
        // Linux waits for ever on a ring that is dead; one wait shows it.
        if self.unanswered == 0 {
            let cdb = vec![0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let reply = self.execute(ScsiCall {
                nexus,
                cdb,
                direction: DIRECTION_NONE,
                timeout_s: 60,
                ..ScsiCall::default()
            });
            self.flushed.extend(reply.map(|reply| reply.rslt));
        }
        Some(state::CLOSED)
    }

    fn disconnect(&mut self, store: &mut Xenstore) {
        self.remove();
        self.switch_state(store, state::CLOSED);
    }

    /// `scsi_remove_host`. The ring stays until [`close`](Self::close).
    pub(super) fn remove(&mut self) {
        if std::mem::take(&mut self.active) {
            for nexus in self.units.clone() {
                self.remove_unit(nexus);
            }
        }
    }

    /// `scsifront_free_ring`.
    pub(super) fn close(self) -> RingGrant {
        self.frontend.close()
    }

    /// Sends a command and waits for its answer; `None` when the backend owes it for too long, which
    /// [`unanswered`](Self::unanswered) counts. Answers to other commands are kept.
    ///
    /// A command that is answered with the news that another unit has come or gone is sent once more, as Linux does with those of
    /// its disk driver (`scsi_io_completion_action` in drivers/scsi/scsi_lib.c, `sd_sync_cache` in sd.c).
    pub fn execute(&mut self, call: ScsiCall) -> Option<Reply> {
        let reply = self.execute_once(call.clone())?;
        if reply.tells_of_changed_luns() { self.execute_once(call) } else { Some(reply) }
    }

    fn execute_once(&mut self, call: ScsiCall) -> Option<Reply> {
        let deadline = Instant::now() + PATIENCE;
        let left = || deadline.saturating_duration_since(Instant::now());
        while !self.frontend.has_room() && !self.frontend.is_disabled() && !left().is_zero() {
            self.replies.extend(self.frontend.wait_reply(left()));
        }
        if let Ok(rqid) = self.frontend.submit(call) {
            while let Some(reply) = self.frontend.wait_reply(left()) {
                if reply.rqid == rqid {
                    return Some(reply);
                }
                self.replies.push_back(reply);
            }
        }
        self.unanswered += 1;
        None
    }

    /// Takes the answers that are there.
    pub fn replies(&mut self) -> Vec<Reply> {
        self.replies.extend(self.frontend.poll_responses());
        self.replies.drain(..).collect()
    }

    /// The ring side.
    pub fn frontend(&mut self) -> &mut LinuxFrontend {
        &mut self.frontend
    }

    /// The backend's directory.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.otherend
    }

    /// The state that it has written last.
    #[must_use]
    pub fn state(&self) -> u32 {
        self.state
    }

    /// The units that answered when they were added.
    #[must_use]
    pub fn units(&self) -> &BTreeSet<Nexus> {
        &self.units
    }

    /// The results of the SYNCHRONIZE CACHE that each removed unit was sent last, as far as it was answered.
    #[must_use]
    pub fn flushed(&self) -> &[i32] {
        &self.flushed
    }

    /// Areas that a command may have, after what the backend said when it was connected.
    #[must_use]
    pub fn sg_tablesize(&self) -> u32 {
        self.sg_tablesize
    }

    /// Commands of the driver and of [`execute`](Self::execute) that were not answered in time.
    #[must_use]
    pub fn unanswered(&self) -> u32 {
        self.unanswered
    }

    pub(super) fn complaints(&self) -> impl Iterator<Item = &Complaint> {
        self.frontend.complaints().iter()
    }
}

/// `scsifront_read_backend_params`: at least what a request holds, at most what Linux can use.
fn segments(feature_sg_grant: u32) -> u32 {
    let direct = u32::try_from(VSCSIIF_SG_TABLESIZE).expect("26");
    feature_sg_grant.clamp(direct, SG_ALL)
}

/// `host:channel:target:lun`; the host is not of interest.
fn parse_v_dev(text: &str) -> Option<Nexus> {
    let mut numbers = text.split(':').skip(1).map(|number| number.parse().ok());
    let (channel, id, lun) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(Nexus { channel, id, lun })
}
