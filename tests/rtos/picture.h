/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The moving picture that the RTOS draws. A frame follows from its number
 * alone, and the number can be read from the frame: whoever finds a frame on a
 * screen can tell which one it is and what each pixel must be.
 */
#ifndef PICTURE_H
#define PICTURE_H

#include <stddef.h>
#include <stdint.h>

/* Draw frame number @frame, 0x00rrggbb a pixel. */
void picture_draw(uint32_t *pixels, unsigned int width, unsigned int height, size_t stride,
		  uint32_t frame);

/* The number of the frame that these pixels are, 0 if they are none. */
uint32_t picture_number(const uint32_t *pixels, unsigned int width, unsigned int height,
			size_t stride);

#endif
