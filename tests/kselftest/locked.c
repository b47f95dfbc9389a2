// SPDX-License-Identifier: GPL-2.0-only
/*
 * Print how many pages root, without the capability to lock as many as it likes,
 * can lock: what is missing from the limit is charged, for whatever. Asked of
 * io_uring, which counts where vmmexp does. Run between programs by the guest's
 * part of scripts/test.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "kselftest_harness.h"

#include "vmmexp_trust_util.h"

int main(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = {};
	struct locked locked;
	int left;

	if (set_memlock((LOCKED_PAGES - 1) * vmm_page_size()) ||
	    syscall(SYS_capset, &header, none)) {
		perror("locked");
		return 1;
	}
	if (locked_open(&locked)) {
		fprintf(stderr, "locked: no io_uring\n");
		return 1;
	}
	left = locked_left(&locked);
	locked_close(&locked);
	printf("%d\n", left);
	return left < 0;
}
