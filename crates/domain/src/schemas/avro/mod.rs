//! Apache Avro: schemas, canonical texts, schema resolution as the rule of compatibility, and values in the
//! binary and the JSON encoding.
//!
//! The canonical text is the schema in JSON in one layout, with every attribute. It is not the specification's
//! *parsing canonical form*, which leaves defaults and aliases out: two schemas that differ in these are not one,
//! as they do not read the same. Logical types are kept and mean nothing here; their values are those of the type
//! below.
//!
//! | module | holds |
//! | --- | --- |
//! | `parse` | from JSON to types, names resolved across references |
//! | `print` | the canonical and the normalized text |
//! | `compare` | schema resolution, asked before there is a value |
//! | `encode`, `decode` | JSON to bytes and back |

mod compare;
mod decode;
mod encode;
mod parse;
mod print;

#[cfg(test)]
mod tests;

pub(super) use compare::incompatibilities;

use super::format::{Resolved, SchemaProblem, ValueProblem};
use bytes::Bytes;
use serde_json::Value;

/// An Avro schema.
#[derive(Debug)]
pub struct AvroSchema {
    /// Every type, of the references too. Types refer to each other by their place, so that they may be
    /// recursive.
    types: Vec<Type>,
    root: usize,
    canonical: String,
    normalized: String,
    imports: Vec<String>,
}

/// A type, as far as its values and its resolution go.
#[derive(Debug)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record { name: Name, fields: Vec<Field> },
    Enum { name: Name, symbols: Vec<String>, default: Option<String> },
    Fixed { name: Name, size: usize },
}

/// The full name of a type, and the full names that it goes by as a reader.
#[derive(Clone, Debug)]
struct Name {
    full: String,
    aliases: Vec<String>,
}

#[derive(Debug)]
struct Field {
    name: String,
    aliases: Vec<String>,
    of: usize,
    default: Option<Value>,
}

impl Name {
    fn simple(&self) -> &str {
        self.full.rsplit('.').next().unwrap_or_default()
    }
}

impl AvroSchema {
    pub(super) fn parse(text: &str, references: &[Resolved]) -> Result<Self, SchemaProblem> {
        parse::parse(text, references)
    }

    pub(super) fn canonical(&self) -> &str {
        &self.canonical
    }

    pub(super) fn normalized(&self) -> &str {
        &self.normalized
    }

    pub(super) fn record_name(&self) -> Option<&str> {
        self.types[self.root].name().map(|name| name.full.as_str())
    }

    pub(super) fn imports(&self) -> &[String] {
        &self.imports
    }

    pub(super) fn encode_json(&self, json: &[u8]) -> Result<Bytes, ValueProblem> {
        let value: Value =
            serde_json::from_slice(json).map_err(|error| ValueProblem::new("", error.to_string()))?;
        encode::encode(self, &value)
    }

    pub(super) fn decode_json(&self, payload: &[u8]) -> Result<Bytes, ValueProblem> {
        decode::decode(self, payload).map(Bytes::from)
    }

    pub(super) fn check(&self, payload: &[u8]) -> Result<(), ValueProblem> {
        decode::decode(self, payload).map(|_| ())
    }
}

impl Type {
    fn name(&self) -> Option<&Name> {
        match self {
            Self::Record { name, .. } | Self::Enum { name, .. } | Self::Fixed { name, .. } => Some(name),
            _ => None,
        }
    }

    /// How a branch of a union of this type is called: its full name, or that of its kind.
    fn branch_name(&self) -> &str {
        self.name().map_or(self.kind(), |name| &name.full)
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Record { .. } => "record",
            Self::Enum { .. } => "enum",
            Self::Fixed { .. } => "fixed",
        }
    }

    /// The type as a person calls it.
    fn shown(&self) -> String {
        self.name().map_or_else(|| self.kind().to_owned(), |name| format!("{} `{}`", self.kind(), name.full))
    }
}
