# Two guests work, each with its own server and disk; one is killed, and the other must not notice.
guest doomed
vhost $D 0
vdev $D 0 0 file:/srv/doomed.img 0:0:0:0
serve $D
vgo $D 0
xl unpause doomed

rounds() { xenstore-read /local/domain/$1/data/lab-rounds 2> /dev/null || echo 0; }
# further D COUNT: it has done more rounds than that.
further() { [ "$(rounds $1)" -gt "$2" ]; }
check both-guests-work within 120 further $D 0
xl destroy doomed
rounds_then=$(rounds $G)
# What was under way then may have been all but done.
check the-other-works-on within 100 further $G $((rounds_then + 4))
ended $SERVER 20
same server-of-killed-guest-exits-0 0 "$STATUS"
told doomed
forget $D
go $G neighbour
