#!/bin/bash
# build.sh DIST OUT: makes a dom0 disk, its boot files and the initramfs that all guests start from, of Debian's packages.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dist=$1
linux=linux-image-amd64
case $dist in
bookworm) xen=4.17 ;;
trixie) xen=4.20 ;;
# Only its kernel is of the backports.
trixie-backports) xen=4.20 linux=linux-image-amd64/$dist ;;
*) echo "unknown distribution: $dist" >&2 && exit 2 ;;
esac
mkdir -p "$2"
cd "$2"
tree=$PWD/tree

step() { echo "image: $*"; }
words() { grep -v '^#' "$here/$1"; }

# modules_into DIR MODULE...: copies kernel modules and what they need, uncompressed, and writes DIR/modules, which loads them.
modules_into() {
	local dir=$1 file name module
	shift
	mkdir -p "$dir/lib/modules"
	for module in "$@"; do
		modprobe -d "$tree" -S "$kernel" --show-depends "$module"
	done | awk '/^insmod/ && !seen[$2]++ { print $2 }' | while read -r file; do
		name=$(basename "$file")
		cp "$file" "$dir/lib/modules/$name"
		case $name in
		*.xz) xz -d -f "$dir/lib/modules/$name" ;;
		*.zst) zstd -q -d --rm -f "$dir/lib/modules/$name" ;;
		esac
		echo "${name%%.ko*}"
	done > "$dir/modules.names"
	# A guest can be told to go without one of them: lab.without=MODULE.
	sed 's#.*#[ "${lab_without:-}" = & ] || insmod /lib/modules/&.ko#' "$dir/modules.names" > "$dir/modules"
}

# program_into DIR PROGRAM: copies a program of the tree with its libraries.
program_into() {
	local dir=$1 path file
	path=$(chroot "$tree" bash -c "command -v $2") || { echo "no program $2 in $dist" >&2 && return 1; }
	{ echo "$path" && chroot "$tree" ldd "$path" | grep -o '/[^ ]*'; } | sort -u | while read -r file; do
		mkdir -p "$dir$(dirname "$file")"
		[ -e "$dir$file" ] || cp -L "$tree$(chroot "$tree" readlink -f "$file")" "$dir$file"
	done
}

step "packages of $dist (takes a minute or two)"
# From where this machine takes its own packages; without such a place (no lists yet), from mmdebstrap's default.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u | grep -v security | head -n 1) || mirror=
suite=${dist%-backports}
mmdebstrap --quiet --variant=minbase --components=main --mode=root \
	--setup-hook='[ '"$suite = $dist"' ] || sed -i "s/\(.*\) '"$suite"' main/&\n\1 '"$dist"' main/" "$1/etc/apt/sources.list"' \
	--include="$linux,xen-hypervisor-$xen-amd64,xen-utils-$xen,xen-utils-common,$(words packages | paste -sd,)" \
	"$suite" "$tree" ${mirror:+"$mirror"}
kernel=$(ls "$tree/lib/modules")
cp "$tree/boot/vmlinuz-$kernel" vmlinuz
gunzip -c "$tree/boot/xen-$xen-amd64.gz" > xen
# iscsi-test-cu, fio and sg3_utils stay as they are; documentation does not help a machine that nobody sits at.
rm -rf "$tree"/usr/share/{doc,man,locale} "$tree"/var/cache/apt "$tree"/var/lib/apt/lists

step "a disc"
mkdir -p "$tree/disc"
seq 200000 > "$tree/disc/numbers.txt"
chroot "$tree" xorriso -as mkisofs -quiet -V LAB -o /disc.iso /disc 2> /dev/null
mv "$tree/disc.iso" .
rm -r "$tree/disc"

step "initramfs of dom0, Linux $kernel"
mkdir -p initrd/{bin,proc,sys,dev,newroot}
cp "$tree/bin/busybox" initrd/bin/
for applet in sh mount insmod switch_root; do ln -s busybox initrd/bin/$applet; done
modules_into initrd virtio_pci virtio_blk ext4 9pnet_virtio 9p
install -m 755 "$here/initrd-init" initrd/init
(cd initrd && find . | cpio -o -H newc --quiet | gzip -1) > initrd.gz

step "initramfs of the guests"
mkdir -p guest/{usr/bin,usr/sbin,usr/lib,usr/lib64,proc,sys,dev,tmp,run,etc,mnt,lab}
for dir in bin sbin lib lib64; do ln -s usr/$dir guest/$dir; done
cp "$tree/bin/busybox" guest/usr/bin/
for program in $(words guest-tools); do program_into guest "$program"; done
for applet in $(guest/usr/bin/busybox --list); do
	[ -e "guest/usr/bin/$applet" ] || [ -e "guest/usr/sbin/$applet" ] || ln -s busybox "guest/usr/bin/$applet"
done
modules_into guest sd_mod sg sr_mod st ch ses ext4 xen-scsifront xen-blkfront
install -m 755 "$here/guest-init" guest/init
mkdir "$tree/lab"
(cd guest && find . | cpio -o -H newc --quiet) > "$tree/lab/guest.cpio"
cp vmlinuz "$tree/lab/"

step "disk of dom0, Xen $xen"
install -m 755 "$here/dom0-init" "$tree/lab/init"
mke2fs -q -t ext4 -O ^has_journal -d "$tree" dom0.img 3G
rm -rf tree initrd guest
step "done: $(du -sh . | cut -f1)"
