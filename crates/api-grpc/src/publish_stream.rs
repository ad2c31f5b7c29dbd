//! A stream of events: what arrived while one append was under way is the next append.
//!
//! One task reads and decodes, another publishes; between them lies a bounded window. While the log is busy
//! the window fills, then reading stops and HTTP/2 holds the client. One append of a stream is under way at
//! a time, which is what keeps its order; its size follows from the load, so that a fast client is not held
//! to one message a round trip.

use crate::{
    convert,
    proto::{PublishStreamRequest, PublishStreamResponse},
};
use domain::{
    Error,
    publish::{Item, PublishContext, Publisher},
};
use futures::{Stream, StreamExt};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// So many messages are taken into one append at most.
const MESSAGES_MAX: usize = 4096;

type Answer = Result<PublishStreamResponse, Status>;

/// A message, decoded.
struct Message {
    topic: String,
    items: Vec<Item>,
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
) -> mpsc::Receiver<Answer> {
    let (answers, answered) = mpsc::channel(window.max(1));
    let (decoded, waiting) = mpsc::channel(window.max(1));
    tokio::spawn(read(messages, decoded, stop));
    tokio::spawn(async move {
        let mut stream = Publishing { publisher, context, events_max, answers };
        // Nobody listens any more, so nothing more is published.
        let _ = stream.run(waiting).await;
    });
    answered
}

async fn read(
    mut messages: impl Stream<Item = Result<PublishStreamRequest, Status>> + Unpin,
    decoded: mpsc::Sender<Result<Message, Status>>,
    stop: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = decoded.closed() => return,
            () = stop.cancelled() => Some(Err(Status::unavailable("the service stops; what has no answer was not published"))),
        };
        let Some(message) = message else { return };
        let broken = message.is_err();
        let message = message.map(|PublishStreamRequest { topic, events }| Message {
            topic,
            items: events.into_iter().map(convert::item).collect(),
        });
        if decoded.send(message).await.is_err() || broken {
            return;
        }
    }
}

/// The client does not take answers any more.
struct Gone;

struct Publishing {
    publisher: Arc<Publisher>,
    context: PublishContext,
    events_max: usize,
    answers: mpsc::Sender<Answer>,
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
                        return self.answers.send(Err(status)).await.map_err(|_| Gone);
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
        let counts: Vec<usize> = group.iter().map(|message| message.items.len()).collect();
        let items: Vec<Item> = group.into_iter().flat_map(|message| message.items).collect();
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
        for count in counts {
            let results = results.by_ref().take(count).map(convert::result).collect();
            self.answers.send(Ok(PublishStreamResponse { results })).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}
