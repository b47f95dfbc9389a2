#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# qemu-run: --append "swiotlb=force"
#
# A machine whose kernel sends every transfer through bounce buffers, as
# confidential guests do: a device would work on a copy. Every map is refused,
# whatever the device, without a warning, and nothing else changes. The tests
# are those of any other machine, with the expectation that follows from the
# kernel's command line (and from its having bounce buffers at all: arm without
# LPAE never sets them up, so there every device reaches everything).

grep -q swiotlb=force /proc/cmdline || {
	echo "Bail out! this machine was not booted with swiotlb=force"
	exit 1
}
exec /vmmexp/kselftest/mock_reach_test
