// SPDX-License-Identifier: GPL-2.0-only

//! Memory of other drivers, on the administrator's word.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/panic.h`](srctree/include/linux/panic.h).
//!
//! A VMA of page frames (`VM_PFNMAP`, `VM_IO`) holds no references to them. The driver whose VMA it
//! is may free them while the VMA is there, if it takes them out of the page tables, and certainly
//! once the VMA is gone; nobody else can keep them. So what is made of a frame number read there is
//! a use after free that waits to happen. Only the administrator can know that on this machine it
//! will not; by that word, and with the kernel tainted, such memory can be had here.

use super::{
    helpers,
    task::Capability, //
};
use kernel::{
    bindings,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// The word of the current task that drivers keep what they have mapped for as long as their file
/// is open. What is done by it taints the kernel.
pub(crate) struct Word(());

impl Word {
    /// Takes the word of the current task, if it is one that could do worse: `CAP_SYS_RAWIO` in the
    /// initial user namespace.
    pub(crate) fn of_current() -> Option<Self> {
        Capability::SysRawIo.is_held().then_some(Self(()))
    }

    /// Marks the kernel: [`TAINT_USER`](bindings::TAINT_USER). Returns whether this is the first
    /// time.
    pub(super) fn taint(&self) -> bool {
        static TAINTED: Atomic<bool> = Atomic::new(false);

        // SAFETY: No precondition.
        unsafe { bindings::add_taint(bindings::TAINT_USER, bindings::lockdep_ok_LOCKDEP_STILL_OK) };
        !TAINTED.xchg(true, Relaxed)
    }
}

/// How the CPU maps frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameCaching {
    /// Through the caches.
    Cached,
    /// Write-combined.
    WriteCombine,
    /// In some other way, or the frames are no RAM.
    Other,
}

impl FrameCaching {
    /// What [`bindings::follow_pfnmap_start`] found.
    ///
    /// # Safety
    ///
    /// `args` must hold its results, and the mmap lock must be held.
    pub(super) unsafe fn of(args: &mut bindings::follow_pfnmap_args) -> Self {
        // SAFETY: As demanded of our caller.
        unsafe {
            if helpers::vmmexp_helper_pfnmap_is_cached(args) {
                Self::Cached
            } else if helpers::vmmexp_helper_pfnmap_is_writecombine(args) {
                Self::WriteCombine
            } else {
                Self::Other
            }
        }
    }
}

/// Whether all of `pages` page frames from `pfn` on are memory that Linux manages.
pub(super) fn is_ram(pfn: usize, pages: usize) -> bool {
    // CAST: Frames that are mapped have physical addresses.
    let start = (pfn as bindings::phys_addr_t) << bindings::PAGE_SHIFT;
    // SAFETY: No precondition.
    unsafe { helpers::vmmexp_helper_is_system_ram(start, pages << bindings::PAGE_SHIFT) }
}
