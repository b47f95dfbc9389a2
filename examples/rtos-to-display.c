// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames of an RTOS on a display and in a codec, no copy: another core of the
 * chip draws them into memory that was carved out of Linux's, Linux drivers
 * read them there.
 *
 *   rtos-to-display [-n frames] [-x walk|region|both] [-d /dev/dri/cardN]
 *                   [-c /dev/videoN [-l /dev/videoM]]
 *
 * A display or a codec takes dma-bufs, and the carve-out has no driver that
 * could export one. vmmexp exports it, in two ways:
 *
 *   walk     as memory of this process, wherever it is mapped: vmmexp finds the
 *            physical pages in the page tables
 *   region   as a piece of the carve-out itself, which need not be mapped
 *
 * -x says which of them the display gets (both: one frame from the one, the
 * next from the other). The codec (-c, a V4L2 output; vivid's stands in for
 * one) always gets the region's. -l names the V4L2 capture device at the other
 * end of vivid's cable, to see what arrived there.
 *
 * The RTOS and this program share a mailbox, see rtos-mailbox.h, and neither
 * has any help from the other's kernel. Ends after -n frames, or when the RTOS
 * switches off.
 */
#include <drm/drm.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_mode.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <linux/vmmexp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "rtos-mailbox.h"
#include "vmmexp-reason.h"

#define FRAMES_DEVICE	"/dev/vmmexp-frames"
#define MAILBOX_DEVICE	"/dev/vmmexp-ctl"

/* How long to wait for the RTOS before calling it dead. */
#define PATIENCE_MS	30000

enum way { WALK, REGION, NR_WAYS };

static const char *const way_names[] = { "page-table walk", "region" };

struct buffer {
	void *memory;		/* this process's view, for the checksum */
	int dmabuf[NR_WAYS];
	uint32_t fb[NR_WAYS];	/* of the display */
	uint32_t frame;		/* the RTOS's number of what is in it */
	uint32_t checksum;	/* as the RTOS said */
	bool held;		/* it is Linux's: not given back yet */
	bool on_screen;
	bool in_codec;
};

struct codec {
	int output;		/* -1: there is none */
	int cable;		/* -1: nobody looks at the other end */
	bool looking;
	void *arriving[2];
	uint32_t sent[64];	/* checksums of the latest frames, a ring */
	unsigned int nr_sent;
	unsigned int arrived, altered;
};

struct show {
	int vmmexp;
	int frames_fd;
	struct rtos_mailbox *mailbox;
	struct rtos_mailbox layout;	/* what it said at first; it cannot be trusted later */
	size_t frame_size;
	struct buffer buffer[RTOS_BUFFERS_MAX];

	int card;
	uint32_t crtc;
	bool use[NR_WAYS];
	struct buffer *screen;		/* what is scanned out */
	struct buffer *flipping;	/* what is, from the next frame on */
	struct codec codec;

	uint32_t next;			/* frame that should come */
	unsigned int delivered, dropped, torn, run, longest_run;
	unsigned int flips[NR_WAYS];
	uint64_t first_at, last_at;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000) + ts.tv_nsec / 1000000;
}

static int open_device(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "open %s", path);
	return fd;
}

/* ------------------------------------------------------------- vmmexp --- */

static struct vmmexp_export export_of(const struct vmmexp_range *range, const char *name)
{
	struct vmmexp_export export = {
		.ranges = (uintptr_t)range,
		.nr_ranges = 1,
		.range_size = sizeof(*range),
		.fd_flags = O_CLOEXEC,
	};

	snprintf(export.name, sizeof(export.name), "%s", name);
	return export;
}

/*
 * A frame buffer as a dma-buf. max_segs = 1 because the display has no IOMMU: a
 * buffer in pieces would be of no use, and is refused here, with the reason.
 */
static int export_frame(struct show *show, enum way way, unsigned int i)
{
	struct vmmexp_range range = {
		.start = way == WALK ? (uintptr_t)show->buffer[i].memory :
				       show->layout.buffer[i].offset,
		.len = show->frame_size,
		.flags = way == WALK ? 0 : VMMEXP_RANGE_REGION,
		.region_fd = way == WALK ? 0 : show->frames_fd,
	};
	struct vmmexp_export export = export_of(&range, way_names[way]);

	export.max_segs = 1;
	if (ioctl(show->vmmexp, VMMEXP_IOC_EXPORT, &export))
		err(1, "export of frame buffer %u by %s refused because of %s at byte %llu", i,
		    way_names[way], vmmexp_reason_name(export.reason),
		    (unsigned long long)export.error_offset);
	if (export.kinds != VMMEXP_KIND_CARVEOUT)
		errx(1, "frame buffer %u is not in the carve-out (kinds %#x)", i, export.kinds);
	return export.fd;
}

/*
 * Before the CPU reads what the RTOS's core wrote, and after. Costs nothing on
 * an uncached region; on a cached one it is what makes the CPU see the frame.
 */
static void sync_for_cpu(struct show *show, const struct buffer *buffer, uint32_t begin_or_end)
{
	struct vmmexp_sync sync = {
		.fd = buffer->dmabuf[WALK],
		.flags = VMMEXP_SYNC_READ | begin_or_end,
	};

	if (ioctl(show->vmmexp, VMMEXP_IOC_SYNC, &sync))
		err(1, "sync refused because of %s", vmmexp_reason_name(sync.reason));
}

/* --------------------------------------------------------------- RTOS --- */

static void *map_region(int fd, size_t size, const char *what)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		err(1, "mapping %s", what);
	return memory;
}

static uint64_t region_size(int vmmexp, const char *device)
{
	struct vmmexp_region_info regions[16] = {};
	struct vmmexp_info info = {
		.regions = (uintptr_t)regions,
		.nr_regions = 16,
		.region_size = sizeof(*regions),
	};
	const char *name = strchr(device, '-') + 1;
	unsigned int i;

	if (ioctl(vmmexp, VMMEXP_IOC_INFO, &info))
		err(1, "asking vmmexp for its carve-outs");
	for (i = 0; i < info.total_regions && i < 16; i++)
		if (!strcmp(regions[i].name, name))
			return regions[i].size;
	errx(1, "vmmexp has no carve-out \"%s\"", name);
}

/* Wait until the RTOS is up, and take what it says for what it is: a claim. */
static void meet_rtos(struct show *show)
{
	uint64_t size = region_size(show->vmmexp, FRAMES_DEVICE), start = now_ms();
	struct rtos_mailbox *layout = &show->layout;
	int fd = open_device(MAILBOX_DEVICE);
	char *frames;
	uint32_t i;

	show->mailbox = map_region(fd, sysconf(_SC_PAGESIZE), MAILBOX_DEVICE);
	close(fd);
	while (rtos_load(&show->mailbox->magic) != RTOS_MAGIC) {
		if (now_ms() - start > PATIENCE_MS)
			errx(1, "there is no RTOS at the other end of the mailbox");
		usleep(10000);
	}
	*layout = *show->mailbox;
	if (layout->version != RTOS_VERSION || layout->format != DRM_FORMAT_XRGB8888)
		errx(1, "the RTOS speaks version %u, format %.4s", layout->version,
		     (const char *)&layout->format);
	if (!layout->width || layout->width > 4096 || !layout->height || layout->height > 4096 ||
	    layout->stride != layout->width * 4 || layout->nr_buffers < 2 ||
	    layout->nr_buffers > RTOS_BUFFERS_MAX)
		errx(1, "the RTOS offers %u buffers of %ux%u", layout->nr_buffers, layout->width,
		     layout->height);

	show->frame_size = (size_t)layout->stride * layout->height;
	show->frames_fd = open_device(FRAMES_DEVICE);
	frames = map_region(show->frames_fd, size, FRAMES_DEVICE);
	for (i = 0; i < layout->nr_buffers; i++) {
		if (layout->buffer[i].offset > size ||
		    show->frame_size > size - layout->buffer[i].offset)
			errx(1, "frame buffer %u is not in the carve-out", i);
		show->buffer[i].memory = frames + layout->buffer[i].offset;
	}
	printf("1. RTOS     %u buffers of %ux%u in %llu KiB of memory that Linux never had\n",
	       layout->nr_buffers, layout->width, layout->height,
	       (unsigned long long)size / 1024);
}

/* The frame that the RTOS finished first, of those it has finished. */
static struct buffer *next_frame(struct show *show)
{
	struct buffer *best = NULL;
	uint32_t i;

	for (i = 0; i < show->layout.nr_buffers; i++) {
		const struct rtos_buffer *offered = &show->mailbox->buffer[i];
		struct buffer *buffer = &show->buffer[i];

		if (buffer->held || rtos_load(&offered->state) != RTOS_FULL)
			continue;
		buffer->frame = offered->frame;
		buffer->checksum = offered->checksum;
		if (!best || (int32_t)(buffer->frame - best->frame) < 0)
			best = buffer;
	}
	return best;
}

static bool intact(struct show *show, const struct buffer *buffer)
{
	bool same;

	sync_for_cpu(show, buffer, VMMEXP_SYNC_BEGIN);
	same = rtos_checksum(buffer->memory, show->frame_size) == buffer->checksum;
	sync_for_cpu(show, buffer, VMMEXP_SYNC_END);
	return same;
}

static void note_torn(struct show *show, const struct buffer *buffer, const char *when)
{
	show->torn++;
	show->run = 0;
	printf("            frame %u was changed %s\n", buffer->frame, when);
}

/* Neither display nor codec reads it any more: the RTOS may have it. */
static void give_back(struct show *show, struct buffer *buffer)
{
	if (!buffer->held || buffer->on_screen || buffer->in_codec || buffer == show->flipping)
		return;
	if (!intact(show, buffer))
		note_torn(show, buffer, "while it was shown");
	buffer->held = false;
	rtos_store(&show->mailbox->buffer[buffer - show->buffer].state, RTOS_EMPTY);
}

/* ------------------------------------------------------------ display --- */

/*
 * Any connector will do, also one which cannot tell whether there is a monitor,
 * and so has no modes to offer: this is the standard one of its size.
 */
static const struct drm_mode_modeinfo mode_640x480 = {
	.clock = 25175,
	.hdisplay = 640, .hsync_start = 656, .hsync_end = 752, .htotal = 800,
	.vdisplay = 480, .vsync_start = 490, .vsync_end = 492, .vtotal = 525,
	.vrefresh = 60,
	.flags = DRM_MODE_FLAG_NHSYNC | DRM_MODE_FLAG_NVSYNC,
	.name = "640x480",
};

static uint32_t display_import(int card, int dmabuf)
{
	struct drm_prime_handle import = { .fd = dmabuf };

	if (ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &import))
		return 0;
	return import.handle;
}

static void display_open(struct show *show, const char *path)
{
	struct rtos_mailbox *layout = &show->layout;
	enum way way;
	uint32_t i;

	show->card = open_device(path);
	for (i = 0; i < layout->nr_buffers; i++) {
		for (way = 0; way < NR_WAYS; way++) {
			struct drm_mode_fb_cmd2 fb = {
				.width = layout->width,
				.height = layout->height,
				.pixel_format = layout->format,
				.pitches[0] = layout->stride,
			};

			fb.handles[0] = display_import(show->card, show->buffer[i].dmabuf[way]);
			if (!fb.handles[0])
				err(1, "%s: it does not import frame buffer %u by %s", path, i,
				    way_names[way]);
			if (ioctl(show->card, DRM_IOCTL_MODE_ADDFB2, &fb))
				err(1, "%s: making a framebuffer of frame buffer %u", path, i);
			show->buffer[i].fb[way] = fb.fb_id;
		}
	}
}

/* The mode and the first frame at once. */
static void display_start(struct show *show, uint32_t fb)
{
	uint32_t crtcs[16], connectors[16];
	struct drm_mode_card_res res = {
		.crtc_id_ptr = (uintptr_t)crtcs,
		.count_crtcs = 16,
		.connector_id_ptr = (uintptr_t)connectors,
		.count_connectors = 16,
	};
	struct drm_mode_crtc crtc = {
		.set_connectors_ptr = (uintptr_t)connectors,
		.count_connectors = 1,
		.fb_id = fb,
		.mode_valid = 1,
		.mode = mode_640x480,
	};
	char driver[32] = "";
	struct drm_version version = { .name = driver, .name_len = sizeof(driver) - 1 };

	if (show->layout.width != 640 || show->layout.height != 480)
		errx(1, "the RTOS draws %ux%u, this program has a mode for 640x480 only",
		     show->layout.width, show->layout.height);
	ioctl(show->card, DRM_IOCTL_VERSION, &version);
	if (ioctl(show->card, DRM_IOCTL_MODE_GETRESOURCES, &res) || !res.count_crtcs ||
	    !res.count_connectors)
		err(1, "the display has no connector");
	crtc.crtc_id = crtcs[0];
	show->crtc = crtcs[0];
	if (ioctl(show->card, DRM_IOCTL_MODE_SETCRTC, &crtc))
		err(1, "display: setting the mode");
	printf("5. display  driver %s scans the carve-out out, %s\n", driver, crtc.mode.name);
}

static void on_screen(struct show *show, struct buffer *buffer)
{
	struct buffer *before = show->screen;

	show->screen = buffer;
	show->flipping = NULL;
	buffer->on_screen = true;
	show->delivered++;
	show->last_at = now_ms();
	if (show->delivered == 1)
		show->first_at = show->last_at;
	if (++show->run > show->longest_run)
		show->longest_run = show->run;
	rtos_store(&show->mailbox->shown, buffer->frame);
	if (before) {
		before->on_screen = false;
		give_back(show, before);
	}
}

static void display_flip(struct show *show, struct buffer *buffer)
{
	struct drm_mode_crtc_page_flip flip = {
		.crtc_id = show->crtc,
		.flags = DRM_MODE_PAGE_FLIP_EVENT,
	};
	enum way way = buffer->frame & 1 ? WALK : REGION;

	if (!show->use[way])
		way = !way;
	show->flips[way]++;
	if (!show->screen) {
		display_start(show, buffer->fb[way]);
		on_screen(show, buffer);
		return;
	}
	flip.fb_id = buffer->fb[way];
	if (ioctl(show->card, DRM_IOCTL_MODE_PAGE_FLIP, &flip))
		err(1, "display: flipping to frame %u", buffer->frame);
	show->flipping = buffer;
}

static void display_events(struct show *show)
{
	char events[256];
	ssize_t size = read(show->card, events, sizeof(events)), at;

	if (size < 0)
		err(1, "display: reading its events");
	for (at = 0; at < size;) {
		struct drm_event event;

		memcpy(&event, events + at, sizeof(event));
		if (event.type == DRM_EVENT_FLIP_COMPLETE && show->flipping)
			on_screen(show, show->flipping);
		at += event.length;
	}
}

/* --------------------------------------------------------- not malloc --- */

/*
 * What the carve-out is needed for: memory of malloc() is in pieces, and this
 * display cannot put pieces together. Without max_segs the display refuses it,
 * without a reason; with max_segs vmmexp does, with one.
 */
static void try_malloc(struct show *show)
{
	size_t page = sysconf(_SC_PAGESIZE), size = show->frame_size, i;
	char *memory = aligned_alloc(page, (size + page - 1) / page * page);
	struct vmmexp_range range = { .start = (uintptr_t)memory, .len = size };
	struct vmmexp_export export = export_of(&range, "malloc");
	unsigned int pieces;
	uint32_t handle;

	if (!memory)
		err(1, "%zu bytes of memory", size);
	/* From the end, so that even an empty machine does not make it one piece. */
	for (i = size; i; i -= page)
		memory[i - page] = 1;
	if (ioctl(show->vmmexp, VMMEXP_IOC_EXPORT, &export))
		err(1, "export of malloc()ed memory refused because of %s",
		    vmmexp_reason_name(export.reason));
	pieces = export.nr_segs;
	handle = display_import(show->card, export.fd);
	if (handle)
		errx(1, "the display imported malloc()ed memory in %u pieces", pieces);
	printf("3. malloc   %zu KiB in %u pieces: the display says \"%s\"\n", size / 1024, pieces,
	       strerror(errno));
	close(export.fd);

	export = export_of(&range, "malloc");
	export.max_segs = 1;
	if (!ioctl(show->vmmexp, VMMEXP_IOC_EXPORT, &export))
		errx(1, "memory in %u pieces was exported as one", pieces);
	if (errno != EMLINK || export.reason != VMMEXP_REASON_MAX_SEGS)
		err(1, "export with max_segs refused because of %s",
		    vmmexp_reason_name(export.reason));
	printf("            with max_segs = 1 vmmexp says so before the display sees it: %s,\n"
	       "            the second piece begins at byte %llu (\"%s\")\n",
	       vmmexp_reason_name(export.reason), (unsigned long long)export.error_offset,
	       strerror(EMLINK));
	free(memory);
}

/* -------------------------------------------------------------- codec --- */

static void set_video_format(const struct show *show, int fd, enum v4l2_buf_type type)
{
	static const struct v4l2_bt_timings vga = {
		.width = 640, .height = 480,
		.pixelclock = 25175000,
		.hfrontporch = 16, .hsync = 96, .hbackporch = 48,
		.vfrontporch = 10, .vsync = 2, .vbackporch = 33,
		.standards = V4L2_DV_BT_STD_DMT | V4L2_DV_BT_STD_CEA861,
		.flags = V4L2_DV_FL_HAS_CEA861_VIC,
		.cea861_vic = 1,
	};
	struct v4l2_dv_timings timings = { .type = V4L2_DV_BT_656_1120, .bt = vga };
	struct v4l2_format format = {
		.type = type,
		.fmt.pix = {
			.width = show->layout.width,
			.height = show->layout.height,
			.pixelformat = V4L2_PIX_FMT_XBGR32,
			.field = V4L2_FIELD_NONE,
		},
	};

	if (ioctl(fd, VIDIOC_S_DV_TIMINGS, &timings))
		err(1, "codec: its timings");
	if (ioctl(fd, VIDIOC_S_FMT, &format))
		err(1, "codec: its format");
	if (format.fmt.pix.width != show->layout.width ||
	    format.fmt.pix.height != show->layout.height ||
	    format.fmt.pix.pixelformat != V4L2_PIX_FMT_XBGR32 ||
	    format.fmt.pix.bytesperline != show->layout.stride)
		errx(1, "codec: it makes %ux%u of %ux%u", format.fmt.pix.width,
		     format.fmt.pix.height, show->layout.width, show->layout.height);
}

static void video_request(int fd, enum v4l2_buf_type type, enum v4l2_memory memory,
			  unsigned int count)
{
	struct v4l2_requestbuffers request = { .count = count, .type = type, .memory = memory };

	if (ioctl(fd, VIDIOC_REQBUFS, &request) || request.count < count)
		err(1, "codec: asking for %u buffers", count);
}

/* Set a menu control by the names of the control and of the item. */
static void video_select(int fd, const char *control, const char *item)
{
	struct v4l2_query_ext_ctrl query = { .id = V4L2_CTRL_FLAG_NEXT_CTRL };
	struct v4l2_querymenu menu = {};

	for (; !ioctl(fd, VIDIOC_QUERY_EXT_CTRL, &query); query.id |= V4L2_CTRL_FLAG_NEXT_CTRL) {
		if (strcmp(query.name, control))
			continue;
		menu.id = query.id;
		for (menu.index = query.minimum; menu.index <= query.maximum; menu.index++) {
			struct v4l2_control value = { .id = query.id, .value = menu.index };

			if (ioctl(fd, VIDIOC_QUERYMENU, &menu) || strcmp((char *)menu.name, item))
				continue;
			if (ioctl(fd, VIDIOC_S_CTRL, &value))
				err(1, "codec: setting \"%s\" to \"%s\"", control, item);
			return;
		}
	}
	errx(1, "codec: there is no \"%s\" = \"%s\"", control, item);
}

/*
 * vivid's cable: the HDMI input gets what the HDMI output sends. Where the cable
 * is plugged in is a control, and vivid may pull it out again when it updates
 * its menus just then, so look.
 */
static void plug_cable(const struct show *show)
{
	int fd = show->codec.cable, input = 0;

	if (ioctl(fd, VIDIOC_S_INPUT, &input))
		err(1, "codec: selecting the input");
	set_video_format(show, fd, V4L2_BUF_TYPE_VIDEO_CAPTURE);
	video_select(fd, "OSD Text Mode", "None");
	video_select(fd, "HDMI 000-0 Is Connected To", "Output HDMI 000-0");
	usleep(300000);
	video_select(fd, "HDMI 000-0 Is Connected To", "Output HDMI 000-0");
}

static void codec_open(struct show *show, const char *path, const char *cable)
{
	enum v4l2_buf_type in = V4L2_BUF_TYPE_VIDEO_CAPTURE, out = V4L2_BUF_TYPE_VIDEO_OUTPUT;
	struct v4l2_capability cap = {};
	struct codec *codec = &show->codec;
	unsigned int i;
	int output = 0;

	codec->output = open_device(path);
	ioctl(codec->output, VIDIOC_QUERYCAP, &cap);
	if (ioctl(codec->output, VIDIOC_S_OUTPUT, &output))
		err(1, "%s is no V4L2 output", path);
	set_video_format(show, codec->output, out);
	if (cable) {
		codec->cable = open_device(cable);
		plug_cable(show);
		video_request(codec->cable, in, V4L2_MEMORY_MMAP, 2);
		for (i = 0; i < 2; i++) {
			struct v4l2_buffer buffer = {
				.index = i, .type = in, .memory = V4L2_MEMORY_MMAP,
			};

			if (ioctl(codec->cable, VIDIOC_QUERYBUF, &buffer))
				err(1, "%s: its buffers", cable);
			codec->arriving[i] = mmap(NULL, show->frame_size, PROT_READ, MAP_SHARED,
						  codec->cable, buffer.m.offset);
			if (codec->arriving[i] == MAP_FAILED)
				err(1, "%s: mapping its buffers", cable);
			if (ioctl(codec->cable, VIDIOC_QBUF, &buffer))
				err(1, "%s: queueing its buffers", cable);
		}
	}
	video_request(codec->output, out, V4L2_MEMORY_DMABUF, show->layout.nr_buffers);
	if (ioctl(codec->output, VIDIOC_STREAMON, &out))
		err(1, "%s: starting it", path);
	printf("4. codec    \"%s\" (driver %s) gets the same frames%s\n", cap.card, cap.driver,
	       cable ? ", looked at behind it" : "");
}

static void codec_send(struct show *show, struct buffer *frame)
{
	struct codec *codec = &show->codec;
	struct v4l2_buffer buffer = {
		.index = frame - show->buffer,
		.type = V4L2_BUF_TYPE_VIDEO_OUTPUT,
		.memory = V4L2_MEMORY_DMABUF,
		.field = V4L2_FIELD_NONE,
		.bytesused = show->frame_size,
		.length = show->frame_size,
		.m.fd = frame->dmabuf[REGION],
	};
	enum v4l2_buf_type in = V4L2_BUF_TYPE_VIDEO_CAPTURE;

	if (codec->output < 0)
		return;
	codec->sent[codec->nr_sent++ % 64] = frame->checksum;
	if (ioctl(codec->output, VIDIOC_QBUF, &buffer))
		err(1, "codec: it does not take frame %u", frame->frame);
	frame->in_codec = true;
	/* vivid sends from the second frame on: before, only noise arrives. */
	if (codec->cable < 0 || codec->nr_sent != 2)
		return;
	if (ioctl(codec->cable, VIDIOC_STREAMON, &in))
		err(1, "codec: starting the other end of its cable");
	codec->looking = true;
}

/* The codec has read a frame. */
static void codec_done(struct show *show)
{
	struct v4l2_buffer buffer = {
		.type = V4L2_BUF_TYPE_VIDEO_OUTPUT,
		.memory = V4L2_MEMORY_DMABUF,
	};

	if (ioctl(show->codec.output, VIDIOC_DQBUF, &buffer))
		err(1, "codec: getting a frame back");
	if (buffer.flags & V4L2_BUF_FLAG_ERROR)
		errx(1, "codec: it could not read a frame");
	show->buffer[buffer.index].in_codec = false;
	give_back(show, &show->buffer[buffer.index]);
}

/* Something came out of the cable's other end: is it a frame that was sent? */
static void codec_arrived(struct show *show)
{
	struct codec *codec = &show->codec;
	struct v4l2_buffer buffer = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_MMAP,
	};
	unsigned int i;
	uint32_t sum;

	if (ioctl(codec->cable, VIDIOC_DQBUF, &buffer))
		err(1, "codec: looking at what arrived");
	sum = rtos_checksum(codec->arriving[buffer.index], show->frame_size);
	for (i = 0; i < 64 && i < codec->nr_sent; i++)
		if (codec->sent[i] == sum)
			break;
	codec->arrived++;
	if (i == 64 || i == codec->nr_sent)
		codec->altered++;
	if (ioctl(codec->cable, VIDIOC_QBUF, &buffer))
		err(1, "codec: looking for more");
}

static void codec_stop(struct show *show)
{
	enum v4l2_buf_type type = V4L2_BUF_TYPE_VIDEO_OUTPUT;
	struct v4l2_requestbuffers none = { .type = type, .memory = V4L2_MEMORY_DMABUF };
	uint32_t i;

	if (show->codec.output < 0)
		return;
	if (show->codec.cable >= 0)
		close(show->codec.cable);
	if (ioctl(show->codec.output, VIDIOC_STREAMOFF, &type) ||
	    ioctl(show->codec.output, VIDIOC_REQBUFS, &none))
		err(1, "codec: stopping it");
	for (i = 0; i < show->layout.nr_buffers; i++)
		show->buffer[i].in_codec = false;
}

/* ----------------------------------------------------------------------- */

/* A frame of the RTOS goes to everybody who wants it. */
static void deliver(struct show *show, struct buffer *buffer)
{
	if (show->next && buffer->frame != show->next) {
		show->dropped += buffer->frame - show->next;
		show->run = 0;
	}
	show->next = buffer->frame + 1;
	buffer->held = true;
	if (!intact(show, buffer)) {
		note_torn(show, buffer, "before it was shown");
		buffer->held = false;
		rtos_store(&show->mailbox->buffer[buffer - show->buffer].state, RTOS_EMPTY);
		return;
	}
	codec_send(show, buffer);
	display_flip(show, buffer);
}

static void run(struct show *show, unsigned int frames)
{
	struct pollfd fds[] = {
		{ .fd = show->card, .events = POLLIN },
		{ .fd = show->codec.output, .events = POLLOUT },
		{ .fd = -1, .events = POLLIN },
	};
	uint64_t last_frame = now_ms();
	struct buffer *buffer;

	rtos_store(&show->mailbox->attached, 1);
	while (rtos_load(&show->mailbox->magic) == RTOS_MAGIC) {
		if (frames && show->delivered >= frames)
			return;
		buffer = show->flipping ? NULL : next_frame(show);
		if (buffer) {
			deliver(show, buffer);
			last_frame = now_ms();
		}
		if (now_ms() - last_frame > PATIENCE_MS)
			errx(1, "the RTOS has been silent for %d seconds", PATIENCE_MS / 1000);
		/* Real hardware would have a mailbox interrupt: here, look. */
		fds[2].fd = show->codec.looking ? show->codec.cable : -1;
		if (poll(fds, 3, 1) < 0)
			err(1, "waiting");
		if (fds[0].revents)
			display_events(show);
		if (fds[1].revents & POLLOUT)
			codec_done(show);
		if (fds[2].revents & POLLIN)
			codec_arrived(show);
	}
}

/* All that is still held goes back, looked at as any other frame. */
static void stop(struct show *show)
{
	struct pollfd display = { .fd = show->card, .events = POLLIN };
	uint32_t i;

	if (show->flipping && poll(&display, 1, 1000) == 1)
		display_events(show);
	codec_stop(show);
	if (close(show->card))
		err(1, "closing the display");
	show->flipping = NULL;
	for (i = 0; i < show->layout.nr_buffers; i++) {
		show->buffer[i].on_screen = false;
		give_back(show, &show->buffer[i]);
	}
	rtos_store(&show->mailbox->shown, 0);
	rtos_store(&show->mailbox->attached, 0);
}

static void die_of_usage(void)
{
	errx(2, "usage: [-n frames] [-x walk|region|both] [-d display] [-c codec [-l cable]]");
}

int main(int argc, char **argv)
{
	struct show show = {
		.use = { true, true },
		.codec = { .output = -1, .cable = -1 },
	};
	const char *display = "/dev/dri/card0", *codec = NULL, *cable = NULL;
	unsigned int frames = 0;
	enum way way;
	uint64_t ms;
	uint32_t i;
	int opt;

	while ((opt = getopt(argc, argv, "n:x:d:c:l:")) != -1) {
		switch (opt) {
		case 'n':
			frames = strtoul(optarg, NULL, 0);
			break;
		case 'x':
			show.use[WALK] = !strcmp(optarg, "walk") || !strcmp(optarg, "both");
			show.use[REGION] = !strcmp(optarg, "region") || !strcmp(optarg, "both");
			if (!show.use[WALK] && !show.use[REGION])
				die_of_usage();
			break;
		case 'd':
			display = optarg;
			break;
		case 'c':
			codec = optarg;
			break;
		case 'l':
			cable = optarg;
			break;
		default:
			die_of_usage();
		}
	}
	if (optind != argc || (cable && !codec))
		die_of_usage();
	setvbuf(stdout, NULL, _IOLBF, 0);

	show.vmmexp = open_device("/dev/vmmexp");
	meet_rtos(&show);
	for (i = 0; i < show.layout.nr_buffers; i++)
		for (way = 0; way < NR_WAYS; way++)
			show.buffer[i].dmabuf[way] = export_frame(&show, way, i);
	printf("2. export   each is two dma-bufs: by %s, and by %s\n", way_names[WALK],
	       way_names[REGION]);
	display_open(&show, display);
	try_malloc(&show);
	if (codec)
		codec_open(&show, codec, cable);

	run(&show, frames);
	stop(&show);

	ms = show.last_at - show.first_at;
	printf("6. shown    %u frames by %s, %u by %s; %.1f a second\n", show.flips[WALK],
	       way_names[WALK], show.flips[REGION], way_names[REGION],
	       ms ? (show.delivered - 1) * 1000.0 / ms : 0);
	if (cable)
		printf("            %u frames came out of the codec's cable, %u of them altered\n",
		       show.codec.arrived, show.codec.altered);
	printf("frames: delivered %u, dropped %u, torn %u; longest run without a gap %u\n",
	       show.delivered, show.dropped, show.torn, show.longest_run);
	return !show.delivered || show.codec.altered;
}
