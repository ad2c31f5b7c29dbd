//! What a 2xx says of the events of a batch: `{"results":[{"id","status","reason"}]}`.

use super::{
    cloudevents::{Value, attributes, event_of},
    excerpt::Excerpts,
    retry_after,
};
use ports::{Failure, HandlerDelivery, Outcome, Timestamp, WebhookResponse};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{HashMap, VecDeque};

#[derive(Deserialize)]
struct Body<'a> {
    /// Each read by itself, so that one that cannot be read spoils no other.
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

/// The outcome of each delivery of a batch.
///
/// A result names an event by `esdeliveryid`, which fits one event, or by the event's `id`; where events of
/// a batch share that, each result of the name is for the next of them, in their order. What is not named
/// is to come again, and so is everything where the body cannot be understood: then the receiver as a whole
/// does not do what it should, which an outage is.
pub(super) fn of_body(
    run: &[HandlerDelivery],
    response: &WebhookResponse,
    now: Timestamp,
    excerpts: &Excerpts,
) -> Vec<Outcome> {
    let after = response.retry_after.as_deref().and_then(|text| retry_after::parse(text, now));
    let Ok(body) = serde_json::from_slice::<Body<'_>>(&response.body) else {
        let excerpt = excerpts.of(&response.body);
        let said = if excerpt.is_empty() { "nothing".to_owned() } else { excerpt };
        let what = format!(
            "the webhook answered {} without {{\"results\":[{{\"id\",\"status\"}}]}} for the batch: {said}",
            response.status
        );
        let failure = Failure::new("batch-answer-invalid", what);
        return vec![Outcome::Retry { after, outage: true, failure }; run.len()];
    };
    let mut outcomes: Vec<Option<Outcome>> = vec![None; run.len()];
    let mut by_event: HashMap<String, VecDeque<usize>> = HashMap::new();
    let mut by_delivery: HashMap<&str, usize> = HashMap::with_capacity(run.len());
    for (index, delivery) in run.iter().enumerate() {
        by_delivery.insert(&delivery.id, index);
        by_event.entry(event_id(delivery)).or_default().push_back(index);
    }
    for raw in body.results {
        // What has no id and no status says nothing of any event.
        let Ok(item) = serde_json::from_str::<Item>(raw.get()) else { continue };
        let index = match by_delivery.get(&*item.id) {
            Some(index) => Some(*index),
            None => by_event.get_mut(&item.id).and_then(|of_that_id| {
                while let Some(index) = of_that_id.pop_front() {
                    if outcomes[index].is_none() {
                        return Some(index);
                    }
                }
                None
            }),
        };
        if let Some(index) = index {
            // The first that is said of an event counts.
            outcomes[index].get_or_insert_with(|| of_item(&item, after, excerpts));
        }
    }
    let unnamed = || Outcome::Retry {
        after,
        outage: false,
        failure: Failure::new("batch-no-result", "the webhook's answer says nothing of this event"),
    };
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unnamed)).collect()
}

fn of_item(item: &Item, after: Option<std::time::Duration>, excerpts: &Excerpts) -> Outcome {
    let reason = item.reason.as_deref().map(|reason| excerpts.of(reason.as_bytes()));
    let failure = |kind: &str| {
        let said = reason.clone().filter(|reason| !reason.is_empty());
        Failure::new(kind, said.unwrap_or_else(|| "the webhook gives no reason".to_owned()))
    };
    match &*item.status {
        "ack" => Outcome::Ack,
        "reject" => Outcome::Reject { failure: failure("batch-reject") },
        "retry" => Outcome::Retry { after, outage: false, failure: failure("batch-retry") },
        other => {
            let what = format!("`{}` is none of ack, retry, reject", excerpts.of(other.as_bytes()));
            Outcome::Retry { after, outage: false, failure: Failure::new("batch-status-unknown", what) }
        }
    }
}

/// The `id` that the batch gives the delivery's event.
fn event_id(delivery: &HandlerDelivery) -> String {
    let event = event_of(delivery);
    let id = attributes(&event, delivery).into_iter().find(|(name, _)| *name == "id");
    match id {
        Some((_, Value::Text(id))) => id.into_owned(),
        _ => String::new(),
    }
}
