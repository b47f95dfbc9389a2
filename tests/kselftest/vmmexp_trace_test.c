// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the trace tells: every event of the system "vmmexp", its fields, and that
 * no address is among them. Each test has a trace instance of its own, so that
 * nobody else's trace is changed.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/stat.h>

#include "kselftest_harness.h"

#include <linux/dma-buf.h>

#include "vmmexp_mock_util.h"

#define TRACING		"/sys/kernel/tracing"
#define MAX_EVENTS	128

struct events {
	unsigned int nr;
	char *line[MAX_EVENTS];		/* from the name of the event on */
};

FIXTURE(trace)
{
	char dir[64];
	long long pins;
	int dev;
	size_t page;
	size_t len;
	char *mem;
	struct vmmexp_export ex;
	struct events events;
};

static int put(struct _test_data_trace *self, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", self->dir, file);
	return vmm_write_file(path, text);
}

static void forget(struct events *events)
{
	while (events->nr)
		free(events->line[--events->nr]);
}

/* The events there are, oldest first; the trace is empty afterwards. */
static int take(struct _test_data_trace *self)
{
	char path[128], line[1024], *at;
	FILE *file;
	int fd;

	forget(&self->events);
	snprintf(path, sizeof(path), "%s/trace", self->dir);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file) && self->events.nr < MAX_EVENTS) {
		at = strstr(line, ": vmmexp_");
		if (*line == '#' || !at)
			continue;
		self->events.line[self->events.nr++] = strdup(at + 2);
	}
	fclose(file);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return close(fd);
}

/* The only event called @name; NULL if there is none, or another one too. */
static const char *only(const struct events *events, const char *name)
{
	const char *found = NULL;
	unsigned int i;

	for (i = 0; i < events->nr; i++) {
		if (strncmp(events->line[i], name, strlen(name)) ||
		    events->line[i][strlen(name)] != ':')
			continue;
		if (found)
			return NULL;
		found = events->line[i];
	}
	return found;
}

/* The text of field @key. In a static buffer; "?" if there is no such field. */
static const char *text(const char *line, const char *key)
{
	static char value[128];
	char word[32];
	const char *at;

	snprintf(word, sizeof(word), " %s=", key);
	at = line ? strstr(line, word) : NULL;
	if (!at)
		return "?";
	at += strlen(word);
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\n "), at);
	return value;
}

static long long number(const char *line, const char *key)
{
	const char *digits = text(line, key);
	char *end;
	long long value = strtoll(digits, &end, 10);

	return *digits && !*end ? value : -1000000;
}

static long long inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : (long long)st.st_ino;
}

FIXTURE_SETUP(trace)
{
	self->page = vmm_page_size();
	self->len = 16 * self->page;
	self->ex.fd = -1;
	self->pins = vmm_pins();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	memset(self->mem, 1, self->len);

	snprintf(self->dir, sizeof(self->dir), TRACING "/instances/vmmexp-%d", getpid());
	ASSERT_EQ(0, mkdir(self->dir, 0700)) TH_LOG("%s: %s", self->dir, strerror(errno));
	ASSERT_EQ(0, put(self, "events/vmmexp/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	forget(&self->events);
	EXPECT_EQ(0, put(self, "events/vmmexp/enable", "0"));
	EXPECT_EQ(0, rmdir(self->dir));
	munmap(self->mem, self->len);
	if (self->ex.fd >= 0)
		close(self->ex.fd);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(trace, export)
{
	const char *event;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, VMMEXP_EXPORT_READ_ONLY,
				 &self->ex), &self->ex);
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(1, self->events.nr);
	event = only(&self->events, "vmmexp_export");
	ASSERT_NE(NULL, event);
	EXPECT_EQ(inode(self->ex.fd), number(event, "id"));
	EXPECT_EQ((long long)self->len, number(event, "bytes"));
	EXPECT_EQ((long long)self->ex.nr_segs, number(event, "segs"));
	EXPECT_STREQ("ANON", text(event, "kinds"));
	EXPECT_STREQ("READ_ONLY", text(event, "flags"));
	EXPECT_STREQ("NONE", text(event, "reason"));
	EXPECT_EQ(0, number(event, "error"));
	EXPECT_EQ(0, number(event, "offset"));
	EXPECT_LT(0, number(event, "duration"));
}

TEST_F(trace, dry_run)
{
	const char *event;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len,
				 VMMEXP_EXPORT_DRY_RUN | VMMEXP_EXPORT_UNALIGNED, &self->ex),
		      &self->ex);
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(1, self->events.nr);
	event = only(&self->events, "vmmexp_export");
	ASSERT_NE(NULL, event);
	EXPECT_EQ(0, number(event, "id"));
	EXPECT_EQ((long long)self->len, number(event, "bytes"));
	EXPECT_STREQ("UNALIGNED|DRY_RUN", text(event, "flags"));
	EXPECT_STREQ("NONE", text(event, "reason"));
}

/* A failure is told as the caller is told of it. */
static void expect_failure(struct __test_metadata *_metadata, struct _test_data_trace *self,
			   const struct vmmexp_export *ex, int ret, const char *reason)
{
	const char *event;

	ASSERT_GT(0, ret);
	ASSERT_EQ(0, take(self));
	/* Whatever had been made by then is not talked about. */
	EXPECT_EQ(1, self->events.nr);
	event = only(&self->events, "vmmexp_export");
	ASSERT_NE(NULL, event);
	EXPECT_STREQ(reason, text(event, "reason"));
	EXPECT_EQ(ret, number(event, "error"));
	EXPECT_EQ((long long)ex->error_offset, number(event, "offset"));
	EXPECT_EQ(0, number(event, "id"));
	EXPECT_LT(0, number(event, "duration"));
}

TEST_F(trace, failed_export)
{
	struct vmmexp_export ex;
	struct vmmexp_range ranges[2];
	int ret;

	ASSERT_EQ(0, munmap(self->mem + 5 * self->page, self->page));
	ret = vmm_export(self->dev, self->mem, self->len, 0, &ex);
	EXPECT_VMM_ERROR(ret, &ex, EFAULT, VMMEXP_REASON_HOLE, 5 * self->page);
	expect_failure(_metadata, self, &ex, ret, "HOLE");

	/* Twice the same page: that is never one run. */
	ranges[0] = vmm_range(self->mem, self->page);
	ranges[1] = ranges[0];
	ex = (struct vmmexp_export) {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = 2,
		.range_size = sizeof(*ranges),
		.max_segs = 1,
	};
	ret = vmm_export_call(self->dev, &ex);
	EXPECT_VMM_ERROR(ret, &ex, EMLINK, VMMEXP_REASON_MAX_SEGS, self->page);
	expect_failure(_metadata, self, &ex, ret, "MAX_SEGS");

	ret = vmm_export(self->dev, self->mem, self->len, 1u << 31, &ex);
	EXPECT_VMM_ERROR(ret, &ex, EINVAL, VMMEXP_REASON_FLAGS, 0);
	expect_failure(_metadata, self, &ex, ret, "FLAGS");

	ret = vmm_export(self->dev, self->mem + 1, self->page, 0, &ex);
	EXPECT_VMM_ERROR(ret, &ex, EINVAL, VMMEXP_REASON_UNALIGNED, 0);
	expect_failure(_metadata, self, &ex, ret, "UNALIGNED");
}

/* When everything but the descriptor was there. */
TEST_F(trace, export_without_a_descriptor)
{
	struct vmmexp_export ex;
	int last = -1, fd, ret;

	/* Reading the trace takes one, so they are all closed again before. */
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		last = fd;
	ASSERT_EQ(EMFILE, errno);
	ret = vmm_export(self->dev, self->mem, self->len, 0, &ex);
	for (fd = last; fd > self->dev; fd--)
		close(fd);
	EXPECT_VMM_ERROR(ret, &ex, EMFILE, VMMEXP_REASON_NO_FD, 0);
	expect_failure(_metadata, self, &ex, ret, "NO_FD");
}

/* A request from the future: not even looked at, and told all the same. */
TEST_F(trace, export_with_an_unknown_tail)
{
	struct {
		struct vmmexp_export ex;
		__u64 unknown;
	} longer = { .unknown = 1 };
	unsigned long cmd = _IOC(_IOC_READ | _IOC_WRITE, VMMEXP_IOC_MAGIC, 0, sizeof(longer));
	int ret = vmm_ioctl(self->dev, cmd, &longer);

	EXPECT_VMM_ERROR(ret, &longer.ex, EINVAL, VMMEXP_REASON_UNKNOWN_TAIL, 0);
	expect_failure(_metadata, self, &longer.ex, ret, "UNKNOWN_TAIL");
}

TEST_F(trace, map_and_unmap)
{
	static const struct {
		__u32 direction;
		const char *name;
	} directions[] = {
		{ VMMEXP_MOCK_BIDIRECTIONAL, "BIDIRECTIONAL" },
		{ VMMEXP_MOCK_TO_DEVICE, "TO_DEVICE" },
		{ VMMEXP_MOCK_FROM_DEVICE, "FROM_DEVICE" },
	};
	struct vmmexp_mock_device device = { .dma_mask_bits = 64 };
	int mock = mock_open(), attachment, map, nr;
	struct vmmexp_mock_segment *segments;
	const char *event;
	unsigned int i;

	ASSERT_LE(0, mock);
	ASSERT_EQ(0, mock_device(mock, &device));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	attachment = mock_attach(mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	for (i = 0; i < ARRAY_SIZE(directions); i++) {
		ASSERT_EQ(0, take(self));
		map = mock_map(mock, attachment, directions[i].direction);
		ASSERT_LE(0, map);
		nr = mock_segments(mock, map, &segments);
		ASSERT_LT(0, nr);
		free(segments);
		ASSERT_EQ(0, take(self));
		EXPECT_EQ(1, self->events.nr);
		event = only(&self->events, "vmmexp_map");
		ASSERT_NE(NULL, event);
		EXPECT_EQ(inode(self->ex.fd), number(event, "id"));
		EXPECT_STREQ(device.name, text(event, "device"));
		EXPECT_STREQ(directions[i].name, text(event, "direction"));
		EXPECT_EQ((long long)self->len, number(event, "bytes"));
		EXPECT_EQ(nr, number(event, "segs"));
		EXPECT_EQ(0, number(event, "error"));
		EXPECT_LT(0, number(event, "duration"));

		ASSERT_EQ(0, mock_unmap(mock, map));
		ASSERT_EQ(0, take(self));
		EXPECT_EQ(1, self->events.nr);
		event = only(&self->events, "vmmexp_unmap");
		ASSERT_NE(NULL, event);
		EXPECT_EQ(inode(self->ex.fd), number(event, "id"));
		EXPECT_STREQ(device.name, text(event, "device"));
		EXPECT_STREQ(directions[i].name, text(event, "direction"));
		EXPECT_EQ((long long)self->len, number(event, "bytes"));
		EXPECT_EQ(nr, number(event, "segs"));
		EXPECT_EQ(0, number(event, "error"));
		EXPECT_LT(0, number(event, "duration"));
	}
	close(mock);
}

TEST_F(trace, refused_map)
{
	int mock = mock_open(), attachment;
	const char *event;

	ASSERT_LE(0, mock);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, VMMEXP_EXPORT_READ_ONLY,
				 &self->ex), &self->ex);
	attachment = mock_attach(mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	ASSERT_EQ(0, take(self));
	ASSERT_EQ(-EACCES, mock_map(mock, attachment, VMMEXP_MOCK_FROM_DEVICE));
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(1, self->events.nr);
	event = only(&self->events, "vmmexp_map");
	ASSERT_NE(NULL, event);
	EXPECT_EQ(-EACCES, number(event, "error"));
	EXPECT_EQ(0, number(event, "segs"));
	EXPECT_EQ(inode(self->ex.fd), number(event, "id"));
	close(mock);
}

TEST_F(trace, sync)
{
	static const struct {
		__u32 flags;
		const char *phase;
		const char *direction;
	} cases[] = {
		{ VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, "BEGIN", "FROM_DEVICE" },
		{ VMMEXP_SYNC_END | VMMEXP_SYNC_READ, "END", "FROM_DEVICE" },
		{ VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_WRITE, "BEGIN", "TO_DEVICE" },
		{ VMMEXP_SYNC_END | VMMEXP_SYNC_WRITE, "END", "TO_DEVICE" },
		{ VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, "BEGIN", "BIDIRECTIONAL" },
		{ VMMEXP_SYNC_END | VMMEXP_SYNC_RW, "END", "BIDIRECTIONAL" },
	};
	const struct vmmexp_sync_range ranges[] = {
		{ .offset = 0, .len = 100 },
		{ .offset = 3 * self->page, .len = self->page },
	};
	const char *event;
	unsigned int i, way;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		/* Two ranges; all of it; all of it by the ioctl of dma-buf. */
		for (way = 0; way < 3; way++) {
			struct dma_buf_sync whole = { .flags = cases[i].flags };
			struct vmmexp_sync sync;

			ASSERT_EQ(0, take(self));
			if (way < 2)
				ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, way ? NULL : ranges,
						       way ? 0 : 2, cases[i].flags, &sync), &sync);
			else
				ASSERT_EQ(0, vmm_ioctl(self->ex.fd, DMA_BUF_IOCTL_SYNC, &whole));
			ASSERT_EQ(0, take(self));
			EXPECT_EQ(1, self->events.nr);
			event = only(&self->events, "vmmexp_sync");
			ASSERT_NE(NULL, event) TH_LOG("case %u, way %u", i, way);
			EXPECT_EQ(inode(self->ex.fd), number(event, "id"));
			EXPECT_STREQ(cases[i].phase, text(event, "phase"));
			EXPECT_STREQ(cases[i].direction, text(event, "direction"));
			EXPECT_EQ((long long)(way ? self->len : 100 + self->page),
				  number(event, "bytes"));
			EXPECT_EQ(0, number(event, "error"));
			EXPECT_LT(0, number(event, "duration"));
		}
	}
}

TEST_F(trace, release)
{
	const char *event;
	long long id;
	int copy;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	id = inode(self->ex.fd);
	copy = fcntl(self->ex.fd, F_DUPFD_CLOEXEC, 0);
	ASSERT_LE(0, copy);
	ASSERT_EQ(0, take(self));
	close(self->ex.fd);
	self->ex.fd = -1;
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(0, self->events.nr);

	close(copy);
	ASSERT_TRUE(vmm_pins_settle(self->pins));
	ASSERT_EQ(0, take(self));
	event = only(&self->events, "vmmexp_release");
	ASSERT_NE(NULL, event);
	EXPECT_EQ(id, number(event, "id"));
	EXPECT_EQ((long long)self->len, number(event, "bytes"));
	EXPECT_EQ((long long)self->ex.nr_segs, number(event, "segs"));
}

/* Whatever changes the state: the exporting process, QUERY, REVOKE. */
TEST_F(trace, state)
{
	struct vmmexp_query query;
	const char *event;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(NULL, only(&self->events, "vmmexp_state"));

	ASSERT_EQ(0, madvise(self->mem, self->page, MADV_DONTNEED));
	ASSERT_EQ(0, take(self));
	event = only(&self->events, "vmmexp_state");
	ASSERT_NE(NULL, event);
	EXPECT_EQ(inode(self->ex.fd), number(event, "id"));
	EXPECT_STREQ("LIVE", text(event, "old"));
	EXPECT_STREQ("SUSPECT", text(event, "new"));

	/* Another page comes in its place. */
	vmm_poke(self->mem, 1);
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ((__u32)VMMEXP_STATE_STALE, query.state);
	ASSERT_EQ(0, take(self));
	event = only(&self->events, "vmmexp_state");
	ASSERT_NE(NULL, event);
	EXPECT_STREQ("SUSPECT", text(event, "old"));
	EXPECT_STREQ("STALE", text(event, "new"));

	/* What does not change it is not told. */
	ASSERT_EQ(0, munmap(self->mem, self->page));
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(NULL, only(&self->events, "vmmexp_state"));
	EXPECT_EQ(0, self->events.nr);
}

TEST_F(trace, revoke)
{
	struct vmmexp_revoke revoke = {};
	int mock = mock_open(), attachment, map;
	const char *event;

	ASSERT_LE(0, mock);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	attachment = mock_attach(mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	ASSERT_EQ(0, take(self));

	revoke.fd = self->ex.fd;
	ASSERT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_REVOKE, &revoke), &revoke);
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(2, self->events.nr);
	event = only(&self->events, "vmmexp_state");
	ASSERT_NE(NULL, event);
	EXPECT_STREQ("LIVE", text(event, "old"));
	EXPECT_STREQ("REVOKED", text(event, "new"));
	event = only(&self->events, "vmmexp_revoke");
	ASSERT_NE(NULL, event);
	EXPECT_EQ(inode(self->ex.fd), number(event, "id"));
	EXPECT_EQ((long long)self->len, number(event, "bytes"));
	EXPECT_LT(0, number(event, "duration"));

	/* A second one is none. */
	ASSERT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_REVOKE, &revoke), &revoke);
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(0, self->events.nr);

	ASSERT_EQ(0, mock_unmap(mock, map));
	ASSERT_TRUE(vmm_pins_settle(self->pins));
	ASSERT_EQ(0, take(self));
	event = only(&self->events, "vmmexp_state");
	ASSERT_NE(NULL, event);
	EXPECT_STREQ("REVOKED", text(event, "old"));
	EXPECT_STREQ("REVOKED|RELEASED", text(event, "new"));
	close(mock);
}

/* Each event can be had without the others. */
TEST_F(trace, one_event)
{
	struct vmmexp_sync sync;

	ASSERT_EQ(0, put(self, "events/vmmexp/enable", "0"));
	ASSERT_EQ(0, put(self, "events/vmmexp/vmmexp_sync/enable", "1"));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, NULL, 0, VMMEXP_SYNC_READ, &sync), &sync);
	close(self->ex.fd);
	self->ex.fd = -1;
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(1, self->events.nr);
	EXPECT_NE(NULL, only(&self->events, "vmmexp_sync"));
}

/* Does any number in @line name a byte of the @pages page frames in @pfns? */
static bool tells(const char *line, const long long *pfns, size_t pages, size_t page)
{
	const char *at = line;
	char *end;
	size_t i;

	while (*at) {
		bool hex = strspn(at, "0123456789abcdefABCDEFx") >= 8;
		unsigned long long value = strtoull(at, &end, hex ? 16 : 10);

		if (end == at) {
			at++;
			continue;
		}
		at = end;
		for (i = 0; i < pages; i++) {
			unsigned long long frame = pfns[i];

			if (value == frame || value / page == frame)
				return true;
		}
		/* The kernel's half of the address space; errnos are small. */
		if (sizeof(long) == 8 && value >> 63 && value < -4096ull)
			return true;
	}
	return false;
}

TEST_F(trace, no_address)
{
	int mock = mock_open(), attachment, map;
	size_t pages = self->len / self->page, i;
	struct vmmexp_sync sync;
	long long pfns[16];

	ASSERT_LE(0, mock);
	ASSERT_GE(ARRAY_SIZE(pfns), pages);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	for (i = 0; i < pages; i++) {
		pfns[i] = vmm_pfn(self->mem + i * self->page);
		ASSERT_LT(0x1000, pfns[i]);
	}
	attachment = mock_attach(mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	ASSERT_VMM_OK(vmm_sync(self->dev, self->ex.fd, NULL, 0, VMMEXP_SYNC_RW, &sync), &sync);
	ASSERT_EQ(0, mock_unmap(mock, map));
	close(mock);
	close(self->ex.fd);
	self->ex.fd = -1;
	ASSERT_TRUE(vmm_pins_settle(self->pins));
	ASSERT_EQ(0, take(self));
	EXPECT_EQ(5, self->events.nr);
	for (i = 0; i < self->events.nr; i++) {
		/* The durations are whatever they are. */
		char *duration = strstr(self->events.line[i], " duration=");

		if (duration)
			*duration = 0;
		EXPECT_FALSE(tells(self->events.line[i], pfns, pages, self->page)) {
			TH_LOG("%s", self->events.line[i]);
		}
	}
}

TEST_HARNESS_MAIN
