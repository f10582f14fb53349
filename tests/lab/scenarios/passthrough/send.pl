# send.pl NODE LISTS: sends each command of the lists and writes what the kernel says of it, a line a command: its status, sense, residual and
# all data that came, of struct sg_io_hdr (scsi/sg.h). One process: dom0 and guests start programs slowly here.
my $node = shift @ARGV;
my ($SG_IO, $NONE, $OUT, $IN) = (0x2285, -1, -2, -3);
my %words = (zeros => "\0", ones => "\xff", text => "xen-pvscsi\n");

sub send_one {
	my ($way, $length, $cdb, $data) = @_;
	my $sense = "\0";
	$sense x= 255;
	# A file of its own, and so memory of the driver's that no other command has used.
	open(my $file, '+<', $node) or die "$node: $!\n";
	my $header = pack('i i C C S I P P P I I i x4 x8 C C C C S S i I I x4', ord('S'), $way eq 'in' ? $IN : $way eq 'out' ? $OUT : $NONE,
		length($cdb), length($sense), 0, $length, $length ? $data : undef, $cdb, $sense, 20000, 0, 0, (0) x 9);
	ioctl($file, $SG_IO, $header) or return "error $!";
	my ($status, undef, undef, $written, $host, $driver, $residual, undef, $info) = unpack('x64 C C C C S S i I I', $header);
	# Tapes of scsi_debug tell of residuals below 0 and beyond the data. A guest must be told what it can use, so dom0's are cut.
	$residual = $residual < 0 ? 0 : $residual > $length ? $length : $residual if $ENV{CUT_RESIDUALS};
	# The adapter's own failure. The backend makes it a CHECK CONDITION as well, for frontends that look at nothing else.
	return sprintf('host %x info %x', $host, $info) if $host;
	my $answer = sprintf('status %02x driver %x info %x residual %d sense %s', $status, $driver, $info, $residual,
		unpack('H*', substr($sense, 0, $written)));
	return $answer if $way ne 'in';
	return "$answer data " . unpack('H*', substr($data, 0, $length - $residual));
}

# Whatever happened to the device before is told, and forgotten.
send_one('none', 0, "\0" x 6, '') for 1 .. 4;
while (<>) {
	next if /^#/;
	chomp;
	my ($command, $payload) = split / : /;
	my ($name, $way, $length, @cdb) = split / /, $command;
	my $cdb = pack('H2' x @cdb, @cdb);
	my $data = "\0" x $length;
	if (my $word = $words{$payload // ''}) {
		$data = substr($word x $length, 0, $length);
	} elsif (defined $payload) {
		my @bytes = split / /, $payload;
		substr($data, 0, scalar @bytes) = pack('H2' x @bytes, @bytes);
	}
	print "$name ", unpack('H*', $cdb), ' ', send_one($way, $length, $cdb, $data), "\n";
}
