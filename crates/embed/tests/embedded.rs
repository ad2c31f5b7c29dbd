//! The service inside an application, on the embedded log.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

#[path = "../examples/orders.rs"]
mod orders;

use adapters_embedded::{SystemClock, memory::MemoryIdempotency};
use event_streaming::{
    Delivered, ErrorCode, Handler, HandlerError, HandlerOptions, Json, NewSubscription, Service, each,
    json_event,
};
use ports::{Claim, ClaimKey, ClaimRequest, IdempotencyStore, Settled, Settlement, Token};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

const PATIENCE: Duration = Duration::from_secs(30);

/// Tells what it is given, and waits until it may go on.
struct Telling {
    tell: mpsc::UnboundedSender<u32>,
    go_on: watch::Receiver<bool>,
}

impl Handler for Telling {
    type Event = u32;

    async fn handle(&self, number: Delivered<u32>) -> Result<(), HandlerError> {
        self.tell.send(number.data)?;
        self.go_on.clone().wait_for(|go_on| *go_on).await?;
        Ok(())
    }
}

/// A handler, what it tells, and what lets it go on.
fn telling(go_on: bool) -> (Telling, mpsc::UnboundedReceiver<u32>, watch::Sender<bool>) {
    let (tell, told) = mpsc::unbounded_channel();
    let (may, go_on) = watch::channel(go_on);
    (Telling { tell, go_on }, told, may)
}

async fn start(data: &Path) -> Service {
    let service = Service::builder().embedded(data).start().await.unwrap();
    service.ensure_topic("numbers", 1).await.unwrap();
    service
}

fn subscription() -> NewSubscription {
    NewSubscription { name: "sum".into(), topics: vec!["numbers".into()], ..NewSubscription::default() }
}

async fn publish(service: &Service, number: u32) {
    let event = json_event("number", "n", &number).unwrap();
    service.publish("numbers", [event]).await.unwrap().remove(0).unwrap();
}

async fn next(told: &mut mpsc::UnboundedReceiver<u32>) -> u32 {
    tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_books_each_order_once_in_its_customers_order() {
    let folder = tempfile::tempdir().unwrap();
    let booked = tokio::time::timeout(PATIENCE, orders::run(folder.path())).await.unwrap().unwrap();
    assert!(booked.stopped);
    assert_eq!(booked.by_customer.len(), 10);
    for (customer, orders) in &booked.by_customer {
        assert!(orders.is_sorted_by(|a, b| a < b), "{customer}: {orders:?}");
        assert_eq!(orders.len(), if customer == "customer-0" { 9 } else { 10 }, "{customer}: {orders:?}");
    }
    let counts = booked.counts;
    assert_eq!((counts.acknowledged, counts.retried, counts.rejected, counts.undecodable), (99, 10, 3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_handlers_finish_and_the_next_start_goes_on_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path()).await;
    let (handler, mut told, go_on) = telling(false);
    service.handle(subscription(), each(Json, handler)).await.unwrap();
    publish(&service, 1).await;
    assert_eq!(next(&mut told).await, 1);
    let stopping = tokio::spawn(service.shutdown());
    go_on.send(true).unwrap();
    assert!(stopping.await.unwrap(), "the handler has finished, and so has the stop");

    let service = start(folder.path()).await;
    publish(&service, 2).await;
    let (handler, mut told, _go_on) = telling(true);
    let view = service.handle(subscription(), each(Json, handler)).await.unwrap();
    assert_eq!(view.definition.name.as_str(), "sum");
    assert_eq!(next(&mut told).await, 2, "what was done does not come again");
    assert!(service.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_outlasts_the_drain_is_cut_off_and_its_event_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder().embedded(folder.path());
    let service = builder.stop_within(Duration::from_millis(50), PATIENCE).start().await.unwrap();
    service.ensure_topic("numbers", 1).await.unwrap();
    let (handler, mut told, _go_on) = telling(false);
    service.handle(subscription(), each(Json, handler)).await.unwrap();
    publish(&service, 1).await;
    assert_eq!(next(&mut told).await, 1);
    assert!(service.shutdown().await);

    let service = start(folder.path()).await;
    let (handler, mut told, _go_on) = telling(true);
    service.handle(subscription(), each(Json, handler)).await.unwrap();
    assert_eq!(next(&mut told).await, 1);
    assert!(service.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_handler_takes_the_place_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path()).await;
    let (first, mut told_first, _go_on) = telling(true);
    service.handle(subscription(), each(Json, first)).await.unwrap();
    publish(&service, 1).await;
    assert_eq!(next(&mut told_first).await, 1);
    let (second, mut told, _go_on) = telling(true);
    let options = HandlerOptions { concurrency: 1, ..HandlerOptions::default() };
    service.handle_with(subscription(), each(Json, Arc::new(second)), options).await.unwrap();
    publish(&service, 2).await;
    assert_eq!(next(&mut told).await, 2);
    assert_eq!(told_first.recv().await, None, "it is gone, and was told nothing more");
    assert!(service.shutdown().await);
}

/// Counts what is asked of the store inside.
#[derive(Debug)]
struct Counted {
    inner: MemoryIdempotency,
    claimed: AtomicUsize,
    completed: AtomicUsize,
}

#[async_trait::async_trait]
impl IdempotencyStore for Counted {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> ports::Result<Vec<Claim>> {
        self.claimed.fetch_add(requests.len(), Ordering::Relaxed);
        self.inner.claim(requests).await
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> ports::Result<Vec<Settled>> {
        let completed = settlements.iter().filter(|(_, _, of)| matches!(of, Settlement::Complete { .. }));
        self.completed.fetch_add(completed.count(), Ordering::Relaxed);
        self.inner.settle(settlements).await
    }
}

// An application whose replicas share a log must share claims too, and the directory is each one's own.
#[tokio::test(flavor = "multi_thread")]
async fn claims_are_kept_in_the_store_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let inner = MemoryIdempotency::new(Arc::new(SystemClock::new()));
    let store = Arc::new(Counted { inner, claimed: AtomicUsize::new(0), completed: AtomicUsize::new(0) });
    let service = Service::builder().embedded(folder.path()).claims(store.clone()).start().await.unwrap();
    service.ensure_topic("numbers", 1).await.unwrap();
    let (handler, mut told, _go_on) = telling(true);
    service.handle(subscription(), each(Json, handler)).await.unwrap();
    publish(&service, 1).await;
    assert_eq!(next(&mut told).await, 1);
    assert!(service.shutdown().await);
    assert_eq!((store.claimed.load(Ordering::Relaxed), store.completed.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_right_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path()).await;
    service.ensure_topic("numbers", 5).await.unwrap();
    assert_eq!(service.topics().get("numbers").await.unwrap().partitions.len(), 1, "it stays as it is");
    let unknown = service.publish("letters", [json_event("letter", "a", &1).unwrap()]).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::TopicNotFound);
    let mut nowhere = subscription();
    nowhere.topics = vec!["letters".into()];
    let (handler, _told, _go_on) = telling(true);
    let unknown = service.handle(nowhere, each(Json, handler)).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::TopicNotFound);
    let taken = Service::builder().embedded(folder.path()).start().await.unwrap_err();
    assert_eq!(taken.code(), ErrorCode::Unavailable);
    assert!(taken.to_string().contains(&*folder.path().to_string_lossy()), "{taken}");
    assert!(service.shutdown().await);
}
