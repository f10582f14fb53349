//! A guest: the ring side of Linux's xen-scsifront, with all its distrust.
//!
//! It fills slots, grants memory and judges answers as Linux does, and stricter where the protocol says more than Linux
//! checks. An answer that it does not accept is a [`Complaint`], and the frontend is disabled for good, as in Linux
//! ("Disabling device for further use"). A test of a backend ends with [`LinuxFrontend::complaints`] being empty.
//! Xenstore is no part of it; [`xenbus`] is the other half.

mod answer;
mod buffer;
mod front_ring;
pub mod windows;
pub mod xenbus;

pub use answer::{Complaint, Reply};
pub use buffer::{GuestBuffer, Piece};

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pvscsi_guestmem::{HeapPage, PAGE_SIZE};
use pvscsi_ring::vscsiif::{
    DIRECTION_TO_DEVICE, RING_SLOTS, VSCSIIF_ACT_SCSI_ABORT, VSCSIIF_ACT_SCSI_CDB, VSCSIIF_ACT_SCSI_RESET,
    VSCSIIF_MAX_COMMAND_SIZE, VSCSIIF_SG_GRANT, VSCSIIF_SG_TABLESIZE, WireSegment,
};
use pvscsi_xen::{DomId, GrantRef, Port};
use zerocopy::IntoBytes;

use crate::{Access, Domain, GuestPort, Hypervisor, PortControl};
use front_ring::{FrontRing, Overflow};

/// The guest's name for a request: 0 to 15, the lowest that is free.
pub type Rqid = u16;

/// Where a command goes: the `v-dev` without its host number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexus {
    /// Virtual channel.
    pub channel: u16,
    /// Virtual target.
    pub id: u16,
    /// Virtual LUN.
    pub lun: u16,
}

/// One SCSI command.
#[derive(Clone, Debug, Default)]
pub struct ScsiCall {
    /// The device.
    pub nexus: Nexus,
    /// The CDB, at most 16 bytes.
    pub cdb: Vec<u8>,
    /// `DIRECTION_*` of the wire format.
    pub direction: u8,
    /// The data, or where it goes to; it comes back with the [`Reply`].
    pub buffer: GuestBuffer,
    /// `timeout_per_command`, in seconds.
    pub timeout_s: u16,
}

/// The frontend takes no command now: the ring is full, or it has disabled itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring is full or the frontend is disabled")]
pub struct HostBusy;

/// What the frontend remembers of a request.
#[derive(Debug, Default)]
struct Shadow {
    in_flight: bool,
    /// Stays after the answer, without its buffer: a late abort names it again.
    call: ScsiCall,
    grefs: Vec<GrantRef>,
    /// Pages for a list of segments, kept for the next one.
    lists: Vec<HeapPage>,
}

/// A guest's end of one vhost. Dropping it is what a guest does that goes down: all grants are withdrawn, used or not.
#[derive(Debug)]
pub struct LinuxFrontend {
    domain: Domain,
    backend: DomId,
    ring_page: HeapPage,
    ring_grant: RingGrant,
    ring: FrontRing,
    port: GuestPort,
    shadows: [Shadow; RING_SLOTS as usize],
    /// Scratch: the segments of the request that is being made.
    segments: Vec<WireSegment>,
    list_offset: usize,
    replies: VecDeque<Reply>,
    complaints: Vec<Complaint>,
}

impl LinuxFrontend {
    /// Makes a ring and a port in `domid` for `backend`.
    #[must_use]
    pub fn new(xen: &Hypervisor, domid: DomId, backend: DomId) -> Self {
        Self::with_start_index(xen, domid, backend, 0)
    }

    /// As [`new`](Self::new), with ring indices that start at `index`: near `u32::MAX` a test soon sees them wrap.
    #[must_use]
    pub fn with_start_index(xen: &Hypervisor, domid: DomId, backend: DomId, index: u32) -> Self {
        let domain = xen.domain(domid);
        let ring_page = HeapPage::new();
        Self {
            ring: FrontRing::new(ring_page.share(), index),
            ring_grant: RingGrant {
                gref: domain.grant(&ring_page, backend, Access::ReadWrite),
                granted: true,
                domain: domain.clone(),
            },
            port: domain.alloc_unbound(backend),
            domain,
            backend,
            ring_page,
            shadows: Default::default(),
            segments: Vec::new(),
            list_offset: 0,
            replies: VecDeque::new(),
            complaints: Vec::new(),
        }
    }

    /// Grant reference of the ring page, as written to `ring-ref`.
    #[must_use]
    pub fn ring_ref(&self) -> GrantRef {
        self.ring_grant.gref
    }

    /// Event channel, as written to `event-channel`.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port.port()
    }

    /// The event channel, to be watched and disturbed.
    #[must_use]
    pub fn port_control(&self) -> PortControl {
        self.port.control()
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

    /// Lets a list of segments start that many bytes into its first page, so that it may cross into a second one, as
    /// Linux's do: it takes the memory from the slab allocator.
    ///
    /// # Panics
    ///
    /// When it is not a multiple of a segment's 8 bytes within a page.
    pub fn set_list_offset(&mut self, bytes: usize) {
        assert!(bytes.is_multiple_of(size_of::<WireSegment>()) && bytes < PAGE_SIZE);
        self.list_offset = bytes;
    }

    /// Whether the next request would be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.free_rqid().is_some()
    }

    /// How many requests have no answer yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shadows.iter().filter(|shadow| shadow.in_flight).count()
    }

    /// What the backend did wrong, in order.
    #[must_use]
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// Whether a complaint has ended the use of the device.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        !self.complaints.is_empty()
    }

    /// Sends a command. More than 26 areas go as a list of segments in granted pages, as a backend with
    /// `feature-sg-grant` takes them; how many areas the backend allows is the caller's business.
    ///
    /// # Errors
    ///
    /// [`HostBusy`]; nothing was sent.
    ///
    /// # Panics
    ///
    /// When the CDB is longer than 16 bytes, or the list needs more than 26 pages: Linux lets neither come this far.
    pub fn submit(&mut self, call: ScsiCall) -> Result<Rqid, HostBusy> {
        let rqid = self.free_rqid().ok_or(HostBusy)?;
        let nr_segments = self.grant_buffer(rqid, &call);
        self.shadows[usize::from(rqid)].call = call;
        self.send(rqid, VSCSIIF_ACT_SCSI_CDB, 0, nr_segments);
        Ok(rqid)
    }

    /// Asks to abort the request `ref_rqid`, which may be answered already or never have been. Like Linux it repeats the
    /// nexus, CDB and direction of that request.
    ///
    /// # Errors
    ///
    /// [`HostBusy`]; nothing was sent.
    pub fn abort(&mut self, ref_rqid: Rqid) -> Result<Rqid, HostBusy> {
        let aborted = self.shadows.get(usize::from(ref_rqid)).map(|shadow| shadow.call.without_data());
        self.manage(VSCSIIF_ACT_SCSI_ABORT, ref_rqid, aborted.unwrap_or_default())
    }

    /// Asks to reset the device.
    ///
    /// # Errors
    ///
    /// [`HostBusy`]; nothing was sent.
    pub fn reset(&mut self, nexus: Nexus) -> Result<Rqid, HostBusy> {
        self.manage(VSCSIIF_ACT_SCSI_RESET, 0, ScsiCall { nexus, ..ScsiCall::default() })
    }

    /// Takes all answers that are there, without waiting.
    pub fn poll_responses(&mut self) -> Vec<Reply> {
        self.drain();
        self.replies.drain(..).collect()
    }

    /// Takes the next answer, and waits for the backend to ring if there is none. `None` when it did not ring in time, even
    /// if an answer has come without a ring: Linux would not look either. `None` also when the frontend is disabled.
    pub fn wait_reply(&mut self, timeout: Duration) -> Option<Reply> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.replies.is_empty() {
                self.drain();
            }
            let reply = self.replies.pop_front();
            if reply.is_some() || self.is_disabled() {
                return reply;
            }
            if !self.port.wait(deadline.saturating_duration_since(Instant::now())) {
                return None;
            }
        }
    }

    /// Gives the ring up as a driver does that goes: the port is closed at once, the page stays granted as long as the backend
    /// has it mapped.
    #[must_use]
    pub fn close(mut self) -> RingGrant {
        let granted = std::mem::take(&mut self.ring_grant.granted);
        RingGrant { granted, gref: self.ring_grant.gref, domain: self.domain.clone() }
    }

    fn free_rqid(&self) -> Option<Rqid> {
        if self.is_disabled() || self.ring.is_full() {
            return None;
        }
        (0..).zip(&self.shadows).find(|(_, shadow)| !shadow.in_flight).map(|(rqid, _)| rqid)
    }

    fn manage(&mut self, act: u8, ref_rqid: Rqid, call: ScsiCall) -> Result<Rqid, HostBusy> {
        let rqid = self.free_rqid().ok_or(HostBusy)?;
        self.shadows[usize::from(rqid)].call = call;
        self.segments.clear();
        self.send(rqid, act, ref_rqid, 0);
        Ok(rqid)
    }

    /// Grants the memory of the command, leaves the segments of the slot in `self.segments`, and gives `nr_segments`.
    fn grant_buffer(&mut self, rqid: Rqid, call: &ScsiCall) -> u8 {
        let shadow = &mut self.shadows[usize::from(rqid)];
        let access = if call.direction == DIRECTION_TO_DEVICE { Access::ReadOnly } else { Access::ReadWrite };
        self.segments.clear();
        for piece in call.buffer.pieces() {
            let gref = self.domain.grant(&piece.page, self.backend, access);
            shadow.grefs.push(gref);
            self.segments.push(WireSegment { gref: gref.0, offset: piece.offset, length: piece.len });
        }
        let flag = if self.segments.len() > VSCSIIF_SG_TABLESIZE {
            let list = std::mem::take(&mut self.segments);
            self.segments = self.grant_list(rqid, list.as_bytes());
            VSCSIIF_SG_GRANT
        } else {
            0
        };
        flag | u8::try_from(self.segments.len()).expect("at most 26")
    }

    /// Puts a list of segments into pages that the backend may read; gives the segments that describe the pages.
    fn grant_list(&mut self, rqid: Rqid, mut list: &[u8]) -> Vec<WireSegment> {
        let shadow = &mut self.shadows[usize::from(rqid)];
        let mut areas = Vec::with_capacity(VSCSIIF_SG_TABLESIZE);
        let mut offset = self.list_offset;
        while !list.is_empty() {
            assert!(areas.len() < VSCSIIF_SG_TABLESIZE, "the list of segments needs more than 26 pages");
            let (here, rest) = list.split_at(list.len().min(PAGE_SIZE - offset));
            if shadow.lists.len() == areas.len() {
                shadow.lists.push(HeapPage::new());
            }
            let page = &shadow.lists[areas.len()];
            page.share().copy_in(offset, here);
            let gref = self.domain.grant(page, self.backend, Access::ReadOnly);
            shadow.grefs.push(gref);
            let in_page = |bytes| u16::try_from(bytes).expect("at most a page");
            areas.push(WireSegment { gref: gref.0, offset: in_page(offset), length: in_page(here.len()) });
            list = rest;
            offset = 0;
        }
        areas
    }

    fn send(&mut self, rqid: Rqid, act: u8, ref_rqid: Rqid, nr_segments: u8) {
        let shadow = &mut self.shadows[usize::from(rqid)];
        let ScsiCall { nexus, cdb, direction, timeout_s, .. } = &shadow.call;
        assert!(cdb.len() <= VSCSIIF_MAX_COMMAND_SIZE, "a CDB of {} bytes", cdb.len());
        let cmd_len = u8::try_from(cdb.len()).expect("at most 16");
        let [rqid_low, rqid_high] = rqid.to_le_bytes();
        let mut behind_cdb = [0; 12];
        for (to, value) in behind_cdb.as_chunks_mut::<2>().0.iter_mut().zip([
            *timeout_s,
            nexus.channel,
            nexus.id,
            nexus.lun,
            ref_rqid,
            u16::from_le_bytes([*direction, nr_segments]),
        ]) {
            *to = value.to_le_bytes();
        }
        self.ring.put(&[
            (0, &[rqid_low, rqid_high, act, cmd_len]),
            (4, cdb),
            (20, &behind_cdb),
            (32, self.segments.as_bytes()),
        ]);
        shadow.in_flight = true;
        if self.ring.push_requests() {
            self.port.notify();
        }
    }

    /// Moves all answers from the ring to `self.replies`, until one is not acceptable.
    fn drain(&mut self) {
        while !self.is_disabled() {
            let unread = match self.ring.unread() {
                Ok(unread) => unread,
                Err(Overflow { unread }) => {
                    return self.complaints.push(Complaint::TooManyResponses { unread });
                }
            };
            for _ in 0..unread {
                let response = self.ring.take();
                match answer::accept(&response, &mut self.shadows, &self.domain) {
                    Ok(reply) => self.replies.push_back(reply),
                    Err(complaint) => return self.complaints.push(complaint),
                }
            }
            if !self.ring.final_check() {
                return;
            }
        }
    }
}

impl ScsiCall {
    fn without_data(&self) -> Self {
        Self { cdb: self.cdb.clone(), buffer: GuestBuffer::default(), ..*self }
    }
}

impl Drop for LinuxFrontend {
    fn drop(&mut self) {
        for gref in self.shadows.iter().flat_map(|shadow| &shadow.grefs) {
            self.domain.force_revoke(*gref);
        }
    }
}

/// The grant of a ring page. Dropping it withdraws it, used or not.
#[derive(Debug)]
pub struct RingGrant {
    domain: Domain,
    gref: GrantRef,
    granted: bool,
}

impl RingGrant {
    /// Takes the grant back, unless the backend has the page mapped; `true` when it is taken back. Linux tries this again
    /// and again (`gnttab_end_foreign_access`).
    pub fn try_end(&mut self) -> bool {
        if self.granted && self.domain.try_revoke(self.gref).is_ok() {
            self.granted = false;
        }
        !self.granted
    }
}

impl Drop for RingGrant {
    fn drop(&mut self) {
        if self.granted {
            self.domain.force_revoke(self.gref);
        }
    }
}

#[cfg(test)]
mod tests;
