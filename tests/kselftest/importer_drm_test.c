// SPDX-License-Identifier: GPL-2.0-only
/*
 * A display as importer: bochs scans exported memory out.
 *
 * The picture itself can only be seen from outside of the machine. If the
 * environment has VMMEXP_SCREEN, a directory shared with somebody who can see the
 * screen, every picture is put there as NAME.ppm, NAME.ready says that it is to
 * be on the screen now, and the answer is NAME.same or NAME.differs. That is what
 * tests/host-driven/display.sh does. Without it, what can be told from inside is
 * tested.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "importer_util.h"

FIXTURE(display)
{
	long long pins;
	int bufs;
	int dev;
	int card;
	__u32 crtc;
	__u32 connector;
	struct drm_mode_modeinfo mode;
	char *picture;
};

/* Find the connector, its CRTC and the 640x480 mode. */
static int display_find(FIXTURE_DATA(display) * self)
{
	__u32 crtcs[8], connectors[8], encoders[8], i;
	struct drm_mode_modeinfo modes[128];
	struct drm_mode_card_res res = {
		.crtc_id_ptr = (uintptr_t)crtcs,
		.count_crtcs = 8,
		.connector_id_ptr = (uintptr_t)connectors,
		.count_connectors = 8,
	};
	struct drm_mode_get_connector probe = {}, conn = {
		.modes_ptr = (uintptr_t)modes,
		.count_modes = 128,
		.encoders_ptr = (uintptr_t)encoders,
		.count_encoders = 8,
	};
	struct drm_mode_get_encoder encoder = {};
	int ret = vmm_ioctl(self->card, DRM_IOCTL_MODE_GETRESOURCES, &res);

	if (ret || res.count_connectors != 1)
		return ret ? ret : -ENXIO;
	/* Asked for no modes, DRM probes the monitor. */
	probe.connector_id = connectors[0];
	conn.connector_id = connectors[0];
	ret = vmm_ioctl(self->card, DRM_IOCTL_MODE_GETCONNECTOR, &probe);
	if (!ret)
		ret = vmm_ioctl(self->card, DRM_IOCTL_MODE_GETCONNECTOR, &conn);
	encoder.encoder_id = encoders[0];
	if (!ret)
		ret = vmm_ioctl(self->card, DRM_IOCTL_MODE_GETENCODER, &encoder);
	if (ret || !encoder.possible_crtcs)
		return ret ? ret : -ENXIO;
	self->connector = connectors[0];
	self->crtc = crtcs[__builtin_ctz(encoder.possible_crtcs)];
	for (i = 0; i < conn.count_modes && i < 128; i++) {
		if (modes[i].hdisplay != IMP_WIDTH || modes[i].vdisplay != IMP_HEIGHT)
			continue;
		self->mode = modes[i];
		return 0;
	}
	return -ENOENT;
}

/* A framebuffer on an imported handle, whose first pixel is at @offset. */
static int display_fb(int card, __u32 handle, __u32 offset)
{
	struct drm_mode_fb_cmd2 fb = {
		.width = IMP_WIDTH,
		.height = IMP_HEIGHT,
		.pixel_format = DRM_FORMAT_XRGB8888,
		.handles[0] = handle,
		.pitches[0] = IMP_STRIDE,
		.offsets[0] = offset,
	};
	int ret = vmm_ioctl(card, DRM_IOCTL_MODE_ADDFB2, &fb);

	return ret ? ret : (int)fb.fb_id;
}

static int display_set(FIXTURE_DATA(display) * self, __u32 fb)
{
	struct drm_mode_crtc crtc = {
		.set_connectors_ptr = (uintptr_t)&self->connector,
		.count_connectors = 1,
		.crtc_id = self->crtc,
		.fb_id = fb,
		.mode_valid = 1,
		.mode = self->mode,
	};

	return vmm_ioctl(self->card, DRM_IOCTL_MODE_SETCRTC, &crtc);
}

/* Flip, and wait until it is done. */
static int display_flip(FIXTURE_DATA(display) * self, __u32 fb)
{
	struct drm_mode_crtc_page_flip flip = {
		.crtc_id = self->crtc,
		.fb_id = fb,
		.flags = DRM_MODE_PAGE_FLIP_EVENT,
		.user_data = 0x766d6d,
	};
	struct pollfd done = { .fd = self->card, .events = POLLIN };
	struct drm_event_vblank event;
	int ret = vmm_ioctl(self->card, DRM_IOCTL_MODE_PAGE_FLIP, &flip);

	if (ret)
		return ret;
	if (poll(&done, 1, 20000) != 1)
		return -ETIMEDOUT;
	if (read(self->card, &event, sizeof(event)) != sizeof(event))
		return -EIO;
	return event.base.type == DRM_EVENT_FLIP_COMPLETE && event.user_data == 0x766d6d ?
		       0 : -EPROTO;
}

/* The framebuffer's content has changed. */
static int display_dirty(FIXTURE_DATA(display) * self, __u32 fb)
{
	struct drm_mode_fb_dirty_cmd dirty = { .fb_id = fb };

	return vmm_ioctl(self->card, DRM_IOCTL_MODE_DIRTYFB, &dirty);
}

static int display_remove(FIXTURE_DATA(display) * self, __u32 fb)
{
	return vmm_ioctl(self->card, DRM_IOCTL_MODE_RMFB, &fb);
}

/* Import, and make a framebuffer which then is the only user of the handle. */
static int display_import(FIXTURE_DATA(display) * self, int fd, __u32 offset)
{
	int handle = drm_import(self->card, fd), fb, ret;

	if (handle < 0)
		return handle;
	fb = display_fb(self->card, handle, offset);
	ret = drm_close_handle(self->card, handle);
	return fb < 0 || !ret ? fb : ret;
}

/* 640x480 pixels of which no two rows, and no two seeds, are alike. */
static void draw(char *picture, __u32 seed)
{
	vmm_fill(picture, IMP_FRAME, 0, seed);
}

static int screen_ask(const char *dir, const char *name, const char *picture)
{
	char path[256];
	const __u8 *pixel = (const __u8 *)picture;
	FILE *file;
	size_t i;
	int tries;

	snprintf(path, sizeof(path), "%s/%s.ppm", dir, name);
	file = fopen(path, "we");
	if (!file)
		return -errno;
	fprintf(file, "P6\n%u %u\n255\n", IMP_WIDTH, IMP_HEIGHT);
	for (i = 0; i < (size_t)IMP_WIDTH * IMP_HEIGHT; i++, pixel += 4) {
		putc(pixel[2], file);
		putc(pixel[1], file);
		putc(pixel[0], file);
	}
	if (vmm_close_whole(file))
		return -EIO;
	snprintf(path, sizeof(path), "%s/%s.ready", dir, name);
	file = fopen(path, "we");
	if (!file || fclose(file))
		return -EIO;
	for (tries = 0; tries < 300; tries++) {
		snprintf(path, sizeof(path), "%s/%s.same", dir, name);
		if (!access(path, F_OK))
			return 0;
		snprintf(path, sizeof(path), "%s/%s.differs", dir, name);
		if (!access(path, F_OK))
			return -EILSEQ;
		vmm_msleep(50);
	}
	return -ETIMEDOUT;
}

/* Is @picture what is on the screen? */
static int on_screen(const char *name, const char *picture)
{
	const char *dir = getenv("VMMEXP_SCREEN");

	return dir ? screen_ask(dir, name, picture) : 0;
}

FIXTURE_SETUP(display)
{
	self->dev = -1;
	self->card = -1;
	self->pins = vmm_pins();
	self->bufs = imp_bufs();
	ASSERT_LE(0, self->pins);
	ASSERT_LE(0, self->bufs);
	self->picture = malloc(IMP_FRAME);
	ASSERT_NE(NULL, self->picture);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->card = drm_card("bochs", "bochs-drm");
	ASSERT_LE(0, self->card);
	ASSERT_EQ(0, display_find(self));
}

FIXTURE_TEARDOWN(display)
{
	if (self->card >= 0)
		close(self->card);
	if (self->dev >= 0)
		close(self->dev);
	free(self->picture);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->bufs, imp_bufs());
}

/* Show, redraw in place, remove. */
static void show(struct __test_metadata *_metadata, FIXTURE_DATA(display) * self,
		 enum imp_kind kind, const char *name)
{
	const char *config = imp_mem_config(kind);
	const char *why = config ? vmm_not_in_kernel(config) : NULL;
	struct vmmexp_export ex;
	struct imp_users users;
	struct imp_mem mem;
	char again[64];
	int fb;

	if (why)
		SKIP(return, "%s", why);

	ASSERT_EQ(0, imp_mem_alloc(&mem, kind, IMP_FRAME));
	draw(self->picture, 100 + kind);
	imp_mem_write(&mem, self->picture, IMP_FRAME);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	fb = display_import(self, ex.fd, 0);
	ASSERT_LT(0, fb);
	ASSERT_EQ(0, display_set(self, fb));
	EXPECT_EQ(0, on_screen(name, self->picture));
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(1, users.attachments);

	draw(self->picture, 200 + kind);
	imp_mem_write(&mem, self->picture, IMP_FRAME);
	ASSERT_EQ(0, display_dirty(self, fb));
	snprintf(again, sizeof(again), "%s-redrawn", name);
	EXPECT_EQ(0, on_screen(again, self->picture));
	/* A display reads. */
	EXPECT_EQ(-1, imp_mem_differs(&mem, self->picture, IMP_FRAME));

	EXPECT_EQ(0, display_remove(self, fb));
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(0, users.attachments);
	EXPECT_EQ(0, users.device_mappings);
	EXPECT_EQ(0, users.kernel_mappings);
	EXPECT_EQ(0, close(ex.fd));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	imp_mem_free(&mem);
}

TEST_F(display, show_malloc)
{
	show(_metadata, self, IMP_MALLOC, "malloc");
}

TEST_F(display, show_memfd)
{
	show(_metadata, self, IMP_MEMFD, "memfd");
}

TEST_F(display, show_hugetlb)
{
	show(_metadata, self, IMP_HUGETLB, "hugetlb");
}

TEST_F(display, show_thp)
{
	show(_metadata, self, IMP_THP, "thp");
}

TEST_F(display, show_packet)
{
	show(_metadata, self, IMP_PACKET, "packet");
}

/* 300 ranges that are not in the order of their addresses: one picture. */
TEST_F(display, show_scattered)
{
	show(_metadata, self, IMP_SCATTERED, "scattered");
}

/* Two buffers of different kinds in turn, without tearing anything down. */
TEST_F(display, page_flip)
{
	static const enum imp_kind kinds[] = { IMP_MALLOC, IMP_MEMFD };
	struct vmmexp_export ex[2];
	struct imp_mem mem[2];
	char name[32];
	int fb[2], i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, imp_mem_alloc(&mem[i], kinds[i], IMP_FRAME));
		ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[i], 0, &ex[i]), &ex[i]);
		fb[i] = display_import(self, ex[i].fd, 0);
		ASSERT_LT(0, fb[i]);
	}
	ASSERT_EQ(0, display_set(self, fb[0]));
	for (i = 1; i < 5; i++) {
		draw(self->picture, i);
		imp_mem_write(&mem[i % 2], self->picture, IMP_FRAME);
		ASSERT_EQ(0, display_flip(self, fb[i % 2]));
		snprintf(name, sizeof(name), "flip-%d", i);
		EXPECT_EQ(0, on_screen(name, self->picture));
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, display_remove(self, fb[i]));
		EXPECT_EQ(0, close(ex[i].fd));
		imp_mem_free(&mem[i]);
	}
}

/*
 * The picture starts inside a page. The display is told where, as the exporter
 * was told by data_offset; a driver that ignores the offset would show a shifted
 * picture.
 */
TEST_F(display, unaligned)
{
	size_t page = vmm_page_size();
	struct vmmexp_export ex;
	char *memory;
	int fb;

	memory = aligned_alloc(page, IMP_FRAME + page);
	ASSERT_NE(NULL, memory);
	memset(memory, 0x11, IMP_FRAME + page);
	draw(self->picture, 40);
	memcpy(memory + 1000, self->picture, IMP_FRAME);
	ASSERT_VMM_OK(vmm_export(self->dev, memory + 1000, IMP_FRAME,
				 VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(1000, ex.data_offset);
	fb = display_import(self, ex.fd, ex.data_offset);
	ASSERT_LT(0, fb);
	ASSERT_EQ(0, display_set(self, fb));
	EXPECT_EQ(0, on_screen("unaligned", self->picture));
	EXPECT_EQ(0, display_remove(self, fb));
	EXPECT_EQ(0, close(ex.fd));
	free(memory);
}

/*
 * bochs maps what it shows into the kernel, so it cannot show a READ_ONLY
 * buffer. It says so when it is to show it, and the screen stays as it was.
 */
TEST_F(display, read_only)
{
	struct vmmexp_export shown, refused;
	struct imp_mem mem[2];
	struct imp_users users;
	int fb[2];

	ASSERT_EQ(0, imp_mem_alloc(&mem[0], IMP_MALLOC, IMP_FRAME));
	ASSERT_EQ(0, imp_mem_alloc(&mem[1], IMP_MALLOC, IMP_FRAME));
	draw(self->picture, 51);
	imp_mem_write(&mem[1], self->picture, IMP_FRAME);
	draw(self->picture, 50);
	imp_mem_write(&mem[0], self->picture, IMP_FRAME);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[0], 0, &shown), &shown);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[1], VMMEXP_EXPORT_READ_ONLY, &refused),
		      &refused);
	fb[0] = display_import(self, shown.fd, 0);
	fb[1] = display_import(self, refused.fd, 0);
	ASSERT_LT(0, fb[0]);
	ASSERT_LT(0, fb[1]);

	ASSERT_EQ(0, display_set(self, fb[0]));
	EXPECT_EQ(-EINVAL, display_set(self, fb[1]));
	EXPECT_EQ(0, on_screen("read-only-refused", self->picture));
	EXPECT_EQ(-EINVAL, display_flip(self, fb[1]));
	EXPECT_EQ(0, on_screen("read-only-no-flip", self->picture));

	EXPECT_EQ(0, display_remove(self, fb[1]));
	ASSERT_EQ(0, imp_users(self->dev, refused.fd, &users));
	EXPECT_EQ(0, users.attachments);
	EXPECT_EQ(0, users.kernel_mappings);
	EXPECT_EQ(0, display_remove(self, fb[0]));
	EXPECT_EQ(0, close(shown.fd));
	EXPECT_EQ(0, close(refused.fd));
	imp_mem_free(&mem[0]);
	imp_mem_free(&mem[1]);
}

/* A framebuffer larger than the buffer. */
TEST_F(display, too_small)
{
	struct vmmexp_export ex;
	struct imp_users users;
	struct imp_mem mem;
	int handle;

	ASSERT_EQ(0, imp_mem_alloc(&mem, IMP_MALLOC, IMP_FRAME - vmm_page_size()));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	handle = drm_import(self->card, ex.fd);
	ASSERT_LT(0, handle);
	EXPECT_EQ(-EINVAL, display_fb(self->card, handle, 0));
	EXPECT_EQ(0, drm_close_handle(self->card, handle));
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(0, users.attachments);
	EXPECT_EQ(0, close(ex.fd));
	imp_mem_free(&mem);
}

/* The process unmaps and closes everything; the display goes on, and redraws. */
TEST_F(display, only_the_display_left)
{
	struct vmmexp_export ex;
	struct imp_mem mem;
	int fb;

	ASSERT_EQ(0, imp_mem_alloc(&mem, IMP_MALLOC, IMP_FRAME));
	draw(self->picture, 60);
	imp_mem_write(&mem, self->picture, IMP_FRAME);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	fb = display_import(self, ex.fd, 0);
	ASSERT_LT(0, fb);
	EXPECT_EQ(0, close(ex.fd));
	imp_mem_free(&mem);
	close(self->dev);
	self->dev = -1;
	ASSERT_EQ(0, display_set(self, fb));
	ASSERT_EQ(0, display_dirty(self, fb));
	EXPECT_EQ(0, on_screen("only-display-left", self->picture));
	EXPECT_LT(self->pins, vmm_pins());
	EXPECT_EQ(0, display_remove(self, fb));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/*
 * The exporter takes its memory back while it is shown: the screen stays as it
 * was, whatever happens in the memory, and goes on to another buffer.
 */
TEST_F(display, revoked)
{
	struct vmmexp_revoke revoke;
	struct vmmexp_export ex[2];
	struct imp_users users;
	struct imp_mem mem[2];
	int fb[2], i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, imp_mem_alloc(&mem[i], IMP_MALLOC, IMP_FRAME));
		draw(self->picture, 80 + i);
		imp_mem_write(&mem[i], self->picture, IMP_FRAME);
		ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[i], 0, &ex[i]), &ex[i]);
		fb[i] = display_import(self, ex[i].fd, 0);
		ASSERT_LT(0, fb[i]);
	}
	draw(self->picture, 80);
	ASSERT_EQ(0, display_set(self, fb[0]));
	EXPECT_EQ(0, on_screen("before-revoke", self->picture));
	ASSERT_VMM_OK(vmm_revoke(self->dev, ex[0].fd, &revoke), &revoke);
	/* What is shown stays mapped into the kernel. */
	ASSERT_EQ(0, imp_users(self->dev, ex[0].fd, &users));
	EXPECT_EQ(1, users.kernel_mappings);
	EXPECT_EQ(VMMEXP_STATE_REVOKED, vmm_state(self->dev, ex[0].fd));
	imp_mem_set(&mem[0], 0x11);
	EXPECT_EQ(-EINVAL, display_dirty(self, fb[0]));
	EXPECT_EQ(0, on_screen("after-revoke", self->picture));
	draw(self->picture, 81);
	ASSERT_EQ(0, display_flip(self, fb[1]));
	EXPECT_TRUE(vmm_state_settle(self->dev, ex[0].fd,
				     VMMEXP_STATE_REVOKED | VMMEXP_STATE_RELEASED));
	EXPECT_EQ(-EINVAL, display_flip(self, fb[0]));
	EXPECT_EQ(0, on_screen("other-than-revoked", self->picture));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, display_remove(self, fb[i]));
		EXPECT_EQ(0, close(ex[i].fd));
		imp_mem_free(&mem[i]);
	}
}

/* The exporting process is killed while its memory is on the screen. */
TEST_F(display, exporter_killed)
{
	int socks[2], fd, fb;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	draw(self->picture, 70);
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct vmmexp_export ex;
		struct imp_mem mem;

		if (imp_mem_alloc(&mem, IMP_MALLOC, IMP_FRAME))
			_exit(1);
		imp_mem_write(&mem, self->picture, IMP_FRAME);
		if (imp_mem_export(self->dev, &mem, 0, &ex) || vmm_send_fd(socks[1], ex.fd))
			_exit(1);
		for (;;)
			pause();
	}
	close(socks[1]);
	fd = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, fd);
	fb = display_import(self, fd, 0);
	ASSERT_LT(0, fb);
	ASSERT_EQ(0, display_set(self, fb));
	EXPECT_EQ(0, on_screen("before-kill", self->picture));
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(0, vmm_wait(child, NULL, 10));
	ASSERT_EQ(0, display_dirty(self, fb));
	EXPECT_EQ(0, on_screen("after-kill", self->picture));
	EXPECT_EQ(-1, imp_fd_differs(fd, self->picture, IMP_FRAME));
	EXPECT_EQ(0, display_remove(self, fb));
	EXPECT_EQ(0, close(fd));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	close(socks[0]);
}

/* Camera and display at once: what vivid captures is what bochs shows. */
TEST_F(display, camera)
{
	static const char * const patterns[] = {
		"75% Colorbar", "100% Color Squares", "Gray Ramp",
	};
	struct vmmexp_export ex;
	struct imp_users users;
	struct video video;
	struct imp_mem mem;
	char name[32];
	int fb, i;

	ASSERT_EQ(0, vivid_capture_open(&video, VIVID_VMALLOC, VIVID_INPUT_CAMERA));
	ASSERT_EQ(0, imp_mem_alloc(&mem, IMP_MALLOC, IMP_FRAME));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	fb = display_import(self, ex.fd, 0);
	ASSERT_LT(0, fb);
	ASSERT_EQ(0, display_set(self, fb));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, vivid_pattern(&video, patterns[i]));
		ASSERT_EQ(0, video_reference(&video, self->picture));
		ASSERT_EQ(0, video_capture(&video, ex.fd));
		EXPECT_EQ(-1, imp_mem_differs(&mem, self->picture, IMP_FRAME));
		ASSERT_EQ(0, display_dirty(self, fb));
		snprintf(name, sizeof(name), "camera-%d", i);
		EXPECT_EQ(0, on_screen(name, self->picture));
	}
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(1, users.attachments);
	EXPECT_EQ(0, display_remove(self, fb));
	EXPECT_EQ(0, close(ex.fd));
	imp_mem_free(&mem);
	close(video.fd);
}

TEST_HARNESS_MAIN
