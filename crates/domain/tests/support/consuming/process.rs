//! A process: what its clients say, and how it ends.

use super::{NAME, WAIT, definition, ids, numbers};
use domain::{
    delivery::Status,
    subscriptions::{
        AckRequest, NewSubscription, PulledDelivery, RetryItem, SubscriptionView, Subscriptions,
    },
};
use ports::Clock;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

pub(crate) struct Process {
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(super) dead: Arc<AtomicBool>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Process {
    pub(crate) async fn create(&self, change: impl FnOnce(&mut NewSubscription)) {
        let mut new = definition();
        change(&mut new);
        self.subscriptions.create(new).await.unwrap();
    }

    pub(crate) async fn pull(&self, max: i64) -> Vec<PulledDelivery> {
        self.pull_from(NAME, max).await
    }

    pub(crate) async fn pull_from(&self, name: &str, max: i64) -> Vec<PulledDelivery> {
        self.subscriptions.pull(name, Some(max), WAIT).await.unwrap().deliveries
    }

    /// Pulls until so many have come.
    pub(crate) async fn pull_all(&self, count: usize) -> Vec<PulledDelivery> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.pull((count - all.len()) as i64).await;
            assert!(!more.is_empty(), "only {} of {count} came", all.len());
            all.extend(more);
        }
        all
    }

    pub(crate) async fn decide(&self, request: AckRequest) -> Vec<Status> {
        self.decide_at(NAME, request).await
    }

    pub(crate) async fn decide_at(&self, name: &str, request: AckRequest) -> Vec<Status> {
        let answered = self.subscriptions.acknowledge(name, request).await.unwrap();
        answered.into_iter().map(|(_, status)| status).collect()
    }

    pub(crate) async fn ack(&self, deliveries: &[PulledDelivery]) {
        self.ack_at(NAME, deliveries).await;
    }

    pub(crate) async fn ack_at(&self, name: &str, deliveries: &[PulledDelivery]) {
        let request = AckRequest { ack: ids(deliveries), ..AckRequest::default() };
        let statuses = self.decide_at(name, request).await;
        assert!(statuses.iter().all(|status| *status == Status::Ok), "{statuses:?}");
    }

    /// Fails these deliveries, for the policy's delay or one that is asked for.
    pub(crate) async fn fail(&self, deliveries: &[PulledDelivery], after: Option<Duration>) {
        self.fail_at(NAME, deliveries, after).await;
    }

    pub(crate) async fn fail_at(&self, name: &str, deliveries: &[PulledDelivery], after: Option<Duration>) {
        let retry = |id| RetryItem { ack_id: id, after, reason: Some("it says no".into()) };
        let retry = ids(deliveries).into_iter().map(retry).collect();
        let statuses = self.decide_at(name, AckRequest { retry, ..AckRequest::default() }).await;
        assert!(statuses.iter().all(|status| *status == Status::Ok), "{statuses:?}");
    }

    pub(crate) async fn nothing_comes(&self) {
        let came = numbers(&self.pull(1000).await);
        assert!(came.is_empty(), "{came:?} came again");
    }

    pub(crate) async fn view(&self) -> SubscriptionView {
        self.subscriptions.get(NAME).await.unwrap()
    }

    pub(crate) async fn lag(&self) -> u64 {
        self.view().await.lag
    }

    pub(crate) async fn stop(self) {
        self.subscriptions.shutdown(self.clock.monotonic()).await;
    }

    /// Ends the process as kill -9 does: what it has not committed is forgotten, and nothing is given back.
    pub(crate) async fn kill(self) {
        self.dead.store(true, SeqCst);
        self.subscriptions.shutdown(self.clock.monotonic()).await;
    }
}
