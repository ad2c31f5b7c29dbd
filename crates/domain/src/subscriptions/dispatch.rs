//! Giving deliveries to a handler of this process: a webhook, or one that is linked in.
//!
//! One task a subscription takes what is ready from the engine, as a client would, calls the handler and
//! hands its answers back as decisions. All that is true of a delivery (its lease, its claim, its attempts)
//! is the engine's matter.
//!
//! Invariants:
//! - At most `concurrency` calls are under way, and no two of them for one key.
//! - What is taken is called at once: nothing waits here while its time runs.
//! - A decision is given as soon as its call is back, those that are back together in one request.
//! - While the circuit is open only probes are taken, and an outage counts no attempt.

use super::{
    circuit::{Allowed, Circuit, CircuitConfig, Seen},
    definition::Cause,
    engine::{EngineHandle, Handed, Item, Offer},
};
use crate::delivery::{Decision, Lease};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use ports::{Clock, EventHandler, Failure, HandlerDelivery, Monotonic, Outcome};
use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// How long what could not be brought to its handler waits, while the circuit is not open yet.
const NOT_REACHED_AGAIN: Duration = Duration::from_secs(1);
/// How long one request for deliveries waits.
const PULL_WAIT: Duration = Duration::from_secs(60);
/// The most bytes that are taken at once.
const BYTES_MAX: usize = 8 << 20;
/// How much later than the handler's own time a lease ends, so that it is the call that times out.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// How a handler is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandlerOptions {
    /// The most calls at once.
    pub concurrency: usize,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether a call is given a whole run, and not one event after the other.
    pub whole_runs: bool,
    /// When it is taken to be out of order.
    pub circuit: CircuitConfig,
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            timeout: Duration::from_secs(30),
            whole_runs: false,
            circuit: CircuitConfig::default(),
        }
    }
}

/// Why a handler wants nothing more.
pub(super) type OnGone = Box<dyn Fn(Failure) + Send + Sync>;

/// A dispatcher. Dropping it ends it at once; what is under way is lost and comes again.
pub(super) struct Dispatcher {
    task: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    circuit: Arc<Mutex<Circuit>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("circuit", &self.circuit).finish_non_exhaustive()
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dispatcher {
    pub(super) fn spawn(
        engine: Arc<EngineHandle>,
        handler: Arc<dyn EventHandler>,
        options: HandlerOptions,
        clock: Arc<dyn Clock>,
        on_gone: OnGone,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let circuit = Arc::new(Mutex::new(Circuit::new(options.circuit)));
        let work = Work {
            engine,
            handler,
            options,
            clock: clock.clone(),
            circuit: circuit.clone(),
            stopping: stopping.clone(),
            on_gone,
            pull: None,
            calls: FuturesUnordered::new(),
            decisions: Vec::new(),
        };
        Self { task: tokio::spawn(work.run()), stopping, circuit, clock }
    }

    /// Takes nothing more; what is under way goes on.
    pub(super) fn stop_taking(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Why nothing is delivered, while the circuit is open.
    pub(super) fn cause(&self) -> Option<Cause> {
        let (since, next) = self.circuit.lock().open_since()?;
        let wait = next.since(self.clock.monotonic());
        let detail = format!(
            "the handler is out of order; it is tried again with one delivery in {} ms",
            wait.as_millis()
        );
        Some(Cause { code: "circuit-open", since, detail })
    }
}

/// A run, with the part of it that is not handled yet.
struct Run {
    leases: VecDeque<(Handed, HandlerDelivery)>,
    probe: bool,
}

/// A call that is back.
struct Back {
    run: Run,
    /// The deliveries that it was for.
    count: usize,
    outcomes: Vec<Outcome>,
}

struct Work {
    engine: Arc<EngineHandle>,
    handler: Arc<dyn EventHandler>,
    options: HandlerOptions,
    clock: Arc<dyn Clock>,
    circuit: Arc<Mutex<Circuit>>,
    stopping: Arc<AtomicBool>,
    on_gone: OnGone,
    /// What is asked for; kept while calls come back, so that it is asked once.
    pull: Option<BoxFuture<'static, crate::Result<Offer>>>,
    calls: FuturesUnordered<BoxFuture<'static, Back>>,
    decisions: Vec<Item>,
}

impl Work {
    async fn run(mut self) {
        loop {
            let stopping = self.stopping.load(Ordering::Acquire);
            if stopping && self.calls.is_empty() {
                return;
            }
            let now = self.clock.monotonic();
            let allowed = self.circuit.lock().allowed(now);
            let wait = self.ask(allowed, stopping);
            let (pull, clock) = (&mut self.pull, &*self.clock);
            let pulled = async {
                match (pull, wait) {
                    (Some(pull), _) => Some(pull.await),
                    (None, Some(until)) => {
                        clock.sleep_until(until).await;
                        None
                    }
                    (None, None) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(back) = self.calls.next(), if !self.calls.is_empty() => {
                    self.back(back);
                    // Those that are back already are decided in the same request.
                    while let Some(Some(back)) = self.calls.next().now_or_never() {
                        self.back(back);
                    }
                    if self.decide().await.is_err() {
                        return;
                    }
                }
                offer = pulled => {
                    self.pull = None;
                    match offer {
                        None => {}
                        Some(Ok(offer)) => self.call_all(offer.accept(), allowed == Allowed::Probe),
                        // The engine is over, and so is this.
                        Some(Err(_)) if self.engine.is_over() => return,
                        Some(Err(_)) => self.clock.sleep_until(now + Duration::from_millis(100)).await,
                    }
                }
            }
        }
    }

    /// Asks the engine for what may be delivered, where that is not asked already. Answers until when there
    /// is nothing to ask for.
    fn ask(&mut self, allowed: Allowed, stopping: bool) -> Option<Monotonic> {
        let free = self.options.concurrency.saturating_sub(self.calls.len());
        // A probe is one delivery, whatever its key has behind it.
        let (max, lanes) = match allowed {
            _ if stopping || free == 0 => (0, 0),
            Allowed::All => (usize::MAX, free),
            Allowed::Probe => (1, 1),
            Allowed::Wait(until) => {
                self.pull = None;
                return until;
            }
        };
        if lanes == 0 {
            self.pull = None;
        } else if self.pull.is_none() {
            let (engine, clock) = (self.engine.clone(), self.clock.clone());
            self.pull =
                Some(Box::pin(
                    async move { engine.pull_lanes(max, lanes, BYTES_MAX, PULL_WAIT, &*clock).await },
                ));
        }
        None
    }

    /// Calls the handler for each run.
    fn call_all(&mut self, handed: Vec<Handed>, probe: bool) {
        if probe && !handed.is_empty() {
            self.circuit.lock().probe();
        }
        let mut run: VecDeque<(Handed, HandlerDelivery)> = VecDeque::new();
        for handed in handed {
            let same = run.back().is_some_and(|(last, _)| {
                last.key == handed.key
                    && last.delivery.run == handed.delivery.run
                    && last.delivery.lease.id.session == handed.delivery.lease.id.session
            });
            if !same && !run.is_empty() {
                let leases = std::mem::take(&mut run);
                self.call(Run { leases, probe });
            }
            let delivery = of(&handed);
            run.push_back((handed, delivery));
        }
        if !run.is_empty() {
            self.call(Run { leases: run, probe });
        }
    }

    fn call(&mut self, run: Run) {
        let count = if self.options.whole_runs { run.leases.len() } else { 1 };
        let now = self.clock.monotonic();
        let deadline = now + self.options.timeout;
        let (handler, clock) = (self.handler.clone(), self.clock.clone());
        let mut deliveries: Vec<_> =
            run.leases.iter().take(count).map(|(_, delivery)| delivery.clone()).collect();
        deliveries.iter_mut().for_each(|delivery| delivery.deadline = deadline);
        self.calls.push(Box::pin(async move {
            let outcomes = guarded(&*handler, &deliveries, &*clock, deadline).await;
            Back { run, count, outcomes }
        }));
    }

    /// Turns the answers of a call into decisions, and calls for the rest of the run.
    fn back(&mut self, back: Back) {
        let Back { mut run, count, outcomes } = back;
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        let mut outcomes = outcomes.into_iter();
        for _ in 0..count {
            let Some((handed, _)) = run.leases.pop_front() else { break };
            let outcome = outcomes.next().unwrap_or_else(no_answer);
            let seen = match &outcome {
                Outcome::Retry { outage: true, .. } => Seen::Outage,
                Outcome::NotReached { .. } => Seen::NotReached,
                _ => Seen::Answered,
            };
            let open = self.circuit.lock().note(now, wall, seen, run.probe);
            let (decision, goes_on) = match outcome {
                Outcome::Ack => (Decision::Ack, true),
                Outcome::Reject { failure } => (Decision::Reject { failure }, true),
                Outcome::Retry { outage: true, .. } if open => {
                    (Decision::Release { after: Duration::ZERO }, false)
                }
                Outcome::Retry { after, failure, .. } => (Decision::Retry { after, failure }, false),
                Outcome::NotReached { .. } => (Decision::Release { after: NOT_REACHED_AGAIN }, false),
                Outcome::Gone { failure } => {
                    (self.on_gone)(failure);
                    (Decision::Release { after: Duration::ZERO }, false)
                }
            };
            self.push(&handed, decision);
            if !goes_on {
                // What comes after it was not handled, or does not count: it comes again behind it.
                for (handed, _) in std::mem::take(&mut run.leases) {
                    self.push(&handed, Decision::Release { after: Duration::ZERO });
                }
                return;
            }
        }
        if !run.leases.is_empty() {
            self.call(run);
        }
    }

    fn push(&mut self, handed: &Handed, decision: Decision) {
        let lease: Lease = handed.delivery.lease;
        let index = self.decisions.len();
        let claim = handed.delivery.claim;
        self.decisions.push(Item { index, key: handed.key, lease, claim, decision });
    }

    /// Hands decisions back. What does not hold now is the engine's matter: it tries again, or the event
    /// comes again.
    async fn decide(&mut self) -> crate::Result<()> {
        let items = std::mem::take(&mut self.decisions);
        self.engine.tell(items).await
    }
}

fn of(handed: &Handed) -> HandlerDelivery {
    let delivery = &handed.delivery;
    HandlerDelivery {
        id: format!("{:016x}-{}-{}", handed.log, handed.first, delivery.record.offset),
        attempt: delivery.attempt,
        deadline: delivery.deadline,
        topic: handed.topic.clone(),
        partition: handed.first,
        record: delivery.record.clone(),
    }
}

/// Calls a handler, whose panics are failures and whose time is bounded.
async fn guarded(
    handler: &dyn EventHandler,
    deliveries: &[HandlerDelivery],
    clock: &dyn Clock,
    deadline: Monotonic,
) -> Vec<Outcome> {
    let call = AssertUnwindSafe(handler.handle(deliveries)).catch_unwind();
    tokio::select! {
        biased;
        outcomes = call => outcomes.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            let failure = Failure::new("panic", format!("the handler panicked: {said}"));
            vec![Outcome::Retry { after: None, outage: false, failure }]
        }),
        () = clock.sleep_until(deadline) => {
            let failure = Failure::new("timeout", "the handler did not answer in time");
            vec![Outcome::Retry { after: None, outage: true, failure }]
        }
    }
}

fn no_answer() -> Outcome {
    let failure = Failure::new("no-answer", "the handler did not answer for this event");
    Outcome::Retry { after: None, outage: false, failure }
}
