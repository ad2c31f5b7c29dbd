//! What becomes of a lease.

use super::{
    COUNTED, EXTEND, LONG, SHORT, UNCOUNTED, acquire, acquired, apply, claim, claim_and_outwait, claim_one,
    complete, done, ends_in, new_key, new_token, on, request, settle, settle_one,
};
use crate::conformance::Backend;
use bytes::Bytes;
use ports::{Claim, ClaimRequest, Ground, Settled, Settlement};

pub(super) async fn a_completion_is_what_others_find(backend: Backend) {
    let key = new_key();
    let token = acquire(&backend, request(key), 1, "").await;
    apply(&backend, key, token, &complete("outcome")).await;
    for _ in 0..2 {
        assert_eq!(claim_one(&backend, &request(key)).await, done("outcome"));
    }
}

pub(super) async fn completing_twice_holds_and_changes_nothing(backend: Backend) {
    let key = new_key();
    let token = acquire(&backend, request(key), 1, "").await;
    apply(&backend, key, token, &complete("first")).await;
    apply(&backend, key, token, &complete("first")).await;
    apply(&backend, key, token, &complete("second")).await;
    assert_eq!(claim_one(&backend, &request(key)).await, done("first"));
}

pub(super) async fn what_is_done_cannot_be_extended_or_released(backend: Backend) {
    let key = new_key();
    let token = acquire(&backend, request(key), 1, "").await;
    apply(&backend, key, token, &complete("outcome")).await;
    for settlement in [EXTEND, COUNTED, UNCOUNTED] {
        let settled = settle_one(&backend, key, token, &settlement).await;
        assert_eq!(settled, Settled::Fenced, "{settlement:?}");
        assert_eq!(claim_one(&backend, &request(key)).await, done("outcome"));
    }
}

pub(super) async fn a_fenced_token_settles_nothing(backend: Backend) {
    let key = new_key();
    let note = Bytes::from_static(b"first");
    let fenced = acquire(&backend, ClaimRequest { note, ..request(key) }, 1, "").await;
    let token = acquire(&backend, on(Ground::TakeOver { counted: true }, key), 2, "first").await;
    let far = Settlement::Extend { lease: 10 * LONG };
    for settlement in [complete("fenced"), far, COUNTED, UNCOUNTED] {
        for stranger in [fenced, new_token()] {
            let settled = settle_one(&backend, key, stranger, &settlement).await;
            assert_eq!(settled, Settled::Fenced, "{settlement:?}");
            assert!(ends_in(&backend, key).await <= LONG, "{settlement:?}");
        }
    }
    apply(&backend, key, token, &complete("outcome")).await;
    for settlement in [complete("fenced"), EXTEND, COUNTED, UNCOUNTED] {
        let settled = settle_one(&backend, key, fenced, &settlement).await;
        assert_eq!(settled, Settled::Fenced, "{settlement:?}");
        assert_eq!(claim_one(&backend, &request(key)).await, done("outcome"));
    }
}

pub(super) async fn a_completion_after_the_lease_holds_until_the_next_claim(backend: Backend) {
    let [alone, claimed] = [(); 2].map(|()| ClaimRequest { lease: SHORT, ..request(new_key()) });
    claim_and_outwait(&backend, vec![alone.clone(), claimed.clone()], SHORT).await;
    let next = acquire(&backend, request(claimed.key), 2, "").await;
    apply(&backend, alone.key, alone.token, &complete("late")).await;
    assert_eq!(claim_one(&backend, &request(alone.key)).await, done("late"));
    let late = settle_one(&backend, claimed.key, claimed.token, &complete("late")).await;
    assert_eq!(late, Settled::Fenced);
    apply(&backend, claimed.key, next, &complete("next")).await;
    assert_eq!(claim_one(&backend, &request(claimed.key)).await, done("next"));
}

pub(super) async fn a_completion_after_the_release_holds_until_the_next_claim(backend: Backend) {
    let key = new_key();
    let token = acquire(&backend, request(key), 1, "").await;
    apply(&backend, key, token, &COUNTED).await;
    apply(&backend, key, token, &complete("late")).await;
    assert_eq!(claim_one(&backend, &request(key)).await, done("late"));

    let key = new_key();
    let token = acquire(&backend, request(key), 1, "").await;
    apply(&backend, key, token, &COUNTED).await;
    acquire(&backend, request(key), 2, "").await;
    assert_eq!(settle_one(&backend, key, token, &complete("late")).await, Settled::Fenced);
}

pub(super) async fn what_is_unknown_can_be_completed_and_not_extended(backend: Backend) {
    let (key, token) = (new_key(), new_token());
    assert_eq!(settle_one(&backend, key, token, &EXTEND).await, Settled::Fenced);
    apply(&backend, key, token, &complete("outcome")).await;
    assert_eq!(claim_one(&backend, &request(key)).await, done("outcome"));
    assert_eq!(settle_one(&backend, key, new_token(), &complete("other")).await, Settled::Fenced);
    assert_eq!(claim_one(&backend, &request(key)).await, done("outcome"));
}

pub(super) async fn a_batch_is_settled_in_its_order(backend: Backend) {
    let requests: Vec<_> = (0..6).map(|_| request(new_key())).collect();
    claim(&backend, requests.clone()).await;
    let settlements = [complete("0"), complete("1"), COUNTED, EXTEND, UNCOUNTED, COUNTED];
    let mut batch: Vec<_> =
        requests.iter().zip(settlements).map(|(it, settlement)| (it.key, it.token, settlement)).collect();
    batch[1].1 = new_token();
    batch[5].1 = new_token();
    let settled = settle(&backend, batch).await;
    let (applied, fenced) = (Settled::Applied, Settled::Fenced);
    assert_eq!(settled, [applied, fenced, applied, applied, applied, fenced]);
    let claims = claim(&backend, requests.iter().map(|it| request(it.key)).collect()).await;
    assert_eq!((&claims[0], &claims[2], &claims[4]), (&done("0"), &acquired(2, ""), &acquired(1, "")));
    for held in [1, 3, 5] {
        assert!(matches!(claims[held], Claim::InFlight { .. }), "{held}: {:?}", claims[held]);
    }
}
