//! A guest that writes what it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pvscsi_guestmem::HeapPage;
use pvscsi_ring::vscsiif::REQ_PROD;
use pvscsi_sim::{Access, Way};
use pvscsi_xen::DomId;

use super::io::nexus;
use super::machine::DOM0;
use super::raw::RawFrontend;
use super::{Dev, Machine, check_io, eventually};

/// The most that a guest may write into a node unless its quota was changed; and nearly the most that xenstore can carry.
const LONG: [usize; 2] = [2048, 4000];

/// A machine with an honest vhost 0, and a vhost 1 that is `frontend`'s.
fn beside_an_honest_one() -> (Machine, RawFrontend) {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.attach(1, &[Dev::disk(0), Dev::disk(1)]);
    let mut frontend = RawFrontend::of(&machine, 1);
    frontend.write("state", "2");
    machine.until_state(1, "2");
    (machine, frontend)
}

/// Closes, and is waited for anew. Linux in the same guest does not run meanwhile: it would take up a device in state 1.
fn start_over(machine: &Machine, frontend: &mut RawFrontend) {
    frontend.write("state", "6");
    eventually("vhost 1 has closed", || ["2", "6"].contains(&&*machine.value("1/state")));
    frontend.write("state", "1");
    eventually("vhost 1 is waited for", || machine.value("1/state") == "2");
    frontend.write("state", "2");
}

/// Connects with nodes of which one is wrong; then closes, and connects as it should.
fn refuse_then_accept(node: &str, values: &[(Option<String>, &str)]) {
    let (mut machine, mut frontend) = beside_an_honest_one();
    let path = machine.frontend(&format!("1/{node}"));
    for (value, why) in values {
        frontend.publish_ring();
        match value {
            Some(value) => machine.store.write(&path, value),
            None => frontend.remove(node),
        }
        frontend.write("state", "3");
        machine.until_state(1, "5");
        let error = machine.error("1");
        assert!(error.starts_with("22 ") && error.contains(why), "{node} {value:?}: {error:?}");
        assert!(error.len() < 400, "{error}");
        machine.expect_workers(1);
        check_io(machine.guest().host(0), nexus(0));

        start_over(&machine, &mut frontend);
        frontend.publish_ring();
        frontend.write("state", "3");
        machine.until_state(1, "4");
        start_over(&machine, &mut frontend);
    }
}

/// Texts that are no number of 32 bits, and a node that is not there.
fn no_numbers() -> Vec<(Option<String>, &'static str)> {
    let texts = ["text", "-1", "4294967296", "", " 8", "8\n", "0x8", "+8", "8,9", "\u{1F4BE}", "8\0"];
    let mut all: Vec<_> =
        texts.iter().map(|text| (Some((*text).to_owned()), "not a number of 32 bits")).collect();
    all.extend(LONG.map(|len| (Some("8".repeat(len)), "not a number of 32 bits")));
    all.push((None, "is missing"));
    all
}

#[test]
fn a_ring_ref_that_is_no_number_is_refused() {
    refuse_then_accept("ring-ref", &no_numbers());
}

#[test]
fn an_event_channel_that_is_no_number_is_refused() {
    refuse_then_accept("event-channel", &no_numbers());
}

#[test]
fn a_ring_that_cannot_be_mapped_is_refused() {
    let (mut machine, mut frontend) = beside_an_honest_one();
    let page = HeapPage::new();
    let read_only = machine.domain.grant(&page, DOM0, Access::ReadOnly).0;
    let for_another = machine.domain.grant(&page, DomId(1), Access::ReadWrite).0;
    for gref in [0, 500, 4_000_000, u32::MAX, read_only, for_another] {
        frontend.publish_ring();
        frontend.write("ring-ref", gref.to_string());
        frontend.write("state", "3");
        machine.until_state(1, "5");
        assert!(machine.error("1").contains(&gref.to_string()), "{:?}", machine.error("1"));
        check_io(machine.guest().host(0), nexus(0));
        start_over(&machine, &mut frontend);
    }
}

/// It takes another state of the frontend, not only another reason to look: a guest cannot make us try for ever.
#[test]
fn a_ring_that_was_refused_is_not_tried_again() {
    for (ring_ref, tries) in [("none", 0), ("500", 1)] {
        let (mut machine, mut frontend) = beside_an_honest_one();
        let maps = |machine: &Machine| machine.domain.grant_counts().maps;
        let before = maps(&machine);
        frontend.publish_ring();
        frontend.write("ring-ref", ring_ref);
        frontend.write("state", "3");
        machine.until_state(1, "5");
        for _ in 0..20 {
            // Now it would work.
            frontend.publish_ring();
            frontend.write("state", "3");
            let online = machine.backend("1/online");
            machine.store.write(&online, "1");
        }
        // What was written before this was made is seen before it.
        machine.attach(2, &[Dev::disk(0)]);
        machine.until_connected(2);
        assert_eq!(machine.written("1/state"), "1 2 5");
        assert_eq!(maps(&machine) - before, tries + 1, "of vhost 1, and of vhost 2");
        let error = format!("/local/domain/0/error/backend/vscsi/{}/1/error", machine.domid);
        assert_eq!(machine.store.history(&error).len(), 1, "said once");
        assert_eq!(machine.log.lines_with("vhost 1").len(), 1, "logged once:\n{}", machine.log.text());
        start_over(&machine, &mut frontend);
    }
}

#[test]
fn a_port_that_is_not_ours_to_bind_is_refused() {
    let (mut machine, mut frontend) = beside_an_honest_one();
    let for_another = machine.domain.alloc_unbound(DomId(1)).port().0;
    let in_use = machine.guest().host(0).frontend().port().0;
    for port in [0, 999, u32::MAX, for_another, in_use] {
        frontend.publish_ring();
        frontend.write("event-channel", port.to_string());
        frontend.write("state", "3");
        machine.until_state(1, "5");
        assert!(machine.error("1").contains(&format!("event channel {port} ")), "{:?}", machine.error("1"));
        assert_eq!(machine.domain.live_mappings(), 1, "the ring was let go of");
        check_io(machine.guest().host(0), nexus(0));
        start_over(&machine, &mut frontend);
    }
}

#[test]
fn a_state_that_makes_no_sense_ends_its_own_connection_only() {
    let (mut machine, mut frontend) = beside_an_honest_one();
    let state = machine.frontend("1/state");
    let mut values =
        vec![("0".to_owned(), "6"), ("2".to_owned(), "4"), ("8".to_owned(), "5"), ("9".to_owned(), "5")];
    values.extend(["abc", "", "04", "4\n", "\u{664}", "4\0"].map(|text| (text.to_owned(), "5")));
    values.extend(LONG.map(|len| ("4".repeat(len), "5")));
    for (value, ours) in values {
        frontend.publish_ring();
        frontend.write("state", "3");
        machine.until_state(1, "4");
        machine.store.write(&state, &value);
        machine.until_state(1, ours);
        if ours == "5" {
            assert!(machine.error("1").contains("makes no sense"), "{value:?}: {:?}", machine.error("1"));
        }
        machine.expect_workers(if ours == "4" { 2 } else { 1 });
        check_io(machine.guest().host(0), nexus(0));
        start_over(&machine, &mut frontend);
    }
}

#[test]
fn an_impossible_ring_is_closed_and_can_come_back() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.attach(1, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.until_connected(1);
    let ring = machine.guest().host(0).frontend();
    ring.ring_page().share().store_u32(REQ_PROD, 0xdead_beef, Ordering::Release);
    ring.port_control().raise_spurious(Way::ToBackend);
    machine.until("the guest has closed", |machine| machine.frontend_value("0/state") == "6");
    machine.until_state(0, "2");
    assert_eq!(machine.written("0/state"), "1 2 4 5 6 2");
    assert_ne!(machine.error("0"), "");
    assert_eq!(machine.error("1"), "");
    assert_eq!(machine.log.lines_with("impossible").len(), 1, "logged once:\n{}", machine.log.text());
    check_io(machine.guest().host(1), nexus(0));
    machine.guest().unload();
    machine.until_state(1, "2");
    machine.guest().load();
    machine.until_connected(0);
    machine.until_connected(1);
    check_io(machine.guest().host(0), nexus(0));
    check_io(machine.guest().host(1), nexus(0));
}

/// The worker finds the ring impossible when it is woken to remove a unit: that must not pass for an answer.
#[test]
fn a_ring_that_is_found_impossible_at_a_removal_is_closed() {
    let (mut machine, mut frontend) = beside_an_honest_one();
    frontend.publish_ring();
    frontend.write("state", "3");
    machine.until_state(1, "4");
    frontend.write("state", "4");
    machine.until_connected(1);
    frontend.ring.ring_page().share().store_u32(REQ_PROD, 1000, Ordering::Release);
    machine.remove_device(1, "dev-1");
    frontend.write("state", "7");
    machine.until_state(1, "5");
    assert_ne!(machine.error("1"), "");
    machine.expect_workers(1);
    check_io(machine.guest().host(0), nexus(0));
    start_over(&machine, &mut frontend);
}

#[test]
fn a_state_that_flaps_costs_little() {
    let (mut machine, mut frontend) = beside_an_honest_one();
    frontend.publish_ring();
    let watches = machine.store.counts().watches;
    for round in 0..1000 {
        let states = ["3", "4", "6", "garbage", "5", "3", "7", "1", "0", "6"];
        frontend.write("state", states[round % states.len()]);
    }
    // What was written before this was made is seen before it.
    machine.attach(2, &[Dev::disk(0)]);
    machine.until_connected(2);
    // 6 when the last that was seen before the end was a 5.
    assert!(["2", "6"].contains(&&*machine.value("1/state")), "{}", machine.value("1/state"));
    machine.expect_workers(2);
    assert_eq!(machine.domain.live_mappings(), 2);
    // The server's of F/state and the guest's of B/state.
    assert_eq!(machine.store.counts().watches, watches + 2);
    check_io(machine.guest().host(0), nexus(0));
    let lines = machine.log.text().lines().count();
    assert!(lines <= 30, "{lines} lines:\n{}", machine.log.text());
}

#[test]
fn a_flood_of_nodes_below_the_state_stops_nothing() {
    let (mut machine, mut frontend) = beside_an_honest_one();
    let written = (0..1000).filter(|n| frontend.try_write(&format!("state/{n}"), "x".repeat(100))).count();
    assert!(written > 900, "{written} of 1000 nodes: the quota of the guest");
    machine.detach(0);
    machine.until_state(0, "6");
    assert!(machine.server_is_running());
    for n in 0..written {
        frontend.remove(&format!("state/{n}"));
    }
    frontend.publish_ring();
    frontend.write("state", "3");
    machine.until_state(1, "4");
    start_over(&machine, &mut frontend);
    let lines = machine.log.text().lines().count();
    assert!(lines <= 30, "{lines} lines:\n{}", machine.log.text());
}

#[test]
fn a_guest_that_never_rests_holds_up_neither_other_vhosts_nor_the_end() {
    let (mut machine, mut frontend) = beside_an_honest_one();
    frontend.publish_ring();
    let enough = Arc::new(AtomicBool::new(false));
    let flapping = [(); 3].map(|()| {
        let (enough, mut frontend) = (Arc::clone(&enough), RawFrontend::of(&machine, 1));
        thread::spawn(move || {
            while !enough.load(Ordering::Relaxed) {
                for state in ["3", "6", "9", "5", "6"] {
                    frontend.write("state", state);
                }
            }
        })
    });
    machine.attach(2, &[Dev::disk(0)]);
    machine.until_connected(2);
    check_io(machine.guest().host(2), nexus(0));
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    enough.store(true, Ordering::Relaxed);
    for thread in flapping {
        thread.join().unwrap();
    }
}
