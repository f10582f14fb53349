# The drive tells a guest what it tells dom0; then files of records of several lengths go to the tape and come back.
drive_there() { ls -d /sys/bus/scsi/devices/*:0:0:0/scsi_tape/nst[0-9] && ls -d /sys/bus/scsi/devices/*:0:0:0/scsi_generic/sg*; }
meet up
check guest-has-a-tape within 20 drive_there
SG=/dev/$(ls /sys/bus/scsi/devices/*:0:0:0/scsi_generic)
TAPE=/dev/$(basename /sys/bus/scsi/devices/*:0:0:0/scsi_tape/nst[0-9])

answered() {
	local expected
	eval "expected=\$answer_$(echo $1 | tr - _)"
	if [ -z "$expected" ]; then fail $1 "dom0 has not asked"; else same $1 "$expected" "$3"; fi
}
. /lab/scenario/guest-commands.sh
ask

# status NAME WORD: a word of what mt says of the drive.
status() {
	mt status > /tmp/status 2>&1
	check $1 grep -w "$2" /tmp/status
}
# records BYTES COUNT: each has its number.
records() { for number in $(seq $2); do record $1 $number; done; }
sum() { md5sum < $1 | cut -d' ' -f1; }

mt rewind
status mt-tells-the-beginning BOT
check mt-sets-variable-blocks mt setblk 0
# A file of eight records and its mark, of each length; 508 KiB is what a guest's command can have.
for kib in 10 64 256 508; do
	records $((kib * 1024)) 8 > /tmp/$kib
	check write-$kib dd if=/tmp/$kib of=$TAPE bs=${kib}k
done
same all-records-are-there "At block 36." "$(mt tell)"
# read_back KIB FILE
read_back() {
	mt rewind && mt fsf $2
	dd if=$TAPE of=/tmp/back bs=${1}k 2> /tmp/said
	same records-$1 "8+0 records in" "$(grep in /tmp/said)"
	same data-$1 $(sum /tmp/$1) $(sum /tmp/back)
}
read_back 508 3
read_back 64 1
read_back 10 0
read_back 256 2
status mt-tells-a-filemark EOF
check mt-spaces-to-the-end mt eod
status mt-tells-the-end EOD
check mt-seeks mt seek 20
same mt-tells-its-position "At block 20." "$(mt tell)"

# What is too large for a command is refused as a whole. The driver writes its mark all the same; sg does nothing.
mt eod
for kib in 512 1024; do
	if dd if=/dev/zero of=$TAPE bs=${kib}k count=1 2> /tmp/said; then fail $kib-is-too-large "$(cat /tmp/said)"; else
		check $kib-is-too-large grep -e "Device or resource busy" -e "Invalid argument" /tmp/said
	fi
	mt bsf 1
	dd if=$TAPE of=/tmp/back bs=508k 2> /tmp/said
	same $kib-leaves-no-record "0+0 records in" "$(grep in /tmp/said)"
	at=$(mt tell)
	sg_raw -s $((kib * 1024)) -i /dev/zero $SG 0a 00 $(printf '%02x' $((kib / 64))) 00 00 00 > /tmp/said 2>&1
	check $kib-is-too-large-for-sg grep "Invalid argument" /tmp/said
	same $kib-by-sg-leaves-no-record "$at" "$(mt tell)"
done

check mt-sets-fixed-blocks mt setblk 512
mt rewind
records 512 64 > /tmp/fixed
check write-fixed dd if=/tmp/fixed of=$TAPE bs=16k
same all-fixed-blocks-are-there "At block 65." "$(mt tell)"
mt rewind
dd if=$TAPE of=/tmp/back bs=16k 2> /tmp/said
same data-fixed $(sum /tmp/fixed) $(sum /tmp/back)
mt rewind
check mt-erases mt erase
check mt-compresses mt compression 1
same guest-has-no-complaint "" "$(complaints)"
