//! Lets commits of current owners through, and holds partitions in place until those are over.

use super::{Groups, Inner};
use ports::{ErrorKind, GroupId, OffsetCommit, PortError, Result, TopicPartition};
use std::sync::Arc;

const OPERATION: &str = "offset_store.commit";
/// As a Kafka broker has it by default (`offset.metadata.max.bytes`).
const METADATA_BYTES_MAX: usize = 4096;

/// Commits that were admitted, or changes from outside. None of their partitions gets another owner until this is dropped, so it is
/// kept until they are written.
pub(crate) struct CommitPermit {
    pub(super) inner: Arc<Inner>,
    pub(super) group: GroupId,
    pub(super) partitions: Vec<TopicPartition>,
}

impl Groups {
    /// Judges each commit: `Fenced` where its generation is not that of its partition's owner, `TooLarge`
    /// for its metadata. What is `Ok` may be written while the permit is kept.
    pub(crate) fn admit(&self, group: &GroupId, commits: &[OffsetCommit]) -> (Vec<Result<()>>, CommitPermit) {
        let mut permit = CommitPermit {
            inner: self.0.clone(),
            group: group.clone(),
            partitions: Vec::with_capacity(commits.len()),
        };
        let mut groups = self.0.groups.lock();
        let mut entry = groups.get_mut(group);
        let mut admit = |commit: &OffsetCommit| {
            let bytes = commit.metadata.len();
            if bytes > METADATA_BYTES_MAX {
                let detail = format!("{bytes} bytes of metadata, at most {METADATA_BYTES_MAX} are kept");
                return Err(PortError::new(ErrorKind::TooLarge, OPERATION, detail));
            }
            let owns =
                entry.as_mut().is_some_and(|group| group.state.pin(&commit.partition, commit.generation));
            if !owns {
                let detail = format!("{} is no longer owned under {:?}", commit.partition, commit.generation);
                return Err(PortError::new(ErrorKind::Fenced, OPERATION, detail));
            }
            permit.partitions.push(commit.partition.clone());
            Ok(())
        };
        let outcomes = commits.iter().map(&mut admit).collect();
        drop(groups);
        (outcomes, permit)
    }
}

impl Drop for CommitPermit {
    fn drop(&mut self) {
        let waited_for = {
            let mut groups = self.inner.groups.lock();
            let Some(group) = groups.get_mut(&self.group) else { return };
            let unpinned: Vec<_> =
                self.partitions.iter().map(|partition| group.state.unpin(partition)).collect();
            unpinned.contains(&true) || group.state.is_over()
        };
        if waited_for {
            self.inner.change(&self.group, |_| ());
        }
    }
}
