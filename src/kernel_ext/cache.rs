// SPDX-License-Identifier: GPL-2.0-only

//! Maintenance of the CPU's caches over physical memory.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h).
//!
//! The functions that maintain caches are not exported; the DMA API is the way to them. A
//! [`Maintainer`] is a device which exists for nothing else: non-coherent where the architecture
//! has such devices, reaching all memory, never bouncing. One pass through it does the CPU's part
//! for whatever device looks at the memory.

use super::{
    compat,
    cond_resched,
    device_as_raw,
    dma,
    extent::{
        self,
        Extent, //
    },
    helpers,
    PAGE_SHIFT, //
};
use kernel::{
    bindings,
    device::Device,
    dma::DataDirection,
    error::to_result,
    faux,
    prelude::*,
    sync::aref::ARef, //
};

/// How many bytes are maintained without giving way to others.
const STEP: u64 = 4 << 20;

/// The granularity of cache maintenance, bytes.
pub(crate) fn alignment() -> u64 {
    // SAFETY: A property of the machine.
    unsafe { helpers::vmmexp_helper_dma_get_cache_alignment() as u64 }
}

/// Which side is about to access the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The CPU: what devices wrote becomes visible to it.
    Cpu,
    /// Devices: what the CPU wrote becomes visible to them.
    Device,
}

/// The registration of a device to maintain caches through.
pub(crate) struct Registration {
    faux: faux::Registration,
}

impl Registration {
    /// Registers the device as `name`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let this = Self {
            faux: faux::Registration::new(name, None)?,
        };
        let raw = device_as_raw(this.device());
        // SAFETY: The device is valid, bound to the faux driver, and unknown to others as yet.
        unsafe {
            to_result(helpers::vmmexp_helper_dma_coerce_mask_and_coherent(
                raw,
                u64::MAX,
            ))?;
            helpers::vmmexp_helper_dma_forget_swiotlb(raw);
        }
        Ok(this)
    }

    fn device(&self) -> &Device {
        compat::faux_device(&self.faux)
    }

    /// A handle to the device.
    pub(crate) fn maintainer(&self) -> Maintainer {
        Maintainer {
            dev: self.device().into(),
        }
    }
}

/// A device to maintain caches through.
///
/// # Invariants
///
/// `dev` is that of a [`Registration`], unregistered or not.
#[derive(Clone)]
pub(crate) struct Maintainer {
    dev: ARef<Device>,
}

impl Maintainer {
    /// Whether maintenance does anything on this machine.
    pub(crate) fn is_needed(&self) -> bool {
        !dma::is_coherent(&self.dev)
    }
}

/// The caches over a list of extents.
///
/// # Invariants
///
/// If `mapped`, every extent is mapped for the maintainer's device: the DMA API wants to see a
/// mapping before it is told to maintain one. With dma-direct that is bookkeeping of its debugging
/// code and costs nothing else.
pub(super) struct Caches {
    maintainer: Maintainer,
    mapped: bool,
}

impl Caches {
    /// For the caches over `extents`.
    ///
    /// # Safety
    ///
    /// The memory must stay allocated until [`Caches::end`], and be covered by the linear map, or
    /// have `struct page`s.
    pub(super) unsafe fn new(maintainer: Maintainer, extents: &[Extent]) -> Self {
        let raw = device_as_raw(&maintainer.dev);
        // Confidential guests share nothing with devices, and a mapping would warn.
        let mapped = maintainer.is_needed() && dma::reaches(&maintainer.dev, extents);
        if mapped {
            for extent in extents {
                // SAFETY: The device is valid and reaches the extent. Its addresses are physical
                // ones, so the one returned is known and cannot be an error.
                unsafe {
                    bindings::dma_map_phys(
                        raw,
                        extent.phys(PAGE_SHIFT) as bindings::phys_addr_t,
                        extent.pages << PAGE_SHIFT,
                        DataDirection::Bidirectional.into(),
                        bindings::DMA_ATTR_SKIP_CPU_SYNC as c_ulong,
                    )
                };
            }
        }
        // INVARIANT: Mapped as `mapped` tells.
        Self { maintainer, mapped }
    }

    /// Maintains the caches over `len` bytes from `offset` on for access by `side`, rounded
    /// outward to [`alignment`]. May sleep. Does nothing if the machine needs nothing.
    ///
    /// # Safety
    ///
    /// `extents` must be those given to [`Caches::new`].
    pub(super) unsafe fn maintain(
        &self,
        extents: &[Extent],
        offset: u64,
        len: u64,
        direction: DataDirection,
        side: Side,
    ) {
        if !self.mapped {
            return;
        }
        let raw = device_as_raw(&self.maintainer.dev);
        // A power of two.
        let mask = alignment() - 1;
        let start = offset & !mask;
        let len = ((offset + len + mask) & !mask) - start;

        for piece in extent::pieces(extents, PAGE_SHIFT, start, len, STEP) {
            // SAFETY: By the invariants, and the contract of this function, the piece lies within
            // a mapping of this device.
            unsafe {
                let addr =
                    helpers::vmmexp_helper_phys_to_dma(raw, piece.phys as bindings::phys_addr_t);
                let len = piece.len as usize;
                match side {
                    Side::Cpu => helpers::vmmexp_helper_dma_sync_single_for_cpu(
                        raw,
                        addr,
                        len,
                        direction.into(),
                    ),
                    Side::Device => helpers::vmmexp_helper_dma_sync_single_for_device(
                        raw,
                        addr,
                        len,
                        direction.into(),
                    ),
                }
            }
            cond_resched();
        }
    }

    /// Ends it, before the memory goes.
    ///
    /// # Safety
    ///
    /// `extents` must be those given to [`Caches::new`], and this the last call.
    pub(super) unsafe fn end(&mut self, extents: &[Extent]) {
        if !self.mapped {
            return;
        }
        let raw = device_as_raw(&self.maintainer.dev);
        for extent in extents {
            // SAFETY: Mapped in `new` in the same way, by the invariants.
            unsafe {
                bindings::dma_unmap_phys(
                    raw,
                    helpers::vmmexp_helper_phys_to_dma(
                        raw,
                        extent.phys(PAGE_SHIFT) as bindings::phys_addr_t,
                    ),
                    extent.pages << PAGE_SHIFT,
                    DataDirection::Bidirectional.into(),
                    bindings::DMA_ATTR_SKIP_CPU_SYNC as c_ulong,
                )
            };
        }
        // INVARIANT: Nothing is mapped any more.
        self.mapped = false;
    }
}
