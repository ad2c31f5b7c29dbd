//! The definitions, and the key of `ackId`s, in the store of documents.

use super::{Definition, SubscriptionPorts, definition::Place, mirror};
use crate::{
    delivery::commit_map::Epoch,
    error::{Error, ErrorCode, Result},
    topics::Topics,
};
use bytes::Bytes;
use ports::{ErrorKind, Expected, JobKind, JobStore, Offset, TopicPartition};
use std::time::Duration;
use uuid::Uuid;

/// The document that holds the key of `ackId`s.
const ACK_KEY: &str = "ack-key";
/// How long a group may take to be empty after its last member left.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// The key that signs `ackId`s; made once, the same at every replica.
pub(super) async fn ack_key(jobs: &dyn JobStore) -> Result<[u8; 32]> {
    if let Some(stored) = jobs.get(JobKind::Shared, ACK_KEY).await? {
        return read_key(&stored.value);
    }
    let key: [u8; 32] = rand::random();
    match jobs.put(JobKind::Shared, ACK_KEY, Expected::Absent, Bytes::copy_from_slice(&key)).await {
        Ok(_) => Ok(key),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            let stored = jobs.get(JobKind::Shared, ACK_KEY).await?;
            stored.map_or_else(|| Err(damaged()), |stored| read_key(&stored.value))
        }
        Err(error) => Err(error.into()),
    }
}

fn read_key(value: &[u8]) -> Result<[u8; 32]> {
    value.try_into().map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::new(ErrorCode::Internal, "the stored key of acknowledgement ids does not have 32 bytes")
}

/// All definitions. One that cannot be read is passed over with an error in the log, so
/// that it does not keep the others from being served.
pub(super) async fn load(jobs: &dyn JobStore) -> Result<Vec<Definition>> {
    let mut definitions = Vec::new();
    for stored in jobs.list(JobKind::Subscription).await? {
        match serde_json::from_slice::<Definition>(&stored.value) {
            Ok(definition) => definitions.push(definition),
            Err(error) => {
                tracing::error!(subscription = stored.name, %error, "a stored subscription cannot be read");
            }
        }
    }
    Ok(definitions)
}

/// Keeps a new definition; `false` where there is one of that name.
pub(super) async fn put(jobs: &dyn JobStore, definition: &Definition) -> Result<bool> {
    let value = encode(definition)?;
    match jobs.put(JobKind::Subscription, definition.name.as_str(), Expected::Absent, value).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Changes a definition as it is kept now, and gives what it became with its version. `change` may be asked
/// more than once.
///
/// # Errors
/// `subscription_not_found` where it is gone, or is another one of that name.
pub(super) async fn change(
    jobs: &dyn JobStore,
    of: &Definition,
    mut change: impl FnMut(&mut Definition),
) -> Result<(Definition, u64)> {
    try_change(jobs, of, |definition| {
        change(definition);
        Ok(())
    })
    .await
}

/// As [`change`], unless `change` refuses.
pub(super) async fn try_change(
    jobs: &dyn JobStore,
    of: &Definition,
    mut change: impl FnMut(&mut Definition) -> Result<()>,
) -> Result<(Definition, u64)> {
    loop {
        let Some((mut definition, version)) = current(jobs, of).await? else {
            let detail = format!("there is no subscription `{}` any more", of.name);
            return Err(Error::new(ErrorCode::SubscriptionNotFound, detail));
        };
        change(&mut definition)?;
        let value = encode(&definition)?;
        let name = definition.name.as_str();
        match jobs.put(JobKind::Subscription, name, Expected::Version(version), value).await {
            Ok(version) => return Ok((definition, version)),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A definition as it is kept now, with its version; `None` where it is gone or is another one of that name.
async fn current(jobs: &dyn JobStore, of: &Definition) -> Result<Option<(Definition, u64)>> {
    let Some(stored) = jobs.get(JobKind::Subscription, of.name.as_str()).await? else { return Ok(None) };
    let definition: Definition = serde_json::from_slice(&stored.value).map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            format!("the stored subscription `{}` cannot be read: {error}", of.name),
        )
    })?;
    Ok((definition.uid == of.uid).then_some((definition, stored.version)))
}

/// Where a partition begins its latest epoch, as it is kept now.
pub(super) async fn place(
    jobs: &dyn JobStore,
    of: &Definition,
    partition: &TopicPartition,
) -> Result<Option<Place>> {
    let current = current(jobs, of).await?;
    Ok(current.as_ref().map_or(of, |(definition, _)| definition).places.get(partition).copied())
}

/// Keeps that a partition begins a new epoch at an offset.
pub(super) async fn begin_epoch(
    jobs: &dyn JobStore,
    of: &Definition,
    partition: &TopicPartition,
    offset: Offset,
) -> Result<Place> {
    let (changed, _) = change(jobs, of, |definition| {
        let last = definition.places.values().map(|place| place.epoch.counter).max().unwrap_or_default();
        let epoch = Epoch { counter: last + 1, id: Uuid::new_v4() };
        definition.places.insert(partition.clone(), Place { offset, epoch });
    })
    .await?;
    let missing = || Error::new(ErrorCode::Internal, "a place that was kept is not there");
    changed.places.get(partition).copied().ok_or_else(missing)
}

fn encode(definition: &Definition) -> Result<Bytes> {
    serde_json::to_vec(definition)
        .map(Bytes::from)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("a definition cannot be written: {error}")))
}

/// Forgets a subscription's offsets and its retry topics, then its definition.
pub(super) async fn remove(
    ports: &SubscriptionPorts,
    topics: &Topics,
    definition: &Definition,
) -> Result<()> {
    let clock = &*ports.clock;
    let until = clock.monotonic() + EMPTY_WITHIN;
    // A cluster learns only after a moment that the last member has left.
    while let Err(error) = ports.offsets.delete(&definition.name).await {
        let may_pass = error.kind() == ErrorKind::Conflict || error.is_safe_to_retry();
        if !may_pass || clock.monotonic() >= until {
            return Err(error.into());
        }
        clock.sleep_until(clock.monotonic() + Duration::from_millis(100)).await;
    }
    for topic in definition.retry_topics() {
        topics.remove(&topic).await?;
    }
    mirror::remove(&*ports.jobs, definition).await?;
    // As it is kept now: an epoch may have begun since it was read. Where it is gone, another replica was first.
    while let Some((_, version)) = current(&*ports.jobs, definition).await? {
        match ports.jobs.delete(JobKind::Subscription, definition.name.as_str(), version).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return Ok(other?),
        }
    }
    Ok(())
}
