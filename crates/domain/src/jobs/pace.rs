//! How fast a job goes: so many events and bytes a second, or as events were made.

use ports::{Monotonic, Timestamp};
use std::time::Duration;

/// About how much is written at once where there is a rate: a tenth of a second's worth, so that it is even.
const SHARE: f64 = 0.1;
/// Longer than any job; what would be due later is due then.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// When the next batch may be written, and how large it may be.
///
/// What was written at a time is paid for afterwards: over any stretch that begins with a batch, no more than the
/// rate allows and one batch are written. Time in which nothing was written is not made up for.
#[derive(Debug)]
pub(super) struct Pace {
    events: Option<f64>,
    bytes: Option<f64>,
    due: Monotonic,
}

impl Pace {
    pub(super) fn new(events: Option<u64>, bytes: Option<u64>, now: Monotonic) -> Self {
        let rate = |of: Option<u64>| of.map(|of| of.max(1) as f64);
        Self { events: rate(events), bytes: rate(bytes), due: now }
    }

    /// The most events of the next batch, where `most` are allowed anyway.
    pub(super) fn batch_max(&self, most: usize) -> usize {
        match self.events {
            Some(rate) => ((rate * SHARE).ceil() as usize).clamp(1, most),
            None => most,
        }
    }

    /// The most bytes of the next batch, where `most` are allowed anyway. One event is always allowed.
    pub(super) fn bytes_max(&self, most: usize) -> usize {
        match self.bytes {
            Some(rate) => ((rate * SHARE).ceil() as usize).clamp(1, most),
            None => most,
        }
    }

    /// When the next batch may be written.
    pub(super) fn due(&self) -> Monotonic {
        self.due
    }

    /// So much was written.
    pub(super) fn spent(&mut self, now: Monotonic, events: usize, bytes: usize) {
        let of = |amount: usize, rate: Option<f64>| rate.map_or(0.0, |rate| amount as f64 / rate);
        let seconds = of(events, self.events).max(of(bytes, self.bytes));
        self.due = self.due.max(now) + Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST);
    }
}

/// Events at the pace at which they were made: the first at once, each later one when as much time has passed as
/// lies between their timestamps, divided by the factor. One whose timestamp is before the first's is due at once.
#[derive(Debug)]
pub(super) struct Rhythm {
    factor: f64,
    /// The timestamp of the first event, and when it was due.
    first: Option<(Timestamp, Monotonic)>,
}

impl Rhythm {
    pub(super) fn new(factor: f64) -> Self {
        Self { factor, first: None }
    }

    /// When an event of this time is due.
    pub(super) fn due(&mut self, now: Monotonic, of: Timestamp) -> Monotonic {
        let (time, at) = *self.first.get_or_insert((of, now));
        let millis = of.0.saturating_sub(time.0).max(0) as f64;
        at + Duration::try_from_secs_f64(millis / 1000.0 / self.factor).unwrap_or(LONGEST).min(LONGEST)
    }

    /// The time up to which events are due now.
    pub(super) fn reached(&self, now: Monotonic) -> Timestamp {
        let Some((time, at)) = self.first else { return Timestamp(i64::MAX) };
        let millis = now.since(at).as_secs_f64() * 1000.0 * self.factor;
        Timestamp(time.0.saturating_add(millis as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        /// A rate that is exceeded is what brings down whoever it was to protect.
        #[test]
        fn no_more_is_written_than_the_rate_allows(
            rate in 1_u64..100_000, most in 1_usize..10_000, pauses in proptest::collection::vec(0_u64..3_000, 1..40),
        ) {
            let mut now = Monotonic::default();
            let mut pace = Pace::new(Some(rate), None, now);
            let (begin, mut written, mut batch) = (now, 0, 0);
            for pause in pauses {
                now = (now + Duration::from_millis(pause)).max(pace.due());
                // What was written before this batch.
                prop_assert!(written as f64 <= rate as f64 * now.since(begin).as_secs_f64() + 1e-3 * batch as f64 + 1e-3);
                batch = pace.batch_max(most);
                prop_assert!((1..=most).contains(&batch));
                pace.spent(now, batch, 0);
                written += batch;
            }
        }
    }

    #[test]
    fn the_stricter_of_two_rates_holds() {
        let mut pace = Pace::new(Some(100), Some(1_000), Monotonic::default());
        pace.spent(Monotonic::default(), 10, 2_000);
        assert_eq!(pace.due(), Monotonic::default() + 2 * SECOND);
        assert_eq!((pace.batch_max(500), pace.bytes_max(1 << 20)), (10, 100));
    }

    #[test]
    fn events_come_as_they_were_made_times_a_factor() {
        let begin = Monotonic(SECOND);
        let mut rhythm = Rhythm::new(2.0);
        assert_eq!(rhythm.due(begin, Timestamp(10_000)), begin);
        assert_eq!(rhythm.due(begin, Timestamp(14_000)), begin + 2 * SECOND);
        assert_eq!(rhythm.due(begin, Timestamp(9_000)), begin);
        assert_eq!(rhythm.reached(begin + 2 * SECOND), Timestamp(14_000));
        assert!(rhythm.due(begin, Timestamp(i64::MAX)) > begin + 3600 * SECOND);
    }
}
