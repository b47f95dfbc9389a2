// SPDX-License-Identifier: GPL-2.0-only

//! Memory charged to a user as locked.
//!
//! C header: [`include/linux/sched/user.h`](srctree/include/linux/sched/user.h). Counted in
//! `user_struct::locked_vm`, per user and against `RLIMIT_MEMLOCK`, as `io_uring` and `perf` do
//! for pages that they hold for a process and that outlive its address space. (What `mlock()`
//! counts is per process, and has no owner when the process is gone.)

use super::helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*, //
};

/// A user.
///
/// # Invariants
///
/// `ptr` points to a `struct user_struct` to which this owns a reference.
pub(crate) struct User {
    ptr: NonNull<bindings::user_struct>,
}

// SAFETY: Users are reference counted, by atomic operations, and belong to no thread.
unsafe impl Send for User {}
// SAFETY: What can be done through a shared reference is atomic.
unsafe impl Sync for User {}

impl User {
    /// The user of the current task: its real user ID, in its user namespace.
    pub(crate) fn current() -> Self {
        // SAFETY: No precondition. Every task has a user.
        let ptr = unsafe { helpers::vmmexp_helper_get_current_user() };
        // INVARIANT: The reference is ours.
        Self {
            // SAFETY: As above.
            ptr: unsafe { NonNull::new_unchecked(ptr) },
        }
    }

    /// A number that no other user has while this one is referred to.
    pub(crate) fn key(&self) -> usize {
        self.ptr.as_ptr().addr()
    }

    /// How many pages are charged as locked, by whomever.
    pub(crate) fn locked_pages(&self) -> usize {
        // SAFETY: By the invariants the user is valid.
        unsafe { helpers::vmmexp_helper_locked_vm_read(self.ptr.as_ptr()) }
    }

    /// Charges `pages` more, or none if more than `limit` would be charged then, in all. Does not
    /// sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: too many.
    pub(crate) fn charge(&self, pages: usize, limit: usize) -> Result {
        let mut locked = self.locked_pages();
        loop {
            let new = locked.checked_add(pages).ok_or(ENOMEM)?;
            if new > limit {
                return Err(ENOMEM);
            }
            // SAFETY: By the invariants the user is valid.
            if unsafe {
                helpers::vmmexp_helper_locked_vm_try_cmpxchg(self.ptr.as_ptr(), &mut locked, new)
            } {
                return Ok(());
            }
        }
    }

    /// Takes back a charge of `pages`, which must have been charged to this user and not have been
    /// taken back before. Does not sleep.
    pub(crate) fn uncharge(&self, pages: usize) {
        // SAFETY: By the invariants the user is valid.
        unsafe { helpers::vmmexp_helper_locked_vm_sub(self.ptr.as_ptr(), pages) };
    }
}

impl Clone for User {
    fn clone(&self) -> Self {
        // SAFETY: By the invariants the user is valid.
        unsafe { helpers::vmmexp_helper_get_uid(self.ptr.as_ptr()) };
        // INVARIANT: The reference was taken above.
        Self { ptr: self.ptr }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: By the invariants the reference is ours.
        unsafe { bindings::free_uid(self.ptr.as_ptr()) };
    }
}

/// How many pages the current task may have locked: its soft `RLIMIT_MEMLOCK`, `usize::MAX` if
/// it has none.
pub(crate) fn rlimit_pages() -> usize {
    // SAFETY: No precondition.
    unsafe { helpers::vmmexp_helper_rlimit_memlock_pages() }
}
