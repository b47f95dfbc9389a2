// SPDX-License-Identifier: GPL-2.0-only

//! Long-term pins on the pages of the current process.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h); the rules are in
//! [`Documentation/core-api/pin_user_pages.rst`](srctree/Documentation/core-api/pin_user_pages.rst),
//! case 2.
//!
//! A pin is taken in batches, each under the mmap lock, so that the caller can look at the VMA
//! ([`Locked::vma`]) and pin its pages ([`Locked::pin`]) with nothing in between. What such a pin
//! cannot bring in with the lock held (userfaultfd, for instance), or should not as that may take
//! for ever, is brought in by [`Locked::fault_in`], which gives the lock up; the batch is then tried
//! again.

use super::{
    extent::{
        self,
        Extent,
        PartialFolio, //
    },
    foreign::{
        self,
        FrameCaching,
        Word, //
    },
    helpers,
    memory::{
        follows,
        HeldMemory, //
    },
    reserved::Reserved,
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
    sync::Arc,
    task::CurrentTask, //
};

/// How many pages one batch pins at most: what the mmap lock is held for.
pub(crate) const BATCH_PAGES: usize = (16 << 20) / PAGE_SIZE;

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

    /// The C view of the address space.
    pub(super) fn mm_ptr(&self) -> *mut bindings::mm_struct {
        self.mm.as_raw()
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

    /// Pins up to `pages` pages from page-aligned `addr` on and appends them to `pinned`: at least
    /// one, and fewer than asked where a batch ends or a later page fails.
    ///
    /// # Errors
    ///
    /// Pages before the one that failed may have been appended, as [`Pinner::len`] tells.
    ///
    /// - `EFAULT`: the first page is not accessible in the way `pinned` wants, or cannot be
    ///   brought in with the lock held.
    /// - `EINTR`: the task is being killed.
    /// - `ENOMEM`: out of memory, or the page could not be moved to where it may be held.
    /// - `EOVERFLOW`: the page has so many pins that more could wrap its reference count.
    /// - Others as `pin_user_pages()` returns them.
    pub(crate) fn pin(
        &self,
        addr: usize,
        pages: usize,
        absent: Absent,
        pinned: &mut Pinner,
    ) -> Result {
        let mut flags = bindings::FOLL_LONGTERM;
        if absent == Absent::Leave {
            flags |= bindings::FOLL_NOFAULT;
        }
        if pinned.memory.is_writable() {
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
        pinned.take_batch()
    }

    /// Looks up which page frames a VMA without page references (`VM_PFNMAP`, `VM_IO`) has at
    /// `addr`, page-aligned and below `end`. The numbers say nothing of what is there: whoever
    /// uses them must know that memory to stay.
    ///
    /// # Errors
    ///
    /// `EFAULT`: nothing is mapped at `addr` at present.
    pub(crate) fn follow(&self, addr: usize, end: usize) -> Result<FrameRun> {
        let vma = self.guard.vma_lookup(addr).ok_or(EFAULT)?;
        let end = end.min(vma.end());
        let mut run: Option<FrameRun> = None;
        let mut addr = addr;

        while addr < end && run.is_none_or(|run| run.pages < BATCH_PAGES) {
            let mut args = bindings::follow_pfnmap_args {
                vma: vma.as_ptr(),
                address: addr,
                ..Default::default()
            };
            // SAFETY: The mmap lock is held and the address is in the VMA.
            if unsafe { bindings::follow_pfnmap_start(&mut args) } != 0 {
                break;
            }
            // SAFETY: `args` holds the results, and the mmap lock is held.
            let caching = unsafe { FrameCaching::of(&mut args) };
            // SAFETY: It was started.
            unsafe { bindings::follow_pfnmap_end(&mut args) };
            // A leaf above the lowest level is taken whole.
            let to_leaf_end = (!args.addr_mask).wrapping_add(1) - (addr & !args.addr_mask);
            let pages = to_leaf_end.min(end - addr) / PAGE_SIZE;
            match &mut run {
                None => {
                    run = Some(FrameRun {
                        pfn: args.pfn,
                        pages,
                        writable: args.writable,
                        caching,
                    })
                }
                Some(run)
                    if run.pfn + run.pages == args.pfn
                        && run.writable == args.writable
                        && run.caching == caching =>
                {
                    run.pages += pages;
                }
                Some(_) => break,
            }
            addr += pages * PAGE_SIZE;
        }
        run.ok_or(EFAULT)
    }

    /// Looks how many of the `pages` pages from page-aligned `addr` on are at present those from
    /// page frame `pfn` on; at least one. Nothing is brought in. `counted` tells whether they are
    /// pages with references, and not what [`Self::follow`] would find.
    ///
    /// # Errors
    ///
    /// There is not one: another page is there, or at present nothing is.
    pub(crate) fn compare(
        &self,
        addr: usize,
        pfn: usize,
        pages: usize,
        counted: bool,
    ) -> Result<usize, Mismatch> {
        if !counted {
            let run = self
                .follow(addr, addr + pages * PAGE_SIZE)
                .map_err(|_| Mismatch::Absent)?;
            return if run.pfn == pfn {
                Ok(run.pages.min(pages))
            } else {
                Err(Mismatch::Different)
            };
        }
        let mut found = [core::ptr::null_mut(); 32];
        // `get_user_pages_fast_only()` would do, but 32-bit arm has it from LPAE on only.
        // SAFETY: By the invariants the mmap lock of the current task is held. The array has room
        // for as many pointers.
        let got = unsafe {
            bindings::get_user_pages(
                addr,
                pages.min(found.len()),
                bindings::FOLL_NOFAULT,
                found.as_mut_ptr(),
            )
        };
        let got = usize::try_from(got).map_err(|_| Mismatch::Absent)?;
        let mut same = 0;
        let mut all_same = true;
        for &page in &found[..got] {
            // SAFETY: `get_user_pages()` took a reference for us, which is given back here.
            let found = unsafe {
                let found = helpers::vmmexp_helper_page_to_pfn(page);
                helpers::vmmexp_helper_put_page(page);
                found
            };
            all_same &= found == pfn + same;
            same += usize::from(all_same);
        }
        match same {
            0 if got == 0 => Err(Mismatch::Absent),
            0 => Err(Mismatch::Different),
            same => Ok(same),
        }
    }

    /// Brings in the page at `addr`, for writing if `write`, giving the lock up and, where that
    /// takes long, letting others have it meanwhile. May sleep for as long as a userfaultfd
    /// handler or a storage device lets it, until the task is killed.
    ///
    /// A private page that is not for writing is first brought in, and by the next call given a copy
    /// of its own, without which it could not be pinned.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: nothing is mapped there, not in that way, or it cannot be brought in.
    /// - `EINTR`: the task is being killed.
    /// - `ENOMEM`: out of memory.
    pub(crate) fn fault_in(self, addr: usize, write: bool) -> Result {
        let flags = if write {
            bindings::fault_flag_FAULT_FLAG_WRITE
        } else {
            bindings::fault_flag_FAULT_FLAG_UNSHARE
        };
        let mut unlocked = false;
        // SAFETY: By the invariants the mmap lock is held; it is held again on return, to be
        // given up by the guard. No VMA is borrowed from it any more, as `self` is owned.
        to_result(unsafe {
            bindings::fixup_user_fault(self.mm.as_raw(), addr, flags, &mut unlocked)
        })
    }
}

/// What [`Locked::pin`] does about pages that are not there in the way that they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Bring them in. With the mmap lock held that ends when it ends, whatever signal comes: for
    /// memory that the kernel itself has or makes.
    BringIn,
    /// Leave them to [`Locked::fault_in`]: for memory that others are asked for, who need not answer
    /// (network and user-space file systems, drivers).
    Leave,
}

/// Why [`Locked::compare`] found no page to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// Another page is there.
    Different,
    /// Nothing is there at present, or nothing that may be looked at.
    Absent,
}

/// Page frames next to each other, as [`Locked::follow`] found them mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRun {
    /// The number of the first.
    pub(crate) pfn: usize,
    /// How many.
    pub(crate) pages: usize,
    /// Whether the page tables allow writing to them.
    pub(crate) writable: bool,
    caching: FrameCaching,
}

/// Why [`Pinner::append_foreign`] refuses frames.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ForeignError {
    /// They are no RAM, or there is no file to keep them.
    NotKept,
    /// They are mapped in a way that nobody else should map them.
    Caching,
    /// Something else.
    Other(Error),
}

/// Memory in the making.
pub(crate) struct Pinner {
    memory: HeldMemory,
    /// The pages of one batch. Empty between calls.
    batch: KVVec<*mut bindings::page>,
}

impl Pinner {
    /// Starts with no page; `pages` is how many there will be, `writable` whether they will be
    /// written to.
    pub(crate) fn new(pages: usize, writable: bool) -> Result<Self> {
        Ok(Self {
            memory: HeldMemory::new(writable),
            batch: KVVec::with_capacity(pages.min(BATCH_PAGES), GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// How many pages are pinned by now.
    pub(crate) fn len(&self) -> usize {
        extent::page_count(self.memory.held())
    }

    /// Whether the pages are pinned for writing.
    pub(crate) fn writable(&self) -> bool {
        self.memory.is_writable()
    }

    /// The extents pinned by now.
    pub(crate) fn extents(&self) -> &[Extent] {
        self.memory.held()
    }

    /// The folios of which only a part was pinned: see [`HeldMemory::partial_folios`].
    pub(crate) fn partial_folios(&self, extents: usize) -> impl Iterator<Item = PartialFolio> + '_ {
        self.memory.partial_folios(extents)
    }

    /// How many pages the next batch has at most.
    pub(crate) fn batch_pages(&self) -> usize {
        self.batch.capacity()
    }

    /// Appends pages of a reserved region: see [`HeldMemory::append_reserved`].
    pub(crate) fn append_reserved(
        &mut self,
        region: &Arc<Reserved>,
        offset: u64,
        pages: usize,
    ) -> Result {
        self.memory.append_reserved(region, offset, pages)
    }

    /// Appends `run`, which was found in `vma`, and holds the file of `vma` from now on. That this
    /// keeps the frames is only somebody's word, and taints the kernel: returns whether it had not
    /// been tainted by that before.
    ///
    /// `cached` is whether frames which are mapped cached will do: their caches are not maintained.
    pub(crate) fn append_foreign(
        &mut self,
        word: &Word,
        vma: &Vma<'_>,
        run: FrameRun,
        cached: bool,
    ) -> Result<bool, ForeignError> {
        let file = vma.file().ok_or(ForeignError::NotKept)?;
        if !foreign::is_ram(run.pfn, run.pages) {
            return Err(ForeignError::NotKept);
        }
        let is_cached = match run.caching {
            FrameCaching::Cached if cached => true,
            FrameCaching::WriteCombine => false,
            FrameCaching::Cached | FrameCaching::Other => return Err(ForeignError::Caching),
        };
        let is_first = word.taint();
        // SAFETY: The frames are RAM, mapped as told, and kept by the file, says the word that the
        // caller has.
        unsafe {
            self.memory
                .append_foreign(run.pfn, run.pages, is_cached, file)
        }
        .map_err(ForeignError::Other)?;
        Ok(is_first)
    }

    /// Ends the pinning.
    pub(crate) fn finish(self) -> HeldMemory {
        self.memory
    }

    /// Moves the pins of the batch to the extents; on failure those that did not move are given
    /// back.
    fn take_batch(&mut self) -> Result {
        let mut left: &[*mut bindings::page] = &self.batch;
        let mut result = Ok(());

        while let Some(&first) = left.first() {
            let run = run_length(left);
            if run == 0 {
                result = Err(EOVERFLOW);
                break;
            }
            // SAFETY: The pages of the run are pinned as the memory wants them, by
            // `Locked::pin()`, and contiguous; their pins are ours to give.
            let appended = unsafe {
                let pfn = helpers::vmmexp_helper_page_to_pfn(first);
                self.memory.append_pages(first, pfn, run)
            };
            if let Err(err) = appended {
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

/// The number of pages at the start of `pages`, all of them pinned, which are next to each other,
/// both in memory and in the memory map, and can do with more pins.
fn run_length(pages: &[*mut bindings::page]) -> usize {
    let mut run = 0;
    while let Some(&page) = pages.get(run) {
        // SAFETY: The page is pinned.
        let refs_run_out = unsafe { helpers::vmmexp_helper_page_refs_run_out(page) };
        if refs_run_out || (run > 0 && !follows(pages[run - 1], page)) {
            break;
        }
        run += 1;
    }
    run
}
