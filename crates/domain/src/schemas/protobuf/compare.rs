//! What a reader cannot read of what a writer wrote.
//!
//! The kinds, and what is compatible, are Confluent's where Confluent has a rule:
//!
//! | difference, from the writer to the reader | verdict |
//! | --- | --- |
//! | field or enum or value added, removed or renamed; message added or moved; oneof added or removed | compatible |
//! | scalar of the same group (see `Group`); packed or not; an optional field that becomes a member of a new oneof | compatible |
//! | `string`, `bytes` or message that becomes repeated or stops to be | compatible: the last one, or all merged, is read |
//! | another package | `PACKAGE_CHANGED` |
//! | message gone, as it is if it is renamed | `MESSAGE_REMOVED` |
//! | scalar of another group | `FIELD_SCALAR_KIND_CHANGED` |
//! | scalar, message, group and map changed to another of these | `FIELD_KIND_CHANGED` |
//! | another message type | `FIELD_NAMED_TYPE_CHANGED` |
//! | a number, enum or bool that becomes repeated or stops to be | `FIELD_NUMERIC_LABEL_CHANGED` |
//! | a required field that the writer has not, or need not write | `REQUIRED_FIELD_ADDED` |
//! | a required field gone | `REQUIRED_FIELD_REMOVED` |
//! | a member of a oneof gone from the message | `ONEOF_FIELD_REMOVED` |
//! | fields joined in one oneof that could be set at once | `MULTIPLE_FIELDS_MOVED_TO_ONEOF`, `FIELD_MOVED_TO_EXISTING_ONEOF` |
//! | a number or name that the former schema reserved is used | `RESERVED_NUMBER_REUSED`, `RESERVED_NAME_REUSED` |
//!
//! Compatible within a group means, as Protobuf's own rules for updates have it: a number that does not fit the
//! reader's type is cut to it as in a cast, and `bytes` that become `string` must be UTF-8.
//!
//! Types that are imported are compared as those of the file are, each pair once; well-known types are what they
//! are. Reservations need the order of the two, so they are a question of their own.

use super::{
    ProtobufSchema, builtin,
    print::{group_types, is_map_entry},
    ranges::Ranges,
};
use crate::schemas::{format::Incompatibility, limits};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};
use prost_types::{DescriptorProto, EnumDescriptorProto};
use std::collections::{HashMap, HashSet, VecDeque};

/// What of the values written by `writer` cannot be read by `reader`.
pub(in crate::schemas) fn incompatibilities(
    reader: &ProtobufSchema,
    writer: &ProtobufSchema,
) -> Vec<Incompatibility> {
    let mut comparison = Comparison {
        reader,
        writer,
        found: Vec::new(),
        seen: HashSet::new(),
        imported: VecDeque::new(),
        left: FIELDS_MAX,
    };
    comparison.run();
    comparison.found
}

struct Comparison<'a> {
    reader: &'a ProtobufSchema,
    writer: &'a ProtobufSchema,
    found: Vec<Incompatibility>,
    /// Pairs of imported messages that were compared, or wait for it.
    seen: HashSet<(String, String)>,
    imported: VecDeque<(MessageDescriptor, MessageDescriptor)>,
    /// How many more fields are compared.
    left: usize,
}

/// Fields that are compared. Schemas that came of each other have as many as they have fields.
const FIELDS_MAX: usize = 1_000_000;

impl Comparison<'_> {
    fn run(&mut self) {
        let (reads, wrote) = (self.reader.package(), self.writer.package());
        if reads != wrote {
            self.add(
                "PACKAGE_CHANGED",
                "#/",
                format!(
                    "the package was `{wrote}` and is `{reads}`, which gives every type another name; keep it"
                ),
            );
        }
        let readers: HashMap<String, MessageDescriptor> =
            self.reader.resolved.messages().map(|message| (message.name().to_owned(), message)).collect();
        for message in self.writer.resolved.messages() {
            let path = format!("#/{}", message.name());
            self.pair(readers.get(message.name()), &message, &path);
        }
        while let Some((reader, writer)) = self.imported.pop_front() {
            let path = format!("#/{}", local_name(&writer));
            self.messages(&reader, &writer, &path);
        }
    }

    fn is_full(&self) -> bool {
        self.found.len() >= limits::INCOMPATIBILITIES_MAX
    }

    fn add(&mut self, kind: &'static str, path: &str, message: String) {
        if !self.is_full() {
            self.found.push(Incompatibility { kind, path: path.to_owned(), message });
        }
    }

    /// A message of the writer and the one of that name of the reader.
    fn pair(&mut self, reader: Option<&MessageDescriptor>, writer: &MessageDescriptor, path: &str) {
        if writer.is_map_entry() || self.writer.groups.contains(writer.full_name()) {
            return;
        }
        match reader {
            Some(reader) => self.messages(reader, writer, path),
            None => self.add(
                "MESSAGE_REMOVED",
                path,
                format!(
                    "message `{}` is not there any more, so what was written of it cannot be read; keep it under \
                     its name",
                    writer.full_name()
                ),
            ),
        }
    }

    fn messages(&mut self, reader: &MessageDescriptor, writer: &MessageDescriptor, path: &str) {
        if self.is_full() || self.left == 0 {
            return;
        }
        self.left = self.left.saturating_sub(writer.fields().len() + reader.fields().len() + 1);
        if self.left == 0 {
            let message = format!(
                "the two refer to each other's types in so many ways that more than {FIELDS_MAX} fields were to be \
                 compared; keep the types' names apart"
            );
            return self.add("TOO_COMPLEX", path, message);
        }
        for wrote in writer.fields() {
            match reader.get_field(wrote.number()) {
                Some(reads) => self.fields(&reads, &wrote, path),
                None => self.removed(reader, &wrote, path),
            }
        }
        for reads in reader.fields().filter(FieldDescriptor::is_required) {
            if writer.get_field(reads.number()).is_none() {
                self.add(
                    "REQUIRED_FIELD_ADDED",
                    &format!("{path}/{}", reads.number()),
                    format!(
                        "field `{}` is required, and values written before do not have it; make it optional",
                        reads.name()
                    ),
                );
            }
        }
        for oneof in reader.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            self.oneof(&oneof, writer, path);
        }
        for wrote in writer.extensions() {
            if let Some(reads) = reader.get_extension(wrote.number()) {
                let path = format!("{path}/{}", wrote.number());
                let (reads_many, wrote_many) = (reads.is_list(), wrote.is_list());
                let types =
                    (Type::of(&reads.kind(), reads.is_group()), Type::of(&wrote.kind(), wrote.is_group()));
                if self.types(&types.0, &types.1, wrote.full_name(), &path) && reads_many != wrote_many {
                    self.label(&types.1, wrote.full_name(), reads_many, &path);
                }
            }
        }
        let nested: HashMap<String, MessageDescriptor> =
            reader.child_messages().map(|message| (message.name().to_owned(), message)).collect();
        for message in writer.child_messages() {
            let path = format!("{path}/{}", message.name());
            self.pair(nested.get(message.name()), &message, &path);
        }
    }

    fn removed(&mut self, reader: &MessageDescriptor, wrote: &FieldDescriptor, path: &str) {
        if wrote.is_required() {
            self.add(
                "REQUIRED_FIELD_REMOVED",
                &format!("{path}/{}", wrote.number()),
                format!("field `{}` was required and is not there any more; keep it", wrote.name()),
            );
        } else if let Some(oneof) = wrote.containing_oneof().filter(|oneof| !oneof.is_synthetic())
            && reader.oneofs().any(|other| other.name() == oneof.name())
        {
            self.add(
                "ONEOF_FIELD_REMOVED",
                &format!("{path}/{}/{}", oneof.name(), wrote.number()),
                format!(
                    "field `{}` is gone from the oneof `{}`, so a value that has it reads as if nothing were set; \
                     keep it",
                    wrote.name(),
                    oneof.name()
                ),
            );
        }
    }

    fn fields(&mut self, reads: &FieldDescriptor, wrote: &FieldDescriptor, path: &str) {
        let path = &format!("{path}/{}", wrote.number());
        if reads.is_required() && !wrote.is_required() {
            self.add(
                "REQUIRED_FIELD_ADDED",
                path,
                format!("field `{}` became required, and values may lack it; keep it optional", reads.name()),
            );
        }
        let (reader, writer) = (Type::of_field(reads), Type::of_field(wrote));
        if !self.types(&reader, &writer, wrote.name(), path) {
            return;
        }
        let is_many = |field: &FieldDescriptor| field.cardinality() == Cardinality::Repeated;
        if is_many(reads) != is_many(wrote) {
            self.label(&writer, wrote.name(), is_many(reads), path);
        }
    }

    fn label(&mut self, writer: &Type, name: &str, reads_many: bool, path: &str) {
        // What is length delimited is read either way: the last, or all of them merged.
        if let Type::Scalar(group, _) = writer
            && *group != Group::StringOrBytes
        {
            let change = if reads_many { "became repeated" } else { "is not repeated any more" };
            self.add(
                "FIELD_NUMERIC_LABEL_CHANGED",
                path,
                format!("field `{name}` {change}, which is encoded differently; use a new field number"),
            );
        }
    }

    /// Compares types; false if they are of different kinds, so that no more is to be said.
    fn types(&mut self, reader: &Type, writer: &Type, name: &str, path: &str) -> bool {
        match (reader, writer) {
            (Type::Scalar(reads, reader), Type::Scalar(wrote, writer)) => {
                if reads != wrote {
                    self.add(
                        "FIELD_SCALAR_KIND_CHANGED",
                        path,
                        format!(
                            "field `{name}` was written as {writer} and would be read as {reader}, which is encoded \
                             differently; keep the type, or use a new field number for the new one"
                        ),
                    );
                }
                reads == wrote
            }
            (Type::Map(reads_key, reads_value), Type::Map(wrote_key, wrote_value)) => {
                self.types(reads_key, wrote_key, name, path);
                self.types(reads_value, wrote_value, name, path);
                true
            }
            (Type::Message(reads), Type::Message(wrote)) => {
                self.named(reads, wrote, name, path);
                true
            }
            // A group's message is nobody else's, so its fields are all there is to compare.
            (Type::Group(reads), Type::Group(wrote)) => {
                self.later(reads, wrote);
                true
            }
            _ => {
                self.add(
                    "FIELD_KIND_CHANGED",
                    path,
                    format!(
                        "field `{name}` was written as {} and would be read as {}; keep the type, or use a new field \
                         number for the new one",
                        writer.describe(),
                        reader.describe()
                    ),
                );
                false
            }
        }
    }

    fn named(&mut self, reads: &MessageDescriptor, wrote: &MessageDescriptor, name: &str, path: &str) {
        let (reader, writer) = (local_name(reads), local_name(wrote));
        if reader != writer {
            self.add(
                "FIELD_NAMED_TYPE_CHANGED",
                path,
                format!(
                    "field `{name}` was a `{writer}` and is a `{reader}`; keep the type, or use a new field number for \
                     the new one"
                ),
            );
            return;
        }
        let at_home = |message: &MessageDescriptor, schema: &ProtobufSchema| {
            message.parent_file().name() == schema.resolved.name()
        };
        // Those of both files themselves are compared where they stand.
        if !(at_home(reads, self.reader) && at_home(wrote, self.writer)) {
            self.later(reads, wrote);
        }
    }

    fn later(&mut self, reads: &MessageDescriptor, wrote: &MessageDescriptor) {
        let is_well_known =
            |message: &MessageDescriptor| builtin::is_well_known(message.parent_file().name());
        if is_well_known(reads) && is_well_known(wrote) {
            return;
        }
        if self.seen.insert((reads.full_name().to_owned(), wrote.full_name().to_owned())) {
            self.imported.push_back((reads.clone(), wrote.clone()));
        }
    }

    /// A oneof of the reader holds one field at most, so no two of its fields may have been set at once.
    fn oneof(&mut self, oneof: &OneofDescriptor, writer: &MessageDescriptor, path: &str) {
        let mut alone = Vec::new();
        let mut of_oneofs = Vec::new();
        for field in oneof.fields() {
            let Some(wrote) = writer.get_field(field.number()) else { continue };
            match wrote.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                None => alone.push(format!("`{}`", wrote.name())),
                Some(former) => of_oneofs.push(former.name().to_owned()),
            }
        }
        of_oneofs.sort_unstable();
        of_oneofs.dedup();
        let path = format!("{path}/{}", oneof.name());
        if alone.len() > 1 || of_oneofs.len() > 1 {
            let joined: Vec<String> = alone
                .into_iter()
                .chain(of_oneofs.iter().map(|former| format!("those of `{former}`")))
                .collect();
            self.add(
                "MULTIPLE_FIELDS_MOVED_TO_ONEOF",
                &path,
                format!(
                    "the fields {} could be set at once and are joined in the oneof `{}`, where only the last is read; \
                     leave all but one outside",
                    joined.join(", "),
                    oneof.name()
                ),
            );
        } else if let ([field], [former]) = (alone.as_slice(), of_oneofs.as_slice()) {
            self.add(
                "FIELD_MOVED_TO_EXISTING_ONEOF",
                &path,
                format!(
                    "field {field} could be set beside those of the oneof `{former}` and has joined them in `{}`, where \
                     only the last is read; leave it outside",
                    oneof.name()
                ),
            );
        }
    }
}

/// A full name without its package.
fn local_name(message: &MessageDescriptor) -> &str {
    let full = message.full_name();
    full.strip_prefix(message.package_name()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(full)
}

/// A field's type, as far as it is compared.
enum Type {
    Scalar(Group, String),
    Message(MessageDescriptor),
    Group(MessageDescriptor),
    Map(Box<Type>, Box<Type>),
}

/// Scalars that are encoded alike, as Protobuf's rules for updates have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    GeneralNumber,
    SignedNumber,
    StringOrBytes,
    Fixed32,
    Fixed64,
    Float,
    Double,
}

impl Type {
    fn of_field(field: &FieldDescriptor) -> Self {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => Self::Map(
                Box::new(Self::of(&entry.map_entry_key_field().kind(), false)),
                Box::new(Self::of(&entry.map_entry_value_field().kind(), false)),
            ),
            kind => Self::of(&kind, field.is_group()),
        }
    }

    fn of(kind: &Kind, is_group: bool) -> Self {
        let group = match kind {
            Kind::Message(message) if is_group => return Self::Group(message.clone()),
            Kind::Message(message) => return Self::Message(message.clone()),
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Bool | Kind::Enum(_) => {
                Group::GeneralNumber
            }
            Kind::Sint32 | Kind::Sint64 => Group::SignedNumber,
            Kind::String | Kind::Bytes => Group::StringOrBytes,
            Kind::Fixed32 | Kind::Sfixed32 => Group::Fixed32,
            Kind::Fixed64 | Kind::Sfixed64 => Group::Fixed64,
            Kind::Float => Group::Float,
            Kind::Double => Group::Double,
        };
        let shown = match kind {
            Kind::Enum(enumeration) => format!("enum `{}`", enumeration.full_name()),
            scalar => format!("{scalar:?}"),
        };
        Self::Scalar(group, shown)
    }

    fn describe(&self) -> String {
        match self {
            Self::Scalar(_, name) => name.clone(),
            Self::Message(message) => format!("message `{}`", message.full_name()),
            Self::Group(message) => format!("group `{}`", message.name()),
            Self::Map(key, value) => format!("map<{}, {}>", key.describe(), value.describe()),
        }
    }
}

/// Numbers and names that `new` uses and `old` has reserved.
pub(in crate::schemas) fn reused_reservations(
    new: &ProtobufSchema,
    old: &ProtobufSchema,
) -> Vec<Incompatibility> {
    let mut found = Vec::new();
    let groups = group_types(old.file.extension.iter());
    messages_reuse(&new.file.message_type, &old.file.message_type, "#", &groups, &mut found);
    enums_reuse(&new.file.enum_type, &old.file.enum_type, "#", &mut found);
    found.truncate(limits::INCOMPATIBILITIES_MAX);
    found
}

fn messages_reuse(
    new: &[DescriptorProto],
    old: &[DescriptorProto],
    path: &str,
    groups: &HashSet<&str>,
    found: &mut Vec<Incompatibility>,
) {
    let by_name: HashMap<&str, &DescriptorProto> =
        new.iter().map(|message| (message.name(), message)).collect();
    for old in old.iter().filter(|old| !is_map_entry(old) && !groups.contains(old.name())) {
        let Some(new) = by_name.get(old.name()) else { continue };
        let path = format!("{path}/{}", old.name());
        let reserved = Ranges::of_message(old);
        let names: HashSet<&str> = old.reserved_name.iter().map(String::as_str).collect();
        for field in &new.field {
            reuse(field.number(), field.name(), "field", &reserved, &names, &path, found);
        }
        let groups = group_types(old.field.iter());
        messages_reuse(&new.nested_type, &old.nested_type, &path, &groups, found);
        enums_reuse(&new.enum_type, &old.enum_type, &path, found);
    }
}

fn enums_reuse(
    new: &[EnumDescriptorProto],
    old: &[EnumDescriptorProto],
    path: &str,
    found: &mut Vec<Incompatibility>,
) {
    let by_name: HashMap<&str, &EnumDescriptorProto> =
        new.iter().map(|enumeration| (enumeration.name(), enumeration)).collect();
    for old in old {
        let Some(new) = by_name.get(old.name()) else { continue };
        let path = format!("{path}/{}", old.name());
        let reserved = Ranges::of_enum(old);
        let names: HashSet<&str> = old.reserved_name.iter().map(String::as_str).collect();
        for value in &new.value {
            reuse(value.number(), value.name(), "enum value", &reserved, &names, &path, found);
        }
    }
}

fn reuse(
    number: i32,
    name: &str,
    what: &str,
    reserved: &Ranges,
    names: &HashSet<&str>,
    path: &str,
    found: &mut Vec<Incompatibility>,
) {
    let path = format!("{path}/{number}");
    if reserved.contains(number) {
        found.push(Incompatibility {
            kind: "RESERVED_NUMBER_REUSED",
            path: path.clone(),
            message: format!(
                "{what} `{name}` uses the number {number}, which the former schema reserves, as older values may have \
                 it with another meaning; use a number that was never used"
            ),
        });
    }
    if names.contains(name) {
        found.push(Incompatibility {
            kind: "RESERVED_NAME_REUSED",
            path,
            message: format!(
                "{what} `{name}` uses a name that the former schema reserves, as older values in JSON may have it with \
                 another meaning; use another name"
            ),
        });
    }
}
