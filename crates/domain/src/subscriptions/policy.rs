//! What a subscription does with what goes wrong: retries, dead letters, deduplication, and where events
//! are pushed to.

use super::definition::{one_of, parse_duration, show_duration};
use crate::{
    delivery::{Ordering, backoff::Backoff},
    error::{Error, Result},
    retry_topic::TIERS_MAX,
    topics::topic_name,
};
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

impl RetryPolicy {
    /// The delays of the retry topics, the shortest first, and at most one more than there may be; none where
    /// retries wait in place, or do not wait at all.
    pub fn tiers(&self) -> Vec<Duration> {
        if self.strategy == RetryStrategy::InPlace || self.max_delay.is_zero() {
            return Vec::new();
        }
        let backoff = Backoff {
            initial: self.initial_delay,
            max: self.max_delay,
            multiplier: self.multiplier,
            full_jitter: false,
        };
        let mut tiers: Vec<Duration> = Vec::new();
        for failures in 1..=self.max_retries.unwrap_or(u32::MAX) {
            // To whole milliseconds, upwards: never early.
            let delay = backoff.delay(failures, 0).max(Duration::from_millis(1));
            let delay =
                Duration::from_millis(u64::try_from(delay.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
            if tiers.last() == Some(&delay) || tiers.len() > TIERS_MAX {
                break;
            }
            tiers.push(delay);
        }
        if self.initial_delay.is_zero() {
            // What fails comes again at once; what a handler asks for waits.
            tiers = vec![self.max_delay];
        }
        tiers
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

impl RetryStrategy {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "in-place",
            Self::Topics => "topics",
        }
    }
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

impl Jitter {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::None => "none",
        }
    }
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

impl OnStoreFailure {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Process => "process",
        }
    }
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
        // Neither the secret nor what headers or the address's query may carry reaches a log.
        f.debug_struct("PushTarget")
            .field("url", &self.shown_url())
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
    /// CloudEvents' batched mode, a run a request; with ordering `none` several events a request.
    Batch,
}

impl PushFormat {
    /// The format as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Structured => "structured",
            Self::Batch => "batch",
        }
    }
}

/// The longest delay of a retry.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most retries that a subscription may ask for.
const RETRIES_MAX: i64 = 1_000_000;
/// What a delay may at most be of the one before it.
const MULTIPLIER_MAX: f64 = 1_000.0;
/// The largest window of a storm guard.
const WINDOW_MAX: i64 = 100_000;
/// The least and the most time for which it is known that an event is done.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(366 * 24 * 3600));

/// `retry`, as a client says it. What is `None` was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewRetry {
    /// `in-place` or `topics`.
    pub strategy: Option<String>,
    /// -1 is no end.
    pub max_retries: Option<i64>,
    /// A duration.
    pub initial_delay: Option<String>,
    /// A duration.
    pub max_delay: Option<String>,
    /// At least 1.
    pub multiplier: Option<f64>,
    /// `full` or `none`.
    pub jitter: Option<String>,
}

/// `deadLetter`, as a client says it. What is `None` was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewDeadLetter {
    /// Whether there are any.
    pub enabled: Option<bool>,
    /// Their topic.
    pub topic: Option<String>,
    /// `Some(None)` turns it off.
    pub storm_guard: Option<Option<NewStormGuard>>,
}

/// `deadLetter.stormGuard`, as a client says it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NewStormGuard {
    /// A share.
    pub ratio: Option<f64>,
    /// A number of decisions.
    pub window: Option<i64>,
}

/// `dedup`, as a client says it. What is `None` was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDedup {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// A duration.
    pub ttl: Option<String>,
    /// `pause` or `process`.
    pub on_store_failure: Option<String>,
    /// A CEL expression.
    pub key: Option<String>,
}

/// What a subscription does where nobody says, as this service is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyDefaults {
    /// How a delivery that failed comes again.
    pub retry: RetryPolicy,
    /// Dead letters are not kept.
    pub dead_letters_off: bool,
    /// Whether and how an event is kept from being handled twice.
    pub dedup: DedupPolicy,
}

fn duration(
    field: &str,
    text: Option<&str>,
    otherwise: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration> {
    let Some(text) = text else { return Ok(otherwise) };
    let duration = parse_duration(text).map_err(|message| Error::invalid(field, message))?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        let (least, most) = (show_duration(least), show_duration(most));
        Err(Error::invalid(field, format!("must lie between `{least}` and `{most}` (given: {text:?})")))
    }
}

impl RetryPolicy {
    pub(super) fn decide(new: &NewRetry, ordering: Ordering, defaults: &Self) -> Result<Self> {
        let strategy = match new.strategy.as_deref() {
            None | Some("in-place") => RetryStrategy::InPlace,
            Some("topics") if ordering != Ordering::None => {
                let order = ordering.as_str();
                let message =
                    format!("`topics` keeps no order: it needs `ordering` to be `none` (it is `{order}`)");
                return Err(
                    Error::invalid("retry.strategy", message).with_field("ordering", "must be `none`")
                );
            }
            Some("topics") => RetryStrategy::Topics,
            Some(other) => return Err(one_of("retry.strategy", other, "`in-place` or `topics`")),
        };
        let max_retries = match new.max_retries {
            None => defaults.max_retries,
            Some(-1) => None,
            Some(given) if (0..=RETRIES_MAX).contains(&given) => Some(given as u32),
            Some(given) => {
                let message =
                    format!("must lie between 0 and {RETRIES_MAX}, or be -1 for no end (given: {given})");
                return Err(Error::invalid("retry.maxRetries", message));
            }
        };
        let range = (Duration::ZERO, DELAY_MAX);
        let max_delay = duration("retry.maxDelay", new.max_delay.as_deref(), defaults.max_delay, range)?;
        let otherwise = defaults.initial_delay.min(max_delay);
        let initial_delay = duration("retry.initialDelay", new.initial_delay.as_deref(), otherwise, range)?;
        if initial_delay > max_delay {
            let most = show_duration(max_delay);
            return Err(Error::invalid(
                "retry.initialDelay",
                format!("must be at most `maxDelay`, which is `{most}`"),
            ));
        }
        let multiplier = new.multiplier.unwrap_or(defaults.multiplier);
        if !(1.0..=MULTIPLIER_MAX).contains(&multiplier) {
            let message = format!("must lie between 1 and {MULTIPLIER_MAX} (given: {multiplier})");
            return Err(Error::invalid("retry.multiplier", message));
        }
        let jitter = match new.jitter.as_deref() {
            None => defaults.jitter,
            Some("full") => Jitter::Full,
            Some("none") => Jitter::None,
            Some(other) => return Err(one_of("retry.jitter", other, "`full` or `none`")),
        };
        let policy = Self { strategy, max_retries, initial_delay, max_delay, multiplier, jitter };
        if policy.tiers().len() > TIERS_MAX {
            let message = format!(
                "makes more than {TIERS_MAX} different delays, each of which needs a topic: raise it, or lower \
                 `maxRetries` or `maxDelay`"
            );
            return Err(Error::invalid("retry.multiplier", message));
        }
        Ok(policy)
    }
}

impl DeadLetterPolicy {
    pub(super) fn decide(
        new: &NewDeadLetter,
        subscription: &GroupId,
        topics: &[TopicName],
        defaults: &PolicyDefaults,
    ) -> Result<Self> {
        let mut policy = Self::of(subscription);
        policy.enabled = new.enabled.unwrap_or(!defaults.dead_letters_off);
        if let Some(topic) = &new.topic {
            policy.topic = topic_name("deadLetter.topic", topic)?;
        }
        if topics.contains(&policy.topic) {
            let message = format!(
                "is `{}`, which the subscription reads: its dead letters would come again for ever",
                policy.topic
            );
            return Err(Error::invalid("deadLetter.topic", message));
        }
        match new.storm_guard {
            None => {}
            Some(None) => policy.storm_guard = None,
            Some(Some(guard)) => policy.storm_guard = Some(StormGuard::decide(guard)?),
        }
        Ok(policy)
    }
}

impl StormGuard {
    fn decide(new: NewStormGuard) -> Result<Self> {
        let defaults = Self::default();
        let ratio = new.ratio.unwrap_or(defaults.ratio);
        if !(ratio > 0.0 && ratio <= 1.0) {
            let message = format!("must be above 0 and at most 1 (given: {ratio})");
            return Err(Error::invalid("deadLetter.stormGuard.ratio", message));
        }
        let window = new.window.unwrap_or(i64::from(defaults.window));
        if !(1..=WINDOW_MAX).contains(&window) {
            let message = format!("must lie between 1 and {WINDOW_MAX} (given: {window})");
            return Err(Error::invalid("deadLetter.stormGuard.window", message));
        }
        Ok(Self { ratio, window: window as u32 })
    }
}

impl DedupPolicy {
    pub(super) fn decide(new: &NewDedup, defaults: &Self) -> Result<Self> {
        let on_store_failure = match new.on_store_failure.as_deref() {
            None => defaults.on_store_failure,
            Some("pause") => OnStoreFailure::Pause,
            Some("process") => OnStoreFailure::Process,
            Some(other) => return Err(one_of("dedup.onStoreFailure", other, "`pause` or `process`")),
        };
        Ok(Self {
            enabled: new.enabled.unwrap_or(defaults.enabled),
            ttl: duration("dedup.ttl", new.ttl.as_deref(), defaults.ttl, TTL)?,
            on_store_failure,
            key: new.key.clone().or_else(|| defaults.key.clone()),
        })
    }
}
