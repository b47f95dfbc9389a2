// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cache maintenance, seen as what the kernel is asked to do: an emulated
 * machine has no caches that could be stale, but its trace events tell which
 * bytes were named (tracing/events/dma). The exporter maintains caches through
 * a device of its own, "vmmexp", once for all importers: mapping for it writes
 * back, unmapping what it might have written invalidates.
 *
 * To invalidate a line that is dirty throws away what somebody stored, and lays
 * open what the memory held before it was cleared. Whoever has the dma-buf can
 * ask for it at any time, so the one rule everywhere is: no byte is invalidated
 * that was not written back just before (look(), rule_holds_in_any_order). What
 * is stored between the two is lost all the same, so who may not write
 * invalidates nothing (read_only_buffers_invalidate_nothing).
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
#define MAX_EVENTS	2048

/* The longest piece that is done at once: others want the CPU too. */
#define STEP		(4 << 20)

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
	unsigned char *clean;	/* of each unit of self->align bytes: written back */
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

/* Read what @line of the trace tells; false if it is no event of the DMA API. */
static bool parse(const char *line, struct event *event)
{
	const char *at = strstr(line, ": dma_"), *size;

	if (line[0] == '#' || !at)
		return false;
	memset(event, 0, sizeof(*event));
	if (sscanf(at, ": %31[^:]: %31s dir=%15s", event->what, event->device, event->dir) != 3)
		return false;
	at = strstr(line, " dma_addr=");
	size = strstr(line, " size=");
	if (at && size) {
		event->addr = strtoull(at + 10, NULL, 16);
		event->size = strtoull(size + 6, NULL, 10);
	}
	event->skip_sync = strstr(line, "SKIP_CPU_SYNC");
	return true;
}

static bool is_exporters(const struct event *event)
{
	return !strcmp(event->device, "vmmexp") && !event->skip_sync;
}

static bool writes_back(const struct event *event)
{
	return is_exporters(event) && !strcmp(event->what, "dma_map_phys") &&
	       strcmp(event->dir, "FROM_DEVICE");
}

static bool invalidates(const struct event *event)
{
	return is_exporters(event) && !strcmp(event->what, "dma_unmap_phys") &&
	       strcmp(event->dir, "TO_DEVICE");
}

/*
 * The events of devices whose name begins with @device, of @what, or of any
 * kind that begins so.
 */
static void look(struct __test_metadata *_metadata, struct _test_data_sync *self,
		 const char *device, const char *what)
{
	struct event before = {};
	char line[4096];
	FILE *file;

	self->nr_events = 0;
	ASSERT_EQ(0, vmm_write_file(INSTANCE "/tracing_on", "0"));
	file = fopen(INSTANCE "/trace", "re");
	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		struct event *event = &self->events[self->nr_events];

		/* Lost events would make every count meaningless. */
		ASSERT_EQ(NULL, strstr(line, "LOST"));
		if (!parse(line, event)) {
			ASSERT_TRUE(line[0] == '#' || !strstr(line, ": dma_")) TH_LOG("%s", line);
			continue;
		}
		if (strncmp(event->device, "vmmexp", strlen("vmmexp")))
			continue;
		/* The rule: see the top of this file. */
		if (invalidates(event)) {
			ASSERT_TRUE(writes_back(&before)) TH_LOG("%s", line);
			ASSERT_STREQ(before.device, event->device);
			ASSERT_EQ(before.addr, event->addr);
			ASSERT_EQ(before.size, event->size);
		}
		before = *event;
		if (strncmp(event->device, device, strlen(device)) ||
		    strncmp(event->what, what, strlen(what)))
			continue;
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

/* These bytes of the buffer, rounded outward, run by run and step by step. */
static void expect_range(struct _test_data_sync *self, __u64 offset, __u64 len)
{
	__u64 start = offset & ~(self->align - 1);
	__u64 end = (offset + len + self->align - 1) & ~(self->align - 1), at = 0;
	int i;

	for (i = 0; i < self->nr; at += self->extents[i].len, i++) {
		struct mock_extent run;
		__u64 first = start > at ? start : at;
		__u64 last = at + self->extents[i].len;

		if (last > end)
			last = end;
		if (first >= last)
			continue;
		run.phys = self->extents[i].phys + first - at;
		run.len = last - first;
		self->nr_expected += mock_split(&run, 1, STEP,
						self->expected + self->nr_expected);
	}
}

/* What is done to a piece. */
#define WRITE_BACK	1
#define INVALIDATE	2	/* once written back */

static void expect_event(struct __test_metadata *_metadata, struct _test_data_sync *self,
			 int i, const char *what, const char *dir, int piece)
{
	const struct event *event = &self->events[i];

	ASSERT_LT(i, self->nr_events) TH_LOG("less was done than asked for");
	ASSERT_STREQ("vmmexp", event->device);
	ASSERT_STREQ(what, event->what) TH_LOG("piece %d", piece);
	ASSERT_STREQ(dir, event->dir) TH_LOG("%s, piece %d", what, piece);
	ASSERT_EQ(self->expected[piece].phys, event->addr) TH_LOG("%s, piece %d", what, piece);
	ASSERT_EQ(self->expected[piece].len, event->size) TH_LOG("%s, piece %d", what, piece);
	ASSERT_FALSE(event->skip_sync) TH_LOG("%s, piece %d", what, piece);
}

/*
 * The exporter's device did @todo to exactly the pieces expected, one after the
 * other. It keeps no mapping, and syncs none: of two of the same bytes the
 * debugging code of the DMA API could not tell which one is meant.
 */
static void expect_events(struct __test_metadata *_metadata, struct _test_data_sync *self,
			  int todo)
{
	const char *dir = todo & INVALIDATE ? "BIDIRECTIONAL" : "TO_DEVICE";
	int piece, i = 0;

	look(_metadata, self, "vmmexp", "dma_");
	if (!self->cached || !todo) {
		ASSERT_EQ(0, self->nr_events);
		return;
	}
	for (piece = 0; piece < self->nr_expected; piece++) {
		expect_event(_metadata, self, i++, "dma_map_phys", dir, piece);
		expect_event(_metadata, self, i++, "dma_unmap_phys", dir, piece);
	}
	ASSERT_EQ(i, self->nr_events) TH_LOG("more was done than asked for");
}

/* What each kind of SYNC does. */
static const struct {
	__u32 flags;
	int todo;
} kinds_of_sync[] = {
	{ VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, WRITE_BACK | INVALIDATE },
	{ VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_WRITE, 0 },
	{ VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, WRITE_BACK | INVALIDATE },
	/* Also what was only read: a device may not find other bytes than the reader did. */
	{ VMMEXP_SYNC_END | VMMEXP_SYNC_READ, WRITE_BACK },
	{ VMMEXP_SYNC_END | VMMEXP_SYNC_WRITE, WRITE_BACK },
	{ VMMEXP_SYNC_END | VMMEXP_SYNC_RW, WRITE_BACK },
};

/* Every kind of SYNC, and only the events it makes. */
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

	for (i = 0; i < ARRAY_SIZE(kinds_of_sync); i++) {
		forget(_metadata);
		ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, ranges, nr,
				       kinds_of_sync[i].flags, &sync), &sync);
		expect_events(_metadata, self, kinds_of_sync[i].todo);
	}
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
	look(_metadata, self, "vmmexp", "dma_");
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
		EXPECT_EQ(2, self->nr_events);
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
		if (writes_back(&self->events[j]))
			bytes += self->events[j].size;
	EXPECT_GE(ARRAY_SIZE(ranges) * 2 * self->align, bytes);
	EXPECT_EQ(self->cached, bytes > 0);
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

/*
 * The DMA API may invalidate when it maps for a device that writes, so all is
 * written back before; not where it writes back itself, or the device snoops.
 */
TEST_F(sync, mapping_writes_back_first)
{
	static const struct {
		__u32 coherency;
		__u32 direction;
		const char *dir;
		bool first;
	} maps[] = {
		{ NON_COHERENT, VMMEXP_MOCK_FROM_DEVICE, "FROM_DEVICE", true },
		{ NON_COHERENT, VMMEXP_MOCK_BIDIRECTIONAL, "BIDIRECTIONAL", false },
		{ NON_COHERENT, VMMEXP_MOCK_TO_DEVICE, "TO_DEVICE", false },
		{ VMMEXP_MOCK_COHERENT, VMMEXP_MOCK_FROM_DEVICE, "FROM_DEVICE", false },
		{ VMMEXP_MOCK_COHERENT, VMMEXP_MOCK_BIDIRECTIONAL, "BIDIRECTIONAL", false },
	};
	unsigned int i;
	int j, at, first;

	expect_start(self);
	expect_range(self, 0, self->size);
	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		int attachment, map;

		forget(_metadata);
		attachment = attach(self, maps[i].coherency);
		ASSERT_LE(0, attachment);
		map = mock_map(self->mock, attachment, maps[i].direction);
		ASSERT_LE(0, map);
		look(_metadata, self, "vmmexp", "dma_");
		first = self->cached && maps[i].first ? self->nr_expected : 0;
		for (j = at = 0; j < first; j++) {
			expect_event(_metadata, self, at++, "dma_map_phys", "TO_DEVICE", j);
			expect_event(_metadata, self, at++, "dma_unmap_phys", "TO_DEVICE", j);
		}
		/* And only then the device's own. */
		ASSERT_EQ(at + self->nr, self->nr_events) TH_LOG("mapping %u", i);
		for (j = 0; j < self->nr; j++, at++) {
			ASSERT_EQ(0, strncmp("vmmexp_mock.", self->events[at].device, 12));
			ASSERT_STREQ("dma_map_phys", self->events[at].what);
			ASSERT_STREQ(maps[i].dir, self->events[at].dir);
			ASSERT_EQ(self->extents[j].phys, self->events[at].addr);
			ASSERT_EQ(self->extents[j].len, self->events[at].size);
		}

		/* Taking it away is the DMA API's business alone. */
		forget(_metadata);
		ASSERT_EQ(0, mock_unmap(self->mock, map));
		look(_metadata, self, "vmmexp", "dma_");
		ASSERT_EQ(self->nr, self->nr_events);
		for (j = 0; j < self->nr; j++) {
			ASSERT_EQ(0, strncmp("vmmexp_mock.", self->events[j].device, 12));
			ASSERT_STREQ("dma_unmap_phys", self->events[j].what);
		}
		ASSERT_EQ(0, mock_detach(self->mock, attachment));
	}
}

/* The unit of the buffer at physical address @phys. */
static long unit_at(const struct _test_data_sync *self, __u64 phys)
{
	__u64 at = 0;
	int i;

	for (i = 0; i < self->nr; at += self->extents[i].len, i++)
		if (phys >= self->extents[i].phys &&
		    phys - self->extents[i].phys < self->extents[i].len)
			return (at + phys - self->extents[i].phys) / self->align;
	return -1;
}

/* Note as written back, or find all noted, the bytes of @event. */
static bool units(struct _test_data_sync *self, const struct event *event, bool note)
{
	__u64 done;

	for (done = 0; done < event->size; done += self->align) {
		long unit = unit_at(self, event->addr + done);

		if (unit < 0 || (!note && !self->clean[unit]))
			return false;
		self->clean[unit] = 1;
	}
	return true;
}

/*
 * Whatever holders of the buffer do, in whatever order: within each step every
 * byte is written back before it is invalidated, be it by the exporter or by
 * the DMA API for a device that does not snoop. Only what is taken away from
 * such a device is invalidated without: it was written back when it was given.
 */
TEST_F_TIMEOUT(sync, rule_holds_in_any_order, 120)
{
	static const __u32 directions[] = {
		VMMEXP_MOCK_FROM_DEVICE, VMMEXP_MOCK_BIDIRECTIONAL, VMMEXP_MOCK_TO_DEVICE,
	};
	size_t nr_units = self->size / self->align;
	unsigned int seed = 11, step, invalidated = 0, given = 0, steps = 0;
	int attachments[2], maps[4] = { -1, -1, -1, -1 };
	char names[2][VMMEXP_MOCK_NAME_LEN], line[4096];
	struct vmmexp_sync sync;
	FILE *file;
	int i;

	self->clean = calloc(nr_units, 1);
	ASSERT_NE(NULL, self->clean);
	for (i = 0; i < 2; i++) {
		struct vmmexp_mock_device device = {
			.flags = i ? VMMEXP_MOCK_COHERENT : NON_COHERENT,
			.dma_mask_bits = 64,
		};

		ASSERT_EQ(0, mock_device(self->mock, &device));
		memcpy(names[i], device.name, sizeof(names[i]));
		attachments[i] = mock_attach(self->mock, self->ex.fd, 0);
		ASSERT_LE(0, attachments[i]);
	}

	forget(_metadata);
	for (step = 0; step < 80; step++) {
		struct vmmexp_sync_range range;
		int slot = rand_r(&seed) % 4;

		ASSERT_EQ(0, vmm_write_file(INSTANCE "/trace_marker", "step\n"));
		range.offset = rand_r(&seed) % self->size;
		range.len = 1 + rand_r(&seed) % (self->size - range.offset);
		switch (rand_r(&seed) % 4) {
		case 0:
		case 1:
			ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, &range, 1,
					       kinds_of_sync[rand_r(&seed) %
							     ARRAY_SIZE(kinds_of_sync)].flags,
					       &sync), &sync);
			break;
		case 2:
			ASSERT_EQ(0, mock_cpu_access(self->mock, self->ex.fd,
						     directions[rand_r(&seed) % 3],
						     rand_r(&seed) & 1));
			break;
		default:
			if (maps[slot] >= 0) {
				ASSERT_EQ(0, mock_unmap(self->mock, maps[slot]));
				maps[slot] = -1;
				break;
			}
			/* Mostly the one that does not snoop. */
			maps[slot] = mock_map(self->mock, attachments[!(rand_r(&seed) % 4)],
					      directions[rand_r(&seed) % 3]);
			ASSERT_LE(0, maps[slot]);
		}
	}

	ASSERT_EQ(0, vmm_write_file(INSTANCE "/tracing_on", "0"));
	file = fopen(INSTANCE "/trace", "re");
	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		struct event event;

		ASSERT_EQ(NULL, strstr(line, "LOST"));
		if (strstr(line, "tracing_mark_write: step")) {
			memset(self->clean, 0, nr_units);
			steps++;
			continue;
		}
		if (!parse(line, &event) || event.skip_sync ||
		    (strcmp(event.device, "vmmexp") && strcmp(event.device, names[0])))
			continue;
		if (!self->cached) {
			/* Every device snoops: mappings, and nothing else. */
			ASSERT_STREQ(names[0], event.device);
			given += !strcmp(event.what, "dma_map_phys");
		} else if (writes_back(&event)) {
			ASSERT_TRUE(units(self, &event, true)) TH_LOG("%s", line);
		} else if (!strcmp(event.what, "dma_map_phys")) {
			/* For the importer: that too writes back, if the device may read. */
			ASSERT_STREQ(names[0], event.device);
			ASSERT_TRUE(units(self, &event, strcmp(event.dir, "FROM_DEVICE")))
				TH_LOG("step %u: %s", steps, line);
			given++;
		} else if (invalidates(&event)) {
			ASSERT_TRUE(units(self, &event, false)) TH_LOG("step %u: %s", steps, line);
			invalidated++;
		} else {
			ASSERT_STREQ("dma_unmap_phys", event.what);
		}
	}
	fclose(file);
	/* All of it was seen, and there was something to see. */
	EXPECT_EQ(80, steps);
	EXPECT_LT(0, given);
	EXPECT_EQ(self->cached, invalidated > 0);
	free(self->clean);
}

/* Nothing is left behind by a map that is refused. */
TEST_F(sync, refused_map_maps_nothing)
{
	struct vmmexp_mock_device device = { .dma_mask_bits = 12, .flags = NON_COHERENT };
	int attachment, coherent;

	forget(_metadata);
	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_FROM_DEVICE));
	look(_metadata, self, "vmmexp_mock", "dma_");
	EXPECT_EQ(0, self->nr_events);

	/* Nor does it count as a device that has to be looked after. */
	coherent = attach(self, VMMEXP_MOCK_COHERENT);
	ASSERT_LE(0, coherent);
	ASSERT_LE(0, mock_map(self->mock, coherent, VMMEXP_MOCK_BIDIRECTIONAL));
	sync_and_expect_none(_metadata, self);
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
	/* The flags are those of SYNC, and so is what they mean. */
	static const struct {
		__u32 direction;
		bool end;
		int todo;
	} calls[] = {
		{ VMMEXP_MOCK_FROM_DEVICE, false, WRITE_BACK | INVALIDATE },
		{ VMMEXP_MOCK_TO_DEVICE, false, 0 },
		{ VMMEXP_MOCK_BIDIRECTIONAL, false, WRITE_BACK | INVALIDATE },
		{ VMMEXP_MOCK_FROM_DEVICE, true, WRITE_BACK },
		{ VMMEXP_MOCK_TO_DEVICE, true, WRITE_BACK },
		{ VMMEXP_MOCK_BIDIRECTIONAL, true, WRITE_BACK },
	};
	unsigned int i;

	expect_start(self);
	expect_range(self, 0, self->size);
	for (i = 0; i < ARRAY_SIZE(kinds_of_sync); i++) {
		struct dma_buf_sync arg = { .flags = kinds_of_sync[i].flags };

		forget(_metadata);
		ASSERT_EQ(0, ioctl(self->ex.fd, DMA_BUF_IOCTL_SYNC, &arg));
		expect_events(_metadata, self, kinds_of_sync[i].todo);
	}
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		forget(_metadata);
		ASSERT_EQ(0, mock_cpu_access(self->mock, self->ex.fd, calls[i].direction,
					     calls[i].end));
		expect_events(_metadata, self, calls[i].todo);
	}
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
	look(_metadata, self, "vmmexp", "dma_");
	EXPECT_EQ(0, self->nr_events);
	close(ex.fd);
}

/*
 * A reader must not be able to undo what others store. Nothing writes behind a
 * read-only buffer that a reader would have to be shown.
 */
TEST_F(sync, read_only_buffers_invalidate_nothing)
{
	struct dma_buf_sync arg = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	struct vmmexp_sync sync;
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->size, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	expect_start(self);
	expect_range(self, 0, self->size);
	forget(_metadata);
	ASSERT_VMM_OK(vmm_sync(self->dev, ex.fd, NULL, 0, VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ,
			       &sync), &sync);
	ASSERT_EQ(0, ioctl(ex.fd, DMA_BUF_IOCTL_SYNC, &arg));
	ASSERT_EQ(0, mock_cpu_access(self->mock, ex.fd, VMMEXP_MOCK_FROM_DEVICE, false));
	expect_events(_metadata, self, 0);
	/* What was stored can be seen by devices as ever. */
	ASSERT_VMM_OK(vmm_sync(self->dev, ex.fd, NULL, 0, VMMEXP_SYNC_END | VMMEXP_SYNC_READ,
			       &sync), &sync);
	expect_events(_metadata, self, WRITE_BACK);
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
