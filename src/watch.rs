// SPDX-License-Identifier: GPL-2.0-only

//! Watching whether the exporting process keeps the memory that it exported.

use super::{
    extent::{
        self,
        Extent,
        Source, //
    },
    gather::Range,
    kernel_ext::{
        cond_resched,
        eventfd::EventFd,
        gup::{
            self,
            Mismatch,
            UserMemory, //
        },
        mmu_notifier::{
            self,
            IntervalNotifier,
            Watcher, //
        },
        trace, //
    },
    layout::PageRange,
    reason::{
        Failure,
        Reason, //
    },
    state::{
        Event,
        State,
        Verdict,
        LIVE, //
    },
};
use kernel::{
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        SetOnce,
        SpinLock, //
    }, //
};

/// The state of a buffer, and who is told when it changes.
#[pin_data]
pub(crate) struct Life {
    #[pin]
    state: SpinLock<State>,
    event_fd: Option<EventFd>,
    /// The dma-buf's id, once there is one that user space can know of: from then on changes are
    /// told. Set with `state` held, so that each is told once.
    id: SetOnce<u64>,
}

impl Life {
    /// That of a buffer in the making. `event_fd` is signalled when the state changes after
    /// [`Life::set_id`].
    pub(crate) fn new(event_fd: Option<EventFd>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_spinlock!(State::new(mmu_notifier::EXISTS), "vmmexp::Life::state"),
                event_fd,
                id: SetOnce::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// `VMMEXP_STATE_*`.
    pub(crate) fn bits(&self) -> u32 {
        self.state.lock().bits()
    }

    /// Changes the state, and tells if it did. Does not sleep.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let (old, new, id) = {
            let mut state = self.state.lock();
            let old = state.bits();
            change(&mut state);
            (old, state.bits(), self.id())
        };
        if let Some(id) = id.filter(|_| old != new) {
            self.tell(id, old, new);
        }
    }

    fn tell(&self, id: u64, old: u32, new: u32) {
        trace::state(id, old, new);
        if let Some(event_fd) = &self.event_fd {
            event_fd.signal();
        }
    }

    /// Notes the id of the dma-buf: user space is about to learn of it.
    pub(crate) fn set_id(&self, id: u64) {
        let bits = {
            let state = self.state.lock();
            self.id.populate(id);
            state.bits()
        };
        if bits & !LIVE != 0 {
            // It changed before anybody could be told of whom.
            self.tell(id, LIVE, bits);
        }
    }

    /// The id of the dma-buf, if it was published.
    pub(crate) fn id(&self) -> Option<u64> {
        self.id.copy()
    }

    /// The buffer was revoked.
    pub(crate) fn revoked(&self) {
        self.change(State::revoke);
    }

    /// Its memory was given back.
    pub(crate) fn released(&self) {
        self.change(State::release);
    }
}

impl Watcher for Arc<Life> {
    fn event(&self, event: mmu_notifier::Event) {
        let event = match event {
            mmu_notifier::Event::Unmap => Event::Unmap,
            mmu_notifier::Event::Clear => Event::Clear,
        };
        self.change(|state| state.observe(event));
    }
}

/// A range that is watched.
struct Watched {
    notifier: Pin<KBox<IntervalNotifier<Arc<Life>>>>,
    range: PageRange,
    /// The index in the buffer of its first page.
    first: usize,
}

/// The watch over all ranges of a buffer. What is exported by region, and not by address, is not
/// watched: nothing can come in its place.
pub(crate) struct Watch {
    life: Arc<Life>,
    ranges: KVec<Watched>,
}

impl Watch {
    /// Watches those of `ranges` that are of the calling process, which is to be done before their
    /// memory is gathered. May sleep; takes the mmap lock.
    ///
    /// # Errors
    ///
    /// Also `ERESTARTSYS`: a signal arrived, and the call can be made again.
    pub(crate) fn new(ranges: &[Range], life: Arc<Life>) -> Result<Self, Failure> {
        let mut this = Self {
            life,
            ranges: KVec::new(),
        };
        if mmu_notifier::EXISTS {
            this.add(ranges)?;
        }
        Ok(this)
    }

    fn add(&mut self, ranges: &[Range]) -> Result<(), Failure> {
        let task = current!();
        let memory = UserMemory::of(task).ok_or(Reason::NotUser)?;
        let mut first = 0;
        for range in ranges {
            let (range, watched) = match range {
                Range::Memory(range) => (range, true),
                Range::Region(_, range) => (range, false),
            };
            // CAST: User addresses fit, and the layout refuses more than can be addressed.
            let (start, pages) = (range.start as usize, range.pages as usize);
            if watched {
                let life = self.life.clone();
                let notifier = IntervalNotifier::new(&memory, start, pages * PAGE_SIZE, life)
                    .map_err(|err| match err {
                        err if err == EINTR => Failure {
                            reason: Reason::Interrupted,
                            errno: -ERESTARTSYS.to_errno(),
                            offset: 0,
                        },
                        _ => Reason::NoMemory.into(),
                    })?;
                self.ranges
                    .push(
                        Watched {
                            notifier,
                            range: *range,
                            first,
                        },
                        GFP_KERNEL_ACCOUNT,
                    )
                    .map_err(|_| Reason::NoMemory)?;
            }
            first += pages;
        }
        // A change that began before is not told, though it may take away what is gathered next;
        // and until it ends nor may others be that begin meanwhile.
        for watched in &self.ranges {
            watched.notifier.wait_for_changes();
        }
        Ok(())
    }

    /// What is known of the buffer besides.
    pub(crate) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// The memory is gathered: what happens from now on counts. What happened until now is looked
    /// at: breaking copy-on-write and moving pages, for instance, are part of gathering them.
    pub(crate) fn gathered(&self, extents: &[Extent]) {
        self.life.state.lock().gathered();
        self.settle(extents);
    }

    /// Looks, if the buffer is suspect and the caller is the process that exported it, whether
    /// its pages are those in `extents`. May sleep; takes the mmap lock.
    pub(crate) fn settle(&self, extents: &[Extent]) {
        let (suspect, events) = {
            let state = self.life.state.lock();
            (state.is_suspect(), state.events())
        };
        let task = current!();
        let Some(memory) = UserMemory::of(task) else {
            return;
        };
        if suspect
            && self
                .ranges
                .iter()
                .all(|watched| watched.notifier.is_of(&memory))
        {
            let verdict = self.look(&memory, extents);
            self.life.change(|state| state.settle(events, verdict));
        }
    }

    fn look(&self, memory: &UserMemory<'_>, extents: &[Extent]) -> Verdict {
        let mut verdict = Verdict::Same;
        for watched in &self.ranges {
            // What is being changed now will be seen changed.
            watched.notifier.wait_for_changes();
            match look_at(memory, &watched.range, watched.first, extents) {
                Verdict::Different => return Verdict::Different,
                Verdict::Unknown => verdict = Verdict::Unknown,
                Verdict::Same => {}
            }
        }
        verdict
    }
}

/// Compares what is mapped in `range` with the pages of a buffer from `first` on.
fn look_at(
    memory: &UserMemory<'_>,
    range: &PageRange,
    first: usize,
    extents: &[Extent],
) -> Verdict {
    let mut verdict = Verdict::Same;
    // CAST: As in `Watch::add`.
    let (start, pages) = (range.start as usize, range.pages as usize);
    let mut done = 0;
    while done < pages {
        if gup::fatal_signal_pending() {
            return Verdict::Unknown;
        }
        let locked = memory.lock();
        // A batch for each hold of the lock.
        let stop = pages.min(done + gup::BATCH_PAGES);
        while done < stop {
            let index = first + done;
            let Some(extent) = extent::find(extents, index) else {
                return Verdict::Unknown;
            };
            let run = (extent.end() - index).min(stop - done);
            let addr = start + done * PAGE_SIZE;
            let counted = extent.source == Source::Pages;
            match locked.compare(addr, extent.pfn_of(index), run, counted) {
                Ok(same) => done += same,
                Err(Mismatch::Different) => return Verdict::Different,
                Err(Mismatch::Absent) => {
                    verdict = Verdict::Unknown;
                    done += 1;
                }
            }
        }
        drop(locked);
        cond_resched();
    }
    verdict
}
