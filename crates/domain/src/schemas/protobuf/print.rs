//! A file's text again, from what the parser made of it: in one layout, without comments.
//!
//! As it is, order is kept among things of one kind; kinds come in a fixed order. Normalized, imports, options,
//! fields, values and reservations are sorted too, and types have their full names: what two authors may write
//! differently without meaning anything by it. Messages keep their order in both, as a message's index in a
//! frame is its place in the file; so does the first value of an enumeration, which is its default.
//!
//! Reading a printed text and printing it again gives the same text.

use super::ranges::Ranges;
use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, OneofDescriptorProto,
    ServiceDescriptorProto, UninterpretedOption,
    field_descriptor_proto::{Label, Type},
};
use std::{collections::HashSet, fmt::Write as _};

const MESSAGE_NUMBER_MAX: i32 = 536_870_911;

/// The text of a file. With a pool, in which it is resolved, the normalized one.
pub(super) fn print(file: &FileDescriptorProto, normalize_by: Option<&DescriptorPool>) -> String {
    let mut printer = Printer {
        out: String::new(),
        indent: 0,
        pool: normalize_by,
        proto3: file.syntax() == "proto3",
        scope: file.package().to_owned(),
    };
    printer.file(file);
    printer.out
}

struct Printer<'a> {
    out: String,
    indent: usize,
    /// Where types are looked up if the text is to be normalized.
    pool: Option<&'a DescriptorPool>,
    proto3: bool,
    /// The full name of the message, or the package, that is being printed.
    scope: String,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        for _ in 0..self.indent {
            self.out.push_str("  ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn block(&mut self, head: &str, body: impl FnOnce(&mut Self)) {
        self.line(&format!("{head} {{"));
        self.indent += 1;
        body(self);
        self.indent -= 1;
        self.line("}");
    }

    fn sorts(&self) -> bool {
        self.pool.is_some()
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        self.line(if self.proto3 { "syntax = \"proto3\";" } else { "syntax = \"proto2\";" });
        if !file.package().is_empty() {
            self.line(&format!("package {};", file.package()));
        }
        let mut imports: Vec<(&str, &str)> = file
            .dependency
            .iter()
            .zip(0_i32..)
            .map(|(path, index)| {
                let public = file.public_dependency.contains(&index);
                let weak = file.weak_dependency.contains(&index);
                (
                    path.as_str(),
                    if public {
                        "public "
                    } else if weak {
                        "weak "
                    } else {
                        ""
                    },
                )
            })
            .collect();
        if self.sorts() {
            imports.sort_unstable();
        }
        for (path, kind) in imports {
            self.line(&format!("import {kind}{};", quoted(path.as_bytes())));
        }
        self.statements(file.options.as_ref().map(|options| options.uninterpreted_option.as_slice()));
        let groups = group_types(file.extension.iter());
        for message in &file.message_type {
            if !groups.contains(message.name()) {
                self.message("message", message);
            }
        }
        for enumeration in &file.enum_type {
            self.enumeration(enumeration);
        }
        self.extensions(&file.extension, &file.message_type);
        for service in &file.service {
            self.service(service);
        }
    }

    fn message(&mut self, head: &str, message: &DescriptorProto) {
        let outer = self.scope.len();
        if outer > 0 {
            self.scope.push('.');
        }
        self.scope.push_str(message.name());
        self.block(&format!("{head} {}", message.name()), |printer| printer.message_body(message));
        self.scope.truncate(outer);
    }

    fn message_body(&mut self, message: &DescriptorProto) {
        self.statements(message.options.as_ref().map(|options| options.uninterpreted_option.as_slice()));
        self.reserved(
            Ranges::of_message(message).iter(),
            message.reserved_range.iter().map(|range| (range.start(), range.end() - 1)),
            MESSAGE_NUMBER_MAX,
            &message.reserved_name,
        );
        for range in &message.extension_range {
            let options = range.options.as_ref().map(|options| options.uninterpreted_option.as_slice());
            let range = show_range(range.start(), range.end() - 1, MESSAGE_NUMBER_MAX);
            self.line(&format!("extensions {range}{};", self.inline(options, Vec::new())));
        }
        self.fields(message);
        let groups = group_types(message.field.iter().chain(&message.extension));
        for nested in &message.nested_type {
            if !is_map_entry(nested) && !groups.contains(nested.name()) {
                self.message("message", nested);
            }
        }
        for enumeration in &message.enum_type {
            self.enumeration(enumeration);
        }
        self.extensions(&message.extension, &message.nested_type);
    }

    fn fields(&mut self, message: &DescriptorProto) {
        let descriptor = self.pool.and_then(|pool| pool.get_message_by_name(&self.scope));
        let resolved = |field: &FieldDescriptorProto| {
            descriptor.as_ref().and_then(|message| message.get_field(field.number() as u32))
        };
        let mut fields: Vec<&FieldDescriptorProto> = message.field.iter().collect();
        if self.sorts() {
            fields.sort_by_key(|field| field.number());
        }
        // The members of each oneof in order, so that all of them are printed where the first one stands.
        let mut members: Vec<Vec<&FieldDescriptorProto>> = vec![Vec::new(); message.oneof_decl.len()];
        for field in &fields {
            if let Some(index) = real_oneof(field)
                && let Some(members) = members.get_mut(index)
            {
                members.push(field);
            }
        }
        for field in fields {
            match real_oneof(field) {
                None => self.field(field, Where::Message, &message.nested_type, resolved(field).as_ref()),
                Some(index) => {
                    let members = members.get_mut(index).map(std::mem::take).unwrap_or_default();
                    let (false, Some(oneof)) = (members.is_empty(), message.oneof_decl.get(index)) else {
                        continue;
                    };
                    self.oneof(oneof, &members, &message.nested_type, &resolved);
                }
            }
        }
    }

    fn oneof(
        &mut self,
        oneof: &OneofDescriptorProto,
        members: &[&FieldDescriptorProto],
        nested: &[DescriptorProto],
        resolved: &impl Fn(&FieldDescriptorProto) -> Option<FieldDescriptor>,
    ) {
        self.block(&format!("oneof {}", oneof.name()), |printer| {
            let options = oneof.options.as_ref();
            printer.statements(options.map(|options| options.uninterpreted_option.as_slice()));
            for field in members {
                printer.field(field, Where::Oneof, nested, resolved(field).as_ref());
            }
        });
    }

    fn field(
        &mut self,
        field: &FieldDescriptorProto,
        place: Where,
        nested: &[DescriptorProto],
        resolved: Option<&FieldDescriptor>,
    ) {
        let entry = (field.r#type == Some(Type::Message as i32))
            .then(|| {
                nested.iter().find(|message| message.name() == field.type_name() && is_map_entry(message))
            })
            .flatten();
        if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
            let value_kind = resolved
                .map(FieldDescriptor::kind)
                .and_then(|kind| kind.as_message().map(|entry| entry.map_entry_value_field().kind()));
            let types = format!("map<{}, {}>", type_name(key, None), type_name(value, value_kind.as_ref()));
            return self.declaration("", &types, field.name(), field);
        }
        let label = self.label(field, place);
        if field.r#type() == Type::Group && field.r#type.is_some() {
            return self.group(label, field, nested);
        }
        let kind = resolved.map(FieldDescriptor::kind);
        self.declaration(label, &type_name(field, kind.as_ref()), field.name(), field);
    }

    fn group(&mut self, label: &str, field: &FieldDescriptorProto, nested: &[DescriptorProto]) {
        let Some(body) = nested.iter().find(|message| message.name() == field.type_name()) else { return };
        let options = self.field_options(field);
        let outer = self.scope.len();
        if outer > 0 {
            self.scope.push('.');
        }
        self.scope.push_str(body.name());
        let head = format!("{label}group {} = {}{options}", body.name(), field.number());
        self.block(&head, |printer| printer.message_body(body));
        self.scope.truncate(outer);
    }

    fn declaration(&mut self, label: &str, types: &str, name: &str, field: &FieldDescriptorProto) {
        let options = self.field_options(field);
        self.line(&format!("{label}{types} {name} = {}{options};", field.number()));
    }

    fn label(&self, field: &FieldDescriptorProto, place: Where) -> &'static str {
        match (field.label(), place) {
            (_, Where::Oneof) => "",
            (Label::Repeated, _) => "repeated ",
            (Label::Required, _) => "required ",
            (Label::Optional, _) if self.proto3 && !field.proto3_optional() => "",
            (Label::Optional, _) => "optional ",
        }
    }

    fn field_options(&self, field: &FieldDescriptorProto) -> String {
        let mut first = Vec::new();
        if let Some(value) = &field.default_value {
            let value = match field.r#type.map(|_| field.r#type()) {
                Some(Type::String) => quoted(value.as_bytes()),
                // The parser keeps bytes as they are escaped in a text.
                Some(Type::Bytes) => format!("\"{value}\""),
                _ => value.clone(),
            };
            first.push(format!("default = {value}"));
        }
        if let Some(name) = &field.json_name {
            first.push(format!("json_name = {}", quoted(name.as_bytes())));
        }
        self.inline(field.options.as_ref().map(|options| options.uninterpreted_option.as_slice()), first)
    }

    fn extensions(&mut self, extensions: &[FieldDescriptorProto], nested: &[DescriptorProto]) {
        for extension in extensions {
            let resolved = self.pool.and_then(|pool| {
                let dot = if self.scope.is_empty() { "" } else { "." };
                pool.get_extension_by_name(&format!("{}{dot}{}", self.scope, extension.name()))
            });
            let extendee = resolved.as_ref().map_or_else(
                || extension.extendee().to_owned(),
                |extension| format!(".{}", extension.containing_message().full_name()),
            );
            self.block(&format!("extend {extendee}"), |printer| {
                let label = printer.label(extension, Where::Extend);
                if extension.r#type.is_some() && extension.r#type() == Type::Group {
                    return printer.group(label, extension, nested);
                }
                let kind = resolved.as_ref().map(ExtensionDescriptor::kind);
                let types = type_name(extension, kind.as_ref());
                printer.declaration(label, &types, extension.name(), extension);
            });
        }
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptorProto) {
        self.block(&format!("enum {}", enumeration.name()), |printer| {
            let options = enumeration.options.as_ref();
            printer.statements(options.map(|options| options.uninterpreted_option.as_slice()));
            printer.reserved(
                Ranges::of_enum(enumeration).iter(),
                enumeration.reserved_range.iter().map(|range| (range.start(), range.end())),
                i32::MAX,
                &enumeration.reserved_name,
            );
            let mut values: Vec<_> = enumeration.value.iter().collect();
            if printer.sorts() && values.len() > 1 {
                values[1..].sort_by_key(|value| (value.number(), value.name()));
            }
            for value in values {
                let options = value.options.as_ref();
                let options = options.map(|options| options.uninterpreted_option.as_slice());
                let options = printer.inline(options, Vec::new());
                printer.line(&format!("{} = {}{options};", value.name(), value.number()));
            }
        });
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        let dot = if self.scope.is_empty() { "" } else { "." };
        let name = format!("{}{dot}{}", self.scope, service.name());
        let resolved = self.pool.and_then(|pool| pool.get_service_by_name(&name));
        self.block(&format!("service {}", service.name()), |printer| {
            let options = service.options.as_ref();
            printer.statements(options.map(|options| options.uninterpreted_option.as_slice()));
            for (index, method) in service.method.iter().enumerate() {
                let (input, output) = match resolved.as_ref().and_then(|service| service.methods().nth(index))
                {
                    Some(method) => (
                        format!(".{}", method.input().full_name()),
                        format!(".{}", method.output().full_name()),
                    ),
                    None => (method.input_type().to_owned(), method.output_type().to_owned()),
                };
                let head = format!(
                    "rpc {} ({}{input}) returns ({}{output})",
                    method.name(),
                    if method.client_streaming() { "stream " } else { "" },
                    if method.server_streaming() { "stream " } else { "" },
                );
                match &method.options {
                    None => printer.line(&format!("{head};")),
                    Some(options) => printer.block(&head, |printer| {
                        printer.statements(Some(&options.uninterpreted_option));
                    }),
                }
            }
        });
    }

    fn reserved(
        &mut self,
        merged: impl Iterator<Item = (i32, i32)>,
        written: impl Iterator<Item = (i32, i32)>,
        max: i32,
        names: &[String],
    ) {
        let show = |(start, end)| show_range(start, end, max);
        let ranges: Vec<String> =
            if self.sorts() { merged.map(show).collect() } else { written.map(show).collect() };
        if !ranges.is_empty() {
            self.line(&format!("reserved {};", ranges.join(", ")));
        }
        let mut names: Vec<String> = names.iter().map(|name| quoted(name.as_bytes())).collect();
        if self.sorts() {
            names.sort_unstable();
            names.dedup();
        }
        if !names.is_empty() {
            self.line(&format!("reserved {};", names.join(", ")));
        }
    }

    fn statements(&mut self, options: Option<&[UninterpretedOption]>) {
        for option in self.options(options) {
            self.line(&format!("option {option};"));
        }
    }

    fn inline(&self, options: Option<&[UninterpretedOption]>, mut first: Vec<String>) -> String {
        first.extend(self.options(options));
        if first.is_empty() { String::new() } else { format!(" [{}]", first.join(", ")) }
    }

    fn options(&self, options: Option<&[UninterpretedOption]>) -> Vec<String> {
        let mut shown: Vec<(String, String)> = options
            .unwrap_or_default()
            .iter()
            .map(|option| (option_name(option), option_value(option)))
            .collect();
        if self.sorts() {
            // A stable sort by name alone: the values of a repeated option have an order.
            shown.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        shown.into_iter().map(|(name, value)| format!("{name} = {value}")).collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Message,
    Oneof,
    Extend,
}

/// The oneof that a field was written in; one that is declared `optional` in proto3 has one that was not written.
pub(super) fn real_oneof(field: &FieldDescriptorProto) -> Option<usize> {
    if field.proto3_optional() {
        None
    } else {
        field.oneof_index.and_then(|index| usize::try_from(index).ok())
    }
}

/// Whether the parser made this message for a `map<…>`.
pub(super) fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry == Some(true))
}

/// The names of the messages that the parser made for groups.
pub(super) fn group_types<'a>(fields: impl Iterator<Item = &'a FieldDescriptorProto>) -> HashSet<&'a str> {
    fields
        .filter(|field| field.r#type == Some(Type::Group as i32))
        .map(FieldDescriptorProto::type_name)
        .collect()
}

fn type_name(field: &FieldDescriptorProto, kind: Option<&Kind>) -> String {
    match kind {
        Some(Kind::Message(message)) => return format!(".{}", message.full_name()),
        Some(Kind::Enum(enumeration)) => return format!(".{}", enumeration.full_name()),
        _ => {}
    }
    let Some(_) = field.r#type else { return field.type_name().to_owned() };
    match field.r#type() {
        Type::Double => "double",
        Type::Float => "float",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Fixed64 => "fixed64",
        Type::Fixed32 => "fixed32",
        Type::Bool => "bool",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Uint32 => "uint32",
        Type::Sfixed32 => "sfixed32",
        Type::Sfixed64 => "sfixed64",
        Type::Sint32 => "sint32",
        Type::Sint64 => "sint64",
        Type::Group | Type::Message | Type::Enum => field.type_name(),
    }
    .to_owned()
}

fn show_range(start: i32, end: i32, max: i32) -> String {
    if end >= max {
        format!("{start} to max")
    } else if start == end {
        start.to_string()
    } else {
        format!("{start} to {end}")
    }
}

fn option_name(option: &UninterpretedOption) -> String {
    let parts: Vec<String> = option
        .name
        .iter()
        .map(|part| if part.is_extension { format!("({})", part.name_part) } else { part.name_part.clone() })
        .collect();
    parts.join(".")
}

fn option_value(option: &UninterpretedOption) -> String {
    if let Some(identifier) = &option.identifier_value {
        identifier.clone()
    } else if let Some(value) = option.positive_int_value {
        value.to_string()
    } else if let Some(value) = option.negative_int_value {
        value.to_string()
    } else if let Some(value) = option.double_value {
        if value.is_finite() { format!("{value:?}") } else { value.to_string() }
    } else if let Some(value) = &option.string_value {
        quoted(value)
    } else if let Some(value) = &option.aggregate_value {
        if value.is_empty() { "{ }".to_owned() } else { format!("{{ {value} }}") }
    } else {
        String::new()
    }
}

/// A string literal; what is not text is escaped byte by byte.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control.is_ascii_control() => {
                    let _ = write!(out, "\\{:03o}", control as u32);
                }
                other => out.push(other),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\{byte:03o}");
        }
    }
    out.push('"');
    out
}
