//! Where partitions end, as far as that must be known.

use ports::{Monotonic, Offset, PartitionId};
use std::{collections::HashMap, time::Duration};

/// An end that is older is asked for anew. It stays right as long as the log loses nothing; but all that lies
/// behind it may have to be read one day.
const FRESH: Duration = Duration::from_secs(1);

/// The last known ends of one topic's partitions. An end is where the partition ended at some time: what is
/// appended later lies there or behind.
#[derive(Debug, Default)]
pub(in crate::publish) struct Ends {
    topic_id: String,
    known: HashMap<PartitionId, (Offset, Monotonic)>,
}

impl Ends {
    /// Forgets everything where this is another topic than it was.
    pub(in crate::publish) fn of(&mut self, topic_id: &str) -> &mut Self {
        if self.topic_id != topic_id {
            topic_id.clone_into(&mut self.topic_id);
            self.known.clear();
        }
        self
    }

    /// The end as last known.
    pub(in crate::publish) fn get(&self, partition: PartitionId) -> Option<Offset> {
        self.known.get(&partition).map(|(end, _)| *end)
    }

    /// Whether the end should be asked for. Of many callers at a time one is told so: it counts as fresh
    /// from then on.
    pub(in crate::publish) fn is_due(&mut self, partition: PartitionId, now: Monotonic) -> bool {
        match self.known.get_mut(&partition) {
            None => true,
            Some((_, at)) if now.since(*at) < FRESH => false,
            Some((_, at)) => {
                *at = now;
                true
            }
        }
    }

    /// Keeps the end that the log told. It may be before the one that was known: a log that lost its end
    /// goes on from there.
    pub(in crate::publish) fn told(&mut self, partition: PartitionId, end: Offset, now: Monotonic) {
        self.known.insert(partition, (end, now));
    }

    /// Keeps the end behind a record that was appended, where one was known already. The next time to ask
    /// stays as it is.
    pub(in crate::publish) fn appended(&mut self, partition: PartitionId, offset: Offset) {
        if let Some((end, _)) = self.known.get_mut(&partition) {
            *end = (*end).max(offset + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_asked_for_when_it_is_unknown_or_old_and_by_one_caller() {
        let at = |ms| Monotonic(Duration::from_millis(ms));
        let mut ends = Ends::default();
        assert!(ends.of("a").is_due(0, at(0)));
        ends.told(0, 10, at(0));
        assert!(!ends.of("a").is_due(0, at(999)));
        assert!(ends.is_due(0, at(1000)));
        assert!(!ends.is_due(0, at(1000)), "somebody is asking");
        assert_eq!(ends.get(0), Some(10), "and until then the old one serves");
        ends.appended(0, 6);
        assert_eq!(ends.get(0), Some(10), "a report that comes late moves nothing back");
        ends.appended(0, 10);
        assert_eq!(ends.get(0), Some(11));
        ends.told(0, 7, at(1001));
        assert_eq!(ends.get(0), Some(7), "a log that lost its end goes on from there");
        assert_eq!(ends.of("b").get(0), None, "another topic of that name begins at its own start");
    }
}
