//! Taking part in the group: joins, joins again after a failure, and tells what is assigned.

use super::{Context, backoff, leaving::topic_for};
use futures::future::BoxFuture;
use ports::{ErrorKind, Membership, MembershipEvent, PortError, Result, Retry, TopicName};
use std::sync::Arc;

/// A place in the group, or the way there.
pub(super) struct Member {
    context: Arc<Context>,
    state: State,
    failures: u32,
}

enum State {
    Joining(BoxFuture<'static, Result<Box<dyn Membership>>>),
    Joined(Box<dyn Membership>),
    Left,
}

/// What the engine learns.
pub(super) enum News {
    /// It is a member now, with nothing assigned yet.
    Joined,
    /// Something about its partitions.
    Event(MembershipEvent),
    /// Something failed; the membership goes on.
    Trouble(PortError),
    /// The membership is over and all partitions are lost; it joins again by itself.
    Over(PortError),
}

impl Member {
    pub(super) fn new(context: Arc<Context>) -> Self {
        let state = State::Joining(join(context.clone(), 0));
        Self { context, state, failures: 0 }
    }

    pub(super) fn is_joined(&self) -> bool {
        matches!(self.state, State::Joined(_))
    }

    /// The next thing to know. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> News {
        match &mut self.state {
            State::Left => std::future::pending().await,
            State::Joining(joining) => match joining.await {
                Ok(membership) => {
                    self.state = State::Joined(membership);
                    self.failures = 0;
                    News::Joined
                }
                Err(error) => self.over(error),
            },
            State::Joined(membership) => match membership.next().await {
                Ok(event) => News::Event(event),
                Err(error) if matches!(error.retry(), Retry::Transient { .. }) => News::Trouble(error),
                Err(error) => self.over(error),
            },
        }
    }

    fn over(&mut self, error: PortError) -> News {
        self.failures += 1;
        self.state = State::Joining(join(self.context.clone(), self.failures));
        News::Over(error)
    }

    /// Leaves the group, if it is in it.
    pub(super) async fn leave(&mut self) {
        if let State::Joined(membership) = std::mem::replace(&mut self.state, State::Left)
            && let Err(error) = membership.leave().await
        {
            tracing::warn!(subscription = %self.context.definition.name, %error, "the group could not be left");
        }
    }
}

fn join(context: Arc<Context>, failures: u32) -> BoxFuture<'static, Result<Box<dyn Membership>>> {
    Box::pin(async move {
        if failures > 0 {
            context.sleep(backoff(failures)).await;
        }
        let definition = &context.definition;
        // What retries wait in is read from the first, so that none of it is overlooked.
        for topic in &context.retry_topics {
            topic_for(&context, topic, &definition.topics[0])
                .await
                .map_err(|error| not_made(topic, &error))?;
        }
        let topics = [&definition.topics[..], &context.retry_topics].concat();
        context.ports.membership.join(&definition.name, &topics).await
    })
}

fn not_made(topic: &TopicName, error: &crate::Error) -> PortError {
    let detail = format!("retry topic `{topic}` cannot be made: {}", error.detail());
    PortError::new(ErrorKind::Unavailable, "joining", detail)
}
