// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the kernel means to move: the movable zone here, CMA areas on
 * boards. What is exported is moved out first, once. While somebody else holds
 * such a page for a moment it cannot be moved: the export waits a little.
 *
 * For a machine with a movable zone: tests/guest/movable.sh.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <time.h>

#include "kselftest_harness.h"
#include "vmmexp_mock_util.h"

#define NR_PAGES	8

/* Page frames of the movable zone: from @start on, below @end. */
struct zone {
	long long start;
	long long end;
};

static struct zone movable_zone(void)
{
	FILE *file = fopen("/proc/zoneinfo", "re");
	struct zone zone = { 0 };
	bool movable = false;
	long long spanned = 0;
	char line[256], name[32];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %*d, zone %31s", name) == 1)
			movable = !strcmp(name, "Movable");
		if (!movable || sscanf(line, " spanned %lld", &spanned) == 1)
			continue;
		if (sscanf(line, " start_pfn: %lld", &zone.start) == 1)
			zone.end = zone.start + spanned;
	}
	if (file)
		fclose(file);
	return zone;
}

/* How many of the pages are in @zone; -1 if one of them is nowhere. */
static int count_in(struct zone zone, const char *mem, int pages)
{
	size_t page = vmm_page_size();
	int i, count = 0;

	for (i = 0; i < pages; i++) {
		long long pfn = vmm_pfn(mem + i * page);

		if (pfn < 0)
			return -1;
		count += pfn >= zone.start && pfn < zone.end;
	}
	return count;
}

/* Hold a page as I/O on its way does: by a reference, until the pipe is read. */
static int hold(int pipefd[2], void *mem)
{
	struct iovec iov = { .iov_base = mem, .iov_len = vmm_page_size() };

	if (pipe(pipefd))
		return -errno;
	return vmsplice(pipefd[1], &iov, 1, 0) == (ssize_t)iov.iov_len ? 0 : -EIO;
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

FIXTURE(movable)
{
	long long pins;
	struct zone zone;
	int dev;
	size_t page;
	size_t len;
	char *mem;
};

FIXTURE_SETUP(movable)
{
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->page = vmm_page_size();
	self->len = NR_PAGES * self->page;
	self->zone = movable_zone();
	ASSERT_LT(self->zone.start, self->zone.end) TH_LOG("no movable zone");
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mem = mock_mem_anon(self->len);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(NR_PAGES, count_in(self->zone, self->mem, NR_PAGES));
}

FIXTURE_TEARDOWN(movable)
{
	munmap(self->mem, self->len);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* What it held goes with it, to where it may be held. */
TEST_F(movable, is_moved_out)
{
	struct vmmexp_export ex;
	char *view;

	vmm_fill(self->mem, self->len, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	EXPECT_EQ(0, count_in(self->zone, self->mem, NR_PAGES));
	view = vmm_map(ex.fd, 0, self->len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, 1));
	vmm_fill(view, self->len, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 2));
	munmap(view, self->len);
	close(ex.fd);
}

/* Read-only: moved as well, as the holder is not asked what it is held for. */
TEST_F(movable, is_moved_out_for_reading)
{
	struct vmmexp_export ex;

	vmm_fill(self->mem, self->len, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	EXPECT_EQ(0, count_in(self->zone, self->mem, NR_PAGES));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 1));
	close(ex.fd);
}

struct reader {
	int fd;
	size_t len;
};

static void *read_later(void *arg)
{
	struct reader *reader = arg;
	char *buf = malloc(reader->len);

	vmm_msleep(20);
	if (!buf || read(reader->fd, buf, reader->len) != (ssize_t)reader->len)
		abort();
	free(buf);
	return NULL;
}

/* Somebody else's I/O on a page of it ends soon: that is waited for. */
TEST_F(movable, held_for_a_moment)
{
	struct reader reader = { .len = self->page };
	struct vmmexp_export ex;
	pthread_t thread;
	int pipefd[2], at;

	for (at = 0; at < NR_PAGES; at += NR_PAGES - 1) {
		char *mem = mock_mem_anon(self->len);

		ASSERT_NE(NULL, mem);
		ASSERT_EQ(NR_PAGES, count_in(self->zone, mem, NR_PAGES));
		vmm_fill(mem, self->len, 0, at);
		ASSERT_EQ(0, hold(pipefd, mem + at * self->page));
		reader.fd = pipefd[0];
		ASSERT_EQ(0, pthread_create(&thread, NULL, read_later, &reader));
		ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
		pthread_join(thread, NULL);
		EXPECT_EQ(0, count_in(self->zone, mem, NR_PAGES));
		EXPECT_EQ(-1, vmm_mismatch(mem, self->len, 0, at));
		close(ex.fd);
		close(pipefd[0]);
		close(pipefd[1]);
		munmap(mem, self->len);
	}
}

/* It does not end: that is told before long, with the page, and nothing is left. */
TEST_F(movable, held_for_good)
{
	size_t at = (NR_PAGES - 3) * self->page;
	unsigned int fds;
	struct vmmexp_export ex;
	int pipefd[2];
	long long start;

	ASSERT_EQ(0, hold(pipefd, self->mem + at));
	fds = vmm_count_fds();
	start = now_ms();
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex, ENOMEM,
			 VMMEXP_REASON_NO_MEMORY, at);
	EXPECT_GT(10000, now_ms() - start);
	EXPECT_EQ(fds, vmm_count_fds());
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	close(pipefd[0]);
	close(pipefd[1]);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	close(ex.fd);
}

#define CROWD	4
#define ROUNDS	30

struct crowd {
	int dev;
	char *mem;
	size_t len;
	pthread_barrier_t barrier;
	atomic_uint reason;
};

static void *crowd_main(void *arg)
{
	struct crowd *crowd = arg;
	struct vmmexp_export ex;

	/* All at the same moment. */
	pthread_barrier_wait(&crowd->barrier);
	if (vmm_export(crowd->dev, crowd->mem, crowd->len, 0, &ex))
		crowd->reason = ex.reason;
	else
		close(ex.fd);
	return NULL;
}

/* Several export the same memory at once, and are in each other's way. */
TEST_F(movable, wanted_by_several)
{
	struct crowd crowd = { .dev = self->dev, .len = self->len };
	pthread_t threads[CROWD];
	int round, i;

	pthread_barrier_init(&crowd.barrier, NULL, CROWD);
	for (round = 0; round < ROUNDS; round++) {
		crowd.mem = mock_mem_anon(self->len);
		ASSERT_NE(NULL, crowd.mem);
		for (i = 0; i < CROWD; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, crowd_main, &crowd));
		for (i = 0; i < CROWD; i++)
			pthread_join(threads[i], NULL);
		ASSERT_EQ(0, crowd.reason) TH_LOG("in round %d", round);
		ASSERT_EQ(0, count_in(self->zone, crowd.mem, NR_PAGES));
		munmap(crowd.mem, self->len);
	}
	pthread_barrier_destroy(&crowd.barrier);
}

TEST_HARNESS_MAIN
