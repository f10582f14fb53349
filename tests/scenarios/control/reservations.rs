//! Guests that share a disk, and their reservations.

use pvscsi_ring::vscsiif::DIRECTION_TO_DEVICE;
use pvscsi_sim::frontend::{GuestBuffer, ScsiCall};

use super::io::{nexus, read, read_result, write};
use super::shared::{Image, end};
use super::tools::{attach, detach};
use super::{Machine, check_io};

/// Result words: GOOD, CHECK CONDITION, RESERVATION CONFLICT.
const GOOD: i32 = 0x00;
const CHECK: i32 = 0x02;
const CONFLICT: i32 = 0x18;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT_AND_ABORT: u8 = 5;
/// Write Exclusive, Registrants Only.
const REGISTRANTS: u8 = 5;

/// PERSISTENT RESERVE OUT.
fn out(machine: &mut Machine, action: u8, kind: u8, key: u64, action_key: u64, flags: u8) -> i32 {
    let list = [key.to_be_bytes(), action_key.to_be_bytes(), [0, 0, 0, 0, flags, 0, 0, 0]].concat();
    let buffer = GuestBuffer::contiguous(0, list.len());
    buffer.write(&list);
    let cdb = vec![0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let call = ScsiCall { nexus: nexus(0), cdb, direction: DIRECTION_TO_DEVICE, buffer, timeout_s: 30 };
    machine.guest().host(0).execute(call).unwrap().rslt
}

fn write_result(machine: &mut Machine) -> i32 {
    machine.guest().host(0).execute(write(nexus(0))).unwrap().rslt
}

/// Two guests with the same disk at 0:0:0:0.
fn two(image: &Image) -> [Machine; 2] {
    let mut one = Machine::new();
    let mut other = one.beside();
    for machine in [&mut one, &mut other] {
        attach(machine, &format!("{},0:0:0:0,shared", image.pdev())).unwrap();
        check_io(machine.guest().host(0), nexus(0));
    }
    [one, other]
}

#[test]
fn a_guest_that_is_preempted_writes_no_more() {
    let image = Image::new();
    let [mut one, mut other] = two(&image);
    assert_eq!(out(&mut one, REGISTER, 0, 0, 1, 0), GOOD);
    assert_eq!(out(&mut one, RESERVE, REGISTRANTS, 1, 0, 0), GOOD);
    assert_eq!((write_result(&mut one), write_result(&mut other)), (GOOD, CONFLICT));
    assert_eq!(read_result(other.guest().host(0), nexus(0)), GOOD);
    assert_eq!(out(&mut other, REGISTER, 0, 0, 2, 0), GOOD);
    assert_eq!(write_result(&mut other), GOOD, "a registrant");
    assert_eq!(out(&mut other, PREEMPT_AND_ABORT, REGISTRANTS, 2, 1, 0), GOOD);
    let told = one.guest().host(0).execute(read(nexus(0))).unwrap();
    assert_eq!(
        (told.rslt, told.sense.get(12..14)),
        (CHECK, Some(&[0x2a, 0x05][..])),
        "REGISTRATIONS PREEMPTED"
    );
    assert_eq!(read_result(one.guest().host(0), nexus(0)), GOOD, "it is told once");
    assert_eq!((write_result(&mut one), write_result(&mut other)), (CONFLICT, GOOD));
    end([&mut one, &mut other]);
}

/// What a guest has registered outlasts its driver, its device and its server; with APTPL, the host.
#[test]
fn a_registration_outlasts_everything_but_the_guest() {
    let image = Image::new();
    let [mut one, mut other] = two(&image);
    assert_eq!(out(&mut one, REGISTER, 0, 0, 1, 1), GOOD);
    assert_eq!(out(&mut one, RESERVE, REGISTRANTS, 1, 0, 0), GOOD);
    one.guest().unload();
    one.until_state(0, "2");
    one.guest().load();
    one.until_connected(0);
    assert_eq!((write_result(&mut one), write_result(&mut other)), (GOOD, CONFLICT));
    detach(&mut one, "0:0:0:0").unwrap();
    assert_eq!(write_result(&mut other), CONFLICT, "its holder has no disk at the moment");
    detach(&mut other, "0:0:0:0").unwrap();
    std::fs::remove_dir_all(one.reservations.directories().run).unwrap();
    for machine in [&mut one, &mut other] {
        attach(machine, &format!("{},0:0:0:0,shared", image.pdev())).unwrap();
    }
    assert_eq!((write_result(&mut one), write_result(&mut other)), (GOOD, CONFLICT));
    end([&mut one, &mut other]);
}

/// What a server cannot keep it does not serve.
#[test]
fn without_a_place_for_reservations_there_is_no_disk() {
    let image = Image::new();
    let mut machine = Machine::new();
    let run = machine.reservations.directories().run;
    std::fs::create_dir_all(run.parent().unwrap()).unwrap();
    std::fs::write(&run, "a file").unwrap();
    let error = attach(&mut machine, &format!("{},0:0:0:0", image.pdev())).unwrap_err().to_string();
    assert!(error.contains(&format!("reservations: {}: File exists", run.display())), "{error}");
    std::fs::remove_file(&run).unwrap();
    attach(&mut machine, &format!("{},0:0:0:0", image.pdev())).unwrap();
    check_io(machine.guest().host(0), nexus(0));
}
