// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices that do not reach the memory: decided when they map, EIO, and nothing
 * else changes. No case here may leave a warning in the kernel's log.
 *
 * Under swiotlb=force every transfer would go through a bounce buffer: there
 * no device reaches anything. tests/guest/swiotlb-force.sh runs this program
 * in such a machine; the same tests hold, with another expectation.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/klog.h>

#include "kselftest_harness.h"

#include <linux/dma-buf.h>

#include "vmmexp_mock_util.h"

#define DEVICE_IO	VMMEXP_MOCK_IOC_DEVICE_IO
#define KERNEL_IO	VMMEXP_MOCK_IOC_KERNEL_IO

#define PAGES		24

FIXTURE(reach) {
	long long pins;
	int dev;
	int mock;
	size_t page;
	size_t size;
	char *mem;
	struct vmmexp_export ex;
	struct mock_extent extents[PAGES];
	int nr;
	__u64 lowest;		/* first address of the memory */
	__u64 highest;		/* last address of the memory */
	bool bounced;		/* every transfer of every device */
};

/*
 * The kernel has bounce buffers and was told to use them for everything. A
 * kernel that never sets any up (arm without LPAE) ignores what it was told.
 */
static bool is_bounced(void)
{
	char cmdline[4096] = "";

	vmm_read_file("/proc/cmdline", cmdline, sizeof(cmdline));
	return strstr(cmdline, "swiotlb=force") &&
	       vmm_read_number("/sys/kernel/debug/swiotlb/io_tlb_nslabs") > 0;
}

FIXTURE_SETUP(reach)
{
	int i;

	self->pins = vmm_pins();
	self->bounced = is_bounced();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->page = vmm_page_size();
	self->size = PAGES * self->page;
	self->mem = mock_mem_anon(self->size);
	ASSERT_NE(NULL, self->mem);
	vmm_fill(self->mem, self->size, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &self->ex), &self->ex);
	self->nr = mock_extents(self->mem, self->size, self->extents, 0);
	/* In several places, so that a limit can lie between them. */
	ASSERT_LE(2, self->nr);
	self->lowest = ~0ull;
	for (i = 0; i < self->nr; i++) {
		__u64 last = self->extents[i].phys + self->extents[i].len - 1;

		if (self->extents[i].phys < self->lowest)
			self->lowest = self->extents[i].phys;
		if (last > self->highest)
			self->highest = last;
	}
}

FIXTURE_TEARDOWN(reach)
{
	munmap(self->mem, self->size);
	close(self->mock);
	close(self->ex.fd);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* 1 if a device with these limits gets a mapping, and all of the bytes; or -errno. */
static int reaches(struct __test_metadata *_metadata, struct _test_data_reach *self,
		   __u32 mask_bits, __u64 bus_limit, __u32 flags)
{
	struct vmmexp_mock_device device = {
		.flags = flags,
		.dma_mask_bits = mask_bits,
		.bus_dma_limit = bus_limit,
	};
	struct vmmexp_query query;
	int attachment, map;

	EXPECT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, self->ex.fd, 0);
	EXPECT_LE(0, attachment) TH_LOG("attach does not refuse for reach");
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	EXPECT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(map >= 0, query.device_mappings);
	if (map >= 0) {
		EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
		EXPECT_EQ(0, mock_unmap(self->mock, map));
	}
	EXPECT_EQ(0, mock_detach(self->mock, attachment));
	return map < 0 ? map : 1;
}

#define EXPECT_REACH(reach, mask_bits, bus_limit, flags) \
	EXPECT_EQ(self->bounced || !(reach) ? -EIO : 1, \
		  reaches(_metadata, self, mask_bits, bus_limit, flags))

/* Bits needed for an address. */
static __u32 bits(__u64 address)
{
	return 64 - __builtin_clzll(address);
}

TEST_F(reach, unlimited)
{
	EXPECT_REACH(true, 64, 0, 0);
	EXPECT_REACH(true, 64, 0, VMMEXP_MOCK_COHERENT);
	EXPECT_REACH(true, 64, ~0ull, VMMEXP_MOCK_DMA_PARMS);
#if !defined(__x86_64__)
	EXPECT_REACH(true, 64, 0, VMMEXP_MOCK_NON_COHERENT);
#endif
}

TEST_F(reach, mask)
{
	__u32 needed = bits(self->highest), n;

	for (n = 63; n >= needed; n--)
		EXPECT_REACH(true, n, 0, 0) TH_LOG("mask of %u bits", n);
	for (; n; n--)
		EXPECT_REACH(false, n, 0, 0) TH_LOG("mask of %u bits", n);
}

/* To the byte: the last one counts. */
TEST_F(reach, bus_limit)
{
	EXPECT_REACH(true, 64, self->highest, 0);
	EXPECT_REACH(false, 64, self->highest - 1, 0);
	EXPECT_REACH(false, 64, self->highest - self->page, 0);
	EXPECT_REACH(true, bits(self->highest), self->highest, 0);
	EXPECT_REACH(false, bits(self->highest) - 1, self->highest, 0);
}

/* A part of the memory within reach is not enough, wherever it is in the buffer. */
TEST_F(reach, one_run_out_of_reach)
{
	int i;

	for (i = 0; i < self->nr; i++) {
		__u64 last = self->extents[i].phys + self->extents[i].len - 1;

		EXPECT_REACH(last == self->highest, 64, last, 0);
	}
	EXPECT_REACH(false, 64, self->lowest, 0);
}

TEST_F(reach, every_direction_and_kind)
{
	static const __u32 kinds[] = {
		0,
		VMMEXP_MOCK_IMPORTER_OPS,
		VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_PEER2PEER | VMMEXP_MOCK_INVALIDATE,
	};
	struct vmmexp_mock_device device = {
		.dma_mask_bits = 64,
		.bus_dma_limit = self->highest - 1,
	};
	unsigned int i, direction;

	ASSERT_EQ(0, mock_device(self->mock, &device));
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		int attachment = mock_attach(self->mock, self->ex.fd, kinds[i]);

		ASSERT_LE(0, attachment);
		for (direction = 0; direction < 3; direction++)
			EXPECT_EQ(-EIO, mock_map(self->mock, attachment, direction));
		EXPECT_EQ(0, mock_detach(self->mock, attachment));
	}
}

/* READ_ONLY is answered first: no device will ever get that. */
TEST_F(reach, read_only)
{
	struct vmmexp_mock_device device = {
		.dma_mask_bits = 64,
		.bus_dma_limit = self->lowest,
	};
	struct vmmexp_export ex;
	int attachment;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_TO_DEVICE));
	EXPECT_EQ(-EACCES, mock_map(self->mock, attachment, VMMEXP_MOCK_FROM_DEVICE));
	close(ex.fd);
}

/*
 * Drivers that attach and only use the CPU (bochs, vgem, udl) do so whatever
 * their device reaches; nor does a refusal disturb anybody else.
 */
TEST_F(reach, everything_but_dma_works)
{
	struct vmmexp_mock_device device = {
		.dma_mask_bits = 12,
	};
	struct dma_buf_sync begin = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
	struct dma_buf_sync end = { .flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW };
	struct vmmexp_sync sync;
	int attachment, vmap;
	char *map;

	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));

	vmap = mock_vmap(self->mock, self->ex.fd, NULL);
	ASSERT_LE(0, vmap);
	EXPECT_EQ(0, ioctl(self->ex.fd, DMA_BUF_IOCTL_SYNC, &begin));
	EXPECT_EQ(-1, mock_mismatch(self->mock, KERNEL_IO, vmap, 0, self->size, 1));
	EXPECT_EQ(0, mock_fill(self->mock, KERNEL_IO, vmap, 0, self->size, 2));
	EXPECT_EQ(0, ioctl(self->ex.fd, DMA_BUF_IOCTL_SYNC, &end));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 2));

	ASSERT_EQ(0, mock_mmap_choose(self->mock, self->ex.fd));
	map = vmm_map(self->mock, 0, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, map);
	EXPECT_VMM_OK(vmm_sync(self->dev, self->ex.fd, NULL, 0,
			       VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, &sync), &sync);
	EXPECT_EQ(-1, vmm_mismatch(map, self->size, 0, 2));
	vmm_fill(map, self->size, 0, 1);
	EXPECT_VMM_OK(vmm_sync(self->dev, self->ex.fd, NULL, 0,
			       VMMEXP_SYNC_END | VMMEXP_SYNC_RW, &sync), &sync);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 1));
	munmap(map, self->size);

	EXPECT_REACH(true, 64, 0, 0);
}

/* The largest address counts, not where in the buffer it is. */
TEST_F(reach, ranges)
{
	struct vmmexp_range low = vmm_range(self->mem, self->page), high = low;
	struct vmmexp_range ranges[3];
	struct vmmexp_export whole = self->ex, ex;
	__u64 low_last = ~0ull, high_last = 0;
	size_t i;

	for (i = 0; i < PAGES; i++) {
		char *page = self->mem + i * self->page;
		__u64 last = vmm_pfn(page) * self->page + self->page - 1;

		if (last < low_last) {
			low_last = last;
			low = vmm_range(page, self->page);
		}
		if (last > high_last) {
			high_last = last;
			high = vmm_range(page, self->page);
		}
	}
	for (i = 0; i < 3; i++) {
		unsigned int j;

		for (j = 0; j < 3; j++)
			ranges[j] = i == j ? high : low;
		ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 3, 0, &ex), &ex);
		for (j = 0; j < 2; j++) {
			struct vmmexp_mock_device device = {
				.dma_mask_bits = 64,
				.bus_dma_limit = j ? high_last : high_last - 1,
			};
			int attachment, map;

			ASSERT_EQ(0, mock_device(self->mock, &device));
			attachment = mock_attach(self->mock, ex.fd, 0);
			map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
			EXPECT_EQ(self->bounced || !j, map == -EIO) TH_LOG("map: %d", map);
			EXPECT_EQ(map >= 0 ? 0 : -ENOENT, mock_unmap(self->mock, map));
			EXPECT_EQ(0, mock_detach(self->mock, attachment));
		}
		close(ex.fd);
	}
	/* Only what is low. */
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, &low, 1, 0, &ex), &ex);
	vmm_fill(self->mem, self->size, 0, 1);
	self->ex = ex;
	self->size = 0;
	EXPECT_REACH(true, 64, low_last, 0);
	EXPECT_REACH(false, 64, low_last - 1, 0);
	self->size = PAGES * self->page;
	self->ex = whole;
	close(ex.fd);
}

/* A refusal leaves the mapping of another device as it was. */
TEST_F(reach, beside_a_device_that_does)
{
	struct vmmexp_mock_device far = { .dma_mask_bits = 64 };
	struct vmmexp_mock_device near = {
		.dma_mask_bits = 64,
		.bus_dma_limit = self->highest - 1,
	};
	int first, second, map;

	ASSERT_EQ(0, mock_device(self->mock, &far));
	first = mock_attach(self->mock, self->ex.fd, 0);
	ASSERT_LE(0, first);
	map = mock_map(self->mock, first, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_EQ(self->bounced, map == -EIO) TH_LOG("map: %d", map);
	ASSERT_EQ(0, mock_device(self->mock, &near));
	second = mock_attach(self->mock, self->ex.fd, 0);
	ASSERT_LE(0, second);
	EXPECT_EQ(-EIO, mock_map(self->mock, second, VMMEXP_MOCK_TO_DEVICE));
	EXPECT_EQ(-EIO, mock_map(self->mock, second, VMMEXP_MOCK_TO_DEVICE));
	if (!self->bounced) {
		EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
		EXPECT_EQ(0, mock_fill(self->mock, DEVICE_IO, map, 0, self->size, 2));
		EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 2));
	}
}

/* Lines of the kernel's log in which @device speaks, -1 if it cannot be read. */
static int log_lines(const char *device)
{
	int size = klogctl(10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0), lines = 0;
	char *log, *at, word[VMMEXP_MOCK_NAME_LEN + 8];

	log = size > 0 ? calloc(1, size + 1) : NULL;
	if (!log || klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, size) < 0)
		lines = -1;
	snprintf(word, sizeof(word), " %s: ", device);
	for (at = log; at && lines >= 0 && (at = strstr(at, word)); at++)
		lines++;
	free(log);
	return lines;
}

/* Whoever wonders why his driver fails finds out; a loop does not fill the log. */
TEST_F(reach, one_line_per_device_in_the_log)
{
	int i, j;

	/* Also when it already had something to say about many others. */
	for (i = 0; i < 40; i++) {
		struct vmmexp_mock_device device = {
			.dma_mask_bits = 64,
			.bus_dma_limit = self->lowest,
		};
		int attachment;

		ASSERT_EQ(0, mock_device(self->mock, &device));
		/* Some of them stay: new ones are at new places, and at old ones. */
		for (j = 0; j < 2 + i % 3; j++) {
			attachment = mock_attach(self->mock, self->ex.fd, 0);
			ASSERT_LE(0, attachment);
			EXPECT_EQ(-EIO, mock_map(self->mock, attachment,
						 VMMEXP_MOCK_BIDIRECTIONAL));
			EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_TO_DEVICE));
			if (j < 3)
				mock_detach(self->mock, attachment);
		}
		ASSERT_EQ(1, log_lines(device.name)) TH_LOG("device number %d", i);
	}
}

TEST_HARNESS_MAIN
