// SPDX-License-Identifier: GPL-2.0-only

//! The ABI: `uapi/linux/vmmexp.h` as bindgen reads it, and what the pure files repeat of it,
//! compared.

use super::{
    options,
    reason::{
        for_each_reason,
        Failure, //
    },
    state,
};
use kernel::{
    bindings,
    ioctl::{
        _IOC_DIR,
        _IOC_NR,
        _IOC_TYPE, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
};

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    missing_docs,
    non_camel_case_types,
    unreachable_pub,
    unused_imports,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("VMMEXP_GENERATED"), "/uapi_generated.rs"));
}
pub(crate) use generated::*;

/// A structure that an ioctl takes and answers with.
pub(crate) trait Request: FromBytes + AsBytes + Default {
    /// The number of the ioctl, as `_IOC_NR()` gives it.
    const NR: u32;
    /// The least size a caller may give: `VMMEXP_*_SIZE_MIN`.
    const SIZE_MIN: usize;

    /// Tells the caller why the request failed, or that it did not.
    fn set_outcome(&mut self, outcome: Result<(), Failure>);

    /// Leaves nothing in the answers that the caller of a failed request could take for one.
    fn clear_answers(&mut self) {}
}

/// Whether `cmd` is one of ours, whatever its size; if so, its number.
pub(crate) fn number(cmd: u32) -> Option<u32> {
    // `_IOC_READ | _IOC_WRITE`, which every request is.
    const BOTH: u32 = _IOC_DIR(kernel::ioctl::_IOWR::<u32>(0, 0));

    (_IOC_TYPE(cmd) == VMMEXP_IOC_MAGIC && _IOC_DIR(cmd) == BOTH).then_some(_IOC_NR(cmd))
}

macro_rules! request {
    ($name:ident, $nr:literal, $min:ident, $size:literal $(, $clear:item)?) => {
        // SAFETY: All fields are integers, or arrays of them, and any bits make one.
        unsafe impl FromBytes for $name {}
        // SAFETY: There is no padding: the fields add up to the size asserted below.
        unsafe impl AsBytes for $name {}

        const _: () = assert!(core::mem::size_of::<$name>() == $size);

        impl Request for $name {
            const NR: u32 = $nr;
            const SIZE_MIN: usize = $min as usize;

            fn set_outcome(&mut self, outcome: Result<(), Failure>) {
                (self.reason, self.error_offset) = match outcome {
                    Ok(()) => (0, 0),
                    Err(failure) => (failure.reason as u32, failure.offset),
                };
            }

            $($clear)?
        }
    };
}

request!(
    vmmexp_export,
    0,
    VMMEXP_EXPORT_SIZE_MIN,
    128,
    fn clear_answers(&mut self) {
        self.fd = -1;
        self.size = 0;
        self.data_offset = 0;
        self.data_size = 0;
        self.nr_segs = 0;
        self.kinds = 0;
        self.alignment = 0;
    }
);
request!(vmmexp_sync, 1, VMMEXP_SYNC_SIZE_MIN, 40);
request!(vmmexp_info, 2, VMMEXP_INFO_SIZE_MIN, 80);
request!(vmmexp_query, 3, VMMEXP_QUERY_SIZE_MIN, 88);
request!(vmmexp_revoke, 4, VMMEXP_REVOKE_SIZE_MIN, 24);

macro_rules! element {
    ($name:ident, $size:literal) => {
        // SAFETY: All fields are integers, and any bits make one.
        unsafe impl FromBytes for $name {}
        // SAFETY: There is no padding: the fields add up to the size asserted below.
        unsafe impl AsBytes for $name {}

        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}

element!(vmmexp_range, 24);
element!(vmmexp_sync_range, 16);
element!(vmmexp_region_info, 48);

macro_rules! assert_reasons {
    ($(($variant:ident, $name:ident, $number:literal, $errno:ident, $value:literal))*) => {
        $(
            const _: () = assert!($name == $number);
            const _: () = assert!(bindings::$errno == $value);
        )*
    };
}
for_each_reason!(assert_reasons);

const _: () = {
    assert!(options::READ_ONLY == VMMEXP_EXPORT_READ_ONLY);
    assert!(options::UNALIGNED == VMMEXP_EXPORT_UNALIGNED);
    assert!(options::DRY_RUN == VMMEXP_EXPORT_DRY_RUN);
    assert!(options::EVENTFD == VMMEXP_EXPORT_EVENTFD);
    assert!(state::LIVE == VMMEXP_STATE_LIVE);
    assert!(state::SUSPECT == VMMEXP_STATE_SUSPECT);
    assert!(state::STALE == VMMEXP_STATE_STALE);
    assert!(state::REVOKED == VMMEXP_STATE_REVOKED);
    assert!(state::RELEASED == VMMEXP_STATE_RELEASED);
    assert!(options::NAME_LEN == VMMEXP_NAME_LEN as usize);
};
