// SPDX-License-Identifier: GPL-2.0-only

//! A misc device that holds its module.

use core::marker::PhantomData;
use kernel::{
    bindings,
    error::to_result,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions, //
    },
    prelude::*,
    types::Opaque, //
};

// The structure has fields that are empty in some configurations; only its address is used.
#[allow(improper_ctypes)]
extern "C" {
    /// What C calls THIS_MODULE.
    static mut __this_module: bindings::module;
}

/// A registered misc device whose open files hold the module.
///
/// [`kernel::miscdevice::MiscDeviceRegistration`] of Linux 7.2 sets no `owner` in the file
/// operations, so that the module can go away under an open file. Here it is set, in a copy.
///
/// # Invariants
///
/// `misc` is registered from the end of initialization until it is dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: MiscDevice> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    /// What `misc.fops` points to. Dropped with the module only: no file is open then.
    _fops: KBox<bindings::file_operations>,
    _type: PhantomData<T>,
}

// SAFETY: `misc_deregister` may be called on any thread.
unsafe impl<T: MiscDevice> Send for Registration<T> {}
// SAFETY: There is no method that takes `&self`.
unsafe impl<T: MiscDevice> Sync for Registration<T> {}

impl<T: MiscDevice> Registration<T> {
    /// Register a misc device.
    pub(crate) fn register(options: MiscDeviceOptions) -> impl PinInit<Self, Error> {
        let mut misc = options.into_raw::<T>();
        // SAFETY: `into_raw` points `fops` to the operations of `T`, which live for ever.
        let mut fops = unsafe { *misc.fops };
        fops.owner = &raw mut __this_module;
        pin_init::pin_init_scope(move || {
            let fops = KBox::new(fops, GFP_KERNEL)?;
            misc.fops = &raw const *fops;
            Ok(try_pin_init!(Self {
                // INVARIANT: initialization ends with the registration.
                misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                    // SAFETY: The slot is ours to fill.
                    unsafe { slot.write(misc) };
                    // SAFETY: `slot` was just filled; it and what it points to stay in place
                    // until `drop` deregisters the device. Its operations are those of `T` as
                    // the misc device abstraction wants them; the abstraction finds in
                    // `private_data` a `struct miscdevice`, which is all it reads.
                    to_result(unsafe { bindings::misc_register(slot) })
                }),
                _fops: fops,
                _type: PhantomData,
            }? Error))
        })
    }
}

#[pinned_drop]
impl<T: MiscDevice> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
