//! A stream of deliveries with credits, over the same two use cases as pulling: `Subscriptions::pull` and
//! `Subscriptions::acknowledge`. What these promise holds for the stream, whatever stands behind them.
//!
//! One task a stream. It keeps one pull waiting while there is credit and the client takes what it is sent;
//! it gathers the decisions that have arrived and applies them by one call. One call is under way at a time,
//! which makes the next one as large as the load wants it; only calls that wait for dead letters do not hold
//! up the next.
//!
//! Invariants:
//! 1. No more deliveries are out at a stream than it has credits ([`window`]), and every decision is answered
//!    once, in the order of the requests ([`decisions`]).
//! 2. What a client does not take stops everything behind it: at most one pull's deliveries and a few groups of
//!    decisions wait, then nothing is pulled and nothing read, and HTTP/2 holds the client.
//! 3. What was read is applied, however the stream ends. What was pulled and not sent is released
//!    ([`outbox`]), and so is what is out where the client asked for that.

mod decisions;
mod ending;
mod opening;
mod outbox;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use outbox::Answer;

use crate::{
    call,
    error::status,
    proto::{
        SubscribeDecisions, SubscribeDeliveries, SubscribeRequest, SubscribeResponse, SubscribeResults,
        SubscribeStart, subscribe_request, subscribe_response::Message,
    },
    subscriber::delivery,
};
use decisions::{Call, Group};
use domain::{
    Error, ErrorCode, Result,
    delivery::Status as Decided,
    subscriptions::{Pulled, Subscriptions},
};
use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, Fuse, FusedFuture},
    stream::{BoxStream, FuturesOrdered},
};
use outbox::{Outbox, Place};
use ports::{Clock, Monotonic};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use window::{CREDITS_MAX, Window};

/// How long one pull waits; then there is another. The limits may make it less.
const PULL_WAIT: Duration = Duration::from_secs(60);
/// How long to wait before pulling again where a pull was answered with nothing at once, as that of a
/// subscription is that is being changed.
const PAUSE: Duration = Duration::from_millis(100);
/// How often in a row a pull may fail, with longer and longer pauses, before the stream does.
const PULL_FAILURES_MAX: u32 = 5;
/// The bytes of deliveries after which another message begins: well below what clients take.
const DELIVERIES_BYTES: usize = 1 << 20;
/// What a delivery takes beside its record.
const DELIVERY_BYTES: usize = 256;
/// How many calls may wait for dead letters at a time.
const CALLS_MAX: usize = 8;
/// How many messages of results may wait to be sent.
const ANSWERS_MAX: usize = 2;
/// How many messages are read before everything else has its turn again.
const MESSAGES_MAX: usize = 4096;

/// What a stream needs.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The most decisions of one call.
    pub(crate) decisions_max: usize,
    /// The service is about to stop: streams come to their end.
    pub(crate) draining: CancellationToken,
    /// The service stops.
    pub(crate) stop: CancellationToken,
    /// How long streams may go on after that, where they were not told before.
    pub(crate) drain_within: Duration,
}

/// Delivers to a client by what its messages say; gives what to send to it.
pub(crate) fn start(
    context: Context,
    messages: impl Stream<Item = Result<SubscribeRequest, Status>> + Send + Unpin + 'static,
) -> BoxStream<'static, Answer> {
    let (outbox, answers) = Outbox::new();
    tokio::spawn(async move {
        let mut messages = messages;
        match opening::open(&context, &mut messages, &outbox).await {
            Ok(start) => Session::new(context, messages, outbox, start).run().await,
            Err(Some(status)) => outbox.end_with(status).await,
            Err(None) => {}
        }
    });
    answers.boxed()
}

fn stopping() -> Status {
    let detail = "the service stops; what is out keeps its time and may be decided at another replica";
    status(&Error::new(ErrorCode::Unavailable, detail))
}

/// Why a stream ends.
enum End {
    /// The client closed its side.
    Closed,
    /// The status says why.
    Failed(Status),
    /// The client takes no messages any more.
    Gone,
}

/// What a session woke up for.
enum Wake {
    Message(Option<Result<SubscribeRequest, Status>>),
    Answered(Box<Answered>),
    Pulled(Option<PulledAt>),
    Sent,
    Draining,
    Stop,
    Time,
    Gone,
}

/// A call, whether it waited for dead letters, and its answer.
type Answered = (Call, bool, Result<Vec<(String, Decided)>>);

/// A pull's answer, where its first message goes, and when it began.
type PulledAt = (Place, Monotonic, Result<Pulled>);

/// One stream, once it is open.
struct Session<M> {
    context: Context,
    subscription: Arc<str>,
    messages: M,
    outbox: Outbox,
    window: Window,
    release_on_close: bool,
    /// The decisions that are to be applied next, and those that have to wait for them.
    group: Group,
    held: Option<SubscribeDecisions>,
    calls: FuturesOrdered<BoxFuture<'static, Answered>>,
    /// How many calls are under way that do not wait for dead letters.
    quick_calls: usize,
    pull: Option<BoxFuture<'static, Option<PulledAt>>>,
    /// No pull before.
    pause: Option<Monotonic>,
    pull_failures: u32,
    /// What waits to be sent.
    answers: VecDeque<SubscribeResponse>,
    deliveries: VecDeque<SubscribeResponse>,
    told_draining: bool,
    /// The end, where only what is out keeps it from coming.
    drain_until: Option<Monotonic>,
    end: Option<End>,
    draining: Fuse<BoxFuture<'static, ()>>,
    stop: Fuse<BoxFuture<'static, ()>>,
    timer: Option<(Monotonic, BoxFuture<'static, ()>)>,
}

impl<M: Stream<Item = Result<SubscribeRequest, Status>> + Send + Unpin> Session<M> {
    fn new(context: Context, messages: M, outbox: Outbox, start: SubscribeStart) -> Self {
        Self {
            subscription: start.subscription.into(),
            messages,
            outbox,
            window: Window::new(start.credits, start.release_on_close),
            release_on_close: start.release_on_close,
            group: Group::default(),
            held: None,
            calls: FuturesOrdered::new(),
            quick_calls: 0,
            pull: None,
            pause: None,
            pull_failures: 0,
            answers: VecDeque::new(),
            deliveries: VecDeque::new(),
            told_draining: false,
            drain_until: None,
            end: None,
            draining: context.draining.clone().cancelled_owned().boxed().fuse(),
            stop: context.stop.clone().cancelled_owned().boxed().fuse(),
            timer: None,
            context,
        }
    }

    async fn run(mut self) {
        loop {
            self.begin_calls();
            self.begin_pull();
            if self.told_draining && self.deliveries.is_empty() && self.window.is_empty() && self.is_settled()
            {
                self.end(End::Failed(stopping()));
            }
            if self.is_over() {
                return self.finish().await;
            }
            self.set_timer();
            match self.wake().await {
                Wake::Message(message) => self.read(message),
                Wake::Answered(answered) => self.answered(*answered),
                Wake::Pulled(Some((place, began, pulled))) => self.pulled(place, began, pulled),
                Wake::Pulled(None) | Wake::Gone => self.end(End::Gone),
                Wake::Sent => {}
                Wake::Draining => self.drain(),
                Wake::Stop => self.stopped(),
                Wake::Time => self.on_time(),
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let may_read = self.may_read();
        let may_deliver = self.end.is_none() && !self.deliveries.is_empty();
        let may_send = may_deliver || !self.answers.is_empty();
        let may_answer = !self.calls.is_empty() && self.answers.len() < ANSWERS_MAX;
        tokio::select! {
            message = self.messages.next(), if may_read => Wake::Message(message),
            Some(answered) = self.calls.next(), if may_answer => Wake::Answered(Box::new(answered)),
            Some(pulled) = of(&mut self.pull) => {
                self.pull = None;
                Wake::Pulled(pulled)
            }
            place = self.outbox.next_place(), if may_send => {
                let Some(place) = place else { return Wake::Gone };
                // Results before deliveries: they make room.
                let next = self.answers.pop_front();
                if let Some(next) = next.or_else(|| self.deliveries.pop_front()) {
                    place.put(next);
                }
                Wake::Sent
            }
            () = &mut self.draining, if !self.draining.is_terminated() => Wake::Draining,
            () = &mut self.stop, if !self.stop.is_terminated() => Wake::Stop,
            Some(()) = of_timer(&mut self.timer) => {
                self.timer = None;
                Wake::Time
            }
            () = self.outbox.abandoned() => Wake::Gone,
        }
    }

    /// Whether every decision that was read is answered and on its way.
    fn is_settled(&self) -> bool {
        self.group.is_empty() && self.held.is_none() && self.calls.is_empty() && self.answers.is_empty()
    }

    fn is_over(&self) -> bool {
        match self.end {
            None => false,
            Some(End::Gone) => true,
            Some(End::Closed | End::Failed(_)) => self.is_settled(),
        }
    }

    /// Comes to the end, once what was read is answered. The first reason counts, but that a client that has
    /// gone takes no answers.
    fn end(&mut self, end: End) {
        if self.end.is_none() || matches!(end, End::Gone) {
            self.end = Some(end);
        }
        self.stop_delivering();
    }

    fn delivers(&self) -> bool {
        self.end.is_none() && !self.told_draining
    }

    fn stop_delivering(&mut self) {
        // Dropping the pull gives back what it would have been given.
        self.pull = None;
    }

    // ---- what the client says ----

    fn may_read(&self) -> bool {
        self.end.is_none() && self.held.is_none() && self.group.has_room(self.context.decisions_max)
    }

    /// Takes a message, and with it those that have arrived too.
    fn read(&mut self, message: Option<Result<SubscribeRequest, Status>>) {
        self.message(message);
        for _ in 0..MESSAGES_MAX {
            if !self.may_read() {
                return;
            }
            let Some(message) = self.messages.next().now_or_never() else { return };
            self.message(message);
        }
    }

    fn message(&mut self, message: Option<Result<SubscribeRequest, Status>>) {
        let invalid = |field: &str, message: &str| End::Failed(status(&Error::invalid(field, message)));
        let message = match message {
            None => return self.end(End::Closed),
            Some(Err(failed)) => return self.end(End::Failed(call::said(failed))),
            Some(Ok(SubscribeRequest { message })) => message,
        };
        match message {
            Some(subscribe_request::Message::Decisions(said)) => self.hold(said),
            Some(subscribe_request::Message::Credits(credits)) => {
                if let Err(given) = self.window.grant(credits.add) {
                    let message = format!("would make the credits {given}; {CREDITS_MAX} is the most");
                    self.end(invalid("credits.add", &message));
                }
            }
            Some(subscribe_request::Message::Start(_)) => {
                self.end(invalid("start", "must be the first message, and no other"));
            }
            None => self.end(invalid("message", "must be one of `start`, `credits` and `decisions`")),
        }
    }

    fn hold(&mut self, said: SubscribeDecisions) {
        self.held = self.group.take(said, self.context.decisions_max);
    }

    // ---- decisions ----

    fn begin_calls(&mut self) {
        while !self.group.is_empty() && self.quick_calls == 0 && self.calls.len() < CALLS_MAX {
            let group = std::mem::take(&mut self.group);
            let slow = group.is_slow();
            self.quick_calls += usize::from(!slow);
            let (request, call) = group.into_call();
            let (subscriptions, name) = (self.context.subscriptions.clone(), self.subscription.clone());
            self.calls.push_back(Box::pin(async move {
                let answer = subscriptions.acknowledge(&name, request).await;
                (call, slow, answer)
            }));
            if let Some(held) = self.held.take() {
                self.hold(held);
            }
        }
    }

    fn answered(&mut self, (call, slow, answer): Answered) {
        self.quick_calls -= usize::from(!slow);
        let now = self.context.clock.monotonic();
        let window = &mut self.window;
        let results = call.answered(answer, |ack_id, status, extended_by| match (status, extended_by) {
            // It is kept, and so is its place.
            (Decided::Unavailable, _) => {}
            (Decided::Ok, Some(by)) => window.extended(ack_id, now + by),
            _ => window.decided(ack_id),
        });
        let results = Message::Results(SubscribeResults { results });
        self.answers.push_back(SubscribeResponse { message: Some(results) });
    }

    // ---- deliveries ----

    fn begin_pull(&mut self) {
        // Decisions that are under way make room. Waiting for them makes batches of what would go out one by
        // one; where much is free already there is nothing to wait for.
        let worth_it = self.window.has_good_room() || (self.quick_calls == 0 && self.group.is_empty());
        let room = self.window.room();
        let idle = self.pull.is_none() && self.deliveries.is_empty() && self.pause.is_none();
        if !(self.delivers() && idle && worth_it && room > 0) {
            return;
        }
        let place = self.outbox.place();
        let Context { subscriptions, clock, .. } = self.context.clone();
        let name = self.subscription.clone();
        self.pull = Some(Box::pin(async move {
            // What is given out has its time running: it is not to be given before it can be sent.
            let place = place.await?;
            let began = clock.monotonic();
            let pulled = subscriptions.pull(&name, Some(room as i64), Some(PULL_WAIT)).await;
            Some((place, began, pulled))
        }));
    }

    fn pulled(&mut self, place: Place, began: Monotonic, pulled: Result<Pulled>) {
        let now = self.context.clock.monotonic();
        match pulled {
            Ok(pulled) if pulled.deliveries.is_empty() => {
                self.pause = (now.since(began) < PAUSE).then(|| now + PAUSE);
            }
            Ok(pulled) => {
                self.pull_failures = 0;
                self.deliver(place, pulled);
            }
            // It may pass: a subscription that is being changed has no engine for a moment.
            Err(error)
                if error.code() == ErrorCode::Unavailable && self.pull_failures < PULL_FAILURES_MAX =>
            {
                self.pause = Some(now + PAUSE * (1 << self.pull_failures));
                self.pull_failures += 1;
            }
            Err(error) => self.end(End::Failed(status(&error))),
        }
    }

    /// Sends what was pulled, in messages of a size that clients take.
    fn deliver(&mut self, place: Place, pulled: Pulled) {
        let (now, wall) = (self.context.clock.monotonic(), self.context.clock.wall());
        let mut place = Some(place);
        let mut batch = Vec::with_capacity(pulled.deliveries.len());
        let mut bytes = 0;
        let mut send = |batch: Vec<_>| {
            let deliveries = Message::Deliveries(SubscribeDeliveries { deliveries: batch });
            let response = SubscribeResponse { message: Some(deliveries) };
            match place.take() {
                Some(place) => place.put(response),
                None => self.deliveries.push_back(response),
            }
        };
        for pulled in pulled.deliveries {
            let left = u64::try_from(pulled.deadline.0.saturating_sub(wall.0)).unwrap_or_default();
            self.window.delivered(&pulled.ack_id, &pulled.run, now + Duration::from_millis(left));
            let of_this = pulled.record.record.size() + DELIVERY_BYTES;
            if bytes + of_this > DELIVERIES_BYTES && !batch.is_empty() {
                send(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += of_this;
            batch.push(delivery(pulled));
        }
        send(batch);
    }

    // ---- time ----

    fn set_timer(&mut self) {
        let at = [self.window.next_lapse(), self.pause, self.drain_until].into_iter().flatten().min();
        if at != self.timer.as_ref().map(|(at, _)| *at) {
            let clock = &self.context.clock;
            let sleep = |at| {
                let clock = clock.clone();
                (at, async move { clock.sleep_until(at).await }.boxed())
            };
            self.timer = at.map(sleep);
        }
    }

    fn on_time(&mut self) {
        let now = self.context.clock.monotonic();
        self.window.lapse(now);
        self.pause = self.pause.filter(|at| *at > now);
        if self.drain_until.is_some_and(|until| until <= now) {
            self.drain_until = None;
            self.end(End::Failed(stopping()));
        }
    }
}

/// The output of a future that there may be; `None` where there is none.
async fn of<T>(future: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

async fn of_timer(timer: &mut Option<(Monotonic, BoxFuture<'static, ()>)>) -> Option<()> {
    match timer {
        Some((_, sleep)) => {
            sleep.await;
            Some(())
        }
        None => None,
    }
}
