# The guest that preempts.
. /lab/scenario/guest-both.sh
meet up
meet registered
for target in 0 1; do
	on $target
	# The first command may be told of something that came before.
	sg_turs $SG > /dev/null 2>&1
	says b-$NAME-write-conflicts "reservation conflict" -s 512 -i /dev/zero $SG 2a 00 00 00 00 00 00 00 01 00
	check b-$NAME-reads reads
	check b-$NAME-registers persist --register --param-sark=11
	check b-$NAME-writes writes
	meet $NAME-fence
	# a is at work.
	sleep 2
	check b-$NAME-preempts persist --preempt-abort --param-rk=11 --param-sark=10 --prout-type=5
	check b-$NAME-fills fills
	meet $NAME-fenced
	sleep 1
	dd if=$DISK bs=64k count=16 iflag=direct of=/tmp/seen 2> /dev/null
	check b-$NAME-nothing-came-after cmp /tmp/b /tmp/seen
	meet $NAME-looked
done
meet cleared
for target in 0 1; do
	on $target
	# CLEAR has told b that it has lost its registration.
	says b-$NAME-is-told "reservations preempted" $SG 00 00 00 00 00 00
	check b-$NAME-reserves sg_raw $SG 16 00 00 00 00 00
done
meet reserved
