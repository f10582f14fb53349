use super::*;
use crate::reservations::Attention;

/// Directories that go with the test.
pub(crate) struct Place(pub(crate) Directories, PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("pvscsi-shared-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        Self(Directories { run: root.join("run"), saved: root.join("saved") }, root)
    }

    pub(crate) fn join(&self, who: &str) -> Shared {
        Shared::join(&self.0, "unit", Initiator::named(who)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.1);
    }
}

fn soon() -> Instant {
    after(Duration::from_millis(30))
}

/// REGISTER AND IGNORE EXISTING KEY, with or without APTPL.
fn register(shared: &Shared, key: u64, aptpl: u8) -> Result<(), SharedError> {
    let cdb = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
    let list = [[0; 8], key.to_be_bytes(), [0, 0, 0, 0, aptpl, 0, 0, 0]].concat();
    let who = shared.who();
    let changed = shared.change(after(PATIENCE), |state| state.out(who, &cdb, &list))?;
    assert_eq!(changed.value, Ok(crate::reservations::Done::Given));
    Ok(())
}

fn keys(shared: &Shared) -> Vec<u8> {
    let cdb = [0x5e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let data = shared.read().unwrap().1.report(shared.who(), &cdb).unwrap();
    data[8..].chunks(8).map(|key| key[7]).collect()
}

#[test]
fn each_sees_what_the_others_change() {
    let place = Place::new("seen");
    let (a, b) = (place.join("a"), place.join("b"));
    let before = a.generation().unwrap();
    register(&a, 5, 0).unwrap();
    assert_eq!((keys(&b), b.generation().unwrap()), (vec![5], before + 1));
    register(&b, 6, 0).unwrap();
    assert_eq!(keys(&a), [5, 6]);
    let generation = a.generation().unwrap();
    a.change(soon(), |_| ()).unwrap();
    assert_eq!(a.generation().unwrap(), generation, "nothing has changed");
    a.leave().unwrap();
    assert_eq!(keys(&b), [5, 6], "a registration outlasts its guest");
}

#[test]
fn whoever_takes_something_away_waits_for_what_is_under_way() {
    let place = Place::new("drain");
    let (a, b) = (place.join("a"), place.join("b"));
    let change = |key: u8| {
        let tell = |state: &mut Reservations| {
            state.tell(b.who());
            state.pass_on(a.who(), Attention(0x2a, key));
        };
        a.change(soon(), tell).unwrap().before
    };
    let old = b.generation().unwrap();
    b.mark(old, true).unwrap();
    let before = change(0);
    assert!(matches!(a.drain(before.clone(), soon()), Err(SharedError::Slow(_))));
    // What comes now has the new rules, and is not waited for.
    b.mark(old + 1, true).unwrap();
    b.mark(old, false).unwrap();
    a.drain(before.clone(), soon()).unwrap();
    // Once a later generation has the old one's lock, that was free.
    for key in 1..=u8::try_from(GENERATIONS).unwrap() {
        change(key);
    }
    b.mark(old, true).unwrap();
    a.drain(before, soon()).unwrap();
    drop(b);
}

/// However many of a guest's commands never end, changes go on, and know what they have to wait for.
#[test]
fn commands_that_never_end_hold_up_nobody_else() {
    let place = Place::new("endless");
    let (a, b) = (place.join("a"), place.join("b"));
    let mut endless = Vec::new();
    for key in 0..200_u8 {
        let change = a.change(soon(), |state| {
            state.tell(b.who());
            state.pass_on(a.who(), Attention(0x2a, key));
        });
        let (before, now) = (change.unwrap().before, a.generation().unwrap());
        assert_eq!(before.ranges.len(), endless.len(), "change {key}");
        if endless.len() < 64 {
            b.mark(now, true).unwrap();
            endless.push(now);
        }
        assert_eq!(a.read().unwrap().1.attention(b.who()), Some(Attention(0x2a, key)));
    }
    for generation in endless {
        b.mark(generation, false).unwrap();
    }
    let before = a.change(soon(), |state| state.prevent(a.who(), true)).unwrap().before;
    assert_eq!(before.ranges, [0_u64; 0]);
}

#[test]
fn one_changes_at_a_time() {
    let place = Place::new("alone");
    let (a, b) = (place.join("a"), place.join("b"));
    a.begin_change(soon()).unwrap();
    assert!(matches!(b.change(soon(), |state| state.prevent(b.who(), true)), Err(SharedError::Slow(_))));
    a.end_change();
    b.change(soon(), |state| state.prevent(b.who(), true)).unwrap();
}

#[test]
fn readers_never_see_half_a_change() {
    let place = Place::new("torn");
    let (a, b) = (place.join("a"), place.join("b"));
    let writer = thread::spawn(move || {
        for round in 0..2000_u64 {
            register(&a, 1 + round % 200, 0).unwrap();
        }
    });
    let mut last = 0;
    while !writer.is_finished() {
        let (generation, _) = b.read().unwrap();
        assert!(generation >= last);
        last = generation;
    }
    writer.join().unwrap();
    assert_eq!(keys(&b), [200]);
}

#[test]
fn what_is_to_outlast_a_reboot_does() {
    let place = Place::new("aptpl");
    let a = place.join("a");
    register(&a, 5, 1).unwrap();
    drop(a);
    fs::remove_dir_all(&place.0.run).unwrap();
    let (a, b) = (place.join("a"), place.join("b"));
    assert_eq!(keys(&b), [5]);
    register(&b, 6, 0).unwrap();
    assert!(!place.0.saved.join("unit").exists(), "the last REGISTER was without APTPL");
    drop((a, b));
    fs::remove_dir_all(&place.0.run).unwrap();
    assert_eq!(keys(&place.join("b")), [0_u8; 0]);
}

#[test]
fn what_cannot_be_saved_is_not_done() {
    let place = Place::new("unsaved");
    let a = place.join("a");
    fs::write(&place.0.saved, "a file").unwrap();
    let error = register(&a, 5, 1).unwrap_err().to_string();
    assert!(error.contains("saved/unit: File exists"), "{error}");
    assert_eq!(keys(&a), [0_u8; 0]);
    register(&a, 5, 0).unwrap();
    assert_eq!(keys(&a), [5]);
}

#[test]
fn what_a_dead_server_had_by_reserve_is_free() {
    let place = Place::new("dead");
    let (a, b) = (place.join("a"), place.join("b"));
    a.change(soon(), |state| state.reserve(a.who())).unwrap().value.unwrap();
    assert!(b.change(soon(), |state| state.reserve(b.who())).unwrap().value.is_err());
    drop(a);
    b.change(soon(), |state| state.reserve(b.who())).unwrap().value.unwrap();
    let b = {
        drop(b);
        place.join("b")
    };
    assert_eq!(b.read().unwrap().1.reserved(), None, "its own next server begins anew");
}

#[test]
fn guests_that_have_gone_make_room() {
    let place = Place::new("room");
    let gone: Vec<_> =
        (0..crate::reservations::MEMBERS).map(|number| place.join(&number.to_string())).collect();
    let full = Shared::join(&place.0, "unit", Initiator::named("a")).unwrap_err();
    assert!(full.to_string().ends_with("has 64 guests already, or their registrations"), "{full}");
    drop(gone);
    place.join("a");
}

#[test]
fn files_that_hold_no_state_are_refused() {
    let place = Place::new("broken");
    drop(place.join("a"));
    let path = place.0.run.join("unit");
    let whole = fs::read(&path).unwrap();
    let generation = u64::from_le_bytes(whole[..8].try_into().unwrap());
    let state = usize::try_from(place_of(generation)).unwrap();
    for (at, byte) in [(state, 0xff), (state + 3, 0xff), (state + 4, b'['), (state + 6, b'x')] {
        let mut broken = whole.clone();
        broken[at] = byte;
        fs::write(&path, &broken).unwrap();
        let error = Shared::join(&place.0, "unit", Initiator::named("a")).unwrap_err().to_string();
        assert!(error.contains("unit holds no state of reservations"), "byte {at}: {error}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&place.0.saved).unwrap();
    fs::write(place.0.saved.join("unit"), "{}").unwrap();
    let error = Shared::join(&place.0, "unit", Initiator::named("a")).unwrap_err().to_string();
    assert!(error.contains("saved/unit holds no state"), "{error}");
    assert!(!path.exists() || fs::read(&path).unwrap().is_empty(), "and does not become one");
}
