/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trace events of vmmexp.
 *
 * A buffer's id is the inode number of its dma-buf, as fstat(), fdinfo, bufinfo
 * of dma-buf's debugfs and dma-buf's own trace events have it; 0 where there is
 * no dma-buf. No event tells a physical or a kernel address. Durations are in
 * nanoseconds, and measured only while the event is enabled.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vmmexp

#if !defined(_VMMEXP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _VMMEXP_TRACE_H

#include <linux/device.h>
#include <linux/dma-direction.h>
#include <linux/tracepoint.h>

#include "../uapi/linux/vmmexp.h"

/* Every reason: src/trace.c does not compile without one of them. */
#define VMMEXP_TRACE_REASONS(REASON)	\
	REASON(NONE)			\
	REASON(FLAGS)			\
	REASON(PADDING)			\
	REASON(UNKNOWN_TAIL)		\
	REASON(ELEMENT_SIZE)		\
	REASON(NO_RANGES)		\
	REASON(TOO_MANY_RANGES)		\
	REASON(ARRAY_FAULT)		\
	REASON(EMPTY_RANGE)		\
	REASON(RANGE_OVERFLOW)		\
	REASON(UNALIGNED)		\
	REASON(TOO_BIG)			\
	REASON(NAME)			\
	REASON(FD_FLAGS)		\
	REASON(PHYS_BITS_VALUE)		\
	REASON(NOT_USER)		\
	REASON(HOLE)			\
	REASON(NOT_READABLE)		\
	REASON(NOT_WRITABLE)		\
	REASON(FAULT)			\
	REASON(PFNMAP)			\
	REASON(SECRETMEM)		\
	REASON(FSDAX)			\
	REASON(WRITABLE_FILE)		\
	REASON(EXECUTABLE)		\
	REASON(SEALED)			\
	REASON(NOT_PINNABLE)		\
	REASON(MAX_SEGS)		\
	REASON(PHYS_BITS)		\
	REASON(NO_MEMORY)		\
	REASON(MEMLOCK)			\
	REASON(USER_LIMIT)		\
	REASON(INTERRUPTED)		\
	REASON(NO_FD)			\
	REASON(BAD_FD)			\
	REASON(NOT_OURS)		\
	REASON(BAD_REGION_FD)		\
	REASON(NO_REGIONS)		\
	REASON(REGION_ACCESS)		\
	REASON(REGION_RANGE)		\
	REASON(REGION_CACHE)		\
	REASON(BAD_EVENT_FD)		\
	REASON(NO_EVENTS)		\
	REASON(SYNC_RANGE)		\
	REASON(SYNC_DIRECTION)		\
	REASON(READ_ONLY)		\
	REASON(REVOKED)			\
	REASON(NOT_OWNER)		\
	REASON(NO_REVOKE)		\
	REASON(EXPORT_FAILED)

/* What reads the binary trace knows no enumerations: they go as numbers. */
#undef REASON
#define REASON(name) TRACE_DEFINE_ENUM(VMMEXP_REASON_##name);
VMMEXP_TRACE_REASONS(REASON)
#undef REASON
TRACE_DEFINE_ENUM(DMA_BIDIRECTIONAL);
TRACE_DEFINE_ENUM(DMA_TO_DEVICE);
TRACE_DEFINE_ENUM(DMA_FROM_DEVICE);

#define REASON(name) { VMMEXP_REASON_##name, #name },
#define show_vmmexp_reason(reason)	\
	__print_symbolic(reason, VMMEXP_TRACE_REASONS(REASON) { -1, "" })

#define show_vmmexp_flags(flags)				\
	__print_flags(flags, "|",				\
		      { VMMEXP_EXPORT_READ_ONLY, "READ_ONLY" },	\
		      { VMMEXP_EXPORT_UNALIGNED, "UNALIGNED" },	\
		      { VMMEXP_EXPORT_DRY_RUN, "DRY_RUN" },	\
		      { VMMEXP_EXPORT_EVENTFD, "EVENTFD" })

#define show_vmmexp_kinds(kinds)			\
	__print_flags(kinds, "|",			\
		      { VMMEXP_KIND_ANON, "ANON" },	\
		      { VMMEXP_KIND_SHMEM, "SHMEM" },	\
		      { VMMEXP_KIND_HUGETLB, "HUGETLB" }, \
		      { VMMEXP_KIND_FILE, "FILE" },	\
		      { VMMEXP_KIND_DRIVER, "DRIVER" },	\
		      { VMMEXP_KIND_CARVEOUT, "CARVEOUT" })

#define show_vmmexp_state(state)				\
	__print_flags(state, "|",				\
		      { VMMEXP_STATE_LIVE, "LIVE" },		\
		      { VMMEXP_STATE_SUSPECT, "SUSPECT" },	\
		      { VMMEXP_STATE_STALE, "STALE" },		\
		      { VMMEXP_STATE_REVOKED, "REVOKED" },	\
		      { VMMEXP_STATE_RELEASED, "RELEASED" })

#define show_vmmexp_direction(direction)		\
	__print_symbolic(direction,			\
			 { DMA_BIDIRECTIONAL, "BIDIRECTIONAL" }, \
			 { DMA_TO_DEVICE, "TO_DEVICE" },	\
			 { DMA_FROM_DEVICE, "FROM_DEVICE" })

/* EXPORT is over; a failure has no id, and a dry run neither. */
TRACE_EVENT(vmmexp_export,
	TP_PROTO(u64 id, u64 bytes, u32 segs, u32 kinds, u32 flags, u32 reason,
		 int error, u64 offset, u64 duration),

	TP_ARGS(id, bytes, segs, kinds, flags, reason, error, offset, duration),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, bytes)
		__field(u64, offset)
		__field(u64, duration)
		__field(u32, segs)
		__field(u32, kinds)
		__field(u32, flags)
		__field(u32, reason)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->bytes = bytes;
		__entry->offset = offset;
		__entry->duration = duration;
		__entry->segs = segs;
		__entry->kinds = kinds;
		__entry->flags = flags;
		__entry->reason = reason;
		__entry->error = error;
	),

	TP_printk("id=%llu bytes=%llu segs=%u kinds=%s flags=%s reason=%s error=%d offset=%llu duration=%llu",
		  __entry->id, __entry->bytes, __entry->segs,
		  show_vmmexp_kinds(__entry->kinds), show_vmmexp_flags(__entry->flags),
		  show_vmmexp_reason(__entry->reason), __entry->error,
		  __entry->offset, __entry->duration)
);

/* A mapping for a device: segs are the entries of its scatterlist. */
DECLARE_EVENT_CLASS(vmmexp_mapping,
	TP_PROTO(u64 id, struct device *dev, enum dma_data_direction direction,
		 u64 bytes, u32 segs, int error, u64 duration),

	TP_ARGS(id, dev, direction, bytes, segs, error, duration),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, bytes)
		__field(u64, duration)
		__field(u32, segs)
		__field(int, direction)
		__field(int, error)
		__string(device, dev_name(dev))
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->bytes = bytes;
		__entry->duration = duration;
		__entry->segs = segs;
		__entry->direction = direction;
		__entry->error = error;
		__assign_str(device);
	),

	TP_printk("id=%llu device=%s direction=%s bytes=%llu segs=%u error=%d duration=%llu",
		  __entry->id, __get_str(device),
		  show_vmmexp_direction(__entry->direction), __entry->bytes,
		  __entry->segs, __entry->error, __entry->duration)
);

DEFINE_EVENT(vmmexp_mapping, vmmexp_map,
	TP_PROTO(u64 id, struct device *dev, enum dma_data_direction direction,
		 u64 bytes, u32 segs, int error, u64 duration),
	TP_ARGS(id, dev, direction, bytes, segs, error, duration)
);

DEFINE_EVENT(vmmexp_mapping, vmmexp_unmap,
	TP_PROTO(u64 id, struct device *dev, enum dma_data_direction direction,
		 u64 bytes, u32 segs, int error, u64 duration),
	TP_ARGS(id, dev, direction, bytes, segs, error, duration)
);

/* SYNC of vmmexp, or of dma-buf (over all of the buffer). */
TRACE_EVENT(vmmexp_sync,
	TP_PROTO(u64 id, enum dma_data_direction direction, bool end, u64 bytes,
		 int error, u64 duration),

	TP_ARGS(id, direction, end, bytes, error, duration),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, bytes)
		__field(u64, duration)
		__field(int, direction)
		__field(int, error)
		__field(bool, end)
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->bytes = bytes;
		__entry->duration = duration;
		__entry->direction = direction;
		__entry->error = error;
		__entry->end = end;
	),

	TP_printk("id=%llu phase=%s direction=%s bytes=%llu error=%d duration=%llu",
		  __entry->id, __entry->end ? "END" : "BEGIN",
		  show_vmmexp_direction(__entry->direction), __entry->bytes,
		  __entry->error, __entry->duration)
);

/* The state that QUERY tells of changed. */
TRACE_EVENT(vmmexp_state,
	TP_PROTO(u64 id, u32 old, u32 new),

	TP_ARGS(id, old, new),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, old)
		__field(u32, new)
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->old = old;
		__entry->new = new;
	),

	TP_printk("id=%llu old=%s new=%s", __entry->id,
		  show_vmmexp_state(__entry->old), show_vmmexp_state(__entry->new))
);

/* REVOKE of a buffer that was not revoked before. */
TRACE_EVENT(vmmexp_revoke,
	TP_PROTO(u64 id, u64 bytes, u64 duration),

	TP_ARGS(id, bytes, duration),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, bytes)
		__field(u64, duration)
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->bytes = bytes;
		__entry->duration = duration;
	),

	TP_printk("id=%llu bytes=%llu duration=%llu", __entry->id,
		  __entry->bytes, __entry->duration)
);

/* The last reference to a buffer is gone. */
TRACE_EVENT(vmmexp_release,
	TP_PROTO(u64 id, u64 bytes, u32 segs),

	TP_ARGS(id, bytes, segs),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u64, bytes)
		__field(u32, segs)
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->bytes = bytes;
		__entry->segs = segs;
	),

	TP_printk("id=%llu bytes=%llu segs=%u", __entry->id, __entry->bytes,
		  __entry->segs)
);

#endif /* _VMMEXP_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vmmexp_trace
#include <trace/define_trace.h>
