# The guest that is preempted.
. /lab/scenario/guest-both.sh
meet up
for target in 0 1; do
	on $target
	check a-$NAME-registers persist --register --param-sark=10
	check a-$NAME-reserves persist --reserve --param-rk=10 --prout-type=5
	check a-$NAME-writes writes
done
meet registered
for target in 0 1; do
	on $target
	meet $NAME-writes
	# Until a write fails: it is the last that gets there.
	n=0
	while writes; do n=$((n + 1)); done
	if [ $n -gt 0 ]; then pass a-$NAME-wrote-until-then; else fail a-$NAME-wrote-until-then "$n writes"; fi
	says a-$NAME-write-conflicts "reservation conflict" -s 512 -i /dev/zero $SG 2a 00 00 00 00 00 00 00 01 00
	check a-$NAME-still-reads reads
	same a-$NAME-holds-nothing "0x11" "$(keys)"
	meet $NAME-stopped
done
for target in 0 1; do
	on $target
	check a-$NAME-registers-again persist --register --param-sark=10
	check a-$NAME-clears persist --clear --param-rk=10
	same a-$NAME-nobody-is-left "" "$(keys)"
	check a-$NAME-writes-again writes
done
meet cleared
meet reserved
on 0
says a-device-read-conflicts "reservation conflict" -r 512 $SG 28 00 00 00 00 00 00 00 01 00
check a-device-inquiry-passes sg_inq $SG
on 1
says a-file-read-conflicts "reservation conflict" -r 512 $SG 28 00 00 00 00 00 00 00 01 00
meet shut-out
for target in 0 1; do
	on $target
	# It was b's RESERVE, and b is gone.
	check a-$NAME-reserves-in-bs-place within 20 sg_raw $SG 16 00 00 00 00 00
	check a-$NAME-reads-again reads
done
