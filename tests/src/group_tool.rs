//! Kafka's own tool for consumer groups, as an operator has it.

use crate::{Server, kafka, services_script};
use std::{collections::BTreeMap, sync::Arc};
use tokio::process::Command;

/// Runs `kafka-consumer-groups` on the Kafka of the tests.
#[derive(Debug)]
pub struct GroupTool {
    kafka: Arc<Server>,
    classpath: String,
}

/// A line of its output: by the names of the columns.
pub type Row = BTreeMap<String, String>;

impl GroupTool {
    /// Finds the tool: by `KAFKA_CLASSPATH`, or where `scripts/services.sh` has it.
    ///
    /// # Panics
    /// Where it is in neither place.
    pub async fn find() -> Self {
        let kafka = kafka().await;
        let classpath = match std::env::var("KAFKA_CLASSPATH") {
            Ok(classpath) => classpath,
            Err(_) => {
                let output = Command::new(services_script()).arg("env").output().await;
                let said = output.expect("the script can be started").stdout;
                let said = String::from_utf8_lossy(&said).into_owned();
                let line = said.lines().find_map(|line| line.strip_prefix("KAFKA_CLASSPATH="));
                line.expect("Kafka's own tool needs KAFKA_CLASSPATH, as `scripts/services.sh env` says it")
                    .to_owned()
            }
        };
        Self { kafka, classpath }
    }

    /// What it says of a group's positions, by topic and partition.
    ///
    /// # Panics
    /// Where it fails.
    pub async fn describe(&self, group: &str) -> BTreeMap<(String, u32), Row> {
        self.table(&["--describe", "--group", group]).await
    }

    /// Which offsets it would set, by topic and partition.
    ///
    /// # Panics
    /// Where it fails.
    pub async fn would_reset(&self, group: &str, topic: &str, to: &[&str]) -> BTreeMap<(String, u32), Row> {
        let fixed = ["--reset-offsets", "--dry-run", "--group", group, "--topic", topic];
        self.table(&[&fixed, to].concat()).await
    }

    async fn table(&self, arguments: &[&str]) -> BTreeMap<(String, u32), Row> {
        let text = self.run(arguments).await;
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let names: Vec<_> = loop {
            let line = lines.next().unwrap_or_else(|| panic!("no table in: {text}"));
            if line.starts_with("GROUP") {
                break line.split_whitespace().map(str::to_owned).collect();
            }
        };
        let row = |line: &str| -> Row {
            names.iter().cloned().zip(line.split_whitespace().map(str::to_owned)).collect()
        };
        let place = |row: &Row| (row["TOPIC"].clone(), row["PARTITION"].parse().expect("a number"));
        lines.map(row).map(|row| (place(&row), row)).collect()
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("java");
        command.args(["-cp", &self.classpath, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"]);
        command.args(["--bootstrap-server", &self.kafka.address]).args(arguments).kill_on_drop(true);
        let output = command.output().await.expect("java can be started");
        let (said, failed) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?} failed:\n{said}\n{failed}");
        said.into_owned()
    }
}
