# guest-tape.sh: the tape drive of the library in the guest: archives of different records go to its tape, and come back.
drive_there() { ls -d /sys/bus/scsi/devices/*:0:1:0/scsi_tape/nst[0-9]; }
check tape-is-there within 30 drive_there
TAPE=/dev/$(basename $(drive_there))
check tape-has-its-node within 20 test -c $TAPE
. /lab/scenario/guest-archives.sh

# tree DIR SEED: files that differ with the seed: one of a MiB, which repeats nothing, some that are shorter, an empty one, a link.
tree() {
	local size
	mkdir -p $1/some
	seq ${2}000000 ${2}140000 > $1/numbers
	for size in 0 1 511 512 513 10240 65537; do pattern $2-$size $size > $1/some/$size; done
	ln -s some/$2 $1/link
}
# status NAME WORDS: words of what mt says of the drive.
status() {
	mt status > /tmp/status 2>&1
	check $1 grep "$2" /tmp/status
}
# blocks DIR BLOCKING: how many blocks of 512 bytes an archive of this directory has.
blocks() { echo $(($(/usr/bin/tar -c -b $2 -C $1 . | wc -c) / 512)); }

for seed in 1 2 3 4 5 6 7; do tree /tmp/tree/$seed $seed; done
sum() { contents /tmp/tree/$1; }

check tape-rewinds mt rewind
status tape-tells-the-beginning "BOT"
check tape-takes-any-records mt setblk 0
check tape-writes-256 archive -c -b 512 -C /tmp/tree/1 .
check tape-writes-10 archive -c -b 20 -C /tmp/tree/2 .
check tape-writes-64 archive -c -b 128 -C /tmp/tree/3 .
expected=$(($(blocks /tmp/tree/1 512) / 512 + $(blocks /tmp/tree/2 20) / 20 + $(blocks /tmp/tree/3 128) / 128 + 3))
same tape-has-a-record-for-each "At block $expected." "$(mt tell)"
check tape-goes-two-files-on eval "mt rewind && mt fsf 2"
status tape-tells-the-file "File number=2, block number=0"
same tape-has-the-third "$(sum 3)" "$(extracted 128)"
check tape-goes-back eval "mt rewind && mt fsf 2 && mt bsfm 2"
same tape-has-the-second "$(sum 2)" "$(extracted 20)"
check tape-goes-to-the-end mt eod
status tape-tells-the-end "EOD"
same tape-ends-there "At block $expected." "$(mt tell)"
check tape-appends archive -c -b 1016 -C /tmp/tree/4 .
same tape-appends-whole-records "At block $((expected + 1 + $(blocks /tmp/tree/4 1016) / 1016))." "$(mt tell)"

check tape-takes-fixed-blocks eval "mt eod && mt setblk 512"
check tape-writes-fixed-256 archive -c -b 512 -C /tmp/tree/5 .
check tape-writes-fixed-10 archive -c -b 20 -C /tmp/tree/6 .
at=$(mt tell | tr -cd 0-9)
check tape-appends-fixed-64 eval "mt rewind && mt eod && archive -c -b 128 -C /tmp/tree/7 ."
same tape-has-all-fixed-blocks "At block $((at + 1 + $(blocks /tmp/tree/7 128)))." "$(mt tell)"

sums=$(for seed in 1 2 3 4 5 6 7; do sum $seed; done)
extracts tape-extracts "$sums"
# A record that is longer than tar's buffer is no archive.
mt setblk 0 && mt rewind
if archive -t -b 20 > /tmp/tar.said 2>&1; then fail tape-longer-record-fails "$(cat /tmp/tar.said)"; else
	check tape-longer-record-fails grep "Cannot allocate memory" /tmp/tar.said
fi
mt rewind
xenstore-write data/sums "$(echo $sums)"
