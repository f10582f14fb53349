//! Lists of actions: the nth of a seed is always the same.

use std::mem::offset_of;

use pvscsi_ring::vscsiif::{SLOT_SIZE, WireRequest};
use pvscsi_sim::hostile::{ACTION_BYTES, Action, Index, Memory, Put};

/// Actions in the longest list.
const LONGEST: u64 = 200;

/// The list of this number. Those with odd numbers leave the indices alone: the guest then knows which answers it has to get, and its
/// ring lasts.
pub fn list(seed: u64, number: u64) -> Vec<Action> {
    let mut random = seed ^ number.wrapping_mul(0xd134_2543_de82_ef95);
    let length = next(&mut random) % LONGEST;
    (0..length)
        .map(|_| {
            let bytes: [u8; ACTION_BYTES] = next(&mut random).to_le_bytes();
            Action::from_bytes(bytes)
        })
        .filter(spares_own_links)
        .filter(|action| number.is_multiple_of(2) || spares_indices(action))
        .collect()
}

/// SplitMix64.
fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*random ^ (*random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Grants 0 and 1 of a PV guest are the pages of its console and its xenstore, made by the toolstack for dom0. A list that lets the
/// backend write there cuts off this guest's own reports, and harms nobody else.
fn spares_own_links(action: &Action) -> bool {
    match *action {
        Action::Put(Put { memory, .. }) | Action::Entry { memory, .. } => {
            !matches!(memory, Memory::Number(0 | 1))
        }
        Action::Poke { at, value, .. } => {
            value > 1 || usize::from(at) % SLOT_SIZE < offset_of!(WireRequest, seg)
        }
        _ => true,
    }
}

fn spares_indices(action: &Action) -> bool {
    match *action {
        Action::Put(Put { memory, .. }) | Action::Entry { memory, .. } => memory != Memory::Ring,
        Action::Skip { .. } | Action::Jump { .. } | Action::Spoil { index: Index::RspProd, .. } => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_each_time_and_another_for_each_number() {
        assert_eq!(list(1, 7), list(1, 7));
        assert_ne!(list(1, 7), list(1, 8));
        assert_ne!(list(1, 7), list(2, 7));
    }

    #[test]
    fn only_even_lists_jump() {
        let jumps = |first: u64| {
            let lists = (first..200).step_by(2).flat_map(|number| list(1, number));
            lists.filter(|action| matches!(action, Action::Jump { .. } | Action::Skip { .. })).count()
        };
        assert!(jumps(0) > 100);
        assert_eq!(jumps(1), 0);
    }

    /// What the lab is to prove on the real hypervisor is among the first lists.
    #[test]
    fn bad_grants_are_in_the_lists_and_own_links_are_not() {
        let actions: Vec<Action> = (0..100).flat_map(|number| list(1, number)).collect();
        let put = |wanted: fn(&Memory) -> bool| {
            actions.iter().filter(|action| matches!(action, Action::Put(put) if wanted(&put.memory))).count()
        };
        assert!(put(|memory| *memory == Memory::ReadOnly) > 100);
        assert!(put(|memory| *memory == Memory::Foreign) > 100);
        assert!(put(|memory| matches!(memory, Memory::Number(2..))) > 10);
        assert_eq!(put(|memory| matches!(memory, Memory::Number(..2))), 0);
        assert!(actions.iter().filter(|action| matches!(action, Action::Revoke(_))).count() > 100);
    }
}
