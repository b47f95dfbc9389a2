// SPDX-License-Identifier: GPL-2.0-only

//! Exporting memory as a dma-buf.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h).
//!
//! # Who does what
//!
//! An exporter hands over the [`Memory`] and says what may be done with it. The abstraction keeps
//! both until the last reference to the dma-buf is gone, and implements `struct dma_buf_ops` from
//! the extents of the memory. The exporter is asked about policy only, and never sees an
//! `sg_table`, a scatterlist, a VMA or a reservation lock: the questions that a wrapper around the
//! C structures would leave to each driver are answered once, here.
//!
//! - **`sg_table`s**: each `map_dma_buf` makes a new one, owned by the mapping and freed by
//!   `unmap_dma_buf` (see [`super::dma`]). None is cached or shared.
//! - **Locking**, as `drivers/dma-buf/dma-buf.c` demands:
//!
//!   | callback                                    | reservation lock | may sleep |
//!   |---------------------------------------------|------------------|-----------|
//!   | `map_dma_buf`, `unmap_dma_buf`              | held             | yes       |
//!   | `vmap`, `vunmap`                            | held             | yes       |
//!   | `begin_cpu_access`, `end_cpu_access`        | not held         | yes       |
//!   | `mmap` (with the mmap lock held for writing)| not held         | yes       |
//!   | `release`                                   | not held         | yes       |
//!
//!   The exporter is called from `map_dma_buf` and thus with the lock held; it must not take it,
//!   nor any lock that is taken around it elsewhere.
//! - **Lifetime**: memory is dropped in `release`, which may take folio locks. Every VMA holds the
//!   dma-buf through its file, and importers must hold it for as long as they are attached, and
//!   their device bound (`dma_buf_attach()`, `dma_buf_detach()`), so nothing reaches the memory
//!   then.
//! - **Access**: a read-only dma-buf has a read-only file, can be mapped by devices for
//!   `DMA_TO_DEVICE` only, by processes for reading only, and not by the kernel, whose mappings
//!   do not say what they are for.
//! - **Memory without `struct page`s** goes to importers that promise to cope (`peer2peer`), and
//!   to others only if all of the dma-buf is one run: they may look at the first page of an entry,
//!   find none, and go by its DMA address, but must not compute the pages of several.

mod mmap;
mod observe;
mod ops;

use super::{
    cache::{
        barrier,
        Maintainer,
        Side, //
    },
    compat,
    extent::{
        self,
        Extent,
        Source, //
    },
    helpers,
    reserved::Reserved,
    PAGE_SHIFT, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::Device,
    dma::DataDirection,
    error::from_err_ptr,
    fs::file::{
        self,
        FileDescriptorReservation, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

pub(crate) use observe::{
    Act,
    Done, //
};
pub(crate) use ops::Ops;

/// Memory that can be exported.
///
/// # Safety
///
/// For as long as the value lives, [`extents`](Memory::extents) must return the same list, which
/// must describe a buffer (see [`Extent`]). Its pages must stay allocated, and be fit to be written
/// to by devices and processes if [`writable`](Memory::writable) says so. Those with
/// [`Source::Pages`] must have `struct page`s, within one extent contiguous ones; those with
/// [`Source::Reserved`] must lie in the region that [`reserved`](Memory::reserved) returns for the
/// index, the same one each time; those with [`Source::Foreign`] must be such that processes may map
/// them as that tells, and need no maintenance of caches.
pub(crate) unsafe trait Memory: Send + Sync + 'static {
    /// The physically contiguous runs of pages which make up the memory, in order.
    fn extents(&self) -> &[Extent];

    /// The reserved region with an index.
    fn reserved(&self, index: u16) -> Option<&Reserved>;

    /// Whether the memory may be written to.
    fn writable(&self) -> bool;
}

/// An exporter: the driver's data of a dma-buf.
pub(crate) trait Exporter: Sized + Send + Sync + 'static {
    /// What holds the memory.
    type Memory: Memory;
    /// What the exporter keeps from the beginning to the end of an act that it is told of.
    type Watch;

    /// The name of the exporter, shown in fdinfo and debugfs.
    const NAME: &'static CStr;

    /// The operations: a `static` of the exporter's, by whose address its dma-bufs are recognised.
    fn ops() -> &'static Ops<Self>;

    /// Called when `dev` was refused a mapping because it does not reach all of the memory. The
    /// reservation lock is held.
    fn unreachable(&self, dev: &Device);

    /// Called before `act`. If it returns something, [`Self::ended`] will be called afterwards. For
    /// mappings, the reservation lock is held.
    fn begins(&self, act: Act) -> Option<Self::Watch>;

    /// Called after an act, as [`Self::begins`] wanted it.
    fn ended(&self, watch: Self::Watch, done: &Done<'_>);
}

/// What may be done with a dma-buf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only reading.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    /// Whether a transfer in `direction` by a device is covered.
    fn allows_dma(self, direction: DataDirection) -> bool {
        self == Self::ReadWrite || matches!(direction, DataDirection::ToDevice)
    }

    /// Whether access by the CPU in `direction`, as in `dma_buf_begin_cpu_access()`, is covered.
    fn allows_cpu(self, direction: DataDirection) -> bool {
        self == Self::ReadWrite || matches!(direction, DataDirection::FromDevice)
    }
}

/// How to export.
pub(crate) struct Options<'a> {
    /// What may be done with the dma-buf.
    pub(crate) access: Access,
    /// Whether the kernel may map it; never if read-only.
    pub(crate) vmap: bool,
    /// The name that `DMA_BUF_SET_NAME` would give, with its NUL.
    pub(crate) name: Option<&'a [u8]>,
    /// What maintains the caches around CPU access.
    pub(crate) maintainer: Maintainer,
}

/// What the dma-buf core calls `priv`.
///
/// Lives from the export until `release`.
struct Shared<T: Exporter> {
    exporter: T,
    memory: T::Memory,
    access: Access,
    maintainer: Maintainer,
    /// Device mappings, and those of them whose device snoops no cache: these are counted from
    /// before they are made until after they are gone.
    mappings: Atomic<i32>,
    noncoherent: Atomic<i32>,
    /// VMAs.
    vmas: Atomic<i32>,
}

impl<T: Exporter> Shared<T> {
    /// Maintains caches over a part of the memory. May sleep.
    fn sync(&self, offset: u64, len: u64, direction: DataDirection, side: Side) {
        // What this CPU has done comes before, what it does next after, whoever looks; and the
        // counters below are read after a device that could see the stores was counted.
        barrier();
        // Where every device that has a mapping snoops the caches there is nothing to do. Without
        // any mapping the other side may be one that no driver stands for: do the work.
        if self.mappings.load(Relaxed) > 0 && self.noncoherent.load(Relaxed) == 0 {
            return;
        }
        // SAFETY: The memory describes a buffer, and stays as long as `self`.
        unsafe {
            self.maintainer.maintain(
                self.memory.extents(),
                |index| self.memory.reserved(index),
                offset,
                len,
                direction,
                side,
            )
        };
    }

    /// Maintains caches over what of the memory is reserved: the DMA API has no part in that.
    fn sync_reserved(&self, direction: DataDirection, side: Side) {
        for extent in self.memory.extents() {
            if let Source::Reserved(index) = extent.source {
                if let Some(region) = self.memory.reserved(index) {
                    region.maintain(
                        extent.phys(PAGE_SHIFT),
                        extent.bytes(PAGE_SHIFT),
                        direction,
                        side,
                    );
                }
            }
        }
    }

    /// The region and the extent, if the memory is one run of reserved memory.
    fn only_reserved(&self) -> Option<(&Reserved, &Extent)> {
        match self.memory.extents() {
            [extent] => match extent.source {
                Source::Reserved(index) => Some((self.memory.reserved(index)?, extent)),
                Source::Pages | Source::Foreign { .. } => None,
            },
            _ => None,
        }
    }

    /// Makes the caches ready for a device that snoops none to be given a mapping of the memory.
    fn prepare_noncoherent(&self, direction: DataDirection) {
        if matches!(direction, DataDirection::FromDevice) {
            // The DMA API may throw lines away here, see `cache.rs`.
            // SAFETY: The memory describes a buffer, and stays as long as `self`.
            unsafe {
                self.maintainer.maintain(
                    self.memory.extents(),
                    |index| self.memory.reserved(index),
                    0,
                    self.size(),
                    direction,
                    Side::Device,
                )
            };
        } else {
            self.sync_reserved(direction, Side::Device);
        }
    }

    /// The same for all of the memory.
    fn sync_all(&self, direction: DataDirection, side: Side) {
        self.sync(0, self.size(), direction, side);
    }

    /// Whether the kernel can map it: all of it has `struct page`s, or is one run in a region.
    fn can_vmap(&self) -> bool {
        extent::all_pages(self.memory.extents()) || self.only_reserved().is_some()
    }

    fn size(&self) -> u64 {
        (extent::page_count(self.memory.extents()) as u64) << PAGE_SHIFT
    }
}

/// Who uses a dma-buf, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Devices attached.
    pub(crate) attachments: u32,
    /// Mappings for devices.
    pub(crate) device_mappings: u32,
    /// VMAs of processes.
    pub(crate) cpu_mappings: u32,
    /// Whether the kernel has it mapped.
    pub(crate) kernel_mapping: bool,
}

/// Why a file descriptor is not a dma-buf of this exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FdError {
    /// It is not open.
    NotOpen,
    /// It is something else.
    Other,
}

/// A reference to a dma-buf of exporter `T`.
///
/// # Invariants
///
/// `ptr` points to a `struct dma_buf` with the operations of `T`, and this owns a reference to
/// its file.
pub(crate) struct DmaBuf<T: Exporter> {
    ptr: NonNull<bindings::dma_buf>,
    _exporter: PhantomData<T>,
}

impl<T: Exporter> DmaBuf<T> {
    /// Exports `memory`. May sleep; must be called without a reservation lock.
    ///
    /// On failure `exporter` and `memory` are dropped.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no memory, or memory that may not be written to with [`Access::ReadWrite`].
    /// - `ENOMEM`, `ENFILE` and others as `dma_buf_export()` returns them.
    pub(crate) fn export(exporter: T, memory: T::Memory, options: &Options<'_>) -> Result<Self> {
        let read_only = options.access == Access::ReadOnly;
        if memory.extents().is_empty() || (!read_only && !memory.writable()) {
            return Err(EINVAL);
        }
        let shared = KBox::new(
            Shared {
                exporter,
                memory,
                access: options.access,
                maintainer: options.maintainer.clone(),
                mappings: Atomic::new(0),
                noncoherent: Atomic::new(0),
                vmas: Atomic::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let info = bindings::dma_buf_export_info {
            exp_name: T::NAME.as_char_ptr(),
            owner: compat::this_module_ptr(),
            ops: T::ops().table(options.vmap && !read_only && shared.can_vmap()),
            size: usize::try_from(shared.size())?,
            // CAST: The access modes are below 4.
            flags: if read_only {
                file::flags::O_RDONLY
            } else {
                file::flags::O_RDWR
            } as c_int,
            resv: core::ptr::null_mut(),
            // Taken back below if the export fails, else in `release`.
            priv_: KBox::into_raw(shared).cast(),
        };
        // SAFETY: The information is complete: the operations are those for a `Shared<T>`, which
        // `priv` points to.
        let ptr = match from_err_ptr(unsafe { bindings::dma_buf_export(&info) }) {
            Ok(ptr) => ptr,
            Err(err) => {
                // SAFETY: The pointer is from `KBox::into_raw` above, and a failed export keeps
                // no copy of it.
                drop(unsafe { KBox::from_raw(info.priv_.cast::<Shared<T>>()) });
                return Err(err);
            }
        };
        // INVARIANT: The new dma-buf has the operations of `T`, and its reference is ours.
        let this = Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
            _exporter: PhantomData,
        };
        if let Some(name) = options.name {
            this.set_name(name)?;
        }
        Ok(this)
    }

    /// Gives a new dma-buf its name, which ends with the first NUL, or the slice.
    fn set_name(&self, name: &[u8]) -> Result {
        // SAFETY: `name` may be read for its length.
        let copy =
            unsafe { bindings::kstrndup(name.as_ptr().cast(), name.len(), bindings::GFP_KERNEL) };
        if copy.is_null() {
            return Err(ENOMEM);
        }
        let ptr = self.ptr.as_ptr();
        // SAFETY: The dma-buf is valid. Only debugfs can know of it as yet, and takes the lock. The
        // name was null and is from now on owned, and in the end freed, by the dma-buf.
        unsafe {
            bindings::spin_lock(&raw mut (*ptr).name_lock);
            (*ptr).name = copy;
            bindings::spin_unlock(&raw mut (*ptr).name_lock);
        }
        Ok(())
    }

    /// Takes a reference to the dma-buf that file descriptor `fd` of the current task stands for.
    pub(crate) fn from_fd(fd: i32) -> Result<Self, FdError> {
        // SAFETY: No precondition.
        let ptr = match from_err_ptr(unsafe { bindings::dma_buf_get(fd) }) {
            Ok(ptr) => NonNull::new(ptr).ok_or(FdError::NotOpen)?,
            Err(err) if err == EBADF => return Err(FdError::NotOpen),
            Err(_) => return Err(FdError::Other),
        };
        // SAFETY: `dma_buf_get()` returned a valid dma-buf with a reference for us.
        if T::ops().is_of(unsafe { (*ptr.as_ptr()).ops }) {
            // INVARIANT: It has the operations of `T`.
            Ok(Self {
                ptr,
                _exporter: PhantomData,
            })
        } else {
            // SAFETY: The reference is ours to give back.
            unsafe { bindings::dma_buf_put(ptr.as_ptr()) };
            Err(FdError::Other)
        }
    }

    /// Makes the dma-buf known to user space as the reserved file descriptor. Cannot fail or be
    /// undone, so it comes last.
    pub(crate) fn install(self, fd: FileDescriptorReservation) {
        let this = ManuallyDrop::new(self);
        let fd = ManuallyDrop::new(fd);
        // SAFETY: The dma-buf is valid and our reference to it goes to the descriptor, which is
        // reserved for the current task.
        // CAST: File descriptors are positive `int`s.
        unsafe { bindings::dma_buf_fd_install(this.ptr.as_ptr(), fd.reserved_fd() as c_int) };
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: By the invariants the dma-buf lives, so `priv` is the `Shared<T>` put there by
        // `export` and not released.
        unsafe { &*(*self.ptr.as_ptr()).priv_.cast::<Shared<T>>() }
    }

    /// The inode number of its file: what tells it from all others, in `fstat()` and wherever else
    /// dma-bufs are listed. Never 0.
    pub(crate) fn id(&self) -> u64 {
        // SAFETY: By the invariants the dma-buf is valid.
        unsafe { helpers::vmmexp_helper_dma_buf_id(self.ptr.as_ptr()) }
    }

    /// What may be done with it.
    pub(crate) fn access(&self) -> Access {
        self.shared().access
    }

    /// Makes `len` bytes from `offset` on, rounded outward to [`super::cache::alignment`], fit for
    /// access by `side`. May sleep.
    pub(crate) fn sync(&self, offset: u64, len: u64, direction: DataDirection, side: Side) {
        self.shared().sync(offset, len, direction, side);
    }

    /// Waits for what devices are doing with it, as far as its fences tell: for their writes, and
    /// if `for_writing` for their reads too.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS`: a signal arrived.
    pub(crate) fn wait_for_devices(&self, for_writing: bool) -> Result {
        // SAFETY: By the invariants the dma-buf is valid.
        unsafe { wait_for_devices(self.ptr.as_ptr(), for_writing) }
    }

    /// Who uses it now. Takes the reservation lock. May sleep.
    pub(crate) fn usage(&self) -> Usage {
        let ptr = self.ptr.as_ptr();
        let shared = self.shared();
        let count = |counter: &Atomic<i32>| u32::try_from(counter.load(Relaxed)).unwrap_or(0);

        // SAFETY: The dma-buf and its reservation object are valid; without a context
        // `dma_resv_lock()` cannot fail.
        unsafe { bindings::dma_resv_lock((*ptr).resv, core::ptr::null_mut()) };
        let mut attachments = 0;
        // SAFETY: The list of attachments, and the count of kernel mappings, are stable while the
        // lock is held. The list is circular and leads back to its head.
        let kernel_mapping = unsafe {
            let head = &raw mut (*ptr).attachments;
            let mut node = (*head).next;
            while node != head {
                attachments += 1;
                node = (*node).next;
            }
            (*ptr).vmapping_counter != 0
        };
        let device_mappings = count(&shared.mappings);
        // SAFETY: The lock was taken above.
        unsafe { bindings::dma_resv_unlock((*ptr).resv) };

        Usage {
            attachments,
            device_mappings,
            cpu_mappings: count(&shared.vmas),
            kernel_mapping,
        }
    }
}

impl<T: Exporter> Deref for DmaBuf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared().exporter
    }
}

impl<T: Exporter> Drop for DmaBuf<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants this reference is ours.
        unsafe { bindings::dma_buf_put(self.ptr.as_ptr()) };
    }
}

/// Waits for what devices are doing with `dmabuf`: see [`DmaBuf::wait_for_devices`].
///
/// # Safety
///
/// `dmabuf` must be valid.
unsafe fn wait_for_devices(dmabuf: *mut bindings::dma_buf, for_writing: bool) -> Result {
    // As `dma_resv_usage_rw()`.
    let usage = if for_writing {
        bindings::dma_resv_usage_DMA_RESV_USAGE_READ
    } else {
        bindings::dma_resv_usage_DMA_RESV_USAGE_WRITE
    };
    // `MAX_SCHEDULE_TIMEOUT`.
    let timeout = c_ulong::MAX >> 1;
    // SAFETY: A valid dma-buf has a valid reservation object.
    let ret = unsafe { bindings::dma_resv_wait_timeout((*dmabuf).resv, usage, true, timeout) };
    if ret < 0 {
        return Err(Error::from_errno(ret as c_int));
    }
    Ok(())
}
