//! Lists: subjects, versions, schemas, contexts, and what refers to what. All have a bound.

use super::{
    PAGE, Registry,
    error::{Result, SchemaError},
    live,
    lookup::{Registered, VersionSelector},
    subject::{Subject, SubjectPrefix, context_of},
};
use ports::{SchemaId, SchemaKey, StoredSubject, SubjectVersion, VersionKey};
use std::collections::BTreeSet;

/// The most names or numbers of a list, and how many it has where nobody says.
const NAMES_MAX: usize = 20_000;
/// The most schemas of a list, and how many it has where nobody says.
const SCHEMAS_MAX: usize = 1_000;

/// Which versions a list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deleted {
    /// Live ones.
    #[default]
    Without,
    /// Live and deleted ones.
    With,
    /// Deleted ones.
    Only,
}

impl Deleted {
    fn has(self, version: &SubjectVersion) -> bool {
        match self {
            Self::Without => !version.deleted,
            Self::With => true,
            Self::Only => version.deleted,
        }
    }
}

/// A part of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many are passed over.
    pub offset: usize,
    /// How many are given at most; `None` as many as a list may have.
    pub limit: Option<usize>,
}

impl Page {
    fn of<T>(self, items: impl IntoIterator<Item = T>, max: usize) -> Vec<T> {
        items.into_iter().skip(self.offset).take(self.limit(max)).collect()
    }

    fn limit(self, max: usize) -> usize {
        self.limit.unwrap_or(max).min(max)
    }
}

impl Registry {
    /// The names of subjects, in their order.
    pub async fn subjects(
        &self,
        prefix: &SubjectPrefix,
        deleted: Deleted,
        page: Page,
    ) -> Result<Vec<String>> {
        if let Some(outside) = self.home_outside() {
            let names = outside.subjects(deleted).await?;
            return Ok(page.of(names.into_iter().filter(|name| prefix.matches(name)), NAMES_MAX));
        }
        let (mut passed, limit) = (0, page.limit(NAMES_MAX));
        let mut found = Vec::new();
        self.each_subject(&prefix.kept(), |subject| {
            let is_wanted = match deleted {
                // A subject is deleted when all of it is.
                Deleted::Only => !super::is_live(&subject),
                other => subject.versions.iter().any(|version| other.has(version)),
            };
            if is_wanted && prefix.matches(&subject.name) {
                if passed < page.offset {
                    passed += 1;
                } else if found.len() < limit {
                    found.push(subject.name);
                }
            }
            found.len() < limit
        })
        .await?;
        Ok(found)
    }

    /// The versions of a subject.
    ///
    /// # Errors
    /// `SubjectNotFound`.
    pub async fn versions(&self, subject: &str, deleted: Deleted, page: Page) -> Result<Vec<u32>> {
        let subject = Subject::parse(subject)?;
        if let Some(outside) = self.home_outside() {
            return Ok(page.of(outside.versions(&subject, deleted).await?, NAMES_MAX));
        }
        let stored = self.subject(&subject, deleted != Deleted::Without).await?;
        let wanted = stored.versions.iter().filter(|version| deleted.has(version));
        Ok(page.of(wanted.map(|version| version.version), NAMES_MAX))
    }

    /// Versions with their schemas, by subject and version; of each subject the latest alone where that is asked
    /// for.
    pub async fn list(
        &self,
        prefix: &SubjectPrefix,
        deleted: Deleted,
        latest_only: bool,
        page: Page,
    ) -> Result<Vec<Registered>> {
        let (mut passed, limit) = (0, page.limit(SCHEMAS_MAX));
        let mut found: Vec<(StoredSubject, SubjectVersion)> = Vec::new();
        self.each_subject(&prefix.kept(), |subject| {
            if !prefix.matches(&subject.name) {
                return true;
            }
            let mut wanted: Vec<SubjectVersion> =
                subject.versions.iter().filter(|version| deleted.has(version)).copied().collect();
            if latest_only {
                wanted.drain(..wanted.len().saturating_sub(1));
            }
            let head = StoredSubject { versions: Vec::new(), ..subject };
            for version in wanted {
                if passed < page.offset {
                    passed += 1;
                } else if found.len() < limit {
                    found.push((head.clone(), version));
                }
            }
            found.len() < limit
        })
        .await?;
        let key = |(subject, version): &(StoredSubject, SubjectVersion)| SchemaKey {
            context: subject.context.clone(),
            id: version.id,
        };
        let schemas = self.schemas(&found.iter().map(key).collect::<Vec<_>>()).await?;
        let shown = found.into_iter().zip(schemas).filter_map(|((subject, version), schema)| {
            // What was purged in between is not there.
            let (version, deleted) = (version.version, version.deleted);
            Some(Registered { subject: subject.name, version, deleted, schema: schema? })
        });
        Ok(shown.collect())
    }

    /// The versions that a schema is, by subject and version; of one subject where one is named, which also says the
    /// context.
    ///
    /// # Errors
    /// `SchemaNotFound`.
    pub async fn versions_of_id(
        &self,
        id: SchemaId,
        subject: Option<&str>,
        deleted: bool,
        page: Page,
    ) -> Result<Vec<VersionKey>> {
        let key = SchemaKey { context: context_of(subject)?, id };
        let uses = self.uses(&key, deleted).await?;
        if uses.is_empty() && self.uses(&key, true).await?.is_empty() {
            return Err(SchemaError::schema_not_found(id));
        }
        let named = subject.map(Subject::parse_scope).transpose()?.filter(|named| !named.name().is_empty());
        let named = named.map(|named| named.qualified());
        let wanted = uses.into_iter().filter(|it| named.as_ref().is_none_or(|named| *named == it.subject));
        Ok(page.of(wanted, NAMES_MAX))
    }

    /// The subjects that a schema is a version of.
    ///
    /// # Errors
    /// `SchemaNotFound`.
    pub async fn subjects_of_id(
        &self,
        id: SchemaId,
        subject: Option<&str>,
        deleted: bool,
        page: Page,
    ) -> Result<Vec<String>> {
        let all = Page { offset: 0, limit: None };
        let uses = self.versions_of_id(id, subject, deleted, all).await?;
        let mut names: Vec<String> = uses.into_iter().map(|used| used.subject).collect();
        names.dedup();
        Ok(page.of(names, NAMES_MAX))
    }

    /// The ids of the schemas that refer to a version; those that are live unless `deleted`.
    ///
    /// # Errors
    /// `SubjectNotFound`, `VersionNotFound`.
    pub async fn referenced_by(
        &self,
        subject: &str,
        version: VersionSelector,
        deleted: bool,
        page: Page,
    ) -> Result<Vec<SchemaId>> {
        let subject = Subject::parse(subject)?;
        let stored = self.subject(&subject, true).await?;
        let number =
            version.of(&stored, true).ok_or_else(|| SchemaError::version_not_found(version))?.version;
        let mut found = BTreeSet::new();
        for (to, referrer) in self.store()?.referrers(&stored.name).await? {
            if to == number && !self.uses(&referrer, deleted).await?.is_empty() {
                found.insert(referrer.id);
            }
        }
        Ok(page.of(found, NAMES_MAX))
    }

    /// The contexts that have a live version, and the default one.
    pub async fn contexts(&self, page: Page) -> Result<Vec<String>> {
        let mut found = BTreeSet::from([".".to_owned()]);
        self.each_subject("", |subject| {
            if live(&subject).next().is_some() {
                found.insert(subject.context);
            }
            found.len() < NAMES_MAX
        })
        .await?;
        Ok(page.of(found, NAMES_MAX))
    }

    /// Looks at subjects whose kept names begin so, in their order, until `look` says that it has enough.
    pub(super) async fn each_subject(
        &self,
        prefix: &str,
        mut look: impl FnMut(StoredSubject) -> bool,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.store()?.list(prefix, after.take(), PAGE).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|subject| subject.name.clone());
            for subject in page {
                if !look(subject) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}
