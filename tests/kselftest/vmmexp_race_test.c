// SPDX-License-Identifier: GPL-2.0-only
/*
 * REVOKE against everything else that can happen to a buffer at the same time.
 * What comes out of a race is not fixed, what may come out is: an answer from
 * before or one from after it, bytes of the buffer or a signal, and in the end
 * no page pinned and nothing charged. That the kernel's log stays quiet is part
 * of each test; whoever runs them looks at the log as well.
 */
#define _GNU_SOURCE
#include <linux/dma-buf.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>

#include "kselftest_harness.h"

#include "importer_util.h"
#include "vmmexp_trust_util.h"

#define RELEASED	(VMMEXP_STATE_REVOKED | VMMEXP_STATE_RELEASED)

/* How long each race is run, and how long at most if it was none until then. */
#define RACE_MS		400
#define LONGEST_MS	30000

#define NR_PAGES	8

/* A device that is told to let go, and does. */
#define LETS_GO		(VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE | VMMEXP_MOCK_LET_GO)

/*
 * The buffer of this round and what opposes its REVOKE. The opponent is called
 * again and again, the descriptor may be one that is just closed, or -1.
 */
struct race {
	int dev;
	int mock;
	int card;
	size_t page;
	size_t len;
	char *mem;
	/* Seed of the bytes in @mem. */
	__u32 seed;
	atomic_int fd;
	atomic_bool stop;
	/* What the opponent could do, and could not, and what may never happen. */
	atomic_uint done;
	atomic_uint refused;
	atomic_uint wrong;
	/* One failure that was wrong, to be told. */
	atomic_int error;
	void (*oppose)(struct race *race, int fd);
};

FIXTURE(race)
{
	long long pins;
	uid_t user;
	struct locked locked;
	int locked_before;
	struct race race;
};

FIXTURE_SETUP(race)
{
	struct race *race = &self->race;

	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->user = fresh_user(0);
	race->dev = vmm_open();
	ASSERT_LE(0, race->dev);
	race->mock = mock_open();
	ASSERT_LE(0, race->mock);
	race->card = drm_card("vgem", "vgem");
	ASSERT_LE(0, race->card);
	race->page = vmm_page_size();
	race->len = NR_PAGES * race->page;
	race->mem = mock_mem_anon(race->len);
	ASSERT_NE(NULL, race->mem);
	race->seed = 1;
	vmm_fill(race->mem, race->len, 0, race->seed);
	race->fd = -1;
	/* As a user, so that there is something to be charged. */
	ASSERT_EQ(0, set_memlock(1000 * race->page));
	ASSERT_EQ(0, become(self->user));
	ASSERT_EQ(0, locked_open(&self->locked));
	self->locked_before = locked_left(&self->locked);
	ASSERT_LT(0, self->locked_before);
}

FIXTURE_TEARDOWN_PARENT(race)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
}

static long long elapsed_ms(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000ll + (now.tv_nsec - start->tv_nsec) / 1000000;
}

static bool out_of_time(const struct timespec *start)
{
	return elapsed_ms(start) > RACE_MS;
}

/* A machine that has other things to do takes longer for both outcomes. */
static bool go_on(const struct race *race, const struct timespec *start, unsigned int rounds)
{
	long long ms = elapsed_ms(start);

	if (rounds > 3 && race->done && race->refused)
		return ms <= RACE_MS;
	return ms <= LONGEST_MS;
}

static void wrong(struct race *race, int error)
{
	race->wrong++;
	race->error = error;
}

/* Count an answer: 0, or one that is right when the buffer is revoked or closed. */
static void judge(struct race *race, int ret, int revoked)
{
	if (ret >= 0)
		race->done++;
	else if (ret == -revoked || ret == -EBADF)
		race->refused++;
	else
		wrong(race, ret);
}

static void *opponent_main(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		int fd = race->fd;

		if (fd >= 0)
			race->oppose(race, fd);
		else
			sched_yield();
	}
	return NULL;
}

/*
 * Export, let the opponents at it, revoke, close, again and again. Between
 * REVOKE and close the buffer is released in every second round.
 */
static void run(struct __test_metadata *_metadata, struct _test_data_race *self,
		void (*oppose)(struct race *race, int fd))
{
	struct race *race = &self->race;
	struct vmmexp_revoke revoke;
	struct vmmexp_export ex;
	struct vmmexp_info info;
	unsigned int rounds = 0, tries, done;
	struct timespec start;
	pthread_t threads[2];
	int i;

	race->oppose = oppose;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, opponent_main, race));
	while (go_on(race, &start, rounds)) {
		ASSERT_VMM_OK(vmm_export(race->dev, race->mem, race->len, 0, &ex), &ex);
		done = race->done;
		race->fd = ex.fd;
		/* A little later in every round, and sometimes not before they are at it. */
		for (i = rounds % 16; i; i--)
			sched_yield();
		for (tries = 0; rounds % 4 == 3 && tries < 5000 && race->done == done; tries++)
			sched_yield();
		ASSERT_VMM_OK(vmm_revoke(race->dev, ex.fd, &revoke), &revoke);
		if (rounds % 2) {
			/* Others do not hold it for long. */
			for (tries = 0; tries < 10000 && vmm_state(race->dev, ex.fd) != RELEASED;
			     tries++)
				sched_yield();
			ASSERT_EQ(RELEASED, vmm_state(race->dev, ex.fd)) {
				TH_LOG("round %u: it is not released", rounds);
			}
		}
		race->fd = -1;
		close(ex.fd);
		rounds++;
	}
	race->stop = true;
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);

	EXPECT_LT(3, rounds);
	EXPECT_EQ(0, race->wrong) {
		TH_LOG("one of the wrong answers: %d", race->error);
	}
	/* It was a race: of both outcomes there were some. */
	EXPECT_LT(0, race->done) TH_LOG("%u rounds, %u refused", rounds, race->refused);
	EXPECT_LT(0, race->refused) TH_LOG("%u rounds, %u done", rounds, race->done);
	EXPECT_EQ(-1, vmm_mismatch(race->mem, race->len, 0, race->seed));

	/* All is given back, to the module's knowledge and io_uring's. */
	for (tries = 0; tries < 100; tries++) {
		ASSERT_VMM_OK(vmm_info(race->dev, &info), &info);
		if (!info.charged)
			break;
		vmm_msleep(20);
	}
	EXPECT_EQ(0, info.charged);
	EXPECT_EQ(self->locked_before, locked_left(&self->locked));
	ASSERT_EQ(0, become(0));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/*
 * The opponents.
 */
static void oppose_map(struct race *race, int fd)
{
	int attachment = mock_attach(race->mock, fd, 0);
	int map;

	if (attachment < 0) {
		/* A descriptor that is somebody else's by now is no dma-buf. */
		judge(race, attachment == -EINVAL ? -EBADF : attachment, 0);
		return;
	}
	map = mock_map(race->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	judge(race, map, ENODEV);
	if (map >= 0) {
		/* The device has it, and so it must be what it was. */
		if (mock_mismatch(race->mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, 0, race->len,
				  race->seed) != -1)
			wrong(race, 1);
		if (mock_unmap(race->mock, map))
			wrong(race, 2);
	}
	if (mock_detach(race->mock, attachment))
		wrong(race, 3);
}

TEST_F(race, device_mappings)
{
	run(_metadata, self, oppose_map);
}

/* The importer is told in the middle of its mapping, and unmaps. */
static void oppose_dynamic_map(struct race *race, int fd)
{
	int attachment = mock_attach(race->mock, fd, LETS_GO), map;
	long long mismatch;

	if (attachment < 0) {
		judge(race, attachment == -EINVAL ? -EBADF : attachment, 0);
		return;
	}
	map = mock_map(race->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	judge(race, map, ENODEV);
	if (map >= 0) {
		mismatch = mock_mismatch(race->mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, 0, race->len,
					 race->seed);
		if (mismatch != -1 && mismatch != -1000 - ENODEV)
			wrong(race, 1);
		if (mock_unmap(race->mock, map))
			wrong(race, 2);
	}
	if (mock_detach(race->mock, attachment))
		wrong(race, 3);
}

TEST_F(race, dynamic_importers)
{
	run(_metadata, self, oppose_dynamic_map);
}

static void oppose_vmap(struct race *race, int fd)
{
	int vmap = mock_vmap(race->mock, fd, NULL);

	judge(race, vmap, EINVAL);
	if (vmap < 0)
		return;
	if (mock_mismatch(race->mock, VMMEXP_MOCK_IOC_KERNEL_IO, vmap, 0, race->len, race->seed) !=
	    -1)
		wrong(race, 1);
	if (mock_vunmap(race->mock, vmap))
		wrong(race, 2);
}

TEST_F(race, kernel_mappings)
{
	run(_metadata, self, oppose_vmap);
}

static void oppose_attach(struct race *race, int fd)
{
	struct drm_prime_handle prime = { .fd = fd };
	int ret = vmm_ioctl(race->card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime);

	if (ret) {
		judge(race, ret == -EINVAL ? -EBADF : ret, 0);
		return;
	}
	race->done++;
	/* A handle is shared by the threads: the other one may have closed it. */
	drm_close_handle(race->card, prime.handle);
}

/* Attached or not does not matter to REVOKE: nobody is refused but those too late. */
TEST_F(race, prime_imports)
{
	/* Those who come in the very last moment find it closed, and not in every run. */
	self->race.refused = 1;
	run(_metadata, self, oppose_attach);
}

/* An access that may end in SIGBUS: what it is tried by, each by its own thread. */
static __thread sigjmp_buf back;
static __thread atomic_bool guarded;

static void jump(int sig)
{
	if (!guarded)
		_exit(100 + sig);
	siglongjmp(back, sig);
}

static void handle_sigbus(struct __test_metadata *_metadata)
{
	struct sigaction action = { .sa_handler = jump };

	ASSERT_EQ(0, sigaction(SIGBUS, &action, NULL));
}

#define GONE	(-2)

/* vmm_mismatch(), or GONE. */
static long long look(const char *mem, size_t len, __u64 offset, __u32 seed)
{
	long long ret;

	guarded = true;
	if (sigsetjmp(back, 1))
		ret = GONE;
	else
		ret = vmm_mismatch(mem, len, offset, seed);
	guarded = false;
	return ret;
}

/* vmm_fill(); 0 or GONE. */
static int put(char *mem, size_t len, __u64 offset, __u32 seed)
{
	int ret = 0;

	guarded = true;
	if (sigsetjmp(back, 1))
		ret = GONE;
	else
		vmm_fill(mem, len, offset, seed);
	guarded = false;
	return ret;
}

static void oppose_mmap(struct race *race, int fd)
{
	char *view = vmm_map(fd, 0, race->len, PROT_READ | PROT_WRITE);

	if (!view) {
		judge(race, -errno, ENODEV);
		return;
	}
	race->done++;
	/* Either the bytes of the buffer or SIGBUS, but nobody else's bytes. */
	if (look(view, race->len, 0, race->seed) >= 0)
		wrong(race, 1);
	munmap(view, race->len);
}

TEST_F(race, mmap)
{
	handle_sigbus(_metadata);
	run(_metadata, self, oppose_mmap);
}

/* One mapping, of which one page after the other is read and written. */
static void oppose_fault(struct race *race, int fd)
{
	char *view = vmm_map(fd, 0, race->len, PROT_READ | PROT_WRITE);
	size_t pages = race->len / race->page;
	bool gone[pages];
	long long seen;
	size_t i;
	int round;

	if (!view) {
		judge(race, -errno, ENODEV);
		return;
	}
	memset(gone, 0, sizeof(gone));
	for (round = 0; round < 20; round++) {
		for (i = 0; i < pages; i++) {
			char *page = view + i * race->page;

			/*
			 * A page that is gone does not come back. Others may be
			 * there yet: REVOKE is at it.
			 */
			seen = look(page, 64, i * race->page, race->seed);
			if (seen >= 0)
				wrong(race, 1);
			else if (gone[i] && seen != GONE)
				wrong(race, 2);
			gone[i] |= seen == GONE;
			/* The same bytes: what is tried is a write. */
			if (put(page, 64, i * race->page, race->seed) == GONE)
				gone[i] = true;
			else if (gone[i])
				wrong(race, 3);
			if (gone[i])
				race->refused++;
			else
				race->done++;
		}
	}
	munmap(view, race->len);
}

TEST_F(race, faults)
{
	handle_sigbus(_metadata);
	run(_metadata, self, oppose_fault);
}

static void oppose_sync(struct race *race, int fd)
{
	struct dma_buf_sync begin = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
	struct dma_buf_sync end = { .flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW };
	struct vmmexp_sync_range range = { race->page, race->page };
	struct vmmexp_sync sync;
	int ret;

	judge(race, vmm_sync(race->dev, fd, NULL, 0, VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, &sync),
	      ENODEV);
	judge(race, vmm_sync(race->dev, fd, &range, 1, VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_RW, &sync),
	      ENODEV);
	judge(race, vmm_sync(race->dev, fd, &range, 1, VMMEXP_SYNC_END | VMMEXP_SYNC_RW, &sync),
	      0);
	/* ENOTTY: a file of the test's that has the number now. */
	ret = vmm_ioctl(fd, DMA_BUF_IOCTL_SYNC, &begin);
	judge(race, ret == -ENOTTY ? -EBADF : ret, ENODEV);
	ret = vmm_ioctl(fd, DMA_BUF_IOCTL_SYNC, &end);
	judge(race, ret == -ENOTTY ? -EBADF : ret, 0);
}

TEST_F(race, syncs)
{
	run(_metadata, self, oppose_sync);
}

/* Several at once: who is told that it is done finds it done. */
static void oppose_revoke(struct race *race, int fd)
{
	/* Of this buffer, whatever the number is of later. */
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	struct vmmexp_revoke revoke;
	char *view;

	if (own < 0) {
		judge(race, -errno, 0);
		return;
	}
	view = vmm_map(own, 0, race->len, PROT_READ);
	if (view)
		look(view, race->len, 0, race->seed);
	else
		judge(race, -errno, ENODEV);
	judge(race, vmm_revoke(race->dev, own, &revoke), 0);
	if (view && look(view, race->len, 0, race->seed) != GONE)
		wrong(race, 1);
	if (view)
		munmap(view, race->len);
	close(own);
}

TEST_F(race, revokes)
{
	self->race.refused = 1;
	handle_sigbus(_metadata);
	run(_metadata, self, oppose_revoke);
}

static void oppose_query(struct race *race, int fd)
{
	struct vmmexp_query query;
	int ret = vmm_query(race->dev, fd, &query);

	judge(race, ret, 0);
	if (!ret && query.state != VMMEXP_STATE_LIVE && query.state != VMMEXP_STATE_SUSPECT &&
	    query.state != VMMEXP_STATE_STALE && query.state != VMMEXP_STATE_REVOKED &&
	    query.state != RELEASED)
		wrong(race, query.state);
}

TEST_F(race, queries)
{
	self->race.refused = 1;
	run(_metadata, self, oppose_query);
}

/* Whoever has the last descriptor lets go of the buffer while it is revoked. */
static void oppose_close(struct race *race, int fd)
{
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 100);

	judge(race, again < 0 ? -errno : 0, 0);
	sched_yield();
	if (again >= 0)
		close(again);
}

TEST_F(race, closes)
{
	self->race.refused = 1;
	run(_metadata, self, oppose_close);
}

/*
 * Against the process's own addresses and end. The pages that are taken away
 * come back as others, with bytes of their own.
 */
static void *unmap_main(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		if (munmap(race->mem + race->page, 2 * race->page) ||
		    mmap(race->mem, race->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			abort();
		race->done++;
		sched_yield();
		madvise(race->mem, race->len, MADV_DONTNEED);
	}
	return NULL;
}

/* Is this what the call may answer while the memory comes and goes? */
static bool may_lose(__u32 reason)
{
	return reason == VMMEXP_REASON_HOLE || reason == VMMEXP_REASON_FAULT ||
	       reason == VMMEXP_REASON_NOT_PINNABLE;
}

TEST_F(race, unmapping)
{
	struct race *race = &self->race;
	struct vmmexp_revoke revoke;
	unsigned int rounds = 0;
	struct vmmexp_export ex;
	struct timespec start;
	pthread_t thread;
	int state;

	clock_gettime(CLOCK_MONOTONIC, &start);
	ASSERT_EQ(0, pthread_create(&thread, NULL, unmap_main, race));
	while (!out_of_time(&start) ||
	       ((!rounds || !race->done) && elapsed_ms(&start) < LONGEST_MS)) {
		if (vmm_export(race->dev, race->mem, race->len, 0, &ex)) {
			ASSERT_TRUE(may_lose(ex.reason)) TH_LOG("reason %u", ex.reason);
			continue;
		}
		if (rounds % 2)
			sched_yield();
		state = vmm_state(race->dev, ex.fd);
		ASSERT_TRUE(state == VMMEXP_STATE_LIVE || state == VMMEXP_STATE_SUSPECT ||
			    state == VMMEXP_STATE_STALE) TH_LOG("state %#x", state);
		ASSERT_VMM_OK(vmm_revoke(race->dev, ex.fd, &revoke), &revoke);
		state = vmm_state(race->dev, ex.fd);
		ASSERT_TRUE(state == VMMEXP_STATE_REVOKED || state == RELEASED) {
			TH_LOG("state %#x", state);
		}
		close(ex.fd);
		rounds++;
	}
	race->stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, rounds);
	EXPECT_LT(0, race->done);
	ASSERT_EQ(0, become(0));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	ASSERT_EQ(0, become(self->user));
	EXPECT_EQ(self->locked_before, locked_left(&self->locked));
}

/* The exporter dies, with its device file or without, while a child of it revokes. */
TEST_F(race, exits)
{
	struct race *race = &self->race;
	struct vmmexp_revoke revoke;
	unsigned int rounds = 0;
	struct timespec start;
	int socks[2], status, fd;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!out_of_time(&start)) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct vmmexp_export ex;
			unsigned int i;

			if (vmm_export(race->dev, race->mem, race->len, 0, &ex) ||
			    vmm_send_fd(socks[1], ex.fd))
				_exit(1);
			for (i = rounds % 16; i; i--)
				sched_yield();
			_exit(0);
		}
		fd = vmm_recv_fd(socks[0]);
		ASSERT_LE(0, fd);
		if (rounds % 2)
			sched_yield();
		ASSERT_VMM_OK(vmm_revoke(race->dev, fd, &revoke), &revoke);
		close(fd);
		ASSERT_EQ(0, vmm_wait(pid, &status, 10));
		ASSERT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
		rounds++;
	}
	EXPECT_LT(0, rounds);
	ASSERT_EQ(0, become(0));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	ASSERT_EQ(0, become(self->user));
	EXPECT_EQ(self->locked_before, locked_left(&self->locked));
}

/* The owner's device file is closed at the moment its buffer is revoked by it. */
struct closing {
	atomic_int dev;
	atomic_bool stop;
};

static void *close_main(void *arg)
{
	struct closing *closing = arg;

	while (!closing->stop) {
		int dev = atomic_exchange(&closing->dev, -1);

		if (dev >= 0)
			close(dev);
		else
			sched_yield();
	}
	return NULL;
}

TEST_F(race, device_file_that_is_closed)
{
	struct race *race = &self->race;
	struct closing closing = { .dev = -1 };
	unsigned int rounds = 0, revoked = 0, late = 0;
	struct vmmexp_revoke revoke;
	struct vmmexp_export ex;
	struct timespec start;
	pthread_t thread;
	int dev, ret;

	/* Who may open it, and revoke what has no owner: root. */
	ASSERT_EQ(0, become(0));
	clock_gettime(CLOCK_MONOTONIC, &start);
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_main, &closing));
	while (!out_of_time(&start)) {
		dev = vmm_open();
		ASSERT_LE(0, dev);
		ASSERT_VMM_OK(vmm_export(dev, race->mem, race->len, 0, &ex), &ex);
		closing.dev = dev;
		if (rounds % 2)
			sched_yield();
		/* By another file: refused until it is closed, and done from then on. */
		ret = vmm_revoke(race->dev, ex.fd, &revoke);
		ASSERT_TRUE(!ret || ret == -EPERM) TH_LOG("%d", ret);
		revoked += !ret;
		late += !!ret;
		while (closing.dev >= 0)
			sched_yield();
		close(ex.fd);
		rounds++;
	}
	closing.stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, rounds) TH_LOG("%u revoked, %u too early", revoked, late);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* Memory of which something is taken away all the time. */
struct churning {
	char *mem;
	size_t len;
	atomic_bool stop;
};

static void *churn_main(void *arg)
{
	struct churning *churning = arg;

	while (!churning->stop) {
		memset(churning->mem, 1, churning->len);
		madvise(churning->mem, churning->len, MADV_DONTNEED);
	}
	return NULL;
}

/*
 * While the kernel is taking memory of one buffer away another is made, and
 * unmapped: that is not missed, though the kernel defers what is to be told of.
 */
TEST_F(race, unmapped_while_other_memory_is_taken_away)
{
	struct race *race = &self->race;
	struct churning churning = { .len = 2000 * race->page };
	struct vmmexp_export watched, ex;
	struct timespec start;
	unsigned int rounds = 0;
	pthread_t thread;
	char *mem;

	/* Root may export as much as it likes. */
	ASSERT_EQ(0, become(0));
	churning.mem = mmap(NULL, churning.len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, churning.mem);
	madvise(churning.mem, churning.len, MADV_NOHUGEPAGE);
	/* Something of it is watched, or nobody would be told anything. */
	ASSERT_VMM_OK(vmm_export(race->dev, churning.mem, churning.len, 0, &watched), &watched);
	clock_gettime(CLOCK_MONOTONIC, &start);
	ASSERT_EQ(0, pthread_create(&thread, NULL, churn_main, &churning));
	while (!out_of_time(&start)) {
		mem = mmap(NULL, race->page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, mem);
		ASSERT_VMM_OK(vmm_export(race->dev, mem, race->page, 0, &ex), &ex);
		ASSERT_EQ(0, munmap(mem, race->page));
		ASSERT_TRUE(vmm_state(race->dev, ex.fd) & VMMEXP_STATE_STALE) {
			TH_LOG("in round %u", rounds);
		}
		close(ex.fd);
		rounds++;
	}
	churning.stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, rounds);
	close(watched.fd);
	munmap(churning.mem, churning.len);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_HARNESS_MAIN
