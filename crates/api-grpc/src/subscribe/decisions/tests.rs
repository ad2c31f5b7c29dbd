//! Requests go in, one call comes out, and its answer is parted again.

use super::*;
use proptest::prelude::*;

const MAX: usize = 20;

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn retry(ack_id: &str) -> Retry {
    Retry { ack_id: ack_id.into(), after: Some(seconds(5)), reason: "why".into() }
}

fn reject(ack_id: &str) -> Reject {
    Reject { ack_id: ack_id.into(), reason: String::new() }
}

fn extend(ack_id: &str, by: i64) -> Extend {
    Extend { ack_id: ack_id.into(), by: Some(seconds(by)) }
}

fn acks(request_id: u64, ids: &[&str]) -> SubscribeDecisions {
    let ack = ids.iter().map(|id| (*id).to_owned()).collect();
    SubscribeDecisions { request_id, ack, ..SubscribeDecisions::default() }
}

/// The status that stands for an id in these tests.
fn status_of(id: &str) -> Status {
    [Status::Ok, Status::Expired, Status::Superseded, Status::Unknown, Status::Unavailable][id.len() % LISTS]
}

fn answer(request: &AckRequest) -> Vec<(String, Status)> {
    named(request).map(|(id, _)| (id.to_owned(), status_of(id))).collect()
}

#[test]
fn what_arrives_together_is_one_call_that_says_everything() {
    let mut group = Group::default();
    assert_eq!(group.take(acks(1, &["a", "b"]), MAX), None);
    let rest = SubscribeDecisions {
        request_id: 2,
        retry: vec![retry("c")],
        reject: vec![reject("d")],
        extend: vec![extend("e", 9)],
        release: vec!["f".into()],
        ack: vec!["g".into()],
    };
    assert_eq!(group.take(rest, MAX), None);
    assert!(group.is_slow());
    let (request, call) = group.into_call();
    let expected = AckRequest {
        ack: vec!["a".into(), "b".into(), "g".into()],
        retry: vec![RetryItem {
            ack_id: "c".into(),
            after: Some(Duration::from_secs(5)),
            reason: Some("why".into()),
        }],
        reject: vec![RejectItem { ack_id: "d".into(), reason: None }],
        extend: vec![("e".into(), Duration::from_secs(9))],
        release: vec!["f".into()],
    };
    assert_eq!(request, expected);
    let mut told = Vec::new();
    let results = call.answered(Ok(answer(&request)), |id, _, by| told.push((id.to_owned(), by)));
    assert_eq!(
        results.iter().map(|r| (r.request_id, r.statuses.len())).collect::<Vec<_>>(),
        [(1, 2), (2, 5)]
    );
    assert_eq!(
        told.iter().filter(|(_, by)| by.is_some()).collect::<Vec<_>>(),
        [&("e".to_owned(), Some(Duration::from_secs(9)))]
    );
}

#[test]
fn a_malformed_request_fails_alone_and_names_its_field() {
    let long = || "x".repeat(REASON_BYTES_MAX + 1);
    let of = |change: fn(&mut SubscribeDecisions)| {
        let mut said = SubscribeDecisions { request_id: 7, ..SubscribeDecisions::default() };
        change(&mut said);
        said
    };
    let mut too_long = of(|said| said.retry = vec![retry("a"), retry("b")]);
    too_long.retry[1].reason = long();
    let mut rejected_too_long = of(|said| said.reject = vec![reject("a")]);
    rejected_too_long.reject[0].reason = long();
    let bad = [
        (of(|said| said.ack = vec![String::new(); MAX + 1]), "decisions"),
        (too_long, "decisions.retry[1].reason"),
        (rejected_too_long, "decisions.reject[0].reason"),
        (
            of(|said| said.retry = vec![Retry { after: Some(seconds(-1)), ..retry("a") }]),
            "decisions.retry[0].after",
        ),
        (
            of(|said| said.retry = vec![Retry { after: Some(seconds(i64::MAX)), ..retry("a") }]),
            "decisions.retry[0].after",
        ),
        (of(|said| said.extend = vec![extend("a", 1), extend("b", 0)]), "decisions.extend[1].by"),
        (of(|said| said.extend = vec![extend("a", 12 * 3600 + 1)]), "decisions.extend[0].by"),
        (of(|said| said.extend = vec![Extend { by: None, ..extend("a", 1) }]), "decisions.extend[0].by"),
    ];
    for (said, field) in bad {
        let mut group = Group::default();
        assert_eq!(group.take(acks(1, &["a"]), MAX), None);
        if let Some(said) = group.take(said, MAX) {
            // What is too much for the rest of a group is looked at in the next.
            group = Group::default();
            assert_eq!(group.take(said, MAX), None);
        }
        let (request, call) = group.into_call();
        let results = call.answered(Ok(answer(&request)), |_, _, _| ());
        let (failed, others) = results.split_last().unwrap();
        let error = failed.error.as_ref().unwrap();
        assert_eq!((error.code.as_str(), error.errors[0].field.as_str()), ("invalid_request", field));
        assert!(failed.statuses.is_empty());
        assert!(others.iter().all(|result| result.error.is_none()), "{others:?}");
    }
}

#[test]
fn a_call_that_fails_fails_each_of_its_requests() {
    let mut group = Group::default();
    assert_eq!(group.take(acks(1, &["a"]), MAX), None);
    assert_eq!(group.take(acks(2, &[]), MAX), None);
    let (_, call) = group.into_call();
    let failed = call.answered(Err(Error::new(ErrorCode::Unavailable, "gone")), |_, _, _| unreachable!());
    assert_eq!(failed.iter().map(|result| result.request_id).collect::<Vec<_>>(), [1, 2]);
    assert!(failed.iter().all(|result| result.error.as_ref().unwrap().code == "unavailable"));
}

#[test]
fn a_delivery_that_is_named_again_otherwise_waits_for_the_next_group() {
    let mut group = Group::default();
    let extended = SubscribeDecisions { extend: vec![extend("a", 1)], ..acks(1, &[]) };
    assert_eq!(group.take(extended.clone(), MAX), None);
    assert_eq!(group.take(extended, MAX), None);
    assert_eq!(group.take(acks(2, &["b"]), MAX), None);
    assert_eq!(group.take(acks(3, &["c", "a"]), MAX), Some(acks(3, &["c", "a"])));
    // Said alike twice, it may stand twice.
    assert_eq!(group.take(acks(4, &["b"]), MAX), None);
}

#[test]
fn a_group_is_bounded_and_takes_at_least_one() {
    let mut group = Group::default();
    let wide = "x".repeat(GROUP_BYTES_MAX);
    assert_eq!(group.take(acks(1, &[&wide]), MAX), None);
    assert!(!group.has_room(MAX));
    assert!(group.take(acks(2, &["a"]), MAX).is_some());
    let mut group = Group::default();
    assert_eq!(group.take(acks(1, &["a"; MAX - 1]), MAX), None);
    assert!(group.has_room(MAX));
    assert!(group.take(acks(2, &["a", "b"]), MAX).is_some());
    assert_eq!(group.take(acks(3, &["a"]), MAX), None);
    assert!(!group.has_room(MAX));
}

fn request() -> impl Strategy<Value = SubscribeDecisions> {
    let id = || "[a-z]{1,7}";
    let ids = || prop::collection::vec(id(), 0..3);
    (any::<u64>(), ids(), ids(), ids(), ids(), ids()).prop_map(
        |(request_id, ack, retried, rejected, extended, release)| SubscribeDecisions {
            request_id,
            ack,
            retry: retried.iter().map(|id| retry(id)).collect(),
            reject: rejected.iter().map(|id| reject(id)).collect(),
            extend: extended.iter().map(|id| extend(id, 3)).collect(),
            release,
        },
    )
}

proptest! {
    #[test]
    fn each_request_is_answered_as_if_it_were_alone(requests in prop::collection::vec(request(), 1..12)) {
        let mut results = Vec::new();
        let mut group = Group::default();
        let mut told = 0;
        let mut apply = |group: Group, results: &mut Vec<SubscribeResult>| {
            let (request, call) = group.into_call();
            results.extend(call.answered(Ok(answer(&request)), |id, status, _| {
                assert_eq!(status, status_of(id));
                told += 1;
            }));
        };
        for said in requests.clone() {
            if let Some(said) = group.take(said, MAX) {
                apply(std::mem::take(&mut group), &mut results);
                prop_assert_eq!(group.take(said, MAX), None);
            }
        }
        apply(group, &mut results);
        let expected: Vec<_> = requests
            .iter()
            .map(|said| SubscribeResult {
                request_id: said.request_id,
                statuses: said_of(said).map(|(id, _)| wire(status_of(id)) as i32).collect(),
                error: None,
            })
            .collect();
        prop_assert_eq!(told, expected.iter().map(|result| result.statuses.len()).sum::<usize>());
        prop_assert_eq!(results, expected);
    }
}
