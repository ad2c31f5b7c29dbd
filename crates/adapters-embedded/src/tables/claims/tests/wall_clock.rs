//! What jumps of the wall clock do, and do not.

use super::{HOUR, HandClock, acquired, claim, complete, key, open, request};
use crate::tables::schema::{META, META_CLOCK};
use ports::{Claim, ClaimRequest, ErrorKind, IdempotencyStore, Settled, Token};
use std::{sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_while_it_runs_changes_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (_tables, claims) = open(dir.path(), &clock);
    assert_eq!(claim(&claims, ClaimRequest { lease: 10 * SECOND, ..request(1, 1) }).await, acquired(1));
    for jump in [i64::from(i32::MAX), -2 * i64::from(i32::MAX), i64::MIN / 2] {
        clock.jump(jump);
        clock.pass(SECOND);
        assert!(matches!(claim(&claims, request(1, 2)).await, Claim::InFlight { .. }), "after {jump}");
    }
    assert_eq!(claim(&claims, request(1, 2)).await, Claim::InFlight { ends_in: 7 * SECOND });
    clock.pass(7 * SECOND);
    assert_eq!(claim(&claims, request(1, 2)).await, acquired(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_set_back_before_a_restart_makes_leases_a_second_longer_at_most() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (tables, claims) = open(dir.path(), &clock);
    clock.pass(HOUR);
    assert_eq!(claim(&claims, ClaimRequest { lease: 10 * SECOND, ..request(1, 1) }).await, acquired(1));
    drop((tables, claims));
    clock.jump(-24 * 3_600_000);
    let (_tables, claims) = open(dir.path(), &clock);
    let Claim::InFlight { ends_in } = claim(&claims, request(1, 2)).await else { panic!("it is held") };
    assert!(ends_in <= 11 * SECOND, "{ends_in:?}");
    clock.pass(11 * SECOND);
    assert_eq!(claim(&claims, request(1, 2)).await, acquired(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_set_forward_before_a_restart_fences_nobody_by_itself() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (tables, claims) = open(dir.path(), &clock);
    for number in 1..=4 {
        assert_eq!(claim(&claims, request(number, 1)).await, acquired(1));
    }
    drop((tables, claims));
    // Beyond the leases, and then beyond what is kept of them.
    for (jump, ended, claimed, attempt) in [(3_600_000, 1, 2, 2), (3_600_000, 3, 4, 1)] {
        clock.jump(jump);
        let (_tables, claims) = open(dir.path(), &clock);
        assert_eq!(claim(&claims, request(claimed, 2)).await, acquired(attempt));
        let both = [ended, claimed].map(|number| (key(number), Token(1), complete("late", HOUR)));
        assert_eq!(claims.settle(both.to_vec()).await.unwrap(), [Settled::Applied, Settled::Fenced]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_in_the_file_that_none_made_is_corrupt() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let (tables, _claims) = open(dir.path(), &clock);
    let set = tables.write("test.set", |transaction| {
        transaction.open_table(META)?.insert(META_CLOCK, u64::MAX)?;
        Ok(Ok(()))
    });
    set.await.unwrap();
    let error = tables.claims(Arc::new(clock)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.detail().contains("clock"), "{error}");
}
