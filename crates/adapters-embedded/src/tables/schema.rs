//! What lies in the database.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format` | 1, the version of this layout |
//! | | `version` | the last version that any document was given |
//! | `documents` | kind, name | version, content |
//! | `positions` | group, topic, partition | next offset, metadata |
//!
//! redb keeps the types of keys and values with each table and refuses to open one with others.

use redb::TableDefinition;

/// The version of this layout. One that is newer is refused.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_VERSION: &str = "version";

pub(super) const DOCUMENTS: TableDefinition<'_, (&str, &str), (u64, &[u8])> =
    TableDefinition::new("documents");

pub(super) const POSITIONS: TableDefinition<'_, (&str, &str, u32), (u64, &str)> =
    TableDefinition::new("positions");
