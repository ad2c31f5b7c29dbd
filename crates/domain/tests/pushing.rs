//! Subscriptions that push, over the reference model and paused time: who holds what across crashes and
//! stops, and what counts as an attempt.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    ErrorCode, Limits,
    push::NewPush,
    subscriptions::{
        DeliveryConfig, HandlerOptions, NewSubscription, State, SubscriptionPorts, Subscriptions,
    },
    topics::{TopicDefaults, Topics},
};
use parking_lot::Mutex;
use ports::{
    AppendRequest, Claim, ClaimKey, ClaimRequest, Clock, Committed, ErrorKind, GroupId, Header,
    IdempotencyStore, MockEventHandler, OffsetCommit, OffsetStore, PortError, Record, Result, Settled,
    Settlement, Token, TopicName, TopicPartition, TopicSpec, WebhookRequest, WebhookResponse, Webhooks,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use testkit::clock::TestClock;

const NAME: &str = "mail";

/// What a process writes by; once it is dead, nothing that it does has an effect.
#[derive(Debug)]
struct Mortal<S: ?Sized> {
    dead: Arc<AtomicBool>,
    inner: Arc<S>,
}

impl<S: ?Sized> Mortal<S> {
    fn alive(&self) -> Result<()> {
        let dead = || PortError::new(ErrorKind::Unavailable, "writing", "the process was killed");
        (!self.dead.load(SeqCst)).then_some(()).ok_or_else(dead)
    }
}

#[async_trait]
impl OffsetStore for Mortal<dyn OffsetStore> {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        if self.alive().is_err() {
            return commits.iter().map(|_| self.alive()).collect();
        }
        self.inner.commit(group, commits).await
    }

    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        self.inner.committed(group, of).await
    }

    async fn delete(&self, group: &GroupId) -> Result<()> {
        self.inner.delete(group).await
    }
}

#[async_trait]
impl IdempotencyStore for Mortal<dyn IdempotencyStore> {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        self.alive()?;
        self.inner.claim(requests).await
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        self.alive()?;
        self.inner.settle(settlements).await
    }
}

/// A webhook that answers with a status, or, without one, not at all.
#[derive(Debug, Default)]
struct Hook {
    status: Mutex<Option<u16>>,
    retry_after: Option<String>,
    /// The id and the attempt of each request.
    posts: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl Webhooks for Hook {
    fn check(&self, _url: &str) -> Result<()> {
        Ok(())
    }

    async fn post(&self, request: WebhookRequest) -> Result<WebhookResponse> {
        let header = |name: &str| {
            let found = request.headers.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        self.posts.lock().push((header("ce-id"), header("es-attempt")));
        let Some(status) = *self.status.lock() else { return std::future::pending().await };
        Ok(WebhookResponse { status, retry_after: self.retry_after.clone(), body: Bytes::new() })
    }
}

impl Hook {
    fn answering(status: Option<u16>) -> Arc<Self> {
        Arc::new(Self { status: Mutex::new(status), ..Self::default() })
    }

    fn posts(&self) -> Vec<(String, String)> {
        let mut posts = self.posts.lock().clone();
        posts.sort();
        posts
    }
}

struct World {
    memory: Memory,
    clock: Arc<dyn Clock>,
}

struct Process {
    subscriptions: Arc<Subscriptions>,
    dead: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
}

impl World {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let spec = TopicSpec {
            name: TopicName::new("orders").unwrap(),
            partitions: 1,
            replication_factor: None,
            config: BTreeMap::new(),
        };
        memory.admin().create(spec).await.unwrap();
        Self { memory, clock }
    }

    async fn publish(&self, ids: &[&str]) {
        let header = |name: &str, value: &str| Header {
            name: name.into(),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        };
        let record = |id: &&str| Record {
            headers: vec![header("ce_id", id), header("ce_source", "/test")],
            value: Some(Bytes::from_static(b"{}")),
            ..Record::default()
        };
        let request = AppendRequest {
            topic: TopicName::new("orders").unwrap(),
            records: ids.iter().map(|id| (0, record(id))).collect(),
            timeout: Duration::from_secs(1),
        };
        self.memory.log().append(request).await.outcomes.into_iter().for_each(|outcome| _ = outcome.unwrap());
    }

    async fn process(&self, hook: Option<&Arc<Hook>>) -> Process {
        let dead = Arc::new(AtomicBool::new(false));
        let limits = Arc::new(Limits::default());
        let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
        let (log, clock) = (self.memory.log(), self.clock.clone());
        let topics = Topics::new(self.memory.admin(), log.clone(), clock.clone(), limits.clone(), defaults);
        let ports = SubscriptionPorts {
            log,
            membership: self.memory.membership(),
            offsets: Arc::new(Mortal { dead: dead.clone(), inner: self.memory.offsets() }),
            jobs: self.memory.jobs(),
            idempotency: Arc::new(Mortal { dead: dead.clone(), inner: self.memory.idempotency() }),
            clock: clock.clone(),
        };
        let webhooks = hook.map(|hook| hook.clone() as Arc<dyn Webhooks>);
        let config = DeliveryConfig::default();
        let subscriptions = Subscriptions::with_webhooks(ports, topics, limits, config, webhooks);
        subscriptions.start().await.unwrap();
        Process { subscriptions, dead, clock }
    }
}

impl Process {
    async fn create(&self, change: impl FnOnce(&mut NewSubscription)) {
        let mut new = definition();
        change(&mut new);
        self.subscriptions.create(new).await.unwrap();
    }

    /// As kill -9 does: nothing is given back.
    async fn kill(self) {
        self.dead.store(true, SeqCst);
        self.subscriptions.shutdown(self.clock.monotonic()).await;
    }

    async fn lag(&self) -> u64 {
        self.subscriptions.get(NAME).await.unwrap().lag
    }
}

/// One attempt is all that there is.
fn definition() -> NewSubscription {
    let mut new = NewSubscription {
        name: NAME.into(),
        topics: vec!["orders".into()],
        ordering: Some("none".into()),
        delivery_mode: Some("push".into()),
        push: NewPush {
            url: Some("https://example.com/hook".into()),
            timeout: Some("5m".into()),
            ..NewPush::default()
        },
        ..NewSubscription::default()
    };
    new.retry.max_retries = Some(0);
    new
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn first(ids: &[&str]) -> Vec<(String, String)> {
    ids.iter().map(|id| ((*id).to_owned(), "1".to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_cut_off_comes_at_once_and_counts_no_attempt() {
    let world = World::new().await;
    world.publish(&["a", "b", "c"]).await;
    let silent = Hook::answering(None);
    let mut process = world.process(Some(&silent)).await;
    process.create(|_| {}).await;
    for life in 1..=4 {
        pass(2).await;
        assert_eq!(silent.posts().len(), 3 * life, "at once, though the claims of before have not ended");
        process.kill().await;
        process = world.process(Some(&silent)).await;
    }
    process.kill().await;
    // Nor when the claims have ended by the time somebody is there again.
    pass(3600).await;
    let hook = Hook::answering(Some(200));
    let process = world.process(Some(&hook)).await;
    pass(2).await;
    assert_eq!((hook.posts(), process.lag().await), (first(&["a", "b", "c"]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_this_process_is_not_taken_over_by_another_copy_of_the_event() {
    let world = World::new().await;
    world.publish(&["a", "a"]).await;
    let silent = Hook::answering(None);
    let process = world.process(Some(&silent)).await;
    process.create(|_| {}).await;
    pass(2).await;
    assert_eq!(silent.posts().len(), 1, "the other copy waits");
    process.kill().await;
    let process = world.process(Some(&silent)).await;
    pass(60).await;
    assert_eq!(silent.posts().len(), 2, "and waits on, whoever handles the first");
    assert_eq!(process.lag().await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_cuts_off_is_handed_back_and_counts_no_attempt() {
    let world = World::new().await;
    world.publish(&["a", "b"]).await;
    let silent = Hook::answering(None);
    let process = world.process(Some(&silent)).await;
    process.create(|_| {}).await;
    pass(2).await;
    let until = world.clock.monotonic() + Duration::from_secs(5);
    process.subscriptions.shutdown(until).await;
    assert!(world.clock.monotonic() <= until, "what is under way is cut off in time");
    let hook = Hook::answering(Some(200));
    let process = world.process(Some(&hook)).await;
    pass(2).await;
    assert_eq!((hook.posts(), process.lag().await), (first(&["a", "b"]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_what_is_under_way() {
    let world = World::new().await;
    world.publish(&["a"]).await;
    let silent = Hook::answering(None);
    let process = world.process(Some(&silent)).await;
    process.create(|_| {}).await;
    pass(2).await;
    process.subscriptions.delete(NAME).await.unwrap();
    assert_eq!(Arc::strong_count(&silent), 2, "the test and the subscriptions have it, and no request");
    process.create(|_| {}).await;
    pass(2).await;
    assert_eq!(silent.posts().len(), 2, "the name begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_gone_is_asked_no_more() {
    let world = World::new().await;
    world.publish(&["a", "b", "c", "d"]).await;
    let gone = Hook::answering(Some(410));
    let process = world.process(Some(&gone)).await;
    process.create(|new| new.push.concurrency = Some(2)).await;
    pass(100).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Paused, "handler-gone"));
    assert!(gone.posts().len() <= 2, "but by what was under way");
    *gone.status.lock() = Some(200);
    process.subscriptions.resume(NAME).await.unwrap();
    pass(2).await;
    assert_eq!(process.lag().await, 0);
    assert!(gone.posts().iter().all(|(_, attempt)| attempt == "1"), "it counts no attempt");
}

#[tokio::test(start_paused = true)]
async fn while_the_circuit_is_open_an_event_waits_as_long_as_it_is_asked_to_at_most_max_delay() {
    let world = World::new().await;
    let ids: Vec<String> = (10..30).map(|n| n.to_string()).collect();
    world.publish(&ids.iter().map(|id| &**id).collect::<Vec<_>>()).await;
    let hook = Arc::new(Hook {
        status: Mutex::new(Some(503)),
        retry_after: Some("86400".to_owned()),
        ..Hook::default()
    });
    let process = world.process(Some(&hook)).await;
    process
        .create(|new| {
            new.retry.max_retries = Some(3);
            new.retry.initial_delay = Some("1s".into());
            new.retry.max_delay = Some("2m".into());
        })
        .await;
    pass(60).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::CircuitOpen, "circuit-open"));
    assert!(view.causes[0].detail.contains("http-503"), "{}", view.causes[0].detail);
    let posts = hook.posts();
    let mut once = posts.clone();
    once.dedup_by(|one, other| one.0 == other.0);
    assert_eq!(posts.len(), once.len(), "none is sent again before its time: {posts:?}");
    *hook.status.lock() = Some(200);
    pass(300).await;
    assert_eq!(process.lag().await, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_gets_what_is_pushed() {
    let world = World::new().await;
    let hook = Hook::answering(Some(200));
    let process = world.process(Some(&hook)).await;
    process.create(|_| {}).await;
    let refused = process.subscriptions.pull(NAME, None, None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    let handler = Arc::new(MockEventHandler::new());
    let refused = process.subscriptions.handle(NAME, handler, HandlerOptions::default()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn without_webhooks_a_push_is_refused_and_a_stored_one_says_so() {
    let world = World::new().await;
    world.publish(&["a"]).await;
    let process = world.process(None).await;
    let refused = process.subscriptions.create(definition()).await.unwrap_err();
    assert_eq!((refused.code(), &*refused.fields()[0].field), (ErrorCode::NotSupported, "delivery.mode"));
    let hook = Hook::answering(None);
    world.process(Some(&hook)).await.create(|_| {}).await;
    let process = world.process(None).await;
    pass(2).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Degraded, "handler-missing"));
}
