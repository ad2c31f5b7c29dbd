//! Linked handlers that do what they are told to.

use super::{NAME, Process};
use async_trait::async_trait;
use domain::subscriptions::HandlerOptions;
use ports::{EventHandler, Failure, HandlerDelivery, Outcome};
use std::{fmt, sync::Arc};

/// Says what it is told to say, and counts what it is given.
#[derive(Debug)]
pub(crate) struct Handler {
    says: Outcome,
    /// The offsets of its calls.
    pub(crate) calls: parking_lot::Mutex<Vec<u64>>,
}

#[async_trait]
impl EventHandler for Handler {
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        self.calls.lock().extend(run.iter().map(|delivery| delivery.record.offset));
        run.iter().map(|_| self.says.clone()).collect()
    }
}

pub(crate) async fn handled(process: &Process, says: Outcome) -> Arc<Handler> {
    let handler = Arc::new(Handler { says, calls: parking_lot::Mutex::default() });
    process.subscriptions.handle(NAME, handler.clone(), HandlerOptions::default()).await.unwrap();
    handler
}

/// Does with each event what a function does.
struct Doing<F>(F);

impl<F> fmt::Debug for Doing<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doing")
    }
}

#[async_trait]
impl<F, R> EventHandler for Doing<F>
where
    F: Fn(HandlerDelivery) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for delivery in run {
            outcomes.push((self.0)(delivery.clone()).await);
        }
        outcomes
    }
}

/// Links a handler that does this with each event.
pub(crate) async fn doing<F, R>(process: &Process, options: HandlerOptions, does: F)
where
    F: Fn(HandlerDelivery) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    process.subscriptions.handle(NAME, Arc::new(Doing(does)), options).await.unwrap();
}

/// What a handler says that has failed.
pub(crate) fn failed() -> Outcome {
    Outcome::Retry { after: None, outage: false, failure: Failure::new("refused", "not now") }
}
