# What an operator gets wrong on the command line.

# refuses NAME STATUS WORD ARGS...: ends with this status within 30 s and says something with the word in it, in a few lines.
refuses() {
	local name=$1 status=$2 word=$3
	shift 3
	timeout 30 /tmp/xen-pvscsi "$@" > /tmp/said 2>&1
	same $name-status $status $?
	if grep -q -- "$word" /tmp/said && [ "$(wc -l < /tmp/said)" -lt 8 ] && ! grep -q "panicked at" /tmp/said; then
		pass $name-says-why
	else
		fail $name-says-why "$(cat /tmp/said)"
	fi
}
refuses no-domid 2 --domid serve
refuses no-such-domain 1 77 serve --domid 77

# An attach that fails leaves nothing of itself: the guest has no server, so this is what each would come to.
guest unserved "" 256
unserved=$D
# The directory of all guests' vhosts stays.
xenstore-write /local/domain/0/backend/vscsi ""
tree() { xenstore-ls -f / | grep -e "^/local/domain/0/backend" -e "^/local/domain/$unserved/" -e "^/libxl/$unserved/"; }
before=$(tree)
refuses attach-without-server 1 "serve --domid $unserved" attach unserved ram:8M 0:0:0:0
refuses attach-to-half-an-address 2 0:0:0 attach unserved ram:8M 0:0:0
mke2fs -q $DISK
mount $DISK /media
refuses attach-of-mounted-disk 1 "mounted at /media" attach unserved $DISK 0:0:0:0
umount /media
/tmp/xen-pvscsi attach unserved ram:8M 0:0:0:0 > /tmp/said 2>&1 &
attach=$!
check attach-writes-its-nodes within 10 state_is "$(back $unserved 0)" 1
kill -INT $attach
ended $attach 10
same attach-is-interrupted 130 "$STATUS"
same attach-leaves-nothing "$before" "$(tree)"
xl destroy unserved
