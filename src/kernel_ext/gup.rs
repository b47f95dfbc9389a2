// SPDX-License-Identifier: GPL-2.0-only

//! Long-term pins on the pages of the current process.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h); the rules are in
//! [`Documentation/core-api/pin_user_pages.rst`](srctree/Documentation/core-api/pin_user_pages.rst),
//! case 2.
//!
//! A pin is taken in batches, each under the mmap lock, so that the caller can look at the VMA
//! ([`Locked::vma`]) and pin its pages ([`Locked::pin`]) with nothing in between. What such a pin
//! cannot bring in with the lock held (userfaultfd, for instance) is brought in by
//! [`Locked::fault_in`], which gives the lock up; the batch is then tried again.

use super::{
    cond_resched,
    extent::{
        self,
        Extent, //
    },
    helpers,
    vma::Vma, //
};
use kernel::{
    bindings,
    error::to_result,
    mm::{
        MmWithUser,
        MmapReadGuard, //
    },
    page::{
        PAGE_MASK,
        PAGE_SIZE, //
    },
    prelude::*,
    task::CurrentTask, //
};

/// How many pages one batch pins at most: what the mmap lock is held for.
const BATCH_PAGES: usize = (16 << 20) / PAGE_SIZE;

/// The address just above the highest that a user may have.
pub(crate) fn user_space_end() -> u64 {
    // SAFETY: A constant of the running kernel.
    unsafe { helpers::vmmexp_helper_task_size_max() as u64 }
}

/// Returns `addr` without the tag bits that the current process may keep in its pointers.
pub(crate) fn untagged(addr: u64) -> u64 {
    match usize::try_from(addr) {
        // SAFETY: Arithmetic on a number, according to the current process's mode.
        Ok(addr) => unsafe { helpers::vmmexp_helper_untagged_addr(addr) as u64 },
        Err(_) => addr,
    }
}

/// Whether the current task is being killed.
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: Reads the state of `current`.
    unsafe { helpers::vmmexp_helper_fatal_signal_pending() }
}

/// The memory of the current process.
///
/// # Invariants
///
/// `mm` is the address space of the current task. (Neither it nor [`Locked`] can go to another
/// task: [`CurrentTask`] is borrowed, and it cannot.)
pub(crate) struct UserMemory<'a> {
    task: &'a CurrentTask,
    mm: &'a MmWithUser,
}

impl<'a> UserMemory<'a> {
    /// The memory of `task`; `None` for a kernel thread.
    pub(crate) fn of(task: &'a CurrentTask) -> Option<Self> {
        // INVARIANT: `CurrentTask` is the current task.
        Some(Self {
            task,
            mm: task.mm()?,
        })
    }

    /// Takes the mmap lock for reading. May sleep.
    pub(crate) fn lock(&self) -> Locked<'a> {
        // INVARIANT: `mm` is the current task's by the invariant of `self`.
        Locked {
            _task: self.task,
            mm: self.mm,
            guard: self.mm.mmap_read_lock(),
        }
    }
}

/// The memory of the current process with the mmap lock held for reading.
///
/// # Invariants
///
/// `mm` is the address space of the current task and `guard` holds its lock.
pub(crate) struct Locked<'a> {
    _task: &'a CurrentTask,
    mm: &'a MmWithUser,
    guard: MmapReadGuard<'a>,
}

impl Locked<'_> {
    /// The VMA which contains `addr`.
    pub(crate) fn vma(&self, addr: usize) -> Option<Vma<'_>> {
        Some(Vma::new(self.guard.vma_lookup(addr)?))
    }

    /// Pins up to `pages` pages from page-aligned `addr` on and appends them to `pinned`; returns
    /// how many: at least one, and fewer than asked where a batch ends or a later page fails.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: the first page is not accessible in the way `pinned` wants, or cannot be
    ///   brought in with the lock held.
    /// - `EINTR`: the task is being killed.
    /// - `ENOMEM`: out of memory.
    /// - Others as `pin_user_pages()` returns them.
    pub(crate) fn pin(&self, addr: usize, pages: usize, pinned: &mut Pinner) -> Result<usize> {
        let mut flags = bindings::FOLL_LONGTERM;
        if pinned.memory.writable {
            flags |= bindings::FOLL_WRITE;
        }
        let pages = pages.min(pinned.batch.capacity());
        pinned.batch.clear();

        // SAFETY: By the invariants the mmap lock of the current task is held. The array has room
        // for `pages` pointers.
        let got = unsafe {
            bindings::pin_user_pages(
                addr & PAGE_MASK,
                pages,
                flags,
                pinned.batch.spare_capacity_mut().as_mut_ptr().cast(),
            )
        };
        let got = match usize::try_from(got) {
            Ok(0) => return Err(EFAULT),
            Ok(got) => got,
            Err(_) => return Err(Error::from_errno(got as c_int)),
        };
        // SAFETY: `pin_user_pages()` wrote the first `got` entries, at most `pages` of them.
        unsafe { pinned.batch.inc_len(got) };
        pinned.take_batch()?;
        Ok(got)
    }

    /// Brings in the page at `addr`, for writing if `write`, giving the lock up and, where that
    /// takes long, letting others have it meanwhile. May sleep for as long as a userfaultfd
    /// handler or a storage device lets it, until the task is killed.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: nothing is mapped there, not in that way, or it cannot be brought in.
    /// - `EINTR`: the task is being killed.
    /// - `ENOMEM`, `EHWPOISON`: as `fixup_user_fault()` returns them.
    pub(crate) fn fault_in(self, addr: usize, write: bool) -> Result {
        let flags = if write {
            bindings::fault_flag_FAULT_FLAG_WRITE
        } else {
            0
        };
        let mut unlocked = false;
        // SAFETY: By the invariants the mmap lock is held; it is held again on return, to be
        // given up by the guard. No VMA is borrowed from it any more, as `self` is owned.
        to_result(unsafe {
            bindings::fixup_user_fault(self.mm.as_raw(), addr, flags, &mut unlocked)
        })
    }
}

/// Pinned pages in the making.
pub(crate) struct Pinner {
    memory: PinnedPages,
    /// The pages of one batch. Empty between calls.
    batch: KVVec<*mut bindings::page>,
}

impl Pinner {
    /// Starts with no page; `pages` is how many there will be, `writable` whether they will be
    /// written to.
    pub(crate) fn new(pages: usize, writable: bool) -> Result<Self> {
        Ok(Self {
            memory: PinnedPages {
                extents: KVVec::new(),
                writable,
            },
            batch: KVVec::with_capacity(pages.min(BATCH_PAGES), GFP_KERNEL)?,
        })
    }

    /// How many pages are pinned by now.
    pub(crate) fn len(&self) -> usize {
        extent::page_count(&self.memory.extents)
    }

    /// Whether the pages are pinned for writing.
    pub(crate) fn writable(&self) -> bool {
        self.memory.writable
    }

    /// The extents pinned by now.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.memory.extents
    }

    /// Ends the pinning.
    pub(crate) fn finish(self) -> PinnedPages {
        self.memory
    }

    /// Moves the pins of the batch to the extents; on failure those that did not move are given
    /// back.
    fn take_batch(&mut self) -> Result {
        let mut left: &[*mut bindings::page] = &self.batch;
        let mut result = Ok(());

        while let Some((&first, _)) = left.split_first() {
            let run = contiguous(left);
            // SAFETY: The page is pinned.
            let pfn = unsafe { helpers::vmmexp_helper_page_to_pfn(first) };
            if let Err(err) = self.memory.append(first, pfn, run) {
                result = Err(err);
                break;
            }
            left = &left[run..];
        }

        if !left.is_empty() {
            // SAFETY: These pages were pinned by `pin_user_pages()` and no extent has their pins.
            unsafe { bindings::unpin_user_pages(left.as_ptr().cast_mut(), left.len()) };
        }
        self.batch.clear();
        result
    }
}

/// The number of pages at the start of `pages` which are next to each other, both in memory and
/// in the memory map.
fn contiguous(pages: &[*mut bindings::page]) -> usize {
    let mut run = 1;
    while run < pages.len() && follows(pages[run - 1], pages[run]) {
        run += 1;
    }
    run
}

/// Whether `next` is the page after `page`.
///
/// `unpin_user_page_range_dirty_lock()` and the users of scatterlists count on `struct page`s
/// which are contiguous too (`page_range_contiguous()`).
fn follows(page: *mut bindings::page, next: *mut bindings::page) -> bool {
    if page.wrapping_add(1) != next {
        return false;
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

/// Pages pinned for the long term (`FOLL_PIN | FOLL_LONGTERM`).
///
/// Dropping it unpins them, and dirties them first if they were pinned for writing: a device, or
/// a mapping by page frame numbers, leaves no other trace of having written. That takes folio
/// locks, so it may sleep and must not be done with a reservation lock held.
///
/// # Invariants
///
/// - `extents` describes a buffer (see [`Extent`]).
/// - This owns one pin on each page of each extent.
/// - The `struct page`s of each extent are contiguous.
pub(crate) struct PinnedPages {
    extents: KVVec<Extent>,
    writable: bool,
}

impl PinnedPages {
    /// Takes over the pins on `pages` pages from `page`, whose page frame number is `pfn`, on.
    fn append(&mut self, page: *mut bindings::page, pfn: usize, pages: usize) -> Result {
        let first = extent::page_count(&self.extents);
        if let Some(last) = self.extents.last_mut() {
            if last.pfn + last.pages == pfn && {
                // SAFETY: The last page of the extent is pinned.
                let page_before = unsafe { helpers::vmmexp_helper_pfn_to_page(pfn - 1) };
                follows(page_before, page)
            } {
                // INVARIANT: The pages continue the extent, in memory and in the memory map.
                last.pages += pages;
                return Ok(());
            }
        }
        // INVARIANT: `first` is the number of pages before, and the caller hands over the pins.
        self.extents
            .push(Extent { pfn, pages, first }, GFP_KERNEL)?;
        Ok(())
    }
}

impl Drop for PinnedPages {
    fn drop(&mut self) {
        for extent in &self.extents {
            let mut pfn = extent.pfn;
            while pfn < extent.pfn + extent.pages {
                let pages = BATCH_PAGES.min(extent.pfn + extent.pages - pfn);
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

// SAFETY: The extents only change while pinning, before the value can be had; the pins keep the
// pages, whose `struct page`s are contiguous within each extent, and `writable` tells whether they
// were pinned for writing.
unsafe impl super::dma_buf::Memory for PinnedPages {
    fn extents(&self) -> &[Extent] {
        &self.extents
    }

    fn writable(&self) -> bool {
        self.writable
    }
}
