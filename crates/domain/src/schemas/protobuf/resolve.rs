//! From texts to descriptors: imports are found, files put in order, names resolved.
//!
//! Invariants: a file is read once and comes after all that it imports; the way through the imports is a loop,
//! not a recursion, so that a chain of them may be as long as the limits allow; what each file sees of public
//! imports is written out for the resolver, which follows them itself in time that can double with each step.

use super::{builtin, prescan::prescan, validate};
use crate::schemas::format::{Position, Resolved, SchemaProblem};
use prost_reflect::{DescriptorPool, FileDescriptor};
use prost_types::FileDescriptorProto;
use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The schema's file as it was parsed, and resolved.
pub(super) fn resolve(
    text: &str,
    references: &[Resolved],
) -> Result<(FileDescriptorProto, FileDescriptor), SchemaProblem> {
    let given: HashMap<&str, &str> =
        references.iter().map(|reference| (reference.name.as_str(), reference.text.as_str())).collect();
    let mut root_name = "schema.proto".to_owned();
    while given.contains_key(root_name.as_str()) {
        root_name.insert(0, '_');
    }
    let root = Source::read(&root_name, text).map_err(|problem| at_home(problem, &root_name, &root_name))?;
    let file = FileDescriptorProto { source_code_info: None, ..root.file.clone() };
    let mut imports =
        Imports { given, root: root_name.clone(), done: HashMap::new(), pool: DescriptorPool::new() };
    imports.walk(root)?;
    let resolved = imports.pool.get_file_by_name(&root_name);
    let resolved = resolved.ok_or_else(|| SchemaProblem::new("the schema could not be resolved"))?;
    Ok((file, resolved))
}

/// A problem found in a file, told of a reference if that is what the file is.
fn at_home(problem: SchemaProblem, file: &str, root: &str) -> SchemaProblem {
    if file == root { problem } else { problem.of_reference(file) }
}

struct Source {
    file: FileDescriptorProto,
}

impl Source {
    fn read(name: &str, text: &str) -> Result<Self, SchemaProblem> {
        prescan(text)?;
        // The parser is another's. What it is not ready for must not end the service.
        let parsed = catch_unwind(|| protox_parse::parse(name, text));
        let file = match parsed {
            Ok(Ok(file)) => file,
            Ok(Err(error)) => {
                let position = error.span().map(|span| Position::of_offset(text, span.start));
                let at_end = || error.to_string().contains("end of file");
                let position = position.or_else(|| at_end().then(|| Position::of_offset(text, text.len())));
                return Err(SchemaProblem::new(error.to_string()).at(position));
            }
            Err(_) => return Err(SchemaProblem::new("the parser failed on this text; is it a .proto file?")),
        };
        let mut seen = HashSet::new();
        if let Some(index) = file.dependency.iter().position(|path| !seen.insert(path.as_str())) {
            let message =
                format!("import `{}` is listed twice; leave one of them out", file.dependency[index]);
            return Err(SchemaProblem::new(message).at(position(&file, &[IMPORT, index as i32])));
        }
        match validate::validate(&file) {
            Ok(()) => Ok(Self { file }),
            Err(found) => Err(SchemaProblem::new(found.message).at(position(&file, &found.path))),
        }
    }
}

const IMPORT: i32 = 3;

/// The place of what a path leads to, or of the nearest thing around it.
fn position(file: &FileDescriptorProto, path: &[i32]) -> Option<Position> {
    let locations = &file.source_code_info.as_ref()?.location;
    let around = |length: usize| {
        let path = &path[..length];
        let at = locations.binary_search_by(|location| location.path.as_slice().cmp(path)).ok()?;
        let [line, column, ..] = locations[at].span.as_slice() else { return None };
        Some(Position { line: *line as usize + 1, column: *column as usize + 1 })
    };
    (1..=path.len()).rev().find_map(around)
}

struct Imports<'a> {
    given: HashMap<&'a str, &'a str>,
    root: String,
    /// The files that are in the pool, each with what one sees who imports it: itself, and what it imports
    /// publicly.
    done: HashMap<String, Vec<String>>,
    pool: DescriptorPool,
}

/// A file that waits for its imports.
struct Waiting {
    source: Source,
    next: usize,
}

impl Imports<'_> {
    fn walk(&mut self, root: Source) -> Result<(), SchemaProblem> {
        let mut open: HashSet<String> = HashSet::from([self.root.clone()]);
        let mut stack = vec![Waiting { source: root, next: 0 }];
        while let Some(top) = stack.last_mut() {
            let file = &top.source.file;
            let Some(path) = file.dependency.get(top.next).cloned() else {
                open.remove(file.name());
                if let Some(Waiting { source, .. }) = stack.pop() {
                    self.add(&source.file)?;
                }
                continue;
            };
            let place = position(file, &[IMPORT, top.next as i32]);
            top.next += 1;
            if self.done.contains_key(&path) {
                continue;
            }
            let importer = file.name().to_owned();
            // The schema's own name is one that nothing can import.
            if path != self.root && open.contains(&path) {
                let first = stack.iter().position(|waiting| waiting.source.file.name() == path).unwrap_or(0);
                let cycle: Vec<&str> =
                    stack[first..].iter().map(|waiting| waiting.source.file.name()).collect();
                let message = format!(
                    "the imports go round in a circle: {} -> {path}; move what both need to a file of its own",
                    cycle.join(" -> ")
                );
                return Err(at_home(SchemaProblem::new(message).at(place), &importer, &self.root));
            }
            let source = self.open(&path).ok_or_else(|| {
                let message = format!(
                    "import `{path}` is not among the references; add a reference whose name is `{path}` to the \
                     subject and version that hold it"
                );
                at_home(SchemaProblem::new(message).at(place), &importer, &self.root)
            })?;
            open.insert(path);
            stack.push(Waiting { source: source?, next: 0 });
        }
        Ok(())
    }

    /// The file of a path; `None` if there is none.
    fn open(&self, path: &str) -> Option<Result<Source, SchemaProblem>> {
        if !builtin::is_well_known(path)
            && path != self.root
            && let Some(text) = self.given.get(path)
        {
            return Some(Source::read(path, text).map_err(|problem| problem.of_reference(path)));
        }
        builtin::file(path).map(|file| Ok(Source { file }))
    }

    /// Adds a file to the pool, all of whose imports are in it.
    fn add(&mut self, file: &FileDescriptorProto) -> Result<(), SchemaProblem> {
        let mut visible: Vec<String> = Vec::new();
        let mut seen: HashSet<String> = HashSet::new();
        let mut public = vec![file.name().to_owned()];
        for (path, index) in file.dependency.iter().zip(0_i32..) {
            let behind = self.done.get(path).map(Vec::as_slice).unwrap_or_default();
            visible.extend(behind.iter().filter(|path| seen.insert((*path).clone())).cloned());
            if file.public_dependency.contains(&index) {
                public.extend(behind.iter().cloned());
            }
        }
        public.sort_unstable();
        public.dedup();
        let mut copy = validate::without_checked(file);
        copy.dependency = visible;
        copy.public_dependency.clear();
        copy.weak_dependency.clear();
        let pool = &mut self.pool;
        // As with the parser: what the resolver is not ready for is the text's problem, not the service's end.
        let added = catch_unwind(AssertUnwindSafe(|| pool.add_file_descriptor_proto(copy)));
        let problem = match added {
            Ok(Ok(())) => {
                self.done.insert(file.name().to_owned(), public);
                return Ok(());
            }
            Ok(Err(error)) => {
                let place = error.path().and_then(|path| position(file, path));
                SchemaProblem::new(advised(&error.to_string())).at(place)
            }
            Err(_) => SchemaProblem::new("the resolver failed on this text; is it what protoc accepts?"),
        };
        Err(at_home(problem, file.name(), &self.root))
    }
}

/// What to do about a problem of the resolver, where its own words leave that open.
fn advised(message: &str) -> String {
    let advice = if message.starts_with("name '") && message.ends_with("is not defined") {
        "; define it, or import the file that does"
    } else if message.contains("is already used") || message.contains("is defined twice") {
        "; give each its own"
    } else if message.starts_with("option field") && message.ends_with("is not defined") {
        "; import the file that defines the option, or leave it out"
    } else if message.contains("enum number") && message.contains("already") {
        "; use another number, or set `option allow_alias = true;`"
    } else {
        ""
    };
    format!("{message}{advice}")
}
