//! Consumer groups, those of other programs too: who reads, how far, moved and deleted.
//!
//! Invariants:
//! 1. A group that has members is not moved: whoever asks is told who holds it. The log refuses it also
//!    where a member joined after the look.
//! 2. A group that belongs to a subscription is never changed behind its back: what its engine holds in
//!    memory would overwrite the change, or skip events.
//! 3. A reset puts no position outside of what its partition holds; where that is not where it was asked
//!    to be, it says so.
//! 4. A dry run answers what the same request would do now, and changes nothing.

mod lag;
mod reset;
mod view;

pub use lag::{LagView, PartitionLag};
pub use reset::{GroupReset, Moved, ResetOutcome, ResetTo, TopicOffset};
pub use view::{GroupListing, GroupView, Position};

use crate::{
    error::{Error, ErrorCode, Result},
    lag::LagMonitor,
    subscriptions::Subscriptions,
    topics::{Topics, topic_name},
};
use ports::{
    Clock, ErrorKind, EventLog, GroupAdmin, GroupInfo, GroupName, GroupOffsets, GroupState, Offset,
    PartitionId, PortError, TopicPartition,
};
use std::sync::Arc;

/// So many members are named by an error at most.
const NAMED_MAX: usize = 5;

/// The consumer groups of one log.
#[derive(Debug)]
pub struct Groups {
    admin: Arc<dyn GroupAdmin>,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    topics: Arc<Topics>,
    subscriptions: Arc<Subscriptions>,
    monitor: Option<Arc<LagMonitor>>,
}

impl Groups {
    /// The groups that `admin` sees. Verdicts on their lag are `monitor`'s, where there is one.
    pub fn new(
        admin: Arc<dyn GroupAdmin>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        topics: Arc<Topics>,
        subscriptions: Arc<Subscriptions>,
        monitor: Option<Arc<LagMonitor>>,
    ) -> Self {
        Self { admin, log, clock, topics, subscriptions, monitor }
    }

    /// Deletes a group with all its positions.
    ///
    /// # Errors
    /// `group_not_found`, `group_active` while it has members, `conflict` for the group of a subscription.
    pub async fn delete(&self, group: &str) -> Result<()> {
        let name = group_name(group)?;
        let info = self.info(&name).await?;
        self.not_ours(&name)?;
        if is_active(&info) {
            return Err(active(&info));
        }
        self.admin.delete(&name).await.map_err(|error| refused(&name, &error))?;
        Ok(())
    }

    /// Forgets a group's positions in some partitions of a topic, or in all of them, and answers what they
    /// were: a reset to just these puts them back. A partition that has none is passed over.
    ///
    /// # Errors
    /// `group_not_found`, `invalid_request` by field, `group_active` where a member reads the topic,
    /// `conflict` for the group of a subscription. Where a part of it fails, another part may be done.
    pub async fn delete_offsets(
        &self,
        group: &str,
        topic: &str,
        partitions: Option<&[i64]>,
    ) -> Result<Vec<(TopicPartition, Offset)>> {
        let name = group_name(group)?;
        let topic = topic_name("topic", topic)?;
        let named = partitions.map(numbers).transpose()?;
        self.info(&name).await?;
        self.not_ours(&name)?;
        let committed = self.committed(&name).await?;
        let is_meant = |at: &TopicPartition| {
            at.topic == topic && named.as_ref().is_none_or(|named| named.contains(&at.partition))
        };
        let were: Vec<_> =
            committed.into_iter().filter(|(at, _)| is_meant(at)).map(|(at, it)| (at, it.next)).collect();
        if were.is_empty() {
            return Ok(were);
        }
        let of: Vec<_> = were.iter().map(|(at, _)| at.clone()).collect();
        let outcomes = self.admin.delete_offsets(&name, &of).await;
        self.all_done(&name, &of, outcomes).await?;
        Ok(were)
    }

    async fn info(&self, name: &GroupName) -> Result<GroupInfo> {
        self.admin.describe(name).await?.ok_or_else(|| not_found(name))
    }

    async fn committed(&self, name: &GroupName) -> Result<GroupOffsets> {
        let missing = || PortError::new(ErrorKind::Unexpected, "group_admin.offsets", "nothing was answered");
        let mut answers = self.admin.offsets(std::slice::from_ref(name)).await;
        Ok(answers.pop().unwrap_or_else(|| Err(missing()))?)
    }

    fn is_ours(&self, name: &GroupName) -> bool {
        self.subscriptions.contains(name.as_str())
    }

    fn not_ours(&self, name: &GroupName) -> Result<()> {
        if !self.is_ours(name) {
            return Ok(());
        }
        let detail = format!("group `{name}` belongs to the subscription of that name; delete that instead");
        Err(Error::new(ErrorCode::Conflict, detail))
    }

    /// Whether all positions were changed; otherwise what the first failure was, and of which.
    async fn all_done(
        &self,
        name: &GroupName,
        of: &[TopicPartition],
        outcomes: Vec<ports::Result<()>>,
    ) -> Result<()> {
        let failed: Vec<_> =
            of.iter().zip(outcomes).filter_map(|(at, outcome)| Some((at, outcome.err()?))).collect();
        let Some((at, first)) = failed.first() else { return Ok(()) };
        if first.kind() == ErrorKind::Conflict {
            // It was joined since it was looked at.
            return Err(match self.admin.describe(name).await {
                Ok(Some(info)) if !info.members.is_empty() => active(&info),
                _ => refused(name, first),
            });
        }
        let (done, all) = (of.len() - failed.len(), of.len());
        let mapped = Error::from(first);
        let detail = format!("{at}: {} ({done} of {all} positions were changed)", first.detail());
        let error = Error::new(mapped.code(), detail);
        Err(match mapped.effect() {
            Some(_) if done > 0 => error.with_effect(ports::Effect::Unknown),
            Some(effect) => error.with_effect(effect),
            None => error,
        })
    }
}

/// Reads the name of a group.
fn group_name(name: &str) -> Result<GroupName> {
    GroupName::new(name).map_err(|error| Error::invalid("group", error.to_string()))
}

/// Reads numbers of partitions, each given once.
fn numbers(partitions: &[i64]) -> Result<Vec<PartitionId>> {
    let mut found = Vec::with_capacity(partitions.len());
    let mut seen = std::collections::HashSet::with_capacity(partitions.len());
    for (index, given) in partitions.iter().enumerate() {
        let field = || format!("partitions[{index}]");
        let number = PartitionId::try_from(*given).ok().filter(|number| i32::try_from(*number).is_ok());
        let number = number.ok_or_else(|| {
            Error::invalid(field(), format!("must be the number of a partition, from 0 (given: {given})"))
        })?;
        if !seen.insert(number) {
            return Err(Error::invalid(field(), "is given twice"));
        }
        found.push(number);
    }
    Ok(found)
}

fn not_found(name: &GroupName) -> Error {
    Error::new(ErrorCode::GroupNotFound, format!("there is no consumer group `{name}`"))
}

/// A change that failed, in the words of who asked for it.
fn refused(name: &GroupName, error: &PortError) -> Error {
    match error.kind() {
        ErrorKind::NotFound => not_found(name),
        ErrorKind::Conflict => Error::new(
            ErrorCode::GroupActive,
            format!("group `{name}` has members; stop them, and ask again"),
        ),
        _ => error.into(),
    }
}

fn is_active(info: &GroupInfo) -> bool {
    !info.members.is_empty() || !matches!(info.state, GroupState::Empty | GroupState::Dead)
}

/// Says who holds a group.
fn active(info: &GroupInfo) -> Error {
    let named = info.members.iter().take(NAMED_MAX);
    let mut who: Vec<_> =
        named.map(|m| format!("`{}` at {} (member `{}`)", m.client_id, m.host, m.id)).collect();
    if info.members.len() > NAMED_MAX {
        who.push(format!("{} more", info.members.len() - NAMED_MAX));
    }
    let who = if who.is_empty() { "members that come or go".to_owned() } else { who.join(", ") };
    let detail = format!("group `{}` is held by {who}; stop them, and ask again", info.name);
    Error::new(ErrorCode::GroupActive, detail)
}
