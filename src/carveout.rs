// SPDX-License-Identifier: GPL-2.0-only

//! The driver of device-tree nodes that list carve-outs, `ti,vmmexp`.

use super::{
    kernel_ext::{
        misc,
        of_driver::{
            self,
            Driver,
            Node,
            RegionError, //
        },
        reserved::{
            Caching,
            ClaimError, //
        }, //
    },
    region::{
        self,
        Region,
        Regions, //
    },
};
use kernel::{
    device::Device,
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// The longest name of a region, without NUL: that of its device fits a dma-buf's.
const MAX_NAME: usize = 23;

/// The driver.
struct Carveouts;

/// The registration of the driver.
pub(crate) struct Registration {
    _driver: Pin<KBox<of_driver::Registration<Carveouts>>>,
}

impl Registration {
    /// Registers the driver, which adds what it finds to `regions`.
    pub(crate) fn new(regions: Arc<Regions>) -> Result<Self> {
        Ok(Self {
            _driver: KBox::pin_init(of_driver::Registration::new(regions), GFP_KERNEL)?,
        })
    }
}

/// The regions of a bound node. Dropping it takes them off the list; files and buffers that have
/// one keep it.
struct Bound {
    regions: Arc<Regions>,
    own: KVec<Added>,
}

/// A region with its device.
struct Added {
    _device: Pin<KBox<misc::Registration<region::File>>>,
    region: Arc<Region>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        for added in &self.own {
            self.regions.remove(&added.region);
        }
    }
}

impl Driver for Carveouts {
    type Context = Arc<Regions>;
    type Bound = Bound;

    const NAME: &'static CStr = c"vmmexp";
    const COMPATIBLE: &'static CStr = c"ti,vmmexp";

    fn probe(regions: &Arc<Regions>, dev: &Device, node: &Node<'_>) -> Result<KBox<Bound>> {
        let mut bound = KBox::new(
            Bound {
                regions: regions.clone(),
                own: KVec::new(),
            },
            GFP_KERNEL,
        )?;
        for index in 0..node.region_count() {
            let name = node.string(c"memory-region-names", index);
            match add_region(regions, node, index, name) {
                Ok(added) => {
                    let region = &added.region;
                    dev_info!(
                        dev,
                        "region '{}': {} KiB, {}, {}\n",
                        &*region.name,
                        // 32-bit kernels cannot print 64-bit numbers from Rust.
                        (region.memory.size() >> 10) as usize,
                        if region.read_only {
                            "read-only"
                        } else {
                            "read-write"
                        },
                        match region.memory.caching() {
                            Caching::Cached => "cached",
                            Caching::Uncached => "uncached",
                        }
                    );
                    let region = region.clone();
                    bound.own.push(added, GFP_KERNEL)?;
                    regions.add(region)?;
                }
                Err(cause) => match name {
                    Some(name) => dev_err!(dev, "region '{}': {}, not used\n", name, cause),
                    None => dev_err!(dev, "region {}: {}, not used\n", index, cause),
                },
            }
        }
        Ok(bound)
    }
}

fn name_fits(name: &CStr) -> bool {
    let bytes = name.to_bytes();
    (1..=MAX_NAME).contains(&bytes.len())
        && bytes[0] != b'-'
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// Reads what the node says of region `index`, claims it, and makes its device; or says why not.
fn add_region(
    regions: &Regions,
    node: &Node<'_>,
    index: usize,
    name: Option<&CStr>,
) -> Result<Added, &'static str> {
    const NO_MEMORY: &str = "out of memory";

    let name = name.ok_or("it has no name in memory-region-names")?;
    if !name_fits(name) {
        return Err("the name is not 1 to 23 of a-z, 0-9 and -");
    }
    if (0..regions.len()).any(|other| {
        regions
            .get(other)
            .is_some_and(|other| other.name.to_bytes() == name.to_bytes())
    }) {
        return Err("another region has that name");
    }
    let read_only = match node.string(c"ti,region-access", index).map(CStr::to_bytes) {
        None | Some(b"read-write") => false,
        Some(b"read-only") => true,
        Some(_) => return Err("ti,region-access is neither read-write nor read-only"),
    };
    let caching = match node.string(c"ti,region-cache", index).map(CStr::to_bytes) {
        None | Some(b"uncached") => Caching::Uncached,
        Some(b"cached") => Caching::Cached,
        Some(_) => return Err("ti,region-cache is neither cached nor uncached"),
    };
    let device_name = || CString::try_from_fmt(fmt!("vmmexp-{}", name)).map_err(|_| NO_MEMORY);
    let memory = node
        .claim_region(index, device_name()?, caching)
        .map_err(|err| match err {
            RegionError::Missing => "there is no such reserved memory",
            RegionError::Mapped => "it is not no-map",
            RegionError::Reusable => "it is reusable: Linux uses that memory",
            RegionError::Claim(ClaimError::Unaligned) => "it is not aligned to pages",
            RegionError::Claim(ClaimError::Busy) => {
                "a part of it belongs to another region or driver"
            }
            RegionError::Claim(ClaimError::Map) => "it cannot be mapped",
            RegionError::Claim(ClaimError::Caching) => {
                "this architecture cannot maintain caches over it"
            }
        })?;
    let region = Arc::new(
        Region {
            name: CString::try_from(name).map_err(|_| NO_MEMORY)?,
            read_only,
            memory: Arc::new(memory, GFP_KERNEL).map_err(|_| NO_MEMORY)?,
        },
        GFP_KERNEL,
    )
    .map_err(|_| NO_MEMORY)?;
    let device = KBox::pin_init(
        misc::Registration::new(device_name()?, region.clone()),
        GFP_KERNEL,
    )
    .map_err(|_| "its device cannot be registered")?;
    Ok(Added {
        _device: device,
        region,
    })
}
