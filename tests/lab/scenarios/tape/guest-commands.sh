# What the drive is asked: first by dom0, then by the guest, to whom it must say the same. Each side has its own
# answered NAME PATTERN ANSWER. Patterns in hex are the sense data: its flags (80h filemark, 40h end of medium, 20h ILI) and key, and
# its information, as SSC-5 4.2.23 and the clause of each command want them.

# Not busybox's, which its shell would take.
mt() { /usr/bin/mt -f "$TAPE" "$@"; }

# asks NAME PATTERN ARGS...: one command, its answer on one line, with the sum of the data that it brought.
asks() {
	local name=$1 pattern=$2
	shift 2
	answered "$name" "$pattern" "$(raw "$@")"
}
raw() {
	rm -f /tmp/raw
	sg_raw -v -o /tmp/raw "$@" 2>&1 | grep -v '^$' | tr -s '\n ' ' '
	[ ! -s /tmp/raw ] || md5sum < /tmp/raw | cut -d' ' -f1
}
rewind() { sg_raw $SG 01 00 00 00 00 00 > /tmp/rewound 2>&1; }
# blocks NAME BYTE: sets the block length to this many times 256 bytes; 0 is for records of any length.
blocks() {
	printf "\0\0\020\010\0\0\0\0\0\0\\$2\0" > /tmp/mode
	asks $1 Good -s 12 -i /tmp/mode $SG 15 10 00 00 0c 00
}
# The drive keeps the first four bytes of a record and gives zeros for the others.
record() { printf %04d "$2" && head -c $(($1 - 4)) /dev/zero; }

# ask: SG and TAPE are the nodes of the drive.
ask() {
	# What it has to say of its start.
	within 5 sg_turs $SG
	record 10240 1 > /tmp/record
	rewind
	blocks takes-variable-blocks 0
	asks writes Good -s 10240 -i /tmp/record $SG 0a 00 00 28 00 00
	asks writes-a-filemark Good $SG 10 00 00 00 01 00
	asks knows-its-position Good -r 20 $SG 34 00 00 00 00 00 00 00 00 00
	rewind
	asks reads Good -r 10240 $SG 08 00 00 28 00 00
	asks tells-a-filemark "f0 00 80 00 00 28 00" -r 10240 $SG 08 00 00 28 00 00
	asks tells-the-end-of-data "f0 00 08 00 00 28 00" -r 10240 $SG 08 00 00 28 00 00
	rewind
	asks tells-a-longer-record "f0 00 20 ff ff e8 00" -r 4096 $SG 08 00 00 10 00 00
	rewind
	asks tells-a-shorter-record "f0 00 20 00 00 d8 00" -r 65536 $SG 08 00 01 00 00 00
	rewind
	asks tells-no-length-with-sili "Writing 10240 bytes" -r 65536 $SG 08 02 01 00 00 00
	rewind
	asks spaces-over-blocks Good $SG 11 00 00 00 01 00
	asks spacing-tells-a-filemark "f0 00 80 00 00 00 03" $SG 11 00 00 00 03 00
	asks spacing-tells-the-end-of-data "f0 00 08 00 00 00 05" $SG 11 01 00 00 05 00
	asks spacing-tells-the-beginning "f0 00 40 00 00 00 01" $SG 11 01 ff ff fe 00

	rewind
	blocks takes-fixed-blocks 2
	asks writes-fixed-blocks Good -s 8192 -i /tmp/record $SG 0a 01 00 00 10 00
	asks marks-fixed-blocks Good $SG 10 00 00 00 01 00
	rewind
	asks reads-fixed-blocks Good -r 4096 $SG 08 01 00 00 08 00
	asks fixed-blocks-end-at-a-filemark "f0 00 80 00 00 00 06" -r 7168 $SG 08 01 00 00 0e 00
	asks fixed-blocks-end-with-the-data "f0 00 08 00 00 00 01" -r 512 $SG 08 01 00 00 01 00
	rewind
	sg_raw -s 10240 -i /tmp/record $SG 0a 00 00 28 00 00 > /tmp/said 2>&1
	rewind
	asks tells-no-fixed-block "f0 00 20 00 00 00 04" -r 2048 $SG 08 01 00 00 04 00
	blocks takes-variable-blocks-again 0

	asks has-mode-pages Good -r 255 $SG 1a 00 3f 00 ff 00
	asks has-mode-pages-10 Good -r 255 $SG 5a 00 3f 00 00 00 00 00 ff 00
	asks has-log-pages Good -r 255 $SG 4d 00 40 00 00 00 00 00 ff 00
	asks has-block-limits Good -r 6 $SG 05 00 00 00 00 00
	# Unlike better drives.
	asks has-no-attributes "Invalid command operation code" -r 255 $SG 8c 00 00 00 00 00 00 00 00 00 00 00 00 ff 00 00
	asks has-no-densities "Invalid command operation code" -r 255 $SG 44 00 00 00 00 00 00 00 ff 00

	# A tape of 10000 records and marks; its last 20 are behind the early warning.
	rewind
	sg_raw $SG 10 00 00 26 fb 00 > /tmp/said 2>&1
	asks writes-before-the-end Good -s 10240 -i /tmp/record $SG 0a 00 00 28 00 00
	asks warns-of-the-end "f0 00 40 00 00 28 00" -s 10240 -i /tmp/record $SG 0a 00 00 28 00 00
	asks writes-behind-the-warning Good -s 10240 -i /tmp/record $SG 0a 00 00 28 00 00
	sg_raw $SG 10 00 00 00 10 00 > /tmp/said 2>&1
	asks tells-the-end-of-the-tape "f0 00 4d 00 00 28 00" -s 10240 -i /tmp/record $SG 0a 00 00 28 00 00
	rewind

	# The same by the driver: the record that was warned of is on the tape, and a mark behind it.
	mt rewind && mt weof 9979
	answered driver-stops-at-the-warning "1+0 records out" \
		"$(dd if=/dev/zero of=$TAPE bs=10k count=5 2>&1 | grep records | tr '\n' ' ')"
	answered driver-is-behind-the-warning 9982 "$(mt tell)"
	mt rewind
}
