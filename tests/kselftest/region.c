// SPDX-License-Identifier: GPL-2.0-only
/*
 * Carve-outs: their devices, what of them may be exported and what not, and
 * where the bytes are.
 *
 * The machine has the regions of dts/qemu-virt-vmmexp.dtsi, so this is run by
 * tests/host-driven/carveout.sh, by fixture: "regions" and "unload" on a machine
 * as it comes, "relaxed" with iomem=relaxed (where /dev/mem maps claimed memory
 * too), "bad" with the regions of dts/qemu-virt-vmmexp-bad.dtso, "smmu" with an
 * SMMU before the PCI bus and QEMU's "edu" device on it. Whoever runs it
 * also is what the RTOS would be: someone who reads and writes the memory by its
 * physical addresses, see host().
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#include <linux/dma-buf.h>

#include "vmmexp_mock_util.h"

#define MODULE		"vmmexp"
#define MODULE_FILE	"/vmmexp/module/vmmexp.ko"

/* Where the machine's memory begins: vexpress has it elsewhere than virt. */
#ifndef RAM_BASE
#define RAM_BASE	0x40000000ull
#endif

#define FRAMES_PHYS	(RAM_BASE + 0x20000000)
#define FRAMES_SIZE	0x1000000ull
#define CTL_PHYS	(RAM_BASE + 0x21000000)
#define CTL_SIZE	0x100000ull
#define ROM_PHYS	(RAM_BASE + 0x21100000)
#define ROM_SIZE	0x100000ull
/* The RTOS's own, next to the others, listed nowhere. */
#define PRIVATE_PHYS	(RAM_BASE + 0x21200000)
#define PRIVATE_SIZE	0x200000ull
/* The good one among the bad. */
#define GOOD_PHYS	(RAM_BASE + 0x30000000)
#define GOOD_SIZE	0x1000000ull
/*
 * I/O memory that nobody claims: virt's platform bus, which has no devices, and
 * a flash of vexpress.
 */
#define MMIO_PHYS	0x0c000000ull

#define DEVICE_IO	VMMEXP_MOCK_IOC_DEVICE_IO
#define KERNEL_IO	VMMEXP_MOCK_IOC_KERNEL_IO
#define P2P		(VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_PEER2PEER)

static int open_region(const char *name, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), VMM_DEVICE "-%s", name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static struct vmmexp_range region_range(int fd, __u64 offset, __u64 len)
{
	return (struct vmmexp_range){
		.start = offset,
		.len = len,
		.flags = VMMEXP_RANGE_REGION,
		.region_fd = fd,
	};
}

static int export_region(int dev, int fd, __u64 offset, __u64 len, __u32 flags,
			 struct vmmexp_export *ex)
{
	struct vmmexp_range range = region_range(fd, offset, len);

	return vmm_export_ranges(dev, &range, 1, flags, ex);
}

/* A mapping of physical memory by /dev/mem, NULL if that is refused. */
static void *map_phys(__u64 phys, size_t len, int prot)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	void *addr;

	if (fd < 0)
		return NULL;
	addr = vmm_map(fd, phys, len, prot);
	close(fd);
	return addr;
}

/*
 * Let the host read or write physical memory. It answers a file NAME.request
 * by one called NAME.done; the bytes are in NAME.data.
 */
static int host(const char *verb, __u64 phys, void *data, size_t len)
{
	static unsigned int number;
	char name[64], hidden[80], request[80], bytes[80], done[80];
	bool reads = !strcmp(verb, "read");
	int ret = -EIO, ms;
	FILE *file;

	snprintf(name, sizeof(name), "/share/ask-%d-%u", getpid(), number++);
	snprintf(hidden, sizeof(hidden), "%s.new", name);
	snprintf(request, sizeof(request), "%s.request", name);
	snprintf(bytes, sizeof(bytes), "%s.data", name);
	snprintf(done, sizeof(done), "%s.done", name);
	if (!reads) {
		file = fopen(bytes, "we");
		if (!file)
			return -errno;
		if (fwrite(data, 1, len, file) != len || vmm_close_whole(file))
			return -EIO;
	}
	file = fopen(hidden, "we");
	if (!file || fprintf(file, "%s %llu %zu\n", verb, (unsigned long long)phys, len) < 0 ||
	    vmm_close_whole(file) || rename(hidden, request))
		return -EIO;
	for (ms = 0; access(done, F_OK); ms += 20) {
		if (ms > 60000)
			return -ETIMEDOUT;
		vmm_msleep(20);
	}
	ret = 0;
	if (reads) {
		file = fopen(bytes, "re");
		if (!file || fread(data, 1, len, file) != len)
			ret = -EIO;
		if (file)
			fclose(file);
	}
	unlink(bytes);
	unlink(done);
	return ret;
}

/* As vmm_mismatch() and vmm_fill(), by the host at a physical address. */
static long long host_mismatch(__u64 phys, size_t len, __u64 offset, __u32 seed)
{
	char *copy = calloc(1, len);
	long long ret;

	if (!copy)
		return -1000 - ENOMEM;
	ret = host("read", phys, copy, len);
	ret = ret ? -1000 + ret : vmm_mismatch(copy, len, offset, seed);
	free(copy);
	return ret;
}

static int host_fill(__u64 phys, size_t len, __u64 offset, __u32 seed)
{
	char *copy = malloc(len);
	int ret;

	if (!copy)
		return -ENOMEM;
	vmm_fill(copy, len, offset, seed);
	ret = host("write", phys, copy, len);
	free(copy);
	return ret;
}

/* The machine has the bad regions, and the good one. */
static bool bad_tree;

static bool is_carveout(__u64 phys)
{
	if (bad_tree)
		return phys >= GOOD_PHYS && phys < GOOD_PHYS + GOOD_SIZE;
	return phys >= FRAMES_PHYS && phys < PRIVATE_PHYS;
}

/* What a device is given for @dmabuf, attached with @flags, is just these runs. */
static void expect_runs(struct __test_metadata *_metadata, int mock, int dmabuf, __u32 flags,
			const struct mock_extent *runs, int nr)
{
	struct vmmexp_mock_segment *segments;
	int attachment = mock_attach(mock, dmabuf, flags), map, i;

	ASSERT_LE(0, attachment);
	map = mock_map(mock, attachment, VMMEXP_MOCK_TO_DEVICE);
	ASSERT_LE(0, map);
	ASSERT_EQ(nr, mock_segments(mock, map, &segments));
	for (i = 0; i < nr; i++) {
		EXPECT_EQ(runs[i].phys, segments[i].dma_address) TH_LOG("run %d", i);
		EXPECT_EQ(runs[i].len, segments[i].dma_length) TH_LOG("run %d", i);
		EXPECT_EQ(runs[i].len, segments[i].length) TH_LOG("run %d", i);
		/* There is no page that an importer could take hold of. */
		EXPECT_EQ(is_carveout(runs[i].phys) ? ~0ull : mock_page_phys(runs[i].phys),
			  segments[i].phys)
			TH_LOG("run %d", i);
	}
	free(segments);
	EXPECT_EQ(0, mock_unmap(mock, map));
	EXPECT_EQ(0, mock_detach(mock, attachment));
}

/* One run of a region; no importer needs to promise anything for that. */
static void expect_run(struct __test_metadata *_metadata, int mock, int dmabuf, __u64 phys,
		       __u64 len)
{
	struct mock_extent run = { .phys = phys, .len = len };

	expect_runs(_metadata, mock, dmabuf, 0, &run, 1);
	expect_runs(_metadata, mock, dmabuf, VMMEXP_MOCK_IMPORTER_OPS, &run, 1);
	expect_runs(_metadata, mock, dmabuf, P2P, &run, 1);
}

/*
 * The machine as it comes.
 */
FIXTURE(regions) {
	size_t page;
	long long pins;
	int dev;
	int mock;
	int frames;
	int ctl;
	int rom;
};

FIXTURE_SETUP(regions)
{
	self->page = vmm_page_size();
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->frames = open_region("frames", O_RDWR);
	ASSERT_LE(0, self->frames);
	self->ctl = open_region("ctl", O_RDWR);
	ASSERT_LE(0, self->ctl);
	self->rom = open_region("rom", O_RDONLY);
	ASSERT_LE(0, self->rom);
}

/* What the test has open goes with its process. */
FIXTURE_TEARDOWN_PARENT(regions)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(regions, info_lists_them)
{
	struct vmmexp_region_info regions[4];
	struct vmmexp_info info;

	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_EQ(3, info.total_regions);
	EXPECT_TRUE(info.features & VMMEXP_FEATURE_REGIONS);
	EXPECT_TRUE(info.features & VMMEXP_FEATURE_OF);

	memset(&info, 0, sizeof(info));
	memset(regions, 0x5a, sizeof(regions));
	info.regions = (uintptr_t)regions;
	info.nr_regions = 4;
	info.region_size = sizeof(regions[0]);
	ASSERT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info);
	EXPECT_EQ(3, info.total_regions);
	EXPECT_STREQ("frames", regions[0].name);
	EXPECT_EQ(FRAMES_SIZE, regions[0].size);
	EXPECT_EQ(0, regions[0].flags);
	EXPECT_EQ(0, regions[0].pad);
	EXPECT_STREQ("ctl", regions[1].name);
	EXPECT_EQ(CTL_SIZE, regions[1].size);
	EXPECT_EQ(VMMEXP_REGION_CACHED, regions[1].flags);
	EXPECT_STREQ("rom", regions[2].name);
	EXPECT_EQ(ROM_SIZE, regions[2].size);
	EXPECT_EQ(VMMEXP_REGION_READ_ONLY, regions[2].flags);

	/* Room for fewer: those, and how many there are. */
	memset(&info, 0, sizeof(info));
	memset(regions, 0x5a, sizeof(regions));
	info.regions = (uintptr_t)regions;
	info.nr_regions = 1;
	info.region_size = sizeof(regions[0]);
	ASSERT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info);
	EXPECT_EQ(3, info.total_regions);
	EXPECT_STREQ("frames", regions[0].name);
	EXPECT_EQ(0x5a, regions[1].name[0]);
}

TEST_F(regions, open)
{
	static const char * const names[] = { "frames", "ctl", "rom" };
	unsigned int i;
	int status;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), VMM_DEVICE "-%s", names[i]);
		ASSERT_EQ(0, stat(path, &st));
		EXPECT_TRUE(S_ISCHR(st.st_mode));
		EXPECT_EQ(0600, st.st_mode & 07777);
		EXPECT_EQ(0, st.st_uid);
		EXPECT_EQ(0, st.st_gid);
	}
	EXPECT_EQ(-EACCES, open_region("rom", O_RDWR));
	EXPECT_EQ(-EACCES, open_region("rom", O_WRONLY));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(1);
		_exit(open_region("frames", O_RDONLY) == -EACCES &&
		      open_region("rom", O_RDONLY) == -EACCES ? 0 : 2);
	}
	ASSERT_EQ(0, vmm_wait(pid, &status, 10));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
}

/* Nothing can be asked of a region's descriptor but to be mapped and exported. */
TEST_F(regions, no_other_calls)
{
	struct vmmexp_info info = {};
	char byte = 0;

	EXPECT_EQ(-ENOTTY, vmm_ioctl(self->frames, VMMEXP_IOC_INFO, &info));
	EXPECT_GT(0, read(self->frames, &byte, 1));
	EXPECT_GT(0, write(self->frames, &byte, 1));
}

TEST_F(regions, mmap)
{
	int reading = open_region("frames", O_RDONLY);
	size_t page = self->page;
	char *mem, *part;

	ASSERT_LE(0, reading);
	mem = vmm_map(self->frames, 0, FRAMES_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	part = vmm_map(self->frames, FRAMES_SIZE - page, page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, part);
	vmm_fill(part, page, 0, 11);
	EXPECT_EQ(-1, vmm_mismatch(mem + FRAMES_SIZE - page, page, 0, 11));

	errno = 0;
	EXPECT_EQ(NULL, vmm_map(self->frames, 0, FRAMES_SIZE + page, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(NULL, vmm_map(self->frames, FRAMES_SIZE, page, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(NULL, vmm_map(self->frames, FRAMES_SIZE - page, 2 * page, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	/* Frame numbers wrap at 2^20 and 2^32 pages on some machines. */
	EXPECT_EQ(NULL, vmm_map(self->frames, 1ll << 32, page, PROT_READ));
	EXPECT_EQ(NULL, vmm_map(self->frames, (1ll << 43) - page, 2 * page, PROT_READ));

	errno = 0;
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ, MAP_PRIVATE, self->frames, 0));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, reading, 0));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(NULL, vmm_map(self->frames, 0, page, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	errno = 0;
	EXPECT_EQ(-1, mprotect(part, page, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	/* It does not grow over the region's end. */
	EXPECT_EQ(MAP_FAILED, mremap(part, page, 2 * page, MREMAP_MAYMOVE));

	errno = 0;
	EXPECT_EQ(NULL, vmm_map(reading, 0, page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	errno = 0;
	EXPECT_EQ(NULL, vmm_map(self->rom, 0, page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	munmap(part, page);
	part = vmm_map(self->rom, 0, page, PROT_READ);
	ASSERT_NE(NULL, part);
	errno = 0;
	EXPECT_EQ(-1, mprotect(part, page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(regions, export_by_region)
{
	const struct {
		int fd;
		__u64 phys, offset, len;
		__u32 flags;
	} cases[] = {
		{ self->frames, FRAMES_PHYS, 0, FRAMES_SIZE, 0 },
		{ self->frames, FRAMES_PHYS, 5 * self->page, 3 * self->page, 0 },
		{ self->frames, FRAMES_PHYS, FRAMES_SIZE - self->page, self->page, 0 },
		{ self->ctl, CTL_PHYS, 0, CTL_SIZE, 0 },
		{ self->ctl, CTL_PHYS, CTL_SIZE - self->page, self->page, VMMEXP_EXPORT_READ_ONLY },
		{ self->rom, ROM_PHYS, self->page, ROM_SIZE - self->page, VMMEXP_EXPORT_READ_ONLY },
	};
	struct vmmexp_query query;
	struct vmmexp_export ex;
	unsigned int bits, i;
	int mode;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_VMM_OK(export_region(self->dev, cases[i].fd, cases[i].offset, cases[i].len,
					    cases[i].flags, &ex), &ex);
		EXPECT_EQ(cases[i].len, ex.size);
		EXPECT_EQ(0, ex.data_offset);
		EXPECT_EQ(cases[i].len, ex.data_size);
		EXPECT_EQ(1, ex.nr_segs);
		EXPECT_EQ(VMMEXP_KIND_CARVEOUT, ex.kinds);
		EXPECT_EQ(0, (cases[i].phys + cases[i].offset) % ex.alignment);
		EXPECT_EQ(cases[i].len, vmm_dmabuf_size(ex.fd));
		expect_run(_metadata, self->mock, ex.fd, cases[i].phys + cases[i].offset,
			   cases[i].len);
		ASSERT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
		EXPECT_EQ(VMMEXP_KIND_CARVEOUT, query.kinds);
		EXPECT_EQ(1, query.nr_segs);
		EXPECT_EQ(cases[i].flags, query.export_flags);
		mode = O_RDWR;
		if (cases[i].flags)
			mode = O_RDONLY;
		EXPECT_EQ(mode, fcntl(ex.fd, F_GETFL) & O_ACCMODE);
		close(ex.fd);
	}
	/* One contiguous run, and as many bits as its last byte has. */
	bits = 64 - __builtin_clzll(FRAMES_PHYS + FRAMES_SIZE - 1);
	ex = (struct vmmexp_export){
		.ranges = (uintptr_t)&(struct vmmexp_range[]){
			region_range(self->frames, 0, FRAMES_SIZE) },
		.nr_ranges = 1,
		.range_size = sizeof(struct vmmexp_range),
		.max_segs = 1,
		.phys_bits = bits,
	};
	ASSERT_VMM_OK(vmm_export_call(self->dev, &ex), &ex);
	close(ex.fd);
	ex.phys_bits = bits - 1;
	EXPECT_VMM_ERROR(vmm_export_call(self->dev, &ex), &ex, ERANGE, VMMEXP_REASON_PHYS_BITS, 0);
}

TEST_F(regions, export_by_address)
{
	size_t page = self->page, len = 4 << 20;
	struct vmmexp_export ex;
	char *mem;

	mem = vmm_map(self->frames, 0, FRAMES_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	/* More than one batch, and neither at the start nor at the end. */
	ASSERT_VMM_OK(vmm_export(self->dev, mem + 3 * page, len, 0, &ex), &ex);
	EXPECT_EQ(1, ex.nr_segs);
	EXPECT_EQ(VMMEXP_KIND_CARVEOUT, ex.kinds);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS + 3 * page, len);
	close(ex.fd);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, FRAMES_SIZE, 0, &ex), &ex);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS, FRAMES_SIZE);
	close(ex.fd);
	ASSERT_VMM_OK(vmm_export(self->dev, mem + 100, 2 * page, VMMEXP_EXPORT_UNALIGNED, &ex),
		      &ex);
	EXPECT_EQ(3 * page, ex.size);
	EXPECT_EQ(100, ex.data_offset);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS, 3 * page);
	close(ex.fd);
	munmap(mem, FRAMES_SIZE);

	mem = vmm_map(self->ctl, CTL_SIZE - 2 * page, 2 * page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, 2 * page, 0, &ex), &ex);
	expect_run(_metadata, self->mock, ex.fd, CTL_PHYS + CTL_SIZE - 2 * page, 2 * page);
	close(ex.fd);
	munmap(mem + page, page);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, 2 * page, 0, &ex), &ex, EFAULT,
			 VMMEXP_REASON_HOLE, page);
	munmap(mem, page);

	mem = vmm_map(self->rom, 0, ROM_SIZE, PROT_READ);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, ROM_SIZE, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	expect_run(_metadata, self->mock, ex.fd, ROM_PHYS, ROM_SIZE);
	close(ex.fd);
}

TEST_F(regions, reading_gives_reading)
{
	int reading = open_region("frames", O_RDONLY);
	size_t page = self->page;
	struct vmmexp_range mixed[2];
	struct vmmexp_export ex;
	char *mem;

	ASSERT_LE(0, reading);
	/* Of the descriptor. */
	EXPECT_VMM_ERROR(export_region(self->dev, reading, 0, page, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 0);
	EXPECT_EQ(-1, ex.fd);
	ASSERT_VMM_OK(export_region(self->dev, reading, 0, page, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	close(ex.fd);
	/* Of the region. */
	EXPECT_VMM_ERROR(export_region(self->dev, self->rom, 0, page, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 0);
	mixed[0] = region_range(self->frames, 0, 3 * page);
	mixed[1] = region_range(self->rom, 0, page);
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, mixed, 2, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 3 * page);
	mem = vmm_map(self->rom, 0, page, PROT_READ);
	ASSERT_NE(NULL, mem);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, page, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 0);
	munmap(mem, page);
	/* Of the mapping. */
	mem = vmm_map(reading, 0, 4 * page, PROT_READ);
	ASSERT_NE(NULL, mem);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, page, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 0);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	close(ex.fd);
	munmap(mem, 4 * page);
	/* Of a part of it, and not any more. */
	mem = vmm_map(self->frames, 0, 4 * page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mprotect(mem + 2 * page, page, PROT_READ));
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, 4 * page, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 2 * page);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, 4 * page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	close(ex.fd);
	ASSERT_EQ(0, mprotect(mem + 2 * page, page, PROT_NONE));
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, 4 * page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex,
			 EFAULT, VMMEXP_REASON_NOT_READABLE, 2 * page);
	ASSERT_EQ(0, mprotect(mem + 2 * page, page, PROT_READ | PROT_WRITE));
	ASSERT_VMM_OK(vmm_export(self->dev, mem, 4 * page, 0, &ex), &ex);
	close(ex.fd);
}

/* Who may only write learns nothing through a buffer, which can be read. */
TEST_F(regions, write_only_descriptor)
{
	int writing = open_region("frames", O_WRONLY);
	struct vmmexp_export ex;

	if (writing == -EACCES)
		return;
	ASSERT_LE(0, writing);
	EXPECT_EQ(NULL, vmm_map(writing, 0, self->page, PROT_WRITE));
	EXPECT_VMM_ERROR(export_region(self->dev, writing, 0, self->page, VMMEXP_EXPORT_READ_ONLY,
				       &ex), &ex, EACCES, VMMEXP_REASON_REGION_ACCESS, 0);
	EXPECT_VMM_ERROR(export_region(self->dev, writing, 0, self->page, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 0);
}

TEST_F(regions, read_only_buffer)
{
	struct vmmexp_export ex;
	int attachment;
	char *view;

	ASSERT_VMM_OK(export_region(self->dev, self->rom, 0, ROM_SIZE, VMMEXP_EXPORT_READ_ONLY,
				    &ex), &ex);
	errno = 0;
	EXPECT_EQ(NULL, vmm_map(ex.fd, 0, self->page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	view = vmm_map(ex.fd, 0, self->page, PROT_READ);
	ASSERT_NE(NULL, view);
	EXPECT_EQ(-1, mprotect(view, self->page, PROT_READ | PROT_WRITE));
	attachment = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_EQ(-EACCES, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	EXPECT_EQ(-EACCES, mock_map(self->mock, attachment, VMMEXP_MOCK_FROM_DEVICE));
	EXPECT_LE(0, mock_map(self->mock, attachment, VMMEXP_MOCK_TO_DEVICE));
	EXPECT_EQ(-EINVAL, mock_vmap(self->mock, ex.fd, NULL));
}

TEST_F(regions, range)
{
	size_t page = self->page;
	const struct {
		int fd;
		__u64 offset, len;
		int err;
		__u32 reason;
	} cases[] = {
		{ self->frames, FRAMES_SIZE - page, 2 * page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, FRAMES_SIZE, page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, 0, FRAMES_SIZE + page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, PRIVATE_PHYS - FRAMES_PHYS, page, EFAULT,
		  VMMEXP_REASON_REGION_RANGE },
		{ self->frames, PRIVATE_PHYS, page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, 1ull << 32, page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, 1ull << 44, page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, -(__u64)page, page, EINVAL, VMMEXP_REASON_RANGE_OVERFLOW },
		{ self->frames, -(__u64)2 * page, page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, 0, -(__u64)page, EFAULT, VMMEXP_REASON_REGION_RANGE },
		{ self->frames, 0, 0, EINVAL, VMMEXP_REASON_EMPTY_RANGE },
		{ self->frames, 1, page, EINVAL, VMMEXP_REASON_UNALIGNED },
		{ self->frames, 0, 1, EINVAL, VMMEXP_REASON_UNALIGNED },
		{ self->ctl, CTL_SIZE - page, 2 * page, EFAULT, VMMEXP_REASON_REGION_RANGE },
	};
	struct vmmexp_range ranges[2];
	struct vmmexp_export ex;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		TH_LOG("offset %#llx, %#llx bytes", (unsigned long long)cases[i].offset,
		       (unsigned long long)cases[i].len);
		EXPECT_VMM_ERROR(export_region(self->dev, cases[i].fd, cases[i].offset,
					       cases[i].len, 0, &ex), &ex,
				 cases[i].err, cases[i].reason, 0);
		ranges[0] = region_range(self->ctl, 0, 2 * page);
		ranges[1] = region_range(cases[i].fd, cases[i].offset, cases[i].len);
		EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex,
				 cases[i].err, cases[i].reason, 2 * page);
	}
	EXPECT_VMM_ERROR(export_region(self->dev, self->rom, ROM_SIZE - page, 2 * page,
				       VMMEXP_EXPORT_READ_ONLY, &ex), &ex,
			 EFAULT, VMMEXP_REASON_REGION_RANGE, 0);
	/* The last bytes' page is inside, the one after is not. */
	EXPECT_VMM_ERROR(export_region(self->dev, self->frames, FRAMES_SIZE - 10, 11,
				       VMMEXP_EXPORT_UNALIGNED, &ex), &ex,
			 EFAULT, VMMEXP_REASON_REGION_RANGE, 0);
	ASSERT_VMM_OK(export_region(self->dev, self->frames, FRAMES_SIZE - 10, 10,
				    VMMEXP_EXPORT_UNALIGNED, &ex), &ex);
	EXPECT_EQ(page, ex.size);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS + FRAMES_SIZE - page, page);
}

TEST_F(regions, bad_region_fd)
{
	int memfd = memfd_create("region", MFD_CLOEXEC);
	int path = open(VMM_DEVICE "-frames", O_PATH | O_CLOEXEC);
	struct vmmexp_range ranges[2];
	struct vmmexp_export ex, other;
	int fds[8], nr = 0, i, closed;

	ASSERT_LE(0, memfd);
	ASSERT_LE(0, path);
	ASSERT_EQ(0, ftruncate(memfd, 1 << 20));
	ASSERT_VMM_OK(export_region(self->dev, self->frames, 0, self->page, 0, &other), &other);
	closed = dup(memfd);
	close(closed);
	fds[nr++] = -1;
	fds[nr++] = closed;
	fds[nr++] = self->dev;
	fds[nr++] = self->mock;
	fds[nr++] = other.fd;
	fds[nr++] = memfd;
	fds[nr++] = path;
	fds[nr++] = 0x7fffffff;
	for (i = 0; i < nr; i++) {
		EXPECT_VMM_ERROR(export_region(self->dev, fds[i], 0, self->page, 0, &ex), &ex,
				 EBADF, VMMEXP_REASON_BAD_REGION_FD, 0);
		ranges[0] = region_range(self->frames, 0, self->page);
		ranges[1] = region_range(fds[i], 0, self->page);
		EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex,
				 EBADF, VMMEXP_REASON_BAD_REGION_FD, self->page);
	}
}

/* Neighbours are one another's business only where both are listed. */
TEST_F(regions, adjoining)
{
	size_t page = self->page;
	struct vmmexp_range ranges[3];
	struct vmmexp_export ex;
	char *arena, *private;

	arena = mmap(NULL, 4 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, arena);
	ASSERT_NE(MAP_FAILED, mmap(arena, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				   self->frames, FRAMES_SIZE - page));
	ASSERT_NE(MAP_FAILED, mmap(arena + page, page, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, self->ctl, 0));
	ASSERT_VMM_OK(vmm_export(self->dev, arena, 2 * page, 0, &ex), &ex);
	EXPECT_EQ(2 * page, ex.size);
	/* To the CPU they are two: it maps them differently. */
	EXPECT_EQ(2, ex.nr_segs);
	expect_runs(_metadata, self->mock, ex.fd, P2P, (struct mock_extent[]){
			{ FRAMES_PHYS + FRAMES_SIZE - page, page }, { CTL_PHYS, page } }, 2);
	close(ex.fd);
	EXPECT_VMM_ERROR(vmm_export(self->dev, arena, 3 * page, 0, &ex), &ex, EFAULT,
			 VMMEXP_REASON_NOT_READABLE, 2 * page);

	private = map_phys(PRIVATE_PHYS, PRIVATE_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, private);
	EXPECT_VMM_ERROR(vmm_export(self->dev, private, page, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_PFNMAP, 0);
	EXPECT_VMM_ERROR(vmm_export(self->dev, private, PRIVATE_SIZE, VMMEXP_EXPORT_READ_ONLY,
				    &ex), &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
	/* Physically it follows on what is listed. */
	ranges[0] = region_range(self->rom, ROM_SIZE - page, page);
	ranges[1] = vmm_range(private, page);
	ranges[2] = region_range(self->frames, 0, page);
	EXPECT_VMM_ERROR(vmm_export_ranges(self->dev, ranges, 3, VMMEXP_EXPORT_READ_ONLY, &ex),
			 &ex, EPERM, VMMEXP_REASON_PFNMAP, page);
	ASSERT_NE(MAP_FAILED, mremap(private, page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
				     arena + 2 * page));
	EXPECT_VMM_ERROR(vmm_export(self->dev, arena, 3 * page, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_PFNMAP, 2 * page);
	EXPECT_VMM_ERROR(vmm_export(self->dev, arena, 3 * page, VMMEXP_EXPORT_DRY_RUN, &ex), &ex,
			 EPERM, VMMEXP_REASON_PFNMAP, 2 * page);
}

TEST_F(regions, other_frames)
{
	struct vmmexp_export ex;
	char *mem;

	mem = map_phys(MMIO_PHYS, self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_PFNMAP, 0);
	/* Claimed memory is not for /dev/mem as long as that is strict. */
	EXPECT_EQ(NULL, map_phys(FRAMES_PHYS, self->page, PROT_READ));
	EXPECT_EQ(NULL, map_phys(ROM_PHYS + ROM_SIZE - self->page, 2 * self->page, PROT_READ));
}

/* It may be revoked, and what was made of it would stay. */
TEST_F(regions, mapping_of_a_dmabuf)
{
	const int fds[] = { self->frames, self->ctl };
	struct vmmexp_export ex, buffer;
	unsigned int i;
	char *mem;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_VMM_OK(export_region(self->dev, fds[i], 0, self->page, 0, &buffer), &buffer);
		mem = vmm_map(buffer.fd, 0, self->page, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, mem);
		vmm_poke(mem, 1);
		EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, 0, &ex), &ex, EPERM,
				 VMMEXP_REASON_PFNMAP, 0);
		EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, VMMEXP_EXPORT_READ_ONLY,
					    &ex), &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);
		/* And not by way of another driver's descriptor. */
		ASSERT_EQ(0, mock_mmap_choose(self->mock, buffer.fd));
		mem = vmm_map(self->mock, 0, self->page, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, mem);
		vmm_poke(mem, 1);
		EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, 0, &ex), &ex, EPERM,
				 VMMEXP_REASON_PFNMAP, 0);
	}
}

/* What a process, its mapping, another process and the host see is the same. */
TEST_F(regions, contents)
{
	const struct {
		int fd;
		__u64 phys;
	} cases[] = { { self->frames, FRAMES_PHYS }, { self->ctl, CTL_PHYS } };
	size_t page = self->page, offset = 7 * page, len = 64 * page;
	struct vmmexp_export by_region, by_address;
	struct vmm_peer peer;
	unsigned int i;
	char *mem;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		__u64 phys = cases[i].phys + offset;
		__u32 seed = 100 * (i + 1);

		ASSERT_EQ(0, vmm_peer_start(&peer));
		mem = vmm_map(cases[i].fd, offset, len, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, mem);
		ASSERT_VMM_OK(export_region(self->dev, cases[i].fd, offset, len, 0, &by_region),
			      &by_region);
		ASSERT_VMM_OK(vmm_export(self->dev, mem, len, 0, &by_address), &by_address);
		ASSERT_EQ(0, vmm_peer_give(&peer, 0, by_region.fd, PROT_READ | PROT_WRITE));
		ASSERT_EQ(0, vmm_peer_give(&peer, 1, by_address.fd, PROT_READ | PROT_WRITE));
		vmm_expect_shared(_metadata, &peer, 0, mem, len, 0, true);
		vmm_expect_shared(_metadata, &peer, 1, mem, len, 0, true);

		vmm_fill(mem, len, 0, seed);
		EXPECT_EQ(-1, host_mismatch(phys, len, 0, seed));
		/* No byte further. */
		EXPECT_NE(-1, host_mismatch(phys + len, page, len, seed));
		EXPECT_EQ(0, vmm_peer_fill(&peer, 1, 0, len, 0, seed + 1));
		EXPECT_EQ(-1, host_mismatch(phys, len, 0, seed + 1));
		ASSERT_EQ(0, host_fill(phys, len, 0, seed + 2));
		EXPECT_EQ(-1, vmm_mismatch(mem, len, 0, seed + 2));
		EXPECT_EQ(-1, vmm_peer_mismatch(&peer, 0, 0, len, 0, seed + 2));
		EXPECT_EQ(-1, vmm_peer_mismatch(&peer, 1, 0, len, 0, seed + 2));
		vmm_peer_stop(&peer);
		munmap(mem, len);
		close(by_region.fd);
		close(by_address.fd);
	}
}

TEST_F(regions, contents_read_only)
{
	struct vmmexp_export ex;
	struct vmm_peer peer;
	char *mem;

	ASSERT_EQ(0, vmm_peer_start(&peer));
	ASSERT_VMM_OK(export_region(self->dev, self->rom, 0, ROM_SIZE, VMMEXP_EXPORT_READ_ONLY,
				    &ex), &ex);
	ASSERT_EQ(0, vmm_peer_give(&peer, 0, ex.fd, PROT_READ));
	mem = vmm_map(self->rom, 0, ROM_SIZE, PROT_READ);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, host_fill(ROM_PHYS, ROM_SIZE, 0, 77));
	EXPECT_EQ(-1, vmm_mismatch(mem, ROM_SIZE, 0, 77));
	EXPECT_EQ(-1, vmm_peer_mismatch(&peer, 0, 0, ROM_SIZE, 0, 77));
	vmm_peer_stop(&peer);
}

/* malloc, a region by address, a region by its descriptor, and that again. */
TEST_F(regions, mixed)
{
	size_t page = self->page, part = 8 * page, size = 4 * part;
	struct mock_extent runs[40];
	struct vmmexp_range ranges[4];
	struct vmmexp_query query;
	struct vmmexp_export ex;
	struct vmm_peer peer;
	char *anon, *mem, *again;
	int nr, map;

	ASSERT_EQ(0, vmm_peer_start(&peer));
	anon = mock_mem_anon(part);
	ASSERT_NE(NULL, anon);
	mem = vmm_map(self->frames, part, part, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	again = vmm_map(self->ctl, 0, part, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, again);
	ranges[0] = vmm_range(anon, part);
	ranges[1] = vmm_range(mem, part);
	ranges[2] = region_range(self->ctl, 0, part);
	ranges[3] = vmm_range(anon, part);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 4, 0, &ex), &ex);
	EXPECT_EQ(size, ex.size);
	EXPECT_EQ(VMMEXP_KIND_ANON | VMMEXP_KIND_CARVEOUT, ex.kinds);
	ASSERT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
	EXPECT_EQ(ex.kinds, query.kinds);
	EXPECT_EQ(ex.nr_segs, query.nr_segs);

	nr = mock_extents(anon, part, runs, 0);
	ASSERT_LT(0, nr);
	runs[nr++] = (struct mock_extent){ FRAMES_PHYS + part, part };
	runs[nr++] = (struct mock_extent){ CTL_PHYS, part };
	nr = mock_extents(anon, part, runs, nr);
	EXPECT_EQ(nr, ex.nr_segs);

	/* Not for who may look for pages. */
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(self->mock, ex.fd, 0));
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(self->mock, ex.fd, VMMEXP_MOCK_IMPORTER_OPS));
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(self->mock, ex.fd,
					   VMMEXP_MOCK_IMPORTER_OPS | VMMEXP_MOCK_INVALIDATE));
	expect_runs(_metadata, self->mock, ex.fd, P2P, runs, nr);
	EXPECT_EQ(-EINVAL, mock_vmap(self->mock, ex.fd, NULL));

	ASSERT_EQ(0, vmm_peer_give(&peer, 0, ex.fd, PROT_READ | PROT_WRITE));
	vmm_expect_shared(_metadata, &peer, 0, anon, part, 0, true);
	vmm_expect_shared(_metadata, &peer, 0, mem, part, part, true);
	vmm_expect_shared(_metadata, &peer, 0, again, part, 2 * part, true);
	vmm_expect_shared(_metadata, &peer, 0, anon, part, 3 * part, true);

	/* A device writes all of it; everybody sees his part. */
	map = mock_map(self->mock, mock_attach(self->mock, ex.fd, P2P),
		       VMMEXP_MOCK_BIDIRECTIONAL);
	ASSERT_LE(0, map);
	ASSERT_EQ(0, mock_fill(self->mock, DEVICE_IO, map, 0, size, 9));
	EXPECT_EQ(-1, vmm_peer_mismatch(&peer, 0, part, size - part, part, 9));
	EXPECT_EQ(-1, vmm_mismatch(mem, part, part, 9));
	EXPECT_EQ(-1, vmm_mismatch(again, part, 2 * part, 9));
	EXPECT_EQ(-1, vmm_mismatch(anon, part, 3 * part, 9));
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS + part, part, part, 9));
	vmm_peer_stop(&peer);
}

/* Several runs of regions alone are no better. */
TEST_F(regions, several_runs)
{
	size_t page = self->page;
	struct vmmexp_range ranges[2] = {
		region_range(self->frames, 4 * page, page),
		region_range(self->frames, 0, page),
	};
	struct vmmexp_export ex;

	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex);
	EXPECT_EQ(2, ex.nr_segs);
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(self->mock, ex.fd, 0));
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(self->mock, ex.fd, VMMEXP_MOCK_IMPORTER_OPS));
	expect_runs(_metadata, self->mock, ex.fd, P2P, (struct mock_extent[]){
			{ FRAMES_PHYS + 4 * page, page }, { FRAMES_PHYS, page } }, 2);
	EXPECT_EQ(-EINVAL, mock_vmap(self->mock, ex.fd, NULL));
	close(ex.fd);

	ex.max_segs = 1;
	ex.fd = 0;
	EXPECT_VMM_ERROR(vmm_export_call(self->dev, &ex), &ex, EMLINK, VMMEXP_REASON_MAX_SEGS,
			 page);

	/* Pieces in order are one. */
	ranges[0] = region_range(self->frames, 0, 4 * page);
	ranges[1] = region_range(self->frames, 4 * page, page);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &ex), &ex);
	EXPECT_EQ(1, ex.nr_segs);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS, 5 * page);
}

TEST_F(regions, kernel_mapping)
{
	const struct {
		int fd;
		__u64 phys;
	} cases[] = { { self->frames, FRAMES_PHYS }, { self->ctl, CTL_PHYS } };
	size_t offset = 9 * self->page, len = 5 * self->page;
	struct vmmexp_query query;
	struct vmmexp_export ex;
	unsigned int i;
	char *mem;
	int vmap;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_VMM_OK(export_region(self->dev, cases[i].fd, offset, len, 0, &ex), &ex);
		mem = vmm_map(ex.fd, 0, len, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, mem);
		vmap = mock_vmap(self->mock, ex.fd, NULL);
		ASSERT_LE(0, vmap);
		ASSERT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
		EXPECT_EQ(1, query.kernel_mappings);
		EXPECT_EQ(1, query.cpu_mappings);
		vmm_fill(mem, len, 0, 21 + i);
		EXPECT_EQ(-1, mock_mismatch(self->mock, KERNEL_IO, vmap, 0, len, 21 + i));
		ASSERT_EQ(0, mock_fill(self->mock, KERNEL_IO, vmap, 0, len, 31 + i));
		EXPECT_EQ(-1, vmm_mismatch(mem, len, 0, 31 + i));
		EXPECT_EQ(-1, host_mismatch(cases[i].phys + offset, len, 0, 31 + i));
		EXPECT_EQ(0, mock_vunmap(self->mock, vmap));
		ASSERT_VMM_OK(vmm_query(self->dev, ex.fd, &query), &query);
		EXPECT_EQ(0, query.kernel_mappings);
		/* And again: it is not used up. */
		vmap = mock_vmap(self->mock, ex.fd, NULL);
		ASSERT_LE(0, vmap);
		EXPECT_EQ(0, mock_vunmap(self->mock, vmap));
		munmap(mem, len);
		close(ex.fd);
	}
}

/* A region is mapped once for all: its buffers take nothing of what the kernel can map. */
TEST_F(regions, leave_others_their_kernel_mappings)
{
	struct vmmexp_export *ex, other;
	struct vmmexp_info info;
	unsigned int nr, i;
	int vmap;
	char *mem;

	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	nr = info.max_size / FRAMES_SIZE + 2;
	ex = calloc(nr, sizeof(*ex));
	ASSERT_NE(NULL, ex);
	for (i = 0; i < nr; i++)
		ASSERT_VMM_OK(export_region(self->dev, self->frames, 0, FRAMES_SIZE, 0, &ex[i]),
			      &ex[i]);
	mem = mock_mem_anon(self->page);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->page, 0, &other), &other);
	vmap = mock_vmap(self->mock, other.fd, NULL);
	EXPECT_LE(0, vmap);
	EXPECT_EQ(0, mock_vunmap(self->mock, vmap));
	close(other.fd);
	for (i = 0; i < nr; i++)
		close(ex[i].fd);
	free(ex);
}

TEST_F(regions, devices)
{
	static const __u32 directions[] = {
		VMMEXP_MOCK_BIDIRECTIONAL, VMMEXP_MOCK_TO_DEVICE, VMMEXP_MOCK_FROM_DEVICE,
	};
	static const __u32 kinds[] = { 0, VMMEXP_MOCK_COHERENT, VMMEXP_MOCK_NON_COHERENT };
	const int fds[] = { self->frames, self->ctl };
	size_t len = 16 * self->page;
	unsigned int fd, kind, direction;
	struct vmmexp_export ex;
	char *mem;

	for (fd = 0; fd < ARRAY_SIZE(fds); fd++) {
		ASSERT_VMM_OK(export_region(self->dev, fds[fd], 0, len, 0, &ex), &ex);
		mem = vmm_map(fds[fd], 0, len, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, mem);
		for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
			struct vmmexp_mock_device device = {
				.flags = kinds[kind],
				.dma_mask_bits = 32,
			};
			int attachment;

			ASSERT_EQ(0, mock_device(self->mock, &device));
			attachment = mock_attach(self->mock, ex.fd, 0);
			ASSERT_LE(0, attachment);
			for (direction = 0; direction < ARRAY_SIZE(directions); direction++) {
				__u32 seed = 10 * kind + direction;
				int map;

				vmm_fill(mem, len, 0, seed);
				map = mock_map(self->mock, attachment, directions[direction]);
				ASSERT_LE(0, map);
				if (directions[direction] != VMMEXP_MOCK_FROM_DEVICE)
					EXPECT_EQ(-1, mock_mismatch(self->mock, DEVICE_IO, map, 0,
								    len, seed));
				if (directions[direction] != VMMEXP_MOCK_TO_DEVICE)
					EXPECT_EQ(0, mock_fill(self->mock, DEVICE_IO, map, 0, len,
							       ++seed));
				EXPECT_EQ(0, mock_unmap(self->mock, map));
				EXPECT_EQ(-1, vmm_mismatch(mem, len, 0, seed));
			}
			EXPECT_EQ(0, mock_detach(self->mock, attachment));
		}
		munmap(mem, len);
		close(ex.fd);
	}
}

/* A device that does not get there is told so; memory elsewhere is no help. */
TEST_F(regions, reach)
{
	struct vmmexp_mock_device device = { .dma_mask_bits = 30 };
	struct vmmexp_export ex;
	int attachment;

	ASSERT_VMM_OK(export_region(self->dev, self->frames, 0, FRAMES_SIZE, 0, &ex), &ex);
	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	device = (struct vmmexp_mock_device){
		.dma_mask_bits = 64,
		.bus_dma_limit = FRAMES_PHYS + FRAMES_SIZE - 2,
	};
	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_EQ(-EIO, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	device.bus_dma_limit = FRAMES_PHYS + FRAMES_SIZE - 1;
	ASSERT_EQ(0, mock_device(self->mock, &device));
	attachment = mock_attach(self->mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	EXPECT_LE(0, mock_map(self->mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));

	/* A limit that the driver has set splits what is one run. */
	device = (struct vmmexp_mock_device){
		.flags = VMMEXP_MOCK_DMA_PARMS,
		.dma_mask_bits = 64,
		.max_segment_size = 8 << 20,
	};
	ASSERT_EQ(0, mock_device(self->mock, &device));
	expect_runs(_metadata, self->mock, ex.fd, 0, (struct mock_extent[]){
			{ FRAMES_PHYS, 8 << 20 }, { FRAMES_PHYS + (8 << 20), 8 << 20 } }, 2);
}

TEST_F(regions, sync)
{
	static const __u32 flags[] = { VMMEXP_SYNC_READ, VMMEXP_SYNC_WRITE, VMMEXP_SYNC_RW };
	const int fds[] = { self->frames, self->ctl };
	size_t page = self->page, len = 32 * page;
	const struct vmmexp_sync_range ranges[] = { { 1, 3 }, { 5 * page - 7, page }, { 0, len } };
	struct vmmexp_mock_device device = {
		.flags = VMMEXP_MOCK_NON_COHERENT,
		.dma_mask_bits = 64,
	};
	struct dma_buf_sync core;
	struct vmmexp_export ex;
	struct vmmexp_sync sync;
	unsigned int fd, mapped, i;
	int attachment;
	char *mem;

	ASSERT_EQ(0, mock_device(self->mock, &device));
	for (fd = 0; fd < ARRAY_SIZE(fds); fd++) {
		ASSERT_VMM_OK(export_region(self->dev, fds[fd], 3 * page, len, 0, &ex), &ex);
		mem = vmm_map(fds[fd], 3 * page, len, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, mem);
		vmm_fill(mem, len, 0, 55 + fd);
		/* With a device that has it, and with none: the RTOS. */
		for (mapped = 0; mapped < 2; mapped++) {
			for (i = 0; i < ARRAY_SIZE(flags); i++) {
				__u32 begin = flags[i] | VMMEXP_SYNC_BEGIN;
				__u32 end = flags[i] | VMMEXP_SYNC_END;

				EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, NULL, 0, begin, &sync),
					      &sync);
				EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, NULL, 0, end, &sync),
					      &sync);
				EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, ranges, 3, begin, &sync),
					      &sync);
				EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, ranges, 3, end, &sync),
					      &sync);
				core.flags = flags[i] | DMA_BUF_SYNC_START;
				EXPECT_EQ(0, vmm_ioctl(ex.fd, DMA_BUF_IOCTL_SYNC, &core));
				core.flags = flags[i] | DMA_BUF_SYNC_END;
				EXPECT_EQ(0, vmm_ioctl(ex.fd, DMA_BUF_IOCTL_SYNC, &core));
			}
			for (i = 0; i < 3; i++) {
				EXPECT_EQ(0, mock_cpu_access(self->mock, ex.fd, i, false));
				EXPECT_EQ(0, mock_cpu_access(self->mock, ex.fd, i, true));
			}
			/* Nothing of it may lose a byte. */
			EXPECT_EQ(-1, vmm_mismatch(mem, len, 0, 55 + fd));
			if (!mapped) {
				attachment = mock_attach(self->mock, ex.fd, 0);
				ASSERT_LE(0, attachment);
				ASSERT_LE(0, mock_map(self->mock, attachment,
						      VMMEXP_MOCK_BIDIRECTIONAL));
			}
		}
		munmap(mem, len);
		close(ex.fd);
	}
	/* Of what is read-only only reading is to be announced. */
	ASSERT_VMM_OK(export_region(self->dev, self->rom, 0, len, VMMEXP_EXPORT_READ_ONLY, &ex),
		      &ex);
	EXPECT_VMM_OK(vmm_sync(self->dev, ex.fd, NULL, 0, VMMEXP_SYNC_READ, &sync), &sync);
	EXPECT_VMM_ERROR(vmm_sync(self->dev, ex.fd, NULL, 0, VMMEXP_SYNC_WRITE, &sync), &sync,
			 EACCES, VMMEXP_REASON_READ_ONLY, 0);
	core.flags = DMA_BUF_SYNC_RW | DMA_BUF_SYNC_START;
	EXPECT_EQ(-EACCES, vmm_ioctl(ex.fd, DMA_BUF_IOCTL_SYNC, &core));
}

/* The buffer stays when all that it was made of is given up. */
TEST_F(regions, outlives_descriptor_and_mapping)
{
	size_t page = self->page, len = 6 * page;
	struct vmmexp_export by_region, by_address;
	int fd = open_region("frames", O_RDWR);
	char *mem, *view;

	ASSERT_LE(0, fd);
	ASSERT_VMM_OK(export_region(self->dev, fd, 0, len, 0, &by_region), &by_region);
	mem = vmm_map(fd, len, len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, len, 0, &by_address), &by_address);
	munmap(mem, len);
	close(fd);
	close(self->frames);
	close(self->dev);

	view = vmm_map(by_region.fd, 0, len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	vmm_fill(view, len, 0, 61);
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS, len, 0, 61));
	expect_run(_metadata, self->mock, by_region.fd, FRAMES_PHYS, len);
	munmap(view, len);
	view = vmm_map(by_address.fd, 0, len, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	vmm_fill(view, len, 0, 62);
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS + len, len, 0, 62));
	expect_run(_metadata, self->mock, by_address.fd, FRAMES_PHYS + len, len);
}

/*
 * Random requests over random mappings, against a model of what must come of
 * each: which page is refused and why, or where each page of the buffer is.
 */
#define ARENA_PAGES	256
#define CHUNK_PAGES	8
#define LAYOUTS		20
#define REQUESTS	200	/* for each layout */
#define MAX_RANGES	4
#define RANGE_PAGES	24

/* What has pages is the same source to the one who counts runs. */
enum source { PAGES, FRAMES, CTL, ROM };

struct verdict {
	__u32 reason;		/* NONE: it may be exported */
	enum source source;
	__u64 phys;		/* 0: as /proc/self/pagemap says */
};

struct model {
	/* Of each page of the arena, exported for reading, and for writing. */
	struct verdict page[ARENA_PAGES][2];
};

static __u64 random_state;

static __u32 random_below(__u32 limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 16) % limit;
}

static int result_of(__u32 reason)
{
	switch (reason) {
	case VMMEXP_REASON_PFNMAP:
	case VMMEXP_REASON_REGION_CACHE:
		return -EPERM;
	case VMMEXP_REASON_REGION_ACCESS:
		return -EACCES;
	}
	return -EFAULT;
}

static struct verdict refused(__u32 reason)
{
	return (struct verdict){ .reason = reason };
}

static struct verdict allowed(enum source source, __u64 phys)
{
	return (struct verdict){ .source = source, .phys = phys };
}

/* The same for reading and for writing. */
static void both(struct verdict *page, struct verdict verdict)
{
	page[0] = verdict;
	page[1] = verdict;
}

/* Of a page that /dev/mem maps, uncached. */
static void devmem_verdict(struct verdict *page, __u64 phys)
{
	if (phys >= FRAMES_PHYS && phys < FRAMES_PHYS + FRAMES_SIZE) {
		both(page, allowed(FRAMES, phys));
	} else if (phys >= CTL_PHYS && phys < CTL_PHYS + CTL_SIZE) {
		both(page, refused(VMMEXP_REASON_REGION_CACHE));
	} else if (phys >= ROM_PHYS && phys < ROM_PHYS + ROM_SIZE) {
		page[0] = allowed(ROM, phys);
		page[1] = refused(VMMEXP_REASON_REGION_ACCESS);
	} else {
		both(page, refused(VMMEXP_REASON_PFNMAP));
	}
}

/* The regions by number, and frames again by a descriptor for reading. */
static const __u64 region_phys[] = { FRAMES_PHYS, CTL_PHYS, ROM_PHYS, FRAMES_PHYS };
static const __u64 region_size[] = { FRAMES_SIZE, CTL_SIZE, ROM_SIZE, FRAMES_SIZE };

/* Put something into a chunk of the arena. */
static int fill_chunk(char *at, struct verdict (*page)[2], bool relaxed, const int *fds, int devmem,
		      int memfd)
{
	static const __u64 borders[] = {
		CTL_PHYS, ROM_PHYS, PRIVATE_PHYS, FRAMES_PHYS + 0x400000,
	};
	const int rw = PROT_READ | PROT_WRITE;
	size_t step = vmm_page_size(), len = CHUNK_PAGES * step;
	unsigned int what = random_below(relaxed ? 14 : 12), region, i;
	int prot = rw, fd = -1, flags = MAP_SHARED | MAP_FIXED;
	off_t offset = 0;
	void *mem;

	if (what == 0)
		return munmap(at, len) ? -errno : 0;
	if (what <= 5) {
		/* 1 frames, 2 ctl, 3 rom, 4 frames for reading, 5 not even that */
		region = what <= 3 ? what - 1 : 0;
		prot = what == 5 ? PROT_NONE : what >= 3 ? PROT_READ : rw;
		fd = fds[region];
		offset = random_below(2) ? region_size[region] - len : random_below(64) * step;
	} else if (what <= 8) {
		/* 6 anonymous, 7 that for reading, 8 not even that */
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	} else if (what == 9) {
		fd = memfd;
		offset = random_below(8) * len;
	} else {
		fd = devmem;
		if (what == 10)
			offset = PRIVATE_PHYS + random_below(64) * step;
		else if (what == 11)
			offset = MMIO_PHYS;
		else
			offset = borders[random_below(ARRAY_SIZE(borders))] - 4 * step;
	}
	mem = mmap(at, len, prot, flags, fd, offset);
	if (mem != at)
		return -errno;
	for (i = 0; i < CHUNK_PAGES; i++) {
		struct verdict *to = page[i];

		if (what <= 3) {
			both(to, allowed(FRAMES + region, region_phys[region] + offset + i * step));
			if (what == 3)
				to[1] = refused(VMMEXP_REASON_REGION_ACCESS);
		} else if (what == 4) {
			to[0] = allowed(FRAMES, FRAMES_PHYS + offset + i * step);
			to[1] = refused(VMMEXP_REASON_REGION_ACCESS);
		} else if (what == 5 || what == 8) {
			both(to, refused(VMMEXP_REASON_NOT_READABLE));
		} else if (what <= 9) {
			at[i * step] = 1;
			both(to, allowed(PAGES, 0));
			if (what == 7)
				to[1] = refused(VMMEXP_REASON_NOT_WRITABLE);
		} else {
			devmem_verdict(to, offset + i * step);
		}
	}
	if (what == 7 || what == 8)
		return mprotect(at, len, what == 7 ? PROT_READ : PROT_NONE) ? -errno : 0;
	return 0;
}

/* A request, and what is to come of it. */
struct request {
	struct vmmexp_range ranges[MAX_RANGES];
	unsigned int nr;
	bool write;
	/* The pages, and where each has its address; NULL: in a region. */
	struct verdict pages[MAX_RANGES * RANGE_PAGES];
	char *where[MAX_RANGES * RANGE_PAGES];
	unsigned int count;
	/* Why it must be refused, and which page is to blame. */
	__u32 reason;
	unsigned int place;
};

/* Pages of a range; not often so many that one is sure to be refused. */
static unsigned int random_length(void)
{
	return 1 + random_below(random_below(3) ? RANGE_PAGES / 6 : RANGE_PAGES);
}

static void add_addresses(struct request *rq, const struct model *model, char *arena)
{
	unsigned int len = random_length(), i;
	unsigned int first = random_below(ARENA_PAGES - len);
	size_t step = vmm_page_size();

	rq->ranges[rq->nr++] = vmm_range(arena + first * step, len * step);
	for (i = first; i < first + len; i++) {
		rq->where[rq->count] = arena + i * step;
		rq->pages[rq->count++] = model->page[i][rq->write];
	}
}

static void add_region(struct request *rq, const int *fds)
{
	unsigned int len = random_length(), region = random_below(4), i;
	size_t step = vmm_page_size();
	__u64 at = random_below(64) * step;

	if (random_below(2))
		at = region_size[region] - at;
	rq->ranges[rq->nr++] = region_range(fds[region], at, len * step);
	/* Ranges are looked at before memory is. */
	if (!rq->reason) {
		rq->place = rq->count;
		if (rq->write && region >= 2)
			rq->reason = VMMEXP_REASON_REGION_ACCESS;
		else if (at + len * step > region_size[region])
			rq->reason = VMMEXP_REASON_REGION_RANGE;
	}
	for (i = 0; i < len; i++) {
		rq->where[rq->count] = NULL;
		rq->pages[rq->count++] = allowed(region == 3 ? FRAMES : FRAMES + region,
						 region_phys[region] + at + i * step);
	}
}

static void make_request(struct request *rq, const struct model *model, char *arena,
			 const int *fds)
{
	unsigned int nr = 1 + random_below(MAX_RANGES), i;

	rq->nr = 0;
	rq->count = 0;
	rq->reason = VMMEXP_REASON_NONE;
	rq->write = random_below(2);
	while (rq->nr < nr) {
		if (random_below(3))
			add_addresses(rq, model, arena);
		else
			add_region(rq, fds);
	}
	for (i = 0; i < rq->count && !rq->reason; i++) {
		rq->place = i;
		rq->reason = rq->pages[i].reason;
	}
}

/* A device finds the pages that were asked for, in their order, and no other. */
static void expect_pages(struct __test_metadata *_metadata, int mock, struct request *rq,
			 const struct vmmexp_export *ex)
{
	struct vmmexp_mock_segment *segments;
	int attachment, map, nr, segment = 0;
	size_t step = vmm_page_size();
	unsigned int i, runs = 0;
	__u64 done = 0;

	attachment = mock_attach(mock, ex->fd, P2P);
	ASSERT_LE(0, attachment);
	map = mock_map(mock, attachment, VMMEXP_MOCK_TO_DEVICE);
	ASSERT_LE(0, map);
	nr = mock_segments(mock, map, &segments);
	ASSERT_LT(0, nr);
	for (i = 0; i < rq->count; i++) {
		struct verdict *page = &rq->pages[i];
		__u64 is;

		if (page->source == PAGES)
			page->phys = vmm_pfn(rq->where[i]) * step;
		ASSERT_LT(segment, nr);
		is = segments[segment].dma_address + done;
		ASSERT_EQ(page->phys, is) TH_LOG("page %u", i);
		/* Whatever the model says. */
		ASSERT_FALSE(is >= PRIVATE_PHYS && is < PRIVATE_PHYS + PRIVATE_SIZE);
		ASSERT_EQ(page->source != PAGES, is_carveout(is));
		if (!i || page->source != page[-1].source || page[-1].phys + step != is)
			runs++;
		done += step;
		if (done == segments[segment].dma_length) {
			segment++;
			done = 0;
		}
	}
	EXPECT_EQ(nr, segment);
	EXPECT_EQ(runs, ex->nr_segs);
	free(segments);
	EXPECT_EQ(0, mock_unmap(mock, map));
	EXPECT_EQ(0, mock_detach(mock, attachment));
}

static void fuzz(struct __test_metadata *_metadata, int dev, int mock, bool relaxed)
{
	int fds[] = { open_region("frames", O_RDWR), open_region("ctl", O_RDWR),
		      open_region("rom", O_RDONLY), open_region("frames", O_RDONLY) };
	int devmem = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	int memfd = memfd_create("region", MFD_CLOEXEC);
	unsigned int layout, request, exported = 0, refusals = 0, i;
	size_t step = vmm_page_size();
	static struct model model;
	static struct request rq;
	struct vmmexp_export ex;
	char *arena;
	int ret;

	ASSERT_LE(0, devmem);
	ASSERT_LE(0, memfd);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		ASSERT_LE(0, fds[i]);
	ASSERT_EQ(0, ftruncate(memfd, 8 * CHUNK_PAGES * step));
	random_state = 0x9e3779b97f4a7c15ull + relaxed;
	arena = mmap(NULL, ARENA_PAGES * step, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, arena);

	for (layout = 0; layout < LAYOUTS; layout++) {
		for (i = 0; i < ARENA_PAGES; i++)
			both(model.page[i], refused(VMMEXP_REASON_HOLE));
		for (i = 0; i < ARENA_PAGES; i += CHUNK_PAGES)
			ASSERT_EQ(0, fill_chunk(arena + i * step, &model.page[i], relaxed, fds,
						devmem, memfd)) {
				TH_LOG("chunk %u of layout %u", i, layout);
			}
		for (request = 0; request < REQUESTS; request++) {
			make_request(&rq, &model, arena, fds);
			ret = vmm_export_ranges(dev, rq.ranges, rq.nr,
						rq.write ? 0 : VMMEXP_EXPORT_READ_ONLY, &ex);
			ASSERT_EQ(rq.reason, ex.reason) {
				TH_LOG("layout %u, request %u, page %u", layout, request, rq.place);
			}
			if (rq.reason) {
				ASSERT_EQ(result_of(rq.reason), ret);
				ASSERT_EQ(rq.place * step, ex.error_offset);
				ASSERT_EQ(-1, ex.fd);
				refusals++;
				continue;
			}
			ASSERT_EQ(0, ret);
			exported++;
			expect_pages(_metadata, mock, &rq, &ex);
			close(ex.fd);
		}
	}
	TH_LOG("%u exported, %u refused", exported, refusals);
	/* Else it tests one half only. */
	EXPECT_LT(LAYOUTS * REQUESTS / 50, exported);
	EXPECT_LT(LAYOUTS * REQUESTS / 50, refusals);
}

TEST_F(regions, fuzz)
{
	fuzz(_metadata, self->dev, self->mock, false);
}

/*
 * /dev/mem maps what is claimed too.
 */
FIXTURE(relaxed) {
	size_t page;
	int dev;
	int mock;
};

FIXTURE_SETUP(relaxed)
{
	self->page = vmm_page_size();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
}

FIXTURE_TEARDOWN(relaxed)
{
	close(self->mock);
	close(self->dev);
}

TEST_F(relaxed, uncached_region)
{
	struct vmmexp_export ex;
	char *mem, *view;

	mem = map_phys(FRAMES_PHYS, FRAMES_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem + self->page, 1 << 20, 0, &ex), &ex);
	EXPECT_EQ(VMMEXP_KIND_CARVEOUT, ex.kinds);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS + self->page, 1 << 20);
	view = vmm_map(ex.fd, 0, 1 << 20, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	vmm_fill(view, 1 << 20, 0, 91);
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS + self->page, 1 << 20, 0, 91));
}

TEST_F(relaxed, cacheability_must_match)
{
	struct vmmexp_export ex;
	char *mem;

	mem = map_phys(CTL_PHYS, CTL_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_REGION_CACHE, 0);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex,
			 EPERM, VMMEXP_REASON_REGION_CACHE, 0);
}

/* Also not with the help of a mapping that could write. */
TEST_F(relaxed, read_only_region)
{
	struct vmmexp_export ex;
	char *mem;

	mem = map_phys(ROM_PHYS, ROM_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, self->page, 0, &ex), &ex, EACCES,
			 VMMEXP_REASON_REGION_ACCESS, 0);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, self->page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	expect_run(_metadata, self->mock, ex.fd, ROM_PHYS, self->page);
}

/* One mapping over neighbours: each page is judged by where it is. */
TEST_F(relaxed, across_borders)
{
	size_t page = self->page;
	struct vmmexp_export ex;
	char *mem;

	mem = map_phys(FRAMES_PHYS + FRAMES_SIZE - 2 * page, 4 * page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, 2 * page, 0, &ex), &ex);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS + FRAMES_SIZE - 2 * page, 2 * page);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, 3 * page, 0, &ex), &ex, EPERM,
			 VMMEXP_REASON_REGION_CACHE, 2 * page);

	mem = map_phys(PRIVATE_PHYS - 2 * page, 4 * page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_VMM_OK(vmm_export(self->dev, mem, 2 * page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex);
	expect_run(_metadata, self->mock, ex.fd, PRIVATE_PHYS - 2 * page, 2 * page);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem, 4 * page, VMMEXP_EXPORT_READ_ONLY, &ex), &ex,
			 EPERM, VMMEXP_REASON_PFNMAP, 2 * page);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem + 2 * page, page, VMMEXP_EXPORT_READ_ONLY, &ex),
			 &ex, EPERM, VMMEXP_REASON_PFNMAP, 0);

	/* A huge leaf, where the machine maps with such: from the middle of one to the next. */
	mem = map_phys(FRAMES_PHYS, 0x1400000, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	EXPECT_VMM_ERROR(vmm_export(self->dev, mem + 5 * page, 0x1400000 - 5 * page,
				    VMMEXP_EXPORT_READ_ONLY, &ex), &ex,
			 EPERM, VMMEXP_REASON_REGION_CACHE, FRAMES_SIZE - 5 * page);
	ASSERT_VMM_OK(vmm_export(self->dev, mem + 5 * page, FRAMES_SIZE - 5 * page, 0, &ex), &ex);
	expect_run(_metadata, self->mock, ex.fd, FRAMES_PHYS + 5 * page, FRAMES_SIZE - 5 * page);
}

TEST_F(relaxed, fuzz)
{
	fuzz(_metadata, self->dev, self->mock, true);
}

/*
 * The module stays while something of a region is in use.
 */
FIXTURE(unload) {
	size_t page;
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

static int unload_soon(void)
{
	int ret = unload(), tries;

	for (tries = 0; tries < 100 && ret == -EWOULDBLOCK; tries++) {
		vmm_msleep(20);
		ret = unload();
	}
	return ret;
}

/* Is @name a claimed resource? */
static bool claimed(const char *name)
{
	char line[256];
	bool found = false;
	FILE *file = fopen("/proc/iomem", "re");

	while (file && fgets(line, sizeof(line), file)) {
		char *colon = strstr(line, " : ");

		line[strcspn(line, "\n")] = 0;
		found = found || (colon && !strcmp(colon + 3, name));
	}
	if (file)
		fclose(file);
	return found;
}

FIXTURE_SETUP(unload)
{
	self->page = vmm_page_size();
	ASSERT_EQ(0, access("/sys/module/" MODULE, F_OK));
}

FIXTURE_TEARDOWN_PARENT(unload)
{
	EXPECT_TRUE(!access("/sys/module/" MODULE, F_OK) || !load());
}

/* Out it goes, with all it has, and in again. */
#define EXPECT_UNLOADS() do { \
	EXPECT_EQ(0, unload_soon()); \
	EXPECT_EQ(-ENOENT, open_region("frames", O_RDWR)); \
	EXPECT_FALSE(claimed("vmmexp-frames")); \
	ASSERT_EQ(0, load()); \
	EXPECT_TRUE(claimed("vmmexp-frames")); \
} while (0)

#define EXPECT_STAYS() EXPECT_EQ(-EWOULDBLOCK, unload())

TEST_F(unload, nothing_in_use)
{
	int i;

	EXPECT_TRUE(claimed("vmmexp-frames"));
	EXPECT_TRUE(claimed("vmmexp-ctl"));
	EXPECT_TRUE(claimed("vmmexp-rom"));
	for (i = 0; i < 3; i++)
		EXPECT_UNLOADS();
	/* By hand nothing is unbound. */
	EXPECT_EQ(0, access("/sys/bus/platform/drivers/vmmexp", F_OK));
	EXPECT_EQ(-1, access("/sys/bus/platform/drivers/vmmexp/unbind", F_OK));
}

TEST_F(unload, descriptor)
{
	int fd = open_region("frames", O_RDONLY);

	ASSERT_LE(0, fd);
	EXPECT_STAYS();
	close(fd);
	EXPECT_UNLOADS();
}

TEST_F(unload, mapping)
{
	int fd = open_region("ctl", O_RDWR);
	char *mem;

	ASSERT_LE(0, fd);
	mem = vmm_map(fd, 0, 4 * self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	close(fd);
	EXPECT_STAYS();
	vmm_fill(mem, self->page, 0, 1);
	munmap(mem + self->page, 3 * self->page);
	EXPECT_STAYS();
	EXPECT_EQ(-1, vmm_mismatch(mem, self->page, 0, 1));
	munmap(mem, self->page);
	EXPECT_UNLOADS();
}

TEST_F(unload, buffer)
{
	int dev = vmm_open(), fd = open_region("frames", O_RDWR), mock = mock_open();
	struct vmmexp_export ex;
	int attachment;

	ASSERT_LE(0, dev);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, mock);
	ASSERT_VMM_OK(export_region(dev, fd, 0, self->page, 0, &ex), &ex);
	close(dev);
	close(fd);
	EXPECT_STAYS();
	/* An importer has it even when nobody has a descriptor any more. */
	attachment = mock_attach(mock, ex.fd, 0);
	ASSERT_LE(0, attachment);
	ASSERT_LE(0, mock_map(mock, attachment, VMMEXP_MOCK_BIDIRECTIONAL));
	close(ex.fd);
	EXPECT_STAYS();
	close(mock);
	EXPECT_UNLOADS();
}

/* Claiming a region ends mappings from before, so they cannot be exported. */
TEST_F(unload, mapping_from_before)
{
	struct vmmexp_export ex;
	char *mem;
	int dev;

	ASSERT_EQ(0, unload_soon());
	mem = map_phys(FRAMES_PHYS, 4 * self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, load());
	dev = vmm_open();
	ASSERT_LE(0, dev);
	EXPECT_VMM_ERROR(vmm_export(dev, mem, 4 * self->page, 0, &ex), &ex, EFAULT,
			 VMMEXP_REASON_FAULT, 0);
}

/*
 * A device behind an IOMMU: QEMU's "edu", which copies up to a page from memory
 * into a buffer of its own, or from there to memory. What it finds at the
 * addresses that it was given, and what it may not do there, is the SMMU's word.
 */
#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8
#define EDU_BAR_SIZE	0x100000
#define EDU_DMA_SOURCE	(0x80 / 4)
#define EDU_DMA_TARGET	(0x88 / 4)
#define EDU_DMA_COUNT	(0x90 / 4)
#define EDU_DMA_COMMAND	(0x98 / 4)
#define EDU_BUFFER	0x40000
#define EDU_BUFFER_SIZE	0x1000
#define EDU_RUN		0x1
#define EDU_TO_MEMORY	0x2

FIXTURE(smmu) {
	size_t page;
	long long pins;
	int dev;
	int mock;
	int frames;
	int ctl;
	int rom;
	__u32 *edu;
};

/* A line of a file of the device's directory; false if there is none. */
static bool pci_line(const char *device, const char *name, char *line, size_t size)
{
	char path[512];
	FILE *file;
	bool got;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", device, name);
	file = fopen(path, "re");
	got = file && fgets(line, size, file);
	if (file)
		fclose(file);
	if (got)
		line[strcspn(line, "\n")] = 0;
	return got;
}

/* The directory of the device. */
static bool find_edu(char *device, size_t size)
{
	struct dirent *entry;
	bool found = false;
	char line[32];
	DIR *dir = opendir("/sys/bus/pci/devices");

	while (dir && !found && (entry = readdir(dir))) {
		snprintf(device, size, "%s", entry->d_name);
		found = pci_line(device, "vendor", line, sizeof(line)) &&
			strtoul(line, NULL, 0) == EDU_VENDOR &&
			pci_line(device, "device", line, sizeof(line)) &&
			strtoul(line, NULL, 0) == EDU_DEVICE;
	}
	if (dir)
		closedir(dir);
	return found;
}

FIXTURE_SETUP(smmu)
{
	char device[256], path[512], type[32];
	int fd;

	self->page = vmm_page_size();
	ASSERT_EQ(EDU_BUFFER_SIZE, self->page);
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mock = mock_open();
	ASSERT_LE(0, self->mock);
	self->frames = open_region("frames", O_RDWR);
	ASSERT_LE(0, self->frames);
	self->ctl = open_region("ctl", O_RDWR);
	ASSERT_LE(0, self->ctl);
	self->rom = open_region("rom", O_RDONLY);
	ASSERT_LE(0, self->rom);

	ASSERT_TRUE(find_edu(device, sizeof(device)));
	/* Translated, and nothing stays mapped for a while after it was unmapped. */
	ASSERT_TRUE(pci_line(device, "iommu_group/type", type, sizeof(type)));
	ASSERT_STREQ("DMA", type);
	/* Enables it too. */
	ASSERT_EQ(0, mock_pci(self->mock, EDU_VENDOR, EDU_DEVICE));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", device);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	ASSERT_LE(0, fd);
	self->edu = (__u32 *)vmm_map(fd, 0, EDU_BAR_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, self->edu);
	close(fd);
}

FIXTURE_TEARDOWN_PARENT(smmu)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

static void edu_set(__u32 *edu, unsigned int reg, __u32 value)
{
	__atomic_store_n(edu + reg, value, __ATOMIC_SEQ_CST);
}

static int edu_run(__u32 *edu, __u64 source, __u64 target, __u32 len, __u32 command)
{
	int ms;

	/* Half of a register that has 64 bits: 32-bit programs have no whole ones. */
	if ((source | target) >> 32)
		return -ERANGE;
	edu_set(edu, EDU_DMA_SOURCE, source);
	edu_set(edu, EDU_DMA_TARGET, target);
	edu_set(edu, EDU_DMA_COUNT, len);
	edu_set(edu, EDU_DMA_COMMAND, EDU_RUN | command);
	for (ms = 0; __atomic_load_n(edu + EDU_DMA_COMMAND, __ATOMIC_SEQ_CST) & EDU_RUN; ms += 5) {
		if (ms > 20000)
			return -ETIMEDOUT;
		vmm_msleep(5);
	}
	return 0;
}

/* The device reads from memory, or writes there what it read last. */
static int edu_read(__u32 *edu, __u64 address, __u32 len)
{
	return edu_run(edu, address, EDU_BUFFER, len, 0);
}

static int edu_write(__u32 *edu, __u64 address, __u32 len)
{
	return edu_run(edu, EDU_BUFFER, address, len, EDU_TO_MEMORY);
}

struct device_view {
	int attachment, map, nr;
	struct vmmexp_mock_segment *segments;
};

/* @dmabuf mapped for the device, and the addresses that this gave. */
static void view_open(struct __test_metadata *_metadata, int mock, int dmabuf, __u32 flags,
		      __u32 direction, struct device_view *view)
{
	view->attachment = mock_attach(mock, dmabuf, flags);
	ASSERT_LE(0, view->attachment);
	view->map = mock_map(mock, view->attachment, direction);
	ASSERT_LE(0, view->map);
	view->nr = mock_segments(mock, view->map, &view->segments);
	ASSERT_LT(0, view->nr);
}

static void view_close(struct __test_metadata *_metadata, int mock, struct device_view *view)
{
	free(view->segments);
	EXPECT_EQ(0, mock_unmap(mock, view->map));
	EXPECT_EQ(0, mock_detach(mock, view->attachment));
}

/* Where the device finds the byte at @offset; ~0: nowhere. */
static __u64 view_address(const struct device_view *view, __u64 offset)
{
	int i;

	for (i = 0; i < view->nr; i++) {
		if (offset < view->segments[i].dma_length)
			return view->segments[i].dma_address + offset;
		offset -= view->segments[i].dma_length;
	}
	return ~0ull;
}

/* What the RTOS writes the device reads, and the other way round. */
TEST_F(smmu, reads_and_writes)
{
	size_t page = self->page, offset = 3 * page, len = 1 << 20;
	const size_t places[] = { 0, 0x10000 - page, 0x10000, len / 2 + 5 * page, len - page };
	__u64 from = FRAMES_PHYS + offset, to = CTL_PHYS;
	struct vmmexp_export source, target;
	struct device_view in, out;
	unsigned int way, i;
	char *mem;

	mem = vmm_map(self->frames, 0, FRAMES_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	for (way = 0; way < 2; way++) {
		if (way)
			ASSERT_VMM_OK(vmm_export(self->dev, mem + offset, len, 0, &source),
				      &source);
		else
			ASSERT_VMM_OK(export_region(self->dev, self->frames, offset, len, 0,
						    &source), &source);
		EXPECT_EQ(1, source.nr_segs);
		ASSERT_VMM_OK(export_region(self->dev, self->ctl, 0, CTL_SIZE, 0, &target),
			      &target);
		view_open(_metadata, self->mock, source.fd, 0, VMMEXP_MOCK_TO_DEVICE, &in);
		view_open(_metadata, self->mock, target.fd, 0, VMMEXP_MOCK_FROM_DEVICE, &out);
		for (i = 0; i < ARRAY_SIZE(places); i++) {
			__u32 seed = 16 * way + i + 1;

			/* Translated, or this would prove nothing. */
			EXPECT_NE(from + places[i], view_address(&in, places[i]));
			ASSERT_EQ(0, host_fill(from + places[i], page, 0, seed));
			ASSERT_EQ(0, host_fill(to + places[i], page, 0, seed + 100));
			ASSERT_EQ(0, edu_read(self->edu, view_address(&in, places[i]), page));
			ASSERT_EQ(0, edu_write(self->edu, view_address(&out, places[i]), page));
			EXPECT_EQ(-1, host_mismatch(to + places[i], page, 0, seed)) {
				TH_LOG("way %u, offset %#zx", way, places[i]);
			}
		}
		EXPECT_EQ(~0ull, view_address(&in, len));
		view_close(_metadata, self->mock, &in);
		view_close(_metadata, self->mock, &out);
		close(source.fd);
		close(target.fd);
	}
}

/*
 * A buffer of one run is one run to the device too, whatever its longest segment
 * is: so those drivers see it that want contiguous memory (DRM's DMA helpers).
 */
TEST_F(smmu, one_run)
{
	struct vmmexp_export ex;
	struct device_view view;
	int i;

	ASSERT_VMM_OK(export_region(self->dev, self->frames, 0, 1 << 20, 0, &ex), &ex);
	view_open(_metadata, self->mock, ex.fd, 0, VMMEXP_MOCK_BIDIRECTIONAL, &view);
	for (i = 1; i < view.nr; i++) {
		ASSERT_EQ(view.segments[i - 1].dma_address + view.segments[i - 1].dma_length,
			  view.segments[i].dma_address) {
			TH_LOG("segment %d of %d", i, view.nr);
		}
	}
	view_close(_metadata, self->mock, &view);
}

/* Pieces of two regions with ordinary memory between them. */
TEST_F(smmu, mixed)
{
	size_t page = self->page, i;
	struct vmmexp_export ex, target;
	struct vmmexp_range ranges[3];
	struct device_view in, out;
	char *mem;

	mem = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, host_fill(FRAMES_PHYS + 9 * page, 2 * page, 0, 7));
	vmm_fill(mem, 3 * page, 2 * page, 7);
	ASSERT_EQ(0, host_fill(CTL_PHYS + page, page, 5 * page, 7));
	ranges[0] = region_range(self->frames, 9 * page, 2 * page);
	ranges[1] = vmm_range(mem, 3 * page);
	ranges[2] = region_range(self->ctl, page, page);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 3, 0, &ex), &ex);
	/* As without an IOMMU: who does not say that it copes gets nothing. */
	EXPECT_EQ(-EOPNOTSUPP, mock_attach(self->mock, ex.fd, 0));
	view_open(_metadata, self->mock, ex.fd, P2P, VMMEXP_MOCK_TO_DEVICE, &in);
	ASSERT_VMM_OK(export_region(self->dev, self->frames, 0x100000, 6 * page, 0, &target),
		      &target);
	view_open(_metadata, self->mock, target.fd, 0, VMMEXP_MOCK_FROM_DEVICE, &out);
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, edu_read(self->edu, view_address(&in, i * page), page));
		ASSERT_EQ(0, edu_write(self->edu, view_address(&out, i * page), page));
	}
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS + 0x100000, 6 * page, 0, 7));
	view_close(_metadata, self->mock, &in);
	view_close(_metadata, self->mock, &out);

	/* And into them. */
	ASSERT_EQ(0, host_fill(FRAMES_PHYS + 0x100000, 6 * page, 0, 8));
	view_open(_metadata, self->mock, target.fd, 0, VMMEXP_MOCK_TO_DEVICE, &in);
	view_open(_metadata, self->mock, ex.fd, P2P, VMMEXP_MOCK_FROM_DEVICE, &out);
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, edu_read(self->edu, view_address(&in, i * page), page));
		ASSERT_EQ(0, edu_write(self->edu, view_address(&out, i * page), page));
	}
	view_close(_metadata, self->mock, &in);
	view_close(_metadata, self->mock, &out);
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS + 9 * page, 2 * page, 0, 8));
	EXPECT_EQ(-1, vmm_mismatch(mem, 3 * page, 2 * page, 8));
	EXPECT_EQ(-1, host_mismatch(CTL_PHYS + page, page, 5 * page, 8));
}

/* Here the promise of READ_ONLY is kept by hardware. */
TEST_F(smmu, read_only)
{
	const struct {
		int fd;
		__u64 phys;
		__u32 flags;
	} cases[] = {
		{ self->rom, ROM_PHYS, VMMEXP_EXPORT_READ_ONLY },
		{ self->frames, FRAMES_PHYS, VMMEXP_EXPORT_READ_ONLY },
		/* Of the mapping only. */
		{ self->frames, FRAMES_PHYS, 0 },
	};
	size_t page = self->page;
	struct vmmexp_export ex;
	struct device_view view;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_VMM_OK(export_region(self->dev, cases[i].fd, 0, 2 * page, cases[i].flags,
					    &ex), &ex);
		view_open(_metadata, self->mock, ex.fd, 0, VMMEXP_MOCK_TO_DEVICE, &view);
		ASSERT_EQ(0, host_fill(cases[i].phys, 2 * page, 0, 20 + i));
		ASSERT_EQ(0, edu_read(self->edu, view_address(&view, 0), page));
		/* The first page over the second one. */
		ASSERT_EQ(0, edu_write(self->edu, view_address(&view, page), page));
		EXPECT_EQ(-1, host_mismatch(cases[i].phys, 2 * page, 0, 20 + i)) {
			TH_LOG("case %u", i);
		}
		view_close(_metadata, self->mock, &view);
		close(ex.fd);
	}
}

/* The device reaches what it was given, as long as it was given to it. */
TEST_F(smmu, nothing_else)
{
	size_t page = self->page;
	struct vmmexp_export ex;
	struct device_view view;
	__u64 address;

	ASSERT_VMM_OK(export_region(self->dev, self->frames, 4 * page, 2 * page, 0, &ex), &ex);
	view_open(_metadata, self->mock, ex.fd, 0, VMMEXP_MOCK_BIDIRECTIONAL, &view);
	/*
	 * The page before is nobody's, as the one behind is; but the device can
	 * say its address: the last page that it reaches may be one of these.
	 */
	address = view_address(&view, 0);
	ASSERT_LE(page, address);
	ASSERT_EQ(address + page, view_address(&view, page));
	ASSERT_EQ(0, host_fill(FRAMES_PHYS, 16 * page, 0, 31));
	ASSERT_EQ(0, edu_read(self->edu, address, page));
	/* That page, by the SMMU's addresses and by those of the memory. */
	ASSERT_EQ(0, edu_write(self->edu, address - page, page));
	ASSERT_EQ(0, edu_write(self->edu, FRAMES_PHYS + 6 * page, page));
	ASSERT_EQ(0, edu_write(self->edu, FRAMES_PHYS + 4 * page + page, page));
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS, 16 * page, 0, 31));
	/* What it has in its buffer does change memory where it may. */
	ASSERT_EQ(0, edu_write(self->edu, address + page, page));
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS + 5 * page, page, 4 * page, 31));
	ASSERT_EQ(0, host_fill(FRAMES_PHYS, 16 * page, 0, 31));
	view_close(_metadata, self->mock, &view);
	ASSERT_EQ(0, edu_write(self->edu, address + page, page));
	EXPECT_EQ(-1, host_mismatch(FRAMES_PHYS, 16 * page, 0, 31));
}

/*
 * A device tree with one good region among bad ones.
 */
FIXTURE(bad) {
	int dev;
};

FIXTURE_SETUP(bad)
{
	bad_tree = true;
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(bad)
{
	close(self->dev);
}

TEST_F(bad, only_the_good_one_is_there)
{
	static const char * const names[] = {
		"overlap", "unaligned", "partial", "reusable", "mapped", "Bad_Name", "absent",
		"kernel", "again",
	};
	struct vmmexp_region_info regions[2];
	struct vmmexp_info info = {
		.regions = (uintptr_t)regions,
		.nr_regions = 2,
		.region_size = sizeof(regions[0]),
	};
	unsigned int i;

	memset(regions, 0, sizeof(regions));
	ASSERT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info);
	EXPECT_EQ(1, info.total_regions);
	EXPECT_STREQ("good", regions[0].name);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		EXPECT_EQ(-ENOENT, open_region(names[i], O_RDONLY)) TH_LOG("%s", names[i]);
}

TEST_F(bad, the_good_one_works)
{
	int fd = open_region("good", O_RDWR), mock = mock_open();
	struct vmmexp_export ex;
	char *view;

	ASSERT_LE(0, fd);
	ASSERT_LE(0, mock);
	ASSERT_VMM_OK(export_region(self->dev, fd, 0, GOOD_SIZE, 0, &ex), &ex);
	expect_run(_metadata, mock, ex.fd, GOOD_PHYS, GOOD_SIZE);
	view = vmm_map(ex.fd, 0, GOOD_SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, view);
	vmm_fill(view, GOOD_SIZE, 0, 41);
	EXPECT_EQ(-1, host_mismatch(GOOD_PHYS, GOOD_SIZE, 0, 41));
	EXPECT_VMM_ERROR(export_region(self->dev, fd, GOOD_SIZE, vmm_page_size(), 0, &ex), &ex,
			 EFAULT, VMMEXP_REASON_REGION_RANGE, 0);
}

/* What the others name cannot be had by its addresses either. */
TEST_F(bad, nothing_of_the_others)
{
	static const __u64 places[] = {
		RAM_BASE + 0x31000000,	/* overlap, behind good */
		RAM_BASE + 0x32000000,	/* unaligned */
		RAM_BASE + 0x32100000,	/* partial */
		RAM_BASE + 0x37000000,	/* Bad_Name */
	};
	struct vmmexp_export ex;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		char *mem = map_phys(places[i], vmm_page_size(), PROT_READ);

		/* A part of a page is Linux's: no mapping at all. */
		if (!mem && (places[i] - RAM_BASE) >> 24 == 0x32)
			continue;
		ASSERT_NE(NULL, mem) TH_LOG("place %u", i);
		EXPECT_VMM_ERROR(vmm_export(self->dev, mem, vmm_page_size(),
					    VMMEXP_EXPORT_READ_ONLY, &ex), &ex,
				 EPERM, VMMEXP_REASON_PFNMAP, 0);
	}
}

TEST_HARNESS_MAIN
