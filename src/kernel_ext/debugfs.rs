// SPDX-License-Identifier: GPL-2.0-only

//! Files in debugfs, for reading by root.
//!
//! C headers: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h),
//! [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h).
//!
//! The files of [`kernel::debugfs`] have no `owner`. A module that made one can be unloaded while
//! the file is open, and closing it then looks for operations that were in the module.

use kernel::seq_file::SeqFile;

/// What a file shows.
pub(crate) trait Show: Send + Sync + 'static {
    /// Writes all of it to `seq`. May sleep, and is called again if it was too much.
    fn show(&self, seq: &SeqFile);
}

#[cfg(not(CONFIG_DEBUG_FS))]
pub(crate) use absent::File;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) use present::File;

#[cfg(CONFIG_DEBUG_FS)]
mod present {
    use super::{
        super::compat,
        Show, //
    };
    use kernel::{
        bindings,
        prelude::*,
        seq_file::SeqFile,
        sync::Arc, //
    };

    /// A file in a directory of its own. Both are gone when this is dropped, which waits for who
    /// reads it.
    ///
    /// # Invariants
    ///
    /// `dir` is from `debugfs_create_dir()`; the file in it refers to `_data`.
    pub(crate) struct File<T: Show> {
        dir: *mut bindings::dentry,
        _data: Arc<T>,
    }

    // SAFETY: Entries may be removed from any thread, and the data are `Send` and `Sync`.
    unsafe impl<T: Show> Send for File<T> {}
    // SAFETY: Nothing can be done through a shared reference.
    unsafe impl<T: Show> Sync for File<T> {}

    impl<T: Show> File<T> {
        const OPS: &'static bindings::file_operations = &bindings::file_operations {
            owner: compat::this_module_ptr(),
            open: Some(Self::open),
            read: Some(bindings::seq_read),
            llseek: Some(bindings::seq_lseek),
            release: Some(bindings::single_release),
            ..pin_init::zeroed()
        };

        /// Makes file `name` in a new directory `dir`, which shows `data`. As debugfs is not to be
        /// relied on, nobody learns if that fails.
        pub(crate) fn new(dir: &CStr, name: &CStr, data: Arc<T>) -> Self {
            // SAFETY: Both names are strings, and copied. A failure to make the directory is a
            // parent that is taken as well. The data are as `open` wants them, and stay until the
            // file is removed.
            let dir = unsafe {
                let dir = bindings::debugfs_create_dir(dir.as_char_ptr(), core::ptr::null_mut());
                bindings::debugfs_create_file_full(
                    name.as_char_ptr(),
                    0o400,
                    dir,
                    Arc::as_ptr(&data).cast_mut().cast(),
                    core::ptr::null(),
                    Self::OPS,
                );
                dir
            };
            // INVARIANT: Made above.
            Self { dir, _data: data }
        }

        /// # Safety
        ///
        /// `inode` must be that of a file made by [`Self::new`], which is not removed during this
        /// call, and `file` being opened.
        unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
            // SAFETY: The file is being opened. Whoever reads it holds off its removal.
            unsafe { bindings::single_open(file, Some(Self::show), (*inode).i_private) }
        }

        /// # Safety
        ///
        /// `seq` must be that of a file which [`Self::open`] opened, and which is not removed
        /// during this call.
        unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
            // SAFETY: `new` put the data there, and they stay until the file is removed.
            let data = unsafe { &*(*seq).private.cast::<T>() };
            // SAFETY: It is valid during this call, and nobody else uses it.
            data.show(unsafe { SeqFile::from_raw(seq) });
            0
        }
    }

    impl<T: Show> Drop for File<T> {
        fn drop(&mut self) {
            // SAFETY: By the invariants it is ours. Failures are taken as well.
            unsafe { bindings::debugfs_remove(self.dir) };
        }
    }
}

/// What stands for it in a kernel without: nothing.
#[cfg(not(CONFIG_DEBUG_FS))]
mod absent {
    use super::Show;
    use core::marker::PhantomData;
    use kernel::{
        prelude::*,
        sync::Arc, //
    };

    pub(crate) struct File<T: Show>(PhantomData<Arc<T>>);

    impl<T: Show> File<T> {
        pub(crate) fn new(_dir: &CStr, _name: &CStr, _data: Arc<T>) -> Self {
            Self(PhantomData)
        }
    }
}
