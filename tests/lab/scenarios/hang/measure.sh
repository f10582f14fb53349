# Copying and mapping, by the program's own measurement: dom0 grants pages to itself.

# in_use: grants that some domain has mapped, by Xen's own list; the guest's ring is one.
in_use() {
	xl debug-keys g
	xl dmesg | awk "/key 'g' pressed/ { n = 0 } /\[0x[0-9a-f]+\]/ { n++ } END { print n + 0 }"
}
# refused WORDS COMMAND...: whether the command fails with status 1 and one line that has the words.
refused() {
	local words=$1 said status
	shift
	said=$("$@" 2>&1)
	status=$?
	echo "status $status: $said"
	[ $status = 1 ] && [ "$(echo "$said" | wc -l)" = 1 ] && echo "$said" | grep -qF "$words"
}
measure() { /tmp/xen-pvscsi measure "$@"; }
GNTALLOC_LIMIT=/sys/module/xen_gntalloc/parameters/limit

in_use_before=$(in_use)
check measure-ends-well measure
cp /tmp/check.output /tmp/measured
while read -r line; do say "measured: $line"; done < /tmp/measured
same measure-tells-all-sizes "4 16 64 128 256 508" "$(awk '$1 ~ /^[0-9]+$/ && NF == 4 { printf "%s%s", gap, $1; gap = " " }' /tmp/measured)"
# No more pages than it needs for once: the second time needs what the first took.
limit=$(cat $GNTALLOC_LIMIT)
echo 127 > $GNTALLOC_LIMIT
same measure-tells-programs-too "50 [4, 16, 64, 128, 256, 508] True" "$(measure --json --rounds 50 | python3 -c '
import json, sys
said = json.load(sys.stdin)
times = [time for size in said["sizes"] for name, time in size.items() if name.endswith("_ns")]
print(said["rounds"], [size["kib"] for size in said["sizes"]], len(times) == 18 and min(times) > 0)')"
check measure-leaves-nothing-granted measure --rounds 1
echo 126 > $GNTALLOC_LIMIT
check measure-tells-the-limit refused "126 pages and no more, of 127" measure
echo $limit > $GNTALLOC_LIMIT
if [ "$in_use_before" -gt 0 ]; then
	same measure-leaves-nothing-mapped "$in_use_before" "$(in_use)"
else
	fail measure-leaves-nothing-mapped "Xen does not list the guest's ring"
fi
modprobe -r xen_gntalloc
check measure-names-the-module refused "modprobe xen-gntalloc" measure
modprobe xen_gntalloc
