# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts of this directory share: where things are, which targets
# there are, and how to say what goes on.  Sourced, never run.

# The project directory and the cache.  Everything large that can be made again
# lives in the cache: build roots, kernel sources, stock kernels.
PROJECT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${VMMEXP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmmexp}
mkdir -p -- "$CACHE"
CACHE=$(cd -- "$CACHE" && pwd -P)

# shellcheck disable=SC2034 # used by the scripts that source this file
ALL_TARGETS=(arm64 armhf amd64)

# The root that has QEMU, and the one that the checks run in.
# shellcheck disable=SC2034
TOOLS_SUITE=trixie

# That root's cargo, with packages in the cache.  A proxy on the way to them may
# have a certificate that only this machine trusts.
ROOT_CARGO=("$PROJECT/scripts/in-root")
[[ ! -d /etc/ssl/certs ]] || ROOT_CARGO+=(--bind /etc/ssl/certs)
ROOT_CARGO+=("$TOOLS_SUITE" -- env CARGO_HOME="$CACHE/cargo" cargo)

ME=${0##*/}

note() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() { note "$*"; exit 1; }

# target_vars TARGET: set what distinguishes one target from another.
#   SUITE      Debian suite of the kernel and of the tools that built it
#   DEB_ARCH   Debian's name of the architecture
#   FLAVOUR    last part of the stock kernel's release
#   KARCH      the kernel's name of the architecture
#   CROSS      prefix of the cross compiler
#   KERNEL     where the target's stock kernel is
# shellcheck disable=SC2034
target_vars() {
	TARGET=$1
	case $TARGET in
	arm64)
		SUITE=trixie DEB_ARCH=arm64 FLAVOUR=arm64
		KARCH=arm64 CROSS=aarch64-linux-gnu-
		;;
	armhf)
		SUITE=forky DEB_ARCH=armhf FLAVOUR=armmp
		KARCH=arm CROSS=arm-linux-gnueabihf-
		;;
	amd64)
		SUITE=trixie DEB_ARCH=amd64 FLAVOUR=amd64
		KARCH=x86 CROSS=x86_64-linux-gnu-
		;;
	vexpress)
		# No stock kernel: scripts/setup-vexpress builds one.
		SUITE=trixie DEB_ARCH=armhf FLAVOUR=vexpress
		KARCH=arm CROSS=arm-linux-gnueabihf-
		;;
	*)
		die "no such target: $TARGET (there are: ${ALL_TARGETS[*]})"
		;;
	esac
	KERNEL=$CACHE/kernels/$TARGET/current
}

# root_of SUITE: the newest complete build root of SUITE, empty if none.
root_of() {
	local link=$CACHE/roots/$1
	if [[ -e $link/.complete ]]; then
		(cd -- "$link" && pwd -P)
	fi
}

# kernel_root TARGET: the build root that the target's kernel tree was made in
# (its rustc and its compiler are the ones the tree's configuration names).
kernel_root() {
	local root=$CACHE/kernels/$1/current/root
	if [[ -e $root/.complete ]]; then
		(cd -- "$root" && pwd -P)
	fi
}

# as_root CMD...: run CMD as root, or say why that cannot be.
as_root() {
	if ((EUID == 0)); then
		"$@"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		sudo -n -E -- "$@"
	else
		die "this needs root (chroot, mounts, packages): run it as root, or let sudo work without a password"
	fi
}

# elapsed SECONDS_AT_START: how long ago that was, for people.
elapsed() {
	local s=$((SECONDS - $1))
	if ((s < 60)); then printf '%d s' "$s"; else printf '%d min %02d s' $((s / 60)) $((s % 60)); fi
}

# step TEXT LOG CMD...: run a long CMD with its output in LOG.  One line on
# success, the log's tail on failure.
step() {
	local text=$1 log=$2 start=$SECONDS
	shift 2
	mkdir -p -- "$(dirname -- "$log")"
	if "$@" >"$log" 2>&1 </dev/null; then
		note "$text: done ($(elapsed "$start"))"
	else
		local rc=$?
		tail -n 40 -- "$log" >&2
		note "$text: FAILED after $(elapsed "$start"), the whole log is $log"
		return "$rc"
	fi
}

# kernel_ready TARGET: is there a complete kernel with its build tree?
kernel_ready() {
	[[ -e $CACHE/kernels/$1/current/.complete && -n $(kernel_root "$1") ]]
}

# kernel_needed TARGET: make sure that there is.
kernel_needed() {
	case $1 in
	# It follows its configuration, so ask even if there is one.
	vexpress) "$PROJECT/scripts/setup-vexpress" --quiet ;;
	*) kernel_ready "$1" || "$PROJECT/scripts/setup" "$1" ;;
	esac
}

# Modules that the guest needs before it can reach any others.
BOOT_MODULES=(virtio_pci virtio_mmio virtio_console 9pnet_virtio 9p)

# guest_initramfs TARGET: print the path of the guest's initramfs, made anew if
# what it is made of has changed.  The vexpress kernel has built in what others
# load, and so few modules that they are all in the initramfs.
guest_initramfs() {
	local kernel release key image
	[[ $1 != vexpress ]] || local BOOT_MODULES=()
	kernel=$(cd -- "$CACHE/kernels/$1/current" && pwd -P)
	release=$(<"$kernel/release")
	key=$({ cat -- "$PROJECT/scripts/guest-init" "$kernel/busybox"; echo "${BOOT_MODULES[@]}"; } |
		sha256sum | cut -c1-16)
	image=$kernel/initramfs-$key.cpio
	if [[ ! -e $image ]]; then
		local dir=$kernel/initramfs.$$
		rm -rf -- "$dir"
		mkdir -p -- "$dir"/{bin,sbin,etc,root,boot-modules}
		mkdir -p -- "$dir"/usr/{bin,sbin}
		cp -- "$kernel/busybox" "$dir/bin/busybox"
		ln -s busybox "$dir/bin/sh"
		install -m 755 -- "$PROJECT/scripts/guest-init" "$dir/init"
		printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'user:x:1000:1000:user:/tmp:/bin/sh' \
			'nobody:x:65534:65534:nobody:/:/bin/sh' >"$dir/etc/passwd"
		printf '%s\n' 'root:x:0:' 'tty:x:5:' 'user:x:1000:' 'nogroup:x:65534:' >"$dir/etc/group"
		# shellcheck disable=SC2016 # expanded by the inner shell
		"$PROJECT/scripts/in-root" "$1" -- sh -e -c '
			modules=$1 release=$2 dir=$3 image=$4
			shift 4
			for m; do
				modprobe -d "$modules" -S "$release" --show-depends "$m"
			done | awk "\$1 == \"insmod\" && !seen[\$2]++ { print \$2 }" |
			while read -r ko; do
				name=${ko##*/}
				case $name in
				*.xz) name=${name%.xz}; xz -dc "$ko" >"$dir/boot-modules/$name" ;;
				*.zst) name=${name%.zst}; zstd -qdc "$ko" >"$dir/boot-modules/$name" ;;
				*) cp "$ko" "$dir/boot-modules/$name" ;;
				esac
				echo "$name"
			done >"$dir/boot-modules/order"
			if [ "$#" = 0 ]; then
				mkdir -p "$dir/lib"
				cp -r "$modules/lib/modules" "$dir/lib/"
			fi
			cd "$dir"
			find . | cpio --quiet -o -H newc -R 0:0 >"$image.$$"
			mv "$image.$$" "$image"
		' mkinitramfs "$kernel/modules" "$release" "$dir" "$image" "${BOOT_MODULES[@]}"
		rm -rf -- "$dir"
	fi
	printf '%s\n' "$image"
}

# kernel_make TARGET ARGUMENT...: make in the stock kernel's build tree, with
# the compiler that the kernel itself was built with.
kernel_make() {
	local kernel=$CACHE/kernels/$1/current CC_NAME
	target_vars "$1"
	shift
	CC_NAME=$(sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\) .*/\1/p' "$kernel/config")
	"$PROJECT/scripts/in-root" "$TARGET" -- \
		make -j"$(nproc)" -C "$kernel/build" ARCH="$KARCH" CROSS_COMPILE="$CROSS" CC="$CC_NAME" "$@"
}

# quietly LOG CMD...: run CMD, its output in LOG, shown when CMD fails or warns.
quietly() {
	local log=$1
	shift
	mkdir -p -- "$(dirname -- "$log")"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 60 -- "$log" >&2
		note "FAILED: the whole log is $log"
		return 1
	fi
	if grep -q -i 'warning' -- "$log"; then
		grep -i -A 12 'warning' -- "$log" >&2
	fi
}
