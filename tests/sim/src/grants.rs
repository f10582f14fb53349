//! Grants: who may see which page, and who still does.
//!
//! The rules and the status codes are those of Xen's grant table version 1 (grant_table.h): a reference behind the end
//! of the table is `GNTST_bad_gntref`; an unused entry, one for another domain, and writing to a read-only one are
//! all `GNTST_general_error`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use pvscsi_guestmem::{HeapPage, SharedPage};
use pvscsi_xen::sys::grant_copy::{GNTST_BAD_GNTREF, GNTST_GENERAL_ERROR, GNTST_OKAY};
use pvscsi_xen::{CopyBatch, Direction, DomId, GrantError, GrantRef, GrantTable};

use crate::faults::Faults;
use crate::hypervisor::{Domain, Hypervisor};
use crate::lock;

/// References below this are never given out (grant_table.h, `GNTTAB_NR_RESERVED_ENTRIES`).
const RESERVED: u32 = 8;
/// Entries of 8 bytes in a page: by how many the table grows.
const ENTRIES_PER_FRAME: usize = 512;
/// `GNTST_bad_domain` of grant_table.h.
const GNTST_BAD_DOMAIN: i16 = -2;

/// What the other domain may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it (`GTF_readonly`).
    ReadOnly,
    /// Read and write it.
    ReadWrite,
}

/// The grant cannot be revoked: the other domain has the page mapped, or copies right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grant is still in use")]
pub struct StillInUse;

/// How often a domain's grants were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantCounts {
    /// Pages that somebody tried to map.
    pub maps: u64,
    /// Batches of copies, each an ioctl on a real Xen.
    pub copy_batches: u64,
    /// Single copies in those batches.
    pub copies: u64,
}

/// What can be made to go wrong with the use of a domain's grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantFault {
    /// A page does not map.
    Map(Errno),
    /// One copy of a batch ends with this `GNTST_*` status and moves no data.
    Copy(i16),
    /// A batch of copies fails as a whole, before any of them.
    CopyBatch(Errno),
}

#[derive(Debug)]
struct Grant {
    page: HeapPage,
    to: DomId,
    access: Access,
    uses: AtomicUsize,
}

/// A use of a grant, during which it cannot be revoked.
struct Pin(Arc<Grant>);

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.uses.fetch_sub(1, Ordering::Release);
    }
}

/// Counts as a mapping of the domain.
struct Mapped(Domain);

impl Drop for Mapped {
    fn drop(&mut self) {
        self.0.grants().mappings.fetch_sub(1, Ordering::Release);
    }
}

/// The grant table of one domain.
#[derive(Debug, Default)]
pub(crate) struct GrantSpace {
    table: Mutex<Table>,
    mappings: AtomicUsize,
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Option<Arc<Grant>>>,
    free: BinaryHeap<Reverse<u32>>,
    counts: GrantCounts,
    map_faults: Faults<Errno>,
    copy_faults: Faults<i16>,
    batch_faults: Faults<Errno>,
}

impl Table {
    fn lowest_free(&mut self) -> u32 {
        if self.free.is_empty() {
            let old = self.entries.len();
            self.entries.resize(old + ENTRIES_PER_FRAME, None);
            let end = u32::try_from(self.entries.len()).expect("a test grants fewer than 2^32 pages");
            let start = u32::try_from(old).expect("below the end").max(RESERVED);
            self.free.extend((start..end).map(Reverse));
        }
        let Some(Reverse(lowest)) = self.free.pop() else { unreachable!("the table has just grown") };
        lowest
    }

    fn entry(&mut self, gref: GrantRef) -> &mut Option<Arc<Grant>> {
        let entry = self.entries.get_mut(gref.0 as usize).filter(|entry| entry.is_some());
        let Some(entry) = entry else {
            panic!("the guest revokes reference {}, which it never granted", gref.0)
        };
        entry
    }

    /// Counts one more use of the grant when `by` may use it so; else the `GNTST_*` status.
    fn pin(&self, gref: GrantRef, by: DomId, writes: bool) -> Result<Pin, i16> {
        let entry = self.entries.get(gref.0 as usize).ok_or(GNTST_BAD_GNTREF)?;
        let grant = entry.as_ref().ok_or(GNTST_GENERAL_ERROR)?;
        if grant.to != by || (writes && grant.access == Access::ReadOnly) {
            return Err(GNTST_GENERAL_ERROR);
        }
        grant.uses.fetch_add(1, Ordering::Relaxed);
        Ok(Pin(Arc::clone(grant)))
    }
}

/// The guest's side of grants, and what a test may ask and arm.
impl Domain {
    /// Lets `to` use the page, and gives the lowest reference that is free.
    pub fn grant(&self, page: &HeapPage, to: DomId, access: Access) -> GrantRef {
        let grant = Arc::new(Grant { page: page.clone(), to, access, uses: AtomicUsize::new(0) });
        let mut table = lock(&self.grants().table);
        let gref = table.lowest_free();
        table.entries[gref as usize] = Some(grant);
        GrantRef(gref)
    }

    /// Takes a grant back, as Linux's `gnttab_try_end_foreign_access`: the reference is free afterwards.
    ///
    /// # Errors
    ///
    /// [`StillInUse`]; the grant stays as it was.
    ///
    /// # Panics
    ///
    /// When the reference is not granted.
    pub fn try_revoke(&self, gref: GrantRef) -> Result<(), StillInUse> {
        let mut table = lock(&self.grants().table);
        let entry = table.entry(gref);
        // Acquire, with the Release of the last unpin: what was written through the grant is seen by who revokes it.
        if entry.as_ref().is_some_and(|grant| grant.uses.load(Ordering::Acquire) > 0) {
            return Err(StillInUse);
        }
        *entry = None;
        table.free.push(Reverse(gref.0));
        Ok(())
    }

    /// Clears the entry whoever uses it: what a hostile guest does, or one that goes down. A mapping stays mapped.
    ///
    /// # Panics
    ///
    /// When the reference is not granted.
    pub fn force_revoke(&self, gref: GrantRef) {
        let mut table = lock(&self.grants().table);
        *table.entry(gref) = None;
        table.free.push(Reverse(gref.0));
    }

    /// How many references are granted.
    #[must_use]
    pub fn live_grants(&self) -> usize {
        lock(&self.grants().table).entries.iter().flatten().count()
    }

    /// How many pages of this domain others have mapped, revoked ones among them.
    #[must_use]
    pub fn live_mappings(&self) -> usize {
        self.grants().mappings.load(Ordering::Acquire)
    }

    /// How often the domain's grants were used up to now.
    #[must_use]
    pub fn grant_counts(&self) -> GrantCounts {
        lock(&self.grants().table).counts
    }

    /// Lets the `nth` call of the fault's kind from now go wrong, once; 1 is the next.
    pub fn inject_grant_fault(&self, nth: u64, fault: GrantFault) {
        let mut table = lock(&self.grants().table);
        match fault {
            GrantFault::Map(errno) => table.map_faults.arm(nth, errno),
            GrantFault::Copy(status) => table.copy_faults.arm(nth, status),
            GrantFault::CopyBatch(errno) => table.batch_faults.arm(nth, errno),
        }
    }
}

/// The grants of one domain as a process of another reaches them, in place of `/dev/xen/gntdev`.
#[derive(Clone, Debug)]
pub struct SimGrants {
    hypervisor: Hypervisor,
    local: DomId,
    foreign: DomId,
}

impl SimGrants {
    pub(crate) fn new(hypervisor: Hypervisor, local: DomId, foreign: DomId) -> Self {
        Self { hypervisor, local, foreign }
    }

    fn map(&self, gref: GrantRef) -> Result<SharedPage, Errno> {
        // gntdev answers EINVAL whatever the reason of the hypervisor was.
        let domain = self.hypervisor.existing_domain(self.foreign).ok_or(Errno::EINVAL)?;
        let pin = {
            let mut table = lock(&domain.grants().table);
            table.counts.maps += 1;
            table.map_faults.next().map_or(Ok(()), Err)?;
            table.pin(gref, self.local, true).map_err(|_| Errno::EINVAL)?
        };
        domain.grants().mappings.fetch_add(1, Ordering::Relaxed);
        let page = pin.0.page.clone();
        // In this order: who sees no mapping left can revoke.
        Ok(page.share_with(Box::new((pin, Mapped(domain)))))
    }
}

impl GrantTable for SimGrants {
    fn map_page(&self, gref: GrantRef) -> Result<SharedPage, GrantError> {
        self.map(gref).map_err(|errno| GrantError::Refused { gref, source: errno.into() })
    }

    /// # Panics
    ///
    /// When the batch is for another domain than this table.
    fn copy(&self, batch: &mut CopyBatch<'_>) -> io::Result<()> {
        let Some(domain) = self.hypervisor.existing_domain(self.foreign) else {
            batch.ops().for_each(|op| *op.status = GNTST_BAD_DOMAIN);
            return Ok(());
        };
        let table = &domain.grants().table;
        {
            let mut table = lock(table);
            table.counts.copy_batches += 1;
            table.batch_faults.next().map_or(Ok(()), Err)?;
        }
        for op in batch.ops() {
            assert_eq!(op.domid, self.foreign, "a batch for another domain than the table");
            let pin = {
                let mut table = lock(table);
                table.counts.copies += 1;
                let fault = table.copy_faults.next();
                fault.map_or_else(|| table.pin(op.gref, self.local, op.direction == Direction::ToGuest), Err)
            };
            // The table is not locked while bytes move: other vhosts copy at the same time. The batch has checked that
            // a segment stays in its page, and so does SharedPage.
            *op.status = match pin {
                Ok(pin) => {
                    let page = pin.0.page.share();
                    match op.direction {
                        Direction::FromGuest => page.copy_out(op.offset.into(), op.local),
                        Direction::ToGuest => page.copy_in(op.offset.into(), op.local),
                    }
                    GNTST_OKAY
                }
                Err(status) => status,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
