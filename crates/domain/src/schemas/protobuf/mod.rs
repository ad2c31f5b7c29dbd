//! Protocol Buffers: `proto2` and `proto3`.
//!
//! A schema is one file. What it imports is given with it or built in (Google's well-known and common types,
//! Confluent's). Messages are named by their full names, and by their index: their place among the top level
//! messages, then among those nested in that one, and so on. Entries of maps and groups have no place of their
//! own, as in Confluent's Java clients.
//!
//! | module | holds |
//! | --- | --- |
//! | `prescan`, `validate` | the bounds, before the parser and after it |
//! | `resolve` | imports, and from texts to descriptors |
//! | `print` | the canonical and the normalized text |
//! | `compare` | what a reader cannot read, and reservations that are used again |
//! | `values` | JSON to bytes and back |
//! | `serialized` | descriptors in place of texts |

mod builtin;
mod compare;
mod prescan;
mod print;
mod ranges;
mod resolve;
mod serialized;
mod validate;
mod values;

#[cfg(test)]
mod tests;

pub(super) use compare::{incompatibilities, reused_reservations};
pub use serialized::text_of_serialized;
pub(crate) use values::json_of;

use super::format::{Resolved, SchemaProblem};
use prost_reflect::{
    DescriptorPool, ExtensionDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor,
};
use prost_types::FileDescriptorProto;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::OnceLock,
};

/// A Protobuf schema: one file, resolved against what it imports.
pub struct ProtobufSchema {
    /// The file as it was parsed, without the places in its text.
    file: FileDescriptorProto,
    resolved: FileDescriptor,
    canonical: String,
    normalized: OnceLock<String>,
    names: Vec<String>,
    messages: Vec<Message>,
    by_name: HashMap<String, usize>,
    by_index: HashMap<Vec<i32>, usize>,
    /// The index as some clients count, who give entries of maps a place.
    by_index_with_entries: HashMap<Vec<i32>, usize>,
    imports: Vec<String>,
    /// Full names of the messages that groups are made of.
    groups: HashSet<String>,
}

struct Message {
    descriptor: MessageDescriptor,
    index: Vec<i32>,
}

impl ProtobufSchema {
    pub(super) fn parse(text: &str, references: &[Resolved]) -> Result<Self, SchemaProblem> {
        let (file, resolved) = resolve::resolve(text, references)?;
        let canonical = print::print(&file, None);
        let imports: Vec<String> = {
            let given: HashSet<&str> = references.iter().map(|reference| reference.name.as_str()).collect();
            let by_reference =
                |path: &&String| !builtin::is_well_known(path) && given.contains(path.as_str());
            file.dependency.iter().filter(by_reference).cloned().collect()
        };
        let mut schema = Self {
            file,
            resolved,
            canonical,
            normalized: OnceLock::new(),
            names: Vec::new(),
            messages: Vec::new(),
            by_name: HashMap::new(),
            by_index: HashMap::new(),
            by_index_with_entries: HashMap::new(),
            imports,
            groups: HashSet::new(),
        };
        let top: Vec<MessageDescriptor> = schema.resolved.messages().collect();
        schema.collect_groups(&top);
        schema.collect_messages(top.into_iter(), &[], &[]);
        Ok(schema)
    }

    fn collect_groups(&mut self, messages: &[MessageDescriptor]) {
        let of_extension = self.resolved.parent_pool().all_extensions().filter(ExtensionDescriptor::is_group);
        let kinds: Vec<_> = of_extension.map(|extension| extension.kind()).collect();
        self.groups.extend(kinds.iter().filter_map(|kind| Some(kind.as_message()?.full_name().to_owned())));
        for message in messages {
            for field in message.fields().filter(FieldDescriptor::is_group) {
                if let Some(group) = field.kind().as_message() {
                    self.groups.insert(group.full_name().to_owned());
                }
            }
            let nested: Vec<MessageDescriptor> = message.child_messages().collect();
            self.collect_groups(&nested);
        }
    }

    fn collect_messages(
        &mut self,
        messages: impl Iterator<Item = MessageDescriptor>,
        outer: &[i32],
        outer_with_entries: &[i32],
    ) {
        let mut place = 0;
        for (descriptor, place_with_entries) in messages.zip(0..) {
            if descriptor.is_map_entry() || self.groups.contains(descriptor.full_name()) {
                continue;
            }
            let index = [outer, &[place]].concat();
            let index_with_entries = [outer_with_entries, &[place_with_entries]].concat();
            place += 1;
            let at = self.messages.len();
            self.names.push(descriptor.full_name().to_owned());
            self.by_name.insert(descriptor.full_name().to_owned(), at);
            self.by_index.insert(index.clone(), at);
            self.by_index_with_entries.insert(index_with_entries.clone(), at);
            let nested: Vec<MessageDescriptor> = descriptor.child_messages().collect();
            self.messages.push(Message { descriptor, index: index.clone() });
            self.collect_messages(nested.into_iter(), &index, &index_with_entries);
        }
    }

    /// See [`super::ParsedSchema::canonical`].
    pub(super) fn canonical(&self) -> &str {
        &self.canonical
    }

    /// See [`super::ParsedSchema::normalized`].
    pub(super) fn normalized(&self) -> &str {
        self.normalized.get_or_init(|| print::print(&self.file, Some(self.pool())))
    }

    /// Full names of the file's messages, each before those nested in it.
    pub fn message_names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The package; empty if there is none.
    pub fn package(&self) -> &str {
        self.file.package()
    }

    /// Every descriptor of the file and of what it imports.
    pub fn pool(&self) -> &DescriptorPool {
        self.resolved.parent_pool()
    }

    /// A message of the file by its full name, or by its name within the package; `None` is the first message.
    pub fn message(&self, name: Option<&str>) -> Option<&MessageDescriptor> {
        self.find(name).map(|message| &message.descriptor)
    }

    /// The index of a message, found as [`Self::message`] does. Its steps are as [`super::framing`] writes them.
    pub fn index_of(&self, name: Option<&str>) -> Option<&[i32]> {
        self.find(name).map(|message| message.index.as_slice())
    }

    /// The message at an index, as it was read from a frame.
    ///
    /// Where nothing has that index, entries of maps are counted too, as some clients do.
    pub fn message_at(&self, index: &[i32]) -> Option<&MessageDescriptor> {
        let at = self.by_index.get(index).or_else(|| self.by_index_with_entries.get(index))?;
        self.messages.get(*at).map(|message| &message.descriptor)
    }

    fn find(&self, name: Option<&str>) -> Option<&Message> {
        let at = match name {
            None => 0,
            Some(name) => match self.by_name.get(name.strip_prefix('.').unwrap_or(name)) {
                Some(at) => *at,
                None => *self.by_name.get(&format!("{}.{name}", self.package()))?,
            },
        };
        self.messages.get(at)
    }
}

impl fmt::Debug for ProtobufSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtobufSchema").field("canonical", &self.canonical).finish_non_exhaustive()
    }
}
