// SPDX-License-Identifier: GPL-2.0-only

//! The buffers there are: what debugfs tells of all of them, and fdinfo of those of one file.
//!
//! Nothing here is an address. Buffers are named by the inode numbers of their dma-bufs, as in
//! `fstat()`, in fdinfo of dma-bufs, in bufinfo of dma-buf's own debugfs file and in the trace.

use super::{
    account::Charge,
    buffer::Facts,
    device::Owner,
    kernel_ext::{
        debugfs::Show,
        dma_buf::Users,
        task::Identity,
        PAGE_SHIFT, //
    },
    options::NAME_LEN,
    uapi::*,
    watch::Life,
};
use kernel::{
    fmt,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    seq_file::SeqFile,
    seq_print,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// How many buffers debugfs lists one by one.
const MAX_LISTED: usize = 1024;
/// How many buffers fdinfo lists one by one.
const MAX_IN_FDINFO: usize = 64;

/// What is listed of a buffer.
pub(crate) struct Record {
    pub(crate) facts: Facts,
    pub(crate) export_flags: u32,
    /// The name given by EXPORT; `DMA_BUF_SET_NAME` may have given another one since.
    pub(crate) name: [u8; NAME_LEN],
    /// Who exported it.
    pub(crate) who: Identity,
    /// Through what file.
    pub(crate) owner: Arc<Owner>,
    pub(crate) life: Arc<Life>,
    pub(crate) users: Arc<Users>,
    pub(crate) charge: Arc<Charge>,
}

/// The buffers there are, by the ids of their dma-bufs.
#[pin_data]
pub(crate) struct Registry {
    #[pin]
    records: Mutex<RBTree<u64, Record>>,
}

impl Registry {
    /// None as yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                records <- new_mutex!(RBTree::new(), "vmmexp::Registry::records"),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds a buffer, whose dma-buf has that id. May sleep.
    pub(crate) fn add(&self, id: u64, record: Record) -> Result {
        let node = RBTreeNode::new(id, record, GFP_KERNEL_ACCOUNT)?;
        // Ids are not used twice; were one, its record would be dropped with no lock held.
        let before = self.records.lock().insert(node);
        drop(before);
        Ok(())
    }

    /// Takes a buffer off the list. May sleep.
    pub(crate) fn remove(&self, id: u64) {
        let node = self.records.lock().remove_node(&id);
        // Not with the lock held.
        drop(node);
    }

    /// Tells of the buffers that were exported through the file of `owner`, and are there yet.
    pub(crate) fn show_of(&self, owner: &Arc<Owner>, seq: &SeqFile) {
        let records = self.records.lock();
        let of_owner = || {
            records
                .iter()
                .filter(|(_, record)| Arc::ptr_eq(&record.owner, owner))
        };
        let mut total = Sum::default();
        for (_, record) in of_owner() {
            total.add(record);
        }
        seq_print!(seq, "vmmexp-buffers:\t{}\n", total.buffers);
        seq_print!(seq, "vmmexp-size:\t{} KiB\n", total.kib());
        seq_print!(seq, "vmmexp-charged:\t{} KiB\n", total.charged_kib());
        for (kind, name) in KINDS {
            let mut sum = Sum::default();
            for (_, record) in of_owner().filter(|(_, record)| record.facts.kinds & kind != 0) {
                sum.add(record);
            }
            if sum.buffers != 0 {
                seq_print!(
                    seq,
                    "vmmexp-kind:\t{} buffers={} size={} KiB\n",
                    name,
                    sum.buffers,
                    sum.kib()
                );
            }
        }
        for (&id, record) in of_owner().take(MAX_IN_FDINFO) {
            seq_print!(seq, "vmmexp-buffer:\t{}\n", Line(id, record));
        }
        if total.buffers > MAX_IN_FDINFO {
            let more = total.buffers - MAX_IN_FDINFO;
            seq_print!(seq, "vmmexp-buffer:\t... and {} more\n", more);
        }
    }
}

impl Show for Registry {
    fn show(&self, seq: &SeqFile) {
        let records = self.records.lock();
        let mut total = Sum::default();
        for record in records.values() {
            total.add(record);
        }
        seq_print!(
            seq,
            "total buffers={} size={} KiB charged={} KiB\n",
            total.buffers,
            total.kib(),
            total.charged_kib()
        );
        for (kind, name) in KINDS {
            let mut sum = Sum::default();
            for record in records
                .values()
                .filter(|record| record.facts.kinds & kind != 0)
            {
                sum.add(record);
            }
            seq_print!(
                seq,
                "kind {} buffers={} size={} KiB\n",
                name,
                sum.buffers,
                sum.kib()
            );
        }
        for (&id, record) in records.iter().take(MAX_LISTED) {
            seq_print!(
                seq,
                "{} pid={} uid={} comm={}\n",
                Line(id, record),
                record.who.pid,
                record.who.uid,
                Quoted(&record.who.comm)
            );
        }
        if total.buffers > MAX_LISTED {
            seq_print!(seq, "... and {} more\n", total.buffers - MAX_LISTED);
        }
    }
}

/// Buffers added up. One with memory of several kinds counts whole for each of them.
#[derive(Default)]
struct Sum {
    buffers: usize,
    bytes: u64,
    charged_pages: u64,
}

impl Sum {
    fn add(&mut self, record: &Record) {
        self.buffers += 1;
        self.bytes += record.facts.size;
        self.charged_pages += record.charge.pages() as u64;
    }

    fn kib(&self) -> usize {
        number(self.bytes >> 10)
    }

    fn charged_kib(&self) -> usize {
        number(self.charged_pages << (PAGE_SHIFT - 10))
    }
}

/// 32-bit kernels cannot print 64-bit numbers from Rust. What there is to print would have to be
/// very much to be wider there.
fn number(value: u64) -> usize {
    value as usize
}

const KINDS: [(u32, &str); 6] = [
    (VMMEXP_KIND_ANON, "ANON"),
    (VMMEXP_KIND_SHMEM, "SHMEM"),
    (VMMEXP_KIND_HUGETLB, "HUGETLB"),
    (VMMEXP_KIND_FILE, "FILE"),
    (VMMEXP_KIND_DRIVER, "DRIVER"),
    (VMMEXP_KIND_CARVEOUT, "CARVEOUT"),
];

const FLAGS: [(u32, &str); 3] = [
    (VMMEXP_EXPORT_READ_ONLY, "READ_ONLY"),
    (VMMEXP_EXPORT_UNALIGNED, "UNALIGNED"),
    (VMMEXP_EXPORT_EVENTFD, "EVENTFD"),
];

const STATES: [(u32, &str); 5] = [
    (VMMEXP_STATE_LIVE, "LIVE"),
    (VMMEXP_STATE_SUSPECT, "SUSPECT"),
    (VMMEXP_STATE_STALE, "STALE"),
    (VMMEXP_STATE_REVOKED, "REVOKED"),
    (VMMEXP_STATE_RELEASED, "RELEASED"),
];

/// What both lists have of a buffer.
struct Line<'a>(u64, &'a Record);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id, record) = self;
        let usage = record.users.now();
        f.write_fmt(fmt!(
            "id={} size={} segs={} kinds={} flags={} state={} charged={} attachments={} ",
            number(*id),
            number(record.facts.size),
            record.facts.nr_segs,
            Bits(record.facts.kinds, &KINDS),
            Bits(record.export_flags, &FLAGS),
            Bits(record.life.bits(), &STATES),
            record.charge.pages() << PAGE_SHIFT,
            usage.attachments,
        ))?;
        f.write_fmt(fmt!(
            "device_mappings={} cpu_mappings={} kernel_mappings={} name={}",
            usage.device_mappings,
            usage.cpu_mappings,
            u32::from(usage.kernel_mapping),
            Quoted(&record.name),
        ))
    }
}

/// The names of the bits that are set, `-` if none is.
struct Bits(u32, &'static [(u32, &'static str)]);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for &(_, name) in self.1.iter().filter(|&&(bit, _)| self.0 & bit != 0) {
            f.write_str(before)?;
            f.write_str(name)?;
            before = "|";
        }
        if before.is_empty() {
            f.write_str("-")?;
        }
        Ok(())
    }
}

/// A string that somebody chose, up to its first NUL: in quotation marks, and nothing in it but
/// what can be seen.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for &byte in self.0.iter().take_while(|&&byte| byte != 0) {
            match byte {
                b'"' | b'\\' => f.write_fmt(fmt!("\\{}", char::from(byte)))?,
                b' '..=b'~' => f.write_fmt(fmt!("{}", char::from(byte)))?,
                _ => f.write_fmt(fmt!("\\x{:02x}", byte))?,
            }
        }
        f.write_str("\"")
    }
}
