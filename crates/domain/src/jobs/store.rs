//! Jobs in the store of documents.

use super::job::{Job, Lease};
use crate::error::{Error, ErrorCode, Result};
use ports::{ErrorKind, Expected, JobKind, JobStore, PortError};
use uuid::Uuid;

/// A job with its version.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) job: Job,
    pub(super) version: u64,
}

/// All jobs. One that cannot be read is passed over with an error in the log, so that it does not keep the others
/// from being seen.
pub(super) async fn list(jobs: &dyn JobStore) -> Result<Vec<Kept>> {
    let mut found = Vec::new();
    for stored in jobs.list(JobKind::Job).await? {
        match Job::decode(&stored.name, &stored.value) {
            Ok(job) => found.push(Kept { job, version: stored.version }),
            Err(error) => tracing::error!(job = stored.name, %error, "passed over"),
        }
    }
    Ok(found)
}

/// One job.
///
/// # Errors
/// `replay_not_found`.
pub(super) async fn get(jobs: &dyn JobStore, id: Uuid) -> Result<Kept> {
    let name = id.to_string();
    let stored = jobs.get(JobKind::Job, &name).await?;
    let stored =
        stored.ok_or_else(|| Error::new(ErrorCode::ReplayNotFound, format!("there is no job `{id}`")))?;
    Ok(Kept { job: Job::decode(&name, &stored.value)?, version: stored.version })
}

/// Keeps a new job.
pub(super) async fn create(jobs: &dyn JobStore, job: Job) -> Result<Kept> {
    let version = jobs.put(JobKind::Job, &job.id.to_string(), Expected::Absent, job.encode()?).await?;
    Ok(Kept { job, version })
}

/// Writes a job where it is still the version that was read.
///
/// # Errors
/// `Conflict` where it is not.
pub(super) async fn put(jobs: &dyn JobStore, kept: &Kept) -> Result<u64, PortError> {
    let value = kept
        .job
        .encode()
        .map_err(|error| PortError::new(ErrorKind::Unexpected, "job_store.put", error.detail().to_owned()))?;
    jobs.put(JobKind::Job, &kept.job.id.to_string(), Expected::Version(kept.version), value).await
}

/// Changes a job as it is kept now, unless `change` refuses; it may be asked more than once.
pub(super) async fn change(
    jobs: &dyn JobStore,
    id: Uuid,
    mut change: impl FnMut(&mut Job) -> Result<()>,
) -> Result<Kept> {
    loop {
        let mut kept = get(jobs, id).await?;
        change(&mut kept.job)?;
        match put(jobs, &kept).await {
            Ok(version) => return Ok(Kept { version, ..kept }),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the lease of a job; `None` where somebody else was faster.
pub(super) async fn claim(jobs: &dyn JobStore, mut kept: Kept, lease: Lease) -> Result<Option<Kept>> {
    kept.job.runner = Some(lease);
    match put(jobs, &kept).await {
        Ok(version) => Ok(Some(Kept { version, ..kept })),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Forgets a job.
pub(super) async fn forget(jobs: &dyn JobStore, kept: &Kept) -> Result<()> {
    match jobs.delete(JobKind::Job, &kept.job.id.to_string(), kept.version).await {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        other => Ok(other?),
    }
}
