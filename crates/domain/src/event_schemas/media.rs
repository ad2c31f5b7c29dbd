//! What a content type says of a value.

use crate::schemas::SchemaType;

/// What a value is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing is said.
    Nothing,
    /// JSON.
    Json,
    /// Bytes of a schema format, without a frame.
    Bytes(SchemaType),
    /// A value in Confluent's frame, of a schema format.
    Framed(SchemaType),
    /// Something that follows no schema.
    Other,
}

const BYTES: [(&str, SchemaType); 8] = [
    ("application/protobuf", SchemaType::Protobuf),
    ("application/x-protobuf", SchemaType::Protobuf),
    ("application/vnd.google.protobuf", SchemaType::Protobuf),
    ("application/avro", SchemaType::Avro),
    ("application/x-avro", SchemaType::Avro),
    ("application/vnd.apache.avro", SchemaType::Avro),
    ("avro/binary", SchemaType::Avro),
    ("application/avro-binary", SchemaType::Avro),
];

const FRAMED: [SchemaType; 3] = SchemaType::ALL;
const FRAMED_PREFIX: &str = "application/vnd.confluent.";

/// The content type of a framed value.
pub(super) fn framed(of: SchemaType) -> &'static str {
    match of {
        SchemaType::Protobuf => "application/vnd.confluent.protobuf",
        SchemaType::Avro => "application/vnd.confluent.avro",
        SchemaType::Json => "application/vnd.confluent.json",
    }
}

/// What a content type says.
pub(super) fn said(content_type: Option<&str>) -> Said {
    let Some(text) = content_type else { return Said::Nothing };
    if let Some(of) = says_framed(text) {
        return Said::Framed(of);
    }
    let essence = essence(text);
    if let Some((_, of)) = BYTES.iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)) {
        return Said::Bytes(*of);
    }
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    let json = subtype.eq_ignore_ascii_case("json")
        || subtype.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"));
    if json { Said::Json } else { Said::Other }
}

/// The format of a content type that is one of framed values.
pub(crate) fn says_framed(content_type: &str) -> Option<SchemaType> {
    let start = content_type.trim_start().get(..FRAMED_PREFIX.len())?;
    if !start.eq_ignore_ascii_case(FRAMED_PREFIX) {
        return None;
    }
    let essence = essence(content_type);
    FRAMED.into_iter().find(|of| essence.eq_ignore_ascii_case(framed(*of)))
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_says_what_a_value_is() {
        for (text, expected) in [
            ("application/json", Said::Json),
            ("Application/Problem+JSON; charset=utf-8", Said::Json),
            ("application/x-protobuf", Said::Bytes(SchemaType::Protobuf)),
            ("application/protobuf; messageType=\"a.B\"", Said::Bytes(SchemaType::Protobuf)),
            ("avro/binary", Said::Bytes(SchemaType::Avro)),
            ("application/vnd.confluent.protobuf", Said::Framed(SchemaType::Protobuf)),
            (" Application/Vnd.Confluent.Avro ; v=1", Said::Framed(SchemaType::Avro)),
            ("application/vnd.confluent.json", Said::Framed(SchemaType::Json)),
            ("application/vnd.confluent.thrift", Said::Other),
            ("text/plain", Said::Other),
            ("", Said::Other),
            ("€€€€€€€€€€€€€€", Said::Other),
        ] {
            assert_eq!(said(Some(text)), expected, "{text}");
        }
        assert_eq!(said(None), Said::Nothing);
    }

    #[test]
    fn what_is_written_as_framed_is_read_as_framed() {
        for of in SchemaType::ALL {
            assert_eq!(says_framed(framed(of)), Some(of));
        }
    }
}
