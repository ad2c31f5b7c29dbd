//! The definitions, and the key of `ackId`s, in the store of documents.

use super::{Definition, SubscriptionPorts};
use crate::error::{Error, ErrorCode, Result};
use bytes::Bytes;
use ports::{ErrorKind, Expected, JobKind, JobStore};
use std::time::Duration;

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

/// All definitions with their versions. One that cannot be read is passed over with an error in the log, so
/// that it does not keep the others from being served.
pub(super) async fn load(jobs: &dyn JobStore) -> Result<Vec<(Definition, u64)>> {
    let mut definitions = Vec::new();
    for stored in jobs.list(JobKind::Subscription).await? {
        match serde_json::from_slice::<Definition>(&stored.value) {
            Ok(definition) => definitions.push((definition, stored.version)),
            Err(error) => {
                tracing::error!(subscription = stored.name, %error, "a stored subscription cannot be read");
            }
        }
    }
    Ok(definitions)
}

/// Keeps a new definition and gives its version; `None` where there is one of that name.
pub(super) async fn put(jobs: &dyn JobStore, definition: &Definition) -> Result<Option<u64>> {
    let value = encode(definition)?;
    match jobs.put(JobKind::Subscription, definition.name.as_str(), Expected::Absent, value).await {
        Ok(version) => Ok(Some(version)),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Keeps another version of a definition and gives its version.
///
/// # Errors
/// `conflict` where it was changed since `version`.
pub(super) async fn replace(jobs: &dyn JobStore, definition: &Definition, version: u64) -> Result<u64> {
    let value = encode(definition)?;
    let name = definition.name.as_str();
    jobs.put(JobKind::Subscription, name, Expected::Version(version), value).await.map_err(|error| {
        if error.kind() == ErrorKind::Conflict {
            Error::new(
                ErrorCode::Conflict,
                format!("subscription `{name}` was changed meanwhile; read it again"),
            )
        } else {
            error.into()
        }
    })
}

fn encode(definition: &Definition) -> Result<Bytes> {
    serde_json::to_vec(definition)
        .map(Bytes::from)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("a definition cannot be written: {error}")))
}

/// Forgets a subscription's offsets, then its definition.
pub(super) async fn remove(ports: &SubscriptionPorts, definition: &Definition, version: u64) -> Result<()> {
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
    match ports.jobs.delete(JobKind::Subscription, definition.name.as_str(), version).await {
        Ok(()) => Ok(()),
        // Another replica deleted it first.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(error.into()),
    }
}
