/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of accounting, states and REVOKE share. As in vmmexp_util.h
 * the functions return -errno on failure.
 *
 *   users		become(), fresh_user(), raise_cap(), set_memlock()
 *   the counter	locked_*(): what a user has locked in memory, seen by
 *			io_uring, which counts in the same place
 *   an eventfd		event_new(), event_count(), event_wait()
 *   memory		trust_memory() of every kind that can be exported
 *   other processes	state_in_child(), asker_*()
 *   userfaultfd	uffd_new(), uffd_watch(), uffd_fault(), uffd_provide()
 */
#ifndef _VMMEXP_TRUST_UTIL_H
#define _VMMEXP_TRUST_UTIL_H

#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "vmmexp_mock_util.h"

/* On 32-bit ARM the plain number is the call with 16-bit user ids. */
#ifdef SYS_setresuid32
#define TRUST_SETRESUID	SYS_setresuid32
#else
#define TRUST_SETRESUID	SYS_setresuid
#endif

/*
 * Let this thread, and no other, be user @uid without any capability; 0: root
 * again. By a system call of its own, as the C library would interrupt all
 * threads to change them too. The saved user id stays root's: the way back.
 */
static inline int become(uid_t uid)
{
	if (syscall(TRUST_SETRESUID, 0, 0, 0))
		return -errno;
	if (uid && syscall(TRUST_SETRESUID, uid, uid, 0))
		return -errno;
	return 0;
}

/*
 * A user whom no other test has been: what the kernel lets go of late for one
 * test (rings of io_uring) must not be counted in another.
 */
static inline uid_t fresh_user(unsigned int which)
{
	return 100000 + 4 * getpid() + which;
}

/* Add capability @cap to those in effect, which become() took away. */
static inline int raise_cap(unsigned int cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	data[cap / 32].effective |= 1u << cap % 32;
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

/* The soft limit of locked memory; as root, so that it may also grow. */
static inline int set_memlock(__u64 bytes)
{
	struct rlimit limit = { .rlim_cur = bytes, .rlim_max = RLIM_INFINITY };

	return setrlimit(RLIMIT_MEMLOCK, &limit) ? -errno : 0;
}

/*
 * How much more a user may lock, by trying it: io_uring counts registered
 * buffers with the user's other locked memory. The ring itself is counted too.
 */
#define LOCKED_PAGES	1200

struct locked {
	int ring;
	char *mem;
};

/* As the user whose memory is to be counted: the ring belongs to him. */
static inline int locked_open(struct locked *locked)
{
	struct io_uring_params params = {};

	locked->mem = mock_mem_anon(LOCKED_PAGES * vmm_page_size());
	if (!locked->mem)
		return -ENOMEM;
	locked->ring = syscall(__NR_io_uring_setup, 1, &params);
	if (locked->ring < 0) {
		int err = errno;

		munmap(locked->mem, LOCKED_PAGES * vmm_page_size());
		return -err;
	}
	fcntl(locked->ring, F_SETFD, FD_CLOEXEC);
	return 0;
}

static inline void locked_close(struct locked *locked)
{
	close(locked->ring);
	munmap(locked->mem, LOCKED_PAGES * vmm_page_size());
}

/* Lock @pages more. */
static inline int locked_take(struct locked *locked, size_t pages)
{
	struct iovec iovec = { locked->mem, pages * vmm_page_size() };

	return syscall(__NR_io_uring_register, locked->ring, IORING_REGISTER_BUFFERS, &iovec, 1) ?
	       -errno : 0;
}

static inline int locked_give(struct locked *locked)
{
	return syscall(__NR_io_uring_register, locked->ring, IORING_UNREGISTER_BUFFERS, NULL, 0) ?
	       -errno : 0;
}

/* Can @pages be locked? 1, 0 or -errno. */
static inline int locked_fits(struct locked *locked, size_t pages)
{
	int ret = locked_take(locked, pages);

	if (ret)
		return ret == -ENOMEM ? 0 : ret;
	ret = locked_give(locked);
	return ret ? ret : 1;
}

/* Pages that can be locked, at most LOCKED_PAGES. */
static inline int locked_left(struct locked *locked)
{
	int low = 0, high = LOCKED_PAGES;

	while (low < high) {
		int middle = (low + high + 1) / 2;
		int fits = locked_fits(locked, middle);

		if (fits < 0)
			return fits;
		if (fits)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

static inline int event_new(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Take what was signalled since the last time, 0 if nothing was. */
static inline long long event_count(int fd)
{
	eventfd_t value;

	if (eventfd_read(fd, &value))
		return errno == EAGAIN ? 0 : -errno;
	return (long long)value;
}

/* Wait until @count, or more, were signalled since the last time; their number. */
static inline long long event_wait(int fd, long long count)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	long long seen = 0;

	do {
		if (poll(&pollfd, 1, 10000) != 1)
			break;
		seen += event_count(fd);
	} while (seen < count);
	return seen;
}

/* EXPORT of @nr ranges that signals @event. */
static inline int export_with_event(int dev, const struct vmmexp_range *ranges, unsigned int nr,
				    __u32 flags, int event, struct vmmexp_export *ex)
{
	memset(ex, 0, sizeof(*ex));
	ex->ranges = (uintptr_t)ranges;
	ex->nr_ranges = nr;
	ex->range_size = sizeof(*ranges);
	ex->flags = flags | VMMEXP_EXPORT_EVENTFD;
	ex->fd_flags = O_CLOEXEC;
	ex->event_fd = event;
	return vmm_export_call(dev, ex);
}

/* Kinds of memory that the exporter's addresses can lose. */
enum trust_kind { TRUST_ANON, TRUST_THP, TRUST_MEMFD, TRUST_HUGETLB };

static inline const char *trust_lacks(enum trust_kind kind)
{
	switch (kind) {
	case TRUST_THP:
		return vmm_not_in_kernel("CONFIG_TRANSPARENT_HUGEPAGE");
	case TRUST_HUGETLB:
		return vmm_not_in_kernel("CONFIG_HUGETLB_PAGE");
	default:
		return NULL;
	}
}

/* Two units of what can be lost by itself, or a few more. */
static inline size_t trust_size(enum trust_kind kind)
{
	return kind == TRUST_HUGETLB || kind == TRUST_THP ? 2 * mock_huge_size() :
							    8 * vmm_page_size();
}

/* The least that can be unmapped, of a huge page without splitting it. */
static inline size_t trust_unit(enum trust_kind kind)
{
	return kind == TRUST_HUGETLB || kind == TRUST_THP ? mock_huge_size() : vmm_page_size();
}

/* All of it touched. NULL on failure. */
static inline char *trust_memory(enum trust_kind kind)
{
	size_t len = trust_size(kind);
	char *mem = NULL;

	switch (kind) {
	case TRUST_ANON:
		return mock_mem_anon(len);
	case TRUST_THP:
		return mock_mem_thp(len);
	case TRUST_MEMFD:
		return mock_mem_memfd(len);
	case TRUST_HUGETLB:
		mem = mock_mem_hugetlb(len);
		/* More of them, to have other pages at the addresses, and for children. */
		if (vmm_write_file("/proc/sys/vm/nr_hugepages", "8"))
			return NULL;
	}
	return mem;
}

/* Touch every page, without changing it. */
static inline void touch(const char *mem, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += vmm_page_size())
		vmm_peek(mem + i);
}

/* The state as a child reads it, which has the same addresses, by a file of its own. */
static inline int state_in_child(int fd)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		int dev = vmm_open();
		int state = dev < 0 ? dev : vmm_state(dev, fd);

		_exit(state < 0 ? 255 : state);
	}
	if (vmm_wait(pid, &status, 20) || !WIFEXITED(status) || WEXITSTATUS(status) == 255)
		return -ECHILD;
	return WEXITSTATUS(status);
}

/*
 * Another process that asks for states, started before there is anything to
 * ask for: fork() splits huge pages that are pinned. It dies with its parent.
 */
struct asker {
	pid_t pid;
	int sock;
};

static inline int asker_start(struct asker *asker)
{
	int socks[2], fd, state;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		return -errno;
	asker->pid = fork();
	if (asker->pid < 0)
		return -errno;
	if (!asker->pid) {
		int dev = vmm_open();

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(socks[0]);
		while ((fd = vmm_recv_fd(socks[1])) >= 0) {
			state = vmm_state(dev, fd);
			close(fd);
			if (send(socks[1], &state, sizeof(state), MSG_NOSIGNAL) != sizeof(state))
				break;
		}
		_exit(0);
	}
	close(socks[1]);
	asker->sock = socks[0];
	return 0;
}

static inline int asker_state(struct asker *asker, int fd)
{
	int state;

	if (vmm_send_fd(asker->sock, fd) ||
	    recv(asker->sock, &state, sizeof(state), MSG_WAITALL) != sizeof(state))
		return -EPIPE;
	return state;
}

static inline int uffd_new(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	return ioctl(fd, UFFDIO_API, &api) ? -errno : fd;
}

/* Ask for pages of @mem that are not there. */
static inline int uffd_watch(int uffd, const void *mem, size_t len)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)mem, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

/* Wait until somebody needs a page; its address, NULL if nobody does. */
static inline char *uffd_fault(int uffd)
{
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&pollfd, 1, 10000) != 1 || read(uffd, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_PAGEFAULT)
		return NULL;
	return (char *)(uintptr_t)(msg.arg.pagefault.address & ~(__u64)(vmm_page_size() - 1));
}

/* Give it zeroes. */
static inline int uffd_provide(int uffd, const void *page)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (uintptr_t)page, .len = vmm_page_size() },
	};

	return ioctl(uffd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0;
}

#endif /* _VMMEXP_TRUST_UTIL_H */
