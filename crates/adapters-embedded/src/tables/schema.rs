//! What lies in the database.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format` | 1, the version of this layout |
//! | | `version` | the last version that any document was given |
//! | | `clock` | the time of the claims when it was last noted, in milliseconds of Unix time |
//! | | `schemas` | how often the schemas were changed |
//! | `documents` | kind, name | version, content |
//! | `positions` | group, topic, partition | next offset, metadata |
//! | `claims` | 16 bytes of key | a row, `claims/row.rs` |
//! | `claims_expiry` | time in 8 bytes, 16 bytes of key | |
//! | `schemas` | context, id | fingerprint, content |
//! | `schema_ids` | context | the last id that was given |
//! | `schema_fingerprints` | fingerprint, context, id | |
//! | `schema_versions` | subject, version | context, id, whether it is deleted, tag |
//! | `schema_uses` | context, id, subject, version | |
//! | `schema_references` | context, id, subject, version that it refers to | |
//! | `schema_referrers` | subject, version, context, id that refers to it | |
//! | `schema_settings` | kind, scope | content |
//!
//! redb keeps the types of keys and values with each table and refuses to open one with others.

use redb::TableDefinition;

/// The version of this layout. One that is newer is refused.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_VERSION: &str = "version";
pub(super) const META_CLOCK: &str = "clock";
pub(super) const META_SCHEMAS: &str = "schemas";

pub(super) const DOCUMENTS: TableDefinition<'_, (&str, &str), (u64, &[u8])> =
    TableDefinition::new("documents");

pub(super) const POSITIONS: TableDefinition<'_, (&str, &str, u32), (u64, &str)> =
    TableDefinition::new("positions");

pub(super) const CLAIMS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("claims");

pub(super) const EXPIRY: TableDefinition<'_, &[u8; 24], ()> = TableDefinition::new("claims_expiry");

/// Fingerprint and content.
type Content = (&'static [u8; 16], &'static [u8]);

pub(super) const SCHEMAS: TableDefinition<'_, (&str, u32), Content> = TableDefinition::new("schemas");

pub(super) const SCHEMA_IDS: TableDefinition<'_, &str, u32> = TableDefinition::new("schema_ids");

pub(super) const SCHEMA_FINGERPRINTS: TableDefinition<'_, (&[u8; 16], &str, u32), ()> =
    TableDefinition::new("schema_fingerprints");

pub(super) const SCHEMA_VERSIONS: TableDefinition<'_, (&str, u32), (&str, u32, bool, u8)> =
    TableDefinition::new("schema_versions");

/// From a schema to versions.
type OfSchema = TableDefinition<'static, (&'static str, u32, &'static str, u32), ()>;

pub(super) const SCHEMA_USES: OfSchema = TableDefinition::new("schema_uses");
pub(super) const SCHEMA_REFERENCES: OfSchema = TableDefinition::new("schema_references");

pub(super) const SCHEMA_REFERRERS: TableDefinition<'_, (&str, u32, &str, u32), ()> =
    TableDefinition::new("schema_referrers");

pub(super) const SCHEMA_SETTINGS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("schema_settings");

/// Makes the tables that are not there yet: all of them in a new file, some in that of an earlier version.
pub(super) fn make_tables(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(DOCUMENTS)?;
    transaction.open_table(POSITIONS)?;
    transaction.open_table(SCHEMAS)?;
    transaction.open_table(SCHEMA_IDS)?;
    transaction.open_table(SCHEMA_FINGERPRINTS)?;
    transaction.open_table(SCHEMA_VERSIONS)?;
    transaction.open_table(SCHEMA_USES)?;
    transaction.open_table(SCHEMA_REFERENCES)?;
    transaction.open_table(SCHEMA_REFERRERS)?;
    transaction.open_table(SCHEMA_SETTINGS)?;
    Ok(())
}
