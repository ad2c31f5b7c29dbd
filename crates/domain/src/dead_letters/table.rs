//! The index of one dead letter topic in memory: what lies where and what became of it. It knows no I/O.
//!
//! Invariants:
//! 1. It holds what reading the topic from its earliest offset to where it was read, and then the decisions in their
//!    order, gives, however often it is taken up anew; but for what is beyond its bound, of which the oldest is left
//!    out, and counted. Of a dead letter that lies there more than once the last one counts. (They lie in one
//!    partition, as their writer chooses it by the key; where partitions were added between, either may count.)
//! 2. A decision is folded after all dead letters that were there before it: one about an id that is not known then
//!    is about a dead letter that is gone.
//! 3. What was redriven stays so, whatever is decided afterwards: it is on its way. What was discarded is not edited.
//! 4. A dead letter takes less than 100 bytes.

use super::{
    decision::DecisionKind,
    lane::{Entry, Lane, Standing, size_of},
    letter::{LetterId, LetterStatus},
    names::{Name, Names, Tally},
};
use crate::jobs::Span;
use ports::{Offset, PartitionId};
use std::{
    collections::{BTreeMap, BinaryHeap, HashMap},
    iter::Peekable,
};

/// How many bits of a place are its offset's.
const OFFSET_BITS: u32 = 44;
/// The last partition, and the last offset, that an index can speak of.
const PARTITION_MAX: u64 = (1 << (64 - OFFSET_BITS)) - 1;
const OFFSET_MAX: u64 = (1 << OFFSET_BITS) - 1;

/// A partition and an offset in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u64);

impl Place {
    fn new(partition: PartitionId, offset: Offset) -> Option<Self> {
        let fits = u64::from(partition) <= PARTITION_MAX && offset <= OFFSET_MAX;
        fits.then(|| Self(u64::from(partition) << OFFSET_BITS | offset))
    }

    fn partition(self) -> PartitionId {
        (self.0 >> OFFSET_BITS) as PartitionId
    }

    fn offset(self) -> Offset {
        self.0 & OFFSET_MAX
    }
}

/// A dead letter that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) id: LetterId,
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    pub(super) time: i64,
    pub(super) kind: &'a str,
    pub(super) event_type: Option<&'a str>,
    pub(super) bytes: usize,
}

/// A decision that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) id: LetterId,
    pub(super) offset: Offset,
    pub(super) kind: DecisionKind,
    /// The edit that held when it was made.
    pub(super) edited_at: Option<Offset>,
    pub(super) bytes: usize,
}

/// Which dead letters are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) kind: Option<Name>,
    pub(super) status: Option<LetterStatus>,
}

impl Want {
    fn takes(self, entry: &Entry) -> bool {
        entry.status().is_some_and(|status| self.status.is_none_or(|wanted| wanted == status))
            && self.kind.is_none_or(|kind| kind == entry.kind)
    }
}

impl Entry {
    /// `None` for a copy that does not count.
    pub(super) fn status(&self) -> Option<LetterStatus> {
        match self.standing {
            Standing::Parked => Some(LetterStatus::Parked),
            Standing::Discarded => Some(LetterStatus::Discarded),
            Standing::Redriven => Some(LetterStatus::Redriven),
            Standing::Copied => None,
        }
    }
}

/// Where a list goes on: before these offsets, in these partitions alone.
pub(super) type Before = BTreeMap<PartitionId, Offset>;

/// Some dead letters, the newest first.
#[derive(Debug, Default)]
pub(super) struct Picked {
    pub(super) entries: Vec<(PartitionId, Entry)>,
    /// Where it began.
    pub(super) from: Before,
    /// Where it goes on; nothing where there is no more.
    pub(super) rest: Before,
}

impl Picked {
    /// Where it goes on when only the first ones were looked at.
    pub(super) fn after(&self, count: usize) -> Before {
        if count >= self.entries.len() {
            return self.rest.clone();
        }
        let mut before = self.from.clone();
        for (partition, entry) in &self.entries[..count] {
            before.insert(*partition, entry.offset);
        }
        before
    }
}

/// How many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) kinds: BTreeMap<String, u64>,
    pub(super) types: BTreeMap<String, u64>,
    pub(super) statuses: BTreeMap<LetterStatus, u64>,
}

#[derive(Debug)]
pub(super) struct Table {
    max: usize,
    lanes: BTreeMap<PartitionId, Lane>,
    /// Places by the first half of the id: ids are hashes, so that two of a million hardly ever share it.
    by_id: HashMap<u64, Place>,
    /// Those that do, whoever made them so.
    shared: HashMap<LetterId, Place>,
    kinds: Names,
    types: Names,
    entries: usize,
    unlisted: u64,
    /// Everything before it was folded.
    pub(super) decisions_next: Offset,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            lanes: BTreeMap::new(),
            by_id: HashMap::new(),
            shared: HashMap::new(),
            kinds: Names::default(),
            types: Names::default(),
            entries: 0,
            unlisted: 0,
            decisions_next: 0,
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max);
    }

    /// Dead letters that are there and are not listed, as there are too many.
    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// How far a partition was read.
    pub(super) fn next(&self, partition: PartitionId) -> Offset {
        self.lanes.get(&partition).map_or(0, |lane| lane.next)
    }

    /// The part of each partition that holds what is listed.
    pub(super) fn spans(&self) -> BTreeMap<PartitionId, Span> {
        let span = |(partition, lane): (&PartitionId, &Lane)| {
            let from = lane.first()?.offset;
            Some((*partition, Span { from, to: lane.next, next: from, gone: 0 }))
        };
        self.lanes.iter().filter_map(span).collect()
    }

    /// Takes up dead letters of a batch, in order within each partition.
    pub(super) fn insert<'a>(&mut self, found: impl IntoIterator<Item = Found<'a>>) {
        for of in found {
            self.insert_one(&of);
        }
        self.keep_within_bound();
    }

    fn insert_one(&mut self, found: &Found<'_>) {
        let Some(place) = Place::new(found.partition, found.offset) else {
            self.unlisted += 1;
            return;
        };
        let lane = self.lanes.entry(found.partition).or_default();
        if found.offset < lane.next {
            return;
        }
        lane.next = found.offset + 1;
        let mut entry = Entry {
            id: found.id,
            offset: found.offset,
            time: found.time,
            decision: Entry::UNDECIDED,
            edit: Entry::UNDECIDED,
            kind: self.kinds.intern(found.kind),
            event_type: found.event_type.map_or(Name::NONE, |word| self.types.intern(word)),
            standing: Standing::Parked,
            size: size_of(found.bytes),
        };
        if let Some(earlier) = self.place_of(&found.id).and_then(|place| self.entry_mut(place)) {
            // What was decided about it is about this one.
            (entry.standing, entry.decision, entry.edit) = (earlier.standing, earlier.decision, earlier.edit);
            entry.size = entry.size.max(earlier.size);
            earlier.standing = Standing::Copied;
        }
        self.enter(found.id, place);
        if let Some(lane) = self.lanes.get_mut(&found.partition) {
            lane.push(entry);
            self.entries += 1;
        }
    }

    /// Says how far a partition was read, whatever was found there.
    pub(super) fn read_to(&mut self, partition: PartitionId, next: Offset) {
        let lane = self.lanes.entry(partition).or_default();
        lane.next = lane.next.max(next);
    }

    /// Takes away what lies before an offset: it is not in the topic any more.
    pub(super) fn trim(&mut self, partition: PartitionId, earliest: Offset) {
        while self.lanes.get(&partition).and_then(Lane::first).is_some_and(|first| first.offset < earliest) {
            self.pop(partition);
        }
        self.read_to(partition, earliest);
    }

    /// Takes a partition away: it is to be read again from its start.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        while self.pop(partition) {}
        self.lanes.remove(&partition);
    }

    fn pop(&mut self, partition: PartitionId) -> bool {
        let Some(entry) = self.lanes.get_mut(&partition).and_then(Lane::pop_first) else { return false };
        self.entries -= 1;
        if entry.standing != Standing::Copied {
            self.leave(&entry.id, partition, entry.offset);
        }
        true
    }

    /// The oldest are let go where there are too many.
    fn keep_within_bound(&mut self) {
        if self.entries <= self.max {
            return;
        }
        let mut oldest: BinaryHeap<_> = self.lanes.iter().filter_map(first_of).collect();
        while self.entries > self.max {
            let Some(std::cmp::Reverse((_, partition))) = oldest.pop() else { return };
            let first = self.lanes.get(&partition).and_then(Lane::first).copied();
            self.unlisted += u64::from(first.is_some_and(|entry| entry.standing != Standing::Copied));
            self.pop(partition);
            oldest.extend(self.lanes.get_key_value(&partition).and_then(first_of));
        }
    }

    /// Folds a decision.
    pub(super) fn fold(&mut self, fact: &Fact) {
        self.decisions_next = self.decisions_next.max(fact.offset + 1);
        let Some(entry) = self.place_of(&fact.id).and_then(|place| self.entry_mut(place)) else { return };
        let holds = match fact.kind {
            DecisionKind::Redriven => true,
            DecisionKind::Discarded | DecisionKind::Edited => entry.standing == Standing::Parked,
        };
        if !holds {
            return;
        }
        match fact.kind {
            DecisionKind::Redriven => {
                // As it was when it was redriven, whoever edited it at that moment.
                entry.edit = fact.edited_at.unwrap_or(Entry::UNDECIDED);
                entry.standing = Standing::Redriven;
            }
            DecisionKind::Discarded => entry.standing = Standing::Discarded,
            DecisionKind::Edited => {
                entry.edit = fact.offset;
                entry.size = entry.size.max(size_of(fact.bytes));
            }
        }
        entry.decision = fact.offset;
    }

    /// One dead letter.
    pub(super) fn get(&self, id: &LetterId) -> Option<(PartitionId, Entry)> {
        let place = self.place_of(id)?;
        let entry = self.lanes.get(&place.partition())?.get(place.offset())?;
        Some((place.partition(), *entry))
    }

    /// What lies at a place, and counts.
    pub(super) fn at(&self, partition: PartitionId, offset: Offset) -> Option<Entry> {
        let entry = *self.lanes.get(&partition)?.get(offset)?;
        entry.status().map(|_| entry)
    }

    /// The error kind's number; `None` where no dead letter has it.
    pub(super) fn kind(&self, word: &str) -> Option<Name> {
        self.kinds.find(word)
    }

    /// The newest that are wanted, from `before` on (from the end where it is `None`), so many at most, and so many
    /// bytes at most where it is more than one. Among partitions they are ordered by time, within one by offset.
    pub(super) fn newest(
        &self,
        before: Option<&Before>,
        want: Want,
        count_max: usize,
        bytes_max: usize,
    ) -> Picked {
        let mut from = Before::new();
        let mut heads = BinaryHeap::new();
        let mut lanes: BTreeMap<PartitionId, Peekable<_>> = BTreeMap::new();
        for (partition, lane) in &self.lanes {
            let offset = match before {
                None => lane.next,
                Some(before) => match before.get(partition) {
                    Some(offset) => *offset,
                    None => continue,
                },
            };
            let mut entries = lane.before(offset).filter(move |entry| want.takes(entry)).peekable();
            if let Some(head) = entries.peek() {
                heads.push((head.time, *partition));
                from.insert(*partition, offset);
                lanes.insert(*partition, entries);
            }
        }
        let mut picked = Picked { from, ..Picked::default() };
        let (mut rest, mut bytes) = (picked.from.clone(), 0_usize);
        while let Some((_, partition)) = heads.peek().copied() {
            let Some(entries) = lanes.get_mut(&partition) else { break };
            let Some(entry) = entries.peek().copied() else { break };
            let is_full = bytes.saturating_add(entry.bytes()) > bytes_max && !picked.entries.is_empty();
            if picked.entries.len() >= count_max || is_full {
                break;
            }
            bytes = bytes.saturating_add(entry.bytes());
            picked.entries.push((partition, *entry));
            heads.pop();
            entries.next();
            match entries.peek() {
                Some(next) => {
                    rest.insert(partition, entry.offset);
                    heads.push((next.time, partition));
                }
                None => drop(rest.remove(&partition)),
            }
        }
        drop(lanes);
        picked.rest = rest;
        picked
    }

    /// How many there are: by error kind and event type of those with a status, and by status of all.
    pub(super) fn count(&self, status: LetterStatus) -> Counts {
        let (mut kinds, mut types) = (Tally::new(), Tally::new());
        let mut counts = Counts::default();
        for entry in self.lanes.values().flat_map(Lane::iter) {
            let Some(is) = entry.status() else { continue };
            *counts.statuses.entry(is).or_default() += 1;
            if is == status {
                kinds.add(entry.kind);
                types.add(entry.event_type);
            }
        }
        counts.kinds = kinds.by_word(&self.kinds);
        counts.types = types.by_word(&self.types);
        counts
    }

    fn place_of(&self, id: &LetterId) -> Option<Place> {
        let is_it = |place: &Place| self.id_at(*place) == Some(*id);
        self.by_id.get(&id.half()).copied().filter(is_it).or_else(|| self.shared.get(id).copied())
    }

    fn id_at(&self, place: Place) -> Option<LetterId> {
        self.lanes.get(&place.partition())?.get(place.offset()).map(|entry| entry.id)
    }

    fn entry_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.lanes.get_mut(&place.partition())?.get_mut(place.offset())
    }

    /// Says where a dead letter lies.
    fn enter(&mut self, id: LetterId, place: Place) {
        let taken =
            self.by_id.get(&id.half()).and_then(|there| self.id_at(*there)).is_some_and(|other| other != id);
        if taken {
            self.shared.insert(id, place);
        } else {
            self.shared.remove(&id);
            self.by_id.insert(id.half(), place);
        }
    }

    /// One does not lie there any more.
    fn leave(&mut self, id: &LetterId, partition: PartitionId, offset: Offset) {
        let place = Place::new(partition, offset);
        if self.by_id.get(&id.half()).copied() == place {
            self.by_id.remove(&id.half());
        } else if self.shared.get(id).copied() == place {
            self.shared.remove(id);
        }
    }
}

fn first_of((partition, lane): (&PartitionId, &Lane)) -> Option<std::cmp::Reverse<(i64, PartitionId)>> {
    lane.first().map(|first| std::cmp::Reverse((first.time, *partition)))
}
