// SPDX-License-Identifier: GPL-2.0-only

//! What `uapi/linux/vmmexp.h` says.

const HEADER: &str = include_str!("../../../uapi/linux/vmmexp.h");

/// What lies between the first `start` and the first `end` after it.
fn between(start: &str, end: &str) -> &'static str {
    let (_, rest) = HEADER.split_once(start).expect(start);
    rest.split_once(end).expect(end).0
}

/// Name and number of each member of `enum vmmexp_reason`.
pub(crate) fn reasons() -> Vec<(&'static str, u32)> {
    between("\nenum vmmexp_reason {\n", "\n};")
        .lines()
        .map(|line| {
            let (name, number) = line.trim().split_once('=').expect(line);
            let number = number.trim().strip_suffix(',').expect(line);
            (name.trim(), number.parse().expect(line))
        })
        .collect()
}

/// Name and description of each member in the kernel-doc of `enum vmmexp_reason`.
pub(crate) fn documented_reasons() -> Vec<(&'static str, String)> {
    between("\n * enum vmmexp_reason - ", "\n */")
        .split("\n * @")
        .skip(1)
        .map(|member| {
            let (name, text) = member.split_once(':').expect(member);
            let words = text.split_whitespace().filter(|&word| word != "*");
            (name, words.collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// Name and value of each macro whose name starts with `prefix` and whose value is a number, or
/// one bit written as a shift.
pub(crate) fn defines(prefix: &str) -> Vec<(&'static str, u32)> {
    HEADER
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .filter(|line| line.starts_with(prefix))
        .map(|line| {
            let (name, value) = line.split_once(char::is_whitespace).expect(line);
            let value = value.trim();
            let bit = value
                .strip_prefix("(1u << ")
                .and_then(|bit| bit.strip_suffix(')'));
            let value = match bit {
                Some(bit) => 1 << bit.parse::<u32>().expect(line),
                None => value.parse().expect(line),
            };
            (name, value)
        })
        .collect()
}
