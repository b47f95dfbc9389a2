/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the mock importer needs from C: one function for each thing that the
 * kernel has only as an inline function, or that differs between kernels.
 */
#ifndef VMMEXP_MOCK_HELPERS_H
#define VMMEXP_MOCK_HELPERS_H

#include <linux/types.h>

struct dma_buf;
struct device;
struct device_dma_parameters;
struct iosys_map;
struct scatterlist;

bool vmmexp_mock_device_coherent(struct device *dev);
int vmmexp_mock_device_init(struct device *dev, struct device_dma_parameters *parms,
			    u64 mask, u64 bus_limit, int coherent);
int vmmexp_mock_device_set_windows(struct device *dev, u64 border, u64 shift);
phys_addr_t vmmexp_mock_dma_to_phys(struct device *dev, dma_addr_t addr);
struct device *vmmexp_mock_pci_get(u32 vendor, u32 device);
void vmmexp_mock_pci_put(struct device *dev);
void vmmexp_mock_get_dma_buf(struct dma_buf *dmabuf);
void vmmexp_mock_resv_lock(struct dma_buf *dmabuf);
void vmmexp_mock_resv_unlock(struct dma_buf *dmabuf);
void vmmexp_mock_iosys_read(const struct iosys_map *map, size_t offset, void *buf, size_t len);
void vmmexp_mock_iosys_write(struct iosys_map *map, size_t offset, const void *buf, size_t len);
int vmmexp_mock_phys_copy(phys_addr_t phys, bool has_page, void *buf, size_t len, bool write);
u64 vmmexp_mock_sg_page_phys(struct scatterlist *sg);

#endif /* VMMEXP_MOCK_HELPERS_H */
