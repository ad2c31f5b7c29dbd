//! A lane: events that keep an order among themselves.

use ports::Offset;
use std::collections::VecDeque;

/// What is out of a lane: one run, in order, or nothing. While there is a run nothing else is delivered from
/// the lane.
///
/// The first of the run is always out; later ones may be decided already and leave when they come first, so
/// that each costs the same whatever order a client decides in.
#[derive(Debug, Default)]
pub(super) struct Lane {
    run: VecDeque<Offset>,
}

impl Lane {
    /// Whether a run may begin.
    pub(super) fn is_free(&self) -> bool {
        self.run.is_empty()
    }

    /// The first of the run: the one whose clock runs.
    pub(super) fn first(&self) -> Option<Offset> {
        self.run.front().copied()
    }

    /// How many events the run still holds, those included that are decided but not yet first.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.run.len()
    }

    /// Adds the next event to the run. Answers which of the run it is, from 1.
    pub(super) fn push(&mut self, offset: Offset) -> u32 {
        self.run.push_back(offset);
        self.run.len() as u32
    }

    /// Lets those leave that come first and are not out any more.
    pub(super) fn settle(&mut self, is_out: impl Fn(Offset) -> bool) {
        while self.run.front().is_some_and(|first| !is_out(*first)) {
            self.run.pop_front();
        }
    }

    /// Ends the run before `offset`, which is out. Answers what came after it; some of that may be decided
    /// already.
    pub(super) fn cut(&mut self, offset: Offset) -> VecDeque<Offset> {
        let Ok(index) = self.run.binary_search(&offset) else { return VecDeque::new() };
        let mut later = self.run.split_off(index);
        later.pop_front();
        later
    }
}
