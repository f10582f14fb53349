use pvscsi_xen::CopyStorage;

use super::*;

const BACKEND: DomId = DomId(0);
const GUEST: DomId = DomId(7);

fn machine() -> (Hypervisor, Domain, SimGrants) {
    let xen = Hypervisor::new();
    let guest = xen.domain(GUEST);
    let grants = xen.grant_table(BACKEND, GUEST);
    (xen, guest, grants)
}

fn write(grants: &SimGrants, gref: GrantRef, bytes: &mut [u8]) -> i16 {
    let mut storage = CopyStorage::default();
    let mut batch = storage.batch(GUEST);
    batch.push_to_guest(gref, 0, bytes);
    grants.copy(&mut batch).unwrap();
    batch.statuses().next().unwrap()
}

fn read(grants: &SimGrants, gref: GrantRef, bytes: &mut [u8]) -> i16 {
    let mut storage = CopyStorage::default();
    let mut batch = storage.batch(GUEST);
    batch.push_from_guest(gref, 0, bytes);
    grants.copy(&mut batch).unwrap();
    batch.statuses().next().unwrap()
}

#[test]
fn references_start_at_8_and_the_lowest_free_comes_back() {
    let (_xen, guest, _) = machine();
    let page = HeapPage::new();
    let grefs: Vec<u32> = (0..600).map(|_| guest.grant(&page, BACKEND, Access::ReadOnly).0).collect();
    assert_eq!(grefs, (8..608).collect::<Vec<_>>());
    for gref in [300, 20, 100] {
        guest.try_revoke(GrantRef(gref)).unwrap();
    }
    let again: Vec<u32> = (0..4).map(|_| guest.grant(&page, BACKEND, Access::ReadOnly).0).collect();
    assert_eq!(again, [20, 100, 300, 608]);
    assert_eq!(guest.live_grants(), 601);
}

#[test]
fn a_mapped_page_is_the_guests_own_and_cannot_be_revoked() {
    let (_xen, guest, grants) = machine();
    let page = HeapPage::new();
    let gref = guest.grant(&page, BACKEND, Access::ReadWrite);
    let (first, second) = (grants.map_page(gref).unwrap(), grants.map_page(gref).unwrap());
    first.copy_in(100, b"seen");
    let mut bytes = [0; 4];
    page.share().copy_out(100, &mut bytes);
    assert_eq!(&bytes, b"seen");
    assert_eq!(guest.live_mappings(), 2);
    drop(first);
    assert_eq!(guest.try_revoke(gref), Err(StillInUse), "one mapping is left");
    drop(second);
    assert_eq!(guest.live_mappings(), 0);
    assert_eq!(guest.try_revoke(gref), Ok(()));
    assert_eq!(guest.live_grants(), 0);
    assert_eq!(page.handles(), 1, "nobody keeps the page");
}

#[test]
fn only_a_writable_grant_to_us_maps() {
    let (xen, guest, grants) = machine();
    let page = HeapPage::new();
    let read_only = guest.grant(&page, BACKEND, Access::ReadOnly);
    let for_other = guest.grant(&page, DomId(9), Access::ReadWrite);
    for gref in [read_only, for_other, GrantRef(0), GrantRef(100), GrantRef(u32::MAX)] {
        let GrantError::Refused { gref: named, source } = grants.map_page(gref).unwrap_err();
        assert_eq!((named, source.raw_os_error()), (gref, Some(Errno::EINVAL as i32)));
    }
    assert_eq!(guest.live_mappings(), 0);
    assert!(xen.grant_table(DomId(9), GUEST).map_page(for_other).is_ok(), "the one it was meant for may");
}

#[test]
fn copies_follow_the_permissions_of_each_grant() {
    let (_xen, guest, grants) = machine();
    let page = HeapPage::new();
    page.share().copy_in(0, b"data");
    let writable = guest.grant(&page, BACKEND, Access::ReadWrite);
    let read_only = guest.grant(&page, BACKEND, Access::ReadOnly);
    let for_other = guest.grant(&page, DomId(9), Access::ReadWrite);
    let mut bytes = [0; 4];
    assert_eq!(read(&grants, read_only, &mut bytes), GNTST_OKAY);
    assert_eq!(&bytes, b"data");
    assert_eq!(write(&grants, read_only, &mut b"evil".to_owned()), GNTST_GENERAL_ERROR);
    assert_eq!(read(&grants, for_other, &mut bytes), GNTST_GENERAL_ERROR);
    assert_eq!(read(&grants, GrantRef(9999), &mut bytes), GNTST_BAD_GNTREF, "behind the end of the table");
    assert_eq!(read(&grants, GrantRef(400), &mut bytes), GNTST_GENERAL_ERROR, "an unused entry");
    page.share().copy_out(0, &mut bytes);
    assert_eq!(&bytes, b"data", "nothing was written");
    assert_eq!(write(&grants, writable, &mut b"good".to_owned()), GNTST_OKAY);
    page.share().copy_out(0, &mut bytes);
    assert_eq!(&bytes, b"good");
    assert_eq!(guest.try_revoke(writable), Ok(()), "a finished copy holds nothing");
}

#[test]
fn the_segments_of_a_batch_succeed_and_fail_one_by_one() {
    let (_xen, guest, grants) = machine();
    let page = HeapPage::new();
    page.share().copy_in(4092, b"tail");
    let gref = guest.grant(&page, BACKEND, Access::ReadWrite);
    let (mut a, mut b, mut c) = ([0; 4], [0; 4], *b"head");
    let mut storage = CopyStorage::default();
    let mut batch = storage.batch(GUEST);
    batch.push_from_guest(gref, 4092, &mut a);
    batch.push_from_guest(GrantRef(77), 0, &mut b);
    batch.push_to_guest(gref, 0, &mut c);
    grants.copy(&mut batch).unwrap();
    assert_eq!(batch.statuses().collect::<Vec<_>>(), [GNTST_OKAY, GNTST_GENERAL_ERROR, GNTST_OKAY]);
    assert_eq!((&a, &b), (b"tail", &[0; 4]));
    page.share().copy_out(0, &mut b);
    assert_eq!(&b, b"head");
    assert_eq!(guest.grant_counts(), GrantCounts { maps: 0, copy_batches: 1, copies: 3 });
}

#[test]
fn armed_faults_hit_their_call_and_no_other() {
    let (_xen, guest, grants) = machine();
    let gref = guest.grant(&HeapPage::new(), BACKEND, Access::ReadWrite);
    let mut bytes = [0; 4];

    guest.inject_grant_fault(2, GrantFault::Map(Errno::EAGAIN));
    let maps: Vec<bool> = (0..3).map(|_| grants.map_page(gref).is_ok()).collect();
    assert_eq!(maps, [true, false, true]);
    assert_eq!(guest.live_mappings(), 0);

    guest.inject_grant_fault(2, GrantFault::Copy(-12));
    let statuses: Vec<i16> = (0..3).map(|_| read(&grants, gref, &mut bytes)).collect();
    assert_eq!(statuses, [GNTST_OKAY, -12, GNTST_OKAY]);

    guest.inject_grant_fault(1, GrantFault::CopyBatch(Errno::ENOMEM));
    let mut storage = CopyStorage::default();
    let mut batch = storage.batch(GUEST);
    batch.push_from_guest(gref, 0, &mut bytes);
    let error = grants.copy(&mut batch).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ENOMEM as i32));
    grants.copy(&mut batch).unwrap();
    assert_eq!(guest.grant_counts(), GrantCounts { maps: 3, copy_batches: 5, copies: 4 });
}

#[test]
fn a_forced_revocation_frees_the_reference_and_leaves_the_mapping() {
    let (_xen, guest, grants) = machine();
    let gref = guest.grant(&HeapPage::new(), BACKEND, Access::ReadWrite);
    let mapped = grants.map_page(gref).unwrap();
    guest.force_revoke(gref);
    assert!(grants.map_page(gref).is_err());
    assert_eq!((guest.live_grants(), guest.live_mappings()), (0, 1));
    mapped.copy_in(0, b"still there");
    let reused = guest.grant(&HeapPage::new(), BACKEND, Access::ReadWrite);
    assert_eq!(reused, gref);
    assert_eq!(guest.try_revoke(reused), Ok(()), "the old mapping is not one of the new grant");
    drop(mapped);
    assert_eq!(guest.live_mappings(), 0);
}

#[test]
fn a_destroyed_domain_lets_nobody_in() {
    let (xen, guest, grants) = machine();
    let gref = guest.grant(&HeapPage::new(), BACKEND, Access::ReadWrite);
    let mapped = grants.map_page(gref).unwrap();
    xen.destroy_domain(GUEST);
    assert!(grants.map_page(gref).is_err());
    assert_eq!(read(&grants, gref, &mut [0; 4]), GNTST_BAD_DOMAIN);
    assert_eq!(guest.live_mappings(), 1, "what was mapped stays until it is unmapped");
    drop(mapped);
    assert_eq!(guest.live_mappings(), 0);
}

#[test]
#[should_panic(expected = "never granted")]
fn a_guest_revokes_only_what_it_granted() {
    let _ = machine().1.try_revoke(GrantRef(8));
}
