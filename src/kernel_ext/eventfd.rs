// SPDX-License-Identifier: GPL-2.0-only

//! Signals to user space through an eventfd.
//!
//! C header: [`include/linux/eventfd.h`](srctree/include/linux/eventfd.h).

use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*, //
};

/// The inner object of an eventfd. It stays when the descriptors are closed.
///
/// # Invariants
///
/// `ptr` points to a `struct eventfd_ctx` to which this owns a reference.
pub(crate) struct EventFd {
    ptr: NonNull<bindings::eventfd_ctx>,
}

// SAFETY: Contexts are reference counted, by atomic operations, and belong to no thread.
unsafe impl Send for EventFd {}
// SAFETY: Signalling takes the context's lock.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// Takes a reference to what descriptor `fd` of the current task stands for.
    ///
    /// # Errors
    ///
    /// `EBADF`: it is not open. `EINVAL`: it is something else.
    pub(crate) fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: No precondition.
        let ptr = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The reference is ours.
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(EINVAL)?,
        })
    }

    /// Adds one to the counter. May be called from any context.
    pub(crate) fn signal(&self) {
        // SAFETY: By the invariants the context is valid.
        unsafe { bindings::eventfd_signal_mask(self.ptr.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the invariants the reference is ours.
        unsafe { bindings::eventfd_ctx_put(self.ptr.as_ptr()) };
    }
}
