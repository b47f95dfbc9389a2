// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mock importer itself, on a dma-buf that another driver exports: what it
 * reports about vmmexp is worth something if it reports this one right.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"

#include "vmmexp_mock_util.h"

#define BUFINFO	"/sys/kernel/debug/dma_buf/bufinfo"

/* Number of dma-bufs in the system, -1 if the kernel does not tell. */
static int count_dmabufs(void)
{
	FILE *file = fopen(BUFINFO, "re");
	char line[512];
	int count = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		sscanf(line, "Total %d objects", &count);
	fclose(file);
	return count;
}

/* A closed file's work may be done a moment later. */
static bool dmabufs_settle(int expected)
{
	int tries;

	for (tries = 0; tries < 100; tries++) {
		if (count_dmabufs() == expected)
			return true;
		vmm_msleep(20);
	}
	return false;
}

FIXTURE(importer) {
	int before;
	int mock;
	int dmabuf;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(importer)
{
	struct vmmexp_mock_device device;

	self->before = count_dmabufs();
	ASSERT_LE(0, self->before);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->size = 40 * vmm_page_size();
	/* DRM makes entries of any length: an importer that says nothing is warned of. */
	device = (struct vmmexp_mock_device){
		.flags = VMMEXP_MOCK_DMA_PARMS,
		.dma_mask_bits = 64,
		.max_segment_size = self->size,
	};
	ASSERT_EQ(0, mock_device(self->mock, &device));
	self->dmabuf = vmm_foreign_dmabuf(self->size);
	ASSERT_LE(0, self->dmabuf);
	self->mem = vmm_map(self->dmabuf, 0, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, self->mem);
	vmm_fill(self->mem, self->size, 0, 1);
}

FIXTURE_TEARDOWN(importer)
{
	if (self->mem)
		munmap(self->mem, self->size);
	close(self->mock);
	close(self->dmabuf);
	EXPECT_TRUE(dmabufs_settle(self->before)) {
		TH_LOG("the mock holds on to a dma-buf");
	}
}

TEST_F(importer, bytes_at_dma_addresses)
{
	size_t part = 3 * vmm_page_size() + 11, offset = 5 * vmm_page_size() - 7;
	int attachment, map;

	attachment = mock_attach(self->mock, self->dmabuf, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	EXPECT_EQ(-1, mock_mismatch(self->mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, 0,
				    self->size, 1));
	EXPECT_EQ(0, mock_fill(self->mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, offset, part, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, offset, 0, 1));
	EXPECT_EQ(-1, vmm_mismatch(self->mem + offset, part, offset, 2));
	EXPECT_EQ(-1, vmm_mismatch(self->mem + offset + part, self->size - offset - part,
				   offset + part, 1));
	EXPECT_EQ(0, mock_unmap(self->mock, map));
	EXPECT_EQ(0, mock_detach(self->mock, attachment));
}

TEST_F(importer, segments_are_the_memory)
{
	struct vmmexp_mock_segment *segments;
	int attachment, map, nr, i;
	__u64 sum = 0;

	attachment = mock_attach(self->mock, self->dmabuf, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	nr = mock_segments(self->mock, map, &segments);
	ASSERT_LT(0, nr);
	for (i = 0; i < nr; i++) {
		/* No offset between the bus and memory on these machines. */
		EXPECT_EQ(mock_page_phys(segments[i].dma_address), segments[i].phys);
		EXPECT_EQ(segments[i].length, segments[i].dma_length);
		sum += segments[i].dma_length;
	}
	EXPECT_EQ(self->size, sum);
	free(segments);
}

TEST_F(importer, directions_are_kept)
{
	int attachment, map;
	char byte = 0;

	attachment = mock_attach(self->mock, self->dmabuf, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_TO_DEVICE);
	ASSERT_LE(0, map);
	EXPECT_EQ(0, mock_read(self->mock, map, 0, &byte, 1));
	EXPECT_EQ(-EACCES, mock_write(self->mock, map, 0, &byte, 1));
	EXPECT_EQ(0, mock_unmap(self->mock, map));
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_FROM_DEVICE);
	ASSERT_LE(0, map);
	EXPECT_EQ(-EACCES, mock_read(self->mock, map, 0, &byte, 1));
	EXPECT_EQ(0, mock_write(self->mock, map, 0, &byte, 1));
	EXPECT_EQ(-EINVAL, mock_map(self->mock, attachment, 3));
}

TEST_F(importer, kernel_mapping)
{
	__u64 first, second;
	int a, b;

	a = mock_vmap(self->mock, self->dmabuf, &first);
	ASSERT_LE(0, a);
	b = mock_vmap(self->mock, self->dmabuf, &second);
	ASSERT_LE(0, b);
	EXPECT_EQ(first, second);
	EXPECT_EQ(-1, mock_mismatch(self->mock, VMMEXP_MOCK_IOC_KERNEL_IO, a, 0,
				    self->size, 1));
	EXPECT_EQ(0, mock_fill(self->mock, VMMEXP_MOCK_IOC_KERNEL_IO, b, 0, self->size, 3));
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 3));
	EXPECT_EQ(0, mock_vunmap(self->mock, a));
	EXPECT_EQ(-ENOENT, mock_vunmap(self->mock, a));
	EXPECT_EQ(-1, mock_mismatch(self->mock, VMMEXP_MOCK_IOC_KERNEL_IO, b, 0,
				    self->size, 3));
}

TEST_F(importer, beyond_the_end)
{
	int attachment, map, vmap;
	char bytes[2];

	attachment = mock_attach(self->mock, self->dmabuf, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	vmap = mock_vmap(self->mock, self->dmabuf, NULL);
	ASSERT_LE(0, vmap);
	EXPECT_EQ(0, mock_read(self->mock, map, self->size - 2, bytes, 2));
	EXPECT_EQ(-EINVAL, mock_read(self->mock, map, self->size - 1, bytes, 2));
	EXPECT_EQ(-EINVAL, mock_read(self->mock, map, ~0ull, bytes, 2));
	EXPECT_EQ(0, mock_vread(self->mock, vmap, self->size - 2, bytes, 2));
	EXPECT_EQ(-EINVAL, mock_vread(self->mock, vmap, self->size - 1, bytes, 2));
	EXPECT_EQ(-EINVAL, mock_vread(self->mock, vmap, ~0ull, bytes, 2));
}

TEST_F(importer, user_mapping)
{
	char *mem;

	EXPECT_EQ(NULL, vmm_map(self->mock, 0, vmm_page_size(), PROT_READ));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(0, mock_mmap_choose(self->mock, self->dmabuf));
	mem = vmm_map(self->mock, 0, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, mock_mmap_choose(self->mock, -1));
	EXPECT_EQ(-1, vmm_mismatch(mem, self->size, 0, 1));
	vmm_fill(mem, self->size, 0, 4);
	EXPECT_EQ(-1, vmm_mismatch(self->mem, self->size, 0, 4));
	munmap(mem, self->size);
}

TEST_F(importer, kinds_of_attachment)
{
	static const __u32 kinds[] = {
		0,
		VMMEXP_MOCK_IMPORTER_OPS,
		VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_PEER2PEER,
		VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE,
		VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_PEER2PEER | VMMEXP_MOCK_INVALIDATE,
		VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE | VMMEXP_MOCK_LET_GO,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct vmmexp_mock_attach arg = { .fd = self->dmabuf, .flags = kinds[i] };

		ASSERT_EQ(0, vmm_ioctl(self->mock, VMMEXP_MOCK_IOC_ATTACH, &arg));
		EXPECT_EQ(i, arg.attachment);
		EXPECT_EQ(self->size, arg.size);
		EXPECT_EQ(!!(kinds[i] & VMMEXP_MOCK_PEER2PEER), arg.peer2peer);
		EXPECT_EQ(0, mock_invalidated(self->mock, arg.attachment));
	}
}

/* One mapping at a time; as nobody asks to let go of it, it is like any other. */
TEST_F(importer, mapping_that_can_be_let_go_of)
{
	struct vmmexp_mock_segment *segments;
	int attachment, map, again;

	attachment = mock_attach(self->mock, self->dmabuf,
				 VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE |
				 VMMEXP_MOCK_LET_GO);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	vmm_fill(self->mem, self->size, 0, 5);
	EXPECT_EQ(-1, mock_mismatch(self->mock, VMMEXP_MOCK_IOC_DEVICE_IO, map, 0, self->size, 5));
	EXPECT_EQ(-EBUSY, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	EXPECT_EQ(-EINVAL, mock_segments(self->mock, map, &segments));
	EXPECT_EQ(0, mock_unmap(self->mock, map));
	again = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, again);
	EXPECT_EQ(-1, mock_mismatch(self->mock, VMMEXP_MOCK_IOC_DEVICE_IO, again, 0, self->size,
				    5));
	/* Closing with it mapped is fine as well. */
	EXPECT_EQ(0, mock_invalidated(self->mock, attachment));
}

TEST_F(importer, malformed_requests)
{
	int pipes[2], attachment, map;
	__u32 none = 77;

	EXPECT_EQ(-ENOTTY, vmm_ioctl(self->mock, _IO(VMMEXP_MOCK_IOC_MAGIC, 0x7f), NULL));
	EXPECT_EQ(-EINVAL, mock_attach(self->mock, self->dmabuf, 0x10));
	EXPECT_EQ(-EINVAL, mock_attach(self->mock, self->dmabuf, VMMEXP_MOCK_IMPORTER_OPS |
								 VMMEXP_MOCK_LET_GO));
	EXPECT_EQ(-EINVAL, mock_attach(self->mock, self->dmabuf, VMMEXP_MOCK_PEER2PEER));
	EXPECT_EQ(-EBADF, mock_attach(self->mock, -1, 0));
	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(-EINVAL, mock_attach(self->mock, pipes[0], 0));
	EXPECT_EQ(-EINVAL, mock_vmap(self->mock, pipes[0], NULL));
	EXPECT_EQ(-EINVAL, mock_mmap_choose(self->mock, pipes[0]));
	EXPECT_EQ(-ENOENT, mock_map(self->mock, none, VMMEXP_MOCK_BIDIRECTIONAL));
	EXPECT_EQ(-ENOENT, mock_unmap(self->mock, none));
	EXPECT_EQ(-ENOENT, mock_detach(self->mock, none));
	EXPECT_EQ(-ENOENT, mock_vunmap(self->mock, none));
	EXPECT_EQ(-ENOENT, mock_invalidated(self->mock, none));
	attachment = mock_attach(self->mock, self->dmabuf, 0);
	ASSERT_LE(0, attachment);
	map = mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	EXPECT_EQ(-EBUSY, mock_detach(self->mock, attachment));
	EXPECT_EQ(-EFAULT, mock_read(self->mock, map, 0, (void *)8, 1));
	EXPECT_EQ(-EFAULT, vmm_ioctl(self->mock, VMMEXP_MOCK_IOC_MAP, NULL));
}

/* An answer that cannot be delivered leaves nothing behind. */
TEST_F(importer, undelivered_answer)
{
	struct vmmexp_mock_attach *arg;

	arg = mmap(NULL, vmm_page_size(), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, arg);
	arg->fd = self->dmabuf;
	ASSERT_EQ(0, mprotect(arg, vmm_page_size(), PROT_READ));
	EXPECT_EQ(-EFAULT, vmm_ioctl(self->mock, VMMEXP_MOCK_IOC_ATTACH, arg));
	EXPECT_EQ(-ENOENT, mock_detach(self->mock, 0));
}

TEST_F(importer, close_undoes_everything)
{
	int attachment;

	attachment = mock_attach(self->mock, self->dmabuf, 0);
	ASSERT_LE(0, attachment);
	ASSERT_LE(0, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	ASSERT_LE(0, mock_map(self->mock, attachment, VMMEXP_MOCK_TO_DEVICE));
	ASSERT_LE(0, mock_vmap(self->mock, self->dmabuf, NULL));
	ASSERT_EQ(0, mock_mmap_choose(self->mock, self->dmabuf));
	munmap(self->mem, self->size);
	self->mem = NULL;
	close(self->dmabuf);
	EXPECT_EQ(self->before + 1, count_dmabufs());
	close(self->mock);
	EXPECT_TRUE(dmabufs_settle(self->before));
}

TEST_F(importer, devices)
{
	struct vmmexp_mock_device device = { .dma_mask_bits = 32 };
	char path[96], first[VMMEXP_MOCK_NAME_LEN];
	int attachment, ret;

	ASSERT_EQ(0, mock_device(self->mock, &device));
	snprintf(path, sizeof(path), "/sys/bus/faux/devices/%s", device.name);
	EXPECT_EQ(0, access(path, F_OK));
	memcpy(first, device.name, sizeof(first));

	/* It stays while it is attached, and goes after that. */
	attachment = mock_attach(self->mock, self->dmabuf, 0);
	ASSERT_LE(0, attachment);
	device.flags = VMMEXP_MOCK_COHERENT | VMMEXP_MOCK_DMA_PARMS;
	device.max_segment_size = 4096;
	ASSERT_EQ(0, mock_device(self->mock, &device));
	EXPECT_STRNE(first, device.name);
	EXPECT_EQ(1, device.coherent);
	EXPECT_EQ(0, access(path, F_OK));
	EXPECT_EQ(0, mock_detach(self->mock, attachment));
	EXPECT_NE(0, access(path, F_OK));

	device.flags = VMMEXP_MOCK_NON_COHERENT;
	device.max_segment_size = 0;
	ret = mock_device(self->mock, &device);
#if defined(__x86_64__)
	EXPECT_EQ(-EOPNOTSUPP, ret);
#else
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, device.coherent);
#endif

	device.flags = VMMEXP_MOCK_NON_COHERENT | VMMEXP_MOCK_COHERENT;
	EXPECT_EQ(-EINVAL, mock_device(self->mock, &device));
	device.flags = 0x8;
	EXPECT_EQ(-EINVAL, mock_device(self->mock, &device));
	device.flags = 0;
	device.max_segment_size = 4096;
	EXPECT_EQ(-EINVAL, mock_device(self->mock, &device));
	device.max_segment_size = 0;
	device.dma_mask_bits = 0;
	EXPECT_EQ(-EINVAL, mock_device(self->mock, &device));
	device.dma_mask_bits = 65;
	EXPECT_EQ(-EINVAL, mock_device(self->mock, &device));
}

/* Without this its code could go away under a running test. */
TEST_F(importer, module_stays_while_open)
{
	EXPECT_EQ(-1, syscall(SYS_delete_module, "vmmexp_mock", O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
	close(self->mock);
	EXPECT_EQ(0, syscall(SYS_delete_module, "vmmexp_mock", O_NONBLOCK));
	self->mock = mock_open();
	EXPECT_LE(0, self->mock);
}

TEST_HARNESS_MAIN
