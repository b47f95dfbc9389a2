// SPDX-License-Identifier: GPL-2.0-only

//! An importer of dma-bufs that does what user space tells it and reports what it was given.
//!
//! `/dev/vmmexp-mock` shows to a test what real importers do not show: which segments a device
//! was given, what is at their addresses, how often it was told to let go. The ABI is
//! `tests/kselftest/vmmexp_mock.h`.
//!
//! What an open file made is undone when it is closed, in the order that the types dictate: a
//! [`Mapping`] holds its [`Attachment`], which holds the dma-buf and the device.
//!
//! Lock order: `Importer::state` is taken first, then what the dma-buf core and the exporter take
//! (`dma_resv`, held by the core around map, unmap and vmap); user memory is accessed under it,
//! so `mmap_lock` nests inside. `Importer::mmap_buffer` is taken from `mmap()`, inside
//! `mmap_lock`: no user memory is accessed under it and no other lock is taken.

use kernel::{
    fs::File,
    ioctl::_IOC_SIZE,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    mm::virt::VmaNew,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

mod device;
mod dma_buf;
mod helpers;
mod registration;
mod slots;
mod uapi;

use device::Device;
use dma_buf::{
    Attachment,
    DmaBuf,
    Mapping,
    Vmap, //
};
use registration::Registration;
use slots::Slots;

module! {
    type: MockModule,
    name: "vmmexp_mock",
    authors: ["vmmexp developers"],
    description: "Importer of dma-bufs for the tests of vmmexp",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

#[pin_data]
struct MockModule {
    #[pin]
    _registration: Registration<Importer>,
}

impl kernel::InPlaceModule for MockModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let options = MiscDeviceOptions {
            name: c"vmmexp-mock",
        };
        try_pin_init!(Self {
            _registration <- Registration::register(options),
        })
    }
}

/// What one open file has done.
struct State {
    device: Arc<Device>,
    mappings: Slots<Mapping>,
    attachments: Slots<Arc<Attachment>>,
    vmaps: Slots<Vmap>,
}

/// An open `/dev/vmmexp-mock`.
#[pin_data]
struct Importer {
    #[pin]
    state: Mutex<State>,
    /// The buffer that `mmap()` of this file maps.
    #[pin]
    mmap_buffer: Mutex<Option<DmaBuf>>,
}

/// Take an argument from the user, handle it, give it back with the answers in it.
///
/// What `handle` makes is to be kept by `Slots::insert`, after the answer is with the user: then
/// nothing is left behind when the user's memory turns out to be inaccessible.
fn with_argument<T: FromBytes + AsBytes>(
    argument: UserSlice,
    handle: impl FnOnce(T, &mut dyn FnMut(&T) -> Result) -> Result,
) -> Result<isize> {
    let (mut reader, mut writer) = argument.reader_writer();
    handle(reader.read()?, &mut |answer| writer.write(answer))?;
    Ok(0)
}

/// Take an argument that has no answer.
fn read_argument<T: FromBytes>(argument: UserSlice) -> Result<T> {
    argument.reader().read()
}

/// User memory by an address that may be wider than this kernel's.
fn user_slice(address: u64, len: u64) -> Result<UserSlice> {
    let address = usize::try_from(address).map_err(|_| EFAULT)?;
    let len = usize::try_from(len).map_err(|_| EFAULT)?;
    Ok(UserSlice::new(UserPtr::from_addr(address), len))
}

impl Importer {
    fn choose_device(&self, argument: UserSlice) -> Result<isize> {
        with_argument(argument, |mut request: uapi::Device, answer| {
            let device = Device::new(&request.limits()?)?;
            request.coherent = device.is_coherent().into();
            request.set_name(device.name());
            answer(&request)?;
            self.state.lock().device = device;
            Ok(())
        })
    }

    fn choose_pci(&self, argument: UserSlice) -> Result<isize> {
        let id: u32 = read_argument(argument)?;
        let device = Device::pci(id >> 16, id & 0xffff)?;
        self.state.lock().device = device;
        Ok(0)
    }

    fn attach(&self, argument: UserSlice) -> Result<isize> {
        with_argument(argument, |mut request: uapi::Attach, answer| {
            let kind = request.kind()?;
            let buffer = DmaBuf::from_fd(request.fd)?;
            let mut state = self.state.lock();
            let attachment = Attachment::new(buffer, state.device.clone(), kind)?;
            request.peer2peer = attachment.peer2peer().into();
            request.size = attachment.buffer().size() as u64;
            state.attachments.insert(attachment, |id| {
                request.attachment = id;
                answer(&request)
            })
        })
    }

    fn detach(&self, argument: UserSlice) -> Result<isize> {
        let id = read_argument(argument)?;
        let mut state = self.state.lock();
        let attachment = state.attachments.get(id)?;
        if state
            .mappings
            .iter()
            .any(|mapping| core::ptr::eq(mapping.attachment(), &**attachment))
        {
            return Err(EBUSY);
        }
        state.attachments.remove(id)?;
        Ok(0)
    }

    fn map(&self, argument: UserSlice) -> Result<isize> {
        with_argument(argument, |mut request: uapi::Map, answer| {
            if request.pad != 0 {
                return Err(EINVAL);
            }
            let direction = uapi::direction(request.direction)?;
            let mut state = self.state.lock();
            let attachment = state.attachments.get(request.attachment)?.clone();
            let mapping = Mapping::new(attachment, direction)?;
            (request.nents, request.orig_nents) = mapping.entries();
            (request.sg_table, request.sgl) = mapping.addresses();
            state.mappings.insert(mapping, |id| {
                request.map = id;
                answer(&request)
            })
        })
    }

    fn unmap(&self, argument: UserSlice) -> Result<isize> {
        let id = read_argument(argument)?;
        self.state.lock().mappings.remove(id)?;
        Ok(0)
    }

    fn segments(&self, argument: UserSlice) -> Result<isize> {
        with_argument(argument, |mut request: uapi::Segments, answer| {
            let state = self.state.lock();
            let mapping = state.mappings.get(request.map)?;
            let (_, entries) = mapping.entries();
            let wanted = request
                .nr_segments
                .min(entries.saturating_sub(request.first));
            let size = u64::from(wanted) * size_of::<uapi::Segment>() as u64;
            let mut writer = user_slice(request.segments, size)?.writer();
            for segment in mapping
                .segments()?
                .skip(request.first as usize)
                .take(wanted as usize)
            {
                writer.write(&uapi::Segment {
                    dma_address: segment.dma_address,
                    dma_length: segment.dma_length,
                    phys: segment.phys.unwrap_or(u64::MAX),
                    length: segment.length,
                })?;
            }
            request.filled = wanted;
            answer(&request)
        })
    }

    fn device_io(&self, argument: UserSlice) -> Result<isize> {
        let request: uapi::Io = read_argument(argument)?;
        let state = self.state.lock();
        let mapping = state.mappings.get(request.handle)?;
        request.transfer(|offset, bytes, write| mapping.copy(offset, bytes, write))
    }

    fn vmap(&self, argument: UserSlice) -> Result<isize> {
        with_argument(argument, |mut request: uapi::Vmap, answer| {
            let vmap = Vmap::new(DmaBuf::from_fd(request.fd)?)?;
            request.address = vmap.address();
            self.state.lock().vmaps.insert(vmap, |id| {
                request.vmap = id;
                answer(&request)
            })
        })
    }

    fn vunmap(&self, argument: UserSlice) -> Result<isize> {
        let id = read_argument(argument)?;
        self.state.lock().vmaps.remove(id)?;
        Ok(0)
    }

    fn kernel_io(&self, argument: UserSlice) -> Result<isize> {
        let request: uapi::Io = read_argument(argument)?;
        let mut state = self.state.lock();
        let vmap = state.vmaps.get_mut(request.handle)?;
        request.transfer(|offset, bytes, write| vmap.copy(offset, bytes, write))
    }

    fn cpu_access(&self, argument: UserSlice) -> Result<isize> {
        let request: uapi::CpuAccess = read_argument(argument)?;
        if request.pad != 0 {
            return Err(EINVAL);
        }
        let direction = uapi::direction(request.direction)?;
        let buffer = DmaBuf::from_fd(request.fd)?;
        match request.end {
            0 => buffer.begin_cpu_access(direction)?,
            1 => buffer.end_cpu_access(direction)?,
            _ => return Err(EINVAL),
        }
        Ok(0)
    }

    fn choose_mmap(&self, argument: UserSlice) -> Result<isize> {
        let fd: i32 = read_argument(argument)?;
        let buffer = match fd {
            -1 => None,
            fd => Some(DmaBuf::from_fd(fd)?),
        };
        let _old = core::mem::replace(&mut *self.mmap_buffer.lock(), buffer);
        Ok(0)
    }

    fn invalidated(&self, argument: UserSlice) -> Result<isize> {
        with_argument(argument, |mut request: uapi::Invalidated, answer| {
            let state = self.state.lock();
            request.count = state.attachments.get(request.attachment)?.invalidations();
            answer(&request)
        })
    }
}

#[vtable]
impl MiscDevice for Importer {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        let device = Device::new(&device::Limits::default())?;
        KBox::try_pin_init(
            try_pin_init!(Importer {
                state <- new_mutex!(
                    State {
                        device,
                        mappings: Slots::new(),
                        attachments: Slots::new(),
                        vmaps: Slots::new(),
                    },
                    "vmmexp_mock::state"
                ),
                mmap_buffer <- new_mutex!(None, "vmmexp_mock::mmap_buffer"),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(me: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let argument = UserSlice::new(UserPtr::from_addr(arg), _IOC_SIZE(cmd));
        match cmd {
            uapi::DEVICE => me.choose_device(argument),
            uapi::ATTACH => me.attach(argument),
            uapi::DETACH => me.detach(argument),
            uapi::MAP => me.map(argument),
            uapi::UNMAP => me.unmap(argument),
            uapi::SEGMENTS => me.segments(argument),
            uapi::DEVICE_IO => me.device_io(argument),
            uapi::VMAP => me.vmap(argument),
            uapi::VUNMAP => me.vunmap(argument),
            uapi::KERNEL_IO => me.kernel_io(argument),
            uapi::CPU_ACCESS => me.cpu_access(argument),
            uapi::MMAP => me.choose_mmap(argument),
            uapi::PCI => me.choose_pci(argument),
            uapi::INVALIDATED => me.invalidated(argument),
            _ => Err(ENOTTY),
        }
    }

    fn mmap(me: Pin<&Self>, _file: &File, vma: &VmaNew) -> Result {
        let buffer = me.mmap_buffer.lock().as_ref().ok_or(ENODEV)?.clone();
        buffer.mmap(vma)
    }
}
