// SPDX-License-Identifier: GPL-2.0-only
/*
 * The trace events, and one function for each thing that Rust does with one:
 * see src/kernel_ext/trace.rs. Disabled, an event costs the static branch in
 * the first of them.
 */
#include "vmmexp_helpers.h"

#define CREATE_TRACE_POINTS
#include "vmmexp_trace.h"

/* The compiler names the reason that VMMEXP_TRACE_REASONS() lacks. */
static void __maybe_unused vmmexp_trace_every_reason(enum vmmexp_reason reason)
{
#undef REASON
#define REASON(name) case VMMEXP_REASON_##name:
	switch (reason) {
	VMMEXP_TRACE_REASONS(REASON)
		break;
	}
#undef REASON
}

bool vmmexp_helper_trace_export_enabled(void)
{
	return trace_vmmexp_export_enabled();
}

void vmmexp_helper_trace_export(u64 id, u64 bytes, u32 segs, u32 kinds, u32 flags,
				u32 reason, int error, u64 offset, u64 duration)
{
	trace_vmmexp_export(id, bytes, segs, kinds, flags, reason, error, offset, duration);
}

bool vmmexp_helper_trace_map_enabled(void)
{
	return trace_vmmexp_map_enabled();
}

void vmmexp_helper_trace_map(u64 id, struct device *dev, enum dma_data_direction direction,
			     u64 bytes, u32 segs, int error, u64 duration)
{
	trace_vmmexp_map(id, dev, direction, bytes, segs, error, duration);
}

bool vmmexp_helper_trace_unmap_enabled(void)
{
	return trace_vmmexp_unmap_enabled();
}

void vmmexp_helper_trace_unmap(u64 id, struct device *dev, enum dma_data_direction direction,
			       u64 bytes, u32 segs, int error, u64 duration)
{
	trace_vmmexp_unmap(id, dev, direction, bytes, segs, error, duration);
}

bool vmmexp_helper_trace_sync_enabled(void)
{
	return trace_vmmexp_sync_enabled();
}

void vmmexp_helper_trace_sync(u64 id, enum dma_data_direction direction, bool end,
			      u64 bytes, int error, u64 duration)
{
	trace_vmmexp_sync(id, direction, end, bytes, error, duration);
}

void vmmexp_helper_trace_state(u64 id, u32 old, u32 new)
{
	trace_vmmexp_state(id, old, new);
}

bool vmmexp_helper_trace_revoke_enabled(void)
{
	return trace_vmmexp_revoke_enabled();
}

void vmmexp_helper_trace_revoke(u64 id, u64 bytes, u64 duration)
{
	trace_vmmexp_revoke(id, bytes, duration);
}

void vmmexp_helper_trace_release(u64 id, u64 bytes, u32 segs)
{
	trace_vmmexp_release(id, bytes, segs);
}
