//! What a client asks for, checked, and turned into what is to be read.

use super::{
    JobPorts, JobServices,
    job::{Progress, Span, Target, Task},
};
use crate::{
    error::{Error, Result},
    filter::Filter,
    limits::Limits,
    topics::{Topics, topic_name},
};
use ports::{Offset, PartitionId, Position, Timestamp, TopicName};
use std::collections::BTreeMap;

/// The most events of a batch that a client may ask for.
const BATCH_MAX: i64 = 10_000;
/// What a batch has where nobody says.
pub(super) const BATCH: usize = 500;
/// Times are taken for the future only when they lie as far ahead: clocks differ.
const AHEAD_MS: i64 = 60_000;
/// The fastest and the slowest that the original pace can be changed to.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// By the time of events.
    Time(Timestamp),
    /// By offset, by partition; what is not named is not read.
    Offsets(BTreeMap<String, i64>),
    /// So many offsets of each partition, counted from its end. Not for the end of a range.
    Last(i64),
}

/// A replay that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewReplay {
    /// The topic to read.
    pub topic: String,
    /// Where to begin; at the earliest where nothing is said.
    pub from: Option<Bound>,
    /// Where to end, exclusive; at the end as it is now where nothing is said.
    pub to: Option<Bound>,
    /// Which events.
    pub filter: Option<String>,
    /// The topic to write to.
    pub target_topic: Option<String>,
    /// Or the subscription to deliver to.
    pub target_subscription: Option<String>,
    /// The most events of a second.
    pub rate_per_second: Option<i64>,
    /// The most bytes of a second.
    pub bytes_per_second: Option<i64>,
    /// The original pace, times this.
    pub speed: Option<f64>,
    /// The most events that are written at once.
    pub batch_size: Option<i64>,
}

impl NewReplay {
    /// Checks what was asked for, and finds what there is to read.
    pub(super) async fn decide(
        self,
        ports: &JobPorts,
        services: &JobServices,
        limits: &Limits,
    ) -> Result<(Task, Progress)> {
        let JobServices { topics, subscriptions, .. } = services;
        let topic = topic_name("topic", &self.topic)?;
        let now = ports.clock.wall();
        check_range(self.from.as_ref(), self.to.as_ref(), now)?;
        if let Some(filter) = &self.filter {
            Filter::compile(filter, &limits.expressions).map_err(|error| {
                Error::invalid("filter", format!("is not an expression that can be evaluated: {error}"))
            })?;
        }
        let rate_per_second = positive("ratePerSecond", self.rate_per_second)?;
        let bytes_per_second = positive("bytesPerSecond", self.bytes_per_second)?;
        if let Some(speed) = self.speed {
            if !SPEEDS.contains(&speed) {
                let (least, most) = (SPEEDS.start(), SPEEDS.end());
                return Err(Error::invalid(
                    "speed",
                    format!("must lie between {least} and {most} (given: {speed})"),
                ));
            }
            if rate_per_second.is_some() {
                let message =
                    "cannot be given beside `ratePerSecond`: the pace is the original one, or a rate";
                return Err(Error::invalid("speed", message));
            }
        }
        let batch_size = match self.batch_size {
            None => BATCH,
            Some(given) if (1..=BATCH_MAX).contains(&given) => given as usize,
            Some(given) => {
                let message = format!("must lie between 1 and {BATCH_MAX} (given: {given})");
                return Err(Error::invalid("batchSize", message));
            }
        };
        let there = topics.meta_if_there(&topic).await?.ok_or_else(|| Error::topic_not_found(&topic))?;
        let mut target_filter = None;
        let target = match (self.target_topic, self.target_subscription) {
            (None, None) => {
                let message =
                    "is missing; it must be as {\"topic\": \"orders\"} or {\"subscription\": \"mail\"}";
                return Err(Error::invalid("target", message));
            }
            (Some(_), Some(_)) => {
                return Err(Error::invalid("target.subscription", "must not be given beside `target.topic`"));
            }
            (None, Some(name)) => {
                let definition = subscriptions.definition(&name)?;
                if definition.dead_letter_policy().topic == topic {
                    let message = format!(
                        "holds the dead letters of `{name}` itself, which would come back to it; redrive them instead"
                    );
                    return Err(Error::invalid("topic", message));
                }
                target_filter.clone_from(&definition.filter);
                Target::Subscription { name, uid: definition.uid }
            }
            (Some(name), None) => {
                let target = topic_name("target.topic", &name)?;
                if topics.meta_if_there(&target).await?.is_none() {
                    return Err(Error::topic_not_found(&target).with_field("target.topic", "does not exist"));
                }
                Target::Topic(name)
            }
        };
        let (since, until) = (time_of(self.from.as_ref()), time_of(self.to.as_ref()));
        let by_log = match self.to {
            Some(Bound::Time(_)) => stamps_itself(topics, &topic).await?,
            _ => false,
        };
        let partitions = spans(ports, &topic, there.partitions, self.from, self.to, by_log).await?;
        let task = Task {
            topic: self.topic,
            topic_id: there.id.clone(),
            since,
            until,
            filter: self.filter,
            target_filter,
            only: None,
            target,
            rate_per_second,
            bytes_per_second,
            speed: self.speed,
            batch_size,
        };
        Ok((task, Progress { partitions, ..Progress::default() }))
    }
}

/// A rate, where one is said.
pub(super) fn positive(field: &str, given: Option<i64>) -> Result<Option<u64>> {
    match given {
        Some(given) if given < 1 => {
            Err(Error::invalid(field, format!("must be at least 1 (given: {given})")))
        }
        given => Ok(given.map(|given| given as u64)),
    }
}

fn time_of(bound: Option<&Bound>) -> Option<i64> {
    match bound {
        Some(Bound::Time(time)) => Some(time.0),
        _ => None,
    }
}

/// What can be told without asking the log.
fn check_range(from: Option<&Bound>, to: Option<&Bound>, now: Timestamp) -> Result<()> {
    for (field, bound) in [("from.timestamp", from), ("to.timestamp", to)] {
        if let Some(Bound::Time(time)) = bound
            && time.0 > now.0.saturating_add(AHEAD_MS)
        {
            return Err(Error::invalid(field, "lies in the future; a range ends now at the latest"));
        }
    }
    match (from, to) {
        (Some(Bound::Time(from)), Some(Bound::Time(to))) if from >= to => {
            Err(Error::invalid("to.timestamp", "must be later than `from.timestamp`; it is exclusive"))
        }
        (Some(Bound::Last(last)), _) if *last < 1 => {
            Err(Error::invalid("from.last", format!("must be at least 1 (given: {last})")))
        }
        (_, Some(Bound::Last(_))) => {
            Err(Error::invalid("to.last", "is not known; a range ends at a `timestamp` or at `offsets`"))
        }
        _ => Ok(()),
    }
}

/// Whether timestamps only grow within a partition, as the log makes them.
async fn stamps_itself(topics: &Topics, topic: &TopicName) -> Result<bool> {
    let info = topics.get(topic.as_str()).await?;
    Ok(info.config.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime"))
}

/// What is read of each partition. The end is fixed here, so that a replay of a topic into itself ends.
///
/// Timestamps need not grow within a partition: events of a range of time may lie anywhere behind the first one that
/// is late enough, so that all of them are looked at up to the end, unless the log makes the timestamps itself.
async fn spans(
    ports: &JobPorts,
    topic: &TopicName,
    count: u32,
    from: Option<Bound>,
    to: Option<Bound>,
    by_log: bool,
) -> Result<BTreeMap<PartitionId, Span>> {
    let all = || 0..count;
    let locate = async |position| -> Result<Vec<Offset>> {
        let at: Vec<_> = all().map(|partition| (partition, position)).collect();
        Ok(ports.log.locate(topic, &at).await?)
    };
    let (earliest, latest) = (locate(Position::Earliest).await?, locate(Position::Latest).await?);
    let ends = |partition: PartitionId| -> (Offset, Offset) {
        let at = partition as usize;
        (earliest.get(at).copied().unwrap_or_default(), latest.get(at).copied().unwrap_or_default())
    };
    let mut spans: BTreeMap<PartitionId, Span> = BTreeMap::new();
    match from {
        None => spans.extend(all().map(|of| (of, begin(ends(of).0, ends(of))))),
        Some(Bound::Time(time)) => {
            let found = locate(Position::Timestamp(time)).await?;
            spans.extend(all().zip(found).map(|(of, at)| (of, begin(at, ends(of)))));
        }
        Some(Bound::Last(last)) => {
            spans.extend(
                all().map(|of| (of, begin(ends(of).1.saturating_sub(last as u64).max(ends(of).0), ends(of)))),
            );
        }
        Some(Bound::Offsets(offsets)) => {
            for (partition, offset) in read_offsets("from.offsets", &offsets, count, &latest)? {
                spans.insert(partition, begin(offset, ends(partition)));
            }
        }
    }
    match to {
        Some(Bound::Offsets(offsets)) => {
            let offsets = read_offsets("to.offsets", &offsets, count, &latest)?;
            spans.retain(|partition, _| offsets.contains_key(partition));
            for (partition, offset) in offsets {
                let Some(span) = spans.get_mut(&partition) else { continue };
                if offset < span.from {
                    let begins = span.from;
                    return Err(Error::invalid(
                        format!("to.offsets.{partition}"),
                        format!("must be at least {begins}, where the range begins (given: {offset})"),
                    ));
                }
                span.to = offset;
            }
        }
        Some(Bound::Time(time)) if by_log => {
            let found = locate(Position::Timestamp(time)).await?;
            for (partition, at) in all().zip(found) {
                if let Some(span) = spans.get_mut(&partition) {
                    span.to = at.max(span.from).min(span.to);
                }
            }
        }
        _ => {}
    }
    Ok(spans)
}

/// A span from an offset to the end; what is not there any more is counted.
fn begin(at: Offset, (earliest, latest): (Offset, Offset)) -> Span {
    let from = at.max(earliest).min(latest.max(earliest));
    Span { from, to: latest.max(from), next: from, gone: from.saturating_sub(at) }
}

fn read_offsets(
    field: &str,
    offsets: &BTreeMap<String, i64>,
    count: u32,
    latest: &[Offset],
) -> Result<BTreeMap<PartitionId, Offset>> {
    if offsets.is_empty() {
        return Err(Error::invalid(field, "must name one partition at least, as {\"0\": 100}"));
    }
    let mut read = BTreeMap::new();
    for (name, offset) in offsets {
        let at = format!("{field}.{}", crate::error::short(name));
        let partition = name.parse::<PartitionId>().ok().filter(|partition| *partition < count);
        let Some(partition) = partition else {
            return Err(Error::invalid(at, format!("must name a partition between 0 and {}", count - 1)));
        };
        let end = latest.get(partition as usize).copied().unwrap_or_default();
        match Offset::try_from(*offset) {
            Ok(offset) if offset <= end => drop(read.insert(partition, offset)),
            _ => {
                let message = format!("must lie between 0 and the partition's end {end} (given: {offset})");
                return Err(Error::invalid(at, message));
            }
        }
    }
    Ok(read)
}
