# The package goes while a guest is served. Its watcher was enabled.
server=$(servers $last)
check package-purges dpkg --purge xen-pvscsi
same purge-leaves-nothing "" "$(diff /tmp/files-before <(files) 2>&1)"
same purge-leaves-the-server "$server" "$(servers $last)"
xl destroy last
check purged-server-ends within 90 unserved $last
same purged-server-left-no-nodes "" "$(nodes)"
# With the package goes its ban: udev loads the kernel's backend for the next vhost, as it would have for all of them.
guest other "" 256
vhost $D 0
vdev $D 0 0 ram:8M 0:0:0:0
vgo $D 0
check kernels-backend-is-back within 60 test -d /sys/module/xen_scsiback
xl destroy other
forget $D
