# The changer in the guest: each command must say what it has said in dom0, and move what it says.
changer_there() { ls -d /sys/bus/scsi/devices/*:0:0:0/scsi_generic/sg*; }
check changer-is-there within 30 changer_there
DEVICE=$(ls -d /sys/bus/scsi/devices/*:0:0:0)
same type-is-changer 8 "$(cat $DEVICE/type)"
check its-driver-has-it within 20 test -c /dev/sch0
SG=/dev/$(ls $DEVICE/scsi_generic)
ln -s $SG /tmp/changer

MTX="mtx -f /tmp/changer"

# as_dom0 NAME COMMAND...: the command says what it has said there, byte for byte, and ends in the same way.
as_dom0() {
	local name=$1 there
	shift
	there="/lab/$(echo "$*" | tr ' /' --)"
	{ "$@" && echo "exit 0" || echo "exit $?"; } > /tmp/said 2>&1
	if cmp -s "$there" /tmp/said; then pass $name; else fail $name "$(diff "$there" /tmp/said)"; fi
}
# shows NAME LINE: a line of the status, from its start; blanks fill a volume tag up.
shows() {
	$MTX status > /tmp/status 2>&1
	if grep -q "^ *$2 *\$" /tmp/status; then pass $1; else fail $1 "$(cat /tmp/status)"; fi
}

as_dom0 inquiry-as-in-dom0 $MTX inquiry
as_dom0 status-as-in-dom0 $MTX status
as_dom0 identification-as-in-dom0 sg_vpd --page=0x83 /tmp/changer
as_dom0 addresses-as-in-dom0 sg_raw -r 255 /tmp/changer 1a 08 1d 00 ff 00
as_dom0 capabilities-as-in-dom0 sg_raw -r 255 /tmp/changer 1a 08 1f 00 ff 00

check loads $MTX load 1 0
shows drive-has-it "Data Transfer Element 0:Full (Storage Element 1 Loaded):VolumeTag = LAB001L5"
shows slot-is-empty "Storage Element 1:Empty"
check unloads $MTX unload 1 0
as_dom0 all-is-back $MTX status

as_dom0 empty-slot-fails-as-in-dom0 $MTX load 4 1
check empty-slot-is-named grep "Source Element Address 1027 is Empty" /tmp/said
as_dom0 full-slot-fails-as-in-dom0 $MTX transfer 1 2
check full-slot-is-named grep "Destination Element Address 1025 is Already Full" /tmp/said
as_dom0 no-such-slot-fails-as-in-dom0 $MTX transfer 2 9
as_dom0 sense-of-empty-as-in-dom0 sg_raw /tmp/changer a5 00 00 00 04 03 01 00 00 00 00 00
check sense-of-empty-is-clear grep -i "medium source element empty" /tmp/said
as_dom0 sense-of-full-as-in-dom0 sg_raw /tmp/changer a5 00 00 00 04 00 04 01 00 00 00 00
check sense-of-full-is-clear grep -i "medium destination element full" /tmp/said
as_dom0 sense-of-no-element-as-in-dom0 sg_raw /tmp/changer a5 00 00 00 04 00 02 00 00 00 00 00
as_dom0 nothing-has-moved $MTX status

check transfers $MTX transfer 1 4
shows transfer-is-seen "Storage Element 4:Full :VolumeTag=LAB001L5"
check exports $MTX transfer 2 5
shows export-is-seen "Storage Element 5 IMPORT/EXPORT:Full :VolumeTag=LAB002L5"
check takes-stock $MTX inventory
check picker-moves $MTX position 2
check door-locks sg_prevent --prevent=1 /tmp/changer
check door-opens sg_prevent --allow /tmp/changer
check fills-the-other-drive $MTX load 3 1
shows other-drive-has-it "Data Transfer Element 1:Full (Storage Element 3 Loaded):VolumeTag = LAB003L5"
xenstore-write data/status "$($MTX status | md5sum | cut -d' ' -f1)"
. /lab/scenario/guest-tape.sh
meet left
same guest-has-no-complaint "" "$(complaints)"
