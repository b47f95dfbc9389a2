// SPDX-License-Identifier: GPL-2.0-only

//! What differs between the supported kernels, 7.2 and 7.3.
//!
//! `Kbuild` sets `VMMEXP_SINCE_7_3`; this file is the only one that looks.

use kernel::{
    bindings,
    device::Device,
    faux,
    module_param::ModuleParamAccess,
    types::Opaque, //
};

/// This module, for what holds a reference to it, as a constant: 7.2 has it in a `static` only.
pub(crate) const fn this_module_ptr() -> *mut bindings::module {
    #[allow(improper_ctypes, reason = "only its address is taken")]
    extern "C" {
        static __this_module: Opaque<bindings::module>;
    }
    // SAFETY: The linker script of modules has it; only its address is taken.
    unsafe { __this_module.get() }
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

/// The value of a module parameter.
pub(crate) fn param<T: Copy>(param: &ModuleParamAccess<T>) -> T {
    #[cfg(VMMEXP_SINCE_7_3)]
    {
        param.value()
    }
    #[cfg(not(VMMEXP_SINCE_7_3))]
    {
        *param.value()
    }
}
