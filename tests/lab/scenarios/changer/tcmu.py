"""tcmu.py: a SCSI device behind Linux's TCMU, as a program: the ring that it has with the kernel, and what all devices say.

The ring: Linux Documentation/target/tcmu-design.rst and include/uapi/linux/target_core_user.h. The commands: SPC-4.
It says what it does not know.
"""
import mmap
import os
import struct
import sys

# Sense key, ASC, ASCQ (SPC-4 annex "Numeric order codes").
INVALID_OPCODE = (5, 0x20, 0x00)
INVALID_FIELD = (5, 0x24, 0x00)


class Check(Exception):
    """A command ends in CHECK CONDITION with this sense, and brings this data nevertheless."""

    def __init__(self, key, asc, ascq, flags=0, information=None, data=b""):
        super().__init__()
        self.sense = sense_data(key, asc, ascq, flags, information)
        self.data = data


def sense_data(key, asc, ascq, flags=0, information=None):
    """SPC-4 fixed format sense data. The flags FILEMARK, EOM and ILI are in the byte of the key; with information, VALID."""
    code = 0x70 if information is None else 0xF0
    information = (information or 0) & 0xFFFFFFFF
    return struct.pack(">BBBIB4xBB4x", code, 0, flags | key, information, 10, asc, ascq)


def require(condition, sense):
    if not condition:
        raise Check(*sense)


def be16(data, at):
    return int.from_bytes(data[at : at + 2], "big")


def be24(data, at):
    return int.from_bytes(data[at : at + 3], "big")


def request_sense(cdb):
    """SPC-4 REQUEST SENSE: nothing is ever left to be told."""
    return sense_data(0, 0, 0)[: cdb[4]]


def inquiry(cdb, kind, identity, serial):
    """SPC-4 INQUIRY: a device of this type with removable media, and the pages 00h, 80h, 83h."""
    if cdb[1] & 1:
        designator = identity + serial  # T10 vendor ID based, in ASCII
        pages = {
            0x00: bytes([0x00, 0x80, 0x83]),
            0x80: serial,
            0x83: bytes([0x02, 0x01, 0, len(designator)]) + designator,
        }
        require(cdb[2] in pages, INVALID_FIELD)
        page = pages[cdb[2]]
        data = bytes([kind, cdb[2]]) + struct.pack(">H", len(page)) + page
    else:
        require(cdb[2] == 0, INVALID_FIELD)
        data = bytes([kind, 0x80, 0x06, 0x02, 31, 0, 0, 0]) + identity + b"1.00"
    return data[: be16(cdb, 3)]


class Ring:
    """The mailbox of struct tcmu_mailbox, and the commands in it."""

    PAD, COMMAND = 0, 1
    UNKNOWN_OP, READ_LEN = 1, 2
    HEAD, TAIL = 12, 64

    def __init__(self, uio):
        self.uio = os.open("/dev/" + uio, os.O_RDWR)
        with open(f"/sys/class/uio/{uio}/maps/map0/size") as file:
            self.map = mmap.mmap(self.uio, int(file.read(), 16))
        version, _, self.start, self.size = struct.unpack_from("=HHII", self.map)
        if version != 2:
            sys.exit(f"mailbox of version {version}")

    def serve(self, device):
        while True:
            self.drain(device)
            # Blocks until the kernel has rung since the last read (or the open).
            os.read(self.uio, 4)

    def drain(self, device):
        tail = self.word(self.TAIL)
        while tail != self.word(self.HEAD):
            entry = self.start + tail
            length = self.word(entry) & ~7
            self.answer(entry, device)
            tail = (tail + length) % self.size
            # In native order, so that it is one store.
            struct.pack_into("I", self.map, self.TAIL, tail)
            os.write(self.uio, bytes(4))

    def word(self, at):
        return struct.unpack_from("I", self.map, at)[0]

    def answer(self, entry, device):
        operation = self.word(entry) & 7
        if operation == self.PAD:
            return
        if operation != self.COMMAND:
            self.map[entry + 7] |= self.UNKNOWN_OP
            print("unknown operation", operation, flush=True)
            return
        # struct tcmu_cmd_entry: the request's fields, which the response overwrites.
        vectors = self.word(entry + 8)
        (cdb_at,) = struct.unpack_from("Q", self.map, entry + 24)
        places = [struct.unpack_from("QQ", self.map, entry + 48 + 16 * i) for i in range(vectors)]
        status, sense = 0, bytes(18)
        cdb = self.map[cdb_at : cdb_at + 16]
        try:
            # What a command brings and what it takes have the same place; the device knows which it is.
            data = device.execute(cdb, lambda: b"".join(self.map[at : at + room] for at, room in places))
        except Check as check:
            status, sense, data = 2, check.sense, check.data
            print("refused", cdb[0:12].hex(" "), sense[2:14].hex(" "), flush=True)
        given = 0
        for at, room in places:
            piece = data[given : given + room]
            self.map[at : at + len(piece)] = piece
            given += len(piece)
        if given:
            # With CHECK CONDITION, this makes the kernel take the data all the same.
            self.map[entry + 7] |= self.READ_LEN
        struct.pack_into("=BxxxI96s", self.map, entry + 8, status, given, sense)
