//! Requests between the ring and the device.
//!
//! A slot is free, **pending** (the guest waits for its answer), or **orphaned**: the guest has had its answer, but the device
//! has not let go of the command yet. Sixteen requests can be pending, for the ring has no more; orphans take further slots. A
//! unit holds sixteen commands at most, pending and orphaned together, so that one that hangs takes no slots from others.

use std::time::Duration;

use pvscsi_guestmem::Buffer;
use pvscsi_ring::{Direction, Nexus, SegmentList, Ticket};
use pvscsi_sg::{Cdb, Tag};

/// Slots of one vhost, and buffers of its pool: 16 requests, and the orphans of three units that hang.
pub const SLOTS: usize = 64;

/// Commands that one unit holds at most: as many as the ring has requests, so only orphans make it matter.
const UNIT_SLOTS: usize = 16;

/// A request whose guest waits for its answer.
#[derive(Debug)]
pub struct Pending {
    /// The right to answer it, once.
    pub ticket: Ticket,
    /// The address it was sent to.
    pub nexus: Nexus,
    /// The logical unit that has it.
    pub lun: usize,
    /// Which way its data goes.
    pub direction: Direction,
    /// The command.
    pub cdb: Cdb,
    /// When the device's driver shall give it up.
    pub timeout: Duration,
    /// The tick of the worker's clock when it was taken.
    pub since: u64,
    /// The tick at which its guest is answered without it.
    pub due: u64,
    /// Its data, until it is submitted.
    pub buffer: Option<Buffer>,
    /// Bytes of the guest's buffer.
    pub total: u32,
}

#[derive(Debug)]
enum State {
    Free,
    Pending(Pending),
    Orphaned { lun: usize, buffered: bool },
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Where the data lies in the guest. Kept from request to request, so that none allocates.
    segments: SegmentList,
}

/// What [`PendingTable::complete`] found for a tag.
#[derive(Debug)]
pub enum Found {
    /// The guest waits for the answer.
    Pending(Pending),
    /// It had its answer before.
    Orphaned,
}

/// All requests under way of one vhost.
#[derive(Debug)]
pub struct PendingTable {
    slots: Vec<Slot>,
    free: Vec<usize>,
    orphans: usize,
}

impl Default for PendingTable {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS)
                .map(|_| Slot { state: State::Free, segments: SegmentList::default() })
                .collect(),
            free: (0..SLOTS).rev().collect(),
            orphans: 0,
        }
    }
}

impl PendingTable {
    fn slot(&mut self, tag: Tag) -> &mut Slot {
        let index = usize::try_from(tag.0).unwrap_or(usize::MAX);
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("tag {} was never given out", tag.0) };
        slot
    }

    /// Puts a request into a free slot, or gives it back: orphans have taken all slots, or all that its unit may have.
    pub fn insert(&mut self, pending: Pending) -> Result<Tag, Pending> {
        if self.orphans > 0 && self.held_by(pending.lun) >= UNIT_SLOTS {
            return Err(pending);
        }
        let Some(index) = self.free.pop() else { return Err(pending) };
        let Ok(tag) = u32::try_from(index) else { unreachable!("{SLOTS} slots") };
        let slot = self.slot(Tag(tag));
        assert!(matches!(slot.state, State::Free), "a free slot is free");
        slot.state = State::Pending(pending);
        Ok(Tag(tag))
    }

    /// The pending request of this tag and the list of its segments.
    ///
    /// # Panics
    ///
    /// When the tag is not pending.
    pub fn pending(&mut self, tag: Tag) -> (&mut Pending, &mut SegmentList) {
        let Slot { state, segments } = self.slot(tag);
        let State::Pending(pending) = state else { unreachable!("tag {} is not pending", tag.0) };
        (pending, segments)
    }

    /// Tags, segments and buffers of the requests that carry data to their device and are not submitted yet.
    pub fn unfetched(&mut self) -> impl Iterator<Item = (Tag, &SegmentList, &mut Buffer)> {
        self.slots.iter_mut().zip(0..).filter_map(|(Slot { state, segments }, tag)| match state {
            State::Pending(Pending {
                direction: Direction::ToDevice | Direction::Bidirectional,
                buffer,
                ..
            }) => Some((Tag(tag), &*segments, buffer.as_mut()?)),
            _ => None,
        })
    }

    /// The segments of a tag whose command is complete, or `None` when its guest has had its answer: its grants are then no
    /// longer ours to use.
    pub fn segments_if_pending(&self, tag: Tag) -> Option<(&SegmentList, Direction)> {
        let slot = usize::try_from(tag.0).ok().and_then(|index| self.slots.get(index))?;
        match &slot.state {
            State::Pending(pending) => Some((&slot.segments, pending.direction)),
            _ => None,
        }
    }

    /// Frees the slot of a command that the device has let go of.
    ///
    /// # Panics
    ///
    /// When the slot is free: a command completed twice.
    pub fn complete(&mut self, tag: Tag) -> Found {
        let found = match std::mem::replace(&mut self.slot(tag).state, State::Free) {
            State::Pending(pending) => Found::Pending(pending),
            State::Orphaned { .. } => {
                self.orphans = self.orphans.saturating_sub(1);
                Found::Orphaned
            }
            State::Free => unreachable!("tag {} completed twice", tag.0),
        };
        if let Ok(index) = usize::try_from(tag.0) {
            self.free.push(index);
        }
        found
    }

    /// Takes the request of a command that the device still has, so that it can be answered now; the slot stays taken until
    /// [`complete`](Self::complete).
    pub fn orphan(&mut self, tag: Tag) -> Pending {
        let slot = self.slot(tag);
        let (lun, buffered) = match &slot.state {
            State::Pending(pending) => (pending.lun, pending.total > 0),
            _ => unreachable!("tag {} is not pending", tag.0),
        };
        let state = std::mem::replace(&mut slot.state, State::Orphaned { lun, buffered });
        self.orphans = self.orphans.saturating_add(1);
        match state {
            State::Pending(pending) => pending,
            _ => unreachable!("looked at above"),
        }
    }

    /// Whether the command of this tag was given a buffer.
    pub fn is_buffered(&mut self, tag: Tag) -> bool {
        match &self.slot(tag).state {
            State::Pending(pending) => pending.total > 0,
            State::Orphaned { buffered, .. } => *buffered,
            State::Free => false,
        }
    }

    /// A pending request that `which` picks.
    pub fn find(&self, which: impl Fn(&Pending) -> bool) -> Option<Tag> {
        let mut slots = self.slots.iter().zip(0..);
        slots.find_map(|(slot, tag)| match &slot.state {
            State::Pending(pending) if which(pending) => Some(Tag(tag)),
            _ => None,
        })
    }

    /// Calls `look` with each pending request.
    pub fn each_pending(&self, mut look: impl FnMut(&Pending)) {
        for slot in &self.slots {
            if let State::Pending(pending) = &slot.state {
                look(pending);
            }
        }
    }

    /// Commands, pending or orphaned, that `lun` has.
    #[must_use]
    pub fn held_by(&self, lun: usize) -> usize {
        let holds = |slot: &&Slot| match &slot.state {
            State::Pending(pending) => pending.lun == lun,
            State::Orphaned { lun: orphaned, .. } => *orphaned == lun,
            State::Free => false,
        };
        self.slots.iter().filter(holds).count()
    }

    /// Gives up every answer that is owed, since the ring is gone.
    pub fn abandon(&mut self) {
        for slot in &mut self.slots {
            if let State::Pending(pending) = std::mem::replace(&mut slot.state, State::Free) {
                pending.ticket.abandon();
            }
        }
    }
}
