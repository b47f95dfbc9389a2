// SPDX-License-Identifier: GPL-2.0-only

//! DMA mappings of extents.
//!
//! C headers: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h),
//! [`include/linux/dma-direct.h`](srctree/include/linux/dma-direct.h),
//! [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h).
//!
//! # How an `sg_table` is made
//!
//! Each mapping has a table of its own; none is shared between devices, directions or mappings.
//!
//! - A device whose addresses are physical ones up to an offset (dma-direct) gets one entry for
//!   each extent, split only below 4 GiB and at a segment size the driver itself has set: the
//!   default of 64 KiB is not a limit that anyone means. Every extent is mapped by itself, so that
//!   the length limit of `dma_map_sg()` does not come in.
//! - Any other device gets entries split at `dma_get_max_seg_size()`; `dma_map_sgtable()` merges
//!   what its IOMMU can make contiguous. With reserved memory among them the extents are mapped
//!   one by one here too: it has no `struct page`s that a table could carry. The entries cut from
//!   one extent follow each other in the device's addresses, for who looks for that.
//!
//! Reserved memory is not in the linear map, so the DMA API must not maintain its caches
//! (`DMA_ATTR_SKIP_CPU_SYNC`). Ordinary memory may be mapped for several devices at a time, which
//! is what a dma-buf is for, its fences keeping them in order; `CONFIG_DMA_API_DEBUG` would take
//! that for a mistake (`DMA_ATTR_DEBUGGING_IGNORE_CACHELINES`).

use super::{
    device_as_raw,
    extent::{
        self,
        Extent,
        Source, //
    },
    helpers,
    PAGE_SHIFT, //
};
use kernel::{
    bindings,
    device::Device,
    dma::DataDirection,
    error::to_result,
    prelude::*,
    sync::aref::ARef, //
};

/// The attributes of mappings of ordinary pages.
// CAST: A small constant.
pub(super) const PAGES_ATTRIBUTES: c_ulong =
    bindings::DMA_ATTR_DEBUGGING_IGNORE_CACHELINES as c_ulong;

/// The attributes of mappings of reserved memory.
// CAST: Small constants.
const RESERVED_ATTRIBUTES: c_ulong = PAGES_ATTRIBUTES | bindings::DMA_ATTR_SKIP_CPU_SYNC as c_ulong;

/// Returns the direction of the C API as that of the Rust API; `None` if it is not for transfer.
pub(super) fn direction_from_raw(raw: bindings::dma_data_direction) -> Option<DataDirection> {
    [
        DataDirection::ToDevice,
        DataDirection::FromDevice,
        DataDirection::Bidirectional,
    ]
    .into_iter()
    .find(|&direction| raw == bindings::dma_data_direction::from(direction))
}

/// Whether `dev` snoops the CPU's caches.
pub(crate) fn is_coherent(dev: &Device) -> bool {
    // SAFETY: The device is valid.
    unsafe { helpers::vmmexp_helper_dev_is_dma_coherent(device_as_raw(dev)) }
}

/// Whether DMA addresses of `dev` are physical addresses up to an offset.
fn is_direct(dev: &Device) -> bool {
    // SAFETY: The device is valid.
    unsafe { helpers::vmmexp_helper_dma_is_direct(device_as_raw(dev)) }
}

/// Whether `dev` reaches every byte of `extents` by itself: through an IOMMU, or because its DMA
/// mask and its bus let it. Where it does not, mapping would copy through bounce buffers, which
/// is not sharing, or fail with a warning.
pub(super) fn reaches(dev: &Device, extents: &[Extent]) -> bool {
    let raw = device_as_raw(dev);
    if !is_direct(dev) {
        // SAFETY: The device is valid.
        return unsafe { helpers::vmmexp_helper_dma_translates(raw) };
    }
    // SAFETY: The device is valid.
    if !unsafe { helpers::vmmexp_helper_dma_never_bounces(raw) } {
        return false;
    }
    extents.iter().all(|extent| {
        // CAST: Memory that exists has physical addresses.
        let phys = extent.phys(PAGE_SHIFT) as bindings::phys_addr_t;
        let bytes = extent.pages << PAGE_SHIFT;
        // SAFETY: The device is valid, and has a mask.
        unsafe { helpers::vmmexp_helper_dma_reaches(raw, phys, bytes) }
    })
}

/// The longest entry that `dev` takes, in pages and below 4 GiB; zero if not even a page.
fn max_entry_pages(dev: &Device, direct: bool) -> usize {
    let raw = device_as_raw(dev);
    // SAFETY: The device is valid; its parameters stay for as long as its driver, which is the
    // caller or one of its callers, is bound.
    let limit = unsafe {
        if direct {
            helpers::vmmexp_helper_dma_driver_max_seg_size(raw)
        } else {
            helpers::vmmexp_helper_dma_get_max_seg_size(raw)
        }
    };
    let limit = if limit == 0 { u32::MAX } else { limit };
    limit as usize >> PAGE_SHIFT
}

/// Why extents cannot be mapped.
pub(super) enum MapError {
    /// The device does not [reach](reaches) all of the memory.
    Unreachable,
    /// Something else.
    Other(Error),
}

impl From<Error> for MapError {
    fn from(err: Error) -> Self {
        Self::Other(err)
    }
}

/// A mapping of extents for one device in one direction.
///
/// Dropping it unmaps, with the cache maintenance that the direction asks for.
///
/// # Invariants
///
/// - `table` is initialised and holds `table.nents` mapped entries.
/// - The entries are those of `parts` if there are such, else were mapped by `dma_map_sgtable()` for
///   `dev` in `direction`, with [`PAGES_ATTRIBUTES`].
#[repr(C)]
pub(super) struct Mapping {
    table: bindings::sg_table,
    dev: ARef<Device>,
    direction: DataDirection,
    parts: Option<Parts>,
    coherent: bool,
}

impl Mapping {
    /// Maps `extents` for `dev`, which is `coherent` or not. May sleep; the DMA API cleans or
    /// invalidates caches over ordinary pages as needed.
    ///
    /// # Errors
    ///
    /// - `EIO`: the device takes less than a page at a time, or is refused by the DMA API.
    /// - `ENOMEM`: out of memory, or of IOMMU address space.
    /// - `EINVAL`: more entries than a table can have.
    ///
    /// # Safety
    ///
    /// The memory must stay allocated until the mapping is dropped. Extents of
    /// [`Source::Pages`](extent::Source::Pages) must have `struct page`s, contiguous ones, the
    /// others be reserved memory. `dev` must be bound to a driver until then.
    pub(super) unsafe fn new(
        dev: &Device,
        extents: &[Extent],
        direction: DataDirection,
        coherent: bool,
    ) -> Result<KBox<Self>, MapError> {
        if !reaches(dev, extents) {
            return Err(MapError::Unreachable);
        }
        let direct = is_direct(dev);
        let each = direct || !extent::all_pages(extents);
        let max = max_entry_pages(dev, direct);
        if max == 0 {
            return Err(EIO.into());
        }
        let count = u32::try_from(extent::piece_count(extents, max)).map_err(Error::from)?;

        let mut entries = Entries::new(count)?;
        // SAFETY: The caller vouches for the pages; `count` is the number of pieces.
        unsafe { entries.fill(extents, max) };
        let mut parts = None;
        if each {
            // SAFETY: The caller vouches for the memory, which the device was found to reach.
            let mapped = unsafe { Parts::map(dev, extents, max, direction)? };
            // SAFETY: The parts are those of the extents, for entries of that size.
            unsafe { entries.set_parts(&mapped.list, extents, max) };
            parts = Some(mapped);
        } else {
            // SAFETY: The table is initialised and all of its entries have pages.
            to_result(unsafe {
                bindings::dma_map_sgtable(
                    device_as_raw(dev),
                    &mut entries.0,
                    direction.into(),
                    PAGES_ATTRIBUTES,
                )
            })?;
        }
        // INVARIANT: The table was filled and mapped, as told by `parts`. Should the allocation
        // fail, the value, and with it the mapping, is dropped.
        let mapping = Self {
            table: entries.into_table(),
            dev: dev.into(),
            direction,
            parts,
            coherent,
        };
        Ok(KBox::new(mapping, GFP_KERNEL).map_err(Error::from)?)
    }

    /// Whether the device snooped the CPU's caches when it was made.
    pub(super) fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// The direction it was made for.
    pub(super) fn direction(&self) -> DataDirection {
        self.direction
    }

    /// Gives the mapping to the C side, as its table.
    pub(super) fn into_raw(this: KBox<Self>) -> *mut bindings::sg_table {
        // `table` is the first field.
        KBox::into_raw(this).cast()
    }

    /// Takes a mapping back from the C side.
    ///
    /// # Safety
    ///
    /// `table` must come from [`Mapping::into_raw`] and not be used any more.
    pub(super) unsafe fn from_raw(table: *mut bindings::sg_table) -> KBox<Self> {
        // SAFETY: `table` is the first field of a `Mapping` in a box, says the caller.
        unsafe { KBox::from_raw(table.cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Parts unmap themselves.
        if self.parts.take().is_none() {
            let dev = device_as_raw(&self.dev);
            // SAFETY: By the invariants the table was mapped by `dma_map_sgtable()` like this.
            unsafe {
                bindings::dma_unmap_sgtable(
                    dev,
                    &mut self.table,
                    self.direction.into(),
                    PAGES_ATTRIBUTES,
                );
            }
        }
        // SAFETY: The table is initialised, and nothing is mapped any more.
        unsafe { bindings::sg_free_table(&mut self.table) };
    }
}

/// An `sg_table` which nothing is mapped from.
///
/// # Invariants
///
/// The table is initialised.
struct Entries(bindings::sg_table);

impl Entries {
    fn new(count: u32) -> Result<Self> {
        let mut table = bindings::sg_table::default();
        // SAFETY: `table` may be initialised; the call frees what it allocated if it fails.
        to_result(unsafe {
            bindings::sg_alloc_table(&mut table, count, bindings::GFP_KERNEL_ACCOUNT)
        })?;
        // INVARIANT: It is initialised now.
        Ok(Self(table))
    }

    /// Sets length and, for ordinary pages, page of every entry.
    ///
    /// # Safety
    ///
    /// `extents` must have as many pieces of at most `max` pages as the table has entries.
    unsafe fn fill(&mut self, extents: &[Extent], max: usize) {
        let max = (max as u64) << PAGE_SHIFT;
        let mut entry = self.0.sgl;
        for piece in extent::pieces(extents, PAGE_SHIFT, 0, u64::MAX, max) {
            // CAST: Pieces start at page borders of existing memory and are below 4 GiB.
            let (pfn, len) = ((piece.phys >> PAGE_SHIFT) as usize, piece.len as u32);
            // SAFETY: Ordinary pages have a `struct page`. There is an entry for each piece, says
            // the caller; `sg_next()` returns null behind the last one only.
            unsafe {
                let page = match piece.source {
                    Source::Pages => helpers::vmmexp_helper_pfn_to_page(pfn),
                    Source::Reserved(_) | Source::Foreign { .. } => core::ptr::null_mut(),
                };
                helpers::vmmexp_helper_sg_set_page(entry, page, len);
                entry = bindings::sg_next(entry);
            }
        }
    }

    /// Sets the DMA address and length of every entry.
    ///
    /// # Safety
    ///
    /// The entries must have been filled from `extents` and `max`, and `parts` be what
    /// [`Parts::map`] made of these.
    unsafe fn set_parts(&mut self, parts: &[Part], extents: &[Extent], max: usize) {
        let max = (max as u64) << PAGE_SHIFT;
        let mut parts = parts.iter();
        // What is left of the part that the last entry was cut from.
        let (mut addr, mut left) = (0, 0);
        let mut entry = self.0.sgl;
        for piece in extent::pieces(extents, PAGE_SHIFT, 0, u64::MAX, max) {
            if left == 0 {
                (addr, left) = parts.next().map_or((0, 0), |part| (part.addr, part.len));
            }
            // CAST: As in `fill`.
            let len = piece.len as u32;
            // SAFETY: There is an entry for each piece.
            unsafe {
                helpers::vmmexp_helper_sg_set_dma(entry, addr, len);
                entry = bindings::sg_next(entry);
            }
            // A part is as long as its entries together.
            addr = addr.wrapping_add(bindings::dma_addr_t::from(len));
            left = left.saturating_sub(len as usize);
        }
        self.0.nents = self.0.orig_nents;
    }

    fn into_table(self) -> bindings::sg_table {
        let table = self.0;
        core::mem::forget(self);
        table
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: The table is initialised, and nothing is mapped from it.
        unsafe { bindings::sg_free_table(&mut self.0) };
    }
}

/// A part of the memory that is mapped by itself.
struct Part {
    addr: bindings::dma_addr_t,
    len: usize,
    has_pages: bool,
}

impl Part {
    /// The attributes by which it is mapped.
    fn attributes(has_pages: bool) -> c_ulong {
        if has_pages {
            PAGES_ATTRIBUTES
        } else {
            RESERVED_ATTRIBUTES
        }
    }
}

/// Parts of the memory that are mapped by themselves. Dropping it unmaps them.
///
/// # Invariants
///
/// Each of `list` was mapped by `dma_map_phys()` for `dev` in `direction` with its
/// [`Part::attributes`], and is so still.
struct Parts {
    list: KVVec<Part>,
    dev: ARef<Device>,
    direction: DataDirection,
}

impl Parts {
    /// Maps each of `extents`, cut so that each part is as long as a number of entries of `max`
    /// pages, and below 4 GiB.
    ///
    /// # Safety
    ///
    /// As for [`Mapping::new`]; and `dev` must reach the memory.
    unsafe fn map(
        dev: &Device,
        extents: &[Extent],
        max: usize,
        direction: DataDirection,
    ) -> Result<Self> {
        // CAST: Pages of 4 GiB fit.
        let most = (u32::MAX >> PAGE_SHIFT) as usize;
        let most = most - most % max;
        let count = extent::piece_count(extents, most);
        // INVARIANT: None is mapped as yet.
        let mut this = Self {
            list: KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            dev: dev.into(),
            direction,
        };
        let raw = device_as_raw(dev);
        let most = (most as u64) << PAGE_SHIFT;
        for piece in extent::pieces(extents, PAGE_SHIFT, 0, u64::MAX, most) {
            let has_pages = piece.source == Source::Pages;
            // CAST: Pieces are below 4 GiB.
            let len = piece.len as usize;
            // SAFETY: The memory exists and `dev` reaches it. What has no `struct page` is not
            // touched by the DMA API.
            let addr = unsafe {
                bindings::dma_map_phys(
                    raw,
                    piece.phys as bindings::phys_addr_t,
                    len,
                    direction.into(),
                    Part::attributes(has_pages),
                )
            };
            // SAFETY: The device is valid.
            if unsafe { helpers::vmmexp_helper_dma_mapping_error(raw, addr) } {
                return Err(EIO);
            }
            // INVARIANT: It was mapped above. There is room for all of them.
            let part = Part {
                addr,
                len,
                has_pages,
            };
            this.list.push_within_capacity(part).map_err(|_| ENOMEM)?;
        }
        Ok(this)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for part in &self.list {
            // SAFETY: By the invariants it is mapped like this.
            unsafe {
                bindings::dma_unmap_phys(
                    device_as_raw(&self.dev),
                    part.addr,
                    part.len,
                    self.direction.into(),
                    Part::attributes(part.has_pages),
                )
            };
        }
    }
}
