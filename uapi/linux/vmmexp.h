/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * vmmexp: export memory of a process, or of a carve-out, as a dma-buf.
 *
 * Every structure has the same layout for 32-bit and 64-bit callers, pointers
 * travel as __u64, and a structure may grow at its end: the size in the ioctl
 * number says which version the caller was built with. A shorter one (down to
 * the VMMEXP_*_SIZE_MIN of the call) is taken as zero-extended; in a longer
 * one every byte this kernel does not know must be zero. Unknown flags and
 * non-zero padding are refused. Input fields are never written back, so an
 * interrupted call can be issued again as it is.
 *
 * A call that fails says why: besides errno it fills @reason with one of
 * &enum vmmexp_reason and @error_offset with the place. Only EFAULT on the
 * structure itself, ENOTTY and a structure shorter than the minimum leave
 * these two untouched.
 */
#ifndef _UAPI_LINUX_VMMEXP_H
#define _UAPI_LINUX_VMMEXP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VMMEXP_ABI_VERSION	1

/* Bytes of a name, the terminating NUL included (as DMA_BUF_NAME_LEN). */
#define VMMEXP_NAME_LEN		32

/**
 * enum vmmexp_reason - why a call failed
 *
 * The errno of each is named in brackets.
 *
 * @VMMEXP_REASON_NONE: the call succeeded
 * @VMMEXP_REASON_FLAGS: a flag this kernel does not know [EINVAL]
 * @VMMEXP_REASON_PADDING: a padding field is not zero [EINVAL]
 * @VMMEXP_REASON_UNKNOWN_TAIL: the structure, or an array element, is longer
 *	than this kernel knows and its tail is not zero [EINVAL]
 * @VMMEXP_REASON_ELEMENT_SIZE: the array element size is below the first
 *	version's, above a page, or not a multiple of 8 [EINVAL]
 * @VMMEXP_REASON_NO_RANGES: EXPORT without a range, or elsewhere an array
 *	without elements [EINVAL]
 * @VMMEXP_REASON_TOO_MANY_RANGES: more ranges than INFO allows [E2BIG]
 * @VMMEXP_REASON_ARRAY_FAULT: the array cannot be read [EFAULT]
 * @VMMEXP_REASON_EMPTY_RANGE: a range of length zero [EINVAL]
 * @VMMEXP_REASON_RANGE_OVERFLOW: start + length wraps [EINVAL]
 * @VMMEXP_REASON_UNALIGNED: a range starts or ends inside a page where that
 *	is not allowed, see VMMEXP_EXPORT_UNALIGNED [EINVAL]
 * @VMMEXP_REASON_TOO_BIG: the buffer would be larger than INFO allows, or
 *	have more than 2^20 physically contiguous runs [EOVERFLOW]
 * @VMMEXP_REASON_NAME: the name has no terminating NUL [EINVAL]
 * @VMMEXP_REASON_FD_FLAGS: a file flag other than O_CLOEXEC [EINVAL]
 * @VMMEXP_REASON_PHYS_BITS_VALUE: phys_bits is above 64 [EINVAL]
 * @VMMEXP_REASON_NOT_USER: the address is not a user address [EFAULT]
 * @VMMEXP_REASON_HOLE: nothing is mapped at the address [EFAULT]
 * @VMMEXP_REASON_NOT_READABLE: the mapping may not be read [EFAULT]
 * @VMMEXP_REASON_NOT_WRITABLE: the mapping may not be written; export it with
 *	VMMEXP_EXPORT_READ_ONLY [EFAULT]
 * @VMMEXP_REASON_FAULT: the page could not be brought in: a guard page, a
 *	protection key, beyond the end of the file, an I/O error, poisoned
 *	memory [EFAULT]
 * @VMMEXP_REASON_PFNMAP: memory without page references: another driver's
 *	coherent or I/O memory, or the mapping of a dma-buf; or pages that a
 *	driver maps uncached. Ask that driver for a dma-buf [EPERM]
 * @VMMEXP_REASON_SECRETMEM: memory of memfd_secret() [EPERM]
 * @VMMEXP_REASON_FSDAX: a file on a DAX file system [EPERM]
 * @VMMEXP_REASON_WRITABLE_FILE: a shared mapping of an ordinary file can only
 *	be exported with VMMEXP_EXPORT_READ_ONLY: a device would write behind
 *	the file system's back [EPERM]
 * @VMMEXP_REASON_EXECUTABLE: an executable mapping can only be exported with
 *	VMMEXP_EXPORT_READ_ONLY [EPERM]
 * @VMMEXP_REASON_SEALED: the memfd is sealed against writing; export it with
 *	VMMEXP_EXPORT_READ_ONLY [EPERM]
 * @VMMEXP_REASON_NOT_PINNABLE: the kernel cannot hold this page in place, or
 *	it has too many pins already [EFAULT]
 * @VMMEXP_REASON_MAX_SEGS: more physically contiguous runs than max_segs; the
 *	offset is where the first run too many starts [EMLINK]
 * @VMMEXP_REASON_PHYS_BITS: memory at or above 2^phys_bits [ERANGE]
 * @VMMEXP_REASON_NO_MEMORY: the kernel is out of memory, or could not move
 *	this page out of an area where pages are not to be held (CMA, movable
 *	memory) [ENOMEM]
 * @VMMEXP_REASON_MEMLOCK: the caller's RLIMIT_MEMLOCK does not allow its user
 *	to lock so much, with what is locked already; the offset is where the
 *	pages begin that were too many, 0 where the rest of large pages was
 *	[ENOMEM]
 * @VMMEXP_REASON_USER_LIMIT: the same for the administrator's limit per user
 *	[ENOMEM]
 * @VMMEXP_REASON_INTERRUPTED: a fatal signal arrived; in SYNC, which waits for
 *	devices, any signal, and the call is restarted if it may be [EINTR]
 * @VMMEXP_REASON_NO_FD: no file descriptor is left [EMFILE or ENFILE]
 * @VMMEXP_REASON_BAD_FD: the descriptor is not open [EBADF]
 * @VMMEXP_REASON_NOT_OURS: the descriptor is not a dma-buf of vmmexp [EBADF]
 * @VMMEXP_REASON_BAD_REGION_FD: the descriptor is not a carve-out's [EBADF]
 * @VMMEXP_REASON_NO_REGIONS: this kernel or machine has no carve-outs, or
 *	they cannot be exported here [EOPNOTSUPP]
 * @VMMEXP_REASON_REGION_ACCESS: the region, its descriptor or its mapping is
 *	read-only [EACCES]
 * @VMMEXP_REASON_REGION_RANGE: the range leaves the region [EFAULT]
 * @VMMEXP_REASON_REGION_CACHE: the mapping's cacheability is not the region's
 *	[EPERM]
 * @VMMEXP_REASON_BAD_EVENT_FD: the descriptor is not an eventfd [EBADF]
 * @VMMEXP_REASON_NO_EVENTS: this kernel cannot signal state changes
 *	[EOPNOTSUPP]
 * @VMMEXP_REASON_SYNC_RANGE: a range leaves the buffer [EINVAL]
 * @VMMEXP_REASON_SYNC_DIRECTION: neither READ nor WRITE was asked [EINVAL]
 * @VMMEXP_REASON_READ_ONLY: writing was asked of a READ_ONLY buffer, or of
 *	/dev/vmmexp opened for reading only [EACCES]
 * @VMMEXP_REASON_REVOKED: the buffer was revoked [ENODEV]
 * @VMMEXP_REASON_NOT_OWNER: only the open /dev/vmmexp that made the export
 *	may revoke it [EPERM]
 * @VMMEXP_REASON_NO_REVOKE: this kernel cannot revoke [EOPNOTSUPP]
 * @VMMEXP_REASON_EXPORT_FAILED: the dma-buf could not be made [its errno]
 */
enum vmmexp_reason {
	VMMEXP_REASON_NONE		= 0,
	VMMEXP_REASON_FLAGS		= 1,
	VMMEXP_REASON_PADDING		= 2,
	VMMEXP_REASON_UNKNOWN_TAIL	= 3,
	VMMEXP_REASON_ELEMENT_SIZE	= 4,
	VMMEXP_REASON_NO_RANGES		= 5,
	VMMEXP_REASON_TOO_MANY_RANGES	= 6,
	VMMEXP_REASON_ARRAY_FAULT	= 7,
	VMMEXP_REASON_EMPTY_RANGE	= 8,
	VMMEXP_REASON_RANGE_OVERFLOW	= 9,
	VMMEXP_REASON_UNALIGNED		= 10,
	VMMEXP_REASON_TOO_BIG		= 11,
	VMMEXP_REASON_NAME		= 12,
	VMMEXP_REASON_FD_FLAGS		= 13,
	VMMEXP_REASON_PHYS_BITS_VALUE	= 14,
	VMMEXP_REASON_NOT_USER		= 15,
	VMMEXP_REASON_HOLE		= 16,
	VMMEXP_REASON_NOT_READABLE	= 17,
	VMMEXP_REASON_NOT_WRITABLE	= 18,
	VMMEXP_REASON_FAULT		= 19,
	VMMEXP_REASON_PFNMAP		= 20,
	VMMEXP_REASON_SECRETMEM		= 21,
	VMMEXP_REASON_FSDAX		= 22,
	VMMEXP_REASON_WRITABLE_FILE	= 23,
	VMMEXP_REASON_EXECUTABLE	= 24,
	VMMEXP_REASON_SEALED		= 25,
	VMMEXP_REASON_NOT_PINNABLE	= 26,
	VMMEXP_REASON_MAX_SEGS		= 27,
	VMMEXP_REASON_PHYS_BITS		= 28,
	VMMEXP_REASON_NO_MEMORY		= 29,
	VMMEXP_REASON_MEMLOCK		= 30,
	VMMEXP_REASON_USER_LIMIT	= 31,
	VMMEXP_REASON_INTERRUPTED	= 32,
	VMMEXP_REASON_NO_FD		= 33,
	VMMEXP_REASON_BAD_FD		= 34,
	VMMEXP_REASON_NOT_OURS		= 35,
	VMMEXP_REASON_BAD_REGION_FD	= 36,
	VMMEXP_REASON_NO_REGIONS	= 37,
	VMMEXP_REASON_REGION_ACCESS	= 38,
	VMMEXP_REASON_REGION_RANGE	= 39,
	VMMEXP_REASON_REGION_CACHE	= 40,
	VMMEXP_REASON_BAD_EVENT_FD	= 41,
	VMMEXP_REASON_NO_EVENTS		= 42,
	VMMEXP_REASON_SYNC_RANGE	= 43,
	VMMEXP_REASON_SYNC_DIRECTION	= 44,
	VMMEXP_REASON_READ_ONLY		= 45,
	VMMEXP_REASON_REVOKED		= 46,
	VMMEXP_REASON_NOT_OWNER		= 47,
	VMMEXP_REASON_NO_REVOKE		= 48,
	VMMEXP_REASON_EXPORT_FAILED	= 49,
};

/* struct vmmexp_range.flags: the range is in a carve-out. */
#define VMMEXP_RANGE_REGION		(1u << 0)

/**
 * struct vmmexp_range - a piece of memory to export
 * @start: address in the caller's address space, or, with
 *	VMMEXP_RANGE_REGION, offset in the region; bytes
 * @len: length in bytes
 * @flags: 0 or VMMEXP_RANGE_REGION
 * @region_fd: open /dev/vmmexp-<name>, with VMMEXP_RANGE_REGION; else 0
 */
struct vmmexp_range {
	__u64 start;
	__u64 len;
	__u32 flags;
	__s32 region_fd;
};

/*
 * struct vmmexp_export.flags
 *
 * READ_ONLY: nobody writes through the dma-buf: its descriptor is O_RDONLY,
 *	writable mappings and DMA other than DMA_TO_DEVICE are EACCES, the
 *	kernel does not map it. Serves CPU readers and drivers which map
 *	DMA_TO_DEVICE (V4L2 output, omapdrm). DRM drivers on the generic PRIME
 *	helpers map bidirectionally, at import or at first use, and are
 *	refused then.
 * UNALIGNED: the first range may start, and the last may end, inside a page.
 *	Whole pages are exported: every holder and device sees, and unless
 *	READ_ONLY may change, the neighbours' bytes. Most importers ignore
 *	data_offset.
 * DRY_RUN: check, fault in and pin as an export would, then let go; fd is -1.
 *	A later export may differ.
 * EVENTFD: one is added to the counter of event_fd whenever the state of the
 *	buffer, as QUERY tells it, changes after the export.
 *
 * The user who exports is charged for the memory that this locks, as for
 * io_uring's buffers: against RLIMIT_MEMLOCK, unless the caller has
 * CAP_IPC_LOCK, until the memory is given back. A large page of which a part
 * is exported counts whole. Carve-outs cost nothing.
 */
#define VMMEXP_EXPORT_READ_ONLY		(1u << 0)
#define VMMEXP_EXPORT_UNALIGNED		(1u << 1)
#define VMMEXP_EXPORT_DRY_RUN		(1u << 2)
#define VMMEXP_EXPORT_EVENTFD		(1u << 3)

/*
 * Kinds of memory found in a buffer.
 *
 * ANON: private memory of the process (malloc, stack, MAP_ANONYMOUS); private
 *	mappings of files too, which an export gives pages of their own
 * SHMEM: memfd, tmpfs, shared anonymous and System V shared memory
 * HUGETLB: memory of hugetlbfs or MAP_HUGETLB
 * FILE: a shared mapping of an ordinary file
 * DRIVER: pages that another driver lent to the process
 * CARVEOUT: a carve-out region
 */
#define VMMEXP_KIND_ANON		(1u << 0)
#define VMMEXP_KIND_SHMEM		(1u << 1)
#define VMMEXP_KIND_HUGETLB		(1u << 2)
#define VMMEXP_KIND_FILE		(1u << 3)
#define VMMEXP_KIND_DRIVER		(1u << 4)
#define VMMEXP_KIND_CARVEOUT		(1u << 5)

/**
 * struct vmmexp_export - export memory as one dma-buf
 * @ranges: in: pointer to an array of &struct vmmexp_range; the buffer is
 *	their concatenation, overlaps and repeats are allowed
 * @nr_ranges: in: number of elements
 * @range_size: in: sizeof(struct vmmexp_range)
 * @flags: in: VMMEXP_EXPORT_*
 * @fd_flags: in: O_CLOEXEC or 0; the access mode follows from @flags
 * @fd: out: the dma-buf's file descriptor; -1 on failure and with
 *	VMMEXP_EXPORT_DRY_RUN
 * @reason: out: &enum vmmexp_reason
 * @error_offset: out: on failure, offset of the first offending byte in the
 *	request as if its ranges were one; where a range itself is refused, or
 *	cannot be read from the array, the offset where it begins; 0 where none
 *	of these is to blame
 * @size: out: size of the dma-buf in bytes, whole pages
 * @data_offset: out: where the first requested byte is in the dma-buf
 * @data_size: out: number of bytes requested
 * @nr_segs: out: number of physically contiguous runs, in buffer order after
 *	merging neighbours, before a device's limits split them
 * @kinds: out: VMMEXP_KIND_* found
 * @alignment: out: largest power of two, at most 2 MiB, that divides the
 *	physical start of every run and the length of every run but the last
 * @max_segs: in: refuse more physically contiguous runs than this; 0 any, 1
 *	contiguous
 * @phys_bits: in: every byte must lie below 2^phys_bits in the CPU's view of
 *	physical memory; 0 any. A device behind an IOMMU or a bus with its own
 *	addresses may reach more, or less
 * @event_fd: in: an eventfd, with VMMEXP_EXPORT_EVENTFD; else 0
 * @pad: in: 0
 * @name: in: name of the buffer, as DMA_BUF_SET_NAME gives it, the rest being
 *	NUL; empty for none
 */
struct vmmexp_export {
	__u64 ranges;
	__u32 nr_ranges;
	__u32 range_size;
	__u32 flags;
	__u32 fd_flags;
	__s32 fd;
	__u32 reason;
	__u64 error_offset;
	__u64 size;
	__u64 data_offset;
	__u64 data_size;
	__u32 nr_segs;
	__u32 kinds;
	__u64 alignment;
	__u32 max_segs;
	__u32 phys_bits;
	__s32 event_fd;
	__u32 pad;
	char name[VMMEXP_NAME_LEN];
};

/* Through @data_size: the caller must learn fd and where its bytes are. */
#define VMMEXP_EXPORT_SIZE_MIN		64

/* struct vmmexp_sync.flags: the values of DMA_BUF_IOCTL_SYNC. */
#define VMMEXP_SYNC_READ		(1u << 0)
#define VMMEXP_SYNC_WRITE		(2u << 0)
#define VMMEXP_SYNC_RW			(VMMEXP_SYNC_READ | VMMEXP_SYNC_WRITE)
#define VMMEXP_SYNC_BEGIN		(0u << 2)
#define VMMEXP_SYNC_END			(1u << 2)

/**
 * struct vmmexp_sync_range - a piece of a dma-buf
 * @offset: offset in the dma-buf, bytes
 * @len: length in bytes
 */
struct vmmexp_sync_range {
	__u64 offset;
	__u64 len;
};

/**
 * struct vmmexp_sync - cache maintenance around CPU access
 * @ranges: in: pointer to an array of &struct vmmexp_sync_range; 0 with
 *	@nr_ranges 0: the whole buffer
 * @nr_ranges: in: number of elements
 * @range_size: in: sizeof(struct vmmexp_sync_range); 0 with @nr_ranges 0
 * @fd: in: a dma-buf of vmmexp
 * @flags: in: VMMEXP_SYNC_READ, _WRITE or _RW, with _BEGIN or _END
 * @reason: out: &enum vmmexp_reason
 * @pad: in: 0
 * @error_offset: out: on failure, index of the offending element
 *
 * BEGIN makes what devices wrote visible to the CPU, END makes what the CPU
 * wrote visible to devices. Ranges are rounded outward to the cache alignment
 * that INFO reports. Where every device that has the buffer mapped snoops the
 * CPU's caches, or the platform is coherent, this is only a barrier.
 */
struct vmmexp_sync {
	__u64 ranges;
	__u32 nr_ranges;
	__u32 range_size;
	__s32 fd;
	__u32 flags;
	__u32 reason;
	__u32 pad;
	__u64 error_offset;
};

#define VMMEXP_SYNC_SIZE_MIN		40

/*
 * struct vmmexp_info.features: what this kernel, architecture and module do.
 */
#define VMMEXP_FEATURE_REGIONS		(1ull << 0)	/* carve-outs */
#define VMMEXP_FEATURE_REVOKE		(1ull << 1)	/* REVOKE */
#define VMMEXP_FEATURE_STALE		(1ull << 2)	/* suspect and stale */
#define VMMEXP_FEATURE_EVENTFD		(1ull << 3)	/* event_fd */
#define VMMEXP_FEATURE_MEMLOCK		(1ull << 4)	/* accounting */
#define VMMEXP_FEATURE_THP		(1ull << 5)	/* transparent huge pages */
#define VMMEXP_FEATURE_HUGETLB		(1ull << 6)	/* hugetlb */
#define VMMEXP_FEATURE_CACHE_OPS	(1ull << 7)	/* SYNC is not only a barrier */
#define VMMEXP_FEATURE_OF		(1ull << 8)	/* kernel has device trees */

/* struct vmmexp_region_info.flags */
#define VMMEXP_REGION_READ_ONLY		(1u << 0)
#define VMMEXP_REGION_CACHED		(1u << 1)

/**
 * struct vmmexp_region_info - a carve-out
 * @name: its name: the device is /dev/vmmexp-<name>
 * @size: its size in bytes
 * @flags: VMMEXP_REGION_*
 * @pad: 0
 */
struct vmmexp_region_info {
	char name[VMMEXP_NAME_LEN];
	__u64 size;
	__u32 flags;
	__u32 pad;
};

/**
 * struct vmmexp_info - what this machine can do
 * @regions: in: pointer to room for @nr_regions &struct vmmexp_region_info;
 *	0 to ask only for their number
 * @nr_regions: in: elements there is room for
 * @region_size: in: sizeof(struct vmmexp_region_info); 0 with @nr_regions 0
 * @reason: out: &enum vmmexp_reason
 * @abi_version: out: VMMEXP_ABI_VERSION of the module
 * @features: out: VMMEXP_FEATURE_*
 * @page_size: out: bytes
 * @cache_align: out: granularity of SYNC, bytes
 * @max_ranges: out: ranges in one call
 * @total_regions: out: number of carve-outs
 * @max_size: out: largest buffer, bytes; by default as much as there is
 *	memory, carve-outs included
 * @charged: out: bytes that the calling user is charged for exports now
 * @charge_left: out: bytes that the calling user may still be charged, by
 *	RLIMIT_MEMLOCK of the caller and the administrator's limit; ~0 no limit
 * @error_offset: out: 0
 */
struct vmmexp_info {
	__u64 regions;
	__u32 nr_regions;
	__u32 region_size;
	__u32 reason;
	__u32 abi_version;
	__u64 features;
	__u32 page_size;
	__u32 cache_align;
	__u32 max_ranges;
	__u32 total_regions;
	__u64 max_size;
	__u64 charged;
	__u64 charge_left;
	__u64 error_offset;
};

#define VMMEXP_INFO_SIZE_MIN		32

/*
 * struct vmmexp_query.state
 *
 * LIVE: the exporting process still has these pages at these addresses
 * SUSPECT: it may not: they were taken out of its page tables, be it because
 *	other pages come in their place (MADV_DONTNEED, a hole in the file) or for
 *	a while (reclaim, moving). QUERY from that process looks, and answers
 *	LIVE or STALE; as long as a page is not mapped, SUSPECT: touch it and
 *	ask again
 * STALE: it does not: the buffer and the process's memory went apart, as the
 *	process unmapped or moved it, exited, or has other pages there by now
 * REVOKED: ended by REVOKE; LIVE, SUSPECT and STALE are not told any more
 * RELEASED: revoked, and the memory is given back
 *
 * mprotect() changes nothing of this, nor does fork(), though of huge pages it
 * may leave SUSPECT, which QUERY settles. What was exported by region is never
 * SUSPECT or STALE.
 */
#define VMMEXP_STATE_LIVE		(1u << 0)
#define VMMEXP_STATE_SUSPECT		(1u << 1)
#define VMMEXP_STATE_STALE		(1u << 2)
#define VMMEXP_STATE_REVOKED		(1u << 3)
#define VMMEXP_STATE_RELEASED		(1u << 4)

/**
 * struct vmmexp_query - what a dma-buf of vmmexp is, and who uses it
 * @fd: in: a dma-buf of vmmexp
 * @flags: in: 0
 * @reason: out: &enum vmmexp_reason
 * @state: out: VMMEXP_STATE_*; 0 where this kernel does not watch
 *	(no VMMEXP_FEATURE_STALE)
 * @size: out: as EXPORT answered
 * @data_offset: out: as EXPORT answered
 * @data_size: out: as EXPORT answered
 * @nr_segs: out: as EXPORT answered
 * @kinds: out: as EXPORT answered
 * @alignment: out: as EXPORT answered
 * @export_flags: out: the flags given to EXPORT
 * @attachments: out: devices attached now
 * @device_mappings: out: device mappings now
 * @cpu_mappings: out: mappings in processes now
 * @kernel_mappings: out: 1 if the kernel has it mapped now
 * @pad: out: 0
 * @error_offset: out: 0
 */
struct vmmexp_query {
	__s32 fd;
	__u32 flags;
	__u32 reason;
	__u32 state;
	__u64 size;
	__u64 data_offset;
	__u64 data_size;
	__u32 nr_segs;
	__u32 kinds;
	__u64 alignment;
	__u32 export_flags;
	__u32 attachments;
	__u32 device_mappings;
	__u32 cpu_mappings;
	__u32 kernel_mappings;
	__u32 pad;
	__u64 error_offset;
};

#define VMMEXP_QUERY_SIZE_MIN		16

/**
 * struct vmmexp_revoke - end the sharing of a dma-buf
 * @fd: in: a dma-buf of vmmexp, exported through this open /dev/vmmexp
 * @flags: in: 0
 * @reason: out: &enum vmmexp_reason
 * @pad: in: 0
 * @error_offset: out: 0
 *
 * Through the open file (descriptors may be copied and passed on) which made the
 * export; if everybody has closed it, with CAP_SYS_ADMIN. From then on touching
 * a mapping of the dma-buf is SIGBUS, and mapping it, in processes, devices or
 * the kernel, fails, as does SYNC BEGIN. What devices and the kernel had mapped
 * before stays until they give it up; when the last is gone the memory is given
 * back and the user's charge with it, which the call does not wait for: QUERY
 * and the eventfd tell of it (RELEASED). Revoking again changes nothing.
 */
struct vmmexp_revoke {
	__s32 fd;
	__u32 flags;
	__u32 reason;
	__u32 pad;
	__u64 error_offset;
};

#define VMMEXP_REVOKE_SIZE_MIN		24

#define VMMEXP_IOC_MAGIC	0xE8

#define VMMEXP_IOC_EXPORT	_IOWR(VMMEXP_IOC_MAGIC, 0x00, struct vmmexp_export)
#define VMMEXP_IOC_SYNC		_IOWR(VMMEXP_IOC_MAGIC, 0x01, struct vmmexp_sync)
#define VMMEXP_IOC_INFO		_IOWR(VMMEXP_IOC_MAGIC, 0x02, struct vmmexp_info)
#define VMMEXP_IOC_QUERY	_IOWR(VMMEXP_IOC_MAGIC, 0x03, struct vmmexp_query)
#define VMMEXP_IOC_REVOKE	_IOWR(VMMEXP_IOC_MAGIC, 0x04, struct vmmexp_revoke)

#endif /* _UAPI_LINUX_VMMEXP_H */
