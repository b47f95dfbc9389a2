// SPDX-License-Identifier: GPL-2.0-only
/*
 * DRM PRIME as importer: vgem attaches, and hands the buffer on.
 *
 * vgem imports without mapping for DMA (drm_gem_shmem_prime_import_no_map), so
 * this is the test of what PRIME adds by itself: handles, export of the import,
 * and lifetimes across processes' and DRM's references.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "importer_util.h"

#define SIZE	((size_t)16 * vmm_page_size())

FIXTURE(vgem)
{
	long long pins;
	int bufs;
	int dev;
	int card;
	struct imp_mem mem;
};

FIXTURE_VARIANT(vgem)
{
	enum imp_kind kind;
};

FIXTURE_VARIANT_ADD(vgem, malloc)
{
	.kind = IMP_MALLOC,
};

FIXTURE_VARIANT_ADD(vgem, memfd)
{
	.kind = IMP_MEMFD,
};

FIXTURE_VARIANT_ADD(vgem, hugetlb)
{
	.kind = IMP_HUGETLB,
};

FIXTURE_VARIANT_ADD(vgem, packet)
{
	.kind = IMP_PACKET,
};

FIXTURE_VARIANT_ADD(vgem, scattered)
{
	.kind = IMP_SCATTERED,
};

FIXTURE_SETUP(vgem)
{
	const char *config = imp_mem_config(variant->kind);
	const char *why = config ? vmm_not_in_kernel(config) : NULL;

	self->dev = -1;
	self->card = -1;
	self->mem.fd = -1;
	self->pins = vmm_pins();
	self->bufs = imp_bufs();
	ASSERT_LE(0, self->pins);
	ASSERT_LE(0, self->bufs);
	if (why)
		SKIP(return, "%s", why);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->card = drm_card("vgem", "vgem");
	ASSERT_LE(0, self->card);
	ASSERT_EQ(0, imp_mem_alloc(&self->mem, variant->kind, SIZE));
}

FIXTURE_TEARDOWN(vgem)
{
	if (self->card >= 0)
		close(self->card);
	if (self->dev >= 0)
		close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	EXPECT_EQ(self->bufs, imp_bufs());
	if (self->mem.ranges)
		imp_mem_free(&self->mem);
}

/* Fill a buffer as its owner, and remember what is in it. */
static char *fill(const struct imp_mem *mem, __u32 seed)
{
	char *content = malloc(mem->size);

	if (content) {
		vmm_fill(content, mem->size, 0, seed);
		imp_mem_write(mem, content, mem->size);
	}
	return content;
}

TEST_F(vgem, round_trip)
{
	int handle, again, fd;
	struct imp_users users;
	struct vmmexp_export ex;
	char *content, *map;

	content = fill(&self->mem, 1);
	ASSERT_NE(NULL, content);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &self->mem, 0, &ex), &ex);

	handle = drm_import(self->card, ex.fd);
	ASSERT_LT(0, handle);
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(1, users.attachments);
	EXPECT_EQ(0, users.device_mappings);
	/* PRIME knows what it has already. */
	again = drm_import(self->card, ex.fd);
	EXPECT_EQ(handle, again);
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(1, users.attachments);

	/* What it exports is no copy and no new buffer. */
	fd = drm_export(self->card, handle, DRM_CLOEXEC | DRM_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(imp_same_file(fd, ex.fd));
	EXPECT_EQ((long long)self->mem.size, vmm_dmabuf_size(fd));
	EXPECT_EQ(self->bufs + 1, imp_bufs());
	EXPECT_EQ(-1, imp_fd_differs(fd, content, self->mem.size));

	/* Writing on that side reaches the owner's memory. */
	map = vmm_map(fd, 0, self->mem.size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, map);
	vmm_fill(content, self->mem.size, 0, 2);
	memcpy(map, content, self->mem.size);
	EXPECT_EQ(-1, imp_mem_differs(&self->mem, content, self->mem.size));
	munmap(map, self->mem.size);

	EXPECT_EQ(0, drm_close_handle(self->card, handle));
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(0, users.attachments);
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(0, close(ex.fd));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	free(content);
}

/*
 * Mapping an import through the DRM device is what DRM refuses (the dma-buf is
 * there for that); shown beside a buffer of vgem's own, with which it works.
 */
TEST_F(vgem, no_dumb_map)
{
	struct drm_mode_map_dumb map = {};
	struct vmmexp_export ex;
	int handle;
	__u64 offset;

	handle = vmm_drm_dumb(self->card, SIZE, &offset);
	ASSERT_LT(0, handle);
	EXPECT_EQ(0, drm_close_handle(self->card, handle));

	ASSERT_VMM_OK(imp_mem_export(self->dev, &self->mem, 0, &ex), &ex);
	handle = drm_import(self->card, ex.fd);
	ASSERT_LT(0, handle);
	map.handle = handle;
	EXPECT_EQ(-EINVAL, vmm_ioctl(self->card, DRM_IOCTL_MODE_MAP_DUMB, &map));
	EXPECT_EQ(0, drm_close_handle(self->card, handle));
	EXPECT_EQ(0, close(ex.fd));
}

/*
 * READ_ONLY: importing alone is no access, and so works. Nobody gets more out of
 * the import than the exporter gave: DRM_RDWR does not make it writable.
 */
TEST_F(vgem, read_only)
{
	struct vmmexp_export ex;
	char *content;
	int handle, fd;

	content = fill(&self->mem, 3);
	ASSERT_NE(NULL, content);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &self->mem, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	handle = drm_import(self->card, ex.fd);
	ASSERT_LT(0, handle);
	EXPECT_EQ(0, close(ex.fd));

	fd = drm_export(self->card, handle, DRM_CLOEXEC | DRM_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(-1, imp_fd_differs(fd, content, self->mem.size));
	EXPECT_EQ(NULL, vmm_map(fd, 0, self->mem.size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, drm_close_handle(self->card, handle));
	EXPECT_EQ(0, close(fd));
	free(content);
}

/* --- every order of letting go -------------------------------------------- */

/* Who holds the buffer, one bit each. */
enum holder {
	HOLD_FD,	/* the exported descriptor */
	HOLD_HANDLE,	/* vgem */
	HOLD_REEXPORT,	/* the descriptor that PRIME exported */
	HOLD_MAPPING,	/* a mapping of that */
	HOLD_MEMORY,	/* the memory itself, which is no reference */
	NR_HOLDERS,
};

struct held {
	int card;
	int fd;
	int handle;
	int reexport;
	char *map;
	struct imp_mem mem;
};

static void let_go(struct held *held, enum holder who)
{
	switch (who) {
	case HOLD_FD:
		close(held->fd);
		break;
	case HOLD_HANDLE:
		drm_close_handle(held->card, held->handle);
		break;
	case HOLD_REEXPORT:
		close(held->reexport);
		break;
	case HOLD_MAPPING:
		munmap(held->map, held->mem.size);
		break;
	case HOLD_MEMORY:
		imp_mem_free(&held->mem);
		break;
	default:
		break;
	}
}

/* Is the content right for each of those that are left? */
static bool all_right(struct held *held, unsigned int left, const char *content, size_t size)
{
	bool right = true;
	int fd;

	if (left & (1u << HOLD_FD))
		right = right && imp_fd_differs(held->fd, content, size) == -1;
	if (left & (1u << HOLD_HANDLE)) {
		fd = drm_export(held->card, held->handle, DRM_CLOEXEC | DRM_RDWR);
		right = right && fd >= 0 && imp_fd_differs(fd, content, size) == -1;
		if (fd >= 0)
			close(fd);
	}
	if (left & (1u << HOLD_REEXPORT))
		right = right && imp_fd_differs(held->reexport, content, size) == -1;
	if (left & (1u << HOLD_MAPPING))
		right = right && !memcmp(held->map, content, size);
	if (left & (1u << HOLD_MEMORY))
		right = right && imp_mem_differs(&held->mem, content, size) == -1;
	return right;
}

/* The @number-th of the NR_HOLDERS! orders. */
static void permutation(unsigned int number, enum holder order[NR_HOLDERS])
{
	unsigned int i, j, n;

	for (i = 0; i < NR_HOLDERS; i++)
		order[i] = i;
	for (i = 0, n = NR_HOLDERS; i < NR_HOLDERS; i++, n--) {
		enum holder chosen;

		j = i + number % n;
		number /= n;
		chosen = order[j];
		for (; j > i; j--)
			order[j] = order[j - 1];
		order[i] = chosen;
	}
}

/*
 * All orders, for one kind of memory; for the others one in seven, which is any
 * of them at every place.
 */
TEST_F_TIMEOUT(vgem, close_in_any_order, 300)
{
	const unsigned int stride = variant->kind == IMP_MALLOC ? 1 : 7;
	const unsigned int references = (1u << HOLD_MEMORY) - 1;
	unsigned int number, step, left;
	enum holder order[NR_HOLDERS];
	struct vmmexp_export ex;
	struct held held;
	char *content;
	size_t size;

	for (number = 0; number < 120; number += stride) {
		permutation(number, order);
		ASSERT_EQ(0, imp_mem_alloc(&held.mem, variant->kind, SIZE));
		size = held.mem.size;
		content = fill(&held.mem, number);
		ASSERT_NE(NULL, content);
		ASSERT_VMM_OK(imp_mem_export(self->dev, &held.mem, 0, &ex), &ex);
		held.card = self->card;
		held.fd = ex.fd;
		held.handle = drm_import(held.card, held.fd);
		ASSERT_LT(0, held.handle);
		held.reexport = drm_export(held.card, held.handle, DRM_CLOEXEC | DRM_RDWR);
		ASSERT_LE(0, held.reexport);
		held.map = vmm_map(held.reexport, 0, size, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, held.map);

		left = (1u << NR_HOLDERS) - 1;
		for (step = 0; step < NR_HOLDERS; step++) {
			let_go(&held, order[step]);
			left &= ~(1u << order[step]);
			EXPECT_TRUE(all_right(&held, left, content, size)) {
				TH_LOG("order %u, after step %u", number, step);
			}
			if (left & references) {
				EXPECT_LT(self->pins, vmm_pins());
				continue;
			}
			/* Nobody but, perhaps, the memory's owner. */
			EXPECT_TRUE(vmm_pins_settle(self->pins)) {
				TH_LOG("order %u, after step %u", number, step);
			}
			EXPECT_EQ(self->bufs, imp_bufs());
		}
		free(content);
	}
}

/* --- other processes ------------------------------------------------------ */

/*
 * The exporter sends the descriptor and is killed before the receiver has it;
 * vgem then holds what nobody else does.
 */
TEST_F(vgem, exporter_killed)
{
	int socks[2], fd, handle, again;
	size_t size = self->mem.size;
	char *content, byte;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct vmmexp_export ex;
		struct imp_mem mem;

		/* Its own memory: the fixture's would live on in the parent. */
		if (imp_mem_alloc(&mem, variant->kind, SIZE) || !fill(&mem, 5) ||
		    imp_mem_export(self->dev, &mem, 0, &ex) ||
		    vmm_send_fd(socks[1], ex.fd) || send(socks[1], "", 1, 0) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	/* Sent and not yet received: look without taking. */
	close(socks[1]);
	ASSERT_EQ(1, recv(socks[0], &byte, 1, MSG_PEEK));
	vmm_msleep(100);
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(0, vmm_wait(child, NULL, 10));

	content = malloc(size);
	ASSERT_NE(NULL, content);
	vmm_fill(content, size, 0, 5);
	fd = vmm_recv_fd(socks[0]);
	ASSERT_LE(0, fd);
	handle = drm_import(self->card, fd);
	ASSERT_LT(0, handle);
	EXPECT_EQ(0, close(fd));
	EXPECT_LT(self->pins, vmm_pins());
	again = drm_export(self->card, handle, DRM_CLOEXEC | DRM_RDWR);
	ASSERT_LE(0, again);
	EXPECT_EQ(-1, imp_fd_differs(again, content, size));
	EXPECT_EQ(0, close(again));
	EXPECT_EQ(0, drm_close_handle(self->card, handle));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
	close(socks[0]);
	free(content);
}

/* Closing the DRM device lets go of what was imported there. */
TEST_F(vgem, card_closed)
{
	struct vmmexp_export ex;
	struct imp_users users;

	ASSERT_VMM_OK(imp_mem_export(self->dev, &self->mem, 0, &ex), &ex);
	ASSERT_LT(0, drm_import(self->card, ex.fd));
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(1, users.attachments);
	EXPECT_EQ(0, close(self->card));
	self->card = -1;
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(0, users.attachments);
	EXPECT_EQ(0, close(ex.fd));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

/* Two devices at once: the second one is a display. */
TEST_F(vgem, two_cards)
{
	int card, handle, other;
	struct vmmexp_export ex;
	struct imp_users users;

	card = drm_card("bochs", "bochs-drm");
	ASSERT_LE(0, card);
	ASSERT_VMM_OK(imp_mem_export(self->dev, &self->mem, 0, &ex), &ex);
	handle = drm_import(self->card, ex.fd);
	ASSERT_LT(0, handle);
	other = drm_import(card, ex.fd);
	ASSERT_LT(0, other);
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(2, users.attachments);
	EXPECT_EQ(0, drm_close_handle(self->card, handle));
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(1, users.attachments);
	EXPECT_EQ(0, close(card));
	ASSERT_EQ(0, imp_users(self->dev, ex.fd, &users));
	EXPECT_EQ(0, users.attachments);
	EXPECT_EQ(0, close(ex.fd));
}

/* vgem's own memory has no pages to hold: not exported again through a mapping. */
TEST_F(vgem, own_memory)
{
	struct vmmexp_export ex;
	__u64 offset;
	char *map;

	ASSERT_LT(0, vmm_drm_dumb(self->card, SIZE, &offset));
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->card, offset);
	ASSERT_NE(MAP_FAILED, map);
	memset(map, 1, SIZE);
	EXPECT_VMM_ERROR(vmm_export(self->dev, map, SIZE, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_PFNMAP, 0);
	munmap(map, SIZE);
}

TEST_HARNESS_MAIN
