// SPDX-License-Identifier: GPL-2.0-only

//! The functions of `helpers.c`.

use kernel::{
    bindings,
    ffi,
    prelude::*, //
};

// The structures of the kernel have fields that are empty in some configurations; here there are
// only pointers to them.
#[allow(improper_ctypes)]
extern "C" {
    /// Whether `dev` snoops the CPU's caches.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device.
    #[link_name = "vmmexp_mock_device_coherent"]
    pub(crate) fn device_coherent(dev: *mut bindings::device) -> bool;

    /// Give a device its limits.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device that nobody uses for DMA yet; `parms` NULL, or valid as long
    /// as the device is.
    #[link_name = "vmmexp_mock_device_init"]
    pub(crate) fn device_init(
        dev: *mut bindings::device,
        parms: *mut bindings::device_dma_parameters,
        mask: u64,
        bus_limit: u64,
        coherent: c_int,
    ) -> c_int;

    /// Give a device a bus with two windows to memory.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device that nobody uses for DMA yet, and have no windows.
    #[link_name = "vmmexp_mock_device_set_windows"]
    pub(crate) fn device_set_windows(dev: *mut bindings::device, border: u64, shift: u64) -> c_int;

    /// The physical address that a device without an IOMMU reaches at `addr`.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device.
    #[link_name = "vmmexp_mock_dma_to_phys"]
    pub(crate) fn dma_to_phys(
        dev: *mut bindings::device,
        addr: bindings::dma_addr_t,
    ) -> bindings::phys_addr_t;

    /// Take hold of the first PCI device of a kind: enabled, master of the bus, with 64 bits of
    /// address. An error pointer if there is none or a driver has it.
    ///
    /// # Safety
    ///
    /// None: any numbers may be asked for.
    #[link_name = "vmmexp_mock_pci_get"]
    pub(crate) fn pci_get(vendor: u32, device: u32) -> *mut bindings::device;

    /// Let go of it.
    ///
    /// # Safety
    ///
    /// `dev` must come from `pci_get` and not be used any more.
    #[link_name = "vmmexp_mock_pci_put"]
    pub(crate) fn pci_put(dev: *mut bindings::device);

    /// Take one more reference.
    ///
    /// # Safety
    ///
    /// The caller must have a reference to `dmabuf`.
    #[link_name = "vmmexp_mock_get_dma_buf"]
    pub(crate) fn get_dma_buf(dmabuf: *mut bindings::dma_buf);

    /// Take the `dma_resv` lock of `dmabuf`.
    ///
    /// # Safety
    ///
    /// The caller must have a reference to `dmabuf` and not hold the lock.
    #[link_name = "vmmexp_mock_resv_lock"]
    pub(crate) fn resv_lock(dmabuf: *mut bindings::dma_buf);

    /// Give it back.
    ///
    /// # Safety
    ///
    /// The caller must hold the lock.
    #[link_name = "vmmexp_mock_resv_unlock"]
    pub(crate) fn resv_unlock(dmabuf: *mut bindings::dma_buf);

    /// Read `len` bytes at `offset` of `map`.
    ///
    /// # Safety
    ///
    /// `map` must be mapped up to `offset + len`, `buf` be writable for `len` bytes.
    #[link_name = "vmmexp_mock_iosys_read"]
    pub(crate) fn iosys_read(
        map: *const bindings::iosys_map,
        offset: usize,
        buf: *mut ffi::c_void,
        len: usize,
    );

    /// Write `len` bytes at `offset` of `map`.
    ///
    /// # Safety
    ///
    /// `map` must be mapped up to `offset + len` and writable, `buf` be readable for `len` bytes.
    #[link_name = "vmmexp_mock_iosys_write"]
    pub(crate) fn iosys_write(
        map: *mut bindings::iosys_map,
        offset: usize,
        buf: *const ffi::c_void,
        len: usize,
    );

    /// Copy between `buf` and physical memory, as a device would that snoops caches.
    ///
    /// # Safety
    ///
    /// `phys` to `phys + len` must lie in one page of memory that the caller may access, and with
    /// `write` may change; `has_page` must say whether it has a struct page. `buf` must be
    /// readable and, without `write`, writable for `len` bytes.
    #[link_name = "vmmexp_mock_phys_copy"]
    pub(crate) fn phys_copy(
        phys: bindings::phys_addr_t,
        has_page: bool,
        buf: *mut ffi::c_void,
        len: usize,
        write: bool,
    ) -> c_int;

    /// The physical address by the page of `sg`, all ones where it has none.
    ///
    /// # Safety
    ///
    /// `sg` must be a valid entry.
    #[link_name = "vmmexp_mock_sg_page_phys"]
    pub(crate) fn sg_page_phys(sg: *mut bindings::scatterlist) -> u64;
}
