//! Replays over gRPC, by a real client.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use api_grpc::proto::{
    CreateReplayRequest, CreateTopicRequest, GetReplayRequest, ListReplaysRequest, PublishBatchRequest,
    ReplayBound, ReplayOffsets, replay_bound::Bound,
};
use support::{Front, TOPIC, event};
use tonic::Code;
use tonic_types::StatusExt;

async fn front() -> Front {
    let front = Front::start().await;
    let again =
        CreateTopicRequest { name: "again".into(), partitions: Some(2), ..CreateTopicRequest::default() };
    front.topics().create_topic(again).await.unwrap();
    let batch = PublishBatchRequest { topic: TOPIC.into(), events: (0..50).map(event).collect() };
    assert_eq!(front.publisher().publish_batch(batch).await.unwrap().into_inner().failed, 0);
    front
}

fn new() -> CreateReplayRequest {
    CreateReplayRequest {
        topic: TOPIC.into(),
        target_topic: "again".into(),
        ..CreateReplayRequest::default()
    }
}

#[tokio::test]
async fn a_replay_is_watched_to_its_end() {
    let front = front().await;
    let trial = front.replays().try_replay(new()).await.unwrap().into_inner();
    assert_eq!((trial.complete, trial.matched, trial.sample.len()), (true, 50, 10));
    let replay = front.replays().create_replay(new()).await.unwrap().into_inner();
    let named = GetReplayRequest { id: replay.id.clone() };
    let mut looks = front.replays().watch_replay(named.clone()).await.unwrap().into_inner();
    let mut last = None;
    while let Some(look) = looks.message().await.unwrap() {
        last = Some(look);
    }
    let last = last.unwrap();
    assert_eq!((last.state.as_str(), last.written, last.total), ("completed", 50, 50));
    assert_eq!(front.replays().get_replay(named.clone()).await.unwrap().into_inner(), last);
    let list = front.replays().list_replays(ListReplaysRequest {}).await.unwrap().into_inner();
    assert_eq!(list.replays, [last]);
    let refused = front.replays().resume_replay(named).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.get_error_details().error_info().unwrap().reason.as_str()),
        (Code::Aborted, "conflict")
    );
}

#[tokio::test]
async fn bad_input_names_its_field() {
    let front = front().await;
    let from = |bound| Some(ReplayBound { bound });
    let beyond = Bound::Offsets(ReplayOffsets { offsets: [(0, 10_000)].into() });
    for (request, field) in [
        (CreateReplayRequest { target_topic: String::new(), ..new() }, "target"),
        (CreateReplayRequest { from: from(None), ..new() }, "from"),
        (CreateReplayRequest { from: from(Some(beyond)), ..new() }, "from.offsets.0"),
        (CreateReplayRequest { to: from(Some(Bound::Last(1))), ..new() }, "to.last"),
        (CreateReplayRequest { filter: Some("type ==".into()), ..new() }, "filter"),
    ] {
        let refused = front.replays().create_replay(request).await.unwrap_err();
        let violations = refused.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!((refused.code(), violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
    let nowhere = GetReplayRequest { id: "nowhere".into() };
    let refused = front.replays().get_replay(nowhere).await.unwrap_err();
    let reason = refused.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!((refused.code(), reason.as_str()), (Code::NotFound, "replay_not_found"));
}
