// SPDX-License-Identifier: GPL-2.0-only

//! Extents against models that look at every page, every byte, or one extent after the other in
//! numbers that cannot overflow.

use super::{
    extent::{
        alignment,
        all_pages,
        find,
        first_above,
        page_count,
        partial_folios,
        piece_count,
        pieces,
        rest_of_folios,
        Extent,
        PartialFolio,
        Piece,
        Source, //
    },
    Size,
};
use proptest::prelude::*;
use std::collections::{
    BTreeMap,
    HashMap,
    HashSet, //
};

/// Of kernels with pages of 4, 16 and 64 KiB.
const SHIFTS: [u32; 3] = [12, 14, 16];

/// Page frame number, number of pages and source of an extent.
type Run = (Size, Size, Source);
type Runs = Vec<Run>;

/// Runs of ordinary pages.
fn ordinary(runs: &[(Size, Size)]) -> Runs {
    runs.iter()
        .map(|&(pfn, pages)| (pfn, pages, Source::Pages))
        .collect()
}

fn extents(runs: &[Run]) -> Vec<Extent> {
    let mut first = 0;
    runs.iter()
        .map(|&(pfn, pages, source)| {
            let extent = Extent {
                pfn,
                pages,
                first,
                source,
            };
            first += pages;
            extent
        })
        .collect()
}

/// The page frame number of each page, in buffer order.
fn frames(runs: &[Run]) -> Vec<u64> {
    runs.iter()
        .flat_map(|&(pfn, pages, _)| (0..pages).map(move |page| (pfn + page) as u64))
        .collect()
}

/// The physical address of each byte, in buffer order, and what keeps it.
fn bytes(runs: &[Run], shift: u32) -> Vec<(u64, Source)> {
    let size = 1 << shift;
    runs.iter()
        .flat_map(|&run| {
            frames(&[run])
                .into_iter()
                .flat_map(move |frame| (0..size).map(move |byte| (frame * size + byte, run.2)))
        })
        .collect()
}

/// Start and length of each extent in bytes, in numbers without a limit.
fn spans(runs: &[Run], shift: u32) -> Vec<(u128, u128)> {
    let page = 1u128 << shift;
    runs.iter()
        .map(|&(pfn, pages, _)| (pfn as u128 * page, pages as u128 * page))
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

/// Ordinary pages mostly, the regions of least and of greatest index, and other drivers' memory.
fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        3 => Just(Source::Pages),
        1 => (0..3u16).prop_map(Source::Reserved),
        1 => Just(Source::Reserved(u16::MAX)),
        1 => any::<bool>().prop_map(|cached| Source::Foreign { cached }),
    ]
}

/// Few pages, so that a model can look at each.
fn few_pages(shift: u32) -> impl Strategy<Value = Runs> {
    let run =
        (1..=7 as Size).prop_flat_map(move |pages| (frame(shift, pages), Just(pages), source()));
    prop::collection::vec(run, 0..10)
}

/// As many pages as can be counted, and as have 64-bit offsets in bytes.
fn many_pages(shift: u32) -> impl Strategy<Value = Runs> {
    let most = last_frame(shift);
    let run = number(most)
        .prop_map(|pages| pages.max(1) as Size)
        .prop_flat_map(move |pages| (frame(shift, pages), Just(pages), source()));
    prop::collection::vec(run, 0..10).prop_map(move |runs| {
        let mut left = most;
        runs.into_iter()
            .filter(|&(_, pages, _)| {
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
fn few_pieces(runs: &[Run], shift: u32, offset: u64, len: u64, max: u64) -> Vec<Piece> {
    const MANY: usize = 5000;
    let found: Vec<Piece> = pieces(&extents(runs), shift, offset, len, max)
        .take(MANY)
        .collect();
    assert!(found.len() < MANY, "no end of pieces");
    found
}

/// What [`pieces`] shall say, in numbers without a limit.
fn expected_pieces(
    runs: &[Run],
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
        let span = spans(runs, shift)
            .into_iter()
            .zip(runs)
            .find(|((_, len), _)| {
                span_start += len;
                at < span_start
            });
        let Some(((phys, span_len), &(_, _, source))) = span else {
            break;
        };
        let into = at - (span_start - span_len);
        let len = (span_len - into).min(asked_end - at).min(u128::from(max));
        found.push(Piece {
            phys: u64::try_from(phys + into).unwrap(),
            len: u64::try_from(len).unwrap(),
            source,
        });
        at += len;
    }
    found
}

/// What [`first_above`] shall say, in numbers without a limit.
fn expected_first_above(runs: &[Run], shift: u32, bits: u32) -> Option<u128> {
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
fn expected_alignment(runs: &[Run], shift: u32, cap: u64) -> u64 {
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
        for (extent, &(pfn, pages, source)) in extents.iter().zip(&runs) {
            let last = (first + pages as u128 - 1) as Size;
            prop_assert_eq!(find(&extents, first as Size), Some(extent));
            prop_assert_eq!(find(&extents, last), Some(extent));
            prop_assert_eq!(extent.pfn_of(first as Size), pfn);
            prop_assert_eq!(extent.pfn_of(last), pfn + (pages - 1));
            prop_assert_eq!(extent.source, source);
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
        let found: Vec<(u64, Source)> = found
            .iter()
            .flat_map(|piece| (0..piece.len).map(|byte| (piece.phys + byte, piece.source)))
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
            .map(|&(_, pages, _)| (pages / max) as u128 + u128::from(pages % max != 0))
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
            .map(|(pfn, pages, source)| (pfn & !low, (pages & !low).max(1), source))
            .collect();
        let cap = 1 << cap;
        prop_assert_eq!(
            alignment(&extents(&runs), shift, cap),
            expected_alignment(&runs, shift, cap)
        );
    }

    #[test]
    fn one_reserved_page_is_enough((_, runs) in with_shift(Just(12), few_pages)) {
        let expected = bytes(&runs, 0)
            .iter()
            .all(|&(_, source)| matches!(source, Source::Pages));
        prop_assert_eq!(all_pages(&extents(&runs)), expected);
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
    assert!(all_pages(&[]));
    assert_eq!(piece_count(&[], 1), 0);
    assert_eq!(pieces(&[], 12, 0, u64::MAX, u64::MAX).next(), None);
    assert_eq!(alignment(&[], 12, 2 << 20), 2 << 20);
    assert_eq!(first_above(&[], 12, 0), None);
}

/// However near they are: what may be done with one may not be done with the other.
#[test]
fn sources_are_told_apart() {
    let sources = [
        Source::Pages,
        Source::Reserved(0),
        Source::Reserved(1),
        Source::Foreign { cached: true },
        Source::Foreign { cached: false },
        Source::Pages,
    ];
    let runs: Runs = sources
        .iter()
        .zip(256..)
        .map(|(&source, pfn)| (pfn, 1, source))
        .collect();
    let extents = extents(&runs);
    let expected: Vec<Piece> = extents
        .iter()
        .map(|extent| Piece {
            phys: extent.phys(12),
            len: 4096,
            source: extent.source,
        })
        .collect();
    assert_eq!(few_pieces(&runs, 12, 0, u64::MAX, u64::MAX), expected);
    assert_eq!(piece_count(&extents, Size::MAX), 6);
    // From within one to within the next.
    let found = few_pieces(&runs, 12, 4095, 2, u64::MAX);
    let found: Vec<Source> = found.iter().map(|piece| piece.source).collect();
    assert_eq!(found, sources[..2]);

    assert!(!all_pages(&extents));
    assert!(!all_pages(&extents[..2]));
    assert!(!all_pages(&extents[4..]));
    for extent in extents.chunks(1) {
        assert_eq!(all_pages(extent), extent[0].source == Source::Pages);
    }
}

/// Reserved memory has borders like any other.
#[test]
fn reserved_memory_is_aligned_too() {
    let all: Runs = vec![
        (512, 512, Source::Reserved(0)),
        (2048, 256, Source::Pages),
        (4096, 1, Source::Reserved(1)),
    ];
    assert_eq!(alignment(&extents(&all), 12, 2 << 20), 1 << 20);
    assert_eq!(alignment(&extents(&all[..2]), 12, 2 << 20), 2 << 20);
    let odd: Runs = vec![(513, 512, Source::Reserved(0)), (1024, 512, Source::Pages)];
    assert_eq!(alignment(&extents(&odd), 12, 2 << 20), 4096);
}

#[test]
fn last_length_does_not_spoil_the_alignment() {
    assert_eq!(
        alignment(&extents(&ordinary(&[(512, 1)])), 12, 2 << 20),
        2 << 20
    );
    assert_eq!(
        alignment(&extents(&ordinary(&[(512, 512), (1024, 3)])), 12, 2 << 20),
        2 << 20
    );
    assert_eq!(
        alignment(&extents(&ordinary(&[(512, 3), (1024, 512)])), 12, 2 << 20),
        4096
    );
    assert_eq!(
        alignment(&extents(&ordinary(&[(512, 512), (1026, 512)])), 12, 2 << 20),
        8192
    );
    // Address 0 is aligned to everything.
    assert_eq!(
        alignment(&extents(&ordinary(&[(0, 1)])), 12, 1 << 63),
        1 << 63
    );
    assert_eq!(alignment(&extents(&ordinary(&[(512, 512)])), 12, 64), 64);
}

#[test]
fn below_a_page_only_nothing_is() {
    let page_zero = extents(&ordinary(&[(0, 1)]));
    assert_eq!(first_above(&page_zero, 12, 11), Some(0));
    assert_eq!(first_above(&page_zero, 12, 12), None);
    let two = extents(&ordinary(&[(0, 2)]));
    assert_eq!(first_above(&two, 12, 12), Some(1));
    assert_eq!(first_above(&two, 12, 13), None);
}

#[test]
fn last_page_of_64_bits() {
    // A kernel that counts pages in 32 bits has the last of 64 bits nowhere.
    for shift in SHIFTS {
        let frame = last_frame(shift);
        let last = extents(&ordinary(&[(frame as Size, 1)]));
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
    let runs = ordinary(&[(high, low), (0, high)]);
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
            len: 1,
            source: Source::Pages,
        }]
    );
    assert_eq!(pieces(&all, 12, last_byte + 1, 1, 1).next(), None);
    let halves = few_pieces(&runs, 12, 0, u64::MAX, u64::MAX);
    let lengths: Vec<u64> = halves.iter().map(|piece| piece.len).collect();
    assert_eq!(lengths, [0x7ff_ffff_f000, 0x800_0000_0000]);
}

// --- folios ---------------------------------------------------------------------------------

/// Folios one after the other, from a page frame on: first page frame and number of pages of each.
type Folios = Vec<(Size, Size)>;

/// The folio that has `pfn`.
fn folio_of(folios: &[(Size, Size)], pfn: Size) -> (Size, Size) {
    *folios
        .iter()
        .find(|&&(first, pages)| (first..first + pages).contains(&pfn))
        .unwrap_or_else(|| panic!("page frame {pfn} is in no folio"))
}

/// Runs within few folios, so that they meet again and again.
fn in_folios() -> impl Strategy<Value = (Folios, Runs)> {
    // No kernel that counts pages in 32 bits has them all, so the last may have a successor.
    let first = number(last_frame(12) - 200);
    let sizes = prop::collection::vec(prop_oneof![Just(1), 1..=9 as Size], 1..8);
    (first, sizes).prop_flat_map(|(first, sizes)| {
        let mut next = first as Size;
        let folios: Folios = sizes
            .into_iter()
            .map(|pages| {
                next += pages;
                (next - pages, pages)
            })
            .collect();
        let (first, count) = (folios[0].0, next - folios[0].0);
        let any_run = (0..count).prop_flat_map(move |from| {
            let pages = 1..=count - from;
            (Just(first + from), pages, source())
        });
        // Whole folios, too, come seldom by themselves.
        let whole = (prop::sample::select(folios.clone()), source())
            .prop_map(|((pfn, pages), source)| (pfn, pages, source));
        let runs = prop::collection::vec(prop_oneof![4 => any_run, 1 => whole], 0..10);
        (Just(folios), runs)
    })
}

/// Of each folio of which a run has a page, its first page frame, number of pages, and how many
/// the run has.
fn parts(folios: &[(Size, Size)], run: Run) -> Vec<PartialFolio> {
    let mut counts = BTreeMap::new();
    for page in 0..run.1 {
        *counts.entry(folio_of(folios, run.0 + page)).or_insert(0) += 1;
    }
    counts
        .into_iter()
        .map(|((pfn, pages), part)| PartialFolio { pfn, pages, part })
        .collect()
}

/// The partial folios of the runs, in their order.
fn expected_partial(folios: &[(Size, Size)], runs: &[Run]) -> Vec<PartialFolio> {
    runs.iter()
        .filter(|run| run.2 == Source::Pages)
        .flat_map(|&run| parts(folios, run))
        .filter(|folio| folio.part < folio.pages)
        .collect()
}

/// What [`rest_of_folios`] shall say: takes one part after the other from its folio, until nothing
/// is left.
fn expected_rest(partial: &[PartialFolio]) -> u64 {
    let mut left = HashMap::new();
    for folio in partial {
        let left = left.entry(folio.pfn).or_insert(folio.pages as u64);
        *left = left.saturating_sub(folio.part as u64);
    }
    left.values().sum()
}

/// The rest, of a list in any order: sorting is the caller's, and not stable.
fn sorted_rest(mut folios: Vec<PartialFolio>) -> Size {
    folios.sort_unstable_by_key(|folio| folio.pfn);
    rest_of_folios(&folios)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn folios_had_in_part_are_found((folios, runs) in in_folios()) {
        // Others are not pinned, so that their folios may change or be none.
        let pinned: HashSet<u64> = runs
            .iter()
            .filter(|run| run.2 == Source::Pages)
            .flat_map(|&run| frames(&[run]))
            .collect();
        let extents = extents(&runs);
        let found: Vec<PartialFolio> = partial_folios(&extents, |pfn| {
            assert!(pinned.contains(&(pfn as u64)), "page frame {pfn} is not held");
            folio_of(&folios, pfn)
        })
        .collect();
        prop_assert_eq!(&found, &expected_partial(&folios, &runs));
        // The list of them is short.
        prop_assert!(found.len() <= 2 * runs.len());
        for folio in &found {
            prop_assert!((1..folio.pages).contains(&folio.part));
        }
    }

    #[test]
    fn folios_are_charged_whole((folios, runs) in in_folios()) {
        let extents = extents(&runs);
        let partial: Vec<PartialFolio> =
            partial_folios(&extents, |pfn| folio_of(&folios, pfn)).collect();
        prop_assert_eq!(sorted_rest(partial.clone()) as u64, expected_rest(&partial));
        let rest = sorted_rest(partial) as u64;

        // Pages that are held twice are charged twice before.
        let mut held: BTreeMap<Size, u64> = BTreeMap::new();
        let mut whole = HashSet::new();
        let mut in_part = HashSet::new();
        for &run in runs.iter().filter(|run| run.2 == Source::Pages) {
            for folio in parts(&folios, run) {
                *held.entry(folio.pfn).or_insert(0) += folio.part as u64;
                let set = if folio.part == folio.pages { &mut whole } else { &mut in_part };
                set.insert(folio.pfn);
            }
        }
        let charged = held.values().sum::<u64>() + rest;
        let locked: u64 = held
            .iter()
            .map(|(&pfn, &held)| held.max(folio_of(&folios, pfn).1 as u64))
            .sum();
        prop_assert!(charged >= locked);
        // The parts of a folio that another run has whole are not known to be of it.
        if whole.is_disjoint(&in_part) {
            prop_assert_eq!(charged, locked);
        }
        // Never more than each of them once more.
        let all: u64 = in_part.iter().map(|&pfn| folio_of(&folios, pfn).1 as u64).sum();
        prop_assert!(rest <= all);
    }

    #[test]
    fn rest_of_each_folio_is_counted_once(
        (shuffled, folios) in prop::collection::vec((0..6 as Size, 1..=20 as Size), 0..24)
            .prop_map(|list| {
                list.into_iter()
                    // The same folio has the same number of pages.
                    .map(|(n, part)| {
                        let pages = 1 + n * n;
                        PartialFolio { pfn: 1000 + 64 * n, pages, part: part.min(pages) }
                    })
                    .collect::<Vec<_>>()
            })
            .prop_flat_map(|list| (Just(list.clone()).prop_shuffle(), Just(list))),
    ) {
        let expected = expected_rest(&folios);
        prop_assert_eq!(sorted_rest(folios) as u64, expected);
        prop_assert_eq!(sorted_rest(shuffled) as u64, expected);
    }
}

#[test]
fn first_and_last_folio_are_had_in_part() {
    const PMD: Size = 512;
    let in_pmds = |pfn: Size| (pfn / PMD * PMD, PMD);
    let found = |runs: &[Run]| -> Vec<(Size, Size)> {
        partial_folios(&extents(runs), in_pmds)
            .map(|folio| {
                assert_eq!(folio.pages, PMD);
                (folio.pfn, folio.part)
            })
            .collect()
    };
    // Nothing, and whole ones.
    assert_eq!(found(&[]), []);
    assert_eq!(found(&ordinary(&[(PMD, PMD), (5 * PMD, 3 * PMD)])), []);
    // Within one folio, from its start and up to its end.
    assert_eq!(found(&ordinary(&[(PMD + 1, PMD - 2)])), [(PMD, PMD - 2)]);
    assert_eq!(found(&ordinary(&[(PMD, 1)])), [(PMD, 1)]);
    assert_eq!(found(&ordinary(&[(2 * PMD - 1, 1)])), [(PMD, 1)]);
    // The first only, the last only, both with nothing and with much between them.
    assert_eq!(found(&ordinary(&[(PMD - 1, 1 + PMD)])), [(0, 1)]);
    assert_eq!(found(&ordinary(&[(PMD, PMD + 1)])), [(2 * PMD, 1)]);
    assert_eq!(found(&ordinary(&[(PMD - 1, 3)])), [(0, 1), (PMD, 2)]);
    assert_eq!(
        found(&ordinary(&[(PMD - 3, 3 + 9 * PMD + 7)])),
        [(0, 3), (10 * PMD, 7)]
    );
    // Each extent for itself.
    assert_eq!(
        found(&ordinary(&[(9, 1), (7, 1), (9, 1)])),
        [(0, 1), (0, 1), (0, 1)]
    );
    // Other memory has no folios, also where its numbers are those of pages.
    assert_eq!(
        found(&[
            (1, 5, Source::Reserved(0)),
            (PMD + 2, 6, Source::Pages),
            (1, 5, Source::Reserved(1)),
            (1, 5, Source::Foreign { cached: true }),
            (1, 5, Source::Foreign { cached: false }),
        ]),
        [(PMD, 6)]
    );
}

#[test]
fn single_pages_are_whole() {
    let runs = ordinary(&[(7, 1), (1000, 300), (7, 1)]);
    assert_eq!(partial_folios(&extents(&runs), |pfn| (pfn, 1)).next(), None);
    assert_eq!(rest_of_folios(&[]), 0);
}

/// One page of a huge page of 1 GiB, and what is charged as more come.
#[test]
fn rest_shrinks_as_parts_are_added() {
    const HUGE: Size = 1 << 18;
    let rest = |runs: &[(Size, Size)]| {
        let runs = ordinary(runs);
        let extents = extents(&runs);
        sorted_rest(partial_folios(&extents, |pfn| (pfn / HUGE * HUGE, HUGE)).collect())
    };
    assert_eq!(rest(&[(HUGE, 1)]), HUGE - 1);
    assert_eq!(rest(&[(HUGE, 1), (HUGE + 5, 1)]), HUGE - 2);
    // A page that comes twice is charged twice already.
    assert_eq!(rest(&[(HUGE, 1), (HUGE, 1)]), HUGE - 2);
    // All of it in two parts, in either order; and more than all of it.
    assert_eq!(rest(&[(HUGE, 1), (HUGE + 1, HUGE - 1)]), 0);
    assert_eq!(rest(&[(HUGE + 1, HUGE - 1), (HUGE, 1)]), 0);
    assert_eq!(rest(&[(HUGE, HUGE - 1), (HUGE + 1, HUGE - 1)]), 0);
    // Two folios, with others between their parts.
    let runs = [(HUGE, 1), (3 * HUGE, 2), (HUGE + 9, 3), (3 * HUGE + 9, 4)];
    assert_eq!(rest(&runs), (HUGE - 4) + (HUGE - 6));
    assert_eq!(rest(&[(HUGE - 1, 2)]), 2 * (HUGE - 1));
}
