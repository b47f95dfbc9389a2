// SPDX-License-Identifier: GPL-2.0-only
/*
 * Are these pictures of a screen frames of the RTOS, pixel by pixel?
 *
 *   screen-check PICTURE.ppm...
 *
 * Prints the number of the frame and the name of each picture that is one,
 * complains about the others and fails if there are any.
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "picture.h"

static uint32_t *read_ppm(const char *path, unsigned int *width, unsigned int *height)
{
	FILE *file = fopen(path, "rb");
	unsigned int maximum, i;
	unsigned char rgb[3];
	uint32_t *pixels;

	if (!file)
		err(1, "%s", path);
	if (fscanf(file, "P6 %u %u %u", width, height, &maximum) != 3 || fgetc(file) == EOF ||
	    maximum != 255 || *width < 64 || *width > 4096 || *height < 64 || *height > 4096)
		errx(1, "%s is not the kind of picture that QEMU writes", path);
	pixels = malloc(*width * *height * sizeof(*pixels));
	if (!pixels)
		err(1, "%s", path);
	for (i = 0; i < *width * *height; i++) {
		if (fread(rgb, sizeof(rgb), 1, file) != 1)
			errx(1, "%s is cut short", path);
		pixels[i] = rgb[0] << 16 | rgb[1] << 8 | rgb[2];
	}
	if (fgetc(file) != EOF)
		errx(1, "%s is too long", path);
	fclose(file);
	return pixels;
}

static int check(const char *path)
{
	unsigned int width, height, wrong = 0, first = 0, i;
	uint32_t *seen, *wanted, frame;

	seen = read_ppm(path, &width, &height);
	wanted = malloc(width * height * sizeof(*wanted));
	if (!wanted)
		err(1, "%s", path);
	frame = picture_number(seen, width, height, width * sizeof(*seen));
	picture_draw(wanted, width, height, width * sizeof(*wanted), frame);
	for (i = width * height; i--;) {
		if (seen[i] == wanted[i])
			continue;
		wrong++;
		first = i;
	}
	free(seen);
	free(wanted);
	/* Frames are numbered from 1; a dark screen reads as 0. */
	if (!frame) {
		warnx("%s shows no frame", path);
		return 1;
	}
	if (wrong) {
		warnx("%s is not frame %u: %u pixels differ, the first at %u,%u", path, frame,
		      wrong, first % width, first / width);
		return 1;
	}
	printf("%u %s\n", frame, path);
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0, i;

	for (i = 1; i < argc; i++)
		failed |= check(argv[i]);
	return failed;
}
