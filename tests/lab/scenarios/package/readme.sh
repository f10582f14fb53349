# The README's first ten minutes, out of the package: its commands are this scenario's, as they stand there.
mkdir -p /tmp/readme/target
ln -s /mnt /tmp/readme/target/debian
dpkg-deb --fsys-tarfile /mnt/xen-pvscsi_*.deb | tar -xO ./usr/share/doc/xen-pvscsi/README.md > /tmp/README.md
# blocks KIND: the lines of the blocks of this kind.
blocks() {
	awk -v kind="$1" '/^## / { here = /ten minutes/ } /^```/ { now = now == "" ? substr($0, 4) : ""; next } here && now == kind' /tmp/README.md
}
blocks sh > /tmp/commands
blocks text > /tmp/vscsi

# step NAME: a check that the README's next command goes well; what it says is in /tmp/check.output.
step() {
	local command
	command=$(head -n 1 /tmp/commands)
	sed -i 1d /tmp/commands
	say "README: $command"
	check "$1" bash -c "cd /tmp/readme && ${command:-false}"
}
# The lab has built the package with it.
same readme-builds-the-package backend/dist/build-deb "$(head -n 1 /tmp/commands)"
sed -i 1d /tmp/commands
