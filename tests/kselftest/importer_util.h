/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the importer tests share: memory to export, and the smallest possible
 * V4L2 and DRM clients. Raw ioctls on the kernel's own headers, so that what is
 * tested is the kernel and not a library. As in vmmexp_util.h, functions return
 * -errno on failure and everything that waits is bounded.
 */
#ifndef _IMPORTER_UTIL_H
#define _IMPORTER_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <drm/drm.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_mode.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/videodev2.h>

#include "vmmexp_util.h"

/* Frames take their time on an emulated machine that shares its processors. */
#ifdef TEST_TIMEOUT_DEFAULT
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	180
#endif

/* What vivid captures and bochs shows: 640x480 XR24. */
#define IMP_WIDTH	640
#define IMP_HEIGHT	480
#define IMP_STRIDE	(IMP_WIDTH * 4)
#define IMP_FRAME	((size_t)IMP_STRIDE * IMP_HEIGHT)

/* A huge page where the targets have any. */
#define IMP_HUGE	(2ul << 20)

/* --- memory --------------------------------------------------------------- */

/*
 * MALLOC: from the C library
 * MEMFD: shared
 * HUGETLB: one huge page: contiguous
 * THP: one transparent huge page: contiguous
 * PACKET: lent by a driver (the ring of a packet socket), one allocation of
 *	the page allocator: contiguous, also on kernels without huge pages
 * SCATTERED: the pages of two private areas, alternating: not contiguous
 */
enum imp_kind { IMP_MALLOC, IMP_MEMFD, IMP_HUGETLB, IMP_THP, IMP_PACKET, IMP_SCATTERED };

struct imp_mem {
	enum imp_kind kind;
	size_t size;			/* to export; whole pages */
	struct vmmexp_range *ranges;
	unsigned int nr;
	char *map;			/* to give back */
	size_t map_len;
	int fd;				/* memfd or socket */
};

/* The configuration option that @kind needs, NULL if every kernel has it. */
static inline const char *imp_mem_config(enum imp_kind kind)
{
	switch (kind) {
	case IMP_HUGETLB:
		return "CONFIG_HUGETLBFS";
	case IMP_THP:
		return "CONFIG_TRANSPARENT_HUGEPAGE";
	default:
		return NULL;
	}
}

/* Are the @size bytes at @addr physically contiguous? */
static inline bool imp_contiguous(const char *addr, size_t size)
{
	size_t page = vmm_page_size(), i;
	long long first = vmm_pfn(addr);

	for (i = 0; i < size / page; i++)
		if (first < 0 || vmm_pfn(addr + i * page) != first + (long long)i)
			return false;
	return true;
}

static inline void imp_mem_free(struct imp_mem *mem)
{
	if (mem->kind == IMP_MALLOC)
		free(mem->map);
	else if (mem->map)
		munmap(mem->map, mem->map_len);
	mem->map = NULL;
	if (mem->fd >= 0)
		close(mem->fd);
	mem->fd = -1;
	free(mem->ranges);
	mem->ranges = NULL;
}

static inline int imp_mem_map(struct imp_mem *mem, size_t len, int flags, int fd)
{
	mem->map_len = len;
	mem->map = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (mem->map != MAP_FAILED)
		return 0;
	mem->map = NULL;
	return -errno;
}

/* Have huge pages that nobody uses. */
static inline int imp_hugetlb_reserve(void)
{
	const char *dir = "/sys/kernel/mm/hugepages/hugepages-2048kB";
	char free_path[96], nr_path[96], text[32];

	snprintf(free_path, sizeof(free_path), "%s/free_hugepages", dir);
	snprintf(nr_path, sizeof(nr_path), "%s/nr_hugepages", dir);
	if (vmm_read_number(free_path) >= 2)
		return 0;
	snprintf(text, sizeof(text), "%lld", vmm_read_number(nr_path) + 4);
	return vmm_write_file(nr_path, text);
}

static inline int imp_mem_packet(struct imp_mem *mem)
{
	struct tpacket_req ring = {
		.tp_block_size = IMP_HUGE,
		.tp_block_nr = 1,
		.tp_frame_size = IMP_HUGE,
		.tp_frame_nr = 1,
	};

	/* Protocol 0: it never receives anything. */
	mem->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (mem->fd < 0 ||
	    setsockopt(mem->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)))
		return -errno;
	return imp_mem_map(mem, IMP_HUGE, MAP_SHARED, mem->fd);
}

/* Get at least @size bytes, zeroed. imp_mem_free() also after a failure. */
static inline int imp_mem_alloc(struct imp_mem *mem, enum imp_kind kind, size_t size)
{
	size_t page = vmm_page_size(), i;
	char *start;
	int ret = 0;

	size = (size + page - 1) / page * page;
	*mem = (struct imp_mem){ .kind = kind, .size = size, .nr = 1, .fd = -1 };

	switch (kind) {
	case IMP_MALLOC:
		mem->map = aligned_alloc(page, size);
		ret = mem->map ? 0 : -ENOMEM;
		break;
	case IMP_MEMFD:
		mem->fd = memfd_create("importer", MFD_CLOEXEC);
		if (mem->fd < 0 || ftruncate(mem->fd, size))
			return -errno;
		ret = imp_mem_map(mem, size, MAP_SHARED, mem->fd);
		break;
	case IMP_HUGETLB:
		ret = imp_hugetlb_reserve();
		if (!ret)
			ret = imp_mem_map(mem, IMP_HUGE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
		break;
	case IMP_THP:
		ret = imp_mem_map(mem, 2 * IMP_HUGE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		break;
	case IMP_PACKET:
		ret = imp_mem_packet(mem);
		break;
	case IMP_SCATTERED:
		mem->nr = size / page;
		ret = imp_mem_map(mem, size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		break;
	}
	if (ret)
		return ret;

	start = mem->map;
	if (kind == IMP_THP) {
		start = (char *)(((uintptr_t)start + IMP_HUGE - 1) / IMP_HUGE * IMP_HUGE);
		if (madvise(start, IMP_HUGE, MADV_HUGEPAGE))
			return -errno;
	}
	memset(start, 0, size);
	/* These kinds are there for their contiguity. */
	if ((kind == IMP_HUGETLB || kind == IMP_THP || kind == IMP_PACKET) &&
	    !imp_contiguous(start, size))
		return -ENOTSUP;

	mem->ranges = calloc(mem->nr, sizeof(*mem->ranges));
	if (!mem->ranges)
		return -ENOMEM;
	if (mem->nr == 1)
		mem->ranges[0] = vmm_range(start, size);
	for (i = 0; mem->nr > 1 && i < mem->nr; i++) {
		size_t from = i / 2 + (i % 2 ? (mem->nr + 1) / 2 : 0);

		mem->ranges[i] = vmm_range(start + from * page, page);
	}
	return 0;
}

static inline int imp_mem_export(int dev, const struct imp_mem *mem, __u32 flags,
				 struct vmmexp_export *ex)
{
	return vmm_export_ranges(dev, mem->ranges, mem->nr, flags, ex);
}

/*
 * First byte of the buffer, as the exporting process sees it in its own memory,
 * that is not @want's; -1 if there is none.
 */
static inline long long imp_mem_differs(const struct imp_mem *mem, const void *want,
					size_t len)
{
	const char *expected = want;
	size_t done = 0, i, j, n;

	for (i = 0; i < mem->nr && done < len; i++) {
		const char *have = (const char *)(uintptr_t)mem->ranges[i].start;

		n = mem->ranges[i].len < len - done ? mem->ranges[i].len : len - done;
		if (memcmp(have, expected + done, n))
			for (j = 0; j < n; j++)
				if (have[j] != expected[done + j])
					return done + j;
		done += n;
	}
	return done < len ? (long long)done : -1;
}

static inline void imp_mem_write(const struct imp_mem *mem, const void *from, size_t len)
{
	const char *data = from;
	size_t i, n;

	for (i = 0; i < mem->nr && len; i++, data += n, len -= n) {
		n = mem->ranges[i].len < len ? mem->ranges[i].len : len;
		memcpy((char *)(uintptr_t)mem->ranges[i].start, data, n);
	}
}

static inline void imp_mem_set(const struct imp_mem *mem, int byte)
{
	size_t i;

	for (i = 0; i < mem->nr; i++)
		memset((char *)(uintptr_t)mem->ranges[i].start, byte, mem->ranges[i].len);
}

/* The same for a dma-buf, through a mapping of its descriptor. */
static inline long long imp_fd_differs(int fd, const void *want, size_t len)
{
	const char *expected = want;
	char *have = vmm_map(fd, 0, len, PROT_READ);
	long long i = -1;

	if (!have)
		return -1000 - errno;
	if (memcmp(have, expected, len))
		for (i = 0; have[i] == expected[i]; i++)
			;
	munmap(have, len);
	return i;
}

/* Who uses the dma-buf now; all zero: nobody. */
struct imp_users {
	__u32 attachments;
	__u32 device_mappings;
	__u32 kernel_mappings;
};

static inline int imp_users(int dev, int fd, struct imp_users *users)
{
	struct vmmexp_query query;
	int ret = vmm_query(dev, fd, &query);

	*users = (struct imp_users){
		.attachments = query.attachments,
		.device_mappings = query.device_mappings,
		.kernel_mappings = query.kernel_mappings,
	};
	return ret;
}

/* Buffers of vmmexp in the whole system, as debugfs tells it; -1: it does not. */
static inline int imp_bufs(void)
{
	FILE *file = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");
	char line[256];
	int n = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		n += !!strstr(line, "\tvmmexp\t");
	fclose(file);
	return n;
}

/* --- V4L2: vivid ---------------------------------------------------------- */

/*
 * Two instances, each with a camera input, an HDMI input, and an HDMI output:
 * number 0 allocates with vmalloc (and so maps dma-bufs into the kernel),
 * number 1 is like most real devices (maps them for DMA, wants them contiguous).
 */
#define VIVID_VMALLOC		0
#define VIVID_DMA_CONTIG	1

#define VIVID_INPUT_CAMERA	0
#define VIVID_INPUT_HDMI	1

static inline int vivid_load(void)
{
	char text[256];

	if (!vmm_read_file("/sys/module/vivid/parameters/allocators", text, sizeof(text))) {
		if (!strncmp(text, "0,1,", 4) &&
		    vmm_read_number("/sys/module/vivid/parameters/n_devs") == 2 &&
		    !vmm_read_file("/sys/module/vivid/parameters/input_types", text,
				   sizeof(text)) &&
		    !strncmp(text, "12,12,", 6))
			return 0;
		if (system("rmmod vivid"))
			return -EBUSY;
	}
	snprintf(text, sizeof(text), "modprobe vivid n_devs=2 allocators=0,1 %s %s",
		 "node_types=0x101,0x101 num_inputs=2,2 input_types=0xc,0xc",
		 "num_outputs=1,1 output_types=1,1");
	return system(text) ? -ENOENT : 0;
}

struct video {
	int fd;
	__u32 type;		/* V4L2_BUF_TYPE_VIDEO_CAPTURE or _OUTPUT */
	size_t frame;		/* bytes */
};

/* The capture or output node of a vivid instance. */
static inline int vivid_node(unsigned int instance, __u32 wanted)
{
	char path[32], bus[32];
	unsigned int i;

	snprintf(bus, sizeof(bus), "platform:vivid-%03u", instance);
	for (i = 0; i < 64; i++) {
		struct v4l2_capability cap = {};
		int fd;

		snprintf(path, sizeof(path), "/dev/video%u", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!ioctl(fd, VIDIOC_QUERYCAP, &cap) &&
		    !strcmp((char *)cap.bus_info, bus) && (cap.device_caps & wanted))
			return fd;
		close(fd);
	}
	return -ENODEV;
}

/* The control with that name; @value becomes the number of menu item @item. */
static inline int video_find_control(int fd, const char *name, const char *item,
				     struct v4l2_control *control)
{
	struct v4l2_queryctrl query = { .id = V4L2_CTRL_FLAG_NEXT_CTRL };
	int i;

	while (!ioctl(fd, VIDIOC_QUERYCTRL, &query)) {
		if (!strcmp((char *)query.name, name))
			break;
		query.id |= V4L2_CTRL_FLAG_NEXT_CTRL;
	}
	if (strcmp((char *)query.name, name))
		return -ENOENT;

	for (i = 0; i <= query.maximum; i++) {
		struct v4l2_querymenu menu = { .id = query.id, .index = i };

		if (!ioctl(fd, VIDIOC_QUERYMENU, &menu) && !strcmp((char *)menu.name, item))
			break;
	}
	*control = (struct v4l2_control){ .id = query.id, .value = i };
	return i <= query.maximum ? 0 : -ENOENT;
}

/* Set a control to a menu item, both by name. */
static inline int video_control(int fd, const char *name, const char *item)
{
	struct v4l2_control control;
	int ret = video_find_control(fd, name, item, &control);

	return ret ? ret : vmm_ioctl(fd, VIDIOC_S_CTRL, &control);
}

/* A picture that is the same in every frame. */
static inline int vivid_pattern(const struct video *video, const char *pattern)
{
	int ret = video_control(video->fd, "OSD Text Mode", "None");

	return ret ? ret : video_control(video->fd, "Test Pattern", pattern);
}

static inline int video_format(struct video *video)
{
	struct v4l2_format format = {
		.type = video->type,
		.fmt.pix = {
			.width = IMP_WIDTH,
			.height = IMP_HEIGHT,
			.pixelformat = V4L2_PIX_FMT_XBGR32,
			.field = V4L2_FIELD_NONE,
		},
	};

	if (ioctl(video->fd, VIDIOC_S_FMT, &format))
		return -errno;
	video->frame = format.fmt.pix.sizeimage;
	return format.fmt.pix.width == IMP_WIDTH && format.fmt.pix.height == IMP_HEIGHT &&
	       format.fmt.pix.pixelformat == V4L2_PIX_FMT_XBGR32 &&
	       format.fmt.pix.bytesperline == IMP_STRIDE && video->frame == IMP_FRAME ?
		       0 : -ERANGE;
}

/* CEA-861 format 1. */
static inline int video_timings(const struct video *video)
{
	struct v4l2_dv_timings timings = {
		.type = V4L2_DV_BT_656_1120,
		.bt = {
			.width = IMP_WIDTH,
			.height = IMP_HEIGHT,
			.pixelclock = 25175000,
			.hfrontporch = 16,
			.hsync = 96,
			.hbackporch = 48,
			.vfrontporch = 10,
			.vsync = 2,
			.vbackporch = 33,
			.standards = V4L2_DV_BT_STD_DMT | V4L2_DV_BT_STD_CEA861,
			.flags = V4L2_DV_FL_HAS_CEA861_VIC,
			.cea861_vic = 1,
		},
	};

	return vmm_ioctl(video->fd, VIDIOC_S_DV_TIMINGS, &timings);
}

static inline int vivid_capture_open(struct video *video, unsigned int instance, int input)
{
	int ret;

	*video = (struct video){ .fd = -1, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };
	ret = vivid_load();
	if (ret)
		return ret;
	video->fd = vivid_node(instance, V4L2_CAP_VIDEO_CAPTURE);
	if (video->fd < 0)
		return video->fd;
	ret = vmm_ioctl(video->fd, VIDIOC_S_INPUT, &input);
	if (!ret && input == VIVID_INPUT_HDMI)
		ret = video_timings(video);
	return ret ? ret : video_format(video);
}

static inline int vivid_output_open(struct video *video, unsigned int instance)
{
	int ret, output = 0;

	*video = (struct video){ .fd = -1, .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	ret = vivid_load();
	if (ret)
		return ret;
	video->fd = vivid_node(instance, V4L2_CAP_VIDEO_OUTPUT);
	if (video->fd < 0)
		return video->fd;
	ret = vmm_ioctl(video->fd, VIDIOC_S_OUTPUT, &output);
	if (!ret)
		ret = video_timings(video);
	return ret ? ret : video_format(video);
}

/*
 * Plug the HDMI input into the same instance's output, or unplug it.
 *
 * The control starts a work item that updates the menus of all inputs; when it
 * looks at the control while that is being set it takes the new item for
 * somebody else's and resets the control. So look whether the plug holds.
 */
static inline int vivid_loop(const struct video *video, unsigned int instance, bool on)
{
	struct v4l2_control wanted, now;
	char input[48], output[48];
	int tries, ret;

	snprintf(input, sizeof(input), "HDMI %03u-0 Is Connected To", instance);
	snprintf(output, sizeof(output), "Output HDMI %03u-0", instance);
	for (tries = 0; tries < 10; tries++) {
		ret = video_find_control(video->fd, input,
					 on ? output : "Test Pattern Generator", &wanted);
		now = wanted;
		if (!ret)
			ret = vmm_ioctl(video->fd, VIDIOC_S_CTRL, &now);
		if (ret)
			return ret;
		vmm_msleep(300);
		ret = vmm_ioctl(video->fd, VIDIOC_G_CTRL, &now);
		if (ret || now.value == wanted.value)
			return ret;
	}
	return -EAGAIN;
}

static inline int video_request(const struct video *video, __u32 memory, unsigned int count)
{
	struct v4l2_requestbuffers request = {
		.count = count,
		.type = video->type,
		.memory = memory,
	};
	int ret = vmm_ioctl(video->fd, VIDIOC_REQBUFS, &request);

	return !ret && request.count < count ? -ENOMEM : ret;
}

static inline int video_queue(const struct video *video, unsigned int index, int fd)
{
	struct v4l2_buffer buffer = {
		.index = index,
		.type = video->type,
		.field = V4L2_FIELD_NONE,
		.memory = V4L2_MEMORY_DMABUF,
		.bytesused = V4L2_TYPE_IS_OUTPUT(video->type) ? video->frame : 0,
		.m.fd = fd,
	};

	return vmm_ioctl(video->fd, VIDIOC_QBUF, &buffer);
}

static inline int video_stream(const struct video *video, bool on)
{
	int type = video->type;

	return vmm_ioctl(video->fd, on ? VIDIOC_STREAMON : VIDIOC_STREAMOFF, &type);
}

/* Wait for a buffer and take it back; its index, or -errno. */
static inline int video_dequeue(const struct video *video, __u32 memory)
{
	bool output = V4L2_TYPE_IS_OUTPUT(video->type);
	struct pollfd done = { .fd = video->fd, .events = output ? POLLOUT : POLLIN };
	struct v4l2_buffer buffer = { .type = video->type, .memory = memory };

	if (poll(&done, 1, 20000) != 1)
		return -ETIMEDOUT;
	if (ioctl(video->fd, VIDIOC_DQBUF, &buffer))
		return -errno;
	if (buffer.flags & V4L2_BUF_FLAG_ERROR)
		return -EIO;
	if (!output && buffer.bytesused != video->frame)
		return -EMSGSIZE;
	return buffer.index;
}

/* One frame into a dma-buf, which the device then lets go. */
static inline int video_capture(const struct video *video, int fd)
{
	int ret = video_request(video, V4L2_MEMORY_DMABUF, 1), end;

	if (ret)
		return ret;
	ret = video_queue(video, 0, fd);
	if (!ret)
		ret = video_stream(video, true);
	if (!ret)
		ret = video_dequeue(video, V4L2_MEMORY_DMABUF);
	end = video_stream(video, false);
	if (!end)
		end = video_request(video, V4L2_MEMORY_DMABUF, 0);
	return ret < 0 ? ret : end;
}

/*
 * Map the buffer number 0 of @video's own (V4L2_MEMORY_MMAP), NULL on failure.
 * Ask for it by video_request() first.
 */
static inline char *video_map(const struct video *video)
{
	struct v4l2_buffer buffer = { .type = video->type, .memory = V4L2_MEMORY_MMAP };
	char *addr;

	if (ioctl(video->fd, VIDIOC_QUERYBUF, &buffer))
		return NULL;
	addr = mmap(NULL, video->frame, PROT_READ | PROT_WRITE, MAP_SHARED, video->fd,
		    buffer.m.offset);
	return addr == MAP_FAILED ? NULL : addr;
}

/* One frame into buffer 0 of its own. */
static inline int video_capture_own(const struct video *video)
{
	struct v4l2_buffer buffer = { .type = video->type, .memory = V4L2_MEMORY_MMAP };
	int ret = vmm_ioctl(video->fd, VIDIOC_QBUF, &buffer), end;

	if (!ret)
		ret = video_stream(video, true);
	if (!ret)
		ret = video_dequeue(video, V4L2_MEMORY_MMAP);
	end = video_stream(video, false);
	return ret < 0 ? ret : end;
}

/* What the device captures when no dma-buf has a part in it. */
static inline int video_reference(const struct video *video, char *frame)
{
	int ret = video_request(video, V4L2_MEMORY_MMAP, 1), end;
	char *addr;

	if (ret)
		return ret;
	addr = video_map(video);
	if (!addr)
		return -errno;
	memset(addr, 0xaa, video->frame);
	ret = video_capture_own(video);
	memcpy(frame, addr, video->frame);
	munmap(addr, video->frame);
	end = video_request(video, V4L2_MEMORY_MMAP, 0);
	return ret ? ret : end;
}

/* --- DRM ------------------------------------------------------------------ */

/* The card whose driver calls itself @name; @module is loaded for it. */
static inline int drm_card(const char *module, const char *name)
{
	char path[32], driver[32];
	unsigned int i;

	if (vmm_modprobe(module))
		return -ENOENT;
	for (i = 0; i < 16; i++) {
		struct drm_version version = {
			.name = driver,
			.name_len = sizeof(driver),
		};
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%u", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) &&
		    version.name_len == strlen(name) &&
		    !strncmp(driver, name, strlen(name)))
			return fd;
		close(fd);
	}
	return -ENODEV;
}

/* PRIME import: a handle, or -errno. */
static inline int drm_import(int card, int fd)
{
	struct drm_prime_handle prime = { .fd = fd };
	int ret = vmm_ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime);

	return ret ? ret : (int)prime.handle;
}

/* PRIME export of a handle: a descriptor, or -errno. */
static inline int drm_export(int card, __u32 handle, __u32 flags)
{
	struct drm_prime_handle prime = { .handle = handle, .flags = flags, .fd = -1 };
	int ret = vmm_ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime);

	return ret ? ret : prime.fd;
}

static inline int drm_close_handle(int card, __u32 handle)
{
	struct drm_gem_close close = { .handle = handle };

	return vmm_ioctl(card, DRM_IOCTL_GEM_CLOSE, &close);
}

/* Do two descriptors name one dma-buf? */
static inline bool imp_same_file(int a, int b)
{
	struct stat sa, sb;

	return !fstat(a, &sa) && !fstat(b, &sb) && sa.st_ino == sb.st_ino &&
	       sa.st_dev == sb.st_dev;
}

#endif /* _IMPORTER_UTIL_H */
