//! Which attempt it is, and what the one before left.

use super::{
    COUNTED, EXTEND, SHORT, UNCOUNTED, acquire, acquired, apply, claim_and_outwait, complete, new_key, on,
    request, settle_one, when_lapsed,
};
use crate::conformance::Backend;
use bytes::Bytes;
use ports::{ClaimRequest, Ground, Settled};

fn with_note(note: &'static str, mut request: ClaimRequest) -> ClaimRequest {
    request.note = Bytes::from_static(note.as_bytes());
    request
}

pub(super) async fn a_lapsed_lease_counts_and_leaves_its_note(backend: Backend) {
    let key = new_key();
    let first = with_note("first", ClaimRequest { lease: SHORT, ..request(key) });
    acquire(&backend, first.clone(), 1, "").await;
    let second = with_note("second", ClaimRequest { lease: SHORT, ..request(key) });
    assert_eq!(when_lapsed(&backend, &second).await, acquired(2, "first"));
    let third = request(key);
    assert_eq!(when_lapsed(&backend, &third).await, acquired(3, "second"));
    for fenced in [first.token, second.token] {
        assert_eq!(settle_one(&backend, key, fenced, &complete("late")).await, Settled::Fenced);
    }
    // An empty note takes the place of the one before it.
    apply(&backend, key, third.token, &COUNTED).await;
    acquire(&backend, request(key), 4, "").await;
}

pub(super) async fn an_own_lease_counts_as_its_holder_says(backend: Backend) {
    let key = new_key();
    let mut token = acquire(&backend, with_note("note", request(key)), 1, "").await;
    for (counted, attempt) in [(true, 2), (false, 2), (true, 3), (true, 4), (false, 4)] {
        let next = on(Ground::Own { token, counted }, key);
        token = acquire(&backend, with_note("note", next), attempt, "note").await;
    }
}

pub(super) async fn a_taken_over_lease_counts_as_the_next_says(backend: Backend) {
    let key = new_key();
    acquire(&backend, with_note("note", request(key)), 1, "").await;
    for (counted, attempt) in [(true, 2), (false, 2), (true, 3), (true, 4), (false, 4)] {
        let next = on(Ground::TakeOver { counted }, key);
        acquire(&backend, with_note("note", next), attempt, "note").await;
    }
}

pub(super) async fn the_ground_says_what_counts_of_a_lapsed_lease_too(backend: Backend) {
    let (own, taken) = ([new_key(), new_key()], [new_key(), new_key()]);
    let all = own.iter().chain(&taken);
    let firsts: Vec<_> = all.map(|&key| ClaimRequest { lease: SHORT, ..request(key) }).collect();
    let tokens = [firsts[0].token, firsts[1].token];
    claim_and_outwait(&backend, firsts, SHORT).await;
    for (counted, attempt) in [(false, 1), (true, 2)] {
        let nth = usize::from(counted);
        let ground = Ground::Own { token: tokens[nth], counted };
        acquire(&backend, on(ground, own[nth]), attempt, "").await;
        acquire(&backend, on(Ground::TakeOver { counted }, taken[nth]), attempt, "").await;
    }
}

pub(super) async fn a_counted_release_counts_once(backend: Backend) {
    let key = new_key();
    let first = acquire(&backend, with_note("first", request(key)), 1, "").await;
    for _ in 0..3 {
        apply(&backend, key, first, &COUNTED).await;
    }
    let second = acquire(&backend, request(key), 2, "first").await;
    assert_eq!(settle_one(&backend, key, first, &COUNTED).await, Settled::Fenced);
    apply(&backend, key, second, &EXTEND).await;
    apply(&backend, key, second, &COUNTED).await;
    acquire(&backend, request(key), 3, "").await;
}

pub(super) async fn a_release_that_does_not_count_gives_the_attempt_back_once(backend: Backend) {
    let key = new_key();
    let first = acquire(&backend, request(key), 1, "").await;
    apply(&backend, key, first, &COUNTED).await;
    for _ in 0..2 {
        let again = acquire(&backend, request(key), 2, "").await;
        for _ in 0..3 {
            apply(&backend, key, again, &UNCOUNTED).await;
        }
    }
    let second = acquire(&backend, request(key), 2, "").await;
    apply(&backend, key, second, &COUNTED).await;
    acquire(&backend, request(key), 3, "").await;
}

pub(super) async fn a_key_given_back_at_its_first_attempt_was_never_claimed(backend: Backend) {
    let key = new_key();
    for _ in 0..3 {
        let token = acquire(&backend, with_note("note", request(key)), 1, "").await;
        apply(&backend, key, token, &UNCOUNTED).await;
    }
    acquire(&backend, request(key), 1, "").await;
}
