// SPDX-License-Identifier: GPL-2.0-only

//! The state of a buffer, as QUERY and the eventfd tell it.
//!
//! Pure, see `extent.rs`.
//!
//! ```text
//!            clear                 unmap, or QUERY sees another page
//!   live ------------> suspect -----------------------> stale
//!     <------------------+
//!       QUERY sees the same pages
//!
//!   any of these --- REVOKE ---> revoked --- nobody uses the memory ---> released
//! ```

/// Whether the exporting process still has the buffer's pages at its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// Nobody watches.
    Unwatched,
    Live,
    Suspect,
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// The export is not done: what happens now is looked at when it is.
    Exporting,
    Shared,
    Revoked,
    Released,
}

/// What happened to the memory of the exporting process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was unmapped.
    Unmap,
    /// It was taken out of the page tables; what will be there next is not known.
    Clear,
}

/// What a look at the page tables showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The buffer's pages, all of them.
    Same,
    /// A page that is not the buffer's.
    Different,
    /// Nothing at some address, at present.
    Unknown,
}

/// The state of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    memory: Memory,
    sharing: Sharing,
    events: u64,
}

/// `VMMEXP_STATE_LIVE`.
pub(crate) const LIVE: u32 = 1 << 0;
/// `VMMEXP_STATE_SUSPECT`.
pub(crate) const SUSPECT: u32 = 1 << 1;
/// `VMMEXP_STATE_STALE`.
pub(crate) const STALE: u32 = 1 << 2;
/// `VMMEXP_STATE_REVOKED`.
pub(crate) const REVOKED: u32 = 1 << 3;
/// `VMMEXP_STATE_RELEASED`.
pub(crate) const RELEASED: u32 = 1 << 4;

impl State {
    /// That of a buffer in the making, whose memory is `watched` or not.
    pub(crate) const fn new(watched: bool) -> Self {
        Self {
            memory: if watched {
                Memory::Live
            } else {
                Memory::Unwatched
            },
            sharing: Sharing::Exporting,
            events: 0,
        }
    }

    /// `VMMEXP_STATE_*`.
    pub(crate) const fn bits(&self) -> u32 {
        match (self.sharing, self.memory) {
            (Sharing::Revoked, _) => REVOKED,
            (Sharing::Released, _) => REVOKED | RELEASED,
            (_, Memory::Unwatched) => 0,
            (_, Memory::Live) => LIVE,
            (_, Memory::Suspect) => SUSPECT,
            (_, Memory::Stale) => STALE,
        }
    }

    /// Whether a look at the page tables could tell more.
    pub(crate) const fn is_suspect(&self) -> bool {
        self.bits() == SUSPECT
    }

    /// How many events there were: to be given to [`Self::settle`].
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// Takes note of an event.
    pub(crate) fn observe(&mut self, event: Event) {
        self.events += 1;
        self.memory = match (self.memory, event, self.sharing) {
            (Memory::Live | Memory::Suspect, Event::Unmap, Sharing::Exporting) => Memory::Suspect,
            (Memory::Live | Memory::Suspect, Event::Unmap, _) => Memory::Stale,
            (Memory::Live, Event::Clear, _) => Memory::Suspect,
            (memory, ..) => memory,
        };
    }

    /// The memory is gathered. Events before this may have come before the page they are about was
    /// pinned, and leave the buffer suspect at worst; from now on they count.
    pub(crate) fn gathered(&mut self) {
        if self.sharing == Sharing::Exporting {
            self.sharing = Sharing::Shared;
        }
    }

    /// Takes note of a look at the page tables that began when there had been `events`, and after
    /// what these are about was over.
    pub(crate) fn settle(&mut self, events: u64, verdict: Verdict) {
        if events != self.events || self.memory != Memory::Suspect {
            return;
        }
        self.memory = match verdict {
            Verdict::Same => Memory::Live,
            Verdict::Different => Memory::Stale,
            Verdict::Unknown => Memory::Suspect,
        };
    }

    /// The buffer was revoked.
    pub(crate) fn revoke(&mut self) {
        if self.sharing != Sharing::Released {
            self.sharing = Sharing::Revoked;
        }
    }

    /// The memory of the revoked buffer was given back.
    pub(crate) fn release(&mut self) {
        self.sharing = Sharing::Released;
    }
}
