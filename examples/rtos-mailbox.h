/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the RTOS and Linux hand each other frames: one page of shared memory, no
 * interrupts, no service of either kernel. Both sides are little-endian; every
 * field has one writer at a time.
 *
 * The RTOS owns a buffer while it is EMPTY and Linux owns it while it is FULL,
 * so whoever may touch the frame is also who may change @state, and with it give
 * the frame away. A frame whose checksum does not fit was changed by somebody
 * who did not own it: torn.
 *
 * The page must not be cached by either side (the region's default), or each
 * side's fields would need cache lines of their own.
 */
#ifndef RTOS_MAILBOX_H
#define RTOS_MAILBOX_H

#include <stddef.h>
#include <stdint.h>

#define RTOS_MAGIC		0x534f5452u	/* "RTOS" */
#define RTOS_VERSION		1
#define RTOS_BUFFERS_MAX	4

enum rtos_buffer_state {
	RTOS_EMPTY = 0,		/* the RTOS may draw in it */
	RTOS_FULL = 1,		/* Linux may show it */
};

struct rtos_buffer {
	uint32_t state;		/* enum rtos_buffer_state */
	uint32_t offset;	/* in the region of the frames, bytes */
	uint32_t frame;		/* number of the frame in it */
	uint32_t checksum;	/* rtos_checksum() of the frame */
};

struct rtos_mailbox {
	uint32_t magic;		/* RTOS: RTOS_MAGIC once the rest is valid */
	uint32_t version;	/* RTOS */
	uint32_t width;		/* RTOS: pixels */
	uint32_t height;	/* RTOS: pixels */
	uint32_t stride;	/* RTOS: bytes */
	uint32_t format;	/* RTOS: as DRM_FORMAT_* */
	uint32_t nr_buffers;	/* RTOS */
	uint32_t lost;		/* RTOS: frames for which no buffer was EMPTY */
	uint32_t attached;	/* Linux: 1 while it takes frames */
	uint32_t shown;		/* Linux: number of the frame on the screen */
	uint32_t reserved[6];
	struct rtos_buffer buffer[RTOS_BUFFERS_MAX];
};

/*
 * What the other side reads only after this, or wrote before it. The memory is
 * not cached, so ordering is all there is to do.
 */
static inline uint32_t rtos_load(const uint32_t *field)
{
	return __atomic_load_n(field, __ATOMIC_ACQUIRE);
}

static inline void rtos_store(uint32_t *field, uint32_t value)
{
	__atomic_store_n(field, value, __ATOMIC_RELEASE);
}

/* FNV-1a over words: no single changed word escapes it. */
static inline uint32_t rtos_checksum(const void *frame, size_t size)
{
	const uint32_t *word = frame, *end = word + size / sizeof(*word);
	uint32_t sum = 0x811c9dc5;

	while (word < end)
		sum = (sum ^ *word++) * 0x01000193;
	return sum;
}

#endif
