// SPDX-License-Identifier: GPL-2.0-only

//! Extents against models that look at every page, every byte, or one extent after the other in
//! numbers that cannot overflow.

use super::{
    extent::{
        alignment,
        find,
        first_above,
        page_count,
        piece_count,
        pieces,
        Extent,
        Piece, //
    },
    Size,
};
use proptest::prelude::*;

/// Of kernels with pages of 4, 16 and 64 KiB.
const SHIFTS: [u32; 3] = [12, 14, 16];

/// Page frame number and number of pages of each extent.
type Runs = Vec<(Size, Size)>;

fn extents(runs: &[(Size, Size)]) -> Vec<Extent> {
    let mut first = 0;
    runs.iter()
        .map(|&(pfn, pages)| {
            let extent = Extent { pfn, pages, first };
            first += pages;
            extent
        })
        .collect()
}

/// The page frame number of each page, in buffer order.
fn frames(runs: &[(Size, Size)]) -> Vec<u64> {
    runs.iter()
        .flat_map(|&(pfn, pages)| (0..pages).map(move |page| (pfn + page) as u64))
        .collect()
}

/// The physical address of each byte, in buffer order.
fn bytes(runs: &[(Size, Size)], shift: u32) -> Vec<u64> {
    frames(runs)
        .into_iter()
        .flat_map(|frame| (0..1 << shift).map(move |byte| frame * (1 << shift) + byte))
        .collect()
}

/// Start and length of each extent in bytes, in numbers without a limit.
fn spans(runs: &[(Size, Size)], shift: u32) -> Vec<(u128, u128)> {
    let page = 1u128 << shift;
    runs.iter()
        .map(|&(pfn, pages)| (pfn as u128 * page, pages as u128 * page))
        .collect()
}

/// The number of the last page frame that has an address of 64 bits.
fn last_frame(shift: u32) -> u64 {
    (u64::MAX >> shift).min(Size::MAX as u64)
}

/// Numbers up to `max` of any magnitude, and those around powers of two.
fn number(max: u64) -> impl Strategy<Value = u64> {
    let bits = u64::BITS - max.leading_zeros();
    prop_oneof![
        0..=max.min(40),
        (any::<u64>(), 0..=bits).prop_map(|(n, bits)| n & (((1u128 << bits) - 1) as u64)),
        (0..=bits, -3..=3i128).prop_map(move |(bit, off)| {
            ((1i128 << bit) + off).clamp(0, i128::from(max)) as u64
        }),
    ]
    .prop_map(move |n| n.min(max))
}

/// A page frame number with which `pages` pages exist.
fn frame(shift: u32, pages: Size) -> impl Strategy<Value = Size> {
    number(last_frame(shift) - (pages as u64 - 1)).prop_map(|pfn| pfn as Size)
}

/// Few pages, so that a model can look at each.
fn few_pages(shift: u32) -> impl Strategy<Value = Runs> {
    let run = (1..=7 as Size).prop_flat_map(move |pages| (frame(shift, pages), Just(pages)));
    prop::collection::vec(run, 0..10)
}

/// As many pages as can be counted, and as have 64-bit offsets in bytes.
fn many_pages(shift: u32) -> impl Strategy<Value = Runs> {
    let most = last_frame(shift);
    let run = number(most)
        .prop_map(|pages| pages.max(1) as Size)
        .prop_flat_map(move |pages| (frame(shift, pages), Just(pages)));
    prop::collection::vec(run, 0..10).prop_map(move |runs| {
        let mut left = most;
        runs.into_iter()
            .filter(|&(_, pages)| {
                let fits = pages as u64 <= left;
                if fits {
                    left -= pages as u64;
                }
                fits
            })
            .collect()
    })
}

fn with_shift<S: Strategy<Value = Runs>>(
    shifts: impl Strategy<Value = u32>,
    runs: impl Fn(u32) -> S,
) -> impl Strategy<Value = (u32, Runs)> {
    shifts.prop_flat_map(move |shift| (Just(shift), runs(shift)))
}

/// All of the few pieces there are; a failure if they come to no end.
fn few_pieces(runs: &[(Size, Size)], shift: u32, offset: u64, len: u64, max: u64) -> Vec<Piece> {
    const MANY: usize = 5000;
    let found: Vec<Piece> = pieces(&extents(runs), shift, offset, len, max)
        .take(MANY)
        .collect();
    assert!(found.len() < MANY, "no end of pieces");
    found
}

/// What [`pieces`] shall say, in numbers without a limit.
fn expected_pieces(
    runs: &[(Size, Size)],
    shift: u32,
    offset: u64,
    len: u64,
    max: u64,
    count: usize,
) -> Vec<Piece> {
    let asked_end = u128::from(offset) + u128::from(len);
    let mut at = u128::from(offset);
    let mut found = Vec::new();
    while found.len() < count && at < asked_end {
        let mut span_start = 0;
        let span = spans(runs, shift).into_iter().find(|&(_, len)| {
            span_start += len;
            at < span_start
        });
        let Some((phys, span_len)) = span else {
            break;
        };
        let into = at - (span_start - span_len);
        let len = (span_len - into).min(asked_end - at).min(u128::from(max));
        found.push(Piece {
            phys: u64::try_from(phys + into).unwrap(),
            len: u64::try_from(len).unwrap(),
        });
        at += len;
    }
    found
}

/// What [`first_above`] shall say, in numbers without a limit.
fn expected_first_above(runs: &[(Size, Size)], shift: u32, bits: u32) -> Option<u128> {
    if bits >= u64::BITS {
        return None;
    }
    let page = 1u128 << shift;
    let limit = 1u128 << bits;
    let mut before = 0;
    for (phys, len) in spans(runs, shift) {
        if phys + len > limit {
            // The pages that end at or below the limit are not it.
            let below = limit.saturating_sub(phys) / page;
            return Some(before + below);
        }
        before += len / page;
    }
    None
}

/// What [`alignment`] shall say.
fn expected_alignment(runs: &[(Size, Size)], shift: u32, cap: u64) -> u64 {
    let spans = spans(runs, shift);
    let inner = spans.len().saturating_sub(1);
    let starts = spans.iter().map(|&(phys, _)| phys);
    let lengths = spans[..inner].iter().map(|&(_, len)| len);
    let borders: Vec<u128> = starts.chain(lengths).collect();
    (0..u64::BITS)
        .map(|bit| 1u64 << bit)
        .filter(|&align| align <= cap)
        .filter(|&align| borders.iter().all(|border| border % u128::from(align) == 0))
        .max()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_page_is_found_and_no_other((_, runs) in with_shift(Just(12), few_pages)) {
        let extents = extents(&runs);
        let frames = frames(&runs);
        prop_assert_eq!(page_count(&extents) as u64, frames.len() as u64);
        for (index, &frame) in frames.iter().enumerate() {
            let index = index as Size;
            let extent = find(&extents, index).unwrap();
            prop_assert!(extents.contains(extent));
            prop_assert!(extent.first <= index && index < extent.end());
            prop_assert_eq!(extent.pfn_of(index) as u64, frame);
        }
        for beyond in 0..4 {
            prop_assert_eq!(find(&extents, frames.len() as Size + beyond), None);
        }
        prop_assert_eq!(find(&extents, Size::MAX), None);
    }

    #[test]
    fn many_pages_are_found((shift, runs) in with_shift(0..=16u32, many_pages)) {
        let extents = extents(&runs);
        let mut first = 0u128;
        for (extent, &(pfn, pages)) in extents.iter().zip(&runs) {
            let last = (first + pages as u128 - 1) as Size;
            prop_assert_eq!(find(&extents, first as Size), Some(extent));
            prop_assert_eq!(find(&extents, last), Some(extent));
            prop_assert_eq!(extent.pfn_of(first as Size), pfn);
            prop_assert_eq!(extent.pfn_of(last), pfn + (pages - 1));
            prop_assert_eq!(u128::from(extent.phys(shift)), (pfn as u128) << shift);
            prop_assert_eq!(u128::from(extent.bytes(shift)), (pages as u128) << shift);
            first += pages as u128;
        }
        prop_assert_eq!(page_count(&extents) as u128, first);
        prop_assert_eq!(find(&extents, first as Size), None);
    }

    #[test]
    fn pieces_are_the_bytes_asked_for(
        (shift, runs) in with_shift(0..=4u32, few_pages),
        from in 0.0..=1.0f64,
        up_to in 0.0..=1.0f64,
        max in prop_oneof![1..=40u64, number(u64::MAX).prop_map(|max| max.max(1))],
    ) {
        let bytes = bytes(&runs, shift);
        let offset = (from * bytes.len() as f64) as usize;
        let len = (up_to * (bytes.len() - offset) as f64) as usize;
        let found = few_pieces(&runs, shift, offset as u64, len as u64, max);
        for piece in &found {
            prop_assert!((1..=max).contains(&piece.len));
        }
        let total: u128 = found.iter().map(|piece| u128::from(piece.len)).sum();
        prop_assert_eq!(total, len as u128);
        let found: Vec<u64> = found
            .iter()
            .flat_map(|piece| (0..piece.len).map(|byte| piece.phys + byte))
            .collect();
        prop_assert_eq!(&found[..], &bytes[offset..offset + len]);
    }

    #[test]
    fn pieces_are_as_long_as_they_may(
        (shift, runs) in with_shift(0..=16u32, many_pages),
        // From anywhere, also beyond the end.
        offset in number(u64::MAX),
        len in number(u64::MAX),
        max in number(u64::MAX).prop_map(|max| max.max(1)),
        near in prop::option::of((any::<prop::sample::Index>(), -2..=2i64)),
    ) {
        // Anywhere in 64 bits is seldom near a border of an extent.
        let borders: Vec<u64> = spans(&runs, shift)
            .iter()
            .scan(0u128, |end, &(_, len)| {
                *end += len;
                Some(*end as u64)
            })
            .collect();
        let offset = match near {
            Some((border, off)) if !borders.is_empty() => {
                border.get(&borders).saturating_add_signed(off)
            }
            _ => offset,
        };
        // One byte more than 64 bits can tell is no range.
        let len = len.min(u64::MAX - offset);
        let extents = extents(&runs);

        // Tiny pieces of much memory have no end.
        let found: Vec<Piece> = pieces(&extents, shift, offset, len, max).take(50).collect();
        prop_assert_eq!(found, expected_pieces(&runs, shift, offset, len, max, 50));
    }

    #[test]
    fn pieces_of_everything_are_counted(
        (shift, runs) in with_shift(prop::sample::select(&SHIFTS[..]), few_pages),
        max in prop_oneof![
            1..=9 as Size,
            number(last_frame(16)).prop_map(|max| max.max(1) as Size),
        ],
    ) {
        let extents = extents(&runs);
        let max_bytes = (max as u64) << shift;
        let found = few_pieces(&runs, shift, 0, u64::MAX, max_bytes).len();
        prop_assert_eq!(piece_count(&extents, max) as u64, found as u64);
    }

    #[test]
    fn pieces_of_many_pages_are_counted(
        (_, runs) in with_shift(Just(12), many_pages),
        max in number(Size::MAX as u64).prop_map(|max| max.max(1) as Size),
    ) {
        let expected: u128 = runs
            .iter()
            .map(|&(_, pages)| (pages / max) as u128 + u128::from(pages % max != 0))
            .sum();
        prop_assert_eq!(piece_count(&extents(&runs), max) as u128, expected);
    }

    #[test]
    fn alignment_divides_every_border(
        (shift, runs) in with_shift(0..=16u32, many_pages),
        zeros in 0..40u32,
        cap in prop_oneof![Just(21u32), 0..u64::BITS],
    ) {
        // Most numbers are odd: take some with zeros at the end.
        let low = ((1u128 << zeros) - 1) as Size;
        let runs: Runs = runs
            .into_iter()
            .map(|(pfn, pages)| (pfn & !low, (pages & !low).max(1)))
            .collect();
        let cap = 1 << cap;
        prop_assert_eq!(
            alignment(&extents(&runs), shift, cap),
            expected_alignment(&runs, shift, cap)
        );
    }

    #[test]
    fn first_page_above_is_the_first(
        (shift, runs) in with_shift(prop::sample::select(&SHIFTS[..]), few_pages),
    ) {
        let extents = extents(&runs);
        let frames = frames(&runs);
        for bits in 0..=70 {
            let expected = frames.iter().position(|&frame| {
                let last_byte = ((u128::from(frame) + 1) << shift) - 1;
                bits < u64::BITS && last_byte >= 1u128 << bits
            });
            let found = first_above(&extents, shift, bits).map(|index| index as u64);
            prop_assert_eq!(found, expected.map(|index| index as u64), "below 2^{}", bits);
        }
        prop_assert_eq!(first_above(&extents, shift, u32::MAX), None);
    }

    #[test]
    fn first_page_above_of_many((shift, runs) in with_shift(0..=16u32, many_pages)) {
        let extents = extents(&runs);
        for bits in 0..=70 {
            prop_assert_eq!(
                first_above(&extents, shift, bits).map(|index| index as u128),
                expected_first_above(&runs, shift, bits),
                "below 2^{}", bits
            );
        }
    }
}

#[test]
fn nothing_has_no_pages() {
    assert_eq!(page_count(&[]), 0);
    assert_eq!(find(&[], 0), None);
    assert_eq!(find(&[], Size::MAX), None);
    assert_eq!(piece_count(&[], 1), 0);
    assert_eq!(pieces(&[], 12, 0, u64::MAX, u64::MAX).next(), None);
    assert_eq!(alignment(&[], 12, 2 << 20), 2 << 20);
    assert_eq!(first_above(&[], 12, 0), None);
}

#[test]
fn last_length_does_not_spoil_the_alignment() {
    assert_eq!(alignment(&extents(&[(512, 1)]), 12, 2 << 20), 2 << 20);
    assert_eq!(
        alignment(&extents(&[(512, 512), (1024, 3)]), 12, 2 << 20),
        2 << 20
    );
    assert_eq!(
        alignment(&extents(&[(512, 3), (1024, 512)]), 12, 2 << 20),
        4096
    );
    assert_eq!(
        alignment(&extents(&[(512, 512), (1026, 512)]), 12, 2 << 20),
        8192
    );
    // Address 0 is aligned to everything.
    assert_eq!(alignment(&extents(&[(0, 1)]), 12, 1 << 63), 1 << 63);
    assert_eq!(alignment(&extents(&[(512, 512)]), 12, 64), 64);
}

#[test]
fn below_a_page_only_nothing_is() {
    let page_zero = extents(&[(0, 1)]);
    assert_eq!(first_above(&page_zero, 12, 11), Some(0));
    assert_eq!(first_above(&page_zero, 12, 12), None);
    let two = extents(&[(0, 2)]);
    assert_eq!(first_above(&two, 12, 12), Some(1));
    assert_eq!(first_above(&two, 12, 13), None);
}

#[test]
fn last_page_of_64_bits() {
    // A kernel that counts pages in 32 bits has the last of 64 bits nowhere.
    for shift in SHIFTS {
        let frame = last_frame(shift);
        let last = extents(&[(frame as Size, 1)]);
        let bits = (frame + 1).trailing_zeros() + shift;
        assert_eq!(first_above(&last, shift, bits), None);
        assert_eq!(first_above(&last, shift, bits - 1), Some(0));
        assert_eq!(last[0].phys(shift), frame << shift);
    }
}

/// On a 32-bit kernel that is as far as pages can be counted.
#[test]
fn pages_up_to_the_end_of_32_bits() {
    let low: Size = 0x7fff_ffff;
    let high: Size = 0x8000_0000;
    let runs = [(high, low), (0, high)];
    let all = extents(&runs);
    assert_eq!(page_count(&all), 0xffff_ffff);
    assert_eq!(find(&all, 0x7fff_fffe), Some(&all[0]));
    assert_eq!(find(&all, 0x7fff_ffff), Some(&all[1]));
    assert_eq!(find(&all, 0xffff_fffe), Some(&all[1]));
    assert_eq!(find(&all, 0xffff_ffff), None);
    assert_eq!(all[1].pfn_of(0xffff_fffe), 0x7fff_ffff);
    assert_eq!(all[0].phys(12), 0x800_0000_0000);
    assert_eq!(all[0].bytes(12), 0x7ff_ffff_f000);
    assert_eq!(piece_count(&all, 1), 0xffff_ffff);
    assert_eq!(piece_count(&all, low), 3);
    assert_eq!(piece_count(&all, Size::MAX), 2);
    assert_eq!(first_above(&all, 12, 43), Some(0));
    assert_eq!(first_above(&all, 12, 44), None);
    assert_eq!(
        first_above(&all[1..], 12, 42),
        Some(0x7fff_ffff + 0x4000_0000)
    );

    let last_byte = 0xfff_ffff_efff;
    assert_eq!(
        few_pieces(&runs, 12, last_byte, u64::MAX, u64::MAX),
        [Piece {
            phys: 0x7ff_ffff_ffff,
            len: 1
        }]
    );
    assert_eq!(pieces(&all, 12, last_byte + 1, 1, 1).next(), None);
    let halves = few_pieces(&runs, 12, 0, u64::MAX, u64::MAX);
    let lengths: Vec<u64> = halves.iter().map(|piece| piece.len).collect();
    assert_eq!(lengths, [0x7ff_ffff_f000, 0x800_0000_0000]);
}
