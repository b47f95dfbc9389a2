// SPDX-License-Identifier: GPL-2.0-only

//! SYNC: cache maintenance around CPU access.

use super::{
    buffer::{
        self,
        Buffer, //
    },
    device::File,
    export::{
        array_reader,
        element_size_fits, //
    },
    kernel_ext::{
        cache::Side,
        dma_buf::{
            Access,
            DmaBuf, //
        },
        gup,
        trace::{
            self,
            Timed,
            Timer, //
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
    uapi::*,
};
use kernel::{
    dma::DataDirection,
    prelude::*, //
};

/// How many bytes are done between two looks for a fatal signal.
const STEP: u64 = 64 << 20;

/// A checked piece of a buffer.
struct Piece {
    offset: u64,
    len: u64,
}

/// Does what `request` asks for.
pub(crate) fn sync(file: &File, request: &mut vmmexp_sync) -> Result<(), Failure> {
    if request.flags & !(VMMEXP_SYNC_RW | VMMEXP_SYNC_END) != 0 {
        return Err(Reason::Flags.into());
    }
    if request.pad != 0 {
        return Err(Reason::Padding.into());
    }
    let direction = match request.flags & VMMEXP_SYNC_RW {
        VMMEXP_SYNC_READ => DataDirection::FromDevice,
        VMMEXP_SYNC_WRITE => DataDirection::ToDevice,
        VMMEXP_SYNC_RW => DataDirection::Bidirectional,
        _ => return Err(Reason::SyncDirection.into()),
    };
    let writes = request.flags & VMMEXP_SYNC_WRITE != 0;
    let buffer = buffer::from_fd(request.fd)?;
    if writes && buffer.access() == Access::ReadOnly {
        return Err(Reason::ReadOnly.into());
    }
    let pieces = read_pieces(request, &buffer, file.max_ranges())?;
    let side = if request.flags & VMMEXP_SYNC_END != 0 {
        Side::Device
    } else {
        Side::Cpu
    };

    let timer = Timer::start(Timed::Sync);
    let result = sync_pieces(&buffer, &pieces, direction, side);
    if let Some(timer) = timer {
        timer.sync(&trace::Sync {
            id: buffer.id(),
            direction,
            end: side == Side::Device,
            bytes: pieces.iter().map(|piece| piece.len).sum(),
            error: result
                .as_ref()
                .map_or_else(|failure| -failure.errno, |()| 0),
        });
    }
    result
}

fn sync_pieces(
    buffer: &DmaBuf<Buffer>,
    pieces: &[Piece],
    direction: DataDirection,
    side: Side,
) -> Result<(), Failure> {
    if side == Side::Cpu {
        if buffer.is_revoked() {
            return Err(Reason::Revoked.into());
        }
        // As `DMA_BUF_IOCTL_SYNC`: what devices are still at has to be over.
        let writes = !matches!(direction, DataDirection::FromDevice);
        buffer.wait_for_devices(writes).map_err(|err| Failure {
            reason: Reason::Interrupted,
            errno: -err.to_errno(),
            offset: 0,
        })?;
    }
    for piece in pieces {
        let end = piece.offset + piece.len;
        let mut offset = piece.offset;
        while offset < end {
            // Whoever is being killed will not look at the memory any more.
            if gup::fatal_signal_pending() {
                return Err(Reason::Interrupted.into());
            }
            let len = STEP.min(end - offset);
            buffer.sync(offset, len, direction, side);
            offset += len;
        }
    }
    Ok(())
}

/// Reads and checks all ranges; without any, all of the buffer is meant.
fn read_pieces(
    request: &vmmexp_sync,
    buffer: &DmaBuf<Buffer>,
    max_ranges: u32,
) -> Result<KVVec<Piece>, Failure> {
    let mut pieces =
        KVVec::with_capacity(request.nr_ranges.clamp(1, max_ranges) as usize, GFP_KERNEL)
            .map_err(|_| Reason::NoMemory)?;
    let size = buffer.facts.size;

    if request.nr_ranges == 0 {
        if request.ranges != 0 || request.range_size != 0 {
            return Err(Reason::NoRanges.into());
        }
        let all = Piece {
            offset: 0,
            len: size,
        };
        pieces
            .push_within_capacity(all)
            .map_err(|_| Reason::NoMemory)?;
        return Ok(pieces);
    }
    if !element_size_fits::<vmmexp_sync_range>(request.range_size) {
        return Err(Reason::ElementSize.into());
    }
    if request.nr_ranges > max_ranges {
        return Err(Reason::TooManyRanges.into());
    }
    let mut reader = array_reader(request.ranges, request.nr_ranges, request.range_size)?;
    for index in 0..u64::from(request.nr_ranges) {
        let fail = |reason| Failure::at(reason, index);
        let mut range = vmmexp_sync_range::default();
        usercopy::read_struct(&mut reader, request.range_size as usize, &mut range).map_err(
            |err| match err {
                ReadError::Fault => fail(Reason::ArrayFault),
                ReadError::UnknownTail => fail(Reason::UnknownTail),
            },
        )?;
        if range.len == 0 {
            return Err(fail(Reason::EmptyRange));
        }
        match range.offset.checked_add(range.len) {
            Some(end) if end <= size => {}
            _ => return Err(fail(Reason::SyncRange)),
        }
        pieces
            .push_within_capacity(Piece {
                offset: range.offset,
                len: range.len,
            })
            .map_err(|_| fail(Reason::NoMemory))?;
    }
    Ok(pieces)
}
