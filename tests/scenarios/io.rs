//! What an honest guest does all day.

use pvscsi_backend::options::Options;
use pvscsi_backend::pdev::PDev;
use pvscsi_ring::Nexus;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE};
use pvscsi_sim::frontend::GuestBuffer;

use crate::scripted_lun::{COMPLETE, FAIL, FAIL_HALFWAY, FILLING, REFUSE, scripted_lun};
use crate::vhost::{KINDS, Vhost, host, lun, pattern, ram_disk, rw10, wait_quickly};

const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// Memory of `count` areas at odd places and of odd lengths, a whole number of blocks together.
fn odd_areas(count: usize) -> GuestBuffer {
    let mut areas: Vec<(usize, usize)> = (0..count - 1).map(|i| (i * 13 % 3000, 1 + i * 37 % 700)).collect();
    let sum: usize = areas.iter().map(|(_, len)| len).sum();
    areas.push((count, 512 - sum % 512));
    GuestBuffer::scattered(&areas)
}

/// Grants for a write are read-only in this frontend, as in Linux, so writes here also show that this is enough.
#[test]
fn any_number_of_segments_moves_every_byte() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        // Ten entries in the list's first page, the others in a second one.
        vhost.frontend.set_list_offset(4096 - 80);
        for count in 1..=128 {
            let memory = odd_areas(count);
            let bytes = pattern(count, memory.len());
            vhost.write(lun(0), 9, &bytes, &memory);
            let around = vhost.read(lun(0), 8, GuestBuffer::contiguous(3, bytes.len() + 1024));
            let (before, rest) = around.split_at(512);
            assert!(before.iter().all(|byte| *byte == 0), "{count} segments: block 8");
            assert_eq!(&rest[..bytes.len()], bytes, "{count} segments, {kind:?}: written odd, read even");
            let even = GuestBuffer::contiguous(0, bytes.len());
            vhost.write(lun(0), 600, &bytes, &even);
            assert_eq!(vhost.read(lun(0), 600, odd_areas(count)), bytes, "{count} segments: the other way");
        }
    }
}

#[test]
fn the_longest_command_is_whole() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        let bytes = pattern(5, 508 * 1024);
        vhost.write(lun(0), 1, &bytes, &GuestBuffer::contiguous(512, bytes.len()));
        assert_eq!(vhost.read(lun(0), 1, GuestBuffer::contiguous(0, bytes.len())), bytes);
    }
}

#[test]
fn commands_without_data_need_none() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        for (cdb, direction) in [
            (&TEST_UNIT_READY[..], DIRECTION_NONE),
            (&rw10(0x28, 0, 0), DIRECTION_FROM_DEVICE),
            (&rw10(0x2a, 0, 0), DIRECTION_TO_DEVICE),
            (&[0x12, 0, 0, 0, 0, 0], DIRECTION_FROM_DEVICE),
        ] {
            for memory in [&[][..], &[(0, 0)], &[(4095, 0); 26], &[(7, 0); 128]] {
                let reply = vhost.call(lun(0), cdb, direction, GuestBuffer::scattered(memory));
                assert_eq!((reply.rslt, reply.residual), (0, 0), "{cdb:02x?}, {} areas", memory.len());
            }
        }
    }
}

#[test]
fn two_units_are_two_disks() {
    let mut vhost = Vhost::start(KINDS[0], vec![(lun(0), ram_disk()), (lun(7), ram_disk())]);
    let page = GuestBuffer::contiguous(0, 4096);
    vhost.write(lun(0), 0, &pattern(1, 4096), &page);
    vhost.write(lun(7), 0, &pattern(2, 4096), &page);
    assert_eq!(vhost.read(lun(0), 0, page.clone()), pattern(1, 4096));
    assert_eq!(vhost.read(lun(7), 0, page), pattern(2, 4096));
}

#[test]
fn an_unknown_unit_is_answered_as_ever() {
    let mut vhost = Vhost::with_disk(KINDS[0]);
    for (channel, id, lun) in [(0, 1, 1), (1, 1, 0), (0, 0, 0), (0xffff, 0xffff, 0xffff)] {
        let nexus = Nexus { channel, id, lun };
        let memory = GuestBuffer::contiguous(0, 36);
        let reply = vhost.call(nexus, &[0x12, 0, 0, 0, 36, 0], DIRECTION_FROM_DEVICE, memory);
        assert_eq!((reply.rslt, reply.sense.len()), (0x0001_0000, 0), "{nexus:?}");
    }
}

#[test]
fn report_luns_tells_what_this_guest_sees() {
    let elsewhere = Nexus { channel: 0, id: 2, lun: 1 };
    let luns = [lun(0), lun(300), lun(5), elsewhere].map(|nexus| (nexus, ram_disk()));
    let mut vhost = Vhost::start(KINDS[0], luns.into());
    let mut cdb = [0; 12];
    (cdb[0], cdb[9]) = (0xa0, 64);
    let mut ask = |nexus| {
        let reply = vhost.call(nexus, &cdb, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 64));
        assert_eq!(reply.rslt, 0);
        reply.data.to_vec()[..64 - reply.residual as usize].to_vec()
    };
    let entries = [[0; 8], [0, 5, 0, 0, 0, 0, 0, 0], [0x41, 0x2c, 0, 0, 0, 0, 0, 0]];
    assert_eq!(ask(lun(5)), [&[0, 0, 0, 24, 0, 0, 0, 0][..], &entries.concat()].concat());
    assert_eq!(ask(elsewhere), [0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
}

/// A guest that scans asks each target's LUN 0 first.
#[test]
fn lun_0_of_a_target_that_has_others_says_that_nobody_is_there() {
    for kind in KINDS {
        let mut vhost = Vhost::start(kind, vec![(lun(5), ram_disk())]);
        let mut ask = |cdb: &[u8]| {
            let reply = vhost.call(lun(0), cdb, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 64));
            (reply.rslt, reply.data.to_vec()[..64 - reply.residual as usize].to_vec(), reply.sense)
        };
        let (result, inquiry, _) = ask(&[0x12, 0, 0, 0, 64, 0]);
        assert_eq!((result, inquiry.len(), inquiry[0]), (0, 36, 0x7f));
        let (result, luns, _) = ask(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0]);
        assert_eq!((result, &luns[8..]), (0, &[0, 5, 0, 0, 0, 0, 0, 0][..]));
        let (result, _, sense) = ask(&[0x00; 6]);
        assert_eq!((result, [sense[2] & 0xf, sense[12], sense[13]]), (2, [0x05, 0x25, 0x00]));
        assert_eq!(vhost.read(lun(5), 0, GuestBuffer::contiguous(0, 512)), [0; 512], "the other goes on");
        let elsewhere = Nexus { channel: 0, id: 2, lun: 0 };
        let reply = vhost.call(
            elsewhere,
            &[0x12, 0, 0, 0, 64, 0],
            DIRECTION_FROM_DEVICE,
            GuestBuffer::contiguous(0, 64),
        );
        assert_eq!(reply.rslt, 0x0001_0000, "a target without any");
    }
}

#[test]
fn a_disk_says_which_commands_it_does_not_know() {
    let mut vhost = Vhost::with_disk(KINDS[0]);
    let reply = vhost.call(lun(0), &[0xec; 16], DIRECTION_NONE, GuestBuffer::default());
    assert_eq!(reply.rslt, 2, "CHECK CONDITION, and no host error");
    assert_eq!([reply.sense[2] & 0xf, reply.sense[12], reply.sense[13]], [0x05, 0x20, 0x00]);
}

#[test]
fn only_what_the_device_wrote_reaches_the_guest() {
    for kind in KINDS {
        let (unit, _remote) = scripted_lun();
        let mut vhost = Vhost::start(kind, vec![(lun(0), unit)]);
        let memory = GuestBuffer::contiguous(100, 10_000);
        memory.write(&[0xa5; 10_000]);
        let reply = vhost.call(lun(0), &COMPLETE, DIRECTION_FROM_DEVICE, memory.clone());
        assert_eq!((reply.rslt, reply.residual), (0, 5000));
        let expected = [[FILLING; 5000], [0xa5; 5000]].concat();
        assert_eq!(reply.data.to_vec(), expected);
        let reply = vhost.call(lun(0), &FAIL, DIRECTION_FROM_DEVICE, memory.clone());
        assert_eq!((reply.rslt, reply.residual, reply.sense[2]), (2, 10_000, 4));
        assert_eq!(reply.data.to_vec(), expected, "a failed command delivers nothing");
        let reply = vhost.call(lun(0), &REFUSE, DIRECTION_FROM_DEVICE, memory);
        assert_eq!((reply.rslt, reply.residual, reply.sense[2]), (2, 0, 5));
        assert_eq!(reply.data.to_vec(), expected, "nor does one that was refused, whatever its residual");
    }
}

/// A READ that meets a bad block: what lies before it, how much that is, and what is wrong.
#[test]
fn a_command_that_fails_halfway_brings_data_and_sense() {
    for kind in KINDS {
        let (unit, _remote) = scripted_lun();
        let mut vhost = Vhost::start(kind, vec![(lun(0), unit)]);
        for len in [512, 10_000, 508 * 1024] {
            let memory = GuestBuffer::contiguous(100, len);
            memory.write(&vec![0xa5; len]);
            let reply = vhost.call(lun(0), &FAIL_HALFWAY, DIRECTION_FROM_DEVICE, memory);
            assert_eq!((reply.rslt, reply.residual as usize), (2, len / 2), "CHECK CONDITION, no host error");
            assert_eq!((reply.sense[2], reply.sense[12], reply.sense[13]), (3, 0x11, 0));
            assert_eq!(reply.data.to_vec(), [vec![FILLING; len / 2], vec![0xa5; len / 2]].concat());
        }
    }
}

/// The worker has no page of the guest but the ring: it can look at a list by copying it only, and copies are counted.
#[test]
fn an_indirect_list_is_looked_at_once() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        for (list_offset, list_copies) in [(0, 1), (4096 - 80, 2)] {
            vhost.frontend.set_list_offset(list_offset);
            for (opcode, direction) in [(0x28, DIRECTION_FROM_DEVICE), (0x2a, DIRECTION_TO_DEVICE)] {
                let before = vhost.frontend.domain().grant_counts();
                let memory = GuestBuffer::contiguous(0, 100 * 4096);
                let reply = vhost.call(lun(0), &rw10(opcode, 0, memory.len()), direction, memory);
                assert_eq!((reply.rslt, reply.residual), (0, 0));
                let after = vhost.frontend.domain().grant_counts();
                assert_eq!(
                    after.copies - before.copies,
                    list_copies + 100,
                    "each page of data, and the list"
                );
                assert_eq!(after.copy_batches - before.copy_batches, 2, "the list, then the data");
                assert_eq!(after.maps, 1, "the ring");
            }
        }
    }
}

/// A wake-up that is lost on either side shows as an answer that does not come. PVSCSI_ROUND_TRIPS says how many there are.
#[test]
fn many_round_trips_lose_no_wake_up() {
    let rounds = std::env::var("PVSCSI_ROUND_TRIPS").map_or(100_000, |text| text.parse::<u64>().unwrap());
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        for _ in 0..rounds / 2 {
            let reply = vhost.call(lun(0), &TEST_UNIT_READY, DIRECTION_NONE, GuestBuffer::default());
            assert_eq!(reply.rslt, 0);
        }
        let counts = vhost.frontend.port_control().counts();
        assert!(counts.to_backend <= rounds / 2 && counts.to_guest <= rounds / 2, "{counts:?}");
    }
}

/// This guest does not sleep: its next request comes just when the worker is about to.
#[test]
fn a_request_that_comes_as_the_worker_goes_to_sleep_is_seen() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        for round in 0..20_000 {
            vhost.send(lun(0), &TEST_UNIT_READY, DIRECTION_NONE, GuestBuffer::default());
            let mut spins = 0_u32;
            wait_quickly("an answer", || {
                spins += 1;
                if spins > 1000 {
                    std::thread::yield_now();
                }
                !vhost.frontend.poll_responses().is_empty()
            });
            // Now a little earlier, now a little later.
            (0..round % 64).for_each(|_| std::hint::spin_loop());
        }
    }
}

#[test]
fn a_full_ring_is_served_across_the_wrap_of_its_indices() {
    for kind in KINDS {
        let mut vhost = Vhost::start_at(kind, u32::MAX - 20, vec![(lun(0), ram_disk())]);
        for round in 0..10 {
            let memory: Vec<_> = (0..16).map(|_| GuestBuffer::contiguous(0, 4096)).collect();
            for (i, memory) in memory.iter().enumerate() {
                memory.write(&pattern(round * 16 + i, 4096));
                let cdb = rw10(0x2a, i as u32 * 8, 4096);
                vhost.send(lun(0), &cdb, DIRECTION_TO_DEVICE, memory.clone());
            }
            assert!(!vhost.frontend.has_room());
            let failed = (0..16).map(|_| vhost.reply()).filter(|reply| reply.rslt != 0).count();
            assert_eq!(failed, 0);
            for i in 0..16 {
                let read = vhost.read(lun(0), i as u32 * 8, GuestBuffer::contiguous(0, 4096));
                assert_eq!(read, pattern(round * 16 + i, 4096));
            }
        }
    }
}

#[test]
fn a_failed_copy_is_a_host_error_of_its_command_only() {
    use pvscsi_sim::GrantFault;
    let mut vhost = Vhost::with_disk(KINDS[0]);
    let page = || GuestBuffer::contiguous(0, 4096);
    // GNTST_general_error; GNTST_eagain (grant_table.h), and what Linux makes of it when it has tried long enough.
    let statuses = [-1, -12, -9].map(GrantFault::Copy);
    for fault in statuses.into_iter().chain([GrantFault::CopyBatch(pvscsi_sim::Errno::ENOMEM)]) {
        for opcode in [0x28, 0x2a] {
            vhost.frontend.domain().inject_grant_fault(1, fault);
            let direction = if opcode == 0x28 { DIRECTION_FROM_DEVICE } else { DIRECTION_TO_DEVICE };
            let reply = vhost.call(lun(0), &rw10(opcode, 0, 4096), direction, page());
            assert_eq!((host(reply.rslt), reply.rslt & 0xff), (7, 2), "{fault:?}, {opcode:#x}");
            assert_eq!(vhost.read(lun(0), 0, page()), [0; 4096], "and nothing was written");
        }
    }
}

/// Its I/O is done by a thread of its own; what is under way when the worker ends is in the file.
#[test]
fn a_disk_on_a_file_keeps_what_is_written_to_it() {
    for kind in KINDS {
        let path = std::env::temp_dir().join(format!("pvscsi-scenario-{}-{kind:?}", std::process::id()));
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        let disk: PDev = format!("file:{}", path.display()).parse().unwrap();
        let mut vhost = Vhost::start(
            kind,
            vec![
                (lun(0), disk.open(Options::default(), pvscsi_sg::Engine::Auto, None).unwrap()),
                (lun(1), ram_disk()),
            ],
        );
        let memory = GuestBuffer::contiguous(3, 65536);
        vhost.write(lun(0), 8, &pattern(1, 65536), &memory);
        assert_eq!(vhost.read(lun(0), 8, memory), pattern(1, 65536));
        let last = GuestBuffer::contiguous(0, 4096);
        last.write(&pattern(2, 4096));
        vhost.send(lun(0), &rw10(0x2a, 1024, 4096), DIRECTION_TO_DEVICE, last);
        assert_eq!(vhost.reply().rslt, 0);
        vhost.end(0).unwrap();
        let file = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file[8 * 512..8 * 512 + 65536], pattern(1, 65536));
        assert_eq!(file[1024 * 512..1024 * 512 + 4096], pattern(2, 4096));
    }
}
