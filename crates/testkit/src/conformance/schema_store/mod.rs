//! What every `SchemaStore` must do.
//!
//! Each test has a context and subjects of its own; the revision is everybody's, so that a change is tried again
//! where another test was faster.

mod changes;
mod deletions;
mod racing;
mod reading;

use super::{Backend, conformance_list};
use crate::fixtures;
use bytes::Bytes;
use ports::{
    ErrorKind, Fingerprint, PortError, RegisteredSchema, Revision, SchemaChange, SchemaChanged, SchemaId,
    SchemaKey, StoredSubject, SubjectVersion, VersionKey,
};

conformance_list! {
    ($)
    /// Stamps the list of `SchemaStore` on a backend that has one:
    /// `testkit::schema_store_conformance!(module_name, make_backend);`.
    schema_store_conformance in schema_store::entries {
        changes:
            a_schema_is_registered_and_read_back,
            ids_count_from_one_within_a_context,
            a_schema_may_be_versions_of_several_subjects,
            a_change_wants_the_revision_that_is_there,
            every_change_moves_the_revision,
            what_is_there_already_is_refused_without_effect,
            an_id_that_is_given_moves_those_to_come,
            settings_are_set_changed_and_removed,
            what_cannot_be_kept_is_refused_without_effect,
            what_was_written_survives_a_restart;
        deletions:
            what_is_deleted_softly_stays_to_be_read,
            what_is_purged_is_gone_with_the_schemas_that_nothing_is_left_of,
            an_id_is_not_given_again_after_a_purge,
            what_is_not_there_is_passed_over;
        reading:
            many_are_read_each_in_its_place,
            contents_are_found_by_their_fingerprint,
            references_are_found_from_what_they_refer_to,
            subjects_are_listed_by_prefix_and_page,
            names_and_contents_are_kept_as_they_are;
        racing:
            of_concurrent_changes_at_one_revision_exactly_one_wins,
            concurrent_registrations_leave_no_gap_and_lose_nothing;
    }
}

/// A test's own part of a store.
struct Room {
    backend: Backend,
    context: String,
}

impl Room {
    fn new(backend: Backend) -> Self {
        Self { backend, context: fixtures::unique("context") }
    }

    /// A subject's name that nobody else has.
    fn subject(&self, end: &str) -> String {
        format!("{}-{end}", self.context)
    }

    fn key(&self, id: u32) -> SchemaKey {
        SchemaKey { context: self.context.clone(), id: SchemaId(id) }
    }

    fn register(&self, subject: &str, version: u32, schema: RegisteredSchema) -> SchemaChange {
        let (context, subject) = (self.context.clone(), subject.to_owned());
        SchemaChange::Register { context, subject, version, tag: 7, schema }
    }

    /// Makes a change at whatever the revision is.
    async fn try_change(&self, change: SchemaChange) -> Result<SchemaChanged, PortError> {
        loop {
            let revision = self.revision().await;
            match self.backend.schemas().change(revision, change.clone()).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other,
            }
        }
    }

    async fn change(&self, change: SchemaChange) -> SchemaChanged {
        self.try_change(change).await.expect("the change is made")
    }

    /// Registers a new version; gives the id of its schema.
    async fn add(&self, subject: &str, version: u32, schema: RegisteredSchema) -> u32 {
        let changed = self.change(self.register(subject, version, schema)).await;
        changed.id.expect("a registration has an id").0
    }

    async fn revision(&self) -> Revision {
        self.backend.schemas().revision().await.expect("it can be asked")
    }

    async fn get(&self, id: u32) -> Option<Bytes> {
        let found = self.backend.schemas().schemas(vec![self.key(id)]).await.expect("it can be asked");
        found.into_iter().next().flatten().map(|found| found.value)
    }

    async fn of(&self, subject: &str) -> Option<StoredSubject> {
        let found = self.backend.schemas().subjects(vec![subject.to_owned()]).await.expect("an answer");
        found.into_iter().next().flatten()
    }

    /// The versions of a subject, with the ids of their schemas and whether they are deleted.
    async fn versions(&self, subject: &str) -> Vec<(u32, u32, bool)> {
        let versions = self.of(subject).await.map(|subject| subject.versions).unwrap_or_default();
        let shown = |it: SubjectVersion| (it.version, it.id.0, it.deleted);
        versions.into_iter().map(shown).collect()
    }
}

/// A content that no other test has, and its fingerprint.
fn content() -> (Fingerprint, Bytes) {
    let unique = fixtures::unique("schema");
    let end = unique.rsplit('-').next().unwrap_or_default();
    let number = u128::from_str_radix(end, 16).expect("a UUID in hexadecimal");
    (Fingerprint(number.to_be_bytes()), unique.into())
}

fn new() -> RegisteredSchema {
    new_with(None, &[])
}

/// A new schema that refers to these versions.
fn new_with(id: Option<u32>, references: &[(&str, u32)]) -> RegisteredSchema {
    let (fingerprint, value) = content();
    let references = references
        .iter()
        .map(|(subject, version)| VersionKey { subject: (*subject).to_owned(), version: *version });
    RegisteredSchema::New { id: id.map(SchemaId), fingerprint, value, references: references.collect() }
}

fn known(id: u32) -> RegisteredSchema {
    RegisteredSchema::Known(SchemaId(id))
}

fn version(subject: &str, version: u32) -> VersionKey {
    VersionKey { subject: subject.to_owned(), version }
}
