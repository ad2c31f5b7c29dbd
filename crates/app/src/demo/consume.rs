//! A consumer: pulls, handles in order, acknowledges.

use super::{AGAIN, Outcome, SUBSCRIPTION, Shared, number, place};
use serde_json::{Value, json};
use std::sync::Arc;

/// The most deliveries of one pull.
const PULL: u32 = 200;

/// Consumes until it is aborted.
pub(super) async fn consume(shared: Arc<Shared>, consumer: usize) -> Outcome<()> {
    let pull = format!("/v1/subscriptions/{SUBSCRIPTION}/pull");
    let ack = format!("/v1/subscriptions/{SUBSCRIPTION}/ack");
    loop {
        let answer = shared.post(&pull, &json!({"max": PULL, "wait": "2s"})).await;
        let Ok((200, body)) = answer else {
            // It is down, or on its way down or up.
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let deliveries = body["deliveries"].as_array().ok_or("an answer without deliveries")?;
        let mut ids: Vec<&Value> = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let event = &delivery["event"];
            shared.ledger.handled(consumer, number(event)?, place(event)?);
            ids.push(&delivery["ackId"]);
        }
        if !ids.is_empty() {
            // What was handled stays so: the service that comes after the kill takes the same ids. What is not
            // confirmed even then comes again, and is recognised by its id.
            while shared.post(&ack, &json!({"ack": ids})).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
