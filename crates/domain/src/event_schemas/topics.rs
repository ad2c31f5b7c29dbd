//! The operator's use cases for topics, with what their values follow.

use super::{EventSchemas, NewTopicSchema, TopicSchema, TopicSchemaChange};
use crate::{
    error::Result,
    topics::{NewTopic, TopicChange, topic_name},
};
use ports::TopicInfo;
use std::sync::Arc;

/// A topic in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicWithSchema {
    /// The topic.
    pub info: TopicInfo,
    /// What its values follow; `None` where nobody said.
    pub schema: Option<Arc<TopicSchema>>,
}

impl EventSchemas {
    /// Creates a topic, and keeps what its values follow. What was said of an earlier topic of that name does not
    /// hold for this one.
    ///
    /// # Errors
    /// As [`Topics::create`](crate::topics::Topics::create), and `InvalidRequest` for a subject that is none. Where
    /// the state store fails the topic is there, without its schema: it can be said by [`Self::alter_topic`].
    pub async fn create_topic(
        &self,
        new: NewTopic,
        schema: Option<NewTopicSchema>,
    ) -> Result<TopicWithSchema> {
        let name = topic_name("name", &new.name)?;
        let schema = schema.map(|schema| schema.decide(&name)).transpose()?;
        let info = self.topics.create(new).await?;
        let schema = match schema {
            None if self.of(&name).is_none() => None,
            schema => self.keep(&name, schema).await?,
        };
        Ok(TopicWithSchema { info, schema })
    }

    /// One topic in full.
    ///
    /// # Errors
    /// As [`Topics::get`](crate::topics::Topics::get).
    pub async fn topic(&self, name: &str) -> Result<TopicWithSchema> {
        let info = self.topics.get(name).await?;
        let schema = self.of(&info.name);
        Ok(TopicWithSchema { info, schema })
    }

    /// Changes a topic, and what its values follow: what is not said stays. What holds for values that are in
    /// the log already is what is said last.
    ///
    /// # Errors
    /// As [`Topics::alter`](crate::topics::Topics::alter), and `InvalidRequest` for a subject that is none. Everything
    /// is checked before anything is changed; the schema is changed last.
    pub async fn alter_topic(
        &self,
        name: &str,
        change: TopicChange,
        schema: Option<TopicSchemaChange>,
    ) -> Result<TopicWithSchema> {
        let topic = topic_name("topic", name)?;
        let is_said = schema.is_some();
        let said = match schema {
            Some(TopicSchemaChange::Follow(schema)) => Some(schema.decide(&topic)?),
            Some(TopicSchemaChange::Nothing) | None => None,
        };
        let info = self.topics.alter(name, change).await?;
        let schema = if is_said { self.keep(&topic, said).await? } else { self.of(&topic) };
        Ok(TopicWithSchema { info, schema })
    }

    /// Deletes a topic, all that it holds, and what its values were said to follow. The schemas stay.
    ///
    /// # Errors
    /// As [`Topics::delete`](crate::topics::Topics::delete).
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        self.topics.delete(name).await?;
        let topic = topic_name("topic", name)?;
        if self.of(&topic).is_some()
            && let Err(error) = self.keep(&topic, None).await
        {
            // The topic is gone; what is kept of it does not hold for the next one of its name that is created here.
            tracing::warn!(%topic, %error, "what the values of a deleted topic followed is still kept");
        }
        Ok(())
    }
}
