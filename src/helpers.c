// SPDX-License-Identifier: GPL-2.0-only

#include <linux/cc_platform.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/iommu-dma.h>
#include <linux/libnvdimm.h>
#include <linux/of.h>
#include <linux/pci.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/stringhash.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>

#include <asm/cacheflush.h>
#ifdef CONFIG_ARM64
#include <asm/cpufeature.h>
#include <asm/sysreg.h>
#endif
#ifdef CONFIG_ARM
#include <asm/outercache.h>
#endif

#include "vmmexp_helpers.h"

unsigned int vmmexp_helper_dev_name_hash(struct device *dev)
{
	const char *name = dev_name(dev);

	return full_name_hash(NULL, name, strlen(name));
}

u64 vmmexp_helper_dma_buf_id(struct dma_buf *dmabuf)
{
	return file_inode(dmabuf->file)->i_ino;
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
 * Whether an IOMMU stands before the device, and no bounce buffers do: Xen's
 * dma_ops have them, and devices which are not trusted are given them for what
 * does not fill the IOMMU's pages.
 */
bool vmmexp_helper_dma_translates(struct device *dev)
{
	if (!dev->dma_mask || (dev_is_pci(dev) && to_pci_dev(dev)->untrusted))
		return false;
	return use_dma_iommu(dev) || (IS_ENABLED(CONFIG_ARM_DMA_USE_IOMMU) && get_dma_ops(dev));
}

/* Whether a dma-direct device can do DMA at all without bouncing. */
bool vmmexp_helper_dma_never_bounces(struct device *dev)
{
	/* Where the host's memory is encrypted addresses have a bit more. */
	if (cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT) &&
	    min_not_zero(dev->coherent_dma_mask, dev->bus_dma_limit) != DMA_BIT_MASK(64))
		return false;
	return dev->dma_mask && !is_swiotlb_force_bounce(dev) &&
	       !cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT);
}

/*
 * What dma_capable() tells of memory that is not to be bounced. Itself it cannot
 * be used on x86, where it needs force_dma_unencrypted(), which is not exported:
 * guests with encrypted memory bounce everything. First and last byte are both
 * translated, as a bus may have several windows.
 */
bool vmmexp_helper_dma_reaches(struct device *dev, phys_addr_t phys, size_t len)
{
	dma_addr_t addr = phys_to_dma(dev, phys);
	dma_addr_t end = phys_to_dma(dev, phys + len - 1);

	return addr != DMA_MAPPING_ERROR && end != DMA_MAPPING_ERROR &&
	       end - addr == len - 1 &&
	       end <= min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

/* The PCI core sets a maximum that no driver meant: 64 KiB, as it is by default. */
unsigned int vmmexp_helper_dma_driver_max_seg_size(struct device *dev)
{
	unsigned int max = dev->dma_parms ? dev->dma_parms->max_segment_size : 0;

	return dev_is_pci(dev) && max == SZ_64K ? 0 : max;
}

bool vmmexp_helper_dma_mapping_error(struct device *dev, dma_addr_t addr)
{
	return dma_mapping_error(dev, addr);
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

struct page **vmmexp_helper_alloc_page_array(unsigned long count)
{
	return kvmalloc_array(count, sizeof(struct page *), GFP_KERNEL | __GFP_NOFAIL);
}

int vmmexp_helper_dma_get_cache_alignment(void)
{
	return dma_get_cache_alignment();
}

unsigned int vmmexp_helper_dma_get_max_seg_size(struct device *dev)
{
	return dma_get_max_seg_size(dev);
}

/* Whether many more pins on the page could wrap the reference count of its folio. */
bool vmmexp_helper_page_refs_run_out(struct page *page)
{
	return (unsigned int)folio_ref_count(page_folio(page)) > INT_MAX / 2;
}

bool vmmexp_helper_page_is_highmem(struct page *page)
{
	return PageHighMem(page);
}

unsigned long vmmexp_helper_folio_pfn(struct page *page)
{
	return folio_pfn(page_folio(page));
}

unsigned long vmmexp_helper_folio_nr_pages(struct page *page)
{
	return folio_nr_pages(page_folio(page));
}

void vmmexp_helper_put_page(struct page *page)
{
	put_page(page);
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
	/* A 32-bit program's pointers have no room for tags. */
	return in_compat_syscall() ? addr : untagged_addr(addr);
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

bool vmmexp_helper_request_mem_region(phys_addr_t start, size_t len, const char *name)
{
	return request_mem_region(start, len, name);
}

void vmmexp_helper_release_mem_region(phys_addr_t start, size_t len)
{
	release_mem_region(start, len);
}

void *vmmexp_helper_memremap(phys_addr_t start, size_t len, bool cached)
{
	return memremap(start, len, cached ? MEMREMAP_WB : MEMREMAP_WC);
}

/*
 * Maintenance of memory outside the linear map, by the address of a cached
 * mapping: arch_sync_dma_for_*() are not exported, and need the linear map.
 */
bool vmmexp_helper_cache_ops_exist(void)
{
	return IS_ENABLED(CONFIG_ARM) || IS_ENABLED(CONFIG_ARM64);
}

#ifdef CONFIG_ARM64
/* What is exported either cleans or invalidates. */
static void clean_and_invalidate(void *addr, size_t len)
{
	/* CTR_EL0.DminLine: the number of words of the smallest line, to base 2. */
	unsigned long line = 4ul << (read_sanitised_ftr_reg(SYS_CTR_EL0) >> 16 & 0xf);
	unsigned long at = (unsigned long)addr & ~(line - 1);

	for (; at < (unsigned long)addr + len; at += line)
		asm volatile("dc civac, %0" : : "r" (at) : "memory");
	dsb(sy);
}
#endif

/*
 * Writes back and, if @invalidate, gives up: line by line, so that nothing that
 * is stored meanwhile is lost.
 */
void vmmexp_helper_cache_maintain(void *addr, phys_addr_t phys, size_t len, bool invalidate)
{
#if defined(CONFIG_ARM)
	/* Cleans and invalidates; nothing finer is exported. */
	__cpuc_flush_dcache_area(addr, len);
	if (invalidate) {
		outer_flush_range(phys, phys + len);
		__cpuc_flush_dcache_area(addr, len);
	} else {
		outer_clean_range(phys, phys + len);
	}
#elif defined(CONFIG_ARM64)
	if (invalidate)
		clean_and_invalidate(addr, len);
	else
		arch_wb_cache_pmem(addr, len);
#endif
}

void vmmexp_helper_mb(void)
{
	/* Its partner is with whoever else looks at the memory: see the caller. */
	mb();
}

void vmmexp_helper_vma_set_writecombine(struct vm_area_struct *vma)
{
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
}

static bool prot_is_cached(pgprot_t pgprot)
{
	unsigned long prot = pgprot_val(pgprot);

#if defined(CONFIG_ARM64)
	return (prot & PTE_ATTRINDX_MASK) == PTE_ATTRINDX(MT_NORMAL) ||
	       (prot & PTE_ATTRINDX_MASK) == PTE_ATTRINDX(MT_NORMAL_TAGGED);
#elif defined(CONFIG_ARM)
	return (prot & L_PTE_MT_MASK) == L_PTE_MT_WRITEBACK ||
	       (prot & L_PTE_MT_MASK) == L_PTE_MT_WRITEALLOC ||
	       (prot & L_PTE_MT_MASK) == L_PTE_MT_WRITETHROUGH;
#elif defined(CONFIG_X86)
	return !(prot & _PAGE_CACHE_MASK);
#else
	return pgprot_val(pgprot_noncached(pgprot)) != prot;
#endif
}

bool vmmexp_helper_vma_is_cached(struct vm_area_struct *vma)
{
	return prot_is_cached(vma->vm_page_prot);
}

/* How a frame is really mapped: drivers may differ from what the VMA says. */
static pgprot_t pfnmap_prot(struct follow_pfnmap_args *args)
{
#if defined(CONFIG_ARM)
	/* It has no pte_pgprot(), so nobody can tell but the VMA. */
	return args->vma->vm_page_prot;
#elif defined(CONFIG_X86)
	/* In a large entry another bit stands for the same attribute. */
	return args->addr_mask == PAGE_MASK ? args->pgprot : pgprot_large_2_4k(args->pgprot);
#else
	return args->pgprot;
#endif
}

bool vmmexp_helper_pfnmap_is_cached(struct follow_pfnmap_args *args)
{
	return prot_is_cached(pfnmap_prot(args));
}

bool vmmexp_helper_pfnmap_is_writecombine(struct follow_pfnmap_args *args)
{
#if defined(CONFIG_ARM64)
	const unsigned long mask = PTE_ATTRINDX_MASK;
#elif defined(CONFIG_ARM)
	const unsigned long mask = L_PTE_MT_MASK;
#elif defined(CONFIG_X86)
	const unsigned long mask = _PAGE_CACHE_MASK;
#else
	const unsigned long mask = ~0UL;
#endif
	pgprot_t prot = pfnmap_prot(args);

	return (pgprot_val(prot) & mask) == (pgprot_val(pgprot_writecombine(prot)) & mask);
}

bool vmmexp_helper_is_system_ram(phys_addr_t start, size_t len)
{
	return region_intersects(start, len, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) ==
	       REGION_INTERSECTS;
}

vm_fault_t vmmexp_helper_vmf_insert_pfn_writecombine(struct vm_area_struct *vma,
						     unsigned long addr, unsigned long pfn)
{
	return vmf_insert_pfn_prot(vma, addr, pfn, pgprot_writecombine(vma->vm_page_prot));
}

#ifdef CONFIG_OF
int vmmexp_helper_of_region_count(struct device_node *np)
{
	return of_count_phandle_with_args(np, "memory-region", NULL);
}

struct device_node *vmmexp_helper_of_region_node(struct device_node *np, int index)
{
	return of_parse_phandle(np, "memory-region", index);
}

const char *vmmexp_helper_of_string(struct device_node *np, const char *property, int index)
{
	const char *string;

	return of_property_read_string_index(np, property, index, &string) ? NULL : string;
}

bool vmmexp_helper_of_property_present(struct device_node *np, const char *property)
{
	return of_property_present(np, property);
}

/* A function only with CONFIG_OF_DYNAMIC. */
void vmmexp_helper_of_node_put(struct device_node *np)
{
	of_node_put(np);
}
#endif

#ifdef CONFIG_MMU_NOTIFIER
void vmmexp_helper_mmu_interval_set_seq(struct mmu_interval_notifier *notifier,
					unsigned long seq)
{
	mmu_interval_set_seq(notifier, seq);
}
#endif

int vmmexp_helper_platform_driver_register(struct platform_driver *driver)
{
	return platform_driver_register(driver);
}

void vmmexp_helper_cond_resched(void)
{
	cond_resched();
}

bool vmmexp_helper_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

struct user_struct *vmmexp_helper_get_current_user(void)
{
	return get_uid(current_user());
}

void vmmexp_helper_get_uid(struct user_struct *user)
{
	get_uid(user);
}

unsigned long vmmexp_helper_locked_vm_read(struct user_struct *user)
{
	return atomic_long_read(&user->locked_vm);
}

bool vmmexp_helper_locked_vm_try_cmpxchg(struct user_struct *user, unsigned long *old,
					 unsigned long new)
{
	return atomic_long_try_cmpxchg(&user->locked_vm, (long *)old, new);
}

void vmmexp_helper_locked_vm_sub(struct user_struct *user, unsigned long pages)
{
	atomic_long_sub(pages, &user->locked_vm);
}

/* As a number of bytes it would not fit 32 bits where there is no limit. */
unsigned long vmmexp_helper_rlimit_memlock_pages(void)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK);

	return limit == RLIM_INFINITY ? ULONG_MAX : limit >> PAGE_SHIFT;
}

void vmmexp_helper_current_comm(char *comm)
{
	strscpy_pad(comm, current->comm, TASK_COMM_LEN);
}

uid_t vmmexp_helper_current_uid(void)
{
	return from_kuid(&init_user_ns, current_uid());
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
