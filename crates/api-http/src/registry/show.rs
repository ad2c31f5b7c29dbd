//! Shapes of answers.

use domain::schemas::{
    SchemaType,
    registry::{Config, Registered, Schema},
};
use serde_json::{Map, Value, json};

/// `GET /schemas/types`.
pub(super) fn types() -> Value {
    json!(SchemaType::ALL.map(SchemaType::as_str))
}

/// A version of a subject, with `text` for its schema.
pub(super) fn registered(registered: &Registered, text: &str) -> Value {
    let schema = &registered.schema;
    let mut shown = Map::new();
    shown.insert("subject".to_owned(), registered.subject.as_str().into());
    shown.insert("version".to_owned(), registered.version.into());
    shown.insert("id".to_owned(), schema.id.0.into());
    content(&mut shown, schema, text);
    if registered.deleted {
        shown.insert("deleted".to_owned(), true.into());
    }
    shown.into()
}

/// A schema, with `text` for its own.
pub(super) fn schema(schema: &Schema, text: &str) -> Map<String, Value> {
    let mut shown = Map::new();
    content(&mut shown, schema, text);
    shown
}

/// What is the default is left out, as older clients expect it: Avro, and no references.
fn content(shown: &mut Map<String, Value>, schema: &Schema, text: &str) {
    if let Some(guid) = schema.guid() {
        shown.insert("guid".to_owned(), guid.to_string().into());
    }
    let content = schema.content();
    if content.schema_type != SchemaType::Avro {
        shown.insert("schemaType".to_owned(), content.schema_type.as_str().into());
    }
    if !content.references.is_empty() {
        let reference = |to: &domain::schemas::registry::Reference| json!({"name": to.name, "subject": to.subject, "version": to.version});
        shown.insert("references".to_owned(), content.references.iter().map(reference).collect());
    }
    for (name, value) in [("metadata", &content.metadata), ("ruleSet", &content.rule_set)] {
        if let Some(value) = value {
            shown.insert(name.to_owned(), value.clone());
        }
    }
    shown.insert("schema".to_owned(), text.into());
}

/// Settings, the level under this name: it has two.
pub(super) fn config(config: &Config, level: &str) -> Value {
    let mut shown = Map::new();
    if let Some(found) = config.level {
        shown.insert(level.to_owned(), found.as_str().into());
    }
    if let Some(normalize) = config.normalize {
        shown.insert("normalize".to_owned(), normalize.into());
    }
    shown.into()
}
