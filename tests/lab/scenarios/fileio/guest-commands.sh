# guest-commands.sh: commands to a disk of 64 MiB, and what they say; for LIO's disk in dom0 and ours in a guest. A line of a table has a
# name, what LIO's disk answers, what ours does, the data (- for none; a number of bytes to read; a file's name and a number of bytes to
# write), and the CDB.
#
# Answers: good; met (CONDITION MET); refused (ILLEGAL REQUEST); differs (MISCOMPARE).

# What both have. The bytes of the two disks are the same in the end.
COMMON="
test-unit-ready good good - 00 00 00 00 00 00
request-sense good good 18 03 00 00 00 12 00
inquiry good good 96 12 00 00 00 60 00
vpd-pages good good 96 12 01 00 00 60 00
vpd-serial-number good good 96 12 01 80 00 60 00
vpd-identification good good 255 12 01 83 00 ff 00
vpd-extended-inquiry good good 64 12 01 86 00 40 00
vpd-block-limits good good 64 12 01 b0 00 40 00
vpd-characteristics good good 64 12 01 b1 00 40 00
vpd-provisioning good good 64 12 01 b2 00 40 00
report-luns good good 64 a0 00 00 00 00 00 00 00 00 40 00 00
read-capacity-10 good good 8 25 00 00 00 00 00 00 00 00 00
read-capacity-16 good good 32 9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00
start good good - 1b 01 00 00 01 00
mode-sense-6 good good 24 1a 08 08 00 18 00
mode-sense-10 good good 28 5a 08 08 00 00 00 00 00 1c 00
mode-sense-all good good 255 1a 00 3f 00 ff 00
mode-select-6 good good mode6 24 15 10 00 00 18 00
mode-select-10 good good mode10 28 55 10 00 00 00 00 00 00 1c 00
write-6 good good numbers 2048 0a 00 00 10 04 00
write-10 good good numbers 4096 2a 00 00 00 01 00 00 00 08 00
write-10-fua good good ones 512 2a 08 00 00 01 10 00 00 01 00
write-12 good good numbers 65536 aa 00 00 00 02 00 00 00 00 80 00 00
write-16 good good numbers 131072 8a 00 00 00 00 00 00 00 04 00 00 00 01 00 00 00
write-and-verify-10 good good numbers 4096 2e 00 00 00 06 00 00 00 08 00
write-and-verify-16 good good numbers 4096 8e 00 00 00 00 00 00 00 07 00 00 00 00 08 00 00
write-last-block good good ones 512 2a 00 00 01 ff ff 00 00 01 00
write-beyond-end refused refused ones 512 2a 00 00 02 00 00 00 00 01 00
read-6 good good 2048 08 00 00 10 04 00
read-10 good good 4096 28 00 00 00 01 00 00 00 08 00
read-10-fua good good 4096 28 08 00 00 01 00 00 00 08 00
read-10-none good good - 28 00 00 00 01 00 00 00 00 00
read-12 good good 65536 a8 00 00 00 02 00 00 00 00 80 00 00
read-16 good good 131072 88 00 00 00 00 00 00 00 04 00 00 00 01 00 00 00
read-beyond-end refused refused 512 28 00 00 02 00 00 00 00 01 00
verify-10 good good - 2f 00 00 00 01 00 00 00 08 00
verify-16 good good - 8f 00 00 00 00 00 00 00 01 00 00 00 00 08 00 00
verify-10-of-data good good numbers 4096 2f 02 00 00 01 00 00 00 08 00
write-same-10 good good ones 512 41 00 00 00 08 00 00 00 40 00
write-same-16 good good numbers 512 93 00 00 00 00 00 00 00 09 00 00 00 00 40 00 00
write-same-of-none refused refused ones 512 41 00 00 00 08 00 00 00 00 00
compare-and-write good good zeroes-ones 1024 89 00 00 00 00 00 00 00 0a 00 00 00 00 01 00 00
compare-and-write-again differs differs zeroes-ones 1024 89 00 00 00 00 00 00 00 0a 00 00 00 00 01 00 00
synchronize-cache-10 good good - 35 00 00 00 00 00 00 00 00 00
synchronize-cache-16 good good - 91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
reserve-6 good good - 16 00 00 00 00 00
release-6 good good - 17 00 00 00 00 00
reserve-10 good good - 56 00 00 00 00 00 00 00 00 00
release-10 good good - 57 00 00 00 00 00 00 00 00 00
pr-capabilities good good 8 5e 02 00 00 00 00 00 00 08 00
pr-register good good key-new 24 5f 00 00 00 00 00 00 00 18 00
pr-keys good good 64 5e 00 00 00 00 00 00 00 40 00
pr-reserve good good key-old 24 5f 01 05 00 00 00 00 00 18 00
pr-reservation good good 64 5e 01 00 00 00 00 00 00 40 00
pr-full-status good good 255 5e 03 00 00 00 00 00 00 ff 00
pr-write good good ones 512 2a 00 00 00 0b 00 00 00 01 00
pr-release good good key-old 24 5f 02 05 00 00 00 00 00 18 00
pr-register-and-ignore good good key-new 24 5f 06 00 00 00 00 00 00 18 00
pr-clear good good key-old 24 5f 03 00 00 00 00 00 00 18 00
vendors-opcode refused refused - c1 00 00 00 00 00
"

# What only one of them has, or does.
APART="
request-sense-descriptor refused good 8 03 01 00 00 08 00
start-and-wait refused good - 1b 00 00 00 01 00
stop refused good - 1b 01 00 00 00 00
report-opcodes refused good 512 a3 0c 00 00 00 00 00 00 02 00 00 00
report-one-opcode refused good 64 a3 0c 01 28 00 00 00 00 00 40 00 00
report-task-management refused good 4 a3 0d 00 00 00 00 00 00 00 04 00 00
log-sense refused good 64 4d 00 40 00 00 00 00 00 40 00
get-lba-status refused good 24 9e 12 00 00 00 00 00 00 0c 00 00 00 00 18 00 00
pre-fetch-10 refused met - 34 00 00 00 01 00 00 00 08 00
pre-fetch-16 refused met - 90 00 00 00 00 00 00 00 01 00 00 00 00 08 00 00
orwrite refused good ones 512 8b 00 00 00 00 00 00 00 0c 00 00 00 00 01 00 00
compare-and-write-two refused good zeroes-ones-two 2048 89 00 00 00 00 00 00 00 0d 00 00 00 00 02 00 00
unmap refused good descriptor 24 42 00 00 00 00 00 00 00 18 00
write-same-10-unmap refused good zeroes 512 41 08 00 00 08 00 00 00 40 00
write-same-16-unmap refused good zeroes 512 93 08 00 00 00 00 00 00 09 00 00 00 00 40 00 00
write-same-16-without-data refused good - 93 01 00 00 00 00 00 00 09 00 00 00 00 40 00 00
write-and-verify-12 refused good numbers 4096 ae 00 00 00 06 00 00 00 00 08 00 00
verify-12 refused good - af 00 00 00 01 00 00 00 00 08 00 00
verify-10-of-other-data good differs ones 4096 2f 02 00 00 01 00 00 00 08 00
verify-16-of-other-data good differs ones 4096 8f 02 00 00 00 00 00 00 01 00 00 00 00 08 00 00
write-atomic refused refused numbers 4096 9c 00 00 00 00 00 00 00 0e 00 00 00 00 08 00 00
seek good refused - 2b 00 00 00 00 08 00 00 00 00
rezero-unit good refused - 01 00 00 00 00 00
vpd-referrals good refused 64 12 01 b3 00 40 00
report-target-port-groups good refused 64 a3 0a 00 00 00 00 00 00 00 40 00 00
extended-copy-of-nothing good refused - 83 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
receive-copy-results good refused 64 84 03 00 00 00 00 00 00 00 00 00 00 00 40 00 00
"

# numbers: bytes that printf makes of hexadecimal numbers.
numbers() { printf "$(printf '\\x%s' "$@")"; }
# data: the files that commands write.
data() {
	mkdir -p /tmp/data
	pattern fileio 131072 > /tmp/data/numbers
	head -c 4096 /dev/zero > /tmp/data/zeroes
	tr '\0' '\377' < /tmp/data/zeroes > /tmp/data/ones
	{ head -c 512 /tmp/data/zeroes && head -c 512 /tmp/data/ones; } > /tmp/data/zeroes-ones
	{ head -c 1024 /tmp/data/zeroes && head -c 1024 /tmp/data/ones; } > /tmp/data/zeroes-ones-two
	{ head -c 8 /tmp/data/zeroes && numbers a b c d e f 1 2 && head -c 8 /tmp/data/zeroes; } > /tmp/data/key-new
	{ numbers a b c d e f 1 2 && head -c 16 /tmp/data/zeroes; } > /tmp/data/key-old
	# 8 blocks at 0x100.
	numbers 0 16 0 10 0 0 0 0 0 0 0 0 0 0 1 0 0 0 0 8 0 0 0 0 > /tmp/data/descriptor
}
# modes SG: the caching page as the disk has it, for MODE SELECT: the header has no length, and no device-specific parameter.
modes() {
	sg_raw -r 24 -o /tmp/data/sense $1 1a 08 08 00 18 00 && { head -c 4 /dev/zero && tail -c +5 /tmp/data/sense; } > /tmp/data/mode6
	sg_raw -r 28 -o /tmp/data/sense $1 5a 08 08 00 00 00 00 00 1c 00 && { head -c 8 /dev/zero && tail -c +9 /tmp/data/sense; } > /tmp/data/mode10
}

# answer SG DATA... CDB: in a word, what the disk says; otherwise all of it.
answer() {
	local sg=$1 options=
	shift
	case $1 in
	-) shift ;;
	[0-9]*) options="-r $1" && shift ;;
	*) options="-s $2 -i /tmp/data/$1" && shift 2 ;;
	esac
	sg_raw $options $sg "$@" > /tmp/raw 2>&1
	case $(cat /tmp/raw) in
	*"Status: Good"*) echo good ;;
	*"Condition Met"*) echo met ;;
	*"Illegal Request"*) echo refused ;;
	*Miscompare*) echo differs ;;
	*) tr '\n' ' ' < /tmp/raw ;;
	esac
}

# answers WHO SG TABLE: a check for each command; WHO is lio or ours.
answers() {
	echo "$3" | while read -r name lio ours rest; do
		[ -n "$name" ] || continue
		case $1 in lio) expected=$lio ;; ours) expected=$ours ;; esac
		same $1-$name $expected "$(answer $2 $rest)"
	done
}
