// SPDX-License-Identifier: GPL-2.0-only

//! EXPORT: from ranges to a dma-buf.
//!
//! In this order, and undone in reverse by drops: the request is checked, the address ranges are
//! watched, the memory is gathered, each batch being charged before it is pinned, the rest of large
//! folios is charged, what was gathered is checked, seals are looked at, the dma-buf is made, a
//! file descriptor is reserved. The caller of [`export`] then tells user space and calls
//! [`publish`].

use super::{
    account::Charge,
    buffer::{
        Buffer,
        Facts, //
    },
    device::File,
    extent::{
        self,
        Extent, //
    },
    gather::{
        Gathered,
        Range, //
    },
    kernel_ext::{
        dma_buf::{
            self,
            Access,
            DmaBuf, //
        },
        eventfd::EventFd,
        gup,
        misc::FileRef,
        trace::{
            self,
            Timed,
            Timer, //
        },
        usercopy::{
            self,
            ReadError, //
        },
        PAGE_SHIFT,
    },
    layout::Layout,
    options::{
        Options,
        RawOptions, //
    },
    reason::{
        Failure,
        Reason, //
    },
    region::{
        self,
        Region, //
    },
    uapi::*,
    watch::{
        Life,
        Watch, //
    },
};
use core::mem::size_of;
use kernel::{
    fs::file::{
        flags::O_CLOEXEC,
        FileDescriptorReservation, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceReader, //
    },
};

/// A dma-buf that user space does not know of yet.
pub(crate) struct Pending {
    dma_buf: DmaBuf<Buffer>,
    fd: FileDescriptorReservation,
}

/// Makes an exported dma-buf known to user space; nothing to do for a dry run.
pub(crate) fn publish(pending: Option<Pending>) {
    if let Some(Pending { dma_buf, fd }) = pending {
        dma_buf.install(fd);
    }
}

/// Exports what `request` asks for, and answers in it; or fails as it could not be `read`.
pub(crate) fn export(
    file: &File,
    request: &mut vmmexp_export,
    read: Result<(), Failure>,
) -> Result<Option<Pending>, Failure> {
    let timer = Timer::start(Timed::Export);
    let result = read.and_then(|()| try_export(file, request));
    if let Some(timer) = timer {
        timer.export(&event(request, &result));
    }
    result
}

/// What the trace tells of an export.
fn event(request: &vmmexp_export, result: &Result<Option<Pending>, Failure>) -> trace::Export {
    let answered = trace::Export {
        bytes: request.size,
        segs: request.nr_segs,
        kinds: request.kinds,
        flags: request.flags,
        ..Default::default()
    };
    match result {
        Ok(None) => answered,
        Ok(Some(pending)) => trace::Export {
            id: pending.dma_buf.id(),
            ..answered
        },
        Err(failure) => trace::Export {
            reason: failure.reason as u32,
            error: -failure.errno,
            offset: failure.offset,
            ..answered
        },
    }
}

fn try_export(file: &File, request: &mut vmmexp_export) -> Result<Option<Pending>, Failure> {
    let options = check_options(file, request)?;
    let event_fd = options.eventfd.map(open_event_fd).transpose()?;
    let (ranges, layout) = read_ranges(file, request, &options)?;

    let charge = Charge::new(file.accounts())?;
    let charge = Arc::new(charge, GFP_KERNEL_ACCOUNT).map_err(|_| Reason::NoMemory)?;
    let life = Life::new(event_fd).map_err(|_| Reason::NoMemory)?;
    let watch = Watch::new(&ranges, life)?;
    let writable = !options.read_only;
    let gathered = Gathered::new(&ranges, file.sources(), &charge, &layout, writable)?;
    check_extents(&options, &layout, gathered.extents())?;
    gathered.check_seals()?;
    let facts = Facts::new(&layout, gathered.extents(), gathered.kinds());
    if options.dry_run {
        set_facts(request, &facts);
        return Ok(None);
    }

    watch.gathered(gathered.extents());
    let exporter = Buffer::new(
        gathered.extents(),
        facts,
        request.flags,
        file.owner().clone(),
        watch,
        charge.clone(),
        file.registry().clone(),
    );
    let vmap = exporter.may_be_vmapped();
    let memory = gathered.finish();
    let dma_buf = DmaBuf::export(
        exporter,
        memory,
        &dma_buf::Options {
            access: if options.read_only {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            },
            vmap,
            name: options.name(),
            maintainer: file.maintainer().clone(),
            queue: file.queue().clone(),
        },
    )
    .map_err(|err| failed(Reason::ExportFailed, err))?;
    let fd_flags = if options.cloexec { O_CLOEXEC } else { 0 };
    let fd = FileDescriptorReservation::get_unused_fd_flags(fd_flags)
        .map_err(|err| failed(Reason::NoFd, err))?;
    dma_buf
        .publish(dma_buf.id(), &request.name, dma_buf.users())
        .map_err(|_| Reason::NoMemory)?;
    set_facts(request, &facts);
    // CAST: File descriptors are positive `int`s.
    request.fd = fd.reserved_fd() as i32;
    Ok(Some(Pending { dma_buf, fd }))
}

/// A failure with the errno of `err`, for `reason` unless the errno tells better.
fn failed(reason: Reason, err: Error) -> Failure {
    let reason = match err {
        err if err == ENOMEM => Reason::NoMemory,
        err if err == EMFILE || err == ENFILE => Reason::NoFd,
        _ => reason,
    };
    Failure {
        reason,
        errno: -err.to_errno(),
        offset: 0,
    }
}

fn set_facts(request: &mut vmmexp_export, facts: &Facts) {
    request.size = facts.size;
    request.data_offset = facts.data_offset;
    request.data_size = facts.data_size;
    request.nr_segs = facts.nr_segs;
    request.kinds = facts.kinds;
    request.alignment = facts.alignment;
}

fn check_options(file: &File, request: &vmmexp_export) -> Result<Options, Failure> {
    let options = Options::check(
        &RawOptions {
            flags: request.flags,
            pad: request.pad,
            fd_flags: request.fd_flags,
            event_fd: request.event_fd,
            max_segs: request.max_segs,
            phys_bits: request.phys_bits,
            name: request.name,
        },
        O_CLOEXEC,
    )?;
    if !options.read_only && !file.writable() {
        return Err(Reason::ReadOnly.into());
    }
    Ok(options)
}

/// Where state changes are to be signalled.
fn open_event_fd(fd: i32) -> Result<EventFd, Failure> {
    EventFd::from_fd(fd).map_err(|_| Reason::BadEventFd.into())
}

/// Whether the elements of an array of `T`, `size` bytes each, can be read.
pub(crate) fn element_size_fits<T>(size: u32) -> bool {
    let size = size as usize;
    (size_of::<T>()..=PAGE_SIZE).contains(&size) && size % 8 == 0
}

/// A reader of an array of `count` elements of `size` bytes at `addr` in user space.
pub(crate) fn array_reader(addr: u64, count: u32, size: u32) -> Result<UserSliceReader, Failure> {
    let addr = usize::try_from(addr).map_err(|_| Reason::ArrayFault)?;
    // No overflow: counts and sizes were checked to be small.
    let len = count as usize * size as usize;
    Ok(UserSlice::new(UserPtr::from_addr(addr), len).reader())
}

/// Reads and checks all ranges.
fn read_ranges(
    file: &File,
    request: &vmmexp_export,
    options: &Options,
) -> Result<(KVVec<Range>, Layout), Failure> {
    if !element_size_fits::<vmmexp_range>(request.range_size) {
        return Err(Reason::ElementSize.into());
    }
    match request.nr_ranges {
        0 => return Err(Reason::NoRanges.into()),
        count if count <= file.max_ranges() => {}
        _ => return Err(Reason::TooManyRanges.into()),
    }
    let mut reader = array_reader(request.ranges, request.nr_ranges, request.range_size)?;
    let mut ranges = KVVec::with_capacity(request.nr_ranges as usize, GFP_KERNEL)
        .map_err(|_| Reason::NoMemory)?;
    let mut layout = Layout::new(PAGE_SHIFT, file.max_size(), options.unaligned);

    for _ in 0..request.nr_ranges {
        let at = layout.data_size();
        let mut range = vmmexp_range::default();
        usercopy::read_struct(&mut reader, request.range_size as usize, &mut range).map_err(
            |err| match err {
                ReadError::Fault => Failure::at(Reason::ArrayFault, at),
                ReadError::UnknownTail => Failure::at(Reason::UnknownTail, at),
            },
        )?;
        check_range_flags(&range).map_err(|reason| Failure::at(reason, at))?;
        let range = if range.flags & VMMEXP_RANGE_REGION != 0 {
            let region =
                find_region(file, &range, options).map_err(|reason| Failure::at(reason, at))?;
            let size = region.memory.size();
            Range::Region(
                region,
                layout.add(range.start, range.len, size, Reason::RegionRange)?,
            )
        } else {
            let start = gup::untagged(range.start);
            let end = gup::user_space_end();
            Range::Memory(layout.add(start, range.len, end, Reason::NotUser)?)
        };
        ranges
            .push_within_capacity(range)
            .map_err(|_| Reason::NoMemory)?;
    }
    Ok((ranges, layout))
}

fn check_range_flags(range: &vmmexp_range) -> Result<(), Reason> {
    if range.flags & !VMMEXP_RANGE_REGION != 0 {
        Err(Reason::Flags)
    } else if range.flags & VMMEXP_RANGE_REGION == 0 && range.region_fd != 0 {
        Err(Reason::Padding)
    } else {
        Ok(())
    }
}

/// The region that `range` is a part of, if the caller may export it so.
fn find_region(
    file: &File,
    range: &vmmexp_range,
    options: &Options,
) -> Result<Arc<Region>, Reason> {
    if file.regions().len() == 0 {
        return Err(Reason::NoRegions);
    }
    let region_file =
        FileRef::<region::File>::from_fd(range.region_fd).ok_or(Reason::BadRegionFd)?;
    if !options.read_only && !region_file.writable() {
        return Err(Reason::RegionAccess);
    }
    Ok(region_file.get().clone())
}

/// Checks what the caller demands of the memory.
fn check_extents(options: &Options, layout: &Layout, extents: &[Extent]) -> Result<(), Failure> {
    if let Some(max) = options.max_segs {
        if let Some(extent) = extents.get(max as usize) {
            return Err(Failure::at(
                Reason::MaxSegs,
                layout.request_offset(extent.first),
            ));
        }
    }
    if let Some(bits) = options.phys_bits {
        if let Some(index) = extent::first_above(extents, PAGE_SHIFT, bits) {
            return Err(Failure::at(Reason::PhysBits, layout.request_offset(index)));
        }
    }
    Ok(())
}
