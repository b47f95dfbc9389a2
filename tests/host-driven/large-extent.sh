#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# targets: arm64 amd64
#
# 4 GiB of contiguous memory in one buffer.
#
#   tests/host-driven/large-extent.sh TARGET
#
# Needs a machine with pages of 1 GiB, made at boot, and more memory than the
# others: 4 to 5 GiB of it are touched, and so taken from this machine, too.

set -euo pipefail
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"

target_vars "${1:?usage: large-extent.sh TARGET}"
if ! awk '$1 == "MemAvailable:" { exit $2 < 6 * 1024 * 1024 }' /proc/meminfo; then
	echo "Bail out! this needs 6 GiB of memory, which this machine has not to spare"
	exit 1
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/vmmexp-large.XXXXXX")
trap 'rm -rf -- "$dir"' EXIT

"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- "${CROSS}gcc" -std=gnu11 -O2 -Wall -Wextra -Werror \
	-D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -I"$PROJECT/uapi" -I"$PROJECT/tests/kselftest" \
	-static -o "$dir/large-extent" "$here/large-extent.c" \
	"$PROJECT/tests/kselftest/vmmexp_util.c"

# Where the kernel itself is there is no such page, and x86 has a hole below
# 4 GiB: five, so that four of them are neighbours.
rc=0
"$PROJECT/scripts/qemu-run" --target "$TARGET" --share "$dir" --mem 8G \
	--append "default_hugepagesz=2M hugepagesz=1G hugepages=5" --timeout 300 -- \
	./large-extent >"$dir/output" 2>"$dir/log" </dev/null || rc=$?
cat -- "$dir/output"
if ((rc != 0)); then
	sed 's/^/# /' "$dir/log"
	echo "Bail out! the guest ended with status $rc"
	exit 1
fi
