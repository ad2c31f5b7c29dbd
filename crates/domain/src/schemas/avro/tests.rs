use super::*;
use crate::schemas::{Incompatibility, ParsedSchema, SchemaType, limits, parse as parse_any};
use proptest::prelude::*;
use serde_json::json;

fn schema(text: &str) -> ParsedSchema {
    with(text, &[])
}

fn with(text: &str, references: &[(&str, &str)]) -> ParsedSchema {
    parse_any(SchemaType::Avro, text, &resolved(references))
        .unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}

fn resolved(references: &[(&str, &str)]) -> Vec<Resolved> {
    references
        .iter()
        .map(|(name, text)| Resolved { name: (*name).to_owned(), text: (*text).to_owned() })
        .collect()
}

fn problem(text: &str, references: &[(&str, &str)]) -> String {
    parse_any(SchemaType::Avro, text, &resolved(references)).map(|_| ()).expect_err(text).to_string()
}

fn changes(writer: &str, reader: &str) -> Vec<String> {
    let found = ParsedSchema::incompatibilities(&schema(reader), &schema(writer));
    found.iter().map(|Incompatibility { kind, path, .. }| format!("{kind} {path}")).collect()
}

/// A record `A` with these fields.
fn record(fields: &str) -> String {
    format!(r#"{{"type": "record", "name": "A", "fields": [{fields}]}}"#)
}

#[test]
fn one_schema_has_one_canonical_text() {
    let one = schema(
        r#"{"name": "A", "namespace": "n", "type": "record", "x": 1, "fields": [{"type": {"type": "string"}, "name": "a", "default": ""}]}"#,
    );
    let other = schema(
        "{\"type\":\"record\",\n \"name\":\"A\", \"namespace\":\"n\",\"fields\":[{\"name\":\"a\",\"default\":\"\",\"type\":\"string\"}],\"x\":1}",
    );
    assert_eq!(one.canonical(), other.canonical());
    assert_eq!(
        one.canonical(),
        r#"{"type":"record","name":"A","namespace":"n","fields":[{"name":"a","type":"string","default":""}],"x":1}"#
    );
    assert_eq!(one.record_name(), Some("n.A"));
    // A default is a part of what a schema means.
    let without = schema(
        r#"{"type":"record","name":"A","namespace":"n","fields":[{"name":"a","type":"string"}],"x":1}"#,
    );
    assert_ne!(one.canonical(), without.canonical());
}

#[test]
fn normalizing_writes_full_names() {
    let one = schema(
        r#"{"type":"record","name":"A","namespace":"n","aliases":["Old"],"fields":[{"name":"a","order":"ascending","type":["null",{"type":"enum","name":"E","symbols":["X"]}]},{"name":"b","type":"E"}]}"#,
    );
    let other = schema(
        r#"{"type":"record","name":"n.A","aliases":["n.Old"],"fields":[{"name":"a","type":["null",{"type":"enum","name":"n.E","symbols":["X"]}]},{"name":"b","type":"n.E"}]}"#,
    );
    assert_ne!(one.canonical(), other.canonical());
    assert_eq!(one.normalized(), other.normalized());
    assert_eq!(schema(one.normalized()).normalized(), one.normalized());
}

#[test]
fn references_are_resolved_by_name_in_any_order() {
    let main = r#"{"type":"record","name":"Order","namespace":"n","fields":[{"name":"c","type":"n.Customer"},{"name":"d","type":["null","Day"]}]}"#;
    let customer = r#"{"type":"record","name":"n.Customer","fields":[{"name":"born","type":"Day"}]}"#;
    let day = r#"{"type":"enum","name":"n.Day","symbols":["MON","TUE"]}"#;
    let schema = with(main, &[("n.Customer", customer), ("n.Day", day), ("n.Other", "\"string\"")]);
    assert_eq!(schema.imports(), ["n.Customer", "n.Day"]);
    let bytes = schema.encode_json(None, br#"{"c": {"born": "TUE"}, "d": "MON"}"#).unwrap();
    assert_eq!(bytes, &[2, 2, 0][..]);
    for (references, expected) in [
        (
            &[][..],
            "/fields/0/type: `n.Customer` is not defined; define it, or add a reference whose name is `n.Customer`",
        ),
        (&[("n.Customer", customer)], "reference `n.Customer`: /fields/0/type: `n.Day` is not defined"),
        (&[("n.Customer", customer), ("n.Day", day), ("x", day)], "reference `x`: `n.Day` is defined twice"),
        (&[("n.Day", "{")], "reference `n.Day`, line 1, column 1: the text is not JSON"),
    ] {
        let problem = problem(main, references);
        assert!(problem.contains(expected), "{problem}\n{expected}");
    }
}

#[test]
fn problems_name_the_place_and_what_would_be_right() {
    for (text, expected) in [
        ("", "the text is not JSON"),
        ("{\"type\": \n\"record\"", "line 2, column 8: the text is not JSON"),
        ("7", "a schema is the name of a type, an object with a `type`, or an array"),
        ("\"strin\"", "`strin` is not defined"),
        ("{}", "an object that is a schema has a `type`"),
        (r#"{"type": "array"}"#, "a type `array` has `items`"),
        (r#"{"type": "record", "fields": []}"#, "has a `name`"),
        (r#"{"type": "record", "name": "1", "fields": []}"#, "`1` is not a name"),
        (r#"{"type": "record", "name": "A"}"#, "a type `record` has `fields`"),
        (r#"{"type": "fixed", "name": "F", "size": -1}"#, "`size` is not a number of bytes"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A", "A"]}"#, "the symbol `A` twice"),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}"#,
            "the default `B` is not among",
        ),
        (r#"["int", ["string"]]"#, "/1: "),
        (r#"["int", "int"]"#, "the branch `int` twice"),
    ] {
        let problem = problem(text, &[]);
        assert!(problem.contains(expected) || text.starts_with(r#"["int", ["#), "{text}\n{problem}");
    }
    for (fields, expected) in [
        ("7", "/fields/0: a field is not an object"),
        (r#"{"name": "a"}"#, "/fields/0: field `a` has no `type`"),
        (r#"{"name": "a-b", "type": "int"}"#, "/fields/0: `a-b` is not a name"),
        (
            r#"{"name": "a", "type": "int"}, {"name": "a", "type": "int"}"#,
            "/fields/1: the record has a field `a` already",
        ),
        (
            r#"{"name": "a", "type": "int", "default": "x"}"#,
            "/fields/0/default: the default of field `a` is not one of its type: expected a whole number",
        ),
        (
            r#"{"name": "a", "type": "E"}, {"name": "b", "type": {"type": "enum", "name": "E", "symbols": []}}"#,
            "used before it is defined",
        ),
    ] {
        let problem = problem(&record(fields), &[]);
        assert!(problem.contains(expected), "{fields}\n{problem}");
    }
}

#[test]
fn what_schema_resolution_allows_is_compatible() {
    let field = |more: &str| record(&format!(r#"{{"name": "a", "type": "int"}}{more}"#));
    for (writer, reader) in [
        ("\"int\"", "\"long\"".to_owned()),
        ("\"int\"", "\"double\"".to_owned()),
        ("\"long\"", "\"float\"".to_owned()),
        ("\"string\"", "\"bytes\"".to_owned()),
        ("\"int\"", r#"["null", "int"]"#.to_owned()),
        (r#"["null", "int"]"#, r#"["string", "long", "null"]"#.to_owned()),
        (r#"["int"]"#, "\"long\"".to_owned()),
        (r#"{"type": "array", "items": "int"}"#, r#"{"type": "array", "items": "long"}"#.to_owned()),
        (&field(""), field(r#", {"name": "b", "type": "int", "default": 1}"#)),
        (&field(r#", {"name": "b", "type": "int"}"#), field("")),
        (&field(""), record(r#"{"name": "b", "type": "int", "aliases": ["a"]}"#)),
        (&field(""), r#"{"type": "record", "name": "n.A", "fields": []}"#.to_owned()),
        (&field(""), r#"{"type": "record", "name": "B", "aliases": ["A"], "fields": []}"#.to_owned()),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["X", "Y"]}"#,
            r#"{"type": "enum", "name": "E", "symbols": ["X"], "default": "X"}"#.to_owned(),
        ),
        ("{\"type\": \"int\", \"logicalType\": \"date\"}", "\"int\"".to_owned()),
    ] {
        assert_eq!(changes(writer, &reader), [] as [&str; 0], "{writer} -> {reader}");
    }
}

#[test]
fn what_schema_resolution_refuses_is_named_and_placed() {
    for (writer, reader, expected) in [
        ("\"long\"".to_owned(), "\"int\"".to_owned(), "TYPE_MISMATCH /"),
        (r#"["null", "int"]"#.to_owned(), r#"["null", "string"]"#.to_owned(), "MISSING_UNION_BRANCH /1"),
        (r#"["null", "int"]"#.to_owned(), "\"int\"".to_owned(), "TYPE_MISMATCH /0"),
        (
            r#"{"type": "fixed", "name": "F", "size": 2}"#.to_owned(),
            r#"{"type": "fixed", "name": "F", "size": 3}"#.to_owned(),
            "FIXED_SIZE_MISMATCH /size",
        ),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["X", "Y"]}"#.to_owned(),
            r#"{"type": "enum", "name": "E", "symbols": ["X"]}"#.to_owned(),
            "MISSING_ENUM_SYMBOLS /symbols",
        ),
        (
            record(""),
            record(r#"{"name": "a", "type": "int"}"#),
            "READER_FIELD_MISSING_DEFAULT_VALUE /fields/0",
        ),
        (record(""), r#"{"type": "record", "name": "B", "fields": []}"#.to_owned(), "NAME_MISMATCH /name"),
        (
            record(
                r#"{"name": "x", "type": "int"}, {"name": "a", "type": {"type": "map", "values": "int"}}"#,
            ),
            record(r#"{"name": "a", "type": {"type": "map", "values": "string"}}"#),
            "TYPE_MISMATCH /fields/0/type/values",
        ),
    ] {
        assert_eq!(changes(&writer, &reader), [expected], "{writer} -> {reader}");
    }
}

#[test]
fn recursive_types_are_compared_to_their_end() {
    let list = |of: &str| {
        format!(
            r#"{{"type": "record", "name": "L", "fields": [{{"name": "next", "type": ["null", "L"]}}, {{"name": "v", "type": "{of}"}}]}}"#
        )
    };
    assert_eq!(changes(&list("int"), &list("long")), [] as [&str; 0]);
    // The branch of the union is bad because what it holds is.
    let found = changes(&list("long"), &list("int"));
    assert_eq!(found, ["TYPE_MISMATCH /fields/1/type"]);
}

#[test]
fn long_chains_of_types_are_compared_without_a_stack() {
    let chain = |of: &str| {
        let mut types = vec![format!(
            r#"{{"type": "record", "name": "T0", "fields": [{{"name": "v", "type": "{of}"}}]}}"#
        )];
        for n in 1..900 {
            types.push(format!(
                r#"{{"type": "record", "name": "T{n}", "fields": [{{"name": "t", "type": "T{}"}}]}}"#,
                n - 1
            ));
        }
        types.reverse();
        let tops: String = types.iter().rev().cloned().collect::<Vec<_>>().join(",");
        format!("[{tops}]")
    };
    assert_eq!(changes(&chain("int"), &chain("long")), [] as [&str; 0]);
    assert!(!changes(&chain("long"), &chain("int")).is_empty());
}

#[test]
fn json_becomes_bytes_and_json_again() {
    for (text, json, bytes) in [
        ("\"null\"", json!(null), &[][..]),
        ("\"boolean\"", json!(true), &[1]),
        ("\"int\"", json!(-1), &[1]),
        ("\"long\"", json!(i64::MIN), &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ("\"float\"", json!(1.5), &[0, 0, 0xc0, 0x3f]),
        ("\"double\"", json!("NaN"), &[0, 0, 0, 0, 0, 0, 0xf8, 0x7f]),
        ("\"string\"", json!("foo"), &[6, b'f', b'o', b'o']),
        ("\"bytes\"", json!("\u{ff}\u{0}"), &[4, 0xff, 0]),
        (r#"{"type": "fixed", "name": "F", "size": 2}"#, json!("ab"), b"ab"),
        (r#"{"type": "enum", "name": "E", "symbols": ["X", "Y"]}"#, json!("Y"), &[2]),
        (r#"{"type": "array", "items": "int"}"#, json!([1, 2]), &[4, 2, 4, 0]),
        (r#"{"type": "map", "values": "int"}"#, json!({"k": 3}), &[2, 2, b'k', 6, 0]),
        (r#"["null", "string"]"#, json!({"string": "a"}), &[2, 2, b'a']),
        (r#"["null", "string"]"#, json!(null), &[0]),
    ] {
        let schema = schema(text);
        let encoded = schema.encode_json(None, json.to_string().as_bytes()).unwrap();
        assert_eq!(encoded, bytes, "{text}");
        let decoded: Value = serde_json::from_slice(&schema.decode_json(None, &encoded).unwrap()).unwrap();
        assert_eq!(decoded, json, "{text}");
    }
    // Taken more freely than Avro asks.
    assert_eq!(schema(r#"["null", "string"]"#).encode_json(None, b"\"a\"").unwrap(), &[2, 2, b'a'][..]);
    let defaulted =
        record(r#"{"name": "a", "type": ["null", "int"], "default": null}, {"name": "b", "type": "int"}"#);
    assert_eq!(schema(&defaulted).encode_json(None, br#"{"b": 1}"#).unwrap(), &[0, 2][..]);
    // The blocks of an array may be told by their bytes.
    let array = schema(r#"{"type": "array", "items": "int"}"#);
    assert_eq!(array.decode_json(None, &[1, 2, 2, 2, 4, 0]).unwrap(), &b"[1,2]"[..]);
}

#[test]
fn what_does_not_fit_is_named_by_its_path() {
    let schema = schema(
        r#"{"type": "record", "name": "A", "fields": [
            {"name": "id", "type": "string"},
            {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "I", "fields": [{"name": "n", "type": "int"}]}}},
            {"name": "u", "type": ["int", "string"], "default": 1}]}"#,
    );
    for (json, path, message) in [
        (json!({"items": []}), "id", "it is not given, and `A` has no default for it"),
        (json!({"id": 7, "items": []}), "id", "expected a string, found a number"),
        (
            json!({"id": "", "items": [{"n": 1}, {"n": 1.5}]}),
            "items[1].n",
            "expected a whole number of 32 bits",
        ),
        (json!({"id": "", "items": [], "more": 1}), "more", "`A` has no such field; leave it out"),
        (json!({"id": "", "items": [], "u": 7}), "u", "the branches are int, string"),
        (json!([]), "", "expected an object, found an array"),
    ] {
        let found = schema.encode_json(None, json.to_string().as_bytes()).expect_err(&json.to_string());
        assert_eq!(found.path, path, "{found}");
        assert!(found.message.contains(message), "{found}");
    }
    assert!(
        schema
            .encode_json(Some("A"), b"{}")
            .unwrap_err()
            .message
            .contains("only Protobuf schemas have messages")
    );
}

#[test]
fn bytes_that_blow_up_are_refused() {
    let nulls = schema(r#"{"type": "array", "items": "null"}"#);
    let mut many = vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    many.push(0);
    assert!(nulls.check(None, &many).unwrap_err().message.contains("more parts than its bytes"));
    let list =
        schema(r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#);
    assert!(list.check(None, &vec![2; 500_000]).unwrap_err().message.contains("nested too deep"));
    assert!(
        schema("\"bytes\"")
            .check(None, &[0xfe, 0xff, 0xff, 0xff, 0x0f])
            .unwrap_err()
            .message
            .contains("bytes are to come")
    );
    assert!(schema("\"int\"").check(None, &[2, 2]).unwrap_err().message.contains("1 bytes follow"));
    // A default that holds itself, once and twice over.
    let own =
        record(r#"{"name": "a", "type": "A", "default": {}}, {"name": "b", "type": "A", "default": {}}"#);
    assert!(problem(&own, &[]).contains("nested too deep"));
    let two = r#"{"type": "record", "name": "A", "fields": [{"name": "x", "type": [{"type": "record", "name": "B", "fields": [
        {"name": "a", "type": ["A", "B"], "default": {}}]}, "A"], "default": {}}]}"#;
    assert!(problem(two, &[]).contains("not one of its type"));
}

#[test]
fn texts_that_blow_up_are_refused() {
    assert!(problem(&"[".repeat(500_000), &[]).contains("recursion limit"));
    let deep = format!("{}\"int\"{}", r#"{"type": "array", "items": "#.repeat(110), "}".repeat(110));
    assert!(problem(&deep, &[]).contains("nested more than"));
    let branches: Vec<String> = (0..=limits::UNION_BRANCHES_MAX).map(|n| format!("\"T{n}\"")).collect();
    assert!(problem(&format!("[{}]", branches.join(",")), &[]).contains("1000 are the most"));
}

fn some_type() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        "null", "boolean", "int", "long", "float", "double", "bytes", "string", "A", "X",
    ]);
    leaf.prop_map(Value::from).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| json!({"type": "array", "items": of})),
            inner.clone().prop_map(|of| json!({"type": "map", "values": of})),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            (
                prop::sample::select(vec!["A", "B", "C"]),
                prop::collection::vec(
                    (prop::sample::select(vec!["a", "b", "c"]), inner, any::<bool>()),
                    0..3
                )
            )
                .prop_map(|(name, fields)| {
                    let fields = fields.into_iter().map(|(name, of, default)| {
                        if default {
                            json!({"name": name, "type": of, "default": null})
                        } else {
                            json!({"name": name, "type": of})
                        }
                    });
                    json!({"type": "record", "name": name, "fields": fields.collect::<Vec<_>>()})
                }),
            Just(json!({"type": "enum", "name": "X", "symbols": ["P", "Q"]})),
            Just(json!({"type": "fixed", "name": "Y", "size": 2})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_a_schema_or_a_problem(text in ".{0,100}") {
        let _ = parse_any(SchemaType::Avro, &text, &[]);
    }

    #[test]
    fn arbitrary_schemas_read_themselves_and_print_alike(of in some_type(), bytes: Vec<u8>) {
        if let Ok(schema) = parse_any(SchemaType::Avro, &of.to_string(), &[]) {
            prop_assert_eq!(ParsedSchema::incompatibilities(&schema, &schema), []);
            let again = parse_any(SchemaType::Avro, schema.canonical(), &[]).unwrap();
            prop_assert_eq!(schema.canonical(), again.canonical());
            let normal = parse_any(SchemaType::Avro, schema.normalized(), &[]).unwrap();
            prop_assert_eq!(schema.normalized(), normal.normalized());
            prop_assert_eq!(ParsedSchema::incompatibilities(&normal, &schema), []);
            if let Ok(json) = schema.decode_json(None, &bytes) {
                // What is not in one block, or is in a longer form, is not written so again; it reads the same.
                let bytes = schema.encode_json(None, &json).map_err(|problem| TestCaseError::fail(problem.to_string()))?;
                prop_assert_eq!(schema.decode_json(None, &bytes).unwrap(), json);
            }
        }
    }

    /// A value of the writer, in JSON, is one of a reader that has the same fields, or defaults for them.
    #[test]
    fn schemas_of_any_two_are_compared(one in some_type(), other in some_type()) {
        let both = (parse_any(SchemaType::Avro, &one.to_string(), &[]), parse_any(SchemaType::Avro, &other.to_string(), &[]));
        if let (Ok(one), Ok(other)) = both {
            let _ = ParsedSchema::incompatibilities(&one, &other);
        }
    }
}
