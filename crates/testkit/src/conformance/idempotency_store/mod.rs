//! What every `IdempotencyStore` must do.
//!
//! Time is the store's and real. A test never waits for so long a time: it claims a witness with the key
//! that it looks at, and when the witness can be had again, so can whatever was to end before it.

mod attempts;
mod claims;
mod content;
mod racing;
mod settlements;
mod time;

use super::{Backend, backend::eventually, conformance_list};
use bytes::Bytes;
use ports::{Claim, ClaimKey, ClaimRequest, Ground, Settled, Settlement, Token};
use std::time::Duration;
use uuid::Uuid;

conformance_list! {
    ($)
    /// Stamps the list of `IdempotencyStore` on a backend that has one:
    /// `testkit::idempotency_store_conformance!(module_name, make_backend);`.
    idempotency_store_conformance in idempotency_store::entries {
        claims:
            a_free_key_is_acquired_and_then_in_flight,
            a_batch_is_answered_in_its_order,
            an_empty_batch_has_no_answers,
            asking_again_with_the_same_token_changes_no_answer,
            asking_again_runs_the_lease_anew,
            an_own_lease_is_replaced,
            the_lease_of_another_is_not_replaced_as_ones_own,
            a_take_over_replaces_any_lease,
            what_is_done_is_done_on_any_ground;
        attempts:
            a_lapsed_lease_counts_and_leaves_its_note,
            an_own_lease_counts_as_its_holder_says,
            a_taken_over_lease_counts_as_the_next_says,
            the_ground_says_what_counts_of_a_lapsed_lease_too,
            a_counted_release_counts_once,
            a_release_that_does_not_count_gives_the_attempt_back_once,
            a_key_given_back_at_its_first_attempt_was_never_claimed;
        settlements:
            a_completion_is_what_others_find,
            completing_twice_holds_and_changes_nothing,
            what_is_done_cannot_be_extended_or_released,
            a_fenced_token_settles_nothing,
            a_completion_after_the_lease_holds_until_the_next_claim,
            a_completion_after_the_release_holds_until_the_next_claim,
            what_is_unknown_can_be_completed_and_not_extended,
            a_batch_is_settled_in_its_order;
        time:
            a_lease_ends_by_itself,
            an_extension_moves_the_end,
            an_extension_may_bring_the_end_forward,
            an_extension_after_the_end_takes_the_lease_up_again,
            an_outcome_is_forgotten_when_its_time_is_over,
            attempts_are_forgotten_some_time_after_the_lease,
            attempts_are_forgotten_some_time_after_the_release,
            long_times_are_kept;
        racing:
            of_64_claimants_one_has_the_key,
            of_64_claimants_one_has_the_key_that_was_released,
            of_take_overs_at_once_each_counts_and_the_last_holds,
            a_take_over_and_a_completion_at_once_agree,
            batches_at_once_give_each_key_to_one;
        content:
            tokens_are_told_apart_bit_by_bit,
            keys_are_told_apart_bit_by_bit,
            notes_and_outcomes_are_kept_byte_for_byte,
            ten_thousand_keys_are_one_batch,
            what_was_answered_survives_a_restart;
    }
}

/// So long that it does not end in a test.
const LONG: Duration = Duration::from_hours(1);

/// So short that a test can see it end.
const SHORT: Duration = Duration::from_millis(50);

fn new_key() -> ClaimKey {
    ClaimKey(*Uuid::new_v4().as_bytes())
}

fn new_token() -> Token {
    Token(Uuid::new_v4().as_u64_pair().1)
}

/// A new claim of a key that may be free: for long, with no note.
fn request(key: ClaimKey) -> ClaimRequest {
    let (token, ground, note) = (new_token(), Ground::Free, Bytes::new());
    ClaimRequest { key, token, lease: LONG, keep: LONG, ground, note }
}

/// As [`request`], on some ground.
fn on(ground: Ground, key: ClaimKey) -> ClaimRequest {
    ClaimRequest { ground, ..request(key) }
}

fn acquired(attempt: u32, note: &'static str) -> Claim {
    Claim::Acquired { attempt, note: Bytes::from_static(note.as_bytes()) }
}

fn done(outcome: &'static str) -> Claim {
    Claim::Done { outcome: Bytes::from_static(outcome.as_bytes()) }
}

fn complete(outcome: &'static str) -> Settlement {
    Settlement::Complete { outcome: Bytes::from_static(outcome.as_bytes()), keep: LONG }
}

const EXTEND: Settlement = Settlement::Extend { lease: LONG };
const COUNTED: Settlement = Settlement::Release { counted: true };
const UNCOUNTED: Settlement = Settlement::Release { counted: false };

async fn claim(backend: &Backend, requests: Vec<ClaimRequest>) -> Vec<Claim> {
    let count = requests.len();
    let claims = backend.idempotency().claim(requests).await.expect("keys can be claimed");
    assert_eq!(claims.len(), count, "one answer a key");
    claims
}

async fn claim_one(backend: &Backend, request: &ClaimRequest) -> Claim {
    claim(backend, vec![request.clone()]).await.remove(0)
}

/// Claims a key that must be had, and gives back its lease.
async fn acquire(backend: &Backend, request: ClaimRequest, attempt: u32, note: &'static str) -> Token {
    assert_eq!(claim_one(backend, &request).await, acquired(attempt, note));
    request.token
}

async fn settle(backend: &Backend, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Vec<Settled> {
    let count = settlements.len();
    let settled = backend.idempotency().settle(settlements).await.expect("leases can be settled");
    assert_eq!(settled.len(), count, "one answer a key");
    settled
}

async fn settle_one(backend: &Backend, key: ClaimKey, token: Token, settlement: &Settlement) -> Settled {
    settle(backend, vec![(key, token, settlement.clone())]).await.remove(0)
}

/// What must hold.
async fn apply(backend: &Backend, key: ClaimKey, token: Token, settlement: &Settlement) {
    assert_eq!(settle_one(backend, key, token, settlement).await, Settled::Applied);
}

/// For how long at most a key is held, which must be.
async fn ends_in(backend: &Backend, key: ClaimKey) -> Duration {
    match claim_one(backend, &request(key)).await {
        Claim::InFlight { ends_in } => ends_in,
        other => panic!("the key is held, not {other:?}"),
    }
}

/// Waits until a key that is held can be had, and has it.
async fn when_lapsed(backend: &Backend, request: &ClaimRequest) -> Claim {
    eventually("the lease", || async {
        let claim = claim_one(backend, request).await;
        (!matches!(claim, Claim::InFlight { .. })).then_some(claim)
    })
    .await
}

/// Claims all of them, which must be free, and waits until so much time has passed and a little more.
async fn claim_and_outwait(backend: &Backend, mut requests: Vec<ClaimRequest>, time: Duration) {
    let witness = ClaimRequest { lease: time + Duration::from_millis(20), ..request(new_key()) };
    let again = request(witness.key);
    requests.push(witness);
    for claim in claim(backend, requests).await {
        assert!(matches!(claim, Claim::Acquired { .. }), "the key is free, not {claim:?}");
    }
    when_lapsed(backend, &again).await;
}

/// Waits until so much time has passed and a little more.
async fn outwait(backend: &Backend, time: Duration) {
    claim_and_outwait(backend, Vec::new(), time).await;
}
