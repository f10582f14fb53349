//! Two guests on one host, each with a server of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pvscsi_ring::vscsiif::{REQ_PROD, RSP_PROD, slot_offset};
use pvscsi_sim::Way;
use zerocopy::IntoBytes;

use super::io::{Reads, nexus, read};
use super::raw::RawFrontend;
use super::{Dev, Machine, check_io};
use crate::hostile::nonsense;

/// Both servers end before either machine looks at what the host still holds.
fn end(mut one: Machine, mut other: Machine) {
    for machine in [&mut one, &mut other] {
        if machine.server_is_running() {
            machine.ask_to_stop();
            machine.wait_for_end().unwrap();
        }
    }
    drop((one, other));
}

#[test]
fn two_guests_have_the_same_addresses() {
    let mut one = Machine::new();
    let mut other = one.beside();
    for machine in [&mut one, &mut other] {
        machine.attach(0, &[Dev::disk(0), Dev::disk(1)]);
        machine.until_connected(0);
    }
    // Written in one guest, and not to be found in the other.
    check_io(one.guest().host(0), nexus(0));
    let untouched = other.guest().host(0).execute(read(nexus(0))).unwrap();
    assert_eq!((untouched.rslt, untouched.data.to_vec()), (0, vec![0; 4096]));
    check_io(other.guest().host(0), nexus(0));

    let mut reads = [Reads::of(nexus(0)), Reads::of(nexus(0))];
    for _ in 0..100 {
        for (machine, reads) in [&mut one, &mut other].into_iter().zip(&mut reads) {
            reads.go_on(machine.guest().host(0));
            check_io(machine.guest().host(0), nexus(1));
        }
    }
    let [of_one, of_other] = reads;
    of_one.finish(one.guest().host(0));
    // One changes its devices, and dies, while the other reads.
    one.remove_device(0, "dev-1");
    one.until_connected(0);
    assert_eq!(one.value("0/vscsi-devs/dev-1/state"), "6");
    check_io(other.guest().host(0), nexus(1));
    one.destroy_guest();
    one.wait_for_end().unwrap();
    assert!(of_other.finish(other.guest().host(0)) >= 100);
    check_io(other.guest().host(0), nexus(1));
    assert_eq!(other.written("0/state"), "1 2 4");
    end(one, other);
}

/// Reads that the guest gets done in this time.
fn reads_in(machine: &mut Machine, time: Duration) -> u32 {
    let start = Instant::now();
    let mut reads = Reads::of(nexus(0));
    while start.elapsed() < time {
        reads.go_on(machine.guest().host(0));
        thread::yield_now();
    }
    reads.finish(machine.guest().host(0))
}

/// Ends the threads beside a test that fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bad requests and events as fast as the ring takes them.
fn storm(frontend: &RawFrontend, enough: &AtomicBool) {
    let (page, port) = (frontend.ring.ring_page().share(), frontend.ring.port_control());
    let all = nonsense();
    let mut bad = all.iter().map(|(_, request)| request).cycle();
    let mut req_prod = 0_u32;
    while !enough.load(Ordering::Relaxed) {
        let open = req_prod.wrapping_sub(page.load_u32(RSP_PROD, Ordering::Acquire));
        for request in bad.by_ref().take(16 - open as usize) {
            page.copy_in(slot_offset(req_prod), request.as_bytes());
            req_prod += 1;
        }
        page.store_u32(REQ_PROD, req_prod, Ordering::Release);
        port.raise_spurious(Way::ToBackend);
    }
    assert!(req_prod > 1000, "{req_prod} bad requests");
}

/// States of all kinds, as fast as xenstore takes them.
fn flap(frontend: &mut RawFrontend, enough: &AtomicBool) {
    while !enough.load(Ordering::Relaxed) {
        ["3", "6", "9", "5", "6"].into_iter().for_each(|state| frontend.write("state", state));
    }
}

/// A storm of events, of bad requests and of states. How much is left to the others is the scheduler's business; that it is not
/// next to nothing is ours: whatever the guest does, only threads of its own work for it.
#[test]
fn a_hostile_guest_leaves_the_others_their_share() {
    let mut honest = Machine::new();
    honest.attach(0, &[Dev::disk(0)]);
    honest.until_connected(0);
    let mut hostile = honest.beside();
    hostile.guest = None;
    hostile.attach(0, &[Dev::disk(0)]);
    hostile.attach(1, &[Dev::disk(0)]);
    hostile.until_state(0, "2");
    hostile.until_state(1, "2");
    let mut storming = RawFrontend::of(&hostile, 0);
    let mut flapping = RawFrontend::of(&hostile, 1);
    for frontend in [&mut storming, &mut flapping] {
        frontend.publish_ring();
        frontend.write("state", "3");
    }
    hostile.until_state(0, "4");

    let time = Duration::from_millis(500);
    let alone = reads_in(&mut honest, time);
    let enough = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        scope.spawn(|| storm(&storming, &enough));
        scope.spawn(|| flap(&mut flapping, &enough));
        let _stop = SetOnDrop(&enough);
        // The others on this machine may have a bad moment of their own.
        (0..5).map(|_| reads_in(&mut honest, time)).find(|beside| *beside > alone / 100)
    });
    let beside = beside.unwrap_or_else(|| panic!("{alone} reads alone, and not a hundredth beside"));
    println!("figures: {alone} reads alone, {beside} beside a guest that does its worst, in {time:?} each");
    for frontend in [&mut storming, &mut flapping] {
        frontend.write("state", "6");
    }
    assert_eq!(honest.written("0/state"), "1 2 4");
    check_io(honest.guest().host(0), nexus(0));
    end(honest, hostile);
}
