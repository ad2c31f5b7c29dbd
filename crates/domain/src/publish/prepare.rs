//! The first half of a call: every item is checked, routed, given its partition, and becomes a record in its
//! topic's lane. Nothing has had an effect when it ends.

use super::{
    flow::{Core, Lane},
    once::{Keyed, codec},
    request::{Item, PublishContext, Receipt, Results},
};
use crate::{
    error::{Error, ErrorCode, Result},
    event::{Event, Stamp},
    event_schemas::{Written, says_framed},
};
use bytes::Bytes;
use ports::{ClaimKey, Token, TopicName};
use std::collections::{HashMap, HashSet, hash_map::Entry};

/// The items of a call, checked and placed.
#[derive(Default)]
pub(super) struct Prepared {
    /// What goes to each topic.
    pub(super) lanes: Vec<Lane>,
    /// One slot an item. What is refused already has its error.
    pub(super) results: Results,
    /// The items that have an idempotency key, in order.
    pub(super) keyed: Vec<Keyed>,
    /// The items that say again what an earlier one of the same call says: its index and the earlier one's.
    pub(super) repeats: Vec<(usize, usize)>,
    /// Behind which index each batch ends.
    batch_ends: Vec<usize>,
    /// Where in `keyed` each idempotency key stands.
    by_key: HashMap<ClaimKey, usize>,
}

impl Prepared {
    /// Nothing yet of a call of `items` items in batches of these sizes.
    pub(super) fn new(items: usize, counts: impl Iterator<Item = usize>) -> Self {
        let mut results = Vec::with_capacity(items);
        results.resize_with(items, || None);
        let ends = counts.scan(0, |end, count| {
            *end += count;
            Some(*end)
        });
        Self { results, batch_ends: ends.collect(), ..Self::default() }
    }

    /// The number of the batch that an item belongs to.
    pub(super) fn batch_of(&self, index: usize) -> usize {
        self.batch_ends.partition_point(|end| *end <= index)
    }

    /// Whether an idempotency key is new to the call. Where it is not and the content is the same, the item
    /// is answered as the earlier one is.
    ///
    /// # Errors
    /// Another content under the same key.
    pub(super) fn is_new(&mut self, index: usize, key: ClaimKey, content: codec::Content) -> Result<bool> {
        let Some(at) = self.by_key.get(&key) else { return Ok(true) };
        let earlier = &self.keyed[*at];
        if earlier.content != content {
            return Err(super::once::reused());
        }
        self.repeats.push((index, earlier.index));
        Ok(false)
    }

    /// Keeps an item that has a key which is new to the call.
    pub(super) fn keep(&mut self, keyed: Keyed) {
        if let Entry::Vacant(entry) = self.by_key.entry(keyed.key) {
            entry.insert(self.keyed.len());
            self.keyed.push(keyed);
        }
    }

    /// Fails the items whose event's key had an earlier item of the same batch that failed, so that nothing
    /// of a key is appended behind a gap. Looks only at what is still to be appended.
    pub(super) fn fail_successors(&mut self) {
        let mut failed: HashMap<(usize, Bytes), usize> = HashMap::new();
        for lane in &self.lanes {
            for ((index, _), (_, record)) in lane.items.iter().zip(&lane.records) {
                if let (Some(Err(_)), Some(key)) = (&self.results[*index], &record.key) {
                    let first = failed.entry((self.batch_of(*index), key.clone())).or_insert(*index);
                    *first = (*first).min(*index);
                }
            }
        }
        if failed.is_empty() {
            return;
        }
        for lane in &self.lanes {
            for ((index, _), (_, record)) in lane.items.iter().zip(&lane.records) {
                let Some(key) = &record.key else { continue };
                if self.results[*index].is_some() {
                    continue;
                }
                let first = failed.get(&(self.batch_of(*index), key.clone()));
                if first.is_some_and(|first| first < index) {
                    self.results[*index] = Some(Err(predecessor_failed()));
                }
            }
        }
    }

    /// Takes what has its result out of the lanes: only what is to be appended stays.
    pub(super) fn drop_answered(&mut self) {
        let results = &self.results;
        for lane in &mut self.lanes {
            let open: Vec<bool> = lane.items.iter().map(|(index, _)| results[*index].is_none()).collect();
            if open.iter().all(|open| *open) {
                continue;
            }
            let mut keep = open.iter().copied();
            lane.items.retain(|_| keep.next().unwrap_or(true));
            let mut keep = open.iter().copied();
            lane.records.retain(|_| keep.next().unwrap_or(true));
        }
    }

    /// The results, in order, with those of repeats.
    pub(super) fn finish(mut self) -> Vec<Result<Receipt>> {
        for (index, first) in self.repeats {
            self.results[index] = match &self.results[first] {
                Some(Ok(receipt)) => Some(Ok(Receipt { duplicate: true, ..receipt.clone() })),
                failed => failed.clone(),
            };
        }
        let no_outcome = || Err(Error::new(ErrorCode::Internal, "the log gave no outcome for this event"));
        self.results.into_iter().map(|result| result.unwrap_or_else(no_outcome)).collect()
    }
}

impl Core {
    /// Checks and places all items of a call.
    ///
    /// # Errors
    /// The call names a topic that is not there.
    pub(super) async fn prepare(
        &self,
        topic: Option<&TopicName>,
        items: Vec<Item>,
        counts: &[usize],
        context: &PublishContext,
    ) -> Result<Prepared> {
        let mut prepared = Prepared::new(items.len(), counts.iter().copied());
        let mut stamps: Vec<Stamp> = Vec::with_capacity(1);
        if let Some(topic) = topic {
            // Looked up before anything is done: an unknown topic fails the request, not each item.
            self.open_lane(topic, context, items.len(), &mut prepared, &mut stamps).await?;
        }
        let mut failed_keys: HashSet<Bytes> = HashSet::new();
        let mut batch = 0;
        for (index, item) in items.into_iter().enumerate() {
            while prepared.batch_ends.get(batch).is_some_and(|end| *end <= index) {
                batch += 1;
                failed_keys.clear();
            }
            let (key, outcome) = match item {
                Err(rejected) => (rejected.key, Err(rejected.error)),
                Ok(event) => {
                    let key = event.key.clone();
                    if key.as_ref().is_some_and(|key| !failed_keys.is_empty() && failed_keys.contains(key)) {
                        (key, Err(predecessor_failed()))
                    } else {
                        (key, self.place(topic, event, index, context, &mut prepared, &mut stamps).await)
                    }
                }
            };
            if let Err(error) = outcome {
                failed_keys.extend(key);
                prepared.results[index] = Some(Err(error));
            }
        }
        Ok(prepared)
    }

    /// Checks one event and puts it into its lane.
    async fn place(
        &self,
        topic: Option<&TopicName>,
        mut event: Event,
        index: usize,
        context: &PublishContext,
        prepared: &mut Prepared,
        stamps: &mut Vec<Stamp>,
    ) -> Result<()> {
        event.check(&self.limits)?;
        let at = match topic {
            Some(_) => 0,
            None => {
                let topic = self.route(&event)?;
                match prepared.lanes.iter().position(|lane| lane.topic == topic) {
                    Some(at) => at,
                    None => self.open_lane(&topic, context, 1, prepared, stamps).await?,
                }
            }
        };
        let once = match &event.idempotency_key {
            None => None,
            Some(key) => {
                self.can_be_once()?;
                let key = codec::claim_key(&context.principal, key);
                let content = codec::content(&prepared.lanes[at].topic, &event);
                if !prepared.is_new(index, key, content)? {
                    return Ok(());
                }
                Some((key, content))
            }
        };
        let lane = &mut prepared.lanes[at];
        // Behind the hash of what was sent.
        let written = self.follow_schema(lane, &event).await?;
        if let Some(metadata) = &written.metadata {
            metadata.fill(&mut event);
        }
        context.fill(&mut event);
        let pinned = event.partition.is_some();
        let partition = match event.partition {
            Some(partition) if partition < lane.meta.partitions => partition,
            Some(partition) => {
                return Err(Error::invalid(
                    "partition",
                    format!(
                        "must lie between 0 and {}, the partitions of `{}` (given: {partition})",
                        lane.meta.partitions - 1,
                        lane.topic
                    ),
                ));
            }
            None => lane.state.partitioner.choose(&event, lane.meta.partitions),
        };
        // Behind the choice of a partition, which goes by what was sent: the schema may have another version when it is
        // sent again.
        written.put(&mut event);
        let (mut record, id) = event.into_record(&stamps[at]);
        let place = lane.records.len();
        let keyed = once.map(|(key, content)| {
            let token = Token(rand::random());
            Keyed { index, lane: at, at: place, pinned, key, content, token }
        });
        if let Some(keyed) = &keyed {
            keyed.mark(&mut record, keyed.token);
        }
        let size = record.size();
        if size > lane.meta.max_message_bytes {
            return Err(Error::new(
                ErrorCode::EventTooLarge,
                format!(
                    "the event takes {size} bytes with its headers; topic `{}` takes at most {} \
                     (`max.message.bytes`)",
                    lane.topic, lane.meta.max_message_bytes
                ),
            )
            .with_field("data", "is too large for its topic"));
        }
        lane.records.push((partition, record));
        lane.items.push((index, id));
        if let Some(keyed) = keyed {
            prepared.keep(keyed);
        }
        Ok(())
    }

    /// What a value must be to follow its topic's schema. One that says by itself that it is framed is checked in any topic.
    async fn follow_schema(&self, lane: &mut Lane, event: &Event) -> Result<Written> {
        let Some(schemas) = &self.schemas else { return Ok(Written::default()) };
        if lane.writer.is_none() && event.content_type.as_deref().and_then(says_framed).is_some() {
            lane.writer = Some(Box::new(schemas.writer_of_framed(&lane.topic)));
        }
        let Some(writer) = &mut lane.writer else { return Ok(Written::default()) };
        // Boxed, so that it does not make larger what publishes without one.
        let written = Box::pin(writer.write(event)).await?;
        // Encoding is work for a processor: others have their turn.
        tokio::task::coop::consume_budget().await;
        Ok(written)
    }

    fn route(&self, event: &Event) -> Result<TopicName> {
        self.config
            .routes
            .iter()
            .find(|route| route.when.takes(event))
            .map(|route| route.topic.clone())
            .ok_or_else(|| {
                Error::invalid(
                    "type",
                    "is taken by none of the routing rules; publish to a topic by name, or add a rule",
                )
            })
    }

    /// Adds a lane and answers where it stands.
    async fn open_lane(
        &self,
        topic: &TopicName,
        context: &PublishContext,
        capacity: usize,
        prepared: &mut Prepared,
        stamps: &mut Vec<Stamp>,
    ) -> Result<usize> {
        let lane = self.lane(topic, capacity).await?;
        let event_type = lane.state.event_type.clone();
        stamps.push(Stamp::new(self.clock.wall(), context.source.clone(), event_type));
        prepared.lanes.push(lane);
        Ok(prepared.lanes.len() - 1)
    }
}

fn predecessor_failed() -> Error {
    Error::new(
        ErrorCode::PredecessorFailed,
        "an earlier event of this key in the same batch failed; to keep the key's order this one was not appended",
    )
}
