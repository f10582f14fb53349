//! Start-up, hibernation, and the end, through xenstore and the real server.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pvscsi_ring::vscsiif::DIRECTION_FROM_DEVICE;
use pvscsi_sim::frontend::GuestBuffer;
use pvscsi_sim::frontend::windows::{XenbusTrouble, state};

use super::guest::{BACKEND, FIRST, GUEST, Io};
use super::host::{Host, Windows};
use crate::vhost::{pattern, rw10, wait_until};

fn pages(count: usize) -> GuestBuffer {
    GuestBuffer::contiguous(0, count * 4096)
}

#[test]
fn windows_connects_and_works() {
    let host = Host::serving(&[("ram:1M", "0:0:0:0")]);
    let mut windows = host.windows();
    assert_eq!((host.front("protocol"), host.front("state")), ("x86_64-abi".into(), "4".into()));
    assert_eq!(host.front("vscsi-devs/dev-0/state"), "4");
    windows.write(FIRST, 0, &pattern(1, 25 * 4096), &pages(25));
    assert_eq!(windows.read(FIRST, 0, pages(25)), pattern(1, 25 * 4096));
    wait_until("the device is connected", || host.back("vscsi-devs/dev-0/state") == "4");
    assert_eq!(host.back("state"), "4");
    assert_eq!(windows.xenbus.shut_down().unwrap(), 0, "the backend's nodes are not Windows's to write");
    windows.disconnect();
}

#[test]
fn windows_spins_until_there_is_a_server() {
    let mut host = Host::attach(&[("ram:1M", "0:0:0:0")]);
    let mut windows = Windows { xenbus: host.xenbus(), frontend: host.ring() };
    let spins = windows.xenbus.probe(&mut windows.frontend, Duration::from_millis(20));
    assert!(
        matches!(
            spins,
            Err(XenbusTrouble::Spins { wanted: state::CONNECTED, seen: Some(state::INITIALISING) })
        ),
        "{spins:?}"
    );
    host.serve();
    windows.follow(state::CONNECTED);
    assert!(windows.is_ready(FIRST));
    windows.disconnect();
}

#[test]
fn a_ring_that_cannot_be_had_ends_the_spin() {
    let host = Host::serving(&[("ram:1M", "0:0:0:0")]);
    let mut windows = Windows { xenbus: host.xenbus(), frontend: host.ring() };
    host.spoil_next_map();
    let refused = windows.probe();
    assert!(matches!(refused, Err(XenbusTrouble::Closed)), "{refused:?}");
    assert_eq!((host.back("state"), host.front("state")), ("6".into(), "6".into()));
}

/// A file that goes away with the value.
struct Image(PathBuf);

impl Image {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("pvscsi-windows-{}", std::process::id()));
        fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        Self(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let removed = fs::remove_file(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// Hibernation and crash dumps go through Closing, Closed, Initialising, and back with a new ring.
#[test]
fn windows_hibernates_twenty_times() {
    let image = Image::new();
    let host = Host::serving(&[(&format!("file:{}", image.0.display()), "0:0:0:0")]);
    let mut counts = None;
    for round in 0..20_usize {
        let mut windows = host.windows();
        if let Some(before) = round.checked_sub(1) {
            assert_eq!(
                windows.read(FIRST, 0, pages(25)),
                pattern(before, 25 * 4096),
                "what was written is there"
            );
        }
        windows.write(FIRST, 0, &pattern(round, 25 * 4096), &pages(25));
        // Every second time it does not wait for what it has sent.
        if round % 2 == 1 {
            for _ in 0..16 {
                windows.send(FIRST, &rw10(0x28, 0, 4 * 4096), DIRECTION_FROM_DEVICE, pages(4)).unwrap();
            }
        }
        let start = Instant::now();
        drop(windows.disconnect());
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}: Windows spins", start.elapsed());
        assert_eq!((host.back("state"), host.front("state")), ("2".into(), "1".into()));

        let guest = host.xen.domain(GUEST);
        assert_eq!(
            (guest.live_mappings(), guest.live_grants(), guest.open_ports()),
            (0, 0, 0),
            "round {round}"
        );
        assert_eq!(host.xen.domain(BACKEND).open_ports(), 0, "round {round}");
        wait_until("the guest's connection is gone", || host.store.counts().connections == 2);
        let now = host.store.counts();
        assert_eq!(*counts.get_or_insert(now), now, "round {round}");
    }
}

/// A server that is told to end leads Windows to Closed, and does not wait longer than for that.
#[test]
fn a_server_that_ends_takes_windows_along() {
    let host = Host::serving(&[("ram:1M", "0:0:0:0")]);
    let mut windows = host.windows();
    host.stop();
    let start = Instant::now();
    windows.follow(state::CLOSING);
    windows.follow(state::CLOSED);
    wait_until("the server has ended", || host.has_ended());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((host.back("state"), host.front("state")), ("6".into(), "6".into()));
}
