//! `Groups`: what operators do with consumer groups.

use crate::{
    Services, convert,
    error::status,
    proto::{
        Cause, DeleteGroupOffsetsRequest, DeleteGroupOffsetsResponse, DeleteGroupRequest, GetGroupLagRequest,
        GetGroupRequest, Group, GroupAssignment, GroupLag, GroupMember, GroupPosition, GroupSummary,
        ListGroupsRequest, ListGroupsResponse, MovedOffset, ResetGroupOffsetsRequest,
        ResetGroupOffsetsResponse, TopicOffset, groups_server, reset_group_offsets_request::To,
    },
};
use domain::{
    Error, Result,
    groups::{self, GroupListing, GroupReset, GroupView, LagView, PartitionLag, Position, ResetTo},
    lag::Verdict,
};
use ports::{GroupState, GroupType, PartitionId, TopicName};
use std::collections::BTreeMap;
use tonic::{Request, Response, Status};

#[derive(Clone, Debug)]
pub(crate) struct Groups(pub(crate) Services);

#[tonic::async_trait]
impl groups_server::Groups for Groups {
    async fn list_groups(
        &self,
        _request: Request<ListGroupsRequest>,
    ) -> Result<Response<ListGroupsResponse>, Status> {
        let groups = self.0.groups.list().await.map_err(|e| status(&e))?;
        let shown = |GroupListing { summary, is_subscription }: GroupListing| {
            in_short(summary.name.as_str(), summary.state, summary.group_type, is_subscription)
        };
        Ok(Response::new(ListGroupsResponse { groups: groups.into_iter().map(shown).collect() }))
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Result<Response<Group>, Status> {
        let view = self.0.groups.get(&request.into_inner().group).await.map_err(|e| status(&e))?;
        Ok(Response::new(in_full(view)))
    }

    async fn get_group_lag(
        &self,
        request: Request<GetGroupLagRequest>,
    ) -> Result<Response<GroupLag>, Status> {
        let view = self.0.groups.lag(&request.into_inner().group).await.map_err(|e| status(&e))?;
        Ok(Response::new(lag(view)))
    }

    async fn reset_group_offsets(
        &self,
        request: Request<ResetGroupOffsetsRequest>,
    ) -> Result<Response<ResetGroupOffsetsResponse>, Status> {
        let ResetGroupOffsetsRequest { group, topic, partitions, to, dry_run } = request.into_inner();
        let reset = GroupReset {
            topic: Some(topic).filter(|topic| !topic.is_empty()),
            partitions: Some(partitions).filter(|partitions| !partitions.is_empty()),
            to: target(to).map_err(|e| status(&e))?,
            dry_run,
        };
        let outcome = self.0.groups.reset(&group, reset).await.map_err(|e| status(&e))?;
        let moved = |moved: groups::Moved| MovedOffset {
            topic: moved.at.topic.to_string(),
            partition: moved.at.partition,
            before: moved.before.map(|offset| offset as i64),
            after: moved.after as i64,
            clamped_from: moved.clamped_from,
        };
        let moved = outcome.moved.into_iter().map(moved).collect();
        Ok(Response::new(ResetGroupOffsetsResponse { dry_run: outcome.dry_run, moved }))
    }

    async fn delete_group_offsets(
        &self,
        request: Request<DeleteGroupOffsetsRequest>,
    ) -> Result<Response<DeleteGroupOffsetsResponse>, Status> {
        let DeleteGroupOffsetsRequest { group, topic, partitions } = request.into_inner();
        let partitions = Some(partitions.as_slice()).filter(|partitions| !partitions.is_empty());
        let were = self.0.groups.delete_offsets(&group, &topic, partitions).await.map_err(|e| status(&e))?;
        let shown = |(at, offset): (ports::TopicPartition, ports::Offset)| TopicOffset {
            topic: at.topic.to_string(),
            partition: i64::from(at.partition),
            offset: offset as i64,
        };
        Ok(Response::new(DeleteGroupOffsetsResponse { deleted: were.into_iter().map(shown).collect() }))
    }

    async fn delete_group(&self, request: Request<DeleteGroupRequest>) -> Result<Response<()>, Status> {
        self.0.groups.delete(&request.into_inner().group).await.map_err(|e| status(&e))?;
        Ok(Response::new(()))
    }
}

fn target(to: Option<To>) -> Result<ResetTo> {
    Ok(match to {
        None => {
            let message = "must be one of `earliest`, `latest`, `timestamp`, `offset`, `shift_by`, `offsets`";
            return Err(Error::invalid("to", message));
        }
        Some(To::Earliest(())) => ResetTo::Earliest,
        Some(To::Latest(())) => ResetTo::Latest,
        Some(To::Timestamp(time)) => ResetTo::Timestamp(convert::timestamp("to.timestamp", time)?),
        Some(To::Offset(offset)) => ResetTo::Offset(offset),
        Some(To::ShiftBy(by)) => ResetTo::ShiftBy(by),
        Some(To::Offsets(offsets)) => {
            let of = |TopicOffset { topic, partition, offset }: TopicOffset| groups::TopicOffset {
                topic,
                partition,
                offset,
            };
            ResetTo::Offsets(offsets.offsets.into_iter().map(of).collect())
        }
    })
}

fn in_short(group: &str, state: GroupState, group_type: GroupType, subscription: bool) -> GroupSummary {
    let state = match state {
        GroupState::Stable => "Stable",
        GroupState::PreparingRebalance => "PreparingRebalance",
        GroupState::CompletingRebalance => "CompletingRebalance",
        GroupState::Empty => "Empty",
        GroupState::Dead => "Dead",
        GroupState::Unknown => "Unknown",
    };
    let group_type = match group_type {
        GroupType::Classic => "Classic",
        GroupType::Consumer => "Consumer",
        GroupType::Simple => "Simple",
        GroupType::Unknown => "Unknown",
    };
    GroupSummary {
        group: group.to_owned(),
        state: state.to_owned(),
        r#type: group_type.to_owned(),
        subscription,
    }
}

fn in_full(view: GroupView) -> Group {
    let total_lag = view.total_lag();
    let GroupView { info, is_subscription, positions } = view;
    Group {
        summary: Some(in_short(info.name.as_str(), info.state, info.group_type, is_subscription)),
        members: info.members.into_iter().map(member).collect(),
        offsets: positions.iter().map(|it| position(it, None)).collect(),
        total_lag,
    }
}

fn member(member: ports::GroupMember) -> GroupMember {
    let mut by_topic: BTreeMap<TopicName, Vec<PartitionId>> = BTreeMap::new();
    for at in member.assignment {
        by_topic.entry(at.topic).or_default().push(at.partition);
    }
    let assignment =
        |(topic, partitions): (TopicName, _)| GroupAssignment { topic: topic.to_string(), partitions };
    GroupMember {
        id: member.id,
        client_id: member.client_id,
        host: member.host,
        assignments: by_topic.into_iter().map(assignment).collect(),
    }
}

fn position(position: &Position, verdict: Option<Verdict>) -> GroupPosition {
    GroupPosition {
        topic: position.at.topic.to_string(),
        partition: position.at.partition,
        committed: position.committed.map(|offset| offset as i64),
        end: position.end.map(|offset| offset as i64),
        lag: position.lag(),
        lag_time: position.lag_time.map(convert::to_duration),
        verdict: verdict.map(|verdict| verdict.as_str().to_owned()),
    }
}

fn lag(view: LagView) -> GroupLag {
    let cause = |cause: domain::subscriptions::Cause| Cause {
        code: cause.code.to_owned(),
        since: Some(convert::time(cause.since)),
        detail: cause.detail,
    };
    let partition = |PartitionLag { position: at, verdict }: &PartitionLag| position(at, *verdict);
    GroupLag {
        group: view.group.to_string(),
        total_lag: view.total_lag,
        lag_time: view.lag_time.map(convert::to_duration),
        verdict: view.verdict.map(|verdict| verdict.as_str().to_owned()),
        cause: view.cause.map(cause),
        samples: view.samples as u32,
        partitions: view.partitions.iter().map(partition).collect(),
    }
}
