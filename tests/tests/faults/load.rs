//! Publishers and consumers of one topic and one subscription, and the service between them, which may be
//! killed and started again under them.

use crate::ledger::{Ledger, number};
use event_streaming_tests::{Client, Log, Server, Service, Setup, unique};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// How long what is waited for may take; far above what it takes. The longest is a dead letter whose append was
/// cut off by a kill: its claim has a minute to end, as another process might still be at it.
const DRAIN_MAX: Duration = Duration::from_mins(2);
/// Every so manieth event fails whoever has it.
const POISON: u64 = 97;

/// Where claims are kept.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// In the data directory.
    Embedded,
    /// On a Redis.
    Redis(Arc<Server>),
    /// On a PostgreSQL.
    Postgres(Arc<Server>),
}

impl Store {
    /// The name of its circuit.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
        }
    }

    /// A service on `log` with its claims here.
    pub(crate) fn setup(&self, log: &Log) -> Setup {
        let setup = Setup::on(log).set("event-streaming.idempotency.backend", self.name());
        match self {
            Self::Embedded => setup,
            Self::Redis(server) => {
                let url = reqwest::Url::parse(&server.address).expect("a URL");
                setup
                    .set("redis.host", url.host_str().expect("a host"))
                    .set("redis.port", &url.port().unwrap_or(6379).to_string())
                    .set("redis.database", url.path().trim_start_matches('/'))
                    .set("redis.key-prefix", &format!("{}:", unique("faults")))
            }
            Self::Postgres(server) => {
                setup.set("postgres.url", &server.address).set("postgres.schema", "event_streaming_faults")
            }
        }
    }
}

/// What a consumer does with what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// Acknowledges all but poison.
    Acknowledges,
    /// Lets one in ten be tried again.
    Fails,
    /// Never says anything about one in ten.
    Forgets,
}

/// Numbers by chance, the same ones from the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// From `FAULTS_SEED` where it is given, so that a run can be played again, as far as processes can be.
    pub(crate) fn seeded(seed: u64) -> Self {
        let given =
            std::env::var("FAULTS_SEED").ok().map(|seed| seed.parse().expect("FAULTS_SEED is a number"));
        let seed = given.unwrap_or(seed);
        println!("by chance from FAULTS_SEED={seed}");
        Self(seed)
    }

    /// Another sequence, of its own.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }

    /// Below `end`, by `SplitMix64`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// Waits for less than `max_ms`.
    async fn pause(&mut self, max_ms: u64) {
        sleep(Duration::from_millis(self.below(max_ms))).await;
    }
}

/// What publishers and consumers share.
#[derive(Debug)]
struct Shared {
    client: watch::Receiver<Client>,
    topic: String,
    name: String,
    ledger: Ledger,
    next: AtomicU64,
    publishing: AtomicBool,
    consuming: AtomicBool,
}

/// A service under load.
#[derive(Debug)]
pub(crate) struct World {
    setup: Setup,
    service: Option<Service>,
    to_client: watch::Sender<Client>,
    shared: Arc<Shared>,
    publishers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
    data: TempDir,
}

impl World {
    /// Starts the service, a topic of three partitions and a subscription in key order; `more` is laid over
    /// its definition.
    pub(crate) async fn new(setup: Setup, more: &Value) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let service = setup.start(data.path()).await;
        let client = service.client();
        let (topic, name) = (unique("faults"), unique("sub"));
        client.create_topic(&topic, 3).await;
        client.subscribe(&name, &topic, more).await;
        let (to_client, client) = watch::channel(client);
        let shared = Shared {
            client,
            topic,
            name,
            ledger: Ledger::default(),
            next: AtomicU64::new(1),
            publishing: AtomicBool::new(true),
            consuming: AtomicBool::new(true),
        };
        Self {
            setup,
            service: Some(service),
            to_client,
            shared: Arc::new(shared),
            publishers: Vec::new(),
            consumers: Vec::new(),
            data,
        }
    }

    /// Begins to publish, from so many publishers with three keys each.
    pub(crate) fn publish(&mut self, publishers: u64, chance: &mut Chance) {
        let start = |number| tokio::spawn(publish(self.shared.clone(), number, chance.fork()));
        self.publishers.extend((0..publishers).map(start));
    }

    /// Begins to consume, one consumer a habit.
    pub(crate) fn consume(&mut self, habits: &[Habit], chance: &mut Chance) {
        let start = |habit: &Habit| tokio::spawn(consume(self.shared.clone(), *habit, chance.fork()));
        self.consumers.extend(habits.iter().map(start));
    }

    /// What was seen.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Reaches the service that there is now.
    pub(crate) fn client(&self) -> Client {
        self.shared.client()
    }

    /// The codes of what is wrong with the subscription, as it says itself.
    pub(crate) async fn causes(&self) -> Vec<String> {
        let view = self.client().get(&format!("/v1/subscriptions/{}", self.shared.name)).await.expect(200);
        let causes = view["causes"].as_array().into_iter().flatten();
        causes.map(|cause| cause["code"].as_str().expect("a code").to_owned()).collect()
    }

    /// SIGKILL, and another process on the same data.
    pub(crate) async fn kill(&mut self) {
        self.service.take().expect("it runs").kill().await;
        let service = self.setup.start(self.data.path()).await;
        self.to_client.send_replace(service.client());
        self.service = Some(service);
    }

    /// Waits until so many more events were acknowledged than now.
    pub(crate) async fn goes_on(&self, more: usize) {
        let goal = self.ledger().done_count() + more;
        self.until("consuming goes on", async || self.ledger().done_count() >= goal).await;
    }

    /// Waits until so many more events were published than now.
    pub(crate) async fn publishes_more(&self, more: usize) {
        let goal = self.ledger().published_count() + more;
        self.until("publishing goes on", async || self.ledger().published_count() >= goal).await;
    }

    /// Waits until each partition of the topic is on so many replicas that are in sync.
    pub(crate) async fn is_in_sync(&self, replicas: usize) {
        let path = format!("/v1/topics/{}", self.shared.topic);
        self.until("all replicas are in sync", async || {
            let topic = self.client().get(&path).await.body;
            let partitions = topic["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_full = |partition: &Value| {
                partition["inSyncReplicas"].as_array().is_some_and(|in_sync| in_sync.len() == replicas)
            };
            !partitions.is_empty() && partitions.iter().all(is_full)
        })
        .await;
    }

    /// Waits for a condition as long as servers may take that begin anew on a busy machine.
    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            if began.elapsed() > DRAIN_MAX {
                let path = format!("/v1/subscriptions/{}", self.shared.name);
                panic!(
                    "not within {DRAIN_MAX:?}: {what}; the subscription: {}",
                    self.client().get(&path).await.body
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends publishing, waits until all that was published is decided, and holds what was seen against what
    /// is promised: also that nothing of it comes once more, from a process that begins anew.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) async fn ends_well(mut self) {
        self.shared.publishing.store(false, Relaxed);
        for publisher in self.publishers.drain(..) {
            publisher.await.expect("a publisher does not panic");
        }
        let began = Instant::now();
        let mut dead = self.dead_letters().await;
        while !self.ledger().undone().is_subset(&dead) {
            let left: Vec<_> = self.ledger().undone().difference(&dead).copied().collect();
            if began.elapsed() > DRAIN_MAX {
                let view = self.client().get(&format!("/v1/subscriptions/{}", self.shared.name)).await;
                panic!("not decided after {DRAIN_MAX:?}: {left:?}; the subscription: {}", view.body);
            }
            sleep(Duration::from_millis(200)).await;
            if left.len() < 100 {
                dead = self.dead_letters().await;
            }
        }
        println!(
            "published {}, acknowledged {}, dead letters {}, deliveries {}, decided {:.1} s after the last",
            self.ledger().published_count(),
            self.ledger().done_count(),
            dead.len(),
            self.ledger().deliveries_count(),
            began.elapsed().as_secs_f64(),
        );
        self.shared.consuming.store(false, Relaxed);
        for consumer in self.consumers.drain(..) {
            consumer.await.expect("a consumer does not panic");
        }
        self.kill().await;
        let out = self.client().pull(&self.shared.name, 1000, "2s").await;
        self.ledger().delivered(&out);
        let faults = self.ledger().faults(&self.dead_letters().await);
        assert!(faults.is_empty(), "{faults:#?}");
    }

    async fn dead_letters(&self) -> BTreeSet<u64> {
        let topic = format!("{}.dlq", self.shared.name);
        let client = self.client();
        if client.get(&format!("/v1/topics/{topic}")).await.status != 200 {
            return BTreeSet::new();
        }
        let letters = client.browse_all(&topic).await;
        letters.iter().map(|letter| letter["data"].as_u64().expect("a number")).collect()
    }
}

impl Shared {
    fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// POST to the service that there is now; `None` when it is cut off or refuses, after a moment.
    async fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let client = self.client();
        let answer = client.try_send(client.request(reqwest::Method::POST, path).json(body)).await;
        match answer {
            Some(answer) if answer.status.is_success() => Some(answer.body),
            _ => {
                sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

/// Publishes one batch after another; what was not answered is not published again, as it may be there.
async fn publish(it: Arc<Shared>, publisher: u64, mut chance: Chance) {
    let path = format!("/v1/topics/{}/events", it.topic);
    while it.publishing.load(Relaxed) {
        let numbers: Vec<u64> = (0..=chance.below(8)).map(|_| it.next.fetch_add(1, Relaxed)).collect();
        let event = |n: &u64| json!({"key": format!("{publisher}-{}", n % 3), "data": n});
        let events: Vec<Value> = numbers.iter().map(event).collect();
        if let Some(body) = it.post(&path, &json!({"events": events})).await {
            let results = body["results"].as_array().expect("results");
            assert_eq!(results.len(), numbers.len());
            let taken = numbers.iter().zip(results).filter(|(_, result)| result["error"].is_null());
            it.ledger.published(taken.map(|(number, _)| *number));
        }
        chance.pause(800).await;
    }
}

/// Pulls, takes some time, decides, and says it until it is answered.
async fn consume(it: Arc<Shared>, habit: Habit, mut chance: Chance) {
    let path = format!("/v1/subscriptions/{}/pull", it.name);
    while it.consuming.load(Relaxed) {
        let max = 1 + chance.below(20);
        let Some(body) = it.post(&path, &json!({"max": max, "wait": "500ms"})).await else { continue };
        let deliveries = body["deliveries"].as_array().expect("deliveries");
        it.ledger.delivered(deliveries);
        chance.pause(30).await;
        let mut decided = Vec::new();
        for delivery in deliveries {
            let one_in_ten = chance.below(10) == 0;
            let fails =
                number(delivery).is_multiple_of(POISON) || (one_in_ten && matches!(habit, Habit::Fails));
            if fails || !one_in_ten || !matches!(habit, Habit::Forgets) {
                let lease = delivery["ackId"].as_str().expect("a lease").to_owned();
                decided.push(Decided { lease, event: number(delivery), fails });
            }
        }
        say(&it, decided).await;
    }
}

struct Decided {
    lease: String,
    event: u64,
    fails: bool,
}

/// Says decisions to whichever process there is until each has an answer.
async fn say(it: &Shared, mut decided: Vec<Decided>) {
    let path = format!("/v1/subscriptions/{}/ack", it.name);
    let began = Instant::now();
    while !decided.is_empty() {
        assert!(began.elapsed() < DRAIN_MAX, "{} decisions find no answer", decided.len());
        let (retry, ack): (Vec<_>, Vec<_>) = decided.iter().partition(|one| one.fails);
        let ack: Vec<_> = ack.iter().map(|one| &one.lease).collect();
        let retry: Vec<_> =
            retry.iter().map(|one| json!({"ackId": one.lease, "reason": "it fails"})).collect();
        it.ledger.says(decided.iter().map(|one| one.lease.as_str()));
        let Some(body) = it.post(&path, &json!({"ack": ack, "retry": retry})).await else { continue };
        let results = body["results"].as_array().expect("results");
        assert_eq!(results.len(), decided.len(), "{body}");
        for result in results {
            let (lease, status) =
                (result["ackId"].as_str().expect("a lease"), result["status"].as_str().expect("a status"));
            if status == "unavailable" {
                continue;
            }
            let at = decided.iter().position(|one| one.lease == lease).expect("a lease that was said");
            let one = decided.swap_remove(at);
            if !one.fails {
                it.ledger.answered(&one.lease, one.event, status);
            }
        }
        if !decided.is_empty() {
            sleep(Duration::from_millis(200)).await;
        }
    }
}
