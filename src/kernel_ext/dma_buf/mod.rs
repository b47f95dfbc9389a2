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
//! - **Lifetime**: memory is dropped in `release` at the latest, which may take folio locks. Every
//!   VMA holds the dma-buf through its file, and importers must hold it for as long as they are
//!   attached, and their device bound (`dma_buf_attach()`, `dma_buf_detach()`), so nothing reaches
//!   the memory then.
//! - **Access**: a read-only dma-buf has a read-only file, can be mapped by devices for
//!   `DMA_TO_DEVICE` only, by processes for reading only, and not by the kernel, whose mappings
//!   do not say what they are for.
//! - **Revocation** ([`DmaBuf::revoke`]) ends the sharing while the dma-buf lives: what processes
//!   have mapped is taken away, and nothing new is mapped. The memory is dropped, by a work queue,
//!   when the last device and the kernel have given up what they had mapped by then. A user of the
//!   memory is counted ([`Use`]) for as long as that, so none can find it gone.
//! - **Memory without `struct page`s** goes to importers that promise to cope (`peer2peer`), and
//!   to others only if all of the dma-buf is one run: they may look at the first page of an entry,
//!   find none, and go by its DMA address, but must not compute the pages of several.

mod mmap;
mod observe;
mod ops;
mod shared;

use super::{
    cache::{
        Maintainer,
        Side, //
    },
    compat,
    extent::Extent,
    helpers,
    reserved::Reserved,
    workqueue::OwnedQueue, //
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
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};
use shared::{
    Shared,
    Use, //
};

pub(crate) use observe::{
    Act,
    Done, //
};
pub(crate) use ops::Ops;
pub(crate) use shared::Users;

/// Memory that can be exported.
///
/// # Safety
///
/// For as long as the value lives, [`extents`](Memory::extents) must return the same list, which
/// must describe a buffer (see [`Extent`]). Its pages must stay allocated, and be fit to be written
/// to by devices and processes if [`writable`](Memory::writable) says so. Those with
/// [`Source::Pages`] must have `struct page`s, within one extent contiguous ones; those with
/// [`Source::Reserved`] must lie in the region that [`reserved`](Memory::reserved) returns for the
/// index, the same one each time; those with [`Source::Foreign`] must be such that processes may
/// map them as that tells, and need no maintenance of caches.
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

    /// Called when the memory of a revoked dma-buf has been dropped, from the work queue. May
    /// sleep. Where it was never revoked this is never called: both are dropped in `release`, the
    /// memory first.
    fn released(&self);
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
    /// Where memory is dropped after a revocation. The module must keep it until after the last
    /// dma-buf is gone.
    pub(crate) queue: Arc<OwnedQueue>,
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
        let shared = Shared::new(
            exporter,
            memory,
            options.access,
            options.maintainer.clone(),
            options.queue.clone(),
        )?;
        let info = bindings::dma_buf_export_info {
            exp_name: T::NAME.as_char_ptr(),
            owner: compat::this_module_ptr(),
            ops: T::ops().table(options.vmap && !read_only && shared.mappable),
            size: usize::try_from(shared.size)?,
            // CAST: The access modes are below 4.
            flags: if read_only {
                file::flags::O_RDONLY
            } else {
                file::flags::O_RDWR
            } as c_int,
            resv: core::ptr::null_mut(),
            // Taken back below if the export fails, else in `release`.
            priv_: Arc::into_raw(shared).cast_mut().cast(),
        };
        // SAFETY: The information is complete: the operations are those for a `Shared<T>`, which
        // `priv` points to.
        let ptr = match from_err_ptr(unsafe { bindings::dma_buf_export(&info) }) {
            Ok(ptr) => ptr,
            Err(err) => {
                // SAFETY: The pointer is from `Arc::into_raw` above, and a failed export keeps
                // no copy of it.
                drop(unsafe { Arc::from_raw(info.priv_.cast::<Shared<T>>()) });
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

    fn shared(&self) -> ArcBorrow<'_, Shared<T>> {
        // SAFETY: By the invariants the dma-buf lives, so `priv` is from `Arc::into_raw` in
        // `export` and not released.
        unsafe { ArcBorrow::from_raw((*self.ptr.as_ptr()).priv_.cast::<Shared<T>>()) }
    }

    /// The memory, which is not released for as long as the result lives; `None` once it is.
    pub(crate) fn memory(&self) -> Option<impl Deref<Target = T::Memory> + '_> {
        Some(MemoryRef(self.shared().begin_use()?))
    }

    /// Whether it was revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.shared().is_revoked()
    }

    /// Ends the sharing, and returns whether it was this call that did. May sleep; takes the
    /// reservation lock, and those of the mappings of processes.
    ///
    /// In this order: no page is put into page tables any more, and what there is is taken out;
    /// the kernel cannot map it any more; importers that can be told to are told to give up their
    /// mappings ([`dma_buf_invalidate_mappings()`]); the memory is released when the last mapping,
    /// for a device or in the kernel, is gone, which this does not wait for.
    ///
    /// [`dma_buf_invalidate_mappings()`]: srctree/include/linux/dma-buf.h
    pub(crate) fn revoke(&self) -> bool {
        let ptr = self.ptr.as_ptr();
        let shared = self.shared();
        let _revocation = shared.begin_revocation();
        if !shared.set_revoked() {
            return false;
        }
        // SAFETY: The dma-buf has a file with a mapping of its own. The last argument: copies are
        // not spared, though there are none.
        unsafe { bindings::unmap_mapping_range((*(*ptr).file).f_mapping, 0, 0, 1) };
        // SAFETY: The dma-buf and its reservation object are valid; without a context
        // `dma_resv_lock()` cannot fail. The tables are both of `T`, and stay. Who looks at the
        // pointer to see whether there is `vmap` holds the lock.
        unsafe {
            bindings::dma_resv_lock((*ptr).resv, core::ptr::null_mut());
            (&raw mut (*ptr).ops).write_volatile(T::ops().table(false));
            bindings::dma_buf_invalidate_mappings(ptr);
            bindings::dma_resv_unlock((*ptr).resv);
        }
        // SAFETY: It was this call that set it, and the page tables were cleared above.
        unsafe { shared.end_first_use() };
        true
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
    /// access by `side`; nothing to do once the memory is released. May sleep.
    pub(crate) fn sync(&self, offset: u64, len: u64, direction: DataDirection, side: Side) {
        if let Some(memory) = self.shared().begin_use() {
            memory.sync(offset, len, direction, side);
        }
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

    /// Who uses it. May be kept for longer than the dma-buf.
    pub(crate) fn users(&self) -> &Arc<Users> {
        // SAFETY: As in `shared()`; the users are part of it.
        unsafe { &(*(*self.ptr.as_ptr()).priv_.cast::<Shared<T>>()).users }
    }
}

impl<T: Exporter> Deref for DmaBuf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: As in `shared()`; the exporter is part of it.
        unsafe { &(*(*self.ptr.as_ptr()).priv_.cast::<Shared<T>>()).exporter }
    }
}

/// The memory of a dma-buf, in use.
struct MemoryRef<'a, T: Exporter>(Use<'a, T>);

impl<T: Exporter> Deref for MemoryRef<'_, T> {
    type Target = T::Memory;

    fn deref(&self) -> &T::Memory {
        self.0.memory()
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
