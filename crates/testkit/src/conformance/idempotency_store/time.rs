//! What ends by itself, and when.

use super::{
    COUNTED, EXTEND, LONG, SHORT, acquire, acquired, apply, claim, claim_and_outwait, claim_one, complete,
    done, ends_in, new_key, new_token, outwait, request, settle_one, when_lapsed,
};
use crate::conformance::{Backend, backend::eventually};
use bytes::Bytes;
use ports::{ClaimKey, ClaimRequest, Settled, Settlement};
use std::time::Duration;

fn short(key: ClaimKey) -> ClaimRequest {
    ClaimRequest { lease: SHORT, ..request(key) }
}

pub(super) async fn a_lease_ends_by_itself(backend: Backend) {
    let key = new_key();
    acquire(&backend, short(key), 1, "").await;
    assert_eq!(when_lapsed(&backend, &request(key)).await, acquired(2, ""));
    assert!(ends_in(&backend, key).await > LONG / 2);
}

pub(super) async fn an_extension_moves_the_end(backend: Backend) {
    let first = short(new_key());
    claim(&backend, vec![first.clone()]).await;
    // It holds though the lease may have ended meanwhile.
    apply(&backend, first.key, first.token, &Settlement::Extend { lease: 10 * LONG }).await;
    outwait(&backend, SHORT).await;
    let left = ends_in(&backend, first.key).await;
    assert!(left > 9 * LONG && left <= 10 * LONG, "{left:?}");
    apply(&backend, first.key, first.token, &Settlement::Extend { lease: 20 * LONG }).await;
    let left = ends_in(&backend, first.key).await;
    assert!(left > 19 * LONG && left <= 20 * LONG, "counted from now, not from the end: {left:?}");
}

pub(super) async fn an_extension_may_bring_the_end_forward(backend: Backend) {
    let key = new_key();
    let token = acquire(&backend, request(key), 1, "").await;
    apply(&backend, key, token, &Settlement::Extend { lease: SHORT }).await;
    assert_eq!(when_lapsed(&backend, &request(key)).await, acquired(2, ""));
}

pub(super) async fn an_extension_after_the_end_takes_the_lease_up_again(backend: Backend) {
    let first = short(new_key());
    claim_and_outwait(&backend, vec![first.clone()], SHORT).await;
    apply(&backend, first.key, first.token, &EXTEND).await;
    assert!(ends_in(&backend, first.key).await > LONG / 2);
    apply(&backend, first.key, first.token, &COUNTED).await;
    acquire(&backend, request(first.key), 2, "").await;
}

pub(super) async fn an_outcome_is_forgotten_when_its_time_is_over(backend: Backend) {
    let key = new_key();
    let note = Bytes::from_static(b"note");
    let token = acquire(&backend, ClaimRequest { note, ..request(key) }, 1, "").await;
    let outcome = Bytes::from_static(b"outcome");
    apply(&backend, key, token, &Settlement::Complete { outcome, keep: SHORT }).await;
    let next = request(key);
    let claim = eventually("the outcome's time", || async {
        let claim = claim_one(&backend, &next).await;
        (claim != done("outcome")).then_some(claim)
    })
    .await;
    assert_eq!(claim, acquired(1, ""), "nothing is left of it");
    // What was known of it then is not known any more.
    assert_eq!(settle_one(&backend, key, token, &complete("again")).await, Settled::Fenced);
    apply(&backend, key, next.token, &complete("next")).await;
    assert_eq!(claim_one(&backend, &request(key)).await, done("next"));
}

pub(super) async fn attempts_are_forgotten_some_time_after_the_lease(backend: Backend) {
    let note = Bytes::from_static(b"note");
    let forgotten = ClaimRequest { keep: SHORT, note: note.clone(), ..short(new_key()) };
    let unknown = ClaimRequest { key: new_key(), ..forgotten.clone() };
    let kept = ClaimRequest { note, ..short(new_key()) };
    let requests = vec![forgotten.clone(), unknown.clone(), kept.clone()];
    claim_and_outwait(&backend, requests, 2 * SHORT).await;
    acquire(&backend, request(forgotten.key), 1, "").await;
    acquire(&backend, request(kept.key), 2, "note").await;
    // What is not known can be completed, by whoever says so.
    assert_eq!(settle_one(&backend, unknown.key, unknown.token, &EXTEND).await, Settled::Fenced);
    apply(&backend, unknown.key, new_token(), &complete("late")).await;
    assert_eq!(claim_one(&backend, &request(unknown.key)).await, done("late"));
}

pub(super) async fn attempts_are_forgotten_some_time_after_the_release(backend: Backend) {
    let forgotten = ClaimRequest { keep: SHORT, ..request(new_key()) };
    let kept = request(new_key());
    claim(&backend, vec![forgotten.clone(), kept.clone()]).await;
    for released in [&forgotten, &kept] {
        apply(&backend, released.key, released.token, &COUNTED).await;
    }
    outwait(&backend, SHORT).await;
    acquire(&backend, request(forgotten.key), 1, "").await;
    acquire(&backend, request(kept.key), 2, "").await;
}

pub(super) async fn long_times_are_kept(backend: Backend) {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let (held, finished) = (new_key(), new_key());
    let lasting = |key| ClaimRequest { lease: YEAR, keep: YEAR, ..request(key) };
    acquire(&backend, lasting(held), 1, "").await;
    let left = ends_in(&backend, held).await;
    assert!(left + LONG > YEAR && left <= YEAR, "{left:?}");
    let token = acquire(&backend, lasting(finished), 1, "").await;
    let outcome = Bytes::from_static(b"outcome");
    apply(&backend, finished, token, &Settlement::Complete { outcome, keep: YEAR }).await;
    assert_eq!(claim_one(&backend, &request(finished)).await, done("outcome"));
}
