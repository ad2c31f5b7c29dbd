//! Avro.
use super::format::{Incompatibility, Resolved, SchemaProblem, ValueProblem};
use bytes::Bytes;

/// An Avro schema.
#[derive(Debug)]
pub struct AvroSchema {}

impl AvroSchema {
    /// Not read yet.
    pub fn parse(_text: &str, _references: &[Resolved]) -> Result<Self, SchemaProblem> {
        Err(SchemaProblem::new("AVRO schemas are not supported by this version"))
    }
    /// The canonical text.
    pub fn canonical(&self) -> &str {
        ""
    }
    /// The normalized text.
    pub fn normalized(&self) -> &str {
        ""
    }
    /// The full name.
    pub fn record_name(&self) -> Option<&str> {
        None
    }
    /// Names used.
    pub fn imports(&self) -> &[String] {
        &[]
    }
    /// Encodes.
    pub fn encode_json(&self, _json: &[u8]) -> Result<Bytes, ValueProblem> {
        Ok(Bytes::new())
    }
    /// Decodes.
    pub fn decode_json(&self, _payload: &[u8]) -> Result<Bytes, ValueProblem> {
        Ok(Bytes::new())
    }
    /// Checks.
    pub fn check(&self, _payload: &[u8]) -> Result<(), ValueProblem> {
        Ok(())
    }
}

/// Compares.
pub fn incompatibilities(_reader: &AvroSchema, _writer: &AvroSchema) -> Vec<Incompatibility> {
    Vec::new()
}
