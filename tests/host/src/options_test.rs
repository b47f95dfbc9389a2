// SPDX-License-Identifier: GPL-2.0-only

//! The options of an export, field by field, and which of several errors is told.

use super::{
    header,
    options::{
        self,
        Options,
        RawOptions,
        NAME_LEN, //
    },
    reason::Reason,
};
use proptest::prelude::*;

/// `O_CLOEXEC` of most architectures, and of those that differ.
const CLOEXECS: [u32; 3] = [0o2000000, 0o10000000, 0x400000];
const CLOEXEC: u32 = CLOEXECS[0];

const FLAGS: u32 = options::READ_ONLY | options::UNALIGNED | options::DRY_RUN | options::EVENTFD;

/// A request for nothing special.
const PLAIN: RawOptions = RawOptions {
    flags: 0,
    pad: 0,
    fd_flags: 0,
    event_fd: 0,
    max_segs: 0,
    phys_bits: 0,
    name: [0; NAME_LEN],
};

fn check(raw: RawOptions) -> Result<Options, Reason> {
    Options::check(&raw, CLOEXEC)
}

/// `text`, then zeros.
fn name(text: &[u8]) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    name[..text.len()].copy_from_slice(text);
    name
}

#[test]
fn flags_are_those_of_the_header() {
    let mut flags = header::defines("VMMEXP_EXPORT_");
    flags.retain(|&(name, _)| name != "VMMEXP_EXPORT_SIZE_MIN");
    assert_eq!(
        flags,
        [
            ("VMMEXP_EXPORT_READ_ONLY", options::READ_ONLY),
            ("VMMEXP_EXPORT_UNALIGNED", options::UNALIGNED),
            ("VMMEXP_EXPORT_DRY_RUN", options::DRY_RUN),
            ("VMMEXP_EXPORT_EVENTFD", options::EVENTFD),
        ]
    );
}

#[test]
fn names_are_as_long_as_in_the_header() {
    assert_eq!(
        header::defines("VMMEXP_NAME_LEN"),
        [("VMMEXP_NAME_LEN", NAME_LEN as u32)]
    );
}

#[test]
fn nothing_asked_is_nothing_set() {
    let options = check(PLAIN).unwrap();
    assert!(!options.read_only);
    assert!(!options.unaligned);
    assert!(!options.dry_run);
    assert!(!options.cloexec);
    assert_eq!(options.eventfd, None);
    assert_eq!(options.max_segs, None);
    assert_eq!(options.phys_bits, None);
    assert_eq!(options.name(), None);
}

#[test]
fn each_flag_sets_what_it_names() {
    for flags in 0..=FLAGS {
        let options = check(RawOptions {
            flags,
            event_fd: if flags & options::EVENTFD != 0 { 7 } else { 0 },
            ..PLAIN
        })
        .unwrap();
        assert_eq!(options.read_only, flags & options::READ_ONLY != 0);
        assert_eq!(options.unaligned, flags & options::UNALIGNED != 0);
        assert_eq!(options.dry_run, flags & options::DRY_RUN != 0);
        let eventfd = (flags & options::EVENTFD != 0).then_some(7);
        assert_eq!(options.eventfd, eventfd);
    }
}

#[test]
fn each_unknown_flag_is_refused() {
    for bit in 0..u32::BITS {
        let flag = 1 << bit;
        for known in 0..=FLAGS {
            let known_bit = FLAGS & flag != 0;
            let flags = known | flag;
            let result = check(RawOptions { flags, ..PLAIN });
            assert_eq!(
                result.err(),
                (!known_bit).then_some(Reason::Flags),
                "{flags:#x}"
            );
        }
    }
}

#[test]
fn padding_is_zero() {
    for bit in 0..u32::BITS {
        for flags in 0..=FLAGS {
            let pad = 1 << bit;
            let result = check(RawOptions {
                flags,
                pad,
                ..PLAIN
            });
            assert_eq!(result.err(), Some(Reason::Padding));
        }
    }
}

#[test]
fn eventfd_is_zero_unless_asked_for() {
    for event_fd in [i32::MIN, -1, 0, 1, 3, i32::MAX] {
        for flags in 0..=FLAGS {
            let result = check(RawOptions {
                flags,
                event_fd,
                ..PLAIN
            });
            if flags & options::EVENTFD != 0 {
                // Whether it is one is not seen here; 0 is a descriptor like any other.
                assert_eq!(result.unwrap().eventfd, Some(event_fd));
            } else if event_fd == 0 {
                assert_eq!(result.unwrap().eventfd, None);
            } else {
                assert_eq!(result.err(), Some(Reason::Padding));
            }
        }
    }
}

#[test]
fn cloexec_is_the_only_file_flag() {
    for o_cloexec in CLOEXECS {
        for bit in 0..u32::BITS {
            let fd_flags = 1 << bit;
            let alone = Options::check(&RawOptions { fd_flags, ..PLAIN }, o_cloexec);
            let fd_flags = fd_flags | o_cloexec;
            let with = Options::check(&RawOptions { fd_flags, ..PLAIN }, o_cloexec);
            if fd_flags == o_cloexec {
                assert!(alone.unwrap().cloexec);
                assert!(with.unwrap().cloexec);
            } else {
                assert_eq!(alone.err(), Some(Reason::FdFlags));
                assert_eq!(with.err(), Some(Reason::FdFlags));
            }
        }
    }
}

#[test]
fn physical_bits_go_up_to_64() {
    for phys_bits in 0..=64 {
        let options = check(RawOptions { phys_bits, ..PLAIN }).unwrap();
        assert_eq!(options.phys_bits, (phys_bits != 0).then_some(phys_bits));
    }
    for phys_bits in (65..=1000).chain([1 << 16, 1 << 31, (1 << 31) | 32, u32::MAX]) {
        let result = check(RawOptions { phys_bits, ..PLAIN });
        assert_eq!(result.err(), Some(Reason::PhysBitsValue), "{phys_bits}");
    }
}

#[test]
fn zero_segments_are_any_number() {
    for max_segs in [1, 2, 0x7fff_ffff, u32::MAX] {
        let options = check(RawOptions { max_segs, ..PLAIN }).unwrap();
        assert_eq!(options.max_segs, Some(max_segs));
    }
    assert_eq!(check(PLAIN).unwrap().max_segs, None);
}

#[test]
fn name_ends_at_its_first_nul() {
    for len in 1..NAME_LEN {
        let text: Vec<u8> = (0..len as u8).map(|n| b'A' + n).collect();
        let options = check(RawOptions {
            name: name(&text),
            ..PLAIN
        })
        .unwrap();
        let with_nul = options.name().unwrap();
        assert_eq!(&with_nul[..len], text);
        assert_eq!(&with_nul[len..], b"\0");
    }
    let options = check(RawOptions {
        name: name(b""),
        ..PLAIN
    });
    assert_eq!(options.unwrap().name(), None);
}

/// What is after the NUL is padding, so that it can mean something one day.
#[test]
fn name_is_followed_by_zeros() {
    for len in 0..NAME_LEN - 1 {
        let valid = name(&[b'n'].repeat(len));
        assert!(check(RawOptions {
            name: valid,
            ..PLAIN
        })
        .is_ok());
        for at in len + 1..NAME_LEN {
            for byte in [1, b'n', 0x80, 0xff] {
                let mut name = valid;
                name[at] = byte;
                let result = check(RawOptions { name, ..PLAIN });
                assert_eq!(result.err(), Some(Reason::Padding), "{len} {at}");
            }
        }
    }
}

#[test]
fn name_without_nul_is_refused() {
    for byte in 1..=u8::MAX {
        let result = check(RawOptions {
            name: [byte; NAME_LEN],
            ..PLAIN
        });
        assert_eq!(result.err(), Some(Reason::Name));
    }
}

/// A valid value mostly, so that errors are told by the field that has one.
fn mostly<T>(
    valid: impl Strategy<Value = T>,
    any: impl Strategy<Value = T>,
) -> impl Strategy<Value = T>
where
    T: std::fmt::Debug,
{
    prop_oneof![3 => valid, 1 => any]
}

prop_compose! {
    fn any_raw()(
        flags in mostly(0..=FLAGS, any::<u32>()),
        pad in mostly(Just(0), any::<u32>()),
        fd_flags in mostly(prop_oneof![Just(0), Just(CLOEXEC)], any::<u32>()),
        event_fd in mostly(Just(0), any::<i32>()),
        max_segs in any::<u32>(),
        phys_bits in mostly(0..=64u32, 60..70u32),
        name in mostly(
            (0..NAME_LEN, any::<[u8; NAME_LEN]>()).prop_map(|(nul, mut name)| {
                name[nul..].fill(0);
                name
            }),
            prop_oneof![
                any::<[u8; NAME_LEN]>().prop_map(|name| name.map(|byte| byte.max(1))),
                // Something after the first NUL, most often.
                (0..NAME_LEN, any::<[u8; NAME_LEN]>()).prop_map(|(nul, mut name)| {
                    name[nul] = 0;
                    name
                }),
            ],
        ),
    ) -> RawOptions {
        RawOptions { flags, pad, fd_flags, event_fd, max_segs, phys_bits, name }
    }
}

proptest! {
    /// The order is the ABI's: a program that asks for something new learns that first.
    #[test]
    fn first_error_is_told(raw in any_raw()) {
        let eventfd = raw.flags & 8 == 8;
        let name_len = raw.name.iter().position(|&byte| byte == 0);
        let after_name = name_len.map_or(&[][..], |len| &raw.name[len..]);
        let errors = [
            (raw.flags > 15, Reason::Flags),
            (raw.pad != 0, Reason::Padding),
            (raw.event_fd != 0 && !eventfd, Reason::Padding),
            (raw.fd_flags != 0 && raw.fd_flags != CLOEXEC, Reason::FdFlags),
            (name_len.is_none(), Reason::Name),
            (after_name.iter().any(|&byte| byte != 0), Reason::Padding),
            (raw.phys_bits > 64, Reason::PhysBitsValue),
        ];
        let first = errors.iter().find(|(wrong, _)| *wrong).map(|&(_, reason)| reason);
        let result = check(raw);
        prop_assert_eq!(result.as_ref().err(), first.as_ref());

        if let Ok(options) = result {
            prop_assert_eq!(options.read_only, raw.flags & 1 == 1);
            prop_assert_eq!(options.unaligned, raw.flags & 2 == 2);
            prop_assert_eq!(options.dry_run, raw.flags & 4 == 4);
            prop_assert_eq!(options.eventfd.is_some(), eventfd);
            prop_assert_eq!(options.eventfd.unwrap_or(0), raw.event_fd);
            prop_assert_eq!(options.cloexec, raw.fd_flags == CLOEXEC);
            prop_assert_eq!(options.max_segs.unwrap_or(0), raw.max_segs);
            prop_assert_eq!(options.phys_bits.unwrap_or(0), raw.phys_bits);
            match options.name() {
                None => prop_assert_eq!(raw.name[0], 0),
                Some(name) => {
                    prop_assert!(name.len() > 1);
                    prop_assert!(raw.name.starts_with(name));
                    prop_assert_eq!(name.iter().position(|&byte| byte == 0), Some(name.len() - 1));
                }
            }
        }
    }
}
