//! Deleting versions: softly first, then for good; never what others refer to.

use super::{
    Registry,
    error::{Reason, Result, SchemaError},
    live,
    lookup::VersionSelector,
    settings::read_only,
    subject::Subject,
};
use futures::FutureExt as _;
use ports::{SchemaChange, SchemaKey, StoredSubject};
use std::collections::BTreeSet;

impl Registry {
    /// Deletes all live versions of a subject softly, with its settings; or, `permanent`, removes those that were
    /// deleted softly for good. Gives the versions.
    ///
    /// # Errors
    /// `SubjectNotFound`; `SubjectSoftDeleted` where none is live; `SubjectNotSoftDeleted` where one is and is to be
    /// removed; `ReferenceExists` where a schema that stays refers to one; `NotPermitted` by the mode.
    pub async fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<u32>> {
        let subject = &Subject::parse(subject)?;
        let versions = self
            .change(|| {
                async move {
                    let revision = self.store()?.revision().await?;
                    let stored = self.subject(subject, true).await?;
                    let is_live = super::is_live(&stored);
                    if permanent && is_live {
                        let message = format!(
                            "Subject '{subject}' was not deleted first before being permanently deleted"
                        );
                        return Err(SchemaError::new(Reason::SubjectNotSoftDeleted, message));
                    }
                    if !permanent && !is_live {
                        let message = format!(
                            "Subject '{subject}' was soft deleted. Set permanent=true to delete permanently"
                        );
                        return Err(SchemaError::new(Reason::SubjectSoftDeleted, message));
                    }
                    let wanted = stored.versions.iter().filter(|version| permanent || !version.deleted);
                    let versions: Vec<u32> = wanted.map(|version| version.version).collect();
                    self.remove(revision, subject, &stored, versions.clone(), permanent).await?;
                    Ok(versions)
                }
                .boxed()
            })
            .await?;
        self.deleted(subject, &versions, permanent, true).await?;
        Ok(versions)
    }

    /// Deletes one version softly; or, `permanent`, removes one that was deleted softly for good. Gives its number.
    ///
    /// # Errors
    /// `SubjectNotFound`, `VersionNotFound`; `VersionSoftDeleted`, `VersionNotSoftDeleted`; `ReferenceExists` where a
    /// schema that stays refers to it; `NotPermitted` by the mode.
    pub async fn delete_version(
        &self,
        subject: &str,
        version: VersionSelector,
        permanent: bool,
    ) -> Result<u32> {
        let subject = &Subject::parse(subject)?;
        let (number, is_last) = self
            .change(|| async move {
                let revision = self.store()?.revision().await?;
                let stored = self.subject(subject, true).await?;
                // The latest to be deleted is a live one; the latest to be removed any.
                let found = match version {
                    VersionSelector::Latest => version.of(&stored, permanent),
                    VersionSelector::Number(_) => version.of(&stored, true),
                };
                let found = found.ok_or_else(|| SchemaError::version_not_found(version))?;
                let number = found.version;
                if permanent && !found.deleted {
                    let message = format!(
                        "Subject '{subject}' Version {number} was not deleted first before being permanently deleted"
                    );
                    return Err(SchemaError::new(Reason::VersionNotSoftDeleted, message));
                }
                if !permanent && found.deleted {
                    let message = format!(
                        "Subject '{subject}' Version {number} was soft deleted. Set permanent=true to delete \
                         permanently"
                    );
                    return Err(SchemaError::new(Reason::VersionSoftDeleted, message));
                }
                self.remove(revision, subject, &stored, vec![number], permanent).await?;
                Ok((number, live(&stored).all(|version| version.version == number)))
            }.boxed())
            .await?;
        self.deleted(subject, &[number], permanent, is_last).await?;
        Ok(number)
    }

    async fn remove(
        &self,
        revision: ports::Revision,
        subject: &Subject,
        stored: &StoredSubject,
        versions: Vec<u32>,
        permanent: bool,
    ) -> Result<()> {
        if self.in_force(subject).await?.mode.is_read_only() {
            return Err(read_only(subject));
        }
        self.check_unreferenced(stored, &versions, permanent).await?;
        let name = stored.name.clone();
        let change = if permanent {
            SchemaChange::Purge { subject: name, versions }
        } else {
            SchemaChange::Delete { subject: name, versions }
        };
        self.store()?.change(revision, change).await?;
        self.cache.changed();
        if permanent {
            for version in &stored.versions {
                let key = SchemaKey { context: stored.context.clone(), id: version.id };
                self.cache.forget(&key).await;
            }
        }
        Ok(())
    }

    /// That no schema that stays refers to these versions. A schema stays for a soft deletion while it is live, and
    /// for a removal as long as it is there.
    async fn check_unreferenced(
        &self,
        stored: &StoredSubject,
        versions: &[u32],
        permanent: bool,
    ) -> Result<()> {
        let referrers = self.store()?.referrers(&stored.name).await?;
        let mut asked = BTreeSet::new();
        for (version, referrer) in referrers.iter().filter(|(version, _)| versions.contains(version)) {
            if !asked.insert(referrer) {
                continue;
            }
            let uses = self.uses(referrer, permanent).await?;
            let stays = uses.iter().find(|it| it.subject != stored.name || !versions.contains(&it.version));
            if let Some(by) = stays {
                let message = format!(
                    "One or more references exist to the schema {{subject={},version={version}}}: version {} of subject \
                     '{}' refers to it; delete that first",
                    stored.name, by.version, by.subject
                );
                return Err(SchemaError::new(Reason::ReferenceExists, message));
            }
        }
        Ok(())
    }

    async fn deleted(&self, subject: &Subject, versions: &[u32], permanent: bool, last: bool) -> Result<()> {
        tracing::info!(%subject, ?versions, permanent, "deleted versions");
        // What was set for it ends with it.
        if last && !permanent { self.forget_settings(subject).await } else { Ok(()) }
    }
}
