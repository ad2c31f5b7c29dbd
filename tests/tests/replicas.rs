//! Two replicas of the service over one Kafka, with their state and claims on one Redis or PostgreSQL: they share
//! subscriptions, and what one had out is decided at the other when it is gone.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Server, Service, Setup, eventually, unique};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{sync::Mutex, task::JoinHandle, time::Instant};

/// Between one attempt and the next.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Where replicas keep what they share: a place of their own on a real server.
struct Shared {
    name: &'static str,
    settings: Vec<(&'static str, String)>,
    _server: Arc<Server>,
}

impl Shared {
    async fn redis() -> Self {
        let server = event_streaming_tests::redis().await;
        let url = reqwest::Url::parse(&server.address).expect("a URL");
        let settings = vec![
            ("redis.host", url.host_str().expect("a host").to_owned()),
            ("redis.port", url.port().unwrap_or(6379).to_string()),
            ("redis.database", url.path().trim_start_matches('/').to_owned()),
            ("redis.key-prefix", format!("{}:", unique("replicas"))),
        ];
        Self { name: "redis", settings, _server: server }
    }

    async fn postgres() -> Self {
        let server = event_streaming_tests::postgres().await;
        let settings = vec![
            ("postgres.url", server.address.clone()),
            ("postgres.schema", unique("r").replace('-', "_")),
        ];
        Self { name: "postgres", settings, _server: server }
    }
}

macro_rules! on_every_state {
    ($($name:ident),+ $(,)?) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Shared::redis().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Shared::postgres().await).await;
            })+
        }
    };
}

on_every_state!(
    what_is_changed_at_one_replica_is_so_at_the_other,
    a_killed_replicas_share_goes_on_at_the_other_with_nothing_lost_doubled_or_out_of_order,
    a_replica_that_is_stopped_under_load_hands_its_share_on,
    a_replay_whose_replica_dies_is_completed_by_the_other_and_repeats_a_batch_at_most,
);

struct Replicas {
    services: [Service; 2],
    clients: [Client; 2],
    data: [TempDir; 2],
    topic: String,
    name: String,
}

impl Replicas {
    /// Two, and a subscription that was made at the first.
    async fn start(shared: &Shared, partitions: u32) -> Self {
        let log = Log::kafka().await;
        let data = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let setup = Setup::on(&log)
            .set("state.backend", shared.name)
            .set("kafka.session-timeout", "6s")
            .set("delivery.drain-timeout", "2s");
        let setup = shared.settings.iter().fold(setup, |setup, (key, value)| setup.set(key, value));
        let services: [Service; 2] =
            tokio::join!(setup.start(data[0].path()), setup.start(data[1].path())).into();
        for service in &services {
            let line = service.ready_line();
            let said = format!(" log=kafka state={0} idempotency={0} ", shared.name);
            assert!(line.contains(&said), "{line}");
        }
        let clients = [0, 1].map(|nth: usize| services[nth].client());
        let (topic, name) = (unique("replicas"), unique("sub"));
        clients[0].create_topic(&topic, partitions).await;
        clients[0].subscribe(&name, &topic, &json!({"ackTimeout": "10s"})).await;
        let it = Self { services, clients, data, topic, name };
        it.becomes(1, "the subscription is known", |found| found.is_some()).await;
        it
    }

    /// Waits until the subscription is so at a replica.
    async fn becomes(&self, replica: usize, what: &str, is: impl Fn(Option<&Value>) -> bool) {
        let path = format!("/v1/subscriptions/{}", self.name);
        eventually(what, async || {
            let answer = self.clients[replica].get(&path).await;
            is((answer.status == 200).then_some(&answer.body)).then_some(())
        })
        .await;
    }

    /// Publishes some numbers, each with one of 32 keys, by both replicas in turn.
    async fn publish(&self, numbers: std::ops::Range<i64>) {
        let numbers: Vec<_> = numbers.collect();
        for (nth, batch) in numbers.chunks(50).enumerate() {
            self.clients[nth % 2].publish_batch(&self.topic, &events(batch)).await;
        }
    }
}

fn events(numbers: &[i64]) -> Vec<Value> {
    numbers.iter().map(|n| json!({"key": key(*n), "data": n})).collect()
}

fn key(number: i64) -> String {
    format!("k{}", number % 32)
}

fn number(delivery: &Value) -> i64 {
    delivery["event"]["data"].as_i64().expect("a number")
}

async fn what_is_changed_at_one_replica_is_so_at_the_other(shared: Shared) {
    let it = Replicas::start(&shared, 2).await;
    let path = |what: &str| format!("/v1/subscriptions/{}{what}", it.name);
    it.clients[1].post(&path("/pause"), &json!({})).await.expect(200);
    it.becomes(0, "it is paused", |found| found.is_some_and(|it| it["state"] == "paused")).await;
    it.publish(0..20).await;
    for client in &it.clients {
        assert_eq!(client.pull(&it.name, 100, "1s").await, Vec::<Value>::new(), "it is paused at both");
    }
    it.clients[0].post(&path("/resume"), &json!({})).await.expect(200);
    let mut came = Vec::new();
    eventually("all comes, from both", async || {
        for client in &it.clients {
            let out = client.pull(&it.name, 100, "1s").await;
            client.ack(&it.name, &out).await;
            came.extend(out.iter().map(number));
        }
        (came.len() >= 20).then_some(())
    })
    .await;
    came.sort_unstable();
    assert_eq!(came, (0..20).collect::<Vec<_>>(), "each once");
    let again =
        json!({"name": it.name, "topics": [it.topic], "delivery": {"mode": "pull"}, "ackTimeout": "1m"});
    assert_eq!(it.clients[1].post("/v1/subscriptions", &again).await.expect(409)["code"], "already_exists");
    it.clients[1].delete(&path("")).await.expect(204);
    it.becomes(0, "it is gone", |found| found.is_none()).await;
    let data = it.data.each_ref().map(|dir| dir.path().read_dir().expect("a folder").count());
    assert_eq!(data, [0, 0], "replicas that keep everything elsewhere keep nothing in their folders");
}

/// What happened to an event that was acknowledged: when that was said, and when it was confirmed.
#[derive(Clone, Copy)]
struct Done {
    said: Instant,
    confirmed: Instant,
}

/// What clients were given and told, over all replicas.
#[derive(Default)]
struct Book {
    done: BTreeMap<i64, Done>,
    by_replica: [usize; 2],
    complaints: Vec<String>,
}

impl Book {
    /// Deliveries came, which were asked for at `asked`.
    fn came(&mut self, deliveries: &[Value], asked: Instant) {
        for n in deliveries.iter().map(number) {
            if self.done.get(&n).is_some_and(|done| done.confirmed < asked) {
                self.complaints.push(format!("{n} was done, and came again"));
            }
        }
    }

    /// What was said at `said` was confirmed.
    fn confirmed(&mut self, n: i64, said: Instant, replica: usize) {
        self.by_replica[replica] += 1;
        if self.done.insert(n, Done { said, confirmed: Instant::now() }).is_some() {
            self.complaints.push(format!("{n} was done twice"));
        }
    }

    /// Every complaint: also where of one key a later event was done before an earlier one was.
    fn complaints(&self) -> Vec<String> {
        let mut keys: BTreeMap<String, Vec<(i64, Done)>> = BTreeMap::new();
        for (n, done) in &self.done {
            keys.entry(key(*n)).or_default().push((*n, *done));
        }
        let mut complaints = self.complaints.clone();
        for (key, done) in keys {
            for (nth, (later, second)) in done.iter().enumerate() {
                let overtaken = done[..nth].iter().find(|(_, first)| second.confirmed < first.said);
                complaints.extend(
                    overtaken.map(|(earlier, _)| format!("{later} of {key} was done before {earlier}")),
                );
            }
        }
        complaints
    }
}

/// A client that handles what it is given until all is done. Where its replica does not answer, it goes to the
/// other one, with what it had.
struct Worker {
    clients: [Client; 2],
    at: usize,
    name: String,
    book: Arc<Mutex<Book>>,
    over: Arc<AtomicBool>,
}

impl Worker {
    fn begin(it: &Replicas, at: usize, book: &Arc<Mutex<Book>>, over: &Arc<AtomicBool>) -> JoinHandle<()> {
        let mut worker = Self {
            clients: it.clients.clone(),
            at,
            name: it.name.clone(),
            book: book.clone(),
            over: over.clone(),
        };
        tokio::spawn(async move {
            while !worker.over.load(SeqCst) {
                worker.turn().await;
            }
        })
    }

    async fn turn(&mut self) {
        let asked = Instant::now();
        let Some(body) = self.say("pull", &json!({"max": 10, "wait": "500ms"})).await else { return };
        let deliveries = body["deliveries"].as_array().expect("deliveries").clone();
        self.book.lock().await.came(&deliveries, asked);
        if deliveries.is_empty() {
            return;
        }
        let ids: Vec<_> = deliveries.iter().map(|delivery| &delivery["ackId"]).collect();
        let said = Instant::now();
        // Until it is answered: what a replica that is gone may have heard is said again to the other.
        let body = loop {
            if let Some(body) = self.say("ack", &json!({"ack": ids})).await {
                break body;
            }
        };
        let results = body["results"].as_array().expect("results");
        let mut book = self.book.lock().await;
        for (delivery, result) in deliveries.iter().zip(results) {
            match result["status"].as_str() {
                Some("ok") => book.confirmed(number(delivery), said, self.at),
                // It comes again.
                Some("expired" | "unavailable" | "superseded") => {}
                _ => book.complaints.push(format!("{} was answered {result}", number(delivery))),
            }
        }
    }

    /// `None` where there is no answer, after which the other replica is asked, or one that says to come again.
    async fn say(&mut self, what: &str, body: &Value) -> Option<Value> {
        let client = &self.clients[self.at];
        let path = format!("/v1/subscriptions/{}/{what}", self.name);
        let answer = client.try_send(client.request(reqwest::Method::POST, &path).json(body)).await;
        match answer {
            Some(answer) if answer.status == 200 => Some(answer.body),
            Some(answer) if answer.status == 503 => {
                tokio::time::sleep(A_MOMENT).await;
                None
            }
            Some(answer) => {
                self.book.lock().await.complaints.push(format!("{what} was answered {}", answer.body));
                None
            }
            None => {
                self.at = 1;
                None
            }
        }
    }
}

/// How a replica ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Stop,
}

async fn a_killed_replicas_share_goes_on_at_the_other_with_nothing_lost_doubled_or_out_of_order(
    shared: Shared,
) {
    one_of_two_ends(&shared, End::Kill).await;
}

async fn a_replica_that_is_stopped_under_load_hands_its_share_on(shared: Shared) {
    one_of_two_ends(&shared, End::Stop).await;
}

/// Publishes by the replica that stays, some hundred events ahead of what is done, until it is told that it is
/// enough; gives how many.
fn begin_publishing(it: &Replicas, book: &Arc<Mutex<Book>>, enough: &Arc<AtomicBool>) -> JoinHandle<usize> {
    const AHEAD: usize = 600;
    let (client, topic) = (it.clients[1].clone(), it.topic.clone());
    let (book, enough) = (book.clone(), enough.clone());
    tokio::spawn(async move {
        let mut numbers = 0..;
        let mut published = 0;
        while !enough.load(SeqCst) {
            if published > book.lock().await.done.len() + AHEAD {
                tokio::time::sleep(A_MOMENT).await;
                continue;
            }
            let batch: Vec<i64> = numbers.by_ref().take(50).collect();
            client.publish_batch(&topic, &events(&batch)).await;
            published += batch.len();
        }
        published
    })
}

async fn one_of_two_ends(shared: &Shared, end: End) {
    let it = Replicas::start(shared, 6).await;
    let book = Arc::new(Mutex::new(Book::default()));
    let [enough, over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let publishing = begin_publishing(&it, &book, &enough);
    let workers: Vec<_> = [0, 1, 0, 1].iter().map(|&at| Worker::begin(&it, at, &book, &over)).collect();
    // As it is looked at, with what was wrong until then.
    let is_so = async |what: &str, is: &dyn Fn(&Book) -> bool| {
        eventually(what, async || {
            let book = book.lock().await;
            assert_eq!(book.complaints(), Vec::<String>::new());
            is(&book).then_some(())
        })
        .await;
    };
    is_so("both replicas give of it", &|book| book.by_replica.iter().all(|&count| count >= 100)).await;
    let Replicas { services: [first, second], clients, name, .. } = it;
    // What a client is at work on while its replica ends.
    let asked = Instant::now();
    let held = eventually("something is out at a client of the first", async || {
        let out = clients[0].pull(&name, 5, "2s").await;
        (!out.is_empty()).then_some(out)
    })
    .await;
    book.lock().await.came(&held, asked);
    match end {
        End::Kill => first.kill().await,
        End::Stop => {
            let status = first.stop().await;
            assert_eq!(status.code(), Some(0), "{status}");
        }
    }
    let said = Instant::now();
    clients[1].ack(&name, &held).await;
    {
        let mut book = book.lock().await;
        held.iter().for_each(|delivery| book.confirmed(number(delivery), said, 1));
    }
    let more = book.lock().await.done.len() + 300;
    is_so("the other goes on", &|book| book.done.len() >= more).await;
    enough.store(true, SeqCst);
    let published = publishing.await.expect("all is published");
    is_so("all is done", &|book| book.done.len() == published).await;
    over.store(true, SeqCst);
    for worker in workers {
        worker.await.expect("a client does not fail");
    }
    assert_eq!(clients[1].pull(&name, 100, "1s").await, Vec::<Value>::new(), "nothing comes again");
    assert_eq!(book.lock().await.complaints(), Vec::<String>::new());
    let dead = clients[1].get(&format!("/v1/topics/{name}.dlq")).await;
    assert_eq!(dead.status, 404, "nothing became a dead letter");
    let status = second.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

/// Two that ran it would write all of it twice, and none would leave it half done for ever.
async fn a_replay_whose_replica_dies_is_completed_by_the_other_and_repeats_a_batch_at_most(shared: Shared) {
    let it = Replicas::start(&shared, 3).await;
    it.publish(0..1_000).await;
    let target = unique("target");
    it.clients[0].create_topic(&target, 2).await;
    let body = json!({"topic": it.topic, "target": {"topic": target}, "batchSize": 10, "ratePerSecond": 200});
    let job = it.clients[0].post("/v1/replays", &body).await.expect(202);
    let path = format!("/v1/replays/{}", job["id"].as_str().expect("an id"));
    eventually("the other one sees it go on", async || {
        let job = it.clients[1].get(&path).await.expect(200);
        (job["written"].as_i64() >= Some(100)).then_some(())
    })
    .await;
    let [first, _second] = it.services;
    first.kill().await;
    let other = &it.clients[1];
    let job = eventually("the other one comes to its end", async || {
        let job = other.get(&path).await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await;
    assert_eq!((&job["state"], &job["written"]), (&json!("completed"), &json!(1_000)), "{job}");
    let written = other.browse_all(&target).await;
    let origin = |event: &Value| {
        let header = |name: &str| event["headers"][name].to_string();
        (header("es_original_partition"), header("es_original_offset"))
    };
    let different: BTreeSet<_> = written.iter().map(origin).collect();
    assert_eq!(different.len(), 1_000, "complete");
    assert!(written.len() <= 1_010, "{} were written", written.len());
}
