//! Groups as they are shown: members, positions, and how far those are behind.

use super::{Groups, group_name};
use crate::error::{ErrorCode, Result};
use futures::{StreamExt, stream};
use ports::{
    GroupInfo, GroupOffsets, GroupSummary, Offset, ReadLimits, Timestamp, TopicName, TopicPartition,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// So many topics, or partitions, are asked about at once.
const ASKED_MAX: usize = 16;
/// Of so many partitions of a group the first event that was not read is looked at; of further ones the lag
/// is shown in events alone.
const TIMED_MAX: usize = 256;
/// How long the looking may take in all, for one group.
const TIMED_WITHIN: Duration = Duration::from_secs(5);

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// What the log says of it.
    pub summary: GroupSummary,
    /// Whether it belongs to a subscription.
    pub is_subscription: bool,
}

/// A group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// It and its members.
    pub info: GroupInfo,
    /// Whether it belongs to a subscription.
    pub is_subscription: bool,
    /// Its positions, and the partitions that its members read and have none in, by topic and partition.
    pub positions: Vec<Position>,
}

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub at: TopicPartition,
    /// The offset to read next; `None` where nothing was committed.
    pub committed: Option<Offset>,
    /// The offset that the partition's next event will get; `None` where it is not there, or has no leader.
    pub end: Option<Offset>,
    /// How long ago the first event was appended that was not read, by its timestamp. Zero where there is
    /// none; `None` where that is not known.
    pub lag_time: Option<Duration>,
}

impl Position {
    /// How many offsets the position is behind the end, as Kafka counts it.
    pub fn lag(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.committed?))
    }
}

impl GroupView {
    /// The sum of what is known of the partitions' lag.
    pub fn total_lag(&self) -> u64 {
        self.positions.iter().filter_map(Position::lag).fold(0, u64::saturating_add)
    }
}

/// The ends of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) earliest: Offset,
    pub(super) latest: Offset,
}

/// The partitions of topics that are there, each with its ends where it has a leader.
pub(super) type Ranges = BTreeMap<TopicPartition, Option<Range>>;

impl Groups {
    /// All groups, by name.
    pub async fn list(&self) -> Result<Vec<GroupListing>> {
        let groups = self.admin.list().await?;
        let listing = |summary: GroupSummary| {
            let is_subscription = self.is_ours(&summary.name);
            GroupListing { summary, is_subscription }
        };
        Ok(groups.into_iter().map(listing).collect())
    }

    /// One group with its members and positions. Costs a description of each topic that it reads, and a
    /// look at the first unread event of at most 256 partitions.
    ///
    /// # Errors
    /// `group_not_found`; `invalid_request` for the name.
    pub async fn get(&self, group: &str) -> Result<GroupView> {
        let name = group_name(group)?;
        let info = self.info(&name).await?;
        let committed = self.committed(&name).await?;
        let assigned = info.members.iter().flat_map(|member| &member.assignment).cloned();
        let all: BTreeSet<TopicPartition> = committed.keys().cloned().chain(assigned).collect();
        let ranges = self.ranges(&all.iter().map(|at| at.topic.clone()).collect()).await?;
        let positions = self.positions(all, &committed, &ranges).await;
        Ok(GroupView { is_subscription: self.is_ours(&name), info, positions })
    }

    /// The ends of all partitions of these topics; nothing of a topic that is not there.
    pub(super) async fn ranges(&self, topics: &BTreeSet<TopicName>) -> Result<Ranges> {
        // Owned, as a future that borrows from a stream's item is none that may go to another thread.
        let mut asked = stream::iter(topics.clone())
            .map(|topic| async move {
                let info = self.topics.get(topic.as_str()).await;
                (topic, info)
            })
            .buffered(ASKED_MAX);
        let mut ranges = Ranges::new();
        while let Some((topic, info)) = asked.next().await {
            let info = match info {
                Ok(info) => info,
                Err(error) if error.code() == ErrorCode::TopicNotFound => continue,
                Err(error) => return Err(error),
            };
            ranges.extend(info.partitions.into_iter().map(|it| {
                let range = Range { earliest: it.earliest, latest: it.latest };
                (TopicPartition::new(topic.clone(), it.partition), it.leader.map(|_| range))
            }));
        }
        Ok(ranges)
    }

    async fn positions(
        &self,
        all: BTreeSet<TopicPartition>,
        committed: &GroupOffsets,
        ranges: &Ranges,
    ) -> Vec<Position> {
        let mut positions: Vec<_> = all
            .into_iter()
            .map(|at| {
                let range = ranges.get(&at).copied().flatten();
                let committed = committed.get(&at).map(|committed| committed.next);
                let is_done = committed.zip(range).is_some_and(|(next, range)| next >= range.latest);
                let end = range.map(|range| range.latest);
                Position { at, committed, end, lag_time: is_done.then_some(Duration::ZERO) }
            })
            .collect();
        let behind: Vec<_> = positions
            .iter()
            .enumerate()
            .filter(|(_, it)| it.lag_time.is_none() && it.lag().is_some())
            .filter_map(|(index, it)| {
                // What retention took cannot be read any more.
                let from = it.committed?.max(ranges.get(&it.at)?.as_ref()?.earliest);
                Some((index, it.at.clone(), from))
            })
            .take(TIMED_MAX)
            .collect();
        let mut looked = stream::iter(behind)
            .map(|(index, at, from)| async move { (index, self.first_at(&at, from).await) })
            .buffer_unordered(ASKED_MAX);
        let deadline = self.clock.monotonic() + TIMED_WITHIN;
        let now = self.clock.wall();
        loop {
            let next = tokio::select! {
                next = looked.next() => next,
                () = self.clock.sleep_until(deadline) => None,
            };
            let Some((index, first)) = next else { break };
            let age = |first: Timestamp| {
                Duration::from_millis(u64::try_from(now.0.saturating_sub(first.0)).unwrap_or(0))
            };
            positions[index].lag_time = first.map(age);
        }
        drop(looked);
        positions
    }

    /// When the first event from an offset on was made. `None` where there is none, or it cannot be read.
    async fn first_at(&self, at: &TopicPartition, from: Offset) -> Option<Timestamp> {
        let limits = ReadLimits { records_max: 1, bytes_max: 1, wait_max: Duration::from_secs(1) };
        let read = async { self.log.open(at, from).await?.next(limits).await };
        match read.await {
            Ok(fetched) => fetched.records.first().map(|stored| stored.record.timestamp),
            Err(error) => {
                tracing::debug!(partition = %at, %error, "the first unread event could not be looked at");
                None
            }
        }
    }
}
