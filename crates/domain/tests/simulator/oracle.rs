//! Watches a run, and says what must never be seen.
//!
//! 1. Nothing is lost: in the end every event was acknowledged or is a dead letter.
//! 2. Nothing overtakes: an event is delivered only when every earlier one of its lane may be decided, or
//!    stands before it in the same run.
//! 3. Nothing is done twice, with claims: no event comes again once its acknowledgement was answered `ok`, and
//!    no claim is completed under two leases.
//! 4. A commit never passes, nor does its map name, an event that nobody decided, unless it waits elsewhere and
//!    no commit has passed it there.
//! 5. What is not to be tried any more is a dead letter, and one dead letter, by its id.
//! 6. What the filter does not want is never delivered, and counts as done.

use super::world::TOPIC;
use domain::{
    delivery::{DoneSet, Ordering, commit_map},
    retry_topic,
};
use parking_lot::Mutex;
use ports::{ClaimKey, OffsetCommit, Record, Token, TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What happened to one event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) key: Option<u32>,
    /// The filter does not want it.
    pub(crate) unwanted: bool,
    /// A decision that ends it was sent, whether it was answered or not.
    pub(crate) may_be_done: bool,
    /// An acknowledgement of it was answered `ok`, under these leases.
    pub(crate) acked: BTreeSet<String>,
    pub(crate) dead: bool,
    pub(crate) deliveries: u32,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) ordering: Ordering,
    pub(crate) claims: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fates: Vec<Fate>,
    by_place: BTreeMap<(u32, u64), usize>,
    /// All places at which an event lies: the first, and those in retry topics.
    copies: HashMap<usize, Vec<(TopicPartition, u64)>>,
    by_copy: HashMap<TopicPartition, BTreeMap<u64, usize>>,
    commits: HashMap<TopicPartition, (u64, DoneSet)>,
    completed: HashMap<ClaimKey, Token>,
    dead_ids: BTreeMap<String, (u32, u64)>,
    /// What must never be seen and was: kept, as a handler's panic is only one more of its failures.
    violations: Vec<String>,
}

impl State {
    fn lies(&mut self, number: usize, partition: &TopicPartition, offset: u64) {
        self.copies.entry(number).or_default().push((partition.clone(), offset));
        self.by_copy.entry(partition.clone()).or_default().insert(offset, number);
    }

    fn is_passed(&self, partition: &TopicPartition, offset: u64) -> bool {
        self.commits.get(partition).is_some_and(|(next, done)| offset < *next || done.contains(offset))
    }

    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }
}

/// A delivery as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) number: usize,
    pub(crate) run: String,
}

impl Oracle {
    pub(crate) fn new(ordering: Ordering, claims: bool) -> Self {
        Self { ordering, claims, state: Mutex::default() }
    }

    /// An event is in the log.
    pub(crate) fn published(&self, partition: u32, offset: u64, key: Option<u32>, unwanted: bool) {
        let mut state = self.state.lock();
        let number = state.fates.len();
        state.by_place.insert((partition, offset), number);
        let topic = TopicName::new(TOPIC).unwrap();
        state.lies(number, &TopicPartition::new(topic, partition), offset);
        let may_be_done = unwanted;
        state.fates.push(Fate { partition, offset, key, unwanted, may_be_done, ..Fate::default() });
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().fates.len()
    }

    pub(crate) fn at(&self, partition: u32, offset: u64) -> usize {
        self.state.lock().by_place[&(partition, offset)]
    }

    /// A response, in its order.
    pub(crate) fn delivered(&self, response: &[Seen]) {
        let mut state = self.state.lock();
        for (nth, seen) in response.iter().enumerate() {
            state.fates[seen.number].deliveries += 1;
            let fate = state.fates[seen.number].clone();
            state
                .expect(!fate.unwanted, || format!("event {} is not wanted and came: {fate:?}", seen.number));
            let again = self.claims && !fate.acked.is_empty();
            state.expect(!again, || format!("event {} was done and came again: {fate:?}", seen.number));
            for number in 0..state.fates.len() {
                let other = state.fates[number].clone();
                let earlier = other.partition == fate.partition && other.offset < fate.offset;
                let same_lane = match self.ordering {
                    Ordering::None => false,
                    Ordering::Partition => true,
                    Ordering::Key => fate.key.is_some() && fate.key == other.key,
                };
                if !earlier || !same_lane || other.may_be_done || other.dead {
                    continue;
                }
                let before = response[..nth].iter().any(|it| it.number == number && it.run == seen.run);
                state.expect(before, || {
                    format!("event {} overtook {number}: {fate:?} {other:?}", seen.number)
                });
            }
        }
    }

    /// A client is about to say what ends an event.
    pub(crate) fn decides(&self, number: usize) {
        self.state.lock().fates[number].may_be_done = true;
    }

    /// An acknowledgement was answered `ok`.
    pub(crate) fn acked(&self, number: usize, ack_id: &str) {
        let mut state = self.state.lock();
        state.fates[number].acked.insert(ack_id.to_owned());
        let fate = state.fates[number].clone();
        let once = !self.claims || fate.acked.len() == 1;
        state.expect(once, || format!("event {number} was done under two leases: {fate:?}"));
    }

    /// A claim was completed at the store.
    pub(crate) fn completed(&self, key: ClaimKey, token: Token) {
        let mut state = self.state.lock();
        let before = state.completed.insert(key, token);
        let once = before.is_none_or(|before| before == token);
        state.expect(once, || format!("claim {key:?} was completed under two leases"));
    }

    /// An event lies in a retry topic.
    pub(crate) fn waits(&self, partition: &TopicPartition, offset: u64, record: &Record) {
        let waiting = retry_topic::read(record.clone()).expect("it has its headers");
        let mut state = self.state.lock();
        let number = state.by_place[&(waiting.retried.partition, waiting.retried.offset)];
        state.lies(number, partition, offset);
    }

    /// A dead letter is in its topic.
    pub(crate) fn dead_letter(&self, record: &Record) {
        let text = |name: &str| {
            let header =
                record.headers.iter().find(|header| header.name == name).expect("it has its headers");
            String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
        };
        let place = (text("es_dlq_partition").parse().unwrap(), text("es_dlq_offset").parse().unwrap());
        let mut state = self.state.lock();
        let known = state.dead_ids.insert(text("es_dlq_id"), place);
        state.expect(known.is_none_or(|known| known == place), || {
            format!("two dead letters have one id: {place:?}")
        });
        let ids = state.dead_ids.values().filter(|of| **of == place).count();
        state.expect(ids == 1, || format!("one dead letter has two ids: {place:?}"));
        let number = state.by_place[&place];
        let fate = state.fates[number].clone();
        let not_done = !self.claims || fate.acked.is_empty();
        state.expect(not_done, || format!("event {number} was done, and is a dead letter: {fate:?}"));
        state.fates[number].dead = true;
    }

    /// A commit reached the store.
    pub(crate) fn committed(&self, commit: &OffsetCommit) {
        let mut state = self.state.lock();
        let map = commit_map::decode(&commit.metadata).expect("it wrote that itself");
        state.commits.insert(commit.partition.clone(), (commit.next, map.done));
        let events: Vec<_> = state
            .by_copy
            .get(&commit.partition)
            .into_iter()
            .flatten()
            .map(|(at, number)| (*at, *number))
            .collect();
        for (offset, number) in events {
            let fate = state.fates[number].clone();
            let decided = fate.may_be_done || fate.dead || !state.is_passed(&commit.partition, offset);
            let waits = state.copies[&number].iter().any(|(partition, at)| !state.is_passed(partition, *at));
            state.expect(decided || waits, || format!("a commit passed event {number}: {fate:?} {commit:?}"));
        }
    }

    /// Fails where something was seen that must not be.
    pub(crate) fn check(&self) {
        let violations = &self.state.lock().violations;
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }

    /// The end: everything was tried for long enough, without faults.
    pub(crate) fn quiesced(&self) {
        self.check();
        let state = self.state.lock();
        for (number, fate) in state.fates.iter().enumerate() {
            assert!(fate.may_be_done || fate.dead, "event {number} is lost: {fate:?}");
        }
    }
}
