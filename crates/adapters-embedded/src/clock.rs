//! The machine's clocks.

use async_trait::async_trait;
use ports::{Clock, Monotonic, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The wall clock and the steady clock of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    beginning: Instant,
}

impl SystemClock {
    /// A clock whose steady time begins now.
    pub fn new() -> Self {
        Self { beginning: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_millis() as i64)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.beginning.elapsed())
    }

    async fn sleep_until(&self, until: Monotonic) {
        match self.beginning.checked_add(until.0) {
            Some(instant) => tokio::time::sleep_until(instant).await,
            // Later than the machine can tell.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn sleeping_ends_when_the_steady_clock_is_there() {
        let clock = SystemClock::new();
        let until = clock.monotonic() + Duration::from_mins(10);
        clock.sleep_until(until).await;
        assert!(clock.monotonic() >= until);
        clock.sleep_until(Monotonic::default()).await;
    }

    #[test]
    fn the_wall_clock_tells_milliseconds_of_this_century() {
        assert!((946_684_800_000..4_102_444_800_000).contains(&SystemClock::new().wall().0));
    }
}
