// SPDX-License-Identifier: GPL-2.0-only

//! From the ranges of a request to the pages of a buffer.
//!
//! Pure, see `extent.rs`.

use super::reason::{
    Failure,
    Reason, //
};

/// Whole pages of an address space or a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRange {
    /// Address of the first page.
    pub(crate) start: u64,
    /// Number of pages, at least one.
    pub(crate) pages: u64,
}

/// Where the bytes of a request lie in the buffer made of them.
///
/// Ranges are added in order. Only the first may start and only the last may end inside a page,
/// and only where that was asked for, so that request and buffer differ by one constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    shift: u32,
    max_size: u64,
    unaligned: bool,
    ended_inside: bool,
    data_offset: u64,
    data_size: u64,
}

impl Layout {
    /// An empty layout of pages of `1 << shift` bytes, which may grow to `max_size` bytes.
    ///
    /// `unaligned` allows the borders inside pages named above.
    pub(crate) const fn new(shift: u32, max_size: u64, unaligned: bool) -> Self {
        Self {
            shift,
            max_size,
            unaligned,
            ended_inside: false,
            data_offset: 0,
            data_size: 0,
        }
    }

    /// What is left of an address within its page.
    fn mask(&self) -> u64 {
        (1 << self.shift) - 1
    }

    /// `bytes` rounded up to whole pages, if that can be told in 64 bits.
    fn round_up(&self, bytes: u64) -> Option<u64> {
        Some(bytes.checked_add(self.mask())? & !self.mask())
    }

    /// Adds the next range and says which pages it covers.
    ///
    /// `limit` is the end of the space that `start` is an address of, and `beyond` the reason for
    /// a range that leaves it. A failure names the offset in the request where the offending range
    /// starts.
    pub(crate) fn add(
        &mut self,
        start: u64,
        len: u64,
        limit: u64,
        beyond: Reason,
    ) -> Result<PageRange, Failure> {
        let at = self.data_size;
        let mask = self.mask();
        let failure = |reason| Err(Failure::at(reason, at));

        if len == 0 {
            return failure(Reason::EmptyRange);
        }
        let Some(end) = start.checked_add(len) else {
            return failure(Reason::RangeOverflow);
        };
        let is_first = at == 0;
        let starts_inside = start & mask != 0;
        let ends_inside = end & mask != 0;
        if self.ended_inside || (starts_inside && !is_first) {
            return failure(Reason::Unaligned);
        }
        if (starts_inside || ends_inside) && !self.unaligned {
            return failure(Reason::Unaligned);
        }
        if end > limit {
            return failure(beyond);
        }

        let first_page = start & !mask;
        let data_offset = if is_first {
            start & mask
        } else {
            self.data_offset
        };
        let size = at
            .checked_add(len)
            .and_then(|data| data.checked_add(data_offset))
            .and_then(|bytes| self.round_up(bytes));
        let own_size = self.round_up(end - first_page);
        let (Some(size), Some(own_size)) = (size, own_size) else {
            return failure(Reason::TooBig);
        };
        if size > self.max_size {
            return failure(Reason::TooBig);
        }

        self.ended_inside = ends_inside;
        self.data_offset = data_offset;
        self.data_size = at + len;
        Ok(PageRange {
            start: first_page,
            pages: own_size >> self.shift,
        })
    }

    /// Where in the buffer the first requested byte is.
    pub(crate) fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// How many bytes were requested.
    pub(crate) fn data_size(&self) -> u64 {
        self.data_size
    }

    /// The size of the buffer: whole pages.
    pub(crate) fn size(&self) -> u64 {
        // No overflow: `add` has computed it before.
        (self.data_offset + self.data_size + self.mask()) & !self.mask()
    }

    /// The offset in the request of the first requested byte of page `index` of the buffer.
    pub(crate) fn request_offset(&self, index: usize) -> u64 {
        ((index as u64) << self.shift).saturating_sub(self.data_offset)
    }
}
