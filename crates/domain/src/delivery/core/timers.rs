//! When leases lapse, and when what is held is ready again.
//!
//! Nearly every lease is decided in time, and lapses come in the order in which leases are given: so those
//! stand in a row, are passed over there when they are over, and cost no look-up. All else is kept in order.
//!
//! Invariants:
//! 1. What was set and not removed is found, in the order of times.
//! 2. Of entries in the row whose lease is over there are never more than of others, and a few.

use super::event::{Event, State};
use ports::Monotonic;
use slab::Slab;
use std::collections::{BTreeSet, VecDeque};

/// So many entries in the row may be over, however few others are.
const OVER_MAX: usize = 64;

/// The lapse of a lease that runs from when it was given.
#[derive(Clone, Copy, Debug)]
struct Lapse {
    at: Monotonic,
    slot: u32,
    /// The lease: of a number there is one entry in the row.
    number: u64,
}

impl Lapse {
    fn is_to_come(&self, events: &Slab<Event>) -> bool {
        events.get(self.slot as usize).is_some_and(|event| {
            event.number == self.number && event.state == State::Out { deadline: self.at }
        })
    }
}

/// The times of a core, of an event one at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    row: VecDeque<Lapse>,
    /// How many of the row were not removed.
    lapses: usize,
    others: BTreeSet<(Monotonic, u32)>,
}

impl Timers {
    /// When a lease lapses that has just been given under this number.
    pub(super) fn set_lapse(&mut self, at: Monotonic, slot: u32, number: u64) {
        if self.row.back().is_none_or(|last| last.at <= at) {
            self.row.push_back(Lapse { at, slot, number });
            self.lapses += 1;
        } else {
            self.others.insert((at, slot));
        }
    }

    /// Any other time of an event.
    pub(super) fn set(&mut self, at: Monotonic, slot: u32) {
        self.others.insert((at, slot));
    }

    /// Takes back the time of an event. It must have been set.
    pub(super) fn remove(&mut self, at: Monotonic, slot: u32, events: &Slab<Event>) {
        if !self.others.is_empty() && self.others.remove(&(at, slot)) {
            return;
        }
        self.lapses -= 1;
        while self.row.front().is_some_and(|first| !first.is_to_come(events)) {
            self.row.pop_front();
        }
        if self.row.len() > 2 * self.lapses + OVER_MAX {
            self.row.retain(|lapse| lapse.is_to_come(events));
        }
    }

    /// The first of all, with whose it is.
    pub(super) fn first(&self, events: &Slab<Event>) -> Option<(Monotonic, u32)> {
        let lapse = self.row.iter().find(|lapse| lapse.is_to_come(events));
        let lapse = lapse.map(|lapse| (lapse.at, lapse.slot));
        let other = self.others.first().copied();
        [lapse, other].into_iter().flatten().min()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
