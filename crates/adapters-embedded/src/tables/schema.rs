//! What lies in the database.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format` | 1, the version of this layout |
//! | | `version` | the last version that any document was given |
//! | | `clock` | the time of the claims when it was last noted, in milliseconds of Unix time |
//! | `documents` | kind, name | version, content |
//! | `positions` | group, topic, partition | next offset, metadata |
//! | `claims` | 16 bytes of key | a row, `claims/row.rs` |
//! | `claims_expiry` | time in 8 bytes, 16 bytes of key | |
//!
//! redb keeps the types of keys and values with each table and refuses to open one with others.

use redb::TableDefinition;

/// The version of this layout. One that is newer is refused.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_VERSION: &str = "version";
pub(super) const META_CLOCK: &str = "clock";

pub(super) const DOCUMENTS: TableDefinition<'_, (&str, &str), (u64, &[u8])> =
    TableDefinition::new("documents");

pub(super) const POSITIONS: TableDefinition<'_, (&str, &str, u32), (u64, &str)> =
    TableDefinition::new("positions");

pub(super) const CLAIMS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("claims");

pub(super) const EXPIRY: TableDefinition<'_, &[u8; 24], ()> = TableDefinition::new("claims_expiry");
