// SPDX-License-Identifier: GPL-2.0-only

//! Fake devices with limits of choice, and real ones of the PCI bus.

use crate::helpers;
use core::ptr::{
    null,
    null_mut,
    NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};

/// Names must differ: the driver core has one directory for all faux devices.
static NEXT_NAME: Atomic<u32> = Atomic::new(0);

/// What a device can do.
pub(crate) struct Limits {
    /// The addresses it drives.
    pub(crate) dma_mask: u64,
    /// The highest address that passes its bus, 0 for any.
    pub(crate) bus_dma_limit: u64,
    /// None: it has no `dma_parms`. 0: it has, but its driver left the size alone.
    pub(crate) max_segment_size: Option<u32>,
    /// Whether it snoops the CPU's caches. None: as the machine has it.
    pub(crate) coherent: Option<bool>,
    /// Where the second of the bus's windows to memory begins, and what it adds to addresses (all
    /// ones: there is none). None: the bus has no windows.
    pub(crate) windows: Option<(u64, u64)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dma_mask: u64::MAX,
            bus_dma_limit: 0,
            max_segment_size: None,
            coherent: None,
            windows: None,
        }
    }
}

/// What there is behind a [`Device`].
///
/// # Invariants
///
/// `Faux`: the device is registered; its `dma_parms` is NULL or points to `_parms`.
/// `Pci`: what `pci_get` gave, ours to put.
enum Kind {
    Faux {
        device: NonNull<bindings::faux_device>,
        _parms: KBox<Opaque<bindings::device_dma_parameters>>,
    },
    Pci(NonNull<bindings::device>),
}

/// A device for dma-bufs to be attached to: one without hardware, on the faux bus, or one of the
/// PCI bus that has no driver.
pub(crate) struct Device {
    kind: Kind,
    name: CString,
}

// SAFETY: A device may be used and destroyed on any thread.
unsafe impl Send for Device {}
// SAFETY: What `&self` allows is reading what does not change.
unsafe impl Sync for Device {}

impl Device {
    /// Make a device with these limits.
    pub(crate) fn new(limits: &Limits) -> Result<Arc<Self>> {
        let number = NEXT_NAME.fetch_add(1, Relaxed);
        let name = CString::try_from_fmt(fmt!("vmmexp_mock.{number}"))?;
        let parms = KBox::new(
            Opaque::new(bindings::device_dma_parameters {
                max_segment_size: limits.max_segment_size.unwrap_or(0),
                ..Default::default()
            }),
            GFP_KERNEL,
        )?;
        let parms_ptr = match limits.max_segment_size {
            Some(_) => parms.get(),
            None => null_mut(),
        };

        // SAFETY: The name is a C string, which is copied; no parent and no callbacks are fine.
        let faux = unsafe { bindings::faux_device_create(name.as_char_ptr(), null_mut(), null()) };
        // INVARIANT: it is registered now, and was made with `dma_parms` NULL.
        let device = Self {
            kind: Kind::Faux {
                device: NonNull::new(faux).ok_or(ENODEV)?,
                _parms: parms,
            },
            name,
        };
        // SAFETY: The device is valid by its invariant and nobody knows it yet; `parms_ptr` is
        // NULL or lives in `device`, which keeps it until the device is gone.
        // INVARIANT: `dma_parms` becomes one of the two that are allowed.
        to_result(unsafe {
            helpers::device_init(
                device.as_raw(),
                parms_ptr,
                limits.dma_mask,
                limits.bus_dma_limit,
                limits.coherent.map_or(-1, c_int::from),
            )
        })?;
        if let Some((border, shift)) = limits.windows {
            // SAFETY: As above.
            to_result(unsafe { helpers::device_set_windows(device.as_raw(), border, shift) })?;
        }
        Ok(Arc::new(device, GFP_KERNEL)?)
    }

    /// Take the first PCI device of this vendor and kind. No driver may have it.
    pub(crate) fn pci(vendor: u32, device: u32) -> Result<Arc<Self>> {
        let name = CString::try_from_fmt(fmt!("pci {vendor:04x}:{device:04x}"))?;
        // SAFETY: Any numbers may be asked for.
        let raw = from_err_ptr(unsafe { helpers::pci_get(vendor, device) })?;
        // INVARIANT: it was just given to us.
        let kind = Kind::Pci(NonNull::new(raw).ok_or(ENODEV)?);
        Ok(Arc::new(Self { kind, name }, GFP_KERNEL)?)
    }

    /// The `struct device`.
    pub(crate) fn as_raw(&self) -> *mut bindings::device {
        match &self.kind {
            // SAFETY: It is valid by the invariant; no reference is made.
            Kind::Faux { device, .. } => unsafe { &raw mut (*device.as_ptr()).dev },
            Kind::Pci(device) => device.as_ptr(),
        }
    }

    /// Its name in the driver core.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Whether it snoops the CPU's caches.
    pub(crate) fn is_coherent(&self) -> bool {
        // SAFETY: The device is valid by the invariant.
        unsafe { helpers::device_coherent(self.as_raw()) }
    }

    /// The physical address that it reaches at a DMA address. What a real device reaches, it has
    /// to find out itself: there may be an IOMMU.
    pub(crate) fn dma_to_phys(
        &self,
        address: bindings::dma_addr_t,
    ) -> Result<bindings::phys_addr_t> {
        match self.kind {
            // SAFETY: The device is valid by the invariant.
            Kind::Faux { .. } => Ok(unsafe { helpers::dma_to_phys(self.as_raw(), address) }),
            Kind::Pci(_) => Err(EINVAL),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        match &self.kind {
            // SAFETY: It is registered by the invariant, and will not be used again: every
            // attachment holds a reference to `self`. `_parms` goes after it.
            Kind::Faux { device, .. } => unsafe { bindings::faux_device_destroy(device.as_ptr()) },
            // SAFETY: Ours to put by the invariant, and not used again, as above.
            Kind::Pci(device) => unsafe { helpers::pci_put(device.as_ptr()) },
        }
    }
}
