// SPDX-License-Identifier: GPL-2.0-only

//! Misc devices with data and an owner.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h).
//!
//! [`kernel::miscdevice`] carries no data from the registration to `open`, and in 7.2 it sets no
//! `owner`, so that a module can go while its device is open.

use core::marker::PhantomData;
use kernel::{
    bindings,
    error::to_result,
    fs::File,
    prelude::*,
    types::{
        ForeignOwnable,
        Opaque, //
    },
    ThisModule,
};

/// A file of a misc device.
pub(crate) trait MiscFile: Sized + Send + Sync + 'static {
    /// What the device has for its files.
    type Device: Send + Sync;

    /// Opens `file`. May sleep.
    fn open(device: &Self::Device, file: &File) -> Result<Self>;

    /// Handles an ioctl. `arg` is as the caller gave it, pointers of 32-bit callers being
    /// converted (`compat_ptr_ioctl()`). May sleep.
    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<isize>;
}

/// The registration of a misc device.
///
/// # Invariants
///
/// `inner` is registered with `fops`, whose operations are those for files of type `F`.
#[repr(C)]
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<F: MiscFile> {
    // First, so that the `struct miscdevice` the core passes around leads to the rest.
    #[pin]
    inner: Opaque<bindings::miscdevice>,
    #[pin]
    fops: Opaque<bindings::file_operations>,
    device: F::Device,
}

// SAFETY: A misc device can be deregistered from any thread, and the data are `Send`.
unsafe impl<F: MiscFile> Send for Registration<F> {}
// SAFETY: Nothing is done through a shared reference but sharing the data, which are `Sync`.
unsafe impl<F: MiscFile> Sync for Registration<F> {}

impl<F: MiscFile> Registration<F> {
    /// Registers a device as `name`, accessible to root only until user space decides otherwise.
    /// `module` stays for as long as a file is open.
    pub(crate) fn new(
        name: &'static CStr,
        module: &'static ThisModule,
        device: F::Device,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            device,
            fops <- Opaque::new(Self::file_operations(module)),
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                // SAFETY: `slot` may be written to; `this` is where the other fields, initialised
                // by now, stay until the registration ends.
                unsafe {
                    slot.write(bindings::miscdevice {
                        minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                        name: name.as_char_ptr(),
                        fops: (*this.as_ptr()).fops.get(),
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

    fn file_operations(module: &'static ThisModule) -> bindings::file_operations {
        bindings::file_operations {
            owner: module.as_ptr(),
            open: Some(Ops::<F>::open),
            release: Some(Ops::<F>::release),
            unlocked_ioctl: Some(Ops::<F>::ioctl),
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: bindings::compat_ptr_ioctl,
            ..pin_init::zeroed()
        }
    }
}

#[pinned_drop]
impl<F: MiscFile> PinnedDrop for Registration<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariants it is registered.
        unsafe { bindings::misc_deregister(self.inner.get()) };
    }
}

/// `struct file_operations`: what the virtual file system calls.
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
