# Has no driver for its vhost but a program that means no good.
for module in xen-gntalloc xen-evtchn; do insmod /lab/$module.ko; done

# lists NAME ARGS...: a check that the backend holds against lists of actions.
lists() {
	local name=$1
	shift
	check $name /lab/hostile-frontend lists "$@"
	say "$(tail -n 1 /tmp/check.output)"
}

check bad-grants-are-refused /lab/hostile-frontend grants
say "$(tail -n 1 /tmp/check.output)"
lists first-lists-do-no-harm --seconds 10
meet warm
lists lists-do-no-harm --first 10000 --seconds 75
# A page that the backend keeps is one that the kernel cannot give back: it says "deferring", and "freeing" when it could after all.
same no-grant-is-kept "" "$(dmesg | grep -oE '(deferring|freeing|leaking) g\.e\. 0x[0-9a-f]+' |
	awk '{ last[$3] = $1 } END { for (gref in last) if (last[gref] != "freeing") print last[gref], gref }')"
meet done
/lab/hostile-frontend lists --first 20000 --seconds 1000 > /dev/null 2>&1 &
sleep 1
xenstore-write data/lab-at again
sleep 1000
