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

/// An array of pages.
///
/// # Invariants
///
/// `ptr` is from `kvmalloc()`, with room for `capacity` pointers.
struct PageArray {
    ptr: NonNull<*mut bindings::page>,
    capacity: usize,
}

impl PageArray {
    /// Waits for memory as long as it takes: there is nobody to be told that there is none, but a
    /// warning in the log. At most `INT_MAX` bytes.
    fn new(capacity: usize) -> Result<Self> {
        // SAFETY: No precondition.
        let ptr = unsafe { helpers::vmmexp_helper_alloc_page_array(capacity) };
        // INVARIANT: As allocated.
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
            capacity,
        })
    }

    fn set(&mut self, index: usize, page: *mut bindings::page) {
        if index < self.capacity {
            // SAFETY: By the invariants, and as was just compared, this is in the array.
            unsafe { self.ptr.add(index).write(page) };
        }
    }
}

impl Drop for PageArray {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::kvfree(self.ptr.as_ptr().cast()) };
    }
}

/// Maps the pages of `extents` contiguously, cached and writable. May sleep.
///
/// # Safety
///
/// Every page frame of `extents` must have a `struct page` and stay allocated until [`vunmap`].
pub(super) unsafe fn vmap(extents: &[Extent]) -> Result<NonNull<c_void>> {
    let count = extent::page_count(extents);
    let mut pages = PageArray::new(count)?;
    for extent in extents {
        for index in extent.first..extent.end() {
            // SAFETY: The page frame has a `struct page`, says the caller.
            let page = unsafe { helpers::vmmexp_helper_pfn_to_page(extent.pfn_of(index)) };
            pages.set(index, page);
        }
    }
    // SAFETY: The array has `count` pages, which stay allocated, says the caller.
    let addr = unsafe { helpers::vmmexp_helper_vmap(pages.ptr.as_ptr(), u32::try_from(count)?) };
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
