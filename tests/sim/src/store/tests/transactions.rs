//! Transactions: all or nothing, and who has to try again.

use std::thread;

use nix::errno::Errno;
use pvscsi_xen::xenstore::{Error, Nodes, Transaction, Xenstore};

use super::client;
use crate::store::Store;

#[test]
fn a_transaction_sees_its_own_writes_and_others_do_not() {
    let store = Store::new();
    store.write("/a", "old");
    let (mut xs, mut other) = (client(&store, 0), client(&store, 0));
    xs.transaction(|tx| {
        tx.write("/a", "new")?;
        tx.write("/b/c", "new")?;
        assert_eq!(tx.read_str("/a")?, "new");
        assert_eq!(tx.list("/b")?, ["c"]);
        assert_eq!(other.read_str("/a")?, "old");
        assert!(other.read("/b").unwrap_err().is_not_found());
        Ok(())
    })
    .unwrap();
    assert_eq!(other.read_str("/a").unwrap(), "new");
    assert_eq!(other.read_str("/b/c").unwrap(), "new");
    assert_eq!(store.counts().transactions, 0);
}

#[test]
fn an_aborted_transaction_changes_nothing() {
    let store = Store::new();
    store.write("/a/b", "old");
    let before = store.dump();
    let mut xs = client(&store, 0);
    let result: Result<(), _> = xs.transaction(|tx| {
        tx.remove("/a")?;
        tx.write("/c", "")?;
        Err(Error::BadToken("changed my mind".into()))
    });
    assert!(matches!(result, Err(Error::BadToken(_))));
    assert_eq!(store.dump(), before);
    assert_eq!(store.counts().transactions, 0);
}

/// How often the body runs when `meanwhile` happens during its first run.
fn runs(body: impl Fn(&mut Transaction<'_>), meanwhile: impl Fn(&mut Xenstore)) -> u32 {
    let store = Store::new();
    for path in ["/a/x", "/a/y", "/b"] {
        store.write(path, "old");
    }
    let (mut xs, mut other) = (client(&store, 0), client(&store, 0));
    let mut runs = 0;
    xs.transaction(|tx| {
        runs += 1;
        body(tx);
        if runs == 1 {
            meanwhile(&mut other);
        }
        Ok(())
    })
    .unwrap();
    runs
}

#[test]
fn a_transaction_runs_again_when_what_it_touched_has_changed() {
    let write_x = |xs: &mut Xenstore| xs.write("/a/x", "theirs").unwrap();
    assert_eq!(runs(|tx| drop(tx.read("/a/x")), write_x), 2, "read");
    assert_eq!(runs(|tx| tx.write("/a/x", "ours").unwrap(), write_x), 2, "written");
    assert_eq!(runs(|tx| assert!(tx.remove("/a").unwrap()), write_x), 2, "removed");
    assert_eq!(runs(|tx| drop(tx.read("/a/x")), |xs| assert!(xs.remove("/a").unwrap())), 2, "gone");
    let make = |xs: &mut Xenstore| xs.write("/a/z", "theirs").unwrap();
    assert_eq!(runs(|tx| drop(tx.read("/a/z")), make), 2, "looked for in vain");
    assert_eq!(runs(|tx| drop(tx.list("/a")), make), 2, "listed");
    assert_eq!(runs(|tx| tx.write("/a/new", "").unwrap(), make), 2, "made beside");
    let replace = |xs: &mut Xenstore| {
        xs.remove("/b").unwrap();
        xs.write("/b", "old").unwrap();
    };
    assert_eq!(runs(|tx| drop(tx.read("/b")), replace), 2, "replaced by its like");
}

#[test]
fn a_transaction_runs_once_when_others_work_elsewhere() {
    let elsewhere = |xs: &mut Xenstore| {
        xs.write("/a/y", "theirs").unwrap();
        xs.write("/c/d", "theirs").unwrap();
    };
    assert_eq!(runs(|tx| drop(tx.read("/a/x")), elsewhere), 1);
    assert_eq!(runs(|tx| tx.write("/a/x", "ours").unwrap(), elsewhere), 1);
    assert_eq!(runs(|tx| drop(tx.list("/a")), elsewhere), 1, "a value of a child is no change of the list");
}

#[test]
fn no_increment_is_lost() {
    const EACH: u32 = 25;
    let store = Store::new();
    store.write("/n", "0");
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut xs = client(&store, 0);
            scope.spawn(move || {
                for _ in 0..EACH {
                    xs.transaction(|tx| {
                        let n: u32 = tx.read_str("/n")?.parse().unwrap();
                        tx.write("/n", (n + 1).to_string())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(store.read("/n").unwrap(), (2 * EACH).to_string().as_bytes());
}

#[test]
fn a_removed_tree_can_be_made_anew_in_one_transaction() {
    let store = Store::new();
    store.write("/a/old/x", "1");
    client(&store, 0)
        .transaction(|tx| {
            tx.remove("/a")?;
            tx.write("/a/new", "2")
        })
        .unwrap();
    let dump: Vec<_> = store.dump().into_iter().collect();
    assert_eq!(dump, [("/a".to_owned(), vec![]), ("/a/new".to_owned(), b"2".to_vec())]);
}

#[test]
fn a_guest_has_few_transactions_at_once() {
    use pvscsi_xen::xenstore::wire::{XS_TRANSACTION_START, encode};
    use std::io::Write;
    let store = Store::new();
    let mut stream = store.connect(pvscsi_xen::DomId(5));
    for n in 0..10 {
        stream.write_all(&encode(XS_TRANSACTION_START, n, 0, &[b"\0"])).unwrap();
    }
    super::eventually("all are started", || store.counts().transactions == 10);
    let mut replies = [0; 10 * 16 + 9 * 2 + 3];
    std::io::Read::read_exact(&mut stream, &mut replies).unwrap();
    let mut xs = Xenstore::from_stream(stream).unwrap();
    let error = xs.transaction(|_| Ok(())).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSPC));
    drop(xs);
    super::eventually("they end with their connection", || store.counts().transactions == 0);
}

#[test]
fn the_history_has_what_took_effect_in_its_order() {
    let store = Store::new();
    let mut xs = client(&store, 0);
    xs.transaction(|tx| {
        tx.write("/a/state", "1")?;
        tx.write("/a/state", "2")
    })
    .unwrap();
    let given_up: Result<(), _> = xs.transaction(|tx| {
        tx.write("/a/state", "3")?;
        Err(Error::BadToken("changed my mind".into()))
    });
    given_up.unwrap_err();
    xs.write("/ab", "beside it").unwrap();
    xs.remove("/a").unwrap();
    let entry =
        |path: &str, value: Option<&str>| (path.to_owned(), value.map(|text| text.as_bytes().to_vec()));
    assert_eq!(
        store.history("/a"),
        [
            entry("/a/state", Some("1")),
            entry("/a/state", Some("2")),
            entry("/a", None),
            entry("/a/state", None)
        ]
    );
}
