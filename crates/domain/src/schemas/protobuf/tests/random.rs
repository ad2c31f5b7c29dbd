//! A verdict "compatible" is held against what a reader does read: random schemas, random changes, random values.

use super::*;
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use std::fmt::Write as _;

const TYPES: [&str; 20] = [
    "int32", "int64", "uint32", "uint64", "bool", "sint32", "sint64", "fixed32", "sfixed32", "fixed64",
    "sfixed64", "float", "double", "string", "bytes", "E", "M0", "M1", "M2", "M0.N",
];

#[derive(Clone, Debug)]
struct Field {
    number: u32,
    kind: &'static str,
    repeated: bool,
    optional: bool,
    /// Key of a map.
    key: Option<&'static str>,
    oneof: Option<u8>,
}

fn field(number: u32) -> impl Strategy<Value = Field> {
    let key = prop::option::weighted(0.1, prop::sample::select(vec!["int32", "string", "bool", "fixed64"]));
    (
        prop::sample::select(TYPES.to_vec()),
        any::<bool>(),
        any::<bool>(),
        key,
        prop::option::weighted(0.3, 0_u8..2),
    )
        .prop_map(move |(kind, repeated, optional, key, oneof)| Field {
            number,
            kind,
            repeated: repeated && optional,
            optional,
            key,
            oneof: oneof.filter(|_| key.is_none() && !(repeated && optional)),
        })
}

fn message() -> impl Strategy<Value = Vec<Field>> {
    prop::collection::btree_set(1_u32..9, 0..5)
        .prop_flat_map(|numbers| numbers.into_iter().map(|number| field(number).boxed()).collect::<Vec<_>>())
}

fn messages() -> impl Strategy<Value = Vec<Vec<Field>>> {
    prop::collection::vec(message(), 3)
}

/// A schema, and one that came of it: mostly the same, so that verdicts of both kinds are frequent.
fn pair() -> impl Strategy<Value = (Vec<Vec<Field>>, Vec<Vec<Field>>)> {
    (messages(), messages(), prop::collection::vec(0_u8..10, 24)).prop_map(|(one, other, dice)| {
        let mut dice = dice.into_iter().cycle();
        let mut mixed = one.clone();
        for (fields, others) in mixed.iter_mut().zip(other) {
            fields.retain(|_| dice.next() != Some(0));
            for field in others {
                let place = fields.iter().position(|own| own.number == field.number);
                match (place, dice.next()) {
                    (None, Some(0..5)) => fields.push(field),
                    (Some(at), Some(0)) => fields[at] = field,
                    (Some(at), Some(1..4)) => fields[at].kind = field.kind,
                    (Some(at), Some(4)) => {
                        fields[at].oneof =
                            field.oneof.filter(|_| fields[at].key.is_none() && !fields[at].repeated)
                    }
                    _ => {}
                }
            }
        }
        (one, mixed)
    })
}

fn text(messages: &[Vec<Field>]) -> String {
    let mut out = "syntax = \"proto3\"; package p; enum E { Z = 0; O = 1; T = 2; }".to_owned();
    for (index, fields) in messages.iter().enumerate() {
        let _ = write!(out, "message M{index} {{");
        if index == 0 {
            out.push_str("message N { string s = 1; int32 n = 2; }");
        }
        for oneof in 0..2 {
            let members: Vec<&Field> = fields.iter().filter(|field| field.oneof == Some(oneof)).collect();
            if !members.is_empty() {
                let _ = write!(out, "oneof o{oneof} {{");
                for field in members {
                    let _ = write!(out, "{} f{} = {};", field.kind, field.number, field.number);
                }
                out.push('}');
            }
        }
        for field in fields.iter().filter(|field| field.oneof.is_none()) {
            let Field { number, kind, .. } = field;
            let _ = match (field.key, field.repeated, field.optional) {
                (Some(key), _, _) => write!(out, "map<{key}, {kind}> f{number} = {number};"),
                (None, true, _) => write!(out, "repeated {kind} f{number} = {number};"),
                (None, false, true) => write!(out, "optional {kind} f{number} = {number};"),
                (None, false, false) => write!(out, "{kind} f{number} = {number};"),
            };
        }
        out.push('}');
    }
    out
}

/// A value of a message, of what a stream of small numbers says. Every number is small and all bytes are ASCII:
/// what fits all types of a group. Repeated fields have one element, which is read as a single one is.
fn fill(message: &mut DynamicMessage, dice: &mut impl Iterator<Item = u8>, depth: usize) {
    for field in message.descriptor().fields().collect::<Vec<_>>() {
        if dice.next().is_some_and(|roll| roll < 2) || (depth > 3 && field.kind().as_message().is_some()) {
            continue;
        }
        let value = if field.is_map() {
            let entry = field.kind();
            let entry = entry.as_message().unwrap();
            let key = match entry.map_entry_key_field().kind() {
                Kind::Int32 => MapKey::I32(1),
                Kind::String => MapKey::String("k".to_owned()),
                Kind::Bool => MapKey::Bool(true),
                _ => MapKey::U64(1),
            };
            let value = single(&entry.map_entry_value_field(), dice, depth);
            Value::Map([(key, value)].into_iter().collect())
        } else if field.is_list() {
            Value::List(vec![single(&field, dice, depth)])
        } else {
            single(&field, dice, depth)
        };
        message.set_field(&field, value);
    }
}

fn single(field: &FieldDescriptor, dice: &mut impl Iterator<Item = u8>, depth: usize) -> Value {
    let small = dice.next().unwrap_or_default() % 2;
    match field.kind() {
        Kind::Double => Value::F64(f64::from(small)),
        Kind::Float => Value::F32(f32::from(small)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(small.into()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(small.into()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(small.into()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(small.into()),
        Kind::Bool => Value::Bool(small == 1),
        Kind::String => Value::String("x".repeat(small.into())),
        Kind::Bytes => Value::Bytes("x".repeat(small.into()).into()),
        Kind::Enum(_) => Value::EnumNumber(small.into()),
        Kind::Message(message) => {
            let mut value = DynamicMessage::new(message);
            fill(&mut value, dice, depth + 1);
            Value::Message(value)
        }
    }
}

/// A value in a form that is the same for all types of a group.
fn plain(value: &Value, shared: &mut Shared<'_>) -> String {
    match value {
        Value::Bool(value) => u8::from(*value).to_string(),
        Value::I32(value) | Value::EnumNumber(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::String(value) => format!("{value:?}"),
        Value::Bytes(value) => format!("{:?}", String::from_utf8_lossy(value)),
        Value::Message(message) => shared.show(message),
        // One element reads as itself.
        Value::List(values) => values.iter().map(|value| plain(value, shared)).collect::<Vec<_>>().join(","),
        Value::Map(values) => {
            // Keys too are of types that read each other.
            let entries = values.iter().map(|(key, value)| {
                format!("{}: {}", plain(&Value::from(key.clone()), shared), plain(value, shared))
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
    }
}

/// Shows what both schemas have of a message.
struct Shared<'a> {
    reader: &'a ProtobufSchema,
    writer: &'a ProtobufSchema,
}

impl Shared<'_> {
    fn show(&mut self, message: &DynamicMessage) -> String {
        let name = message.descriptor().full_name().to_owned();
        let (reads, wrote) =
            (self.reader.message(Some(&name)).unwrap(), self.writer.message(Some(&name)).unwrap());
        let mut shown = String::new();
        for number in 1..9 {
            let (Some(reads), Some(wrote)) = (reads.get_field(number), wrote.get_field(number)) else {
                continue;
            };
            let own = message.descriptor().get_field(number).unwrap();
            let value = message.get_field(&own);
            // Zero and nothing are the same where one of the two does not tell them apart.
            let tells = |field: &FieldDescriptor| field.supports_presence();
            let is_empty = !message.has_field(&own);
            let is_zero = value.is_default(&own.kind())
                || matches!(&*value, Value::List(values) if values.iter().all(|value| value.is_default(&own.kind())));
            if is_empty || (is_zero && own.kind().as_message().is_none() && !(tells(&reads) && tells(&wrote)))
            {
                continue;
            }
            let _ = write!(shown, "{number}={};", plain(&value, self));
        }
        format!("({shown})")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_compatible_is_read_with_its_values((old, new) in pair(), dice in prop::collection::vec(0_u8..10, 1..40)) {
        let (writer, reader) = (schema(&text(&old)), schema(&text(&new)));
        if ParsedSchema::incompatibilities(&reader, &writer).is_empty() {
            let (reads, wrote) = (reader.as_protobuf().unwrap(), writer.as_protobuf().unwrap());
            let mut dice = dice.into_iter().cycle();
            for name in writer.message_names() {
                let mut value = DynamicMessage::new(wrote.message(Some(name)).unwrap().clone());
                fill(&mut value, &mut dice, 0);
                let bytes = value.encode_to_vec();
                let read = reads.decode(Some(name), &bytes);
                let read = read.map_err(|problem| TestCaseError::fail(problem.to_string()))?;
                let mut shared = Shared { reader: reads, writer: wrote };
                prop_assert_eq!(shared.show(&value), shared.show(&read), "{} of\n{}\n{}", name, text(&old), text(&new));
            }
        }
    }

    #[test]
    fn every_schema_reads_itself(messages in messages()) {
        let schema = schema(&text(&messages));
        prop_assert_eq!(ParsedSchema::incompatibilities(&schema, &schema), []);
        prop_assert_eq!(ParsedSchema::reused_reservations(&schema, &schema), []);
    }
}
