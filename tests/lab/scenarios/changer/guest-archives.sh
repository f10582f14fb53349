# guest-archives.sh: archives on the tape, which the guest makes, and which then both sides read. TAPE is the drive's node.

# Not busybox's, which its shell would take.
mt() { /usr/bin/mt -f "$TAPE" "$@"; }
archive() { /usr/bin/tar -f "$TAPE" "$@"; }
# What is on the tape, in this order: for each file its number, the block length (0: any), and the blocks of 512 bytes in one of
# tar's records, of 256, 10, 64 and 508 KiB; 508 is what a guest's command can have.
FILES="0:0:512 1:0:20 2:0:128 3:0:1016 4:512:512 5:512:20 6:512:128"

# contents DIR: one sum of all files, their names and the links.
contents() {
	(cd $1 && { find . -type f | LC_ALL=C sort | xargs md5sum && find . -type l | LC_ALL=C sort | xargs readlink; }) | md5sum | cut -d' ' -f1
}
# extracted BLOCKING: the contents of the archive that the tape is at, or what tar says.
extracted() {
	rm -rf /tmp/extracted && mkdir /tmp/extracted
	archive -x -b $1 -C /tmp/extracted > /tmp/tar.said 2>&1 && contents /tmp/extracted || cat /tmp/tar.said
}
# extracts PREFIX SUMS: a check of each file of the tape, that it has the contents of this sum.
extracts() {
	local file number block blocking prefix=$1
	set -- $2
	for file in $FILES; do
		IFS=: read -r number block blocking <<-END
			$file
		END
		{ mt setblk $block && mt rewind && { [ $number = 0 ] || mt fsf $number; }; } > /tmp/mt.said 2>&1
		same $prefix-$number "$1" "$(cat /tmp/mt.said; extracted $blocking)"
		shift
	done
}
