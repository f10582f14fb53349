# A disk is attached to a working vhost and detached again, as a toolstack does it, while the guest works on another.
base=$(back $G 0)

# comes_to DEV HOST GUEST: the states of device and host and the guest's place become these; or why the cycles end here.
comes_to() {
	within 60 is_at "$*" && return
	echo "cycle $n: not '$*' but '$AT'; the frontend's state is $(xenstore-read "$(front $G 0)/state")"
	return 1
}
# In one go, for speed.
is_at() {
	AT=$(xenstore-read $dev/state $base/state /local/domain/$G/data/lab-at)
	[ "${AT//$'\n'/ }" = "$1" ]
}

# cycle N: names of devices are never used again.
cycle() {
	local n=$1 dev=$base/vscsi-devs/dev-$((10 + $1))
	vdev $G 0 $((10 + n)) ram:8M 0:0:2:0
	xenstore-write $base/state 7
	comes_to 4 4 used-$n || return 1
	xenstore-write $dev/state 5 $base/state 7
	comes_to 6 4 gone-$n || return 1
	xenstore-rm $dev
}

cycles() {
	local n
	for n in $(seq 1 100); do
		cycle $n || return 1
		[ $n != 10 ] || RSS_10=$(rss)
	done
	RSS_100=$(rss)
}
