// SPDX-License-Identifier: GPL-2.0-only

//! To be told of changes to a part of a process's address space.
//!
//! C header: [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h).

#[cfg(not(CONFIG_MMU_NOTIFIER))]
pub(crate) use absent::IntervalNotifier;
#[cfg(CONFIG_MMU_NOTIFIER)]
pub(crate) use present::IntervalNotifier;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The memory is unmapped, moved to other addresses, or its process is gone
    /// (`MMU_NOTIFY_UNMAP`, `MMU_NOTIFY_RELEASE`).
    Unmap,
    /// Entries of the page tables are cleared, be it because other pages come in their place or
    /// only for a while (`MMU_NOTIFY_CLEAR` and its kin).
    Clear,
}

/// Who is told.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// Called before the change is made. Must not sleep, and must not take a lock that is held
    /// around changes of an address space: among those are the mmap lock, reservation locks, and
    /// the allocator's.
    fn event(&self, event: Event);
}

/// Whether this kernel has them.
pub(crate) const EXISTS: bool = cfg!(CONFIG_MMU_NOTIFIER);

#[cfg(CONFIG_MMU_NOTIFIER)]
mod present {
    use super::{
        super::{
            gup::UserMemory,
            helpers, //
        },
        Event,
        Watcher, //
    };
    use kernel::{
        error::to_result,
        prelude::*,
        types::Opaque, //
    };

    // SAFETY: A structure of function pointers, which may all be null.
    unsafe impl pin_init::Zeroable for helpers::mmu_interval_notifier_ops {}

    /// A watch over a range of addresses.
    ///
    /// Dropping it waits for changes that are being made, so it may sleep, and must not be done by
    /// the watcher or with a lock held that the change could want.
    ///
    /// # Invariants
    ///
    /// `inner` is registered with [`Self::OPS`].
    #[repr(C)]
    #[pin_data(PinnedDrop)]
    pub(crate) struct IntervalNotifier<W: Watcher> {
        // First, so that what the callback is given leads to the rest.
        #[pin]
        inner: Opaque<helpers::mmu_interval_notifier>,
        watcher: W,
    }

    // SAFETY: A notifier may be removed by any thread, and the watcher is `Send`.
    unsafe impl<W: Watcher> Send for IntervalNotifier<W> {}
    // SAFETY: What can be done through a shared reference is waiting; the watcher is `Sync`.
    unsafe impl<W: Watcher> Sync for IntervalNotifier<W> {}

    impl<W: Watcher> IntervalNotifier<W> {
        const OPS: &'static helpers::mmu_interval_notifier_ops =
            &helpers::mmu_interval_notifier_ops {
                invalidate: Some(Self::invalidate),
                ..pin_init::zeroed()
            };

        /// Watches `len` bytes of `memory` from `start` on. May sleep; takes the mmap lock.
        ///
        /// # Errors
        ///
        /// - `ENOMEM`: out of memory.
        /// - `EINTR`: a signal is pending. (The first notifier of an address space takes all of its
        ///   locks, and that gives up.)
        /// - `EOVERFLOW`: the range wraps.
        pub(crate) fn new(
            memory: &UserMemory<'_>,
            start: usize,
            len: usize,
            watcher: W,
        ) -> Result<Pin<KBox<Self>>> {
            let mm = memory.mm_ptr();
            KBox::try_pin_init(
                try_pin_init!(Self {
                    watcher,
                    inner <- Opaque::try_ffi_init(move |slot: *mut helpers::mmu_interval_notifier| {
                        // SAFETY: `slot` may be written to.
                        unsafe { slot.write(Default::default()) };
                        // SAFETY: The notifier stays where it is until `drop` removes it, and the
                        // watcher is initialised by now. The caller's address space is alive.
                        // INVARIANT: It is registered if this succeeds.
                        to_result(unsafe {
                            helpers::mmu_interval_notifier_insert(slot, mm, start, len, Self::OPS)
                        })
                    }),
                }? Error),
                GFP_KERNEL_ACCOUNT,
            )
        }

        /// Whether it watches `memory`.
        pub(crate) fn is_of(&self, memory: &UserMemory<'_>) -> bool {
            // SAFETY: Set when it was registered, and never changed.
            let mm = unsafe { (*self.inner.get()).mm };
            core::ptr::eq(mm, memory.mm_ptr())
        }

        /// Waits until no change is being made that began before this call: the watcher was told
        /// of those that began after it was registered, and will be of those to come. May sleep.
        pub(crate) fn wait_for_changes(&self) {
            // SAFETY: By the invariants it is registered.
            unsafe { helpers::mmu_interval_read_begin(self.inner.get()) };
        }

        /// # Safety
        ///
        /// `inner` must be that of a registered `IntervalNotifier<W>`, and `range` valid.
        unsafe extern "C" fn invalidate(
            inner: *mut helpers::mmu_interval_notifier,
            range: *const helpers::mmu_notifier_range,
            sequence: c_ulong,
        ) -> bool {
            // SAFETY: The interval tree keeps it registered during this call. It is the first field.
            let this = unsafe { &*inner.cast::<Self>() };
            // SAFETY: The range is valid for this call.
            let event = match unsafe { (*range).event } {
                helpers::mmu_notifier_event_MMU_NOTIFY_UNMAP
                | helpers::mmu_notifier_event_MMU_NOTIFY_RELEASE => Event::Unmap,
                // The same pages as before, to be accessed otherwise: mprotect(), fork().
                helpers::mmu_notifier_event_MMU_NOTIFY_PROTECTION_VMA
                | helpers::mmu_notifier_event_MMU_NOTIFY_PROTECTION_PAGE
                | helpers::mmu_notifier_event_MMU_NOTIFY_SOFT_DIRTY => return true,
                _ => Event::Clear,
            };
            // For `wait_for_changes()` of whoever learns of the event from the watcher.
            // SAFETY: Called for this change, as is this function.
            unsafe { helpers::vmmexp_helper_mmu_interval_set_seq(inner, sequence) };
            this.watcher.event(event);
            true
        }
    }

    #[pinned_drop]
    impl<W: Watcher> PinnedDrop for IntervalNotifier<W> {
        fn drop(self: Pin<&mut Self>) {
            // SAFETY: By the invariants it is registered.
            unsafe { helpers::mmu_interval_notifier_remove(self.inner.get()) };
        }
    }
}

/// What stands for it in a kernel without: nothing, and none can be made.
#[cfg(not(CONFIG_MMU_NOTIFIER))]
mod absent {
    use super::{
        super::gup::UserMemory,
        Watcher, //
    };
    use core::marker::PhantomData;
    use kernel::prelude::*;

    enum Never {}

    pub(crate) struct IntervalNotifier<W: Watcher>(Never, PhantomData<W>);

    impl<W: Watcher> IntervalNotifier<W> {
        pub(crate) fn new(
            _memory: &UserMemory<'_>,
            _start: usize,
            _len: usize,
            _watcher: W,
        ) -> Result<Pin<KBox<Self>>> {
            Err(ENOTSUPP)
        }

        pub(crate) fn is_of(&self, _memory: &UserMemory<'_>) -> bool {
            match self.0 {}
        }

        pub(crate) fn wait_for_changes(&self) {
            match self.0 {}
        }
    }
}
