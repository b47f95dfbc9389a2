// SPDX-License-Identifier: GPL-2.0-only

//! What stands for `carveout.rs` where the kernel has no device trees.

use super::region::Regions;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// No driver.
pub(crate) struct Registration;

impl Registration {
    /// Does nothing.
    pub(crate) fn new(_regions: Arc<Regions>) -> Result<Self> {
        Ok(Self)
    }
}
