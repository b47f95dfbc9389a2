// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parameters that the module is loaded with: limits of the administrator's,
 * what INFO tells of them, and the reason that a call is refused with.
 *
 * Every test ends with the module loaded without any, as the others expect it.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>

#include "kselftest_harness.h"

#include "vmmexp_trust_util.h"

#define MODULE		"vmmexp"
#define MODULE_FILE	"/vmmexp/module/vmmexp.ko"

/* Pages that a user may lock. */
#define LIMIT		40

static int load(const char *parameters)
{
	int fd = open(MODULE_FILE, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = syscall(__NR_finit_module, fd, parameters, 0) ? -errno : 0;
	close(fd);
	return ret;
}

/* A reference may be dropped a moment after close() returned. */
static int unload(void)
{
	unsigned int tries;
	int ret = 0;

	for (tries = 0; tries < 100; tries++) {
		ret = syscall(__NR_delete_module, MODULE, O_NONBLOCK) ? -errno : 0;
		if (ret != -EWOULDBLOCK)
			break;
		vmm_msleep(20);
	}
	return ret;
}

FIXTURE(params)
{
	long long pins;
	uid_t user;
	uid_t other;
	size_t page;
	int dev;
	char *mem;
	struct vmmexp_info info;
};

FIXTURE_SETUP(params)
{
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->user = fresh_user(0);
	self->other = fresh_user(1);
	self->page = vmm_page_size();
	self->dev = -1;
	self->mem = mock_mem_anon((LIMIT + 1) * self->page);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, set_memlock(LIMIT * self->page));
	ASSERT_EQ(0, unload());
}

FIXTURE_TEARDOWN_PARENT(params)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
	if (!access("/sys/module/" MODULE, F_OK))
		EXPECT_EQ(0, unload());
	EXPECT_EQ(0, load(""));
}

static void with(struct __test_metadata *_metadata, struct _test_data_params *self,
		 const char *format, unsigned long long value)
{
	char parameters[128];

	snprintf(parameters, sizeof(parameters), format, value);
	if (self->dev >= 0) {
		close(self->dev);
		ASSERT_EQ(0, unload());
	}
	ASSERT_EQ(0, load(parameters)) TH_LOG("%s", parameters);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
}

/* As much memory as the kernel has, which sysinfo() tells as well. */
static __u64 all_memory(size_t page)
{
	return (__u64)sysconf(_SC_PHYS_PAGES) * page;
}

TEST_F(params, defaults)
{
	with(_metadata, self, "%.0llu", 0);
	EXPECT_EQ(all_memory(self->page), self->info.max_size);
	EXPECT_EQ(1024, self->info.max_ranges);
	ASSERT_EQ(0, become(self->user));
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	EXPECT_EQ(LIMIT * self->page, self->info.charge_left);
}

TEST_F(params, what_is_no_number_is_refused)
{
	EXPECT_EQ(-EINVAL, load("max_ranges=many"));
	EXPECT_EQ(-EINVAL, load("max_ranges=-1"));
	EXPECT_EQ(-EINVAL, load("max_buffer_bytes=all"));
	EXPECT_EQ(-EINVAL, load("max_user_bytes="));
	/* Nothing of it is left that were in the way. */
	with(_metadata, self, "max_ranges=%llu", 7);
	EXPECT_EQ(7, self->info.max_ranges);
}

/*
 * max_buffer_bytes
 */
TEST_F(params, buffer_up_to_max_buffer_bytes)
{
	struct vmmexp_range ranges[] = {
		vmm_range(self->mem, 6 * self->page),
		vmm_range(self->mem, 2 * self->page),
	};
	struct vmmexp_export ex;

	with(_metadata, self, "max_buffer_bytes=%llu", 8 * self->page);
	EXPECT_EQ(8 * self->page, self->info.max_size);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 8 * self->page, 0, &ex), &ex);
	close(ex.fd);
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, 9 * self->page, 0, &ex), &ex,
			 EOVERFLOW, VMMEXP_REASON_TOO_BIG, 0);
	/* The whole buffer counts, not each range. */
	EXPECT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex);
	close(ex.fd);
	ranges[1].len += self->page;
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex,
			 EOVERFLOW, VMMEXP_REASON_TOO_BIG, 6 * self->page);
	/* It is a limit of each buffer, not of all together. */
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 8 * self->page, 0, &ex), &ex);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 8 * self->page, 0, &ex), &ex);
}

TEST_F(params, max_buffer_bytes_is_whole_pages)
{
	struct vmmexp_export ex;

	with(_metadata, self, "max_buffer_bytes=%llu", 3 * self->page - 1);
	EXPECT_EQ(2 * self->page, self->info.max_size);
	EXPECT_EQ(-EOVERFLOW, vmm_export(self->dev, self->mem, 3 * self->page, 0, &ex));
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 2 * self->page, 0, &ex), &ex);
}

/* Less than the least is not the same as no limit. */
TEST_F(params, max_buffer_bytes_below_a_page_is_a_limit)
{
	struct vmmexp_export ex;

	with(_metadata, self, "max_buffer_bytes=%llu", 1);
	EXPECT_GE(self->page, self->info.max_size);
	EXPECT_EQ(-EOVERFLOW, vmm_export(self->dev, self->mem, 2 * self->page, 0, &ex));
}

TEST_F(params, max_buffer_bytes_above_memory_is_memory)
{
	with(_metadata, self, "max_buffer_bytes=%llu", ~0ull);
	EXPECT_EQ(all_memory(self->page), self->info.max_size);
	with(_metadata, self, "max_buffer_bytes=%llu", 0);
	EXPECT_EQ(all_memory(self->page), self->info.max_size);
}

/*
 * max_ranges
 */
TEST_F(params, calls_up_to_max_ranges)
{
	struct vmmexp_range ranges[4];
	struct vmmexp_sync_range pieces[4] = {};
	struct vmmexp_export ex;
	struct vmmexp_sync sync;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		ranges[i] = vmm_range(self->mem + i * self->page, self->page);
		pieces[i].len = self->page;
	}
	with(_metadata, self, "max_ranges=%llu", 3);
	EXPECT_EQ(3, self->info.max_ranges);
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, 4, 0, &ex), &ex,
			 E2BIG, VMMEXP_REASON_TOO_MANY_RANGES, 0);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 3, 0, &ex), &ex);
	EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, pieces, 3, VMMEXP_SYNC_RW, &sync), &sync);
	EXPECT_VMM_ERROR(vmm_sync(self->dev, ex.fd, pieces, 4, VMMEXP_SYNC_RW, &sync), &sync,
			 E2BIG, VMMEXP_REASON_TOO_MANY_RANGES, 0);
}

TEST_F(params, max_ranges_is_at_least_one)
{
	struct vmmexp_export ex;

	with(_metadata, self, "max_ranges=%llu", 0);
	EXPECT_EQ(1, self->info.max_ranges);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, self->page, 0, &ex), &ex);
}

TEST_F(params, max_ranges_is_at_most_65536)
{
	const unsigned int most = 65536;
	struct vmmexp_range *ranges = calloc(most + 1, sizeof(*ranges));
	struct vmmexp_export ex;
	unsigned int i;
	char *view;

	ASSERT_NE(NULL, ranges);
	with(_metadata, self, "max_ranges=%llu", 0xffffffffull);
	EXPECT_EQ(most, self->info.max_ranges);
	with(_metadata, self, "max_ranges=%llu", most);
	EXPECT_EQ(most, self->info.max_ranges);
	vmm_fill(self->mem, LIMIT * self->page, 0, 1);
	for (i = 0; i <= most; i++)
		ranges[i] = vmm_range(self->mem + i % LIMIT * self->page, self->page);
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, most + 1, 0, &ex), &ex,
			 E2BIG, VMMEXP_REASON_TOO_MANY_RANGES, 0);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, most, 0, &ex), &ex);
	EXPECT_EQ((__u64)most * self->page, ex.size);
	EXPECT_EQ(self->pins + most, vmm_pins());
	/* It is watched in all of them. */
	EXPECT_EQ(VMMEXP_STATE_LIVE, vmm_state(self->dev, ex.fd));
	i = most - 1;
	view = vmm_map(ex.fd, (off_t)i * self->page, self->page, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->page, i % LIMIT * self->page, 1));
	ASSERT_EQ(0, munmap(view, self->page));
	ASSERT_EQ(0, munmap(self->mem + i % LIMIT * self->page, self->page));
	EXPECT_EQ(VMMEXP_STATE_STALE, vmm_state(self->dev, ex.fd));
	close(ex.fd);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	free(ranges);
}

/*
 * max_user_bytes
 */
TEST_F(params, user_up_to_max_user_bytes)
{
	struct vmmexp_export ex, more;

	with(_metadata, self, "max_user_bytes=%llu", 10 * self->page);
	ASSERT_EQ(0, become(self->user));
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	EXPECT_EQ(10 * self->page, self->info.charge_left);
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, 11 * self->page, 0, &ex), &ex,
			 ENOMEM, VMMEXP_REASON_USER_LIMIT, 0);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, 4 * self->page, 0, &ex), &ex);
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	EXPECT_EQ(4 * self->page, self->info.charged);
	EXPECT_EQ(6 * self->page, self->info.charge_left);
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, 7 * self->page, 0, &more), &more,
			 ENOMEM, VMMEXP_REASON_USER_LIMIT, 0);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 6 * self->page, 0, &more), &more);
	close(ex.fd);
	close(more.fd);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 10 * self->page, 0, &ex), &ex);
}

TEST_F(params, users_have_max_user_bytes_each)
{
	struct vmmexp_export ex, others;

	with(_metadata, self, "max_user_bytes=%llu", 10 * self->page);
	ASSERT_EQ(0, become(self->user));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, 10 * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, become(self->other));
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 10 * self->page, 0, &others), &others);
	close(ex.fd);
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, self->page, 0, &ex), &ex,
			 ENOMEM, VMMEXP_REASON_USER_LIMIT, 0);
}

/* Both limits hold: here it is the other one. */
TEST_F(params, rlimit_below_max_user_bytes)
{
	struct vmmexp_export ex;

	with(_metadata, self, "max_user_bytes=%llu", (LIMIT + 1) * self->page);
	ASSERT_EQ(0, become(self->user));
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	EXPECT_EQ(LIMIT * self->page, self->info.charge_left);
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex), &ex,
			 ENOMEM, VMMEXP_REASON_MEMLOCK, 0);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, LIMIT * self->page, 0, &ex), &ex);
}

/* No rlimit, and the administrator's limit all the same. */
TEST_F(params, max_user_bytes_without_an_rlimit)
{
	struct vmmexp_export ex;

	with(_metadata, self, "max_user_bytes=%llu", 10 * self->page);
	ASSERT_EQ(0, set_memlock(RLIM_INFINITY));
	ASSERT_EQ(0, become(self->user));
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	EXPECT_EQ(10 * self->page, self->info.charge_left);
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, 11 * self->page, 0, &ex), &ex,
			 ENOMEM, VMMEXP_REASON_USER_LIMIT, 0);
}

/* It is of what is exported: what others lock counts for the rlimit only. */
TEST_F(params, max_user_bytes_is_of_exports)
{
	struct vmmexp_export ex;
	struct locked locked;

	with(_metadata, self, "max_user_bytes=%llu", 10 * self->page);
	ASSERT_EQ(0, become(self->user));
	ASSERT_EQ(0, locked_open(&locked));
	ASSERT_EQ(0, locked_take(&locked, 10));
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 10 * self->page, 0, &ex), &ex);
	/* And the other way round. */
	EXPECT_EQ(0, locked_give(&locked));
	EXPECT_EQ(1, locked_fits(&locked, 20));
	close(ex.fd);
	locked_close(&locked);
}

TEST_F(params, max_user_bytes_is_not_for_root)
{
	struct vmmexp_export ex;

	with(_metadata, self, "max_user_bytes=%llu", 10 * self->page);
	EXPECT_EQ(~0ull, self->info.charge_left);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, 11 * self->page, 0, &ex), &ex);
}

TEST_F(params, max_user_bytes_below_a_page_is_nothing)
{
	struct vmmexp_export ex;

	with(_metadata, self, "max_user_bytes=%llu", 1);
	ASSERT_EQ(0, become(self->user));
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	EXPECT_EQ(0, self->info.charge_left);
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, self->page, 0, &ex), &ex,
			 ENOMEM, VMMEXP_REASON_USER_LIMIT, 0);
}

/* A huge page is more than a page of it, for this limit too. */
TEST_F(params, huge_page_above_max_user_bytes)
{
	const char *lacks = trust_lacks(TRUST_THP);
	struct vmmexp_export ex;
	char *mem;

	if (lacks) {
		/* The teardown expects that it was loaded. */
		with(_metadata, self, "%.0llu", 0);
		SKIP(return, "%s", lacks);
	}
	mem = trust_memory(TRUST_THP);
	ASSERT_NE(NULL, mem);
	with(_metadata, self, "max_user_bytes=%llu", mock_huge_size() - self->page);
	ASSERT_EQ(0, set_memlock(RLIM_INFINITY));
	ASSERT_EQ(0, become(self->user));
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, 0, &ex), &ex,
			 ENOMEM, VMMEXP_REASON_USER_LIMIT, 0);
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	EXPECT_EQ(0, self->info.charged);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, LIMIT * self->page, 0, &ex), &ex);
}

TEST_HARNESS_MAIN
