// SPDX-License-Identifier: GPL-2.0-only

//! Layouts against the addresses of every byte, and against numbers that cannot overflow.

use super::{
    layout::{
        Layout,
        PageRange, //
    },
    reason::{
        Failure,
        Reason, //
    },
    Size,
};
use proptest::prelude::*;

/// The end of user space on a 64-bit and on a 32-bit kernel.
const LIMITS: [u64; 2] = [1 << 47, 0xbf00_0000];
const PAGE: u64 = 4096;
const BEYOND: Reason = Reason::NotUser;

/// A layout of 4 KiB pages without limits, which allows borders inside pages.
fn unaligned() -> Layout {
    Layout::new(12, u64::MAX, true)
}

fn aligned() -> Layout {
    Layout::new(12, u64::MAX, false)
}

fn failure(reason: Reason, offset: u64) -> Result<PageRange, Failure> {
    Err(Failure::at(reason, offset))
}

fn pages(start: u64, pages: u64) -> Result<PageRange, Failure> {
    Ok(PageRange { start, pages })
}

/// The same in numbers that do not overflow, from the rules in the ABI header.
struct Model {
    page: u128,
    max_size: u128,
    unaligned: bool,
    /// Start and end of each range.
    ranges: Vec<(u128, u128)>,
}

impl Model {
    fn pages(&self, &(start, end): &(u128, u128)) -> u128 {
        (end - 1) / self.page - start / self.page + 1
    }

    fn data_offset(&self) -> u128 {
        self.ranges
            .first()
            .map_or(0, |&(start, _)| start % self.page)
    }

    fn data_size(&self) -> u128 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    fn size(&self) -> u128 {
        let pages: u128 = self.ranges.iter().map(|range| self.pages(range)).sum();
        pages * self.page
    }

    fn inside_page(&self, addr: u128) -> bool {
        addr % self.page != 0
    }

    fn add(
        &mut self,
        start: u64,
        len: u64,
        limit: u64,
        beyond: Reason,
    ) -> Result<(u128, u128), Reason> {
        let range = (u128::from(start), u128::from(start) + u128::from(len));
        let (start, end) = range;
        if len == 0 {
            return Err(Reason::EmptyRange);
        }
        if end > u128::from(u64::MAX) {
            return Err(Reason::RangeOverflow);
        }
        if !self.unaligned && (self.inside_page(start) || self.inside_page(end)) {
            return Err(Reason::Unaligned);
        }
        if let Some(&(_, end_before)) = self.ranges.last() {
            if self.inside_page(start) || self.inside_page(end_before) {
                return Err(Reason::Unaligned);
            }
        }
        if end > u128::from(limit) {
            return Err(beyond);
        }
        let size = self.size() + self.pages(&range) * self.page;
        if size > self.max_size {
            return Err(Reason::TooBig);
        }
        self.ranges.push(range);
        Ok((start - start % self.page, self.pages(&range)))
    }
}

/// Numbers of any magnitude.
fn any_magnitude() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..u64::BITS).prop_map(|(n, drop)| n >> drop)
}

/// How far inside a page something is: mostly not at all.
fn inside(shift: u32) -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => Just(0),
        1 => 0..1u64 << shift,
    ]
}

/// Where something begins or ends: near the borders of interest, or anywhere.
fn address(shift: u32, limit: u64) -> impl Strategy<Value = u64> {
    let page = prop_oneof![
        3 => 0..16u64,
        1 => (limit >> shift).saturating_sub(4)..=limit >> shift,
        1 => (u64::MAX >> shift).saturating_sub(4)..=u64::MAX >> shift,
        1 => (1u64 << 32 >> shift).saturating_sub(2)..=(1 << 32 >> shift) + 2,
        1 => any_magnitude().prop_map(move |n| n >> shift),
    ];
    (page, inside(shift)).prop_map(move |(page, inside)| (page << shift) + inside)
}

/// Start and length.
fn any_range(shift: u32, limit: u64) -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        8 => (address(shift, limit), address(shift, limit))
            .prop_map(|(one, other)| (one.min(other), one.abs_diff(other))),
        4 => (address(shift, limit), 0..5u64, inside(shift))
            .prop_map(move |(start, pages, inside)| (start, (pages << shift) + inside)),
        1 => (address(shift, limit), any_magnitude()),
        // Ends at or around the end of 64 bits.
        1 => (1..u64::MAX, -1..=1i64)
            .prop_map(|(start, off)| (start, (u64::MAX - start + 1).wrapping_add_signed(off))),
    ]
}

#[derive(Clone, Debug)]
struct Request {
    shift: u32,
    max_size: u64,
    unaligned: bool,
    ranges: Vec<Range>,
}

/// Start and length, and the space that it is in.
#[derive(Clone, Debug)]
struct Range {
    start: u64,
    len: u64,
    space: Space,
}

/// The end of a space, and the reason for what is beyond.
#[derive(Clone, Copy, Debug)]
struct Space {
    limit: u64,
    beyond: Reason,
}

fn any_request() -> impl Strategy<Value = Request> {
    let shift = prop::sample::select(&[0u32, 1, 4, 12, 14, 16][..]);
    let user = prop_oneof![
        prop::sample::select(&LIMITS[..]),
        Just(u64::MAX),
        Just(0),
        any_magnitude(),
    ];
    let user = user.prop_map(|limit| Space {
        limit,
        beyond: Reason::NotUser,
    });
    // Of any number of bytes, also one that is not that of whole pages.
    let region = prop_oneof![0..1u64 << 17, any_magnitude()].prop_map(|limit| Space {
        limit,
        beyond: Reason::RegionRange,
    });
    let max_size = prop_oneof![
        Just(u64::MAX),
        Just(1 << 40),
        Just(0x7fff_f000),
        0..1u64 << 18,
        any_magnitude(),
    ];
    let spaces =
        [3, 1, 1].map(|user_share| prop_oneof![user_share => user.clone(), 1 => region.clone()]);
    (shift, spaces, max_size, any::<bool>()).prop_flat_map(
        |(shift, spaces, max_size, unaligned)| {
            let range = prop::sample::select(spaces.to_vec()).prop_flat_map(move |space| {
                any_range(shift, space.limit).prop_map(move |(start, len)| Range {
                    start,
                    len,
                    space,
                })
            });
            prop::collection::vec(range, 1..8).prop_map(move |ranges| Request {
                shift,
                max_size,
                unaligned,
                ranges,
            })
        },
    )
}

/// Ranges that are allowed, of few pages of few bytes.
fn small_valid_request() -> impl Strategy<Value = Request> {
    let range = (0..32u64, 1..6u64);
    (0..=4u32, prop::collection::vec(range, 1..6), any::<bool>()).prop_flat_map(
        |(shift, ranges, unaligned)| {
            let inside = if unaligned { 0..1u64 << shift } else { 0..1 };
            (inside.clone(), inside).prop_map(move |(skip, omit)| {
                let space = Space {
                    limit: 40 << shift,
                    beyond: BEYOND,
                };
                let mut ranges: Vec<Range> = ranges
                    .iter()
                    .map(|&(page, pages)| Range {
                        start: page << shift,
                        len: pages << shift,
                        space,
                    })
                    .collect();
                ranges[0].start += skip;
                ranges[0].len -= skip;
                let last = ranges.last_mut().unwrap();
                // At least one byte is to be left.
                last.len -= omit.min(last.len - 1);
                Request {
                    shift,
                    max_size: 1 << 10,
                    unaligned,
                    ranges,
                }
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_request_is_judged_by_the_rules(request in any_request()) {
        let Request { shift, max_size, unaligned, ranges } = request;
        let mut layout = Layout::new(shift, max_size, unaligned);
        let mut model = Model {
            page: 1 << shift,
            max_size: max_size.into(),
            unaligned,
            ranges: Vec::new(),
        };
        let mut added = 0;
        for Range { start, len, space: Space { limit, beyond } } in ranges {
            let before = layout;
            let at = model.data_size();
            let found = layout.add(start, len, limit, beyond);
            match (found, model.add(start, len, limit, beyond)) {
                (Ok(range), expected) => {
                    let found = (u128::from(range.start), u128::from(range.pages));
                    prop_assert_eq!(Ok(found), expected);
                    added += range.pages;
                }
                (Err(failure), expected) => {
                    prop_assert_eq!(Err(failure.reason), expected);
                    prop_assert_eq!(u128::from(failure.offset), at);
                    prop_assert_eq!(failure.errno, failure.reason.errno());
                    // What was refused leaves no trace.
                    prop_assert_eq!(layout, before);
                }
            }
            prop_assert_eq!(u128::from(layout.data_offset()), model.data_offset());
            prop_assert_eq!(u128::from(layout.data_size()), model.data_size());
            prop_assert_eq!(u128::from(layout.size()), model.size());
            prop_assert_eq!(layout.size() >> shift, added);
            prop_assert!(layout.size() <= max_size);
            prop_assert!(layout.data_offset() < 1 << shift);
        }
        // The last page there is, as far as pages can be counted, and the first beyond.
        let page_numbers = [0, 1, added.saturating_sub(1), added];
        for index in page_numbers.into_iter().filter(|&index| index <= Size::MAX as u64) {
            let expected = (u128::from(index) << shift).saturating_sub(model.data_offset());
            let found = layout.request_offset(index as Size);
            prop_assert_eq!(u128::from(found), expected);
        }
    }

    #[test]
    fn request_and_buffer_differ_by_one_constant(request in small_valid_request()) {
        let Request { shift, max_size, unaligned, ranges } = request;
        let mut layout = Layout::new(shift, max_size, unaligned);
        // The address of every byte, as asked for and as the buffer has it.
        let mut asked = Vec::new();
        let mut buffer = Vec::new();
        for Range { start, len, space: Space { limit, beyond } } in ranges {
            let range = layout.add(start, len, limit, beyond).unwrap();
            asked.extend(start..start + len);
            buffer.extend(range.start..range.start + (range.pages << shift));
        }
        let offset = layout.data_offset() as usize;
        let size = layout.data_size() as usize;
        prop_assert_eq!(buffer.len() as u64, layout.size());
        prop_assert_eq!(&buffer[offset..offset + size], &asked[..]);
        // Not a page more than needed.
        prop_assert!(offset < 1 << shift);
        prop_assert!(buffer.len() - (offset + size) < 1 << shift);

        for index in 0..buffer.len() >> shift {
            let before = index << shift;
            let asked_before = (0..before)
                .filter(|byte| (offset..offset + size).contains(byte))
                .count();
            prop_assert_eq!(layout.request_offset(index as Size), asked_before as u64);
        }
    }
}

#[test]
fn new_layout_is_empty() {
    for layout in [aligned(), unaligned()] {
        assert_eq!(layout.size(), 0);
        assert_eq!(layout.data_size(), 0);
        assert_eq!(layout.data_offset(), 0);
        assert_eq!(layout.request_offset(0), 0);
    }
}

#[test]
fn ranges_are_put_one_after_the_other() {
    let mut layout = aligned();
    assert_eq!(
        layout.add(7 * PAGE, PAGE, LIMITS[0], BEYOND),
        pages(7 * PAGE, 1)
    );
    // Overlaps and repeats are fine.
    assert_eq!(
        layout.add(PAGE, 9 * PAGE, LIMITS[0], BEYOND),
        pages(PAGE, 9)
    );
    assert_eq!(
        layout.add(7 * PAGE, PAGE, LIMITS[0], BEYOND),
        pages(7 * PAGE, 1)
    );
    assert_eq!(layout.size(), 11 * PAGE);
    assert_eq!(layout.data_size(), 11 * PAGE);
    assert_eq!(layout.data_offset(), 0);
    assert_eq!(layout.request_offset(10), 10 * PAGE);
}

#[test]
fn empty_range_is_refused() {
    let mut layout = unaligned();
    assert_eq!(
        layout.add(PAGE, 0, LIMITS[0], BEYOND),
        failure(Reason::EmptyRange, 0)
    );
    // Before anything else that is wrong with it.
    assert_eq!(
        layout.add(u64::MAX, 0, 0, BEYOND),
        failure(Reason::EmptyRange, 0)
    );
    layout
        .add(PAGE + 1, 2 * PAGE - 1, LIMITS[0], BEYOND)
        .unwrap();
    assert_eq!(
        layout.add(PAGE, 0, LIMITS[0], BEYOND),
        failure(Reason::EmptyRange, 2 * PAGE - 1)
    );
}

#[test]
fn range_that_wraps_is_refused() {
    let top = 0u64.wrapping_sub(PAGE);
    // The end, 2^64, is no address of 64 bits either.
    for len in [PAGE, PAGE + 1, u64::MAX] {
        assert_eq!(
            aligned().add(top, len, u64::MAX, BEYOND),
            failure(Reason::RangeOverflow, 0)
        );
    }
    assert_eq!(
        aligned().add(top, PAGE - 1, u64::MAX, BEYOND),
        failure(Reason::Unaligned, 0)
    );
    assert_eq!(
        aligned().add(top - PAGE, PAGE, u64::MAX, BEYOND),
        pages(top - PAGE, 1)
    );
}

#[test]
fn borders_inside_pages_are_refused_unless_asked_for() {
    for (start, len) in [
        (1, PAGE),
        (1, PAGE - 1),
        (0, 1),
        (0, PAGE - 1),
        (PAGE, PAGE + 1),
        (PAGE - 1, 2),
    ] {
        assert_eq!(
            aligned().add(start, len, LIMITS[0], BEYOND),
            failure(Reason::Unaligned, 0)
        );
        assert!(unaligned().add(start, len, LIMITS[0], BEYOND).is_ok());
    }
}

#[test]
fn one_range_may_do_both() {
    let mut layout = unaligned();
    assert_eq!(layout.add(PAGE - 1, 2, LIMITS[0], BEYOND), pages(0, 2));
    assert_eq!(layout.data_offset(), PAGE - 1);
    assert_eq!(layout.data_size(), 2);
    assert_eq!(layout.size(), 2 * PAGE);
    assert_eq!(layout.request_offset(0), 0);
    assert_eq!(layout.request_offset(1), 1);
}

#[test]
fn only_the_first_may_start_inside_a_page() {
    let mut layout = unaligned();
    assert_eq!(layout.add(5, PAGE - 5, LIMITS[0], BEYOND), pages(0, 1));
    assert_eq!(
        layout.add(5, PAGE - 5, LIMITS[0], BEYOND),
        failure(Reason::Unaligned, PAGE - 5)
    );
    // It goes on as if that had not been tried.
    assert_eq!(layout.add(PAGE, PAGE, LIMITS[0], BEYOND), pages(PAGE, 1));
    assert_eq!(layout.size(), 2 * PAGE);
    assert_eq!(layout.data_offset(), 5);
    assert_eq!(layout.data_size(), 2 * PAGE - 5);
}

#[test]
fn only_the_last_may_end_inside_a_page() {
    let mut layout = unaligned();
    assert_eq!(layout.add(0, PAGE, LIMITS[0], BEYOND), pages(0, 1));
    assert_eq!(layout.add(0, 5, LIMITS[0], BEYOND), pages(0, 1));
    // Even if what follows starts and ends between pages, or where the last one ended: the
    // error is told of what comes after.
    for start in [PAGE, 5] {
        assert_eq!(
            layout.add(start, PAGE, LIMITS[0], BEYOND),
            failure(Reason::Unaligned, PAGE + 5)
        );
    }
    assert_eq!(layout.size(), 2 * PAGE);
    assert_eq!(layout.data_size(), PAGE + 5);
}

#[test]
fn range_ends_at_the_limit_at_most() {
    for limit in LIMITS {
        assert_eq!(
            aligned().add(limit - PAGE, PAGE, limit, BEYOND),
            pages(limit - PAGE, 1)
        );
        assert_eq!(
            aligned().add(limit - PAGE, 2 * PAGE, limit, BEYOND),
            failure(Reason::NotUser, 0)
        );
        assert_eq!(
            aligned().add(limit, PAGE, limit, BEYOND),
            failure(Reason::NotUser, 0)
        );
        assert_eq!(
            unaligned().add(limit - PAGE, PAGE + 1, limit, BEYOND),
            failure(Reason::NotUser, 0)
        );
    }
    // The alignment is looked at first.
    assert_eq!(
        aligned().add(LIMITS[0] + 1, PAGE, LIMITS[0], BEYOND),
        failure(Reason::Unaligned, 0)
    );
}

/// A request may have ranges of several spaces, each with an end of its own.
#[test]
fn each_range_has_a_limit_and_a_reason_of_its_own() {
    let mut layout = unaligned();
    let size = 2 * PAGE;
    assert_eq!(
        layout.add(PAGE, PAGE, size, Reason::RegionRange),
        pages(PAGE, 1)
    );
    assert_eq!(
        layout.add(PAGE, 2 * PAGE, size, Reason::RegionRange),
        failure(Reason::RegionRange, PAGE)
    );
    // Where the one has ended the other goes on.
    assert_eq!(
        layout.add(PAGE, 2 * PAGE, LIMITS[0], Reason::NotUser),
        pages(PAGE, 2)
    );
    assert_eq!(
        layout.add(LIMITS[0], PAGE, LIMITS[0], Reason::NotUser),
        failure(Reason::NotUser, 3 * PAGE)
    );
    assert_eq!(layout.add(0, size, size, Reason::RegionRange), pages(0, 2));
    // Not one byte more than there is, though it would be in the same page.
    let mut odd = layout;
    assert_eq!(
        odd.add(0, PAGE + 2, PAGE + 1, Reason::RegionRange),
        failure(Reason::RegionRange, 5 * PAGE)
    );
    assert_eq!(
        odd.add(0, PAGE + 1, PAGE + 1, Reason::RegionRange),
        pages(0, 2)
    );
    // A space with nothing in it.
    assert_eq!(
        layout.add(0, 1, 0, Reason::RegionRange),
        failure(Reason::RegionRange, 5 * PAGE)
    );
    assert_eq!(layout.size(), 5 * PAGE);
}

/// What is wrong with the range in any space is told before.
#[test]
fn limit_is_looked_at_after_the_range_itself() {
    for beyond in [Reason::NotUser, Reason::RegionRange] {
        let add = |start, len| aligned().add(start, len, PAGE, beyond);
        assert_eq!(add(2 * PAGE, 0), failure(Reason::EmptyRange, 0));
        assert_eq!(add(2 * PAGE, u64::MAX), failure(Reason::RangeOverflow, 0));
        assert_eq!(add(2 * PAGE + 1, PAGE), failure(Reason::Unaligned, 0));
        assert_eq!(add(2 * PAGE, PAGE + 1), failure(Reason::Unaligned, 0));
        assert_eq!(add(2 * PAGE, PAGE), failure(beyond, 0));
        // And how large it is all together after.
        let mut small = Layout::new(12, 0, false);
        assert_eq!(small.add(0, 2 * PAGE, PAGE, beyond), failure(beyond, 0));
        assert_eq!(small.add(0, PAGE, PAGE, beyond), failure(Reason::TooBig, 0));
    }
}

#[test]
fn whole_pages_count_for_the_largest_size() {
    let mut layout = Layout::new(12, 3 * PAGE, true);
    assert_eq!(
        layout.add(PAGE - 1, 1 + PAGE, LIMITS[0], BEYOND),
        pages(0, 2)
    );
    assert_eq!(
        layout.add(0, PAGE + 1, LIMITS[0], BEYOND),
        failure(Reason::TooBig, PAGE + 1)
    );
    assert_eq!(layout.add(0, 1, LIMITS[0], BEYOND), pages(0, 1));

    assert_eq!(
        Layout::new(12, 3 * PAGE - 1, true).add(0, 2 * PAGE + 1, LIMITS[0], BEYOND),
        failure(Reason::TooBig, 0)
    );
    assert_eq!(
        Layout::new(12, 0, true).add(0, 1, LIMITS[0], BEYOND),
        failure(Reason::TooBig, 0)
    );
    // The place is looked at first.
    assert_eq!(
        Layout::new(12, PAGE, false).add(0, 2 * PAGE, PAGE, BEYOND),
        failure(Reason::NotUser, 0)
    );
}

#[test]
fn size_that_64_bits_cannot_tell_is_too_big() {
    // As one range, of which only the rounding does not fit.
    let mut layout = unaligned();
    assert_eq!(
        layout.add(0, u64::MAX, u64::MAX, BEYOND),
        failure(Reason::TooBig, 0)
    );
    // As a sum that is one page short, then full.
    let most = 0u64.wrapping_sub(PAGE);
    assert_eq!(layout.add(0, most, u64::MAX, BEYOND), pages(0, most / PAGE));
    assert_eq!(layout.size(), most);
    for len in [1, PAGE - 1, PAGE, PAGE + 1, most] {
        assert_eq!(
            layout.add(0, len, u64::MAX, BEYOND),
            failure(Reason::TooBig, most)
        );
    }
    assert_eq!(layout.size(), most);
    assert_eq!(layout.data_size(), most);
}

/// On a 32-bit kernel that is as far as pages can be counted; the sizes need more.
#[test]
fn pages_up_to_the_end_of_32_bits() {
    let mut layout = unaligned();
    let count = u64::from(u32::MAX);
    assert_eq!(
        layout.add(7, count * PAGE - 7, u64::MAX, BEYOND),
        pages(0, count)
    );
    assert_eq!(layout.size(), count * PAGE);
    assert_eq!(layout.data_size(), count * PAGE - 7);
    assert_eq!(layout.request_offset(0xffff_fffe), 0xfff_ffff_e000 - 7);
    assert_eq!(layout.request_offset(0xffff_ffff), 0xfff_ffff_f000 - 7);
}
