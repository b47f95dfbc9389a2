// SPDX-License-Identifier: GPL-2.0-only

//! An exported buffer: what is known of it besides its memory.

use super::{
    backing::Backing,
    extent::{
        self,
        Extent, //
    },
    kernel_ext::{
        dma_buf::{
            DmaBuf,
            Exporter,
            FdError,
            Ops, //
        },
        PAGE_SHIFT,
    },
    layout::Layout,
    reason::{
        Failure,
        Reason, //
    },
};
use kernel::{
    device::Device,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Alignment is told up to here, so that it does not tell more of physical addresses.
const MAX_ALIGNMENT: u64 = 2 << 20;

/// What EXPORT and QUERY answer about a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) size: u64,
    pub(crate) data_offset: u64,
    pub(crate) data_size: u64,
    pub(crate) nr_segs: u32,
    pub(crate) kinds: u32,
    pub(crate) alignment: u64,
}

impl Facts {
    /// Looks at memory that is laid out like `layout`.
    pub(crate) fn new(layout: &Layout, extents: &[Extent], kinds: u32) -> Self {
        Self {
            size: layout.size(),
            data_offset: layout.data_offset(),
            data_size: layout.data_size(),
            nr_segs: u32::try_from(extents.len()).unwrap_or(u32::MAX),
            kinds,
            alignment: extent::alignment(extents, PAGE_SHIFT, MAX_ALIGNMENT),
        }
    }
}

/// The exporter's part of a dma-buf.
pub(crate) struct Buffer {
    /// What is known of it.
    pub(crate) facts: Facts,
    /// The flags given to EXPORT.
    pub(crate) export_flags: u32,
}

static OPS: Ops<Buffer> = Ops::new();

impl Exporter for Buffer {
    type Memory = Backing;

    const NAME: &'static CStr = c"vmmexp";

    fn ops() -> &'static Ops<Self> {
        &OPS
    }

    fn unreachable(&self, dev: &Device) {
        if is_news(dev) {
            dev_info!(
                dev,
                "vmmexp: not mapped: the device does not reach all of the memory without bouncing\n"
            );
        }
    }
}

/// Whether nothing has been logged about `dev` as yet. Remembers a few devices, and is silent
/// about more: a log that users can fill is none.
fn is_news(dev: &Device) -> bool {
    static TOLD: [Atomic<usize>; 16] = [const { Atomic::new(0) }; 16];

    let id = core::ptr::from_ref(dev).addr();
    for slot in &TOLD {
        match slot.cmpxchg(0, id, Relaxed) {
            Ok(_) => return true,
            Err(known) if known == id => return false,
            Err(_) => {}
        }
    }
    false
}

/// The buffer that a file descriptor of the caller stands for.
pub(crate) fn from_fd(fd: i32) -> Result<DmaBuf<Buffer>, Failure> {
    DmaBuf::from_fd(fd).map_err(|err| {
        match err {
            FdError::NotOpen => Reason::BadFd,
            FdError::Other => Reason::NotOurs,
        }
        .into()
    })
}
