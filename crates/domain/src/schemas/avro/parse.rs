//! From JSON to types.
//!
//! Files are read one after the other, the references first. A name that the file itself has not defined yet is
//! left open and looked up when all are read, in the other files alone: within one file a type is defined before
//! it is used, as every implementation of Avro asks. So references may come in any order, and may refer to each
//! other.

use super::{AvroSchema, Field, Name, Type, encode, print};
use crate::schemas::{
    format::{Resolved, SchemaProblem},
    json_text, limits,
};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Values that all defaults of a schema stand for, with what their own types fill in.
const DEFAULT_STEPS_MAX: usize = 1_000_000;

/// The file that is the schema itself; references have their place in the list.
const SCHEMA: usize = usize::MAX;

pub(super) fn parse(text: &str, references: &[Resolved]) -> Result<AvroSchema, SchemaProblem> {
    let mut parser = Parser::default();
    for (file, reference) in references.iter().enumerate() {
        let read = json_text::read(&reference.text).and_then(|json| parser.file(file, &json));
        read.map_err(|problem| problem.of_reference(&reference.name))?;
    }
    let json = json_text::read(text)?;
    let root = parser.file(SCHEMA, &json)?;
    let used = parser.close(references)?;
    let imports = references
        .iter()
        .enumerate()
        .filter(|(file, _)| used.contains(file))
        .map(|(_, reference)| reference.name.clone())
        .collect();
    let defaults = std::mem::take(&mut parser.defaults);
    let root = parser.resolved(root);
    let types = parser.finish();
    let schema = AvroSchema {
        types,
        root,
        canonical: print::print(&json, false),
        normalized: print::print(&json, true),
        imports,
    };
    let mut steps = DEFAULT_STEPS_MAX;
    for default in defaults {
        default.check(&schema, references, &mut steps)?;
    }
    Ok(schema)
}

#[derive(Default)]
struct Parser {
    types: Vec<Slot>,
    /// Where a full name is defined: the file, and the type.
    names: HashMap<String, (usize, usize)>,
    file: usize,
    path: String,
    defaults: Vec<Defaulted>,
}

enum Slot {
    Type(Type),
    /// A name that its file had not defined where it was used; the second is what it may mean besides.
    Open {
        names: [Option<String>; 2],
        file: usize,
        path: String,
    },
    /// What an open name was found to be.
    Found(usize),
}

/// A field's default, which is checked when all names are known.
struct Defaulted {
    record: usize,
    field: usize,
    file: usize,
    path: String,
}

impl Defaulted {
    fn check(
        &self,
        schema: &AvroSchema,
        references: &[Resolved],
        steps: &mut usize,
    ) -> Result<(), SchemaProblem> {
        let Type::Record { fields, .. } = &schema.types[self.record] else { return Ok(()) };
        let field = &fields[self.field];
        let Some(default) = &field.default else { return Ok(()) };
        encode::check_default(schema, field.of, default, steps).map_err(|problem| {
            located(
                SchemaProblem::new(format!(
                    "{}/default: the default of field `{}` is not one of its type: {problem}",
                    self.path, field.name
                )),
                self.file,
                references,
            )
        })
    }
}

fn located(problem: SchemaProblem, file: usize, references: &[Resolved]) -> SchemaProblem {
    match references.get(file) {
        Some(reference) => problem.of_reference(&reference.name),
        None => problem,
    }
}

impl Parser {
    fn file(&mut self, file: usize, json: &Value) -> Result<usize, SchemaProblem> {
        self.file = file;
        self.path.clear();
        self.of(json, "")
    }

    fn problem(&self, message: impl AsRef<str>) -> SchemaProblem {
        let place = if self.path.is_empty() { "" } else { ": " };
        SchemaProblem::new(format!("{}{place}{}", self.path, message.as_ref()))
    }

    fn add(&mut self, of: Type) -> usize {
        self.types.push(Slot::Type(of));
        self.types.len() - 1
    }

    fn within<T>(
        &mut self,
        step: &str,
        read: impl FnOnce(&mut Self) -> Result<T, SchemaProblem>,
    ) -> Result<T, SchemaProblem> {
        let length = self.path.len();
        self.path.push_str(step);
        let value = read(self)?;
        self.path.truncate(length);
        Ok(value)
    }

    fn of(&mut self, json: &Value, namespace: &str) -> Result<usize, SchemaProblem> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(attributes) => match attributes.get("type") {
                Some(Value::String(kind)) => self.complex(kind, attributes, namespace),
                Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                    self.within("/type", |parser| parser.of(inner, namespace))
                }
                Some(_) => Err(self.problem("`type` is neither a name nor a schema")),
                None => Err(self.problem("an object that is a schema has a `type`, and this one has none")),
            },
            _ => Err(self.problem(
                "a schema is the name of a type, an object with a `type`, or an array of the branches of a union",
            )),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<usize, SchemaProblem> {
        if let Some(primitive) = primitive(name) {
            return Ok(self.add(primitive));
        }
        self.check_name(name, true)?;
        let full = full_name(name, namespace);
        // Where the namespace has no such type, one without a namespace may be meant.
        let bare = (full != name && !name.contains('.')).then(|| name.to_owned());
        for candidate in [Some(&full), bare.as_ref()].into_iter().flatten() {
            if let Some((file, at)) = self.names.get(candidate)
                && *file == self.file
            {
                return Ok(*at);
            }
        }
        let path = self.path.clone();
        self.types.push(Slot::Open { names: [Some(full), bare], file: self.file, path });
        Ok(self.types.len() - 1)
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<usize, SchemaProblem> {
        if branches.len() > limits::UNION_BRANCHES_MAX {
            return Err(self.problem(format!(
                "a union has {} branches, and {} are the most",
                branches.len(),
                limits::UNION_BRANCHES_MAX
            )));
        }
        let mut read = Vec::with_capacity(branches.len());
        let mut seen = HashSet::new();
        for (index, branch) in branches.iter().enumerate() {
            let of = self.within(&format!("/{index}"), |parser| parser.of(branch, namespace))?;
            let called = match &self.types[of] {
                Slot::Type(Type::Union(_)) => {
                    return Err(self.problem("a union holds a union; list its branches in the outer one"));
                }
                Slot::Type(of) => of.branch_name().to_owned(),
                Slot::Open { names: [Some(name), _], .. } => name.clone(),
                Slot::Open { .. } | Slot::Found(_) => String::new(),
            };
            if !seen.insert(called.clone()) {
                return Err(
                    self.problem(format!("a union has the branch `{called}` twice; leave one of them out"))
                );
            }
            read.push(of);
        }
        Ok(self.add(Type::Union(read)))
    }

    fn complex(
        &mut self,
        kind: &str,
        attributes: &Map<String, Value>,
        namespace: &str,
    ) -> Result<usize, SchemaProblem> {
        match kind {
            "array" => {
                let items = self.attribute(attributes, "items", kind)?;
                let items = self.within("/items", |parser| parser.of(items, namespace))?;
                Ok(self.add(Type::Array(items)))
            }
            "map" => {
                let values = self.attribute(attributes, "values", kind)?;
                let values = self.within("/values", |parser| parser.of(values, namespace))?;
                Ok(self.add(Type::Map(values)))
            }
            "record" | "error" => self.record(attributes, namespace),
            "enum" => self.enumeration(attributes, namespace),
            "fixed" => self.fixed(attributes, namespace),
            name => self.named(name, namespace),
        }
    }

    fn attribute<'a>(
        &self,
        attributes: &'a Map<String, Value>,
        name: &str,
        kind: &str,
    ) -> Result<&'a Value, SchemaProblem> {
        attributes
            .get(name)
            .ok_or_else(|| self.problem(format!("a type `{kind}` has `{name}`, and this one has none")))
    }

    fn text<'a>(
        &self,
        attributes: &'a Map<String, Value>,
        name: &str,
    ) -> Result<Option<&'a str>, SchemaProblem> {
        match attributes.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.problem(format!("`{name}` is not a string"))),
        }
    }

    fn names(&self, attributes: &Map<String, Value>, name: &str) -> Result<Vec<String>, SchemaProblem> {
        let not_names = || self.problem(format!("`{name}` is not an array of names"));
        match attributes.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(not_names)).collect()
            }
            Some(_) => Err(not_names()),
        }
    }

    fn check_name(&self, name: &str, may_be_dotted: bool) -> Result<(), SchemaProblem> {
        if name.len() > limits::NAME_BYTES_MAX {
            return Err(
                self.problem(format!("a name has more than {} bytes; shorten it", limits::NAME_BYTES_MAX))
            );
        }
        let is_good = |part: &str| {
            let mut characters = part.chars();
            characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
                && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
        };
        let good = if may_be_dotted { name.split('.').all(is_good) } else { is_good(name) };
        if good {
            return Ok(());
        }
        Err(self.problem(format!(
            "`{name}` is not a name: letters, digits and underscores, the first not a digit{}",
            if may_be_dotted { ", with dots between the names of a namespace" } else { "" }
        )))
    }

    /// The names of a type that is defined here, and the namespace of what is inside. The name is known from here
    /// on.
    fn define(
        &mut self,
        attributes: &Map<String, Value>,
        namespace: &str,
    ) -> Result<(usize, Name, String), SchemaProblem> {
        let Some(name) = self.text(attributes, "name")? else {
            return Err(self.problem("a record, an enum or a fixed has a `name`, and this one has none"));
        };
        self.check_name(name, true)?;
        let own = self.text(attributes, "namespace")?;
        if let Some(own) = own.filter(|own| !own.is_empty() && !name.contains('.')) {
            self.check_name(own, true)?;
        }
        let full = full_name(name, own.unwrap_or(namespace));
        self.check_name(&full, true)?;
        if primitive(&full).is_some() {
            return Err(self.problem(format!("`{full}` is the name of a primitive type; use another")));
        }
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let aliases = self.names(attributes, "aliases")?;
        let aliases = aliases.iter().map(|alias| full_name(alias, &namespace)).collect();
        let name = Name { full: full.clone(), aliases };
        // What is inside may refer to it already.
        let at = self.add(Type::Record { name: name.clone(), fields: Vec::new() });
        if self.names.insert(full, (self.file, at)).is_some() {
            return Err(self.problem(format!(
                "`{}` is defined twice; refer to it by its name the second time",
                name.full
            )));
        }
        Ok((at, name, namespace))
    }

    fn record(&mut self, attributes: &Map<String, Value>, namespace: &str) -> Result<usize, SchemaProblem> {
        let (at, name, namespace) = self.define(attributes, namespace)?;
        let Value::Array(list) = self.attribute(attributes, "fields", "record")? else {
            return Err(self.problem("`fields` is not an array"));
        };
        let mut fields = Vec::with_capacity(list.len());
        let mut seen = HashSet::new();
        for (index, json) in list.iter().enumerate() {
            let field = self.within(&format!("/fields/{index}"), |parser| {
                let field = parser.field(json, &namespace)?;
                if !seen.insert(field.name.clone()) {
                    return Err(parser.problem(format!("the record has a field `{}` already", field.name)));
                }
                if field.default.is_some() {
                    let path = parser.path.clone();
                    parser.defaults.push(Defaulted { record: at, field: index, file: parser.file, path });
                }
                Ok(field)
            })?;
            fields.push(field);
        }
        self.types[at] = Slot::Type(Type::Record { name, fields });
        Ok(at)
    }

    fn field(&mut self, json: &Value, namespace: &str) -> Result<Field, SchemaProblem> {
        let Value::Object(attributes) = json else { return Err(self.problem("a field is not an object")) };
        let Some(name) = self.text(attributes, "name")? else {
            return Err(self.problem("a field has a `name`, and this one has none"));
        };
        self.check_name(name, false)?;
        let Some(of) = attributes.get("type") else {
            return Err(self.problem(format!("field `{name}` has no `type`")));
        };
        if let Some(order) = self.text(attributes, "order")?
            && !matches!(order, "ascending" | "descending" | "ignore")
        {
            return Err(self.problem("`order` is `ascending`, `descending` or `ignore`"));
        }
        let of = self.within("/type", |parser| parser.of(of, namespace))?;
        let aliases = self.names(attributes, "aliases")?;
        Ok(Field { name: name.to_owned(), aliases, of, default: attributes.get("default").cloned() })
    }

    fn enumeration(
        &mut self,
        attributes: &Map<String, Value>,
        namespace: &str,
    ) -> Result<usize, SchemaProblem> {
        let (at, name, _) = self.define(attributes, namespace)?;
        self.attribute(attributes, "symbols", "enum")?;
        let symbols = self.names(attributes, "symbols")?;
        let mut seen = HashSet::new();
        for symbol in &symbols {
            self.check_name(symbol, false)?;
            if !seen.insert(symbol.as_str()) {
                return Err(self.problem(format!("the enum has the symbol `{symbol}` twice")));
            }
        }
        let default = self.text(attributes, "default")?.map(str::to_owned);
        if let Some(default) = default.as_deref().filter(|default| !seen.contains(default)) {
            return Err(self.problem(format!("the default `{default}` is not among the enum's symbols")));
        }
        self.types[at] = Slot::Type(Type::Enum { name, symbols, default });
        Ok(at)
    }

    fn fixed(&mut self, attributes: &Map<String, Value>, namespace: &str) -> Result<usize, SchemaProblem> {
        let (at, name, _) = self.define(attributes, namespace)?;
        let size = self.attribute(attributes, "size", "fixed")?;
        let size = size.as_u64().and_then(|size| u32::try_from(size).ok());
        let size = size.ok_or_else(|| self.problem("`size` is not a number of bytes up to 4,294,967,295"))?;
        self.types[at] = Slot::Type(Type::Fixed { name, size: size as usize });
        Ok(at)
    }

    /// Looks up the names that were left open; the references of whose types the schema itself makes use.
    fn close(&mut self, references: &[Resolved]) -> Result<HashSet<usize>, SchemaProblem> {
        let mut used = HashSet::new();
        for at in 0..self.types.len() {
            let Slot::Open { names, file, path } = &self.types[at] else { continue };
            let found = names.iter().flatten().find_map(|name| self.names.get(name));
            let file = *file;
            let shown = names[0].as_deref().unwrap_or_default();
            let wrong = match found {
                Some((home, of)) if *home != file => {
                    if file == SCHEMA {
                        used.insert(*home);
                    }
                    self.types[at] = Slot::Found(*of);
                    continue;
                }
                Some(_) => {
                    format!("`{shown}` is used before it is defined; define it where it is used first")
                }
                None => format!(
                    "`{shown}` is not defined; define it, or add a reference whose name is `{shown}` to the subject \
                     and version that hold it"
                ),
            };
            let place = if path.is_empty() { "" } else { ": " };
            return Err(located(SchemaProblem::new(format!("{path}{place}{wrong}")), file, references));
        }
        Ok(used)
    }

    fn resolved(&self, at: usize) -> usize {
        match self.types.get(at) {
            Some(Slot::Found(of)) => *of,
            _ => at,
        }
    }

    /// The types, with every reference to an open name put right.
    fn finish(self) -> Vec<Type> {
        let found: Vec<usize> = (0..self.types.len()).map(|at| self.resolved(at)).collect();
        let types = self.types.into_iter().map(|slot| match slot {
            Slot::Type(Type::Array(items)) => Type::Array(found[items]),
            Slot::Type(Type::Map(values)) => Type::Map(found[values]),
            Slot::Type(Type::Union(branches)) => {
                Type::Union(branches.into_iter().map(|branch| found[branch]).collect())
            }
            Slot::Type(Type::Record { name, fields }) => {
                let fields = fields.into_iter().map(|field| Field { of: found[field.of], ..field }).collect();
                Type::Record { name, fields }
            }
            Slot::Type(other) => other,
            Slot::Open { .. } | Slot::Found(_) => Type::Null,
        });
        types.collect()
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}

/// The full name of what is called so within a namespace.
pub(super) fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
