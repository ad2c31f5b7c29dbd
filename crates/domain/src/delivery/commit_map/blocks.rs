//! Intervals as blocks of runs and of bitmaps; the module above has the format.
//!
//! The writer finds the cheapest way through two states (the last interval went into runs, or into a
//! bitmap) in one pass: an interval costs its two varints in the one and its bits in the other, and
//! beginning a block costs its head. That is the best there is but for the rounding of bitmaps to whole
//! bytes, which it takes for half a byte each, and for heads of more than one byte, which only blocks of
//! 64 bytes and more have.

use super::{super::DoneSet, END, varint};
use ports::Offset;
use std::ops::Range;

/// The most intervals that a byte can hold: in a bitmap, every other bit.
pub(super) const INTERVALS_A_BYTE: usize = 4;

/// In bits, as planned.
const HEAD: u64 = 8;
const ROUNDING: u64 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Runs,
    Bitmap,
}

/// How a number of intervals in a row are written.
struct Block {
    kind: Kind,
    intervals: usize,
}

/// Appends intervals, which are in order, disjoint, not empty, and not before `next`.
pub(super) fn put(to: &mut Vec<u8>, next: Offset, mut intervals: &[Range<Offset>]) {
    let mut from = next;
    for Block { kind, intervals: count } in plan(next, intervals) {
        let (these, others) = intervals.split_at(count);
        let end = these.last().map_or(from, |last| last.end);
        match kind {
            Kind::Runs => put_runs(to, from, these),
            Kind::Bitmap => put_bitmap(to, from, end, these),
        }
        (from, intervals) = (end, others);
    }
}

/// Takes all blocks and what ends them off the front; `None` where they break the format.
pub(super) fn get(rest: &mut &[u8], next: Offset) -> Option<DoneSet> {
    let mut done = DoneSet::default();
    let mut from = next;
    loop {
        let head = varint::get(rest)?;
        if head == u64::from(END) {
            return Some(done);
        }
        let count = head >> 1;
        if count == 0 {
            return None;
        }
        from = if head & 1 == 0 {
            get_runs(rest, from, count, &mut done)?
        } else {
            let bytes = rest.split_off(..usize::try_from(count).ok()?)?;
            get_bitmap(bytes, from, &mut done)?
        };
    }
}

/// The blocks that take the fewest bytes, as planned.
fn plan(next: Offset, intervals: &[Range<Offset>]) -> Vec<Block> {
    // The cheapest way to have written the intervals so far, by where the last one went.
    let (mut runs, mut bitmap) = (HEAD, HEAD + ROUNDING);
    // For each interval: whether the way came from the other state.
    let mut changes: Vec<(bool, bool)> = Vec::with_capacity(intervals.len());
    let mut from = next;
    for interval in intervals {
        let (gap, length) = (interval.start - from, interval.end - interval.start);
        from = interval.end;
        let (to_runs, to_bitmap) = (bitmap + HEAD, runs + HEAD + ROUNDING);
        changes.push((to_runs < runs, to_bitmap < bitmap));
        runs = runs.min(to_runs) + 8 * (varint::bytes(gap) + varint::bytes(length));
        // One that is dearer than beginning anew behind runs is never gone on with: it need not overflow.
        bitmap = bitmap.min(to_bitmap).saturating_add(gap + length).min(runs + HEAD + ROUNDING + 1);
    }
    let mut kind = if bitmap < runs { Kind::Bitmap } else { Kind::Runs };
    let mut blocks: Vec<Block> = Vec::new();
    for (changed_to_runs, changed_to_bitmap) in changes.into_iter().rev() {
        match blocks.last_mut().filter(|block| block.kind == kind) {
            Some(block) => block.intervals += 1,
            None => blocks.push(Block { kind, intervals: 1 }),
        }
        kind = match kind {
            Kind::Runs if changed_to_runs => Kind::Bitmap,
            Kind::Bitmap if changed_to_bitmap => Kind::Runs,
            same => same,
        };
    }
    blocks.reverse();
    blocks
}

fn put_runs(to: &mut Vec<u8>, mut from: Offset, intervals: &[Range<Offset>]) {
    varint::put(to, (intervals.len() as u64) << 1);
    for interval in intervals {
        varint::put(to, interval.start - from);
        varint::put(to, interval.end - interval.start);
        from = interval.end;
    }
}

/// The plan chose bits because they are fewer than the varints would take: some bytes an interval at most.
fn put_bitmap(to: &mut Vec<u8>, from: Offset, end: Offset, intervals: &[Range<Offset>]) {
    let bytes = (end - from).div_ceil(8);
    varint::put(to, bytes << 1 | 1);
    let first = to.len();
    to.resize(first + bytes as usize, 0);
    let bitmap = &mut to[first..];
    for bit in intervals.iter().flat_map(|interval| interval.start - from..interval.end - from) {
        bitmap[(bit / 8) as usize] |= 1 << (bit % 8);
    }
}

fn get_runs(rest: &mut &[u8], mut from: Offset, count: u64, done: &mut DoneSet) -> Option<Offset> {
    for _ in 0..count {
        let start = from.checked_add(varint::get(rest)?)?;
        let end = start.checked_add(varint::get(rest)?).filter(|end| *end > start)?;
        done.insert(start..end);
        from = end;
    }
    Some(from)
}

fn get_bitmap(bytes: &[u8], from: Offset, done: &mut DoneSet) -> Option<Offset> {
    if bytes.last() == Some(&0) {
        return None;
    }
    let mut at = from;
    // Where the interval that is being read began.
    let mut began = None;
    for (index, byte) in bytes.iter().enumerate() {
        let base = from.checked_add(8 * index as u64)?;
        for bit in 0..u64::from(u8::BITS) {
            let is_done = byte >> bit & 1 == 1;
            match began {
                None if is_done => began = Some(base.checked_add(bit)?),
                Some(start) if !is_done => {
                    at = base.checked_add(bit)?;
                    done.insert(start..at);
                    began = None;
                }
                _ => {}
            }
        }
    }
    if let Some(start) = began {
        at = from.checked_add(8 * bytes.len() as u64)?;
        done.insert(start..at);
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn intervals(next: Offset, gaps: &[(u64, u64)]) -> Vec<Range<Offset>> {
        let mut from = next;
        let at = |(gap, length): &(u64, u64)| {
            let start = from + gap;
            from = start + length;
            start..from
        };
        gaps.iter().map(at).collect()
    }

    fn written(next: Offset, intervals: &[Range<Offset>]) -> usize {
        let mut to = Vec::new();
        put(&mut to, next, intervals);
        to.len()
    }

    /// Stretches of different kinds: single ones beside each other, short runs, far and long ones.
    fn stretches(most: usize) -> impl Strategy<Value = Vec<(u64, u64)>> {
        let stretch = prop_oneof![
            prop::collection::vec((1_u64..3, 1_u64..3), 1..most),
            prop::collection::vec((1_u64..20, 1_u64..20), 1..most),
            prop::collection::vec((60_u64..200, 60_u64..200), 1..most),
            prop::collection::vec((1_u64..1 << 40, 1_u64..1 << 40), 1..4),
        ];
        prop::collection::vec(stretch, 0..8).prop_map(|stretches| stretches.concat())
    }

    /// What the best division into blocks takes, by trying all of them.
    fn best(next: Offset, intervals: &[Range<Offset>]) -> u64 {
        let mut best = vec![0_u64];
        for end in 1..=intervals.len() {
            let cost = |begin: usize| {
                let from = begin.checked_sub(1).map_or(next, |before| intervals[before].end);
                let bytes = (intervals[end - 1].end - from).div_ceil(8);
                let mut at = from;
                let runs: u64 = intervals[begin..end]
                    .iter()
                    .map(|interval| {
                        let bytes =
                            varint::bytes(interval.start - at) + varint::bytes(interval.end - interval.start);
                        at = interval.end;
                        bytes
                    })
                    .sum();
                let head = varint::bytes(((end - begin) as u64) << 1);
                best[begin] + (head + runs).min(varint::bytes(bytes << 1 | 1).saturating_add(bytes))
            };
            best.push((0..end).map(cost).min().unwrap());
        }
        best[intervals.len()]
    }

    proptest! {
        #[test]
        fn it_takes_no_more_than_runs_alone_or_a_bitmap_alone_would(gaps in stretches(400), next in 0_u64..1 << 50) {
            let intervals = intervals(next, &gaps);
            let runs: u64 = gaps.iter().map(|(gap, length)| varint::bytes(*gap) + varint::bytes(*length)).sum();
            let bitmap = intervals.last().map_or(0, |last| (last.end - next).div_ceil(8));
            let smaller = runs.min(bitmap);
            let written = written(next, &intervals) as u64;
            prop_assert!(written <= smaller + smaller / 20 + 4, "{written} bytes, and {smaller} would do");
        }

        #[test]
        fn it_takes_hardly_more_than_the_best_division_into_blocks(gaps in stretches(30)) {
            let intervals = intervals(7, &gaps);
            let (written, best) = (written(7, &intervals) as u64, best(7, &intervals));
            prop_assert!(written <= best + best / 20 + 3, "{written} bytes, and {best} would do");
        }
    }

    #[test]
    fn every_other_offset_costs_one_bit_and_a_run_of_any_length_a_few_bytes() {
        let every_other = intervals(0, &vec![(1, 1); 10_000]);
        assert!(written(0, &every_other) <= 20_000 / 8 + 3);
        assert!(written(0, &intervals(0, &[(1 << 60, 1 << 60)])) <= 19);
        // A long run between two such stretches.
        let mixed = [&[(1, 1); 1000][..], &[(1, 1 << 40)], &[(1, 1); 1000]].concat();
        assert!(written(0, &intervals(0, &mixed)) <= 2 * 252 + 8);
    }
}
