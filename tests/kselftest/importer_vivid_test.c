// SPDX-License-Identifier: GPL-2.0-only
/*
 * V4L2 as importer: vivid captures into, and sends from, exported memory.
 *
 * vivid allocates, and imports, in either of the two ways that V4L2 drivers
 * have: videobuf2-vmalloc maps the dma-buf into the kernel (vmap) and takes any
 * memory; videobuf2-dma-contig maps it for DMA and takes only what is contiguous
 * for the device. Frames are compared with what the same device captures into
 * buffers of its own.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "importer_util.h"

static const char * const patterns[] = {
	"100% Colorbar", "100% Color Squares", "Gray Ramp",
};

#define NR_PATTERNS	ARRAY_SIZE(patterns)

static const char *lacks(enum imp_kind kind)
{
	const char *config = imp_mem_config(kind);

	return config ? vmm_not_in_kernel(config) : NULL;
}

/* --- capture -------------------------------------------------------------- */

FIXTURE(capture)
{
	long long pins;
	int bufs;
	int dev;
	struct video video;
	char *frames[NR_PATTERNS];	/* what the device should capture */
};

FIXTURE_VARIANT(capture)
{
	unsigned int instance;
	enum imp_kind kind;
	__u32 kinds;			/* that EXPORT reports */
};

FIXTURE_VARIANT_ADD(capture, vmalloc_malloc)
{
	.instance = VIVID_VMALLOC,
	.kind = IMP_MALLOC,
	.kinds = VMMEXP_KIND_ANON,
};

FIXTURE_VARIANT_ADD(capture, vmalloc_memfd)
{
	.instance = VIVID_VMALLOC,
	.kind = IMP_MEMFD,
	.kinds = VMMEXP_KIND_SHMEM,
};

FIXTURE_VARIANT_ADD(capture, vmalloc_hugetlb)
{
	.instance = VIVID_VMALLOC,
	.kind = IMP_HUGETLB,
	.kinds = VMMEXP_KIND_HUGETLB,
};

FIXTURE_VARIANT_ADD(capture, vmalloc_packet)
{
	.instance = VIVID_VMALLOC,
	.kind = IMP_PACKET,
	.kinds = VMMEXP_KIND_DRIVER,
};

FIXTURE_VARIANT_ADD(capture, vmalloc_scattered)
{
	.instance = VIVID_VMALLOC,
	.kind = IMP_SCATTERED,
	.kinds = VMMEXP_KIND_ANON,
};

FIXTURE_VARIANT_ADD(capture, contig_hugetlb)
{
	.instance = VIVID_DMA_CONTIG,
	.kind = IMP_HUGETLB,
	.kinds = VMMEXP_KIND_HUGETLB,
};

FIXTURE_VARIANT_ADD(capture, contig_thp)
{
	.instance = VIVID_DMA_CONTIG,
	.kind = IMP_THP,
	.kinds = VMMEXP_KIND_ANON,
};

FIXTURE_VARIANT_ADD(capture, contig_packet)
{
	.instance = VIVID_DMA_CONTIG,
	.kind = IMP_PACKET,
	.kinds = VMMEXP_KIND_DRIVER,
};

FIXTURE_SETUP(capture)
{
	const char *why = lacks(variant->kind);
	unsigned int i, j;

	self->dev = -1;
	self->video.fd = -1;
	self->pins = vmm_pins();
	self->bufs = imp_bufs();
	ASSERT_LE(0, self->pins);
	ASSERT_LE(0, self->bufs);
	if (why)
		SKIP(return, "%s", why);

	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, vivid_capture_open(&self->video, variant->instance, VIVID_INPUT_CAMERA));
	for (i = 0; i < NR_PATTERNS; i++) {
		self->frames[i] = malloc(self->video.frame);
		ASSERT_NE(NULL, self->frames[i]);
		ASSERT_EQ(0, vivid_pattern(&self->video, patterns[i]));
		ASSERT_EQ(0, video_reference(&self->video, self->frames[i]));
		for (j = 0; j < i; j++)
			ASSERT_NE(0, memcmp(self->frames[i], self->frames[j], self->video.frame));
	}
}

FIXTURE_TEARDOWN(capture)
{
	unsigned int i;

	for (i = 0; i < NR_PATTERNS; i++)
		free(self->frames[i]);
	if (self->video.fd >= 0)
		close(self->video.fd);
	if (self->dev >= 0)
		close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->bufs, imp_bufs());
}

/* One frame after the other; every one must be in the memory, and only there. */
TEST_F(capture, frames)
{
	size_t page = vmm_page_size(), i;
	struct vmmexp_sync sync;
	struct imp_users users;
	struct vmmexp_export ex;
	struct imp_mem mem;
	char *poison;

	/* One page more than the frame, which must stay as it was. */
	ASSERT_EQ(0, imp_mem_alloc(&mem, variant->kind, self->video.frame + page));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	EXPECT_EQ(variant->kinds, ex.kinds);
	if (variant->instance == VIVID_DMA_CONTIG)
		EXPECT_EQ(1, ex.nr_segs);
	poison = malloc(mem.size);
	ASSERT_NE(NULL, poison);

	for (i = 0; i < NR_PATTERNS; i++) {
		memset(poison, 0x5a + i, mem.size);
		imp_mem_set(&mem, 0x5a + i);
		ASSERT_EQ(0, vivid_pattern(&self->video, patterns[i]));
		ASSERT_EQ(0, video_capture(&self->video, ex.fd));

		ASSERT_EQ(0, vmm_sync(self->dev, ex.fd, NULL, 0,
				      VMMEXP_SYNC_READ | VMMEXP_SYNC_BEGIN, &sync));
		EXPECT_EQ(-1, imp_mem_differs(&mem, self->frames[i], self->video.frame));
		/* The process and everybody else see the same. */
		EXPECT_EQ(-1, imp_fd_differs(ex.fd, self->frames[i], self->video.frame));
		memcpy(poison, self->frames[i], self->video.frame);
		EXPECT_EQ(-1, imp_mem_differs(&mem, poison, mem.size));
		ASSERT_EQ(0, vmm_sync(self->dev, ex.fd, NULL, 0,
				      VMMEXP_SYNC_READ | VMMEXP_SYNC_END, &sync));

		ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
		EXPECT_EQ(0, users.attachments);
		EXPECT_EQ(0, users.device_mappings);
		EXPECT_EQ(0, users.kernel_mappings);
	}
	free(poison);
	EXPECT_EQ(0, close(ex.fd));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	imp_mem_free(&mem);
}

/* Three buffers in turn, as every camera application does it. */
TEST_F(capture, stream)
{
	struct vmmexp_export ex[3];
	struct imp_users users;
	struct imp_mem mem[3];
	int i, index;

	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 3));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, imp_mem_alloc(&mem[i], variant->kind, self->video.frame));
		ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[i], 0, &ex[i]), &ex[i]);
		ASSERT_EQ(0, video_queue(&self->video, i, ex[i].fd));
		ASSERT_EQ(0, imp_users(self->dev, ex[i].fd, &users));
		if (variant->instance == VIVID_DMA_CONTIG) {
			EXPECT_EQ(1, users.attachments);
			EXPECT_EQ(1, users.device_mappings);
		} else {
			/* videobuf2-vmalloc does not attach. */
			EXPECT_EQ(0, users.attachments);
			EXPECT_EQ(0, users.device_mappings);
			EXPECT_EQ(1, users.kernel_mappings);
		}
	}
	ASSERT_EQ(0, vivid_pattern(&self->video, patterns[1]));
	ASSERT_EQ(0, video_stream(&self->video, true));
	for (i = 0; i < 9; i++) {
		index = video_dequeue(&self->video, V4L2_MEMORY_DMABUF);
		ASSERT_EQ(i % 3, index);
		EXPECT_EQ(-1, imp_mem_differs(&mem[index], self->frames[1], self->video.frame));
		imp_mem_set(&mem[index], i);
		ASSERT_EQ(0, video_queue(&self->video, index, ex[index].fd));
	}
	ASSERT_EQ(0, video_stream(&self->video, false));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, imp_users(self->dev, ex[i].fd, &users));
		EXPECT_EQ(0, users.attachments);
		EXPECT_EQ(0, users.device_mappings);
		EXPECT_EQ(0, users.kernel_mappings);
		EXPECT_EQ(0, close(ex[i].fd));
		imp_mem_free(&mem[i]);
	}
}

/* A slot of the queue changes from one buffer to another and back. */
TEST_F(capture, exchange)
{
	struct vmmexp_export ex[2];
	struct imp_users users;
	struct imp_mem mem[2];
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, imp_mem_alloc(&mem[i], variant->kind, self->video.frame));
		ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[i], 0, &ex[i]), &ex[i]);
	}
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 1));
	ASSERT_EQ(0, video_stream(&self->video, true));
	for (i = 0; i < 6; i++) {
		int now = i % 2, other = !now;

		imp_mem_set(&mem[now], 0xee);
		imp_mem_set(&mem[other], 0xee);
		ASSERT_EQ(0, vivid_pattern(&self->video, patterns[i % NR_PATTERNS]));
		ASSERT_EQ(0, video_queue(&self->video, 0, ex[now].fd));
		ASSERT_EQ(0, imp_users(self->dev, ex[other].fd, &users));
		EXPECT_EQ(0, users.attachments);
		EXPECT_EQ(0, users.device_mappings);
		EXPECT_EQ(0, users.kernel_mappings);
		ASSERT_EQ(0, video_dequeue(&self->video, V4L2_MEMORY_DMABUF));
		EXPECT_EQ(-1, imp_mem_differs(&mem[now], self->frames[i % NR_PATTERNS],
					      self->video.frame));
		EXPECT_EQ(0, imp_mem_differs(&mem[other], self->frames[i % NR_PATTERNS],
					     self->video.frame));
	}
	ASSERT_EQ(0, video_stream(&self->video, false));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 0));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, close(ex[i].fd));
		imp_mem_free(&mem[i]);
	}
}

/* The process gives its memory back while the camera has the buffer. */
TEST_F(capture, unmapped)
{
	struct vmmexp_export ex;
	struct imp_mem mem;

	ASSERT_EQ(0, imp_mem_alloc(&mem, variant->kind, self->video.frame));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	imp_mem_free(&mem);
	ASSERT_EQ(0, vivid_pattern(&self->video, patterns[2]));
	ASSERT_EQ(0, video_capture(&self->video, ex.fd));
	EXPECT_EQ(-1, imp_fd_differs(ex.fd, self->frames[2], self->video.frame));
	EXPECT_EQ(0, close(ex.fd));
}

/* The descriptor is closed while the camera has the buffer. */
TEST_F(capture, closed)
{
	struct vmmexp_export ex;
	struct imp_mem mem;

	ASSERT_EQ(0, imp_mem_alloc(&mem, variant->kind, self->video.frame));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	ASSERT_EQ(0, vivid_pattern(&self->video, patterns[0]));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 1));
	ASSERT_EQ(0, video_queue(&self->video, 0, ex.fd));
	ASSERT_EQ(0, close(ex.fd));
	EXPECT_EQ(self->bufs + 1, imp_bufs());
	EXPECT_LT(self->pins, vmm_pins());
	ASSERT_EQ(0, video_stream(&self->video, true));
	ASSERT_EQ(0, video_dequeue(&self->video, V4L2_MEMORY_DMABUF));
	EXPECT_EQ(-1, imp_mem_differs(&mem, self->frames[0], self->video.frame));
	ASSERT_EQ(0, video_stream(&self->video, false));
	/* The camera was the last one. */
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 0));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->bufs, imp_bufs());
	imp_mem_free(&mem);
}

/* SIGKILL in the middle of a stream: the camera must let everything go. */
TEST_F(capture, killed)
{
	int streaming[2], status;
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(streaming));
	close(self->video.fd);
	self->video.fd = -1;
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct vmmexp_export ex;
		struct video video;
		struct imp_mem mem;
		int i;

		if (vivid_capture_open(&video, variant->instance, VIVID_INPUT_CAMERA) ||
		    video_request(&video, V4L2_MEMORY_DMABUF, 3))
			_exit(1);
		for (i = 0; i < 3; i++)
			if (imp_mem_alloc(&mem, variant->kind, video.frame) ||
			    imp_mem_export(self->dev, &mem, 0, &ex) ||
			    video_queue(&video, i, ex.fd))
				_exit(2);
		if (video_stream(&video, true))
			_exit(3);
		if (write(streaming[1], "", 1) != 1)
			_exit(4);
		for (;;)
			pause();
	}
	close(streaming[1]);
	ASSERT_EQ(1, read(streaming[0], &byte, 1));
	EXPECT_LT(self->pins, vmm_pins());
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(0, vmm_wait(child, &status, 10));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->bufs, imp_bufs());
	close(streaming[0]);
}

/*
 * The exporter takes its memory back in the middle of a stream. The camera
 * cannot be told: it goes on with the buffers it has, until it lets go of them,
 * and gets none of them again.
 */
TEST_F(capture, revoked)
{
	const __u32 released = VMMEXP_STATE_REVOKED | VMMEXP_STATE_RELEASED;
	struct vmmexp_revoke revoke;
	struct vmmexp_export ex[2];
	struct imp_mem mem[2];
	int i, index;

	ASSERT_EQ(0, vivid_pattern(&self->video, patterns[1]));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 2));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, imp_mem_alloc(&mem[i], variant->kind, self->video.frame));
		ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[i], 0, &ex[i]), &ex[i]);
		ASSERT_EQ(0, video_queue(&self->video, i, ex[i].fd));
	}
	ASSERT_EQ(0, video_stream(&self->video, true));
	for (i = 0; i < 6; i++) {
		index = video_dequeue(&self->video, V4L2_MEMORY_DMABUF);
		ASSERT_EQ(i % 2, index);
		EXPECT_EQ(-1, imp_mem_differs(&mem[index], self->frames[1], self->video.frame));
		if (i == 2) {
			ASSERT_VMM_OK(vmm_revoke(self->dev, ex[0].fd, &revoke), &revoke);
			ASSERT_VMM_OK(vmm_revoke(self->dev, ex[1].fd, &revoke), &revoke);
		}
		imp_mem_set(&mem[index], i);
		ASSERT_EQ(0, video_queue(&self->video, index, ex[index].fd));
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(VMMEXP_STATE_REVOKED, vmm_state(self->dev, ex[i].fd));
		EXPECT_EQ(NULL, vmm_map(ex[i].fd, 0, vmm_page_size(), PROT_READ));
		EXPECT_EQ(ENODEV, errno);
	}
	ASSERT_EQ(0, video_stream(&self->video, false));
	/* In the place of the first it would be new to the camera. */
	EXPECT_EQ(variant->instance == VIVID_DMA_CONTIG ? -EINVAL : -EFAULT,
		  video_queue(&self->video, 0, ex[1].fd));
	EXPECT_TRUE(vmm_state_settle(self->dev, ex[0].fd, released));
	EXPECT_EQ(VMMEXP_STATE_REVOKED, vmm_state(self->dev, ex[1].fd));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 0));
	EXPECT_TRUE(vmm_state_settle(self->dev, ex[1].fd, released));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, close(ex[i].fd));
		imp_mem_free(&mem[i]);
	}
}

/* --- what a camera refuses ------------------------------------------------ */

FIXTURE(refused)
{
	long long pins;
	int bufs;
	int dev;
	struct video video;
};

FIXTURE_VARIANT(refused)
{
	unsigned int instance;
};

FIXTURE_VARIANT_ADD(refused, vmalloc)
{
	.instance = VIVID_VMALLOC,
};

FIXTURE_VARIANT_ADD(refused, contig)
{
	.instance = VIVID_DMA_CONTIG,
};

FIXTURE_SETUP(refused)
{
	self->pins = vmm_pins();
	self->bufs = imp_bufs();
	ASSERT_LE(0, self->pins);
	ASSERT_LE(0, self->bufs);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, vivid_capture_open(&self->video, variant->instance, VIVID_INPUT_CAMERA));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 1));
}

FIXTURE_TEARDOWN(refused)
{
	close(self->video.fd);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->bufs, imp_bufs());
}

/* A refused buffer is nobody's, and the camera takes the next one. */
static void expect_unused(struct __test_metadata *_metadata, int dev, int fd)
{
	struct imp_users users;

	ASSERT_EQ(0, imp_users(dev, fd, &users));
	EXPECT_EQ(0, users.attachments);
	EXPECT_EQ(0, users.device_mappings);
	EXPECT_EQ(0, users.kernel_mappings);
}

/*
 * The talk's "an importer of contiguous memory will simply fail": it fails with
 * EFAULT, which could be anything. Whoever asks for contiguous memory at export
 * is told there, with the place.
 */
TEST_F(refused, scattered)
{
	struct vmmexp_export ex;
	struct imp_mem mem;

	ASSERT_EQ(0, imp_mem_alloc(&mem, IMP_SCATTERED, self->video.frame));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	EXPECT_LT(1, ex.nr_segs);
	if (variant->instance == VIVID_DMA_CONTIG) {
		EXPECT_EQ(-EFAULT, video_queue(&self->video, 0, ex.fd));
		expect_unused(_metadata, self->dev, ex.fd);
	} else {
		EXPECT_EQ(0, video_queue(&self->video, 0, ex.fd));
		ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 0));
	}
	EXPECT_EQ(0, close(ex.fd));

	memset(&ex, 0, sizeof(ex));
	ex.ranges = (uintptr_t)mem.ranges;
	ex.nr_ranges = mem.nr;
	ex.range_size = sizeof(*mem.ranges);
	ex.max_segs = 1;
	EXPECT_EQ(-EMLINK, vmm_export_call(self->dev, &ex));
	EXPECT_EQ(VMMEXP_REASON_MAX_SEGS, ex.reason);
	EXPECT_LT(0, ex.error_offset);
	EXPECT_EQ(0, ex.error_offset % vmm_page_size());
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	imp_mem_free(&mem);
}

/* READ_ONLY memory is no place to capture to. */
TEST_F(refused, read_only)
{
	struct vmmexp_export ex;
	struct imp_mem mem;

	/* Contiguous, so that nothing else is the reason. */
	ASSERT_EQ(0, imp_mem_alloc(&mem, IMP_PACKET, self->video.frame));
	imp_mem_set(&mem, 0x77);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	/*
	 * dma-contig: EACCES of the mapping, which videobuf2 calls EINVAL.
	 * vmalloc: EINVAL of the kernel mapping, which videobuf2 calls EFAULT.
	 */
	EXPECT_EQ(variant->instance == VIVID_DMA_CONTIG ? -EINVAL : -EFAULT,
		  video_queue(&self->video, 0, ex.fd));
	expect_unused(_metadata, self->dev, ex.fd);
	EXPECT_EQ(0, close(ex.fd));

	/* The same memory, and the same slot, without READ_ONLY. */
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	EXPECT_EQ(0, video_queue(&self->video, 0, ex.fd));
	ASSERT_EQ(0, video_request(&self->video, V4L2_MEMORY_DMABUF, 0));
	EXPECT_EQ(0, close(ex.fd));
	imp_mem_free(&mem);
}

/* A buffer that the frame does not fit in. */
TEST_F(refused, too_small)
{
	struct vmmexp_export ex;
	struct imp_mem mem;

	ASSERT_EQ(0, imp_mem_alloc(&mem, IMP_PACKET, self->video.frame - vmm_page_size()));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &mem, 0, &ex), &ex);
	EXPECT_EQ(-EINVAL, video_queue(&self->video, 0, ex.fd));
	expect_unused(_metadata, self->dev, ex.fd);
	EXPECT_EQ(0, close(ex.fd));
	imp_mem_free(&mem);
}

/* --- output --------------------------------------------------------------- */

FIXTURE(output)
{
	long long pins;
	int bufs;
	int dev;
	struct video output;
};

FIXTURE_VARIANT(output)
{
	unsigned int instance;
};

FIXTURE_VARIANT_ADD(output, vmalloc)
{
	.instance = VIVID_VMALLOC,
};

FIXTURE_VARIANT_ADD(output, contig)
{
	.instance = VIVID_DMA_CONTIG,
};

FIXTURE_SETUP(output)
{
	self->pins = vmm_pins();
	self->bufs = imp_bufs();
	ASSERT_LE(0, self->pins);
	ASSERT_LE(0, self->bufs);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, vivid_output_open(&self->output, variant->instance));
}

FIXTURE_TEARDOWN(output)
{
	close(self->output.fd);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->bufs, imp_bufs());
}

/*
 * From exported memory through the device's output and, by its cable, input
 * into other exported memory.
 */
TEST_F(output, loopback)
{
	struct vmmexp_export from[2], to;
	struct imp_mem src[2], dst;
	struct video input;
	char *picture;
	int i;

	ASSERT_EQ(0, vivid_capture_open(&input, variant->instance, VIVID_INPUT_HDMI));
	ASSERT_EQ(0, video_control(input.fd, "OSD Text Mode", "None"));
	ASSERT_EQ(0, vivid_loop(&input, variant->instance, true));
	picture = malloc(self->output.frame);
	ASSERT_NE(NULL, picture);
	ASSERT_EQ(0, imp_mem_alloc(&dst, IMP_PACKET, self->output.frame));
	ASSERT_VMM_OK(imp_mem_export(self->dev, &dst, 0, &to), &to);

	ASSERT_EQ(0, video_request(&self->output, V4L2_MEMORY_DMABUF, 2));
	ASSERT_EQ(0, video_stream(&self->output, true));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, imp_mem_alloc(&src[i], IMP_PACKET, self->output.frame));
		vmm_fill(picture, self->output.frame, 0, 1000 + i);
		imp_mem_write(&src[i], picture, self->output.frame);
		ASSERT_VMM_OK(imp_mem_export(self->dev, &src[i], 0, &from[i]), &from[i]);
		ASSERT_EQ(0, video_queue(&self->output, i, from[i].fd));
		/* The device keeps sending the last picture, so it is the second's turn. */
		if (i)
			ASSERT_EQ(0, video_dequeue(&self->output, V4L2_MEMORY_DMABUF));

		imp_mem_set(&dst, 0x33);
		ASSERT_EQ(0, video_capture(&input, to.fd));
		EXPECT_EQ(-1, imp_mem_differs(&dst, picture, self->output.frame));
	}
	ASSERT_EQ(0, video_stream(&self->output, false));
	ASSERT_EQ(0, video_request(&self->output, V4L2_MEMORY_DMABUF, 0));
	ASSERT_EQ(0, vivid_loop(&input, variant->instance, false));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, close(from[i].fd));
		imp_mem_free(&src[i]);
	}
	EXPECT_EQ(0, close(to.fd));
	imp_mem_free(&dst);
	free(picture);
	close(input.fd);
}

/*
 * Sending is what READ_ONLY is for: the device maps DMA_TO_DEVICE. Where the
 * driver maps the buffer into the kernel instead, it is refused. (The cable
 * stays unplugged: vivid's input would have the kernel read the output buffer.)
 */
TEST_F(output, read_only)
{
	struct vmmexp_export ex[2];
	struct imp_users users;
	struct imp_mem mem[2];
	char *picture;
	int i;

	picture = malloc(self->output.frame);
	ASSERT_NE(NULL, picture);
	vmm_fill(picture, self->output.frame, 0, 7);
	ASSERT_EQ(0, video_request(&self->output, V4L2_MEMORY_DMABUF, 2));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, imp_mem_alloc(&mem[i], IMP_PACKET, self->output.frame));
		imp_mem_write(&mem[i], picture, self->output.frame);
		ASSERT_VMM_OK(imp_mem_export(self->dev, &mem[i], VMMEXP_EXPORT_READ_ONLY, &ex[i]),
			      &ex[i]);
		if (variant->instance == VIVID_VMALLOC) {
			EXPECT_EQ(-EFAULT, video_queue(&self->output, i, ex[i].fd));
			expect_unused(_metadata, self->dev, ex[i].fd);
			continue;
		}
		ASSERT_EQ(0, video_queue(&self->output, i, ex[i].fd));
		ASSERT_EQ(0, imp_users(self->dev, ex[i].fd, &users));
		EXPECT_EQ(1, users.attachments);
		EXPECT_EQ(1, users.device_mappings);
		EXPECT_EQ(0, users.kernel_mappings);
	}
	if (variant->instance == VIVID_DMA_CONTIG) {
		ASSERT_EQ(0, video_stream(&self->output, true));
		ASSERT_EQ(0, video_dequeue(&self->output, V4L2_MEMORY_DMABUF));
		ASSERT_EQ(0, video_stream(&self->output, false));
	}
	ASSERT_EQ(0, video_request(&self->output, V4L2_MEMORY_DMABUF, 0));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-1, imp_mem_differs(&mem[i], picture, self->output.frame));
		expect_unused(_metadata, self->dev, ex[i].fd);
		EXPECT_EQ(0, close(ex[i].fd));
		imp_mem_free(&mem[i]);
	}
	free(picture);
}

/* --- the camera's own memory as source ------------------------------------ */

/*
 * A camera that cannot export by itself: its frame buffers, as it maps them to
 * the process, become a dma-buf. Where they are pages (vmalloc) that works;
 * where they are a mapping without pages (dma_alloc_coherent) it must not.
 */
TEST_F(refused, own_memory)
{
	struct video *video = &self->video;
	struct vmmexp_export ex;
	char *own, *frame;
	int ret;

	frame = malloc(video->frame);
	ASSERT_NE(NULL, frame);
	ASSERT_EQ(0, vivid_pattern(video, patterns[0]));
	ASSERT_EQ(0, video_reference(video, frame));

	ASSERT_EQ(0, video_request(video, V4L2_MEMORY_MMAP, 1));
	own = video_map(video);
	ASSERT_NE(NULL, own);
	ret = vmm_export(self->dev, own, video->frame, 0, &ex);
	if (variant->instance == VIVID_DMA_CONTIG) {
		EXPECT_VMM_ERROR(ret, &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
	} else {
		ASSERT_VMM_OK(ret, &ex);
		EXPECT_EQ(VMMEXP_KIND_DRIVER, ex.kinds);
		memset(own, 0, video->frame);
		ASSERT_EQ(0, video_capture_own(video));
		EXPECT_EQ(-1, imp_fd_differs(ex.fd, frame, video->frame));
		/* The driver frees its buffer; the dma-buf still has the frame. */
		munmap(own, video->frame);
		ASSERT_EQ(0, video_request(video, V4L2_MEMORY_MMAP, 0));
		EXPECT_EQ(-1, imp_fd_differs(ex.fd, frame, video->frame));
		EXPECT_EQ(0, close(ex.fd));
	}
	free(frame);
}

TEST_HARNESS_MAIN
