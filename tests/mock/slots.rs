// SPDX-License-Identifier: GPL-2.0-only

//! Numbers for user space that stand for things in the kernel.

use kernel::prelude::*;

/// A bound, so that a test gone wild ends.
const MAX: usize = 4096;

/// Things, each with a number.
pub(crate) struct Slots<T>(KVVec<Option<T>>);

impl<T> Slots<T> {
    /// No things.
    pub(crate) fn new() -> Self {
        Self(KVVec::new())
    }

    /// Keep `value` if `publish`, which is told its number, succeeds.
    pub(crate) fn insert(&mut self, value: T, publish: impl FnOnce(u32) -> Result) -> Result {
        let index = match self.0.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.0.len() < MAX => {
                self.0.push(None, GFP_KERNEL)?;
                self.0.len() - 1
            }
            None => return Err(ENOSPC),
        };
        publish(index as u32)?;
        self.0[index] = Some(value);
        Ok(())
    }

    /// The thing with this number.
    pub(crate) fn get(&self, id: u32) -> Result<&T> {
        self.0
            .get(id as usize)
            .and_then(Option::as_ref)
            .ok_or(ENOENT)
    }

    /// The thing with this number, to change.
    pub(crate) fn get_mut(&mut self, id: u32) -> Result<&mut T> {
        self.0
            .get_mut(id as usize)
            .and_then(Option::as_mut)
            .ok_or(ENOENT)
    }

    /// Take out the thing with this number.
    pub(crate) fn remove(&mut self, id: u32) -> Result<T> {
        self.0
            .get_mut(id as usize)
            .and_then(Option::take)
            .ok_or(ENOENT)
    }

    /// All things.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}
