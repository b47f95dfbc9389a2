// SPDX-License-Identifier: GPL-2.0-only

//! What the current task may do.
//!
//! C header: [`include/linux/capability.h`](srctree/include/linux/capability.h).

use kernel::bindings;

/// A capability, to be had in the initial user namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capability {
    /// Lock memory without limit.
    IpcLock,
    /// System administration.
    SysAdmin,
}

impl Capability {
    /// Whether the current task has it, which it is noted to have used then.
    pub(crate) fn is_held(self) -> bool {
        let number = match self {
            Self::IpcLock => bindings::CAP_IPC_LOCK,
            Self::SysAdmin => bindings::CAP_SYS_ADMIN,
        };
        // CAST: The numbers are small.
        // SAFETY: No precondition.
        unsafe { bindings::capable(number as i32) }
    }
}
