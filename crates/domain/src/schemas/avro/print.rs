//! The canonical and the normalized text.
//!
//! Attributes come in the order in which Avro's own implementation writes them, those that it does not know after
//! them by name, and `{"type": "string"}` is `"string"`. Normalized, names are full names without a `namespace`,
//! and attributes that say what is the case anyway are left out.

use super::parse::full_name;
use serde_json::{Map, Value};

/// What Avro knows, in its order.
const ATTRIBUTES: [&str; 12] = [
    "type",
    "name",
    "namespace",
    "doc",
    "fields",
    "symbols",
    "items",
    "values",
    "size",
    "default",
    "order",
    "aliases",
];

const FIELD_ATTRIBUTES: [&str; 6] = ["name", "type", "doc", "default", "order", "aliases"];

/// The text of a schema that was found good.
pub(super) fn print(json: &Value, normalize: bool) -> String {
    let mut printer = Printer { out: String::new(), normalize };
    printer.schema(json, "");
    printer.out
}

struct Printer {
    out: String,
    normalize: bool,
}

impl Printer {
    /// Its depth is that of the JSON, which has a bound.
    fn schema(&mut self, json: &Value, namespace: &str) {
        match json {
            Value::Array(branches) => {
                self.list(branches, |printer, branch| printer.schema(branch, namespace))
            }
            Value::Object(attributes) => self.object(attributes, namespace),
            Value::String(name) => self.name(name, namespace),
            other => self.value(other),
        }
    }

    fn name(&mut self, name: &str, namespace: &str) {
        let is_primitive = matches!(
            name,
            "null"
                | "boolean"
                | "int"
                | "long"
                | "float"
                | "double"
                | "bytes"
                | "string"
                | "record"
                | "error"
                | "enum"
                | "array"
                | "map"
                | "fixed"
        );
        let name = if is_primitive || !self.normalize { name.to_owned() } else { full_name(name, namespace) };
        self.value(&Value::String(name));
    }

    fn value(&mut self, json: &Value) {
        self.out.push_str(&json.to_string());
    }

    fn list(&mut self, items: &[Value], mut print: impl FnMut(&mut Self, &Value)) {
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            print(self, item);
        }
        self.out.push(']');
    }

    fn object(&mut self, attributes: &Map<String, Value>, namespace: &str) {
        if let (1, Some(inner)) = (attributes.len(), attributes.get("type")) {
            return self.schema(inner, namespace);
        }
        let name = attributes.get("name").and_then(Value::as_str);
        let own = attributes.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let full = name.map(|name| full_name(name, own));
        let inner = full
            .as_deref()
            .and_then(|full| full.rsplit_once('.'))
            .map_or_else(|| if full.is_some() { "" } else { namespace }, |(namespace, _)| namespace);
        self.members(attributes, &ATTRIBUTES, |printer, key, value| match key {
            "type" | "items" | "values" => printer.schema(value, inner),
            "fields" => match value {
                Value::Array(fields) => printer.list(fields, |printer, field| printer.field(field, inner)),
                other => printer.value(other),
            },
            "name" if printer.normalize => printer.value(&full.clone().into()),
            "aliases" if printer.normalize => printer.aliases(value, inner),
            _ => printer.value(value),
        });
    }

    fn field(&mut self, field: &Value, namespace: &str) {
        let Value::Object(attributes) = field else { return self.value(field) };
        self.members(attributes, &FIELD_ATTRIBUTES, |printer, key, value| match key {
            "type" => printer.schema(value, namespace),
            _ => printer.value(value),
        });
    }

    fn aliases(&mut self, aliases: &Value, namespace: &str) {
        let Value::Array(items) = aliases else { return self.value(aliases) };
        let mut full: Vec<String> =
            items.iter().filter_map(Value::as_str).map(|alias| full_name(alias, namespace)).collect();
        full.sort_unstable();
        self.value(&full.into());
    }

    fn members(
        &mut self,
        attributes: &Map<String, Value>,
        order: &[&str],
        mut print: impl FnMut(&mut Self, &str, &Value),
    ) {
        let known = order.iter().filter_map(|key| attributes.get_key_value(*key));
        let mut others: Vec<_> =
            attributes.iter().filter(|(key, _)| !order.contains(&key.as_str())).collect();
        others.sort_unstable_by_key(|(key, _)| *key);
        self.out.push('{');
        let mut is_first = true;
        for (key, value) in known.chain(others) {
            if self.normalize && says_nothing(key, value, attributes) {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                self.out.push(',');
            }
            self.value(&Value::String(key.clone()));
            self.out.push(':');
            print(self, key, value);
        }
        self.out.push('}');
    }
}

fn says_nothing(key: &str, value: &Value, attributes: &Map<String, Value>) -> bool {
    match key {
        // The full name has it.
        "namespace" => attributes.contains_key("name"),
        "order" => value == "ascending",
        "aliases" => value.as_array().is_some_and(Vec::is_empty),
        _ => false,
    }
}
