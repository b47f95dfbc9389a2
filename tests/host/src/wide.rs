// SPDX-License-Identifier: GPL-2.0-only

//! Extents and layouts with pages counted in 64 bits.

use super::reason;

#[path = "../../../src/extent.rs"]
mod extent;
#[path = "../../../src/layout.rs"]
mod layout;

/// What pages are counted in.
type Size = usize;

#[path = "extent_test.rs"]
mod extent_test;
#[path = "layout_test.rs"]
mod layout_test;
