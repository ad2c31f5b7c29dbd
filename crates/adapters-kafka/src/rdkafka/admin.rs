//! Topics: created, described, changed and deleted, each told as done only when the cluster shows it.

use super::{admin_config, error, ffi, groups::KafkaGroups, metadata::Metadata};
use crate::config::KafkaConfig;
use async_trait::async_trait;
use ports::{
    ClusterInfo, ErrorKind, Offset, PartitionId, PartitionInfo, PortError, Position, Result, TopicAdmin,
    TopicInfo, TopicName, TopicSpec, TopicSummary,
};
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::Consumer as _,
    error::KafkaError,
    metadata::MetadataTopic,
    types::RDKafkaErrorCode as Code,
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often the cluster is looked at while a change spreads.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct KafkaAdmin {
    client: Arc<AdminClient<DefaultClientContext>>,
    metadata: Arc<Metadata>,
    timeout: Duration,
}

struct Patience {
    operation: &'static str,
    deadline: Instant,
}

impl Patience {
    /// Waits a moment; fails once the time is up.
    async fn moment(&self) -> Result<()> {
        if Instant::now() >= self.deadline {
            let what = "the cluster did not show the change in time";
            return Err(PortError::new(ErrorKind::Timeout, self.operation, what).effect_unknown());
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}

impl fmt::Debug for KafkaAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaAdmin")
    }
}

impl KafkaAdmin {
    pub(super) fn new(config: &KafkaConfig, metadata: Arc<Metadata>) -> Result<Self> {
        let client =
            admin_config(config).create().map_err(|e| error::of(&e, "kafka.open", "the admin client"))?;
        Ok(Self { client: Arc::new(client), metadata, timeout: config.request_timeout })
    }

    /// The groups, over the same client.
    pub(super) fn groups(&self) -> KafkaGroups {
        KafkaGroups::new(self.client.clone(), self.timeout)
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.timeout)).operation_timeout(Some(self.timeout))
    }

    /// For waiting until the cluster shows what was done.
    fn patience(&self, operation: &'static str) -> Patience {
        Patience { operation, deadline: Instant::now() + self.timeout }
    }

    /// How many partitions of a topic have a leader, once all nodes know it; 0 where it is not there.
    async fn led(&self, topic: &TopicName, operation: &'static str) -> Result<usize> {
        let metadata = self.metadata.cluster(Some(topic), operation).await?;
        let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
        let led = |found: &MetadataTopic| {
            let ready = |error: Option<_>, leader: i32| error.is_none() && leader >= 0;
            found.partitions().iter().filter(|p| ready(p.error(), p.leader())).count()
        };
        Ok(found.filter(|found| found.error().is_none()).map_or(0, led))
    }

    async fn config(&self, topic: &TopicName) -> Result<Option<BTreeMap<String, String>>> {
        const OPERATION: &str = "topic_admin.describe";
        let specifier = ResourceSpecifier::Topic(topic.as_str());
        let answers = self.client.describe_configs([&specifier], &self.options()).await;
        let answer = answers.map_err(|e| error::of(&e, OPERATION, "the settings"))?.into_iter().next();
        match answer {
            None | Some(Err(Code::UnknownTopicOrPartition)) => Ok(None),
            Some(Err(code)) => Err(error::of_code(code, OPERATION, "the settings")),
            Some(Ok(resource)) => {
                let shown = resource.entries.into_iter().filter(|entry| !entry.is_sensitive);
                Ok(Some(shown.filter_map(|entry| Some((entry.name, entry.value?))).collect()))
            }
        }
    }

    /// Whether neither a question for the topic nor the list of all shows it.
    async fn is_gone(&self, topic: &TopicName, operation: &'static str) -> Result<bool> {
        let metadata = self.metadata.cluster(Some(topic), operation).await?;
        let is_unknown = |found: &MetadataTopic| {
            let code = found.error().map(Code::from);
            matches!(code, Some(Code::UnknownTopicOrPartition | Code::UnknownTopic))
        };
        let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
        if !found.is_none_or(is_unknown) {
            return Ok(false);
        }
        let all = self.metadata.cluster(None, operation).await?;
        Ok(all.topics().iter().all(|found| found.name() != topic.as_str()))
    }

    async fn id(&self, topic: &TopicName) -> Result<Option<String>> {
        let (client, name, timeout) = (self.client.clone(), topic.clone(), self.timeout);
        tokio::task::spawn_blocking(move || ffi::topic_id(client.inner(), name.as_str(), timeout))
            .await
            .map_err(|_| error::aborted("topic_admin.describe"))?
    }
}

/// What a cluster answers about one of the things that it was asked to change.
type Answer<T> = Result<T, (String, Code)>;

/// The first of the answers to a request to change one thing. What was not answered may have been done.
fn first<T>(answers: Result<Vec<Answer<T>>, KafkaError>, operation: &'static str, what: &str) -> Result<()> {
    let unanswered = |e| {
        let error = error::of(&e, operation, what);
        match error.kind() {
            ErrorKind::Timeout | ErrorKind::Unavailable => error.effect_unknown(),
            _ => error,
        }
    };
    match answers.map_err(unanswered)?.into_iter().next() {
        Some(Err((_, code))) => Err(error::of_code(code, operation, what)),
        _ => Ok(()),
    }
}

fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

#[async_trait]
impl TopicAdmin for KafkaAdmin {
    async fn create(&self, spec: TopicSpec) -> Result<()> {
        const OPERATION: &str = "topic_admin.create";
        if spec.partitions == 0 {
            return Err(PortError::new(
                ErrorKind::Invalid,
                OPERATION,
                "a topic has at least 1 of `partitions`",
            ));
        }
        let copies = spec.replication_factor.map_or(-1, i32::from);
        let mut new =
            NewTopic::new(spec.name.as_str(), spec.partitions as i32, TopicReplication::Fixed(copies));
        for (key, value) in &spec.config {
            new = new.set(key, value);
        }
        let what = format!("topic `{}`", spec.name);
        first(self.client.create_topics([&new], &self.options()).await, OPERATION, &what).map_err(
            |error| {
                match error.kind() {
                    // The client does not pass on the broker's words; what was given is what may be wrong.
                    ErrorKind::Invalid => {
                        let settings: Vec<_> =
                            spec.config.iter().map(|(k, v)| format!("`{k}` = {v:?}")).collect();
                        let detail = format!(
                            "{} (replication factor: {copies}, settings: {})",
                            error.detail(),
                            settings.join(", ")
                        );
                        PortError::new(ErrorKind::Invalid, OPERATION, detail)
                    }
                    _ => error,
                }
            },
        )?;
        self.metadata.forget(&spec.name);
        let partitions = spec.partitions as usize;
        let patience = self.patience(OPERATION);
        while self.led(&spec.name, OPERATION).await? < partitions {
            patience.moment().await?;
        }
        while self.config(&spec.name).await?.is_none() {
            patience.moment().await?;
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<TopicSummary>> {
        const OPERATION: &str = "topic_admin.list";
        let metadata = self.metadata.cluster(None, OPERATION).await?;
        let mut all = Vec::with_capacity(metadata.topics().len());
        for topic in metadata.topics() {
            let Ok(name) = TopicName::new(topic.name()) else { continue };
            let partitions = topic.partitions().len() as u32;
            if topic.error().is_none() && partitions > 0 {
                all.push((name, partitions));
            }
        }
        let events = |name: TopicName, partitions: u32| async move {
            let at = |position| (0..partitions).map(|p| (p, position)).collect::<Vec<_>>();
            let earliest = self.metadata.locate(&name, &at(Position::Earliest)).await?;
            let latest = self.metadata.locate(&name, &at(Position::Latest)).await?;
            Ok::<u64, PortError>(
                latest.iter().zip(earliest).map(|(end, start)| end.saturating_sub(start)).sum(),
            )
        };
        let mut topics = Vec::with_capacity(all.len());
        for (name, partitions) in all {
            let events = match events(name.clone(), partitions).await {
                Ok(events) => events,
                // Deleted since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::debug!(topic = %name, %error, "listed without its offsets");
                    0
                }
            };
            let internal = is_internal(name.as_str());
            topics.push(TopicSummary { name, partitions, internal, events });
        }
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    async fn describe(&self, topic: &TopicName) -> Result<Option<TopicInfo>> {
        const OPERATION: &str = "topic_admin.describe";
        let metadata = self.metadata.cluster(Some(topic), OPERATION).await?;
        let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
        let Some(found) = found else { return Ok(None) };
        match found.error().map(Code::from) {
            None => {}
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
            Some(code) => return Err(error::of_code(code, OPERATION, &format!("topic `{topic}`"))),
        }
        let mut partitions: Vec<PartitionInfo> = found
            .partitions()
            .iter()
            .map(|partition| PartitionInfo {
                partition: partition.id() as PartitionId,
                leader: (partition.leader() >= 0).then_some(partition.leader()),
                replicas: partition.replicas().to_vec(),
                in_sync_replicas: partition.isr().to_vec(),
                earliest: 0,
                latest: 0,
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        let at = |position| partitions.iter().map(|p| (p.partition, position)).collect::<Vec<_>>();
        let (first, last) = (at(Position::Earliest), at(Position::Latest));
        let known = async {
            self.metadata.look_up(topic, OPERATION).await?;
            let (earliest, latest) =
                tokio::try_join!(self.metadata.locate(topic, &first), self.metadata.locate(topic, &last))?;
            let (config, id) = tokio::try_join!(self.config(topic), self.id(topic))?;
            Ok::<_, PortError>((earliest, latest, config, id))
        };
        let (earliest, latest, config, id) = match known.await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            known => known?,
        };
        let (Some(config), Some(id)) = (config, id) else { return Ok(None) };
        for (partition, (earliest, latest)) in partitions.iter_mut().zip(earliest.into_iter().zip(latest)) {
            (partition.earliest, partition.latest) = (earliest, latest);
        }
        Ok(Some(TopicInfo {
            name: topic.clone(),
            id,
            partitions,
            config,
            internal: is_internal(topic.as_str()),
        }))
    }

    async fn alter(&self, topic: &TopicName, changes: &BTreeMap<String, Option<String>>) -> Result<()> {
        const OPERATION: &str = "topic_admin.alter";
        self.metadata.look_up(topic, OPERATION).await?;
        if changes.is_empty() {
            return Ok(());
        }
        let before = self.config(topic).await?.unwrap_or_default();
        let list: Vec<_> = changes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let (client, name, timeout) = (self.client.clone(), topic.clone(), self.timeout);
        let altered = tokio::task::spawn_blocking(move || {
            ffi::alter_topic_config(client.inner(), name.as_str(), &list, timeout)
        });
        let (code, said) = altered.await.map_err(|_| error::aborted(OPERATION))??;
        if code != Code::NoError {
            let keys: Vec<_> = changes.keys().map(|key| format!("`{key}`")).collect();
            let what = format!("the settings {} of `{topic}`: {said}", keys.join(", "));
            return Err(error::of_code(code, OPERATION, &what));
        }
        // A broker shows what is set a moment after the controller has taken it.
        let patience = self.patience(OPERATION);
        loop {
            let now = self.config(topic).await?.unwrap_or_default();
            let shows = |(key, value): (&String, &Option<String>)| match value {
                Some(value) => now.get(key) == Some(value) || now.get(key) != before.get(key),
                None => true,
            };
            if changes.iter().all(shows) {
                self.metadata.forget(topic);
                return Ok(());
            }
            patience.moment().await?;
        }
    }

    async fn add_partitions(&self, topic: &TopicName, total: u32) -> Result<()> {
        const OPERATION: &str = "topic_admin.add_partitions";
        let have = self.metadata.look_up(topic, OPERATION).await?.partitions;
        if total <= have {
            let what = format!("topic `{topic}` has {have} partitions already (wanted: {total})");
            return Err(PortError::new(ErrorKind::Invalid, OPERATION, what));
        }
        let new = NewPartitions::new(topic.as_str(), total as usize);
        let what = format!("topic `{topic}`");
        first(self.client.create_partitions([&new], &self.options()).await, OPERATION, &what)?;
        self.metadata.forget(topic);
        let patience = self.patience(OPERATION);
        while self.led(topic, OPERATION).await? < total as usize {
            patience.moment().await?;
        }
        Ok(())
    }

    async fn trim(&self, topic: &TopicName, before: &[(PartitionId, Offset)]) -> Result<Vec<Offset>> {
        const OPERATION: &str = "topic_admin.trim";
        let at = |position| before.iter().map(|(partition, _)| (*partition, position)).collect::<Vec<_>>();
        self.metadata.look_up(topic, OPERATION).await?;
        let ends = self.metadata.locate(topic, &at(Position::Latest)).await?;
        for ((partition, offset), end) in before.iter().zip(ends) {
            if *offset > end {
                let what = format!("{topic}-{partition} ends at {end} (given: {offset})");
                return Err(PortError::new(ErrorKind::OutOfRange, OPERATION, what));
            }
        }
        let earliest = self.metadata.locate(topic, &at(Position::Earliest)).await?;
        let mut list = TopicPartitionList::with_capacity(before.len());
        for ((partition, offset), earliest) in before.iter().zip(&earliest) {
            if offset > earliest {
                list.add_partition_offset(
                    topic.as_str(),
                    *partition as i32,
                    KafkaOffset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX)),
                )
                .map_err(|e| error::of(&e, OPERATION, "the offset"))?;
            }
        }
        if list.count() > 0 {
            let answer = self.client.delete_records(&list, &self.options()).await;
            let answer = answer.map_err(|e| error::of(&e, OPERATION, "the records"))?;
            for element in answer.elements() {
                element.error().map_err(|e| error::of(&e, OPERATION, &format!("topic `{topic}`")))?;
            }
        }
        let wanted: Vec<Offset> = before.iter().zip(earliest).map(|((_, to), from)| from.max(*to)).collect();
        let patience = self.patience(OPERATION);
        loop {
            let now = self.metadata.locate(topic, &at(Position::Earliest)).await?;
            if now.iter().zip(&wanted).all(|(now, wanted)| now >= wanted) {
                return Ok(now);
            }
            patience.moment().await?;
        }
    }

    async fn delete(&self, topic: &TopicName) -> Result<()> {
        const OPERATION: &str = "topic_admin.delete";
        let what = format!("topic `{topic}`");
        let deleted = self.client.delete_topics(&[topic.as_str()], &self.options()).await;
        self.metadata.forget(topic);
        first(deleted, OPERATION, &what)?;
        let patience = self.patience(OPERATION);
        while !self.is_gone(topic, OPERATION).await? {
            patience.moment().await?;
        }
        self.metadata.forget(topic);
        Ok(())
    }

    async fn cluster(&self) -> Result<ClusterInfo> {
        const OPERATION: &str = "topic_admin.cluster";
        let (id, nodes) = self
            .metadata
            .ask(OPERATION, |client, timeout| {
                let metadata = client.fetch_metadata(None, timeout)?;
                let id = client.client().fetch_cluster_id(timeout).unwrap_or_default();
                Ok((
                    id,
                    metadata
                        .brokers()
                        .iter()
                        .map(rdkafka::metadata::MetadataBroker::id)
                        .collect::<Vec<i32>>(),
                ))
            })
            .await?;
        let mut nodes = nodes;
        nodes.sort_unstable();
        Ok(ClusterInfo { id, nodes })
    }
}
