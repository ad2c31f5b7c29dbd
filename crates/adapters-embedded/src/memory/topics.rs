//! The topics of the log in memory.

use super::{
    log::{MemoryLog, Partition, Topic},
    settings,
};
use async_trait::async_trait;
use ports::{
    ClusterInfo, ErrorKind, Offset, PartitionId, PartitionInfo, PortError, Result, TopicAdmin, TopicInfo,
    TopicName, TopicSpec, TopicSummary,
};
use std::collections::BTreeMap;

/// The number of the one node.
const NODE: i32 = 0;

fn invalid<T>(operation: &'static str, detail: String) -> Result<T> {
    Err(PortError::new(ErrorKind::Invalid, operation, detail))
}

#[async_trait]
impl TopicAdmin for MemoryLog {
    async fn create(&self, spec: TopicSpec) -> Result<()> {
        const OPERATION: &str = "topic_admin.create";
        let TopicSpec { name, partitions, replication_factor, config } = spec;
        let mut topics = self.shared.topics.lock();
        if topics.by_name.contains_key(&name) {
            let detail = format!("topic {name} exists already");
            return Err(PortError::new(ErrorKind::AlreadyExists, OPERATION, detail));
        }
        if partitions == 0 {
            return invalid(OPERATION, "partitions must be at least 1".to_owned());
        }
        if let Some(factor) = replication_factor.filter(|factor| *factor != 1) {
            return invalid(OPERATION, format!("the replication factor must be 1, not {factor}"));
        }
        settings::check(OPERATION, &config)?;
        topics.created += 1;
        let id = topics.created;
        let partitions = vec![Partition::default(); partitions as usize];
        topics.by_name.insert(name, Topic { id, config, partitions });
        Ok(())
    }

    async fn list(&self) -> Result<Vec<TopicSummary>> {
        let topics = self.shared.topics.lock();
        let summary = |(name, topic): (&TopicName, &Topic)| TopicSummary {
            name: name.clone(),
            partitions: topic.partitions.len() as u32,
            internal: false,
            events: topic.partitions.iter().map(|partition| partition.readable().len() as u64).sum(),
        };
        Ok(topics.by_name.iter().map(summary).collect())
    }

    async fn describe(&self, topic: &TopicName) -> Result<Option<TopicInfo>> {
        let topics = self.shared.topics.lock();
        let partition = |(number, partition): (usize, &Partition)| PartitionInfo {
            partition: number as PartitionId,
            leader: Some(NODE),
            replicas: vec![NODE],
            in_sync_replicas: vec![NODE],
            earliest: partition.start,
            latest: partition.end(),
        };
        Ok(topics.by_name.get(topic).map(|found| TopicInfo {
            name: topic.clone(),
            id: found.id.to_string(),
            partitions: found.partitions.iter().enumerate().map(partition).collect(),
            config: settings::describe(&found.config),
            internal: false,
        }))
    }

    async fn alter(&self, topic: &TopicName, changes: &BTreeMap<String, Option<String>>) -> Result<()> {
        const OPERATION: &str = "topic_admin.alter";
        let mut topics = self.shared.topics.lock();
        let topic = topics.topic(OPERATION, topic)?;
        let mut config = topic.config.clone();
        for (key, value) in changes {
            match value {
                Some(value) => drop(config.insert(key.clone(), value.clone())),
                None => drop(config.remove(key)),
            }
        }
        settings::check(OPERATION, &config)?;
        topic.config = config;
        Ok(())
    }

    async fn add_partitions(&self, topic: &TopicName, total: u32) -> Result<()> {
        const OPERATION: &str = "topic_admin.add_partitions";
        let mut topics = self.shared.topics.lock();
        let topic = topics.topic(OPERATION, topic)?;
        let count = topic.partitions.len();
        if total as usize <= count {
            return invalid(
                OPERATION,
                format!("partitions must be more than the {count} that there are, not {total}"),
            );
        }
        topic.partitions.resize_with(total as usize, Partition::default);
        Ok(())
    }

    async fn trim(&self, topic: &TopicName, before: &[(PartitionId, Offset)]) -> Result<Vec<Offset>> {
        const OPERATION: &str = "topic_admin.trim";
        let mut topics = self.shared.topics.lock();
        let topic = topics.topic(OPERATION, topic)?;
        for (number, offset) in before {
            let end = topic.partition(OPERATION, *number)?.end();
            if *offset > end {
                let detail = format!("offset {offset} is beyond the end of partition {number}, {end}");
                return Err(PortError::new(ErrorKind::OutOfRange, OPERATION, detail));
            }
        }
        let mut trim = |(number, offset): &(PartitionId, Offset)| {
            let partition = topic.partition(OPERATION, *number)?;
            partition.start = partition.start.max(*offset);
            Ok(partition.start)
        };
        let earliest = before.iter().map(&mut trim).collect();
        self.shared.changed();
        earliest
    }

    async fn delete(&self, topic: &TopicName) -> Result<()> {
        const OPERATION: &str = "topic_admin.delete";
        let mut topics = self.shared.topics.lock();
        topics.topic(OPERATION, topic)?;
        topics.by_name.remove(topic);
        self.shared.changed();
        Ok(())
    }

    async fn cluster(&self) -> Result<ClusterInfo> {
        Ok(ClusterInfo { id: "memory".to_owned(), nodes: vec![NODE] })
    }
}
