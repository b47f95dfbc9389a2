// SPDX-License-Identifier: GPL-2.0-only

//! The options of an export, checked.
//!
//! Pure, see `extent.rs`.

use super::reason::Reason;

/// Bytes of a name with its NUL: `VMMEXP_NAME_LEN`.
pub(crate) const NAME_LEN: usize = 32;

/// The part of an EXPORT request that is not about memory, as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawOptions {
    pub(crate) flags: u32,
    pub(crate) pad: u32,
    pub(crate) fd_flags: u32,
    pub(crate) event_fd: i32,
    pub(crate) max_segs: u32,
    pub(crate) phys_bits: u32,
    pub(crate) name: [u8; NAME_LEN],
}

/// The options of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) read_only: bool,
    pub(crate) unaligned: bool,
    pub(crate) dry_run: bool,
    pub(crate) eventfd: Option<i32>,
    pub(crate) cloexec: bool,
    pub(crate) max_segs: Option<u32>,
    pub(crate) phys_bits: Option<u32>,
    name: [u8; NAME_LEN],
    name_len: usize,
}

/// `VMMEXP_EXPORT_READ_ONLY`.
pub(crate) const READ_ONLY: u32 = 1 << 0;
/// `VMMEXP_EXPORT_UNALIGNED`.
pub(crate) const UNALIGNED: u32 = 1 << 1;
/// `VMMEXP_EXPORT_DRY_RUN`.
pub(crate) const DRY_RUN: u32 = 1 << 2;
/// `VMMEXP_EXPORT_EVENTFD`.
pub(crate) const EVENTFD: u32 = 1 << 3;

impl Options {
    /// Checks everything; `o_cloexec` is this architecture's.
    pub(crate) fn check(raw: &RawOptions, o_cloexec: u32) -> Result<Self, Reason> {
        let has = |flag| raw.flags & flag != 0;

        if raw.flags & !(READ_ONLY | UNALIGNED | DRY_RUN | EVENTFD) != 0 {
            return Err(Reason::Flags);
        }
        if raw.pad != 0 || (!has(EVENTFD) && raw.event_fd != 0) {
            return Err(Reason::Padding);
        }
        if raw.fd_flags & !o_cloexec != 0 {
            return Err(Reason::FdFlags);
        }
        let Some(name_len) = raw.name.iter().position(|&byte| byte == 0) else {
            return Err(Reason::Name);
        };
        if raw.name[name_len..].iter().any(|&byte| byte != 0) {
            return Err(Reason::Padding);
        }
        if raw.phys_bits > u64::BITS {
            return Err(Reason::PhysBitsValue);
        }
        Ok(Self {
            read_only: has(READ_ONLY),
            unaligned: has(UNALIGNED),
            dry_run: has(DRY_RUN),
            eventfd: has(EVENTFD).then_some(raw.event_fd),
            cloexec: raw.fd_flags != 0,
            max_segs: (raw.max_segs != 0).then_some(raw.max_segs),
            phys_bits: (raw.phys_bits != 0).then_some(raw.phys_bits),
            name: raw.name,
            name_len,
        })
    }

    /// The name with its NUL, or `None` if there is none.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        (self.name_len != 0).then(|| &self.name[..=self.name_len])
    }
}
