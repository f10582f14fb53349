use super::*;

const BACKEND: DomId = DomId(0);
const GUEST: DomId = DomId(7);
const NOW: Duration = Duration::ZERO;

/// A bound channel whose first event, that of the binding, is taken and unmasked.
fn channel() -> (Hypervisor, GuestPort, SimEvents) {
    let xen = Hypervisor::new();
    let guest = xen.domain(GUEST).alloc_unbound(BACKEND);
    let mut backend = xen.bind_interdomain(BACKEND, GUEST, guest.port()).unwrap();
    assert!(backend.take_pending().unwrap());
    backend.unmask().unwrap();
    (xen, guest, backend)
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Errno {
    Errno::from_raw(result.unwrap_err().raw_os_error().unwrap())
}

#[test]
fn binding_fires_once_at_once() {
    let (_xen, guest, mut backend) = channel();
    assert!(!backend.take_pending().unwrap(), "once");
    assert!(!guest.wait(NOW), "only on the side that binds");
    assert_eq!(guest.control().counts(), EventCounts::default());
}

#[test]
fn an_event_before_the_binding_is_dropped() {
    let xen = Hypervisor::new();
    let guest = xen.domain(GUEST).alloc_unbound(BACKEND);
    guest.notify();
    let mut backend = xen.bind_interdomain(BACKEND, GUEST, guest.port()).unwrap();
    assert!(backend.take_pending().unwrap(), "the one of the binding");
    backend.unmask().unwrap();
    assert!(!backend.take_pending().unwrap());
}

#[test]
fn a_port_that_fired_is_silent_until_it_is_unmasked() {
    let (_xen, guest, mut backend) = channel();
    guest.notify();
    assert!(backend.take_pending().unwrap());
    guest.notify();
    guest.notify();
    assert!(!backend.take_pending().unwrap(), "masked");
    backend.unmask().unwrap();
    assert!(backend.take_pending().unwrap(), "delivered late, and as one");
    backend.unmask().unwrap();
    assert!(!backend.take_pending().unwrap());
    backend.unmask().unwrap();
    assert!(!backend.take_pending().unwrap(), "unmasking twice makes no event");
}

#[test]
fn the_descriptor_is_readable_exactly_while_an_event_is_pending() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let readable = |backend: &SimEvents| {
        poll(&mut [PollFd::new(backend.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    };
    let (_xen, guest, mut backend) = channel();
    assert!(!readable(&backend));
    guest.notify();
    assert!(readable(&backend));
    assert!(backend.take_pending().unwrap());
    assert!(!readable(&backend));
}

#[test]
fn the_guest_sleeps_until_it_is_rung() {
    let (_xen, guest, mut backend) = channel();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| guest.wait(Duration::from_secs(30)));
        backend.notify().unwrap();
        assert!(waiter.join().unwrap());
    });
    backend.notify().unwrap();
    backend.notify().unwrap();
    assert!(guest.wait(NOW));
    assert!(!guest.wait(NOW), "two rings before the wait are one event");
    assert_eq!(guest.control().counts(), EventCounts { to_backend: 0, to_guest: 3 });
}

#[test]
fn armed_faults_lose_and_double_events_both_ways() {
    let (_xen, guest, mut backend) = channel();
    let control = guest.control();

    control.inject(Way::ToBackend, 2, EventFault::Lost);
    control.inject(Way::ToBackend, 3, EventFault::Doubled);
    let mut rounds = || {
        guest.notify();
        let mut taken = 0;
        while backend.take_pending().unwrap() {
            taken += 1;
            backend.unmask().unwrap();
        }
        taken
    };
    assert_eq!([rounds(), rounds(), rounds(), rounds()], [1, 0, 2, 1]);

    control.inject(Way::ToGuest, 1, EventFault::Lost);
    control.inject(Way::ToGuest, 2, EventFault::Doubled);
    let mut rounds = || {
        backend.notify().unwrap();
        std::iter::from_fn(|| guest.wait(NOW).then_some(())).count()
    };
    assert_eq!([rounds(), rounds(), rounds()], [0, 2, 1]);
    assert_eq!(control.counts(), EventCounts { to_backend: 4, to_guest: 3 }, "lost ones were sent");
}

#[test]
fn spurious_events_arrive_and_are_not_counted() {
    let (_xen, guest, mut backend) = channel();
    let control = guest.control();
    control.raise_spurious(Way::ToBackend);
    control.raise_spurious(Way::ToGuest);
    assert!(backend.take_pending().unwrap());
    assert!(guest.wait(NOW));
    assert_eq!(control.counts(), EventCounts::default());
}

#[test]
fn a_port_is_bound_by_one_at_a_time_and_again_after_it() {
    let (xen, guest, backend) = channel();
    let dom0 = xen.domain(BACKEND);
    assert!(guest.control().is_bound());
    assert_eq!(errno(xen.bind_interdomain(BACKEND, GUEST, guest.port())), Errno::EINVAL);
    assert_eq!(dom0.open_ports(), 1);
    drop(backend);
    assert!(!guest.control().is_bound());
    assert_eq!(dom0.open_ports(), 0);
    let mut again = xen.bind_interdomain(BACKEND, GUEST, guest.port()).unwrap();
    assert!(again.take_pending().unwrap());
    again.notify().unwrap();
    assert!(guest.wait(NOW));
}

#[test]
fn a_binding_that_the_guest_did_not_offer_is_refused() {
    let xen = Hypervisor::new();
    let domain = xen.domain(GUEST);
    let guest = domain.alloc_unbound(BACKEND);
    let port = guest.port();
    assert_eq!(errno(xen.bind_interdomain(DomId(5), GUEST, port)), Errno::EINVAL, "for another domain");
    assert_eq!(errno(xen.bind_interdomain(BACKEND, GUEST, Port(99))), Errno::EINVAL, "no such port");
    assert_eq!(errno(xen.bind_interdomain(BACKEND, DomId(8), port)), Errno::ESRCH, "no such domain");
    drop(guest);
    assert_eq!(domain.open_ports(), 0);
    assert_eq!(errno(xen.bind_interdomain(BACKEND, GUEST, port)), Errno::EINVAL, "closed");
}

#[test]
fn a_closed_end_cannot_be_rung() {
    let (_xen, guest, mut backend) = channel();
    drop(guest);
    assert_eq!(errno(backend.notify()), Errno::EINVAL);
    assert!(!backend.take_pending().unwrap());

    let (xen, guest, mut backend) = channel();
    xen.destroy_domain(GUEST);
    assert_eq!(errno(backend.notify()), Errno::EINVAL);
    assert!(!guest.wait(Duration::from_secs(30)), "a closed port does not keep its guest waiting");
}
