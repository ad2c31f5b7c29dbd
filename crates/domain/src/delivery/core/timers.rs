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

#[cfg(test)]
mod tests {
    use super::*;
    use ports::{Record, StoredRecord};
    use std::time::Duration;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn out(number: u64, deadline: Monotonic) -> Event {
        let record = StoredRecord { offset: number, record: Record::default() };
        Event { number, ..Event::new(record, 0, 0, State::Out { deadline }) }
    }

    /// One that takes its time must not have all that were decided behind it remembered.
    #[test]
    fn lapses_that_do_not_come_leave_nothing_behind() {
        let (mut events, mut timers) = (Slab::new(), Timers::default());
        let first = events.insert(out(1, at(1))) as u32;
        timers.set_lapse(at(1), first, 1);
        for number in 2..10_000 {
            let slot = events.insert(out(number, at(number))) as u32;
            timers.set_lapse(at(number), slot, number);
            events.remove(slot as usize);
            timers.remove(at(number), slot, &events);
            assert!(timers.row.len() <= 2 + OVER_MAX, "{} after {number}", timers.row.len());
        }
        assert_eq!(timers.first(&events), Some((at(1), first)));
        events.remove(first as usize);
        timers.remove(at(1), first, &events);
        assert_eq!((timers.first(&events), timers.row.len()), (None, 0));
    }

    #[test]
    fn what_comes_before_what_was_set_first_is_the_first() {
        let (mut events, mut timers) = (Slab::new(), Timers::default());
        for (number, seconds) in [(1, 5), (2, 3), (3, 7)] {
            let slot = events.insert(out(number, at(seconds))) as u32;
            timers.set_lapse(at(seconds), slot, number);
        }
        timers.set(at(4), 9);
        for (seconds, slot) in [(3, 1), (4, 9), (5, 0), (7, 2)] {
            assert_eq!(timers.first(&events), Some((at(seconds), slot)));
            events.try_remove(slot as usize);
            timers.remove(at(seconds), slot, &events);
        }
        assert_eq!(timers.first(&events), None);
    }
}
