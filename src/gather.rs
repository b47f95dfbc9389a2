// SPDX-License-Identifier: GPL-2.0-only

//! Which memory may be exported, and how it is gathered.

use super::{
    account::Charge,
    extent::{
        self,
        Extent,
        PartialFolio, //
    },
    kernel_ext::{
        cond_resched,
        foreign::Word,
        gup::{
            self,
            Absent,
            ForeignError,
            FrameRun,
            Locked,
            Pinner,
            UserMemory, //
        },
        memory::HeldMemory,
        reserved::Caching,
        sort::{
            sort,
            Sortable, //
        },
        vma::{
            Kind,
            SealableFile,
            Vma, //
        },
        PAGE_SHIFT, //
    },
    layout::{
        Layout,
        PageRange, //
    },
    reason::{
        Failure,
        Reason, //
    },
    region::{
        Region,
        Regions, //
    },
    uapi::*,
};
use core::cmp::Ordering;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often the same page is brought in again when others keep taking it away.
const MAX_TRIES: u32 = 16;

/// How often the kernel is asked again to move a batch out of CMA or movable memory, and how long
/// the pauses get, which grow from a millisecond on. Whoever holds a page for a moment is in its way:
/// a device's I/O, another export of the same memory. Less than a second in all of a request.
const MAX_MOVES: u32 = 16;
const MAX_PAUSE_MS: i64 = 64;

/// A range of a request, checked for itself.
pub(crate) enum Range {
    /// Addresses of the calling process.
    Memory(PageRange),
    /// Offsets in a region.
    Region(Arc<Region>, PageRange),
}

/// Why memory of this kind and protection is not exported, if it is not. The order is that of
/// how much a reason tells: what memory it is comes before how it is mapped.
fn refusal(vma: &Vma<'_>, writable: bool) -> Option<Reason> {
    let kind = vma.kind();
    match kind {
        Kind::PfnMap => Some(Reason::PfnMap),
        Kind::SecretMem => Some(Reason::SecretMem),
        Kind::FsDax => Some(Reason::FsDax),
        // The dma-buf's own mappings are cached: not to be mixed with ones that are not.
        Kind::Driver if !vma.cached() => Some(Reason::PfnMap),
        _ if !vma.readable() => Some(Reason::NotReadable),
        _ if !writable => None,
        _ if !vma.writable() => Some(Reason::NotWritable),
        _ if vma.executable() => Some(Reason::Executable),
        Kind::File if vma.shared() => Some(Reason::WritableFile),
        _ => None,
    }
}

/// The bit by which the ABI names what is in `vma`.
fn kind_bit(vma: &Vma<'_>) -> u32 {
    match vma.kind() {
        Kind::Anonymous => VMMEXP_KIND_ANON,
        // A long-term pin, also one for reading, gives a private mapping pages of its own.
        Kind::Shmem | Kind::File | Kind::Driver if !vma.shared() => VMMEXP_KIND_ANON,
        Kind::Shmem => VMMEXP_KIND_SHMEM,
        Kind::Hugetlb => VMMEXP_KIND_HUGETLB,
        Kind::File => VMMEXP_KIND_FILE,
        Kind::Driver => VMMEXP_KIND_DRIVER,
        Kind::SecretMem | Kind::FsDax | Kind::PfnMap => 0,
    }
}

/// Who brings in pages of `vma` that are not there: a file system or a driver may keep us waiting.
fn absent_pages(vma: &Vma<'_>) -> Absent {
    match vma.kind() {
        Kind::File | Kind::Driver => Absent::Leave,
        _ => Absent::BringIn,
    }
}

/// Where page frames that are mapped without references may come from.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// From these.
    pub(crate) regions: &'a Regions,
    /// From any other driver's mapping too, which the administrator allows, and who exports vouches
    /// for.
    pub(crate) foreign: Option<Foreign>,
}

/// What of other drivers' memory may be exported.
#[derive(Clone, Copy)]
pub(crate) struct Foreign {
    /// Memory that they map cached too: there are no caches to maintain.
    pub(crate) cached: bool,
}

impl Sortable for PartialFolio {
    fn order(&self, other: &Self) -> Ordering {
        self.pfn.cmp(&other.pfn)
    }
}

/// Memory held for a buffer, and what was seen on the way.
pub(crate) struct Gathered<'a> {
    pinner: Pinner,
    sources: Sources<'a>,
    charge: &'a Charge,
    /// What of `charge` is for folios that are there in part, pages.
    rest_of_folios: usize,
    /// How many extents there may be before that is looked at again.
    extents_unsettled: usize,
    /// How often a batch was waited for that could not be moved.
    moves: u32,
    kinds: u32,
    /// Files that must not be sealed against writing by the time everything is pinned.
    files: KVVec<(SealableFile, u64)>,
}

impl<'a> Gathered<'a> {
    /// Gathers `ranges`, for writing if `writable`, and charges `charge` for what that locks: each
    /// batch before it is pinned, and the rest of folios that are there in part before whatever can
    /// take long, and in the end. Regions are not charged for: they are nobody else's memory. May
    /// sleep for as long as it takes to bring the memory in.
    ///
    /// Each batch of pages is checked and pinned under one hold of the mmap lock, so that no
    /// munmap() or mprotect() comes between. A failure names the first offending page.
    pub(crate) fn new(
        ranges: &[Range],
        sources: Sources<'a>,
        charge: &'a Charge,
        layout: &Layout,
        writable: bool,
    ) -> Result<Self, Failure> {
        let pages = layout.size() >> PAGE_SHIFT;
        // CAST: The layout refuses more than this architecture can address.
        let pinner = Pinner::new(pages as usize, writable).map_err(|_| Reason::NoMemory)?;
        let mut this = Self {
            pinner,
            sources,
            charge,
            rest_of_folios: 0,
            extents_unsettled: 0,
            moves: 0,
            kinds: 0,
            files: KVVec::new(),
        };
        let task = current!();
        let memory = UserMemory::of(task).ok_or(Reason::NotUser)?;
        for range in ranges {
            match range {
                Range::Memory(pages) => this.gather(&memory, pages, layout)?,
                Range::Region(region, pages) => this.take_region(region, pages, layout)?,
            }
        }
        let extents = this.extents().len();
        this.charge_folios(extents)?;
        Ok(this)
    }

    /// Charges the rest of folios before something that takes as long as somebody else likes: what is
    /// held by then must not be more than what the user may lock.
    ///
    /// Not each time, as it takes as long as there are extents: a few more may have come since. The
    /// last does not count yet, as what comes next may continue it.
    fn settle_charge(&mut self) -> Result<(), Reason> {
        let extents = self.extents().len().saturating_sub(1);
        if extents >= self.extents_unsettled {
            self.charge_folios(extents)?;
            self.extents_unsettled = extents + 8 + extents / 4;
        }
        Ok(())
    }

    /// Charges the rest of the folios that the first `extents` have in part: none of it can be freed.
    fn charge_folios(&mut self, extents: usize) -> Result<(), Reason> {
        let mut folios = KVVec::new();
        for folio in self.pinner.partial_folios(extents) {
            folios
                .push(folio, GFP_KERNEL_ACCOUNT)
                .map_err(|_| Reason::NoMemory)?;
        }
        sort(&mut folios);
        let before = self.rest_of_folios;
        let rest = extent::rest_of_folios(&folios);
        if rest > before {
            self.charge.add(rest - before)?;
        } else {
            self.charge.sub(before - rest);
        }
        self.rest_of_folios = rest;
        Ok(())
    }

    /// Takes a part of a region: it is there, whatever is mapped.
    fn take_region(
        &mut self,
        region: &Arc<Region>,
        range: &PageRange,
        layout: &Layout,
    ) -> Result<(), Failure> {
        let at = layout.request_offset(self.pinner.len());
        // CAST: The layout refuses more than this architecture can address.
        self.pinner
            .append_reserved(&region.memory, range.start, range.pages as usize)
            .map_err(|err| {
                let reason = match err {
                    err if err == ENOMEM => Reason::NoMemory,
                    err if err == E2BIG => Reason::TooBig,
                    _ => Reason::RegionRange,
                };
                Failure::at(reason, at)
            })?;
        self.kinds |= VMMEXP_KIND_CARVEOUT;
        Ok(())
    }

    fn gather(
        &mut self,
        memory: &UserMemory<'_>,
        range: &PageRange,
        layout: &Layout,
    ) -> Result<(), Failure> {
        // CAST: User addresses fit, and were checked to be such.
        let mut addr = range.start as usize;
        let end = addr + range.pages as usize * PAGE_SIZE;
        let mut tries = 0;
        // Why the page could not be brought in, until it is seen what is there by now.
        let mut absent = None;
        // Up to here pages are taken one by one, as one of them makes their batch fail: it is
        // that page which the caller is to be told of.
        let mut singly_until = addr;

        while addr < end {
            let at = layout.request_offset(self.pinner.len());
            let fail = |reason| Err(Failure::at(reason, at));

            if gup::fatal_signal_pending() {
                return fail(Reason::Interrupted);
            }
            let locked = memory.lock();
            let stop = if addr < singly_until {
                addr + PAGE_SIZE
            } else {
                end
            };
            let before = self.pinner.len();
            let gathered = self.gather_batch(&locked, addr, stop, at);
            // Part of the batch may have been taken before the rest failed.
            let taken = self.pinner.len() - before;
            addr += taken * PAGE_SIZE;
            if taken > 0 {
                tries = 0;
                absent = None;
            }
            let at = layout.request_offset(self.pinner.len());
            let fail = |reason| Err(Failure::at(reason, at));
            match gathered {
                Ok(()) => (),
                Err(BatchError::NotPresent) => {
                    if let Some(reason) = absent {
                        return fail(reason);
                    }
                    tries += 1;
                    self.settle_charge()?;
                    absent = match locked.fault_in(addr, self.pinner.writable()) {
                        Ok(()) if tries < MAX_TRIES => None,
                        Ok(()) => Some(Reason::NotPinnable),
                        Err(err) if err == EINTR => return fail(Reason::Interrupted),
                        Err(err) if err == ENOMEM => return fail(Reason::NoMemory),
                        Err(_) => Some(Reason::Fault),
                    };
                }
                Err(BatchError::Failed(Reason::NoMemory)) if self.moves < MAX_MOVES => {
                    drop(locked);
                    self.settle_charge()?;
                    fsleep(Delta::from_millis(MAX_PAUSE_MS.min(1 << self.moves)));
                    self.moves += 1;
                }
                Err(BatchError::Failed(_)) if stop - addr > PAGE_SIZE => {
                    singly_until = end.min(addr + gup::BATCH_PAGES * PAGE_SIZE);
                }
                Err(BatchError::Failed(reason) | BatchError::Refused(reason)) => {
                    return fail(reason)
                }
            }
            cond_resched();
        }
        Ok(())
    }

    /// Checks and pins pages from `addr` on: at least one, none at or beyond `end`. If it fails,
    /// pages before the one that failed may have been taken.
    fn gather_batch(
        &mut self,
        locked: &Locked<'_>,
        addr: usize,
        end: usize,
        at: u64,
    ) -> Result<(), BatchError> {
        let vma = locked.vma(addr).ok_or(BatchError::Refused(Reason::Hole))?;
        if vma.kind() == Kind::PfnMap {
            return self.take_frames(locked, &vma, addr, end);
        }
        if let Some(reason) = refusal(&vma, self.pinner.writable()) {
            return Err(BatchError::Refused(reason));
        }
        let wanted = (vma.end().min(end) - addr) / PAGE_SIZE;
        let pages = wanted.min(self.pinner.batch_pages());
        self.charge.add(pages).map_err(BatchError::Refused)?;
        let before = self.pinner.len();
        let result = locked.pin(addr, pages, absent_pages(&vma), &mut self.pinner);
        let taken = self.pinner.len() - before;
        self.charge.sub(pages - taken);
        // Also if the rest failed: what was taken stays.
        if taken > 0 {
            self.kinds |= kind_bit(&vma);
            if self.pinner.writable() {
                self.note_file(&vma, at)
                    .map_err(|_| BatchError::Refused(Reason::NoMemory))?;
            }
        }
        result.map_err(|err| match err {
            err if err == EFAULT => BatchError::NotPresent,
            err if err == EINTR => BatchError::Refused(Reason::Interrupted),
            err if err == E2BIG => BatchError::Refused(Reason::TooBig),
            err if err == ENOMEM => BatchError::Failed(Reason::NoMemory),
            _ => BatchError::Failed(Reason::NotPinnable),
        })
    }

    /// Takes page frames that are mapped from `addr` on, all of which must be of regions.
    ///
    /// That a frame number read from a page table stays what it is after the lock is given up is
    /// so for regions, which are never freed, and for nothing else that we could know of.
    fn take_frames(
        &mut self,
        locked: &Locked<'_>,
        vma: &Vma<'_>,
        addr: usize,
        end: usize,
    ) -> Result<(), BatchError> {
        use BatchError::*;

        // Whoever was given a dma-buf is not to make another of it, which would outlive it.
        if vma.of_dma_buf() {
            return Err(Refused(Reason::PfnMap));
        }
        let run = locked.follow(addr, end).map_err(|_| NotPresent)?;
        let Some((region, offset)) = self.sources.regions.find(run.pfn) else {
            return self.take_foreign(vma, run);
        };
        if !vma.readable() {
            return Err(Refused(Reason::NotReadable));
        }
        if self.pinner.writable() {
            if region.read_only || !vma.writable() {
                return Err(Refused(Reason::RegionAccess));
            }
            if !run.writable {
                return Err(NotPresent);
            }
        }
        if vma.cached() != (region.memory.caching() == Caching::Cached) {
            return Err(Refused(Reason::RegionCache));
        }
        // What lies beyond the region is looked at by itself.
        let left = (region.memory.size() - offset) >> PAGE_SHIFT;
        let pages = run.pages.min(left as usize);
        self.pinner
            .append_reserved(&region.memory, offset, pages)
            .map_err(|err| {
                Refused(if err == E2BIG {
                    Reason::TooBig
                } else {
                    Reason::NoMemory
                })
            })?;
        self.kinds |= VMMEXP_KIND_CARVEOUT;
        Ok(())
    }

    /// Takes `run`, frames of no region that are mapped in `vma`.
    fn take_foreign(&mut self, vma: &Vma<'_>, run: FrameRun) -> Result<(), BatchError> {
        use BatchError::*;

        let foreign = self.sources.foreign.ok_or(Refused(Reason::PfnMap))?;
        // What a private mapping has of its own is no driver's, and is freed with the mapping.
        if !vma.shared() {
            return Err(Refused(Reason::PfnMap));
        }
        let word = Word::of_current().ok_or(Refused(Reason::PfnMap))?;
        if !vma.readable() {
            return Err(Refused(Reason::NotReadable));
        }
        if self.pinner.writable() {
            if !vma.writable() {
                return Err(Refused(Reason::NotWritable));
            }
            if vma.executable() {
                return Err(Refused(Reason::Executable));
            }
            if !run.writable {
                return Err(NotPresent);
            }
        }
        let is_first = self
            .pinner
            .append_foreign(&word, vma, run, foreign.cached)
            .map_err(|err| {
                Refused(match err {
                    ForeignError::NotKept => Reason::PfnMap,
                    ForeignError::Caching => Reason::RegionCache,
                    ForeignError::Other(err) if err == E2BIG => Reason::TooBig,
                    ForeignError::Other(_) => Reason::NoMemory,
                })
            })?;
        if is_first {
            pr_warn!(
                "another driver's memory is exported, as unsafe_export_any_pfn_root_only_taints allows: should that driver free it, who uses it next is overwritten\n"
            );
        }
        self.kinds |= VMMEXP_KIND_DRIVER;
        Ok(())
    }

    fn note_file(&mut self, vma: &Vma<'_>, at: u64) -> Result {
        if let Some(file) = vma.sealable_file() {
            // A few files take turns at most; should it be more, some are noted twice.
            let mut lately = self.files.iter().rev().take(64);
            if !lately.any(|(other, _)| *other == file) {
                self.files.push((file, at), GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(())
    }

    /// The kinds of memory found: `VMMEXP_KIND_*`.
    pub(crate) fn kinds(&self) -> u32 {
        self.kinds
    }

    /// The physically contiguous runs.
    pub(crate) fn extents(&self) -> &[Extent] {
        self.pinner.extents()
    }

    /// Refuses memory of files that are sealed against writing. To be called when everything is
    /// pinned: a seal set by now is seen here, and setting one later fails because of the pins.
    pub(crate) fn check_seals(&self) -> Result<(), Failure> {
        match self.files.iter().find(|(file, _)| file.write_sealed()) {
            Some(&(_, at)) => Err(Failure::at(Reason::Sealed, at)),
            None => Ok(()),
        }
    }

    /// Ends the gathering.
    pub(crate) fn finish(self) -> HeldMemory {
        self.pinner.finish()
    }
}

/// Why a batch was not pinned.
enum BatchError {
    /// The page could not be brought in with the mmap lock held.
    NotPresent,
    /// For good.
    Refused(Reason),
    /// Because of one page of it, not necessarily the first.
    Failed(Reason),
}
