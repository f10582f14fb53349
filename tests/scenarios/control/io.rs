//! Commands of the guest, to see whether its units are served.

use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_TO_DEVICE};
use pvscsi_sim::frontend::xenbus::Host;
use pvscsi_sim::frontend::{GuestBuffer, Nexus, ScsiCall};

/// Blocks of a command here.
const BLOCKS: u8 = 8;

/// LUN `lun` of channel 0, target 0.
pub fn nexus(lun: u16) -> Nexus {
    Nexus { channel: 0, id: 0, lun }
}

fn transfer(nexus: Nexus, opcode: u8, direction: u8, buffer: GuestBuffer) -> ScsiCall {
    let cdb = vec![opcode, 0, 0, 0, 0, 16, 0, 0, BLOCKS, 0];
    ScsiCall { nexus, cdb, direction, buffer, timeout_s: 30 }
}

/// A READ of the unit.
pub fn read(nexus: Nexus) -> ScsiCall {
    let buffer = GuestBuffer::contiguous(0, usize::from(BLOCKS) * 512);
    transfer(nexus, 0x28, DIRECTION_FROM_DEVICE, buffer)
}

/// A WRITE to the unit, of bytes that tell which one it is.
pub fn write(nexus: Nexus) -> ScsiCall {
    let data: Vec<u8> = (0..u32::from(BLOCKS) * 512).map(|i| (i * 7 + u32::from(nexus.lun)) as u8).collect();
    let buffer = GuestBuffer::contiguous(512, data.len());
    buffer.write(&data);
    transfer(nexus, 0x2a, DIRECTION_TO_DEVICE, buffer)
}

/// REPORT LUNS, with room for seven.
pub fn report_luns(nexus: Nexus) -> ScsiCall {
    let cdb = vec![0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    ScsiCall {
        nexus,
        cdb,
        direction: DIRECTION_FROM_DEVICE,
        buffer: GuestBuffer::contiguous(0, 64),
        timeout_s: 30,
    }
}

/// Writes to a unit, and reads it back.
pub fn check_io(host: &mut Host, nexus: Nexus) {
    let call = write(nexus);
    let data = call.buffer.to_vec();
    let written = host.execute(call).expect("WRITE is answered");
    assert_eq!((written.rslt, written.residual), (0, 0), "WRITE to {nexus:?}");
    let reply = host.execute(read(nexus)).expect("READ is answered");
    assert_eq!((reply.rslt, reply.residual), (0, 0), "READ from {nexus:?}");
    assert_eq!(reply.data.to_vec(), data, "what {nexus:?} holds");
}

/// The result word of a READ of a unit.
pub fn read_result(host: &mut Host, nexus: Nexus) -> i32 {
    host.execute(read(nexus)).expect("READ is answered").rslt
}

/// A program in the guest that always has reads in flight.
pub struct Reads {
    nexus: Nexus,
    pub done: u32,
    /// How often it was told that another unit of the target has come or gone.
    pub told: u32,
}

impl Reads {
    pub fn of(nexus: Nexus) -> Self {
        Self { nexus, done: 0, told: 0 }
    }

    /// Takes the answers, which must be good or tell of changed LUNs, and sends new reads, to have 8 of them.
    pub fn go_on(&mut self, host: &mut Host) {
        self.take(host);
        while host.frontend().in_flight() < 8 {
            host.frontend().submit(read(self.nexus)).expect("there is room for 8");
        }
    }

    /// Waits for those that are in flight.
    pub fn finish(mut self, host: &mut Host) -> u32 {
        super::eventually("the last reads are answered", || {
            self.take(host);
            host.frontend().in_flight() == 0
        });
        self.done
    }

    fn take(&mut self, host: &mut Host) {
        for reply in host.replies() {
            if reply.tells_of_changed_luns() {
                self.told += 1;
            } else {
                assert_eq!((reply.rslt, reply.residual), (0, 0), "a read");
                self.done += 1;
            }
        }
    }
}
