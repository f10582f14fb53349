#!/usr/bin/python3
"""tape.py UIO: a tape drive behind Linux's TCMU, on the user backstore of /dev/UIO, its tape in memory as long as it runs.

The commands: SSC-3 and SPC-4. Unlike scsi_debug's, the drive keeps all of a record.
"""
import struct
import sys

from tcmu import INVALID_FIELD, INVALID_OPCODE, Check, Ring, be16, be24, inquiry, request_sense, require

# Sense key, ASC, ASCQ (SPC-4 annex "Numeric order codes").
FILEMARK_DETECTED = (0, 0x00, 0x01)
BEGINNING_DETECTED = (0, 0x00, 0x04)
WRONG_LENGTH = (0, 0x00, 0x00)
NO_MEDIUM = (2, 0x3A, 0x00)
INVALID_PARAMETER = (5, 0x26, 0x00)
NOT_SAVED = (5, 0x39, 0x00)
END_OF_DATA = (8, 0x00, 0x05)
# Flags of sense data.
FILEMARK, EOM, ILI = 0x80, 0x40, 0x20

MARK = None


class Tape:
    """The commands, and the tape."""

    IDENTITY = b"XENLAB  " + b"TAPE MODEL".ljust(16)
    SERIAL = b"LABTP001"
    DENSITY = 0x58  # LTO-5
    LONGEST = 1 << 20

    def __init__(self):
        # Records, and MARK for each filemark; an address is a place in this list (SSC-3 logical object identifier).
        self.tape = []
        self.at = 0
        self.loaded = True
        # 0: records of any length.
        self.block = 0
        self.always = {
            0x03: request_sense,
            0x05: self.read_block_limits,
            0x12: lambda cdb: inquiry(cdb, 0x01, self.IDENTITY, self.SERIAL),
            0x1A: self.mode_sense_6,
            0x1B: self.load_unload,
            0x1E: lambda cdb: b"",  # PREVENT ALLOW MEDIUM REMOVAL: nobody is at the drive
            0x5A: self.mode_sense_10,
        }
        self.with_tape = {
            0x00: lambda cdb: b"",  # TEST UNIT READY
            0x01: self.rewind,
            0x08: self.read,
            0x10: self.write_filemarks,
            0x11: self.space,
            0x19: self.erase,
            0x2B: self.locate,
            0x34: self.read_position,
        }
        self.with_data = {0x0A: self.write, 0x15: self.mode_select_6}

    def execute(self, cdb, received):
        """The command's data, no more than it has room for; received gives what it takes."""
        if cdb[0] in self.always:
            return self.always[cdb[0]](cdb)
        require(cdb[0] in self.with_tape or cdb[0] in self.with_data, INVALID_OPCODE)
        require(self.loaded, NO_MEDIUM)
        if cdb[0] in self.with_data:
            return self.with_data[cdb[0]](cdb, received())
        return self.with_tape[cdb[0]](cdb)

    def read_block_limits(self, cdb):
        """SSC-3 READ BLOCK LIMITS."""
        return struct.pack(">IH", self.LONGEST, 1)

    def mode_sense_6(self, cdb):
        """SPC-4 MODE SENSE (6), mode parameter header (6)."""
        descriptor = self.mode_descriptor(cdb)
        return (bytes([3 + len(descriptor), 0, 0x10, len(descriptor)]) + descriptor)[: cdb[4]]

    def mode_sense_10(self, cdb):
        """SPC-4 MODE SENSE (10), mode parameter header (10)."""
        descriptor = self.mode_descriptor(cdb)
        header = struct.pack(">HBBHH", 6 + len(descriptor), 0, 0x10, 0, len(descriptor))
        return (header + descriptor)[: be16(cdb, 7)]

    def mode_descriptor(self, cdb):
        """SSC-3 mode parameters: a block descriptor, unless DBD, and no pages."""
        control, page = cdb[2] >> 6, cdb[2] & 0x3F
        require(control != 3, NOT_SAVED)
        require(page in (0x00, 0x3F), INVALID_FIELD)
        block = 0xFFFFFF if control == 1 else self.block
        return b"" if cdb[1] & 8 else struct.pack(">II", self.DENSITY << 24, block)

    def mode_select_6(self, cdb, data):
        """SPC-4 MODE SELECT (6): the block length can be changed, and nothing else."""
        require(cdb[1] & 1 == 0, INVALID_FIELD)  # SP
        data = data[: cdb[4]]
        if data:
            require(len(data) in (4, 12) and data[3] == len(data) - 4, INVALID_PARAMETER)
        if len(data) == 12:
            block = be24(data, 9)
            require(data[4] in (0x00, 0x7F, self.DENSITY) and block <= self.LONGEST, INVALID_PARAMETER)
            self.block = block
        return b""

    def load_unload(self, cdb):
        """SSC-3 LOAD UNLOAD: the tape stays in the drive."""
        self.loaded, self.at = bool(cdb[4] & 1), 0
        return b""

    def rewind(self, cdb):
        """SSC-3 REWIND."""
        self.at = 0
        return b""

    def step(self, left, data=b""):
        """What is next on the tape, which goes on by it; left is for the information, if it is not a record."""
        if self.at == len(self.tape):
            raise Check(*END_OF_DATA, information=left, data=data)
        self.at += 1
        record = self.tape[self.at - 1]
        if record is MARK:
            raise Check(*FILEMARK_DETECTED, FILEMARK, left, data)
        return record

    def read(self, cdb):
        """SSC-3 READ (6): one record, or with FIXED as many as wanted that have the block length."""
        fixed, sili, length = cdb[1] & 1, cdb[1] & 2, be24(cdb, 2)
        require(not fixed or self.block and not sili, INVALID_FIELD)
        if length == 0:
            return b""
        if not fixed:
            record = self.step(length)
            too_long = self.block and len(record) > length
            if too_long or not sili and len(record) != length:
                raise Check(*WRONG_LENGTH, ILI, length - len(record), record[:length])
            return record[:length]
        records = []
        for left in range(length, 0, -1):
            record = self.step(left, b"".join(records))
            if len(record) != self.block:
                raise Check(*WRONG_LENGTH, ILI, left, b"".join(records))
            records.append(record)
        return b"".join(records)

    def put(self, things):
        """All that was behind is lost."""
        self.tape[self.at :] = things
        self.at = len(self.tape)
        return b""

    def write(self, cdb, data):
        """SSC-3 WRITE (6): one record, or with FIXED as many as there are of the block length."""
        fixed, length = cdb[1] & 1, be24(cdb, 2)
        require(self.block if fixed else length <= self.LONGEST, INVALID_FIELD)
        if length == 0:
            return b""
        size, count = (self.block, length) if fixed else (length, 1)
        # The initiator has not given what it has promised.
        require(len(data) >= size * count, INVALID_FIELD)
        return self.put([data[i * size : (i + 1) * size] for i in range(count)])

    def write_filemarks(self, cdb):
        """SSC-3 WRITE FILEMARKS (6)."""
        require(cdb[1] & 2 == 0, INVALID_FIELD)
        count = be24(cdb, 2)
        return self.put([MARK] * count) if count else b""

    def erase(self, cdb):
        """SSC-3 ERASE (6)."""
        return self.put([])

    def space(self, cdb):
        """SSC-3 SPACE (6): over records, filemarks, or to the end of data."""
        code, count = cdb[1] & 0x0F, int.from_bytes(cdb[2:5], "big", signed=True)
        require(code in (0, 1, 3), INVALID_FIELD)
        if code == 3:
            self.at = len(self.tape)
            return b""
        left = abs(count)
        while left:
            if count < 0 and self.at == 0:
                raise Check(*BEGINNING_DETECTED, EOM, left)
            if count > 0 and self.at == len(self.tape):
                raise Check(*END_OF_DATA, information=left)
            # A tape that goes back stops in front of a mark.
            passed = self.tape[self.at if count > 0 else self.at - 1]
            self.at += 1 if count > 0 else -1
            if code == 0 and passed is MARK:
                raise Check(*FILEMARK_DETECTED, FILEMARK, left)
            if code == 0 or passed is MARK:
                left -= 1
        return b""

    def locate(self, cdb):
        """SSC-3 LOCATE (10), in the only partition."""
        require(cdb[1] & 2 == 0, INVALID_FIELD)
        wanted = int.from_bytes(cdb[3:7], "big")
        self.at = min(wanted, len(self.tape))
        require(wanted <= len(self.tape), END_OF_DATA)
        return b""

    def read_position(self, cdb):
        """SSC-3 READ POSITION, short form."""
        require(cdb[1] & 0x1F <= 1, INVALID_FIELD)
        return struct.pack(">B3xII8x", 0x00 if self.at else 0x80, self.at, self.at)


Ring(sys.argv[1]).serve(Tape())
