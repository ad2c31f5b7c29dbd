//! Protobuf.
use super::format::{Incompatibility, Resolved, SchemaProblem, ValueProblem};
use bytes::Bytes;

/// A Protobuf schema.
#[derive(Debug)]
pub struct ProtobufSchema {}

impl ProtobufSchema {
    /// Not read yet.
    pub fn parse(_text: &str, _references: &[Resolved]) -> Result<Self, SchemaProblem> {
        Err(SchemaProblem::new("PROTOBUF schemas are not supported by this version"))
    }
    /// The canonical text.
    pub fn canonical(&self) -> &str {
        ""
    }
    /// The normalized text.
    pub fn normalized(&self) -> &str {
        ""
    }
    /// Messages.
    pub fn message_names(&self) -> &[String] {
        &[]
    }
    /// Names used.
    pub fn imports(&self) -> &[String] {
        &[]
    }
    /// Full name of the message at an index.
    pub fn message_at(&self, _index: &[i32]) -> Option<&str> {
        None
    }
    /// Index of a message, `None` for the first.
    pub fn index_of(&self, _message: Option<&str>) -> Option<&[i32]> {
        None
    }
    /// Encodes.
    pub fn encode_json(&self, _message: Option<&str>, _json: &[u8]) -> Result<Bytes, ValueProblem> {
        Ok(Bytes::new())
    }
    /// Decodes.
    pub fn decode_json(&self, _message: Option<&str>, _payload: &[u8]) -> Result<Bytes, ValueProblem> {
        Ok(Bytes::new())
    }
    /// Checks.
    pub fn check(&self, _message: Option<&str>, _payload: &[u8]) -> Result<(), ValueProblem> {
        Ok(())
    }
}

/// Compares.
pub fn incompatibilities(_reader: &ProtobufSchema, _writer: &ProtobufSchema) -> Vec<Incompatibility> {
    Vec::new()
}
