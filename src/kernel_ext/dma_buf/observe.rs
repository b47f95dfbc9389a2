// SPDX-License-Identifier: GPL-2.0-only

//! What an exporter is told of the use of its dma-bufs.

use super::{
    super::{
        dma,
        helpers, //
    },
    ops::Ops,
    Exporter, //
};
use kernel::{
    bindings,
    device::Device,
    dma::DataDirection,
    error::from_err_ptr,
    prelude::*, //
};

/// Something that is done with a dma-buf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A device is given a mapping.
    Map,
    /// A device gives a mapping up.
    Unmap,
    /// Somebody begins to access all of it by the CPU.
    BeginCpuAccess,
    /// Somebody ends that.
    EndCpuAccess,
}

/// What was done with a dma-buf.
pub(crate) struct Done<'a> {
    /// What.
    pub(crate) act: Act,
    /// The dma-buf: see [`DmaBuf::id`](super::DmaBuf::id).
    pub(crate) id: u64,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// The device, of a mapping.
    pub(crate) dev: Option<&'a Device>,
    /// The direction.
    pub(crate) direction: DataDirection,
    /// The entries of the scatterlist, of a mapping.
    pub(crate) segs: u32,
    /// How it ended: a negative errno, or 0.
    pub(crate) error: i32,
}

/// The operations, and the exporter told of them.
impl<T: Exporter> Ops<T> {
    /// # Safety
    ///
    /// As of [`Self::map_dma_buf`].
    pub(super) unsafe extern "C" fn observed_map_dma_buf(
        attachment: *mut bindings::dma_buf_attachment,
        raw_direction: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: Importers hold the dma-buf while they are attached to it.
        let exporter = unsafe { &Self::shared((*attachment).dmabuf).exporter };
        let watch = exporter.begins(Act::Map);
        // SAFETY: As demanded of our caller.
        let table = unsafe { Self::map_dma_buf(attachment, raw_direction) };
        if let Some(watch) = watch {
            let (segs, error) = match from_err_ptr(table) {
                // SAFETY: The table is valid until it is unmapped, which comes later.
                Ok(table) => (unsafe { (*table).nents }, 0),
                Err(err) => (0, err.to_errno()),
            };
            // SAFETY: As demanded of our caller.
            unsafe {
                Self::tell(
                    exporter,
                    watch,
                    Act::Map,
                    attachment,
                    raw_direction,
                    segs,
                    error,
                )
            };
        }
        table
    }

    /// # Safety
    ///
    /// As of [`Self::unmap_dma_buf`].
    pub(super) unsafe extern "C" fn observed_unmap_dma_buf(
        attachment: *mut bindings::dma_buf_attachment,
        table: *mut bindings::sg_table,
        raw_direction: bindings::dma_data_direction,
    ) {
        // SAFETY: Importers hold the dma-buf while they are attached to it.
        let exporter = unsafe { &Self::shared((*attachment).dmabuf).exporter };
        let watch = exporter.begins(Act::Unmap);
        // SAFETY: The table is valid until it is unmapped.
        let segs = unsafe { (*table).nents };
        // SAFETY: As demanded of our caller.
        unsafe { Self::unmap_dma_buf(attachment, table, raw_direction) };
        if let Some(watch) = watch {
            // SAFETY: As demanded of our caller.
            unsafe {
                Self::tell(
                    exporter,
                    watch,
                    Act::Unmap,
                    attachment,
                    raw_direction,
                    segs,
                    0,
                )
            };
        }
    }

    /// Tells of an act for a device.
    ///
    /// # Safety
    ///
    /// `attachment` must be valid, and its dma-buf that of `exporter`.
    unsafe fn tell(
        exporter: &T,
        watch: T::Watch,
        act: Act,
        attachment: *mut bindings::dma_buf_attachment,
        raw_direction: bindings::dma_data_direction,
        segs: u32,
        error: i32,
    ) {
        // SAFETY: The attachment is valid, says the caller, and with it dma-buf and device.
        let (dmabuf, dev) = unsafe { ((*attachment).dmabuf, Device::from_raw((*attachment).dev)) };
        let Some(direction) = dma::direction_from_raw(raw_direction) else {
            return;
        };
        exporter.ended(
            watch,
            &Done {
                act,
                // SAFETY: The dma-buf is valid.
                id: unsafe { helpers::vmmexp_helper_dma_buf_id(dmabuf) },
                // SAFETY: As above; the size never changes.
                // CAST: No wider than 64 bits.
                bytes: unsafe { (*dmabuf).size } as u64,
                dev: Some(dev),
                direction,
                segs,
                error,
            },
        );
    }

    /// # Safety
    ///
    /// As of [`Self::begin_cpu_access`].
    pub(super) unsafe extern "C" fn observed_begin_cpu_access(
        dmabuf: *mut bindings::dma_buf,
        raw_direction: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: As demanded of our caller.
        unsafe { Self::observe_cpu_access(dmabuf, raw_direction, Act::BeginCpuAccess) }
    }

    /// # Safety
    ///
    /// As of [`Self::end_cpu_access`].
    pub(super) unsafe extern "C" fn observed_end_cpu_access(
        dmabuf: *mut bindings::dma_buf,
        raw_direction: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: As demanded of our caller.
        unsafe { Self::observe_cpu_access(dmabuf, raw_direction, Act::EndCpuAccess) }
    }

    /// # Safety
    ///
    /// `dmabuf` must be a valid dma-buf with these operations.
    unsafe fn observe_cpu_access(
        dmabuf: *mut bindings::dma_buf,
        raw_direction: bindings::dma_data_direction,
        act: Act,
    ) -> c_int {
        // SAFETY: The caller holds the dma-buf.
        let exporter = unsafe { &Self::shared(dmabuf).exporter };
        let watch = exporter.begins(act);
        // SAFETY: As demanded of our caller.
        let ret = unsafe {
            if act == Act::BeginCpuAccess {
                Self::begin_cpu_access(dmabuf, raw_direction)
            } else {
                Self::end_cpu_access(dmabuf, raw_direction)
            }
        };
        if let (Some(watch), Some(direction)) = (watch, dma::direction_from_raw(raw_direction)) {
            exporter.ended(
                watch,
                &Done {
                    act,
                    // SAFETY: The dma-buf is valid.
                    id: unsafe { helpers::vmmexp_helper_dma_buf_id(dmabuf) },
                    // SAFETY: As above; the size never changes.
                    // CAST: No wider than 64 bits.
                    bytes: unsafe { (*dmabuf).size } as u64,
                    dev: None,
                    direction,
                    segs: 0,
                    error: ret,
                },
            );
        }
        ret
    }
}
