// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/vmmexp`: its files, and the way of an ioctl in and out.

use super::{
    account::Accounts,
    export,
    gather::{
        Foreign,
        Sources, //
    },
    info,
    kernel_ext::{
        self,
        cache::Maintainer,
        misc::{
            FileOps,
            MiscFile, //
        },
        usercopy::{
            self,
            ReadError, //
        },
        workqueue::OwnedQueue,
        PAGE_SHIFT, //
    },
    reason::{
        Failure,
        Reason, //
    },
    region::Regions,
    registry::Registry,
    revoke, sync,
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
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};

/// What the administrator allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest buffer, bytes; 0 for as much memory as there is.
    pub(crate) buffer_bytes: u64,
    /// The most ranges in one call.
    pub(crate) ranges: u32,
    /// The most that one user is charged, bytes; 0 for what their `RLIMIT_MEMLOCK` allows.
    pub(crate) user_bytes: u64,
    /// Whether memory that cannot be held may be exported, by who may do worse.
    pub(crate) any_pfn: bool,
}

/// The most ranges in one call that the administrator can allow.
const MOST_RANGES: u32 = 1 << 16;

/// The device: what its files share.
pub(crate) struct Device {
    maintainer: Maintainer,
    regions: Arc<Regions>,
    accounts: Arc<Accounts>,
    queue: Arc<OwnedQueue>,
    registry: Arc<Registry>,
    limits: Limits,
}

impl Device {
    /// A device whose buffers' caches `maintainer` maintains, which exports parts of `regions`
    /// too, drops revoked memory in `queue`, and lists its buffers in `registry`.
    pub(crate) fn new(
        maintainer: Maintainer,
        regions: Arc<Regions>,
        queue: Arc<OwnedQueue>,
        registry: Arc<Registry>,
        limits: Limits,
    ) -> Result<Arc<Self>> {
        let device = Self {
            maintainer,
            regions,
            accounts: Accounts::new(limits.user_bytes)?,
            queue,
            registry,
            limits,
        };
        Ok(Arc::new(device, GFP_KERNEL)?)
    }
}

/// Who made an export: an open `/dev/vmmexp`, whatever processes have it.
pub(crate) struct Owner {
    gone: Atomic<bool>,
    number: u64,
}

impl Owner {
    /// One more.
    fn new() -> Result<Arc<Self>> {
        static NEXT: Atomic<u64> = Atomic::new(0);

        let this = Self {
            gone: Atomic::new(false),
            number: NEXT.fetch_add(1u64, Relaxed),
        };
        Ok(Arc::new(this, GFP_KERNEL_ACCOUNT)?)
    }

    /// A number that no other has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the file was closed by everybody who had it.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }
}

/// An open `/dev/vmmexp`.
pub(crate) struct File {
    device: Arc<Device>,
    owner: Arc<Owner>,
    /// Opened for writing too. If not, only READ_ONLY exports can be made through it.
    writable: bool,
}

impl File {
    /// What maintains caches on this machine.
    pub(crate) fn maintainer(&self) -> &Maintainer {
        &self.device.maintainer
    }

    /// The carve-outs of this machine.
    pub(crate) fn regions(&self) -> &Regions {
        &self.device.regions
    }

    /// What users are charged.
    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.device.accounts
    }

    /// Where revoked memory is dropped.
    pub(crate) fn queue(&self) -> &Arc<OwnedQueue> {
        &self.device.queue
    }

    /// The buffers there are.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.device.registry
    }

    /// What exports through this file are known to be of.
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Whether an export of `owner` was made through this file.
    pub(crate) fn is_of(&self, owner: &Arc<Owner>) -> bool {
        Arc::ptr_eq(&self.owner, owner)
    }

    /// Where page frames without references may come from.
    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            regions: self.regions(),
            foreign: self.device.limits.any_pfn.then(|| Foreign {
                cached: !self.maintainer().is_needed(),
            }),
        }
    }

    /// Whether buffers that can be written to may be exported through this file.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    /// The most ranges in one call.
    pub(crate) fn max_ranges(&self) -> u32 {
        self.device.limits.ranges.clamp(1, MOST_RANGES)
    }

    /// The largest buffer, bytes, a whole number of pages: what the administrator says, and at
    /// most as much memory as there is, Linux's own and that of regions. A larger one would only
    /// repeat pages.
    pub(crate) fn max_size(&self) -> u64 {
        // CAST: Whole pages of the address space.
        let addressable = (isize::MAX as usize & !(PAGE_SIZE - 1)) as u64;
        let ram = (kernel_ext::total_ram_pages() as u64) << PAGE_SHIFT;
        let there_is = addressable.min(ram + self.regions().size());
        match self.device.limits.buffer_bytes {
            0 => there_is,
            allowed => there_is.min(allowed & !(PAGE_SIZE as u64 - 1)),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.owner.gone.store(true, Release);
    }
}

static OPS: FileOps<File> = FileOps::new();

impl MiscFile for File {
    type Device = Arc<Device>;

    fn ops() -> &'static FileOps<Self> {
        &OPS
    }

    fn open(device: &Arc<Device>, file: &fs::File) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            owner: Owner::new()?,
            writable: file.flags() & fs::file::flags::O_ACCMODE != fs::file::flags::O_RDONLY,
        })
    }

    fn ioctl(&self, _file: &fs::File, cmd: u32, arg: usize) -> Result<isize> {
        let call = Call {
            addr: arg,
            size: _IOC_SIZE(cmd),
        };
        match uapi::number(cmd) {
            Some(vmmexp_export::NR) => {
                call.answer_any(|r, read| export::export(self, r, read), export::publish)
            }
            Some(vmmexp_sync::NR) => call.answer(|r| sync::sync(self, r), drop),
            Some(vmmexp_info::NR) => call.answer(|r| info::info(self, r), drop),
            Some(vmmexp_query::NR) => call.answer(info::query, drop),
            Some(vmmexp_revoke::NR) => call.answer(|r| revoke::revoke(self, r), drop),
            _ => Err(ENOTTY),
        }
    }

    fn show_fdinfo(&self, seq: &SeqFile) {
        self.registry().show_of(&self.owner, seq);
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
        let handle_known = |request: &mut R, read: Result<(), Failure>| {
            read?;
            handle(request)
        };
        self.answer_any(handle_known, publish)
    }

    /// The same, but `handle` is also to answer a request that says more than this module knows:
    /// then it is told so.
    fn answer_any<R: Request, T>(
        &self,
        handle: impl FnOnce(&mut R, Result<(), Failure>) -> Result<T, Failure>,
        publish: impl FnOnce(T),
    ) -> Result<isize> {
        if self.size < R::SIZE_MIN {
            return Err(EINVAL);
        }
        let mut request = R::default();
        let read = usercopy::read_struct_at(self.addr, self.size, &mut request);
        request.clear_answers();
        let read = match read {
            Ok(()) => Ok(()),
            Err(ReadError::UnknownTail) => Err(Reason::UnknownTail.into()),
            Err(ReadError::Fault) => return Err(EFAULT),
        };
        let outcome = handle(&mut request, read);
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
