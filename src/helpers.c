// SPDX-License-Identifier: GPL-2.0-only

#include <linux/cc_platform.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/hugetlb.h>
#include <linux/iommu-dma.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/stringhash.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>

#include "vmmexp_helpers.h"

unsigned int vmmexp_helper_dev_name_hash(struct device *dev)
{
	const char *name = dev_name(dev);

	return full_name_hash(NULL, name, strlen(name));
}

bool vmmexp_helper_dev_is_dma_coherent(struct device *dev)
{
	return dev_is_dma_coherent(dev);
}

bool vmmexp_helper_dma_is_direct(struct device *dev)
{
	return !use_dma_iommu(dev) && !get_dma_ops(dev);
}

/*
 * What dma_capable() tells of memory that is not to be bounced. Itself it cannot
 * be used on x86, where it needs force_dma_unencrypted(), which is not exported:
 * guests with encrypted memory bounce everything.
 */
bool vmmexp_helper_dma_reaches(struct device *dev, phys_addr_t phys, size_t len)
{
	dma_addr_t addr, end;

	if (!dev->dma_mask || is_swiotlb_force_bounce(dev) ||
	    cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return false;
	addr = phys_to_dma(dev, phys);
	end = addr + len - 1;
	return addr != DMA_MAPPING_ERROR && end >= addr &&
	       end <= min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

dma_addr_t vmmexp_helper_phys_to_dma(struct device *dev, phys_addr_t phys)
{
	return phys_to_dma(dev, phys);
}

int vmmexp_helper_dma_coerce_mask_and_coherent(struct device *dev, u64 mask)
{
	return dma_coerce_mask_and_coherent(dev, mask);
}

void vmmexp_helper_dma_forget_swiotlb(struct device *dev)
{
#ifdef CONFIG_SWIOTLB
	dev->dma_io_tlb_mem = NULL;
#endif
}

void vmmexp_helper_dma_sync_single_for_cpu(struct device *dev, dma_addr_t addr,
					   size_t len, enum dma_data_direction dir)
{
	dma_sync_single_for_cpu(dev, addr, len, dir);
}

void vmmexp_helper_dma_sync_single_for_device(struct device *dev, dma_addr_t addr,
					      size_t len, enum dma_data_direction dir)
{
	dma_sync_single_for_device(dev, addr, len, dir);
}

int vmmexp_helper_dma_get_cache_alignment(void)
{
	return dma_get_cache_alignment();
}

unsigned int vmmexp_helper_dma_get_max_seg_size(struct device *dev)
{
	return dma_get_max_seg_size(dev);
}

unsigned long vmmexp_helper_page_to_pfn(struct page *page)
{
	return page_to_pfn(page);
}

struct page *vmmexp_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

unsigned long vmmexp_helper_task_size_max(void)
{
	return TASK_SIZE_MAX;
}

unsigned long vmmexp_helper_totalram_pages(void)
{
	return totalram_pages();
}

unsigned long vmmexp_helper_untagged_addr(unsigned long addr)
{
	return untagged_addr(addr);
}

void *vmmexp_helper_vmap(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}

bool vmmexp_helper_vma_is_fsdax(struct vm_area_struct *vma)
{
	return vma_is_fsdax(vma);
}

void vmmexp_helper_vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear)
{
	vm_flags_mod(vma, set, clear);
}

/* memfd_fcntl() is not exported. Files without seals have none. */
unsigned int vmmexp_helper_file_seals(struct file *file)
{
	struct inode *inode = file_inode(file);

	if (shmem_mapping(inode->i_mapping))
		return READ_ONCE(SHMEM_I(inode)->seals);
#ifdef CONFIG_HUGETLBFS
	if (is_file_hugepages(file))
		return READ_ONCE(HUGETLBFS_I(inode)->seals);
#endif
	return 0;
}

void vmmexp_helper_cond_resched(void)
{
	cond_resched();
}

bool vmmexp_helper_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

phys_addr_t vmmexp_helper_sg_phys(struct scatterlist *sg)
{
	return sg_phys(sg);
}

void vmmexp_helper_sg_set_page(struct scatterlist *sg, struct page *page,
			       unsigned int len)
{
	sg_set_page(sg, page, len, 0);
}

void vmmexp_helper_sg_set_dma(struct scatterlist *sg, dma_addr_t addr,
			      unsigned int len)
{
	sg_dma_address(sg) = addr;
	sg_dma_len(sg) = len;
}
