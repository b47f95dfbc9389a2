// SPDX-License-Identifier: GPL-2.0-only
/*
 * Colour bars that scroll, a grey ramp that scrolls the other way, a box that
 * bounces over them, the number of the frame in large digits, and the same
 * number in black and white cells along the lower edge.
 */
#include "picture.h"

#define BLACK	0x000000u
#define WHITE	0xffffffu
#define PLATE	0x202020u

#define CELLS	32u	/* one for each bit of the number */
#define STRIP	16u	/* their height */
#define DIGITS	6u

static const uint32_t bars[] = {
	0xc0c0c0, 0xc0c000, 0x00c0c0, 0x00c000, 0xc000c0, 0xc00000, 0x0000c0, 0x404040,
};

#define NR_BARS (sizeof(bars) / sizeof(*bars))

/* Five columns, seven rows; bit 4 is the left column. */
static const uint8_t font[10][7] = {
	{ 0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e },
	{ 0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e },
	{ 0x0e, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1f },
	{ 0x0e, 0x11, 0x01, 0x06, 0x01, 0x11, 0x0e },
	{ 0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02 },
	{ 0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e },
	{ 0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e },
	{ 0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08 },
	{ 0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e },
	{ 0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c },
};

struct canvas {
	uint32_t *pixels;
	unsigned int width, height;
	size_t stride;
};

static uint32_t *row(const struct canvas *canvas, unsigned int y)
{
	return (uint32_t *)((char *)canvas->pixels + y * canvas->stride);
}

static void fill(const struct canvas *canvas, unsigned int x, unsigned int y, unsigned int width,
		 unsigned int height, uint32_t colour)
{
	unsigned int i, j;

	for (j = y; j < y + height && j < canvas->height; j++)
		for (i = x; i < x + width && i < canvas->width; i++)
			row(canvas, j)[i] = colour;
}

/* To and fro between 0 and @span. */
static unsigned int bounce(uint32_t step, unsigned int span)
{
	step %= 2 * span;
	return step < span ? step : 2 * span - step;
}

static void draw_background(const struct canvas *canvas, uint32_t frame)
{
	unsigned int ramp = canvas->height * 3 / 4, x, y;
	unsigned int bar = canvas->width / NR_BARS;

	for (x = 0; x < canvas->width; x++)
		row(canvas, 0)[x] = bars[(x + 4 * frame) / bar % NR_BARS];
	for (x = 0; x < canvas->width; x++)
		row(canvas, ramp)[x] = (x - 2 * frame) % 256 * 0x010101u;
	for (y = 1; y < canvas->height; y++) {
		if (y == ramp)
			continue;
		for (x = 0; x < canvas->width; x++)
			row(canvas, y)[x] = row(canvas, y < ramp ? 0 : ramp)[x];
	}
}

static void draw_number(const struct canvas *canvas, uint32_t frame)
{
	unsigned int scale = canvas->width / (DIGITS * 6 + 12);
	unsigned int left = (canvas->width - scale * (DIGITS * 6 + 1)) / 2;
	unsigned int top = canvas->height / 3;
	unsigned int i, column, line;

	fill(canvas, left, top, scale * (DIGITS * 6 + 1), scale * 9, PLATE);
	for (i = 0; i < DIGITS; i++, frame /= 10)
		for (line = 0; line < 7; line++)
			for (column = 0; column < 5; column++)
				if (font[frame % 10][line] & (0x10 >> column))
					fill(canvas,
					     left + scale * (1 + 6 * (DIGITS - 1 - i) + column),
					     top + scale * (1 + line), scale, scale, WHITE);
}

void picture_draw(uint32_t *pixels, unsigned int width, unsigned int height, size_t stride,
		  uint32_t frame)
{
	const struct canvas canvas = { pixels, width, height, stride };
	unsigned int box = width / 10, cell = width / CELLS, i;

	draw_background(&canvas, frame);
	fill(&canvas, bounce(7 * frame, width - box), bounce(5 * frame, height - STRIP - box),
	     box, box, WHITE);
	draw_number(&canvas, frame);
	fill(&canvas, 0, height - STRIP, width, STRIP, BLACK);
	for (i = 0; i < CELLS; i++)
		if (frame & (1u << i))
			fill(&canvas, i * cell, height - STRIP, cell, STRIP, WHITE);
}

uint32_t picture_number(const uint32_t *pixels, unsigned int width, unsigned int height,
			size_t stride)
{
	const char *line = (const char *)pixels + (height - STRIP / 2) * stride;
	unsigned int cell = width / CELLS, i;
	uint32_t frame = 0;

	for (i = 0; i < CELLS; i++)
		if ((((const uint32_t *)line)[i * cell + cell / 2] & WHITE) == WHITE)
			frame |= 1u << i;
	return frame;
}
