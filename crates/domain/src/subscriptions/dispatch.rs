//! Giving deliveries to a handler of this process: a webhook, or one that is linked in.
//!
//! One task a subscription takes what is ready from the engine, as a client would, calls the handler and
//! hands its answers back as decisions. All that is true of a delivery (its lease, its claim, its attempts)
//! is the engine's matter.
//!
//! Invariants:
//! - At most `concurrency` calls are under way, and no two of them for one key.
//! - What is taken is called at once: nothing waits here while its time runs, but for the moment in which
//!   others are called that answer without waiting.
//! - A call ends before its delivery lapses: what has lapsed goes out again, and would be handled beside itself.
//! - A decision is given as soon as its call is back, those that are back together in one request.
//! - While the circuit is open only probes are taken, and an outage counts no attempt.
//! - What is cut off at the end is handed back before the engine ends, and counts no attempt.

use super::{
    circuit::{Allowed, Circuit, CircuitConfig, Seen},
    counts::Counts,
    definition::Cause,
    engine::{EngineHandle, Handed, Item, Offer},
};
use crate::{
    delivery::{Decision, Lease},
    digits::{push_decimal, push_hex},
    event_schemas::ShownValue,
};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;
use ports::{Clock, EventHandler, Failure, HandlerDelivery, Monotonic, Outcome, Timestamp};
use slab::Slab;
use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// How long what could not be brought to its handler waits, while the circuit is not open yet.
const NOT_REACHED_AGAIN: Duration = Duration::from_secs(1);
/// How long one request for deliveries waits.
const PULL_WAIT: Duration = Duration::from_secs(60);
/// The most bytes that are taken at once.
const BYTES_MAX: usize = 8 << 20;
/// For so long calls that are back at once follow each other before others have their turn.
const AT_ONCE_MAX: Duration = Duration::from_millis(5);
/// How long before the engine ends, or a delivery lapses, what is under way is cut off, so that what became of it
/// can be said.
const CUT_BEFORE: Duration = Duration::from_millis(500);
/// The most characters that are shown of why a circuit is open.
const WHY_CHARS_MAX: usize = 300;
/// How much later than the handler's own time a lease ends, so that it is the call that times out.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// How a handler is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandlerOptions {
    /// The most calls at once.
    pub concurrency: usize,
    /// How long one call may take. One of a linked handler never takes longer than the subscription's `ackTimeout`,
    /// less half a second (a tenth of it, if that is less): make that longer for a handler that needs more.
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

/// How a subscription's handler is called.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) options: HandlerOptions,
    /// What it answers is counted here.
    pub(super) counts: Arc<Counts>,
    /// So many events that have no order among themselves go into one call; 1 keeps each by itself.
    pub(super) together: usize,
    /// The longest that a handler may put off what it is given.
    pub(super) after_max: Duration,
}

/// Why a handler wants nothing more.
pub(super) type OnGone = Box<dyn Fn(Failure) + Send + Sync>;

/// A dispatcher. Dropping it ends it at once; what is under way is lost and comes again.
pub(super) struct Dispatcher {
    task: JoinHandle<()>,
    /// Once nothing more is to be taken: when what is under way is cut off.
    stop: watch::Sender<Option<Monotonic>>,
    watched: Arc<Mutex<Watched>>,
    clock: Arc<dyn Clock>,
}

/// The handler's circuit, and why it is open.
#[derive(Debug)]
struct Watched {
    circuit: Circuit,
    why: String,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("watched", &self.watched).finish_non_exhaustive()
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
        plan: Plan,
        clock: Arc<dyn Clock>,
        on_gone: OnGone,
    ) -> Self {
        let (stop, stopping) = watch::channel(None);
        let circuit = Circuit::new(plan.options.circuit);
        let watched = Arc::new(Mutex::new(Watched { circuit, why: String::new() }));
        let work = Work {
            engine,
            handler,
            plan,
            clock: clock.clone(),
            watched: watched.clone(),
            stopping,
            on_gone,
            gone: None,
            pull: None,
            calls: FuturesUnordered::new(),
            runs: Slab::new(),
            decisions: Vec::new(),
        };
        Self { task: tokio::spawn(work.run()), stop, watched, clock }
    }

    /// Takes nothing more and lets what is under way go on until a moment before `until` (`None`: not at
    /// all); hands back what is left. Returns when all that has reached the engine.
    ///
    /// # Cancellation
    /// It stops all the same.
    pub(super) async fn stop(&self, until: Option<Monotonic>) {
        let cut_at =
            until.map_or_else(|| self.clock.monotonic(), |u| Monotonic(u.0.saturating_sub(CUT_BEFORE)));
        self.stop.send_replace(Some(cut_at));
        self.stop.closed().await;
    }

    /// Why nothing is delivered, while the circuit is open.
    pub(super) fn cause(&self) -> Option<Cause> {
        let watched = self.watched.lock();
        let (since, next) = watched.circuit.open_since()?;
        let wait = next.since(self.clock.monotonic()).as_millis();
        let why = &watched.why;
        let detail =
            format!("the handler is out of order ({why}); it is tried again with one delivery in {wait} ms");
        Some(Cause { code: "circuit-open", since, detail })
    }
}

/// A run, with the part of it that is not handled yet.
struct Run {
    leases: VecDeque<Handed>,
    /// How many of them the call that is under way is for.
    count: usize,
    probe: bool,
    /// How long each of them may be under way.
    time: Duration,
}

/// A call that is under way, for a run of [`Work::runs`].
struct Call {
    run: usize,
    outcomes: BoxFuture<'static, Vec<Outcome>>,
    /// When it was called.
    since: Monotonic,
}

/// A call that is back.
struct Back {
    run: usize,
    outcomes: Vec<Outcome>,
    since: Monotonic,
}

impl Future for Call {
    type Output = Back;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Back> {
        let (run, since) = (self.run, self.since);
        self.outcomes.poll_unpin(context).map(|outcomes| Back { run, outcomes, since })
    }
}

struct Work {
    engine: Arc<EngineHandle>,
    handler: Arc<dyn EventHandler>,
    plan: Plan,
    clock: Arc<dyn Clock>,
    watched: Arc<Mutex<Watched>>,
    stopping: watch::Receiver<Option<Monotonic>>,
    on_gone: OnGone,
    /// Said by a call that is back: the handler wants nothing more.
    gone: Option<Failure>,
    /// What is asked for; kept while calls come back, so that it is asked once.
    pull: Option<BoxFuture<'static, crate::Result<Offer>>>,
    calls: FuturesUnordered<Call>,
    /// What the calls are for; here, so that it can be handed back when they are cut off.
    runs: Slab<Run>,
    decisions: Vec<Item>,
}

impl Work {
    async fn run(mut self) {
        loop {
            let cut_at = *self.stopping.borrow_and_update();
            let now = self.clock.monotonic();
            if cut_at.is_some_and(|at| at <= now || self.calls.is_empty()) {
                return self.cut_off().await;
            }
            let allowed = self.watched.lock().circuit.allowed(now);
            let wait = self.ask(allowed, cut_at.is_some(), self.calls.len());
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
                changed = self.stopping.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = clock.sleep_until(cut_at.unwrap_or_default()), if cut_at.is_some() => {}
                Some(back) = self.calls.next(), if !self.calls.is_empty() => {
                    let begun = self.clock.monotonic();
                    self.back(back, begun);
                    // Those that are back already are decided in the same request.
                    while let Some(Some(back)) = self.calls.next().now_or_never() {
                        self.back(back, begun);
                    }
                    self.pause_if_gone().await;
                    if self.decide().await.is_err() {
                        return;
                    }
                }
                offer = pulled => {
                    self.pull = None;
                    match offer {
                        None => {}
                        Some(Ok(offer)) => {
                            let runs = self.runs_of(offer.accept(), allowed == Allowed::Probe);
                            if allowed == Allowed::All {
                                // The engine is at the next ones while the handler is at these.
                                self.ask(allowed, cut_at.is_some(), self.calls.len() + runs.len());
                                self.say_pull();
                            }
                            let begun = self.clock.monotonic();
                            runs.into_iter().fold(begun, |now, run| self.call(run, begun, now));
                            self.pause_if_gone().await;
                            if self.decide().await.is_err() {
                                return;
                            }
                        }
                        // The engine is over, and so is this.
                        Some(Err(_)) if self.engine.is_over() => return,
                        Some(Err(_)) => self.clock.sleep_until(now + Duration::from_millis(100)).await,
                    }
                }
            }
        }
    }

    /// Asks the engine for what may be delivered, where that is not asked already and fewer calls than may be
    /// are under way. Answers until when there is nothing to ask for.
    fn ask(&mut self, allowed: Allowed, stopping: bool, under_way: usize) -> Option<Monotonic> {
        let free = self.plan.options.concurrency.saturating_sub(under_way);
        // A probe is one delivery, whatever its key has behind it.
        let (max, lanes) = match allowed {
            _ if stopping || free == 0 => (0, 0),
            // Half of them at once, so that the engine is at the next ones while the handler is at these.
            Allowed::All => {
                let calls = free.min(self.plan.options.concurrency.div_ceil(2));
                (usize::MAX, calls.saturating_mul(self.plan.together))
            }
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

    /// Has what is asked for reach the engine now, and not when it is waited for.
    fn say_pull(&mut self) {
        if let Some(offer) = self.pull.as_mut().and_then(FutureExt::now_or_never) {
            self.pull = Some(Box::pin(ready(offer)));
        }
    }

    /// What was taken, as runs that are to be called for.
    fn runs_of(&mut self, handed: Vec<Handed>, probe: bool) -> Vec<Run> {
        if probe && !handed.is_empty() {
            self.watched.lock().circuit.probe();
        }
        let (together, timeout, now) =
            (self.plan.together, self.plan.options.timeout, self.clock.monotonic());
        // The lease of the first begins now, and that of each later one when its turn has come.
        let run_of = |leases: VecDeque<Handed>| {
            let lease = leases.front().map_or(Duration::MAX, |first| first.delivery.deadline.since(now));
            let time = timeout.min(lease.saturating_sub(CUT_BEFORE.min(lease / 10)));
            Run { leases, count: 0, probe, time }
        };
        let mut runs = Vec::new();
        let mut run: VecDeque<Handed> = VecDeque::new();
        for handed in handed {
            let same = run.back().is_some_and(|last| {
                together > 1 && run.len() < together
                    || last.key == handed.key
                        && last.delivery.run == handed.delivery.run
                        && last.delivery.lease.id.session == handed.delivery.lease.id.session
            });
            if !same && !run.is_empty() {
                // With as many keys as events, runs are of one.
                let leases = std::mem::replace(&mut run, VecDeque::with_capacity(1));
                runs.push(run_of(leases));
            }
            run.push_back(handed);
        }
        if !run.is_empty() {
            runs.push(run_of(run));
        }
        runs
    }

    /// Calls the handler for a run now, and while it answers at once for what is left of it too; not for long,
    /// from `begun` on. Answers the time by then.
    fn call(&mut self, mut run: Run, begun: Monotonic, mut now: Monotonic) -> Monotonic {
        loop {
            let since = now;
            let options = &self.plan.options;
            run.count = if options.whole_runs { run.leases.len() } else { 1 };
            let deadline = since + run.time;
            let (handler, clock) = (self.handler.clone(), self.clock.clone());
            let deliveries: Vec<_> =
                run.leases.iter().take(run.count).map(|handed| of(handed, deadline)).collect();
            let mut outcomes: BoxFuture<'static, _> =
                Box::pin(async move { guarded(&*handler, &deliveries, &*clock, deadline).await });
            let at_once = since.since(begun) < AT_ONCE_MAX;
            let Some(outcomes) = at_once.then(|| (&mut outcomes).now_or_never()).flatten() else {
                let run = self.runs.insert(run);
                self.calls.push(Call { run, outcomes, since });
                return now;
            };
            now = self.clock.monotonic();
            match self.answered(run, outcomes, now, now.since(since)) {
                Some(rest) => run = rest,
                None => return now,
            }
        }
    }

    /// Takes the answers of a call that was under way, and calls for the rest of its run.
    fn back(&mut self, back: Back, begun: Monotonic) {
        let Some(run) = self.runs.try_remove(back.run) else { return };
        let now = self.clock.monotonic();
        if let Some(rest) = self.answered(run, back.outcomes, now, now.since(back.since)) {
            self.call(rest, begun, now);
        }
    }

    /// Turns the answers of a call that took so long into decisions; gives what is left of the run and is to be
    /// called for.
    fn answered(
        &mut self,
        mut run: Run,
        outcomes: Vec<Outcome>,
        now: Monotonic,
        took: Duration,
    ) -> Option<Run> {
        self.plan.counts.call(took);
        let mut outcomes = outcomes.into_iter();
        for _ in 0..run.count {
            let Some(handed) = run.leases.pop_front() else { break };
            let outcome = outcomes.next().unwrap_or_else(no_answer);
            self.plan.counts.outcome(&outcome);
            let seen = match &outcome {
                Outcome::Retry { outage: true, .. } => Seen::Outage,
                Outcome::NotReached { .. } => Seen::NotReached,
                _ => Seen::Answered,
            };
            let open = self.note(now, seen, run.probe, &outcome);
            let (decision, goes_on) = match outcome {
                Outcome::Ack => (Decision::Ack, true),
                Outcome::Reject { failure } => (Decision::Reject { failure }, true),
                Outcome::Retry { outage: true, after, .. } if open => {
                    let after = after.unwrap_or_default().min(self.plan.after_max);
                    (Decision::Release { after }, false)
                }
                Outcome::Retry { after, failure, .. } => (Decision::Retry { after, failure }, false),
                Outcome::NotReached { .. } => (Decision::Release { after: NOT_REACHED_AGAIN }, false),
                Outcome::Gone { failure } => {
                    self.gone.get_or_insert(failure);
                    (Decision::Release { after: Duration::ZERO }, false)
                }
            };
            self.push(&handed, decision);
            if !goes_on && self.plan.together == 1 {
                // What comes after it was not handled, or does not count: it comes again behind it.
                for handed in std::mem::take(&mut run.leases) {
                    self.push(&handed, Decision::Release { after: Duration::ZERO });
                }
                return None;
            }
        }
        (!run.leases.is_empty()).then_some(run)
    }

    /// Notes what a delivery said of its handler. Answers whether the circuit is open now.
    fn note(&self, now: Monotonic, seen: Seen, probe: bool, outcome: &Outcome) -> bool {
        // Only what opens it is shown, with its time.
        let wall = if seen == Seen::Answered { Timestamp::default() } else { self.clock.wall() };
        let mut watched = self.watched.lock();
        let open = watched.circuit.note(now, wall, seen, probe);
        if let Outcome::Retry { outage: true, failure, .. } | Outcome::NotReached { failure } = outcome
            && open
        {
            let why = format!("{}: {}", failure.kind, failure.message);
            watched.why = why.chars().take(WHY_CHARS_MAX).collect();
        }
        open
    }

    /// Pauses the engine where the handler wants nothing more: at once, so that what is handed back does not
    /// go out again until that is kept.
    async fn pause_if_gone(&mut self) {
        let Some(failure) = self.gone.take() else { return };
        // What it may have been given already goes back too.
        self.pull = None;
        let (since, detail) = (self.clock.wall(), failure.message.clone());
        // An engine that is over delivers nothing either.
        let _ = self.engine.pause(Some(Cause { code: "handler-gone", since, detail })).await;
        (self.on_gone)(failure);
    }

    /// Ends the calls that are under way and hands back what they were for.
    async fn cut_off(&mut self) {
        self.pull = None;
        self.calls.clear();
        for (_, run) in std::mem::take(&mut self.runs) {
            for handed in run.leases {
                self.push(&handed, Decision::Release { after: Duration::ZERO });
            }
        }
        // An engine that is over has let go of everything.
        let _ = self.decide().await;
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

fn of(handed: &Handed, deadline: Monotonic) -> HandlerDelivery {
    let delivery = &handed.delivery;
    let mut id = String::with_capacity(48);
    push_hex(&mut id, handed.log, 16);
    id.push('-');
    push_hex(&mut id, u64::from(handed.epoch), 8);
    id.push('-');
    push_decimal(&mut id, u64::from(handed.first));
    id.push('-');
    push_decimal(&mut id, delivery.record.offset);
    HandlerDelivery {
        id,
        attempt: delivery.attempt,
        deadline,
        topic: handed.topic.clone(),
        partition: handed.first,
        record: match &handed.value {
            ShownValue::Decoded(decoded) => Arc::new(decoded.record(&delivery.record)),
            ShownValue::Plain | ShownValue::Undecodable(_) => delivery.record.clone(),
        },
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
        // The timer is made where it is needed: most handlers that answer at once never need it.
        () = async { clock.sleep_until(deadline).await } => {
            let failure = Failure::new("timeout", "the handler did not answer in time");
            vec![Outcome::Retry { after: None, outage: true, failure }]
        }
    }
}

fn no_answer() -> Outcome {
    let failure = Failure::new("no-answer", "the handler did not answer for this event");
    Outcome::Retry { after: None, outage: false, failure }
}
