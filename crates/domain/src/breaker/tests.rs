use super::*;
use bytes::Bytes;
use ports::{
    AppendRequest, AppendResult, Appended, EventLog, Expected, IdempotencyStore, JobKind, JobStore,
    MockIdempotencyStore, MockJobStore, Record, TopicName,
};
use std::{
    future::{pending, ready},
    sync::atomic::{AtomicUsize, Ordering},
};
use testkit::TestClock;
use tokio::time::advance;

const OPERATION: &str = "store.call";

fn breaker() -> Breaker {
    Breaker::new("redis", STORE, Arc::new(TestClock::new()))
}

fn error(kind: ErrorKind) -> PortError {
    PortError::new(kind, OPERATION, "connection refused")
}

async fn fails(breaker: &Breaker, error: PortError) -> PortError {
    breaker.call(OPERATION, ready(Err::<(), _>(error))).await.expect_err("it fails")
}

async fn open(breaker: &Breaker) {
    for _ in 0..STORE.connects {
        fails(breaker, error(ErrorKind::Unavailable)).await;
    }
}

/// Whether a call is made.
async fn is_made(breaker: &Breaker) -> bool {
    breaker.call(OPERATION, ready(Ok(()))).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_system_that_is_not_reached_is_left_alone_until_a_probe_is_answered() {
    let breaker = breaker();
    assert_eq!(breaker.status(), BreakerStatus::Closed);
    open(&breaker).await;
    let made = AtomicUsize::new(0);
    let call = async {
        made.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let refused = breaker.call(OPERATION, call).await.expect_err("it is open");
    assert_eq!(made.load(Ordering::Relaxed), 0, "the call was not made");
    assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Unavailable, Effect::None));
    assert_eq!(refused.retry(), Retry::Transient { after: Some(STORE.probe_first) });
    for word in ["redis", "connection refused", "500 ms"] {
        assert!(refused.detail().contains(word), "{refused}");
    }
    let since = TestClock::EPOCH;
    let BreakerStatus::Open { since: opened, reason, next_probe } = breaker.status() else {
        panic!("it is open")
    };
    assert_eq!((opened, next_probe), (since, Some(Timestamp(since.0 + 500))));
    assert!(reason.contains("connection refused"), "{reason}");

    advance(STORE.probe_first).await;
    let slower = PortError::new(ErrorKind::Timeout, OPERATION, "too late").effect_unknown();
    fails(&breaker, slower).await;
    let BreakerStatus::Open { reason, next_probe, .. } = breaker.status() else { panic!("it is open still") };
    assert_eq!(next_probe, Some(Timestamp(since.0 + 1500)), "twice the time before");
    assert!(reason.contains("too late"), "what the last call said: {reason}");
    assert!(!is_made(&breaker).await);

    advance(2 * STORE.probe_first).await;
    assert!(is_made(&breaker).await, "the next probe, which is answered");
    assert_eq!(breaker.status(), BreakerStatus::Closed);
    assert!(is_made(&breaker).await);
}

#[tokio::test(start_paused = true)]
async fn one_probe_is_out_at_a_time_and_one_that_is_dropped_makes_way_for_the_next() {
    let breaker = breaker();
    open(&breaker).await;
    advance(STORE.probe_first).await;
    let mut probe = Box::pin(breaker.call(OPERATION, pending::<Result<()>>()));
    assert!(futures::poll!(probe.as_mut()).is_pending());
    assert!(matches!(breaker.status(), BreakerStatus::Open { next_probe: None, .. }));
    let refused = breaker.call(OPERATION, ready(Ok(()))).await.expect_err("one is out");
    assert_eq!(refused.retry(), Retry::Transient { after: None });
    drop(probe);
    assert!(matches!(breaker.status(), BreakerStatus::Open { next_probe: Some(_), .. }));
    assert!(!is_made(&breaker).await, "not at once");
    advance(2 * STORE.probe_first).await;
    assert!(is_made(&breaker).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_by_a_system_that_answers_opens_nothing() {
    let breaker = breaker();
    for kind in [ErrorKind::Invalid, ErrorKind::TooLarge, ErrorKind::Throttled, ErrorKind::Unexpected] {
        for _ in 0..20 {
            assert_eq!(fails(&breaker, error(kind)).await.kind(), kind);
        }
    }
    assert!(is_made(&breaker).await);
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_refused_credentials_open_it_by_their_share() {
    for kind in [ErrorKind::Timeout, ErrorKind::Denied] {
        let breaker = breaker();
        for _ in 1..STORE.least {
            fails(&breaker, error(kind)).await;
        }
        assert_eq!(breaker.status(), BreakerStatus::Closed, "these are too few");
        fails(&breaker, error(kind)).await;
        assert!(matches!(breaker.status(), BreakerStatus::Open { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_went_out_before_closes_nothing_when_it_is_answered() {
    let breaker = breaker();
    let (say, heard) = tokio::sync::oneshot::channel::<()>();
    let mut early = Box::pin(breaker.call(OPERATION, async {
        let _ = heard.await;
        Ok(())
    }));
    assert!(futures::poll!(early.as_mut()).is_pending());
    open(&breaker).await;
    say.send(()).expect("it waits");
    early.await.expect("it was made");
    assert!(matches!(breaker.status(), BreakerStatus::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_store_of_claims_behind_it_is_not_asked_while_it_is_open() {
    let mut store = MockIdempotencyStore::new();
    let calls = STORE.connects as usize;
    store.expect_claim().times(calls).returning(|_| Err(error(ErrorKind::Unavailable)));
    store.expect_settle().never();
    let guarded = GuardedClaims::new(Arc::new(store), Arc::new(breaker()));
    for _ in 0..calls {
        guarded.claim(Vec::new()).await.expect_err("it is away");
    }
    let refused = guarded.claim(Vec::new()).await.expect_err("it is left alone");
    assert_eq!(refused.operation(), "idempotency_store.claim");
    let refused = guarded.settle(Vec::new()).await.expect_err("it is left alone");
    assert_eq!(refused.operation(), "idempotency_store.settle");
}

#[tokio::test(start_paused = true)]
async fn a_store_of_documents_behind_it_is_not_asked_while_it_is_open() {
    const KIND: JobKind = JobKind::Subscription;
    let mut store = MockJobStore::new();
    let calls = STORE.connects as usize;
    store.expect_list().times(calls).returning(|_| Err(error(ErrorKind::Unavailable)));
    store.expect_get().never();
    store.expect_put().never();
    store.expect_delete().never();
    let guarded = GuardedJobs::new(Arc::new(store), Arc::new(breaker()));
    for _ in 0..calls {
        guarded.list(KIND).await.expect_err("it is away");
    }
    let put = guarded.put(KIND, "a", Expected::Absent, Bytes::new());
    for (refused, operation) in [
        (guarded.list(KIND).await.map(drop), "job_store.list"),
        (guarded.get(KIND, "a").await.map(drop), "job_store.get"),
        (put.await.map(drop), "job_store.put"),
        (guarded.delete(KIND, "a", 1).await, "job_store.delete"),
    ] {
        assert_eq!(refused.expect_err("it is left alone").operation(), operation);
    }
}

fn append_to(topic: &str) -> AppendRequest {
    let records = vec![(0, Record::default()), (1, Record::default())];
    AppendRequest { topic: TopicName::new(topic).unwrap(), records, timeout: Duration::from_secs(1) }
}

/// An outage must not cost every publisher its timeout, and a topic that serves must not pay for one that does
/// not.
#[tokio::test(start_paused = true)]
async fn appends_to_a_topic_that_takes_nothing_are_refused_at_once_and_others_go_on() {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
    let taken = Arc::new(AtomicUsize::new(0));
    let mut log = ports::MockEventLog::new();
    let counted = taken.clone();
    log.expect_append().returning(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        let outcome = |index: usize| match request.topic.as_str() {
            "dead" => Err(error(ErrorKind::Unavailable)),
            // One of its partitions has no leader.
            "half" if index == 0 => Err(error(ErrorKind::Unavailable)),
            _ => Ok(Appended { offset: 0, timestamp: Timestamp(0) }),
        };
        AppendResult::complete((0..request.records.len()).map(outcome).collect())
    });
    let guarded = GuardedAppends::new(Arc::new(log), clock);
    for _ in 0..30 {
        assert!(guarded.append(append_to("half")).await.outcomes[1].is_ok());
        guarded.append(append_to("dead")).await;
    }
    assert_eq!(taken.load(Ordering::Relaxed), 30 + LOG.connects as usize, "the dead one is asked no more");
    let open: Vec<_> = guarded.open(10).into_iter().map(|(topic, _)| topic.to_string()).collect();
    assert_eq!(open, ["dead"]);
    let refused = guarded.append(append_to("dead")).await.outcomes;
    assert_eq!(refused.len(), 2, "each record has its answer");
    let refused = refused[1].as_ref().expect_err("it is open");
    assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Unavailable, Effect::None));
    advance(LOG.probe_first).await;
    guarded.append(append_to("dead")).await;
    assert_eq!(taken.load(Ordering::Relaxed), 31 + LOG.connects as usize, "it is probed");
}
