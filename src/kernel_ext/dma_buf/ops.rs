// SPDX-License-Identifier: GPL-2.0-only

//! `struct dma_buf_ops`: what the dma-buf core calls.

use super::{
    super::{
        cache::Side,
        dma::{
            self,
            MapError,
            Mapping, //
        },
        vmap,
        PAGE_SHIFT, //
    },
    mmap,
    wait_for_devices,
    Exporter,
    Memory,
    Shared, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::Device,
    dma::DataDirection,
    prelude::*,
    sync::{
        atomic::{
            Full,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    }, //
};

/// The operations of an exporter's dma-bufs.
///
/// Two tables, as a dma-buf that the kernel must not map is one whose operations lack `vmap`: the
/// core refuses that quietly, where an error from `vmap` would be a warning.
pub(crate) struct Ops<T: Exporter> {
    with_vmap: bindings::dma_buf_ops,
    without_vmap: bindings::dma_buf_ops,
    _exporter: PhantomData<fn(T)>,
}

impl<T: Exporter> Ops<T> {
    /// The tables, to be put in a `static`.
    pub(crate) const fn new() -> Self {
        Self {
            with_vmap: Self::build(true),
            without_vmap: Self::build(false),
            _exporter: PhantomData,
        }
    }

    const fn build(vmap: bool) -> bindings::dma_buf_ops {
        bindings::dma_buf_ops {
            attach: Some(Self::attach),
            detach: Some(Self::detach),
            map_dma_buf: Some(Self::observed_map_dma_buf),
            unmap_dma_buf: Some(Self::observed_unmap_dma_buf),
            release: Some(Self::release),
            begin_cpu_access: Some(Self::observed_begin_cpu_access),
            end_cpu_access: Some(Self::observed_end_cpu_access),
            mmap: Some(Self::mmap),
            vmap: if vmap { Some(Self::vmap) } else { None },
            // For what was mapped before a revocation, which changes the table.
            vunmap: Some(Self::vunmap),
            ..pin_init::zeroed()
        }
    }

    pub(super) fn table(&'static self, vmap: bool) -> *const bindings::dma_buf_ops {
        if vmap {
            &self.with_vmap
        } else {
            &self.without_vmap
        }
    }

    pub(super) fn is_of(&'static self, ops: *const bindings::dma_buf_ops) -> bool {
        ops == self.table(true) || ops == self.table(false)
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations, and not be released for `'a`.
    pub(super) unsafe fn shared<'a>(dmabuf: *mut bindings::dma_buf) -> ArcBorrow<'a, Shared<T>> {
        // SAFETY: `priv` of a dma-buf with these operations is from `Arc::into_raw`, and a
        // reference until `release`.
        unsafe { ArcBorrow::from_raw((*dmabuf).priv_.cast::<Shared<T>>()) }
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations, `attachment` a new one of it.
    unsafe extern "C" fn attach(
        dmabuf: *mut bindings::dma_buf,
        attachment: *mut bindings::dma_buf_attachment,
    ) -> c_int {
        // SAFETY: The importer holds the dma-buf.
        let shared = unsafe { Self::shared(dmabuf) };
        // SAFETY: The attachment is valid.
        let peer2peer = unsafe { (*attachment).peer2peer };

        if shared.plain || peer2peer {
            shared.users.attachments.add(1, Relaxed);
            0
        } else {
            // `EOPNOTSUPP`, which the crate of 7.2 does not name.
            -(bindings::EOPNOTSUPP as c_int)
        }
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations, `attachment` one that
    /// [`Self::attach`] agreed to.
    unsafe extern "C" fn detach(
        dmabuf: *mut bindings::dma_buf,
        _attachment: *mut bindings::dma_buf_attachment,
    ) {
        // SAFETY: The importer holds the dma-buf.
        let shared = unsafe { Self::shared(dmabuf) };
        shared.users.attachments.add(-1, Relaxed);
    }

    /// # Safety
    ///
    /// `attachment` must be one of a dma-buf with these operations, whose reservation lock is held.
    pub(super) unsafe extern "C" fn map_dma_buf(
        attachment: *mut bindings::dma_buf_attachment,
        direction: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: Importers hold the dma-buf while they are attached to it.
        let shared = unsafe { Self::shared((*attachment).dmabuf) };
        // SAFETY: The importer keeps its device for as long as the attachment.
        let dev = unsafe { Device::from_raw((*attachment).dev) };
        let Some(direction) = dma::direction_from_raw(direction) else {
            return EINVAL.to_ptr();
        };
        if !shared.access.allows_dma(direction) {
            return EACCES.to_ptr();
        }
        if shared.is_revoked() {
            return ENODEV.to_ptr();
        }
        let Some(used) = shared.begin_use() else {
            return ENODEV.to_ptr();
        };
        let coherent = dma::is_coherent(dev);
        if !coherent {
            // From here on END of somebody else does the work for this device too.
            used.noncoherent.fetch_add(1, Full);
            used.prepare_noncoherent(direction);
        }
        // SAFETY: The memory is as `Mapping::new` wants it by the contract of `Memory`, and stays
        // for as long as it is used, until the importer unmaps. It also has to be bound to its
        // device for as long as it has a mapping.
        match unsafe { Mapping::new(dev, used.memory().extents(), direction, coherent) } {
            Ok(mapping) => {
                used.users.mappings.add(1, Relaxed);
                // Taken up again in `unmap_dma_buf`.
                used.keep();
                Mapping::into_raw(mapping)
            }
            Err(err) => {
                if !coherent {
                    used.noncoherent.add(-1, Relaxed);
                }
                match err {
                    MapError::Unreachable => {
                        used.exporter.unreachable(dev);
                        EIO.to_ptr()
                    }
                    MapError::Other(err) => err.to_ptr(),
                }
            }
        }
    }

    /// # Safety
    ///
    /// `table` must come from [`Self::map_dma_buf`] for this `attachment`, and not be used any
    /// more. The reservation lock must be held.
    pub(super) unsafe extern "C" fn unmap_dma_buf(
        attachment: *mut bindings::dma_buf_attachment,
        table: *mut bindings::sg_table,
        _direction: bindings::dma_data_direction,
    ) {
        // SAFETY: Importers hold the dma-buf while they are attached to it.
        let shared = unsafe { Self::shared((*attachment).dmabuf) };
        // SAFETY: `map_dma_buf` kept a use for this mapping.
        let used = unsafe { shared.kept_use() };
        // SAFETY: The table is from `map_dma_buf`, and the importer gives it up.
        let mapping = unsafe { Mapping::from_raw(table) };

        let (coherent, direction) = (mapping.is_coherent(), mapping.direction());
        drop(mapping);
        used.users.mappings.add(-1, Relaxed);
        if !coherent {
            used.sync_reserved(direction, Side::Cpu);
            used.noncoherent.add(-1, Relaxed);
        }
    }

    /// # Safety
    ///
    /// `dmabuf` must be a dma-buf with these operations that nothing refers to any more.
    unsafe extern "C" fn release(dmabuf: *mut bindings::dma_buf) {
        // SAFETY: `priv` is from `Arc::into_raw` in `export`. The core calls this once.
        drop(unsafe { Arc::from_raw((*dmabuf).priv_.cast::<Shared<T>>()) });
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations.
    unsafe fn cpu_access(
        dmabuf: *mut bindings::dma_buf,
        direction: bindings::dma_data_direction,
        side: Side,
    ) -> c_int {
        // SAFETY: The caller holds the dma-buf.
        let shared = unsafe { Self::shared(dmabuf) };
        let Some(direction) = dma::direction_from_raw(direction) else {
            return EINVAL.to_errno();
        };
        if !shared.access.allows_cpu(direction) {
            return EACCES.to_errno();
        }
        if side == Side::Cpu {
            if shared.is_revoked() {
                return ENODEV.to_errno();
            }
            // The core waits too, but afterwards: lines given up now could come back from before
            // a device has written.
            let for_writing = !matches!(direction, DataDirection::FromDevice);
            // SAFETY: The caller holds the dma-buf.
            if let Err(err) = unsafe { wait_for_devices(dmabuf, for_writing) } {
                return err.to_errno();
            }
        }
        // What was begun can be ended, also when nothing is left of it.
        if let Some(used) = shared.begin_use() {
            used.sync_all(direction, side);
        }
        0
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations.
    pub(super) unsafe extern "C" fn begin_cpu_access(
        dmabuf: *mut bindings::dma_buf,
        direction: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: As demanded of our caller.
        unsafe { Self::cpu_access(dmabuf, direction, Side::Cpu) }
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations.
    pub(super) unsafe extern "C" fn end_cpu_access(
        dmabuf: *mut bindings::dma_buf,
        direction: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: As demanded of our caller.
        unsafe { Self::cpu_access(dmabuf, direction, Side::Device) }
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations, `vma` a new VMA of its file.
    unsafe extern "C" fn mmap(
        dmabuf: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The VMA holds the file, and with it the dma-buf.
        let shared = unsafe { Self::shared(dmabuf) };
        // SAFETY: The VMA is new, and its file keeps `shared`.
        match unsafe { mmap::mmap(&*shared, vma) } {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations, its reservation lock held, and
    /// `map` valid for writing.
    unsafe extern "C" fn vmap(
        dmabuf: *mut bindings::dma_buf,
        map: *mut bindings::iosys_map,
    ) -> c_int {
        // SAFETY: The caller holds the dma-buf.
        let shared = unsafe { Self::shared(dmabuf) };
        // An error would be a warning. Once revoked this is not called any more, and before that
        // there is always a use.
        let Some(used) = shared.begin_use() else {
            return ENODEV.to_errno();
        };
        let mapped = match used.only_reserved() {
            Some((region, extent)) => Ok(region.kernel_addr(extent.phys(PAGE_SHIFT))),
            // SAFETY: All have `struct page`s, or there would be no `vmap`, and stay for as long
            // as they are used. The core calls `vunmap` before that ends, and only maps once at a
            // time.
            None => unsafe { vmap::vmap(used.memory().extents()) }.map(NonNull::as_ptr),
        };
        match mapped {
            Ok(addr) => {
                let mut new = bindings::iosys_map::default();
                new.__bindgen_anon_1.vaddr = addr;
                // SAFETY: The core passes a place for the result.
                unsafe { map.write(new) };
                used.users.vmaps.add(1, Relaxed);
                // Taken up again in `vunmap`.
                used.keep();
                0
            }
            Err(err) => err.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `map` must come from [`Self::vmap`] and not be used any more.
    unsafe extern "C" fn vunmap(dmabuf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) {
        // SAFETY: The caller holds the dma-buf, and `vmap` kept a use for this mapping.
        let used = unsafe { Self::shared(dmabuf).kept_use() };
        used.users.vmaps.add(-1, Relaxed);
        if used.only_reserved().is_some() {
            // The region stays mapped.
            return;
        }
        // SAFETY: `map` is what `vmap` wrote.
        let addr = unsafe { (*map).__bindgen_anon_1.vaddr };
        if let Some(addr) = NonNull::new(addr) {
            // SAFETY: The address is from `vmap::vmap`, and the core gives it up.
            unsafe { vmap::vunmap(addr) };
        }
    }
}
