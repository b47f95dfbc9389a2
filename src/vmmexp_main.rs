// SPDX-License-Identifier: GPL-2.0-only

//! vmmexp: memory of a process as a dma-buf.
//!
//! `/dev/vmmexp` takes address ranges of its caller and returns a dma-buf of the pages behind
//! them, which any importer uses without a copy. The ABI is `uapi/linux/vmmexp.h`.
//!
//! # Where things are
//!
//! An arrow points down only:
//!
//! ```text
//! vmmexp_main            the module
//!   device               /dev/vmmexp: files and ioctls
//!     export sync info   one file for each thing a caller can ask for
//!       buffer           what is known of an exported buffer
//!       backing          what holds the memory
//!         uapi           the ABI, as the C header has it
//!           extent layout options reason     pure: no kernel, tested on the host
//!           kernel_ext   abstractions that the kernel crate lacks; all unsafe code
//! ```
//!
//! # Locks
//!
//! In the order in which they are taken; vmmexp has none of its own:
//!
//! 1. `mmap_lock` of the caller, for reading: a batch of at most 16 MiB is checked and pinned
//!    under it (`backing/pinned.rs`). Nothing of the dma-buf exists as yet.
//! 2. `dma_resv` of a dma-buf: held by the core around map, unmap, vmap and vunmap; taken to
//!    count attachments. Allocations under it may reclaim memory, hence:
//! 3. what the allocator takes.
//!
//! Folio locks are taken when pages are unpinned, which happens with none of these held: in
//! `release` of the dma-buf, or where an export fails, after the mmap lock was given up.
//!
//! # Who may sleep
//!
//! Everything here runs in the context of a process and may sleep, but for the fault handler of
//! mappings (`kernel_ext/dma_buf/mmap.rs`), which takes no lock but those of the page tables.

use kernel::prelude::*;

mod backing;
mod buffer;
mod device;
mod export;
mod extent;
mod info;
mod kernel_ext;
mod layout;
mod options;
mod reason;
mod sync;
mod uapi;

use kernel_ext::{
    cache,
    compat,
    misc, //
};

module! {
    type: Vmmexp,
    name: "vmmexp",
    authors: ["The vmmexp authors"],
    description: "Export memory of a process as a dma-buf",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

/// The module. Fields are dropped in order: first nobody can open the device any more.
#[pin_data]
struct Vmmexp {
    #[pin]
    _device: misc::Registration<device::File>,
    _cache: cache::Registration,
}

impl kernel::InPlaceModule for Vmmexp {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let cache = cache::Registration::new(c"vmmexp")?;
            let device = device::Device::new(cache.maintainer());
            Ok(try_pin_init!(Self {
                _device <- misc::Registration::new(c"vmmexp", compat::this_module(), device),
                _cache: cache,
            }? Error))
        })
    }
}
