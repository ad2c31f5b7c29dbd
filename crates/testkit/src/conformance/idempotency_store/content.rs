//! What is stored comes back as it was.

use super::{
    COUNTED, EXTEND, LONG, UNCOUNTED, acquire, acquired, apply, claim, claim_one, complete, done, ends_in,
    new_key, on, request, settle, settle_one,
};
use crate::{conformance::Backend, fixtures};
use bytes::Bytes;
use ports::{Claim, ClaimRequest, Ground, Settled, Settlement, Token};

pub(super) async fn tokens_are_told_apart_bit_by_bit(backend: Backend) {
    // Neighbours that a number of 53 bits takes for one, and both ends of the signed and unsigned.
    let tokens = [0, 1, 1 << 53, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX].map(Token);
    for token in tokens {
        let key = new_key();
        acquire(&backend, ClaimRequest { token, ..request(key) }, 1, "").await;
        for other in tokens.iter().filter(|other| **other != token) {
            assert_eq!(settle_one(&backend, key, *other, &EXTEND).await, Settled::Fenced, "{other:?}");
        }
        let own = Ground::Own { token, counted: true };
        let next = acquire(&backend, on(own, key), 2, "").await;
        let back = ClaimRequest { token, ..on(Ground::Own { token: next, counted: true }, key) };
        acquire(&backend, back, 3, "").await;
        apply(&backend, key, token, &complete("outcome")).await;
        apply(&backend, key, token, &complete("outcome")).await;
    }
}

pub(super) async fn keys_are_told_apart_bit_by_bit(backend: Backend) {
    let base = new_key();
    let flip = |bit: usize| {
        let mut key = base;
        key.0[bit / 8] ^= 1 << (bit % 8);
        key
    };
    let keys = std::iter::once(base).chain((0..128).map(flip));
    let requests: Vec<_> = keys.map(request).collect();
    assert!(claim(&backend, requests.clone()).await.iter().all(|claim| *claim == acquired(1, "")));
    apply(&backend, base, requests[0].token, &complete("base")).await;
    let claims = claim(&backend, requests.iter().map(|it| request(it.key)).collect()).await;
    assert_eq!(claims[0], done("base"));
    assert!(claims[1..].iter().all(|claim| matches!(claim, Claim::InFlight { .. })));
}

pub(super) async fn notes_and_outcomes_are_kept_byte_for_byte(backend: Backend) {
    let mut rng = fixtures::rng(11);
    let every_byte: Bytes = (0..=255).collect();
    for note in [every_byte.clone(), fixtures::payload(&mut rng, 1024), Bytes::from(vec![0; 1024])] {
        let key = new_key();
        let first = ClaimRequest { note: note.clone(), ..request(key) };
        acquire(&backend, first.clone(), 1, "").await;
        let second = on(Ground::Own { token: first.token, counted: true }, key);
        for _ in 0..2 {
            let claim = claim_one(&backend, &second).await;
            assert_eq!(claim, Claim::Acquired { attempt: 2, note: note.clone() });
        }
    }
    let outcomes =
        [Bytes::new(), every_byte, fixtures::payload(&mut rng, 64 << 10), vec![0; 64 << 10].into()];
    for outcome in outcomes {
        let key = new_key();
        let token = acquire(&backend, request(key), 1, "").await;
        let completion = Settlement::Complete { outcome: outcome.clone(), keep: LONG };
        apply(&backend, key, token, &completion).await;
        assert_eq!(claim_one(&backend, &request(key)).await, Claim::Done { outcome });
    }
}

pub(super) async fn ten_thousand_keys_are_one_batch(backend: Backend) {
    let requests: Vec<_> = (0..10_000).map(|_| request(new_key())).collect();
    let claims = claim(&backend, requests.clone()).await;
    assert!(claims.iter().all(|claim| *claim == acquired(1, "")));
    let outcome = |nth: usize| Bytes::from(nth.to_be_bytes().to_vec());
    let completion = |nth| Settlement::Complete { outcome: outcome(nth), keep: LONG };
    let batch = requests.iter().enumerate().map(|(nth, it)| (it.key, it.token, completion(nth)));
    let settled = settle(&backend, batch.collect()).await;
    assert!(settled.iter().all(|settled| *settled == Settled::Applied));
    let claims = claim(&backend, requests.iter().map(|it| request(it.key)).collect()).await;
    for (nth, claim) in claims.into_iter().enumerate() {
        assert_eq!(claim, Claim::Done { outcome: outcome(nth) });
    }
}

pub(super) async fn what_was_answered_survives_a_restart(backend: Backend) {
    let [held, finished, released, given_back] = [(); 4].map(|()| new_key());
    let with_note = |key| ClaimRequest { note: Bytes::from_static(b"note"), ..request(key) };
    let first = acquire(&backend, with_note(held), 1, "").await;
    let second = with_note(held);
    let second = ClaimRequest { ground: Ground::Own { token: first, counted: true }, ..second };
    acquire(&backend, second.clone(), 2, "note").await;
    let token = acquire(&backend, request(finished), 1, "").await;
    apply(&backend, finished, token, &complete("outcome")).await;
    let counted = acquire(&backend, with_note(released), 1, "").await;
    apply(&backend, released, counted, &COUNTED).await;
    let uncounted = acquire(&backend, with_note(given_back), 1, "").await;
    apply(&backend, given_back, uncounted, &UNCOUNTED).await;

    let backend = backend.reopened().await;
    let left = ends_in(&backend, held).await;
    assert!(left <= LONG && left > LONG / 2, "{left:?}");
    assert_eq!(settle_one(&backend, held, first, &complete("fenced")).await, Settled::Fenced);
    // The holder's own question finds its lease, and it can be settled.
    acquire(&backend, second.clone(), 2, "note").await;
    apply(&backend, held, second.token, &COUNTED).await;
    acquire(&backend, request(held), 3, "note").await;
    assert_eq!(claim_one(&backend, &request(finished)).await, done("outcome"));
    apply(&backend, finished, token, &complete("other")).await;
    assert_eq!(claim_one(&backend, &request(finished)).await, done("outcome"));
    acquire(&backend, request(released), 2, "note").await;
    acquire(&backend, request(given_back), 1, "").await;
}
