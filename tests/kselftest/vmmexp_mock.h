/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * vmmexp_mock: an importer of dma-bufs that does what it is told and reports
 * what it was given, for the tests of vmmexp.
 *
 * Everything belongs to the open file that made it and is undone when that is
 * closed. Numbers that name an attachment, a mapping or a kernel mapping mean
 * something in that open file only. Unlike vmmexp itself the mock tells
 * physical and kernel addresses: it is for test machines.
 */
#ifndef VMMEXP_MOCK_H
#define VMMEXP_MOCK_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VMMEXP_MOCK_NAME_LEN		32

/*
 * struct vmmexp_mock_device.flags
 *
 * COHERENT, NON_COHERENT: the device does, or does not, snoop the CPU's caches;
 *	neither: as the machine has it. EOPNOTSUPP where the architecture does
 *	not know the difference
 * DMA_PARMS: the device has dma_parms, as platform and PCI devices do
 */
#define VMMEXP_MOCK_COHERENT		0x1
#define VMMEXP_MOCK_NON_COHERENT	0x2
#define VMMEXP_MOCK_DMA_PARMS		0x4

/**
 * struct vmmexp_mock_device - choose the device that attaches from now on
 * @flags: in: VMMEXP_MOCK_*
 * @dma_mask_bits: in: address bits the device drives, 1 to 64
 * @bus_dma_limit: in: highest address that passes the bus, 0 any
 * @max_segment_size: in: with VMMEXP_MOCK_DMA_PARMS, the longest segment that
 *	the driver announced; 0: it did not
 * @coherent: out: 1 if the device snoops the CPU's caches
 * @window_border: in: physical address at which a second window to memory
 *	begins, the first one ending there; 0: the bus has no windows
 * @window_shift: in: with @window_border, what is to be added to a physical
 *	address of the second window for the bus; in the first one nothing is;
 *	~0: there is no second window
 * @name: out: its name in the driver core
 *
 * Existing attachments keep the device they were made with. An open file
 * starts with a device of 64 bits and no other limit.
 */
struct vmmexp_mock_device {
	__u32 flags;
	__u32 dma_mask_bits;
	__u64 bus_dma_limit;
	__u32 max_segment_size;
	__u32 coherent;
	__u64 window_border;
	__u64 window_shift;
	char name[VMMEXP_MOCK_NAME_LEN];
};

/*
 * struct vmmexp_mock_attach.flags
 *
 * IMPORTER_OPS: dma_buf_dynamic_attach() with attach ops; else dma_buf_attach()
 * PEER2PEER: with IMPORTER_OPS: allow_peer2peer
 * INVALIDATE: with IMPORTER_OPS: an invalidate_mappings callback, which counts
 * LET_GO: with INVALIDATE: it also unmaps what the attachment has mapped, which
 *	is one mapping at most (EBUSY). That mapping is not there any more then
 *	(ENODEV), though its number is until UNMAP. SEGMENTS has no such (EINVAL)
 */
#define VMMEXP_MOCK_IMPORTER_OPS	0x1
#define VMMEXP_MOCK_PEER2PEER		0x2
#define VMMEXP_MOCK_INVALIDATE		0x4
#define VMMEXP_MOCK_LET_GO		0x8

/**
 * struct vmmexp_mock_attach - attach the device to a dma-buf
 * @fd: in: the dma-buf
 * @flags: in: as above
 * @attachment: out: number of the attachment
 * @peer2peer: out: what the attachment says after the exporter saw it
 * @size: out: the dma-buf's size
 */
struct vmmexp_mock_attach {
	__s32 fd;
	__u32 flags;
	__u32 attachment;
	__u32 peer2peer;
	__u64 size;
};

/* The values of enum dma_data_direction. */
#define VMMEXP_MOCK_BIDIRECTIONAL	0
#define VMMEXP_MOCK_TO_DEVICE		1
#define VMMEXP_MOCK_FROM_DEVICE		2

/**
 * struct vmmexp_mock_map - map an attachment for the device
 * @attachment: in
 * @direction: in: VMMEXP_MOCK_BIDIRECTIONAL, _TO_DEVICE or _FROM_DEVICE
 * @map: out: number of the mapping
 * @nents: out: of the sg_table: entries with a DMA address
 * @orig_nents: out: of the sg_table: entries with memory
 * @pad: in: 0
 * @sg_table: out: kernel address of the sg_table
 * @sgl: out: kernel address of its list
 */
struct vmmexp_mock_map {
	__u32 attachment;
	__u32 direction;
	__u32 map;
	__u32 nents;
	__u32 orig_nents;
	__u32 pad;
	__u64 sg_table;
	__u64 sgl;
};

/**
 * struct vmmexp_mock_segment - one entry of the list
 * @dma_address: where the device finds it
 * @dma_length: bytes at @dma_address; 0 in entries beyond nents
 * @phys: physical address by the entry's page and offset; ~0 without a page
 * @length: bytes of memory in this entry
 */
struct vmmexp_mock_segment {
	__u64 dma_address;
	__u64 dma_length;
	__u64 phys;
	__u64 length;
};

/**
 * struct vmmexp_mock_segments - read the list of a mapping
 * @segments: in: pointer to room for @nr_segments &struct vmmexp_mock_segment
 * @nr_segments: in
 * @map: in
 * @first: in: index of the first entry wanted
 * @filled: out: number of entries written
 */
struct vmmexp_mock_segments {
	__u64 segments;
	__u32 nr_segments;
	__u32 map;
	__u32 first;
	__u32 filled;
};

/**
 * struct vmmexp_mock_io - read or write bytes through the importer's eyes
 * @data: in: pointer to the bytes
 * @offset: in: offset in the buffer
 * @len: in: number of bytes
 * @handle: in: number of the mapping (DEVICE_IO) or kernel mapping (KERNEL_IO)
 * @write: in: 1: from @data to the buffer; 0: to @data
 *
 * DEVICE_IO goes to the DMA addresses of the mapping, in their order, as the
 * device's own accesses would; it keeps to the mapping's direction (EACCES).
 * KERNEL_IO goes through the address that dma_buf_vmap() gave. Neither does
 * cache maintenance.
 */
struct vmmexp_mock_io {
	__u64 data;
	__u64 offset;
	__u64 len;
	__u32 handle;
	__u32 write;
};

/**
 * struct vmmexp_mock_vmap - map a dma-buf for the kernel, without attaching
 * @fd: in: the dma-buf
 * @vmap: out: number of the kernel mapping
 * @address: out: where it is
 */
struct vmmexp_mock_vmap {
	__s32 fd;
	__u32 vmap;
	__u64 address;
};

/**
 * struct vmmexp_mock_cpu_access - begin or end access by the kernel
 * @fd: in: the dma-buf
 * @direction: in: VMMEXP_MOCK_BIDIRECTIONAL, _TO_DEVICE or _FROM_DEVICE
 * @end: in: 0: dma_buf_begin_cpu_access(); 1: dma_buf_end_cpu_access()
 * @pad: in: 0
 */
struct vmmexp_mock_cpu_access {
	__s32 fd;
	__u32 direction;
	__u32 end;
	__u32 pad;
};

/**
 * struct vmmexp_mock_invalidated - how often invalidate_mappings was called
 * @attachment: in
 * @count: out
 */
struct vmmexp_mock_invalidated {
	__u32 attachment;
	__u32 count;
};

#define VMMEXP_MOCK_IOC_MAGIC	0xE9

#define VMMEXP_MOCK_IOC_DEVICE \
	_IOWR(VMMEXP_MOCK_IOC_MAGIC, 0x00, struct vmmexp_mock_device)
#define VMMEXP_MOCK_IOC_ATTACH \
	_IOWR(VMMEXP_MOCK_IOC_MAGIC, 0x01, struct vmmexp_mock_attach)
/* The argument points to the attachment's number; EBUSY while it is mapped. */
#define VMMEXP_MOCK_IOC_DETACH \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x02, __u32)
#define VMMEXP_MOCK_IOC_MAP \
	_IOWR(VMMEXP_MOCK_IOC_MAGIC, 0x03, struct vmmexp_mock_map)
/* The argument points to the mapping's number. */
#define VMMEXP_MOCK_IOC_UNMAP \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x04, __u32)
#define VMMEXP_MOCK_IOC_SEGMENTS \
	_IOWR(VMMEXP_MOCK_IOC_MAGIC, 0x05, struct vmmexp_mock_segments)
#define VMMEXP_MOCK_IOC_DEVICE_IO \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x06, struct vmmexp_mock_io)
#define VMMEXP_MOCK_IOC_VMAP \
	_IOWR(VMMEXP_MOCK_IOC_MAGIC, 0x07, struct vmmexp_mock_vmap)
/* The argument points to the kernel mapping's number. */
#define VMMEXP_MOCK_IOC_VUNMAP \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x08, __u32)
#define VMMEXP_MOCK_IOC_KERNEL_IO \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x09, struct vmmexp_mock_io)
#define VMMEXP_MOCK_IOC_CPU_ACCESS \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x0a, struct vmmexp_mock_cpu_access)
/*
 * The argument points to a dma-buf's fd: mmap() of the mock maps that buffer
 * from now on, as a DRM driver's mmap() of an imported buffer does. -1: none.
 */
#define VMMEXP_MOCK_IOC_MMAP \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x0b, __s32)
#define VMMEXP_MOCK_IOC_INVALIDATED \
	_IOWR(VMMEXP_MOCK_IOC_MAGIC, 0x0c, struct vmmexp_mock_invalidated)
/*
 * The argument points to vendor << 16 | device of a PCI device without a driver:
 * the first such one attaches from now on. What it does with the addresses that
 * it gets is for its registers to tell, so there is no DEVICE_IO with it.
 */
#define VMMEXP_MOCK_IOC_PCI \
	_IOW(VMMEXP_MOCK_IOC_MAGIC, 0x0d, __u32)

#endif /* VMMEXP_MOCK_H */
