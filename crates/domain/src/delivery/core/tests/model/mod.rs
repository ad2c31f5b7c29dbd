//! What a core should do, written to be plain: a list of events that is searched for every answer.

mod changes;

use super::*;
use ports::Token;
use std::collections::HashMap;

/// What a model wants to be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    Complete(Offset),
    Extend(Offset, Duration, bool),
    DeadLetter(Offset, u32),
    RetryElsewhere(Offset, u32, Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Ready,
    Held(Monotonic),
    Reserved,
    /// No deadline while it waits behind another of its run.
    Out {
        deadline: Option<Monotonic>,
        extended: Option<Monotonic>,
    },
    Settling,
}

/// An event of the log, over all sessions.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) incoming: Incoming,
    pub(super) read: bool,
    pub(super) done: bool,
    /// Deliveries that counted, as the core must know them.
    pub(super) attempts: u32,
    lapses_only: Option<bool>,
    pub(super) doing: Doing,
    /// Its last reservation or lease; 0 where that decides nothing.
    pub(super) lease: u64,
    pub(super) run: u64,
    superseded: bool,
    seen: bool,
    pub(super) own: Option<Own>,
    own_until: Monotonic,
    /// What a store of claims knows.
    pub(super) store_attempts: u32,
    pub(super) store_token: Option<Token>,
    /// It knows other attempts than the core, as deliveries went out past it, or before the core's time.
    pub(super) store_differs: bool,
}

impl Known {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            attempts: incoming.attempts,
            incoming,
            read: false,
            done: false,
            lapses_only: None,
            doing: Doing::Ready,
            lease: 0,
            run: 0,
            superseded: false,
            seen: false,
            own: None,
            own_until: Monotonic::default(),
            store_attempts: 0,
            store_token: None,
            store_differs: false,
        }
    }

    pub(super) fn offset(&self) -> Offset {
        self.incoming.record.offset
    }

    pub(super) fn size(&self) -> usize {
        self.incoming.record.record.size()
    }

    pub(super) fn is_out(&self) -> bool {
        !matches!(self.doing, Doing::Ready | Doing::Held(_))
    }

    pub(super) fn is_at_client(&self) -> bool {
        matches!(self.doing, Doing::Out { .. })
    }

    fn failed(&mut self, lapsed: bool) {
        self.attempts += u32::from(self.is_at_client());
        self.lapses_only = Some(self.lapses_only.unwrap_or(true) && lapsed);
        self.count(true);
    }

    fn count(&mut self, counted: bool) {
        if let Some(own) = &mut self.own {
            own.counted = counted;
        }
    }
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) config: CoreConfig,
    pub(super) now: Monotonic,
    pub(super) events: Vec<Known>,
    pub(super) position: Offset,
    pub(super) high_water: Offset,
    pub(super) intake: bool,
    pub(super) leases: u64,
    /// How many of a run were delivered.
    turns: HashMap<u64, u32>,
    pub(super) counters: Counters,
    pub(super) wants: Vec<Want>,
}

impl Model {
    pub(super) fn new(config: CoreConfig) -> Self {
        Self {
            config,
            now: Monotonic::default(),
            events: Vec::new(),
            position: 0,
            high_water: 0,
            intake: true,
            leases: 0,
            turns: HashMap::new(),
            counters: Counters::default(),
            wants: Vec::new(),
        }
    }

    /// The place of an event that is read and not done.
    pub(super) fn find(&self, offset: Offset) -> Option<usize> {
        self.undecided().into_iter().find(|at| self.events[*at].offset() == offset)
    }

    pub(super) fn undecided(&self) -> Vec<usize> {
        (0..self.events.len()).filter(|at| self.events[*at].read && !self.events[*at].done).collect()
    }

    fn lane_name(&self, at: usize) -> (bool, u64) {
        let event = &self.events[at];
        match (self.config.ordering, event.incoming.key) {
            (Ordering::Partition, _) => (true, 0),
            (Ordering::Key, Some(key)) => (true, key),
            (Ordering::None, _) | (Ordering::Key, None) => (false, event.offset()),
        }
    }

    /// The undecided events of an event's lane, itself among them.
    pub(super) fn lane(&self, at: usize) -> Vec<usize> {
        self.undecided().into_iter().filter(|other| self.lane_name(*other) == self.lane_name(at)).collect()
    }

    fn after(&self, at: usize) -> Vec<usize> {
        self.lane(at).into_iter().filter(|other| *other > at).collect()
    }

    pub(super) fn before(&self, at: usize) -> Vec<usize> {
        self.lane(at).into_iter().filter(|other| *other < at).collect()
    }

    /// What may be given next: the first of each lane of which nothing is out.
    pub(super) fn heads(&self) -> Vec<usize> {
        let is_head = |at: &usize| {
            let event = &self.events[*at];
            self.before(*at).is_empty()
                && event.doing == Doing::Ready
                && self.lane(*at).iter().all(|other| !self.events[*other].is_out())
                && self.may_go(*at)
        };
        self.undecided().into_iter().filter(is_head).collect()
    }

    /// What was never out waits while nothing is taken in, but the first of all.
    pub(super) fn may_go(&self, at: usize) -> bool {
        let offset = self.events[at].offset();
        self.intake || offset < self.high_water || offset == self.committable()
    }

    pub(super) fn is_used_up(&self, at: usize) -> bool {
        self.config.deliveries_max.is_some_and(|max| self.events[at].attempts >= max)
    }

    pub(super) fn must_be_alone(&self, at: usize) -> bool {
        let event = &self.events[at];
        event.attempts > 0
            && self.config.deliveries_max.is_some_and(|max| event.attempts + 1 == max)
            && event.lapses_only.unwrap_or(true)
    }

    pub(super) fn committable(&self) -> Offset {
        self.undecided().first().map_or(self.position, |at| self.events[*at].offset())
    }

    /// The events that wait because something of their lane is held.
    pub(super) fn held(&self) -> Vec<usize> {
        let is_held = |at: &usize| matches!(self.events[*at].doing, Doing::Held(_));
        self.undecided().into_iter().filter(|at| self.lane(*at).iter().any(is_held)).collect()
    }

    pub(super) fn bytes(&self, places: &[usize]) -> usize {
        places.iter().map(|at| self.events[*at].size()).sum()
    }

    pub(super) fn room(&self) -> (usize, usize) {
        let (all, held) = (self.undecided(), self.held());
        let config = &self.config;
        if held.len() >= config.held_events_max || self.bytes(&held) >= config.held_bytes_max {
            return (0, 0);
        }
        let bytes = self.bytes(&all) - self.bytes(&held);
        (
            config.buffer_events_max.saturating_sub(all.len() - held.len()),
            config.buffer_bytes_max.saturating_sub(bytes),
        )
    }
}
