// SPDX-License-Identifier: GPL-2.0-only

//! Who the current task is, and what it may do.
//!
//! C headers: [`include/linux/capability.h`](srctree/include/linux/capability.h),
//! [`include/linux/sched.h`](srctree/include/linux/sched.h).

use super::helpers;
use kernel::{
    bindings,
    prelude::*, //
};

/// A capability, to be had in the initial user namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capability {
    /// Lock memory without limit.
    IpcLock,
    /// System administration.
    SysAdmin,
    /// Raw access to devices and memory.
    SysRawIo,
}

impl Capability {
    /// Whether the current task has it, which it is noted to have used then. That it has not is
    /// for no security module's log: anybody may ask as often as they like.
    pub(crate) fn is_held(self) -> bool {
        let number = match self {
            Self::IpcLock => bindings::CAP_IPC_LOCK,
            Self::SysAdmin => bindings::CAP_SYS_ADMIN,
            Self::SysRawIo => bindings::CAP_SYS_RAWIO,
        };
        // CAST: The numbers are small.
        // SAFETY: The initial user namespace is always there.
        unsafe { bindings::ns_capable_noaudit(&raw mut bindings::init_user_ns, number as i32) }
    }
}

/// Who a task was, for people to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Its process, as the initial PID namespace numbers it.
    pub(crate) pid: i32,
    /// Its real user ID in the initial user namespace.
    pub(crate) uid: u32,
    /// Its command; what follows the first NUL is NUL too.
    pub(crate) comm: [u8; bindings::TASK_COMM_LEN as usize],
}

impl Identity {
    /// That of the current task.
    pub(crate) fn of_current() -> Self {
        let mut comm = [0; bindings::TASK_COMM_LEN as usize];
        // SAFETY: There is room for a command. No other precondition.
        let uid = unsafe {
            helpers::vmmexp_helper_current_comm(comm.as_mut_ptr().cast());
            helpers::vmmexp_helper_current_uid()
        };
        Self {
            pid: current!().group_leader().pid(),
            uid,
            comm,
        }
    }
}
