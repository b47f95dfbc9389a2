// SPDX-License-Identifier: GPL-2.0-only
/*
 * What exported memory costs: it counts as locked memory of the user who
 * exports, up to RLIMIT_MEMLOCK, from before it is pinned until it is let go,
 * whoever does that.
 *
 * What the module says of it (INFO) is compared with what io_uring may still
 * lock: that counts in the same place and knows nothing of vmmexp.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "kselftest_harness.h"

#include "vmmexp_trust_util.h"

/* Pages that a user may lock in most of the tests, and that are exported. */
#define LIMIT		40
#define NR_PAGES	8

/* The most that is charged in one go. */
#define BATCH		((size_t)16 << 20)

FIXTURE(memlock)
{
	long long pins;
	int dev;
	int mock;
	size_t page;
	size_t huge;
	/* Who exports, and somebody else. */
	uid_t user;
	uid_t other;
	struct locked locked;
	/* Pages that the ring of @locked takes, and that are left besides. */
	size_t ring;
	size_t limit;
	char *mem;
};

/* Let the user lock @pages, not counting the ring. */
static void set_limit(struct __test_metadata *_metadata, struct _test_data_memlock *self,
		      size_t pages)
{
	ASSERT_EQ(0, set_memlock((pages + self->ring) * self->page));
	self->limit = pages;
}

/* Starts as root, goes on as the user. */
static void start(struct __test_metadata *_metadata, struct _test_data_memlock *self)
{
	int left;

	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->page = vmm_page_size();
	self->huge = mock_huge_size();
	self->user = fresh_user(0);
	self->other = fresh_user(1);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->mem = mock_mem_anon((LIMIT + 1) * self->page);
	ASSERT_NE(NULL, self->mem);

	ASSERT_EQ(0, set_memlock(LIMIT * self->page));
	ASSERT_EQ(0, become(self->user));
	ASSERT_EQ(0, locked_open(&self->locked)) TH_LOG("io_uring: %s", strerror(errno));
	left = locked_left(&self->locked);
	ASSERT_LT(0, left);
	ASSERT_GE(LIMIT, left);
	self->ring = LIMIT - left;
	set_limit(_metadata, self, LIMIT);
}

FIXTURE_SETUP(memlock)
{
	start(_metadata, self);
}

/* Is nothing of @user's left locked? A ring is let go of some time after it was closed. */
static void expect_nothing_locked(struct __test_metadata *_metadata, uid_t user, uid_t nobody)
{
	struct vmmexp_info info;
	struct locked locked;
	int dev = vmm_open(), expected, left = -1, tries;

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, become(nobody));
	ASSERT_EQ(0, locked_open(&locked));
	expected = locked_left(&locked);
	locked_close(&locked);
	ASSERT_EQ(0, become(0));
	ASSERT_EQ(0, become(user));
	ASSERT_EQ(0, locked_open(&locked));
	for (tries = 0; tries < 100 && left != expected; tries++) {
		left = locked_left(&locked);
		vmm_msleep(left == expected ? 0 : 50);
	}
	EXPECT_LT(0, expected);
	EXPECT_EQ(expected, left) TH_LOG("pages of user %u stay locked", user);
	EXPECT_VMM_OK(vmm_info(dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	locked_close(&locked);
	ASSERT_EQ(0, become(0));
	close(dev);
}

/* In the parent, which is still root: whatever the test held is gone with its process. */
static void finish(struct __test_metadata *_metadata, struct _test_data_memlock *self)
{
	struct rlimit before;

	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
	ASSERT_EQ(0, getrlimit(RLIMIT_MEMLOCK, &before));
	ASSERT_EQ(0, set_memlock(64 * self->page));
	expect_nothing_locked(_metadata, self->user, self->user + 2);
	expect_nothing_locked(_metadata, self->other, self->user + 3);
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &before));
}

FIXTURE_TEARDOWN_PARENT(memlock)
{
	finish(_metadata, self);
}

/* The user has @pages charged: the module says so, and the kernel sees it. */
static void expect_charge(struct __test_metadata *_metadata, struct _test_data_memlock *self,
			  size_t pages)
{
	size_t left = self->limit - pages;
	struct vmmexp_info info;

	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(pages * self->page, info.charged);
	EXPECT_EQ(left * self->page, info.charge_left);
	if (left) {
		EXPECT_EQ(1, locked_fits(&self->locked, left)) {
			TH_LOG("%d pages are left, not %zu", locked_left(&self->locked), left);
		}
	}
	EXPECT_EQ(0, locked_fits(&self->locked, left + 1)) {
		TH_LOG("%d pages are left, not %zu", locked_left(&self->locked), left);
	}
}

/* The same a moment later: a work item may have to run first. */
static void expect_charge_soon(struct __test_metadata *_metadata, struct _test_data_memlock *self,
			       size_t pages)
{
	struct vmmexp_info info;
	unsigned int tries;

	for (tries = 0; tries < 100; tries++) {
		ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
		if (info.charged == pages * self->page)
			break;
		vmm_msleep(50);
	}
	expect_charge(_metadata, self, pages);
}

/* How many pages are pinned, besides those that were before the test? Only root sees it. */
static void expect_pins(struct __test_metadata *_metadata, struct _test_data_memlock *self,
			long long pages)
{
	ASSERT_EQ(0, become(0));
	EXPECT_TRUE(vmm_pins_settle(self->pins + pages)) {
		TH_LOG("%lld pages are pinned, not %lld", vmm_pins() - self->pins, pages);
	}
	ASSERT_EQ(0, become(self->user));
}

#define EXPECT_MEMLOCK(call, ex, place) \
	EXPECT_VMM_ERROR(call, ex, ENOMEM, VMMEXP_REASON_MEMLOCK, place)

/*
 * How much.
 */
TEST_F(memlock, is_charged_from_export_to_close)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_TRUE(info.features & VMMEXP_FEATURE_MEMLOCK);
	expect_charge(_metadata, self, 0);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	expect_charge(_metadata, self, NR_PAGES);
	close(ex.fd);
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, read_only_costs_the_same)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page,
				 VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	expect_charge(_metadata, self, NR_PAGES);
	close(ex.fd);
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, up_to_the_limit_and_not_a_page_more)
{
	struct vmmexp_export ex, more;

	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex), &ex, 0);
	EXPECT_EQ(-1, ex.fd);
	expect_charge(_metadata, self, 0);
	expect_pins(_metadata, self, 0);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, LIMIT * self->page, 0, &ex), &ex);
	expect_charge(_metadata, self, LIMIT);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, self->page, 0, &more), &more, 0);
	close(ex.fd);
	expect_charge(_metadata, self, 0);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, self->page, 0, &more), &more);
}

TEST_F(memlock, buffers_add_up)
{
	struct vmmexp_export ex[LIMIT], more;
	unsigned int i;

	for (i = 0; i < LIMIT; i++)
		ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->page, 0, &ex[i]), &ex[i]);
	expect_charge(_metadata, self, LIMIT);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, self->page, 0, &more), &more, 0);
	close(ex[7].fd);
	expect_charge(_metadata, self, LIMIT - 1);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, self->page, 0, &ex[7]), &ex[7]);
	for (i = 0; i < LIMIT; i++)
		close(ex[i].fd);
	expect_charge(_metadata, self, 0);
}

/* The other way round: what others lock is not there for the module. */
TEST_F(memlock, what_io_uring_locks_is_not_left)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	ASSERT_EQ(0, locked_take(&self->locked, 10));
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	EXPECT_EQ((LIMIT - 10) * self->page, info.charge_left);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (LIMIT - 9) * self->page, 0, &ex), &ex, 0);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, (LIMIT - 10) * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, locked_give(&self->locked));
	expect_charge(_metadata, self, LIMIT - 10);
}

TEST_F(memlock, no_limit_at_all_is_the_users_too)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex), &ex);
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ((LIMIT + 1) * self->page, info.charged);
	EXPECT_EQ(~0ull, info.charge_left);
	close(ex.fd);
	set_limit(_metadata, self, LIMIT);
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, limit_of_nothing)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	ASSERT_EQ(0, set_memlock(0));
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, self->page, 0, &ex), &ex, 0);
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charge_left);
}

/* A limit that is no multiple of pages is cut. */
TEST_F(memlock, limit_is_whole_pages)
{
	struct vmmexp_export ex;

	ASSERT_EQ(0, set_memlock((NR_PAGES + self->ring + 1) * self->page - 1));
	self->limit = NR_PAGES;
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (NR_PAGES + 1) * self->page, 0, &ex), &ex,
		       0);
	EXPECT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	EXPECT_EQ(0, locked_fits(&self->locked, 1));
}

/* What is lowered below what is in use gives nothing back, and takes nothing away. */
TEST_F(memlock, limit_below_what_is_charged)
{
	struct vmmexp_export ex, more;
	struct vmmexp_info info;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	set_limit(_metadata, self, NR_PAGES / 2);
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(NR_PAGES * self->page, info.charged);
	EXPECT_EQ(0, info.charge_left);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, self->page, 0, &more), &more, 0);
	close(ex.fd);
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, parts_of_pages_are_pages)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem + self->page - 1, 2, VMMEXP_EXPORT_UNALIGNED,
				 &ex), &ex);
	expect_charge(_metadata, self, 2);
}

TEST_F(memlock, every_repeat_counts)
{
	struct vmmexp_range ranges[LIMIT + 1];
	struct vmmexp_export ex;
	unsigned int i;

	for (i = 0; i <= LIMIT; i++)
		ranges[i] = vmm_range(self->mem, self->page);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 5, 0, &ex), &ex);
	expect_charge(_metadata, self, 5);
	close(ex.fd);
	EXPECT_EQ(-ENOMEM, vmm_export_ranges(self->dev, ranges, LIMIT + 1, 0, &ex));
	EXPECT_EQ(VMMEXP_REASON_MEMLOCK, ex.reason);
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, every_buffer_of_the_same_memory_counts)
{
	struct vmmexp_export first, second;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &first), &first);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &second),
		      &second);
	expect_charge(_metadata, self, 2 * NR_PAGES);
	close(first.fd);
	expect_charge(_metadata, self, NR_PAGES);
}

/* Named by its first byte: the batch that was one too many; what was before it is given back. */
TEST_F(memlock, batch_that_does_not_fit_is_named)
{
	size_t len = BATCH + (4 << 20), limit = BATCH + (1 << 20);
	char *mem = mock_mem_anon(len);
	struct vmmexp_export ex;

	ASSERT_NE(NULL, mem);
	set_limit(_metadata, self, limit / self->page);
	EXPECT_EQ(-ENOMEM, vmm_export(self->dev, mem, len, 0, &ex));
	EXPECT_EQ(VMMEXP_REASON_MEMLOCK, ex.reason);
	EXPECT_EQ(0, ex.error_offset % self->page);
	/* It starts below the limit, and ends above it. */
	EXPECT_LT(0, ex.error_offset);
	EXPECT_GE(limit, ex.error_offset);
	EXPECT_LT(limit, ex.error_offset + BATCH);
	set_limit(_metadata, self, LIMIT);
	expect_charge(_metadata, self, 0);
	expect_pins(_metadata, self, 0);
	munmap(mem, len);
}

/* Ranges are not one batch: the one that does not fit is named. */
TEST_F(memlock, range_that_does_not_fit_is_named)
{
	struct vmmexp_range ranges[] = {
		vmm_range(self->mem + 20 * self->page, 20 * self->page),
		vmm_range(self->mem, 15 * self->page),
		vmm_range(self->mem, 10 * self->page),
	};
	struct vmmexp_export ex;

	EXPECT_MEMLOCK(vmm_export_ranges(self->dev, ranges, 3, 0, &ex), &ex, 35 * self->page);
	expect_charge(_metadata, self, 0);
	EXPECT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex);
	expect_charge(_metadata, self, 35);
}

/*
 * Huge pages: who holds a part of one holds all of it.
 */
FIXTURE(folio)
{
	struct _test_data_memlock m;
	const char *lacks;
	/* Pages of a huge page. */
	size_t pages;
	char *mem;
};

FIXTURE_VARIANT(folio)
{
	enum trust_kind kind;
};

FIXTURE_VARIANT_ADD(folio, thp) { .kind = TRUST_THP };
FIXTURE_VARIANT_ADD(folio, hugetlb) { .kind = TRUST_HUGETLB };

FIXTURE_SETUP(folio)
{
	self->lacks = trust_lacks(variant->kind);
	if (!self->lacks) {
		self->mem = trust_memory(variant->kind);
		ASSERT_NE(NULL, self->mem);
	}
	start(_metadata, &self->m);
	self->pages = self->m.huge / self->m.page;
}

FIXTURE_TEARDOWN_PARENT(folio)
{
	finish(_metadata, &self->m);
}

TEST_F(folio, one_page_of_it_costs_all_of_it)
{
	struct vmmexp_export ex;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	set_limit(_metadata, &self->m, self->pages);
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem + 3 * self->m.page, self->m.page, 0, &ex),
		      &ex);
	expect_charge(_metadata, &self->m, self->pages);
	close(ex.fd);
	expect_charge(_metadata, &self->m, 0);
}

TEST_F(folio, all_of_it_costs_no_more)
{
	struct vmmexp_export ex;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	set_limit(_metadata, &self->m, self->pages);
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.huge, 0, &ex), &ex);
	expect_charge(_metadata, &self->m, self->pages);
}

TEST_F(folio, several_parts_of_it_cost_it_once)
{
	struct vmmexp_export ex;
	struct vmmexp_range ranges[3];

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ranges[0] = vmm_range(self->mem + 3 * self->m.page, self->m.page);
	ranges[1] = vmm_range(self->mem + 100 * self->m.page, 2 * self->m.page);
	ranges[2] = vmm_range(self->mem + 50 * self->m.page, self->m.page);
	set_limit(_metadata, &self->m, self->pages);
	ASSERT_VMM_OK(vmm_export_ranges(self->m.dev, ranges, 3, 0, &ex), &ex);
	expect_charge(_metadata, &self->m, self->pages);
	close(ex.fd);
	expect_charge(_metadata, &self->m, 0);
}

TEST_F(folio, two_of_them_cost_both)
{
	struct vmmexp_export ex;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	set_limit(_metadata, &self->m, 2 * self->pages);
	/* The last page of one and the first of the other. */
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem + self->m.huge - self->m.page,
				 2 * self->m.page, 0, &ex), &ex);
	expect_charge(_metadata, &self->m, 2 * self->pages);
	close(ex.fd);
	expect_charge(_metadata, &self->m, 0);
}

/* What is held in part is charged whole before anything is waited for, for who knows how long. */
TEST_F(folio, charged_before_a_wait)
{
	struct vmmexp_export ex;
	struct vmmexp_range ranges[3];
	char *absent;
	int uffd;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, become(0));
	uffd = uffd_new();
	ASSERT_LE(0, uffd);
	ASSERT_EQ(0, become(self->m.user));
	absent = mmap(NULL, self->m.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	ASSERT_NE(MAP_FAILED, absent);
	ASSERT_EQ(0, uffd_watch(uffd, absent, self->m.page));
	ranges[0] = vmm_range(self->mem, self->m.page);
	ranges[1] = vmm_range(self->mem + self->m.huge, self->m.page);
	ranges[2] = vmm_range(absent, self->m.page);
	/* Enough for all of the one, and for what is wanted of the other. */
	set_limit(_metadata, &self->m, self->pages);
	EXPECT_MEMLOCK(vmm_export_ranges(self->m.dev, ranges, 3, 0, &ex), &ex, 0);
	expect_charge(_metadata, &self->m, 0);
	munmap(absent, self->m.page);
	close(uffd);
}

TEST_F(folio, beside_small_pages)
{
	struct vmmexp_export ex;
	struct vmmexp_range ranges[2];

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ranges[0] = vmm_range(self->m.mem, NR_PAGES * self->m.page);
	ranges[1] = vmm_range(self->mem, self->m.page);
	set_limit(_metadata, &self->m, self->pages + NR_PAGES);
	ASSERT_VMM_OK(vmm_export_ranges(self->m.dev, ranges, 2, 0, &ex), &ex);
	expect_charge(_metadata, &self->m, self->pages + NR_PAGES);
	close(ex.fd);
	expect_charge(_metadata, &self->m, 0);
}

TEST_F(folio, buffers_of_the_same_one_each_cost_it)
{
	struct vmmexp_export first, second;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	set_limit(_metadata, &self->m, 2 * self->pages);
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.page, 0, &first), &first);
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.page, 0, &second), &second);
	expect_charge(_metadata, &self->m, 2 * self->pages);
	close(first.fd);
	expect_charge(_metadata, &self->m, self->pages);
}

/* The page fits, and what it is a part of does not: nothing stays charged, nothing pinned. */
TEST_F(folio, rest_of_it_that_does_not_fit)
{
	struct vmmexp_export ex;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	set_limit(_metadata, &self->m, self->pages - 1);
	EXPECT_MEMLOCK(vmm_export(self->m.dev, self->mem + self->m.page, self->m.page, 0, &ex),
		       &ex, 0);
	EXPECT_EQ(-1, ex.fd);
	expect_charge(_metadata, &self->m, 0);
	expect_pins(_metadata, &self->m, 0);
	set_limit(_metadata, &self->m, self->pages);
	EXPECT_VMM_OK(vmm_export(self->m.dev, self->mem + self->m.page, self->m.page, 0, &ex),
		      &ex);
	expect_charge(_metadata, &self->m, self->pages);
}

/*
 * DRY_RUN holds memory while it runs.
 */
struct dry_run {
	int dev;
	char *mem;
	size_t len;
	struct vmmexp_export ex;
	int ret;
};

static void *dry_run_main(void *arg)
{
	struct dry_run *run = arg;

	run->ret = vmm_export(run->dev, run->mem, run->len, VMMEXP_EXPORT_DRY_RUN, &run->ex);
	return NULL;
}

TEST_F(memlock, dry_run_gives_back_what_it_took)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, LIMIT * self->page, VMMEXP_EXPORT_DRY_RUN,
				 &ex), &ex);
	expect_charge(_metadata, self, 0);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page,
				  VMMEXP_EXPORT_DRY_RUN, &ex), &ex, 0);
	expect_charge(_metadata, self, 0);
	expect_pins(_metadata, self, 0);
}

/* Of a range that waits for its last page the others are held, and so charged. */
TEST_F(memlock, dry_run_is_charged_while_it_runs)
{
	struct dry_run run = {
		.dev = self->dev,
		.len = NR_PAGES * self->page,
	};
	struct vmmexp_info info;
	struct vmmexp_export ex;
	pthread_t thread;
	size_t charged;
	int uffd;

	/* A fault of the kernel's is for root to handle. */
	ASSERT_EQ(0, become(0));
	uffd = uffd_new();
	ASSERT_LE(0, uffd);
	ASSERT_EQ(0, become(self->user));
	run.mem = mmap(NULL, run.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, run.mem);
	/* EINVAL where the kernel has no huge pages. */
	madvise(run.mem, run.len, MADV_NOHUGEPAGE);
	vmm_fill(run.mem, run.len - self->page, 0, 1);
	ASSERT_EQ(0, uffd_watch(uffd, run.mem, run.len));
	ASSERT_EQ(0, pthread_create(&thread, NULL, dry_run_main, &run));
	ASSERT_EQ(run.mem + run.len - self->page, uffd_fault(uffd));

	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	charged = info.charged / self->page;
	EXPECT_LE(NR_PAGES - 1, charged);
	EXPECT_GE(NR_PAGES, charged);
	expect_charge(_metadata, self, charged);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (LIMIT - charged + 1) * self->page, 0,
				  &ex), &ex, 0);

	ASSERT_EQ(0, uffd_provide(uffd, run.mem + run.len - self->page));
	pthread_join(thread, NULL);
	EXPECT_VMM_OK(run.ret, &run.ex);
	expect_charge(_metadata, self, 0);
}

/*
 * Who.
 */
TEST_F(memlock, root_is_exempt)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	ASSERT_EQ(0, become(0));
	ASSERT_EQ(0, set_memlock(0));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex), &ex);
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	EXPECT_EQ(~0ull, info.charge_left);
	close(ex.fd);
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
}

TEST_F(memlock, cap_ipc_lock_is_exempt)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	ASSERT_EQ(0, raise_cap(CAP_IPC_LOCK));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex), &ex);
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	EXPECT_EQ(~0ull, info.charge_left);
	/* Without it nothing is charged either, and there is a limit again. */
	ASSERT_EQ(0, become(self->user));
	expect_charge(_metadata, self, 0);
	/* What was never taken is not given back. */
	close(ex.fd);
	expect_charge(_metadata, self, 0);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex), &ex, 0);
}

TEST_F(memlock, cap_that_comes_later_changes_nothing)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, raise_cap(CAP_IPC_LOCK));
	close(ex.fd);
	ASSERT_EQ(0, become(self->user));
	expect_charge(_metadata, self, 0);
}

/* No other capability is one to lock memory. */
TEST_F(memlock, other_capabilities_are_not_exempt)
{
	struct vmmexp_export ex;

	ASSERT_EQ(0, raise_cap(CAP_SYS_ADMIN));
	ASSERT_EQ(0, raise_cap(CAP_SYS_RESOURCE));
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex), &ex, 0);
}

/* As root of its own user namespace, with all capabilities there. */
static int namespace_main(struct _test_data_memlock *self)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	struct vmmexp_export ex;
	struct vmmexp_info info;
	char map[64];

	if (syscall(TRUST_SETRESUID, self->user, self->user, self->user) ||
	    prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER))
		return 10;
	snprintf(map, sizeof(map), "0 %u 1", self->user);
	if (vmm_write_file("/proc/self/uid_map", map) || syscall(TRUST_SETRESUID, 0, 0, 0) ||
	    getuid() || syscall(SYS_capget, &header, data) ||
	    !(data[0].effective & 1u << CAP_IPC_LOCK))
		return 11;
	if (vmm_export(self->dev, self->mem, (LIMIT + 1) * self->page, 0, &ex) != -ENOMEM ||
	    ex.reason != VMMEXP_REASON_MEMLOCK)
		return 12;
	if (vmm_export(self->dev, self->mem, LIMIT * self->page, 0, &ex))
		return 13;
	if (vmm_info(self->dev, &info) || info.charged != LIMIT * self->page || info.charge_left)
		return 14;
	return 0;
}

TEST_F(memlock, root_of_a_user_namespace_is_not_exempt)
{
	int status;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(namespace_main(self));
	ASSERT_EQ(0, vmm_wait(pid, &status, 20));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, users_have_counters_of_their_own)
{
	struct vmmexp_export ex, others, more;
	struct vmmexp_info info;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, LIMIT * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, become(self->other));
	ASSERT_EQ(0, set_memlock(LIMIT * self->page));
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	EXPECT_EQ(LIMIT * self->page, info.charge_left);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, LIMIT * self->page, 0, &others), &others);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, self->page, 0, &more), &more, 0);

	/* What the first gives back, here as the second, is no use to the second. */
	close(ex.fd);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, self->page, 0, &more), &more, 0);
	ASSERT_EQ(0, become(self->user));
	set_limit(_metadata, self, LIMIT);
	expect_charge(_metadata, self, 0);
	close(others.fd);
	expect_charge(_metadata, self, 0);
}

/* It is the real user, as for every other limit of a user's. */
TEST_F(memlock, effective_user_does_not_matter)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	ASSERT_EQ(0, become(0));
	ASSERT_EQ(0, syscall(TRUST_SETRESUID, self->user, self->other, 0));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, become(self->other));
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	ASSERT_EQ(0, become(self->user));
	expect_charge(_metadata, self, NR_PAGES);
}

/* The device file is nobody's: who opened it does not pay for what others export. */
TEST_F(memlock, opener_of_the_device_does_not_pay)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	/* Opened by root, used by the user. */
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, become(0));
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	ASSERT_EQ(0, become(self->user));
	expect_charge(_metadata, self, NR_PAGES);
}

/*
 * When, and to whom, it is given back.
 */

/* A child that holds a buffer it made as @user, and does as it is told. */
struct holder {
	pid_t pid;
	int sock;
};

enum order { CLOSE = 'c', EXIT = 'x', EXEC = 'e', SETUID = 's' };

static void holder_main(struct _test_data_memlock *self, int sock)
{
	struct vmmexp_export ex;
	char order, done = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex))
		_exit(10);
	for (;;) {
		if (send(sock, &done, 1, MSG_NOSIGNAL) != 1 || recv(sock, &order, 1, 0) != 1)
			_exit(11);
		switch (order) {
		case CLOSE:
			close(ex.fd);
			break;
		case EXIT:
			_exit(0);
		case EXEC:
			fcntl(ex.fd, F_SETFD, 0);
			execl("/bin/sleep", "sleep", "60", NULL);
			_exit(12);
		case SETUID:
			/* All three of them: this cannot be taken back. */
			if (become(0) || syscall(TRUST_SETRESUID, self->other, self->other,
						 self->other))
				_exit(13);
			break;
		}
	}
}

static struct holder start_holder(struct __test_metadata *_metadata,
				  struct _test_data_memlock *self)
{
	struct holder holder;
	int socks[2];
	char done;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	holder.pid = fork();
	ASSERT_LE(0, holder.pid);
	if (!holder.pid) {
		close(socks[0]);
		holder_main(self, socks[1]);
	}
	close(socks[1]);
	holder.sock = socks[0];
	ASSERT_EQ(1, recv(holder.sock, &done, 1, 0)) TH_LOG("the child cannot export");
	return holder;
}

static void tell(struct __test_metadata *_metadata, struct holder *holder, char order)
{
	ASSERT_EQ(1, send(holder->sock, &order, 1, MSG_NOSIGNAL));
}

/* Done as told, or the socket was closed by exec. */
static void wait_for(struct holder *holder)
{
	char done;

	if (recv(holder->sock, &done, 1, 0) < 0)
		abort();
}

TEST_F(memlock, processes_of_a_user_share_the_counter)
{
	struct holder holder = start_holder(_metadata, self);
	struct vmmexp_export ex;

	expect_charge(_metadata, self, NR_PAGES);
	EXPECT_MEMLOCK(vmm_export(self->dev, self->mem, (LIMIT - NR_PAGES + 1) * self->page, 0,
				  &ex), &ex, 0);
	tell(_metadata, &holder, CLOSE);
	wait_for(&holder);
	expect_charge(_metadata, self, 0);
	tell(_metadata, &holder, EXIT);
	ASSERT_EQ(0, vmm_wait(holder.pid, NULL, 10));
}

TEST_F(memlock, exit_gives_back)
{
	struct holder holder = start_holder(_metadata, self);
	int status;

	tell(_metadata, &holder, EXIT);
	ASSERT_EQ(0, vmm_wait(holder.pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, sigkill_gives_back)
{
	struct holder holder = start_holder(_metadata, self);

	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(0, become(0));
	ASSERT_EQ(0, kill(holder.pid, SIGKILL));
	ASSERT_EQ(0, become(self->user));
	ASSERT_EQ(0, vmm_wait(holder.pid, NULL, 10));
	expect_charge(_metadata, self, 0);
}

/* After exec the program knows nothing of it, and still holds it. */
TEST_F(memlock, exec_keeps_the_charge)
{
	struct holder holder = start_holder(_metadata, self);

	tell(_metadata, &holder, EXEC);
	wait_for(&holder);
	EXPECT_EQ(-ETIMEDOUT, vmm_wait(holder.pid, NULL, 0));
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(0, become(0));
	ASSERT_EQ(0, kill(holder.pid, SIGKILL));
	ASSERT_EQ(0, become(self->user));
	ASSERT_EQ(0, vmm_wait(holder.pid, NULL, 10));
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, setuid_keeps_the_charge_where_it_was)
{
	struct holder holder = start_holder(_metadata, self);
	struct vmmexp_info info;

	tell(_metadata, &holder, SETUID);
	wait_for(&holder);
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(0, become(self->other));
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(0, info.charged);
	tell(_metadata, &holder, CLOSE);
	wait_for(&holder);
	ASSERT_EQ(0, become(self->user));
	expect_charge(_metadata, self, 0);
	tell(_metadata, &holder, EXIT);
	ASSERT_EQ(0, vmm_wait(holder.pid, NULL, 10));
}

/* Both hold the buffer after fork(): it is charged once, until the last one lets go. */
TEST_F(memlock, fork_charges_nothing_and_the_last_one_gives_back)
{
	struct vmmexp_export ex;
	int socks[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(socks[0]);
		_exit(recv(socks[1], &byte, 1, 0) != 1);
	}
	close(socks[1]);
	expect_charge(_metadata, self, NR_PAGES);
	close(ex.fd);
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(1, send(socks[0], &byte, 1, MSG_NOSIGNAL));
	ASSERT_EQ(0, vmm_wait(pid, NULL, 10));
	expect_charge(_metadata, self, 0);
}

/* Somebody else's process is the last to hold it. */
TEST_F(memlock, last_holder_is_another_user)
{
	struct vmmexp_export ex, others;
	struct vmmexp_info info;
	int socks[2], status;
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *view;
		int fd;

		close(socks[0]);
		if (become(0) || syscall(TRUST_SETRESUID, self->other, self->other, self->other))
			_exit(10);
		fd = vmm_recv_fd(socks[1]);
		view = vmm_map(fd, 0, NR_PAGES * self->page, PROT_READ);
		close(fd);
		/* A buffer of its own, so that there is a counter to go wrong. */
		if (!view || vmm_mismatch(view, NR_PAGES * self->page, 0, 1) != -1 ||
		    vmm_export(self->dev, self->mem, self->page, 0, &others))
			_exit(11);
		if (send(socks[1], &byte, 1, MSG_NOSIGNAL) != 1 ||
		    recv(socks[1], &byte, 1, 0) != 1)
			_exit(12);
		munmap(view, NR_PAGES * self->page);
		if (vmm_info(self->dev, &info) || info.charged != self->page)
			_exit(13);
		_exit(0);
	}
	close(socks[1]);
	vmm_fill(self->mem, NR_PAGES * self->page, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_send_fd(socks[0], ex.fd));
	close(ex.fd);
	ASSERT_EQ(1, recv(socks[0], &byte, 1, 0));
	expect_charge(_metadata, self, NR_PAGES);
	/* The memory is gone from here, and charged here all the same. */
	ASSERT_EQ(0, munmap(self->mem, NR_PAGES * self->page));
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(1, send(socks[0], &byte, 1, MSG_NOSIGNAL));
	ASSERT_EQ(0, vmm_wait(pid, &status, 20));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, mapping_in_a_process_keeps_the_charge)
{
	size_t len = NR_PAGES * self->page;
	struct vmmexp_export ex;
	char *view;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, len, 0, &ex), &ex);
	view = vmm_map(ex.fd, 0, len, PROT_READ);
	ASSERT_NE(NULL, view);
	close(ex.fd);
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(0, munmap(view, len));
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, mapping_of_a_device_keeps_the_charge)
{
	struct vmmexp_export ex;
	int attachment, map;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	attachment = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	close(ex.fd);
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(0, mock_unmap(self->mock, map));
	ASSERT_EQ(0, mock_detach(self->mock, attachment));
	expect_charge_soon(_metadata, self, 0);
}

TEST_F(memlock, closing_the_device_gives_nothing_back)
{
	struct vmmexp_export ex;
	struct vmmexp_info info;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	ASSERT_EQ(0, become(0));
	ASSERT_EQ(0, close(self->dev));
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, become(self->user));
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(NR_PAGES * self->page, info.charged);
	expect_charge(_metadata, self, NR_PAGES);
	close(ex.fd);
	expect_charge(_metadata, self, 0);
}

/* Revoked, it is given back though descriptors are open. */
TEST_F(memlock, revoke_gives_back)
{
	struct vmmexp_export ex;
	struct vmmexp_revoke revoke;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_VMM_OK(vmm_revoke(self->dev, ex.fd, &revoke), &revoke);
	expect_charge_soon(_metadata, self, 0);
	expect_pins(_metadata, self, 0);
	/* And only once. */
	close(ex.fd);
	expect_charge(_metadata, self, 0);
}

TEST_F(memlock, revoke_does_not_give_back_what_a_device_has)
{
	struct vmmexp_export ex;
	struct vmmexp_revoke revoke;
	int attachment, map;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex);
	attachment = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	ASSERT_VMM_OK(vmm_revoke(self->dev, ex.fd, &revoke), &revoke);
	vmm_msleep(200);
	expect_charge(_metadata, self, NR_PAGES);
	ASSERT_EQ(0, mock_unmap(self->mock, map));
	expect_charge_soon(_metadata, self, 0);
	close(ex.fd);
	expect_charge(_metadata, self, 0);
}

/*
 * Failures of every later step give back what was charged before it.
 */
#define EXPECT_GIVEN_BACK() do { \
	expect_charge(_metadata, self, 0); \
	expect_pins(_metadata, self, 0); \
} while (0)

/* A request of @nr ranges. */
static struct vmmexp_export request(const struct vmmexp_range *ranges, unsigned int nr)
{
	return (struct vmmexp_export){
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr,
		.range_size = sizeof(*ranges),
		.fd_flags = O_CLOEXEC,
	};
}

TEST_F(memlock, too_many_runs_give_back)
{
	/* Twice the same pages: that is never one run. */
	const struct vmmexp_range ranges[] = {
		vmm_range(self->mem, NR_PAGES * self->page),
		vmm_range(self->mem, NR_PAGES * self->page),
	};
	struct vmmexp_export ex = request(ranges, ARRAY_SIZE(ranges));

	ex.max_segs = 1;
	EXPECT_EQ(-EMLINK, vmm_export_call(self->dev, &ex));
	EXPECT_EQ(VMMEXP_REASON_MAX_SEGS, ex.reason);
	EXPECT_GIVEN_BACK();
}

TEST_F(memlock, memory_too_high_gives_back)
{
	struct vmmexp_range range = vmm_range(self->mem, NR_PAGES * self->page);
	struct vmmexp_export ex = request(&range, 1);

	ex.phys_bits = 12;
	EXPECT_VMM_ERROR(vmm_export_call(self->dev, &ex), &ex, ERANGE, VMMEXP_REASON_PHYS_BITS, 0);
	EXPECT_GIVEN_BACK();
}

TEST_F(memlock, sealed_memory_gives_back)
{
	size_t len = NR_PAGES * self->page;
	int fd = memfd_create("vmmexp-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct vmmexp_export ex;
	char *mem;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, len));
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, len, 0, &ex), &ex,
			 EPERM, VMMEXP_REASON_SEALED, 0);
	EXPECT_GIVEN_BACK();
}

TEST_F(memlock, no_descriptor_gives_back)
{
	struct rlimit before, none;
	struct vmmexp_export ex;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
	none = before;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex,
			 EMFILE, VMMEXP_REASON_NO_FD, 0);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
	EXPECT_GIVEN_BACK();
}

TEST_F(memlock, bad_eventfd_charges_nothing)
{
	struct vmmexp_range range = vmm_range(self->mem, NR_PAGES * self->page);
	struct vmmexp_export ex;

	EXPECT_VMM_ERROR(export_with_event(self->dev, &range, 1, 0, self->dev, &ex), &ex,
			 EBADF, VMMEXP_REASON_BAD_EVENT_FD, 0);
	EXPECT_GIVEN_BACK();
}

TEST_F(memlock, hole_after_good_ranges_gives_back)
{
	char *hole = self->mem + LIMIT * self->page;
	struct vmmexp_range ranges[] = {
		vmm_range(self->mem, NR_PAGES * self->page),
		vmm_range(hole, self->page),
	};
	struct vmmexp_export ex;

	ASSERT_EQ(0, munmap(hole, self->page));
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_HOLE, NR_PAGES * self->page);
	EXPECT_GIVEN_BACK();
}

/* In the middle of a batch, which was charged as a whole. */
TEST_F(memlock, page_that_cannot_be_brought_in_gives_back)
{
	size_t len = NR_PAGES * self->page;
	int fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
	struct vmmexp_export ex;
	char *mem;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, len / 2));
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, len, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_FAULT, len / 2);
	EXPECT_GIVEN_BACK();
}

TEST_F(memlock, memory_that_may_not_be_written_gives_back)
{
	struct vmmexp_export ex;

	ASSERT_EQ(0, mprotect(self->mem + 4 * self->page, self->page, PROT_READ));
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->mem, NR_PAGES * self->page, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_NOT_WRITABLE, 4 * self->page);
	EXPECT_GIVEN_BACK();
}

/* There is no place for the answer: nobody would know of the buffer. */
TEST_F(memlock, answer_that_cannot_be_given_gives_back)
{
	struct vmmexp_range range = vmm_range(self->mem, NR_PAGES * self->page);
	struct vmmexp_export *ex = mock_mem_anon(self->page);

	ASSERT_NE(NULL, ex);
	*ex = request(&range, 1);
	ASSERT_EQ(0, mprotect(ex, self->page, PROT_READ));
	EXPECT_EQ(-EFAULT, vmm_ioctl(self->dev, VMMEXP_IOC_EXPORT, ex));
	EXPECT_GIVEN_BACK();
}

/* Killed while it waits for a page, with others already held. */
TEST_F(memlock, sigkill_in_the_call_gives_back)
{
	size_t len = NR_PAGES * self->page, charged;
	struct vmmexp_info info;
	int socks[2], uffd, status;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				 -1, 0);
		struct vmmexp_export ex;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* A fault of the kernel's is for root to handle. */
		become(0);
		uffd = uffd_new();
		if (mem == MAP_FAILED || uffd < 0 || become(self->user))
			_exit(10);
		memset(mem, 1, len - self->page);
		if (uffd_watch(uffd, mem, len) || vmm_send_fd(socks[1], uffd))
			_exit(11);
		vmm_export(self->dev, mem, len, 0, &ex);
		_exit(12);
	}
	close(socks[1]);
	uffd = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, uffd);
	ASSERT_NE(NULL, uffd_fault(uffd));
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	charged = info.charged / self->page;
	EXPECT_LE(NR_PAGES - 1, charged);
	expect_charge(_metadata, self, charged);
	ASSERT_EQ(0, become(0));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, become(self->user));
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_GIVEN_BACK();
}

/* At the limit from several sides: never more than there is, and in the end nothing. */
#define CROWD	4

struct crowd {
	int dev;
	char *mem;
	size_t len;
	atomic_bool stop;
	atomic_int held;
	atomic_int most;
	atomic_uint good;
	atomic_uint refused;
	/* What else was answered, the last time. */
	atomic_uint wrong;
};

static void *crowd_main(void *arg)
{
	struct crowd *crowd = arg;
	struct vmmexp_export ex;
	int held, most;

	while (!crowd->stop) {
		if (vmm_export(crowd->dev, crowd->mem, crowd->len, 0, &ex)) {
			if (ex.reason == VMMEXP_REASON_MEMLOCK)
				crowd->refused++;
			else
				crowd->wrong = ex.reason;
			continue;
		}
		held = ++crowd->held;
		for (most = crowd->most; held > most;)
			if (atomic_compare_exchange_weak(&crowd->most, &most, held))
				break;
		crowd->good++;
		sched_yield();
		crowd->held--;
		close(ex.fd);
	}
	return NULL;
}

TEST_F(memlock, crowd_at_the_limit)
{
	struct crowd crowd = {
		.dev = self->dev,
		.mem = self->mem,
		.len = NR_PAGES * self->page,
	};
	pthread_t threads[CROWD];
	unsigned int i;

	/* Room for two of them, and nearly a third. */
	set_limit(_metadata, self, 3 * NR_PAGES - 1);
	for (i = 0; i < CROWD; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, crowd_main, &crowd));
	vmm_msleep(1000);
	crowd.stop = true;
	for (i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ((__u32)VMMEXP_REASON_NONE, crowd.wrong);
	EXPECT_LT(0, crowd.good);
	EXPECT_LT(0, crowd.refused);
	EXPECT_GE(2, crowd.most);
	EXPECT_GIVEN_BACK();
}

TEST_HARNESS_MAIN
