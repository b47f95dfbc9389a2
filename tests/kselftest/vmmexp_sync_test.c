// SPDX-License-Identifier: GPL-2.0-only
/*
 * SYNC: which ranges, directions and descriptors it takes, and that no byte
 * changes by it. What it does to a device's view is for the tests with
 * importers; here there is none, and the CPU's view must stay as it is.
 */
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/prctl.h>

#include "vmmexp_util.h"

#define NR_PAGES	8

FIXTURE(sync)
{
	int dev;
	int fd;
	int ro_fd;
	long long pins;
	size_t page;
	size_t len;
	char *mem;
	struct vmm_peer peer;
	struct vmmexp_info info;
	struct vmmexp_sync sync;
};

FIXTURE_SETUP(sync)
{
	struct vmmexp_export ex;

	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	ASSERT_EQ(0, vmm_peer_start(&self->peer));
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	self->page = vmm_page_size();
	self->len = NR_PAGES * self->page;
	self->mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	vmm_fill(self->mem, self->len, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	self->fd = ex.fd;
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	self->ro_fd = ex.fd;
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, self->fd, PROT_READ | PROT_WRITE));
}

/* In the parent: whatever the test held is gone with its process. */
FIXTURE_TEARDOWN_PARENT(sync)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
}

static const __u32 directions[] = { VMMEXP_SYNC_READ, VMMEXP_SYNC_WRITE, VMMEXP_SYNC_RW };
static const __u32 sides[] = { VMMEXP_SYNC_BEGIN, VMMEXP_SYNC_END };

/* The bytes are the pattern of seed 1, for the exporter and for the peer. */
#define EXPECT_UNCHANGED() do { \
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 1)); \
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1)); \
} while (0)

/* SYNC of ranges as they are, flags RW and BEGIN. */
static int sync_ranges(struct _test_data_sync *self, const struct vmmexp_sync_range *ranges,
		       unsigned int nr)
{
	return vmm_sync(self->dev, self->fd, ranges, nr, VMMEXP_SYNC_RW, &self->sync);
}

TEST_F(sync, whole_buffer_in_every_direction)
{
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(directions); i++) {
		for (j = 0; j < ARRAY_SIZE(sides); j++) {
			EXPECT_VMM_OK(vmm_sync(self->dev, self->fd, NULL, 0,
					       directions[i] | sides[j], &self->sync),
				      &self->sync);
			EXPECT_EQ(0, self->sync.error_offset);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(sync, writes_between_begin_and_end_are_seen_by_everyone)
{
	EXPECT_VMM_OK(vmm_sync(self->dev, self->fd, NULL, 0,
			       VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, &self->sync), &self->sync);
	vmm_fill(self->mem, self->len, 0, 2);
	EXPECT_VMM_OK(vmm_sync(self->dev, self->fd, NULL, 0,
			       VMMEXP_SYNC_END | VMMEXP_SYNC_RW, &self->sync), &self->sync);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 2));
}

TEST_F(sync, single_range)
{
	struct vmmexp_sync_range range = { .offset = self->page, .len = 2 * self->page };

	EXPECT_VMM_OK(sync_ranges(self, &range, 1), &self->sync);
	EXPECT_UNCHANGED();
}

TEST_F(sync, ranges_need_no_alignment)
{
	struct vmmexp_sync_range ranges[] = {
		{ .offset = 0, .len = 1 },
		{ .offset = 1, .len = 1 },
		{ .offset = self->page - 1, .len = 2 },
		{ .offset = self->len - 1, .len = 1 },
		{ .offset = 13, .len = 3 * self->page + 5 },
	};

	EXPECT_VMM_OK(sync_ranges(self, ranges, ARRAY_SIZE(ranges)), &self->sync);
	EXPECT_UNCHANGED();
}

TEST_F(sync, ranges_may_overlap_repeat_and_come_in_any_order)
{
	struct vmmexp_sync_range ranges[] = {
		{ .offset = 4 * self->page, .len = 4 * self->page },
		{ .offset = 0, .len = self->len },
		{ .offset = 0, .len = self->len },
		{ .offset = self->page, .len = 4 * self->page },
	};

	EXPECT_VMM_OK(sync_ranges(self, ranges, ARRAY_SIZE(ranges)), &self->sync);
	EXPECT_UNCHANGED();
}

TEST_F(sync, range_may_end_with_the_buffer_and_no_later)
{
	struct vmmexp_sync_range range = { .offset = self->page, .len = self->len - self->page };

	EXPECT_VMM_OK(sync_ranges(self, &range, 1), &self->sync);
	range.len++;
	EXPECT_VMM_ERROR(sync_ranges(self, &range, 1), &self->sync,
			 EINVAL, VMMEXP_REASON_SYNC_RANGE, 0);
	range = (struct vmmexp_sync_range){ .offset = self->len, .len = 1 };
	EXPECT_VMM_ERROR(sync_ranges(self, &range, 1), &self->sync,
			 EINVAL, VMMEXP_REASON_SYNC_RANGE, 0);
}

TEST_F(sync, range_that_wraps_is_refused)
{
	struct vmmexp_sync_range bad[] = {
		{ .offset = ~0ull, .len = 2 },
		{ .offset = self->page, .len = ~0ull },
		{ .offset = 1ull << 63, .len = 1ull << 63 },
		{ .offset = ~0ull - self->page + 1, .len = 2 * self->page },
		{ .offset = 1ull << 32, .len = self->page },
		{ .offset = 0, .len = 1ull << 32 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_VMM_ERROR(sync_ranges(self, &bad[i], 1), &self->sync,
				 EINVAL, VMMEXP_REASON_SYNC_RANGE, 0);
	}
}

TEST_F(sync, empty_range_is_refused)
{
	struct vmmexp_sync_range range = { .offset = self->page, .len = 0 };

	EXPECT_VMM_ERROR(sync_ranges(self, &range, 1), &self->sync,
			 EINVAL, VMMEXP_REASON_EMPTY_RANGE, 0);
}

TEST_F(sync, index_of_the_bad_range_is_told)
{
	struct vmmexp_sync_range ranges[] = {
		{ .offset = 0, .len = self->page },
		{ .offset = self->page, .len = self->page },
		{ .offset = self->len, .len = self->page },
		{ .offset = 0, .len = 0 },
	};

	EXPECT_VMM_ERROR(sync_ranges(self, ranges, 4), &self->sync,
			 EINVAL, VMMEXP_REASON_SYNC_RANGE, 2);
	ranges[2].offset = 0;
	EXPECT_VMM_ERROR(sync_ranges(self, ranges, 4), &self->sync,
			 EINVAL, VMMEXP_REASON_EMPTY_RANGE, 3);
}

TEST_F(sync, max_ranges_are_taken_and_one_more_is_refused)
{
	__u32 max = self->info.max_ranges, i;
	struct vmmexp_sync_range *ranges = calloc(max + 1ul, sizeof(*ranges));

	ASSERT_NE(NULL, ranges);
	for (i = 0; i <= max; i++)
		ranges[i].len = 64;
	EXPECT_VMM_OK(sync_ranges(self, ranges, max), &self->sync);
	EXPECT_EQ(-E2BIG, sync_ranges(self, ranges, max + 1));
	EXPECT_EQ((__u32)VMMEXP_REASON_TOO_MANY_RANGES, self->sync.reason);
	EXPECT_EQ(-E2BIG, sync_ranges(self, ranges, ~0u));
	EXPECT_EQ((__u32)VMMEXP_REASON_TOO_MANY_RANGES, self->sync.reason);
	EXPECT_UNCHANGED();
}

TEST_F(sync, unmapped_array_is_array_fault)
{
	struct vmmexp_sync_range *arrays[] = {
		NULL,
		(struct vmmexp_sync_range *)(unsigned long)-4096,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(arrays); i++) {
		EXPECT_VMM_ERROR(sync_ranges(self, arrays[i], 2), &self->sync,
				 EFAULT, VMMEXP_REASON_ARRAY_FAULT, 0);
	}
}

/* A call that fails has done nothing, or what was asked: never a lost byte. */
TEST_F(sync, array_that_ends_in_a_hole_is_array_fault)
{
	char *mem = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vmmexp_sync_range *range;

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, mprotect(mem + self->page, self->page, PROT_NONE));
	range = (struct vmmexp_sync_range *)(mem + self->page) - 1;
	*range = (struct vmmexp_sync_range){ .len = self->len };
	EXPECT_VMM_ERROR(sync_ranges(self, range, 2), &self->sync,
			 EFAULT, VMMEXP_REASON_ARRAY_FAULT, 1);
	EXPECT_UNCHANGED();
}

TEST_F(sync, larger_elements_need_zero_tails)
{
	struct {
		struct vmmexp_sync_range range;
		__u64 tail;
	} elements[] = {
		{ .range = { .offset = 0, .len = self->page } },
		{ .range = { .offset = self->page, .len = self->page } },
	};
	struct vmmexp_sync good = {
		.ranges = (uintptr_t)elements,
		.nr_ranges = 2,
		.range_size = sizeof(elements[0]),
		.fd = self->fd,
		.flags = VMMEXP_SYNC_RW,
	};
	struct vmmexp_sync *sync = &self->sync;
	size_t i;

	*sync = good;
	EXPECT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_SYNC, sync), sync);
	for (i = 0; i < 2; i++) {
		elements[i].tail = 1;
		*sync = good;
		EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_SYNC, sync), sync,
				 EINVAL, VMMEXP_REASON_UNKNOWN_TAIL, i);
		elements[i].tail = 0;
	}
}

TEST_F(sync, bad_element_size_is_refused)
{
	__u32 sizes[] = { 0, 8, 15, 17, 20, 65536 + 8, ~0u, ~7u };
	struct vmmexp_sync_range range = { .len = self->page };
	struct vmmexp_sync *sync = &self->sync;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		*sync = (struct vmmexp_sync){
			.ranges = (uintptr_t)&range,
			.nr_ranges = 1,
			.range_size = sizes[i],
			.fd = self->fd,
			.flags = VMMEXP_SYNC_RW,
		};
		EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_SYNC, sync), sync,
				 EINVAL, VMMEXP_REASON_ELEMENT_SIZE, 0);
	}
}

TEST_F(sync, array_without_elements_is_refused)
{
	struct vmmexp_sync_range range = { .len = self->page };
	struct vmmexp_sync sync = { .fd = self->fd, .flags = VMMEXP_SYNC_RW };

	sync.ranges = (uintptr_t)&range;
	EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_SYNC, &sync), &sync,
			 EINVAL, VMMEXP_REASON_NO_RANGES, 0);
	sync.ranges = 0;
	sync.range_size = sizeof(range);
	EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_SYNC, &sync), &sync,
			 EINVAL, VMMEXP_REASON_NO_RANGES, 0);
}

TEST_F(sync, neither_read_nor_write_is_refused)
{
	EXPECT_VMM_ERROR(vmm_sync(self->dev, self->fd, NULL, 0, 0, &self->sync), &self->sync,
			 EINVAL, VMMEXP_REASON_SYNC_DIRECTION, 0);
	EXPECT_VMM_ERROR(vmm_sync(self->dev, self->fd, NULL, 0, VMMEXP_SYNC_END, &self->sync),
			 &self->sync, EINVAL, VMMEXP_REASON_SYNC_DIRECTION, 0);
}

TEST_F(sync, every_unknown_flag_is_refused)
{
	unsigned int bit;

	for (bit = 3; bit < 32; bit++) {
		EXPECT_VMM_ERROR(vmm_sync(self->dev, self->fd, NULL, 0,
					  VMMEXP_SYNC_RW | 1u << bit, &self->sync), &self->sync,
				 EINVAL, VMMEXP_REASON_FLAGS, 0);
	}
}

TEST_F(sync, nonzero_pad_is_refused)
{
	struct vmmexp_sync sync = { .fd = self->fd, .flags = VMMEXP_SYNC_RW, .pad = 1 };

	EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_SYNC, &sync), &sync,
			 EINVAL, VMMEXP_REASON_PADDING, 0);
}

/*
 * Rights.
 */
TEST_F(sync, read_only_buffer_may_be_synced_for_reading)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sides); i++) {
		EXPECT_VMM_OK(vmm_sync(self->dev, self->ro_fd, NULL, 0,
				       VMMEXP_SYNC_READ | sides[i], &self->sync), &self->sync);
	}
	EXPECT_UNCHANGED();
}

TEST_F(sync, read_only_buffer_may_not_be_synced_for_writing)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sides); i++) {
		EXPECT_VMM_ERROR(vmm_sync(self->dev, self->ro_fd, NULL, 0,
					  VMMEXP_SYNC_WRITE | sides[i], &self->sync),
				 &self->sync, EACCES, VMMEXP_REASON_READ_ONLY, 0);
		EXPECT_VMM_ERROR(vmm_sync(self->dev, self->ro_fd, NULL, 0,
					  VMMEXP_SYNC_RW | sides[i], &self->sync),
				 &self->sync, EACCES, VMMEXP_REASON_READ_ONLY, 0);
	}
}

/*
 * Descriptors.
 */
TEST_F(sync, closed_descriptor_is_bad_fd)
{
	int fds[] = { -1, -2, 1 << 20, 0x7fffffff, self->dev + 100 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_VMM_ERROR(vmm_sync(self->dev, fds[i], NULL, 0, VMMEXP_SYNC_RW,
					  &self->sync), &self->sync,
				 EBADF, VMMEXP_REASON_BAD_FD, 0);
	}
	close(self->fd);
	EXPECT_VMM_ERROR(vmm_sync(self->dev, self->fd, NULL, 0, VMMEXP_SYNC_RW, &self->sync),
			 &self->sync, EBADF, VMMEXP_REASON_BAD_FD, 0);
}

TEST_F(sync, descriptor_that_is_no_dma_buf_is_not_ours)
{
	int memfd = memfd_create("not ours", MFD_CLOEXEC);
	int fds[] = { 0, self->dev, memfd };
	size_t i;

	ASSERT_LE(0, memfd);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_VMM_ERROR(vmm_sync(self->dev, fds[i], NULL, 0, VMMEXP_SYNC_RW,
					  &self->sync), &self->sync,
				 EBADF, VMMEXP_REASON_NOT_OURS, 0);
	}
}

TEST_F(sync, another_drivers_dma_buf_is_not_ours)
{
	int fd = vmm_foreign_dmabuf(self->len);

	ASSERT_LE(0, fd);
	EXPECT_VMM_ERROR(vmm_sync(self->dev, fd, NULL, 0, VMMEXP_SYNC_RW, &self->sync),
			 &self->sync, EBADF, VMMEXP_REASON_NOT_OURS, 0);
}

TEST_F(sync, works_through_a_device_file_of_another_process)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = vmm_open();

		_exit(dev < 0 || vmm_sync(dev, self->fd, NULL, 0, VMMEXP_SYNC_RW, &self->sync));
	}
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
}

TEST_F(sync, works_after_the_exporters_memory_is_gone)
{
	struct vmmexp_sync_range range = { .offset = self->page, .len = 3 * self->page };

	ASSERT_EQ(0, munmap(self->mem, self->len));
	EXPECT_VMM_OK(sync_ranges(self, &range, 1), &self->sync);
	EXPECT_VMM_OK(vmm_sync(self->dev, self->fd, NULL, 0, VMMEXP_SYNC_RW | VMMEXP_SYNC_END,
			       &self->sync), &self->sync);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
}

/* Extents of all kinds, cut at every border there is. */
TEST_F(sync, ranges_across_extents_and_kinds)
{
	int memfd = memfd_create("other", MFD_CLOEXEC);
	struct vmmexp_range ranges[4];
	struct vmmexp_export ex;
	char *shared;
	__u64 cut;

	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, self->len));
	shared = vmm_map(memfd, 0, self->len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, shared);
	vmm_fill(shared, self->len, 0, 3);
	ranges[0] = vmm_range(shared + 5 * self->page, self->page);
	ranges[1] = vmm_range(self->mem + 2 * self->page, 2 * self->page);
	ranges[2] = vmm_range(shared, 3 * self->page);
	ranges[3] = vmm_range(self->mem + 7 * self->page, self->page);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 4, 0, &ex), &ex);
	for (cut = self->page; cut < ex.size; cut += self->page) {
		struct vmmexp_sync_range across[] = {
			{ .offset = cut - 1, .len = 2 },
			{ .offset = 0, .len = cut + 1 },
			{ .offset = cut - 1, .len = ex.size - cut + 1 },
		};

		EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, across, 3, VMMEXP_SYNC_RW, &self->sync),
			      &self->sync);
	}
	EXPECT_EQ(-1, vmm_mismatch(shared, self->len, 0, 3));
	EXPECT_UNCHANGED();
}

/*
 * The dma-buf's own ioctl.
 */
static int dma_buf_sync(int fd, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return vmm_ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

TEST_F(sync, dma_buf_ioctl_works_in_every_direction)
{
	__u64 rw[] = { DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rw); i++) {
		EXPECT_EQ(0, dma_buf_sync(self->fd, DMA_BUF_SYNC_START | rw[i]));
		EXPECT_EQ(0, dma_buf_sync(self->fd, DMA_BUF_SYNC_END | rw[i]));
	}
	EXPECT_UNCHANGED();
}

TEST_F(sync, dma_buf_ioctl_of_a_read_only_buffer_is_for_reading_only)
{
	EXPECT_EQ(0, dma_buf_sync(self->ro_fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ));
	EXPECT_EQ(0, dma_buf_sync(self->ro_fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ));
	EXPECT_EQ(-EACCES, dma_buf_sync(self->ro_fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE));
	EXPECT_EQ(-EACCES, dma_buf_sync(self->ro_fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE));
	EXPECT_EQ(-EACCES, dma_buf_sync(self->ro_fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW));
	EXPECT_EQ(-EACCES, dma_buf_sync(self->ro_fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW));
}

/*
 * The most that one call can ask for takes long where caches are maintained;
 * a process that is killed in it must die.
 */
TEST_F(sync, sigkill_ends_the_longest_call)
{
	size_t len = 64 << 20;
	__u32 max = self->info.max_ranges, i;
	struct vmmexp_sync_range *ranges = calloc(max, sizeof(*ranges));
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vmmexp_export ex;
	int status;
	pid_t pid;

	ASSERT_NE(NULL, ranges);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, len, 0, &ex), &ex);
	for (i = 0; i < max; i++)
		ranges[i].len = len;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		vmm_sync(self->dev, ex.fd, ranges, max, VMMEXP_SYNC_RW, &self->sync);
		_exit(0);
	}
	vmm_msleep(300);
	kill(pid, SIGKILL);
	EXPECT_EQ(0, vmm_wait(pid, &status, 5)) {
		TH_LOG("it does not die");
	}
}

TEST_HARNESS_MAIN
