// SPDX-License-Identifier: GPL-2.0-only

//! Physically contiguous runs of pages, and arithmetic over lists of them.
//!
//! Pure: no pointer is followed and nothing of the kernel is called, so the host's `cargo test`
//! covers this file (`tests/host`). Page size enters as `shift`, the base-2 logarithm of it; 64-bit
//! numbers are shifted and masked only, as 32-bit kernels have no division of them.

/// What keeps the memory of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Ordinary pages, with a `struct page` each.
    Pages,
    /// Memory that Linux does not manage, and that no `struct page` may be used of: the index of
    /// its reserved region among those of the buffer.
    Reserved(u16),
    /// Memory that another driver keeps for as long as it likes, and that no `struct page` is used
    /// of either; `cached` tells how that driver maps it.
    Foreign {
        /// Whether the CPU's accesses go to the caches.
        cached: bool,
    },
}

/// A physically contiguous run of pages of a buffer.
///
/// A list of extents describes a buffer if the `first` of each is the sum of the `pages` before
/// it; the functions below take such lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Page frame number of its first page.
    pub(crate) pfn: usize,
    /// Number of pages, at least one.
    pub(crate) pages: usize,
    /// Index in the buffer of its first page.
    pub(crate) first: usize,
    /// What keeps it.
    pub(crate) source: Source,
}

impl Extent {
    /// The index in the buffer one past its last page.
    pub(crate) fn end(&self) -> usize {
        self.first + self.pages
    }

    /// The physical address of its first byte.
    pub(crate) fn phys(&self, shift: u32) -> u64 {
        (self.pfn as u64) << shift
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self, shift: u32) -> u64 {
        (self.pages as u64) << shift
    }

    /// The page frame number of page `index` of the buffer, which must be one of this extent's.
    pub(crate) fn pfn_of(&self, index: usize) -> usize {
        self.pfn + (index - self.first)
    }
}

/// The extent which holds page `index` of the buffer.
pub(crate) fn find(extents: &[Extent], index: usize) -> Option<&Extent> {
    let after = extents.partition_point(|extent| extent.first <= index);
    let extent = extents.get(after.checked_sub(1)?)?;
    (index < extent.end()).then_some(extent)
}

/// Whether all of a buffer consists of ordinary pages.
pub(crate) fn all_pages(extents: &[Extent]) -> bool {
    extents.iter().all(|extent| extent.source == Source::Pages)
}

/// The number of pages of a buffer.
pub(crate) fn page_count(extents: &[Extent]) -> usize {
    extents.last().map_or(0, Extent::end)
}

/// The largest power of two, at most `cap`, itself one, dividing the start of every extent and the
/// length of every extent but the last: what each border within the buffer is aligned to.
pub(crate) fn alignment(extents: &[Extent], shift: u32, cap: u64) -> u64 {
    let Some((last, others)) = extents.split_last() else {
        return cap;
    };
    let bits = others.iter().fold(cap | last.phys(shift), |bits, extent| {
        bits | extent.phys(shift) | extent.bytes(shift)
    });
    1 << bits.trailing_zeros()
}

/// The index of the first page which has a byte at or above `2^bits`, if any. `bits` of 64 and
/// above is no limit.
pub(crate) fn first_above(extents: &[Extent], shift: u32, bits: u32) -> Option<usize> {
    let pfn_bits = bits.saturating_sub(shift);
    if pfn_bits >= u64::BITS - shift {
        return None;
    }
    let limit = if bits < shift { 0 } else { 1u64 << pfn_bits };
    extents.iter().find_map(|extent| {
        let below = limit.saturating_sub(extent.pfn as u64);
        (below < extent.pages as u64).then(|| extent.first + below as usize)
    })
}

/// A physically contiguous piece of a buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Physical address of its first byte.
    pub(crate) phys: u64,
    /// Its length in bytes, at least one.
    pub(crate) len: u64,
    /// What keeps it.
    pub(crate) source: Source,
}

/// The pieces of at most `max` bytes each, in buffer order, which make up the `len` bytes from
/// `offset` on.
///
/// The range must lie within the buffer and `max` must not be zero; what lies beyond the end of
/// the buffer is left out.
pub(crate) fn pieces(
    extents: &[Extent],
    shift: u32,
    offset: u64,
    len: u64,
    max: u64,
) -> impl Iterator<Item = Piece> + '_ {
    let mut offset = offset;
    let mut left = len;
    let first = extents.partition_point(|extent| (extent.end() as u64) << shift <= offset);
    let mut rest = &extents[first..];
    core::iter::from_fn(move || {
        let (extent, tail) = rest.split_first()?;
        if left == 0 {
            return None;
        }
        let into = offset - ((extent.first as u64) << shift);
        let available = extent.bytes(shift) - into;
        let len = left.min(available).min(max);
        if len == available {
            rest = tail;
        }
        offset += len;
        left -= len;
        Some(Piece {
            phys: extent.phys(shift) + into,
            len,
            source: extent.source,
        })
    })
}

/// The number of [`pieces`] of at most `max` pages that the whole buffer has. `max` must not be
/// zero.
pub(crate) fn piece_count(extents: &[Extent], max: usize) -> usize {
    extents
        .iter()
        .map(|extent| extent.pages.div_ceil(max))
        .sum()
}

/// A part of a folio (a block of pages that are allocated, and stay, together).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartialFolio {
    /// The page frame number of the folio's first page.
    pub(crate) pfn: usize,
    /// How many pages it has.
    pub(crate) pages: usize,
    /// How many of these are in the part.
    pub(crate) part: usize,
}

/// The folios of which an extent of ordinary pages has a part only. That can be the first and the
/// last of each: as an extent is contiguous it has those between whole. `folio_of` returns first
/// page frame and number of pages of the folio which a page frame belongs to.
pub(crate) fn partial_folios<'a>(
    extents: &'a [Extent],
    folio_of: impl Fn(usize) -> (usize, usize) + 'a,
) -> impl Iterator<Item = PartialFolio> + 'a {
    extents
        .iter()
        .filter(|extent| extent.source == Source::Pages)
        .flat_map(move |extent| {
            let end = extent.pfn + extent.pages;
            let part = |pfn: usize| {
                let (first, pages) = folio_of(pfn);
                PartialFolio {
                    pfn: first,
                    pages,
                    part: end.min(first + pages) - extent.pfn.max(first),
                }
            };
            let first = part(extent.pfn);
            // Not if that is the same folio.
            let last = (end > first.pfn + first.pages).then(|| part(end - 1));
            [Some(first), last]
        })
        .flatten()
        .filter(|folio| folio.part < folio.pages)
}

/// How many pages more than their parts the folios have, each counted once. (Of one that another
/// extent has whole nothing is known here: that counts besides, as repeats do.) They must be sorted
/// by `pfn`.
pub(crate) fn rest_of_folios(folios: &[PartialFolio]) -> usize {
    folios
        .chunk_by(|a, b| a.pfn == b.pfn)
        .map(|parts| {
            let part = parts.iter().map(|folio| folio.part).sum();
            parts[0].pages.saturating_sub(part)
        })
        .sum()
}
