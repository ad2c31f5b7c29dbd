//! Avro's schema resolution, asked of schemas before there is a value: the kinds are those of Avro's own checker.
//!
//! | difference, from the writer to the reader | kind |
//! | --- | --- |
//! | a type that cannot be promoted to the other | `TYPE_MISMATCH` |
//! | a record, enum or fixed of another name, and no alias says it | `NAME_MISMATCH` |
//! | a fixed of another size | `FIXED_SIZE_MISMATCH` |
//! | symbols gone from an enum without a default | `MISSING_ENUM_SYMBOLS` |
//! | a new field without a default | `READER_FIELD_MISSING_DEFAULT_VALUE` |
//! | a branch that no branch of the reader's union reads | `MISSING_UNION_BRANCH` |
//!
//! Types may be recursive, so the question is which pairs of a reader's and a writer's type can be read, where a
//! pair may rest on itself. All pairs that the roots lead to are gathered; those that are at odds by themselves
//! are marked, and whatever needs a marked one is marked too, until nothing more is. Each pair is looked at once,
//! and nothing recurses, however long a chain of types is.

use super::{AvroSchema, Field, Name, Type};
use crate::schemas::{format::Incompatibility, limits};
use std::collections::{HashMap, HashSet};

/// Pairs that are compared. Schemas that came of each other have about as many as they have types.
const PAIRS_MAX: usize = 200_000;

/// What of the values written by `writer` cannot be read by `reader`.
pub(in crate::schemas) fn incompatibilities(
    reader: &AvroSchema,
    writer: &AvroSchema,
) -> Vec<Incompatibility> {
    let mut pairs = Pairs { reader, writer, places: HashMap::new(), nodes: Vec::new(), waiting: Vec::new() };
    let root = pairs.place(reader.root, writer.root);
    while let Some((place, reads, wrote)) = pairs.waiting.pop() {
        if pairs.nodes.len() > PAIRS_MAX {
            return vec![Incompatibility {
                kind: "TOO_COMPLEX",
                path: "/".to_owned(),
                message: format!(
                    "the two refer to each other's types in more than {PAIRS_MAX} ways, which are not compared; keep \
                     the types' names apart"
                ),
            }];
        }
        pairs.nodes[place] = pairs.node(reads, wrote);
    }
    let bad = marked(&pairs.nodes);
    report(&pairs.nodes, &bad, root)
}

#[derive(Default)]
struct Node {
    /// What is at odds here, whatever the parts are: kind, step, sentence.
    found: Vec<(&'static str, String, String)>,
    /// What must be read besides, each with the step to it.
    parts: Vec<(String, usize)>,
    /// Of which one must be read: a branch of the writer, or its only type, with the reader's branches for it.
    choices: Vec<Choice>,
}

struct Choice {
    step: String,
    /// The writer's type, as a person calls it.
    shown: String,
    of: Vec<usize>,
}

struct Pairs<'a> {
    reader: &'a AvroSchema,
    writer: &'a AvroSchema,
    places: HashMap<(usize, usize), usize>,
    nodes: Vec<Node>,
    waiting: Vec<(usize, usize, usize)>,
}

impl Pairs<'_> {
    fn place(&mut self, reads: usize, wrote: usize) -> usize {
        if let Some(place) = self.places.get(&(reads, wrote)) {
            return *place;
        }
        let place = self.nodes.len();
        self.nodes.push(Node::default());
        self.places.insert((reads, wrote), place);
        self.waiting.push((place, reads, wrote));
        place
    }

    fn node(&mut self, reads: usize, wrote: usize) -> Node {
        let mut node = Node::default();
        let (reader, writer) = (&self.reader.types[reads], &self.writer.types[wrote]);
        match (reader, writer) {
            (Type::Union(branches), Type::Union(written)) => {
                for (index, branch) in written.iter().enumerate() {
                    let choice = self.choice(format!("/{index}"), branches, *branch);
                    node.choices.push(choice);
                }
            }
            (_, Type::Union(written)) => {
                for (index, branch) in written.iter().enumerate() {
                    node.parts.push((format!("/{index}"), self.place(reads, *branch)));
                }
            }
            (Type::Union(branches), _) => {
                let choice = self.choice(String::new(), branches, wrote);
                node.choices.push(choice);
            }
            (Type::Array(reads), Type::Array(wrote)) => {
                node.parts.push(("/items".to_owned(), self.place(*reads, *wrote)));
            }
            (Type::Map(reads), Type::Map(wrote)) => {
                node.parts.push(("/values".to_owned(), self.place(*reads, *wrote)));
            }
            (Type::Record { name, fields }, Type::Record { name: other, fields: written }) => {
                if names(name, other, "record", &mut node) {
                    self.fields(fields, written, &mut node);
                }
            }
            (Type::Enum { name, symbols, default }, Type::Enum { name: other, symbols: written, .. }) => {
                names(name, other, "enum", &mut node);
                let known: HashSet<&String> = symbols.iter().collect();
                let missing: Vec<&str> =
                    written.iter().filter(|symbol| !known.contains(symbol)).take(20).map(String::as_str).collect();
                if !missing.is_empty() && default.is_none() {
                    node.found.push((
                        "MISSING_ENUM_SYMBOLS",
                        "/symbols".to_owned(),
                        format!(
                            "the enum `{}` lacks the symbols {} that were written; keep them, or give the enum a default",
                            name.full,
                            missing.join(", ")
                        ),
                    ));
                }
            }
            (Type::Fixed { name, size }, Type::Fixed { name: other, size: written }) => {
                names(name, other, "fixed", &mut node);
                if size != written {
                    node.found.push((
                        "FIXED_SIZE_MISMATCH",
                        "/size".to_owned(),
                        format!("the fixed `{}` had {written} bytes and has {size}; keep the size", name.full),
                    ));
                }
            }
            (reader, writer) if promotes(reader, writer) => {}
            (reader, writer) => node.found.push((
                "TYPE_MISMATCH",
                String::new(),
                format!(
                    "{} was written and {} would be read, which it does not become; keep the type, or add a union branch",
                    writer.shown(),
                    reader.shown()
                ),
            )),
        }
        node
    }

    /// The reader's branches that may read one of the writer's types. Those of another kind or name are left out
    /// here, so that two unions are not multiplied.
    fn choice(&mut self, step: String, branches: &[usize], wrote: usize) -> Choice {
        let writer = &self.writer.types[wrote];
        let shown = writer.shown();
        let mut of = Vec::new();
        for branch in branches {
            if may_read(&self.reader.types[*branch], writer) {
                of.push(self.place(*branch, wrote));
            }
        }
        Choice { step, shown, of }
    }

    fn fields(&mut self, fields: &[Field], written: &[Field], node: &mut Node) {
        let by_name: HashMap<&str, &Field> =
            written.iter().map(|field| (field.name.as_str(), field)).collect();
        for (index, field) in fields.iter().enumerate() {
            let mut called = std::iter::once(&field.name).chain(&field.aliases);
            match called.find_map(|name| by_name.get(name.as_str())) {
                Some(wrote) => {
                    node.parts.push((format!("/fields/{index}/type"), self.place(field.of, wrote.of)))
                }
                None if field.default.is_some() => {}
                None => node.found.push((
                    "READER_FIELD_MISSING_DEFAULT_VALUE",
                    format!("/fields/{index}"),
                    format!(
                        "field `{}` is not in what was written and has no default; give it a default",
                        field.name
                    ),
                )),
            }
        }
    }
}

fn names(reader: &Name, writer: &Name, kind: &str, node: &mut Node) -> bool {
    let is_called = is_called(reader, writer);
    if !is_called {
        node.found.push((
            "NAME_MISMATCH",
            "/name".to_owned(),
            format!(
                "the {kind} was called `{}` and is called `{}`; keep the name, or add the former one to `aliases`",
                writer.full, reader.full
            ),
        ));
    }
    is_called
}

fn is_called(reader: &Name, writer: &Name) -> bool {
    reader.simple() == writer.simple() || reader.aliases.contains(&writer.full)
}

fn promotes(reader: &Type, writer: &Type) -> bool {
    reader.kind() == writer.kind()
        || matches!(
            (writer, reader),
            (Type::Int, Type::Long | Type::Float | Type::Double)
                | (Type::Long, Type::Float | Type::Double)
                | (Type::Float, Type::Double)
                | (Type::String, Type::Bytes)
                | (Type::Bytes, Type::String)
        )
}

fn may_read(reader: &Type, writer: &Type) -> bool {
    match (reader.name(), writer.name()) {
        (Some(reads), Some(wrote)) => reader.kind() == writer.kind() && is_called(reads, wrote),
        (None, None) => promotes(reader, writer),
        _ => false,
    }
}

/// Which pairs cannot be read.
fn marked(nodes: &[Node]) -> Vec<bool> {
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (place, node) in nodes.iter().enumerate() {
        let choices = node.choices.iter().flat_map(|choice| choice.of.iter().copied());
        for part in node.parts.iter().map(|(_, part)| *part).chain(choices) {
            needed_by[part].push(place);
        }
    }
    let is_bad = |node: &Node, bad: &[bool]| {
        !node.found.is_empty()
            || node.parts.iter().any(|(_, part)| bad[*part])
            || node.choices.iter().any(|choice| choice.of.iter().all(|one| bad[*one]))
    };
    let mut bad = vec![false; nodes.len()];
    let mut waiting: Vec<usize> = (0..nodes.len()).collect();
    while let Some(place) = waiting.pop() {
        if !bad[place] && is_bad(&nodes[place], &bad) {
            bad[place] = true;
            waiting.extend(&needed_by[place]);
        }
    }
    bad
}

/// What is wrong with the pairs that a bad one rests on, each told where it is met first.
fn report(nodes: &[Node], bad: &[bool], root: usize) -> Vec<Incompatibility> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut waiting = vec![(root, String::new())];
    while let Some((place, path)) = waiting.pop() {
        if found.len() >= limits::INCOMPATIBILITIES_MAX {
            break;
        }
        let node = &nodes[place];
        let at = |step: &str| match (path.as_str(), step) {
            ("", "") => "/".to_owned(),
            (path, step) => format!("{path}{step}"),
        };
        for (kind, step, message) in &node.found {
            found.push(Incompatibility { kind, path: at(step), message: message.clone() });
        }
        let mut deeper: Vec<(&str, usize)> = node
            .parts
            .iter()
            .filter(|(_, part)| bad[*part])
            .map(|(step, part)| (step.as_str(), *part))
            .collect();
        for choice in node.choices.iter().filter(|choice| choice.of.iter().all(|one| bad[*one])) {
            // Where one branch alone could have been meant, what is wrong with that one is the thing to tell.
            if let [one] = choice.of.as_slice() {
                deeper.push((&choice.step, *one));
                continue;
            }
            let message = format!(
                "{} was written, and no branch of the reader's union reads it; keep such a branch",
                choice.shown
            );
            found.push(Incompatibility { kind: "MISSING_UNION_BRANCH", path: at(&choice.step), message });
        }
        // The last that is put on the stack is looked at first.
        for (step, part) in deeper.into_iter().rev() {
            if seen.insert(part) {
                waiting.push((part, format!("{path}{step}")));
            }
        }
    }
    found.truncate(limits::INCOMPATIBILITIES_MAX);
    found
}
