//! The settings as the domain takes them.

use super::values::{Config, Route, TopicRule};
use bytestring::ByteString;
use domain::{
    Limits,
    dead_letters::DeadLettersConfig,
    filter::FilterLimits,
    jobs::JobsConfig,
    lag::LagConfig,
    partition::PartitionStrategy,
    publish::{self, OnceConfig, Pattern, PublishConfig, RouteMatch},
    subscriptions::{
        DeliveryConfig,
        policy::{DedupPolicy, PolicyDefaults, RetryPolicy},
    },
    topics::TopicDefaults,
};
use ports::TopicName;
use std::time::Duration;

impl Config {
    /// The bounds on requests and events.
    pub(crate) fn limits(&self) -> Limits {
        let limits = &self.limits;
        Limits {
            request_bytes_max: limits.request_bytes_max.0,
            batch_events_max: limits.batch_events_max.0 as usize,
            key_bytes_max: limits.key_bytes_max.0,
            attribute_bytes_max: limits.attribute_bytes_max.0,
            headers_max: limits.headers_max.0 as usize,
            header_bytes_max: limits.header_bytes_max.0,
            publish_timeout: limits.publish_timeout.0,
            browse_events_max: limits.browse_events_max.0 as usize,
            response_bytes_max: limits.response_bytes_max.0,
            partitions_max: limits.partitions_max.0,
            pull_events_max: limits.pull_events_max.0 as usize,
            pull_wait_max: limits.pull_wait_max.0,
            pull_waiters_max: limits.pull_waiters_max.0 as usize,
            subscriptions_max: limits.subscriptions_max.0 as usize,
            expressions: FilterLimits {
                text_bytes_max: limits.expression_bytes_max.0,
                nesting_max: limits.expression_nesting_max.0 as usize,
                cost_max: u64::from(limits.expression_cost_max.0),
                data_bytes_max: limits.expression_data_bytes_max.0,
                key_bytes_max: limits.dedup_key_bytes_max.0,
            },
        }
    }

    /// What a topic is like that is created without saying.
    pub(crate) fn topic_defaults(&self) -> TopicDefaults {
        TopicDefaults {
            auto_create: self.topics.auto_create,
            partitions: self.topics.partitions.0,
            // `auto` is no number.
            replication_factor: self.topics.replication_factor.0.parse().ok(),
        }
    }

    /// How delivery works inside.
    pub(crate) fn delivery(&self) -> DeliveryConfig {
        let delivery = &self.delivery;
        DeliveryConfig {
            member: self.kafka.client_id.clone(),
            commit_interval: delivery.commit_interval.0,
            commit_events_max: delivery.commit_events_max.0 as usize,
            buffer_events_max: delivery.buffer_events_max.0 as usize,
            buffer_bytes_max: delivery.buffer_bytes_max.0,
            held_events_max: delivery.held_events_max.0 as usize,
            metadata_bytes_max: delivery.metadata_bytes_max.0,
            defaults: self.policy_defaults(),
            shared: self.is_shared(),
            ..DeliveryConfig::default()
        }
    }

    /// How dead letters are kept track of.
    pub(crate) fn dead_letters(&self) -> DeadLettersConfig {
        DeadLettersConfig { index_max: self.dead_letters.index_max.0 as usize }
    }

    /// How groups are sampled, where they are.
    pub(crate) fn lag(&self) -> Option<LagConfig> {
        let lag = &self.lag;
        lag.enabled.then_some(LagConfig {
            interval: lag.sample_interval.0,
            window: lag.window.0 as usize,
            windows_max: lag.partitions_max.0 as usize,
        })
    }

    /// How replays and other jobs are kept.
    pub(crate) fn jobs(&self) -> JobsConfig {
        JobsConfig {
            keep_finished: self.jobs.keep_finished.0,
            open_max: self.jobs.open_max.0 as usize,
            shared: self.is_shared(),
        }
    }

    /// What a subscription does with failures where nobody says.
    fn policy_defaults(&self) -> PolicyDefaults {
        let (dlq, once) = (&self.event_streaming.dlq, &self.event_streaming.consumer.idempotency);
        let delay = Duration::from_millis(u64::from(dlq.retry_delay_ms.0));
        let retry = RetryPolicy::default();
        PolicyDefaults {
            retry: RetryPolicy {
                max_retries: Some(dlq.max_retries.0),
                initial_delay: delay,
                // The first delay is never longer than the longest.
                max_delay: retry.max_delay.max(delay),
                ..retry
            },
            dead_letters_off: !dlq.enabled,
            dedup: DedupPolicy { enabled: once.enabled, ttl: once.ttl.0, ..DedupPolicy::default() },
        }
    }

    /// Where events go, and how they are spread.
    ///
    /// # Errors
    /// The key at fault, and what is wrong with it.
    pub(crate) fn publish(&self) -> Result<PublishConfig, (&'static str, String)> {
        let publish = &self.publish;
        let at = |key, index: usize, problem: String| (key, format!("[{index}]: {problem}"));
        let routes = publish.routes.iter().enumerate();
        let routes = routes.map(|(i, route)| of_route(route).map_err(|e| at("publish.routes", i, e)));
        let topics = publish.topics.iter().enumerate();
        let topics = topics.map(|(i, rule)| of_rule(rule).map_err(|e| at("publish.topics", i, e)));
        if publish.default_type.is_empty() {
            return Err(("publish.default-type", "must not be empty".to_owned()));
        }
        let once = &self.event_streaming.idempotency.publish;
        Ok(PublishConfig {
            routes: routes.collect::<Result<_, _>>()?,
            topics: topics.collect::<Result<_, _>>()?,
            default_type: ByteString::from(publish.default_type.as_str()),
            once: OnceConfig { enabled: once.enabled, ttl: once.ttl.0, ..OnceConfig::default() },
            ..PublishConfig::default()
        })
    }
}

fn of_route(route: &Route) -> Result<publish::Route, String> {
    let when = match (&route.r#type, &route.attribute, &route.value) {
        (Some(pattern), None, None) => RouteMatch::Type(Pattern::new(pattern)),
        (None, Some(name), Some(value)) => {
            RouteMatch::Attribute { name: name.clone(), value: Pattern::new(value) }
        }
        _ => return Err("needs either `type`, or `attribute` and `value`".to_owned()),
    };
    let topic = TopicName::new(&route.topic).map_err(|e| format!("topic `{}`: {e}", route.topic))?;
    Ok(publish::Route { when, topic })
}

fn of_rule(rule: &TopicRule) -> Result<publish::TopicRule, String> {
    let strategy = match rule.partition_by.as_deref() {
        None | Some("key") => PartitionStrategy::Key,
        Some("tenant") => PartitionStrategy::Tenant,
        Some("type") => PartitionStrategy::Type,
        Some("user") => PartitionStrategy::User,
        Some("round-robin") => PartitionStrategy::RoundRobin,
        Some("sticky") => PartitionStrategy::Sticky,
        Some(other) => match other.split_once(':') {
            Some(("header", name)) if !name.is_empty() => PartitionStrategy::Header(name.to_owned()),
            Some(("field", pointer)) if pointer.starts_with('/') => {
                PartitionStrategy::Field(pointer.to_owned())
            }
            _ => {
                return Err(format!(
                    "partition-by `{other}` is none of key, tenant, type, user, header:NAME, field:/POINTER, \
                     round-robin, sticky"
                ));
            }
        },
    };
    let event_type = rule.default_type.as_deref().map(ByteString::from);
    Ok(publish::TopicRule { topics: Pattern::new(rule.topics.as_str()), strategy, event_type })
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn with(setting: &str) -> Config {
        load(&Sources { set: vec![setting.to_owned()], ..Sources::default() }).expect("well-formed").config
    }

    #[test]
    fn the_defaults_are_those_of_the_domain() {
        let config = load(&Sources::default()).expect("good").config;
        assert_eq!(config.limits(), Limits::default());
        assert_eq!(config.delivery(), DeliveryConfig::default());
        assert_eq!(config.lag(), Some(LagConfig::default()));
        assert_eq!(with("lag.enabled=false").lag(), None);
        assert_eq!(config.publish(), Ok(PublishConfig::default()));
    }

    #[test]
    fn routes_and_rules_are_read() {
        let publish = with(
            "publish.routes=[{type: 'order.*', topic: orders}, {attribute: tenantid, value: a, topic: b}]",
        )
        .publish()
        .expect("good");
        assert_eq!(publish.routes[0].when, RouteMatch::Type(Pattern::new("order.*")));
        assert_eq!(publish.routes[1].topic.as_str(), "b");
        let publish =
            with("publish.topics=[{topics: 'o*', partition-by: 'field:/a/b', default-type: order}]")
                .publish()
                .expect("good");
        assert_eq!(publish.topics[0].strategy, PartitionStrategy::Field("/a/b".to_owned()));
        assert_eq!(publish.topics[0].event_type, Some(ByteString::from_static("order")));
    }

    #[test]
    fn a_wrong_route_or_rule_is_named_by_its_place() {
        for (setting, key, word) in [
            ("publish.routes=[{type: a, topic: b}, {topic: c}]", "publish.routes", "[1]"),
            ("publish.routes=[{type: a, topic: '../b'}]", "publish.routes", "../b"),
            ("publish.topics=[{topics: a, partition-by: colour}]", "publish.topics", "colour"),
        ] {
            let sources = Sources { set: vec![setting.to_owned()], ..Sources::default() };
            let text = load(&sources).expect_err("it is wrong").to_string();
            assert!(text.contains(key) && text.contains(word), "{text}");
        }
    }
}
