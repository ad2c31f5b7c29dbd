//! The dead letters of one partition, in the order of their offsets: written at one end, taken away at the other.

use super::{letter::LetterId, names::Name};
use ports::Offset;
use std::collections::VecDeque;

/// So many lie in one piece of memory, so that nothing is copied, and little is left empty, when there come more.
const CHUNK: usize = 1024;

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Parked,
    Discarded,
    Redriven,
    /// The same dead letter lies further on again, and is counted there.
    Copied,
}

/// What is known of a dead letter in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: LetterId,
    pub(super) offset: Offset,
    /// When it failed last, in epoch milliseconds.
    pub(super) time: i64,
    /// Where the last decision about it lies that holds; [`Entry::UNDECIDED`] where there is none.
    pub(super) decision: Offset,
    /// Where the edit lies that holds; [`Entry::UNDECIDED`] where there is none.
    pub(super) edit: Offset,
    pub(super) kind: Name,
    pub(super) event_type: Name,
    pub(super) standing: Standing,
    /// The record takes at most two to the power of this many bytes.
    pub(super) size: u8,
}

impl Entry {
    pub(super) const UNDECIDED: Offset = Offset::MAX;

    /// Where the edit lies that holds.
    pub(super) fn edit(&self) -> Option<Offset> {
        (self.edit != Self::UNDECIDED).then_some(self.edit)
    }

    /// What reading it takes, at most.
    pub(super) fn bytes(&self) -> usize {
        1_usize.checked_shl(u32::from(self.size)).unwrap_or(usize::MAX)
    }
}

/// The power of two that is not less than so many bytes.
pub(super) fn size_of(bytes: usize) -> u8 {
    bytes.max(1).checked_next_power_of_two().map_or(63, |power| power.trailing_zeros() as u8)
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    chunks: VecDeque<Vec<Entry>>,
    /// Entries at the front of the first chunk that were taken away.
    skipped: usize,
    /// Everything before it was read.
    pub(super) next: Offset,
}

impl Lane {
    /// Adds one behind all others.
    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert!(
            self.chunks.back().and_then(|chunk| chunk.last()).is_none_or(|last| last.offset < entry.offset)
        );
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(entry),
            // One that is to be filled behind a full one is made at once; a first one may stay small.
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push_back(chunk);
            }
            None => self.chunks.push_back(vec![entry]),
        }
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.chunks.front().and_then(|chunk| chunk.get(self.skipped))
    }

    /// Takes the first one away.
    pub(super) fn pop_first(&mut self) -> Option<Entry> {
        let chunk = self.chunks.front()?;
        let entry = *chunk.get(self.skipped)?;
        self.skipped += 1;
        if self.skipped == chunk.len() {
            self.chunks.pop_front();
            self.skipped = 0;
        }
        Some(entry)
    }

    pub(super) fn get_mut(&mut self, offset: Offset) -> Option<&mut Entry> {
        let (chunk, at) = self.place(offset)?;
        self.chunks.get_mut(chunk)?.get_mut(at)
    }

    pub(super) fn get(&self, offset: Offset) -> Option<&Entry> {
        let (chunk, at) = self.place(offset)?;
        self.chunks.get(chunk)?.get(at)
    }

    fn place(&self, offset: Offset) -> Option<(usize, usize)> {
        let chunk = self.chunks.partition_point(|chunk| chunk[0].offset <= offset).checked_sub(1)?;
        let at = self.chunks[chunk].binary_search_by_key(&offset, |entry| entry.offset).ok()?;
        (chunk > 0 || at >= self.skipped).then_some((chunk, at))
    }

    /// Those before an offset, the last one first.
    pub(super) fn before(&self, offset: Offset) -> impl Iterator<Item = &Entry> {
        let chunks = self.chunks.partition_point(|chunk| chunk[0].offset < offset);
        let skipped = self.skipped;
        self.chunks.range(..chunks).enumerate().rev().flat_map(move |(index, chunk)| {
            let to = if index + 1 == chunks {
                chunk.partition_point(|entry| entry.offset < offset)
            } else {
                chunk.len()
            };
            let from = if index == 0 { skipped.min(to) } else { 0 };
            chunk[from..to].iter().rev()
        })
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flatten().skip(self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_takes_fifty_six_bytes_of_a_lane() {
        assert!(size_of::<Entry>() <= 56, "{}", size_of::<Entry>());
    }

    fn size_of<T>() -> usize {
        std::mem::size_of::<T>()
    }

    fn entry(offset: Offset) -> Entry {
        Entry {
            id: LetterId::from_bytes([0; 16]),
            offset,
            time: 0,
            decision: Entry::UNDECIDED,
            edit: Entry::UNDECIDED,
            kind: Name::NONE,
            event_type: Name::NONE,
            standing: Standing::Parked,
            size: super::size_of(300),
        }
    }

    #[test]
    fn sizes_are_said_to_be_as_large_as_they_are_at_least() {
        for bytes in [0, 1, 2, 3, 1023, 1024, 1025, 1 << 20] {
            let entry = Entry { size: super::size_of(bytes), ..entry(0) };
            assert!(entry.bytes() >= bytes && entry.bytes() <= 2 * bytes.max(1));
        }
    }

    #[test]
    fn what_was_taken_away_at_the_front_is_not_found_and_the_rest_is() {
        let mut lane = Lane::default();
        // Every third offset, over several chunks.
        (0..5_000).for_each(|n| lane.push(entry(n * 3)));
        for _ in 0..1_500 {
            lane.pop_first();
        }
        assert_eq!(lane.first().map(|entry| entry.offset), Some(4_500));
        assert!(lane.get(4_497).is_none() && lane.get(4_501).is_none() && lane.get(4_500).is_some());
        let offsets = |before| lane.before(before).map(|entry| entry.offset).collect::<Vec<_>>();
        assert_eq!(offsets(4_507), [4_506, 4_503, 4_500]);
        assert_eq!(offsets(4_506), [4_503, 4_500]);
        assert!(offsets(4_500).is_empty() && offsets(0).is_empty());
        assert_eq!(offsets(Offset::MAX).len(), 3_500);
        assert_eq!(lane.iter().count(), 3_500);
        while lane.pop_first().is_some() {}
        assert!(lane.first().is_none() && lane.get(14_997).is_none());
        lane.push(entry(15_000));
        assert_eq!(lane.iter().count(), 1);
    }
}
