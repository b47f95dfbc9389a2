// SPDX-License-Identifier: GPL-2.0-only

//! Work queues of one's own.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h).
//!
//! [`kernel::workqueue`] has the system's queues only, and nothing waits for their work when a
//! module goes: what holds the module may be gone before the last instruction of the work is.

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    workqueue::Queue, //
};

/// A work queue.
///
/// Dropping it waits for its work. Whoever adds work holds a reference, but that is never the last
/// one: see [`Registration`].
///
/// # Invariants
///
/// `ptr` points to a `struct workqueue_struct` which this owns.
pub(crate) struct OwnedQueue {
    ptr: NonNull<bindings::workqueue_struct>,
}

// SAFETY: A queue may be used, and destroyed, from any thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: As above.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// A queue called `name` for long work that is bound to no CPU.
    fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The format takes one string, and the queue copies it.
        let ptr = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND,
                0,
                name.as_char_ptr(),
            )
        };
        // INVARIANT: It is ours.
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
        })
    }
}

impl Deref for OwnedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the invariants the queue is valid for as long as `self`.
        unsafe { Queue::from_raw(self.ptr.as_ptr()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the invariants it is ours, and nobody can add work any more.
        unsafe { bindings::destroy_workqueue(self.ptr.as_ptr()) };
    }
}

/// What a module has for as long as work of its own can be queued.
///
/// Dropping it, when nobody can add work any more, waits until no instruction of the work is still
/// to be run.
pub(crate) struct Registration {
    queue: Arc<OwnedQueue>,
}

impl Registration {
    /// Makes a queue called `name`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        Ok(Self {
            queue: Arc::new(OwnedQueue::new(name)?, GFP_KERNEL)?,
        })
    }

    /// The queue.
    pub(crate) fn get(&self) -> Arc<OwnedQueue> {
        self.queue.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: By the invariants the queue is valid. Work does not add work.
        unsafe { bindings::drain_workqueue(self.queue.ptr.as_ptr()) };
    }
}
