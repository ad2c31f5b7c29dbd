//! What a `$ref` leads to, and the bounds of a schema whose parts refer to each other.

use crate::schemas::{format::SchemaProblem, json_text::step};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Patterns of a schema and its references, each of which takes memory when it is compiled.
pub(super) const PATTERNS_MAX: usize = 1_000;

/// Schemas that one value is held against at one place: `allOf` and the like with their references written out.
const APPLIED_MAX: u64 = 100_000;

/// References one behind the other, without a step into the value.
const CHAIN_MAX: usize = 200;

/// A schema and what it was given for its references.
#[derive(Debug)]
pub(super) struct Documents {
    root: Value,
    named: HashMap<String, Value>,
    order: Vec<String>,
    /// Whether schemas within a document have addresses of their own, against which their references are read.
    has_inner_addresses: bool,
}

/// A schema within a document.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) document: &'a Value,
    pub(super) schema: &'a Value,
}

impl Place<'_> {
    /// What tells places apart: a document is never moved while it is looked at.
    pub(super) fn identity(&self) -> usize {
        std::ptr::from_ref(self.schema) as usize
    }
}

impl Documents {
    pub(super) fn new(root: Value, named: Vec<(String, Value)>) -> Self {
        let order = named.iter().map(|(name, _)| name.clone()).collect();
        let mut addresses = 0;
        for document in named.iter().map(|(_, document)| document).chain([&root]) {
            let own = usize::from(document.get("$id").is_some_and(Value::is_string));
            let mut all = 0;
            walk(document, &mut |schema| all += usize::from(schema.get("$id").is_some_and(Value::is_string)));
            addresses += all - own;
        }
        Self { root, named: named.into_iter().collect(), order, has_inner_addresses: addresses > 0 }
    }

    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.named.iter().map(|(name, document)| (name.as_str(), document))
    }

    pub(super) fn top(&self) -> Place<'_> {
        Place { document: &self.root, schema: &self.root }
    }

    /// What a reference at a place leads to; `None` for what is not a pointer into the same document or into one
    /// of the references, as an anchor is.
    pub(super) fn target<'a>(&'a self, from: Place<'a>, reference: &str) -> Option<Place<'a>> {
        if self.has_inner_addresses {
            return None;
        }
        let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let document = if address.is_empty() { from.document } else { self.document(address)? };
        if fragment.is_empty() {
            return Some(Place { document, schema: document });
        }
        if !fragment.starts_with('/') || fragment.contains('%') {
            return None;
        }
        Some(Place { document, schema: document.pointer(fragment)? })
    }

    fn document(&self, address: &str) -> Option<&Value> {
        self.named.get(address).or_else(|| {
            let by_id = |document: &&Value| {
                document
                    .get("$id")
                    .and_then(Value::as_str)
                    .is_some_and(|id| id.trim_end_matches('#') == address)
            };
            let is_end = |name: &str| address.strip_suffix(name).is_some_and(|before| before.ends_with('/'));
            self.named
                .values()
                .find(by_id)
                .or_else(|| self.named.iter().find(|(name, _)| is_end(name)).map(|(_, document)| document))
        })
    }

    /// The references that the schema itself refers to, in the order in which they were given.
    pub(super) fn imports(&self) -> Vec<String> {
        let mut used: HashSet<usize> = HashSet::new();
        walk(&self.root, &mut |schema| {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                let address = reference.split('#').next().unwrap_or_default();
                if let Some(document) = self.document(address).filter(|_| !address.is_empty()) {
                    used.insert(std::ptr::from_ref(document) as usize);
                }
            }
        });
        let is_used = |name: &&String| {
            self.named
                .get(name.as_str())
                .is_some_and(|document| used.contains(&(std::ptr::from_ref(document) as usize)))
        };
        self.order.iter().filter(is_used).cloned().collect()
    }

    /// Checks the bounds.
    pub(super) fn check(&self) -> Result<(), SchemaProblem> {
        let mut patterns = 0;
        for document in self.named.values().chain([&self.root]) {
            walk(document, &mut |schema| {
                let Value::Object(members) = schema else { return };
                let named = members.get("patternProperties").and_then(Value::as_object);
                patterns +=
                    usize::from(members.contains_key("pattern")) + named.map_or(0, serde_json::Map::len);
            });
        }
        if patterns > PATTERNS_MAX {
            return Err(SchemaProblem::new(format!(
                "the schema has {patterns} patterns with its references, and {PATTERNS_MAX} are the most"
            )));
        }
        self.check_addresses()?;
        let mut costs = Costs { documents: self, known: HashMap::new(), open: HashSet::new() };
        for document in self.named.values().chain([&self.root]) {
            costs.all(Place { document, schema: document }, "#")?;
        }
        Ok(())
    }

    /// Every reference leads to a document that is there, or to a draft's own.
    fn check_addresses(&self) -> Result<(), SchemaProblem> {
        if self.has_inner_addresses {
            return Ok(());
        }
        let documents =
            self.named().map(|(name, document)| (Some(name), document)).chain([(None, &self.root)]);
        for (home, document) in documents {
            let own = document.get("$id").and_then(Value::as_str).unwrap_or_default().trim_end_matches('#');
            let mut missing = None;
            walk(document, &mut |schema| {
                let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { return };
                let address = reference.split('#').next().unwrap_or_default();
                let is_known = address.is_empty()
                    || address == own
                    || DRAFTS.iter().any(|draft| address.starts_with(draft))
                    || self.document(address).is_some();
                if !is_known && missing.is_none() {
                    missing = Some(address.to_owned());
                }
            });
            if let Some(address) = missing {
                let problem = SchemaProblem::new(format!(
                    "`{address}`, to which a `$ref` leads, is not among the references; add a reference whose name is \
                     `{address}` to the subject and version that hold it"
                ));
                return Err(home.map_or(problem.clone(), |name| problem.of_reference(name)));
            }
        }
        Ok(())
    }
}

/// Where the drafts' own schemas stand, which are built in.
const DRAFTS: [&str; 2] = ["http://json-schema.org/", "https://json-schema.org/"];

/// Calls for every object and array in a document.
fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        _ => {}
    }
}

/// How many schemas one value is held against at a place. References multiply where two of them lead to the same:
/// forty lines can stand for more than can be worked through.
struct Costs<'a> {
    documents: &'a Documents,
    known: HashMap<usize, u64>,
    open: HashSet<usize>,
}

impl<'a> Costs<'a> {
    /// The costs of a place and of all within it.
    fn all(&mut self, place: Place<'a>, path: &str) -> Result<(), SchemaProblem> {
        if self.of(place, path)? > APPLIED_MAX {
            return Err(SchemaProblem::new(format!(
                "{path}: `allOf`, `anyOf`, `oneOf` and `$ref` multiply to more than {APPLIED_MAX} schemas for one \
                 value; write out less of them"
            )));
        }
        let children: Vec<(String, &Value)> = match place.schema {
            Value::Object(members) => members.iter().map(|(key, value)| (step(key), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, value)| (format!("/{index}"), value)).collect()
            }
            _ => Vec::new(),
        };
        for (step, schema) in children {
            if schema.is_object() || schema.is_array() {
                self.all(Place { document: place.document, schema }, &format!("{path}{step}"))?;
            }
        }
        Ok(())
    }

    /// Its depth is that of references one behind the other, which has a bound, times that of `allOf` within
    /// `allOf`, which the text's depth bounds.
    fn of(&mut self, place: Place<'a>, path: &str) -> Result<u64, SchemaProblem> {
        let Value::Object(members) = place.schema else { return Ok(1) };
        let identity = place.identity();
        if let Some(cost) = self.known.get(&identity) {
            return Ok(*cost);
        }
        if !self.open.insert(identity) {
            return Err(SchemaProblem::new(format!(
                "{path}: a schema refers to itself without a step into the value, so that checking would not end; \
                 remove the `$ref` that leads back"
            )));
        }
        if self.open.len() > CHAIN_MAX {
            return Err(SchemaProblem::new(format!(
                "{path}: more than {CHAIN_MAX} references follow one another; refer to the last of them"
            )));
        }
        let mut cost: u64 = 1;
        let mut add = |costs: &mut Self, place: Place<'a>| {
            cost = cost.saturating_add(costs.of(place, path)?);
            Ok::<_, SchemaProblem>(())
        };
        for (key, value) in members {
            match (key.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    if let Some(target) = self.documents.target(place, reference) {
                        add(self, target)?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(items)) => {
                    for schema in items {
                        add(self, Place { document: place.document, schema })?;
                    }
                }
                ("not" | "if" | "then" | "else", schema) => {
                    add(self, Place { document: place.document, schema })?;
                }
                ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                    for schema in schemas.values() {
                        add(self, Place { document: place.document, schema })?;
                    }
                }
                _ => {}
            }
        }
        self.open.remove(&identity);
        self.known.insert(identity, cost);
        Ok(cost)
    }
}
