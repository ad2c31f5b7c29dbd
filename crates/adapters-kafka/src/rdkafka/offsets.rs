//! Positions: committed with metadata through the member that owns them, partition by partition.

use super::{
    error, ffi, janitor,
    member::{Joined, Members},
    member_config,
};
use async_trait::async_trait;
use ports::{Committed, ErrorKind, GroupId, OffsetCommit, OffsetStore, PortError, Result, TopicPartition};
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    admin::AdminOptions,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use std::{collections::HashMap, sync::Arc};

type ByPartition = HashMap<(String, i32), Code>;

const COMMIT: &str = "offset_store.commit";
const COMMITTED: &str = "offset_store.committed";
/// What a broker keeps with an offset (`offset.metadata.max.bytes`). A commit with one that is larger fails in
/// part and does not say in which.
const METADATA_BYTES_MAX: usize = 4096;

fn fenced(partition: &TopicPartition) -> PortError {
    PortError::new(ErrorKind::Fenced, COMMIT, format!("{partition} is not owned under that generation"))
}

fn list(commits: &[&OffsetCommit]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let OffsetCommit { partition, next, metadata, .. } = commit;
        let mut element = list.add_partition(partition.topic.as_str(), partition.partition as i32);
        element.set_offset(KafkaOffset::Offset(i64::try_from(*next).unwrap_or(i64::MAX)))?;
        element.set_metadata(&**metadata);
    }
    Ok(list)
}

impl Members {
    /// One after another for a group: a later commit must not be overtaken by an earlier one.
    fn turn(&self, group: &GroupId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.committing.lock();
        turns.retain(|of, turn| of == group || Arc::strong_count(turn) > 1);
        turns.entry(group.clone()).or_default().clone()
    }

    /// Commits what one member owns, and gives an outcome for each.
    async fn commit_by(&self, member: Arc<Joined>, commits: &[&OffsetCommit]) -> Vec<Result<()>> {
        // Ownership is looked at and the commit handed over under one lock, so that nothing that was given up
        // in between is committed.
        let handed = member.gate.with(|owned| {
            let is_owned = |commit: &OffsetCommit| owned.get(&commit.partition) == Some(&commit.generation);
            let owned: Vec<bool> = commits.iter().map(|commit| is_owned(commit)).collect();
            let list = list(
                &commits.iter().zip(&owned).filter(|(_, owned)| **owned).map(|(c, _)| *c).collect::<Vec<_>>(),
            );
            let pending = match list {
                Ok(list) if list.count() == 0 => return (owned, None),
                Ok(list) => ffi::commit(member.client.client(), &list)
                    .map_err(|code| error::of_code(code, COMMIT, "the commit")),
                Err(e) => Err(error::of(&e, COMMIT, "the commit")),
            };
            (owned, Some(pending))
        });
        let (owned, pending) = handed;
        let answer: Result<Option<(Code, ByPartition)>> = match pending {
            None => Ok(None),
            Some(Err(error)) => Err(error),
            Some(Ok(pending)) => {
                let timeout = self.config.request_timeout;
                match tokio::task::spawn_blocking(move || pending.wait(timeout)).await {
                    Ok(Some((code, each))) => {
                        Ok(Some((code, each.into_iter().map(|(t, p, code)| ((t, p), code)).collect())))
                    }
                    Ok(None) => Err(PortError::new(
                        ErrorKind::Timeout,
                        COMMIT,
                        "the coordinator did not answer in time",
                    )
                    .effect_unknown()),
                    Err(_) => Err(error::aborted(COMMIT)),
                }
            }
        };
        commits
            .iter()
            .zip(owned)
            .map(|(commit, owned)| {
                if !owned {
                    return Err(fenced(&commit.partition));
                }
                let TopicPartition { topic, partition } = &commit.partition;
                let code = match &answer {
                    Err(error) => return Err(error.duplicate()),
                    Ok(None) => return Ok(()),
                    Ok(Some((overall, each))) => {
                        let own = each.get(&(topic.to_string(), *partition as i32)).copied();
                        own.filter(|code| *code != Code::NoError || *overall == Code::NoError)
                            .unwrap_or(*overall)
                    }
                };
                match code {
                    Code::NoError => Ok(()),
                    code => Err(error::of_code(code, COMMIT, &commit.partition.to_string()).effect_unknown()),
                }
            })
            .collect()
    }
}

#[async_trait]
impl OffsetStore for Members {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        let turn = self.turn(group);
        let _turn = turn.lock().await;
        let members = self.of(group);
        let mut outcomes: Vec<Option<Result<()>>> = Vec::with_capacity(commits.len());
        let mut by_member: Vec<Vec<usize>> = members.iter().map(|_| Vec::new()).collect();
        for (index, commit) in commits.iter().enumerate() {
            let size = commit.metadata.len();
            let owner = members.iter().position(|member| {
                member.gate.with(|owned| owned.get(&commit.partition) == Some(&commit.generation))
            });
            outcomes.push(match owner {
                None => Some(Err(fenced(&commit.partition))),
                Some(_) if size > METADATA_BYTES_MAX => {
                    let what = format!("metadata takes at most {METADATA_BYTES_MAX} bytes (given: {size})");
                    Some(Err(PortError::new(ErrorKind::TooLarge, COMMIT, what)))
                }
                Some(owner) => {
                    by_member[owner].push(index);
                    None
                }
            });
        }
        for (member, indexes) in members.into_iter().zip(by_member) {
            if indexes.is_empty() {
                continue;
            }
            let part: Vec<_> = indexes.iter().map(|index| &commits[*index]).collect();
            for (index, outcome) in indexes.iter().zip(self.commit_by(member, &part).await) {
                outcomes[*index] = Some(outcome);
            }
        }
        let missing = || Err(PortError::new(ErrorKind::Unexpected, COMMIT, "a commit has no outcome"));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(of.len());
        for TopicPartition { topic, partition } in of {
            list.add_partition(topic.as_str(), *partition as i32);
        }
        let timeout = self.config.request_timeout;
        let member = self.of(group).into_iter().next();
        let config = member_config(&self.config, group.as_str());
        let asked = tokio::task::spawn_blocking(move || match member {
            Some(member) => {
                let answer = member.client.committed_offsets(list, timeout);
                // It may be the last to hold the member, whose closing takes its time.
                janitor::later(move || drop(member));
                answer
            }
            None => {
                let client: BaseConsumer = config.create()?;
                let answer = client.committed_offsets(list, timeout);
                janitor::later(move || drop(client));
                answer
            }
        });
        let asked = asked.await.map_err(|_| error::aborted(COMMITTED))?;
        let list = match asked {
            Ok(list) => list,
            Err(e) => return Err(error::of(&e, COMMITTED, "the positions")),
        };
        let metadata = ffi::metadata(&list);
        let mut found = HashMap::new();
        for (element, metadata) in list.elements().into_iter().zip(metadata) {
            let name = format!("{}-{}", element.topic(), element.partition());
            element.error().map_err(|e| error::of(&e, COMMITTED, &name))?;
            if let KafkaOffset::Offset(next) = element.offset()
                && let Ok(next) = u64::try_from(next)
            {
                found.insert(name, Committed { next, metadata: metadata.into() });
            }
        }
        Ok(of.iter().map(|partition| found.get(&partition.to_string()).cloned()).collect())
    }

    async fn delete(&self, group: &GroupId) -> Result<()> {
        const OPERATION: &str = "offset_store.delete";
        let options = AdminOptions::new().request_timeout(Some(self.config.request_timeout));
        let deleted = self.admin.delete_groups(&[group.as_str()], &options).await;
        match deleted.map_err(|e| error::of(&e, OPERATION, "the group"))?.into_iter().next() {
            None | Some(Ok(_) | Err((_, Code::GroupIdNotFound))) => Ok(()),
            Some(Err((_, code))) => Err(error::of_code(code, OPERATION, &format!("group `{group}`"))),
        }
    }
}
