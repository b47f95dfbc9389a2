// SPDX-License-Identifier: GPL-2.0-only

//! Memory held for a buffer: pinned pages, and parts of reserved regions.

use super::{
    cond_resched,
    dma_buf,
    extent::{
        self,
        Extent,
        PartialFolio,
        Source, //
    },
    helpers,
    reserved::Reserved,
    PAGE_SHIFT, //
};
use kernel::{
    bindings,
    fs::File,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// How many pages are unpinned without giving way to others.
const UNPIN_STEP: usize = (16 << 20) / PAGE_SIZE;

/// How many extents a buffer may have: 4 GiB of pages of 4 KiB with no two of them contiguous. Each
/// takes some kernel memory, and some more for each mapping.
pub(crate) const MAX_EXTENTS: usize = 1 << 20;

/// Memory held for a buffer.
///
/// Dropping it unpins the pages, and dirties them first if they were pinned for writing: a device,
/// or a mapping by page frame numbers, leaves no other trace of having written. That takes folio
/// locks, so it may sleep and must not be done with a reservation lock held.
///
/// # Invariants
///
/// - `extents` describes a buffer (see [`Extent`]).
/// - This owns one long-term pin (`FOLL_PIN | FOLL_LONGTERM`) on each page of each extent whose
///   source is [`Source::Pages`], taken with `FOLL_WRITE` if `writable`; the `struct page`s of
///   each such extent are contiguous.
/// - Each extent whose source is [`Source::Reserved`] lies in that element of `regions`.
/// - Each extent whose source is [`Source::Foreign`] is RAM, mapped by the CPU as that tells, and
///   kept by one of `files`.
pub(crate) struct HeldMemory {
    extents: KVVec<Extent>,
    regions: KVec<Arc<Reserved>>,
    /// Files which keep memory.
    files: KVec<ARef<File>>,
    writable: bool,
}

impl HeldMemory {
    /// Starts with none.
    pub(super) fn new(writable: bool) -> Self {
        // INVARIANT: There are no extents.
        Self {
            extents: KVVec::new(),
            regions: KVec::new(),
            files: KVec::new(),
            writable,
        }
    }

    /// Whether pages are pinned for writing.
    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// The extents.
    pub(super) fn held(&self) -> &[Extent] {
        &self.extents
    }

    /// The folios of more than one page of which one of the first `extents` extents has only a part.
    /// A folio may come more than once.
    pub(super) fn partial_folios(&self, extents: usize) -> impl Iterator<Item = PartialFolio> + '_ {
        let extents = self.extents.get(..extents).unwrap_or(&self.extents);
        extent::partial_folios(extents, |pfn| {
            // SAFETY: By the invariants the page is pinned, so its folio stays what it is.
            unsafe {
                let page = helpers::vmmexp_helper_pfn_to_page(pfn);
                (
                    helpers::vmmexp_helper_folio_pfn(page),
                    helpers::vmmexp_helper_folio_nr_pages(page),
                )
            }
        })
    }

    /// Appends pages and takes over their pins; on failure they stay the caller's.
    ///
    /// # Safety
    ///
    /// The `pages` pages from `page`, whose page frame number is `pfn`, on must be contiguous
    /// along with their `struct page`s, and pinned as the invariants say, one pin each being the
    /// caller's to give.
    pub(super) unsafe fn append_pages(
        &mut self,
        page: *mut bindings::page,
        pfn: usize,
        pages: usize,
    ) -> Result {
        if let Some(last) = self.extents.last_mut() {
            if last.source == Source::Pages && last.pfn + last.pages == pfn && {
                // SAFETY: The last page of the extent is pinned.
                let page_before = unsafe { helpers::vmmexp_helper_pfn_to_page(pfn - 1) };
                follows(page_before, page)
            } {
                // INVARIANT: The pages continue the extent, in memory and in the memory map.
                last.pages += pages;
                return Ok(());
            }
        }
        // INVARIANT: The caller hands over the pins.
        self.push(pfn, pages, Source::Pages)
    }

    /// Appends `pages` pages of `region` from byte `offset`, which must be page-aligned, on.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: they are not in the region.
    /// - `E2BIG`: parts of too many regions, or [`MAX_EXTENTS`] reached.
    /// - `ENOMEM`: out of memory.
    pub(crate) fn append_reserved(
        &mut self,
        region: &Arc<Reserved>,
        offset: u64,
        pages: usize,
    ) -> Result {
        let len = (pages as u64) << PAGE_SHIFT;
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if end > region.size() || offset & (PAGE_SIZE as u64 - 1) != 0 || pages == 0 {
            return Err(EINVAL);
        }
        let index = match self.regions.iter().position(|r| Arc::ptr_eq(r, region)) {
            Some(index) => index,
            None => {
                self.regions.push(region.clone(), GFP_KERNEL_ACCOUNT)?;
                self.regions.len() - 1
            }
        };
        let source = Source::Reserved(u16::try_from(index).map_err(|_| E2BIG)?);
        // CAST: Page frame numbers of existing memory fit.
        let pfn = ((region.phys() + offset) >> PAGE_SHIFT) as usize;
        match self.extents.last_mut() {
            // INVARIANT: Both parts are in the region, as was checked above.
            Some(last) if last.source == source && last.pfn + last.pages == pfn => {
                last.pages += pages;
                Ok(())
            }
            // INVARIANT: The part is in the region, as was checked above.
            _ => self.push(pfn, pages, source),
        }
    }

    /// Appends memory which `file` keeps.
    ///
    /// # Errors
    ///
    /// - `E2BIG`: [`MAX_EXTENTS`] reached.
    /// - `ENOMEM`: out of memory.
    ///
    /// # Safety
    ///
    /// The `pages` page frames from `pfn` on must be RAM that stays what it is for as long as
    /// `file` is open, and that the CPU may map cached if `cached`, else write-combined.
    pub(super) unsafe fn append_foreign(
        &mut self,
        pfn: usize,
        pages: usize,
        cached: bool,
        file: ARef<File>,
    ) -> Result {
        // A few files take turns at most; should it be more, some are held twice.
        let mut lately = self.files.iter().rev().take(64);
        if !lately.any(|other| core::ptr::eq(&raw const **other, &raw const *file)) {
            self.files.push(file, GFP_KERNEL_ACCOUNT)?;
        }
        let source = Source::Foreign { cached };
        match self.extents.last_mut() {
            // INVARIANT: Both parts are kept by files that are held.
            Some(last) if last.source == source && last.pfn + last.pages == pfn => {
                last.pages += pages;
                Ok(())
            }
            // INVARIANT: As the caller says.
            _ => self.push(pfn, pages, source),
        }
    }

    fn push(&mut self, pfn: usize, pages: usize, source: Source) -> Result {
        let first = extent::page_count(&self.extents);
        let new = Extent {
            pfn,
            pages,
            first,
            source,
        };
        if self.extents.len() >= MAX_EXTENTS {
            return Err(E2BIG);
        }
        self.extents.push(new, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }
}

/// Whether `next` is the page after `page`.
///
/// `unpin_user_page_range_dirty_lock()` and the users of scatterlists count on `struct page`s
/// which are contiguous too (`page_range_contiguous()`).
pub(super) fn follows(page: *mut bindings::page, next: *mut bindings::page) -> bool {
    if page.wrapping_add(1) != next {
        return false;
    }
    // Cache maintenance on 32-bit arm looks at the first page of a run only to see whether all of it
    // is mapped by the kernel.
    if cfg!(CONFIG_HIGHMEM) {
        // SAFETY: Both pages are pinned.
        let (page_is_high, next_is_high) = unsafe {
            (
                helpers::vmmexp_helper_page_is_highmem(page),
                helpers::vmmexp_helper_page_is_highmem(next),
            )
        };
        if page_is_high != next_is_high {
            return false;
        }
    }
    // Only here do neighbours in the memory map not imply neighbours in memory.
    if cfg!(CONFIG_SPARSEMEM) && !cfg!(CONFIG_SPARSEMEM_VMEMMAP) {
        // SAFETY: Both pages are pinned.
        return unsafe {
            helpers::vmmexp_helper_page_to_pfn(page) + 1 == helpers::vmmexp_helper_page_to_pfn(next)
        };
    }
    true
}

// SAFETY: The extents only change while the memory is gathered, by who owns it exclusively. The
// pins keep the pages, whose `struct page`s are contiguous within each extent, and `writable`
// tells whether they were pinned for writing; regions are kept by references, and their memory is
// never given back to Linux; what is foreign stays, says who had it appended.
unsafe impl dma_buf::Memory for HeldMemory {
    fn extents(&self) -> &[Extent] {
        &self.extents
    }

    fn reserved(&self, index: u16) -> Option<&Reserved> {
        Some(self.regions.get(usize::from(index))?)
    }

    fn writable(&self) -> bool {
        self.writable
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        for extent in &self.extents {
            if extent.source != Source::Pages {
                continue;
            }
            let mut pfn = extent.pfn;
            while pfn < extent.pfn + extent.pages {
                let pages = UNPIN_STEP.min(extent.pfn + extent.pages - pfn);
                // SAFETY: By the invariants these pages are contiguous in the memory map and each
                // has one pin of ours, which is given up here and only here.
                unsafe {
                    bindings::unpin_user_page_range_dirty_lock(
                        helpers::vmmexp_helper_pfn_to_page(pfn),
                        pages,
                        self.writable,
                    )
                };
                pfn += pages;
                cond_resched();
            }
        }
    }
}
