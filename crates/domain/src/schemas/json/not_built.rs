//! In place of the validator, where the feature is off.

use super::resolve::Documents;
use crate::schemas::format::{SchemaProblem, ValueProblem};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Compiled(std::convert::Infallible);

impl Compiled {
    pub(super) fn new(_documents: &Documents) -> Result<Self, SchemaProblem> {
        Err(SchemaProblem::new(
            "JSON Schema is not built into this service; build it with the feature `json-schema`, or register a \
             PROTOBUF or AVRO schema",
        ))
    }

    pub(super) fn check(&self, _value: &Value) -> Result<(), ValueProblem> {
        match self.0 {}
    }
}
