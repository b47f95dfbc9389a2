// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's part of large-extent.sh: a buffer of 4 GiB that is one run of
 * physical memory. The length of a scatterlist's entry has 32 bits, so it must
 * be two entries: an exporter that forgets this makes one of length zero.
 */
#define _GNU_SOURCE
#include "vmmexp_mock_util.h"

#define GIB	(1024ull * 1024 * 1024)
#define PAGES	4		/* of 1 GiB */
#define MAX	8

#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB	(30 << 26)
#endif

static unsigned int number;

static void report(bool ok, const char *what)
{
	printf("%s %u %s\n", ok ? "ok" : "not ok", ++number, what);
	fflush(stdout);
}

static int bail(const char *why, int err)
{
	printf("Bail out! %s: %s\n", why, strerror(err));
	return 1;
}

static int by_phys(const void *a, const void *b)
{
	long long x = vmm_pfn(*(char * const *)a), y = vmm_pfn(*(char * const *)b);

	return (x > y) - (x < y);
}

/* Sort them; where the first of so many neighbours is, or -1. */
static int neighbours(char **mem, int count)
{
	int first;

	qsort(mem, count, sizeof(mem[0]), by_phys);
	for (first = 0; first + PAGES <= count; first++) {
		__u64 span = vmm_pfn(mem[first + PAGES - 1]) - vmm_pfn(mem[first]);

		if (span * vmm_page_size() == (PAGES - 1) * GIB)
			return first;
	}
	return -1;
}

/* Write at @offset of the buffer, which is made of @mem, and look as a device does. */
static bool same_bytes(int mock, int map, char **mem, __u64 offset)
{
	char bytes[64], seen[64];

	vmm_fill(bytes, sizeof(bytes), offset, 5);
	/* Two halves: they may be in different pages. */
	memcpy(mem[offset / GIB] + offset % GIB, bytes, 32);
	memcpy(mem[(offset + 32) / GIB] + (offset + 32) % GIB, bytes + 32, 32);
	memset(seen, 0, sizeof(seen));
	return !mock_read(mock, map, offset, seen, sizeof(seen)) &&
	       !memcmp(bytes, seen, sizeof(seen));
}

int main(void)
{
	int dev = vmm_open(), mock = mock_open(), map, nr, i, count, first;
	struct vmmexp_mock_segment *segments;
	struct vmmexp_range ranges[PAGES];
	struct vmmexp_export ex = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = PAGES,
		.range_size = sizeof(ranges[0]),
		.max_segs = 1,
	};
	__u64 page = vmm_page_size(), sum = 0, next;
	bool sane = true, in_order = true;
	char *mem[MAX];
	int ret;

	printf("1..5\n");
	if (dev < 0 || mock < 0)
		return bail("no device", dev < 0 ? -dev : -mock);
	/* One by one: only a page that was touched is somewhere. */
	for (count = 0, first = -1; first < 0 && count < MAX;) {
		mem[count] = mmap(NULL, GIB, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB, -1, 0);
		if (mem[count] == MAP_FAILED)
			break;
		*mem[count] = 1;
		first = neighbours(mem, ++count);
	}
	if (first < 0)
		return bail("no four neighbouring pages of 1 GiB", ENOMEM);

	for (i = 0; i < PAGES; i++)
		ranges[i] = vmm_range(mem[first + i], GIB);
	ret = vmm_export_call(dev, &ex);
	report(!ret && ex.size == PAGES * GIB && ex.nr_segs == 1, "4 GiB are exported as one run");
	if (ret)
		return bail("EXPORT", -ret);

	map = mock_map(mock, mock_attach(mock, ex.fd, 0), VMMEXP_MOCK_BIDIRECTIONAL);
	if (map < 0)
		return bail("map", -map);
	nr = mock_segments(mock, map, &segments);
	if (nr < 0)
		return bail("segments", -nr);
	next = vmm_pfn(mem[first]) * page;
	for (i = 0; i < nr; i++) {
		printf("# entry %d: %#llx, %#llx bytes\n", i,
		       (unsigned long long)segments[i].dma_address,
		       (unsigned long long)segments[i].dma_length);
		sane &= segments[i].dma_length && segments[i].dma_length % page == 0 &&
			segments[i].dma_length == segments[i].length;
		in_order &= segments[i].dma_address == next;
		next += segments[i].dma_length;
		sum += segments[i].dma_length;
	}
	report(sane && nr == 2, "they are two entries of whole pages, none of 4 GiB");
	report(in_order, "one entry begins where the other ends");
	report(sum == PAGES * GIB, "together they are 4 GiB");
	report(same_bytes(mock, map, mem + first, 0) &&
	       same_bytes(mock, map, mem + first, 2 * GIB - 32) &&
	       same_bytes(mock, map, mem + first, segments[0].dma_length - 32) &&
	       same_bytes(mock, map, mem + first, PAGES * GIB - 64),
	       "the device finds the exporter's bytes in them");
	return 0;
}
