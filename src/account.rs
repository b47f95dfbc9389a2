// SPDX-License-Identifier: GPL-2.0-only

//! What users are charged for the memory that their buffers lock.

use super::{
    kernel_ext::{
        memlock::{
            rlimit_pages,
            User, //
        },
        task::Capability,
        PAGE_SHIFT, //
    },
    reason::Reason,
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// What one user is charged, in pages.
struct Account {
    user: User,
    pages: Atomic<usize>,
    /// The administrator's limit.
    limit: usize,
}

impl Account {
    /// Charges `pages` more. Does not sleep.
    fn charge(&self, pages: usize, rlimit: usize) -> Result<(), Reason> {
        let mut before = self.pages.load(Relaxed);
        loop {
            match before.checked_add(pages) {
                Some(after) if after <= self.limit => {
                    match self.pages.cmpxchg(before, after, Relaxed) {
                        Ok(_) => break,
                        Err(now) => before = now,
                    }
                }
                _ => return Err(Reason::UserLimit),
            }
        }
        self.user.charge(pages, rlimit).map_err(|_| {
            self.pages.fetch_sub(pages, Relaxed);
            Reason::MemLock
        })
    }

    fn uncharge(&self, pages: usize) {
        self.user.uncharge(pages);
        self.pages.fetch_sub(pages, Relaxed);
    }
}

/// An account, and how many charges are to it.
struct Entry {
    account: Arc<Account>,
    charges: usize,
}

/// The accounts of the users that have buffers.
#[pin_data]
pub(crate) struct Accounts {
    #[pin]
    entries: Mutex<RBTree<usize, Entry>>,
    limit: usize,
}

/// What the calling user is charged, and may be charged yet; bytes.
pub(crate) struct Balance {
    pub(crate) charged: u64,
    /// `u64::MAX` if there is no limit.
    pub(crate) left: u64,
}

impl Accounts {
    /// None as yet; each will have a limit of `limit` bytes, or none if that is zero.
    pub(crate) fn new(limit: u64) -> Result<Arc<Self>> {
        let pages = usize::try_from(limit >> PAGE_SHIFT).unwrap_or(usize::MAX);
        let limit = if limit == 0 { usize::MAX } else { pages };
        Arc::pin_init(
            pin_init!(Self {
                entries <- new_mutex!(RBTree::new(), "vmmexp::Accounts::entries"),
                limit,
            }),
            GFP_KERNEL,
        )
    }

    /// What the calling user is charged. May sleep.
    pub(crate) fn balance(&self) -> Balance {
        let user = User::current();
        let pages = match self.entries.lock().get(&user.key()) {
            Some(entry) => entry.account.pages.load(Relaxed),
            None => 0,
        };
        let left = rlimit_pages()
            .saturating_sub(user.locked_pages())
            .min(self.limit.saturating_sub(pages));
        let unlimited = Capability::IpcLock.is_held()
            || (rlimit_pages() == usize::MAX && self.limit == usize::MAX);
        Balance {
            charged: (pages as u64) << PAGE_SHIFT,
            left: if unlimited {
                u64::MAX
            } else {
                (left as u64) << PAGE_SHIFT
            },
        }
    }
}

/// A charge to a user. Dropping it gives it back.
pub(crate) struct Charge {
    /// `None` if nothing is charged, because the user may lock as much as they like.
    account: Option<(Arc<Account>, Arc<Accounts>)>,
    /// What was charged and not given back; not more than once, whoever comes first.
    pages: Atomic<usize>,
    /// What the calling user may have locked, as of the beginning.
    rlimit: usize,
}

impl Charge {
    /// A charge of nothing to the calling user. May sleep.
    pub(crate) fn new(accounts: &Arc<Accounts>) -> Result<Self, Reason> {
        let account = if Capability::IpcLock.is_held() {
            None
        } else {
            Some((accounts.open()?, accounts.clone()))
        };
        Ok(Self {
            account,
            pages: Atomic::new(0),
            rlimit: rlimit_pages(),
        })
    }

    /// What is charged now.
    pub(crate) fn pages(&self) -> usize {
        self.pages.load(Relaxed)
    }

    /// Charges `pages` more. Does not sleep.
    pub(crate) fn add(&self, pages: usize) -> Result<(), Reason> {
        if let Some((account, _)) = &self.account {
            account.charge(pages, self.rlimit)?;
            self.pages.fetch_add(pages, Relaxed);
        }
        Ok(())
    }

    /// Gives back `pages`, not more than were charged. Does not sleep.
    pub(crate) fn sub(&self, pages: usize) {
        if let Some((account, _)) = &self.account {
            self.pages.fetch_sub(pages, Relaxed);
            account.uncharge(pages);
        }
    }

    /// Gives back everything. Does not sleep.
    pub(crate) fn give_back(&self) {
        if let Some((account, _)) = &self.account {
            account.uncharge(self.pages.xchg(0, Relaxed));
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back();
        if let Some((account, accounts)) = self.account.take() {
            accounts.close(&account);
        }
    }
}

impl Accounts {
    /// The account of the calling user, to be [closed](Self::close).
    fn open(&self) -> Result<Arc<Account>, Reason> {
        let user = User::current();
        let key = user.key();
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&key) {
            entry.charges += 1;
            return Ok(entry.account.clone());
        }
        let account = Arc::new(
            Account {
                user,
                pages: Atomic::new(0),
                limit: self.limit,
            },
            GFP_KERNEL_ACCOUNT,
        )
        .map_err(|_| Reason::NoMemory)?;
        let entry = Entry {
            account: account.clone(),
            charges: 1,
        };
        entries
            .try_create_and_insert(key, entry, GFP_KERNEL_ACCOUNT)
            .map_err(|_| Reason::NoMemory)?;
        Ok(account)
    }

    fn close(&self, account: &Account) {
        let key = account.user.key();
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&key) {
            entry.charges -= 1;
            if entry.charges == 0 {
                entries.remove(&key);
            }
        }
    }
}
