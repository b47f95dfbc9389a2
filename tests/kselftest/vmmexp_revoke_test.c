// SPDX-License-Identifier: GPL-2.0-only
/*
 * REVOKE: who may, what ends at once, what goes on until its user is done, when
 * the memory is given back, and that it was the exporter's all the time.
 */
#define _GNU_SOURCE
#include <linux/dma-buf.h>
#include <sched.h>
#include <setjmp.h>

#include "kselftest_harness.h"

#include "importer_util.h"
#include "vmmexp_trust_util.h"

#define LIVE		VMMEXP_STATE_LIVE
#define STALE		VMMEXP_STATE_STALE
#define REVOKED		VMMEXP_STATE_REVOKED
#define RELEASED	(VMMEXP_STATE_REVOKED | VMMEXP_STATE_RELEASED)

#define DEVICE_IO	VMMEXP_MOCK_IOC_DEVICE_IO
#define KERNEL_IO	VMMEXP_MOCK_IOC_KERNEL_IO

/* Attachments that are told to let go; the second kind does. */
#define TOLD		(VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE)
#define LETS_GO		(TOLD | VMMEXP_MOCK_LET_GO)

/* What a touch of @addr is answered with: 0 or a signal. */
static sigjmp_buf after_signal;

static void jump(int sig)
{
	siglongjmp(after_signal, sig);
}

static int touched(char *addr, bool write)
{
	struct sigaction action = { .sa_handler = jump }, bus, segv;
	int sig;

	sigaction(SIGBUS, &action, &bus);
	sigaction(SIGSEGV, &action, &segv);
	sig = sigsetjmp(after_signal, 1);
	if (!sig) {
		if (write)
			vmm_poke(addr, 1);
		else
			vmm_peek(addr);
	}
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return sig;
}

/* Every page of it is answered so, read and, with @write, written. */
static void expect_touch(struct __test_metadata *_metadata, char *view, size_t len, bool write,
			 int sig)
{
	size_t i;

	for (i = 0; i < len; i += vmm_page_size()) {
		ASSERT_EQ(sig, touched(view + i, false)) TH_LOG("byte %zu, read", i);
		if (write)
			ASSERT_EQ(sig, touched(view + i, true)) TH_LOG("byte %zu, written", i);
	}
}

/*
 * One open device, mock and buffer, of memory that the exporter goes on using.
 */
struct buffer {
	long long pins;
	/* A process that never had the device file, nor the memory. */
	struct vmm_peer peer;
	struct asker asker;
	int dev;
	int mock;
	int event;
	size_t page;
	size_t len;
	char *mem;
	struct vmmexp_export ex;
};

static void buffer_open(struct __test_metadata *_metadata, struct buffer *b)
{
	b->pins = vmm_pins();
	ASSERT_LE(0, b->pins);
	ASSERT_EQ(0, vmm_peer_start(&b->peer));
	ASSERT_EQ(0, asker_start(&b->asker));
	b->page = vmm_page_size();
	b->dev = vmm_open();
	ASSERT_LE(0, b->dev);
	b->mock = mock_open();
	ASSERT_LE(0, b->mock);
	b->event = event_new();
	ASSERT_LE(0, b->event);
}

static void buffer_export(struct __test_metadata *_metadata, struct buffer *b,
			  enum trust_kind kind, __u32 flags)
{
	struct vmmexp_range range;

	b->len = trust_size(kind);
	b->mem = trust_memory(kind);
	ASSERT_NE(NULL, b->mem);
	vmm_fill(b->mem, b->len, 0, 1);
	range = vmm_range(b->mem, b->len);
	ASSERT_VMM_OK(export_with_event(b->dev, &range, 1, flags, b->event, &b->ex), &b->ex);
}

static void buffer_done(struct __test_metadata *_metadata, struct buffer *b)
{
	EXPECT_TRUE(vmm_pins_settle(b->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - b->pins);
	}
}

static int revoke_buffer(const struct buffer *b, struct vmmexp_revoke *revoke)
{
	return vmm_revoke(b->dev, b->ex.fd, revoke);
}

#define ASSERT_REVOKE(b) do { \
	struct vmmexp_revoke __revoke; \
	ASSERT_VMM_OK(revoke_buffer(b, &__revoke), &__revoke); \
} while (0)

static long long pages(const struct buffer *b)
{
	return b->len / b->page;
}

/* Revoked, and given back: no page is pinned any more, though everything is open. */
static void expect_released(struct __test_metadata *_metadata, struct buffer *b)
{
	EXPECT_TRUE(vmm_state_settle(b->dev, b->ex.fd, RELEASED)) {
		TH_LOG("state %#x", vmm_state(b->dev, b->ex.fd));
	}
	EXPECT_TRUE(vmm_pins_settle(b->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - b->pins);
	}
}

/* Revoked, and held by somebody: every page is still pinned. Given time to be wrong. */
static void expect_held(struct __test_metadata *_metadata, struct buffer *b)
{
	vmm_msleep(100);
	EXPECT_EQ(REVOKED, vmm_state(b->dev, b->ex.fd));
	EXPECT_EQ(b->pins + pages(b), vmm_pins());
}

FIXTURE(revoke)
{
	struct buffer b;
	const char *lacks;
};

FIXTURE_VARIANT(revoke)
{
	enum trust_kind kind;
	__u32 flags;
};

FIXTURE_VARIANT_ADD(revoke, anonymous) { .kind = TRUST_ANON };
FIXTURE_VARIANT_ADD(revoke, thp) { .kind = TRUST_THP };
FIXTURE_VARIANT_ADD(revoke, memfd) { .kind = TRUST_MEMFD };
FIXTURE_VARIANT_ADD(revoke, hugetlb) { .kind = TRUST_HUGETLB };
FIXTURE_VARIANT_ADD(revoke, read_only)
{
	.kind = TRUST_ANON,
	.flags = VMMEXP_EXPORT_READ_ONLY,
};

FIXTURE_SETUP(revoke)
{
	self->lacks = trust_lacks(variant->kind);
	buffer_open(_metadata, &self->b);
	if (!self->lacks)
		buffer_export(_metadata, &self->b, variant->kind, variant->flags);
}

FIXTURE_TEARDOWN_PARENT(revoke)
{
	buffer_done(_metadata, &self->b);
}

static bool writable(const struct _fixture_variant_revoke *variant)
{
	return !(variant->flags & VMMEXP_EXPORT_READ_ONLY);
}

/* How a buffer may be mapped, by a process and by a device. */
static int prot(const struct _fixture_variant_revoke *variant)
{
	return writable(variant) ? PROT_READ | PROT_WRITE : PROT_READ;
}

static __u32 direction(const struct _fixture_variant_revoke *variant)
{
	return writable(variant) ? VMMEXP_MOCK_BIDIRECTIONAL : VMMEXP_MOCK_TO_DEVICE;
}

/*
 * The memory.
 */
TEST_F(revoke, unused_buffer_is_released)
{
	struct vmmexp_info info;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_VMM_OK(vmm_info(self->b.dev, &info), &info);
	EXPECT_TRUE(info.features & VMMEXP_FEATURE_REVOKE);
	EXPECT_EQ(self->b.pins + pages(&self->b), vmm_pins());
	ASSERT_REVOKE(&self->b);
	expect_released(_metadata, &self->b);
	EXPECT_EQ(2, event_wait(self->b.event, 2));
}

TEST_F(revoke, memory_stays_the_exporters)
{
	struct vmmexp_export ex;
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 1));
	expect_released(_metadata, &self->b);
	EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 1));
	vmm_fill(self->b.mem, self->b.len, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 2));
	/* It can be exported again, and is the same memory. */
	ASSERT_VMM_OK(vmm_export(self->b.dev, self->b.mem, self->b.len, 0, &ex), &ex);
	EXPECT_EQ(LIVE, vmm_state(self->b.dev, ex.fd));
	view = vmm_map(ex.fd, 0, self->b.len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->b.len, 0, 2));
	vmm_fill(view, self->b.len, 0, 3);
	EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 3));
	ASSERT_EQ(0, munmap(view, self->b.len));
	close(ex.fd);
}

/* Of two buffers of the same memory one is revoked. */
TEST_F(revoke, other_buffers_of_the_memory_go_on)
{
	struct vmmexp_export other;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_VMM_OK(vmm_export(self->b.dev, self->b.mem, self->b.len, 0, &other), &other);
	ASSERT_EQ(0, vmm_peer_give(&self->b.peer, 0, other.fd, PROT_READ | PROT_WRITE));
	ASSERT_REVOKE(&self->b);
	EXPECT_TRUE(vmm_state_settle(self->b.dev, self->b.ex.fd, RELEASED));
	EXPECT_TRUE(vmm_pins_settle(self->b.pins + pages(&self->b)));
	EXPECT_EQ(LIVE, vmm_state(self->b.dev, other.fd));
	vmm_expect_shared(_metadata, &self->b.peer, 0, self->b.mem, self->b.len, 0, true);
}

/* The addresses may be gone long since. */
TEST_F(revoke, stale_buffer_is_revoked_too)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(self->b.mem, self->b.len));
	EXPECT_EQ(STALE, vmm_state(self->b.dev, self->b.ex.fd));
	EXPECT_EQ(1, event_count(self->b.event));
	ASSERT_REVOKE(&self->b);
	/* Revoked, and not stale besides. */
	expect_released(_metadata, &self->b);
	EXPECT_EQ(2, event_wait(self->b.event, 2));
}

/* What happens to the addresses later is of no interest any more. */
TEST_F(revoke, addresses_are_not_watched_any_more)
{
	int attachment, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(1, event_count(self->b.event));
	ASSERT_EQ(0, madvise(self->b.mem, self->b.len, MADV_DONTNEED));
	EXPECT_EQ(REVOKED, vmm_state(self->b.dev, self->b.ex.fd));
	touch(self->b.mem, self->b.len);
	EXPECT_EQ(REVOKED, vmm_state(self->b.dev, self->b.ex.fd));
	ASSERT_EQ(0, munmap(self->b.mem, self->b.len));
	EXPECT_EQ(REVOKED, vmm_state(self->b.dev, self->b.ex.fd));
	EXPECT_EQ(0, event_count(self->b.event));
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
	EXPECT_EQ(1, event_wait(self->b.event, 1));
}

TEST_F(revoke, closing_before_it_is_released_releases)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_REVOKE(&self->b);
	close(self->b.ex.fd);
	EXPECT_TRUE(vmm_pins_settle(self->b.pins));
}

/*
 * The call.
 */
TEST_F(revoke, again_is_no_failure_and_no_event)
{
	int attachment, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(1, event_count(self->b.event));
	ASSERT_REVOKE(&self->b);
	expect_held(_metadata, &self->b);
	EXPECT_EQ(0, event_count(self->b.event));
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
	EXPECT_EQ(1, event_wait(self->b.event, 1));
	ASSERT_REVOKE(&self->b);
	ASSERT_REVOKE(&self->b);
	expect_released(_metadata, &self->b);
	EXPECT_EQ(0, event_count(self->b.event));
}

TEST_F(revoke, query_goes_on)
{
	struct vmmexp_query before, query;
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	view = vmm_map(self->b.ex.fd, 0, self->b.len, PROT_READ);
	ASSERT_NE(NULL, view);
	ASSERT_VMM_OK(vmm_query(self->b.dev, self->b.ex.fd, &before), &before);
	EXPECT_EQ(1, before.cpu_mappings);
	ASSERT_REVOKE(&self->b);
	expect_released(_metadata, &self->b);
	ASSERT_VMM_OK(vmm_query(self->b.dev, self->b.ex.fd, &query), &query);
	EXPECT_EQ(before.size, query.size);
	EXPECT_EQ(before.data_offset, query.data_offset);
	EXPECT_EQ(before.data_size, query.data_size);
	EXPECT_EQ(before.nr_segs, query.nr_segs);
	EXPECT_EQ(before.kinds, query.kinds);
	EXPECT_EQ(before.alignment, query.alignment);
	EXPECT_EQ(before.export_flags, query.export_flags);
	/* The mapping is there, of nothing. */
	EXPECT_EQ(1, query.cpu_mappings);
	ASSERT_EQ(0, munmap(view, self->b.len));
	ASSERT_VMM_OK(vmm_query(self->b.dev, self->b.ex.fd, &query), &query);
	EXPECT_EQ(0, query.cpu_mappings);
	EXPECT_EQ(RELEASED, asker_state(&self->b.asker, self->b.ex.fd));
	EXPECT_EQ((long long)self->b.len, vmm_dmabuf_size(self->b.ex.fd));
}

/*
 * CPU mappings.
 */
TEST_F(revoke, mappings_are_sigbus)
{
	bool write = writable(variant);
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	view = vmm_map(self->b.ex.fd, 0, self->b.len, prot(variant));
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->b.len, 0, 1));
	expect_touch(_metadata, view, self->b.len, false, 0);
	ASSERT_REVOKE(&self->b);
	expect_touch(_metadata, view, self->b.len, write, SIGBUS);
	/* The mapping held nothing. */
	expect_released(_metadata, &self->b);
	expect_touch(_metadata, view, self->b.len, write, SIGBUS);
	EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 1));
	EXPECT_EQ(0, munmap(view, self->b.len));
}

/* Pages that nobody had touched before. */
TEST_F(revoke, untouched_mappings_are_sigbus)
{
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	view = vmm_map(self->b.ex.fd, 0, self->b.len, prot(variant));
	ASSERT_NE(NULL, view);
	ASSERT_REVOKE(&self->b);
	expect_touch(_metadata, view, self->b.len, writable(variant), SIGBUS);
}

/* The kernel on behalf of the process gets EFAULT, where the process gets the signal. */
TEST_F(revoke, system_calls_get_efault)
{
	int pipes[2];
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, pipe(pipes));
	view = vmm_map(self->b.ex.fd, 0, self->b.len, PROT_READ);
	ASSERT_NE(NULL, view);
	ASSERT_EQ(1, write(pipes[1], view, 1));
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(-1, write(pipes[1], view, 1));
	EXPECT_EQ(EFAULT, errno);
}

/* In every process that has one. */
TEST_F(revoke, mappings_of_others_are_sigbus)
{
	int status, byte[2], go[2];
	char *view, c;
	pid_t pid;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, pipe(byte));
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, vmm_peer_give(&self->b.peer, 0, self->b.ex.fd, PROT_READ));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->b.peer, 0, 0, self->b.len, 0, 1));
	view = vmm_map(self->b.ex.fd, 0, self->b.len, PROT_READ);
	ASSERT_NE(NULL, view);
	vmm_peek(view);
	/* One got it by SCM_RIGHTS, the other one by fork(). */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (touched(view, false) || write(byte[1], "", 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(touched(view, false) == SIGBUS ? 0 : 2);
	}
	ASSERT_EQ(1, read(byte[0], &c, 1));
	ASSERT_REVOKE(&self->b);
	ASSERT_EQ(1, write(go[1], "", 1));
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	/* It does not answer, it is dead. */
	EXPECT_EQ(-1000 - EPIPE, vmm_peer_mismatch(&self->b.peer, 0, 0, self->b.len, 0, 1));
	ASSERT_EQ(0, vmm_wait(self->b.peer.pid, &status, 10));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGBUS, WTERMSIG(status));
	expect_released(_metadata, &self->b);
}

/* Split, moved, and of a part only. */
TEST_F(revoke, mappings_of_parts_are_sigbus)
{
	size_t page = self->b.page;
	char *view, *part, *moved;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	view = vmm_map(self->b.ex.fd, 0, self->b.len, PROT_READ);
	ASSERT_NE(NULL, view);
	part = vmm_map(self->b.ex.fd, 2 * page, 3 * page, PROT_READ);
	ASSERT_NE(NULL, part);
	expect_touch(_metadata, view, self->b.len, false, 0);
	expect_touch(_metadata, part, 3 * page, false, 0);
	ASSERT_EQ(0, munmap(view + page, page));
	moved = mremap(part, 3 * page, 3 * page, MREMAP_MAYMOVE | MREMAP_FIXED, view + page);
	/* Over the rest of the first one. */
	ASSERT_EQ(view + page, moved);
	ASSERT_REVOKE(&self->b);
	expect_touch(_metadata, view, self->b.len, false, SIGBUS);
	EXPECT_EQ(0, munmap(view, self->b.len));
}

/* As a DRM driver's own mmap() gives them: it is handed to the exporter. */
TEST_F(revoke, mappings_by_an_importer_are_sigbus)
{
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, mock_mmap_choose(self->b.mock, self->b.ex.fd));
	view = mmap(NULL, self->b.len, prot(variant), MAP_SHARED, self->b.mock, 0);
	ASSERT_NE(MAP_FAILED, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->b.len, 0, 1));
	ASSERT_REVOKE(&self->b);
	expect_touch(_metadata, view, self->b.len, writable(variant), SIGBUS);
	expect_released(_metadata, &self->b);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->b.len, PROT_READ, MAP_SHARED, self->b.mock, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(0, munmap(view, self->b.len));
}

TEST_F(revoke, new_mappings_are_refused)
{
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_REVOKE(&self->b);
	view = vmm_map(self->b.ex.fd, 0, self->b.len, PROT_READ);
	EXPECT_EQ(NULL, view);
	EXPECT_EQ(ENODEV, errno);
	expect_released(_metadata, &self->b);
	EXPECT_EQ(NULL, vmm_map(self->b.ex.fd, 0, self->b.page, prot(variant)));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-ENODEV, vmm_peer_give(&self->b.peer, 0, self->b.ex.fd, PROT_READ));
}

/* A child after REVOKE has a copy of the mapping, and of what is left of it. */
TEST_F(revoke, fork_copies_no_access)
{
	int status;
	char *view;
	pid_t pid;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	view = vmm_map(self->b.ex.fd, 0, self->b.len, PROT_READ);
	ASSERT_NE(NULL, view);
	expect_touch(_metadata, view, self->b.len, false, 0);
	ASSERT_REVOKE(&self->b);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(touched(view, false) == SIGBUS ? 0 : 1);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/*
 * SYNC.
 */
TEST_F(revoke, sync_begins_no_more_and_always_ends)
{
	struct dma_buf_sync start = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	struct dma_buf_sync end = { .flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ };
	struct vmmexp_sync_range range = { 0, self->b.page };
	struct vmmexp_sync sync;
	int i;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_VMM_OK(vmm_sync(self->b.dev, self->b.ex.fd, NULL, 0,
			       VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, &sync), &sync);
	ASSERT_EQ(0, ioctl(self->b.ex.fd, DMA_BUF_IOCTL_SYNC, &start));
	ASSERT_REVOKE(&self->b);
	/* First as soon as it was revoked, then when the memory is gone. */
	for (i = 0; i < 2; i++) {
		EXPECT_VMM_ERROR(vmm_sync(self->b.dev, self->b.ex.fd, NULL, 0,
					  VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, &sync), &sync,
				 ENODEV, VMMEXP_REASON_REVOKED, 0);
		EXPECT_VMM_ERROR(vmm_sync(self->b.dev, self->b.ex.fd, &range, 1,
					  VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, &sync), &sync,
				 ENODEV, VMMEXP_REASON_REVOKED, 0);
		EXPECT_EQ(-1, ioctl(self->b.ex.fd, DMA_BUF_IOCTL_SYNC, &start));
		EXPECT_EQ(ENODEV, errno);
		EXPECT_EQ(-ENODEV, mock_cpu_access(self->b.mock, self->b.ex.fd,
						   VMMEXP_MOCK_FROM_DEVICE, false));
		EXPECT_VMM_OK(vmm_sync(self->b.dev, self->b.ex.fd, NULL, 0,
				       VMMEXP_SYNC_END | VMMEXP_SYNC_READ, &sync), &sync);
		EXPECT_VMM_OK(vmm_sync(self->b.dev, self->b.ex.fd, &range, 1,
				       VMMEXP_SYNC_END | VMMEXP_SYNC_READ, &sync), &sync);
		EXPECT_EQ(0, ioctl(self->b.ex.fd, DMA_BUF_IOCTL_SYNC, &end));
		EXPECT_EQ(0, mock_cpu_access(self->b.mock, self->b.ex.fd,
					     VMMEXP_MOCK_FROM_DEVICE, true));
		expect_released(_metadata, &self->b);
	}
}

TEST_F(revoke, sync_of_what_is_mapped_begins_no_more)
{
	struct vmmexp_mock_device device = { .dma_mask_bits = 64 };
	struct vmmexp_sync sync;
	int attachment, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	/* Where there is something to do, do it for a device that needs it. */
	if (vmm_config("CONFIG_X86") == 0)
		device.flags = VMMEXP_MOCK_NON_COHERENT;
	ASSERT_EQ(0, mock_device(self->b.mock, &device));
	attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	EXPECT_VMM_ERROR(vmm_sync(self->b.dev, self->b.ex.fd, NULL, 0,
				  VMMEXP_SYNC_BEGIN | VMMEXP_SYNC_READ, &sync), &sync,
			 ENODEV, VMMEXP_REASON_REVOKED, 0);
	EXPECT_VMM_OK(vmm_sync(self->b.dev, self->b.ex.fd, NULL, 0,
			       VMMEXP_SYNC_END | VMMEXP_SYNC_READ, &sync), &sync);
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
}

/*
 * Devices.
 */
TEST_F(revoke, device_keeps_what_it_has_mapped)
{
	struct vmmexp_query query;
	int attachment, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	expect_held(_metadata, &self->b);
	ASSERT_VMM_OK(vmm_query(self->b.dev, self->b.ex.fd, &query), &query);
	EXPECT_EQ(1, query.device_mappings);
	/* It is the exporter's memory that it sees, and not something that was it. */
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 1));
	vmm_fill(self->b.mem, self->b.len, 0, 2);
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 2));
	if (writable(variant)) {
		ASSERT_EQ(0, mock_fill(self->b.mock, DEVICE_IO, map, 0, self->b.len, 3));
		EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 3));
	}
	EXPECT_EQ(1, event_count(self->b.event));
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
	EXPECT_EQ(1, event_wait(self->b.event, 1));
	EXPECT_EQ(0, mock_detach(self->b.mock, attachment));
}

/* The memory is there yet, and there for the device alone. */
TEST_F(revoke, nobody_else_gets_at_what_a_device_has)
{
	char *view, *untouched;
	int attachment, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	view = vmm_map(self->b.ex.fd, 0, self->b.len, prot(variant));
	untouched = vmm_map(self->b.ex.fd, 0, self->b.len, prot(variant));
	ASSERT_NE(NULL, view);
	ASSERT_NE(NULL, untouched);
	expect_touch(_metadata, view, self->b.len, false, 0);
	attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	expect_touch(_metadata, view, self->b.len, writable(variant), SIGBUS);
	expect_touch(_metadata, untouched, self->b.len, writable(variant), SIGBUS);
	EXPECT_EQ(NULL, vmm_map(self->b.ex.fd, 0, self->b.len, PROT_READ));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-EINVAL, mock_vmap(self->b.mock, self->b.ex.fd, NULL));
	expect_held(_metadata, &self->b);
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 1));
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
}

/* Not before the last of several. */
TEST_F(revoke, last_device_mapping_releases)
{
	int first, second, maps[3], i;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	first = mock_attach(self->b.mock, self->b.ex.fd, 0);
	second = mock_attach(self->b.mock, self->b.ex.fd, VMMEXP_MOCK_IMPORTER_OPS);
	ASSERT_LE(0, first);
	ASSERT_LE(0, second);
	maps[0] = mock_map(self->b.mock, first, direction(variant));
	maps[1] = mock_map(self->b.mock, second, direction(variant));
	maps[2] = mock_map(self->b.mock, first, VMMEXP_MOCK_TO_DEVICE);
	ASSERT_REVOKE(&self->b);
	for (i = 0; i < 3; i++) {
		ASSERT_LE(0, maps[i]);
		expect_held(_metadata, &self->b);
		ASSERT_EQ(0, mock_unmap(self->b.mock, maps[i]));
	}
	expect_released(_metadata, &self->b);
}

TEST_F(revoke, mapping_for_a_device_is_refused)
{
	int before, after;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	before = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, before);
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(-ENODEV, mock_map(self->b.mock, before, direction(variant)));
	/* Attaching is no access. */
	after = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, after);
	EXPECT_EQ(-ENODEV, mock_map(self->b.mock, after, direction(variant)));
	/* An attachment holds nothing. */
	expect_released(_metadata, &self->b);
	after = mock_attach(self->b.mock, self->b.ex.fd, TOLD);
	ASSERT_LE(0, after);
	EXPECT_EQ(-ENODEV, mock_map(self->b.mock, after, direction(variant)));
	EXPECT_EQ(0, mock_detach(self->b.mock, after));
	EXPECT_EQ(0, mock_detach(self->b.mock, before));
}

/* While one device has it, another one does not get it. */
TEST_F(revoke, mapping_again_is_refused)
{
	int attachment, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(-ENODEV, mock_map(self->b.mock, attachment, direction(variant)));
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 1));
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
}

/* The device goes on although everything else is gone, and then nothing is left. */
TEST_F(revoke, device_outlives_everything_else)
{
	int attachment, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	close(self->b.ex.fd);
	close(self->b.dev);
	ASSERT_EQ(0, munmap(self->b.mem, self->b.len));
	EXPECT_EQ(self->b.pins + pages(&self->b), vmm_pins());
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 1));
	close(self->b.mock);
	EXPECT_TRUE(vmm_pins_settle(self->b.pins));
	/* Once, and not again when it was closed. */
	EXPECT_LE(1, event_count(self->b.event));
}

TEST_F(revoke, importers_that_can_are_told)
{
	int told, plain, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	told = mock_attach(self->b.mock, self->b.ex.fd, TOLD);
	plain = mock_attach(self->b.mock, self->b.ex.fd, VMMEXP_MOCK_IMPORTER_OPS);
	ASSERT_LE(0, told);
	ASSERT_LE(0, plain);
	map = mock_map(self->b.mock, told, direction(variant));
	ASSERT_LE(0, map);
	EXPECT_EQ(0, mock_invalidated(self->b.mock, told));
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(1, mock_invalidated(self->b.mock, told));
	EXPECT_EQ(0, mock_invalidated(self->b.mock, plain));
	/* Told, it takes its time. */
	expect_held(_metadata, &self->b);
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 1));
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
}

TEST_F(revoke, importers_that_let_go_release)
{
	int attachment, map, second;
	char byte;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	attachment = mock_attach(self->b.mock, self->b.ex.fd, LETS_GO);
	second = mock_attach(self->b.mock, self->b.ex.fd, LETS_GO);
	ASSERT_LE(0, attachment);
	ASSERT_LE(0, second);
	map = mock_map(self->b.mock, attachment, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_LE(0, mock_map(self->b.mock, second, direction(variant)));
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 1));
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(1, mock_invalidated(self->b.mock, attachment));
	EXPECT_EQ(-ENODEV, mock_read(self->b.mock, map, 0, &byte, 1));
	expect_released(_metadata, &self->b);
	EXPECT_EQ(0, mock_unmap(self->b.mock, map));
	EXPECT_EQ(-ENODEV, mock_map(self->b.mock, attachment, direction(variant)));
	expect_released(_metadata, &self->b);
}

/* One that lets go and one that cannot be told. */
TEST_F(revoke, who_is_not_told_holds_it)
{
	int told, plain, map;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	told = mock_attach(self->b.mock, self->b.ex.fd, LETS_GO);
	plain = mock_attach(self->b.mock, self->b.ex.fd, 0);
	ASSERT_LE(0, told);
	ASSERT_LE(0, plain);
	ASSERT_LE(0, mock_map(self->b.mock, told, direction(variant)));
	map = mock_map(self->b.mock, plain, direction(variant));
	ASSERT_LE(0, map);
	ASSERT_REVOKE(&self->b);
	expect_held(_metadata, &self->b);
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, DEVICE_IO, map, 0, self->b.len, 1));
	ASSERT_EQ(0, mock_unmap(self->b.mock, map));
	expect_released(_metadata, &self->b);
}

/*
 * Kernel mappings, which READ_ONLY buffers do not have.
 */
TEST_F(revoke, kernel_mapping_stays_until_it_is_given_back)
{
	struct vmmexp_query query;
	int vmap, second;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	vmap = mock_vmap(self->b.mock, self->b.ex.fd, NULL);
	if (!writable(variant)) {
		EXPECT_EQ(-EINVAL, vmap);
		ASSERT_REVOKE(&self->b);
		EXPECT_EQ(-EINVAL, mock_vmap(self->b.mock, self->b.ex.fd, NULL));
		return;
	}
	ASSERT_LE(0, vmap);
	second = mock_vmap(self->b.mock, self->b.ex.fd, NULL);
	ASSERT_LE(0, second);
	ASSERT_REVOKE(&self->b);
	expect_held(_metadata, &self->b);
	ASSERT_VMM_OK(vmm_query(self->b.dev, self->b.ex.fd, &query), &query);
	EXPECT_EQ(1, query.kernel_mappings);
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, KERNEL_IO, vmap, 0, self->b.len, 1));
	ASSERT_EQ(0, mock_fill(self->b.mock, KERNEL_IO, vmap, 0, self->b.len, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 2));
	/* The first of two to go is not the last. */
	ASSERT_EQ(0, mock_vunmap(self->b.mock, vmap));
	expect_held(_metadata, &self->b);
	EXPECT_EQ(-1, mock_mismatch(self->b.mock, KERNEL_IO, second, 0, self->b.len, 2));
	ASSERT_EQ(0, mock_vunmap(self->b.mock, second));
	expect_released(_metadata, &self->b);
	EXPECT_EQ(-1, vmm_mismatch(self->b.mem, self->b.len, 0, 2));
}

TEST_F(revoke, new_kernel_mapping_is_refused)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(-EINVAL, mock_vmap(self->b.mock, self->b.ex.fd, NULL));
	expect_released(_metadata, &self->b);
	EXPECT_EQ(-EINVAL, mock_vmap(self->b.mock, self->b.ex.fd, NULL));
}

/* One that was mapped for the kernel before, and is not any more. */
TEST_F(revoke, kernel_mapping_that_was_given_back_is_not_made_again)
{
	int vmap;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	if (!writable(variant)) {
		EXPECT_EQ(-EINVAL, mock_vmap(self->b.mock, self->b.ex.fd, NULL));
		return;
	}
	vmap = mock_vmap(self->b.mock, self->b.ex.fd, NULL);
	ASSERT_LE(0, vmap);
	ASSERT_EQ(0, mock_vunmap(self->b.mock, vmap));
	ASSERT_REVOKE(&self->b);
	EXPECT_EQ(-EINVAL, mock_vmap(self->b.mock, self->b.ex.fd, NULL));
	expect_released(_metadata, &self->b);
}

TEST_F(revoke, device_and_kernel_must_both_let_go)
{
	int attachment, map, vmap = -1, kernel_first;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	for (kernel_first = 0; kernel_first < 2; kernel_first++) {
		attachment = mock_attach(self->b.mock, self->b.ex.fd, 0);
		ASSERT_LE(0, attachment);
		map = mock_map(self->b.mock, attachment, direction(variant));
		ASSERT_LE(0, map);
		if (writable(variant)) {
			vmap = mock_vmap(self->b.mock, self->b.ex.fd, NULL);
			ASSERT_LE(0, vmap);
		}
		ASSERT_REVOKE(&self->b);
		expect_held(_metadata, &self->b);
		if (vmap >= 0 && kernel_first) {
			ASSERT_EQ(0, mock_vunmap(self->b.mock, vmap));
			expect_held(_metadata, &self->b);
		}
		ASSERT_EQ(0, mock_unmap(self->b.mock, map));
		if (vmap >= 0 && !kernel_first) {
			expect_held(_metadata, &self->b);
			ASSERT_EQ(0, mock_vunmap(self->b.mock, vmap));
		}
		expect_released(_metadata, &self->b);
		ASSERT_EQ(0, mock_detach(self->b.mock, attachment));
		close(self->b.ex.fd);
		ASSERT_EQ(0, munmap(self->b.mem, self->b.len));
		buffer_export(_metadata, &self->b, variant->kind, variant->flags);
	}
}

/*
 * DRM.
 */
TEST_F(revoke, prime_import_has_nothing_any_more)
{
	int card, handle, again;
	char *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	card = drm_card("vgem", "vgem");
	ASSERT_LE(0, card);
	handle = drm_import(card, self->b.ex.fd);
	ASSERT_LT(0, handle);
	again = drm_export(card, handle, DRM_CLOEXEC | DRM_RDWR);
	ASSERT_LE(0, again);
	view = vmm_map(again, 0, self->b.len, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->b.len, 0, 1));
	ASSERT_REVOKE(&self->b);
	expect_touch(_metadata, view, self->b.len, false, SIGBUS);
	EXPECT_EQ(NULL, vmm_map(again, 0, self->b.len, PROT_READ));
	EXPECT_EQ(ENODEV, errno);
	/* It is attached and holds nothing, neither does a new import. */
	expect_released(_metadata, &self->b);
	ASSERT_EQ(0, drm_close_handle(card, handle));
	handle = drm_import(card, self->b.ex.fd);
	EXPECT_LT(0, handle);
	EXPECT_EQ(0, drm_close_handle(card, handle));
	close(again);
	close(card);
	expect_released(_metadata, &self->b);
}

/*
 * Who may.
 */
FIXTURE(owner)
{
	struct buffer b;
	uid_t user;
};

FIXTURE_SETUP(owner)
{
	buffer_open(_metadata, &self->b);
	buffer_export(_metadata, &self->b, TRUST_ANON, 0);
	self->user = fresh_user(0);
}

FIXTURE_TEARDOWN_PARENT(owner)
{
	buffer_done(_metadata, &self->b);
}

/* Refused, and nothing happened to the buffer. */
static void expect_refused(struct __test_metadata *_metadata, struct buffer *b, int dev)
{
	struct vmmexp_revoke revoke;

	EXPECT_VMM_ERROR(vmm_revoke(dev, b->ex.fd, &revoke), &revoke,
			 EPERM, VMMEXP_REASON_NOT_OWNER, 0);
}

static void expect_untouched(struct __test_metadata *_metadata, struct buffer *b)
{
	char *view = vmm_map(b->ex.fd, 0, b->len, PROT_READ | PROT_WRITE);

	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, b->len, 0, 1));
	ASSERT_EQ(0, munmap(view, b->len));
	EXPECT_EQ(0, event_count(b->event));
	EXPECT_EQ(b->pins + pages(b), vmm_pins());
}

TEST_F(owner, duplicate_of_the_device_file_may)
{
	int again = dup(self->b.dev);
	struct vmmexp_revoke revoke;

	ASSERT_LE(0, again);
	close(self->b.dev);
	self->b.dev = again;
	ASSERT_VMM_OK(vmm_revoke(again, self->b.ex.fd, &revoke), &revoke);
	expect_released(_metadata, &self->b);
}

TEST_F(owner, duplicate_of_the_buffer_is_the_buffer)
{
	int again = dup(self->b.ex.fd);
	struct vmmexp_revoke revoke;

	ASSERT_LE(0, again);
	ASSERT_VMM_OK(vmm_revoke(self->b.dev, again, &revoke), &revoke);
	expect_released(_metadata, &self->b);
}

TEST_F(owner, other_open_of_the_device_may_not)
{
	int other = vmm_open();

	ASSERT_LE(0, other);
	/* Though it is the same process, and root. */
	expect_refused(_metadata, &self->b, other);
	expect_untouched(_metadata, &self->b);
	EXPECT_EQ(LIVE, vmm_state(other, self->b.ex.fd));
}

/* A child with the parent's device file, in whose memory there is a copy of the buffer's. */
TEST_F(owner, child_with_the_device_file_may)
{
	struct vmmexp_revoke revoke;
	int status;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(vmm_revoke(self->b.dev, self->b.ex.fd, &revoke) ? 1 : 0);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	expect_released(_metadata, &self->b);
}

/* The buffer and, or not, the device file passed to a process that has its own as well. */
static int recipient_main(int sock, bool with_device)
{
	struct vmmexp_revoke revoke;
	int own = vmm_open(), fd = vmm_recv_fd(sock), dev;
	int ret;

	if (own < 0 || fd < 0)
		return 10;
	ret = vmm_revoke(own, fd, &revoke);
	if (ret != -EPERM || revoke.reason != VMMEXP_REASON_NOT_OWNER)
		return 11;
	if (!with_device)
		return 0;
	dev = vmm_recv_fd(sock);
	if (dev < 0)
		return 12;
	/* Even as nobody special: whose file it is, may. */
	if (syscall(TRUST_SETRESUID, 12345, 12345, 12345))
		return 13;
	return vmm_revoke(dev, fd, &revoke) ? 14 : 0;
}

static void give_to_recipient(struct __test_metadata *_metadata, struct buffer *b,
			      bool with_device)
{
	int socks[2], status;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(b->dev);
		close(socks[0]);
		_exit(recipient_main(socks[1], with_device));
	}
	ASSERT_EQ(0, vmm_send_fd(socks[0], b->ex.fd));
	if (with_device)
		ASSERT_EQ(0, vmm_send_fd(socks[0], b->dev));
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(owner, recipient_of_the_buffer_may_not)
{
	give_to_recipient(_metadata, &self->b, false);
	expect_untouched(_metadata, &self->b);
}

TEST_F(owner, recipient_of_the_device_file_may)
{
	give_to_recipient(_metadata, &self->b, true);
	expect_released(_metadata, &self->b);
}

/* Nobody is left who could: the administrator can. */
TEST_F(owner, administrator_may_when_the_device_file_is_closed)
{
	struct vmmexp_revoke revoke;
	int other = vmm_open();

	ASSERT_LE(0, other);
	expect_refused(_metadata, &self->b, other);
	close(self->b.dev);
	self->b.dev = other;
	ASSERT_VMM_OK(vmm_revoke(other, self->b.ex.fd, &revoke), &revoke);
	expect_released(_metadata, &self->b);
}

/* Open somewhere is not closed. */
TEST_F(owner, administrator_may_not_while_a_duplicate_is_open)
{
	int again = dup(self->b.dev), other = vmm_open();

	ASSERT_LE(0, again);
	ASSERT_LE(0, other);
	close(self->b.dev);
	expect_refused(_metadata, &self->b, other);
	expect_untouched(_metadata, &self->b);
}

TEST_F(owner, others_may_not_when_the_device_file_is_closed)
{
	int other = vmm_open();

	ASSERT_LE(0, other);
	close(self->b.dev);
	ASSERT_EQ(0, become(self->user));
	expect_refused(_metadata, &self->b, other);
	/* No other capability will do. */
	ASSERT_EQ(0, raise_cap(CAP_IPC_LOCK));
	ASSERT_EQ(0, raise_cap(CAP_SYS_RAWIO));
	ASSERT_EQ(0, raise_cap(CAP_DAC_OVERRIDE));
	expect_refused(_metadata, &self->b, other);
	ASSERT_EQ(0, become(0));
	expect_untouched(_metadata, &self->b);
	/* This one will. */
	ASSERT_EQ(0, become(self->user));
	ASSERT_EQ(0, raise_cap(CAP_SYS_ADMIN));
	self->b.dev = other;
	ASSERT_REVOKE(&self->b);
	ASSERT_EQ(0, become(0));
	expect_released(_metadata, &self->b);
}

/* All capabilities, of another user namespace. */
TEST_F(owner, root_of_a_user_namespace_may_not)
{
	int other = vmm_open(), status;
	struct vmmexp_revoke revoke;
	char map[64];
	pid_t pid;

	ASSERT_LE(0, other);
	close(self->b.dev);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (syscall(TRUST_SETRESUID, self->user, self->user, self->user) ||
		    prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER))
			_exit(10);
		snprintf(map, sizeof(map), "0 %u 1", self->user);
		if (vmm_write_file("/proc/self/uid_map", map) ||
		    syscall(TRUST_SETRESUID, 0, 0, 0) || getuid())
			_exit(11);
		_exit(vmm_revoke(other, self->b.ex.fd, &revoke) != -EPERM ||
		      revoke.reason != VMMEXP_REASON_NOT_OWNER);
	}
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	expect_untouched(_metadata, &self->b);
}

/* One closed and opened again is another one, whatever its number or address. */
TEST_F(owner, next_open_of_the_device_is_another_one)
{
	int i;

	for (i = 0; i < 20; i++) {
		close(self->b.dev);
		self->b.dev = vmm_open();
		ASSERT_LE(0, self->b.dev);
		/* As root it could: not as the owner, but for the owner's absence. */
		ASSERT_EQ(0, become(self->user));
		expect_refused(_metadata, &self->b, self->b.dev);
		ASSERT_EQ(0, become(0));
	}
	expect_untouched(_metadata, &self->b);
}

/* The exporter is gone; who has its device file still can. */
TEST_F(owner, device_file_outlives_its_process)
{
	struct vmmexp_revoke revoke;
	int socks[2], status, dev, fd;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = mock_mem_anon(4 * self->b.page);
		struct vmmexp_export ex;

		dev = vmm_open();
		if (!mem || dev < 0 || vmm_export(dev, mem, 4 * self->b.page, 0, &ex) ||
		    vmm_send_fd(socks[1], ex.fd) || vmm_send_fd(socks[1], dev))
			_exit(1);
		_exit(0);
	}
	fd = vmm_recv_fd(socks[0]);
	dev = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_EQ(STALE, vmm_state(dev, fd));
	EXPECT_EQ(self->b.pins + pages(&self->b) + 4, vmm_pins());
	expect_refused(_metadata, &self->b, dev);
	ASSERT_VMM_OK(vmm_revoke(dev, fd, &revoke), &revoke);
	EXPECT_TRUE(vmm_state_settle(dev, fd, RELEASED));
	EXPECT_TRUE(vmm_pins_settle(self->b.pins + pages(&self->b)));
	expect_untouched(_metadata, &self->b);
}

/* The exporter need not have the buffer open: it is enough that somebody has. */
TEST_F(owner, exporter_gets_the_buffer_back_to_revoke_it)
{
	struct vmmexp_revoke revoke;
	int socks[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	ASSERT_EQ(0, vmm_send_fd(socks[0], self->b.ex.fd));
	close(self->b.ex.fd);
	self->b.ex.fd = vmm_recv_fd(socks[1]);
	ASSERT_LE(0, self->b.ex.fd);
	ASSERT_VMM_OK(vmm_revoke(self->b.dev, self->b.ex.fd, &revoke), &revoke);
	expect_released(_metadata, &self->b);
}

/* A device opened for reading makes buffers for reading, and may end them. */
TEST_F(owner, reading_device_file_revokes_what_it_made)
{
	int dev = open(VMM_DEVICE, O_RDONLY | O_CLOEXEC);
	struct vmmexp_revoke revoke;
	struct vmmexp_export ex;

	ASSERT_LE(0, dev);
	EXPECT_VMM_ERROR(vmm_export(dev, self->b.mem, self->b.len, 0, &ex), &ex,
			 EACCES, VMMEXP_REASON_READ_ONLY, 0);
	ASSERT_VMM_OK(vmm_export(dev, self->b.mem, self->b.len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	expect_refused(_metadata, &self->b, dev);
	ASSERT_VMM_OK(vmm_revoke(dev, ex.fd, &revoke), &revoke);
	EXPECT_TRUE(vmm_state_settle(dev, ex.fd, RELEASED));
	expect_untouched(_metadata, &self->b);
}

/*
 * Malformed calls, of which none does anything.
 */
TEST_F(owner, unknown_flags_are_refused)
{
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		struct vmmexp_revoke revoke = { .fd = self->b.ex.fd, .flags = 1u << bit };

		EXPECT_VMM_ERROR(vmm_ioctl(self->b.dev, VMMEXP_IOC_REVOKE, &revoke), &revoke,
				 EINVAL, VMMEXP_REASON_FLAGS, 0);
	}
	expect_untouched(_metadata, &self->b);
}

TEST_F(owner, padding_is_refused)
{
	struct vmmexp_revoke revoke = { .fd = self->b.ex.fd, .pad = 1 };

	EXPECT_VMM_ERROR(vmm_ioctl(self->b.dev, VMMEXP_IOC_REVOKE, &revoke), &revoke,
			 EINVAL, VMMEXP_REASON_PADDING, 0);
	expect_untouched(_metadata, &self->b);
}

TEST_F(owner, what_is_no_buffer_of_ours_is_refused)
{
	int foreign = vmm_foreign_dmabuf(self->b.len);
	struct vmmexp_revoke revoke;

	ASSERT_LE(0, foreign);
	EXPECT_VMM_ERROR(vmm_revoke(self->b.dev, -1, &revoke), &revoke,
			 EBADF, VMMEXP_REASON_BAD_FD, 0);
	EXPECT_VMM_ERROR(vmm_revoke(self->b.dev, 1 << 20, &revoke), &revoke,
			 EBADF, VMMEXP_REASON_BAD_FD, 0);
	EXPECT_VMM_ERROR(vmm_revoke(self->b.dev, self->b.dev, &revoke), &revoke,
			 EBADF, VMMEXP_REASON_NOT_OURS, 0);
	EXPECT_VMM_ERROR(vmm_revoke(self->b.dev, self->b.event, &revoke), &revoke,
			 EBADF, VMMEXP_REASON_NOT_OURS, 0);
	EXPECT_VMM_ERROR(vmm_revoke(self->b.dev, foreign, &revoke), &revoke,
			 EBADF, VMMEXP_REASON_NOT_OURS, 0);
	expect_untouched(_metadata, &self->b);
}

/* What was refused can be done right afterwards. */
TEST_F(owner, refusal_changes_nothing)
{
	int other = vmm_open();

	ASSERT_LE(0, other);
	expect_refused(_metadata, &self->b, other);
	ASSERT_REVOKE(&self->b);
	expect_released(_metadata, &self->b);
	/* Revoked already: still not theirs. */
	expect_refused(_metadata, &self->b, other);
}

TEST_HARNESS_MAIN
