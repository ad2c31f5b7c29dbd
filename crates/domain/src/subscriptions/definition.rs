//! What a subscription is: its definition as a client says it, as it is kept, and as it is shown.

use super::dispatch::LEASE_MARGIN;
use super::expressions::{ExpressionErrors, Expressions};
use super::policy::{
    DeadLetterPolicy, DedupPolicy, NewDeadLetter, NewDedup, NewRetry, PolicyDefaults, PushFormat, PushTarget,
    RetryPolicy,
};
use crate::{
    delivery::{Ordering, commit_map::Epoch},
    error::{Error, Result, invalid_name},
    limits::Limits,
    push::NewPush,
    retry_topic,
    topics::topic_name,
};
use ports::{GroupId, Offset, PartitionId, Timestamp, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::Duration};
use uuid::Uuid;

/// The most topics of one subscription.
const TOPICS_MAX: usize = 100;
/// The most deliveries that a subscription may have out at one replica.
const MAX_IN_FLIGHT_MAX: i64 = 1_000_000;
/// What `maxInFlight` is where a client does not say.
const MAX_IN_FLIGHT_DEFAULT: u32 = 1000;
/// The least and the most time that a client may have for a delivery.
const ACK_TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(12 * 3600));
/// What `ackTimeout` is where a client does not say.
const ACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The most events of one request to a webhook.
const PUSH_BATCH_MAX: usize = 100;
/// The longest duration that is read.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a duration as it stands on the wire: `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`.
///
/// # Errors
/// What was wrong and what would be right, to be put after the field's name.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let shown: String = text.chars().take(40).collect();
    let wrong = || format!("must be a duration like `500ms`, `30s`, `5m` or `1h` (given: {shown:?})");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "d" => number.checked_mul(24 * 3600).map(Duration::from_secs),
        _ => return Err(wrong()),
    };
    duration
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| format!("must be at most `366d` (given: {shown:?})"))
}

/// Shows a duration in the largest unit that says it exactly.
pub fn show_duration(duration: Duration) -> impl fmt::Display {
    struct Shown(u128);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                ms if ms % 3_600_000 == 0 && ms > 0 => write!(f, "{}h", ms / 3_600_000),
                ms if ms % 60_000 == 0 && ms > 0 => write!(f, "{}m", ms / 60_000),
                ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
                ms => write!(f, "{ms}ms"),
            }
        }
    }
    Shown(duration.as_millis())
}

/// A subscription to create, as a client says it. What is `None` was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewSubscription {
    /// Its name, which is its consumer group.
    pub name: String,
    /// What it reads.
    pub topics: Vec<String>,
    /// `delivery.mode`.
    pub delivery_mode: Option<String>,
    /// The other fields of `delivery`, which are of `push` alone.
    pub push: NewPush,
    /// `ordering`.
    pub ordering: Option<String>,
    /// `maxInFlight`.
    pub max_in_flight: Option<i64>,
    /// `ackTimeout`.
    pub ack_timeout: Option<String>,
    /// `payload`.
    pub payload: Option<String>,
    /// `filter`.
    pub filter: Option<String>,
    /// `start`.
    pub start: Option<StartSpec>,
    /// `retry`.
    pub retry: NewRetry,
    /// `deadLetter`.
    pub dead_letter: NewDeadLetter,
    /// `dedup`.
    pub dedup: NewDedup,
    /// `adoptGroup`: go on from the offsets of a group that is somebody else's.
    pub adopt_group: bool,
    /// Fields that are known, were named, and are not built yet.
    pub not_built: Vec<String>,
}

/// Where a subscription begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartSpec {
    /// At the first event that is there.
    #[default]
    Earliest,
    /// Behind the last event that is there when the subscription is made.
    Latest,
    /// At the first event of this time (epoch milliseconds) or later.
    Time(i64),
    /// At these offsets by topic and partition; partitions that are not named begin at the earliest.
    Offsets(BTreeMap<String, BTreeMap<String, i64>>),
}

/// How events come to their handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryMode {
    /// Clients ask for them.
    Pull,
    /// Clients are sent them over a stream that they open. What is said here for [`Self::Pull`] holds
    /// too: clients may do either.
    Stream,
    /// They are sent to an address.
    Push(PushTarget),
}

impl DeliveryMode {
    /// The most events of one run: a webhook that is sent one event at a time gets a key's next one only
    /// after the last is decided.
    pub(super) fn run_max(&self) -> usize {
        match self {
            Self::Pull | Self::Stream => usize::MAX,
            Self::Push(target) if target.format == PushFormat::Batch => PUSH_BATCH_MAX,
            Self::Push(_) => 1,
        }
    }

    /// The mode as it stands on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Stream => "stream",
            Self::Push(_) => "push",
        }
    }
}

/// How a delivery shows its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// Decoded where it is JSON.
    Json,
    /// As base64.
    Bytes,
}

/// A subscription as it is kept: every field decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name, which is its consumer group.
    #[serde(with = "as_text")]
    pub name: GroupId,
    /// Tells it from another subscription that had its name.
    pub uid: Uuid,
    /// What it reads.
    #[serde(with = "as_texts")]
    pub topics: Vec<TopicName>,
    /// How events come to their handler.
    pub mode: DeliveryMode,
    /// What order deliveries keep.
    pub ordering: Ordering,
    /// The most deliveries that are out at one replica.
    pub max_in_flight: u32,
    /// How long a client has for a delivery.
    pub ack_timeout: Duration,
    /// How a delivery shows its event.
    pub payload: Payload,
    /// A CEL expression over an event's attributes and data; what does not match is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How a delivery that failed comes again.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// What becomes of what cannot be handled; `None` only in definitions that were kept before there were
    /// dead letters, and is then as if it were left out.
    #[serde(default)]
    pub dead_letter: Option<DeadLetterPolicy>,
    /// Whether and how an event is kept from being handled twice.
    #[serde(default)]
    pub dedup: DedupPolicy,
    /// Retry topics that it had when it was another, and that are to be emptied.
    #[serde(default, with = "as_texts", skip_serializing_if = "Vec::is_empty")]
    pub emptying: Vec<TopicName>,
    /// Whether it has a queue of events that are delivered to it alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub queue: bool,
    /// When it was replaced last, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replaced_at_ms: i64,
    /// Until when, in epoch milliseconds, deliveries under the definition before may be out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub settled_at_ms: i64,
    /// Since when, in epoch milliseconds, a replica is deleting it, so that the others leave its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting_since_ms: Option<i64>,
    /// How often it was replaced.
    #[serde(default)]
    pub revision: u64,
    /// Whether an operator, or the service itself, has paused it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Where it begins, as it was said.
    pub start: StartSpec,
    /// What `start` meant when the subscription was made: where each partition begins that has no
    /// committed position, or one of an earlier epoch. A partition that is not here, as it came later, begins
    /// at its first event.
    #[serde(with = "as_places")]
    pub places: BTreeMap<TopicPartition, Place>,
    /// When it was made, in epoch milliseconds.
    #[serde(rename = "createdAt")]
    pub created_at_ms: i64,
}

/// Where a partition begins an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The first event of it.
    pub offset: Offset,
    /// The epoch.
    pub epoch: Epoch,
}

/// Why a subscription is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// A stable code: `operator`, `dead-letter-storm`, `handler-gone`.
    pub code: String,
    /// Since when, in epoch milliseconds.
    pub since_ms: i64,
    /// A sentence for a person.
    pub detail: String,
}

impl Cause {
    /// Why a subscription is paused.
    pub(super) fn of(paused: &Paused) -> Self {
        let code = match paused.code.as_str() {
            "dead-letter-storm" => "dead-letter-storm",
            "handler-gone" => "handler-gone",
            _ => "paused",
        };
        Self { code, since: Timestamp(paused.since_ms), detail: paused.detail.clone() }
    }
}

impl Definition {
    /// The epoch that all partitions begin with.
    pub fn first_epoch(&self) -> Epoch {
        Epoch { counter: 0, id: self.uid }
    }

    /// How long a delivery may be out. That of a webhook ends when its call does, and this only where nobody
    /// is left to notice.
    pub(super) fn lease(&self) -> Duration {
        match &self.mode {
            DeliveryMode::Push(target) => target.timeout + LEASE_MARGIN,
            DeliveryMode::Pull | DeliveryMode::Stream => self.ack_timeout,
        }
    }

    /// How many events that have no order among themselves go to a handler in one call.
    pub(super) fn together(&self) -> usize {
        match &self.mode {
            DeliveryMode::Push(target)
                if target.format == PushFormat::Batch && self.ordering == Ordering::None =>
            {
                PUSH_BATCH_MAX
            }
            _ => 1,
        }
    }

    /// The topics of its own in which events wait for it: retries, or some still since it was another; and its queue.
    pub fn retry_topics(&self) -> Vec<TopicName> {
        let tiers = self.retry.tiers().into_iter().map(|delay| retry_topic::topic(&self.name, delay));
        let mut topics: Vec<_> = tiers.collect();
        let left = self.emptying.iter().filter(|topic| !topics.contains(topic)).cloned().collect::<Vec<_>>();
        topics.extend(left);
        topics.extend(self.queue.then(|| retry_topic::queue(&self.name)));
        topics
    }

    /// Whether a topic is of the subscription's own, for retries or its queue.
    pub(super) fn is_retry_topic(&self, topic: &TopicName) -> bool {
        topic
            .as_str()
            .strip_prefix(self.name.as_str())
            .is_some_and(|rest| rest.starts_with(".retry.") || rest == ".queue")
    }

    /// What becomes of what cannot be handled.
    pub fn dead_letter_policy(&self) -> DeadLetterPolicy {
        self.dead_letter.clone().unwrap_or_else(|| DeadLetterPolicy::of(&self.name))
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        Timestamp(self.created_at_ms)
    }
}

/// Checks what a client said, field by field, and decides what was left out. `places` is empty yet.
pub(super) fn decide(
    new: &NewSubscription,
    limits: &Limits,
    defaults: &PolicyDefaults,
    now: Timestamp,
) -> Result<Definition> {
    let name = GroupId::new(&new.name).map_err(|error| invalid_name("name", &new.name, &error))?;
    if let Some(field) = new.not_built.first() {
        return Err(Error::not_built(field.clone()));
    }
    if new.topics.is_empty() {
        return Err(Error::invalid("topics", "must name at least one topic"));
    }
    let most = TOPICS_MAX.min(limits.partitions_max as usize);
    if new.topics.len() > most {
        return Err(Error::invalid(
            "topics",
            format!("must name at most {most} topics (given: {})", new.topics.len()),
        ));
    }
    let mut topics: Vec<TopicName> = Vec::with_capacity(new.topics.len());
    for (index, topic) in new.topics.iter().enumerate() {
        let field = format!("topics[{index}]");
        let topic = topic_name(&field, topic)?;
        if topics.contains(&topic) {
            return Err(Error::invalid(field, format!("names `{topic}` a second time")));
        }
        topics.push(topic);
    }
    let mode = match new.delivery_mode.as_deref() {
        None | Some("pull") => DeliveryMode::Pull,
        Some("stream") => DeliveryMode::Stream,
        Some("push") => DeliveryMode::Push(new.push.decide()?),
        Some(other) => return Err(one_of("delivery.mode", other, "`pull`, `stream` or `push`")),
    };
    if let Some(field) = new.push.named().filter(|_| !matches!(mode, DeliveryMode::Push(_))) {
        let message = "is of push alone; leave it out, or let `delivery.mode` be `push`";
        return Err(Error::invalid(field, message));
    }
    let ordering = match new.ordering.as_deref() {
        None | Some("key") => Ordering::Key,
        Some("partition") => Ordering::Partition,
        Some("none") => Ordering::None,
        Some(other) => return Err(one_of("ordering", other, "`key`, `partition` or `none`")),
    };
    let max_in_flight = match new.max_in_flight {
        None => MAX_IN_FLIGHT_DEFAULT,
        Some(given) if (1..=MAX_IN_FLIGHT_MAX).contains(&given) => given as u32,
        Some(given) => {
            return Err(Error::invalid(
                "maxInFlight",
                format!("must lie between 1 and {MAX_IN_FLIGHT_MAX} (given: {given})"),
            ));
        }
    };
    let ack_timeout = match new.ack_timeout.as_deref() {
        None => ACK_TIMEOUT_DEFAULT,
        Some(text) => parse_duration(text).map_err(|message| Error::invalid("ackTimeout", message))?,
    };
    if ack_timeout < ACK_TIMEOUT.0 || ack_timeout > ACK_TIMEOUT.1 {
        let (least, most) = (show_duration(ACK_TIMEOUT.0), show_duration(ACK_TIMEOUT.1));
        return Err(Error::invalid("ackTimeout", format!("must lie between `{least}` and `{most}`")));
    }
    let payload = match new.payload.as_deref() {
        None | Some("json") => Payload::Json,
        Some("bytes") => Payload::Bytes,
        Some(other) => return Err(one_of("payload", other, "`json` or `bytes`")),
    };
    let retry = RetryPolicy::decide(&new.retry, ordering, &defaults.retry)?;
    let dead_letter = DeadLetterPolicy::decide(&new.dead_letter, &name, &topics, defaults)?;
    let dedup = DedupPolicy::decide(&new.dedup, &defaults.dedup)?;
    let definition = Definition {
        name,
        uid: Uuid::now_v7(),
        topics,
        mode,
        ordering,
        max_in_flight,
        ack_timeout,
        payload,
        filter: new.filter.clone(),
        retry,
        dead_letter: Some(dead_letter),
        dedup,
        emptying: Vec::new(),
        queue: false,
        replaced_at_ms: 0,
        settled_at_ms: 0,
        deleting_since_ms: None,
        revision: 0,
        paused: None,
        start: new.start.clone().unwrap_or_default(),
        places: BTreeMap::new(),
        created_at_ms: now.0,
    };
    Expressions::compile(&definition, &limits.expressions)?;
    Ok(definition)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

pub(crate) fn one_of(field: &str, given: &str, right: &str) -> Error {
    let given: String = given.chars().take(40).collect();
    Error::invalid(field, format!("must be {right} (given: {given:?})"))
}

/// Reads the offsets of a [`StartSpec::Offsets`] for the topics of a subscription, each of which has so
/// many partitions.
pub(super) fn offsets_of(
    said: &BTreeMap<String, BTreeMap<String, i64>>,
    partitions: &BTreeMap<TopicName, u32>,
) -> Result<BTreeMap<TopicPartition, Offset>> {
    let mut places = BTreeMap::new();
    for (topic, offsets) in said {
        let shown: String = topic.chars().take(80).collect();
        let Some((name, count)) = partitions.get_key_value(topic.as_str()) else {
            return Err(Error::invalid(format!("start.{shown}"), "is not one of the subscription's topics"));
        };
        for (partition, offset) in offsets {
            let part: String = partition.chars().take(20).collect();
            let field = || format!("start.{shown}.{part}");
            let number: PartitionId =
                partition.parse().ok().filter(|number| number < count).ok_or_else(|| {
                    Error::invalid(
                        field(),
                        format!("is not a partition of the topic; it has 0 to {}", count - 1),
                    )
                })?;
            let offset = Offset::try_from(*offset)
                .map_err(|_| Error::invalid(field(), format!("must not be negative (given: {offset})")))?;
            places.insert(TopicPartition::new(name.clone(), number), offset);
        }
    }
    Ok(places)
}

/// A subscription's state, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It delivers.
    Active,
    /// No replica reads it.
    NoMembers,
    /// Nothing is delivered until it is resumed.
    Paused,
    /// Its handler is out of order, and is tried with single deliveries.
    CircuitOpen,
    /// It delivers less than it should; the causes say why.
    Degraded,
}

impl State {
    /// The state as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NoMembers => "no-members",
            Self::Paused => "paused",
            Self::CircuitOpen => "circuit-open",
            Self::Degraded => "degraded",
        }
    }
}

/// Why a subscription is not simply active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A stable code, as `events-lost`.
    pub code: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// A sentence for a person.
    pub detail: String,
}

/// A subscription as it is shown.
#[derive(Clone, Debug)]
pub struct SubscriptionView {
    /// What it is.
    pub definition: std::sync::Arc<Definition>,
    /// Its state.
    pub state: State,
    /// Why it is in that state.
    pub causes: Vec<Cause>,
    /// Events behind the committed position that are in its topics, as last known.
    pub lag: u64,
    /// Deliveries that are out at this replica.
    pub in_flight: u64,
    /// Events held back by retries.
    pub held: u64,
    /// Events that its filter passed over, at this replica, since it began to serve the subscription as it is.
    pub filtered: u64,
    /// Those of them of which the filter could not tell.
    pub filter_errors: ExpressionErrors,
    /// Evaluations of `dedup.key` that failed.
    pub dedup_key_errors: ExpressionErrors,
    /// Who reads it.
    pub members: Vec<String>,
}

mod as_text {
    use ports::GroupId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(name: &GroupId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GroupId, D::Error> {
        GroupId::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

pub(super) mod as_topic {
    use ports::TopicName;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::subscriptions) fn serialize<S: Serializer>(
        name: &TopicName,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(in crate::subscriptions) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<TopicName, D::Error> {
        TopicName::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod as_texts {
    use ports::TopicName;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(names: &[TopicName], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(names.iter().map(TopicName::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TopicName>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| TopicName::new(name)).collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

mod as_places {
    use super::Place;
    use crate::delivery::commit_map::Epoch;
    use ports::{Offset, PartitionId, TopicName, TopicPartition};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    type Places = BTreeMap<TopicPartition, Place>;

    pub(super) fn serialize<S: Serializer>(places: &Places, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(places.iter().map(|(at, Place { offset, epoch })| {
            (at.topic.as_str(), at.partition, offset, epoch.counter, epoch.id)
        }))
    }

    /// With its epoch, or, as it was kept before there were epochs, without.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Kept {
        Now(String, PartitionId, Offset, u64, Uuid),
        Before(String, PartitionId, Offset),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Places, D::Error> {
        let places = Vec::<Kept>::deserialize(from)?;
        places
            .into_iter()
            .map(|kept| {
                let (topic, partition, offset, counter, id) = match kept {
                    Kept::Now(topic, partition, offset, counter, id) => {
                        (topic, partition, offset, counter, id)
                    }
                    Kept::Before(topic, partition, offset) => (topic, partition, offset, 0, Uuid::nil()),
                };
                let topic = TopicName::new(&topic).map_err(D::Error::custom)?;
                let place = Place { offset, epoch: Epoch { counter, id } };
                Ok((TopicPartition::new(topic, partition), place))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::ErrorCode, subscriptions::policy::NewStormGuard};

    fn new() -> NewSubscription {
        NewSubscription { name: "mail".into(), topics: vec!["orders".into()], ..NewSubscription::default() }
    }

    fn refused(change: impl FnOnce(&mut NewSubscription)) -> Error {
        let mut new = new();
        change(&mut new);
        decide(&new, &Limits::default(), &PolicyDefaults::default(), Timestamp(0)).unwrap_err()
    }

    #[test]
    fn durations_read_as_they_are_shown() {
        for (text, ms) in [
            ("500ms", 500),
            ("0s", 0),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("36h", 129_600_000),
        ] {
            let read = parse_duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(ms));
            assert_eq!(show_duration(read).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "5",
            "-1s",
            "1.5s",
            "5 s",
            "5y",
            "99999999999999999999s",
            "367d",
            "18446744073709551615h",
            "+5s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_decided() {
        let decided = decide(&new(), &Limits::default(), &PolicyDefaults::default(), Timestamp(7)).unwrap();
        assert_eq!(decided.ordering, Ordering::Key);
        assert_eq!(decided.retry, RetryPolicy::default());
        assert_eq!(decided.dedup, DedupPolicy::default());
        let dead_letter = decided.dead_letter_policy();
        assert_eq!((dead_letter.enabled, dead_letter.topic.as_str()), (true, "mail.dlq"));
        assert_eq!(decided.max_in_flight, 1000);
        assert_eq!(decided.ack_timeout, Duration::from_secs(30));
        assert_eq!(decided.payload, Payload::Json);
        assert_eq!(decided.start, StartSpec::Earliest);
        assert_eq!(decided.created_at(), Timestamp(7));
    }

    #[test]
    fn a_bad_field_is_named() {
        let field = |error: Error| (error.code(), error.fields()[0].field.clone());
        let bad = |name: &str| (ErrorCode::InvalidRequest, name.to_owned());
        assert_eq!(field(refused(|new| new.name = "a/b".into())), bad("name"));
        assert_eq!(field(refused(|new| new.topics.clear())), bad("topics"));
        assert_eq!(field(refused(|new| new.topics.push("..".into()))), bad("topics[1]"));
        assert_eq!(field(refused(|new| new.topics.push("orders".into()))), bad("topics[1]"));
        assert_eq!(field(refused(|new| new.max_in_flight = Some(0))), bad("maxInFlight"));
        assert_eq!(field(refused(|new| new.ack_timeout = Some("0s".into()))), bad("ackTimeout"));
        assert_eq!(field(refused(|new| new.ack_timeout = Some("soon".into()))), bad("ackTimeout"));
        assert_eq!(field(refused(|new| new.payload = Some("xml".into()))), bad("payload"));
        assert_eq!(field(refused(|new| new.delivery_mode = Some("pigeon".into()))), bad("delivery.mode"));
        let not_built = |name: &str| (ErrorCode::NotSupported, name.to_owned());
        assert_eq!(field(refused(|new| new.ordering = Some("sideways".into()))), bad("ordering"));
        let retry = |change: fn(&mut NewRetry)| field(refused(|new| change(&mut new.retry)));
        assert_eq!(retry(|retry| retry.strategy = Some("topics".into())), bad("retry.strategy"));
        let tiers = |multiplier, max_retries| {
            field(refused(|new| {
                new.ordering = Some("none".into());
                new.retry.strategy = Some("topics".into());
                (new.retry.multiplier, new.retry.max_retries) = (Some(multiplier), Some(max_retries));
            }))
        };
        assert_eq!(tiers(1.01, 100), bad("retry.multiplier"));
        assert_eq!(tiers(1.2, -1), bad("retry.multiplier"));
        assert_eq!(retry(|retry| retry.max_retries = Some(-2)), bad("retry.maxRetries"));
        assert_eq!(retry(|retry| retry.initial_delay = Some("-1s".into())), bad("retry.initialDelay"));
        assert_eq!(retry(|retry| retry.initial_delay = Some("6m".into())), bad("retry.initialDelay"));
        assert_eq!(retry(|retry| retry.max_delay = Some("99999d".into())), bad("retry.maxDelay"));
        assert_eq!(retry(|retry| retry.multiplier = Some(0.5)), bad("retry.multiplier"));
        assert_eq!(retry(|retry| retry.multiplier = Some(f64::NAN)), bad("retry.multiplier"));
        assert_eq!(retry(|retry| retry.jitter = Some("some".into())), bad("retry.jitter"));
        let dead = |change: fn(&mut NewDeadLetter)| field(refused(|new| change(&mut new.dead_letter)));
        assert_eq!(dead(|dead| dead.topic = Some("a/b".into())), bad("deadLetter.topic"));
        assert_eq!(dead(|dead| dead.topic = Some("orders".into())), bad("deadLetter.topic"));
        let guard = |ratio, window| Some(Some(NewStormGuard { ratio, window }));
        let storm = |guard| field(refused(|new| new.dead_letter.storm_guard = guard));
        assert_eq!(storm(guard(Some(0.0), None)), bad("deadLetter.stormGuard.ratio"));
        assert_eq!(storm(guard(None, Some(0))), bad("deadLetter.stormGuard.window"));
        let dedup = |change: fn(&mut NewDedup)| field(refused(|new| change(&mut new.dedup)));
        assert_eq!(dedup(|dedup| dedup.ttl = Some("0s".into())), bad("dedup.ttl"));
        assert_eq!(dedup(|dedup| dedup.on_store_failure = Some("hope".into())), bad("dedup.onStoreFailure"));
        assert_eq!(field(refused(|new| new.delivery_mode = Some("push".into()))), bad("delivery.url"));
        assert_eq!(field(refused(|new| new.push.timeout = Some("1s".into()))), bad("delivery.timeout"));
        assert_eq!(field(refused(|new| new.not_built.push("a.b".into()))), not_built("a.b"));
        assert_eq!(field(refused(|new| new.filter = Some("typ == 'a'".into()))), bad("filter"));
        assert_eq!(field(refused(|new| new.filter = Some(String::new()))), bad("filter"));
        assert_eq!(dedup(|dedup| dedup.key = Some("data.".into())), bad("dedup.key"));
    }

    #[test]
    fn what_is_wrong_in_an_expression_is_said_with_its_place_and_its_limits_are_the_services() {
        let error = refused(|new| new.filter = Some("true\n&& typ == 'a'".into()));
        assert_eq!(
            error.fields()[0].message,
            "is not an expression that can be evaluated: line 2, column 4: `typ` is not known; did you mean `type`?"
        );
        let mut limits = Limits::default();
        limits.expressions.text_bytes_max = 10;
        let new = NewSubscription { filter: Some("type == 'a'".into()), ..new() };
        let error = decide(&new, &limits, &PolicyDefaults::default(), Timestamp(0)).unwrap_err();
        assert!(error.fields()[0].message.contains("at most 10 are taken"), "{error:?}");
    }

    #[test]
    fn an_expression_is_kept_as_it_was_said() {
        let dedup = NewDedup { key: Some(" data.order ".into()), ..NewDedup::default() };
        let new = NewSubscription { filter: Some("type  == 'a'".into()), dedup, ..new() };
        let decided = decide(&new, &Limits::default(), &PolicyDefaults::default(), Timestamp(7)).unwrap();
        let kept = serde_json::to_vec(&decided).unwrap();
        let read: Definition = serde_json::from_slice(&kept).unwrap();
        assert_eq!(read.filter.as_deref(), Some("type  == 'a'"));
        assert_eq!(read.dedup.key.as_deref(), Some(" data.order "));
    }

    #[test]
    fn offsets_are_read_for_the_partitions_that_there_are() {
        let partitions: BTreeMap<_, _> = [(TopicName::new("orders").unwrap(), 3)].into();
        let said = |topic: &str, partition: &str, offset| {
            BTreeMap::from([(topic.to_owned(), BTreeMap::from([(partition.to_owned(), offset)]))])
        };
        let read = offsets_of(&said("orders", "2", 10), &partitions).unwrap();
        assert_eq!(read, [(TopicPartition::new(TopicName::new("orders").unwrap(), 2), 10)].into());
        for (said, field) in [
            (said("mails", "0", 1), "start.mails"),
            (said("orders", "3", 1), "start.orders.3"),
            (said("orders", "x", 1), "start.orders.x"),
            (said("orders", "0", -1), "start.orders.0"),
        ] {
            assert_eq!(offsets_of(&said, &partitions).unwrap_err().fields()[0].field, field);
        }
    }

    #[test]
    fn a_definition_reads_back_as_it_was_kept() {
        let mut decided =
            decide(&new(), &Limits::default(), &PolicyDefaults::default(), Timestamp(7)).unwrap();
        let place = Place { offset: 99, epoch: Epoch { counter: 3, id: Uuid::now_v7() } };
        decided.places.insert(TopicPartition::new(decided.topics[0].clone(), 1), place);
        let kept = serde_json::to_vec(&decided).unwrap();
        assert_eq!(serde_json::from_slice::<Definition>(&kept).unwrap(), decided);
    }
}
