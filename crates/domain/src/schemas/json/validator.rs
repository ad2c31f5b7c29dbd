//! Values are checked by the crate `jsonschema`, which fetches nothing here.

use super::resolve::Documents;
use crate::schemas::format::{SchemaProblem, ValueProblem};
use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;
use std::{
    collections::HashMap,
    error::Error,
    fmt::{self, Write as _},
};

/// Bytes of one compiled pattern; there may be [`super::resolve::PATTERNS_MAX`] of them.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Steps back that the search for a pattern may take.
const BACKTRACKS_MAX: usize = 100_000;

/// Where the schema stands if it does not say so itself, for the references that are relative.
const BASE: &str = "references:///schema";

pub(super) struct Compiled(Validator);

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compiled")
    }
}

struct Given(HashMap<String, Value>);

impl Retrieve for Given {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let asked = uri.as_str().split('#').next().unwrap_or_default();
        let by_name = self.0.get(asked).or_else(|| {
            let is_end = |name: &str| asked.strip_suffix(name).is_some_and(|before| before.ends_with('/'));
            self.0.iter().find(|(name, _)| is_end(name)).map(|(_, document)| document)
        });
        by_name.cloned().ok_or_else(|| {
            format!("`{asked}` is not among the references; add a reference with that name").into()
        })
    }
}

impl Compiled {
    pub(super) fn new(documents: &Documents) -> Result<Self, SchemaProblem> {
        let root = documents.root();
        let given = documents.named().flat_map(|(name, document)| {
            let id =
                document.get("$id").and_then(Value::as_str).map(|id| id.trim_end_matches('#').to_owned());
            id.into_iter().chain([name.to_owned()]).map(|name| (name, document.clone()))
        });
        let mut options = jsonschema::options()
            .with_retriever(Given(given.collect()))
            .with_pattern_options(
                PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS_MAX).size_limit(PATTERN_BYTES_MAX),
            )
            .should_validate_formats(false);
        if root.get("$id").is_none() {
            options = options.with_base_uri(BASE);
        }
        if root.get("$schema").is_none() {
            options = options.with_draft(Draft::Draft7);
        }
        options.build(root).map(Self).map_err(|error| {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            SchemaProblem::new(format!("{place}{}", shortened(&error.to_string())))
        })
    }

    pub(super) fn check(&self, value: &Value) -> Result<(), ValueProblem> {
        self.0.validate(value).map_err(|error| {
            let path = error.instance_path().to_string();
            // The value is not repeated: it may be large, and it may be what nobody else should read.
            ValueProblem::new(dotted(&path, value), shortened(&error.masked().to_string()))
        })
    }
}

fn shortened(message: &str) -> &str {
    &message[..message.floor_char_boundary(1_000)]
}

/// A JSON pointer as the other formats show a path: `items[2].price`.
fn dotted(pointer: &str, value: &Value) -> String {
    let mut path = String::new();
    let mut at = Some(value);
    for step in pointer.split('/').skip(1) {
        let name = step.replace("~1", "/").replace("~0", "~");
        match at {
            Some(Value::Array(items)) => {
                let _ = write!(path, "[{name}]");
                at = name.parse::<usize>().ok().and_then(|index| items.get(index));
            }
            other => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
                at = other.and_then(|value| value.get(&name));
            }
        }
    }
    path
}
