//! Reading a schema that is JSON: bounded in depth, with the place of what is wrong.

use super::{
    format::{Position, SchemaProblem},
    limits,
};
use serde_json::Value;

/// Reads a text.
pub(super) fn read(text: &str) -> Result<Value, SchemaProblem> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let position = (error.line() > 0)
            .then(|| Position { line: error.line(), column: error.column().max(1) })
            .filter(|_| !text.is_empty());
        let said = error.to_string();
        let what = said.split(" at line ").next().unwrap_or_default();
        SchemaProblem::new(format!("the text is not JSON: {what}")).at(position)
    })?;
    if is_deeper_than(&value, limits::JSON_DEPTH_MAX) {
        return Err(SchemaProblem::new(format!(
            "objects and arrays are nested more than {} levels deep; define the inner ones by name",
            limits::JSON_DEPTH_MAX
        )));
    }
    Ok(value)
}

/// Its own depth is that of the reader, which has a bound.
fn is_deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper_than(item, levels - 1)),
        Value::Object(members) => {
            levels == 0 || members.values().any(|member| is_deeper_than(member, levels - 1))
        }
        _ => false,
    }
}

/// A JSON pointer's step.
pub(super) fn step(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}
