# vscsi.sh: the toolstack's half of PVSCSI in xenstore, and the program under test.

back() { echo "/local/domain/0/backend/vscsi/$1/$2"; }
front() { echo "/local/domain/$1/device/vscsi/$2"; }

# vhost D V: makes the empty vhost V of domain D.
vhost() {
	local b f
	b=$(back "$1" "$2") f=$(front "$1" "$2")
	xenstore-write "$b/feature-host" 0 "$b/frontend" "$f" "$b/frontend-id" "$1" "$b/online" 1 "$b/libxl_ctrl_index" "$2" \
		"$f/backend" "$b" "$f/backend-id" 0
	xenstore-chmod -r "$f" "n$1" r0
	xenstore-chmod -r "$b" n0 "r$1"
}

# vdev D V N P-DEV V-DEV: gives the vhost a device.
vdev() {
	local dev
	dev=$(back "$1" "$2")/vscsi-devs/dev-$3
	xenstore-write "$dev/p-dev" "$4" "$dev/p-devname" "$4" "$dev/v-dev" "$5" "$dev/state" 1
}

# vgo D V: the vhost is complete; both ends may start.
vgo() { xenstore-write "$(back "$1" "$2")/state" 1 "$(front "$1" "$2")/state" 1; }

# forget D: removes what a toolstack would remove when the guest is gone.
forget() { xenstore-rm "/local/domain/0/backend/vscsi/$1" 2> /dev/null; }

# state_is PATH STATES: whether the state node holds one of these digits.
state_is() {
	case $2 in *$(xenstore-read "$1/state" 2> /dev/null || echo none)*) ;; *) return 1 ;; esac
}

# awaits NAME PATH STATES SECONDS: a check that the node comes to one of the states.
awaits() {
	if within "$4" state_is "$2" "$3"; then pass "$1"; else
		fail "$1" "$2/state is '$(xenstore-read "$2/state" 2>&1)' after $4 s, not one of $3"
	fi
}

# serve D [OPTIONS...]: starts the program for domain D in the background; sets SERVER.
serve() {
	/tmp/xen-pvscsi serve --domid "$1" --follow 3 "${@:2}" > "/var/log/pvscsi-$1.log" 2>&1 &
	SERVER=$!
}
