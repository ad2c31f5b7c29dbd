//! The groups of the cluster from outside.
//!
//! The client's calls for it are blocking and each has an end; they run on the blocking threads. A
//! coordinator that is moving is asked again until the time of one request is over: all that is asked for
//! here may be asked for twice.

use super::{
    error,
    ffi::groups::{self as ffi, Answer, Element},
};
use async_trait::async_trait;
use ports::{
    Committed, ErrorKind, GroupAdmin, GroupInfo, GroupMember, GroupName, GroupOffsets, GroupState,
    GroupSummary, Offset, PortError, Result, TopicName, TopicPartition,
};
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::{Client, DefaultClientContext},
    types::RDKafkaErrorCode as Code,
};
use std::{collections::HashMap, fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long a coordinator that is moving is left alone.
const MOVING: Duration = Duration::from_millis(100);

pub(super) struct KafkaGroups {
    client: Arc<AdminClient<DefaultClientContext>>,
    timeout: Duration,
}

impl fmt::Debug for KafkaGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaGroups")
    }
}

/// Whether a code says that the coordinator is another one by now, or about to serve.
fn is_moving(code: Code) -> bool {
    matches!(code, Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress)
}

/// The error of a call on a group. What a member's own commit is told when it is no member says, of a change
/// from outside, that others are.
fn of_group(group: &GroupName, operation: &'static str, (code, said): (Code, &str)) -> PortError {
    match code {
        Code::UnknownMemberId
        | Code::IllegalGeneration
        | Code::StaleMemberEpoch
        | Code::FencedMemberEpoch
        | Code::RebalanceInProgress
        | Code::GroupSubscribedToTopic
        | Code::NonEmptyGroup => {
            PortError::new(ErrorKind::Conflict, operation, format!("group `{group}` has members"))
        }
        Code::GroupIdNotFound => {
            PortError::new(ErrorKind::NotFound, operation, format!("there is no group `{group}`"))
        }
        code => error::of_code(code, operation, &format!("group `{group}`: {said}")),
    }
}

/// The error of one position of a group.
fn of_partition(
    group: &GroupName,
    operation: &'static str,
    partition: &TopicPartition,
    code: Code,
) -> PortError {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            PortError::new(ErrorKind::NotFound, operation, format!("there is no partition {partition}"))
        }
        code => of_group(group, operation, (code, &partition.to_string())),
    }
}

fn list<'a>(partitions: impl IntoIterator<Item = (&'a TopicPartition, KafkaOffset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (TopicPartition { topic, partition }, offset) in partitions {
        let mut element = list.add_partition(topic.as_str(), *partition as i32);
        // An offset that does not fit was refused before.
        let _ = element.set_offset(offset);
    }
    list
}

fn place(topic: &str, partition: i32) -> Option<TopicPartition> {
    Some(TopicPartition::new(TopicName::new(topic).ok()?, u32::try_from(partition).ok()?))
}

/// The outcome of each partition that a change named, by what was answered of it.
fn outcomes(
    group: &GroupName,
    operation: &'static str,
    of: &[&TopicPartition],
    answer: Result<Answer<Vec<Element>>>,
) -> Vec<Result<()>> {
    let elements = match answer {
        Ok(Ok(elements)) => elements,
        Ok(Err((code, said))) => {
            let error = of_group(group, operation, (code, &said));
            let error = if error.kind() == ErrorKind::Timeout { error.effect_unknown() } else { error };
            return of.iter().map(|_| Err(error.duplicate())).collect();
        }
        Err(error) => return of.iter().map(|_| Err(error.duplicate())).collect(),
    };
    let codes: HashMap<_, _> =
        elements.into_iter().map(|element| ((element.topic, element.partition), element.code)).collect();
    let outcome = |partition: &&TopicPartition| {
        let code = codes.get(&(partition.topic.to_string(), partition.partition as i32));
        match code.copied().unwrap_or(Code::Fail) {
            Code::NoError => Ok(()),
            code => Err(of_partition(group, operation, partition, code)),
        }
    };
    of.iter().map(outcome).collect()
}

impl KafkaGroups {
    pub(super) fn new(client: Arc<AdminClient<DefaultClientContext>>, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    /// Asks on a blocking thread, again while the answer says that a coordinator is moving.
    async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        ask: impl Fn(&Client<DefaultClientContext>, Duration) -> Result<Answer<T>> + Send + Sync + 'static,
        moving: impl Fn(&T) -> bool,
    ) -> Result<Answer<T>> {
        let ask = Arc::new(ask);
        let deadline = Instant::now() + self.timeout;
        loop {
            let (client, timeout, ask) = (self.client.clone(), self.timeout, ask.clone());
            let asking = tokio::task::spawn_blocking(move || ask(client.inner(), timeout));
            let answer = asking.await.map_err(|_| error::aborted(operation))??;
            let again = match &answer {
                Ok(answer) => moving(answer),
                Err((code, _)) => is_moving(*code),
            };
            if !again || Instant::now() >= deadline {
                return Ok(answer);
            }
            tokio::time::sleep(MOVING).await;
        }
    }

    /// The positions of each group, asked for at the same time.
    async fn ask_offsets(&self, groups: Vec<GroupName>) -> Option<Vec<Answer<Vec<Element>>>> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let asking = tokio::task::spawn_blocking(move || {
            let names: Vec<_> = groups.iter().map(GroupName::as_str).collect();
            ffi::offsets(client.inner(), &names, timeout)
        });
        asking.await.ok()
    }
}

fn any_moving(elements: &[Element]) -> bool {
    elements.iter().any(|element| is_moving(element.code))
}

#[async_trait]
impl GroupAdmin for KafkaGroups {
    async fn list(&self) -> Result<Vec<GroupSummary>> {
        const OPERATION: &str = "group_admin.list";
        let answer = self.ask(OPERATION, |client, timeout| Ok(ffi::list(client, timeout)), |_| false).await?;
        let listed = answer.map_err(|(code, said)| error::of_code(code, OPERATION, &said))?;
        let mut groups: Vec<_> = listed
            .into_iter()
            // One without a name, as very old clients could make, can be asked about by none.
            .filter_map(|group| {
                let name = GroupName::new(&group.name).ok()?;
                Some(GroupSummary { name, state: group.state, group_type: group.group_type })
            })
            .collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        // While a coordinator moves, two brokers may know it.
        groups.dedup_by(|a, b| a.name == b.name);
        Ok(groups)
    }

    async fn describe(&self, group: &GroupName) -> Result<Option<GroupInfo>> {
        const OPERATION: &str = "group_admin.describe";
        let name = group.clone();
        let describe = move |client: &Client<_>, timeout| ffi::describe(client, name.as_str(), timeout);
        let described = match self.ask(OPERATION, describe, |_| false).await? {
            Ok(described) => described,
            Err((Code::GroupIdNotFound, _)) => return Ok(None),
            Err((code, said)) => return Err(of_group(group, OPERATION, (code, &said))),
        };
        // How older brokers say that there is none.
        if described.state == GroupState::Dead && described.members.is_empty() {
            return Ok(None);
        }
        let member = |member: ffi::Member| GroupMember {
            id: member.id,
            client_id: member.client_id,
            // As Java writes an address that it did not look up.
            host: member.host.strip_prefix('/').map(str::to_owned).unwrap_or(member.host),
            assignment: member.assignment.iter().filter_map(|(topic, at)| place(topic, *at)).collect(),
        };
        let mut members: Vec<_> = described.members.into_iter().map(member).collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let (state, group_type) = (described.state, described.group_type);
        Ok(Some(GroupInfo { name: group.clone(), state, group_type, members }))
    }

    async fn offsets(&self, groups: &[GroupName]) -> Vec<Result<GroupOffsets>> {
        const OPERATION: &str = "group_admin.offsets";
        let aborted = || groups.iter().map(|_| Err(error::aborted(OPERATION))).collect();
        let deadline = Instant::now() + self.timeout;
        let Some(mut answers) = self.ask_offsets(groups.to_vec()).await else { return aborted() };
        loop {
            let moving = |answer: &Answer<_>| answer.as_ref().is_err_and(|(code, _)| is_moving(*code));
            let again: Vec<_> = (0..groups.len()).filter(|index| moving(&answers[*index])).collect();
            if again.is_empty() || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(MOVING).await;
            let part = again.iter().map(|index| groups[*index].clone()).collect();
            let Some(asked) = self.ask_offsets(part).await else { return aborted() };
            for (index, answer) in again.into_iter().zip(asked) {
                answers[index] = answer;
            }
        }
        let offsets = |(group, answer): (&GroupName, Answer<Vec<Element>>)| match answer {
            Ok(elements) => {
                let mut found = GroupOffsets::new();
                for Element { topic, partition, offset, metadata, code } in elements {
                    let Some(at) = place(&topic, partition) else { continue };
                    if code != Code::NoError {
                        return Err(of_partition(group, OPERATION, &at, code));
                    }
                    // Negative where there is none.
                    if let Ok(next) = u64::try_from(offset) {
                        found.insert(at, Committed { next, metadata: metadata.into() });
                    }
                }
                Ok(found)
            }
            Err((Code::GroupIdNotFound, _)) => Ok(GroupOffsets::new()),
            Err((code, said)) => Err(of_group(group, OPERATION, (code, &said))),
        };
        groups.iter().zip(answers).map(offsets).collect()
    }

    async fn set_offsets(&self, group: &GroupName, offsets: &[(TopicPartition, Offset)]) -> Vec<Result<()>> {
        const OPERATION: &str = "group_admin.set_offsets";
        let fits = |next: &Offset| i64::try_from(*next).ok();
        let good: Vec<_> = offsets.iter().filter_map(|(at, next)| Some((at.clone(), fits(next)?))).collect();
        let changed = if good.is_empty() {
            Vec::new()
        } else {
            let of: Vec<_> = good.iter().map(|(at, _)| at.clone()).collect();
            let name = group.clone();
            let alter = move |client: &Client<_>, timeout| {
                let list = list(good.iter().map(|(at, next)| (at, KafkaOffset::Offset(*next))));
                ffi::alter_offsets(client, name.as_str(), &list, timeout)
            };
            let answer = self.ask(OPERATION, alter, |elements| any_moving(elements)).await;
            outcomes(group, OPERATION, &of.iter().collect::<Vec<_>>(), answer)
        };
        let mut changed = changed.into_iter();
        let outcome = |(_, next): &(TopicPartition, Offset)| {
            if fits(next).is_none() {
                let detail = format!("an offset must be at most {} (given: {next})", i64::MAX);
                return Err(PortError::new(ErrorKind::Invalid, OPERATION, detail));
            }
            let missing = || PortError::new(ErrorKind::Unexpected, OPERATION, "a position has no outcome");
            changed.next().unwrap_or_else(|| Err(missing()))
        };
        offsets.iter().map(outcome).collect()
    }

    async fn delete_offsets(&self, group: &GroupName, of: &[TopicPartition]) -> Vec<Result<()>> {
        const OPERATION: &str = "group_admin.delete_offsets";
        if of.is_empty() {
            return Vec::new();
        }
        let (name, partitions) = (group.clone(), of.to_vec());
        let delete = move |client: &Client<_>, timeout| {
            let list = list(partitions.iter().map(|at| (at, KafkaOffset::Invalid)));
            ffi::delete_offsets(client, name.as_str(), &list, timeout)
        };
        let answer = self.ask(OPERATION, delete, |elements| any_moving(elements)).await;
        outcomes(group, OPERATION, &of.iter().collect::<Vec<_>>(), answer)
    }

    async fn delete(&self, group: &GroupName) -> Result<()> {
        const OPERATION: &str = "group_admin.delete";
        let options = AdminOptions::new().request_timeout(Some(self.timeout));
        let deleted = self.client.delete_groups(&[group.as_str()], &options).await;
        let deleted = deleted.map_err(|e| error::of(&e, OPERATION, &format!("group `{group}`")))?;
        match deleted.into_iter().next() {
            None | Some(Ok(_)) => Ok(()),
            Some(Err((_, code))) => Err(of_group(group, OPERATION, (code, "it was not deleted"))),
        }
    }
}
