// SPDX-License-Identifier: GPL-2.0-only

//! The importer's side of dma-buf.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)
//!
//! All functions here are to be called without the buffer's `dma_resv` lock; where the dma-buf
//! core wants it held, they take it.

use crate::{
    device::Device,
    helpers, //
};
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    dma::DataDirection,
    error::{
        from_err_ptr,
        to_result, //
    },
    mm::virt::VmaNew,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// A reference to a dma-buf.
///
/// # Invariants
///
/// The pointer is valid, and one reference to what it points to is ours.
pub(crate) struct DmaBuf(NonNull<bindings::dma_buf>);

// SAFETY: A dma-buf may be used and put on any thread.
unsafe impl Send for DmaBuf {}
// SAFETY: The functions of the dma-buf core that `&self` gives access to do their own locking.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    /// The dma-buf behind a file descriptor of this process.
    pub(crate) fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: Any number may be asked for.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // INVARIANT: `dma_buf_get` took a reference for us.
        Ok(Self(NonNull::new(raw).ok_or(EINVAL)?))
    }

    fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.as_ptr()
    }

    /// Take its `dma_resv` lock.
    fn lock(&self) -> Locked<'_> {
        // SAFETY: We have a reference. No function of this file takes the lock while it has a
        // `Locked`, nor calls what takes it.
        unsafe { helpers::resv_lock(self.as_raw()) };
        // INVARIANT: Just taken.
        Locked(self)
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: Valid by the invariant; the size never changes.
        unsafe { (*self.as_raw()).size }
    }

    /// Before the CPU accesses it.
    pub(crate) fn begin_cpu_access(&self, direction: DataDirection) -> Result {
        // SAFETY: Valid by the invariant, and its `dma_resv` is not held.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(self.as_raw(), direction.into()) })
    }

    /// After the CPU accessed it.
    pub(crate) fn end_cpu_access(&self, direction: DataDirection) -> Result {
        // SAFETY: Valid by the invariant, and its `dma_resv` is not held.
        to_result(unsafe { bindings::dma_buf_end_cpu_access(self.as_raw(), direction.into()) })
    }

    /// Hand a mapping that is being made over to the exporter.
    pub(crate) fn mmap(&self, vma: &VmaNew) -> Result {
        let vma = vma.as_ptr();
        // SAFETY: `VmaNew` is a VMA that is being set up by `mmap()` for our file, which nobody
        // else accesses: what `dma_buf_mmap` is made for. `vm_pgoff` is still what the user gave.
        to_result(unsafe { bindings::dma_buf_mmap(self.as_raw(), vma, (*vma).vm_pgoff) })
    }
}

impl Clone for DmaBuf {
    fn clone(&self) -> Self {
        // SAFETY: We have a reference.
        unsafe { helpers::get_dma_buf(self.as_raw()) };
        // INVARIANT: One more was taken.
        Self(self.0)
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the invariant.
        unsafe { bindings::dma_buf_put(self.as_raw()) };
    }
}

/// That a buffer's `dma_resv` lock is held.
///
/// # Invariants
///
/// It is, by us.
struct Locked<'a>(&'a DmaBuf);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: Held by the invariant.
        unsafe { helpers::resv_unlock(self.0.as_raw()) };
    }
}

/// How to attach.
#[derive(Clone, Copy)]
pub(crate) enum AttachKind {
    /// `dma_buf_attach()`.
    Plain,
    /// `dma_buf_dynamic_attach()` with operations.
    Ops {
        /// The importer copes with memory that has no struct page.
        peer2peer: bool,
        /// The importer can be told to let go of its mappings.
        invalidate: bool,
        /// And then does so at once.
        let_go: bool,
    },
}

/// By `invalidate * 2 + peer2peer`.
static ATTACH_OPS: [bindings::dma_buf_attach_ops; 4] = [
    bindings::dma_buf_attach_ops {
        allow_peer2peer: false,
        invalidate_mappings: None,
    },
    bindings::dma_buf_attach_ops {
        allow_peer2peer: true,
        invalidate_mappings: None,
    },
    bindings::dma_buf_attach_ops {
        allow_peer2peer: false,
        invalidate_mappings: Some(invalidate_mappings),
    },
    bindings::dma_buf_attach_ops {
        allow_peer2peer: true,
        invalidate_mappings: Some(invalidate_mappings),
    },
];

/// Numbers mappings: a table may be where one was before that is gone.
static NEXT_MAPPING: Atomic<u32> = Atomic::new(0);

/// A mapping that ends when the exporter asks for it.
struct Passing {
    number: u32,
    table: NonNull<bindings::sg_table>,
    direction: DataDirection,
}

/// What the exporter's request to let go finds.
struct Told {
    count: Atomic<u32>,
    /// The mapping to let go of. Accessed with the buffer's `dma_resv` held.
    passing: UnsafeCell<Option<Passing>>,
}

impl Told {
    /// Whether the mapping with this number is still there.
    ///
    /// # Safety
    ///
    /// The buffer's `dma_resv` must be held.
    unsafe fn has(&self, number: u32) -> bool {
        // SAFETY: As the caller promises.
        let passing = unsafe { &*self.passing.get() };
        passing.as_ref().is_some_and(|it| it.number == number)
    }
}

/// Count that the exporter asks to let go, and do so if there is something that can.
///
/// # Safety
///
/// `attach` must be an attachment made by [`Attachment::new`], not yet detached, with the
/// `dma_resv` of its buffer held.
unsafe extern "C" fn invalidate_mappings(attach: *mut bindings::dma_buf_attachment) {
    // SAFETY: The attachment is valid. `Attachment::new` pointed `importer_priv` to this, which
    // goes after the attachment was taken from the buffer's list, under the lock held now.
    let told = unsafe { &*(*attach).importer_priv.cast::<Told>() };
    told.count.fetch_add(1, Relaxed);
    // SAFETY: The lock is held.
    if let Some(passing) = unsafe { (*told.passing.get()).take() } {
        // SAFETY: It was mapped so, is not unmapped yet, and the lock is held.
        unsafe {
            bindings::dma_buf_unmap_attachment(
                attach,
                passing.table.as_ptr(),
                passing.direction.into(),
            )
        };
    }
}

/// A device attached to a dma-buf.
///
/// # Invariants
///
/// `raw` is an attachment of `device` to `buffer`, ours to detach.
pub(crate) struct Attachment {
    raw: NonNull<bindings::dma_buf_attachment>,
    told: KBox<Told>,
    /// Its mapping is in `told`.
    let_go: bool,
    buffer: DmaBuf,
    device: Arc<Device>,
}

// SAFETY: An attachment may be used and detached on any thread.
unsafe impl Send for Attachment {}
// SAFETY: The functions of the dma-buf core that `&self` gives access to do their own locking, and
// what is in `told` is atomic or accessed under a lock.
unsafe impl Sync for Attachment {}

impl Attachment {
    /// Attach `device` to `buffer`.
    pub(crate) fn new(buffer: DmaBuf, device: Arc<Device>, kind: AttachKind) -> Result<Arc<Self>> {
        let told = KBox::new(
            Told {
                count: Atomic::new(0),
                passing: UnsafeCell::new(None),
            },
            GFP_KERNEL,
        )?;
        let let_go = matches!(kind, AttachKind::Ops { let_go: true, .. });
        let raw = match kind {
            // SAFETY: Buffer and device are valid, and its `dma_resv` is not held.
            AttachKind::Plain => unsafe {
                bindings::dma_buf_attach(buffer.as_raw(), device.as_raw())
            },
            AttachKind::Ops {
                peer2peer,
                invalidate,
                ..
            } => {
                let ops = &ATTACH_OPS[usize::from(invalidate) * 2 + usize::from(peer2peer)];
                let told: *const Told = &*told;
                // SAFETY: As above. The operations are static; `told` stays where it is until
                // the attachment is detached.
                unsafe {
                    bindings::dma_buf_dynamic_attach(
                        buffer.as_raw(),
                        device.as_raw(),
                        ops,
                        told.cast_mut().cast(),
                    )
                }
            }
        };
        // INVARIANT: It was just made, for nobody else.
        let attachment = Self {
            raw: NonNull::new(from_err_ptr(raw)?).ok_or(EINVAL)?,
            told,
            let_go,
            buffer,
            device,
        };
        Ok(Arc::new(attachment, GFP_KERNEL)?)
    }

    /// What is attached to.
    pub(crate) fn buffer(&self) -> &DmaBuf {
        &self.buffer
    }

    /// Whether memory without struct page may be given.
    pub(crate) fn peer2peer(&self) -> bool {
        // SAFETY: Valid by the invariant; only set by attach.
        unsafe { (*self.raw.as_ptr()).peer2peer }
    }

    /// How often the exporter asked to let go.
    pub(crate) fn invalidations(&self) -> u32 {
        self.told.count.load(Relaxed)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: Ours to detach by the invariant. No mapping is left, each holds a reference to
        // `self`; the buffer's `dma_resv` is not held.
        unsafe { bindings::dma_buf_detach(self.buffer.as_raw(), self.raw.as_ptr()) };
    }
}

/// One entry of a list, as the importer finds it.
pub(crate) struct Segment {
    /// Where the device finds it.
    pub(crate) dma_address: u64,
    /// How many bytes the device finds there.
    pub(crate) dma_length: u64,
    /// Where it is by its page, if it has one.
    pub(crate) phys: Option<u64>,
    /// How many bytes of memory the entry stands for.
    pub(crate) length: u64,
}

/// An attachment mapped for its device.
///
/// # Invariants
///
/// `table` is a mapping of `attachment` in `direction`, ours to unmap; but if that lets go when told
/// to, only as long as `told.passing` holds it, which nobody but us and the exporter's request takes.
pub(crate) struct Mapping {
    number: u32,
    table: NonNull<bindings::sg_table>,
    direction: DataDirection,
    attachment: Arc<Attachment>,
    entries: (u32, u32),
    addresses: (u64, u64),
}

// SAFETY: A mapping may be used and unmapped on any thread.
unsafe impl Send for Mapping {}
// SAFETY: `&self` allows reading the table, which nobody changes while it is mapped.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Map `attachment`.
    pub(crate) fn new(attachment: Arc<Attachment>, direction: DataDirection) -> Result<Self> {
        let number = NEXT_MAPPING.fetch_add(1, Relaxed);
        let locked = attachment.buffer.lock();
        let passing = attachment.told.passing.get();
        // SAFETY: The lock is held.
        if unsafe { (*passing).is_some() } {
            return Err(EBUSY);
        }
        // SAFETY: The attachment is valid by its invariant, the buffer's `dma_resv` is held.
        let table = from_err_ptr(unsafe {
            bindings::dma_buf_map_attachment(attachment.raw.as_ptr(), direction.into())
        })?;
        let table = NonNull::new(table).ok_or(EINVAL)?;
        if attachment.let_go {
            // SAFETY: The lock is held.
            unsafe {
                *passing = Some(Passing {
                    number,
                    table,
                    direction,
                })
            };
        }
        // SAFETY: Just made, and not unmapped before the lock is given back.
        let list = unsafe { table.as_ref() };
        let entries = (list.nents, list.orig_nents);
        let addresses = (table.as_ptr().addr() as u64, list.sgl.addr() as u64);
        drop(locked);
        // INVARIANT: It was just made, for nobody else, and is in `passing` if it has to be.
        Ok(Self {
            number,
            table,
            direction,
            attachment,
            entries,
            addresses,
        })
    }

    /// Whether the exporter can end it: then what is in it may only be accessed under the lock.
    pub(crate) fn is_passing(&self) -> bool {
        self.attachment.let_go
    }

    /// What is mapped.
    pub(crate) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The number of entries with a DMA address, and of all.
    pub(crate) fn entries(&self) -> (u32, u32) {
        self.entries
    }

    /// Where the table and its list are.
    pub(crate) fn addresses(&self) -> (u64, u64) {
        self.addresses
    }

    /// The entries in their order, if nobody but us can end the mapping.
    pub(crate) fn segments(&self) -> Result<impl Iterator<Item = Segment> + '_> {
        if self.is_passing() {
            return Err(EINVAL);
        }
        // SAFETY: By the invariant it is mapped as long as we are there.
        Ok(unsafe { self.segments_unchecked() })
    }

    /// The entries in their order.
    ///
    /// # Safety
    ///
    /// It must be mapped, and stay so while the iterator is used.
    unsafe fn segments_unchecked(&self) -> impl Iterator<Item = Segment> + '_ {
        let (nents, orig_nents) = self.entries();
        // SAFETY: Valid as the caller promises.
        let mut next = unsafe { self.table.as_ref() }.sgl;
        (0..orig_nents).map(move |index| {
            let sg = next;
            // SAFETY: The list has `orig_nents` entries and `sg` is the one with this index.
            // `sg_next` of the last gives NULL, which is not used.
            unsafe {
                next = bindings::sg_next(sg);
                let phys = helpers::sg_page_phys(sg);
                Segment {
                    dma_address: if index < nents { dma_address(sg) } else { 0 },
                    dma_length: if index < nents {
                        bindings::sg_dma_len(sg).into()
                    } else {
                        0
                    },
                    phys: (phys != u64::MAX).then_some(phys),
                    length: (*sg).length.into(),
                }
            }
        })
    }

    /// Copy bytes from, or with `write` to, the DMA addresses, as the device would.
    ///
    /// All that is wanted must be there: nothing is copied otherwise.
    pub(crate) fn copy(&self, offset: u64, bytes: &mut [u8], write: bool) -> Result {
        let allowed = match self.direction {
            DataDirection::Bidirectional => true,
            DataDirection::ToDevice => !write,
            DataDirection::FromDevice => write,
            DataDirection::None => false,
        };
        if !allowed {
            return Err(EACCES);
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(EINVAL)?;
        // What can be ended by the exporter is not while this is held.
        let _locked = self.is_passing().then(|| self.attachment.buffer.lock());
        // SAFETY: The lock is held if it is a mapping that is looked up here.
        if self.is_passing() && unsafe { !self.attachment.told.has(self.number) } {
            return Err(ENODEV);
        }
        // SAFETY: It is mapped: either nobody but us can end that, or it was just seen to be so
        // with the lock held.
        let segments = || unsafe { self.segments_unchecked() };
        if end > segments().map(|segment| segment.dma_length).sum() {
            return Err(EINVAL);
        }

        // Where in the buffer the segment starts, and how many bytes are done.
        let mut start = 0u64;
        let mut done = 0usize;
        for segment in segments() {
            let segment_end = start + segment.dma_length;
            loop {
                let position = offset + done as u64;
                if position >= segment_end || done == bytes.len() {
                    break;
                }
                let address = segment.dma_address + (position - start);
                // CAST: a DMA address that the exporter gave fits one.
                let phys = self
                    .attachment
                    .device
                    .dma_to_phys(address as bindings::dma_addr_t)?;
                // CAST: below the size of a page.
                let in_page = PAGE_SIZE - (phys as usize & (PAGE_SIZE - 1));
                let in_segment = usize::try_from(segment_end - position).unwrap_or(usize::MAX);
                let step = in_page.min(in_segment).min(bytes.len() - done);
                let part = &mut bytes[done..done + step];
                // SAFETY: The exporter gave these addresses to the device and keeps the memory in
                // place until it is unmapped. The direction allows the access; it stays in a
                // page and in the segment. With a page the memory is in the kernel's reach.
                to_result(unsafe {
                    helpers::phys_copy(
                        phys,
                        segment.phys.is_some(),
                        part.as_mut_ptr().cast(),
                        step,
                        write,
                    )
                })?;
                done += step;
            }
            start = segment_end;
        }
        Ok(())
    }
}

/// The DMA address of an entry.
///
/// # Safety
///
/// `sg` must be a valid entry that is mapped.
unsafe fn dma_address(sg: *mut bindings::scatterlist) -> u64 {
    // SAFETY: As the caller promises.
    let address = unsafe { bindings::sg_dma_address(sg) };
    // On some 32-bit kernels it is narrower.
    #[allow(clippy::useless_conversion)]
    address.into()
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _locked = self.attachment.buffer.lock();
        if self.is_passing() {
            let told = &self.attachment.told;
            // SAFETY: The lock is held.
            if unsafe { !told.has(self.number) } {
                return;
            }
            // SAFETY: The lock is held.
            unsafe { *told.passing.get() = None };
        }
        // SAFETY: Ours to unmap by the invariant, in the direction it was mapped; the buffer's
        // `dma_resv` is held.
        unsafe {
            bindings::dma_buf_unmap_attachment(
                self.attachment.raw.as_ptr(),
                self.table.as_ptr(),
                self.direction.into(),
            )
        };
    }
}

/// A dma-buf mapped for the kernel.
///
/// # Invariants
///
/// `map` is what `dma_buf_vmap` gave for `buffer`, ours to give back.
pub(crate) struct Vmap {
    map: bindings::iosys_map,
    buffer: DmaBuf,
}

// SAFETY: A kernel mapping may be used and given back on any thread.
unsafe impl Send for Vmap {}

impl Vmap {
    /// Map `buffer`.
    pub(crate) fn new(buffer: DmaBuf) -> Result<Self> {
        let mut map = MaybeUninit::<bindings::iosys_map>::zeroed();
        // SAFETY: The buffer is valid, its `dma_resv` not held, and `map` may be written.
        to_result(unsafe { bindings::dma_buf_vmap_unlocked(buffer.as_raw(), map.as_mut_ptr()) })?;
        // INVARIANT: It was just made, for nobody else.
        Ok(Self {
            // SAFETY: Zeroes are valid, and so is what was written on success.
            map: unsafe { map.assume_init() },
            buffer,
        })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> u64 {
        // SAFETY: Both fields of the union are pointers of the same size.
        let address = unsafe { self.map.__bindgen_anon_1.vaddr };
        address.addr() as u64
    }

    /// Copy bytes from, or with `write` to, the mapping.
    pub(crate) fn copy(&mut self, offset: u64, bytes: &mut [u8], write: bool) -> Result {
        let offset = usize::try_from(offset).map_err(|_| EINVAL)?;
        let end = offset.checked_add(bytes.len()).ok_or(EINVAL)?;
        if end > self.buffer.size() {
            return Err(EINVAL);
        }
        let data = bytes.as_mut_ptr().cast();
        // SAFETY: The mapping is as large as the buffer, and a kernel mapping of a dma-buf may be
        // written. Whoever accesses the memory at the same time sees bytes, nothing else.
        unsafe {
            if write {
                helpers::iosys_write(&mut self.map, offset, data, bytes.len());
            } else {
                helpers::iosys_read(&self.map, offset, data, bytes.len());
            }
        }
        Ok(())
    }
}

impl Drop for Vmap {
    fn drop(&mut self) {
        // SAFETY: Ours to give back by the invariant; the buffer's `dma_resv` is not held.
        unsafe { bindings::dma_buf_vunmap_unlocked(self.buffer.as_raw(), &mut self.map) };
    }
}
