// SPDX-License-Identifier: GPL-2.0-only

//! The mock's ABI, `tests/kselftest/vmmexp_mock.h`.

use crate::{
    device,
    dma_buf, //
};
use kernel::{
    dma::DataDirection,
    ioctl::{
        _IOW,
        _IOWR, //
    },
    page::PAGE_SIZE,
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

const MAGIC: u32 = 0xE9;

pub(crate) const DEVICE: u32 = _IOWR::<Device>(MAGIC, 0x00);
pub(crate) const ATTACH: u32 = _IOWR::<Attach>(MAGIC, 0x01);
pub(crate) const DETACH: u32 = _IOW::<u32>(MAGIC, 0x02);
pub(crate) const MAP: u32 = _IOWR::<Map>(MAGIC, 0x03);
pub(crate) const UNMAP: u32 = _IOW::<u32>(MAGIC, 0x04);
pub(crate) const SEGMENTS: u32 = _IOWR::<Segments>(MAGIC, 0x05);
pub(crate) const DEVICE_IO: u32 = _IOW::<Io>(MAGIC, 0x06);
pub(crate) const VMAP: u32 = _IOWR::<Vmap>(MAGIC, 0x07);
pub(crate) const VUNMAP: u32 = _IOW::<u32>(MAGIC, 0x08);
pub(crate) const KERNEL_IO: u32 = _IOW::<Io>(MAGIC, 0x09);
pub(crate) const CPU_ACCESS: u32 = _IOW::<CpuAccess>(MAGIC, 0x0a);
pub(crate) const MMAP: u32 = _IOW::<i32>(MAGIC, 0x0b);
pub(crate) const INVALIDATED: u32 = _IOWR::<Invalidated>(MAGIC, 0x0c);
pub(crate) const PCI: u32 = _IOW::<u32>(MAGIC, 0x0d);

const COHERENT: u32 = 1 << 0;
const NON_COHERENT: u32 = 1 << 1;
const DMA_PARMS: u32 = 1 << 2;

const IMPORTER_OPS: u32 = 1 << 0;
const PEER2PEER: u32 = 1 << 1;
const INVALIDATE: u32 = 1 << 2;
const LET_GO: u32 = 1 << 3;

const NAME_LEN: usize = 32;

/// Structures of the ABI and their sizes: made of integers, without padding.
macro_rules! plain {
    ($($type:ty: $size:literal),* $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size);

        // SAFETY: All bytes are those of integers, for which any value is valid: the fields fill
        // the structure, as its size tells.
        unsafe impl FromBytes for $type {}

        // SAFETY: All bytes are those of integers, there is no padding: the fields fill the
        // structure, as its size tells.
        unsafe impl AsBytes for $type {}
    )*};
}

plain! {
    Device: 72,
    Attach: 24,
    Map: 40,
    Segment: 32,
    Segments: 24,
    Io: 32,
    Vmap: 16,
    CpuAccess: 16,
    Invalidated: 8,
}

/// `struct vmmexp_mock_device`
#[repr(C)]
pub(crate) struct Device {
    flags: u32,
    dma_mask_bits: u32,
    bus_dma_limit: u64,
    max_segment_size: u32,
    pub(crate) coherent: u32,
    window_border: u64,
    window_shift: u64,
    name: [u8; NAME_LEN],
}

impl Device {
    /// What is asked for.
    pub(crate) fn limits(&self) -> Result<device::Limits> {
        let has_parms = self.flags & DMA_PARMS != 0;
        if self.flags & !(COHERENT | NON_COHERENT | DMA_PARMS) != 0
            || (self.max_segment_size != 0 && !has_parms)
            || (self.window_shift != 0 && self.window_border == 0)
        {
            return Err(EINVAL);
        }
        Ok(device::Limits {
            dma_mask: match self.dma_mask_bits {
                bits @ 1..=64 => u64::MAX >> (64 - bits),
                _ => return Err(EINVAL),
            },
            bus_dma_limit: self.bus_dma_limit,
            max_segment_size: has_parms.then_some(self.max_segment_size),
            coherent: match self.flags & (COHERENT | NON_COHERENT) {
                0 => None,
                COHERENT => Some(true),
                NON_COHERENT => Some(false),
                _ => return Err(EINVAL),
            },
            windows: (self.window_border != 0).then_some((self.window_border, self.window_shift)),
        })
    }

    /// Tell the name, cut to what there is room for.
    pub(crate) fn set_name(&mut self, name: &CStr) {
        let name = name.to_bytes();
        let len = name.len().min(NAME_LEN - 1);
        self.name = [0; NAME_LEN];
        self.name[..len].copy_from_slice(&name[..len]);
    }
}

/// `struct vmmexp_mock_attach`
#[repr(C)]
pub(crate) struct Attach {
    pub(crate) fd: i32,
    flags: u32,
    pub(crate) attachment: u32,
    pub(crate) peer2peer: u32,
    pub(crate) size: u64,
}

impl Attach {
    /// What is asked for.
    pub(crate) fn kind(&self) -> Result<dma_buf::AttachKind> {
        let let_go = self.flags & LET_GO != 0;
        let invalidate = self.flags & INVALIDATE != 0;
        if self.flags & !(IMPORTER_OPS | PEER2PEER | INVALIDATE | LET_GO) != 0
            || (let_go && !invalidate)
        {
            return Err(EINVAL);
        }
        if self.flags & IMPORTER_OPS != 0 {
            Ok(dma_buf::AttachKind::Ops {
                peer2peer: self.flags & PEER2PEER != 0,
                invalidate,
                let_go,
            })
        } else if self.flags == 0 {
            Ok(dma_buf::AttachKind::Plain)
        } else {
            Err(EINVAL)
        }
    }
}

/// The direction of a transfer, as the device sees it.
pub(crate) fn direction(value: u32) -> Result<DataDirection> {
    match value {
        0 => Ok(DataDirection::Bidirectional),
        1 => Ok(DataDirection::ToDevice),
        2 => Ok(DataDirection::FromDevice),
        _ => Err(EINVAL),
    }
}

/// `struct vmmexp_mock_map`
#[repr(C)]
pub(crate) struct Map {
    pub(crate) attachment: u32,
    pub(crate) direction: u32,
    pub(crate) map: u32,
    pub(crate) nents: u32,
    pub(crate) orig_nents: u32,
    pub(crate) pad: u32,
    pub(crate) sg_table: u64,
    pub(crate) sgl: u64,
}

/// `struct vmmexp_mock_segment`
#[repr(C)]
pub(crate) struct Segment {
    pub(crate) dma_address: u64,
    pub(crate) dma_length: u64,
    pub(crate) phys: u64,
    pub(crate) length: u64,
}

/// `struct vmmexp_mock_segments`
#[repr(C)]
pub(crate) struct Segments {
    pub(crate) segments: u64,
    pub(crate) nr_segments: u32,
    pub(crate) map: u32,
    pub(crate) first: u32,
    pub(crate) filled: u32,
}

/// `struct vmmexp_mock_io`
#[repr(C)]
pub(crate) struct Io {
    data: u64,
    offset: u64,
    len: u64,
    pub(crate) handle: u32,
    write: u32,
}

impl Io {
    /// Move the bytes asked for, a page at most at a time.
    ///
    /// `copy` is given the offset in the buffer, a place for the bytes, and whether they go to
    /// the buffer.
    pub(crate) fn transfer(
        &self,
        mut copy: impl FnMut(u64, &mut [u8], bool) -> Result,
    ) -> Result<isize> {
        let write = match self.write {
            0 => false,
            1 => true,
            _ => return Err(EINVAL),
        };
        let len = usize::try_from(self.len).map_err(|_| EINVAL)?;
        let address = usize::try_from(self.data).map_err(|_| EFAULT)?;
        self.offset.checked_add(self.len).ok_or(EINVAL)?;

        let mut bounce = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        let (mut reader, mut writer) =
            UserSlice::new(UserPtr::from_addr(address), len).reader_writer();
        let mut done = 0;
        while done < len {
            let step = PAGE_SIZE.min(len - done);
            let bytes = &mut bounce[..step];
            let offset = self.offset + done as u64;
            if write {
                reader.read_slice(bytes)?;
                copy(offset, bytes, true)?;
            } else {
                copy(offset, bytes, false)?;
                writer.write_slice(bytes)?;
            }
            done += step;
        }
        Ok(0)
    }
}

/// `struct vmmexp_mock_vmap`
#[repr(C)]
pub(crate) struct Vmap {
    pub(crate) fd: i32,
    pub(crate) vmap: u32,
    pub(crate) address: u64,
}

/// `struct vmmexp_mock_cpu_access`
#[repr(C)]
pub(crate) struct CpuAccess {
    pub(crate) fd: i32,
    pub(crate) direction: u32,
    pub(crate) end: u32,
    pub(crate) pad: u32,
}

/// `struct vmmexp_mock_invalidated`
#[repr(C)]
pub(crate) struct Invalidated {
    pub(crate) attachment: u32,
    pub(crate) count: u32,
}
