//! Whether a schema may follow those of a subject.

use super::{
    Registry,
    error::{Result, SchemaError},
    live,
    lookup::VersionSelector,
    registering::NewSchema,
    subject::Subject,
};
use crate::schemas::{CompatibilityLevel, ParsedSchema, Verdict};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use ports::{SchemaKey, StoredSubject, SubjectVersion};

/// So many schemas are loaded at a time.
const LOADS: usize = 8;
/// How many differences a message lists.
const SHOWN_MAX: usize = 50;

/// What a schema is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The versions that the level asks for: the latest, or all of them.
    Level,
    /// One version.
    Version(VersionSelector),
}

/// The answer to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whether the schema may follow.
    pub is_compatible: bool,
    /// Why not, sentences: the differences, then the version that they are to and the level.
    pub messages: Vec<String>,
}

/// A verdict, with what it is about.
#[derive(Debug)]
pub(super) struct Judged {
    verdict: Verdict,
    level: CompatibilityLevel,
    /// The version that the new schema is at odds with.
    against: Option<u32>,
}

impl Judged {
    pub(super) fn is_compatible(&self) -> bool {
        self.verdict.is_compatible()
    }

    pub(super) fn messages(&self) -> Vec<String> {
        let differences = &self.verdict.differences;
        let mut messages: Vec<String> = differences
            .iter()
            .take(SHOWN_MAX)
            .map(|difference| {
                format!("{{errorType:\"{}\", description:\"{difference}\"}}", difference.incompatibility.kind)
            })
            .collect();
        if differences.len() > SHOWN_MAX {
            messages.push(format!("{{and {} more}}", differences.len() - SHOWN_MAX));
        }
        if let Some(version) = self.against {
            messages.push(format!("{{oldSchemaVersion: {version}}}"));
            messages.push(format!("{{compatibility: '{}'}}", self.level));
        }
        messages
    }
}

impl Registry {
    /// Whether a schema may follow those of a subject, by the level that holds for it. Of a subject that has none,
    /// or that nothing is asked of, anything may.
    ///
    /// # Errors
    /// `InvalidSchema`; `SubjectNotFound` and `VersionNotFound` where a version is named by its number.
    pub async fn check(
        &self,
        subject: &str,
        schema: &NewSchema,
        against: Against,
        normalize: bool,
    ) -> Result<Check> {
        let subject = Subject::parse(subject)?;
        if let Some(outside) = self.home_outside() {
            return outside.check(&subject, schema, against, normalize).await;
        }
        let stored = self.stored(&subject).await?;
        let in_force = self.in_force(&subject).await?;
        let read = self.read(&subject, schema, normalize || in_force.normalize, false).await?;
        let judged = match (stored, against) {
            (None, Against::Version(VersionSelector::Number(_))) => {
                return Err(SchemaError::subject_not_found(&subject));
            }
            (None, _) => None,
            (Some(stored), Against::Level) => Some(self.judge(&stored, &read.parsed, in_force.level).await?),
            (Some(stored), Against::Version(selector)) => match (selector.of(&stored, false), selector) {
                (Some(version), _) => {
                    Some(self.compare(&stored, vec![version], &read.parsed, in_force.level).await?)
                }
                (None, VersionSelector::Latest) => None,
                (None, VersionSelector::Number(_)) => return Err(SchemaError::version_not_found(selector)),
            },
        };
        Ok(Check {
            is_compatible: judged.as_ref().is_none_or(Judged::is_compatible),
            messages: judged.map(|judged| judged.messages()).unwrap_or_default(),
        })
    }

    /// What a level says of a schema after the live versions of a subject.
    pub(super) async fn judge(
        &self,
        stored: &StoredSubject,
        new: &ParsedSchema,
        level: CompatibilityLevel,
    ) -> Result<Judged> {
        self.compare(stored, compared(stored, level), new, level).await
    }

    /// Has what a level compares with in memory.
    pub(super) async fn load_for(&self, stored: &StoredSubject, level: CompatibilityLevel) -> Result<()> {
        self.load(stored, &compared(stored, level)).await.map(drop)
    }

    async fn compare(
        &self,
        stored: &StoredSubject,
        versions: Vec<SubjectVersion>,
        new: &ParsedSchema,
        level: CompatibilityLevel,
    ) -> Result<Judged> {
        let former = self.load(stored, &versions).await?;
        let new = new.clone();
        let verdict = self.compute(move || Ok(level.check(&new, &former))).await?;
        let against = verdict.against.and_then(|index| versions.get(index)).map(|version| version.version);
        Ok(Judged { verdict, level, against })
    }

    /// The parsed schemas of versions, in their order.
    async fn load(&self, stored: &StoredSubject, versions: &[SubjectVersion]) -> Result<Vec<ParsedSchema>> {
        let keys: Vec<SchemaKey> = versions
            .iter()
            .map(|version| SchemaKey { context: stored.context.clone(), id: version.id })
            .collect();
        // Their contents in one call, so that parsing asks for none of them.
        self.schemas(&keys).await?;
        let mut parsing = Vec::with_capacity(keys.len());
        for key in &keys {
            parsing.push(self.parsed(key).boxed());
        }
        stream::iter(parsing).buffered(LOADS).try_collect().await
    }
}

/// The versions that a level compares with.
fn compared(stored: &StoredSubject, level: CompatibilityLevel) -> Vec<SubjectVersion> {
    match level {
        CompatibilityLevel::None => Vec::new(),
        level if level.is_transitive() => live(stored).copied().collect(),
        _ => live(stored).next_back().into_iter().copied().collect(),
    }
}
