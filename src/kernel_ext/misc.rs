// SPDX-License-Identifier: GPL-2.0-only

//! Misc devices with data and an owner.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h).
//!
//! [`kernel::miscdevice`] carries no data from the registration to `open`, cannot tell its files
//! from others, and in 7.2 it sets no `owner`, so that a module can go while its device is open.

use super::{
    compat,
    reserved::Reserved, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    fs::{
        File,
        LocalFile, //
    },
    prelude::*,
    seq_file::SeqFile,
    str::CString,
    sync::aref::ARef,
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

/// A file of a misc device.
pub(crate) trait MiscFile: Sized + Send + Sync + 'static {
    /// What the device has for its files.
    type Device: Send + Sync;

    /// The operations: a `static` of the implementer's, by whose address its files are recognised.
    fn ops() -> &'static FileOps<Self>;

    /// Opens `file`. May sleep.
    fn open(device: &Self::Device, file: &File) -> Result<Self>;

    /// Handles an ioctl. `arg` is as the caller gave it, pointers of 32-bit callers being
    /// converted (`compat_ptr_ioctl()`). May sleep.
    fn ioctl(&self, _file: &File, _cmd: u32, _arg: usize) -> Result<isize> {
        Err(ENOTTY)
    }

    /// Adds lines to what `/proc/PID/fdinfo/FD` shows of the file. May sleep.
    fn show_fdinfo(&self, _seq: &SeqFile) {}
}

/// A file that can be mapped: as the reserved region behind it.
pub(crate) trait RegionFile: MiscFile {
    /// The region. Offset 0 of the file is its start. Must be the same one each time.
    fn region(&self) -> &Reserved;
}

/// `struct file_operations` for files of type `F`.
pub(crate) struct FileOps<F: MiscFile> {
    table: bindings::file_operations,
    _file: PhantomData<fn(F)>,
}

// SAFETY: The table is never changed, and the function and module pointers in it may be used from
// any thread.
unsafe impl<F: MiscFile> Sync for FileOps<F> {}

impl<F: MiscFile> FileOps<F> {
    /// Operations of files with ioctls, to be put in a `static`. The module stays for as long as
    /// a file is open.
    pub(crate) const fn new() -> Self {
        Self {
            table: bindings::file_operations {
                owner: compat::this_module_ptr(),
                open: Some(Ops::<F>::open),
                release: Some(Ops::<F>::release),
                unlocked_ioctl: Some(Ops::<F>::ioctl),
                #[cfg(CONFIG_COMPAT)]
                compat_ioctl: bindings::compat_ptr_ioctl,
                show_fdinfo: Some(Ops::<F>::show_fdinfo),
                ..pin_init::zeroed()
            },
            _file: PhantomData,
        }
    }
}

impl<F: RegionFile> FileOps<F> {
    /// The same, of files that can be mapped too.
    pub(crate) const fn with_region() -> Self {
        let mut this = Self::new();
        this.table.mmap = Some(Ops::<F>::mmap_region);
        this
    }
}

/// The registration of a misc device.
///
/// # Invariants
///
/// `inner` is registered with the operations of `F`.
#[repr(C)]
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<F: MiscFile> {
    // First, so that the `struct miscdevice` the core passes around leads to the rest.
    #[pin]
    inner: Opaque<bindings::miscdevice>,
    device: F::Device,
    // `inner` refers to it.
    name: CString,
}

// SAFETY: A misc device can be deregistered from any thread, and the data are `Send`.
unsafe impl<F: MiscFile> Send for Registration<F> {}
// SAFETY: Nothing is done through a shared reference but sharing the data, which are `Sync`.
unsafe impl<F: MiscFile> Sync for Registration<F> {}

impl<F: MiscFile> Registration<F> {
    /// Registers a device as `name`, accessible to root only until user space decides otherwise.
    pub(crate) fn new(name: CString, device: F::Device) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            device,
            name,
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                // SAFETY: `slot` may be written to; the name, initialised by now, stays where it
                // is until the registration ends.
                unsafe {
                    slot.write(bindings::miscdevice {
                        minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                        name: (*this.as_ptr()).name.as_char_ptr(),
                        fops: &F::ops().table,
                        mode: 0o600,
                        ..pin_init::zeroed()
                    })
                };
                // SAFETY: The device is complete, and stays until `drop`.
                // INVARIANT: It is registered if this succeeds.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        }? Error)
    }
}

#[pinned_drop]
impl<F: MiscFile> PinnedDrop for Registration<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariants it is registered.
        unsafe { bindings::misc_deregister(self.inner.get()) };
    }
}

/// A reference to an open file of type `F`.
///
/// # Invariants
///
/// The file has the operations of `F`.
pub(crate) struct FileRef<F: MiscFile> {
    file: ARef<LocalFile>,
    _file: PhantomData<F>,
}

impl<F: MiscFile> FileRef<F> {
    /// The file that descriptor `fd` of the current task stands for; `None` if it is not open or
    /// not of type `F`.
    pub(crate) fn from_fd(fd: i32) -> Option<Self> {
        let file = LocalFile::fget(u32::try_from(fd).ok()?).ok()?;
        // SAFETY: The file is valid, and its operations never change.
        let ops = unsafe { (*file.as_ptr()).f_op };
        // INVARIANT: Compared here.
        core::ptr::eq(ops, &F::ops().table).then_some(Self {
            file,
            _file: PhantomData,
        })
    }
}

impl<F: MiscFile> Deref for FileRef<F> {
    type Target = F;

    fn deref(&self) -> &F {
        // SAFETY: By the invariants `open` put a box there; it stays until `release`, which our
        // reference holds off.
        unsafe { KBox::<F>::borrow((*self.file.as_ptr()).private_data.cast()) }
    }
}

/// What the virtual file system calls.
struct Ops<F: MiscFile>(PhantomData<F>);

impl<F: MiscFile> Ops<F> {
    /// # Safety
    ///
    /// `inode` and `file` must be those of a file of a [`Registration<F>`] being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The file is being opened.
        let ret = unsafe { bindings::generic_file_open(inode, file) };
        if ret != 0 {
            return ret;
        }
        // SAFETY: `misc_open()` put the `struct miscdevice` there and keeps it registered during
        // this call. It is the first field of the registration.
        let registration = unsafe { &*(*file).private_data.cast::<Registration<F>>() };
        // SAFETY: The file is valid, and its position not in use while it is being opened.
        let shared_file = unsafe { File::from_raw_file(file) };

        match F::open(&registration.device, shared_file)
            .and_then(|new| Ok(KBox::new(new, GFP_KERNEL)?))
        {
            Ok(new) => {
                // SAFETY: While it is being opened, a file's private data are ours to set.
                unsafe { (*file).private_data = new.into_foreign().cast() };
                0
            }
            Err(err) => err.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `file` must be a file opened by [`Self::open`] that nothing refers to any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` put the box there, and nobody uses it any more.
        drop(unsafe { KBox::<F>::from_foreign((*file).private_data.cast()) });
        0
    }

    /// # Safety
    ///
    /// `file` must be a file opened by [`Self::open`].
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: `open` put the box there; it stays until `release`.
        let this = unsafe { KBox::<F>::borrow((*file).private_data.cast()) };
        // SAFETY: The file is valid for this call, which uses no file position.
        let file = unsafe { File::from_raw_file(file) };
        match this.ioctl(file, cmd, arg) {
            // CAST: Both are as wide as a pointer.
            Ok(ret) => ret as c_long,
            Err(err) => err.to_errno() as c_long,
        }
    }
}

impl<F: MiscFile> Ops<F> {
    /// # Safety
    ///
    /// `file` must be a file opened by [`Self::open`], `seq` be valid and used by nobody else.
    unsafe extern "C" fn show_fdinfo(seq: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: `open` put the box there; it stays until `release`.
        let this = unsafe { KBox::<F>::borrow((*file).private_data.cast()) };
        // SAFETY: As demanded of our caller.
        this.show_fdinfo(unsafe { SeqFile::from_raw(seq) });
    }
}

impl<F: RegionFile> Ops<F> {
    /// # Safety
    ///
    /// `file` must be a file opened by [`Self::open`], and `vma` a new VMA of it.
    unsafe extern "C" fn mmap_region(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: `open` put the box there; it stays until `release`, which the VMA holds off for
        // as long as it lives.
        let this = unsafe { KBox::<F>::borrow((*file).private_data.cast()) };
        let Some(vma) = NonNull::new(vma) else {
            return EINVAL.to_errno();
        };
        // SAFETY: The VMA is new. It keeps its file, and the file the region.
        match unsafe { this.region().mmap(vma) } {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }
}
