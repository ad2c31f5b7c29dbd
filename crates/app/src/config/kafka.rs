//! The Kafka settings as the adapter takes them.

use super::values::{Config, GroupProtocol, Profile, Properties};
use adapters_kafka::KafkaConfig;
use std::{collections::BTreeMap, fs, time::Duration};

/// What is set for Kafka but cannot be: the key, and what is wrong.
type Wrong = (&'static str, String);

impl Config {
    /// What can be seen to be wrong without a broker.
    pub(super) fn check_kafka(&self) -> Result<(), Wrong> {
        let kafka = &self.kafka;
        if kafka.bootstrap_servers.trim().is_empty() {
            return Err(("kafka.bootstrap-servers", "names no server".to_owned()));
        }
        if kafka.delivery_timeout.0 < Duration::from_secs(30) {
            let why = "must be 30s at least: a broker that dies holds its partitions back for a while";
            return Err(("kafka.delivery-timeout", why.to_owned()));
        }
        match kafka.security_protocol.to_lowercase().as_str() {
            "sasl_plaintext" | "sasl_ssl" if kafka.sasl.mechanism.is_empty() => {
                Err(("kafka.sasl.mechanism", "is needed with a sasl protocol".to_owned()))
            }
            "plaintext" | "ssl" | "sasl_plaintext" | "sasl_ssl" => Ok(()),
            other => Err((
                "kafka.security-protocol",
                format!("`{other}` is none of plaintext, ssl, sasl_plaintext, sasl_ssl"),
            )),
        }
    }

    /// The adapter's configuration. Reads the password's file.
    pub(crate) fn kafka(&self) -> Result<KafkaConfig, Wrong> {
        let kafka = &self.kafka;
        let mut common = BTreeMap::new();
        let mut set = |key: &str, value: &str| {
            if !value.is_empty() {
                common.insert(key.to_owned(), value.to_owned());
            }
        };
        set("security.protocol", &kafka.security_protocol.to_lowercase());
        set("sasl.mechanism", &kafka.sasl.mechanism);
        set("sasl.username", &kafka.sasl.username);
        set("sasl.password", &kafka.sasl.password.0);
        let file = &kafka.sasl.password_file;
        if !file.as_os_str().is_empty() {
            let text = fs::read_to_string(file)
                .map_err(|e| ("kafka.sasl.password-file", format!("{}: {e}", file.display())))?;
            set("sasl.password", text.lines().next().unwrap_or_default());
        }
        common.extend(properties(&kafka.properties, "kafka.properties")?);
        let mut producer = properties(&kafka.producer, "kafka.producer")?;
        let mut buffer = kafka.buffer_memory.0;
        if let Some(bytes) = producer.remove("buffer.memory") {
            buffer = bytes
                .parse()
                .map_err(|_| ("kafka.producer", "buffer-memory must be a number of bytes".to_owned()))?;
        }
        Ok(KafkaConfig {
            bootstrap_servers: kafka.bootstrap_servers.clone(),
            client_id: kafka.client_id.clone(),
            profile: match kafka.profile {
                Profile::Balanced => adapters_kafka::Profile::Balanced,
                Profile::Throughput => adapters_kafka::Profile::Throughput,
            },
            group_protocol: match kafka.group_protocol {
                GroupProtocol::Classic => adapters_kafka::GroupProtocol::Classic,
                GroupProtocol::Consumer => adapters_kafka::GroupProtocol::Consumer,
            },
            common,
            producer,
            consumer: properties(&kafka.consumer, "kafka.consumer")?,
            request_timeout: kafka.request_timeout.0,
            delivery_timeout: kafka.delivery_timeout.0,
            producer_buffer_bytes: buffer,
            revoke_patience: kafka.revoke_patience.0,
            session_timeout: kafka.session_timeout.0,
        })
    }
}

/// Names as Spring's users write them that are not librdkafka's with dashes for dots. Nothing on the right:
/// there is no such thing here, reading by cursor has bounds of its own.
const RENAMED: [(&str, Option<&str>); 4] = [
    ("fetch-min-size", Some("fetch.min.bytes")),
    ("fetch-max-wait", Some("fetch.wait.max.ms")),
    ("linger", Some("linger.ms")),
    ("max-poll-records", None),
];

fn properties(from: &Properties, group: &'static str) -> Result<BTreeMap<String, String>, Wrong> {
    let mut properties = BTreeMap::new();
    for (name, value) in from {
        // Spring nests what it has no name of its own for.
        let name = name.strip_prefix("properties.").unwrap_or(name);
        let renamed = RENAMED.iter().find(|(spring, _)| *spring == name);
        let name = match renamed {
            Some((_, None)) => continue,
            Some((_, Some(name))) => (*name).to_owned(),
            None => name.replace('-', "."),
        };
        let mut value = value.0.clone();
        if name.rsplit('.').next() == Some("ms") && value.parse::<i64>().is_err() {
            let time = humantime::parse_duration(&value).map_err(|_| {
                (group, format!("{name} must be a time, as 100ms, or a number of milliseconds"))
            })?;
            value = time.as_millis().to_string();
        }
        properties.insert(name, value);
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::super::units::Secret;
    use super::*;

    fn translated(name: &str, value: &str) -> Option<(String, String)> {
        let from = Properties::from([(name.to_owned(), Secret(value.to_owned()))]);
        properties(&from, "kafka.consumer").expect("they can be translated").into_iter().next()
    }

    #[test]
    fn names_of_spring_and_of_librdkafka_are_both_taken() {
        let expect = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(translated("compression-type", "snappy"), expect("compression.type", "snappy"));
        assert_eq!(translated("fetch-max-wait", "100ms"), expect("fetch.wait.max.ms", "100"));
        assert_eq!(translated("fetch-max-wait", "250"), expect("fetch.wait.max.ms", "250"));
        assert_eq!(translated("fetch-min-size", "1"), expect("fetch.min.bytes", "1"));
        assert_eq!(translated("properties.max.block.ms", "5s"), expect("max.block.ms", "5000"));
        assert_eq!(translated("socket.keepalive.enable", "true"), expect("socket.keepalive.enable", "true"));
        assert_eq!(translated("max-poll-records", "500"), None);
    }

    #[test]
    fn a_time_that_is_none_is_refused_without_its_value() {
        let from = Properties::from([("linger".to_owned(), Secret("hunter2".to_owned()))]);
        let (key, problem) = properties(&from, "kafka.producer").expect_err("it is no time");
        assert!(key == "kafka.producer" && problem.contains("linger.ms") && !problem.contains("hunter2"));
    }
}
