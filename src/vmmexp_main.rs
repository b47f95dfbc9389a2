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
//!       gather           which memory may be exported, and how it is had
//!       buffer           what is known of an exported buffer
//!       carveout region  memory that Linux leaves alone: the driver, the regions, their devices
//!         uapi           the ABI, as the C header has it
//!           extent layout options reason     pure: no kernel, tested on the host
//!           kernel_ext   abstractions that the kernel crate lacks; all unsafe code
//! ```
//!
//! # Locks
//!
//! In the order in which they are taken:
//!
//! 1. `mmap_lock` of the caller, for reading: a batch of at most 16 MiB is checked and pinned
//!    under it (`gather.rs`). Nothing of the dma-buf exists as yet.
//! 2. The list of regions (`region.rs`): taken for a look-up, also with the mmap lock held.
//! 3. `dma_resv` of a dma-buf: held by the core around map, unmap, vmap and vunmap; taken to
//!    count attachments. Allocations under it may reclaim memory, hence:
//! 4. what the allocator takes.
//!
//! `name_lock` of a new dma-buf is taken with none of these held and nothing under it.
//!
//! Folio locks are taken when pages are unpinned, which happens with none of these held: in
//! `release` of the dma-buf, or where an export fails, after the mmap lock was given up.
//!
//! # Who may sleep
//!
//! Everything here runs in the context of a process and may sleep. The fault handler of mappings
//! (`kernel_ext/dma_buf/mmap.rs`) is called with the mmap lock or that of the VMA held for reading,
//! takes those of the page tables, and may allocate these.

use kernel::prelude::*;

mod buffer;
#[cfg(CONFIG_OF)]
mod carveout;
mod device;
mod export;
mod extent;
mod gather;
mod info;
mod kernel_ext;
mod layout;
mod options;
mod reason;
#[cfg_attr(
    not(CONFIG_OF),
    allow(dead_code, reason = "regions come from device trees")
)]
mod region;
mod sync;
mod uapi;

use kernel::str::CString;
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
    params: {
        unsafe_export_any_pfn_root_only_taints: i32 {
            default: 0,
            description: "Nonzero: let CAP_SYS_RAWIO export memory that another driver may free at any time (RAM mapped by page frame number). Taints the kernel when used",
        },
    },
}

/// What stands for the driver of carve-outs where the kernel has no device trees.
#[cfg(not(CONFIG_OF))]
mod carveout {
    use super::region::Regions;
    use kernel::{
        prelude::*,
        sync::Arc, //
    };

    pub(crate) struct Registration;

    impl Registration {
        pub(crate) fn new(_regions: Arc<Regions>) -> Result<Self> {
            Ok(Self)
        }
    }
}

/// The module. Fields are dropped in order: first nobody can open the device any more.
#[pin_data]
struct Vmmexp {
    #[pin]
    _device: misc::Registration<device::File>,
    _carveouts: carveout::Registration,
    _cache: cache::Registration,
}

impl kernel::InPlaceModule for Vmmexp {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let cache = cache::Registration::new(c"vmmexp")?;
            let regions = region::Regions::new()?;
            let name = CString::try_from(c"vmmexp")?;
            let any_pfn =
                compat::parameter(&module_parameters::unsafe_export_any_pfn_root_only_taints) != 0;
            let device = device::Device::new(cache.maintainer(), regions.clone(), any_pfn);
            Ok(try_pin_init!(Self {
                _carveouts: carveout::Registration::new(regions)?,
                _device <- misc::Registration::new(name, device),
                _cache: cache,
            }? Error))
        })
    }
}
