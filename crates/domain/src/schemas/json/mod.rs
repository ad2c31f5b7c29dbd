//! JSON Schema: validation of values, and a rule of compatibility that says where it does not decide.
//!
//! Validation is the crate `jsonschema`'s (drafts 4 to 2020-12; draft 7 where `$schema` says nothing), behind the
//! feature `json-schema`; without it such schemas are refused. What `$ref` leads to is given with the schema:
//! nothing is fetched.
//!
//! | module | holds |
//! | --- | --- |
//! | `resolve` | what a `$ref` leads to; bounds of a schema whose parts refer to each other |
//! | `compare` | whether every value that one schema takes is taken by another |
//! | `validator` | the values |

mod compare;
mod resolve;
#[cfg(not(feature = "json-schema"))]
#[path = "not_built.rs"]
mod validator;
#[cfg(feature = "json-schema")]
mod validator;

#[cfg(all(test, not(feature = "json-schema")))]
mod not_built_tests;
#[cfg(all(test, feature = "json-schema"))]
mod tests;

pub(super) use compare::incompatibilities;

use super::{
    format::{Resolved, SchemaProblem, ValueProblem},
    json_text,
};
use bytes::Bytes;
use resolve::Documents;
use serde_json::Value;

/// A JSON Schema.
#[derive(Debug)]
pub struct JsonSchema {
    documents: Documents,
    canonical: String,
    normalized: String,
    imports: Vec<String>,
    validator: validator::Compiled,
}

impl JsonSchema {
    pub(super) fn parse(text: &str, references: &[Resolved]) -> Result<Self, SchemaProblem> {
        let root = json_text::read(text)?;
        if !matches!(root, Value::Object(_) | Value::Bool(_)) {
            return Err(SchemaProblem::new("a JSON Schema is an object, `true` or `false`"));
        }
        let canonical = root.to_string();
        let normalized = sorted(&root).to_string();
        let mut named = Vec::with_capacity(references.len());
        for reference in references {
            let document = json_text::read(&reference.text).map_err(|p| p.of_reference(&reference.name))?;
            named.push((reference.name.clone(), document));
        }
        let documents = Documents::new(root, named);
        documents.check()?;
        let imports = documents.imports();
        let validator = validator::Compiled::new(&documents)?;
        Ok(Self { documents, canonical, normalized, imports, validator })
    }

    pub(super) fn canonical(&self) -> &str {
        &self.canonical
    }

    pub(super) fn normalized(&self) -> &str {
        &self.normalized
    }

    pub(super) fn title(&self) -> Option<&str> {
        self.documents.root().get("title").and_then(Value::as_str)
    }

    pub(super) fn imports(&self) -> &[String] {
        &self.imports
    }

    pub(super) fn encode_json(&self, json: &[u8]) -> Result<Bytes, ValueProblem> {
        self.check(json).map(|()| Bytes::copy_from_slice(json))
    }

    pub(super) fn decode_json(&self, payload: &[u8]) -> Result<Bytes, ValueProblem> {
        self.encode_json(payload)
    }

    pub(super) fn check(&self, payload: &[u8]) -> Result<(), ValueProblem> {
        let value: Value =
            serde_json::from_slice(payload).map_err(|error| ValueProblem::new("", error.to_string()))?;
        self.validator.check(&value)
    }
}

/// The same, with the names of `required` and the like in one order, as that has no meaning.
fn sorted(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            let member = |name: &String| {
                let value = &members[name.as_str()];
                let value = match (name.as_str(), value) {
                    ("required" | "type", Value::Array(items)) if items.iter().all(Value::is_string) => {
                        let mut items = items.clone();
                        items.sort_unstable_by(|one, other| one.as_str().cmp(&other.as_str()));
                        Value::Array(items)
                    }
                    // Values, in which such names mean something else.
                    ("const" | "default" | "enum" | "examples", value) => value.clone(),
                    (_, value) => sorted(value),
                };
                (name.clone(), value)
            };
            Value::Object(names.into_iter().map(member).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
