// SPDX-License-Identifier: GPL-2.0-only

//! Maintenance of the CPU's caches over physical memory.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h).
//!
//! The functions that maintain caches are not exported; the DMA API is the way to them. A
//! [`Maintainer`] is a device which exists for nothing else: non-coherent where the architecture
//! has such devices, reaching all memory, never bouncing. One pass through it does the CPU's part
//! for whatever device looks at the memory.
//!
//! # No line is lost
//!
//! The DMA API invalidates lines without writing them back where it knows that a device was given
//! the memory before. Here nobody knows that: whoever holds a dma-buf may ask for maintenance at
//! any time, and an invalidation alone would throw away what others have stored and lay open what
//! was in memory before it was cleared. So lines are always written back first. Where a device has
//! written there are no dirty lines, if everybody keeps to the rules; if not, the loss is theirs.
//!
//! What is stored after a line was written back and before it is invalidated is lost all the same.
//! Who can bring that about must be allowed to write. So of memory that may only be read, and which
//! no device gets to write either, nothing is invalidated. (Reserved memory is: other cores write
//! it, and [`Reserved::maintain`] does both line by line, with nothing between.)

use super::{
    compat,
    cond_resched,
    device_as_raw,
    dma,
    extent::{
        self,
        Extent,
        Source, //
    },
    helpers,
    reserved::Reserved,
    PAGE_SHIFT, //
};
use core::ops::Range;
use kernel::{
    bindings,
    device::Device,
    dma::DataDirection,
    error::to_result,
    faux,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

/// How many bytes are maintained without giving way to others.
const STEP: u64 = 4 << 20;

/// The granularity of cache maintenance, bytes: a power of two.
pub(crate) fn alignment() -> u64 {
    // SAFETY: A property of the machine.
    unsafe { helpers::vmmexp_helper_dma_get_cache_alignment() as u64 }
}

/// Orders all accesses of this CPU to memory, as other CPUs and bus masters see them.
pub(super) fn barrier() {
    // SAFETY: A barrier.
    unsafe { helpers::vmmexp_helper_mb() };
}

/// Which side is about to access the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The CPU: what devices wrote becomes visible to it.
    Cpu,
    /// Devices: what the CPU wrote becomes visible to them.
    Device,
}

impl Side {
    /// Whether lines must be given up, once written back: what the CPU reads next may be what a
    /// device has written.
    pub(super) fn invalidates(self, direction: DataDirection) -> bool {
        self == Self::Cpu && !matches!(direction, DataDirection::ToDevice)
    }

    /// Whether lines must be written back: see the top of this file.
    pub(super) fn cleans(self, direction: DataDirection) -> bool {
        self == Self::Device || self.invalidates(direction)
    }
}

/// Held around a mapping of the device where `CONFIG_DMA_API_DEBUG` keeps books of them: these
/// cannot tell two of the same bytes apart, and the one would be blamed for the other. Elsewhere
/// it does not matter how many maintain the same bytes at a time, and nobody takes it.
type Turn = Mutex<()>;

/// The registration of a device to maintain caches through.
pub(crate) struct Registration {
    faux: faux::Registration,
    turn: Arc<Turn>,
}

impl Registration {
    /// Registers the device as `name`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let this = Self {
            faux: faux::Registration::new(name, None)?,
            turn: Arc::pin_init(new_mutex!((), "vmmexp::cache::turn"), GFP_KERNEL)?,
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
            turn: self.turn.clone(),
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
    turn: Arc<Turn>,
}

impl Maintainer {
    /// Whether maintenance does anything on this machine.
    pub(crate) fn is_needed(&self) -> bool {
        !dma::is_coherent(&self.dev)
    }

    /// Maintains the caches over the bytes `range` of a buffer, rounded outward to [`alignment`],
    /// for access by `side`. May sleep.
    ///
    /// `reserved` knows the reserved regions that extents lie in, `writable` is whether devices and
    /// processes may write to the memory.
    ///
    /// # Safety
    ///
    /// `extents` must describe a buffer along with `reserved`, and its memory stay allocated for
    /// the duration of this call.
    pub(super) unsafe fn maintain<'a>(
        &self,
        extents: &[Extent],
        reserved: impl Fn(u16) -> Option<&'a Reserved>,
        range: Range<u64>,
        direction: DataDirection,
        side: Side,
        writable: bool,
    ) {
        // Confidential guests share nothing with devices, and the DMA API would warn.
        let ordinary = self.is_needed() && dma::reaches(&self.dev, &[]);
        let ordinary = ordinary && (writable || side == Side::Device);
        let mask = alignment() - 1;
        let start = range.start & !mask;
        let len = ((range.end + mask) & !mask) - start;

        for piece in extent::pieces(extents, PAGE_SHIFT, start, len, STEP) {
            match piece.source {
                Source::Reserved(index) => {
                    if let Some(region) = reserved(index) {
                        region.maintain(piece.phys, piece.len, direction, side);
                    }
                }
                Source::Pages if ordinary => {
                    // SAFETY: The memory is ordinary memory, and allocated.
                    unsafe { self.maintain_piece(piece.phys, piece.len, direction, side) };
                }
                // Foreign memory that needed maintenance would not have been taken.
                Source::Pages | Source::Foreign { .. } => {}
            }
            cond_resched();
        }
    }

    /// Maintains the caches over `len` bytes from physical address `phys` on.
    ///
    /// # Safety
    ///
    /// They must be ordinary memory, and allocated.
    unsafe fn maintain_piece(&self, phys: u64, len: u64, direction: DataDirection, side: Side) {
        // A mapping for a device is the maintenance: what a device may read is written back when it
        // is mapped, what a device may have written is invalidated when it is unmapped.
        let direction = match (side.cleans(direction), side.invalidates(direction)) {
            (_, true) => DataDirection::Bidirectional,
            (true, false) => DataDirection::ToDevice,
            (false, false) => return,
        };
        let raw = device_as_raw(&self.dev);
        // CAST: Memory that exists has such addresses; pieces are small.
        let (phys, len) = (phys as bindings::phys_addr_t, len as usize);
        let _turn = cfg!(CONFIG_DMA_API_DEBUG).then(|| self.turn.lock());

        // SAFETY: The device is valid and reaches all memory, which is there, says the caller.
        // What is mapped is unmapped like that. It was mapped for nobody: with dma-direct, which
        // faux devices have, both calls do nothing but maintain caches. The first cannot fail, as
        // nothing is out of reach; the DMA API wants to be asked.
        unsafe {
            let addr =
                bindings::dma_map_phys(raw, phys, len, direction.into(), dma::PAGES_ATTRIBUTES);
            if !helpers::vmmexp_helper_dma_mapping_error(raw, addr) {
                bindings::dma_unmap_phys(raw, addr, len, direction.into(), dma::PAGES_ATTRIBUTES);
            }
        }
    }
}
