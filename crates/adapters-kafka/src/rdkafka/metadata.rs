//! Which topics and partitions there are, and where their ends lie.

use super::{admin_config, error, reader_config};
use crate::config::KafkaConfig;
use parking_lot::Mutex;
use ports::{ErrorKind, Offset, PartitionId, PortError, Position, Result, TopicName};
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::Metadata as ClusterMetadata,
    types::RDKafkaErrorCode as Code,
};
use std::{collections::HashMap, fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Kafka's default of `max.message.bytes`.
const BATCH_BYTES_MAX_DEFAULT: usize = 1_048_588;
/// How long a leader that has just moved is waited for.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the number of a topic's partitions is believed.
const FRESH: Duration = Duration::from_secs(10);

/// A client that only asks. A consumer, as a producer's question would make a missing topic where the
/// brokers are set to that.
pub(super) struct Metadata {
    client: Arc<BaseConsumer>,
    timeout: Duration,
    admin: AdminClient<DefaultClientContext>,
    known: Mutex<HashMap<TopicName, (Shape, Instant)>>,
}

/// What the data plane needs to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) partitions: PartitionId,
    /// `max.message.bytes`, which bounds what brokers take in one batch, and so each record.
    pub(super) batch_bytes_max: usize,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metadata")
    }
}

impl Metadata {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self> {
        let client: BaseConsumer =
            reader_config(config).create().map_err(|e| error::of(&e, "kafka.open", "the client"))?;
        let admin =
            admin_config(config).create().map_err(|e| error::of(&e, "kafka.open", "the admin client"))?;
        Ok(Self { client: Arc::new(client), timeout: config.request_timeout, admin, known: Mutex::default() })
    }

    /// Asks on a blocking thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        what: impl FnOnce(&BaseConsumer, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        tokio::task::spawn_blocking(move || what(&client, timeout))
            .await
            .map_err(|_| error::aborted(operation))?
            .map_err(|error| error::of(&error, operation, "the cluster"))
    }

    /// The cluster's metadata, of one topic or of all.
    pub(super) async fn cluster(
        &self,
        topic: Option<&TopicName>,
        operation: &'static str,
    ) -> Result<ClusterMetadata> {
        let topic = topic.cloned();
        self.ask(operation, move |client, timeout| {
            client.fetch_metadata(topic.as_ref().map(TopicName::as_str), timeout)
        })
        .await
    }

    /// How many partitions a topic has.
    pub(super) async fn partitions(&self, topic: &TopicName, operation: &'static str) -> Result<PartitionId> {
        Ok(self.shape(topic, operation).await?.partitions)
    }

    /// What a topic looks like, as remembered for a few seconds.
    pub(super) async fn shape(&self, topic: &TopicName, operation: &'static str) -> Result<Shape> {
        if let Some((shape, at)) = self.known.lock().get(topic)
            && at.elapsed() < FRESH
        {
            return Ok(*shape);
        }
        self.look_up(topic, operation).await
    }

    /// The same, asked anew.
    pub(super) async fn look_up(&self, topic: &TopicName, operation: &'static str) -> Result<Shape> {
        let metadata = self.cluster(Some(topic), operation).await?;
        let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
        let code = match found {
            Some(found) => match found.error() {
                None => {
                    let partitions = found.partitions().len() as PartitionId;
                    let shape = Shape { partitions, batch_bytes_max: self.batch_bytes_max(topic).await };
                    self.known.lock().insert(topic.clone(), (shape, Instant::now()));
                    return Ok(shape);
                }
                Some(code) => Code::from(code),
            },
            None => Code::UnknownTopicOrPartition,
        };
        self.forget(topic);
        Err(error::of_code(code, operation, &format!("topic `{topic}`")))
    }

    /// What it was before where the cluster does not tell; Kafka's default where nothing is known.
    async fn batch_bytes_max(&self, topic: &TopicName) -> usize {
        let specifier = ResourceSpecifier::Topic(topic.as_str());
        let options = AdminOptions::new().request_timeout(Some(self.timeout));
        let answers = self.admin.describe_configs([&specifier], &options).await.unwrap_or_default();
        let value = answers.iter().flatten().find_map(|resource| {
            resource
                .entries
                .iter()
                .find(|entry| entry.name == "max.message.bytes")?
                .value
                .as_ref()?
                .parse()
                .ok()
        });
        value.unwrap_or_else(|| {
            let known = self.known.lock().get(topic).map(|(shape, _)| shape.batch_bytes_max);
            known.unwrap_or(BATCH_BYTES_MAX_DEFAULT)
        })
    }

    pub(super) fn forget(&self, topic: &TopicName) {
        self.known.lock().remove(topic);
    }

    /// Resolves positions with one or two requests a broker.
    pub(super) async fn locate(
        &self,
        topic: &TopicName,
        at: &[(PartitionId, Position)],
    ) -> Result<Vec<Offset>> {
        const OPERATION: &str = "event_log.locate";
        let partitions = self.partitions(topic, OPERATION).await?;
        if let Some((partition, _)) = at.iter().find(|(partition, _)| *partition >= partitions) {
            return Err(PortError::new(
                ErrorKind::NotFound,
                OPERATION,
                format!("topic `{topic}` has no partition {partition}"),
            ));
        }
        let wanted: Vec<(i32, KafkaOffset)> =
            at.iter().map(|(partition, position)| (*partition as i32, raw(*position))).collect();
        let mut found = self.query(topic, wanted).await?;
        // No record is as late as that: the end.
        let open: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
        if !open.is_empty() {
            let wanted = open.iter().map(|index| (at[*index].0 as i32, KafkaOffset::End)).collect();
            for (index, end) in open.into_iter().zip(self.query(topic, wanted).await?) {
                found[index] = end;
            }
        }
        found
            .into_iter()
            .map(|offset| {
                offset.ok_or_else(|| {
                    PortError::new(ErrorKind::Unavailable, OPERATION, "a broker gave no offset")
                })
            })
            .collect()
    }

    /// Asks for offsets, again where a leader is just moving.
    async fn query(&self, topic: &TopicName, wanted: Vec<(i32, KafkaOffset)>) -> Result<Vec<Option<Offset>>> {
        let deadline = Instant::now() + LEADER_PATIENCE.min(self.timeout);
        loop {
            match self.query_once(topic, &wanted).await {
                Err((error, true)) if Instant::now() < deadline => {
                    tracing::debug!(%topic, %error, "asking again for offsets");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answer => return answer.map_err(|(error, _)| error),
            }
        }
    }

    /// One `ListOffsets` for all: librdkafka sends what stands as the offset as the request's timestamp,
    /// where -2 is the earliest and -1 the latest (KIP-79).
    async fn query_once(
        &self,
        topic: &TopicName,
        wanted: &[(i32, KafkaOffset)],
    ) -> Result<Vec<Option<Offset>>, (PortError, bool)> {
        const OPERATION: &str = "event_log.locate";
        let failed = |e: &KafkaError, what: &str| {
            let moving = matches!(
                e.rdkafka_error_code(),
                Some(
                    Code::NotLeaderForPartition
                        | Code::LeaderNotAvailable
                        | Code::FencedLeaderEpoch
                        | Code::UnknownLeaderEpoch
                        | Code::OffsetNotAvailable
                )
            );
            (error::of(e, OPERATION, what), moving)
        };
        // A list holds a partition once: the same partition asked for twice goes in another list.
        let mut lists: Vec<(TopicPartitionList, Vec<usize>)> = Vec::new();
        for (index, (partition, offset)) in wanted.iter().enumerate() {
            let at = lists
                .iter()
                .position(|(list, _)| list.find_partition(topic.as_str(), *partition).is_none())
                .unwrap_or_else(|| {
                    lists.push((TopicPartitionList::new(), Vec::new()));
                    lists.len() - 1
                });
            lists[at]
                .0
                .add_partition_offset(topic.as_str(), *partition, *offset)
                .map_err(|e| failed(&e, "the position"))?;
            lists[at].1.push(index);
        }
        let mut found = vec![None; wanted.len()];
        for (list, indexes) in lists {
            let (client, timeout) = (self.client.clone(), self.timeout);
            let asked = tokio::task::spawn_blocking(move || client.offsets_for_times(list, timeout)).await;
            let answer = asked.map_err(|_| (error::aborted(OPERATION), false))?;
            let answer = answer.map_err(|e| failed(&e, "the cluster"))?;
            let by_partition: HashMap<i32, (Result<(), KafkaError>, KafkaOffset)> = answer
                .elements()
                .iter()
                .map(|element| (element.partition(), (element.error(), element.offset())))
                .collect();
            for index in indexes {
                match by_partition.get(&wanted[index].0) {
                    Some((Err(e), _)) => return Err(failed(e, &format!("topic `{topic}`"))),
                    Some((Ok(()), KafkaOffset::Offset(offset))) => found[index] = u64::try_from(*offset).ok(),
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

fn raw(position: Position) -> KafkaOffset {
    match position {
        Position::Earliest => KafkaOffset::Beginning,
        Position::Latest => KafkaOffset::End,
        Position::Timestamp(time) => KafkaOffset::Offset(time.0.max(0)),
    }
}
