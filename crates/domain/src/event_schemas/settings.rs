//! Which subject the values of a topic follow, and how strictly: kept in the store of documents, known in memory.
//!
//! What one replica changes the others know within [`LOOK_EVERY`]. Where the store does not answer, what was known
//! goes on to hold.

use super::EventSchemas;
use crate::{
    error::{Error, ErrorCode, Result},
    schemas::registry::Subject,
};
use bytes::Bytes;
use parking_lot::RwLock;
use ports::{Clock, ErrorKind, Expected, JobKind, TopicName};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

/// How often it is looked what other replicas have changed.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the values of a topic follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicSchema {
    /// The subject whose latest version values are written by. The versions of it may all be read.
    pub subject: String,
    /// Whether every value must follow it, null alone excepted. Otherwise values of other content types, and all of
    /// them while the subject has no version, are taken as they are.
    pub required: bool,
    /// Whether a framed value by a known schema that is no version of the subject makes that schema its next version,
    /// where that is compatible. Otherwise such a value is refused.
    pub auto_register: bool,
}

/// What the values of a topic are to follow, as a client says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopicSchema {
    /// The subject; `{topic}-value` where it is left out.
    pub subject: Option<String>,
    /// See [`TopicSchema::required`]; false where it is left out.
    pub required: Option<bool>,
    /// See [`TopicSchema::auto_register`]; false where it is left out.
    pub auto_register: Option<bool>,
}

/// A change to what the values of a topic follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicSchemaChange {
    /// They follow this from now on, all of it.
    Follow(NewTopicSchema),
    /// They follow nothing any more.
    Nothing,
}

impl NewTopicSchema {
    /// What it means for a topic.
    ///
    /// # Errors
    /// `InvalidRequest` for a subject that is none.
    pub(super) fn decide(self, topic: &TopicName) -> Result<TopicSchema> {
        let subject = match self.subject {
            None => format!("{topic}-value"),
            Some(given) => {
                Subject::parse(&given).map_err(|error| Error::invalid("schema.subject", error.message()))?;
                given
            }
        };
        Ok(TopicSchema {
            subject,
            required: self.required.unwrap_or_default(),
            auto_register: self.auto_register.unwrap_or_default(),
        })
    }
}

type ByTopic = HashMap<TopicName, Arc<TopicSchema>>;

/// The settings of all topics, as last known.
#[derive(Debug, Default)]
pub(super) struct Settings(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    by_topic: ByTopic,
    /// How often this replica changed something: what was read before a change does not undo it.
    changes: u64,
}

impl EventSchemas {
    /// Loads the settings of topics. With `shared`, goes on to look what other replicas change, as long as this is
    /// there.
    ///
    /// # Errors
    /// What the store of documents says: nothing is known then.
    pub async fn start(self: &Arc<Self>, shared: bool) -> Result<()> {
        self.refresh().await?;
        if shared {
            tokio::spawn(watch(Arc::downgrade(self), self.clock.clone()));
        }
        Ok(())
    }

    /// What the values of a topic follow; `None` where nobody said.
    pub fn of(&self, topic: &TopicName) -> Option<Arc<TopicSchema>> {
        self.settings.0.read().by_topic.get(topic).cloned()
    }

    async fn refresh(&self) -> Result<()> {
        let changes = self.settings.0.read().changes;
        let mut by_topic = ByTopic::new();
        for stored in self.jobs.list(JobKind::Topic).await? {
            match (TopicName::new(&stored.name), serde_json::from_slice::<TopicSchema>(&stored.value)) {
                (Ok(topic), Ok(schema)) => drop(by_topic.insert(topic, Arc::new(schema))),
                (_, read) => {
                    let error = read.err().map_or_else(String::new, |error| error.to_string());
                    tracing::error!(
                        topic = stored.name,
                        error,
                        "the stored schema of a topic cannot be read"
                    );
                }
            }
        }
        let mut known = self.settings.0.write();
        if known.changes == changes {
            known.by_topic = by_topic;
        }
        Ok(())
    }

    /// Keeps what the values of a topic follow, or that they follow nothing any more.
    pub(super) async fn keep(
        &self,
        topic: &TopicName,
        schema: Option<TopicSchema>,
    ) -> Result<Option<Arc<TopicSchema>>> {
        let value = match &schema {
            Some(schema) => Some(Bytes::from(serde_json::to_vec(schema).map_err(|error| {
                Error::new(ErrorCode::Internal, format!("the schema of a topic cannot be written: {error}"))
            })?)),
            None => None,
        };
        loop {
            let there = self.jobs.get(JobKind::Topic, topic.as_str()).await?;
            let done = match (&value, there) {
                (None, None) => Ok(()),
                (None, Some(there)) => self.jobs.delete(JobKind::Topic, topic.as_str(), there.version).await,
                (Some(value), there) => {
                    let expected = there.map_or(Expected::Absent, |there| Expected::Version(there.version));
                    self.jobs.put(JobKind::Topic, topic.as_str(), expected, value.clone()).await.map(drop)
                }
            };
            match done {
                // Another replica was faster: the last one holds.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
                Ok(()) => break,
            }
        }
        let schema = schema.map(Arc::new);
        let mut known = self.settings.0.write();
        known.changes += 1;
        match &schema {
            Some(schema) => drop(known.by_topic.insert(topic.clone(), schema.clone())),
            None => drop(known.by_topic.remove(topic)),
        }
        Ok(schema)
    }
}

async fn watch(schemas: Weak<EventSchemas>, clock: Arc<dyn Clock>) {
    let mut readable = true;
    loop {
        clock.sleep_until(clock.monotonic() + LOOK_EVERY).await;
        let Some(schemas) = schemas.upgrade() else { return };
        let refreshed = schemas.refresh().await;
        // Said when it changes, not every second.
        if let Err(error) = &refreshed
            && readable
        {
            tracing::warn!(%error, "the schemas of topics cannot be read for now: what was known holds");
        }
        readable = refreshed.is_ok();
    }
}
