//! Our layouts and constants against the C headers that define them: a small C program says what the headers have.
//!
//! A row of a table is a C expression and our value. One that the headers do not know does not compile, which fails too.

use std::fs;
use std::mem::offset_of;
use std::process::Command;

use pvscsi_ring::vscsiif;
use pvscsi_sg::HostStatus;
use pvscsi_xen::sys::grant_copy;

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
