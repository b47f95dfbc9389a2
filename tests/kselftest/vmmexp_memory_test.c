// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which memory vmmexp exports and which it refuses.
 *
 * Contents are always compared byte for byte in another process, which was
 * started before the memory existed and sees it through the dma-buf only.
 */
#include "kselftest_harness.h"

#include <fcntl.h>
#include <drm/drm.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmmexp_util.h"

#define NR_PAGES	8

/* From linux/mman.h and linux/kernel-page-flags.h, not in every C library. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_HWPOISON
#define MADV_HWPOISON	100
#endif
#define KPF_THP		22

/* The same number on all architectures that have it; 32-bit Arm has not. */
#define NR_MEMFD_SECRET	447

FIXTURE(memory)
{
	int dev;
	long long pins;
	size_t page;
	size_t len;
	struct vmm_peer peer;
};

static void setup(struct __test_metadata *_metadata, struct _test_data_memory *self)
{
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	ASSERT_EQ(0, vmm_peer_start(&self->peer));
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->page = vmm_page_size();
	self->len = NR_PAGES * self->page;
}

/* In the parent: whatever the test held is gone with its process. */
static void expect_pins(struct __test_metadata *_metadata, long long pins)
{
	EXPECT_TRUE(vmm_pins_settle(pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - pins);
	}
}

FIXTURE_SETUP(memory)
{
	setup(_metadata, self);
}

FIXTURE_TEARDOWN_PARENT(memory)
{
	expect_pins(_metadata, self->pins);
}

/* Anonymous memory of @len bytes, untouched. */
static char *anon(struct __test_metadata *_metadata, size_t len)
{
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	return mem;
}

/* A memfd of @len bytes. */
static int memfd(struct __test_metadata *_metadata, size_t len, unsigned int flags)
{
	int fd = memfd_create("vmmexp-test", MFD_CLOEXEC | flags);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, len));
	return fd;
}

static char *map(struct __test_metadata *_metadata, int fd, size_t len, int prot, int flags)
{
	char *mem = mmap(NULL, len, prot, flags, fd, 0);

	ASSERT_NE(MAP_FAILED, mem) {
		TH_LOG("mmap: %s", strerror(errno));
	}
	return mem;
}

/*
 * Export @len bytes at @mem and expect one buffer of @kinds whose bytes are
 * the process's, in both directions. The buffer stays, as slot 0 of the peer.
 */
static struct vmmexp_export expect_exported(struct __test_metadata *_metadata,
					    struct _test_data_memory *self,
					    void *mem, size_t len, __u32 kinds)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, len, 0, &ex), &ex);
	EXPECT_EQ(len, ex.size);
	EXPECT_EQ(kinds, ex.kinds);
	EXPECT_TRUE(vmm_pins_settle(self->pins + len / self->page)) {
		TH_LOG("%lld pages are pinned", vmm_pins() - self->pins);
	}
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, len, 0, true);
	return ex;
}

/*
 * Export @len bytes at @mem, whose contents are the pattern of @seed, READ_ONLY
 * and expect the peer to see them.
 */
static struct vmmexp_export expect_exported_read_only(struct __test_metadata *_metadata,
						      struct _test_data_memory *self,
						      void *mem, size_t len, __u32 kinds,
						      __u32 seed)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, len, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	EXPECT_EQ(len, ex.size);
	EXPECT_EQ(kinds, ex.kinds);
	EXPECT_TRUE(vmm_pins_settle(self->pins + len / self->page)) {
		TH_LOG("%lld pages are pinned", vmm_pins() - self->pins);
	}
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, len, 0, seed));
	return ex;
}

/* Expect that nothing is pinned any more. */
#define EXPECT_NOTHING_PINNED() EXPECT_TRUE(vmm_pins_settle(self->pins))

/*
 * Private memory of the process.
 */
TEST_F(memory, anonymous_touched)
{
	char *mem = anon(_metadata, self->len);

	memset(mem, 1, self->len);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_ANON);
}

TEST_F(memory, anonymous_untouched_is_brought_in)
{
	char *mem = anon(_metadata, self->len);

	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_ANON);
}

TEST_F(memory, anonymous_untouched_is_zero)
{
	char *mem = anon(_metadata, self->page);
	struct vmmexp_export ex;
	size_t i;
	char *view;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->page, 0, &ex), &ex);
	view = vmm_map(ex.fd, 0, self->page, PROT_READ);
	ASSERT_NE(NULL, view);
	for (i = 0; i < self->page; i++) {
		ASSERT_EQ(0, view[i]) {
			TH_LOG("byte %zu", i);
		}
	}
}

/* Read before: the shared zero page is there, and must not be what is exported. */
TEST_F(memory, anonymous_only_read_is_not_the_zero_page)
{
	char *mem = anon(_metadata, self->len);
	size_t i;

	for (i = 0; i < self->len; i += self->page) {
		ASSERT_EQ(0, vmm_peek(mem + i)) {
			TH_LOG("byte %zu", i);
		}
	}
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_ANON);
}

TEST_F(memory, anonymous_read_only_shows_later_writes)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_export ex;
	size_t i;

	for (i = 0; i < self->len / 2; i += self->page) {
		ASSERT_EQ(0, vmm_peek(mem + i)) {
			TH_LOG("byte %zu", i);
		}
	}
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, self->len, 0, false);
}

TEST_F(memory, anonymous_of_several_batches)
{
	size_t len = 20 << 20;
	char *mem = anon(_metadata, len);

	expect_exported(_metadata, self, mem, len, VMMEXP_KIND_ANON);
}

TEST_F(memory, anonymous_locked)
{
	char *mem = anon(_metadata, self->len);

	ASSERT_EQ(0, mlock(mem, self->len));
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_ANON);
}

TEST_F(memory, dev_zero_private_is_anonymous)
{
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	char *mem;

	ASSERT_LE(0, fd);
	mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_ANON);
}

TEST_F(memory, malloc_large)
{
	char *mem;

	ASSERT_EQ(0, posix_memalign((void **)&mem, self->page, 64 * self->page));
	expect_exported(_metadata, self, mem, 64 * self->page, VMMEXP_KIND_ANON);
}

TEST_F(memory, malloc_small_unaligned)
{
	size_t len = 1000;
	char *mem = malloc(len);
	struct vmmexp_export ex;

	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, len, VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(len, ex.data_size);
	EXPECT_EQ((uintptr_t)mem % self->page, ex.data_offset);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, len, ex.data_offset, true);
}

TEST_F(memory, stack)
{
	char room[NR_PAGES * 65536];
	char *mem = (char *)(((uintptr_t)room + self->page - 1) / self->page * self->page);

	expect_exported(_metadata, self, mem, 4 * self->page, VMMEXP_KIND_ANON);
}

static char bss[3 * 65536];
static char data[3 * 65536] = { 1 };

TEST_F(memory, bss)
{
	char *mem = (char *)(((uintptr_t)bss + 65535) / 65536 * 65536);

	expect_exported(_metadata, self, mem, 65536, VMMEXP_KIND_ANON);
}

/* A private mapping of the program's file, written to: the process's own. */
TEST_F(memory, initialised_data)
{
	char *mem = (char *)(((uintptr_t)data + 65535) / 65536 * 65536);
	struct vmmexp_export ex;

	memset(mem, 2, 65536);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, 65536, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, 65536, 0, true);
}

TEST_F(memory, program_text_read_only)
{
	char *mem = (char *)((uintptr_t)vmm_fill / self->page * self->page);
	struct vmmexp_export ex;
	char *view;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	view = vmm_map(ex.fd, 0, self->page, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(0, memcmp(mem, view, self->page));
}

/*
 * Shared memory.
 */
TEST_F(memory, memfd_shared)
{
	int fd = memfd(_metadata, self->len, 0);
	char *mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *again = map(_metadata, fd, self->len, PROT_READ, MAP_SHARED);

	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_SHMEM);
	/* It is the file's memory, not a copy: another mapping shows it. */
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 77));
	EXPECT_EQ(-1, vmm_mismatch(again, self->len, 0, 77));
}

TEST_F(memory, memfd_shared_touched)
{
	int fd = memfd(_metadata, self->len, 0);
	char *mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);

	vmm_fill(mem, self->len, 0, 1);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_SHMEM);
}

TEST_F(memory, memfd_shared_read_only_mapping)
{
	int fd = memfd(_metadata, self->len, 0);
	char *mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *ro = map(_metadata, fd, self->len, PROT_READ, MAP_SHARED);

	vmm_fill(mem, self->len, 0, 1);
	expect_exported_read_only(_metadata, self, ro, self->len, VMMEXP_KIND_SHMEM, 1);
	vmm_expect_shared(_metadata, &self->peer, 0, mem, self->len, 0, false);
}

/* Mapped through a descriptor that cannot write. */
TEST_F(memory, memfd_opened_read_only)
{
	int fd = memfd(_metadata, self->len, 0);
	char *mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	char path[64], *ro;
	int ro_fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro_fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ro_fd);
	ro = map(_metadata, ro_fd, self->len, PROT_READ, MAP_SHARED);
	vmm_fill(mem, self->len, 0, 1);
	expect_exported_read_only(_metadata, self, ro, self->len, VMMEXP_KIND_SHMEM, 1);
}

/* Written through the export, a private mapping of a file is its own memory. */
TEST_F(memory, memfd_private_does_not_change_the_file)
{
	int fd = memfd(_metadata, self->len, 0);
	char *file = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	struct vmmexp_export ex;

	vmm_fill(file, self->len, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 1));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, self->len, 0, true);
	EXPECT_EQ(-1, vmm_mismatch(file, self->len, 0, 1));
}

TEST_F(memory, tmpfs_file)
{
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *mem;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, self->len));
	mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_SHMEM);
}

TEST_F(memory, full_tmpfs_is_a_fault)
{
	struct vmmexp_export ex;
	char dir[64], path[128];
	char *mem;
	int fd;

	snprintf(dir, sizeof(dir), "/tmp/vmmexp-full-%d", getpid());
	ASSERT_EQ(0, mkdir(dir, 0700));
	snprintf(path, sizeof(path), "size=%zu", 4 * self->page);
	ASSERT_EQ(0, mount("none", dir, "tmpfs", 0, path));
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_EQ(0, umount2(dir, MNT_DETACH));
	rmdir(dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, self->len));
	mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->len, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_FAULT, 4 * self->page);
	EXPECT_NOTHING_PINNED();
}

TEST_F(memory, sysv_shared_memory)
{
	int id = shmget(IPC_PRIVATE, self->len, IPC_CREAT | 0600);
	char *mem;

	ASSERT_LE(0, id);
	mem = shmat(id, NULL, 0);
	ASSERT_EQ(0, shmctl(id, IPC_RMID, NULL));
	ASSERT_NE((void *)-1, mem);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_SHMEM);
}

TEST_F(memory, shared_anonymous)
{
	char *mem = map(_metadata, -1, self->len, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS);

	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_SHMEM);
}

/*
 * Huge pages.
 */
static bool is_thp(const void *addr)
{
	long long pfn = vmm_pfn(addr);
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	__u64 flags = 0;

	if (fd < 0)
		return false;
	if (pfn < 0 || pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) != sizeof(flags))
		flags = 0;
	close(fd);
	return flags >> KPF_THP & 1;
}

#define THP_SIZE_FILE	"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

/* @nr transparent huge pages in a row; each backs its part of memory alone. */
static char *thp(struct __test_metadata *_metadata, size_t huge, unsigned int nr)
{
	char *mem = anon(_metadata, (nr + 1) * huge);
	unsigned int i;

	mem = (char *)(((uintptr_t)mem + huge - 1) / huge * huge);
	ASSERT_EQ(0, madvise(mem, nr * huge, MADV_HUGEPAGE));
	for (i = 0; i < nr; i++) {
		mem[i * huge] = 1;
		if (!is_thp(mem + i * huge))
			madvise(mem + i * huge, huge, MADV_COLLAPSE);
		ASSERT_TRUE(is_thp(mem + i * huge)) {
			TH_LOG("the kernel gave no huge page");
		}
	}
	return mem;
}

static __u64 capped(size_t alignment)
{
	return alignment < 2 << 20 ? alignment : 2 << 20;
}

TEST_F(memory, thp_is_one_run)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	struct vmmexp_export ex;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = thp(_metadata, huge, 1);
	ex = expect_exported(_metadata, self, mem, huge, VMMEXP_KIND_ANON);
	EXPECT_EQ(1, ex.nr_segs);
	EXPECT_EQ(capped(huge), ex.alignment);
}

TEST_F(memory, thp_untouched_is_brought_in_huge)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = anon(_metadata, 2 * huge);
	mem = (char *)(((uintptr_t)mem + huge - 1) / huge * huge);
	ASSERT_EQ(0, madvise(mem, huge, MADV_HUGEPAGE));
	expect_exported(_metadata, self, mem, huge, VMMEXP_KIND_ANON);
	EXPECT_TRUE(is_thp(mem));
}

TEST_F(memory, part_of_a_thp)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	struct vmmexp_export ex;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = thp(_metadata, huge, 1);
	ex = expect_exported(_metadata, self, mem + 3 * self->page, 5 * self->page,
			     VMMEXP_KIND_ANON);
	EXPECT_EQ(1, ex.nr_segs);
	EXPECT_EQ(self->page, ex.alignment);
}

TEST_F(memory, range_across_thp_borders)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = thp(_metadata, huge, 3);
	expect_exported(_metadata, self, mem + huge - self->page, huge + 2 * self->page,
			VMMEXP_KIND_ANON);
}

TEST_F(memory, thp_read_only)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	struct vmmexp_export ex;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = thp(_metadata, huge, 1);
	vmm_fill(mem, huge, 0, 5);
	ex = expect_exported_read_only(_metadata, self, mem, huge, VMMEXP_KIND_ANON, 5);
	EXPECT_EQ(1, ex.nr_segs);
	vmm_expect_shared(_metadata, &self->peer, 0, mem, huge, 0, false);
}

/* The huge zero page is shared by all: it must not be what is exported. */
TEST_F(memory, thp_only_read_is_not_the_huge_zero_page)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	struct vmmexp_export ex;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = anon(_metadata, 2 * huge);
	mem = (char *)(((uintptr_t)mem + huge - 1) / huge * huge);
	ASSERT_EQ(0, madvise(mem, huge, MADV_HUGEPAGE));
	ASSERT_EQ(0, vmm_peek(mem));
	ASSERT_VMM_OK(vmm_export(self->dev, mem, huge, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, huge, 0, false);
}

#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

/* Default size of a hugetlb page, which the kernel gives in kB. */
static size_t hugetlb_size(void)
{
	char line[256];
	size_t size = 0;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "Hugepagesize:", 13))
			size = strtoul(line + 13, NULL, 10) * 1024;
	}
	if (file)
		fclose(file);
	return size;
}

/* Take four pages into the pool; more than any test below needs. */
static size_t hugetlb_pool(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, vmm_write_file(NR_HUGEPAGES, "4"));
	ASSERT_LE(2, vmm_read_number(NR_HUGEPAGES)) {
		TH_LOG("the kernel has no memory for huge pages");
	}
	ASSERT_LT(0, hugetlb_size());
	return hugetlb_size();
}

TEST_F(memory, hugetlb_anonymous)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	struct vmmexp_export ex;
	size_t huge;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	mem = map(_metadata, -1, huge, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	ex = expect_exported(_metadata, self, mem, huge, VMMEXP_KIND_HUGETLB);
	EXPECT_EQ(1, ex.nr_segs);
	EXPECT_EQ(capped(huge), ex.alignment);
}

TEST_F(memory, hugetlb_memfd_shared)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	struct vmmexp_export ex;
	size_t huge;
	char *mem;
	int fd;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	fd = memfd(_metadata, huge, MFD_HUGETLB);
	mem = map(_metadata, fd, huge, PROT_READ | PROT_WRITE, MAP_SHARED);
	ex = expect_exported(_metadata, self, mem, huge, VMMEXP_KIND_HUGETLB);
	EXPECT_EQ(1, ex.nr_segs);
}

TEST_F(memory, hugetlb_memfd_private_does_not_change_the_file)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	struct vmmexp_export ex;
	char *file, *mem;
	size_t huge;
	int fd;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	fd = memfd(_metadata, huge, MFD_HUGETLB);
	file = map(_metadata, fd, huge, PROT_READ | PROT_WRITE, MAP_SHARED);
	mem = map(_metadata, fd, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	vmm_fill(file, huge, 0, 3);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, huge, 0, &ex), &ex);
	EXPECT_EQ((__u32)VMMEXP_KIND_HUGETLB, ex.kinds);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, huge, 0, 3));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, huge, 0, true);
	EXPECT_EQ(-1, vmm_mismatch(file, huge, 0, 3));
}

TEST_F(memory, part_of_a_hugetlb_page)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	struct vmmexp_export ex;
	size_t huge;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	mem = map(_metadata, -1, 2 * huge, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	ex = expect_exported(_metadata, self, mem + huge - 4 * self->page, 8 * self->page,
			     VMMEXP_KIND_HUGETLB);
	EXPECT_GE(2, ex.nr_segs);
}

TEST_F(memory, hugetlb_read_only)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	size_t huge;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	mem = map(_metadata, -1, huge, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	vmm_fill(mem, huge, 0, 4);
	expect_exported_read_only(_metadata, self, mem, huge, VMMEXP_KIND_HUGETLB, 4);
	vmm_expect_shared(_metadata, &self->peer, 0, mem, huge, 0, false);
}

/* Unreserved huge pages that are not there when they are needed. */
TEST_F(memory, hugetlb_pool_exhausted_is_a_fault)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	struct vmmexp_export ex;
	long long nr;
	size_t huge;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	nr = vmm_read_number(NR_HUGEPAGES);
	mem = map(_metadata, -1, (nr + 1) * huge, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, (nr + 1) * huge, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_FAULT, nr * huge);
	EXPECT_NOTHING_PINNED();
}

TEST_F(memory, hugetlb_pool_gets_its_page_back)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	const char *free_file = "/sys/kernel/mm/hugepages/hugepages-%zukB/free_hugepages";
	struct vmmexp_export ex;
	long long before;
	char path[128];
	size_t huge;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	snprintf(path, sizeof(path), free_file, huge / 1024);
	before = vmm_read_number(path);
	ASSERT_LE(1, before);
	mem = map(_metadata, -1, huge, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, huge, 0, &ex), &ex);
	ASSERT_EQ(0, munmap(mem, huge));
	EXPECT_EQ(before - 1, vmm_read_number(path));
	close(ex.fd);
	EXPECT_NOTHING_PINNED();
	EXPECT_EQ(before, vmm_read_number(path));
}

/*
 * Memory that other drivers lend.
 */
TEST_F(memory, packet_ring_is_driver_pages)
{
	struct tpacket_req req = {
		.tp_block_size = self->len,
		.tp_block_nr = 1,
		.tp_frame_size = self->page,
		.tp_frame_nr = NR_PAGES,
	};
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	char *mem;

	if (sock < 0 && !vmm_config("CONFIG_PACKET"))
		SKIP(return, "not in this kernel: CONFIG_PACKET");
	ASSERT_LE(0, sock);
	ASSERT_EQ(0, setsockopt(sock, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)));
	mem = map(_metadata, sock, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_DRIVER);
}

TEST_F(memory, packet_ring_read_only)
{
	struct tpacket_req req = {
		.tp_block_size = self->len,
		.tp_block_nr = 1,
		.tp_frame_size = self->page,
		.tp_frame_nr = NR_PAGES,
	};
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	char *mem;

	if (sock < 0 && !vmm_config("CONFIG_PACKET"))
		SKIP(return, "not in this kernel: CONFIG_PACKET");
	ASSERT_LE(0, sock);
	ASSERT_EQ(0, setsockopt(sock, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)));
	mem = map(_metadata, sock, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	vmm_fill(mem, self->len, 0, 9);
	expect_exported_read_only(_metadata, self, mem, self->len, VMMEXP_KIND_DRIVER, 9);
}

/* What the process writes to a private mapping is its own, as with a file. */
TEST_F(memory, packet_ring_mapped_private_is_anonymous)
{
	struct tpacket_req req = {
		.tp_block_size = self->len,
		.tp_block_nr = 1,
		.tp_frame_size = self->page,
		.tp_frame_nr = NR_PAGES,
	};
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	char *mem;

	if (sock < 0 && !vmm_config("CONFIG_PACKET"))
		SKIP(return, "not in this kernel: CONFIG_PACKET");
	ASSERT_LE(0, sock);
	ASSERT_EQ(0, setsockopt(sock, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)));
	mem = map(_metadata, sock, self->len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_ANON);
}

/* An anonymous inode's pages; entries that are not submitted are just memory. */
TEST_F(memory, io_uring_ring_is_driver_pages)
{
	struct io_uring_params params = {};
	size_t entries = self->page / sizeof(struct io_uring_sqe) * 2;
	int ring = syscall(__NR_io_uring_setup, entries, &params);
	char *mem;

	if (ring < 0 && !vmm_config("CONFIG_IO_URING"))
		SKIP(return, "not in this kernel: CONFIG_IO_URING");
	ASSERT_LE(0, ring);
	mem = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		   IORING_OFF_SQES);
	ASSERT_NE(MAP_FAILED, mem);
	expect_exported(_metadata, self, mem, 2 * self->page, VMMEXP_KIND_DRIVER);
}

/* The lender is gone, the pages are not. */
TEST_F(memory, driver_pages_outlive_their_driver_file)
{
	struct tpacket_req req = {
		.tp_block_size = self->len,
		.tp_block_nr = 1,
		.tp_frame_size = self->page,
		.tp_frame_nr = NR_PAGES,
	};
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct vmmexp_export ex;
	char *mem;

	if (sock < 0 && !vmm_config("CONFIG_PACKET"))
		SKIP(return, "not in this kernel: CONFIG_PACKET");
	ASSERT_LE(0, sock);
	ASSERT_EQ(0, setsockopt(sock, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)));
	mem = map(_metadata, sock, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	vmm_fill(mem, self->len, 0, 11);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
	ASSERT_EQ(0, munmap(mem, self->len));
	ASSERT_EQ(0, close(sock));
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 11));
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 12));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->len, 0, 12));
}

/*
 * KSM: pages that look alike share one page until somebody writes.
 */
TEST_F(memory, merged_pages_are_unmerged)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_KSM");
	char *mem = anon(_metadata, 2 * self->page);
	struct vmmexp_export ex;
	unsigned int tries;

	if (lacks)
		SKIP(return, "%s", lacks);
	vmm_fill(mem, self->page, 0, 21);
	vmm_fill(mem + self->page, self->page, 0, 21);
	ASSERT_EQ(0, madvise(mem, 2 * self->page, MADV_MERGEABLE));
	ASSERT_EQ(0, vmm_write_file("/sys/kernel/mm/ksm/sleep_millisecs", "1"));
	ASSERT_EQ(0, vmm_write_file("/sys/kernel/mm/ksm/run", "1"));
	for (tries = 0; tries < 200 && vmm_pfn(mem) != vmm_pfn(mem + self->page); tries++)
		vmm_msleep(50);
	ASSERT_EQ(0, vmm_write_file("/sys/kernel/mm/ksm/run", "0"));
	ASSERT_EQ(vmm_pfn(mem), vmm_pfn(mem + self->page)) {
		TH_LOG("the kernel did not merge the pages");
	}

	/* READ_ONLY too: what the owner writes later must be seen. */
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ));
	vmm_expect_shared(_metadata, &self->peer, 0, mem, self->page, 0, false);
	EXPECT_EQ(-1, vmm_mismatch(mem + self->page, self->page, 0, 21));
}

/*
 * Lists of ranges.
 */
TEST_F(memory, mixed_list_is_one_buffer)
{
	int fd = memfd(_metadata, self->len, 0);
	char *shared = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *private = anon(_metadata, self->len);
	char room[4 * 65536];
	char *stack = (char *)(((uintptr_t)room + self->page - 1) / self->page * self->page);
	struct vmmexp_range ranges[] = {
		vmm_range(private + 2 * self->page, self->page),
		vmm_range(shared, 3 * self->page),
		vmm_range(stack, self->page),
		vmm_range(private, self->page),
		vmm_range(shared + 5 * self->page, 2 * self->page),
	};
	struct vmmexp_export ex;
	__u64 start = 0;
	size_t i;

	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, ARRAY_SIZE(ranges), 0, &ex), &ex);
	EXPECT_EQ(8 * self->page, ex.size);
	EXPECT_EQ(8 * self->page, ex.data_size);
	EXPECT_EQ((__u32)(VMMEXP_KIND_ANON | VMMEXP_KIND_SHMEM), ex.kinds);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		vmm_expect_shared(_metadata, &self->peer, 0, (void *)(uintptr_t)ranges[i].start,
				  ranges[i].len, start, true);
		start += ranges[i].len;
	}
}

TEST_F(memory, one_range_over_several_kinds)
{
	int fd = memfd(_metadata, 2 * self->page, 0);
	char *mem = anon(_metadata, 6 * self->page);

	ASSERT_EQ(mem + 2 * self->page, mmap(mem + 2 * self->page, 2 * self->page,
					     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
					     fd, 0));
	expect_exported(_metadata, self, mem, 6 * self->page,
			VMMEXP_KIND_ANON | VMMEXP_KIND_SHMEM);
}

TEST_F(memory, repeated_range_is_the_same_memory_twice)
{
	char *mem = anon(_metadata, self->page);
	struct vmmexp_range ranges[] = {
		vmm_range(mem, self->page),
		vmm_range(mem, self->page),
	};
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex);
	EXPECT_EQ(2, ex.nr_segs);
	EXPECT_EQ(2 * self->page, ex.size);
	EXPECT_TRUE(vmm_pins_settle(self->pins + 2));
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, self->page, self->page, 0, 6));
	EXPECT_EQ(-1, vmm_mismatch(mem, self->page, 0, 6));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, self->page, 0, 6));
}

TEST_F(memory, overlapping_ranges_share_the_overlap)
{
	char *mem = anon(_metadata, 4 * self->page);
	struct vmmexp_range ranges[] = {
		vmm_range(mem, 3 * self->page),
		vmm_range(mem + self->page, 3 * self->page),
	};
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	vmm_fill(mem, 4 * self->page, 0, 8);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, 3 * self->page, 0, 8));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 3 * self->page, 3 * self->page,
					self->page, 8));
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 3 * self->page, self->page, 0, 9));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, self->page, self->page, 0, 9));
}

TEST_F(memory, same_memory_in_two_buffers)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_export first, second;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &first), &first);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &second), &second);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, first.fd, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 1, second.fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, vmm_peer_fill(&self->peer, 0, 0, self->len, 0, 3));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 1, 0, self->len, 0, 3));
	vmm_expect_shared(_metadata, &self->peer, 1, mem, self->len, 0, true);
}

/*
 * Physical facts, judged by /proc/self/pagemap.
 */
TEST_F(memory, nr_segs_and_alignment_are_the_pagemaps)
{
	size_t nr = 64, i;
	char *mem = anon(_metadata, nr * self->page);
	__u64 alignment = 2 << 20, bits = 0, run_start;
	struct vmmexp_range ranges[64];
	struct vmmexp_export ex;
	long long pfns[64];
	unsigned int runs = 1;

	/* Touched and listed out of order, to have runs of all lengths. */
	madvise(mem, nr * self->page, MADV_NOHUGEPAGE);
	for (i = 0; i < nr; i++)
		mem[i * 37 % nr * self->page] = 1;
	for (i = 0; i < nr; i++)
		ranges[i] = vmm_range(mem + (i ^ (i & 8 ? 3 : 0)) * self->page, self->page);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, nr, 0, &ex), &ex);

	/* Only now: the pin may have moved them, from now on they stay. */
	for (i = 0; i < nr; i++) {
		pfns[i] = vmm_pfn((void *)(uintptr_t)ranges[i].start);
		ASSERT_LT(0, pfns[i]);
	}
	run_start = pfns[0] * self->page;
	for (i = 1; i < nr; i++) {
		if (pfns[i] == pfns[i - 1] + 1)
			continue;
		runs++;
		bits |= run_start | ((pfns[i - 1] + 1) * self->page - run_start);
		run_start = pfns[i] * self->page;
	}
	bits |= run_start;
	while (alignment > 1 && bits & (alignment - 1))
		alignment /= 2;
	EXPECT_EQ(runs, ex.nr_segs);
	EXPECT_EQ(alignment, ex.alignment);
}

TEST_F(memory, neighbouring_ranges_merge_into_one_run)
{
	char *mem = anon(_metadata, self->page);
	struct vmmexp_range whole[] = { vmm_range(mem, self->page) };
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export_ranges(self->dev, whole, 1, 0, &ex), &ex);
	EXPECT_EQ(1, ex.nr_segs);
	/* The length of the last run does not count, its start does. */
	EXPECT_EQ(0, (__u64)vmm_pfn(mem) * self->page % ex.alignment);
}

TEST_F(memory, thp_split_into_ranges_is_one_run)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	size_t huge = vmm_read_number(THP_SIZE_FILE);
	struct vmmexp_range ranges[3];
	struct vmmexp_export ex;
	char *mem;

	if (lacks)
		SKIP(return, "%s", lacks);
	mem = thp(_metadata, huge, 1);
	ranges[0] = vmm_range(mem, self->page);
	ranges[1] = vmm_range(mem + self->page, huge - 2 * self->page);
	ranges[2] = vmm_range(mem + huge - self->page, self->page);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 3, 0, &ex), &ex);
	EXPECT_EQ(1, ex.nr_segs);
	EXPECT_EQ(capped(huge), ex.alignment);
}

static int export_limited(int dev, const struct vmmexp_range *ranges, unsigned int nr,
			  __u32 flags, __u32 max_segs, __u32 phys_bits,
			  struct vmmexp_export *ex)
{
	memset(ex, 0, sizeof(*ex));
	ex->ranges = (uintptr_t)ranges;
	ex->nr_ranges = nr;
	ex->range_size = sizeof(*ranges);
	ex->flags = flags;
	ex->fd_flags = O_CLOEXEC;
	ex->max_segs = max_segs;
	ex->phys_bits = phys_bits;
	return vmm_export_call(dev, ex);
}

TEST_F(memory, max_segs_names_the_first_run_too_many)
{
	char *mem = anon(_metadata, self->page);
	struct vmmexp_range ranges[4];
	struct vmmexp_export ex;
	unsigned int i;

	for (i = 0; i < 4; i++)
		ranges[i] = vmm_range(mem, self->page);
	for (i = 1; i < 4; i++) {
		EXPECT_VMM_ERROR(export_limited(self->dev, ranges, 4, 0, i, 0, &ex), &ex,
				 EMLINK, VMMEXP_REASON_MAX_SEGS, i * self->page);
	}
	EXPECT_NOTHING_PINNED();
	EXPECT_VMM_OK(export_limited(self->dev, ranges, 4, 0, 4, 0, &ex), &ex);
	EXPECT_EQ(4, ex.nr_segs);
	EXPECT_VMM_OK(export_limited(self->dev, ranges, 1, 0, 1, 0, &ex), &ex);
	EXPECT_VMM_OK(export_limited(self->dev, ranges, 4, 0, ~0u, 0, &ex), &ex);
}

/* The place counts the bytes asked for, not those of the whole pages. */
TEST_F(memory, max_segs_place_counts_requested_bytes)
{
	char *mem = anon(_metadata, self->page);
	struct vmmexp_range ranges[] = {
		vmm_range(mem + 100, self->page - 100),
		vmm_range(mem, self->page),
	};
	struct vmmexp_export ex;

	EXPECT_VMM_ERROR(export_limited(self->dev, ranges, 2, VMMEXP_EXPORT_UNALIGNED, 1, 0, &ex),
			 &ex, EMLINK, VMMEXP_REASON_MAX_SEGS, self->page - 100);
}

static __u32 highest_bit(__u64 address)
{
	return 64 - __builtin_clzll(address);
}

TEST_F(memory, phys_bits_is_the_highest_bit_of_the_pagemap)
{
	char *mem = anon(_metadata, self->page);
	struct vmmexp_range range = vmm_range(mem, self->page);
	struct vmmexp_export ex;
	__u64 last;
	__u32 bits;

	/* Exported, and so in its place for good. */
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->page, 0, &ex), &ex);
	ASSERT_LT(0, vmm_pfn(mem));
	last = (vmm_pfn(mem) + 1) * self->page - 1;
	bits = highest_bit(last);
	EXPECT_VMM_OK(export_limited(self->dev, &range, 1, 0, 0, bits, &ex), &ex);
	EXPECT_VMM_ERROR(export_limited(self->dev, &range, 1, 0, 0, bits - 1, &ex), &ex,
			 ERANGE, VMMEXP_REASON_PHYS_BITS, 0);
	EXPECT_VMM_ERROR(export_limited(self->dev, &range, 1, 0, 0, 1, &ex), &ex,
			 ERANGE, VMMEXP_REASON_PHYS_BITS, 0);
	EXPECT_EQ(-1, ex.fd);
}

/* Of several pages, the first that lies too high is named. */
TEST_F(memory, phys_bits_names_the_first_page_too_high)
{
	size_t nr = 512, i;
	char *mem = anon(_metadata, nr * self->page);
	struct vmmexp_range ranges[2];
	struct vmmexp_export ex;
	__u32 bits, low_bits, high_bits;
	struct vmmexp_export whole;
	size_t low = 0, high = 0, place;

	/* Exported, and so in their places for good. */
	ASSERT_VMM_OK(vmm_export(self->dev, mem, nr * self->page, 0, &whole), &whole);
	for (i = 0; i < nr; i++) {
		ASSERT_LT(0, vmm_pfn(mem + i * self->page));
		if (vmm_pfn(mem + i * self->page) < vmm_pfn(mem + low * self->page))
			low = i;
		if (vmm_pfn(mem + i * self->page) > vmm_pfn(mem + high * self->page))
			high = i;
	}
	ranges[0] = vmm_range(mem + low * self->page, self->page);
	ranges[1] = vmm_range(mem + high * self->page, self->page);
	low_bits = highest_bit(vmm_pfn(mem + low * self->page) * self->page);
	high_bits = highest_bit(vmm_pfn(mem + high * self->page) * self->page);
	/* Whether the two differ in their highest bit is the machine's choice. */
	place = low_bits == high_bits ? 0 : self->page;
	bits = low_bits == high_bits ? low_bits - 1 : low_bits;
	EXPECT_VMM_ERROR(export_limited(self->dev, ranges, 2, 0, 0, bits, &ex), &ex,
			 ERANGE, VMMEXP_REASON_PHYS_BITS, place);
	EXPECT_TRUE(vmm_pins_settle(self->pins + nr));
}

/*
 * UNALIGNED.
 */
TEST_F(memory, unaligned_gives_whole_pages_and_says_where_the_bytes_are)
{
	char *mem = anon(_metadata, 4 * self->page);
	struct vmmexp_export ex;

	vmm_fill(mem, 4 * self->page, 0, 31);
	ASSERT_VMM_OK(vmm_export(self->dev, mem + 100, 2 * self->page, VMMEXP_EXPORT_UNALIGNED,
				 &ex), &ex);
	EXPECT_EQ(3 * self->page, ex.size);
	EXPECT_EQ(3 * self->page, (size_t)vmm_dmabuf_size(ex.fd));
	EXPECT_EQ(100, ex.data_offset);
	EXPECT_EQ(2 * self->page, ex.data_size);
	/* The neighbours' bytes too, as documented. */
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->peer, 0, 0, 3 * self->page, 0, 31));
}

TEST_F(memory, unaligned_start_only)
{
	char *mem = anon(_metadata, 2 * self->page);
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem + self->page - 1, self->page + 1,
				 VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(2 * self->page, ex.size);
	EXPECT_EQ(self->page - 1, ex.data_offset);
	EXPECT_EQ(self->page + 1, ex.data_size);
}

TEST_F(memory, unaligned_end_only)
{
	char *mem = anon(_metadata, 2 * self->page);
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->page + 1, VMMEXP_EXPORT_UNALIGNED, &ex),
		      &ex);
	EXPECT_EQ(2 * self->page, ex.size);
	EXPECT_EQ(0, ex.data_offset);
	EXPECT_EQ(self->page + 1, ex.data_size);
}

TEST_F(memory, unaligned_single_byte)
{
	char *mem = anon(_metadata, self->page);
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem + 17, 1, VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(self->page, ex.size);
	EXPECT_EQ(17, ex.data_offset);
	EXPECT_EQ(1, ex.data_size);
}

TEST_F(memory, unaligned_flag_with_aligned_ranges_changes_nothing)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(self->len, ex.size);
	EXPECT_EQ(0, ex.data_offset);
	EXPECT_EQ(self->len, ex.data_size);
}

TEST_F(memory, unaligned_list_may_be_ragged_at_its_two_ends)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_range ranges[] = {
		vmm_range(mem + self->page - 10, 10),
		vmm_range(mem + 4 * self->page, 2 * self->page),
		vmm_range(mem + 2 * self->page, 20),
	};
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 3, VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(4 * self->page, ex.size);
	EXPECT_EQ(self->page - 10, ex.data_offset);
	EXPECT_EQ(2 * self->page + 30, ex.data_size);
	ASSERT_EQ(0, vmm_peer_give(&self->peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &self->peer, 0, mem + self->page - 10, 10,
			  self->page - 10, true);
	vmm_expect_shared(_metadata, &self->peer, 0, mem + 4 * self->page, 2 * self->page,
			  self->page, true);
	vmm_expect_shared(_metadata, &self->peer, 0, mem + 2 * self->page, 20,
			  3 * self->page, true);
}

TEST_F(memory, unaligned_list_may_not_be_ragged_inside)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_range end_inside[] = {
		vmm_range(mem, 100),
		vmm_range(mem + 2 * self->page, self->page),
	};
	struct vmmexp_range start_inside[] = {
		vmm_range(mem, self->page),
		vmm_range(mem + 2 * self->page + 100, self->page),
	};
	struct vmmexp_export ex;

	EXPECT_EQ(-EINVAL, vmm_export_ranges(self->dev, end_inside, 2,
					     VMMEXP_EXPORT_UNALIGNED, &ex));
	EXPECT_EQ((__u32)VMMEXP_REASON_UNALIGNED, ex.reason);
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, start_inside, 2,
					   VMMEXP_EXPORT_UNALIGNED, &ex), &ex,
			 EINVAL, VMMEXP_REASON_UNALIGNED, self->page);
}

/* Two ranges that meet inside a page are still two ranges. */
TEST_F(memory, unaligned_list_may_not_meet_inside_a_page)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_range ranges[] = {
		vmm_range(mem, self->page + 100),
		vmm_range(mem + self->page + 100, self->page - 100),
	};
	struct vmmexp_export ex;

	EXPECT_EQ(-EINVAL, vmm_export_ranges(self->dev, ranges, 2, VMMEXP_EXPORT_UNALIGNED, &ex));
	EXPECT_EQ((__u32)VMMEXP_REASON_UNALIGNED, ex.reason);
}

/* The first requested byte of the failing page, not the page's first. */
TEST_F(memory, unaligned_failure_is_placed_in_requested_bytes)
{
	char *mem = anon(_metadata, 4 * self->page);
	struct vmmexp_export ex;

	ASSERT_EQ(0, munmap(mem + 2 * self->page, self->page));
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem + 100, 3 * self->page,
				    VMMEXP_EXPORT_UNALIGNED, &ex), &ex,
			 EFAULT, VMMEXP_REASON_HOLE, 2 * self->page - 100);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem + 2 * self->page + 100, self->page,
				    VMMEXP_EXPORT_UNALIGNED, &ex), &ex,
			 EFAULT, VMMEXP_REASON_HOLE, 0);
}

/*
 * DRY_RUN.
 */
TEST_F(memory, dry_run_answers_and_keeps_nothing)
{
	char *mem = anon(_metadata, self->len);
	unsigned int fds = vmm_count_fds();
	struct vmmexp_export dry, real;

	memset(mem, 1, self->len);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, VMMEXP_EXPORT_DRY_RUN, &dry), &dry);
	EXPECT_EQ(-1, dry.fd);
	EXPECT_EQ(fds, vmm_count_fds());
	EXPECT_NOTHING_PINNED();
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &real), &real);
	EXPECT_EQ(real.size, dry.size);
	EXPECT_EQ(real.data_offset, dry.data_offset);
	EXPECT_EQ(real.data_size, dry.data_size);
	EXPECT_EQ(real.nr_segs, dry.nr_segs);
	EXPECT_EQ(real.kinds, dry.kinds);
	EXPECT_EQ(real.alignment, dry.alignment);
}

TEST_F(memory, dry_run_brings_memory_in)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_export ex;
	size_t i;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, VMMEXP_EXPORT_DRY_RUN, &ex), &ex);
	for (i = 0; i < self->len; i += self->page) {
		EXPECT_LT(0, vmm_pfn(mem + i)) {
			TH_LOG("page %zu is not present", i / self->page);
		}
	}
}

TEST_F(memory, dry_run_needs_no_descriptor)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_export ex;

	while (dup(self->dev) >= 0)
		;
	ASSERT_EQ(EMFILE, errno);
	EXPECT_VMM_OK(vmm_export(self->dev, mem, self->len, VMMEXP_EXPORT_DRY_RUN, &ex), &ex);
}

TEST_F(memory, dry_run_read_only)
{
	char *mem = anon(_metadata, self->len);
	struct vmmexp_export ex;

	ASSERT_EQ(0, mprotect(mem, self->len, PROT_READ));
	EXPECT_VMM_OK(vmm_export(self->dev, mem, self->len,
				 VMMEXP_EXPORT_DRY_RUN | VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	EXPECT_EQ(-1, ex.fd);
	EXPECT_NOTHING_PINNED();
}

/*
 * Ordinary files.
 */
FIXTURE(file)
{
	struct _test_data_memory m;
	char dir[64];
	int fd;
};

FIXTURE_VARIANT(file)
{
	const char *fs;
};

FIXTURE_VARIANT_ADD(file, ramfs) { .fs = "ramfs" };
FIXTURE_VARIANT_ADD(file, ext4) { .fs = "ext4" };

#define MAKE_EXT4 \
	"exec >/dev/null 2>&1; truncate -s 8M %s.img && mke2fs -F %s.img && mount -o loop %s.img %s"

FIXTURE_SETUP(file)
{
	char command[512];

	/* First: the peer must not inherit what keeps the file system busy. */
	setup(_metadata, &self->m);
	snprintf(self->dir, sizeof(self->dir), "/tmp/vmmexp-file-%d", getpid());
	ASSERT_EQ(0, mkdir(self->dir, 0700));
	if (!strcmp(variant->fs, "ramfs")) {
		ASSERT_EQ(0, mount("none", self->dir, "ramfs", 0, NULL));
	} else {
		ASSERT_EQ(0, vmm_modprobe("loop"));
		ASSERT_EQ(0, vmm_modprobe("ext4"));
		snprintf(command, sizeof(command), MAKE_EXT4, self->dir, self->dir, self->dir,
			 self->dir);
		ASSERT_EQ(0, system(command)) {
			TH_LOG("cannot make a file system");
		}
	}
	snprintf(command, sizeof(command), "%s/file", self->dir);
	self->fd = open(command, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, self->m.len));
}

FIXTURE_TEARDOWN_PARENT(file)
{
	char image[128];

	expect_pins(_metadata, self->m.pins);
	EXPECT_EQ(0, umount(self->dir)) {
		TH_LOG("umount: %s", strerror(errno));
	}
	rmdir(self->dir);
	snprintf(image, sizeof(image), "%s.img", self->dir);
	unlink(image);
}

/* Put the pattern of @seed into the file, by write(), not by a mapping. */
static void write_pattern(struct __test_metadata *_metadata, int fd, size_t len, __u32 seed)
{
	char *buf = malloc(len);

	ASSERT_NE(NULL, buf);
	vmm_fill(buf, len, 0, seed);
	ASSERT_EQ((ssize_t)len, pwrite(fd, buf, len, 0));
	free(buf);
}

static long long file_mismatch(struct __test_metadata *_metadata, int fd, size_t len, __u32 seed)
{
	char *buf = malloc(len);
	long long at;

	ASSERT_NE(NULL, buf);
	ASSERT_EQ((ssize_t)len, pread(fd, buf, len, 0));
	at = vmm_mismatch(buf, len, 0, seed);
	free(buf);
	return at;
}

TEST_F(file, private_mapping_does_not_change_the_file)
{
	struct vmmexp_export ex;
	char *mem;

	write_pattern(_metadata, self->fd, self->m.len, 1);
	mem = map(_metadata, self->fd, self->m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	ASSERT_VMM_OK(vmm_export(self->m.dev, mem, self->m.len, 0, &ex), &ex);
	EXPECT_EQ((__u32)VMMEXP_KIND_ANON, ex.kinds);
	ASSERT_EQ(0, vmm_peer_give(&self->m.peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->m.peer, 0, 0, self->m.len, 0, 1));
	vmm_expect_shared(_metadata, &self->m.peer, 0, mem, self->m.len, 0, true);
	EXPECT_EQ(-1, file_mismatch(_metadata, self->fd, self->m.len, 1));
}

TEST_F(file, private_mapping_read_only_shows_later_writes)
{
	struct vmmexp_export ex;
	char *mem;

	write_pattern(_metadata, self->fd, self->m.len, 1);
	mem = map(_metadata, self->fd, self->m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	ASSERT_VMM_OK(vmm_export(self->m.dev, mem, self->m.len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	EXPECT_EQ((__u32)VMMEXP_KIND_ANON, ex.kinds);
	ASSERT_EQ(0, vmm_peer_give(&self->m.peer, 0, ex.fd, PROT_READ));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->m.peer, 0, 0, self->m.len, 0, 1));
	vmm_expect_shared(_metadata, &self->m.peer, 0, mem, self->m.len, 0, false);
	EXPECT_EQ(-1, file_mismatch(_metadata, self->fd, self->m.len, 1));
}

TEST_F(file, shared_mapping_is_exported_read_only)
{
	struct vmmexp_export ex;
	char *mem;

	write_pattern(_metadata, self->fd, self->m.len, 1);
	mem = map(_metadata, self->fd, self->m.len, PROT_READ | PROT_WRITE, MAP_SHARED);
	ASSERT_VMM_OK(vmm_export(self->m.dev, mem, self->m.len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	EXPECT_EQ((__u32)VMMEXP_KIND_FILE, ex.kinds);
	ASSERT_EQ(0, vmm_peer_give(&self->m.peer, 0, ex.fd, PROT_READ));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->m.peer, 0, 0, self->m.len, 0, 1));
	/* It is the page cache: what is written to the file shows. */
	write_pattern(_metadata, self->fd, self->m.len, 2);
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->m.peer, 0, 0, self->m.len, 0, 2));
	vmm_expect_shared(_metadata, &self->m.peer, 0, mem, self->m.len, 0, false);
}

TEST_F(file, shared_mapping_is_not_exported_writable)
{
	struct vmmexp_export ex;
	char *mem;

	mem = map(_metadata, self->fd, self->m.len, PROT_READ | PROT_WRITE, MAP_SHARED);
	EXPECT_VMM_ERROR(vmm_export(self->m.dev, mem, self->m.len, 0, &ex), &ex,
			 EPERM, VMMEXP_REASON_WRITABLE_FILE, 0);
	memset(mem, 1, self->m.len);
	EXPECT_VMM_ERROR(vmm_export(self->m.dev, mem, self->m.len, 0, &ex), &ex,
			 EPERM, VMMEXP_REASON_WRITABLE_FILE, 0);
}

TEST_F(file, shared_read_only_mapping_is_not_writable)
{
	struct vmmexp_export ex;
	char *mem;

	mem = map(_metadata, self->fd, self->m.len, PROT_READ, MAP_SHARED);
	EXPECT_VMM_ERROR(vmm_export(self->m.dev, mem, self->m.len, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_NOT_WRITABLE, 0);
}

TEST_F(file, shared_mapping_survives_truncation)
{
	struct vmmexp_export ex;
	char *mem;

	write_pattern(_metadata, self->fd, self->m.len, 1);
	mem = map(_metadata, self->fd, self->m.len, PROT_READ, MAP_SHARED);
	ASSERT_VMM_OK(vmm_export(self->m.dev, mem, self->m.len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	ASSERT_EQ(0, vmm_peer_give(&self->m.peer, 0, ex.fd, PROT_READ));
	ASSERT_EQ(0, ftruncate(self->fd, 0));
	EXPECT_EQ(-1, vmm_peer_mismatch(&self->m.peer, 0, 0, self->m.len, 0, 1));
}

TEST_F(file, beyond_the_end_is_a_fault)
{
	struct vmmexp_export ex;
	char *mem;

	ASSERT_EQ(0, ftruncate(self->fd, 2 * self->m.page));
	mem = map(_metadata, self->fd, self->m.len, PROT_READ, MAP_SHARED);
	EXPECT_VMM_ERROR(vmm_export(self->m.dev, mem, self->m.len, VMMEXP_EXPORT_READ_ONLY, &ex),
			 &ex, EFAULT, VMMEXP_REASON_FAULT, 2 * self->m.page);
	mem = map(_metadata, self->fd, self->m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	EXPECT_VMM_ERROR(vmm_export(self->m.dev, mem, self->m.len, 0, &ex),
			 &ex, EFAULT, VMMEXP_REASON_FAULT, 2 * self->m.page);
	EXPECT_TRUE(vmm_pins_settle(self->m.pins));
}

/*
 * One page that cannot be exported, anywhere in what otherwise can.
 */
enum spoiler {
	HOLE,
	PROT_NOTHING,
	WRITE_ONLY,
	GUARD,
	UNWRITABLE,
	EXECUTABLE,
	DMABUF,
	DUMB_BUFFER,
	PERF_RING,
	IO_MEMORY,
	SECRET,
	SEALED_WRITE,
	SEALED_FUTURE_WRITE,
	PAST_THE_END,
	SHARED_FILE,
	POISONED,
	PKEY_NONE,
	PKEY_READ,
};

FIXTURE(spot)
{
	struct _test_data_memory m;
	char *mem;
	const char *lacks;
	bool absent;
	long long before;
};

FIXTURE_VARIANT(spot)
{
	enum spoiler what;
	int err;
	__u32 reason;
	/* READ_ONLY helps. */
	bool read_only;
};

FIXTURE_VARIANT_ADD(spot, hole)
{
	.what = HOLE,
	.err = EFAULT,
	.reason = VMMEXP_REASON_HOLE,
};

FIXTURE_VARIANT_ADD(spot, prot_none)
{
	.what = PROT_NOTHING,
	.err = EFAULT,
	.reason = VMMEXP_REASON_NOT_READABLE,
};

FIXTURE_VARIANT_ADD(spot, write_only)
{
	.what = WRITE_ONLY,
	.err = EFAULT,
	.reason = VMMEXP_REASON_NOT_READABLE,
};

FIXTURE_VARIANT_ADD(spot, guard)
{
	.what = GUARD,
	.err = EFAULT,
	.reason = VMMEXP_REASON_FAULT,
};

FIXTURE_VARIANT_ADD(spot, unwritable)
{
	.what = UNWRITABLE,
	.err = EFAULT,
	.reason = VMMEXP_REASON_NOT_WRITABLE,
	.read_only = true,
};

FIXTURE_VARIANT_ADD(spot, executable)
{
	.what = EXECUTABLE,
	.err = EPERM,
	.reason = VMMEXP_REASON_EXECUTABLE,
	.read_only = true,
};

FIXTURE_VARIANT_ADD(spot, own_dma_buf)
{
	.what = DMABUF,
	.err = EPERM,
	.reason = VMMEXP_REASON_PFNMAP,
};

FIXTURE_VARIANT_ADD(spot, dumb_buffer)
{
	.what = DUMB_BUFFER,
	.err = EPERM,
	.reason = VMMEXP_REASON_PFNMAP,
};

FIXTURE_VARIANT_ADD(spot, perf_ring)
{
	.what = PERF_RING,
	.err = EPERM,
	.reason = VMMEXP_REASON_PFNMAP,
};

FIXTURE_VARIANT_ADD(spot, io_memory)
{
	.what = IO_MEMORY,
	.err = EPERM,
	.reason = VMMEXP_REASON_PFNMAP,
};

FIXTURE_VARIANT_ADD(spot, secretmem)
{
	.what = SECRET,
	.err = EPERM,
	.reason = VMMEXP_REASON_SECRETMEM,
};

/* With F_SEAL_WRITE there is no writable shared mapping in the first place. */
FIXTURE_VARIANT_ADD(spot, sealed_write)
{
	.what = SEALED_WRITE,
	.err = EFAULT,
	.reason = VMMEXP_REASON_NOT_WRITABLE,
	.read_only = true,
};

FIXTURE_VARIANT_ADD(spot, sealed_future_write)
{
	.what = SEALED_FUTURE_WRITE,
	.err = EPERM,
	.reason = VMMEXP_REASON_SEALED,
	.read_only = true,
};

FIXTURE_VARIANT_ADD(spot, past_the_end)
{
	.what = PAST_THE_END,
	.err = EFAULT,
	.reason = VMMEXP_REASON_FAULT,
};

FIXTURE_VARIANT_ADD(spot, shared_file)
{
	.what = SHARED_FILE,
	.err = EPERM,
	.reason = VMMEXP_REASON_WRITABLE_FILE,
	.read_only = true,
};

FIXTURE_VARIANT_ADD(spot, poisoned)
{
	.what = POISONED,
	.err = EFAULT,
	.reason = VMMEXP_REASON_FAULT,
};

FIXTURE_VARIANT_ADD(spot, protection_key_no_access)
{
	.what = PKEY_NONE,
	.err = EFAULT,
	.reason = VMMEXP_REASON_FAULT,
};

FIXTURE_VARIANT_ADD(spot, protection_key_no_write)
{
	.what = PKEY_READ,
	.err = EFAULT,
	.reason = VMMEXP_REASON_FAULT,
	.read_only = true,
};

/* Put @fd's page at @addr. */
static void place(struct __test_metadata *_metadata, char *addr, int fd, int prot, off_t offset)
{
	ASSERT_LE(0, fd);
	ASSERT_EQ(addr, mmap(addr, vmm_page_size(), prot, MAP_SHARED | MAP_FIXED, fd, offset)) {
		TH_LOG("mmap: %s", strerror(errno));
	}
}

static int sealed(struct __test_metadata *_metadata, size_t page, int seals)
{
	int fd = memfd(_metadata, page, MFD_ALLOW_SEALING);

	ASSERT_EQ(0, ftruncate(fd, page));
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

static int secret(struct __test_metadata *_metadata, size_t page)
{
	int fd = syscall(NR_MEMFD_SECRET, O_CLOEXEC);

	ASSERT_LE(0, fd) {
		TH_LOG("memfd_secret: %s", strerror(errno));
	}
	ASSERT_EQ(0, ftruncate(fd, page));
	return fd;
}

static int plain_file(struct __test_metadata *_metadata, size_t page)
{
	char dir[64], path[128];
	int fd;

	/* Unmounted and removed at once; the open file keeps what it needs. */
	snprintf(dir, sizeof(dir), "/tmp/vmmexp-spot-%d", getpid());
	mkdir(dir, 0700);
	ASSERT_EQ(0, mount("none", dir, "ramfs", 0, NULL));
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_EQ(0, umount2(dir, MNT_DETACH));
	rmdir(dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, page));
	return fd;
}

static int perf_event(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
	};

	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/*
 * Physical memory that is no RAM, on the machines that QEMU makes: the flash
 * at 0 of "virt", the BIOS below 1 MiB of a PC.
 */
static void place_io_memory(struct __test_metadata *_metadata, char *addr)
{
	off_t where = vmm_config("CONFIG_X86") ? 0xf0000 : 0;

	place(_metadata, addr, open("/dev/mem", O_RDONLY | O_CLOEXEC), PROT_READ, where);
}

static void place_protection_key(struct __test_metadata *_metadata, char *addr, size_t page,
				 unsigned int rights)
{
	int key = syscall(__NR_pkey_alloc, 0, rights);

	ASSERT_LT(0, key) {
		TH_LOG("pkey_alloc: %s", strerror(errno));
	}
	ASSERT_EQ(0, syscall(__NR_pkey_mprotect, addr, page, PROT_READ | PROT_WRITE, key));
}

/* What the kernel must have for @what. */
static const char *config_of(enum spoiler what)
{
	switch (what) {
	case SECRET:
		return vmm_not_in_kernel("CONFIG_SECRETMEM");
	case PERF_RING:
		return vmm_not_in_kernel("CONFIG_PERF_EVENTS");
	case POISONED:
		return vmm_not_in_kernel("CONFIG_MEMORY_FAILURE");
	case PKEY_NONE:
	case PKEY_READ:
		return vmm_not_in_kernel("CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS");
	default:
		return NULL;
	}
}

static void survive(int sig)
{
	(void)sig;
}

static void spoil(struct __test_metadata *_metadata, struct _test_data_memory *self,
		  enum spoiler what, char *addr)
{
	size_t page = self->page;
	struct vmmexp_export ex;
	__u64 offset;
	char *other;
	int fd;

	switch (what) {
	case HOLE:
		ASSERT_EQ(0, munmap(addr, page));
		break;
	case PROT_NOTHING:
		ASSERT_EQ(0, mprotect(addr, page, PROT_NONE));
		break;
	case WRITE_ONLY:
		ASSERT_EQ(0, mprotect(addr, page, PROT_WRITE));
		break;
	case GUARD:
		ASSERT_EQ(0, madvise(addr, page, MADV_GUARD_INSTALL));
		break;
	case UNWRITABLE:
		ASSERT_EQ(0, mprotect(addr, page, PROT_READ));
		break;
	case EXECUTABLE:
		ASSERT_EQ(0, mprotect(addr, page, PROT_READ | PROT_WRITE | PROT_EXEC));
		break;
	case DMABUF:
		other = anon(_metadata, page);
		ASSERT_VMM_OK(vmm_export(self->dev, other, page, 0, &ex), &ex);
		place(_metadata, addr, ex.fd, PROT_READ | PROT_WRITE, 0);
		ASSERT_EQ(0, vmm_peek(addr));
		/* Pinned on purpose: the tests of failures count from here. */
		self->pins++;
		break;
	case DUMB_BUFFER:
		fd = vmm_drm_open("vgem");
		ASSERT_LE(0, fd);
		ASSERT_LT(0, vmm_drm_dumb(fd, page, &offset));
		place(_metadata, addr, fd, PROT_READ | PROT_WRITE, offset);
		break;
	case PERF_RING:
		place(_metadata, addr, perf_event(), PROT_READ | PROT_WRITE, 0);
		break;
	case IO_MEMORY:
		place_io_memory(_metadata, addr);
		break;
	case SECRET:
		place(_metadata, addr, secret(_metadata, page), PROT_READ | PROT_WRITE, 0);
		*addr = 1;
		break;
	case SEALED_WRITE:
		place(_metadata, addr, sealed(_metadata, page, F_SEAL_WRITE), PROT_READ, 0);
		break;
	case SEALED_FUTURE_WRITE:
		fd = memfd(_metadata, page, MFD_ALLOW_SEALING);
		place(_metadata, addr, fd, PROT_READ | PROT_WRITE, 0);
		ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
		break;
	case PAST_THE_END:
		place(_metadata, addr, memfd(_metadata, 0, 0), PROT_READ | PROT_WRITE, 0);
		break;
	case SHARED_FILE:
		place(_metadata, addr, plain_file(_metadata, page), PROT_READ | PROT_WRITE, 0);
		break;
	case POISONED:
		*addr = 1;
		/* Who poisons a page of its own is told as if it had used it. */
		signal(SIGBUS, survive);
		ASSERT_EQ(0, madvise(addr, page, MADV_HWPOISON));
		break;
	case PKEY_NONE:
		place_protection_key(_metadata, addr, page, PKEY_DISABLE_ACCESS);
		break;
	case PKEY_READ:
		place_protection_key(_metadata, addr, page, PKEY_DISABLE_WRITE);
		break;
	}
}

FIXTURE_SETUP(spot)
{
	setup(_metadata, &self->m);
	self->before = self->m.pins;
	self->mem = anon(_metadata, self->m.len);
	vmm_fill(self->mem, self->m.len, 0, 1);
	self->lacks = config_of(variant->what);
#ifndef __NR_memfd_secret
	/* No way for this program to get any, whatever the kernel has. */
	self->absent = variant->what == SECRET;
#endif
}

FIXTURE_TEARDOWN_PARENT(spot)
{
	expect_pins(_metadata, self->before);
}

static void expect_spot(struct __test_metadata *_metadata, struct _test_data_spot *self,
			const struct _fixture_variant_spot *variant, size_t where)
{
	unsigned int fds;
	struct vmmexp_export ex;
	struct vmmexp_range ranges[3];
	size_t page = self->m.page;

	if (self->absent) {
		EXPECT_EQ(-1, syscall(NR_MEMFD_SECRET, 0));
		return;
	}
	spoil(_metadata, &self->m, variant->what, self->mem + where * page);
	fds = vmm_count_fds();

	/* In one range. */
	EXPECT_VMM_ERROR(vmm_export(self->m.dev, self->mem, self->m.len, 0, &ex), &ex,
			 variant->err, variant->reason, where * page);
	/* As a range of its own, last of three. */
	ranges[0] = vmm_range(self->mem + (where ? 0 : 1) * page, page);
	ranges[1] = ranges[0];
	ranges[2] = vmm_range(self->mem + where * page, page);
	EXPECT_VMM_ERROR(vmm_export_ranges(self->m.dev, ranges, 3, 0, &ex), &ex,
			 variant->err, variant->reason, 2 * page);
	/* DRY_RUN judges the same. */
	EXPECT_VMM_ERROR(vmm_export(self->m.dev, self->mem, self->m.len, VMMEXP_EXPORT_DRY_RUN,
				    &ex), &ex, variant->err, variant->reason, where * page);
	EXPECT_EQ(fds, vmm_count_fds());
	EXPECT_TRUE(vmm_pins_settle(self->m.pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->m.pins);
	}

	if (!variant->read_only) {
		EXPECT_VMM_ERROR(vmm_export(self->m.dev, self->mem, self->m.len,
					    VMMEXP_EXPORT_READ_ONLY, &ex), &ex,
				 variant->err, variant->reason, where * page);
		EXPECT_TRUE(vmm_pins_settle(self->m.pins));
		return;
	}
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.len, VMMEXP_EXPORT_READ_ONLY,
				 &ex), &ex);
	{
		char *view = vmm_map(ex.fd, 0, self->m.len, PROT_READ);

		ASSERT_NE(NULL, view);
		EXPECT_EQ(0, memcmp(self->mem, view, self->m.len));
	}
}

TEST_F(spot, first_page)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	expect_spot(_metadata, self, variant, 0);
}

TEST_F(spot, middle_page)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	expect_spot(_metadata, self, variant, 3);
}

TEST_F(spot, last_page)
{
	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	expect_spot(_metadata, self, variant, NR_PAGES - 1);
}

/*
 * More refusals.
 */
TEST_F(memory, hole_after_many_batches_leaves_nothing_pinned)
{
	size_t len = 40 << 20, hole = 36 << 20;
	char *mem = anon(_metadata, len);
	struct vmmexp_export ex;

	ASSERT_EQ(0, munmap(mem + hole, self->page));
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, len, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_HOLE, hole);
	EXPECT_NOTHING_PINNED();
}

TEST_F(memory, page_zero_is_a_hole)
{
	struct vmmexp_export ex;

	EXPECT_VMM_ERROR(vmm_export(self->dev, NULL, self->page, 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_HOLE, 0);
}

/* The kernel grows a stack for the CPU's accesses, not for a driver's. */
TEST_F(memory, below_the_stack_is_a_hole)
{
	unsigned long start = 0;
	struct vmmexp_export ex;
	char line[256];
	FILE *maps = fopen("/proc/self/maps", "re");

	ASSERT_NE(NULL, maps);
	while (fgets(line, sizeof(line), maps)) {
		if (strstr(line, "[stack]"))
			start = strtoul(line, NULL, 16);
	}
	fclose(maps);
	ASSERT_NE(0, start);
	EXPECT_VMM_ERROR(vmm_export(self->dev, (void *)(start - self->page), 2 * self->page, 0,
				    &ex), &ex, EFAULT, VMMEXP_REASON_HOLE, 0);
}

/* Whatever a process has: exported, and then the right bytes, or refused. */
TEST_F(memory, every_mapping_of_the_process_is_exported_or_refused)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int nr = 0, exported = 0, i, flags;
	unsigned long starts[256];
	struct vmmexp_export ex;
	bool clock[256];
	char line[512];
	char *view;

	ASSERT_NE(NULL, maps);
	while (nr < ARRAY_SIZE(starts) && fgets(line, sizeof(line), maps)) {
		starts[nr] = strtoul(line, NULL, 16);
		/* What the kernel writes to while it is compared. */
		clock[nr++] = strstr(line, "[vvar");
	}
	fclose(maps);
	ASSERT_LT(4, nr);
	for (i = 0; i < nr; i++) {
		for (flags = 0; flags <= VMMEXP_EXPORT_READ_ONLY; flags++) {
			int ret = vmm_export(self->dev, (void *)starts[i], self->page, flags, &ex);

			if (!ret) {
				exported++;
				EXPECT_NE(0, ex.kinds);
				view = vmm_map(ex.fd, 0, self->page, PROT_READ);
				ASSERT_NE(NULL, view);
				EXPECT_TRUE(clock[i] ||
					    !memcmp(view, (void *)starts[i], self->page)) {
					TH_LOG("%#lx: other bytes", starts[i]);
				}
				ASSERT_EQ(0, munmap(view, self->page));
				close(ex.fd);
				continue;
			}
			EXPECT_TRUE(ret == -EFAULT || ret == -EPERM) {
				TH_LOG("%#lx: %d, reason %u", starts[i], ret, ex.reason);
			}
			EXPECT_NE((__u32)VMMEXP_REASON_NONE, ex.reason);
		}
	}
	EXPECT_LT(2, exported);
	EXPECT_NOTHING_PINNED();
}

TEST_F(memory, sealed_memfd_mapped_private_is_exported)
{
	int fd = memfd(_metadata, self->len, MFD_ALLOW_SEALING);
	char *mem;

	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_ANON);
}

TEST_F(memory, other_seals_do_not_matter)
{
	int fd = memfd(_metadata, self->len, MFD_ALLOW_SEALING);
	char *mem;

	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	expect_exported(_metadata, self, mem, self->len, VMMEXP_KIND_SHMEM);
}

TEST_F(memory, sealing_an_exported_memfd_is_ebusy)
{
	int fd = memfd(_metadata, self->len, MFD_ALLOW_SEALING);
	char *mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, 0, &ex), &ex);
	/* Without the mapping nothing but the pins stands against the seal. */
	ASSERT_EQ(0, munmap(mem, self->len));
	EXPECT_EQ(-1, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, fcntl(fd, F_GET_SEALS));
	close(ex.fd);
	EXPECT_NOTHING_PINNED();
	EXPECT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)) {
		TH_LOG("still: %s", strerror(errno));
	}
}

TEST_F(memory, sealed_hugetlb_memfd_is_refused)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	struct vmmexp_export ex;
	size_t huge;
	char *mem;
	int fd;

	if (lacks)
		SKIP(return, "%s", lacks);
	huge = hugetlb_pool(_metadata);
	fd = memfd(_metadata, huge, MFD_HUGETLB | MFD_ALLOW_SEALING);
	mem = map(_metadata, fd, huge, PROT_READ | PROT_WRITE, MAP_SHARED);
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, huge, 0, &ex), &ex,
			 EPERM, VMMEXP_REASON_SEALED, 0);
	EXPECT_NOTHING_PINNED();
	EXPECT_VMM_OK(vmm_export(self->dev, mem, huge, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
}

/* Of many files, the sealed one is named. */
TEST_F(memory, sealed_memfd_among_others_is_named)
{
	struct vmmexp_range ranges[6];
	struct vmmexp_export ex;
	unsigned int i;
	int fd[6];

	for (i = 0; i < 6; i++) {
		fd[i] = memfd(_metadata, self->page, MFD_ALLOW_SEALING);
		ranges[i] = vmm_range(map(_metadata, fd[i], self->page, PROT_READ | PROT_WRITE,
					  MAP_SHARED), self->page);
	}
	ASSERT_EQ(0, fcntl(fd[4], F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, 6, 0, &ex), &ex,
			 EPERM, VMMEXP_REASON_SEALED, 4 * self->page);
	EXPECT_NOTHING_PINNED();
}

TEST_F(memory, executable_memory_of_a_file_is_not_exported_writable)
{
	int fd = memfd(_metadata, self->len, 0);
	char *mem = map(_metadata, fd, self->len, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED);
	struct vmmexp_export ex;

	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->len, 0, &ex), &ex,
			 EPERM, VMMEXP_REASON_EXECUTABLE, 0);
	EXPECT_VMM_OK(vmm_export(self->dev, mem, self->len, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
}

/*
 * Mappings of the dma-buf.
 */
FIXTURE(mapping)
{
	struct _test_data_memory m;
	char *mem;
	struct vmmexp_export ex;
};

FIXTURE_SETUP(mapping)
{
	setup(_metadata, &self->m);
	self->mem = anon(_metadata, self->m.len);
	vmm_fill(self->mem, self->m.len, 0, 1);
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.len, 0, &self->ex), &self->ex);
}

FIXTURE_TEARDOWN_PARENT(mapping)
{
	expect_pins(_metadata, self->m.pins);
}

TEST_F(mapping, private_is_refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->m.len, PROT_READ, MAP_PRIVATE, self->ex.fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				   self->ex.fd, 0));
	EXPECT_EQ(EINVAL, errno);
}

/*
 * Through an importer that maps its own file, not the dma-buf's. Where in its
 * file vgem has the buffer it does not tell: near a buffer of its own.
 */
static char *map_in_vgem(int card, size_t len, int prot, off_t own, off_t *at)
{
	size_t page = vmm_page_size();
	char *view = NULL;

	for (*at = own - 512 * page; !view && *at < (off_t)(own + 512 * page); *at += page) {
		if (*at != own)
			view = vmm_map(card, *at, len, prot);
	}
	*at -= page;
	return view;
}

TEST_F(mapping, through_an_importer_keeps_the_rules)
{
	struct drm_prime_handle prime = { .fd = self->ex.fd };
	int card = vmm_drm_open("vgem");
	__u64 own;
	char *view;
	off_t at;

	ASSERT_LE(0, card);
	ASSERT_LT(0, vmm_drm_dumb(card, self->m.page, &own));
	ASSERT_EQ(0, vmm_ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime));
	view = map_in_vgem(card, self->m.len, PROT_READ | PROT_WRITE, own, &at);
	ASSERT_NE(NULL, view) {
		TH_LOG("the imported buffer is not found in vgem's file");
	}
	EXPECT_EQ(-1, vmm_mismatch(view, self->m.len, 0, 1));
	vmm_fill(view, self->m.len, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->m.len, 0, 2));
	EXPECT_EQ(-1, mprotect(view, self->m.len, PROT_READ | PROT_EXEC));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->m.len, PROT_READ, MAP_PRIVATE, card, at));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, card,
				   at));
	EXPECT_EQ(EINVAL, errno);
}

/* Its own file is open for writing, the buffer is not. */
TEST_F(mapping, of_a_read_only_buffer_through_an_importer_is_never_writable)
{
	struct drm_prime_handle prime = {};
	int card = vmm_drm_open("vgem");
	struct vmmexp_export ex;
	__u64 own;
	char *view;
	off_t at;

	ASSERT_LE(0, card);
	ASSERT_LT(0, vmm_drm_dumb(card, self->m.page, &own));
	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.len, VMMEXP_EXPORT_READ_ONLY,
				 &ex), &ex);
	prime.fd = ex.fd;
	ASSERT_EQ(0, vmm_ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime));
	EXPECT_EQ(NULL, map_in_vgem(card, self->m.len, PROT_READ | PROT_WRITE, own, &at));
	view = map_in_vgem(card, self->m.len, PROT_READ, own, &at);
	ASSERT_NE(NULL, view) {
		TH_LOG("the imported buffer is not found in vgem's file");
	}
	EXPECT_EQ(-1, vmm_mismatch(view, self->m.len, 0, 1));
	EXPECT_EQ(-1, mprotect(view, self->m.len, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(mapping, executable_is_refused)
{
	char *view;

	EXPECT_EQ(NULL, vmm_map(self->ex.fd, 0, self->m.len, PROT_READ | PROT_EXEC));
	view = vmm_map(self->ex.fd, 0, self->m.len, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, mprotect(view, self->m.len, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(mapping, beyond_the_buffer_is_refused)
{
	EXPECT_EQ(NULL, vmm_map(self->ex.fd, 0, self->m.len + 1, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(NULL, vmm_map(self->ex.fd, self->m.page, self->m.len, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(NULL, vmm_map(self->ex.fd, self->m.len, self->m.page, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(mapping, at_an_offset_shows_the_bytes_there)
{
	char *view = vmm_map(self->ex.fd, 3 * self->m.page, 2 * self->m.page,
			     PROT_READ | PROT_WRITE);

	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, 2 * self->m.page, 3 * self->m.page, 1));
	vmm_fill(view, 2 * self->m.page, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->mem + 3 * self->m.page, 2 * self->m.page, 0, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, 3 * self->m.page, 0, 1));
}

TEST_F(mapping, does_not_grow)
{
	char *view = vmm_map(self->ex.fd, 0, self->m.page, PROT_READ);

	ASSERT_NE(NULL, view);
	EXPECT_EQ(MAP_FAILED, mremap(view, self->m.page, 2 * self->m.page, MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(mapping, moves)
{
	size_t len = self->m.len;
	char *view = vmm_map(self->ex.fd, 0, len, PROT_READ | PROT_WRITE);
	char *target = anon(_metadata, len);

	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, len / 2, 0, 1));
	ASSERT_EQ(target, mremap(view, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(-1, vmm_mismatch(target, len, 0, 1));
	vmm_fill(target, len, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, len, 0, 2));
}

TEST_F(mapping, has_the_flags_of_foreign_frames)
{
	char *view = vmm_map(self->ex.fd, 0, self->m.len, PROT_READ);
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[512], flags[512] = "";
	bool inside = false;

	ASSERT_NE(NULL, view);
	ASSERT_NE(NULL, smaps);
	while (fgets(line, sizeof(line), smaps)) {
		char *dash = strchr(line, '-');

		if (dash && strtoul(line, NULL, 16) == (unsigned long)view && line[0] != 'V')
			inside = true;
		if (inside && !strncmp(line, "VmFlags:", 8)) {
			snprintf(flags, sizeof(flags), "%s", line);
			break;
		}
	}
	fclose(smaps);
	/* Not for GUP, not to grow, not in a core dump, never executable. */
	EXPECT_NE(NULL, strstr(flags, " pf")) {
		TH_LOG("%s", flags);
	}
	EXPECT_NE(NULL, strstr(flags, " de"));
	EXPECT_NE(NULL, strstr(flags, " dd"));
	EXPECT_EQ(NULL, strstr(flags, " me"));
	EXPECT_EQ(NULL, strstr(flags, " io"));
}

TEST_F(mapping, is_brought_in_by_the_kernels_accesses)
{
	char *view = vmm_map(self->ex.fd, 0, self->m.len, PROT_READ | PROT_WRITE);
	char *copy = malloc(self->m.len);
	int pipes[2];

	ASSERT_NE(NULL, view);
	ASSERT_NE(NULL, copy);
	ASSERT_EQ(0, pipe(pipes));
	/* From a mapping, and into one, that the CPU never touched. */
	ASSERT_EQ((ssize_t)self->m.page, write(pipes[1], view + self->m.page, self->m.page));
	ASSERT_EQ((ssize_t)self->m.page, read(pipes[0], view + 4 * self->m.page, self->m.page));
	EXPECT_EQ(-1, vmm_mismatch(self->mem + 4 * self->m.page, self->m.page, self->m.page, 1));
}

TEST_F(mapping, protection_can_change_and_dontneed_loses_nothing)
{
	size_t len = self->m.len;
	char *view = vmm_map(self->ex.fd, 0, len, PROT_READ | PROT_WRITE);

	ASSERT_NE(NULL, view);
	vmm_fill(view, len, 0, 3);
	ASSERT_EQ(0, mprotect(view, len, PROT_NONE));
	ASSERT_EQ(0, mprotect(view, len, PROT_READ));
	EXPECT_EQ(-1, vmm_mismatch(view, len, 0, 3));
	ASSERT_EQ(0, mprotect(view, len, PROT_READ | PROT_WRITE));
	/* Allowed or not for such a mapping, the bytes stay. */
	madvise(view, len, MADV_DONTNEED);
	EXPECT_EQ(-1, vmm_mismatch(view, len, 0, 3));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, len, 0, 3));
}

TEST_F(mapping, can_be_unmapped_in_pieces)
{
	size_t len = self->m.len, page = self->m.page;
	char *view = vmm_map(self->ex.fd, 0, len, PROT_READ | PROT_WRITE);

	ASSERT_NE(NULL, view);
	ASSERT_EQ(0, munmap(view + 2 * page, page));
	close(self->ex.fd);
	EXPECT_EQ(-1, vmm_mismatch(view, 2 * page, 0, 1));
	EXPECT_EQ(-1, vmm_mismatch(view + 3 * page, len - 3 * page, 3 * page, 1));
	ASSERT_EQ(0, munmap(view, 2 * page));
	EXPECT_EQ(self->m.pins + NR_PAGES, vmm_pins());
	ASSERT_EQ(0, munmap(view + 3 * page, len - 3 * page));
	EXPECT_TRUE(vmm_pins_settle(self->m.pins));
}

TEST_F(mapping, of_a_read_only_buffer_is_never_writable)
{
	struct vmmexp_export ex;
	char path[64], *view;
	int fd;

	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.len, VMMEXP_EXPORT_READ_ONLY,
				 &ex), &ex);
	EXPECT_EQ(NULL, vmm_map(ex.fd, 0, self->m.len, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(NULL, vmm_map(ex.fd, 0, self->m.len, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	view = vmm_map(ex.fd, 0, self->m.len, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, mprotect(view, self->m.len, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, vmm_mismatch(view, self->m.len, 0, 1));

	/* Opened anew through /proc it is not a way around, if it opens at all. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ex.fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT_TRUE(fd < 0 || !vmm_map(fd, 0, self->m.len, PROT_READ | PROT_WRITE));
}

TEST_F(mapping, write_to_a_read_only_mapping_is_sigsegv)
{
	struct vmmexp_export ex;
	int status;
	pid_t pid;

	ASSERT_VMM_OK(vmm_export(self->m.dev, self->mem, self->m.len, VMMEXP_EXPORT_READ_ONLY,
				 &ex), &ex);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *view = vmm_map(ex.fd, 0, self->m.len, PROT_READ);

		if (view)
			vmm_poke(view, 2);
		_exit(0);
	}
	ASSERT_EQ(0, vmm_wait(pid, &status, 5));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->m.len, 0, 1));
}

TEST_F(mapping, read_and_write_of_the_descriptor_are_refused)
{
	char byte = 0;

	EXPECT_EQ(-1, read(self->ex.fd, &byte, 1));
	EXPECT_EQ(-1, write(self->ex.fd, &byte, 1));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->m.len, 0, 1));
}

TEST_HARNESS_MAIN
