use super::out::Done;
use super::*;

const READ: [u8; 16] = cdb(0x28);
const WRITE: [u8; 16] = cdb(0x2a);
const READY: [u8; 16] = cdb(0x00);
const CONFLICT: Refusal = Refusal::Conflict;

const fn cdb(opcode: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb
}

fn sense(asc: u8, ascq: u8) -> Refusal {
    Refusal::Sense(Sense::fixed(0x05, asc, ascq))
}

/// Three guests that share a unit: a, b and c.
struct Guests {
    state: Reservations,
    all: [Initiator; 3],
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
/// Service actions.
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_ANYWAY: u8 = 6;
const MOVE: u8 = 7;

fn out_cdb(action: u8, kind: u8, len: usize) -> [u8; 16] {
    let mut cdb = cdb(0x5f);
    cdb[1] = action;
    cdb[2] = kind;
    cdb[5..9].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
    cdb
}

fn list(key: u64, action_key: u64, flags: u8) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

impl Guests {
    fn new() -> Self {
        let all = ["a", "b", "c"].map(Initiator::named);
        let mut state = Reservations::default();
        assert!(all.iter().all(|guest| state.arrives(*guest)));
        Self { state, all }
    }

    /// All three registered, with keys 10, 11 and 12.
    fn registered() -> Self {
        let mut guests = Self::new();
        for guest in [A, B, C] {
            assert_eq!(guests.out(guest, REGISTER, 0, 0, 10 + guest as u64), Ok(Done::Given));
        }
        guests
    }

    fn out(
        &mut self,
        guest: usize,
        action: u8,
        kind: u8,
        key: u64,
        action_key: u64,
    ) -> Result<Done, Refusal> {
        self.send(guest, action, kind, &list(key, action_key, 0))
    }

    fn send(&mut self, guest: usize, action: u8, kind: u8, list: &[u8]) -> Result<Done, Refusal> {
        let before = self.state.clone();
        let answer = self.state.out(self.all[guest], &out_cdb(action, kind, list.len()), list);
        if answer.is_err() {
            assert_eq!(self.state, before, "a refusal changes nothing");
        }
        answer
    }

    fn report(&self, action: u8) -> Vec<u8> {
        let mut cdb = cdb(0x5e);
        cdb[1] = action;
        self.state.report(self.all[A], &cdb).unwrap()
    }

    fn keys(&self) -> Vec<u64> {
        self.report(0)[8..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
    }

    fn generation(&self) -> u32 {
        u32::from_be_bytes(self.report(0)[..4].try_into().unwrap())
    }

    /// Key and type of the reservation.
    fn reservation(&self) -> Option<(u64, u8)> {
        let data = self.report(1);
        assert_eq!(data.len(), 8 + usize::from(data[7]));
        (data[7] != 0).then(|| (u64::from_be_bytes(data[8..16].try_into().unwrap()), data[21]))
    }

    fn conflicts(&self, guest: usize, cdb: &[u8; 16]) -> bool {
        self.state.conflicts(self.all[guest], CommandSet::Sbc, cdb, &[])
    }

    /// Which of TEST UNIT READY, READ and WRITE pass.
    fn passes(&self, guest: usize) -> [bool; 3] {
        [READY, READ, WRITE].map(|cdb| !self.conflicts(guest, &cdb))
    }

    fn told(&mut self, guest: usize) -> Vec<(u8, u8)> {
        let who = self.all[guest];
        let codes = |attention: Attention| {
            let (key, asc, ascq) = attention.sense().key_asc_ascq().unwrap();
            assert_eq!(key, 6);
            (asc, ascq)
        };
        std::iter::from_fn(|| self.state.tell(who)).map(codes).collect()
    }
}

const ALL: [bool; 3] = [true, true, true];
const READS: [bool; 3] = [true, true, false];
const ASKS: [bool; 3] = [true, false, false];

/// SPC-4, table 173: types, and who may do what under them.
#[test]
fn types_let_through_what_the_table_says() {
    for (kind, holder, registrant, stranger) in [
        (1, ALL, READS, READS),
        (3, ALL, ASKS, ASKS),
        (5, ALL, ALL, READS),
        (6, ALL, ALL, ASKS),
        (7, ALL, ALL, READS),
        (8, ALL, ALL, ASKS),
    ] {
        let mut guests = Guests::new();
        for guest in [A, B] {
            guests.out(guest, REGISTER, 0, 0, 7).unwrap();
        }
        assert_eq!(guests.out(A, RESERVE, kind, 7, 0), Ok(Done::Taken));
        assert_eq!(
            [A, B, C].map(|guest| guests.passes(guest)),
            [holder, registrant, stranger],
            "type {kind}"
        );
        let key = if kind > 6 { 0 } else { 7 };
        assert_eq!(guests.reservation(), Some((key, kind)));
    }
    for kind in [0, 2, 4, 9, 15, 0x11, 0x21] {
        assert_eq!(Guests::registered().out(A, RESERVE, kind, 10, 0), Err(sense(0x24, 0)), "type {kind:#x}");
    }
}

#[test]
fn a_registration_needs_the_key_that_is_there() {
    let mut guests = Guests::new();
    assert_eq!(guests.out(A, REGISTER, 0, 5, 6), Err(CONFLICT));
    assert_eq!(guests.out(A, REGISTER, 0, 0, 0), Ok(Done::Given));
    assert_eq!((guests.keys(), guests.generation()), (vec![], 0));
    guests.out(A, REGISTER, 0, 0, 6).unwrap();
    assert_eq!((guests.keys(), guests.generation()), (vec![6], 1));
    assert_eq!(guests.out(A, REGISTER, 0, 0, 7), Err(CONFLICT));
    guests.out(A, REGISTER, 0, 6, 7).unwrap();
    guests.out(A, REGISTER_ANYWAY, 0, 99, 8).unwrap();
    assert_eq!((guests.keys(), guests.generation()), (vec![8], 3));
    guests.out(A, REGISTER, 0, 8, 0).unwrap();
    assert_eq!((guests.keys(), guests.generation()), (vec![], 4));
}

#[test]
fn everything_but_registering_needs_a_registration() {
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
        let mut guests = Guests::new();
        assert_eq!(guests.out(A, action, 1, 0, 0), Err(CONFLICT), "action {action}");
        guests.out(A, REGISTER, 0, 0, 6).unwrap();
        assert_eq!(guests.out(A, action, 1, 5, 6), Err(CONFLICT), "action {action}");
    }
    assert_eq!(Guests::registered().out(A, 8, 1, 10, 0), Err(sense(0x24, 0)), "REPLACE LOST RESERVATION");
}

#[test]
fn one_reservation_at_a_time() {
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 1, 10, 0).unwrap();
    assert_eq!(guests.out(A, RESERVE, 1, 10, 0), Ok(Done::Given), "again");
    assert_eq!(guests.out(A, RESERVE, 3, 10, 0), Err(CONFLICT), "another type");
    assert_eq!(guests.out(B, RESERVE, 1, 11, 0), Err(CONFLICT));
    assert_eq!(guests.out(B, RELEASE, 1, 11, 0), Ok(Done::Given), "of nothing of its own");
    assert_eq!(guests.reservation(), Some((10, 1)));
    assert_eq!(guests.out(A, RELEASE, 3, 10, 0), Err(sense(0x26, 0x04)));
    guests.out(A, RELEASE, 1, 10, 0).unwrap();
    assert_eq!(guests.reservation(), None);
    assert_eq!(guests.told(B), [], "types 1 and 3 gave B nothing that it could lose");
    guests.out(A, RESERVE, 5, 10, 0).unwrap();
    guests.out(A, RELEASE, 5, 10, 0).unwrap();
    assert_eq!((guests.told(A), guests.told(B)), (vec![], vec![(0x2a, 0x04)]));
    assert_eq!(guests.told(B), [], "once");
}

#[test]
fn a_reservation_goes_with_its_holders_registration() {
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 6, 10, 0).unwrap();
    guests.out(B, REGISTER, 0, 11, 0).unwrap();
    assert_eq!(guests.reservation(), Some((10, 6)));
    guests.out(A, REGISTER, 0, 10, 0).unwrap();
    assert_eq!(guests.reservation(), None);
    assert_eq!((guests.told(B), guests.told(C)), (vec![], vec![(0x2a, 0x04)]));
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 8, 10, 0).unwrap();
    guests.out(A, REGISTER, 0, 10, 0).unwrap();
    guests.out(B, REGISTER, 0, 11, 0).unwrap();
    assert_eq!(guests.reservation(), Some((0, 8)), "all registrants: the last takes it along");
    guests.out(C, REGISTER, 0, 12, 0).unwrap();
    assert_eq!(guests.reservation(), None);
}

#[test]
fn clear_leaves_nothing() {
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 3, 10, 0).unwrap();
    guests.out(B, CLEAR, 0, 11, 0).unwrap();
    assert_eq!((guests.keys(), guests.reservation(), guests.generation()), (vec![], None, 4));
    assert_eq!([A, B, C].map(|guest| guests.told(guest)), [vec![(0x2a, 0x03)], vec![], vec![(0x2a, 0x03)]]);
}

#[test]
fn preempting_the_holder_takes_its_place() {
    for action in [PREEMPT, PREEMPT_AND_ABORT] {
        let mut guests = Guests::registered();
        guests.out(A, RESERVE, 1, 10, 0).unwrap();
        assert_eq!(guests.out(B, action, 1, 11, 10), Ok(Done::Taken));
        assert_eq!(
            (guests.keys(), guests.reservation(), guests.generation()),
            (vec![11, 12], Some((11, 1)), 4)
        );
        assert_eq!([A, B, C].map(|guest| guests.passes(guest)), [READS, ALL, READS]);
        assert_eq!([A, B, C].map(|guest| guests.told(guest)), [vec![(0x2a, 0x05)], vec![], vec![]]);
        assert_eq!(guests.out(A, RESERVE, 1, 10, 0), Err(CONFLICT), "A is no registrant any more");
    }
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 5, 10, 0).unwrap();
    guests.out(B, PREEMPT, 3, 11, 10).unwrap();
    assert_eq!(guests.reservation(), Some((11, 3)));
    assert_eq!(guests.told(C), [(0x2a, 0x04)], "another type");
}

#[test]
fn preempting_others_takes_their_registrations_only() {
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 5, 10, 0).unwrap();
    assert_eq!(guests.out(B, PREEMPT, 5, 11, 99), Err(CONFLICT), "nobody has this key");
    assert_eq!(guests.out(B, PREEMPT, 5, 11, 0), Err(sense(0x26, 0)));
    assert_eq!(guests.passes(C), ALL);
    guests.out(B, PREEMPT, 5, 11, 12).unwrap();
    assert_eq!((guests.keys(), guests.reservation()), (vec![10, 11], Some((10, 5))));
    assert_eq!((guests.passes(C), guests.told(C)), (READS, vec![(0x2a, 0x05)]));
    let mut guests = Guests::registered();
    guests.out(B, PREEMPT, 5, 11, 12).unwrap();
    assert_eq!(guests.reservation(), None, "there was none");
}

#[test]
fn preempting_all_registrants() {
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 7, 10, 0).unwrap();
    guests.out(B, PREEMPT, 1, 11, 12).unwrap();
    assert_eq!((guests.keys(), guests.reservation()), (vec![10, 11], Some((0, 7))), "one of them");
    guests.out(B, PREEMPT, 1, 11, 0).unwrap();
    assert_eq!((guests.keys(), guests.reservation()), (vec![11], Some((11, 1))), "all others");
    assert_eq!(guests.told(A), [(0x2a, 0x05)]);
}

#[test]
fn two_with_one_key_go_together_and_the_preemptor_stays() {
    let mut guests = Guests::new();
    for guest in [A, B, C] {
        guests.out(guest, REGISTER, 0, 0, 7).unwrap();
    }
    guests.out(A, RESERVE, 1, 7, 0).unwrap();
    guests.out(B, PREEMPT, 1, 7, 7).unwrap();
    assert_eq!((guests.keys(), guests.reservation()), (vec![7], Some((7, 1))));
    assert_eq!((guests.passes(A), guests.passes(B)), (READS, ALL));
}

#[test]
fn others_are_registered_with_spec_i_pt_all_or_none() {
    let with = |others: &[&str], key, action_key| {
        let mut list = list(key, action_key, 0x08);
        list.extend(u32::try_from(others.len() * 24).unwrap().to_be_bytes());
        others.iter().for_each(|name| list.extend(Initiator::named(name).transport_id()));
        list
    };
    let mut guests = Guests::new();
    guests.send(A, REGISTER, 0, &with(&["b", "elsewhere"], 0, 5)).unwrap();
    assert_eq!((guests.keys(), guests.generation()), (vec![5, 5, 5], 1));
    assert_eq!(guests.send(C, REGISTER, 0, &with(&["d", "b"], 0, 5)), Err(sense(0x26, 0)), "b is registered");
    assert_eq!(guests.send(A, REGISTER, 0, &with(&["d"], 5, 6)), Err(sense(0x26, 0)), "A is registered");
    assert_eq!(guests.send(C, REGISTER_ANYWAY, 0, &with(&["d"], 0, 5)), Err(sense(0x26, 0)));
    let mut short = with(&["d"], 0, 5);
    short.truncate(40);
    assert_eq!(guests.send(C, REGISTER, 0, &short), Err(sense(0x26, 0)));
    let mut other = with(&["d"], 0, 5);
    other[28] = 0x05;
    assert_eq!(guests.send(C, REGISTER, 0, &other), Err(sense(0x26, 0)), "an iSCSI name");
}

#[test]
fn lists_have_their_length() {
    let mut guests = Guests::new();
    for len in [0, 8, 23, 25, 32] {
        let mut long = list(0, 5, 0);
        long.resize(len, 0);
        assert_eq!(guests.send(A, REGISTER, 0, &long), Err(sense(0x1a, 0)), "{len} bytes");
    }
    let short = guests.state.out(guests.all[A], &out_cdb(REGISTER, 0, 24), &list(0, 5, 0)[..20]);
    assert_eq!(short, Err(sense(0x1a, 0)), "less data than announced");
}

#[test]
fn register_and_move() {
    let to = |name: &str, key, action_key, flags| {
        let mut list = list(key, action_key, 0);
        list[16..24].copy_from_slice(&[0, flags, 0, 1, 0, 0, 0, 24]);
        list.extend(Initiator::named(name).transport_id());
        list
    };
    let mut guests = Guests::registered();
    assert_eq!(guests.send(A, MOVE, 0, &to("b", 10, 20, 0)), Err(CONFLICT), "nothing to move");
    guests.out(A, RESERVE, 1, 10, 0).unwrap();
    assert_eq!(guests.send(B, MOVE, 0, &to("c", 11, 20, 0)), Err(CONFLICT), "not its holder");
    assert_eq!(guests.send(A, MOVE, 0, &to("a", 10, 20, 0)), Err(sense(0x26, 0)), "to itself");
    assert_eq!(guests.send(A, MOVE, 0, &to("b", 10, 0, 0)), Err(sense(0x26, 0)), "no key");
    assert_eq!(guests.send(A, MOVE, 0, &to("b", 10, 20, 0)[..47]), Err(sense(0x1a, 0)));
    guests.send(A, MOVE, 0, &to("b", 10, 20, 0)).unwrap();
    assert_eq!((guests.keys(), guests.reservation()), (vec![10, 20, 12], Some((20, 1))));
    guests.send(B, MOVE, 0, &to("elsewhere", 20, 21, 2)).unwrap();
    assert_eq!((guests.keys(), guests.reservation()), (vec![10, 12, 21], Some((21, 1))), "B has left");
    assert_eq!(guests.passes(B), READS);
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 7, 10, 0).unwrap();
    assert_eq!(guests.send(A, MOVE, 0, &to("b", 10, 20, 0)), Err(CONFLICT), "all have it");
}

/// SPC-4, 6.15.4 and 6.15.5.
#[test]
fn what_is_reported() {
    let mut guests = Guests::registered();
    assert_eq!(guests.report(2), [0, 8, 0x1d, 0x90, 0xea, 0x01, 0, 0]);
    guests.send(A, REGISTER, 0, &list(10, 10, 1)).unwrap();
    assert_eq!(guests.report(2)[3], 0x91, "PTPL_A");
    guests.out(B, RESERVE, 5, 11, 0).unwrap();
    let full = guests.report(3);
    assert_eq!(full.len(), 8 + 3 * 48);
    let [a, b, _] = [&full[8..56], &full[56..104], &full[104..]];
    assert_eq!((&a[..8], a[12], a[13]), (&10_u64.to_be_bytes()[..], 0, 0));
    assert_eq!((&b[..8], b[12], b[13]), (&11_u64.to_be_bytes()[..], 1, 5));
    assert_eq!(b[18..24], [0, 1, 0, 0, 0, 24]);
    assert_eq!(b[24..], Initiator::named("b").transport_id());
    let mut unknown = cdb(0x5e);
    unknown[1] = 4;
    assert_eq!(guests.state.report(guests.all[A], &unknown), Err(sense(0x24, 0)));
}

#[test]
fn what_outlasts_a_loss_of_power() {
    let mut guests = Guests::registered();
    guests.out(A, RESERVE, 1, 10, 0).unwrap();
    assert!(!guests.state.persists());
    assert_eq!(guests.state.clone().after_power_loss(), Reservations::default());
    guests.send(B, REGISTER, 0, &list(11, 13, 1)).unwrap();
    guests.out(C, REGISTER_ANYWAY, 0, 0, 0).unwrap();
    guests.send(B, REGISTER, 0, &list(13, 13, 1)).unwrap();
    assert!(guests.state.persists());
    guests.state = guests.state.clone().after_power_loss();
    assert_eq!((guests.keys(), guests.reservation(), guests.generation()), (vec![10, 13], Some((10, 1)), 0));
    assert_eq!([A, B, C].map(|guest| guests.passes(guest)), [ALL, READS, READS]);
}

#[test]
fn reserve_and_release() {
    let mut guests = Guests::new();
    let [a, b, _] = guests.all;
    assert_eq!(guests.state.reserve(a), Ok(()));
    assert_eq!((guests.state.reserve(a), guests.state.reserve(b)), (Ok(()), Err(CONFLICT)));
    assert_eq!(guests.passes(A), ALL);
    assert_eq!(guests.passes(B), [false; 3]);
    assert!(!guests.conflicts(B, &cdb(0x12)), "INQUIRY");
    assert_eq!(guests.out(B, REGISTER, 0, 0, 5), Err(CONFLICT));
    assert_eq!(guests.state.report(b, &cdb(0x5e)), Err(CONFLICT));
    assert_eq!(guests.state.release(b), Ok(()), "of nothing");
    assert_eq!(guests.passes(B), [false; 3]);
    guests.state.release(a).unwrap();
    assert_eq!(guests.passes(B), ALL);
    guests.state.reserve(a).unwrap();
    guests.state.leaves(a);
    assert_eq!(guests.passes(B), ALL, "its holder has gone");
    guests.state.reserve(b).unwrap();
    guests.state.reset();
    assert_eq!(guests.passes(A), ALL);
}

/// SPC-3, 5.6.3: what RESERVE and RELEASE are worth beside registrations.
#[test]
fn reserve_beside_registrations() {
    let mut guests = Guests::registered();
    let [a, b, c] = guests.all;
    assert_eq!((guests.state.reserve(a), guests.state.release(a)), (Err(CONFLICT), Err(CONFLICT)));
    guests.out(A, RESERVE, 1, 10, 0).unwrap();
    assert_eq!((guests.state.reserve(a), guests.state.reserve(b)), (Ok(()), Err(CONFLICT)));
    assert_eq!(guests.passes(A), ALL);
    guests.state.release(a).unwrap();
    assert_eq!(guests.reservation(), Some((10, 1)), "RELEASE ends nothing of it");
    guests.out(A, RELEASE, 1, 10, 0).unwrap();
    guests.out(A, RESERVE, 6, 10, 0).unwrap();
    assert_eq!((guests.state.reserve(c), guests.state.reserved()), (Ok(()), None));
}

#[test]
fn registrations_have_their_limit_and_outlast_their_guests() {
    let mut state = Reservations::default();
    let guest = |number: usize| Initiator::named(&number.to_string());
    assert!((0..MEMBERS).all(|number| state.arrives(guest(number))));
    assert!(!state.arrives(guest(MEMBERS)));
    assert!(state.arrives(guest(0)), "it has its place");
    let mut beyond = list(0, 5, 0x08);
    beyond.extend(24_u32.to_be_bytes());
    beyond.extend(guest(MEMBERS).transport_id());
    let cdb = out_cdb(REGISTER, 0, beyond.len());
    assert_eq!(state.out(guest(0), &cdb, &beyond), Err(sense(0x55, 0x04)));
    state.out(guest(0), &out_cdb(REGISTER, 0, 24), &list(0, 5, 0)).unwrap();
    (0..MEMBERS).for_each(|number| state.leaves(guest(number)));
    assert_eq!(state.guests().count(), 0);
    assert_eq!(state.key(guest(0)), 5);
    assert!(state.arrives(guest(MEMBERS)));
}

#[test]
fn what_a_unit_tells_one_is_told_to_the_others() {
    let mut guests = Guests::new();
    guests.state.pass_on(guests.all[A], Attention::MODE_CHANGED);
    assert_eq!([A, B, C].map(|guest| guests.told(guest)), [vec![], vec![(0x2a, 0x01)], vec![(0x2a, 0x01)]]);
    guests.state.pass_on(guests.all[A], Attention(0x28, 0x00));
    guests.state.arrives(guests.all[C]);
    assert_eq!((guests.told(B), guests.told(C)), (vec![(0x28, 0x00)], vec![]), "C has a new connection");
}

#[test]
fn a_medium_is_held_by_whoever_has_not_let_go() {
    let mut guests = Guests::new();
    let [a, b, c] = guests.all;
    let by = |guests: &Guests| [a, b, c].map(|guest| guests.state.prevented(guest));
    assert_eq!(by(&guests), [(false, false); 3]);
    guests.state.prevent(a, true);
    assert_eq!(by(&guests), [(true, false), (false, true), (false, true)]);
    guests.state.prevent(b, true);
    guests.state.prevent(a, false);
    assert_eq!(by(&guests), [(false, true), (true, false), (false, true)]);
    guests.out(B, REGISTER, 0, 0, 5).unwrap();
    guests.state.leaves(b);
    assert_eq!(by(&guests), [(false, false); 3], "a guest that goes lets go");
    guests.state.prevent(c, true);
    guests.state = guests.state.clone().after_power_loss();
    assert_eq!(by(&guests), [(false, false); 3]);
}
