// SPDX-License-Identifier: GPL-2.0-only

//! Reasons against the ABI header, its documentation included.

use super::{
    header,
    reason::{
        for_each_reason,
        Failure,
        Reason, //
    },
};
use std::collections::{
    HashMap,
    HashSet, //
};

struct Row {
    reason: Reason,
    name: &'static str,
    number: u32,
    errno: &'static str,
    value: i32,
}

macro_rules! rows {
    ($(($variant:ident, $name:ident, $number:literal, $errno:ident, $value:literal))*) => {
        [$(Row {
            reason: Reason::$variant,
            name: stringify!($name),
            number: $number,
            errno: stringify!($errno),
            value: $value,
        }),*]
    };
}

const ROWS: &[Row] = &for_each_reason!(rows);

/// `asm-generic/errno-base.h` and `asm-generic/errno.h`, as far as reasons use them. The
/// architectures of the module have no numbers of their own.
const ERRNOS: &[(&str, i32)] = &[
    ("EPERM", 1),
    ("EINTR", 4),
    ("EIO", 5),
    ("E2BIG", 7),
    ("EBADF", 9),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("ENODEV", 19),
    ("EINVAL", 22),
    ("EMFILE", 24),
    ("EMLINK", 31),
    ("ERANGE", 34),
    ("EOVERFLOW", 75),
    ("EOPNOTSUPP", 95),
];

#[test]
fn reasons_are_those_of_the_header() {
    let reasons: Vec<(&str, u32)> = ROWS.iter().map(|row| (row.name, row.number)).collect();
    let mut expected = header::reasons();
    // Success is no reason to fail.
    assert_eq!(expected.remove(0), ("VMMEXP_REASON_NONE", 0));
    assert_eq!(reasons, expected);
}

#[test]
fn variants_have_their_numbers() {
    for row in ROWS {
        assert_eq!(row.reason as u32, row.number, "{}", row.name);
    }
}

#[test]
fn variants_are_called_as_in_the_header() {
    for row in ROWS {
        let name = row.name.strip_prefix("VMMEXP_REASON_").unwrap();
        let variant = format!("{:?}", row.reason).to_uppercase();
        assert_eq!(variant, name.replace('_', ""));
    }
}

#[test]
fn numbers_are_unique_and_none_is_success() {
    let numbers: HashSet<u32> = ROWS.iter().map(|row| row.reason as u32).collect();
    assert_eq!(numbers.len(), ROWS.len());
    assert!(!numbers.contains(&0));
}

#[test]
fn errnos_are_positive_and_have_their_numbers() {
    let errnos: HashMap<&str, i32> = ERRNOS.iter().copied().collect();
    for row in ROWS {
        assert!(row.reason.errno() > 0, "{}", row.name);
        assert_eq!(row.reason.errno(), row.value, "{}", row.name);
        assert_eq!(Some(&row.value), errnos.get(row.errno), "{}", row.name);
    }
}

#[test]
fn every_reason_is_documented_once_and_in_order() {
    let documented: Vec<&str> = header::documented_reasons()
        .iter()
        .map(|&(name, _)| name)
        .collect();
    let expected: Vec<&str> = header::reasons().iter().map(|&(name, _)| name).collect();
    assert_eq!(documented, expected);
}

#[test]
fn documented_errnos_are_those_returned() {
    let documented: HashMap<&str, String> = header::documented_reasons().into_iter().collect();
    for row in ROWS {
        let text = &documented[row.name];
        let errnos = text
            .strip_suffix(']')
            .and_then(|text| text.rsplit_once('['))
            .unwrap_or_else(|| panic!("{}: no errno at the end of: {text}", row.name))
            .1;
        let expected = match row.reason {
            // The kernel has one for the process and one for the system.
            Reason::NoFd => "EMFILE or ENFILE",
            // Whatever dma_buf_export() says; the row's is what fills the gap.
            Reason::ExportFailed => "its errno",
            _ => row.errno,
        };
        assert_eq!(errnos, expected, "{}", row.name);
    }
    assert!(!documented["VMMEXP_REASON_NONE"].contains('['));
}

/// Two demands of the caller that a later attempt may drop are told apart by errno alone.
#[test]
fn limits_of_the_caller_have_errnos_of_their_own() {
    for own in [Reason::MaxSegs, Reason::PhysBits] {
        let same = ROWS.iter().filter(|row| row.value == own.errno());
        assert_eq!(same.count(), 1, "{own:?}");
    }
}

#[test]
fn failures_carry_the_errno_of_their_reason() {
    for row in ROWS {
        let expected = |offset| Failure {
            reason: row.reason,
            errno: row.value,
            offset,
        };
        assert_eq!(Failure::at(row.reason, 4097), expected(4097));
        assert_eq!(Failure::at(row.reason, u64::MAX), expected(u64::MAX));
        assert_eq!(Failure::from(row.reason), expected(0));
    }
}
