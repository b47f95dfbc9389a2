// SPDX-License-Identifier: GPL-2.0-only

//! Trace events.
//!
//! C headers: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h); the events are
//! defined in `include/vmmexp_trace.h`, and `src/trace.c` has what is called here.
//!
//! `declare_trace!` of the kernel crate is for events of the kernel itself. Where an event is
//! disabled, [`Timer::start`] or the function of the event is a call of a C function with one
//! static branch in it, and no time is measured.

use super::{
    device_as_raw,
    helpers, //
};
use kernel::{
    device::Device,
    dma::DataDirection,
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// An event that has a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    /// [`Timer::export`].
    Export,
    /// [`Timer::map`].
    Map,
    /// [`Timer::unmap`].
    Unmap,
    /// [`Timer::sync`].
    Sync,
    /// [`Timer::revoke`].
    Revoke,
}

/// Runs from the start of what an event tells of, to its end.
#[derive(Clone, Copy)]
pub(crate) struct Timer(Instant<Monotonic>);

/// What [`Timer::export`] tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Export {
    /// The dma-buf's id; 0 for none.
    pub(crate) id: u64,
    /// Its size.
    pub(crate) bytes: u64,
    /// Physically contiguous runs.
    pub(crate) segs: u32,
    /// Kinds of memory, as bits.
    pub(crate) kinds: u32,
    /// Flags of the request.
    pub(crate) flags: u32,
    /// Why it failed; 0 if it did not.
    pub(crate) reason: u32,
    /// The negative errno, or 0.
    pub(crate) error: i32,
    /// Where in the request it failed.
    pub(crate) offset: u64,
}

/// What [`Timer::map`] and [`Timer::unmap`] tell.
#[derive(Clone, Copy)]
pub(crate) struct Mapping<'a> {
    /// The dma-buf's id.
    pub(crate) id: u64,
    /// For what device.
    pub(crate) dev: &'a Device,
    /// For transfers in what direction.
    pub(crate) direction: DataDirection,
    /// Its size.
    pub(crate) bytes: u64,
    /// Entries of the scatterlist.
    pub(crate) segs: u32,
    /// The negative errno, or 0.
    pub(crate) error: i32,
}

/// What [`Timer::sync`] tells.
#[derive(Clone, Copy)]
pub(crate) struct Sync {
    /// The dma-buf's id.
    pub(crate) id: u64,
    /// What the CPU does, as if it were a device.
    pub(crate) direction: DataDirection,
    /// Whether its access ends, and does not begin.
    pub(crate) end: bool,
    /// How many bytes were asked for.
    pub(crate) bytes: u64,
    /// The negative errno, or 0.
    pub(crate) error: i32,
}

impl Timer {
    /// Starts, if the event is enabled.
    pub(crate) fn start(event: Timed) -> Option<Self> {
        // SAFETY: No precondition.
        let enabled = unsafe {
            match event {
                Timed::Export => helpers::vmmexp_helper_trace_export_enabled(),
                Timed::Map => helpers::vmmexp_helper_trace_map_enabled(),
                Timed::Unmap => helpers::vmmexp_helper_trace_unmap_enabled(),
                Timed::Sync => helpers::vmmexp_helper_trace_sync_enabled(),
                Timed::Revoke => helpers::vmmexp_helper_trace_revoke_enabled(),
            }
        };
        enabled.then(|| Self(Instant::now()))
    }

    /// The time since the start in nanoseconds.
    fn elapsed(self) -> u64 {
        // The clock never goes back.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(0)
    }

    /// An export is over.
    pub(crate) fn export(self, event: &Export) {
        // SAFETY: No precondition.
        unsafe {
            helpers::vmmexp_helper_trace_export(
                event.id,
                event.bytes,
                event.segs,
                event.kinds,
                event.flags,
                event.reason,
                event.error,
                event.offset,
                self.elapsed(),
            )
        };
    }

    /// A device was given a mapping, or refused it.
    pub(crate) fn map(self, event: &Mapping<'_>) {
        // SAFETY: The device is valid.
        unsafe {
            helpers::vmmexp_helper_trace_map(
                event.id,
                device_as_raw(event.dev),
                event.direction.into(),
                event.bytes,
                event.segs,
                event.error,
                self.elapsed(),
            )
        };
    }

    /// A device gave a mapping up.
    pub(crate) fn unmap(self, event: &Mapping<'_>) {
        // SAFETY: The device is valid.
        unsafe {
            helpers::vmmexp_helper_trace_unmap(
                event.id,
                device_as_raw(event.dev),
                event.direction.into(),
                event.bytes,
                event.segs,
                event.error,
                self.elapsed(),
            )
        };
    }

    /// Caches were maintained for access by the CPU, or that was refused.
    pub(crate) fn sync(self, event: &Sync) {
        // SAFETY: No precondition.
        unsafe {
            helpers::vmmexp_helper_trace_sync(
                event.id,
                event.direction.into(),
                event.end,
                event.bytes,
                event.error,
                self.elapsed(),
            )
        };
    }

    /// A dma-buf of `bytes` bytes was revoked.
    pub(crate) fn revoke(self, id: u64, bytes: u64) {
        // SAFETY: No precondition.
        unsafe { helpers::vmmexp_helper_trace_revoke(id, bytes, self.elapsed()) };
    }
}

/// The state of a dma-buf, as bits, is another. May be called in any context.
pub(crate) fn state(id: u64, old: u32, new: u32) {
    // SAFETY: No precondition.
    unsafe { helpers::vmmexp_helper_trace_state(id, old, new) };
}

/// The last reference to a dma-buf is gone.
pub(crate) fn release(id: u64, bytes: u64, segs: u32) {
    // SAFETY: No precondition.
    unsafe { helpers::vmmexp_helper_trace_release(id, bytes, segs) };
}
