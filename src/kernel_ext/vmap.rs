// SPDX-License-Identifier: GPL-2.0-only

//! Kernel mappings of scattered pages.
//!
//! C header: [`include/linux/vmalloc.h`](srctree/include/linux/vmalloc.h).

use super::{
    extent::{
        self,
        Extent, //
    },
    helpers, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*, //
};

/// Maps the pages of `extents` contiguously, cached and writable. May sleep.
///
/// # Safety
///
/// Every page frame of `extents` must have a `struct page` and stay allocated until [`vunmap`].
pub(super) unsafe fn vmap(extents: &[Extent]) -> Result<NonNull<c_void>> {
    let count = extent::page_count(extents);
    let mut pages: KVVec<*mut bindings::page> = KVVec::with_capacity(count, GFP_KERNEL)?;
    for extent in extents {
        for pfn in extent.pfn..extent.pfn + extent.pages {
            // SAFETY: The page frame has a `struct page`, says the caller.
            let page = unsafe { helpers::vmmexp_helper_pfn_to_page(pfn) };
            pages.push_within_capacity(page).map_err(|_| ENOMEM)?;
        }
    }
    // SAFETY: The array has `count` pages, which stay allocated, says the caller.
    let addr = unsafe { helpers::vmmexp_helper_vmap(pages.as_mut_ptr(), u32::try_from(count)?) };
    NonNull::new(addr).ok_or(ENOMEM)
}

/// Ends a mapping. May sleep.
///
/// # Safety
///
/// `addr` must come from [`vmap`] and not be used any more.
pub(super) unsafe fn vunmap(addr: NonNull<c_void>) {
    // SAFETY: By the contract of this function.
    unsafe { helpers::vunmap(addr.as_ptr()) };
}
