//! Dead letters over gRPC, by a real client.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use api_grpc::proto::{
    AcknowledgeRequest, DiscardDeadLetterRequest, EditDeadLetterRequest, EditedBytes, GetDeadLetterRequest,
    ListDeadLettersRequest, PublishBatchRequest, PullRequest, Reject, SummarizeDeadLettersRequest,
};
use support::{Front, TOPIC, event};
use tonic::Code;
use tonic_types::StatusExt;

/// A subscription that could not handle so many events.
async fn front(count: u64) -> Front {
    let front = Front::start().await;
    front.subscribe("mail").await;
    let batch = PublishBatchRequest { topic: TOPIC.into(), events: (0..count).map(event).collect() };
    front.publisher().publish_batch(batch).await.unwrap();
    let mut left = count as usize;
    while left > 0 {
        let wait = Some(prost_types::Duration { seconds: 20, nanos: 0 });
        let pull = PullRequest { subscription: "mail".into(), max: Some(left as i64), wait };
        let out = front.subscriber().pull(pull).await.unwrap().into_inner().deliveries;
        left -= out.len();
        let reject = out.into_iter().map(|of| Reject { ack_id: of.ack_id, reason: "no".into() }).collect();
        let decide =
            AcknowledgeRequest { subscription: "mail".into(), reject, ..AcknowledgeRequest::default() };
        front.subscriber().acknowledge(decide).await.unwrap();
    }
    front
}

fn all() -> ListDeadLettersRequest {
    ListDeadLettersRequest { subscription: "mail".into(), ..ListDeadLettersRequest::default() }
}

fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_edited_and_discarded() {
    let front = front(4).await;
    let page = ListDeadLettersRequest { limit: Some(3), ..all() };
    let page = front.dead_letters().list_dead_letters(page).await.unwrap().into_inner();
    assert_eq!((page.dead_letters.len(), page.cursor.is_some()), (3, true));
    let letter = page.dead_letters[0].clone();
    assert_eq!((letter.status.as_str(), letter.attempts), ("parked", Some(1)));
    assert_eq!(letter.error.unwrap().kind, "rejected");
    assert_eq!(letter.event.unwrap().topic.as_deref(), Some(TOPIC));
    let named = GetDeadLetterRequest { subscription: "mail".into(), id: letter.id.clone() };
    let edit = EditDeadLetterRequest {
        subscription: "mail".into(),
        id: letter.id.clone(),
        key: Some(EditedBytes { value: None }),
        data_json: Some("{\"a\":1}".into()),
        ..EditDeadLetterRequest::default()
    };
    let edited = front.dead_letters().edit_dead_letter(edit).await.unwrap().into_inner();
    let event = edited.dead_letter.clone().unwrap().event.unwrap();
    assert_eq!((event.key, event.data.as_deref()), (None, Some(&b"{\"a\":1}"[..])));
    assert!(edited.unedited.unwrap().key.is_some());
    let discard = DiscardDeadLetterRequest {
        subscription: "mail".into(),
        id: letter.id.clone(),
        reason: Some("not needed".into()),
    };
    front.dead_letters().discard_dead_letter(discard).await.unwrap();
    let shown = front.dead_letters().get_dead_letter(named).await.unwrap().into_inner();
    let history: Vec<_> =
        shown.history.iter().map(|of| (of.decision.as_str(), of.reason.as_deref())).collect();
    assert_eq!(history, [("edited", None), ("discarded", Some("not needed"))]);
    let summary = SummarizeDeadLettersRequest { subscription: "mail".into(), status: None };
    let summary = front.dead_letters().summarize_dead_letters(summary).await.unwrap().into_inner();
    assert_eq!((summary.kinds["rejected"], summary.statuses["discarded"]), (3, 1));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_wrong_is_said() {
    let front = front(1).await;
    let nowhere = GetDeadLetterRequest { subscription: "mail".into(), id: "nowhere".into() };
    let refused = front.dead_letters().get_dead_letter(nowhere).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "dead_letter_not_found"));
    for (request, field) in [
        (ListDeadLettersRequest { limit: Some(-1), ..all() }, "limit"),
        (ListDeadLettersRequest { status: Some("lost".into()), ..all() }, "status"),
        (ListDeadLettersRequest { filter: Some("data.".into()), ..all() }, "filter"),
        (ListDeadLettersRequest { cursor: Some("x".into()), ..all() }, "cursor"),
    ] {
        let refused = front.dead_letters().list_dead_letters(request).await.unwrap_err();
        let violations = refused.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!((refused.code(), violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
    let page = front.dead_letters().list_dead_letters(all()).await.unwrap().into_inner();
    let bad = EditDeadLetterRequest {
        subscription: "mail".into(),
        id: page.dead_letters[0].id.clone(),
        data_json: Some("{".into()),
        ..EditDeadLetterRequest::default()
    };
    let refused = front.dead_letters().edit_dead_letter(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
