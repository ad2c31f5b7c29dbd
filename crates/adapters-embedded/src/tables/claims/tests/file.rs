//! What lies in the file: rows that were not written by us, and rows that are past their time.

use super::{HOUR, HandClock, acquired, claim, complete, key, open, queued, request, rows};
use crate::{
    memory::MemoryIdempotency,
    tables::{
        schema::CLAIMS,
        tests::{Disk, hold_up},
    },
};
use bytes::Bytes;
use ports::{Claim, ClaimRequest, ErrorKind, IdempotencyStore, Settled, Settlement, Token};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use testkit::conformance::within;

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_fails_its_call_alone_and_changes_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (tables, claims) = open(dir.path(), &clock);
    let put = tables.write("test.put", |transaction| {
        transaction.open_table(CLAIMS)?.insert(&key(2).0, [9; 50].as_slice())?;
        Ok(Ok(()))
    });
    put.await.unwrap();
    let let_go = hold_up(&tables).await;
    let (bad, good) = (claims.claim(vec![request(1, 1), request(2, 1)]), claims.claim(vec![request(3, 1)]));
    let mut both = std::pin::pin!(async { tokio::join!(bad, good) });
    assert!(futures::poll!(&mut both).is_pending(), "they wait for one transaction");
    drop(let_go);
    let (bad, good) = within("the claims", both).await;
    let error = bad.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.detail().contains("its version is 9") && error.detail().contains("0002"), "{error}");
    assert_eq!(good.unwrap(), [acquired(1)]);
    let extend = |number| vec![(key(number), Token(1), Settlement::Extend { lease: HOUR })];
    assert_eq!(claims.settle(extend(1)).await.unwrap(), [Settled::Fenced], "nothing was claimed");
    assert_eq!(claims.settle(extend(2)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(claims.settle(extend(3)).await.unwrap(), [Settled::Applied]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_time_leaves_the_file_by_and_by() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (tables, claims) = open(dir.path(), &clock);
    let minute = Duration::from_mins(1);
    let requests: Vec<_> =
        (0..1000).map(|nth| ClaimRequest { lease: minute, keep: minute, ..request(nth, nth) }).collect();
    claims.claim(requests).await.unwrap();
    // Of three kinds: done, released, and left alone.
    let settlements = (0..600).map(|nth| {
        let settlement =
            if nth % 2 == 0 { complete("done", minute) } else { Settlement::Release { counted: true } };
        (key(nth), Token(nth), settlement)
    });
    claims.settle(settlements.collect()).await.unwrap();
    assert_eq!(rows(&tables).await, 1000);
    clock.pass(2 * minute);
    let mut left = 1000;
    let mut calls = 0;
    while left > calls {
        claim(&claims, request(10_000 + calls as u64, 1)).await;
        calls += 1;
        let now = rows(&tables).await;
        assert!(now <= left, "each call takes away more than it adds");
        assert!(left - now < 20, "and not much at a time: {left} to {now}");
        left = now;
    }
    assert_eq!(left, calls, "nothing but the new ones is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_moves_forward_by_much_takes_its_entry_along() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (tables, claims) = open(dir.path(), &clock);
    let long = ClaimRequest { keep: 1000 * HOUR, ..request(1, 1) };
    assert_eq!(claim(&claims, long).await, acquired(1));
    claims.settle(vec![(key(1), Token(1), complete("done", HOUR))]).await.unwrap();
    clock.pass(HOUR);
    claim(&claims, request(2, 2)).await;
    assert_eq!(rows(&tables).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_completed_as_the_last_one_was_has_its_entry_there_already() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (tables, claims) = open(dir.path(), &clock);
    let long =
        |number| ClaimRequest { lease: Duration::from_mins(1), keep: 1000 * HOUR, ..request(number, 1) };
    let complete = |number| claims.settle(vec![(key(number), Token(1), complete("done", HOUR))]);
    claim(&claims, long(1)).await;
    complete(1).await.unwrap();
    claim(&claims, long(2)).await;
    claim(&claims, long(3)).await;
    let before = queued(&tables, 2).await;
    complete(2).await.unwrap();
    assert_eq!(queued(&tables, 2).await, before, "it need not be moved");
    clock.pass(2 * HOUR);
    claim(&claims, request(4, 1)).await;
    assert_eq!(rows(&tables).await, 2, "what is done is forgotten");
    let again = ClaimRequest { token: Token(2), ..long(3) };
    assert_eq!(claim(&claims, again).await, acquired(2), "and attempts at what is not are known");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_become_one_transaction() {
    let (dir, clock, disk) = (tempfile::tempdir().unwrap(), HandClock::new(), Disk::default());
    let tables = disk.open(dir.path());
    let claims = tables.claims(Arc::new(clock)).unwrap();
    let before = disk.syncs.load(Ordering::SeqCst);
    claim(&claims, request(1000, 1)).await;
    let of_one = disk.syncs.load(Ordering::SeqCst) - before;
    assert!(of_one > 0, "a claim is on disk when it is answered");
    let let_go = hold_up(&tables).await;
    let calls = (0..25).map(|nth| claims.claim(vec![request(nth, 1), request(0x100 + nth % 5, nth)]));
    let mut calls = futures::future::join_all(calls);
    assert!(futures::poll!(&mut calls).is_pending(), "all of them wait");
    let before = disk.syncs.load(Ordering::SeqCst);
    drop(let_go);
    let answers = within("the claims", calls).await;
    // The transaction that was held up, and that of all the others.
    assert_eq!(disk.syncs.load(Ordering::SeqCst) - before, 2 * of_one);
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|claims| claims[0] == acquired(1)));
    let won = answers.iter().filter(|claims| claims[1] == acquired(1)).count();
    assert_eq!(won, 5, "each sees those before it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_claims_and_asking_again_is_right() {
    let (dir, clock, disk) = (tempfile::tempdir().unwrap(), HandClock::new(), Disk::default());
    let tables = disk.open(dir.path());
    let claims = tables.claims(Arc::new(clock)).unwrap();
    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let error = claims.claim(vec![request(1, 1)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    disk.full.store(false, Ordering::SeqCst);
    assert_eq!(claim(&claims, request(1, 1)).await, acquired(1));
    disk.full.store(true, Ordering::SeqCst);
    let completion = || vec![(key(1), Token(1), complete("done", HOUR))];
    assert_eq!(claims.settle(completion()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    disk.full.store(false, Ordering::SeqCst);
    assert_eq!(claims.settle(completion()).await.unwrap(), [Settled::Applied]);
    assert_eq!(claim(&claims, request(1, 2)).await, Claim::Done { outcome: Bytes::from_static(b"done") });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_store_takes_is_refused_by_name() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (_tables, claims) = open(dir.path(), &clock);
    let stores: [Arc<dyn IdempotencyStore>; 2] =
        [Arc::new(claims), Arc::new(MemoryIdempotency::new(Arc::new(clock)))];
    for store in stores {
        let twice = vec![request(1, 1), request(2, 1), request(1, 2)];
        let error = store.claim(twice).await.unwrap_err();
        assert_eq!((error.kind(), error.detail().contains("items 0 and 2")), (ErrorKind::Invalid, true));
        let long = ClaimRequest { note: vec![0; 1025].into(), ..request(2, 1) };
        let error = store.claim(vec![request(1, 1), long]).await.unwrap_err();
        assert_eq!((error.kind(), error.detail().contains("item 1: its note")), (ErrorKind::TooLarge, true));
        let extend = || Settlement::Extend { lease: HOUR };
        let twice = vec![(key(1), Token(1), extend()), (key(1), Token(2), extend())];
        let error = store.settle(twice).await.unwrap_err();
        assert_eq!((error.kind(), error.detail().contains("items 0 and 1")), (ErrorKind::Invalid, true));
        let long = Settlement::Complete { outcome: vec![0; 65537].into(), keep: HOUR };
        let error = store.settle(vec![(key(1), Token(1), long)]).await.unwrap_err();
        let named = error.detail().contains("item 0: its outcome");
        assert_eq!((error.kind(), named), (ErrorKind::TooLarge, true));
        assert_eq!(store.claim(vec![request(1, 1)]).await.unwrap(), [acquired(1)], "nothing was changed");
    }
}
