//! When what failed comes again.
//!
//! Exponential with full jitter (a delay drawn evenly between nothing and the exponential's value), as AWS
//! describes it in "Exponential Backoff And Jitter". Written here rather than taken from a library: those
//! that there are add jitter on top of the delay, draw from a clock, or go through all delays from the first.

use std::time::Duration;

/// The shape of the delays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub initial: Duration,
    /// The longest, whoever asks for it.
    pub max: Duration,
    /// What each is of the one before it, at least 1.
    pub multiplier: f64,
    /// Whether the delay is drawn between nothing and itself.
    pub full_jitter: bool,
}

impl Backoff {
    /// How long to wait after the `failures`th failure, from 1; `random` is drawn evenly.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.max.as_secs_f64();
        let seconds = (self.initial.as_secs_f64() * self.multiplier.powi(exponent)).min(longest);
        // 53 bits are what a double holds exactly.
        let share = if self.full_jitter { (random >> 11) as f64 / (1_u64 << 53) as f64 } else { 1.0 };
        Duration::try_from_secs_f64(seconds * share).unwrap_or(self.max)
    }

    /// The delay that a handler asked for, bounded.
    pub fn asked(&self, after: Duration) -> Duration {
        after.min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff(full_jitter: bool) -> Backoff {
        let (initial, max) = (Duration::from_secs(5), Duration::from_secs(300));
        Backoff { initial, max, multiplier: 2.0, full_jitter }
    }

    #[test]
    fn delays_grow_up_to_the_longest() {
        let delays: Vec<_> = (1..9).map(|failures| backoff(false).delay(failures, 0).as_secs()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300]);
    }

    proptest! {
        #[test]
        fn a_drawn_delay_lies_between_nothing_and_the_plain_one(failures in any::<u32>(), random in any::<u64>()) {
            let plain = backoff(false).delay(failures, random);
            prop_assert!(backoff(true).delay(failures, random) <= plain);
            prop_assert!(plain <= Duration::from_secs(300));
            prop_assert_eq!(backoff(true).delay(failures, 0), Duration::ZERO);
        }
    }
}
