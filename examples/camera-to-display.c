// SPDX-License-Identifier: GPL-2.0-only
/*
 * One buffer, no copy: a camera writes into ordinary memory of this process,
 * a display shows that memory, and another process looks at it.
 *
 *   camera-to-display [-c /dev/videoN] [-d /dev/dri/cardN] [-o picture.ppm]
 *
 * Neither the V4L2 nor the DRM driver knows of vmmexp: both get a dma-buf, as
 * they would from any other driver. Copy from here what you need; export_memory()
 * is all that is special.
 */
#include <drm/drm.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_mode.h>
#include <err.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/videodev2.h>
#include <linux/vmmexp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmmexp-reason.h"

/* What cameras and displays both can: 32 bits a pixel, blue in the first byte. */
#define WIDTH		640
#define HEIGHT		480
#define CAMERA_FORMAT	V4L2_PIX_FMT_XBGR32
#define DISPLAY_FORMAT	DRM_FORMAT_XRGB8888

/* The picture in the buffer, as everybody who gets the buffer must know it. */
struct picture {
	uint32_t width;
	uint32_t height;
	uint32_t stride;
	uint32_t size;
};

struct display {
	int fd;
	uint32_t crtc;
	uint32_t connector;
	struct drm_mode_modeinfo mode;
};

static int open_device(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "open %s", path);
	return fd;
}

/* ------------------------------------------------------------- vmmexp --- */

/*
 * Turn memory of this process into a dma-buf. The memory stays what it was:
 * the process uses it as before, and may even unmap it while others hold the
 * buffer.
 */
static int export_memory(int vmmexp, void *memory, size_t size)
{
	struct vmmexp_range range = {
		.start = (uintptr_t)memory,
		.len = size,
	};
	struct vmmexp_export export = {
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
		.range_size = sizeof(range),
		.fd_flags = O_CLOEXEC,
		.name = "camera-to-display",
	};

	if (ioctl(vmmexp, VMMEXP_IOC_EXPORT, &export))
		err(1, "export of %zu bytes at %p refused because of %s at byte %llu", size,
		    memory, vmmexp_reason_name(export.reason),
		    (unsigned long long)export.error_offset);

	printf("2. export   /dev/vmmexp made it dma-buf %d: %llu KiB in %u physical piece%s\n",
	       export.fd, (unsigned long long)export.size / 1024, export.nr_segs,
	       export.nr_segs == 1 ? "" : "s");
	return export.fd;
}

/*
 * Before the CPU reads what a device wrote, and after. On a coherent machine
 * this costs nothing, on others it is what makes the CPU see the new picture.
 */
static void sync_for_cpu(int vmmexp, int dmabuf, uint32_t begin_or_end)
{
	struct vmmexp_sync sync = {
		.fd = dmabuf,
		.flags = VMMEXP_SYNC_READ | begin_or_end,
	};

	if (ioctl(vmmexp, VMMEXP_IOC_SYNC, &sync))
		err(1, "sync refused because of %s", vmmexp_reason_name(sync.reason));
}

/* ------------------------------------------------------------- camera --- */

static int camera_open(const char *path, struct picture *picture)
{
	struct v4l2_format format = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.fmt.pix = {
			.width = WIDTH,
			.height = HEIGHT,
			.pixelformat = CAMERA_FORMAT,
			.field = V4L2_FIELD_NONE,
		},
	};
	int camera = open_device(path);

	if (ioctl(camera, VIDIOC_S_FMT, &format))
		err(1, "%s: setting the format", path);
	if (format.fmt.pix.width != WIDTH || format.fmt.pix.height != HEIGHT ||
	    format.fmt.pix.pixelformat != CAMERA_FORMAT)
		errx(1, "%s: offers %ux%u %.4s instead of %ux%u XR24", path,
		     format.fmt.pix.width, format.fmt.pix.height,
		     (char *)&format.fmt.pix.pixelformat, WIDTH, HEIGHT);

	picture->width = WIDTH;
	picture->height = HEIGHT;
	picture->stride = format.fmt.pix.bytesperline;
	picture->size = format.fmt.pix.sizeimage;
	return camera;
}

/* One frame, from the camera straight into the dma-buf. */
static void camera_capture(int camera, int dmabuf)
{
	enum v4l2_buf_type type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	struct v4l2_requestbuffers request = {
		.count = 1,
		.type = type,
		.memory = V4L2_MEMORY_DMABUF,
	};
	struct v4l2_buffer buffer = {
		.type = type,
		.memory = V4L2_MEMORY_DMABUF,
		.m.fd = dmabuf,
	};
	struct pollfd frame = { .fd = camera, .events = POLLIN };
	struct v4l2_capability cap = {};

	ioctl(camera, VIDIOC_QUERYCAP, &cap);
	if (ioctl(camera, VIDIOC_REQBUFS, &request))
		err(1, "camera: it does not take dma-bufs");
	if (ioctl(camera, VIDIOC_QBUF, &buffer))
		err(1, "camera: it does not take this dma-buf (does it need contiguous memory?)");
	if (ioctl(camera, VIDIOC_STREAMON, &type))
		err(1, "camera: starting it");
	if (poll(&frame, 1, 10000) != 1)
		errx(1, "camera: no frame within 10 seconds");
	if (ioctl(camera, VIDIOC_DQBUF, &buffer))
		err(1, "camera: getting the frame");
	if (buffer.flags & V4L2_BUF_FLAG_ERROR)
		errx(1, "camera: the frame is damaged");
	if (ioctl(camera, VIDIOC_STREAMOFF, &type))
		err(1, "camera: stopping it");
	/* The camera lets go of the buffer. */
	request.count = 0;
	if (ioctl(camera, VIDIOC_REQBUFS, &request))
		err(1, "camera: returning the buffer");

	printf("3. camera   \"%s\" (driver %s) captured frame %u straight into it\n",
	       cap.card, cap.driver, buffer.sequence);
}

/* ------------------------------------------------------------ display --- */

/* Find a connected connector that can show WIDTH x HEIGHT, and a CRTC for it. */
static struct display display_open(const char *path)
{
	uint32_t crtcs[16], connectors[16], encoders[8];
	struct drm_mode_modeinfo modes[128];
	struct drm_mode_card_res res = {
		.crtc_id_ptr = (uintptr_t)crtcs,
		.count_crtcs = 16,
		.connector_id_ptr = (uintptr_t)connectors,
		.count_connectors = 16,
	};
	struct display display = { .fd = open_device(path) };
	uint32_t i, j;

	if (ioctl(display.fd, DRM_IOCTL_MODE_GETRESOURCES, &res))
		err(1, "%s: this is no display", path);

	for (i = 0; i < res.count_connectors && i < 16; i++) {
		/* Asked without room for modes, the kernel looks for a monitor. */
		struct drm_mode_get_connector probe = { .connector_id = connectors[i] };
		struct drm_mode_get_connector conn = {
			.connector_id = connectors[i],
			.modes_ptr = (uintptr_t)modes,
			.count_modes = 128,
			.encoders_ptr = (uintptr_t)encoders,
			.count_encoders = 8,
		};
		struct drm_mode_get_encoder encoder = {};

		if (ioctl(display.fd, DRM_IOCTL_MODE_GETCONNECTOR, &probe) ||
		    ioctl(display.fd, DRM_IOCTL_MODE_GETCONNECTOR, &conn))
			err(1, "%s: reading connector %u", path, connectors[i]);
		if (!conn.count_modes || conn.count_modes > 128 || !conn.count_encoders)
			continue;

		encoder.encoder_id = encoders[0];
		if (ioctl(display.fd, DRM_IOCTL_MODE_GETENCODER, &encoder))
			err(1, "%s: reading encoder %u", path, encoders[0]);

		for (j = 0; j < conn.count_modes; j++) {
			if (modes[j].hdisplay != WIDTH || modes[j].vdisplay != HEIGHT ||
			    !encoder.possible_crtcs)
				continue;
			display.connector = connectors[i];
			display.crtc = crtcs[__builtin_ctz(encoder.possible_crtcs)];
			display.mode = modes[j];
			return display;
		}
	}
	errx(1, "%s: no connector shows %ux%u", path, WIDTH, HEIGHT);
}

/* Scan the dma-buf out: import it, wrap it in a framebuffer, show that. */
static void display_show(const struct display *display, int dmabuf,
			 const struct picture *picture)
{
	struct drm_prime_handle import = { .fd = dmabuf };
	struct drm_mode_fb_cmd2 fb = {
		.width = picture->width,
		.height = picture->height,
		.pixel_format = DISPLAY_FORMAT,
		.pitches[0] = picture->stride,
	};
	struct drm_mode_crtc crtc = {
		.set_connectors_ptr = (uintptr_t)&display->connector,
		.count_connectors = 1,
		.crtc_id = display->crtc,
		.mode_valid = 1,
		.mode = display->mode,
	};
	char driver[32] = "";
	struct drm_version version = { .name = driver, .name_len = sizeof(driver) - 1 };

	ioctl(display->fd, DRM_IOCTL_VERSION, &version);
	if (ioctl(display->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &import))
		err(1, "display: it does not import this dma-buf");
	fb.handles[0] = import.handle;
	if (ioctl(display->fd, DRM_IOCTL_MODE_ADDFB2, &fb))
		err(1, "display: making a framebuffer of the dma-buf");
	crtc.fb_id = fb.fb_id;
	if (ioctl(display->fd, DRM_IOCTL_MODE_SETCRTC, &crtc))
		err(1, "display: showing the framebuffer");

	printf("4. display  driver %s scans the same memory out, %s\n", driver,
	       display->mode.name);
}

/* ------------------------------------------- the picture, CPU's view ---- */

/* FNV-1a: good enough to tell one picture from another. */
static uint64_t checksum(const uint8_t *pixels, const struct picture *picture)
{
	uint64_t sum = 0xcbf29ce484222325;
	uint32_t i;

	for (i = 0; i < picture->size; i++)
		sum = (sum ^ pixels[i]) * 0x100000001b3;
	return sum;
}

static void save_ppm(const char *path, const uint8_t *pixels, const struct picture *picture)
{
	FILE *file = fopen(path, "wb");
	uint32_t x, y;

	if (!file)
		err(1, "%s", path);
	fprintf(file, "P6\n%u %u\n255\n", picture->width, picture->height);
	for (y = 0; y < picture->height; y++) {
		const uint8_t *pixel = pixels + y * picture->stride;

		for (x = 0; x < picture->width; x++, pixel += 4) {
			putc(pixel[2], file);
			putc(pixel[1], file);
			putc(pixel[0], file);
		}
	}
	if (fclose(file))
		err(1, "%s", path);
}

/* ----------------------------------------------- the second process ----- */

static void send_dmabuf(int sock, int dmabuf, const struct picture *picture)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { .iov_base = (void *)picture, .iov_len = sizeof(*picture) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &dmabuf, sizeof(int));
	if (sendmsg(sock, &msg, 0) != sizeof(*picture))
		err(1, "sending the dma-buf");
}

static int receive_dmabuf(int sock, struct picture *picture)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { .iov_base = picture, .iov_len = sizeof(*picture) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int dmabuf;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL) != sizeof(*picture))
		_exit(1); /* the other process has said why */
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		errx(1, "no dma-buf arrived");
	memcpy(&dmabuf, CMSG_DATA(cmsg), sizeof(int));
	return dmabuf;
}

/*
 * The second process was forked before the memory existed and has nothing but
 * the descriptor it is sent. To it, the buffer is a dma-buf like any other: it
 * never opens /dev/vmmexp.
 */
static void viewer(int sock, const char *save_as)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	struct picture picture;
	int dmabuf = receive_dmabuf(sock, &picture);
	const uint8_t *pixels;
	uint64_t sum;

	pixels = mmap(NULL, picture.size, PROT_READ, MAP_SHARED, dmabuf, 0);
	if (pixels == MAP_FAILED)
		err(1, "second process: mapping the dma-buf");
	if (ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		err(1, "second process: DMA_BUF_IOCTL_SYNC");
	sum = checksum(pixels, &picture);
	if (save_as)
		save_ppm(save_as, pixels, &picture);
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
	if (ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		err(1, "second process: DMA_BUF_IOCTL_SYNC");

	if (write(sock, &sum, sizeof(sum)) != sizeof(sum))
		err(1, "second process: answering");
	_exit(0);
}

/* ----------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	const char *camera_path = "/dev/video0", *display_path = "/dev/dri/card0";
	const char *save_as = NULL;
	int opt, socks[2], vmmexp, camera, dmabuf;
	uint64_t my_sum, their_sum = 0;
	struct display display;
	struct picture picture;
	size_t page, size;
	uint8_t *memory;
	pid_t child;

	while ((opt = getopt(argc, argv, "c:d:o:")) != -1) {
		switch (opt) {
		case 'c':
			camera_path = optarg;
			break;
		case 'd':
			display_path = optarg;
			break;
		case 'o':
			save_as = optarg;
			break;
		default:
			fprintf(stderr, "usage: %s [-c camera] [-d display] [-o picture.ppm]\n",
				argv[0]);
			return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		err(1, "socketpair");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(socks[0]);
		viewer(socks[1], save_as);
	}
	close(socks[1]);

	vmmexp = open_device("/dev/vmmexp");
	display = display_open(display_path);
	camera = camera_open(camera_path, &picture);

	/* Memory is exported in whole pages, so nothing else should be in them. */
	page = sysconf(_SC_PAGESIZE);
	size = (picture.size + page - 1) / page * page;
	memory = aligned_alloc(page, size);
	if (!memory)
		err(1, "%zu bytes of memory", size);
	printf("1. memory   %zu KiB from the C library's allocator, at %p\n", size / 1024,
	       (void *)memory);

	dmabuf = export_memory(vmmexp, memory, size);
	camera_capture(camera, dmabuf);
	display_show(&display, dmabuf, &picture);

	sync_for_cpu(vmmexp, dmabuf, VMMEXP_SYNC_BEGIN);
	my_sum = checksum(memory, &picture);
	sync_for_cpu(vmmexp, dmabuf, VMMEXP_SYNC_END);
	send_dmabuf(socks[0], dmabuf, &picture);
	if (read(socks[0], &their_sum, sizeof(their_sum)) != sizeof(their_sum))
		errx(1, "the second process did not answer");
	printf("5. sharing  process %d got the fd over a socket, mapped it and sees %016llx\n",
	       child, (unsigned long long)their_sum);
	printf("            process %d sees %016llx in its own memory: %s\n", getpid(),
	       (unsigned long long)my_sum,
	       my_sum == their_sum ? "the same picture" : "NOT THE SAME PICTURE");
	waitpid(child, NULL, 0);

	if (my_sum == their_sum) {
		printf("The picture is on the display. Press Enter to end.\n");
		getchar();
	}

	/* In any order, or just exit: what was pinned goes with the last user. */
	close(display.fd);
	close(camera);
	close(dmabuf);
	close(vmmexp);
	free(memory);
	return my_sum == their_sum ? 0 : 1;
}
