// SPDX-License-Identifier: GPL-2.0-only

//! Carve-out regions: what is known of each, the list of them, and `/dev/vmmexp-<name>`.

use super::{
    kernel_ext::{
        misc::{
            FileOps,
            MiscFile,
            RegionFile, //
        },
        reserved::Reserved, //
    },
    uapi::*,
};
use kernel::{
    fs,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// A carve-out region.
pub(crate) struct Region {
    /// Its name: the device is `vmmexp-<name>`.
    pub(crate) name: CString,
    /// Whether it may only be read.
    pub(crate) read_only: bool,
    /// The memory.
    pub(crate) memory: Arc<Reserved>,
}

/// The regions there are.
#[pin_data]
pub(crate) struct Regions {
    #[pin]
    list: Mutex<KVec<Arc<Region>>>,
}

impl Regions {
    /// None as yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new(), "vmmexp::Regions::list"),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds a region.
    pub(crate) fn add(&self, region: Arc<Region>) -> Result {
        self.list.lock().push(region, GFP_KERNEL)?;
        Ok(())
    }

    /// Takes a region off the list; its memory stays with the buffers made of it.
    pub(crate) fn remove(&self, region: &Arc<Region>) {
        let mut list = self.list.lock();
        if let Some(index) = list.iter().position(|other| Arc::ptr_eq(other, region)) {
            // Cannot fail: the index is of the list.
            let _ = list.remove(index);
        }
    }

    /// The region which page frame `pfn` lies in, and its offset there in bytes.
    pub(crate) fn find(&self, pfn: usize) -> Option<(Arc<Region>, u64)> {
        self.list
            .lock()
            .iter()
            .find_map(|region| Some((region.clone(), region.memory.offset_of(pfn)?)))
    }

    /// Region `index` of the list.
    pub(crate) fn get(&self, index: usize) -> Option<Arc<Region>> {
        self.list.lock().get(index).cloned()
    }

    /// Bytes of all of them together.
    pub(crate) fn size(&self) -> u64 {
        let list = self.list.lock();
        list.iter().map(|region| region.memory.size()).sum()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.lock().len()
    }
}

/// An open `/dev/vmmexp-<name>`.
pub(crate) struct File {
    region: Arc<Region>,
    writable: bool,
}

impl File {
    /// The region.
    pub(crate) fn get(&self) -> &Arc<Region> {
        &self.region
    }

    /// Whether the file was opened for writing.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }
}

static OPS: FileOps<File> = FileOps::with_region();

impl MiscFile for File {
    type Device = Arc<Region>;

    fn ops() -> &'static FileOps<Self> {
        &OPS
    }

    fn open(region: &Arc<Region>, file: &fs::File) -> Result<Self> {
        let mode = file.flags() & fs::file::flags::O_ACCMODE;
        let writable = mode != fs::file::flags::O_RDONLY;
        // A buffer can always be read, so whoever may not read the region is not to make one.
        if mode == fs::file::flags::O_WRONLY || (writable && region.read_only) {
            return Err(EACCES);
        }
        Ok(Self {
            region: region.clone(),
            writable,
        })
    }
}

impl RegionFile for File {
    fn region(&self) -> &Reserved {
        &self.region.memory
    }
}

/// What INFO tells of a region.
pub(crate) fn info(region: &Region) -> vmmexp_region_info {
    use super::kernel_ext::reserved::Caching;

    let mut info = vmmexp_region_info {
        size: region.memory.size(),
        ..Default::default()
    };
    if region.read_only {
        info.flags |= VMMEXP_REGION_READ_ONLY;
    }
    if region.memory.caching() == Caching::Cached {
        info.flags |= VMMEXP_REGION_CACHED;
    }
    // The last byte stays NUL: names are short.
    let name = region.name.to_bytes().iter();
    for (to, &from) in info.name[..VMMEXP_NAME_LEN as usize - 1]
        .iter_mut()
        .zip(name)
    {
        *to = from;
    }
    info
}
