# What both guests do with a disk that they share.
on() {
	case $1 in 0) NAME=device ;; 1) NAME=file ;; esac
	disk $1
}
persist() { sg_persist --out "$@" $SG; }
keys() { sg_persist --in --read-keys $SG | sed -n 's/^ *\(0x[0-9a-f]*\)$/\1/p' | tr '\n' ' ' | sed 's/ $//'; }
writes() { dd if=/dev/zero of=$DISK bs=64k count=16 oflag=direct; }
fills() { pattern b 1048576 > /tmp/b && dd if=/tmp/b of=$DISK bs=64k oflag=direct; }
reads() { dd if=$DISK of=/dev/null bs=64k count=16 iflag=direct; }
