// SPDX-License-Identifier: GPL-2.0-only

//! Structures which grow, to and from user space.
//!
//! C header: [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h); mirrors
//! `copy_struct_from_user()` and `copy_struct_to_user()`.

use kernel::{
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceReader, //
    },
};

/// Why a structure could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The memory is not readable.
    Fault,
    /// What the caller has beyond the structure known here is not zero. The structure itself, up
    /// to there, is given.
    UnknownTail,
}

/// Reads a `T` of which the caller has `len` bytes: missing ones are zero, further ones must be.
///
/// `value` holds what was read also if the tail is not zero.
pub(crate) fn read_struct<T: FromBytes + AsBytes>(
    reader: &mut UserSliceReader,
    len: usize,
    value: &mut T,
) -> Result<(), ReadError> {
    let bytes = value.as_bytes_mut();
    let known = len.min(bytes.len());
    bytes[known..].fill(0);
    reader
        .read_slice(&mut bytes[..known])
        .map_err(|_| ReadError::Fault)?;

    let mut tail = [0u8; 64];
    let mut left = len - known;
    let mut zero = true;
    while left > 0 {
        let step = left.min(tail.len());
        reader
            .read_slice(&mut tail[..step])
            .map_err(|_| ReadError::Fault)?;
        zero &= tail[..step].iter().all(|&byte| byte == 0);
        left -= step;
    }
    if zero {
        Ok(())
    } else {
        Err(ReadError::UnknownTail)
    }
}

/// Reads a `T` of which the caller has `len` bytes at `addr`: see [`read_struct`].
pub(crate) fn read_struct_at<T: FromBytes + AsBytes>(
    addr: usize,
    len: usize,
    value: &mut T,
) -> Result<(), ReadError> {
    let mut reader = UserSlice::new(UserPtr::from_addr(addr), len).reader();
    read_struct(&mut reader, len, value)
}

/// Writes as much of `value` as the caller, who has `len` bytes at `addr`, knows.
///
/// # Errors
///
/// `EFAULT`: the memory is not writable.
pub(crate) fn write_struct_at<T: AsBytes>(addr: usize, len: usize, value: &T) -> Result {
    let bytes = value.as_bytes();
    let known = len.min(bytes.len());
    UserSlice::new(UserPtr::from_addr(addr), known)
        .writer()
        .write_slice(&bytes[..known])
}
