# Verifies again and again until dom0 has done with the hostile guest.
disk 0
xenstore-write data/lab-at working
verifies bystander-verifies stopped working
meet idle
