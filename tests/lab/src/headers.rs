//! Our layouts and constants against the C headers that define them: a small C program says what the headers have.
//!
//! A row of a table is a C expression and our value. One that the headers do not know does not compile, which fails too.

use std::fs;
use std::mem::offset_of;
use std::process::Command;

use pvscsi_ring::vscsiif;
use pvscsi_sg::HostStatus;
use pvscsi_sg::sys::sg_io;
use pvscsi_xen::sys::{evtchn, gntalloc, gntdev, grant_copy};
use pvscsi_xen::xenstore::wire;

use crate::report::Tally;
use crate::tools::{self, Need, Outcome, at};

/// What one C program compares.
struct Table {
    /// Name of the check.
    name: &'static str,
    /// The start of the C program.
    prelude: &'static str,
    /// C expression, our value.
    rows: Vec<(&'static str, i128)>,
}

/// `"C expression" => our value`, one a line.
macro_rules! rows {
    ($($c:literal => $rust:expr,)*) => { vec![$(($c, i128::try_from($rust).unwrap_or(i128::MAX))),*] };
}

/// xen.h has the types of the others; the ring's types need memory barriers only where they are used.
const XEN: &str = "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n#include <xen/xen.h>\n";

fn tables() -> Vec<Table> {
    vec![
        Table {
            name: "vscsiif",
            prelude: "#include <xen/io/ring.h>\n#include <xen/io/vscsiif.h>\n",
            rows: vscsiif_rows(),
        },
        Table {
            name: "results",
            prelude: "#include <xen/io/ring.h>\n#include <xen/io/vscsiif.h>\n",
            rows: result_rows(),
        },
        Table {
            name: "ring",
            prelude: "#include <xen/io/ring.h>\n#include <xen/io/vscsiif.h>\n",
            rows: ring_rows(),
        },
        Table {
            name: "grant-copy",
            prelude: "#include <xen/grant_table.h>\n#include <xen/sys/gntdev.h>\n",
            rows: grant_copy_rows(),
        },
        Table {
            name: "gntdev",
            prelude: "#include <sys/ioctl.h>\n#include <xen/sys/gntdev.h>\n",
            rows: gntdev_rows(),
        },
        Table {
            name: "gntalloc",
            prelude: "#include <sys/ioctl.h>\n#include <xen/sys/gntalloc.h>\n",
            rows: gntalloc_rows(),
        },
        Table {
            name: "evtchn",
            prelude: "#include <sys/ioctl.h>\n#include <xen/sys/evtchn.h>\n",
            rows: evtchn_rows(),
        },
        Table {
            name: "xenstore",
            prelude: "#include <errno.h>\n#include <xen/io/xs_wire.h>\n",
            rows: xenstore_rows(),
        },
        Table { name: "sg", prelude: "#include <scsi/sg.h>\n#include <linux/bsg.h>\n", rows: sg_rows() },
    ]
}

fn vscsiif_rows() -> Vec<(&'static str, i128)> {
    use vscsiif::{WireRequest, WireResponse, WireSegment};
    rows![
        "VSCSIIF_ACT_SCSI_CDB" => vscsiif::VSCSIIF_ACT_SCSI_CDB,
        "VSCSIIF_ACT_SCSI_ABORT" => vscsiif::VSCSIIF_ACT_SCSI_ABORT,
        "VSCSIIF_ACT_SCSI_RESET" => vscsiif::VSCSIIF_ACT_SCSI_RESET,
        "VSCSIIF_ACT_SCSI_SG_PRESET" => vscsiif::VSCSIIF_ACT_SCSI_SG_PRESET,
        "VSCSIIF_SG_TABLESIZE" => vscsiif::VSCSIIF_SG_TABLESIZE,
        "VSCSIIF_MAX_COMMAND_SIZE" => vscsiif::VSCSIIF_MAX_COMMAND_SIZE,
        "VSCSIIF_SENSE_BUFFERSIZE" => vscsiif::VSCSIIF_SENSE_BUFFERSIZE,
        "VSCSIIF_PAGE_SIZE" => vscsiif::VSCSIIF_PAGE_SIZE,
        "VSCSIIF_SG_GRANT" => vscsiif::VSCSIIF_SG_GRANT,
        "sizeof(struct scsiif_request_segment)" => size_of::<WireSegment>(),
        "offsetof(struct scsiif_request_segment, gref)" => offset_of!(WireSegment, gref),
        "offsetof(struct scsiif_request_segment, offset)" => offset_of!(WireSegment, offset),
        "offsetof(struct scsiif_request_segment, length)" => offset_of!(WireSegment, length),
        "sizeof(struct vscsiif_request)" => size_of::<WireRequest>(),
        "offsetof(struct vscsiif_request, rqid)" => offset_of!(WireRequest, rqid),
        "offsetof(struct vscsiif_request, act)" => offset_of!(WireRequest, act),
        "offsetof(struct vscsiif_request, cmd_len)" => offset_of!(WireRequest, cmd_len),
        "offsetof(struct vscsiif_request, cmnd)" => offset_of!(WireRequest, cmnd),
        "offsetof(struct vscsiif_request, timeout_per_command)" => offset_of!(WireRequest, timeout_per_command),
        "offsetof(struct vscsiif_request, channel)" => offset_of!(WireRequest, channel),
        "offsetof(struct vscsiif_request, id)" => offset_of!(WireRequest, id),
        "offsetof(struct vscsiif_request, lun)" => offset_of!(WireRequest, lun),
        "offsetof(struct vscsiif_request, ref_rqid)" => offset_of!(WireRequest, ref_rqid),
        "offsetof(struct vscsiif_request, sc_data_direction)" => offset_of!(WireRequest, sc_data_direction),
        "offsetof(struct vscsiif_request, nr_segments)" => offset_of!(WireRequest, nr_segments),
        "offsetof(struct vscsiif_request, seg)" => offset_of!(WireRequest, seg),
        "offsetof(struct vscsiif_request, reserved)" => offset_of!(WireRequest, reserved),
        "sizeof(struct vscsiif_response)" => size_of::<WireResponse>(),
        "offsetof(struct vscsiif_response, rqid)" => offset_of!(WireResponse, rqid),
        "offsetof(struct vscsiif_response, act)" => offset_of!(WireResponse, act),
        "offsetof(struct vscsiif_response, sense_len)" => offset_of!(WireResponse, sense_len),
        "offsetof(struct vscsiif_response, sense_buffer)" => offset_of!(WireResponse, sense_buffer),
        "offsetof(struct vscsiif_response, rslt)" => offset_of!(WireResponse, rslt),
        "offsetof(struct vscsiif_response, residual_len)" => offset_of!(WireResponse, residual_len),
        "offsetof(struct vscsiif_response, reserved)" => offset_of!(WireResponse, reserved),
    ]
}

fn result_rows() -> Vec<(&'static str, i128)> {
    rows![
        "XEN_VSCSIIF_RSLT_RESET_SUCCESS" => vscsiif::XEN_VSCSIIF_RSLT_RESET_SUCCESS,
        "XEN_VSCSIIF_RSLT_RESET_FAILED" => vscsiif::XEN_VSCSIIF_RSLT_RESET_FAILED,
        "XEN_VSCSIIF_RSLT_HOST_OK" => HostStatus::OK.0,
        "XEN_VSCSIIF_RSLT_HOST_NO_CONNECT" => HostStatus::NO_CONNECT.0,
        "XEN_VSCSIIF_RSLT_HOST_BUS_BUSY" => HostStatus::BUS_BUSY.0,
        "XEN_VSCSIIF_RSLT_HOST_TIME_OUT" => HostStatus::TIME_OUT.0,
        "XEN_VSCSIIF_RSLT_HOST_ABORT" => HostStatus::ABORT.0,
        "XEN_VSCSIIF_RSLT_HOST_ERROR" => HostStatus::ERROR.0,
        "XEN_VSCSIIF_RSLT_HOST_RESET" => HostStatus::RESET.0,
        "XEN_VSCSIIF_RSLT_HOST_TRANSPORT_DISRUPTED" => HostStatus::TRANSPORT_DISRUPTED.0,
    ]
}

fn ring_rows() -> Vec<(&'static str, i128)> {
    rows![
        "__CONST_RING_SIZE(vscsiif, VSCSIIF_PAGE_SIZE)" => vscsiif::RING_SLOTS,
        "offsetof(struct vscsiif_sring, req_prod)" => vscsiif::REQ_PROD,
        "offsetof(struct vscsiif_sring, req_event)" => vscsiif::REQ_EVENT,
        "offsetof(struct vscsiif_sring, rsp_prod)" => vscsiif::RSP_PROD,
        "offsetof(struct vscsiif_sring, rsp_event)" => vscsiif::RSP_EVENT,
        "offsetof(struct vscsiif_sring, ring)" => vscsiif::RING_HEADER,
        "offsetof(struct vscsiif_sring, ring[15])" => vscsiif::slot_offset(15),
        "sizeof(union vscsiif_sring_entry)" => vscsiif::SLOT_SIZE,
    ]
}

fn grant_copy_rows() -> Vec<(&'static str, i128)> {
    use grant_copy::{Foreign, Pointer, RawSegment};
    rows![
        "GNTCOPY_source_gref" => grant_copy::GNTCOPY_SOURCE_GREF,
        "GNTCOPY_dest_gref" => grant_copy::GNTCOPY_DEST_GREF,
        "GNTST_okay" => grant_copy::GNTST_OKAY,
        "GNTST_general_error" => grant_copy::GNTST_GENERAL_ERROR,
        "GNTST_bad_gntref" => grant_copy::GNTST_BAD_GNTREF,
        "GNTST_permission_denied" => grant_copy::GNTST_PERMISSION_DENIED,
        "sizeof(struct ioctl_gntdev_grant_copy_segment)" => size_of::<RawSegment>(),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, source)" => offset_of!(RawSegment, source),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, dest)" => offset_of!(RawSegment, dest),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, len)" => offset_of!(RawSegment, len),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, flags)" => offset_of!(RawSegment, flags),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, status)" => offset_of!(RawSegment, status),
        "sizeof(((struct ioctl_gntdev_grant_copy_segment *)0)->source)" => size_of::<Pointer>(),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, source.virt)" => offset_of!(Pointer, virt),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, source.foreign.ref)" => offset_of!(Foreign, gref),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, source.foreign.offset)" => offset_of!(Foreign, offset),
        "offsetof(struct ioctl_gntdev_grant_copy_segment, source.foreign.domid)" => offset_of!(Foreign, domid),
    ]
}

fn gntdev_rows() -> Vec<(&'static str, i128)> {
    use gntdev::{GrantCopy, MapGrantRef, Ref, UnmapGrantRef};
    rows![
        "IOCTL_GNTDEV_MAP_GRANT_REF" => gntdev::IOCTL_GNTDEV_MAP_GRANT_REF,
        "IOCTL_GNTDEV_UNMAP_GRANT_REF" => gntdev::IOCTL_GNTDEV_UNMAP_GRANT_REF,
        "IOCTL_GNTDEV_GRANT_COPY" => gntdev::IOCTL_GNTDEV_GRANT_COPY,
        "offsetof(struct ioctl_gntdev_map_grant_ref, count)" => offset_of!(MapGrantRef, count),
        "offsetof(struct ioctl_gntdev_map_grant_ref, index)" => offset_of!(MapGrantRef, index),
        "offsetof(struct ioctl_gntdev_map_grant_ref, refs)" => offset_of!(MapGrantRef, refs),
        "sizeof(((struct ioctl_gntdev_map_grant_ref *)0)->refs[0])" => size_of::<Ref>(),
        "offsetof(struct ioctl_gntdev_grant_ref, domid)" => offset_of!(Ref, domid),
        "offsetof(struct ioctl_gntdev_grant_ref, ref)" => offset_of!(Ref, gref),
        "sizeof(struct ioctl_gntdev_unmap_grant_ref)" => size_of::<UnmapGrantRef>(),
        "offsetof(struct ioctl_gntdev_unmap_grant_ref, index)" => offset_of!(UnmapGrantRef, index),
        "offsetof(struct ioctl_gntdev_unmap_grant_ref, count)" => offset_of!(UnmapGrantRef, count),
        "sizeof(struct ioctl_gntdev_grant_copy)" => size_of::<GrantCopy>(),
        "offsetof(struct ioctl_gntdev_grant_copy, count)" => offset_of!(GrantCopy, count),
        "offsetof(struct ioctl_gntdev_grant_copy, segments)" => offset_of!(GrantCopy, segments),
    ]
}

fn gntalloc_rows() -> Vec<(&'static str, i128)> {
    use gntalloc::{AllocGref, DeallocGref};
    rows![
        "IOCTL_GNTALLOC_ALLOC_GREF" => gntalloc::IOCTL_GNTALLOC_ALLOC_GREF,
        "IOCTL_GNTALLOC_DEALLOC_GREF" => gntalloc::IOCTL_GNTALLOC_DEALLOC_GREF,
        "GNTALLOC_FLAG_WRITABLE" => gntalloc::GNTALLOC_FLAG_WRITABLE,
        "sizeof(struct ioctl_gntalloc_alloc_gref)" => size_of::<AllocGref>(),
        "offsetof(struct ioctl_gntalloc_alloc_gref, domid)" => offset_of!(AllocGref, domid),
        "offsetof(struct ioctl_gntalloc_alloc_gref, flags)" => offset_of!(AllocGref, flags),
        "offsetof(struct ioctl_gntalloc_alloc_gref, count)" => offset_of!(AllocGref, count),
        "offsetof(struct ioctl_gntalloc_alloc_gref, index)" => offset_of!(AllocGref, index),
        "offsetof(struct ioctl_gntalloc_alloc_gref, gref_ids[0])" => offset_of!(AllocGref, gref),
        "sizeof(struct ioctl_gntalloc_dealloc_gref)" => size_of::<DeallocGref>(),
        "offsetof(struct ioctl_gntalloc_dealloc_gref, index)" => offset_of!(DeallocGref, index),
        "offsetof(struct ioctl_gntalloc_dealloc_gref, count)" => offset_of!(DeallocGref, count),
    ]
}

fn evtchn_rows() -> Vec<(&'static str, i128)> {
    use evtchn::{BindInterdomain, BindUnboundPort, LocalPort, RestrictDomid};
    rows![
        "IOCTL_EVTCHN_BIND_UNBOUND_PORT" => evtchn::IOCTL_EVTCHN_BIND_UNBOUND_PORT,
        "sizeof(struct ioctl_evtchn_bind_unbound_port)" => size_of::<BindUnboundPort>(),
        "IOCTL_EVTCHN_BIND_INTERDOMAIN" => evtchn::IOCTL_EVTCHN_BIND_INTERDOMAIN,
        "IOCTL_EVTCHN_NOTIFY" => evtchn::IOCTL_EVTCHN_NOTIFY,
        "IOCTL_EVTCHN_RESTRICT_DOMID" => evtchn::IOCTL_EVTCHN_RESTRICT_DOMID,
        "sizeof(struct ioctl_evtchn_bind_interdomain)" => size_of::<BindInterdomain>(),
        "offsetof(struct ioctl_evtchn_bind_interdomain, remote_domain)" => offset_of!(BindInterdomain, remote_domain),
        "offsetof(struct ioctl_evtchn_bind_interdomain, remote_port)" => offset_of!(BindInterdomain, remote_port),
        "sizeof(struct ioctl_evtchn_notify)" => size_of::<LocalPort>(),
        "sizeof(struct ioctl_evtchn_restrict_domid)" => size_of::<RestrictDomid>(),
    ]
}

fn xenstore_rows() -> Vec<(&'static str, i128)> {
    use wire::Sockmsg;
    rows![
        "XS_CONTROL" => wire::XS_CONTROL,
        "XS_DIRECTORY" => wire::XS_DIRECTORY,
        "XS_READ" => wire::XS_READ,
        "XS_GET_PERMS" => wire::XS_GET_PERMS,
        "XS_WATCH" => wire::XS_WATCH,
        "XS_UNWATCH" => wire::XS_UNWATCH,
        "XS_TRANSACTION_START" => wire::XS_TRANSACTION_START,
        "XS_TRANSACTION_END" => wire::XS_TRANSACTION_END,
        "XS_INTRODUCE" => wire::XS_INTRODUCE,
        "XS_RELEASE" => wire::XS_RELEASE,
        "XS_GET_DOMAIN_PATH" => wire::XS_GET_DOMAIN_PATH,
        "XS_WRITE" => wire::XS_WRITE,
        "XS_MKDIR" => wire::XS_MKDIR,
        "XS_RM" => wire::XS_RM,
        "XS_SET_PERMS" => wire::XS_SET_PERMS,
        "XS_WATCH_EVENT" => wire::XS_WATCH_EVENT,
        "XS_ERROR" => wire::XS_ERROR,
        "XS_IS_DOMAIN_INTRODUCED" => wire::XS_IS_DOMAIN_INTRODUCED,
        "XS_RESUME" => wire::XS_RESUME,
        "XS_SET_TARGET" => wire::XS_SET_TARGET,
        "XS_RESET_WATCHES" => wire::XS_RESET_WATCHES,
        "XS_DIRECTORY_PART" => wire::XS_DIRECTORY_PART,
        "XENSTORE_PAYLOAD_MAX" => wire::XENSTORE_PAYLOAD_MAX,
        "XENSTORE_ABS_PATH_MAX" => wire::XENSTORE_ABS_PATH_MAX,
        "XENSTORE_REL_PATH_MAX" => wire::XENSTORE_REL_PATH_MAX,
        "sizeof(xsd_errors) / sizeof(xsd_errors[0])" => wire::XSD_ERRORS.len(),
        "sizeof(struct xsd_sockmsg)" => size_of::<Sockmsg>(),
        "offsetof(struct xsd_sockmsg, type)" => offset_of!(Sockmsg, kind),
        "offsetof(struct xsd_sockmsg, req_id)" => offset_of!(Sockmsg, req_id),
        "offsetof(struct xsd_sockmsg, tx_id)" => offset_of!(Sockmsg, tx_id),
        "offsetof(struct xsd_sockmsg, len)" => offset_of!(Sockmsg, len),
    ]
}

fn sg_rows() -> Vec<(&'static str, i128)> {
    use sg_io::{SgIoHdr, SgScsiId};
    rows![
        "SG_DXFER_NONE" => sg_io::SG_DXFER_NONE,
        "SG_DXFER_TO_DEV" => sg_io::SG_DXFER_TO_DEV,
        "SG_DXFER_FROM_DEV" => sg_io::SG_DXFER_FROM_DEV,
        "SG_DXFER_TO_FROM_DEV" => sg_io::SG_DXFER_TO_FROM_DEV,
        "SG_FLAG_DIRECT_IO" => sg_io::SG_FLAG_DIRECT_IO,
        // The sg driver's own is not in a header of user space; Linux gives it the same number.
        "BSG_FLAG_Q_AT_TAIL" => sg_io::SG_FLAG_Q_AT_TAIL,
        "SG_INFO_DIRECT_IO_MASK" => sg_io::SG_INFO_DIRECT_IO_MASK,
        "SG_INFO_DIRECT_IO" => sg_io::SG_INFO_DIRECT_IO,
        "SG_GET_SCSI_ID" => sg_io::SG_GET_SCSI_ID,
        "SG_GET_VERSION_NUM" => sg_io::SG_GET_VERSION_NUM,
        "SG_IO" => sg_io::SG_IO,
        "SG_SCSI_RESET" => sg_io::SG_SCSI_RESET,
        "SG_SCSI_RESET_DEVICE" => sg_io::SG_SCSI_RESET_DEVICE,
        "SG_MAX_QUEUE" => sg_io::SG_MAX_QUEUE,
        "sizeof(struct sg_io_hdr)" => size_of::<SgIoHdr>(),
        "offsetof(struct sg_io_hdr, interface_id)" => offset_of!(SgIoHdr, interface_id),
        "offsetof(struct sg_io_hdr, dxfer_direction)" => offset_of!(SgIoHdr, dxfer_direction),
        "offsetof(struct sg_io_hdr, cmd_len)" => offset_of!(SgIoHdr, cmd_len),
        "offsetof(struct sg_io_hdr, mx_sb_len)" => offset_of!(SgIoHdr, mx_sb_len),
        "offsetof(struct sg_io_hdr, iovec_count)" => offset_of!(SgIoHdr, iovec_count),
        "offsetof(struct sg_io_hdr, dxfer_len)" => offset_of!(SgIoHdr, dxfer_len),
        "offsetof(struct sg_io_hdr, dxferp)" => offset_of!(SgIoHdr, dxferp),
        "offsetof(struct sg_io_hdr, cmdp)" => offset_of!(SgIoHdr, cmdp),
        "offsetof(struct sg_io_hdr, sbp)" => offset_of!(SgIoHdr, sbp),
        "offsetof(struct sg_io_hdr, timeout)" => offset_of!(SgIoHdr, timeout),
        "offsetof(struct sg_io_hdr, flags)" => offset_of!(SgIoHdr, flags),
        "offsetof(struct sg_io_hdr, pack_id)" => offset_of!(SgIoHdr, pack_id),
        "offsetof(struct sg_io_hdr, usr_ptr)" => offset_of!(SgIoHdr, usr_ptr),
        "offsetof(struct sg_io_hdr, status)" => offset_of!(SgIoHdr, status),
        "offsetof(struct sg_io_hdr, masked_status)" => offset_of!(SgIoHdr, masked_status),
        "offsetof(struct sg_io_hdr, msg_status)" => offset_of!(SgIoHdr, msg_status),
        "offsetof(struct sg_io_hdr, sb_len_wr)" => offset_of!(SgIoHdr, sb_len_wr),
        "offsetof(struct sg_io_hdr, host_status)" => offset_of!(SgIoHdr, host_status),
        "offsetof(struct sg_io_hdr, driver_status)" => offset_of!(SgIoHdr, driver_status),
        "offsetof(struct sg_io_hdr, resid)" => offset_of!(SgIoHdr, resid),
        "offsetof(struct sg_io_hdr, duration)" => offset_of!(SgIoHdr, duration),
        "offsetof(struct sg_io_hdr, info)" => offset_of!(SgIoHdr, info),
        "sizeof(struct sg_scsi_id)" => size_of::<SgScsiId>(),
        "offsetof(struct sg_scsi_id, scsi_type)" => offset_of!(SgScsiId, scsi_type),
    ]
}

/// Compares all tables; a table is a check.
///
/// # Errors
///
/// When there is no compiler or there are no headers.
pub fn compare() -> Outcome<Tally> {
    tools::ensure(Need::Headers)?;
    let mut tally = Tally::default();
    for table in tables() {
        let wrong = match said_by_c(&table) {
            Ok(values) => differences(&table.rows, &values),
            Err(why) => vec![why],
        };
        wrong.iter().for_each(|line| println!("headers: FAILED {}: {line}", table.name));
        if wrong.is_empty() {
            println!("headers: PASS {} ({} values)", table.name, table.rows.len());
        }
        tally.count(wrong.is_empty());
    }
    Ok(tally)
}

/// Compiles and runs the table's program: a line `expression|value` for each row.
fn said_by_c(table: &Table) -> Outcome<String> {
    let dir = tools::work_dir().join("headers");
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    let (source, program) = (dir.join(format!("{}.c", table.name)), dir.join(table.name));
    let mut c = format!("#include <stdio.h>\n{XEN}{}int main(void) {{\n", table.prelude);
    for (expression, _) in &table.rows {
        c += &format!("printf(\"%s|%lld\\n\", \"{expression}\", (long long)({expression}));\n");
    }
    c += "return 0; }\n";
    fs::write(&source, c).map_err(at(&source))?;
    let compiled = output(Command::new("gcc").args(["-w", "-o"]).arg(&program).arg(&source))?;
    output(&mut Command::new(program)).map(|values| compiled + &values)
}

fn output(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// A line for each row that C does not confirm.
fn differences(rows: &[(&str, i128)], said: &str) -> Vec<String> {
    let value = |name: &str| {
        said.lines()
            .find_map(|line| line.rsplit_once('|').filter(|(n, _)| *n == name)?.1.parse::<i128>().ok())
    };
    rows.iter()
        .filter_map(|(name, ours)| match value(name) {
            Some(theirs) if theirs == *ours => None,
            Some(theirs) => Some(format!("{name} is {theirs} in C, {ours} here")),
            None => Some(format!("{name} has no value in C")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_values_pass() {
        let rows = rows!["A" => 1_u8, "sizeof(b)" => 2_usize, "C" => -1_i16,];
        assert!(differences(&rows, "A|1\nsizeof(b)|2\nC|-1\n").is_empty());
        assert_eq!(differences(&rows, "A|1\nsizeof(b)|3\nC|-1\n"), ["sizeof(b) is 3 in C, 2 here"]);
        assert_eq!(differences(&rows, "A|1\nC|-1\n"), ["sizeof(b) has no value in C"]);
    }
}
