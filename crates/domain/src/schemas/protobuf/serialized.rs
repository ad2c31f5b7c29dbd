//! A schema as a serialized `FileDescriptorProto`, which some clients send and ask for instead of its text.

use super::{ProtobufSchema, print};
use crate::schemas::format::SchemaProblem;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, UninterpretedOption,
    field_descriptor_proto::Type, uninterpreted_option::NamePart,
};

/// Levels of messages within each other: as many as a text may have.
const DEPTH_MAX: usize = 32;

impl ProtobufSchema {
    /// The file as a serialized `FileDescriptorProto`, its types by their full names. Options that are extensions
    /// are not in it.
    pub fn serialized(&self) -> Vec<u8> {
        let mut file = self.resolved.file_descriptor_proto().clone();
        // What was left out for the resolver.
        file.dependency.clone_from(&self.file.dependency);
        file.public_dependency.clone_from(&self.file.public_dependency);
        file.weak_dependency.clone_from(&self.file.weak_dependency);
        file.message_type.iter_mut().zip(&self.file.message_type).for_each(|(to, from)| restore(to, from));
        restore_all(&mut file.enum_type, &self.file.enum_type);
        file.encode_to_vec()
    }
}

fn restore(to: &mut DescriptorProto, from: &DescriptorProto) {
    to.reserved_range.clone_from(&from.reserved_range);
    to.nested_type.iter_mut().zip(&from.nested_type).for_each(|(to, from)| restore(to, from));
    restore_all(&mut to.enum_type, &from.enum_type);
}

fn restore_all(to: &mut [EnumDescriptorProto], from: &[EnumDescriptorProto]) {
    to.iter_mut().zip(from).for_each(|(to, from)| to.reserved_range.clone_from(&from.reserved_range));
}

/// The text of a serialized `FileDescriptorProto`. Options that the language itself knows are kept; those that are
/// extensions are not, as the bytes do not say what they are.
///
/// # Errors
/// The bytes are none.
pub fn text_of_serialized(bytes: &[u8]) -> Result<String, SchemaProblem> {
    let wrong = |what: String| SchemaProblem::new(format!("the serialized file descriptor {what}"));
    let mut file =
        FileDescriptorProto::decode(bytes).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let knows = DescriptorPool::global();
    if depth(&file.message_type) > DEPTH_MAX {
        return Err(wrong(format!("has messages nested deeper than {DEPTH_MAX}")));
    }
    let writer = Writer { knows };
    if let Some(options) = &mut file.options {
        options.uninterpreted_option = writer.options("FileOptions", options);
    }
    file.message_type.iter_mut().for_each(|message| writer.message(message));
    file.enum_type.iter_mut().for_each(|enumeration| writer.enumeration(enumeration));
    file.extension.iter_mut().for_each(|field| writer.field(field));
    for service in &mut file.service {
        if let Some(options) = &mut service.options {
            options.uninterpreted_option = writer.options("ServiceOptions", options);
        }
        for method in &mut service.method {
            if let Some(options) = &mut method.options {
                options.uninterpreted_option = writer.options("MethodOptions", options);
            }
        }
    }
    Ok(print::print(&file, None))
}

/// Without recursion, as the bytes are a stranger's; the decoder has bounded them.
fn depth(messages: &[DescriptorProto]) -> usize {
    let mut deepest = 0;
    let mut open: Vec<(&DescriptorProto, usize)> = messages.iter().map(|message| (message, 1)).collect();
    while let Some((message, depth)) = open.pop() {
        deepest = deepest.max(depth);
        open.extend(message.nested_type.iter().map(|nested| (nested, depth + 1)));
    }
    deepest
}

/// Writes options out, as a parser finds them in a text: that is what is printed.
struct Writer {
    knows: DescriptorPool,
}

impl Writer {
    fn message(&self, message: &mut DescriptorProto) {
        if let Some(options) = &mut message.options {
            options.uninterpreted_option = self.options("MessageOptions", options);
        }
        for field in message.field.iter_mut().chain(&mut message.extension) {
            // What was declared by `map<…>` or as a group is named within its message, as in a text.
            let within = message.nested_type.iter().find(|nested| {
                let is_own = print::is_map_entry(nested) || field.r#type() == Type::Group;
                is_own && field.type_name().strip_suffix(nested.name()).is_some_and(|it| it.ends_with('.'))
            });
            if let Some(nested) = within {
                field.type_name = Some(nested.name().to_owned());
            }
            self.field(field);
        }
        message.enum_type.iter_mut().for_each(|enumeration| self.enumeration(enumeration));
        message.nested_type.iter_mut().for_each(|nested| self.message(nested));
        for oneof in &mut message.oneof_decl {
            if let Some(options) = &mut oneof.options {
                options.uninterpreted_option = self.options("OneofOptions", options);
            }
        }
    }

    fn field(&self, field: &mut FieldDescriptorProto) {
        // Compilers write it out; in a text it stands where it is another one.
        if field.json_name.as_deref() == Some(json_name(field.name()).as_str()) {
            field.json_name = None;
        }
        if let Some(options) = &mut field.options {
            options.uninterpreted_option = self.options("FieldOptions", options);
        }
    }

    fn enumeration(&self, enumeration: &mut EnumDescriptorProto) {
        if let Some(options) = &mut enumeration.options {
            options.uninterpreted_option = self.options("EnumOptions", options);
        }
        for value in &mut enumeration.value {
            if let Some(options) = &mut value.options {
                options.uninterpreted_option = self.options("EnumValueOptions", options);
            }
        }
    }

    fn options(&self, of: &str, options: &impl prost::Message) -> Vec<UninterpretedOption> {
        let descriptor = self.knows.get_message_by_name(&format!("google.protobuf.{of}"));
        let read = descriptor.and_then(|descriptor| {
            DynamicMessage::decode(descriptor, options.encode_to_vec().as_slice()).ok()
        });
        let Some(read) = read else { return Vec::new() };
        let mut written = Vec::new();
        for (field, value) in read.fields() {
            if matches!(field.name(), "uninterpreted_option" | "map_entry") {
                continue;
            }
            let name = vec![NamePart { name_part: field.name().to_owned(), is_extension: false }];
            let option = UninterpretedOption { name, ..UninterpretedOption::default() };
            let identifier = |name: &str| Some(name.to_owned());
            let option = match value {
                Value::Bool(value) => UninterpretedOption {
                    identifier_value: identifier(if *value { "true" } else { "false" }),
                    ..option
                },
                Value::String(value) => {
                    UninterpretedOption { string_value: Some(value.clone().into_bytes()), ..option }
                }
                Value::EnumNumber(number) => {
                    let kind = field.kind();
                    let found = kind.as_enum().and_then(|of| of.get_value(*number));
                    let Some(found) = found else { continue };
                    UninterpretedOption { identifier_value: identifier(found.name()), ..option }
                }
                // The language's own options have no other types but those of features, which editions have.
                _ => continue,
            };
            written.push(option);
        }
        written
    }
}

/// The name in JSON of a field that says none.
fn json_name(name: &str) -> String {
    let mut json = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        if character == '_' {
            upper = true;
        } else {
            json.push(if upper { character.to_ascii_uppercase() } else { character });
            upper = false;
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::{SchemaType, parse};

    const TEXT: &str = r#"
        syntax = "proto3";
        package shop;
        option java_package = "org.shop";
        option optimize_for = SPEED;
        message Order {
          option deprecated = true;
          repeated int32 counts = 1 [packed = false, json_name = "howMany"];
          map<string, Line> lines = 2;
          oneof of { string name = 3; int64 number = 4; }
          optional bool paid = 5;
          message Line { Kind kind = 1; }
          enum Kind { option allow_alias = true; NONE = 0; ZERO = 0; ONE = 1 [deprecated = true]; }
          reserved 9, 12 to 15;
          reserved "old";
        }
        service Shop { rpc Buy (Order) returns (stream Order) { option deprecated = true; } }
    "#;

    #[test]
    fn a_schema_is_the_same_by_its_text_and_by_its_descriptor() {
        let by_text = parse(SchemaType::Protobuf, TEXT, &[]).unwrap();
        let serialized = by_text.as_protobuf().unwrap().serialized();
        let text = text_of_serialized(&serialized).unwrap();
        let by_descriptor =
            parse(SchemaType::Protobuf, &text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(by_descriptor.normalized(), by_text.normalized());
    }

    #[test]
    fn what_is_no_descriptor_is_refused() {
        let error = text_of_serialized(b"\x0a\xff\xff").unwrap_err();
        assert!(error.message.contains("file descriptor"), "{error}");
    }
}
