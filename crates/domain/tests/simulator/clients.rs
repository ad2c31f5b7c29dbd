//! Clients and handlers that do all that clients and handlers do.

use super::{
    oracle::{Oracle, Seen},
    world::{NAME, TOPIC},
};
use async_trait::async_trait;
use domain::{
    delivery::Status,
    subscriptions::{AckRequest, PulledDelivery, RejectItem, RetryItem, Subscriptions},
};
use parking_lot::Mutex;
use ports::{Clock, EventHandler, Failure, HandlerDelivery, Outcome};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Duration};

/// Deliveries whose process is gone; whoever has them may say so to another.
pub(crate) type Leftovers = Arc<Mutex<Vec<(usize, String)>>>;

/// How a client is.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) leftovers: Leftovers,
    /// It does what it should.
    pub(crate) good: bool,
    /// Events of these numbers cannot be handled.
    pub(crate) poison: Option<usize>,
    pub(crate) ack_timeout: Duration,
}

fn number(oracle: &Oracle, delivery: &PulledDelivery) -> usize {
    oracle.at(delivery.partition, delivery.record.offset)
}

impl Client {
    /// Pulls and decides until it is ended.
    pub(crate) async fn work(self, subscriptions: Arc<Subscriptions>, clock: Arc<dyn Clock>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        loop {
            if !self.turn(&subscriptions, &*clock, &mut rng).await {
                sleep(&*clock, Duration::from_millis(500)).await;
            }
        }
    }

    /// One pull, and what comes of it. Answers whether something came.
    pub(crate) async fn turn(
        &self,
        subscriptions: &Subscriptions,
        clock: &dyn Clock,
        rng: &mut StdRng,
    ) -> bool {
        let wait = Some(Duration::from_millis(rng.random_range(0..5_000)));
        let Ok(pulled) = subscriptions.pull(NAME, Some(rng.random_range(1..30)), wait).await else {
            return false;
        };
        let seen: Vec<_> = pulled
            .deliveries
            .iter()
            .map(|delivery| Seen { number: number(&self.oracle, delivery), run: delivery.run.to_string() })
            .collect();
        self.oracle.delivered(&seen);
        let mut request = AckRequest::default();
        let mut acks = Vec::new();
        for (delivery, seen) in pulled.deliveries.iter().zip(&seen) {
            let id = delivery.ack_id.clone();
            let poisoned = self.poison.is_some_and(|every| seen.number.is_multiple_of(every));
            let dice = if self.good { 0 } else { rng.random_range(0..100) };
            match dice {
                _ if poisoned && !self.good && rng.random_bool(0.5) => {}
                _ if poisoned && !self.good => {
                    request.retry.push(RetryItem { ack_id: id, after: None, reason: None });
                }
                0..60 => {
                    self.oracle.decides(seen.number);
                    acks.push((seen.number, id));
                }
                60..70 => {
                    let after =
                        rng.random_bool(0.5).then(|| Duration::from_millis(rng.random_range(0..3_000)));
                    request.retry.push(RetryItem { ack_id: id, after, reason: Some("not now".into()) });
                }
                70..73 => {
                    self.oracle.decides(seen.number);
                    request.reject.push(RejectItem { ack_id: id, reason: None });
                }
                73..78 => request.release.push(id),
                78..83 => {
                    request.extend.push((id.clone(), Duration::from_secs(rng.random_range(1..10))));
                    self.leftovers.lock().push((seen.number, id));
                }
                // Somebody says so later, perhaps to another process.
                83..92 => self.leftovers.lock().push((seen.number, id)),
                // Nobody ever does.
                _ => {}
            }
        }
        if rng.random_bool(0.2) && !self.good {
            sleep(clock, self.ack_timeout.mul_f64(rng.random::<f64>() * 1.5)).await;
        }
        request.ack = acks.iter().map(|(_, id)| id.clone()).collect();
        let twice = rng.random_bool(0.1);
        self.say(subscriptions, request.clone(), &acks).await;
        if twice {
            let again = AckRequest { ack: request.ack, ..AckRequest::default() };
            self.say(subscriptions, again, &acks).await;
        }
        if rng.random_bool(0.3) {
            let left: Vec<_> = {
                let mut leftovers = self.leftovers.lock();
                let count = leftovers.len().min(rng.random_range(0..5));
                leftovers.drain(..count).collect()
            };
            left.iter().for_each(|(number, _)| self.oracle.decides(*number));
            let ack = left.iter().map(|(_, id)| id.clone()).collect();
            self.say(subscriptions, AckRequest { ack, ..AckRequest::default() }, &left).await;
        }
        !seen.is_empty()
    }

    async fn say(&self, subscriptions: &Subscriptions, request: AckRequest, acks: &[(usize, String)]) {
        // Where it is not answered, nothing is known.
        let Ok(answers) = subscriptions.acknowledge(NAME, request).await else { return };
        for ((number, id), (of, status)) in acks.iter().zip(answers) {
            assert_eq!(*id, of, "answers stand in the order of the request, acknowledgements first");
            if status == Status::Ok {
                self.oracle.acked(*number, id);
            }
            assert_ne!(status, Status::Unknown, "it was given out");
        }
    }
}

/// A handler that is linked in.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Mutex<StdRng>,
    pub(crate) good: bool,
    pub(crate) poison: Option<usize>,
}

#[async_trait]
impl EventHandler for Handler {
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for delivery in run {
            assert_eq!(delivery.topic.as_str(), TOPIC);
            let number = self.oracle.at(delivery.partition, delivery.record.offset);
            // Each is called by itself: what is before it in its run was answered.
            self.oracle.delivered(&[Seen { number, run: String::new() }]);
            let (dice, wait) = {
                let mut rng = self.rng.lock();
                (rng.random_range(0..100), Duration::from_millis(rng.random_range(0..800)))
            };
            sleep(&*self.clock, wait).await;
            let poisoned = self.poison.is_some_and(|every| number.is_multiple_of(every));
            let failure = Failure::new("sim", "it fails sometimes");
            outcomes.push(match dice {
                _ if self.good => self.ack(number),
                _ if poisoned => Outcome::Retry { after: None, outage: false, failure },
                0..80 => self.ack(number),
                80..86 => Outcome::Retry { after: None, outage: dice % 2 == 0, failure },
                86..89 => {
                    self.oracle.decides(number);
                    Outcome::Reject { failure }
                }
                89..93 => Outcome::NotReached { failure },
                93..96 => panic!("it panics sometimes"),
                96..98 => std::future::pending().await,
                _ => return outcomes,
            });
        }
        outcomes
    }
}

impl Handler {
    fn ack(&self, number: usize) -> Outcome {
        self.oracle.decides(number);
        Outcome::Ack
    }
}

pub(crate) async fn sleep(clock: &dyn Clock, duration: Duration) {
    clock.sleep_until(clock.monotonic() + duration).await;
}
