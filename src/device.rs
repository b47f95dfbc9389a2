// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/vmmexp`: its files, and the way of an ioctl in and out.

use super::{
    export,
    gather::{
        Foreign,
        Sources, //
    },
    info,
    kernel_ext::{
        cache::Maintainer,
        misc::{
            FileOps,
            MiscFile, //
        },
        usercopy::{
            self,
            ReadError, //
        },
    },
    reason::{
        Failure,
        Reason, //
    },
    region::Regions,
    sync,
    uapi::{
        self,
        vmmexp_export,
        vmmexp_info,
        vmmexp_query,
        vmmexp_revoke,
        vmmexp_sync,
        Request, //
    },
};
use kernel::{
    fs,
    ioctl::_IOC_SIZE,
    prelude::*,
    sync::Arc, //
};

/// The device: what its files share.
pub(crate) struct Device {
    maintainer: Maintainer,
    regions: Arc<Regions>,
    any_pfn: bool,
}

impl Device {
    /// A device whose buffers' caches `maintainer` maintains, and which exports parts of
    /// `regions` too; and, if `any_pfn`, memory that cannot be held, to who may do worse.
    pub(crate) fn new(maintainer: Maintainer, regions: Arc<Regions>, any_pfn: bool) -> Self {
        Self {
            maintainer,
            regions,
            any_pfn,
        }
    }
}

/// An open `/dev/vmmexp`.
pub(crate) struct File {
    maintainer: Maintainer,
    regions: Arc<Regions>,
    any_pfn: bool,
    /// Opened for writing too. If not, only READ_ONLY exports can be made through it.
    writable: bool,
}

impl File {
    /// What maintains caches on this machine.
    pub(crate) fn maintainer(&self) -> &Maintainer {
        &self.maintainer
    }

    /// The carve-outs of this machine.
    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Where page frames without references may come from.
    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            regions: &self.regions,
            foreign: self.any_pfn.then(|| Foreign {
                cached: !self.maintainer.is_needed(),
            }),
        }
    }

    /// Whether buffers that can be written to may be exported through this file.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }
}

static OPS: FileOps<File> = FileOps::new();

impl MiscFile for File {
    type Device = Device;

    fn ops() -> &'static FileOps<Self> {
        &OPS
    }

    fn open(device: &Device, file: &fs::File) -> Result<Self> {
        Ok(Self {
            maintainer: device.maintainer.clone(),
            regions: device.regions.clone(),
            any_pfn: device.any_pfn,
            writable: file.flags() & fs::file::flags::O_ACCMODE != fs::file::flags::O_RDONLY,
        })
    }

    fn ioctl(&self, _file: &fs::File, cmd: u32, arg: usize) -> Result<isize> {
        let call = Call {
            addr: arg,
            size: _IOC_SIZE(cmd),
        };
        match uapi::number(cmd) {
            Some(vmmexp_export::NR) => call.answer(|r| export::export(self, r), export::publish),
            Some(vmmexp_sync::NR) => call.answer(sync::sync, drop),
            Some(vmmexp_info::NR) => call.answer(|r| info::info(self, r), drop),
            Some(vmmexp_query::NR) => call.answer(info::query, drop),
            Some(vmmexp_revoke::NR) => call.answer(
                |_: &mut vmmexp_revoke| Err(Reason::NoRevoke.into()),
                |()| (),
            ),
            _ => Err(ENOTTY),
        }
    }
}

/// Where a caller has a request.
struct Call {
    addr: usize,
    size: usize,
}

impl Call {
    /// Reads the request, lets `handle` answer it in place and writes it back. What `handle`
    /// returned goes to `publish` once nothing can fail any more, and is dropped if that is never.
    fn answer<R: Request, T>(
        &self,
        handle: impl FnOnce(&mut R) -> Result<T, Failure>,
        publish: impl FnOnce(T),
    ) -> Result<isize> {
        if self.size < R::SIZE_MIN {
            return Err(EINVAL);
        }
        let mut request = R::default();
        let read = usercopy::read_struct_at(self.addr, self.size, &mut request);
        request.clear_answers();
        let outcome = match read {
            Ok(()) => handle(&mut request),
            Err(ReadError::UnknownTail) => Err(Reason::UnknownTail.into()),
            Err(ReadError::Fault) => return Err(EFAULT),
        };
        request.set_outcome(outcome.as_ref().map(|_| ()).map_err(|&failure| failure));
        usercopy::write_struct_at(self.addr, self.size, &request)?;
        match outcome {
            Ok(value) => {
                publish(value);
                Ok(0)
            }
            Err(failure) => Err(Error::from_errno(-failure.errno)),
        }
    }
}
