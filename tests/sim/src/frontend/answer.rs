//! What a frontend accepts as an answer, and what it complains about.

use pvscsi_ring::vscsiif::WireResponse;

use super::{GuestBuffer, Rqid, Shadow};
use crate::Domain;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The request.
    pub rqid: Rqid,
    /// SCSI status in bits 0 to 7 and host byte in bits 16 to 23; of a task management request 0x2002 or 0x2003.
    pub rslt: i32,
    /// Bytes of the buffer that were not transferred.
    pub residual: u32,
    /// Sense data.
    pub sense: Vec<u8>,
    /// The buffer of the command.
    pub data: GuestBuffer,
}

impl Reply {
    /// Whether it is CHECK CONDITION with UNIT ATTENTION, REPORTED LUNS DATA HAS CHANGED (SPC-5, 4.4), in fixed format.
    #[must_use]
    pub fn tells_of_changed_luns(&self) -> bool {
        self.rslt == 0x02 && self.sense.get(2) == Some(&0x06) && self.sense.get(12..14) == Some(&[0x3f, 0x0e])
    }
}

/// What is wrong with an answer. Linux checks the first four; the next three follow from vscsiif.h, where unused bytes are
/// reserved, and from XSA-216: bytes that nobody set are the backend's memory. The last one is for Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    /// More answers on the ring than it has slots.
    #[error("{unread} unread responses on a ring of 16")]
    TooManyResponses {
        /// As many.
        unread: u32,
    },
    /// The guest never uses such a name.
    #[error("response to rqid {rqid}, which is above 15")]
    ForeignRqid {
        /// The name.
        rqid: u16,
    },
    /// There is no such request, or it was answered before.
    #[error("response to rqid {rqid}, which is not in flight")]
    NotInFlight {
        /// The name.
        rqid: Rqid,
    },
    /// The backend still uses a page of the request that it answers.
    #[error("rqid {rqid} was answered while its grant {gref} is still in use")]
    GrantStillInUse {
        /// The request.
        rqid: Rqid,
        /// The grant reference.
        gref: u32,
    },
    /// More sense data than the response has room for.
    #[error("rqid {rqid} was answered with sense_len {len}")]
    SenseTooLong {
        /// The request.
        rqid: Rqid,
        /// The value of `sense_len`.
        len: u8,
    },
    /// More bytes left over than there were.
    #[error("rqid {rqid} was answered with a residual of {residual} bytes")]
    ResidualTooLong {
        /// The request.
        rqid: Rqid,
        /// The value of `residual_len`.
        residual: u32,
    },
    /// A byte that means nothing is not zero.
    #[error("rqid {rqid} was answered with unused bytes that are not zero")]
    UnusedBytesSet {
        /// The request.
        rqid: Rqid,
    },
    /// The command failed, and nothing in the low 16 bits says so: Windows takes wrong data for right.
    #[error("silent corruption: rqid {rqid} failed with {rslt:#010x}, which is success in 16 bits")]
    SilentCorruption {
        /// The request.
        rqid: Rqid,
        /// The whole word.
        rslt: i32,
    },
}

/// Judges an answer, and ends its request: the grants are taken back and the buffer returns with the reply.
pub(super) fn accept(
    response: &WireResponse,
    shadows: &mut [Shadow],
    domain: &Domain,
) -> Result<Reply, Complaint> {
    let rqid = response.rqid;
    let shadow = shadows.get_mut(usize::from(rqid)).ok_or(Complaint::ForeignRqid { rqid })?;
    if !shadow.in_flight {
        return Err(Complaint::NotInFlight { rqid });
    }
    while let Some(&gref) = shadow.grefs.last() {
        domain.try_revoke(gref).map_err(|_| Complaint::GrantStillInUse { rqid, gref: gref.0 })?;
        shadow.grefs.pop();
    }
    let sense = well_formed(response, shadow.call.buffer.len())?.to_vec();
    shadow.in_flight = false;
    let data = std::mem::take(&mut shadow.call.buffer);
    Ok(Reply { rqid, rslt: response.rslt, residual: response.residual_len, sense, data })
}

/// Judges the fields of an answer to a request with so many bytes of memory; gives the sense data.
pub(super) fn well_formed(response: &WireResponse, buffer_len: usize) -> Result<&[u8], Complaint> {
    let rqid = response.rqid;
    let Some((sense, behind_sense)) = response.sense_buffer.split_at_checked(response.sense_len.into())
    else {
        return Err(Complaint::SenseTooLong { rqid, len: response.sense_len });
    };
    let residual = response.residual_len;
    if residual as usize > buffer_len {
        return Err(Complaint::ResidualTooLong { rqid, residual });
    }
    if response.act != 0 || behind_sense.iter().any(|&b| b != 0) || response.reserved.iter().any(|&w| w != 0)
    {
        return Err(Complaint::UnusedBytesSet { rqid });
    }
    Ok(sense)
}
