//! What may be expected of the answers, which is the less the more the guest has spoilt.

use pvscsi_ring::vscsiif::{
    VSCSIIF_ACT_SCSI_ABORT, VSCSIIF_ACT_SCSI_RESET, WireRequest, WireResponse, XEN_VSCSIIF_RSLT_RESET_FAILED,
    XEN_VSCSIIF_RSLT_RESET_SUCCESS,
};

/// The answer for a LUN that is not there.
const NO_CONNECT: i32 = 0x0001_0000;
/// No buffer is longer: 128 segments of a page.
const BUFFER_MAX: u32 = 512 * 1024;

/// Requests of one name that were shown, less their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    rqid: u16,
    commands: u32,
    managements: u32,
    /// Answers that either kind may have got: no such LUN.
    no_connects: u32,
}

/// How far the guest has kept to the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Slots hold what they held when they were shown: each request gets one good answer, in its name.
    Answers(Vec<Shown>),
    /// Slots were rewritten: there are as many answers as requests, and what they are is not known.
    Counts,
    /// Indices are not to be relied on: the backend may give up the ring, and only that.
    Life,
}

impl Default for Expected {
    fn default() -> Self {
        Self::Answers(Vec::new())
    }
}

impl Expected {
    pub(super) fn show(&mut self, request: &WireRequest) {
        let Self::Answers(shown) = self else { return };
        let rqid = request.rqid;
        let place = shown.iter().position(|shown| shown.rqid == rqid).unwrap_or(shown.len());
        if place == shown.len() {
            shown.push(Shown { rqid, ..Shown::default() });
        }
        match request.act {
            VSCSIIF_ACT_SCSI_ABORT | VSCSIIF_ACT_SCSI_RESET => shown[place].managements += 1,
            _ => shown[place].commands += 1,
        }
    }

    /// A slot that was shown has changed.
    pub(super) fn slots_changed(&mut self) {
        if matches!(self, Self::Answers(_)) {
            *self = Self::Counts;
        }
    }

    /// An index has changed that the guest's own accounts depend on.
    pub(super) fn indices_changed(&mut self) {
        *self = Self::Life;
    }

    pub(super) fn indices_are_right(&self) -> bool {
        *self != Self::Life
    }

    /// Judges an answer.
    ///
    /// # Panics
    ///
    /// When there is something wrong with it.
    pub(super) fn accept(&mut self, answer: &WireResponse) {
        let Self::Answers(shown) = self else { return };
        let place =
            shown.iter().position(|shown| shown.rqid == answer.rqid && shown.pay(answer.rslt).is_some());
        let Some(place) = place else {
            panic!("{:#x} for request {}; in flight: {shown:?}", answer.rslt, answer.rqid)
        };
        match shown[place].pay(answer.rslt) {
            Some(left) if left.commands + left.managements > left.no_connects => shown[place] = left,
            _ => drop(shown.swap_remove(place)),
        }
        let behind_sense = answer.sense_buffer.get(answer.sense_len.into()..).expect("sense of 96 bytes");
        assert!(behind_sense.iter().all(|byte| *byte == 0), "bytes behind the sense data");
        assert!(answer.act == 0 && answer.reserved == [0; 36], "unused bytes are zero");
        assert!(answer.residual_len <= BUFFER_MAX, "{} bytes left over", answer.residual_len);
    }

    /// # Panics
    ///
    /// When there is a request without an answer.
    pub(super) fn assert_all_answered(&self) {
        if let Self::Answers(shown) = self {
            assert_eq!(*shown, [], "requests without an answer, and as many answers as requests");
        }
    }
}

impl Shown {
    /// What is left after such an answer, if there may be one. Task management has words of its own; a host error carries a
    /// status, except for a LUN that is not there.
    fn pay(mut self, rslt: i32) -> Option<Self> {
        let [status, unused, host, unused_too] = rslt.to_le_bytes();
        match rslt {
            NO_CONNECT => self.no_connects += 1,
            XEN_VSCSIIF_RSLT_RESET_SUCCESS | XEN_VSCSIIF_RSLT_RESET_FAILED => {
                self.managements = self.managements.checked_sub(1)?;
            }
            _ if [unused, unused_too] != [0, 0] || !matches!(host, 0..=15 | 20) => return None,
            _ if host != 0 && status == 0 => return None,
            _ => self.commands = self.commands.checked_sub(1)?,
        }
        (self.no_connects <= self.commands + self.managements).then_some(self)
    }
}
