//! Values, lists, permissions.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use nix::errno::Errno;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Access, Error, Nodes};

use super::{client, eventually, permission};
use crate::store::{Counts, Store};

#[test]
fn what_is_written_can_be_read_listed_and_removed() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    xs.write("/a/b/c", b"with\0nul").unwrap();
    xs.write("/a/b/d", "").unwrap();
    xs.mkdir("/a/e/f").unwrap();
    xs.mkdir("/a/b/c").unwrap();
    assert_eq!(xs.read("/a/b/c").unwrap(), b"with\0nul", "mkdir leaves a node as it is");
    assert_eq!(xs.read("/a").unwrap(), b"", "parents come with an empty value");
    assert_eq!(xs.list("/a").unwrap(), ["b", "e"]);
    assert_eq!(xs.list("/").unwrap(), ["a"]);
    assert!(xs.list("/a/b/d").unwrap().is_empty());
    assert!(xs.remove("/a/b").unwrap());
    let left: Vec<_> = store.dump().into_keys().collect();
    assert_eq!(left, ["/a", "/a/e", "/a/e/f"]);
    assert!(xs.read("/a/b/c").unwrap_err().is_not_found());
    assert_eq!(xs.list("/a").unwrap(), ["e"]);
}

#[test]
fn removing_what_is_not_there_needs_a_parent() {
    let store = Store::new();
    store.write("/a/bc", "");
    let mut xs = client(&store, 0);
    assert!(xs.remove("/a/b").unwrap(), "as xenstored has it");
    assert!(!xs.remove("/a/b/c").unwrap());
    assert_eq!(xs.remove("/").unwrap_err().errno(), Some(Errno::EINVAL));
    assert_eq!(store.read("/a/bc"), Some(Vec::new()), "its name only starts alike");
}

#[test]
fn the_process_and_its_clients_see_the_same() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    store.write("/x/y", "1");
    assert_eq!(xs.read_str("/x/y").unwrap(), "1");
    xs.write("/x/y", "2").unwrap();
    assert_eq!(store.read("/x/y").unwrap(), b"2");
    assert_eq!(store.read("/x/z"), None);
    assert_eq!(store.dump(), BTreeMap::from([("/x".into(), vec![]), ("/x/y".into(), b"2".to_vec())]));
}

#[test]
fn a_list_of_any_length_is_complete() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    // Around the border of one message, where an off-by-one would show, and far beyond.
    for (dir, count, len) in [("/a", 409, 9), ("/b", 410, 9), ("/c", 1000, 40), ("/d", 4, 2000)] {
        let names: Vec<String> = (0..count).map(|n| format!("{n:0len$}")).collect();
        for name in &names {
            store.write(&format!("{dir}/{name}"), "");
        }
        assert_eq!(xs.list(dir).unwrap(), names, "{dir}");
    }
}

#[test]
fn a_value_that_fills_a_message_can_be_read() {
    let store = Store::new();
    store.write("/fits", [b'x'; 4096]);
    store.write("/does-not", [b'x'; 4097]);
    let mut xs = client(&store, 0);
    assert_eq!(xs.read("/fits").unwrap().len(), 4096);
    assert_eq!(xs.read("/does-not").unwrap_err().errno(), Some(Errno::E2BIG));
}

#[test]
fn a_list_is_of_one_moment() {
    let store = Store::new();
    for n in 0..600 {
        store.write(&format!("/d/stays-{n:04}"), "");
    }
    let mut xs = client(&store, 0);
    let mut other = client(&store, 0);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for n in 0..100 {
                // Sorted before and after the rest, so that it moves all that lies between.
                let (first, last) = (format!("/d/a-{n}"), format!("/d/z-{n}"));
                other.write(&first, "").unwrap();
                other.write(&last, "").unwrap();
                other.remove(&first).unwrap();
                other.remove(&last).unwrap();
            }
        });
        let mut lists = 0;
        while !writer.is_finished() || lists == 0 {
            let list = match xs.list("/d") {
                Err(Error::Unlistable { .. }) => continue,
                list => list.unwrap(),
            };
            let distinct: BTreeSet<_> = list.iter().collect();
            assert_eq!(distinct.len(), list.len(), "no name twice");
            assert_eq!(list.iter().filter(|name| name.starts_with("stays-")).count(), 600);
            lists += 1;
        }
        writer.join().unwrap();
    });
}

#[test]
fn relative_paths_are_below_the_home_of_the_domain() {
    let store = Store::new();
    store.write("/local/domain/3/name", "guest");
    store.write("/local/domain/0/name", "dom0");
    assert_eq!(client(&store, 0).read_str("name").unwrap(), "dom0");
    let mut xs = client(&store, 0);
    xs.set_permissions("/local/domain/3/name", &[permission(Access::None, 3)]).unwrap();
    assert_eq!(client(&store, 3).read_str("name").unwrap(), "guest");
    assert_eq!(xs.domain_path(DomId(3)).unwrap(), "/local/domain/3");
}

#[test]
fn permissions_are_kept_and_obeyed() {
    let store = Store::new();
    let mut dom0 = client(&store, 0);
    let (mut guest, mut other) = (client(&store, 5), client(&store, 6));
    dom0.write("/backend/5", "x").unwrap();
    dom0.write("/frontend/5", "y").unwrap();
    let readable = [permission(Access::None, 0), permission(Access::Read, 5)];
    dom0.set_permissions("/backend/5", &readable).unwrap();
    dom0.set_permissions("/frontend/5", &[permission(Access::None, 5), permission(Access::Read, 6)]).unwrap();

    assert_eq!(dom0.permissions("/backend/5").unwrap(), readable);
    assert_eq!(guest.read_str("/backend/5").unwrap(), "x");
    assert!(guest.write("/backend/5", "z").unwrap_err().is_denied());
    assert!(guest.write("/backend/5/new", "z").unwrap_err().is_denied());
    assert!(guest.remove("/backend/5").unwrap_err().is_denied());
    assert!(other.read("/backend/5").unwrap_err().is_denied());
    assert!(guest.read("/backend/5/none").unwrap_err().is_not_found());
    assert!(other.read("/backend/5/none").unwrap_err().is_denied(), "not even told that it is not there");

    guest.write("/frontend/5/state", "1").unwrap();
    let inherited = [permission(Access::None, 5), permission(Access::Read, 6)];
    assert_eq!(dom0.permissions("/frontend/5/state").unwrap(), inherited);
    assert_eq!(other.read_str("/frontend/5/state").unwrap(), "1");
    assert!(other.write("/frontend/5/state", "2").unwrap_err().is_denied());
    dom0.write("/frontend/5/by-dom0", "").unwrap();
    assert_eq!(dom0.permissions("/frontend/5/by-dom0").unwrap(), inherited);
}

#[test]
fn only_the_owner_sets_permissions_and_not_the_owner() {
    let store = Store::new();
    store.write("/a", "");
    let mut dom0 = client(&store, 0);
    let (mut guest, mut other) = (client(&store, 5), client(&store, 6));
    dom0.set_permissions("/a", &[permission(Access::ReadWrite, 5)]).unwrap();
    other.write("/a/made-by-6", "").unwrap();
    assert_eq!(dom0.permissions("/a/made-by-6").unwrap(), [permission(Access::ReadWrite, 6)]);
    let theirs = [permission(Access::None, 6)];
    assert_eq!(other.set_permissions("/a", &theirs).unwrap_err().errno(), Some(Errno::EACCES));
    assert_eq!(guest.set_permissions("/a", &theirs).unwrap_err().errno(), Some(Errno::EPERM));
    guest.set_permissions("/a", &[permission(Access::None, 5)]).unwrap();
    assert!(other.read("/a").unwrap_err().is_denied());
    assert_eq!(dom0.set_permissions("/a", &[]).unwrap_err().errno(), Some(Errno::EINVAL));
}

#[test]
fn a_released_domain_leaves_nothing() {
    let store = Store::new();
    store.write("/local/domain/5/device", "");
    let mut dom0 = client(&store, 0);
    dom0.set_permissions("/local/domain/5/device", &[permission(Access::None, 5)]).unwrap();
    let mut guest = client(&store, 5);
    guest.write("device/vscsi/0/state", "1").unwrap();
    guest.watch("device", "t").unwrap();
    assert_eq!(store.counts(), Counts { nodes: 7, connections: 2, watches: 1, transactions: 0 });
    store.release_domain(DomId(5));
    assert!(matches!(guest.read("device"), Err(Error::Closed)));
    assert_eq!(store.counts(), Counts { nodes: 3, connections: 1, watches: 0, transactions: 0 });
}

#[test]
fn connections_end_with_either_end() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    let other = client(&store, 0);
    xs.write("/a", "").unwrap();
    drop(other);
    eventually("the closed connection is forgotten", || store.counts().connections == 1);
    drop(store);
    assert!(matches!(xs.read("/a"), Err(Error::Closed)));
}
