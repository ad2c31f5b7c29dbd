//! The bounds of a schema. Each is far beyond what people write and keeps the worst text within a moment's work
//! and a few times its own size of memory.

/// Bytes of one schema's text, and of one reference's.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a schema and all its references together.
pub const TOTAL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// References of a schema, the references of its references among them.
pub const REFERENCES_MAX: usize = 500;

/// Levels of objects and arrays in a schema or a value that is JSON.
pub const JSON_DEPTH_MAX: usize = 100;

/// Branches of one Avro union.
pub const UNION_BRANCHES_MAX: usize = 1_000;

/// Levels of messages within messages, or records within records, in a value.
pub const VALUE_DEPTH_MAX: usize = 100;

/// Bytes of a full name: package, enclosing types and the name itself.
pub const NAME_BYTES_MAX: usize = 512;

/// Differences that one comparison reports. What is beyond them is not looked for, as the verdict is known.
pub const INCOMPATIBILITIES_MAX: usize = 1_000;
