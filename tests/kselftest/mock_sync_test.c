// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cache maintenance, seen as what the kernel is asked to do: an emulated
 * machine has no caches that could be stale, but its trace events tell which
 * bytes were named (tracing/events/dma). The exporter maintains caches through
 * a device of its own, "vmmexp", once for all importers.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "kselftest_harness.h"

#include <linux/dma-buf.h>

#include "vmmexp_mock_util.h"

#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/vmmexp_mock"

/* Where every device snoops, nobody has anything to do in any of these tests. */
#if defined(__x86_64__)
#define NON_COHERENT	0
#else
#define NON_COHERENT	VMMEXP_MOCK_NON_COHERENT
#endif

#define PAGES		48
#define MAX_EVENTS	1024

/* One line of the trace. */
struct event {
	char what[32];		/* dma_sync_single_for_cpu, ... */
	char device[32];
	char dir[16];
	__u64 addr;
	__u64 size;
	bool skip_sync;
};

static const char * const traced[] = {
	"dma_sync_single_for_cpu",
	"dma_sync_single_for_device",
	"dma_sync_sg_for_cpu",
	"dma_sync_sg_for_device",
	"dma_map_phys",
	"dma_unmap_phys",
	"dma_map_sg",
	"dma_unmap_sg",
};

FIXTURE(sync) {
	long long pins;
	int dev;
	int mock;
	size_t page;
	size_t size;
	char *mem;
	struct vmmexp_export ex;
	struct mock_extent extents[PAGES];
	int nr;
	bool cached;		/* this machine needs maintenance */
	__u64 align;
	struct event events[MAX_EVENTS];
	int nr_events;
	struct mock_extent expected[MAX_EVENTS];
	int nr_expected;
};

FIXTURE_SETUP(sync)
{
	struct vmmexp_info info;
	unsigned int i;

	self->pins = vmm_pins();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	ASSERT_EQ(0, vmm_info(self->dev, &info));
	self->cached = info.features & VMMEXP_FEATURE_CACHE_OPS;
	self->align = info.cache_align;
	ASSERT_LT(0, self->align);
	ASSERT_EQ(0, self->align & (self->align - 1));
	self->page = vmm_page_size();
	self->size = PAGES * self->page;
	self->mem = mock_mem_anon(self->size);
	ASSERT_NE(NULL, self->mem);
	vmm_fill(self->mem, self->size, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &self->ex), &self->ex);
	self->nr = mock_extents(self->mem, self->size, self->extents, 0);
	ASSERT_LE(3, self->nr);

	ASSERT_TRUE(!mkdir(INSTANCE, 0700) || errno == EEXIST);
	for (i = 0; i < ARRAY_SIZE(traced); i++) {
		char path[128];

		snprintf(path, sizeof(path), INSTANCE "/events/dma/%s/enable", traced[i]);
		ASSERT_EQ(0, vmm_write_file(path, "1")) TH_LOG("%s", traced[i]);
	}
	ASSERT_EQ(0, vmm_write_file(INSTANCE "/tracing_on", "1"));
}

FIXTURE_TEARDOWN(sync)
{
	EXPECT_EQ(0, rmdir(INSTANCE));
	munmap(self->mem, self->size);
	close(self->mock);
	close(self->ex.fd);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* Forget what was seen. */
static void forget(struct __test_metadata *_metadata)
{
	int fd = open(INSTANCE "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	ASSERT_LE(0, fd);
	close(fd);
}

/*
 * The events of devices whose name begins with @device, of @what, or of any
 * kind that begins so.
 */
static void look(struct __test_metadata *_metadata, struct _test_data_sync *self,
		 const char *device, const char *what)
{
	char line[4096];
	FILE *file;

	self->nr_events = 0;
	ASSERT_EQ(0, vmm_write_file(INSTANCE "/tracing_on", "0"));
	file = fopen(INSTANCE "/trace", "re");
	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		char *at = strstr(line, ": dma_"), *size;
		struct event *event = &self->events[self->nr_events];
		int fields;

		/* Lost events would make every count meaningless. */
		ASSERT_EQ(NULL, strstr(line, "LOST"));
		if (line[0] == '#' || !at)
			continue;
		memset(event, 0, sizeof(*event));
		fields = sscanf(at, ": %31[^:]: %31s dir=%15s", event->what, event->device,
				event->dir);
		ASSERT_EQ(3, fields);
		if (strncmp(event->device, device, strlen(device)) ||
		    strncmp(event->what, what, strlen(what)))
			continue;
		at = strstr(line, " dma_addr=");
		size = strstr(line, " size=");
		if (at && size) {
			event->addr = strtoull(at + 10, NULL, 16);
			event->size = strtoull(size + 6, NULL, 10);
		}
		event->skip_sync = strstr(line, "SKIP_CPU_SYNC");
		ASSERT_GT(MAX_EVENTS, ++self->nr_events);
	}
	fclose(file);
	ASSERT_EQ(0, vmm_write_file(INSTANCE "/tracing_on", "1"));
}

/* Nothing is expected as yet. */
static void expect_start(struct _test_data_sync *self)
{
	self->nr_expected = 0;
}

/* These bytes of the buffer, rounded outward, run by run. */
static void expect_range(struct _test_data_sync *self, __u64 offset, __u64 len)
{
	__u64 start = offset & ~(self->align - 1);
	__u64 end = (offset + len + self->align - 1) & ~(self->align - 1), at = 0;
	int i;

	for (i = 0; i < self->nr; at += self->extents[i].len, i++) {
		__u64 first = start > at ? start : at;
		__u64 last = at + self->extents[i].len;

		if (last > end)
			last = end;
		if (first < last)
			self->expected[self->nr_expected++] = (struct mock_extent){
				.phys = self->extents[i].phys + first - at,
				.len = last - first,
			};
	}
}

/*
 * The exporter's device saw exactly what is expected, as @what and in
 * direction @dir. What is one run may be done in steps, but not in many.
 */
static void expect_events(struct __test_metadata *_metadata, struct _test_data_sync *self,
			  const char *what, const char *dir)
{
	int i, next = 0, steps = 0;
	__u64 done = 0;

	look(_metadata, self, "vmmexp", "dma_sync");
	if (!self->cached) {
		ASSERT_EQ(0, self->nr_events);
		return;
	}
	for (i = 0; i < self->nr_events; i++) {
		const struct event *event = &self->events[i];
		const struct mock_extent *run = &self->expected[next];

		ASSERT_STREQ("vmmexp", event->device);
		ASSERT_STREQ(what, event->what);
		ASSERT_STREQ(dir, event->dir);
		ASSERT_LT(next, self->nr_expected) TH_LOG("more was done than asked for");
		ASSERT_EQ(run->phys + done, event->addr) TH_LOG("piece %d", next);
		done += event->size;
		ASSERT_GE(run->len, done) TH_LOG("piece %d", next);
		steps++;
		if (done == run->len) {
			ASSERT_GE(1 + run->len / (1 << 20), steps);
			next++;
			steps = 0;
			done = 0;
		}
	}
	ASSERT_EQ(self->nr_expected, next) TH_LOG("less was done than asked for");
	ASSERT_EQ(0, done);
}

/* SYNC, and only the events it makes. */
static void sync_and_expect(struct __test_metadata *_metadata, struct _test_data_sync *self,
			    const struct vmmexp_sync_range *ranges, unsigned int nr)
{
	struct vmmexp_sync sync;
	unsigned int i;

	expect_start(self);
	for (i = 0; i < nr; i++)
		expect_range(self, ranges[i].offset, ranges[i].len);
	if (!nr)
		expect_range(self, 0, self->size);

	forget(_metadata);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, ranges, nr,
			       VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, &sync), &sync);
	expect_events(_metadata, self, "dma_sync_single_for_cpu", "FROM_DEVICE");
	forget(_metadata);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, ranges, nr,
			       VMMEXP_SYNC_END | VMMEXP_SYNC_WRITE, &sync), &sync);
	expect_events(_metadata, self, "dma_sync_single_for_device", "TO_DEVICE");
	forget(_metadata);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, ranges, nr,
			       VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, &sync), &sync);
	expect_events(_metadata, self, "dma_sync_single_for_cpu", "BIDIRECTIONAL");
	forget(_metadata);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, ranges, nr,
			       VMMEXP_SYNC_END | VMMEXP_SYNC_RW, &sync), &sync);
	expect_events(_metadata, self, "dma_sync_single_for_device", "BIDIRECTIONAL");
}

/* SYNC that has nothing to do. */
static void sync_and_expect_none(struct __test_metadata *_metadata, struct _test_data_sync *self)
{
	struct vmmexp_sync sync;

	forget(_metadata);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, NULL, 0,
			       VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, &sync), &sync);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, NULL, 0,
			       VMMEXP_SYNC_END | VMMEXP_SYNC_RW, &sync), &sync);
	look(_metadata, self, "vmmexp", "dma_sync");
	ASSERT_EQ(0, self->nr_events);
}

/* Attach a device that does, or does not, snoop; the number of the attachment. */
static int attach(struct _test_data_sync *self, __u32 coherency)
{
	struct vmmexp_mock_device device = {
		.flags = coherency,
		.dma_mask_bits = 64,
	};
	int ret = mock_device(self->mock, &device);

	return ret ? ret : mock_attach(self->mock, self->ex.fd, 0);
}

TEST_F(sync, feature)
{
#if defined(__x86_64__)
	EXPECT_FALSE(self->cached);
#else
	EXPECT_TRUE(self->cached);
#endif
}

/* For a bus master that Linux knows nothing of. */
TEST_F(sync, whole_buffer_without_importers)
{
	sync_and_expect(_metadata, self, NULL, 0);
}

TEST_F(sync, one_byte)
{
	struct vmmexp_sync_range range = { .offset = 5 * self->page + 1234, .len = 1 };

	sync_and_expect(_metadata, self, &range, 1);
	if (self->cached) {
		EXPECT_EQ(1, self->nr_events);
		EXPECT_EQ(self->align, self->events[0].size);
	}
}

TEST_F_TIMEOUT(sync, rounded_outward_and_no_further, 120)
{
	__u64 offsets[] = { 0, 1, self->align - 1, self->align, self->page - 1,
			    self->page, self->size - self->align - 1, self->size - 1 };
	__u64 lens[] = { 1, 2, self->align - 1, self->align, self->align + 1, self->page };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			struct vmmexp_sync_range range = { offsets[i], lens[j] };

			/* An alignment of one byte makes some of them empty. */
			if (!range.len || range.offset + range.len > self->size)
				continue;
			sync_and_expect(_metadata, self, &range, 1);
		}
	}
}

/* Across borders between runs: one, and all of them. */
TEST_F_TIMEOUT(sync, across_runs, 120)
{
	struct vmmexp_sync_range range = { .offset = 0 };
	int i;

	for (i = 0; i < self->nr - 1 && i < 8; i++) {
		range.offset += self->extents[i].len;
		range.len = 2 * self->align;
		range.offset -= self->align;
		sync_and_expect(_metadata, self, &range, 1);
		range.offset += self->align;
	}
	range.offset = self->extents[0].len - 3;
	range.len = self->size - 2 * range.offset;
	sync_and_expect(_metadata, self, &range, 1);
}

/* One after the other, as they stand, overlaps and repeats too. */
TEST_F(sync, several_ranges)
{
	const struct vmmexp_sync_range ranges[] = {
		{ 7 * self->page, 3 * self->page },
		{ 0, 64 },
		{ 8 * self->page + 17, 100 },
		{ self->size - 1, 1 },
		{ 0, 64 },
	};

	sync_and_expect(_metadata, self, ranges, ARRAY_SIZE(ranges));
}

/* The cost follows the bytes named, not the size of the buffer. */
TEST_F(sync, cost)
{
	struct vmmexp_sync_range ranges[40];
	__u64 bytes = 0;
	unsigned int i;
	int j;

	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		ranges[i] = (struct vmmexp_sync_range){ i * self->page + i, 1 + i };
	sync_and_expect(_metadata, self, ranges, ARRAY_SIZE(ranges));
	for (j = 0; j < self->nr_events; j++)
		bytes += self->events[j].size;
	EXPECT_GE(ARRAY_SIZE(ranges) * 2 * self->align, bytes);
}

/* Mapping for a device that does not snoop is maintenance of its own. */
TEST_F(sync, mapping_maintains_caches)
{
	int attachment, map, i;

	forget(_metadata);
	attachment = attach(self, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	look(_metadata, self, "vmmexp_mock", "dma_map");
	ASSERT_EQ(self->nr, self->nr_events);
	for (i = 0; i < self->nr; i++) {
		EXPECT_STREQ("dma_map_phys", self->events[i].what);
		EXPECT_STREQ("BIDIRECTIONAL", self->events[i].dir);
		EXPECT_EQ(self->extents[i].phys, self->events[i].addr);
		EXPECT_EQ(self->extents[i].len, self->events[i].size);
		EXPECT_FALSE(self->events[i].skip_sync);
	}
	forget(_metadata);
	ASSERT_EQ(0, mock_unmap(self->mock, map));
	look(_metadata, self, "vmmexp_mock", "dma_unmap");
	ASSERT_EQ(self->nr, self->nr_events);
	for (i = 0; i < self->nr; i++) {
		EXPECT_STREQ("dma_unmap_phys", self->events[i].what);
		EXPECT_STREQ("BIDIRECTIONAL", self->events[i].dir);
		EXPECT_EQ(self->extents[i].phys, self->events[i].addr);
		EXPECT_EQ(self->extents[i].len, self->events[i].size);
		EXPECT_FALSE(self->events[i].skip_sync);
	}
}

/* Nothing is left behind by a map that is refused. */
TEST_F(sync, refused_map_maps_nothing)
{
	struct vmmexp_mock_device device = { .dma_mask_bits = 12 };
	int attachment;

	forget(_metadata);
	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	look(_metadata, self, "vmmexp_mock", "dma_");
	EXPECT_EQ(0, self->nr_events);
}

/* Once, however many devices have it, and not through theirs. */
TEST_F(sync, once_for_all_importers)
{
	struct vmmexp_sync_range range = { .offset = self->page, .len = 5 * self->page };
	int i;

	for (i = 0; i < 3; i++) {
		int attachment = attach(self, NON_COHERENT);

		ASSERT_LE(0, attachment);
		ASSERT_LE(0, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
		ASSERT_LE(0, mock_map(self->mock, attachment, VMMEXP_MOCK_TO_DEVICE));
	}
	sync_and_expect(_metadata, self, &range, 1);
	sync_and_expect(_metadata, self, NULL, 0);
}

/* All who have it snoop: nothing to do. Attached is not mapped. */
TEST_F(sync, not_for_coherent_importers)
{
	int coherent, other, map, second;

	coherent = attach(self, VMMEXP_MOCK_COHERENT);
	ASSERT_LE(0, coherent);
	sync_and_expect(_metadata, self, NULL, 0);
	map = mock_map(self->mock, coherent, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	sync_and_expect_none(_metadata, self);
	second = mock_map(self->mock, coherent, VMMEXP_MOCK_TO_DEVICE);
	ASSERT_LE(0, second);
	sync_and_expect_none(_metadata, self);

	/* One that does not is enough. */
	other = attach(self, NON_COHERENT);
	ASSERT_LE(0, other);
	sync_and_expect_none(_metadata, self);
	other = mock_map(self->mock, other, VMMEXP_MOCK_FROM_DEVICE);
	ASSERT_LE(0, other);
	sync_and_expect(_metadata, self, NULL, 0);
	EXPECT_EQ(0, mock_unmap(self->mock, other));
	sync_and_expect_none(_metadata, self);

	/* And none at all counts as someone unknown. */
	EXPECT_EQ(0, mock_unmap(self->mock, map));
	sync_and_expect_none(_metadata, self);
	EXPECT_EQ(0, mock_unmap(self->mock, second));
	sync_and_expect(_metadata, self, NULL, 0);
}

/* DMA_BUF_IOCTL_SYNC, and what drivers of the kernel call: the whole buffer. */
TEST_F(sync, by_other_ways)
{
	struct dma_buf_sync arg;

	expect_start(self);
	expect_range(self, 0, self->size);
	forget(_metadata);
	arg.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ;
	ASSERT_EQ(0, ioctl(self->ex.fd, DMA_BUF_IOCTL_SYNC, &arg));
	expect_events(_metadata, self, "dma_sync_single_for_cpu", "FROM_DEVICE");
	forget(_metadata);
	arg.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE;
	ASSERT_EQ(0, ioctl(self->ex.fd, DMA_BUF_IOCTL_SYNC, &arg));
	expect_events(_metadata, self, "dma_sync_single_for_device", "TO_DEVICE");
	forget(_metadata);
	ASSERT_EQ(0, mock_cpu_access(self->mock, self->ex.fd, VMMEXP_MOCK_FROM_DEVICE, false));
	expect_events(_metadata, self, "dma_sync_single_for_cpu", "FROM_DEVICE");
	forget(_metadata);
	ASSERT_EQ(0, mock_cpu_access(self->mock, self->ex.fd, VMMEXP_MOCK_BIDIRECTIONAL, true));
	expect_events(_metadata, self, "dma_sync_single_for_device", "BIDIRECTIONAL");
}

/* What is refused does nothing, also where only a later range is wrong. */
TEST_F(sync, refused_requests_do_nothing)
{
	const struct vmmexp_sync_range ranges[] = {
		{ 0, self->page },
		{ self->size - 1, 2 },
	};
	struct vmmexp_export ex;
	struct vmmexp_sync sync;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	forget(_metadata);
	EXPECT_VMM_ERROR(vmm_sync(self->dev, self->ex.fd, ranges, 2,
				  VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, &sync), &sync,
			 EINVAL, VMMEXP_REASON_SYNC_RANGE, 1);
	EXPECT_VMM_ERROR(vmm_sync(self->dev, ex.fd, NULL, 0,
				  VMMEXP_SYNC_END | VMMEXP_SYNC_WRITE, &sync), &sync,
			 EACCES, VMMEXP_REASON_READ_ONLY, 0);
	EXPECT_EQ(-EACCES, mock_cpu_access(self->mock, ex.fd, VMMEXP_MOCK_TO_DEVICE, true));
	look(_metadata, self, "vmmexp", "dma_sync");
	EXPECT_EQ(0, self->nr_events);

	/* Reading is allowed, and done. */
	expect_start(self);
	expect_range(self, 0, self->size);
	EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, NULL, 0,
			       VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, &sync), &sync);
	expect_events(_metadata, self, "dma_sync_single_for_cpu", "FROM_DEVICE");
	close(ex.fd);
}

/* Long runs are done in steps that leave nothing out. */
TEST_F(sync, huge_pages)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");

	if (lacks)
		SKIP(return, "%s", lacks);
	/* This test's buffer is another one. */
	munmap(self->mem, self->size);
	close(self->ex.fd);
	self->size = 4 * mock_huge_size();
	self->mem = mock_mem_thp(self->size);
	ASSERT_NE(NULL, self->mem);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, 0, &self->ex), &self->ex);
	ASSERT_GE(4, self->ex.nr_segs) TH_LOG("these are not huge pages");
	self->nr = mock_extents(self->mem, self->size, self->extents, 0);
	ASSERT_EQ(self->nr, self->ex.nr_segs);
	sync_and_expect(_metadata, self, NULL, 0);
}

TEST_HARNESS_MAIN
