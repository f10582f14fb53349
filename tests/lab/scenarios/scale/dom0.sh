# Four guests with four vhosts each. Time counts instructions here, and the devices take 8 ms for a command whatever else goes on: so the
# sum grows with the vhosts as long as the one processor has time left, and then nobody starves.
# Xen trusts the TSC of a machine of today, not that of an emulated one: it would emulate it for the guests.
TSC_MODE=native
# Seldom looked for: a program that starts is as dear as a thousand I/Os.
STEP=2
GUESTS='a b c d'
scsi_debug_load num_tgts=16 dev_size_mb=8 fake_rw=1 ndelay=8000000
all_there() { [ "$(behind scsi_debug 0 | wc -l)" = 16 ]; }
check sixteen-devices within 60 all_there
behind scsi_debug 0 > /tmp/devices

for name in $GUESTS; do
	case $name in a) phases='one four two all full' ;; b) phases='two all full' ;; *) phases='all full' ;; esac
	guest $name lab.phases=$(echo $phases | tr ' ' ,) 448
	for n in 0 1 2 3; do
		read -r hctl
		vhost $D $n
		vdev $D $n 0 $hctl $n:0:0:0
		vgo $D $n
	done
	serve $D
	eval "DOMAIN_$name=$D SERVER_$name=$SERVER"
	xl unpause $name
done < /tmp/devices

# domain GUEST, server GUEST
domain() { eval "echo \$DOMAIN_$1"; }
server() { eval "echo \$SERVER_$1"; }
iops() { xenstore-read "/local/domain/$(domain $1)/data/lab-$2"; }

# phase NAME GUESTS...: these do their work at once; sets SUM, and WORST: the slowest disk's share of the mean, in percent.
phase() {
	local name=$1 guest
	shift
	for guest in "$@"; do meets $(domain $guest) $name 1000; done
	for guest in "$@"; do go $(domain $guest) $name; done
	for guest in "$@"; do meets $(domain $guest) $name-done 1000; done
	for guest in "$@"; do iops $guest $name; done > /tmp/$name
	for guest in "$@"; do go $(domain $guest) $name-done; done
	SUM=$(awk '{ for (i = 1; i <= NF; i++) sum += $i } END { print sum + 0 }' /tmp/$name)
	WORST=$(awk '{ for (i = 1; i <= NF; i++) { if (!n++ || $i < least) least = $i; sum += $i } } END { printf "%d", 100 * least * n / sum }' /tmp/$name)
	say "$name: $(wc -w < /tmp/$name) vhosts, $SUM I/Os per second, the slowest disk has $WORST % of the mean: $(tr '\n' '|' < /tmp/$name)"
}
# at_least NAME FOUND BOUND
at_least() { if [ "$2" -ge "$3" ]; then pass $1; else fail $1 "$2, not $3 or more"; fi; }

phase one a
one=$SUM
for step in 'four 4 a' 'two 8 a b' 'all 16 a b c d'; do
	set -- $step
	name=$1 vhosts=$2
	shift 2
	phase $name "$@"
	at_least $name-grows $SUM $((one * vhosts * 80 / 100))
	at_least $name-nobody-starves $WORST 80
done
all=$SUM
# More than the processor can do.
phase full $GUESTS
at_least full-keeps-the-sum $SUM $all
at_least full-nobody-starves $WORST 80

for name in $GUESTS; do check $name-powers-off guest_gone $name 1000; done
for name in $GUESTS; do
	ended $(server $name) 60
	same $name-server-exits-0 0 "$STATUS"
	told $name
done
same nothing-left-in-xenstore "" "$(xenstore-ls /local/domain/0/backend/vscsi 2> /dev/null | grep -v '^$')"
