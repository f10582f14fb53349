use super::*;
use compare::compare_and_write;

/// Knuth's MMIX generator; the upper bits are good enough for tests.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A disk is an array of bytes: whatever is written is read.
#[test]
fn a_disk_is_a_vector() {
    a_disk_is(512, 700, 10_000);
    a_disk_is(4096, 120, 500);
}

pub(super) fn a_disk_is(block: usize, blocks: usize, rounds: usize) {
    let mut random = Random(1);
    let mut bench = Bench::of(block_size::ram(blocks, block));
    let mut model = vec![0_u8; blocks * block];
    for _ in 0..rounds {
        let lba = random.below(blocks);
        let count = random.below((blocks - lba).min(40)) + 1;
        let (range, bytes) = (lba * block..(lba + count) * block, count * block);
        let on = |opcode, flags| on_blocks(opcode, flags, lba as u64, count as u32);
        match random.below(10) {
            0..3 => {
                let data: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
                assert_eq!(
                    bench.data_out(&on(random.of(&[0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e]), 0), &data),
                    (GOOD, 0)
                );
                model[range].copy_from_slice(&data);
            }
            3..6 => {
                let cdb = on(random.of(&[0x08, 0x28, 0xa8, 0x88]), 0);
                assert_eq!(bench.answer(&cdb, bytes), model[range]);
            }
            6 => {
                let same = vec![random.of(&[0, 0, 3]); block];
                let cdb = on(random.of(&[0x41, 0x93]), random.of(&[0, 8]));
                assert_eq!(bench.data_out(&cdb, &same), (GOOD, 0));
                model[range].copy_from_slice(&same.repeat(count));
            }
            7 => {
                let data: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
                assert_eq!(bench.data_out(&on(0x8b, 0), &data), (GOOD, 0));
                model[range].iter_mut().zip(data).for_each(|(old, new)| *old |= new);
            }
            8 => {
                let new: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
                let mut both = [&model[range.clone()], &new].concat();
                both[random.below(bytes)] ^= 0x40;
                let cdb = compare_and_write(0, lba as u64, count as u8);
                assert_eq!(bench.data_out(&cdb, &both).0, Some((0x0e, 0x1d, 0)));
                both[..bytes].copy_from_slice(&model[range.clone()]);
                assert_eq!(bench.data_out(&cdb, &both), (GOOD, 0));
                model[range].copy_from_slice(&new);
            }
            _ => {
                let mut data = model[range].to_vec();
                assert_eq!(bench.data_out(&on(0x2f, 2), &data), (GOOD, 0));
                data[random.below(bytes)] ^= 0x80;
                assert_eq!(bench.data_out(&on(0x2f, 2), &data).0, Some((0x0e, 0x1d, 0)));
            }
        }
    }
    assert_eq!(bench.blocks(0, blocks as u32), model);
}

/// Whatever the guest sends, there is one completion (`Bench::run` checks it with the residual), and no panic; and a
/// write-protected disk stays as it is.
#[test]
fn any_command_completes_once() {
    any_command_completes(300_000);
}

pub(super) fn any_command_completes(rounds: usize) {
    let mut random = Random(2);
    let mut disks = [Bench::ram(64), Bench::of(medium::read_only(64))];
    let directions = [
        DataDirection::None,
        DataDirection::FromDevice,
        DataDirection::ToDevice,
        DataDirection::Bidirectional,
    ];
    let (mut good, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            // Small numbers pass the first checks; large ones try them.
            *byte = match random.below(4) {
                0 => random.byte(),
                1 => random.byte() & 0x0f,
                _ => 0,
            };
        }
        bytes[0] = (round % 256) as u8;
        let cdb = Cdb::new(bytes, random.below(17) as u8).unwrap();
        let mut data = [0; 2048];
        for byte in &mut data[..48] {
            *byte = random.byte() & random.byte() & random.byte();
        }
        let len = random.of(&[0, 1, 8, 24, 511, 512, 513, 2048]);
        let buffer = (random.below(5) != 0).then_some(&data[..len]);
        let (outcome, _) = disks[random.below(2)].run(cdb, random.of(&directions), buffer);
        if outcome.status != SamStatus::CHECK_CONDITION { good += 1 } else { refused += 1 }
    }
    assert!(
        good > rounds / 30 && refused > rounds / 30,
        "{good} good and {refused} refused: both ways are tried"
    );
    assert_eq!(disks[1].blocks(0, 64), pattern(1, 64));
}
