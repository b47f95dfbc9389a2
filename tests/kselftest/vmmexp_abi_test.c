// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ABI of vmmexp: structures that grow, what is checked in which order,
 * what is written back and what never is, and what a refused call leaves
 * behind: nothing.
 */
#include "kselftest_harness.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmmexp_util.h"

#define CALL(nr, size)	_IOC(_IOC_READ | _IOC_WRITE, VMMEXP_IOC_MAGIC, nr, size)

/* The largest size that an ioctl number holds. */
#define SIZE_MAX_IOC	((1u << _IOC_SIZEBITS) - 1)

#define NR_PAGES	4

/* No page of the kernel's own is where a program may point. */
#define KERNEL_ADDRESS	((unsigned long)-1 / 0x1000 * 0x1000 - 0x10000)

/* A page, followed by one that may not be touched; nothing else gets in there. */
static char *page_before_hole(struct __test_metadata *_metadata)
{
	size_t page = vmm_page_size();
	char *mem = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, mprotect(mem + page, page, PROT_NONE));
	return mem;
}

/*
 * Rules that all five calls share.
 */
union structure {
	struct vmmexp_export export;
	struct vmmexp_sync sync;
	struct vmmexp_info info;
	struct vmmexp_query query;
	struct vmmexp_revoke revoke;
};

FIXTURE(call)
{
	int dev;
	int fd;
	long long pins;
	unsigned int fds;
	char *mem;
	struct vmmexp_range range;
};

FIXTURE_VARIANT(call)
{
	unsigned int nr;
	unsigned int size;
	unsigned int size_min;
	unsigned int reason_offset;
	/* All ones in the fields that the module writes. */
	union structure out;
};

FIXTURE_VARIANT_ADD(call, export)
{
	.nr = 0,
	.size = sizeof(struct vmmexp_export),
	.size_min = VMMEXP_EXPORT_SIZE_MIN,
	.reason_offset = offsetof(struct vmmexp_export, reason),
	.out.export = {
		.fd = -1,
		.reason = ~0u,
		.error_offset = ~0ull,
		.size = ~0ull,
		.data_offset = ~0ull,
		.data_size = ~0ull,
		.nr_segs = ~0u,
		.kinds = ~0u,
		.alignment = ~0ull,
	},
};

FIXTURE_VARIANT_ADD(call, sync)
{
	.nr = 1,
	.size = sizeof(struct vmmexp_sync),
	.size_min = VMMEXP_SYNC_SIZE_MIN,
	.reason_offset = offsetof(struct vmmexp_sync, reason),
	.out.sync = {
		.reason = ~0u,
		.error_offset = ~0ull,
	},
};

FIXTURE_VARIANT_ADD(call, info)
{
	.nr = 2,
	.size = sizeof(struct vmmexp_info),
	.size_min = VMMEXP_INFO_SIZE_MIN,
	.reason_offset = offsetof(struct vmmexp_info, reason),
	.out.info = {
		.reason = ~0u,
		.abi_version = ~0u,
		.features = ~0ull,
		.page_size = ~0u,
		.cache_align = ~0u,
		.max_ranges = ~0u,
		.total_regions = ~0u,
		.max_size = ~0ull,
		.charged = ~0ull,
		.charge_left = ~0ull,
		.error_offset = ~0ull,
	},
};

FIXTURE_VARIANT_ADD(call, query)
{
	.nr = 3,
	.size = sizeof(struct vmmexp_query),
	.size_min = VMMEXP_QUERY_SIZE_MIN,
	.reason_offset = offsetof(struct vmmexp_query, reason),
	.out.query = {
		.reason = ~0u,
		.state = ~0u,
		.size = ~0ull,
		.data_offset = ~0ull,
		.data_size = ~0ull,
		.nr_segs = ~0u,
		.kinds = ~0u,
		.alignment = ~0ull,
		.export_flags = ~0u,
		.attachments = ~0u,
		.device_mappings = ~0u,
		.cpu_mappings = ~0u,
		.kernel_mappings = ~0u,
		.pad = ~0u,
		.error_offset = ~0ull,
	},
};

/* Once revoked a buffer can be revoked again. */
FIXTURE_VARIANT_ADD(call, revoke)
{
	.nr = 4,
	.size = sizeof(struct vmmexp_revoke),
	.size_min = VMMEXP_REVOKE_SIZE_MIN,
	.reason_offset = offsetof(struct vmmexp_revoke, reason),
	.out.revoke = {
		.reason = ~0u,
		.error_offset = ~0ull,
	},
};

FIXTURE_SETUP(call)
{
	struct vmmexp_export ex;

	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->mem = mmap(NULL, NR_PAGES * vmm_page_size(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->range = vmm_range(self->mem, NR_PAGES * vmm_page_size());
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, &self->range, 1, 0, &ex), &ex);
	self->fd = ex.fd;
	self->fds = vmm_count_fds();
}

/* In the parent: whatever the test held is gone with its process. */
FIXTURE_TEARDOWN_PARENT(call)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
}

/* A valid request of the variant's call, and room for tails behind it. */
union request {
	char bytes[SIZE_MAX_IOC + 1];
	struct vmmexp_export export;
	struct vmmexp_sync sync;
	struct vmmexp_query query;
	struct vmmexp_revoke revoke;
};

static void prepare(struct _test_data_call *self, const struct _fixture_variant_call *variant,
		    union request *rq)
{
	memset(rq, 0, sizeof(*rq));
	switch (variant->nr) {
	case 0:
		rq->export.ranges = (uintptr_t)&self->range;
		rq->export.nr_ranges = 1;
		rq->export.range_size = sizeof(self->range);
		rq->export.fd_flags = O_CLOEXEC;
		break;
	case 1:
		rq->sync.fd = self->fd;
		rq->sync.flags = VMMEXP_SYNC_RW;
		break;
	case 3:
		rq->query.fd = self->fd;
		break;
	case 4:
		rq->revoke.fd = self->fd;
		break;
	}
}

static __u32 reason_of(const struct _fixture_variant_call *variant, const union request *rq)
{
	__u32 reason;

	memcpy(&reason, rq->bytes + variant->reason_offset, sizeof(reason));
	return reason;
}

static int do_call(struct _test_data_call *self, const struct _fixture_variant_call *variant,
		   size_t size, union request *rq)
{
	return vmm_ioctl(self->dev, CALL(variant->nr, size), rq);
}

/* A successful EXPORT made a descriptor: give it back, so that none is left. */
static void let_go(const struct _fixture_variant_call *variant, int ret, const union request *rq)
{
	if (!variant->nr && !ret)
		close(rq->export.fd);
}

static bool is_output(const struct _fixture_variant_call *variant, size_t byte)
{
	return byte < sizeof(variant->out) && ((const char *)&variant->out)[byte];
}

TEST_F(call, every_size_from_the_minimum_is_zero_extended)
{
	union request rq;
	size_t size, i;
	int ret;

	for (size = variant->size_min; size <= variant->size; size++) {
		prepare(self, variant, &rq);
		/* Were a byte of this read, it would be a refusal or worse. */
		memset(rq.bytes + size, 0xff, sizeof(rq) - size);
		ret = do_call(self, variant, size, &rq);
		ASSERT_EQ(0, ret) {
			TH_LOG("size %zu, reason %u", size, reason_of(variant, &rq));
		}
		ASSERT_EQ((__u32)VMMEXP_REASON_NONE, reason_of(variant, &rq));
		for (i = size; i < variant->size + 64; i++) {
			ASSERT_EQ('\xff', rq.bytes[i]) {
				TH_LOG("size %zu: byte %zu was written", size, i);
			}
		}
		let_go(variant, ret, &rq);
	}
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(call, shorter_than_the_minimum_is_einval_and_untouched)
{
	union request rq, before;
	size_t size;

	for (size = 0; size < variant->size_min; size++) {
		prepare(self, variant, &rq);
		memset(rq.bytes + variant->reason_offset, 0x5a, sizeof(__u32));
		before = rq;
		ASSERT_EQ(-EINVAL, do_call(self, variant, size, &rq)) {
			TH_LOG("size %zu", size);
		}
		ASSERT_EQ(0, memcmp(&before, &rq, sizeof(rq)));
	}
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(call, longer_with_zero_tail_is_taken)
{
	size_t sizes[] = { variant->size + 1, variant->size + 8, 4096, SIZE_MAX_IOC };
	union request rq;
	size_t i, byte;
	int ret;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		prepare(self, variant, &rq);
		ret = do_call(self, variant, sizes[i], &rq);
		ASSERT_EQ(0, ret) {
			TH_LOG("size %zu, reason %u", sizes[i], reason_of(variant, &rq));
		}
		ASSERT_EQ((__u32)VMMEXP_REASON_NONE, reason_of(variant, &rq));
		for (byte = variant->size; byte < sizeof(rq); byte++) {
			ASSERT_EQ(0, rq.bytes[byte]) {
				TH_LOG("byte %zu was written", byte);
			}
		}
		let_go(variant, ret, &rq);
	}
}

TEST_F(call, longer_with_nonzero_tail_is_unknown_tail)
{
	size_t sizes[] = { variant->size + 1, variant->size + 8, 4096, SIZE_MAX_IOC };
	union request rq;
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t where[] = { variant->size, (variant->size + sizes[i]) / 2, sizes[i] - 1 };

		for (j = 0; j < ARRAY_SIZE(where); j++) {
			prepare(self, variant, &rq);
			rq.bytes[where[j]] = 1;
			ASSERT_EQ(-EINVAL, do_call(self, variant, sizes[i], &rq)) {
				TH_LOG("size %zu, byte %zu", sizes[i], where[j]);
			}
			ASSERT_EQ((__u32)VMMEXP_REASON_UNKNOWN_TAIL, reason_of(variant, &rq));
		}
	}
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(call, wrong_direction_is_enotty)
{
	unsigned int dirs[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE };
	union request rq, before;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		prepare(self, variant, &rq);
		before = rq;
		EXPECT_EQ(-ENOTTY, vmm_ioctl(self->dev,
					     _IOC(dirs[i], VMMEXP_IOC_MAGIC, variant->nr,
						  variant->size), &rq));
		EXPECT_EQ(0, memcmp(&before, &rq, sizeof(rq)));
	}
}

TEST_F(call, wrong_type_is_enotty)
{
	union request rq;

	prepare(self, variant, &rq);
	EXPECT_EQ(-ENOTTY, vmm_ioctl(self->dev,
				     _IOC(_IOC_READ | _IOC_WRITE, VMMEXP_IOC_MAGIC ^ 1,
					  variant->nr, variant->size), &rq));
}

TEST_F(call, unmapped_struct_is_efault)
{
	size_t page = vmm_page_size();
	char *mem = page_before_hole(_metadata);
	unsigned long at[] = {
		0,
		8,
		(unsigned long)(mem + page),
		KERNEL_ADDRESS,
		(unsigned long)-8,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		EXPECT_EQ(-EFAULT, vmm_ioctl(self->dev, CALL(variant->nr, variant->size),
					     (void *)at[i])) {
			TH_LOG("struct at %#lx", at[i]);
		}
	}
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(call, struct_that_ends_in_a_hole_is_efault)
{
	size_t page = vmm_page_size();
	char *mem = page_before_hole(_metadata);
	union request rq;
	char *at;

	prepare(self, variant, &rq);
	at = mem + page - variant->size;
	memcpy(at, rq.bytes, variant->size);
	/* All of it fits: the address as such is fine. */
	EXPECT_EQ(0, vmm_ioctl(self->dev, CALL(variant->nr, variant->size), at));
	if (!variant->nr)
		close(((struct vmmexp_export *)at)->fd);

	at = mem + page - variant->size + 1;
	memcpy(at, rq.bytes, variant->size - 1);
	EXPECT_EQ(-EFAULT, vmm_ioctl(self->dev, CALL(variant->nr, variant->size), at));
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(call, answer_into_read_only_memory_is_efault_and_leaves_nothing)
{
	size_t page = vmm_page_size();
	char *mem = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long long pins = vmm_pins();
	union request rq;

	ASSERT_NE(MAP_FAILED, mem);
	prepare(self, variant, &rq);
	memcpy(mem, rq.bytes, variant->size);
	ASSERT_EQ(0, mprotect(mem, page, PROT_READ));
	EXPECT_EQ(-EFAULT, vmm_ioctl(self->dev, CALL(variant->nr, variant->size), mem));
	EXPECT_EQ(0, memcmp(mem, rq.bytes, variant->size));
	EXPECT_EQ(self->fds, vmm_count_fds());
	/* REVOKE has nothing to take back: what it did is done. */
	EXPECT_TRUE(vmm_pins_settle(variant->nr == 4 ? pins - NR_PAGES : pins));
}

/* The same, but what cannot be told is a failure. */
TEST_F(call, refusal_into_read_only_memory_is_efault)
{
	size_t page = vmm_page_size();
	char *mem = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	union request rq;

	ASSERT_NE(MAP_FAILED, mem);
	prepare(self, variant, &rq);
	memcpy(mem, rq.bytes, variant->size);
	mem[variant->size] = 1;
	ASSERT_EQ(0, mprotect(mem, page, PROT_READ));
	EXPECT_EQ(-EFAULT, vmm_ioctl(self->dev, CALL(variant->nr, variant->size + 8), mem));
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(call, inputs_are_never_written_and_outputs_may_hold_anything)
{
	union request rq, before;
	unsigned int byte;
	int ret;

	prepare(self, variant, &rq);
	for (byte = 0; byte < variant->size; byte++)
		if (is_output(variant, byte))
			rq.bytes[byte] = 0xa5;
	before = rq;
	ret = do_call(self, variant, variant->size, &rq);
	EXPECT_EQ(0, ret);
	EXPECT_EQ((__u32)VMMEXP_REASON_NONE, reason_of(variant, &rq));
	for (byte = 0; byte < sizeof(rq); byte++)
		if (!is_output(variant, byte)) {
			ASSERT_EQ(before.bytes[byte], rq.bytes[byte]) {
				TH_LOG("byte %u was written", byte);
			}
		}
	let_go(variant, ret, &rq);
}

TEST_F(call, inputs_are_never_written_by_a_refusal)
{
	union request rq, before;
	unsigned int byte;

	prepare(self, variant, &rq);
	rq.bytes[variant->size] = 1;
	before = rq;
	EXPECT_EQ(-EINVAL, do_call(self, variant, variant->size + 8, &rq));
	for (byte = 0; byte < sizeof(rq); byte++)
		if (!is_output(variant, byte)) {
			ASSERT_EQ(before.bytes[byte], rq.bytes[byte]) {
				TH_LOG("byte %u was written", byte);
			}
		}
}

/*
 * EXPORT.
 */
FIXTURE(export)
{
	int dev;
	long long pins;
	unsigned int fds;
	char *mem;
	size_t page;
	size_t len;
	struct vmmexp_info info;
	struct vmmexp_range range[4];
	struct vmmexp_export ex;
};

/* A valid request, for a test to spoil in one place. */
static void good_request(struct _test_data_export *self)
{
	memset(self->range, 0, sizeof(self->range));
	self->range[0] = vmm_range(self->mem, self->len);
	memset(&self->ex, 0, sizeof(self->ex));
	self->ex.ranges = (uintptr_t)self->range;
	self->ex.nr_ranges = 1;
	self->ex.range_size = sizeof(self->range[0]);
	self->ex.fd_flags = O_CLOEXEC;
}

FIXTURE_SETUP(export)
{
	self->pins = vmm_pins();
	ASSERT_LE(0, self->pins);
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	ASSERT_VMM_OK(vmm_info(self->dev, &self->info), &self->info);
	self->page = vmm_page_size();
	self->len = NR_PAGES * self->page;
	self->mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	vmm_fill(self->mem, self->len, 0, 1);
	good_request(self);
	self->fds = vmm_count_fds();
}

FIXTURE_TEARDOWN_PARENT(export)
{
	EXPECT_TRUE(vmm_pins_settle(self->pins)) {
		TH_LOG("%lld pages stay pinned", vmm_pins() - self->pins);
	}
}

/* Issue self->ex, expect this refusal and nothing left of it. */
#define EXPECT_REFUSED(err, why, place) do { \
	self->ex.fd = 0; \
	self->ex.size = 77; \
	EXPECT_VMM_ERROR(vmm_export_call(self->dev, &self->ex), &self->ex, err, why, place); \
	EXPECT_EQ(-1, self->ex.fd); \
	EXPECT_EQ(0, self->ex.size); \
	EXPECT_EQ(self->fds, vmm_count_fds()); \
} while (0)

TEST_F(export, good_request_succeeds)
{
	char name[64];

	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_LE(0, self->ex.fd);
	EXPECT_EQ(0, self->ex.error_offset);
	EXPECT_EQ(self->len, self->ex.size);
	EXPECT_EQ(0, self->ex.data_offset);
	EXPECT_EQ(self->len, self->ex.data_size);
	EXPECT_EQ((__u32)VMMEXP_KIND_ANON, self->ex.kinds);
	EXPECT_LE(1, self->ex.nr_segs);
	EXPECT_GE(NR_PAGES, self->ex.nr_segs);
	EXPECT_LE(self->page, self->ex.alignment);
	EXPECT_EQ(0, self->ex.alignment & (self->ex.alignment - 1));
	EXPECT_EQ((long long)self->len, vmm_dmabuf_size(self->ex.fd));
	EXPECT_EQ(self->fds + 1, vmm_count_fds());
	ASSERT_TRUE(vmm_fdinfo(self->ex.fd, "exp_name", name, sizeof(name)));
	EXPECT_STREQ("vmmexp", name);
}

TEST_F(export, pins_every_page_until_close)
{
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_TRUE(vmm_pins_settle(self->pins + NR_PAGES));
	close(self->ex.fd);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(export, every_unknown_flag_is_refused)
{
	unsigned int bit;

	for (bit = 4; bit < 32; bit++) {
		good_request(self);
		self->ex.flags = 1u << bit;
		EXPECT_REFUSED(EINVAL, VMMEXP_REASON_FLAGS, 0);
	}
}

TEST_F(export, nonzero_pad_is_refused)
{
	self->ex.pad = 1;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_PADDING, 0);
}

TEST_F(export, event_fd_without_its_flag_is_refused)
{
	self->ex.event_fd = self->dev;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_PADDING, 0);
}

TEST_F(export, event_fd_that_is_none_is_refused)
{
	self->ex.flags = VMMEXP_EXPORT_EVENTFD;
	self->ex.event_fd = self->dev;
	EXPECT_REFUSED(EBADF, VMMEXP_REASON_BAD_EVENT_FD, 0);
	good_request(self);
	self->ex.flags = VMMEXP_EXPORT_EVENTFD;
	self->ex.event_fd = -1;
	EXPECT_REFUSED(EBADF, VMMEXP_REASON_BAD_EVENT_FD, 0);
}

TEST_F(export, region_without_carve_outs_is_refused)
{
	ASSERT_EQ(0, self->info.total_regions);
	self->range[0].flags = VMMEXP_RANGE_REGION;
	self->range[0].region_fd = self->dev;
	EXPECT_REFUSED(EOPNOTSUPP, VMMEXP_REASON_NO_REGIONS, 0);
}

TEST_F(export, fd_flag_other_than_cloexec_is_refused)
{
	__u32 flags[] = { O_RDWR, O_WRONLY, O_NONBLOCK, O_APPEND, O_CLOEXEC | O_RDWR, ~0u };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		good_request(self);
		self->ex.fd_flags = flags[i];
		EXPECT_REFUSED(EINVAL, VMMEXP_REASON_FD_FLAGS, 0);
	}
}

TEST_F(export, cloexec_is_set_if_and_only_if_asked)
{
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->ex.fd, F_GETFD));
	good_request(self);
	self->ex.fd_flags = 0;
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_EQ(0, fcntl(self->ex.fd, F_GETFD));
}

TEST_F(export, descriptor_is_o_rdwr)
{
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_EQ(O_RDWR, fcntl(self->ex.fd, F_GETFL) & O_ACCMODE);
}

TEST_F(export, read_only_descriptor_is_o_rdonly)
{
	self->ex.flags = VMMEXP_EXPORT_READ_ONLY;
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_EQ(O_RDONLY, fcntl(self->ex.fd, F_GETFL) & O_ACCMODE);
}

TEST_F(export, name_is_the_buffers_name)
{
	char name[64];

	snprintf(self->ex.name, sizeof(self->ex.name), "camera 0");
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	ASSERT_TRUE(vmm_fdinfo(self->ex.fd, "name", name, sizeof(name)));
	EXPECT_STREQ("camera 0", name);
}

TEST_F(export, longest_name_is_kept_whole)
{
	char name[64];

	memset(self->ex.name, 'x', VMMEXP_NAME_LEN - 1);
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	ASSERT_TRUE(vmm_fdinfo(self->ex.fd, "name", name, sizeof(name)));
	EXPECT_EQ(VMMEXP_NAME_LEN - 1, strlen(name));
	EXPECT_STREQ(self->ex.name, name);
}

TEST_F(export, empty_name_is_none)
{
	char name[64];

	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_FALSE(vmm_fdinfo(self->ex.fd, "name", name, sizeof(name)));
}

/* DMA_BUF_SET_NAME frees the old name: it must be one that can be freed. */
TEST_F(export, name_can_be_changed_later)
{
	char name[64];

	snprintf(self->ex.name, sizeof(self->ex.name), "first");
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	ASSERT_EQ(0, vmm_ioctl(self->ex.fd, _IOW('b', 1, __u64), "second"));
	ASSERT_TRUE(vmm_fdinfo(self->ex.fd, "name", name, sizeof(name)));
	EXPECT_STREQ("second", name);
}

TEST_F(export, name_without_nul_is_refused)
{
	memset(self->ex.name, 'x', VMMEXP_NAME_LEN);
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_NAME, 0);
}

TEST_F(export, name_with_bytes_after_its_nul_is_refused)
{
	snprintf(self->ex.name, sizeof(self->ex.name), "camera");
	self->ex.name[VMMEXP_NAME_LEN - 1] = 'x';
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_PADDING, 0);
	good_request(self);
	self->ex.name[1] = 'x';
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_PADDING, 0);
}

TEST_F(export, phys_bits_above_64_is_refused)
{
	__u32 bits[] = { 65, 128, ~0u };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		good_request(self);
		self->ex.phys_bits = bits[i];
		EXPECT_REFUSED(EINVAL, VMMEXP_REASON_PHYS_BITS_VALUE, 0);
	}
}

TEST_F(export, phys_bits_of_64_is_no_limit)
{
	self->ex.phys_bits = 64;
	EXPECT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
}

TEST_F(export, bad_element_size_is_refused)
{
	__u32 sizes[] = { 0, 1, 8, 16, 23, 25, 28, 4096 + 8, 65536 + 8, ~0u, ~7u };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		good_request(self);
		self->ex.range_size = sizes[i];
		EXPECT_REFUSED(EINVAL, VMMEXP_REASON_ELEMENT_SIZE, 0);
	}
}

TEST_F(export, larger_elements_with_zero_tails_are_taken)
{
	__u32 strides[] = { 32, 40, 1024, self->page };
	char *array = calloc(2, self->page);
	size_t i;

	ASSERT_NE(NULL, array);
	for (i = 0; i < ARRAY_SIZE(strides); i++) {
		struct vmmexp_range second = vmm_range(self->mem + 2 * self->page, self->page);
		struct vmmexp_range first = vmm_range(self->mem, self->page);

		good_request(self);
		memset(array, 0, 2 * self->page);
		memcpy(array, &first, sizeof(first));
		memcpy(array + strides[i], &second, sizeof(second));
		self->ex.ranges = (uintptr_t)array;
		self->ex.nr_ranges = 2;
		self->ex.range_size = strides[i];
		ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
		EXPECT_EQ(2 * self->page, self->ex.size);
	}
}

TEST_F(export, larger_elements_with_nonzero_tail_are_refused)
{
	size_t stride = 40, byte, element;
	char array[2 * 40];

	for (element = 0; element < 2; element++) {
		for (byte = sizeof(self->range[0]); byte < stride; byte++) {
			good_request(self);
			self->range[0].len = self->page;
			memset(array, 0, sizeof(array));
			memcpy(array, &self->range[0], sizeof(self->range[0]));
			memcpy(array + stride, &self->range[0], sizeof(self->range[0]));
			array[element * stride + byte] = 1;
			self->ex.ranges = (uintptr_t)array;
			self->ex.nr_ranges = 2;
			self->ex.range_size = stride;
			EXPECT_REFUSED(EINVAL, VMMEXP_REASON_UNKNOWN_TAIL, element * self->page);
		}
	}
}

TEST_F(export, no_ranges_is_refused)
{
	self->ex.nr_ranges = 0;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_NO_RANGES, 0);
	good_request(self);
	self->ex.nr_ranges = 0;
	self->ex.ranges = 0;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_NO_RANGES, 0);
}

TEST_F(export, max_ranges_are_taken_and_one_more_is_refused)
{
	__u32 max = self->info.max_ranges;
	struct vmmexp_range *ranges;
	__u32 i;

	ASSERT_LE(1, max);
	ranges = calloc(max + 1ul, sizeof(*ranges));
	ASSERT_NE(NULL, ranges);
	for (i = 0; i <= max; i++)
		ranges[i] = vmm_range(self->mem, self->page);
	self->ex.ranges = (uintptr_t)ranges;
	self->ex.nr_ranges = max;
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	EXPECT_EQ((__u64)max * self->page, self->ex.size);
	EXPECT_EQ(max, self->ex.nr_segs);
	close(self->ex.fd);

	self->ex.nr_ranges = max + 1;
	EXPECT_REFUSED(E2BIG, VMMEXP_REASON_TOO_MANY_RANGES, 0);
}

TEST_F(export, absurd_number_of_ranges_is_refused)
{
	__u32 numbers[] = { ~0u, ~0u / 24, ~0u / 24 + 1, 1u << 31 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		good_request(self);
		self->ex.nr_ranges = numbers[i];
		EXPECT_REFUSED(E2BIG, VMMEXP_REASON_TOO_MANY_RANGES, 0);
	}
}

TEST_F(export, unmapped_array_is_array_fault)
{
	char *mem = page_before_hole(_metadata);
	__u64 at[] = {
		0,
		(uintptr_t)(mem + self->page),
		KERNEL_ADDRESS,
		~0ull - 7,
		/* A user address on no architecture, also once cut to 32 bits. */
		(1ull << 63) | (uintptr_t)self->range,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		good_request(self);
		self->ex.ranges = at[i];
		EXPECT_REFUSED(EFAULT, VMMEXP_REASON_ARRAY_FAULT, 0);
	}
}

TEST_F(export, array_that_ends_in_a_hole_is_array_fault)
{
	char *mem = page_before_hole(_metadata);
	char *at = mem + self->page - sizeof(struct vmmexp_range);

	memcpy(at, &self->range[0], sizeof(self->range[0]));
	self->ex.ranges = (uintptr_t)at;
	self->ex.nr_ranges = 2;
	/* The second range cannot be read: the place is where it would begin. */
	EXPECT_REFUSED(EFAULT, VMMEXP_REASON_ARRAY_FAULT, self->len);
}

TEST_F(export, array_in_read_only_memory_is_fine)
{
	char *mem = mmap(NULL, self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	memcpy(mem, self->range, sizeof(self->range[0]));
	ASSERT_EQ(0, mprotect(mem, self->page, PROT_READ));
	self->ex.ranges = (uintptr_t)mem;
	EXPECT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
}

TEST_F(export, every_unknown_range_flag_is_refused)
{
	unsigned int bit;

	for (bit = 1; bit < 32; bit++) {
		good_request(self);
		self->range[0].flags = 1u << bit;
		EXPECT_REFUSED(EINVAL, VMMEXP_REASON_FLAGS, 0);
	}
}

TEST_F(export, region_fd_without_its_flag_is_refused)
{
	self->range[0].region_fd = self->dev;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_PADDING, 0);
	good_request(self);
	self->range[0].region_fd = -1;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_PADDING, 0);
}

TEST_F(export, fault_in_a_later_range_is_placed_by_the_bytes_before)
{
	self->range[0] = vmm_range(self->mem, 2 * self->page);
	self->range[1] = vmm_range(self->mem, self->page);
	self->range[2] = vmm_range(self->mem, self->page);
	self->range[2].flags = 2;
	self->ex.nr_ranges = 3;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_FLAGS, 3 * self->page);
}

TEST_F(export, empty_range_is_refused)
{
	self->range[0].len = 0;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_EMPTY_RANGE, 0);

	good_request(self);
	self->range[1] = vmm_range(self->mem, 0);
	self->ex.nr_ranges = 2;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_EMPTY_RANGE, self->len);
}

TEST_F(export, wrapping_range_is_refused)
{
	__u64 lens[] = { ~0ull, 0 - (__u64)(uintptr_t)self->mem + self->page,
			 ~0ull / self->page * self->page };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		good_request(self);
		self->range[0].len = lens[i];
		EXPECT_REFUSED(EINVAL, VMMEXP_REASON_RANGE_OVERFLOW, 0);
	}
	good_request(self);
	self->range[0].start = ~0ull - self->page + 1;
	self->range[0].len = 2 * self->page;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_RANGE_OVERFLOW, 0);
}

TEST_F(export, kernel_addresses_are_not_user)
{
	/* The last page: its end is 2^64 or 2^32, which is no wrap. */
	__u64 at[] = {
		KERNEL_ADDRESS,
		(unsigned long)-1 / self->page * self->page - self->page,
#if __SIZEOF_LONG__ == 8
		0xffff000000000000ull,
		0xffff800000000000ull,
		0xffffffff80000000ull,
#endif
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		good_request(self);
		self->range[0].start = at[i];
		self->range[0].len = self->page;
		EXPECT_EQ(-EFAULT, vmm_export_call(self->dev, &self->ex)) {
			TH_LOG("address %#llx", (unsigned long long)at[i]);
		}
		/* To a 32-bit program a 64-bit kernel leaves all 4 GiB. */
		EXPECT_TRUE(self->ex.reason == VMMEXP_REASON_NOT_USER ||
			    (__SIZEOF_LONG__ == 4 && self->ex.reason == VMMEXP_REASON_HOLE)) {
			TH_LOG("address %#llx: reason %u", (unsigned long long)at[i],
			       self->ex.reason);
		}
		EXPECT_EQ(0, self->ex.error_offset);
	}
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(export, user_range_that_runs_into_the_kernel_is_refused)
{
	self->range[0].len = (1ull << 63) - (uintptr_t)self->mem;
	EXPECT_EQ(-EFAULT, vmm_export_call(self->dev, &self->ex));
	EXPECT_EQ((__u32)VMMEXP_REASON_NOT_USER, self->ex.reason);
	EXPECT_EQ(self->fds, vmm_count_fds());
}

/* Bits that no user address has must not be lost; bit 55 is in no pointer tag. */
TEST_F(export, high_bits_of_an_address_are_not_cut)
{
	unsigned int bit = __SIZEOF_LONG__ == 8 ? 55 : 32;

	self->range[0].start |= 1ull << bit;
	EXPECT_EQ(-EFAULT, vmm_export_call(self->dev, &self->ex));
	EXPECT_TRUE(self->ex.reason == VMMEXP_REASON_NOT_USER ||
		    self->ex.reason == VMMEXP_REASON_HOLE);
	EXPECT_EQ(self->fds, vmm_count_fds());
}

/* A tag in a pointer counts where, and only where, the CPU ignores it. */
TEST_F(export, tagged_pointer_is_what_it_is_to_the_cpu)
{
	bool tags = __SIZEOF_LONG__ == 8 && vmm_config("CONFIG_ARM64");

	self->range[0].start |= 0x2bull << 56;
	if (tags) {
		ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
		EXPECT_EQ(self->len, self->ex.size);
	} else {
		EXPECT_REFUSED(EFAULT, VMMEXP_REASON_NOT_USER, 0);
	}
}

TEST_F(export, length_beyond_4_gib_is_not_cut)
{
	self->range[0].len |= 1ull << 32;
	EXPECT_NE(0, vmm_export_call(self->dev, &self->ex));
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(export, buffer_above_max_size_is_too_big)
{
	__u64 max = self->info.max_size;
	__u64 len, nr;
	char *mem;

	ASSERT_LE(self->page, max);
	/* One range mapped many times makes any size without using memory. */
	len = (max / self->info.max_ranges / self->page + 2) * self->page;
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	nr = max / len + 1;
	if (nr > self->info.max_ranges)
		nr = self->info.max_ranges;
	ASSERT_LT(max, nr * len);
	{
		struct vmmexp_range *ranges = calloc(nr, sizeof(*ranges));
		__u64 i;

		ASSERT_NE(NULL, ranges);
		for (i = 0; i < nr; i++)
			ranges[i] = vmm_range(mem, len);
		self->ex.ranges = (uintptr_t)ranges;
		self->ex.nr_ranges = nr;
		EXPECT_EQ(-EOVERFLOW, vmm_export_call(self->dev, &self->ex));
		EXPECT_EQ((__u32)VMMEXP_REASON_TOO_BIG, self->ex.reason);
		EXPECT_EQ(self->fds, vmm_count_fds());
	}
}

TEST_F(export, total_beyond_any_memory_is_refused)
{
	__u64 half = __SIZEOF_LONG__ == 8 ? 1ull << 46 : 3ull << 29;
	__u32 max = self->info.max_ranges;
	struct vmmexp_range *ranges = calloc(max, sizeof(*ranges));
	__u32 i;

	ASSERT_NE(NULL, ranges);
	for (i = 0; i < max; i++)
		ranges[i] = (struct vmmexp_range){ .start = self->page, .len = half };
	self->ex.ranges = (uintptr_t)ranges;
	self->ex.nr_ranges = max;
	EXPECT_EQ(-EOVERFLOW, vmm_export_call(self->dev, &self->ex));
	EXPECT_EQ((__u32)VMMEXP_REASON_TOO_BIG, self->ex.reason);
	EXPECT_EQ(self->fds, vmm_count_fds());
}

TEST_F(export, unaligned_range_is_refused_without_its_flag)
{
	self->range[0].start += 1;
	self->range[0].len = self->page - 1;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_UNALIGNED, 0);
	good_request(self);
	self->range[0].start += 1;
	self->range[0].len = self->page;
	EXPECT_REFUSED(EINVAL, VMMEXP_REASON_UNALIGNED, 0);
	good_request(self);
	self->range[0].len = self->page + 1;
	EXPECT_EQ(-EINVAL, vmm_export_call(self->dev, &self->ex));
	EXPECT_EQ((__u32)VMMEXP_REASON_UNALIGNED, self->ex.reason);
	EXPECT_EQ(self->fds, vmm_count_fds());
}

/* Everything is wrong at once; what is mended shows what comes next. */
TEST_F(export, checks_come_in_their_order)
{
	struct {
		struct vmmexp_export ex;
		__u64 tail;
	} big;
	struct vmmexp_range *range = self->range;
	char *hole = page_before_hole(_metadata) + self->page;
	int memfd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	char *sealed;

#define EXPECT_NEXT(err, why) do { \
	EXPECT_EQ(-(err), vmm_ioctl(self->dev, CALL(0, sizeof(big)), &big)); \
	EXPECT_EQ((__u32)(why), big.ex.reason); \
} while (0)

	/* Memory that fails all checks made on pages. */
	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, self->page));
	sealed = vmm_map(memfd, 0, self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, sealed);
	ASSERT_EQ(0, fcntl(memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));

	memset(&big, 0, sizeof(big));
	big.tail = 1;
	big.ex.flags = (1u << 31) | VMMEXP_EXPORT_EVENTFD;
	big.ex.pad = 1;
	big.ex.fd_flags = O_WRONLY;
	memset(big.ex.name, 'x', VMMEXP_NAME_LEN);
	big.ex.phys_bits = 65;
	big.ex.event_fd = -1;
	big.ex.range_size = 23;
	big.ex.nr_ranges = 0;
	big.ex.ranges = (uintptr_t)hole;
	big.ex.max_segs = 1;

	EXPECT_NEXT(EINVAL, VMMEXP_REASON_UNKNOWN_TAIL);
	big.tail = 0;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_FLAGS);
	big.ex.flags = VMMEXP_EXPORT_EVENTFD;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_PADDING);
	big.ex.pad = 0;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_FD_FLAGS);
	big.ex.fd_flags = 0;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_NAME);
	big.ex.name[0] = 0;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_PADDING);
	memset(big.ex.name, 0, VMMEXP_NAME_LEN);
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_PHYS_BITS_VALUE);
	big.ex.phys_bits = 1;
	EXPECT_NEXT(EBADF, VMMEXP_REASON_BAD_EVENT_FD);
	big.ex.flags = 0;
	big.ex.event_fd = 0;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_ELEMENT_SIZE);
	big.ex.range_size = sizeof(*range);
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_NO_RANGES);
	big.ex.nr_ranges = ~0u;
	EXPECT_NEXT(E2BIG, VMMEXP_REASON_TOO_MANY_RANGES);
	big.ex.nr_ranges = 2;
	EXPECT_NEXT(EFAULT, VMMEXP_REASON_ARRAY_FAULT);
	big.ex.ranges = (uintptr_t)range;

	/* The first range is judged whole before the second. */
	range[0] = (struct vmmexp_range){ .start = 1, .flags = 2, .region_fd = 1 };
	range[1] = (struct vmmexp_range){ .start = 1, .flags = 4, .region_fd = 1 };
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_FLAGS);
	range[0].flags = 0;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_PADDING);
	range[0].region_fd = 0;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_EMPTY_RANGE);
	range[0].start = KERNEL_ADDRESS + 1;
	range[0].len = ~0ull;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_RANGE_OVERFLOW);
	range[0].len = self->page;
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_UNALIGNED);
	range[0] = vmm_range(self->mem, self->page);
	EXPECT_NEXT(EINVAL, VMMEXP_REASON_FLAGS);
	EXPECT_EQ(self->page, big.ex.error_offset);

	/* Then the memory, then the limits, then the seals. */
	range[0] = vmm_range(sealed, self->page);
	range[1] = vmm_range(hole, self->page);
	EXPECT_NEXT(EFAULT, VMMEXP_REASON_NOT_READABLE);
	EXPECT_EQ(self->page, big.ex.error_offset);
	range[1] = vmm_range(sealed, self->page);
	EXPECT_NEXT(EMLINK, VMMEXP_REASON_MAX_SEGS);
	big.ex.max_segs = 2;
	EXPECT_NEXT(ERANGE, VMMEXP_REASON_PHYS_BITS);
	big.ex.phys_bits = 0;
	EXPECT_NEXT(EPERM, VMMEXP_REASON_SEALED);
	EXPECT_EQ(self->fds + 1, vmm_count_fds());
#undef EXPECT_NEXT
}

TEST_F(export, no_descriptor_left_is_emfile_and_leaves_nothing)
{
	struct rlimit limit;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = self->dev + 1;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	/* Every number below the limit is taken. */
	while (dup(self->dev) >= 0)
		;
	EXPECT_VMM_ERROR(vmm_export_call(self->dev, &self->ex), &self->ex,
			 EMFILE, VMMEXP_REASON_NO_FD, 0);
	limit.rlim_cur = limit.rlim_max;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(export, no_descriptor_left_in_the_system_is_enfile_and_leaves_nothing)
{
	char max[32];
	int ret;

	/* Root may exceed file-max: become somebody else, the device is open. */
	ASSERT_EQ(0, vmm_read_file("/proc/sys/fs/file-max", max, sizeof(max)));
	ASSERT_EQ(0, vmm_write_file("/proc/sys/fs/file-max", "1"));
	ret = setresuid(65534, 65534, 0);
	if (!ret)
		ret = vmm_export_call(self->dev, &self->ex);
	EXPECT_EQ(0, setresuid(0, 0, 0));
	EXPECT_EQ(0, vmm_write_file("/proc/sys/fs/file-max", max));
	EXPECT_EQ(-ENFILE, ret);
	EXPECT_EQ((__u32)VMMEXP_REASON_NO_FD, self->ex.reason);
	EXPECT_EQ(self->fds, vmm_count_fds());
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(export, failed_call_can_be_issued_again_as_it_is)
{
	struct vmmexp_export first;

	ASSERT_EQ(0, mprotect(self->mem, self->page, PROT_NONE));
	EXPECT_REFUSED(EFAULT, VMMEXP_REASON_NOT_READABLE, 0);
	first = self->ex;
	ASSERT_EQ(0, mprotect(self->mem, self->page, PROT_READ | PROT_WRITE));
	EXPECT_VMM_OK(vmm_export_call(self->dev, &first), &first);
	EXPECT_EQ(self->len, first.size);
}

/*
 * The device.
 */
TEST_F(export, device_is_roots_alone)
{
	struct stat st;
	pid_t pid;
	int status;

	ASSERT_EQ(0, stat(VMM_DEVICE, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0600, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ(0, st.st_gid);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
		      setresuid(65534, 65534, 65534) || vmm_open() != -EACCES);
	ASSERT_EQ(0, vmm_wait(pid, &status, 5));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
}

TEST_F(export, device_has_no_read_write_or_mmap)
{
	char byte = 0;

	EXPECT_EQ(-1, read(self->dev, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->dev, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(NULL, vmm_map(self->dev, 0, self->page, PROT_READ));
	EXPECT_EQ(ENODEV, errno);
}

TEST_F(export, unknown_number_is_enotty)
{
	unsigned int nr;

	for (nr = 5; nr < 256; nr++) {
		EXPECT_EQ(-ENOTTY, vmm_ioctl(self->dev, CALL(nr, 64), &self->ex)) {
			TH_LOG("number %u", nr);
		}
	}
	EXPECT_EQ(-ENOTTY, vmm_ioctl(self->dev, 0, &self->ex));
	EXPECT_EQ(-ENOTTY, vmm_ioctl(self->dev, ~0ul, &self->ex));
}

TEST_F(export, read_only_device_gives_read_only_exports_only)
{
	int dev = open(VMM_DEVICE, O_RDONLY | O_CLOEXEC);

	ASSERT_LE(0, dev);
	EXPECT_VMM_ERROR(vmm_export_call(dev, &self->ex), &self->ex,
			 EACCES, VMMEXP_REASON_READ_ONLY, 0);
	good_request(self);
	self->ex.flags = VMMEXP_EXPORT_READ_ONLY;
	EXPECT_VMM_OK(vmm_export_call(dev, &self->ex), &self->ex);
}

/*
 * INFO.
 */
TEST_F(export, info_tells_this_machine)
{
	struct vmmexp_info *info = &self->info;
	__u64 features = VMMEXP_FEATURE_REVOKE | VMMEXP_FEATURE_STALE | VMMEXP_FEATURE_EVENTFD |
			 VMMEXP_FEATURE_MEMLOCK;

	EXPECT_EQ(VMMEXP_ABI_VERSION, info->abi_version);
	EXPECT_EQ(self->page, info->page_size);
	EXPECT_LE(1, info->cache_align);
	EXPECT_GE(self->page, info->cache_align);
	EXPECT_EQ(0, info->cache_align & (info->cache_align - 1));
	EXPECT_LE(16, info->max_ranges);
	EXPECT_LE(16ull << 20, info->max_size);
	EXPECT_GE((__u64)sysconf(_SC_PHYS_PAGES) * self->page, info->max_size);
	EXPECT_EQ(0, info->max_size % self->page);
	EXPECT_EQ(0, info->total_regions);
	/* Root is not charged. */
	EXPECT_EQ(0, info->charged);
	EXPECT_EQ(~0ull, info->charge_left);
	EXPECT_EQ(0, info->error_offset);

	if (vmm_config("CONFIG_TRANSPARENT_HUGEPAGE"))
		features |= VMMEXP_FEATURE_THP;
	if (vmm_config("CONFIG_HUGETLB_PAGE"))
		features |= VMMEXP_FEATURE_HUGETLB;
	if (vmm_config("CONFIG_OF"))
		features |= VMMEXP_FEATURE_OF | VMMEXP_FEATURE_REGIONS;
	/* The only architecture here on which DMA is coherent by definition. */
	if (!vmm_config("CONFIG_X86"))
		features |= VMMEXP_FEATURE_CACHE_OPS;
	EXPECT_EQ(features, info->features) {
		TH_LOG("features %#llx, expected %#llx", (unsigned long long)info->features,
		       (unsigned long long)features);
	}
}

TEST_F(export, info_with_room_for_carve_outs_writes_none)
{
	struct vmmexp_region_info regions[2], before[2];
	struct vmmexp_info info = {
		.regions = (uintptr_t)regions,
		.nr_regions = 2,
		.region_size = sizeof(regions[0]),
	};

	memset(regions, 0x5a, sizeof(regions));
	memcpy(before, regions, sizeof(regions));
	EXPECT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info);
	EXPECT_EQ(0, info.total_regions);
	EXPECT_EQ(0, memcmp(before, regions, sizeof(regions)));
}

TEST_F(export, info_with_bad_element_size_is_refused)
{
	struct vmmexp_region_info regions[2];
	__u32 sizes[] = { 0, 8, 47, 49, 52, 65536 + 8 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct vmmexp_info info = {
			.regions = (uintptr_t)regions,
			.nr_regions = 2,
			.region_size = sizes[i],
		};

		EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info,
				 EINVAL, VMMEXP_REASON_ELEMENT_SIZE, 0);
	}
}

TEST_F(export, info_with_absurd_room_is_refused)
{
	struct vmmexp_region_info regions[1];
	__u32 numbers[] = { self->info.max_ranges + 1, ~0u };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct vmmexp_info info = {
			.regions = (uintptr_t)regions,
			.nr_regions = numbers[i],
			.region_size = sizeof(regions[0]),
		};

		EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info,
				 E2BIG, VMMEXP_REASON_TOO_MANY_RANGES, 0);
	}
}

TEST_F(export, info_without_elements_wants_no_array)
{
	struct vmmexp_region_info regions[1];
	struct vmmexp_info info = { .regions = (uintptr_t)regions };

	EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info,
			 EINVAL, VMMEXP_REASON_NO_RANGES, 0);
	info = (struct vmmexp_info){ .region_size = sizeof(regions[0]) };
	EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_INFO, &info), &info,
			 EINVAL, VMMEXP_REASON_NO_RANGES, 0);
}

/*
 * QUERY.
 */
TEST_F(export, query_tells_what_export_answered)
{
	struct vmmexp_query query;

	self->ex.flags = VMMEXP_EXPORT_UNALIGNED | VMMEXP_EXPORT_READ_ONLY;
	self->range[0] = vmm_range(self->mem + 100, 2 * self->page);
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(3 * self->page, query.size);
	EXPECT_EQ(self->ex.size, query.size);
	EXPECT_EQ(100, query.data_offset);
	EXPECT_EQ(self->ex.data_offset, query.data_offset);
	EXPECT_EQ(2 * self->page, query.data_size);
	EXPECT_EQ(self->ex.data_size, query.data_size);
	EXPECT_EQ(self->ex.nr_segs, query.nr_segs);
	EXPECT_EQ(self->ex.kinds, query.kinds);
	EXPECT_EQ(self->ex.alignment, query.alignment);
	EXPECT_EQ(self->ex.flags, query.export_flags);
	EXPECT_EQ(VMMEXP_STATE_LIVE, query.state);
	EXPECT_EQ(0, query.attachments);
	EXPECT_EQ(0, query.device_mappings);
	EXPECT_EQ(0, query.cpu_mappings);
	EXPECT_EQ(0, query.kernel_mappings);
	EXPECT_EQ(0, query.pad);
	EXPECT_EQ(0, query.error_offset);
}

TEST_F(export, query_counts_cpu_mappings)
{
	struct vmmexp_query query;
	char *first, *second;
	int status;
	pid_t pid;

	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	first = vmm_map(self->ex.fd, 0, self->len, PROT_READ);
	ASSERT_NE(NULL, first);
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(1, query.cpu_mappings);
	second = vmm_map(self->ex.fd, self->page, self->page, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, second);
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(2, query.cpu_mappings);

	/* fork() copies both; a split makes two of one. */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(vmm_query(self->dev, self->ex.fd, &query) || query.cpu_mappings != 4);
	ASSERT_EQ(0, vmm_wait(pid, &status, 5));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	ASSERT_EQ(0, munmap(first + self->page, self->page));
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(3, query.cpu_mappings);

	ASSERT_EQ(0, munmap(first, self->len));
	ASSERT_EQ(0, munmap(second, self->page));
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_EQ(0, query.cpu_mappings);
}

TEST_F(export, query_works_in_another_process_and_through_another_device_file)
{
	struct vmmexp_query query;
	int status, dev;
	pid_t pid;

	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		dev = vmm_open();
		_exit(dev < 0 || vmm_query(dev, self->ex.fd, &query) ||
		      query.size != self->len || query.nr_segs != self->ex.nr_segs);
	}
	ASSERT_EQ(0, vmm_wait(pid, &status, 5));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
}

TEST_F(export, query_flags_are_refused)
{
	unsigned int bit;

	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	for (bit = 0; bit < 32; bit++) {
		struct vmmexp_query query = { .fd = self->ex.fd, .flags = 1u << bit };

		EXPECT_VMM_ERROR(vmm_ioctl(self->dev, VMMEXP_IOC_QUERY, &query), &query,
				 EINVAL, VMMEXP_REASON_FLAGS, 0);
	}
}

TEST_F(export, query_of_a_closed_fd_is_bad_fd)
{
	int fds[] = { -1, -2, 1 << 20, INT_MAX, INT_MIN, self->dev + 100 };
	struct vmmexp_query query;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_VMM_ERROR(vmm_query(self->dev, fds[i], &query), &query,
				 EBADF, VMMEXP_REASON_BAD_FD, 0);
	}
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	close(self->ex.fd);
	EXPECT_VMM_ERROR(vmm_query(self->dev, self->ex.fd, &query), &query,
			 EBADF, VMMEXP_REASON_BAD_FD, 0);
}

TEST_F(export, query_of_a_fd_that_is_no_dma_buf_is_not_ours)
{
	int memfd = memfd_create("not ours", MFD_CLOEXEC);
	struct vmmexp_query query;
	int pipes[2];

	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, pipe(pipes));
	EXPECT_VMM_ERROR(vmm_query(self->dev, memfd, &query), &query,
			 EBADF, VMMEXP_REASON_NOT_OURS, 0);
	EXPECT_VMM_ERROR(vmm_query(self->dev, pipes[0], &query), &query,
			 EBADF, VMMEXP_REASON_NOT_OURS, 0);
	EXPECT_VMM_ERROR(vmm_query(self->dev, self->dev, &query), &query,
			 EBADF, VMMEXP_REASON_NOT_OURS, 0);
}

TEST_F(export, query_of_another_drivers_dma_buf_is_not_ours)
{
	struct vmmexp_query query;
	int fd = vmm_foreign_dmabuf(self->len);

	ASSERT_LE(0, fd);
	EXPECT_VMM_ERROR(vmm_query(self->dev, fd, &query), &query,
			 EBADF, VMMEXP_REASON_NOT_OURS, 0);
}

/* O_PATH descriptors are open, and of no use. */
TEST_F(export, query_of_an_o_path_fd_is_bad_fd)
{
	struct vmmexp_query query;
	int fd = open("/proc/self", O_PATH | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_VMM_ERROR(vmm_query(self->dev, fd, &query), &query,
			 EBADF, VMMEXP_REASON_BAD_FD, 0);
}

/*
 * REVOKE: what it does is vmmexp_revoke_test's.
 */
TEST_F(export, revoke_answers_and_is_seen_by_query)
{
	struct vmmexp_revoke revoke;
	struct vmmexp_query query;

	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	ASSERT_VMM_OK(vmm_revoke(self->dev, self->ex.fd, &revoke), &revoke);
	EXPECT_EQ(0, revoke.error_offset);
	ASSERT_VMM_OK(vmm_query(self->dev, self->ex.fd, &query), &query);
	EXPECT_TRUE(query.state & VMMEXP_STATE_REVOKED);
	EXPECT_EQ(0, query.state & (VMMEXP_STATE_LIVE | VMMEXP_STATE_SUSPECT |
				    VMMEXP_STATE_STALE));
}

TEST_F(export, revoke_of_a_wrong_fd_fails)
{
	int fds[] = { -1, self->dev, INT_MAX };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		struct vmmexp_revoke revoke = { .fd = fds[i] };

		EXPECT_NE(0, vmm_ioctl(self->dev, VMMEXP_IOC_REVOKE, &revoke));
		EXPECT_NE((__u32)VMMEXP_REASON_NONE, revoke.reason);
	}
}

TEST_HARNESS_MAIN
