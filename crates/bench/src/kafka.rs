//! Topics for a run each, and Kafka's own tool.

use crate::{
    Outcome,
    events::VALUE_BYTES,
    measure::Run,
    producer::{Producer, producer},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::Producer as _,
};
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// Partitions of every topic, here and on the embedded log.
pub(crate) const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(15);

/// A Kafka and a producer on it.
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    pub(crate) producer: Producer,
    admin: AdminClient<DefaultClientContext>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl Kafka {
    pub(crate) fn new(brokers: &str) -> Outcome<Self> {
        let admin = ClientConfig::new().set("bootstrap.servers", brokers).create();
        let admin = admin.map_err(|e| format!("Kafka's admin client cannot be made: {e}"))?;
        Ok(Self { brokers: brokers.to_owned(), producer: producer(brokers)?, admin })
    }

    /// Makes a topic, and waits until its leaders serve: what one that is just taking over refuses first,
    /// librdkafka may take for acknowledged when what came behind it was, and the raw client and the bare route
    /// would lose it.
    pub(crate) async fn create(&self, topic: &str) -> Outcome<()> {
        // One replica, as most clusters of one node have; what is deleted goes at once, as runs write much.
        let new =
            NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)).set("file.delete.delay.ms", "1000");
        let created = self.admin.create_topics([&new], &AdminOptions::new()).await;
        created
            .map_err(|e| format!("a topic cannot be made: {e}"))?
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(|(_, code)| format!("a topic cannot be made: {code}"))?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !(self.has_leaders(topic).await && self.written(topic).await == Ok(0)) {
            if tokio::time::Instant::now() > deadline {
                return Err(format!("the topic {topic} has no leaders"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks the brokers. The client's cache would go on knowing a topic as it was first seen, which may be
    /// without partitions.
    async fn has_leaders(&self, topic: &str) -> bool {
        let (producer, topic) = (self.producer.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = producer.client().fetch_metadata(Some(&topic), PATIENCE).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let led = partitions.iter().filter(|partition| partition.leader() >= 0).count();
            Some(led == PARTITIONS as usize)
        });
        asked.await.ok().flatten() == Some(true)
    }

    /// Deletes a topic.
    pub(crate) async fn delete(&self, topic: &str) -> Outcome<()> {
        let deleted = self.admin.delete_topics(&[topic], &AdminOptions::new()).await;
        deleted.map_err(|e| format!("a topic cannot be deleted: {e}"))?;
        Ok(())
    }

    /// How many records a topic holds by its end offsets.
    pub(crate) async fn written(&self, topic: &str) -> Outcome<u64> {
        let (producer, topic) = (self.producer.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            (0..PARTITIONS)
                .map(|partition| producer.client().fetch_watermarks(&topic, partition, PATIENCE))
                .map(|marks| marks.map(|(_, high)| high as u64))
                .sum::<Result<u64, _>>()
        });
        asked
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| format!("the end of a topic cannot be asked for: {e}"))
    }
}

/// Kafka's own `ProducerPerformance` with the same settings, over so many records after its warm-up.
pub(crate) async fn producer_performance(
    classpath: &str,
    brokers: &str,
    topic: &str,
    records: u64,
) -> Outcome<Run> {
    let warm_up = 50_000;
    let records = warm_up + records;
    let output = Command::new("java")
        .args(["-Xmx512m", "-cp", classpath, "org.apache.kafka.tools.ProducerPerformance"])
        .args(["--bootstrap-server", brokers, "--topic", topic, "--throughput", "-1"])
        .args(["--num-records", &records.to_string(), "--warmup-records", &warm_up.to_string()])
        .args(["--record-size", &VALUE_BYTES.to_string()])
        .args(["--command-property", "acks=all", "enable.idempotence=true", "linger.ms=0"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| format!("java cannot be started: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = rate(&text).filter(|_| output.status.success());
    let events_per_second = rate.ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("ProducerPerformance ended with {}:\n{text}\n{errors}", output.status)
    })?;
    Ok(Run { events_per_second, ..Run::default() })
}

/// The rate in the last summary: `500000 records sent, 108695.7 records/sec (106.15 MB/sec), …`.
fn rate(output: &str) -> Option<f64> {
    let line = output.lines().rev().find(|line| line.contains("records/sec") && line.contains("99th"))?;
    line.split(',').find_map(|part| part.trim().split_once(" records/sec")?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_summary() {
        let output = "1000 records sent, 200.0 records/sec (0.2 MB/sec), 5.0 ms avg latency, 9.0 ms max latency.\n\
            550000 records sent, 90000.5 records/sec (88 MB/sec), 1 ms avg latency, 2 ms max latency, 1 ms 50th, 2 ms 95th, 3 ms 99th, 4 ms 99.9th.\n\
            500000 steady state records sent, 108695.7 records/sec (106 MB/sec), 1 ms avg latency, 2 ms max latency, 1 ms 50th, 2 ms 95th, 3 ms 99th, 4 ms 99.9th.\n";
        assert_eq!(rate(output), Some(108_695.7));
        assert_eq!(rate("nothing"), None);
    }
}
