// SPDX-License-Identifier: GPL-2.0-only

//! Why a request failed: the typed form of `enum vmmexp_reason`.
//!
//! Pure, see `extent.rs`. That numbers and errnos are the kernel's is asserted in `uapi.rs`.

/// Calls `$callback!` with a row `(variant, name in the ABI, number, errno, errno's number)` for
/// every reason.
macro_rules! for_each_reason {
    ($callback:ident) => {
        $callback! {
            (Flags, VMMEXP_REASON_FLAGS, 1, EINVAL, 22)
            (Padding, VMMEXP_REASON_PADDING, 2, EINVAL, 22)
            (UnknownTail, VMMEXP_REASON_UNKNOWN_TAIL, 3, EINVAL, 22)
            (ElementSize, VMMEXP_REASON_ELEMENT_SIZE, 4, EINVAL, 22)
            (NoRanges, VMMEXP_REASON_NO_RANGES, 5, EINVAL, 22)
            (TooManyRanges, VMMEXP_REASON_TOO_MANY_RANGES, 6, E2BIG, 7)
            (ArrayFault, VMMEXP_REASON_ARRAY_FAULT, 7, EFAULT, 14)
            (EmptyRange, VMMEXP_REASON_EMPTY_RANGE, 8, EINVAL, 22)
            (RangeOverflow, VMMEXP_REASON_RANGE_OVERFLOW, 9, EINVAL, 22)
            (Unaligned, VMMEXP_REASON_UNALIGNED, 10, EINVAL, 22)
            (TooBig, VMMEXP_REASON_TOO_BIG, 11, EOVERFLOW, 75)
            (Name, VMMEXP_REASON_NAME, 12, EINVAL, 22)
            (FdFlags, VMMEXP_REASON_FD_FLAGS, 13, EINVAL, 22)
            (PhysBitsValue, VMMEXP_REASON_PHYS_BITS_VALUE, 14, EINVAL, 22)
            (NotUser, VMMEXP_REASON_NOT_USER, 15, EFAULT, 14)
            (Hole, VMMEXP_REASON_HOLE, 16, EFAULT, 14)
            (NotReadable, VMMEXP_REASON_NOT_READABLE, 17, EFAULT, 14)
            (NotWritable, VMMEXP_REASON_NOT_WRITABLE, 18, EFAULT, 14)
            (Fault, VMMEXP_REASON_FAULT, 19, EFAULT, 14)
            (PfnMap, VMMEXP_REASON_PFNMAP, 20, EPERM, 1)
            (SecretMem, VMMEXP_REASON_SECRETMEM, 21, EPERM, 1)
            (FsDax, VMMEXP_REASON_FSDAX, 22, EPERM, 1)
            (WritableFile, VMMEXP_REASON_WRITABLE_FILE, 23, EPERM, 1)
            (Executable, VMMEXP_REASON_EXECUTABLE, 24, EPERM, 1)
            (Sealed, VMMEXP_REASON_SEALED, 25, EPERM, 1)
            (NotPinnable, VMMEXP_REASON_NOT_PINNABLE, 26, EFAULT, 14)
            (MaxSegs, VMMEXP_REASON_MAX_SEGS, 27, EMLINK, 31)
            (PhysBits, VMMEXP_REASON_PHYS_BITS, 28, ERANGE, 34)
            (NoMemory, VMMEXP_REASON_NO_MEMORY, 29, ENOMEM, 12)
            (MemLock, VMMEXP_REASON_MEMLOCK, 30, ENOMEM, 12)
            (UserLimit, VMMEXP_REASON_USER_LIMIT, 31, ENOMEM, 12)
            (Interrupted, VMMEXP_REASON_INTERRUPTED, 32, EINTR, 4)
            (NoFd, VMMEXP_REASON_NO_FD, 33, EMFILE, 24)
            (BadFd, VMMEXP_REASON_BAD_FD, 34, EBADF, 9)
            (NotOurs, VMMEXP_REASON_NOT_OURS, 35, EBADF, 9)
            (BadRegionFd, VMMEXP_REASON_BAD_REGION_FD, 36, EBADF, 9)
            (NoRegions, VMMEXP_REASON_NO_REGIONS, 37, EOPNOTSUPP, 95)
            (RegionAccess, VMMEXP_REASON_REGION_ACCESS, 38, EACCES, 13)
            (RegionRange, VMMEXP_REASON_REGION_RANGE, 39, EFAULT, 14)
            (RegionCache, VMMEXP_REASON_REGION_CACHE, 40, EPERM, 1)
            (BadEventFd, VMMEXP_REASON_BAD_EVENT_FD, 41, EBADF, 9)
            (NoEvents, VMMEXP_REASON_NO_EVENTS, 42, EOPNOTSUPP, 95)
            (SyncRange, VMMEXP_REASON_SYNC_RANGE, 43, EINVAL, 22)
            (SyncDirection, VMMEXP_REASON_SYNC_DIRECTION, 44, EINVAL, 22)
            (ReadOnly, VMMEXP_REASON_READ_ONLY, 45, EACCES, 13)
            (Revoked, VMMEXP_REASON_REVOKED, 46, ENODEV, 19)
            (NotOwner, VMMEXP_REASON_NOT_OWNER, 47, EPERM, 1)
            (NoRevoke, VMMEXP_REASON_NO_REVOKE, 48, EOPNOTSUPP, 95)
            (ExportFailed, VMMEXP_REASON_EXPORT_FAILED, 49, EIO, 5)
        }
    };
}
pub(crate) use for_each_reason;

macro_rules! define_reason {
    ($(($variant:ident, $name:ident, $number:literal, $errno:ident, $value:literal))*) => {
        /// Why a request failed; the ABI header says what each means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(dead_code, reason = "the ABI has reasons of what this module does not do yet")]
        #[repr(u32)]
        pub(crate) enum Reason {
            $(#[doc = concat!("`", stringify!($name), "`.")] $variant = $number,)*
        }

        impl Reason {
            /// The errno, positive, which goes with this reason unless another is known.
            pub(crate) const fn errno(self) -> i32 {
                match self {
                    $(Self::$variant => $value,)*
                }
            }
        }
    };
}
for_each_reason!(define_reason);

/// A failed request: what the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Why.
    pub(crate) reason: Reason,
    /// Positive errno.
    pub(crate) errno: i32,
    /// Where in the request: see `error_offset` in the ABI header.
    pub(crate) offset: u64,
}

impl Failure {
    /// A failure at `offset` with the reason's own errno.
    pub(crate) const fn at(reason: Reason, offset: u64) -> Self {
        Self {
            reason,
            errno: reason.errno(),
            offset,
        }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::at(reason, 0)
    }
}
