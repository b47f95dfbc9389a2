// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's part of physical-truth.sh.
 *
 * For each kind of memory: put the bytes of the file "before" into it, export
 * it, let the mock importer map it, and write where a device would find it to
 * KIND.segments, a line "ADDRESS LENGTH" for each segment (or "skip REASON").
 * When the host has looked there, and written the bytes of the file "after",
 * it makes KIND.go; whether they are in the memory now is told in KIND.result.
 */
#define _GNU_SOURCE
#include "vmmexp_mock_util.h"

/* As large as the files. */
#define SIZE	(2u << 20)

/* How long the host may take to look. */
#define WAIT_MS	60000

struct kind {
	const char *name;
	void *(*get)(size_t len);
	size_t cut;		/* bytes not exported, at both ends */
	const char *config;
	int runs;		/* physically contiguous ones; 0: as it comes */
};

static const struct kind kinds[] = {
	{ .name = "anon", .get = mock_mem_anon },
	{ .name = "unaligned", .get = mock_mem_anon, .cut = 1111 },
	{ .name = "memfd", .get = mock_mem_memfd },
	{ .name = "thp", .get = mock_mem_thp, .config = "CONFIG_TRANSPARENT_HUGEPAGE",
	  .runs = 1 },
	{ .name = "hugetlb", .get = mock_mem_hugetlb, .config = "CONFIG_HUGETLBFS", .runs = 1 },
	{}
};

/* Put a file there whole: the host looks at it as soon as it has its name. */
static int publish(const char *kind, const char *what, const char *text)
{
	char path[64], hidden[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s.%s", kind, what);
	snprintf(hidden, sizeof(hidden), "%s.%s.new", kind, what);
	file = fopen(hidden, "we");
	if (!file || fputs(text, file) < 0 || vmm_close_whole(file))
		return -EIO;
	return rename(hidden, path) ? -errno : 0;
}

static int read_all(const char *path, char *to)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (done < SIZE) {
		ssize_t n = read(fd, to + done, SIZE - done);

		if (n <= 0)
			return -EIO;
		done += n;
	}
	close(fd);
	return 0;
}

static int check(int dev, const struct kind *kind, char *file, char *text, size_t text_size)
{
	const char *lacks = kind->config ? vmm_not_in_kernel(kind->config) : NULL;
	struct vmmexp_mock_segment *segments;
	int mock, map, nr, i, ms, ret;
	struct vmmexp_export ex;
	char path[64], *mem;
	size_t at = 0, n;

	if (lacks) {
		snprintf(text, text_size, "skip %s\n", lacks);
		return publish(kind->name, "segments", text);
	}
	mem = kind->get(SIZE);
	if (!mem)
		return -ENOMEM;
	ret = read_all("before", mem);
	if (ret)
		return ret;
	ret = vmm_export(dev, mem + kind->cut, SIZE - 2 * kind->cut,
			 kind->cut ? VMMEXP_EXPORT_UNALIGNED : 0, &ex);
	if (ret)
		return ret;
	if (ex.size != SIZE || ex.data_offset != kind->cut)
		return -EPROTO;
	mock = mock_open();
	map = mock_map(mock, mock_attach(mock, ex.fd, 0), VMMEXP_MOCK_BIDIRECTIONAL);
	if (map < 0)
		return map;
	nr = mock_segments(mock, map, &segments);
	if (nr < 0)
		return nr;
	/* Else this is not the kind of memory that it is called. */
	if (kind->runs && nr != kind->runs)
		return -EDOM;
	for (i = 0; i < nr; i++) {
		at += snprintf(text + at, text_size - at, "%llu %llu\n",
			       (unsigned long long)segments[i].dma_address,
			       (unsigned long long)segments[i].dma_length);
		if (at >= text_size)
			return -E2BIG;
	}
	free(segments);
	ret = publish(kind->name, "segments", text);
	if (ret)
		return ret;

	snprintf(path, sizeof(path), "%s.go", kind->name);
	for (ms = 0; access(path, F_OK); ms += 50) {
		if (ms > WAIT_MS)
			return -ETIMEDOUT;
		vmm_msleep(50);
	}
	ret = read_all("after", file);
	if (ret)
		return ret;
	for (n = 0; n < SIZE && mem[n] == file[n]; n++)
		;
	if (n == SIZE)
		snprintf(text, text_size, "same\n");
	else
		snprintf(text, text_size, "byte %zu differs\n", n);
	close(mock);
	close(ex.fd);
	munmap(mem, SIZE);
	return publish(kind->name, "result", text);
}

int main(void)
{
	size_t text_size = SIZE / vmm_page_size() * 48;
	char *file = malloc(SIZE), *text = malloc(text_size);
	const struct kind *kind;
	int dev = vmm_open(), ret;

	if (!file || !text || dev < 0) {
		fprintf(stderr, "no memory, or no vmmexp\n");
		return 1;
	}
	for (kind = kinds; kind->name; kind++) {
		ret = check(dev, kind, file, text, text_size);
		if (ret) {
			fprintf(stderr, "%s: %s\n", kind->name, strerror(-ret));
			return 1;
		}
	}
	return 0;
}
