//! What goes back to the guest.

use zerocopy::FromZeros;

use crate::vscsiif::{WireResponse, XEN_VSCSIIF_RSLT_RESET_FAILED, XEN_VSCSIIF_RSLT_RESET_SUCCESS};

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    rslt: i32,
    sense: &'a [u8],
    residual: u32,
}

impl<'a> Answer<'a> {
    /// The answer for a LUN that is not there: exactly 0x00010000, as every backend has always sent it.
    pub const NO_CONNECT: Answer<'static> = Answer { rslt: 0x0001_0000, sense: &[], residual: 0 };

    /// A request for task management worked.
    pub const TASK_DONE: Answer<'static> =
        Answer { rslt: XEN_VSCSIIF_RSLT_RESET_SUCCESS, sense: &[], residual: 0 };

    /// A request for task management failed.
    pub const TASK_FAILED: Answer<'static> =
        Answer { rslt: XEN_VSCSIIF_RSLT_RESET_FAILED, sense: &[], residual: 0 };

    /// The answer to a command: SCSI status byte, host byte (vscsiif.h, `XEN_VSCSIIF_RSLT_HOST_*`), sense data (bytes
    /// beyond 96 are not sent), and the bytes of the buffer that were not transferred.
    #[must_use]
    pub fn command(status: u8, host: u8, sense: &'a [u8], residual: u32) -> Self {
        Self { rslt: i32::from(status) | (i32::from(host) << 16), sense, residual }
    }

    pub(crate) fn to_wire(self, rqid: u16) -> WireResponse {
        // All of the 252 bytes are written, so nothing of ours leaks (XSA-216).
        let mut wire = WireResponse::new_zeroed();
        wire.rqid = rqid;
        for (to, from) in wire.sense_buffer.iter_mut().zip(self.sense) {
            *to = *from;
        }
        wire.sense_len = u8::try_from(self.sense.len().min(wire.sense_buffer.len())).unwrap_or(0);
        wire.rslt = self.rslt;
        wire.residual_len = self.residual;
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn an_answer_lies_where_vscsiif_h_says() {
        let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0];
        let wire = Answer::command(2, 7, &sense, 0x0102_0304).to_wire(0xabcd);
        let bytes = wire.as_bytes();
        assert_eq!(&bytes[..4], &[0xcd, 0xab, 0, 18]);
        assert_eq!(&bytes[4..22], &sense);
        assert_eq!(&bytes[100..104], &[2, 0, 7, 0]);
        assert_eq!(&bytes[104..108], &[4, 3, 2, 1]);
        assert!(bytes[22..100].iter().chain(&bytes[108..]).all(|&b| b == 0), "unused bytes are zero");
    }

    #[test]
    fn no_connect_is_the_word_everybody_sends() {
        assert_eq!(Answer::NO_CONNECT.to_wire(0).rslt, 0x0001_0000);
    }

    #[test]
    fn sense_is_cut_at_96_bytes() {
        let wire = Answer::command(2, 0, &[0x70; 200], 0).to_wire(0);
        assert_eq!(wire.sense_len, 96);
    }
}
