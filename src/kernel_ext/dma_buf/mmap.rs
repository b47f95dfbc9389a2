// SPDX-License-Identifier: GPL-2.0-only

//! Mappings of a dma-buf in processes.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h).
//!
//! The pages are mapped by page frame number on fault: such a mapping keeps neither references to
//! the pages nor dirty bits of them, and is not for `get_user_pages()`.

use super::{
    super::{
        extent::{
            self,
            Source, //
        },
        helpers,
        reserved::Caching, //
    },
    Access,
    Exporter,
    Memory,
    Shared, //
};
use kernel::{
    bindings,
    mm::virt::flags,
    prelude::*,
    sync::atomic::Relaxed, //
};

/// How many pages, aligned to as many, one fault maps at most.
const FAULT_AROUND: usize = 64;

/// Makes `vma` a mapping of `shared`.
///
/// # Errors
///
/// - `EINVAL`: a private mapping.
/// - `EACCES`: a writable mapping of a read-only dma-buf.
/// - `ENODEV`: it was revoked.
///
/// # Safety
///
/// `vma` must be new, within the dma-buf, and keep `shared` through its file.
pub(super) unsafe fn mmap<T: Exporter>(
    shared: &Shared<T>,
    vma: *mut bindings::vm_area_struct,
) -> Result {
    // SAFETY: The VMA is new, so nobody else changes it.
    let had = unsafe { (*vma).__bindgen_anon_2.vm_flags };

    if shared.is_revoked() {
        return Err(ENODEV);
    }
    // A file opened for reading only loses VM_SHARED, never VM_MAYSHARE.
    if had & helpers::VMMEXP_VM_MAYSHARE == 0 {
        return Err(EINVAL);
    }
    // No execution, whatever a process maps: these are data.
    let mut clear = flags::MAYEXEC;
    if had & flags::EXEC != 0 {
        return Err(EACCES);
    }
    if shared.access == Access::ReadOnly {
        // A mapping through another file, as DRM makes them, does not come with our file's mode.
        if had & flags::WRITE != 0 {
            return Err(EACCES);
        }
        clear |= flags::MAYWRITE;
    }
    let set = flags::PFNMAP | flags::DONTEXPAND | flags::DONTDUMP;
    // SAFETY: The VMA is new. It is shared, or can never be written to, so VM_PFNMAP is allowed:
    // there is no copy on write. `shared` outlives it, as it holds the dma-buf's file.
    unsafe {
        helpers::vmmexp_helper_vm_flags_mod(vma, set, clear);
        (*vma).vm_private_data = core::ptr::from_ref(shared).cast_mut().cast();
        (*vma).vm_ops = VmOps::<T>::TABLE;
    }
    shared.users.vmas.add(1, Relaxed);
    Ok(())
}

/// `struct vm_operations_struct` of the mappings.
struct VmOps<T: Exporter>(core::marker::PhantomData<T>);

impl<T: Exporter> VmOps<T> {
    const TABLE: &'static bindings::vm_operations_struct = &bindings::vm_operations_struct {
        open: Some(Self::open),
        close: Some(Self::close),
        fault: Some(Self::fault),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `vma` must have these operations, and be valid for `'a`.
    unsafe fn shared<'a>(vma: *mut bindings::vm_area_struct) -> &'a Shared<T> {
        // SAFETY: `mmap` put a `Shared<T>` there, which the file of the VMA keeps.
        unsafe { &*(*vma).vm_private_data.cast::<Shared<T>>() }
    }

    /// # Safety
    ///
    /// `vma` must be a copy, or a part, of a VMA with these operations.
    unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: As demanded of our caller.
        unsafe { Self::shared(vma) }.users.vmas.add(1, Relaxed);
    }

    /// # Safety
    ///
    /// `vma` must have these operations, and be about to go.
    unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: As demanded of our caller; the VMA's file is put after this.
        unsafe { Self::shared(vma) }.users.vmas.add(-1, Relaxed);
    }

    /// # Safety
    ///
    /// `vmf` must be a fault in a VMA with these operations.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The fault is valid, and its VMA locked, for the duration of this call.
        let (vma, index, address) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (fault.vma, fault.pgoff, fault.address)
        };
        // SAFETY: The VMA has these operations.
        let shared = unsafe { Self::shared(vma) };
        // Held until the pages are in the page tables, so that a revocation finds them there.
        let Some(faults) = shared.faults() else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };
        let memory = faults.memory();
        let Some(extent) = extent::find(memory.extents(), index) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };

        // As whoever else maps the memory: aliases with other attributes are not allowed.
        let insert = match extent.source {
            Source::Reserved(index)
                if memory
                    .reserved(index)
                    .is_some_and(|region| region.caching() == Caching::Uncached) =>
            {
                helpers::vmmexp_helper_vmf_insert_pfn_writecombine
            }
            Source::Foreign { cached: false } => helpers::vmmexp_helper_vmf_insert_pfn_writecombine,
            _ => bindings::vmf_insert_pfn,
        };
        // SAFETY: The VMA is locked. The page frame is one of the memory's, which the dma-buf and
        // with it the VMA's file keeps; it is not a COW mapping, see `mmap`.
        let result = unsafe { insert(vma, address, extent.pfn_of(index)) };
        if result & VM_FAULT_ERROR != 0 {
            return result;
        }

        // The neighbours in the same extent, window and VMA come along. Should one fail, it fails
        // again, and is reported, when it is touched.
        // SAFETY: The VMA is locked.
        let (vma_first, vma_end) = unsafe {
            let bounds = &(*vma).__bindgen_anon_1.__bindgen_anon_1;
            let first = (*vma).vm_pgoff;
            (
                first,
                first + ((bounds.vm_end - bounds.vm_start) >> bindings::PAGE_SHIFT),
            )
        };
        let window = index & !(FAULT_AROUND - 1);
        let first = window.max(extent.first).max(vma_first);
        let end = (window + FAULT_AROUND).min(extent.end()).min(vma_end);
        let base = address & !((1 << bindings::PAGE_SHIFT) - 1);
        for other in (first..end).filter(|&other| other != index) {
            let offset = other.wrapping_sub(index) << bindings::PAGE_SHIFT;
            // SAFETY: As above; the address is that of page `other`, within the VMA.
            let result = unsafe { insert(vma, base.wrapping_add(offset), extent.pfn_of(other)) };
            if result & VM_FAULT_ERROR != 0 {
                break;
            }
        }
        result
    }
}

/// As in `mm_types.h`, where it is a macro over an enumeration.
const VM_FAULT_ERROR: bindings::vm_fault_t = bindings::vm_fault_reason_VM_FAULT_OOM
    | bindings::vm_fault_reason_VM_FAULT_SIGBUS
    | bindings::vm_fault_reason_VM_FAULT_SIGSEGV
    | bindings::vm_fault_reason_VM_FAULT_HWPOISON
    | bindings::vm_fault_reason_VM_FAULT_HWPOISON_LARGE
    | bindings::vm_fault_reason_VM_FAULT_FALLBACK;
