// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a caller, or a driver, must not be able to do to the kernel: regressions
 * of what a review found. That the kernel's log stays quiet is part of each
 * test; whoever runs them looks at the log as well.
 */
#define _GNU_SOURCE
#include <sys/utsname.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "kselftest_harness.h"

#include "vmmexp_mock_util.h"

#define DEVICE_IO	VMMEXP_MOCK_IOC_DEVICE_IO

/* A pin costs a small page so many references (GUP_PIN_COUNTING_BIAS). */
#define PIN_COST	1024

/* Ranges in one call. */
#define RANGES		1024

/* The most runs of a buffer. */
#define MAX_RUNS	0x100000u

/* TAINT_WARN */
#define TAINTED_WARN	0x200

FIXTURE(hardening) {
	long long pins;
	long long tainted;
	int dev;
	int mock;
	size_t page;
	__u64 max_size;
};

FIXTURE_SETUP(hardening)
{
	struct vmmexp_info info;

	self->pins = vmm_pins();
	self->tainted = vmm_read_number("/proc/sys/kernel/tainted");
	ASSERT_LE(0, self->tainted);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->page = vmm_page_size();
	ASSERT_EQ(0, vmm_info(self->dev, &info));
	self->max_size = info.max_size;
	ASSERT_EQ(RANGES, info.max_ranges);
}

FIXTURE_TEARDOWN(hardening)
{
	close(self->mock);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->tainted & TAINTED_WARN,
		  vmm_read_number("/proc/sys/kernel/tainted") & TAINTED_WARN);
}

/* Exports of single pages, one after the other. */
#define PARTS		4

/*
 * A file in memory with a page that is the next one to that before it, in the
 * file and in memory, and stays there; its index, or -errno. What the kernel has
 * at hand are pages in any order: so many are taken that it must get new ones,
 * which it may hand out upwards or downwards.
 */
static int neighbours(int dev, int *fd, char **mem)
{
	size_t page = vmm_page_size(), pages = PARTS * RANGES, i, at;
	struct vmmexp_range ranges[RANGES];
	struct vmmexp_export ex[PARTS];
	int part, try, ret;

	for (try = 0; try < 8; try++) {
		*fd = memfd_create("vmmexp-refs", MFD_CLOEXEC);
		if (*fd < 0 || ftruncate(*fd, pages * page))
			return -errno;
		*mem = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
		if (*mem == MAP_FAILED)
			return -errno;
		for (part = 0; part < PARTS; part++) {
			for (i = 0; i < RANGES; i++) {
				at = part * RANGES + i;
				if (try % 2)
					at = pages - 1 - at;
				vmm_poke(*mem + at * page, 1);
				ranges[i] = vmm_range(*mem + at * page, page);
			}
			/* What is held stays where it is. */
			ret = vmm_export_ranges(dev, ranges, RANGES, 0, &ex[part]);
			if (ret)
				return ret;
		}
		for (i = 1; i < pages; i++)
			if (vmm_pfn(*mem + (i - 1) * page) + 1 == vmm_pfn(*mem + i * page))
				break;
		for (part = 0; part < PARTS; part++)
			close(ex[part].fd);
		if (i < pages)
			return i;
		munmap(*mem, pages * page);
		close(*fd);
	}
	return -ENOENT;
}

/*
 * A page can be in a buffer any number of times, and each time has references
 * to it. Before they could wrap the count an export is refused, for the page
 * where it stops, also if it follows another that has room; others can still use
 * the page, and in the end all of the references come back.
 */
TEST_F_TIMEOUT(hardening, references_to_one_page_run_out, 600)
{
	/* Of a size that the smallest of the machines can have. */
	const unsigned int mapped = 128, most = MAX_RUNS / (RANGES * mapped) + 1;
	const size_t file_pages = PARTS * RANGES;
	struct vmmexp_range ranges[RANGES];
	struct vmmexp_export ex[16], all, rest;
	struct iovec local, remote;
	unsigned int i, nr;
	char copy[64], *file = NULL, *mem;
	int at, fd, ret = 0;
	__u64 pins;

	ASSERT_GE(ARRAY_SIZE(ex), most);
	ASSERT_LE((__u64)RANGES * mapped * self->page, self->max_size);
	at = neighbours(self->dev, &fd, &file);
	ASSERT_LE(0, at);
	mem = mmap(NULL, mapped * self->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < mapped; i++)
		ASSERT_EQ(mem + i * self->page,
			  mmap(mem + i * self->page, self->page, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, fd, at * self->page));
	vmm_fill(mem, self->page, 0, 1);
	for (i = 0; i < RANGES; i++)
		ranges[i] = vmm_range(mem, mapped * self->page);

	for (nr = 0; nr < most; nr++) {
		ret = vmm_export_ranges(self->dev, ranges, RANGES, 0, &ex[nr]);
		if (ret)
			break;
		ASSERT_EQ(RANGES * mapped, ex[nr].nr_segs);
	}
	ASSERT_GT(most, nr) TH_LOG("all of them were exported");
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(VMMEXP_REASON_NOT_PINNABLE, ex[nr].reason);
	EXPECT_EQ(-1, ex[nr].fd);
	/* Half of what the count holds is for exports, the other for everybody else. */
	ASSERT_EQ(0, ex[nr].error_offset % self->page);
	pins = (__u64)nr * RANGES * mapped + ex[nr].error_offset / self->page;
	EXPECT_GE(INT_MAX / 2 / PIN_COST, pins);
	EXPECT_LE(INT_MAX / 2 / PIN_COST - 8, pins);
	/* What was refused has let go again, down to the last page. */
	EXPECT_TRUE(vmm_pins_settle(self->pins + (long long)nr * RANGES * mapped));

	/* What there was room for can be had, and then not one more. */
	for (i = 0; i < RANGES; i++) {
		__u64 left = ex[nr].error_offset - i * mapped * self->page;

		if (left <= mapped * self->page) {
			ranges[i].len = left;
			break;
		}
	}
	ASSERT_GT(RANGES, i);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, i + 1, 0, &rest), &rest);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, 0, &all), &all, EFAULT,
			 VMMEXP_REASON_NOT_PINNABLE, 0);
	/* Nor if it comes with a page that could be pinned, in one batch and one run. */
	EXPECT_VMM_ERROR(vmm_export(self->dev, file + (at - 1) * self->page, 2 * self->page, 0,
				    &all), &all, EFAULT, VMMEXP_REASON_NOT_PINNABLE, self->page);
	EXPECT_TRUE(vmm_pins_settle(self->pins + pins));
	close(rest.fd);
	ranges[i] = vmm_range(mem, mapped * self->page);
	EXPECT_TRUE(vmm_pins_settle(self->pins + (long long)nr * RANGES * mapped));

	/* As a debugger, or O_DIRECT, would: by taking references to the page. */
	memset(copy, 0, sizeof(copy));
	local = (struct iovec){ copy, sizeof(copy) };
	remote = (struct iovec){ mem + (mapped - 1) * self->page, sizeof(copy) };
	EXPECT_EQ(sizeof(copy), process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(-1, vmm_mismatch(copy, sizeof(copy), 0, 1));
	memset(copy, 0, sizeof(copy));
	EXPECT_EQ(sizeof(copy), pread(fd, copy, sizeof(copy), at * self->page));
	EXPECT_EQ(-1, vmm_mismatch(copy, sizeof(copy), 0, 1));
	/* And an export again, as soon as there is room. */
	ASSERT_LT(0, nr);
	close(ex[0].fd);
	EXPECT_VMM_OK(vmm_export_ranges(self->dev, ranges, RANGES, 0, &ex[0]), &ex[0]);

	for (i = 0; i < nr; i++)
		close(ex[i].fd);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_VMM_OK(vmm_export_ranges(self->dev, ranges, RANGES, 0, &ex[0]), &ex[0]);
	close(ex[0].fd);
	munmap(mem, mapped * self->page);
	munmap(file, file_pages * self->page);
	close(fd);
}

/*
 * What the kernel keeps of a buffer grows with the number of its runs, which
 * repeats make as large as one likes: it is bounded. A small machine does not
 * get there, as a buffer is not larger than its memory; tests/guest/many-runs.sh
 * is this on a large one.
 */
TEST_F_TIMEOUT(hardening, runs_are_bounded, 600)
{
	/* Not a divisor of the bound, which is to be met within a range. */
	size_t pages = 4000, runs_before = 0, i, last;
	struct mock_extent *extents;
	struct vmmexp_range ranges[RANGES];
	struct vmmexp_export ex;
	unsigned int full, left;
	__u64 size;
	char *mem;
	int nr;

	mem = mock_mem_anon(pages * self->page);
	extents = calloc(pages, sizeof(*extents));
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, extents);
	/* Held in place, so that what is seen is what will be exported. */
	ASSERT_VMM_OK(vmm_export(self->dev, mem, pages * self->page, 0, &ex), &ex);
	nr = mock_extents(mem, pages * self->page, extents, 0);
	ASSERT_EQ(ex.nr_segs, nr);
	/* A repeat must not be merged with what is before it. */
	if (extents[nr - 1].phys + extents[nr - 1].len == extents[0].phys) {
		pages -= extents[nr - 1].len / self->page;
		nr--;
	}

	full = MAX_RUNS / nr;
	left = MAX_RUNS % nr;
	if (full >= RANGES)
		full = RANGES - 1;
	size = (__u64)(full + 1) * pages * self->page;
	for (i = 0; i <= full; i++)
		ranges[i] = vmm_range(mem, pages * self->page);
	if (size > self->max_size) {
		struct vmmexp_export more;

		/* Told that it is large, and it is not: that tested nothing. */
		ASSERT_EQ(NULL, getenv("VMMEXP_MANY_RUNS")) TH_LOG("%d runs in %zu pages", nr,
								   pages);
		EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, full + 1, 0, &more), &more,
				 EOVERFLOW, VMMEXP_REASON_TOO_BIG,
				 self->max_size / (pages * self->page) * pages * self->page);
		EXPECT_EQ(-1, more.fd);
		goto out;
	}
	/* Else the memory is less scattered than this test can make use of. */
	ASSERT_GT(RANGES, MAX_RUNS / nr) TH_LOG("%d runs in %zu pages", nr, pages);

	/* Exactly as many as there may be; then one page more. */
	for (last = 0; runs_before < left; runs_before++)
		last += extents[runs_before].len;
	close(ex.fd);
	if (last)
		ranges[full] = vmm_range(mem, last);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, full + !!last, 0, &ex), &ex);
	EXPECT_EQ(MAX_RUNS, ex.nr_segs);
	close(ex.fd);
	ranges[full] = vmm_range(mem, last + self->page);
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, full + 1, 0, &ex), &ex,
			 EOVERFLOW, VMMEXP_REASON_TOO_BIG,
			 (__u64)full * pages * self->page + last);
	EXPECT_EQ(-1, ex.fd);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
out:
	close(ex.fd);
	munmap(mem, pages * self->page);
	free(extents);
}

/*
 * What may be mapped by the kernel is bounded for all buffers together, and
 * decided when they are exported: to fail later would be a warning in the
 * kernel's log. What is too much has no such mapping at all (EINVAL), and is
 * a buffer like any other otherwise.
 */

/* Bytes of all buffers that may be mapped together. */
static __u64 vmap_budget(const struct _test_data_hardening *self)
{
	struct utsname kernel;

	/* Where addresses are scarce, and where only memory is: the kernel's, not the program's. */
	return !uname(&kernel) && !strncmp(kernel.machine, "armv7", 5) ? 96 << 20 : self->max_size;
}

/* Bytes of a buffer of which nine and a half fit. */
static __u64 vmap_size(const struct _test_data_hardening *self, size_t window)
{
	return vmap_budget(self) * 2 / 19 / window * window;
}

/* A buffer of @size bytes, a multiple of @window, and no more memory than that. */
static int export_repeats(int dev, char *mem, size_t window, __u64 size, __u32 flags,
			  struct vmmexp_export *ex)
{
	struct vmmexp_range ranges[RANGES];
	unsigned int i, nr = size / window;

	for (i = 0; i < nr && i < RANGES; i++)
		ranges[i] = vmm_range(mem, window);
	return vmm_export_ranges(dev, ranges, nr, flags, ex);
}

TEST_F_TIMEOUT(hardening, vmaps_are_bounded, 300)
{
	const size_t window = 1 << 20;
	const __u64 size = vmap_size(self, window);
	struct vmmexp_export ex[12];
	char *mem = mock_mem_anon(window);
	int vmaps[ARRAY_SIZE(ex)], i;
	__u32 word;

	ASSERT_NE(NULL, mem);
	vmm_fill(mem, window, 0, 1);
	for (i = 0; i < (int)ARRAY_SIZE(ex); i++) {
		ASSERT_VMM_OK(export_repeats(self->dev, mem, window, size, 0, &ex[i]), &ex[i]);
		vmaps[i] = mock_vmap(self->mock, ex[i].fd, NULL);
		if (i >= 9) {
			ASSERT_EQ(-EINVAL, vmaps[i]) TH_LOG("buffer %d", i);
			continue;
		}
		ASSERT_LE(0, vmaps[i]) TH_LOG("buffer %d", i);
		/* It is all there, to the last byte. */
		ASSERT_EQ(0, mock_vread(self->mock, vmaps[i], size - sizeof(word), &word,
					sizeof(word)));
		ASSERT_EQ(-1, vmm_mismatch(&word, sizeof(word), window - sizeof(word), 1));
	}
	/* Those without have everything else. */
	i = mock_attach(self->mock, ex[11].fd, 0);
	ASSERT_LE(0, i);
	i = mock_map(self->mock, i, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, i);
	EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, i, 0, window, 1));
	EXPECT_EQ(0, mock_unmap(self->mock, i));

	/* It was decided for good: room that is made later is for later buffers. */
	EXPECT_EQ(0, mock_vunmap(self->mock, vmaps[0]));
	close(ex[0].fd);
	EXPECT_EQ(-EINVAL, mock_vmap(self->mock, ex[10].fd, NULL));
	ASSERT_VMM_OK(export_repeats(self->dev, mem, window, size, 0, &ex[0]), &ex[0]);
	vmaps[0] = mock_vmap(self->mock, ex[0].fd, NULL);
	EXPECT_LE(0, vmaps[0]);

	/* Those that were refused hold nothing back: they are all still there. */
	for (i = 0; i < 9; i++) {
		EXPECT_EQ(0, mock_vunmap(self->mock, vmaps[i]));
		close(ex[i].fd);
	}
	for (i = 0; i < 9; i++) {
		ASSERT_VMM_OK(export_repeats(self->dev, mem, window, size, 0, &ex[i]), &ex[i]);
		vmaps[i] = mock_vmap(self->mock, ex[i].fd, NULL);
		EXPECT_LE(0, vmaps[i]) TH_LOG("buffer %d", i);
	}
	close(self->mock);
	for (i = 0; i < (int)ARRAY_SIZE(ex); i++)
		close(ex[i].fd);
	munmap(mem, window);
}

/* As nobody maps these for the kernel, they leave the room to others. */
TEST_F_TIMEOUT(hardening, read_only_takes_no_room_for_vmaps, 300)
{
	const size_t window = 1 << 20;
	const __u64 size = vmap_size(self, window);
	struct vmmexp_export ex[12], writable;
	char *mem = mock_mem_anon(window);
	unsigned int i;

	ASSERT_NE(NULL, mem);
	for (i = 0; i < ARRAY_SIZE(ex); i++)
		ASSERT_VMM_OK(export_repeats(self->dev, mem, window, size,
					     VMMEXP_EXPORT_READ_ONLY, &ex[i]), &ex[i]);
	ASSERT_VMM_OK(export_repeats(self->dev, mem, window, size, 0, &writable), &writable);
	EXPECT_LE(0, mock_vmap(self->mock, writable.fd, NULL));
	close(self->mock);
	close(writable.fd);
	for (i = 0; i < ARRAY_SIZE(ex); i++)
		close(ex[i].fd);
	munmap(mem, window);
}

/* The bus of @device has a window up to @border and one from there on. */
static int map_through_windows(struct _test_data_hardening *self, int dmabuf, __u64 border,
			       __u64 shift)
{
	struct vmmexp_mock_device device = {
		.dma_mask_bits = 64,
		.window_border = border,
		.window_shift = shift,
	};
	int ret = mock_device(self->mock, &device);

	if (!ret)
		ret = mock_attach(self->mock, dmabuf, 0);
	return ret < 0 ? ret : mock_map(self->mock, ret, VMMEXP_MOCK_BIDIRECTIONAL);
}

/*
 * Memory that is contiguous for the CPU need not be so on the bus. A device
 * gets addresses at which it finds the very bytes, or none.
 */
TEST_F(hardening, run_across_windows_of_a_bus)
{
	const size_t pages = 2048;
	const __u64 shift = 16 << 20;
	struct mock_extent *extents = calloc(pages, sizeof(*extents)), *low = NULL, *high = NULL;
	struct vmmexp_mock_segment *segments;
	struct vmmexp_range ranges[2];
	struct vmmexp_export all, ex;
	__u64 at = 0, low_at = 0, high_at = 0;
	char *mem;
	int nr, i, map;

	mem = mmap(NULL, pages * self->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_NE(NULL, extents);
	vmm_fill(mem, pages * self->page, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, pages * self->page, 0, &all), &all);
	nr = mock_extents(mem, pages * self->page, extents, 0);
	/* Two runs of several pages. */
	for (i = 0; i < nr; at += extents[i].len, i++) {
		if (extents[i].len < 2 * self->page)
			continue;
		if (!low) {
			low = &extents[i];
			low_at = at;
		} else if (extents[i].phys > low->phys + low->len) {
			high = &extents[i];
			high_at = at;
		} else if (!high) {
			high = low;
			high_at = low_at;
			low = &extents[i];
			low_at = at;
		}
	}
	if (!high) {
		/* One run is two, if what is between them is left out. */
		ASSERT_NE(NULL, low);
		ASSERT_LE(5 * self->page, low->len);
		extents[nr] = (struct mock_extent){ low->phys + 3 * self->page, 2 * self->page };
		high = &extents[nr];
		high_at = low_at + 3 * self->page;
		low->len = 2 * self->page;
	}
	ranges[0] = vmm_range(mem + high_at, high->len);
	ranges[1] = vmm_range(mem + low_at, low->len);

	/* The border within a run: no address is right for all of it. */
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 1, 0, &ex), &ex);
	ASSERT_EQ(1, ex.nr_segs);
	EXPECT_EQ(-EIO, map_through_windows(self, ex.fd, high->phys + self->page, shift));
	EXPECT_EQ(-EIO, map_through_windows(self, ex.fd, high->phys + high->len - self->page,
					    shift));
	/* Beyond it, nothing: not even a part of the run is reached, or not all of it. */
	EXPECT_EQ(-EIO, map_through_windows(self, ex.fd, high->phys, ~0ull));
	EXPECT_EQ(-EIO, map_through_windows(self, ex.fd, high->phys + self->page, ~0ull));
	/* But the windows may meet anywhere else. */
	map = map_through_windows(self, ex.fd, high->phys + high->len, shift);
	ASSERT_LE(0, map);
	ASSERT_EQ(1, mock_segments(self->mock, map, &segments));
	EXPECT_EQ(high->phys, segments[0].dma_address);
	EXPECT_EQ(high->len, segments[0].dma_length);
	free(segments);
	close(ex.fd);

	/* Two runs in two windows: each has the addresses of its own. */
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex);
	ASSERT_EQ(2, ex.nr_segs);
	map = map_through_windows(self, ex.fd, high->phys, shift);
	ASSERT_LE(0, map);
	ASSERT_EQ(2, mock_segments(self->mock, map, &segments));
	EXPECT_EQ(high->phys + shift, segments[0].dma_address);
	EXPECT_EQ(high->len, segments[0].dma_length);
	EXPECT_EQ(low->phys, segments[1].dma_address);
	EXPECT_EQ(low->len, segments[1].dma_length);
	free(segments);
	vmm_fill(mem + high_at, high->len, 0, 2);
	vmm_fill(mem + low_at, low->len, high->len, 2);
	EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0, high->len + low->len, 2));
	close(ex.fd);
	close(all.fd);
	/* Mappings hold what they map. */
	close(self->mock);
	munmap(mem, pages * self->page);
	free(extents);
}

/*
 * 64 KiB is what the PCI core sets for every device, and no limit then; here a
 * driver means it.
 */
TEST_F(hardening, a_drivers_own_64k_is_a_limit)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	struct vmmexp_mock_device device = {
		.flags = VMMEXP_MOCK_DMA_PARMS,
		.dma_mask_bits = 64,
		.max_segment_size = 65536,
	};
	struct vmmexp_mock_segment *segments;
	struct mock_extent extent;
	struct vmmexp_export ex;
	size_t size, i;
	int map;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	size = mock_huge_size();
	mem = mock_mem_thp(size);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, size, 0, &ex), &ex);
	ASSERT_EQ(1, mock_extents(mem, size, &extent, 0));
	ASSERT_EQ(0, mock_device(self->mock, &device));
	map = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, map);
	map = mock_map(self->mock, map, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	ASSERT_EQ(size / 65536, mock_segments(self->mock, map, &segments));
	for (i = 0; i < size / 65536; i++) {
		EXPECT_EQ(extent.phys + i * 65536, segments[i].dma_address);
		EXPECT_EQ(65536, segments[i].dma_length);
	}
	free(segments);
	close(self->mock);
	close(ex.fd);
	munmap(mem, size);
}

/* Whatever was in the structure before, a failed EXPORT answers nothing. */
static void expect_no_answers(struct __test_metadata *_metadata, int ret,
			      const struct vmmexp_export *ex, int err, __u32 reason)
{
	EXPECT_EQ(-err, ret);
	EXPECT_EQ(reason, ex->reason);
	EXPECT_EQ(-1, ex->fd);
	EXPECT_EQ(0, ex->size);
	EXPECT_EQ(0, ex->data_offset);
	EXPECT_EQ(0, ex->data_size);
	EXPECT_EQ(0, ex->nr_segs);
	EXPECT_EQ(0, ex->kinds);
	EXPECT_EQ(0, ex->alignment);
}

/* A request of one range, with something in every answer. */
static struct vmmexp_export poisoned(const struct vmmexp_range *range)
{
	return (struct vmmexp_export){
		.ranges = (uintptr_t)range,
		.nr_ranges = 1,
		.range_size = sizeof(*range),
		.fd_flags = O_CLOEXEC,
		.reason = ~0u,
		.error_offset = ~0ull,
		.size = ~0ull,
		.data_offset = ~0ull,
		.data_size = ~0ull,
		.nr_segs = ~0u,
		.kinds = ~0u,
		.alignment = ~0ull,
	};
}

TEST_F(hardening, failures_answer_nothing)
{
	char *mem = mock_mem_anon(4 * self->page);
	struct vmmexp_range range = vmm_range(mem, 4 * self->page), other;
	struct {
		struct vmmexp_export ex;
		__u64 tail;
	} longer;
	struct vmmexp_export ex;
	struct rlimit limit, none;
	unsigned int fds = vmm_count_fds();
	int ret;

	ASSERT_NE(NULL, mem);

	/* Before anything of the request is looked at. */
	longer.ex = poisoned(&range);
	longer.tail = 1;
	ret = vmm_ioctl(self->dev, _IOWR(VMMEXP_IOC_MAGIC, 0x00, longer), &longer);
	expect_no_answers(_metadata, ret, &longer.ex, EINVAL, VMMEXP_REASON_UNKNOWN_TAIL);
	EXPECT_EQ(1, longer.tail);

	ex = poisoned(&range);
	ex.flags = 1u << 31;
	ret = vmm_export_call(self->dev, &ex);
	expect_no_answers(_metadata, ret, &ex, EINVAL, VMMEXP_REASON_FLAGS);

	ex = poisoned(&range);
	ex.nr_ranges = 0;
	ret = vmm_export_call(self->dev, &ex);
	expect_no_answers(_metadata, ret, &ex, EINVAL, VMMEXP_REASON_NO_RANGES);

	ex = poisoned(NULL);
	ret = vmm_export_call(self->dev, &ex);
	expect_no_answers(_metadata, ret, &ex, EFAULT, VMMEXP_REASON_ARRAY_FAULT);

	/* Once a part of the memory is pinned. */
	other = range;
	other.len -= self->page;
	ASSERT_EQ(0, munmap(mem + 2 * self->page, self->page));
	ex = poisoned(&other);
	ret = vmm_export_call(self->dev, &ex);
	expect_no_answers(_metadata, ret, &ex, EFAULT, VMMEXP_REASON_HOLE);
	EXPECT_EQ(2 * self->page, ex.error_offset);
	ASSERT_EQ(mem + 2 * self->page,
		  mmap(mem + 2 * self->page, self->page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));

	/* Once all of it is, and what it is like is known. */
	ex = poisoned(&range);
	ex.phys_bits = 1;
	ret = vmm_export_call(self->dev, &ex);
	expect_no_answers(_metadata, ret, &ex, ERANGE, VMMEXP_REASON_PHYS_BITS);

	/* The last thing that can fail, when the dma-buf is made. */
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ex = poisoned(&range);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	ret = vmm_export_call(self->dev, &ex);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	expect_no_answers(_metadata, ret, &ex, EMFILE, VMMEXP_REASON_NO_FD);

	EXPECT_EQ(fds, vmm_count_fds());
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	munmap(mem, 4 * self->page);
}

/*
 * A private mapping of page frames would be copied on write, which the kernel
 * takes for a bug of its own: there is none, whichever file leads to the
 * dma-buf. Drivers' files, unlike the dma-buf's, allow execution.
 */
TEST_F(hardening, no_private_mapping_through_an_importer)
{
	static const int prots[] = {
		PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE,
	};
	const size_t size = 8 * self->page;
	char *mem = mock_mem_anon(size), *map;
	struct vmmexp_query query;
	struct vmmexp_export ex;
	unsigned int i, flags;

	ASSERT_NE(NULL, mem);
	for (flags = 0; flags <= VMMEXP_EXPORT_READ_ONLY; flags++) {
		vmm_fill(mem, size, 0, 1);
		ASSERT_VMM_OK(vmm_export(self->dev, mem, size, flags, &ex), &ex);
		ASSERT_EQ(0, mock_mmap_choose(self->mock, ex.fd));
		for (i = 0; i < ARRAY_SIZE(prots); i++) {
			EXPECT_EQ(MAP_FAILED, mmap(NULL, size, prots[i], MAP_PRIVATE, self->mock,
						   0));
			EXPECT_EQ(EINVAL, errno) TH_LOG("protection %d", prots[i]);
			EXPECT_EQ(MAP_FAILED, mmap(NULL, size, prots[i], MAP_PRIVATE, ex.fd, 0));
			/* Memory without a right to it is refused sooner. */
			EXPECT_TRUE(errno == EINVAL || (flags && errno == EACCES));
		}
		/* Refused is not counted. */
		ASSERT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
		EXPECT_EQ(0, query.cpu_mappings);

		map = vmm_map(self->mock, 0, size,
			      flags ? PROT_READ : PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, map);
		EXPECT_EQ(-1, vmm_mismatch(map, size, 0, 1));
		if (!flags)
			vmm_poke(map, 7);
		EXPECT_EQ(0, munmap(map, size));
		close(ex.fd);
		ASSERT_EQ(0, mock_mmap_choose(self->mock, -1));
	}
	munmap(mem, size);
}

TEST_HARNESS_MAIN
