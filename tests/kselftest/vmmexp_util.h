/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of vmmexp share. No harness in here: every function reports
 * through its result, so that programs without kselftest_harness.h can use it.
 *
 * Functions that make a system call return -errno on failure unless said
 * otherwise. Everything that waits is bounded.
 *
 *   ask the module	vmm_open(), vmm_export(), vmm_export_ranges(),
 *			vmm_export_call(), vmm_sync(), vmm_query(), vmm_info(),
 *			vmm_revoke(), vmm_state(), vmm_state_settle()
 *   judge an answer	EXPECT_VMM_OK(), EXPECT_VMM_ERROR(), vmm_expect_shared()
 *			(harness only)
 *   look at a dma-buf	vmm_map(), vmm_dmabuf_size(), vmm_fdinfo()
 *   contents		vmm_fill(), vmm_mismatch(), vmm_peek(), vmm_poke()
 *   another process	vmm_peer_*(): it gets dma-bufs by SCM_RIGHTS, maps them
 *			and compares or fills on request
 *   pins		vmm_pins(), vmm_pins_settle()
 *   the kernel		vmm_config(), vmm_not_in_kernel(), vmm_modprobe(),
 *			vmm_swap_start(), vmm_swap_stop(), vmm_write_file(),
 *			vmm_read_file(), vmm_read_number()
 *   the host		vmm_close_whole()
 *   other memory	vmm_pfn(), vmm_drm_open(), vmm_drm_dumb(),
 *			vmm_foreign_dmabuf()
 */
#ifndef _VMMEXP_UTIL_H
#define _VMMEXP_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include <linux/vmmexp.h>

#define VMM_DEVICE	"/dev/vmmexp"

/* Newer than some C libraries' headers. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE	0x0010
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL		0x0008U
#endif

/* The page size, as size_t so that products of it do not overflow an int. */
size_t vmm_page_size(void);

/* open("/dev/vmmexp", O_RDWR | O_CLOEXEC) */
int vmm_open(void);

/* ioctl() that returns -errno on failure. */
int vmm_ioctl(int fd, unsigned long cmd, void *arg);

/*
 * All calls of the module from here on look at the answer: a failure has a
 * reason, whose errno it is, and a success has none. Else they abort, and so
 * fail the test. Where there is no structure to answer in, use vmm_ioctl().
 */

/*
 * EXPORT exactly as @ex says; nothing is filled in. Meant for what the two
 * below cannot express (names, limits, malformed requests).
 */
int vmm_export_call(int dev, struct vmmexp_export *ex);

/*
 * EXPORT of @nr ranges, O_CLOEXEC. *@ex is overwritten: a request made of the
 * arguments, then the answer. The fd is ex->fd.
 */
int vmm_export_ranges(int dev, const struct vmmexp_range *ranges, unsigned int nr,
		      __u32 flags, struct vmmexp_export *ex);

/* The same for one range of the caller's memory. */
int vmm_export(int dev, const void *addr, size_t len, __u32 flags,
	       struct vmmexp_export *ex);

/* A range of the caller's memory. */
struct vmmexp_range vmm_range(const void *addr, size_t len);

/* SYNC of @nr ranges, 0: the whole buffer. *@sync gets request and answer. */
int vmm_sync(int dev, int fd, const struct vmmexp_sync_range *ranges,
	     unsigned int nr, __u32 flags, struct vmmexp_sync *sync);

/* QUERY and INFO with nothing but the mandatory inputs. */
int vmm_query(int dev, int fd, struct vmmexp_query *query);
int vmm_info(int dev, struct vmmexp_info *info);

/* REVOKE with nothing but the mandatory inputs. */
int vmm_revoke(int dev, int fd, struct vmmexp_revoke *revoke);

/* The VMMEXP_STATE_* that QUERY tells. */
int vmm_state(int dev, int fd);

/* Wait until it is @state. False if that is not so after some seconds. */
bool vmm_state_settle(int dev, int fd, __u32 state);

/* Size of a dma-buf as lseek(SEEK_END) tells it. */
long long vmm_dmabuf_size(int fd);

/* MAP_SHARED mapping of @len bytes at @offset, NULL on failure (see errno). */
void *vmm_map(int fd, off_t offset, size_t len, int prot);

/*
 * Put the value of line "@key:" of /proc/self/fdinfo/@fd into @buf. False if
 * there is no such line.
 */
bool vmm_fdinfo(int fd, const char *key, char *buf, size_t len);

/*
 * A pattern in which every byte depends on its offset and on a seed, so that a
 * page in the wrong place, a shifted or a stale one shows.
 */
void vmm_fill(void *to, size_t len, __u64 offset, __u32 seed);

/* Index of the first byte which is not the pattern's, -1 if there is none. */
long long vmm_mismatch(const void *from, size_t len, __u64 offset,
		       __u32 seed);

/* Read and write one byte, now. */
char vmm_peek(const void *addr);
void vmm_poke(void *addr, char value);

/*
 * Number of the page frame behind @addr, -1 if no page is present there, -2 if
 * the kernel does not tell (not root).
 */
long long vmm_pfn(const void *addr);

/* Number of open descriptors, to see that a failed call left none. */
unsigned int vmm_count_fds(void);

/* Pass a descriptor over a unix socket. vmm_recv_fd() returns it. */
int vmm_send_fd(int sock, int fd);
int vmm_recv_fd(int sock);

/*
 * Another process that holds dma-bufs. It is started before the memory under
 * test exists, gets each dma-buf by SCM_RIGHTS and sees the memory through a
 * shared mapping of that only. It dies with its parent.
 */
struct vmm_peer {
	pid_t pid;
	int sock;
};

#define VMM_PEER_BUFS	8

int vmm_peer_start(struct vmm_peer *peer);

/*
 * Give dma-buf @fd as number @slot (0..VMM_PEER_BUFS-1). The peer maps all of
 * it with @prot and answers; its failure to map comes back as -errno.
 */
int vmm_peer_give(struct vmm_peer *peer, unsigned int slot, int fd, int prot);

/*
 * vmm_mismatch() and vmm_fill() in the peer on buffer @slot from byte @start.
 * The pattern's offset is @offset. -1 of vmm_peer_mismatch() means equal,
 * below that it is -1000 - errno: the peer is gone or cannot.
 */
long long vmm_peer_mismatch(struct vmm_peer *peer, unsigned int slot, __u64 start,
			    __u64 len, __u64 offset, __u32 seed);
int vmm_peer_fill(struct vmm_peer *peer, unsigned int slot, __u64 start,
		  __u64 len, __u64 offset, __u32 seed);

/* Let the peer close its descriptor, or unmap its mapping, of @slot. */
int vmm_peer_close(struct vmm_peer *peer, unsigned int slot);
int vmm_peer_unmap(struct vmm_peer *peer, unsigned int slot);

/* End it and wait for it. vmm_peer_kill() ends it by SIGKILL. */
void vmm_peer_stop(struct vmm_peer *peer);
void vmm_peer_kill(struct vmm_peer *peer);

/*
 * Pages pinned now in the whole system: acquired minus released in
 * /proc/vmstat, after its counters were folded. Tests run one after another,
 * so a difference is the test's. -1 if the kernel does not tell.
 */
long long vmm_pins(void);

/*
 * Wait until vmm_pins() is @expected: a file or a mapping that goes away may
 * be let go by a work item. False if that is not so after some seconds.
 */
bool vmm_pins_settle(long long expected);

/*
 * Is CONFIG_@name (given with its prefix) y or m in this kernel? 1 yes, 0 no,
 * -1 the configuration cannot be read (/proc/config.gz, /vmmexp/config,
 * /boot/config-RELEASE).
 */
int vmm_config(const char *name);

/*
 * NULL if CONFIG_@name is in this kernel, else the reason of the one skip that
 * is allowed, for a kind of memory which the kernel was configured without:
 *
 *	const char *lacks = vmm_not_in_kernel("CONFIG_HUGETLBFS");
 *
 *	if (lacks)
 *		SKIP(return, "%s", lacks);
 *
 * Aborts, and so fails the test, if the configuration cannot be read.
 */
const char *vmm_not_in_kernel(const char *name);

/* waitpid() that gives up after @seconds (then -ETIMEDOUT, nothing killed). */
int vmm_wait(pid_t pid, int *status, unsigned int seconds);

/* Sleep; not cut short by signals. */
void vmm_msleep(unsigned int ms);

/* modprobe @name; 0 also if it was there. */
int vmm_modprobe(const char *name);

/*
 * Make 192 MiB of swap in memory. The number of its zram device, or -errno;
 * vmm_swap_stop() brings all that was swapped back, and returns 0 or -errno.
 */
int vmm_swap_start(void);
int vmm_swap_stop(int zram);

/* Write a string into, or read the beginning of, a small (proc, sys) file. */
int vmm_write_file(const char *path, const char *text);
int vmm_read_file(const char *path, char *buf, size_t len);

/*
 * Close a file that somebody on the host is going to read. Closing alone does
 * not wait: a file on 9p may have its size before it has its bytes. Returns 0 or
 * -errno.
 */
int vmm_close_whole(FILE *file);

/* The first number in a small file, -1 if there is none. */
long long vmm_read_number(const char *path);

/* Load DRM driver @name and open its card. */
int vmm_drm_open(const char *name);

/*
 * Make a dumb buffer of at least @size bytes on @card. *@offset is where
 * mmap() of the card finds it. Returns its handle.
 */
int vmm_drm_dumb(int card, size_t size, __u64 *offset);

/* A dma-buf of at least @size bytes that another driver (vgem) exports. */
int vmm_foreign_dmabuf(size_t size);

/*
 * The rest is for programs on kselftest_harness.h, which they include first.
 */
#ifdef __KSELFTEST_HARNESS_H

/* Seconds a test may take: emulated CPUs, shared with others, are slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	180

/* Did the call whose result is @ret and whose structure is *@out succeed? */
#define EXPECT_VMM_OK(ret, out) do { \
	__typeof__(out) __out = (out); \
	EXPECT_EQ(0, (ret)); \
	EXPECT_EQ((__u32)VMMEXP_REASON_NONE, __out->reason); \
} while (0)

#define ASSERT_VMM_OK(ret, out) do { \
	__typeof__(out) __out = (out); \
	ASSERT_EQ(0, (ret)) { \
		TH_LOG("reason %u, offset %llu", __out->reason, \
		       (unsigned long long)__out->error_offset); \
	} \
	ASSERT_EQ((__u32)VMMEXP_REASON_NONE, __out->reason); \
} while (0)

/* Did it fail with @err (positive), @why, and this place? */
#define EXPECT_VMM_ERROR(ret, out, err, why, place) do { \
	__typeof__(out) __out = (out); \
	EXPECT_EQ(-(err), (ret)); \
	EXPECT_EQ((__u32)(why), __out->reason); \
	EXPECT_EQ((__u64)(place), __out->error_offset); \
} while (0)

/*
 * The @len bytes at @mem are what the peer's dma-buf number @slot has from
 * @start on: the peer reads what the exporter writes and, with @writable, the
 * other way round. Byte for byte, with new contents on every call.
 */
static inline void vmm_expect_shared(struct __test_metadata *_metadata,
				     struct vmm_peer *peer, unsigned int slot,
				     void *mem, size_t len, __u64 start, bool writable)
{
	static __u32 seed = 0x5eed;

	seed++;
	vmm_fill(mem, len, start, seed);
	EXPECT_EQ(-1, vmm_peer_mismatch(peer, slot, start, len, start, seed)) {
		TH_LOG("the dma-buf does not show what the exporter wrote");
	}
	if (!writable)
		return;
	seed++;
	EXPECT_EQ(0, vmm_peer_fill(peer, slot, start, len, start, seed));
	EXPECT_EQ(-1, vmm_mismatch(mem, len, start, seed)) {
		TH_LOG("the exporter does not see what was written to the dma-buf");
	}
}

#endif /* __KSELFTEST_HARNESS_H */

#endif /* _VMMEXP_UTIL_H */
