// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long exported memory lives, and whose it stays: unmapping, exit, kill,
 * exec, fork, swapping, splitting and userfaultfd around an export, and races
 * with all of them. Whatever happened, the buffer keeps its bytes while
 * somebody holds it, and nothing stays pinned after that.
 */
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmmexp_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_HWPOISON
#define MADV_HWPOISON	100
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define NR_PAGES	8

#define THP_SIZE_FILE	"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

/* How long a race is run. */
#define RACE_MS		2000

enum kind { ANON, THP, MEMFD, SHARED_ANON, HUGETLB };

/* What the kernel must have for @kind. */
static const char *config_of(enum kind kind)
{
	switch (kind) {
	case THP:
		return vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	case HUGETLB:
		return vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	default:
		return NULL;
	}
}

static size_t size_of(enum kind kind)
{
	return kind == THP || kind == HUGETLB ? 2 << 20 : NR_PAGES * vmm_page_size();
}

/* Memory of @kind, NULL on failure. Usable in a child too: it asserts nothing. */
static char *memory(enum kind kind)
{
	size_t len = size_of(kind);
	int prot = PROT_READ | PROT_WRITE;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t room = len;
	int fd = -1;
	char *mem;

	switch (kind) {
	case ANON:
		break;
	case THP:
		room = 2 * len;
		break;
	case MEMFD:
		fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, len))
			return NULL;
		flags = MAP_SHARED;
		break;
	case SHARED_ANON:
		flags = MAP_SHARED | MAP_ANONYMOUS;
		break;
	case HUGETLB:
		flags |= MAP_HUGETLB;
		if (vmm_write_file(NR_HUGEPAGES, "4"))
			return NULL;
		break;
	}
	mem = mmap(NULL, room, prot, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	if (mem == MAP_FAILED)
		return NULL;
	if (kind == THP) {
		mem = (char *)(((uintptr_t)mem + len - 1) / len * len);
		if (madvise(mem, len, MADV_HUGEPAGE))
			return NULL;
	}
	return mem;
}

static char *anon(struct __test_metadata *_metadata, size_t len)
{
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	return mem;
}

/* Make the kernel give away whatever it believes to be free. */
static void churn(struct __test_metadata *_metadata)
{
	size_t len = 16 << 20;
	char *mem = anon(_metadata, len);

	memset(mem, 0xee, len);
	ASSERT_EQ(0, munmap(mem, len));
}

FIXTURE(life)
{
	int dev;
	long long pins;
	size_t page;
	size_t len;
	struct vmm_peer peer;
	struct vmm_peer second;
	const char *lacks;
};

FIXTURE_VARIANT(life)
{
	enum kind kind;
};

FIXTURE_VARIANT_ADD(life, anonymous) { .kind = ANON };
FIXTURE_VARIANT_ADD(life, thp) { .kind = THP };
FIXTURE_VARIANT_ADD(life, memfd) { .kind = MEMFD };
FIXTURE_VARIANT_ADD(life, shared_anonymous) { .kind = SHARED_ANON };
FIXTURE_VARIANT_ADD(life, hugetlb) { .kind = HUGETLB };

FIXTURE_SETUP(life)
{
	self->lacks = config_of(variant->kind);
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	ASSERT_EQ(0, vmm_peer_start(&self->peer));
	ASSERT_EQ(0, vmm_peer_start(&self->second));
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->page = vmm_page_size();
	self->len = size_of(variant->kind);
}

/* In the parent: whatever the test held is gone with its process. */
static void expect_pins(struct __test_metadata *_metadata, long long pins)
{
	EXPECT_TRUE(vmm_pins_settle(pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - pins);
	}
}

FIXTURE_TEARDOWN_PARENT(life)
{
	expect_pins(_metadata, self->pins);
}

/*
 * Another process that exports and hands the dma-buf over, then does as told.
 */
struct exporter {
	pid_t pid;
	int sock;
	int fd;
};

enum order { UNMAP = 'u', EXIT = 'x', EXEC = 'e' };

static void exporter_main(int sock, enum kind kind, size_t len)
{
	struct vmmexp_export ex;
	char *mem = memory(kind);
	char order, done = 0;
	int dev = vmm_open();

	if (!mem || dev < 0)
		_exit(1);
	vmm_fill(mem, len, 0, 1);
	if (vmm_export(dev, mem, len, 0, &ex) || vmm_send_fd(sock, ex.fd))
		_exit(1);
	while (recv(sock, &order, 1, 0) == 1) {
		switch (order) {
		case UNMAP:
			if (munmap(mem, len))
				_exit(1);
			break;
		case EXIT:
			_exit(0);
		case EXEC:
			execl("/bin/sleep", "sleep", "60", NULL);
			_exit(1);
		}
		send(sock, &done, 1, MSG_NOSIGNAL);
	}
	_exit(0);
}

static struct exporter start_exporter(struct __test_metadata *_metadata, enum kind kind)
{
	struct exporter exporter;
	int socks[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	exporter.pid = fork();
	ASSERT_LE(0, exporter.pid);
	if (!exporter.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(socks[0]);
		exporter_main(socks[1], kind, size_of(kind));
	}
	close(socks[1]);
	exporter.sock = socks[0];
	exporter.fd = vmm_recv_fd(exporter.sock);
	ASSERT_LE(0, exporter.fd) {
		TH_LOG("the exporter failed");
	}
	return exporter;
}

static void expect_intact(struct __test_metadata *_metadata, struct _test_data_life *self, int fd)
{
	char *view = vmm_map(fd, 0, self->len, PROT_READ | PROT_WRITE);

	ASSERT_NE(NULL, view);
	churn(_metadata);
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, 1));
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->peer, 0, view, self->len, 0, true);
	ASSERT_EQ(0, munmap(view, self->len));
}

TEST_F(life, both_processes_see_each_others_writes)
{
	struct vmmexp_export ex;
	char *mem;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	mem = memory(variant->kind);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, vmm_peer_give(&self->second, 0, ex.fd, PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, self->len, 0, true);
	vmm_expect_shared(_metadata, &self->second, 0, mem, self->len, 0, true);
	/* And the two others each other's. */
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 50));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->second, 0, 0, self->len, 0, 50));
}

TEST_F(life, survives_munmap)
{
	struct exporter exporter;
	char answer;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(1, send(exporter.sock, "u", 1, 0));
	ASSERT_EQ(1, recv(exporter.sock, &answer, 1, 0));
	expect_intact(_metadata, self, exporter.fd);
}

TEST_F(life, survives_exit_of_the_exporter)
{
	struct exporter exporter;
	int status;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(1, send(exporter.sock, "x", 1, 0));
	ASSERT_EQ(0, vmm_wait(exporter.pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	expect_intact(_metadata, self, exporter.fd);
}

TEST_F(life, survives_sigkill_of_the_exporter)
{
	struct exporter exporter;
	int status;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(0, kill(exporter.pid, SIGKILL));
	ASSERT_EQ(0, vmm_wait(exporter.pid, &status, 10));
	EXPECT_TRUE(WIFSIGNALED(status));
	expect_intact(_metadata, self, exporter.fd);
}

TEST_F(life, survives_exec_of_the_exporter)
{
	struct exporter exporter;
	char answer;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(1, send(exporter.sock, "e", 1, 0));
	/* The socket is closed by a successful exec. */
	ASSERT_EQ(0, recv(exporter.sock, &answer, 1, 0));
	EXPECT_EQ(-ETIMEDOUT, vmm_wait(exporter.pid, NULL, 0));
	expect_intact(_metadata, self, exporter.fd);
	kill(exporter.pid, SIGKILL);
}

TEST_F(life, survives_close_of_the_device)
{
	struct vmmexp_export ex;
	char *mem;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	mem = memory(variant->kind);
	ASSERT_NE(NULL, mem);
	vmm_fill(mem, self->len, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
	ASSERT_EQ(0, close(self->dev));
	ASSERT_EQ(0, munmap(mem, self->len));
	expect_intact(_metadata, self, ex.fd);
}

TEST_F(life, mapping_survives_close_of_every_descriptor)
{
	struct vmmexp_export ex;
	char *mem, *view;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	mem = memory(variant->kind);
	ASSERT_NE(NULL, mem);
	vmm_fill(mem, self->len, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
	view = vmm_map(ex.fd, 0, self->len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	ASSERT_EQ(0, close(ex.fd));
	ASSERT_EQ(0, close(self->dev));
	ASSERT_EQ(0, munmap(mem, self->len));
	churn(_metadata);
	/* Nothing of it was touched before: faults still find the memory. */
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, 1));
	vmm_fill(view, self->len, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, 2));
	EXPECT_EQ(self->pins + self->len / self->page, vmm_pins());
	ASSERT_EQ(0, munmap(view, self->len));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(life, last_holder_unpins_whoever_it_is)
{
	struct exporter exporter;
	long long held;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	held = self->pins + self->len / self->page;
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, exporter.fd, PROT_READ));
	ASSERT_EQ(0, vmm_peer_give(&self->second, 0, exporter.fd, PROT_READ));
	ASSERT_EQ(0, kill(exporter.pid, SIGKILL));
	ASSERT_EQ(0, vmm_wait(exporter.pid, NULL, 10));
	EXPECT_EQ(held, vmm_pins());
	close(exporter.fd);
	EXPECT_EQ(held, vmm_pins());
	/* One peer holds the mapping only, the other the descriptor only. */
	EXPECT_EQ(0, vmm_peer_close(&self->peer, 0));
	EXPECT_EQ(0, vmm_peer_unmap(&self->second, 0));
	EXPECT_EQ(held, vmm_pins());
	EXPECT_EQ(0, vmm_peer_unmap(&self->peer, 0));
	EXPECT_EQ(held, vmm_pins());
	EXPECT_EQ(0, vmm_peer_close(&self->second, 0));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(life, sigkill_of_the_last_holder_unpins)
{
	struct exporter exporter;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	exporter = start_exporter(_metadata, variant->kind);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, exporter.fd, PROT_READ));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	close(exporter.fd);
	ASSERT_EQ(0, kill(exporter.pid, SIGKILL));
	ASSERT_EQ(0, vmm_wait(exporter.pid, NULL, 10));
	EXPECT_EQ(self->pins + (long long)(self->len / self->page), vmm_pins());
	vmm_peer_kill(&self->peer);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* In flight in a socket nobody reads, and dropped with it. */
TEST_F(life, descriptor_in_flight_holds_and_lets_go)
{
	struct vmmexp_export ex;
	int socks[2];
	char *mem;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	mem = memory(variant->kind);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_send_fd(socks[0], ex.fd));
	close(ex.fd);
	ASSERT_EQ(0, munmap(mem, self->len));
	EXPECT_EQ(self->pins + (long long)(self->len / self->page), vmm_pins());
	close(socks[0]);
	close(socks[1]);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/*
 * fork(): whatever is copied, the exporter keeps the pages of the buffer.
 */
struct child {
	pid_t pid;
	int sock;
};

/* A child that fills its copy of @mem when told, and checks it is its own. */
static struct child start_child(struct __test_metadata *_metadata, char *mem, size_t len,
				__u32 expected)
{
	struct child child;
	int socks[2];
	char byte;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	child.pid = fork();
	ASSERT_LE(0, child.pid);
	if (!child.pid) {
		close(socks[0]);
		if (recv(socks[1], &byte, 1, 0) != 1)
			_exit(1);
		if (vmm_mismatch(mem, len, 0, expected) != -1)
			_exit(2);
		vmm_fill(mem, len, 0, 0xc0de);
		send(socks[1], &byte, 1, MSG_NOSIGNAL);
		if (recv(socks[1], &byte, 1, 0) != 1)
			_exit(1);
		_exit(vmm_mismatch(mem, len, 0, 0xc0de) == -1 ? 0 : 3);
	}
	close(socks[1]);
	child.sock = socks[0];
	return child;
}

static void let_child_write(struct __test_metadata *_metadata, struct child *child)
{
	char byte = 0;

	ASSERT_EQ(1, send(child->sock, &byte, 1, MSG_NOSIGNAL));
	ASSERT_EQ(1, recv(child->sock, &byte, 1, 0));
}

static void end_child(struct __test_metadata *_metadata, struct child *child)
{
	char byte = 0;
	int status;

	ASSERT_EQ(1, send(child->sock, &byte, 1, MSG_NOSIGNAL));
	ASSERT_EQ(0, vmm_wait(child->pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status));
	/* 2: it did not have the parent's bytes; 3: others wrote to its copy. */
	EXPECT_EQ(0, WEXITSTATUS(status));
}

FIXTURE(cow)
{
	int dev;
	long long pins;
	size_t len;
	struct vmm_peer peer;
	const char *lacks;
	char *mem;
};

FIXTURE_VARIANT(cow)
{
	enum kind kind;
	__u32 flags;
};

FIXTURE_VARIANT_ADD(cow, anonymous) { .kind = ANON };
FIXTURE_VARIANT_ADD(cow, anonymous_read_only)
{
	.kind = ANON,
	.flags = VMMEXP_EXPORT_READ_ONLY,
};

FIXTURE_VARIANT_ADD(cow, thp) { .kind = THP };
FIXTURE_VARIANT_ADD(cow, thp_read_only)
{
	.kind = THP,
	.flags = VMMEXP_EXPORT_READ_ONLY,
};

FIXTURE_VARIANT_ADD(cow, hugetlb) { .kind = HUGETLB };
FIXTURE_VARIANT_ADD(cow, hugetlb_read_only)
{
	.kind = HUGETLB,
	.flags = VMMEXP_EXPORT_READ_ONLY,
};

FIXTURE_SETUP(cow)
{
	self->lacks = config_of(variant->kind);
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	ASSERT_EQ(0, vmm_peer_start(&self->peer));
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->len = size_of(variant->kind);
	if (self->lacks)
		return;
	self->mem = memory(variant->kind);
	ASSERT_NE(NULL, self->mem);
	vmm_fill(self->mem, self->len, 0, 1);
}

FIXTURE_TEARDOWN_PARENT(cow)
{
	expect_pins(_metadata, self->pins);
}

static void export_to_peer(struct __test_metadata *_metadata, struct _test_data_cow *self,
			   __u32 flags)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, flags, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd,
				   flags ? PROT_READ : PROT_READ | PROT_WRITE));
	/* The children must not hold the buffer, only copies of the memory. */
	ASSERT_EQ(0, close(ex.fd));
}

TEST_F(cow, export_then_fork_child_writes_first)
{
	struct child child;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	export_to_peer(_metadata, self, variant->flags);
	child = start_child(_metadata, self->mem, self->len, 1);
	let_child_write(_metadata, &child);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, !variant->flags);
	end_child(_metadata, &child);
}

TEST_F(cow, export_then_fork_parent_writes_first)
{
	struct child child;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	export_to_peer(_metadata, self, variant->flags);
	child = start_child(_metadata, self->mem, self->len, 1);
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, !variant->flags);
	let_child_write(_metadata, &child);
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, !variant->flags);
	end_child(_metadata, &child);
}

TEST_F(cow, fork_then_export_child_writes_first)
{
	struct child child;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	child = start_child(_metadata, self->mem, self->len, 1);
	export_to_peer(_metadata, self, variant->flags);
	let_child_write(_metadata, &child);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, !variant->flags);
	end_child(_metadata, &child);
}

TEST_F(cow, fork_then_export_parent_writes_first)
{
	struct child child;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	child = start_child(_metadata, self->mem, self->len, 1);
	export_to_peer(_metadata, self, variant->flags);
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, !variant->flags);
	let_child_write(_metadata, &child);
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, !variant->flags);
	end_child(_metadata, &child);
}

/* What the peer writes is the exporter's, not the child's. */
TEST_F(cow, fork_does_not_give_the_child_the_peers_writes)
{
	struct child child;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	child = start_child(_metadata, self->mem, self->len, 1);
	export_to_peer(_metadata, self, variant->flags);
	if (variant->flags) {
		vmm_fill(self->mem, self->len, 0, 9);
	} else {
		ASSERT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 9)) {
			TH_LOG("the peer cannot write");
		}
	}
	/* The child checks for the bytes it had at fork(). */
	let_child_write(_metadata, &child);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 9));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 9));
	end_child(_metadata, &child);
}

/* A mapping of the dma-buf is shared with the child, as any shared mapping. */
TEST_F(cow, fork_shares_the_dma_bufs_mapping)
{
	struct vmmexp_export ex;
	int status;
	char *view;
	pid_t pid;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, variant->flags, &ex), &ex);
	view = vmm_map(ex.fd, 0, self->len, PROT_READ);
	ASSERT_NE(NULL, view);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(vmm_mismatch(view, self->len, 0, 1) != -1);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
}

/*
 * The device file belongs to nobody: memory is always the caller's.
 */
FIXTURE(process)
{
	int dev;
	long long pins;
	size_t page;
	size_t len;
	struct vmm_peer peer;
	char *mem;
};

FIXTURE_SETUP(process)
{
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	ASSERT_EQ(0, vmm_peer_start(&self->peer));
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->page = vmm_page_size();
	self->len = NR_PAGES * self->page;
	self->mem = anon(_metadata, self->len);
	vmm_fill(self->mem, self->len, 0, 1);
}

FIXTURE_TEARDOWN_PARENT(process)
{
	expect_pins(_metadata, self->pins);
}

TEST_F(process, inherited_device_file_exports_the_childs_memory)
{
	int socks[2], status, fd;
	char *view;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vmmexp_export ex;

		vmm_fill(self->mem, self->len, 0, 2);
		if (vmm_export(self->dev, self->mem, self->len, 0, &ex))
			_exit(1);
		_exit(vmm_send_fd(socks[1], ex.fd) ? 2 : 0);
	}
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	fd = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, fd);
	view = vmm_map(fd, 0, self->len, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 1));
}

TEST_F(process, exec_closes_a_cloexec_descriptor)
{
	struct vmmexp_export ex;
	pid_t pid;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		execl("/bin/sleep", "sleep", "60", NULL);
		_exit(1);
	}
	close(ex.fd);
	/* Only the child's copy is left, until its exec. */
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	kill(pid, SIGKILL);
	ASSERT_EQ(0, vmm_wait(pid, NULL, 10));
}

TEST_F(process, exec_keeps_a_descriptor_without_cloexec)
{
	struct vmmexp_range range = vmm_range(self->mem, self->len);
	struct vmmexp_export ex = {
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
		.range_size = sizeof(range),
	};
	char path[64], link[64] = "";
	unsigned int tries;
	pid_t pid;

	ASSERT_VMM_OK(vmm_export_call(self->dev, &ex), &ex);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		execl("/bin/sleep", "sleep", "60", NULL);
		_exit(1);
	}
	close(ex.fd);
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	for (tries = 0; tries < 100 && strncmp(link, "sleep", 5); tries++) {
		vmm_msleep(20);
		vmm_read_file(path, link, sizeof(link));
	}
	EXPECT_EQ(0, strncmp(link, "sleep", 5));
	EXPECT_EQ(self->pins + NR_PAGES, vmm_pins());
	kill(pid, SIGKILL);
	ASSERT_EQ(0, vmm_wait(pid, NULL, 10));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/*
 * What the exporter does to its own mappings.
 */
static void export_page_to_peer(struct __test_metadata *_metadata, struct _test_data_process *self,
				char *mem, size_t len)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, len, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	close(ex.fd);
}

TEST_F(process, mremap_takes_the_buffer_along)
{
	char *target = anon(_metadata, self->len);

	export_page_to_peer(_metadata, self, self->mem, self->len);
	ASSERT_EQ(target, mremap(self->mem, self->len, self->len,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->peer, 0, target, self->len, 0, true);
}

TEST_F(process, mremap_that_shrinks_leaves_the_buffer_whole)
{
	export_page_to_peer(_metadata, self, self->mem, self->len);
	ASSERT_EQ(self->mem, mremap(self->mem, self->len, self->page, 0));
	churn(_metadata);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->page, 0, true);
}

TEST_F(process, dontneed_gives_the_exporter_new_pages)
{
	size_t i;

	export_page_to_peer(_metadata, self, self->mem, self->len);
	ASSERT_EQ(0, madvise(self->mem, self->len, MADV_DONTNEED));
	for (i = 0; i < self->len; i++) {
		ASSERT_EQ(0, self->mem[i]) {
			TH_LOG("byte %zu is an old one", i);
		}
	}
	churn(_metadata);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	/* From here on they are two. */
	vmm_fill(self->mem, self->len, 0, 2);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 3));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 2));
}

TEST_F(process, mprotect_after_export_leaves_the_peer_its_rights)
{
	export_page_to_peer(_metadata, self, self->mem, self->len);
	ASSERT_EQ(0, mprotect(self->mem, self->len, PROT_NONE));
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 2));
	ASSERT_EQ(0, mprotect(self->mem, self->len, PROT_READ));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->len, 0, 2));
}

TEST_F(process, memfd_truncation_leaves_the_buffer_whole)
{
	int fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
	char *mem;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, self->len));
	mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	vmm_fill(mem, self->len, 0, 1);
	export_page_to_peer(_metadata, self, mem, self->len);
	ASSERT_EQ(0, ftruncate(fd, 0));
	ASSERT_EQ(0, ftruncate(fd, self->len));
	churn(_metadata);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	/* The file has new pages now. */
	EXPECT_EQ(0, mem[0]);
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 2));
	EXPECT_EQ(0, mem[0]);
}

TEST_F(process, memfd_hole_leaves_the_buffer_whole)
{
	int fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
	char *mem;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, self->len));
	mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	vmm_fill(mem, self->len, 0, 1);
	export_page_to_peer(_metadata, self, mem, self->len);
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, self->page,
			       2 * self->page));
	churn(_metadata);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	EXPECT_EQ(0, mem[self->page]);
	/* Outside the hole file and buffer are one. */
	vmm_expect_shared(_metadata, &self->peer, 0, mem, self->page, 0, true);
}

/*
 * What the kernel does with memory that is not pinned, it must leave alone.
 */
static void expect_same_frames(struct __test_metadata *_metadata, char *mem, size_t len,
			       const long long *pfns)
{
	size_t page = vmm_page_size(), i;

	for (i = 0; i < len / page; i++) {
		/* A page may be taken out of the page table; a touch finds it. */
		vmm_peek(mem + i * page);
		EXPECT_EQ(pfns[i], vmm_pfn(mem + i * page)) {
			TH_LOG("page %zu moved", i);
		}
	}
}

static void note_frames(struct __test_metadata *_metadata, char *mem, size_t len, long long *pfns)
{
	size_t page = vmm_page_size(), i;

	for (i = 0; i < len / page; i++) {
		pfns[i] = vmm_pfn(mem + i * page);
		ASSERT_LT(0, pfns[i]);
	}
}

TEST_F(process, compaction_does_not_move_it)
{
	long long pfns[NR_PAGES];

	export_page_to_peer(_metadata, self, self->mem, self->len);
	note_frames(_metadata, self->mem, self->len, pfns);
	ASSERT_EQ(0, vmm_write_file("/proc/sys/vm/compact_memory", "1"));
	expect_same_frames(_metadata, self->mem, self->len, pfns);
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, true);
}

TEST_F(process, ksm_does_not_merge_it)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_KSM");
	char *mem = anon(_metadata, 4 * self->page);
	unsigned int tries;
	size_t i;

	if (lacks)
		SKIP(return, "%s", lacks);
	/* Two pairs: one is exported, the other shows that merging works. */
	for (i = 0; i < 4; i++)
		vmm_fill(mem + i * self->page, self->page, 0, 77 + i / 2);
	export_page_to_peer(_metadata, self, mem, 2 * self->page);
	ASSERT_EQ(0, madvise(mem, 4 * self->page, MADV_MERGEABLE));
	ASSERT_EQ(0, vmm_write_file("/sys/kernel/mm/ksm/sleep_millisecs", "1"));
	ASSERT_EQ(0, vmm_write_file("/sys/kernel/mm/ksm/run", "1"));
	for (tries = 0; tries < 200; tries++) {
		if (vmm_pfn(mem + 2 * self->page) == vmm_pfn(mem + 3 * self->page))
			break;
		vmm_msleep(50);
	}
	ASSERT_EQ(0, vmm_write_file("/sys/kernel/mm/ksm/run", "0"));
	ASSERT_EQ(vmm_pfn(mem + 2 * self->page), vmm_pfn(mem + 3 * self->page));
	EXPECT_NE(vmm_pfn(mem), vmm_pfn(mem + self->page));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, 2 * self->page, 0, true);
	EXPECT_EQ(-1, vmm_mismatch(mem + 2 * self->page, self->page, 0, 78));
}

TEST_F(process, collapse_into_a_thp_does_not_move_it)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = anon(_metadata, 2 * huge);
	mem = (char *)(((uintptr_t)mem + huge - 1) / huge * huge);
	ASSERT_EQ(0, madvise(mem, huge, MADV_NOHUGEPAGE));
	memset(mem, 1, huge);
	export_page_to_peer(_metadata, self, mem + 5 * self->page, self->len);
	ASSERT_EQ(0, madvise(mem, huge, MADV_HUGEPAGE));
	EXPECT_NE(0, madvise(mem, huge, MADV_COLLAPSE));
	vmm_expect_shared(_metadata, &self->peer, 0, mem + 5 * self->page, self->len, 0, true);
}

/* Pages the process said it can do without, which it still reads. */
TEST_F(process, lazily_freed_memory_stays_once_exported)
{
	long long pfns[NR_PAGES];
	struct vmmexp_export ex;

	ASSERT_EQ(0, madvise(self->mem, self->len, MADV_FREE));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ));
	note_frames(_metadata, self->mem, self->len, pfns);
	ASSERT_EQ(0, madvise(self->mem, self->len, MADV_PAGEOUT));
	churn(_metadata);
	expect_same_frames(_metadata, self->mem, self->len, pfns);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, self->len, 0, false);
}

static void survive(int sig)
{
	(void)sig;
}

/* A page that goes bad under the buffer: the others stay, and the end is clean. */
TEST_F(process, poisoned_page_of_a_buffer_does_no_further_harm)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_MEMORY_FAILURE");
	size_t after = 4 * self->page;

	if (lacks)
		SKIP(return, "%s", lacks);
	export_page_to_peer(_metadata, self, self->mem, self->len);
	signal(SIGBUS, survive);
	/* Still pinned, so the kernel may well say that it could not do much. */
	madvise(self->mem + 3 * self->page, self->page, MADV_HWPOISON);
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem, 3 * self->page, 0, true);
	vmm_expect_shared(_metadata, &self->peer, 0, self->mem + after, self->len - after, after,
			  true);
	vmm_peer_stop(&self->peer);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* A huge page in pieces: every piece stays what it was. */
FIXTURE(split)
{
	struct _test_data_process p;
	const char *lacks;
	size_t huge;
	char *mem;
};

FIXTURE_SETUP(split)
{
	self->lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	self->p.pins = vmm_pins();
	if (self->lacks)
		return;
	ASSERT_LE(0, self->p.pins);
	ASSERT_EQ(0, vmm_peer_start(&self->p.peer));
	self->p.dev = vmm_open();
	ASSERT_LE(0, self->p.dev);
	self->p.page = vmm_page_size();
	self->huge = vmm_read_number(THP_SIZE_FILE);
	self->mem = memory(THP);
	ASSERT_NE(NULL, self->mem);
	vmm_fill(self->mem, self->huge, 0, 1);
	export_page_to_peer(_metadata, &self->p, self->mem, self->huge);
}

FIXTURE_TEARDOWN_PARENT(split)
{
	expect_pins(_metadata, self->p.pins);
}

TEST_F(split, by_partial_munmap)
{
	size_t half = self->huge / 2;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, munmap(self->mem + half, half));
	churn(_metadata);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->huge, 0, 1));
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem, half, 0, true);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, half, half, half, 1));
}

TEST_F(split, by_mprotect_of_one_page)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, mprotect(self->mem + 7 * self->p.page, self->p.page, PROT_READ));
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem, 7 * self->p.page, 0, true);
	ASSERT_EQ(0, mprotect(self->mem + 7 * self->p.page, self->p.page,
			      PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem, self->huge, 0, true);
}

TEST_F(split, by_dontneed_of_one_page)
{
	size_t page = self->p.page, after = 8 * page;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	ASSERT_EQ(0, madvise(self->mem + 7 * page, page, MADV_DONTNEED));
	EXPECT_EQ(0, self->mem[7 * page]);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->huge, 0, 1));
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem, 7 * page, 0, true);
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem + after, self->huge - after,
			  after, true);
}

TEST_F(split, by_mremap_of_one_page)
{
	size_t page = self->p.page;
	char *target;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	target = anon(_metadata, page);
	ASSERT_EQ(target, mremap(self->mem + 7 * page, page, page,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	vmm_expect_shared(_metadata, &self->p.peer, 0, target, page, 7 * page, true);
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem, 7 * page, 0, true);
}

TEST_F(split, by_fork_and_writes_of_the_child)
{
	struct child child;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	child = start_child(_metadata, self->mem, self->huge, 1);
	ASSERT_EQ(0, mprotect(self->mem, self->p.page, PROT_READ));
	ASSERT_EQ(0, mprotect(self->mem, self->p.page, PROT_READ | PROT_WRITE));
	let_child_write(_metadata, &child);
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem, self->huge, 0, true);
	end_child(_metadata, &child);
}

/*
 * Swap, on zram.
 */
struct cgroup {
	char dir[64];
	bool mounted;
};

/* Let @pid have no more memory than @max. */
static void enter_cgroup(struct __test_metadata *_metadata, struct cgroup *cgroup, pid_t pid,
			 const char *max)
{
	char path[128], text[32];

	snprintf(cgroup->dir, sizeof(cgroup->dir), "/tmp/vmmexp-cgroup-%d", getpid());
	ASSERT_EQ(0, mkdir(cgroup->dir, 0700));
	ASSERT_EQ(0, mount("none", cgroup->dir, "cgroup2", 0, NULL));
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", cgroup->dir);
	ASSERT_EQ(0, vmm_write_file(path, "+memory"));
	snprintf(path, sizeof(path), "%s/t", cgroup->dir);
	ASSERT_EQ(0, mkdir(path, 0700));
	cgroup->mounted = true;
	snprintf(path, sizeof(path), "%s/t/memory.max", cgroup->dir);
	ASSERT_EQ(0, vmm_write_file(path, max));
	snprintf(path, sizeof(path), "%s/t/cgroup.procs", cgroup->dir);
	snprintf(text, sizeof(text), "%d", pid);
	ASSERT_EQ(0, vmm_write_file(path, text));
}

/* In the parent, when everybody has left it. */
static void remove_cgroup(struct __test_metadata *_metadata, struct cgroup *cgroup)
{
	unsigned int tries;
	char path[128];

	if (!cgroup->mounted)
		return;
	snprintf(path, sizeof(path), "%s/t", cgroup->dir);
	for (tries = 0; tries < 100 && rmdir(path) && errno == EBUSY; tries++)
		vmm_msleep(20);
	EXPECT_EQ(-1, access(path, F_OK));
	EXPECT_EQ(0, umount(cgroup->dir));
	rmdir(cgroup->dir);
}

FIXTURE(swap)
{
	struct _test_data_process p;
	size_t len;
	int zram;
	struct cgroup cgroup;
};

FIXTURE_VARIANT(swap)
{
	enum kind kind;
};

FIXTURE_VARIANT_ADD(swap, anonymous) { .kind = ANON };
FIXTURE_VARIANT_ADD(swap, memfd) { .kind = MEMFD };

FIXTURE_SETUP(swap)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_ZRAM");

	self->zram = -1;
	self->p.pins = vmm_pins();
	ASSERT_LE(0, self->p.pins);
	ASSERT_EQ(0, vmm_peer_start(&self->p.peer));
	self->p.dev = vmm_open();
	ASSERT_LE(0, self->p.dev);
	self->p.page = vmm_page_size();
	self->len = 64 * self->p.page;

	if (lacks)
		SKIP(return, "%s", lacks);
	self->zram = vmm_swap_start();
	ASSERT_LE(0, self->zram);
}

FIXTURE_TEARDOWN_PARENT(swap)
{
	if (self->zram >= 0)
		EXPECT_EQ(0, vmm_swap_stop(self->zram));
	remove_cgroup(_metadata, &self->cgroup);
	expect_pins(_metadata, self->p.pins);
}

/* Shared or private memory of @len bytes. */
static char *swappable(struct __test_metadata *_metadata, enum kind kind, size_t len)
{
	int flags = MAP_ANONYMOUS | (kind == ANON ? MAP_PRIVATE : MAP_SHARED);
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	/* Swapped page by page, where there are huge ones. */
	madvise(mem, len, MADV_NOHUGEPAGE);
	return mem;
}

static long long swap_used(void)
{
	char line[256];
	long long total = 0, left = 0;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "SwapTotal:", 10))
			total = strtoll(line + 10, NULL, 10);
		if (!strncmp(line, "SwapFree:", 9))
			left = strtoll(line + 9, NULL, 10);
	}
	if (file)
		fclose(file);
	return (total - left) * 1024;
}

TEST_F(swap, exported_memory_is_not_paged_out_while_other_memory_is)
{
	char *exported = swappable(_metadata, variant->kind, self->len);
	char *other = swappable(_metadata, variant->kind, self->len);
	long long pfns[64], used;

	vmm_fill(exported, self->len, 0, 1);
	vmm_fill(other, self->len, 0, 2);
	export_page_to_peer(_metadata, &self->p, exported, self->len);
	note_frames(_metadata, exported, self->len, pfns);

	used = swap_used();
	ASSERT_EQ(0, madvise(other, self->len, MADV_PAGEOUT));
	EXPECT_LE(used + (long long)self->len / 2, swap_used()) {
		TH_LOG("the kernel does not swap: this test shows nothing");
	}
	used = swap_used();
	ASSERT_EQ(0, madvise(exported, self->len, MADV_PAGEOUT));
	EXPECT_GE(used, swap_used()) {
		TH_LOG("exported memory was swapped");
	}
	expect_same_frames(_metadata, exported, self->len, pfns);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->p.peer, 0, exported, self->len, 0, true);
	EXPECT_EQ(-1, vmm_mismatch(other, self->len, 0, 2));
}

TEST_F(swap, swapped_memory_is_brought_back_to_be_exported)
{
	char *mem = swappable(_metadata, variant->kind, self->len);
	long long used = swap_used();

	vmm_fill(mem, self->len, 0, 1);
	ASSERT_EQ(0, madvise(mem, self->len, MADV_PAGEOUT));
	EXPECT_LE(used + (long long)self->len / 2, swap_used());
	export_page_to_peer(_metadata, &self->p, mem, self->len);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->p.peer, 0, mem, self->len, 0, true);
}

/* Pressure of a memory cgroup: the process gets less than it uses. */
TEST_F(swap, exported_memory_survives_memory_pressure)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_MEMCG");
	size_t pressure = 24 << 20, i;
	char *exported, *other;
	long long pfns[64];

	if (lacks)
		SKIP(return, "%s", lacks);
	enter_cgroup(_metadata, &self->cgroup, getpid(), "12M");
	exported = swappable(_metadata, variant->kind, self->len);
	vmm_fill(exported, self->len, 0, 1);
	export_page_to_peer(_metadata, &self->p, exported, self->len);
	note_frames(_metadata, exported, self->len, pfns);
	other = swappable(_metadata, variant->kind, pressure);
	for (i = 0; i < pressure; i += self->p.page)
		vmm_fill(other + i, 64, i, 2);
	EXPECT_LE(pressure / 4, swap_used());

	expect_same_frames(_metadata, exported, self->len, pfns);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->p.peer, 0, exported, self->len, 0, true);
	for (i = 0; i < pressure; i += self->p.page) {
		ASSERT_EQ(-1, vmm_mismatch(other + i, 64, i, 2)) {
			TH_LOG("page %zu of the other memory", i / self->p.page);
		}
	}
}

/*
 * No swap, and less memory than what is to be exported.
 */
FIXTURE(oom)
{
	struct _test_data_process p;
	struct cgroup cgroup;
};

FIXTURE_SETUP(oom)
{
	self->p.pins = vmm_pins();
	ASSERT_LE(0, self->p.pins);
	self->p.dev = vmm_open();
	ASSERT_LE(0, self->p.dev);
}

FIXTURE_TEARDOWN_PARENT(oom)
{
	remove_cgroup(_metadata, &self->cgroup);
	expect_pins(_metadata, self->p.pins);
}

TEST_F(oom, kill_in_the_middle_of_a_pin_leaves_nothing_pinned)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_MEMCG");
	size_t len = 48 << 20;
	int start[2], status;
	char byte = 0;
	pid_t pid;

	if (lacks)
		SKIP(return, "%s", lacks);
	ASSERT_EQ(0, pipe(start));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vmmexp_export ex;
		char *mem;
		int ret;

		if (read(start[0], &byte, 1) != 1)
			_exit(1);
		mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ret = vmm_export(self->p.dev, mem, len, 0, &ex);
		_exit(ret == -ENOMEM && ex.reason == VMMEXP_REASON_NO_MEMORY ? 0 : 2);
	}
	enter_cgroup(_metadata, &self->cgroup, pid, "16M");
	ASSERT_EQ(1, write(start[1], &byte, 1));
	ASSERT_EQ(0, vmm_wait(pid, &status, 60)) {
		TH_LOG("neither killed nor refused");
	}
	/* Killed, mostly; to be refused would be fine, to succeed would not. */
	EXPECT_TRUE(WIFSIGNALED(status) || !WEXITSTATUS(status)) {
		TH_LOG("status %#x", status);
	}
	EXPECT_TRUE(vmm_pins_settle(self->p.pins));
}

/*
 * userfaultfd: memory that another thread, or process, provides.
 */
FIXTURE(uffd)
{
	struct _test_data_process p;
	int uffd;
	char *mem;
};

static int new_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -1;
	return fd;
}

static int watch(int uffd, char *mem, size_t len, __u64 mode)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)mem, .len = len },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

FIXTURE_SETUP(uffd)
{
	self->p.pins = vmm_pins();
	ASSERT_LE(0, self->p.pins);
	ASSERT_EQ(0, vmm_peer_start(&self->p.peer));
	self->p.dev = vmm_open();
	ASSERT_LE(0, self->p.dev);
	self->p.page = vmm_page_size();
	self->p.len = NR_PAGES * self->p.page;
	self->uffd = new_uffd();
	ASSERT_LE(0, self->uffd) {
		TH_LOG("userfaultfd: %s", strerror(errno));
	}
	self->mem = anon(_metadata, self->p.len);
	madvise(self->mem, self->p.len, MADV_NOHUGEPAGE);
}

FIXTURE_TEARDOWN_PARENT(uffd)
{
	expect_pins(_metadata, self->p.pins);
}

/* Wait for a fault; its address, 0 if none comes. */
static char *next_fault(int uffd, unsigned int ms)
{
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&pollfd, 1, ms) != 1 || read(uffd, &msg, sizeof(msg)) != sizeof(msg))
		return NULL;
	if (msg.event != UFFD_EVENT_PAGEFAULT)
		return NULL;
	return (char *)(uintptr_t)(msg.arg.pagefault.address & ~(__u64)(vmm_page_size() - 1));
}

/* Provide the page at @addr with the pattern that starts at @base. */
static int provide(int uffd, char *addr, char *base, __u32 seed)
{
	size_t page = vmm_page_size();
	char *source = malloc(page);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)addr,
		.src = (uintptr_t)source,
		.len = page,
	};
	int ret;

	vmm_fill(source, page, addr - base, seed);
	ret = ioctl(uffd, UFFDIO_COPY, &copy);
	free(source);
	return ret;
}

struct handler {
	int uffd;
	char *base;
	atomic_bool stop;
	atomic_uint served;
};

static void *handler_main(void *arg)
{
	struct handler *handler = arg;

	while (!handler->stop) {
		char *addr = next_fault(handler->uffd, 50);

		if (addr && !provide(handler->uffd, addr, handler->base, 1))
			handler->served++;
	}
	return NULL;
}

TEST_F(uffd, missing_pages_are_asked_for)
{
	struct handler handler = { .uffd = self->uffd, .base = self->mem };
	pthread_t thread;

	ASSERT_EQ(0, watch(self->uffd, self->mem, self->p.len, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, pthread_create(&thread, NULL, handler_main, &handler));
	export_page_to_peer(_metadata, &self->p, self->mem, self->p.len);
	handler.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(NR_PAGES, handler.served);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->p.len, 0, 1));
	vmm_expect_shared(_metadata, &self->p.peer, 0, self->mem, self->p.len, 0, true);
}

TEST_F(uffd, missing_shmem_pages_are_asked_for)
{
	char *mem = mmap(NULL, self->p.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	struct handler handler = { .uffd = self->uffd, .base = mem };
	pthread_t thread;

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, watch(self->uffd, mem, self->p.len, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, pthread_create(&thread, NULL, handler_main, &handler));
	export_page_to_peer(_metadata, &self->p, mem, self->p.len);
	handler.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(NR_PAGES, handler.served);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->p.len, 0, 1));
}

/* Missing pages between others, as a snapshot or a migration leaves them. */
TEST_F(uffd, only_missing_pages_are_asked_for)
{
	struct handler handler = { .uffd = self->uffd, .base = self->mem };
	pthread_t thread;
	size_t i;

	for (i = 0; i < NR_PAGES; i += 2)
		vmm_fill(self->mem + i * self->p.page, self->p.page, i * self->p.page, 1);
	ASSERT_EQ(0, watch(self->uffd, self->mem, self->p.len, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, pthread_create(&thread, NULL, handler_main, &handler));
	export_page_to_peer(_metadata, &self->p, self->mem, self->p.len);
	handler.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(NR_PAGES / 2, handler.served);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->p.peer, 0, 0, self->p.len, 0, 1));
}

struct export_call {
	int dev;
	void *mem;
	size_t len;
	struct vmmexp_export ex;
	int ret;
	atomic_bool done;
};

static void *export_main(void *arg)
{
	struct export_call *call = arg;

	call->ret = vmm_export(call->dev, call->mem, call->len, 0, &call->ex);
	call->done = true;
	return NULL;
}

/* The mmap lock must not be held while user space provides a page. */
TEST_F(uffd, other_threads_can_use_mmap_meanwhile)
{
	struct export_call call = {
		.dev = self->p.dev,
		.mem = self->mem,
		.len = self->p.page,
	};
	pthread_t thread;
	char *other;

	ASSERT_EQ(0, watch(self->uffd, self->mem, self->p.len, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, pthread_create(&thread, NULL, export_main, &call));
	ASSERT_EQ(self->mem, next_fault(self->uffd, 10000));
	other = anon(_metadata, self->p.page);
	ASSERT_EQ(0, munmap(other, self->p.page));
	EXPECT_FALSE(call.done);
	ASSERT_EQ(0, provide(self->uffd, self->mem, self->mem, 1));
	pthread_join(thread, NULL);
	EXPECT_VMM_OK(call.ret, &call.ex);
}

TEST_F(uffd, unmapped_while_waiting_is_a_hole)
{
	struct uffdio_range range = {
		.start = (uintptr_t)self->mem + 2 * self->p.page,
		.len = self->p.page,
	};
	struct export_call call = {
		.dev = self->p.dev,
		.mem = self->mem,
		.len = self->p.len,
	};
	pthread_t thread;

	memset(self->mem, 1, 2 * self->p.page);
	ASSERT_EQ(0, watch(self->uffd, self->mem, self->p.len, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, pthread_create(&thread, NULL, export_main, &call));
	ASSERT_EQ(self->mem + 2 * self->p.page, next_fault(self->uffd, 10000));
	ASSERT_EQ(0, munmap(self->mem + 2 * self->p.page, self->p.page));
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_WAKE, &range));
	pthread_join(thread, NULL);
	EXPECT_VMM_ERROR(call.ret, &call.ex, EFAULT, VMMEXP_REASON_HOLE, 2 * self->p.page);
	EXPECT_TRUE(vmm_pins_settle(self->p.pins));
}

TEST_F(uffd, write_protected_pages_are_asked_for)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HAVE_ARCH_USERFAULTFD_WP");
	struct export_call call = {
		.dev = self->p.dev,
		.mem = self->mem,
		.len = self->p.page,
	};
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)self->mem, .len = self->p.page },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	pthread_t thread;
	char *view;

	if (lacks)
		SKIP(return, "%s", lacks);
	vmm_fill(self->mem, self->p.page, 0, 1);
	ASSERT_EQ(0, watch(self->uffd, self->mem, self->p.page, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_WRITEPROTECT, &wp));
	ASSERT_EQ(0, pthread_create(&thread, NULL, export_main, &call));
	ASSERT_EQ(self->mem, next_fault(self->uffd, 10000));
	EXPECT_FALSE(call.done);
	wp.mode = 0;
	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_WRITEPROTECT, &wp));
	pthread_join(thread, NULL);
	ASSERT_VMM_OK(call.ret, &call.ex);
	view = vmm_map(call.ex.fd, 0, self->p.page, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->p.page, 0, 1));
}

/*
 * A process that waits for a page in the middle of its export, and whose
 * userfaultfd this process has.
 */
static atomic_int signals;

static void count_signal(int sig)
{
	(void)sig;
	signals++;
}

static void waiting_main(int sock, int dev, size_t len)
{
	struct sigaction action = { .sa_handler = count_signal };
	size_t page = vmm_page_size();
	struct vmmexp_export ex;
	int uffd = new_uffd();
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *view;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGUSR1, &action, NULL);
	if (uffd < 0 || mem == MAP_FAILED)
		_exit(10);
	madvise(mem, len, MADV_NOHUGEPAGE);
	vmm_fill(mem, len / 2, 0, 1);
	if (watch(uffd, mem, len, UFFDIO_REGISTER_MODE_MISSING))
		_exit(11);
	if (vmm_send_fd(sock, uffd) || send(sock, &mem, sizeof(mem), 0) != sizeof(mem))
		_exit(12);
	if (vmm_export(dev, mem, len, 0, &ex))
		_exit(13);
	view = vmm_map(ex.fd, 0, len, PROT_READ);
	if (!view || vmm_mismatch(view, len / 2 + page, 0, 1) != -1)
		_exit(14);
	_exit(signals ? 0 : 15);
}

TEST_F(uffd, sigkill_ends_the_wait_and_leaves_nothing_pinned)
{
	int socks[2], uffd, status;
	char *mem;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		waiting_main(socks[1], self->p.dev, self->p.len);
	uffd = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, uffd);
	ASSERT_EQ(sizeof(mem), recv(socks[0], &mem, sizeof(mem), MSG_WAITALL));
	ASSERT_EQ(mem + self->p.len / 2, next_fault(uffd, 10000));
	/* Half of it is pinned by now. */
	EXPECT_EQ(self->p.pins + NR_PAGES / 2, vmm_pins());
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, vmm_wait(pid, &status, 10)) {
		TH_LOG("it does not die");
	}
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TRUE(vmm_pins_settle(self->p.pins));
}

TEST_F(uffd, signal_with_a_handler_does_not_disturb_the_call)
{
	int socks[2], uffd, status;
	char *mem, *addr;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		waiting_main(socks[1], self->p.dev, self->p.len);
	uffd = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, uffd);
	ASSERT_EQ(sizeof(mem), recv(socks[0], &mem, sizeof(mem), MSG_WAITALL));
	addr = next_fault(uffd, 10000);
	ASSERT_EQ(mem + self->p.len / 2, addr);
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	vmm_msleep(100);
	EXPECT_EQ(-ETIMEDOUT, vmm_wait(pid, &status, 0));
	do {
		ASSERT_EQ(0, provide(uffd, addr, mem, 1));
		addr = next_fault(uffd, 1000);
	} while (addr);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* Pages that nobody will ever provide: closing the userfaultfd ends the wait. */
TEST_F(uffd, closing_it_ends_the_wait)
{
	struct export_call call = {
		.dev = self->p.dev,
		.mem = self->mem,
		.len = self->p.len,
	};
	pthread_t thread;

	ASSERT_EQ(0, watch(self->uffd, self->mem, self->p.len, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, pthread_create(&thread, NULL, export_main, &call));
	ASSERT_EQ(self->mem, next_fault(self->uffd, 10000));
	close(self->uffd);
	pthread_join(thread, NULL);
	EXPECT_VMM_OK(call.ret, &call.ex);
	EXPECT_EQ(self->p.len, call.ex.size);
}

/*
 * One page that is mapped @nr times in a row, each time by a mapping of its
 * own: as slow to pin as it gets, and all pins are the one page's.
 */
static char *one_page_many_times(size_t nr)
{
	size_t page = vmm_page_size(), i;
	int fd = memfd_create("vmmexp-test", MFD_CLOEXEC);
	char *mem = mmap(NULL, nr * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fd < 0 || mem == MAP_FAILED || ftruncate(fd, page))
		return NULL;
	for (i = 0; i < nr; i++) {
		if (mmap(mem + i * page, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 fd, 0) == MAP_FAILED)
			return NULL;
	}
	close(fd);
	return mem;
}

/* As many ranges of that as one call and one buffer may have. */
static unsigned int most_ranges(const struct vmmexp_info *info, char *mem, size_t len,
				struct vmmexp_range **ranges)
{
	unsigned int nr = info->max_size / len, i;

	if (nr > info->max_ranges)
		nr = info->max_ranges;
	*ranges = calloc(nr, sizeof(**ranges));
	for (i = 0; *ranges && i < nr; i++)
		(*ranges)[i] = vmm_range(mem, len);
	return *ranges ? nr : 0;
}

#define REPEATS	256

/* A fatal signal in the middle of a pin that takes long. */
TEST_F(process, sigkill_in_the_middle_of_a_large_pin_leaves_nothing_pinned)
{
	size_t len = REPEATS * self->page;
	struct vmmexp_range *ranges;
	struct vmmexp_info info;
	unsigned int tries, nr;
	int status, done[2];
	char byte, *mem;
	pid_t pid;

	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	mem = one_page_many_times(REPEATS);
	ASSERT_NE(NULL, mem);
	nr = most_ranges(&info, mem, len, &ranges);
	ASSERT_LT(100, nr);
	ASSERT_EQ(0, pipe(done));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vmmexp_export ex;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		vmm_export_ranges(self->dev, ranges, nr, 0, &ex);
		_exit(write(done[1], "x", 1) != 1);
	}
	close(done[1]);
	for (tries = 0; tries < 500 && vmm_pins() < self->pins + 2000; tries++)
		vmm_msleep(1);
	ASSERT_LT(tries, 500) {
		TH_LOG("the export does not begin");
	}
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, vmm_wait(pid, &status, 20)) {
		TH_LOG("it does not die");
	}
	EXPECT_TRUE(WIFSIGNALED(status));
	/* It died in the call, not after it. */
	EXPECT_EQ(0, read(done[0], &byte, 1));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/*
 * Many at once.
 */
TEST_F(process, a_thousand_buffers_at_once)
{
	enum { COUNT = 1000 };
	struct rlimit limit = { .rlim_cur = COUNT + 100, .rlim_max = COUNT + 100 };
	static int fds[COUNT];
	char *mem = anon(_metadata, COUNT * self->page);
	struct vmmexp_export ex;
	unsigned int i;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	for (i = 0; i < COUNT; i++) {
		vmm_fill(mem + i * self->page, 64, 0, i);
		ASSERT_VMM_OK(vmm_export(self->dev, mem + i * self->page, self->page, 0, &ex),
			      &ex);
		fds[i] = ex.fd;
	}
	EXPECT_EQ(self->pins + COUNT, vmm_pins());
	ASSERT_EQ(0, munmap(mem, COUNT * self->page));
	for (i = 0; i < COUNT; i++) {
		char *view = vmm_map(fds[i], 0, self->page, PROT_READ);

		ASSERT_NE(NULL, view);
		ASSERT_EQ(-1, vmm_mismatch(view, 64, 0, i)) {
			TH_LOG("buffer %u", i);
		}
		close(fds[i]);
		ASSERT_EQ(0, munmap(view, self->page));
	}
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(process, closed_by_several_processes_at_once)
{
	enum { ROUNDS = 10, PROCESSES = 8 };
	struct vmmexp_export ex;
	pid_t pids[PROCESSES];
	unsigned int round, i;
	int start[2];
	char byte;

	for (round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, pipe(start));
		ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
		for (i = 0; i < PROCESSES; i++) {
			pids[i] = fork();
			ASSERT_LE(0, pids[i]);
			if (!pids[i]) {
				char *view = vmm_map(ex.fd, 0, self->len, PROT_READ);

				close(start[1]);
				/* All let go when the pipe is closed. */
				if (!view || read(start[0], &byte, 1))
					_exit(1);
				if (i % 2)
					munmap(view, self->len);
				close(ex.fd);
				_exit(0);
			}
		}
		close(ex.fd);
		close(start[0]);
		close(start[1]);
		for (i = 0; i < PROCESSES; i++) {
			int status;

			ASSERT_EQ(0, vmm_wait(pids[i], &status, 10));
			ASSERT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
		}
		ASSERT_TRUE(vmm_pins_settle(self->pins)) {
			TH_LOG("round %u", round);
		}
	}
}

/*
 * Races. What comes out of one is not fixed, what may come out is.
 */
static bool out_of_time(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000 >
	       RACE_MS;
}

struct race {
	char *mem;
	size_t len;
	size_t page;
	int dev;
	atomic_bool stop;
	atomic_uint rounds;
	struct vmmexp_range range;
	struct vmmexp_export ex;
	atomic_int fd;
};

static void *unmap_and_map(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		munmap(race->mem + 2 * race->page, 2 * race->page);
		sched_yield();
		if (mmap(race->mem, race->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			abort();
		race->rounds++;
	}
	return NULL;
}

static void *protect_and_drop(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		mprotect(race->mem + race->page, 3 * race->page, PROT_NONE);
		sched_yield();
		mprotect(race->mem, race->len, PROT_READ);
		madvise(race->mem, race->len, MADV_DONTNEED);
		mprotect(race->mem, race->len, PROT_READ | PROT_WRITE);
		race->rounds++;
	}
	return NULL;
}

static bool may_lose(__u32 reason)
{
	return reason == VMMEXP_REASON_HOLE || reason == VMMEXP_REASON_NOT_READABLE ||
	       reason == VMMEXP_REASON_NOT_WRITABLE || reason == VMMEXP_REASON_FAULT ||
	       reason == VMMEXP_REASON_NOT_PINNABLE;
}

TEST_F(process, export_races_with_unmapping_and_protecting)
{
	struct race race = {
		.mem = self->mem,
		.len = self->len,
		.page = self->page,
		.dev = self->dev,
	};
	unsigned int good = 0, bad = 0;
	struct vmmexp_export ex;
	struct timespec start;
	pthread_t threads[2];

	clock_gettime(CLOCK_MONOTONIC, &start);
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, unmap_and_map, &race));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, protect_and_drop, &race));
	while (!out_of_time(&start)) {
		int ret = vmm_export(self->dev, self->mem, self->len,
				     bad % 2 ? VMMEXP_EXPORT_READ_ONLY : 0, &ex);

		if (!ret) {
			good++;
			EXPECT_EQ(self->len, ex.size);
			close(ex.fd);
			continue;
		}
		bad++;
		ASSERT_EQ(-EFAULT, ret) {
			TH_LOG("reason %u", ex.reason);
		}
		ASSERT_TRUE(may_lose(ex.reason)) {
			TH_LOG("reason %u", ex.reason);
		}
		ASSERT_GT(self->len, ex.error_offset);
	}
	race.stop = true;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	EXPECT_LT(10, good + bad);
	EXPECT_LT(0, race.rounds);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* fork() protects pages against writing while EXPORT pins them for it. */
TEST_F(process, export_races_with_fork)
{
	struct timespec start;
	unsigned int rounds = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!out_of_time(&start)) {
		struct export_call call = {
			.dev = self->dev,
			.mem = self->mem,
			.len = self->len,
		};
		pthread_t thread;
		char *view;
		pid_t pid;

		ASSERT_EQ(0, pthread_create(&thread, NULL, export_main, &call));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			vmm_fill(self->mem, self->len, 0, 0xdead);
			_exit(0);
		}
		pthread_join(thread, NULL);
		ASSERT_VMM_OK(call.ret, &call.ex);
		vmm_fill(self->mem, self->len, 0, rounds);
		view = vmm_map(call.ex.fd, 0, self->len, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, view);
		ASSERT_EQ(-1, vmm_mismatch(view, self->len, 0, rounds)) {
			TH_LOG("round %u: buffer and memory went apart", rounds);
		}
		ASSERT_EQ(0, vmm_wait(pid, NULL, 10));
		ASSERT_EQ(-1, vmm_mismatch(view, self->len, 0, rounds));
		ASSERT_EQ(0, munmap(view, self->len));
		close(call.ex.fd);
		rounds++;
	}
	EXPECT_LT(3, rounds);
}

/* What is read of the request must be read once. */
static void *change_request(void *arg)
{
	struct race *race = arg;
	__u64 start = race->range.start;

	while (!race->stop) {
		__atomic_store_n(&race->range.len, race->page, __ATOMIC_SEQ_CST);
		__atomic_store_n(&race->ex.nr_ranges, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&race->ex.flags, 0, __ATOMIC_SEQ_CST);
		sched_yield();
		__atomic_store_n(&race->range.len, race->len, __ATOMIC_SEQ_CST);
		__atomic_store_n(&race->ex.flags, VMMEXP_EXPORT_READ_ONLY, __ATOMIC_SEQ_CST);
		sched_yield();
		__atomic_store_n(&race->ex.nr_ranges, ~0u, __ATOMIC_SEQ_CST);
		__atomic_store_n(&race->range.start, ~start, __ATOMIC_SEQ_CST);
		__atomic_store_n(&race->range.start, start, __ATOMIC_SEQ_CST);
		race->rounds++;
	}
	return NULL;
}

TEST_F(process, export_races_with_changes_of_its_request)
{
	struct race race = {
		.mem = self->mem,
		.len = self->len,
		.page = self->page,
		.range = vmm_range(self->mem, self->page),
		.ex = { .range_size = sizeof(struct vmmexp_range), .nr_ranges = 1 },
	};
	unsigned int good = 0, calls = 0;
	struct vmmexp_query query;
	struct timespec start;
	pthread_t thread;

	race.ex.ranges = (uintptr_t)&race.range;
	clock_gettime(CLOCK_MONOTONIC, &start);
	ASSERT_EQ(0, pthread_create(&thread, NULL, change_request, &race));
	while (!out_of_time(&start)) {
		calls++;
		if (vmm_export_call(self->dev, &race.ex))
			continue;
		good++;
		ASSERT_VMM_OK(vmm_query(self->dev, race.ex.fd, &query), &query);
		/* One answer, and one that goes with the buffer. */
		EXPECT_TRUE(query.size == self->page || query.size == self->len);
		EXPECT_EQ(query.size, race.ex.size);
		EXPECT_EQ((long long)query.size, vmm_dmabuf_size(race.ex.fd));
		EXPECT_EQ(query.export_flags ? O_RDONLY : O_RDWR,
			  fcntl(race.ex.fd, F_GETFL) & O_ACCMODE);
		EXPECT_EQ(self->pins + (long long)(query.size / self->page), vmm_pins());
		close(race.ex.fd);
	}
	race.stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, good) {
		TH_LOG("%u calls", calls);
	}
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* The descriptor is closed, and its number used again, under the other calls. */
static void *close_and_reopen(void *arg)
{
	struct race *race = arg;
	struct vmmexp_export ex;

	while (!race->stop) {
		if (vmm_export(race->dev, race->mem, race->len, 0, &ex))
			abort();
		race->fd = ex.fd;
		sched_yield();
		close(ex.fd);
		race->rounds++;
	}
	return NULL;
}

static void do_nothing(int sig)
{
	(void)sig;
}

/* Exports for the first time, with much to lock and a signal on its way. */
static void first_export_main(int dev, const void *mem, size_t len, useconds_t when)
{
	const struct sigaction action = { .sa_handler = do_nothing, .sa_flags = SA_RESTART };
	size_t page = vmm_page_size();
	struct vmmexp_export ex;
	char *many;
	int i;

	many = mmap(NULL, 4000 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (many == MAP_FAILED || sigaction(SIGALRM, &action, NULL))
		_exit(10);
	for (i = 0; i < 4000; i += 2)
		if (mprotect(many + i * page, page, PROT_NONE))
			_exit(11);
	ualarm(when, 0);
	_exit(vmm_export(dev, mem, len, 0, &ex) ? ex.reason : 0);
}

/* The first export of a process takes all locks of its memory: a signal makes it start again. */
TEST_F(process, signals_do_not_disturb_the_first_export)
{
	int status, i;
	pid_t pid;

	for (i = 0; i < 30; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			first_export_main(self->dev, self->mem, self->len, 100 + i * 150);
		ASSERT_EQ(0, vmm_wait(pid, &status, 30));
		ASSERT_TRUE(WIFEXITED(status));
		ASSERT_EQ(0, WEXITSTATUS(status)) TH_LOG("at the time number %d", i);
	}
}

TEST_F(process, calls_race_with_close)
{
	struct race race = {
		.mem = self->mem,
		.len = self->len,
		.dev = self->dev,
		.fd = -1,
	};
	unsigned int good = 0;
	struct vmmexp_query query;
	struct vmmexp_sync sync;
	struct timespec start;
	pthread_t thread;
	char *view;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &start);
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_and_reopen, &race));
	while (!out_of_time(&start)) {
		ret = vmm_query(self->dev, race.fd, &query);
		ASSERT_TRUE(!ret || (ret == -EBADF &&
				     query.reason == VMMEXP_REASON_BAD_FD)) {
			TH_LOG("QUERY %d, reason %u", ret, query.reason);
		}
		ret = vmm_sync(self->dev, race.fd, NULL, 0, VMMEXP_SYNC_RW, &sync);
		ASSERT_TRUE(!ret || (ret == -EBADF &&
				     sync.reason == VMMEXP_REASON_BAD_FD)) {
			TH_LOG("SYNC %d, reason %u", ret, sync.reason);
		}
		good += !ret;
		view = vmm_map(race.fd, 0, self->len, PROT_READ);
		if (view) {
			ASSERT_EQ(-1, vmm_mismatch(view, self->len, 0, 1));
			ASSERT_EQ(0, munmap(view, self->len));
		}
	}
	race.stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, good);
	EXPECT_LT(0, race.rounds);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_HARNESS_MAIN
