// SPDX-License-Identifier: GPL-2.0-only
/*
 * The other core of the chip: an RTOS that draws frames into its carve-out.
 *
 *   rtos-core --memory FILE --ram BASE --frames BASE,SIZE --mailbox BASE,SIZE
 *             [--size WIDTHxHEIGHT] [--buffers N] [--fps N]
 *
 * FILE is the machine's memory as QEMU shares it, BASE of --ram the physical
 * address of its first byte. All this program knows of the machine are physical
 * addresses, and it gets no help from Linux: it shares DDR, nothing else.
 *
 * It is told what to do on standard input, one word a line:
 *
 *   step     draw one more frame as soon as there is an empty buffer
 *   run      draw at the given pace, wait while no buffer is empty
 *   camera   the same, but a frame that finds no empty buffer is lost
 *   stop     no more frames
 *   tear     draw into the next frame after Linux has it: a bug, on purpose
 *   off      as if the core was switched off; Linux sees it in the mailbox
 *   on       and on again
 *   quit     print the totals and end, as when the input ends
 *
 * and says on standard output what it does: "on", "drawn N", "lost N" (the Nth),
 * "stopped", "torn N" (of "tear"), and what it sees of Linux: "attached",
 * "shown N", "detached".
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "picture.h"
#include "rtos-mailbox.h"

#define PIXEL_XRGB8888	0x34325258	/* "XR24" */
#define PAGE		4096u
#define NONE		UINT32_MAX

struct region {
	uint64_t base, size;
};

enum pace { STOPPED, RUNNING, CAMERA };

struct core {
	struct rtos_mailbox *mailbox;
	char *frames;
	size_t buffer_size;
	uint32_t width, height, nr_buffers, fps;

	enum pace pace;
	unsigned int steps;		/* frames asked for one by one */
	uint64_t due;			/* when the next frame is, ns */
	uint32_t frame;			/* number of the next frame */
	uint32_t attached, shown;	/* what was reported last */
	bool tear;			/* the next frame ... */
	uint32_t torn_frame;		/* ... which is this, once drawn */
	uint32_t torn_buffer;

	uint32_t drawn, lost, torn;
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000000000) + ts.tv_nsec;
}

/* A region's physical addresses, as this core's bus has them. */
static void *map_physical(int memory, uint64_t ram, const struct region *region, const char *what)
{
	struct stat st;
	void *address;

	if (fstat(memory, &st))
		err(1, "the memory");
	if (region->base < ram || region->base % PAGE || !region->size ||
	    region->base - ram + region->size > (uint64_t)st.st_size)
		errx(1, "there is no memory for the %s at %#llx", what,
		     (unsigned long long)region->base);
	address = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED, memory,
		       region->base - ram);
	if (address == MAP_FAILED)
		err(1, "mapping the %s", what);
	return address;
}

static void switch_on(struct core *core)
{
	struct rtos_mailbox *mailbox = core->mailbox;
	uint32_t i;

	rtos_store(&mailbox->magic, 0);
	memset((char *)mailbox + sizeof(mailbox->magic), 0,
	       sizeof(*mailbox) - sizeof(mailbox->magic));
	mailbox->version = RTOS_VERSION;
	mailbox->width = core->width;
	mailbox->height = core->height;
	mailbox->stride = core->width * sizeof(uint32_t);
	mailbox->format = PIXEL_XRGB8888;
	mailbox->nr_buffers = core->nr_buffers;
	for (i = 0; i < core->nr_buffers; i++)
		mailbox->buffer[i].offset = i * core->buffer_size;
	core->attached = 0;
	core->shown = 0;
	core->torn_frame = NONE;
	rtos_store(&mailbox->magic, RTOS_MAGIC);
	puts("on");
}

static uint32_t empty_buffer(const struct core *core)
{
	uint32_t i;

	for (i = 0; i < core->nr_buffers; i++)
		if (rtos_load(&core->mailbox->buffer[i].state) == RTOS_EMPTY)
			return i;
	return NONE;
}

/* Draw the next frame and hand it to Linux; false if there is no room for it. */
static bool draw(struct core *core)
{
	uint32_t i = empty_buffer(core);
	struct rtos_buffer *buffer;
	uint32_t *pixels;

	if (i == NONE)
		return false;
	buffer = &core->mailbox->buffer[i];
	pixels = (uint32_t *)(core->frames + i * core->buffer_size);
	picture_draw(pixels, core->width, core->height, core->width * sizeof(*pixels),
		     core->frame);
	buffer->frame = core->frame;
	buffer->checksum = rtos_checksum(pixels, core->width * core->height * sizeof(*pixels));
	rtos_store(&buffer->state, RTOS_FULL);
	printf("drawn %u\n", core->frame);
	if (core->tear) {
		core->tear = false;
		core->torn_frame = core->frame;
		core->torn_buffer = i;
	}
	core->drawn++;
	core->frame++;
	return true;
}

static void draw_what_is_due(struct core *core)
{
	uint64_t period = UINT64_C(1000000000) / core->fps, time;

	if (rtos_load(&core->mailbox->magic) != RTOS_MAGIC)
		return;
	if (core->steps && draw(core))
		core->steps--;
	time = now();
	if (core->pace == STOPPED || time < core->due)
		return;
	if (!draw(core)) {
		if (core->pace == RUNNING)
			return;
		core->lost++;
		core->frame++;
		rtos_store(&core->mailbox->lost, core->lost);
		printf("lost %u\n", core->lost);
	}
	/* Late is late: nobody wants several frames at once afterwards. */
	core->due = core->due + period > time ? core->due + period : time + period;
}

static void watch(struct core *core)
{
	uint32_t attached = rtos_load(&core->mailbox->attached);
	uint32_t shown = rtos_load(&core->mailbox->shown);

	if (attached != core->attached) {
		core->attached = attached;
		puts(attached ? "attached" : "detached");
	}
	if (shown == core->shown)
		return;
	core->shown = shown;
	if (shown == core->torn_frame) {
		memset(core->frames + core->torn_buffer * core->buffer_size + core->buffer_size / 2,
		       0x55, core->width);
		core->torn_frame = NONE;
		core->torn++;
		printf("torn %u\n", shown);
	}
	if (shown)
		printf("shown %u\n", shown);
}

/* False when that was the last command. */
static bool obey(struct core *core, const char *word)
{
	if (!strcmp(word, "quit"))
		return false;
	core->due = now();
	if (!strcmp(word, "step")) {
		core->pace = STOPPED;
		core->steps++;
	} else if (!strcmp(word, "run")) {
		core->pace = RUNNING;
	} else if (!strcmp(word, "camera")) {
		core->pace = CAMERA;
	} else if (!strcmp(word, "stop")) {
		core->pace = STOPPED;
		core->steps = 0;
		puts("stopped");
	} else if (!strcmp(word, "tear")) {
		core->tear = true;
	} else if (!strcmp(word, "off")) {
		core->pace = STOPPED;
		core->steps = 0;
		rtos_store(&core->mailbox->magic, 0);
	} else if (!strcmp(word, "on")) {
		switch_on(core);
	} else {
		errx(1, "\"%s\"?", word);
	}
	return true;
}

/* What there is on standard input; false when it is over. */
static bool read_commands(struct core *core)
{
	static char line[256];
	static size_t have;
	char *end;
	ssize_t got = read(STDIN_FILENO, line + have, sizeof(line) - 1 - have);

	if (got < 0 && errno != EINTR && errno != EAGAIN)
		err(1, "standard input");
	if (!got)
		return false;
	if (got > 0)
		have += got;
	line[have] = 0;
	while ((end = strchr(line, '\n'))) {
		*end = 0;
		if (*line && !obey(core, line))
			return false;
		have -= end + 1 - line;
		memmove(line, end + 1, have + 1);
	}
	if (have == sizeof(line) - 1)
		errx(1, "no command is that long");
	return true;
}

static struct region parse_region(const char *text)
{
	struct region region;
	char *end;

	region.base = strtoull(text, &end, 0);
	if (*end != ',')
		errx(2, "\"%s\" is not BASE,SIZE", text);
	region.size = strtoull(end + 1, &end, 0);
	if (*end)
		errx(2, "\"%s\" is not BASE,SIZE", text);
	return region;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "memory", required_argument, NULL, 'm' },
		{ "ram", required_argument, NULL, 'r' },
		{ "frames", required_argument, NULL, 'f' },
		{ "mailbox", required_argument, NULL, 'c' },
		{ "size", required_argument, NULL, 's' },
		{ "buffers", required_argument, NULL, 'b' },
		{ "fps", required_argument, NULL, 'p' },
		{}
	};
	struct core core = {
		.width = 640, .height = 480, .nr_buffers = 2, .fps = 30, .frame = 1,
		.torn_frame = NONE,
	};
	struct region frames = {}, mailbox = {};
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	const char *memory = NULL;
	uint64_t ram = 0;
	int opt, fd;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'm':
			memory = optarg;
			break;
		case 'r':
			ram = strtoull(optarg, NULL, 0);
			break;
		case 'f':
			frames = parse_region(optarg);
			break;
		case 'c':
			mailbox = parse_region(optarg);
			break;
		case 's':
			if (sscanf(optarg, "%ux%u", &core.width, &core.height) != 2)
				errx(2, "\"%s\" is not WIDTHxHEIGHT", optarg);
			break;
		case 'b':
			core.nr_buffers = strtoul(optarg, NULL, 0);
			break;
		case 'p':
			core.fps = strtoul(optarg, NULL, 0);
			break;
		default:
			return 2;
		}
	}
	if (!memory || optind != argc)
		errx(2, "usage: --memory FILE --ram BASE --frames BASE,SIZE --mailbox BASE,SIZE");
	if (core.width < 64 || core.width > 4096 || core.height < 64 || core.height > 4096)
		errx(2, "a frame of %ux%u cannot be drawn", core.width, core.height);
	core.buffer_size = (core.width * core.height * sizeof(uint32_t) + PAGE - 1) / PAGE * PAGE;
	if (!core.fps || !core.nr_buffers || core.nr_buffers > RTOS_BUFFERS_MAX ||
	    core.nr_buffers * core.buffer_size > frames.size ||
	    sizeof(*core.mailbox) > mailbox.size)
		errx(2, "%u buffers of %zu bytes and a mailbox do not fit", core.nr_buffers,
		     core.buffer_size);
	setvbuf(stdout, NULL, _IOLBF, 0);

	fd = open(memory, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", memory);
	core.frames = map_physical(fd, ram, &frames, "frames");
	core.mailbox = map_physical(fd, ram, &mailbox, "mailbox");

	switch_on(&core);
	for (;;) {
		if (poll(&input, 1, 1) > 0 && !read_commands(&core))
			break;
		draw_what_is_due(&core);
		watch(&core);
	}
	rtos_store(&core.mailbox->magic, 0);
	printf("total drawn %u lost %u torn %u\n", core.drawn, core.lost, core.torn);
	return 0;
}
