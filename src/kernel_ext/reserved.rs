// SPDX-License-Identifier: GPL-2.0-only

//! Reserved regions: memory which Linux was told to leave alone (`no-map`).
//!
//! C headers: [`include/linux/ioport.h`](srctree/include/linux/ioport.h),
//! [`include/linux/io.h`](srctree/include/linux/io.h).
//!
//! Such memory is not in the linear map. It may or may not have `struct page`s, which are never
//! used. Linux never frees it, so whoever has learnt of a part of it may use it for ever: that its
//! other users agree is the system designer's business.

use super::{
    cache::{
        barrier,
        Side, //
    },
    helpers,
    PAGE_SHIFT, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    dma::DataDirection,
    error::to_result,
    mm::virt::flags,
    page::PAGE_SIZE,
    prelude::*,
    str::CString, //
};

/// How the CPU maps a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Write-back: needs maintenance towards whoever does not snoop.
    Cached,
    /// Write-combined.
    Uncached,
}

/// Why a region cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimError {
    /// Its start or size is not a multiple of the page size, or it is empty.
    Unaligned,
    /// Another driver, or another region, has a part of it.
    Busy,
    /// It cannot be mapped.
    Map,
    /// The caches over it could not be maintained on this architecture.
    Caching,
}

/// A reserved region, claimed and mapped.
///
/// # Invariants
///
/// - `size` bytes from `phys` on, whole pages, are claimed as a resource and are no memory that
///   Linux manages.
/// - They are mapped at `addr` as `caching` tells, for as long as this lives.
pub(crate) struct Reserved {
    phys: u64,
    size: u64,
    caching: Caching,
    addr: NonNull<c_void>,
    // The resource refers to it.
    _name: CString,
}

// SAFETY: The mapping is the kernel's and can be given up from any thread.
unsafe impl Send for Reserved {}
// SAFETY: Nothing is done through a shared reference but reading the fields and maintaining
// caches, which may be done in parallel.
unsafe impl Sync for Reserved {}

impl Reserved {
    /// Claims and maps `size` bytes from `phys` on. May sleep.
    ///
    /// # Safety
    ///
    /// They must be reserved memory that Linux leaves alone for ever (`no-map`, not `reusable`).
    pub(super) unsafe fn claim(
        name: CString,
        phys: u64,
        size: u64,
        caching: Caching,
    ) -> Result<Self, ClaimError> {
        let mask = PAGE_SIZE as u64 - 1;
        let fits = phys
            .checked_add(size)
            .is_some_and(|end| bindings::phys_addr_t::try_from(end - 1).is_ok())
            && usize::try_from(size).is_ok();
        if size == 0 || (phys | size) & mask != 0 || !fits {
            return Err(ClaimError::Unaligned);
        }
        // SAFETY: A property of the architecture.
        if caching == Caching::Cached && !unsafe { helpers::vmmexp_helper_cache_ops_exist() } {
            return Err(ClaimError::Caching);
        }
        // CAST: Checked above.
        let (start, len) = (phys as bindings::phys_addr_t, size as usize);
        // SAFETY: `name` lives as long as the claim, see the fields. No other precondition.
        let claimed =
            unsafe { helpers::vmmexp_helper_request_mem_region(start, len, name.as_char_ptr()) };
        if !claimed {
            return Err(ClaimError::Busy);
        }
        // SAFETY: The caller says that this is memory which nobody else of Linux maps.
        let addr =
            unsafe { helpers::vmmexp_helper_memremap(start, len, caching == Caching::Cached) };
        let Some(addr) = NonNull::new(addr) else {
            // SAFETY: Claimed above.
            unsafe { helpers::vmmexp_helper_release_mem_region(start, len) };
            return Err(ClaimError::Map);
        };
        // INVARIANT: Claimed and mapped above; the caller vouches for the rest.
        Ok(Self {
            phys,
            size,
            caching,
            addr,
            _name: name,
        })
    }

    /// Its physical address.
    pub(super) fn phys(&self) -> u64 {
        self.phys
    }

    /// Its size in bytes, whole pages.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How the CPU maps it.
    pub(crate) fn caching(&self) -> Caching {
        self.caching
    }

    /// The offset in the region of page frame `pfn`, if it is in the region.
    pub(crate) fn offset_of(&self, pfn: usize) -> Option<u64> {
        let offset = ((pfn as u64) << PAGE_SHIFT).checked_sub(self.phys)?;
        (offset < self.size).then_some(offset)
    }

    /// Where the kernel has the byte with physical address `phys`, which must be in the region.
    pub(super) fn kernel_addr(&self, phys: u64) -> *mut c_void {
        // CAST: Offsets in a region that is mapped fit.
        self.addr
            .as_ptr()
            .cast::<u8>()
            .wrapping_add((phys - self.phys) as usize)
            .cast()
    }

    /// Maintains the caches over `len` bytes from physical address `phys` on, which must be in the
    /// region, for access by `side`. May sleep.
    pub(super) fn maintain(&self, phys: u64, len: u64, direction: DataDirection, side: Side) {
        if self.caching == Caching::Uncached {
            // What the CPU has combined must leave it, what it reads next not be from before.
            barrier();
            return;
        }
        if !side.cleans(direction) {
            return;
        }
        // SAFETY: The bytes are in the region, says the caller, and mapped there by the
        // invariants.
        // CAST: Offsets in a region that is mapped fit.
        unsafe {
            helpers::vmmexp_helper_cache_maintain(
                self.kernel_addr(phys),
                phys as bindings::phys_addr_t,
                len as usize,
                side.invalidates(direction),
            )
        };
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: By the invariants mapped and claimed, and nobody uses the mapping any more.
        unsafe {
            bindings::memunmap(self.addr.as_ptr());
            helpers::vmmexp_helper_release_mem_region(
                self.phys as bindings::phys_addr_t,
                self.size as usize,
            );
        }
    }
}

impl Reserved {
    /// Makes `vma` a mapping of the region: its offset is that in the region.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: a private mapping, or one that leaves the region.
    /// - `EACCES`: an executable mapping.
    /// - Others as `remap_pfn_range()` returns them.
    ///
    /// # Safety
    ///
    /// `vma` must be new, and keep the region until it is gone.
    pub(super) unsafe fn mmap(&self, vma: NonNull<bindings::vm_area_struct>) -> Result {
        let vma = vma.as_ptr();
        // SAFETY: The VMA is new, so nobody else changes it.
        let (had, first, start, len) = unsafe {
            let bounds = &(*vma).__bindgen_anon_1.__bindgen_anon_1;
            (
                (*vma).__bindgen_anon_2.vm_flags,
                (*vma).vm_pgoff,
                bounds.vm_start,
                bounds.vm_end - bounds.vm_start,
            )
        };
        if had & helpers::VMMEXP_VM_MAYSHARE == 0 {
            return Err(EINVAL);
        }
        if had & flags::EXEC != 0 {
            return Err(EACCES);
        }
        let end = (first as u64)
            .checked_add((len >> PAGE_SHIFT) as u64)
            .ok_or(EINVAL)?;
        if end > self.size >> PAGE_SHIFT {
            return Err(EINVAL);
        }
        // CAST: Page frame numbers of existing memory fit.
        let pfn = (self.phys >> PAGE_SHIFT) as usize + first;
        // SAFETY: The VMA is new; the range is in the region, which is not to be freed, and which
        // the VMA keeps claimed.
        to_result(unsafe {
            helpers::vmmexp_helper_vm_flags_mod(vma, 0, flags::MAYEXEC);
            if self.caching == Caching::Uncached {
                helpers::vmmexp_helper_vma_set_writecombine(vma);
            }
            bindings::remap_pfn_range(vma, start, pfn, len, (*vma).vm_page_prot)
        })
    }
}
