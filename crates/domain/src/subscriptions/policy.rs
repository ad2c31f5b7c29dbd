//! What a subscription does with what goes wrong: retries, dead letters, deduplication, and where events
//! are pushed to.

use ports::{GroupId, TopicName};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::Duration};

/// How a delivery that failed comes again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Where it waits.
    pub strategy: RetryStrategy,
    /// So many deliveries come after the first; `None` is no end.
    pub max_retries: Option<u32>,
    /// The delay before the second delivery.
    pub initial_delay: Duration,
    /// The longest delay, whoever asks for it.
    pub max_delay: Duration,
    /// What each delay is of the one before it, at least 1.
    pub multiplier: f64,
    /// What of the delay is left to chance.
    pub jitter: Jitter,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            strategy: RetryStrategy::InPlace,
            max_retries: Some(3),
            initial_delay: Duration::from_secs(5),
            max_delay: Duration::from_secs(300),
            multiplier: 2.0,
            jitter: Jitter::Full,
        }
    }
}

/// Where a delivery that failed waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryStrategy {
    /// Where it is: its key is held, others go on.
    InPlace,
    /// In a topic of the subscription's own, one a delay; only without an order.
    Topics,
}

/// What of a delay is left to chance, so that those who failed together do not come again together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Jitter {
    /// All of it.
    Full,
    /// Nothing.
    None,
}

/// What becomes of what cannot be handled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterPolicy {
    /// Whether it is kept; else it ends, counted and logged.
    pub enabled: bool,
    /// Where it is kept.
    #[serde(with = "super::definition::as_topic")]
    pub topic: TopicName,
    /// When it is too much.
    pub storm_guard: Option<StormGuard>,
}

impl DeadLetterPolicy {
    /// That of a subscription which does not say.
    #[allow(clippy::expect_used, reason = "a subscription's name leaves room for it")]
    pub fn of(subscription: &GroupId) -> Self {
        let topic = TopicName::new(&format!("{subscription}.dlq")).expect("it is a name and fits");
        Self { enabled: true, topic, storm_guard: Some(StormGuard::default()) }
    }
}

/// Pauses a subscription of which too much becomes dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StormGuard {
    /// The share of the decisions, above 0 and at most 1.
    pub ratio: f64,
    /// Of so many last ones.
    pub window: u32,
}

impl Default for StormGuard {
    fn default() -> Self {
        Self { ratio: 0.8, window: 200 }
    }
}

/// Whether and how an event is kept from being handled twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DedupPolicy {
    /// Whether it is.
    pub enabled: bool,
    /// How long it is known that an event is done.
    pub ttl: Duration,
    /// What happens while the store of claims does not answer.
    pub on_store_failure: OnStoreFailure,
    /// A CEL expression that gives the key, instead of an event's source and id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Default for DedupPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Duration::from_secs(3600),
            on_store_failure: OnStoreFailure::Pause,
            key: None,
        }
    }
}

/// What happens while the store of claims does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreFailure {
    /// Nothing is delivered.
    Pause,
    /// Events are delivered without a claim, perhaps twice.
    Process,
}

/// Where events are pushed to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushTarget {
    /// The address.
    pub url: String,
    /// How an event is sent.
    pub format: PushFormat,
    /// Signs requests (Standard Webhooks); several, separated by spaces, sign each. Never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// Sent along.
    pub headers: BTreeMap<String, String>,
    /// The most requests at once.
    pub concurrency: u32,
}

impl fmt::Debug for PushTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the secret nor what headers may carry reaches a log.
        f.debug_struct("PushTarget")
            .field("url", &self.url)
            .field("format", &self.format)
            .field("signed", &self.secret.is_some())
            .field("timeout", &self.timeout)
            .field("headers", &self.headers.keys())
            .field("concurrency", &self.concurrency)
            .finish()
    }
}

/// How an event is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PushFormat {
    /// CloudEvents' binary mode: the value is the body, attributes are headers.
    Binary,
    /// CloudEvents' structured mode.
    Structured,
    /// CloudEvents' batched mode, a run a request.
    Batch,
}
