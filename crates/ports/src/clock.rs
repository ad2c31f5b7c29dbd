//! Time as a port, so that tests can pause it.

use crate::record::Timestamp;
use async_trait::async_trait;
use std::{fmt::Debug, ops::Add, time::Duration};

/// A point on a clock that never goes back, as the time since that clock's own beginning.
///
/// Two values compare only when they come from the same [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// The time from `earlier` to this, or zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// Where the domain gets its time from.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock, for what is shown or stored. It may jump.
    fn wall(&self) -> Timestamp;

    /// The steady clock, for deadlines. It never goes back.
    fn monotonic(&self) -> Monotonic;

    /// Returns once the steady clock has reached `until`.
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    async fn sleep_until(&self, until: Monotonic);
}
