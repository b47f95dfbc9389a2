// SPDX-License-Identifier: GPL-2.0-only

//! Sorting.
//!
//! C header: [`include/linux/sort.h`](srctree/include/linux/sort.h).
//!
//! The methods of slices panic when an order contradicts itself, which a kernel must not, and which
//! objtool cannot follow.

use super::helpers;
use core::{
    cmp::Ordering,
    ffi::{
        c_int,
        c_void, //
    },
    mem::size_of, //
};

/// Something with an order, which is a plain value.
pub(crate) trait Sortable: Copy {
    /// Which of the two comes first.
    fn order(&self, other: &Self) -> Ordering;
}

/// Sorts `items`; equal ones come in any order. May sleep.
pub(crate) fn sort<T: Sortable>(items: &mut [T]) {
    // SAFETY: The elements are as many and as large as said, may be moved by their bytes as they
    // are `Copy`, and are what `compare` takes.
    unsafe {
        helpers::sort_nonatomic(
            items.as_mut_ptr().cast(),
            items.len(),
            size_of::<T>(),
            Some(compare::<T>),
            None,
        )
    };
}

/// # Safety
///
/// Both must point to a `T`.
unsafe extern "C" fn compare<T: Sortable>(a: *const c_void, b: *const c_void) -> c_int {
    // SAFETY: As demanded of our caller.
    let (a, b) = unsafe { (&*a.cast::<T>(), &*b.cast::<T>()) };
    match a.order(b) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}
