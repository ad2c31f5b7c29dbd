//! Of all who would do a thing one does it.

use super::{
    COUNTED, EXTEND, acquire, acquired, apply, claim, complete, done, new_key, on, request, settle_one,
};
use crate::{conformance::Backend, fixtures};
use futures::future::join_all;
use ports::{Claim, ClaimKey, ClaimRequest, Ground, Settled, Token};
use rand::seq::SliceRandom;

const ROUNDS: usize = 8;

/// Claims at once, each in a task of its own, and gives the answers in the order of the requests.
async fn claim_at_once(backend: &Backend, requests: &[ClaimRequest]) -> Vec<Claim> {
    let calls = requests.iter().map(|request| {
        let (store, request) = (backend.idempotency().clone(), request.clone());
        tokio::spawn(async move { store.claim(vec![request]).await })
    });
    let ended = join_all(calls).await;
    ended
        .into_iter()
        .map(|call| call.expect("the call ends").expect("keys can be claimed").remove(0))
        .collect()
}

/// Races 64 claimants for a key that can be had once, by this attempt; gives who has it.
async fn race(backend: &Backend, key: ClaimKey, attempt: u32) -> Token {
    let requests: Vec<_> = (0..64).map(|_| request(key)).collect();
    let claims = claim_at_once(backend, &requests).await;
    let mut winners = Vec::new();
    for (request, claim) in requests.iter().zip(claims) {
        match claim {
            Claim::InFlight { .. } => {}
            won => {
                assert_eq!(won, acquired(attempt, ""));
                winners.push(request.token);
            }
        }
    }
    assert_eq!(winners.len(), 1, "one of 64 has it");
    apply(backend, key, winners[0], &EXTEND).await;
    winners[0]
}

pub(super) async fn of_64_claimants_one_has_the_key(backend: Backend) {
    for _ in 0..ROUNDS {
        race(&backend, new_key(), 1).await;
    }
}

pub(super) async fn of_64_claimants_one_has_the_key_that_was_released(backend: Backend) {
    let key = new_key();
    for attempt in 1..=ROUNDS as u32 {
        let winner = race(&backend, key, attempt).await;
        apply(&backend, key, winner, &COUNTED).await;
    }
}

pub(super) async fn of_take_overs_at_once_each_counts_and_the_last_holds(backend: Backend) {
    let key = new_key();
    acquire(&backend, request(key), 1, "").await;
    let requests: Vec<_> = (0..32).map(|_| on(Ground::TakeOver { counted: true }, key)).collect();
    let claims = claim_at_once(&backend, &requests).await;
    let mut order: Vec<_> = claims
        .iter()
        .zip(&requests)
        .map(|(claim, request)| match claim {
            Claim::Acquired { attempt, .. } => (*attempt, request.token),
            other => panic!("a take-over has the key, not {other:?}"),
        })
        .collect();
    order.sort_unstable();
    assert!(order.iter().map(|it| it.0).eq(2..34), "each is an attempt of its own: {order:?}");
    let last = order.pop().expect("there is a last").1;
    for (_, fenced) in order {
        assert_eq!(settle_one(&backend, key, fenced, &EXTEND).await, Settled::Fenced);
    }
    apply(&backend, key, last, &EXTEND).await;
}

pub(super) async fn a_take_over_and_a_completion_at_once_agree(backend: Backend) {
    for _ in 0..ROUNDS {
        let firsts: Vec<_> = (0..8).map(|_| request(new_key())).collect();
        claim(&backend, firsts.clone()).await;
        let takings: Vec<_> =
            firsts.iter().map(|it| on(Ground::TakeOver { counted: true }, it.key)).collect();
        let completions = firsts.iter().map(|it| {
            let (store, key, token) = (backend.idempotency().clone(), it.key, it.token);
            tokio::spawn(async move { store.settle(vec![(key, token, complete("outcome"))]).await })
        });
        let (settled, claims) = tokio::join!(join_all(completions), claim_at_once(&backend, &takings));
        for (settled, claim) in settled.into_iter().zip(claims) {
            match settled.expect("the call ends").expect("leases can be settled")[..] {
                [Settled::Applied] => assert_eq!(claim, done("outcome")),
                [Settled::Fenced] => assert_eq!(claim, acquired(2, "")),
                _ => panic!("one answer a key"),
            }
        }
    }
}

pub(super) async fn batches_at_once_give_each_key_to_one(backend: Backend) {
    let keys: Vec<_> = (0..200).map(|_| new_key()).collect();
    let call = |seed: u64| {
        let (store, mut keys) = (backend.idempotency().clone(), keys.clone());
        tokio::spawn(async move {
            let mut rng = fixtures::rng(seed);
            keys.shuffle(&mut rng);
            let requests: Vec<_> = keys.iter().map(|&key| request(key)).collect();
            let claims = store.claim(requests.clone()).await.expect("keys can be claimed");
            // Settles those of the others as well, which does not hold.
            let mut settlements: Vec<_> = requests.iter().zip(claims).collect();
            settlements.shuffle(&mut rng);
            let batch = settlements.iter().map(|(it, _)| (it.key, it.token, EXTEND)).collect();
            let settled = store.settle(batch).await.expect("leases can be settled");
            let mut had = Vec::new();
            for ((request, claim), settled) in settlements.into_iter().zip(settled) {
                match claim {
                    Claim::InFlight { .. } => assert_eq!(settled, Settled::Fenced),
                    won => {
                        assert_eq!((won, settled), (acquired(1, ""), Settled::Applied));
                        had.push(request.key);
                    }
                }
            }
            had
        })
    };
    let ended = join_all((0..16).map(call)).await;
    let mut had: Vec<_> = ended.into_iter().flat_map(|call| call.expect("the call ends")).collect();
    had.sort_unstable();
    let mut keys = keys.clone();
    keys.sort_unstable();
    assert_eq!(had, keys, "each key is had once");
}
