// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module stays while anything of it is in use, and goes when nothing is.
 *
 * Every test ends with the module loaded, as the others expect it.
 */
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmmexp_util.h"

#define MODULE		"vmmexp"
#define MODULE_FILE	"/vmmexp/module/vmmexp.ko"
#define NR_PAGES	4

FIXTURE(unload)
{
	int dev;
	long long pins;
	size_t page;
	size_t len;
	char *mem;
};

static int unload(void)
{
	return syscall(__NR_delete_module, MODULE, O_NONBLOCK) ? -errno : 0;
}

static int load(void)
{
	int fd = open(MODULE_FILE, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = syscall(__NR_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

static bool loaded(void)
{
	return !access("/sys/module/" MODULE, F_OK);
}

/* A reference may be dropped a moment after close() or munmap() returned. */
static int unload_soon(void)
{
	unsigned int tries;
	int ret = unload();

	for (tries = 0; tries < 100 && ret == -EWOULDBLOCK; tries++) {
		vmm_msleep(20);
		ret = unload();
	}
	return ret;
}

FIXTURE_SETUP(unload)
{
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->page = vmm_page_size();
	self->len = NR_PAGES * self->page;
	self->mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	vmm_fill(self->mem, self->len, 0, 1);
}

FIXTURE_TEARDOWN_PARENT(unload)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
	/* Whatever went wrong, the next test has its module. */
	EXPECT_TRUE(loaded() || !load());
}

/* Nothing is in use any more: out it goes, and in again. */
#define EXPECT_UNLOADS() do { \
	EXPECT_EQ(0, unload_soon()); \
	EXPECT_FALSE(loaded()); \
	EXPECT_EQ(-ENOENT, vmm_open()); \
	ASSERT_EQ(0, load()); \
} while (0)

/* It is in use: refused, and everything goes on working. */
#define EXPECT_STAYS() do { \
	EXPECT_EQ(-EWOULDBLOCK, unload()); \
	EXPECT_TRUE(loaded()); \
} while (0)

TEST_F(unload, unused_module_goes_and_comes_back)
{
	struct vmmexp_export ex;
	int i;

	close(self->dev);
	for (i = 0; i < 3; i++) {
		EXPECT_UNLOADS();
		self->dev = vmm_open();
		ASSERT_LE(0, self->dev);
		ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
		close(ex.fd);
		close(self->dev);
	}
}

TEST_F(unload, open_device_holds_the_module)
{
	struct vmmexp_info info;

	EXPECT_STAYS();
	EXPECT_VMM_OK(vmm_info(self->dev, &info), &info);
	close(self->dev);
	EXPECT_UNLOADS();
}

/* And what is opened of it in debugfs. */
TEST_F(unload, open_debugfs_file_holds_the_module)
{
	char text[64];
	int fd;

	close(self->dev);
	fd = open("/sys/kernel/debug/vmmexp/buffers", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_STAYS();
	EXPECT_LT(0, read(fd, text, sizeof(text)));
	EXPECT_STAYS();
	close(fd);
	EXPECT_UNLOADS();
	EXPECT_EQ(0, access("/sys/kernel/debug/vmmexp/buffers", F_OK));
}

TEST_F(unload, device_open_in_another_process_holds_the_module)
{
	int hold[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, hold));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vmmexp_info info;

		close(hold[0]);
		if (recv(hold[1], &byte, 1, 0) < 0)
			_exit(1);
		_exit(vmm_info(self->dev, &info) ? 2 : 0);
	}
	close(self->dev);
	close(hold[1]);
	EXPECT_STAYS();
	close(hold[0]);
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	EXPECT_UNLOADS();
}

TEST_F(unload, buffer_holds_the_module_without_the_device)
{
	struct vmmexp_export ex;
	char *view;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	close(self->dev);
	ASSERT_EQ(0, munmap(self->mem, self->len));
	EXPECT_STAYS();
	view = vmm_map(ex.fd, 0, self->len, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, 1));
	ASSERT_EQ(0, munmap(view, self->len));
	EXPECT_STAYS();
	close(ex.fd);
	EXPECT_UNLOADS();
}

TEST_F(unload, mapping_holds_the_module_without_any_descriptor)
{
	struct vmmexp_export ex;
	char *view;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	view = vmm_map(ex.fd, 0, self->len, PROT_READ);
	ASSERT_NE(NULL, view);
	close(ex.fd);
	close(self->dev);
	EXPECT_STAYS();
	/* Its faults are served by the module's code. */
	EXPECT_EQ(-1, vmm_mismatch(view, self->len, 0, 1));
	ASSERT_EQ(0, munmap(view + self->page, self->len - self->page));
	EXPECT_STAYS();
	ASSERT_EQ(0, munmap(view, self->page));
	EXPECT_UNLOADS();
}

TEST_F(unload, descriptor_in_flight_holds_the_module)
{
	struct vmmexp_export ex;
	int socks[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	ASSERT_EQ(0, vmm_send_fd(socks[0], ex.fd));
	close(ex.fd);
	close(self->dev);
	EXPECT_STAYS();
	close(socks[0]);
	close(socks[1]);
	EXPECT_UNLOADS();
}

TEST_F(unload, importer_holds_the_module_without_any_descriptor)
{
	struct drm_gem_close {
		__u32 handle;
		__u32 pad;
	} handle = {};
	struct {
		__u32 handle;
		__u32 flags;
		__s32 fd;
	} prime = {};
	struct vmmexp_export ex;
	int card = vmm_drm_open("vgem");

	ASSERT_LE(0, card);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	prime.fd = ex.fd;
	ASSERT_EQ(0, vmm_ioctl(card, _IOWR('d', 0x2e, prime), &prime)) {
		TH_LOG("vgem does not import the buffer");
	}
	close(ex.fd);
	close(self->dev);
	EXPECT_STAYS();
	handle.handle = prime.handle;
	ASSERT_EQ(0, vmm_ioctl(card, _IOW('d', 0x09, handle), &handle));
	EXPECT_UNLOADS();
}

struct call {
	int dev;
	void *mem;
	size_t len;
	struct vmmexp_export ex;
	int ret;
};

static void *export_main(void *arg)
{
	struct call *call = arg;

	call->ret = vmm_export(call->dev, call->mem, call->len, 0, &call->ex);
	return NULL;
}

/* The call waits in the kernel for a page; its device file is closed meanwhile. */
TEST_F(unload, running_call_holds_the_module)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {};
	struct pollfd fault = { .events = POLLIN };
	struct call call = { .dev = self->dev, .len = self->len };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	pthread_t thread;

	ASSERT_LE(0, uffd);
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	call.mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	ASSERT_NE(MAP_FAILED, call.mem);
	reg.range.start = (uintptr_t)call.mem;
	reg.range.len = self->len;
	reg.mode = UFFDIO_REGISTER_MODE_MISSING;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, pthread_create(&thread, NULL, export_main, &call));
	fault.fd = uffd;
	ASSERT_EQ(1, poll(&fault, 1, 10000));
	close(self->dev);
	EXPECT_STAYS();
	/* Without a userfaultfd the kernel provides the page itself. */
	close(uffd);
	pthread_join(thread, NULL);
	ASSERT_VMM_OK(call.ret, &call.ex);
	EXPECT_STAYS();
	close(call.ex.fd);
	EXPECT_UNLOADS();
}

TEST_F(unload, dry_run_and_refusals_hold_nothing)
{
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, VMMEXP_EXPORT_DRY_RUN, &ex),
		      &ex);
	ASSERT_EQ(0, munmap(self->mem + self->page, self->page));
	EXPECT_EQ(-EFAULT, vmm_export(self->dev, self->mem, self->len, 0, &ex));
	close(self->dev);
	EXPECT_UNLOADS();
}

static void *open_and_close(void *arg)
{
	bool *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_SEQ_CST)) {
		struct vmmexp_info info;
		int dev = vmm_open();

		if (dev >= 0) {
			if (vmm_info(dev, &info))
				abort();
			close(dev);
		}
	}
	return NULL;
}

TEST_F(unload, races_with_open)
{
	unsigned int gone = 0, busy = 0, i;
	bool stop = false;
	pthread_t thread;

	close(self->dev);
	ASSERT_EQ(0, pthread_create(&thread, NULL, open_and_close, &stop));
	for (i = 0; i < 60; i++) {
		int ret = unload();

		if (!ret) {
			gone++;
			ASSERT_EQ(0, load());
		} else {
			ASSERT_EQ(-EWOULDBLOCK, ret);
			busy++;
		}
	}
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	EXPECT_EQ(60, gone + busy);
	EXPECT_UNLOADS();
}

TEST_HARNESS_MAIN
