//! Samples of all groups, taken again and again.
//!
//! Invariants:
//! 1. A round asks for the list of groups once, for positions once a few hundred groups, and for ends once a
//!    topic: its cost grows with the groups and the topics, not with the partitions that they share.
//! 2. Ends are looked at after the positions that they are compared with: no lag is taken for smaller than
//!    it was.
//! 3. There are `windows_max` windows at most; what is beyond is not sampled, and said once. A group or
//!    position that is gone takes its windows with it.
//! 4. What could not be read is not sampled: a verdict rests on what was seen.

use super::window::{Sample, Verdict, Window};
use crate::topics::Topics;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use ports::{
    Clock, ErrorKind, EventLog, GroupAdmin, GroupName, GroupState, GroupSummary, Offset, PartitionId,
    Position, Result, TopicName, TopicPartition,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// So many groups' positions are asked for by one call.
const GROUPS_A_CALL: usize = 256;
/// So many topics are asked about at once.
const TOPICS_AT_ONCE: usize = 16;

/// How groups are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagConfig {
    /// How often.
    pub interval: Duration,
    /// How many samples a verdict is by.
    pub window: usize,
    /// The most partitions of groups that are sampled, over all groups; each takes about 200 bytes with a
    /// window of 10.
    pub windows_max: usize,
}

impl Default for LagConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), window: 10, windows_max: 200_000 }
    }
}

/// The verdicts on one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// How many samples they are by, at most a window.
    pub samples: usize,
    /// By partition.
    pub partitions: BTreeMap<TopicPartition, Verdict>,
}

/// Takes the samples and keeps the last window of them.
#[derive(Debug)]
pub struct LagMonitor {
    admin: Arc<dyn GroupAdmin>,
    log: Arc<dyn EventLog>,
    topics: Arc<Topics>,
    clock: Arc<dyn Clock>,
    config: LagConfig,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    groups: HashMap<GroupName, Group>,
    /// Whether it was said that there are too many.
    said: bool,
}

#[derive(Debug, Default)]
struct Group {
    /// In how many of the last samples it had no members.
    without_members: usize,
    windows: BTreeMap<TopicPartition, Window>,
}

/// The positions of one group in a round.
type Seen = (GroupSummary, Vec<(TopicPartition, Offset)>);

impl LagMonitor {
    /// Samples the groups that `admin` sees, once [`Self::run`] is.
    pub fn new(
        admin: Arc<dyn GroupAdmin>,
        log: Arc<dyn EventLog>,
        topics: Arc<Topics>,
        clock: Arc<dyn Clock>,
        config: LagConfig,
    ) -> Self {
        Self { admin, log, topics, clock, config, watched: Mutex::default() }
    }

    /// Takes a sample every interval, for ever. A round that takes longer is followed by the next at once.
    ///
    /// # Cancellation
    /// Dropping the future ends it; what was sampled stays.
    pub async fn run(&self) {
        let mut failing = false;
        let mut due = self.clock.monotonic();
        loop {
            due = (due + self.config.interval).max(self.clock.monotonic());
            self.clock.sleep_until(due).await;
            let sampled = self.sample().await;
            // Said once, not at every attempt.
            match sampled {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "groups could not be sampled; trying on");
                }
                Err(error) => tracing::debug!(%error, "groups could not be sampled"),
            }
        }
    }

    /// Takes one sample of all groups.
    ///
    /// # Errors
    /// Where groups cannot be listed. A group or topic that cannot be read is passed over.
    pub async fn sample(&self) -> Result<()> {
        let mut groups = self.admin.list().await?;
        let mut left = self.config.windows_max;
        let mut seen: Vec<Seen> = Vec::with_capacity(groups.len());
        let mut unread = BTreeSet::new();
        while !groups.is_empty() {
            let rest = groups.split_off(groups.len().min(GROUPS_A_CALL));
            let asked = std::mem::replace(&mut groups, rest);
            let names: Vec<_> = asked.iter().map(|group| group.name.clone()).collect();
            let positions = self.admin.offsets(&names).await;
            for (group, positions) in asked.into_iter().zip(positions) {
                match positions {
                    Ok(positions) => {
                        let kept = positions.len().min(left);
                        if kept < positions.len() {
                            self.say_too_many();
                        }
                        left -= kept;
                        let next = positions.into_iter().map(|(at, committed)| (at, committed.next));
                        seen.push((group, next.take(kept).collect()));
                    }
                    Err(error) => {
                        tracing::debug!(group = %group.name, %error, "not sampled");
                        unread.insert(group.name);
                    }
                }
            }
        }
        let ends = self.ends(&seen).await;
        self.keep(seen, &unread, &ends);
        Ok(())
    }

    /// The verdicts on one group; none where it was not sampled.
    pub fn verdicts(&self, group: &GroupName) -> Verdicts {
        let watched = self.watched.lock();
        let Some(group) = watched.groups.get(group) else { return Verdicts::default() };
        let judge = |window: &Window| window.verdict(self.config.window, group.without_members);
        Verdicts {
            samples: group.windows.values().map(Window::len).max().unwrap_or(0),
            partitions: group
                .windows
                .iter()
                .filter(|(_, window)| !window.is_empty())
                .map(|(at, window)| (at.clone(), judge(window)))
                .collect(),
        }
    }

    /// The ends of the partitions that groups have positions in, one call a topic.
    async fn ends(&self, seen: &[Seen]) -> HashMap<TopicPartition, Offset> {
        let mut by_topic: BTreeMap<TopicName, BTreeSet<PartitionId>> = BTreeMap::new();
        for (at, _) in seen.iter().flat_map(|(_, positions)| positions) {
            match by_topic.get_mut(&at.topic) {
                Some(partitions) => {
                    partitions.insert(at.partition);
                }
                None => {
                    by_topic.insert(at.topic.clone(), [at.partition].into());
                }
            }
        }
        let mut asked = stream::iter(by_topic)
            .map(|(topic, partitions)| async move {
                let ends = self.ends_of(&topic, partitions).await;
                (topic, ends)
            })
            .buffer_unordered(TOPICS_AT_ONCE);
        let mut ends = HashMap::new();
        while let Some((topic, found)) = asked.next().await {
            ends.extend(found.into_iter().map(|(at, end)| (TopicPartition::new(topic.clone(), at), end)));
        }
        ends
    }

    /// The ends of some partitions of a topic; nothing where they cannot be read.
    async fn ends_of(
        &self,
        topic: &TopicName,
        partitions: BTreeSet<PartitionId>,
    ) -> Vec<(PartitionId, Offset)> {
        let mut at: Vec<_> = partitions.into_iter().map(|partition| (partition, Position::Latest)).collect();
        let mut located = self.log.locate(topic, &at).await;
        if located.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            // Positions may outlive partitions, of which one fails the call for all.
            self.topics.forget(topic);
            let count = match self.topics.meta_if_there(topic).await {
                Ok(meta) => meta.map_or(0, |meta| meta.partitions),
                Err(error) => {
                    tracing::debug!(%topic, %error, "not sampled");
                    return Vec::new();
                }
            };
            at.retain(|(partition, _)| *partition < count);
            if at.is_empty() {
                return Vec::new();
            }
            located = self.log.locate(topic, &at).await;
        }
        match located {
            Ok(ends) => at.into_iter().map(|(partition, _)| partition).zip(ends).collect(),
            Err(error) => {
                tracing::debug!(%topic, %error, "not sampled");
                Vec::new()
            }
        }
    }

    fn keep(&self, seen: Vec<Seen>, unread: &BTreeSet<GroupName>, ends: &HashMap<TopicPartition, Offset>) {
        let size = self.config.window;
        let mut watched = self.watched.lock();
        let mut before = std::mem::take(&mut watched.groups);
        let mut groups = HashMap::with_capacity(seen.len());
        for (summary, positions) in seen {
            let Group { without_members, mut windows } = before.remove(&summary.name).unwrap_or_default();
            let has_members = !matches!(summary.state, GroupState::Empty | GroupState::Dead);
            let without_members = if has_members { 0 } else { without_members.saturating_add(1) };
            let mut kept = BTreeMap::new();
            for (at, committed) in positions {
                let mut window = windows.remove(&at).unwrap_or_default();
                if let Some(end) = ends.get(&at) {
                    window.push(Sample { committed, end: *end }, size);
                }
                kept.insert(at, window);
            }
            groups.insert(summary.name, Group { without_members, windows: kept });
        }
        // What could not be read is judged by what was seen before.
        groups.extend(before.into_iter().filter(|(name, _)| unread.contains(name)));
        watched.groups = groups;
    }

    fn say_too_many(&self) {
        if !std::mem::replace(&mut self.watched.lock().said, true) {
            let most = self.config.windows_max;
            tracing::warn!(most, "groups have more positions than are sampled; some have no verdict");
        }
    }
}
