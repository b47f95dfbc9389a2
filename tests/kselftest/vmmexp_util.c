// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tests of vmmexp share, see vmmexp_util.h.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <drm/drm.h>
#include <drm/drm_mode.h>

#include "vmmexp_util.h"

size_t vmm_page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

int vmm_open(void)
{
	int fd = open(VMM_DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int vmm_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

/* The errno of each reason; 0: more than one. */
static const int reason_errno[VMMEXP_REASON_EXPORT_FAILED + 1] = {
	[VMMEXP_REASON_FLAGS] = EINVAL,
	[VMMEXP_REASON_PADDING] = EINVAL,
	[VMMEXP_REASON_UNKNOWN_TAIL] = EINVAL,
	[VMMEXP_REASON_ELEMENT_SIZE] = EINVAL,
	[VMMEXP_REASON_NO_RANGES] = EINVAL,
	[VMMEXP_REASON_TOO_MANY_RANGES] = E2BIG,
	[VMMEXP_REASON_ARRAY_FAULT] = EFAULT,
	[VMMEXP_REASON_EMPTY_RANGE] = EINVAL,
	[VMMEXP_REASON_RANGE_OVERFLOW] = EINVAL,
	[VMMEXP_REASON_UNALIGNED] = EINVAL,
	[VMMEXP_REASON_TOO_BIG] = EOVERFLOW,
	[VMMEXP_REASON_NAME] = EINVAL,
	[VMMEXP_REASON_FD_FLAGS] = EINVAL,
	[VMMEXP_REASON_PHYS_BITS_VALUE] = EINVAL,
	[VMMEXP_REASON_NOT_USER] = EFAULT,
	[VMMEXP_REASON_HOLE] = EFAULT,
	[VMMEXP_REASON_NOT_READABLE] = EFAULT,
	[VMMEXP_REASON_NOT_WRITABLE] = EFAULT,
	[VMMEXP_REASON_FAULT] = EFAULT,
	[VMMEXP_REASON_PFNMAP] = EPERM,
	[VMMEXP_REASON_SECRETMEM] = EPERM,
	[VMMEXP_REASON_FSDAX] = EPERM,
	[VMMEXP_REASON_WRITABLE_FILE] = EPERM,
	[VMMEXP_REASON_EXECUTABLE] = EPERM,
	[VMMEXP_REASON_SEALED] = EPERM,
	[VMMEXP_REASON_NOT_PINNABLE] = EFAULT,
	[VMMEXP_REASON_MAX_SEGS] = EMLINK,
	[VMMEXP_REASON_PHYS_BITS] = ERANGE,
	[VMMEXP_REASON_NO_MEMORY] = ENOMEM,
	[VMMEXP_REASON_MEMLOCK] = ENOMEM,
	[VMMEXP_REASON_USER_LIMIT] = ENOMEM,
	[VMMEXP_REASON_INTERRUPTED] = EINTR,
	[VMMEXP_REASON_NO_FD] = 0,
	[VMMEXP_REASON_BAD_FD] = EBADF,
	[VMMEXP_REASON_NOT_OURS] = EBADF,
	[VMMEXP_REASON_BAD_REGION_FD] = EBADF,
	[VMMEXP_REASON_NO_REGIONS] = EOPNOTSUPP,
	[VMMEXP_REASON_REGION_ACCESS] = EACCES,
	[VMMEXP_REASON_REGION_RANGE] = EFAULT,
	[VMMEXP_REASON_REGION_CACHE] = EPERM,
	[VMMEXP_REASON_BAD_EVENT_FD] = EBADF,
	[VMMEXP_REASON_NO_EVENTS] = EOPNOTSUPP,
	[VMMEXP_REASON_SYNC_RANGE] = EINVAL,
	[VMMEXP_REASON_SYNC_DIRECTION] = EINVAL,
	[VMMEXP_REASON_READ_ONLY] = EACCES,
	[VMMEXP_REASON_REVOKED] = ENODEV,
	[VMMEXP_REASON_NOT_OWNER] = EPERM,
	[VMMEXP_REASON_NO_REVOKE] = EOPNOTSUPP,
	[VMMEXP_REASON_EXPORT_FAILED] = 0,
};

/* No answer without its reason: @ret if it has one. */
static int judge(const char *call, int ret, __u32 reason)
{
	bool right;

	if (!ret)
		right = reason == VMMEXP_REASON_NONE;
	else if (reason == VMMEXP_REASON_NO_FD)
		right = ret == -EMFILE || ret == -ENFILE;
	else
		right = reason != VMMEXP_REASON_NONE && reason <= VMMEXP_REASON_EXPORT_FAILED &&
			(!reason_errno[reason] || ret == -reason_errno[reason]);
	if (!right) {
		fprintf(stderr, "# %s: %s, but reason %u\n", call,
			ret ? strerror(-ret) : "success", reason);
		abort();
	}
	return ret;
}

int vmm_export_call(int dev, struct vmmexp_export *ex)
{
	int ret = vmm_ioctl(dev, VMMEXP_IOC_EXPORT, ex);

	return judge("EXPORT", ret, ex->reason);
}

int vmm_export_ranges(int dev, const struct vmmexp_range *ranges, unsigned int nr,
		      __u32 flags, struct vmmexp_export *ex)
{
	memset(ex, 0, sizeof(*ex));
	ex->ranges = (uintptr_t)ranges;
	ex->nr_ranges = nr;
	ex->range_size = sizeof(*ranges);
	ex->flags = flags;
	ex->fd_flags = O_CLOEXEC;
	return vmm_export_call(dev, ex);
}

struct vmmexp_range vmm_range(const void *addr, size_t len)
{
	return (struct vmmexp_range){ .start = (uintptr_t)addr, .len = len };
}

int vmm_export(int dev, const void *addr, size_t len, __u32 flags,
	       struct vmmexp_export *ex)
{
	struct vmmexp_range range = vmm_range(addr, len);

	return vmm_export_ranges(dev, &range, 1, flags, ex);
}

int vmm_sync(int dev, int fd, const struct vmmexp_sync_range *ranges,
	     unsigned int nr, __u32 flags, struct vmmexp_sync *sync)
{
	int ret;

	memset(sync, 0, sizeof(*sync));
	if (nr) {
		sync->ranges = (uintptr_t)ranges;
		sync->nr_ranges = nr;
		sync->range_size = sizeof(*ranges);
	}
	sync->fd = fd;
	sync->flags = flags;
	ret = vmm_ioctl(dev, VMMEXP_IOC_SYNC, sync);
	return judge("SYNC", ret, sync->reason);
}

int vmm_query(int dev, int fd, struct vmmexp_query *query)
{
	int ret;

	memset(query, 0, sizeof(*query));
	query->fd = fd;
	ret = vmm_ioctl(dev, VMMEXP_IOC_QUERY, query);
	return judge("QUERY", ret, query->reason);
}

int vmm_info(int dev, struct vmmexp_info *info)
{
	int ret;

	memset(info, 0, sizeof(*info));
	ret = vmm_ioctl(dev, VMMEXP_IOC_INFO, info);
	return judge("INFO", ret, info->reason);
}

int vmm_revoke(int dev, int fd, struct vmmexp_revoke *revoke)
{
	int ret;

	memset(revoke, 0, sizeof(*revoke));
	revoke->fd = fd;
	ret = vmm_ioctl(dev, VMMEXP_IOC_REVOKE, revoke);
	return judge("REVOKE", ret, revoke->reason);
}

int vmm_state(int dev, int fd)
{
	struct vmmexp_query query;
	int ret = vmm_query(dev, fd, &query);

	return ret ? ret : (int)query.state;
}

bool vmm_state_settle(int dev, int fd, __u32 state)
{
	unsigned int tries;

	for (tries = 0; tries < 100; tries++) {
		if (vmm_state(dev, fd) == (int)state)
			return true;
		vmm_msleep(50);
	}
	return false;
}

long long vmm_dmabuf_size(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);

	return size < 0 ? -errno : size;
}

void *vmm_map(int fd, off_t offset, size_t len, int prot)
{
	void *addr = mmap(NULL, len, prot, MAP_SHARED, fd, offset);

	return addr == MAP_FAILED ? NULL : addr;
}

bool vmm_fdinfo(int fd, const char *key, char *buf, size_t len)
{
	char path[64], line[256];
	size_t key_len = strlen(key);
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, key_len) || line[key_len] != ':')
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(buf, len, "%s", line + key_len + 1 + strspn(line + key_len + 1, " \t"));
		found = true;
	}
	fclose(file);
	return found;
}

int vmm_close_whole(FILE *file)
{
	int ret = fflush(file) || fsync(fileno(file)) ? -errno : 0;

	if (fclose(file) && !ret)
		ret = -errno;
	return ret;
}

/* The pattern's word number @index; a mixer with no short period. */
static __u64 pattern_word(__u64 index, __u32 seed)
{
	__u64 x = (index + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;

	x ^= x >> 29;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 32);
}

static __u8 pattern_byte(__u64 offset, __u32 seed)
{
	return pattern_word(offset / 8, seed) >> (offset % 8 * 8);
}

void vmm_fill(void *to, size_t len, __u64 offset, __u32 seed)
{
	__u8 *p = to;
	size_t i = 0;

	while (i < len) {
		/* Whole words where both the pattern and the memory allow it. */
		if (!((offset + i) % 8) && !((uintptr_t)(p + i) % 8) && len - i >= 8) {
			__u64 word = pattern_word((offset + i) / 8, seed);

			*(__u64 *)(p + i) = word;
			i += 8;
		} else {
			p[i] = pattern_byte(offset + i, seed);
			i++;
		}
	}
}

long long vmm_mismatch(const void *from, size_t len, __u64 offset,
		       __u32 seed)
{
	const __u8 *p = from;
	size_t i = 0;

	while (i < len) {
		if (!((offset + i) % 8) && !((uintptr_t)(p + i) % 8) && len - i >= 8 &&
		    *(const __u64 *)(p + i) == pattern_word((offset + i) / 8, seed)) {
			i += 8;
			continue;
		}
		if (p[i] != pattern_byte(offset + i, seed))
			return i;
		i++;
	}
	return -1;
}

/* The compiler does not look into another file: it is read, and when it says. */
char vmm_peek(const void *addr)
{
	return *(const char *)addr;
}

void vmm_poke(void *addr, char value)
{
	*(char *)addr = value;
}

long long vmm_pfn(const void *addr)
{
	off_t where = (off_t)((uintptr_t)addr / vmm_page_size() * sizeof(__u64));
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;
	ssize_t n;

	if (fd < 0)
		return -2;
	n = pread(fd, &entry, sizeof(entry), where);
	close(fd);
	if (n != sizeof(entry))
		return -2;
	if (!(entry >> 63))
		return -1;
	entry &= (1ull << 55) - 1;
	return entry ? (long long)entry : -2;
}

unsigned int vmm_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

int vmm_send_fd(int sock, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;

	memset(&control, 0, sizeof(control));
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

int vmm_recv_fd(int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	int fd;
	ssize_t n;

	n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (n != 1 || !cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
	return fd;
}

/* What a peer is asked, and what it answers. */
enum peer_op { PEER_GIVE, PEER_MISMATCH, PEER_FILL, PEER_CLOSE, PEER_UNMAP, PEER_STOP };

struct peer_request {
	__u32 op;
	__u32 slot;
	__u64 start;
	__u64 len;
	__u64 offset;
	__u32 seed;
	__s32 prot;
};

struct peer_answer {
	__s64 value;
};

struct peer_buf {
	int fd;
	char *map;
	__u64 size;
};

/* Longest wait for a peer's answer. */
#define PEER_TIMEOUT_MS	20000

static int peer_give(struct peer_buf *buf, int sock, int prot)
{
	long long size;

	buf->fd = vmm_recv_fd(sock);
	if (buf->fd < 0)
		return buf->fd;
	size = vmm_dmabuf_size(buf->fd);
	if (size <= 0)
		return size ? (int)size : -ENODATA;
	buf->size = size;
	buf->map = vmm_map(buf->fd, 0, size, prot);
	return buf->map ? 0 : -errno;
}

static long long peer_serve(struct peer_buf *buf, int sock, const struct peer_request *rq)
{
	switch (rq->op) {
	case PEER_GIVE:
		return peer_give(buf, sock, rq->prot);
	case PEER_MISMATCH:
	case PEER_FILL:
		if (!buf->map || rq->len > buf->size || rq->start > buf->size - rq->len)
			return -1000 - ERANGE;
		if (rq->op == PEER_MISMATCH)
			return vmm_mismatch(buf->map + rq->start, rq->len, rq->offset, rq->seed);
		vmm_fill(buf->map + rq->start, rq->len, rq->offset, rq->seed);
		return 0;
	case PEER_CLOSE:
		return close(buf->fd) ? -errno : 0;
	case PEER_UNMAP:
		return munmap(buf->map, buf->size) ? -errno : 0;
	}
	return -EINVAL;
}

static void peer_main(int sock)
{
	struct peer_buf bufs[VMM_PEER_BUFS] = {};
	struct peer_request rq;
	struct peer_answer answer;

	while (recv(sock, &rq, sizeof(rq), MSG_WAITALL) == sizeof(rq)) {
		if (rq.op == PEER_STOP)
			break;
		answer.value = peer_serve(&bufs[rq.slot % VMM_PEER_BUFS], sock, &rq);
		if (send(sock, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
			break;
	}
	_exit(0);
}

int vmm_peer_start(struct vmm_peer *peer)
{
	pid_t parent = getpid();
	int socks[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		return -errno;
	/* Not into *peer: that may be memory which both processes share. */
	pid = fork();
	if (pid < 0) {
		int err = errno;

		close(socks[0]);
		close(socks[1]);
		return -err;
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close(socks[0]);
		peer_main(socks[1]);
	}
	close(socks[1]);
	peer->pid = pid;
	peer->sock = socks[0];
	return 0;
}

static int peer_send(struct vmm_peer *peer, const struct peer_request *rq)
{
	ssize_t n = send(peer->sock, rq, sizeof(*rq), MSG_NOSIGNAL);

	return n == sizeof(*rq) ? 0 : -EPIPE;
}

static long long peer_answer(struct vmm_peer *peer)
{
	struct pollfd poll_sock = { .fd = peer->sock, .events = POLLIN };
	struct peer_answer answer;

	if (poll(&poll_sock, 1, PEER_TIMEOUT_MS) != 1)
		return -1000 - ETIMEDOUT;
	if (recv(peer->sock, &answer, sizeof(answer), MSG_WAITALL) != sizeof(answer))
		return -1000 - EPIPE;
	return answer.value;
}

static long long peer_ask(struct vmm_peer *peer, const struct peer_request *rq)
{
	return peer_send(peer, rq) ? -1000 - EPIPE : peer_answer(peer);
}

int vmm_peer_give(struct vmm_peer *peer, unsigned int slot, int fd, int prot)
{
	struct peer_request rq = { .op = PEER_GIVE, .slot = slot, .prot = prot };
	int ret = peer_send(peer, &rq);

	if (!ret)
		ret = vmm_send_fd(peer->sock, fd);
	return ret ? ret : (int)peer_answer(peer);
}

long long vmm_peer_mismatch(struct vmm_peer *peer, unsigned int slot, __u64 start,
			    __u64 len, __u64 offset, __u32 seed)
{
	struct peer_request rq = {
		.op = PEER_MISMATCH,
		.slot = slot,
		.start = start,
		.len = len,
		.offset = offset,
		.seed = seed,
	};

	return peer_ask(peer, &rq);
}

int vmm_peer_fill(struct vmm_peer *peer, unsigned int slot, __u64 start,
		  __u64 len, __u64 offset, __u32 seed)
{
	struct peer_request rq = {
		.op = PEER_FILL,
		.slot = slot,
		.start = start,
		.len = len,
		.offset = offset,
		.seed = seed,
	};

	return (int)peer_ask(peer, &rq);
}

int vmm_peer_close(struct vmm_peer *peer, unsigned int slot)
{
	struct peer_request rq = { .op = PEER_CLOSE, .slot = slot };

	return (int)peer_ask(peer, &rq);
}

int vmm_peer_unmap(struct vmm_peer *peer, unsigned int slot)
{
	struct peer_request rq = { .op = PEER_UNMAP, .slot = slot };

	return (int)peer_ask(peer, &rq);
}

static void peer_gone(struct vmm_peer *peer)
{
	if (vmm_wait(peer->pid, NULL, 5)) {
		kill(peer->pid, SIGKILL);
		waitpid(peer->pid, NULL, 0);
	}
	close(peer->sock);
	peer->pid = 0;
	peer->sock = -1;
}

void vmm_peer_stop(struct vmm_peer *peer)
{
	struct peer_request rq = { .op = PEER_STOP };

	if (!peer->pid)
		return;
	peer_send(peer, &rq);
	peer_gone(peer);
}

void vmm_peer_kill(struct vmm_peer *peer)
{
	if (!peer->pid)
		return;
	kill(peer->pid, SIGKILL);
	peer_gone(peer);
}

long long vmm_pins(void)
{
	long long acquired = -1, released = -1, value;
	char name[64], refresh;
	FILE *file;
	int fd;

	/* The counters are kept per CPU and folded lazily. */
	fd = open("/proc/sys/vm/stat_refresh", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &refresh, 1) < 0)
		return -1;
	close(fd);

	file = fopen("/proc/vmstat", "re");
	if (!file)
		return -1;
	while (fscanf(file, "%63s %lld", name, &value) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		else if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	}
	fclose(file);
	return acquired < 0 || released < 0 ? -1 : acquired - released;
}

bool vmm_pins_settle(long long expected)
{
	unsigned int tries;

	for (tries = 0; tries < 100; tries++) {
		if (vmm_pins() == expected)
			return true;
		vmm_msleep(50);
	}
	return false;
}

/* Without a line of it if there is none to be had. */
static char *kernel_config;

/*
 * Read once, before main(): tests are children of their program, and each asks.
 */
__attribute__((constructor)) static void read_kernel_config(void)
{
	size_t len = 0, room = 1 << 20, got;
	struct utsname uts;
	char command[512];
	FILE *file;

	kernel_config = malloc(room);
	if (!kernel_config || uname(&uts))
		abort();
	snprintf(command, sizeof(command),
		 "{ zcat /proc/config.gz || cat /vmmexp/config || cat /boot/config-%s; } 2>/dev/null",
		 uts.release);
	kernel_config[len++] = '\n';
	file = popen(command, "re");
	while (file && (got = fread(kernel_config + len, 1, room - 1 - len, file)))
		len += got;
	if (file)
		pclose(file);
	/* Half of it would look like a kernel that lacks the rest. */
	if (len == room - 1)
		abort();
	kernel_config[len] = 0;
}

int vmm_config(const char *name)
{
	char line[128];
	const char *at;

	if (!strstr(kernel_config, "\nCONFIG_"))
		return -1;
	snprintf(line, sizeof(line), "\n%s=", name);
	at = strstr(kernel_config, line);
	return at && (at[strlen(line)] == 'y' || at[strlen(line)] == 'm');
}

const char *vmm_not_in_kernel(const char *name)
{
	static char reason[128];
	int has = vmm_config(name);

	if (has < 0) {
		fprintf(stderr, "# the kernel's configuration cannot be read\n");
		abort();
	}
	snprintf(reason, sizeof(reason), "not in this kernel: %s", name);
	return has ? NULL : reason;
}

int vmm_wait(pid_t pid, int *status, unsigned int seconds)
{
	unsigned int tries;

	for (tries = 0; tries <= seconds * 50; tries++) {
		pid_t ret = waitpid(pid, status, WNOHANG);

		if (ret == pid)
			return 0;
		if (ret < 0 && errno != EINTR)
			return -errno;
		vmm_msleep(20);
	}
	return -ETIMEDOUT;
}

void vmm_msleep(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

int vmm_modprobe(const char *name)
{
	char command[128];
	int ret;

	snprintf(command, sizeof(command), "modprobe %s >/dev/null 2>&1", name);
	ret = system(command);
	return WIFEXITED(ret) && !WEXITSTATUS(ret) ? 0 : -ENOENT;
}

int vmm_swap_start(void)
{
	char command[256];
	int zram, ret;

	if (vmm_modprobe("zram"))
		return -ENOENT;
	zram = vmm_read_number("/sys/class/zram-control/hot_add");
	if (zram < 0)
		return -EIO;
	snprintf(command, sizeof(command),
		 "exec >/dev/null 2>&1; echo 192M >/sys/block/zram%d/disksize && mkswap /dev/zram%d",
		 zram, zram);
	ret = system(command);
	if (!WIFEXITED(ret) || WEXITSTATUS(ret))
		return -EIO;
	snprintf(command, sizeof(command), "/dev/zram%d", zram);
	return swapon(command, 0) ? -errno : zram;
}

int vmm_swap_stop(int zram)
{
	char path[64], number[16];
	int ret;

	snprintf(path, sizeof(path), "/dev/zram%d", zram);
	if (swapoff(path))
		return -errno;
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", zram);
	ret = vmm_write_file(path, "1");
	snprintf(number, sizeof(number), "%d", zram);
	return ret ? ret : vmm_write_file("/sys/class/zram-control/hot_remove", number);
}

int vmm_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		ret = -errno;
	close(fd);
	return ret;
}

int vmm_read_file(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	if (n < 0)
		n = -errno;
	else
		buf[n] = 0;
	close(fd);
	return n < 0 ? (int)n : 0;
}

long long vmm_read_number(const char *path)
{
	char buf[64], *end;
	long long value;

	if (vmm_read_file(path, buf, sizeof(buf)))
		return -1;
	value = strtoll(buf, &end, 10);
	return end == buf ? -1 : value;
}

int vmm_drm_open(const char *name)
{
	char path[32], driver[32];
	unsigned int card;

	if (vmm_modprobe(name))
		return -ENODEV;
	for (card = 0; card < 16; card++) {
		struct drm_version version = {
			.name = driver,
			.name_len = sizeof(driver),
		};
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%u", card);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!vmm_ioctl(fd, DRM_IOCTL_VERSION, &version) &&
		    version.name_len == strlen(name) &&
		    !strncmp(driver, name, version.name_len))
			return fd;
		close(fd);
	}
	return -ENODEV;
}

int vmm_drm_dumb(int card, size_t size, __u64 *offset)
{
	struct drm_mode_create_dumb create = {
		.width = vmm_page_size() / 4,
		.height = (size + vmm_page_size() - 1) / vmm_page_size(),
		.bpp = 32,
	};
	struct drm_mode_map_dumb map = {};
	int ret;

	ret = vmm_ioctl(card, DRM_IOCTL_MODE_CREATE_DUMB, &create);
	if (ret)
		return ret;
	map.handle = create.handle;
	ret = vmm_ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, &map);
	if (ret)
		return ret;
	*offset = map.offset;
	return create.handle;
}

int vmm_foreign_dmabuf(size_t size)
{
	struct drm_prime_handle prime = { .flags = DRM_CLOEXEC | DRM_RDWR, .fd = -1 };
	int card = vmm_drm_open("vgem");
	__u64 offset;
	int ret;

	if (card < 0)
		return card;
	ret = vmm_drm_dumb(card, size, &offset);
	if (ret > 0) {
		prime.handle = ret;
		ret = vmm_ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime);
	}
	close(card);
	return ret ? ret : prime.fd;
}
