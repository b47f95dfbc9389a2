// SPDX-License-Identifier: GPL-2.0-only

//! What the dma-buf core calls `priv`: the exporter's data, the memory, and who uses it.

use super::{
    super::{
        cache::{
            barrier,
            Maintainer,
            Side, //
        },
        extent::{
            self,
            Extent,
            Source, //
        },
        reserved::Reserved,
        workqueue::OwnedQueue,
        PAGE_SHIFT, //
    },
    Access,
    Exporter,
    Memory,
    Usage, //
};
use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ops::Deref, //
};
use kernel::{
    dma::DataDirection,
    impl_has_work,
    new_mutex,
    new_work,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc,
        ArcBorrow,
        Mutex,
        MutexGuard, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// Who uses a dma-buf, counted.
pub(crate) struct Users {
    pub(super) attachments: Atomic<i32>,
    /// Of devices.
    pub(super) mappings: Atomic<i32>,
    pub(super) vmas: Atomic<i32>,
    /// By the kernel: one at most.
    pub(super) vmaps: Atomic<i32>,
}

impl Users {
    const fn new() -> Self {
        Self {
            attachments: Atomic::new(0),
            mappings: Atomic::new(0),
            vmas: Atomic::new(0),
            vmaps: Atomic::new(0),
        }
    }

    /// Who uses it now.
    pub(crate) fn now(&self) -> Usage {
        let count = |counter: &Atomic<i32>| u32::try_from(counter.load(Relaxed)).unwrap_or(0);
        Usage {
            attachments: count(&self.attachments),
            device_mappings: count(&self.mappings),
            cpu_mappings: count(&self.vmas),
            kernel_mapping: count(&self.vmaps) != 0,
        }
    }
}

/// Lives from the export until `release`, or until the work of a revocation is done.
///
/// # Invariants
///
/// `memory` is dropped by [`WorkItem::run`], which is queued once, when `uses` becomes zero, or
/// else when this is dropped. `uses` counts one for as long as the dma-buf is not revoked, and one
/// for each [`Use`]; it never leaves zero.
#[pin_data(PinnedDrop)]
pub(super) struct Shared<T: Exporter> {
    pub(super) exporter: T,
    memory: UnsafeCell<ManuallyDrop<T::Memory>>,
    uses: Atomic<i32>,
    /// Set with `faults` held.
    revoked: Atomic<bool>,
    /// The memory was dropped.
    released: Atomic<bool>,
    /// Held by a revocation from beginning to end.
    #[pin]
    revocation: Mutex<()>,
    /// Held while pages are put into page tables, so that none is after `revoked` was set.
    #[pin]
    faults: Mutex<()>,
    #[pin]
    work: Work<Self>,
    queue: Arc<OwnedQueue>,
    pub(super) access: Access,
    pub(super) size: u64,
    /// Whether importers of all kinds may be attached: all of it has `struct page`s, or is one run.
    pub(super) plain: bool,
    /// Whether the kernel can map it: all of it has `struct page`s, or is one run in a region.
    pub(super) mappable: bool,
    maintainer: Maintainer,
    pub(super) users: Arc<Users>,
    /// Mappings of devices which snoop no cache: these are counted from before they are made until
    /// after they are gone.
    pub(super) noncoherent: Atomic<i32>,
}

impl_has_work! {
    impl{T: Exporter} HasWork<Self> for Shared<T> { self.work }
}

// SAFETY: All fields are `Send`.
unsafe impl<T: Exporter> Send for Shared<T> {}
// SAFETY: All fields but `memory` are `Sync`. It is `Sync` itself, and only changed, by dropping
// it, when nobody can have a reference to it: see the invariants, and `Use`.
unsafe impl<T: Exporter> Sync for Shared<T> {}

impl<T: Exporter> Shared<T> {
    pub(super) fn new(
        exporter: T,
        memory: T::Memory,
        access: Access,
        maintainer: Maintainer,
        queue: Arc<OwnedQueue>,
    ) -> Result<Arc<Self>> {
        let extents = memory.extents();
        let size = (extent::page_count(extents) as u64) << PAGE_SHIFT;
        let all_pages = extent::all_pages(extents);
        let plain = all_pages || extents.len() == 1;
        let mappable = match extents {
            [extent] => !matches!(extent.source, Source::Foreign { .. }),
            _ => all_pages,
        };
        let users = Arc::new(Users::new(), GFP_KERNEL_ACCOUNT)?;
        // INVARIANT: It is not revoked.
        Arc::pin_init(
            pin_init!(Self {
                exporter,
                memory: UnsafeCell::new(ManuallyDrop::new(memory)),
                uses: Atomic::new(1),
                revoked: Atomic::new(false),
                released: Atomic::new(false),
                revocation <- new_mutex!((), "vmmexp::dma_buf::revocation"),
                faults <- new_mutex!((), "vmmexp::dma_buf::faults"),
                work <- new_work!("vmmexp::dma_buf::release"),
                queue,
                access,
                size,
                plain,
                mappable,
                maintainer,
                users,
                noncoherent: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Starts a use of the memory, which it will not be released during. `None` if it was revoked
    /// and nobody used it any more, or if it is being.
    pub(super) fn begin_use<'a>(self: ArcBorrow<'a, Self>) -> Option<Use<'a, T>> {
        let mut uses = self.uses.load(Relaxed);
        while uses != 0 {
            match self.uses.cmpxchg(uses, uses + 1, Full) {
                // INVARIANT: It was counted, and not zero before.
                Ok(_) => return Some(Use { shared: self }),
                Err(now) => uses = now,
            }
        }
        None
    }

    /// The use that was made to last by [`Use::keep`].
    ///
    /// # Safety
    ///
    /// There must be one, which the caller gives up.
    pub(super) unsafe fn kept_use<'a>(self: ArcBorrow<'a, Self>) -> Use<'a, T> {
        // INVARIANT: The one that was kept.
        Use { shared: self }
    }

    fn end_use(self: ArcBorrow<'_, Self>) {
        if self.uses.fetch_sub(1, Full) == 1 {
            let queue = self.queue.clone();
            // Cannot fail: the work was never queued before.
            // INVARIANT: `uses` became zero, which it does once.
            let _ = queue.enqueue(Arc::from(self));
        }
    }

    /// The memory, with everybody else kept from putting pages of it into page tables; `None` once
    /// revoked.
    pub(super) fn faults(&self) -> Option<Faults<'_, T>> {
        let guard = self.faults.lock();
        // INVARIANT: It is not revoked before the lock is given up.
        (!self.is_revoked()).then_some(Faults {
            shared: self,
            _guard: guard,
        })
    }

    /// Keeps other revocations waiting, so that nobody is told of one that is not done.
    pub(super) fn begin_revocation(&self) -> MutexGuard<'_, ()> {
        self.revocation.lock()
    }

    /// Makes [`Self::faults`] return nothing from now on. Returns whether it did before.
    pub(super) fn set_revoked(&self) -> bool {
        let _guard = self.faults.lock();
        !self.revoked.xchg(true, Full)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Acquire)
    }

    /// Gives up the use that stands for not being revoked.
    ///
    /// # Safety
    ///
    /// Must be called once only, after [`Self::set_revoked`], when what was put into page tables
    /// is out of them.
    pub(super) unsafe fn end_first_use(self: ArcBorrow<'_, Self>) {
        // INVARIANT: It is revoked by now.
        self.end_use();
    }
}

#[pinned_drop]
impl<T: Exporter> PinnedDrop for Shared<T> {
    fn drop(self: Pin<&mut Self>) {
        if !self.released.load(Acquire) {
            // SAFETY: By the invariants it was not dropped, and will not be. Nobody has a
            // reference.
            unsafe { ManuallyDrop::drop(&mut *self.memory.get()) };
        }
    }
}

impl<T: Exporter> WorkItem for Shared<T> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // SAFETY: By the invariants this is the only time. There is no `Use`, nor will there be
        // one as `uses` is zero, nor a `Faults`, as `revoked` was set with their lock held before
        // `uses` could become zero.
        unsafe { ManuallyDrop::drop(&mut *this.memory.get()) };
        this.released.store(true, Release);
        this.exporter.released();
    }
}

/// A use of the memory.
///
/// # Invariants
///
/// It is counted in `uses`.
pub(super) struct Use<'a, T: Exporter> {
    shared: ArcBorrow<'a, Shared<T>>,
}

impl<T: Exporter> Use<'_, T> {
    /// Makes it last until [`Shared::kept_use`] takes it up again.
    pub(super) fn keep(self) {
        core::mem::forget(self);
    }

    /// The memory.
    pub(super) fn memory(&self) -> &T::Memory {
        // SAFETY: It is not dropped while there is a use.
        unsafe { &*self.shared.memory.get() }
    }

    /// The region and the extent, if the memory is one run of reserved memory.
    pub(super) fn only_reserved(&self) -> Option<(&Reserved, &Extent)> {
        match self.memory().extents() {
            [extent] => match extent.source {
                Source::Reserved(index) => Some((self.memory().reserved(index)?, extent)),
                Source::Pages | Source::Foreign { .. } => None,
            },
            _ => None,
        }
    }

    /// Maintains caches over a part of the memory. May sleep.
    pub(super) fn sync(&self, offset: u64, len: u64, direction: DataDirection, side: Side) {
        // What this CPU has done comes before, what it does next after, whoever looks; and the
        // counters below are read after a device that could see the stores was counted.
        barrier();
        // Where every device that has a mapping snoops the caches there is nothing to do. Without
        // any mapping the other side may be one that no driver stands for: do the work.
        if self.users.mappings.load(Relaxed) > 0 && self.noncoherent.load(Relaxed) == 0 {
            return;
        }
        self.maintain(offset, len, direction, side);
    }

    /// The same for all of the memory.
    pub(super) fn sync_all(&self, direction: DataDirection, side: Side) {
        self.sync(0, self.size, direction, side);
    }

    fn maintain(&self, offset: u64, len: u64, direction: DataDirection, side: Side) {
        let memory = self.memory();
        // SAFETY: The memory describes a buffer, and stays as long as `self`.
        unsafe {
            self.maintainer.maintain(
                memory.extents(),
                |index| memory.reserved(index),
                offset..offset + len,
                direction,
                side,
                self.access == Access::ReadWrite,
            )
        };
    }

    /// Maintains caches over what of the memory is reserved: the DMA API has no part in that.
    pub(super) fn sync_reserved(&self, direction: DataDirection, side: Side) {
        for extent in self.memory().extents() {
            if let Source::Reserved(index) = extent.source {
                if let Some(region) = self.memory().reserved(index) {
                    region.maintain(
                        extent.phys(PAGE_SHIFT),
                        extent.bytes(PAGE_SHIFT),
                        direction,
                        side,
                    );
                }
            }
        }
    }

    /// Makes the caches ready for a device that snoops none to be given a mapping of the memory.
    pub(super) fn prepare_noncoherent(&self, direction: DataDirection) {
        if matches!(direction, DataDirection::FromDevice) {
            // The DMA API may throw lines away here, see `cache.rs`.
            self.maintain(0, self.size, direction, Side::Device);
        } else {
            self.sync_reserved(direction, Side::Device);
        }
    }
}

impl<T: Exporter> Deref for Use<'_, T> {
    type Target = Shared<T>;

    fn deref(&self) -> &Shared<T> {
        &self.shared
    }
}

impl<T: Exporter> Drop for Use<'_, T> {
    fn drop(&mut self) {
        self.shared.end_use();
    }
}

/// The memory, to put pages of it into page tables.
///
/// # Invariants
///
/// It is not revoked, and the lock is held.
pub(super) struct Faults<'a, T: Exporter> {
    shared: &'a Shared<T>,
    _guard: MutexGuard<'a, ()>,
}

impl<T: Exporter> Faults<'_, T> {
    /// The memory.
    pub(super) fn memory(&self) -> &T::Memory {
        // SAFETY: By the invariants it is not revoked while `self` lives, and not dropped before.
        unsafe { &*self.shared.memory.get() }
    }
}
