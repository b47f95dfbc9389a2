/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Static inlines and macros of the kernel which Rust cannot call.
 *
 * One function for one C construct, in the manner of rust/helpers/; prefixed so
 * that a kernel which gains the same helper does not clash. bindgen reads this
 * file, src/helpers.c implements it.
 */
#ifndef _VMMEXP_HELPERS_H
#define _VMMEXP_HELPERS_H

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/shmem_fs.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

/* device.h, stringhash.h */
unsigned int vmmexp_helper_dev_name_hash(struct device *dev);

/* dma-direct.h, dma-map-ops.h, dma-mapping.h, swiotlb.h */
bool vmmexp_helper_dev_is_dma_coherent(struct device *dev);
bool vmmexp_helper_dma_is_direct(struct device *dev);
bool vmmexp_helper_dma_translates(struct device *dev);
bool vmmexp_helper_dma_never_bounces(struct device *dev);
bool vmmexp_helper_dma_reaches(struct device *dev, phys_addr_t phys, size_t len);
unsigned int vmmexp_helper_dma_driver_max_seg_size(struct device *dev);
bool vmmexp_helper_dma_mapping_error(struct device *dev, dma_addr_t addr);
int vmmexp_helper_dma_coerce_mask_and_coherent(struct device *dev, u64 mask);
void vmmexp_helper_dma_forget_swiotlb(struct device *dev);
int vmmexp_helper_dma_get_cache_alignment(void);
unsigned int vmmexp_helper_dma_get_max_seg_size(struct device *dev);

/* mm.h, page handling */
bool vmmexp_helper_page_refs_run_out(struct page *page);
unsigned long vmmexp_helper_page_to_pfn(struct page *page);
bool vmmexp_helper_page_is_highmem(struct page *page);
unsigned long vmmexp_helper_folio_pfn(struct page *page);
unsigned long vmmexp_helper_folio_nr_pages(struct page *page);
void vmmexp_helper_put_page(struct page *page);
struct page *vmmexp_helper_pfn_to_page(unsigned long pfn);
unsigned long vmmexp_helper_task_size_max(void);
unsigned long vmmexp_helper_totalram_pages(void);
unsigned long vmmexp_helper_untagged_addr(unsigned long addr);
struct page **vmmexp_helper_alloc_page_array(unsigned long count);
void *vmmexp_helper_vmap(struct page **pages, unsigned int count);
bool vmmexp_helper_vma_is_fsdax(struct vm_area_struct *vma);
void vmmexp_helper_vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear);

/* The bindings of 7.2 have VM_MAYEXEC for it. */
static const vm_flags_t VMMEXP_VM_MAYSHARE __maybe_unused = VM_MAYSHARE;

/* memfd.h, shmem_fs.h, hugetlb.h */
unsigned int vmmexp_helper_file_seals(struct file *file);

/* io.h, ioport.h, cacheflush.h */
bool vmmexp_helper_request_mem_region(phys_addr_t start, size_t len, const char *name);
void vmmexp_helper_release_mem_region(phys_addr_t start, size_t len);
void *vmmexp_helper_memremap(phys_addr_t start, size_t len, bool cached);
bool vmmexp_helper_cache_ops_exist(void);
void vmmexp_helper_cache_maintain(void *addr, phys_addr_t phys, size_t len, bool invalidate);
void vmmexp_helper_mb(void);
void vmmexp_helper_vma_set_writecombine(struct vm_area_struct *vma);
bool vmmexp_helper_vma_is_cached(struct vm_area_struct *vma);
bool vmmexp_helper_pfnmap_is_cached(struct follow_pfnmap_args *args);
bool vmmexp_helper_pfnmap_is_writecombine(struct follow_pfnmap_args *args);
bool vmmexp_helper_is_system_ram(phys_addr_t start, size_t len);
vm_fault_t vmmexp_helper_vmf_insert_pfn_writecombine(struct vm_area_struct *vma,
						     unsigned long addr, unsigned long pfn);

#ifdef CONFIG_OF
/* of.h */
int vmmexp_helper_of_region_count(struct device_node *np);
struct device_node *vmmexp_helper_of_region_node(struct device_node *np, int index);
const char *vmmexp_helper_of_string(struct device_node *np, const char *property, int index);
bool vmmexp_helper_of_property_present(struct device_node *np, const char *property);
void vmmexp_helper_of_node_put(struct device_node *np);
#endif

/* mmu_notifier.h */
#ifdef CONFIG_MMU_NOTIFIER
void vmmexp_helper_mmu_interval_set_seq(struct mmu_interval_notifier *notifier,
					unsigned long seq);
#endif

/* platform_device.h */
int vmmexp_helper_platform_driver_register(struct platform_driver *driver);

/* sched.h */
void vmmexp_helper_cond_resched(void);
bool vmmexp_helper_fatal_signal_pending(void);
void vmmexp_helper_current_comm(char *comm);
uid_t vmmexp_helper_current_uid(void);

/* cred.h, sched/signal.h, sched/user.h */
struct user_struct *vmmexp_helper_get_current_user(void);
void vmmexp_helper_get_uid(struct user_struct *user);
unsigned long vmmexp_helper_locked_vm_read(struct user_struct *user);
bool vmmexp_helper_locked_vm_try_cmpxchg(struct user_struct *user, unsigned long *old,
					 unsigned long new);
void vmmexp_helper_locked_vm_sub(struct user_struct *user, unsigned long pages);
unsigned long vmmexp_helper_rlimit_memlock_pages(void);

/* scatterlist.h */
void vmmexp_helper_sg_set_page(struct scatterlist *sg, struct page *page,
			       unsigned int len);
void vmmexp_helper_sg_set_dma(struct scatterlist *sg, dma_addr_t addr,
			      unsigned int len);

/* dma-buf.h */
u64 vmmexp_helper_dma_buf_id(struct dma_buf *dmabuf);

/* vmmexp_trace.h */
bool vmmexp_helper_trace_export_enabled(void);
void vmmexp_helper_trace_export(u64 id, u64 bytes, u32 segs, u32 kinds, u32 flags,
				u32 reason, int error, u64 offset, u64 duration);
bool vmmexp_helper_trace_map_enabled(void);
void vmmexp_helper_trace_map(u64 id, struct device *dev, enum dma_data_direction direction,
			     u64 bytes, u32 segs, int error, u64 duration);
bool vmmexp_helper_trace_unmap_enabled(void);
void vmmexp_helper_trace_unmap(u64 id, struct device *dev, enum dma_data_direction direction,
			       u64 bytes, u32 segs, int error, u64 duration);
bool vmmexp_helper_trace_sync_enabled(void);
void vmmexp_helper_trace_sync(u64 id, enum dma_data_direction direction, bool end,
			      u64 bytes, int error, u64 duration);
void vmmexp_helper_trace_state(u64 id, u32 old, u32 new);
bool vmmexp_helper_trace_revoke_enabled(void);
void vmmexp_helper_trace_revoke(u64 id, u64 bytes, u64 duration);
void vmmexp_helper_trace_release(u64 id, u64 bytes, u32 segs);

#endif /* _VMMEXP_HELPERS_H */
