// SPDX-License-Identifier: GPL-2.0-only

//! REVOKE: to end the sharing of a buffer.

use super::{
    buffer,
    device::File,
    kernel_ext::{
        task::Capability,
        trace::{
            Timed,
            Timer, //
        }, //
    },
    reason::{
        Failure,
        Reason, //
    },
    uapi::vmmexp_revoke,
};

/// Revokes the buffer that `request` names. Does not wait for who uses it.
pub(crate) fn revoke(file: &File, request: &mut vmmexp_revoke) -> Result<(), Failure> {
    if request.flags != 0 {
        return Err(Reason::Flags.into());
    }
    if request.pad != 0 {
        return Err(Reason::Padding.into());
    }
    let buffer = buffer::from_fd(request.fd)?;
    // A recipient of the buffer can open the device too, but that is another file.
    let allowed =
        file.is_of(&buffer.owner) || (buffer.owner.is_gone() && Capability::SysAdmin.is_held());
    if !allowed {
        return Err(Reason::NotOwner.into());
    }
    let timer = Timer::start(Timed::Revoke);
    // First, as the memory may be released before the call returns.
    buffer.watch.life().revoked();
    if buffer.revoke() {
        if let Some(timer) = timer {
            timer.revoke(buffer.id(), buffer.facts.size);
        }
    }
    Ok(())
}
