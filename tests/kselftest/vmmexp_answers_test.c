// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be told of buffers without having their descriptors: fdinfo of
 * /dev/vmmexp, debugfs, and the listings of dma-buf itself. All of them are
 * compared with what QUERY answers.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#include <linux/dma-buf.h>

#include "vmmexp_mock_util.h"

#define DEBUGFS		"/sys/kernel/debug/vmmexp/buffers"
#define BUFINFO		"/sys/kernel/debug/dma_buf/bufinfo"
#define SIZE		(512 * 1024)

FIXTURE(answers)
{
	long long pins;
	int dev;
	int other;		/* another open file of the device */
	size_t page;
	size_t len;
	char *mem;
	struct vmmexp_export ex;
	char *listing;		/* what was read last */
};

static long long inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : (long long)st.st_ino;
}

static int read_all(struct _test_data_answers *self, const char *path)
{
	return vmm_read_file(path, self->listing, SIZE);
}

static int read_fdinfo(struct _test_data_answers *self, int fd)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return read_all(self, path);
}

/* The line of buffer @id, up to its end; NULL if there is none. */
static const char *line_of_id(struct _test_data_answers *self, long long id)
{
	static char line[512];
	char word[48];
	const char *at;

	snprintf(word, sizeof(word), "id=%lld ", id);
	for (at = self->listing; (at = strstr(at, word)); at++)
		if (at == self->listing || at[-1] == '\n' || at[-1] == '\t')
			break;
	if (!at)
		return NULL;
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
	return line;
}

static const char *line_of(struct _test_data_answers *self, int fd)
{
	return line_of_id(self, inode(fd));
}

/* Is buffer @id off debugfs's list, or soon? It goes a moment after close(). */
static bool gone(struct _test_data_answers *self, long long id)
{
	unsigned int tries;

	for (tries = 0; tries < 100; tries++) {
		if (read_all(self, DEBUGFS))
			return false;
		if (!line_of_id(self, id))
			return true;
		vmm_msleep(20);
	}
	return false;
}

static unsigned int lines_with(struct _test_data_answers *self, const char *start)
{
	unsigned int nr = 0;
	const char *at;

	for (at = self->listing; *at; at += strcspn(at, "\n") + 1) {
		nr += !strncmp(at, start, strlen(start));
		if (!at[strcspn(at, "\n")])
			break;
	}
	return nr;
}

/* The text of field @key, quotation marks and all. "?" if there is none. */
static const char *text(const char *line, const char *key)
{
	static char value[256];
	const char *at, *end;
	char word[32];

	snprintf(word, sizeof(word), "%s=", key);
	for (at = line; at && (at = strstr(at, word)); at++)
		if (at == line || at[-1] == ' ')
			break;
	if (!at)
		return "?";
	at += strlen(word);
	end = at + strcspn(at, " ");
	if (*at == '"') {
		for (end = at + 1; *end && *end != '"'; end++)
			if (*end == '\\')
				end++;
		end++;
	}
	snprintf(value, sizeof(value), "%.*s", (int)(end - at), at);
	return value;
}

static long long number(const char *line, const char *key)
{
	const char *digits = text(line, key);
	char *end;
	long long value = strtoll(digits, &end, 10);

	return *digits && !*end ? value : -1000000;
}

/* The number after the last "@start" and blanks. */
static long long total(struct _test_data_answers *self, const char *start)
{
	const char *at = strstr(self->listing, start);

	return at ? strtoll(at + strlen(start), NULL, 10) : -1000000;
}

static const char *state_name(__u32 state)
{
	switch (state) {
	case VMMEXP_STATE_LIVE:
		return "LIVE";
	case VMMEXP_STATE_SUSPECT:
		return "SUSPECT";
	case VMMEXP_STATE_STALE:
		return "STALE";
	case VMMEXP_STATE_REVOKED:
		return "REVOKED";
	case VMMEXP_STATE_REVOKED | VMMEXP_STATE_RELEASED:
		return "REVOKED|RELEASED";
	default:
		return "no such state";
	}
}

/* fdinfo of @dev and debugfs say of @fd what QUERY does. */
static void expect_agreement(struct __test_metadata *_metadata,
			     struct _test_data_answers *self, int dev, int fd)
{
	struct vmmexp_query query;
	const char *line;
	int i;

	ASSERT_VMM_OK(vmm_query(self->dev, fd, &query), &query);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, i ? read_all(self, DEBUGFS) : read_fdinfo(self, dev));
		line = line_of(self, fd);
		ASSERT_NE(NULL, line) TH_LOG("%s", self->listing);
		EXPECT_EQ((long long)query.size, number(line, "size")) TH_LOG("%s", line);
		EXPECT_EQ((long long)query.nr_segs, number(line, "segs"));
		EXPECT_EQ((long long)query.attachments, number(line, "attachments"));
		EXPECT_EQ((long long)query.device_mappings, number(line, "device_mappings"));
		EXPECT_EQ((long long)query.cpu_mappings, number(line, "cpu_mappings"));
		EXPECT_EQ((long long)query.kernel_mappings, number(line, "kernel_mappings"));
		EXPECT_STREQ(state_name(query.state), text(line, "state"));
	}
}

FIXTURE_SETUP(answers)
{
	self->ex.fd = -1;
	self->page = vmm_page_size();
	self->len = 16 * self->page;
	self->pins = vmm_pins();
	self->dev = vmm_open();
	ASSERT_LE(0, self->dev);
	self->other = vmm_open();
	ASSERT_LE(0, self->other);
	self->mem = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	memset(self->mem, 1, self->len);
	self->listing = malloc(SIZE);
	ASSERT_NE(NULL, self->listing);
}

FIXTURE_TEARDOWN(answers)
{
	long long id = inode(self->ex.fd);

	/* So that the next test's totals are its own. */
	if (self->ex.fd >= 0) {
		close(self->ex.fd);
		EXPECT_TRUE(gone(self, id));
	}
	free(self->listing);
	munmap(self->mem, self->len);
	close(self->other);
	close(self->dev);
	EXPECT_TRUE(vmm_pins_settle(self->pins));
}

TEST_F(answers, agree_with_query)
{
	int mock = mock_open(), attachment, map, vmap;
	void *addr;

	ASSERT_LE(0, mock);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	attachment = mock_attach(mock, self->ex.fd, 0);
	ASSERT_LE(0, attachment);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	map = mock_map(mock, attachment, VMMEXP_MOCK_TO_DEVICE);
	ASSERT_LE(0, map);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	vmap = mock_vmap(mock, self->ex.fd, NULL);
	ASSERT_LE(0, vmap);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	addr = vmm_map(self->ex.fd, 0, self->len, PROT_READ);
	ASSERT_NE(NULL, addr);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	/* Not only that they agree: that is what there is by now. */
	EXPECT_EQ(1, number(line_of(self, self->ex.fd), "attachments"));
	EXPECT_EQ(1, number(line_of(self, self->ex.fd), "device_mappings"));
	EXPECT_EQ(1, number(line_of(self, self->ex.fd), "cpu_mappings"));
	EXPECT_EQ(1, number(line_of(self, self->ex.fd), "kernel_mappings"));
	munmap(addr, self->len);
	close(mock);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	EXPECT_EQ(0, number(line_of(self, self->ex.fd), "attachments"));
	EXPECT_EQ(0, number(line_of(self, self->ex.fd), "device_mappings"));
	EXPECT_EQ(0, number(line_of(self, self->ex.fd), "cpu_mappings"));
	EXPECT_EQ(0, number(line_of(self, self->ex.fd), "kernel_mappings"));
}

TEST_F(answers, agree_on_the_state)
{
	struct vmmexp_revoke revoke = {};
	struct vmmexp_export ex;
	const char *line;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	EXPECT_STREQ("LIVE", text(line_of(self, self->ex.fd), "state"));

	/* Read before QUERY settles it; whoever looks settles nothing. */
	ASSERT_EQ(0, madvise(self->mem, self->page, MADV_DONTNEED));
	ASSERT_EQ(0, read_fdinfo(self, self->dev));
	EXPECT_STREQ("SUSPECT", text(line_of(self, self->ex.fd), "state"));
	ASSERT_EQ(0, read_all(self, DEBUGFS));
	EXPECT_STREQ("SUSPECT", text(line_of(self, self->ex.fd), "state"));
	vmm_poke(self->mem, 1);
	expect_agreement(_metadata, self, self->dev, self->ex.fd);
	EXPECT_STREQ("STALE", text(line_of(self, self->ex.fd), "state"));

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &ex), &ex);
	revoke.fd = ex.fd;
	ASSERT_VMM_OK(vmm_ioctl(self->dev, VMMEXP_IOC_REVOKE, &revoke), &revoke);
	/* Only the other one's pages are left. */
	ASSERT_TRUE(vmm_pins_settle(self->pins + self->len / self->page));
	vmm_msleep(100);
	expect_agreement(_metadata, self, self->dev, ex.fd);
	line = line_of(self, ex.fd);
	EXPECT_STREQ("REVOKED|RELEASED", text(line, "state"));
	EXPECT_EQ(0, number(line, "charged"));
	close(ex.fd);
}

/* fdinfo tells of the exports of its file, and of no others. */
TEST_F(answers, fdinfo_is_of_one_file)
{
	struct vmmexp_export first, second, foreign;
	long long ids[2];
	int copy;

	ASSERT_EQ(0, read_fdinfo(self, self->dev));
	EXPECT_EQ(0, total(self, "vmmexp-buffers:\t"));
	EXPECT_EQ(0, lines_with(self, "vmmexp-buffer:"));
	EXPECT_EQ(0, lines_with(self, "vmmexp-kind:"));

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &first), &first);
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->page, VMMEXP_EXPORT_READ_ONLY,
				 &second), &second);
	ASSERT_VMM_OK(vmm_export(self->other, self->mem, self->page, 0, &foreign), &foreign);

	/* Through whatever descriptor the file is looked at. */
	copy = fcntl(self->dev, F_DUPFD_CLOEXEC, 0);
	ASSERT_LE(0, copy);
	ASSERT_EQ(0, read_fdinfo(self, copy));
	close(copy);
	EXPECT_EQ(2, total(self, "vmmexp-buffers:\t"));
	EXPECT_EQ((long long)(self->len + self->page) / 1024, total(self, "vmmexp-size:\t"));
	EXPECT_EQ(1, lines_with(self, "vmmexp-kind:\tANON buffers=2 "));
	EXPECT_EQ(1, lines_with(self, "vmmexp-kind:"));
	EXPECT_EQ(2, lines_with(self, "vmmexp-buffer:"));
	EXPECT_NE(NULL, line_of(self, first.fd));
	EXPECT_NE(NULL, line_of(self, second.fd));
	EXPECT_STREQ("READ_ONLY", text(line_of(self, second.fd), "flags"));
	EXPECT_STREQ("-", text(line_of(self, first.fd), "flags"));
	EXPECT_EQ(NULL, line_of(self, foreign.fd));

	ASSERT_EQ(0, read_fdinfo(self, self->other));
	EXPECT_EQ(1, total(self, "vmmexp-buffers:\t"));
	EXPECT_NE(NULL, line_of(self, foreign.fd));

	ids[0] = inode(first.fd);
	ids[1] = inode(foreign.fd);
	close(first.fd);
	close(foreign.fd);
	ASSERT_TRUE(gone(self, ids[0]));
	ASSERT_TRUE(gone(self, ids[1]));
	ASSERT_EQ(0, read_fdinfo(self, self->dev));
	EXPECT_EQ(1, total(self, "vmmexp-buffers:\t"));
	ASSERT_EQ(0, read_fdinfo(self, self->other));
	EXPECT_EQ(0, total(self, "vmmexp-buffers:\t"));
	close(second.fd);
}

/* Totals are of all buffers, the list is not for ever. */
TEST_F(answers, fdinfo_is_bounded)
{
	struct vmmexp_export ex[70];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ex); i++)
		ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->page, 0, &ex[i]), &ex[i]);
	ASSERT_EQ(0, read_fdinfo(self, self->dev));
	EXPECT_EQ(70, total(self, "vmmexp-buffers:\t"));
	EXPECT_EQ((long long)(70 * self->page / 1024), total(self, "vmmexp-size:\t"));
	EXPECT_EQ(64, lines_with(self, "vmmexp-buffer:\tid="));
	EXPECT_EQ(1, lines_with(self, "vmmexp-buffer:\t... and 6 more"));
	/* debugfs has room for more. */
	ASSERT_EQ(0, read_all(self, DEBUGFS));
	for (i = 0; i < ARRAY_SIZE(ex); i++)
		EXPECT_NE(NULL, line_of(self, ex[i].fd)) TH_LOG("buffer %u", i);
	for (i = 0; i < ARRAY_SIZE(ex); i++)
		close(ex[i].fd);
}

/* What is charged for a file's buffers is what INFO says of their user. */
TEST_F(answers, fdinfo_tells_the_charge)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	const struct rlimit limit = { .rlim_cur = 64 << 20, .rlim_max = 64 << 20 };
	struct vmmexp_info info;

	ASSERT_EQ(0, syscall(__NR_capget, &header, data));
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	ASSERT_EQ(0, syscall(__NR_capset, &header, data));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	ASSERT_VMM_OK(vmm_info(self->dev, &info), &info);
	EXPECT_LE(self->len, info.charged);
	ASSERT_EQ(0, read_fdinfo(self, self->dev));
	EXPECT_EQ((long long)info.charged / 1024, total(self, "vmmexp-charged:\t"));
	EXPECT_EQ((long long)info.charged, number(line_of(self, self->ex.fd), "charged"));
}

static int as_nobody(void)
{
	if (setresuid(65534, 65534, 65534))
		return -1;
	return open(DEBUGFS, O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

TEST_F(answers, debugfs_is_for_root)
{
	struct stat st;
	int status;
	pid_t pid;

	ASSERT_EQ(0, stat(DEBUGFS, &st));
	EXPECT_EQ(0400, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(as_nobody());
	ASSERT_EQ(0, vmm_wait(pid, &status, 60));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(EACCES, WEXITSTATUS(status));
}

TEST_F(answers, debugfs_tells_who_exported)
{
	struct vmmexp_range range = vmm_range(self->mem, self->len);
	long long buffers, pid, id;
	int sockets[2], status, fd;
	const char *line;
	char want[64];
	pid_t child;

	ASSERT_EQ(0, read_all(self, DEBUGFS));
	buffers = total(self, "total buffers=");
	ASSERT_LE(0, buffers);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct vmmexp_export ex = {
			.ranges = (uintptr_t)&range,
			.nr_ranges = 1,
			.range_size = sizeof(range),
			.name = "camera front",
		};

		vmm_write_file("/proc/self/comm", "somebody");
		if (setresuid(1234, 1234, 1234))
			_exit(1);
		if (vmm_export_call(self->dev, &ex))
			_exit(2);
		_exit(vmm_send_fd(sockets[1], ex.fd) ? 3 : 0);
	}
	ASSERT_EQ(0, vmm_wait(child, &status, 60));
	ASSERT_EQ(0, status);
	fd = vmm_recv_fd(sockets[0]);
	ASSERT_LE(0, fd);
	close(sockets[0]);
	close(sockets[1]);

	/* The process is gone; that it was the one is known. */
	ASSERT_EQ(0, read_all(self, DEBUGFS));
	EXPECT_EQ(buffers + 1, total(self, "total buffers="));
	line = line_of(self, fd);
	ASSERT_NE(NULL, line) TH_LOG("%s", self->listing);
	pid = number(line, "pid");
	EXPECT_EQ(child, pid);
	EXPECT_EQ(1234, number(line, "uid"));
	EXPECT_STREQ("\"somebody\"", text(line, "comm"));
	EXPECT_STREQ("\"camera front\"", text(line, "name"));
	EXPECT_STREQ("ANON", text(line, "kinds"));

	/* And dma-buf's own listing, by inode number, exporter and name. */
	ASSERT_EQ(0, read_all(self, BUFINFO));
	snprintf(want, sizeof(want), "\tvmmexp\t%08lld\tcamera front", inode(fd));
	EXPECT_NE(NULL, strstr(self->listing, want)) TH_LOG("%s in\n%s", want, self->listing);
	id = inode(fd);
	close(fd);
	EXPECT_TRUE(gone(self, id));
	EXPECT_EQ(buffers, total(self, "total buffers="));
}

/* A buffer outlives the file it was exported through, and is listed as before. */
TEST_F(answers, debugfs_has_orphans)
{
	int dev = vmm_open();
	long long id;

	ASSERT_LE(0, dev);
	ASSERT_VMM_OK(vmm_export(dev, self->mem, self->len, 0, &self->ex), &self->ex);
	close(dev);
	id = inode(self->ex.fd);
	ASSERT_EQ(0, read_all(self, DEBUGFS));
	EXPECT_NE(NULL, line_of_id(self, id));
	close(self->ex.fd);
	self->ex.fd = -1;
	EXPECT_TRUE(gone(self, id));
}

TEST_F(answers, debugfs_counts_kinds)
{
	int memfd = memfd_create("answers", MFD_CLOEXEC);
	long long shmem, anon, shmem_kib;
	struct vmmexp_range ranges[2];
	char *shared;

	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, self->page));
	shared = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_EQ(0, read_all(self, DEBUGFS));
	shmem = total(self, "kind SHMEM buffers=");
	anon = total(self, "kind ANON buffers=");
	shmem_kib = number(strstr(self->listing, "kind SHMEM "), "size");
	ASSERT_LE(0, shmem);
	ASSERT_LE(0, anon);
	ranges[0] = vmm_range(self->mem, self->page);
	ranges[1] = vmm_range(shared, self->page);
	ASSERT_VMM_OK(vmm_export_ranges(self->dev, ranges, 2, 0, &self->ex), &self->ex);
	ASSERT_EQ(0, read_all(self, DEBUGFS));
	EXPECT_EQ(shmem + 1, total(self, "kind SHMEM buffers="));
	EXPECT_EQ(anon + 1, total(self, "kind ANON buffers="));
	EXPECT_EQ(shmem_kib + (long long)(2 * self->page / 1024),
		  number(strstr(self->listing, "kind SHMEM "), "size"));
	EXPECT_STREQ("ANON|SHMEM", text(line_of(self, self->ex.fd), "kinds"));
	munmap(shared, self->page);
	close(memfd);
}

/* A name is what somebody chose: it makes no lines, and no fields. */
TEST_F(answers, names_are_quoted)
{
	struct vmmexp_range range = vmm_range(self->mem, self->page);
	unsigned int lines;
	int i;

	ASSERT_EQ(0, read_all(self, DEBUGFS));
	lines = lines_with(self, "");
	self->ex = (struct vmmexp_export) {
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
		.range_size = sizeof(range),
		.name = "a\" b=\\\n\x1b[\xc3\xa4",
	};
	ASSERT_VMM_OK(vmm_export_call(self->dev, &self->ex), &self->ex);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, i ? read_all(self, DEBUGFS) : read_fdinfo(self, self->dev));
		EXPECT_STREQ("\"a\\\" b=\\\\\\x0a\\x1b[\\xc3\\xa4\"",
			     text(line_of(self, self->ex.fd), "name"));
	}
	EXPECT_EQ(lines + 1, lines_with(self, ""));
}

/* Is any number in @listing that of page frame @pfn, or of a byte in it? */
static bool tells(const char *listing, long long pfn, size_t page)
{
	const char *at = listing;
	char *end;

	for (;;) {
		unsigned long long frame = pfn, decimal, hex;

		at += strcspn(at, "0123456789");
		if (!*at)
			return false;
		decimal = strtoull(at, &end, 10);
		hex = strtoull(at, NULL, 16);
		if (decimal == frame || decimal / page == frame || hex == frame ||
		    hex / page == frame)
			return true;
		at = end;
	}
}

TEST_F(answers, no_address)
{
	long long pfn;
	size_t i;

	ASSERT_VMM_OK(vmm_export(self->dev, self->mem, self->len, 0, &self->ex), &self->ex);
	for (i = 0; i < self->len / self->page; i++) {
		pfn = vmm_pfn(self->mem + i * self->page);
		ASSERT_LT(0x1000, pfn);
		ASSERT_EQ(0, read_fdinfo(self, self->dev));
		EXPECT_FALSE(tells(line_of(self, self->ex.fd), pfn, self->page));
		ASSERT_EQ(0, read_all(self, DEBUGFS));
		EXPECT_FALSE(tells(line_of(self, self->ex.fd), pfn, self->page));
	}
}

TEST_HARNESS_MAIN
