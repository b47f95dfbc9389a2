#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# qemu-run: --param unsafe_export_any_pfn_root_only_taints=1
#
# The administrator's exception: the tests of any other machine, where that
# memory is refused, with what follows from the parameter.

VMMEXP_ANY_PFN=1 exec /vmmexp/kselftest/vmmexp_any_pfn_test
