# A driver domain: it has a disk, and serves it to whom dom0 says.
for module in /lab/modules/*.ko; do
	case $module in
	*scsi_debug.ko) insmod $module dev_size_mb=32 delay=0 ;;
	*) insmod $module 2> /dev/null ;; # it may be there
	esac
done
check storage-has-a-disk within 20 test -b /dev/sda
check storage-is-ready /lab/xen-pvscsi check
check storage-disk-can-be-had /lab/xen-pvscsi check /dev/sda
meet up
/lab/xen-pvscsi watch > /tmp/watch.log 2>&1 &
watch=$!
meet watching
no_server() { ! pgrep -f "serve --domid"; }
check storage-has-no-server-left within 20 no_server
kill $watch
wait $watch
same storage-watch-exits-0 0 "$?"
cat /tmp/watch.log
