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
//!     export sync info revoke   one file for each thing a caller can ask for
//!       gather           which memory may be exported, and how it is had
//!       buffer           what is known of an exported buffer
//!       account          what its user is charged for it
//!       watch            whether its exporter still has the memory
//!       registry         the buffers there are: debugfs and fdinfo
//!       carveout region  memory that Linux leaves alone: the driver, the regions, their devices
//!         uapi           the ABI, as the C header has it
//!           extent layout options reason state     pure: no kernel, tested on the host
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
//! 3. `revocation` of a dma-buf: held by a REVOKE from beginning to end, with none of the above.
//! 4. `faults` of a dma-buf (`kernel_ext/dma_buf/shared.rs`): held by a fault in a mapping of it,
//!    with the mmap lock or that of the VMA held, and under it what page tables take; held by a
//!    revocation to set a flag.
//! 5. `dma_resv` of a dma-buf: held by the core around map, unmap, vmap and vunmap; taken by
//!    a revocation. Allocations under it may reclaim memory, hence:
//! 6. what the allocator takes.
//! 7. With `CONFIG_DMA_API_DEBUG` only, `turn` of cache maintenance (`kernel_ext/cache.rs`), for
//!    one piece of a buffer.
//! 8. The state of a buffer (`watch.rs`): a spinlock that an MMU notifier takes, under whatever
//!    changes an address space, reclaim included. The eventfd is signalled after it was given up.
//!
//! `name_lock` of a new dma-buf, the accounts of users (`account.rs`) and the list of buffers
//! (`registry.rs`) are taken with none of these held. The allocator comes under the second, the
//! state of a buffer under the third, which is held for as long as the list is printed: release
//! waits for that.
//!
//! MMU notifiers are put in before the memory is gathered, which takes the mmap lock for writing,
//! and taken out when the buffer goes, which waits for changes that are being made: with none of
//! these held, and never from a notifier.
//!
//! Folio locks are taken when pages are unpinned, which happens with none of these held: in
//! `release` of the dma-buf, in the work that follows a revocation, or where an export fails, after
//! the mmap lock was given up.
//!
//! # Who may sleep
//!
//! Everything here runs in the context of a process, or of a work queue of the module's own, and
//! may sleep, except for the MMU notifier (`watch.rs`), which must not. The fault handler of
//! mappings (`kernel_ext/dma_buf/mmap.rs`) is called with the mmap lock or that of the VMA held for
//! reading, takes those of the page tables, and may allocate these.

use kernel::prelude::*;

mod account;
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
mod registry;
mod revoke;
mod state;
mod sync;
mod uapi;
mod watch;

use kernel::str::CString;
use kernel_ext::{
    cache,
    compat::param,
    debugfs,
    misc,
    workqueue, //
};

module! {
    type: Vmmexp,
    name: "vmmexp",
    authors: ["The vmmexp authors"],
    description: "Export memory of a process as a dma-buf",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
    params: {
        max_buffer_bytes: u64 {
            default: 0,
            description: "Largest buffer in bytes (default 0: as much memory as there is)",
        },
        max_ranges: u32 {
            default: 1024,
            description: "Most ranges in one call (default 1024, at most 65536)",
        },
        max_user_bytes: u64 {
            default: 0,
            description: "Most bytes that one user may have exported, but for who may lock as much as they like (default 0: what RLIMIT_MEMLOCK allows)",
        },
        unsafe_export_any_pfn_root_only_taints: i32 {
            default: 0,
            description: "Nonzero: let CAP_SYS_RAWIO export memory that another driver may free at any time (RAM mapped by page frame number). Taints the kernel when used (default 0)",
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
    _debugfs: debugfs::File<registry::Registry>,
    _carveouts: carveout::Registration,
    _queue: workqueue::Registration,
    _cache: cache::Registration,
}

impl kernel::InPlaceModule for Vmmexp {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let cache = cache::Registration::new(c"vmmexp")?;
            let regions = region::Regions::new()?;
            let name = CString::try_from(c"vmmexp")?;
            let queue = workqueue::Registration::new(c"vmmexp")?;
            let registry = registry::Registry::new()?;
            let limits = device::Limits {
                buffer_bytes: param(&module_parameters::max_buffer_bytes),
                ranges: param(&module_parameters::max_ranges),
                user_bytes: param(&module_parameters::max_user_bytes),
                any_pfn: param(&module_parameters::unsafe_export_any_pfn_root_only_taints) != 0,
            };
            let device = device::Device::new(
                cache.maintainer(),
                regions.clone(),
                queue.get(),
                registry.clone(),
                limits,
            )?;
            Ok(try_pin_init!(Self {
                _carveouts: carveout::Registration::new(regions)?,
                _debugfs: debugfs::File::new(c"vmmexp", c"buffers", registry),
                _device <- misc::Registration::new(name, device),
                _queue: queue,
                _cache: cache,
            }? Error))
        })
    }
}
