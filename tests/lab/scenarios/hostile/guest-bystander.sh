# Verifies again and again until dom0 has done with the hostile guest.
disk 0
xenstore-write data/lab-at working
rounds=0
until stopped working; do
	verify $DISK 64k 2m > /tmp/verify 2>&1 || { fail bystander-verifies "round $rounds gave $?: $(cat /tmp/verify)" && break; }
	rounds=$((rounds + 1))
done
say "the bystander verified $rounds times"
[ $rounds -gt 1 ] && stopped working && pass bystander-verifies
