//! A guest without manners: it writes slots and indices by hand and looks at answers as bytes.

use std::sync::atomic::Ordering;
use std::time::Instant;

use pvscsi_guestmem::{HeapPage, SharedPage};
use pvscsi_ring::Nexus;
use pvscsi_ring::vscsiif::{
    DIRECTION_FROM_DEVICE, DIRECTION_NONE, REQ_PROD, RSP_PROD, VSCSIIF_ACT_SCSI_ABORT, VSCSIIF_ACT_SCSI_CDB,
    VSCSIIF_SG_GRANT, WireRequest, WireResponse, WireSegment, slot_offset,
};
use pvscsi_sim::{Access, Domain, PortControl, Way};
use pvscsi_xen::DomId;
use zerocopy::{FromZeros, IntoBytes};

use crate::vhost::{PATIENCE, Vhost, host, status};

const BACKEND: DomId = DomId(0);

pub struct RawGuest {
    pub page: SharedPage,
    pub domain: Domain,
    pub port: PortControl,
    pub req_prod: u32,
    pub rsp_cons: u32,
}

impl RawGuest {
    /// Takes over the ring of a vhost, whose frontend is of no use from then on.
    pub fn of(vhost: &mut Vhost) -> Self {
        vhost.taken_over = true;
        Self {
            page: vhost.frontend.ring_page().share(),
            domain: vhost.frontend.domain().clone(),
            port: vhost.frontend.port_control(),
            req_prod: 0,
            rsp_cons: 0,
        }
    }

    /// Fills the next slot.
    pub fn put(&mut self, request: &WireRequest) {
        self.page.copy_in(slot_offset(self.req_prod), request.as_bytes());
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Shows the backend this producer index, and rings.
    pub fn show(&self, req_prod: u32) {
        self.page.store_u32(REQ_PROD, req_prod, Ordering::Release);
        self.port.raise_spurious(Way::ToBackend);
    }

    /// Waits until all requests have their answers; does not take them.
    pub fn wait_all(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.page.load_u32(RSP_PROD, Ordering::Acquire) != self.req_prod {
            let answered = self.page.load_u32(RSP_PROD, Ordering::Acquire).wrapping_sub(self.rsp_cons);
            assert!(Instant::now() < deadline, "{answered} answers and no more");
            assert!(answered <= 16, "{answered} answers");
            std::thread::yield_now();
        }
    }

    /// Takes the answers to all requests.
    pub fn answers(&mut self) -> Vec<WireResponse> {
        self.wait_all();
        let mut answers = Vec::new();
        while self.rsp_cons != self.req_prod {
            answers.push(self.response(self.rsp_cons));
            self.rsp_cons = self.rsp_cons.wrapping_add(1);
        }
        answers
    }

    /// What the slot of `index` holds, as a response.
    pub fn response(&self, index: u32) -> WireResponse {
        let mut response = WireResponse::new_zeroed();
        self.page.copy_out(slot_offset(index), response.as_mut_bytes());
        response
    }

    /// Sends these at once and takes the answers, in the order of the requests; each `rqid` is replaced.
    pub fn ask(&mut self, requests: &[WireRequest]) -> Vec<WireResponse> {
        for (rqid, request) in (0..).zip(requests) {
            self.put(&WireRequest { rqid, ..*request });
        }
        self.show(self.req_prod);
        let mut answers = self.answers();
        answers.sort_by_key(|answer| answer.rqid);
        assert!(answers.iter().map(|answer| answer.rqid).eq(0..requests.len() as u16), "each answered once");
        answers
    }

    /// A segment in a page granted with this access.
    pub fn segment(&self, page: &HeapPage, access: Access, offset: u16, length: u16) -> WireSegment {
        WireSegment { gref: self.domain.grant(page, BACKEND, access).0, offset, length }
    }
}

/// TEST UNIT READY.
pub fn nothing(to: Nexus) -> WireRequest {
    let mut request = WireRequest::new_zeroed();
    let Nexus { channel, id, lun } = to;
    (request.channel, request.id, request.lun) = (channel, id, lun);
    request.act = VSCSIIF_ACT_SCSI_CDB;
    request.cmd_len = 6;
    request.sc_data_direction = DIRECTION_NONE;
    request
}

/// INQUIRY of 36 bytes.
pub fn inquiry(to: Nexus, segments: &[WireSegment]) -> WireRequest {
    let mut request = nothing(to);
    request.cmnd[0] = 0x12;
    request.cmnd[4] = 36;
    request.sc_data_direction = DIRECTION_FROM_DEVICE;
    with_segments(request, segments)
}

/// WRITE (10) of this many blocks to block 0.
pub fn write(to: Nexus, blocks: u8, segments: &[WireSegment]) -> WireRequest {
    let mut request = nothing(to);
    request.cmd_len = 10;
    request.cmnd[0] = 0x2a;
    request.cmnd[8] = blocks;
    request.sc_data_direction = pvscsi_ring::vscsiif::DIRECTION_TO_DEVICE;
    with_segments(request, segments)
}

pub fn abort(to: Nexus, ref_rqid: u16) -> WireRequest {
    WireRequest { act: VSCSIIF_ACT_SCSI_ABORT, ref_rqid, ..nothing(to) }
}

pub fn with_segments(mut request: WireRequest, segments: &[WireSegment]) -> WireRequest {
    request.nr_segments = u8::try_from(segments.len()).unwrap();
    request.seg[..segments.len()].copy_from_slice(segments);
    request
}

/// Marks the segments as areas of an indirect list.
pub fn indirect(mut request: WireRequest) -> WireRequest {
    request.nr_segments |= VSCSIIF_SG_GRANT;
    request
}

/// Asserts that the answer is a host error that no frontend takes for success.
#[track_caller]
pub fn assert_refused(answer: &WireResponse, what: &str) {
    assert_eq!(host(answer.rslt), 7, "{what}: {:#010x}", answer.rslt);
    assert_ne!(status(answer.rslt), 0, "{what}: success in the low 16 bits");
    assert!(answer.sense_len >= 8, "{what}: sense data");
}
