//! A guest: SUSE's Windows frontend (VMDP, xenscsi), with its habits.
//!
//! It trusts every answer and looks at less of it than Linux: only the low 16 bits of `rslt`, not the residual. It takes its
//! grants back late, publishes slots that it never finished, and overwrites the backend's index when it stops. What it
//! cannot notice, the model notices for it, as a [`Complaint`]; a complaint changes nothing in what the guest does next.
//!
//! An SRB is a [`ScsiCall`]. The facts are those of the driver's public sources of 2026. Two of its faults end in the guest's
//! own memory, and the model leaves them out: it indexes its table with any `rqid` that it is sent, and puts the name of a
//! request that was answered twice on its list of free names twice.

mod devices;
mod srb;
#[cfg(test)]
mod tests;
mod xenbus;

pub use devices::{CHANNELS, DeviceTable, LUNS, TARGETS, parse_v_dev};
pub use srb::{Completed, MAX_TRANSFER, SrbStatus};
pub use xenbus::{State, WindowsXenbus, XenbusTrouble, state};

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pvscsi_guestmem::HeapPage;
use pvscsi_ring::vscsiif::{
    DIRECTION_NONE, DIRECTION_TO_DEVICE, RING_SLOTS, VSCSIIF_ACT_SCSI_CDB, VSCSIIF_ACT_SCSI_RESET,
    VSCSIIF_MAX_COMMAND_SIZE, WireRequest, WireResponse, WireSegment,
};
use pvscsi_xen::{DomId, GrantRef, Port};
use zerocopy::{FromZeros, IntoBytes};

use super::answer::{Complaint, Reply, well_formed};
use super::front_ring::{FrontRing, Overflow};
use super::{GuestBuffer, Nexus, Rqid, ScsiCall};
use crate::{Access, Domain, GuestPort, Hypervisor, PortControl, StillInUse};
use srb::is_refused_in_the_driver;

/// What a quiesced command ends with: CHECK CONDITION, without sense.
const QUIESCED: u16 = 2;

/// What the driver remembers of a request.
#[derive(Debug, Default)]
struct Shadow {
    in_flight: bool,
    is_reset: bool,
    buffer: GuestBuffer,
    /// Stay granted after the answer, until the name is used again.
    grefs: Vec<GrantRef>,
}

/// A guest's end of one vhost. Dropping it is what a guest does that goes down: all grants are withdrawn, used or not.
#[derive(Debug)]
pub struct WindowsFrontend {
    domain: Domain,
    backend: DomId,
    ring_page: HeapPage,
    /// `None` once it was taken back.
    ring_ref: Option<GrantRef>,
    ring: FrontRing,
    /// `None` once it was closed.
    port: Option<GuestPort>,
    devices: DeviceTable,
    shadows: [Shadow; RING_SLOTS as usize],
    /// The name that was freed last is used first.
    free: Vec<Rqid>,
    /// Names in slots that were left unfinished, and are answered all the same.
    stale: Vec<Rqid>,
    unasked: Vec<WireResponse>,
    /// Grants that nobody takes back any more.
    lost: Vec<GrantRef>,
    /// The next request gets no more than that many grants.
    grants_left: Option<usize>,
    completed: VecDeque<Completed>,
    complaints: Vec<Complaint>,
    is_ring_lost: bool,
}

impl WindowsFrontend {
    /// Makes a ring and a port in `domid` for `backend`. The table of devices is empty.
    #[must_use]
    pub fn new(xen: &Hypervisor, domid: DomId, backend: DomId) -> Self {
        let domain = xen.domain(domid);
        let ring_page = HeapPage::new();
        Self {
            ring: FrontRing::new(ring_page.share(), 0),
            ring_ref: Some(domain.grant(&ring_page, backend, Access::ReadWrite)),
            port: Some(domain.alloc_unbound(backend)),
            domain,
            backend,
            ring_page,
            devices: DeviceTable::default(),
            shadows: Default::default(),
            free: (0..).take(RING_SLOTS as usize).collect::<Vec<_>>().into_iter().rev().collect(),
            stale: Vec::new(),
            unasked: Vec::new(),
            lost: Vec::new(),
            grants_left: None,
            completed: VecDeque::new(),
            complaints: Vec::new(),
            is_ring_lost: false,
        }
    }

    /// Grant reference of the ring page, as written to `ring-ref`.
    ///
    /// # Panics
    ///
    /// When it was taken back.
    #[must_use]
    pub fn ring_ref(&self) -> GrantRef {
        self.ring_ref.expect("until the end")
    }

    fn guest_port(&self) -> &GuestPort {
        self.port.as_ref().expect("until it is closed")
    }

    /// Event channel, as written to `event-channel`.
    ///
    /// # Panics
    ///
    /// When it was closed.
    #[must_use]
    pub fn port(&self) -> Port {
        self.guest_port().port()
    }

    /// The event channel, to be watched and disturbed.
    ///
    /// # Panics
    ///
    /// When it was closed.
    #[must_use]
    pub fn port_control(&self) -> PortControl {
        self.guest_port().control()
    }

    /// The ring page, for tests that read or spoil it.
    #[must_use]
    pub fn ring_page(&self) -> &HeapPage {
        &self.ring_page
    }

    /// The domain that this frontend is in.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The table of devices, which decides what an address means.
    pub fn devices(&mut self) -> &mut DeviceTable {
        &mut self.devices
    }

    /// What the backend did wrong, in order.
    #[must_use]
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// The same, for a scenario that expects them: they are forgotten.
    pub fn take_complaints(&mut self) -> Vec<Complaint> {
        std::mem::take(&mut self.complaints)
    }

    /// Answers that came for unfinished slots after the name's own request was answered.
    #[must_use]
    pub fn unasked(&self) -> &[WireResponse] {
        &self.unasked
    }

    /// How many commands Windows waits for.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shadows.iter().filter(|shadow| shadow.in_flight).count()
    }

    /// How many grants nobody takes back any more: those of unfinished slots, and those that were in use.
    #[must_use]
    pub fn lost_grants(&self) -> usize {
        self.lost.len()
    }

    /// Lets the next command run out of grant references after that many segments. Its slot is left unfinished, and the
    /// backend sees it with the one behind it.
    pub fn fail_grants_after(&mut self, segments: usize) {
        self.grants_left = Some(segments);
    }

    /// An SRB that executes a CDB. The address is looked up in the table of devices: what is sent is the address of the device
    /// found there. Without data the direction is "none", whatever was asked.
    ///
    /// # Errors
    ///
    /// What Windows is told at once. After [`SrbStatus::Busy`] for want of grants, or because the command is longer than
    /// [`MAX_TRANSFER`], an unfinished slot goes out with the next request.
    ///
    /// # Panics
    ///
    /// When the CDB is longer than 16 bytes or the memory has more than 26 areas: Windows allows neither.
    pub fn start_io(&mut self, call: ScsiCall) -> Result<Rqid, SrbStatus> {
        if is_refused_in_the_driver(&call.cdb) {
            return Err(SrbStatus::InvalidRequest);
        }
        let mut request = self.address(call.nexus)?;
        let cmd_len = call.cdb.len();
        assert!(cmd_len <= VSCSIIF_MAX_COMMAND_SIZE, "a CDB of {cmd_len} bytes");
        request.rqid = self.take_name();
        request.act = VSCSIIF_ACT_SCSI_CDB;
        request.cmd_len = u8::try_from(cmd_len).expect("at most 16");
        request.cmnd[..cmd_len].copy_from_slice(&call.cdb);
        request.timeout_per_command = call.timeout_s;
        request.sc_data_direction = if call.buffer.is_empty() { DIRECTION_NONE } else { call.direction };
        let (grefs, is_complete) = self.grant(&mut request, &call.buffer);
        if !is_complete {
            // What was granted is forgotten, and everything behind the CDB but direction and these segments is stale.
            self.lost.extend(grefs);
            self.put(&request, false);
            self.stale.push(request.rqid);
            self.free.push(request.rqid);
            return Err(SrbStatus::Busy);
        }
        let shadow = &mut self.shadows[usize::from(request.rqid)];
        *shadow = Shadow { in_flight: true, is_reset: false, buffer: call.buffer, grefs };
        self.put(&request, true);
        self.push();
        Ok(request.rqid)
    }

    /// An SRB that flushes the cache of a device. The driver says yes and tells nobody.
    #[must_use]
    pub fn flush(&self) -> SrbStatus {
        SrbStatus::Success
    }

    /// An SRB that resets a device, and waits for the answer: in the driver for ever, here until the limit. The result is not
    /// looked at.
    ///
    /// # Errors
    ///
    /// What Windows is told at once. `Ok(None)`: no answer within the limit, so a real guest hangs.
    pub fn reset(&mut self, nexus: Nexus, limit: Duration) -> Result<Option<SrbStatus>, SrbStatus> {
        let mut request = self.address(nexus)?;
        request.rqid = self.take_name();
        request.act = VSCSIIF_ACT_SCSI_RESET;
        request.sc_data_direction = DIRECTION_NONE;
        let rqid = usize::from(request.rqid);
        self.shadows[rqid] = Shadow { in_flight: true, is_reset: true, ..Shadow::default() };
        self.put(&request, true);
        self.push();
        let done = self.wait(limit, |guest| (!guest.shadows[rqid].in_flight).then_some(SrbStatus::Success));
        Ok(done)
    }

    /// Takes all commands that are back, without waiting.
    pub fn poll_completed(&mut self) -> Vec<Completed> {
        self.drain();
        self.completed.drain(..).collect()
    }

    /// Takes the next command that is back, and waits for the backend to ring if there is none.
    pub fn wait_completed(&mut self, timeout: Duration) -> Option<Completed> {
        self.wait(timeout, |guest| guest.completed.pop_front())
    }

    /// Stops: writes the backend's index, so that everything counts as answered, and fails what was under way. Takes back all
    /// grants, also those that the backend may be using. The ring stays usable.
    pub fn quiesce(&mut self) -> Vec<Completed> {
        self.ring.answer_all();
        self.stale.clear();
        let mut ended: Vec<_> = self.completed.drain(..).collect();
        for (rqid, shadow) in (0..).zip(&mut self.shadows) {
            let was_in_flight = std::mem::take(&mut shadow.in_flight);
            if was_in_flight {
                let data = std::mem::take(&mut shadow.buffer);
                let sent = Reply { rqid, rslt: QUIESCED.into(), residual: 0, sense: Vec::new(), data };
                ended.push(Completed { word: QUIESCED, sent });
                self.free.push(rqid);
            }
            for gref in shadow.grefs.drain(..) {
                if self.domain.try_revoke(gref).is_err() {
                    self.lost.push(gref);
                    if !was_in_flight {
                        self.complaints.push(Complaint::GrantStillInUse { rqid, gref: gref.0 });
                    }
                }
            }
        }
        ended
    }

    /// Closes the event channel: nobody is rung any more.
    pub fn close_port(&mut self) {
        self.port = None;
    }

    /// Takes the ring page back.
    ///
    /// # Errors
    ///
    /// The backend still has it mapped.
    ///
    /// # Panics
    ///
    /// When it was taken back before.
    pub fn take_back_ring(&mut self) -> Result<(), StillInUse> {
        self.domain.try_revoke(self.ring_ref())?;
        self.ring_ref = None;
        Ok(())
    }

    /// An empty request to the device that the table has for an address.
    fn address(&self, asked: Nexus) -> Result<WireRequest, SrbStatus> {
        if self.ring.is_full() {
            return Err(SrbStatus::Busy);
        }
        let Nexus { channel, id, lun } = self.devices.find(asked).ok_or(SrbStatus::NoDevice)?;
        Ok(WireRequest { channel, id, lun, ..WireRequest::new_zeroed() })
    }

    /// A free name, and the grants of its last request taken back: only now.
    fn take_name(&mut self) -> Rqid {
        let Some(rqid) = self.free.pop() else { unreachable!("the ring has room, so a name is free") };
        for gref in self.shadows[usize::from(rqid)].grefs.drain(..) {
            if self.domain.try_revoke(gref).is_err() {
                self.complaints.push(Complaint::GrantStillInUse { rqid, gref: gref.0 });
                self.lost.push(gref);
            }
        }
        rqid
    }

    /// Grants the memory of a command and fills in its segments; `false` when that does not work.
    fn grant(&mut self, request: &mut WireRequest, buffer: &GuestBuffer) -> (Vec<GrantRef>, bool) {
        let available = self.grants_left.take();
        if buffer.len() > MAX_TRANSFER {
            return (Vec::new(), false);
        }
        let access = if request.sc_data_direction == DIRECTION_TO_DEVICE {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        let mut grefs = Vec::new();
        for piece in buffer.pieces().iter().filter(|piece| piece.len > 0) {
            if Some(grefs.len()) == available {
                return (grefs, false);
            }
            let gref = self.domain.grant(&piece.page, self.backend, access);
            let Some(segment) = request.seg.get_mut(grefs.len()) else {
                panic!("{} areas", buffer.pieces().len())
            };
            *segment = WireSegment { gref: gref.0, offset: piece.offset, length: piece.len };
            grefs.push(gref);
        }
        request.nr_segments = u8::try_from(grefs.len()).expect("at most 26");
        (grefs, true)
    }

    /// Fills the next slot. The driver's header is older than `ref_rqid`, so these two bytes are always stale.
    fn put(&mut self, request: &WireRequest, is_complete: bool) {
        let bytes = request.as_bytes();
        let cdb_end = match request.cmd_len {
            0 => 4 + VSCSIIF_MAX_COMMAND_SIZE,
            len => 4 + usize::from(len),
        };
        let segments = request.seg.iter().take_while(|segment| segment.length > 0).count();
        self.ring.put(&[
            (0, &bytes[..cdb_end]),
            (20, &bytes[20..28]),
            (30, &bytes[30..if is_complete { 32 } else { 31 }]),
            (32, &bytes[32..32 + segments * size_of::<WireSegment>()]),
        ]);
    }

    fn push(&self) {
        if self.ring.push_requests() {
            self.guest_port().notify();
        }
    }

    /// Takes answers until `found`, and waits for the backend to ring between.
    fn wait<T>(&mut self, timeout: Duration, mut found: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        loop {
            self.drain();
            if let Some(found) = found(self) {
                return Some(found);
            }
            if !self.guest_port().wait(deadline.saturating_duration_since(Instant::now())) {
                return None;
            }
        }
    }

    fn drain(&mut self) {
        while !self.is_ring_lost {
            let unread = match self.ring.unread() {
                Ok(unread) => unread,
                Err(Overflow { unread }) => {
                    // The driver would go round the ring up to 2^32 times.
                    self.is_ring_lost = true;
                    return self.complaints.push(Complaint::TooManyResponses { unread });
                }
            };
            for _ in 0..unread {
                let response = self.ring.take();
                if let Err(complaint) = self.complete(&response) {
                    self.complaints.push(complaint);
                }
            }
            if !self.ring.final_check() {
                return;
            }
        }
    }

    fn complete(&mut self, response: &WireResponse) -> Result<(), Complaint> {
        let (rqid, rslt) = (response.rqid, response.rslt);
        let shadow = self.shadows.get_mut(usize::from(rqid)).ok_or(Complaint::ForeignRqid { rqid })?;
        if !shadow.in_flight {
            let stale = self.stale.iter().position(|stale| *stale == rqid);
            let stale = stale.ok_or(Complaint::NotInFlight { rqid })?;
            self.stale.remove(stale);
            self.unasked.push(*response);
            return Ok(());
        }
        shadow.in_flight = false;
        self.free.push(rqid);
        let is_reset = shadow.is_reset;
        let data = std::mem::take(&mut shadow.buffer);
        let formed = well_formed(response, data.len()).map(<[u8]>::to_vec);
        let word = (rslt & 0xffff) as u16;
        if !is_reset {
            let sense = formed.clone().unwrap_or_default();
            let sent = Reply { rqid, rslt, residual: response.residual_len, sense, data };
            self.completed.push_back(Completed { word, sent });
        }
        formed?;
        if word == 0 && rslt != 0 && !is_reset {
            return Err(Complaint::SilentCorruption { rqid, rslt });
        }
        Ok(())
    }
}

impl Drop for WindowsFrontend {
    fn drop(&mut self) {
        let of_requests = self.shadows.iter().flat_map(|shadow| &shadow.grefs);
        for gref in of_requests.chain(&self.lost).chain(&self.ring_ref) {
            self.domain.force_revoke(*gref);
        }
    }
}
