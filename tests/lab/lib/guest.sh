# guest.sh: the verbs of a scenario's guest scripts. Runs as PID 1 of the guest, under busybox sh.
. /lab/lib/check.sh
. /lab/facts

emit() { echo "$1"; }

lab_main() {
	say "guest up after $(cut -d' ' -f1 /proc/uptime) s"
	. "/lab/scenario/$lab_script"
	say "guest done after $(cut -d' ' -f1 /proc/uptime) s"
}

# disk TARGET [LUN]: waits for the disk 0:TARGET:LUN of whatever SCSI host the frontend has now; sets DISK and SG.
disk() {
	DISK=none SG=none
	within 20 find_disk "$1:${2:-0}" || return 1
	DISK=/dev/$(ls /sys/bus/scsi/devices/*:0:"$1:${2:-0}"/block)
	SG=/dev/$(ls /sys/bus/scsi/devices/*:0:"$1:${2:-0}"/scsi_generic)
}
find_disk() { ls -d /sys/bus/scsi/devices/*:0:"$1"/block/* && ls -d /sys/bus/scsi/devices/*:0:"$1"/scsi_generic/*; }

# meet PLACE: tells dom0 where we are and waits until it says go. stopped PLACE: whether it has said so.
meet() {
	xenstore-write data/lab-at "$1"
	within 200 stopped "$1"
}
stopped() { [ "$(xenstore-read data/lab-go 2> /dev/null)" = "$1" ]; }

# verify DISK BS SIZE [OPTIONS]: random writes, then each is read back and compared.
verify() {
	fio --name=verify --filename="$1" --bs="$2" --size="$3" --rw=randwrite --verify=crc32c --verify_fatal=1 --do_verify=1 \
		--direct=1 --ioengine=libaio --iodepth=16 --output-format=terse ${4:-}
}

# verifies NAME COMMAND...: a check that verifying DISK goes well again and again until the command succeeds; dom0 may look at
# the number of rounds. Slowly, and seldom from the start, which costs most, or nothing else would get done.
verifies() {
	local name=$1 rounds=0
	shift
	until "$@"; do
		verify $DISK 64k 1m "--rate_iops=20 --loops=4" > /tmp/verify 2>&1 ||
			{ fail $name "round $rounds gave $?: $(cat /tmp/verify)" && return; }
		rounds=$((rounds + 4))
		xenstore-write data/lab-rounds $rounds
	done
	say "$name: $rounds rounds"
	if [ $rounds -gt 4 ]; then pass $name; else fail $name "$rounds rounds only"; fi
}

# away: unloads the frontend. xenbus holds the driver as long as a device is bound to it, so the device goes first.
away() {
	local device
	for device in /sys/bus/xen/drivers/vscsi/vscsi-*; do echo "${device##*/}" > /sys/bus/xen/drivers/vscsi/unbind; done
	[ -z "$(ls /sys/bus/scsi/devices)" ] && rmmod xen-scsifront && [ ! -e /sys/module/xen_scsifront ]
}
back_again() { insmod /lib/modules/xen-scsifront.ko; }

# verify_until PLACE KIND NAME: a check that $DISK can be verified again and again until dom0 says go; dom0 finds in data/lab-KIND
# how often.
verify_until() {
	local rounds=0
	until stopped "$1"; do
		verify "$DISK" 64k 2m > "/tmp/verify-$2" 2>&1 || { fail "$3" "round $rounds gave $?: $(cat "/tmp/verify-$2")" && return; }
		rounds=$((rounds + 1))
		xenstore-write "data/lab-$2" $rounds
	done
	say "verified $2 $rounds times"
	[ $rounds -gt 1 ] && pass "$3"
}

# says NAME PATTERN CDB...: a check that sg_raw tells this of a device's answer.
says() {
	local name=$1 pattern=$2
	shift 2
	sg_raw "$@" > /tmp/raw 2>&1
	if grep -qi "$pattern" /tmp/raw; then pass $name; else fail $name "$(cat /tmp/raw)"; fi
}

# complaints: what a guest's kernel says when its backend breaks the rules or a device fails.
complaints() {
	dmesg | grep -iE \
		-e 'xen-scsifront.*(error|fail)|still in use|disabling device|illegal rqid|bogus|i/o error|sense key|timing out' \
		-e 'task abort|rejecting|synchronize cache.*failed|offline|protocol error'
}

# pattern SEED BYTES: the same bytes for the same seed.
pattern() { yes "the lab's pattern $1" | head -c "$2"; }
