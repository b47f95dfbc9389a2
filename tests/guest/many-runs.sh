#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# qemu-run: --mem 12G
# targets: arm64 amd64
#
# The bound of a buffer's physically contiguous runs, 2^20, which takes a buffer
# of more than 4 GiB (repeats of a little memory), and so a machine of more than
# that. A 32-bit machine never has as many pages.

awk '$1 == "MemTotal:" { exit $2 < 9 * 1024 * 1024 }' /proc/meminfo || {
	echo "Bail out! this machine was not booted with enough memory"
	exit 1
}
VMMEXP_MANY_RUNS=1 exec /vmmexp/kselftest/hardening_test -t runs_are_bounded
