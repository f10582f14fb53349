//! From the ring's words to SCSI's, and back.

use pvscsi_ring::{Answer, BackRing, Direction};
use pvscsi_sg::{DataDirection, HostStatus, Outcome, SamStatus};

use crate::pending::Pending;

pub(super) fn data_direction(direction: Direction) -> DataDirection {
    match direction {
        Direction::Bidirectional => DataDirection::Bidirectional,
        Direction::ToDevice => DataDirection::ToDevice,
        Direction::FromDevice => DataDirection::FromDevice,
        Direction::None => DataDirection::None,
    }
}

pub(super) fn push(ring: &mut BackRing, pending: Pending, outcome: &Outcome) {
    let outcome = Outcome { residual: outcome.residual.min(pending.total), ..*outcome };
    ring.push(pending.ticket, &to_answer(&outcome));
}

/// An outcome on the wire. A host byte is never alone: frontends that see 16 bits only would take it for success.
pub(super) fn to_answer(outcome: &Outcome) -> Answer<'_> {
    let known = matches!(outcome.host.0, 0..=15 | 20);
    let host = if known { outcome.host } else { HostStatus::ERROR };
    assert!(
        host == HostStatus::OK || outcome.status != SamStatus::GOOD,
        "a host error carries a status: {outcome:?}"
    );
    Answer::command(outcome.status.0, host.0, outcome.sense.as_bytes(), outcome.residual)
}
