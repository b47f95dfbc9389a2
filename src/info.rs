// SPDX-License-Identifier: GPL-2.0-only

//! INFO: what this machine can do. QUERY: what a buffer is, and who uses it.

use super::{
    buffer,
    device::File,
    export::{
        element_size_fits, //
    },
    kernel_ext::{
        cache,
        dma_buf::Memory,
        mmu_notifier,
        usercopy, //
    },
    reason::{
        Failure,
        Reason, //
    },
    region,
    uapi::*,
};
use kernel::page::PAGE_SIZE;

/// What this kernel, architecture and module do: `VMMEXP_FEATURE_*`.
fn features(file: &File) -> u64 {
    [
        (
            cfg!(CONFIG_TRANSPARENT_HUGEPAGE),
            u64::from(VMMEXP_FEATURE_THP),
        ),
        (cfg!(CONFIG_HUGETLB_PAGE), u64::from(VMMEXP_FEATURE_HUGETLB)),
        (
            file.maintainer().is_needed(),
            u64::from(VMMEXP_FEATURE_CACHE_OPS),
        ),
        (cfg!(CONFIG_OF), u64::from(VMMEXP_FEATURE_OF)),
        (cfg!(CONFIG_OF), u64::from(VMMEXP_FEATURE_REGIONS)),
        (mmu_notifier::EXISTS, u64::from(VMMEXP_FEATURE_STALE)),
        (true, u64::from(VMMEXP_FEATURE_REVOKE)),
        (true, u64::from(VMMEXP_FEATURE_EVENTFD)),
        (true, u64::from(VMMEXP_FEATURE_MEMLOCK)),
    ]
    .into_iter()
    .filter(|&(has, _)| has)
    .fold(0, |features, (_, feature)| features | feature)
}

/// Answers INFO.
pub(crate) fn info(file: &File, request: &mut vmmexp_info) -> Result<(), Failure> {
    if request.nr_regions != 0 && !element_size_fits::<vmmexp_region_info>(request.region_size) {
        return Err(Reason::ElementSize.into());
    }
    if request.nr_regions == 0 && (request.regions != 0 || request.region_size != 0) {
        return Err(Reason::NoRanges.into());
    }
    if request.nr_regions > file.max_ranges() {
        return Err(Reason::TooManyRanges.into());
    }
    request.abi_version = VMMEXP_ABI_VERSION;
    request.features = features(file);
    // CAST: Both are small.
    request.page_size = PAGE_SIZE as u32;
    request.cache_align = cache::alignment() as u32;
    request.max_ranges = file.max_ranges();
    request.max_size = file.max_size();
    let regions = file.regions();
    // CAST: A device tree does not list so many.
    request.total_regions = regions.len() as u32;
    for index in 0..request.nr_regions {
        let Some(region) = regions.get(index as usize) else {
            break;
        };
        let offset = u64::from(index) * u64::from(request.region_size);
        let addr = request
            .regions
            .checked_add(offset)
            .and_then(|addr| usize::try_from(addr).ok())
            .ok_or(Reason::ArrayFault)?;
        let size = request.region_size as usize;
        usercopy::write_struct_at(addr, size, &region::info(&region))
            .map_err(|_| Reason::ArrayFault)?;
    }
    let balance = file.accounts().balance();
    request.charged = balance.charged;
    request.charge_left = balance.left;
    Ok(())
}

/// Answers QUERY.
pub(crate) fn query(request: &mut vmmexp_query) -> Result<(), Failure> {
    if request.flags != 0 {
        return Err(Reason::Flags.into());
    }
    let buffer = buffer::from_fd(request.fd)?;
    let usage = buffer.users().now();
    let facts = &buffer.facts;

    // Whoever exported it learns whether it is what they still have.
    if let Some(memory) = buffer.memory() {
        buffer.watch.settle(memory.extents());
    }
    request.state = buffer.watch.life().bits();
    request.size = facts.size;
    request.data_offset = facts.data_offset;
    request.data_size = facts.data_size;
    request.nr_segs = facts.nr_segs;
    request.kinds = facts.kinds;
    request.alignment = facts.alignment;
    request.export_flags = buffer.export_flags;
    request.attachments = usage.attachments;
    request.device_mappings = usage.device_mappings;
    request.cpu_mappings = usage.cpu_mappings;
    request.kernel_mappings = u32::from(usage.kernel_mapping);
    request.pad = 0;
    Ok(())
}
