#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What a display shows of exported memory, seen from outside.
#
#   tests/host-driven/display.sh TARGET
#
# Boots the machine and runs importer_drm_test, which draws pictures in exported
# memory, has bochs scan them out, and asks each time whether that is what is on
# the screen. It is compared here, pixel by pixel, with what QEMU shows.

set -euo pipefail
target=${1:?usage: display.sh TARGET}
project=$(cd -- "$(dirname -- "$0")/../.." && pwd -P)
# shellcheck source=scripts/screen.sh
. "$project/scripts/screen.sh"

# Every picture that is to be asked for: one that is not is a failure.
pictures=()
for kind in malloc memfd hugetlb thp packet scattered; do
	pictures+=("$kind" "$kind-redrawn")
done
pictures+=(flip-1 flip-2 flip-3 flip-4 unaligned read-only-refused read-only-no-flip
	only-display-left before-revoke after-revoke other-than-revoked before-kill after-kill
	camera-0 camera-1 camera-2)

dir=$project/build/$target/host-driven/display
rm -rf -- "$dir"
mkdir -p -- "$dir"
echo "1..$((${#pictures[@]} + 1))"

screen_open "$dir"
"$project/scripts/qemu-run" --target "$target" --share "$dir" --timeout 600 \
	--log "$dir/kernel.log" "${SCREEN_ARGS[@]}" -- \
	'VMMEXP_SCREEN=/share /vmmexp/kselftest/importer_drm_test' >"$dir/guest.tap" 2>&1 &
machine=$!

shopt -s nullglob
declare -A verdict
look() {
	local ready name answer
	for ready in "$dir"/*.ready; do
		name=$(basename -- "$ready" .ready)
		# It stays: the guest may still be about to close it.
		[[ -z ${verdict[$name]-} ]] || continue
		answer=differs
		if ! screen_save "$dir/$name.screen.ppm" ppm; then
			verdict[$name]='QEMU gave no picture'
		elif cmp -- "$dir/$name.ppm" "$dir/$name.screen.ppm" >"$dir/$name.cmp" 2>&1; then
			answer=same
			verdict[$name]=same
			# Kept only where there is something to look at.
			rm -- "$dir/$name"{.ppm,.screen.ppm,.cmp}
		else
			verdict[$name]=$(<"$dir/$name.cmp")
		fi
		: >"$dir/$name.$answer"
	done
}
while kill -0 "$machine" 2>/dev/null; do
	look
	sleep 0.05
done
rc=0
wait "$machine" || rc=$?
screen_close

number=0
for name in "${pictures[@]}"; do
	number=$((number + 1))
	# The tests that are named after a kind of memory may lack it.
	skip=$(sed -n "s/^ok [0-9]* display\.show_${name%-redrawn} # SKIP //p" "$dir/guest.tap")
	case ${verdict[$name]-none} in
	same) echo "ok $number $name is on the screen" ;;
	none)
		if [[ -n $skip ]]; then
			echo "ok $number $name # SKIP $skip"
		else
			echo "not ok $number $name was never shown"
		fi
		;;
	*) echo "not ok $number $name is not on the screen: ${verdict[$name]}" ;;
	esac
done
if ((rc == 0)); then
	echo "ok $((number + 1)) the machine's own view"
else
	sed -n '/^ok /!s/^/# /p' "$dir/guest.tap"
	echo "not ok $((number + 1)) the machine's own view (status $rc)"
fi
