//! What both embedded stores of schemas refuse.

use ports::{ErrorKind, PortError, Result, Revision, SchemaChange, SchemaId};

/// As errors call the changes.
pub(crate) const CHANGE: &str = "schema_store.change";

const NAME_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 16 << 20;

/// Whether the store is where the change expects it.
pub(crate) fn check_revision(found: Revision, expected: Revision) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let detail = format!("the schemas are at revision {}, expected was {}", found.0, expected.0);
    Err(PortError::new(ErrorKind::Conflict, CHANGE, detail))
}

/// Whether names and contents can be kept.
pub(crate) fn check_change(change: &SchemaChange) -> Result<()> {
    match change {
        SchemaChange::Register { context, subject, schema, .. } => {
            check_name("context", context)?;
            check_name("subject", subject)?;
            let ports::RegisteredSchema::New { value, references, .. } = schema else { return Ok(()) };
            references.iter().try_for_each(|to| check_name("reference", &to.subject))?;
            check_value(value.len())
        }
        SchemaChange::Delete { subject, .. } | SchemaChange::Purge { subject, .. } => {
            check_name("subject", subject)
        }
        SchemaChange::Set { scope, value, .. } => {
            check_name("scope", scope)?;
            check_value(value.as_ref().map_or(0, bytes::Bytes::len))
        }
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.contains('\0') {
        let detail = format!("the {what} {name:?} has the character U+0000; it must have none");
        return Err(PortError::new(ErrorKind::Invalid, CHANGE, detail));
    }
    if name.len() > NAME_BYTES_MAX {
        let detail = format!("the {what} has {} bytes; it may have {NAME_BYTES_MAX}", name.len());
        return Err(PortError::new(ErrorKind::Invalid, CHANGE, detail));
    }
    Ok(())
}

fn check_value(len: usize) -> Result<()> {
    if len > VALUE_BYTES_MAX {
        let detail = format!("the content has {len} bytes; it may have {VALUE_BYTES_MAX}");
        return Err(PortError::new(ErrorKind::TooLarge, CHANGE, detail));
    }
    Ok(())
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
