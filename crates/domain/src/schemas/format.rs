//! The three formats behind one type.

use super::{avro, json, limits, protobuf};
use bytes::Bytes;
use std::{fmt, sync::Arc};

/// A schema format, by the names of Confluent's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaType {
    /// Protocol Buffers, `proto2` and `proto3`.
    Protobuf,
    /// Apache Avro.
    Avro,
    /// JSON Schema.
    Json,
}

impl SchemaType {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Avro, Self::Json, Self::Protobuf];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protobuf => "PROTOBUF",
            Self::Avro => "AVRO",
            Self::Json => "JSON",
        }
    }

    /// The format of a name on the wire, whatever its case; `None` for one that is not known.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for SchemaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A schema that another refers to, with its text found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resolved {
    /// The name that the referring schema uses: the path of an `import`, the full name of an Avro type, or the
    /// address of a `$ref`.
    pub name: String,
    /// Its text, of the same format.
    pub text: String,
}

/// A place in a schema's text, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The place of a byte offset in a text. An offset beyond the end is the end.
    pub(super) fn of_offset(text: &str, offset: usize) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column }
    }
}

/// Why a text is not a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    /// What is wrong and what would be right, a sentence.
    pub message: String,
    /// Where, if one place is to blame.
    pub position: Option<Position>,
    /// The reference whose text is to blame, if it is not the schema itself.
    pub reference: Option<String>,
}

impl SchemaProblem {
    /// A problem of the schema as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), position: None, reference: None }
    }

    /// The same problem, at a place.
    #[must_use]
    pub fn at(mut self, position: Option<Position>) -> Self {
        self.position = position;
        self
    }

    /// The same problem, of a reference's text.
    #[must_use]
    pub fn of_reference(mut self, name: impl Into<String>) -> Self {
        self.reference = Some(name.into());
        self
    }
}

impl fmt::Display for SchemaProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reference, self.position) {
            (Some(name), Some(Position { line, column })) => {
                write!(f, "reference `{name}`, line {line}, column {column}: ")?;
            }
            (Some(name), None) => write!(f, "reference `{name}`: ")?,
            (None, Some(Position { line, column })) => write!(f, "line {line}, column {column}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for SchemaProblem {}

/// One thing that a reader cannot read, or would read wrongly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incompatibility {
    /// The kind, by Confluent's name where it has one, as `FIELD_SCALAR_KIND_CHANGED`.
    pub kind: &'static str,
    /// Where, from the root of the schema, as `#/Order/3` or `/fields/0/type`.
    pub path: String,
    /// What changed and what to do instead, a sentence.
    pub message: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.kind, self.path, self.message)
    }
}

/// Why a value does not fit a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueProblem {
    /// Where in the value, as `items[2].price`; empty for the value as a whole.
    pub path: String,
    /// What is wrong and what would be right, a sentence.
    pub message: String,
}

impl ValueProblem {
    /// A problem at a path, which is empty for the value as a whole.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for ValueProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ValueProblem {}

/// A schema that was read and found good. Immutable; a clone is one more reference to it.
#[derive(Clone, Debug)]
pub struct ParsedSchema(Arc<Format>);

#[derive(Debug)]
enum Format {
    Protobuf(Box<protobuf::ProtobufSchema>),
    Avro(avro::AvroSchema),
    Json(json::JsonSchema),
}

/// Reads a schema.
///
/// `references` are what it refers to, transitively and in any order, each under the name by which it is
/// imported. Those that nothing imports may be checked no further than their size.
///
/// # Errors
/// What is wrong with the text or a reference, where, and what would be right. The work is bounded by
/// [`limits`], whatever the text says.
pub fn parse(
    schema_type: SchemaType,
    text: &str,
    references: &[Resolved],
) -> Result<ParsedSchema, SchemaProblem> {
    check_sizes(text, references)?;
    let format = match schema_type {
        SchemaType::Protobuf => {
            Format::Protobuf(Box::new(protobuf::ProtobufSchema::parse(text, references)?))
        }
        SchemaType::Avro => Format::Avro(avro::AvroSchema::parse(text, references)?),
        SchemaType::Json => Format::Json(json::JsonSchema::parse(text, references)?),
    };
    Ok(ParsedSchema(Arc::new(format)))
}

fn check_sizes(text: &str, references: &[Resolved]) -> Result<(), SchemaProblem> {
    let too_large = |what: &str, bytes: usize, max: usize| {
        SchemaProblem::new(format!("{what} has {bytes} bytes, and {max} are the most; split it up"))
    };
    if text.len() > limits::TEXT_BYTES_MAX {
        return Err(too_large("the schema", text.len(), limits::TEXT_BYTES_MAX));
    }
    if references.len() > limits::REFERENCES_MAX {
        return Err(SchemaProblem::new(format!(
            "the schema refers to {} others, directly or through them, and {} are the most",
            references.len(),
            limits::REFERENCES_MAX
        )));
    }
    if let Some(large) = references.iter().find(|reference| reference.text.len() > limits::TEXT_BYTES_MAX) {
        return Err(too_large("the text", large.text.len(), limits::TEXT_BYTES_MAX).of_reference(&large.name));
    }
    let total = text.len() + references.iter().map(|reference| reference.text.len()).sum::<usize>();
    if total > limits::TOTAL_BYTES_MAX {
        return Err(too_large("the schema with its references", total, limits::TOTAL_BYTES_MAX));
    }
    Ok(())
}

impl ParsedSchema {
    /// The format.
    pub fn schema_type(&self) -> SchemaType {
        match &*self.0 {
            Format::Protobuf(_) => SchemaType::Protobuf,
            Format::Avro(_) => SchemaType::Avro,
            Format::Json(_) => SchemaType::Json,
        }
    }

    /// The text without what has no meaning (comments, white space), in the order of the original. Two texts
    /// with the same canonical text and the same references are one schema.
    pub fn canonical(&self) -> &str {
        match &*self.0 {
            Format::Protobuf(schema) => schema.canonical(),
            Format::Avro(schema) => schema.canonical(),
            Format::Json(schema) => schema.canonical(),
        }
    }

    /// The canonical text with everything in a fixed order whose order has no meaning: what Confluent's
    /// `normalize=true` stores and compares.
    pub fn normalized(&self) -> &str {
        match &*self.0 {
            Format::Protobuf(schema) => schema.normalized(),
            Format::Avro(schema) => schema.normalized(),
            Format::Json(schema) => schema.normalized(),
        }
    }

    /// The name that the subject name strategies `record` and `topic-record` use: the full name of the first
    /// message, of the Avro type, or a JSON Schema's `title`. `None` where there is none.
    pub fn record_name(&self) -> Option<&str> {
        match &*self.0 {
            Format::Protobuf(schema) => schema.message_names().first().map(String::as_str),
            Format::Avro(schema) => schema.record_name(),
            Format::Json(schema) => schema.title(),
        }
    }

    /// Full names of the messages that the schema itself defines, each before those nested in it; empty for
    /// formats without messages.
    pub fn message_names(&self) -> &[String] {
        match &*self.0 {
            Format::Protobuf(schema) => schema.message_names(),
            Format::Avro(_) | Format::Json(_) => &[],
        }
    }

    /// The names under which the schema's own text refers to others, in its order, without those that are built
    /// in.
    pub fn imports(&self) -> &[String] {
        match &*self.0 {
            Format::Protobuf(schema) => schema.imports(),
            Format::Avro(schema) => schema.imports(),
            Format::Json(schema) => schema.imports(),
        }
    }

    /// The rules of Protocol Buffers, if it is a schema of them: messages by name and by index.
    pub fn as_protobuf(&self) -> Option<&protobuf::ProtobufSchema> {
        match &*self.0 {
            Format::Protobuf(schema) => Some(schema),
            Format::Avro(_) | Format::Json(_) => None,
        }
    }

    /// What of the values that were written by `writer` cannot be read by `reader`, in one direction. Nothing
    /// means that it can. At most [`limits::INCOMPATIBILITIES_MAX`], in the order of the schema's text.
    pub fn incompatibilities(reader: &Self, writer: &Self) -> Vec<Incompatibility> {
        let mut found = match (&*reader.0, &*writer.0) {
            (Format::Protobuf(reader), Format::Protobuf(writer)) => {
                protobuf::incompatibilities(reader, writer)
            }
            (Format::Avro(reader), Format::Avro(writer)) => avro::incompatibilities(reader, writer),
            (Format::Json(reader), Format::Json(writer)) => json::incompatibilities(reader, writer),
            _ => vec![Incompatibility {
                kind: "SCHEMA_TYPE_CHANGED",
                path: "#/".to_owned(),
                message: format!(
                    "values of a {} schema cannot be read by a {} schema; register it under another subject",
                    writer.schema_type(),
                    reader.schema_type()
                ),
            }],
        };
        found.truncate(limits::INCOMPATIBILITIES_MAX);
        found
    }

    /// What the new schema uses that the old one reserved, so that it is never used again. Only Protobuf has
    /// reservations; the order of the two matters, which [`Self::incompatibilities`] does not know.
    pub fn reused_reservations(new: &Self, old: &Self) -> Vec<Incompatibility> {
        match (&*new.0, &*old.0) {
            (Format::Protobuf(new), Format::Protobuf(old)) => protobuf::reused_reservations(new, old),
            _ => Vec::new(),
        }
    }

    /// A value given as JSON, as bytes of this format, without a frame.
    ///
    /// `message` is the full name of a message of a Protobuf schema, `None` its first; other formats have none.
    /// Avro takes Avro's JSON encoding; JSON Schema gives the same JSON, checked.
    ///
    /// # Errors
    /// What does not fit, where, and what would.
    pub fn encode_json(&self, message: Option<&str>, json: &[u8]) -> Result<Bytes, ValueProblem> {
        match &*self.0 {
            Format::Protobuf(schema) => schema.encode_json(message, json),
            Format::Avro(schema) => no_messages(message).and_then(|()| schema.encode_json(json)),
            Format::Json(schema) => no_messages(message).and_then(|()| schema.encode_json(json)),
        }
    }

    /// A value of this format, without a frame, as JSON.
    ///
    /// # Errors
    /// Why the bytes are not a value of this schema. The same bytes give the same answer at any time.
    pub fn decode_json(&self, message: Option<&str>, payload: &[u8]) -> Result<Bytes, ValueProblem> {
        match &*self.0 {
            Format::Protobuf(schema) => schema.decode_json(message, payload),
            Format::Avro(schema) => no_messages(message).and_then(|()| schema.decode_json(payload)),
            Format::Json(schema) => no_messages(message).and_then(|()| schema.decode_json(payload)),
        }
    }

    /// Whether bytes, without a frame, are a value of this schema.
    ///
    /// # Errors
    /// Why they are not.
    pub fn check(&self, message: Option<&str>, payload: &[u8]) -> Result<(), ValueProblem> {
        match &*self.0 {
            Format::Protobuf(schema) => schema.check(message, payload),
            Format::Avro(schema) => no_messages(message).and_then(|()| schema.check(payload)),
            Format::Json(schema) => no_messages(message).and_then(|()| schema.check(payload)),
        }
    }
}

fn no_messages(message: Option<&str>) -> Result<(), ValueProblem> {
    message.map_or(Ok(()), |name| {
        Err(ValueProblem::new(
            "",
            format!("message `{name}` was asked for, and only Protobuf schemas have messages; leave it out"),
        ))
    })
}
