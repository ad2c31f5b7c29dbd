//! The clocks of tests, over tokio's time.

use async_trait::async_trait;
use ports::{Clock, Monotonic, Timestamp};
use std::time::SystemTime;
use tokio::time::Instant;

/// A clock that stands still with tokio's paused time and moves on as that does. Its wall clock begins at
/// 2026-01-01T00:00:00Z, so that two runs of a test see the same times.
#[derive(Clone, Copy, Debug)]
pub struct TestClock {
    started: Instant,
    wall: Timestamp,
}

impl TestClock {
    /// What the wall clock says when the clock is made.
    pub const EPOCH: Timestamp = Timestamp(1_767_225_600_000);

    /// A clock that begins now.
    pub fn new() -> Self {
        Self::at(Self::EPOCH)
    }

    /// A clock whose wall clock begins at `wall`.
    pub fn at(wall: Timestamp) -> Self {
        Self { started: Instant::now(), wall }
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.wall.0 + self.monotonic().0.as_millis() as i64)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.started.elapsed())
    }

    async fn sleep_until(&self, until: Monotonic) {
        match self.started.checked_add(until.0) {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            // A deadline that no clock reaches.
            None => std::future::pending().await,
        }
    }
}

/// A clock for tests against real servers, which compare times with their own: its wall clock is the
/// machine's.
#[derive(Clone, Copy, Debug)]
pub struct SystemLikeClock(TestClock);

impl SystemLikeClock {
    /// A clock that shows the machine's time.
    #[allow(clippy::disallowed_methods, reason = "this is where a test's time comes from")]
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(TestClock::at(Timestamp(since.as_millis() as i64)))
    }
}

impl Default for SystemLikeClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemLikeClock {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }

    fn monotonic(&self) -> Monotonic {
        self.0.monotonic()
    }

    async fn sleep_until(&self, until: Monotonic) {
        self.0.sleep_until(until).await;
    }
}
