# Verifies two disks at once until dom0 says that the journey is over.
disk 0 && verify_until arrived scsi_debug traveller-verifies-scsi_debug &
disk 1 && verify_until arrived file traveller-verifies-file
wait
same traveller-has-no-complaint "" "$(complaints)"
