#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Carve-outs: tests/kselftest/region.c on machines whose device trees have them.
#
#   tests/host-driven/carveout.sh TARGET
#
# targets: arm64 armhf vexpress
#
# Boots: a machine with the regions of dts/qemu-virt-vmmexp.dtsi as it
# comes, twice; the same with iomem=relaxed, where /dev/mem maps claimed memory
# too; with an SMMUv3 and a device behind it (arm64); and one with the regions of
# dts/qemu-virt-vmmexp-bad.dtso. The machine's memory is a file, which this reads
# and writes for the tests as the RTOS would: by physical addresses.

set -euo pipefail
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"

target_vars "${1:?usage: carveout.sh TARGET}"
mem=1G
ram_base=$((0x40000000))
case $TARGET in # as in scripts/qemu-run
vexpress) qemu=() ram_base=$((0x80000000)) ;;
arm64) qemu=(qemu-system-aarch64 -cpu cortex-a57 -machine virt) ;;
armhf) qemu=(qemu-system-arm -cpu cortex-a15 -machine "virt,highmem=off") ;;
*) die "no device trees on $TARGET" ;;
esac
programs=("region $CROSS")
# The same for 32 bit.
[[ $TARGET != arm64 ]] || programs+=("region32 arm-linux-gnueabihf-")

dir=$(mktemp -d "${TMPDIR:-/tmp}/vmmexp-carveout.XXXXXX")
guest=
# shellcheck disable=SC2317,SC2329 # by the trap
clean_up() {
	[[ -z $guest ]] || kill "$guest" 2>/dev/null || :
	# Without its directory the reader of the memory ends.
	rm -rf -- "$dir"
}
trap clean_up EXIT
mkdir -- "$dir/share"

number=0 failed=
report() { # ok|not-ok TEXT
	number=$((number + 1))
	[[ $1 == ok ]] || failed=1
	echo "${1/-/ } $number $2"
}

# expect TEXT CMD...: one test. CMD fails, or says what is wrong.
expect() {
	local text=$1 said rc=0
	shift
	said=$("$@" 2>&1) || rc=$?
	if ((rc == 0)) && [[ -z $said ]]; then
		report ok "$text"
	else
		[[ -n $said ]] || said="status $rc"
		echo "# ${said//$'\n'/$'\n'# }"
		report not-ok "$text"
	fi
}

for program in "${programs[@]}"; do
	read -r name cross <<<"$program"
	"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- "${cross}gcc" -std=gnu11 -O2 -g -Wall -Wextra \
		-Werror -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -DRAM_BASE="${ram_base}ull" -I"$PROJECT/uapi" \
		-isystem "$KERNEL/source/tools/testing/selftests" -static -pthread \
		-o "$dir/share/$name" "$PROJECT/tests/kselftest/region.c" \
		"$PROJECT/tests/kselftest/vmmexp_util.c"
done

# device_tree NAME QEMU-ARGUMENT...
device_tree() {
	local name=$1
	shift
	"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- "${qemu[@]}" "$@" \
		-machine "dumpdtb=$dir/$name.dtb" -smp 2 -m "$mem" -nodefaults -display none \
		>"$dir/qemu.log" 2>&1 || die "QEMU makes no device tree: $(<"$dir/qemu.log")"
}
if [[ $TARGET == vexpress ]]; then
	cp -- "$KERNEL/vexpress-v2p-ca15-tc1.dtb" "$dir/base.dtb"
else
	device_tree base
fi
# The regions of virt; where memory begins elsewhere, as far from there.
cp -- "$PROJECT"/dts/qemu-virt-*.dts* "$dir"
if ((ram_base != 0x40000000)); then
	# shellcheck disable=SC2016 # Perl's
	"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- perl -pi -e \
		's/(?<=<0x0 0x)([4-7]\w{7})|(?<=@)([4-7]\w{7})/sprintf "%x", hex($1 || $2) + '$((ram_base - 0x40000000))'/ge' \
		"$dir"/qemu-virt-*.dts*
fi

# Answers host() of region.c: NAME.request says "read|write ADDRESS LENGTH".
"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- python3 -c '
import os, sys, time

share, memory, base = sys.argv[1], sys.argv[2], int(sys.argv[3])
while os.path.isdir(share):
    for file in os.listdir(share) if os.path.isdir(share) else []:
        if not file.endswith(".request"):
            continue
        name = os.path.join(share, file[:-len(".request")])
        with open(name + ".request") as request:
            verb, address, length = request.read().split()
        os.remove(name + ".request")
        with open(memory, "r+b") as mem:
            mem.seek(int(address) - base)
            if verb == "read":
                with open(name + ".data", "wb") as data:
                    data.write(mem.read(int(length)))
            else:
                with open(name + ".data", "rb") as data:
                    mem.write(data.read(int(length)))
        open(name + ".done", "w").close()
    time.sleep(0.01)
' "$dir/share" "$dir/memory" "$ram_base" >"$dir/reader.log" 2>&1 </dev/null &

# boot NAME OVERLAY APPEND FIXTURE...: run the tests of these fixtures on a
# machine with the regions of the overlay; the kernel's log is left in NAME.log.
# In MACHINE: what is to be added to QEMU's command line; in BASE the device tree.
MACHINE=() BASE=base
boot() {
	local name=$1 overlay=$2 append=$3 rc=0 program fixtures=() line
	shift 3
	"$PROJECT/dts/apply-overlay" "$dir/$BASE.dtb" "$dir/$overlay" "$dir/$name.dtb"
	local arguments=()
	for line; do fixtures+=(-f "$line"); done
	for line in "${MACHINE[@]}"; do arguments+=(--qemu-arg "$line"); done
	rm -f -- "$dir/memory"
	"$PROJECT/scripts/qemu-run" --target "$TARGET" --share "$dir/share" --mem "$mem" \
		--mem-file "$dir/memory" --timeout 600 --log "$dir/$name.log" --append "$append" \
		--qemu-arg -dtb --qemu-arg "$dir/$name.dtb" "${arguments[@]}" -- "rc=0
		for program in ${programs[*]%% *}; do
			echo \"# program \$program\"
			./\$program ${fixtures[*]} || rc=1
			echo \"# done \$program\"
		done
		exit \$rc" >"$dir/$name.tap" 2>&1 </dev/null &
	guest=$!
	wait "$guest" || rc=$?
	guest=
	# Each of its results is one of ours; what stands between says why.
	while IFS= read -r line; do
		line=${line%$'\r'}
		case $line in
		"# program "*) program=${line##* } ;;
		"ok "*) report ok "$name: $program: ${line#ok * }" ;;
		"not ok "*) report not-ok "$name: $program: ${line#not ok * }" ;;
		[0-9]*..[0-9]*) echo "# $program: plan $line" ;;
		"#"* | "") echo "$line" ;;
		*) echo "# $line" ;;
		esac
	done <"$dir/$name.tap"
	for program in "${programs[@]}"; do
		expect "$name: ${program%% *}: every test has its result" complete "$name" \
			"${program%% *}"
	done
	# Status 1 is a test's, and told above.
	expect "$name: the guest is well" [ "$rc" -le 1 ]
}

# complete NAME PROGRAM: as many results as its plan says, and more than none.
complete() {
	awk -v program="$2" '
		$1 == "#" && $2 == "program" { now = $3 == program }
		now && /^1\.\.[0-9]+/ { sub(/^1\.\./, ""); plan = $0 + 0 }
		now && /^(not )?ok / { seen++ }
		END { if (!plan || plan != seen) print "planned: " plan + 0 ", seen: " seen + 0 }
	' "$dir/$1.tap"
}

# logged LOG REGION LINE: just that is what the driver says of the region.
logged() {
	local said
	said=$(tr -d '\r' <"$dir/$1.log" | grep -a -F "vmmexp vmmexp: region '$2'" |
		sed 's/^\[[^]]*\] //' || :)
	[[ $said == "vmmexp vmmexp: region '$2': $3" ]] ||
		printf 'expected: %s\nit says: %s\n' "$3" "$said"
}

# Some lists here have a page twice, which DMA_API_DEBUG takes for a mistake.
append=
[[ $TARGET != vexpress ]] || append=dma_debug=off
case $TARGET in
arm64) overlay="qemu-virt-arm64-vmmexp.dtso" ;;
armhf | vexpress) overlay="qemu-virt-arm-vmmexp.dtso" ;;
esac

boot strict "$overlay" "$append" regions
boot unload "$overlay" "$append" unload
boot relaxed "$overlay" "iomem=relaxed $append" relaxed
boot bad qemu-virt-vmmexp-bad.dtso "$append" bad
# 32-bit kernels have no SMMUv3.
if [[ $TARGET == arm64 ]]; then
	device_tree smmu -machine iommu=smmuv3
	MACHINE=(-machine iommu=smmuv3 -device "edu,dma_mask=0xffffffffffffffff") BASE=smmu
	boot smmu "$overlay" "" smmu
	MACHINE=() BASE=base
	# Else nobody tried.
	expect "log: the SMMU refused a write to what is mapped for reading" \
		grep -a -q -E 'event: F_PERMISSION client: [0-9a-f:.]+ ' "$dir/smmu.log"
fi

expect "log: frames" logged strict frames "16384 KiB, read-write, uncached"
expect "log: ctl" logged strict ctl "1024 KiB, read-write, cached"
expect "log: rom" logged strict rom "1024 KiB, read-only, uncached"
expect "log: good" logged bad good "16384 KiB, read-write, uncached"
while read -r region cause; do
	expect "log: $region is refused" logged bad "$region" "$cause, not used"
done <<-'END'
	overlap a part of it belongs to another region or driver
	unaligned it is not aligned to pages
	partial it is not aligned to pages
	reusable it is reusable: Linux uses that memory
	mapped it is not no-map
	Bad_Name the name is not 1 to 23 of a-z, 0-9 and -
	absent there is no such reserved memory
	kernel a part of it belongs to another region or driver
	again a part of it belongs to another region or driver
END
echo "1..$number"
[[ ! -s $dir/reader.log ]] || sed 's/^/# reader: /' "$dir/reader.log"
[[ -z $failed ]]
