//! The part of a run that is measured, and what came of it.

use hdrhistogram::Histogram;
use std::time::Duration;
use tokio::time::Instant;

/// From when to when a run is measured; before that it warms up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Window {
    /// One of `length` that begins when `warm_up` has passed.
    pub(crate) fn after(warm_up: Duration, length: Duration) -> Self {
        let begin = Instant::now() + warm_up;
        Self { begin, end: begin + length }
    }

    pub(crate) fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }

    fn contains(&self, at: Instant) -> bool {
        self.begin <= at && at < self.end
    }
}

/// What a load, or a part of it, has seen.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Events acknowledged within the window.
    pub(crate) counted: u64,
    /// Events acknowledged at all.
    pub(crate) all: u64,
    /// Microseconds from sending, or from when it should have been sent, to the acknowledgement.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        #[allow(clippy::expect_used, reason = "these bounds are legal")]
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are legal");
        Self { counted: 0, all: 0, latency }
    }

    /// Takes down an acknowledgement of `events`, sent at `since`, that came at `now`: in the window counts
    /// what came then.
    pub(crate) fn acknowledged(&mut self, window: &Window, events: u64, since: Instant, now: Instant) {
        self.all += events;
        if window.contains(now) {
            self.count(events, since, now);
        }
    }

    /// The same of a paced load: in the window counts what was due then, whenever it came, so that a
    /// server cannot gain by answering late.
    pub(crate) fn due(&mut self, window: &Window, events: u64, intended: Instant, now: Instant) {
        self.all += events;
        if window.contains(intended) {
            self.count(events, intended, now);
        }
    }

    fn count(&mut self, events: u64, since: Instant, now: Instant) {
        self.counted += events;
        self.latency.saturating_record(micros(now.saturating_duration_since(since)));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.counted += other.counted;
        self.all += other.all;
        #[allow(clippy::expect_used, reason = "all have the same bounds")]
        self.latency.add(&other.latency).expect("all have the same bounds");
    }
}

/// One run of one contender.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run {
    /// Events acknowledged a second.
    pub(crate) events_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ms: Option<f64>,
    /// Seconds of CPU of the serving process (of the client where there is no server of ours) for a
    /// million events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_seconds_per_million: Option<f64>,
    /// The serving process's resident memory, the most that was seen under this load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_mb: Option<f64>,
}

impl Run {
    pub(crate) fn new(tally: &Tally, window: &Window) -> Self {
        let quantile = |q| {
            let known = !tally.latency.is_empty();
            known.then(|| tally.latency.value_at_quantile(q) as f64 / 1000.0)
        };
        Self {
            events_per_second: tally.counted as f64 / window.seconds(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            ..Self::default()
        }
    }
}

/// The middle one, or the mean of the two in the middle; none of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = figures.get(middle)?;
    Some(if figures.len() % 2 == 1 { *upper } else { f64::midpoint(figures[middle - 1], *upper) })
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_acknowledged_within_the_window_is_counted() {
        let window = Window::after(Duration::from_secs(1), Duration::from_secs(2));
        let mut tally = Tally::new();
        let at = |ms| window.begin + Duration::from_millis(ms);
        tally.acknowledged(
            &window,
            5,
            window.begin - Duration::from_millis(2),
            window.begin - Duration::from_millis(1),
        );
        tally.acknowledged(&window, 7, window.begin - Duration::from_millis(2), at(8));
        tally.acknowledged(&window, 9, at(1990), at(2000));
        assert_eq!((tally.counted, tally.all, tally.latency.len()), (7, 21, 1));
        let run = Run::new(&tally, &window);
        assert!((run.events_per_second - 3.5).abs() < 1e-9);
        assert!((run.p99_ms.unwrap() - 10.0).abs() < 0.1);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
    }
}
