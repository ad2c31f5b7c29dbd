//! `event-streaming demo`: the service under a load that it is killed under, on real departures, judged
//! by what its clients saw.
//!
//! Nothing here knows more than any other client: it starts the service as a process, speaks HTTP and
//! gRPC to it, and fails when something that was acknowledged is lost or comes out of order.

mod consume;
mod flights;
mod ledger;
mod publish_grpc;
mod publish_http;
mod report;
mod service;

use flights::Flight;
use ledger::{Found, Ledger};
use serde_json::{Value, json};
use service::{Addresses, Service};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// What went wrong, in words for the one who watches.
type Outcome<T> = Result<T, String>;

/// The topic of the departures.
const TOPIC: &str = "departures";
/// Its partitions.
const PARTITIONS: u32 = 6;
/// The subscription that both consumers pull from.
const SUBSCRIPTION: &str = "departure-board";
/// The events of one HTTP batch.
const BATCH: usize = 50;
/// The demonstration fails when nothing moves for so long.
const STALL: Duration = Duration::from_secs(30);
/// How long a client waits before it tries again what failed.
const AGAIN: Duration = Duration::from_millis(20);

/// What both publishers and both consumers share.
#[derive(Debug)]
struct Shared {
    flights: Vec<Flight>,
    ledger: Ledger,
    /// Where the service is; it is another place after a restart.
    addresses: watch::Sender<Addresses>,
    http: reqwest::Client,
}

impl Shared {
    fn addresses(&self) -> Addresses {
        self.addresses.borrow().clone()
    }

    /// Sends JSON to the service. An error says that there was no answer, or one that is none.
    async fn post(&self, path: &str, body: &Value) -> Outcome<(u16, Value)> {
        let url = format!("{}{path}", self.addresses().http);
        let response = self.http.post(url).json(body).send().await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.map_err(|e| e.to_string())?))
    }

    async fn get(&self, path: &str) -> Outcome<Value> {
        let url = format!("{}{path}", self.addresses().http);
        let response = self.http.get(url).send().await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body: Value = response.json().await.map_err(|e| e.to_string())?;
        if status.is_success() { Ok(body) } else { Err(format!("GET {path}: {status}: {body}")) }
    }

    async fn create(&self, path: &str, body: &Value) -> Outcome<()> {
        match self.post(path, body).await? {
            (201, _) => Ok(()),
            (status, body) => Err(format!("POST {path}: {status}: {body}")),
        }
    }
}

/// Runs the demonstration, and says what happens on the way.
///
/// # Errors
/// What was lost, came out of order, or did not work.
pub(crate) async fn run() -> Outcome<()> {
    let folder = tempfile::Builder::new().prefix("event-streaming-demo-").tempdir();
    let folder = folder.map_err(|e| format!("no temporary folder can be made: {e}"))?;
    let result = tokio::select! {
        result = demonstrate(folder.path()) => result,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    };
    if let Err(why) = &result
        && why != "interrupted"
    {
        let kept = folder.keep();
        return Err(format!("{why}\n(the data and the service's log are kept in {})", kept.display()));
    }
    result
}

async fn demonstrate(folder: &Path) -> Outcome<()> {
    let flights = flights::read().map_err(|e| format!("the departures cannot be read: {e}"))?;
    let [by_http, by_grpc] = flights::halves(&flights);
    let total = flights.len();

    let service = Service::start(folder).await?;
    say(&format!("started the service on the embedded log, ready in {} ms", service.took.as_millis()));
    let http = reqwest::Client::builder().timeout(STALL).build();
    let shared = Arc::new(Shared {
        ledger: Ledger::new(total),
        flights,
        addresses: watch::Sender::new(service.addresses.clone()),
        http: http.map_err(|e| format!("no HTTP client can be made: {e}"))?,
    });
    shared.create("/v1/topics", &json!({"name": TOPIC, "partitions": PARTITIONS})).await?;
    let subscription = json!({
        "name": SUBSCRIPTION, "topics": [TOPIC], "delivery": {"mode": "pull"},
        "ordering": "key", "ackTimeout": "10s",
    });
    shared.create("/v1/subscriptions", &subscription).await?;

    say(&format!(
        "publishing {total} real departures keyed by aircraft, {} over HTTP in batches of {BATCH} and {} over one \
         gRPC stream, while two clients compete for them…",
        by_http.len(),
        by_grpc.len()
    ));
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    clients.spawn(publish_http::publish(shared.clone(), by_http));
    clients.spawn(publish_grpc::publish(shared.clone(), by_grpc));
    for number in 0..2 {
        clients.spawn(consume::consume(shared.clone(), number));
    }

    let mut acknowledged = shared.ledger.acknowledged_count();
    moving("half of them are acknowledged", &mut acknowledged, total / 2, &mut clients).await?;
    service.kill().await?;
    let then = *acknowledged.borrow();
    let handled = *shared.ledger.handled_count().borrow();
    say(&format!("killed it with SIGKILL: {then} departures were acknowledged, {handled} had arrived"));
    if then == total {
        return Err("all was published before the kill, which shows nothing".to_owned());
    }
    let service = Service::start(folder).await?;
    say(&format!("started it again on the same data, ready in {} ms", service.took.as_millis()));
    shared.addresses.send_replace(service.addresses.clone());

    moving("all are acknowledged", &mut acknowledged, total, &mut clients).await?;
    let published_in = begin.elapsed();
    say(&format!("published all {total}"));
    moving("all have arrived", &mut shared.ledger.handled_count(), total, &mut clients).await?;
    let arrived_in = begin.elapsed();
    say("all have arrived; reading the topic from outside…");
    nothing_left(&shared).await?;
    clients.shutdown().await;

    let found = read_all(&shared).await?;
    let complaints = shared.ledger.read(|book| ledger::complaints(&shared.flights, book, &found));
    if !complaints.is_empty() {
        return Err(complaints.join("\n"));
    }
    service.stop().await?;
    let twice = match found.len() - total {
        0 => String::new(),
        twice => {
            format!(" ({twice} lie there twice: the kill cut off their receipts, and they were sent again)")
        }
    };
    say(&format!(
        "every acknowledged departure is where its receipt said, and has arrived, each aircraft's in order{twice}"
    ));
    shared.ledger.read(|book| report::print(book, published_in, arrived_in));
    Ok(())
}

/// Waits until `count` has reached `goal`, for as long as it moves and no client fails.
async fn moving(
    what: &str,
    count: &mut watch::Receiver<usize>,
    goal: usize,
    clients: &mut JoinSet<Outcome<()>>,
) -> Outcome<()> {
    let mut stalled = Instant::now() + STALL;
    loop {
        let now = *count.borrow_and_update();
        if now >= goal {
            return Ok(());
        }
        tokio::select! {
            changed = count.changed() => {
                changed.map_err(|_| "the clients are gone".to_owned())?;
                stalled = Instant::now() + STALL;
            }
            // A publisher is done when it has published everything.
            Some(ended) = clients.join_next() => ended.map_err(|e| e.to_string())??,
            () = sleep_until(stalled) => {
                return Err(format!("nothing moved for {} s before {what}: {now} of {goal}", STALL.as_secs()));
            }
        }
    }
}

/// Waits until the subscription says that it has nothing left: that what arrived was acknowledged, too.
async fn nothing_left(shared: &Shared) -> Outcome<()> {
    let path = format!("/v1/subscriptions/{SUBSCRIPTION}");
    let begin = Instant::now();
    loop {
        let view = shared.get(&path).await?;
        if view["lag"] == 0 && view["inFlight"] == 0 {
            return Ok(());
        }
        if begin.elapsed() > STALL {
            return Err(format!("the subscription does not come to its end: {view}"));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Reads the whole topic, as any client may.
async fn read_all(shared: &Shared) -> Outcome<Found> {
    let mut found = Found::new();
    let mut query = "from=earliest".to_owned();
    loop {
        let page = shared.get(&format!("/v1/topics/{TOPIC}/events?{query}&limit=2000")).await?;
        let events = page["events"].as_array().ok_or("a page without events")?;
        if events.is_empty() {
            return Ok(found);
        }
        for event in events {
            found.insert(place(event)?, number(event)?);
        }
        query = format!("cursor={}", page["next"].as_str().ok_or("a page without a cursor")?);
    }
}

/// Where a receipt or an event says that it is.
fn place(of: &Value) -> Outcome<ledger::Place> {
    let part = |name: &str| of[name].as_u64().ok_or_else(|| format!("no {name} in {of}"));
    Ok((part("partition")?, part("offset")?))
}

/// Which departure it is.
fn number(of: &Value) -> Outcome<usize> {
    of["id"].as_str().and_then(flights::number).ok_or_else(|| format!("no departure's id in {of}"))
}

fn say(words: &str) {
    println!("· {words}");
}
