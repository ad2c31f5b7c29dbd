//! What is checked of a parsed file before its names are resolved: bounds, and reservations, whose check by the
//! resolver takes the product of fields and ranges.

use super::ranges::Ranges;
use crate::schemas::limits;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use std::collections::HashSet;

/// Each field and each extension is compared with every range.
const EXTENSION_RANGES_MAX: usize = 1_000;

/// The resolver keeps the values of one enumeration in an ordered list.
const ENUM_VALUES_MAX: usize = 20_000;

// Field numbers of the descriptors, of which paths to places in the text are made.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_PACKAGE: i32 = 2;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const ENUM_VALUE: i32 = 2;
const NUMBER: i32 = 3;
const NAME: i32 = 1;

/// What is wrong, and the path to its place in the text.
pub(super) struct Found {
    pub(super) message: String,
    pub(super) path: Vec<i32>,
}

pub(super) fn validate(file: &FileDescriptorProto) -> Result<(), Found> {
    let mut checks = Checks { path: Vec::new() };
    checks.name(file.package().len(), FILE_PACKAGE)?;
    let scope = file.package().len();
    for (index, message) in file.message_type.iter().enumerate() {
        checks.within(&[FILE_MESSAGE, index as i32], |checks| checks.message(message, scope))?;
    }
    for (index, enumeration) in file.enum_type.iter().enumerate() {
        checks.within(&[FILE_ENUM, index as i32], |checks| checks.enumeration(enumeration, scope))?;
    }
    Ok(())
}

/// A copy for the resolver: without what was checked here, and without the places in the text, which it would
/// search anew for every error.
pub(super) fn without_checked(file: &FileDescriptorProto) -> FileDescriptorProto {
    let mut copy = FileDescriptorProto { source_code_info: None, ..file.clone() };
    for message in &mut copy.message_type {
        clear_message(message);
    }
    for enumeration in &mut copy.enum_type {
        enumeration.reserved_range.clear();
    }
    copy
}

fn clear_message(message: &mut DescriptorProto) {
    message.reserved_range.clear();
    for enumeration in &mut message.enum_type {
        enumeration.reserved_range.clear();
    }
    for nested in &mut message.nested_type {
        clear_message(nested);
    }
}

/// An option that changes how a message is laid out in ways that values are not read by: an entry of a map is
/// declared by `map<…>` alone, and message sets are not read at all.
fn unsupported_option(message: &DescriptorProto) -> Option<&str> {
    let written = &message.options.as_ref()?.uninterpreted_option;
    written.iter().find_map(|option| match option.name.as_slice() {
        [part] if !part.is_extension => {
            let name = part.name_part.as_str();
            matches!(name, "map_entry" | "message_set_wire_format").then_some(name)
        }
        _ => None,
    })
}

struct Checks {
    path: Vec<i32>,
}

impl Checks {
    fn within(
        &mut self,
        steps: &[i32],
        check: impl FnOnce(&mut Self) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let length = self.path.len();
        self.path.extend_from_slice(steps);
        check(self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn found(&self, step: i32, message: String) -> Found {
        let mut path = self.path.clone();
        path.push(step);
        Found { message, path }
    }

    fn name(&self, bytes: usize, step: i32) -> Result<(), Found> {
        if bytes > limits::NAME_BYTES_MAX {
            return Err(self.found(
                step,
                format!(
                    "the full name has {bytes} bytes with its package and enclosing types, and {} are the most; \
                     shorten it",
                    limits::NAME_BYTES_MAX
                ),
            ));
        }
        Ok(())
    }

    fn message(&mut self, message: &DescriptorProto, scope: usize) -> Result<(), Found> {
        let scope = scope + 1 + message.name().len();
        self.name(scope, NAME)?;
        if message.extension_range.len() > EXTENSION_RANGES_MAX {
            return Err(self.found(
                NAME,
                format!(
                    "message `{}` has {} extension ranges, and {EXTENSION_RANGES_MAX} are the most; join them",
                    message.name(),
                    message.extension_range.len()
                ),
            ));
        }
        if let Some(option) = unsupported_option(message) {
            return Err(self.found(
                NAME,
                format!("message `{}` sets `{option}`, which is not supported; leave it out", message.name()),
            ));
        }
        let reserved = Ranges::of_message(message);
        let reserved_names: HashSet<&str> = message.reserved_name.iter().map(String::as_str).collect();
        for (index, field) in message.field.iter().enumerate() {
            self.within(&[MESSAGE_FIELD, index as i32], |checks| {
                checks.name(scope + 1 + field.name().len(), NAME)?;
                let (name, number) = (field.name(), field.number());
                if reserved.contains(number) {
                    return Err(checks.found(
                        NUMBER,
                        format!(
                            "field `{name}` has the number {number}, which is reserved; use another number"
                        ),
                    ));
                }
                if reserved_names.contains(name) {
                    return Err(checks
                        .found(NAME, format!("the name of field `{name}` is reserved; use another name")));
                }
                Ok(())
            })?;
        }
        for oneof in &message.oneof_decl {
            self.name(scope + 1 + oneof.name().len(), NAME)?;
        }
        for (index, enumeration) in message.enum_type.iter().enumerate() {
            self.within(&[MESSAGE_ENUM, index as i32], |checks| checks.enumeration(enumeration, scope))?;
        }
        for (index, nested) in message.nested_type.iter().enumerate() {
            self.within(&[MESSAGE_NESTED, index as i32], |checks| checks.message(nested, scope))?;
        }
        Ok(())
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptorProto, scope: usize) -> Result<(), Found> {
        self.name(scope + 1 + enumeration.name().len(), NAME)?;
        if enumeration.value.len() > ENUM_VALUES_MAX {
            return Err(self.found(
                NAME,
                format!(
                    "enum `{}` has {} values, and {ENUM_VALUES_MAX} are the most; use an int32",
                    enumeration.name(),
                    enumeration.value.len()
                ),
            ));
        }
        let reserved = Ranges::of_enum(enumeration);
        let reserved_names: HashSet<&str> = enumeration.reserved_name.iter().map(String::as_str).collect();
        for (index, value) in enumeration.value.iter().enumerate() {
            self.within(&[ENUM_VALUE, index as i32], |checks| {
                checks.name(scope + 1 + value.name().len(), NAME)?;
                let (name, number) = (value.name(), value.number());
                if reserved.contains(number) || reserved_names.contains(name) {
                    return Err(checks.found(
                        NAME,
                        format!(
                            "the enum value `{name} = {number}` is reserved; use another name and number"
                        ),
                    ));
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
