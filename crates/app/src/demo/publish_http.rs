//! A publisher over HTTP: batch after batch, each sent until all of it is acknowledged.

use super::{AGAIN, BATCH, Outcome, Shared, TOPIC, flights, ledger::Way, number, place};
use serde_json::{Value, json};
use std::sync::Arc;

/// Publishes these departures in their order.
pub(super) async fn publish(shared: Arc<Shared>, numbers: Vec<usize>) -> Outcome<()> {
    for batch in numbers.chunks(BATCH) {
        let mut left = batch.to_vec();
        shared.ledger.sent(&left);
        // No answer, or no receipt, says nothing about what was written: the same ids are sent again.
        while !left.is_empty() {
            left = attempt(&shared, left).await?;
        }
    }
    Ok(())
}

/// Sends once; gives what is to be sent again, in its order.
async fn attempt(shared: &Shared, numbers: Vec<usize>) -> Outcome<Vec<usize>> {
    let events: Vec<Value> = numbers.iter().map(|&number| event(shared, number)).collect();
    let answer = shared.post(&format!("/v1/topics/{TOPIC}/events"), &json!({"events": events})).await;
    let results = match &answer {
        Ok((200 | 207, body)) => body["results"].as_array(),
        Ok((status, body)) if *status < 500 => return Err(format!("publishing: {status}: {body}")),
        // It is down, or on its way down or up.
        _ => None,
    };
    let Some(results) = results else {
        tokio::time::sleep(AGAIN).await;
        return Ok(numbers);
    };
    if results.len() != numbers.len() {
        return Err(format!("{} results for {} events", results.len(), numbers.len()));
    }
    let mut left = Vec::new();
    for (&sent, result) in numbers.iter().zip(results) {
        if result["error"].is_null() {
            if number(result)? != sent {
                return Err(format!("the receipt of {} is another's: {result}", flights::id(sent)));
            }
            shared.ledger.acknowledged(Way::Http, sent, place(result)?);
        } else {
            left.push(sent);
        }
    }
    Ok(left)
}

fn event(shared: &Shared, number: usize) -> Value {
    let flight = &shared.flights[number];
    let mut event = json!({
        "id": flights::id(number), "type": "flight.departed", "source": "/new-york", "data": flight.data,
    });
    if let Some(aircraft) = &flight.aircraft {
        event["key"] = Value::from(aircraft.as_str());
    }
    event
}
