//! Groups as an operator sees and changes them: from outside, without being a member.
//!
//! A change is judged and its partitions are held in place under one lock, so that none of them is
//! assigned before the change is written: whoever joins meanwhile reads it.

use super::{CommitPermit, Group, Groups, assign::MemberId};
use ports::{
    ErrorKind, GroupId, GroupInfo, GroupMember, GroupName, GroupState, GroupSummary, GroupType, Offset,
    PortError, Result, TopicPartition,
};
use std::collections::{BTreeMap, HashMap};

/// What must hold of a group for a change to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It has no members.
    NoMembers,
    /// No member reads the topic.
    NobodyReads,
}

impl Groups {
    /// The groups that have members.
    pub(crate) fn of_members(&self) -> Vec<GroupSummary> {
        let groups = self.0.groups.lock();
        let with_members = groups.iter().filter(|(_, group)| group.state.has_members());
        with_members.map(|(id, group)| summary(id.into(), state(group))).collect()
    }

    /// A group's members; none of a group that is not there.
    pub(crate) fn members(&self, name: &GroupName) -> (GroupState, Vec<GroupMember>) {
        let groups = self.0.groups.lock();
        let Some(group) = groups.get(name.as_str()) else { return (GroupState::Empty, Vec::new()) };
        let member = |(id, assignment): (MemberId, _)| GroupMember {
            id: format!("member-{}", id.0),
            client_id: "event-streaming".to_owned(),
            host: "localhost".to_owned(),
            assignment,
        };
        let mut members: Vec<_> = group.state.assignments().into_iter().map(member).collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        (state(group), members)
    }

    /// Judges a change to each of these positions. Where it is `Ok`, the partition gets no owner while the
    /// permit is kept.
    pub(crate) fn hold(
        &self,
        operation: &'static str,
        name: &GroupName,
        need: Need,
        partitions: &[TopicPartition],
    ) -> Result<(Vec<Result<()>>, CommitPermit)> {
        let id = GroupId::new(name.as_str())
            .map_err(|error| PortError::new(ErrorKind::Invalid, operation, format!("the group {error}")))?;
        let mut permit = CommitPermit { inner: self.0.clone(), group: id.clone(), partitions: Vec::new() };
        let mut groups = self.0.groups.lock();
        let group = groups.entry(id).or_insert_with(Group::new);
        let read = group.state.read();
        let is_busy = |partition: &TopicPartition| match need {
            Need::NoMembers => group.state.has_members(),
            Need::NobodyReads => read.contains(&partition.topic),
        };
        let outcomes: Vec<Result<()>> = partitions
            .iter()
            .map(|partition| if is_busy(partition) { Err(busy(operation, name)) } else { Ok(()) })
            .collect();
        for (partition, _) in partitions.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            group.state.hold(partition);
            permit.partitions.push(partition.clone());
        }
        drop(groups);
        Ok((outcomes, permit))
    }

    /// Makes `NotFound` of the outcome of each partition that is not there.
    pub(crate) async fn find(
        &self,
        operation: &'static str,
        partitions: &[TopicPartition],
        outcomes: &mut [Result<()>],
    ) -> Result<()> {
        let mut counts = HashMap::new();
        for (partition, outcome) in partitions.iter().zip(outcomes) {
            let count = match counts.get(&partition.topic) {
                Some(count) => *count,
                None => {
                    let info = self.0.admin.describe(&partition.topic).await?;
                    let count = info.map_or(0, |info| info.partitions.len() as u32);
                    counts.insert(partition.topic.clone(), count);
                    count
                }
            };
            if partition.partition >= count && outcome.is_ok() {
                let detail = format!("there is no partition {partition}");
                *outcome = Err(PortError::new(ErrorKind::NotFound, operation, detail));
            }
        }
        Ok(())
    }
}

fn state(group: &Group) -> GroupState {
    match (group.state.has_members(), group.state.is_settled()) {
        (false, _) => GroupState::Empty,
        (true, true) => GroupState::Stable,
        (true, false) => GroupState::PreparingRebalance,
    }
}

fn summary(name: GroupName, state: GroupState) -> GroupSummary {
    GroupSummary { name, state, group_type: GroupType::Consumer }
}

/// Makes `Invalid` of the outcome of each offset that Kafka, and so a log like it, cannot hold.
pub(crate) fn check_offsets(
    operation: &'static str,
    offsets: &[(TopicPartition, Offset)],
    outcomes: &mut [Result<()>],
) {
    for ((_, next), outcome) in offsets.iter().zip(outcomes) {
        if i64::try_from(*next).is_err() && outcome.is_ok() {
            let detail = format!("an offset must be at most {} (given: {next})", i64::MAX);
            *outcome = Err(PortError::new(ErrorKind::Invalid, operation, detail));
        }
    }
}

fn busy(operation: &'static str, name: &GroupName) -> PortError {
    PortError::new(ErrorKind::Conflict, operation, format!("group {name} has members"))
}

/// The error for a group that is not there.
pub(crate) fn no_such_group(operation: &'static str, name: &GroupName) -> PortError {
    PortError::new(ErrorKind::NotFound, operation, format!("there is no group {name}"))
}

/// All groups: those with members, and those that have positions alone.
pub(crate) fn list(groups: &Groups, with_positions: Vec<GroupName>) -> Vec<GroupSummary> {
    let idle = with_positions.into_iter().map(|name| (name.clone(), summary(name, GroupState::Empty)));
    let mut all: BTreeMap<_, _> = idle.collect();
    all.extend(groups.of_members().into_iter().map(|group| (group.name.clone(), group)));
    all.into_values().collect()
}

/// A group that has members or positions.
pub(crate) fn describe(groups: &Groups, name: &GroupName, has_positions: bool) -> Option<GroupInfo> {
    let (state, members) = groups.members(name);
    let known = has_positions || !members.is_empty();
    known.then(|| GroupInfo { name: name.clone(), state, group_type: GroupType::Consumer, members })
}
