// SPDX-License-Identifier: GPL-2.0-only

//! Kernel abstractions which the `kernel` crate lacks.
//!
//! Written as if for `rust/kernel/`: nothing here knows of vmmexp, and whatever it offers to the
//! driver is safe. All use of C bindings, and all `unsafe` but the plain-old-data marks on the
//! structures of the ABI, is in this folder.

pub(crate) mod cache;
pub(crate) mod compat;
pub(crate) mod debugfs;
pub(crate) mod dma;
pub(crate) mod dma_buf;
pub(crate) mod eventfd;
pub(crate) mod foreign;
pub(crate) mod gup;
#[cfg_attr(
    not(CONFIG_OF),
    allow(dead_code, reason = "regions come from device trees")
)]
mod helpers;
pub(crate) mod memlock;
pub(crate) mod memory;
pub(crate) mod misc;
pub(crate) mod mmu_notifier;
#[cfg(CONFIG_OF)]
pub(crate) mod of_driver;
#[cfg_attr(
    not(CONFIG_OF),
    allow(dead_code, reason = "regions come from device trees")
)]
pub(crate) mod reserved;
pub(crate) mod sort;
pub(crate) mod task;
pub(crate) mod trace;
pub(crate) mod usercopy;
pub(crate) mod vma;
mod vmap;
pub(crate) mod workqueue;

use super::extent;
use kernel::{
    bindings,
    device::Device, //
};

/// The base-2 logarithm of the page size.
pub(crate) const PAGE_SHIFT: u32 = bindings::PAGE_SHIFT;

/// Returns the C view of a device.
///
/// The kernel crate keeps its own `Device::as_raw` to itself.
fn device_as_raw(dev: &Device) -> *mut bindings::device {
    // `Device` is a transparent wrapper of an `Opaque<bindings::device>`, whose content is mutable
    // behind a shared reference.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// A number made of the name of a device.
pub(crate) fn device_name_hash(dev: &Device) -> u32 {
    // SAFETY: The device is valid, and has a name.
    unsafe { helpers::vmmexp_helper_dev_name_hash(device_as_raw(dev)) }
}

/// Gives way to other tasks: to be called between the steps of a long loop. May sleep.
pub(crate) fn cond_resched() {
    // SAFETY: Callers may sleep, and no other precondition exists.
    unsafe { helpers::vmmexp_helper_cond_resched() };
}

/// The size of the memory that Linux manages, in pages.
pub(crate) fn total_ram_pages() -> usize {
    // SAFETY: Reads a counter, no precondition.
    unsafe { helpers::vmmexp_helper_totalram_pages() }
}
