// SPDX-License-Identifier: GPL-2.0-only

//! Extents and layouts with pages counted in 32 bits, while bytes and physical addresses take
//! more (LPAE).
//!
//! What is tested are copies that `build.rs` makes; in these `usize` is `u32`. If one does not
//! compile, the original mixes the number of pages with the length of a slice.

use super::reason;

mod extent {
    include!(concat!(env!("OUT_DIR"), "/extent.rs"));
}
mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

/// What pages are counted in.
type Size = u32;

#[path = "extent_test.rs"]
mod extent_test;
#[path = "layout_test.rs"]
mod layout_test;
