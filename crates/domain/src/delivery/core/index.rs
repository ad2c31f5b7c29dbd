//! The events of a core by offset, and what is done among them.
//!
//! Offsets come in order and lie close to each other, so entries stand in a row, and where one stands is mostly
//! its distance from the first. A log that was compacted has gaps: then it stands further in front, and is
//! searched for by halves.
//!
//! Invariants:
//! 1. Entries are in the order of their offsets, and the first of them is an undecided event.
//! 2. Between two undecided events stand the first and the last that are done there, if any are.
//! 3. There are at most [`SPARE`] entries an undecided event, and a few. What keeping to that costs is paid by
//!    those that went.

use super::lanes::NONE;
use ports::Offset;
use std::{collections::VecDeque, ops::Range};

/// So many entries an undecided event may stand in the row. Of those that are done two have to.
const SPARE: usize = 4;
/// And so many in any case.
const SPARE_MIN: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: Offset,
    /// Where the event is; [`NONE`] where it is done.
    slot: u32,
}

/// Undecided events by offset, and what is done beyond the first of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: VecDeque<Entry>,
    undecided: usize,
}

impl Index {
    /// How many events are undecided.
    pub(super) fn len(&self) -> usize {
        self.undecided
    }

    /// The first undecided event.
    pub(super) fn first(&self) -> Option<(Offset, u32)> {
        self.entries.front().map(|entry| (entry.offset, entry.slot))
    }

    /// The slot of an undecided event.
    pub(super) fn get(&self, offset: Offset) -> Option<u32> {
        let slot = self.entries[self.place(offset)?].slot;
        (slot != NONE).then_some(slot)
    }

    /// Adds an undecided event behind all others.
    pub(super) fn push(&mut self, offset: Offset, slot: u32) {
        self.entries.push_back(Entry { offset, slot });
        self.undecided += 1;
    }

    /// Adds one that is done behind all others. What is done before the first undecided event is left out.
    pub(super) fn push_done(&mut self, offset: Offset) {
        if self.undecided > 0 {
            self.entries.push_back(Entry { offset, slot: NONE });
            self.keep_bound();
        }
    }

    /// An undecided event is done.
    pub(super) fn done(&mut self, offset: Offset) {
        let Some(place) = self.place(offset) else { return };
        if std::mem::replace(&mut self.entries[place].slot, NONE) != NONE {
            self.undecided -= 1;
        }
        while self.entries.front().is_some_and(|first| first.slot == NONE) {
            self.entries.pop_front();
        }
        self.keep_bound();
    }

    /// What is done between and behind undecided events, from the first to the last of each stretch.
    pub(super) fn done_ranges(&self) -> impl Iterator<Item = Range<Offset>> + '_ {
        let mut entries = self.entries.iter().peekable();
        std::iter::from_fn(move || {
            let first = entries.find(|entry| entry.slot == NONE)?.offset;
            let mut last = first;
            while let Some(next) = entries.next_if(|entry| entry.slot == NONE) {
                last = next.offset;
            }
            Some(first..last + 1)
        })
    }

    fn place(&self, offset: Offset) -> Option<usize> {
        let distance = offset.checked_sub(self.entries.front()?.offset)?;
        let last = self.entries.len() - 1;
        let place = usize::try_from(distance).unwrap_or(usize::MAX).min(last);
        if self.entries[place].offset == offset {
            return Some(place);
        }
        self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()
    }

    /// Leaves of each stretch that is done its first and its last where there are too many.
    fn keep_bound(&mut self) {
        if self.entries.len() <= SPARE * self.undecided + SPARE_MIN {
            return;
        }
        let mut kept = 0;
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            let is_inner = entry.slot == NONE && kept >= 2 && {
                let before = |back: usize| self.entries[kept - back].slot == NONE;
                before(1) && before(2)
            };
            // It takes the place of what was the last of its stretch until now.
            kept -= usize::from(is_inner);
            self.entries[kept] = entry;
            kept += 1;
        }
        self.entries.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a plain map: what is undecided is found, what is done is told, and what is remembered of it
        /// is bounded by what is undecided.
        #[test]
        fn it_finds_and_tells_what_a_plain_map_does(
            steps in prop::collection::vec((0_u64..4, any::<prop::sample::Index>(), 0_u8..8), 1..600),
        ) {
            let (mut index, mut plain) = (Index::default(), BTreeMap::<Offset, Option<u32>>::new());
            let mut next = 3;
            for (gap, which, what) in steps {
                let undecided: Vec<_> = plain.iter().filter(|(_, slot)| slot.is_some()).map(|(at, _)| *at).collect();
                match what {
                    0..=2 => {
                        next += 1 + gap;
                        index.push(next, next as u32);
                        plain.insert(next, Some(next as u32));
                    }
                    3 => {
                        next += 1 + gap;
                        index.push_done(next);
                        plain.insert(next, None);
                    }
                    // Mostly not the first, so that much is done behind it.
                    _ if !undecided.is_empty() => {
                        let at = undecided[which.index(undecided.len()).max((undecided.len() - 1).min(1))];
                        index.done(at);
                        plain.insert(at, None);
                    }
                    _ => {}
                }
                while plain.first_entry().is_some_and(|first| first.get().is_none()) {
                    plain.pop_first();
                }
                let undecided = plain.iter().find_map(|(at, slot)| Some((*at, (*slot)?)));
                prop_assert_eq!(index.first(), undecided);
                prop_assert_eq!(index.len(), plain.values().flatten().count());
                for offset in 0..next + 2 {
                    prop_assert_eq!(index.get(offset), plain.get(&offset).copied().flatten());
                }
                let mut ranges: Vec<Range<Offset>> = Vec::new();
                let mut goes_on = false;
                for (at, slot) in &plain {
                    match ranges.last_mut() {
                        Some(last) if slot.is_none() && goes_on => last.end = at + 1,
                        _ if slot.is_none() => ranges.push(*at..at + 1),
                        _ => {}
                    }
                    goes_on = slot.is_none();
                }
                prop_assert_eq!(index.done_ranges().collect::<Vec<_>>(), ranges);
                prop_assert!(index.entries.len() <= SPARE * index.len() + SPARE_MIN);
            }
        }
    }

    /// An event that is held for long must not have all that is done behind it remembered.
    #[test]
    fn what_is_done_behind_one_that_is_not_takes_no_room() {
        let mut index = Index::default();
        for offset in 0..100_000 {
            index.push(offset, 1);
            if offset > 0 {
                index.done(offset);
            }
        }
        assert!(index.entries.len() <= SPARE + SPARE_MIN);
        assert_eq!(index.done_ranges().collect::<Vec<_>>(), std::iter::once(1..100_000).collect::<Vec<_>>());
        assert_eq!((index.get(0), index.get(50_000), index.first()), (Some(1), None, Some((0, 1))));
    }
}
