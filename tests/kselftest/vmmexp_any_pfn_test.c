// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that another driver maps by page frame number: refused, to everybody.
 * With unsafe_export_any_pfn_root_only_taints=1 RAM of that kind is exported to
 * who may do worse anyway, and to nobody else.
 *
 * The same tests run both ways: VMMEXP_ANY_PFN=1 says that the module was loaded
 * with the parameter (tests/guest/any-pfn.sh).
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/klog.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "importer_util.h"
#include "vmmexp_mock_util.h"

#define PARAMETER	"unsafe_export_any_pfn_root_only_taints"

/* The bit of TAINT_USER. */
#define TAINT_USER_BIT	0x40

static bool allowed(void)
{
	const char *text = getenv("VMMEXP_ANY_PFN");

	return text && !strcmp(text, "1");
}

static bool is_marked(void)
{
	return vmm_read_number("/proc/sys/kernel/tainted") & TAINT_USER_BIT;
}

/* How many lines of the kernel's log tell of the parameter's use; -1: unknown. */
static int log_lines(void)
{
	int size = klogctl(10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0), lines = 0;
	char *log = size > 0 ? calloc(1, size + 1) : NULL, *line;

	if (!log || klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, size) < 0) {
		free(log);
		return -1;
	}
	for (line = strtok(log, "\n"); line; line = strtok(NULL, "\n"))
		lines += strstr(line, "vmmexp: ") && strstr(line, PARAMETER);
	free(log);
	return lines;
}

/* Whether caches over cached memory would have to be maintained here. */
static bool needs_maintenance(int dev)
{
	struct vmmexp_info info;

	if (vmm_info(dev, &info))
		abort();
	return info.features & VMMEXP_FEATURE_CACHE_OPS;
}

FIXTURE(any_pfn)
{
	int dev;
	int bufs;
	long long pins;
	size_t page;
	struct video video;
	char *frame;		/* vivid's own coherent buffer */
	size_t len;		/* of it, whole pages */
	struct vmmexp_export ex;
};

FIXTURE_SETUP(any_pfn)
{
	self->video.fd = -1;
	self->ex.fd = -1;
	self->page = vmm_page_size();
	self->bufs = imp_bufs();
	self->pins = vmm_pins();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, vivid_capture_open(&self->video, VIVID_DMA_CONTIG, VIVID_INPUT_CAMERA));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_MMAP, 1));
	self->frame = video_map(&self->video);
	ASSERT_NE(NULL, self->frame);
	self->len = self->video.frame / self->page * self->page;
	memset(self->frame, 0, self->video.frame);
}

FIXTURE_TEARDOWN(any_pfn)
{
	if (self->ex.fd >= 0)
		close(self->ex.fd);
	if (self->frame)
		munmap(self->frame, self->video.frame);
	if (self->video.fd >= 0)
		close(self->video.fd);
	close(self->dev);
	EXPECT_EQ(self->bufs, imp_bufs());
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/*
 * The first test, so that the first use is in here: the kernel is marked by the
 * use, not by the parameter, and says so once however often it is used.
 */
TEST_F(any_pfn, taints_and_tells_once)
{
	struct vmmexp_export again;
	int ret;

	ASSERT_FALSE(is_marked());
	ASSERT_EQ(0, log_lines());

	/* Refused uses are none. */
	ASSERT_VMM_OK(vmm_export(self->dev, aligned_alloc(self->page, self->page), self->page, 0,
				 &again), &again);
	close(again.fd);
	ASSERT_FALSE(is_marked());

	ret = vmm_export(self->dev, self->frame, self->len, 0, &self->ex);
	if (!allowed()) {
		EXPECT_VMM_ERROR(ret, &self->ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
		EXPECT_FALSE(is_marked());
		EXPECT_EQ(0, log_lines());
		return;
	}
	ASSERT_VMM_OK(ret, &self->ex);
	EXPECT_TRUE(is_marked());
	EXPECT_EQ(1, log_lines());
	ASSERT_VMM_OK(vmm_export(self->dev, self->frame, self->page, 0, &again), &again);
	close(again.fd);
	EXPECT_EQ(1, log_lines());
}

/* One memory, whoever looks: the driver's mapping, the dma-buf's, a device. */
TEST_F(any_pfn, the_same_memory)
{
	struct vmmexp_mock_segment *segments;
	struct vmm_peer peer;
	int ret, mock, attachment, map;

	ASSERT_EQ(0, vmm_peer_start(&peer));
	ret = vmm_export(self->dev, self->frame, self->len, 0, &self->ex);
	if (!allowed()) {
		EXPECT_VMM_ERROR(ret, &self->ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
		goto out;
	}
	ASSERT_VMM_OK(ret, &self->ex);
	EXPECT_EQ((__u32)VMMEXP_KIND_DRIVER, self->ex.kinds);
	EXPECT_EQ(1, self->ex.nr_segs);
	EXPECT_EQ(self->len, self->ex.size);
	/* Nothing holds these pages but the file. */
	EXPECT_EQ(self->pins, vmm_pins());

	ASSERT_EQ(0, vmm_peer_give(&peer, 0, self->ex.fd, PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &peer, 0, self->frame, self->len, 0, true);

	mock = mock_open();
	ASSERT_LE(0, mock);
	attachment = mock_attach(mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	ASSERT_EQ(1, mock_segments(mock, map, &segments));
	EXPECT_EQ(self->len, segments->dma_length);
	free(segments);
	vmm_fill(self->frame, self->len, 0, 1);
	EXPECT_EQ(-1, mock_mismatch(mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, 0, self->len, 1));
	ASSERT_EQ(0, mock_fill(mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, 0, self->len, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->frame, self->len, 0, 2));
	ASSERT_EQ(0, mock_unmap(mock, map));
	/* Without pages there is nothing for the kernel to map. */
	EXPECT_EQ(-EINVAL, mock_vmap(mock, self->ex.fd, NULL));
	close(mock);
out:
	vmm_peer_stop(&peer);
}

/* What the device writes to its memory is seen through the dma-buf. */
TEST_F(any_pfn, vivid_captures_into_it)
{
	struct video other;
	char *want = malloc(self->len);
	int ret;

	ASSERT_NE(NULL, want);
	ret = vmm_export(self->dev, self->frame, self->len, 0, &self->ex);
	if (!allowed()) {
		EXPECT_VMM_ERROR(ret, &self->ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
		return;
	}
	ASSERT_VMM_OK(ret, &self->ex);
	/* The other instance would map it into the kernel. */
	ASSERT_EQ(0, vivid_capture_open(&other, VIVID_VMALLOC, VIVID_INPUT_CAMERA));
	EXPECT_GT(0, video_capture(&other, self->ex.fd));
	close(other.fd);

	ASSERT_EQ(0, vivid_pattern(&self->video, "100% Colorbar"));
	ASSERT_EQ(0, video_capture_own(&self->video));
	memcpy(want, self->frame, self->len);
	EXPECT_NE(0, memcmp(want, want + IMP_STRIDE / 2, 4)) TH_LOG("no bars in the picture");
	EXPECT_EQ(-1, imp_fd_differs(self->ex.fd, want, self->len));
	free(want);
}

/*
 * The file is held until the dma-buf is gone, and no longer: vivid gives its
 * queue to nobody else, and frees none of its buffers.
 */
TEST_F(any_pfn, the_file_is_held)
{
	struct video other;
	int ret;

	vmm_fill(self->frame, self->len, 0, 7);
	ret = vmm_export(self->dev, self->frame, self->len, 0, &self->ex);
	if (!allowed()) {
		EXPECT_VMM_ERROR(ret, &self->ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
		return;
	}
	ASSERT_VMM_OK(ret, &self->ex);
	ASSERT_EQ(0, munmap(self->frame, self->video.frame));
	self->frame = NULL;
	close(self->video.fd);

	self->video.fd = vivid_node(VIVID_DMA_CONTIG, V4L2_CAP_VIDEO_CAPTURE);
	ASSERT_LE(0, self->video.fd);
	other = self->video;
	EXPECT_EQ(-EBUSY, video_request(&other, V4L2_MEMORY_MMAP, 1));
	{
		char *map = vmm_map(self->ex.fd, 0, self->len, PROT_READ);

		ASSERT_NE(NULL, map);
		EXPECT_EQ(-1, vmm_mismatch(map, self->len, 0, 7));
		munmap(map, self->len);
	}
	close(self->ex.fd);
	self->ex.fd = -1;
	EXPECT_EQ(0, video_request(&other, V4L2_MEMORY_MMAP, 1));
}

/* What an export of the frame ends with in a child that @give_up was done to. */
static int export_as(struct _test_data_any_pfn *self, int (*give_up)(void))
{
	struct vmmexp_export ex;
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (give_up())
			_exit(100);
		if (!vmm_export(self->dev, self->frame, self->len, 0, &ex))
			_exit(0);
		_exit(ex.reason);
	}
	if (pid < 0 || vmm_wait(pid, &status, 60) || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int nothing(void)
{
	return 0;
}

static int another_user(void)
{
	return setresuid(1000, 1000, 1000);
}

/* Still root, with all other capabilities. */
static int no_rawio(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(__NR_capget, &header, data))
		return -1;
	data[0].effective &= ~(1u << CAP_SYS_RAWIO);
	return syscall(__NR_capset, &header, data);
}

/* All capabilities, in a user namespace of its own. */
static int own_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

TEST_F(any_pfn, only_who_may_do_worse)
{
	EXPECT_EQ(allowed() ? 0 : VMMEXP_REASON_PFNMAP, export_as(self, nothing));
	EXPECT_EQ(VMMEXP_REASON_PFNMAP, export_as(self, another_user));
	EXPECT_EQ(VMMEXP_REASON_PFNMAP, export_as(self, no_rawio));
	EXPECT_EQ(VMMEXP_REASON_PFNMAP, export_as(self, own_namespace));
}

TEST_F(any_pfn, access)
{
	struct vmmexp_export ex;
	int ret;

	ASSERT_EQ(0, mprotect(self->frame, self->page, PROT_READ));
	ret = vmm_export(self->dev, self->frame, self->page, 0, &ex);
	if (!allowed()) {
		EXPECT_VMM_ERROR(ret, &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
		return;
	}
	EXPECT_VMM_ERROR(ret, &ex, EFAULT, VMMEXP_REASON_NOT_WRITABLE, 0);
	ASSERT_VMM_OK(vmm_export(self->dev, self->frame, self->page, VMMEXP_EXPORT_READ_ONLY,
				 &ex), &ex);
	EXPECT_EQ(NULL, vmm_map(ex.fd, 0, self->page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	close(ex.fd);
	ASSERT_EQ(0, mprotect(self->frame, self->page, PROT_NONE));
	EXPECT_VMM_ERROR(vmm_export(self->dev, self->frame, self->page, VMMEXP_EXPORT_READ_ONLY,
				    &ex), &ex, EFAULT, VMMEXP_REASON_NOT_READABLE, 0);
}

/*
 * Several runs without pages, from a driver that brings pages in on a fault: a
 * display's buffer. For importers that can do without pages only.
 */
TEST_F(any_pfn, scattered)
{
	struct vmmexp_range ranges[3];
	struct vmmexp_export ex;
	int mock, attachment, ret, card;
	__u64 offset;
	char *dumb, *seen, *own;

	card = vmm_drm_open("vgem");
	ASSERT_LE(0, card);
	ASSERT_LT(0, vmm_drm_dumb(card, 4 * self->page, &offset));
	dumb = mmap(NULL, 4 * self->page, PROT_READ | PROT_WRITE, MAP_SHARED, card, offset);
	ASSERT_NE(MAP_FAILED, dumb);
	own = aligned_alloc(self->page, self->page);
	ASSERT_NE(NULL, own);
	/* Twice the same page: that is never one run. */
	ranges[0] = vmm_range(dumb + 2 * self->page, self->page);
	ranges[1] = vmm_range(own, self->page);
	ranges[2] = ranges[0];
	ret = vmm_export_ranges(self->dev, ranges, 3, 0, &ex);
	if (!allowed()) {
		EXPECT_VMM_ERROR(ret, &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
		goto out;
	}
	ASSERT_VMM_OK(ret, &ex);
	EXPECT_EQ((__u32)(VMMEXP_KIND_DRIVER | VMMEXP_KIND_ANON), ex.kinds);
	EXPECT_EQ(3, ex.nr_segs);

	seen = vmm_map(ex.fd, 0, 3 * self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, seen);
	vmm_fill(dumb + 2 * self->page, self->page, 0, 1);
	vmm_fill(own, self->page, 0, 2);
	EXPECT_EQ(-1, vmm_mismatch(seen, self->page, 0, 1));
	EXPECT_EQ(-1, vmm_mismatch(seen + self->page, self->page, 0, 2));
	EXPECT_EQ(-1, vmm_mismatch(seen + 2 * self->page, self->page, 0, 1));
	vmm_fill(seen, self->page, 0, 3);
	EXPECT_EQ(-1, vmm_mismatch(dumb + 2 * self->page, self->page, 0, 3));
	munmap(seen, 3 * self->page);

	mock = mock_open();
	ASSERT_LE(0, mock);
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(mock, ex.fd, 0));
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(mock, ex.fd, VMMEXP_MOCK_IMPORTER_OPS));
	attachment = mock_attach(mock, ex.fd,
				 VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_PEER2PEER);
	ASSERT_LE(0, attachment);
	ASSERT_LE(0, mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	EXPECT_EQ(-EINVAL, mock_vmap(mock, ex.fd, NULL));
	close(mock);
	close(ex.fd);
out:
	munmap(dumb, 4 * self->page);
	close(card);
	free(own);
}

/* Cached memory only where nobody has to maintain its caches. */
TEST_F(any_pfn, cached)
{
	const char *lacks = vmm_not_in_kernel("CONFIG_PERF_EVENTS");
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
	};
	struct vmmexp_export ex;
	char *ring;
	int fd, ret;

	if (lacks)
		SKIP(return, "%s", lacks);
	fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	ASSERT_LE(0, fd);
	ring = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, ring);
	ret = vmm_export(self->dev, ring, self->page, 0, &ex);
	if (!allowed()) {
		EXPECT_VMM_ERROR(ret, &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
	} else if (needs_maintenance(self->dev)) {
		EXPECT_VMM_ERROR(ret, &ex, EPERM, VMMEXP_REASON_REGION_CACHE, 0);
	} else {
		EXPECT_VMM_OK(ret, &ex);
		close(ex.fd);
	}
	munmap(ring, self->page);
	close(fd);
}

/* No parameter opens what is no RAM, or what a dma-buf was made of before. */
TEST_F(any_pfn, never)
{
	off_t where = vmm_config("CONFIG_X86") ? 0xf0000 : 0;
	struct vmmexp_export ex;
	char *own, *map;
	int fd;

	fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	map = mmap(NULL, self->page, PROT_READ, MAP_SHARED, fd, where);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_VMM_ERROR(vmm_export(self->dev, map, self->page, VMMEXP_EXPORT_READ_ONLY, &ex),
			 &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
	munmap(map, self->page);
	close(fd);

	fd = vmm_foreign_dmabuf(self->page);
	ASSERT_LE(0, fd);
	map = vmm_map(fd, 0, self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, map);
	EXPECT_VMM_ERROR(vmm_export(self->dev, map, self->page, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_PFNMAP, 0);
	munmap(map, self->page);
	close(fd);

	own = aligned_alloc(self->page, self->page);
	ASSERT_NE(NULL, own);
	ASSERT_VMM_OK(vmm_export(self->dev, own, self->page, 0, &self->ex), &self->ex);
	map = vmm_map(self->ex.fd, 0, self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, map);
	EXPECT_VMM_ERROR(vmm_export(self->dev, map, self->page, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_PFNMAP, 0);
	munmap(map, self->page);
}

TEST_HARNESS_MAIN
