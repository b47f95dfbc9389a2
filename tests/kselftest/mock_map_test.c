// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a device gets: segments, directions, lifetime, and the bytes at the
 * addresses it was given. What is expected comes from /proc/self/pagemap.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "kselftest_harness.h"

#include <linux/dma-buf.h>

#include "vmmexp_mock_util.h"

#define DEVICE_IO	VMMEXP_MOCK_IOC_DEVICE_IO
#define KERNEL_IO	VMMEXP_MOCK_IOC_KERNEL_IO

/* The ways to attach; all of them cope with memory that has pages. */
static const __u32 attach_kinds[] = {
	0,
	VMMEXP_MOCK_IMPORTER_OPS,
	VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_PEER2PEER,
	VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE,
	VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_PEER2PEER | VMMEXP_MOCK_INVALIDATE,
};

static const __u32 directions[] = {
	VMMEXP_MOCK_BIDIRECTIONAL,
	VMMEXP_MOCK_TO_DEVICE,
	VMMEXP_MOCK_FROM_DEVICE,
};

/* The list of @map is exactly @expected, in this order. */
static void expect_segments(struct __test_metadata *_metadata, int mock, __u32 map,
			    const struct mock_extent *expected, int count)
{
	struct vmmexp_mock_segment *segments;
	int nr = mock_segments(mock, map, &segments), i;

	ASSERT_EQ(count, nr);
	for (i = 0; i < nr; i++) {
		/* No offset between the bus and memory on these machines. */
		ASSERT_EQ(expected[i].phys, segments[i].dma_address) TH_LOG("entry %d", i);
		ASSERT_EQ(expected[i].len, segments[i].dma_length) TH_LOG("entry %d", i);
		ASSERT_EQ(mock_page_phys(expected[i].phys), segments[i].phys) TH_LOG("entry %d", i);
		ASSERT_EQ(expected[i].len, segments[i].length) TH_LOG("entry %d", i);
	}
	free(segments);
}

/* Attach the mock's device and map; the number of the mapping. */
static int attach_and_map(int mock, int dmabuf, __u32 direction)
{
	int attachment = mock_attach(mock, dmabuf, 0);

	return attachment < 0 ? attachment : mock_map(mock, attachment, direction);
}

/*
 * The kinds of memory.
 */
FIXTURE(memory) {
	long long pins;
	int dev;
	int mock;
	size_t size;
	char *mem;
	struct vmmexp_export ex;
	struct mock_extent *extents;
	struct mock_extent *split;
	int nr;
};

FIXTURE_VARIANT(memory) {
	void *(*get)(size_t len);
	size_t pages;		/* of the kind's own size */
	bool huge;
	const char *config;	/* what the kind needs */
};

FIXTURE_VARIANT_ADD(memory, anon) {
	.get = mock_mem_anon,
	.pages = 96,
};

FIXTURE_VARIANT_ADD(memory, memfd) {
	.get = mock_mem_memfd,
	.pages = 96,
};

FIXTURE_VARIANT_ADD(memory, thp) {
	.get = mock_mem_thp,
	.pages = 2,
	.huge = true,
	.config = "CONFIG_TRANSPARENT_HUGEPAGE",
};

FIXTURE_VARIANT_ADD(memory, hugetlb) {
	.get = mock_mem_hugetlb,
	.pages = 2,
	.huge = true,
	.config = "CONFIG_HUGETLBFS",
};

FIXTURE_SETUP(memory)
{
	const char *lacks = variant->config ? vmm_not_in_kernel(variant->config) : NULL;
	size_t small;

	if (lacks)
		SKIP(return, "%s", lacks);
	self->pins = vmm_pins();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->size = variant->pages * (variant->huge ? mock_huge_size() : vmm_page_size());
	self->mem = variant->get(self->size);
	ASSERT_NE(NULL, self->mem);
	vmm_fill(self->mem, self->size, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &self->ex), &self->ex);

	/* After the export: to pin memory may mean to move it. */
	small = self->size / vmm_page_size();
	self->extents = calloc(small, sizeof(*self->extents));
	self->split = calloc(small, sizeof(*self->split));
	ASSERT_NE(NULL, self->extents);
	ASSERT_NE(NULL, self->split);
	self->nr = mock_extents(self->mem, self->size, self->extents, 0);
	ASSERT_LT(0, self->nr);
	/* Else the kind is not what it is called, and this tests nothing. */
	ASSERT_TRUE(variant->huge ? self->nr <= 2 : self->nr >= 4) TH_LOG("%d runs", self->nr);
}

FIXTURE_TEARDOWN(memory)
{
	if (self->mem)
		munmap(self->mem, self->size);
	close(self->mock);
	close(self->ex.fd);
	close(self->dev);
	free(self->extents);
	free(self->split);
	vmm_write_file("/proc/sys/vm/nr_hugepages", "0");
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* No limit was set by the driver: an entry is as long as the memory is contiguous. */
TEST_F(memory, entries_are_extents)
{
	unsigned int kind, direction;

	EXPECT_EQ(self->nr, self->ex.nr_segs);
	for (kind = 0; kind < ARRAY_SIZE(attach_kinds); kind++) {
		int attachment = mock_attach(self->mock, self->ex.fd, attach_kinds[kind]);

		ASSERT_LE(0, attachment);
		for (direction = 0; direction < ARRAY_SIZE(directions); direction++) {
			struct vmmexp_mock_map map;

			ASSERT_EQ(0, mock_map_call(self->mock, attachment, directions[direction],
						   &map));
			EXPECT_EQ(self->nr, map.nents);
			EXPECT_EQ(self->nr, map.orig_nents);
			expect_segments(_metadata, self->mock, map.map, self->extents, self->nr);
			EXPECT_EQ(0, mock_unmap(self->mock, map.map));
		}
		EXPECT_EQ(0, mock_detach(self->mock, attachment));
	}
}

/* A driver that has dma_parms and left max_segment_size alone means no limit. */
TEST_F(memory, default_segment_size_is_no_limit)
{
	struct vmmexp_mock_device device = {
		.flags = VMMEXP_MOCK_DMA_PARMS,
		.dma_mask_bits = 64,
	};
	int map;

	ASSERT_EQ(0, mock_device(self->mock, &device));
	map = attach_and_map(self->mock, self->ex.fd, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	expect_segments(_metadata, self->mock, map, self->extents, self->nr);
}

TEST_F(memory, split_at_the_drivers_limit)
{
	size_t page = vmm_page_size();
	const __u32 limits[] = {
		page, 2 * page - 1, 3 * page, 65536, 65535, 1 << 20, 0xfffff000, 0xffffffff,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		struct vmmexp_mock_device device = {
			.flags = VMMEXP_MOCK_DMA_PARMS,
			.dma_mask_bits = 64,
			.max_segment_size = limits[i],
		};
		int count = mock_split(self->extents, self->nr, limits[i] / page * page,
				       self->split);
		int map;

		ASSERT_EQ(0, mock_device(self->mock, &device));
		map = attach_and_map(self->mock, self->ex.fd, VMMEXP_MOCK_BIDIRECTIONAL);
		ASSERT_LE(0, map) TH_LOG("limit %u", limits[i]);
		expect_segments(_metadata, self->mock, map, self->split, count);
		EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
		EXPECT_EQ(0, mock_unmap(self->mock, map));
	}
}

TEST_F(memory, bytes_at_dma_addresses)
{
	/* Neither aligned nor within an entry. */
	size_t at = vmm_page_size() + 13, len = self->size - 3 * vmm_page_size() - 26;
	int map = attach_and_map(self->mock, self->ex.fd, VMMEXP_MOCK_BIDIRECTIONAL);

	ASSERT_LE(0, map);
	EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
	/* Not a copy made once: what the exporter writes later is there, too. */
	vmm_fill(self->mem, self->size, 0, 2);
	EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 2));
	EXPECT_EQ(0, mock_fill(self->mock, DEVICE_IO, map, at, len, 3));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, at, 0, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->mem + at, len, at, 3));
	EXPECT_EQ(-1, vmm_mismatch(self->mem + at + len, self->size - at - len, at + len, 2));
}

TEST_F(memory, bytes_in_the_kernels_mapping)
{
	size_t at = vmm_page_size() + 13, len = self->size - 3 * vmm_page_size() - 26;
	struct vmmexp_query query;
	__u64 first, second;
	int a, b;

	a = mock_vmap(self->mock, self->ex.fd, &first);
	ASSERT_LE(0, a);
	b = mock_vmap(self->mock, self->ex.fd, &second);
	ASSERT_LE(0, b);
	EXPECT_EQ(first, second);
	EXPECT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(1, query.kernel_mappings);
	EXPECT_EQ(0, query.attachments);

	EXPECT_EQ(-1, mock_mismatch(self->mock, KERNEL_IO, a, 0, self->size, 1));
	vmm_fill(self->mem, self->size, 0, 2);
	EXPECT_EQ(-1, mock_mismatch(self->mock, KERNEL_IO, b, 0, self->size, 2));
	EXPECT_EQ(0, mock_fill(self->mock, KERNEL_IO, a, at, len, 3));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, at, 0, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->mem + at, len, at, 3));
	EXPECT_EQ(-1, vmm_mismatch(self->mem + at + len, self->size - at - len, at + len, 2));

	EXPECT_EQ(0, mock_vunmap(self->mock, a));
	EXPECT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(1, query.kernel_mappings);
	EXPECT_EQ(-1, mock_mismatch(self->mock, KERNEL_IO, b, 0, at, 2));
	EXPECT_EQ(0, mock_vunmap(self->mock, b));
	EXPECT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(0, query.kernel_mappings);
}

/* mmap() of the importer's fd, as of a DRM fd. */
TEST_F(memory, bytes_in_the_importers_mmap)
{
	size_t page = vmm_page_size();
	struct vmmexp_query query;
	char *map, *part;

	ASSERT_EQ(0, mock_mmap_choose(self->mock, self->ex.fd));
	map = vmm_map(self->mock, 0, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, map);
	part = vmm_map(self->mock, self->size - 3 * page, 2 * page, PROT_READ);
	ASSERT_NE(NULL, part);
	EXPECT_EQ(NULL, vmm_map(self->mock, self->size - page, 2 * page, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(2, query.cpu_mappings);

	EXPECT_EQ(-1, vmm_mismatch(map, self->size, 0, 1));
	EXPECT_EQ(-1, vmm_mismatch(part, 2 * page, self->size - 3 * page, 1));
	vmm_fill(map, self->size, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 2));
	EXPECT_EQ(-1, vmm_mismatch(part, 2 * page, self->size - 3 * page, 2));
	EXPECT_EQ(0, munmap(map, self->size));
	EXPECT_EQ(0, munmap(part, 2 * page));
	EXPECT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(0, query.cpu_mappings);
}

/* The bytes are there for the device when everyone else has let go. */
TEST_F(memory, outlives_fd_and_mapping)
{
	int map = attach_and_map(self->mock, self->ex.fd, VMMEXP_MOCK_BIDIRECTIONAL);
	int vmap = mock_vmap(self->mock, self->ex.fd, NULL);

	ASSERT_LE(0, map);
	ASSERT_LE(0, vmap);
	close(self->ex.fd);
	close(self->dev);
	munmap(self->mem, self->size);
	self->mem = NULL;
	/* Memory that was free would be handed out now. */
	munmap(mock_mem_anon(4 << 20), 4 << 20);
	EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
	EXPECT_EQ(0, mock_fill(self->mock, DEVICE_IO, map, 0, self->size, 2));
	EXPECT_EQ(-1, mock_mismatch(self->mock, KERNEL_IO, vmap, 0, self->size, 2));
	EXPECT_LT(self->pins, vmm_pins());
	EXPECT_EQ(0, mock_unmap(self->mock, map));
	EXPECT_EQ(-1, mock_mismatch(self->mock, KERNEL_IO, vmap, 0, self->size, 2));
}

/*
 * What does not depend on the kind of memory.
 */
FIXTURE(map) {
	long long pins;
	int dev;
	int mock;
	size_t page;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(map)
{
	self->pins = vmm_pins();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->page = vmm_page_size();
	self->size = 32 * self->page;
	self->mem = mock_mem_anon(self->size);
	ASSERT_NE(NULL, self->mem);
	vmm_fill(self->mem, self->size, 0, 1);
}

FIXTURE_TEARDOWN(map)
{
	munmap(self->mem, self->size);
	close(self->mock);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* One huge page, exported as contiguous memory, is one entry. */
static void one_entry(struct __test_metadata *_metadata, int dev, int mock, void *mem)
{
	size_t size = mock_huge_size();
	struct vmmexp_range range = vmm_range(mem, size);
	struct vmmexp_export ex = {
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
		.range_size = sizeof(range),
		.max_segs = 1,
	};
	struct mock_extent extent;
	int map;

	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export_call(dev, &ex), &ex);
	ASSERT_EQ(1, mock_extents(mem, size, &extent, 0));
	EXPECT_EQ(1, ex.nr_segs);
	EXPECT_EQ(size < 2 << 20 ? size : 2 << 20, ex.alignment);
	map = attach_and_map(mock, ex.fd, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	expect_segments(_metadata, mock, map, &extent, 1);
	close(ex.fd);
	munmap(mem, size);
}

TEST_F(map, transparent_huge_page_is_one_entry)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");

	if (lacks)
		SKIP(return, "%s", lacks);
	one_entry(_metadata, self->dev, self->mock, mock_mem_thp(mock_huge_size()));
}

TEST_F(map, hugetlb_page_is_one_entry)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLBFS");

	if (lacks)
		SKIP(return, "%s", lacks);
	one_entry(_metadata, self->dev, self->mock, mock_mem_hugetlb(mock_huge_size()));
	vmm_write_file("/proc/sys/vm/nr_hugepages", "0");
}

/* dma-bufs are mapped by pages: nothing fits a device that takes less. */
TEST_F(map, no_entry_above_a_limit_below_a_page)
{
	struct vmmexp_mock_device device = {
		.flags = VMMEXP_MOCK_DMA_PARMS,
		.dma_mask_bits = 64,
		.max_segment_size = vmm_page_size() - 1,
	};
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	ASSERT_EQ(0, mock_device(self->mock, &device));
	EXPECT_EQ(-EIO, attach_and_map(self->mock, ex.fd, VMMEXP_MOCK_BIDIRECTIONAL));
	close(ex.fd);
}

/* Overlaps and repeats are kept, neighbours across ranges are merged. */
TEST_F(map, ranges_in_their_order)
{
	const struct { int first, pages; } parts[] = {
		{ 8, 8 }, { 16, 3 }, { 0, 1 }, { 0, 1 }, { 12, 8 }, { 31, 1 }, { 1, 2 },
	};
	struct vmmexp_range ranges[ARRAY_SIZE(parts)];
	struct mock_extent extents[64];
	struct vmmexp_export ex;
	char *expected, *seen;
	int nr = 0, map;
	size_t size = 0;
	unsigned int i;

	expected = malloc(64 * self->page);
	seen = malloc(64 * self->page);
	ASSERT_NE(NULL, expected);
	ASSERT_NE(NULL, seen);
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		char *start = self->mem + parts[i].first * self->page;
		size_t len = parts[i].pages * self->page;

		ranges[i] = vmm_range(start, len);
		memcpy(expected + size, start, len);
		size += len;
	}
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, ARRAY_SIZE(parts), 0, &ex), &ex);
	EXPECT_EQ(size, ex.size);
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		nr = mock_extents(self->mem + parts[i].first * self->page,
				  parts[i].pages * self->page, extents, nr);
		ASSERT_LT(0, nr);
	}
	EXPECT_EQ(nr, ex.nr_segs);
	map = attach_and_map(self->mock, ex.fd, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	expect_segments(_metadata, self->mock, map, extents, nr);
	ASSERT_EQ(0, mock_read(self->mock, map, 0, seen, size));
	EXPECT_EQ(0, memcmp(expected, seen, size));
	free(expected);
	free(seen);
	close(ex.fd);
}

/* Whole pages are exported; data_offset says where the caller's bytes are. */
TEST_F(map, unaligned_range_is_whole_pages)
{
	size_t in_page = 100, len = 5 * self->page + 77;
	char *start = self->mem + 3 * self->page + in_page;
	struct mock_extent extents[8];
	struct vmmexp_export ex;
	char *seen;
	int nr, map;

	ASSERT_VMM_OK(vmm_export(self->dev, start, len, VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(in_page, ex.data_offset);
	EXPECT_EQ(len, ex.data_size);
	EXPECT_EQ(6 * self->page, ex.size);
	nr = mock_extents(start - in_page, ex.size, extents, 0);
	ASSERT_LT(0, nr);
	map = attach_and_map(self->mock, ex.fd, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	expect_segments(_metadata, self->mock, map, extents, nr);
	seen = malloc(len);
	ASSERT_NE(NULL, seen);
	ASSERT_EQ(0, mock_read(self->mock, map, ex.data_offset, seen, ex.data_size));
	EXPECT_EQ(0, memcmp(start, seen, len));
	free(seen);
	close(ex.fd);
}

TEST_F(map, read_only_is_for_reading_devices)
{
	unsigned int kind, direction;
	struct vmmexp_query query;
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	for (kind = 0; kind < ARRAY_SIZE(attach_kinds); kind++) {
		int attachment = mock_attach(self->mock, ex.fd, attach_kinds[kind]);

		ASSERT_LE(0, attachment);
		for (direction = 0; direction < ARRAY_SIZE(directions); direction++) {
			int map = mock_map(self->mock, attachment, directions[direction]);

			if (directions[direction] != VMMEXP_MOCK_TO_DEVICE) {
				EXPECT_EQ(-EACCES, map);
				continue;
			}
			ASSERT_LE(0, map);
			EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
			EXPECT_EQ(0, mock_unmap(self->mock, map));
		}
		EXPECT_EQ(0, mock_detach(self->mock, attachment));
	}
	EXPECT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
	EXPECT_EQ(0, query.attachments);
	EXPECT_EQ(0, query.device_mappings);
	close(ex.fd);
}

/* Memory that only may be read, not only is exported so. */
TEST_F(map, read_only_mapping_of_the_exporter)
{
	struct vmmexp_export ex;
	int map;

	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	map = attach_and_map(self->mock, ex.fd, VMMEXP_MOCK_TO_DEVICE);
	ASSERT_LE(0, map);
	EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
	close(ex.fd);
}

TEST_F(map, read_only_has_no_kernel_mapping)
{
	struct vmmexp_query query;
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	EXPECT_EQ(-EINVAL, mock_vmap(self->mock, ex.fd, NULL));
	EXPECT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
	EXPECT_EQ(0, query.kernel_mappings);
	close(ex.fd);
}

/* The importer's fd is O_RDWR: that must not make the buffer writable. */
TEST_F(map, read_only_stays_so_in_the_importers_mmap)
{
	struct vmmexp_export ex;
	char *map;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	ASSERT_EQ(0, mock_mmap_choose(self->mock, ex.fd));
	EXPECT_EQ(NULL, vmm_map(self->mock, 0, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(NULL, vmm_map(self->mock, 0, self->size, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	map = vmm_map(self->mock, 0, self->size, PROT_READ);
	ASSERT_NE(NULL, map);
	EXPECT_EQ(-1, vmm_mismatch(map, self->size, 0, 1));
	EXPECT_EQ(-1, mprotect(map, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	/* Nor later, by a part, when it was faulted in. */
	EXPECT_EQ(-1, mprotect(map + self->page, self->page, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, vmm_mismatch(map, self->size, 0, 1));
	EXPECT_EQ(0, munmap(map, self->size));
	close(ex.fd);
}

TEST_F(map, importers_mmap_keeps_the_rules)
{
	struct vmmexp_export ex;
	char *map;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	ASSERT_EQ(0, mock_mmap_choose(self->mock, ex.fd));
	/* Page frames under copy-on-write would be a BUG() in the kernel. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				   self->mock, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->size, PROT_READ, MAP_PRIVATE, self->mock, 0));
	EXPECT_EQ(EINVAL, errno);
	map = vmm_map(self->mock, 0, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, map);
	/* Data, not code. */
	EXPECT_EQ(-1, mprotect(map, self->size, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	/* It does not grow. */
	EXPECT_EQ(MAP_FAILED, mremap(map, self->size, 2 * self->size, MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	/* The fd may go, and the buffer's too. */
	close(ex.fd);
	close(self->mock);
	self->mock = mock_open();
	EXPECT_EQ(-1, vmm_mismatch(map, self->size, 0, 1));
	vmm_fill(map, self->size, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 2));
	EXPECT_EQ(0, munmap(map, self->size));
}

/* A page's frame number is not a reference to it: it is not to be pinned again. */
TEST_F(map, importers_mmap_is_not_exported)
{
	struct vmmexp_export ex, again;
	char *map;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	ASSERT_EQ(0, mock_mmap_choose(self->mock, ex.fd));
	map = vmm_map(self->mock, 0, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, map);
	EXPECT_VMM_ERROR(vmm_export(self->dev, map, self->size, 0, &again), &again,
			 EPERM, VMMEXP_REASON_PFNMAP, 0);
	EXPECT_EQ(0, munmap(map, self->size));
	close(ex.fd);
}

/* No list is given out twice, be it to one attachment, one device or several. */
TEST_F(map, every_mapping_has_its_own_list)
{
	struct vmmexp_mock_map maps[6];
	struct vmmexp_mock_device device = { .dma_mask_bits = 40 };
	struct vmmexp_query query;
	struct vmmexp_export ex;
	int attachments[3], i, j;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	attachments[0] = mock_attach(self->mock, ex.fd, 0);
	attachments[1] = mock_attach(self->mock, ex.fd, VMMEXP_MOCK_IMPORTER_OPS);
	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachments[2] = mock_attach(self->mock, ex.fd, 0);
	for (i = 0; i < 6; i++) {
		ASSERT_LE(0, attachments[i / 2]);
		ASSERT_EQ(0, mock_map_call(self->mock, attachments[i / 2],
					   VMMEXP_MOCK_BIDIRECTIONAL, &maps[i]));
		for (j = 0; j < i; j++) {
			EXPECT_NE(maps[i].sg_table, maps[j].sg_table);
			EXPECT_NE(maps[i].sgl, maps[j].sgl);
		}
	}
	EXPECT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
	EXPECT_EQ(3, query.attachments);
	EXPECT_EQ(6, query.device_mappings);

	/* Let go of them from the middle: the others stay as they are. */
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, mock_unmap(self->mock, maps[(i + 3) % 6].map));
		for (j = i + 1; j < 6; j++)
			EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, maps[(j + 3) % 6].map,
						    0, self->size, 1));
		EXPECT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
		EXPECT_EQ(5 - i, query.device_mappings);
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, mock_detach(self->mock, attachments[i]));
		EXPECT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
		EXPECT_EQ(2 - i, query.attachments);
	}
	close(ex.fd);
}

/* The exporting process ends, in whatever way, and the device goes on. */
static void exporter_ends(struct __test_metadata *_metadata, int mock, size_t size, bool killed)
{
	int socks[2], dmabuf, map, vmap, status;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vmmexp_export ex;
		void *mem = mock_mem_anon(size);
		int dev = vmm_open();
		char go;

		if (!mem || dev < 0)
			_exit(1);
		vmm_fill(mem, size, 0, 9);
		if (vmm_export(dev, mem, size, 0, &ex) || vmm_send_fd(socks[1], ex.fd))
			_exit(1);
		if (read(socks[1], &go, 1) != 1)
			_exit(1);
		if (killed)
			raise(SIGKILL);
		exit(0);
	}
	dmabuf = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, dmabuf);
	map = attach_and_map(mock, dmabuf, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	vmap = mock_vmap(mock, dmabuf, NULL);
	ASSERT_LE(0, vmap);
	close(dmabuf);
	EXPECT_EQ(-1, mock_mismatch(mock, DEVICE_IO, map, 0, size, 9));
	ASSERT_EQ(1, write(socks[0], "", 1));
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL :
			     WIFEXITED(status) && !WEXITSTATUS(status));
	munmap(mock_mem_anon(4 << 20), 4 << 20);
	EXPECT_EQ(-1, mock_mismatch(mock, DEVICE_IO, map, 0, size, 9));
	EXPECT_EQ(-1, mock_mismatch(mock, KERNEL_IO, vmap, 0, size, 9));
	EXPECT_EQ(0, mock_fill(mock, DEVICE_IO, map, 0, size, 10));
	EXPECT_EQ(-1, mock_mismatch(mock, KERNEL_IO, vmap, 0, size, 10));
	EXPECT_EQ(0, mock_unmap(mock, map));
	EXPECT_EQ(0, mock_vunmap(mock, vmap));
	close(socks[0]);
	close(socks[1]);
}

TEST_F(map, outlives_exit)
{
	exporter_ends(_metadata, self->mock, self->size, false);
}

TEST_F(map, outlives_a_kill)
{
	exporter_ends(_metadata, self->mock, self->size, true);
}

/* The importing process ends and leaves everything to the kernel. */
TEST_F(map, importer_is_killed)
{
	struct vmmexp_query query;
	struct vmmexp_export ex;
	int status;
	pid_t pid;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int mock = mock_open();

		if (attach_and_map(mock, ex.fd, VMMEXP_MOCK_BIDIRECTIONAL) < 0 ||
		    mock_vmap(mock, ex.fd, NULL) < 0 || mock_mmap_choose(mock, ex.fd) ||
		    !vmm_map(mock, 0, self->size, PROT_READ))
			_exit(1);
		raise(SIGKILL);
	}
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
	EXPECT_EQ(0, query.attachments);
	EXPECT_EQ(0, query.device_mappings);
	EXPECT_EQ(0, query.kernel_mappings);
	EXPECT_EQ(0, query.cpu_mappings);
	close(ex.fd);
}

/* BEGIN and END by a driver of the kernel. */
TEST_F(map, cpu_access)
{
	struct vmmexp_export ex;
	unsigned int i;
	int mapped;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	for (mapped = 0; mapped < 2; mapped++) {
		for (i = 0; i < 2 * ARRAY_SIZE(directions); i++)
			EXPECT_EQ(0, mock_cpu_access(self->mock, ex.fd, directions[i / 2], i % 2));
		ASSERT_LE(0, attach_and_map(self->mock, ex.fd, VMMEXP_MOCK_BIDIRECTIONAL));
	}
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 1));
	close(ex.fd);
}

/* FROM_DEVICE is the CPU's reading: all that it may do with a READ_ONLY buffer. */
TEST_F(map, cpu_access_read_only)
{
	struct vmmexp_export ex;
	int mapped, end;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	for (mapped = 0; mapped < 2; mapped++) {
		for (end = 0; end < 2; end++) {
			EXPECT_EQ(0, mock_cpu_access(self->mock, ex.fd, VMMEXP_MOCK_FROM_DEVICE,
						     end));
			EXPECT_EQ(-EACCES, mock_cpu_access(self->mock, ex.fd,
							   VMMEXP_MOCK_TO_DEVICE, end));
			EXPECT_EQ(-EACCES, mock_cpu_access(self->mock, ex.fd,
							   VMMEXP_MOCK_BIDIRECTIONAL, end));
		}
		ASSERT_LE(0, attach_and_map(self->mock, ex.fd, VMMEXP_MOCK_TO_DEVICE));
	}
	close(ex.fd);
}

/* Nobody tells importers of such memory to let go: nothing moves. */
TEST_F(map, nothing_is_invalidated)
{
	struct vmmexp_export ex;
	int attachment, map;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	attachment = mock_attach(self->mock, ex.fd,
				 VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	munmap(self->mem, self->size);
	self->mem = mock_mem_anon(self->size);
	EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, self->size, 1));
	EXPECT_EQ(0, mock_invalidated(self->mock, attachment));
	close(ex.fd);
}

/*
 * Everything at once for a while: whoever has the bytes must have the right
 * ones, and in the end nothing is left.
 */
struct stress {
	atomic_bool stop;
	atomic_int rounds;
	int dev;
	int dmabuf;		/* of pattern 1, changed by nobody */
	size_t size;
	/* The first thing that was wrong, for the log. */
	atomic_int failed_line;
	atomic_llong failed_value;
};

static bool stress_check(struct stress *stress, bool good, int line, long long value)
{
	int none = 0;

	if (!good && atomic_compare_exchange_strong(&stress->failed_line, &none, line))
		atomic_store(&stress->failed_value, value);
	if (!good)
		atomic_store(&stress->stop, true);
	return good;
}

#define STRESS(stress, good, value) stress_check(stress, good, __LINE__, value)

static void *stress_device(void *arg)
{
	struct stress *stress = arg;
	int mock = mock_open();

	while (!atomic_load(&stress->stop)) {
		int attachment = mock_attach(mock, stress->dmabuf, 0), map, more;
		long long where;

		if (!STRESS(stress, attachment >= 0, attachment))
			break;
		map = mock_map(mock, attachment, VMMEXP_MOCK_TO_DEVICE);
		more = mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
		if (!STRESS(stress, map >= 0 && more >= 0, map < 0 ? map : more))
			break;
		where = mock_mismatch(mock, DEVICE_IO, map, 0, stress->size, 1);
		STRESS(stress, where == -1, where);
		STRESS(stress, !mock_unmap(mock, map), 0);
		STRESS(stress, mock_detach(mock, attachment) == -EBUSY, 0);
		STRESS(stress, !mock_unmap(mock, more), 0);
		STRESS(stress, !mock_detach(mock, attachment), 0);
		atomic_fetch_add(&stress->rounds, 1);
	}
	close(mock);
	return NULL;
}

static void *stress_kernel(void *arg)
{
	struct stress *stress = arg;
	int mock = mock_open();

	while (!atomic_load(&stress->stop)) {
		int vmap = mock_vmap(mock, stress->dmabuf, NULL);
		long long where;

		if (!STRESS(stress, vmap >= 0, vmap))
			break;
		where = mock_mismatch(mock, KERNEL_IO, vmap, 0, stress->size, 1);
		STRESS(stress, where == -1, where);
		STRESS(stress, !mock_vunmap(mock, vmap), 0);
		atomic_fetch_add(&stress->rounds, 1);
	}
	close(mock);
	return NULL;
}

static void *stress_user(void *arg)
{
	struct stress *stress = arg;
	struct vmmexp_query query;
	struct vmmexp_sync sync;
	int mock = mock_open();

	STRESS(stress, !mock_mmap_choose(mock, stress->dmabuf), 0);
	while (!atomic_load(&stress->stop)) {
		char *map = vmm_map(atomic_load(&stress->rounds) % 2 ? mock : stress->dmabuf, 0,
				    stress->size, PROT_READ);
		long long where;

		if (!STRESS(stress, map, errno))
			break;
		STRESS(stress, !vmm_sync(stress->dev, stress->dmabuf, NULL, 0,
					 VMMEXP_SYNC_RW | VMMEXP_SYNC_BEGIN, &sync), sync.reason);
		where = vmm_mismatch(map, stress->size, 0, 1);
		STRESS(stress, where == -1, where);
		STRESS(stress, !vmm_sync(stress->dev, stress->dmabuf, NULL, 0,
					 VMMEXP_SYNC_RW | VMMEXP_SYNC_END, &sync), sync.reason);
		STRESS(stress, !vmm_query(stress->dev, stress->dmabuf, &query), query.reason);
		munmap(map, stress->size);
		atomic_fetch_add(&stress->rounds, 1);
	}
	close(mock);
	return NULL;
}

/* Buffers that come and go, the device always being the last to have them. */
static void *stress_export(void *arg)
{
	struct stress *stress = arg;
	int mock = mock_open();
	__u32 seed = 100;

	while (!atomic_load(&stress->stop)) {
		struct vmmexp_export ex;
		void *mem = mock_mem_anon(stress->size);
		int ret, map, attachment;
		long long where;

		if (!STRESS(stress, mem, errno))
			break;
		vmm_fill(mem, stress->size, 0, ++seed);
		ret = vmm_export(stress->dev, mem, stress->size, 0, &ex);
		if (!STRESS(stress, !ret, ret))
			break;
		attachment = mock_attach(mock, ex.fd, 0);
		map = mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
		STRESS(stress, map >= 0, map);
		close(ex.fd);
		munmap(mem, stress->size);
		where = mock_mismatch(mock, DEVICE_IO, map, 0, stress->size, seed);
		STRESS(stress, where == -1, where);
		STRESS(stress, !mock_unmap(mock, map), 0);
		STRESS(stress, !mock_detach(mock, attachment), 0);
		atomic_fetch_add(&stress->rounds, 1);
	}
	close(mock);
	return NULL;
}

TEST_F_TIMEOUT(map, everything_at_once, 120)
{
	void *(*const jobs[])(void *) = {
		stress_device, stress_device, stress_kernel, stress_user, stress_user,
		stress_export, stress_export,
	};
	struct stress stress = { .dev = self->dev, .size = self->size };
	pthread_t threads[ARRAY_SIZE(jobs)];
	struct vmmexp_query query;
	struct vmmexp_export ex;
	unsigned int i, waited;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &ex), &ex);
	stress.dmabuf = ex.fd;
	for (i = 0; i < ARRAY_SIZE(jobs); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, jobs[i], &stress));
	for (waited = 0; waited < 4000 && !atomic_load(&stress.stop); waited += 50)
		vmm_msleep(50);
	atomic_store(&stress.stop, true);
	for (i = 0; i < ARRAY_SIZE(jobs); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_EQ(0, atomic_load(&stress.failed_line)) {
		TH_LOG("line %d: %lld", atomic_load(&stress.failed_line),
		       atomic_load(&stress.failed_value));
	}
	EXPECT_LT(100, atomic_load(&stress.rounds));
	EXPECT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
	EXPECT_EQ(0, query.attachments);
	EXPECT_EQ(0, query.device_mappings);
	EXPECT_EQ(0, query.kernel_mappings);
	EXPECT_EQ(0, query.cpu_mappings);
	close(ex.fd);
}

TEST_HARNESS_MAIN
