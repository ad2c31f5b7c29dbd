//! The topics, as a port. Every call works on files, so it runs on a thread that may block; a call that is
//! dropped goes on there.

use super::{DiskLog, Inner, fault::Fault, locate, reader::DiskReader, topic::Topic};
use async_trait::async_trait;
use ports::{
    AppendRequest, AppendResult, Capabilities, ClusterInfo, ErrorKind, EventLog, LogReader, Offset,
    PartitionId, PartitionInfo, PortError, Position, Result, TopicAdmin, TopicInfo, TopicName,
    TopicPartition, TopicSpec, TopicSummary,
};
use std::{collections::BTreeMap, sync::Arc};

/// The number of the one node that an embedded log has.
const NODE: i32 = 0;

impl DiskLog {
    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let inner = self.0.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result.map_err(|fault| fault.of(operation)),
            Err(error) => {
                let detail = format!("the call was given up: {error}");
                Err(PortError::new(ErrorKind::Unavailable, operation, detail).effect_unknown())
            }
        }
    }
}

#[async_trait]
impl EventLog for DiskLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_partition_batches: true, dense_offsets: true, replication: false }
    }

    async fn append(&self, request: AppendRequest) -> AppendResult {
        self.append_request(request).await
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        let topic = self.0.catalog.topic(&partition.topic);
        let found = topic.and_then(|topic| topic.partition(partition.partition));
        let partition = found.map_err(|fault| fault.of("event_log.open"))?;
        Ok(Box::new(DiskReader::new(partition, from)))
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        const OPERATION: &str = "event_log.locate";
        let topic = self.0.catalog.topic(topic).map_err(|fault| fault.of(OPERATION))?;
        if !at.iter().any(|(_, position)| matches!(position, Position::Timestamp(_))) {
            return locate_all(&topic, at).map_err(|fault| fault.of(OPERATION));
        }
        let at = at.to_vec();
        self.blocking(OPERATION, move |_| locate_all(&topic, &at)).await
    }
}

fn locate_all(topic: &Topic, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>, Fault> {
    let locate = |(number, position): &(PartitionId, Position)| {
        let partition = topic.partition(*number)?;
        let (start, end) = partition.bounds().map_err(|closed| closed.fault(&partition.name))?;
        match position {
            Position::Earliest => Ok(start),
            Position::Latest => Ok(end),
            Position::Timestamp(timestamp) => locate::by_time(&partition, timestamp.0),
        }
    };
    at.iter().map(locate).collect()
}

#[async_trait]
impl TopicAdmin for DiskLog {
    async fn create(&self, spec: TopicSpec) -> Result<()> {
        self.blocking("topic_admin.create", move |log| log.catalog.create(spec)).await
    }

    async fn list(&self) -> Result<Vec<TopicSummary>> {
        let summary = |topic: Arc<Topic>| {
            let partitions = topic.partitions.read();
            let events = partitions.iter().flatten().filter_map(|partition| partition.bounds().ok());
            TopicSummary {
                name: topic.name.clone(),
                partitions: partitions.len() as u32,
                internal: false,
                events: events.map(|(start, end)| end - start).sum(),
            }
        };
        Ok(self.0.catalog.all().into_iter().map(summary).collect())
    }

    async fn describe(&self, topic: &TopicName) -> Result<Option<TopicInfo>> {
        let Some(topic) = self.0.catalog.find(topic) else { return Ok(None) };
        if let Some(fault) = &topic.damage {
            return Err(fault.of("topic_admin.describe"));
        }
        let partitions = topic.partitions.read().clone();
        let partition = |(number, slot): (usize, &super::topic::Slot)| {
            // A partition that cannot be used has no one to lead it.
            let bounds = slot.as_ref().ok().and_then(|partition| partition.bounds().ok());
            let (earliest, latest) = bounds.unwrap_or_default();
            PartitionInfo {
                partition: number as PartitionId,
                leader: bounds.map(|_| NODE),
                replicas: vec![NODE],
                in_sync_replicas: if bounds.is_some() { vec![NODE] } else { Vec::new() },
                earliest,
                latest,
            }
        };
        Ok(Some(TopicInfo {
            name: topic.name.clone(),
            id: topic.id.clone(),
            partitions: partitions.iter().enumerate().map(partition).collect(),
            config: topic.settings.read().describe(),
            internal: false,
        }))
    }

    async fn alter(&self, topic: &TopicName, changes: &BTreeMap<String, Option<String>>) -> Result<()> {
        let (topic, changes) = (topic.clone(), changes.clone());
        self.blocking("topic_admin.alter", move |log| log.catalog.alter(&topic, &changes)).await
    }

    async fn add_partitions(&self, topic: &TopicName, total: u32) -> Result<()> {
        let topic = topic.clone();
        self.blocking("topic_admin.add_partitions", move |log| log.catalog.add_partitions(&topic, total))
            .await
    }

    async fn trim(&self, topic: &TopicName, before: &[(PartitionId, Offset)]) -> Result<Vec<Offset>> {
        let (topic, before) = (topic.clone(), before.to_vec());
        self.blocking("topic_admin.trim", move |log| {
            let topic = log.catalog.topic(&topic)?;
            // All are looked at before the first is trimmed.
            let partition = |(number, to): &(PartitionId, Offset)| {
                let partition = topic.partition(*number)?;
                let (_, end) = partition.bounds().map_err(|closed| closed.fault(&partition.name))?;
                if *to > end {
                    let detail = format!("offset {to} of {} is beyond its end, {end}", partition.name);
                    return Err(Fault::new(ErrorKind::OutOfRange, detail));
                }
                Ok((partition, *to))
            };
            let partitions = before.iter().map(partition).collect::<Result<Vec<_>, _>>()?;
            partitions.into_iter().map(|(partition, to)| partition.advance_start(to)).collect()
        })
        .await
    }

    async fn delete(&self, topic: &TopicName) -> Result<()> {
        let topic = topic.clone();
        self.blocking("topic_admin.delete", move |log| log.catalog.delete(&topic)).await
    }

    async fn cluster(&self) -> Result<ClusterInfo> {
        Ok(ClusterInfo { id: self.0.catalog.cluster_id.clone(), nodes: vec![NODE] })
    }
}
