//! The core: what is read, what is ready, what is out, what is done.

mod lane;
#[cfg(test)]
mod tests;

use super::{
    Ordering,
    done::DoneSet,
    lease::{CoreConfig, Counters, Decision, Delivery, Lease, LeaseId, Status},
};
use lane::Lane;
use ports::{Monotonic, Offset, StoredRecord};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

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
    /// The lane of the whole partition; none without an order, where every event goes by itself. Order by
    /// key makes this a map from the hash of a key to its lane, and `ready` one of lanes.
    lane: Option<Lane>,
    /// When leases lapse: of what is out and has its clock running, exactly.
    timeouts: BTreeSet<(Monotonic, Offset)>,
    /// What is done beyond the prefix.
    done: DoneSet,
    /// How many leases were given.
    leases: u64,
    revoked: bool,
    counters: Counters,
}

impl PartitionCore {
    /// A core whose first event is at `start` or later.
    pub fn new(config: CoreConfig, session: u32, start: Offset) -> Self {
        let lane = match config.ordering {
            Ordering::None => None,
            Ordering::Partition | Ordering::Key => Some(Lane::default()),
        };
        Self {
            config,
            session,
            position: start,
            undecided: BTreeMap::new(),
            bytes: 0,
            ready: BTreeSet::new(),
            out: 0,
            lane,
            timeouts: BTreeSet::new(),
            done: DoneSet::default(),
            leases: 0,
            revoked: false,
            counters: Counters::default(),
        }
    }

    /// How it works.
    pub fn config(&self) -> &CoreConfig {
        &self.config
    }

    /// Offsets that are done already, and are not delivered when they are read; those before the start are
    /// left out. To be said before anything is read.
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
        if self.revoked {
            return (0, 0);
        }
        (
            self.config.buffer_events_max.saturating_sub(self.undecided.len()),
            self.config.buffer_bytes_max.saturating_sub(self.bytes),
        )
    }

    /// Whether [`Self::take`] would give something.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() && !self.revoked && self.lane.as_ref().is_none_or(Lane::is_free)
    }

    /// Gives out at most `max` events and about `bytes_max` bytes, but always one that is ready; appends
    /// them to `out` and answers how many. With an order they are one run.
    pub fn take(&mut self, now: Monotonic, max: usize, bytes_max: usize, out: &mut Vec<Delivery>) -> usize {
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
            let turn = match &mut self.lane {
                Some(lane) => lane.push(offset),
                None => 1,
            };
            let deadline = now + self.config.ack_timeout.saturating_mul(turn);
            if turn == 1 {
                event.state = State::Out { deadline };
                self.timeouts.insert((deadline, offset));
            } else {
                event.state = State::Waiting { extended: None };
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
                attempt: event.attempts.saturating_add(1),
                deadline,
                run: if self.lane.is_some() { run } else { self.leases },
                record: event.record.clone(),
            });
        }
        count
    }

    /// Applies a decision. Those of one request are to be given in the order of their offsets.
    pub fn decide(&mut self, now: Monotonic, lease: Lease, decision: Decision) -> Status {
        if lease.id.session != self.session || self.revoked {
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
            self.timeouts.pop_first();
            if let Some(event) = self.undecided.get_mut(&offset) {
                event.attempts = event.attempts.saturating_add(1);
            }
            self.counters.lapsed += 1;
            self.take_back(now, offset, State::Ready);
        }
    }

    /// Ends the session: another may own the partition now. Nothing more is delivered, every lease is over
    /// and its decisions are answered [`Status::Expired`]. What was done stays done, to be committed.
    pub fn revoke(&mut self) {
        self.revoked = true;
        self.out = 0;
        self.timeouts.clear();
        self.ready.clear();
        self.lane = None;
        for event in self.undecided.values_mut() {
            event.state = State::Ready;
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
        self.ready.remove(&offset);
        if let Some(lane) = &mut self.lane {
            lane.settle(|offset| self.undecided.get(&offset).is_some_and(|event| event.state.is_out()));
        }
    }

    /// Makes an event that is out ready again as `state`, and with an order those of its run after it.
    fn take_back(&mut self, now: Monotonic, offset: Offset, state: State) {
        self.make_ready(offset, state);
        let later = self.lane.as_mut().map(|lane| lane.cut(offset)).unwrap_or_default();
        for later in later {
            self.make_ready(later, State::TakenBack);
        }
        self.start_clock(now);
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

    /// Starts the clock of the run's first event, if it does not run yet.
    fn start_clock(&mut self, now: Monotonic) {
        let Some(first) = self.lane.as_ref().and_then(Lane::first) else { return };
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
