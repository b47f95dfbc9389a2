/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests share that use the mock importer. As in vmmexp_util.h the
 * functions return -errno on failure.
 *
 *   the mock		mock_open(), mock_device(), mock_attach(), mock_map(), ...
 *   bytes		mock_read(), mock_write(): through a mapping's addresses;
 *			mock_vread(), mock_vwrite(): through a kernel mapping;
 *			mock_mismatch(), mock_fill(): the pattern, through a mapping
 *   what is expected	mock_extents(): the physical memory behind a range, by
 *			/proc/self/pagemap, which knows nothing of vmmexp
 *   memory		mock_mem_*(): kinds of memory to export
 */
#ifndef _VMMEXP_MOCK_UTIL_H
#define _VMMEXP_MOCK_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmmexp_mock.h"
#include "vmmexp_util.h"

#define MOCK_DEVICE	"/dev/vmmexp-mock"

/* Where scripts/build puts it, as the guest sees it. */
#define MOCK_MODULE	"/vmmexp/mock/vmmexp_mock.ko"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB	0x0004U
#endif

/* All that an open file of the mock has is undone when it is closed. */
static inline int mock_open(void)
{
	int fd = open(MOCK_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		if (system("insmod " MOCK_MODULE))
			return -ENODEV;
		fd = open(MOCK_DEVICE, O_RDWR | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static inline int mock_device(int mock, struct vmmexp_mock_device *device)
{
	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_DEVICE, device);
}

static inline int mock_pci(int mock, __u32 vendor, __u32 device)
{
	__u32 id = vendor << 16 | device;

	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_PCI, &id);
}

/* The number of the attachment. */
static inline int mock_attach(int mock, int dmabuf, __u32 flags)
{
	struct vmmexp_mock_attach arg = { .fd = dmabuf, .flags = flags };
	int ret = vmm_ioctl(mock, VMMEXP_MOCK_IOC_ATTACH, &arg);

	return ret ? ret : (int)arg.attachment;
}

static inline int mock_detach(int mock, __u32 attachment)
{
	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_DETACH, &attachment);
}

static inline int mock_map_call(int mock, __u32 attachment, __u32 direction,
				struct vmmexp_mock_map *map)
{
	memset(map, 0, sizeof(*map));
	map->attachment = attachment;
	map->direction = direction;
	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_MAP, map);
}

/* The number of the mapping. */
static inline int mock_map(int mock, __u32 attachment, __u32 direction)
{
	struct vmmexp_mock_map map;
	int ret = mock_map_call(mock, attachment, direction, &map);

	return ret ? ret : (int)map.map;
}

static inline int mock_unmap(int mock, __u32 map)
{
	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_UNMAP, &map);
}

/*
 * All entries of a mapping's list, their number as the result; *@segments is
 * to be freed.
 */
static inline int mock_segments(int mock, __u32 map, struct vmmexp_mock_segment **segments)
{
	struct vmmexp_mock_segments arg = { .map = map, .nr_segments = 1024 };
	struct vmmexp_mock_segment *all = NULL;
	int ret;

	*segments = NULL;
	do {
		struct vmmexp_mock_segment *more;

		more = realloc(all, (arg.first + arg.nr_segments) * sizeof(*all));
		if (!more) {
			free(all);
			return -ENOMEM;
		}
		all = more;
		arg.segments = (uintptr_t)(all + arg.first);
		ret = vmm_ioctl(mock, VMMEXP_MOCK_IOC_SEGMENTS, &arg);
		if (ret) {
			free(all);
			return ret;
		}
		arg.first += arg.filled;
	} while (arg.filled == arg.nr_segments);
	*segments = all;
	return arg.first;
}

static inline int mock_io(int mock, unsigned long cmd, __u32 handle, __u64 offset,
			  const void *data, size_t len, __u32 write)
{
	struct vmmexp_mock_io arg = {
		.data = (uintptr_t)data,
		.offset = offset,
		.len = len,
		.handle = handle,
		.write = write,
	};

	return vmm_ioctl(mock, cmd, &arg);
}

static inline int mock_read(int mock, __u32 map, __u64 offset, void *data, size_t len)
{
	return mock_io(mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, offset, data, len, 0);
}

static inline int mock_write(int mock, __u32 map, __u64 offset, const void *data, size_t len)
{
	return mock_io(mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, offset, data, len, 1);
}

static inline int mock_vread(int mock, __u32 vmap, __u64 offset, void *data, size_t len)
{
	return mock_io(mock, VMMEXP_MOCK_IOC_KERNEL_IO, vmap, offset, data, len, 0);
}

static inline int mock_vwrite(int mock, __u32 vmap, __u64 offset, const void *data, size_t len)
{
	return mock_io(mock, VMMEXP_MOCK_IOC_KERNEL_IO, vmap, offset, data, len, 1);
}

/*
 * Index of the first byte of the buffer from @start on that is not the
 * pattern's (its offset being @start too), -1 if there is none, -1000 - errno
 * if it cannot be read.
 */
static inline long long mock_mismatch(int mock, unsigned long cmd, __u32 handle,
				      __u64 start, size_t len, __u32 seed)
{
	char *copy = malloc(len);
	long long ret;

	if (!copy)
		return -1000 - ENOMEM;
	/* What is not overwritten is not the pattern. */
	memset(copy, 0, len);
	ret = mock_io(mock, cmd, handle, start, copy, len, 0);
	ret = ret ? -1000 + ret : vmm_mismatch(copy, len, start, seed);
	free(copy);
	return ret;
}

static inline int mock_fill(int mock, unsigned long cmd, __u32 handle, __u64 start,
			    size_t len, __u32 seed)
{
	char *copy = malloc(len);
	int ret;

	if (!copy)
		return -ENOMEM;
	vmm_fill(copy, len, start, seed);
	ret = mock_io(mock, cmd, handle, start, copy, len, 1);
	free(copy);
	return ret;
}

/* The number of the kernel mapping. */
static inline int mock_vmap(int mock, int dmabuf, __u64 *address)
{
	struct vmmexp_mock_vmap arg = { .fd = dmabuf };
	int ret = vmm_ioctl(mock, VMMEXP_MOCK_IOC_VMAP, &arg);

	if (address)
		*address = arg.address;
	return ret ? ret : (int)arg.vmap;
}

static inline int mock_vunmap(int mock, __u32 vmap)
{
	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_VUNMAP, &vmap);
}

static inline int mock_cpu_access(int mock, int dmabuf, __u32 direction, bool end)
{
	struct vmmexp_mock_cpu_access arg = {
		.fd = dmabuf,
		.direction = direction,
		.end = end,
	};

	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_CPU_ACCESS, &arg);
}

/* What mmap() of @mock maps from now on; -1 nothing. */
static inline int mock_mmap_choose(int mock, int dmabuf)
{
	__s32 fd = dmabuf;

	return vmm_ioctl(mock, VMMEXP_MOCK_IOC_MMAP, &fd);
}

static inline int mock_invalidated(int mock, __u32 attachment)
{
	struct vmmexp_mock_invalidated arg = { .attachment = attachment };
	int ret = vmm_ioctl(mock, VMMEXP_MOCK_IOC_INVALIDATED, &arg);

	return ret ? ret : (int)arg.count;
}

/*
 * What a segment says of its page at physical address @phys: nothing where the
 * kernel hides the pages from importers, who have no business with them.
 */
static inline __u64 mock_page_phys(__u64 phys)
{
	static int hides = -1;

	if (hides < 0)
		hides = vmm_config("CONFIG_DMABUF_DEBUG") > 0;
	return hides ? ~0ull : phys;
}

/* A physically contiguous run. */
struct mock_extent {
	__u64 phys;
	__u64 len;
};

/*
 * The runs behind @len bytes at @addr, both page-aligned, appended to the @nr
 * runs at @extents (room for one a page): neighbours are merged, also with the
 * last run that was there. The new number of runs, or -errno.
 */
static inline int mock_extents(const void *addr, size_t len, struct mock_extent *extents, int nr)
{
	size_t page = vmm_page_size(), done;

	for (done = 0; done < len; done += page) {
		long long pfn = vmm_pfn((const char *)addr + done);
		struct mock_extent *last = nr ? &extents[nr - 1] : NULL;

		if (pfn < 0)
			return -ENODATA;
		if (last && last->phys + last->len == (__u64)pfn * page) {
			last->len += page;
			continue;
		}
		extents[nr++] = (struct mock_extent){ .phys = (__u64)pfn * page, .len = page };
	}
	return nr;
}

/* Split every run at @limit: what a device gets that takes no longer segments. */
static inline int mock_split(const struct mock_extent *extents, int nr, __u64 limit,
			     struct mock_extent *split)
{
	int i, count = 0;

	for (i = 0; i < nr; i++) {
		__u64 done, len;

		for (done = 0; done < extents[i].len; done += len) {
			len = extents[i].len - done < limit ? extents[i].len - done : limit;
			split[count++] = (struct mock_extent){
				.phys = extents[i].phys + done,
				.len = len,
			};
		}
	}
	return count;
}

/*
 * Private memory of small pages, not all of them neighbours: pages are touched
 * in an order that is not theirs. NULL on failure.
 */
static inline void *mock_mem_anon(size_t len)
{
	size_t page = vmm_page_size(), pages = len / page, i;
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	/* EINVAL where the kernel has no huge pages to be kept away. */
	madvise(mem, len, MADV_NOHUGEPAGE);
	for (i = 0; i < pages; i += 2)
		mem[i * page] = 1;
	for (i = 1; i < pages; i += 2)
		mem[i * page] = 1;
	return mem;
}

/* The same in a memfd, mapped shared. */
static inline void *mock_mem_memfd(size_t len)
{
	size_t page = vmm_page_size(), pages = len / page, i;
	int fd = memfd_create("vmmexp-mock", MFD_CLOEXEC);
	char *mem = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, len))
		mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (mem == MAP_FAILED)
		return NULL;
	for (i = 0; i < pages; i += 3)
		mem[i * page] = 1;
	for (i = 0; i < pages; i++)
		mem[i * page] = 1;
	return mem;
}

/* Bytes of the huge page that hugetlb and THP use without being told a size. */
static inline size_t mock_huge_size(void)
{
	long long size = vmm_read_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");

	return size > 0 ? size : 0;
}

/*
 * Aligned memory that the kernel is asked to back with transparent huge pages,
 * @len a multiple of mock_huge_size(). Whether it did is to be seen from
 * mock_extents(). NULL on failure.
 */
static inline void *mock_mem_thp(size_t len)
{
	size_t huge = mock_huge_size();
	char *mem, *start;

	if (!huge)
		return NULL;
	mem = mmap(NULL, len + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;
	start = (char *)(((uintptr_t)mem + huge - 1) / huge * huge);
	if (start > mem)
		munmap(mem, start - mem);
	munmap(start + len, mem + huge - start);
	if (madvise(start, len, MADV_HUGEPAGE) || madvise(start, len, MADV_POPULATE_WRITE)) {
		munmap(start, len);
		return NULL;
	}
	return start;
}

/*
 * Memory of huge pages of the default size, for which so many are reserved
 * first. NULL on failure.
 */
static inline void *mock_mem_hugetlb(size_t len)
{
	char count[32];
	char *mem;

	if (!mock_huge_size())
		return NULL;
	snprintf(count, sizeof(count), "%zu", len / mock_huge_size());
	vmm_write_file("/proc/sys/vm/nr_hugepages", count);
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;
	if (madvise(mem, len, MADV_POPULATE_WRITE)) {
		munmap(mem, len);
		return NULL;
	}
	return mem;
}

#endif /* _VMMEXP_MOCK_UTIL_H */
