//! Whether a reader takes every value that a writer's schema takes.
//!
//! In general that cannot be decided. What is decided, with Confluent's names where it has one:
//!
//! | difference, from the writer to the reader | kind |
//! | --- | --- |
//! | a type less | `TYPE_NARROWED` |
//! | a value less, or values where there were none | `ENUM_ARRAY_NARROWED` |
//! | a bound that is tighter or new | `MAXIMUM_DECREASED`, `MINIMUM_INCREASED`, `MAX_LENGTH_DECREASED`, … |
//! | another pattern, another divisor, `uniqueItems` | `PATTERN_CHANGED`, `MULTIPLE_OF_CHANGED`, `UNIQUE_ITEMS_ADDED` |
//! | a property required that was not | `REQUIRED_ATTRIBUTE_ADDED` |
//! | a property declared that could hold anything before | `PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL` |
//! | a property gone where others are not allowed | `PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL` |
//! | others not allowed any more | `ADDITIONAL_PROPERTIES_REMOVED` |
//! | a branch that no branch of the reader takes | `SUM_TYPE_NARROWED` |
//!
//! `allOf` of the reader is each of its schemas, `anyOf` and `oneOf` of the writer each of theirs; `anyOf` of the
//! reader, and its `oneOf` where the branches have different types, take what one of the branches takes.
//!
//! All else is the same in both, references followed, or it is `NOT_DECIDED`, which counts as a difference: `not`,
//! `if`, `patternProperties`, `prefixItems`, `contains`, dependencies, anchors, and what else is in [`UNDECIDED`].
//! So a verdict "compatible" can be relied on. Annotations mean nothing, `format` among them.

use super::{
    JsonSchema,
    resolve::{Documents, Place},
};
use crate::schemas::{format::Incompatibility, json_text::step, limits};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Pairs of schemas that are compared, those of attempts included.
const PAIRS_MAX: usize = 50_000;

/// Attempts within attempts: branches of `anyOf` that have `anyOf` themselves.
const ATTEMPTS_DEEP_MAX: usize = 6;

/// Keywords that have to be the same.
const UNDECIDED: [&str; 20] = [
    "not",
    "if",
    "then",
    "else",
    "patternProperties",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "prefixItems",
    "additionalItems",
    "contains",
    "minContains",
    "maxContains",
    "$dynamicRef",
    "$recursiveRef",
    "extends",
    "disallow",
];

/// What of the values that `writer` takes is not taken by `reader`.
pub(in crate::schemas) fn incompatibilities(
    reader: &JsonSchema,
    writer: &JsonSchema,
) -> Vec<Incompatibility> {
    let (reader, writer) = (&reader.documents, &writer.documents);
    let mut comparison = Comparison {
        reader,
        writer,
        found: Vec::new(),
        seen: HashSet::new(),
        order: Vec::new(),
        left: PAIRS_MAX,
        deep: 0,
    };
    let (top, below) = (reader.top(), writer.top());
    if same(reader, writer, top, below) {
        return Vec::new();
    }
    if draft(top) != draft(below) {
        comparison.undecided("#", "`$schema` is another draft");
    } else if draft(top).contains("draft-03")
        || (draft(top).contains("draft-04") && !(is_old(top) && is_old(below)))
    {
        comparison.undecided("#", "the draft of `$schema` does not know all of the schema's keywords");
    } else {
        comparison.run(top, below, "#");
    }
    comparison.found
}

fn draft(top: Place<'_>) -> &str {
    let schema = top.schema.get("$schema").and_then(Value::as_str);
    schema.unwrap_or("http://json-schema.org/draft-07/schema").trim_end_matches('#')
}

/// Whether draft 4 knows the keywords that are compared as later drafts have them.
fn is_old(top: Place<'_>) -> bool {
    let mut waiting = vec![top.schema];
    while let Some(schema) = waiting.pop() {
        match schema {
            Value::Object(members) => {
                let is_number = |key| members.get(key).is_some_and(Value::is_number);
                if members.contains_key("const")
                    || is_number("exclusiveMaximum")
                    || is_number("exclusiveMinimum")
                {
                    return false;
                }
                waiting.extend(members.values());
            }
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    true
}

struct Comparison<'a> {
    reader: &'a Documents,
    writer: &'a Documents,
    found: Vec<Incompatibility>,
    /// Pairs that were compared, or are being compared: a recursive schema rests on itself.
    seen: HashSet<(usize, usize)>,
    /// The same in their order, for what a failed attempt has to forget.
    order: Vec<(usize, usize)>,
    left: usize,
    deep: usize,
}

type Waiting<'a> = Vec<(Place<'a>, Place<'a>, String)>;

/// `true`, for what is not there.
static ANYTHING: Value = Value::Bool(true);

impl<'a> Comparison<'a> {
    fn run(&mut self, reader: Place<'a>, writer: Place<'a>, path: &str) {
        let mut waiting: Waiting<'a> = vec![(reader, writer, path.to_owned())];
        while let Some((reader, writer, path)) = waiting.pop() {
            if self.found.len() >= limits::INCOMPATIBILITIES_MAX {
                return;
            }
            let Some(left) = self.left.checked_sub(1) else {
                return self.undecided(&path, "the schemas have too many parts that refer to each other");
            };
            self.left = left;
            let from = waiting.len();
            self.pair(reader, writer, &path, &mut waiting);
            // What stands first is looked at first.
            waiting[from..].reverse();
        }
    }

    fn add(&mut self, kind: &'static str, path: &str, message: impl Into<String>) {
        self.found.push(Incompatibility { kind, path: path.to_owned(), message: message.into() });
    }

    fn undecided(&mut self, path: &str, what: &str) {
        self.add(
            "NOT_DECIDED",
            path,
            format!(
                "{what}, so it is not decided whether every value that was written is taken; keep this part as it was, or \
                 set the level NONE for this subject"
            ),
        );
    }

    fn pair(&mut self, reader: Place<'a>, writer: Place<'a>, path: &str, waiting: &mut Waiting<'a>) {
        let (Some(reader), Some(writer)) = (followed(self.reader, reader), followed(self.writer, writer))
        else {
            return self.undecided(
                path,
                "a `$ref` leads to what cannot be looked into, or has other keywords beside it",
            );
        };
        if reader.schema.is_object() && writer.schema.is_object() {
            let pair = (reader.identity(), writer.identity());
            if !self.seen.insert(pair) {
                return;
            }
            self.order.push(pair);
        }
        let (reads, wrote) = match (reader.schema, writer.schema) {
            (Value::Bool(true), _) | (_, Value::Bool(false)) => return,
            (Value::Bool(false), Value::Bool(true)) => {
                return self.add(
                    "FALSE_SCHEMA_ADDED",
                    path,
                    "nothing is taken any more where anything was; keep the schema",
                );
            }
            (Value::Object(reads), Value::Object(wrote)) => (reads.clone(), wrote.clone()),
            (Value::Object(reads), _) => (reads.clone(), Map::new()),
            (Value::Bool(false), Value::Object(_)) => {
                return self.add("FALSE_SCHEMA_ADDED", path, "nothing is taken any more; keep the schema");
            }
            _ => return self.undecided(path, "a schema is neither an object nor a boolean"),
        };
        if !constrains(&reads) {
            return;
        }
        self.combined(reader, writer, (&reads, &wrote), path, waiting);
    }

    /// Unions and intersections, and then the rest.
    fn combined(
        &mut self,
        reader: Place<'a>,
        writer: Place<'a>,
        (reads, wrote): (&Map<String, Value>, &Map<String, Value>),
        path: &str,
        waiting: &mut Waiting<'a>,
    ) {
        if same(self.reader, self.writer, reader, writer) {
            return;
        }
        // A value of the writer is one of a branch's, whatever else is asked of it.
        for key in ["anyOf", "oneOf"] {
            if let Some(branches) = list(writer, key)
                && !has_both(reads, wrote, key, self, reader, writer)
            {
                if wrote.keys().any(|other| other != key && !is_annotation(other)) {
                    return self.undecided(path, &format!("`{key}` stands beside other keywords"));
                }
                for (index, branch) in branches.into_iter().enumerate() {
                    waiting.push((reader, branch, format!("{path}/{key}/{index}")));
                }
                return;
            }
        }
        if let Some(parts) = list(reader, "allOf")
            && !has_both(reads, wrote, "allOf", self, reader, writer)
        {
            for (index, part) in parts.into_iter().enumerate() {
                waiting.push((part, writer, format!("{path}/allOf/{index}")));
            }
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(branches) = list(reader, key)
                && !has_both(reads, wrote, key, self, reader, writer)
            {
                self.one_of_branches(&branches, key, writer, path);
            }
        }
        if let Some(parts) = list(writer, "allOf")
            && !has_both(reads, wrote, "allOf", self, reader, writer)
        {
            // A value is one of each part's; if one part alone is enough, it is well.
            let plain = without(reads, &["allOf", "anyOf", "oneOf"]);
            if constrains(&plain) && !parts.iter().any(|part| self.attempt(reader, *part)) {
                return self.undecided(path, "`allOf` of what was written is not taken part by part");
            }
            return;
        }
        self.undecided_keywords(reader, writer, path);
        self.types(reads, wrote, path);
        self.values(reads, wrote, path);
        self.bounds(reads, wrote, path);
        self.items(reader, writer, path, waiting);
        self.properties(reader, writer, path, waiting);
    }

    fn one_of_branches(&mut self, branches: &[Place<'a>], key: &str, writer: Place<'a>, path: &str) {
        if key == "oneOf" && !are_apart(self.reader, branches) {
            return self.undecided(path, "branches of `oneOf` may take the same value, which none may then");
        }
        if !branches.iter().any(|branch| self.attempt(*branch, writer)) {
            self.add(
                "SUM_TYPE_NARROWED",
                path,
                format!("no branch of `{key}` takes all that was written; add such a branch"),
            );
        }
    }

    /// Whether a pair is compatible, without telling why not.
    fn attempt(&mut self, reader: Place<'a>, writer: Place<'a>) -> bool {
        if self.deep >= ATTEMPTS_DEEP_MAX {
            return false;
        }
        let (found, from) = (std::mem::take(&mut self.found), self.order.len());
        self.deep += 1;
        // What is being compared outside may be rested on here: if it fails, all fails.
        self.run(reader, writer, "");
        self.deep -= 1;
        let is_good = std::mem::replace(&mut self.found, found).is_empty();
        if !is_good {
            for pair in self.order.drain(from..) {
                self.seen.remove(&pair);
            }
        }
        is_good
    }

    fn undecided_keywords(&mut self, reader: Place<'a>, writer: Place<'a>, path: &str) {
        for keyword in UNDECIDED {
            let Some(schema) = reader.schema.get(keyword) else { continue };
            let reads = Place { schema, ..reader };
            let wrote = writer.schema.get(keyword).map(|schema| Place { schema, ..writer });
            if !wrote.is_some_and(|wrote| same(self.reader, self.writer, reads, wrote)) {
                self.undecided(path, &format!("`{keyword}` is new or another than it was"));
            }
        }
    }

    fn types(&mut self, reads: &Map<String, Value>, wrote: &Map<String, Value>, path: &str) {
        let missing: Vec<&str> = types(wrote).difference(&types(reads)).copied().collect();
        if !missing.is_empty() {
            self.add(
                "TYPE_NARROWED",
                path,
                format!(
                    "values of the type {} were taken and are not any more; keep the type",
                    missing.join(", ")
                ),
            );
        }
    }

    fn values(&mut self, reads: &Map<String, Value>, wrote: &Map<String, Value>, path: &str) {
        let Some(taken) = enumerated(reads) else { return };
        let written = enumerated(wrote);
        let missing = match &written {
            None => true,
            Some(written) => written.iter().any(|value| !taken.contains(value)),
        };
        if missing {
            self.add(
                "ENUM_ARRAY_NARROWED",
                path,
                "values were taken that are not listed any more; keep them in the list",
            );
        }
    }

    fn bounds(&mut self, reads: &Map<String, Value>, wrote: &Map<String, Value>, path: &str) {
        let written = types(wrote);
        let has = |names: &[&str]| names.iter().any(|name| written.contains(name));
        let number = |members: &Map<String, Value>, key: &str| members.get(key).and_then(Value::as_f64);
        if has(&["integer", "number"]) {
            // In draft 4 an exclusive bound is a flag beside the other.
            for (key, other) in [("exclusiveMaximum", "maximum"), ("exclusiveMinimum", "minimum")] {
                if reads.get(key).is_some_and(Value::is_boolean)
                    && (reads.get(key) != wrote.get(key) || reads.get(other) != wrote.get(other))
                {
                    self.undecided(
                        path,
                        &format!("`{key}` is a flag, as draft 4 has it, and it or its bound changed"),
                    );
                }
            }
            // Whole numbers of what was written are at least one above an exclusive bound, which is not used here.
            let upper = |m: &Map<String, Value>| (number(m, "maximum"), number(m, "exclusiveMaximum"));
            let lower = |m: &Map<String, Value>| {
                (number(m, "minimum").map(|n| -n), number(m, "exclusiveMinimum").map(|n| -n))
            };
            if !within(upper(reads), upper(wrote)) {
                self.add(
                    "MAXIMUM_DECREASED",
                    path,
                    "greater numbers were taken before; keep the upper bound",
                );
            }
            if !within(lower(reads), lower(wrote)) {
                self.add(
                    "MINIMUM_INCREASED",
                    path,
                    "smaller numbers were taken before; keep the lower bound",
                );
            }
            if let Some(divisor) = number(reads, "multipleOf")
                && !number(wrote, "multipleOf").is_some_and(|written| (written / divisor).fract() == 0.0)
            {
                self.add(
                    "MULTIPLE_OF_CHANGED",
                    path,
                    "numbers were taken that are no multiples; keep `multipleOf`",
                );
            }
        }
        for (kind, of, key, is_upper) in [
            ("MAX_LENGTH_DECREASED", "string", "maxLength", true),
            ("MIN_LENGTH_INCREASED", "string", "minLength", false),
            ("MAX_ITEMS_DECREASED", "array", "maxItems", true),
            ("MIN_ITEMS_INCREASED", "array", "minItems", false),
            ("MAX_PROPERTIES_DECREASED", "object", "maxProperties", true),
            ("MIN_PROPERTIES_INCREASED", "object", "minProperties", false),
        ] {
            let Some(bound) = number(reads, key).filter(|_| has(&[of])) else { continue };
            let good = match number(wrote, key) {
                Some(written) => {
                    if is_upper {
                        written <= bound
                    } else {
                        written >= bound
                    }
                }
                None => !is_upper && bound <= 0.0,
            };
            if !good {
                self.add(
                    kind,
                    path,
                    format!("values beyond `{key}: {bound}` were taken before; keep the bound"),
                );
            }
        }
        if let Some(pattern) = reads.get("pattern").filter(|_| has(&["string"]))
            && wrote.get("pattern") != Some(pattern)
        {
            self.add(
                "PATTERN_CHANGED",
                path,
                "strings were taken that the pattern may not match; keep the pattern",
            );
        }
        if reads.get("uniqueItems") == Some(&Value::Bool(true))
            && has(&["array"])
            && wrote.get("uniqueItems") != Some(&Value::Bool(true))
        {
            self.add(
                "UNIQUE_ITEMS_ADDED",
                path,
                "arrays were taken that have an item twice; leave `uniqueItems` out",
            );
        }
    }

    fn items(&mut self, reader: Place<'a>, writer: Place<'a>, path: &str, waiting: &mut Waiting<'a>) {
        let Some(items) = reader.schema.get("items") else { return };
        if !writer.schema.as_object().is_none_or(|wrote| types(wrote).contains("array")) {
            return;
        }
        let written = writer.schema.get("items").unwrap_or(&ANYTHING);
        let (reads, wrote) = (Place { schema: items, ..reader }, Place { schema: written, ..writer });
        let is_special = |place: Place<'_>| {
            place.schema.get("prefixItems").is_some()
                || place.schema.get("items").is_some_and(Value::is_array)
        };
        if is_special(reader) || is_special(writer) {
            if !same(self.reader, self.writer, reads, wrote) {
                self.undecided(path, "items are told by their places, and changed");
            }
            return;
        }
        waiting.push((reads, wrote, format!("{path}/items")));
    }

    fn properties(&mut self, reader: Place<'a>, writer: Place<'a>, path: &str, waiting: &mut Waiting<'a>) {
        let wrote = writer.schema.as_object();
        if !wrote.is_none_or(|wrote| types(wrote).contains("object")) {
            return;
        }
        let required = |place: Place<'a>| -> BTreeSet<&'a str> {
            let names = place.schema.get("required").and_then(Value::as_array);
            names.into_iter().flatten().filter_map(Value::as_str).collect()
        };
        for name in required(reader).difference(&required(writer)) {
            self.add(
                "REQUIRED_ATTRIBUTE_ADDED",
                &format!("{path}/properties{}", step(name)),
                format!("property `{name}` is required, and values were taken without it; make it optional"),
            );
        }
        let of = |place: Place<'a>, key: &str| place.schema.get(key);
        let (reads_own, wrote_own) = (properties(reader), properties(writer));
        let others_read = of(reader, "additionalProperties").unwrap_or(&ANYTHING);
        let others_written = of(writer, "additionalProperties").unwrap_or(&ANYTHING);
        let is_patterned =
            of(writer, "patternProperties").is_some() || of(reader, "patternProperties").is_some();
        for (name, schema) in &reads_own {
            let path = format!("{path}/properties{}", step(name));
            let reads = Place { schema, ..reader };
            if let Some(written) = wrote_own.get(name) {
                waiting.push((reads, Place { schema: written, ..writer }, path));
            } else if is_patterned && *others_written != Value::Bool(true) {
                self.undecided(&path, "a property is new that `patternProperties` may have taken");
            } else if others_written == &ANYTHING {
                if !self.attempt(reads, Place { schema: others_written, ..writer }) {
                    self.add(
                        "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL",
                        &path,
                        format!(
                            "property `{name}` is new, and values were taken that hold anything under this name; set \
                             `additionalProperties: false` before properties are added"
                        ),
                    );
                }
            } else {
                waiting.push((reads, Place { schema: others_written, ..writer }, path));
            }
        }
        if others_read == &ANYTHING {
            return;
        }
        let others = Place { schema: others_read, ..reader };
        for (name, schema) in wrote_own.iter().filter(|(name, _)| !reads_own.contains_key(*name)) {
            let path = format!("{path}/properties{}", step(name));
            if is_patterned {
                self.undecided(&path, "a property is gone that `patternProperties` may take");
            } else if others_read == &Value::Bool(false) && *schema != &Value::Bool(false) {
                self.add(
                    "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL",
                    &path,
                    format!("property `{name}` is gone, and no others are allowed; keep it"),
                );
            } else {
                waiting.push((others, Place { schema, ..writer }, path));
            }
        }
        if others_read == &Value::Bool(false) && others_written != &Value::Bool(false) {
            self.add(
                "ADDITIONAL_PROPERTIES_REMOVED",
                path,
                "other properties were taken and are not any more; leave `additionalProperties` as it was",
            );
        } else {
            let wrote = Place { schema: others_written, ..writer };
            waiting.push((others, wrote, format!("{path}/additionalProperties")));
        }
    }
}

/// Whether a keyword is in both and means the same there.
fn has_both(
    reads: &Map<String, Value>,
    wrote: &Map<String, Value>,
    key: &str,
    comparison: &Comparison<'_>,
    reader: Place<'_>,
    writer: Place<'_>,
) -> bool {
    let (Some(_), Some(_)) = (reads.get(key), wrote.get(key)) else { return false };
    let (Some(one), Some(other)) = (reader.schema.get(key), writer.schema.get(key)) else { return false };
    same(
        comparison.reader,
        comparison.writer,
        Place { schema: one, ..reader },
        Place { schema: other, ..writer },
    )
}

fn list<'a>(place: Place<'a>, key: &str) -> Option<Vec<Place<'a>>> {
    let schemas = place.schema.get(key)?.as_array()?;
    Some(schemas.iter().map(|schema| Place { schema, ..place }).collect())
}

fn properties(place: Place<'_>) -> HashMap<&str, &Value> {
    let members = place.schema.get("properties").and_then(Value::as_object);
    members.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect()
}

/// What a chain of references leads to; `None` if it cannot be followed, or has other keywords beside it.
fn followed<'a>(documents: &'a Documents, mut place: Place<'a>) -> Option<Place<'a>> {
    for _ in 0..1_000 {
        let Some(reference) = place.schema.get("$ref") else { return Some(place) };
        let members = place.schema.as_object()?;
        if members.keys().any(|key| key != "$ref" && !is_annotation(key)) {
            return None;
        }
        place = documents.target(place, reference.as_str()?)?;
    }
    None
}

/// Whether two schemas are the same text, and what their references lead to is too.
fn same(ours: &Documents, theirs: &Documents, one: Place<'_>, other: Place<'_>) -> bool {
    let mut seen = HashSet::new();
    let mut waiting = vec![(one, other)];
    while let Some((one, other)) = waiting.pop() {
        if !seen.insert((one.identity(), other.identity())) {
            continue;
        }
        match (one.schema, other.schema) {
            (Value::Object(members), Value::Object(others)) => {
                if members.len() != others.len() {
                    return false;
                }
                for (key, schema) in members {
                    let Some(value) = others.get(key) else { return false };
                    waiting.push((Place { schema, ..one }, Place { schema: value, ..other }));
                }
                if let (Some(Value::String(reference)), Some(Value::String(another))) =
                    (members.get("$ref"), others.get("$ref"))
                {
                    let (Some(target), Some(matching)) =
                        (ours.target(one, reference), theirs.target(other, another))
                    else {
                        return false;
                    };
                    waiting.push((target, matching));
                }
                if members.contains_key("$dynamicRef") || members.contains_key("$recursiveRef") {
                    return false;
                }
            }
            (Value::Array(items), Value::Array(others)) => {
                if items.len() != others.len() {
                    return false;
                }
                let pairs = items.iter().zip(others);
                waiting.extend(
                    pairs.map(|(schema, value)| (Place { schema, ..one }, Place { schema: value, ..other })),
                );
            }
            (value, another) if value == another => {}
            _ => return false,
        }
    }
    true
}

/// Whether branches have types that no value has at once.
fn are_apart(documents: &Documents, branches: &[Place<'_>]) -> bool {
    let mut taken: BTreeSet<&'static str> = BTreeSet::new();
    for branch in branches {
        let Some(place) = followed(documents, *branch) else { return false };
        let Some(members) = place.schema.as_object().filter(|members| members.contains_key("type")) else {
            return false;
        };
        for of in types(members) {
            if !taken.insert(of) {
                return false;
            }
        }
    }
    true
}

/// The types that a schema takes; those of its listed values, if it names none. Whole numbers are apart from
/// others, so `number` is both.
fn types(members: &Map<String, Value>) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut add = |name: &str| match name {
        "number" => found.extend(["integer", "number"]),
        "integer" => found.extend(["integer"]),
        "string" => found.extend(["string"]),
        "boolean" => found.extend(["boolean"]),
        "null" => found.extend(["null"]),
        "array" => found.extend(["array"]),
        "object" => found.extend(["object"]),
        _ => {}
    };
    match (members.get("type"), enumerated(members)) {
        (Some(Value::String(name)), _) => add(name),
        (Some(Value::Array(names)), _) => names.iter().filter_map(Value::as_str).for_each(add),
        (_, Some(values)) => values.iter().for_each(|value| {
            add(match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                    "integer"
                }
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            });
        }),
        (_, None) => ["number", "string", "boolean", "null", "array", "object"].into_iter().for_each(add),
    }
    found
}

/// The listed values, if there is a list.
fn enumerated(members: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (members.get("const"), members.get("enum").and_then(Value::as_array)) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(values)) => Some(values.iter().collect()),
        (None, None) => None,
    }
}

/// Whether every number up to the written bounds is up to the read ones; each is the inclusive and the exclusive
/// one.
fn within(reads: (Option<f64>, Option<f64>), wrote: (Option<f64>, Option<f64>)) -> bool {
    let inclusive = reads.0.is_none_or(|bound| {
        wrote.0.is_some_and(|written| written <= bound) || wrote.1.is_some_and(|written| written <= bound)
    });
    let exclusive = reads.1.is_none_or(|bound| {
        wrote.0.is_some_and(|written| written < bound) || wrote.1.is_some_and(|written| written <= bound)
    });
    inclusive && exclusive
}

fn without(members: &Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    members
        .iter()
        .filter(|(key, _)| !keys.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Whether any keyword says something about values.
fn constrains(members: &Map<String, Value>) -> bool {
    members.keys().any(|key| !is_annotation(key))
}

/// Keywords that say nothing about values, and those that nobody knows.
fn is_annotation(key: &str) -> bool {
    !UNDECIDED.contains(&key)
        && !matches!(
            key,
            "$ref"
                | "type"
                | "enum"
                | "const"
                | "maximum"
                | "minimum"
                | "exclusiveMaximum"
                | "exclusiveMinimum"
                | "multipleOf"
                | "maxLength"
                | "minLength"
                | "pattern"
                | "maxItems"
                | "minItems"
                | "uniqueItems"
                | "items"
                | "required"
                | "properties"
                | "additionalProperties"
                | "maxProperties"
                | "minProperties"
                | "allOf"
                | "anyOf"
                | "oneOf"
        )
}
