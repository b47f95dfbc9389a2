#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# qemu-run: --append "movablecore=512M"
#
# A machine that has most of its user memory where the kernel wants to move it,
# as boards with a large CMA area have.

exec /vmmexp/kselftest/vmmexp_movable_test
