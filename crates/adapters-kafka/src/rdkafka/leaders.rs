//! Which partitions' leaders know a producer: until one does, records go to it one at a time.
//!
//! A broker that has no state of an idempotent producer for a partition accepts any sequence number first.
//! librdkafka, when a batch was accepted, takes the batches before it for accepted too. So where the very
//! first batch is refused (a leader that is just taking over answers `NOT_LEADER_OR_FOLLOWER`) and one behind
//! it in flight is not, the first is reported as written and lost. With one record in flight until the leader
//! has answered, there is nothing behind it. What is reported without an offset all the same, as after the
//! brokers forgot the producer (`producer.id.expiration.ms`), is not taken for written (`batch`).
//!
//! Invariants:
//! 1. A leader that is not known has at most one record of this producer on its way.
//! 2. It is known once a report brought an offset, and not any more when one failed.

use parking_lot::RwLock;
use ports::PartitionId;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

const UNKNOWN: u8 = 0;
/// The first record is on its way.
const ASKED: u8 = 1;
const KNOWN: u8 = 2;

/// The leaders of a topic's partitions.
pub(super) type Topic = Arc<[Arc<Leader>]>;

#[derive(Debug, Default)]
pub(super) struct Leader(AtomicU8);

#[derive(Debug, Default)]
pub(super) struct Leaders(RwLock<HashMap<String, Topic>>);

impl Leader {
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::Acquire) == KNOWN
    }

    /// Whether the first record may go now; then [`Leader::answered`] must follow.
    pub(super) fn ask(&self) -> bool {
        self.0.compare_exchange(UNKNOWN, ASKED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(super) fn answered(&self, accepted: bool) {
        self.0.store(if accepted { KNOWN } else { UNKNOWN }, Ordering::Release);
    }

    /// A record failed that was not the first.
    fn doubted(&self) {
        let _ = self.0.compare_exchange(KNOWN, UNKNOWN, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl Leaders {
    pub(super) fn of(&self, topic: &str, partitions: PartitionId) -> Topic {
        let known = |topics: &HashMap<String, Topic>| {
            topics.get(topic).filter(|leaders| leaders.len() >= partitions as usize).cloned()
        };
        if let Some(leaders) = known(&self.0.read()) {
            return leaders;
        }
        let mut topics = self.0.write();
        if let Some(leaders) = known(&topics) {
            return leaders;
        }
        let mut leaders = topics.get(topic).map(|leaders| leaders.to_vec()).unwrap_or_default();
        leaders.resize_with(partitions as usize, Arc::default);
        let leaders: Topic = leaders.into();
        topics.insert(topic.to_owned(), leaders.clone());
        leaders
    }

    /// The report of a record: the first of its partition, or one that failed.
    pub(super) fn reported(&self, topic: &str, partition: i32, first: bool, accepted: bool) {
        let topics = self.0.read();
        let leader = topics.get(topic).and_then(|leaders| leaders.get(usize::try_from(partition).ok()?));
        match leader {
            Some(leader) if first => leader.answered(accepted),
            Some(leader) => leader.doubted(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two at once are what loses the first.
    #[test]
    fn one_record_at_a_time_goes_to_a_leader_until_it_accepted_one() {
        let leaders = Leaders::default();
        let topic = leaders.of("orders", 2);
        assert!(!topic[0].is_known() && topic[0].ask());
        assert!(!topic[0].ask(), "one is on its way");
        assert!(topic[1].ask(), "the other partition has its own leader");
        leaders.reported("orders", 0, true, false);
        assert!(!topic[0].is_known() && topic[0].ask(), "it was refused: the next is the first again");
        leaders.reported("orders", 0, true, true);
        assert!(topic[0].is_known() && !topic[1].is_known());
        leaders.reported("orders", 0, false, false);
        assert!(!topic[0].is_known(), "it may be another one, or have forgotten");
        leaders.reported("orders", 1, false, false);
        assert!(!topic[1].ask(), "what failed was not the first, which is on its way");
    }

    #[test]
    fn what_is_known_stays_known_when_a_topic_grows() {
        let leaders = Leaders::default();
        let topic = leaders.of("orders", 1);
        assert!(topic[0].ask());
        let grown = leaders.of("orders", 3);
        leaders.reported("orders", 0, true, true);
        assert!(grown[0].is_known() && topic[0].is_known());
        assert!(grown[2].ask());
        assert_eq!(leaders.of("orders", 2).len(), 3);
    }
}
