#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Are the exported bytes where the importer was told they are?
#
#   tests/host-driven/physical-truth.sh TARGET
#
# The machine's memory is a file here.  At the addresses that the mock importer
# was given, this finds the exported bytes, without the guest's kernel having a
# say; what it writes there, the exporting process sees at its own addresses.
# So would another core that shares the memory, with or without Linux knowing.

set -euo pipefail
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"

target_vars "${1:?usage: physical-truth.sh TARGET}"
kinds=(anon unaligned memfd thp hugetlb)
mem=1G
case $TARGET in
arm64 | armhf) ram_base=$((0x40000000)) ;; # QEMU's virt machine
amd64) ram_base=0 ;;                       # all of it below the PCI hole
esac

dir=$(mktemp -d "${TMPDIR:-/tmp}/vmmexp-truth.XXXXXX")
guest=
# shellcheck disable=SC2317,SC2329 # by the trap
clean_up() {
	[[ -z $guest ]] || kill "$guest" 2>/dev/null || :
	rm -rf -- "$dir"
}
trap clean_up EXIT

# What the memory holds first, and what is written to it from here.
size=$((2 << 20))
head -c "$size" /dev/urandom >"$dir/before"
head -c "$size" /dev/urandom >"$dir/after"

"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- "${CROSS}gcc" -std=gnu11 -O2 -Wall -Wextra -Werror \
	-D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -I"$PROJECT/uapi" -I"$PROJECT/tests/kselftest" \
	-static -o "$dir/physical-truth" "$here/physical-truth.c" \
	"$PROJECT/tests/kselftest/vmmexp_util.c"

"$PROJECT/scripts/qemu-run" --target "$TARGET" --share "$dir" --mem "$mem" \
	--mem-file "$dir/memory" --timeout 300 -- ./physical-truth >"$dir/log" 2>&1 </dev/null &
guest=$!

# wait_for FILE: until the guest has made it, or has ended without.
wait_for() {
	while [[ ! -e $dir/$1 ]]; do
		if ! kill -0 "$guest" 2>/dev/null; then
			[[ -e $dir/$1 ]] && return
			return 1
		fi
		sleep 0.05
	done
}

# memory read|write KIND: the bytes at the addresses of KIND.segments, in their
# order, to standard output or from standard input.
memory() {
	"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- python3 -c '
import sys

verb, memory, segments, base = sys.argv[1:]
with open(memory, "r+b") as mem, open(segments) as lines:
    for line in lines:
        address, length = map(int, line.split())
        mem.seek(address - int(base))
        if verb == "read":
            sys.stdout.buffer.write(mem.read(length))
        else:
            mem.write(sys.stdin.buffer.read(length))
' "$1" "$dir/memory" "$dir/$2.segments" "$ram_base"
}

number=0
report() { # OK-OR-NOT TEXT
	number=$((number + 1))
	echo "$1 $number $2"
}

echo "1..$((2 * ${#kinds[@]} + 1))"
for kind in "${kinds[@]}"; do
	found="$kind: the exported bytes are at the importer's addresses"
	seen="$kind: the exporter sees what was written there"
	if ! wait_for "$kind.segments"; then
		report "not ok" "$found"
		report "not ok" "$seen"
		continue
	fi
	read -r first rest <"$dir/$kind.segments"
	if [[ $first == skip ]]; then
		report ok "$found # SKIP $rest"
		report ok "$seen # SKIP $rest"
		continue
	fi
	echo "# $kind: $(wc -l <"$dir/$kind.segments") segments"
	if memory read "$kind" | cmp - "$dir/before" >"$dir/difference" 2>&1; then
		report ok "$found"
	else
		sed 's/^/# /' "$dir/difference"
		report "not ok" "$found"
	fi
	memory write "$kind" <"$dir/after"
	: >"$dir/$kind.go"
	if wait_for "$kind.result" && [[ $(<"$dir/$kind.result") == same ]]; then
		report ok "$seen"
	else
		sed 's/^/# /' "$dir/$kind.result" 2>/dev/null || :
		report "not ok" "$seen"
	fi
done

rc=0
wait "$guest" || rc=$?
guest=
if ((rc == 0)); then
	report ok "the guest is well"
else
	sed 's/^/# /' "$dir/log"
	report "not ok" "the guest is well: status $rc"
	exit 1
fi
