#!/usr/bin/python3
"""changer.py UIO: a medium changer behind Linux's TCMU, on the user backstore of /dev/UIO; it remembers as long as it runs.

The commands: SMC-3 and SPC-4. It says what it moves.
"""
import struct
import sys

from tcmu import INVALID_FIELD, INVALID_OPCODE, Ring, be16, be24, inquiry, request_sense, require

# Sense key, ASC, ASCQ (SPC-4 annex "Numeric order codes"; SMC-3 MOVE MEDIUM).
INVALID_ELEMENT = (5, 0x21, 0x01)
NOT_SAVED = (5, 0x39, 0x00)
DESTINATION_FULL = (5, 0x3B, 0x0D)
SOURCE_EMPTY = (5, 0x3B, 0x0E)


class Changer:
    """The commands, and where each medium is."""

    # Element type codes (SMC-3 READ ELEMENT STATUS), and the first address and number of each.
    PICKER, SLOT, PORT, DRIVE = 1, 2, 3, 4
    ELEMENTS = {PICKER: (1, 1), SLOT: (0x400, 4), PORT: (0x10, 1), DRIVE: (0x100, 2)}
    IDENTITY = b"XENLAB  " + b"CHANGER MODEL".ljust(16)
    SERIAL = b"LABCH001"

    def __init__(self):
        self.type_of = {first + i: kind for kind, (first, n) in self.ELEMENTS.items() for i in range(n)}
        # Element: its medium's bar code, and the slot that the medium has been moved from, if any.
        self.media = {0x400 + i: (b"LAB%03dL5" % (i + 1), None) for i in range(3)}
        self.commands = {
            0x00: lambda cdb: b"",  # TEST UNIT READY
            0x03: request_sense,
            0x07: lambda cdb: b"",  # INITIALIZE ELEMENT STATUS: it always knows
            0x12: lambda cdb: inquiry(cdb, 0x08, self.IDENTITY, self.SERIAL),
            0x1A: self.mode_sense_6,
            0x1E: lambda cdb: b"",  # PREVENT ALLOW MEDIUM REMOVAL: nobody is at the port
            0x2B: self.position_to_element,
            0x5A: self.mode_sense_10,
            0xA5: self.move_medium,
            0xB8: self.read_element_status,
        }

    def execute(self, cdb, _received):
        """The command's data, no more than it has room for; no command of these takes any."""
        require(cdb[0] in self.commands, INVALID_OPCODE)
        return self.commands[cdb[0]](cdb)

    def mode_sense_6(self, cdb):
        """SPC-4 MODE SENSE (6), mode parameter header (6): no block descriptors, as of all changers."""
        pages = self.mode_pages(cdb)
        return (bytes([3 + len(pages), 0, 0, 0]) + pages)[: cdb[4]]

    def mode_sense_10(self, cdb):
        """SPC-4 MODE SENSE (10), mode parameter header (10)."""
        pages = self.mode_pages(cdb)
        return (struct.pack(">H", 6 + len(pages)) + bytes(6) + pages)[: be16(cdb, 7)]

    def mode_pages(self, cdb):
        control, page = cdb[2] >> 6, cdb[2] & 0x3F
        require(control != 3, NOT_SAVED)
        require(page in (0x1D, 0x1F, 0x3F) and cdb[3] in (0, 0xFF), INVALID_FIELD)
        # SMC-3 Element Address Assignment mode page: first address and number of pickers, slots, ports, drives.
        addresses = b"".join(struct.pack(">HH", *self.ELEMENTS[kind]) for kind in sorted(self.ELEMENTS)) + bytes(2)
        # SMC-3 Device Capabilities mode page: slot, port and drive (0Eh) store media, and each moves them to all three.
        capabilities = bytes([0x0E, 0, 0, 0, 0x00, 0x0E, 0x0E, 0x0E]) + bytes(10)
        pages = b""
        for code, values in ((0x1D, addresses), (0x1F, capabilities)):
            if page in (code, 0x3F):
                pages += bytes([code, len(values)]) + (bytes(len(values)) if control == 1 else values)
        return pages

    def picker(self, address):
        """0 is the one that the changer likes best (SMC-3 MOVE MEDIUM)."""
        require(address == 0 or self.type_of.get(address) == self.PICKER, INVALID_ELEMENT)

    def position_to_element(self, cdb):
        """SMC-3 POSITION TO ELEMENT."""
        self.picker(be16(cdb, 2))
        require(be16(cdb, 4) in self.type_of, INVALID_ELEMENT)
        return b""

    def move_medium(self, cdb):
        """SMC-3 MOVE MEDIUM."""
        source, destination = be16(cdb, 4), be16(cdb, 6)
        self.picker(be16(cdb, 2))
        require(cdb[10] & 1 == 0, INVALID_FIELD)  # INVERT
        for element in (source, destination):
            require(self.type_of.get(element, self.PICKER) != self.PICKER, INVALID_ELEMENT)
        require(source in self.media, SOURCE_EMPTY)
        require(destination == source or destination not in self.media, DESTINATION_FULL)
        code, slot = self.media.pop(source)
        self.media[destination] = (code, source if self.type_of[source] == self.SLOT else slot)
        print("moved", code.decode(), source, destination, flush=True)
        return b""

    def read_element_status(self, cdb):
        """SMC-3 READ ELEMENT STATUS: a page for each type that has elements in the range."""
        with_code, wanted = cdb[1] & 0x10, cdb[1] & 0x0F
        require(wanted <= self.DRIVE, INVALID_FIELD)
        found = [a for a in sorted(self.type_of) if a >= be16(cdb, 2) and wanted in (0, self.type_of[a])]
        found = found[: be16(cdb, 4)]
        report = b""
        for kind in sorted(self.ELEMENTS):
            elements = [self.descriptor(a, kind, with_code) for a in found if self.type_of[a] == kind]
            if elements:
                body = b"".join(elements)
                header = bytes([kind, 0x80 if with_code else 0]) + struct.pack(">HI", len(elements[0]), len(body))
                report += header + body
        header = struct.pack(">HHI", found[0] if found else 0, len(found), len(report))
        return (header + report)[: be24(cdb, 7)]

    def descriptor(self, address, kind, with_code):
        """SMC-3 READ ELEMENT STATUS, element descriptors of all four types."""
        code, slot = self.media.get(address, (b"", None))
        # FULL; ACCESS of all but the picker; EXENAB and INENAB of the port.
        flags = (address in self.media) | {self.PICKER: 0, self.PORT: 0x38}.get(kind, 0x08)
        data = struct.pack(">HBBBB3x", address, flags, 0, 0, 0)
        data += struct.pack(">BH", 0 if slot is None else 0x80, slot or 0)  # SVALID
        if with_code:
            data += code.ljust(32) + bytes(4) if code else bytes(36)  # the tag and its sequence number
        return data + bytes(4)  # no identifier


Ring(sys.argv[1]).serve(Changer())
