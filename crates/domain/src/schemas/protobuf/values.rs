//! Values: JSON to bytes and back, in Protobuf's own JSON form (proto3's mapping).

use super::ProtobufSchema;
use crate::schemas::{format::ValueProblem, limits};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, MessageDescriptor, ReflectMessage, SerializeOptions, Value,
};

impl ProtobufSchema {
    /// See [`crate::schemas::ParsedSchema::encode_json`].
    pub(in crate::schemas) fn encode_json(
        &self,
        message: Option<&str>,
        json: &[u8],
    ) -> Result<Bytes, ValueProblem> {
        Ok(self.of_json(message, json)?.encode_to_vec().into())
    }

    /// A value given as JSON, as a message that can be looked into.
    ///
    /// # Errors
    /// As [`crate::schemas::ParsedSchema::encode_json`].
    pub fn of_json(&self, message: Option<&str>, json: &[u8]) -> Result<DynamicMessage, ValueProblem> {
        let descriptor = self.known(message)?.clone();
        let mut track = serde_path_to_error::Track::new();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let value = DynamicMessage::deserialize_with_options(
            descriptor,
            serde_path_to_error::Deserializer::new(&mut reader, &mut track),
            &DeserializeOptions::new().deny_unknown_fields(true),
        );
        let value = value.map_err(|error| {
            let path = track.path().to_string();
            // The root of the value has no path.
            ValueProblem::new(if path == "." { String::new() } else { path }, error.to_string())
        })?;
        reader.end().map_err(|error| ValueProblem::new("", format!("after the value: {error}")))?;
        check_required(&value)?;
        Ok(value)
    }

    /// See [`crate::schemas::ParsedSchema::decode_json`]. Fields with their default values are left out, as
    /// Protobuf's JSON form has it; fields that the schema does not know are too.
    pub(in crate::schemas) fn decode_json(
        &self,
        message: Option<&str>,
        payload: &[u8],
    ) -> Result<Bytes, ValueProblem> {
        json_of(&self.decode(message, payload)?, payload.len())
    }

    /// See [`crate::schemas::ParsedSchema::check`]. Fields that the schema does not know are allowed: a newer
    /// writer may have them.
    pub(in crate::schemas) fn check(
        &self,
        message: Option<&str>,
        payload: &[u8],
    ) -> Result<(), ValueProblem> {
        self.checked(message, payload).map(drop)
    }

    /// A value as a message that can be looked into, with all that it must have.
    ///
    /// # Errors
    /// As [`Self::decode`], and a field is not there that proto2 requires.
    pub fn checked(&self, message: Option<&str>, payload: &[u8]) -> Result<DynamicMessage, ValueProblem> {
        let value = self.decode(message, payload)?;
        check_required(&value)?;
        Ok(value)
    }

    /// A value as a message that can be looked into.
    ///
    /// # Errors
    /// The message is not one of the schema, or the bytes are not a message of this type.
    pub fn decode(&self, message: Option<&str>, payload: &[u8]) -> Result<DynamicMessage, ValueProblem> {
        let descriptor = self.known(message)?;
        DynamicMessage::decode(descriptor.clone(), payload).map_err(|error| {
            ValueProblem::new("", format!("the bytes are not a {}: {error}", descriptor.full_name()))
        })
    }

    fn known(&self, message: Option<&str>) -> Result<&MessageDescriptor, ValueProblem> {
        self.message(message).ok_or_else(|| {
            let text = match message {
                None => "the schema defines no message".to_owned(),
                Some(name) => {
                    let known: Vec<&str> = self.message_names().iter().take(20).map(String::as_str).collect();
                    format!("the schema defines no message `{name}`; it has {}", known.join(", "))
                }
            };
            ValueProblem::new("", text)
        })
    }
}

/// A message as JSON; `payload_bytes` is about how long it is in bytes.
///
/// # Errors
/// It has no JSON form.
pub(crate) fn json_of(value: &DynamicMessage, payload_bytes: usize) -> Result<Bytes, ValueProblem> {
    let mut json = Vec::with_capacity(payload_bytes * 2);
    let mut writer = serde_json::Serializer::new(&mut json);
    value.serialize_with_options(&mut writer, &SerializeOptions::new()).map_err(|error| {
        ValueProblem::new("", format!("{} has no JSON form: {error}", value.descriptor().full_name()))
    })?;
    Ok(json.into())
}

/// Whether every field is there that proto2 requires, however deep.
fn check_required(message: &DynamicMessage) -> Result<(), ValueProblem> {
    let mut path = Vec::new();
    required_within(message, &mut path)
}

/// Its depth is that of the value, which the decoders bound.
fn required_within(message: &DynamicMessage, path: &mut Vec<String>) -> Result<(), ValueProblem> {
    let descriptor = message.descriptor();
    for field in descriptor.fields().filter(prost_reflect::FieldDescriptor::is_required) {
        if !message.has_field(&field) {
            path.push(format!(".{}", field.name()));
            return Err(ValueProblem::new(
                path.concat().trim_start_matches('.'),
                format!("it is required in {}, and is not there", descriptor.full_name()),
            ));
        }
    }
    if path.len() > limits::VALUE_DEPTH_MAX * 2 {
        return Err(ValueProblem::new("", "messages are nested too deep"));
    }
    for (field, value) in message.fields() {
        match value {
            Value::Message(nested) => {
                path.push(format!(".{}", field.name()));
                required_within(nested, path)?;
                path.pop();
            }
            Value::List(items) if field.kind().as_message().is_some() => {
                path.push(format!(".{}", field.name()));
                for (index, item) in items.iter().enumerate() {
                    let Value::Message(nested) = item else { continue };
                    path.push(format!("[{index}]"));
                    required_within(nested, path)?;
                    path.pop();
                }
                path.pop();
            }
            Value::Map(entries) => {
                path.push(format!(".{}", field.name()));
                for (key, entry) in entries {
                    let Value::Message(nested) = entry else { break };
                    path.push(format!("[{key:?}]"));
                    required_within(nested, path)?;
                    path.pop();
                }
                path.pop();
            }
            _ => {}
        }
    }
    Ok(())
}
