//! Publishes a hundred orders and books them in a handler that fails one in ten at the first try, is given
//! two values that are no orders, and rejects one. Ends by itself, and keeps nothing.
//!
//! `cargo run -p event-streaming-embed --example orders`

use event_streaming::{
    Delivered, Event, Handler, HandlerCounts, HandlerError, Json, NewRetry, NewSubscription, Service, each,
    json_event,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, error::Error, path::Path, sync::Arc};
use tokio::sync::watch;

const ORDERS: u32 = 100;
const CUSTOMERS: u32 = 10;

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    customer: String,
    number: u32,
}

#[derive(Debug)]
struct BankIsBusy;

impl std::fmt::Display for BankIsBusy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bank is busy")
    }
}

impl Error for BankIsBusy {}

/// Books orders by customer.
#[derive(Debug, Default)]
struct Booking {
    booked: Mutex<BTreeMap<String, Vec<u32>>>,
    /// How many are booked.
    count: watch::Sender<u32>,
}

impl Handler for Booking {
    type Event = Order;

    async fn handle(&self, order: Delivered<Order>) -> Result<(), HandlerError> {
        let Delivered { data: Order { customer, number }, attempt, .. } = order;
        if number == ORDERS / 2 {
            // It can never succeed: a dead letter at once.
            return Err(HandlerError::reject("the customer has left").with_kind("no-customer"));
        }
        if number % 10 == 3 && attempt == 1 {
            // Any error comes again, after the backoff; the customer's next orders wait for it.
            println!("order {number} of {customer} failed, and comes again");
            Err(BankIsBusy)?;
        }
        self.booked.lock().entry(customer).or_default().push(number);
        self.count.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// What the handler booked by customer, and what its answers were.
#[derive(Debug)]
pub(crate) struct Booked {
    /// The numbers of each customer's orders, as they were booked.
    pub(crate) by_customer: BTreeMap<String, Vec<u32>>,
    /// The handler's answers.
    pub(crate) counts: HandlerCounts,
    /// Whether the stop came to its end in time.
    pub(crate) stopped: bool,
}

/// Runs the example with its data in `data`.
///
/// # Errors
/// What the service says.
pub(crate) async fn run(data: &Path) -> Result<Booked, Box<dyn Error>> {
    let service = Service::builder().embedded(data).source("/shop").start().await?;
    service.ensure_topic("orders", 3).await?;

    let booking = Arc::new(Booking::default());
    let mut count = booking.count.subscribe();
    let subscription = NewSubscription {
        name: "booking".into(),
        topics: vec!["orders".into()],
        retry: NewRetry { initial_delay: Some("20ms".into()), ..NewRetry::default() },
        ..NewSubscription::default()
    };
    service.handle(subscription, each(Json, booking.clone())).await?;

    let mut events = (0..ORDERS)
        .map(|number| {
            let customer = format!("customer-{}", number % CUSTOMERS);
            json_event("order.created", customer.clone(), &Order { customer, number })
        })
        .collect::<Result<Vec<Event>, _>>()?;
    // Not what the handler takes: it goes to the dead letters as it is, and nothing waits for it.
    for data in ["no JSON at all", r#"{"customer": "customer-1"}"#] {
        events.push(Event { key: Some("customer-1".into()), data: Some(data.into()), ..Event::default() });
    }
    for receipt in service.publish("orders", events).await? {
        receipt?;
    }

    // All but the one that is rejected.
    count.wait_for(|count| *count == ORDERS - 1).await?;
    // Handlers finish what they are at, and what is done is kept.
    let subscriptions = service.subscriptions().clone();
    while subscriptions.get("booking").await?.lag > 0 {
        tokio::task::yield_now().await;
    }
    drop(subscriptions);
    let counts = service.counts("booking").unwrap_or_default();
    let stopped = service.shutdown().await;
    let by_customer = std::mem::take(&mut *booking.booked.lock());
    Ok(Booked { by_customer, counts, stopped })
}

#[tokio::main]
#[allow(dead_code, reason = "the tests call `run` alone")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let Booked { by_customer, counts, stopped } = run(folder.path()).await?;
    for (customer, orders) in &by_customer {
        println!("{customer}: {orders:?}");
    }
    println!("{counts:?}");
    println!("stopped in order: {stopped}");
    Ok(())
}
