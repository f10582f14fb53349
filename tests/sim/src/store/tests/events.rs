//! Watches.

use nix::errno::Errno;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Access, Nodes, WatchEvent};

use super::{changed, client, event, permission};
use crate::store::Store;

#[test]
fn a_watch_tells_of_itself_and_of_all_below() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    xs.watch("/w", "tok").unwrap();
    assert_eq!(event(&mut xs), changed("/w", "tok"), "at once, though there is no such node");
    store.write("/w/a/b", "1");
    assert_eq!(event(&mut xs), changed("/w/a/b", "tok"));
    store.write("/wx", "1");
    store.write("/w", "1");
    assert_eq!(event(&mut xs), changed("/w", "tok"), "and nothing of its neighbour");
    xs.set_permissions("/w/a", &[permission(Access::Read, 0)]).unwrap();
    assert_eq!(event(&mut xs), changed("/w/a", "tok"));
    xs.mkdir("/w/c").unwrap();
    assert_eq!(event(&mut xs), changed("/w/c", "tok"));
    xs.mkdir("/w/c").unwrap();
    xs.remove("/w/a").unwrap();
    assert_eq!(event(&mut xs), changed("/w/a", "tok"), "nothing of a mkdir that changed nothing");
    xs.unwatch("/w", "tok").unwrap();
    store.write("/w/d", "1");
    xs.read("/w/d").unwrap();
    assert_eq!(xs.next_event().unwrap(), None, "whatever was to come would have come before the reply");
}

#[test]
fn a_watch_below_a_removed_node_tells_of_its_own_path() {
    let store = Store::new();
    store.write("/local/domain/5/device/vscsi/0/state", "4");
    let mut xs = client(&store, 0);
    xs.watch("/local/domain/5/device/vscsi/0/state", "state").unwrap();
    event(&mut xs);
    xs.remove("/local/domain/5").unwrap();
    assert_eq!(event(&mut xs), changed("/local/domain/5/device/vscsi/0/state", "state"));
    assert_eq!(xs.next_event().unwrap(), None);
}

#[test]
fn a_relative_watch_tells_relative_paths() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    xs.watch("backend", "b").unwrap();
    assert_eq!(event(&mut xs), changed("backend", "b"));
    store.write("/local/domain/0/backend/vscsi/5/0", "");
    assert_eq!(event(&mut xs), changed("backend/vscsi/5/0", "b"));
    xs.unwatch("/local/domain/0/backend", "b").unwrap();
}

#[test]
fn watches_are_known_by_path_and_token() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    xs.watch("/w", "one").unwrap();
    xs.watch("/w", "two").unwrap();
    xs.watch("/", "root").unwrap();
    for token in ["one", "two"] {
        assert_eq!(event(&mut xs), changed("/w", token));
    }
    assert_eq!(event(&mut xs), changed("/", "root"));
    assert_eq!(xs.watch("/w", "one").unwrap_err().errno(), Some(Errno::EEXIST));
    assert!(xs.unwatch("/w", "three").unwrap_err().is_not_found());
    store.write("/w", "1");
    for token in ["one", "two", "root"] {
        assert_eq!(event(&mut xs), changed("/w", token));
    }
}

#[test]
fn a_transaction_tells_when_it_is_committed() {
    let store = Store::new();
    let (mut xs, mut watcher) = (client(&store, 0), client(&store, 0));
    watcher.watch("/w", "t").unwrap();
    event(&mut watcher);
    let aborted: Result<(), _> = xs.transaction(|tx| {
        tx.write("/w/never", "")?;
        tx.read("/no/such/node").map(drop)
    });
    assert!(aborted.unwrap_err().is_not_found());
    xs.transaction(|tx| {
        tx.write("/w/b", "1")?;
        tx.write("/w/a", "2")?;
        watcher.read("/")?;
        assert_eq!(watcher.next_event()?, None);
        Ok(())
    })
    .unwrap();
    assert_eq!(event(&mut watcher), changed("/w/b", "t"), "in the order of the changes");
    assert_eq!(event(&mut watcher), changed("/w/a", "t"));
}

#[test]
fn a_guest_is_told_of_what_it_may_read() {
    let store = Store::new();
    store.write("/open/x", "");
    store.write("/shut/x", "");
    let mut dom0 = client(&store, 0);
    dom0.set_permissions("/open/x", &[permission(Access::Read, 0)]).unwrap();
    let mut guest = client(&store, 5);
    guest.watch("/", "t").unwrap();
    event(&mut guest);
    store.write("/shut/x", "1");
    store.write("/open/x", "1");
    assert_eq!(event(&mut guest), changed("/open/x", "t"));
    dom0.set_permissions("/open/x", &[permission(Access::None, 0)]).unwrap();
    assert_eq!(event(&mut guest), changed("/open/x", "t"), "the loss itself is told");
    store.write("/open/x", "2");
    dom0.remove("/open").unwrap();
    assert!(guest.read("/open/x").unwrap_err().is_denied());
    assert_eq!(guest.next_event().unwrap(), None);
}

#[test]
fn domains_that_come_and_go_are_told_to_domain_0() {
    let store = Store::new();
    let (mut xs, mut guest) = (client(&store, 0), client(&store, 6));
    for xs in [&mut xs, &mut guest] {
        xs.watch("@introduceDomain", "in").unwrap();
        xs.watch("@releaseDomain", "out").unwrap();
        assert_eq!(event(xs), changed("@introduceDomain", "in"));
        assert_eq!(event(xs), changed("@releaseDomain", "out"));
    }
    store.introduce_domain();
    assert_eq!(event(&mut xs), changed("@introduceDomain", "in"));
    store.release_domain(DomId(5));
    assert_eq!(event(&mut xs), changed("@releaseDomain", "out"));
    guest.domain_path(DomId(6)).unwrap();
    assert_eq!(guest.next_event().unwrap(), None);
}

#[test]
fn a_flood_of_changes_is_an_overflow() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    xs.watch("/w", "t").unwrap();
    event(&mut xs);
    for _ in 0..1000 {
        store.write("/w/same", "1");
    }
    xs.read("/w").unwrap();
    assert_eq!(event(&mut xs), changed("/w/same", "t"));
    // The first may have gone out before the second came; equal ones are told once in each place where they wait.
    while let Some(again) = xs.next_event().unwrap() {
        assert_eq!(again, changed("/w/same", "t"));
    }
    for n in 0..300 {
        store.write(&format!("/w/{n}"), "1");
    }
    xs.read("/w").unwrap();
    assert_eq!(xs.next_event().unwrap(), Some(WatchEvent::Overflow));
    assert_eq!(xs.next_event().unwrap(), None);
    assert_eq!(xs.list("/w").unwrap().len(), 301, "reading anew tells all");
    store.write("/w/0", "2");
    assert_eq!(event(&mut xs), changed("/w/0", "t"), "and watching goes on");
}
