//! Consumer groups over gRPC, by a real client.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use api_grpc::proto::{
    self, DeleteGroupOffsetsRequest, DeleteGroupRequest, GetGroupLagRequest, GetGroupRequest,
    ListGroupsRequest, PublishBatchRequest, ResetGroupOffsetsRequest, TopicOffsets,
    groups_client::GroupsClient, reset_group_offsets_request::To,
};
use ports::{GroupName, TopicName, TopicPartition};
use support::{Front, TOPIC, event};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

/// Ten events in partition 0, of which a group has read four.
async fn front() -> (Front, GroupsClient<Channel>) {
    let front = Front::start().await;
    let events = (0..10).map(|n| proto::Event { partition: Some(0), ..event(n) }).collect();
    front.publisher().publish_batch(PublishBatchRequest { topic: TOPIC.into(), events }).await.unwrap();
    let at = TopicPartition::new(TopicName::new(TOPIC).unwrap(), 0);
    let name = GroupName::new("billing").unwrap();
    front.backing.set_offsets(&name, &[(at, 4)]).await.remove(0).unwrap();
    let client = GroupsClient::new(front.channel.clone());
    (front, client)
}

fn refused(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let reason = details.error_info().unwrap().reason.clone();
    let field = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
    (status.code(), reason, field.unwrap_or_default())
}

#[tokio::test]
async fn groups_are_listed_shown_reset_and_deleted() {
    let (front, mut groups) = front().await;
    front.subscribe("mail").await;
    let listed = groups.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups;
    let names: Vec<_> = listed.iter().map(|group| (group.group.as_str(), group.subscription)).collect();
    assert_eq!(names, [("billing", false), ("mail", true)]);
    let shown = groups.get_group(GetGroupRequest { group: "billing".into() }).await.unwrap().into_inner();
    let position = &shown.offsets[0];
    assert_eq!(
        (shown.total_lag, position.committed, position.end, position.lag),
        (6, Some(4), Some(10), Some(6))
    );
    assert!(position.lag_time.is_some() && position.verdict.is_none());
    let lag = GetGroupLagRequest { group: "mail".into() };
    let lag = groups.get_group_lag(lag).await.unwrap().into_inner();
    assert_eq!((lag.partitions.len(), lag.verdict, lag.samples), (3, None, 0));

    let mut reset = async |to: To, partitions: &[i64]| {
        let request = ResetGroupOffsetsRequest {
            group: "billing".into(),
            topic: if matches!(to, To::Offsets(_)) { String::new() } else { TOPIC.into() },
            partitions: partitions.to_vec(),
            to: Some(to),
            dry_run: false,
        };
        let moved = groups.reset_group_offsets(request).await.unwrap().into_inner().moved;
        moved.iter().map(|it| (it.partition, it.before, it.after, it.clamped_from)).collect::<Vec<_>>()
    };
    assert_eq!(reset(To::Earliest(()), &[0]).await, [(0, Some(4), 0, None)]);
    assert_eq!(reset(To::Latest(()), &[0]).await, [(0, Some(0), 10, None)]);
    assert_eq!(reset(To::ShiftBy(-3), &[]).await, [(0, Some(10), 7, None)]);
    assert_eq!(reset(To::Offset(99), &[0]).await, [(0, Some(7), 10, Some(99))]);
    let time = prost_types::Timestamp { seconds: 1, nanos: 0 };
    assert_eq!(reset(To::Timestamp(time), &[0]).await, [(0, Some(10), 0, None)]);
    let own = proto::TopicOffset { topic: TOPIC.into(), partition: 0, offset: 5 };
    assert_eq!(
        reset(To::Offsets(TopicOffsets { offsets: vec![own.clone()] }), &[]).await,
        [(0, Some(0), 5, None)]
    );

    let forget =
        DeleteGroupOffsetsRequest { group: "billing".into(), topic: TOPIC.into(), partitions: vec![0] };
    assert_eq!(groups.delete_group_offsets(forget).await.unwrap().into_inner().deleted, [own]);
    let gone = groups.delete_group(DeleteGroupRequest { group: "billing".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "it had but one position");
}

#[tokio::test]
async fn what_cannot_be_done_has_its_code_and_its_field() {
    let (front, mut groups) = front().await;
    front.subscribe("mail").await;
    let is = |code, reason: &str, field: &str| (code, reason.to_owned(), field.to_owned());
    let request = |group: &str, to| ResetGroupOffsetsRequest {
        group: group.into(),
        topic: TOPIC.into(),
        to,
        ..ResetGroupOffsetsRequest::default()
    };
    let latest = || Some(To::Latest(()));
    let error = groups.reset_group_offsets(request("billing", None)).await.unwrap_err();
    assert_eq!(refused(&error), is(Code::InvalidArgument, "invalid_request", "to"));
    let error = groups.reset_group_offsets(request("nobody", latest())).await.unwrap_err();
    assert_eq!(refused(&error), is(Code::NotFound, "group_not_found", ""));
    let error = groups.reset_group_offsets(request("mail", latest())).await.unwrap_err();
    assert_eq!(refused(&error), is(Code::Unimplemented, "not_supported", ""));
    let error = groups.delete_group(DeleteGroupRequest { group: "mail".into() }).await.unwrap_err();
    assert_eq!(refused(&error), is(Code::Aborted, "conflict", ""));
}
