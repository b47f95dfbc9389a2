#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The device-tree binding and the overlays, without booting anything: the kernel's
# own checks of the binding, and each overlay on the device trees it is for, built
# from the kernel's source or made by QEMU.
#
#   tests/host-driven/devicetree.sh TARGET
#
# Once is enough:
# targets: armhf

set -euo pipefail
target=${1:?usage: devicetree.sh TARGET}
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/../../scripts/lib.sh"
target_vars "$target"
dts=$PROJECT/dts
dir=$PROJECT/build/$target/host-driven/devicetree
source_tree=$KERNEL/source
x15=am57xx-beagle-x15

# --- outside of the build root ------------------------------------------------

# dtschema and yamllint, as they are; apt's lists may be older than its mirror.
install_tools() {
	local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300
		-o Acquire::Retries=3) root=("$PROJECT/scripts/in-root" "$TOOLS_SUITE" --)
	local install=(install -y --no-install-recommends dt-schema yamllint)

	as_root "${root[@]}" "${apt[@]}" "${install[@]}" && return
	as_root "${root[@]}" "${apt[@]}" update
	as_root "${root[@]}" "${apt[@]}" "${install[@]}"
}

if [[ ${2-} != inside ]]; then
	kernel_ready "$target" || "$PROJECT/scripts/setup" "$target"
	mkdir -p -- "$dir"
	# All but the kernel's own objects is made anew.
	find "$dir" -mindepth 1 -maxdepth 1 ! -name kernel -exec rm -rf {} +
	mkdir -p -- "$dir/tree" "$dir/log"
	"$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- \
		sh -c 'command -v dt-validate && command -v yamllint' >/dev/null ||
		step "installing dtschema and yamllint in the $TOOLS_SUITE root" \
			"$CACHE/log/dtschema.log" install_tools
	# Also used from a machine that has no device-tree compiler: compared below
	# with what the same does inside.
	"$dts/apply-overlay" "$KERNEL/dtb/$x15.dtb" "$dts/$x15-vmmexp.dtso" \
		"$dir/tree/outside.dtb" 2>"$dir/log/outside" || :
	exec "$PROJECT/scripts/in-root" "$TOOLS_SUITE" -- bash "$PROJECT/tests/host-driven/devicetree.sh" \
		"$target" inside
fi

# --- inside -------------------------------------------------------------------

n=0
# result NAME CMD...: one test; CMD fails, or says what is wrong.
result() {
	local name=$1 said rc=0
	shift
	n=$((n + 1))
	said=$("$@" 2>&1) || rc=$?
	if ((rc == 0)) && [[ -z $said ]]; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		head -n 30 <<<"${said:-status $rc, and not a word}" | sed 's/^/# /'
	fi
}

# same EXPECTED CMD...: silent if that is what CMD says.
same() {
	local expected=$1 said
	shift
	said=$("$@" 2>&1) || :
	[[ $said == "$expected" ]] || printf 'expected:\n%s\nbut it is:\n%s\n' "$expected" "$said"
}

# complains PATTERN CMD...: silent if CMD says what fits PATTERN.
complains() {
	local pattern=$1 said
	shift
	said=$("$@" 2>&1) || :
	grep -q -E -e "$pattern" <<<"$said" || printf 'no complaint about %s:\n%s\n' "$pattern" "$said"
}

# --- the binding ----------------------------------------------------------------

binding=$dts/bindings/ti,vmmexp.yaml

# A kernel source that has our binding among those it checks: the real one all
# over, with only the bindings that have to do with ours.
link_source() {
	local bindings=Documentation/devicetree/bindings file
	mkdir -p -- "$dir/source/$bindings"
	for file in "$source_tree"/*; do
		[[ ${file##*/} == Documentation ]] || ln -s -- "$file" "$dir/source"
	done
	for file in "$source_tree"/Documentation/*; do
		[[ ${file##*/} == devicetree ]] || ln -s -- "$file" "$dir/source/Documentation"
	done
	for file in Makefile .yamllint vendor-prefixes.yaml reserved-memory; do
		cp -r -- "$source_tree/$bindings/$file" "$dir/source/$bindings"
	done
}

binding_check() { # FILE
	cp -- "$1" "$dir/source/Documentation/devicetree/bindings/ti,vmmexp.yaml"
	# -s: what it still says is a complaint.
	make -s -j"$(nproc)" -C "$dir/source" O="$dir/kernel" ARCH=arm \
		dt_binding_check DT_SCHEMA_FILES=ti,vmmexp.yaml
}

# broken_binding SED: the check of a binding that is changed like that.
broken_binding() {
	sed -e "$1" -- "$binding" >"$dir/broken.yaml"
	! cmp -s -- "$binding" "$dir/broken.yaml" || echo "nothing changed"
	binding_check "$dir/broken.yaml"
}

validate() { # DTB
	dt-validate -s "$dir/schema.json" -l ti,vmmexp "$1"
}

# --- the trees ---------------------------------------------------------------------

kernel_dtbs() { # DTB...
	mkdir -p -- "$dir/kernel"
	cp -- "$KERNEL/config" "$dir/kernel/.config"
	local make=(make -s -j"$(nproc)" -C "$source_tree" O="$dir/kernel" ARCH=arm CROSS_COMPILE="$CROSS")
	if ! { "${make[@]}" olddefconfig && "${make[@]}" "$@"; } >"$dir/log/dtbs" 2>&1 </dev/null; then
		tail -n 20 -- "$dir/log/dtbs"
		return 1
	fi
	local dtb
	for dtb; do cp -- "$dir/kernel/arch/arm/boot/dts/$dtb" "$dir/tree" || return; done
}

# As scripts/qemu-run has the machines.
qemu_dtb() { # QEMU MACHINE CPU NAME
	"$1" -machine "$2,dumpdtb=$dir/tree/$4.dtb" -cpu "$3" -smp 2 -m 1G -nodefaults -display none \
		>"$dir/log/$4" 2>&1 || cat -- "$dir/log/$4"
	[[ -s $dir/tree/$4.dtb ]]
}

apply() { # BASE OVERLAY-FILE OUT; BASE and OUT are names in $dir/tree
	"$dts/apply-overlay" "$dir/tree/$1.dtb" "$2" "$dir/tree/$3.dtb"
}

source_of() { dtc -q -s -I dtb -O dts "$1"; }

# added BASE DTB [NODE PROPERTY]: what DTB lacks of BASE, but for that property.
added() {
	cp -- "$dir/tree/$1.dtb" "$dir/but.dtb"
	(($# == 2)) || fdtput -d "$dir/but.dtb" "$3" "$4"
	if source_of "$dir/but.dtb" >"$dir/but.dts" && source_of "$dir/tree/$2.dtb" >"$dir/with.dts"; then
		diff "$dir/but.dts" "$dir/with.dts" | grep '^<' || :
	else
		echo "dtc cannot read $1 or $2"
	fi
}

# --- where the regions are ---------------------------------------------------------

has() { fdtget -p "$1" "$2" | grep -q -x -- "$3"; } # DTB NODE PROPERTY

# ranges DTB NODE PARENT: "START END" of each entry of reg, END excluded.
ranges() {
	local cells address size word
	address=$(fdtget -t u "$1" "$3" '#address-cells') size=$(fdtget -t u "$1" "$3" '#size-cells')
	read -r -a cells <<<"$(fdtget -t x "$1" "$2" reg)"
	set -- "${cells[@]}"
	(($# > 0 && $# % (address + size) == 0)) || echo "reg of the wrong length" >&2
	while (($# >= address + size)); do
		local start=0 length=0
		for word in "${@:1:address}"; do start=$((start << 32 | 16#$word)); done
		for word in "${@:address+1:size}"; do length=$((length << 32 | 16#$word)); done
		echo "$start $((start + length))"
		shift $((address + size))
	done
}

enabled() { [[ $(fdtget -d okay "$1" "$2" status) == okay ]]; } # DTB NODE

# faults DTB: of each region that the vmmexp node lists, "NAME FAULT" for what is
# wrong with it; nothing when all is well.  That there are regions at all is for
# the caller to know: "N regions" comes last.
faults() {
	local dtb=$1 node phandle name i start end from to inside
	local -a phandles names memory=() others=()
	local -A node_of=()

	read -r -a phandles <<<"$(fdtget -t x "$dtb" /vmmexp memory-region)"
	read -r -a names <<<"$(fdtget -t s "$dtb" /vmmexp memory-region-names)"
	for node in $(fdtget -l "$dtb" / | grep '^memory@'); do
		mapfile -t -O "${#memory[@]}" memory < <(ranges "$dtb" "/$node" /)
	done
	for node in $(fdtget -l "$dtb" /reserved-memory); do
		node=/reserved-memory/$node
		phandle=$(fdtget -t x -d none "$dtb" "$node" phandle)
		[[ $phandle == none ]] || node_of[$phandle]=$node
		if enabled "$dtb" "$node" && has "$dtb" "$node" reg; then
			mapfile -t -O "${#others[@]}" others < <(ranges "$dtb" "$node" /reserved-memory |
				sed "s|\$| $node|")
		fi
	done
	((${#memory[@]})) || echo "no memory node"
	for i in "${!phandles[@]}"; do
		name=${names[i]-nameless} node=${node_of[${phandles[i]}]-}
		if [[ -z $node ]] || ! enabled "$dtb" "$node" || ! has "$dtb" "$node" reg; then
			echo "$name absent"
			continue
		fi
		has "$dtb" "$node" no-map || echo "$name mapped"
		! has "$dtb" "$node" reusable || echo "$name reusable"
		ranges "$dtb" "$node" /reserved-memory | while read -r start end; do
			# Of any page size that Linux may have on these machines.
			((start % 65536 == 0 && end % 65536 == 0)) || echo "$name unaligned"
			inside=
			while read -r from to; do
				((start < from || end > to || start >= end)) || inside=1
			done < <(printf '%s\n' "${memory[@]}")
			[[ -n $inside ]] || echo "$name outside"
			while read -r from to other; do
				[[ $other == "$node" ]] || ((end <= from || to <= start)) ||
					echo "$name overlaps ${other##*/}"
			done < <(printf '%s\n' "${others[@]}")
		done
	done
	printf '%s\n' "${phandles[@]}" | sort | uniq -d | while read -r phandle; do
		echo "${node_of[$phandle]##*/} twice"
	done
	echo "${#phandles[@]} regions"
}

# moved START: the overlay of the X15 with frames there, and its faults.
moved() {
	cpp -nostdinc -undef -D__DTS__ -x assembler-with-cpp -P -I "$dts" "$dts/$x15-vmmexp.dtso" |
		sed "s/ba300000/$1/" >"$dir/moved.dtso"
	apply "$x15" "$dir/moved.dtso" moved && faults "$dir/tree/moved.dtb"
}

# wrong SED: what the validation says of QEMU's tree with an overlay changed so.
wrong() {
	sed -e "$1" -- "$dts/qemu-virt-vmmexp.dtsi" >"$dir/qemu-virt-vmmexp.dtsi"
	! cmp -s -- "$dts/qemu-virt-vmmexp.dtsi" "$dir/qemu-virt-vmmexp.dtsi" || echo "nothing changed"
	cp -- "$dts/qemu-virt-arm64-vmmexp.dtso" "$dir/wrong.dtso"
	apply virt-arm64 "$dir/wrong.dtso" wrong && validate "$dir/tree/wrong.dtb"
}

# refuses PATTERN BASE OVERLAY: silent if that is not applied, and nothing is left.
refuses() {
	local said
	if said=$("$dts/apply-overlay" "$2" "$3" "$dir/tree/refused.dtb" 2>&1); then
		echo "applied"
	fi
	grep -q -E -e "$1" <<<"$said" || printf 'it says: %s\n' "$said"
	ls -- "$dir"/tree/refused.dtb* 2>/dev/null || :
}

# The chapter shows the lines for the X15: they are those of the overlay.
documented() {
	awk '/^```/ { code = $0 == "```dts"; next } code' "$PROJECT/Documentation/rtos-memory.md" \
		>"$dir/documented.dtso"
	apply "$x15" "$dir/documented.dtso" documented &&
		diff <(source_of "$dir/tree/$x15-vmmexp.dtb") <(source_of "$dir/tree/documented.dtb")
}

# BASE OVERLAY REGIONS [NODE PROPERTY], the last that the overlay takes away
clcd=/bus@8000000/motherboard-bus@8000000/iofpga-bus@300000000/clcd@1f0000
overlays=("$x15 $x15 2" "$x15-revb1 $x15 2" "$x15-revc $x15 2" "am572x-idk am572x-idk 2"
	"dra7-evm dra7-evm 2"
	"vexpress-v2p-ca15-tc1 vexpress-a15 2 $clcd memory-region"
	"virt-arm qemu-virt-arm 3" "virt-arm64 qemu-virt-arm64 3")
echo "1..$((36 + 4 * ${#overlays[@]}))"

result "the kernel's device trees" kernel_dtbs ti/omap/{$x15,$x15-revb1,$x15-revc,am572x-idk,dra7-evm}.dtb \
	arm/vexpress-v2p-ca15-tc1.dtb
result "QEMU's device tree, arm" qemu_dtb qemu-system-arm virt,highmem=off cortex-a15 virt-arm
result "QEMU's device tree, arm64" qemu_dtb qemu-system-aarch64 virt cortex-a57 virt-arm64
result "dra7-evm.dtb is one without symbols" complains FDT_ERR_NOTFOUND \
	fdtget -l "$dir/tree/dra7-evm.dtb" /__symbols__
result "$x15.dtb is one with symbols" complains "^/ocp" \
	fdtget "$dir/tree/$x15.dtb" /__symbols__ ipu1

result "dt-doc-validate" dt-doc-validate "$binding"
result "dt-mk-schema" sh -c "dt-mk-schema -j '$binding' >'$dir/schema.json'"
link_source
result "dt_binding_check" binding_check "$binding"
result "dt_binding_check sees a wrong example" complains "'neither' is not one of" \
	broken_binding 's/"uncached", "uncached"/"uncached", "neither"/'
result "dt_binding_check sees a wrong schema" complains "wrong-keyword" \
	broken_binding 's/additionalProperties: false/wrong-keyword: false/'
result "coding style" "$source_tree/scripts/dtc/dt-check-style" --mode=strict \
	"$dts"/*.dtso "$dts"/*.dtsi "$binding"

for line in "${overlays[@]}"; do
	read -r base overlay regions lost <<<"$line"
	result "$base: apply-overlay" apply "$base" "$dts/$overlay-vmmexp.dtso" "$base-vmmexp"
	# shellcheck disable=SC2086 # two words or none
	result "$base: nothing of it is lost" added "$base" "$base-vmmexp" $lost
	result "$base: dt-validate" validate "$dir/tree/$base-vmmexp.dtb"
	result "$base: the regions are DDR that nothing else has" \
		same "$regions regions" faults "$dir/tree/$base-vmmexp.dtb"
done

# What has been silent above does speak.
result "region in a pool of the board" same "frames overlaps ipu2-memory@95800000
2 regions" moved 95900000
result "region that begins before the DDR" same "frames outside
2 regions" moved 7ff00000
result "region that ends after the DDR" same "frames outside
2 regions" moved ff000000
result "region in an odd place" same "frames unaligned
2 regions" moved b0000800
for arch in arm arm64; do
	result "virt-$arch: bad regions, applied" apply virt-$arch "$dts/qemu-virt-vmmexp-bad.dtso" bad-$arch
	# Where the kernel is, no device tree tells.
	result "virt-$arch: bad regions" same "good overlaps rtos-overlap@70f00000
overlap overlaps rtos-good@70000000
unaligned unaligned
partial unaligned
reusable mapped
reusable reusable
mapped mapped
absent absent
again overlaps rtos-overlap@70f00000
rtos-good@70000000 twice
10 regions" faults "$dir/tree/bad-$arch.dtb"
	result "virt-$arch: dt-validate sees the bad name" complains "'Bad_Name' does not match" \
		validate "$dir/tree/bad-$arch.dtb"
done
result "dt-validate: unknown access" complains "'write-only' is not one of" wrong 's/"read-only"/"write-only"/'
result "dt-validate: unknown cacheability" complains "'write-back' is not one of" \
	wrong 's/"uncached", "cached"/"uncached", "write-back"/'
result "dt-validate: two regions of one name" complains "non-unique" wrong 's/"frames", "ctl"/"frames", "frames"/'
result "dt-validate: name that is too long" complains "does not match" \
	wrong 's/"frames", "ctl"/"a-name-of-24-characters-", "ctl"/'
result "dt-validate: no names" complains "'memory-region-names' is a required property" \
	wrong '/memory-region-names/d'
result "dt-validate: no regions" complains "'memory-region' is a required property" \
	wrong '/memory-region = /d'
result "dt-validate: unknown property" complains "'ti,region-size' does not match" \
	wrong 's/ti,region-access/ti,region-size/'

result "apply-overlay: base that is no device tree" refuses "does not fit" "$binding" "$dts/$x15-vmmexp.dtso"
result "apply-overlay: base without the node to extend" refuses "does not fit" \
	"$dir/tree/virt-arm.dtb" "$dts/$x15-vmmexp.dtso"
result "apply-overlay: no such base" refuses "no such file" "$dir/nothing.dtb" "$dts/$x15-vmmexp.dtso"
echo '/dts-v1/; /plugin/; &{/} { vmmexp { ' >"$dir/unfinished.dtso"
result "apply-overlay: overlay with an error" refuses "syntax error" \
	"$dir/tree/virt-arm.dtb" "$dir/unfinished.dtso"
cp -- "$KERNEL/dtb/$x15.dtb" "$dir/tree/stock.dtb"
result "apply-overlay: the stock kernel's device tree" apply stock "$dts/$x15-vmmexp.dtso" stock-vmmexp
result "apply-overlay: outside of the build root" diff "$dir/log/outside" /dev/null
result "apply-overlay: the same outside of the build root" \
	diff <(source_of "$dir/tree/stock-vmmexp.dtb") <(source_of "$dir/tree/outside.dtb")
result "Documentation/rtos-memory.md has the X15's lines" documented
