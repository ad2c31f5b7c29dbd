//! What each schema format means: parsing, canonical text, whether one schema reads what another wrote, and
//! values checked, encoded and decoded by a schema. Pure rules; who registered which schema where is known to the
//! [`registry`] alone.
//!
//! [`parse`] is the one way in. It is bounded whatever the text is: sizes, nesting and names have limits (see
//! [`limits`]), a text beyond them is a [`SchemaProblem`], and so is everything else that is wrong with it. The
//! result, [`ParsedSchema`], is immutable and cheap to clone; parsing is what costs, so keep it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`format`] | the three formats behind one type |
//! | [`compatibility`] | the seven levels, made of the one question that a format answers |
//! | [`framing`] | Confluent's frame around a value |
//! | [`protobuf`], [`avro`], [`json`] | the rules of one format each |
//! | [`registry`] | which schema is which version of which subject |

pub mod avro;
pub mod compatibility;
pub mod format;
pub mod framing;
pub mod json;
mod json_text;
pub mod limits;
pub mod protobuf;
pub mod registry;

pub use compatibility::{CompatibilityLevel, Verdict};
pub use format::{
    Incompatibility, ParsedSchema, Position, Resolved, SchemaProblem, SchemaType, ValueProblem, parse,
};
