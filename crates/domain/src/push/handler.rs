//! The handler of a push subscription.

use super::{
    answer, batch_results, excerpt::Excerpts, request::Requests, signature::SigningKeys, target::validate,
};
use crate::{
    error::Result,
    subscriptions::{
        Payload,
        policy::{PushFormat, PushTarget},
    },
};
use async_trait::async_trait;
use ports::{
    Clock, EventHandler, GroupId, HandlerDelivery, Outcome, WebhookRequest, WebhookResponse, Webhooks,
};
use std::{sync::Arc, time::Duration};

/// The handler of a subscription that pushes to `target`, as the port that engines call.
///
/// # Errors
/// `InvalidRequest`, naming the field, where the target is one that [`validate_target`](super::validate_target)
/// refuses for what it says; whether its address can be reached is seen when it is.
pub fn handler(
    subscription: GroupId,
    target: PushTarget,
    payload: Payload,
    webhooks: Arc<dyn Webhooks>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn EventHandler>> {
    Ok(Arc::new(WebhookHandler::new(subscription, target, payload, webhooks, clock)?))
}

/// Sends events to a webhook, in its format, and reads what it answers.
///
/// The module's head says what receivers and engines can rely on.
#[derive(Debug)]
pub struct WebhookHandler {
    requests: Requests,
    excerpts: Excerpts,
    webhooks: Arc<dyn Webhooks>,
    clock: Arc<dyn Clock>,
}

impl WebhookHandler {
    /// A handler for one subscription. `payload` says how a value stands in the JSON formats.
    ///
    /// # Errors
    /// As [`handler`].
    pub fn new(
        subscription: GroupId,
        target: PushTarget,
        payload: Payload,
        webhooks: Arc<dyn Webhooks>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let keys: SigningKeys = validate(&target)?;
        let excerpts = Excerpts::new(&target);
        Ok(Self { requests: Requests { target, subscription, payload, keys }, excerpts, webhooks, clock })
    }

    /// How long a request for `delivery` may take: a little less than is left of its time, so that what was
    /// answered of a run is told before the run is given up. `None` when nothing is left.
    fn time_for(&self, delivery: &HandlerDelivery) -> Option<Duration> {
        let left = delivery.deadline.since(self.clock.monotonic());
        let margin = (left / 8).min(Duration::from_millis(100));
        let time = self.requests.target.timeout.min(left.saturating_sub(margin));
        (!time.is_zero()).then_some(time)
    }

    /// The answer to a request; `Err` is an outcome that needs no look at the body.
    async fn send(&self, request: WebhookRequest) -> Result<WebhookResponse, Outcome> {
        let response =
            self.webhooks.post(request).await.map_err(|error| answer::of_error(&error, &self.excerpts))?;
        match answer::of_status(&response, self.clock.wall(), &self.excerpts) {
            None => Ok(response),
            Some(outcome) => Err(outcome),
        }
    }

    async fn one_by_one(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(run.len());
        for delivery in run {
            let Some(timeout) = self.time_for(delivery) else { break };
            let request = self.requests.one(delivery, self.clock.wall(), timeout);
            match self.send(request).await {
                Ok(_) => outcomes.push(Outcome::Ack),
                Err(outcome) => {
                    outcomes.push(outcome);
                    break;
                }
            }
        }
        outcomes
    }

    async fn at_once(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        let Some(timeout) = run.first().and_then(|first| self.time_for(first)) else { return Vec::new() };
        let request = self.requests.batch(run, self.clock.wall(), timeout);
        match self.send(request).await {
            Ok(response) => batch_results::of_body(run, &response, self.clock.wall(), &self.excerpts),
            Err(outcome) => vec![outcome; run.len()],
        }
    }
}

#[async_trait]
impl EventHandler for WebhookHandler {
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        match self.requests.target.format {
            PushFormat::Binary | PushFormat::Structured => self.one_by_one(run).await,
            PushFormat::Batch => self.at_once(run).await,
        }
    }
}
