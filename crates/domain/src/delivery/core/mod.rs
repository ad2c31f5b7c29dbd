//! The core: what is read, what is ready, what is out, what is done.

#[cfg(test)]
mod tests;

use super::{Ordering, done::DoneSet};
use ports::{Monotonic, Offset, StoredRecord};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    time::Duration,
};

/// How a core works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// What order deliveries keep.
    pub ordering: Ordering,
    /// How long a client has for a delivery.
    pub ack_timeout: Duration,
    /// The most events that are to be buffered.
    pub buffer_events_max: usize,
    /// The most bytes that are to be buffered.
    pub buffer_bytes_max: usize,
}

/// Names one lease of one session of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId {
    /// The session; random, so that no two are taken for each other.
    pub session: u32,
    /// Its number in the session, from 1.
    pub number: u64,
}

/// What a client holds while an event is out at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Which lease.
    pub id: LeaseId,
    /// Of which event.
    pub offset: Offset,
}

/// An event on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What decides it.
    pub lease: Lease,
    /// Which delivery it is that counts, from 1.
    pub attempt: u32,
    /// When it lapses. In a run the clock of an event starts when the one before it is decided, so this is
    /// the latest that it can be without being extended.
    pub deadline: Monotonic,
    /// The same for all events of one run.
    pub run: u64,
    /// The event.
    pub record: StoredRecord,
}

/// What a client says about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is done.
    Ack,
    /// It goes back untouched, counting no attempt.
    Release,
    /// It needs so much time, from now.
    Extend(Duration),
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    Ok,
    /// The lease is over, and the event came, or comes, again.
    Expired,
    /// An earlier event of the run is to be done again, and this one after it.
    Superseded,
    /// There is no such delivery.
    Unknown,
    /// It could not be made to hold; say it again.
    Unavailable,
}

impl Status {
    /// The status as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Unknown => "unknown",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What a core has done in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Deliveries.
    pub delivered: u64,
    /// Those of them that were not the event's first.
    pub redelivered: u64,
    /// Events that are done.
    pub acked: u64,
    /// Leases that lapsed.
    pub lapsed: u64,
}

/// An event that is not done.
#[derive(Debug)]
struct Undecided {
    record: StoredRecord,
    bytes: usize,
    /// Deliveries that counted.
    attempts: u32,
    /// Whether it was ever out.
    seen: bool,
    /// The number of its last lease, 0 where there was none.
    lease: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Taken back because of an earlier one of its run; ready, and its last lease decides nothing.
    TakenBack,
    /// Out, and its clock runs.
    Out {
        deadline: Monotonic,
    },
    /// Out behind another of its run; `extended` is how long it was asked to be kept at least.
    Waiting {
        extended: Option<Monotonic>,
    },
}

impl State {
    fn is_out(self) -> bool {
        matches!(self, Self::Out { .. } | Self::Waiting { .. })
    }
}

/// The state machine of one partition in one session of ownership. See the [module](super) for what always
/// holds.
#[derive(Debug)]
pub struct PartitionCore {
    config: CoreConfig,
    session: u32,
    /// The next offset to be read.
    position: Offset,
    undecided: BTreeMap<Offset, Undecided>,
    bytes: usize,
    ready: BTreeSet<Offset>,
    out: usize,
    /// The lane of the partition: what is out of it, in order. Not used without an order.
    run: VecDeque<Offset>,
    timeouts: BTreeSet<(Monotonic, Offset)>,
    done: DoneSet,
    leases: u64,
    counters: Counters,
}

impl PartitionCore {
    /// A core whose first event is at `start` or later.
    pub fn new(config: CoreConfig, session: u32, start: Offset) -> Self {
        Self {
            config,
            session,
            position: start,
            undecided: BTreeMap::new(),
            bytes: 0,
            ready: BTreeSet::new(),
            out: 0,
            run: VecDeque::new(),
            timeouts: BTreeSet::new(),
            done: DoneSet::default(),
            leases: 0,
            counters: Counters::default(),
        }
    }

    /// How it works.
    pub fn config(&self) -> &CoreConfig {
        &self.config
    }

    /// Offsets at or beyond the start that are done already. To be said before anything is read.
    pub fn with_done(&mut self, done: DoneSet) {
        self.done = done;
        self.done.forget_before(self.position);
    }

    /// What was read: records in the order of their offsets, and where to read on. What lies between is
    /// not there.
    pub fn fetched(&mut self, records: Vec<StoredRecord>, next: Offset) {
        for record in records {
            let offset = record.offset;
            if offset < self.position {
                continue;
            }
            self.position = offset + 1;
            if self.done.contains(offset) {
                continue;
            }
            let bytes = record.record.size();
            self.bytes += bytes;
            self.ready.insert(offset);
            let event = Undecided { record, bytes, attempts: 0, seen: false, lease: 0, state: State::Ready };
            self.undecided.insert(offset, event);
        }
        self.position = self.position.max(next);
        self.forget_done();
    }

    /// Gives up what lies before `offset`, as the log has deleted it. Answers how many offsets were neither
    /// done nor out at a client.
    pub fn skip_to(&mut self, now: Monotonic, offset: Offset) -> u64 {
        let mut lost = 0;
        if offset > self.position {
            let unread = self.position..offset;
            let done: u64 = self.done.ranges().map(|range| overlap(&range, &unread)).sum();
            lost += offset - self.position - done;
        }
        while let Some((at, event)) = self.undecided.first_key_value()
            && *at < offset
        {
            let at = *at;
            lost += u64::from(!event.state.is_out());
            self.remove(at);
        }
        self.position = self.position.max(offset);
        self.start_clock(now);
        self.forget_done();
        lost
    }

    /// How many more events and bytes are to be read.
    pub fn room(&self) -> (usize, usize) {
        (
            self.config.buffer_events_max.saturating_sub(self.undecided.len()),
            self.config.buffer_bytes_max.saturating_sub(self.bytes),
        )
    }

    /// Whether [`Self::take`] would give something.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() && (self.run.is_empty() || !self.is_ordered())
    }

    /// Gives out at most `max` events and about `bytes_max` bytes, but always one that is ready; appends
    /// them to `out` and answers how many. With an order they are one run.
    pub fn take(&mut self, now: Monotonic, max: usize, bytes_max: usize, out: &mut Vec<Delivery>) -> usize {
        let ordered = self.is_ordered();
        if !self.has_ready() {
            return 0;
        }
        let run = self.leases + 1;
        let (mut count, mut bytes) = (0, 0);
        while count < max
            && let Some(offset) = self.ready.first().copied()
            && let Some(event) = self.undecided.get_mut(&offset)
        {
            if count > 0 && bytes + event.bytes > bytes_max {
                break;
            }
            self.ready.pop_first();
            self.leases += 1;
            event.lease = self.leases;
            let waits = ordered && count > 0;
            let turn = if ordered { count as u32 + 1 } else { 1 };
            let deadline = now + self.config.ack_timeout.saturating_mul(turn);
            event.state = if waits { State::Waiting { extended: None } } else { State::Out { deadline } };
            if !waits {
                self.timeouts.insert((deadline, offset));
            }
            if ordered {
                self.run.push_back(offset);
            }
            self.counters.delivered += 1;
            self.counters.redelivered += u64::from(event.seen);
            event.seen = true;
            self.out += 1;
            bytes += event.bytes;
            count += 1;
            let id = LeaseId { session: self.session, number: self.leases };
            out.push(Delivery {
                lease: Lease { id, offset },
                attempt: event.attempts + 1,
                deadline,
                run: if ordered { run } else { self.leases },
                record: event.record.clone(),
            });
        }
        count
    }

    /// Applies a decision. Those of one request are to be given in the order of their offsets.
    pub fn decide(&mut self, now: Monotonic, lease: Lease, decision: Decision) -> Status {
        if lease.id.session != self.session {
            return Status::Expired;
        }
        let Some(event) = self.undecided.get_mut(&lease.offset) else {
            // Done, or not a lease of ours at all. A second acknowledgement changes nothing.
            return match decision {
                _ if lease.offset >= self.position || lease.id.number > self.leases => Status::Unknown,
                Decision::Ack => Status::Ok,
                Decision::Release | Decision::Extend(_) => Status::Expired,
            };
        };
        if event.lease != lease.id.number {
            return if lease.id.number > self.leases { Status::Unknown } else { Status::Expired };
        }
        match (event.state, decision) {
            (State::TakenBack, _) => Status::Superseded,
            // Late is good too while it is not out again.
            (State::Ready | State::Out { .. } | State::Waiting { .. }, Decision::Ack) => {
                self.ack(now, lease.offset);
                Status::Ok
            }
            (State::Ready, Decision::Release | Decision::Extend(_)) => Status::Expired,
            (State::Out { .. } | State::Waiting { .. }, Decision::Release) => {
                self.take_back(now, lease.offset, State::Ready);
                Status::Ok
            }
            (State::Out { deadline }, Decision::Extend(by)) => {
                let extended = now + by;
                event.state = State::Out { deadline: extended };
                self.timeouts.remove(&(deadline, lease.offset));
                self.timeouts.insert((extended, lease.offset));
                Status::Ok
            }
            (State::Waiting { .. }, Decision::Extend(by)) => {
                event.state = State::Waiting { extended: Some(now + by) };
                Status::Ok
            }
        }
    }

    /// Takes back a delivery that never reached its client.
    pub fn give_back(&mut self, now: Monotonic, lease: Lease) {
        let live = self
            .undecided
            .get(&lease.offset)
            .is_some_and(|event| event.lease == lease.id.number && event.state.is_out());
        if live && lease.id.session == self.session {
            self.take_back(now, lease.offset, State::Ready);
        }
    }

    /// Takes back what was not decided in time.
    pub fn tick(&mut self, now: Monotonic) {
        while let Some((deadline, offset)) = self.timeouts.first().copied()
            && deadline <= now
        {
            if let Some(event) = self.undecided.get_mut(&offset) {
                event.attempts = event.attempts.saturating_add(1);
            }
            self.counters.lapsed += 1;
            self.take_back(now, offset, State::Ready);
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        self.timeouts.first().map(|(deadline, _)| *deadline)
    }

    /// The offset to commit: everything before it is done.
    pub fn committable(&self) -> Offset {
        self.undecided.first_key_value().map_or(self.position, |(offset, _)| *offset)
    }

    /// What is done beyond [`Self::committable`], as intervals in order. They may hold offsets at which
    /// there is no event.
    pub fn done_beyond(&self) -> impl Iterator<Item = Range<Offset>> + '_ {
        self.done.ranges()
    }

    /// The next offset to be read.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// How many events are out.
    pub fn in_flight(&self) -> usize {
        self.out
    }

    /// What it has done.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn is_ordered(&self) -> bool {
        !matches!(self.config.ordering, Ordering::None)
    }

    fn ack(&mut self, now: Monotonic, offset: Offset) {
        let was_prefix = self.undecided.first_key_value().is_some_and(|(first, _)| *first == offset);
        self.remove(offset);
        self.counters.acked += 1;
        if !was_prefix {
            self.note_done(offset);
        }
        self.start_clock(now);
        self.forget_done();
    }

    /// Forgets an event that is no longer to be delivered.
    fn remove(&mut self, offset: Offset) {
        let Some(event) = self.undecided.remove(&offset) else { return };
        self.bytes -= event.bytes;
        self.stop(offset, event.state);
        if event.state.is_out() {
            self.leave_run(offset);
        }
        self.ready.remove(&offset);
    }

    /// Makes an event that is out ready again as `state`, and with an order those of its run after it.
    fn take_back(&mut self, now: Monotonic, offset: Offset, state: State) {
        self.make_ready(offset, state);
        if let Ok(index) = self.run.binary_search(&offset) {
            for later in self.run.split_off(index).into_iter().skip(1) {
                self.make_ready(later, State::TakenBack);
            }
            self.start_clock(now);
        }
    }

    fn make_ready(&mut self, offset: Offset, state: State) {
        let Some(event) = self.undecided.get_mut(&offset) else { return };
        let before = std::mem::replace(&mut event.state, state);
        self.stop(offset, before);
        self.ready.insert(offset);
    }

    /// Ends what a state kept beside the event.
    fn stop(&mut self, offset: Offset, state: State) {
        self.out -= usize::from(state.is_out());
        if let State::Out { deadline } = state {
            self.timeouts.remove(&(deadline, offset));
        }
    }

    fn leave_run(&mut self, offset: Offset) {
        if self.run.front() == Some(&offset) {
            self.run.pop_front();
        } else if let Ok(index) = self.run.binary_search(&offset) {
            self.run.remove(index);
        }
    }

    /// Starts the clock of the run's first event, if it does not run yet.
    fn start_clock(&mut self, now: Monotonic) {
        let Some(first) = self.run.front().copied() else { return };
        if let Some(event) = self.undecided.get_mut(&first)
            && let State::Waiting { extended } = event.state
        {
            let deadline = now + self.config.ack_timeout;
            let deadline = extended.map_or(deadline, |extended| extended.max(deadline));
            event.state = State::Out { deadline };
            self.timeouts.insert((deadline, first));
        }
    }

    /// Adds an event to what is done, in one interval with its neighbours between which nothing is
    /// undecided.
    fn note_done(&mut self, offset: Offset) {
        let (mut start, mut end) = (offset, offset + 1);
        let before = self.undecided.range(..offset).next_back().map(|(before, _)| *before);
        if let Some(range) = self.done.last_before(offset)
            && before.is_none_or(|before| before < range.start)
        {
            start = range.start;
        }
        let after = self.undecided.range(offset..).next().map_or(self.position, |(after, _)| *after);
        // What lies beyond the position is not read yet: between, there may be events.
        if let Some(range) = self.done.first_from(offset)
            && range.start < after
        {
            end = range.start;
        }
        self.done.insert(start..end.max(offset + 1));
    }

    fn forget_done(&mut self) {
        self.done.forget_before(self.committable());
    }
}

fn overlap(one: &Range<Offset>, other: &Range<Offset>) -> u64 {
    one.end.min(other.end).saturating_sub(one.start.max(other.start))
}
