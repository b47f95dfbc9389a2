// SPDX-License-Identifier: GPL-2.0-only

//! What a virtual memory area maps.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/memfd.h`](srctree/include/linux/memfd.h).

use super::helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    fs::{
        File,
        LocalFile, //
    },
    mm::virt::{
        flags,
        vm_flags_t,
        VmaRef, //
    },
    prelude::*,
    sync::aref::ARef, //
};

/// What kind of memory a VMA maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Private memory without a file.
    Anonymous,
    /// Memory of shmem: memfd, tmpfs, shared anonymous or System V shared memory.
    Shmem,
    /// Memory of hugetlbfs.
    Hugetlb,
    /// Memory of `memfd_secret()`.
    SecretMem,
    /// A file on a DAX file system.
    FsDax,
    /// An ordinary file.
    File,
    /// Pages that a driver, or the kernel, inserted.
    Driver,
    /// Page frames without references (`VM_PFNMAP`, `VM_IO`).
    PfnMap,
}

/// A VMA, borrowed from the mmap lock.
pub(crate) struct Vma<'a> {
    vma: &'a VmaRef,
}

impl<'a> Vma<'a> {
    /// Looks at `vma`.
    pub(crate) fn new(vma: &'a VmaRef) -> Self {
        Self { vma }
    }

    fn has(&self, flag: vm_flags_t) -> bool {
        self.vma.flags() & flag != 0
    }

    /// The address one past its last byte.
    pub(crate) fn end(&self) -> usize {
        self.vma.end()
    }

    /// Whether the process may read it.
    pub(crate) fn readable(&self) -> bool {
        self.has(flags::READ)
    }

    /// Whether the process may write to it.
    pub(crate) fn writable(&self) -> bool {
        self.has(flags::WRITE)
    }

    /// Whether the process may run code in it.
    pub(crate) fn executable(&self) -> bool {
        self.has(flags::EXEC)
    }

    /// Whether the CPU's accesses through it go to the caches.
    pub(crate) fn cached(&self) -> bool {
        // SAFETY: The VMA is valid, and its protection stable while the mmap lock is held.
        unsafe { helpers::vmmexp_helper_vma_is_cached(self.vma.as_ptr()) }
    }

    /// Whether it shows the pages of its file, and not copies of them (`MAP_SHARED`).
    pub(crate) fn shared(&self) -> bool {
        // VM_SHARED is missing where the file is not open for writing.
        self.has(helpers::VMMEXP_VM_MAYSHARE)
    }

    fn raw_file(&self) -> Option<NonNull<bindings::file>> {
        // SAFETY: The VMA is valid, and its file does not change while the mmap lock, from which
        // `self` is borrowed, is held.
        NonNull::new(unsafe { (*self.vma.as_ptr()).vm_file })
    }

    /// Its file.
    pub(super) fn file(&self) -> Option<ARef<File>> {
        // SAFETY: The VMA holds a reference to its file, so whoever uses the file's position by a
        // descriptor is not the only one to have the file, and takes the lock for that.
        Some(unsafe { File::from_raw_file(self.raw_file()?.as_ptr()) }.into())
    }

    /// The kind of file system that its file is of, by its magic number.
    fn magic(&self) -> Option<c_ulong> {
        // SAFETY: As in `raw_file()`; a file has an inode, and an inode a superblock, for as long
        // as the file lives.
        Some(unsafe { (*(*(*self.raw_file()?.as_ptr()).f_inode).i_sb).s_magic })
    }

    /// Whether it maps a dma-buf, of whatever exporter.
    pub(crate) fn of_dma_buf(&self) -> bool {
        self.magic() == Some(helpers::DMA_BUF_MAGIC as c_ulong)
    }

    /// What it maps.
    pub(crate) fn kind(&self) -> Kind {
        if self.has(flags::PFNMAP | flags::IO) {
            return Kind::PfnMap;
        }
        if self.has(flags::HUGETLB) {
            return Kind::Hugetlb;
        }
        let Some(file) = self.raw_file() else {
            // SAFETY: The VMA is valid.
            let ops = unsafe { (*self.vma.as_ptr()).vm_ops };
            // As `vma_is_anonymous()`; without a file but with operations it is a mapping of the
            // kernel's own, such as the vdso.
            return if ops.is_null() {
                Kind::Anonymous
            } else {
                Kind::Driver
            };
        };
        // SAFETY: As in `raw_file()`; a file has an inode and a mapping for as long as it lives.
        let (mode, shmem, dax) = unsafe {
            (
                u32::from((*(*file.as_ptr()).f_inode).i_mode),
                helpers::shmem_mapping((*file.as_ptr()).f_mapping),
                helpers::vmmexp_helper_vma_is_fsdax(self.vma.as_ptr()),
            )
        };
        if shmem {
            Kind::Shmem
        } else if self.magic() == Some(helpers::SECRETMEM_MAGIC as c_ulong) {
            // `vma_is_secretmem()` is not exported.
            Kind::SecretMem
        } else if dax {
            Kind::FsDax
        } else if mode & bindings::S_IFMT == bindings::S_IFREG {
            Kind::File
        } else {
            // SAFETY: The VMA is valid.
            let ops = unsafe { (*self.vma.as_ptr()).vm_ops };
            // A private mapping of /dev/zero has a file and is anonymous all the same.
            if ops.is_null() {
                Kind::Anonymous
            } else {
                Kind::Driver
            }
        }
    }

    /// The file, if it is one that can be sealed and what is written here reaches it.
    pub(crate) fn sealable_file(&self) -> Option<SealableFile> {
        if !self.shared() || !matches!(self.kind(), Kind::Shmem | Kind::Hugetlb) {
            return None;
        }
        // SAFETY: The VMA holds a reference to its file. No position of a file is in use on this
        // thread, and none is used through this reference.
        let file = unsafe { LocalFile::from_raw_file(self.raw_file()?.as_ptr()) };
        Some(SealableFile(file.into()))
    }
}

/// A file of shmem or hugetlbfs, which may be sealed.
#[derive(Clone)]
pub(crate) struct SealableFile(ARef<LocalFile>);

impl SealableFile {
    /// Whether writing has been sealed off (`F_SEAL_WRITE` or `F_SEAL_FUTURE_WRITE`).
    ///
    /// Seals are never taken off. A later `F_SEAL_WRITE` fails while a page is pinned.
    pub(crate) fn write_sealed(&self) -> bool {
        // SAFETY: The file is valid.
        let seals = unsafe { helpers::vmmexp_helper_file_seals(self.0.as_ptr()) };
        seals & (bindings::F_SEAL_WRITE | bindings::F_SEAL_FUTURE_WRITE) != 0
    }
}

impl PartialEq for SealableFile {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.0.as_ptr(), other.0.as_ptr())
    }
}
