// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the exporting process still have the pages of a buffer at its addresses?
 * What makes a buffer suspect, what makes it stale, what settles it, what does
 * not matter, and that the eventfd is signalled once for each change.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "kselftest_harness.h"

#include "vmmexp_trust_util.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define LIVE	VMMEXP_STATE_LIVE
#define SUSPECT	VMMEXP_STATE_SUSPECT
#define STALE	VMMEXP_STATE_STALE

/*
 * A buffer of all of @mem, and what was signalled of it.
 */
struct watched {
	long long pins;
	struct asker asker;
	int dev;
	int event;
	size_t page;
	size_t len;
	char *mem;
	struct vmmexp_export ex;
};

static void watched_open(struct __test_metadata *_metadata, struct watched *w)
{
	w->pins = vmm_pins();
	ASSERT_LE(0, w->pins);
	w->page = vmm_page_size();
	ASSERT_EQ(0, asker_start(&w->asker));
	w->dev = vmm_open();
	ASSERT_LE(0, w->dev);
	w->event = event_new();
	ASSERT_LE(0, w->event);
}

static void watched_export(struct __test_metadata *_metadata, struct watched *w, char *mem,
			   size_t len)
{
	struct vmmexp_range range = vmm_range(mem, len);

	ASSERT_NE(NULL, mem);
	w->mem = mem;
	w->len = len;
	vmm_fill(mem, len, 0, 1);
	ASSERT_VMM_OK(export_with_event(w->dev, &range, 1, 0, w->event, &w->ex), &w->ex);
}

static void watched_done(struct __test_metadata *_metadata, struct watched *w)
{
	EXPECT_TRUE(vmm_pins_settle(w->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - w->pins);
	}
}

/* It is @state now, and that took @events signals since the last time. */
#define EXPECT_STATE(w, state, events) do { \
	struct watched *__state = (w); \
	EXPECT_EQ((int)(state), vmm_state(__state->dev, __state->ex.fd)); \
	EXPECT_EQ((events), event_count(__state->event)); \
} while (0)

/*
 * What is signalled before anybody asks, then what QUERY makes of it; then the
 * same again: asking changes nothing twice.
 */
#define EXPECT_CHANGE(w, signalled, state, settled) do { \
	struct watched *__change = (w); \
	__u32 __settled = (state); \
	EXPECT_EQ((signalled), event_count(__change->event)); \
	EXPECT_STATE(__change, __settled, settled); \
	EXPECT_STATE(__change, __settled, 0); \
} while (0)

FIXTURE(state)
{
	struct watched w;
	const char *lacks;
	/* The least that can be lost by itself. */
	size_t unit;
};

FIXTURE_VARIANT(state)
{
	enum trust_kind kind;
};

FIXTURE_VARIANT_ADD(state, anonymous) { .kind = TRUST_ANON };
FIXTURE_VARIANT_ADD(state, thp) { .kind = TRUST_THP };
FIXTURE_VARIANT_ADD(state, memfd) { .kind = TRUST_MEMFD };
FIXTURE_VARIANT_ADD(state, hugetlb) { .kind = TRUST_HUGETLB };

FIXTURE_SETUP(state)
{
	self->lacks = trust_lacks(variant->kind);
	watched_open(_metadata, &self->w);
	if (self->lacks)
		return;
	self->unit = trust_unit(variant->kind);
	watched_export(_metadata, &self->w, trust_memory(variant->kind),
		       trust_size(variant->kind));
}

/* In the parent: whatever the test held is gone with its process. */
FIXTURE_TEARDOWN_PARENT(state)
{
	watched_done(_metadata, &self->w);
}

/* Memory that others may map too keeps its pages when one mapping loses them. */
static bool shared(enum trust_kind kind)
{
	return kind == TRUST_MEMFD;
}

TEST_F(state, live_from_the_start)
{
	struct vmmexp_info info;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_VMM_OK(vmm_info(self->w.dev, &info), &info);
	EXPECT_TRUE(info.features & VMMEXP_FEATURE_STALE);
	EXPECT_TRUE(info.features & VMMEXP_FEATURE_EVENTFD);
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
	EXPECT_EQ(LIVE, asker_state(&self->w.asker, self->w.ex.fd));
}

TEST_F(state, live_through_use)
{
	int mock = mock_open(), attachment, map;
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_LE(0, mock);
	view = vmm_map(self->w.ex.fd, 0, self->w.len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	attachment = mock_attach(mock, self->w.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	vmm_fill(view, self->w.len, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->w.mem, self->w.len, 0, 2));
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
	ASSERT_EQ(0, mock_unmap(mock, map));
	ASSERT_EQ(0, mock_detach(mock, attachment));
	ASSERT_EQ(0, munmap(view, self->w.len));
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
}

/* Unmapping. */
TEST_F(state, munmap_makes_it_stale)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(self->w.mem, self->w.len));
	EXPECT_CHANGE(&self->w, 1, STALE, 0);
	EXPECT_EQ(STALE, asker_state(&self->w.asker, self->w.ex.fd));
}

TEST_F(state, munmap_of_a_part_makes_it_stale)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(self->w.mem + self->unit, self->unit));
	EXPECT_CHANGE(&self->w, 1, STALE, 0);
}

TEST_F(state, stale_is_final)
{
	char *again;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(self->w.mem, self->w.len));
	EXPECT_CHANGE(&self->w, 1, STALE, 0);
	/* Memory at these addresses is other memory now, whatever comes. */
	again = mmap(self->w.mem, self->w.len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(self->w.mem, again);
	memset(again, 1, self->w.len);
	EXPECT_CHANGE(&self->w, 0, STALE, 0);
	ASSERT_EQ(0, madvise(again, self->w.len, MADV_DONTNEED));
	ASSERT_EQ(0, munmap(again, self->w.len));
	EXPECT_CHANGE(&self->w, 0, STALE, 0);
}

TEST_F(state, mapping_over_it_makes_it_stale)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(self->w.mem,
		  mmap(self->w.mem, self->unit, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_CHANGE(&self->w, 1, STALE, 0);
}

TEST_F(state, mremap_makes_it_stale)
{
	char *room, *moved;
	long long events;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	/* Somewhere else, as aligned as it was. */
	room = mmap(NULL, 2 * self->w.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	room = (char *)(((uintptr_t)room + self->unit - 1) / self->unit * self->unit);
	moved = mremap(self->w.mem, self->w.len, self->w.len, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	ASSERT_EQ(room, moved);
	/* The pages are the same ones; they are not where they were. */
	EXPECT_EQ(-1, vmm_mismatch(moved, self->w.len, 0, 1));
	/* Of hugetlb the pages are taken first, and then the addresses. */
	events = event_count(self->w.event);
	EXPECT_LE(1, events);
	EXPECT_GE(variant->kind == TRUST_HUGETLB ? 2 : 1, events);
	EXPECT_STATE(&self->w, STALE, 0);
}

TEST_F(state, mremap_that_shrinks_makes_it_stale)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(self->w.mem, mremap(self->w.mem, self->w.len, self->w.len - self->unit, 0));
	EXPECT_CHANGE(&self->w, 1, STALE, 0);
}

/* Left alone, as are the addresses beside it. */
TEST_F(state, neighbours_do_not_matter)
{
	size_t unit, len;
	char *mem;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	/* All but the first and the last piece, by a buffer of its own. */
	close(self->w.ex.fd);
	unit = self->unit;
	len = self->w.len;
	mem = self->w.mem;
	if (len < 3 * unit) {
		/* Of huge pages there are two: the second one. */
		watched_export(_metadata, &self->w, mem + unit, unit);
		ASSERT_EQ(0, madvise(mem, unit, MADV_DONTNEED));
		ASSERT_EQ(0, munmap(mem, unit));
	} else {
		watched_export(_metadata, &self->w, mem + unit, len - 2 * unit);
		ASSERT_EQ(0, munmap(mem, unit));
		ASSERT_EQ(0, munmap(mem + len - unit, unit));
	}
	touch(self->w.mem, self->w.len);
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
}

/* Pages that are taken away and come back, or do not. */
TEST_F(state, dontneed_makes_it_suspect)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	/* Nothing is there that could be compared: nobody knows, not even by asking. */
	EXPECT_CHANGE(&self->w, 1, SUSPECT, 0);
	EXPECT_EQ(SUSPECT, asker_state(&self->w.asker, self->w.ex.fd));
	/* Already suspect: no change. */
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	EXPECT_CHANGE(&self->w, 0, SUSPECT, 0);
}

TEST_F(state, dontneed_and_touch_settles_it)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	EXPECT_EQ(1, event_count(self->w.event));
	touch(self->w.mem, self->w.len);
	/* Touching alone tells nobody. */
	EXPECT_EQ(0, event_count(self->w.event));
	/* A file's pages are the same as before, private ones are new. */
	EXPECT_EQ(shared(variant->kind) ? -1 : 0, vmm_mismatch(self->w.mem, self->w.len, 0, 1));
	EXPECT_STATE(&self->w, shared(variant->kind) ? LIVE : STALE, 1);
	EXPECT_STATE(&self->w, shared(variant->kind) ? LIVE : STALE, 0);
}

TEST_F(state, written_pages_settle_it_too)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	vmm_fill(self->w.mem, self->w.len, 0, 3);
	EXPECT_CHANGE(&self->w, 1, shared(variant->kind) ? LIVE : STALE, 1);
}

TEST_F(state, one_lost_page_makes_it_suspect)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->w.mem + self->unit, self->unit, MADV_DONTNEED));
	EXPECT_EQ(1, event_count(self->w.event));
	/* All but that one are there, and the same. */
	touch(self->w.mem, self->unit);
	touch(self->w.mem + 2 * self->unit, self->w.len - 2 * self->unit);
	EXPECT_STATE(&self->w, SUSPECT, 0);
	touch(self->w.mem + self->unit, self->unit);
	EXPECT_STATE(&self->w, shared(variant->kind) ? LIVE : STALE, 1);
}

/* It can become suspect any number of times. */
TEST_F(state, suspect_again_after_it_was_settled)
{
	int i;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	if (!shared(variant->kind)) {
		/* Once settled, private memory is stale: no more changes. */
		ASSERT_EQ(0, madvise(self->w.mem, self->unit, MADV_DONTNEED));
		touch(self->w.mem, self->w.len);
		EXPECT_CHANGE(&self->w, 1, STALE, 1);
		ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
		EXPECT_CHANGE(&self->w, 0, STALE, 0);
		return;
	}
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
		EXPECT_CHANGE(&self->w, 1, SUSPECT, 0);
		touch(self->w.mem, self->w.len);
		EXPECT_CHANGE(&self->w, 0, LIVE, 1);
	}
}

TEST_F(state, unmapped_while_suspect_is_stale)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	EXPECT_CHANGE(&self->w, 1, SUSPECT, 0);
	ASSERT_EQ(0, munmap(self->w.mem, self->unit));
	EXPECT_CHANGE(&self->w, 1, STALE, 0);
}

/* Only the process whose addresses they are can tell; others read what is known. */
TEST_F(state, others_do_not_settle_it)
{
	int dev = vmm_open();

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	EXPECT_EQ(1, event_count(self->w.event));
	touch(self->w.mem, self->w.len);
	EXPECT_EQ(SUSPECT, asker_state(&self->w.asker, self->w.ex.fd));
	/* Not even a child, which has the same addresses. */
	EXPECT_EQ(SUSPECT, state_in_child(self->w.ex.fd));
	EXPECT_EQ(0, event_count(self->w.event));
	/* By another open file, this process can. */
	EXPECT_EQ(shared(variant->kind) ? LIVE : STALE, vmm_state(dev, self->w.ex.fd));
	EXPECT_EQ(1, event_count(self->w.event));
	EXPECT_EQ(shared(variant->kind) ? LIVE : STALE, asker_state(&self->w.asker, self->w.ex.fd));
}

static void *ask(void *arg)
{
	struct watched *w = arg;

	return (void *)(intptr_t)vmm_state(w->dev, w->ex.fd);
}

TEST_F(state, other_threads_settle_it)
{
	pthread_t thread;
	void *state;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	touch(self->w.mem, self->w.len);
	EXPECT_EQ(1, event_count(self->w.event));
	ASSERT_EQ(0, pthread_create(&thread, NULL, ask, &self->w));
	ASSERT_EQ(0, pthread_join(thread, &state));
	EXPECT_EQ(shared(variant->kind) ? LIVE : STALE, (int)(intptr_t)state);
	EXPECT_EQ(1, event_count(self->w.event));
}

/* What is no event. */
TEST_F(state, fork_is_no_event)
{
	int status;
	pid_t pid;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* What the child does with its copy is its own affair. */
		memset(self->w.mem, 9, self->unit);
		if (madvise(self->w.mem, self->w.len, MADV_DONTNEED) ||
		    munmap(self->w.mem, self->w.len))
			_exit(1);
		_exit(0);
	}
	/* Private pages are not to be copied away from here. */
	if (!shared(variant->kind))
		vmm_fill(self->w.mem, self->w.len, 0, 2);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	if (variant->kind == TRUST_THP || variant->kind == TRUST_HUGETLB) {
		/*
		 * fork() splits huge pages that are pinned, and of private
		 * hugetlb it says that it takes the pages: events, of which
		 * nothing remains.
		 */
		touch(self->w.mem, self->w.len);
		EXPECT_EQ(LIVE, vmm_state(self->w.dev, self->w.ex.fd));
		EXPECT_EQ(0, event_count(self->w.event) % 2);
	}
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
}

TEST_F(state, mprotect_is_no_event)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, mprotect(self->w.mem, self->w.len, PROT_READ));
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
	ASSERT_EQ(0, mprotect(self->w.mem, self->w.len, PROT_NONE));
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
	ASSERT_EQ(0, mprotect(self->w.mem, self->w.len, PROT_READ | PROT_WRITE));
	vmm_fill(self->w.mem, self->w.len, 0, 2);
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
}

/* Harmless advice, and what other tools do to a process. */
TEST_F(state, advice_is_no_event)
{
	bool private = variant->kind == TRUST_ANON || variant->kind == TRUST_THP;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTFORK));
	/* Which cannot be taken back for hugetlb. */
	if (variant->kind != TRUST_HUGETLB)
		ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DOFORK));
	/* For private memory this is about swap, and without swap a mistake. */
	ASSERT_EQ(private && vmm_not_in_kernel("CONFIG_SWAP") ? -1 : 0,
		  madvise(self->w.mem, self->w.len, MADV_WILLNEED));
	ASSERT_EQ(0, mlock(self->w.mem, self->w.len));
	ASSERT_EQ(0, munlock(self->w.mem, self->w.len));
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
}

/* What came before the export is none of its business. */
TEST_F(state, events_before_the_export_do_not_count)
{
	struct vmmexp_range range;
	struct vmmexp_export ex;
	int event = event_new(), status;
	pid_t pid;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_LE(0, event);
	/* Pages that are gone, and pages that are shared with a child: EXPORT replaces both. */
	close(self->w.ex.fd);
	ASSERT_EQ(0, madvise(self->w.mem, self->unit, MADV_DONTNEED));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		pause();
		_exit(0);
	}
	range = vmm_range(self->w.mem, self->w.len);
	ASSERT_VMM_OK(export_with_event(self->w.dev, &range, 1, 0, event, &ex), &ex);
	EXPECT_EQ(LIVE, vmm_state(self->w.dev, ex.fd));
	EXPECT_EQ(0, event_count(event));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_EQ(LIVE, vmm_state(self->w.dev, ex.fd));
	EXPECT_EQ(0, event_count(event));
	/* And the other way: this one is not finished, but closed. */
	EXPECT_EQ(0, event_count(self->w.event));
}

/* Buffers of the same memory each have a state. */
TEST_F(state, every_buffer_has_its_own)
{
	struct vmmexp_range range;
	struct watched second;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	second = self->w;
	second.event = event_new();
	ASSERT_LE(0, second.event);
	range = vmm_range(self->w.mem, self->unit);
	ASSERT_VMM_OK(export_with_event(self->w.dev, &range, 1, 0, second.event, &second.ex),
		      &second.ex);
	ASSERT_EQ(0, munmap(self->w.mem + self->unit, self->unit));
	EXPECT_CHANGE(&self->w, 1, STALE, 0);
	EXPECT_CHANGE(&second, 0, LIVE, 0);
	ASSERT_EQ(0, munmap(self->w.mem, self->unit));
	EXPECT_CHANGE(&self->w, 0, STALE, 0);
	EXPECT_CHANGE(&second, 1, STALE, 0);
}

/* READ_ONLY is watched as well. */
TEST_F(state, read_only_is_watched)
{
	struct vmmexp_range range;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	close(self->w.ex.fd);
	range = vmm_range(self->w.mem, self->w.len);
	ASSERT_VMM_OK(export_with_event(self->w.dev, &range, 1, VMMEXP_EXPORT_READ_ONLY,
					self->w.event, &self->w.ex), &self->w.ex);
	EXPECT_CHANGE(&self->w, 0, LIVE, 0);
	ASSERT_EQ(0, madvise(self->w.mem, self->w.len, MADV_DONTNEED));
	touch(self->w.mem, self->w.len);
	EXPECT_CHANGE(&self->w, 1, shared(variant->kind) ? LIVE : STALE, 1);
	ASSERT_EQ(0, munmap(self->w.mem, self->w.len));
	EXPECT_CHANGE(&self->w, shared(variant->kind), STALE, 0);
}

/*
 * A huge page that is split has the same pages as before.
 */
FIXTURE(split)
{
	struct watched w;
	const char *lacks;
};

FIXTURE_SETUP(split)
{
	self->lacks = trust_lacks(TRUST_THP);
	watched_open(_metadata, &self->w);
	if (!self->lacks)
		watched_export(_metadata, &self->w, trust_memory(TRUST_THP),
			       trust_size(TRUST_THP));
}

FIXTURE_TEARDOWN_PARENT(split)
{
	watched_done(_metadata, &self->w);
}

/* As often as it became suspect it became live again. */
static void expect_live_again(struct __test_metadata *_metadata, struct watched *w)
{
	touch(w->mem, w->len);
	EXPECT_EQ(LIVE, vmm_state(w->dev, w->ex.fd));
	EXPECT_EQ(0, event_count(w->event) % 2);
	EXPECT_STATE(w, LIVE, 0);
	EXPECT_EQ(-1, vmm_mismatch(w->mem, w->len, 0, 1));
}

TEST_F(split, by_mprotect_settles_to_live)
{
	struct watched *w = &self->w;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, mprotect(w->mem + 5 * w->page, w->page, PROT_READ));
	expect_live_again(_metadata, w);
}

TEST_F(split, by_a_neighbour_that_goes_settles_to_live)
{
	struct watched *w = &self->w;
	char *mem;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	mem = w->mem;
	close(w->ex.fd);
	watched_export(_metadata, w, mem + 10 * w->page, 5 * w->page);
	ASSERT_EQ(0, madvise(mem + 15 * w->page, w->page, MADV_DONTNEED));
	expect_live_again(_metadata, w);
	ASSERT_EQ(0, munmap(mem, 10 * w->page));
	expect_live_again(_metadata, w);
	ASSERT_EQ(0, munmap(mem + 12 * w->page, w->page));
	EXPECT_CHANGE(w, 1, STALE, 0);
}

TEST_F(split, by_munmap_of_a_page_makes_it_stale)
{
	struct watched *w = &self->w;
	long long events;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(w->mem + 5 * w->page, w->page));
	/* Suspect by the split, then stale, or stale at once. */
	events = event_count(w->event);
	EXPECT_LE(1, events);
	EXPECT_GE(2, events);
	EXPECT_STATE(w, STALE, 0);
}

TEST_F(split, one_new_page_makes_it_stale)
{
	struct watched *w = &self->w;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(w->mem + 5 * w->page, w->page, MADV_DONTNEED));
	EXPECT_CHANGE(w, 1, SUSPECT, 0);
	touch(w->mem, w->len);
	EXPECT_CHANGE(w, 0, STALE, 1);
}

/* The kernel moves memory together, and may not move this. */
TEST_F(state, compaction_settles_to_live)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, vmm_write_file("/proc/sys/vm/compact_memory", "1"));
	touch(self->w.mem, self->w.len);
	EXPECT_EQ(LIVE, vmm_state(self->w.dev, self->w.ex.fd));
	EXPECT_EQ(0, event_count(self->w.event) % 2);
	EXPECT_STATE(&self->w, LIVE, 0);
}

/*
 * Processes that end.
 */
struct exporter {
	pid_t pid;
	int sock;
	int fd;
	int event;
};

enum order { EXIT = 'x', EXEC = 'e' };

static void exporter_main(int sock, enum trust_kind kind)
{
	char *mem = trust_memory(kind);
	struct vmmexp_export ex;
	struct vmmexp_range range;
	int dev = vmm_open(), event = event_new();
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	range = vmm_range(mem, trust_size(kind));
	if (!mem || dev < 0 || event < 0 || export_with_event(dev, &range, 1, 0, event, &ex) ||
	    vmm_send_fd(sock, ex.fd) || vmm_send_fd(sock, event))
		_exit(1);
	if (recv(sock, &order, 1, 0) != 1 || order == EXIT)
		_exit(0);
	fcntl(ex.fd, F_SETFD, 0);
	fcntl(event, F_SETFD, 0);
	execl("/bin/sleep", "sleep", "60", NULL);
	_exit(1);
}

static struct exporter start_exporter(struct __test_metadata *_metadata, enum trust_kind kind)
{
	struct exporter exporter;
	int socks[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	exporter.pid = fork();
	ASSERT_LE(0, exporter.pid);
	if (!exporter.pid) {
		close(socks[0]);
		exporter_main(socks[1], kind);
	}
	close(socks[1]);
	exporter.sock = socks[0];
	exporter.fd = vmm_recv_fd(exporter.sock);
	ASSERT_LE(0, exporter.fd) TH_LOG("the exporter failed");
	exporter.event = vmm_recv_fd(exporter.sock);
	ASSERT_LE(0, exporter.event);
	return exporter;
}

TEST_F(state, exit_makes_it_stale)
{
	struct exporter exporter;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	/* Huge pages for the child. */
	ASSERT_EQ(0, munmap(self->w.mem, self->w.len));
	close(self->w.ex.fd);
	exporter = start_exporter(_metadata, variant->kind);
	EXPECT_EQ(LIVE, vmm_state(self->w.dev, exporter.fd));
	EXPECT_EQ(0, event_count(exporter.event));
	ASSERT_EQ(1, send(exporter.sock, "x", 1, 0));
	ASSERT_EQ(0, vmm_wait(exporter.pid, NULL, 10));
	EXPECT_EQ(STALE, vmm_state(self->w.dev, exporter.fd));
	EXPECT_EQ(1, event_count(exporter.event));
}

TEST_F(state, sigkill_makes_it_stale)
{
	struct exporter exporter;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(self->w.mem, self->w.len));
	close(self->w.ex.fd);
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(0, kill(exporter.pid, SIGKILL));
	ASSERT_EQ(0, vmm_wait(exporter.pid, NULL, 10));
	EXPECT_EQ(STALE, vmm_state(self->w.dev, exporter.fd));
	EXPECT_EQ(1, event_count(exporter.event));
}

TEST_F(state, exec_makes_it_stale)
{
	struct exporter exporter;
	char byte;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(self->w.mem, self->w.len));
	close(self->w.ex.fd);
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(1, send(exporter.sock, "e", 1, 0));
	/* The socket is closed by a successful exec. */
	ASSERT_EQ(0, recv(exporter.sock, &byte, 1, 0));
	EXPECT_EQ(-ETIMEDOUT, vmm_wait(exporter.pid, NULL, 0));
	EXPECT_EQ(STALE, vmm_state(self->w.dev, exporter.fd));
	EXPECT_EQ(1, event_count(exporter.event));
	kill(exporter.pid, SIGKILL);
}

/*
 * Files.
 */
FIXTURE(file)
{
	struct watched w;
	int fd;
};

FIXTURE_SETUP(file)
{
	size_t len = 8 * vmm_page_size();
	char *mem;

	watched_open(_metadata, &self->w);
	self->fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, len));
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	watched_export(_metadata, &self->w, mem, len);
}

FIXTURE_TEARDOWN_PARENT(file)
{
	watched_done(_metadata, &self->w);
}

TEST_F(file, punched_hole_is_suspect_then_stale)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * w->page,
			       w->page));
	EXPECT_CHANGE(w, 1, SUSPECT, 0);
	/* The file has another page there now. */
	touch(w->mem, w->len);
	EXPECT_CHANGE(w, 0, STALE, 1);
}

/* By another process: a file is everybody's. */
TEST_F(file, punched_by_others_is_suspect)
{
	struct watched *w = &self->w;
	int status;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				w->len) ? 1 : 0);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	ASSERT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	EXPECT_CHANGE(w, 1, SUSPECT, 0);
	vmm_fill(w->mem, w->len, 0, 2);
	EXPECT_CHANGE(w, 0, STALE, 1);
}

TEST_F(file, hole_outside_is_no_event)
{
	struct watched *w = &self->w;

	close(w->ex.fd);
	watched_export(_metadata, w, w->mem + 2 * w->page, 2 * w->page);
	ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			       2 * w->page));
	ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * w->page,
			       4 * w->page));
	EXPECT_CHANGE(w, 0, LIVE, 0);
}

/* The end of the file comes before the buffer's: nothing can be there. */
TEST_F(file, truncated_file_is_suspect_until_it_has_pages_again)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, ftruncate(self->fd, w->page));
	EXPECT_CHANGE(w, 1, SUSPECT, 0);
	ASSERT_EQ(0, ftruncate(self->fd, w->len));
	EXPECT_CHANGE(w, 0, SUSPECT, 0);
	touch(w->mem, w->len);
	EXPECT_CHANGE(w, 0, STALE, 1);
}

/* What the exporter has mapped elsewhere of the same file is not what it exported. */
TEST_F(file, other_mappings_of_the_file_do_not_matter)
{
	struct watched *w = &self->w;
	char *other = mmap(NULL, w->len, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, other);
	touch(other, w->len);
	ASSERT_EQ(0, madvise(other, w->len, MADV_DONTNEED));
	ASSERT_EQ(0, munmap(other, w->len));
	EXPECT_CHANGE(w, 0, LIVE, 0);
	close(self->fd);
	EXPECT_CHANGE(w, 0, LIVE, 0);
}

/*
 * Reclaim: the kernel takes pages from the page tables before it sees that they
 * must stay. They are found there again, the same ones.
 */
FIXTURE(reclaim)
{
	struct watched w;
	int zram;
	bool cgroup;
	char *mem;
};

FIXTURE_VARIANT(reclaim)
{
	bool shared;
};

FIXTURE_VARIANT_ADD(reclaim, anonymous) { .shared = false };
FIXTURE_VARIANT_ADD(reclaim, memfd) { .shared = true };

#define CGROUP		"/tmp/vmmexp-state-cgroup"

FIXTURE_SETUP(reclaim)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_ZRAM");
	size_t len = 64 * vmm_page_size();

	self->zram = -1;
	watched_open(_metadata, &self->w);
	if (lacks)
		SKIP(return, "%s", lacks);
	self->zram = vmm_swap_start();
	ASSERT_LE(0, self->zram);
	self->mem = variant->shared ? mock_mem_memfd(len) : mock_mem_anon(len);
	watched_export(_metadata, &self->w, self->mem, len);
}

FIXTURE_TEARDOWN_PARENT(reclaim)
{
	unsigned int tries;

	if (self->zram >= 0)
		EXPECT_EQ(0, vmm_swap_stop(self->zram));
	if (self->cgroup) {
		for (tries = 0; tries < 100 && rmdir(CGROUP "/t") && errno == EBUSY; tries++)
			vmm_msleep(20);
		EXPECT_EQ(0, umount(CGROUP));
		rmdir(CGROUP);
	}
	watched_done(_metadata, &self->w);
}

TEST_F(reclaim, paged_out_by_advice)
{
	struct watched *w = &self->w;
	long long suspect;

	ASSERT_EQ(0, madvise(w->mem, w->len, MADV_PAGEOUT));
	suspect = event_count(w->event);
	/* The kernel looks at private pages first, and does not touch them. */
	EXPECT_EQ(variant->shared, suspect);
	if (suspect)
		EXPECT_EQ(SUSPECT, asker_state(&w->asker, w->ex.fd));
	touch(w->mem, w->len);
	EXPECT_CHANGE(w, 0, LIVE, suspect);
	EXPECT_EQ(LIVE, asker_state(&w->asker, w->ex.fd));
	EXPECT_EQ(-1, vmm_mismatch(w->mem, w->len, 0, 1));
}

/* A process that gets less memory than it uses. */
TEST_F(reclaim, memory_pressure_settles_to_live)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_MEMCG");
	size_t pressure = 24 << 20, i;
	struct watched *w = &self->w;
	char text[32], *other;
	long long events;

	if (lacks)
		SKIP(return, "%s", lacks);
	ASSERT_TRUE(!mkdir(CGROUP, 0755) || errno == EEXIST);
	ASSERT_EQ(0, mount("none", CGROUP, "cgroup2", 0, NULL));
	self->cgroup = true;
	ASSERT_EQ(0, vmm_write_file(CGROUP "/cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(CGROUP "/t", 0755));
	ASSERT_EQ(0, vmm_write_file(CGROUP "/t/memory.max", "12M"));
	snprintf(text, sizeof(text), "%d", getpid());
	ASSERT_EQ(0, vmm_write_file(CGROUP "/t/cgroup.procs", text));

	/* Charged to the group, and so what it has to give. */
	close(w->ex.fd);
	event_count(w->event);
	watched_export(_metadata, w, variant->shared ? mock_mem_memfd(w->len) :
						       mock_mem_anon(w->len), w->len);
	other = mock_mem_anon(pressure);
	ASSERT_NE(NULL, other);
	for (i = 0; i < pressure; i += w->page)
		vmm_fill(other + i, 64, i, 2);

	/* The group is full: whatever the kernel allocates may make it reclaim once more. */
	for (i = 0; i < 100; i++) {
		touch(w->mem, w->len);
		if (vmm_state(w->dev, w->ex.fd) == LIVE)
			break;
	}
	EXPECT_GT(100, i) TH_LOG("state %#x", vmm_state(w->dev, w->ex.fd));
	EXPECT_EQ(-1, vmm_mismatch(w->mem, w->len, 0, 1));
	event_count(w->event);
	ASSERT_EQ(0, munmap(w->mem, w->len));
	events = event_count(w->event);
	EXPECT_LE(1, events);
	EXPECT_GE(2, events);
	EXPECT_STATE(w, STALE, 0);
}

/* A page that was swapped out and is brought in by the export is as good as any. */
TEST_F(reclaim, swapped_before_the_export)
{
	struct watched *w = &self->w;
	struct vmmexp_range range = vmm_range(self->mem, w->len);

	close(w->ex.fd);
	ASSERT_EQ(0, madvise(self->mem, w->len, MADV_PAGEOUT));
	ASSERT_EQ(-1, vmm_pfn(self->mem)) TH_LOG("the kernel does not swap");
	event_count(w->event);
	ASSERT_VMM_OK(export_with_event(w->dev, &range, 1, 0, w->event, &w->ex), &w->ex);
	EXPECT_CHANGE(w, 0, LIVE, 0);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, w->len, 0, 1));
}

/*
 * Several ranges.
 */
FIXTURE(ranges)
{
	struct watched w;
	/* Private, not exported, and shared memory; the buffer is the last and the first. */
	char *anon;
	char *between;
	char *memfd;
};

FIXTURE_SETUP(ranges)
{
	size_t len = 4 * vmm_page_size();
	struct vmmexp_range ranges[2];
	char *mem;
	int fd;

	watched_open(_metadata, &self->w);
	self->w.len = len;
	mem = mock_mem_anon(3 * len);
	ASSERT_NE(NULL, mem);
	self->anon = mem;
	self->between = mem + len;
	fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, len));
	self->memfd = mmap(mem + 2 * len, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			   0);
	ASSERT_EQ(mem + 2 * len, self->memfd);
	close(fd);
	ranges[0] = vmm_range(self->memfd, len);
	ranges[1] = vmm_range(self->anon, len);
	ASSERT_VMM_OK(export_with_event(self->w.dev, ranges, 2, 0, self->w.event, &self->w.ex),
		      &self->w.ex);
}

FIXTURE_TEARDOWN_PARENT(ranges)
{
	watched_done(_metadata, &self->w);
}

TEST_F(ranges, what_is_between_them_does_not_matter)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, madvise(self->between, w->len, MADV_DONTNEED));
	ASSERT_EQ(0, munmap(self->between, w->len));
	EXPECT_CHANGE(w, 0, LIVE, 0);
}

TEST_F(ranges, first_one_is_watched)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, munmap(self->memfd + 3 * w->page, w->page));
	EXPECT_CHANGE(w, 1, STALE, 0);
}

TEST_F(ranges, last_one_is_watched)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, munmap(self->anon, w->page));
	EXPECT_CHANGE(w, 1, STALE, 0);
}

/* Several events of several ranges are one change. */
TEST_F(ranges, one_munmap_of_all_is_one_event)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, munmap(self->anon, 3 * w->len));
	EXPECT_CHANGE(w, 1, STALE, 0);
}

TEST_F(ranges, all_of_them_must_be_settled)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, madvise(self->memfd, w->len, MADV_DONTNEED));
	touch(self->memfd, w->len);
	EXPECT_CHANGE(w, 1, LIVE, 1);
	ASSERT_EQ(0, madvise(self->memfd, w->len, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(self->anon, w->page, MADV_DONTNEED));
	touch(self->memfd, w->len);
	EXPECT_CHANGE(w, 1, SUSPECT, 0);
	touch(self->anon, w->page);
	EXPECT_CHANGE(w, 0, STALE, 1);
}

/* The same pages twice in a buffer: lost once. */
TEST_F(ranges, repeats_are_one_memory)
{
	struct watched *w = &self->w;
	struct vmmexp_range ranges[] = {
		vmm_range(self->memfd, w->len),
		vmm_range(self->memfd + w->page, 2 * w->page),
		vmm_range(self->memfd, w->len),
	};

	close(w->ex.fd);
	ASSERT_VMM_OK(export_with_event(w->dev, ranges, 3, 0, w->event, &w->ex), &w->ex);
	ASSERT_EQ(0, madvise(self->memfd + w->page, w->page, MADV_DONTNEED));
	EXPECT_CHANGE(w, 1, SUSPECT, 0);
	touch(self->memfd, w->len);
	EXPECT_CHANGE(w, 0, LIVE, 1);
	ASSERT_EQ(0, munmap(self->memfd, w->len));
	EXPECT_CHANGE(w, 1, STALE, 0);
}

/* All pages of the buffer are still mapped, and not where they were. */
TEST_F(ranges, pages_that_change_places_make_it_stale)
{
	struct watched *w = &self->w;
	int fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
	char *mem;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 2 * w->page));
	mem = mmap(NULL, 2 * w->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	close(w->ex.fd);
	watched_export(_metadata, w, mem, 2 * w->page);
	ASSERT_EQ(mem, mmap(mem, w->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			    w->page));
	ASSERT_EQ(mem + w->page, mmap(mem + w->page, w->page, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, fd, 0));
	touch(mem, 2 * w->page);
	EXPECT_CHANGE(w, 1, STALE, 0);
}

/* Parts of pages are pages. */
TEST_F(ranges, edges_of_an_unaligned_export_are_watched)
{
	struct watched *w = &self->w;
	struct vmmexp_range range = vmm_range(self->anon + w->page + 100, 2 * w->page);

	/* A part of the second page, all of the third, a part of the fourth. */
	close(w->ex.fd);
	ASSERT_VMM_OK(export_with_event(w->dev, &range, 1, VMMEXP_EXPORT_UNALIGNED, w->event,
					&w->ex), &w->ex);
	ASSERT_EQ(0, munmap(self->anon, w->page));
	EXPECT_CHANGE(w, 0, LIVE, 0);
	ASSERT_EQ(0, munmap(self->anon + 3 * w->page, w->page));
	EXPECT_CHANGE(w, 1, STALE, 0);
}

/*
 * The eventfd.
 */
FIXTURE(event)
{
	struct watched w;
	struct vmmexp_range range;
};

FIXTURE_SETUP(event)
{
	watched_open(_metadata, &self->w);
	self->w.len = 4 * self->w.page;
	self->w.mem = mock_mem_memfd(self->w.len);
	ASSERT_NE(NULL, self->w.mem);
	self->range = vmm_range(self->w.mem, self->w.len);
}

FIXTURE_TEARDOWN_PARENT(event)
{
	watched_done(_metadata, &self->w);
}

static int export_event(struct _test_data_event *self, __u32 flags, int event)
{
	return export_with_event(self->w.dev, &self->range, 1, flags, event, &self->w.ex);
}

TEST_F(event, what_is_no_eventfd_is_refused)
{
	int pipes[2], memfd = memfd_create("no eventfd", MFD_CLOEXEC);
	int wrong[] = { -1, 1 << 20, INT_MIN, INT_MAX, memfd, self->w.dev, 0, 0 };
	unsigned int fds, i;

	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, pipe(pipes));
	wrong[6] = pipes[0];
	wrong[7] = open("/proc/self", O_PATH | O_CLOEXEC);
	ASSERT_LE(0, wrong[7]);

	fds = vmm_count_fds();
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		EXPECT_VMM_ERROR(export_event(self, 0, wrong[i]), &self->w.ex,
				 EBADF, VMMEXP_REASON_BAD_EVENT_FD, 0);
		EXPECT_EQ(-1, self->w.ex.fd);
	}
	EXPECT_EQ(fds, vmm_count_fds());
	EXPECT_EQ(self->w.pins, vmm_pins());
}

TEST_F(event, closed_eventfd_is_refused)
{
	int event = event_new();

	ASSERT_LE(0, event);
	close(event);
	EXPECT_VMM_ERROR(export_event(self, 0, event), &self->w.ex,
			 EBADF, VMMEXP_REASON_BAD_EVENT_FD, 0);
}

TEST_F(event, dry_run_looks_at_it_and_does_not_use_it)
{
	EXPECT_VMM_ERROR(export_event(self, VMMEXP_EXPORT_DRY_RUN, self->w.dev), &self->w.ex,
			 EBADF, VMMEXP_REASON_BAD_EVENT_FD, 0);
	EXPECT_VMM_OK(export_event(self, VMMEXP_EXPORT_DRY_RUN, self->w.event), &self->w.ex);
	EXPECT_EQ(-1, self->w.ex.fd);
	ASSERT_EQ(0, munmap(self->w.mem, self->w.len));
	EXPECT_EQ(0, event_count(self->w.event));
}

TEST_F(event, every_change_is_signalled_once)
{
	struct watched *w = &self->w;
	struct vmmexp_revoke revoke;

	ASSERT_VMM_OK(export_event(self, 0, w->event), &w->ex);
	EXPECT_STATE(w, LIVE, 0);
	ASSERT_EQ(0, madvise(w->mem, w->len, MADV_DONTNEED));
	EXPECT_STATE(w, SUSPECT, 1);
	touch(w->mem, w->len);
	EXPECT_STATE(w, LIVE, 1);
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_STATE(w, STALE, 1);
	ASSERT_VMM_OK(vmm_revoke(w->dev, w->ex.fd, &revoke), &revoke);
	EXPECT_EQ(2, event_wait(w->event, 2));
	EXPECT_STATE(w, VMMEXP_STATE_REVOKED | VMMEXP_STATE_RELEASED, 0);
}

/* Nobody looks: the number tells what was missed. */
TEST_F(event, changes_add_up)
{
	struct watched *w = &self->w;
	int i;

	ASSERT_VMM_OK(export_event(self, 0, w->event), &w->ex);
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, madvise(w->mem, w->len, MADV_DONTNEED));
		touch(w->mem, w->len);
		ASSERT_EQ(LIVE, vmm_state(w->dev, w->ex.fd));
	}
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_EQ(21, event_count(w->event));
}

TEST_F(event, without_one_the_state_is_the_same)
{
	struct watched *w = &self->w;

	ASSERT_VMM_OK(vmm_export(w->dev, w->mem, w->len, 0, &w->ex), &w->ex);
	EXPECT_STATE(w, LIVE, 0);
	ASSERT_EQ(0, madvise(w->mem, w->len, MADV_DONTNEED));
	EXPECT_STATE(w, SUSPECT, 0);
	touch(w->mem, w->len);
	EXPECT_STATE(w, LIVE, 0);
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_STATE(w, STALE, 0);
}

/* The buffer holds it: closing the descriptor first is fine, and others still hear. */
TEST_F(event, descriptor_can_be_closed)
{
	struct watched *w = &self->w;
	int other = dup(w->event);

	ASSERT_LE(0, other);
	ASSERT_VMM_OK(export_event(self, 0, w->event), &w->ex);
	close(w->event);
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_EQ(1, event_count(other));
	close(other);
	EXPECT_EQ(STALE, vmm_state(w->dev, w->ex.fd));
}

TEST_F(event, nobody_else_has_it)
{
	struct watched *w = &self->w;

	ASSERT_VMM_OK(export_event(self, 0, w->event), &w->ex);
	close(w->event);
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_EQ(STALE, vmm_state(w->dev, w->ex.fd));
	close(w->ex.fd);
}

TEST_F(event, one_for_several_buffers)
{
	struct watched *w = &self->w;
	struct vmmexp_export first;

	ASSERT_VMM_OK(export_event(self, 0, w->event), &w->ex);
	first = w->ex;
	ASSERT_VMM_OK(export_event(self, 0, w->event), &w->ex);
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_EQ(2, event_count(w->event));
	/* Closing is no change. */
	close(first.fd);
	close(w->ex.fd);
	EXPECT_EQ(0, event_count(w->event));
}

static void *wait_for_event(void *arg)
{
	eventfd_t value = 0;

	if (eventfd_read(*(int *)arg, &value))
		return NULL;
	return (void *)(uintptr_t)value;
}

TEST_F(event, wakes_who_waits)
{
	struct watched *w = &self->w;
	int event = eventfd(0, EFD_CLOEXEC);
	pthread_t thread;
	void *value;

	ASSERT_LE(0, event);
	ASSERT_VMM_OK(export_event(self, 0, event), &w->ex);
	ASSERT_EQ(0, pthread_create(&thread, NULL, wait_for_event, &event));
	vmm_msleep(50);
	ASSERT_EQ(0, munmap(w->mem, w->len));
	ASSERT_EQ(0, pthread_join(thread, &value));
	EXPECT_EQ(1, (uintptr_t)value);
}

/* A full counter is no reason to wait, least of all inside munmap(). */
TEST_F(event, full_counter_stops_nobody)
{
	struct watched *w = &self->w;

	ASSERT_EQ(0, eventfd_write(w->event, 0xfffffffffffffffeull));
	ASSERT_VMM_OK(export_event(self, 0, w->event), &w->ex);
	ASSERT_EQ(0, madvise(w->mem, w->len, MADV_DONTNEED));
	touch(w->mem, w->len);
	EXPECT_EQ(LIVE, vmm_state(w->dev, w->ex.fd));
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_EQ(STALE, vmm_state(w->dev, w->ex.fd));
}

TEST_F(event, semaphore_counts_too)
{
	struct watched *w = &self->w;
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);

	ASSERT_LE(0, event);
	ASSERT_VMM_OK(export_event(self, 0, event), &w->ex);
	ASSERT_EQ(0, madvise(w->mem, w->len, MADV_DONTNEED));
	ASSERT_EQ(0, munmap(w->mem, w->len));
	EXPECT_EQ(1, event_count(event));
	EXPECT_EQ(1, event_count(event));
	EXPECT_EQ(0, event_count(event));
}

TEST_HARNESS_MAIN
