//! The parameter lists of PERSISTENT RESERVE OUT.

use super::initiator::TRANSPORT_ID;
use super::{Initiator, MEMBERS};
use crate::scsi::Sense;

/// The basic parameter list (SPC-4, table 211).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Basic {
    /// RESERVATION KEY: what the sender has registered.
    pub(super) key: u64,
    /// SERVICE ACTION RESERVATION KEY: what the action is about.
    pub(super) action_key: u64,
    pub(super) aptpl: bool,
    /// With SPEC_I_PT: others to be registered as well.
    pub(super) others: Option<Vec<Initiator>>,
}

/// The parameter list of REGISTER AND MOVE (SPC-4, table 213).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) key: u64,
    pub(super) action_key: u64,
    pub(super) unregister: bool,
    pub(super) aptpl: bool,
    pub(super) to: Initiator,
}

const SPEC_I_PT: u8 = 0x08;
const APTPL: u8 = 0x01;
const UNREG: u8 = 0x02;

fn key(list: &[u8], at: usize) -> u64 {
    list.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |key| u64::from_be_bytes(*key))
}

/// The list as long as the CDB says: PARAMETER LIST LENGTH, bytes 5 to 8.
pub(super) fn announced<'a>(cdb: &[u8; 16], data: &'a [u8]) -> Result<&'a [u8], Sense> {
    let len = usize::try_from(u32::from_be_bytes([cdb[5], cdb[6], cdb[7], cdb[8]])).unwrap_or(usize::MAX);
    data.get(..len).filter(|list| list.len() >= TRANSPORT_ID).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)
}

/// ALL_TG_PT needs nothing: a vhost has one port. Without SPEC_I_PT the list has 24 bytes (SPC-4, 6.16.1).
pub(super) fn basic(list: &[u8]) -> Result<Basic, Sense> {
    let flags = list.get(20).copied().unwrap_or(0);
    let others = match list.get(24..) {
        Some(more) if flags & SPEC_I_PT != 0 => Some(transport_ids(more)?),
        Some([]) => None,
        _ => return Err(Sense::PARAMETER_LIST_LENGTH_ERROR),
    };
    Ok(Basic { key: key(list, 0), action_key: key(list, 8), aptpl: flags & APTPL != 0, others })
}

/// TRANSPORTID PARAMETER DATA LENGTH, and as many bytes.
fn transport_ids(more: &[u8]) -> Result<Vec<Initiator>, Sense> {
    let Some((length, ids)) = more.split_first_chunk() else {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    };
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(ids.len()) {
        return Err(Sense::INVALID_FIELD_IN_LIST);
    }
    let (ids, rest) = ids.as_chunks::<TRANSPORT_ID>();
    if !rest.is_empty() || ids.len() > MEMBERS {
        return Err(Sense::INVALID_FIELD_IN_LIST);
    }
    ids.iter().map(|id| Initiator::from_transport_id(id).ok_or(Sense::INVALID_FIELD_IN_LIST)).collect()
}

/// RELATIVE TARGET PORT IDENTIFIER: ours is 1.
pub(super) fn register_and_move(list: &[u8]) -> Result<Move, Sense> {
    let (head, id) = match list.split_first_chunk::<24>() {
        Some((head, id)) => (head, id.first_chunk::<TRANSPORT_ID>()),
        None => return Err(Sense::PARAMETER_LIST_LENGTH_ERROR),
    };
    let announced = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
    let (Some(id), true) = (id, usize::try_from(announced) == Ok(list.len().saturating_sub(24))) else {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    };
    if [head[18], head[19]] != [0, 1] || list.len() > 24 + TRANSPORT_ID {
        return Err(Sense::INVALID_FIELD_IN_LIST);
    }
    let to = Initiator::from_transport_id(id).ok_or(Sense::INVALID_FIELD_IN_LIST)?;
    let flags = head[17];
    Ok(Move {
        key: key(list, 0),
        action_key: key(list, 8),
        unregister: flags & UNREG != 0,
        aptpl: flags & APTPL != 0,
        to,
    })
}
