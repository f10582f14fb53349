//! The pages that a hostile guest grants, takes back, and grants again.

use pvscsi_guestmem::{HeapPage, PAGE_SIZE, SharedPage};
use pvscsi_ring::vscsiif::WireSegment;
use pvscsi_xen::{DomId, GrantRef};
use zerocopy::IntoBytes;

use super::{GuestXen, Memory};
use crate::Access;

const SOMEBODY: DomId = DomId(77);
/// Of the pages below.
const FIRST: usize = 0;
const SECOND: usize = 1;
const READ_ONLY: usize = 2;
const FOREIGN: usize = 3;
const LIST: usize = 4;

#[derive(Debug)]
struct Granted {
    /// Of the guest's own when it is not granted.
    page: SharedPage,
    to: DomId,
    access: Access,
    gref: GrantRef,
    live: bool,
}

#[derive(Debug)]
pub(super) struct Pages {
    ring_ref: GrantRef,
    pages: [Granted; 5],
}

impl Pages {
    pub(super) fn grant_all(xen: &impl GuestXen, ring_ref: GrantRef, backend: DomId) -> Self {
        let pages = [
            (backend, Access::ReadWrite),
            (backend, Access::ReadWrite),
            (backend, Access::ReadOnly),
            (SOMEBODY, Access::ReadWrite),
            (backend, Access::ReadOnly),
        ]
        .map(|(to, access)| {
            let (gref, page) = xen.grant(to, access);
            Granted { page, to, access, gref, live: true }
        });
        let entry = WireSegment { gref: pages[FIRST].gref.0, offset: 0, length: 512 };
        pages[LIST].page.copy_in(0, [entry; PAGE_SIZE / size_of::<WireSegment>()].as_bytes());
        for (seed, granted) in (1..).zip(&pages[..LIST]) {
            granted.page.copy_in(0, &[seed; PAGE_SIZE]);
        }
        Self { ring_ref, pages }
    }

    /// The page, if it is one that can be taken back; the frontend takes back the ring's itself.
    fn place(memory: Memory) -> Option<usize> {
        match memory {
            Memory::First => Some(FIRST),
            Memory::Second => Some(SECOND),
            Memory::ReadOnly => Some(READ_ONLY),
            Memory::Foreign => Some(FOREIGN),
            Memory::List => Some(LIST),
            Memory::Ring | Memory::Number(_) => None,
        }
    }

    /// The reference of the memory, or the one that it had.
    pub(super) fn gref(&self, memory: Memory) -> u32 {
        match memory {
            Memory::Number(number) => number,
            other => Self::place(other).map_or(self.ring_ref, |place| self.pages[place].gref).0,
        }
    }

    pub(super) fn is_ring(&self, gref: u32) -> bool {
        gref == self.ring_ref.0
    }

    /// Writes an entry of the list; modulo its size.
    pub(super) fn write_entry(&self, entry: u16, segment: WireSegment) {
        let at = usize::from(entry) * size_of::<WireSegment>() % PAGE_SIZE;
        self.pages[LIST].page.copy_in(at, segment.as_bytes());
    }

    pub(super) fn revoke(&mut self, xen: &impl GuestXen, memory: Memory) {
        let Some(place) = Self::place(memory) else { return };
        let granted = &mut self.pages[place];
        if std::mem::replace(&mut granted.live, false) {
            let own = HeapPage::new().share();
            copy(&granted.page, &own);
            xen.revoke(granted.gref, std::mem::replace(&mut granted.page, own));
        }
    }

    pub(super) fn grant(&mut self, xen: &impl GuestXen, memory: Memory) {
        let Some(place) = Self::place(memory) else { return };
        let granted = &mut self.pages[place];
        if !std::mem::replace(&mut granted.live, true) {
            let (gref, page) = xen.grant(granted.to, granted.access);
            copy(&granted.page, &page);
            (granted.gref, granted.page) = (gref, page);
        }
    }

    pub(super) fn live(&self) -> impl Iterator<Item = GrantRef> {
        self.pages.iter().filter(|granted| granted.live).map(|granted| granted.gref)
    }
}

fn copy(from: &SharedPage, to: &SharedPage) {
    let mut bytes = [0; PAGE_SIZE];
    from.copy_out(0, &mut bytes);
    to.copy_in(0, &bytes);
}
