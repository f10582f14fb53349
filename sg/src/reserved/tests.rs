use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use pvscsi_guestmem::BufferPool;

use super::*;
use crate::ReactorKind;
use crate::filtered::fake::Fake;
use crate::shared::tests::Place;

const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const READY: [u8; 6] = [0; 6];

/// A guest with its end of the unit.
struct Guest {
    unit: Reserved,
    reactor: Reactor,
    tag: u32,
    timeout: Duration,
    /// Commands that the device saw.
    seen: Arc<AtomicU32>,
}

impl Guest {
    fn new(place: &Place, name: &str) -> Self {
        Self::answered(place, name, |command| Outcome::good(buffer_len(command.buffer.as_ref())))
    }

    /// With a device that answers so.
    fn answered(place: &Place, name: &str, answer: impl Fn(&Command) -> Outcome + Send + 'static) -> Self {
        let seen = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&seen);
        let device = Fake {
            device_type: 0,
            answer: move |command: &mut Command| {
                counter.fetch_add(1, Ordering::Relaxed);
                answer(command)
            },
        };
        let mut guest = Self::with(place, name, Box::new(device));
        guest.seen = seen;
        guest
    }

    fn with(place: &Place, name: &str, unit: Box<dyn LogicalUnit>) -> Self {
        let mut unit = Reserved::new(unit, place.join(name)).unwrap();
        unit.attach(7);
        let reactor = Reactor::new(ReactorKind::Auto).unwrap();
        Self { unit, reactor, tag: 0, timeout: Duration::from_secs(20), seen: Arc::default() }
    }

    /// Sends a command; what is finished at once is in `done`.
    fn send(&mut self, cdb: &[u8], data: &[u8], done: &mut Vec<Completion>) {
        self.tag += 1;
        let mut buffer = BufferPool::new(1).unwrap().take(0, data.len().max(96)).unwrap();
        let out = matches!(cdb[0], 0x2a | 0x5f | 0x15);
        if out {
            buffer = BufferPool::new(1).unwrap().take(0, data.len().max(1)).unwrap();
            buffer.as_mut_slice()[..data.len()].copy_from_slice(data);
        }
        let direction = if out { DataDirection::ToDevice } else { DataDirection::FromDevice };
        let (cdb, timeout) = (Cdb::from_bytes(cdb), self.timeout);
        let command = Command { tag: Tag(self.tag), cdb, direction, buffer: Some(buffer), timeout };
        self.unit.submit(command, done);
        self.unit.flush(&mut self.reactor);
    }

    /// Waits until so many are finished, or for a moment.
    fn wait(&mut self, count: usize, patience: Duration, done: &mut Vec<Completion>) {
        let mut events = Vec::new();
        let deadline = after(patience);
        while done.len() < count && Instant::now() < deadline {
            self.reactor.wait(Some(Duration::from_millis(5)), &mut events).unwrap();
            for event in events.drain(..) {
                self.unit.on_event(event, &mut self.reactor, done);
            }
        }
    }

    fn ask(&mut self, cdb: &[u8], data: &[u8]) -> Completion {
        let mut done = Vec::new();
        self.send(cdb, data, &mut done);
        self.wait(1, Duration::from_secs(10), &mut done);
        assert_eq!(done.len(), 1);
        done.remove(0)
    }

    fn status(&mut self, cdb: &[u8]) -> SamStatus {
        self.ask(cdb, &[0; 24]).outcome.status
    }

    /// PERSISTENT RESERVE OUT.
    fn out(&mut self, action: u8, kind: u8, key: u64, action_key: u64) -> SamStatus {
        let list = [key.to_be_bytes(), action_key.to_be_bytes(), [0; 8]].concat();
        self.ask(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list).outcome.status
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.reactor.cancel(7);
    }
}

const GOOD: SamStatus = SamStatus::GOOD;
const CONFLICT: SamStatus = SamStatus::RESERVATION_CONFLICT;

#[test]
fn a_preempted_guest_is_told_once_and_writes_no_more() {
    let place = Place::new("fence");
    let (mut a, mut b) = (Guest::new(&place, "a"), Guest::new(&place, "b"));
    assert_eq!((a.out(0, 0, 0, 1), b.out(0, 0, 0, 2)), (GOOD, GOOD));
    assert_eq!(a.out(1, 5, 1, 0), GOOD);
    assert_eq!((a.status(&WRITE), b.status(&WRITE)), (GOOD, GOOD));
    assert_eq!(b.out(5, 5, 2, 1), GOOD);
    let told = a.ask(&WRITE, &[0; 24]).outcome;
    assert_eq!((told.status, told.sense.key_asc_ascq()), (SamStatus::CHECK_CONDITION, Some((6, 0x2a, 5))));
    assert_eq!((a.status(&WRITE), a.status(&READ), a.status(&READY)), (CONFLICT, GOOD, GOOD));
    assert_eq!((b.status(&WRITE), a.seen.load(Ordering::Relaxed)), (GOOD, 3));
    let keys = b.ask(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 96, 0], &[]);
    assert_eq!(keys.outcome, Outcome::good(96 - 16));
    assert_eq!(keys.buffer.unwrap().as_slice()[..16], [0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2]);
}

/// A unit that finishes its commands when it is told to.
fn slow_unit() -> (Box<dyn LogicalUnit>, Sender<()>) {
    let (go, going) = bounded::<()>(16);
    let unit = Threaded::start("slow", 0, 0, move |command| {
        going.recv().unwrap();
        Completion { tag: command.tag, outcome: Outcome::good(0), buffer: command.buffer }
    });
    (Box::new(unit.unwrap()), go)
}

#[test]
fn a_preempt_is_answered_when_the_victims_last_write_is_over() {
    let place = Place::new("wait");
    let (unit, go) = slow_unit();
    let (mut a, mut b) = (Guest::with(&place, "a", unit), Guest::new(&place, "b"));
    assert_eq!((a.out(0, 0, 0, 1), b.out(0, 0, 0, 2)), (GOOD, GOOD));
    let (mut writes, mut preempted) = (Vec::new(), Vec::new());
    a.send(&WRITE, &[0; 24], &mut writes);
    let list = [2_u64.to_be_bytes(), 1_u64.to_be_bytes(), [0; 8]].concat();
    b.send(&[0x5f, 4, 1, 0, 0, 0, 0, 0, 24, 0], &list, &mut preempted);
    b.wait(1, Duration::from_millis(100), &mut preempted);
    assert!(preempted.is_empty(), "the write is under way");
    a.send(&WRITE, &[0; 24], &mut writes);
    a.wait(1, Duration::from_secs(10), &mut writes);
    let told = writes.remove(0).outcome.sense.key_asc_ascq();
    assert_eq!(told, Some((6, 0x2a, 5)), "what comes now is looked at by the new rules");
    go.send(()).unwrap();
    a.wait(1, Duration::from_secs(10), &mut writes);
    assert_eq!(writes.remove(0).outcome.status, GOOD);
    b.wait(1, Duration::from_secs(10), &mut preempted);
    assert_eq!(preempted.remove(0).outcome.status, GOOD);
}

#[test]
fn a_preempt_of_a_guest_that_hangs_times_out() {
    let place = Place::new("hang");
    let (unit, go) = slow_unit();
    let (mut a, mut b) = (Guest::with(&place, "a", unit), Guest::new(&place, "b"));
    assert_eq!((a.out(0, 0, 0, 1), b.out(0, 0, 0, 2)), (GOOD, GOOD));
    a.send(&WRITE, &[0; 24], &mut Vec::new());
    b.timeout = Duration::from_millis(50);
    let answer = b.ask(
        &[0x5f, 4, 1, 0, 0, 0, 0, 0, 24, 0],
        &[2_u64.to_be_bytes(), 1_u64.to_be_bytes(), [0; 8]].concat(),
    );
    assert_eq!(answer.outcome.host, HostStatus::TIME_OUT);
    go.send(()).unwrap();
    a.wait(1, Duration::from_secs(10), &mut Vec::new());
}

#[test]
fn reserve_shuts_others_out_until_release_reset_or_departure() {
    let place = Place::new("reserve");
    let (mut a, mut b) = (Guest::new(&place, "a"), Guest::new(&place, "b"));
    let (reserve, release) = ([0x16, 0, 0, 0, 0, 0], [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((a.status(&reserve), b.status(&reserve)), (GOOD, CONFLICT));
    assert_eq!((b.status(&READ), b.status(&[0x12, 0, 0, 0, 36, 0])), (CONFLICT, GOOD));
    assert_eq!((a.status(&release), b.status(&READ)), (GOOD, GOOD));
    assert_eq!(a.status(&reserve), GOOD);
    b.unit.resetter().unwrap()().unwrap();
    assert_eq!(b.status(&READ), GOOD);
    assert_eq!((a.status(&reserve), b.status(&READ)), (GOOD, CONFLICT));
    drop(a);
    assert_eq!(b.status(&READ), GOOD);
    let third_party = b.ask(&[0x16, 0x12, 0, 0, 0, 0], &[]).outcome.sense;
    assert_eq!(third_party.key_asc_ascq(), Some((5, 0x24, 0)));
}

#[test]
fn a_mode_select_is_told_to_the_others_before_its_answer() {
    let place = Place::new("mode");
    let (mut a, mut b) = (Guest::new(&place, "a"), Guest::new(&place, "b"));
    let answer = a.ask(&[0x15, 0x10, 0, 0, 24, 0], &[0; 24]);
    assert_eq!((answer.outcome, answer.buffer.map(|buffer| buffer.len())), (Outcome::good(24), Some(24)));
    assert_eq!(b.ask(&READ, &[]).outcome.sense.key_asc_ascq(), Some((6, 0x2a, 1)));
    assert_eq!((b.status(&READ), a.status(&READ)), (GOOD, GOOD));
}

#[test]
fn what_cannot_be_read_lets_nothing_through() {
    let place = Place::new("gone");
    let mut a = Guest::new(&place, "a");
    assert_eq!(a.status(&READ), GOOD);
    let path = place.0.run.join("unit");
    let len = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(a.ask(&READ, &[]).outcome.sense.key_asc_ascq(), Some((4, 0x44, 0)));
    assert_eq!(a.seen.load(Ordering::Relaxed), 1);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
}

#[test]
fn what_the_device_tells_one_guest_all_are_told() {
    let place = Place::new("told");
    let fresh = std::sync::atomic::AtomicBool::new(true);
    let mut a = Guest::answered(&place, "a", move |_| match fresh.swap(false, Ordering::Relaxed) {
        true => Outcome::check_condition(Sense::fixed(0x06, 0x28, 0x00), 0),
        false => Outcome::good(0),
    });
    let mut b = Guest::new(&place, "b");
    let medium_changed = Some((0x06, 0x28, 0x00));
    assert_eq!(a.ask(&READY, &[]).outcome.sense.key_asc_ascq(), medium_changed);
    assert_eq!(b.ask(&READY, &[]).outcome.sense.key_asc_ascq(), medium_changed);
    assert_eq!((a.status(&READY), b.status(&READY)), (GOOD, GOOD));
    assert_eq!((a.seen.load(Ordering::Relaxed), b.seen.load(Ordering::Relaxed)), (2, 1));
}

#[test]
fn the_device_is_told_to_let_go_of_its_medium_by_the_last_who_holds_it() {
    let place = Place::new("medium");
    let (mut a, mut b) = (Guest::new(&place, "a"), Guest::new(&place, "b"));
    let (prevent, allow) = ([0x1e, 0, 0, 0, 1, 0], [0x1e, 0, 0, 0, 0, 0]);
    let seen = |guest: &Guest| guest.seen.load(Ordering::Relaxed);
    for guest in [&mut a, &mut b] {
        assert_eq!(guest.status(&prevent), GOOD);
    }
    assert_eq!((a.status(&allow), seen(&a)), (GOOD, 1), "b holds it");
    assert_eq!((b.status(&allow), seen(&b)), (GOOD, 2), "nobody holds it");
    assert_eq!((a.status(&allow), seen(&a)), (GOOD, 2));
}
