// SPDX-License-Identifier: GPL-2.0-only

//! What differs between the supported kernels, 7.2 and 7.3.
//!
//! `Kbuild` sets `VMMEXP_SINCE_7_3`; this file is the only one that looks.

use kernel::{
    device::Device,
    faux,
    ThisModule, //
};

/// This module, for what holds a reference to it.
pub(crate) fn this_module() -> &'static ThisModule {
    #[cfg(VMMEXP_SINCE_7_3)]
    {
        kernel::module::this_module::<crate::LocalModule>()
    }
    #[cfg(not(VMMEXP_SINCE_7_3))]
    {
        &crate::THIS_MODULE
    }
}

/// The device of a faux registration.
pub(super) fn faux_device(registration: &faux::Registration) -> &Device {
    #[cfg(VMMEXP_SINCE_7_3)]
    {
        let faux: &faux::Device<kernel::device::Bound> = registration.as_ref();
        let bound: &Device<kernel::device::Bound> = faux.as_ref();
        bound
    }
    #[cfg(not(VMMEXP_SINCE_7_3))]
    {
        registration.as_ref()
    }
}
