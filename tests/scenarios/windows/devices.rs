//! Which devices Windows gets to see, and under which address.

use pvscsi_ring::Nexus;
use pvscsi_ring::vscsiif::DIRECTION_NONE;
use pvscsi_sim::frontend::GuestBuffer;
use pvscsi_sim::frontend::windows::{CHANNELS, LUNS, SrbStatus, TARGETS, state};

use super::guest::{Io, at, to_frontend};
use super::host::{FRONT, Host, Windows};
use crate::vhost::wait_until;

/// Asks every address that Windows knows; gives those where a device answered.
fn ready(windows: &mut Windows) -> Vec<Nexus> {
    let mut ready = Vec::new();
    for channel in 0..CHANNELS {
        for id in 0..TARGETS {
            for lun in 0..LUNS {
                let asked = Nexus { channel, id, lun };
                match windows.send(asked, &[0; 6], DIRECTION_NONE, GuestBuffer::default()) {
                    Ok(_) => {
                        let mut done = windows.completed();
                        // Windows repeats a command that was told that another unit has come or gone.
                        if done.sent.tells_of_changed_luns() {
                            done = windows.call(asked, &[0; 6], DIRECTION_NONE, GuestBuffer::default());
                        }
                        // Never the bare NO_CONNECT, which would be a complaint.
                        assert_eq!((done.sent.rslt, windows.complaints()), (0, &[][..]));
                        ready.push(asked);
                    }
                    Err(status) => assert_eq!(status, SrbStatus::NoDevice),
                }
            }
        }
    }
    ready
}

#[test]
fn only_devices_that_are_served_get_an_address() {
    let host = Host::serving(&[
        ("ram:1M", "0:0:0:0"),
        ("ram:2M", "0:0:0:1"),
        // These never reach state 3: no such device, no device at all, an address that is taken.
        ("99:0:0:0", "0:0:0:2"),
        ("nonsense", "0:0:0:3"),
        ("ram:1M", "0:0:0:1"),
    ]);
    let mut windows = host.windows();
    assert_eq!(ready(&mut windows), [at(0), at(1)]);
    let states = [0, 1, 2, 3, 4].map(|n| host.back(&format!("vscsi-devs/dev-{n}/state")));
    assert_eq!(states[2..], ["6", "6", "6"]);
    windows.disconnect();
}

/// Served alike, but Windows finds them by their place in its table.
#[test]
fn addresses_that_are_not_dense_lead_elsewhere() {
    let host = Host::serving(&[("ram:1M", "0:0:3:0"), ("ram:2M", "0:1:0:0"), ("ram:1M", "1000:0:0:2")]);
    let mut windows = host.windows();
    assert_eq!(ready(&mut windows), [at(0), at(1)]);
    let elsewhere = [(0, 3), (1, 0)].map(|(channel, id)| to_frontend(Nexus { channel, id, lun: 0 }));
    assert_eq!(windows.devices().reachable().collect::<Vec<_>>(), elsewhere);
    // READ CAPACITY (10) tells them apart.
    let memory = GuestBuffer::contiguous(0, 8);
    let capacity = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    windows.call(at(1), &capacity, pvscsi_ring::vscsiif::DIRECTION_FROM_DEVICE, memory.clone());
    assert_eq!(memory.to_vec()[..4], 4095_u32.to_be_bytes());
    windows.disconnect();
}

#[test]
fn a_device_comes_and_goes_under_a_guest() {
    let mut host = Host::serving(&[("ram:1M", "0:0:0:0")]);
    let mut windows = host.windows();
    for _ in 0..5 {
        host.add_device(1, "ram:1M", "0:0:0:1");
        host.write("state", "7");
        windows.follow(state::RECONFIGURING);
        windows.follow(state::RECONFIGURED);
        windows.follow(state::CONNECTED);
        assert_eq!(ready(&mut windows), [at(0), at(1)]);
        // The driver's own node says 4 or, when it looked twice and found the device in its table, 6. Nobody reads it.
        assert_eq!(host.back("vscsi-devs/dev-1/state"), "4");

        host.write("vscsi-devs/dev-1/state", "5");
        host.write("state", "7");
        windows.follow(state::RECONFIGURED);
        windows.follow(state::CONNECTED);
        assert_eq!(ready(&mut windows), [at(0)], "the driver forgot it first");
        assert_eq!(
            (host.back("vscsi-devs/dev-1/state"), host.front("vscsi-devs/dev-1/state")),
            ("6".into(), "6".into())
        );
    }
    windows.disconnect();
}

/// The toolstack does not wait until both ends have said that they are connected.
#[test]
fn what_the_toolstack_asks_while_windows_connects_is_not_lost() {
    let mut host = Host::serving(&[("ram:1M", "0:0:0:0")]);
    let mut windows = Windows { xenbus: host.xenbus(), frontend: host.ring() };
    windows.xenbus.write_ring(&windows.frontend).unwrap();
    wait_until("the backend is connected", || host.back("state") == "4");
    host.add_device(1, "ram:1M", "0:0:0:1");
    host.write("state", "7");
    // Windows has seen the 4 and not the 7.
    host.store.write(&format!("{FRONT}/state"), "4");
    wait_until("the backend has heard of it", || host.back("vscsi-devs/dev-0/state") == "4");
    windows.follow(state::RECONFIGURED);
    windows.follow(state::CONNECTED);
    wait_until("the new device is connected", || host.back("vscsi-devs/dev-1/state") == "4");
    windows.disconnect();
}
