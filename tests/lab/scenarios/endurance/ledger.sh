# What must not grow, however long a guest lives.

# grants D: entries of its grant table that somebody uses, as Xen shows them on request.
grants() {
	xl debug-keys g
	xl dmesg | awk -v guest="d$1" '
		/gnttab_usage_print_all \[/ { n = 0 }
		/grant-table for remote/ { mine = index($0, guest " ") }
		/\[0x[0-9a-f]+\]/ { n += mine > 0 }
		END { print n }'
}

lines() { xenstore-ls "$1" 2> /dev/null | wc -l; }
ledger() {
	echo "$(holds $SERVER_G) nodes=$(lines /local/domain/0/backend/vscsi/$G) errors=$(lines /local/domain/0/error) ports=$(ports)" \
		"grants=$(grants $G)"
}

# KiB of memory that the server has.
rss() { awk '/^VmRSS/ { print $2 }' /proc/$SERVER_G/status; }

# no_more: nothing is more than at FIRST; sets NOW.
no_more() {
	local now first
	NOW=$(ledger)
	for now in $NOW; do
		for first in $FIRST; do
			[ "${now%=*}" != "${first%=*}" ] || [ "${now#*=}" -le "${first#*=}" ] || return 1
		done
	done
}

# audit PLACE SECONDS: the guest rests at PLACE, with its two disks; threads that have just ended may take a moment.
audit() {
	meets $G $1 $2
	if within 20 no_more; then pass holds-no-more-when-$1; else fail holds-no-more-when-$1 "at first $FIRST, now $NOW"; fi
	say "$1: the server holds $NOW, $(rss) KiB"
}
