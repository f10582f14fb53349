# Looks at the disk that the kernel's backend used to export.
check saved-disk-there disk 0
same saved-disk "disk c" "$(head -c 6 $DISK)"
