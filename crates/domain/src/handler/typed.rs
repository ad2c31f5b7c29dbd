//! Typed handlers as the port that subscriptions deliver to.

use super::{Decode, Delivered, Handler, HandlerError, RunHandler, UNDECODABLE, error};
use async_trait::async_trait;
use ports::{EventHandler, Failure, HandlerDelivery, Outcome};
use std::{fmt, marker::PhantomData, sync::Arc};

/// A handler of single events behind its decoder.
pub fn each<H: Handler>(decode: impl Decode<H::Event>, handler: H) -> Arc<dyn EventHandler> {
    Arc::new(Typed { decode, handler: Each(handler), of: PhantomData })
}

/// A handler of runs behind its decoder.
pub fn runs<H: RunHandler>(decode: impl Decode<H::Event>, handler: H) -> Arc<dyn EventHandler> {
    Arc::new(Typed { decode, handler: Runs(handler), of: PhantomData })
}

struct Each<H>(H);
struct Runs<H>(H);

struct Typed<D, H, T> {
    decode: D,
    handler: H,
    /// It holds none.
    of: PhantomData<fn() -> T>,
}

impl<D, H, T> fmt::Debug for Typed<D, H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("handler", &std::any::type_name::<H>()).finish_non_exhaustive()
    }
}

impl<D: Decode<T>, H, T> Typed<D, H, T> {
    fn decode(&self, delivery: &HandlerDelivery) -> Result<Delivered<T>, Failure> {
        match self.decode.decode(&delivery.record.record) {
            Ok(data) => Ok(Delivered::new(data, delivery)),
            Err(why) => {
                let failure = error::failure(UNDECODABLE, why);
                let message = format!("the value cannot be decoded: {}", failure.message);
                Err(Failure { message, ..failure })
            }
        }
    }
}

#[async_trait]
impl<D, H> EventHandler for Typed<D, Each<H>, H::Event>
where
    D: Decode<H::Event>,
    H: Handler,
{
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(run.len());
        for delivery in run {
            let outcome = match self.decode(delivery) {
                Ok(event) => outcome(self.handler.0.handle(event).await),
                Err(failure) => Outcome::Reject { failure },
            };
            let goes_on = goes_on(&outcome);
            outcomes.push(outcome);
            if !goes_on {
                break;
            }
        }
        outcomes
    }
}

#[async_trait]
impl<D, H> EventHandler for Typed<D, Runs<H>, H::Event>
where
    D: Decode<H::Event>,
    H: RunHandler,
{
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        let mut events = Vec::with_capacity(run.len());
        let mut rejected = Vec::new();
        for delivery in run {
            match self.decode(delivery) {
                Ok(event) => events.push(event),
                Err(failure) => rejected.push((delivery.record.offset, failure)),
            }
        }
        let answers = if events.is_empty() { Vec::new() } else { self.handler.0.handle_run(events).await };
        let (mut answers, mut rejected) = (answers.into_iter(), rejected.into_iter().peekable());
        let mut outcomes = Vec::with_capacity(run.len());
        for delivery in run {
            let outcome = match rejected.next_if(|(offset, _)| *offset == delivery.record.offset) {
                Some((_, failure)) => Outcome::Reject { failure },
                // What is missing is a retry, and nothing behind it counts.
                None => match answers.next() {
                    Some(answer) => outcome(answer),
                    None => break,
                },
            };
            let goes_on = goes_on(&outcome);
            outcomes.push(outcome);
            if !goes_on {
                break;
            }
        }
        outcomes
    }
}

fn outcome(answer: Result<(), HandlerError>) -> Outcome {
    answer.map_or_else(Outcome::from, |()| Outcome::Ack)
}

/// Whether what comes behind an event with this outcome counts.
fn goes_on(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Ack | Outcome::Reject { .. })
}
