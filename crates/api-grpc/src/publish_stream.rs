//! A stream of events: what arrived while one append was under way is the next append.
//!
//! One task reads and decodes, another publishes; between them lies a window that is bounded in messages and
//! in bytes. While the log is busy, or the client does not take its answers, the window fills, then reading
//! stops and HTTP/2 holds the client. A message has its bytes of the window until its answer is taken. One append of a stream is under way at
//! a time, which is what keeps its order; its size follows from the load, so that a fast client is not held
//! to one message a round trip.

use crate::{
    call, convert,
    error::status,
    proto::{PublishStreamRequest, PublishStreamResponse},
};
use domain::{
    Error, ErrorCode,
    publish::{Item, PublishContext, Publisher},
};
use futures::{Stream, StreamExt, stream::BoxStream};
use prost::Message as _;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// So many messages are taken into one append at most.
const MESSAGES_MAX: usize = 4096;
/// The bytes of a stream's window. A message that is larger has all of it to itself.
const WINDOW_BYTES: usize = 16 << 20;

type Answer = Result<PublishStreamResponse, Status>;

/// A message, decoded.
struct Message {
    topic: String,
    items: Vec<Item>,
    room: OwnedSemaphorePermit,
}

/// Publishes what `messages` brings; gives where the answers come, in order. Ends when the messages have
/// ended and all are answered, when nobody takes the answers any more, and when it is to stop: then what was
/// read is answered still.
pub(crate) fn start(
    publisher: Arc<Publisher>,
    context: PublishContext,
    messages: impl Stream<Item = Result<PublishStreamRequest, Status>> + Send + Unpin + 'static,
    window: usize,
    events_max: usize,
    stop: CancellationToken,
) -> BoxStream<'static, Answer> {
    let (answers, answered) = mpsc::channel(window.max(1));
    let (decoded, waiting) = mpsc::channel(window.max(1));
    tokio::spawn(read(messages, decoded, events_max, stop));
    tokio::spawn(async move {
        let mut stream = Publishing { publisher, context, events_max, answers };
        // Nobody listens any more, so nothing more is published.
        let _ = stream.run(waiting).await;
    });
    ReceiverStream::new(answered).map(|(answer, _room)| answer).boxed()
}

async fn read(
    mut messages: impl Stream<Item = Result<PublishStreamRequest, Status>> + Unpin,
    decoded: mpsc::Sender<Result<Message, Status>>,
    events_max: usize,
    stop: CancellationToken,
) {
    let window = Arc::new(Semaphore::new(WINDOW_BYTES));
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = decoded.closed() => return,
            () = stop.cancelled() => Some(Err(stopping())),
        };
        let message = match message {
            None => return,
            Some(Ok(request)) if request.events.len() > events_max => {
                Err(status(&too_many(events_max, request.events.len())))
            }
            Some(Ok(request)) => {
                let bytes = request.encoded_len() + request.events.len() * size_of::<crate::proto::Event>();
                // Nobody closes it. Where the answers are dropped all of it is free again.
                let Ok(room) = window.clone().acquire_many_owned(bytes.min(WINDOW_BYTES) as u32).await else {
                    return;
                };
                let items = request.events.into_iter().map(convert::item).collect();
                Ok(Message { topic: request.topic, items, room })
            }
            Some(Err(failed)) => Err(call::said(failed)),
        };
        let broken = message.is_err();
        if decoded.send(message).await.is_err() || broken {
            return;
        }
    }
}

fn stopping() -> Status {
    let detail = "the service stops; what has no answer was not published";
    status(&Error::new(ErrorCode::Unavailable, detail))
}

fn too_many(most: usize, given: usize) -> Error {
    Error::invalid("events", format!("must hold at most {most} events, holds {given}"))
}

/// The client does not take answers any more.
struct Gone;

struct Publishing {
    publisher: Arc<Publisher>,
    context: PublishContext,
    events_max: usize,
    answers: mpsc::Sender<(Answer, Option<OwnedSemaphorePermit>)>,
}

impl Publishing {
    async fn run(&mut self, mut waiting: mpsc::Receiver<Result<Message, Status>>) -> Result<(), Gone> {
        let mut arrived = Vec::new();
        while waiting.recv_many(&mut arrived, MESSAGES_MAX).await > 0 {
            let mut group: Vec<Message> = Vec::new();
            let mut events = 0;
            for message in arrived.drain(..) {
                let message = match message {
                    Ok(message) => message,
                    Err(status) => {
                        self.publish(std::mem::take(&mut group)).await?;
                        return self.answers.send((Err(status), None)).await.map_err(|_| Gone);
                    }
                };
                let fits = group.last().is_none_or(|last| last.topic == message.topic)
                    && events + message.items.len() <= self.events_max;
                if !fits {
                    self.publish(std::mem::take(&mut group)).await?;
                    events = 0;
                }
                events += message.items.len();
                group.push(message);
            }
            self.publish(group).await?;
        }
        Ok(())
    }

    /// Publishes messages for one topic at once and answers each.
    async fn publish(&mut self, group: Vec<Message>) -> Result<(), Gone> {
        let Some(first) = group.first() else { return Ok(()) };
        let topic = first.topic.clone();
        let mut counts = Vec::with_capacity(group.len());
        let mut rooms = Vec::with_capacity(group.len());
        let mut items = Vec::new();
        for mut message in group {
            counts.push(message.items.len());
            rooms.push(message.room);
            items.append(&mut message.items);
        }
        let total = items.len();
        let published = if items.is_empty() {
            Ok(Vec::new())
        } else {
            tokio::select! {
                published = self.publisher.publish_batches(convert::topic(&topic), items, &counts, &self.context) => published,
                () = self.answers.closed() => return Err(Gone),
            }
        };
        // Where the whole call failed, each item did.
        let mut results = match published {
            Ok(results) => results.into_iter(),
            Err(error) => vec![Err::<_, Error>(error); total].into_iter(),
        };
        for (count, room) in counts.into_iter().zip(rooms) {
            let results = results.by_ref().take(count).map(convert::result).collect();
            let answer = Ok(PublishStreamResponse { results });
            self.answers.send((answer, Some(room))).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}
