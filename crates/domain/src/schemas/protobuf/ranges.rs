//! Sets of numbers given as ranges, as `reserved` has them.

use prost_types::{DescriptorProto, EnumDescriptorProto};

/// Disjoint ranges in ascending order, both ends included.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(i32, i32)>);

impl Ranges {
    /// What a message reserves. Its ranges exclude their ends.
    pub(super) fn of_message(message: &DescriptorProto) -> Self {
        Self::merged(message.reserved_range.iter().map(|range| (range.start(), range.end() - 1)))
    }

    /// What an enumeration reserves. Its ranges include their ends.
    pub(super) fn of_enum(enumeration: &EnumDescriptorProto) -> Self {
        Self::merged(enumeration.reserved_range.iter().map(|range| (range.start(), range.end())))
    }

    fn merged(ranges: impl Iterator<Item = (i32, i32)>) -> Self {
        let mut sorted: Vec<(i32, i32)> = ranges.filter(|(start, end)| start <= end).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(i32, i32)> = Vec::with_capacity(sorted.len());
        for (start, end) in sorted {
            match merged.last_mut() {
                Some((_, last)) if i64::from(start) <= i64::from(*last) + 1 => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    pub(super) fn contains(&self, number: i32) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, i32)> + '_ {
        self.0.iter().copied()
    }
}
