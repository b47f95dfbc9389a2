// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that somebody else has to bring in, who keeps us waiting: a file of a
 * file system in user space (FUSE), whose server answers late, or never. A
 * network file system is no different.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "vmmexp_mock_util.h"

/* More than the kernel maps around a fault. */
#define NR_PAGES	40

#define FILE_NODE	2
#define SEED		77

/* What the server and the test share. */
struct stall {
	/* Whether it answers requests for the file's contents. */
	atomic_bool answer;
	/* How many such requests came. */
	atomic_uint asked;
	size_t len;
};

static void reply(int fuse, __u64 unique, int error, const void *data, size_t len)
{
	struct fuse_out_header header = {
		.len = sizeof(header) + len,
		.error = error,
		.unique = unique,
	};
	struct iovec iov[2] = {
		{ &header, sizeof(header) },
		{ (void *)data, len },
	};

	/* It may have been given up meanwhile. */
	if (writev(fuse, iov, 2) < 0 && errno != ENOENT)
		_exit(3);
}

static struct fuse_attr attributes(const struct stall *stall, __u64 node)
{
	return (struct fuse_attr){
		.ino = node,
		.size = stall->len,
		.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0666,
		.nlink = 1,
		.blksize = 4096,
	};
}

static void answer_read(int fuse, const struct stall *stall, __u64 unique,
			const struct fuse_read_in *in)
{
	size_t len = in->offset < stall->len ? stall->len - in->offset : 0;
	char *data;

	if (len > in->size)
		len = in->size;
	data = malloc(len + 1);
	if (!data)
		_exit(4);
	vmm_fill(data, len, in->offset, SEED);
	reply(fuse, unique, 0, data, len);
	free(data);
}

/* A file system with one file. */
static void serve(int fuse, struct stall *stall)
{
	static char buf[FUSE_MIN_READ_BUFFER + (1 << 20)];
	const struct fuse_in_header *in = (const void *)buf;
	const void *arg = buf + sizeof(*in);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(fuse, buf, sizeof(buf)) > 0) {
		struct fuse_init_out init = {
			.major = FUSE_KERNEL_VERSION,
			.minor = FUSE_KERNEL_MINOR_VERSION,
			.max_readahead = 1 << 17,
			/* Else the reader waits in here, and not for the page. */
			.flags = FUSE_ASYNC_READ,
			.max_write = 1 << 16,
		};
		struct fuse_entry_out entry = {
			.nodeid = FILE_NODE,
			.attr = attributes(stall, FILE_NODE),
		};
		struct fuse_attr_out attr = { .attr = attributes(stall, in->nodeid) };
		struct fuse_open_out open = {
			.fh = 1,
			.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH,
		};

		switch (in->opcode) {
		case FUSE_INIT:
			if (((const struct fuse_init_in *)arg)->minor < init.minor)
				init.minor = ((const struct fuse_init_in *)arg)->minor;
			reply(fuse, in->unique, 0, &init, sizeof(init));
			break;
		case FUSE_LOOKUP:
			reply(fuse, in->unique, 0, &entry, sizeof(entry));
			break;
		case FUSE_GETATTR:
			reply(fuse, in->unique, 0, &attr, sizeof(attr));
			break;
		case FUSE_OPEN:
			reply(fuse, in->unique, 0, &open, sizeof(open));
			break;
		case FUSE_READ:
			stall->asked++;
			while (!stall->answer)
				vmm_msleep(10);
			answer_read(fuse, stall, in->unique, arg);
			break;
		case FUSE_RELEASE:
			reply(fuse, in->unique, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			reply(fuse, in->unique, -EOPNOTSUPP, NULL, 0);
		}
	}
	_exit(0);
}

FIXTURE(stall)
{
	const char *lacks;
	long long pins;
	int dev;
	size_t len;
	struct stall *shared;
	char dir[32];
	char path[48];
	pid_t server;
};

FIXTURE_VARIANT(stall)
{
	int prot;
	int map_flags;
	__u32 flags;
};

FIXTURE_VARIANT_ADD(stall, private) {
	.prot = PROT_READ | PROT_WRITE,
	.map_flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(stall, private_read_only) {
	.prot = PROT_READ,
	.map_flags = MAP_PRIVATE,
	.flags = VMMEXP_EXPORT_READ_ONLY,
};

FIXTURE_VARIANT_ADD(stall, shared_read_only) {
	.prot = PROT_READ,
	.map_flags = MAP_SHARED,
	.flags = VMMEXP_EXPORT_READ_ONLY,
};

FIXTURE_SETUP(stall)
{
	char options[96];
	int fuse;

	self->lacks = vmm_not_in_kernel("CONFIG_FUSE_FS");
	if (self->lacks)
		return;
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->len = NR_PAGES * vmm_page_size();
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->shared);
	self->shared->len = self->len;
	ASSERT_EQ(0, vmm_modprobe("fuse"));
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fuse) TH_LOG("%s", strerror(errno));
	snprintf(self->dir, sizeof(self->dir), "/tmp/vmmexp-stall-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	snprintf(self->path, sizeof(self->path), "%s/file", self->dir);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	ASSERT_EQ(0, mount("vmmexp", self->dir, "fuse.vmmexp", MS_NOSUID | MS_NODEV, options));
	self->server = fork();
	ASSERT_LE(0, self->server);
	if (!self->server)
		serve(fuse, self->shared);
	close(fuse);
}

FIXTURE_TEARDOWN(stall)
{
	int status;

	if (self->lacks)
		return;
	/* Whoever is still waiting gets an answer. */
	self->shared->answer = true;
	vmm_msleep(100);
	EXPECT_EQ(0, umount2(self->dir, MNT_DETACH));
	kill(self->server, SIGKILL);
	EXPECT_EQ(0, vmm_wait(self->server, &status, 10));
	EXPECT_EQ(0, rmdir(self->dir));
	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
	close(self->dev);
}

static char *map_file(const char *path, size_t len, int prot, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *mem = fd < 0 ? MAP_FAILED : mmap(NULL, len, prot, flags, fd, 0);

	if (fd >= 0)
		close(fd);
	return mem;
}

/* The call waits for the answer, and then the buffer has what was answered. */
TEST_F(stall, late_answer)
{
	struct vmmexp_export ex;
	char *mem, *view;
	pid_t pid;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	mem = map_file(self->path, self->len, variant->prot, variant->map_flags);
	ASSERT_NE(MAP_FAILED, mem) TH_LOG("%s", strerror(errno));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		while (!self->shared->asked)
			vmm_msleep(1);
		vmm_msleep(30);
		self->shared->answer = true;
		_exit(0);
	}
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->len, variant->flags, &ex), &ex);
	EXPECT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(self->pins + NR_PAGES, vmm_pins());
	view = vmm_map(ex.fd, 0, self->len, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, SEED));
	if (variant->prot & PROT_WRITE) {
		vmm_fill(mem, self->len, 0, SEED + 1);
		EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, SEED + 1));
	}
	munmap(view, self->len);
	close(ex.fd);
	munmap(mem, self->len);
}

/* Nor does it wait for ever: what is killed is gone, with all that it held. */
TEST_F(stall, sigkill_ends_the_wait)
{
	int status;
	pid_t pid;

	if (self->lacks)
		SKIP(return, "%s", self->lacks);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = map_file(self->path, self->len, variant->prot, variant->map_flags);
		struct vmmexp_range ranges[2];
		struct vmmexp_export ex;

		if (mem == MAP_FAILED)
			_exit(10);
		/* Something that is there comes first. */
		ranges[0] = vmm_range(mock_mem_anon(self->len), self->len);
		ranges[1] = vmm_range(mem, self->len);
		vmm_export_ranges(self->dev, ranges, 2, variant->flags, &ex);
		_exit(11);
	}
	while (!self->shared->asked && waitpid(pid, &status, WNOHANG) != pid)
		vmm_msleep(1);
	/* By now it waits, and has pinned what came before. */
	vmm_msleep(50);
	EXPECT_EQ(self->pins + NR_PAGES, vmm_pins());
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(0, vmm_wait(pid, &status, 10)) {
		TH_LOG("it cannot be killed");
	}
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_HARNESS_MAIN
