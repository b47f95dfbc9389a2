// SPDX-License-Identifier: GPL-2.0-only

//! An exported buffer: what is known of it besides its memory.

use super::{
    account::Charge,
    device::Owner,
    extent::{
        self,
        Extent, //
    },
    kernel_ext::{
        self,
        dma_buf::{
            Act,
            DmaBuf,
            Done,
            Exporter,
            FdError,
            Ops,
            Users, //
        },
        memory::HeldMemory,
        task::Identity,
        trace::{
            self,
            Timed,
            Timer, //
        },
        PAGE_SHIFT,
    },
    layout::Layout,
    options::NAME_LEN,
    reason::{
        Failure,
        Reason, //
    },
    registry::{
        Record,
        Registry, //
    },
    uapi::VMMEXP_EXPORT_READ_ONLY,
    watch::Watch,
};
use core::mem::size_of;
use kernel::{
    device::Device,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
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
    /// Who may revoke it.
    pub(crate) owner: Arc<Owner>,
    /// Whether the exporting process keeps the memory.
    pub(crate) watch: Watch,
    charge: Arc<Charge>,
    registry: Arc<Registry>,
    vmap_share: Option<VmapShare>,
}

impl Buffer {
    /// A buffer of `extents`, of which `facts` is known, exported with `export_flags` by `owner`,
    /// with `charge` made for it.
    pub(crate) fn new(
        extents: &[Extent],
        facts: Facts,
        export_flags: u32,
        owner: Arc<Owner>,
        watch: Watch,
        charge: Arc<Charge>,
        registry: Arc<Registry>,
    ) -> Self {
        let writable = export_flags & VMMEXP_EXPORT_READ_ONLY == 0;
        Self {
            facts,
            export_flags,
            owner,
            watch,
            charge,
            registry,
            // The kernel does not map what is read-only.
            vmap_share: writable.then(|| VmapShare::take(extents)).flatten(),
        }
    }

    /// User space is about to learn of it, as a dma-buf with that `id`, `name` and `users`.
    pub(crate) fn publish(&self, id: u64, name: &[u8; NAME_LEN], users: &Arc<Users>) -> Result {
        self.registry.add(
            id,
            Record {
                facts: self.facts,
                export_flags: self.export_flags,
                name: *name,
                who: Identity::of_current(),
                owner: self.owner.clone(),
                life: self.watch.life().clone(),
                users: users.clone(),
                charge: self.charge.clone(),
            },
        )?;
        self.watch.life().set_id(id);
        Ok(())
    }

    /// Whether the kernel may map it.
    pub(crate) fn may_be_vmapped(&self) -> bool {
        self.vmap_share.is_some()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(id) = self.watch.life().id() {
            self.registry.remove(&self.owner, id);
            trace::release(id, self.facts.size, self.facts.nr_segs);
        }
    }
}

/// A share of what the kernel may map of all buffers together.
///
/// A mapping that fails for want of address space is a warning in the dma-buf core, so it must not
/// come to that: what could be mapped is counted when a buffer is exported, and the buffers that
/// are too much then cannot be mapped at all.
struct VmapShare(usize);

static VMAP_PAGES: Atomic<isize> = Atomic::new(0);

impl VmapShare {
    fn take(extents: &[Extent]) -> Option<Self> {
        // A region has its mapping already, and what else is no ordinary memory gets none: that is
        // for the dma-buf to know.
        if !extent::all_pages(extents) {
            return Some(Self(0));
        }
        let budget = if cfg!(CONFIG_64BIT) {
            kernel_ext::total_ram_pages()
        } else {
            // Of the 240 MiB that arm has for everybody by default.
            (96 << 20) >> PAGE_SHIFT
        };
        // `vmap()` wants an array of the pages, which is not to be larger than this.
        let longest = i32::MAX as usize / size_of::<usize>() - 1;
        let pages = extent::page_count(extents);
        // CAST: Both are numbers of pages of the address space.
        let before = VMAP_PAGES.fetch_add(pages as isize, Relaxed) as usize;
        // From here on, dropping it gives the pages back.
        let share = Self(pages);
        (before + pages <= budget && pages <= longest).then_some(share)
    }
}

impl Drop for VmapShare {
    fn drop(&mut self) {
        // CAST: As above.
        VMAP_PAGES.add(-(self.0 as isize), Relaxed);
    }
}

static OPS: Ops<Buffer> = Ops::new();

impl Exporter for Buffer {
    type Memory = HeldMemory;
    type Watch = Timer;

    const NAME: &'static CStr = c"vmmexp";

    fn ops() -> &'static Ops<Self> {
        &OPS
    }

    fn released(&self) {
        self.charge.give_back();
        self.watch.life().released();
    }

    fn unreachable(&self, dev: &Device) {
        if is_news(dev) {
            dev_info!(
                dev,
                "vmmexp: not mapped: the device does not reach all of the memory without bouncing\n"
            );
        }
    }

    fn begins(&self, act: Act) -> Option<Timer> {
        Timer::start(match act {
            Act::Map => Timed::Map,
            Act::Unmap => Timed::Unmap,
            Act::BeginCpuAccess | Act::EndCpuAccess => Timed::Sync,
        })
    }

    fn ended(&self, timer: Timer, done: &Done<'_>) {
        match (done.act, done.dev) {
            (Act::Map | Act::Unmap, Some(dev)) => {
                let event = trace::Mapping {
                    id: done.id,
                    dev,
                    direction: done.direction,
                    bytes: done.bytes,
                    segs: done.segs,
                    error: done.error,
                };
                if done.act == Act::Map {
                    timer.map(&event);
                } else {
                    timer.unmap(&event);
                }
            }
            _ => timer.sync(&trace::Sync {
                id: done.id,
                direction: done.direction,
                end: done.act == Act::EndCpuAccess,
                bytes: done.bytes,
                error: done.error,
            }),
        }
    }
}

/// Whether nothing has been logged about `dev`. Devices are remembered by name, for ever: so many
/// lines there are, and then no more, whatever users do. The trace has every refusal.
fn is_news(dev: &Device) -> bool {
    const REMEMBERED: usize = 1024;
    static TOLD: [Atomic<u32>; REMEMBERED] = [const { Atomic::new(0) }; REMEMBERED];

    // Zero is for a slot without a device.
    let id = kernel_ext::device_name_hash(dev) | 1;
    for slot in &TOLD {
        match slot.cmpxchg(0, id, Relaxed) {
            Ok(_) => return true,
            Err(told) if told == id => return false,
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
