//! A set of offsets, kept as intervals.

use ports::Offset;
use std::{collections::BTreeMap, ops::Range};

/// Offsets that are done, as disjoint intervals in order. Costs grow with the number of intervals, by its
/// logarithm, and not with the number of offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoneSet {
    /// Start to end, which is not in it.
    runs: BTreeMap<Offset, Offset>,
}

impl DoneSet {
    /// Whether the offset is in the set.
    pub fn contains(&self, offset: Offset) -> bool {
        self.runs.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// Adds an interval; those that it touches become one with it.
    pub fn insert(&mut self, range: Range<Offset>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if let Some((before, to)) = self.runs.range(..=start).next_back().map(|(b, t)| (*b, *t))
            && to >= start
        {
            start = before;
            end = end.max(to);
        }
        while let Some((after, to)) = self.runs.range(start..=end).next().map(|(a, t)| (*a, *t)) {
            self.runs.remove(&after);
            end = end.max(to);
        }
        self.runs.insert(start, end);
    }

    /// Forgets everything before `offset`.
    pub fn forget_before(&mut self, offset: Offset) {
        while let Some((start, end)) = self.runs.first_key_value().map(|(s, e)| (*s, *e))
            && start < offset
        {
            self.runs.pop_first();
            if end > offset {
                self.runs.insert(offset, end);
                return;
            }
        }
    }

    /// The intervals in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<Offset>> + '_ {
        self.runs.iter().map(|(start, end)| *start..*end)
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The end of the last interval.
    pub fn end(&self) -> Option<Offset> {
        self.runs.last_key_value().map(|(_, end)| *end)
    }
}

impl FromIterator<Range<Offset>> for DoneSet {
    fn from_iter<I: IntoIterator<Item = Range<Offset>>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(
            inserted in prop::collection::vec((0_u64..60, 0_u64..9), 0..40),
            forget in 0_u64..60,
        ) {
            let mut plain = BTreeSet::new();
            let mut set = DoneSet::default();
            for (start, length) in inserted {
                plain.extend(start..start + length);
                set.insert(start..start + length);
            }
            let mut ends = None;
            for range in set.ranges() {
                prop_assert!(range.start < range.end && ends.is_none_or(|end| end < range.start));
                ends = Some(range.end);
            }
            plain.retain(|offset| *offset >= forget);
            set.forget_before(forget);
            prop_assert_eq!(set.ranges().flatten().collect::<BTreeSet<_>>(), plain.clone());
            for offset in 0..80 {
                prop_assert_eq!(set.contains(offset), plain.contains(&offset));
            }
        }
    }
}
