//! Who has a key, and on what ground.

use super::{
    COUNTED, EXTEND, LONG, SHORT, acquire, acquired, apply, claim, claim_one, complete, done, ends_in,
    new_key, new_token, on, outwait, request, settle, settle_one,
};
use crate::conformance::Backend;
use bytes::Bytes;
use ports::{Claim, ClaimRequest, Ground, Settled};

pub(super) async fn a_free_key_is_acquired_and_then_in_flight(backend: Backend) {
    let key = new_key();
    acquire(&backend, request(key), 1, "").await;
    for _ in 0..2 {
        let left = ends_in(&backend, key).await;
        assert!(left <= LONG, "the lease lasts {LONG:?} at most, not {left:?}");
        assert!(left > LONG / 2, "most of the lease is left, not {left:?}");
    }
}

pub(super) async fn a_batch_is_answered_in_its_order(backend: Backend) {
    let [held, finished, own, taken, first, last] = [(); 6].map(|()| new_key());
    acquire(&backend, request(held), 1, "").await;
    let token = acquire(&backend, request(finished), 1, "").await;
    apply(&backend, finished, token, &complete("finished")).await;
    let with_note = |key, note| ClaimRequest { note: Bytes::from_static(note), ..request(key) };
    let token = acquire(&backend, with_note(own, b"of own"), 1, "").await;
    acquire(&backend, with_note(taken, b"of taken"), 1, "").await;

    let claims = claim(
        &backend,
        vec![
            request(first),
            request(held),
            on(Ground::TakeOver { counted: true }, taken),
            request(finished),
            on(Ground::Own { token, counted: false }, own),
            request(last),
        ],
    )
    .await;
    assert!(matches!(claims[1], Claim::InFlight { .. }), "{claims:?}");
    let others = [&claims[0], &claims[2], &claims[3], &claims[4], &claims[5]];
    let expected =
        [acquired(1, ""), acquired(2, "of taken"), done("finished"), acquired(1, "of own"), acquired(1, "")];
    assert_eq!(others, expected.each_ref());
}

pub(super) async fn an_empty_batch_has_no_answers(backend: Backend) {
    assert_eq!(claim(&backend, Vec::new()).await, []);
    assert_eq!(settle(&backend, Vec::new()).await, []);
}

pub(super) async fn asking_again_with_the_same_token_changes_no_answer(backend: Backend) {
    let key = new_key();
    let first = ClaimRequest { note: Bytes::from_static(b"first"), ..request(key) };
    for _ in 0..3 {
        acquire(&backend, first.clone(), 1, "").await;
    }
    let own = Ground::Own { token: first.token, counted: true };
    let second = ClaimRequest { note: Bytes::from_static(b"second"), ..on(own, key) };
    for _ in 0..3 {
        acquire(&backend, second.clone(), 2, "first").await;
    }
    let taking = ClaimRequest { lease: SHORT, ..on(Ground::TakeOver { counted: true }, key) };
    for _ in 0..3 {
        acquire(&backend, taking.clone(), 3, "second").await;
    }
    // Also when the lease ended in between: nobody else had it.
    outwait(&backend, SHORT).await;
    acquire(&backend, ClaimRequest { lease: LONG, ..taking.clone() }, 3, "second").await;
    assert!(ends_in(&backend, key).await > LONG / 2);
    apply(&backend, key, taking.token, &COUNTED).await;
    acquire(&backend, request(key), 4, "").await;
}

pub(super) async fn asking_again_runs_the_lease_anew(backend: Backend) {
    let key = new_key();
    let first = request(key);
    acquire(&backend, first.clone(), 1, "").await;
    acquire(&backend, ClaimRequest { lease: 10 * LONG, ..first }, 1, "").await;
    assert!(ends_in(&backend, key).await > 9 * LONG);
}

pub(super) async fn an_own_lease_is_replaced(backend: Backend) {
    let key = new_key();
    let first = acquire(&backend, request(key), 1, "").await;
    let second = acquire(&backend, on(Ground::Own { token: first, counted: false }, key), 1, "").await;
    assert_eq!(settle_one(&backend, key, first, &EXTEND).await, Settled::Fenced);
    apply(&backend, key, second, &EXTEND).await;
    // Where nothing is known there is nothing to replace.
    acquire(&backend, on(Ground::Own { token: first, counted: true }, new_key()), 1, "").await;
}

pub(super) async fn the_lease_of_another_is_not_replaced_as_ones_own(backend: Backend) {
    let key = new_key();
    let first = acquire(&backend, request(key), 1, "").await;
    let own = on(Ground::Own { token: new_token(), counted: true }, key);
    let refused = claim_one(&backend, &own).await;
    assert!(matches!(refused, Claim::InFlight { .. }), "{refused:?}");
    apply(&backend, key, first, &EXTEND).await;
    // Nor is a token that was replaced its holder's any more.
    let second = acquire(&backend, on(Ground::TakeOver { counted: false }, key), 1, "").await;
    let refused = claim_one(&backend, &on(Ground::Own { token: first, counted: false }, key)).await;
    assert!(matches!(refused, Claim::InFlight { .. }), "{refused:?}");
    apply(&backend, key, second, &COUNTED).await;
    // As with no ground, a key that is free is had.
    acquire(&backend, own, 2, "").await;
}

pub(super) async fn a_take_over_replaces_any_lease(backend: Backend) {
    let key = new_key();
    let first = acquire(&backend, request(key), 1, "").await;
    let taking = on(Ground::TakeOver { counted: false }, key);
    let second = acquire(&backend, taking, 1, "").await;
    assert_eq!(settle_one(&backend, key, first, &complete("first")).await, Settled::Fenced);
    apply(&backend, key, second, &complete("second")).await;
    assert_eq!(claim_one(&backend, &request(key)).await, done("second"));
    // Where nothing is known there is nothing to take.
    acquire(&backend, on(Ground::TakeOver { counted: true }, new_key()), 1, "").await;
}

pub(super) async fn what_is_done_is_done_on_any_ground(backend: Backend) {
    let key = new_key();
    let first = request(key);
    let token = acquire(&backend, first.clone(), 1, "").await;
    apply(&backend, key, token, &complete("outcome")).await;
    let grounds = [
        Ground::Free,
        Ground::Own { token, counted: true },
        Ground::Own { token: new_token(), counted: false },
        Ground::TakeOver { counted: true },
        Ground::TakeOver { counted: false },
    ];
    for ground in grounds {
        assert_eq!(claim_one(&backend, &on(ground, key)).await, done("outcome"), "{ground:?}");
    }
    // Also for the one who did it and asks again.
    assert_eq!(claim_one(&backend, &first).await, done("outcome"));
}
