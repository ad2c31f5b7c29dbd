//! The verdict on one partition of one group, by its last samples.
//!
//! The rules are Burrow's, with a difference where its input differs: it hears of each commit, we see
//! positions. A reader that has gone is therefore told from one that is stuck by whether the group has
//! members.
//!
//! In this order, where `n` is the size of the window:
//! 1. Without lag in the last sample: `OK`.
//! 2. The position went back within the window: `REWOUND`.
//! 3. Fewer than `n` samples, or one without lag among them: `OK`. It has just begun, or keeps up now and
//!    then.
//! 4. The position is the same in all samples: `STOPPED` where the group had no members in all of them,
//!    else `STALLED`.
//! 5. The lag never fell from one sample to the next: `WARN`.
//! 6. `OK`.
//!
//! Invariants:
//! * The verdict hangs on the last `n` samples alone, and on nothing before them.
//! * Only `REWOUND` is ever said by fewer than `n` samples.
//! * A window holds `n` samples at most. One whose partition's end went back begins anew: the topic was made
//!   anew, and its offsets are others.

use ports::Offset;
use std::collections::VecDeque;

/// Whether a group keeps up. The later ones are worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It keeps up.
    #[default]
    Ok,
    /// It moves, and falls behind.
    Warn,
    /// It went back, and has not caught up.
    Rewound,
    /// It has members, and does not move.
    Stalled,
    /// It has no members, and does not move.
    Stopped,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Warn, Self::Rewound, Self::Stalled, Self::Stopped];

    /// The verdict as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Rewound => "REWOUND",
            Self::Stalled => "STALLED",
            Self::Stopped => "STOPPED",
        }
    }
}

/// Where a group stood in a partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The offset to read next.
    pub committed: Offset,
    /// The end of the partition, looked at not before `committed`.
    pub end: Offset,
}

impl Sample {
    /// How many offsets lay between.
    pub fn lag(self) -> u64 {
        self.end.saturating_sub(self.committed)
    }
}

/// The last samples of one partition of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window(VecDeque<Sample>);

impl Window {
    /// Takes a sample, and forgets what no longer fits into `size`, which is at least 1.
    pub fn push(&mut self, sample: Sample, size: usize) {
        if self.0.back().is_some_and(|last| sample.end < last.end) {
            self.0.clear();
        }
        while self.0.len() >= size.max(1) {
            self.0.pop_front();
        }
        if self.0.len() == self.0.capacity() {
            // No more than it will ever need: there are very many of them.
            self.0.reserve_exact(size.max(1) - self.0.len());
        }
        self.0.push_back(sample);
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The verdict by a window of `size`, of a group that had no members in the last `without_members`
    /// samples.
    pub fn verdict(&self, size: usize, without_members: usize) -> Verdict {
        let Some(last) = self.0.back() else { return Verdict::Ok };
        if last.lag() == 0 {
            return Verdict::Ok;
        }
        let pairs = || self.0.iter().zip(self.0.iter().skip(1));
        if pairs().any(|(before, after)| after.committed < before.committed) {
            return Verdict::Rewound;
        }
        if self.0.len() < size || self.0.iter().any(|sample| sample.lag() == 0) {
            return Verdict::Ok;
        }
        if self.0.iter().all(|sample| sample.committed == last.committed) {
            return if without_members >= size { Verdict::Stopped } else { Verdict::Stalled };
        }
        if pairs().all(|(before, after)| after.lag() >= before.lag()) { Verdict::Warn } else { Verdict::Ok }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 10;

    fn window(samples: impl IntoIterator<Item = (Offset, Offset)>) -> Window {
        let mut window = Window::default();
        for (committed, end) in samples {
            window.push(Sample { committed, end }, SIZE);
        }
        window
    }

    #[test]
    fn each_rule_is_said_of_what_it_is_for() {
        let judged = |samples: Vec<(u64, u64)>, without| window(samples).verdict(SIZE, without);
        let grows = |n: u64| (0..n).map(|i| (i, 10 + 5 * i)).collect::<Vec<_>>();
        assert_eq!(judged(grows(10), 0), Verdict::Warn);
        assert_eq!(judged(grows(9), 0), Verdict::Ok, "nine samples are too few");
        let still = |n: u64| (0..n).map(|i| (3, 10 + i)).collect::<Vec<_>>();
        assert_eq!(judged(still(10), 0), Verdict::Stalled);
        assert_eq!(judged(still(10), 9), Verdict::Stalled, "it had members in the first");
        assert_eq!(judged(still(10), 10), Verdict::Stopped);
        assert_eq!(judged(still(9), 10), Verdict::Ok);
        assert_eq!(judged(vec![(5, 20), (2, 20)], 0), Verdict::Rewound);
        assert_eq!(judged(vec![(5, 20), (2, 20), (20, 20)], 0), Verdict::Ok, "it has caught up");
        // Once without lag: it keeps up now and then.
        let mut once = still(10);
        once[4] = (14, 14);
        once.iter_mut().skip(5).for_each(|sample| *sample = (14, 20));
        assert_eq!(judged(once, 10), Verdict::Ok);
        // Falling once is catching up.
        let mut falls = grows(10);
        falls[7].0 += 6;
        falls.iter_mut().skip(8).for_each(|sample| sample.0 += 6);
        assert_eq!(judged(falls, 0), Verdict::Ok);
        assert_eq!(judged(Vec::new(), 10), Verdict::Ok);
    }

    #[test]
    fn a_topic_that_was_made_anew_is_judged_anew() {
        let window = window((0..10).map(|i| (50, 100 + i)).chain([(5, 7)]));
        assert_eq!((window.len(), window.verdict(SIZE, 0)), (1, Verdict::Ok));
    }

    #[test]
    fn the_worst_of_partitions_is_that_of_a_group() {
        assert!(Verdict::ALL.is_sorted());
        assert_eq!(Verdict::ALL.into_iter().max(), Some(Verdict::Stopped));
    }

    /// A reader that goes on, back, or not at all, behind an end that grows.
    fn any_samples() -> impl Strategy<Value = Vec<(Offset, Offset)>> {
        let step = (0..4_u64, prop_oneof![8 => 0..5_i64, 1 => -5..0_i64, 4 => Just(0)]);
        (0..20_u64, prop::collection::vec(step, 0..40)).prop_map(|(begin, steps)| {
            let (mut committed, mut end) = (begin, begin);
            let mut samples = Vec::new();
            for (grown, moved) in steps {
                end += grown;
                committed = committed.saturating_add_signed(moved).min(end);
                samples.push((committed, end));
            }
            samples
        })
    }

    proptest! {
        #[test]
        fn only_the_last_samples_count(samples in any_samples(), without in 0..20_usize) {
            let last = samples[samples.len().saturating_sub(SIZE)..].to_vec();
            let (all, last) = (window(samples), window(last));
            prop_assert!(all.len() <= SIZE);
            prop_assert_eq!(&all, &last);
            prop_assert_eq!(all.verdict(SIZE, without), last.verdict(SIZE, without));
        }

        #[test]
        fn a_verdict_holds_of_the_samples_that_it_is_by(samples in any_samples(), without in 0..20_usize) {
            let verdict = window(samples.clone()).verdict(SIZE, without);
            let seen = &samples[samples.len().saturating_sub(SIZE)..];
            let lags: Vec<_> = seen.iter().map(|(committed, end)| end - committed).collect();
            let went_back = seen.windows(2).any(|pair| pair[1].0 < pair[0].0);
            let same = seen.iter().all(|(committed, _)| *committed == seen[0].0);
            let never_fell = lags.windows(2).all(|pair| pair[1] >= pair[0]);
            let full = seen.len() == SIZE && lags.iter().all(|lag| *lag > 0);
            let behind = lags.last().is_some_and(|lag| *lag > 0);
            match verdict {
                Verdict::Ok => {
                    prop_assert!(!behind || !went_back);
                    prop_assert!(!full || !(same || never_fell));
                }
                Verdict::Rewound => prop_assert!(behind && went_back),
                Verdict::Stalled => prop_assert!(full && same && without < SIZE),
                Verdict::Stopped => prop_assert!(full && same && without >= SIZE),
                Verdict::Warn => prop_assert!(full && !same && never_fell && !went_back),
            }
        }
    }
}
