//! The storm guard: a handler that rejects nearly everything is to be looked at, not to drain a topic into
//! the dead letters.
//!
//! Invariant: it trips when, and only when, the last `window` decisions are known and at least `ratio` of
//! them became dead letters. After it tripped it begins anew.

use crate::subscriptions::policy::StormGuard;
use std::collections::VecDeque;

/// Watches the last decisions.
#[derive(Debug)]
pub(super) struct Storm {
    guard: StormGuard,
    /// Whether each of the last decisions became a dead letter.
    last: VecDeque<bool>,
    dead: u32,
}

impl Storm {
    pub(super) fn new(guard: StormGuard) -> Self {
        Self { guard, last: VecDeque::new(), dead: 0 }
    }

    /// Counts decisions, and answers whether that trips it.
    pub(super) fn count(&mut self, handled: u64, dead: u64) -> bool {
        let window = u64::from(self.guard.window);
        for is_dead in std::iter::repeat_n(false, handled.min(window) as usize)
            .chain(std::iter::repeat_n(true, dead.min(window) as usize))
        {
            self.last.push_back(is_dead);
            self.dead += u32::from(is_dead);
            if self.last.len() as u64 > window {
                self.dead -= u32::from(self.last.pop_front() == Some(true));
            }
        }
        let full = self.last.len() as u64 == window;
        let trips = full && f64::from(self.dead) >= self.guard.ratio * f64::from(self.guard.window);
        if trips {
            self.last.clear();
            self.dead = 0;
        }
        trips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_trips_when_the_share_of_a_whole_window_is_reached_and_not_before() {
        let mut storm = Storm::new(StormGuard { ratio: 0.5, window: 4 });
        assert!(!storm.count(0, 3), "the window is not full");
        assert!(storm.count(1, 0), "three of four");
        assert!(!storm.count(0, 3), "it began anew");
        let mut storm = Storm::new(StormGuard { ratio: 0.5, window: 4 });
        assert!(!storm.count(100, 1));
        assert!(!storm.count(3, 0), "one of four");
        assert!(!storm.count(0, 1));
        assert!(storm.count(0, 1), "two of the last four");
    }
}
