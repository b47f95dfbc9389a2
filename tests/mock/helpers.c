// SPDX-License-Identifier: GPL-2.0-only
/*
 * C half of the mock importer, see helpers.h.
 */
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/iosys-map.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "helpers.h"

bool vmmexp_mock_device_coherent(struct device *dev)
{
	return dev_is_dma_coherent(dev);
}

#if defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_DEVICE) || \
	defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU) || \
	defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU_ALL)
static int set_coherent(struct device *dev, bool coherent)
{
	dev_assign_dma_coherent(dev, coherent);
	return 0;
}
#else
static int set_coherent(struct device *dev, bool coherent)
{
	/* Every device snoops here. */
	return coherent ? 0 : -EOPNOTSUPP;
}
#endif

/*
 * Give a device that nobody uses yet its limits. @parms may be NULL: a driver
 * without dma_parms. @coherent: 0 no, 1 yes, negative: as the machine has it.
 */
int vmmexp_mock_device_init(struct device *dev, struct device_dma_parameters *parms,
			    u64 mask, u64 bus_limit, int coherent)
{
	int ret;

	if (coherent >= 0) {
		ret = set_coherent(dev, coherent);
		if (ret)
			return ret;
	}
	ret = dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	/*
	 * Not through dma_set_mask(), which refuses a mask that part of this
	 * machine's memory lies above: a device that cannot reach the memory
	 * is what is wanted here.
	 */
	*dev->dma_mask = mask;
	dev->bus_dma_limit = bus_limit;
	dev->dma_parms = parms;
	return 0;
}

/*
 * As with two entries of dma-ranges: below @border addresses are the same on
 * the bus, from there on @shift is added; U64_MAX: nothing above is reached.
 * The driver core frees the map along with the device's other DMA settings.
 */
int vmmexp_mock_device_set_windows(struct device *dev, u64 border, u64 shift)
{
	struct bus_dma_region *map;

	/* One that has no size ends it. */
	map = kcalloc(3, sizeof(*map), GFP_KERNEL);
	if (!map)
		return -ENOMEM;
	map[0].size = border;
	if (shift != U64_MAX) {
		map[1].cpu_start = border;
		map[1].dma_start = border + shift;
		map[1].size = U64_MAX - border - shift;
	}
	dev->dma_range_map = map;
	return 0;
}

/* A fake device has no IOMMU: what it would put on the bus is what phys says. */
phys_addr_t vmmexp_mock_dma_to_phys(struct device *dev, dma_addr_t addr)
{
	return dma_to_phys(dev, addr);
}

/*
 * A real device, which does what the test's program tells its registers. That
 * it has no driver makes no difference to its IOMMU.
 */
struct device *vmmexp_mock_pci_get(u32 vendor, u32 device)
{
	struct pci_dev *pdev = pci_get_device(vendor, device, NULL);
	int ret = -EBUSY;

	if (!pdev)
		return ERR_PTR(-ENODEV);
	if (pdev->dev.driver)
		goto put;
	ret = pci_enable_device(pdev);
	if (ret)
		goto put;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		goto disable;
	pci_set_master(pdev);
	return &pdev->dev;

disable:
	pci_disable_device(pdev);
put:
	pci_dev_put(pdev);
	return ERR_PTR(ret);
}

void vmmexp_mock_pci_put(struct device *dev)
{
	struct pci_dev *pdev = to_pci_dev(dev);

	pci_clear_master(pdev);
	pci_disable_device(pdev);
	pci_dev_put(pdev);
}

void vmmexp_mock_get_dma_buf(struct dma_buf *dmabuf)
{
	get_dma_buf(dmabuf);
}

void vmmexp_mock_resv_lock(struct dma_buf *dmabuf)
{
	/* Without a context there is nothing that could make it fail. */
	dma_resv_lock(dmabuf->resv, NULL);
}

void vmmexp_mock_resv_unlock(struct dma_buf *dmabuf)
{
	dma_resv_unlock(dmabuf->resv);
}

void vmmexp_mock_iosys_read(const struct iosys_map *map, size_t offset, void *buf, size_t len)
{
	iosys_map_memcpy_from(buf, map, offset, len);
}

void vmmexp_mock_iosys_write(struct iosys_map *map, size_t offset, const void *buf, size_t len)
{
	iosys_map_memcpy_to(map, offset, buf, len);
}

/*
 * Read or write @len bytes at a physical address, within one page, as a device
 * would that snoops the CPU's caches. Memory with a page goes through the
 * kernel's own mapping of it; memory without one may not be in the linear map.
 */
int vmmexp_mock_phys_copy(phys_addr_t phys, bool has_page, void *buf, size_t len, bool write)
{
	size_t offset = offset_in_page(phys);
	void *page;

	if (has_page)
		page = kmap_local_pfn(PHYS_PFN(phys));
	else
		page = memremap(phys - offset, PAGE_SIZE, MEMREMAP_WB);
	if (!page)
		return -ENOMEM;
	if (write)
		memcpy(page + offset, buf, len);
	else
		memcpy(buf, page + offset, len);
	if (has_page)
		kunmap_local(page);
	else
		memunmap(page);
	return 0;
}

/* All ones where the entry has no page. */
u64 vmmexp_mock_sg_page_phys(struct scatterlist *sg)
{
	return sg_page(sg) ? sg_phys(sg) : U64_MAX;
}
