//! What both embedded stores of schemas refuse.

use ports::{ErrorKind, PortError, Result, Revision, SchemaId};

/// As errors call the changes.
pub(crate) const CHANGE: &str = "schema_store.change";

/// Whether the store is where the change expects it.
pub(crate) fn check_revision(found: Revision, expected: Revision) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let detail = format!("the schemas are at revision {}, expected was {}", found.0, expected.0);
    Err(PortError::new(ErrorKind::Conflict, CHANGE, detail))
}

pub(crate) fn version_exists(subject: &str, version: u32) -> PortError {
    let detail = format!("the subject {subject:?} has a version {version} already");
    PortError::new(ErrorKind::Invalid, CHANGE, detail)
}

pub(crate) fn id_exists(context: &str, id: SchemaId) -> PortError {
    let detail = format!("the context {context:?} has a schema {id} already");
    PortError::new(ErrorKind::Invalid, CHANGE, detail)
}

pub(crate) fn no_such_schema(context: &str, id: SchemaId) -> PortError {
    let detail = format!("the context {context:?} has no schema {id}");
    PortError::new(ErrorKind::Invalid, CHANGE, detail)
}
