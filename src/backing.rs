// SPDX-License-Identifier: GPL-2.0-only

//! What holds the memory of a buffer.

pub(crate) mod pinned;

use super::kernel_ext::gup::PinnedPages;

/// What holds the memory of a buffer. Carve-outs will make this an enumeration.
pub(crate) type Backing = PinnedPages;
