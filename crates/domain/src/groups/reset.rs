//! A group's positions set to another place.

use super::{
    Groups, active, group_name, is_active, numbers,
    view::{Range, Ranges},
};
use crate::{
    error::{Error, ErrorCode, Result},
    topics::topic_name,
};
use ports::{GroupName, GroupOffsets, Offset, PartitionId, Timestamp, TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// The first event that is there.
    Earliest,
    /// The end: what comes from now on.
    Latest,
    /// The first event of this time or later; the end where there is none.
    Timestamp(Timestamp),
    /// This offset.
    Offset(i64),
    /// So many offsets on, or back where it is negative.
    ShiftBy(i64),
    /// Each partition to an offset of its own; the answer to an earlier reset is such a list.
    Offsets(Vec<TopicOffset>),
}

/// An offset of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i64,
    /// The offset.
    pub offset: i64,
}

/// What to set, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReset {
    /// The topic; `None` is each topic that the group has a position in.
    pub topic: Option<String>,
    /// The partitions of that topic; `None` is all of them.
    pub partitions: Option<Vec<i64>>,
    /// Where to.
    pub to: ResetTo,
    /// Whether to answer only what would be done.
    pub dry_run: bool,
}

/// A position that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The partition.
    pub at: TopicPartition,
    /// Where the group reads on; `None` before its first commit.
    pub before: Option<Offset>,
    /// Where it reads on now.
    pub after: Offset,
    /// What was asked for, where the partition does not hold that.
    pub clamped_from: Option<i64>,
}

/// What a reset did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetOutcome {
    /// The positions, by topic and partition.
    pub moved: Vec<Moved>,
    /// Whether nothing was changed.
    pub dry_run: bool,
}

/// What was asked of one partition.
#[derive(Clone, Debug)]
struct Aim {
    range: Range,
    before: Option<Offset>,
    /// The offset of its own.
    own: Option<i64>,
}

impl Groups {
    /// Sets the positions of a group that has no members.
    ///
    /// # Errors
    /// `group_not_found`, `invalid_request` by field, `topic_not_found`, `group_active` while it has members,
    /// which are named; `not_supported` for the group of a subscription; `unavailable` where a partition has
    /// no leader. Where a part of it fails, another part may be done, which the error says.
    ///
    /// # Cancellation
    /// Dropping the future may leave it to be done.
    pub async fn reset(&self, group: &str, reset: GroupReset) -> Result<ResetOutcome> {
        let name = group_name(group)?;
        let info = self.info(&name).await?;
        if self.is_ours(&name) {
            return seek(&name);
        }
        if is_active(&info) {
            return Err(active(&info));
        }
        let GroupReset { topic, partitions, to, dry_run } = reset;
        let committed = self.committed(&name).await?;
        if let ResetTo::Timestamp(time) = to
            && time > self.clock.wall()
        {
            let message = "must not lie in the future; `latest` is the end as it is now";
            return Err(Error::invalid("to.timestamp", message));
        }
        let aims = match &to {
            ResetTo::Offsets(offsets) => {
                if topic.is_some() || partitions.is_some() {
                    let field = if topic.is_some() { "topic" } else { "partitions" };
                    return Err(Error::invalid(
                        field,
                        "must be left out where `to.offsets` says it for each",
                    ));
                }
                self.listed(offsets, &committed).await?
            }
            _ => self.scope(topic.as_deref(), partitions.as_deref(), &to, &committed).await?,
        };
        let moved = self.aim(&to, aims).await?;
        if !dry_run {
            let set: Vec<_> = moved.iter().map(|moved| (moved.at.clone(), moved.after)).collect();
            let outcomes = self.admin.set_offsets(&name, &set).await;
            let of: Vec<_> = set.into_iter().map(|(at, _)| at).collect();
            self.all_done(&name, &of, outcomes).await?;
            tracing::info!(group = %name, positions = moved.len(), "a group's positions were set");
        }
        Ok(ResetOutcome { moved, dry_run })
    }

    /// The partitions that a reset of many to one place is about.
    async fn scope(
        &self,
        topic: Option<&str>,
        partitions: Option<&[i64]>,
        to: &ResetTo,
        committed: &GroupOffsets,
    ) -> Result<BTreeMap<TopicPartition, Aim>> {
        let (topics, named): (BTreeSet<TopicName>, _) = match (topic, partitions) {
            (Some(topic), partitions) => {
                let named = partitions.map(numbers).transpose()?;
                if named.as_ref().is_some_and(Vec::is_empty) {
                    return Err(Error::invalid("partitions", "must not be empty; left out it means all"));
                }
                ([topic_name("topic", topic)?].into(), named)
            }
            (None, Some(_)) => {
                return Err(Error::invalid("topic", "must be given where `partitions` is"));
            }
            (None, None) => (committed.keys().map(|at| at.topic.clone()).collect(), None),
        };
        if topics.is_empty() {
            return Err(Error::invalid("topic", "must be given: the group has no position anywhere"));
        }
        let ranges = self.ranges(&topics).await?;
        if topic.is_some()
            && let Some(missing) = topics.iter().find(|topic| !ranges.keys().any(|at| at.topic == **topic))
        {
            return Err(Error::topic_not_found(missing));
        }
        if let (Some(named), Some(topic)) = (&named, topics.first()) {
            check_partitions(named, topic, &ranges)?;
        }
        let is_meant = |at: &TopicPartition| named.as_ref().is_none_or(|named| named.contains(&at.partition));
        let mut aims = BTreeMap::new();
        for (at, range) in ranges.iter().filter(|(at, _)| is_meant(at)) {
            let before = committed.get(at).map(|committed| committed.next);
            if before.is_none() && matches!(to, ResetTo::ShiftBy(_)) {
                if named.is_none() {
                    // A shift has nothing to begin at there.
                    continue;
                }
                let message = format!("cannot shift {at}, where the group has no position");
                return Err(Error::invalid("to.shiftBy", message));
            }
            aims.insert(at.clone(), Aim { range: led(at, *range)?, before, own: None });
        }
        if aims.is_empty() {
            return Err(Error::invalid("topic", "must name one that the group has a position in"));
        }
        Ok(aims)
    }

    /// The partitions of a list, each with its own offset.
    async fn listed(
        &self,
        offsets: &[TopicOffset],
        committed: &GroupOffsets,
    ) -> Result<BTreeMap<TopicPartition, Aim>> {
        if offsets.is_empty() {
            return Err(Error::invalid("to.offsets", "must not be empty"));
        }
        let mut wanted = Vec::with_capacity(offsets.len());
        for (index, given) in offsets.iter().enumerate() {
            let topic = topic_name(&format!("to.offsets[{index}].topic"), &given.topic)?;
            let number = PartitionId::try_from(given.partition).map_err(|_| {
                let message = format!("must be the number of a partition (given: {})", given.partition);
                Error::invalid(format!("to.offsets[{index}].partition"), message)
            })?;
            if given.offset < 0 {
                let message = format!("must be at least 0 (given: {})", given.offset);
                return Err(Error::invalid(format!("to.offsets[{index}].offset"), message));
            }
            wanted.push((TopicPartition::new(topic, number), given.offset));
        }
        let ranges = self.ranges(&wanted.iter().map(|(at, _)| at.topic.clone()).collect()).await?;
        let mut aims = BTreeMap::new();
        for (index, (at, offset)) in wanted.into_iter().enumerate() {
            let Some(range) = ranges.get(&at) else {
                let message = format!("is not a partition of a topic that is there (given: {at})");
                return Err(Error::invalid(format!("to.offsets[{index}].partition"), message));
            };
            let before = committed.get(&at).map(|committed| committed.next);
            let aim = Aim { range: led(&at, *range)?, before, own: Some(offset) };
            if aims.insert(at, aim).is_some() {
                return Err(Error::invalid(format!("to.offsets[{index}].partition"), "is given twice"));
            }
        }
        Ok(aims)
    }

    /// Where each of these comes to stand.
    async fn aim(&self, to: &ResetTo, aims: BTreeMap<TopicPartition, Aim>) -> Result<Vec<Moved>> {
        let by_time = match to {
            ResetTo::Timestamp(time) => self.at_time(*time, aims.keys().cloned().collect()).await?,
            ResetTo::Offset(offset) if *offset < 0 => {
                let message = format!("must be at least 0 (given: {offset})");
                return Err(Error::invalid("to.offset", message));
            }
            _ => BTreeMap::new(),
        };
        let place = |(at, aim): (TopicPartition, Aim)| {
            let Aim { range, before, own } = aim;
            let asked: i128 = match to {
                ResetTo::Earliest => range.earliest.into(),
                ResetTo::Latest => range.latest.into(),
                ResetTo::Timestamp(_) => by_time.get(&at).copied().unwrap_or(range.latest).into(),
                ResetTo::Offset(offset) => (*offset).into(),
                ResetTo::ShiftBy(by) => i128::from(before.unwrap_or_default()) + i128::from(*by),
                ResetTo::Offsets(_) => own.unwrap_or_default().into(),
            };
            let after = asked.clamp(range.earliest.into(), range.latest.into());
            // What a time means may be a moment newer than the end that was looked at.
            let is_clamped = after != asked && !matches!(to, ResetTo::Timestamp(_));
            let shown = || i64::try_from(asked).unwrap_or(if asked < 0 { i64::MIN } else { i64::MAX });
            Moved {
                at,
                before,
                after: Offset::try_from(after).unwrap_or(range.latest),
                clamped_from: is_clamped.then(shown),
            }
        };
        Ok(aims.into_iter().map(place).collect())
    }

    async fn at_time(
        &self,
        time: Timestamp,
        of: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let mut by_topic: BTreeMap<TopicName, Vec<(PartitionId, ports::Position)>> = BTreeMap::new();
        for at in of {
            let positions = by_topic.entry(at.topic).or_default();
            positions.push((at.partition, ports::Position::Timestamp(time)));
        }
        let mut found = BTreeMap::new();
        for (topic, at) in by_topic {
            let offsets = self.log.locate(&topic, &at).await?;
            let places = at.iter().map(|(partition, _)| TopicPartition::new(topic.clone(), *partition));
            found.extend(places.zip(offsets));
        }
        Ok(found)
    }
}

/// Moves the group of a subscription, which is a seek of the subscription: a new epoch of its deliveries, so
/// that what is out is fenced. There is none in this version.
fn seek(name: &GroupName) -> Result<ResetOutcome> {
    let detail = format!(
        "group `{name}` belongs to the subscription of that name; moving a subscription is not supported by this version"
    );
    Err(Error::new(ErrorCode::NotSupported, detail))
}

fn check_partitions(named: &[PartitionId], topic: &TopicName, ranges: &Ranges) -> Result<()> {
    for (index, number) in named.iter().enumerate() {
        if !ranges.contains_key(&TopicPartition::new(topic.clone(), *number)) {
            let last = ranges.len().saturating_sub(1);
            let message = format!("is not a partition of `{topic}`; it has 0 to {last} (given: {number})");
            return Err(Error::invalid(format!("partitions[{index}]"), message));
        }
    }
    Ok(())
}

fn led(at: &TopicPartition, range: Option<Range>) -> Result<Range> {
    let detail = || format!("{at} has no leader; what it holds is not known");
    range.ok_or_else(|| Error::new(ErrorCode::Unavailable, detail()))
}
