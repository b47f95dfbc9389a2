// SPDX-License-Identifier: GPL-2.0-only

//! Drivers of device-tree nodes which list reserved memory.
//!
//! C headers: [`include/linux/platform_device.h`](srctree/include/linux/platform_device.h),
//! [`include/linux/of_reserved_mem.h`](srctree/include/linux/of_reserved_mem.h).
//!
//! `kernel::platform` has changed shape between 7.2 and 7.3, carries no data from the registration
//! to `probe`, and lets root unbind a device by hand, which this does not.

use super::{
    helpers,
    reserved::{
        Caching,
        ClaimError,
        Reserved, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::Device,
    error::to_result,
    prelude::*,
    str::CString,
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

/// A driver.
pub(crate) trait Driver: Sized + 'static {
    /// What the registration has for all devices.
    type Context: Send + Sync;
    /// What a bound device has.
    type Bound: Send + Sync + 'static;

    /// The name of the driver.
    const NAME: &'static CStr;
    /// The `compatible` string of its nodes.
    const COMPATIBLE: &'static CStr;

    /// Binds to a device. May sleep.
    fn probe(context: &Self::Context, dev: &Device, node: &Node<'_>) -> Result<KBox<Self::Bound>>;
}

/// The registration of a driver.
///
/// # Invariants
///
/// `driver` is registered, and matches by `ids`.
#[repr(C)]
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<D: Driver> {
    // First, so that the driver of a device leads to the rest.
    #[pin]
    driver: Opaque<bindings::platform_driver>,
    ids: [bindings::of_device_id; 2],
    context: D::Context,
}

// SAFETY: A driver can be unregistered from any thread, and the data are `Send`.
unsafe impl<D: Driver> Send for Registration<D> {}
// SAFETY: Nothing is done through a shared reference but sharing the data, which are `Sync`.
unsafe impl<D: Driver> Sync for Registration<D> {}

impl<D: Driver> Registration<D> {
    /// Registers the driver. Devices there are already are bound before this returns.
    pub(crate) fn new(context: D::Context) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            context,
            ids: [Self::id(), pin_init::zeroed()],
            driver <- Opaque::try_ffi_init(move |slot: *mut bindings::platform_driver| {
                let mut driver: bindings::platform_driver = pin_init::zeroed();
                driver.probe = Some(Ops::<D>::probe);
                driver.remove = Some(Ops::<D>::remove);
                driver.driver.name = D::NAME.as_char_ptr();
                // SAFETY: The table, initialised by now, stays where it is until `drop`.
                driver.driver.of_match_table = unsafe { (*this.as_ptr()).ids.as_ptr() };
                driver.driver.suppress_bind_attrs = true;
                driver.driver.probe_type = bindings::probe_type_PROBE_FORCE_SYNCHRONOUS;
                // SAFETY: `slot` may be written to. The driver is complete, and stays until `drop`.
                // INVARIANT: It is registered if this succeeds.
                to_result(unsafe {
                    slot.write(driver);
                    helpers::vmmexp_helper_platform_driver_register(slot)
                })
            }),
        }? Error)
    }

    fn id() -> bindings::of_device_id {
        let mut id: bindings::of_device_id = pin_init::zeroed();
        let compatible = D::COMPATIBLE.to_bytes();
        for (to, &from) in id.compatible.iter_mut().zip(compatible) {
            *to = from;
        }
        id
    }
}

#[pinned_drop]
impl<D: Driver> PinnedDrop for Registration<D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariants it is registered.
        unsafe { bindings::platform_driver_unregister(self.driver.get()) };
    }
}

/// `struct platform_driver`: what the driver core calls.
struct Ops<D: Driver>(PhantomData<D>);

impl<D: Driver> Ops<D> {
    /// # Safety
    ///
    /// `pdev` must be a device being bound to the driver of a [`Registration<D>`].
    unsafe extern "C" fn probe(pdev: *mut bindings::platform_device) -> c_int {
        // SAFETY: The device has its driver, which is embedded at the start of the registration:
        // `struct device_driver` in the `struct platform_driver`, that in the registration.
        let registration = unsafe {
            let driver = (*pdev).dev.driver;
            let platform_driver = kernel::container_of!(driver, bindings::platform_driver, driver);
            &*platform_driver.cast::<Registration<D>>()
        };
        // SAFETY: The device is valid.
        let (dev, node) = unsafe {
            (
                Device::from_raw(&raw mut (*pdev).dev),
                NonNull::new((*pdev).dev.of_node),
            )
        };
        let Some(node) = node else {
            return ENODEV.to_errno();
        };
        let node = Node {
            ptr: node,
            _dev: PhantomData,
        };
        match D::probe(&registration.context, dev, &node) {
            Ok(bound) => {
                // SAFETY: The data of a device are its driver's.
                unsafe { (*pdev).dev.driver_data = bound.into_foreign().cast() };
                0
            }
            Err(err) => err.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `pdev` must be a device bound by [`Self::probe`] that is being unbound.
    unsafe extern "C" fn remove(pdev: *mut bindings::platform_device) {
        // SAFETY: `probe` put the box there.
        drop(unsafe { KBox::<D::Bound>::from_foreign((*pdev).dev.driver_data.cast()) });
    }
}

/// A node of the device tree.
///
/// # Invariants
///
/// `ptr` is valid for `'a`.
pub(crate) struct Node<'a> {
    ptr: NonNull<bindings::device_node>,
    _dev: PhantomData<&'a Device>,
}

/// Why a region that a node lists cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionError {
    /// There is no such node, or it is not known as reserved memory.
    Missing,
    /// It is not `no-map`.
    Mapped,
    /// It is `reusable`: memory that Linux uses meanwhile.
    Reusable,
    /// It cannot be claimed.
    Claim(ClaimError),
}

impl Node<'_> {
    /// The number of reserved regions it lists in `memory-region`.
    pub(crate) fn region_count(&self) -> usize {
        // SAFETY: The node is valid.
        let count = unsafe { helpers::vmmexp_helper_of_region_count(self.ptr.as_ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// String `index` of a property; `None` if there is none.
    pub(crate) fn string(&self, property: &CStr, index: usize) -> Option<&CStr> {
        let index = c_int::try_from(index).ok()?;
        // SAFETY: The node is valid.
        let string = unsafe {
            helpers::vmmexp_helper_of_string(self.ptr.as_ptr(), property.as_char_ptr(), index)
        };
        if string.is_null() {
            return None;
        }
        // SAFETY: It ends with a NUL (`of_property_read_string_index()`) and lives as long as the
        // node.
        Some(unsafe { <CStr as kernel::str::CStrExt>::from_char_ptr(string) })
    }

    /// Claims region `index` of those it lists, as `name`.
    pub(crate) fn claim_region(
        &self,
        index: usize,
        name: CString,
        caching: Caching,
    ) -> Result<Reserved, RegionError> {
        let index = c_int::try_from(index).map_err(|_| RegionError::Missing)?;
        // SAFETY: The node is valid. The one returned is held by a reference.
        let region = unsafe { helpers::vmmexp_helper_of_region_node(self.ptr.as_ptr(), index) };
        if region.is_null() {
            return Err(RegionError::Missing);
        }
        // SAFETY: The node is valid, and its reference given back.
        let (no_map, reusable) = unsafe {
            let flags = (
                helpers::vmmexp_helper_of_property_present(region, c"no-map".as_char_ptr()),
                helpers::vmmexp_helper_of_property_present(region, c"reusable".as_char_ptr()),
            );
            helpers::vmmexp_helper_of_node_put(region);
            flags
        };
        if reusable {
            return Err(RegionError::Reusable);
        }
        if !no_map {
            return Err(RegionError::Mapped);
        }
        let mut resource = bindings::resource::default();
        // SAFETY: The node is valid, and `resource` may be written to.
        // CAST: Not negative.
        to_result(unsafe {
            helpers::of_reserved_mem_region_to_resource(
                self.ptr.as_ptr(),
                index as c_uint,
                &mut resource,
            )
        })
        .map_err(|_| RegionError::Missing)?;
        #[allow(clippy::useless_conversion, reason = "32-bit kernels have others")]
        let (start, last) = (u64::from(resource.start), u64::from(resource.end));
        let size = last.wrapping_add(1).wrapping_sub(start);
        // SAFETY: The node that the kernel reserved this memory for is `no-map` and not
        // `reusable`, and such memory is never given to Linux.
        unsafe { Reserved::claim(name, start, size, caching) }.map_err(RegionError::Claim)
    }
}
