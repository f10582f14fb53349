# Verifies until it is killed.
disk 0
verifies doomed-guest-verifies false
